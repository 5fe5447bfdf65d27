//! What systems do all the time and generated code does by itself: loads of segment registers whose descriptors mostly stay,
//! SYSENTER and SYSEXIT between flat segments, POPF, stores to pages that hold code, too. Every engine must see what changes now and then, however hot the code is.

use stele_tests::setup::{self, at, sel};
use stele_tests::{Bench, Ending, Engine};

/// Where the loop stands.
const START: u64 = 0x4000;
const ROUNDS: u32 = 300;
/// Flat writable data at level 3.
const OPEN: u16 = 0xC0F3;

/// 32-bit code at `START`; EAX is the selector of a data segment at 5000h, EBP that of flat data, EDX 0, ECX the rounds.
fn bench(engine: Engine, cpl: u32, code: &[u8]) -> Bench {
    let mut bench = Bench::new(engine);
    bench.clear();
    setup::protected(&mut bench, cpl);
    setup::set_descriptor(&bench, sel::FREE, setup::descriptor(0x5000, 0xF_FFFF, OPEN));
    bench.poke(0x5010, &1u32.to_le_bytes());
    bench.poke(0x6010, &0x100u32.to_le_bytes());
    bench.poke(START, code);
    let s = &mut bench.cpu_mut().state;
    s.pc = START;
    (s.gpr[0], s.gpr[1], s.gpr[2]) = (sel::FREE.into(), ROUNDS.into(), 0);
    s.gpr[5] = sel::DATA.into();
    bench.settle();
    bench
}

/// The place of the free descriptor, as the displacement of an insn.
fn descriptor(at: u64) -> [u8; 4] {
    ((at::GDT + u64::from(sel::FREE) + at) as u32).to_le_bytes()
}

/// `again: BODY; dec ecx; jnz again; hlt`.
fn counted(body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let back = 0_u8.wrapping_sub(body.len() as u8 + 3);
    [body, vec![0x49, 0x75, back, 0xF4]].concat()
}

#[test]
fn segments_are_what_their_descriptors_say() {
    // mov fs, ax; add ebx, fs:[10h]; xor [base of the descriptor], esi; mov fs, dx; mov ds, bp
    let code = counted(&[
        &[0x8E, 0xE0, 0x64, 0x03, 0x1D, 0x10, 0, 0, 0, 0x31, 0x35],
        &descriptor(0),
        &[0x8E, 0xE2, 0x8E, 0xDD],
    ]);
    for engine in Engine::ALL {
        for (change, sum) in [(0x3000 << 16, ROUNDS / 2 * 0x101), (0, ROUNDS)] {
            let mut bench = bench(engine, 0, &code);
            bench.cpu_mut().state.gpr[6] = change;
            assert_eq!(bench.run(), Ending::Halted);
            assert_eq!(setup::vector_reached(&bench), None);
            let s = &bench.cpu().state;
            assert_eq!(s.gpr[3], u64::from(sum), "{engine:?}");
            assert_eq!((s.seg[4].word(), s.seg[4].base), (0, 0), "{engine:?}");
        }
    }
}

#[test]
fn a_descriptor_that_is_no_more_faults() {
    // mov ds, bp; mov fs, ax; cmp ecx, 5; jne over; xor dword [upper half], 8000h; over: mov fs, dx
    let code = counted(&[
        &[0x8E, 0xDD, 0x8E, 0xE0, 0x83, 0xF9, 5, 0x75, 10, 0x81, 0x35],
        &descriptor(4),
        &[0, 0x80, 0, 0, 0x8E, 0xE2],
    ]);
    for engine in Engine::ALL {
        let mut bench = bench(engine, 0, &code);
        assert_eq!(bench.run(), Ending::Halted);
        assert_eq!(setup::vector_reached(&bench), Some(11), "{engine:?}");
        assert_eq!(bench.cpu().state.gpr[1], 4, "{engine:?}");
    }
}

#[test]
fn a_null_segment_is_not_to_be_used() {
    // mov fs, ax; mov fs, dx; cmp ecx, 5; jne over; add ebx, fs:[10h]; over:
    let body: &[u8] = &[0x8E, 0xE0, 0x8E, 0xE2, 0x83, 0xF9, 5, 0x75, 7, 0x64, 0x03, 0x1D];
    let code = counted(&[body, &[0x10, 0, 0, 0]]);
    for engine in Engine::ALL {
        let mut bench = bench(engine, 0, &code);
        assert_eq!(bench.run(), Ending::Halted);
        assert_eq!(setup::vector_reached(&bench), Some(13), "{engine:?}");
        assert_eq!(bench.cpu().state.gpr[1], 5, "{engine:?}");
    }
}

#[test]
fn another_descriptor_table_is_another() {
    // mov fs, ax; add ebx, fs:[10h]; xor [7002h], esi; lgdt [7000h]
    let body: &[u8] = &[0x8E, 0xE0, 0x64, 0x03, 0x1D, 0x10, 0, 0, 0, 0x31, 0x35, 2, 0x70, 0, 0];
    let code = counted(&[body, &[0x0F, 0x01, 0x15, 0, 0x70, 0, 0]]);
    const OTHER: u64 = 0x8000;
    for engine in Engine::ALL {
        let mut bench = bench(engine, 0, &code);
        let table = bench.peek(at::GDT, 0x80);
        bench.poke(OTHER, &table);
        let moved = setup::descriptor(0x6000, 0xF_FFFF, OPEN).to_le_bytes();
        bench.poke(OTHER + u64::from(sel::FREE), &moved);
        bench.poke(0x7000, &[0x7F, 0]);
        bench.poke(0x7002, &(at::GDT as u32).to_le_bytes());
        bench.cpu_mut().state.gpr[6] = at::GDT ^ OTHER;
        assert_eq!(bench.run(), Ending::Halted);
        assert_eq!(setup::vector_reached(&bench), None);
        assert_eq!(bench.cpu().state.gpr[3], u64::from(ROUNDS / 2 * 0x101), "{engine:?}");
    }
}

#[test]
fn sysenter_and_sysexit() {
    // again: sysenter; dec esi; jnz again; hlt
    let program = [0x0F, 0x34, 0x4E, 0x75, 0xFB, 0xF4];
    // add ebx, 1; mov ecx, 1000h; mov edx, 4002h; pushf; pop eax; add edi, eax; sti; sysexit
    let mut system = vec![0x83, 0xC3, 1, 0xB9, 0, 0x10, 0, 0, 0xBA, 2, 0x40, 0, 0];
    system.extend([0x9C, 0x58, 0x01, 0xC7, 0xFB, 0x0F, 0x35]);
    for engine in Engine::ALL {
        for flags in [0x202, 0x4_0202] {
            let mut bench = bench(engine, 3, &program);
            bench.poke(0x9000, &system);
            let cpu = bench.cpu_mut();
            let s = &mut cpu.state;
            (s.sysenter_cs, s.sysenter_esp, s.sysenter_eip) = (sel::CODE.into(), 0x1800, 0x9000);
            s.set_eflags(flags);
            (s.gpr[6], s.gpr[7]) = (ROUNDS.into(), 0);
            bench.settle();
            assert_eq!(bench.run(), Ending::Halted);
            assert_eq!(setup::vector_reached(&bench), Some(13), "{engine:?}: HLT at level 3");
            let s = &bench.cpu().state;
            assert_eq!(s.gpr[3], u64::from(ROUNDS), "{engine:?}");
            // The sum of the flags in the system: IF is off there, and what ADD leaves is none but PF and AF.
            assert!(s.gpr[7] <= u64::from(ROUNDS * (flags & !0x200 | 0xD5)), "{engine:?}");
            let frame = bench.peek(at::STACK0 - 24, 24);
            let word = |n: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| frame[4 * n + i]));
            // Error code, EIP, CS, EFLAGS, ESP, SS.
            assert_eq!([word(1), word(2)], [0x4005, sel::USER_CODE.into()], "{engine:?}");
            assert_eq!([word(4), word(5)], [0x1000, sel::USER_DATA.into()], "{engine:?}");
            assert_eq!(word(3) & 0x4_0200, flags & 0x4_0200, "{engine:?}");
        }
    }
}

#[test]
fn popf() {
    // push esi; popf; pushf; pop eax; add ebx, eax; xor esi, edi
    let code = counted(&[&[0x56, 0x9D, 0x9C, 0x58, 0x01, 0xC3, 0x31, 0xFE]]);
    for engine in Engine::ALL {
        // Arithmetic flags, DF, IF; then NT, IOPL, AC and ID, RF, VIF and VIP in the image.
        for change in [0x8D5, 0x400, 0x200, 0x7000, 0x24_0000, 0x1_0000, 0x18_0000] {
            let mut bench = bench(engine, 0, &code);
            let s = &mut bench.cpu_mut().state;
            (s.gpr[6], s.gpr[7]) = (2, change);
            assert_eq!(bench.run(), Ending::Halted);
            assert_eq!(setup::vector_reached(&bench), None);
            let seen = if change & 0x19_0000 == 0 { change } else { 0 };
            let sum = ROUNDS / 2 * 2 + ROUNDS / 2 * (2 | seen as u32);
            assert_eq!(bench.cpu().state.gpr[3], u64::from(sum), "{engine:?} {change:x}");
        }
    }
}

#[test]
fn data_beside_code_and_across_into_it() {
    const AT: u64 = 0x4040; // the beginning of a line
    // again: mov eax, 0; add ebx, eax; mov [4800h], ecx; add edx, [4800h]; add [4840h], ecx
    let mut code =
        vec![0xB8, 0, 0, 0, 0, 0x01, 0xC3, 0x89, 0x0D, 0, 0x48, 0, 0, 0x03, 0x15, 0, 0x48];
    code.extend([0, 0, 0x01, 0x0D, 0x40, 0x48, 0, 0]);
    // mov esi, ecx; shl esi, 24; or esi, B80000h: the opcode again, and ecx where eax comes from
    code.extend([0x89, 0xCE, 0xC1, 0xE6, 24, 0x81, 0xCE, 0, 0, 0xB8, 0]);
    // mov [403Eh], esi; dec ecx; jnz again; hlt
    code.extend([0x89, 0x35, 0x3E, 0x40, 0, 0, 0x49, 0x75, 0xD3, 0xF4]);
    const TURNS: u64 = 200; // a byte
    for engine in Engine::ALL {
        let mut bench = bench(engine, 0, &[]);
        bench.poke(AT, &code);
        bench.poke(0x4840, &[0; 4]);
        let s = &mut bench.cpu_mut().state;
        (s.pc, s.gpr[1]) = (AT, TURNS);
        bench.settle();
        assert_eq!(bench.run(), Ending::Halted);
        assert_eq!(setup::vector_reached(&bench), None);
        let all = TURNS * (TURNS + 1) / 2;
        let s = &bench.cpu().state;
        // The last value is stored, but not run any more.
        assert_eq!((s.gpr[3], s.gpr[2]), (all - 1, all), "{engine:?}");
        assert_eq!(bench.peek(AT - 2, 4), [0, 0, 0xB8, 1], "{engine:?}");
        assert_eq!(bench.peek(0x4840, 4), (all as u32).to_le_bytes(), "{engine:?}");
    }
}

#[test]
fn data_beside_code_up_to_the_limit() {
    // again: mov [bx], ax; add [bx], ax; inc bx; dec cx; jnz again
    let real = [0x89, 0x07, 0x01, 0x07, 0x43, 0x49, 0x75, 0xF8];
    // again: mov fs, ax; mov fs:[ebx], eax; add fs:[ebx], eax; inc ebx; dec ecx; jnz again
    let protected = [0x8E, 0xE0, 0x64, 0x89, 0x03, 0x64, 0x01, 0x03, 0x43, 0x49, 0x75, 0xF4];
    const BEFORE: u64 = 0x140;
    for engine in Engine::ALL {
        for (is_real, beyond) in [(true, 0xFFFF), (false, 0x9FD)] {
            let mut bench = if is_real { Bench::new(engine) } else { bench(engine, 0, &protected) };
            if is_real {
                bench.clear();
                setup::real(&mut bench, [0; 6]);
                bench.poke(0xF100, &real);
            } else {
                let limited = setup::descriptor(START, 0x9FF, OPEN & !0x8000);
                setup::set_descriptor(&bench, sel::FREE, limited);
            }
            let s = &mut bench.cpu_mut().state;
            s.pc = if is_real { 0xF100 } else { START };
            (s.gpr[1], s.gpr[3]) = (2 * BEFORE, beyond - BEFORE);
            bench.settle();
            assert_eq!(bench.run(), Ending::Halted);
            assert_eq!(setup::vector_reached(&bench), Some(13), "{engine:?} {is_real}");
            let s = &bench.cpu().state;
            assert_eq!((s.gpr[1], s.gpr[3]), (BEFORE, beyond), "{engine:?} {is_real}");
        }
    }
}

#[test]
fn fills_and_copies_over_code() {
    // Two pages are copied over those that were filled in the last turn, and what they hold is called: mov eax, N; ret at 6800h, mov eax, 1;
    // ret at 7800h and 7900h.
    // again: mov edi, 6000h; mov esi, 9000h; mov ecx, 800h; rep movsd; call 6800h; call 7800h; add ebx, eax; dec edx; jnz again; hlt
    let mut code = vec![0xBF, 0, 0x60, 0, 0, 0xBE, 0, 0x90, 0, 0, 0xB9, 0, 8, 0, 0, 0xF3, 0xA5];
    code.extend([0xE8, 0xEA, 0x27, 0, 0, 0x01, 0xC3, 0xE8, 0xE3, 0x37, 0, 0, 0x01, 0xC3]);
    // add dword [9801h], 1; mov edi, 6000h; mov al, 90h; mov ecx, 1900h; rep stosb
    code.extend([0x83, 0x05, 0x01, 0x98, 0, 0, 1, 0xBF, 0, 0x60, 0, 0, 0xB0, 0x90]);
    code.extend([0xB9, 0, 0x19, 0, 0, 0xF3, 0xAA]);
    // the first sub's page is NOPs now and leads to the second's: call 6FF0h
    code.extend([0xE8, 0xB7, 0x2F, 0, 0, 0x01, 0xC3, 0x4A, 0x75]);
    code.push(0_u8.wrapping_sub(code.len() as u8 + 1));
    code.push(0xF4);
    const TURNS: u32 = 150;
    for engine in Engine::ALL {
        let mut bench = bench(engine, 0, &code);
        bench.poke(0x9000, &[0x90; 0x2000]);
        for at in [0x9800, 0xA800, 0xA900] {
            bench.poke(at, &[0xB8, 1, 0, 0, 0, 0xC3]);
        }
        let s = &mut bench.cpu_mut().state;
        (s.gpr[2], s.gpr[3]) = (TURNS.into(), 0);
        bench.settle();
        assert_eq!(bench.run(), Ending::Halted);
        assert_eq!(setup::vector_reached(&bench), None, "{engine:?}");
        // 1, 2, 3 ... from the first, 1 from the second and from what the third call comes to.
        let sum = TURNS * (TURNS + 1) / 2 + 2 * TURNS;
        assert_eq!(bench.cpu().state.gpr[3], u64::from(sum), "{engine:?}");
    }
}
