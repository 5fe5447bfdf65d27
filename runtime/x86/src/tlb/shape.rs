//! Which address bits select a slot.
//!
//! Mostly those right above the page offset. Arrays that lie a power of two apart and are gone through side by side then share a
//! slot, page for page, however many there are; so some bits may come from further up, where such arrays differ.

use mem::Lin;

use super::SLOTS;

/// log2 of [`SLOTS`].
const BITS: u32 = SLOTS.trailing_zeros();
/// How many bits come from further up, if any do.
pub(super) const HIGH: usize = 3;

/// `low` address bits from bit 12 on and, above them in the slot's number, `high` bits from bit `from` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    low: u32,
    high: u32,
    from: u32,
}

impl Shape {
    /// So many slots, a power of two, for pages in a row.
    pub(super) const fn plain(size: usize) -> Self {
        Self { low: size.trailing_zeros(), high: 0, from: 12 }
    }

    /// All slots there are, for pages that differ from address bit `from` on.
    pub(super) const fn split(from: u32) -> Self {
        let high = HIGH as u32;
        let low = BITS - high;
        if from <= 12 + low || from > 64 - high {
            return Self::plain(SLOTS);
        }
        Self { low, high, from }
    }

    /// Slots in use.
    pub(super) const fn size(self) -> usize {
        1 << (self.low + self.high)
    }

    /// Pages in a row that have slots in a row, if the first one's number is a multiple of this.
    pub(super) const fn row(self) -> usize {
        1 << self.low
    }

    /// The `pext` mask: what it extracts from an address is the slot.
    pub(super) const fn mask(self) -> u64 {
        ((1 << self.low) - 1) << 12 | ((1 << self.high) - 1) << self.from
    }

    /// The slot of a linear address.
    #[inline]
    pub(super) const fn slot_of(self, lin: Lin) -> usize {
        let low = lin.0 >> 12 & ((1 << self.low) - 1);
        let high = lin.0 >> self.from & ((1 << self.high) - 1);
        (high << self.low | low) as usize & (SLOTS - 1)
    }

    /// The tag of an empty slot: a page whose slot is another, and that agrees in some bit with every page of this slot, so that their
    /// difference and a length below a page's never add up to nothing. 0 does but for the first slot and the last.
    #[inline]
    pub(super) const fn empty_tag(self, slot: usize) -> u64 {
        const FIRST: u64 = 1 << 12;
        match slot {
            0 => FIRST,
            _ if slot == self.size() - 1 => self.mask() & !FIRST,
            _ => 0,
        }
    }

    /// The lowest address bit that two pages of one slot differ in.
    pub(super) const fn differ_at(self, a: u64, b: u64) -> u32 {
        ((a ^ b) & !self.mask() & !0xFFF).trailing_zeros()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pext(value: u64, mask: u64) -> u64 {
        let bits = (0..64).filter(|&bit| mask >> bit & 1 != 0);
        bits.enumerate().map(|(to, from)| (value >> from & 1) << to).sum()
    }

    #[test]
    fn slots_are_what_the_mask_extracts() {
        let shapes = (0..64).map(Shape::split).chain([Shape::plain(1024), Shape::plain(SLOTS)]);
        for shape in shapes {
            let mut lin = 0x9E37_79B9_7F4A_7C15u64;
            for _ in 0..200 {
                lin = lin.rotate_left(7).wrapping_mul(0x2545_F491_4F6C_DD1D);
                assert_eq!(shape.slot_of(Lin(lin)) as u64, pext(lin, shape.mask()), "{shape:?}");
            }
            assert_eq!(shape.size(), 1 << shape.mask().count_ones());
        }
    }

    #[test]
    fn empty_slots_differ_and_agree() {
        for shape in [Shape::plain(1024), Shape::plain(SLOTS), Shape::split(26), Shape::split(40)] {
            for slot in 0..shape.size() {
                let of_tag = shape.slot_of(Lin(shape.empty_tag(slot)));
                let all = shape.size() - 1;
                assert!(of_tag != slot && of_tag != all - slot, "slot {slot} of {shape:?}");
            }
        }
    }

    #[test]
    fn pages_of_one_slot_differ_elsewhere() {
        let (shape, split) = (Shape::plain(SLOTS), Shape::split(28));
        assert_eq!(shape.differ_at(0x1234_5000, 0x5234_5000), 30);
        assert_eq!(split.differ_at(0x1234_5000, 0x1334_5000), 24);
        assert_eq!(Shape::split(23), shape);
    }
}
