//! Disks behind the IDE drives: raw image files, and an overlay that keeps writes in memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use devices::block::{BlockDev, CLUSTER_BYTES, Clusters, SECTOR};
use rustix::fs::FlockOperation;

/// Why an image could not be used. The message names the file.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be opened.
    #[error("cannot open disk image {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// It is a directory or the like.
    #[error("disk image {0} is not a file or block device")]
    Kind(PathBuf),
    /// It holds nothing.
    #[error("disk image {0} is empty")]
    Empty(PathBuf),
    /// Another process has it.
    #[error("disk image {0} is in use by another process")]
    Locked(PathBuf),
}

/// A raw image file: byte `512 * n` of the file is the start of sector `n`. A last part of a
/// sector reads as padded with zeros.
#[derive(Debug)]
pub struct RawDisk {
    file: File,
    sectors: u64,
    read_only: bool,
}

impl RawDisk {
    /// Opens an image and locks it: one writer, or any number of readers.
    ///
    /// # Errors
    /// It cannot be opened, is no file, is empty, or is in use.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, DiskError> {
        let open_error = |source| DiskError::Open { path: path.to_owned(), source };
        let file =
            OpenOptions::new().read(true).write(!read_only).open(path).map_err(open_error)?;
        let kind = file.metadata().map_err(open_error)?.file_type();
        if kind.is_dir() || kind.is_symlink() {
            return Err(DiskError::Kind(path.to_owned()));
        }
        // Seeking also tells the size of block devices; pipes and terminals refuse it.
        let end = io::Seek::seek(&mut &file, io::SeekFrom::End(0));
        let bytes = end.map_err(|_| DiskError::Kind(path.to_owned()))?;
        if bytes == 0 {
            return Err(DiskError::Empty(path.to_owned()));
        }
        let lock = match read_only {
            true => FlockOperation::NonBlockingLockShared,
            false => FlockOperation::NonBlockingLockExclusive,
        };
        if rustix::fs::flock(&file, lock) == Err(rustix::io::Errno::WOULDBLOCK) {
            return Err(DiskError::Locked(path.to_owned()));
        }
        Ok(Self { file, sectors: bytes.div_ceil(SECTOR as u64), read_only })
    }
}

/// The byte offset of a transfer, if it lies within the disk.
fn offset(sectors: u64, lba: u64, len: usize) -> io::Result<u64> {
    let count = (len / SECTOR) as u64;
    let end = lba.checked_add(count).filter(|&end| end <= sectors && len.is_multiple_of(SECTOR));
    match end.and(lba.checked_mul(SECTOR as u64)) {
        Some(at) => Ok(at),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

impl BlockDev for RawDisk {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let at = offset(self.sectors, lba, buf.len())?;
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], at + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buf[done..].fill(0);
        Ok(())
    }

    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        let at = offset(self.sectors, lba, buf.len())?;
        self.file.write_all_at(buf, at)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.read_only { Ok(()) } else { self.file.sync_data() }
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn stamp(&mut self) -> io::Result<Option<String>> {
        stamp(&self.file).map(Some)
    }
}

/// Length, time of the last change and a checksum of samples of an image file.
pub(crate) fn stamp(file: &File) -> io::Result<String> {
    let about = file.metadata()?;
    let bytes = io::Seek::seek(&mut &*file, io::SeekFrom::End(0))?;
    let mut samples = crc32fast::Hasher::new();
    for n in 0..SAMPLES {
        let mut sample = [0; SECTOR];
        let got = file.read_at(&mut sample, bytes / SAMPLES * n)?;
        samples.update(&sample[..got]);
    }
    let (s, ns) = (about.mtime(), about.mtime_nsec());
    Ok(format!("{bytes} bytes, changed {s}.{ns:09}, sample {:08x}", samples.finalize()))
}

/// Sectors read for a stamp.
const SAMPLES: u64 = 32;

/// Sectors per overlay cluster.
const CLUSTER: u64 = (CLUSTER_BYTES / SECTOR) as u64;
/// The most clusters kept: 4 GiB. Beyond it the guest's writes fail.
const MAX_CLUSTERS: usize = 1 << 20;

/// A disk whose writes stay in memory and are gone at the end: QEMU's `-snapshot`.
pub struct Overlay {
    base: Box<dyn BlockDev>,
    clusters: Clusters,
}

impl Overlay {
    /// An overlay over `base`, which is only read.
    pub fn new(base: Box<dyn BlockDev>) -> Self {
        Self { base, clusters: Clusters::new() }
    }

    /// The cluster's contents, from memory or from below.
    fn load(&mut self, cluster: u64) -> io::Result<Box<[u8; CLUSTER_BYTES]>> {
        if let Some(bytes) = self.clusters.get(&cluster) {
            return Ok(bytes.clone());
        }
        let mut bytes = Box::new([0; CLUSTER_BYTES]);
        let first = cluster * CLUSTER;
        let n = self.base.sectors().saturating_sub(first).min(CLUSTER) as usize;
        self.base.read(first, &mut bytes[..n * SECTOR])?;
        Ok(bytes)
    }
}

impl BlockDev for Overlay {
    fn sectors(&self) -> u64 {
        self.base.sectors()
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        offset(self.sectors(), lba, buf.len())?;
        self.base.read(lba, buf)?;
        let end = lba + (buf.len() / SECTOR) as u64;
        for (cluster, bytes) in self.clusters.range(lba / CLUSTER..end.div_ceil(CLUSTER)) {
            let first = cluster * CLUSTER;
            for (i, sector) in bytes.as_chunks::<SECTOR>().0.iter().enumerate() {
                let at = first + i as u64;
                if (lba..end).contains(&at) {
                    let to = (at - lba) as usize * SECTOR;
                    buf[to..to + SECTOR].copy_from_slice(sector);
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        offset(self.sectors(), lba, buf.len())?;
        for (i, sector) in buf.as_chunks::<SECTOR>().0.iter().enumerate() {
            let at = lba + i as u64;
            let cluster = at / CLUSTER;
            if !self.clusters.contains_key(&cluster) {
                if self.clusters.len() >= MAX_CLUSTERS {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let bytes = self.load(cluster)?;
                self.clusters.insert(cluster, bytes);
            }
            if let Some(bytes) = self.clusters.get_mut(&cluster) {
                let to = (at % CLUSTER) as usize * SECTOR;
                bytes[to..to + SECTOR].copy_from_slice(sector);
            }
        }
        Ok(())
    }

    /// Nothing outlives the run, so there is nothing to make durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn is_volatile(&self) -> bool {
        true
    }

    fn each_cluster(
        &self,
        each: &mut dyn FnMut(u64, &[u8; CLUSTER_BYTES]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.clusters.iter().try_for_each(|(&n, bytes)| each(n, bytes))
    }

    fn set_clusters(&mut self, clusters: Clusters) -> bool {
        let fits = clusters.len() <= MAX_CLUSTERS;
        if fits {
            self.clusters = clusters;
        }
        fits
    }

    fn stamp(&mut self) -> io::Result<Option<String>> {
        self.base.stamp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn raw_reads_writes_and_pads() {
        let file = image(&[7; 3 * SECTOR + 10]);
        let mut disk = RawDisk::open(file.path(), false).unwrap();
        assert_eq!(disk.sectors(), 4);
        let mut buf = [1; 2 * SECTOR];
        disk.read(2, &mut buf).unwrap();
        assert_eq!((buf[SECTOR + 9], buf[SECTOR + 10]), (7, 0));
        disk.write(1, &[9; SECTOR]).unwrap();
        disk.flush().unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap()[SECTOR], 9);
        assert!(disk.read(3, &mut buf).is_err());
        assert!(disk.write(u64::MAX, &[0; SECTOR]).is_err());
    }

    #[test]
    fn what_is_refused() {
        let missing = RawDisk::open(Path::new("/nonexistent/disk.img"), true);
        assert!(matches!(missing, Err(DiskError::Open { .. })));
        let empty = image(&[]);
        assert!(matches!(RawDisk::open(empty.path(), true), Err(DiskError::Empty(_))));
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(RawDisk::open(folder.path(), true), Err(DiskError::Kind(_))));
        let file = image(&[0; SECTOR]);
        let _writer = RawDisk::open(file.path(), false).unwrap();
        assert!(matches!(RawDisk::open(file.path(), true), Err(DiskError::Locked(_))));
    }

    #[test]
    fn overlay_keeps_the_base_clean() {
        let file = image(&[3; 20 * SECTOR]);
        let base = RawDisk::open(file.path(), true).unwrap();
        let mut disk = Overlay::new(Box::new(base));
        disk.write(6, &[4; 4 * SECTOR]).unwrap();
        disk.write(19, &[5; SECTOR]).unwrap();
        let mut buf = [0; 20 * SECTOR];
        disk.read(0, &mut buf).unwrap();
        let seen: Vec<u8> = buf.iter().step_by(SECTOR).copied().collect();
        assert_eq!(seen, [3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 3, 3, 3, 3, 3, 3, 3, 3, 3, 5]);
        let mut one = [0; SECTOR];
        disk.read(9, &mut one).unwrap();
        assert_eq!(one[0], 4);
        assert!(disk.write(20, &[0; SECTOR]).is_err());
        assert_eq!(std::fs::read(file.path()).unwrap(), vec![3; 20 * SECTOR]);
    }
}
