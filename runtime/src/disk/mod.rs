//! Disk images: opened, locked, and given to a controller as a [`BlockDev`].
//!
//! Image files are hostile input. A format that was not named is found out by the first bytes; such a disk may not
//! become another format by the guest's own writing of sector 0, which the next start would believe. Other files
//! an image names are opened only if the user has allowed it.

mod config;
mod lock;
mod overlay;
mod policy;
mod probe;
mod qcow2;
mod raw;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use devices::block::{BlockDev, MemDisk, SECTOR};
use devices::fdc::Geometry;

pub use config::{Cache, DriveBus, DriveConfig, DriveSource, Format, Media};

use lock::Use;
use overlay::Overlay;
use policy::Ruled;
use probe::{HEAD, Looks, probe};
use qcow2::Qcow2Disk;
use raw::RawDisk;

/// Why an image could not be used. The message names the file.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be opened.
    #[error("cannot open disk image {path}{hint}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What may help.
        hint: &'static str,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// It is a directory.
    #[error("disk image {0} is a directory")]
    Directory(PathBuf),
    /// It is a pipe, a terminal or the like.
    #[error("disk image {0} is not a file or block device")]
    Kind(PathBuf),
    /// It holds nothing.
    #[error("disk image {0} is empty")]
    Empty(PathBuf),
    /// It has less than a sector.
    #[error("disk image {0} has {1} bytes, less than one sector of 512")]
    Short(PathBuf, u64),
    /// It is larger than any floppy disk.
    #[error("disk image {0} is larger than a floppy disk of 2.88 MB")]
    Floppy(PathBuf),
    /// Another process has it.
    #[error("disk image {path} is in use by another process: failed to get {lock} lock{hint}")]
    Locked {
        /// The file.
        path: PathBuf,
        /// Which lock is not to be had.
        lock: &'static str,
        /// What may help.
        hint: &'static str,
    },
    /// It looks like a format that cannot be read.
    #[error(
        "disk image {0} is in {1} format, which is not supported: qemu-img convert -O qcow2 {0} disk.qcow2"
    )]
    Foreign(PathBuf, &'static str),
    /// It was said to be qcow2, and is not, or is damaged.
    #[error("cannot use qcow2 image {path}")]
    Qcow2 {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// It reads through to another file, which was not allowed.
    #[error(
        "disk image {path} has the backing file {backing}: -drive file={path},backing=on allows it to be read"
    )]
    Backing {
        /// The image.
        path: PathBuf,
        /// What it names.
        backing: PathBuf,
    },
    /// Its data are in another file.
    #[error("disk image {0} has an external data file, which is not supported")]
    DataFile(PathBuf),
}

/// Opens what is in a drive; `None` if it is empty.
///
/// # Errors
/// The image cannot be opened, is in use, or is not what it should be.
pub fn open(drive: &DriveConfig) -> Result<Option<Box<dyn BlockDev>>, DiskError> {
    let image = match &drive.source {
        DriveSource::Empty => return Ok(None),
        DriveSource::Bytes(bytes) => return Ok(Some(Box::new(MemDisk::new(bytes.to_vec())))),
        DriveSource::File(path) => open_file(path, drive)?,
    };
    Ok(Some(image))
}

fn open_file(path: &Path, drive: &DriveConfig) -> Result<Box<dyn BlockDev>, DiskError> {
    let is_read_only = drive.keeps_image();
    let (file, bytes) = open_image(path, is_read_only)?;
    let mut head = [0; HEAD];
    let open_error = |source| DiskError::Open { path: path.to_owned(), hint: "", source };
    raw::read_padded(&file, 0, &mut head).map_err(open_error)?;
    let format = match (drive.format, probe(&head)) {
        (Some(format), _) | (None, Looks::Like(format)) => format,
        (None, Looks::Foreign(name)) => return Err(DiskError::Foreign(path.to_owned(), name)),
    };
    let usage = match (is_read_only, format) {
        (true, _) => Use::Read,
        (false, Format::Raw) => Use::Write,
        (false, Format::Qcow2) => Use::Grow,
    };
    let Some(file) = lock::take(file, usage).map_err(open_error)? else {
        let (lock, hint) = match usage {
            Use::Read => ("shared \"write\"", ""),
            Use::Write | Use::Grow => ("\"write\"", " (two machines may share it with -snapshot)"),
        };
        return Err(DiskError::Locked { path: path.to_owned(), lock, hint });
    };
    let image: Box<dyn BlockDev> = match format {
        Format::Raw => Box::new(RawDisk::new(file, bytes, is_read_only)),
        Format::Qcow2 => Box::new(Qcow2Disk::open(file, path, is_read_only, drive.backing)?),
    };
    if image.sectors() == 0 {
        return Err(DiskError::Empty(path.to_owned()));
    }
    if drive.bus == DriveBus::Floppy && Geometry::of(image.sectors()).is_none() {
        return Err(DiskError::Floppy(path.to_owned()));
    }
    let stays_raw = drive.format.is_none() && format == Format::Raw && !drive.snapshot;
    let image: Box<dyn BlockDev> = match drive.snapshot && drive.media == Media::Disk {
        true => Box::new(Overlay::new(image)),
        false => image,
    };
    Ok(Box::new(Ruled::new(image, drive, stays_raw)))
}

/// Opens the file and tells its size.
fn open_image(path: &Path, is_read_only: bool) -> Result<(File, u64), DiskError> {
    // A named pipe would wait for a writer.
    let opened = OpenOptions::new()
        .read(true)
        .write(!is_read_only)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let file = opened.map_err(|source| {
        let is_denied = matches!(
            source.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        );
        let hint = match !is_read_only && is_denied {
            true => " for writing (try -snapshot)",
            false => "",
        };
        match source.kind() {
            io::ErrorKind::IsADirectory => DiskError::Directory(path.to_owned()),
            _ => DiskError::Open { path: path.to_owned(), hint, source },
        }
    })?;
    let is_folder = file.metadata().is_ok_and(|about| about.is_dir());
    // Seeking also tells the size of block devices; pipes and terminals refuse it.
    match (&file).seek(SeekFrom::End(0)) {
        Ok(_) | Err(_) if is_folder => Err(DiskError::Directory(path.to_owned())),
        Ok(0) => Err(DiskError::Empty(path.to_owned())),
        Ok(bytes) if bytes < SECTOR as u64 => Err(DiskError::Short(path.to_owned(), bytes)),
        Ok(bytes) => Ok((file, bytes)),
        Err(_) => Err(DiskError::Kind(path.to_owned())),
    }
}

/// The byte offset of a transfer, if it lies within the disk.
fn range(sectors: u64, lba: u64, len: usize) -> io::Result<u64> {
    let count = (len / SECTOR) as u64;
    let end = lba.checked_add(count).filter(|&end| end <= sectors && len.is_multiple_of(SECTOR));
    match end.and(lba.checked_mul(SECTOR as u64)) {
        Some(at) => Ok(at),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}
