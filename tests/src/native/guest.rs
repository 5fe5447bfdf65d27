//! Stele's side: the same case on an engine of ours, at the same linear addresses with the same rights.
//!
//! The system around it is the least there can be: descriptor tables as Linux has them, a task-state segment, a gate for each
//! vector that leads to a HLT of privilege level 0, page tables. All that is supervisor pages at [`SYSTEM`], far from what cases touch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use mem::{GuestRam, Phys, PhysMap, Size};
use stele::log::Log;
use stele::vcpu::{Vcpu, VcpuExit};
use x86::cpu::{Cpu, cr0};
use x86::flags;
use x86::state::{Segment, TableReg};

use super::layout::{
    AREA, BACKING_LEN, CODE, CODE_END, DATA, DATA_RIGHTS, GLOBALS, LOCALS, PAGE, Rights, segment,
};
use super::state::{Case, ENDLESS, Output, SHUTDOWN, Width};
use super::view::{Image, View};
use crate::{Engine, NullBus};

/// Linear address of everything that is the system's.
pub const SYSTEM: u64 = 0x7E5A_0000;
const SYSTEM_LEN: u64 = 0x1_0000;
/// Physical addresses: the system at 0, then paging structures, then code and data pages.
const TABLES: u64 = 0x1_0000;
const BACKING: u64 = 0x4_0000;
const RAM: u64 = 0x10_0000;

/// Offsets from [`SYSTEM`].
mod at {
    pub(super) const GDT: u64 = 0;
    pub(super) const LDT: u64 = 0x1000;
    pub(super) const IDT: u64 = 0x2000;
    pub(super) const TSS: u64 = 0x4000;
    pub(super) const HANDLERS: u64 = 0x6000;
    pub(super) const STACK0: u64 = 0x9000;
}

/// Code of privilege level 0.
const KERNEL_CODE: u16 = 0x08;
const KERNEL_DATA: u16 = 0x18;
const TSS_SELECTOR: u16 = 0x40;
const LDT_SELECTOR: u16 = 0x50;
const HLT: u8 = 0xF4;

/// One engine with its world for one code size.
pub struct Guest {
    vcpu: Vcpu,
    view: View,
    engine: Engine,
    progress: Arc<AtomicU64>,
}

impl Guest {
    /// A world for cases of a width.
    pub fn new(engine: Engine, width: Width) -> Self {
        let ram = Arc::new(GuestRam::new(RAM).expect("the host has 1 MiB to spare"));
        let map = Arc::new(PhysMap::new(0, 0));
        map.map_ram(Phys(0), RAM, 0, true);
        let view = View::of_guest(&ram, BACKING);
        let cpu = Cpu::new(ram, map, Box::new(NullBus));
        let vcpu = Vcpu::new(cpu, engine.config(), Log::off()).expect("a code cache can be made");
        let mut guest = Self { vcpu, view, engine, progress: Arc::new(AtomicU64::new(0)) };
        guest.build(width);
        guest.watch();
        guest
    }

    /// Which engine it is.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    fn poke(&self, at: u64, bytes: &[u8]) {
        assert!(self.vcpu.cpu().ram.write_bytes(at, bytes), "{at:#x} is outside the memory");
    }

    fn poke8(&self, at: u64, value: u64) {
        self.poke(at, &value.to_le_bytes());
    }

    fn build(&mut self, width: Width) {
        assert_ne!(width, Width::W64, "there is no world for 64-bit code yet");
        for (n, raw) in (0..).zip(GLOBALS) {
            self.poke8(at::GDT + 8 * n, raw);
        }
        for (n, local) in (1..).zip(&LOCALS) {
            self.poke8(at::LDT + 8 * n, local.descriptor());
        }
        let (tss, ldt) = (SYSTEM + at::TSS, SYSTEM + at::LDT);
        let ldt_limit = 8 * LOCALS.len() as u64 + 7;
        self.poke8(u64::from(TSS_SELECTOR), crate::setup::descriptor(tss, 0x67, 0x8B));
        self.poke8(u64::from(LDT_SELECTOR), crate::setup::descriptor(ldt, ldt_limit, 0x82));
        for vector in 0..=0xFFu64 {
            let handler = SYSTEM + at::HANDLERS + 16 * vector;
            self.poke(at::HANDLERS + 16 * vector, &[HLT]);
            // INT3 and INTO are for all.
            let dpl = if matches!(vector, 3 | 4) { 0x60 } else { 0 };
            let gate = handler & 0xFFFF
                | u64::from(KERNEL_CODE) << 16
                | (0x8E | dpl) << 40
                | (handler >> 16) << 48;
            self.poke8(at::IDT + 8 * vector, gate);
        }
        self.poke(at::TSS + 4, &((SYSTEM + at::STACK0) as u32).to_le_bytes());
        self.poke(at::TSS + 8, &KERNEL_DATA.to_le_bytes());
        self.poke(at::TSS + 0x66, &0xFFFFu16.to_le_bytes());
        self.map_legacy();
        let s = &mut self.vcpu.cpu_mut().state;
        s.gdtr = TableReg { base: SYSTEM + at::GDT, limit: 0x7F, pad: 0 };
        s.idtr = TableReg { base: SYSTEM + at::IDT, limit: 0x7FF, pad: 0 };
        s.tr = Segment { selector: TSS_SELECTOR, attr: 0x8B, limit: 0x67, base: tss };
        s.ldtr = Segment { selector: LDT_SELECTOR, attr: 0x82, limit: ldt_limit as u32, base: ldt };
        s.cr3 = TABLES;
        s.cr0 = cr0::PE | cr0::PG | cr0::WP | cr0::AM | cr0::NE | cr0::ET | cr0::MP;
        self.vcpu.state_changed();
    }

    /// Two-level page tables.
    fn map_legacy(&self) {
        let mut free = TABLES + PAGE;
        for (lin, phys, flags) in pages() {
            let slot = TABLES + 4 * (lin >> 22);
            let mut table = self.peek4(slot) & !0xFFF;
            if table == 0 {
                table = free;
                free += PAGE;
                self.poke(slot, &(table as u32 | 7).to_le_bytes());
            }
            let entry = (phys as u32) | flags;
            self.poke(table + 4 * (lin >> 12 & 0x3FF), &entry.to_le_bytes());
        }
    }

    fn peek4(&self, at: u64) -> u64 {
        self.vcpu.cpu().ram.read(at, Size::B4).unwrap_or(0)
    }

    /// Ends a run that makes no progress for seconds.
    fn watch(&self) {
        const PATIENCE: Duration = Duration::from_secs(3);
        let (kicker, progress) = (self.vcpu.kicker(), Arc::downgrade(&self.progress));
        thread::spawn(move || {
            let mut last = 0;
            loop {
                thread::sleep(PATIENCE);
                let Some(progress) = progress.upgrade() else { return };
                let now = progress.load(Ordering::Relaxed);
                // Odd: a case is under way.
                if now == last && now & 1 != 0 {
                    kicker.kick();
                }
                last = now;
            }
        });
    }

    /// Takes an image for the cases to come.
    pub fn fill(&mut self, image: &Image) {
        self.view.fill(image);
        let ram = &self.vcpu.cpu().ram;
        // Translations of the code pages are stale.
        let mut code = vec![0; (CODE_END - CODE) as usize];
        assert!(ram.read_bytes(BACKING, &mut code) && ram.write_bytes(BACKING, &code));
    }

    /// Runs a case over the image, which is as before afterwards.
    pub fn run(&mut self, image: &mut Image, case: &Case) -> Output {
        if let Some(stretches) = self.view.install(image, case) {
            for (lin, len) in stretches {
                self.announce(lin, len);
            }
        }
        self.enter(case);
        self.progress.fetch_add(1, Ordering::Relaxed);
        let exit = self.vcpu.run();
        self.progress.fetch_add(1, Ordering::Relaxed);
        let mut output = Output { fp: case.fp.clone(), ..Output::EMPTY };
        match exit {
            VcpuExit::Halted => self.leave(&mut output),
            VcpuExit::Shutdown => {
                output.vector = SHUTDOWN;
                self.vcpu.cpu_mut().shutdown = false;
            }
            VcpuExit::Kick => output.vector = ENDLESS,
        }
        output.changes = self.view.collect(image);
        output
    }

    /// Are the pages that no case may write as they were?
    pub fn is_sound(&mut self, image: &Image) -> bool {
        self.view.is_sound(image)
    }

    /// Tells the vCPU that code bytes were written.
    fn announce(&self, lin: u64, len: usize) {
        let from = lin.max(CODE) & !0x3F;
        let to = (lin + len as u64 + 0x40).min(CODE_END);
        if from >= to {
            return;
        }
        let mut bytes = [0; 256];
        let bytes = &mut bytes[..(to - from) as usize];
        let at = BACKING + (from - CODE);
        let ram = &self.vcpu.cpu().ram;
        assert!(ram.read_bytes(at, bytes) && ram.write_bytes(at, bytes), "within the code pages");
    }

    fn enter(&mut self, case: &Case) {
        let cpu = self.vcpu.cpu_mut();
        let s = &mut cpu.state;
        for (slot, value) in s.gpr.iter_mut().zip(case.gpr) {
            *slot = value & 0xFFFF_FFFF;
        }
        s.seg = case.seg.map(segment);
        s.set_eflags(case.flags | flags::IF | flags::FIXED);
        s.cpl = 3;
        s.pc = case.ip;
        s.halted = 0;
        s.shadow = 0;
        s.cr2 = 0;
        cpu.sync_mode();
    }

    /// Reads the state back through the exception frame.
    fn leave(&self, output: &mut Output) {
        let s = &self.vcpu.cpu().state;
        let handler = s.pc.wrapping_sub(1).wrapping_sub(SYSTEM + at::HANDLERS);
        output.vector = if handler & 15 == 0 { (handler >> 4) as u8 } else { 0xFF };
        output.gpr = s.gpr;
        output.seg = s.seg.map(|s| s.selector);
        output.cr2 = if output.vector == 14 { s.cr2 } else { 0 };
        let mut sp = s.gpr[4].wrapping_sub(SYSTEM);
        let words = (at::STACK0 - sp.min(at::STACK0)) / 4;
        let mut pop = || {
            sp += 4;
            self.peek4(sp - 4)
        };
        output.code = if words == 6 { pop() as u32 } else { 0 };
        output.ip = pop();
        output.seg[1] = pop() as u16;
        output.flags = pop() as u32;
        output.gpr[4] = pop();
        output.seg[2] = pop() as u16;
    }
}

/// Linear address, physical address and entry flags of all pages.
fn pages() -> Vec<(u64, u64, u32)> {
    const READ: u32 = 5;
    const WRITE: u32 = 7;
    const SUPERVISOR: u32 = 3;
    let mut list = Vec::new();
    list.extend((0..SYSTEM_LEN / PAGE).map(|n| (SYSTEM + n * PAGE, n * PAGE, SUPERVISOR)));
    let code_pages = (CODE_END - CODE) / PAGE;
    list.extend((0..code_pages).map(|n| (CODE + n * PAGE, BACKING + n * PAGE, READ)));
    for (n, rights) in (0..).zip(DATA_RIGHTS) {
        let flags = match rights {
            Rights::None => continue,
            Rights::Read => READ,
            Rights::Write => WRITE,
        };
        list.push((DATA + n * PAGE, BACKING + (code_pages + n) * PAGE, flags));
    }
    list
}

const _: () = assert!(BACKING + BACKING_LEN as u64 <= RAM && AREA < DATA);
