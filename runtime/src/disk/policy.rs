//! What stands between a drive and its image: when writes become durable, whom host errors are told, and that a disk
//! whose format was guessed stays in that format.

use std::io;

use devices::block::{BlockDev, CLUSTER_BYTES, Clusters, SECTOR};

use super::Cache;
use super::probe::{HEAD, Looks, probe};
use super::{Format, config::DriveConfig};

/// An image under the rules of its drive.
pub(super) struct Ruled {
    image: Box<dyn BlockDev>,
    name: String,
    cache: Cache,
    /// The format was guessed to be raw, so that the guest must not make it look like another one.
    stays_raw: bool,
    /// The guest's hints of what it no longer wants are passed on.
    discards: bool,
    has_reported: bool,
}

impl Ruled {
    pub(super) fn new(image: Box<dyn BlockDev>, config: &DriveConfig, stays_raw: bool) -> Self {
        let cache = config.cache;
        let (name, discards) = (config.name(), config.discard);
        Self { image, name, cache, stays_raw, discards, has_reported: false }
    }

    /// The guest is told by its device, the user by one line.
    fn report<T>(&mut self, what: &str, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            if self.has_reported {
                log::debug!("disk {} {what} failed: {error}", self.name);
            } else {
                self.has_reported = true;
                log::error!(
                    "disk {}: {what} failed: {error}; the guest sees an I/O error, further ones are not shown",
                    self.name
                );
            }
        }
        result
    }

    fn check_write(&self, lba: u64, buf: &[u8]) -> io::Result<()> {
        if lba != 0 || !self.stays_raw {
            return Ok(());
        }
        match probe(&buf[..buf.len().min(HEAD)]) {
            Looks::Like(Format::Raw) => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "sector 0 would look like another image format (format=raw allows it)",
            )),
        }
    }
}

impl BlockDev for Ruled {
    fn sectors(&self) -> u64 {
        self.image.sectors()
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let done = self.image.read(lba, buf);
        self.report("read", done)
    }

    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        let done = self.check_write(lba, buf).and_then(|()| self.image.write(lba, buf));
        self.report("write", done)?;
        if self.cache == Cache::Writethrough { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.cache == Cache::Unsafe {
            return Ok(());
        }
        let done = self.image.flush();
        self.report("flush", done)
    }

    fn discard(&mut self, lba: u64, count: u64) -> io::Result<()> {
        // A hint that cannot be followed is no failure: file systems without holes refuse it.
        if self.discards
            && let Err(error) = self.image.discard(lba, count)
        {
            log::debug!("disk {}: discard failed: {error}", self.name);
        }
        Ok(())
    }

    fn is_read_only(&self) -> bool {
        self.image.is_read_only()
    }

    fn is_volatile(&self) -> bool {
        self.image.is_volatile()
    }

    fn each_cluster(
        &self,
        each: &mut dyn FnMut(u64, &[u8; CLUSTER_BYTES]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.image.each_cluster(each)
    }

    fn set_clusters(&mut self, clusters: Clusters) -> bool {
        self.image.set_clusters(clusters)
    }

    fn stamp(&mut self) -> io::Result<Option<String>> {
        self.image.stamp()
    }
}

const _: () = assert!(HEAD == SECTOR);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    /// Counts flushes; sector 9 is bad, writes find no room.
    struct Fragile(Arc<AtomicU32>);

    impl BlockDev for Fragile {
        fn sectors(&self) -> u64 {
            10
        }
        fn read(&mut self, lba: u64, _: &mut [u8]) -> io::Result<()> {
            if lba == 9 { Err(io::Error::other("bad sector")) } else { Ok(()) }
        }
        fn write(&mut self, lba: u64, _: &[u8]) -> io::Result<()> {
            if lba == 9 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
        fn flush(&mut self) -> io::Result<()> {
            self.0.fetch_add(1, Relaxed);
            Ok(())
        }
    }

    #[test]
    fn cache_modes_and_errors() {
        for (cache, after_write, after_flush) in
            [(Cache::Writeback, 0, 1), (Cache::Writethrough, 1, 2), (Cache::Unsafe, 0, 0)]
        {
            let flushes = Arc::new(AtomicU32::new(0));
            let config = DriveConfig { cache, ..DriveConfig::default() };
            let mut disk = Ruled::new(Box::new(Fragile(flushes.clone())), &config, false);
            disk.write(1, &[0; SECTOR]).unwrap();
            assert_eq!(flushes.load(Relaxed), after_write, "{cache:?}");
            disk.flush().unwrap();
            assert_eq!(flushes.load(Relaxed), after_flush, "{cache:?}");
            assert!(disk.read(9, &mut [0; SECTOR]).is_err());
            assert!(disk.write(9, &[0; SECTOR]).is_err());
            assert!(disk.has_reported);
            disk.read(1, &mut [0; SECTOR]).unwrap();
        }
    }
}
