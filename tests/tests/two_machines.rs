//! Two processors in one process: taking turns, or side by side on two threads, each does what it does alone.
//!
//! The guests compute, store, call, modify their own code and halt once a round; a HLT is where they take turns.

use std::thread;

use stele_tests::{Bench, Ending, Engine, Snapshot, setup};
use x86::state::XsaveArea;

/// Rounds of a guest's loop.
const ROUNDS: u64 = 200;
/// Where the guests' code stands.
const START: u64 = 0x4000;

/// 16-bit code. The immediate of the ADD, at offset 5, is what it modifies.
const CODE16: &[u8] = &[
    0x69, 0xC0, 0x6D, 0x4E, // imul ax, ax, 4E6Dh
    0x05, 0x39, 0x30, // add ax, 3039h
    0x89, 0xC3, // mov bx, ax
    0x81, 0xE3, 0xFE, 0x0F, // and bx, 0FFEh
    0x31, 0x87, 0x00, 0x80, // xor [bx + 8000h], ax
    0xFE, 0x06, 0x05, 0x40, // inc byte [4005h]
    0xE8, 0x04, 0x00, // call the last line
    0xF4, // hlt
    0xE2, 0xE5, // loop to the start
    0xF4, // hlt
    0xD1, 0xC2, 0x01, 0xC2, 0xC3, // rol dx, 1; add dx, ax; ret
];

/// 32-bit code, likewise; the immediate stands at offset 7.
const CODE32: &[u8] = &[
    0x69, 0xC0, 0x6D, 0x4E, 0xC6, 0x41, // imul eax, eax, 41C64E6Dh
    0x05, 0x39, 0x30, 0x00, 0x00, // add eax, 3039h
    0x89, 0xC3, // mov ebx, eax
    0x81, 0xE3, 0xFC, 0x0F, 0x00, 0x00, // and ebx, 0FFCh
    0x31, 0x83, 0x00, 0x80, 0x00, 0x00, // xor [ebx + 8000h], eax
    0xFE, 0x05, 0x07, 0x40, 0x00, 0x00, // inc byte [4007h]
    0xE8, 0x04, 0x00, 0x00, 0x00, // call the last line
    0xF4, // hlt
    0xE2, 0xD9, // loop to the start
    0xF4, // hlt
    0xD1, 0xC2, 0x01, 0xC2, 0xC3, // rol edx, 1; add edx, eax; ret
];

/// 64-bit code, likewise, with sums in a vector register and on the x87 stack.
const CODE64: &[u8] = &[
    0x69, 0xC0, 0x6D, 0x4E, 0xC6, 0x41, // imul eax, eax, 41C64E6Dh
    0x05, 0x39, 0x30, 0x00, 0x00, // add eax, 3039h
    0x89, 0xC3, // mov ebx, eax
    0x81, 0xE3, 0xFC, 0x0F, 0x00, 0x00, // and ebx, 0FFCh
    0x31, 0x83, 0x00, 0x80, 0x00, 0x00, // xor [rbx + 8000h], eax
    0xFE, 0x04, 0x25, 0x07, 0x40, 0x00, 0x00, // inc byte [4007h]
    0x66, 0x0F, 0x6E, 0xC0, // movd xmm0, eax
    0x66, 0x0F, 0xFE, 0xC8, // paddd xmm1, xmm0
    0xDB, 0x83, 0x00, 0x80, 0x00, 0x00, // fild dword [rbx + 8000h]
    0xDE, 0xC1, // faddp st(1), st
    0xE8, 0x04, 0x00, 0x00, 0x00, // call the last line
    0xF4, // hlt
    0xE2, 0xC8, // loop to the start
    0xF4, // hlt
    0xD1, 0xC2, 0x01, 0xC2, 0xC3, // rol edx, 1; add edx, eax; ret
];

/// Widths of the guests.
const GUESTS: [u32; 4] = [16, 64, 32, 64];

fn guest(engine: Engine, bits: u32) -> Bench {
    let mut bench = Bench::new(engine);
    bench.clear();
    match bits {
        16 => {
            setup::real(&mut bench, [0; 6]);
            bench.poke(START, CODE16);
        }
        32 => {
            setup::protected(&mut bench, 0);
            setup::paging(&mut bench, |lin| lin as u32 | 3);
            bench.poke(START, CODE32);
        }
        _ => {
            setup::flat(&mut bench, 64);
            setup::vectors(&mut bench);
            bench.cpu_mut().state.fpu.0[XsaveArea::FTW] = 1; // the sum, 0, in ST(0)
            bench.poke(START, CODE64);
        }
    }
    let s = &mut bench.cpu_mut().state;
    s.gpr[..4].copy_from_slice(&[u64::from(bits), ROUNDS, 0, 0]);
    s.gpr[4] = 0xE000;
    s.pc = START;
    bench.settle();
    bench
}

/// Runs to the next HLT.
fn turn(bench: &mut Bench) {
    bench.cpu_mut().state.halted = 0;
    assert_eq!(bench.run(), Ending::Halted);
}

/// Halts once a round and once in the end.
fn run_alone(engine: Engine, bits: u32) -> Snapshot {
    let mut bench = guest(engine, bits);
    for _ in 0..=ROUNDS {
        turn(&mut bench);
    }
    assert_eq!(bench.cpu().state.gpr[1], 0, "all rounds were run");
    bench.snapshot()
}

fn assert_same(want: &Snapshot, got: &Snapshot, what: &str) {
    let differences = want.differences(got);
    assert!(differences.is_empty(), "{what}:\n  {}", differences.join("\n  "));
}

#[test]
fn guests_that_take_turns_do_not_meet() {
    for engine in Engine::ALL {
        let alone = GUESTS.map(|bits| run_alone(engine, bits));
        let mut benches = GUESTS.map(|bits| guest(engine, bits));
        for _ in 0..=ROUNDS {
            benches.iter_mut().for_each(turn);
        }
        for (want, got) in alone.iter().zip(&benches) {
            assert_same(want, &got.snapshot(), &format!("{engine:?}"));
        }
    }
}

#[test]
fn guests_on_threads_do_not_meet() {
    let reference = GUESTS.map(|bits| run_alone(Engine::Evaluator, bits));
    let threads: Vec<_> = Engine::ALL
        .into_iter()
        .flat_map(|engine| (0..GUESTS.len()).map(move |n| (engine, n)))
        .map(|(engine, n)| (engine, n, thread::spawn(move || run_alone(engine, GUESTS[n]))))
        .collect();
    for (engine, n, thread) in threads {
        let got = thread.join().expect("the thread's own assertions hold");
        assert_same(&reference[n], &got, &format!("{engine:?}, {} bits", GUESTS[n]));
    }
}
