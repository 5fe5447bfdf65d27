//! Flag kinds of bodies, `cc = KIND(args)`: each stages the flags of an op that the value may share.

use super::Lower;
use super::arith::is_commutative;
use super::boolean::B;
use super::node::{Kind, NO, Node, V};
use ir::{Code, Width};

impl Lower<'_> {
    /// Stages the flags of a node, under the condition of the enclosing `if`s.
    fn stage_cc(&mut self, n: u16) {
        self.work.cc.push((self.pred, n));
    }

    fn cc_binary(&mut self, code: Code, a: V, b: V) {
        let w = self.common(a, b).unwrap_or(self.width);
        let (mut a, mut b) = (self.fit(a, w), self.fit(b, w));
        if is_commutative(code) && self.const_of(a).is_some() {
            (a, b) = (b, a); // as `fold` does, so that the value finds this node
        }
        let n = self.op_node(code, w, &[a, b]);
        self.stage_cc(n);
    }

    pub(super) fn cc_add(&mut self, a: V, b: V) {
        self.cc_binary(Code::Add, a, b);
    }
    pub(super) fn cc_sub(&mut self, a: V, b: V) {
        self.cc_binary(Code::Sub, a, b);
    }
    pub(super) fn cc_imul(&mut self, a: V, b: V) {
        self.cc_binary(Code::Imul, a, b);
    }
    pub(super) fn cc_adc(&mut self, a: V, b: V, carry: B) {
        let n = self.carry_op(Code::Adc, a, b, carry);
        self.stage_cc(n);
    }
    pub(super) fn cc_sbb(&mut self, a: V, b: V, carry: B) {
        let n = self.carry_op(Code::Sbb, a, b, carry);
        self.stage_cc(n);
    }

    /// Flags of a logical result: those of the op that made it, else of `r & r`.
    pub(super) fn cc_logic(&mut self, r: V) {
        let n = self.as_node(r, self.width);
        let node = *self.at_node(n);
        if matches!(node.kind, Kind::Op(Code::And | Code::Or | Code::Xor)) {
            return self.stage_cc(n);
        }
        let n = self.op_node(Code::And, node.w, &[n, n]);
        self.stage_cc(n);
    }

    fn cc_unary(&mut self, code: Code, x: V) -> u16 {
        let n = self.as_node(x, self.width);
        let w = self.at_node(n).w;
        let n = self.op_node(code, w, &[n]);
        self.stage_cc(n);
        n
    }

    pub(super) fn cc_neg(&mut self, x: V) {
        self.cc_unary(Code::Neg, x);
    }
    pub(super) fn cc_inc(&mut self, x: V) {
        self.cc_step(Code::Inc, Code::Add, x);
    }
    pub(super) fn cc_dec(&mut self, x: V) {
        self.cc_step(Code::Dec, Code::Sub, x);
    }

    /// INC and DEC; an addition of 1 that is there already becomes this op.
    fn cc_step(&mut self, code: Code, plain: Code, x: V) {
        let x = self.as_node(x, self.width);
        let w = self.at_node(x).w;
        let one = self.const_node(1, w);
        let found = self.find_op(plain, w, x).filter(|n| self.at_node(*n).args[1] == one);
        match found {
            Some(n) => {
                let node = &mut self.work.nodes[usize::from(n)];
                node.kind = Kind::Op(code);
                node.args[1] = NO;
                self.stage_cc(n);
            }
            None => {
                self.cc_unary(code, V::Node(x));
            }
        }
    }

    fn cc_shift(&mut self, code: Code, x: V, k: V) {
        let w = self.common(x, x).unwrap_or(self.width);
        let (x, count) = (self.fit(x, w), self.count(k));
        let n = self.op_node(code, w, &[x, count]);
        self.stage_cc(n);
    }

    pub(super) fn cc_shl(&mut self, x: V, k: V) {
        self.cc_shift(Code::Shl, x, k);
    }
    pub(super) fn cc_shr(&mut self, x: V, k: V) {
        self.cc_shift(Code::Shr, x, k);
    }
    pub(super) fn cc_sar(&mut self, x: V, k: V) {
        self.cc_shift(Code::Sar, x, k);
    }
    pub(super) fn cc_rol(&mut self, x: V, k: V) {
        self.cc_shift(Code::Rol, x, k);
    }
    pub(super) fn cc_ror(&mut self, x: V, k: V) {
        self.cc_shift(Code::Ror, x, k);
    }
    pub(super) fn cc_rcl(&mut self, x: V, k: V) {
        self.cc_shift(Code::Rcl, x, k);
    }
    pub(super) fn cc_rcr(&mut self, x: V, k: V) {
        self.cc_shift(Code::Rcr, x, k);
    }
    pub(super) fn cc_shld(&mut self, d: V, s: V, k: V) {
        let n = self.double_shift(Code::Shld, d, s, k);
        self.stage_cc(n);
    }
    pub(super) fn cc_shrd(&mut self, d: V, s: V, k: V) {
        let n = self.double_shift(Code::Shrd, d, s, k);
        self.stage_cc(n);
    }
    pub(super) fn cc_mulu(&mut self, a: V, b: V) {
        self.cc_binary_exact(Code::Mulu2, a, b);
    }
    pub(super) fn cc_muls(&mut self, a: V, b: V) {
        self.cc_binary_exact(Code::Muls2, a, b);
    }

    fn cc_binary_exact(&mut self, code: Code, a: V, b: V) {
        let w = self.common(a, b).unwrap_or(self.width);
        let (a, b) = (self.fit(a, w), self.fit(b, w));
        let n = self.op_node(code, w, &[a, b]);
        self.stage_cc(n);
    }

    pub(super) fn cc_bt(&mut self, x: V, i: V) {
        let n = self.bit_op(Code::Bt, x, i);
        self.stage_cc(n);
    }
    pub(super) fn cc_bts(&mut self, x: V, i: V) {
        let n = self.bit_op(Code::Bts, x, i);
        self.stage_cc(n);
    }
    pub(super) fn cc_btr(&mut self, x: V, i: V) {
        let n = self.bit_op(Code::Btr, x, i);
        self.stage_cc(n);
    }
    pub(super) fn cc_btc(&mut self, x: V, i: V) {
        let n = self.bit_op(Code::Btc, x, i);
        self.stage_cc(n);
    }
    pub(super) fn cc_bsf(&mut self, x: V) {
        self.cc_scan(Code::Bsf, x);
    }
    pub(super) fn cc_bsr(&mut self, x: V) {
        self.cc_scan(Code::Bsr, x);
    }

    fn cc_scan(&mut self, code: Code, x: V) {
        let x = self.as_node(x, self.width);
        let w = self.at_node(x).w;
        let n = self.find_op(code, w, x).unwrap_or_else(|| self.op_node(code, w, &[x]));
        self.stage_cc(n);
    }

    /// `cc = set(v)`: the flags of the clause from an EFLAGS image.
    pub(super) fn cc_set(&mut self, v: V) {
        let n = self.fit(v, Width::W32);
        let mut node = Node::new(Kind::Op(Code::Putf), Width::W32);
        node.x = self.row.written;
        node.args[0] = n;
        let n = self.node(node);
        self.stage_cc(n);
    }
}
