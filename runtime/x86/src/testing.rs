//! A small machine for the unit tests of this crate.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use mem::{Bus, GuestRam, Phys, PhysMap, Port, Size};

use crate::cpu::Cpu;
use crate::state::{Segment, TableReg};

/// What the test bus saw and says.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) ports: Vec<(u16, u64, u64)>,
    pub(crate) mmio: Vec<(u64, u64, u64)>,
    pub(crate) irq: Option<u8>,
    pub(crate) nmi: bool,
    pub(crate) a20_off: bool,
    pub(crate) port_value: u64,
    pub(crate) ferr: bool,
    pub(crate) ignne: bool,
    pub(crate) task_priority: u8,
    pub(crate) apic_base: u64,
    pub(crate) tsc_deadline: Option<u64>,
    /// The last write of an x2APIC register.
    pub(crate) apic: Option<(u32, u64)>,
}

pub(crate) struct TestBus(pub(crate) Rc<RefCell<Log>>);

impl Bus for TestBus {
    fn port_in(&mut self, _: Port, size: Size) -> u64 {
        let mut log = self.0.borrow_mut();
        log.port_value += 1;
        log.port_value & size.mask()
    }
    fn port_out(&mut self, port: Port, size: Size, value: u64) {
        self.0.borrow_mut().ports.push((port.0, size.bytes(), value));
    }
    fn mmio_read(&mut self, at: Phys, size: Size) -> u64 {
        ((at.0 & 0xFF) * 0x0101_0101_0101_0101) & size.mask()
    }
    fn mmio_write(&mut self, at: Phys, size: Size, value: u64) {
        self.0.borrow_mut().mmio.push((at.0, size.bytes(), value));
    }
    fn intr(&self) -> bool {
        self.0.borrow().irq.is_some()
    }
    fn inta(&mut self) -> u8 {
        self.0.borrow_mut().irq.take().unwrap_or(0xFF)
    }
    fn take_nmi(&mut self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().nmi)
    }
    fn set_apic_base(&mut self, base: u64) {
        self.0.borrow_mut().apic_base = base;
    }
    fn apic_read(&mut self, n: u32) -> Option<u64> {
        (n == 2).then_some(0)
    }
    fn apic_write(&mut self, n: u32, value: u64) -> bool {
        self.0.borrow_mut().apic = Some((n, value));
        n == 0x0B
    }
    fn task_priority(&self) -> u8 {
        self.0.borrow().task_priority
    }
    fn set_task_priority(&mut self, class: u8) {
        self.0.borrow_mut().task_priority = class;
    }
    fn tsc_deadline(&mut self) -> Option<u64> {
        self.0.borrow().tsc_deadline
    }
    fn set_tsc_deadline(&mut self, at: Option<u64>) {
        self.0.borrow_mut().tsc_deadline = at;
    }
    fn set_ferr(&mut self, is_on: bool) {
        self.0.borrow_mut().ferr = is_on;
    }
    fn ignne(&self) -> bool {
        self.0.borrow().ignne
    }
    fn tsc(&mut self) -> u64 {
        1000
    }
    fn tsc_map(&self) -> mem::TscMap {
        mem::TscMap { zero: 0, span: 1 << 40, scale: 1 << 62, base: 1000 }
    }
    fn a20(&self) -> bool {
        !self.0.borrow().a20_off
    }
}

/// 4 MiB of RAM at 0, MMIO from 0xE000_0000 on (nothing mapped), reset state.
pub(crate) fn machine() -> (Cpu, Rc<RefCell<Log>>) {
    let ram = Arc::new(GuestRam::new(4 << 20).unwrap());
    let map = Arc::new(PhysMap::new(0, 0));
    map.map_ram(Phys(0), 4 << 20, 0, true);
    let log = Rc::new(RefCell::new(Log::default()));
    (Cpu::new(ram, map, Box::new(TestBus(log.clone()))), log)
}

pub(crate) fn cpu() -> Cpu {
    machine().0
}

/// Selectors of [`protected`]'s GDT.
pub(crate) mod sel {
    pub(crate) const CODE: u16 = 0x08;
    pub(crate) const DATA: u16 = 0x10;
    pub(crate) const USER_CODE: u16 = 0x1B;
    pub(crate) const USER_DATA: u16 = 0x23;
    pub(crate) const TSS: u16 = 0x28;
    pub(crate) const LDT: u16 = 0x30;
    /// Conforming code, DPL 0.
    pub(crate) const CONFORMING: u16 = 0x38;
    pub(crate) const ABSENT: u16 = 0x40;
    pub(crate) const READ_ONLY: u16 = 0x48;
    /// Offsets above 0xFFFF.
    pub(crate) const EXPAND_DOWN: u16 = 0x50;
    pub(crate) const EXECUTE_ONLY: u16 = 0x58;
    /// 32-bit call gate, DPL 3, 2 parameters, to CODE:0x5000.
    pub(crate) const CALL_GATE: u16 = 0x60;
    /// 16-bit call gate, DPL 3, 1 parameter, to CODE:0x5100.
    pub(crate) const CALL_GATE16: u16 = 0x68;
    /// Task gate, DPL 3, to TSS2.
    pub(crate) const TASK_GATE: u16 = 0x70;
    pub(crate) const TSS2: u16 = 0x78;
    pub(crate) const TSS16: u16 = 0x80;
    /// 16-bit code, base 0x1_0000, limit 0xFFFF.
    pub(crate) const CODE16: u16 = 0x88;
    /// 16-bit data, base 0x1_0000, limit 0xFFFF.
    pub(crate) const DATA16: u16 = 0x90;
    /// Flat data of DPL 3 but not writable.
    pub(crate) const USER_READ_ONLY: u16 = 0x9B;
}

/// Linear addresses of the tables.
pub(crate) mod at {
    pub(crate) const GDT: u64 = 0x1000;
    pub(crate) const IDT: u64 = 0x2000;
    pub(crate) const TSS: u64 = 0x3000;
    pub(crate) const TSS2: u64 = 0x3800;
    pub(crate) const TSS16: u64 = 0x3A00;
    pub(crate) const LDT: u64 = 0x3C00;
    /// Inner stack pointer of level 0 in the TSS.
    pub(crate) const STACK0: u64 = 0x8000;
}

/// A segment or system descriptor; `limit` in units of its granularity.
pub(crate) fn descriptor(base: u64, limit: u64, attr: u16) -> u64 {
    let attr = u64::from(attr);
    limit & 0xFFFF
        | (base & 0xFF_FFFF) << 16
        | (attr & 0xFF) << 40
        | (limit >> 16 & 0xF) << 48
        | (attr >> 12) << 52
        | (base >> 24 & 0xFF) << 56
}

/// A gate: selector, offset, access byte, parameter count.
pub(crate) fn gate(selector: u16, off: u64, access: u64, params: u64) -> u64 {
    off & 0xFFFF | u64::from(selector) << 16 | params << 32 | access << 40 | (off >> 16) << 48
}

/// Flat 32-bit protected mode at CPL 0, SP 0x9000, with the tables that [`sel`] names.
pub(crate) fn protected() -> (Cpu, Rc<RefCell<Log>>) {
    let (mut cpu, log) = machine();
    let flat = |access: u16| descriptor(0, 0xF_FFFF, 0xC000 | access);
    let gdt = [
        0,
        flat(0x9B),
        flat(0x93),
        flat(0xFB),
        flat(0xF3),
        descriptor(at::TSS, 0x20FF, 0x8B),
        descriptor(at::LDT, 0x3F, 0x82),
        flat(0x9F),
        flat(0x13),
        flat(0x91),
        descriptor(0, 0xFFFF, 0x4097),
        flat(0x99),
        gate(sel::CODE, 0x5000, 0xEC, 2),
        gate(sel::CODE, 0x5100, 0xE4, 1),
        gate(sel::TSS2, 0, 0xE5, 0),
        descriptor(at::TSS2, 0x67, 0x89),
        descriptor(at::TSS16, 0x2B, 0x81),
        descriptor(0x1_0000, 0xFFFF, 0x9B),
        descriptor(0x1_0000, 0xFFFF, 0x93),
        flat(0xF1),
    ];
    for (i, &entry) in (0..).zip(&gdt) {
        poke(&cpu, at::GDT + 8 * i, Size::B8, entry);
    }
    poke(&cpu, at::TSS + 4, Size::B4, at::STACK0);
    poke(&cpu, at::TSS + 8, Size::B2, u64::from(sel::DATA));
    cpu.state.gdtr = TableReg { base: at::GDT, limit: 8 * gdt.len() as u32 - 1, pad: 0 };
    cpu.state.idtr = TableReg { base: at::IDT, limit: 0x7FF, pad: 0 };
    cpu.state.tr = Segment { selector: sel::TSS, attr: 0x8B, limit: 0x20FF, base: at::TSS };
    cpu.state.ldtr = Segment::null(0);
    cpu.state.cr0 |= 1;
    enter_level(&mut cpu, 0);
    cpu.state.pc = 0x4000;
    (cpu, log)
}

/// Flat segments of a privilege level, SP 0x9000.
pub(crate) fn enter_level(cpu: &mut Cpu, cpl: u16) {
    let (code, data) =
        if cpl == 0 { (sel::CODE, sel::DATA) } else { (sel::USER_CODE, sel::USER_DATA) };
    let dpl = cpl << 5;
    let data = Segment { selector: data, attr: 0xC093 | dpl, limit: u32::MAX, base: 0 };
    cpu.state.seg = [data; 6];
    cpu.state.seg[1] = Segment { selector: code, attr: 0xC09B | dpl, ..data };
    cpu.state.cpl = u32::from(cpl);
    cpu.state.gpr[4] = 0x9000;
    cpu.sync_mode();
}

/// Virtual-8086 mode with every selector 0x1000 but SS, 0x900:0x100, IP 0x20.
pub(crate) fn enter_vm86(cpu: &mut Cpu, iopl: u32) {
    cpu.state.set_eflags(crate::flags::VM | crate::flags::IF | iopl << 12);
    cpu.state.seg = [Segment::of_8086(0x1000, 0xF3); 6];
    cpu.state.seg[2] = Segment::of_8086(0x900, 0xF3);
    cpu.state.gpr[4] = 0x100;
    cpu.state.pc = 0x20;
    cpu.state.cpl = 3;
    cpu.sync_mode();
}

/// Writes guest RAM.
pub(crate) fn poke(cpu: &Cpu, at: u64, size: Size, value: u64) {
    assert!(cpu.ram.write(at, size, value));
}

/// Reads 4 bytes of guest RAM.
pub(crate) fn peek4(cpu: &Cpu, at: u64) -> u64 {
    cpu.ram.read(at, Size::B4).unwrap()
}

/// Reads 2 bytes of guest RAM.
pub(crate) fn peek2(cpu: &Cpu, at: u64) -> u64 {
    cpu.ram.read(at, Size::B2).unwrap()
}

/// Writes an IDT gate.
pub(crate) fn set_gate(cpu: &Cpu, vector: u8, entry: u64) {
    poke(cpu, at::IDT + 8 * u64::from(vector), Size::B8, entry);
}

/// `(selector, pc, cpl)`.
pub(crate) fn place(cpu: &Cpu) -> (u16, u64, u32) {
    (cpu.state.seg[1].selector, cpu.state.pc, cpu.state.cpl)
}

/// Long mode: four-level identity mapping of the first 4 MiB (user, writable), the tables of
/// [`protected`] and more.
pub(crate) mod long {
    use super::*;

    /// Selectors beside [`sel`]'s, which stay what they are.
    pub(crate) const CODE64: u16 = 0xA0;
    pub(crate) const USER_DATA: u16 = 0xAB;
    pub(crate) const USER_CODE64: u16 = 0xB3;
    /// 16-byte TSS.
    pub(crate) const TSS64: u16 = 0xB8;
    /// Call gate, DPL 3, to CODE64:0xFFFF_8000_0000_5000.
    pub(crate) const GATE64: u16 = 0xC8;
    /// L and D both set.
    pub(crate) const BAD64: u16 = 0xD8;
    /// 16-byte LDT.
    pub(crate) const LDT64: u16 = 0xE0;

    pub(crate) const PML4: u64 = 0x20_0000;
    pub(crate) const PDPT: u64 = 0x20_1000;
    pub(crate) const PD: u64 = 0x20_2000;
    pub(crate) const PT: u64 = 0x20_3000;
    pub(crate) const TSS: u64 = 0x6000;
    /// Inner stack of level 0, and of IST 1.
    pub(crate) const STACK0: u64 = 0x8008;
    pub(crate) const IST1: u64 = 0xA004;

    /// 64-bit mode at CPL 0.
    pub(crate) fn long() -> (Cpu, Rc<RefCell<Log>>) {
        let (mut cpu, log) = protected();
        let code = |access: u16, flags: u16| descriptor(0, 0xF_FFFF, flags << 12 | access);
        let gdt = [
            code(0x9B, 0xA),
            code(0xF3, 0xC),
            code(0xFB, 0xA),
            descriptor(TSS, 0x1FF, 0x89),
            0,
            gate(CODE64, 0x5000, 0xEC, 0),
            0xFFFF_8000,
            code(0x9B, 0xE),
            descriptor(0xFFFF_0000, 0x3F, 0x82),
            0xFFFF_8000,
        ];
        for (i, &entry) in (0..).zip(&gdt) {
            poke(&cpu, at::GDT + u64::from(CODE64) + 8 * i, Size::B8, entry);
        }
        cpu.state.gdtr.limit = 0xEF;
        cpu.state.idtr.limit = 0xFFF;
        poke(&cpu, TSS + 4, Size::B8, STACK0);
        poke(&cpu, TSS + 0x24, Size::B8, IST1);
        map(&cpu);
        cpu.state.cr3 = PML4;
        cpu.state.cr4 = 0x20;
        cpu.state.efer = 0x100;
        cpu.state.tr = Segment { selector: TSS64, attr: 0x8B, limit: 0x1FF, base: TSS };
        let cr0 = cpu.state.cr0 | 0x8000_0000;
        cpu.write_cr0(cr0).unwrap();
        enter(&mut cpu, 0);
        cpu.state.pc = 0x4000;
        (cpu, log)
    }

    fn map(cpu: &Cpu) {
        poke(cpu, PML4, Size::B8, PDPT | 7);
        poke(cpu, PML4 + 8 * 256, Size::B8, PDPT | 7);
        poke(cpu, PDPT, Size::B8, PD | 7);
        poke(cpu, PD, Size::B8, PT | 7);
        poke(cpu, PD + 8, Size::B8, 0x20_0000 | 0x87);
        for i in 0..512 {
            poke(cpu, PT + 8 * i, Size::B8, i << 12 | 7);
        }
    }

    /// 64-bit code of a privilege level, SP 0x9000.
    pub(crate) fn enter(cpu: &mut Cpu, cpl: u16) {
        super::enter_level(cpu, cpl);
        let selector = if cpl == 0 { CODE64 } else { USER_CODE64 };
        if cpl != 0 {
            for s in &mut cpu.state.seg {
                s.selector = USER_DATA;
            }
        }
        cpu.state.seg[1] = Segment { selector, attr: 0xA09B | cpl << 5, limit: u32::MAX, base: 0 };
        cpu.sync_mode();
    }

    /// Writes a 16-byte IDT gate: selector, offset, access byte, IST.
    pub(crate) fn set_gate(cpu: &Cpu, vector: u8, selector: u16, off: u64, access: u64, ist: u64) {
        let at = at::IDT + 16 * u64::from(vector);
        poke(cpu, at, Size::B8, gate(selector, off & 0xFFFF_FFFF, access, ist));
        poke(cpu, at + 8, Size::B8, off >> 32);
    }

    /// Reads 8 bytes of guest RAM.
    pub(crate) fn peek8(cpu: &Cpu, at: u64) -> u64 {
        cpu.ram.read(at, Size::B8).unwrap()
    }
}
