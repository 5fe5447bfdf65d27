//! The software TLB: for each privilege view four arrays that generated code reads directly, its
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

/// A translation remembered for the slow path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Translation {
    /// Linear page, or `!0`.
    lin: u64,
    /// Physical page.
    phys: u64,
    /// The view's `flushes` when it was made: older ones are void.
    flushes: u64,
    /// Writes are allowed and the dirty bit is set.
    is_writable: bool,
}

const NO_TRANSLATION: Translation =
    Translation { lin: !0, phys: 0, flushes: 0, is_writable: false };
/// A jump-cache tag that matches nothing: context number 0 is never given out.
const NO_JUMP: JumpSlot = JumpSlot { tag: 0, host: 0 };

/// What one privilege level class sees.
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
        })
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

/// Both views: `[0]` supervisor, `[1]` user.
pub struct Tlb {
    views: [Box<View>; 2],
}

impl Default for Tlb {
    fn default() -> Self {
        Self { views: [View::new(), View::new()] }
    }
}

impl Tlb {
    /// One view.
    pub fn view(&self, is_user: bool) -> &View {
        &self.views[usize::from(is_user)]
    }

    /// One view, to fill its jump cache.
    pub fn view_mut(&mut self, is_user: bool) -> &mut View {
        &mut self.views[usize::from(is_user)]
    }

    /// Host address of a view, for generated code.
    pub fn base(&mut self, is_user: bool) -> u64 {
        let view: *mut View = &mut *self.views[usize::from(is_user)];
        view.expose_provenance() as u64
    }

    /// Forgets every translation of both views (not the jump caches: see `Cpu::flush_jumps`).
    pub fn flush(&mut self) {
        for view in &mut self.views {
            if !view.is_empty {
                view.read_tag = EMPTY_TAGS;
                view.write_tag = EMPTY_TAGS;
                view.flushes += 1;
                view.is_empty = true;
            }
        }
    }

    /// Forgets one page in both views.
    pub fn flush_page(&mut self, lin: Lin) {
        for view in &mut self.views {
            view.flush_slot(slot_of(lin));
        }
    }

    /// Empties both jump caches.
    pub fn flush_jumps(&mut self) {
        for view in &mut self.views {
            view.jump = [NO_JUMP; SLOTS];
        }
    }

    /// Drops the write entries that lead to the host page at `host`.
    pub fn protect(&mut self, host: u64) {
        for view in &mut self.views {
            for i in 0..SLOTS {
                let tag = view.write_tag[i];
                if tag != empty_tag(i) && tag.wrapping_add(view.write_add[i]) == host {
                    view.write_tag[i] = empty_tag(i);
                }
            }
        }
    }

    /// The remembered translation of `lin`, if it allows the access.
    #[inline]
    pub(crate) fn recall(&self, lin: Lin, is_write: bool, is_user: bool) -> Option<Phys> {
        let view = self.view(is_user);
        let t = &view.slow[slot_of(lin)];
        let is_current = t.lin == lin.page().0 && t.flushes == view.flushes;
        let is_hit = is_current && (t.is_writable || !is_write);
        is_hit.then(|| Phys(t.phys | lin.page_offset()))
    }

    /// Remembers that the page of `lin` is at `phys`.
    pub(crate) fn remember(&mut self, lin: Lin, phys: Phys, is_writable: bool, is_user: bool) {
        let i = slot_of(lin);
        let view = self.view_mut(is_user);
        if view.slow[i].lin != lin.page().0 {
            view.flush_slot(i);
        }
        let (lin, phys, flushes) = (lin.page().0, phys.page().0, view.flushes);
        view.slow[i] = Translation { lin, phys, flushes, is_writable };
        view.is_empty = false;
    }

    /// Enters the host page of a linear page for generated code's reads.
    pub(crate) fn enter_read(&mut self, lin: Lin, host: u64, is_user: bool) {
        let i = slot_of(lin);
        let view = self.view_mut(is_user);
        view.read_add[i] = host.wrapping_sub(lin.page().0);
        view.read_tag[i] = lin.page().0;
    }

    /// Enters the host page of a linear page for generated code's writes.
    pub(crate) fn enter_write(&mut self, lin: Lin, host: u64, is_user: bool) {
        let i = slot_of(lin);
        let view = self.view_mut(is_user);
        view.write_add[i] = host.wrapping_sub(lin.page().0);
        view.write_tag[i] = lin.page().0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_slots_match_nothing() {
        let tlb = Tlb::default();
        for i in 0..SLOTS as u64 {
            for high in [0, 0xffc0_0000] {
                assert_eq!(tlb.view(false).read_host(Lin(i << 12 | high)), None);
                assert_eq!(tlb.view(true).write_host(Lin(i << 12 | high)), None);
            }
        }
    }

    #[test]
    fn entries_translate_and_go() {
        let mut tlb = Tlb::default();
        tlb.enter_read(Lin(0x40_1000), 0x7f00_0000_0000, false);
        tlb.enter_write(Lin(0x40_1000), 0x7f00_0000_0000, false);
        assert_eq!(tlb.view(false).read_host(Lin(0x40_1234)), Some(0x7f00_0000_0234));
        assert_eq!(tlb.view(false).read_host(Lin(0x1234)), None);
        assert_eq!(tlb.view(true).read_host(Lin(0x40_1234)), None);
        tlb.protect(0x7f00_0000_0000);
        assert_eq!(tlb.view(false).write_host(Lin(0x40_1234)), None);
        assert!(tlb.view(false).read_host(Lin(0x40_1234)).is_some());
        tlb.flush_page(Lin(0x40_1000));
        assert_eq!(tlb.view(false).read_host(Lin(0x40_1234)), None);
    }

    #[test]
    fn slow_translations_know_writes() {
        let mut tlb = Tlb::default();
        tlb.remember(Lin(0x5000), Phys(0x9000), false, true);
        assert_eq!(tlb.recall(Lin(0x5123), false, true), Some(Phys(0x9123)));
        assert_eq!(tlb.recall(Lin(0x5123), true, true), None);
        tlb.flush();
        assert_eq!(tlb.recall(Lin(0x5123), false, true), None);
    }
}
