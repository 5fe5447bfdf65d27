//! Shifts, rotates and double shifts.
//!
//! The count is masked to 5 bits, at 64-bit width to 6; a masked count of 0 changes nothing, flags included.

use super::alu::{AF, Alu, CF, OF, sign_extend, szp, top, when};
use crate::{Code, Width};

/// `Shl`, `Shr`, `Sar`.
pub(super) fn shift(code: Code, w: Width, a: u64, count: u64, flags: u32) -> Alu {
    let n = count as u32 & w.count_mask();
    if n == 0 {
        return Alu { d: a, e: 0, flags };
    }
    let bits = w.bits();
    let (d, out) = match code {
        Code::Shl => {
            let wide = u128::from(a) << n;
            (wide as u64 & w.mask(), wide >> bits & 1 != 0)
        }
        Code::Shr => (a >> n, a >> (n - 1) & 1 != 0),
        _ => {
            let s = sign_extend(w, a).cast_signed();
            ((s >> n).cast_unsigned() & w.mask(), s >> (n - 1) & 1 != 0)
        }
    };
    let overflow = if code == Code::Shl { top(w, d) != out } else { two_top_differ(w, d) };
    Alu { d, e: 0, flags: szp(w, d) | when(out, CF) | AF | when(overflow, OF) }
}

/// `Rol`, `Ror`: CF and OF only.
pub(super) fn rotate(code: Code, w: Width, a: u64, count: u64, flags: u32) -> Alu {
    let masked = count as u32 & w.count_mask();
    if masked == 0 {
        return Alu { d: a, e: 0, flags };
    }
    let bits = w.bits();
    let n = masked % bits;
    let left = if code == Code::Rol { n } else { (bits - n) % bits };
    let wide = u128::from(a) << left;
    let d = (wide as u64 | (wide >> bits) as u64) & w.mask();
    if code == Code::Rol {
        let out = d & 1 != 0;
        carry_and_overflow(d, out, top(w, d) != out, flags)
    } else {
        carry_and_overflow(d, top(w, d), two_top_differ(w, d), flags)
    }
}

/// `Rcl`, `Rcr`: rotates of width + 1 bits through CF; CF and OF only.
pub(super) fn rotate_carry(code: Code, w: Width, a: u64, count: u64, flags: u32) -> Alu {
    let masked = count as u32 & w.count_mask();
    if masked == 0 {
        return Alu { d: a, e: 0, flags };
    }
    let bits = w.bits();
    let ring = bits + 1;
    let n = masked % ring;
    let left = if code == Code::Rcl { n } else { (ring - n) % ring };
    let whole = u128::from(a) | u128::from(flags & CF) << bits;
    let turned = if left == 0 { whole } else { whole << left | whole >> (ring - left) };
    let d = turned as u64 & w.mask();
    let out = turned >> bits & 1 != 0;
    let overflow = if code == Code::Rcl { top(w, d) != out } else { two_top_differ(w, d) };
    carry_and_overflow(d, out, overflow, flags)
}

/// `Shld`, `Shrd`. At 16 bits a count above 16 is undefined: the result is then the source rotated and CF
/// a bit of `a` shifted out long ago, 0, as Zen 5 does.
pub(super) fn double_shift(code: Code, w: Width, a: u64, b: u64, count: u64, flags: u32) -> Alu {
    let n = count as u32 & w.count_mask();
    if n == 0 {
        return Alu { d: a, e: 0, flags };
    }
    let bits = w.bits();
    let past = n > bits;
    let (a_part, b_part) = if past { (b, n - bits) } else { (a, n) };
    let (d, out, overflow) = if code == Code::Shld {
        let wide = (u128::from(a_part) << bits | u128::from(b)) << b_part;
        let d = (wide >> bits) as u64 & w.mask();
        let alone = u128::from(a) << n;
        let out = alone >> bits & 1 != 0;
        (d, out, out != (alone >> (bits - 1) & 1 != 0))
    } else {
        let wide = u128::from(b) << bits | u128::from(a_part);
        let d = (wide >> b_part) as u64 & w.mask();
        (d, a >> (n - 1) & 1 != 0, two_top_differ(w, d))
    };
    Alu { d, e: 0, flags: szp(w, d) | when(out, CF) | AF | when(overflow, OF) }
}

fn two_top_differ(w: Width, d: u64) -> bool {
    top(w, d) != top(w, d << 1)
}

fn carry_and_overflow(d: u64, carry: bool, overflow: bool, flags: u32) -> Alu {
    Alu { d, e: 0, flags: flags & !(CF | OF) | when(carry, CF) | when(overflow, OF) }
}
