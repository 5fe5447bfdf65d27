//! Blocks that are made for speed on a second thread: they take over while their code runs, and not if it has changed meanwhile.

use stele::vcpu::VcpuConfig;
use stele_tests::setup;
use stele_tests::{Bench, Ending, Engine};

const CODE: u64 = 0x5000;
const TURNS: u64 = 60;

/// Adds 1 to edx in each of ecx turns, 2 from the turn on in which ecx is esi: the number is part of the code.
const COUNT: &[u8] = &[
    0x39, 0xF1, // 00: cmp ecx, esi
    0x74, 0x1C, // 02: je 20
    0x83, 0xC2, 0x01, // 04: add edx, 1
    0x49, // 07: dec ecx
    0x75, 0xF6, // 08: jnz 00
    0xF4, // 0A: hlt
];
const CHANGE: &[u8] = &[
    0xC6, 0x05, 0x06, 0x50, 0x00, 0x00, 0x02, // 20: mov byte [5006], 2
    0xEB, 0xDB, // 27: jmp 04
];

fn bench(lag: Option<u32>) -> Bench {
    let mut bench = Bench::with_config(VcpuConfig { lag, ..Engine::Beside.config() });
    bench.clear();
    setup::protected(&mut bench, 0);
    bench
}

/// Runs the loop from its beginning; what comes out.
fn count(bench: &mut Bench, turns: u64, change_at: u64) -> u64 {
    let state = &mut bench.cpu_mut().state;
    state.gpr[1] = turns;
    state.gpr[2] = 0;
    state.gpr[6] = change_at;
    state.pc = CODE;
    state.halted = 0;
    assert_eq!(bench.run(), Ending::Halted);
    bench.cpu().state.gpr[2]
}

#[test]
fn code_that_changes_meanwhile_is_not_taken() {
    let (mut installed, mut in_vain) = (0, 0);
    for lag in 0..8 {
        for change_at in (1..=TURNS).rev().step_by(if lag < 4 { 1 } else { 7 }) {
            let mut bench = bench(Some(lag));
            bench.poke(CODE, COUNT);
            bench.poke(CODE + 0x20, CHANGE);
            bench.settle();
            let sum = count(&mut bench, TURNS, change_at);
            assert_eq!(sum, TURNS + change_at, "lag {lag}, changed at {change_at}");
            installed += bench.stats().beside;
            in_vain += bench.stats().too_late;
        }
    }
    assert!(installed > 0 && in_vain > 0, "{installed} installed, {in_vain} in vain");
}

#[test]
fn a_flush_forgets_what_was_ordered() {
    let mut bench = bench(Some(20));
    bench.poke(CODE, COUNT);
    bench.settle();
    assert_eq!(count(&mut bench, 10, 0), 10);
    bench.settle();
    // A loop that waits goes by the run loop every 31 turns.
    assert_eq!(count(&mut bench, 900, 0), 900);
    assert_eq!((bench.stats().beside, bench.stats().too_late), (1, 1));
}

#[test]
fn a_compact_loop_counts_its_turns_by_itself() {
    let config = VcpuConfig { hot_after: Some(250), ..Engine::Beside.config() };
    let mut bench = Bench::with_config(config);
    bench.clear();
    setup::protected(&mut bench, 0);
    bench.poke(CODE, COUNT);
    bench.settle();
    assert_eq!(count(&mut bench, 14, 0), 14);
    let stats = bench.stats();
    assert_eq!(stats.hot_blocks, 0);
    assert!(stats.entries < 7, "{stats:?}");
}

#[test]
fn a_loop_waits_no_longer_than_it_takes() {
    let mut bench = bench(Some(1000));
    bench.poke(CODE, COUNT);
    bench.settle();
    assert_eq!(count(&mut bench, 3000, 0), 3000);
    let stats = bench.stats();
    assert_eq!((stats.beside, stats.too_late), (0, 0));
    assert!(stats.hot_blocks > 0, "{stats:?}");
}

#[test]
fn whatever_the_threads_do_the_sum_is_right() {
    let mut bench = bench(None);
    bench.poke(CODE, COUNT);
    bench.poke(CODE + 0x20, CHANGE);
    bench.settle();
    for round in 0..200 {
        bench.poke(CODE + 6, &[1]);
        let (turns, change_at) = (500 + round, 16 * (round % 30));
        assert_eq!(count(&mut bench, turns, change_at), turns + change_at, "round {round}");
    }
}

#[test]
fn a_machine_that_goes_away_takes_its_thread_along() {
    for lag in [None, Some(0), Some(1000)] {
        let mut bench = bench(lag);
        bench.poke(CODE, COUNT);
        bench.settle();
        assert_eq!(count(&mut bench, TURNS, 0), TURNS);
    }
}
