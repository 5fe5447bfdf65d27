//! Sectors on their way: between disk and buffer, and between buffer and host, by DMA or by the data register.

use super::commands::{ST1_DATA_ERROR, ST1_END_OF_CYLINDER, ST1_NO_DATA};
use super::{DOR_GATE, Fdc, Phase};
use crate::block::SECTOR;
use crate::dma8237::DmaPeer;
use crate::state::{StateError, ensure};
use crate::state_fields;

/// What a data command does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    #[default]
    Read = 0,
    Write = 1,
    Format = 2,
    /// Reads, and gives nothing to the host.
    Verify = 3,
}

/// Bytes the host gives per sector that is formatted: C, H, R, N.
const FORMAT_ID: u16 = 4;

/// The data command in progress.
#[derive(Debug, Default)]
pub(super) struct Transfer {
    kind: u8,
    select: u8,
    is_multi_track: bool,
    track: u8,
    head: u8,
    sector: u8,
    /// Last sector of the track; of FORMAT, sectors yet to come.
    last: u8,
    filler: u8,
    pos: u16,
}

state_fields!(Transfer, 1, [kind, select, is_multi_track, track, head, sector, last, filler, pos]);

impl Transfer {
    pub(super) fn new(kind: Kind, select: u8, is_multi_track: bool) -> Self {
        Self { kind: kind as u8, select, is_multi_track, ..Self::default() }
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        ensure(self.kind < 4 && usize::from(self.pos) <= SECTOR, "floppy transfer")
    }

    pub(super) fn place(&mut self, track: u8, head: u8, sector: u8) {
        (self.track, self.head, self.sector) = (track, head, sector);
    }

    pub(super) fn set_last(&mut self, last: u8) {
        self.last = last;
    }

    pub(super) fn set_filler(&mut self, filler: u8) {
        self.filler = filler;
    }

    pub(super) fn select(&self) -> u8 {
        self.select
    }

    pub(super) fn last(&self) -> u8 {
        self.last
    }

    /// Where it is: C, H, R.
    pub(super) fn at(&self) -> [u8; 3] {
        [self.track, self.head, self.sector]
    }

    pub(super) fn to_host(&self) -> bool {
        self.kind() == Kind::Read
    }

    fn kind(&self) -> Kind {
        match self.kind {
            0 => Kind::Read,
            1 => Kind::Write,
            2 => Kind::Format,
            _ => Kind::Verify,
        }
    }

    /// Bytes per step of the transfer.
    fn step(&self) -> u16 {
        if self.kind() == Kind::Format { FORMAT_ID } else { SECTOR as u16 }
    }

    fn is_last(&self) -> bool {
        match self.kind() {
            Kind::Format => self.last <= 1,
            _ => self.sector == self.last && !(self.is_multi_track && self.head == 0),
        }
    }

    /// On to the next sector, as the result shows it.
    fn advance(&mut self) {
        self.pos = 0;
        if self.kind() == Kind::Format {
            self.last = self.last.saturating_sub(1);
            return;
        }
        if self.sector != self.last {
            self.sector = self.sector.wrapping_add(1);
            return;
        }
        self.sector = 1;
        if self.is_multi_track {
            self.head ^= 1;
        }
        if !self.is_multi_track || self.head == 0 {
            self.track = self.track.wrapping_add(1);
        }
    }
}

impl Fdc {
    /// The execution phase begins.
    pub(super) fn begin(&mut self) {
        match self.transfer.kind() {
            Kind::Verify => return self.verify(),
            Kind::Read if !self.load() => return,
            Kind::Read | Kind::Write | Kind::Format => {}
        }
        self.set_phase(Phase::Execution);
        if self.is_non_dma() {
            self.set_interrupt(true);
        }
    }

    /// Reads the current sector into the buffer; if that fails the command has ended.
    fn load(&mut self) -> bool {
        let [_, head, sector] = self.transfer.at();
        let unit = usize::from(self.transfer.select & 3);
        match self.drive(unit).and_then(|drive| drive.read(head, sector)) {
            Some(bytes) => {
                self.data = bytes;
                true
            }
            None => {
                self.fail(ST1_NO_DATA, 0);
                false
            }
        }
    }

    fn verify(&mut self) {
        // At most all sectors of two sides.
        for _ in 0..2 * 256 {
            if !self.load() {
                return;
            }
            let is_last = self.transfer.is_last();
            self.transfer.advance();
            if is_last {
                return self.finish(0, 0, 0);
            }
        }
        self.fail(ST1_NO_DATA, 0);
    }

    /// Puts what the host gave onto the disk; if that fails the command has ended.
    fn store(&mut self) -> bool {
        let [track, mut head, mut sector] = self.transfer.at();
        let mut bytes = self.data;
        if self.transfer.kind() == Kind::Format {
            let [c, h, r, n, ..] = self.data;
            bytes = [self.transfer.filler; SECTOR];
            if c != track || n != 2 {
                self.fail(ST1_DATA_ERROR, 0);
                return false;
            }
            (head, sector) = (h & 1, r);
        }
        let unit = usize::from(self.transfer.select & 3);
        let is_done = self.drive(unit).is_some_and(|drive| drive.write(head, sector, &bytes));
        if !is_done {
            self.fail(ST1_NO_DATA, 0);
        }
        is_done
    }

    /// A step's bytes have all been moved, or the host wants no more.
    fn step_done(&mut self, terminal_count: bool) {
        if !self.transfer.to_host() {
            // A sector that was cut short is filled with zeros.
            let pos = usize::from(self.transfer.pos).min(SECTOR);
            if pos > 0 {
                self.data[pos..].fill(0);
                if !self.store() {
                    return;
                }
            }
        }
        let is_last = self.transfer.is_last();
        self.transfer.advance();
        match (terminal_count, is_last) {
            (true, _) => self.finish(0, 0, 0),
            (false, true) if self.transfer.kind() == Kind::Format => self.finish(0, 0, 0),
            (false, true) => self.fail(ST1_END_OF_CYLINDER, 0),
            (false, false) => {
                let goes_on = !self.transfer.to_host() || self.load();
                if goes_on && self.is_non_dma() {
                    self.set_interrupt(true);
                }
            }
        }
    }

    /// Bytes of the current step that have not been moved.
    fn rest(&mut self) -> &mut [u8] {
        let (pos, step) = (usize::from(self.transfer.pos), usize::from(self.transfer.step()));
        self.data.get_mut(pos..step).unwrap_or(&mut [])
    }

    pub(super) fn pio_read(&mut self) -> u8 {
        if !self.is_non_dma() || !self.transfer.to_host() {
            return 0;
        }
        self.set_interrupt(false);
        let byte = self.rest().first().copied().unwrap_or(0);
        self.pio_moved();
        byte
    }

    pub(super) fn pio_write(&mut self, value: u8) {
        if !self.is_non_dma() || self.transfer.to_host() {
            return;
        }
        self.set_interrupt(false);
        if let Some(place) = self.rest().first_mut() {
            *place = value;
        }
        self.pio_moved();
    }

    fn pio_moved(&mut self) {
        self.transfer.pos += 1;
        if self.transfer.pos >= self.transfer.step() {
            self.step_done(false);
        }
    }
}

impl DmaPeer for Fdc {
    fn is_requesting(&self) -> bool {
        self.phase() == Phase::Execution && !self.is_non_dma() && self.dor & DOR_GATE != 0
    }

    fn exchange(&mut self, bytes: &mut [u8]) -> usize {
        let to_host = self.transfer.to_host();
        let rest = self.rest();
        let n = bytes.len().min(rest.len());
        match to_host {
            true => bytes[..n].copy_from_slice(&rest[..n]),
            false => rest[..n].copy_from_slice(&bytes[..n]),
        }
        self.transfer.pos += n as u16;
        n
    }

    fn gives(&self) -> bool {
        self.transfer.to_host()
    }

    fn exchanged(&mut self, terminal_count: bool) {
        if terminal_count || self.transfer.pos >= self.transfer.step() {
            self.step_done(terminal_count);
        }
    }
}
