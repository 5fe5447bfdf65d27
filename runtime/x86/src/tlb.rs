//! The software TLB: for each view (who accesses) four arrays that generated code reads directly, and
//! translations for the slow path. Beside it, the jump tables.
//!
//! Slot i of an empty array holds a tag whose index is not i, so that no address ever matches it;
//! there is no valid bit to test. Only plain RAM is entered: MMIO never, ROM for reads, and pages
//! that hold translated code for reads. A `Tlb` never follows a host address: they are numbers here.
//!
//! Views that see pages of programs exist once per address space (PCID), a few of which are kept. What must be
//! forgotten in a space that is not current is noted, and forgotten when it is entered. Every view knows which of
//! its slots are in use, so that forgetting costs by what was entered, not by the size of the arrays.

mod asleep;
mod jump;
mod shape;
mod slots;
mod targets;
pub mod usual;
mod view;
mod writers;

use mem::{Lin, Phys};

use shape::Shape;
use writers::{Known, Writer, Writers};

pub use jump::{ANNEX, ANNEX_FACTOR, ANNEX_SHIFT, JUMP_HOST, JUMP_MASK, JUMPS, Jumps};
pub use view::View;

/// Slots per array, at most.
pub const SLOTS: usize = 16384;
/// Slots in use at first. Few of them are quickly forgotten and stay in the host's cache; more are taken into use when pages drive each
/// other out.
const LEAST: usize = 1024;
/// So many pages driven out that filling all slots once more is little beside it.
const MOST_PATIENCE: usize = 64 * SLOTS;
/// Byte offset of the read tags in a view.
pub const READ_TAG: usize = 0;
/// Byte offset of the read addends.
pub const READ_ADD: usize = 8 * SLOTS;
/// Byte offset of the write tags.
pub const WRITE_TAG: usize = 16 * SLOTS;
/// Byte offset of the write addends.
pub const WRITE_ADD: usize = 24 * SLOTS;

/// Byte offset of the tags of pages that may be written but for lines with translated code; their addends are the write addends.
pub const CODE_TAG: usize = 48 * SLOTS;

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

/// A page of guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostPage {
    /// Its address in the host.
    pub(crate) at: u64,
    /// Its number in guest RAM.
    pub(crate) number: u64,
}

/// Address spaces whose translations are kept.
const SPACES: usize = 8;
/// By how much the usual addend may lead, and lead when all is forgotten: pages of programs that the system looks at do not turn it, another
/// mapping soon does.
const MOST_LEAD: u16 = 1024;
const LEAST_LEAD: u16 = 8;
/// By how much another must lead to become the usual one: that costs a look at all pages entered.
const ENOUGH_LEAD: u16 = 4;
/// Things to be forgotten later, before all is forgotten instead.
const BEHIND: usize = 32;

/// The translations of one address space, by PCID, beyond those of the supervisor's own view.
struct Space {
    pcid: u16,
    /// Changes whenever its translations are forgotten: tells jump targets of one time from those of another.
    id: u64,
    user: Box<View>,
    with_ac: Box<View>,
    /// When it was left.
    left: u64,
    /// What must be forgotten before it is used again.
    behind: Vec<Behind>,
}

/// What happened while another address space was current.
#[derive(Clone, Copy, Debug)]
enum Behind {
    /// A page was invalidated.
    Page(Lin),
    /// The host page at this address holds translated code now.
    Protect(u64),
}

impl Space {
    fn new(pcid: u16, id: u64, shape: Shape, usual: u64) -> Self {
        let (mut user, mut with_ac) = (View::new(None), View::new(Some(usual)));
        user.reshape(shape);
        with_ac.reshape(shape);
        Self { pcid, id, user, with_ac, left: 0, behind: Vec::new() }
    }

    fn flush(&mut self, id: u64) {
        self.user.flush();
        self.with_ac.flush();
        self.behind.clear();
        self.id = id;
    }

    fn forget(&mut self, what: Behind, largest: u8) {
        for view in [&mut self.user, &mut self.with_ac] {
            match what {
                Behind::Page(lin) => _ = view.flush_page(lin, largest),
                Behind::Protect(host) => view.protect(host),
            }
        }
    }
}

/// All views.
pub struct Tlb {
    supervisor: Box<View>,
    closed: Box<View>,
    /// Never empty.
    spaces: Vec<Space>,
    current: usize,
    /// Ids given to spaces so far; also the time of their use.
    ids: u64,
    /// log2 of the largest page entered since the last flush.
    largest: u8,
    /// Slots in use in every view.
    shape: Shape,
    /// Pages that were driven out by others since the shape was looked at, and times that pages were forgotten.
    evicted: usize,
    /// How many may be driven out before the shape is looked at.
    patience: usize,
    /// Of those driven out, how many differ first in each address bit from what drove them out.
    differed: [u32; 64],
    forgotten: usize,
    /// The addend that most pages entered for supervisors have had of late, and by how many it leads.
    leads: (u64, u16),
    /// The one that generated code takes pages to have, and that maps are of.
    usual: u64,
    writers: Writers,
}

impl Default for Tlb {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Tlb {
    /// An empty one, for so many pages of guest RAM.
    pub(crate) fn new(pages: usize) -> Self {
        Self {
            supervisor: View::new(Some(0)),
            closed: View::new(None),
            spaces: vec![Space::new(0, 1, Shape::plain(LEAST), 0)],
            current: 0,
            ids: 1,
            largest: 12,
            shape: Shape::plain(LEAST),
            evicted: 0,
            patience: 4 * LEAST,
            differed: [0; 64],
            forgotten: 0,
            leads: (0, 0),
            usual: 0,
            writers: Writers::new(pages),
        }
    }

    fn space(&self) -> &Space {
        &self.spaces[self.current]
    }

    /// One view, of the current address space.
    pub fn view(&self, id: ViewId) -> &View {
        match id {
            ViewId::Supervisor => &self.supervisor,
            ViewId::User => &self.space().user,
            ViewId::SupervisorAc => &self.space().with_ac,
            ViewId::Closed => &self.closed,
        }
    }

    fn view_mut(&mut self, id: ViewId) -> &mut View {
        let space = &mut self.spaces[self.current];
        match id {
            ViewId::Supervisor => &mut self.supervisor,
            ViewId::User => &mut space.user,
            ViewId::SupervisorAc => &mut space.with_ac,
            ViewId::Closed => &mut self.closed,
        }
    }

    /// Host address of a view, for generated code.
    pub fn base(&mut self, id: ViewId) -> u64 {
        self.view_mut(id).base()
    }

    /// The `pext` mask of `CpuState::tlb_mask`: address bits that select the slot.
    pub(crate) const fn mask(&self) -> u64 {
        self.shape.mask()
    }

    /// Takes more slots into use when pages have driven each other out often, or others if there are no more; fewer when many are of no
    /// use, since pages are forgotten before they come back. Everything entered is forgotten when it says true, and [`Tlb::mask`] is another.
    #[inline]
    pub(crate) fn adapt(&mut self) -> bool {
        (self.evicted >= self.patience || self.forgotten >= 1024) && self.reshape()
    }

    #[cold]
    fn reshape(&mut self) -> bool {
        let size = self.shape.size();
        let is_kept = 16 * self.evicted >= self.forgotten * size;
        let shape = match is_kept {
            false => Shape::plain(LEAST),
            true if size < SLOTS => Shape::plain(4 * size),
            true => self.less_crowded(),
        };
        (self.evicted, self.forgotten) = (0, 0);
        self.differed.fill(0);
        if shape == self.shape {
            return false;
        }
        // What goes through too many pages in no order has the shape changed in vain: then ever more rarely.
        self.patience = match shape.size() == size {
            true => MOST_PATIENCE.min(2 * self.patience),
            false => 4 * shape.size(),
        };
        self.shape = shape;
        self.writers.forget_all();
        self.supervisor.reshape(shape);
        self.closed.reshape(shape);
        for space in &mut self.spaces {
            space.user.reshape(shape);
            space.with_ac.reshape(shape);
        }
        true
    }

    /// All slots, for pages as they differ. Where no bits tell most of them apart, there are just too many.
    fn less_crowded(&self) -> Shape {
        let told_apart =
            |&bit: &usize| -> u32 { self.differed[bit..bit + shape::HIGH].iter().sum() };
        let most = (12..=64 - shape::HIGH).max_by_key(told_apart).unwrap_or(12);
        match 4 * told_apart(&most) as usize >= 3 * self.evicted {
            true => Shape::split(most as u32),
            false => self.shape,
        }
    }

    /// A number for the current address space as long as its translations are kept.
    pub(crate) fn space_id(&self) -> u64 {
        self.space().id
    }

    const fn new_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Forgets every translation of all views (not the jump tables: see `Cpu::flush_jumps`). The current address space is `pcid`.
    pub fn flush(&mut self, pcid: u16) {
        self.forgotten += 1;
        let known = self.spaces.iter().position(|space| space.pcid == pcid);
        self.current = known.unwrap_or(self.current);
        self.spaces[self.current].pcid = pcid;
        self.supervisor.flush();
        self.closed.flush();
        for n in 0..self.spaces.len() {
            let id = self.new_id();
            self.spaces[n].flush(id);
        }
        self.writers.forget_all();
        self.largest = 12;
        self.leads.1 = self.leads.1.min(LEAST_LEAD);
    }

    /// Goes to another address space. What is known of it is kept if `keeps`.
    pub(crate) fn enter_space(&mut self, pcid: u16, keeps: bool) {
        self.forgotten += 1;
        self.supervisor.flush_local();
        let (time, largest) = (self.new_id(), self.largest);
        self.spaces[self.current].left = time;
        let known = self.spaces.iter().position(|space| space.pcid == pcid);
        self.current = known.unwrap_or_else(|| self.make_room(pcid));
        let id = self.new_id();
        let space = &mut self.spaces[self.current];
        if known.is_none() || !keeps {
            space.flush(id);
        }
        for n in 0..space.behind.len() {
            space.forget(space.behind[n], largest);
        }
        space.behind.clear();
    }

    /// A place for an address space: the one left longest ago, if there are enough.
    fn make_room(&mut self, pcid: u16) -> usize {
        if self.spaces.len() < SPACES {
            self.spaces.push(Space::new(pcid, 0, self.shape, self.usual));
            return self.spaces.len() - 1;
        }
        let oldest = (0..SPACES).min_by_key(|&n| self.spaces[n].left).unwrap_or(0);
        self.spaces[oldest].pcid = pcid;
        oldest
    }

    /// Forgets the address space `pcid`, its global pages excepted.
    pub(crate) fn flush_space(&mut self, pcid: u16) {
        if self.space().pcid == pcid {
            self.supervisor.flush_local();
        }
        let id = self.new_id();
        if let Some(space) = self.spaces.iter_mut().find(|space| space.pcid == pcid) {
            space.flush(id);
        }
    }

    /// Forgets every translation but those of global pages.
    pub(crate) fn flush_local(&mut self) {
        self.forgotten += 1;
        self.supervisor.flush_local();
        for n in 0..self.spaces.len() {
            let id = self.new_id();
            self.spaces[n].flush(id);
        }
    }

    /// Is `id` the number of an address space that is kept?
    pub(crate) fn has_space(&self, id: u64) -> bool {
        self.spaces.iter().any(|space| space.id == id)
    }

    /// log2 of the sizes of what INVLPG of `lin` concerns of the system's code and of programs' code.
    pub(crate) fn shifts_of(&self, lin: Lin) -> (u32, u32) {
        let shift = |view: &View| view.shift_of(lin, self.largest);
        let of_spaces = |view: fn(&Space) -> &View| {
            self.spaces.iter().map(|space| shift(view(space))).max().unwrap_or(12)
        };
        let system = shift(&self.supervisor).max(of_spaces(|space| &space.with_ac));
        (system, of_spaces(|space| &space.user))
    }

    /// Forgets one page in all views; all of it, if it may be a large one.
    pub fn flush_page(&mut self, lin: Lin) {
        let largest = self.largest;
        self.supervisor.flush_page(lin, largest);
        self.closed.flush_page(lin, largest);
        self.forget(Behind::Page(lin), None);
    }

    /// Forgets what the current address space sees of one page: was anything of it known?
    pub(crate) fn forget_faulted(&mut self, lin: Lin) -> bool {
        let (largest, space) = (self.largest, &mut self.spaces[self.current]);
        let views = [&mut self.supervisor, &mut self.closed, &mut space.user, &mut space.with_ac];
        let mut was_known = false;
        for view in views {
            was_known |= view.forget_faulted(lin, largest);
        }
        was_known
    }

    /// Forgets one page of the address space `pcid`.
    pub(crate) fn flush_page_of(&mut self, pcid: u16, lin: Lin) {
        if self.space().pcid == pcid {
            return self.flush_page(lin);
        }
        self.forget(Behind::Page(lin), Some(pcid));
    }

    /// A page of guest RAM holds translated code now.
    pub(crate) fn protect(&mut self, page: HostPage) {
        match self.writers.take(page.number) {
            Known::None => {}
            Known::One(Writer { slot, view, space }) => {
                if view == ViewId::Supervisor || space == self.current {
                    self.view_mut(view).protect_slot(slot, page.at);
                } else {
                    self.forget_later(space, Behind::Protect(page.at));
                }
            }
            Known::Many => {
                self.supervisor.protect(page.at);
                self.forget(Behind::Protect(page.at), None);
            }
        }
    }

    /// Has the address spaces, or one of them, forget something: the current one now, others when they are entered.
    fn forget(&mut self, what: Behind, only: Option<u16>) {
        let largest = self.largest;
        for n in 0..self.spaces.len() {
            if only.is_some_and(|pcid| self.spaces[n].pcid != pcid) {
                continue;
            }
            if n == self.current {
                self.spaces[n].forget(what, largest);
            } else {
                self.forget_later(n, what);
            }
        }
    }
    /// Has an address space that is not the current one forget something when it is entered.
    fn forget_later(&mut self, n: usize, what: Behind) {
        if self.spaces[n].behind.len() < BEHIND {
            self.spaces[n].behind.push(what);
        } else {
            let id = self.new_id();
            self.spaces[n].flush(id);
        }
    }

    /// The remembered translation of `lin`, if it has the rights `need`.
    #[inline]
    pub(crate) fn recall(&self, lin: Lin, need: u8, id: ViewId) -> Option<Phys> {
        self.view(id).recall(lin, need)
    }

    /// Remembers where the page of `lin` is.
    pub(crate) fn remember(&mut self, lin: Lin, page: Page, id: ViewId) {
        self.largest = self.largest.max(page.shift);
        if let Some(bit) = self.view_mut(id).remember(lin, page) {
            self.evicted += 1;
            self.differed[bit as usize & 63] += 1;
        }
    }

    /// Enters the host page of a linear page for generated code's reads.
    pub(crate) fn enter_read(&mut self, lin: Lin, host: u64, id: ViewId) {
        self.view_mut(id).enter_read(lin, host);
    }

    /// Enters the host page of a linear page for generated code's writes.
    pub(crate) fn enter_write(&mut self, lin: Lin, page: HostPage, id: ViewId) {
        let slot = self.view_mut(id).enter_write(lin, page.at);
        let space = if id == ViewId::Supervisor { 0 } else { self.current };
        self.writers.note(page.number, Writer { slot, view: id, space });
    }

    /// A page with this addend was entered for a supervisor: which addend most of them have (by Boyer and Moore's vote).
    pub(crate) fn usual_addend(&mut self, addend: u64) -> u64 {
        let (leader, lead) = self.leads;
        self.leads = match lead {
            _ if leader == addend => (leader, (lead + 1).min(MOST_LEAD)),
            0 => (addend, 1),
            _ => (leader, lead - 1),
        };
        if self.leads.0 != self.usual && self.leads.1 >= ENOUGH_LEAD {
            self.usual = self.leads.0;
            self.supervisor.set_usual(self.usual);
            self.spaces.iter_mut().for_each(|space| space.with_ac.set_usual(self.usual));
        }
        self.usual
    }

    /// The addend of `CpuState::usual_addend`.
    pub(crate) const fn usual(&self) -> u64 {
        self.usual
    }

    /// Enters the host page of a linear page for generated code's writes to lines that hold no translated code.
    pub(crate) fn enter_code(&mut self, lin: Lin, host: u64, id: ViewId) {
        self.view_mut(id).enter_code(lin, host);
    }

    /// Is the page of supervisor code at `lin` known, and global?
    pub(crate) fn is_global(&self, lin: Lin) -> bool {
        self.supervisor.is_global(lin)
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
    fn slots_follow_the_need() {
        let mut tlb = Tlb::default();
        let page = Page { phys: Phys(0), rights: right::R, shift: 12, is_global: false };
        let touch = |tlb: &mut Tlb, n: u64| {
            let lin = Lin(n << 12);
            let missed = tlb.recall(lin, right::R, ViewId::User).is_none();
            if missed {
                tlb.adapt();
                tlb.remember(lin, page, ViewId::User);
                tlb.enter_read(lin, 0, ViewId::User);
            }
            missed
        };
        let misses = |tlb: &mut Tlb| (0..16_000).filter(|&n| touch(tlb, n)).count();
        assert_eq!(misses(&mut tlb), 16_000);
        (0..3).for_each(|_| _ = misses(&mut tlb));
        assert_eq!((misses(&mut tlb), tlb.mask()), (0, 0x3FF_F000));
        for _ in 0..2000 {
            tlb.flush_local();
            assert!(touch(&mut tlb, 7));
        }
        assert_eq!(tlb.mask(), 0x3F_F000);
        assert!(!touch(&mut tlb, 7));
    }

    #[test]
    fn arrays_side_by_side_get_slots_of_their_own() {
        let mut tlb = Tlb::default();
        let page = Page { phys: Phys(0), rights: right::R, shift: 21, is_global: false };
        let mut missed = 0;
        for n in 0..1 << 17 {
            missed = 0;
            for array in 3..9 {
                let lin = Lin(array << 28 | (n & 0x3FF) << 12);
                if tlb.recall(lin, right::R, ViewId::User).is_none() {
                    tlb.adapt();
                    tlb.remember(lin, page, ViewId::User);
                    missed += 1;
                }
            }
        }
        assert_eq!((missed, tlb.mask()), (0, 0x7 << 28 | 0x7F_F000));
        assert_eq!(tlb.shifts_of(Lin(3 << 28)), (12, 21));
        tlb.flush_page(Lin(3 << 28 | 0x12_3000));
        let is_known = |lin| tlb.recall(Lin(lin), right::R, ViewId::User).is_some();
        let pages = [3 << 28, 3 << 28 | 0x1F_F000, 3 << 28 | 0x20_0000, 8 << 28];
        assert_eq!(pages.map(is_known), [false, false, true, true]);
    }

    #[test]
    fn entries_translate_and_go() {
        let mut tlb = Tlb::default();
        tlb.enter_read(Lin(0x40_1000), 0x7f00_0000_0000, ViewId::Supervisor);
        let page = HostPage { at: 0x7f00_0000_0000, number: 0 };
        tlb.enter_write(Lin(0x40_1000), page, ViewId::Supervisor);
        assert_eq!(tlb.view(ViewId::Supervisor).read_host(Lin(0x40_1234)), Some(0x7f00_0000_0234));
        assert_eq!(tlb.view(ViewId::Supervisor).read_host(Lin(0x1234)), None);
        assert_eq!(tlb.view(ViewId::User).read_host(Lin(0x40_1234)), None);
        tlb.protect(page);
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
        tlb.flush(0);
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
        for (lin, shift) in [(0x40_3000, 21), (0x8000_1000, 30), (0xBFFF_F000, 30)] {
            let page = Page { phys: Phys(lin), rights: right::R, shift, is_global: false };
            tlb.remember(Lin(lin), page, ViewId::Supervisor);
        }
        assert_eq!(tlb.shifts_of(Lin(0x9000_0000)), (30, 12));
        assert_eq!(tlb.shifts_of(Lin(0x50_0000)), (21, 12));
        let others = (1..2048)
            .map(|n| Lin(n << 21 | 0x10_0000))
            .filter(|lin| !matches!(lin.0 >> 21, 2 | 0x400..0x600));
        assert!(
            others.into_iter().all(|lin| tlb.shifts_of(lin) == (12, 12)),
            "32 bits have no pages that look alike"
        );
        assert_eq!(
            tlb.shifts_of(Lin(0xFFFF_8880_0050_0000)),
            (12, 12),
            "nor have the halves of 64"
        );
        tlb.flush_page(Lin(0x9000_0000));
        let all = [0x40_3000, 0x8000_1000, 0xBFFF_F000];
        assert_eq!(all.map(|lin| found(&tlb, lin)), [true, false, false]);
    }
}
