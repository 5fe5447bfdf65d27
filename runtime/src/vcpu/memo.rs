//! What the evaluator has already decoded and lowered: insns by place and mode.
//!
//! An entry is used only if the guest's bytes are still those it was made from, so that nothing has to be told of writes.

use ir::Block;
use mem::{GuestRam, Size};

use super::cache::Key;

/// Entries: a power of two. A booting kernel runs some 100,000 different insns.
const ENTRIES: usize = 1 << 15;
/// The longest insn.
const LEN_MAX: u64 = 15;
/// Most aligned words it lies in.
const WORDS: usize = 3;

/// An insn as ops.
pub(super) struct Known {
    key: Key,
    /// The aligned words of memory it lies in, and which of their bits are its own.
    words: [(u64, u64); WORDS],
    len: u8,
    block: Block,
}

/// The table: one entry a place, the latest stays.
pub(super) struct Memo {
    entries: Vec<Option<Box<Known>>>,
}

impl Default for Memo {
    fn default() -> Self {
        Self { entries: std::iter::repeat_with(|| None).take(ENTRIES).collect() }
    }
}

/// Insns follow each other closely: their addresses spread over the table by themselves, and modes by a stride.
fn place(key: &Key) -> usize {
    (key.phys as usize ^ (key.phys >> 15) as usize).wrapping_add(key.mode.0 as usize * 0x61)
        % ENTRIES
}

impl Memo {
    /// Takes out the insn that `key` names, if it is known and its bytes have not changed: its ops, and the page offset
    /// behind it.
    pub(super) fn take(&mut self, key: &Key, ram: &GuestRam) -> Option<Box<Known>> {
        let entry = &mut self.entries[place(key)];
        let known = entry.as_ref().filter(|known| known.key == *key)?;
        let start = key.phys & !7;
        let is_same = known.words.iter().zip((start..).step_by(8)).all(|(&(word, mask), at)| {
            mask == 0 || ram.read(at, Size::B8).is_some_and(|now| now & mask == word)
        });
        if is_same { entry.take() } else { None }
    }

    /// Puts an insn back.
    pub(super) fn put(&mut self, known: Box<Known>) {
        let at = place(&known.key);
        self.entries[at] = Some(known);
    }

    /// Remembers an insn of `len` bytes within one page of RAM.
    pub(super) fn add(&mut self, key: Key, len: u8, block: &Block, ram: &GuestRam) {
        let (at, n) = (key.phys & 7, u64::from(len));
        let is_one = n > 0 && n <= LEN_MAX && (key.phys & 0xfff) + n <= 0x1000;
        // A place off RAM has no bytes to be compared.
        if !is_one || key.page().is_none() {
            return;
        }
        let mut words = [(0, 0); WORDS];
        for (word, from) in words.iter_mut().zip((0u64..).step_by(8)) {
            // Bytes of this word: those of the insn, counted from its first word's beginning.
            let first = at.max(from).min(from + 8) - from;
            let last = (at + n).max(from).min(from + 8) - from;
            let below = |bytes: u64| if bytes == 8 { u64::MAX } else { (1 << (8 * bytes)) - 1 };
            let mask = below(last) & !below(first);
            if mask != 0 {
                let Some(now) = ram.read((key.phys & !7) + from, Size::B8) else { return };
                *word = (now & mask, mask);
            }
        }
        self.put(Box::new(Known { key, words, len, block: block.clone() }));
    }
}

impl Known {
    /// Its ops.
    pub(super) fn block(&self) -> &Block {
        &self.block
    }

    /// The page offset behind it.
    pub(super) fn end(&self) -> u32 {
        (self.key.phys & 0xfff) as u32 + u32::from(self.len)
    }
}

#[cfg(test)]
mod tests {
    use x86::mode::Mode;

    use super::*;

    #[test]
    fn an_insn_is_known_as_long_as_its_bytes_stay() {
        let ram = GuestRam::new(0x10000).unwrap();
        let key = |phys| Key { phys, mode: Mode(0), pc_base: 0, cs_limit: u32::MAX };
        for at in 0x2000..0x2010 {
            for len in 1..=15u8 {
                let mut memo = Memo::default();
                memo.add(key(at), len, &Block::default(), &ram);
                let known = memo.take(&key(at), &ram).unwrap();
                assert_eq!(known.end(), (at & 0xfff) as u32 + u32::from(len));
                memo.put(known);
                assert!(memo.take(&key(at + 1), &ram).is_none());
                for byte in at - 8..at + 24 {
                    ram.write(byte, Size::B1, 1);
                    let is_own = (at..at + u64::from(len)).contains(&byte);
                    let known = memo.take(&key(at), &ram);
                    assert_eq!(known.is_none(), is_own, "{at:#x} {len} {byte:#x}");
                    known.into_iter().for_each(|known| memo.put(known));
                    ram.write(byte, Size::B1, 0);
                }
            }
        }
        // Not over the end of a page, nor off RAM.
        let mut memo = Memo::default();
        memo.add(key(0x2fff), 2, &Block::default(), &ram);
        memo.add(key(1 << 63 | 5), 1, &Block::default(), &ram);
        assert!(memo.take(&key(0x2fff), &ram).is_none());
        assert!(memo.take(&key(1 << 63 | 5), &ram).is_none());
    }
}
