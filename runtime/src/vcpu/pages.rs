//! Which bytes of a RAM page translated blocks rest on.

use super::cache::{BlockId, lines};

/// Bytes of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Stretch {
    /// Page offset.
    pub(super) at: u16,
    /// How many; may be 0.
    pub(super) len: u16,
}

impl Stretch {
    /// The stretch from one page offset up to another.
    pub(super) fn between(from: u64, to: u64) -> Self {
        Self { at: from as u16, len: to.saturating_sub(from) as u16 } // both are within a page
    }
    pub(super) fn end(self) -> u64 {
        u64::from(self.at) + u64::from(self.len)
    }
    pub(super) fn meets(self, from: u64, len: u64) -> bool {
        self.len != 0 && u64::from(self.at) < from + len && from < self.end()
    }
    /// The lines it touches.
    pub(super) fn lines(self) -> u64 {
        if self.len == 0 { 0 } else { lines(self.at.into(), self.len.into()) }
    }
}

/// Bytes that a block looked at beyond its own: a bit each, from a page offset on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Peeked {
    /// Page offset of bit 0.
    pub(super) at: u16,
    /// Which bytes.
    pub(super) mask: u64,
}

impl Peeked {
    /// Its runs of bytes.
    pub(super) fn runs(self) -> impl Iterator<Item = Stretch> {
        let mut mask = self.mask;
        std::iter::from_fn(move || {
            if mask == 0 {
                return None;
            }
            let from = mask.trailing_zeros();
            let len = (mask >> from).trailing_ones();
            mask &= !(u64::MAX >> (64 - len) << from);
            Some(Stretch { at: self.at + from as u16, len: len as u16 })
        })
    }
    /// Bytes from its first to its last.
    pub(super) fn reach(self) -> usize {
        64 - self.mask.leading_zeros() as usize
    }
}

/// A set of bytes of a page.
#[derive(Debug)]
struct Bytes([u64; 64]);

impl Bytes {
    fn add(&mut self, part: Stretch) {
        for (word, mask) in words(part) {
            self.0[word] |= mask;
        }
    }
    fn meets(&self, part: Stretch) -> bool {
        words(part).any(|(word, mask)| self.0[word] & mask != 0)
    }
}

/// The words of a page's set in which a stretch has bits, and which.
fn words(part: Stretch) -> impl Iterator<Item = (usize, u64)> {
    let (from, to) = (usize::from(part.at), (part.end() as usize).min(0x1000));
    (from / 64..to.div_ceil(64)).map(move |word| {
        let low = from.saturating_sub(64 * word);
        let high = (to - 64 * word).min(64);
        (word, u64::MAX >> (64 - (high - low)) << low)
    })
}

/// A RAM page with code.
#[derive(Debug)]
pub(super) struct CodePage {
    /// The blocks that rest on it.
    pub(super) blocks: Vec<BlockId>,
    bytes: Box<Bytes>,
    /// Where blocks begin.
    starts: Box<Bytes>,
    /// Page offset behind the store that dropped blocks last.
    written_to: u64,
}

impl Default for CodePage {
    fn default() -> Self {
        let none = || Box::new(Bytes([0; 64]));
        Self { blocks: Vec::new(), bytes: none(), starts: none(), written_to: u64::MAX }
    }
}

/// How near behind another a store must be to go on with what that one began.
const NEAR: u64 = 256;
/// Bytes that are expected to be written by what writes code from front to back.
const AHEAD: u64 = 512;

/// Of a page's starts of blocks: is there one at this offset?
pub(super) fn begins_at(starts: &[u64; 64], at: u32) -> bool {
    starts[at as usize / 64 % 64] >> (at % 64) & 1 != 0
}

impl CodePage {
    /// A block rests on these bytes, too.
    pub(super) fn add(&mut self, part: Stretch) {
        if part.len != 0 {
            self.bytes.add(part);
        }
    }
    /// A block begins here.
    pub(super) fn add_start(&mut self, at: u64) {
        self.starts.add(Stretch::between(at & 0xFFF, (at & 0xFFF) + 1));
    }
    /// Where blocks begin, a bit for each byte of the page.
    pub(super) fn starts(&self) -> &[u64; 64] {
        &self.starts.0
    }
    /// Forgets all bytes: they are to be added again.
    pub(super) fn clear(&mut self) {
        self.bytes.0 = [0; 64];
        self.starts.0 = [0; 64];
    }
    /// Does any block rest on one of these bytes?
    pub(super) fn covers(&self, from: u64, len: u64) -> bool {
        self.bytes.meets(Stretch::between(from, from + len))
    }
    /// Lines that hold bytes of blocks.
    pub(super) fn lines(&self) -> u64 {
        let words = self.bytes.0.iter().enumerate();
        words.fold(0, |lines, (n, &word)| lines | u64::from(word != 0) << n)
    }
    /// `len` bytes at `from` were written: how many to take as written. Where code is written from front to back the next stores are
    /// foreseen, for dropping many blocks at once costs little more than dropping one, and those that stay as they are come back.
    pub(super) fn written(&mut self, from: u64, len: u64) -> u64 {
        let goes_on = self.written_to <= from && from - self.written_to < NEAR;
        self.written_to = from + len;
        if goes_on { len.max(AHEAD).min(0x1000 - from) } else { len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_known_one_by_one() {
        let mut page = CodePage::default();
        page.add(Stretch { at: 60, len: 8 });
        page.add(Stretch { at: 4095, len: 1 });
        page.add(Stretch { at: 100, len: 0 });
        assert_eq!(page.lines(), 3 | 1 << 63);
        assert!(!page.covers(0, 60) && page.covers(0, 61) && page.covers(67, 1));
        assert!(!page.covers(68, 4027) && page.covers(68, 4028));
        page.clear();
        assert_eq!((page.lines(), page.covers(0, 4096)), (0, false));
        page.add(Stretch { at: 0, len: 4096 });
        assert_eq!(page.lines(), u64::MAX);
    }

    #[test]
    fn masks_have_runs() {
        let peeked = Peeked { at: 10, mask: 0b1_0110 };
        let runs: Vec<_> = peeked.runs().collect();
        assert_eq!(runs, [Stretch { at: 11, len: 2 }, Stretch { at: 14, len: 1 }]);
        assert_eq!(peeked.reach(), 5);
        assert_eq!(Peeked { at: 0, mask: u64::MAX }.runs().count(), 1);
        assert_eq!(Peeked::default().runs().count(), 0);
    }

    #[test]
    fn stores_in_order_are_foreseen() {
        let mut page = CodePage::default();
        assert_eq!(page.written(100, 4), 4);
        assert_eq!(page.written(104, 4), AHEAD);
        assert_eq!(page.written(100, 4), 4);
        assert_eq!(page.written(3900, 1), 1);
        assert_eq!(page.written(3901, 1), 4096 - 3901);
    }
}
