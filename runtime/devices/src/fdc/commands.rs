//! The commands: their lengths, what each does, and their results (82077AA datasheet, "Command Set/Descriptions").

use super::transfer::{Kind, Transfer};
use super::{Fdc, Phase};

// Status register 0: how a command ended, and "seek end".
const ST0_ABNORMAL: u8 = 0x40;
const ST0_INVALID: u8 = 0x80;
const ST0_SEEK_END: u8 = 0x20;
// Status register 1.
pub(super) const ST1_MISSING_ADDRESS: u8 = 0x01;
pub(super) const ST1_NOT_WRITABLE: u8 = 0x02;
pub(super) const ST1_NO_DATA: u8 = 0x04;
pub(super) const ST1_DATA_ERROR: u8 = 0x20;
pub(super) const ST1_END_OF_CYLINDER: u8 = 0x80;
// Status register 2.
pub(super) const ST2_WRONG_CYLINDER: u8 = 0x10;
const ST2_DELETED: u8 = 0x40;
// Status register 3: two-sided and ready; track 0; write protected.
const ST3_ALWAYS: u8 = 0x28;
const ST3_TRACK_0: u8 = 0x10;
const ST3_PROTECTED: u8 = 0x40;
/// CONFIGURE: data commands seek by themselves.
const IMPLIED_SEEK: u8 = 0x40;

/// Bytes of the command that begins with `code`.
fn length(code: u8) -> usize {
    match code & 0x1f {
        0x02 | 0x05 | 0x06 | 0x09 | 0x0c | 0x16 => 9,
        0x0d => 6,
        0x13 => 4,
        0x03 | 0x0f => 3,
        0x04 | 0x07 | 0x0a | 0x12 => 2,
        _ => 1,
    }
}

impl Fdc {
    /// A byte of a command; the last one starts it.
    pub(super) fn command_byte(&mut self, value: u8) {
        if let Some(place) = self.command.get_mut(usize::from(self.command_len)) {
            *place = value;
            self.command_len += 1;
        }
        if usize::from(self.command_len) >= length(self.command[0]) {
            self.execute();
        }
    }

    fn execute(&mut self) {
        let c = self.command;
        log::debug!("floppy command {:02x?}", &c[..length(c[0])]);
        match c[0] & 0x1f {
            0x02 => self.start_transfer(Kind::Read, true),
            0x05 | 0x09 => self.start_transfer(Kind::Write, false),
            0x06 | 0x0c => self.start_transfer(Kind::Read, false),
            0x16 => self.start_transfer(Kind::Verify, false),
            0x0d => self.start_format(),
            0x03 => {
                self.specify = [c[1], c[2]];
                self.set_phase(Phase::Command);
            }
            0x04 => {
                let st3 = self.drive_status(c[1]);
                self.answer(&[st3]);
            }
            0x07 => self.seek(c[1], 0),
            0x0f => self.seek_command(),
            0x08 => self.sense_interrupt(),
            0x0a => self.read_id(),
            0x0e => self.dump_registers(),
            0x10 if c[0] == 0x10 => self.answer(&[0x90]),
            0x12 => {
                self.perpendicular = c[1];
                self.set_phase(Phase::Command);
            }
            0x13 => {
                self.config = [c[2], c[3]];
                self.set_phase(Phase::Command);
            }
            0x14 if c[0] & 0x7f == 0x14 => {
                self.is_locked = c[0] & 0x80 != 0;
                self.answer(&[u8::from(self.is_locked) << 4]);
            }
            _ => self.answer(&[ST0_INVALID]),
        }
    }

    /// Goes to the result phase.
    pub(super) fn answer(&mut self, bytes: &[u8]) {
        for (place, byte) in self.result.iter_mut().zip(bytes) {
            *place = *byte;
        }
        self.result_len = bytes.len().min(self.result.len()) as u8;
        self.set_phase(Phase::Result);
    }

    fn drive_status(&mut self, select: u8) -> u8 {
        let base = ST3_ALWAYS | select & 7;
        match self.drive(usize::from(select & 3)) {
            Some(drive) => {
                let track_0 = if drive.track == 0 { ST3_TRACK_0 } else { 0 };
                let protected = if drive.is_protected() { ST3_PROTECTED } else { 0 };
                base | track_0 | protected
            }
            None => base,
        }
    }

    fn seek_command(&mut self) {
        let c = self.command;
        let now = self.drive(usize::from(c[1] & 3)).map_or(0, |drive| drive.track);
        // RELATIVE SEEK, inwards or outwards.
        let to = match (c[0] & 0x80 != 0, c[0] & 0x40 != 0) {
            (false, _) => c[2],
            (true, true) => now.saturating_add(c[2]),
            (true, false) => now.saturating_sub(c[2]),
        };
        self.seek(c[1], to);
    }

    /// Moves a head and leaves an interrupt to be sensed.
    fn seek(&mut self, select: u8, track: u8) {
        let unit = select & 3;
        let found = self.drive(usize::from(unit)).map(|drive| drive.seek(track));
        // RECALIBRATE of a drive that is not there finds no track 0: equipment check.
        let st0 = match found {
            Some(()) => ST0_SEEK_END | select & 7,
            None => ST0_ABNORMAL | ST0_SEEK_END | 0x10 | select & 7,
        };
        self.pending[0] = st0;
        self.pending_len = 1;
        self.set_phase(Phase::Command);
        self.set_interrupt(true);
    }

    fn sense_interrupt(&mut self) {
        if self.pending_len == 0 {
            return self.answer(&[ST0_INVALID]);
        }
        let st0 = self.pending[0];
        self.pending.rotate_left(1);
        self.pending_len -= 1;
        let track = self.drive(usize::from(st0 & 3)).map_or(0, |drive| drive.track);
        self.answer(&[st0, track]);
        self.set_interrupt(false);
    }

    fn read_id(&mut self) {
        let select = self.command[1];
        self.transfer = Transfer::new(Kind::Verify, select, false);
        let rate = self.rate;
        let Some(drive) = self.drive(usize::from(select & 3)) else {
            return self.fail(ST1_MISSING_ADDRESS, 0);
        };
        let head = select >> 2 & 1;
        let is_readable = drive.geometry().is_some_and(|g| g.has_rate(rate) && head < g.heads);
        if !is_readable {
            return self.fail(ST1_MISSING_ADDRESS, 0);
        }
        let (track, sector) = (drive.track, drive.passing_sector());
        self.transfer.place(track, head, sector);
        self.finish(0, 0, 0);
    }

    fn dump_registers(&mut self) {
        let tracks = [0, 1].map(|n| self.drive(n).map_or(0, |drive| drive.track));
        let lock = u8::from(self.is_locked) << 7 | self.perpendicular & 0x7f;
        self.answer(&[
            tracks[0],
            tracks[1],
            0,
            0,
            self.specify[0],
            self.specify[1],
            self.transfer.last(),
            lock,
            self.config[0],
            self.config[1],
        ]);
    }

    /// Can the selected head do what the command wants? Else the command has failed.
    fn check_medium(&mut self, select: u8, kind: Kind) -> bool {
        let rate = self.rate;
        let drive = self.drive(usize::from(select & 3));
        let (has_disk, is_protected) = match drive {
            Some(drive) => {
                (drive.geometry().is_some_and(|g| g.has_rate(rate)), drive.is_protected())
            }
            None => (false, false),
        };
        if !has_disk {
            self.fail(ST1_MISSING_ADDRESS, 0);
            return false;
        }
        if is_protected && matches!(kind, Kind::Write | Kind::Format) {
            self.fail(ST1_NOT_WRITABLE, 0);
            return false;
        }
        true
    }

    /// READ DATA, WRITE DATA and their kin: command, drive, C, H, R, N, EOT, GPL, DTL.
    fn start_transfer(&mut self, kind: Kind, whole_track: bool) {
        let [code, select, c, h, r, n, last, _, _] = self.command;
        self.transfer = Transfer::new(kind, select, code & 0x80 != 0 && !whole_track);
        self.transfer.place(c, h & 1, if whole_track { 1 } else { r });
        self.transfer.set_last(last);
        if !self.check_medium(select, kind) {
            return;
        }
        if self.config[0] & IMPLIED_SEEK != 0
            && let Some(drive) = self.drive(usize::from(select & 3))
        {
            drive.seek(c);
        }
        let track = self.drive(usize::from(select & 3)).map_or(0, |drive| drive.track);
        if track != c {
            return self.fail(ST1_NO_DATA, ST2_WRONG_CYLINDER);
        }
        if n != 2 {
            return self.fail(ST1_NO_DATA, 0);
        }
        self.begin();
    }

    /// FORMAT TRACK: command, drive, N, sectors, gap, filler.
    fn start_format(&mut self) {
        let [_, select, n, sectors, _, filler, ..] = self.command;
        self.transfer = Transfer::new(Kind::Format, select, false);
        let track = self.drive(usize::from(select & 3)).map_or(0, |drive| drive.track);
        self.transfer.place(track, select >> 2 & 1, 1);
        self.transfer.set_last(sectors);
        self.transfer.set_filler(filler);
        if !self.check_medium(select, Kind::Format) {
            return;
        }
        if n != 2 || sectors == 0 {
            return self.fail(ST1_NO_DATA, 0);
        }
        self.begin();
    }

    /// The command has failed.
    pub(super) fn fail(&mut self, st1: u8, st2: u8) {
        self.finish(ST0_ABNORMAL, st1, st2);
    }

    /// The end of a data command: statuses, and where it stopped.
    pub(super) fn finish(&mut self, st0: u8, st1: u8, st2: u8) {
        // "Read deleted data" finds data that are not deleted.
        let deleted = if self.command[0] & 0x1f == 0x0c { ST2_DELETED } else { 0 };
        let t = &self.transfer;
        let (select, [c, h, r]) = (t.select(), t.at());
        self.answer(&[st0 | h << 2 | select & 3, st1, st2 | deleted, c, h, r, 2]);
        self.set_interrupt(true);
    }
}
