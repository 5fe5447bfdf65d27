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
    /// The host writes a command packet.
    Packet = 5,
    /// The host reads a burst of a packet's answer.
    PioPacket = 6,
    /// The bus master moves a packet's answer to memory.
    DmaPacket = 7,
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
            5 => Self::Packet,
            6 => Self::PioPacket,
            7 => Self::DmaPacket,
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
    /// The data must be durable when the command ends.
    pub(super) fua: bool,
    /// A packet's answer goes by DMA.
    pub(super) is_dma: bool,
    /// A packet's answer is whole CD sectors.
    pub(super) is_raw: bool,
    /// Most bytes per burst of a packet's answer.
    pub(super) limit: u16,
    pub(super) buffer: Vec<u8>,
    /// The next byte the data register moves, and where it stops.
    pub(super) pos: u32,
    pub(super) end: u32,
}

state_fields!(
    Transfer,
    2,
    [phase, lba, left, block, ext, fua, is_dma, is_raw, limit, buffer, pos, end]
);

impl Transfer {
    fn check_state(&mut self) -> Result<(), StateError> {
        let len = self.buffer.len();
        let fits = len <= 256 * SECTOR && self.end as usize <= len && self.pos <= self.end;
        ensure(fits && self.left <= 1 << 34 && self.block <= 256, "disk transfer")
    }

    /// A transfer of nothing, with the buffer's memory kept.
    pub(super) fn clear(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        *self = Self { buffer, ..Self::default() };
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
        self.transfer.clear();
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

    /// The drive at place 0 or 1.
    pub fn drive(&mut self, place: usize) -> Option<&mut Drive> {
        self.drives.get_mut(place)
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
        // DEVICE RESET is what a busy CD drive still hears.
        let is_device_reset = register == 7 && value == 8 && self.selected().is_cd();
        if self.status() & BSY != 0 && !is_device_reset {
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
        self.transfer.end = bytes.len() as u32;
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
        self.transfer.end = self.transfer.buffer.len() as u32;
        self.transfer.phase = Phase::PioOut;
        self.selected().regs.status = DRDY | DSC | DRQ;
    }

    fn read_data(&mut self, size: Size) -> u64 {
        let mut value = [0; 8];
        self.read_block(&mut value[..size.bytes() as usize]);
        u64::from_le_bytes(value)
    }

    /// Bytes the data register has for the host before it must look at the status.
    pub fn readable(&self) -> usize {
        match self.transfer.phase {
            Phase::PioIn | Phase::PioPacket => {
                self.transfer.end.saturating_sub(self.transfer.pos) as usize
            }
            _ => 0,
        }
    }

    /// Bytes the data register takes from the host before it must look at the status.
    pub fn writable(&self) -> usize {
        match self.transfer.phase {
            Phase::PioOut | Phase::Packet => {
                self.transfer.end.saturating_sub(self.transfer.pos) as usize
            }
            _ => 0,
        }
    }

    /// Reads from the data register into all of `buf`, as far as the drive has data; the number of bytes it had.
    /// The end of a block or burst ends a call, since the host may have to look at the status.
    pub fn read_block(&mut self, buf: &mut [u8]) -> usize {
        if !matches!(self.transfer.phase, Phase::PioIn | Phase::PioPacket) {
            return 0;
        }
        let t = &mut self.transfer;
        let rest = t.buffer.get(t.pos as usize..t.end as usize).unwrap_or(&[]);
        let n = buf.len().min(rest.len());
        buf[..n].copy_from_slice(&rest[..n]);
        t.pos += n as u32;
        if t.pos >= t.end {
            match std::mem::take(&mut t.phase) {
                Phase::PioPacket => self.next_burst(),
                _ => self.pio_in_done(),
            }
        }
        n
    }

    fn write_data(&mut self, size: Size, value: u64) {
        self.write_block(&value.to_le_bytes()[..size.bytes() as usize]);
    }

    /// Writes `bytes` to the data register, as far as the drive takes them; the number it took. The end of a block
    /// ends a call.
    pub fn write_block(&mut self, bytes: &[u8]) -> usize {
        if !matches!(self.transfer.phase, Phase::PioOut | Phase::Packet) {
            return 0;
        }
        let t = &mut self.transfer;
        let rest = t.buffer.get_mut(t.pos as usize..t.end as usize).unwrap_or(&mut []);
        let n = bytes.len().min(rest.len());
        rest[..n].copy_from_slice(&bytes[..n]);
        t.pos += n as u32;
        if t.pos >= t.end {
            match std::mem::take(&mut t.phase) {
                Phase::Packet => self.packet_done(),
                _ => self.pio_out_done(),
            }
        }
        n
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
