//! Guest memory as the `virtio-queue` crate sees it: through the physical map, by pages.
//!
//! Only rings are walked this way; a request's data go by [`Dma`](crate::Dma).

use vm_memory::guest_memory::{Error, GuestMemorySliceIterator, Result};
use vm_memory::{
    GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestUsize, Permissions, VolatileSlice,
};

use crate::{PAGE_SIZE, PageKind, Phys, RamDma};

impl RamDma {
    /// The part of `count` bytes at `at` that lies in one page.
    fn piece(&self, at: u64, count: usize, access: Permissions) -> Result<VolatileSlice<'_>> {
        let refused = || Error::InvalidGuestAddress(GuestAddress(at));
        let phys = Phys(at);
        let PageKind::Ram { off, writable } = self.map().lookup(phys) else {
            return Err(refused());
        };
        if !writable && access.has_write() {
            return Err(refused());
        }
        let n = (PAGE_SIZE - phys.page_offset()).min(count as u64);
        let ram = self.ram();
        ram.volatile(off + phys.page_offset(), n, access.has_write()).ok_or_else(refused)
    }
}

/// The pieces of a range, page by page. Ends with the first that is no memory.
struct Pieces<'a> {
    memory: &'a RamDma,
    at: u64,
    left: usize,
    access: Permissions,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Result<VolatileSlice<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let piece = self.memory.piece(self.at, self.left, self.access);
        let n = piece.as_ref().map_or(self.left, |piece| piece.len());
        self.left -= n;
        match self.at.checked_add(n as u64) {
            Some(next) => self.at = next,
            None => self.left = 0,
        }
        Some(piece)
    }
}

impl std::iter::FusedIterator for Pieces<'_> {}
impl<'a> GuestMemorySliceIterator<'a, ()> for Pieces<'a> {}

impl GuestMemory for RamDma {
    type PhysicalMemory = NoBackend;
    type Bitmap = ();

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        addr.0.checked_add(count as u64).is_some()
            && Pieces { memory: self, at: addr.0, left: count, access }.all(|piece| piece.is_ok())
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, ()>> {
        Ok(Pieces { memory: self, at: addr.0, left: count, access })
    }
}

/// There is no flat view of guest memory: no value of this type exists.
pub enum NoBackend {}

impl GuestMemoryBackend for NoBackend {
    type R = NoRegion;

    fn iter(&self) -> impl Iterator<Item = &NoRegion> {
        std::iter::empty()
    }
}

/// A region of a flat view: no value of this type exists.
pub enum NoRegion {}

impl GuestMemoryRegion for NoRegion {
    type B = ();

    fn len(&self) -> GuestUsize {
        match *self {}
    }

    fn start_addr(&self) -> GuestAddress {
        match *self {}
    }

    fn bitmap(&self) {}
}

impl GuestMemoryRegionBytes for NoRegion {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vm_memory::Bytes;

    use super::*;
    use crate::{GuestRam, PhysMap, Size};

    #[test]
    fn rings_reach_mapped_memory_only() {
        let ram = Arc::new(GuestRam::new(0x4000).unwrap());
        let map = Arc::new(PhysMap::new(0, 0));
        map.map_ram(Phys(0x1000), 0x1000, 0x3000, true);
        map.map_ram(Phys(0x2000), 0x1000, 0x1000, true);
        map.map_ram(Phys(0x3000), 0x1000, 0x2000, false);
        let memory = RamDma::new(ram.clone(), map);
        ram.set_code_lines(0x3000, u64::MAX);
        memory.write_obj(0x1122_3344_5566_7788u64, GuestAddress(0x1ffc)).unwrap();
        assert_eq!(ram.read(0x3ffc, Size::B4), Some(0x5566_7788));
        assert_eq!(ram.read(0x1000, Size::B4), Some(0x1122_3344));
        assert_eq!(ram.take_dirty_code(), [0x3000]);
        assert_eq!(memory.read_obj::<u64>(GuestAddress(0x1ffc)).unwrap(), 0x1122_3344_5566_7788);
        assert!(memory.write_obj(1u8, GuestAddress(0x3000)).is_err());
        assert!(memory.read_obj::<u64>(GuestAddress(0x3ffc)).is_err());
        assert!(memory.read_obj::<u64>(GuestAddress(u64::MAX - 3)).is_err());
        let check = |at, n, access| memory.check_range(GuestAddress(at), n, access);
        assert!(check(0x1000, 0x2000, Permissions::Write));
        assert!(!check(0x1000, 0x2001, Permissions::Write));
        assert!(!check(u64::MAX, 2, Permissions::Read));
    }
}
