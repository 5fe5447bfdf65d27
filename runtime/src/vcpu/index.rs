//! Blocks by key: an open hash table of (hash, block) pairs. A search mostly touches one line of the table and the block it finds;
//! the keys stand in the blocks. Hashes that differ little begin at one place, [`NEAR`] of them: a key's hash
//! goes up with its place in the page, so that what is asked for next is often in the host's cache. Those places lie apart: in a row,
//! blocks of pages full of code would stand in long runs, all of which a search for what is not there would go through.

use super::cache::BlockId;

/// One place of the table: half of the key's hash, and behind it the block's number plus one; 0 when empty, so that a new table
/// is memory that nobody has touched.
type Slot = u64;

const EMPTY: Slot = 0;

/// log2 of the hashes that begin at one place. Blocks stand about 20 bytes apart where all code has been run.
const NEAR: u32 = 7;
/// log2 of the slots between two such places: as many as a line of the host's cache holds.
const APART: u32 = 3;

const fn slot_of(hash: u32, id: BlockId) -> Slot {
    (hash as u64) << 32 | (id as u64 + 1)
}
const fn hash_of(slot: Slot) -> u32 {
    (slot >> 32) as u32
}
const fn id_of(slot: Slot) -> BlockId {
    (slot as u32).wrapping_sub(1)
}

/// The table. Its size is a power of two, and a quarter of it is always empty. Removing closes the gap, so that code that
/// changes without end leaves nothing behind.
#[derive(Debug)]
pub(super) struct Index {
    slots: Vec<Slot>,
    /// Slots that are not empty.
    used: usize,
}

impl Index {
    /// A table with room for `blocks` before it grows.
    pub(super) fn with_room(blocks: usize) -> Self {
        let slots = vec![EMPTY; (blocks.max(8) * 4 / 3 + 1).next_power_of_two()];
        Self { slots, used: 0 }
    }

    /// The block of this hash for which `is_it` says yes.
    pub(super) fn find(&self, hash: u32, is_it: impl Fn(BlockId) -> bool) -> Option<BlockId> {
        let at = self.place(hash, |slot| hash_of(slot) == hash && is_it(id_of(slot)))?;
        Some(id_of(self.slots[at]))
    }

    /// Adds a block whose key is not in the table.
    pub(super) fn insert(&mut self, hash: u32, id: BlockId) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let mut at = self.start(hash);
        while self.slots[at] != EMPTY {
            at = self.next(at);
        }
        self.slots[at] = slot_of(hash, id);
        self.used += 1;
    }

    /// Has a block of the same key take another's place.
    pub(super) fn replace(&mut self, hash: u32, old: BlockId, new: BlockId) {
        match self.place(hash, |slot| slot == slot_of(hash, old)) {
            Some(at) => self.slots[at] = slot_of(hash, new),
            None => self.insert(hash, new),
        }
    }

    /// Removes a block; false if it is not there.
    pub(super) fn remove(&mut self, hash: u32, id: BlockId) -> bool {
        let Some(mut gap) = self.place(hash, |slot| slot == slot_of(hash, id)) else {
            return false;
        };
        let mask = self.slots.len() - 1;
        let mut at = self.next(gap);
        while self.slots[at] != EMPTY {
            // A slot may move into the gap unless its search starts behind the gap.
            let start = self.start(hash_of(self.slots[at]));
            if at.wrapping_sub(start) & mask >= at.wrapping_sub(gap) & mask {
                self.slots[gap] = self.slots[at];
                gap = at;
            }
            at = self.next(at);
        }
        self.slots[gap] = EMPTY;
        self.used -= 1;
        true
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.slots.fill(EMPTY);
        self.used = 0;
    }

    fn start(&self, hash: u32) -> usize {
        let mixed = (hash >> NEAR).wrapping_mul(0x9E37_79B1); // its upper bits are
        (mixed as usize * self.slots.len()) >> 32 >> APART << APART
    }
    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    /// The first slot from the hash's start on, up to the first empty one, that is wanted.
    #[inline]
    fn place(&self, hash: u32, is_wanted: impl Fn(Slot) -> bool) -> Option<usize> {
        let mut at = self.start(hash);
        while self.slots[at] != EMPTY {
            if is_wanted(self.slots[at]) {
                return Some(at);
            }
            at = self.next(at);
        }
        None
    }

    fn grow(&mut self) {
        let old = std::mem::replace(self, Self::with_room(self.slots.len()));
        for slot in old.slots.into_iter().filter(|&slot| slot != EMPTY) {
            self.insert(hash_of(slot), id_of(slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Index;

    #[test]
    fn finds_what_was_put_in_through_growth_and_removal() {
        let mut index = Index::with_room(8);
        let hash = |id: u32| (id / 3).wrapping_mul(0x9E37_79B9); // three of each
        for id in 0..1000 {
            index.insert(hash(id), id);
        }
        for id in (0..1000).step_by(2) {
            assert!(index.remove(hash(id), id));
            assert!(!index.remove(hash(id), id));
        }
        for id in 0..1000 {
            let found = index.find(hash(id), |n| n == id);
            assert_eq!(found, (id % 2 == 1).then_some(id));
        }
        index.clear();
        assert_eq!(index.find(hash(7), |_| true), None);
    }

    #[test]
    fn what_takes_anothers_place_is_found_instead() {
        let mut index = Index::with_room(8);
        (0..6).for_each(|id| index.insert(7, id));
        index.replace(7, 3, 100);
        assert_eq!(index.find(7, |n| n == 100), Some(100));
        assert_eq!((index.find(7, |n| n == 3), index.used), (None, 6));
        index.replace(7, 3, 101);
        assert_eq!((index.find(7, |n| n == 101), index.used), (Some(101), 7));
    }

    #[test]
    fn coming_and_going_does_not_fill_it() {
        let mut index = Index::with_room(8);
        for id in 0..10_000u32 {
            index.insert(id, id);
            assert!(index.remove(id, id));
        }
        assert_eq!(index.slots.len(), Index::with_room(8).slots.len());
        assert!(index.slots.iter().all(|&slot| slot == super::EMPTY));
    }

    #[test]
    fn removing_keeps_those_behind_within_reach() {
        let mut index = Index::with_room(8);
        let (first, last) = (0, index.slots.len() - (1 << super::APART));
        let at = |start| (0..).find(|&hash| index.start(hash) == start).unwrap();
        // More than stand in the table's last places: they run over its end.
        let hashes = [[at(last); 9].as_slice(), &[at(first), at(last), at(first)]].concat();
        for (id, &hash) in (0..).zip(&hashes) {
            index.insert(hash, id);
        }
        for (id, &hash) in (0..).zip(&hashes) {
            assert!(index.remove(hash, id));
            for (other, &hash) in (0..).zip(&hashes) {
                let found = index.find(hash, |n| n == other);
                assert_eq!(found, (other > id).then_some(other), "after {id} went");
            }
        }
    }

    #[test]
    fn pages_full_of_blocks_do_not_run_into_each_other() {
        let mut index = Index::with_room(1 << 15);
        let hash = |id: u32| (id / 512).wrapping_mul(0x61C8_8647).wrapping_add(id % 512 * 8);
        (0..1 << 14).for_each(|id| index.insert(hash(id), id));
        let longest = index.slots.split(|&slot| slot == super::EMPTY).map(<[_]>::len).max();
        assert!(longest < Some(512), "{longest:?}");
    }
}
