//! Code that calls a page whose mapping changes under it: by INVLPG, by CR3 with and without PCIDs, by INVPCID for the
//! address space that is not current. Every engine must call what the page tables say, however hot the call is.

use stele_tests::{Bench, Ending, Engine, setup};

/// Where the loop stands, and the page it calls.
const START: u64 = 0x4000;
const CALLED: u64 = 0x5000;
/// Tables of the second address space.
const OTHER: u64 = 0x10_0000;
/// Rounds of the loop.
const ROUNDS: u32 = 300;
/// CR4.PGE, CR4.PCIDE.
const PGE: u64 = 1 << 7;
const PCIDE: u64 = 1 << 17;
/// Page-table entries: present, writable, accessed, dirty; global.
const RW: u64 = 0x63;
const GLOBAL: u64 = 0x100;

/// Page table of an address space whose top table is at `root`.
const fn pte_of_called(root: u64) -> u64 {
    root + 0x3000 + 8 * (CALLED >> 12)
}

/// A processor in 64-bit mode whose loop calls page 5 and then runs `switch`. In the second address space page 5 is frame 6.
fn bench(engine: Engine, switch: &[u8], rights: u64) -> Bench {
    let mut bench = Bench::new(engine);
    bench.clear();
    setup::long(&mut bench, 0);
    setup::long_paging(&mut bench, |page| page | rights);
    let other = bench.peek(setup::at::PAGES, 0x4000);
    bench.poke(OTHER, &other);
    for level in 0..3 {
        for slot in [0, 255, 256, 511] {
            let at = OTHER + 0x1000 * level + 8 * slot;
            let is_there = bench.peek(at, 1)[0] & 1 != 0;
            if is_there {
                bench.poke(at, &((OTHER + 0x1000 * (level + 1)) | 0x27).to_le_bytes());
            }
        }
    }
    bench.poke(pte_of_called(OTHER), &(0x6000 | rights).to_le_bytes());
    bench.poke(0x5000, &[0xB8, 1, 0, 0, 0, 0xC3]); // mov eax, 1; ret
    bench.poke(0x6000, &[0xB8, 0, 1, 0, 0, 0xC3]); // mov eax, 100h; ret
    let mut code = vec![0xE8, 0xFB, 0x0F, 0, 0, 0x01, 0xC3]; // again: call 5000h; add ebx, eax
    code.extend(switch);
    code.extend([0xFF, 0xC9, 0x75, 0_u8.wrapping_sub(switch.len() as u8 + 11), 0xF4]); // dec ecx; jnz again; hlt
    bench.poke(START, &code);
    let s = &mut bench.cpu_mut().state;
    (s.pc, s.gpr[1]) = (START, u64::from(ROUNDS));
    bench
}

/// Runs it and returns the sum of what the calls gave.
fn sum(mut bench: Bench) -> u64 {
    bench.settle();
    assert_eq!(bench.run(), Ending::Halted);
    assert_eq!(setup::vector_reached(&bench), None);
    bench.cpu().state.gpr[3]
}

/// Calls to frame 5 and frame 6 in turns.
const IN_TURNS: u64 = ROUNDS as u64 / 2 * 0x101;

#[test]
fn invlpg() {
    // xor [pte], rdi; invlpg [5000h]
    let mut switch =
        vec![0x48, 0x31, 0x3C, 0x25, 0, 0, 0, 0, 0x0F, 0x01, 0x3C, 0x25, 0, 0x50, 0, 0];
    switch[4..8].copy_from_slice(&(pte_of_called(setup::at::PAGES) as u32).to_le_bytes());
    for engine in Engine::ALL {
        for rights in [RW, RW | GLOBAL] {
            let mut bench = bench(engine, &switch, rights);
            let s = &mut bench.cpu_mut().state;
            s.cr4 |= PGE;
            s.gpr[7] = 0x5000 ^ 0x6000;
            assert_eq!(sum(bench), IN_TURNS, "{engine:?} {rights:x}");
        }
    }
}

/// Jumps within a page to an instruction whose end lies in the page that is remapped.
#[test]
fn invlpg_of_the_second_page_of_an_instruction() {
    // again: xor [pte], rdi; invlpg [5000h]; dec ecx; jz out; jmp 4FFEh; out: hlt
    let mut code = vec![0x48, 0x31, 0x3C, 0x25, 0, 0, 0, 0, 0x0F, 0x01, 0x3C, 0x25, 0, 0x50, 0, 0];
    code[4..8].copy_from_slice(&(pte_of_called(setup::at::PAGES) as u32).to_le_bytes());
    code.extend([0xFF, 0xC9, 0x74, 5, 0xE9, 0xE5, 0x0F, 0, 0, 0xF4]);
    for engine in Engine::ALL {
        for rights in [RW, RW | GLOBAL] {
            let mut bench = bench(engine, &[], rights);
            bench.poke(START, &code);
            bench.poke(CALLED - 2, &[0xB8, 1]); // mov eax, 1 or 101h; add ebx, eax; jmp again
            for (frame, byte) in [(0x5000, 0), (0x6000, 1)] {
                bench.poke(frame, &[byte, 0, 0, 0x01, 0xC3, 0xE9, 0xF6, 0xEF, 0xFF, 0xFF]);
            }
            let s = &mut bench.cpu_mut().state;
            (s.cr4, s.gpr[7], s.gpr[1]) = (s.cr4 | PGE, 0x5000 ^ 0x6000, u64::from(ROUNDS) + 1);
            assert_eq!(sum(bench), u64::from(ROUNDS) / 2 * 0x102, "{engine:?} {rights:x}");
        }
    }
}

/// A loop that goes through such an instruction does not leave for it each time.
#[test]
fn loops_through_the_end_of_a_page_stay_in_generated_code() {
    for engine in [Engine::Compact, Engine::Mixed, Engine::HotOptimised] {
        let mut bench = bench(engine, &[], RW);
        bench.poke(START, &[0xE9, 0xF9, 0x0F, 0, 0]); // again: jmp 4FFEh
        bench.poke(CALLED - 2, &[0xB8, 1, 0, 0, 0]); // mov eax, 1
        bench.poke(CALLED + 3, &[0x01, 0xC3, 0xFF, 0xC9, 0x0F, 0x85, 0xF3, 0xEF, 0xFF, 0xFF, 0xF4]); // add ebx, eax; dec ecx; jnz again; hlt
        bench.cpu_mut().state.gpr[1] = 20_000;
        bench.settle();
        assert_eq!(bench.run(), Ending::Halted);
        assert_eq!(bench.cpu().state.gpr[3], 20_000, "{engine:?}");
        assert!(bench.stats().entries < 400, "{engine:?}: {}", bench.stats().entries);
    }
}

/// All translations are dropped, those of global pages, too, each time after one page came to lie elsewhere.
#[test]
fn toggles_of_global_pages() {
    // xor [pte], rdi; mov rdx, cr4; then twice: xor rdx, rsi; mov cr4, rdx
    let mut switch = vec![0x48, 0x31, 0x3C, 0x25, 0, 0, 0, 0, 0x0F, 0x20, 0xE2];
    switch[4..8].copy_from_slice(&(pte_of_called(setup::at::PAGES) as u32).to_le_bytes());
    switch.extend([0x48, 0x31, 0xF2, 0x0F, 0x22, 0xE2, 0x48, 0x31, 0xF2, 0x0F, 0x22, 0xE2]);
    for engine in Engine::ALL {
        for (frames, expect) in [(0x5000 ^ 0x6000, IN_TURNS), (0, u64::from(ROUNDS))] {
            let mut bench = bench(engine, &switch, RW | GLOBAL);
            let s = &mut bench.cpu_mut().state;
            s.cr4 |= PGE;
            (s.gpr[6], s.gpr[7]) = (PGE, frames);
            assert_eq!(sum(bench), expect, "{engine:?} {frames:x}");
        }
    }
}

/// Calls of two pages that want the same entry of the jump table.
#[test]
fn two_targets_of_one_entry() {
    let other = CALLED + 2 * x86::tlb::JUMPS as u64;
    // call other; add ebx, eax
    let mut switch = vec![0xE8, 0, 0, 0, 0, 0x01, 0xC3];
    switch[1..5].copy_from_slice(&((other - START - 12) as u32).to_le_bytes());
    for engine in Engine::ALL {
        let bench = bench(engine, &switch, RW);
        bench.poke(other, &[0xB8, 0, 0, 1, 0, 0xC3]); // mov eax, 10000h; ret
        assert_eq!(sum(bench), u64::from(ROUNDS) * 0x1_0001, "{engine:?}");
    }
}

/// xor rdx, rsi; mov cr3, rdx
const SWITCH: [u8; 6] = [0x48, 0x31, 0xF2, 0x0F, 0x22, 0xDA];

#[test]
fn loads_of_cr3() {
    for engine in Engine::ALL {
        let mut bench = bench(engine, &SWITCH, RW);
        let s = &mut bench.cpu_mut().state;
        (s.gpr[2], s.gpr[6]) = (setup::at::PAGES, setup::at::PAGES ^ OTHER);
        assert_eq!(sum(bench), IN_TURNS, "{engine:?}");
    }
}

#[test]
fn address_spaces_by_pcid() {
    for engine in Engine::ALL {
        for no_flush in [0, 1 << 63] {
            let mut bench = bench(engine, &SWITCH, RW);
            let s = &mut bench.cpu_mut().state;
            (s.cr3, s.cr4) = (setup::at::PAGES | 1, s.cr4 | PCIDE);
            (s.gpr[2], s.gpr[6]) = (s.cr3 | no_flush, s.cr3 ^ OTHER ^ 2);
            assert_eq!(sum(bench), IN_TURNS, "{engine:?} {no_flush:x}");
        }
    }
}

#[test]
fn invpcid_reaches_the_other_space() {
    // xor [r8], rdi; xor r8, r9; invpcid rbp, [8000h]; xor [8000h], r10
    let mut switch =
        vec![0x49, 0x31, 0x38, 0x4D, 0x31, 0xC8, 0x66, 0x0F, 0x38, 0x82, 0x2C, 0x25, 0];
    switch.extend([0x80, 0, 0, 0x4C, 0x31, 0x14, 0x25, 0, 0x80, 0, 0]);
    switch.extend(SWITCH);
    for engine in Engine::ALL {
        // One page, one address space, everything.
        for kind in [0, 1, 2, 3] {
            let mut bench = bench(engine, &switch, RW);
            bench.poke(pte_of_called(OTHER), &(0x5000 | RW).to_le_bytes());
            bench.poke(0x8000, &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0]);
            let (a, b) = (pte_of_called(setup::at::PAGES), pte_of_called(OTHER));
            let s = &mut bench.cpu_mut().state;
            (s.cr3, s.cr4) = (setup::at::PAGES | 1, s.cr4 | PCIDE);
            (s.gpr[2], s.gpr[6]) = (s.cr3 | 1 << 63, s.cr3 ^ OTHER ^ 2);
            (s.gpr[7], s.gpr[8], s.gpr[9], s.gpr[10]) = (0x5000 ^ 0x6000, b, a ^ b, 3);
            s.gpr[5] = kind;
            assert_eq!(sum(bench), IN_TURNS, "{engine:?} {kind}");
        }
    }
}

/// A called instruction is overwritten by one that reaches into an absent page: the jump table knows the place, but there is
/// no block any more.
#[test]
fn code_that_comes_to_cross_into_an_absent_page_faults() {
    const LAST: u64 = CALLED + 0xFFF;
    for engine in [Engine::Compact, Engine::Mixed, Engine::HotOptimised] {
        let mut bench = Bench::new(engine);
        bench.clear();
        setup::long(&mut bench, 0);
        setup::long_paging(&mut bench, |page| if page == 0x6000 { 0 } else { page | RW });
        bench.poke(LAST, &[0xC3]); // ret
        let mut code = vec![0xFF, 0xD0, 0xFF, 0xC9, 0x75, 0xFA]; // again: call rax; dec ecx; jnz again
        code.extend([0xC6, 0x00, 0xE8]); // mov byte [rax], E8h: call rel32
        code.extend([0xFF, 0xD0, 0xF4]); // call rax; hlt
        bench.poke(START, &code);
        let s = &mut bench.cpu_mut().state;
        (s.pc, s.gpr[0], s.gpr[1]) = (START, LAST, u64::from(ROUNDS));
        bench.settle();
        assert_eq!(bench.run(), Ending::Halted, "{engine:?}");
        assert_eq!(setup::vector_reached(&bench), Some(14), "{engine:?}");
        assert_eq!(bench.cpu().state.cr2, LAST + 1, "{engine:?}");
    }
}

/// Loops of nothing but an indirect jump, to each kind of place a jump table has: a kick gets through.
#[test]
fn endless_jumps_can_be_stopped() {
    for engine in [Engine::Compact, Engine::Mixed, Engine::HotOptimised] {
        for at in [CALLED, CALLED + 1, CALLED + 0xFFD] {
            let mut bench = Bench::new(engine);
            bench.clear();
            setup::long(&mut bench, 0);
            setup::long_paging(&mut bench, |page| page | RW);
            bench.poke(at, &[0xFF, 0xE0]); // jmp rax
            let s = &mut bench.cpu_mut().state;
            (s.pc, s.gpr[0]) = (at, at);
            bench.settle();
            let kicker = bench.kicker();
            let other = std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(30));
                kicker.kick();
            });
            assert_eq!(bench.run(), Ending::Endless, "{engine:?} {at:#x}");
            other.join().expect("kicks");
            assert_eq!(bench.cpu().state.pc, at, "{engine:?}");
        }
    }
}
