//! A small machine for the unit tests of this crate.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use mem::{Bus, GuestRam, Phys, PhysMap, Port, Size};

use crate::cpu::Cpu;

/// What the test bus saw and says.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) ports: Vec<(u16, u64, u64)>,
    pub(crate) mmio: Vec<(u64, u64, u64)>,
    pub(crate) irq: Option<u8>,
    pub(crate) nmi: bool,
    pub(crate) a20_off: bool,
    pub(crate) port_value: u64,
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
    fn tsc(&mut self) -> u64 {
        1000
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
