//! Jump-table entries of tables that were emptied because mappings may have changed: mostly they have not.
//!
//! The entries of a page are good again, all of them, when a jump in the same context leads to the page and finds its code at the
//! same place in memory: they depend on nothing else. That their host code still stands is up to
//! [`Jumps::drop_all`](super::Jumps::drop_all).

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use mem::NumberHasher;

use super::jump::Slot;
use crate::cpu::Context;

/// The last place in a page from which no insn reaches into the next.
pub(super) const LAST_OWN: u64 = 0xFFF - 15;

/// What led to pages before the tables that held it were emptied, by page and context without the address space.
#[derive(Default)]
pub(super) struct Asleep {
    pages: HashMap<(Context, u64), Old, BuildHasherDefault<NumberHasher>>,
}

/// Entries that led to a page while its code was that of `place`.
#[derive(Default)]
struct Old {
    place: u64,
    slots: Vec<Slot>,
}

/// Pages of which entries sleep, at most.
const MOST_ASLEEP: usize = 1 << 14;

impl Asleep {
    pub(super) fn lay_down(
        &mut self,
        context: Context,
        page: u64,
        place: u64,
        slots: impl Iterator<Item = Slot>,
    ) {
        if self.pages.len() >= MOST_ASLEEP {
            self.pages.clear();
        }
        let old = self.pages.entry((context.of_any_space(), page)).or_default();
        old.place = place;
        old.slots.clear();
        old.slots.extend(slots);
    }

    pub(super) fn of(&self, context: Context, page: u64, place: u64) -> &[Slot] {
        match self.pages.get(&(context.of_any_space(), page)) {
            Some(old) if old.place == place => &old.slots,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Asleep, Context, MOST_ASLEEP};

    #[test]
    fn a_page_sleeps_with_its_place() {
        let (mut asleep, context) = (Asleep::default(), Context::of_space(1));
        asleep.lay_down(context, 7, 0x5000, [[0x7123, 1], [0x7456, 2]].into_iter());
        assert_eq!(asleep.of(Context::of_space(2), 7, 0x5000), [[0x7123, 1], [0x7456, 2]]);
        assert!(asleep.of(context, 7, 0x6000).is_empty());
        assert!(asleep.of(context, 8, 0x5000).is_empty());
        asleep.lay_down(context, 7, 0x6000, [[0x7123, 3]].into_iter());
        assert_eq!(asleep.of(context, 7, 0x6000), [[0x7123, 3]]);
    }

    #[test]
    fn pages_are_bounded() {
        let (mut asleep, context) = (Asleep::default(), Context::of_space(1));
        for page in 0..=MOST_ASLEEP as u64 {
            asleep.lay_down(context, page, 0, [].into_iter());
        }
        assert_eq!(asleep.pages.len(), 1);
    }
}
