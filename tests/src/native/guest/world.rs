//! The least system there can be around a case: descriptor tables as Linux has them, a task-state segment, a gate for each vector
//! that leads to a HLT of privilege level 0, four-level page tables. All of it is supervisor pages at [`SYSTEM`].

use std::sync::Arc;

use mem::{GuestRam, Phys, PhysMap, Size};
use stele::log::Log;
use stele::vcpu::{Vcpu, VcpuConfig};
use x86::cpu::{Cpu, cr0, cr4, efer};
use x86::state::{Segment, TableReg};

use crate::NullBus;
use crate::native::layout::{
    BACKING_LEN, CODE, CODE_END, DATA, DATA_RIGHTS, GLOBALS, LOCALS, PAGE, Rights,
};
use crate::setup::descriptor;

/// Linear address of everything that is the system's: among the kernel's, as on the host.
pub(super) const SYSTEM: u64 = 0xFFFF_8123_4560_0000;
const SYSTEM_LEN: u64 = 0x1_0000;
/// Physical addresses: the system at 0, then paging structures, then code and data pages.
const TABLES: u64 = 0x1_0000;
pub(super) const BACKING: u64 = 0x4_0000;
const RAM: u64 = 0x10_0000;

/// Offsets from [`SYSTEM`].
const GDT: u64 = 0;
const LDT: u64 = 0x1000;
const IDT: u64 = 0x2000;
const TSS: u64 = 0x4000;
pub(super) const HANDLERS: u64 = 0x6000;
pub(super) const STACK0: u64 = 0x9000;

const KERNEL_CODE: u16 = 0x10;
const TSS_SELECTOR: u16 = 0x40;
const LDT_SELECTOR: u16 = 0x50;
const TSS_LIMIT: u64 = 0x67;
const LDT_LIMIT: u64 = 8 * LOCALS.len() as u64 + 7;
const HLT: u8 = 0xF4;

/// A processor in this world, in long mode.
pub(super) fn build(config: VcpuConfig) -> Vcpu {
    let ram = Arc::new(GuestRam::new(RAM).expect("the host has 1 MiB to spare"));
    let map = Arc::new(PhysMap::new(0, 0));
    map.map_ram(Phys(0), RAM, 0, true);
    fill_tables(&ram);
    fill_gates(&ram);
    map_pages(&ram);
    let mut cpu = Cpu::new(ram, map, Box::new(NullBus));
    cpu.set_model(super::model());
    let s = &mut cpu.state;
    s.gdtr = TableReg { base: SYSTEM + GDT, limit: 0x7F, pad: 0 };
    s.idtr = TableReg { base: SYSTEM + IDT, limit: 0xFFF, pad: 0 };
    let system = |selector, attr, limit: u64, base| Segment {
        selector,
        attr,
        limit: limit as u32,
        base: SYSTEM + base,
    };
    s.tr = system(TSS_SELECTOR, 0x8B, TSS_LIMIT, TSS);
    s.ldtr = system(LDT_SELECTOR, 0x82, LDT_LIMIT, LDT);
    s.cr3 = TABLES;
    s.cr0 = cr0::PE | cr0::PG | cr0::WP | cr0::AM | cr0::NE | cr0::ET | cr0::MP;
    s.cr4 = cr4::PAE
        | cr4::OSFXSR
        | cr4::OSXMMEXCPT
        | cr4::OSXSAVE
        | cr4::FSGSBASE
        | cr4::UMIP
        | cr4::PGE;
    s.efer = efer::SCE | efer::LME | efer::LMA | efer::NXE;
    s.xcr0 = 7;
    let mut vcpu = Vcpu::new(cpu, config, Log::off()).expect("a code cache can be made");
    vcpu.state_changed();
    vcpu
}

fn poke(ram: &GuestRam, at: u64, value: u64) {
    assert!(ram.write(at, Size::B8, value), "{at:#x} is outside the memory");
}

fn fill_tables(ram: &GuestRam) {
    for (n, raw) in (0..).zip(GLOBALS) {
        poke(ram, GDT + 8 * n, raw);
    }
    for (n, local) in (1..).zip(&LOCALS) {
        poke(ram, LDT + 8 * n, local.descriptor());
    }
    let systems = [(TSS_SELECTOR, TSS, TSS_LIMIT, 0x8B), (LDT_SELECTOR, LDT, LDT_LIMIT, 0x82)];
    for (selector, base, limit, attr) in systems {
        let (at, base) = (GDT + u64::from(selector), SYSTEM + base);
        poke(ram, at, descriptor(base & 0xFFFF_FFFF, limit, attr));
        poke(ram, at + 8, base >> 32);
    }
    // Stack of level 0, no I/O map, and so no port.
    poke(ram, TSS + 4, SYSTEM + STACK0);
    poke(ram, TSS + 0x60, (TSS_LIMIT + 1) << 48);
}

fn fill_gates(ram: &GuestRam) {
    for vector in 0..=0xFFu64 {
        let at = HANDLERS + 16 * vector;
        assert!(ram.write_bytes(at, &[HLT]), "inside");
        // INT3 and INTO are for all.
        let dpl = if matches!(vector, 3 | 4) { 0x60 } else { 0 };
        let handler = SYSTEM + at;
        let low = handler & 0xFFFF
            | u64::from(KERNEL_CODE) << 16
            | (0x8E | dpl) << 40
            | (handler >> 16 & 0xFFFF) << 48;
        poke(ram, IDT + 16 * vector, low);
        poke(ram, IDT + 16 * vector + 8, handler >> 32);
    }
}

/// Four-level page tables for all pages.
fn map_pages(ram: &GuestRam) {
    let mut free = TABLES + PAGE;
    for (lin, phys, flags) in pages() {
        let mut table = TABLES;
        for shift in [39, 30, 21] {
            let slot = table + 8 * (lin >> shift & 0x1FF);
            let mut next = ram.read(slot, Size::B8).unwrap_or(0) & !0xFFF;
            if next == 0 {
                next = free;
                free += PAGE;
                poke(ram, slot, next | 7);
            }
            table = next;
        }
        poke(ram, table + 8 * (lin >> 12 & 0x1FF), phys | flags);
    }
    assert!(free <= BACKING, "the paging structures fit");
}

/// Linear address, physical address and entry flags of all pages.
fn pages() -> Vec<(u64, u64, u64)> {
    const NX: u64 = 1 << 63;
    const READ: u64 = 5;
    const WRITE: u64 = 7;
    const SUPERVISOR: u64 = 3;
    let mut list = Vec::new();
    list.extend((0..SYSTEM_LEN / PAGE).map(|n| (SYSTEM + n * PAGE, n * PAGE, SUPERVISOR)));
    let code_pages = (CODE_END - CODE) / PAGE;
    list.extend((0..code_pages).map(|n| (CODE + n * PAGE, BACKING + n * PAGE, READ)));
    for (n, rights) in (0..).zip(DATA_RIGHTS) {
        let flags = match rights {
            Rights::None => continue,
            Rights::Read => READ | NX,
            Rights::Write => WRITE | NX,
        };
        list.push((DATA + n * PAGE, BACKING + (code_pages + n) * PAGE, flags));
    }
    list
}

const _: () = assert!(BACKING + BACKING_LEN as u64 <= RAM);
