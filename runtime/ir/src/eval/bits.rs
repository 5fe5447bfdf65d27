//! Bit tests, scans and counts.

use super::alu::{Alu, CF, SF, ZF, szp, when};
use crate::{Code, Width};

/// `Bt`, `Bts`, `Btr`, `Btc`: CF only. The bit number is taken modulo the width.
pub(super) fn test(code: Code, w: Width, a: u64, bit: u64, flags: u32) -> Alu {
    let one = 1u64 << (bit as u32 & (w.bits() - 1));
    let d = match code {
        Code::Bts => a | one,
        Code::Btr => a & !one,
        Code::Btc => a ^ one,
        _ => a,
    };
    Alu { d, e: 0, flags: flags & !CF | when(a & one != 0, CF) }
}

/// `Bsf`, `Bsr`: `otherwise` if no bit is set.
pub(super) fn scan(code: Code, w: Width, a: u64, otherwise: u64) -> Alu {
    if a == 0 {
        return Alu { d: otherwise, e: 0, flags: szp(w, 0) };
    }
    let d = u64::from(if code == Code::Bsf { a.trailing_zeros() } else { 63 - a.leading_zeros() });
    Alu { d, e: 0, flags: szp(w, d) & !(ZF | SF) }
}

/// `Clz`, `Ctz`, `Popcnt`: no flags.
pub(super) fn count(code: Code, w: Width, a: u64, flags: u32) -> Alu {
    let bits = w.bits();
    let d = match code {
        Code::Clz => a.leading_zeros() - (64 - bits),
        Code::Ctz => a.trailing_zeros().min(bits),
        _ => a.count_ones(),
    };
    Alu { d: u64::from(d), e: 0, flags }
}

/// `Bswap`; at 16 bits it swaps two bytes.
pub(super) fn swap(w: Width, a: u64, flags: u32) -> Alu {
    Alu { d: a.swap_bytes() >> (64 - w.bits()), e: 0, flags }
}
