//! The parts of a block that are one insn each.

use std::ops::Range;

/// Ops of one insn. They mention no temporary of another unit, and no label but their own where the unit has a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Its ops. None where the unit has a name by which its code may be known: whoever does not know it asks for them.
    pub ops: Range<usize>,
    /// The same insn with [`others`] in the place of its values, to see what depends on them. May be empty.
    pub probe: Range<usize>,
    /// Units of one name and equal values are the same ops, but for numbers of temporaries, constants and labels, and what tells their
    /// places. 0: it has none. Names in use at the same time differ modulo [`Unit::NAMES`], and a name is never used again for other ops.
    pub name: u32,
    /// Page offsets that `goto_tb` and `read_pc` of a unit with a name may tell: where the insn stands, where the next one does, and where it
    /// leads to by its displacement.
    pub places: [u32; 3],
    /// Displacement and immediate. Units of one name have values of the same [`class`]es.
    pub values: [i64; 2],
}

impl Unit {
    /// Most names in use at the same time.
    pub const NAMES: usize = 16384;

    /// One without a name that begins at an op and ends where the next one begins.
    pub const fn anonymous(first: usize) -> Self {
        Self { ops: first..usize::MAX, probe: 0..0, name: 0, places: [0; 3], values: [0; 2] }
    }
}

/// Class of a value: 0 and -1 are by themselves, others go by sign and size in bytes. Nothing above 32 bits has one.
pub fn class(value: i64) -> Option<u8> {
    let size = match value {
        0 | -1 => 0,
        _ if i8::try_from(value).is_ok() => 1,
        _ if i16::try_from(value).is_ok() => 2,
        _ if i32::try_from(value).is_ok() => 3,
        _ => return None,
    };
    Some(size << 1 | u8::from(value < 0))
}

/// How many of a value's low bytes differ within its class.
pub fn class_bytes(value: i64) -> usize {
    [0, 1, 2, 4][usize::from(class(value).unwrap_or(0) >> 1)]
}

/// For values 0 and 1 of a unit, others of the same classes that differ in all these bytes, and in another way for each; the same where
/// it is the only one of its class.
pub fn others(values: [i64; 2]) -> Option<[i64; 2]> {
    const FLIPPED: [[i64; 4]; 2] = [[0, 0x7F, 0x7FFF, 0x7FFF_FFFF], [0, 0x55, 0x5555, 0x5555_5555]];
    let mut others = values;
    for (other, flipped) in others.iter_mut().zip(FLIPPED) {
        let known = class(*other);
        *other ^= flipped[usize::from(known? >> 1)];
        if class(*other) != known {
            return None;
        }
    }
    Some(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_differ_in_every_byte_that_may() {
        let values = (-70_000..70_000).chain((-2_147_483_648..2_147_483_648).step_by(65_519));
        for value in values {
            let Some(others) = others([value, value]) else { continue };
            for other in others {
                assert_eq!(class(value), class(other));
                let (a, b) = (value.to_le_bytes(), other.to_le_bytes());
                for n in 0..8 {
                    assert_eq!(a[n] != b[n], n < class_bytes(value), "{value:#x} {other:#x}");
                }
            }
            let [a, b] = others.map(i64::to_le_bytes);
            assert!((0..class_bytes(value)).all(|n| a[n] != b[n]), "{value:#x}");
        }
        assert_eq!(others([0, -1]), Some([0, -1]));
        assert_eq!((others([5, 5]), others([0x7F, 5])), (Some([0x7A, 0x50]), None));
        assert_eq!((class(1 << 31), others([1 << 40, 0])), (None, None));
    }
}
