//! Jump tables: where the code of a jump's target stands, by instruction pointer. Generated code reads them, the run loop
//! fills them.
//!
//! A table belongs to one translation context, so that the instruction pointer alone tells whether an entry is the one
//! wanted; [`CpuState::jump_base`](crate::state::CpuState::jump_base) leads to that of the current context. When a page is
//! remapped, the entries that lead to it are emptied, and those to the page before it, whose last insn may reach over.
//!
//! Two targets may want one entry and take turns. What an entry held before goes to the *annex*, found by a hash of the instruction
//! pointer, where a jump looks that has met another's entry.
//!
//! What is mapped anew is mostly mapped as before. So the entries of a table that is emptied sleep, page by page, with the place in
//! memory that they were made from. The first jump that misses to a page finds out where it lies now: if that is the same
//! place, its entries are back all at once.
//!
//! An empty entry has the tag 0, which is another's but in the first entry and the annex's first: these lead to code that leaves as a miss does
//! ([`Jumps::set_up`]). So no target matches an entry that another's jump has not made, not even while
//! [`CpuState::jump_mask`](crate::state::CpuState::jump_mask) is 0 and every jump looks at entry 0. A new table is memory that nobody has touched,
//! of which the host gives what is used.

use mem::Lin;

use super::asleep::{Asleep, LAST_OWN};
use super::targets::Targets;
use crate::cpu::Context;

/// Entries of a table.
pub const JUMPS: usize = 1 << 17;
/// Bits of an instruction pointer below those that select the entry: as many as an index register can be scaled by. Two targets a byte
/// apart hardly ever take turns; behind a branch over a short insn they do that are two or three apart.
const JUMP_SHIFT: u32 = 1;
/// The mask in `CpuState::jump_mask`: bits of an instruction pointer that select the entry. Where they stand they are an eighth of
/// its byte offset.
pub const JUMP_MASK: u32 = (JUMPS as u32 - 1) << JUMP_SHIFT;
/// Byte offset of the host address in an entry; the tag comes first.
pub const JUMP_HOST: usize = 8;

/// log2 of the entries of the annex, which stands behind the others.
const ANNEX_BITS: u32 = 12;
/// The low half of an instruction pointer is multiplied by this; the product's upper bits select the entry of the annex.
pub const ANNEX_FACTOR: u32 = 0x61C8_8647;
/// By how many bits that product is to be shifted right.
pub const ANNEX_SHIFT: u32 = 32 - ANNEX_BITS;
/// Byte offset of the annex.
pub const ANNEX: usize = JUMPS * size_of::<Slot>();

/// What generated code sees of an entry: the instruction pointer, and where its host code stands.
pub(super) type Slot = [u64; 2];

const _: () = assert!(size_of::<Slot>() == 8 << JUMP_SHIFT);

/// The entry for an instruction pointer.
const fn entry_of(pc: u64) -> usize {
    (pc >> JUMP_SHIFT) as usize % JUMPS
}

/// The entry of the annex for an instruction pointer.
const fn annex_of(pc: u64) -> usize {
    JUMPS + ((pc as u32).wrapping_mul(ANNEX_FACTOR) >> ANNEX_SHIFT) as usize
}

const _: () = assert!(entry_of(0) == 0 && annex_of(0) == JUMPS);

/// Entries for one page of code: so many stretches has a table.
const STRETCH: usize = 4096 >> JUMP_SHIFT;
/// Entries in a page of the host.
const HOST_PAGE: usize = 4096 / size_of::<Slot>();

const _: () = assert!(JUMPS / STRETCH == 64, "a word has a bit for each");

/// What holds for all tables.
#[derive(Clone, Copy)]
struct Fixed {
    /// Where the entries lead that instruction pointer 0 has while they are empty.
    miss: u64,
    /// Entries sleep.
    sleeps: bool,
    /// What takes turns goes to the annex.
    has_annex: bool,
}

/// The table of one context.
struct Table {
    slots: Box<[Slot]>,
    /// Stretches that something was entered in, a bit each.
    given: u64,
    targets: Targets,
    fixed: Fixed,
    /// `None`: what it holds is of no use any more.
    context: Option<Context>,
    /// Whose entries it holds, if they are to sleep when it is emptied.
    holds: Option<Context>,
    /// When it was entered.
    entered: u64,
}

impl Table {
    fn new(fixed: Fixed) -> Self {
        let slots = vec![[0; 2]; JUMPS + (1 << ANNEX_BITS)].into();
        let targets = Targets::default();
        let mut table =
            Self { slots, given: 0, targets, fixed, context: None, holds: None, entered: 0 };
        table.set_fixed(fixed);
        table
    }

    /// Makes it one of these tables. It is empty.
    fn set_fixed(&mut self, fixed: Fixed) {
        self.fixed = fixed;
        for i in [0, JUMPS] {
            Self::empty(&mut self.slots, i, fixed.miss);
        }
    }

    fn empty(slots: &mut [Slot], i: usize, miss: u64) {
        slots[i] = [0, if i.is_multiple_of(JUMPS) { miss } else { 0 }];
    }

    /// The entry `i` is about to be written, the first one of its stretch: has the host give memory for all of it. What is read first,
    /// as jumps do, the host shows as zeros that all share, and to take these away again it interrupts every processor that runs a
    /// thread of this process.
    #[cold]
    fn give(&mut self, i: usize) {
        self.given |= 1 << (i / STRETCH);
        let first = i / STRETCH * STRETCH;
        for i in (first..first + STRETCH).step_by(HOST_PAGE) {
            Self::empty(&mut self.slots, i, self.fixed.miss);
        }
    }

    /// Is nothing entered there?
    fn is_free(&self, i: usize) -> bool {
        self.slots[i][0] == 0 && [0, self.fixed.miss].contains(&self.slots[i][1])
    }

    /// Is an entry that of instruction pointer `pc`?
    fn is_of(&self, i: usize, pc: u64) -> bool {
        self.slots[i][0] == pc && !self.is_free(i)
    }

    /// Empties it, at the cost of what was noted.
    fn clear(&mut self) {
        let (slots, miss) = (&mut self.slots, self.fixed.miss);
        self.targets.take_all(|i| Self::empty(slots, i, miss));
    }

    /// Empties it, and lays down what it holds.
    fn lay_down(&mut self, asleep: &mut Asleep) {
        let context = self.holds;
        for (page, leads) in self.targets.plain() {
            let Some(context) = context.filter(|_| self.fixed.sleeps) else { break };
            let slots = leads.entries().map(|i| self.slots[i]);
            // An insn at a page's end may reach over, and an entry noted here may be another page's by now.
            let is_own = |&[pc, _]: &Slot| {
                let lin = context.lin_of(pc);
                lin >> 12 == page && lin & 0xFFF <= LAST_OWN
            };
            asleep.lay_down(context, page, leads.place(), slots.filter(is_own));
        }
        self.clear();
    }

    /// Enters a target.
    fn note(&mut self, pc: u64, lin: Lin, [host, place]: [u64; 2]) {
        let i = entry_of(pc);
        if self.given >> (i / STRETCH) & 1 == 0 {
            self.give(i);
        }
        if self.is_of(i, pc) {
            // The entry that this jump has already is noted.
            self.targets.compare(lin, place);
        } else {
            if !self.is_free(i) {
                self.put_by(self.slots[i]);
            }
            if !self.targets.note(lin, place, i) {
                self.clear();
                self.targets.note(lin, place, i);
            }
        }
        self.slots[i] = [pc, host];
    }

    /// Has an entry in the annex, if its page is known.
    fn put_by(&mut self, slot: Slot) {
        let holds = self.holds.filter(|_| self.fixed.has_annex);
        let Some(lin) = holds.map(|context| Lin(context.lin_of(slot[0]))) else { return };
        let i = annex_of(slot[0]);
        if self.is_of(i, slot[0]) || self.targets.note_like(lin, i) {
            self.slots[i] = slot;
        }
    }

    /// Enters a target where that takes no other's place, if it is in no entry yet.
    fn add(&mut self, pc: u64, lin: Lin, leads: [u64; 2]) {
        if self.is_free(entry_of(pc)) {
            self.note(pc, lin, leads);
        } else if !self.is_of(entry_of(pc), pc) && self.is_free(annex_of(pc)) {
            self.put_by([pc, leads[0]]);
        }
    }

    /// Where it leads from an instruction pointer, if it knows.
    fn known(&self, pc: u64) -> Option<u64> {
        let mut places = [entry_of(pc), annex_of(pc)].into_iter();
        places.find(|&i| self.is_of(i, pc)).map(|i| self.slots[i][1])
    }
}

/// Tables that are kept.
const KEPT: usize = 24;

/// The tables of the contexts used last.
pub struct Jumps {
    /// Never empty.
    tables: Vec<Table>,
    current: usize,
    /// The one before: programs and the system take turns.
    previous: usize,
    /// Contexts entered so far.
    time: u64,
    asleep: Asleep,
    fixed: Fixed,
}

impl Default for Jumps {
    fn default() -> Self {
        let asleep = Asleep::default();
        let fixed = Fixed { miss: 0, sleeps: true, has_annex: true };
        Self { tables: vec![Table::new(fixed)], current: 0, previous: 0, time: 0, asleep, fixed }
    }
}

impl Jumps {
    /// Says at which host address stands what leaves as a jump does that misses, whether entries sleep and whether there is an annex.
    /// Nothing is noted yet.
    pub fn set_up(&mut self, miss: u64, sleeps: bool, has_annex: bool) {
        self.fixed = Fixed { miss, sleeps, has_annex };
        self.tables.iter_mut().for_each(|table| table.set_fixed(self.fixed));
    }

    /// Is the current table that of `context`?
    pub(crate) fn is_in(&self, context: Context) -> bool {
        self.tables[self.current].context == Some(context)
    }

    /// Goes to the table at host address `base`, which is one of these.
    pub(crate) fn follow(&mut self, base: u64) {
        if self.base() == base {
            return;
        }
        let at = |table: &Table| table.slots.as_ptr().addr() as u64;
        self.current = self.tables.iter().position(|t| at(t) == base).unwrap_or(self.current);
    }

    /// Goes to the table of `context`. `is_live` tells whether a context can still be entered.
    pub(crate) fn enter(&mut self, context: Context, is_live: impl Fn(Context) -> bool) {
        self.time += 1;
        let is_it = |table: &Table| table.context == Some(context);
        let known = match is_it(&self.tables[self.previous]) {
            true => Some(self.previous),
            false => self.tables.iter().position(is_it),
        };
        self.previous = self.current;
        self.current = known.unwrap_or_else(|| self.make_room(context, is_live));
        self.tables[self.current].entered = self.time;
    }

    /// A table that is of no use any more, a new one, or the one entered longest ago.
    fn make_room(&mut self, context: Context, is_live: impl Fn(Context) -> bool) -> usize {
        let is_free = |table: &Table| !table.context.is_some_and(&is_live);
        let n = match self.tables.iter().position(is_free) {
            Some(free) => free,
            None if self.tables.len() < KEPT => {
                self.tables.push(Table::new(self.fixed));
                self.tables.len() - 1
            }
            None => (0..KEPT).min_by_key(|&n| self.tables[n].entered).unwrap_or(0),
        };
        self.tables[n].lay_down(&mut self.asleep);
        self.tables[n].context = Some(context);
        self.tables[n].holds = Some(context);
        n
    }

    /// Forgets the contexts that `is_stale` names. The current one must be entered again then.
    pub(crate) fn forget(&mut self, is_stale: impl Fn(Context) -> bool) {
        for table in &mut self.tables {
            table.context = table.context.filter(|&context| !is_stale(context));
        }
    }

    /// Empties the current table and forgets all others: what was mapped anywhere may be elsewhere.
    pub(crate) fn forget_all(&mut self) {
        for (n, table) in self.tables.iter_mut().enumerate() {
            if n == self.current {
                table.lay_down(&mut self.asleep);
            } else {
                table.context = None;
            }
        }
    }

    /// The same where there is no code any more that entries could lead to: nothing of them sleeps.
    pub(crate) fn drop_all(&mut self) {
        self.asleep = Asleep::default();
        let current = self.tables[self.current].holds;
        self.tables.iter_mut().for_each(|table| table.holds = None);
        self.forget_all();
        self.tables[self.current].holds = current;
    }

    /// Host address of the current table, for generated code.
    pub(crate) fn base(&mut self) -> u64 {
        self.tables[self.current].slots.as_mut_ptr().expose_provenance() as u64
    }

    /// Where the current table leads from an instruction pointer, if it knows.
    pub(crate) fn known(&self, pc: u64) -> Option<u64> {
        self.tables[self.current].known(pc)
    }

    /// Enters a target, instruction pointer `pc` at `lin`, whose page's code is that of `place`, into the current table. If it is
    /// the first of its page, those that sleep come back.
    pub(crate) fn note(&mut self, pc: u64, lin: Lin, host: u64, place: u64) {
        let table = &mut self.tables[self.current];
        let is_first = !table.targets.is_known(lin);
        table.note(pc, lin, [host, place]);
        let Some(context) = table.holds.filter(|_| is_first) else { return };
        let (base, page) = (lin.0.wrapping_sub(pc), lin.0 >> 12);
        for &[pc, host] in self.asleep.of(context, page, place) {
            table.add(pc, Lin(base.wrapping_add(pc)), [host, place]);
        }
    }

    /// Empties the current table's entries for an instruction pointer.
    pub(crate) fn forget_one(&mut self, pc: u64) {
        let table = &mut self.tables[self.current];
        for i in [entry_of(pc), annex_of(pc)] {
            if table.is_of(i, pc) {
                Table::empty(&mut table.slots, i, table.fixed.miss);
            }
        }
    }

    /// Empties the entries of all tables that lead to `lin`'s surroundings, or end in them: of 2^`system` bytes in the tables of
    /// the system, of 2^`user` bytes in those of programs.
    pub(crate) fn flush_page(&mut self, lin: Lin, (system, user): (u32, u32)) {
        for table in &mut self.tables {
            let Some(context) = table.context else { continue };
            let shift = if context.is_user() { user } else { system };
            let (slots, miss) = (&mut table.slots, table.fixed.miss);
            table.targets.take(lin, shift, |i| Table::empty(slots, i, miss));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Context, JUMPS, Jumps, KEPT};
    use mem::Lin;

    #[test]
    fn contexts_do_not_see_each_other() {
        let mut jumps = Jumps::default();
        for space in 0..2 {
            jumps.enter(Context::of_space(space), |_| true);
            jumps.note(0x1234, Lin(0x1234), 100 + space, space);
        }
        jumps.enter(Context::of_space(0), |_| true);
        assert_eq!(jumps.known(0x1234), Some(100));
        assert_eq!(jumps.known(0x2234), None);
        jumps.flush_page(Lin(0x1000), (12, 12));
        assert_eq!(jumps.known(0x1234), None);
        jumps.enter(Context::of_space(1), |_| true);
        assert_eq!(jumps.known(0x1234), None);
        assert!(jumps.tables.iter().all(|table| (0..table.slots.len()).all(|i| table.is_free(i))));
    }

    #[test]
    fn tables_are_used_again_and_bounded() {
        let mut jumps = Jumps::default();
        for space in 0..2 * KEPT as u64 {
            jumps.enter(Context::of_space(space), |_| true);
            assert_eq!(jumps.known(0x1234), None);
            jumps.note(0x1234, Lin(0x1234), space, space);
        }
        assert_eq!(jumps.tables.len(), KEPT);
        let last = Context::of_space(2 * KEPT as u64 - 1);
        assert!(jumps.is_in(last));
        jumps.forget(|context| context == last);
        assert!(!jumps.is_in(last));
        jumps.enter(last, |_| true);
        assert_eq!(jumps.known(0x1234), None);
    }

    #[test]
    fn a_page_that_lies_where_it_lay_has_its_entries_back() {
        let mut jumps = Jumps::default();
        jumps.enter(Context::of_space(0), |_| true);
        let fill = |jumps: &mut Jumps| {
            for pc in [0x1000, 0x1234, 0x1FF8, 0x2000] {
                jumps.note(pc, Lin(pc), pc + 1, 0x7000);
            }
        };
        fill(&mut jumps);
        jumps.forget_all();
        assert_eq!(jumps.known(0x1234), None, "not before it is looked at");
        jumps.note(0x1800, Lin(0x1800), 9, 0x7000);
        assert_eq!([0x1000, 0x1234].map(|pc| jumps.known(pc)), [Some(0x1001), Some(0x1235)]);
        assert_eq!(jumps.known(0x1FF8), None, "its insn may reach into the next page");
        assert_eq!(jumps.known(0x2000), None);
        jumps.forget_all();
        jumps.note(0x1800, Lin(0x1800), 9, 0x8000);
        assert_eq!(jumps.known(0x1234), None, "the page is another");
        fill(&mut jumps);
        jumps.drop_all();
        jumps.note(0x1800, Lin(0x1800), 9, 0x7000);
        assert_eq!(jumps.known(0x1234), None, "the code is gone");
    }

    #[test]
    fn a_new_address_space_has_what_slept_of_another() {
        let mut jumps = Jumps::default();
        for space in 1..3 {
            let here = Context::of_space(space);
            jumps.enter(here, |context| context == here);
            assert_eq!(jumps.known(0x1234), None);
            jumps.note(0x1800, Lin(0x1800), 9, 0x7000);
            assert_eq!(jumps.known(0x1234), (space == 2).then_some(5));
            jumps.note(0x1234, Lin(0x1234), 5, 0x7000);
        }
        assert_eq!(jumps.tables.len(), 1);
    }

    #[test]
    fn targets_behind_a_short_insn_have_entries_of_their_own() {
        let mut jumps = Jumps::default();
        jumps.enter(Context::of_space(0), |_| true);
        let targets = [0x8000, 0x8002, 0x7FFE, 0x1_8000 + 4];
        targets.iter().for_each(|&pc| jumps.note(pc, Lin(pc), pc + 1, 0));
        assert!(targets.iter().all(|&pc| jumps.known(pc) == Some(pc + 1)));
    }

    #[test]
    fn targets_that_want_one_entry_both_stay() {
        let mut jumps = Jumps::default();
        jumps.enter(Context::of_space(0), |_| true);
        let (one, other) = (0x1000, 0x1000 + 2 * JUMPS as u64);
        for turn in 1..3 {
            jumps.note(one, Lin(one), turn, 0x7000);
            jumps.note(other, Lin(other), turn + 1, 0x8000);
            assert_eq!([one, other].map(|pc| jumps.known(pc)), [Some(turn), Some(turn + 1)]);
        }
        jumps.forget_one(one);
        assert_eq!([one, other].map(|pc| jumps.known(pc)), [None, Some(3)]);
        jumps.note(one, Lin(one), 2, 0x7000);
        jumps.flush_page(Lin(other), (12, 12));
        assert_eq!(jumps.known(other), None);
        jumps.note(one, Lin(one), 2, 0x7000);
        jumps.note(other, Lin(other), 1, 0x8000);
        jumps.forget_all();
        assert_eq!([one, other].map(|pc| jumps.known(pc)), [None; 2]);
        for pc in [one + 4, other + 4] {
            jumps.note(pc, Lin(pc), 9, if pc < other { 0x7000 } else { 0x8000 });
        }
        assert_eq!([one, other].map(|pc| jumps.known(pc)), [Some(2), Some(1)]);
    }

    #[test]
    fn annex_and_sleep_may_be_had_or_not() {
        for (sleeps, has_annex) in [(false, true), (true, false), (true, true)] {
            let mut jumps = Jumps::default();
            jumps.set_up(77, sleeps, has_annex);
            jumps.enter(Context::of_space(0), |_| true);
            let (one, other) = (0x1000, 0x1000 + 2 * JUMPS as u64);
            for pc in [one, other] {
                jumps.note(pc, Lin(pc), pc + 1, pc);
            }
            assert_eq!(jumps.known(one), has_annex.then_some(one + 1));
            jumps.forget_all();
            jumps.note(other + 4, Lin(other), 9, other);
            assert_eq!(jumps.known(other), sleeps.then_some(other + 1));
        }
    }

    #[test]
    fn empty_entries_lead_nowhere() {
        let mut jumps = Jumps::default();
        jumps.set_up(77, true, true);
        jumps.enter(Context::of_space(0), |_| true);
        let no_other_tag = |jumps: &Jumps| {
            let slots = &jumps.tables[0].slots;
            assert!(
                (0..slots.len())
                    .zip(slots)
                    .all(|(i, &slot)| slot == [0, if i.is_multiple_of(JUMPS) { 77 } else { 0 }])
            );
            assert!((0..8 * JUMPS as u64).all(|pc| jumps.known(pc).is_none()));
        };
        no_other_tag(&jumps);
        for pc in [0, 5, 1 << 63 | 2] {
            jumps.note(pc, Lin(pc), 1, 0);
            assert_eq!(jumps.known(pc), Some(1));
            jumps.forget_one(pc);
            no_other_tag(&jumps);
        }
        jumps.note(0, Lin(0), 1, 0);
        jumps.note(2 * JUMPS as u64, Lin(2 * JUMPS as u64), 2, 0);
        assert_eq!(jumps.known(0), Some(1));
        jumps.forget_all();
        no_other_tag(&jumps);
    }
}
