//! Truth values of a body: static, a condition on the entry flags, a comparison, a 0/1 byte, or a pair.

use super::Lower;
use super::node::{Kind, NO, Node, V, sign_extend};
use ir::{Code, Cond, FlagMask, Width};

/// A truth value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum B {
    /// Known now.
    Const(bool),
    /// The flags at entry satisfy a condition.
    Flags(Cond),
    /// AF at entry, for which there is no condition.
    Af,
    /// Two nodes of equal width compare so.
    Cmp(Cond, u16, u16),
    /// A byte node that holds 0 or 1.
    Bit(u16),
    /// Both of a pair.
    And(u16),
    /// One of a pair.
    Or(u16),
}

impl Default for B {
    fn default() -> Self {
        Self::Const(false)
    }
}

impl B {
    /// A flag at entry by its `FlagMask` bit.
    pub(crate) const fn flag(mask: u8) -> Self {
        match FlagMask(mask) {
            FlagMask::C => Self::Flags(Cond::B),
            FlagMask::P => Self::Flags(Cond::P),
            FlagMask::Z => Self::Flags(Cond::E),
            FlagMask::S => Self::Flags(Cond::S),
            FlagMask::O => Self::Flags(Cond::O),
            _ => Self::Af,
        }
    }
}

/// Truth values and numbers both know `! & | ^` and `if`.
pub(crate) trait Logic: Copy {
    /// `!x`.
    fn invert(self, cx: &mut Lower<'_>) -> Self;
    /// `a OP b`, OP by its op code.
    fn combine(self, cx: &mut Lower<'_>, code: Code, other: Self) -> Self;
    /// `if c { a } else { b }`.
    fn choose(cx: &mut Lower<'_>, c: B, a: Self, b: Self) -> Self;
}

impl Logic for B {
    fn invert(self, cx: &mut Lower<'_>) -> Self {
        cx.negation(self)
    }

    fn combine(self, cx: &mut Lower<'_>, code: Code, other: Self) -> Self {
        match code {
            Code::And => cx.both(self, other),
            Code::Or => cx.either(self, other),
            _ => {
                let (a, b) = (cx.bit_node(self), cx.bit_node(other));
                B::Bit(cx.op_node(Code::Xor, Width::W8, &[a, b]))
            }
        }
    }

    fn choose(cx: &mut Lower<'_>, c: B, a: Self, b: Self) -> Self {
        match (c, a, b) {
            (B::Const(c), _, _) => {
                if c {
                    a
                } else {
                    b
                }
            }
            _ if a == b => a,
            (_, B::Const(true), b) => cx.either(c, b),
            (_, a, B::Const(false)) => cx.both(c, a),
            (_, B::Const(false), b) => {
                let not = cx.negation(c);
                cx.both(not, b)
            }
            (_, a, B::Const(true)) => {
                let not = cx.negation(c);
                cx.either(not, a)
            }
            _ => {
                let (a, b) = (cx.bit_node(a), cx.bit_node(b));
                B::Bit(cx.select_nodes(c, a, b, Width::W8))
            }
        }
    }
}

impl Logic for V {
    fn invert(self, cx: &mut Lower<'_>) -> Self {
        cx.complement(self)
    }

    fn combine(self, cx: &mut Lower<'_>, code: Code, other: Self) -> Self {
        cx.binary(code, self, other)
    }

    fn choose(cx: &mut Lower<'_>, c: B, a: Self, b: Self) -> Self {
        match c {
            B::Const(true) => return a,
            B::Const(false) => return b,
            _ if a == b => return a,
            _ => {}
        }
        let width = cx.common(a, b);
        let w = width.unwrap_or(Width::W64);
        let (a, b) = (cx.fit(a, w), cx.fit(b, w));
        let n = cx.select_nodes(c, a, b, w);
        if width.is_none() {
            cx.work.nodes[usize::from(n)].adapts = true;
        }
        V::Node(n)
    }
}

impl Lower<'_> {
    /// `!x`.
    pub(super) fn not<T: Logic>(&mut self, x: T) -> T {
        x.invert(self)
    }
    /// `a & b`.
    pub(super) fn and<T: Logic>(&mut self, a: T, b: T) -> T {
        a.combine(self, Code::And, b)
    }
    /// `a | b`.
    pub(super) fn or<T: Logic>(&mut self, a: T, b: T) -> T {
        a.combine(self, Code::Or, b)
    }
    /// `a ^ b`.
    pub(super) fn xor<T: Logic>(&mut self, a: T, b: T) -> T {
        a.combine(self, Code::Xor, b)
    }
    /// `if c { a } else { b }`.
    pub(super) fn select<T: Logic>(&mut self, c: B, a: T, b: T) -> T {
        let c = self.plain(c);
        T::choose(self, c, a, b)
    }
    /// May `c` turn out to be `value`?
    pub(super) fn may_be(&self, c: B, value: bool) -> bool {
        c != B::Const(!value)
    }

    /// `a && b`.
    pub(super) fn both(&mut self, a: B, b: B) -> B {
        match (self.plain(a), self.plain(b)) {
            (B::Const(false), _) | (_, B::Const(false)) => B::Const(false),
            (B::Const(true), x) | (x, B::Const(true)) => x,
            (a, b) if a == b => a,
            (a, b) => B::And(self.pair(a, b)),
        }
    }

    /// `a || b`.
    pub(super) fn either(&mut self, a: B, b: B) -> B {
        match (self.plain(a), self.plain(b)) {
            (B::Const(true), _) | (_, B::Const(true)) => B::Const(true),
            (B::Const(false), x) | (x, B::Const(false)) => x,
            (a, b) if a == b => a,
            (a, b) => B::Or(self.pair(a, b)),
        }
    }

    fn pair(&mut self, a: B, b: B) -> u16 {
        self.work.pairs.push((a, b));
        (self.work.pairs.len() - 1) as u16
    }

    pub(super) fn negation(&mut self, b: B) -> B {
        match self.plain(b) {
            B::Const(c) => B::Const(!c),
            B::Flags(cond) => B::Flags(cond.invert()),
            B::Cmp(cond, x, y) => B::Cmp(cond.invert(), x, y),
            B::Bit(n) => {
                let zero = self.const_node(0, Width::W8);
                B::Cmp(Cond::E, n, zero)
            }
            B::And(pair) | B::Or(pair) => {
                let (x, y) = self.work.pairs[usize::from(pair)];
                let (x, y) = (self.negation(x), self.negation(y));
                if matches!(b, B::And(_)) { self.either(x, y) } else { self.both(x, y) }
            }
            B::Af => unreachable!("plain() has replaced it"),
        }
    }

    /// Replaces `Af` by a comparison.
    pub(super) fn plain(&mut self, b: B) -> B {
        if b != B::Af {
            return b;
        }
        let flags = self.op_node(Code::Getf, Width::W32, &[]);
        let mask = self.const_node(u64::from(FlagMask::A.eflags()), Width::W32);
        let af = self.op_node(Code::And, Width::W32, &[flags, mask]);
        let zero = self.const_node(0, Width::W32);
        B::Cmp(Cond::Ne, af, zero)
    }

    /// The truth value as a byte node 0 or 1.
    pub(super) fn bit_node(&mut self, b: B) -> u16 {
        match self.plain(b) {
            B::Const(c) => self.const_node(u64::from(c), Width::W8),
            B::Flags(cond) => {
                let mut node = Node::new(Kind::Op(Code::Setccf), Width::W8);
                node.x = cond as u8;
                self.node(node)
            }
            B::Cmp(cond, x, y) => {
                let mut node = Node::new(Kind::Op(Code::Setcond), Width::W8);
                node.ow = self.at_node(x).w;
                node.x = cond as u8;
                node.args = [x, y, NO, NO];
                self.node(node)
            }
            B::Bit(n) => n,
            B::And(pair) | B::Or(pair) => {
                let (x, y) = self.work.pairs[usize::from(pair)];
                let (x, y) = (self.bit_node(x), self.bit_node(y));
                let code = if matches!(b, B::And(_)) { Code::And } else { Code::Or };
                self.op_node(code, Width::W8, &[x, y])
            }
            B::Af => unreachable!("plain() has replaced it"),
        }
    }

    /// `c ? a : b` as a node of width `w`.
    pub(super) fn select_nodes(&mut self, c: B, a: u16, b: u16, w: Width) -> u16 {
        let mut node = Node::new(Kind::Op(Code::Movcond), w);
        match c {
            B::Flags(cond) => {
                node.kind = Kind::Op(Code::Cmovf);
                node.x = cond as u8;
                node.args = [a, b, NO, NO];
            }
            // Extended by their kind, two values compare as they did.
            B::Cmp(cond, x, y) if self.at_node(x).w <= w => {
                let code = if is_signed(cond) { Code::Exts } else { Code::Extu };
                let (x, y) = (self.extend(x, w, code), self.extend(y, w, code));
                node.x = cond as u8;
                node.args = [x, y, a, b];
            }
            c => {
                let bit = self.bit_node(c);
                let bit = self.extend(bit, w, Code::Extu);
                let zero = self.const_node(0, w);
                node.x = Cond::Ne as u8;
                node.args = [bit, zero, a, b];
            }
        }
        self.node(node)
    }

    /// A comparison.
    fn compare(&mut self, cond: Cond, a: V, b: V) -> B {
        let w = self.common(a, b).unwrap_or(Width::W64);
        let (x, y) = (self.fit(a, w), self.fit(b, w));
        match (self.const_of(x), self.const_of(y)) {
            (Some(p), Some(q)) => B::Const(holds(cond, p, q, w)),
            (Some(_), None) => B::Cmp(mirror(cond), y, x),
            _ => B::Cmp(cond, x, y),
        }
    }

    pub(super) fn equal(&mut self, a: V, b: V) -> B {
        self.compare(Cond::E, a, b)
    }
    pub(super) fn differ(&mut self, a: V, b: V) -> B {
        self.compare(Cond::Ne, a, b)
    }
    pub(super) fn below(&mut self, a: V, b: V) -> B {
        self.compare(Cond::B, a, b)
    }
    pub(super) fn below_equal(&mut self, a: V, b: V) -> B {
        self.compare(Cond::Be, a, b)
    }
    pub(super) fn above(&mut self, a: V, b: V) -> B {
        self.compare(Cond::A, a, b)
    }
    pub(super) fn above_equal(&mut self, a: V, b: V) -> B {
        self.compare(Cond::Ae, a, b)
    }
    pub(super) fn slt(&mut self, a: V, b: V) -> B {
        self.compare(Cond::L, a, b)
    }
    pub(super) fn sle(&mut self, a: V, b: V) -> B {
        self.compare(Cond::Le, a, b)
    }
    pub(super) fn sgt(&mut self, a: V, b: V) -> B {
        self.compare(Cond::G, a, b)
    }
    pub(super) fn sge(&mut self, a: V, b: V) -> B {
        self.compare(Cond::Ge, a, b)
    }

    /// `cond(CC)`: the condition in the opcode's low bits.
    pub(super) fn cond(&mut self) -> B {
        B::Flags(Cond::from_bits(self.insn.condition()))
    }

    /// `cond_sub(a, b)`: that condition on the flags that `a - b` makes.
    pub(super) fn cond_sub(&mut self, a: V, b: V) -> B {
        let cond = Cond::from_bits(self.insn.condition());
        let is = match cond {
            Cond::O | Cond::No => {
                let difference = self.sub(a, b);
                let (x, y) = (self.xor(a, b), self.xor(a, difference));
                let both = self.and(x, y);
                self.slt(both, V::Num(0))
            }
            Cond::S | Cond::Ns => {
                let difference = self.sub(a, b);
                self.slt(difference, V::Num(0))
            }
            Cond::P | Cond::Np => self.has_even_parity(a, b),
            _ => return self.compare(cond, a, b),
        };
        if self.insn.condition() & 1 != 0 { self.negation(is) } else { is }
    }

    /// PF of `a - b`.
    fn has_even_parity(&mut self, a: V, b: V) -> B {
        let difference = self.sub(a, b);
        let mut bits = self.fit(difference, Width::W8);
        for distance in [4, 2, 1] {
            let count = self.const_node(distance, Width::W8);
            let high = self.op_node(Code::Shr, Width::W8, &[bits, count]);
            bits = self.op_node(Code::Xor, Width::W8, &[bits, high]);
        }
        let odd = self.bit(V::Node(bits), V::Num(0));
        self.negation(odd)
    }

    /// `bit(x, i)`: bit i of x, i below x's width.
    pub(super) fn bit(&mut self, x: V, i: V) -> B {
        let w = self.common(x, x).unwrap_or(Width::W64);
        let x = self.fit(x, w);
        let zero = self.const_node(0, w);
        if let V::Num(i) = i {
            let mask = self.const_node(1u64.wrapping_shl(i as u32), w);
            let masked = self.fold(Code::And, w, x, mask);
            return B::Cmp(Cond::Ne, masked, zero);
        }
        let shifted = self.shr(V::Node(x), i);
        let one = self.const_node(1, w);
        let shifted = self.fit(shifted, w);
        let masked = self.fold(Code::And, w, shifted, one);
        B::Cmp(Cond::Ne, masked, zero)
    }

    /// `b2i(b, n)`: 0 or 1.
    pub(super) fn b2i(&mut self, b: B, w: Width) -> V {
        let bit = self.bit_node(b);
        V::Node(self.extend(bit, w, Code::Extu))
    }
}

/// Does the condition compare signed numbers?
const fn is_signed(cond: Cond) -> bool {
    matches!(cond, Cond::L | Cond::Ge | Cond::Le | Cond::G)
}

/// The condition with its sides exchanged.
const fn mirror(cond: Cond) -> Cond {
    match cond {
        Cond::B => Cond::A,
        Cond::A => Cond::B,
        Cond::Ae => Cond::Be,
        Cond::Be => Cond::Ae,
        Cond::L => Cond::G,
        Cond::G => Cond::L,
        Cond::Ge => Cond::Le,
        Cond::Le => Cond::Ge,
        other => other,
    }
}

/// Compares two constants of width `w`.
fn holds(cond: Cond, a: u64, b: u64, w: Width) -> bool {
    let (x, y) = (sign_extend(a, w).cast_signed(), sign_extend(b, w).cast_signed());
    match cond {
        Cond::E => a == b,
        Cond::Ne => a != b,
        Cond::B => a < b,
        Cond::Be => a <= b,
        Cond::A => a > b,
        Cond::Ae => a >= b,
        Cond::L => x < y,
        Cond::Le => x <= y,
        Cond::G => x > y,
        Cond::Ge => x >= y,
        Cond::O | Cond::No | Cond::S | Cond::Ns | Cond::P | Cond::Np => {
            unreachable!("no comparison of integers has this condition")
        }
    }
}
