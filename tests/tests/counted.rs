//! Counted runs (`-icount`) of random programs: every engine stands at the same place with the same registers after the same
//! number of insns, sees the same time, and takes interrupts at the same insns.
//!
//! Seeds as in `random_programs.rs`: `STELE_SEED`, `STELE_PROGRAMS`.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use mem::{Bus, Ns, Phys, Port, Size};
use stele::vcpu::{Stretch, VcpuExit};
use stele_tests::agree::Taint;
use stele_tests::program::{Generator, Rows};
use stele_tests::setup::TIMER_VECTOR;
use stele_tests::world::{Kind, World};
use stele_tests::{Bench, Engine, Rng, Snapshot};

/// Programs of each kind unless `STELE_PROGRAMS` says otherwise.
const PROGRAMS: u64 = 60;
/// Insns after which a program ends.
const LIMIT: u64 = 500;
const SHIFT: u8 = 3;

/// A bus on which everything reads as the time and writes note it.
#[derive(Default)]
struct Clock {
    now: Ns,
    is_raised: bool,
    /// The time of every access.
    seen: Vec<Ns>,
}

#[derive(Clone, Default)]
struct Timed(Rc<RefCell<Clock>>);

impl Timed {
    fn read(&self) -> u64 {
        let mut clock = self.0.borrow_mut();
        let now = clock.now;
        clock.seen.push(now);
        now
    }
}

impl Bus for Timed {
    fn port_in(&mut self, _: Port, size: Size) -> u64 {
        self.read() & size.mask()
    }
    fn port_out(&mut self, _: Port, _: Size, value: u64) {
        self.read();
        // A device that asks for attention at once.
        self.0.borrow_mut().is_raised |= value & 1 != 0;
    }
    fn mmio_read(&mut self, _: Phys, size: Size) -> u64 {
        // Fetches come here, too, and how often code is fetched depends on the engine.
        size.mask()
    }
    fn mmio_write(&mut self, _: Phys, _: Size, _: u64) {
        self.read();
    }
    fn intr(&self) -> bool {
        self.0.borrow().is_raised
    }
    fn inta(&mut self) -> u8 {
        self.read();
        self.0.borrow_mut().is_raised = false;
        TIMER_VECTOR
    }
    fn tsc(&mut self) -> u64 {
        self.read()
    }
    fn advance_to(&mut self, now: Ns) {
        self.0.borrow_mut().now = now;
    }
    fn a20(&self) -> bool {
        true
    }
}

/// What is compared: registers after each stretch, the times seen, and everything at the end.
#[derive(PartialEq)]
struct Course {
    stretches: Vec<(u64, u64, u64, Option<VcpuExit>)>,
    seen: Vec<Ns>,
    end: Snapshot,
}

/// Runs a program in stretches that the seed decides, with an interrupt between some. The evaluator runs insn by insn, and so tells
/// whether it comes to depend on undefined flags.
fn course(
    engine: Engine,
    world: &World,
    code: &[u8],
    seed: u64,
    mut taint: Option<&mut Taint>,
) -> Course {
    let mut config = engine.config();
    config.counted = true;
    let bus = Timed::default();
    let mut bench = Bench::with_bus(config, Bench::wanted_log(), Box::new(bus.clone()));
    world.enter(&mut bench, code);
    let mut rng = Rng::new(!seed);
    let (mut at, mut stretches) = (0, Vec::new());
    while at < LIMIT {
        let insns = 1 + rng.below(40) as u32;
        let mut done = 0;
        let mut exit = None;
        while done < insns && exit.is_none() {
            let start_ns = (at + u64::from(done)) << SHIFT;
            let insns = if taint.is_some() { 1 } else { insns - done };
            let rest = Stretch { start_ns, shift: SHIFT, insns };
            if let Some(taint) = &mut taint {
                taint.before(bench.cpu_mut());
            }
            let (why, ran) = bench.vcpu.run_counted(rest);
            done += ran;
            exit = why.filter(|&why| why != VcpuExit::Kick);
        }
        at += u64::from(done);
        if let Some(taint) = &mut taint {
            taint.at_look();
        }
        stretches.push((at, bench.cpu().state.pc, bench.cpu().state_hash(), exit));
        let interrupt = rng.once_in(3);
        bus.0.borrow_mut().is_raised |= interrupt;
        if exit == Some(VcpuExit::Shutdown) || exit.is_some() && !interrupt {
            break;
        }
        if exit.is_some() {
            at += 1; // nothing happens while the CPU is halted
        }
    }
    let seen = std::mem::take(&mut bus.0.borrow_mut().seen);
    Course { stretches, seen, end: bench.snapshot() }
}

/// The first difference, in words.
fn difference(reference: &Course, found: &Course) -> Option<String> {
    if reference == found {
        return None;
    }
    let pairs = reference.stretches.iter().zip(&found.stretches);
    let at = pairs.take_while(|(a, b)| a == b).count();
    let side = |course: &Course| format!("{:x?}", course.stretches.get(at));
    let same = reference.seen.iter().zip(&found.seen).take_while(|(a, b)| a == b).count();
    let seen = (same, reference.seen.get(same), found.seen.get(same));
    let wrong = reference.end.differences(&found.end).join("\n  ");
    Some(format!(
        "stretch {at}: {} instead of {}; access {seen:?}; end:\n  {wrong}",
        side(found),
        side(reference)
    ))
}

fn check(kind: Kind, default_seed: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let first = number("STELE_SEED").unwrap_or(default_seed);
    let count = number("STELE_PROGRAMS").unwrap_or(PROGRAMS);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../isa-spec/x86");
    let isa = isa_spec::load(&folder).unwrap_or_else(|errors| panic!("{errors}"));
    let rows = Rows::new(&isa);
    let mut compared = 0;
    for seed in first..first + count {
        let mut rng = Rng::new(seed);
        let mut world = World::new(kind, &mut rng);
        world.flags |= 1 << 9;
        let len = 5 + rng.below(26);
        let code = Generator::new(&isa, &rows, &world, &mut rng).program(len);
        let mut taint = Taint::default();
        let reference = course(Engine::Evaluator, &world, &code, seed, Some(&mut taint));
        if taint.is_poisoned() {
            continue;
        }
        compared += 1;
        for engine in Engine::ALL {
            if let Some(text) = difference(&reference, &course(engine, &world, &code, seed, None)) {
                panic!("{kind:?}, STELE_SEED={seed}, {engine:?}: {text}");
            }
        }
    }
    assert!(compared > count / 4 || count < 8, "{kind:?}: only {compared} programs are worth it");
}

#[test]
fn real_mode_programs_take_the_same_time() {
    check(Kind::Real, 0);
}

#[test]
fn paged_programs_take_the_same_time() {
    check(Kind::Paged, 2 << 32);
}

#[test]
fn flat_programs_take_the_same_time() {
    check(Kind::Flat, 1 << 32);
}

#[test]
fn segmented_programs_take_the_same_time() {
    check(Kind::Segmented32, 3 << 32);
    check(Kind::Segmented16, 4 << 32);
}

#[test]
fn vm86_programs_take_the_same_time() {
    check(Kind::Vm86, 5 << 32);
}

#[test]
fn long_mode_programs_take_the_same_time() {
    check(Kind::Long, 6 << 32);
    check(Kind::Compatible, 7 << 32);
}

#[test]
fn a_fill_over_its_own_insn_ends_at_the_same_element() {
    // cld; call next; next: pop edi; sub edi, 16; mov ecx, 64; mov al, 90h; rep stosb; hlt
    let code = [
        0xFC, 0xE8, 0, 0, 0, 0, 0x5F, 0x83, 0xEF, 16, 0xB9, 64, 0, 0, 0, 0xB0, 0x90, 0xF3, 0xAA,
        0xF4,
    ];
    let world = World::new(Kind::Flat, &mut Rng::new(1));
    let reference = course(Engine::Evaluator, &world, &code, 1, None);
    assert!(reference.end.gpr[1] & 0xFFFF > 30, "the insn is gone long before the count is");
    for engine in Engine::ALL {
        let found = course(engine, &world, &code, 1, None);
        assert_eq!(difference(&reference, &found), None, "{engine:?}");
    }
}
