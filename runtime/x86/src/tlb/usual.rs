//! Maps of the pages that lie at the usual addend, a byte for each page of the first 4 GiB: what generated code of 16 and 32 bits asks
//! before it asks the tags. A byte is as good as a tag and an addend there, and 64 pages are in one line of the host's cache.
//!
//! A page is on a map only as long as its slot holds its tag with the usual addend, so that there is nothing that only maps know.

use super::SLOTS;

/// Bytes of a map.
pub const MAP: usize = 1 << 20;
/// Byte offset of the map for reads in a view.
pub const READS: usize = 56 * SLOTS;
/// Byte offset of the map for writes.
pub const WRITES: usize = READS + MAP;

/// In a page's byte: it is entered.
pub const HERE: u8 = 1;
/// The page that follows is, too, so that an access may reach into it.
pub const NEXT: u8 = 2;

/// A map.
pub(super) struct Usual<'a>(pub(super) &'a mut [u64]);

impl Usual<'_> {
    /// The page at this linear address is entered.
    #[inline]
    pub(super) fn show(&mut self, lin: u64) {
        self.change(lin, |word, bits| word | bits);
    }

    /// It is not, or no longer.
    #[inline]
    pub(super) fn hide(&mut self, lin: u64) {
        self.change(lin, |word, bits| word & !bits);
    }

    /// Changes the bits that speak of a page: in its byte and in the one before.
    #[inline]
    fn change(&mut self, lin: u64, with: impl Fn(u64, u64) -> u64) {
        const BOTH: u64 = (HERE as u64) << 8 | NEXT as u64;
        let page = lin >> 12;
        let at = (page / 8) as usize;
        let Some(word) = self.0.get_mut(at) else { return };
        match page % 8 {
            0 => {
                *word = with(*word, HERE.into());
                // Behind the last page comes none: the first one's host address is another.
                if let Some(word) = at.checked_sub(1).and_then(|at| self.0.get_mut(at)) {
                    *word = with(*word, u64::from(NEXT) << 56);
                }
            }
            n => *word = with(*word, BOTH << (8 * (n - 1))),
        }
    }

    /// A page's byte.
    #[cfg(test)]
    pub(super) fn at(&self, lin: u64) -> u8 {
        let page = lin >> 12;
        self.0.get((page / 8) as usize).map_or(0, |word| (word >> (8 * (page % 8))) as u8)
    }
}
