//! A set of slots, a bit each.

use super::SLOTS;

/// Which slots have some property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// Those in it; the set may be changed meanwhile.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(word, bits)| {
            let next = |bits: &u64| Some(bits & bits.wrapping_sub(1)).filter(|&rest| rest != 0);
            let first = Some(bits).filter(|&bits| bits != 0);
            std::iter::successors(first, next)
                .map(move |bits| word * 64 + bits.trailing_zeros() as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{SLOTS, Slots};

    #[test]
    fn slots_come_and_go() {
        let mut slots = Slots::NONE;
        let all = [0, 1, 63, 64, 500, SLOTS - 1];
        all.iter().for_each(|&i| slots.insert(i));
        assert_eq!(slots.iter().collect::<Vec<_>>(), all);
        all[1..].iter().for_each(|&i| slots.remove(i));
        assert_eq!(slots.iter().collect::<Vec<_>>(), [0]);
    }
}
