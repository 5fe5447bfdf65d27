//! Raw image files and host block devices: byte `512 * n` is the start of sector `n`.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use devices::block::{BlockDev, SECTOR};
use rustix::fs::FallocateFlags;

use super::lock::Locked;
use super::range;

/// An open raw image. A last part of a sector reads as padded with zeros.
#[derive(Debug)]
pub(super) struct RawDisk {
    file: Locked,
    sectors: u64,
    is_read_only: bool,
}

impl RawDisk {
    /// The image in `file`, which has `bytes` bytes.
    pub(super) fn new(file: Locked, bytes: u64, is_read_only: bool) -> Self {
        Self { file, sectors: bytes.div_ceil(SECTOR as u64), is_read_only }
    }
}

impl BlockDev for RawDisk {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let at = range(self.sectors, lba, buf.len())?;
        read_padded(&self.file, at, buf)
    }

    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        let at = range(self.sectors, lba, buf.len())?;
        self.file.write_all_at(buf, at)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_read_only { Ok(()) } else { self.file.sync_data() }
    }

    fn discard(&mut self, lba: u64, count: u64) -> io::Result<()> {
        let end = lba.checked_add(count).filter(|&end| end <= self.sectors);
        let (Some(_), false) = (end, self.is_read_only || count == 0) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let sector = SECTOR as u64;
        rustix::fs::fallocate(&*self.file, flags, lba * sector, count * sector).map_err(Into::into)
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    fn stamp(&mut self) -> io::Result<Option<String>> {
        stamp(&self.file).map(Some)
    }
}

/// Sectors read for a stamp.
const SAMPLES: u64 = 32;

/// Length, time of the last change and a checksum of samples of an image file.
pub(super) fn stamp(file: &File) -> io::Result<String> {
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

/// Fills `buf` from a file; what lies behind its end is zero.
pub(super) fn read_padded(file: &File, at: u64, buf: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], at + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buf[done..].fill(0);
    Ok(())
}
