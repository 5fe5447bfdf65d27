//! The CD drive's packet commands: what each answers (MMC-5, SPC-3).
//!
//! A command only decides here; [`packet`](super::packet) moves the data. The medium is a [`BlockDev`] of whose
//! 512-byte sectors four make a CD sector.

use crate::block::BlockDev;
use crate::state::{StateError, ensure};
use crate::state_fields;

/// Bytes of a CD sector's user data.
pub(super) const CD_SECTOR: usize = 2048;
/// Bytes of a whole CD sector: sync, header, user data, EDC and ECC.
pub(super) const CD_RAW: usize = 2352;
/// Disk sectors per CD sector.
pub(super) const PER_CD_SECTOR: u64 = 4;
/// More sectors than this (80 minutes) are a DVD.
const CD_MAX_SECTORS: u64 = 80 * 60 * 75;

/// Why a command was not carried out: sense key, additional sense code and its qualifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sense {
    key: u8,
    asc: u8,
    ascq: u8,
}

state_fields!(Sense, 1, [key, asc, ascq]);

impl Sense {
    const NO_MEDIUM: Self = Self::new(2, 0x3a, 0x01);
    const TRAY_OPEN: Self = Self::new(2, 0x3a, 0x02);
    pub(super) const UNREADABLE: Self = Self::new(3, 0x11, 0x00);
    const BAD_OPCODE: Self = Self::new(5, 0x20, 0x00);
    const OUT_OF_RANGE: Self = Self::new(5, 0x21, 0x00);
    const BAD_FIELD: Self = Self::new(5, 0x24, 0x00);
    const NOT_SAVED: Self = Self::new(5, 0x39, 0x00);
    const LOCKED: Self = Self::new(5, 0x53, 0x02);
    const MEDIUM_CHANGED: Self = Self::new(6, 0x28, 0x00);

    const fn new(key: u8, asc: u8, ascq: u8) -> Self {
        Self { key, asc, ascq }
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        ensure(self.key < 16, "sense key")
    }

    /// The error register: the key in its upper half.
    pub(super) fn error(self) -> u8 {
        self.key << 4
    }
}

/// What a packet command comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is done.
    Done,
    /// It answers these bytes.
    Reply(Vec<u8>),
    /// It answers sectors of the medium.
    Read {
        /// The first CD sector.
        lba: u64,
        /// How many.
        count: u64,
        /// Whole sectors, not their user data alone.
        is_raw: bool,
    },
    /// It failed.
    Failed(Sense),
}

/// What a CD drive remembers beside its registers and its medium.
#[derive(Debug, Default)]
pub(super) struct CdState {
    sense: Sense,
    is_tray_open: bool,
    is_locked: bool,
    /// The next command must be told that the medium has changed.
    has_changed: bool,
    /// Media event to report: 1 eject request, 2 new medium, 3 medium removed.
    event: u8,
}

state_fields!(CdState, 1, [sense, is_tray_open, is_locked, has_changed, event]);

impl CdState {
    fn check_state(&mut self) -> Result<(), StateError> {
        ensure(self.event < 4, "media event")
    }

    /// Hardware reset: the tray stays as it is.
    pub(super) fn reset(&mut self) {
        self.sense = Sense::default();
        self.is_locked = false;
    }

    pub(super) fn is_locked(&self) -> bool {
        self.is_locked
    }

    pub(super) fn is_tray_open(&self) -> bool {
        self.is_tray_open
    }

    /// The user presses the button of a locked drive.
    pub(super) fn request_eject(&mut self) {
        self.event = 1;
    }

    /// Another medium, or none, was put in.
    pub(super) fn changed(&mut self, has_medium: bool) {
        self.is_tray_open = false;
        self.is_locked = false;
        self.has_changed = has_medium;
        self.event = if has_medium { 2 } else { 3 };
    }

    /// Notes why a command failed, for REQUEST SENSE.
    pub(super) fn failed(&mut self, sense: Sense) {
        self.sense = sense;
    }
}

/// One command on a drive.
pub(super) struct Command<'a> {
    pub(super) cd: &'a mut CdState,
    pub(super) medium: Option<&'a dyn BlockDev>,
    pub(super) packet: [u8; 12],
}

impl Command<'_> {
    /// Carries the command out, as far as it moves no sectors.
    pub(super) fn run(mut self) -> Outcome {
        let outcome = self.dispatch();
        match outcome {
            Ok(outcome) => outcome,
            Err(sense) => Outcome::Failed(sense),
        }
    }

    fn dispatch(&mut self) -> Result<Outcome, Sense> {
        let p = self.packet;
        // These answer whatever state the medium is in.
        match p[0] {
            0x03 => return Ok(self.request_sense()),
            0x12 => return self.inquiry(),
            0x46 => return self.get_configuration(),
            0x4a => return self.event_status(),
            _ => {}
        }
        self.cd.sense = Sense::default();
        if std::mem::take(&mut self.cd.has_changed) {
            return Err(Sense::MEDIUM_CHANGED);
        }
        match p[0] {
            0x00 | 0x2b => self.sectors().map(|_| Outcome::Done),
            0x1b => self.start_stop(),
            0x1e => {
                self.cd.is_locked = p[4] & 1 != 0;
                Ok(Outcome::Done)
            }
            0x25 => self.capacity(),
            0x28 => self.read(u64::from(be16(&p, 7)), false),
            0xa8 => self.read(u64::from(be32(&p, 6)), false),
            0x43 => self.toc(),
            0x51 => self.disc_information(),
            0x5a => self.mode_sense(),
            // SET CD SPEED: it always spins as fast as the host.
            0xbb => Ok(Outcome::Done),
            0xbd => Ok(reply(&[0, 0, 0, 0, 0, 1, 0, 0], be16(&p, 8))),
            0xbe => self.read_cd(),
            code => {
                log::debug!("packet command code={code:#04x} is not there");
                Err(Sense::BAD_OPCODE)
            }
        }
    }

    /// CD sectors of the medium.
    fn sectors(&self) -> Result<u64, Sense> {
        match self.medium {
            _ if self.cd.is_tray_open => Err(Sense::TRAY_OPEN),
            None => Err(Sense::NO_MEDIUM),
            Some(medium) => Ok(medium.sectors().div_ceil(PER_CD_SECTOR).min(u64::from(u32::MAX))),
        }
    }

    fn request_sense(&mut self) -> Outcome {
        let sense = std::mem::take(&mut self.cd.sense);
        let mut bytes = [0; 18];
        (bytes[0], bytes[2], bytes[7]) = (0x70, sense.key, 10);
        (bytes[12], bytes[13]) = (sense.asc, sense.ascq);
        reply(&bytes, self.packet[4].into())
    }

    fn inquiry(&self) -> Result<Outcome, Sense> {
        let p = &self.packet;
        let alloc = be16(p, 3);
        if p[1] & 1 != 0 {
            // Vital product data: the list of pages, which has itself alone.
            let page = reply(&[5, 0, 0, 1, 0], alloc);
            return if p[2] == 0 { Ok(page) } else { Err(Sense::BAD_FIELD) };
        }
        let mut bytes = [0; 36];
        // CD drive, removable, MMC's response format for ATAPI, 31 bytes more.
        bytes[..5].copy_from_slice(&[5, 0x80, 0, 0x21, 31]);
        bytes[8..].copy_from_slice(b"STELE   CD-ROM          1.0 ");
        Ok(reply(&bytes, alloc))
    }

    fn start_stop(&mut self) -> Result<Outcome, Sense> {
        match self.packet[4] & 3 {
            2 if self.cd.is_locked => return Err(Sense::LOCKED),
            2 if !self.cd.is_tray_open => {
                self.cd.is_tray_open = true;
                self.cd.event = 3;
            }
            3 if self.cd.is_tray_open => {
                self.cd.is_tray_open = false;
                self.cd.has_changed = self.medium.is_some();
                self.cd.event = if self.medium.is_some() { 2 } else { 0 };
            }
            _ => {}
        }
        Ok(Outcome::Done)
    }

    fn capacity(&self) -> Result<Outcome, Sense> {
        let last = self.sectors()?.saturating_sub(1) as u32;
        let bytes = [last.to_be_bytes(), (CD_SECTOR as u32).to_be_bytes()].concat();
        Ok(Outcome::Reply(bytes))
    }

    fn read(&self, count: u64, is_raw: bool) -> Result<Outcome, Sense> {
        let lba = u64::from(be32(&self.packet, 2));
        let total = self.sectors()?;
        match lba + count <= total {
            false => Err(Sense::OUT_OF_RANGE),
            true if count == 0 => Ok(Outcome::Done),
            true => Ok(Outcome::Read { lba, count, is_raw }),
        }
    }

    fn read_cd(&self) -> Result<Outcome, Sense> {
        let p = &self.packet;
        let count = u64::from(be32(p, 5) & 0xff_ffff);
        match p[9] & 0xf8 {
            0x00 => self.read(0, false),
            0x10 => self.read(count, false),
            0xf8 => self.read(count, true),
            _ => Err(Sense::BAD_FIELD),
        }
    }

    fn toc(&self) -> Result<Outcome, Sense> {
        let p = &self.packet;
        let leadout = self.sectors()? as u32;
        let (is_msf, start) = (p[1] & 2 != 0, p[6]);
        // Older drivers put the format into the last byte.
        let format = if p[2] & 15 != 0 { p[2] & 15 } else { p[9] >> 6 };
        let mut bytes = vec![0, 0, 1, 1];
        let address = |lba: u32| if is_msf { msf(lba) } else { lba.to_be_bytes() };
        match format {
            0 if start > 1 && start != 0xaa => return Err(Sense::BAD_FIELD),
            0 => {
                if start <= 1 {
                    bytes.extend([0, 0x14, 1, 0]);
                    bytes.extend(address(0));
                }
                bytes.extend([0, 0x14, 0xaa, 0]);
                bytes.extend(address(leadout));
            }
            1 => {
                bytes.extend([0, 0x14, 1, 0]);
                bytes.extend(address(0));
            }
            2 => {
                let [_, m, s, f] = msf(leadout);
                for (point, [pm, ps, pf]) in
                    [(0xa0, [1, 0, 0]), (0xa1, [1, 0, 0]), (0xa2, [m, s, f]), (1, [0, 2, 0])]
                {
                    bytes.extend([1, 0x14, 0, point, 0, 0, 0, 0, pm, ps, pf]);
                }
            }
            _ => return Err(Sense::BAD_FIELD),
        }
        let len = (bytes.len() - 2) as u16;
        bytes[..2].copy_from_slice(&len.to_be_bytes());
        Ok(reply(&bytes, be16(p, 7)))
    }

    fn disc_information(&self) -> Result<Outcome, Sense> {
        self.sectors()?;
        let mut bytes = [0; 34];
        // 32 bytes more; finished disc, one complete session of one track, unrestricted use.
        bytes[1] = 32;
        bytes[2] = 0x0e;
        bytes[3..7].copy_from_slice(&[1, 1, 1, 1]);
        bytes[7] = 0x20;
        bytes[17..24].fill(0xff);
        Ok(reply(&bytes, be16(&self.packet, 7)))
    }

    fn mode_sense(&self) -> Result<Outcome, Sense> {
        let p = &self.packet;
        if p[2] >> 6 == 3 {
            return Err(Sense::NOT_SAVED);
        }
        let wanted = p[2] & 0x3f;
        let mut bytes = vec![0; 8];
        let has_medium = self.medium.is_some() && !self.cd.is_tray_open;
        bytes[2] = if has_medium { 1 } else { 0x70 };
        if matches!(wanted, 0x01 | 0x3f) {
            // Error recovery: five tries.
            bytes.extend([1, 6, 0, 5, 0, 0, 0, 0]);
        }
        if matches!(wanted, 0x2a | 0x3f) {
            // Capabilities: reads CD-R, CD-RW and DVDs, mode 2 sectors, locks and ejects; its tray; speeds in kB/s.
            let lock = u8::from(self.cd.is_locked) << 1;
            bytes.extend([0x2a, 18, 0x3b, 0, 0x70, 0, 0x29 | lock, 0]);
            bytes.extend([0x02, 0xc2, 0, 2, 0x02, 0x00, 0x02, 0xc2, 0, 0, 0, 0]);
        }
        if bytes.len() == 8 {
            return Err(Sense::BAD_FIELD);
        }
        bytes[1] = (bytes.len() - 2) as u8;
        Ok(reply(&bytes, be16(p, 7)))
    }

    fn get_configuration(&self) -> Result<Outcome, Sense> {
        let p = &self.packet;
        let (which, start) = (p[1] & 3, be16(p, 2));
        let sectors = self.sectors().unwrap_or(0);
        let (is_cd, is_dvd) = ((1..=CD_MAX_SECTORS).contains(&sectors), sectors > CD_MAX_SECTORS);
        let profile: u16 = if is_dvd { 0x10 } else { 8 * u16::from(is_cd) };
        // Feature, version and persistence, is it current, contents.
        let features: &[(u16, u8, bool, &[u8])] = &[
            (0x00, 0x03, true, &[0, 0x10, u8::from(is_dvd), 0, 0, 0x08, u8::from(is_cd), 0]),
            // Core: ATAPI. Removable: a tray that locks and ejects.
            (0x01, 0x0b, true, &[0, 0, 0, 2, 1, 0, 0, 0]),
            (0x03, 0x03, true, &[0x29, 0, 0, 0]),
            (0x10, 0x00, sectors > 0, &[0, 0, 8, 0, 0, 0x10, 0, 0]),
            (0x1e, 0x08, is_cd, &[0, 0, 0, 0]),
            (0x1f, 0x00, is_dvd, &[0, 0, 0, 0]),
        ];
        let mut bytes = vec![0; 8];
        bytes[6..].copy_from_slice(&profile.to_be_bytes());
        for (code, version, is_current, contents) in features {
            let is_wanted = match which {
                0 => *code >= start,
                1 => *code >= start && *is_current,
                2 => *code == start,
                _ => return Err(Sense::BAD_FIELD),
            };
            if is_wanted {
                bytes.extend(code.to_be_bytes());
                bytes.extend([version & !1 | u8::from(*is_current), contents.len() as u8]);
                bytes.extend(*contents);
            }
        }
        let len = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&len.to_be_bytes());
        Ok(reply(&bytes, be16(p, 7)))
    }

    fn event_status(&mut self) -> Result<Outcome, Sense> {
        let p = self.packet;
        if p[1] & 1 == 0 {
            // Only asked for, never sent by itself.
            return Err(Sense::BAD_FIELD);
        }
        // Of the classes there is only the media's, number 4.
        if p[4] & 0x10 == 0 {
            return Ok(reply(&[0, 2, 0x80, 0x10], be16(&p, 7)));
        }
        let has_medium = self.medium.is_some() && !self.cd.is_tray_open;
        let status = u8::from(self.cd.is_tray_open) | u8::from(has_medium) << 1;
        let event = std::mem::take(&mut self.cd.event);
        Ok(reply(&[0, 6, 4, 0x10, event, status, 0, 0], be16(&p, 7)))
    }
}

/// An answer, cut to what the host has room for.
fn reply(bytes: &[u8], room: u16) -> Outcome {
    match &bytes[..bytes.len().min(room.into())] {
        [] => Outcome::Done,
        bytes => Outcome::Reply(bytes.to_vec()),
    }
}

fn be16(packet: &[u8; 12], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn be32(packet: &[u8; 12], at: usize) -> u32 {
    u32::from(be16(packet, at)) << 16 | u32::from(be16(packet, at + 2))
}

/// Minutes, seconds and frames of a sector, in the low three bytes; two seconds lie before sector 0.
pub(super) fn msf(lba: u32) -> [u8; 4] {
    let frames = u64::from(lba) + 150;
    [0, (frames / (60 * 75)) as u8, (frames / 75 % 60) as u8, (frames % 75) as u8]
}
