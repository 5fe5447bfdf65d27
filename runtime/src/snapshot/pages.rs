//! Memory in a snapshot: which pages are there, and their checksums.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread;

use mem::GuestRam;

use super::PAGE;

/// Bytes of memory under one checksum: 64 pages.
const CHUNK: u64 = 64 * PAGE;

/// 64 pages of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Bit i: page i holds something but zeros.
    pub used: u64,
    /// Checksum of these pages.
    pub crc: u32,
}

/// Chunks of `len` bytes of memory.
pub(super) fn count(len: u64) -> u64 {
    len.div_ceil(CHUNK)
}

fn is_zero(page: &[u8]) -> bool {
    let (words, rest) = page.as_chunks::<64>();
    words.iter().all(|word| word.iter().fold(0, |all, &byte| all | byte) == 0)
        && rest.iter().all(|&byte| byte == 0)
}

impl Chunk {
    /// Describes memory.
    fn of(bytes: &[u8]) -> Self {
        let mut used = 0;
        let mut hash = crc32fast::Hasher::new();
        for (i, page) in bytes.chunks(PAGE as usize).enumerate() {
            if !is_zero(page) {
                used |= 1 << i;
                hash.update(page);
            }
        }
        Self { used, crc: hash.finalize() }
    }
}

/// Writes memory to `file` from `offset` on, where the file has no bytes yet.
pub(super) fn write(ram: &GuestRam, file: &File, offset: u64) -> io::Result<Vec<Chunk>> {
    let empty = Chunk::of(&[]);
    let mut chunks = vec![empty; count(ram.len()) as usize];
    let mut buf = vec![0; CHUNK as usize];
    let mut at = 0;
    while let Some(range) = ram.next_used(at) {
        let first = range.start / CHUNK;
        let start = first * CHUNK;
        let len = (ram.len() - start).min(CHUNK);
        let bytes = &mut buf[..len as usize];
        ram.read_bytes(start, bytes);
        let chunk = Chunk::of(bytes);
        for (from, to) in runs(chunk.used) {
            let pages = (from * PAGE) as usize..((to * PAGE).min(len)) as usize;
            file.write_all_at(&bytes[pages], offset + start + from * PAGE)?;
        }
        chunks[first as usize] = chunk;
        at = start + len;
    }
    Ok(chunks)
}

/// The checksums of memory as it is.
pub(crate) fn describe(ram: &GuestRam) -> Vec<Chunk> {
    let mut chunks = vec![Chunk::of(&[]); count(ram.len()) as usize];
    let mut buf = vec![0; CHUNK as usize];
    let mut at = 0;
    while let Some(range) = ram.next_used(at) {
        let start = range.start / CHUNK * CHUNK;
        let len = (ram.len() - start).min(CHUNK);
        ram.read_bytes(start, &mut buf[..len as usize]);
        chunks[(start / CHUNK) as usize] = Chunk::of(&buf[..len as usize]);
        at = start + len;
    }
    chunks
}

/// The runs of ones in `bits`: first and one past the last.
fn runs(bits: u64) -> Vec<(u64, u64)> {
    let mut runs = Vec::new();
    let mut at = 0;
    while at < 64 && bits >> at != 0 {
        let from = at + u64::from((bits >> at).trailing_zeros());
        let to = from + u64::from((bits >> from).trailing_ones());
        runs.push((from, to));
        at = to;
    }
    runs
}

/// Does `file` hold at `offset` what the chunks say, `len` bytes in all? On all host CPUs.
pub(super) fn check(file: &File, offset: u64, len: u64, chunks: &[Chunk]) -> io::Result<bool> {
    if chunks.len() as u64 != count(len) {
        return Ok(false);
    }
    let threads = thread::available_parallelism().map_or(1, usize::from).min(8);
    let share = chunks.len().div_ceil(threads).max(1);
    let all = thread::scope(|scope| {
        let parts = chunks.chunks(share).enumerate();
        let started: Vec<_> = parts
            .map(|(i, part)| {
                let first = (i * share) as u64 * CHUNK;
                scope.spawn(move || check_part(file, offset, first, len, part))
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        };
        started.into_iter().map(join).collect::<io::Result<Vec<bool>>>()
    })?;
    Ok(all.into_iter().all(|good| good))
}

/// Checks the chunks from byte `first` of memory on.
fn check_part(
    file: &File,
    offset: u64,
    first: u64,
    len: u64,
    chunks: &[Chunk],
) -> io::Result<bool> {
    let mut buf = vec![0; CHUNK as usize];
    // The file has no bytes before this one.
    let mut hole_until = 0;
    for (i, chunk) in chunks.iter().enumerate() {
        let start = first + i as u64 * CHUNK;
        let bytes = &mut buf[..(len - start).min(CHUNK) as usize];
        let (at, end) = (offset + start, offset + start + bytes.len() as u64);
        if chunk.used == 0 && at >= hole_until {
            hole_until = next_data(file, at);
        }
        if chunk.used == 0 && end <= hole_until {
            continue;
        }
        file.read_exact_at(bytes, at)?;
        if Chunk::of(bytes) != *chunk {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where the file has bytes again at or behind `at`.
fn next_data(file: &File, at: u64) -> u64 {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(data) => data,
        Err(rustix::io::Errno::NXIO) => u64::MAX,
        Err(_) => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_pages() {
        assert_eq!(runs(0), []);
        assert_eq!(runs(u64::MAX), [(0, 64)]);
        assert_eq!(runs(0b1011 | 1 << 63), [(0, 2), (3, 4), (63, 64)]);
    }

    #[test]
    fn memory_round_trip_with_a_short_end() {
        let ram = GuestRam::new(CHUNK + 3 * PAGE).unwrap();
        ram.write_bytes(5 * PAGE + 9, b"here");
        ram.write_bytes(CHUNK + 3 * PAGE - 1, b"x");
        let file = tempfile::tempfile().unwrap();
        file.set_len(PAGE + ram.len()).unwrap();
        let chunks = write(&ram, &file, PAGE).unwrap();
        assert_eq!((chunks[0].used, chunks[1].used), (1 << 5, 1 << 2));
        assert_eq!(describe(&ram), chunks);
        assert!(check(&file, PAGE, ram.len(), &chunks).unwrap());
        // A byte where there is none, and one that is another.
        file.write_all_at(b"!", PAGE + 40 * PAGE).unwrap();
        assert!(!check(&file, PAGE, ram.len(), &chunks).unwrap());
        file.write_all_at(&[0], PAGE + 40 * PAGE).unwrap();
        assert!(check(&file, PAGE, ram.len(), &chunks).unwrap());
        file.write_all_at(b"t", PAGE + 5 * PAGE + 9).unwrap();
        assert!(!check(&file, PAGE, ram.len(), &chunks).unwrap());
        assert!(!check(&file, PAGE, ram.len(), &chunks[..1]).unwrap());
    }
}
