//! The wires between chips: interrupt lines and messages, the A20 gate, reset and power.
//!
//! A chip drives its wire while the board holds the chip; the effect on other chips is settled by
//! the board when the access is over. So a wire only leaves notes here: per interrupt line, did
//! it fall, did it rise, where does it stand. All accesses come from the machine's own thread;
//! atomics are used because they make the board `Send` without unsafe code.
//!
//! Lines are the numbers ACPI calls global system interrupts: 0–15 are the ISA interrupts, which
//! reach both the 8259s and the IOAPIC (where the timer's is at input 2); 16–23 reach the IOAPIC
//! alone. Where a source leads can change: PCI interrupts by the ISA bridge's routing registers,
//! the HPET's by its own.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use devices::Wire;
use devices::ioapic::{IoApic, PINS};
use devices::message::{Message, MessageLine, MsiWire};
use devices::pic::PicPair;
use mem::IrqLine;

/// An interrupt source.
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
    Floppy,
    Hpet(usize),
    /// The test device's, by ISA interrupt.
    Test(u8),
    /// INTA# of the PCI device in this slot.
    Pci(u8),
}

/// PCI slots, each with a source of its own.
const SLOTS: u8 = 32;

impl IrqSource {
    /// A number below 64 of its own.
    fn number(self) -> u32 {
        match self {
            Self::Pit => 0,
            Self::Keyboard => 1,
            Self::Rtc => 2,
            Self::AcpiSci => 3,
            Self::Mouse => 4,
            Self::FpuError => 5,
            Self::Floppy => 6,
            Self::Serial(i) => 8 + (i as u32 & 3),
            Self::Ide(i) => 12 + (i as u32 & 1),
            Self::Hpet(i) => 16 + (i as u32 & 3),
            // What the others leave: 7, 14, 15, 19 and 20 to 31.
            Self::Test(line @ 0..4) => [7, 14, 15, 19][usize::from(line)],
            Self::Test(line) => 16 + u32::from(line & 15),
            Self::Pci(slot) => 32 + u32::from(slot % SLOTS),
        }
    }

    /// The line it is soldered to, until [`Signals::route`] says otherwise.
    fn line(self) -> Option<u8> {
        Some(match self {
            Self::Pit => 0,
            Self::Keyboard => 1,
            Self::Serial(i) => [4, 3][i & 1],
            Self::Floppy => 6,
            Self::Rtc => 8,
            Self::AcpiSci => 9,
            Self::Mouse => 12,
            Self::FpuError => 13,
            Self::Ide(i) => [14, 15][i & 1],
            Self::Test(line) => line & 15,
            Self::Hpet(_) | Self::Pci(_) => return None,
        })
    }
}

/// The IOAPIC input of a line: the 8254 is at input 2, and input 0 has no wire.
fn input_of(line: usize) -> usize {
    if line == 0 { 2 } else { line }
}

/// State of all wires.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Sources that drive their wire high.
    sources: AtomicU64,
    /// The sources that lead to each line.
    soldered: [AtomicU64; PINS],
    rose: AtomicU32,
    fell: AtomicU32,
    level: AtomicU32,
    /// A line or a message is to be settled.
    changed: AtomicBool,
    messages: Mutex<Vec<Message>>,
    has_messages: AtomicBool,
    pub(super) a20: AtomicBool,
    pub(super) reset: AtomicBool,
    pub(super) power_off: AtomicBool,
}

impl Signals {
    /// A wire from a source to the interrupt controllers.
    pub(super) fn irq_wire(self: &Arc<Self>, source: IrqSource) -> Wire {
        let bit = 1 << source.number();
        if let Some(line) = source.line() {
            self.soldered[usize::from(line)].fetch_or(bit, Relaxed);
        }
        Box::new(IrqWire { signals: self.clone(), bit })
    }

    /// A way for message-signalled interrupts.
    pub(super) fn msi_wire(self: &Arc<Self>) -> MsiWire {
        Box::new(Messages(self.clone()))
    }

    /// A wire that sets one of the flags: the A20 gate follows the level, the others latch a rise.
    pub(super) fn flag_wire(self: &Arc<Self>, which: Flag) -> Wire {
        Box::new(FlagWire { signals: self.clone(), which })
    }

    /// Leads a source to another line, or to none.
    pub(super) fn route(&self, source: IrqSource, to: Option<u8>) {
        let bit = 1u64 << source.number();
        for (line, soldered) in self.soldered.iter().enumerate() {
            let old = soldered.load(Relaxed);
            let leads = to.is_some_and(|to| usize::from(to) == line);
            let new = if leads { old | bit } else { old & !bit };
            if new != old {
                soldered.store(new, Relaxed);
                let high = self.sources.load(Relaxed) & new != 0;
                self.drive_line(line, high);
            }
        }
    }

    /// Carries what happened on interrupt wires to the controllers. True if anything did.
    pub(super) fn settle(&self, pic: &mut PicPair, ioapic: &mut IoApic) -> bool {
        // A load, because most accesses move no wire, and a locked exchange would cost more than they do.
        if !self.changed.load(Relaxed) {
            return false;
        }
        self.changed.store(false, Relaxed);
        let (rose, fell) = (self.rose.swap(0, Relaxed), self.fell.swap(0, Relaxed));
        let level = self.level.load(Relaxed);
        let mut left = rose | fell;
        while left != 0 {
            let line = left.trailing_zeros() as usize;
            left &= left - 1;
            let has = |set: u32| set >> line & 1 != 0;
            let mut set_line = |high| {
                if line < 16 {
                    pic.set_line(line as u8, high);
                }
                ioapic.set_line(input_of(line), high);
            };
            if has(fell) {
                set_line(false);
            }
            if has(rose) {
                set_line(true);
            }
            set_line(has(level));
        }
        true
    }

    /// What is saved of the wires that are no interrupts: A20 gate, reset, power-off.
    pub(super) fn flags(&self) -> [&AtomicBool; 3] {
        [&self.a20, &self.reset, &self.power_off]
    }

    /// The messages that wait.
    pub(super) fn take_messages(&self) -> Vec<Message> {
        if !self.has_messages.swap(false, Relaxed) {
            return Vec::new();
        }
        std::mem::take(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Queues a message-signalled interrupt.
    pub(super) fn send(&self, address: u64, data: u32) {
        if let Some(message) = Message::from_msi(address, data) {
            self.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
            self.has_messages.store(true, Relaxed);
            self.changed.store(true, Relaxed);
        }
    }

    fn drive(&self, bit: u64, high: bool) {
        let old = self.sources.load(Relaxed);
        let new = if high { old | bit } else { old & !bit };
        if new == old {
            return;
        }
        self.sources.store(new, Relaxed);
        for (line, soldered) in self.soldered.iter().enumerate() {
            let soldered = soldered.load(Relaxed);
            if soldered & bit != 0 {
                self.drive_line(line, new & soldered != 0);
            }
        }
    }

    fn drive_line(&self, line: usize, high: bool) {
        let (bit, level) = (1u32 << line, self.level.load(Relaxed));
        if (level & bit != 0) == high {
            return;
        }
        let note = if high { &self.rose } else { &self.fell };
        note.store(note.load(Relaxed) | bit, Relaxed);
        self.level.store(level ^ bit, Relaxed);
        self.changed.store(true, Relaxed);
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
    bit: u64,
}

impl IrqLine for IrqWire {
    fn set(&self, high: bool) {
        self.signals.drive(self.bit, high);
    }
}

struct Messages(Arc<Signals>);

impl MessageLine for Messages {
    fn send(&self, address: u64, data: u32) {
        self.0.send(address, data);
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
