//! The wires between chips: interrupt lines, the A20 gate, reset and power.
//!
//! A chip drives its wire while the board holds the chip; the effect on other chips is settled by
//! the board when the access is over. So a wire only leaves notes here: per interrupt input, did
//! it fall, did it rise, where does it stand. All accesses come from the machine's own thread;
//! atomics are used because they make the board `Send` without unsafe code.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering::Relaxed};

use devices::Wire;
use devices::pic::PicPair;
use mem::IrqLine;

/// An interrupt source and the controller input it is soldered to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum IrqSource {
    Pit,
    Keyboard,
    Serial(usize),
    Rtc,
    AcpiSci,
    Mouse,
    FpuError,
    Ide(usize),
}

impl IrqSource {
    /// A number below 32 of its own.
    fn bit(self) -> u32 {
        match self {
            Self::Pit => 0,
            Self::Keyboard => 1,
            Self::Rtc => 2,
            Self::AcpiSci => 3,
            Self::Mouse => 4,
            Self::FpuError => 5,
            Self::Serial(i) => 8 + (i as u32 & 3),
            Self::Ide(i) => 12 + (i as u32 & 1),
        }
    }

    /// The PC's interrupt numbers.
    fn irq(self) -> u8 {
        match self {
            Self::Pit => 0,
            Self::Keyboard => 1,
            Self::Serial(i) => [4, 3][i & 1],
            Self::Rtc => 8,
            Self::AcpiSci => 9,
            Self::Mouse => 12,
            Self::FpuError => 13,
            Self::Ide(i) => [14, 15][i & 1],
        }
    }
}

/// State of all wires.
#[derive(Debug, Default)]
pub(super) struct Signals {
    sources: AtomicU32,
    /// Source bits soldered to each input.
    soldered: [AtomicU32; 16],
    rose: AtomicU16,
    fell: AtomicU16,
    level: AtomicU16,
    irq_changed: AtomicBool,
    pub(super) a20: AtomicBool,
    pub(super) reset: AtomicBool,
    pub(super) power_off: AtomicBool,
}

impl Signals {
    /// A wire from a source to the interrupt controllers.
    pub(super) fn irq_wire(self: &Arc<Self>, source: IrqSource) -> Wire {
        let wire = IrqWire { signals: self.clone(), bit: 1 << source.bit(), irq: source.irq() };
        self.soldered[usize::from(wire.irq)].fetch_or(wire.bit, Relaxed);
        Box::new(wire)
    }

    /// A wire that sets one of the flags: the A20 gate follows the level, the others latch a rise.
    pub(super) fn flag_wire(self: &Arc<Self>, which: Flag) -> Wire {
        Box::new(FlagWire { signals: self.clone(), which })
    }

    /// Carries what happened on interrupt wires to the controllers. True if anything did.
    pub(super) fn settle(&self, pic: &mut PicPair) -> bool {
        if !self.irq_changed.swap(false, Relaxed) {
            return false;
        }
        let (rose, fell) = (self.rose.swap(0, Relaxed), self.fell.swap(0, Relaxed));
        let level = self.level.load(Relaxed);
        for irq in (0..16).filter(|irq| (rose | fell) >> irq & 1 != 0) {
            let has = |set: u16| set >> irq & 1 != 0;
            if has(fell) {
                pic.set_line(irq, false);
            }
            if has(rose) {
                pic.set_line(irq, true);
            }
            pic.set_line(irq, has(level));
        }
        true
    }

    /// What is saved of the wires that are no interrupts: A20 gate, reset, power-off.
    pub(super) fn flags(&self) -> [&AtomicBool; 3] {
        [&self.a20, &self.reset, &self.power_off]
    }

    fn drive(&self, bit: u32, irq: u8, high: bool) {
        let old = self.sources.load(Relaxed);
        let new = if high { old | bit } else { old & !bit };
        if new == old {
            return;
        }
        self.sources.store(new, Relaxed);
        let soldered = self.soldered[usize::from(irq & 15)].load(Relaxed);
        let (was, is) = (old & soldered != 0, new & soldered != 0);
        if was != is {
            let line = 1u16 << (irq & 15);
            let note = if is { &self.rose } else { &self.fell };
            note.store(note.load(Relaxed) | line, Relaxed);
            let level = self.level.load(Relaxed);
            self.level.store(if is { level | line } else { level & !line }, Relaxed);
            self.irq_changed.store(true, Relaxed);
        }
    }
}

/// A wire that is not an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flag {
    A20,
    Reset,
    PowerOff,
}

struct IrqWire {
    signals: Arc<Signals>,
    bit: u32,
    irq: u8,
}

impl IrqLine for IrqWire {
    fn set(&self, high: bool) {
        self.signals.drive(self.bit, self.irq, high);
    }
}

struct FlagWire {
    signals: Arc<Signals>,
    which: Flag,
}

impl IrqLine for FlagWire {
    fn set(&self, high: bool) {
        let s = &self.signals;
        match self.which {
            Flag::A20 => s.a20.store(high, Relaxed),
            Flag::Reset if high => s.reset.store(true, Relaxed),
            Flag::PowerOff if high => s.power_off.store(true, Relaxed),
            Flag::Reset | Flag::PowerOff => {}
        }
    }
}
