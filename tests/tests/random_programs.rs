//! Random programs on every engine: same registers, memory, flags and faults as the evaluator.
//!
//! The evaluator runs one insn at a time and so also tells which flags are undefined when: a program that comes to depend
//! on one is dropped, undefined ones at the end are not compared. Loops without end are dropped too. Everything comes
//! from a seed, which a failure prints: `STELE_SEED=n STELE_PROGRAMS=1` runs that program alone, and with
//! `STELE_LOG=in_asm,op_opt,out_asm` the failing engine's log of it goes to stderr.

use std::fmt::Write as _;
use std::path::Path;

use ir::opt::Passes;
use stele::log::Log;
use stele::vcpu::VcpuConfig;
use stele_tests::agree::{STEP_LIMIT, code_at, compare, evaluate};
use stele_tests::program::{Generator, Rows};
use stele_tests::world::{Kind, World};
use stele_tests::{Bench, Engine, Rng};
use x86::decode::{Features, MAX_LEN, decode};
use x86::disasm::{Syntax, format};
use x86::front::code_size;

/// Programs of a test unless `STELE_PROGRAMS` says otherwise.
const PROGRAMS: u64 = 1500;
/// Benches are used for this many programs, so that one program's leavings can trouble the next.
const BATCH: u64 = 100;

/// How a program was run, and what came out differently.
type Found = (VcpuConfig, Vec<String>);

/// One bench for each engine; on some blocks are cut short, or passes left out.
struct Benches(Vec<(VcpuConfig, Bench)>);

impl Benches {
    fn new(rng: &mut Rng) -> Self {
        let bench = |engine: Engine| {
            let mut config = engine.config();
            config.max_insns = *rng.pick(&[64, 64, 5, 1]);
            config.nochain = rng.once_in(6);
            config.lag = Some(*rng.pick(&[0, 0, 1, 2, 5]));
            if config.passes == Passes::ALL && rng.once_in(3) {
                let some = Passes::NAMES.iter().filter(|_| rng.once_in(2));
                config.passes = some.fold(Passes::NONE, |set, (_, pass)| set.with(*pass));
            }
            (config.clone(), Bench::with_gap(config, Log::off()))
        };
        Self(Engine::ALL.map(bench).into())
    }

    /// Runs a program everywhere; the first difference, and how many insns the evaluator ran (0: dropped).
    fn run(&mut self, world: &World, code: &[u8]) -> Result<u32, Found> {
        let ((_, evaluator), others) = self.0.split_first_mut().expect("the evaluator is first");
        world.enter(evaluator, code);
        let Some(reference) = evaluate(evaluator) else { return Ok(0) };
        for (config, bench) in others {
            world.enter(bench, code);
            let ending = bench.run();
            let wrong = compare(&reference, ending, bench.snapshot());
            if !wrong.is_empty() {
                return Err((config.clone(), wrong));
            }
        }
        Ok(reference.steps)
    }
}

/// Seeds and length of a test run.
struct Plan {
    first: u64,
    count: u64,
}

impl Plan {
    fn new(default_seed: u64) -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
        Self {
            first: number("STELE_SEED").unwrap_or(default_seed),
            count: number("STELE_PROGRAMS").unwrap_or(PROGRAMS),
        }
    }
}

/// A seed's world and program.
fn generate(isa: &isa_spec::model::Isa, rows: &Rows, kind: Kind, seed: u64) -> (World, Vec<u8>) {
    let mut rng = Rng::new(seed);
    let world = World::new(kind, &mut rng);
    let len = 5 + rng.below(26);
    let code = Generator::new(isa, rows, &world, &mut rng).program(len);
    (world, code)
}

/// The way the evaluator takes through a program, insn by insn.
fn trace(world: &World, code: &[u8]) -> String {
    let mut bench = Bench::with_gap(Engine::Evaluator.config(), Log::off());
    world.enter(&mut bench, code);
    let mut text = format!("{:x?} start {:#x} flags {:#x}\n", world.kind, world.start, world.flags);
    let _ = writeln!(text, "registers {:x?}", world.gpr);
    let mut last = Vec::new();
    bench.run_steps(STEP_LIMIT, |cpu| {
        let pc = cpu.state.pc;
        let bytes = code_at(cpu, pc);
        let (len, what) = match decode(&bytes, code_size(cpu.mode()), &Features::ALL) {
            Ok(insn) => (insn.len, format(&insn, pc, Syntax::Intel)),
            Err(error) => (MAX_LEN as u8, format!("{error:?}")),
        };
        let bytes = &bytes[..usize::from(len)];
        let flags = cpu.state.eflags();
        let gpr: Vec<String> = cpu.state.gpr.iter().map(|r| format!("{r:x}")).collect();
        last.push(format!("{pc:08x} {bytes:02x?} {what}   [{} {flags:x}]", gpr.join(" ")));
    });
    let shown = if std::env::var_os("STELE_LOG").is_some() { usize::MAX } else { 80 };
    let skipped = last.len().saturating_sub(shown);
    let _ = writeln!(text, "({skipped} insns before)\n{}", last[skipped..].join("\n"));
    text
}

/// Everything about a difference; whether it shows in a program run alone is part of it.
fn report(kind: Kind, seed: u64, world: &World, code: &[u8], (config, wrong): Found) -> String {
    let alone = differences_alone(&config, world, code);
    let verdict = match alone.is_empty() {
        true => format!("not when run alone, see the {} programs before\n", seed % BATCH),
        false => format!("alone:\n  {}\n", alone.join("\n  ")),
    };
    let wrong = wrong.join("\n  ");
    format!("{kind:?}, STELE_SEED={seed}, {config:?}:\n  {wrong}\n{verdict}{}", trace(world, code))
}

fn differences_alone(config: &VcpuConfig, world: &World, code: &[u8]) -> Vec<String> {
    let mut reference = Bench::with_gap(Engine::Evaluator.config(), Log::off());
    world.enter(&mut reference, code);
    let Some(reference) = evaluate(&mut reference) else { return Vec::new() };
    let mut bench = Bench::logging(config.clone());
    world.enter(&mut bench, code);
    let ending = bench.run();
    compare(&reference, ending, bench.snapshot())
}

/// Runs the programs of a kind and asserts that all engines agree.
fn check(kind: Kind, default_seed: u64) {
    const SHOWN: usize = 3;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../isa-spec/x86");
    let isa = isa_spec::load(&folder).unwrap_or_else(|errors| panic!("{errors}"));
    let rows = Rows::new(&isa);
    let plan = Plan::new(default_seed);
    let mut benches = None;
    let (mut run, mut steps, mut failures) = (0, 0, Vec::new());
    for seed in plan.first..plan.first + plan.count {
        if seed.is_multiple_of(BATCH) || benches.is_none() {
            benches = Some(Benches::new(&mut Rng::new(!(seed - seed % BATCH))));
        }
        let benches = benches.as_mut().expect("made above");
        let (world, code) = generate(&isa, &rows, kind, seed);
        match benches.run(&world, &code) {
            Ok(0) => {}
            Ok(n) => (run, steps) = (run + 1, steps + u64::from(n)),
            Err(found) => failures.push(report(kind, seed, &world, &code, found)),
        }
        if failures.len() >= SHOWN {
            break;
        }
    }
    println!("{kind:?}: {run} of {} programs compared, {steps} insns", plan.count);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(run * 3 > plan.count || plan.count < 20, "only {run} programs say anything");
}

#[test]
fn real_mode_programs_agree() {
    check(Kind::Real, 0);
}

#[test]
fn flat_programs_agree() {
    check(Kind::Flat, 1 << 32);
}

#[test]
fn paged_programs_agree() {
    check(Kind::Paged, 2 << 32);
}

#[test]
fn programs_in_32_bit_segments_agree() {
    check(Kind::Segmented32, 3 << 32);
}

#[test]
fn programs_in_16_bit_segments_agree() {
    check(Kind::Segmented16, 4 << 32);
}

#[test]
fn vm86_programs_agree() {
    check(Kind::Vm86, 5 << 32);
}

#[test]
fn long_mode_programs_agree() {
    check(Kind::Long, 6 << 32);
}

#[test]
fn compatibility_mode_programs_agree() {
    check(Kind::Compatible, 7 << 32);
}
