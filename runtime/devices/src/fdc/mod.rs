//! The floppy disk controller: registers, reset and interrupts.
//!
//! Source: Intel 82077AA datasheet (order 290166), in its PC AT register set. Nothing takes time: the head is
//! where a command wants it at once. What the guest writes never indexes anything: commands and results have fixed
//! places that are filled up to lengths of a table.

mod commands;
mod drive;
mod transfer;

pub use drive::{DriveKind, FloppyDrive, Geometry};

use mem::{PortDevice, Size};

use crate::block::SECTOR;
use crate::state::{StateError, ensure};
use crate::{Wire, state_fields};
use transfer::Transfer;

// Digital output register.
const DOR_NOT_RESET: u8 = 0x04;
const DOR_GATE: u8 = 0x08;
// Main status register.
const MSR_BUSY: u8 = 0x10;
const MSR_NON_DMA: u8 = 0x20;
const MSR_TO_HOST: u8 = 0x40;
const MSR_READY: u8 = 0x80;
/// Data rate select register: reset by software.
const DSR_RESET: u8 = 0x80;
/// SPECIFY's second byte: no DMA.
const ND: u8 = 0x01;
/// CONFIGURE as after reset: no implied seeks, FIFO off, polling.
const CONFIG_RESET: u8 = 0x20;

/// Most bytes of a command and of a result.
const COMMAND_MAX: usize = 9;
const RESULT_MAX: usize = 10;

/// What the data register is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// The host writes a command.
    #[default]
    Command = 0,
    /// Data move, by DMA or by the data register.
    Execution = 1,
    /// The host reads a result.
    Result = 2,
}

/// The controller with its drives.
pub struct Fdc {
    drives: [FloppyDrive; 2],
    irq: Wire,
    dor: u8,
    tape: u8,
    rate: u8,
    phase: u8,
    command: [u8; COMMAND_MAX],
    command_len: u8,
    result: [u8; RESULT_MAX],
    result_len: u8,
    result_pos: u8,
    transfer: Transfer,
    data: [u8; SECTOR],
    /// Interrupt statuses (ST0) to be sensed; reset leaves one per drive.
    pending: [u8; 4],
    pending_len: u8,
    interrupt: bool,
    specify: [u8; 2],
    config: [u8; 2],
    is_locked: bool,
    perpendicular: u8,
}

state_fields!(
    Fdc,
    1,
    [
        drives,
        dor,
        tape,
        rate,
        phase,
        command,
        command_len,
        result,
        result_len,
        result_pos,
        transfer,
        data,
        pending,
        pending_len,
        interrupt,
        specify,
        config,
        is_locked,
        perpendicular,
    ]
);

impl Fdc {
    /// A controller with these drives and its interrupt wire.
    pub fn new(drives: [FloppyDrive; 2], irq: Wire) -> Self {
        let mut fdc = Self {
            drives,
            irq,
            dor: 0,
            tape: 0,
            rate: 2,
            phase: 0,
            command: [0; COMMAND_MAX],
            command_len: 0,
            result: [0; RESULT_MAX],
            result_len: 0,
            result_pos: 0,
            transfer: Transfer::default(),
            data: [0; SECTOR],
            pending: [0; 4],
            pending_len: 0,
            interrupt: false,
            specify: [0; 2],
            config: [CONFIG_RESET, 0],
            is_locked: false,
            perpendicular: 0,
        };
        fdc.reset();
        fdc
    }

    /// The reset pin.
    pub fn reset(&mut self) {
        (self.dor, self.tape, self.rate) = (0, 0, 2);
        self.is_locked = false;
        self.clear();
        self.pending_len = 0;
        self.set_interrupt(false);
    }

    /// A drive, if it is there.
    pub fn drive(&mut self, n: usize) -> Option<&mut FloppyDrive> {
        self.drives.get_mut(n).filter(|drive| drive.is_there())
    }

    /// The drives that are there, by number.
    pub fn drives(&mut self) -> impl Iterator<Item = (usize, &mut FloppyDrive)> {
        self.drives.iter_mut().enumerate().filter(|(_, drive)| drive.is_there())
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        ensure(self.phase <= Phase::Result as u8, "floppy phase")?;
        let fits = usize::from(self.command_len) <= COMMAND_MAX
            && usize::from(self.result_len) <= RESULT_MAX
            && self.result_pos <= self.result_len
            && self.pending_len <= 4;
        ensure(fits, "floppy command")?;
        self.drive_irq();
        Ok(())
    }

    fn phase(&self) -> Phase {
        match self.phase {
            1 => Phase::Execution,
            2 => Phase::Result,
            _ => Phase::Command,
        }
    }

    fn set_phase(&mut self, phase: Phase) {
        self.phase = phase as u8;
        match phase {
            Phase::Command => self.command_len = 0,
            Phase::Execution => {}
            Phase::Result => self.result_pos = 0,
        }
    }

    fn set_interrupt(&mut self, high: bool) {
        self.interrupt = high;
        self.drive_irq();
    }

    fn drive_irq(&mut self) {
        self.irq.set(self.interrupt && self.dor & DOR_GATE != 0);
    }

    /// What every kind of reset does.
    fn clear(&mut self) {
        self.set_phase(Phase::Command);
        self.transfer = Transfer::default();
        if !self.is_locked {
            self.config = [CONFIG_RESET, 0];
        }
        self.perpendicular &= 0x3c;
    }

    /// The end of a software reset: each of four drives is found to have changed its ready line.
    fn restarted(&mut self) {
        self.clear();
        self.pending = [0xc0, 0xc1, 0xc2, 0xc3];
        self.pending_len = 4;
        self.set_interrupt(true);
    }

    fn write_dor(&mut self, value: u8) {
        let rises = value & !self.dor & DOR_NOT_RESET != 0;
        self.dor = value;
        if value & DOR_NOT_RESET == 0 {
            self.clear();
            self.pending_len = 0;
            self.set_interrupt(false);
        } else if rises {
            self.restarted();
        }
        self.drive_irq();
    }

    fn status(&self) -> u8 {
        if self.dor & DOR_NOT_RESET == 0 {
            return 0;
        }
        match self.phase() {
            Phase::Command if self.command_len == 0 => MSR_READY,
            Phase::Command => MSR_READY | MSR_BUSY,
            Phase::Result => MSR_READY | MSR_TO_HOST | MSR_BUSY,
            Phase::Execution if !self.is_non_dma() => MSR_BUSY,
            Phase::Execution if self.transfer.to_host() => {
                MSR_READY | MSR_TO_HOST | MSR_NON_DMA | MSR_BUSY
            }
            Phase::Execution => MSR_READY | MSR_NON_DMA | MSR_BUSY,
        }
    }

    fn is_non_dma(&self) -> bool {
        self.specify[1] & ND != 0
    }

    fn read_data(&mut self) -> u8 {
        match self.phase() {
            Phase::Command => 0,
            Phase::Execution => self.pio_read(),
            Phase::Result => {
                // The first byte taken acknowledges the interrupt.
                self.set_interrupt(false);
                let byte = self.result.get(usize::from(self.result_pos)).copied().unwrap_or(0);
                self.result_pos += 1;
                if self.result_pos >= self.result_len {
                    self.set_phase(Phase::Command);
                }
                byte
            }
        }
    }

    fn write_data(&mut self, value: u8) {
        if self.dor & DOR_NOT_RESET == 0 {
            return;
        }
        match self.phase() {
            Phase::Command => self.command_byte(value),
            Phase::Execution => self.pio_write(value),
            Phase::Result => {}
        }
    }

    /// The drive the digital output register selects.
    fn selected(&mut self) -> Option<&mut FloppyDrive> {
        self.drive(usize::from(self.dor & 3))
    }
}

impl PortDevice for Fdc {
    fn port_read(&mut self, offset: u16, _size: Size) -> u64 {
        let value = match offset {
            // Status A and B, of the PS/2: the interrupt, no second drive; the selected drive.
            0 => u8::from(self.interrupt) << 7 | u8::from(!self.drives[1].is_there()) << 6,
            1 => 0xc0 | (self.dor & 1) << 5 | self.dor >> 4 & 3,
            2 => self.dor,
            3 => self.tape,
            4 => self.status(),
            5 => self.read_data(),
            7 => {
                let is_changed = self.selected().is_none_or(|drive| drive.has_changed);
                u8::from(is_changed) << 7
            }
            _ => 0xff,
        };
        u64::from(value)
    }

    fn port_write(&mut self, offset: u16, _size: Size, value: u64) {
        let value = value as u8;
        match offset {
            2 => self.write_dor(value),
            3 => self.tape = value & 3,
            4 => {
                self.rate = value & 3;
                if value & DSR_RESET != 0 && self.dor & DOR_NOT_RESET != 0 {
                    self.restarted();
                }
            }
            5 => self.write_data(value),
            7 => self.rate = value & 3,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
