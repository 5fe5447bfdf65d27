//! Guest RAM: one anonymous mapping, reached by bounds-checked copies and never by a reference.
//!
//! The guest, generated code and devices all write these bytes at any moment, so a Rust slice of
//! them would be a lie to the compiler. Every access here is a relaxed atomic of its natural size
//! (an ordinary `mov` on the host), or the host's string instruction for many bytes, and every one is checked against the length. Generated code
//! reaches the same bytes through [`GuestRam::page_ptr`], a number to this crate.
//!
//! `GuestRam` also keeps the *code lines*: for each page one bit per 64-byte line that holds bytes
//! some translated block was made from. Writers other than generated code report here.
//!
//! One offset space covers everything that is memory: RAM first, then firmware, option ROMs and
//! video memory, as the board lays them out.

// UNSAFETY: raw reads and writes inside one mapping owned by `GuestRam`; the invariant is stated
// at `GuestRam::map` and kept by `GuestRam::at`, the only place that makes a pointer.
#![expect(unsafe_code, reason = "guest RAM is shared with generated code; see UNSAFETY above")]

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{MapFlags, ProtFlags};
use vm_memory::VolatileSlice;

use crate::given::Given;
use crate::{PAGE_SIZE, Size};

/// Bytes per line of the code bitmap: 64 lines make a page, one `u64` holds its bits.
pub const CODE_LINE: u64 = 64;

/// Bytes from which on the host's string instruction is faster than words.
const BULK: usize = 256;

/// The largest mapping accepted: 1 TiB, far beyond any machine built here.
const MAX_BYTES: u64 = 1 << 40;

/// Why guest RAM could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RamError {
    /// The size is zero, not a whole number of pages, or absurd.
    #[error("guest memory size {0} is not between one page and 1 TiB in whole pages")]
    BadSize(u64),
    /// The host refused the mapping.
    #[error("cannot map {bytes} bytes of guest memory")]
    Map {
        /// Size asked for.
        bytes: u64,
        /// The host's answer.
        #[source]
        source: std::io::Error,
    },
}

/// The guest's memory. Shared by CPU, board and DMA as `Arc<GuestRam>`.
pub struct GuestRam {
    /// Invariant: `map` covers exactly `len` readable and writable bytes for the whole life of
    /// `self`. It is private memory, so no access inside can fault; a snapshot shown
    /// instead is long enough when it is mapped.
    map: Arc<MmapRaw>,
    len: u64,
    /// The host's list of this process's pages, if it may be read.
    pages: Option<File>,
    code_lines: Box<[AtomicU64]>,
    /// What of it the host has been asked for, and whether it shows a snapshot's file instead.
    given: Given,
    /// Pages written over code since the last `take_dirty_code`, each once.
    dirty: Mutex<BTreeSet<u64>>,
    has_dirty: AtomicBool,
}

impl GuestRam {
    /// Makes `len` bytes of zeroed memory; `len` is a whole number of pages.
    pub fn new(len: u64) -> Result<Self, RamError> {
        if len == 0 || len > MAX_BYTES || !len.is_multiple_of(PAGE_SIZE) {
            return Err(RamError::BadSize(len));
        }
        let bytes = usize::try_from(len).map_err(|_| RamError::BadSize(len))?;
        let wrap = |source| RamError::Map { bytes: len, source };
        let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon().map_err(wrap)?;
        let map = Arc::new(MmapRaw::from(map));
        let pages = bytes / PAGE_SIZE as usize;
        let given = Given::new(map.clone(), len);
        Ok(Self {
            map,
            len,
            pages: File::open("/proc/self/pagemap").ok(),
            code_lines: (0..pages).map(|_| AtomicU64::new(0)).collect(),
            given,
            dirty: Mutex::new(BTreeSet::new()),
            has_dirty: AtomicBool::new(false),
        })
    }

    /// Bytes in all.
    #[inline]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never true: a memory of no bytes cannot be made.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The next bytes from `from` on that may be other than zero: whole pages, and not all there are.
    /// For going through a large memory that was hardly used.
    pub fn next_used(&self, from: u64) -> Option<Range<u64>> {
        if from >= self.len {
            return None;
        }
        match &self.pages {
            Some(pages) if !self.given.is_image() => self.next_present(pages, from),
            _ => Some(from..self.len),
        }
    }

    /// The next pages that the host has given memory, in its list: 64 bits each, of which the upper two say *present* and *swapped*
    /// (`Documentation/admin-guide/mm/pagemap.rst` of Linux).
    fn next_present(&self, pages: &File, from: u64) -> Option<Range<u64>> {
        let first = self.map.as_ptr().addr() as u64 / PAGE_SIZE;
        let (mut page, count) = (from / PAGE_SIZE, self.len / PAGE_SIZE);
        let (mut entries, mut start) = ([0; 8 * 512], None);
        while page < count {
            let n = (count - page).min(512);
            let bytes = &mut entries[..8 * n as usize];
            if pages.read_exact_at(bytes, 8 * (first + page)).is_err() {
                return Some(start.unwrap_or(page * PAGE_SIZE).max(from)..self.len);
            }
            for (at, entry) in (page..).zip(bytes.chunks_exact(8)) {
                match (entry[7] & 0xC0 != 0, start) {
                    (true, None) => start = Some(at * PAGE_SIZE),
                    (false, Some(start)) => return Some(start.max(from)..at * PAGE_SIZE),
                    _ => {}
                }
            }
            page += n;
        }
        start.map(|start| start.max(from)..self.len)
    }

    /// Shows `file`'s bytes from `offset` on in place of all memory, at the same host addresses. They are
    /// mapped copy-on-write: read when they are first used, and what the guest writes never
    /// reaches the file. Nobody may shorten the file meanwhile: the host ends a process that
    /// reads what is gone. Code lines stay: the caller drops translated code.
    ///
    /// # Errors
    /// The file is too short, or the host refuses; memory is then as before.
    pub fn show_image(&self, file: &File, offset: u64) -> std::io::Result<()> {
        let end = offset.checked_add(self.len);
        if !offset.is_multiple_of(PAGE_SIZE) || end.is_none_or(|end| metadata_len(file) < Some(end))
        {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let (read_write, private) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::FIXED);
        let at = self.map.as_mut_ptr().cast();
        // SAFETY: exactly the mapping that `self` owns is replaced, by one of equal extent and rights; all
        // accesses go by raw pointers and are atomic, so that nobody holds a reference.
        unsafe { rustix::mm::mmap(at, self.map.len(), read_write, private, file, offset)? };
        self.given.is_image_now();
        Ok(())
    }

    /// The page at `off` is about to be used by the guest: has the host give memory to it and its neighbours at one go. Otherwise each
    /// page would come by an exception of its own, and by two if it is read first: then the host shows zeros that all share, and
    /// takes them away by an interrupt of every processor that runs a thread of this process.
    #[inline]
    pub fn prepare(&self, off: u64) {
        self.given.prepare(off);
    }

    /// Reads `size` bytes, little endian; `None` if any of them lies outside.
    #[inline]
    pub fn read(&self, off: u64, size: Size) -> Option<u64> {
        let p = self.at(off, size.bytes())?;
        if !off.is_multiple_of(size.bytes()) {
            return Some(self.read_unaligned(off, size));
        }
        // SAFETY: `at` gave `size` bytes inside the mapping, aligned as just checked (the mapping
        // is page-aligned); all Rust accesses to them are atomic.
        Some(unsafe { load(p, size) })
    }

    /// Writes and records a write over code: for DMA and devices. False if outside.
    pub fn write(&self, off: u64, size: Size, value: u64) -> bool {
        let done = self.write_cpu(off, size, value);
        if done {
            self.note_write(off, size.bytes());
        }
        done
    }

    /// Writes without looking at code lines: for the CPU's slow path, which asks
    /// [`code_lines`](Self::code_lines) itself. False if outside.
    #[inline]
    pub fn write_cpu(&self, off: u64, size: Size, value: u64) -> bool {
        let Some(p) = self.at(off, size.bytes()) else { return false };
        if !off.is_multiple_of(size.bytes()) {
            self.write_unaligned(off, size, value);
            return true;
        }
        // SAFETY: as in `read`.
        unsafe { store(p, size, value) };
        true
    }

    /// Copies `buf.len()` bytes out; false (and `buf` untouched) if any lies outside.
    pub fn read_bytes(&self, off: u64, buf: &mut [u8]) -> bool {
        let Some(p) = self.at(off, buf.len() as u64) else { return false };
        if buf.len() >= BULK {
            // SAFETY: `at` gave as many bytes inside the mapping, which is no part of `buf`.
            unsafe { copy(p, buf.as_mut_ptr(), buf.len()) };
            return true;
        }
        let head = buf.len().min(off.wrapping_neg() as usize & 7);
        let (head, rest) = buf.split_at_mut(head);
        let mut p = copy_out(p, head);
        let (words, tail) = rest.as_chunks_mut::<8>();
        for word in words {
            // SAFETY: within the range checked above; the head made `p` 8-byte aligned.
            *word = unsafe { load(p, Size::B8) }.to_le_bytes();
            p = p.wrapping_add(8);
        }
        copy_out(p, tail);
        true
    }

    /// Copies `buf` in and records writes over code; false (and nothing written) if outside.
    pub fn write_bytes(&self, off: u64, buf: &[u8]) -> bool {
        let Some(p) = self.at(off, buf.len() as u64) else { return false };
        if buf.len() >= BULK {
            self.prepare_all(off, buf.len() as u64);
            // SAFETY: as in `read_bytes`.
            unsafe { copy(buf.as_ptr(), p, buf.len()) };
        } else {
            let head = buf.len().min(off.wrapping_neg() as usize & 7);
            let (head, rest) = buf.split_at(head);
            let mut p = copy_in(p, head);
            let (words, tail) = rest.as_chunks::<8>();
            for word in words {
                // SAFETY: as in `read_bytes`.
                unsafe { store(p, Size::B8, u64::from_le_bytes(*word)) };
                p = p.wrapping_add(8);
            }
            copy_in(p, tail);
        }
        self.note_write(off, buf.len() as u64);
        true
    }

    /// Fills `len` bytes with `value` and records writes over code; false if outside.
    pub fn fill(&self, off: u64, len: u64, value: u8) -> bool {
        self.repeat(off, len, u64::from(value) * 0x0101_0101_0101_0101)
    }

    /// Fills `len` bytes with the bytes of `value`, low byte first, again and again, and records writes over code; false if outside.
    pub fn repeat(&self, off: u64, len: u64, value: u64) -> bool {
        let Some(p) = self.at(off, len) else { return false };
        self.prepare_all(off, len);
        let words = len as usize / 8;
        // SAFETY: `at` gave as many bytes inside the mapping.
        unsafe { store_again(p, value, words) };
        copy_in(p.wrapping_add(8 * words), &value.to_le_bytes()[..len as usize % 8]);
        self.note_write(off, len);
        true
    }

    /// Copies `len` bytes from one place to another that do not overlap, and records writes over code; false (and nothing copied) if
    /// they do, or any byte lies outside.
    pub fn copy_apart(&self, from: u64, to: u64, len: u64) -> bool {
        let (Some(source), Some(p)) = (self.at(from, len), self.at(to, len)) else { return false };
        if from.abs_diff(to) < len {
            return false;
        }
        self.prepare_all(to, len);
        // SAFETY: `at` gave as many bytes inside the mapping, which do not overlap.
        unsafe { copy(source, p, len as usize) };
        self.note_write(to, len);
        true
    }

    /// All these bytes are about to be used.
    fn prepare_all(&self, off: u64, len: u64) {
        (off..off + len).step_by(PAGE_SIZE as usize).for_each(|at| self.prepare(at));
    }

    /// Host address of the page that holds `off`, for the CPU's TLB. Only a number to this crate:
    /// valid while `self` lives, and whoever follows it keeps to the page's 4096 bytes.
    #[inline]
    pub fn page_ptr(&self, off: u64) -> Option<*mut u8> {
        self.at(off & !(PAGE_SIZE - 1), PAGE_SIZE)
    }

    /// The offset of a host address in a page that [`page_ptr`](Self::page_ptr) gave.
    #[inline]
    pub fn offset_of(&self, host: u64) -> u64 {
        host.wrapping_sub(self.map.as_ptr().addr() as u64)
    }

    /// `n` bytes as the `vm-memory` crate reaches them; those that will be written are recorded as
    /// writes over code at once. `None` if any lies outside.
    pub(crate) fn volatile(&self, off: u64, n: u64, is_written: bool) -> Option<VolatileSlice<'_>> {
        let p = self.at(off, n)?;
        if is_written {
            self.note_write(off, n);
        }
        // SAFETY: `at` gave `n` bytes inside the mapping, which lives as long as `self`; all
        // accesses to it are atomic, or volatile ones by this type.
        Some(unsafe { VolatileSlice::new(p, n as usize) })
    }

    /// The pointer to `n` bytes at `off`, if all of them are inside.
    #[inline]
    fn at(&self, off: u64, n: u64) -> Option<*mut u8> {
        let end = off.checked_add(n)?;
        (end <= self.len).then(|| self.map.as_mut_ptr().wrapping_add(off as usize))
    }

    #[cold]
    fn read_unaligned(&self, off: u64, size: Size) -> u64 {
        let mut bytes = [0; 8];
        self.read_bytes(off, &mut bytes[..size.bytes() as usize]);
        u64::from_le_bytes(bytes)
    }

    #[cold]
    fn write_unaligned(&self, off: u64, size: Size, value: u64) {
        let bytes = value.to_le_bytes();
        if let Some(p) = self.at(off, size.bytes()) {
            copy_in(p, &bytes[..size.bytes() as usize]);
        }
    }
}

/// Code-page tracking.
impl GuestRam {
    /// The lines of the page at `off` that hold translated code, bit 0 = the first 64 bytes.
    #[inline]
    pub fn code_lines(&self, off: u64) -> u64 {
        self.lines_of(off).map_or(0, |lines| lines.load(Relaxed))
    }

    /// Host address of the words of [`code_lines`](Self::code_lines), one for each page, for generated code.
    pub fn code_lines_addr(&self) -> u64 {
        self.code_lines.as_ptr().expose_provenance() as u64
    }

    /// Adds `mask` to the page's code lines.
    pub fn set_code_lines(&self, off: u64, mask: u64) {
        if let Some(lines) = self.lines_of(off) {
            lines.fetch_or(mask, Relaxed);
        }
    }

    /// Forgets the page's code lines: its blocks are gone.
    pub fn clear_code_lines(&self, off: u64) {
        if let Some(lines) = self.lines_of(off) {
            lines.store(0, Relaxed);
        }
    }

    /// Has anything but generated code written over code since the last take?
    #[inline]
    pub fn has_dirty_code(&self) -> bool {
        self.has_dirty.load(Relaxed)
    }

    /// The page offsets so written, each once, and forgets them.
    pub fn take_dirty_code(&self) -> Vec<u64> {
        if !self.has_dirty_code() {
            return Vec::new();
        }
        let mut dirty = self.dirty.lock().unwrap_or_else(|e| e.into_inner());
        self.has_dirty.store(false, Relaxed);
        std::mem::take(&mut *dirty).into_iter().collect()
    }

    fn lines_of(&self, off: u64) -> Option<&AtomicU64> {
        self.code_lines.get(usize::try_from(off / PAGE_SIZE).ok()?)
    }

    /// Records the pages of `off..off + n` in which a code line is touched.
    fn note_write(&self, off: u64, n: u64) {
        if n == 0 {
            return;
        }
        let (first, last) = (off / PAGE_SIZE, (off + n - 1) / PAGE_SIZE);
        for page in first..=last {
            let base = page * PAGE_SIZE;
            let lines = self.code_lines(base);
            if lines == 0 {
                continue;
            }
            let from = off.max(base) - base;
            let to = (off + n).min(base + PAGE_SIZE) - base;
            if lines & line_mask(from, to - from) != 0 {
                self.push_dirty(base);
            }
        }
    }

    #[cold]
    fn push_dirty(&self, page: u64) {
        let mut dirty = self.dirty.lock().unwrap_or_else(|e| e.into_inner());
        dirty.insert(page);
        self.has_dirty.store(true, Relaxed);
    }
}

impl std::fmt::Debug for GuestRam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestRam").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The code-line bits of `n` bytes (at least one) from `page_offset`, clipped to the page.
pub const fn line_mask(page_offset: u64, n: u64) -> u64 {
    let first = (page_offset & (PAGE_SIZE - 1)) / CODE_LINE;
    let last = (page_offset & (PAGE_SIZE - 1)).saturating_add(n).saturating_sub(1) / CODE_LINE;
    let last = if last > 63 { 63 } else { last };
    (u64::MAX << first) & (u64::MAX >> (63 - last))
}

fn metadata_len(file: &File) -> Option<u64> {
    file.metadata().ok().map(|about| about.len())
}

/// Copies `n` bytes as the host's own string instruction does: like generated code, it is opaque to the compiler, whatever else
/// writes these bytes meanwhile.
///
/// # Safety
/// `n` bytes can be read at `from` and written at `to`, and the two do not overlap.
unsafe fn copy(from: *const u8, to: *mut u8, n: usize) {
    // SAFETY: the caller's contract; the direction flag is clear.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") n => _, inout("rsi") from => _, inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Stores `value` `n` times, as [`copy`] does.
///
/// # Safety
/// `8 * n` bytes can be written at `to`.
unsafe fn store_again(to: *mut u8, value: u64, n: usize) {
    // SAFETY: the caller's contract; the direction flag is clear.
    unsafe {
        std::arch::asm!(
            "rep stosq",
            inout("rcx") n => _, inout("rdi") to => _, in("rax") value,
            options(nostack, preserves_flags)
        );
    }
}

/// Copies bytes out one by one; returns the pointer behind them.
///
/// Callers pass a pointer from `GuestRam::at` to at least `buf.len()` bytes.
fn copy_out(mut p: *mut u8, buf: &mut [u8]) -> *mut u8 {
    for byte in buf {
        // SAFETY: the callers' contract above; a byte is always aligned.
        *byte = unsafe { load(p, Size::B1) } as u8;
        p = p.wrapping_add(1);
    }
    p
}

/// Copies bytes in one by one; returns the pointer behind them. Contract as for `copy_out`.
fn copy_in(mut p: *mut u8, buf: &[u8]) -> *mut u8 {
    for &byte in buf {
        // SAFETY: as in `copy_out`.
        unsafe { store(p, Size::B1, u64::from(byte)) };
        p = p.wrapping_add(1);
    }
    p
}

/// A relaxed atomic load.
///
/// # Safety
/// `p` points to `size` bytes of a live guest mapping, aligned to `size`.
#[inline]
unsafe fn load(p: *mut u8, size: Size) -> u64 {
    match size {
        // SAFETY: this function's contract, for each width.
        Size::B1 => u64::from(unsafe { AtomicU8::from_ptr(p) }.load(Relaxed)),
        // SAFETY: as above.
        Size::B2 => u64::from(unsafe { AtomicU16::from_ptr(p.cast()) }.load(Relaxed)),
        // SAFETY: as above.
        Size::B4 => u64::from(unsafe { AtomicU32::from_ptr(p.cast()) }.load(Relaxed)),
        // SAFETY: as above.
        Size::B8 => unsafe { AtomicU64::from_ptr(p.cast()) }.load(Relaxed),
    }
}

/// A relaxed atomic store of the low `size` bytes of `value`.
///
/// # Safety
/// As for [`load`].
#[inline]
unsafe fn store(p: *mut u8, size: Size, value: u64) {
    match size {
        // SAFETY: this function's contract, for each width.
        Size::B1 => unsafe { AtomicU8::from_ptr(p) }.store(value as u8, Relaxed),
        // SAFETY: as above.
        Size::B2 => unsafe { AtomicU16::from_ptr(p.cast()) }.store(value as u16, Relaxed),
        // SAFETY: as above.
        Size::B4 => unsafe { AtomicU32::from_ptr(p.cast()) }.store(value as u32, Relaxed),
        // SAFETY: as above.
        Size::B8 => unsafe { AtomicU64::from_ptr(p.cast()) }.store(value, Relaxed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given::CHUNK;

    fn memory_file(len: u64) -> File {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let file = File::from(rustix::fs::memfd_create("ram-test", flags).unwrap());
        file.set_len(len).unwrap();
        file
    }

    #[test]
    fn memory_is_given_in_chunks_and_stays_what_it_is() {
        let ram = GuestRam::new(CHUNK + 2 * PAGE_SIZE).unwrap();
        ram.write(PAGE_SIZE, Size::B1, 7);
        for at in [0, CHUNK + PAGE_SIZE, ram.len(), u64::MAX] {
            ram.prepare(at);
        }
        let read = |at| ram.read(at, Size::B1);
        assert_eq!([0, PAGE_SIZE, CHUNK, ram.len()].map(read), [Some(0), Some(7), Some(0), None]);
        // Where the host tells and knows how to give it.
        assert!(matches!(ram.next_used(0), Some(used) if used.end >= 2 * PAGE_SIZE));
    }

    #[test]
    fn an_image_is_shown_and_never_written() {
        let ram = GuestRam::new(4 * PAGE_SIZE).unwrap();
        assert_eq!(ram.next_used(0), None);
        ram.write(PAGE_SIZE + 8, Size::B8, 7);
        let place = ram.page_ptr(PAGE_SIZE).unwrap();
        assert_eq!(ram.next_used(0), Some(PAGE_SIZE..2 * PAGE_SIZE));
        assert_eq!(ram.next_used(2 * PAGE_SIZE), None);
        let file = memory_file(5 * PAGE_SIZE);
        let write = |value: u8| rustix::io::pwrite(&file, &[value; 8], 2 * PAGE_SIZE).unwrap();
        write(9);
        assert!(ram.show_image(&file, 2 * PAGE_SIZE).is_err());
        assert_eq!(ram.read(PAGE_SIZE + 8, Size::B8), Some(7));
        ram.show_image(&file, PAGE_SIZE).unwrap();
        assert_eq!(ram.page_ptr(PAGE_SIZE), Some(place));
        assert_eq!(ram.read(PAGE_SIZE, Size::B1), Some(9));
        assert_eq!(ram.read(PAGE_SIZE + 8, Size::B8), Some(0));
        assert_eq!(ram.next_used(PAGE_SIZE), Some(PAGE_SIZE..4 * PAGE_SIZE));
        ram.write(PAGE_SIZE, Size::B1, 3);
        let mut back = [0];
        rustix::io::pread(&file, &mut back, 2 * PAGE_SIZE).unwrap();
        assert_eq!(back, [9]);
    }

    #[test]
    fn scalar_accesses_are_little_endian_and_checked() {
        let ram = GuestRam::new(2 * PAGE_SIZE).unwrap();
        assert!(ram.write(0xffe, Size::B4, 0x1122_3344));
        assert_eq!(ram.read(0xffe, Size::B4), Some(0x1122_3344));
        assert_eq!(ram.read(0x1000, Size::B2), Some(0x1122));
        assert_eq!(ram.read(0xfff, Size::B1), Some(0x33));
        assert_eq!(ram.read(2 * PAGE_SIZE - 4, Size::B8), None);
        assert_eq!(ram.read(u64::MAX, Size::B2), None);
        assert!(!ram.write(2 * PAGE_SIZE, Size::B1, 0));
        assert!(ram.page_ptr(2 * PAGE_SIZE).is_none());
        assert!(ram.page_ptr(PAGE_SIZE + 5).is_some());
    }

    #[test]
    fn bulk_copies_of_every_alignment() {
        let ram = GuestRam::new(PAGE_SIZE).unwrap();
        let data: Vec<u8> = (1..=40).collect();
        for off in 0..9 {
            for n in 0..40 {
                ram.fill(0, 64, 0);
                assert!(ram.write_bytes(off, &data[..n]));
                let mut back = vec![0; n + 1];
                assert!(ram.read_bytes(off, &mut back));
                assert_eq!(back[..n], data[..n]);
                assert_eq!(back[n], 0);
            }
        }
        assert!(!ram.write_bytes(PAGE_SIZE - 3, &data[..4]));
    }

    #[test]
    fn patterns_and_copies_of_every_length() {
        let ram = GuestRam::new(2 * PAGE_SIZE).unwrap();
        let pattern = 0x8877_6655_4433_2211u64.to_le_bytes();
        for off in [0, 3, PAGE_SIZE - 7] {
            for n in 0..40 {
                ram.fill(off, 64, 0);
                assert!(ram.repeat(off, n, u64::from_le_bytes(pattern)));
                assert!(ram.copy_apart(off, off + 100, n + 1));
                let mut back = [1; 101 + 40];
                assert!(ram.read_bytes(off, &mut back));
                for at in 0..n as usize {
                    assert_eq!([back[at], back[at + 100]], [pattern[at % 8]; 2]);
                }
                assert_eq!([back[n as usize], back[n as usize + 100]], [0; 2]);
            }
        }
        assert!(!ram.repeat(2 * PAGE_SIZE - 3, 4, 0) && !ram.repeat(u64::MAX, 2, 0));
        assert!(!ram.copy_apart(0, 7, 8) && !ram.copy_apart(7, 0, 8) && ram.copy_apart(8, 0, 8));
        assert!(!ram.copy_apart(0, 2 * PAGE_SIZE - 3, 4) && !ram.copy_apart(u64::MAX, 0, 2));
        ram.set_code_lines(0, line_mask(0x40, 0x40));
        assert!(ram.repeat(0, 0x40, 1) && ram.copy_apart(0x40, 0, 0x40) && !ram.has_dirty_code());
        assert!(ram.repeat(0x3F, 2, 1) && ram.take_dirty_code() == [0]);
        assert!(ram.copy_apart(0x100, 0x7F, 1) && ram.take_dirty_code() == [0]);
    }

    #[test]
    fn writes_over_code_lines_are_recorded_once() {
        let ram = GuestRam::new(4 * PAGE_SIZE).unwrap();
        ram.set_code_lines(0x1000, line_mask(0x40, 0x40));
        assert!(ram.write(0x103f, Size::B1, 0));
        assert!(!ram.has_dirty_code());
        assert!(ram.write_cpu(0x1040, Size::B4, 0));
        assert!(!ram.has_dirty_code());
        assert!(ram.write(0x103e, Size::B4, 0));
        assert!(ram.write_bytes(0xf00, &[0; 0x300]));
        assert_eq!(ram.take_dirty_code(), vec![0x1000]);
        assert!(!ram.has_dirty_code());
        ram.clear_code_lines(0x1000);
        assert!(ram.write(0x1040, Size::B4, 0));
        assert!(ram.take_dirty_code().is_empty());
    }

    #[test]
    fn line_masks() {
        assert_eq!(line_mask(0, 1), 1);
        assert_eq!(line_mask(63, 2), 3);
        assert_eq!(line_mask(0, 4096), u64::MAX);
        assert_eq!(line_mask(4095, 100), 1 << 63);
    }

    #[test]
    fn bad_sizes_are_refused() {
        for len in [0, 1, 4095, 1 << 50] {
            assert!(matches!(GuestRam::new(len), Err(RamError::BadSize(_))));
        }
    }
}
