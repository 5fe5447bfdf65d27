//! Which entries of a jump table lead to which page, so that a page's can be emptied when it is remapped.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use mem::{Lin, NumberHasher};

use super::jump::JUMPS;

/// Which entries lead to which linear page.
#[derive(Default)]
pub(super) struct Targets {
    pages: HashMap<u64, Leads, BuildHasherDefault<NumberHasher>>,
    noted: usize,
    /// Where these pages lie: a bit for each 2 MiB, modulo 64.
    regions: u64,
}

/// The entries that lead to one page.
#[derive(Default)]
pub(super) struct Leads {
    entries: Vec<u32>,
    /// What its code was made from, when all of it was made from the same.
    place: u64,
    is_mixed: bool,
}

impl Leads {
    /// Do all its entries lead to code of one place?
    fn is_plain(&self) -> bool {
        !self.entries.is_empty() && !self.is_mixed
    }
    pub(super) fn entries(&self) -> impl Iterator<Item = usize> {
        self.entries.iter().map(|&i| i as usize)
    }
    /// What its code was made from.
    pub(super) fn place(&self) -> u64 {
        self.place
    }
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
    /// The pages whose entries lead to code of one place each.
    pub(super) fn plain(&self) -> impl Iterator<Item = (u64, &Leads)> {
        let plain = self.pages.iter().filter(|(_, leads)| leads.is_plain());
        plain.map(|(&page, leads)| (page, leads))
    }

    /// Is anything noted for the page of `lin`?
    pub(super) fn is_known(&self, lin: Lin) -> bool {
        self.pages.get(&(lin.0 >> 12)).is_some_and(|leads| !leads.entries.is_empty())
    }

    /// Notes that entry `i` leads to `lin`, whose page's code is that of `place`. False if there are too many notes: the whole
    /// cache must be emptied first.
    pub(super) fn note(&mut self, lin: Lin, place: u64, i: usize) -> bool {
        if self.noted >= MOST {
            return false;
        }
        self.noted += 1;
        self.regions |= region(lin.0 >> 12);
        let leads = self.pages.entry(lin.0 >> 12).or_default();
        leads.is_mixed = !leads.entries.is_empty() && (leads.is_mixed || leads.place != place);
        leads.place = place;
        leads.entries.push(i as u32);
        true
    }

    /// Notes one more entry for a page that has some, leading to code of the same place. False if it has none, or there are too many.
    pub(super) fn note_like(&mut self, lin: Lin, i: usize) -> bool {
        let place = self.pages.get(&(lin.0 >> 12)).map(|leads| leads.place);
        place.is_some_and(|place| self.note(lin, place, i))
    }

    /// An entry that is noted leads to code of `place` now.
    pub(super) fn compare(&mut self, lin: Lin, place: u64) {
        if let Some(leads) = self.pages.get_mut(&(lin.0 >> 12)) {
            leads.is_mixed |= leads.place != place;
        }
    }

    /// Forgets the entries that lead to the pages of `lin`'s surroundings of 2^`shift` bytes, or end in them; tells which.
    pub(super) fn take(&mut self, lin: Lin, shift: u32, mut each: impl FnMut(usize)) {
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
        let mut drop_list = |leads: Leads| {
            *noted -= leads.entries.len();
            leads.entries.into_iter().for_each(|i| each(i as usize));
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
    pub(super) fn take_all(&mut self, mut each: impl FnMut(usize)) {
        for leads in self.pages.values_mut() {
            leads.entries.drain(..).for_each(|i| each(i as usize));
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
            assert!(targets.note(Lin(lin), 0, i));
        }
        assert_eq!(taken(&mut targets, 0x2123, 12), [1, 2, 3]);
        assert!(taken(&mut targets, 0x2123, 12).is_empty());
        assert_eq!(taken(&mut targets, 0x4000, 12), [4]);
    }

    #[test]
    fn a_large_page_takes_all_in_it() {
        let mut targets = Targets::default();
        for (lin, i) in [(0x1F_FFF0, 1), (0x20_0000, 2), (0x3F_F000, 3), (0x40_0000, 4)] {
            assert!(targets.note(Lin(lin), 0, i));
        }
        assert_eq!(taken(&mut targets, 0x2A_0000, 21), [1, 2, 3]);
        assert_eq!(targets.noted, 1);
    }

    #[test]
    fn notes_are_bounded() {
        let mut targets = Targets::default();
        assert!((0..MOST).all(|n| targets.note(Lin(n as u64), 0, n % 4096)));
        assert!(!targets.note(Lin(0), 0, 0));
        targets.take_all(|_| ());
        assert!(targets.note(Lin(0), 0, 0));
    }

    #[test]
    fn pages_know_whether_their_code_is_of_one_place() {
        let mut targets = Targets::default();
        let pages = |targets: &Targets| {
            let mut pages: Vec<_> = targets.plain().map(|(page, l)| (page, l.place())).collect();
            pages.sort_unstable();
            pages
        };
        for (lin, place) in [(0x1000, 5), (0x1004, 5), (0x2000, 6), (0x2004, 7), (0x3000, 8)] {
            targets.note(Lin(lin), place, 1);
        }
        assert_eq!(pages(&targets), [(1, 5), (3, 8)]);
        targets.compare(Lin(0x3000), 8);
        targets.compare(Lin(0x1000), 4);
        assert_eq!(pages(&targets), [(3, 8)]);
        targets.take_all(|_| ());
        assert!(pages(&targets).is_empty() && !targets.is_known(Lin(0x3000)));
        targets.note(Lin(0x2000), 9, 1);
        assert_eq!(pages(&targets), [(2, 9)]);
    }
}
