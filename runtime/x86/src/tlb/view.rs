//! What one kind of access sees: the arrays that generated code reads, and translations for the slow path.

use mem::{Lin, Phys};

use super::shape::Shape;
use super::slots::Slots;
use super::usual::{self, Usual};
use super::{CODE_TAG, LEAST, Page, READ_ADD, READ_TAG, SLOTS, WRITE_ADD, WRITE_TAG};

/// Where the arrays begin, in entries: the four that generated code knows, then linear pages ([`KNOWN`] set) and physical pages with the
/// rights in bits 2:0 of the translations remembered for the slow path, then the tags of pages that may be written but for lines that
/// hold translated code, whose addends stand among those for writes; then the maps of pages at the usual addend.
mod at {
    use super::usual::{MAP, READS, WRITES};
    use super::{CODE_TAG, READ_ADD, READ_TAG, SLOTS, WRITE_ADD, WRITE_TAG};

    pub(super) const READ_TAGS: usize = READ_TAG / 8;
    pub(super) const READ_ADDS: usize = READ_ADD / 8;
    pub(super) const WRITE_TAGS: usize = WRITE_TAG / 8;
    pub(super) const WRITE_ADDS: usize = WRITE_ADD / 8;
    pub(super) const LINS: usize = 4 * SLOTS;
    pub(super) const PHYS: usize = 5 * SLOTS;
    pub(super) const CODE_TAGS: usize = CODE_TAG / 8;
    pub(super) const USUAL_READS: usize = READS / 8;
    pub(super) const USUAL_WRITES: usize = WRITES / 8;
    pub(super) const END: usize = USUAL_WRITES + MAP / 8;
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
    /// Where those of 2 and 4 MiB lie: see [`region`].
    regions: [u64; REGIONS],
    /// Where those of 1 GiB lie: a bit for each, modulo 64.
    giants: u64,
    /// The addend whose pages the maps show; none in views of programs.
    usual: Option<u64>,
    /// Stretches of slots that were ever used, a bit each.
    given: u32,
}

/// Words with a bit for each 2 MiB: of all 4 GiB of 32-bit code, and modulo 4 GiB in either half of what 64-bit code has, so that
/// programs' pages are not taken for parts of the system's large ones.
const REGIONS: usize = 2 * 2048 / 64;

/// The word and the bit of a linear address in so many words.
const fn region(lin: u64) -> (usize, u64) {
    let half = (lin >> 63) as usize * (REGIONS / 2);
    ((lin >> 27) as usize % (REGIONS / 2) + half, 1 << (lin >> 21 & 63))
}

/// Slots whose entries of an array stand in one page of the host.
const STRETCH: usize = 4096 / 8;

const _: () = assert!(SLOTS / STRETCH == 32, "a word has a bit for each");

impl View {
    /// An empty view.
    ///
    /// # Panics
    /// Never: the arrays are as long as they are.
    pub(super) fn new(usual: Option<u64>) -> Box<Self> {
        let arrays = vec![0; at::END].into_boxed_slice();
        let arrays: Box<[u64; at::END]> = arrays.try_into().unwrap_or_else(|_| unreachable!());
        let shape = Shape::plain(LEAST);
        let none = Slots::NONE;
        let (used, local, large) = (none.clone(), none.clone(), none);
        let (regions, giants) = ([0; REGIONS], 0);
        let given = 0;
        let mut view =
            Box::new(Self { arrays, shape, used, local, large, regions, giants, usual, given });
        (0..LEAST).step_by(STRETCH).for_each(|i| view.give(i));
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
        (self.regions, self.giants) = ([0; REGIONS], 0);
    }

    /// Forgets everything but global pages.
    pub(super) fn flush_local(&mut self) {
        let mut next = 0;
        while let Some(i) = self.local.next(next, self.shape.size()) {
            self.flush_slot(i);
            next = i + 1;
        }
    }

    /// Forgets a page, and what a large page around it has left: was anything of it known? `largest` is the log2 of the largest page there was.
    pub(super) fn flush_page(&mut self, lin: Lin, largest: u8) -> bool {
        let i = self.slot_of(lin);
        let mut was_known = self.arrays[at::LINS + i] == lin.page().0 | KNOWN;
        self.flush_slot(i);
        let shift = self.shift_of(lin, largest);
        if shift == 12 {
            return was_known;
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
                was_known = true;
            }
            next = i + 1;
        }
        was_known
    }

    /// The same behind a page fault, mostly of a page that nothing is known of: then the slot may well be another's.
    pub(super) fn forget_faulted(&mut self, lin: Lin, largest: u8) -> bool {
        let is_known = self.arrays[at::LINS + self.slot_of(lin)] == lin.page().0 | KNOWN;
        (is_known || self.shift_of(lin, largest) > 12) && self.flush_page(lin, largest)
    }

    /// log2 of the size of the largest page in which an address may have been seen, when the largest there was is 2^`largest` bytes.
    pub(super) const fn shift_of(&self, lin: Lin, largest: u8) -> u32 {
        let (word, bit) = region(lin.0);
        match largest {
            12 => 12,
            23.. if self.giants >> (lin.0 >> 30 & 63) & 1 != 0 => 30,
            _ if self.regions[word] & bit == 0 => 12,
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
        self.hide(i);
        self.arrays[at::READ_TAGS + i] = self.shape.empty_tag(i);
        self.arrays[at::WRITE_TAGS + i] = self.shape.empty_tag(i);
        self.arrays[at::CODE_TAGS + i] = self.shape.empty_tag(i);
        self.arrays[at::LINS + i] = 0;
    }

    /// The host page at `host` holds code now: write entries that lead to it become entries for lines without code.
    pub(super) fn protect(&mut self, host: u64) {
        let mut next = 0;
        while let Some(i) = self.used.next(next, self.shape.size()) {
            self.protect_slot(i, host);
            next = i + 1;
        }
    }

    /// The same where only the entry in slot `i` can lead to the page.
    #[inline]
    pub(super) fn protect_slot(&mut self, i: usize, host: u64) {
        let tag = self.arrays[at::WRITE_TAGS + i];
        if tag != self.shape.empty_tag(i)
            && tag.wrapping_add(self.arrays[at::WRITE_ADDS + i]) == host
        {
            self.hide_one(at::WRITE_TAGS, i);
            self.arrays[at::WRITE_TAGS + i] = self.shape.empty_tag(i);
            self.arrays[at::CODE_TAGS + i] = tag;
        }
    }

    /// Slot `i` is about to be used.
    #[inline]
    fn prepare(&mut self, i: usize) {
        if self.given >> (i / STRETCH) & 1 == 0 {
            self.give(i);
        }
    }

    /// Nothing was entered yet in the stretch of slot `i`, which is to be used: has the host give memory for all of that. What is read first the host
    /// shows as zeros that all share, and to take these away again it interrupts every processor that runs a thread of this process.
    #[cold]
    fn give(&mut self, i: usize) {
        self.given |= 1 << (i / STRETCH);
        for tags in [at::READ_TAGS, at::WRITE_TAGS, at::CODE_TAGS] {
            self.arrays[tags + i] = self.shape.empty_tag(i);
        }
        for others in [at::LINS, at::PHYS, at::READ_ADDS, at::WRITE_ADDS] {
            self.arrays[others + i] = 0;
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
        self.prepare(i);
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
            // The two halves of 4 MiB stand in one word.
            let (word, bit) = region(lin & !(1 << 21));
            let (_, own) = region(lin);
            match page.shift {
                21 => self.regions[word] |= own,
                22 => self.regions[word] |= bit | bit << 1,
                _ => self.giants |= 1 << (lin >> 30 & 63),
            }
        }
        (is_other && known != 0).then(|| self.shape.differ_at(known, lin))
    }

    /// Enters the host page of a linear page for generated code's reads.
    pub(super) fn enter_read(&mut self, lin: Lin, host: u64) {
        self.enter(at::READ_TAGS, at::READ_ADDS, lin, host);
    }

    /// Enters the host page of a linear page for generated code's writes; gives its slot.
    pub(super) fn enter_write(&mut self, lin: Lin, host: u64) -> usize {
        self.enter(at::WRITE_TAGS, at::WRITE_ADDS, lin, host);
        let i = self.slot_of(lin);
        self.arrays[at::CODE_TAGS + i] = self.shape.empty_tag(i);
        i
    }

    /// Enters the host page of a linear page, which holds translated code, for generated code's writes to other lines of it.
    pub(super) fn enter_code(&mut self, lin: Lin, host: u64) {
        let i = self.slot_of(lin);
        self.hide_one(at::WRITE_TAGS, i);
        self.enter(at::CODE_TAGS, at::WRITE_ADDS, lin, host);
        self.arrays[at::WRITE_TAGS + i] = self.shape.empty_tag(i);
    }

    fn enter(&mut self, tags: usize, adds: usize, lin: Lin, host: u64) {
        let i = self.slot_of(lin);
        self.prepare(i);
        self.hide_one(tags, i);
        self.arrays[adds + i] = host.wrapping_sub(lin.page().0);
        self.arrays[tags + i] = lin.page().0;
        self.used.insert(i);
        self.show(tags, adds, i);
    }

    /// The maps show pages with this addend from now on.
    pub(super) fn set_usual(&mut self, addend: u64) {
        let mut next = 0;
        while let Some(i) = self.used.next(next, self.shape.size()) {
            self.hide(i);
            next = i + 1;
        }
        self.usual = Some(addend);
        next = 0;
        while let Some(i) = self.used.next(next, self.shape.size()) {
            self.show(at::READ_TAGS, at::READ_ADDS, i);
            self.show(at::WRITE_TAGS, at::WRITE_ADDS, i);
            next = i + 1;
        }
    }

    /// Shows the page in slot `i` of `tags` on the map, if it has the usual addend.
    #[inline]
    fn show(&mut self, tags: usize, adds: usize, i: usize) {
        let (tag, add) = (self.arrays[tags + i], self.arrays[adds + i]);
        if self.usual == Some(add) && tag != self.shape.empty_tag(i) {
            self.map(tags).show(tag);
        }
    }

    /// The pages of slot `i` are no longer on the maps.
    #[inline]
    fn hide(&mut self, i: usize) {
        if self.usual.is_some() {
            self.hide_one(at::READ_TAGS, i);
            self.hide_one(at::WRITE_TAGS, i);
        }
    }

    #[inline]
    fn hide_one(&mut self, tags: usize, i: usize) {
        let tag = self.arrays[tags + i];
        if self.usual.is_some() && tag != self.shape.empty_tag(i) {
            self.map(tags).hide(tag);
        }
    }

    /// The map that goes with tags; what goes with none of its own is not to be seen.
    #[inline]
    fn map(&mut self, tags: usize) -> Usual<'_> {
        let from = match tags {
            at::READ_TAGS => at::USUAL_READS,
            at::WRITE_TAGS => at::USUAL_WRITES,
            _ => return Usual(&mut []),
        };
        Usual(&mut self.arrays[from..from + usual::MAP / 8])
    }

    /// Do the maps of a page at `lin` say that generated code may read and write it at the usual addend?
    #[cfg(test)]
    pub(super) fn is_usual(&mut self, lin: Lin) -> (u8, u8) {
        (self.map(at::READ_TAGS).at(lin.0), self.map(at::WRITE_TAGS).at(lin.0))
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
        let mut view = View::new(None);
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
    fn maps_show_what_lies_at_the_usual_addend() {
        let mut view = View::new(Some(0x7000));
        let at = |n: u64| Lin(n << 12);
        let host = |n: u64| (n << 12) + 0x7000;
        view.enter_read(at(5), host(5));
        view.enter_write(at(5), host(5));
        assert_eq!((view.is_usual(at(5)), view.is_usual(at(4))), ((1, 1), (2, 2)));
        // Another addend, a page without rights to write, the page behind the last, and one of no 32-bit code.
        view.enter_read(at(6), host(7));
        view.enter_read(at(4), host(4));
        view.enter_read(at(0), host(0));
        view.enter_read(at(0x100_0005), host(0x100_0005));
        assert_eq!((view.is_usual(at(5)), view.is_usual(at(4))), ((0, 1), (1, 2)));
        assert_eq!(view.is_usual(at(0xF_FFFF)), (0, 0));
        view.flush_page(at(0x100_0005), 12);
        view.enter_read(at(5), host(5));
        view.enter_write(at(5), host(5));
        assert_eq!((view.is_usual(at(5)), view.is_usual(at(4))), ((1, 1), (3, 2)));
        // It holds code, or it does not, or it goes.
        view.protect(host(5));
        assert_eq!((view.is_usual(at(5)), view.is_usual(at(4))), ((1, 0), (3, 0)));
        view.enter_write(at(5), host(5));
        assert_eq!(view.is_usual(at(5)), (1, 1));
        view.enter_code(at(5), host(5));
        assert_eq!(view.is_usual(at(5)), (1, 0));
        view.flush_page(at(5), 12);
        assert_eq!((view.is_usual(at(5)), view.is_usual(at(4))), ((0, 0), (1, 0)));
        // Another addend is the usual one.
        view.set_usual(0x8000);
        assert_eq!((view.is_usual(at(5)), view.is_usual(at(6))), ((2, 0), (1, 0)));
        assert_eq!(view.is_usual(at(4)), (0, 0));
        view.flush();
        assert!(view.arrays[at::USUAL_READS..].iter().all(|&word| word == 0));
        assert_eq!(View::new(None).usual, None);
    }

    /// Whatever is entered and forgotten, a map shows nothing that tags and addends do not, and all of it.
    #[test]
    fn maps_agree_with_the_tags() {
        let mut view = View::new(Some(0));
        let mut seed = 1u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (seed >> 33) % n
        };
        for step in 0..40_000 {
            let page = [random(4), random(3000), 0xF_FFFC + random(8)][random(3) as usize];
            let lin = Lin(page << 12);
            let host = lin.0.wrapping_add([0, 0x3000][random(2) as usize]);
            let shift = [12, 21][random(2) as usize];
            let page = Page { phys: Phys(0), rights: 3, shift, is_global: random(2) == 0 };
            match random(40) {
                0 => view.protect(host),
                1 => _ = view.flush_page(lin, 21),
                2 if step % 100 == 0 => view.flush_local(),
                3 if step % 100 == 1 => view.set_usual([0, 0x3000][random(2) as usize]),
                4 if step % 100 == 2 => view.reshape(Shape::plain(LEAST << random(3))),
                n => {
                    view.remember(lin, page);
                    view.enter_read(lin, host);
                    match n % 3 {
                        0 => _ = view.enter_write(lin, host),
                        1 => view.enter_code(lin, host),
                        _ => {}
                    }
                }
            }
            if step % 1000 != 0 {
                continue;
            }
            for page in (0..3100u64).chain(0xF_FFF0..0x10_0000) {
                let is_here = |tags: usize, adds: usize, page: u64| {
                    let i = view.slot_of(Lin(page << 12));
                    let is_entered =
                        page < usual::MAP as u64 && view.arrays[tags + i] == page << 12;
                    u8::from(is_entered && Some(view.arrays[adds + i]) == view.usual)
                };
                let byte =
                    |tags, adds| is_here(tags, adds, page) | is_here(tags, adds, page + 1) << 1;
                let want =
                    (byte(at::READ_TAGS, at::READ_ADDS), byte(at::WRITE_TAGS, at::WRITE_ADDS));
                assert_eq!(view.is_usual(Lin(page << 12)), want, "page {page:x}, step {step}");
            }
        }
    }

    #[test]
    fn a_page_is_written_freely_or_but_for_its_code() {
        let mut view = View::new(None);
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
