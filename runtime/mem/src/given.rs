//! Which parts of guest RAM the host has given memory for, and a thread that asks for the next ones where the guest goes on and on.
//!
//! The host gives memory when it is first used, by an exception for each page, or for many pages at one go when it is asked to, which takes as
//! long as some thousands of insns. Who fills memory upwards (decompressors, loaders) or downwards (Linux takes pages from the top) finds it
//! there already.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use memmap2::{Advice, MmapRaw};

/// Bytes for which the host is asked at a time.
pub(crate) const CHUNK: u64 = 64 << 10;
/// So many chunks in a row make a stream.
const STREAM: u64 = 3;
/// Chunks for which the host is asked ahead of a stream.
const AHEAD: u64 = 8;
const NONE: u64 = u64::MAX;

/// What the thread shares.
struct Shared {
    map: Arc<MmapRaw>,
    len: u64,
    /// Chunks for which the host has been asked, a bit each.
    asked: Box<[AtomicU64]>,
    /// Twice the chunk that was begun last in a stream, and one more if that goes downwards; [`NONE`] if there is none.
    next: AtomicU64,
    /// The map shows a file, which is not to be copied.
    is_image: AtomicBool,
    is_over: AtomicBool,
}

impl Shared {
    /// Has the host been asked for a chunk? True for those that are not there, too.
    #[inline]
    fn has(&self, chunk: u64) -> bool {
        let bits =
            self.asked.get((chunk / 64) as usize).map_or(u64::MAX, |bits| bits.load(Relaxed));
        bits >> (chunk % 64) & 1 != 0
    }

    fn ask(&self, chunk: u64) {
        let (from, bit) = (chunk * CHUNK, 1 << (chunk % 64));
        let len = CHUNK.min(self.len.saturating_sub(from));
        if len != 0 && !self.is_image.load(Relaxed) {
            // Refusal (an old kernel) costs only time.
            let _ = self.map.advise_range(Advice::PopulateWrite, from as usize, len as usize);
        }
        if let Some(bits) = self.asked.get((chunk / 64) as usize) {
            bits.fetch_or(bit, Relaxed);
        }
    }

    /// The thread.
    fn run(&self) {
        while !self.is_over.load(Relaxed) {
            let next = self.next.swap(NONE, Relaxed);
            if next == NONE {
                thread::park();
                continue;
            }
            let (last, goes_down) = (next >> 1, next & 1 != 0);
            let ahead = |by| if goes_down { last.checked_sub(by) } else { Some(last + by) };
            let ahead = (1..=AHEAD).filter_map(ahead);
            ahead.filter(|&chunk| !self.has(chunk)).for_each(|chunk| self.ask(chunk));
        }
    }
}

/// See the module's head.
pub(crate) struct Given {
    shared: Arc<Shared>,
    thread: OnceLock<Option<JoinHandle<()>>>,
}

impl Given {
    pub(crate) fn new(map: Arc<MmapRaw>, len: u64) -> Self {
        let shared = Shared {
            map,
            len,
            asked: (0..len.div_ceil(64 * CHUNK)).map(|_| AtomicU64::new(0)).collect(),
            next: AtomicU64::new(NONE),
            is_image: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), thread: OnceLock::new() }
    }

    /// The chunk at `off` is about to be used.
    #[inline]
    pub(crate) fn prepare(&self, off: u64) {
        let chunk = off / CHUNK;
        if !self.shared.has(chunk) {
            self.ask_for(chunk);
        }
    }
    #[cold]
    fn ask_for(&self, chunk: u64) {
        self.shared.ask(chunk);
        let all = |mut chunks: Range<u64>| chunks.all(|c| self.shared.has(c));
        let goes_up = chunk >= STREAM && all(chunk - STREAM..chunk);
        let goes_down = !goes_up && all(chunk + 1..chunk + 1 + STREAM);
        if (goes_up || goes_down) && !self.shared.is_image.load(Relaxed) {
            self.shared.next.store(chunk << 1 | u64::from(goes_down), Relaxed);
            if let Some(thread) = self.thread.get_or_init(|| self.start()) {
                thread.thread().unpark();
            }
        }
    }
    /// Starts the thread, where it would not run instead of the guest.
    fn start(&self) -> Option<JoinHandle<()>> {
        thread::available_parallelism().ok().filter(|n| n.get() > 1)?;
        let shared = self.shared.clone();
        thread::Builder::new().name("memory".to_owned()).spawn(move || shared.run()).ok()
    }

    /// From now on the map shows a file.
    pub(crate) fn is_image_now(&self) {
        self.shared.is_image.store(true, Relaxed);
    }
    /// Does the map show a file?
    pub(crate) fn is_image(&self) -> bool {
        self.shared.is_image.load(Relaxed)
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Relaxed);
        if let Some(thread) = self.thread.take().flatten() {
            thread.thread().unpark();
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use memmap2::MmapOptions;

    use super::*;

    #[test]
    fn streams_are_gone_ahead_of() {
        let len = 40 * CHUNK + 4096;
        let map = Arc::new(MmapRaw::from(MmapOptions::new().len(len as usize).map_anon().unwrap()));
        let given = Given::new(map, len);
        let has = |c| given.shared.has(c);
        for chunk in [0, 9, 2, 1, 20] {
            given.prepare(chunk * CHUNK + 5);
        }
        assert!(has(9) && !has(10) && !has(3) && given.thread.get().is_none());
        given.prepare(3 * CHUNK);
        assert!(given.thread.get().is_some());
        // Where the host has one processor there is no thread.
        while given.thread.get().is_some_and(Option::is_some) && !has(4 + AHEAD - 1) {
            thread::yield_now();
        }
        assert!(!has(4 + AHEAD) && has(64));
        for chunk in [33, 32, 31, 30] {
            given.prepare(chunk * CHUNK);
        }
        while given.thread.get().is_some_and(Option::is_some) && !has(30 - AHEAD) {
            thread::yield_now();
        }
        assert!(!has(29 - AHEAD) && has(20));
        given.prepare(40 * CHUNK);
        given.prepare(u64::MAX);
        given.is_image_now();
        assert!(given.is_image());
    }
}
