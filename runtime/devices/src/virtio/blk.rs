//! The block device.
//!
//! Source: VIRTIO 1.2, 5.2 "Block Device". A request is carried out when it is seen; its status is
//! written when the disk has answered, a flush's when the data are durable.

use mem::Phys;

use super::{Chain, Kind, Nonsense, VirtioDevice};
use crate::StateError;
use crate::block::{BlockDev, SECTOR};
use crate::state::{Field, ensure};

// Features.
const F_SEG_MAX: u64 = 1 << 2;
const F_RO: u64 = 1 << 5;
const F_BLK_SIZE: u64 = 1 << 6;
const F_FLUSH: u64 = 1 << 9;
const F_CONFIG_WCE: u64 = 1 << 11;
const F_DISCARD: u64 = 1 << 13;
const F_WRITE_ZEROES: u64 = 1 << 14;

// Request types.
const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_GET_ID: u32 = 8;
const T_DISCARD: u32 = 11;
const T_WRITE_ZEROES: u32 = 13;

// Status.
const S_OK: u8 = 0;
const S_IOERR: u8 = 1;
const S_UNSUPP: u8 = 2;

/// Bytes of the answer to GET_ID.
const ID_BYTES: usize = 20;
/// Bytes moved at a time.
const STEP: usize = 64 << 10;
/// Most bytes of one request: larger ones fail.
const REQUEST_MAX: u64 = 64 << 20;
/// Entries of the queue.
const QUEUE_SIZE: u16 = 256;
/// Most sectors of one discard or write-zeroes segment, and most segments of a request.
const RANGE_MAX: u32 = (REQUEST_MAX / SECTOR as u64) as u32;
const SEGMENTS_MAX: u32 = 16;
/// Bytes of a segment; its one flag: the sectors may be given back.
const SEGMENT_BYTES: u64 = 16;
const SEGMENT_UNMAP: u32 = 1;
/// Place of the write-cache byte in the configuration.
const CONFIG_WCE: u16 = 32;

/// The device.
pub struct VirtioBlk {
    disk: Box<dyn BlockDev>,
    serial: String,
    /// The driver flushes when it wants durability; without, every write is made durable.
    write_back: bool,
    /// Features the driver chose.
    features: u64,
}

impl VirtioBlk {
    /// A device with `disk` behind it; the guest can read `serial`, of at most 20 bytes.
    pub fn new(disk: Box<dyn BlockDev>, serial: &str) -> Self {
        Self { disk, serial: serial.to_owned(), write_back: true, features: 0 }
    }

    /// The configuration's bytes.
    fn config(&self) -> [u8; 60] {
        let mut config = [0; 60];
        let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.disk.sectors().to_le_bytes());
        put(12, &(u32::from(QUEUE_SIZE) - 2).to_le_bytes());
        put(20, &(SECTOR as u32).to_le_bytes());
        put(usize::from(CONFIG_WCE), &[u8::from(self.write_back)]);
        put(34, &1u16.to_le_bytes());
        // Discard: sectors, segments, alignment; write-zeroes: sectors, segments.
        put(36, &RANGE_MAX.to_le_bytes());
        put(40, &SEGMENTS_MAX.to_le_bytes());
        put(44, &1u32.to_le_bytes());
        put(48, &RANGE_MAX.to_le_bytes());
        put(52, &SEGMENTS_MAX.to_le_bytes());
        config
    }

    /// Is it `len` bytes from `sector` on of this disk?
    fn fits(&self, sector: u64, len: u64) -> bool {
        let end = sector.checked_add(len / SECTOR as u64);
        len.is_multiple_of(SECTOR as u64)
            && len <= REQUEST_MAX
            && end.is_some_and(|end| end <= self.disk.sectors())
    }

    fn read(&mut self, sector: u64, chain: &mut Chain<'_>) -> u8 {
        let len = chain.writable();
        if !self.fits(sector, len) {
            return S_IOERR;
        }
        let mut buf = vec![0; STEP.min(len as usize)];
        let mut done = 0;
        while done < len {
            let part = &mut buf[..STEP.min((len - done) as usize)];
            if self.disk.read(sector + done / SECTOR as u64, part).is_err() || !chain.write(part) {
                return S_IOERR;
            }
            done += part.len() as u64;
        }
        S_OK
    }

    fn write(&mut self, sector: u64, chain: &mut Chain<'_>) -> u8 {
        let len = chain.readable();
        if self.disk.is_read_only() || !self.fits(sector, len) {
            return S_IOERR;
        }
        let mut buf = vec![0; STEP.min(len as usize)];
        let mut done = 0;
        while done < len {
            let part = &mut buf[..STEP.min((len - done) as usize)];
            if !chain.read(part) || self.disk.write(sector + done / SECTOR as u64, part).is_err() {
                return S_IOERR;
            }
            done += part.len() as u64;
        }
        self.finish_write()
    }

    /// Discard and write-zeroes: ranges of sectors that lose their contents.
    fn clear(&mut self, is_discard: bool, chain: &mut Chain<'_>) -> u8 {
        let len = chain.readable();
        let most = SEGMENT_BYTES * u64::from(SEGMENTS_MAX);
        if len == 0 || len > most || !len.is_multiple_of(SEGMENT_BYTES) {
            return S_UNSUPP;
        }
        if self.disk.is_read_only() {
            return S_IOERR;
        }
        for _ in 0..len / SEGMENT_BYTES {
            let mut segment = [0; SEGMENT_BYTES as usize];
            if !chain.read(&mut segment) {
                return S_IOERR;
            }
            let sector = segment.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
            let count = segment[8..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
            let flags = segment[12..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
            // Discarding gives sectors back by itself; the flag is reserved there.
            if flags & !SEGMENT_UNMAP != 0 || is_discard && flags != 0 {
                return S_UNSUPP;
            }
            let bytes = u64::from(count) * SECTOR as u64;
            let done = match (self.fits(sector, bytes), is_discard) {
                (false, _) => return S_IOERR,
                (true, true) => self.disk.discard(sector, count.into()),
                (true, false) => self.write_zeroes(sector, bytes),
            };
            if done.is_err() {
                return S_IOERR;
            }
        }
        self.finish_write()
    }

    fn write_zeroes(&mut self, sector: u64, len: u64) -> std::io::Result<()> {
        let zeroes = vec![0; STEP.min(len as usize)];
        let mut done = 0;
        while done < len {
            let part = &zeroes[..STEP.min((len - done) as usize)];
            self.disk.write(sector + done / SECTOR as u64, part)?;
            done += part.len() as u64;
        }
        Ok(())
    }

    /// After a write: a driver that cannot flush expects it to be durable.
    fn finish_write(&mut self) -> u8 {
        let is_cached = self.write_back && self.features & (F_FLUSH | F_CONFIG_WCE) != 0;
        if is_cached { S_OK } else { self.flush() }
    }

    fn flush(&mut self) -> u8 {
        if self.disk.flush().is_ok() { S_OK } else { S_IOERR }
    }

    fn identify(&self, chain: &mut Chain<'_>) -> u8 {
        let mut id = [0; ID_BYTES];
        let n = self.serial.len().min(ID_BYTES);
        id[..n].copy_from_slice(&self.serial.as_bytes()[..n]);
        if chain.write(&id) { S_OK } else { S_IOERR }
    }
}

impl VirtioDevice for VirtioBlk {
    fn kind(&self) -> Kind {
        Kind { id: 2, device: 0x1001, class: 0x01_0000, queues: &[QUEUE_SIZE] }
    }

    fn features(&self) -> u64 {
        let read_only = if self.disk.is_read_only() { F_RO } else { 0 };
        let ranges = F_DISCARD | F_WRITE_ZEROES;
        F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_CONFIG_WCE | ranges | read_only
    }

    fn set_features(&mut self, features: u64) {
        self.features = features;
    }

    fn config_read(&self, at: u16) -> u8 {
        self.config().get(usize::from(at)).copied().unwrap_or(0)
    }

    fn config_write(&mut self, at: u16, value: u8) {
        if at == CONFIG_WCE && self.features & F_CONFIG_WCE != 0 {
            self.write_back = value & 1 != 0;
        }
    }

    fn serve(&mut self, _queue: usize, chain: &mut Chain<'_>) -> Result<bool, Nonsense> {
        let mut header = [0; 16];
        let status_at: Phys = chain.take_status().ok_or(Nonsense)?;
        if !chain.read(&mut header) {
            return Err(Nonsense);
        }
        let kind = header.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
        let sector = header[8..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        let status = match kind {
            T_IN => self.read(sector, chain),
            T_OUT => self.write(sector, chain),
            T_FLUSH => self.flush(),
            T_GET_ID => self.identify(chain),
            T_DISCARD => self.clear(true, chain),
            T_WRITE_ZEROES => self.clear(false, chain),
            _ => S_UNSUPP,
        };
        chain.put_status(status_at, status);
        Ok(true)
    }

    fn disk(&mut self) -> Option<&mut dyn BlockDev> {
        Some(&mut *self.disk)
    }

    fn reset(&mut self) {
        self.write_back = true;
        self.features = 0;
    }

    fn save(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_back.put(&mut out);
        self.features.put(&mut out);
        out
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let input = &mut &*bytes;
        self.write_back.take(input)?;
        self.features.take(input)?;
        ensure(input.is_empty(), "a virtio disk")
    }
}
