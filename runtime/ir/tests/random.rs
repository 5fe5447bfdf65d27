//! Random blocks: every pass keeps what a block does, the text form round-trips, the verifier agrees.

mod common;
#[path = "common/random.rs"]
mod random;

use common::{Stop, TestGuest, evaluate};
use ir::opt::{self, ALL_LIVE, LiveAtExit, Passes};
use ir::text::{NoNames, parse, print};
use ir::{Block, Code, End, FlagMask, Op, Scratch, Width, verify};
use proptest::prelude::*;
use random::{Gene, random_block};

/// 1500 cases a test, or what PROPTEST_CASES says.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 1500 };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

fn genes() -> impl Strategy<Value = Vec<Gene>> {
    prop::collection::vec(any::<Gene>(), 1..60)
}

/// What counts at the end: flags dead in the successor do not.
fn observable(run: (End<Stop>, TestGuest), live: LiveAtExit) -> (End<Stop>, TestGuest) {
    let (end, mut guest) = run;
    if let End::GotoTb { slot, backward: false, .. } = end {
        guest.flags &= live[usize::from(slot)].eflags();
    }
    (end, guest)
}

fn check_verified(block: &Block, what: &str) {
    if let Err(errors) = verify(block) {
        let text = print(block, &NoNames);
        panic!("{what}: {}\n{text}", errors.iter().map(|e| format!("{e}\n")).collect::<String>());
    }
}

fn check(genes: &[Gene], seed: u64, passes: Passes, live: LiveAtExit) {
    let before = random_block(genes);
    check_verified(&before, "generated");
    let mut after = before.clone();
    let mut scratch = Scratch::new();
    opt::optimize(&mut after, &mut scratch, passes, live);
    check_verified(&after, "optimised");
    let scrambled = scramble_dead_flags(&after, &scratch);
    for seed in [seed, !seed, seed ^ 0x5555] {
        let expected = observable(evaluate(&before, seed), live);
        for (what, block) in [("optimised", &after), ("dead flags scrambled", &scrambled)] {
            let got = observable(evaluate(block, seed), live);
            assert!(
                got == expected,
                "{passes:?}, {what}, seed {seed:#x}\nbefore:\n{}\nafter:\n{}\nexpected {expected:x?}\ngot {got:x?}",
                print(&before, &NoNames),
                print(block, &NoNames),
            );
        }
    }
}

/// Behind every op that control passes, sets each flag that `flags_after` calls dead to a made-up value.
fn scramble_dead_flags(block: &Block, scratch: &Scratch) -> Block {
    let after = scratch.flags_after();
    let mut out = Block { ops: Vec::new(), ..block.clone() };
    if !after.is_empty() {
        assert_eq!(after.len(), block.ops.len());
    }
    for (n, op) in block.ops.iter().enumerate() {
        out.ops.push(*op);
        if op.code.is_end() || op.code == Code::Br {
            continue;
        }
        let Some(live) = after.get(n) else { continue };
        let dead = FlagMask::ALL.minus(*live);
        let a = out.constant(if n % 3 == 0 { 0 } else { 0x8D5 >> (n % 2) });
        out.ops.push(Op { a, x: dead.0, fdef: dead, ..Op::new(Code::Putf, Width::W32) });
    }
    out
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn each_pass_keeps_what_a_block_does(genes in genes(), seed: u64) {
        for (_, pass) in Passes::NAMES {
            check(&genes, seed, pass, ALL_LIVE);
        }
    }

    #[test]
    fn all_passes_keep_what_a_block_does(genes in genes(), seed: u64, a in 0u8..64, b in 0u8..64) {
        check(&genes, seed, Passes::ALL, ALL_LIVE);
        check(&genes, seed, Passes::ALL, [FlagMask(a), FlagMask(b)]);
        check(&genes, seed, Passes::ALL.without(Passes::FLAGS), ALL_LIVE);
    }

    #[test]
    fn optimising_twice_is_harmless(genes in genes(), seed: u64) {
        let before = random_block(&genes);
        let mut after = before.clone();
        let mut scratch = Scratch::new();
        opt::optimize(&mut after, &mut scratch, Passes::ALL, ALL_LIVE);
        opt::optimize(&mut after, &mut scratch, Passes::ALL, ALL_LIVE);
        check_verified(&after, "optimised twice");
        prop_assert_eq!(evaluate(&before, seed), evaluate(&after, seed));
    }

    #[test]
    fn text_round_trips(genes in genes(), seed: u64, optimised: bool) {
        let mut block = random_block(&genes);
        if optimised {
            opt::optimize(&mut block, &mut Scratch::new(), Passes::ALL, ALL_LIVE);
        }
        let text = print(&block, &NoNames);
        let again = parse(&text, &NoNames).unwrap_or_else(|e| panic!("{e}\n{text}"));
        prop_assert_eq!(&print(&again, &NoNames), &text);
        check_verified(&again, "parsed");
        prop_assert_eq!(evaluate(&block, seed), evaluate(&again, seed));
    }
}
