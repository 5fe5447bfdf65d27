//! qcow2 images, by the imago library. The file is locked by its opener; files the image names are opened only if the
//! user has allowed it, read only, and locked as well.
//!
//! Images are hostile input, and a panic of the library must not be the machine's: it becomes an error of the image.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use devices::block::{BlockDev, SECTOR};
use imago::file::File as Storage;
use imago::format::gate::ImplicitOpenGate;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatDriverBuilder, Storage as _, StorageOpenOptions};

use super::lock::{self, Locked, Use};
use super::raw::{read_padded, stamp};
use super::{DiskError, range};

/// Most images in a chain of backing files.
const MAX_CHAIN: usize = 64;

/// An open qcow2 image.
pub(super) struct Qcow2Disk {
    image: FormatAccess<Storage>,
    is_read_only: bool,
    /// Hold the locks: the image's, and those of its backing files.
    locks: (Locked, Locks),
}

/// Open files for the sake of their locks.
type Locks = Arc<Mutex<Vec<Locked>>>;

impl Qcow2Disk {
    /// Opens the image in `file`, which is at `path`. `backing`: may it name other files?
    pub(super) fn open(
        file: Locked,
        path: &Path,
        is_read_only: bool,
        backing: bool,
    ) -> Result<Self, DiskError> {
        let broken = |source| DiskError::Qcow2 { path: path.to_owned(), source };
        check_extensions(&file).map_err(broken)?;
        let options = StorageOpenOptions::new().filename(path).write(!is_read_only);
        let storage = Storage::open(options).map_err(broken)?;
        let opened = guarded(|| Qcow2::<Storage>::open_image(storage, !is_read_only));
        let mut image = opened.map_err(broken)?;
        if image.requires_external_data_file() {
            return Err(DiskError::DataFile(path.to_owned()));
        }
        if let Some(name) = image.implicit_backing_file().filter(|_| !backing) {
            return Err(DiskError::Backing { path: path.to_owned(), backing: name.into() });
        }
        let backing_locks = Locks::default();
        let gate = Gate { left: MAX_CHAIN, locks: backing_locks.clone() };
        guarded(|| image.open_implicit_dependencies_gated(gate)).map_err(broken)?;
        Ok(Self { image: FormatAccess::new(image), is_read_only, locks: (file, backing_locks) })
    }
}

impl BlockDev for Qcow2Disk {
    fn sectors(&self) -> u64 {
        self.image.size().div_ceil(SECTOR as u64)
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let at = range(self.sectors(), lba, buf.len())?;
        guarded(|| self.image.read(buf, at))
    }

    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        let at = range(self.sectors(), lba, buf.len())?;
        if self.is_read_only {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        // The size need not be a whole number of sectors.
        let inside = (self.image.size() - at).min(buf.len() as u64) as usize;
        guarded(|| self.image.write(&buf[..inside], at))
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_read_only {
            return Ok(());
        }
        guarded(|| {
            self.image.flush()?;
            self.image.sync()
        })
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    fn stamp(&mut self) -> io::Result<Option<String>> {
        self.flush()?;
        stamp(&self.locks.0).map(Some)
    }
}

/// Calls the library; a panic is an error. Tests want to see it.
fn guarded<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if cfg!(test) {
        return call();
    }
    // What a panic leaves half done is inside the library's image, which is damaged anyway.
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(io::Error::other("the image is damaged")))
}

/// Refuses header extensions of a length the library does not expect: feature names come by 48 bytes each.
fn check_extensions(file: &File) -> io::Result<()> {
    const FEATURE_NAMES: u32 = 0x6803_f857;
    let mut head = [0; 4096];
    read_padded(file, 0, &mut head)?;
    let word = |at: usize| {
        let bytes = head.get(at..at.checked_add(4)?)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let mut at = if word(4) == Some(2) { 72 } else { word(100).unwrap_or(0) as usize };
    while let (Some(kind), Some(len)) = (word(at), word(at.saturating_add(4))) {
        if kind == 0 {
            return Ok(());
        }
        if kind == FEATURE_NAMES && !len.is_multiple_of(48) {
            return Err(io::Error::other("the table of feature names has an odd length"));
        }
        at = at.saturating_add(8).saturating_add((len as usize).next_multiple_of(8));
    }
    // They go on behind what was looked at, or end with the header.
    Ok(())
}

/// Opens what images name as their backing files.
struct Gate {
    /// Images the chain may still have.
    left: usize,
    locks: Locks,
}

impl ImplicitOpenGate<Storage> for Gate {
    fn open_format<F: FormatDriverBuilder<Storage>>(
        &mut self,
        builder: F,
    ) -> io::Result<FormatAccess<Storage>> {
        let next = Self { left: self.left, locks: self.locks.clone() };
        let opened = builder.write(false).open(next)?;
        Ok(FormatAccess::new(opened))
    }

    fn open_storage(&mut self, options: StorageOpenOptions) -> io::Result<Storage> {
        let left = self.left.checked_sub(1);
        self.left =
            left.ok_or_else(|| io::Error::other("the chain of backing files is too long"))?;
        let path: PathBuf = options.get_filename().map(Path::to_owned).unwrap_or_default();
        let is_file = std::fs::metadata(&path)?.is_file();
        if !is_file {
            return Err(io::Error::other("not a regular file"));
        }
        let file = File::open(&path)?;
        let Some(file) = lock::take(file, Use::Read)? else {
            return Err(io::Error::other("in use by another process"));
        };
        self.locks.lock().map_err(|_| io::ErrorKind::Other)?.push(file);
        Storage::open(options.write(false))
    }
}
