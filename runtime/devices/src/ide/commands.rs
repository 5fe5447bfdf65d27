//! The ATA commands: what each does when its code is written (ATA/ATAPI-6, "Command descriptions").

use super::channel::{Channel, Phase};
use super::drive::{ABRT, BSY, DRDY, DRQ, DSC, IDNF, MAX_MULTIPLE, UNC};
use crate::block::SECTOR;

/// How a data command moves its sectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Pio,
    Multiple,
    Dma,
}

impl Channel {
    /// The command register was written.
    pub(super) fn command(&mut self, code: u8) {
        self.set_intrq(false);
        if code == 0x90 {
            // Diagnostic goes to both drives whichever is selected, and leaves device 0 selected.
            self.software_reset();
            return self.set_intrq(true);
        }
        if !self.selected().is_present() {
            return;
        }
        self.transfer.clear();
        self.selected().regs.error = 0;
        if self.selected().is_cd() {
            return self.cd_command(code);
        }
        match code {
            0x20 | 0x21 => self.read(Mode::Pio, false),
            0x24 => self.read(Mode::Pio, true),
            0xc4 => self.read(Mode::Multiple, false),
            0x29 => self.read(Mode::Multiple, true),
            0xc8 | 0xc9 => self.read(Mode::Dma, false),
            0x25 => self.read(Mode::Dma, true),
            0x30 | 0x31 => self.write(Mode::Pio, false),
            0x34 => self.write(Mode::Pio, true),
            0xc5 => self.write(Mode::Multiple, false),
            0x39 => self.write(Mode::Multiple, true),
            0xca | 0xcb => self.write(Mode::Dma, false),
            0x35 => self.write(Mode::Dma, true),
            0x40 | 0x41 => self.verify(false),
            0x42 => self.verify(true),
            0xec => {
                let sector = self.selected().identify();
                self.start_pio_in(sector.to_vec());
            }
            // WRITE DMA FUA EXT, WRITE MULTIPLE FUA EXT.
            0x3d => self.write_through(Mode::Dma),
            0xce => self.write_through(Mode::Multiple),
            0xe7 | 0xea => self.flush_cache(),
            _ => self.non_data(code),
        }
    }

    /// Commands that only change registers.
    fn non_data(&mut self, code: u8) {
        let drive = self.selected();
        match code {
            // RECALIBRATE, SEEK, and power management: nothing moves and nothing sleeps.
            0x10..=0x1f | 0x70..=0x7f | 0xe0..=0xe3 | 0xe6 | 0x94..=0x97 | 0x99 => drive.succeed(),
            // CHECK POWER MODE: active or idle.
            0xe5 | 0x98 => {
                drive.regs.count = 0xff;
                drive.succeed();
            }
            0x91 => {
                drive.heads = (drive.regs.device & 15) + 1;
                drive.sectors_per_track = drive.regs.count.max(1);
                drive.succeed();
            }
            0xc6 => {
                let n = drive.regs.count;
                if n <= MAX_MULTIPLE && (n == 0 || n.is_power_of_two()) {
                    drive.multiple = n;
                    drive.succeed();
                } else {
                    drive.fail(ABRT);
                }
            }
            0xef => self.set_features(),
            // READ NATIVE MAX ADDRESS (EXT).
            0xf8 | 0x27 => {
                let last = drive.sectors().saturating_sub(1);
                let ext = code == 0x27;
                drive.set_address(if ext { last } else { last.min((1 << 28) - 2) }, ext);
                drive.succeed();
            }
            _ => {
                log::debug!("disk command code={code:#04x} is not there");
                drive.fail(ABRT);
            }
        }
        self.set_intrq(true);
    }

    pub(super) fn set_features(&mut self) {
        let drive = self.selected();
        match drive.regs.feature {
            // What a CD drive lacks: everything but transfer modes.
            feature if feature != 0x03 && drive.is_cd() => return drive.fail(ABRT),
            0x02 => drive.write_cache = true,
            0x82 => {
                drive.write_cache = false;
                return self.flush_quietly();
            }
            0x03 => {
                let mode = drive.regs.count;
                // PIO default and flow control, multiword DMA 0–2, Ultra DMA 0–5.
                match mode >> 3 {
                    0 | 1 => {}
                    4 if mode & 7 <= 2 => drive.transfer_mode = mode,
                    8 if mode & 7 <= 5 => drive.transfer_mode = mode,
                    _ => return drive.fail(ABRT),
                }
            }
            // Look-ahead, power-on defaults and power management: accepted, without effect.
            0xaa | 0x55 | 0xcc | 0x66 | 0x05 | 0x85 => {}
            _ => return drive.fail(ABRT),
        }
        drive.succeed();
    }

    fn flush_quietly(&mut self) {
        let drive = self.selected();
        match drive.disk().map_or(Ok(()), |disk| disk.flush()) {
            Ok(()) => drive.succeed(),
            Err(error) => {
                log::debug!("disk flush failed error={error}");
                drive.fail(ABRT);
            }
        }
    }

    fn flush_cache(&mut self) {
        self.flush_quietly();
        self.set_intrq(true);
    }

    /// The sectors a command names, if the disk has all of them; else the command has failed.
    fn locate(&mut self, ext: bool) -> Option<(u64, u64)> {
        let drive = self.selected();
        let wanted = drive.wanted(ext);
        let found = drive
            .address(ext)
            .filter(|lba| lba.checked_add(wanted).is_some_and(|end| end <= drive.sectors()));
        if found.is_none() {
            drive.fail(IDNF);
            self.set_intrq(true);
        }
        Some((found?, wanted))
    }

    /// Sets up the transfer of a data command; false if the command has failed.
    fn prepare(&mut self, mode: Mode, ext: bool) -> bool {
        if mode == Mode::Multiple && self.selected().multiple == 0 {
            self.selected().fail(ABRT);
            self.set_intrq(true);
            return false;
        }
        let Some((lba, left)) = self.locate(ext) else { return false };
        let block = match mode {
            Mode::Multiple => u64::from(self.selected().multiple),
            _ => 1,
        };
        let t = &mut self.transfer;
        (t.lba, t.left, t.block, t.ext) = (lba, left, block, ext);
        true
    }

    fn read(&mut self, mode: Mode, ext: bool) {
        if !self.prepare(mode, ext) {
            return;
        }
        match mode {
            Mode::Dma => self.await_bus_master(Phase::DmaIn),
            _ => self.next_block_in(),
        }
    }

    fn write(&mut self, mode: Mode, ext: bool) {
        if self.selected().is_read_only() {
            self.selected().fail(ABRT);
            return self.set_intrq(true);
        }
        if !self.prepare(mode, ext) {
            return;
        }
        match mode {
            Mode::Dma => self.await_bus_master(Phase::DmaOut),
            _ => self.start_pio_out(self.transfer.block.min(self.transfer.left)),
        }
    }

    fn write_through(&mut self, mode: Mode) {
        self.transfer.fua = true;
        self.write(mode, true);
    }

    fn verify(&mut self, ext: bool) {
        if self.prepare(Mode::Pio, ext) {
            self.transfer.left = 0;
            self.selected().succeed();
            self.set_intrq(true);
        }
    }

    /// Reads the next block from disk for the host.
    fn next_block_in(&mut self) {
        let n = self.transfer.block.min(self.transfer.left);
        let mut buffer = std::mem::take(&mut self.transfer.buffer);
        buffer.resize(n as usize * SECTOR, 0);
        if self.disk_read(&mut buffer) {
            self.start_pio_in(buffer);
        }
    }

    /// The host has read the whole buffer.
    pub(super) fn pio_in_done(&mut self) {
        if self.transfer.left > 0 {
            self.next_block_in();
        } else {
            self.selected().regs.status = DRDY | DSC;
        }
    }

    /// The host has filled the whole buffer.
    pub(super) fn pio_out_done(&mut self) {
        let buffer = std::mem::take(&mut self.transfer.buffer);
        if !self.disk_write(&buffer) {
            return;
        }
        self.transfer.buffer = buffer;
        if self.transfer.left > 0 {
            self.start_pio_out(self.transfer.block.min(self.transfer.left));
        } else {
            self.finish_write();
        }
        self.set_intrq(true);
    }

    /// A write command has moved everything; without write cache it must be durable now.
    pub(super) fn finish_write(&mut self) {
        if self.selected().write_cache && !self.transfer.fua {
            self.selected().succeed();
        } else {
            self.flush_quietly();
        }
    }

    /// Fills `buf` from the current position; on failure the command has ended.
    pub(super) fn disk_read(&mut self, buf: &mut [u8]) -> bool {
        let lba = self.transfer.lba;
        let done = self.selected().disk().is_some_and(|disk| match disk.read(lba, buf) {
            Ok(()) => true,
            Err(error) => {
                log::debug!("disk read failed lba={lba} error={error}");
                false
            }
        });
        self.moved(done, buf.len(), UNC)
    }

    /// Writes `buf` at the current position; on failure the command has ended.
    pub(super) fn disk_write(&mut self, buf: &[u8]) -> bool {
        let lba = self.transfer.lba;
        let done = self.selected().disk().is_some_and(|disk| match disk.write(lba, buf) {
            Ok(()) => true,
            Err(error) => {
                log::debug!("disk write failed lba={lba} error={error}");
                false
            }
        });
        self.moved(done, buf.len(), ABRT)
    }

    /// Accounts for sectors moved, or ends the command with `error` at the failed sector.
    fn moved(&mut self, done: bool, bytes: usize, error: u8) -> bool {
        let (lba, ext) = (self.transfer.lba, self.transfer.ext);
        if !done {
            self.transfer.phase = Phase::Idle;
            self.selected().set_address(lba, ext);
            self.selected().fail(error);
            self.set_intrq(true);
            return false;
        }
        let sectors = (bytes / SECTOR) as u64;
        self.transfer.lba += sectors;
        self.transfer.left = self.transfer.left.saturating_sub(sectors);
        let left = self.transfer.left;
        let drive = self.selected();
        drive.set_address((lba + sectors).saturating_sub(1), ext);
        drive.regs.count = left as u8;
        drive.regs.hob_count = (left >> 8) as u8;
        true
    }

    /// The drive is ready to move data by DMA: now, or when the bus master is started.
    pub(super) fn await_bus_master(&mut self, phase: Phase) {
        self.transfer.phase = phase;
        self.selected().regs.status = BSY | DRDY | DSC | DRQ;
        self.run_dma();
    }
}
