//! Single-instruction cases captured from a real 80286 in real mode, on every engine.
//!
//! The file is not part of the project: `STELE_VECTORS` names it, or it lies in `../shared/vectors` beside the
//! workspace. Without it the test says so and passes, unless `STELE_REQUIRE_ALL` is set. Each case ends at a HLT, behind
//! the instruction or in the handler of the exception it raises. Where later processors differ from the 80286, a rule
//! of [`RULES`] says so; what no rule covers must agree.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use flate2::read::GzDecoder;
use serde_json::Value;
use stele_tests::{Bench, Ending, Engine};
use x86::decode::{Features, MAX_LEN, attr, decode};
use x86::insn::{CodeSize, Form, Insn};
use x86::state::Segment;

/// Cases of the file this was written against, and how many of them say something about later processors.
const KNOWN: (usize, usize) = (26_000, 25_374);
/// No case runs more insns: a repeated string goes through 64 KiB.
const MAX_STEPS: u32 = 70_000;
/// FLAGS bits that are compared. Bits 12 to 15 are the 80286's own in real mode.
const FLAGS_MASK: u32 = 0x0FD5;
/// Registers of the file in the order of [`Case::before`].
const NAMES: [&str; 14] =
    ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "es", "cs", "ss", "ds", "ip", "flags"];
const SP: usize = 4;
const SS: usize = 10;
const FLAGS: usize = 13;

/// One case.
struct Case {
    name: String,
    bytes: Vec<u8>,
    /// What the bytes are to us; `None` = undefined.
    insn: Option<Insn>,
    /// The vector of the exception that ended it.
    exception: Option<u64>,
    before: [u32; 14],
    after: [u32; 14],
    memory_before: Vec<(u64, u8)>,
    memory_after: Vec<(u64, u8)>,
}

impl Case {
    fn parse(line: &str) -> Self {
        let value: Value = serde_json::from_str(line).expect("a case is a JSON object");
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let cells = |name: &str| -> Vec<(u64, u8)> {
            let list = value[name].as_array().map_or(&[][..], |list| list);
            list.iter()
                .map(|cell| (cell[0].as_u64().unwrap(), cell[1].as_u64().unwrap() as u8))
                .collect()
        };
        let hex = text("bytes");
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
            .collect();
        let mut window = [0x90; MAX_LEN];
        let len = bytes.len().min(MAX_LEN);
        window[..len].copy_from_slice(&bytes[..len]);
        let before =
            NAMES.map(|name| value["init"][name].as_u64().expect("all registers are given") as u32);
        let mut after = before;
        for (register, name) in after.iter_mut().zip(NAMES) {
            *register = value["final"][name].as_u64().map_or(*register, |v| v as u32);
        }
        Self {
            name: text("name"),
            insn: decode(&window, CodeSize::Bits16, &Features::ALL).ok(),
            bytes,
            exception: value["exception"].as_u64(),
            before,
            after,
            memory_before: cells("ram"),
            memory_after: cells("final_ram"),
        }
    }

    /// Flags that the tables call undefined after the insn, as EFLAGS bits.
    fn undefined(&self) -> u32 {
        ir::FlagMask(self.insn.map_or(0, |insn| insn.info().undefined)).eflags()
    }

    /// Puts the case into a bench.
    fn enter(&self, bench: &mut Bench) {
        bench.clear();
        for (at, byte) in &self.memory_before {
            bench.poke(*at, &[*byte]);
        }
        if self.exception == Some(13) {
            stack_faults_as_general_protection(bench);
        }
        let s = &mut bench.cpu_mut().state;
        for (register, value) in s.gpr.iter_mut().zip(&self.before[..8]) {
            *register = u64::from(*value);
        }
        for (segment, value) in s.seg.iter_mut().zip(&self.before[8..12]) {
            let (selector, base) = (*value as u16, u64::from(*value) << 4);
            *segment = Segment { selector, attr: 0x93, limit: 0xFFFF, base };
        }
        s.pc = u64::from(self.before[12]);
        s.set_eflags(self.before[FLAGS] & FLAGS_MASK);
        bench.settle();
    }

    /// What differs in a bench that has run the case.
    fn differences(&self, bench: &Bench) -> Vec<String> {
        let mut wrong = Vec::new();
        let mask = FLAGS_MASK & !self.undefined();
        let s = &bench.cpu().state;
        for (n, name) in NAMES.iter().enumerate() {
            let found = match n {
                0..8 => s.gpr[n] as u32 & 0xFFFF,
                8..12 => u32::from(s.seg[n - 8].selector),
                12 => s.pc as u32 & 0xFFFF, // the HLT may be the segment's last byte
                _ => s.eflags() & mask,
            };
            let wanted = if n == FLAGS { self.after[n] & mask } else { self.after[n] };
            if found != wanted {
                wrong.push(format!("{name} is {found:#x} instead of {wanted:#x}"));
            }
        }
        let pushed = self.pushed_flags();
        let mut expected: BTreeMap<u64, u8> = self.memory_before.iter().copied().collect();
        expected.extend(self.memory_after.iter().copied());
        for (at, wanted) in expected {
            let found = bench.peek(at, 1)[0];
            let ignored = match pushed.and_then(|start| at.checked_sub(start)) {
                Some(0) => !mask as u8,
                Some(1) => (!mask >> 8) as u8,
                _ => 0,
            };
            if (found ^ wanted) & !ignored != 0 {
                wrong.push(format!("m8[{at:#x}] is {found:#x} instead of {wanted:#x}"));
            }
        }
        wrong
    }

    /// Where an exception or PUSHF stored FLAGS, which have the 80286's bits 12 to 15.
    fn pushed_flags(&self) -> Option<u64> {
        let depth = match self.exception {
            Some(_) => 4,
            None if self.insn.is_some_and(|insn| insn.info().name == "PUSHF") => 0,
            None => return None,
        };
        let sp = self.after[SP].wrapping_add(depth) & 0xFFFF;
        Some(u64::from(self.after[SS] << 4) + u64::from(sp))
    }
}

/// The 80286 reports a stack operand beyond the limit as #GP in real mode, later processors as #SS: one handler for both.
fn stack_faults_as_general_protection(bench: &Bench) {
    bench.poke(4 * 12, &bench.peek(4 * 13, 4));
}

/// A known difference of the 80286; whether a case shows it.
type Rule = (&'static str, fn(&Case) -> bool);

/// Why cases are left out. The first that applies counts.
const RULES: [Rule; 5] = [
    ("undefined on the 80286, an instruction later", is_undefined_on_the_286),
    ("LOCK where later processors raise #UD", is_lock_refused_later),
    ("longer than the 80286's ten bytes", is_too_long_for_the_286),
    ("no coprocessor here", is_for_the_coprocessor),
    ("rSI and rDI already stepped when a string access faults", is_faulting_string),
];

fn is_undefined_on_the_286(case: &Case) -> bool {
    case.exception == Some(6) && case.insn.is_some()
}

fn is_lock_refused_later(case: &Case) -> bool {
    const PREFIXES: [u8; 7] = [0x26, 0x2E, 0x36, 0x3E, 0xF0, 0xF2, 0xF3];
    let mut prefixes = case.bytes.iter().take_while(|byte| PREFIXES.contains(byte));
    case.insn.is_none() && prefixes.any(|byte| *byte == 0xF0)
}

fn is_too_long_for_the_286(case: &Case) -> bool {
    case.insn.is_some_and(|insn| insn.len > 10)
}

fn is_for_the_coprocessor(case: &Case) -> bool {
    let is_escape =
        |insn: Insn| insn.info().attrs & attr::NOACCESS != 0 && insn.info().name == "ESC";
    case.insn.is_some_and(is_escape)
}

fn is_faulting_string(case: &Case) -> bool {
    let is_string = |form: &Form| matches!(form, Form::X(_) | Form::Y(_));
    case.exception == Some(13)
        && case.insn.is_some_and(|insn| insn.info().forms.iter().any(is_string))
}

/// Where the cases are, if they are.
fn path() -> Option<PathBuf> {
    let named = std::env::var_os("STELE_VECTORS").map(PathBuf::from);
    let path = named.unwrap_or_else(|| {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/real286.jsonl.gz"))
    });
    let is_there = path.exists();
    assert!(
        is_there || std::env::var_os("STELE_REQUIRE_ALL").is_none(),
        "STELE_REQUIRE_ALL is set, and {} is missing",
        path.display()
    );
    if !is_there {
        println!("SKIPPED: no hardware vectors; STELE_VECTORS names real286.jsonl.gz");
    }
    is_there.then_some(path)
}

/// What an engine did with the cases.
#[derive(Default)]
struct Tally {
    total: usize,
    agreed: usize,
    skipped: BTreeMap<&'static str, usize>,
    failures: Vec<String>,
}

impl Tally {
    fn run(&mut self, case: &Case, engine: Engine, bench: &mut Bench) {
        self.total += 1;
        if let Some((reason, _)) = RULES.iter().find(|(_, applies)| applies(case)) {
            *self.skipped.entry(reason).or_default() += 1;
            return;
        }
        case.enter(bench);
        let ending = match engine {
            Engine::Evaluator => bench.run_steps(MAX_STEPS, |_| ()),
            _ => bench.run(),
        };
        let mut wrong = case.differences(bench);
        if ending != Ending::Halted {
            wrong.push(format!("ended in {ending:?}"));
        }
        if wrong.is_empty() {
            self.agreed += 1;
        } else {
            let Case { name, bytes, exception, .. } = case;
            let list = wrong.join(", ");
            self.failures.push(format!("`{name}` {bytes:02x?} exception {exception:?}: {list}"));
        }
    }

    fn assert_clean(&self, engine: Engine) {
        const SHOWN: usize = 30;
        let Self { total, agreed, skipped, failures } = self;
        println!("{engine:?}: {agreed} of {total} agree, by rule skipped: {skipped:?}");
        let shown = failures[..failures.len().min(SHOWN)].join("\n");
        assert!(failures.is_empty(), "{engine:?}: {} cases differ\n{shown}", failures.len());
        assert!(*total != KNOWN.0 || *agreed >= KNOWN.1, "fewer cases than before say anything");
    }
}

fn check(engine: Engine) {
    let Some(path) = path() else { return };
    let file = BufReader::new(GzDecoder::new(File::open(path).unwrap()));
    let mut bench = Bench::new(engine);
    let mut tally = Tally::default();
    for line in file.lines() {
        tally.run(&Case::parse(&line.unwrap()), engine, &mut bench);
    }
    tally.assert_clean(engine);
}

#[test]
fn the_evaluator_agrees_with_a_real_80286() {
    check(Engine::Evaluator);
}

#[test]
fn compact_host_code_agrees_with_a_real_80286() {
    check(Engine::Compact);
}

#[test]
fn optimised_host_code_agrees_with_a_real_80286() {
    check(Engine::HotOptimised);
}
