//! A set of slots, a bit each.

use super::SLOTS;

/// Which slots have some property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slots([u64; SLOTS / 64]);

impl Slots {
    pub(super) const NONE: Self = Self([0; SLOTS / 64]);

    pub(super) const fn insert(&mut self, i: usize) {
        self.0[i / 64 % (SLOTS / 64)] |= 1 << (i % 64);
    }

    pub(super) const fn remove(&mut self, i: usize) {
        self.0[i / 64 % (SLOTS / 64)] &= !(1 << (i % 64));
    }

    pub(super) const fn has(&self, i: usize) -> bool {
        self.0[i / 64 % (SLOTS / 64)] >> (i % 64) & 1 != 0
    }

    /// The first of it from `from` on that is below `end`, a multiple of 64.
    #[inline]
    pub(super) fn next(&self, from: usize, end: usize) -> Option<usize> {
        let words = self.0.get(from / 64..end / 64)?;
        let mut bits = words.first()? & !0 << (from % 64);
        let mut word = 0;
        while bits == 0 {
            word += 1;
            bits = *words.get(word)?;
        }
        Some((from / 64 + word) * 64 + bits.trailing_zeros() as usize)
    }

    /// Empties it up to `end`, a multiple of 64.
    pub(super) fn clear(&mut self, end: usize) {
        self.0[..end / 64].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{SLOTS, Slots};

    fn all(slots: &Slots, end: usize) -> Vec<usize> {
        std::iter::successors(slots.next(0, end), |&i| slots.next(i + 1, end)).collect()
    }

    #[test]
    fn slots_come_and_go() {
        let mut slots = Slots::NONE;
        let some = [0, 1, 63, 64, 500, SLOTS - 1];
        some.iter().for_each(|&i| slots.insert(i));
        assert_eq!(all(&slots, SLOTS), some);
        assert_eq!(all(&slots, 64), some[..3]);
        some[1..].iter().for_each(|&i| slots.remove(i));
        assert_eq!(all(&slots, SLOTS), [0]);
        slots.clear(64);
        assert!(all(&slots, SLOTS).is_empty());
    }
}
