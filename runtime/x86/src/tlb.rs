//! The software TLB: for each view (who accesses) four arrays that generated code reads directly, its
//! jump cache, and translations for the slow path.
//!
//! Slot i of an empty array holds a tag whose index is not i, so that no address ever matches it;
//! there is no valid bit to test. Only plain RAM is entered: MMIO never, ROM for reads, and pages
//! that hold translated code for reads. A `Tlb` never follows a host address: they are numbers here.

use mem::{Lin, Phys};

/// Slots per array.
pub const SLOTS: usize = 1024;
/// The `pext` mask of `CpuState::tlb_mask`: address bits that select the slot.
pub const INDEX_MASK: u64 = (SLOTS as u64 - 1) << 12;
/// Byte offset of the read tags in a view.
pub const READ_TAG: usize = 0;
/// Byte offset of the read addends.
pub const READ_ADD: usize = 0x2000;
/// Byte offset of the write tags.
pub const WRITE_TAG: usize = 0x4000;
/// Byte offset of the write addends.
pub const WRITE_ADD: usize = 0x6000;
/// Byte offset of the jump cache.
pub const JUMP: usize = 0x8000;

/// One entry of the jump cache, filled by the run loop.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JumpSlot {
    /// Context number and instruction pointer.
    pub tag: u64,
    /// Host code.
    pub host: u64,
}

/// Whose accesses a view holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ViewId {
    /// CPL 0 to 2, and the processor's own accesses to its tables.
    Supervisor,
    /// CPL 3.
    User,
    /// CPL 0 to 2 while EFLAGS.AC lifts SMAP.
    SupervisorAc,
    /// Always empty, so that every access of generated code takes the slow path (alignment checks).
    Closed,
}

/// Number of views.
const VIEWS: usize = 4;

/// What a translation allows.
pub(crate) mod right {
    /// Data reads.
    pub(crate) const R: u8 = 1;
    /// Data writes, and the dirty bit is set.
    pub(crate) const W: u8 = 2;
    /// Instruction fetches.
    pub(crate) const X: u8 = 4;
}

/// A page found by a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Physical page.
    pub(crate) phys: Phys,
    /// Bits of [`right`].
    pub(crate) rights: u8,
    /// log2 of the size of the guest's page.
    pub(crate) shift: u8,
    /// A load of CR3 leaves it alone.
    pub(crate) is_global: bool,
}

/// A translation remembered for the slow path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Translation {
    /// Linear page, or `!0`.
    lin: u64,
    /// Physical page.
    phys: u64,
    /// The view's `flushes` when it was made: older ones are void.
    flushes: u64,
    /// Bits of [`right`].
    rights: u8,
    /// A global page.
    is_global: bool,
}

const NO_TRANSLATION: Translation =
    Translation { lin: !0, phys: 0, flushes: 0, rights: 0, is_global: false };
/// A jump-cache tag that matches nothing: context number 0 is never given out.
const NO_JUMP: JumpSlot = JumpSlot { tag: 0, host: 0 };

/// What one kind of access sees.
#[repr(C, align(4096))]
pub struct View {
    read_tag: [u64; SLOTS],
    read_add: [u64; SLOTS],
    write_tag: [u64; SLOTS],
    write_add: [u64; SLOTS],
    /// The jump cache.
    pub jump: [JumpSlot; SLOTS],
    slow: [Translation; SLOTS],
    /// Flushes so far.
    flushes: u64,
    /// Nothing was entered since the last flush.
    is_empty: bool,
    /// Global pages may be among what was entered.
    has_global: bool,
    /// Slots that were filled from large pages since the last flush, a bit each.
    large: [u64; SLOTS / 64],
    /// Where these lie: a bit for each 2 MiB, modulo 64.
    regions: u64,
}

const _: () = assert!(std::mem::offset_of!(View, read_tag) == READ_TAG);
const _: () = assert!(std::mem::offset_of!(View, read_add) == READ_ADD);
const _: () = assert!(std::mem::offset_of!(View, write_tag) == WRITE_TAG);
const _: () = assert!(std::mem::offset_of!(View, write_add) == WRITE_ADD);
const _: () = assert!(std::mem::offset_of!(View, jump) == JUMP);

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

const fn empty_tag(slot: usize) -> u64 {
    ((slot ^ 1) as u64) << 12
}

/// The slot of a linear address.
#[inline]
pub const fn slot_of(lin: Lin) -> usize {
    (lin.0 >> 12) as usize & (SLOTS - 1)
}

impl View {
    fn new() -> Box<Self> {
        Box::new(Self {
            read_tag: EMPTY_TAGS,
            read_add: [0; SLOTS],
            write_tag: EMPTY_TAGS,
            write_add: [0; SLOTS],
            jump: [NO_JUMP; SLOTS],
            slow: [NO_TRANSLATION; SLOTS],
            flushes: 0,
            is_empty: true,
            has_global: false,
            large: [0; SLOTS / 64],
            regions: 0,
        })
    }

    /// Forgets everything.
    fn flush(&mut self) {
        if !self.is_empty {
            self.read_tag = EMPTY_TAGS;
            self.write_tag = EMPTY_TAGS;
            self.flushes += 1;
            self.is_empty = true;
            self.has_global = false;
            self.large = [0; SLOTS / 64];
            self.regions = 0;
        }
    }

    /// Forgets what large pages of at most 2^`shift` bytes around `lin` have left.
    fn flush_large(&mut self, lin: Lin, shift: u32) {
        if self.regions >> (lin.0 >> 21 & 63) & 1 == 0 {
            return;
        }
        for word in 0..SLOTS / 64 {
            let mut bits = self.large[word];
            while bits != 0 {
                let i = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if self.slow[i].lin >> shift == lin.0 >> shift {
                    self.flush_slot(i);
                    self.large[word] &= !(1 << (i % 64));
                }
            }
        }
    }

    /// Notes that slot `i` holds a part of a page of 2^`shift` bytes around `lin`.
    fn note_large(&mut self, i: usize, lin: u64, shift: u8) {
        self.large[i / 64] |= 1 << (i % 64);
        self.regions |= match shift {
            21 => 1 << (lin >> 21 & 63),
            22 => 3 << (lin >> 21 & 62),
            _ => u64::MAX,
        };
    }

    /// Forgets everything but global pages.
    fn flush_local(&mut self) {
        if !self.has_global {
            return self.flush();
        }
        for i in 0..SLOTS {
            let t = &self.slow[i];
            if !(t.is_global && t.flushes == self.flushes) {
                self.flush_slot(i);
            }
        }
    }

    fn flush_slot(&mut self, i: usize) {
        self.read_tag[i] = empty_tag(i);
        self.write_tag[i] = empty_tag(i);
        self.slow[i] = NO_TRANSLATION;
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
}

/// All views.
pub struct Tlb {
    views: [Box<View>; VIEWS],
    /// log2 of the largest page entered since the last flush.
    largest: u8,
}

impl Default for Tlb {
    fn default() -> Self {
        Self { views: std::array::from_fn(|_| View::new()), largest: 12 }
    }
}

impl Tlb {
    /// One view.
    pub fn view(&self, id: ViewId) -> &View {
        &self.views[id as usize]
    }

    /// One view, to fill its jump cache.
    pub fn view_mut(&mut self, id: ViewId) -> &mut View {
        &mut self.views[id as usize]
    }

    /// Host address of a view, for generated code.
    pub fn base(&mut self, id: ViewId) -> u64 {
        let view: *mut View = &mut *self.views[id as usize];
        view.expose_provenance() as u64
    }

    /// Forgets every translation of all views (not the jump caches: see `Cpu::flush_jumps`).
    pub fn flush(&mut self) {
        self.views.iter_mut().for_each(|view| view.flush());
        self.largest = 12;
    }

    /// Forgets every translation but those of global pages.
    pub fn flush_local(&mut self) {
        self.views.iter_mut().for_each(|view| view.flush_local());
    }

    /// Forgets one page in all views; all of it, if it may be a large one.
    pub fn flush_page(&mut self, lin: Lin) {
        let shift = u32::from(self.largest);
        for view in &mut self.views {
            view.flush_slot(slot_of(lin));
            view.flush_large(lin, shift);
        }
    }

    /// Empties all jump caches.
    pub fn flush_jumps(&mut self) {
        for view in &mut self.views {
            view.jump = [NO_JUMP; SLOTS];
        }
    }

    /// Drops the write entries that lead to the host page at `host`.
    pub fn protect(&mut self, host: u64) {
        for view in self.views.iter_mut().filter(|view| !view.is_empty) {
            for i in 0..SLOTS {
                let tag = view.write_tag[i];
                if tag != empty_tag(i) && tag.wrapping_add(view.write_add[i]) == host {
                    view.write_tag[i] = empty_tag(i);
                }
            }
        }
    }

    /// The remembered translation of `lin`, if it has the rights `need`.
    #[inline]
    pub(crate) fn recall(&self, lin: Lin, need: u8, id: ViewId) -> Option<Phys> {
        let view = self.view(id);
        let t = &view.slow[slot_of(lin)];
        let is_current = t.lin == lin.page().0 && t.flushes == view.flushes;
        let is_hit = is_current && t.rights & need == need;
        is_hit.then(|| Phys(t.phys | lin.page_offset()))
    }

    /// Remembers where the page of `lin` is.
    pub(crate) fn remember(&mut self, lin: Lin, page: Page, id: ViewId) {
        let i = slot_of(lin);
        self.largest = self.largest.max(page.shift);
        let view = self.view_mut(id);
        if view.slow[i].lin != lin.page().0 {
            view.flush_slot(i);
        }
        let (lin, phys, flushes) = (lin.page().0, page.phys.page().0, view.flushes);
        let Page { rights, is_global, .. } = page;
        view.has_global |= is_global;
        view.slow[i] = Translation { lin, phys, flushes, rights, is_global };
        if page.shift > 12 {
            view.note_large(i, lin, page.shift);
        }
        view.is_empty = false;
    }

    /// Enters the host page of a linear page for generated code's reads.
    pub(crate) fn enter_read(&mut self, lin: Lin, host: u64, id: ViewId) {
        let i = slot_of(lin);
        let view = self.view_mut(id);
        view.read_add[i] = host.wrapping_sub(lin.page().0);
        view.read_tag[i] = lin.page().0;
        view.is_empty = false;
    }

    /// Enters the host page of a linear page for generated code's writes.
    pub(crate) fn enter_write(&mut self, lin: Lin, host: u64, id: ViewId) {
        let i = slot_of(lin);
        let view = self.view_mut(id);
        view.write_add[i] = host.wrapping_sub(lin.page().0);
        view.write_tag[i] = lin.page().0;
        view.is_empty = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_slots_match_nothing() {
        let tlb = Tlb::default();
        for i in 0..SLOTS as u64 {
            for high in [0, 0xffc0_0000, 0xffff_8000_0000_0000] {
                assert_eq!(tlb.view(ViewId::Supervisor).read_host(Lin(i << 12 | high)), None);
                assert_eq!(tlb.view(ViewId::User).write_host(Lin(i << 12 | high)), None);
            }
        }
    }

    #[test]
    fn entries_translate_and_go() {
        let mut tlb = Tlb::default();
        tlb.enter_read(Lin(0x40_1000), 0x7f00_0000_0000, ViewId::Supervisor);
        tlb.enter_write(Lin(0x40_1000), 0x7f00_0000_0000, ViewId::Supervisor);
        assert_eq!(tlb.view(ViewId::Supervisor).read_host(Lin(0x40_1234)), Some(0x7f00_0000_0234));
        assert_eq!(tlb.view(ViewId::Supervisor).read_host(Lin(0x1234)), None);
        assert_eq!(tlb.view(ViewId::User).read_host(Lin(0x40_1234)), None);
        tlb.protect(0x7f00_0000_0000);
        assert_eq!(tlb.view(ViewId::Supervisor).write_host(Lin(0x40_1234)), None);
        assert!(tlb.view(ViewId::Supervisor).read_host(Lin(0x40_1234)).is_some());
        tlb.flush_page(Lin(0x40_1000));
        assert_eq!(tlb.view(ViewId::Supervisor).read_host(Lin(0x40_1234)), None);
    }

    #[test]
    fn slow_translations_know_writes() {
        let mut tlb = Tlb::default();
        let page = Page { phys: Phys(0x9000), rights: right::R, shift: 12, is_global: false };
        tlb.remember(Lin(0x5000), page, ViewId::User);
        assert_eq!(tlb.recall(Lin(0x5123), right::R, ViewId::User), Some(Phys(0x9123)));
        assert_eq!(tlb.recall(Lin(0x5123), right::W, ViewId::User), None);
        assert_eq!(tlb.recall(Lin(0x5123), right::X, ViewId::User), None);
        assert_eq!(tlb.recall(Lin(0x5123), right::R, ViewId::Supervisor), None);
        tlb.flush();
        assert_eq!(tlb.recall(Lin(0x5123), right::R, ViewId::User), None);
    }

    #[test]
    fn large_pages_go_whole_and_global_ones_stay() {
        let mut tlb = Tlb::default();
        for (lin, shift) in [(0x40_1000, 21), (0x5F_F000, 21), (0x60_0000, 12)] {
            let page = Page { phys: Phys(lin), rights: right::R, shift, is_global: shift == 21 };
            tlb.remember(Lin(lin), page, ViewId::Supervisor);
        }
        let found = |tlb: &Tlb, lin| tlb.recall(Lin(lin), right::R, ViewId::Supervisor).is_some();
        tlb.flush_local();
        let all = [0x40_1000, 0x5F_F000, 0x60_0000];
        assert_eq!(all.map(|lin| found(&tlb, lin)), [true, true, false]);
        tlb.flush_page(Lin(0x50_0000));
        assert_eq!(all.map(|lin| found(&tlb, lin)), [false; 3]);
    }
}
