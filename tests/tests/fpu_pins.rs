//! x87 exceptions by FERR# and IGNNE#, CR0.NE clear: on every engine a waiting instruction stands still until IGNNE# is asserted,
//! then runs in spite of the exception.

use std::cell::RefCell;
use std::rc::Rc;

use mem::{Bus, Phys, Port, Size};
use stele::log::Log;
use stele_tests::{Bench, Ending, Engine, NullBus, setup};

const START: u64 = 0x4000;

/// The pins: every change of FERR#; IGNNE# follows the third look at it.
#[derive(Default)]
struct Pins {
    ferr: Vec<bool>,
    looks: u32,
}

struct PinBus(Rc<RefCell<Pins>>);

impl Bus for PinBus {
    fn port_in(&mut self, port: Port, size: Size) -> u64 {
        NullBus.port_in(port, size)
    }
    fn port_out(&mut self, _: Port, _: Size, _: u64) {}
    fn mmio_read(&mut self, at: Phys, size: Size) -> u64 {
        NullBus.mmio_read(at, size)
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
    fn set_ferr(&mut self, is_on: bool) {
        self.0.borrow_mut().ferr.push(is_on);
    }
    fn ignne(&self) -> bool {
        let mut pins = self.0.borrow_mut();
        pins.looks += 1;
        pins.looks > 2
    }
}

/// 32-bit code.
const CODE: &[u8] = &[
    0xDB, 0xE3, // fninit
    0xD9, 0x2D, 0x00, 0x80, 0x00, 0x00, // fldcw [8000h]: division by zero unmasked
    0xD9, 0xE8, // fld1
    0xD9, 0xEE, // fldz
    0xD8, 0xF9, // fdivr st0, st1: 1 / 0 stays undone, ST0 = 0
    0xD9, 0xE8, // fld1: waits
    0xD8, 0xC0, // fadd st0, st0: goes on under IGNNE#
    0xDF, 0xE0, // fnstsw ax
    0x89, 0xC3, // mov ebx, eax
    0xDB, 0xE2, // fnclex
    0xDD, 0x1D, 0x08, 0x80, 0x00, 0x00, // fstp qword [8008h]
    0xDF, 0xE0, // fnstsw ax
    0xD8, 0xF9, // fdivr st0, st1: again
    0x9B, // fwait: waits
    0xF4, // hlt
];

#[test]
fn ignored_errors() {
    for engine in Engine::ALL {
        let pins = Rc::new(RefCell::new(Pins::default()));
        let mut bench =
            Bench::with_bus(engine.config(), Log::off(), Box::new(PinBus(pins.clone())));
        bench.clear();
        setup::flat(&mut bench, 32);
        bench.poke(START, CODE);
        bench.poke(0x8000, &0x37Bu16.to_le_bytes());
        bench.cpu_mut().state.pc = START;
        bench.settle();
        assert_eq!(bench.run(), Ending::Halted, "{engine:?}");
        assert_eq!(setup::vector_reached(&bench), None, "{engine:?}: no #MF");
        let s = &bench.cpu().state;
        // ES, B, ZE; TOP 5. Behind FNCLEX nothing of it.
        assert_eq!((s.gpr[3] & 0xFFFF, s.gpr[0] & 0xFFFF), (0xA884, 0x3000), "{engine:?}");
        assert_eq!(bench.peek(0x8008, 8), 2f64.to_le_bytes(), "{engine:?}");
        let ferr = pins.borrow().ferr.clone();
        let changes: Vec<bool> = ferr
            .iter()
            .enumerate()
            .filter(|(i, on)| *i == 0 || ferr[i - 1] != **on)
            .map(|(_, on)| *on)
            .collect();
        assert_eq!(changes, [true, false, true], "{engine:?}");
    }
}
