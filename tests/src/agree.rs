//! When a program's outcome may be compared: what the evaluator makes of it, and what another engine does otherwise.
//!
//! The evaluator runs one insn at a time and so also tells which flags are undefined when: a program that comes to depend on one says
//! nothing, undefined ones at the end are not compared. Neither does one that does not end.

use x86::cpu::Cpu;
use x86::decode::{Features, MAX_LEN, decode};
use x86::front::code_size;
use x86::insn::prefix;

use crate::program::FICKLE;
use crate::{Bench, Ending, Snapshot, setup};

/// Insns after which a program is taken to be endless.
pub const STEP_LIMIT: u32 = 600;

/// Arithmetic flags, as `FlagMask` bits, that are undefined at the moment.
#[derive(Default)]
pub struct Taint {
    now: u8,
    /// Before the last insn: a fault takes the insn's effect back.
    earlier: u8,
    /// The program depends on what is not defined.
    is_poisoned: bool,
    /// The insn before, if it was a repeated one: its place and bytes.
    repeated: Option<(u64, [u8; MAX_LEN])>,
}

impl Taint {
    /// The insn at the instruction pointer is about to run, unless the CPU has stopped.
    pub fn before(&mut self, cpu: &mut Cpu) {
        // When a repeated insn notices that it overwrote itself is not said anywhere.
        let old = self.repeated.take();
        self.is_poisoned |= old.is_some_and(|(pc, bytes)| code_at(cpu, pc) != bytes);
        if cpu.state.halted != 0 || cpu.shutdown {
            return;
        }
        if is_handler(cpu) {
            self.at_look(); // an exception pushed them
        }
        let (pc, bytes) = (cpu.state.pc, code_at(cpu, cpu.state.pc));
        let Ok(insn) = decode(&bytes, code_size(cpu.mode()), &Features::ALL) else { return };
        if insn.prefixes & (prefix::REP | prefix::REPNE) != 0 {
            self.repeated = Some((pc, bytes));
        }
        let row = insn.info();
        self.is_poisoned |= self.now & row.reads != 0 || FICKLE.contains(&row.name);
        self.earlier = self.now;
        self.now = self.now & !row.writes | row.undefined;
    }
    /// All flags are looked at, by an interrupt or a comparison.
    pub fn at_look(&mut self) {
        self.is_poisoned |= self.now | self.earlier != 0;
    }
    /// Does the program depend on what is not defined?
    pub fn is_poisoned(&self) -> bool {
        self.is_poisoned
    }
}

fn is_handler(cpu: &Cpu) -> bool {
    let handlers = match cpu.is_protected() {
        true => setup::at::HANDLERS..setup::at::HANDLERS + 0x1000,
        false => setup::at::REAL_HANDLERS..setup::at::REAL_HANDLERS + 0x100,
    };
    handlers.contains(&cpu.lin_pc(cpu.state.pc).0)
}

/// The bytes at an instruction pointer, without side effects; ones where there is no memory, as the bus reads.
pub fn code_at(cpu: &mut Cpu, pc: u64) -> [u8; MAX_LEN] {
    let mut bytes = [0xFF; MAX_LEN];
    for (i, byte) in (0..).zip(&mut bytes) {
        let lin = cpu.lin_pc(pc.wrapping_add(i));
        if let Some(phys) = cpu.peek_phys(lin)
            && let Some(off) = cpu.map.ram_offset(phys)
        {
            *byte = cpu.ram.read(off, mem::Size::B1).unwrap_or(0) as u8;
        }
    }
    bytes
}

/// What the evaluator made of a program.
pub struct Reference {
    /// How it ended.
    pub ending: Ending,
    /// Everything else.
    pub snapshot: Snapshot,
    /// EFLAGS bits that are undefined in the end.
    pub undefined: u32,
    /// Insns run.
    pub steps: u32,
}

/// Runs a program on the evaluator; `None` if its outcome says nothing.
pub fn evaluate(bench: &mut Bench) -> Option<Reference> {
    let mut taint = Taint::default();
    let mut steps = 0;
    let ending = bench.run_steps(STEP_LIMIT, |cpu| {
        taint.before(cpu);
        steps += 1;
    });
    if taint.is_poisoned || ending == Ending::Endless {
        return None;
    }
    // A shutdown is a fault that could not be delivered.
    let mask = if ending == Ending::Shutdown { taint.now | taint.earlier } else { taint.now };
    let undefined = ir::FlagMask(mask & 63).eflags();
    Some(Reference { ending, snapshot: bench.snapshot(), undefined, steps })
}

/// What an engine does otherwise than the evaluator.
pub fn compare(reference: &Reference, ending: Ending, mut found: Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    if ending != reference.ending {
        wrong.push(format!("ended in {ending:?} instead of {:?}", reference.ending));
    }
    let kept = reference.snapshot.eflags & reference.undefined;
    found.eflags = found.eflags & !reference.undefined | kept;
    wrong.extend(reference.snapshot.differences(&found));
    wrong
}
