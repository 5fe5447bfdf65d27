//! The bus master of one channel: its registers, and the walk of the PRD table.

use mem::{Phys, Size};

use super::channel::{Channel, Phase};
use crate::block::SECTOR;
use crate::state::StateError;
use crate::state_fields;

const COMMAND_START: u8 = 0x01;
/// Direction: the bus master writes memory, that is, the disk is read.
const COMMAND_TO_MEMORY: u8 = 0x08;
const STATUS_ACTIVE: u8 = 0x01;
const STATUS_ERROR: u8 = 0x02;
const STATUS_INTERRUPT: u8 = 0x04;
const STATUS_SCRATCH: u8 = 0x60;

/// A table may not cross a 64 KiB boundary, so it has no more entries than this.
const MAX_ENTRIES: u32 = 0x10000 / 8;
/// Sectors moved per disk access.
const CHUNK: u64 = 128;

/// Registers of one channel's bus master.
#[derive(Debug, Default)]
pub(super) struct BusMasterRegs {
    command: u8,
    status: u8,
    table: u32,
}

state_fields!(BusMasterRegs, 1, [command, status, table]);

impl BusMasterRegs {
    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }

    /// The drive's interrupt line has risen.
    pub(super) fn note_interrupt(&mut self) {
        self.status |= STATUS_INTERRUPT;
    }
}

/// A walk of the table: the part of the current region that is left.
struct Walk {
    next_entry: Phys,
    entries: u32,
    at: Phys,
    left: u32,
    is_last: bool,
}

impl Walk {
    fn advance(&mut self, n: usize) {
        self.at = self.at.add(n as u64);
        self.left -= n as u32;
    }
}

impl Channel {
    /// Reads a bus-master register, 0–7.
    pub(super) fn bus_master_read(&self, offset: u16, size: Size) -> u64 {
        let regs = &self.bus_master;
        let [t0, t1, t2, t3] = regs.table.to_le_bytes();
        let bytes = [regs.command, 0, regs.status, 0, t0, t1, t2, t3];
        (u64::from_le_bytes(bytes) >> (8 * (offset & 7))) & size.mask()
    }

    /// Writes a bus-master register, 0–7.
    pub(super) fn bus_master_write(&mut self, offset: u16, size: Size, value: u64) {
        for (i, byte) in value.to_le_bytes().into_iter().enumerate().take(size.bytes() as usize) {
            self.bus_master_write_byte(offset + i as u16, byte);
        }
    }

    fn bus_master_write_byte(&mut self, offset: u16, value: u8) {
        let regs = &mut self.bus_master;
        match offset {
            0 => {
                let starts = value & !regs.command & COMMAND_START != 0;
                regs.command = value & (COMMAND_START | COMMAND_TO_MEMORY);
                if starts {
                    regs.status |= STATUS_ACTIVE;
                    self.run_dma();
                } else if value & COMMAND_START == 0 {
                    regs.status &= !STATUS_ACTIVE;
                }
            }
            2 => {
                let cleared = value & (STATUS_ERROR | STATUS_INTERRUPT);
                regs.status = regs.status & !cleared & !STATUS_SCRATCH | value & STATUS_SCRATCH;
            }
            4..=7 => {
                let shift = 8 * (offset - 4);
                let byte = u32::from(value) << shift;
                regs.table = (regs.table & !(0xff << shift) | byte) & !3;
            }
            _ => {}
        }
    }

    /// Moves all the data if both the drive waits for it and the bus master is started.
    pub(super) fn run_dma(&mut self) {
        let phase = self.transfer.phase;
        let to_memory = match phase {
            Phase::DmaIn | Phase::DmaPacket => true,
            Phase::DmaOut => false,
            _ => return,
        };
        let command = self.bus_master.command;
        let started = command & COMMAND_START != 0 && self.bus_master.status & STATUS_ACTIVE != 0;
        if !started || to_memory != (command & COMMAND_TO_MEMORY != 0) {
            return;
        }
        let mut walk = Walk {
            next_entry: Phys(u64::from(self.bus_master.table)),
            entries: 0,
            at: Phys(0),
            left: 0,
            is_last: false,
        };
        let moved = match phase {
            Phase::DmaPacket => self.move_packet(&mut walk),
            _ => self.move_sectors(&mut walk, to_memory),
        };
        match moved {
            Moved::All => {}
            // The table is too short: the drive goes on waiting, as hardware would. Or the command has failed.
            Moved::TableEnded | Moved::Failed => {
                self.bus_master.status &= !STATUS_ACTIVE;
                return;
            }
        }
        // Active stays set when the table describes more than the drive moved.
        if walk.is_last && walk.left == 0 {
            self.bus_master.status &= !STATUS_ACTIVE;
        }
        self.transfer.phase = Phase::Idle;
        match phase {
            Phase::DmaPacket => return self.packet_succeeds(),
            Phase::DmaIn => self.selected().succeed(),
            _ => self.finish_write(),
        }
        self.set_intrq(true);
    }

    /// The sectors of a disk command.
    fn move_sectors(&mut self, walk: &mut Walk, to_memory: bool) -> Moved {
        let mut buffer = std::mem::take(&mut self.transfer.buffer);
        let mut moved = Moved::All;
        while self.transfer.left > 0 && moved == Moved::All {
            let n = self.transfer.left.min(CHUNK);
            buffer.resize(n as usize * SECTOR, 0);
            moved = match to_memory {
                true if !self.disk_read(&mut buffer) => Moved::Failed,
                true => self.scatter(walk, &buffer),
                false => match self.gather(walk, &mut buffer) {
                    Moved::All if !self.disk_write(&buffer) => Moved::Failed,
                    moved => moved,
                },
            };
        }
        buffer.clear();
        self.transfer.buffer = buffer;
        moved
    }

    /// The answer of a packet command: bytes that are there already, or sectors.
    fn move_packet(&mut self, walk: &mut Walk) -> Moved {
        loop {
            let buffer = std::mem::take(&mut self.transfer.buffer);
            let moved = self.scatter(walk, &buffer);
            self.transfer.buffer = buffer;
            if moved != Moved::All || self.transfer.left == 0 {
                return moved;
            }
            if !self.fetch_cd() {
                return Moved::Failed;
            }
        }
    }

    /// Copies bytes to where the table says.
    fn scatter(&self, walk: &mut Walk, bytes: &[u8]) -> Moved {
        let mut done = 0;
        while done < bytes.len() {
            let Some(n) = self.region(walk, bytes.len() - done) else { return Moved::TableEnded };
            self.dma.write(walk.at, &bytes[done..done + n]);
            walk.advance(n);
            done += n;
        }
        Moved::All
    }

    /// Fills a buffer from where the table says.
    fn gather(&self, walk: &mut Walk, buffer: &mut [u8]) -> Moved {
        let mut done = 0;
        while done < buffer.len() {
            let Some(n) = self.region(walk, buffer.len() - done) else { return Moved::TableEnded };
            self.dma.read(walk.at, &mut buffer[done..done + n]);
            walk.advance(n);
            done += n;
        }
        Moved::All
    }

    /// Bytes that can be moved in one piece, at most `wanted`; `None` if the table has ended.
    fn region(&self, walk: &mut Walk, wanted: usize) -> Option<usize> {
        if walk.left == 0 && !self.next_region(walk) {
            return None;
        }
        Some((walk.left as usize).min(wanted))
    }

    /// Reads the next table entry; false if there is none.
    fn next_region(&self, walk: &mut Walk) -> bool {
        if walk.is_last || walk.entries >= MAX_ENTRIES {
            return false;
        }
        let mut entry = [0; 8];
        self.dma.read(walk.next_entry, &mut entry);
        let entry = u64::from_le_bytes(entry);
        walk.next_entry = walk.next_entry.add(8);
        walk.entries += 1;
        walk.at = Phys(entry & 0xffff_fffe);
        let count = (entry >> 32) as u32 & 0xfffe;
        walk.left = if count == 0 { 0x10000 } else { count };
        walk.is_last = entry >> 63 != 0;
        true
    }
}

/// How the movement of data ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moved {
    All,
    TableEnded,
    /// The drive has ended the command with an error.
    Failed,
}
