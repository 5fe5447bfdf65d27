//! The PACKET command on a channel: the packet in, its answer out by bursts or by the bus master (ATA/ATAPI-6,
//! "PACKET command feature set").

use super::atapi::{CD_RAW, CD_SECTOR, Command, Outcome, PER_CD_SECTOR, Sense, msf};
use super::channel::{Channel, Phase};
use super::drive::{ABRT, DRDY, DRQ, DSC, ERR};
use crate::block::SECTOR;

/// Bytes of a command packet.
const PACKET: usize = 12;
/// CD sectors fetched at a time.
const CHUNK: u64 = 27;

/// Features register: data move by DMA; overlapped execution, which is not there.
const FEATURE_DMA: u8 = 0x01;
const FEATURE_OVERLAP: u8 = 0x02;

// Interrupt reason, in the sector count register.
const REASON_COMMAND: u8 = 0x01;
const REASON_TO_HOST: u8 = 0x02;
const REASON_DONE: u8 = REASON_COMMAND | REASON_TO_HOST;

impl Channel {
    /// A command for a CD drive.
    pub(super) fn cd_command(&mut self, code: u8) {
        match code {
            // DEVICE RESET: no interrupt.
            0x08 => {
                self.selected().cd.reset();
                self.selected().set_signature();
                return;
            }
            0xa0 => return self.await_packet(),
            0xa1 => {
                let sector = self.selected().identify_packet();
                return self.start_pio_in(sector.to_vec());
            }
            0xef => self.set_features(),
            // Power management: nothing sleeps.
            0xe0..=0xe3 | 0xe6 => self.selected().succeed(),
            0xe5 => {
                self.selected().regs.count = 0xff;
                self.selected().succeed();
            }
            // Drivers tell the kinds of drives by these: refused with the signature.
            0x20 | 0xec => {
                self.selected().set_signature();
                self.selected().fail(ABRT);
            }
            _ => self.selected().fail(ABRT),
        }
        self.set_intrq(true);
    }

    fn await_packet(&mut self) {
        let regs = &mut self.selected().regs;
        if regs.feature & FEATURE_OVERLAP != 0 {
            self.selected().fail(ABRT);
            return self.set_intrq(true);
        }
        let is_dma = regs.feature & FEATURE_DMA != 0;
        let limit = u16::from_le_bytes([regs.lba[1], regs.lba[2]]);
        regs.count = REASON_COMMAND;
        regs.status = DRDY | DSC | DRQ;
        self.transfer.is_dma = is_dma;
        self.transfer.limit = limit;
        self.transfer.buffer.clear();
        self.transfer.buffer.resize(PACKET, 0);
        self.transfer.pos = 0;
        self.transfer.end = PACKET as u32;
        self.transfer.phase = Phase::Packet;
    }

    /// The packet is complete.
    pub(super) fn packet_done(&mut self) {
        let packet = self.transfer.buffer.first_chunk().copied().unwrap_or_default();
        self.transfer.buffer.clear();
        self.transfer.pos = 0;
        self.transfer.end = 0;
        match self.selected().packet(packet) {
            Outcome::Done => return self.packet_succeeds(),
            Outcome::Failed(sense) => return self.packet_fails(sense),
            Outcome::Reply(bytes) => self.transfer.buffer = bytes,
            Outcome::Read { lba, count, is_raw } => {
                self.transfer.lba = lba * PER_CD_SECTOR;
                self.transfer.left = count * PER_CD_SECTOR;
                self.transfer.is_raw = is_raw;
            }
        }
        if self.transfer.is_dma {
            return self.await_bus_master(Phase::DmaPacket);
        }
        if self.transfer.limit == 0 {
            self.transfer.phase = Phase::Idle;
            self.selected().fail(ABRT);
            return self.set_intrq(true);
        }
        self.next_burst();
    }

    /// Offers the host the next bytes of the answer, or ends the command.
    pub(super) fn next_burst(&mut self) {
        let t = &self.transfer;
        if t.pos as usize >= t.buffer.len() && t.left > 0 && !self.fetch_cd() {
            return;
        }
        let t = &mut self.transfer;
        let left = (t.buffer.len() as u32).saturating_sub(t.pos);
        if left == 0 {
            return self.packet_succeeds();
        }
        let mut n = u32::from(t.limit.min(0xfffe));
        if left <= n {
            n = left;
        } else {
            // Only the last burst may be odd.
            n = (n & !1).max(2).min(left);
        }
        t.end = t.pos + n;
        t.phase = Phase::PioPacket;
        let [low, high, ..] = n.to_le_bytes();
        let regs = &mut self.selected().regs;
        (regs.lba[1], regs.lba[2]) = (low, high);
        regs.count = REASON_TO_HOST;
        regs.status = DRDY | DSC | DRQ;
        self.set_intrq(true);
    }

    /// Fetches the next sectors into the buffer; if that fails the command has ended.
    pub(super) fn fetch_cd(&mut self) -> bool {
        let first = self.transfer.lba;
        let sectors = (self.transfer.left / PER_CD_SECTOR).min(CHUNK);
        let mut buffer = std::mem::take(&mut self.transfer.buffer);
        let stride = if self.transfer.is_raw { CD_RAW } else { CD_SECTOR };
        buffer.clear();
        buffer.resize(sectors as usize * stride, 0);
        let is_read = match self.transfer.is_raw {
            false => self.selected().read_cd(first, &mut buffer),
            true => buffer.chunks_exact_mut(CD_RAW).enumerate().all(|(i, sector)| {
                let lba = first + i as u64 * PER_CD_SECTOR;
                // Sync pattern, address, mode 1; the error correction is left zero.
                sector[1..11].fill(0xff);
                let [_, m, s, f] = msf((lba / PER_CD_SECTOR) as u32);
                sector[12..16].copy_from_slice(&[bcd(m), bcd(s), bcd(f), 1]);
                self.selected().read_cd(lba, &mut sector[16..16 + CD_SECTOR])
            }),
        };
        let t = &mut self.transfer;
        (t.buffer, t.pos) = (buffer, 0);
        if !is_read {
            self.packet_fails(Sense::UNREADABLE);
            return false;
        }
        t.lba += sectors * PER_CD_SECTOR;
        t.left -= sectors * PER_CD_SECTOR;
        true
    }

    pub(super) fn packet_succeeds(&mut self) {
        self.transfer.phase = Phase::Idle;
        let drive = self.selected();
        drive.succeed();
        drive.regs.count = REASON_DONE;
        self.set_intrq(true);
    }

    fn packet_fails(&mut self, sense: Sense) {
        self.transfer.phase = Phase::Idle;
        self.transfer.left = 0;
        let drive = self.selected();
        drive.cd.failed(sense);
        drive.regs.error = sense.error() | ABRT;
        drive.regs.status = DRDY | DSC | ERR;
        drive.regs.count = REASON_DONE;
        self.set_intrq(true);
    }
}

impl super::Drive {
    fn packet(&mut self, packet: [u8; 12]) -> Outcome {
        let (cd, disk) = self.cd_parts();
        Command { cd, medium: disk, packet }.run()
    }

    /// Reads CD sectors; what a last sector lacks is zero.
    fn read_cd(&mut self, lba: u64, buf: &mut [u8]) -> bool {
        let Some(disk) = self.disk() else { return false };
        let there = disk.sectors().saturating_sub(lba).min((buf.len() / SECTOR) as u64) as usize;
        let (data, rest) = buf.split_at_mut(there * SECTOR);
        rest.fill(0);
        match disk.read(lba, data) {
            Ok(()) => true,
            Err(error) => {
                log::debug!("disc read failed lba={lba} error={error}");
                false
            }
        }
    }
}

fn bcd(value: u8) -> u8 {
    16 * (value / 10 % 10) + value % 10
}
