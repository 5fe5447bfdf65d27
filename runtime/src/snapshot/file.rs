//! The file: its header, writing one and reading one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use devices::block::{BlockDev, CLUSTER_BYTES, Clusters};
use mem::GuestRam;
use mem::state::Field;
use rustix::fs::FlockOperation;

use super::{Contents, PAGE, SnapshotError, clusters, pages};

const MAGIC: [u8; 8] = *b"STELESNP";
const VERSION: u32 = 1;
/// Where the checksummed part of the header begins: behind magic, version and checksum.
const FIELDS: usize = 16;
/// Most bytes of contents: enough for the checksums of 1 TiB of memory.
const CONTENTS_MAX: u64 = 256 << 20;

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// When the snapshot was made, in seconds since 1970.
    pub made_at: u64,
    /// Virtual time of the machine in ns.
    pub virtual_ns: u64,
    /// Bytes of the machine's memory.
    pub memory: u64,
    /// Clusters of disks.
    pub clusters: u64,
    /// Bytes the file takes on the host.
    pub stored: u64,
    contents_len: u64,
    contents_crc: u32,
}

impl Info {
    fn to_page(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        for v in [self.made_at, self.virtual_ns, self.memory, self.clusters, self.contents_len] {
            v.put(&mut fields);
        }
        self.contents_crc.put(&mut fields);
        fields.resize(PAGE as usize - FIELDS, 0);
        let mut page = MAGIC.to_vec();
        VERSION.put(&mut page);
        crc32fast::hash(&fields).put(&mut page);
        page.extend(fields);
        page
    }

    fn from_page(path: &Path, page: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = |what| SnapshotError::Damaged { path: path.to_owned(), what };
        let header = "its header";
        let mut input =
            page.strip_prefix(&MAGIC).ok_or_else(|| SnapshotError::Other(path.into()))?;
        let (mut version, mut crc) = (0u32, 0u32);
        version.take(&mut input).map_err(|_| damaged(header))?;
        crc.take(&mut input).map_err(|_| damaged(header))?;
        if version != VERSION {
            let path = path.to_owned();
            return Err(SnapshotError::Version { path, found: version, expected: VERSION });
        }
        if page.len() != PAGE as usize || crc32fast::hash(input) != crc {
            return Err(damaged(header));
        }
        let mut it = Self::default();
        let Self { made_at, virtual_ns, memory, clusters, contents_len, .. } = &mut it;
        for field in [made_at, virtual_ns, memory, clusters, contents_len] {
            field.take(&mut input).map_err(|_| damaged(header))?;
        }
        it.contents_crc.take(&mut input).map_err(|_| damaged(header))?;
        Ok(it)
    }

    /// Where clusters, contents and file end; `None` if no file is so long.
    fn places(&self) -> Option<[u64; 3]> {
        let clusters = PAGE.checked_add(self.memory)?;
        let len = self.clusters.checked_mul(CLUSTER_BYTES as u64)?;
        let contents = clusters.checked_add(len)?;
        let end = contents.checked_add(self.contents_len)?;
        let is_whole = self.memory.is_multiple_of(PAGE) && self.contents_len <= CONTENTS_MAX;
        is_whole.then_some([clusters, contents, end])
    }
}

/// Reads the header of a snapshot.
///
/// # Errors
/// It cannot be read or is no snapshot.
pub(super) fn info(path: &Path) -> Result<Info, SnapshotError> {
    open(path).map(|(_, info)| info)
}

fn open(path: &Path) -> Result<(File, Info), SnapshotError> {
    let refused = |source| SnapshotError::File { doing: "open", path: path.to_owned(), source };
    // A pipe would make this wait for its other end.
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(refused)?;
    let about = file.metadata().map_err(refused)?;
    if !about.is_file() {
        return Err(SnapshotError::Other(path.to_owned()));
    }
    let mut page = vec![0; PAGE as usize];
    let got = file.read_at(&mut page, 0).map_err(refused)?;
    let mut info = Info::from_page(path, &page[..got])?;
    info.stored = about.blocks().saturating_mul(512);
    match info.places() {
        Some([.., end]) if end == about.len() => Ok((file, info)),
        _ => Err(SnapshotError::Damaged { path: path.to_owned(), what: "its length" }),
    }
}

/// A snapshot that is being written, under another name. Dropped before the end it leaves nothing.
pub struct Writer {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    info: Info,
}

impl Writer {
    /// Starts the file that will be `path`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(path: &Path) -> Result<Self, SnapshotError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(name);
        let make = || {
            // What a killed process of this number left is nobody's.
            let _ = std::fs::remove_file(&temporary);
            let file =
                OpenOptions::new().read(true).write(true).create_new(true).open(&temporary)?;
            Ok(file)
        };
        let refused = |source| SnapshotError::File { doing: "write", path: path.into(), source };
        let file = make().map_err(refused)?;
        let made_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Self { path: path.into(), temporary, file, info: Info { made_at, ..Info::default() } })
    }

    fn refused(&self) -> impl Fn(io::Error) -> SnapshotError + use<> {
        let path = self.path.clone();
        move |source| SnapshotError::File { doing: "write", path: path.clone(), source }
    }

    /// Writes the machine's memory. Comes first.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn memory(&mut self, ram: &GuestRam) -> Result<Vec<pages::Chunk>, SnapshotError> {
        self.info.memory = ram.len();
        let written = self.file.set_len(PAGE + ram.len());
        written.and_then(|()| pages::write(ram, &self.file, PAGE)).map_err(self.refused())
    }

    /// Writes what a disk holds only in memory. Comes next, for each disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn clusters(&mut self, disk: &dyn BlockDev) -> Result<Vec<(u64, u32)>, SnapshotError> {
        let at = PAGE + self.info.memory + self.info.clusters * CLUSTER_BYTES as u64;
        let list = clusters::write(disk, &self.file, at).map_err(self.refused())?;
        self.info.clusters += list.len() as u64;
        Ok(list)
    }

    /// Writes the rest, makes all durable and gives the file its name.
    ///
    /// # Errors
    /// The file cannot be written or renamed; what has the name is as before.
    pub fn finish(mut self, contents: &Contents, virtual_ns: u64) -> Result<Info, SnapshotError> {
        let bytes = contents.to_bytes();
        self.info.virtual_ns = virtual_ns;
        self.info.contents_len = bytes.len() as u64;
        self.info.contents_crc = crc32fast::hash(&bytes);
        let write = || {
            let [_, at, _] = self.info.places().ok_or(io::ErrorKind::FileTooLarge)?;
            self.file.write_all_at(&bytes, at)?;
            self.file.write_all_at(&self.info.to_page(), 0)?;
            self.file.sync_all()?;
            std::fs::rename(&self.temporary, &self.path)?;
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(self.refused())?;
        Ok(self.info.clone())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After `finish` there is no such file.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// A snapshot that is read: its contents are whole, memory and clusters are not looked at yet.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: File,
    info: Info,
    /// What it holds.
    pub contents: Contents,
}

impl Reader {
    /// Opens a file and reads its contents.
    ///
    /// # Errors
    /// It cannot be read, is no snapshot, or is damaged.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let damaged = |what| SnapshotError::Damaged { path: path.to_owned(), what };
        let (file, info) = open(path)?;
        let [_, at, end] = info.places().ok_or_else(|| damaged("its length"))?;
        // While memory is mapped, other processes of ours do not touch the file.
        let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
        let mut bytes = vec![0; (end - at) as usize];
        let read = file.read_exact_at(&mut bytes, at);
        read.map_err(|source| SnapshotError::File { doing: "read", path: path.into(), source })?;
        if crc32fast::hash(&bytes) != info.contents_crc {
            return Err(damaged("its contents"));
        }
        let contents = Contents::from_bytes(&bytes).map_err(|_| damaged("its contents"))?;
        if contents.cluster_count() != info.clusters {
            return Err(damaged("its disks"));
        }
        Ok(Self { path: path.to_owned(), file, info, contents })
    }

    /// What the header says.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks all of memory.
    ///
    /// # Errors
    /// It is damaged or cannot be read.
    pub fn check_memory(&self) -> Result<(), SnapshotError> {
        match pages::check(&self.file, PAGE, self.info.memory, &self.contents.chunks) {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(SnapshotError::Damaged { path: self.path.clone(), what: "its memory" })
            }
            Err(source) => Err(self.unreadable(source)),
        }
    }

    /// The clusters of all disks, in their order.
    ///
    /// # Errors
    /// They are damaged or cannot be read.
    pub fn clusters(&self) -> Result<Vec<Clusters>, SnapshotError> {
        let mut at = PAGE + self.info.memory;
        let mut all = Vec::new();
        for disk in &self.contents.disks {
            let read = clusters::read(&self.file, at, &disk.clusters);
            let damaged = || SnapshotError::Damaged { path: self.path.clone(), what: "its disks" };
            all.push(read.map_err(|source| self.unreadable(source))?.ok_or_else(damaged)?);
            at += disk.clusters.len() as u64 * CLUSTER_BYTES as u64;
        }
        Ok(all)
    }

    /// Maps memory in place of the machine's.
    ///
    /// # Errors
    /// The host refuses.
    pub fn show_memory(&self, ram: &GuestRam) -> Result<(), SnapshotError> {
        ram.show_image(&self.file, PAGE).map_err(|source| self.unreadable(source))
    }

    fn unreadable(&self, source: io::Error) -> SnapshotError {
        SnapshotError::File { doing: "read", path: self.path.clone(), source }
    }
}
