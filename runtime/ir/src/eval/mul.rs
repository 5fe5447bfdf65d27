//! Multiplication and division.

use super::Undefined;
use super::alu::{Alu, CF, OF, PF, SF, sign_extend, szp, when};
use crate::Width;

/// `Imul`, `Muls2`: CF = OF = the product does not fit the width.
pub(super) fn signed(like: Undefined, w: Width, a: u64, b: u64, flags: u32) -> Alu {
    let wide =
        i128::from(sign_extend(w, a).cast_signed()) * i128::from(sign_extend(w, b).cast_signed());
    let d = wide as u64 & w.mask();
    let lost = i128::from(sign_extend(w, d).cast_signed()) != wide;
    product(like, w, wide.cast_unsigned(), lost, flags)
}

/// `Mulu2`: CF = OF = the high half is not 0.
pub(super) fn unsigned(like: Undefined, w: Width, a: u64, b: u64, flags: u32) -> Alu {
    let wide = u128::from(a) * u128::from(b);
    product(like, w, wide, wide >> w.bits() != 0, flags)
}

fn product(like: Undefined, w: Width, wide: u128, lost: bool, flags: u32) -> Alu {
    let d = wide as u64 & w.mask();
    let others = match like {
        Undefined::Zen => flags & !(CF | OF),
        Undefined::Core => szp(w, d) & (SF | PF),
    };
    Alu { d, e: (wide >> w.bits()) as u64 & w.mask(), flags: others | when(lost, CF | OF) }
}

/// `Divu2` of `high:low`. The caller excluded a divisor of 0 (here 0 and 0) and a quotient beyond the width.
pub(super) fn divide_unsigned(w: Width, low: u64, high: u64, by: u64, flags: u32) -> Alu {
    let n = u128::from(high) << w.bits() | u128::from(low);
    let by = u128::from(by);
    let d = n.checked_div(by).unwrap_or(0) as u64 & w.mask();
    let e = n.checked_rem(by).unwrap_or(0) as u64 & w.mask();
    Alu { d, e, flags }
}

/// `Divs2` of `high:low`, truncating; the remainder has the dividend's sign.
pub(super) fn divide_signed(w: Width, low: u64, high: u64, by: u64, flags: u32) -> Alu {
    let high = i128::from(sign_extend(w, high).cast_signed());
    let n = high << w.bits() | i128::from(low);
    let by = i128::from(sign_extend(w, by).cast_signed());
    let d = n.checked_div(by).unwrap_or(0) as u64 & w.mask();
    let e = n.checked_rem(by).unwrap_or(0) as u64 & w.mask();
    Alu { d, e, flags }
}
