//! Single-instruction cases captured from a real 80286 in real mode, run on the evaluator and as host code.
//!
//! The file is not part of the project (`../shared/vectors/real286.jsonl.gz`, or `STELE_VECTORS`): without it the test says
//! so and passes. Differences between the 80286 and later processors are skipped by rule, see [`skip`].

use ir::{Block, End, Scratch};
use mem::{Bus, GuestRam, Phys, PhysMap, Port, Size};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use stele::log::Log;
use stele::machine::Accel;
use stele::vcpu::{Vcpu, VcpuConfig, VcpuExit};
use x86::cpu::Cpu;
use x86::decode::{Features, MAX_LEN, decode};
use x86::front::{self, BlockInfo, BuildConfig, CodeBytes};
use x86::insn::{CodeSize, Form, Insn, prefix};
use x86::lower::Place;
use x86::state::Segment;

/// 1 MiB and what lies above it with A20 open.
const RAM: u64 = 2 << 20;
/// No case runs more passes (a repeated string iterates).
const MAX_STEPS: u32 = 70_000;
/// FLAGS bits that are compared: the 80286 has IOPL and NT in real mode, reads bit 15 as it likes.
const FLAGS_MASK: u64 = 0x0FD5;
/// Register names of the file, in the order of [`Regs`].
const NAMES: [&str; 14] =
    ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "es", "cs", "ss", "ds", "ip", "flags"];

/// One case.
#[derive(Default, Debug)]
struct Vector {
    op: String,
    name: String,
    bytes: Vec<u8>,
    exception: Option<u64>,
    init: [u64; 14],
    ram: Vec<(u64, u8)>,
    final_regs: [u64; 14],
    final_ram: Vec<(u64, u8)>,
}

struct NoBus;

impl Bus for NoBus {
    fn port_in(&mut self, _: Port, size: Size) -> u64 {
        size.mask()
    }
    fn port_out(&mut self, _: Port, _: Size, _: u64) {}
    fn mmio_read(&mut self, _: Phys, size: Size) -> u64 {
        size.mask()
    }
    fn mmio_write(&mut self, _: Phys, _: Size, _: u64) {}
    fn intr(&self) -> bool {
        false
    }
    fn inta(&mut self) -> u8 {
        0xFF
    }
    fn tsc(&mut self) -> u64 {
        0
    }
    fn a20(&self) -> bool {
        true
    }
}

/// Text of a JSON member of the flat objects in the file.
fn member<'t>(object: &'t str, name: &str) -> Option<&'t str> {
    let start = object.find(&format!("\"{name}\":"))? + name.len() + 3;
    let rest = &object[start..];
    let end = match rest.as_bytes()[0] {
        b'{' => rest.find('}')? + 1,
        b'[' => rest.find("]]").map(|n| n + 2).filter(|_| rest.starts_with("[[")).unwrap_or(2),
        b'"' => rest[1..].find('"')? + 2,
        _ => rest.find([',', '}'])?,
    };
    Some(&rest[..end])
}

fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

fn parse(line: &str) -> Vector {
    let text = |name: &str| member(line, name).unwrap_or_default().trim_matches('"').to_owned();
    let pairs = |name: &str| -> Vec<(u64, u8)> {
        let list = numbers(member(line, name).unwrap_or_default());
        list.chunks_exact(2).map(|p| (p[0], p[1] as u8)).collect()
    };
    let number = |name: &str| member(line, name).and_then(|n| n.parse().ok());
    let mut vector = Vector {
        op: text("op"),
        name: text("name"),
        exception: number("exception"),
        ram: pairs("ram"),
        final_ram: pairs("final_ram"),
        ..Vector::default()
    };
    let hex = text("bytes");
    vector.bytes = (0..hex.len() / 2)
        .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
        .collect();
    let (init, changed) = (member(line, "init").unwrap(), member(line, "final").unwrap());
    for (n, name) in NAMES.iter().enumerate() {
        vector.init[n] = member(init, name).unwrap().parse().unwrap();
        let after = member(changed, name).map(|v| v.parse().unwrap());
        vector.final_regs[n] = after.unwrap_or(vector.init[n]);
    }
    vector
}

/// Why a case says nothing about later processors.
fn skip(vector: &Vector, insn: Option<&Insn>) -> Option<&'static str> {
    const PREFIXES: [u8; 7] = [0x26, 0x2E, 0x36, 0x3E, 0xF0, 0xF2, 0xF3];
    if vector.bytes.iter().take_while(|byte| PREFIXES.contains(byte)).any(|byte| *byte == 0xF0) {
        return Some("LOCK: later processors accept it on fewer instructions");
    }
    let insn = insn?; // undefined bytes raise #UD then and now
    if insn.len > 10 {
        return Some("longer than the 80286 allows");
    }
    if insn.prefixes & (prefix::OPSIZE | prefix::ADSIZE) != 0 {
        return Some("prefixes 66 and 67 came with the 80386");
    }
    if vector.exception == Some(6) {
        return Some("undefined on the 80286");
    }
    if (0xD8..=0xDF).contains(&insn.opcode) && insn.info().opcode.starts_with('D') {
        return Some("no coprocessor here");
    }
    let is_string = |form: &Form| matches!(form, Form::X(_) | Form::Y(_));
    if vector.exception == Some(13) && insn.info().forms.iter().any(is_string) {
        return Some("the 80286 steps rSI and rDI before a limit fault");
    }
    None
}

fn machine(vector: &Vector, cpu: &mut Cpu) {
    cpu.reset();
    let s = &mut cpu.state;
    for n in 0..8 {
        s.gpr[n] = vector.init[n];
    }
    for n in 0..4 {
        let selector = vector.init[8 + n] as u16;
        s.seg[n] = Segment { selector, attr: 0x93, limit: 0xFFFF, base: u64::from(selector) << 4 };
    }
    s.pc = vector.init[12];
    s.set_eflags(vector.init[13] as u32 & 0xFFF);
    s.halted = 0;
    for (at, byte) in &vector.ram {
        assert!(cpu.ram.write_bytes(*at, &[*byte]));
    }
    cpu.sync_mode();
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// At the HLT.
    Halted,
    /// The first fault was #SS, which the 80286 reports as #GP.
    StackFault,
}

/// Runs to the HLT.
fn run(cpu: &mut Cpu, block: &mut Block, scratch: &mut front::Scratch) -> Result<Outcome, String> {
    let mut info = BlockInfo::default();
    for _ in 0..MAX_STEPS {
        let (base, limit) = (cpu.state.seg[1].base, cpu.state.seg[1].limit);
        let lin = base + cpu.state.pc;
        let page_off = (lin & 0xFFF) as u32;
        let place = Place { mode: cpu.mode(), ip: cpu.state.pc, page_off, cs_limit: limit };
        let mut bytes = [0; 2 * MAX_LEN];
        cpu.ram.read_bytes(lin, &mut bytes);
        let in_page = (4096 - page_off as usize).min(MAX_LEN);
        let code =
            CodeBytes { page: &bytes[..in_page], next: Some(&bytes[in_page..in_page + MAX_LEN]) };
        let config = BuildConfig { features: Features::ALL, max_insns: 1 };
        front::build(&code, place, &config, scratch, block, &mut info)
            .map_err(|e| format!("{e:?}"))?;
        cpu.state.pc_base = place.ip_base();
        match ir::run(block, cpu, &mut Scratch::new()) {
            End::GotoTb { page_off, .. } => {
                cpu.state.pc = cpu.state.pc_base.wrapping_add(u64::from(page_off)) & 0xFFFF_FFFF;
            }
            End::GotoPtr(pc) | End::Exit { pc: Some(pc), .. } => cpu.state.pc = pc,
            End::Exit { pc: None, .. } => {}
            End::Stop(fault) if fault.vector == 12 => return Ok(Outcome::StackFault),
            End::Stop(fault) => cpu.deliver_fault(fault),
        }
        cpu.state.leave = 0;
        cpu.sync_mode();
        if cpu.state.halted != 0 {
            return Ok(Outcome::Halted);
        }
        if cpu.shutdown {
            return Err("shutdown".into());
        }
    }
    Err("no HLT".into())
}

/// What differs, if anything.
fn check(vector: &Vector, cpu: &mut Cpu, undefined: u64) -> Result<(), String> {
    let mut wrong = Vec::new();
    let mask = FLAGS_MASK & !undefined;
    for (n, name) in NAMES.iter().enumerate() {
        let found = match n {
            0..8 => cpu.state.gpr[n] & 0xFFFF,
            8..12 => u64::from(cpu.state.seg[n - 8].selector),
            12 => cpu.state.pc & 0xFFFF, // the HLT may be the segment's last byte
            _ => u64::from(cpu.state.eflags()) & mask,
        };
        let wanted = if n == 13 { vector.final_regs[n] & mask } else { vector.final_regs[n] };
        if found != wanted {
            wrong.push(format!("{name}={found:#x} expected {wanted:#x}"));
        }
    }
    // Where an exception pushed FLAGS, the first word of three.
    let pushed = vector.exception.map(|_| {
        let sp = (vector.final_regs[4] + 4) & 0xFFFF;
        (vector.final_regs[10] << 4) + sp
    });
    let mut expected: BTreeMap<u64, u8> = vector.ram.iter().copied().collect();
    expected.extend(vector.final_ram.iter().copied());
    for (&at, &wanted) in &expected {
        let mut byte = [0];
        cpu.ram.read_bytes(at, &mut byte);
        let low = if pushed == Some(at) { mask as u8 } else { 0xFF };
        let high = if pushed.map(|at| at + 1) == Some(at) { (mask >> 8) as u8 } else { 0xFF };
        if (byte[0] ^ wanted) & low & high != 0 {
            wrong.push(format!("[{at:#x}]={:#x} expected {wanted:#x}", byte[0]));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} `{}` {:02x?} exception {:?}: {}",
        vector.op,
        vector.name,
        vector.bytes,
        vector.exception,
        wrong.join(", ")
    ))
}

fn vectors_file() -> Option<PathBuf> {
    let named = std::env::var_os("STELE_VECTORS").map(PathBuf::from);
    let path = named.unwrap_or_else(|| {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/real286.jsonl.gz"))
    });
    path.exists().then_some(path)
}

/// A processor with its own memory.
fn processor() -> Cpu {
    let ram = Arc::new(GuestRam::new(RAM).unwrap());
    let map = Arc::new(PhysMap::new(0, 0));
    map.map_ram(Phys(0), RAM, 0, true);
    Cpu::new(ram, map, Box::new(NoBus))
}

/// Tallies of a run over the file.
#[derive(Default)]
struct Tally {
    total: u32,
    agreed: u32,
    skipped: BTreeMap<&'static str, u32>,
    failures: BTreeMap<String, Vec<String>>,
}

impl Tally {
    fn note(&mut self, vector: &Vector, result: Result<(), String>) {
        match result {
            Ok(()) => self.agreed += 1,
            Err(message) => {
                let message =
                    format!("{} `{}` {:02x?}: {message}", vector.op, vector.name, vector.bytes);
                self.failures.entry(vector.op.clone()).or_default().push(message);
            }
        }
    }

    fn summary(&self) -> String {
        format!("{} of {} agree; skipped by rule: {:?}", self.agreed, self.total, self.skipped)
    }

    fn assert_clean(&self) {
        let mut report = String::new();
        for (op, messages) in &self.failures {
            let shown = messages[..messages.len().min(2)].join("\n  ");
            report.push_str(&format!("{op}: {} differ\n  {shown}\n", messages.len()));
        }
        println!("{}", self.summary());
        assert!(self.failures.is_empty(), "{report}{}", self.summary());
    }
}

/// Runs `engine` on every vector that says something about later processors.
fn for_each_vector(mut engine: impl FnMut(&Vector, u64) -> Result<(), Verdict>) {
    let Some(path) = vectors_file() else {
        eprintln!("SKIPPED: no hardware vectors (STELE_VECTORS names real286.jsonl.gz)");
        return;
    };
    let output = Command::new("gzip").arg("-dc").arg(&path).output().expect("gzip runs");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut tally = Tally::default();
    for line in text.lines() {
        tally.total += 1;
        let vector = parse(line);
        let mut bytes = [0x90; MAX_LEN];
        let len = vector.bytes.len().min(MAX_LEN);
        bytes[..len].copy_from_slice(&vector.bytes[..len]);
        let insn = decode(&bytes, CodeSize::Bits16, &Features::ALL).ok();
        if let Some(rule) = skip(&vector, insn.as_ref()) {
            *tally.skipped.entry(rule).or_default() += 1;
            continue;
        }
        let undefined = ir::FlagMask(insn.map_or(0, |insn| insn.info().undefined)).eflags();
        match engine(&vector, u64::from(undefined)) {
            Err(Verdict::Skipped(rule)) => *tally.skipped.entry(rule).or_default() += 1,
            Err(Verdict::Differs(message)) => tally.note(&vector, Err(message)),
            Ok(()) => tally.note(&vector, Ok(())),
        }
    }
    tally.assert_clean();
}

/// Why a vector was not agreed with.
enum Verdict {
    Skipped(&'static str),
    Differs(String),
}

/// Runs one vector on the evaluator.
fn evaluate(
    cpu: &mut Cpu,
    block: &mut Block,
    scratch: &mut front::Scratch,
    vector: &Vector,
    undefined: u64,
) -> Result<(), Verdict> {
    cpu.ram.fill(0, RAM, 0);
    machine(vector, cpu);
    match run(cpu, block, scratch) {
        Ok(Outcome::StackFault) if vector.exception == Some(13) => {
            Err(Verdict::Skipped("the 80286 reports #SS as #GP"))
        }
        Ok(_) => check(vector, cpu, undefined).map_err(Verdict::Differs),
        Err(message) => Err(Verdict::Differs(message)),
    }
}

#[test]
fn cases_from_a_real_80286_hold_on_the_evaluator() {
    let (mut block, mut scratch) = (Block::default(), front::Scratch::default());
    let mut cpu = processor();
    for_each_vector(|vector, undefined| {
        evaluate(&mut cpu, &mut block, &mut scratch, vector, undefined)
    });
}

#[test]
fn cases_from_a_real_80286_hold_as_host_code() {
    let (mut block, mut scratch) = (Block::default(), front::Scratch::default());
    let mut reference = processor();
    let config = VcpuConfig { accel: Accel::Jit, cache_bytes: 8 << 20, ..VcpuConfig::default() };
    let mut vcpu = Vcpu::new(processor(), config, Log::off()).unwrap();
    for_each_vector(|vector, undefined| {
        // The evaluator says which rule applies; what differs there is the other test's business.
        evaluate(&mut reference, &mut block, &mut scratch, vector, undefined)?;
        vcpu.cpu_mut().ram.fill(0, RAM, 0);
        machine(vector, vcpu.cpu_mut());
        vcpu.state_changed();
        match vcpu.run() {
            VcpuExit::Halted => check(vector, vcpu.cpu_mut(), undefined).map_err(Verdict::Differs),
            exit => Err(Verdict::Differs(format!("left with {exit:?}"))),
        }
    });
}
