//! Views of guest RAM for others than the CPU: a chip's own window, and bus-master access.

use std::sync::Arc;

use crate::{Dma, GuestRam, PAGE_SIZE, PageKind, Phys, PhysMap, Size};

/// A part of guest RAM given to one chip as its private memory (video memory, say). Accesses
/// outside read zero and write nothing.
#[derive(Clone, Debug)]
pub struct RamWindow {
    ram: Arc<GuestRam>,
    base: u64,
    len: u64,
}

impl RamWindow {
    /// The window `base..base + len`, cut to what `ram` has.
    pub fn new(ram: Arc<GuestRam>, base: u64, len: u64) -> Self {
        let len = len.min(ram.len().saturating_sub(base));
        Self { ram, base, len }
    }

    /// Bytes in the window.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Is the window of no bytes?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Offset of the window in guest RAM.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Reads `size` bytes.
    #[inline]
    pub fn read(&self, off: u64, size: Size) -> u64 {
        match self.holds(off, size.bytes()) {
            true => self.ram.read(self.base + off, size).unwrap_or(0),
            false => 0,
        }
    }

    /// Writes `size` bytes.
    #[inline]
    pub fn write(&self, off: u64, size: Size, value: u64) {
        if self.holds(off, size.bytes()) {
            self.ram.write(self.base + off, size, value);
        }
    }

    /// Copies bytes out; false if any lies outside.
    pub fn read_bytes(&self, off: u64, buf: &mut [u8]) -> bool {
        self.holds(off, buf.len() as u64) && self.ram.read_bytes(self.base + off, buf)
    }

    /// Copies bytes in; false if any lies outside.
    pub fn write_bytes(&self, off: u64, buf: &[u8]) -> bool {
        self.holds(off, buf.len() as u64) && self.ram.write_bytes(self.base + off, buf)
    }

    fn holds(&self, off: u64, n: u64) -> bool {
        off.checked_add(n).is_some_and(|end| end <= self.len)
    }
}

/// Bus-master access: guest-physical addresses, RAM only, never another chip.
#[derive(Clone, Debug)]
pub struct RamDma {
    ram: Arc<GuestRam>,
    map: Arc<PhysMap>,
}

impl RamDma {
    /// Access to `ram` as `map` shows it.
    pub fn new(ram: Arc<GuestRam>, map: Arc<PhysMap>) -> Self {
        Self { ram, map }
    }

    pub(crate) fn ram(&self) -> &GuestRam {
        &self.ram
    }

    pub(crate) fn map(&self) -> &PhysMap {
        &self.map
    }
}

impl Dma for RamDma {
    fn read(&self, at: Phys, buf: &mut [u8]) {
        for_each_page(at, buf.len(), |at, range| {
            let part = &mut buf[range];
            let done = match self.map.ram_offset(at) {
                Some(off) => self.ram.read_bytes(off, part),
                None => false,
            };
            if !done {
                part.fill(0xff);
            }
        });
    }

    fn write(&self, at: Phys, buf: &[u8]) {
        for_each_page(at, buf.len(), |at, range| {
            if let PageKind::Ram { off, writable: true } = self.map.lookup(at) {
                self.ram.write_bytes(off + at.page_offset(), &buf[range]);
            }
        });
    }
}

/// Splits `at..at + len` at page boundaries.
fn for_each_page(at: Phys, len: usize, mut f: impl FnMut(Phys, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < len {
        let here = at.add(done as u64);
        let n = (len - done).min((PAGE_SIZE - here.page_offset()) as usize);
        f(here, done..done + n);
        done += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dma_reaches_writable_ram_only() {
        let ram = Arc::new(GuestRam::new(0x4000).unwrap());
        let map = Arc::new(PhysMap::new(0, 0));
        map.map_ram(Phys(0x1000), 0x1000, 0x2000, true);
        map.map_ram(Phys(0x2000), 0x1000, 0x3000, false);
        let dma = RamDma::new(ram.clone(), map);
        dma.write(Phys(0x0ffe), &[1, 2, 3, 4]);
        dma.write(Phys(0x1ffe), &[5, 6, 7, 8]);
        assert_eq!(ram.read(0x2000, Size::B2), Some(0x0403));
        assert_eq!(ram.read(0x2ffe, Size::B4), Some(0x0605));
        let mut buf = [0; 4];
        dma.read(Phys(0x0ffe), &mut buf);
        assert_eq!(buf, [0xff, 0xff, 3, 4]);
    }

    #[test]
    fn windows_stay_inside() {
        let ram = Arc::new(GuestRam::new(0x2000).unwrap());
        let window = RamWindow::new(ram.clone(), 0x1000, 0x9000);
        assert_eq!(window.len(), 0x1000);
        window.write(0xffc, Size::B8, u64::MAX);
        assert_eq!(window.read(0xffc, Size::B4), 0);
        window.write(0, Size::B1, 7);
        assert_eq!(ram.read(0x1000, Size::B1), Some(7));
        assert!(!window.write_bytes(u64::MAX, &[1, 2]));
    }
}
