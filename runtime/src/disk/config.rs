//! What a drive is made of, as plain data.

use std::path::PathBuf;

/// One drive and what is in it. [`Default`] is an empty place 0 of the IDE bus.
#[derive(Clone, Debug, Default)]
pub struct DriveConfig {
    /// What it is connected to.
    pub bus: DriveBus,
    /// Its place there. IDE: 0 primary master, 1 primary slave, 2 secondary master, 3 secondary slave; floppy: 0, 1.
    pub slot: usize,
    /// A disk, or a CD.
    pub media: Media,
    /// Its contents.
    pub source: DriveSource,
    /// The image's format; `None` finds out from its first bytes.
    pub format: Option<Format>,
    /// May the image name other files to read from (qcow2 backing files)?
    pub backing: bool,
    /// Keep writes in a temporary file that is gone at the end.
    pub snapshot: bool,
    /// Refuse writes.
    pub read_only: bool,
    /// When writes become durable.
    pub cache: Cache,
    /// The user's name for it.
    pub id: String,
    /// The serial number a virtio disk shows.
    pub serial: String,
    /// What the guest discards is given back to the host.
    pub discard: bool,
    /// Its place in firmware's boot order, before all that have none.
    pub boot_index: Option<u32>,
}

impl DriveConfig {
    /// IDE disk 0 with a copy of these bytes.
    pub fn bytes(bytes: &'static [u8]) -> Self {
        Self { source: DriveSource::Bytes(bytes), snapshot: true, ..Self::default() }
    }

    /// IDE disk `slot` with this image.
    pub fn file(path: impl Into<PathBuf>, slot: usize) -> Self {
        Self { source: DriveSource::File(path.into()), slot, ..Self::default() }
    }

    /// Will the image file never be written?
    pub fn keeps_image(&self) -> bool {
        self.snapshot || self.read_only || self.media == Media::Cdrom
    }

    /// A name for messages and lists: the user's, or QEMU's default one.
    pub fn name(&self) -> String {
        if !self.id.is_empty() {
            return self.id.clone();
        }
        let slot = self.slot;
        match (self.bus, self.media) {
            (DriveBus::Ide, Media::Disk) => format!("ide{}-hd{}", slot / 2, slot % 2),
            (DriveBus::Ide, Media::Cdrom) => format!("ide{}-cd{}", slot / 2, slot % 2),
            (DriveBus::Floppy, _) => format!("floppy{slot}"),
            (DriveBus::Virtio, _) => format!("virtio{slot}"),
            (DriveBus::None, _) => format!("none{slot}"),
        }
    }
}

/// What a drive is connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriveBus {
    /// An IDE channel.
    #[default]
    Ide,
    /// The floppy controller.
    Floppy,
    /// A virtio block device of its own.
    Virtio,
    /// Nothing, until a `-device` names it by id.
    None,
}

/// What kind of drive it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Media {
    /// A disk.
    #[default]
    Disk,
    /// A CD or DVD, read only and removable.
    Cdrom,
}

/// Where a drive's contents are.
#[derive(Clone, Debug, Default)]
pub enum DriveSource {
    /// There is no medium.
    #[default]
    Empty,
    /// An image file.
    File(PathBuf),
    /// A copy of these bytes.
    Bytes(&'static [u8]),
}

/// An image file's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Byte `512 * n` of the file is the start of sector `n`.
    Raw,
    /// QEMU's copy-on-write format, versions 2 and 3.
    Qcow2,
}

/// When writes become durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// When the guest flushes its disk, and at the end.
    #[default]
    Writeback,
    /// Each at once.
    Writethrough,
    /// Never on the guest's wish: a crash of the host may lose all.
    Unsafe,
}
