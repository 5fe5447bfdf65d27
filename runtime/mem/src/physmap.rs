//! The physical address map: which page of the bus is memory, and where in guest RAM it lies.
//!
//! It answers one question, asked at every TLB fill and every slow access, so it is a two-level
//! table of atomics below 4 GiB and one immutable extent above it. The board changes it at run
//! time (PAM and SMRAM registers, moved frame buffers); every change moves the generation, at
//! which the CPU drops what it derived from the map. Everything not memory is the board's.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::{PAGE_SIZE, Phys};

/// Pages per leaf table: a leaf covers 4 MiB.
const LEAF_PAGES: usize = 1024;
/// Leaves below 4 GiB.
const LEAVES: usize = 1024;
/// The first address above the table.
const FOUR_GIB: u64 = 1 << 32;

/// What stands behind one physical page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageKind {
    /// Memory at `off` in guest RAM. `off` is the page's own offset: a multiple of 4096.
    Ram {
        /// Offset of the page in [`GuestRam`](crate::GuestRam).
        off: u64,
        /// False for ROM and write-protected shadow: stores go to the bus, which drops them.
        writable: bool,
    },
    /// Registers, or nothing: ask the bus.
    Io,
}

/// Table entry: 0 is I/O, as is [`DELICATE`]; else `(page number + 1) << 1 | writable`.
type Leaf = Box<[AtomicU32]>;

/// Entry of I/O that may change the map when it is accessed.
const DELICATE: u32 = 1;

/// The map of one machine. Shared by CPU, board and DMA as `Arc<PhysMap>`.
pub struct PhysMap {
    leaves: Box<[OnceLock<Leaf>]>,
    /// RAM from 4 GiB up: its length and its offset in guest RAM.
    high_len: u64,
    high_off: u64,
    generation: AtomicU64,
}

impl PhysMap {
    /// A map in which `high_len` bytes of RAM start at 4 GiB, from `high_off` in guest RAM on, and
    /// everything else is I/O.
    pub fn new(high_off: u64, high_len: u64) -> Self {
        Self {
            leaves: (0..LEAVES).map(|_| OnceLock::new()).collect(),
            high_len: high_len & !(PAGE_SIZE - 1),
            high_off: high_off & !(PAGE_SIZE - 1),
            generation: AtomicU64::new(0),
        }
    }

    /// What stands behind the page of `at`.
    #[inline]
    pub fn lookup(&self, at: Phys) -> PageKind {
        if at.0 >= FOUR_GIB {
            let rel = at.page().0 - FOUR_GIB;
            return match rel < self.high_len {
                true => PageKind::Ram { off: self.high_off + rel, writable: true },
                false => PageKind::Io,
            };
        }
        let page = (at.0 / PAGE_SIZE) as usize;
        let entry = match self.leaves[page / LEAF_PAGES].get() {
            Some(leaf) => leaf[page % LEAF_PAGES].load(Relaxed),
            None => 0,
        };
        match entry {
            0 | DELICATE => PageKind::Io,
            e => PageKind::Ram { off: u64::from((e >> 1) - 1) * PAGE_SIZE, writable: e & 1 != 0 },
        }
    }

    /// Offset in guest RAM of the byte at `at`, if it can be read as memory.
    #[inline]
    pub fn ram_offset(&self, at: Phys) -> Option<u64> {
        match self.lookup(at) {
            PageKind::Ram { off, .. } => Some(off + at.page_offset()),
            PageKind::Io => None,
        }
    }

    /// Makes `len` bytes at `at` memory, from `off` in guest RAM on. Whole pages, below 4 GiB;
    /// what lies outside is ignored.
    pub fn map_ram(&self, at: Phys, len: u64, off: u64, writable: bool) {
        let first = off / PAGE_SIZE;
        self.set(at, len, |i| (((first + i) as u32 + 1) << 1) | u32::from(writable));
    }

    /// Gives `len` bytes at `at` to the bus.
    pub fn unmap(&self, at: Phys, len: u64) {
        self.set(at, len, |_| 0);
    }

    /// Gives `len` bytes at `at` to the bus, and notes that accesses there may change the map.
    pub fn unmap_delicate(&self, at: Phys, len: u64) {
        self.set(at, len, |_| DELICATE);
    }

    /// May an access to the page of `at` change the map?
    pub fn is_delicate(&self, at: Phys) -> bool {
        let page = (at.0 / PAGE_SIZE) as usize;
        let leaf = self.leaves.get(page / LEAF_PAGES).and_then(OnceLock::get);
        leaf.is_some_and(|leaf| leaf[page % LEAF_PAGES].load(Relaxed) == DELICATE)
    }

    /// Changes with every change of the map.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Moves the generation though no page changed: the way to the map did (the A20 gate).
    pub fn touch(&self) {
        self.generation.fetch_add(1, Relaxed);
    }

    fn set(&self, at: Phys, len: u64, entry: impl Fn(u64) -> u32) {
        let end = at.0.saturating_add(len).min(FOUR_GIB);
        let (first, last) = (at.0 / PAGE_SIZE, end.div_ceil(PAGE_SIZE));
        let mut changed = false;
        for page in first..last {
            let new = entry(page - first);
            let leaf = &self.leaves[page as usize / LEAF_PAGES];
            if new == 0 && leaf.get().is_none() {
                continue;
            }
            let leaf = leaf.get_or_init(|| (0..LEAF_PAGES).map(|_| AtomicU32::new(0)).collect());
            changed |= leaf[page as usize % LEAF_PAGES].swap(new, Relaxed) != new;
        }
        if changed {
            self.generation.fetch_add(1, Relaxed);
        }
    }
}

impl std::fmt::Debug for PhysMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PhysMap").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_unmaps_and_counts_changes() {
        let map = PhysMap::new(0x10_0000, 0x2000);
        assert_eq!(map.lookup(Phys(0x1234)), PageKind::Io);
        map.map_ram(Phys(0), 0x8000, 0, true);
        let after_map = map.generation();
        assert_eq!(map.lookup(Phys(0x1234)), PageKind::Ram { off: 0x1000, writable: true });
        assert_eq!(map.ram_offset(Phys(0x1234)), Some(0x1234));
        map.map_ram(Phys(0), 0x8000, 0, true);
        assert_eq!(map.generation(), after_map);
        map.map_ram(Phys(0x2000), 0x1000, 0x7000, false);
        assert_ne!(map.generation(), after_map);
        assert_eq!(map.lookup(Phys(0x2fff)), PageKind::Ram { off: 0x7000, writable: false });
        map.unmap_delicate(Phys(0x2000), 0x1000);
        assert_eq!(map.lookup(Phys(0x2000)), PageKind::Io);
        assert!(map.is_delicate(Phys(0x2fff)) && !map.is_delicate(Phys(0x3000)));
        assert!(!map.is_delicate(Phys(u64::MAX)));
        map.unmap(Phys(0x2000), 0x1000);
        assert!(!map.is_delicate(Phys(0x2000)));
        assert_eq!(map.lookup(Phys(0x2000)), PageKind::Io);
        assert_eq!(map.lookup(Phys(0x3000)), PageKind::Ram { off: 0x3000, writable: true });
    }

    #[test]
    fn the_top_of_the_space() {
        let map = PhysMap::new(0x10_0000, 0x2000);
        map.map_ram(Phys(0xffff_f000), 0x1000, 0x5000, false);
        assert_eq!(map.ram_offset(Phys(0xffff_fff0)), Some(0x5ff0));
        assert_eq!(map.ram_offset(Phys(0x1_0000_1004)), Some(0x10_1004));
        assert_eq!(map.lookup(Phys(0x1_0000_2000)), PageKind::Io);
        assert_eq!(map.lookup(Phys(u64::MAX)), PageKind::Io);
        map.unmap(Phys(u64::MAX - 5), u64::MAX);
    }
}
