//! What one kind of access sees: the arrays that generated code reads, and translations for the slow path.

use mem::{Lin, Phys};

use super::shape::Shape;
use super::slots::Slots;
use super::{CODE_TAG, LEAST, Page, READ_ADD, READ_TAG, SLOTS, WRITE_ADD, WRITE_TAG};

/// Where the arrays begin, in entries: the four that generated code knows, then linear pages ([`KNOWN`] set) and physical pages with the
/// rights in bits 2:0 of the translations remembered for the slow path, then the tags of pages that may be written but for lines that
/// hold translated code, whose addends stand among those for writes.
mod at {
    use super::{CODE_TAG, READ_ADD, READ_TAG, SLOTS, WRITE_ADD, WRITE_TAG};

    pub(super) const READ_TAGS: usize = READ_TAG / 8;
    pub(super) const READ_ADDS: usize = READ_ADD / 8;
    pub(super) const WRITE_TAGS: usize = WRITE_TAG / 8;
    pub(super) const WRITE_ADDS: usize = WRITE_ADD / 8;
    pub(super) const LINS: usize = 4 * SLOTS;
    pub(super) const PHYS: usize = 5 * SLOTS;
    pub(super) const CODE_TAGS: usize = CODE_TAG / 8;
    pub(super) const END: usize = 7 * SLOTS;
}

/// A remembered linear page is one.
const KNOWN: u64 = 1;

/// The arrays of a view, of which the first slots are in use.
pub struct View {
    /// Zeros where nothing was entered yet, so that the host gives memory only for what is used.
    arrays: Box<[u64; at::END]>,
    /// Which slots are in use, and for which pages.
    shape: Shape,
    /// Slots that hold anything.
    used: Slots,
    /// Those of pages that are not global.
    local: Slots,
    /// Those that were filled from large pages.
    large: Slots,
    /// Where these lie: a bit for each 2 MiB, modulo 64; for those of 1 GiB a bit for each, likewise.
    regions: u64,
    giants: u64,
}

impl View {
    /// An empty view.
    ///
    /// # Panics
    /// Never: the arrays are as long as they are.
    pub(super) fn new() -> Box<Self> {
        let arrays = vec![0; at::END].into_boxed_slice();
        let arrays: Box<[u64; at::END]> = arrays.try_into().unwrap_or_else(|_| unreachable!());
        let shape = Shape::plain(LEAST);
        let none = Slots::NONE;
        let (used, local, large) = (none.clone(), none.clone(), none);
        let mut view = Box::new(Self { arrays, shape, used, local, large, regions: 0, giants: 0 });
        view.empty(0);
        view.empty(LEAST - 1);
        view
    }

    /// Host address of the arrays.
    pub(super) fn base(&mut self) -> u64 {
        self.arrays.as_mut_ptr().expose_provenance() as u64
    }

    /// The slot of a linear address.
    #[inline]
    const fn slot_of(&self, lin: Lin) -> usize {
        self.shape.slot_of(lin)
    }

    /// Forgets every translation and uses these slots from now on. That large pages were seen is remembered.
    pub(super) fn reshape(&mut self, shape: Shape) {
        let size = self.shape.size();
        let mut next = 0;
        while let Some(i) = self.used.next(next, size) {
            self.empty(i);
            next = i + 1;
        }
        for set in [&mut self.used, &mut self.local, &mut self.large] {
            set.clear(size);
        }
        self.shape = shape;
        self.empty(size - 1);
        self.empty(shape.size() - 1);
    }

    /// Forgets every translation.
    pub(super) fn flush(&mut self) {
        self.reshape(self.shape);
        (self.regions, self.giants) = (0, 0);
    }

    /// Forgets everything but global pages.
    pub(super) fn flush_local(&mut self) {
        let mut next = 0;
        while let Some(i) = self.local.next(next, self.shape.size()) {
            self.flush_slot(i);
            next = i + 1;
        }
    }

    /// Forgets a page, and what a large page around it has left. `largest` is the log2 of the largest page there was.
    pub(super) fn flush_page(&mut self, lin: Lin, largest: u8) {
        self.flush_slot(self.slot_of(lin));
        let shift = self.shift_of(lin, largest);
        if shift == 12 {
            return;
        }
        // The slots of a large page's parts follow one another, if there is room for them in a row.
        let (first, parts) = (self.slot_of(Lin(lin.0 >> shift << shift)), 1 << (shift - 12));
        let (mut next, end) = match parts <= self.shape.row() {
            true => (first, first + parts),
            false => (0, self.shape.size()),
        };
        while let Some(i) = self.large.next(next, end) {
            if self.arrays[at::LINS + i] >> shift == lin.0 >> shift {
                self.flush_slot(i);
            }
            next = i + 1;
        }
    }

    /// log2 of the size of the largest page in which an address may have been seen, when the largest there was is 2^`largest` bytes.
    pub(super) const fn shift_of(&self, lin: Lin, largest: u8) -> u32 {
        match largest {
            12 => 12,
            23.. if self.giants >> (lin.0 >> 30 & 63) & 1 != 0 => 30,
            _ if self.regions >> (lin.0 >> 21 & 63) & 1 == 0 => 12,
            22 => 22,
            _ => 21,
        }
    }

    fn flush_slot(&mut self, i: usize) {
        self.empty(i);
        self.used.remove(i);
        self.local.remove(i);
        self.large.remove(i);
    }

    fn empty(&mut self, i: usize) {
        self.arrays[at::READ_TAGS + i] = self.shape.empty_tag(i);
        self.arrays[at::WRITE_TAGS + i] = self.shape.empty_tag(i);
        self.arrays[at::CODE_TAGS + i] = self.shape.empty_tag(i);
        self.arrays[at::LINS + i] = 0;
    }

    /// The host page at `host` holds code now: write entries that lead to it become entries for lines without code.
    pub(super) fn protect(&mut self, host: u64) {
        let mut next = 0;
        while let Some(i) = self.used.next(next, self.shape.size()) {
            let tag = self.arrays[at::WRITE_TAGS + i];
            if tag != self.shape.empty_tag(i)
                && tag.wrapping_add(self.arrays[at::WRITE_ADDS + i]) == host
            {
                self.arrays[at::WRITE_TAGS + i] = self.shape.empty_tag(i);
                self.arrays[at::CODE_TAGS + i] = tag;
            }
            next = i + 1;
        }
    }

    /// The remembered translation of `lin`, if it has the rights `need`.
    #[inline]
    pub(super) fn recall(&self, lin: Lin, need: u8) -> Option<Phys> {
        let i = self.slot_of(lin);
        let phys = self.arrays[at::PHYS + i];
        let is_hit = self.arrays[at::LINS + i] == lin.page().0 | KNOWN && phys as u8 & need == need;
        is_hit.then(|| Phys(Phys(phys).page().0 | lin.page_offset()))
    }

    /// Remembers where the page of `lin` is; gives the lowest address bit in which another page differs that had to go for it.
    pub(super) fn remember(&mut self, lin: Lin, page: Page) -> Option<u32> {
        let i = self.slot_of(lin);
        let (known, lin) = (self.arrays[at::LINS + i], lin.page().0);
        let is_other = known != lin | KNOWN;
        if is_other {
            self.flush_slot(i);
        }
        self.used.insert(i);
        if !page.is_global {
            self.local.insert(i);
        }
        self.arrays[at::LINS + i] = lin | KNOWN;
        self.arrays[at::PHYS + i] = page.phys.page().0 | u64::from(page.rights);
        if page.shift > 12 {
            self.large.insert(i);
            match page.shift {
                21 => self.regions |= 1 << (lin >> 21 & 63),
                22 => self.regions |= 3 << (lin >> 21 & 62),
                _ => self.giants |= 1 << (lin >> 30 & 63),
            }
        }
        (is_other && known != 0).then(|| self.shape.differ_at(known, lin))
    }

    /// Enters the host page of a linear page for generated code's reads.
    pub(super) fn enter_read(&mut self, lin: Lin, host: u64) {
        self.enter(at::READ_TAGS, at::READ_ADDS, lin, host);
    }

    /// Enters the host page of a linear page for generated code's writes.
    pub(super) fn enter_write(&mut self, lin: Lin, host: u64) {
        self.enter(at::WRITE_TAGS, at::WRITE_ADDS, lin, host);
        let i = self.slot_of(lin);
        self.arrays[at::CODE_TAGS + i] = self.shape.empty_tag(i);
    }

    /// Enters the host page of a linear page, which holds translated code, for generated code's writes to other lines of it.
    pub(super) fn enter_code(&mut self, lin: Lin, host: u64) {
        self.enter(at::CODE_TAGS, at::WRITE_ADDS, lin, host);
        let i = self.slot_of(lin);
        self.arrays[at::WRITE_TAGS + i] = self.shape.empty_tag(i);
    }

    fn enter(&mut self, tags: usize, adds: usize, lin: Lin, host: u64) {
        let i = self.slot_of(lin);
        self.arrays[adds + i] = host.wrapping_sub(lin.page().0);
        self.arrays[tags + i] = lin.page().0;
        self.used.insert(i);
    }

    /// The host address a read at `lin` would use, if entered.
    pub fn read_host(&self, lin: Lin) -> Option<u64> {
        self.host(at::READ_TAGS, at::READ_ADDS, lin)
    }

    /// The host address a write at `lin` would use, if entered.
    pub fn write_host(&self, lin: Lin) -> Option<u64> {
        self.host(at::WRITE_TAGS, at::WRITE_ADDS, lin)
    }

    /// May generated code write at `lin`, or to those lines of its page that hold no translated code?
    pub(crate) fn may_write(&self, lin: Lin) -> bool {
        let (i, page) = (self.slot_of(lin), lin.page().0);
        self.arrays[at::WRITE_TAGS + i] == page || self.arrays[at::CODE_TAGS + i] == page
    }

    fn host(&self, tags: usize, adds: usize, lin: Lin) -> Option<u64> {
        let i = self.slot_of(lin);
        let is_hit = self.arrays[tags + i] == lin.page().0;
        is_hit.then(|| lin.0.wrapping_add(self.arrays[adds + i]))
    }

    /// Is the page of `lin` known, and global?
    pub(super) fn is_global(&self, lin: Lin) -> bool {
        let i = self.slot_of(lin);
        self.arrays[at::LINS + i] == lin.page().0 | KNOWN && !self.local.has(i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emptied_slots_have_the_tags_of_their_shape() {
        let mut view = View::new();
        let (least, most) = (Shape::plain(LEAST), Shape::plain(SLOTS));
        for shape in [least, Shape::plain(4 * LEAST), most, Shape::split(26), most, least] {
            view.reshape(shape);
            for n in 0..SLOTS as u64 {
                view.enter_read(Lin(n << 14 | n << 12), 0);
                view.enter_write(Lin(n << 14 | n << 12), 0);
                if n % 3 == 0 {
                    view.enter_code(Lin(n << 14 | n << 12), 0);
                }
            }
            view.flush();
            for i in 0..shape.size() {
                for tags in [at::READ_TAGS, at::WRITE_TAGS, at::CODE_TAGS] {
                    assert_eq!(view.arrays[tags + i], shape.empty_tag(i), "slot {i} of {shape:?}");
                }
            }
        }
    }

    #[test]
    fn a_page_is_written_freely_or_but_for_its_code() {
        let mut view = View::new();
        let (lin, slot) = (Lin(0x5000), 5);
        let none = view.shape.empty_tag(slot);
        let tags =
            |view: &View| (view.arrays[at::WRITE_TAGS + slot], view.arrays[at::CODE_TAGS + slot]);
        view.enter_write(lin, 0x9000);
        assert_eq!(tags(&view), (lin.0, none));
        view.protect(0x9000);
        assert_eq!(tags(&view), (none, lin.0));
        assert_eq!(view.write_host(lin), None);
        view.enter_write(lin, 0x9000);
        view.enter_code(lin, 0x9000);
        assert_eq!(tags(&view), (none, lin.0));
        assert_eq!(view.arrays[at::WRITE_ADDS + slot], 0x4000);
        view.flush_page(lin, 12);
        assert_eq!(tags(&view), (none, none));
    }
}
