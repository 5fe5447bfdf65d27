//! The jump cache of a view: where the code of a jump's target stands. Generated code reads it, the run loop fills it.
//!
//! A tag holds the instruction pointer and the number of a context (`Cpu::flush_jumps`); when a page is remapped, the
//! entries that lead to it are emptied, and those to the page before it, whose last insn may reach over.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use mem::{Lin, NumberHasher};

/// Entries of a jump cache: one for each byte of a page, where targets of several pages meet.
pub const JUMPS: usize = 4096;

/// One entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JumpSlot {
    /// Context number and instruction pointer.
    pub tag: u64,
    /// Host code.
    pub host: u64,
}

/// A tag that matches nothing: context number 0 is never given out.
pub(super) const NO_JUMP: JumpSlot = JumpSlot { tag: 0, host: 0 };

/// Which entries lead to which linear page.
#[derive(Default)]
pub(super) struct Targets {
    pages: HashMap<u64, Vec<u16>, BuildHasherDefault<NumberHasher>>,
    noted: usize,
}

/// Notes that are kept: entries that were overwritten leave theirs behind.
const MOST: usize = 4 * JUMPS;

impl Targets {
    /// Notes that entry `i` leads to `lin`. False if there are too many notes: the whole cache must be emptied first.
    pub(super) fn note(&mut self, lin: Lin, i: usize) -> bool {
        if self.noted >= MOST {
            return false;
        }
        self.noted += 1;
        self.pages.entry(lin.0 >> 12).or_default().push(i as u16);
        true
    }

    /// Forgets the entries that lead to the pages of `lin`'s surroundings of 2^`shift` bytes, or end in them; tells which.
    pub(super) fn take(&mut self, lin: Lin, shift: u32, mut each: impl FnMut(usize)) {
        if self.pages.is_empty() {
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

    pub(super) fn clear(&mut self) {
        self.pages.clear();
        self.noted = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Targets};
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
        targets.clear();
        assert!(targets.note(Lin(0), 0));
    }
}
