//! The I/O APIC: 24 interrupt inputs, each with an entry that says what message it sends.
//!
//! Source: Intel 82093AA datasheet (order 290566); ICH datasheets for version 20h with its EOI
//! register. An input is driven as asserted or not: the polarity bit describes the wire and is only
//! kept. The datasheet's rule for masked inputs is followed: an edge on one is lost, a level is not.

use mem::{MmioDevice, Size};

use crate::message::{Delivery, Message};
use crate::state::StateError;
use crate::state_fields;

/// Inputs.
pub const PINS: usize = 24;
/// Bytes of the register block.
pub const IOAPIC_LEN: u64 = 0x1000;

const VERSION: u32 = 0x20;

// Memory-mapped registers.
const IOREGSEL: u64 = 0x00;
const IOWIN: u64 = 0x10;
const EOIR: u64 = 0x40;

// Registers behind the window.
const IOAPICID: u8 = 0x00;
const IOAPICVER: u8 = 0x01;
const IOAPICARB: u8 = 0x02;
const IOREDTBL: u8 = 0x10;

// Bits of a redirection entry.
const LOGICAL: u64 = 1 << 11;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
const WRITABLE: u64 = 0xff00_0000_0001_afff;

/// The chip.
#[derive(Debug)]
pub struct IoApic {
    select: u8,
    id: u8,
    /// Which inputs are asserted.
    lines: u32,
    /// Edges whose message has not been sent.
    edges: u32,
    table: [u64; PINS],
}

state_fields!(IoApic, 1, [select, id, lines, edges, table]);

impl Default for IoApic {
    fn default() -> Self {
        Self::new()
    }
}

impl IoApic {
    /// The chip as after power-on.
    pub fn new() -> Self {
        Self { select: 0, id: 0, lines: 0, edges: 0, table: [MASKED; PINS] }
    }

    /// Back to power-on; the inputs keep their levels.
    pub fn reset(&mut self) {
        *self = Self { lines: self.lines, ..Self::new() };
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        self.table.iter_mut().for_each(|entry| *entry &= WRITABLE | REMOTE_IRR);
        Ok(())
    }

    /// Drives an input.
    pub fn set_line(&mut self, pin: usize, high: bool) {
        let Some(entry) = self.table.get(pin) else { return };
        let bit = 1 << pin;
        let rises = high && self.lines & bit == 0;
        self.lines = if high { self.lines | bit } else { self.lines & !bit };
        if rises && entry & (LEVEL | MASKED) == 0 {
            self.edges |= bit;
        }
    }

    /// Sends what is due; `send` tells whether the message was taken. True if any was.
    pub fn service(&mut self, mut send: impl FnMut(&Message) -> bool) -> bool {
        let mut any = false;
        let mut due = self.edges | self.lines;
        while due != 0 {
            let pin = due.trailing_zeros() as usize;
            due &= due - 1;
            let Some(entry) = self.table.get_mut(pin) else { break };
            let bit = 1u32 << pin;
            let is_level = *entry & LEVEL != 0;
            let is_due = if is_level {
                self.lines & bit != 0 && *entry & REMOTE_IRR == 0
            } else {
                self.edges & bit != 0
            };
            if !is_due || *entry & MASKED != 0 {
                continue;
            }
            let taken = send(&message(*entry));
            any |= taken;
            if is_level && taken {
                *entry |= REMOTE_IRR;
            }
            self.edges &= !bit;
        }
        any
    }

    /// A level-triggered interrupt with this vector has ended. True if an input had sent it.
    pub fn end_of_interrupt(&mut self, vector: u8) -> bool {
        let mut any = false;
        for entry in &mut self.table {
            if *entry as u8 == vector && *entry & REMOTE_IRR != 0 {
                *entry &= !REMOTE_IRR;
                any = true;
            }
        }
        any
    }

    fn read_window(&self) -> u32 {
        match self.select {
            IOAPICID | IOAPICARB => u32::from(self.id) << 24,
            IOAPICVER => (PINS as u32 - 1) << 16 | VERSION,
            n => match self.table.get(entry_index(n)) {
                Some(entry) if n >= IOREDTBL => (entry >> (32 * (n & 1))) as u32,
                _ => 0,
            },
        }
    }

    fn write_window(&mut self, value: u32) {
        match self.select {
            IOAPICID => self.id = (value >> 24) as u8 & 0xf,
            n if n >= IOREDTBL => self.write_entry(n, value),
            _ => {}
        }
    }

    fn write_entry(&mut self, n: u8, value: u32) {
        let pin = entry_index(n);
        let Some(entry) = self.table.get_mut(pin) else { return };
        let shift = 32 * (n & 1);
        let writable = WRITABLE & 0xffff_ffff << shift;
        *entry = *entry & !writable | u64::from(value) << shift & writable;
        if *entry & LEVEL == 0 {
            // Remote IRR means nothing for edges: the way to clear it without an EOI.
            *entry &= !REMOTE_IRR;
        } else {
            self.edges &= !(1 << pin);
        }
    }

    /// The redirection table, for the monitor.
    pub fn table(&self) -> &[u64; PINS] {
        &self.table
    }
}

fn entry_index(n: u8) -> usize {
    usize::from(n.wrapping_sub(IOREDTBL) >> 1)
}

fn message(entry: u64) -> Message {
    Message {
        destination: (entry >> 56) as u32,
        is_logical: entry & LOGICAL != 0,
        delivery: Delivery::from_bits((entry >> 8) as u32),
        vector: entry as u8,
        is_level: entry & LEVEL != 0,
    }
}

impl MmioDevice for IoApic {
    fn mmio_read(&mut self, offset: u64, size: Size) -> u64 {
        let value = match offset & 0xff {
            IOREGSEL => u32::from(self.select),
            IOWIN => self.read_window(),
            _ => 0,
        };
        u64::from(value) & size.mask()
    }

    fn mmio_write(&mut self, offset: u64, size: Size, value: u64) {
        match offset & 0xff {
            IOREGSEL => self.select = value as u8,
            IOWIN if size >= Size::B4 => self.write_window(value as u32),
            EOIR => {
                self.end_of_interrupt(value as u8);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;

    fn set(io: &mut IoApic, n: u64, value: u64) {
        io.mmio_write(IOREGSEL, Size::B4, n);
        io.mmio_write(IOWIN, Size::B4, value);
    }

    fn get(io: &mut IoApic, n: u64) -> u64 {
        io.mmio_write(IOREGSEL, Size::B4, n);
        io.mmio_read(IOWIN, Size::B4)
    }

    fn sent(io: &mut IoApic) -> Vec<u8> {
        let mut all = Vec::new();
        io.service(|message| {
            all.push(message.vector);
            true
        });
        all
    }

    #[test]
    fn registers() {
        let mut io = IoApic::new();
        assert_eq!(get(&mut io, 1), 0x0017_0020);
        set(&mut io, 0, 0xff00_0000);
        assert_eq!((get(&mut io, 0), get(&mut io, 2)), (0x0f00_0000, 0x0f00_0000));
        assert_eq!(get(&mut io, 0x10), 0x1_0000, "masked after power-on");
        set(&mut io, 0x14, 0xffff_ffff);
        set(&mut io, 0x15, 0x0300_1234);
        assert_eq!((get(&mut io, 0x14), get(&mut io, 0x15)), (0x1_afff, 0x0300_0000));
        assert_eq!((get(&mut io, 0x40), get(&mut io, 0xff), get(&mut io, 3)), (0, 0, 0));
        set(&mut io, 0xff, 1);
        io.mmio_write(IOREGSEL, Size::B4, 0x14);
        io.mmio_write(IOWIN, Size::B2, 0);
        assert_eq!(get(&mut io, 0x14), 0x1_afff, "doublewords only");
    }

    #[test]
    fn edges() {
        let mut io = IoApic::new();
        io.set_line(2, true);
        io.set_line(2, false);
        set(&mut io, 0x14, 0x0031);
        assert!(sent(&mut io).is_empty(), "an edge on a masked input is lost");
        io.set_line(2, true);
        assert_eq!((sent(&mut io), sent(&mut io)), (vec![0x31], vec![]));
        io.set_line(2, false);
        io.set_line(2, true);
        io.set_line(2, false);
        assert_eq!(sent(&mut io), [0x31], "a short pulse is kept");
    }

    #[test]
    fn levels_come_again_until_deasserted() {
        let mut io = IoApic::new();
        io.set_line(9, true);
        set(&mut io, 0x22, 0x8041);
        assert_eq!(sent(&mut io), [0x41], "a level outlasts the mask");
        assert_eq!(get(&mut io, 0x22), 0xc041, "remote IRR");
        assert!(sent(&mut io).is_empty());
        assert!(!io.end_of_interrupt(0x42));
        assert!(io.end_of_interrupt(0x41));
        assert_eq!(sent(&mut io), [0x41]);
        io.set_line(9, false);
        io.mmio_write(EOIR, Size::B4, 0x41);
        assert!(sent(&mut io).is_empty());
        io.set_line(9, true);
        io.service(|_| false);
        assert_eq!(get(&mut io, 0x22), 0x8041, "not taken: tried again");
        assert_eq!(sent(&mut io), [0x41]);
        set(&mut io, 0x22, 0x1_0041);
        assert_eq!(get(&mut io, 0x22), 0x1_0041, "as edge, remote IRR is cleared");
    }

    #[test]
    fn messages_and_state() {
        let mut io = IoApic::new();
        set(&mut io, 0x2e, 0x0951);
        set(&mut io, 0x2f, 0x0300_0000);
        io.set_line(15, true);
        let saved = io.save();
        let mut other = IoApic::new();
        other.load(&saved).unwrap();
        other.service(|m| {
            assert_eq!((m.destination, m.is_logical, m.vector), (3, true, 0x51));
            assert_eq!((m.delivery, m.is_level), (Delivery::LowestPriority, false));
            true
        });
        io.set_line(PINS, true);
        io.reset();
        assert_eq!(io.lines, 1 << 15);
        assert!(sent(&mut io).is_empty());
        assert!(other.load(&saved[..saved.len() - 1]).is_err());
    }
}
