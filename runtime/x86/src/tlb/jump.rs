//! Jump tables: where the code of a jump's target stands, by instruction pointer. Generated code reads them, the run loop
//! fills them.
//!
//! A table belongs to one translation context, so that the instruction pointer alone tells whether an entry is the one
//! wanted; [`CpuState::jump_base`](crate::state::CpuState::jump_base) leads to that of the current context. When a page is
//! remapped, the entries that lead to it are emptied, and those to the page before it, whose last insn may reach over.
//!
//! An empty entry has the tag of another slot: while [`CpuState::jump_mask`](crate::state::CpuState::jump_mask) is 0, every
//! jump looks at entry 0. A new table is memory that nobody has touched, of which the host gives what is used.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use mem::{Lin, NumberHasher};

use crate::cpu::Context;

/// Entries of a table.
pub const JUMPS: usize = 65536;
/// Bits of an instruction pointer below those that select the entry: as many as an index register can be scaled by. Two targets a byte
/// apart hardly ever take turns; behind a branch over a short insn they do that are two or three apart.
const JUMP_SHIFT: u32 = 1;
/// The mask in `CpuState::jump_mask`: bits of an instruction pointer that select the entry. Where they stand they are an eighth of
/// its byte offset.
pub const JUMP_MASK: u32 = (JUMPS as u32 - 1) << JUMP_SHIFT;
/// Byte offset of the host address in an entry; the tag comes first.
pub const JUMP_HOST: usize = 8;

/// What generated code sees of an entry: the instruction pointer, and where its host code stands.
type Slot = [u64; 2];

const _: () = assert!(size_of::<Slot>() == 8 << JUMP_SHIFT);

/// The entry for an instruction pointer.
const fn entry_of(pc: u64) -> usize {
    (pc >> JUMP_SHIFT) as usize % JUMPS
}

/// The tag of an empty entry: its index is another one.
const fn no_target(i: usize) -> u64 {
    if i == 0 { 1 << JUMP_SHIFT } else { 0 }
}

/// The table of one context.
struct Table {
    slots: Box<[Slot]>,
    targets: Targets,
    /// `None`: what it holds is of no use any more.
    context: Option<Context>,
    /// When it was entered.
    entered: u64,
}

impl Table {
    fn new() -> Self {
        let mut slots = vec![[0; 2]; JUMPS];
        slots[0][0] = no_target(0);
        Self { slots: slots.into(), targets: Targets::default(), context: None, entered: 0 }
    }

    fn empty(slots: &mut [Slot], i: usize) {
        slots[i] = [no_target(i), 0];
    }

    /// Empties it, at the cost of what was noted.
    fn clear(&mut self) {
        let slots = &mut self.slots;
        self.targets.take_all(|i| Self::empty(slots, i));
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
}

impl Default for Jumps {
    fn default() -> Self {
        Self { tables: vec![Table::new()], current: 0, previous: 0, time: 0 }
    }
}

impl Jumps {
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
                self.tables.push(Table::new());
                self.tables.len() - 1
            }
            None => (0..KEPT).min_by_key(|&n| self.tables[n].entered).unwrap_or(0),
        };
        self.tables[n].clear();
        self.tables[n].context = Some(context);
        n
    }

    /// Forgets the contexts that `is_stale` names. The current one must be entered again then.
    pub(crate) fn forget(&mut self, is_stale: impl Fn(Context) -> bool) {
        for table in &mut self.tables {
            table.context = table.context.filter(|&context| !is_stale(context));
        }
    }

    /// Empties the current table and forgets all others.
    pub(crate) fn forget_all(&mut self) {
        for (n, table) in self.tables.iter_mut().enumerate() {
            if n == self.current {
                table.clear();
            } else {
                table.context = None;
            }
        }
    }

    /// Host address of the current table, for generated code.
    pub(crate) fn base(&mut self) -> u64 {
        self.tables[self.current].slots.as_mut_ptr().expose_provenance() as u64
    }

    /// Where the current table leads from an instruction pointer, if it knows.
    pub(crate) fn known(&self, pc: u64) -> Option<u64> {
        let (i, slots) = (entry_of(pc), &self.tables[self.current].slots);
        (slots[i][0] == pc).then_some(slots[i][1])
    }

    /// Enters a target, instruction pointer `pc` at `lin`, into the current table.
    pub(crate) fn note(&mut self, pc: u64, lin: Lin, host: u64) {
        let i = entry_of(pc);
        let table = &mut self.tables[self.current];
        // The entry that this jump has already is noted.
        if table.slots[i][0] != pc && !table.targets.note(lin, i) {
            table.clear();
            table.targets.note(lin, i);
        }
        table.slots[i] = [pc, host];
    }

    /// Empties the current table's entry for an instruction pointer.
    pub(crate) fn forget_one(&mut self, pc: u64) {
        let slots = &mut self.tables[self.current].slots;
        Table::empty(slots, entry_of(pc));
    }

    /// Empties the entries of all tables that lead to `lin`'s surroundings, or end in them: of 2^`system` bytes in the tables of
    /// the system, of 2^`user` bytes in those of programs.
    pub(crate) fn flush_page(&mut self, lin: Lin, (system, user): (u32, u32)) {
        for table in &mut self.tables {
            let Some(context) = table.context else { continue };
            let shift = if context.is_user() { user } else { system };
            let slots = &mut table.slots;
            table.targets.take(lin, shift, |i| Table::empty(slots, i));
        }
    }
}

/// Which entries lead to which linear page.
#[derive(Default)]
struct Targets {
    pages: HashMap<u64, Vec<u16>, BuildHasherDefault<NumberHasher>>,
    noted: usize,
    /// Where these pages lie: a bit for each 2 MiB, modulo 64.
    regions: u64,
}

/// The bit of a page's region.
const fn region(page: u64) -> u64 {
    1 << (page >> 9 & 63)
}

/// Notes that are kept: entries that were overwritten leave theirs behind.
const MOST: usize = 4 * JUMPS;

/// Empty lists that are kept for the next targets: the same pages mostly come again.
const LISTS: usize = 128;

impl Targets {
    /// Notes that entry `i` leads to `lin`. False if there are too many notes: the whole cache must be emptied first.
    fn note(&mut self, lin: Lin, i: usize) -> bool {
        if self.noted >= MOST {
            return false;
        }
        self.noted += 1;
        self.regions |= region(lin.0 >> 12);
        self.pages.entry(lin.0 >> 12).or_default().push(i as u16);
        true
    }

    /// Forgets the entries that lead to the pages of `lin`'s surroundings of 2^`shift` bytes, or end in them; tells which.
    fn take(&mut self, lin: Lin, shift: u32, mut each: impl FnMut(usize)) {
        let first = lin.0 >> shift << shift >> 12;
        let around = match shift {
            12..=21 => region(first),
            22 => region(first) | region(first + 512),
            _ => u64::MAX,
        };
        if self.regions & (region(first.wrapping_sub(1)) | around) == 0 {
            return;
        }
        let (pages, noted) = (&mut self.pages, &mut self.noted);
        let mut drop_list = |list: Vec<u16>| {
            *noted -= list.len();
            list.into_iter().for_each(|i| each(i.into()));
        };
        if shift <= 12 {
            let page = lin.0 >> 12;
            for page in [page, page.wrapping_sub(1) & (!0 >> 12)] {
                pages.remove(&page).into_iter().for_each(&mut drop_list);
            }
            return;
        }
        let is_in = |page: u64| page >> (shift - 12) == lin.0 >> shift;
        for (_, list) in pages.extract_if(|&page, _| is_in(page) || is_in(page.wrapping_add(1))) {
            drop_list(list);
        }
    }

    /// Forgets all; tells which entries there were.
    fn take_all(&mut self, mut each: impl FnMut(usize)) {
        for list in self.pages.values_mut() {
            list.drain(..).for_each(|i| each(i.into()));
        }
        if self.pages.len() > LISTS {
            self.pages.clear();
        }
        self.noted = 0;
        self.regions = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Context, JUMPS, Jumps, KEPT, MOST, Targets, no_target};
    use mem::Lin;

    fn taken(targets: &mut Targets, lin: u64, shift: u32) -> Vec<usize> {
        let mut found = Vec::new();
        targets.take(Lin(lin), shift, |i| found.push(i));
        found.sort_unstable();
        found
    }

    #[test]
    fn a_page_takes_its_own_and_those_that_reach_into_it() {
        let mut targets = Targets::default();
        for (lin, i) in [(0x1FFF, 1), (0x2000, 2), (0x2FFF, 3), (0x3000, 4)] {
            assert!(targets.note(Lin(lin), i));
        }
        assert_eq!(taken(&mut targets, 0x2123, 12), [1, 2, 3]);
        assert!(taken(&mut targets, 0x2123, 12).is_empty());
        assert_eq!(taken(&mut targets, 0x4000, 12), [4]);
    }

    #[test]
    fn a_large_page_takes_all_in_it() {
        let mut targets = Targets::default();
        for (lin, i) in [(0x1F_FFF0, 1), (0x20_0000, 2), (0x3F_F000, 3), (0x40_0000, 4)] {
            assert!(targets.note(Lin(lin), i));
        }
        assert_eq!(taken(&mut targets, 0x2A_0000, 21), [1, 2, 3]);
        assert_eq!(targets.noted, 1);
    }

    #[test]
    fn notes_are_bounded() {
        let mut targets = Targets::default();
        assert!((0..MOST).all(|n| targets.note(Lin(n as u64), n % 4096)));
        assert!(!targets.note(Lin(0), 0));
        targets.take_all(|_| ());
        assert!(targets.note(Lin(0), 0));
    }

    #[test]
    fn contexts_do_not_see_each_other() {
        let mut jumps = Jumps::default();
        for space in 0..2 {
            jumps.enter(Context::of_space(space), |_| true);
            jumps.note(0x1234, Lin(0x1234), 100 + space);
        }
        jumps.enter(Context::of_space(0), |_| true);
        assert_eq!(jumps.known(0x1234), Some(100));
        assert_eq!(jumps.known(0x2234), None);
        jumps.flush_page(Lin(0x1000), (12, 12));
        assert_eq!(jumps.known(0x1234), None);
        jumps.enter(Context::of_space(1), |_| true);
        assert_eq!(jumps.known(0x1234), None);
        assert!(
            jumps
                .tables
                .iter()
                .all(|table| (0..).zip(&table.slots).all(|(i, slot)| *slot == [no_target(i), 0]))
        );
    }

    #[test]
    fn tables_are_used_again_and_bounded() {
        let mut jumps = Jumps::default();
        for space in 0..2 * KEPT as u64 {
            jumps.enter(Context::of_space(space), |_| true);
            assert_eq!(jumps.known(0x1234), None);
            jumps.note(0x1234, Lin(0x1234), space);
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
    fn targets_behind_a_short_insn_have_entries_of_their_own() {
        let mut jumps = Jumps::default();
        jumps.enter(Context::of_space(0), |_| true);
        let targets = [0x8000, 0x8002, 0x7FFE, 0x1_8000 + 4];
        targets.iter().for_each(|&pc| jumps.note(pc, Lin(pc), pc + 1));
        assert!(targets.iter().all(|&pc| jumps.known(pc) == Some(pc + 1)));
    }

    #[test]
    fn empty_entries_match_no_target() {
        let mut jumps = Jumps::default();
        assert!((0..8 * JUMPS as u64).all(|pc| jumps.known(pc).is_none()));
        jumps.note(5, Lin(5), 1);
        jumps.forget_one(5);
        assert!((0..8 * JUMPS as u64).all(|pc| jumps.known(pc).is_none()));
    }
}
