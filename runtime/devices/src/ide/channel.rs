//! One channel: register access, drive selection, PIO data transfer and the interrupt.

use mem::{PortDevice, Size};

use super::bmdma::BusMasterRegs;
use super::drive::{BSY, DEVICE_SELECT, DRDY, DRQ, DSC, Drive};
use crate::block::{BlockDev, SECTOR};
use crate::state::{Field, StateError, ensure};
use crate::{BusMaster, Wire, state_fields};

/// Device control: interrupts off, software reset, and "read the previous value".
const NIEN: u8 = 0x02;
const SRST: u8 = 0x04;
const HOB: u8 = 0x80;

/// What the data register, or the bus master, is moving.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(super) enum Phase {
    #[default]
    Idle = 0,
    /// The host reads the buffer.
    PioIn = 1,
    /// The host fills the buffer.
    PioOut = 2,
    /// The bus master moves disk to memory.
    DmaIn = 3,
    /// The bus master moves memory to disk.
    DmaOut = 4,
}

impl Field for Phase {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
    fn take(&mut self, input: &mut &[u8]) -> Result<(), StateError> {
        let mut byte = 0u8;
        byte.take(input)?;
        *self = match byte {
            0 => Self::Idle,
            1 => Self::PioIn,
            2 => Self::PioOut,
            3 => Self::DmaIn,
            4 => Self::DmaOut,
            _ => return Err(StateError::Invalid("disk transfer")),
        };
        Ok(())
    }
}

/// The transfer of the command in progress.
#[derive(Debug, Default)]
pub(super) struct Transfer {
    pub(super) phase: Phase,
    /// The next sector to move between buffer and disk.
    pub(super) lba: u64,
    /// Sectors still to be moved, those in the buffer of a write included.
    pub(super) left: u64,
    /// Sectors per interrupt.
    pub(super) block: u64,
    pub(super) ext: bool,
    pub(super) buffer: Vec<u8>,
    pub(super) pos: u32,
}

state_fields!(Transfer, 1, [phase, lba, left, block, ext, buffer, pos]);

impl Transfer {
    fn check_state(&mut self) -> Result<(), StateError> {
        let fits = self.buffer.len() <= 256 * SECTOR && self.pos as usize <= self.buffer.len();
        ensure(fits && self.left <= 0x10000 && self.block <= 256, "disk transfer")
    }
}

/// A channel with places for two drives. Port offsets 0–7 are the command block, 8 is alternate
/// status and device control.
pub struct Channel {
    pub(super) drives: [Drive; 2],
    /// Device 1 is selected.
    pub(super) second: bool,
    control: u8,
    pub(super) transfer: Transfer,
    pub(super) bus_master: BusMasterRegs,
    pub(super) dma: BusMaster,
    intrq: bool,
    irq: Wire,
}

state_fields!(Channel, 1, [drives, second, control, transfer, bus_master, intrq]);

impl Channel {
    /// A channel of two places, its interrupt wire and its way to memory.
    pub fn new(drives: [Drive; 2], irq: Wire, dma: BusMaster) -> Self {
        Self {
            drives,
            second: false,
            control: 0,
            transfer: Transfer::default(),
            bus_master: BusMasterRegs::default(),
            dma,
            intrq: false,
            irq,
        }
    }

    /// Hardware reset.
    pub fn reset(&mut self) {
        self.drives.iter_mut().for_each(Drive::reset);
        self.bus_master = BusMasterRegs::default();
        self.control = 0;
        self.clear_transfer();
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        self.drive_irq();
        Ok(())
    }

    fn clear_transfer(&mut self) {
        self.second = false;
        self.transfer = Transfer::default();
        self.set_intrq(false);
    }

    /// Makes everything the guest wrote durable; for the end of the machine.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.drives.iter_mut().filter_map(Drive::disk).try_for_each(|disk| disk.flush())
    }

    /// The disks, by place.
    pub fn disks(&mut self) -> impl Iterator<Item = (usize, &mut dyn BlockDev)> {
        let places = self.drives.iter_mut().enumerate();
        places.filter_map(|(i, drive)| Some((i, drive.disk()?)))
    }

    pub(super) fn selected(&mut self) -> &mut Drive {
        &mut self.drives[usize::from(self.second)]
    }

    pub(super) fn set_intrq(&mut self, high: bool) {
        if high && !self.intrq {
            self.bus_master.note_interrupt();
        }
        self.intrq = high;
        self.drive_irq();
    }

    fn drive_irq(&mut self) {
        self.irq.set(self.intrq && self.control & NIEN == 0);
    }

    fn status(&self) -> u8 {
        self.drives[usize::from(self.second)].regs.status
    }

    fn is_empty(&self) -> bool {
        self.drives.iter().all(|drive| !drive.is_present())
    }

    fn read_register(&mut self, register: u16) -> u8 {
        // With no drive at all nobody drives the bus, which is pulled down on its data bit 7.
        if self.is_empty() {
            return 0;
        }
        if register == 7 {
            let status = self.status();
            self.set_intrq(false);
            return status;
        }
        let hob = self.control & HOB != 0;
        let regs = &self.selected().regs;
        match (register, hob) {
            (1, false) => regs.error,
            (1, true) => regs.hob_feature,
            (2, false) => regs.count,
            (2, true) => regs.hob_count,
            (3..=5, false) => regs.lba[usize::from(register - 3)],
            (3..=5, true) => regs.hob_lba[usize::from(register - 3)],
            _ => regs.device,
        }
    }

    fn write_register(&mut self, register: u16, value: u8) {
        self.control &= !HOB;
        if self.status() & BSY != 0 {
            return;
        }
        if register == 7 {
            return self.command(value);
        }
        // Both drives hear every register write.
        self.drives.iter_mut().for_each(|drive| drive.regs.write(register, value));
        if register == 6 {
            self.second = value & DEVICE_SELECT != 0;
        }
    }

    fn write_control(&mut self, value: u8) {
        let falls = self.control & !value & SRST != 0;
        self.control = value;
        if value & SRST != 0 {
            for drive in self.drives.iter_mut().filter(|drive| drive.is_present()) {
                drive.regs.status = BSY;
            }
        } else if falls {
            self.software_reset();
        }
        self.drive_irq();
    }

    /// SRST has fallen, or EXECUTE DEVICE DIAGNOSTIC: both drives show their signature.
    pub(super) fn software_reset(&mut self) {
        self.drives.iter_mut().for_each(Drive::set_signature);
        self.clear_transfer();
    }
}

/// PIO data.
impl Channel {
    /// Gives `bytes` to the host through the data register.
    pub(super) fn start_pio_in(&mut self, bytes: Vec<u8>) {
        self.transfer.buffer = bytes;
        self.transfer.pos = 0;
        self.transfer.phase = Phase::PioIn;
        self.selected().regs.status = DRDY | DSC | DRQ;
        self.set_intrq(true);
    }

    /// Asks the host for the next `sectors` sectors.
    pub(super) fn start_pio_out(&mut self, sectors: u64) {
        self.transfer.buffer.clear();
        self.transfer.buffer.resize(sectors as usize * SECTOR, 0);
        self.transfer.pos = 0;
        self.transfer.phase = Phase::PioOut;
        self.selected().regs.status = DRDY | DSC | DRQ;
    }

    fn read_data(&mut self, size: Size) -> u64 {
        if self.transfer.phase != Phase::PioIn {
            return 0;
        }
        let (start, n) = (self.transfer.pos as usize, size.bytes() as usize);
        let mut value = [0; 8];
        let rest = self.transfer.buffer.get(start..).unwrap_or(&[]);
        let n = n.min(rest.len());
        value[..n].copy_from_slice(&rest[..n]);
        self.transfer.pos += n as u32;
        if self.transfer.pos as usize >= self.transfer.buffer.len() {
            self.transfer.phase = Phase::Idle;
            self.pio_in_done();
        }
        u64::from_le_bytes(value)
    }

    fn write_data(&mut self, size: Size, value: u64) {
        if self.transfer.phase != Phase::PioOut {
            return;
        }
        let (start, n) = (self.transfer.pos as usize, size.bytes() as usize);
        let rest = self.transfer.buffer.get_mut(start..).unwrap_or(&mut []);
        let n = n.min(rest.len());
        rest[..n].copy_from_slice(&value.to_le_bytes()[..n]);
        self.transfer.pos += n as u32;
        if self.transfer.pos as usize >= self.transfer.buffer.len() {
            self.transfer.phase = Phase::Idle;
            self.pio_out_done();
        }
    }
}

impl PortDevice for Channel {
    fn port_read(&mut self, offset: u16, size: Size) -> u64 {
        match offset {
            0 => self.read_data(size),
            1..=7 => u64::from(self.read_register(offset)),
            // Alternate status does not acknowledge the interrupt.
            _ if self.is_empty() => 0,
            _ => u64::from(self.status()),
        }
    }

    fn port_write(&mut self, offset: u16, size: Size, value: u64) {
        match offset {
            0 => self.write_data(size, value),
            1..=7 => self.write_register(offset, value as u8),
            _ => self.write_control(value as u8),
        }
    }
}
