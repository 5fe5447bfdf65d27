//! Two 8259A interrupt controllers in cascade, with the chipset's edge/level registers.
//!
//! Source: Intel 8259A datasheet (order 231468), and the PIIX datasheet for ELCR. Two choices:
//! an edge once latched in IRR stays latched when the line falls before it is acknowledged (a
//! chipset's 8259 does so; it loses no tick when virtual time jumps), and the master sees the
//! slave's output as a level. Acknowledging with nothing pending gives vector base + 7.

use mem::{PortDevice, Size};

use crate::state::{StateError, ensure};
use crate::state_fields;

// ICW1, ICW4, OCW2 and OCW3 bits (8259A datasheet, "Initialization Command Words" and
// "Operation Command Words").
const ICW1_INIT: u8 = 0x10;
const ICW1_LTIM: u8 = 0x08;
const ICW1_SNGL: u8 = 0x02;
const ICW1_IC4: u8 = 0x01;
const ICW4_SFNM: u8 = 0x10;
const ICW4_AEOI: u8 = 0x02;
const OCW3: u8 = 0x08;
const OCW3_ESMM: u8 = 0x40;
const OCW3_SMM: u8 = 0x20;
const OCW3_POLL: u8 = 0x04;
const OCW3_RR: u8 = 0x02;
const OCW3_RIS: u8 = 0x01;

/// The master's input the slave is wired to.
const CASCADE: u8 = 2;

/// What the next write to the odd address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Expect {
    Ocw1 = 0,
    Icw2 = 1,
    Icw3 = 2,
    Icw4 = 3,
}

/// One 8259A.
#[derive(Debug)]
struct Pic {
    /// Input levels as driven.
    lines: u8,
    irr: u8,
    isr: u8,
    imr: u8,
    /// Inputs that are level-triggered by the chipset's ELCR.
    elcr: u8,
    /// Inputs whose ELCR bit can be set.
    elcr_mask: u8,
    vector_base: u8,
    /// The input of highest priority.
    first: u8,
    icw1: u8,
    icw4: u8,
    expect: u8,
    special_mask: bool,
    poll: bool,
    read_isr: bool,
    rotate_on_aeoi: bool,
    is_master: bool,
}

state_fields!(
    Pic,
    1,
    [
        lines,
        irr,
        isr,
        imr,
        elcr,
        vector_base,
        first,
        icw1,
        icw4,
        expect,
        special_mask,
        poll,
        read_isr,
        rotate_on_aeoi,
    ]
);

impl Pic {
    fn new(is_master: bool, elcr_mask: u8) -> Self {
        Self {
            lines: 0,
            irr: 0,
            isr: 0,
            imr: 0,
            elcr: 0,
            elcr_mask,
            vector_base: 0,
            first: 0,
            icw1: 0,
            icw4: 0,
            expect: Expect::Ocw1 as u8,
            special_mask: false,
            poll: false,
            read_isr: false,
            rotate_on_aeoi: false,
            is_master,
        }
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        ensure(self.first < 8 && self.expect < 4, "interrupt controller")
    }

    /// Inputs that are level-triggered now.
    fn levels(&self) -> u8 {
        if self.icw1 & ICW1_LTIM != 0 { 0xff } else { self.elcr }
    }

    fn set_line(&mut self, input: u8, high: bool) {
        let bit = 1 << (input & 7);
        let was = self.lines & bit != 0;
        self.lines = if high { self.lines | bit } else { self.lines & !bit };
        if self.levels() & bit != 0 {
            self.irr = self.irr & !bit | self.lines & bit;
        } else if high && !was {
            self.irr |= bit;
        }
    }

    /// The highest-priority input in `set`: its distance from the top, and its number.
    fn highest(&self, set: u8) -> Option<(u8, u8)> {
        let rank = set.rotate_right(u32::from(self.first)).trailing_zeros() as u8;
        (rank < 8).then(|| (rank, (rank + self.first) & 7))
    }

    /// The input that would be acknowledged now.
    fn pending(&self) -> Option<u8> {
        let (rank, input) = self.highest(self.irr & !self.imr)?;
        let mut in_service = self.isr;
        if self.special_mask {
            in_service &= !self.imr;
        }
        if self.is_master && self.icw4 & ICW4_SFNM != 0 {
            in_service &= !(1 << CASCADE);
        }
        match self.highest(in_service) {
            Some((serving, _)) if serving <= rank => None,
            _ => Some(input),
        }
    }

    fn acknowledge(&mut self, input: u8) {
        let bit = 1 << input;
        if self.levels() & bit == 0 {
            self.irr &= !bit;
        }
        if self.icw4 & ICW4_AEOI == 0 {
            self.isr |= bit;
        } else if self.rotate_on_aeoi {
            self.first = (input + 1) & 7;
        }
    }

    fn read(&mut self, odd: bool) -> u8 {
        if self.poll {
            self.poll = false;
            return match self.pending() {
                Some(input) => {
                    self.acknowledge(input);
                    0x80 | input
                }
                None => 0,
            };
        }
        match (odd, self.read_isr) {
            (true, _) => self.imr,
            (false, true) => self.isr,
            (false, false) => self.irr,
        }
    }

    fn write(&mut self, odd: bool, value: u8) {
        match odd {
            true => self.write_odd(value),
            false if value & ICW1_INIT != 0 => self.start_init(value),
            false if value & OCW3 != 0 => self.write_ocw3(value),
            false => self.write_ocw2(value),
        }
    }

    fn start_init(&mut self, icw1: u8) {
        self.icw1 = icw1;
        self.icw4 = 0;
        self.imr = 0;
        self.isr = 0;
        self.irr = self.lines & self.levels();
        self.first = 0;
        self.special_mask = false;
        self.read_isr = false;
        self.poll = false;
        self.rotate_on_aeoi = false;
        self.expect = Expect::Icw2 as u8;
    }

    fn write_odd(&mut self, value: u8) {
        const OCW1: u8 = Expect::Ocw1 as u8;
        const ICW2: u8 = Expect::Icw2 as u8;
        const ICW3: u8 = Expect::Icw3 as u8;
        let wants_icw4 = self.icw1 & ICW1_IC4 != 0;
        let after_icw3 = if wants_icw4 { Expect::Icw4 } else { Expect::Ocw1 };
        match self.expect {
            OCW1 => self.imr = value,
            ICW2 => {
                self.vector_base = value & 0xf8;
                let single = self.icw1 & ICW1_SNGL != 0;
                self.expect = if single { after_icw3 as u8 } else { ICW3 };
            }
            ICW3 => self.expect = after_icw3 as u8,
            _ => {
                self.icw4 = value & 0x1f;
                self.expect = OCW1;
            }
        }
    }

    fn write_ocw3(&mut self, value: u8) {
        if value & OCW3_ESMM != 0 {
            self.special_mask = value & OCW3_SMM != 0;
        }
        if value & OCW3_POLL != 0 {
            self.poll = true;
        } else if value & OCW3_RR != 0 {
            self.read_isr = value & OCW3_RIS != 0;
        }
    }

    fn write_ocw2(&mut self, value: u8) {
        let level = value & 7;
        match value >> 5 {
            // Rotate in automatic EOI mode, clear and set.
            0 => self.rotate_on_aeoi = false,
            4 => self.rotate_on_aeoi = true,
            // Non-specific EOI, plain and rotating.
            cmd @ (1 | 5) => {
                let masked = if self.special_mask { self.imr } else { 0 };
                if let Some((_, input)) = self.highest(self.isr & !masked) {
                    self.isr &= !(1 << input);
                    if cmd == 5 {
                        self.first = (input + 1) & 7;
                    }
                }
            }
            // Specific EOI, plain and rotating.
            3 => self.isr &= !(1 << level),
            7 => {
                self.isr &= !(1 << level);
                self.first = (level + 1) & 7;
            }
            // Set priority.
            6 => self.first = (level + 1) & 7,
            _ => {}
        }
    }

    fn write_elcr(&mut self, value: u8) {
        self.elcr = value & self.elcr_mask;
        let levels = self.levels();
        self.irr = self.irr & !levels | self.lines & levels;
    }
}

/// Master and slave. Port offsets: 0–1 the master, 2–3 the slave, 4–5 their ELCRs.
#[derive(Debug)]
pub struct PicPair {
    master: Pic,
    slave: Pic,
}

state_fields!(PicPair, 1, [master, slave]);

impl Default for PicPair {
    fn default() -> Self {
        Self::new()
    }
}

impl PicPair {
    /// Both chips as after power-on.
    pub fn new() -> Self {
        // PIIX: inputs 0, 1, 2 of the master and 8, 13 of the pair are always edge-triggered.
        Self { master: Pic::new(true, 0xf8), slave: Pic::new(false, 0xde) }
    }

    /// Back to power-on; the wires keep their levels.
    pub fn reset(&mut self) {
        let lines = (self.master.lines, self.slave.lines);
        *self = Self::new();
        (self.master.lines, self.slave.lines) = lines;
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }

    /// Drives input 0–15 of the pair.
    pub fn set_line(&mut self, input: u8, high: bool) {
        match input {
            0..8 => self.master.set_line(input, high),
            _ => self.slave.set_line(input, high),
        }
        self.cascade();
    }

    /// The INT output towards the CPU.
    pub fn intr(&self) -> bool {
        self.master.pending().is_some()
    }

    /// An interrupt acknowledge cycle: the vector, spurious if nothing is pending any more.
    pub fn inta(&mut self) -> u8 {
        let Some(input) = self.master.pending() else { return self.master.vector_base | 7 };
        self.master.acknowledge(input);
        let vector = match input {
            CASCADE => match self.slave.pending() {
                Some(input) => {
                    self.slave.acknowledge(input);
                    self.slave.vector_base | input
                }
                None => self.slave.vector_base | 7,
            },
            _ => self.master.vector_base | input,
        };
        self.cascade();
        vector
    }

    /// IRR, ISR and IMR of both chips, slave in the high byte: for the monitor.
    pub fn registers(&self) -> (u16, u16, u16) {
        let join = |low: u8, high: u8| u16::from(high) << 8 | u16::from(low);
        (
            join(self.master.irr, self.slave.irr),
            join(self.master.isr, self.slave.isr),
            join(self.master.imr, self.slave.imr),
        )
    }

    fn cascade(&mut self) {
        let bit = 1 << CASCADE;
        let out = if self.slave.pending().is_some() { bit } else { 0 };
        self.master.lines = self.master.lines & !bit | out;
        self.master.irr = self.master.irr & !bit | out;
    }
}

impl PortDevice for PicPair {
    fn port_read(&mut self, offset: u16, _size: Size) -> u64 {
        let value = match offset {
            0 | 1 => self.master.read(offset == 1),
            2 | 3 => self.slave.read(offset == 3),
            4 => self.master.elcr,
            _ => self.slave.elcr,
        };
        self.cascade();
        u64::from(value)
    }

    fn port_write(&mut self, offset: u16, _size: Size, value: u64) {
        let value = value as u8;
        match offset {
            0 | 1 => self.master.write(offset == 1, value),
            2 | 3 => self.slave.write(offset == 3, value),
            4 => self.master.write_elcr(value),
            _ => self.slave.write_elcr(value),
        }
        self.cascade();
    }
}

#[cfg(test)]
mod tests;
