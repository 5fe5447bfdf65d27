//! The `case` lines of the tables, run on the evaluator: one test over all instructions.
//!
//! A case gives the bytes, what differs from the default machine before, and what differs after. Everything
//! else must be unchanged: registers, segments, memory, flags outside the flags clause.

use ir::{Block, End, Scratch};
use isa_spec::model::{Case, CaseItem, Insn, Isa};
use mem::{Bus, GuestRam, Phys, PhysMap, Port, Size};
use std::path::Path;
use std::sync::Arc;
use x86::cpu::Cpu;
use x86::decode::{Features, MAX_LEN};
use x86::fault::Fault;
use x86::front::{self, BlockInfo, BuildConfig, CodeBytes};
use x86::insn::prefix;
use x86::lower::Place;
use x86::state::{CpuState, Segment};

/// Guest memory; every address of a case lies in it.
const RAM: u64 = 1 << 20;
/// Where an insn stands unless the case says so.
const DEFAULT_IP: u64 = 0x8000;
const DEFAULT_ESP: u64 = 0x1000;
/// No repeated string of a case is longer.
const MAX_ITERATIONS: u32 = 100;

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
        1000
    }
    fn a20(&self) -> bool {
        true
    }
}

/// A processor in flat protected mode at ring 0 with 16- or 32-bit code.
fn machine(bits: u32) -> Cpu {
    let ram = Arc::new(GuestRam::new(RAM).unwrap());
    let map = Arc::new(PhysMap::new(0, 0));
    map.map_ram(Phys(0), RAM, 0, true);
    let mut cpu = Cpu::new(ram, map, Box::new(NoBus));
    let big = if bits == 32 { 0xC000 } else { 0x8000 };
    let data = Segment { selector: 0, attr: big | 0x93, limit: u32::MAX, base: 0 };
    let s = &mut cpu.state;
    s.gpr = [0; 16];
    s.gpr[4] = DEFAULT_ESP;
    s.seg = [data; 6];
    s.seg[1] = Segment { attr: big | 0x9B, ..data };
    s.cr0 = 0x11;
    s.pc = DEFAULT_IP;
    s.set_arith_flags(0);
    cpu.sync_mode();
    cpu
}

/// What a run ends in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Done,
    Raised(Fault),
    Stuck,
}

/// Runs the insn at the instruction pointer; a repeated string to its end.
fn run(cpu: &mut Cpu, bytes: &[u8], block: &mut Block) -> Outcome {
    let start = cpu.state.pc;
    for _ in 0..MAX_ITERATIONS {
        let is_repeated = match step(cpu, bytes, block) {
            Ok(is_repeated) => is_repeated,
            Err(fault) => return Outcome::Raised(fault),
        };
        if !is_repeated || cpu.state.pc != start {
            return Outcome::Done;
        }
    }
    Outcome::Stuck
}

/// One pass over the insn's block. Is it a repeated string?
fn step(cpu: &mut Cpu, bytes: &[u8], block: &mut Block) -> Result<bool, Fault> {
    let page_off = (cpu.state.pc & 0xFFF) as u32;
    let place =
        Place { mode: cpu.mode(), ip: cpu.state.pc, page_off, cs_limit: cpu.state.seg[1].limit };
    let config = BuildConfig { features: Features::ALL, max_insns: 1 };
    let mut code = [0x90; MAX_LEN];
    code[..bytes.len()].copy_from_slice(bytes);
    let mut info = BlockInfo::default();
    let code = CodeBytes { page: &code, next: None };
    front::build(&code, place, &config, &mut front::Scratch::default(), block, &mut info).unwrap();
    if let Err(errors) = ir::verify(block) {
        panic!("{errors:?}\n{}", ir::text::print(block, &x86::lower::IrNames));
    }
    cpu.state.pc_base = place.ip_base();
    let base = cpu.state.pc_base;
    match ir::run(block, cpu, &mut Scratch::new()) {
        End::GotoTb { page_off, .. } => {
            cpu.state.pc = base.wrapping_add(u64::from(page_off)) & 0xFFFF_FFFF
        }
        End::GotoPtr(pc) => cpu.state.pc = pc,
        End::Exit { pc: Some(pc), .. } => cpu.state.pc = pc,
        End::Exit { pc: None, .. } => {}
        End::Stop(fault) => return Err(fault),
    }
    let insn = x86::decode::decode(bytes, front::code_size(place.mode), &Features::ALL);
    let is_string = insn.is_ok_and(|insn| {
        insn.prefixes & (prefix::REP | prefix::REPNE) != 0
            && insn.info().attrs & (x86::decode::attr::REP | x86::decode::attr::REPCC) != 0
    });
    Ok(is_string)
}

/// Registers by name, read or written.
fn register(s: &mut CpuState, name: &str, value: Option<u64>) -> u64 {
    const LONG: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
    const SEGS: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];
    const BYTES: [&str; 8] = ["al", "cl", "dl", "bl", "ah", "ch", "dh", "bh"];
    let mut place = |field: &mut u64, shift: u32, mask: u64| {
        if let Some(value) = value {
            *field = *field & !(mask << shift) | (value & mask) << shift;
        }
        *field >> shift & mask
    };
    if let Some(n) = LONG.iter().position(|r| *r == name) {
        return place(&mut s.gpr[n], 0, 0xFFFF_FFFF);
    }
    if let Some(n) = LONG.iter().position(|r| &r[1..] == name) {
        return place(&mut s.gpr[n], 0, 0xFFFF);
    }
    if let Some(n) = BYTES.iter().position(|r| *r == name) {
        return place(&mut s.gpr[n & 3], if n >= 4 { 8 } else { 0 }, 0xFF);
    }
    if let Some(n) = SEGS.iter().position(|r| *r == name) {
        if let Some(value) = value {
            s.seg[n].selector = value as u16;
        }
        return u64::from(s.seg[n].selector);
    }
    match name {
        "eip" | "ip" => place(&mut s.pc, 0, 0xFFFF_FFFF),
        "cr0" => place(&mut s.cr0, 0, 0xFFFF_FFFF),
        "cr2" => place(&mut s.cr2, 0, 0xFFFF_FFFF),
        "cr3" => place(&mut s.cr3, 0, 0xFFFF_FFFF),
        "cr4" => place(&mut s.cr4, 0, 0xFFFF_FFFF),
        "ldtr" | "tr" => {
            let seg = if name == "tr" { &mut s.tr } else { &mut s.ldtr };
            if let Some(value) = value {
                seg.selector = value as u16;
            }
            u64::from(seg.selector)
        }
        _ => panic!("a case names the register `{name}`, which this test does not know"),
    }
}

/// The six flags as `FlagMask` bits, DF as bit 6.
fn flags(s: &CpuState) -> u8 {
    let eflags = s.arith_flags();
    let six = (0..6)
        .map(|n| (1u8 << n) * u8::from(eflags & ir::FlagMask(1 << n).eflags() != 0))
        .sum::<u8>();
    six | u8::from(s.df < 0) << 6
}

fn set_flags(s: &mut CpuState, mask: u8) {
    s.set_arith_flags(ir::FlagMask(mask & 63).eflags());
    s.df = if mask & 64 != 0 { -1 } else { 1 };
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

fn apply(cpu: &mut Cpu, items: &[CaseItem]) {
    for item in items {
        match item {
            CaseItem::Reg(name, value) => {
                register(&mut cpu.state, name, Some(*value));
            }
            CaseItem::Mem(bits, at, value) => write_memory(cpu, *bits, *at, *value),
            CaseItem::Flags(mask) => set_flags(&mut cpu.state, *mask),
            CaseItem::Raises(..) => {}
        }
    }
}

fn write_memory(cpu: &Cpu, bits: u32, at: u64, value: u64) {
    let len = bits as usize / 8;
    assert!(
        cpu.ram.write_bytes(at, &value.to_le_bytes()[..len]),
        "address {at:#x} of a case is outside its memory"
    );
}

fn memory(cpu: &Cpu) -> Vec<u8> {
    let mut bytes = vec![0; RAM as usize];
    assert!(cpu.ram.read_bytes(0, &mut bytes));
    bytes
}

/// Runs one case; what is wrong, if anything.
fn check(isa: &Isa, insn: &Insn, case: &Case) -> Result<(), String> {
    let mut cpu = machine(case.mode);
    apply(&mut cpu, &case.inputs);
    cpu.sync_mode();
    let start = cpu.state.pc;
    assert!(cpu.ram.write_bytes(start, &case.bytes));
    let mut expected = cpu.state.clone();
    let mut expected_memory = memory(&cpu);
    let raises = case.outputs.iter().find_map(|item| match item {
        CaseItem::Raises(name, code) => Some((name.clone(), *code)),
        _ => None,
    });
    let mut block = Block::default();
    let outcome = run(&mut cpu, &case.bytes, &mut block);
    let mut wrong = Vec::new();
    match (&raises, outcome) {
        (None, Outcome::Done) => {
            expected.pc = start.wrapping_add(case.bytes.len() as u64);
            for item in &case.outputs {
                match item {
                    CaseItem::Reg(name, value) => {
                        register(&mut expected, name, Some(*value));
                    }
                    CaseItem::Mem(bits, at, value) => {
                        let (at, len) = (*at as usize, *bits as usize / 8);
                        expected_memory[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
                    }
                    CaseItem::Flags(_) | CaseItem::Raises(..) => {}
                }
            }
        }
        (Some((name, code)), Outcome::Raised(fault)) => {
            if vector_of(name) != fault.vector || *code != fault.code {
                wrong.push(format!("raised {fault:?} instead of {name} {code:?}"));
            }
        }
        (_, outcome) => wrong.push(format!("ended in {outcome:?}")),
    }
    if wrong.is_empty() {
        compare(
            &mut wrong,
            insn,
            case,
            raises.is_some(),
            &mut cpu,
            &mut expected,
            &expected_memory,
        );
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let file = &isa.files[usize::from(case.pos.file)].0;
    let text = ir::text::print(&block, &x86::lower::IrNames);
    Err(format!(
        "{file}:{} {} {:02x?}\n  {}\n{text}",
        case.pos.line,
        insn.name,
        case.bytes,
        wrong.join("\n  ")
    ))
}

/// Compares the machine with what the case expects of it.
fn compare(
    wrong: &mut Vec<String>,
    insn: &Insn,
    case: &Case,
    is_fault: bool,
    cpu: &mut Cpu,
    expected: &mut CpuState,
    expected_memory: &[u8],
) {
    const NAMES: [&str; 18] = [
        "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "es", "cs", "ss", "ds",
        "fs", "gs", "cr0", "cr2", "cr3",
    ];
    for name in NAMES {
        let (found, wanted) =
            (register(&mut cpu.state, name, None), register(expected, name, None));
        if is_fault && name == "eip" {
            continue; // the instruction pointer is set when the fault is delivered
        }
        if found != wanted {
            wrong.push(format!("{name} = {found:#x}, expected {wanted:#x}"));
        }
    }
    let listed = case.outputs.iter().find_map(|item| match item {
        CaseItem::Flags(mask) => Some(*mask),
        _ => None,
    });
    let mut written = insn.flags.written;
    if insn.flags.system_written {
        written |= 64;
    }
    let before = flags(expected);
    let wanted = if is_fault { before } else { before & !written | listed.unwrap_or(0) & written };
    let ignored = if is_fault { 0 } else { insn.flags.undefined };
    let found = flags(&cpu.state);
    if (found ^ wanted) & !ignored != 0 {
        wrong.push(format!("flags {} expected {}", flag_text(found), flag_text(wanted)));
    }
    let memory = memory(cpu);
    for (at, (found, wanted)) in memory.iter().zip(expected_memory).enumerate() {
        if found != wanted {
            wrong.push(format!("m8[{at:#x}] = {found:#x}, expected {wanted:#x}"));
        }
    }
}

fn flag_text(mask: u8) -> String {
    "cpazsod".chars().enumerate().filter(|(n, _)| mask >> n & 1 != 0).map(|(_, c)| c).collect()
}

#[test]
fn cases_of_the_tables_hold_on_the_evaluator() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../isa-spec/x86");
    let isa = isa_spec::load(&folder).unwrap_or_else(|errors| panic!("{errors}"));
    let mut failures = Vec::new();
    let mut count = 0;
    for insn in &isa.insns {
        for case in insn.cases.iter().filter(|case| case.mode != 64) {
            count += 1;
            failures.extend(check(&isa, insn, case).err());
        }
    }
    assert!(count > 0, "the tables hold no case");
    assert!(
        failures.is_empty(),
        "{}\n{} of {count} cases fail",
        failures.join("\n"),
        failures.len()
    );
}
