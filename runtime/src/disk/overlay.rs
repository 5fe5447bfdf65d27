//! `-snapshot`: a disk whose writes go to a temporary file that has no name and is gone at the end.
//!
//! The file is as the disk: what is written at an offset of the disk is at that offset of the (sparse) file. Memory
//! only knows which clusters are there, one bit each, so that a guest cannot fill the host's memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use devices::block::{BlockDev, CLUSTER_BYTES, Clusters, SECTOR};

use super::range;
use super::raw::read_padded;

/// Sectors per cluster.
const CLUSTER: u64 = (CLUSTER_BYTES / SECTOR) as u64;
/// Words of bits per entry of the map.
const WORDS: usize = 64;
/// Clusters per entry of the map: 16 MiB of disk.
const CHUNK: u64 = 64 * WORDS as u64;

/// A disk in front of one that is only read.
pub(super) struct Overlay {
    base: Box<dyn BlockDev>,
    /// Made at the first write.
    file: Option<File>,
    written: BTreeMap<u64, Box<[u64; WORDS]>>,
}

impl Overlay {
    /// An overlay over `base`.
    pub(super) fn new(base: Box<dyn BlockDev>) -> Self {
        Self { base, file: None, written: BTreeMap::new() }
    }

    fn is_written(&self, cluster: u64) -> bool {
        let bit = cluster % CHUNK;
        self.written
            .get(&(cluster / CHUNK))
            .is_some_and(|words| words[(bit / 64) as usize] >> (bit % 64) & 1 != 0)
    }

    fn note(&mut self, cluster: u64) {
        let bit = cluster % CHUNK;
        let words = self.written.entry(cluster / CHUNK).or_insert_with(|| Box::new([0; WORDS]));
        words[(bit / 64) as usize] |= 1 << (bit % 64);
    }

    fn file(&mut self) -> io::Result<&File> {
        if self.file.is_none() {
            self.file = Some(tempfile::tempfile_in(folder())?);
        }
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Brings a cluster of which only a part will be written up from below.
    fn fill(&mut self, cluster: u64) -> io::Result<()> {
        if self.is_written(cluster) {
            return Ok(());
        }
        let mut bytes = [0; CLUSTER_BYTES];
        let first = cluster * CLUSTER;
        let n = self.base.sectors().saturating_sub(first).min(CLUSTER) as usize;
        self.base.read(first, &mut bytes[..n * SECTOR])?;
        self.file()?.write_all_at(&bytes, first * SECTOR as u64)?;
        self.note(cluster);
        Ok(())
    }
}

/// Where temporary files go: `$TMPDIR`, else `/var/tmp`, which is on disk where `/tmp` may be memory.
fn folder() -> PathBuf {
    std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty()).map_or("/var/tmp".into(), Into::into)
}

impl BlockDev for Overlay {
    fn sectors(&self) -> u64 {
        self.base.sectors()
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        range(self.sectors(), lba, buf.len())?;
        let end = lba + (buf.len() / SECTOR) as u64;
        let mut at = lba;
        while at < end {
            // The longest run from one source.
            let here = self.is_written(at / CLUSTER);
            let mut stop = (at / CLUSTER + 1) * CLUSTER;
            while stop < end && self.is_written(stop / CLUSTER) == here {
                stop += CLUSTER;
            }
            let stop = stop.min(end);
            let part = &mut buf[(at - lba) as usize * SECTOR..(stop - lba) as usize * SECTOR];
            match &self.file {
                Some(file) if here => read_padded(file, at * SECTOR as u64, part)?,
                _ => self.base.read(at, part)?,
            }
            at = stop;
        }
        Ok(())
    }

    fn write(&mut self, lba: u64, buf: &[u8]) -> io::Result<()> {
        let at = range(self.sectors(), lba, buf.len())?;
        let end = lba + (buf.len() / SECTOR) as u64;
        if lba == end {
            return Ok(());
        }
        if !lba.is_multiple_of(CLUSTER) {
            self.fill(lba / CLUSTER)?;
        }
        if !end.is_multiple_of(CLUSTER) {
            self.fill(end / CLUSTER)?;
        }
        self.file()?.write_all_at(buf, at)?;
        (lba / CLUSTER..end.div_ceil(CLUSTER)).for_each(|cluster| self.note(cluster));
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
        let Some(file) = &self.file else { return Ok(()) };
        let mut bytes = [0; CLUSTER_BYTES];
        for (chunk, words) in &self.written {
            for bit in (0..CHUNK).filter(|bit| words[(bit / 64) as usize] >> (bit % 64) & 1 != 0) {
                let cluster = chunk * CHUNK + bit;
                read_padded(file, cluster * CLUSTER_BYTES as u64, &mut bytes)?;
                each(cluster, &bytes)?;
            }
        }
        Ok(())
    }

    fn set_clusters(&mut self, clusters: Clusters) -> bool {
        let end = self.sectors().div_ceil(CLUSTER);
        (self.file, self.written) = (None, BTreeMap::new());
        for (cluster, bytes) in clusters {
            let put = |file: &File| file.write_all_at(&bytes[..], cluster * CLUSTER_BYTES as u64);
            if cluster >= end || self.file().and_then(put).is_err() {
                return false;
            }
            self.note(cluster);
        }
        true
    }

    fn stamp(&mut self) -> io::Result<Option<String>> {
        self.base.stamp()
    }
}
