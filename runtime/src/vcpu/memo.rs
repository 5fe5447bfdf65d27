//! What the evaluator has already decoded and lowered: insns by place and mode.
//!
//! An entry is used only if the guest's bytes are still those it was made from, so that nothing has to be told of writes.

use ir::Block;
use mem::GuestRam;

use super::cache::Key;

/// Entries: a power of two. A booting kernel runs some 100,000 different insns.
const ENTRIES: usize = 1 << 15;
/// The longest insn.
const LEN_MAX: usize = 15;

/// An insn as ops.
pub(super) struct Known {
    key: Key,
    bytes: [u8; LEN_MAX],
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
        let (mut now, len) = ([0; LEN_MAX], usize::from(known.len));
        let is_same = ram.read_bytes(key.phys, &mut now[..len]) && now[..len] == known.bytes[..len];
        if is_same { entry.take() } else { None }
    }

    /// Puts an insn back.
    pub(super) fn put(&mut self, known: Box<Known>) {
        let at = place(&known.key);
        self.entries[at] = Some(known);
    }

    /// Remembers an insn of `len` bytes within one page of RAM.
    pub(super) fn add(&mut self, key: Key, len: u8, block: &Block, ram: &GuestRam) {
        let mut bytes = [0; LEN_MAX];
        let n = usize::from(len);
        let is_one = n > 0 && n <= LEN_MAX && (key.phys & 0xfff) as usize + n <= 0x1000;
        // A place off RAM has no bytes to be compared.
        if is_one && key.page().is_some() && ram.read_bytes(key.phys, &mut bytes[..n]) {
            self.put(Box::new(Known { key, bytes, len, block: block.clone() }));
        }
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
