//! A floppy drive and the disk in it.

use crate::block::{BlockDev, SECTOR};
use crate::state::StateError;
use crate::state_fields;

/// How a disk is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Tracks per side.
    pub tracks: u8,
    /// Sides.
    pub heads: u8,
    /// Sectors per track.
    pub sectors: u8,
    /// Data rates it can be read at, as bits: 500, 300, 250 kbit/s, 1 Mbit/s.
    rates: u8,
    /// The kind of drive it belongs into.
    pub kind: DriveKind,
}

/// Kinds of drives, by their number in CMOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriveKind {
    /// 5¼ inch, 1.2 MB.
    Mb1_2 = 2,
    /// 3½ inch, 1.44 MB.
    Mb1_44 = 4,
    /// 3½ inch, 2.88 MB.
    Mb2_88 = 5,
}

const fn geometry(tracks: u8, heads: u8, sectors: u8, rates: u8, kind: DriveKind) -> Geometry {
    Geometry { tracks, heads, sectors, rates, kind }
}

const AT_500K: u8 = 1;
/// 300 kbit/s is what a 1.2 MB drive turns 250 into.
const AT_250K: u8 = 2 | 4;
const AT_1M: u8 = 8;

/// The usual disk first: an image of no standard size is a part of it, or of the next.
const GEOMETRIES: [Geometry; 11] = [
    geometry(80, 2, 18, AT_500K, DriveKind::Mb1_44),
    geometry(80, 2, 36, AT_1M, DriveKind::Mb2_88),
    geometry(80, 2, 15, AT_500K, DriveKind::Mb1_2),
    geometry(80, 2, 9, AT_250K, DriveKind::Mb1_44),
    geometry(40, 2, 9, AT_250K, DriveKind::Mb1_2),
    geometry(40, 2, 8, AT_250K, DriveKind::Mb1_2),
    geometry(40, 1, 9, AT_250K, DriveKind::Mb1_2),
    geometry(40, 1, 8, AT_250K, DriveKind::Mb1_2),
    geometry(80, 2, 20, AT_500K, DriveKind::Mb1_44),
    geometry(80, 2, 21, AT_500K, DriveKind::Mb1_44),
    geometry(82, 2, 21, AT_500K, DriveKind::Mb1_44),
];

impl Geometry {
    /// The geometry of an image of so many sectors; `None` if no floppy disk is so large.
    pub fn of(sectors: u64) -> Option<Self> {
        let exact = GEOMETRIES.into_iter().find(|g| g.total() == sectors);
        exact.or_else(|| GEOMETRIES.into_iter().take(2).find(|g| g.total() >= sectors))
    }

    fn total(self) -> u64 {
        u64::from(self.tracks) * u64::from(self.heads) * u64::from(self.sectors)
    }

    /// The sector's number on the disk, if it has it.
    fn lba(self, track: u8, head: u8, sector: u8) -> Option<u64> {
        let is_there =
            track < self.tracks && head < self.heads && (1..=self.sectors).contains(&sector);
        let side = u64::from(track) * u64::from(self.heads) + u64::from(head);
        is_there.then(|| side * u64::from(self.sectors) + u64::from(sector) - 1)
    }

    /// Can it be read at this data rate?
    pub(super) fn has_rate(self, rate: u8) -> bool {
        self.rates >> (rate & 3) & 1 != 0
    }
}

/// A drive's place, and the drive with its disk if there is one; [`Default`] is an empty place.
#[derive(Default)]
pub struct FloppyDrive {
    is_there: bool,
    disk: Option<(Box<dyn BlockDev>, Geometry)>,
    /// Where the head is.
    pub(super) track: u8,
    /// The disk was taken out or changed and the head has not moved since.
    pub(super) has_changed: bool,
    /// For READ ID: the sector that comes by next.
    passing: u8,
}

state_fields!(FloppyDrive, 1, [track, has_changed, passing]);

impl FloppyDrive {
    /// A drive with this disk in it. A disk larger than any floppy counts as none.
    pub fn new(disk: Option<Box<dyn BlockDev>>) -> Self {
        let mut drive = Self { is_there: true, ..Self::default() };
        drive.change(disk);
        drive
    }

    /// Is there a drive?
    pub fn is_there(&self) -> bool {
        self.is_there
    }

    /// Takes the disk out and puts another in, or none.
    pub fn change(&mut self, disk: Option<Box<dyn BlockDev>>) {
        if let Err(error) = self.flush() {
            log::debug!("floppy flush failed error={error}");
        }
        self.disk =
            disk.and_then(|disk| Some((Geometry::of(disk.sectors())?, disk))).map(|(g, d)| (d, g));
        self.has_changed = true;
    }

    /// The kind of drive, by the disk that is in it.
    pub fn kind(&self) -> DriveKind {
        self.geometry().map_or(DriveKind::Mb1_44, |geometry| geometry.kind)
    }

    /// Makes everything written durable.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.disk.as_mut().map_or(Ok(()), |(disk, _)| disk.flush())
    }

    /// The disk's contents.
    pub fn disk(&mut self) -> Option<&mut dyn BlockDev> {
        match &mut self.disk {
            Some((disk, _)) => Some(&mut **disk),
            None => None,
        }
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }

    pub(super) fn geometry(&self) -> Option<Geometry> {
        self.disk.as_ref().map(|(_, geometry)| *geometry)
    }

    pub(super) fn is_protected(&self) -> bool {
        self.disk.as_ref().is_some_and(|(disk, _)| disk.is_read_only())
    }

    /// Moves the head; a step with a disk inside shows that it is the one in there now.
    pub(super) fn seek(&mut self, track: u8) {
        if track != self.track && self.disk.is_some() {
            self.has_changed = false;
        }
        self.track = track;
    }

    /// The next sector that passes the head.
    pub(super) fn passing_sector(&mut self) -> u8 {
        let count = self.geometry().map_or(1, |geometry| geometry.sectors);
        self.passing = self.passing % count + 1;
        self.passing
    }

    /// Reads a sector of the current track; what an image lacks is zero. `None` if there is no such sector, or the
    /// host cannot read it.
    pub(super) fn read(&mut self, head: u8, sector: u8) -> Option<[u8; SECTOR]> {
        let track = self.track;
        let (disk, geometry) = self.disk.as_mut()?;
        let lba = geometry.lba(track, head, sector)?;
        let mut bytes = [0; SECTOR];
        if lba < disk.sectors() {
            disk.read(lba, &mut bytes).ok()?;
        }
        Some(bytes)
    }

    /// Writes a sector of the current track; false if that is not possible.
    pub(super) fn write(&mut self, head: u8, sector: u8, bytes: &[u8; SECTOR]) -> bool {
        let track = self.track;
        let Some((disk, geometry)) = &mut self.disk else { return false };
        let lba = geometry.lba(track, head, sector).filter(|&lba| lba < disk.sectors());
        lba.is_some_and(|lba| disk.write(lba, bytes).is_ok())
    }
}
