//! Shifts, rotates and double shifts.
//!
//! The count is masked to 5 bits, at 64-bit width to 6; a masked count of 0 changes nothing, flags included.
//! AF, and OF of any count but 1, are undefined: see [`Undefined`].

use super::Undefined;
use super::alu::{AF, Alu, CF, OF, sign_extend, szp, top, when};
use crate::{Code, Width};

/// `Shl`, `Shr`, `Sar`.
pub(super) fn shift(like: Undefined, code: Code, w: Width, a: u64, count: u64, flags: u32) -> Alu {
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
    let overflow = match (like, code) {
        (Undefined::Zen, Code::Shl) => top(w, d) != out,
        (Undefined::Zen, _) => two_top_differ(w, d),
        (Undefined::Core, Code::Shl) => two_top_differ(w, a),
        (Undefined::Core, Code::Shr) => top(w, a),
        (Undefined::Core, _) => false,
    };
    shifted(like, w, d, out, overflow)
}

/// What a shift by more than 0 makes of its result, the last bit out and OF.
fn shifted(like: Undefined, w: Width, d: u64, out: bool, overflow: bool) -> Alu {
    let auxiliary = when(like == Undefined::Zen, AF);
    Alu { d, e: 0, flags: szp(w, d) | when(out, CF) | auxiliary | when(overflow, OF) }
}

/// `Rol`, `Ror`: CF and OF only.
pub(super) fn rotate(like: Undefined, code: Code, w: Width, a: u64, count: u64, flags: u32) -> Alu {
    let masked = count as u32 & w.count_mask();
    if masked == 0 {
        return Alu { d: a, e: 0, flags };
    }
    let bits = w.bits();
    let n = masked % bits;
    let left = if code == Code::Rol { n } else { (bits - n) % bits };
    let wide = u128::from(a) << left;
    let d = (wide as u64 | (wide >> bits) as u64) & w.mask();
    let out = if code == Code::Rol { d & 1 != 0 } else { top(w, d) };
    let overflow = match (like, code) {
        (Undefined::Zen, Code::Rol) => top(w, d) != out,
        (Undefined::Zen, _) => two_top_differ(w, d),
        (Undefined::Core, Code::Rol) => two_top_differ(w, a),
        (Undefined::Core, _) => top(w, a) != (a & 1 != 0),
    };
    carry_and_overflow(d, out, overflow, flags)
}

/// `Rcl`, `Rcr`: rotates of width + 1 bits through CF; CF and OF only.
pub(super) fn rotate_carry(
    like: Undefined,
    code: Code,
    w: Width,
    a: u64,
    count: u64,
    flags: u32,
) -> Alu {
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
    let overflow = match (like, code) {
        (Undefined::Zen, Code::Rcl) => top(w, d) != out,
        (Undefined::Zen, _) => two_top_differ(w, d),
        // Once or more round, and nothing else: not even the first step.
        (Undefined::Core, _) if n == 0 => flags & OF != 0,
        (Undefined::Core, Code::Rcl) => two_top_differ(w, a),
        (Undefined::Core, _) => top(w, a) != (flags & CF != 0),
    };
    carry_and_overflow(d, out, overflow, flags)
}

/// `Shld`, `Shrd`. At 16 bits a count above 16 is undefined: the source is rotated then, and CF a bit of `a`
/// shifted out long ago, 0 (Zen), or destination, source and destination are shifted as one (Core).
pub(super) fn double_shift(
    like: Undefined,
    code: Code,
    w: Width,
    a: u64,
    b: u64,
    count: u64,
    flags: u32,
) -> Alu {
    let n = count as u32 & w.count_mask();
    match (n, like) {
        (0, _) => Alu { d: a, e: 0, flags },
        (_, Undefined::Zen) => double_shift_zen(code, w, a, b, n),
        (_, Undefined::Core) => double_shift_core(code, w, a, b, n),
    }
}

fn double_shift_core(code: Code, w: Width, a: u64, b: u64, n: u32) -> Alu {
    let is_left = code == Code::Shld;
    let bits = w.bits();
    let pair = |high, low| u128::from(high) << bits | u128::from(low);
    let (whole, size) = match w {
        Width::W16 => (pair(a, b) << bits | u128::from(a), 3 * bits),
        _ if is_left => (pair(a, b), 2 * bits),
        _ => (pair(b, a), 2 * bits),
    };
    let (at, last_out) = if is_left { (size - bits - n, size - n) } else { (n, n - 1) };
    let overflow = if is_left { two_top_differ(w, a) } else { top(w, a) != (b & 1 != 0) };
    shifted(
        Undefined::Core,
        w,
        (whole >> at) as u64 & w.mask(),
        whole >> last_out & 1 != 0,
        overflow,
    )
}

fn double_shift_zen(code: Code, w: Width, a: u64, b: u64, n: u32) -> Alu {
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
    shifted(Undefined::Zen, w, d, out, overflow)
}

fn two_top_differ(w: Width, d: u64) -> bool {
    top(w, d) != top(w, d << 1)
}

fn carry_and_overflow(d: u64, carry: bool, overflow: bool, flags: u32) -> Alu {
    Alu { d, e: 0, flags: flags & !(CF | OF) | when(carry, CF) | when(overflow, OF) }
}
