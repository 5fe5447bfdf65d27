//! The registers as text, in the layout QEMU users read (`-d cpu`, `info registers`), and a hash of
//! the state.

use std::fmt::Write as _;

use crate::cpu::Cpu;
use crate::flags;
use crate::segment::attr;
use crate::state::{Segment, TableReg, seg};

/// Names of the types of system descriptors.
const SYSTEM_TYPES: [&str; 16] = [
    "Reserved",
    "TSS16-avl",
    "LDT",
    "TSS16-busy",
    "CallGate16",
    "TaskGate",
    "IntGate16",
    "TrapGate16",
    "Reserved",
    "TSS32-avl",
    "Reserved",
    "TSS32-busy",
    "CallGate32",
    "Reserved",
    "IntGate32",
    "TrapGate32",
];

impl Cpu {
    /// All registers.
    pub fn dump(&self) -> String {
        let s = &self.state;
        let mut out = String::with_capacity(1536);
        let is_long = self.is_long();
        match self.is_code64() {
            true => dump_registers_64(&mut out, &s.gpr),
            false => dump_registers_32(&mut out, &s.gpr),
        }
        let eflags = s.eflags();
        let _ = match self.is_code64() {
            true => write!(out, "RIP={:016x} RFL={eflags:08x}", s.pc),
            false => write!(out, "EIP={:08x} EFL={eflags:08x}", s.pc as u32),
        };
        let _ = writeln!(
            out,
            " [{}] CPL={} II={} A20={} SMM=0 HLT={}",
            flag_letters(eflags),
            s.cpl,
            u32::from(s.shadow != 0),
            u32::from(self.a20_mask & 1 << 20 != 0),
            s.halted
        );
        let is_protected = s.cr0 & crate::cpu::cr0::PE != 0;
        for (name, n) in [("ES", 0), ("CS", 1), ("SS", 2), ("DS", 3), ("FS", 4), ("GS", 5)] {
            dump_segment(&mut out, name, &s.seg[n], is_protected, is_long);
        }
        dump_segment(&mut out, "LDT", &s.ldtr, is_protected, is_long);
        dump_segment(&mut out, "TR", &s.tr, is_protected, is_long);
        dump_table(&mut out, "GDT", &s.gdtr, is_long);
        dump_table(&mut out, "IDT", &s.idtr, is_long);
        let width = if is_long { 16 } else { 8 };
        let d = &s.dr;
        let _ = writeln!(
            out,
            "CR0={:08x} CR2={:0width$x} CR3={:0width$x} CR4={:08x}",
            s.cr0, s.cr2, s.cr3, s.cr4
        );
        let _ = writeln!(
            out,
            "DR0={:0width$x} DR1={:0width$x} DR2={:0width$x} DR3={:0width$x} ",
            d[0], d[1], d[2], d[3]
        );
        let _ = writeln!(out, "DR6={:0width$x} DR7={:0width$x}", d[6], d[7]);
        let _ = writeln!(out, "EFER={:016x}", s.efer);
        out
    }

    /// A hash of the architectural state: registers only, not memory.
    pub fn state_hash(&self) -> u64 {
        let s = &self.state;
        let mut h = Hash::default();
        s.gpr.iter().for_each(|&v| h.add(v));
        for v in [s.pc, u64::from(s.eflags()), u64::from(s.cpl), s.cr0, s.cr2, s.cr3, s.cr4, s.efer]
        {
            h.add(v);
        }
        for v in [s.star, s.lstar, s.cstar, s.sfmask, s.kernel_gs_base, s.tsc_aux, s.xcr0] {
            h.add(v);
        }
        h.add(u64::from(s.mxcsr));
        s.ymm.iter().flatten().for_each(|&v| h.add(v));
        s.dr.iter().for_each(|&v| h.add(v));
        for segment in s.seg.iter().chain([&s.ldtr, &s.tr]) {
            h.add(u64::from(segment.selector) << 48 | u64::from(segment.attr) << 32);
            h.add(u64::from(segment.limit));
            h.add(segment.base);
        }
        for table in [&s.gdtr, &s.idtr] {
            h.add(table.base);
            h.add(u64::from(table.limit));
        }
        h.add(u64::from(s.shadow) << 32 | u64::from(s.halted));
        h.0
    }

    /// A hash of guest memory, for comparing runs.
    pub fn ram_hash(&self) -> u64 {
        let mut h = Hash::default();
        let mut page = [0; 4096];
        for off in (0..self.ram.len()).step_by(page.len()) {
            self.ram.read_bytes(off, &mut page);
            let (words, _) = page.as_chunks::<8>();
            words.iter().for_each(|w| h.add(u64::from_le_bytes(*w)));
        }
        h.0
    }
}

/// FNV-1a over 64-bit words, with the high half folded down.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Hash {
    const fn add(&mut self, v: u64) {
        let x = (self.0 ^ v).wrapping_mul(0x0000_0100_0000_01B3);
        self.0 = x ^ x >> 32;
    }
}

fn dump_registers_32(out: &mut String, gpr: &[u64; 16]) {
    let g = |n: usize| gpr[n] as u32;
    let _ = writeln!(
        out,
        "EAX={:08x} EBX={:08x} ECX={:08x} EDX={:08x}\nESI={:08x} EDI={:08x} EBP={:08x} ESP={:08x}",
        g(0),
        g(3),
        g(1),
        g(2),
        g(6),
        g(7),
        g(5),
        g(4)
    );
}

fn dump_registers_64(out: &mut String, gpr: &[u64; 16]) {
    let named = [("RAX", 0), ("RBX", 3), ("RCX", 1), ("RDX", 2)];
    let pointers = [("RSI", 6), ("RDI", 7), ("RBP", 5), ("RSP", 4)];
    let new = [("R8 ", 8), ("R9 ", 9), ("R10", 10), ("R11", 11)];
    let rest = [("R12", 12), ("R13", 13), ("R14", 14), ("R15", 15)];
    for row in [named, pointers, new, rest] {
        let line = row.map(|(name, n)| format!("{name}={:016x}", gpr[n]));
        let _ = writeln!(out, "{}", line.join(" "));
    }
}

fn flag_letters(eflags: u32) -> String {
    let list = [
        (flags::DF, 'D'),
        (flags::OF, 'O'),
        (flags::SF, 'S'),
        (flags::ZF, 'Z'),
        (flags::AF, 'A'),
        (flags::PF, 'P'),
        (flags::CF, 'C'),
    ];
    list.iter().map(|&(bit, letter)| if eflags & bit != 0 { letter } else { '-' }).collect()
}

fn dump_segment(out: &mut String, name: &str, s: &Segment, is_protected: bool, is_long: bool) {
    let nibble = if s.attr & attr::G != 0 { s.limit >> 28 } else { s.limit >> 16 & 0xF };
    let high = u32::from(s.attr) << 8 | nibble << 16;
    let (width, base) = (if is_long { 16 } else { 8 }, s.base);
    let _ = write!(out, "{name:<3}={:04x} {base:0width$x} {:08x} {high:08x}", s.selector, s.limit);
    if is_protected && s.attr & attr::P != 0 {
        let _ = write!(out, " DPL={} {}", s.dpl(), describe(s, is_long));
    }
    out.push('\n');
}

/// What kind of segment it is.
fn describe(s: &Segment, is_long: bool) -> String {
    let letter = |bit: u16, c: char| if s.attr & bit != 0 { c } else { '-' };
    if s.attr & attr::S == 0 {
        let text = SYSTEM_TYPES[usize::from(s.attr & 15)];
        return if is_long { text.replace("32", "64") } else { text.to_owned() };
    }
    let is_32 = s.attr & attr::DB != 0;
    let (kind, dc, rw) = match s.attr & attr::CODE != 0 {
        true if is_long && s.attr & attr::L != 0 => ("CS64", 'C', 'R'),
        true => (if is_32 { "CS32" } else { "CS16" }, 'C', 'R'),
        false => (if is_32 { "DS  " } else { "DS16" }, 'E', 'W'),
    };
    format!("{kind} [{}{}{}]", letter(attr::DC, dc), letter(attr::RW, rw), letter(attr::A, 'A'))
}

fn dump_table(out: &mut String, name: &str, t: &TableReg, is_long: bool) {
    let (width, base) = (if is_long { 16 } else { 8 }, t.base);
    let _ = writeln!(out, "{name}=     {base:0width$x} {:08x}", t.limit);
}

const _: () = assert!(seg::GS == 5);
