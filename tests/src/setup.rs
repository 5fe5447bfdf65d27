//! Modes for a bench: real, flat 16- and 32-bit protected, paging, virtual-8086, 64-bit.
//!
//! Everything the processor itself needs lies from 1 MiB + 64 KiB on, out of the reach of real-mode
//! segments. Every vector leads to a HLT of its own, so that where a run ended says which exception ended it; but traps
//! (single step, INT3, INTO) lead to an IRET.

use x86::flags;
use x86::state::{Segment, TableReg, XsaveArea};

use crate::{Bench, RAM};

/// Physical addresses of what [`protected`] and the rest set up.
pub mod at {
    /// Descriptors, see [`super::sel`].
    pub const GDT: u64 = 0x11_0000;
    /// Interrupt gates, all leading to [`HANDLERS`].
    pub const IDT: u64 = 0x11_1000;
    /// A 32- or 64-bit TSS.
    pub const TSS: u64 = 0x11_2000;
    /// A handler for each vector, 16 bytes apart.
    pub const HANDLERS: u64 = 0x11_3000;
    /// Top of the stack of privilege level 0 in the TSS.
    pub const STACK0: u64 = 0x11_6000;
    /// Page directory and its page table, or the tables of 64-bit paging, one behind the other.
    pub const PAGES: u64 = 0x11_8000;
    /// Where real-mode vectors lead: vector n to 0x600 + n.
    pub const REAL_HANDLERS: u64 = 0x600;
}

/// Selectors of the GDT.
pub mod sel {
    /// Flat 32-bit code, or 64-bit code.
    pub const CODE: u16 = 0x08;
    /// Flat data.
    pub const DATA: u16 = 0x10;
    /// Flat 32-bit code of level 3, or 64-bit code.
    pub const USER_CODE: u16 = 0x1B;
    /// Flat data of level 3.
    pub const USER_DATA: u16 = 0x23;
    /// The TSS; in long mode its descriptor is two long.
    pub const TSS: u16 = 0x28;
    /// The first that a test may fill by [`super::set_descriptor`].
    pub const FREE: u16 = 0x40;
}

const GDT_LIMIT: u32 = 0x1FF;
const IDT_LIMIT: u32 = 0x7FF;
const TSS_LIMIT: u32 = 0x20FF;
/// EFER.LME and EFER.LMA.
const EFER_LONG: u64 = 0x500;
/// CR4.PAE.
const CR4_PAE: u64 = 1 << 5;
/// HLT.
const HLT: u8 = 0xF4;
/// IRET, or IRETD in 32-bit code.
const IRET: u8 = 0xCF;
/// IRETQ.
const IRETQ: [u8; 2] = [0x48, 0xCF];
/// The vector of external interrupts.
pub const TIMER_VECTOR: u8 = 0x60;
/// What is single-stepped, INT3, INTO, and external interrupts: returned from.
const RETURNING: [u64; 4] = [1, 3, 4, TIMER_VECTOR as u64];

/// The first byte of a vector's handler.
fn handler(vector: u64) -> [u8; 1] {
    [if RETURNING.contains(&vector) { IRET } else { HLT }]
}

/// The bytes of a vector's handler in 64-bit code.
fn long_handler(vector: u64) -> Vec<u8> {
    if RETURNING.contains(&vector) { IRETQ.to_vec() } else { vec![HLT] }
}

/// A descriptor; the limit is in units of its granularity, `attr` as in [`Segment::attr`].
pub const fn descriptor(base: u64, limit: u64, attr: u16) -> u64 {
    let attr = attr as u64;
    limit & 0xFFFF
        | (base & 0xFF_FFFF) << 16
        | (attr & 0xFF) << 40
        | (limit >> 16 & 0xF) << 48
        | (attr >> 12) << 52
        | (base >> 24 & 0xFF) << 56
}

/// A 32-bit interrupt gate that any privilege level may use, to a flat code segment.
const fn gate(off: u64) -> u64 {
    off & 0xFFFF | (sel::CODE as u64) << 16 | 0xEE << 40 | (off >> 16) << 48
}

/// A descriptor of the GDT.
pub fn set_descriptor(bench: &Bench, selector: u16, value: u64) {
    bench.poke(at::GDT + u64::from(selector & !7), &value.to_le_bytes());
}

/// Puts a segment into both the GDT and the segment register `n`.
pub fn set_segment(bench: &mut Bench, n: usize, segment: Segment) {
    let shift = if segment.attr & 0x8000 != 0 { 12 } else { 0 };
    let value = descriptor(segment.base, u64::from(segment.limit) >> shift, segment.attr);
    set_descriptor(bench, segment.selector, value);
    bench.cpu_mut().state.seg[n] = segment;
}

/// Real mode: every selector as given, SP 0xFFF0, vectors as in [`at::REAL_HANDLERS`].
pub fn real(bench: &mut Bench, selectors: [u16; 6]) {
    for vector in 0..=0xFFu64 {
        bench.poke(at::REAL_HANDLERS + vector, &handler(vector));
        let off = (at::REAL_HANDLERS + vector) as u16;
        bench.poke(4 * vector, &[off.to_le_bytes(), [0, 0]].concat());
    }
    let s = &mut bench.cpu_mut().state;
    s.seg = selectors.map(|selector| Segment {
        selector,
        attr: 0x93,
        limit: 0xFFFF,
        base: u64::from(selector) << 4,
    });
    s.idtr = TableReg { base: 0, limit: 0x3FF, pad: 0 };
    s.gpr[4] = 0xFFF0;
    bench.settle();
}

/// Flat protected mode at level 0 with 16- or 32-bit code and stack, or 64-bit mode; SP 0x1000. The segment registers
/// hold null selectors.
pub fn flat(bench: &mut Bench, bits: u32) {
    if bits == 64 {
        return flat64(bench);
    }
    tables(bench);
    let big = if bits == 32 { 0xC000 } else { 0x8000 };
    let data = Segment { selector: 0, attr: big | 0x93, limit: u32::MAX, base: 0 };
    let s = &mut bench.cpu_mut().state;
    s.seg = [data; 6];
    s.seg[1] = Segment { attr: big | 0x9B, ..data };
    s.gpr[4] = 0x1000;
    bench.settle();
}

/// 64-bit mode at level 0: what [`flat`] is for narrower code. All memory is mapped to itself.
fn flat64(bench: &mut Bench) {
    long(bench, 0);
    long_paging(bench, |lin| lin | 0x63);
    let s = &mut bench.cpu_mut().state;
    for segment in &mut s.seg {
        segment.selector = 0;
    }
    bench.settle();
}

/// 64-bit mode at level 0 or 3, with real selectors; RSP 0x1000. [`long_paging`] has to follow.
pub fn long(bench: &mut Bench, cpl: u32) {
    long_tables(bench);
    flat_at(bench, cpl, 0xA09B);
}

/// Flat segments at level 0 or 3, code with these attributes at level 0; (E)SP 0x1000.
fn flat_at(bench: &mut Bench, cpl: u32, code_attr: u16) {
    let (code, data) =
        if cpl == 0 { (sel::CODE, sel::DATA) } else { (sel::USER_CODE, sel::USER_DATA) };
    let dpl = (cpl << 5) as u16;
    let data = Segment { selector: data, attr: 0xC093 | dpl, limit: u32::MAX, base: 0 };
    let s = &mut bench.cpu_mut().state;
    s.seg = [data; 6];
    s.seg[1] = Segment { selector: code, attr: code_attr | dpl, ..data };
    s.cpl = cpl;
    s.gpr[4] = 0x1000;
}

/// Lets FP and vector instructions run: what an operating system does for them in CR0, CR4 and XCR0. x87 exceptions are masked.
pub fn vectors(bench: &mut Bench) {
    let s = &mut bench.cpu_mut().state;
    s.cr0 |= 1 << 5;
    s.cr4 |= 1 << 9 | 1 << 10 | 1 << 18;
    s.xcr0 = 7;
    s.fpu.set_u16(XsaveArea::FCW, 0x37F);
    bench.settle();
}

/// The linear windows of [`long_paging`]: whatever lies at an address below 2 MiB lies above each of these, too. The first and the
/// last 2 MiB of both halves of the canonical addresses are among them.
pub const WINDOWS: [u64; 5] =
    [0, 0x7FFF_FFE0_0000, 0xFFFF_8000_0000_0000, 0xFFFF_FFFF_FFE0_0000, 0x7F_C000_0000];

/// Turns 64-bit paging on: `entry` gives the page-table entry of each page of the memory, 0 for an absent one.
pub fn long_paging(bench: &mut Bench, entry: impl Fn(u64) -> u64) {
    let table = |level: u64| at::PAGES + 0x1000 * level;
    // Accessed already, so that a walk leaves memory as it is.
    let ends = |level: u64, slots: &[u64]| {
        bench.poke(table(level), &[0; 0x1000]);
        for slot in slots {
            bench.poke(table(level) + 8 * slot, &(table(level + 1) | 0x27).to_le_bytes());
        }
    };
    ends(0, &[0, 255, 256, 511]);
    ends(1, &[0, 511]);
    ends(2, &[0, 511]);
    let entries: Vec<u8> =
        (0..RAM >> 12).flat_map(|page| entry(page << 12).to_le_bytes()).collect();
    bench.poke(table(3), &entries);
    let s = &mut bench.cpu_mut().state;
    s.cr3 = at::PAGES;
    s.cr4 = CR4_PAE;
    s.cr0 |= 1 << 31;
    s.efer = EFER_LONG;
    bench.settle();
}

/// Flat 32-bit protected mode at level 0 or 3, with real selectors; ESP 0x1000.
pub fn protected(bench: &mut Bench, cpl: u32) {
    tables(bench);
    flat_at(bench, cpl, 0xC09B);
    bench.settle();
}

/// Virtual-8086 mode with the given selectors; SP 0xFFF0.
pub fn vm86(bench: &mut Bench, selectors: [u16; 6], iopl: u32) {
    tables(bench);
    let s = &mut bench.cpu_mut().state;
    s.set_eflags(flags::VM | iopl << 12);
    s.seg = selectors.map(|selector| Segment {
        selector,
        attr: 0xF3,
        limit: 0xFFFF,
        base: u64::from(selector) << 4,
    });
    s.cpl = 3;
    s.gpr[4] = 0xFFF0;
    bench.settle();
}

/// Turns paging on: `entry` gives the page-table entry of each linear page of the memory, 0 for an absent one.
pub fn paging(bench: &mut Bench, entry: impl Fn(u64) -> u32) {
    let table = at::PAGES + 0x1000;
    bench.poke(at::PAGES, &((table | 7) as u32).to_le_bytes());
    let entries: Vec<u8> =
        (0..RAM >> 12).flat_map(|page| entry(page << 12).to_le_bytes()).collect();
    bench.poke(table, &entries);
    let s = &mut bench.cpu_mut().state;
    s.cr3 = at::PAGES;
    s.cr0 |= 1 << 31;
    bench.settle();
}

/// Protection on, with GDT, IDT, TSS and handlers.
fn tables(bench: &mut Bench) {
    let flat = |access: u16| descriptor(0, 0xF_FFFF, 0xC000 | access);
    let tss = descriptor(at::TSS, u64::from(TSS_LIMIT), 0x8B);
    let gdt = [0, flat(0x9B), flat(0x93), flat(0xFB), flat(0xF3), tss];
    for (n, entry) in (0..).zip(gdt) {
        set_descriptor(bench, 8 * n, entry);
    }
    for vector in 0..=0xFFu64 {
        let at = at::HANDLERS + 16 * vector;
        bench.poke(at, &handler(vector));
        bench.poke(at::IDT + 8 * vector, &gate(at).to_le_bytes());
    }
    bench.poke(at::TSS + 4, &(at::STACK0 as u32).to_le_bytes());
    bench.poke(at::TSS + 8, &sel::DATA.to_le_bytes());
    // An I/O map beyond the limit: no port is open.
    bench.poke(at::TSS + 0x66, &0xFFFFu16.to_le_bytes());
    let s = &mut bench.cpu_mut().state;
    s.gdtr = TableReg { base: at::GDT, limit: GDT_LIMIT, pad: 0 };
    s.idtr = TableReg { base: at::IDT, limit: IDT_LIMIT, pad: 0 };
    s.tr = Segment { selector: sel::TSS, attr: 0x8B, limit: TSS_LIMIT, base: at::TSS };
    s.cr0 = 0x11;
}

/// Protection on, with GDT, IDT, TSS and handlers of long mode.
fn long_tables(bench: &mut Bench) {
    let flat = |attr: u16| descriptor(0, 0xF_FFFF, 0x8000 | attr);
    let tss = descriptor(at::TSS, u64::from(TSS_LIMIT), 0x8B);
    let gdt = [0, flat(0x209B), flat(0x4093), flat(0x20FB), flat(0x40F3), tss, at::TSS >> 32];
    for (n, entry) in (0..).zip(gdt) {
        set_descriptor(bench, 8 * n, entry);
    }
    for vector in 0..=0xFFu64 {
        let at = at::HANDLERS + 16 * vector;
        bench.poke(at, &long_handler(vector));
        bench.poke(at::IDT + 16 * vector, &gate(at).to_le_bytes());
        bench.poke(at::IDT + 16 * vector + 8, &(at >> 32).to_le_bytes());
    }
    bench.poke(at::TSS + 4, &at::STACK0.to_le_bytes());
    bench.poke(at::TSS + 0x66, &0xFFFFu16.to_le_bytes());
    let s = &mut bench.cpu_mut().state;
    s.gdtr = TableReg { base: at::GDT, limit: GDT_LIMIT, pad: 0 };
    s.idtr = TableReg { base: at::IDT, limit: 2 * IDT_LIMIT + 1, pad: 0 };
    s.tr = Segment { selector: sel::TSS, attr: 0x8B, limit: TSS_LIMIT, base: at::TSS };
    s.cr0 = 0x11;
}

/// The vector whose handler a halted bench stands behind, in protected mode (or virtual-8086 mode) or real mode.
pub fn vector_reached(bench: &Bench) -> Option<u8> {
    let s = &bench.cpu().state;
    let halt = s.pc.wrapping_sub(1);
    let n = if s.cr0 & 1 != 0 {
        let rel = halt.checked_sub(at::HANDLERS)?;
        (rel % 16 == 0 && s.seg[1].selector == sel::CODE).then_some(rel / 16)?
    } else {
        halt.checked_sub(at::REAL_HANDLERS).filter(|_| s.seg[1].base == 0)?
    };
    u8::try_from(n).ok()
}
