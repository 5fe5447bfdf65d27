//! Block devices behind disk controllers.

use std::collections::BTreeMap;
use std::io;

/// Bytes per sector.
pub const SECTOR: usize = 512;

/// Bytes per cluster of contents kept in memory.
pub const CLUSTER_BYTES: usize = 4096;

/// Contents of a disk that exist only in memory: clusters by number.
pub type Clusters = BTreeMap<u64, Box<[u8; CLUSTER_BYTES]>>;

/// A disk of 512-byte sectors. Whole sectors only; an error becomes the guest's I/O error.
pub trait BlockDev: Send {
    /// Sectors there are.
    fn sectors(&self) -> u64;
    /// Reads whole sectors from `lba` on.
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes whole sectors from `lba` on.
    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()>;
    /// Makes everything written durable.
    fn flush(&mut self) -> io::Result<()>;
    /// The contents of these sectors are no longer wanted. It is a hint: they may be given back to
    /// the host and read as zeros, or stay as they are.
    fn discard(&mut self, lba: u64, count: u64) -> io::Result<()> {
        let _ = (lba, count);
        Ok(())
    }
    /// Must writes be refused?
    fn is_read_only(&self) -> bool {
        false
    }

    /// Do the guest's writes stay in memory?
    fn is_volatile(&self) -> bool {
        false
    }

    /// For snapshots: shows `each` the contents that exist only in memory, in order of their
    /// numbers.
    fn each_cluster(
        &self,
        each: &mut dyn FnMut(u64, &[u8; CLUSTER_BYTES]) -> io::Result<()>,
    ) -> io::Result<()> {
        let _ = each;
        Ok(())
    }

    /// Takes such contents in place of those it has. False if it keeps none, or not as many.
    fn set_clusters(&mut self, clusters: Clusters) -> bool {
        clusters.is_empty()
    }

    /// For snapshots: a text that changes whenever contents outside memory do; `None` if there are
    /// none. What was written before counts as written.
    fn stamp(&mut self) -> io::Result<Option<String>> {
        Ok(None)
    }
}

/// A disk in memory: for tests, demos and embedding.
#[derive(Debug, Clone, Default)]
pub struct MemDisk {
    bytes: Vec<u8>,
}

impl MemDisk {
    /// A disk with these contents, padded with zeros to whole sectors.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        Self { bytes }
    }

    /// The contents.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn range(&self, lba: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
        let start = lba.checked_mul(SECTOR as u64).and_then(|at| usize::try_from(at).ok());
        start
            .and_then(|start| Some(start..start.checked_add(len)?))
            .filter(|range| range.end <= self.bytes.len())
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

impl BlockDev for MemDisk {
    fn sectors(&self) -> u64 {
        (self.bytes.len() / SECTOR) as u64
    }
    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        let range = self.range(lba, buf.len())?;
        buf.copy_from_slice(&self.bytes[range]);
        Ok(())
    }
    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        let range = self.range(lba, buf.len())?;
        self.bytes[range].copy_from_slice(buf);
        Ok(())
    }
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
        for (n, bytes) in self.bytes.chunks(CLUSTER_BYTES).enumerate() {
            let mut cluster = [0; CLUSTER_BYTES];
            cluster[..bytes.len()].copy_from_slice(bytes);
            each(n as u64, &cluster)?;
        }
        Ok(())
    }

    fn set_clusters(&mut self, clusters: Clusters) -> bool {
        for (n, bytes) in self.bytes.chunks_mut(CLUSTER_BYTES).enumerate() {
            match clusters.get(&(n as u64)) {
                Some(cluster) => bytes.copy_from_slice(&cluster[..bytes.len()]),
                None => bytes.fill(0),
            }
        }
        true
    }
}
