//! The code cache: one memfd mapped twice, writable here and executable there (never both).
//!
// UNSAFETY: maps memory that is executed; the RX view is reached by address only.
#![expect(unsafe_code, reason = "maps the code cache")]

use std::sync::Arc;

use memmap2::{Advice, Mmap, MmapMut, MmapOptions};
use thiserror::Error;

/// Why the code cache could not be made.
#[derive(Debug, Error)]
pub enum CodeBufError {
    /// The host CPU lacks what generated code is made of.
    #[error("this CPU has no BMI2, which generated code needs; -accel interp works without")]
    Cpu,
    /// The kernel refused the handlers for exceptions of guest instructions.
    #[error("cannot handle exceptions of guest instructions")]
    Signals(#[source] std::io::Error),
    /// The kernel refused memory or an executable mapping.
    #[error("cannot map the code cache of {size} bytes")]
    Map {
        /// Bytes asked for.
        size: usize,
        /// The kernel's reason.
        #[source]
        source: std::io::Error,
    },
}

/// Bytes whose pages are there from the start, and so many more at a time.
const PREFAULT: usize = 512 << 10;
const AHEAD: usize = 128 << 10;

/// Bump-allocated code memory with a writable and an executable view.
pub struct CodeBuf {
    rw: MmapMut,
    rx: Arc<Mmap>,
    used: usize,
    /// Where the pages end that are there.
    ready: usize,
}

impl CodeBuf {
    /// Maps `size` bytes.
    ///
    /// # Errors
    /// When memfd or the executable mapping is refused (hardened hosts).
    pub fn new(size: usize) -> Result<Self, CodeBufError> {
        let wrap = |source: std::io::Error| CodeBufError::Map { size, source };
        let fd = rustix::fs::memfd_create("stele-code", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|e| wrap(e.into()))?;
        rustix::fs::ftruncate(&fd, size as u64).map_err(|e| wrap(e.into()))?;
        let file = std::fs::File::from(fd);
        // SAFETY: the memfd is private to this process and never truncated; the RX view is only executed
        // or read through raw addresses, the RW view is only written through `&mut self`.
        let rw = unsafe { MmapOptions::new().len(size).map_mut(&file) }.map_err(wrap)?;
        // SAFETY: as above.
        let rx = unsafe { MmapOptions::new().len(size).map_exec(&file) }.map_err(wrap)?;
        // Large pages where the host gives them to shared memory: code is spread over megabytes.
        let _ = rw.advise(Advice::HugePage);
        let _ = rx.advise(Advice::HugePage);
        // The first blocks come in a burst: their pages at one go. Refusal (an old kernel) costs only time.
        let first = size.min(PREFAULT);
        let _ = rw.advise_range(Advice::PopulateWrite, 0, first);
        let _ = rx.advise_range(Advice::PopulateRead, 0, first);
        Ok(Self { rw, rx: Arc::new(rx), used: 0, ready: first })
    }

    /// Bytes handed out so far.
    pub fn used(&self) -> usize {
        self.used
    }
    /// Capacity in bytes.
    pub fn capacity(&self) -> usize {
        self.rw.len()
    }
    /// The writable rest of the cache.
    pub(crate) fn free_space(&mut self) -> &mut [u8] {
        &mut self.rw[self.used..]
    }
    /// Takes `n` bytes off the free space.
    pub(crate) fn advance(&mut self, n: usize) {
        self.used = (self.used + n).min(self.rw.len());
        if self.used + AHEAD / 2 > self.ready {
            self.make_ready();
        }
    }
    /// Has the host give the next pages, in both views: one by one they cost several times as much.
    #[cold]
    fn make_ready(&mut self) {
        let len = AHEAD.min(self.rw.len().saturating_sub(self.ready));
        if len != 0 {
            let _ = self.rw.advise_range(Advice::PopulateWrite, self.ready, len);
            let _ = self.rx.advise_range(Advice::PopulateRead, self.ready, len);
        }
        // Once the cache is full there is nothing to be asked for any more.
        self.ready = if len == 0 { usize::MAX } else { self.ready + len };
    }
    /// Forgets everything behind `mark`.
    pub(crate) fn truncate(&mut self, mark: usize) {
        self.used = mark.min(self.used);
    }
    /// Executable address of offset `at`.
    pub fn address(&self, at: usize) -> u64 {
        self.rx.as_ptr() as u64 + at as u64
    }
    /// Offset of an executable address, if it lies in the cache.
    pub fn offset_of(&self, address: u64) -> Option<usize> {
        let at = address.wrapping_sub(self.rx.as_ptr() as u64) as usize;
        (at <= self.used).then_some(at)
    }
    /// Code bytes for logs.
    pub fn bytes(&self, at: usize, len: usize) -> &[u8] {
        self.rw.get(at..at + len).unwrap_or(&[])
    }
    /// Puts back the five bytes that were at offset `at`.
    pub(crate) fn restore(&mut self, at: usize, bytes: [u8; 5]) {
        if let Some(site) = self.rw.get_mut(at..at + 5) {
            site.copy_from_slice(&bytes);
        }
    }
    /// Overwrites the five bytes at offset `at`: `opcode` (call or jump) to offset `target`.
    pub(crate) fn patch(&mut self, at: usize, opcode: u8, target: usize) {
        let rel = (target as i64 - (at as i64 + 5)) as i32;
        if let Some(site) = self.rw.get_mut(at..at + 5) {
            site[0] = opcode;
            site[1..].copy_from_slice(&rel.to_le_bytes());
        }
    }
}
