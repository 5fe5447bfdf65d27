//! What one kind of access sees: the arrays that generated code reads, and translations for the slow path.

use mem::{Lin, Phys};

use super::slots::Slots;
use super::{Page, READ_ADD, READ_TAG, SLOTS, WRITE_ADD, WRITE_TAG, slot_of};

/// A translation remembered for the slow path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Translation {
    /// Linear page, or `!0`.
    lin: u64,
    /// Physical page.
    phys: u64,
    /// Bits of [`super::right`].
    rights: u8,
}

const NO_TRANSLATION: Translation = Translation { lin: !0, phys: 0, rights: 0 };

/// The arrays of a view. Generated code knows the places of the first four.
#[repr(C, align(4096))]
pub struct View {
    read_tag: [u64; SLOTS],
    read_add: [u64; SLOTS],
    write_tag: [u64; SLOTS],
    write_add: [u64; SLOTS],
    slow: [Translation; SLOTS],
    /// Slots that hold anything.
    used: Slots,
    /// Those of pages that are not global.
    local: Slots,
    /// Those that were filled from large pages.
    large: Slots,
    /// Where these lie: a bit for each 2 MiB, modulo 64.
    regions: u64,
}

const _: () = assert!(std::mem::offset_of!(View, read_tag) == READ_TAG);
const _: () = assert!(std::mem::offset_of!(View, read_add) == READ_ADD);
const _: () = assert!(std::mem::offset_of!(View, write_tag) == WRITE_TAG);
const _: () = assert!(std::mem::offset_of!(View, write_add) == WRITE_ADD);

const fn empty_tag(slot: usize) -> u64 {
    ((slot ^ 1) as u64) << 12
}

/// The tags of an empty array.
static EMPTY_TAGS: [u64; SLOTS] = {
    let mut tags = [0; SLOTS];
    let mut i = 0;
    while i < SLOTS {
        tags[i] = empty_tag(i);
        i += 1;
    }
    tags
};

impl View {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            read_tag: EMPTY_TAGS,
            read_add: [0; SLOTS],
            write_tag: EMPTY_TAGS,
            write_add: [0; SLOTS],
            slow: [NO_TRANSLATION; SLOTS],
            used: Slots::NONE,
            local: Slots::NONE,
            large: Slots::NONE,
            regions: 0,
        })
    }

    /// Forgets every translation.
    pub(super) fn flush(&mut self) {
        for i in self.used.iter() {
            self.empty(i);
        }
        (self.used, self.local, self.large) = (Slots::NONE, Slots::NONE, Slots::NONE);
        self.regions = 0;
    }

    /// Forgets everything but global pages.
    pub(super) fn flush_local(&mut self) {
        for i in self.local.iter() {
            self.flush_slot(i);
        }
    }

    /// Forgets a page, and what large pages of at most 2^`largest` bytes around it have left.
    pub(super) fn flush_page(&mut self, lin: Lin, largest: u32) {
        self.flush_slot(slot_of(lin));
        if self.may_be_large(lin) {
            for i in self.large.iter() {
                if self.slow[i].lin >> largest == lin.0 >> largest {
                    self.flush_slot(i);
                }
            }
        }
    }

    /// May an address have been seen in a large page?
    pub(super) const fn may_be_large(&self, lin: Lin) -> bool {
        self.regions >> (lin.0 >> 21 & 63) & 1 != 0
    }

    fn flush_slot(&mut self, i: usize) {
        self.empty(i);
        self.used.remove(i);
        self.local.remove(i);
        self.large.remove(i);
    }

    fn empty(&mut self, i: usize) {
        self.read_tag[i] = empty_tag(i);
        self.write_tag[i] = empty_tag(i);
        self.slow[i] = NO_TRANSLATION;
    }

    /// Drops the write entries that lead to the host page at `host`.
    pub(super) fn protect(&mut self, host: u64) {
        for i in self.used.iter() {
            let tag = self.write_tag[i];
            if tag != empty_tag(i) && tag.wrapping_add(self.write_add[i]) == host {
                self.write_tag[i] = empty_tag(i);
            }
        }
    }

    /// The remembered translation of `lin`, if it has the rights `need`.
    #[inline]
    pub(super) fn recall(&self, lin: Lin, need: u8) -> Option<Phys> {
        let t = &self.slow[slot_of(lin)];
        let is_hit = t.lin == lin.page().0 && t.rights & need == need;
        is_hit.then(|| Phys(t.phys | lin.page_offset()))
    }

    /// Remembers where the page of `lin` is.
    pub(super) fn remember(&mut self, lin: Lin, page: Page) {
        let i = slot_of(lin);
        if self.slow[i].lin != lin.page().0 {
            self.flush_slot(i);
        }
        self.used.insert(i);
        if !page.is_global {
            self.local.insert(i);
        }
        let (lin, phys) = (lin.page().0, page.phys.page().0);
        self.slow[i] = Translation { lin, phys, rights: page.rights };
        if page.shift > 12 {
            self.large.insert(i);
            self.regions |= match page.shift {
                21 => 1 << (lin >> 21 & 63),
                22 => 3 << (lin >> 21 & 62),
                _ => u64::MAX,
            };
        }
    }

    /// Enters the host page of a linear page for generated code's reads.
    pub(super) fn enter_read(&mut self, lin: Lin, host: u64) {
        let i = slot_of(lin);
        self.read_add[i] = host.wrapping_sub(lin.page().0);
        self.read_tag[i] = lin.page().0;
        self.used.insert(i);
    }

    /// Enters the host page of a linear page for generated code's writes.
    pub(super) fn enter_write(&mut self, lin: Lin, host: u64) {
        let i = slot_of(lin);
        self.write_add[i] = host.wrapping_sub(lin.page().0);
        self.write_tag[i] = lin.page().0;
        self.used.insert(i);
    }

    /// The host address a read at `lin` would use, if entered.
    pub fn read_host(&self, lin: Lin) -> Option<u64> {
        let i = slot_of(lin);
        (self.read_tag[i] == lin.page().0).then(|| lin.0.wrapping_add(self.read_add[i]))
    }

    /// The host address a write at `lin` would use, if entered.
    pub fn write_host(&self, lin: Lin) -> Option<u64> {
        let i = slot_of(lin);
        (self.write_tag[i] == lin.page().0).then(|| lin.0.wrapping_add(self.write_add[i]))
    }

    /// Is the page of `lin` known, and global?
    pub(super) fn is_global(&self, lin: Lin) -> bool {
        let i = slot_of(lin);
        self.slow[i].lin == lin.page().0 && !self.local.has(i)
    }
}
