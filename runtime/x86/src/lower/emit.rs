//! Nodes to ops: a node is emitted when something first needs its value.

use super::boolean::B;
use super::node::{Kind, NO};
use super::{Dest, Lower, LowerRow, row};
use crate::insn::prefix;
use crate::state::CpuState;
use ir::{AccessKind, Code, FlagMask, Op, Val, Width};
use std::mem::offset_of;

/// In `Ptr`'s immediate: LOCK prefix.
const PTR_LOCK: u32 = 1 << 16;

impl Lower<'_> {
    /// The value of a node as an operand.
    pub(super) fn emit(&mut self, n: u16) -> Val {
        let node = *self.at_node(n);
        if !node.val.is_none() {
            return node.val;
        }
        let val = match node.kind {
            Kind::Const => self.block.constant(node.imm),
            Kind::Gpr => Val::gpr(node.imm as u8),
            Kind::High => Val::high(node.imm as u8),
            Kind::Trunc => self.emit(node.args[0]),
            Kind::Second => {
                self.emit(node.args[0]);
                self.at_node(node.args[0]).second
            }
            Kind::Pc => self.push_read_pc(node.imm.cast_signed(), node.w),
            Kind::Env => {
                let mut op = Op::new(Code::LdEnv, node.w);
                op.d = self.block.temp(node.w);
                op.imm = node.imm as u32; // an offset into the state
                self.block.push(op)
            }
            Kind::Op(_) => return self.emit_op(n, true, FlagMask::NONE),
            Kind::Load => self.emit_load(n),
            Kind::Code => self.emit_code(node.imm, node.w),
            Kind::Call => {
                self.mismatches += 1; // the call stands in a branch that was not taken: the tables' checks refuse it
                self.block.constant(0)
            }
        };
        self.set_value(n, val);
        val
    }

    pub(super) fn set_value(&mut self, n: u16, val: Val) {
        self.work.nodes[usize::from(n)].val = val;
        self.work.emitted.push(n);
    }

    /// Emits an op node; `fdef` are the flags it shall define.
    pub(super) fn emit_op(&mut self, n: u16, wants_value: bool, fdef: FlagMask) -> Val {
        let node = *self.at_node(n);
        let Kind::Op(code) = node.kind else { return self.emit(n) };
        let mut vals = [Val::NONE; 4];
        for (val, arg) in vals.iter_mut().zip(node.args) {
            if arg != NO {
                *val = self.emit(arg);
            }
        }
        let mut op = Op::new(code, node.ow);
        op.x = node.x;
        op.imm = node.imm as u32; // of `Lea`, which alone has one
        op.fdef = fdef;
        [op.a, op.b, op.c, op.e] = vals;
        if matches!(code, Code::Bsf | Code::Bsr) && op.b.is_none() {
            op.b = op.a; // flags alone: any old value does
        }
        if wants_value && !matches!(code, Code::Bt | Code::Putf) {
            op.d = self.block.temp(node.w);
            if node.has_second {
                op.e = self.block.temp(node.w);
                self.work.nodes[usize::from(n)].second = op.e;
            }
        }
        self.block.push(op);
        if wants_value {
            self.set_value(n, op.d);
        }
        op.d
    }

    fn emit_load(&mut self, n: u16) -> Val {
        let node = *self.at_node(n);
        let operand = (node.imm >> 8) as usize; // number + 1
        let is_written = operand != 0
            && self.staged.find(Dest::Mem((operand - 1) as u8)).is_some_and(|w| w.is_certain());
        let mut op = Op::new(Code::Ld, node.w);
        if is_written {
            op.code = Code::LdH;
            op.a = self.operand_pointer(operand - 1, AccessKind::Rw);
        } else {
            op.a = self.emit(node.args[0]);
            op.x = node.x;
            op.y = (node.imm & 0xFF) as u8;
        }
        op.d = self.block.temp(node.w);
        self.block.push(op)
    }

    /// Reads the insn's own code at a host address.
    fn emit_code(&mut self, host: u64, w: Width) -> Val {
        let mut address = Op::new(Code::Mov, Width::W64);
        address.a = self.block.constant(host);
        address.d = self.block.temp(Width::W64);
        let pointer = self.block.push(address);
        let mut op = Op::new(Code::LdH, w);
        op.a = pointer;
        op.d = self.block.temp(w);
        self.block.push(op)
    }

    /// The checked pointer of memory operand `i`.
    pub(super) fn operand_pointer(&mut self, i: usize, kind: AccessKind) -> Val {
        let state = self.mem_state(i);
        if state.ptr.is_none() {
            self.mem[i].ptr = self.push_ptr(state.seg, state.aw, state.off, state.w, kind);
        }
        self.mem[i].ptr
    }

    pub(super) fn push_ptr(
        &mut self,
        seg: u8,
        aw: Width,
        off: u16,
        w: Width,
        kind: AccessKind,
    ) -> Val {
        let mut op = Op::new(Code::Ptr, Width::W64);
        op.a = self.emit(off);
        op.d = self.block.temp(Width::W64);
        op.x = seg;
        op.y = self.access_width(aw) as u8;
        op.imm = w.bytes() | (kind as u32) << 8;
        if is_locked(self.insn.prefixes, self.row) {
            op.imm |= PTR_LOCK;
        }
        self.block.push(op)
    }

    /// A helper argument: constants and wide temporaries go as they are, the rest is extended.
    pub(super) fn emit_argument(&mut self, n: u16) -> Val {
        if n == NO {
            return Val::NONE;
        }
        let val = self.emit(n);
        let node = *self.at_node(n);
        let is_exact = match val.as_temp() {
            Some(t) => {
                node.w >= Width::W32 && self.block.temps.get(usize::from(t)) == Some(&node.w)
            }
            None => val.as_pool().is_some() || node.w == Width::W64,
        };
        if is_exact {
            return val;
        }
        let w = if node.w < Width::W32 { Width::W32 } else { Width::W64 };
        let mut op = Op::new(Code::Extu, w);
        op.x = node.w as u8;
        op.a = val;
        op.d = self.block.temp(w);
        self.block.push(op)
    }

    /// Emits what a truth value is made of, so that branching on it later emits branches only.
    pub(super) fn prepare(&mut self, b: B) {
        match b {
            B::Const(_) | B::Flags(_) | B::Af => {}
            B::Cmp(_, x, y) => {
                self.emit(x);
                self.emit(y);
            }
            B::Bit(n) => {
                self.emit(n);
            }
            B::And(pair) | B::Or(pair) => {
                let (x, y) = self.work.pairs[usize::from(pair)];
                self.prepare(x);
                self.prepare(y);
            }
        }
    }

    /// Jumps to `label` if `b` is `sense`; `b` is prepared.
    pub(super) fn branch_if(&mut self, b: B, label: u32, sense: bool) {
        match b {
            B::Const(value) if value == sense => {
                self.push_branch(Op::new(Code::Br, Width::W32), label)
            }
            B::Const(_) => {}
            B::Flags(cond) => {
                let mut op = Op::new(Code::Jccf, self.width);
                op.x = if sense { cond } else { cond.invert() } as u8;
                self.push_branch(op, label);
            }
            B::Cmp(cond, x, y) => {
                let mut op = Op::new(Code::Brcond, self.at_node(x).w);
                op.x = if sense { cond } else { cond.invert() } as u8;
                op.a = self.emit(x);
                op.b = self.emit(y);
                self.push_branch(op, label);
            }
            B::Bit(_) | B::Af => {
                let zero = self.const_node(0, Width::W8);
                let bit = self.bit_node(b);
                self.branch_if(B::Cmp(ir::Cond::Ne, bit, zero), label, sense);
            }
            B::And(pair) | B::Or(pair) => {
                let (x, y) = self.work.pairs[usize::from(pair)];
                if matches!(b, B::And(_)) == sense {
                    // Both must hold: the first that does not skips the jump.
                    let skip = self.block.label();
                    self.branch_if(x, skip, !sense);
                    self.branch_if(y, label, sense);
                    self.push_label(skip);
                } else {
                    self.branch_if(x, label, sense);
                    self.branch_if(y, label, sense);
                }
            }
        }
    }

    fn push_branch(&mut self, mut op: Op, label: u32) {
        op.imm = label;
        self.block.push(op);
    }

    pub(super) fn push_label(&mut self, label: u32) {
        self.push_branch(Op::new(Code::Label, Width::W32), label);
    }

    pub(super) fn push_st_env(&mut self, offset: usize, w: Width, a: Val) {
        let mut op = Op::new(Code::StEnv, w);
        op.imm = offset as u32; // an offset into the state
        op.a = a;
        self.block.push(op);
    }

    /// Stores this insn's instruction pointer in the state, once.
    pub(super) fn push_own_pc(&mut self) {
        if self.pc_stored {
            return;
        }
        self.pc_stored = true;
        let at = i64::from(self.at);
        let pc =
            if self.place.is_flat() { self.push_read_pc(at, Width::W64) } else { self.push_pc(at) };
        self.push_st_env(offset_of!(CpuState, pc), Width::W64, pc);
    }
}

fn is_locked(prefixes: u16, row: &LowerRow) -> bool {
    prefixes & prefix::LOCK != 0 || row.attrs & row::LOCKED != 0
}
