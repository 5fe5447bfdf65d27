//! Values known while lowering: widths and literals, and what is made of them.

use crate::model::{Expr, ExprKind, ExprWidth};

/// Sizes in force: the row's `W`, and operand, address and stack size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) w: u32,
    pub(crate) osz: u32,
    pub(crate) asz: u32,
    pub(crate) ssz: u32,
}

impl Sizes {
    /// Is it 64-bit code? Only there the stack is 64 bits wide.
    const fn is_code64(&self) -> bool {
        self.ssz == 64
    }

    /// Bits of a control or debug register.
    pub(crate) const fn system_register(&self) -> u32 {
        if self.is_code64() { 64 } else { 32 }
    }

    /// Bits of the base in a descriptor-table image.
    pub(crate) const fn table_base(&self) -> u32 {
        if self.is_code64() { 64 } else { 32 }
    }

    /// Bits of a width.
    pub(crate) fn bits(&self, width: ExprWidth) -> u32 {
        match width {
            ExprWidth::Bits(bits) => bits,
            ExprWidth::W => self.w,
            ExprWidth::A => self.asz,
            ExprWidth::S => self.ssz,
            ExprWidth::W2 => self.w * 2,
        }
    }
}

/// The value of an expression of literals and widths only; truth values are 0 and 1.
pub(crate) fn konst(e: &Expr, sizes: &Sizes) -> Option<u64> {
    match &e.kind {
        ExprKind::Int(v) => Some(*v),
        ExprKind::Bool(b) => Some(u64::from(*b)),
        ExprKind::WidthNum(w) => Some(u64::from(sizes.bits(*w))),
        ExprKind::Bin(op, a, b) => {
            let (a, b) = (konst(a, sizes)?, konst(b, sizes)?);
            binary(op, a, b)
        }
        ExprKind::If(c, a, b) => konst(if konst(c, sizes)? != 0 { a } else { b }, sizes),
        _ => None,
    }
}

fn binary(op: &str, a: u64, b: u64) -> Option<u64> {
    let count = |b: u64| (b < 64).then_some(b as u32);
    Some(match op {
        "+" => a.wrapping_add(b),
        "-" => a.wrapping_sub(b),
        "*" => a.wrapping_mul(b),
        "&" => a & b,
        "|" => a | b,
        "^" => a ^ b,
        "<<" => a.wrapping_shl(count(b)?),
        ">>" => a.wrapping_shr(count(b)?),
        "==" => u64::from(a == b),
        "!=" => u64::from(a != b),
        "<" => u64::from(a < b),
        "<=" => u64::from(a <= b),
        ">" => u64::from(a > b),
        ">=" => u64::from(a >= b),
        "&&" => u64::from(a != 0 && b != 0),
        "||" => u64::from(a != 0 || b != 0),
        _ => return None,
    })
}
