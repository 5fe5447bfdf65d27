//! Arithmetic of bodies: values. The flag kinds of `cc = …` that share their ops are in `kinds`.

use super::Lower;
use super::boolean::B;
use super::node::{Kind, NO, Node, V, sign_extend};
use ir::{Code, Cond, Width};

impl Lower<'_> {
    pub(super) fn add(&mut self, a: V, b: V) -> V {
        self.binary(Code::Add, a, b)
    }
    pub(super) fn sub(&mut self, a: V, b: V) -> V {
        self.binary(Code::Sub, a, b)
    }
    /// The low half of a product; the op starts at 16 bits.
    pub(super) fn imul(&mut self, a: V, b: V) -> V {
        if self.common(a, b) != Some(Width::W8) {
            return self.binary(Code::Imul, a, b);
        }
        let (a, b) = (self.fit(a, Width::W8), self.fit(b, Width::W8));
        let a = self.extend(a, Width::W16, Code::Extu);
        let b = self.extend(b, Width::W16, Code::Extu);
        let product = self.fold(Code::Imul, Width::W16, a, b);
        V::Node(self.cut(product, Width::W8))
    }

    /// `-x`.
    pub(super) fn negate(&mut self, x: V) -> V {
        match x {
            V::Num(n) => V::Num(n.wrapping_neg()),
            V::Node(n) => self.unary(Code::Neg, n),
        }
    }

    /// Bitwise `!x`.
    pub(super) fn complement(&mut self, x: V) -> V {
        match x {
            V::Num(n) => V::Num(!n),
            V::Node(n) => self.unary(Code::Not, n),
        }
    }

    fn unary(&mut self, code: Code, n: u16) -> V {
        let w = self.at_node(n).w;
        match (code, self.const_of(n)) {
            (Code::Neg, Some(value)) => V::Node(self.const_node(value.wrapping_neg(), w)),
            (Code::Not, Some(value)) => V::Node(self.const_node(!value, w)),
            (Code::Bswap, Some(value)) => {
                V::Node(self.const_node(value.swap_bytes() >> (64 - w.bits()), w))
            }
            _ => V::Node(self.op_node(code, w, &[n])),
        }
    }

    /// An op on two values of one width.
    pub(super) fn binary(&mut self, code: Code, a: V, b: V) -> V {
        if let (V::Num(a), V::Num(b)) = (a, b)
            && let Some(value) = evaluate(code, a, b)
        {
            return V::Num(value);
        }
        let w = self.common(a, b).unwrap_or(Width::W64);
        let (a, b) = (self.fit(a, w), self.fit(b, w));
        V::Node(self.fold(code, w, a, b))
    }

    /// An op on two nodes, folded: constants, neutral elements, constants to the right.
    pub(super) fn fold(&mut self, code: Code, w: Width, a: u16, b: u16) -> u16 {
        if let (Some(p), Some(q)) = (self.const_of(a), self.const_of(b))
            && let Some(value) = evaluate(code, p, q)
        {
            return self.const_node(value, w);
        }
        let (mut a, mut b) = (a, b);
        if is_commutative(code) && self.const_of(a).is_some() {
            (a, b) = (b, a);
        }
        if code == Code::Add
            && let Some(k) = self.const_of(b)
            && let Some((inner, j)) = self.sum_of(a)
        {
            let sum = self.const_node(j.wrapping_add(k), w);
            return self.fold(Code::Add, w, inner, sum);
        }
        if code == Code::Add
            && let Some(k) = self.const_of(b)
            && let Some(further) = self.moved_address(a, k)
        {
            return further;
        }
        match (code, self.const_of(b)) {
            (Code::Add | Code::Sub | Code::Or | Code::Xor, Some(0)) => a,
            (Code::And, Some(mask)) if mask == w.mask() => a,
            (Code::And, Some(0)) => b,
            // `d + 1` shares the op of `cc = inc(d)`.
            (Code::Add, Some(1)) => {
                self.find_op(Code::Inc, w, a).unwrap_or_else(|| self.op_node(code, w, &[a, b]))
            }
            (Code::Sub, Some(1)) => {
                self.find_op(Code::Dec, w, a).unwrap_or_else(|| self.op_node(code, w, &[a, b]))
            }
            _ => self.op_node(code, w, &[a, b]),
        }
    }

    /// A node that is another plus a constant.
    fn sum_of(&self, n: u16) -> Option<(u16, u64)> {
        let node = self.at_node(n);
        let [inner, k, ..] = node.args;
        if node.kind == Kind::Op(Code::Add) { Some((inner, self.const_of(k)?)) } else { None }
    }

    /// Address `n` with `k` added to its displacement, if it has one and they fit.
    fn moved_address(&mut self, n: u16, k: u64) -> Option<u16> {
        let mut node = *self.at_node(n);
        if node.kind != Kind::Op(Code::Lea) || !node.val.is_none() {
            return None;
        }
        let k = i32::try_from(sign_extend(k, node.w).cast_signed()).ok()?;
        let disp = (node.imm as u32).cast_signed().checked_add(k)?;
        node.imm = u64::from(disp.cast_unsigned());
        Some(self.node(node))
    }

    /// The node of this op on this first argument, if there is one.
    pub(super) fn find_op(&self, code: Code, w: Width, first: u16) -> Option<u16> {
        let matches = |n: &Node| n.kind == Kind::Op(code) && n.w == w && n.args[0] == first;
        self.work.nodes.iter().position(matches).map(|n| n as u16)
    }

    // ---- shifts

    pub(super) fn shl(&mut self, x: V, k: V) -> V {
        self.shift(Code::Shl, x, k)
    }
    pub(super) fn shr(&mut self, x: V, k: V) -> V {
        self.shift(Code::Shr, x, k)
    }
    pub(super) fn sar(&mut self, x: V, k: V) -> V {
        self.shift(Code::Sar, x, k)
    }
    pub(super) fn rol(&mut self, x: V, k: V) -> V {
        self.shift(Code::Rol, x, k)
    }
    pub(super) fn ror(&mut self, x: V, k: V) -> V {
        self.shift(Code::Ror, x, k)
    }
    pub(super) fn rcl(&mut self, x: V, k: V) -> V {
        self.shift(Code::Rcl, x, k)
    }
    pub(super) fn rcr(&mut self, x: V, k: V) -> V {
        self.shift(Code::Rcr, x, k)
    }

    fn shift(&mut self, code: Code, x: V, k: V) -> V {
        if let (V::Num(x), V::Num(k)) = (x, k)
            && let Some(value) = evaluate(code, x, k & 63)
        {
            return V::Num(value);
        }
        let w = self.common(x, x).or_else(|| self.common(k, k)).unwrap_or(Width::W64);
        let x = self.fit(x, w);
        let count = self.count(k);
        if let Some(k) = self.const_of(count) {
            let k = k & if w == Width::W64 { 63 } else { 31 };
            if k == 0 {
                return V::Node(x);
            }
            if let Some(value) = self.const_of(x) {
                let value = if code == Code::Sar { sign_extend(value, w) } else { value };
                if let Some(value) = evaluate(code, value, k) {
                    return V::Node(self.const_node(value, w));
                }
            }
        }
        V::Node(self.op_node(code, w, &[x, count]))
    }

    /// A shift count: the low byte.
    pub(super) fn count(&mut self, k: V) -> u16 {
        let n = self.as_node(k, Width::W8);
        self.cut(n, Width::W8)
    }

    pub(super) fn shld(&mut self, d: V, s: V, k: V) -> V {
        V::Node(self.double_shift(Code::Shld, d, s, k))
    }
    pub(super) fn shrd(&mut self, d: V, s: V, k: V) -> V {
        V::Node(self.double_shift(Code::Shrd, d, s, k))
    }

    pub(super) fn double_shift(&mut self, code: Code, d: V, s: V, k: V) -> u16 {
        let w = self.common(d, s).unwrap_or(self.width);
        let (d, s) = (self.fit(d, w), self.fit(s, w));
        let count = self.count(k);
        self.op_node(code, w, &[d, s, count])
    }

    // ---- carries

    pub(super) fn adc(&mut self, a: V, b: V, carry: B) -> V {
        V::Node(self.carry_op(Code::Adc, a, b, carry))
    }
    pub(super) fn sbb(&mut self, a: V, b: V, carry: B) -> V {
        V::Node(self.carry_op(Code::Sbb, a, b, carry))
    }

    pub(super) fn carry_op(&mut self, code: Code, a: V, b: V, carry: B) -> u16 {
        if carry != B::Flags(Cond::B) {
            self.mismatches += 1; // the op takes CF at entry and nothing else
        }
        let w = self.common(a, b).unwrap_or(self.width);
        let (a, b) = (self.fit(a, w), self.fit(b, w));
        self.op_node(code, w, &[a, b])
    }

    // ---- products and quotients

    pub(super) fn mulu(&mut self, a: V, b: V) -> (V, V) {
        self.product(Code::Mulu2, a, b)
    }
    pub(super) fn muls(&mut self, a: V, b: V) -> (V, V) {
        self.product(Code::Muls2, a, b)
    }

    fn product(&mut self, code: Code, a: V, b: V) -> (V, V) {
        let w = self.common(a, b).unwrap_or(self.width);
        let (a, b) = (self.fit(a, w), self.fit(b, w));
        let op = self.op_node(code, w, &[a, b]);
        self.both_results(op, w)
    }

    pub(super) fn divu(&mut self, high: V, low: V, divisor: V) -> (V, V) {
        self.quotient(Code::Divu2, high, low, divisor)
    }
    pub(super) fn divs(&mut self, high: V, low: V, divisor: V) -> (V, V) {
        self.quotient(Code::Divs2, high, low, divisor)
    }

    fn quotient(&mut self, code: Code, high: V, low: V, divisor: V) -> (V, V) {
        let w = self.common(low, divisor).or_else(|| self.common(high, high)).unwrap_or(self.width);
        let (high, low, divisor) = (self.fit(high, w), self.fit(low, w), self.fit(divisor, w));
        let op = self.op_node(code, w, &[low, high, divisor]);
        self.both_results(op, w)
    }

    fn both_results(&mut self, op: u16, w: Width) -> (V, V) {
        let mut second = Node::new(Kind::Second, w);
        second.args[0] = op;
        let second = self.node(second);
        self.work.nodes[usize::from(op)].has_second = true;
        (V::Node(op), V::Node(second))
    }

    // ---- bits

    pub(super) fn bts(&mut self, x: V, i: V) -> V {
        V::Node(self.bit_op(Code::Bts, x, i))
    }
    pub(super) fn btr(&mut self, x: V, i: V) -> V {
        V::Node(self.bit_op(Code::Btr, x, i))
    }
    pub(super) fn btc(&mut self, x: V, i: V) -> V {
        V::Node(self.bit_op(Code::Btc, x, i))
    }

    pub(super) fn bit_op(&mut self, code: Code, x: V, i: V) -> u16 {
        let w = self.common(x, x).unwrap_or(self.width);
        let (x, i) = (self.fit(x, w), self.as_node(i, w));
        let i = self.resize(i, w);
        self.op_node(code, w, &[x, i])
    }

    pub(super) fn bsf(&mut self, x: V, old: V) -> V {
        self.bit_scan(Code::Bsf, x, old)
    }
    pub(super) fn bsr(&mut self, x: V, old: V) -> V {
        self.bit_scan(Code::Bsr, x, old)
    }

    /// A scan by flags alone (`cc = bsf(x)`) has no second argument yet: the value completes it.
    fn bit_scan(&mut self, code: Code, x: V, old: V) -> V {
        let w = self.common(x, old).unwrap_or(self.width);
        let (x, old) = (self.fit(x, w), self.fit(old, w));
        if let Some(n) = self.find_op(code, w, x)
            && self.at_node(n).args[1] == NO
        {
            self.work.nodes[usize::from(n)].args[1] = old;
            return V::Node(n);
        }
        V::Node(self.op_node(code, w, &[x, old]))
    }

    pub(super) fn bswap(&mut self, x: V) -> V {
        self.unary_value(Code::Bswap, x)
    }
    pub(super) fn ctz(&mut self, x: V) -> V {
        self.unary_value(Code::Ctz, x)
    }
    pub(super) fn clz(&mut self, x: V) -> V {
        self.unary_value(Code::Clz, x)
    }
    pub(super) fn popcnt(&mut self, x: V) -> V {
        self.unary_value(Code::Popcnt, x)
    }

    fn unary_value(&mut self, code: Code, x: V) -> V {
        let n = self.as_node(x, self.width);
        self.unary(code, n)
    }

    // ---- widths

    pub(super) fn zext(&mut self, x: V, w: Width) -> V {
        let n = self.as_node(x, w);
        V::Node(self.resize(n, w))
    }

    pub(super) fn sext(&mut self, x: V, w: Width) -> V {
        let n = self.as_node(x, w);
        let n = self.extend(n, w, Code::Exts);
        V::Node(self.cut(n, w))
    }

    pub(super) fn trunc(&mut self, x: V, w: Width) -> V {
        self.zext(x, w)
    }

    /// The lower half.
    pub(super) fn low(&mut self, x: V) -> V {
        let w = self.common(x, x).unwrap_or(Width::W64);
        let n = self.fit(x, w);
        V::Node(self.cut(n, Width::from_bits(w.bits() / 2)))
    }

    /// The upper half.
    pub(super) fn high(&mut self, x: V) -> V {
        let w = self.common(x, x).unwrap_or(Width::W64);
        let half = w.bits() / 2;
        let shifted = self.shr(x, V::Num(u64::from(half)));
        let n = self.fit(shifted, w);
        V::Node(self.cut(n, Width::from_bits(half)))
    }

    /// `high:low`, twice as wide.
    pub(super) fn cat(&mut self, high: V, low: V) -> V {
        let half = self.common(high, low).unwrap_or(Width::W32);
        let w = Width::from_bits(2 * half.bits());
        let (high, low) = (self.fit(high, half), self.fit(low, half));
        let (high, low) = (self.extend(high, w, Code::Extu), self.extend(low, w, Code::Extu));
        let shifted = self.shl(V::Node(high), V::Num(u64::from(half.bits())));
        let shifted = self.fit(shifted, w);
        V::Node(self.fold(Code::Or, w, shifted, low))
    }
}

/// The ops that fold on constants; 64-bit results, to be cut to the width. `Sar` wants `a` sign-extended.
fn evaluate(code: Code, a: u64, b: u64) -> Option<u64> {
    Some(match code {
        Code::Add => a.wrapping_add(b),
        Code::Sub => a.wrapping_sub(b),
        Code::Imul => a.wrapping_mul(b),
        Code::And => a & b,
        Code::Or => a | b,
        Code::Xor => a ^ b,
        Code::Shl => a.wrapping_shl(b as u32),
        Code::Shr => a.wrapping_shr(b as u32),
        Code::Sar => (a.cast_signed() >> (b & 63)).cast_unsigned(),
        _ => return None,
    })
}

/// `a OP b == b OP a`, flags included.
pub(super) const fn is_commutative(code: Code) -> bool {
    matches!(code, Code::Add | Code::And | Code::Or | Code::Xor | Code::Imul)
}
