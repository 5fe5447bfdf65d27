//! FP and vector state: programs on every engine, what the control registers refuse, exceptions at their instruction,
//! processors that take turns on one thread.

use stele_tests::{Bench, Ending, Engine, setup};

/// Where the programs stand.
const START: u64 = 0x4000;

/// 64-bit code.
const SUM: &[u8] = &[
    0xB9, 0x64, 0x00, 0x00, 0x00, // mov ecx, 100
    0x66, 0x45, 0x0F, 0xEF, 0xC0, // pxor xmm8, xmm8
    0xF2, 0x0F, 0x10, 0x0C, 0x25, 0x00, 0x80, 0x00, 0x00, // movsd xmm1, [8000h]
    0xDB, 0xE3, // fninit
    0xD9, 0xE8, // fld1
    0xF2, 0x44, 0x0F, 0x58, 0xC1, // again: addsd xmm8, xmm1
    0xF2, 0x0F, 0x59, 0x0C, 0x25, 0x08, 0x80, 0x00, 0x00, // mulsd xmm1, [8008h]
    0xDC, 0x04, 0x25, 0x08, 0x80, 0x00, 0x00, // fadd qword [8008h]
    0x66, 0x44, 0x0F, 0x11, 0x04, 0x25, 0xF8, 0x8F, 0x00, 0x00, // movupd [8FF8h], xmm8
    0xF2, 0x49, 0x0F, 0x2C, 0xC0, // cvttsd2si rax, xmm8
    0x66, 0x44, 0x0F, 0x2F, 0x04, 0x25, 0x08, 0x80, 0x00, 0x00, // comisd xmm8, [8008h]
    0x48, 0x83, 0xD3, 0x00, // adc rbx, 0
    0xFF, 0xC9, // dec ecx
    0x75, 0xCA, // jnz again
    0xDD, 0x1C, 0x25, 0x20, 0x80, 0x00, 0x00, // fstp qword [8020h]
    0xF4, // hlt
];

/// 32-bit code that halts once a round.
const TURNS: &[u8] = &[
    0xDB, 0xE3, // fninit
    0xD9, 0xEB, // fldpi
    0x66, 0x0F, 0x6E, 0xF8, // movd xmm7, eax
    0x66, 0x0F, 0xFE, 0xFF, // again: paddd xmm7, xmm7
    0xDC, 0xC0, // fadd st0, st0
    0x0F, 0x58, 0xF7, // addps xmm6, xmm7
    0x0F, 0xAE, 0x1D, 0x00, 0x81, 0x00, 0x00, // stmxcsr [8100h]
    0xF4, // hlt
    0x49, // dec ecx
    0x75, 0xEC, // jnz again
    0x0F, 0xAE, 0x05, 0x00, 0x82, 0x00, 0x00, // fxsave [8200h]
    0xF4, // hlt
];

/// 32-bit code: all accesses but the first two cross into the page at A000h, for one value of EDX at least.
const CROSSINGS: &[u8] = &[
    0xB9, 0xC8, 0x00, 0x00, 0x00, // mov ecx,200
    0xC5, 0xFC, 0x10, 0x05, 0x00, 0x80, 0x00, 0x00, // vmovups ymm0,[0x8000]
    0xC5, 0xFC, 0x10, 0x0D, 0x20, 0x80, 0x00, 0x00, // vmovups ymm1,[0x8020]
    0x89, 0xCA, // again: mov edx,ecx
    0x83, 0xE2, 0x0F, // and edx,15
    0x0F, 0x11, 0x82, 0xF1, 0x9F, 0x00, 0x00, // movups [edx+0x9ff1],xmm0
    0x0F, 0x10, 0x92, 0xF3, 0x9F, 0x00, 0x00, // movups xmm2,[edx+0x9ff3]
    0xF2, 0x0F, 0x11, 0x8A, 0xF2, 0x9F, 0x00, 0x00, // movsd [edx+0x9ff2],xmm1
    0xF3, 0x0F, 0x11, 0x92, 0xEE, 0x9F, 0x00, 0x00, // movss [edx+0x9fee],xmm2
    0xC5, 0xFD, 0xFE, 0x82, 0xE5, 0x9F, 0x00, 0x00, // vpaddd ymm0,ymm0,[edx+0x9fe5]
    0xC4, 0xE2, 0x75, 0x2E, 0x82, 0xE8, 0x9F, 0x00, 0x00, // vmaskmovps [edx+0x9fe8],ymm1,ymm0
    0xC5, 0xF5, 0xFE, 0xC8, // vpaddd ymm1,ymm1,ymm0
    0xF3, 0x0F, 0x7E, 0x9A, 0xF4, 0x9F, 0x00, 0x00, // movq xmm3,[edx+0x9ff4]
    0xC4, 0xE3, 0x7D, 0x19, 0x82, 0xF5, 0x9F, 0x00, 0x00,
    0x01, // vextractf128 [edx+0x9ff5],ymm0,1
    0x66, 0x0F, 0xFE, 0xC3, // paddd xmm0,xmm3
    0x49, // dec ecx
    0x75, 0xAF, // jnz again
    0xF4, // hlt
];

/// A processor in flat code with SSE enabled, `code` at its instruction pointer.
fn bench(engine: Engine, bits: u32, code: &[u8]) -> Bench {
    let mut bench = Bench::new(engine);
    bench.clear();
    setup::flat(&mut bench, bits);
    bench.poke(START, code);
    let s = &mut bench.cpu_mut().state;
    s.cr0 |= 0x20;
    s.cr4 |= 0x600;
    s.pc = START;
    bench
}

/// Runs `code` in 32-bit mode after `prepare`; returns the vector it ended in, if any, and the bench.
fn fault(engine: Engine, code: &[u8], prepare: impl Fn(&mut Bench)) -> (Option<u8>, Bench) {
    let mut bench = bench(engine, 32, code);
    prepare(&mut bench);
    bench.settle();
    assert_eq!(bench.run(), Ending::Halted, "{engine:?} {code:02x?}");
    (setup::vector_reached(&bench), bench)
}

/// The instruction pointer on the stack of a handler that got no error code.
fn saved_ip(bench: &Bench) -> u64 {
    let bytes = bench.peek(bench.cpu().state.gpr[4], 4);
    u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[test]
fn a_program_on_all_engines() {
    let mut want = None;
    for engine in Engine::ALL {
        let mut bench = bench(engine, 64, SUM);
        bench.poke(0x8000, &1.5f64.to_le_bytes());
        bench.poke(0x8008, &0.875f64.to_le_bytes());
        bench.settle();
        assert_eq!(bench.run(), Ending::Halted);
        let s = &bench.cpu().state;
        assert_eq!(bench.peek(0x8020, 8), 88.5f64.to_le_bytes(), "{engine:?}");
        assert_eq!((s.fpu_ip, s.fpu_op, s.fpu_dp), (START + 0x4D, 0x51C, 0x8020), "{engine:?}");
        let state = (s.pc, s.gpr, s.ymm, s.mxcsr, s.fpu, bench.peek(0x8FF8, 16));
        assert!(want.get_or_insert(state.clone()) == &state, "{engine:?} {state:x?}");
    }
}

#[test]
fn control_registers_refuse() {
    const ADDPS: &[u8] = &[0x0F, 0x58, 0xCA, 0xF4];
    const PADDB_MMX: &[u8] = &[0x0F, 0xFC, 0xCA, 0xF4];
    const FLD1: &[u8] = &[0xD9, 0xE8, 0xF4];
    const FWAIT: &[u8] = &[0x9B, 0xF4];
    const MP: u64 = 2;
    const EM: u64 = 4;
    const TS: u64 = 8;
    const NM: Option<u8> = Some(7);
    const UD: Option<u8> = Some(6);
    for engine in Engine::ALL {
        for (code, cr0, without, expect) in [
            (ADDPS, 0, 0, None),
            (ADDPS, TS, 0, NM),
            (ADDPS, EM, 0, UD),
            (ADDPS, 0, 0x200, UD),
            (ADDPS, TS, 0x200, UD),
            (PADDB_MMX, EM, 0, UD),
            (PADDB_MMX, TS, 0, NM),
            (FLD1, EM, 0, NM),
            (FLD1, TS, 0, NM),
            (FLD1, MP, 0, None),
            (FWAIT, TS, 0, None),
            (FWAIT, TS | MP, 0, NM),
        ] {
            let (vector, bench) = fault(engine, code, |b| {
                let s = &mut b.cpu_mut().state;
                s.cr0 |= cr0;
                s.cr4 &= !without;
                s.fpu = Default::default();
                s.fpu.0[..5].copy_from_slice(&[0x7F, 3, 0, 0, 0]);
            });
            assert_eq!(
                vector, expect,
                "{engine:?} {code:02x?} CR0 {cr0:x} CR4 without {without:x}"
            );
            if expect.is_some() {
                assert_eq!(saved_ip(&bench), START, "{engine:?} {code:02x?}");
            }
        }
    }
}

#[test]
fn unmasked_simd_exceptions_come_at_their_instruction() {
    const DIVPS: &[u8] = &[
        0x66, 0x0F, 0x76, 0xD2, // pcmpeqd xmm2, xmm2
        0x0F, 0x5E, 0xC8, // divps xmm1, xmm0
        0xF4, // hlt
    ];
    for engine in Engine::ALL {
        for (cr4, expect) in [(0, Some(19)), (0x400, Some(6))] {
            let (vector, bench) = fault(engine, DIVPS, |b| {
                let s = &mut b.cpu_mut().state;
                s.mxcsr = 0x1F80 & !0x200;
                s.cr4 &= !cr4;
                s.ymm[1][0] = u64::from(1f32.to_bits());
            });
            let s = &bench.cpu().state;
            assert_eq!(vector, expect, "{engine:?}");
            assert_eq!(saved_ip(&bench), START + 4, "{engine:?}");
            assert_eq!(s.ymm[2][..2], [u64::MAX; 2], "{engine:?}");
            assert_eq!(s.ymm[1][0], u64::from(1f32.to_bits()), "{engine:?}");
            assert_ne!(s.mxcsr & 4, 0, "{engine:?}");
        }
    }
}

/// The flags of an insn before an exception are in its frame, wherever they were, though nothing else asks for them.
#[test]
fn unmasked_simd_exceptions_find_the_flags() {
    const SUB: &[u8] = &[0x83, 0xE8, 1]; // sub eax, 1
    const CMP: &[u8] = &[0x39, 0xC3, 0x89, 0xC8]; // cmp ebx, eax; mov eax, ecx
    const UCOMISS: &[u8] = &[0x0F, 0x2E, 0xC9]; // ucomiss xmm1, xmm1
    const INC: &[u8] = &[0xF9, 0x43]; // stc; inc ebx
    // mov edx, [8000h]; divps xmm1, xmm0; add ecx, ecx; hlt
    const TAIL: &[u8] = &[0x8B, 0x15, 0, 0x80, 0, 0, 0x0F, 0x5E, 0xC8, 0x01, 0xC9, 0xF4];
    for engine in Engine::ALL {
        for (head, flags) in [(SUB, 0x95), (CMP, 0x44), (UCOMISS, 0x40), (INC, 1)] {
            for tail in [TAIL, &TAIL[6..]] {
                let code = [head, tail].concat();
                let (vector, bench) = fault(engine, &code, |b| {
                    let s = &mut b.cpu_mut().state;
                    s.mxcsr = 0x1F80 & !0x200;
                    s.gpr[..4].copy_from_slice(&[0, 7, 0, 0]);
                    s.ymm[1][0] = u64::from(1f32.to_bits());
                });
                assert_eq!(vector, Some(19), "{engine:?}");
                let at = code.len() as u64 - 6;
                assert_eq!(saved_ip(&bench), START + at, "{engine:?}");
                let found = bench.peek(bench.cpu().state.gpr[4] + 8, 2);
                let found = u16::from_le_bytes([found[0], found[1]]) & 0x8D5;
                assert_eq!(found, flags, "{engine:?} {code:02x?}");
            }
        }
    }
}

#[test]
fn x87_exceptions_come_at_the_next_waiting_instruction() {
    const DIVIDE: [u8; 14] = [
        0xDB, 0xE3, // fninit
        0xD9, 0x2D, 0x00, 0x80, 0x00, 0x00, // fldcw [8000h]
        0xD9, 0xE8, // fld1
        0xD9, 0xEE, // fldz
        0xDE, 0xF9, // fdivp st1, st0
    ];
    // mov edx, 77; fnstsw ax; fld1; hlt: neither of the first two waits.
    const NATIVE: &[u8] = &[0xBA, 77, 0, 0, 0, 0xDF, 0xE0, 0xD9, 0xE8, 0xF4];
    // fldenv [8100h]; hlt: done by a helper.
    const HELPER: &[u8] = &[0xD9, 0x25, 0x00, 0x81, 0x00, 0x00, 0xF4];
    for engine in Engine::ALL {
        for (tail, at) in [(NATIVE, 7), (HELPER, 0)] {
            let code = [&DIVIDE, tail].concat();
            let (vector, bench) = fault(engine, &code, |b| b.poke(0x8000, &0x37Bu16.to_le_bytes()));
            let s = &bench.cpu().state;
            assert_eq!(vector, Some(16), "{engine:?}");
            assert_eq!(saved_ip(&bench), START + 14 + at, "{engine:?}");
            assert_eq!(s.fpu_ip, START + 12, "{engine:?}: the division's");
            if tail == NATIVE {
                assert_eq!((s.gpr[0] & 0x8084, s.gpr[2]), (0x8084, 77), "{engine:?}");
            }
        }
    }
}

#[test]
fn aligned_operands() {
    // movaps xmm1, [8008h]; hlt
    const MOVAPS: &[u8] = &[0x0F, 0x28, 0x0D, 0x08, 0x80, 0x00, 0x00, 0xF4];
    for engine in Engine::ALL {
        let (vector, _) = fault(engine, MOVAPS, |_| ());
        assert_eq!(vector, Some(13), "{engine:?}");
    }
}

#[test]
fn processors_take_turns_on_a_thread() {
    let start = |engine, seed: u64| {
        let mut bench = bench(engine, 32, TURNS);
        let s = &mut bench.cpu_mut().state;
        (s.gpr[0], s.gpr[1]) = (seed, 20);
        bench.settle();
        bench
    };
    let round = |bench: &mut Bench| {
        bench.cpu_mut().state.halted = 0;
        assert_eq!(bench.run(), Ending::Halted);
    };
    let image = |bench: &Bench| {
        let s = &bench.cpu().state;
        (s.pc, s.gpr, s.ymm, s.mxcsr, s.fpu, bench.peek(0x8200, 288))
    };
    let alone = |seed| {
        let mut bench = start(Engine::Evaluator, seed);
        (0..21).for_each(|_| round(&mut bench));
        image(&bench)
    };
    for (a, b) in [(Engine::Mixed, Engine::Mixed), (Engine::HotOptimised, Engine::Compact)] {
        let (mut one, mut two) = (start(a, 0x3F80_0001), start(b, 0x4123_4567));
        for _ in 0..21 {
            round(&mut one);
            round(&mut two);
        }
        assert!(image(&one) == alone(0x3F80_0001), "{a:?}");
        assert!(image(&two) == alone(0x4123_4567), "{b:?}");
    }
}

#[test]
fn operands_in_two_pages() {
    // The two pages lie apart; in the second run the upper one is that of the code, too.
    for far in [0x3_0000, START] {
        let mut want = None;
        for engine in Engine::ALL {
            let mut bench = bench(engine, 32, CROSSINGS);
            bench.poke(0x8000, &(1..=64).collect::<Vec<u8>>());
            setup::paging(&mut bench, |lin| match lin {
                0x9000 => 0x4_0067,
                0xA000 => far as u32 | 0x67,
                _ => lin as u32 | 0x67,
            });
            let s = &mut bench.cpu_mut().state;
            (s.cr4, s.xcr0) = (s.cr4 | 1 << 18, 7);
            s.pc += u64::from(far == START) * 0x800;
            bench.poke(START + 0x800, CROSSINGS);
            bench.settle();
            assert_eq!(bench.run(), Ending::Halted);
            assert_eq!(setup::vector_reached(&bench), None, "{engine:?}");
            let s = &bench.cpu().state;
            let memory = (bench.peek(0x4_0F80, 0x80), bench.peek(far, 0x80));
            let state = (s.gpr, s.ymm, s.mxcsr, memory);
            assert!(want.get_or_insert(state.clone()) == &state, "{engine:?} {state:x?}");
            if engine == Engine::HotOptimised {
                assert!(bench.stats().evaluated < 20, "{}", bench.stats().evaluated);
            }
        }
    }
}
