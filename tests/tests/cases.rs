//! The `case` lines of the tables on every engine: one test over all instructions.
//!
//! A case gives the bytes, what differs from the default machine before, and what differs after. Everything
//! else must be unchanged: registers, segments, memory, flags outside the flags clause. A HLT stands where
//! the insn leads, so what is compared is the state after it; an exception ends at the HLT of its handler.

use std::collections::BTreeSet;
use std::path::Path;

use isa_spec::model::{Case, CaseItem, Insn, Isa, Maker};
use stele_tests::{Bench, Ending, Engine, GPR_NAMES, SEG_NAMES, Snapshot, model_of, setup, wide};
use x86::decode::{Features, decode};
use x86::flags;
use x86::insn::CodeSize;
use x86::state::CpuState;

/// Where an insn stands unless the case says so.
const DEFAULT_IP: u64 = 0x8000;
/// No case takes more passes than this (a repeated string iterates), nor reads more code.
const MAX_STEPS: u32 = 100;
const HLT: u8 = 0xF4;
/// DF beside the six `FlagMask` bits.
const DF: u8 = 64;

/// A case on its way.
struct Trial<'a> {
    isa: &'a Isa,
    insn: &'a Insn,
    case: &'a Case,
    /// Where the insn stands.
    start: u64,
}

/// Registers by name, read or written.
fn register(s: &mut CpuState, name: &str, value: Option<u64>) -> u64 {
    const BYTES: [&str; 8] = ["al", "cl", "dl", "bl", "ah", "ch", "dh", "bh"];
    let place = |field: &mut u64, shift: u32, mask: u64| {
        if let Some(value) = value {
            *field = *field & !(mask << shift) | (value & mask) << shift;
        }
        *field >> shift & mask
    };
    if let Some(n) = GPR_NAMES.iter().position(|r| *r == name) {
        return place(&mut s.gpr[n], 0, if n < 8 { 0xFFFF_FFFF } else { u64::MAX });
    }
    let words = &GPR_NAMES[..8];
    if let Some(n) = words.iter().position(|r| name.strip_prefix('r') == Some(&r[1..])) {
        return place(&mut s.gpr[n], 0, u64::MAX);
    }
    if let Some(n) = words.iter().position(|r| &r[1..] == name) {
        return place(&mut s.gpr[n], 0, 0xFFFF);
    }
    if let Some(n) = BYTES.iter().position(|r| *r == name) {
        return place(&mut s.gpr[n & 3], if n >= 4 { 8 } else { 0 }, 0xFF);
    }
    if let Some(n) = SEG_NAMES.iter().position(|r| *r == name) {
        s.seg[n].selector = value.map_or(s.seg[n].selector, |v| v as u16);
        return u64::from(s.seg[n].selector);
    }
    match name {
        "rip" => place(&mut s.pc, 0, u64::MAX),
        "eip" | "ip" => place(&mut s.pc, 0, 0xFFFF_FFFF),
        "cr0" => place(&mut s.cr0, 0, 0xFFFF_FFFF),
        "cr2" => place(&mut s.cr2, 0, 0xFFFF_FFFF),
        "cr3" => place(&mut s.cr3, 0, 0xFFFF_FFFF),
        "cr4" => place(&mut s.cr4, 0, 0xFFFF_FFFF),
        "ldtr" | "tr" => {
            let seg = if name == "tr" { &mut s.tr } else { &mut s.ldtr };
            seg.selector = value.map_or(seg.selector, |v| v as u16);
            u64::from(seg.selector)
        }
        _ => panic!("a case names the register `{name}`, which this test does not know"),
    }
}

/// `FlagMask` bits and [`DF`] as EFLAGS.
fn eflags_of(mask: u8) -> u32 {
    ir::FlagMask(mask & 63).eflags() | if mask & DF != 0 { flags::DF } else { 0 }
}

/// Vector of an exception by its name in the manual.
fn vector_of(name: &str) -> u8 {
    const NAMES: [(&str, u8); 14] = [
        ("DE", 0),
        ("DB", 1),
        ("BP", 3),
        ("OF", 4),
        ("BR", 5),
        ("UD", 6),
        ("NM", 7),
        ("TS", 10),
        ("NP", 11),
        ("SS", 12),
        ("GP", 13),
        ("PF", 14),
        ("MF", 16),
        ("AC", 17),
    ];
    NAMES.iter().find(|(n, _)| *n == name).map_or(0xFF, |(_, vector)| *vector)
}

fn apply(bench: &mut Bench, items: &[CaseItem]) {
    for item in items {
        match item {
            CaseItem::Reg(name, value) => {
                register(&mut bench.cpu_mut().state, name, Some(*value));
            }
            CaseItem::Mem(bits, at, value) => {
                bench.poke(*at, &value.to_le_bytes()[..*bits as usize / 8]);
            }
            CaseItem::Flags(mask) => bench.cpu_mut().state.set_eflags(eflags_of(*mask)),
            CaseItem::Raises(..) => {}
            CaseItem::Wide(name, value) => {
                assert!(wide::set(&mut bench.cpu_mut().state, name, *value), "no `{name}`");
            }
            CaseItem::WideMem(bits, at, value) => {
                bench.poke(*at, &wide_bytes(value)[..*bits as usize / 8]);
            }
        }
    }
}

fn wide_bytes(value: &[u64; 4]) -> Vec<u8> {
    value.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Trial<'_> {
    fn raises(&self) -> Option<(&str, Option<u32>)> {
        self.case.outputs.iter().find_map(|item| match item {
            CaseItem::Raises(name, code) => Some((name.as_str(), *code)),
            _ => None,
        })
    }

    /// Instruction pointer after the insn.
    fn end(&self) -> u64 {
        instruction_pointer(&self.case.outputs).unwrap_or(self.start + self.case.bytes.len() as u64)
    }

    /// A jump to itself leaves no place for a HLT: only the evaluator can be stopped after one pass.
    fn is_endless(&self) -> bool {
        self.raises().is_none() && self.end() == self.start
    }

    /// Does the insn use one of these parts of FP and vector state?
    fn uses(&self, parts: &[&str]) -> bool {
        let all = &self.isa.insns;
        let mut rows = self.isa.rows.iter().filter(|row| all[row.insn].name == self.insn.name);
        rows.any(|row| parts.iter().any(|part| row.attrs.has(part)))
    }

    /// Makes the machine ready to run the case; what it should be like in the end.
    fn prepare(&self, bench: &mut Bench) -> Snapshot {
        bench.clear();
        assert!(bench.cpu().ram.fill(0, 1 << 20, 0), "the lowest MiB is memory");
        setup::flat(bench, self.case.mode);
        if self.uses(&["x87", "mmx", "sse", "avx"]) {
            // Before the control word is set: x87 registers are empty.
            bench.cpu_mut().state.fpu.0.fill(0);
            setup::vectors(bench);
        }
        apply(bench, &self.case.inputs);
        bench.cpu_mut().state.pc = self.start;
        bench.poke(self.start, &self.case.bytes);
        if self.raises().is_none() && !self.is_endless() {
            bench.poke(self.end(), &[HLT]);
        }
        bench.settle();
        self.expect(bench)
    }

    /// The state after the insn and its HLT. After an exception: the state before the insn.
    fn expect(&self, before: &Bench) -> Snapshot {
        let mut expected = before.snapshot();
        if self.raises().is_some() {
            return expected;
        }
        let mut written = self.insn.flags.written;
        written |= if self.insn.flags.system_written { DF } else { 0 };
        expected.eflags &= !eflags_of(written);
        let mut state = before.cpu().state.clone();
        for item in &self.case.outputs {
            match item {
                CaseItem::Reg(name, value) => {
                    register(&mut state, name, Some(*value));
                }
                CaseItem::Mem(bits, at, value) => {
                    let (at, len) = (*at as usize, *bits as usize / 8);
                    expected.memory[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
                }
                CaseItem::Flags(mask) => expected.eflags |= eflags_of(mask & written),
                CaseItem::Wide(name, value) => {
                    wide::set(&mut state, name, *value);
                }
                CaseItem::Raises(..) => {}
                CaseItem::WideMem(bits, at, value) => {
                    let (at, len) = (*at as usize, *bits as usize / 8);
                    expected.memory[at..at + len].copy_from_slice(&wide_bytes(value)[..len]);
                }
            }
        }
        (expected.ymm, expected.mxcsr) = (state.ymm, state.mxcsr);
        expected.gpr = state.gpr;
        expected.seg = state.seg;
        expected.system = [state.ldtr, state.tr];
        expected.cr = [state.cr0, state.cr2, state.cr3, state.cr4];
        expected.pc = self.end();
        if !self.is_endless() {
            expected.pc += 1;
            expected.is_halted = true;
        }
        expected
    }

    /// Runs the case; what is wrong, if anything.
    fn check(&self, engine: Engine, bench: &mut Bench) -> Result<(), String> {
        let mut expected = self.prepare(bench);
        let ending = if self.is_endless() {
            bench.run_steps(1, |_| ());
            Ending::Halted
        } else if engine == Engine::Evaluator {
            bench.run_steps(MAX_STEPS, |_| ())
        } else {
            bench.run()
        };
        let mut found = bench.snapshot();
        let mut wrong = Vec::new();
        if ending != Ending::Halted {
            wrong.push(format!("ended in {ending:?}"));
        } else if let Some((name, code)) = self.raises() {
            wrong.extend(self.unwind(bench, &expected, &mut found, (name, code)).err());
        } else {
            let undefined = eflags_of(self.insn.flags.undefined);
            found.eflags &= !undefined;
            expected.eflags &= !undefined;
            allow_unnamed(&mut expected, &found);
            if self.uses(&["x87", "mmx"]) {
                // Stack, tags and pointers; registers that the case names are looked at below.
                expected.fpu = found.fpu;
                expected.fpu_last = found.fpu_last;
            }
        }
        if wrong.is_empty() {
            wrong = expected.differences(&found);
        }
        if wrong.is_empty() && self.raises().is_none() {
            wrong.extend(self.wrong_registers(bench));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let file = &self.isa.files[usize::from(self.case.pos.file)].0;
        let (line, name, bytes) = (self.case.pos.line, &self.insn.name, &self.case.bytes);
        Err(format!("{file}:{line} {name} {bytes:02x?} on {engine:?}\n  {}", wrong.join("\n  ")))
    }

    /// FP and vector registers that are not as the outputs say.
    fn wrong_registers(&self, bench: &Bench) -> Vec<String> {
        let listed = self.case.outputs.iter().filter_map(|item| match item {
            CaseItem::Wide(name, value) => Some((name, *value)),
            _ => None,
        });
        listed
            .filter_map(|(name, want)| {
                let found = wide::get(&bench.cpu().state, name)?;
                (found != want).then(|| format!("{name}: {found:x?} instead of {want:x?}"))
            })
            .collect()
    }

    /// Checks the exception frame and takes the exception back: `found` becomes the state before it.
    fn unwind(
        &self,
        bench: &Bench,
        before: &Snapshot,
        found: &mut Snapshot,
        (name, code): (&str, Option<u32>),
    ) -> Result<(), String> {
        let vector = setup::vector_reached(bench);
        if vector != Some(vector_of(name)) {
            return Err(format!("halted after vector {vector:?} instead of #{name}"));
        }
        let mask = if self.case.mode == 16 { 0xFFFF } else { u64::MAX };
        let top = found.gpr[4] & mask;
        // In 64-bit mode the frame holds the stack pointer, too.
        let (size, slots) = if self.case.mode == 64 { (8, 5) } else { (4, 3) };
        let frame = bench.peek(top, size * (slots + 1));
        let mut words = frame.chunks_exact(size).map(number);
        if let Some(code) = code {
            let pushed = words.next();
            if pushed != Some(code.into()) {
                return Err(format!("error code {pushed:x?} instead of {code:#x}"));
            }
        }
        let image: Vec<u64> = words.take(slots).collect();
        if image[0] != self.start {
            return Err(format!("raised at {:#x}", image[0]));
        }
        let depth = size * (slots + usize::from(code.is_some()));
        let stack = top as usize..top as usize + depth;
        found.memory[stack.clone()].copy_from_slice(&before.memory[stack]);
        let sp = image.get(3).copied().unwrap_or(top + depth as u64);
        found.gpr[4] = found.gpr[4] & !mask | sp & mask;
        found.eflags = image[2] as u32 & !flags::RF;
        (found.pc, found.is_halted, found.seg) = (before.pc, false, before.seg);
        Ok(())
    }
}

/// A little-endian number.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The instruction pointer among the inputs or outputs of a case.
fn instruction_pointer(items: &[CaseItem]) -> Option<u64> {
    items.iter().find_map(|item| match item {
        CaseItem::Reg(name, value) if matches!(name.as_str(), "rip" | "eip" | "ip") => Some(*value),
        _ => None,
    })
}

/// Are these bytes an instruction that runs natively and that this host lacks?
fn is_beyond_host(case: &Case) -> bool {
    let size = match case.mode {
        16 => CodeSize::Bits16,
        32 => CodeSize::Bits32,
        _ => CodeSize::Bits64,
    };
    let row = |features| decode(&case.bytes, size, features).map(|insn| insn.row);
    let offered = model_of(case.maker).features();
    let all = Features { maker: offered.maker, ..Features::ALL };
    let known = row(&all);
    known.is_ok() && row(&offered) != known
}

/// Leaves out what a case has no words for: descriptor caches, system flags.
fn allow_unnamed(expected: &mut Snapshot, found: &Snapshot) {
    let pairs = expected.seg.iter_mut().zip(&found.seg);
    for (want, got) in pairs.chain(expected.system.iter_mut().zip(&found.system)) {
        *want = x86::state::Segment { selector: want.selector, ..*got };
    }
    expected.eflags = expected.eflags & !flags::SYSTEM | found.eflags & flags::SYSTEM;
}

#[test]
fn cases_of_the_tables_hold_on_every_engine() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../isa-spec/x86");
    let isa = isa_spec::load(&folder).unwrap_or_else(|errors| panic!("{errors}"));
    let mut failures = Vec::new();
    let (mut count, mut skipped) = (0, BTreeSet::new());
    let benches = |maker| Engine::ALL.map(|engine| (engine, Bench::of(engine, model_of(maker))));
    let (mut of_intel, mut of_amd) = (benches(Maker::Intel), benches(Maker::Amd));
    for insn in &isa.insns {
        for case in &insn.cases {
            if is_beyond_host(case) {
                skipped.insert(insn.name.as_str());
                continue;
            }
            let start = instruction_pointer(&case.inputs).unwrap_or(DEFAULT_IP);
            let trial = Trial { isa: &isa, insn, case, start };
            count += 1;
            let benches = match case.maker {
                Maker::Intel => &mut of_intel,
                Maker::Amd => &mut of_amd,
            };
            let engines = if trial.is_endless() { 1 } else { benches.len() };
            for (engine, bench) in &mut benches[..engines] {
                failures.extend(trial.check(*engine, bench).err());
            }
        }
    }
    assert!(count > 0, "the tables hold no case");
    if !skipped.is_empty() {
        eprintln!("skipped, since this host lacks them: {skipped:?}");
    }
    let (text, failed) = (failures.join("\n"), failures.len());
    assert!(failures.is_empty(), "{text}\n{failed} runs of {count} cases fail");
}
