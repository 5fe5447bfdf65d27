//! The seams between CPU, chips and memory.
//!
//! A chip implements [`PortDevice`] and/or [`MmioDevice`]; it is handed [`IrqLine`]s, [`Timer`]s and
//! a [`Dma`] when it is built and never learns IRQ numbers, PC addresses or the host's clock.

use crate::{Phys, Port};

/// Virtual time in nanoseconds since power-on.
pub type Ns = u64;

/// Width of one bus access in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum Size {
    /// 1 byte.
    B1 = 1,
    /// 2 bytes.
    B2 = 2,
    /// 4 bytes.
    B4 = 4,
    /// 8 bytes.
    B8 = 8,
}

impl Size {
    /// The width of so many bytes, if there is one.
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            1 => Some(Self::B1),
            2 => Some(Self::B2),
            4 => Some(Self::B4),
            8 => Some(Self::B8),
            _ => None,
        }
    }
    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self as u64
    }
    /// All value bits of this width set.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self as u32)
    }
    /// A value made of so many bytes, the lowest first, each told by its place.
    pub fn gather(self, mut byte: impl FnMut(u64) -> u8) -> u64 {
        (0..self.bytes()).fold(0, |all, i| all | u64::from(byte(i)) << (8 * i))
    }
}

/// What an access wants to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Access {
    /// Data read.
    Read = 1,
    /// Data write.
    Write = 2,
    /// Read-modify-write: one check for both, faults as a write.
    Rmw = 3,
    /// Instruction fetch.
    Fetch = 4,
}

/// How a time-stamp counter follows from the host's: within `span` ticks of `zero` it is `base + (ticks * scale >> 64)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TscMap {
    /// The host's counter where the span begins.
    pub zero: u64,
    /// Ticks of the host for which this holds; 0: it is not known.
    pub span: u64,
    /// Counts of a tick of the host, times 2^64.
    pub scale: u64,
    /// The counter where the span begins.
    pub base: u64,
}

impl TscMap {
    /// The counter when the host's is `ticks`, within the span.
    pub const fn at(&self, ticks: u64) -> Option<u64> {
        let since = ticks.wrapping_sub(self.zero);
        if since < self.span { Some(self.after(since)) } else { None }
    }

    /// The counter `since` ticks into the span, or beyond its end.
    pub const fn after(&self, since: u64) -> u64 {
        let counts = (since as u128 * self.scale as u128) >> 64;
        self.base.wrapping_add(counts as u64)
    }

    /// The same for a counter that is ahead by `by`.
    #[must_use]
    pub const fn moved(self, by: u64) -> Self {
        Self { base: self.base.wrapping_add(by), ..self }
    }
}

/// What a CPU sees of the machine around it. Implemented by the board.
///
/// Addresses are bus addresses (after A20 and paging). Accesses never fault: an unclaimed read
/// gives all ones, an unclaimed write is dropped, each logged once.
pub trait Bus {
    /// Reads `size` bytes, little endian, from an I/O port.
    fn port_in(&mut self, port: Port, size: Size) -> u64;
    /// Writes `size` bytes to an I/O port.
    fn port_out(&mut self, port: Port, size: Size, value: u64);
    /// Reads elements of `size` bytes from a port into `buf`, as if one by one, if the chip behind it has a block of
    /// them (a disk's data register); the number of bytes, whole elements. 0: it has not, ask for one.
    fn port_in_block(&mut self, port: Port, size: Size, buf: &mut [u8]) -> usize {
        let _ = (port, size, buf);
        0
    }
    /// Writes elements of `size` bytes to a port in the same way.
    fn port_out_block(&mut self, port: Port, size: Size, bytes: &[u8]) -> usize {
        let _ = (port, size, bytes);
        0
    }
    /// Reads from an address that is not plain RAM.
    fn mmio_read(&mut self, at: Phys, size: Size) -> u64;
    /// Writes to an address that is not plain RAM.
    fn mmio_write(&mut self, at: Phys, size: Size, value: u64);
    /// Is an interrupt request raised to the CPU now?
    fn intr(&self) -> bool;
    /// Acknowledges the interrupt (INTA cycle) and returns its vector.
    fn inta(&mut self) -> u8;
    /// Is a non-maskable interrupt pending? Reading it clears it.
    fn take_nmi(&mut self) -> bool {
        false
    }
    /// IA32_APIC_BASE has this value now; 0 for a processor without local APIC.
    fn set_apic_base(&mut self, _base: u64) {}
    /// Reads the x2APIC register of MSR 800h + `n`; `None` if there is none to read.
    fn apic_read(&mut self, _n: u32) -> Option<u64> {
        None
    }
    /// Writes the x2APIC register of MSR 800h + `n`; false if it cannot be written so.
    fn apic_write(&mut self, _n: u32, _value: u64) -> bool {
        false
    }
    /// CR8: the task priority class of the local APIC.
    fn task_priority(&self) -> u8 {
        0
    }
    /// Writes CR8.
    fn set_task_priority(&mut self, _class: u8) {}
    /// IA32_TSC_DEADLINE in terms of [`tsc`](Self::tsc), if the timer is armed.
    fn tsc_deadline(&mut self) -> Option<u64> {
        None
    }
    /// Arms the local APIC's timer for a value of [`tsc`](Self::tsc), or disarms it.
    fn set_tsc_deadline(&mut self, _at: Option<u64>) {}
    /// The processor's FERR# pin: an x87 exception waits with CR0.NE clear, or no longer does.
    fn set_ferr(&mut self, _is_on: bool) {}
    /// The processor's IGNNE# pin: x87 exceptions are to be ignored while CR0.NE is clear.
    fn ignne(&self) -> bool {
        false
    }
    /// Time stamp counter value for RDTSC.
    fn tsc(&mut self) -> u64;
    /// How [`tsc`](Self::tsc) follows from the host's counter, right after it was asked.
    fn tsc_map(&self) -> TscMap {
        TscMap::default()
    }
    /// Instruction-counted time: it is `now` at the insn that reaches the bus next.
    fn advance_to(&mut self, now: Ns) {
        let _ = now;
    }
    /// State of the A20 gate: false masks bit 20 of every physical address.
    fn a20(&self) -> bool;
}

/// A chip on the I/O port bus. `offset` counts from the base the board mapped the chip at.
pub trait PortDevice {
    /// Reads a register.
    fn port_read(&mut self, offset: u16, size: Size) -> u64;
    /// Writes a register.
    fn port_write(&mut self, offset: u16, size: Size, value: u64);
}

/// A chip on the memory bus. `offset` counts from the base the board mapped the chip at.
pub trait MmioDevice {
    /// Reads `size` bytes.
    fn mmio_read(&mut self, offset: u64, size: Size) -> u64;
    /// Writes `size` bytes.
    fn mmio_write(&mut self, offset: u64, size: Size, value: u64);
}

/// One interrupt wire out of a chip. Cloneable; level semantics, edges are derived by the receiver.
pub trait IrqLine {
    /// Drives the wire high or low.
    fn set(&self, high: bool);
}

/// One alarm of a chip, in virtual time.
pub trait Timer {
    /// Virtual now.
    fn now(&self) -> Ns;
    /// Calls the chip's `expired` at `deadline`; `None` disarms. One deadline at a time.
    fn arm(&self, deadline: Option<Ns>);
}

/// Bus-master access to guest RAM. Reaches RAM only, never another chip (no re-entrancy).
pub trait Dma {
    /// Fills `buf` from guest memory; bytes that are not RAM read as 0xFF.
    fn read(&self, at: Phys, buf: &mut [u8]);
    /// Writes `buf` to guest memory; bytes that are not RAM are dropped.
    fn write(&self, at: Phys, buf: &[u8]);
}
