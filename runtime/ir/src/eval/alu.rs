//! Every arithmetic op as a pure function of its operands and the flags before it.
//!
//! Values and defined flags are those of the manual (SDM Vol. 2, the page of each instruction). Flags the
//! manual calls undefined are the host's ([`Undefined`]). On all known hosts logical operations clear AF, divisions
//! and bit tests leave undefined flags alone, and bit scans take PF from the result.

use super::{Undefined, bits, mul, shift};
use crate::{Code, FlagMask, Width};

/// CF in EFLAGS.
pub(crate) const CF: u32 = 1;
/// PF in EFLAGS.
pub(crate) const PF: u32 = 1 << 2;
/// AF in EFLAGS.
pub(crate) const AF: u32 = 1 << 4;
/// ZF in EFLAGS.
pub(crate) const ZF: u32 = 1 << 6;
/// SF in EFLAGS.
pub(crate) const SF: u32 = 1 << 7;
/// OF in EFLAGS.
pub(crate) const OF: u32 = 1 << 11;
/// All six.
pub(crate) const ALL: u32 = FlagMask::ALL.eflags();

/// What an arithmetic op makes: its results, truncated to the width, and the six flags after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Alu {
    /// Result `d`.
    pub d: u64,
    /// Second result `e`, for the ops that have one.
    pub e: u64,
    /// CF PF AF ZF SF OF in EFLAGS positions; other bits 0.
    pub flags: u32,
}

/// Runs `code` at width `w`. `a`, `b`, `c` may carry anything above their width; `flags` anything outside
/// the six. `None` if the code is not arithmetic. All flags the instruction sets are set, whatever `fdef` says.
pub fn alu(code: Code, w: Width, a: u64, b: u64, c: u64, flags: u32) -> Option<Alu> {
    let m = w.mask();
    let (a, b) = (a & m, b & m);
    let flags = flags & ALL;
    let carry = u64::from(flags & CF);
    let like = Undefined::of_host();
    Some(match code {
        Code::Add => add(w, a, b, 0),
        Code::Adc => add(w, a, b, carry),
        Code::Sub => sub(w, a, b, 0),
        Code::Sbb => sub(w, a, b, carry),
        Code::Neg => sub(w, 0, a, 0),
        Code::Inc => keep(add(w, a, 1, 0), CF, flags),
        Code::Dec => keep(sub(w, a, 1, 0), CF, flags),
        Code::And => logic(w, a & b),
        Code::Or => logic(w, a | b),
        Code::Xor => logic(w, a ^ b),
        Code::Not => Alu { d: !a & m, e: 0, flags },
        Code::Shl | Code::Shr | Code::Sar => shift::shift(like, code, w, a, b, flags),
        Code::Rol | Code::Ror => shift::rotate(like, code, w, a, b, flags),
        Code::Rcl | Code::Rcr => shift::rotate_carry(like, code, w, a, b, flags),
        Code::Shld | Code::Shrd => shift::double_shift(like, code, w, a, b, c, flags),
        Code::Imul | Code::Muls2 => mul::signed(like, w, a, b, flags),
        Code::Mulu2 => mul::unsigned(like, w, a, b, flags),
        Code::Divu2 => mul::divide_unsigned(w, a, b, c & m, flags),
        Code::Divs2 => mul::divide_signed(w, a, b, c & m, flags),
        Code::Bt | Code::Bts | Code::Btr | Code::Btc => bits::test(code, w, a, b, flags),
        Code::Bsf | Code::Bsr => bits::scan(code, w, a, b),
        Code::Clz | Code::Ctz | Code::Popcnt => bits::count(code, w, a, flags),
        Code::Bswap => bits::swap(w, a, flags),
        _ => return None,
    })
}

/// The sign bit of width `w` in `v`.
pub(crate) const fn top(w: Width, v: u64) -> bool {
    v >> (w.bits() - 1) & 1 != 0
}

/// `v` sign-extended from width `w`.
pub(crate) const fn sign_extend(w: Width, v: u64) -> u64 {
    let by = 64 - w.bits();
    ((v << by).cast_signed() >> by).cast_unsigned()
}

/// `bit` if `on`.
pub(crate) const fn when(on: bool, bit: u32) -> u32 {
    if on { bit } else { 0 }
}

/// SF, ZF and PF of a result.
pub(crate) const fn szp(w: Width, d: u64) -> u32 {
    when(top(w, d), SF) | when(d & w.mask() == 0, ZF) | when((d as u8).count_ones() & 1 == 0, PF)
}

fn keep(r: Alu, kept: u32, flags: u32) -> Alu {
    Alu { flags: r.flags & !kept | flags & kept, ..r }
}

fn add(w: Width, a: u64, b: u64, carry: u64) -> Alu {
    let d = a.wrapping_add(b).wrapping_add(carry) & w.mask();
    // The carry out of bit n is the majority of the two operand bits and the inverted result bit.
    let carries = a & b | (a | b) & !d;
    let overflow = (a ^ d) & (b ^ d);
    let flags = szp(w, d)
        | when(top(w, carries), CF)
        | when((a ^ b ^ d) & 0x10 != 0, AF)
        | when(top(w, overflow), OF);
    Alu { d, e: 0, flags }
}

fn sub(w: Width, a: u64, b: u64, borrow: u64) -> Alu {
    let d = a.wrapping_sub(b).wrapping_sub(borrow) & w.mask();
    let borrows = !a & b | (!a | b) & d;
    let overflow = (a ^ b) & (a ^ d);
    let flags = szp(w, d)
        | when(top(w, borrows), CF)
        | when((a ^ b ^ d) & 0x10 != 0, AF)
        | when(top(w, overflow), OF);
    Alu { d, e: 0, flags }
}

fn logic(w: Width, d: u64) -> Alu {
    Alu { d, e: 0, flags: szp(w, d) }
}
