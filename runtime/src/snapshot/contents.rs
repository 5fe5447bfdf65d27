//! What a snapshot holds beside memory and clusters, and its bytes.

use mem::StateError;
use mem::state::{Field, ensure, take_version};

use super::pages::Chunk;

const VERSION: u8 = 1;
/// Most disks a file may name.
const DISKS_MAX: u32 = 64;

/// Everything but memory and the clusters themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The machine as lines `name=value`: another machine cannot take its state.
    pub machine: Vec<String>,
    /// The processor.
    pub cpu: Vec<u8>,
    /// Virtual time and all chips.
    pub board: Vec<u8>,
    /// Instruction-counted time.
    pub icount: Option<u64>,
    /// The disks.
    pub disks: Vec<DiskEntry>,
    /// What memory holds.
    pub chunks: Vec<Chunk>,
}

/// A disk as a snapshot knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskEntry {
    /// Its place.
    pub name: String,
    /// How many sectors it has.
    pub sectors: u64,
    /// The guest's writes stay in memory.
    pub is_volatile: bool,
    /// Tells whether contents outside the snapshot have changed.
    pub stamp: Option<String>,
    /// Number and checksum of each cluster saved.
    pub clusters: Vec<(u64, u32)>,
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    text.as_bytes().to_vec().put(out);
}

fn take_text(input: &mut &[u8]) -> Result<String, StateError> {
    let mut bytes = Vec::new();
    bytes.take(input)?;
    String::from_utf8(bytes).map_err(|_| StateError::Invalid("a text"))
}

/// Takes a number of records of at least `bytes` bytes each; there are no more than fit.
fn take_count(input: &mut &[u8], bytes: usize) -> Result<u32, StateError> {
    let mut count = 0u32;
    count.take(input)?;
    match (count as usize).checked_mul(bytes) {
        Some(len) if len <= input.len() => Ok(count),
        _ => Err(StateError::Truncated),
    }
}

impl Field for DiskEntry {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(&self.name, out);
        self.sectors.put(out);
        self.is_volatile.put(out);
        self.stamp.is_some().put(out);
        put_text(self.stamp.as_deref().unwrap_or_default(), out);
        (self.clusters.len() as u32).put(out);
        for (number, crc) in &self.clusters {
            number.put(out);
            crc.put(out);
        }
    }

    fn take(&mut self, input: &mut &[u8]) -> Result<(), StateError> {
        self.name = take_text(input)?;
        self.sectors.take(input)?;
        self.is_volatile.take(input)?;
        let mut has_stamp = false;
        has_stamp.take(input)?;
        let stamp = take_text(input)?;
        self.stamp = has_stamp.then_some(stamp);
        for _ in 0..take_count(input, 12)? {
            let (mut number, mut crc) = (0u64, 0u32);
            number.take(input)?;
            crc.take(input)?;
            self.clusters.push((number, crc));
        }
        let is_rising = self.clusters.is_sorted_by(|a, b| a.0 < b.0);
        ensure(is_rising, "the order of clusters")
    }
}

impl Contents {
    /// The bytes of the file's end.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        (self.machine.len() as u32).put(&mut out);
        self.machine.iter().for_each(|line| put_text(line, &mut out));
        self.cpu.put(&mut out);
        self.board.put(&mut out);
        self.icount.put(&mut out);
        (self.disks.len() as u32).put(&mut out);
        self.disks.iter().for_each(|disk| disk.put(&mut out));
        (self.chunks.len() as u32).put(&mut out);
        for chunk in &self.chunks {
            chunk.used.put(&mut out);
            chunk.crc.put(&mut out);
        }
        out
    }

    /// Reads such bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let input = &mut &*bytes;
        take_version(input, VERSION)?;
        let mut it = Self::default();
        for _ in 0..take_count(input, 4)? {
            it.machine.push(take_text(input)?);
        }
        it.cpu.take(input)?;
        it.board.take(input)?;
        Field::take(&mut it.icount, input)?;
        let disks = take_count(input, 1)?;
        ensure(disks <= DISKS_MAX, "the number of disks")?;
        for _ in 0..disks {
            let mut disk = DiskEntry::default();
            disk.take(input)?;
            it.disks.push(disk);
        }
        for _ in 0..take_count(input, 12)? {
            let mut chunk = Chunk::default();
            chunk.used.take(input)?;
            chunk.crc.take(input)?;
            it.chunks.push(chunk);
        }
        match input.len() {
            0 => Ok(it),
            n => Err(StateError::Trailing(n)),
        }
    }

    /// Clusters of all disks.
    pub(super) fn cluster_count(&self) -> u64 {
        self.disks.iter().map(|disk| disk.clusters.len() as u64).sum()
    }
}
