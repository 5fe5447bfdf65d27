//! Guest memory of a body: effective addresses, loads and stores, the stack.

use super::finish::{Step, StepKind};
use super::node::{Kind, NO, Node, V};
use super::{Dest, Lower, Write, mark};
use crate::decode::{MemOperand, Operand};
use crate::state::seg;
use ir::{Code, Val, Width};

/// Number of the stack pointer.
const RSP: u8 = 4;

/// Fields of a memory operand: far pointers, pairs, descriptor-table images.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Field {
    /// Offset of a far pointer (operand size).
    Off,
    /// Selector of a far pointer.
    Sel,
    /// First of a pair (operand size).
    Lo,
    /// Second of a pair (operand size).
    Hi,
    /// Limit of a descriptor-table image (16 bits).
    Limit,
    /// Base of a descriptor-table image.
    Base,
}

/// A memory operand once it is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemState {
    /// Offset within the segment, [`Lower::off_width`] wide; `NO` = not bound yet.
    pub(super) off: u16,
    /// Address width.
    pub(super) aw: Width,
    /// Segment register.
    pub(super) seg: u8,
    /// Data width.
    pub(super) w: Width,
    /// The load of its value.
    pub(super) load: u16,
    /// Checked pointer, when one has been made.
    pub(super) ptr: Val,
}

impl MemState {
    pub(super) const EMPTY: Self =
        Self { off: NO, aw: Width::W32, seg: 0, w: Width::W8, load: NO, ptr: Val::NONE };

    pub(super) fn is_bound(&self) -> bool {
        self.off != NO
    }
}

impl Lower<'_> {
    // ---- addresses

    /// Binds a memory operand: its offset with as few ops as possible.
    pub(super) fn bind_memory(&mut self, m: &MemOperand) -> MemState {
        let aw = Width::from_bits(u32::from(m.asz));
        let off = self.effective_address(m);
        MemState { off, aw, seg: m.seg, w: Width::from_bits(u32::from(m.bits)), ..MemState::EMPTY }
    }

    /// `seg:[rSI]` or `ES:[rDI]`.
    pub(super) fn bind_string(&mut self, seg: u8, reg: u8, bits: u8) -> MemState {
        let aw = self.a();
        let off = self.gpr_node(reg, aw);
        let off = self.widen_offset(off);
        MemState { off, aw, seg, w: Width::from_bits(u32::from(bits)), ..MemState::EMPTY }
    }

    /// Width of the offsets of loads and stores, whatever the address size: 64 bits in 64-bit code, else 32.
    pub(super) fn off_width(&self) -> Width {
        if self.is_code64() { Width::W64 } else { Width::W32 }
    }

    /// Address width as loads and stores are told: in 64-bit code offsets are zero-extended already.
    pub(super) fn access_width(&self, aw: Width) -> Width {
        if self.is_code64() { Width::W64 } else { aw }
    }

    /// Base, index and displacement, added wider than a small address, which is cut at the end.
    fn effective_address(&mut self, m: &MemOperand) -> u16 {
        let aw = Width::from_bits(u32::from(m.asz));
        let w = self.off_width();
        let mut sum = match (m.base, m.index) {
            (None, None) if m.rip => {
                let target = self.next().wrapping_add(m.disp);
                let off = self.pc_node(target, w);
                return self.wrap(off, aw);
            }
            (None, None) => return self.const_node(m.disp.cast_unsigned() & aw.mask(), w),
            // No sum to cut: one extension does.
            (Some(base), None) if m.disp == 0 && base != RSP => {
                let base = self.gpr_node(base, aw);
                return self.widen_offset(base);
            }
            (None, Some(index)) if m.scale == 0 => self.gpr_node(index, w),
            (None, Some(index)) if m.scale == 1 && m.disp == 0 => {
                let index = self.gpr_node(index, w);
                self.fold(Code::Add, w, index, index)
            }
            (Some(base), None) => self.base_node(base, w),
            (Some(base), Some(index)) if m.scale == 0 && m.disp == 0 => {
                let (base, index) = (self.base_node(base, w), self.gpr_node(index, w));
                self.fold(Code::Add, w, base, index)
            }
            (base, Some(index)) => {
                let base = base.map(|base| self.base_node(base, w));
                let index = self.gpr_node(index, w);
                let sum = self.lea_node(w, base, index, m.scale, m.disp as i32);
                return self.wrap(sum, aw);
            }
        };
        let disp = self.const_node(m.disp.cast_unsigned(), w);
        sum = self.fold(Code::Add, w, sum, disp);
        self.wrap(sum, aw)
    }

    /// `base + (index << scale) + disp` as one op.
    fn lea_node(&mut self, w: Width, base: Option<u16>, index: u16, scale: u8, disp: i32) -> u16 {
        let mut node = Node::new(Kind::Op(Code::Lea), w);
        node.x = scale & 3;
        node.imm = u64::from(disp.cast_unsigned());
        node.args = [base.unwrap_or(NO), index, NO, NO];
        self.node(node)
    }

    /// A base register; rSP counts what `pop` has taken so far.
    fn base_node(&mut self, base: u8, w: Width) -> u16 {
        let node = self.gpr_node(base, w);
        if base != RSP || self.sp_delta <= 0 {
            return node;
        }
        let popped = self.const_node(self.sp_delta.cast_unsigned(), w);
        self.fold(Code::Add, w, node, popped)
    }

    /// The low bits of an offset that a narrow address has, zero-extended again.
    fn wrap(&mut self, n: u16, aw: Width) -> u16 {
        if aw >= self.at_node(n).w {
            return n;
        }
        let cut = self.cut(n, aw);
        self.widen_offset(cut)
    }

    /// An address, zero-extended to the width of offsets.
    fn widen_offset(&mut self, n: u16) -> u16 {
        let w = self.off_width();
        self.extend(n, w, Code::Extu)
    }

    /// Moves a bit string's address to the element that holds bit `n` (SDM Vol. 2, "BT—Bit Test").
    pub(super) fn add_bit_offset(&mut self, state: &mut MemState) {
        let index = usize::from(self.row.bit_index);
        let V::Node(n) = self.read(index) else { return }; // an immediate moves nothing
        if !matches!(self.operand(index), Operand::Reg { .. }) {
            return;
        }
        let w = self.at_node(state.off).w;
        let n = self.extend(n, w, Code::Exts);
        let log = u64::from(state.w as u8 + 3); // bits of the element: 16, 32, 64
        let element = self.sar(V::Node(n), V::Num(log));
        let bytes = self.shl(element, V::Num(log - 3));
        let bytes = self.fit(bytes, w);
        state.off = self.fold(Code::Add, w, state.off, bytes);
        state.off = self.wrap(state.off, state.aw);
    }

    /// `addr(m)`: the effective offset, at address width.
    pub(super) fn addr(&mut self, i: usize) -> V {
        let state = self.mem_state(i);
        V::Node(self.cut(state.off, state.aw))
    }

    // ---- loads and stores

    /// The value of memory operand `i`.
    pub(super) fn load_operand(&mut self, i: usize) -> u16 {
        let state = self.mem_state(i);
        if state.load != NO {
            return state.load;
        }
        let load = self.load_node(&state, state.off, state.w, i as u64 + 1);
        self.mem[i].load = load;
        self.step(StepKind::Load { node: load });
        load
    }

    fn load_node(&mut self, state: &MemState, off: u16, w: Width, operand: u64) -> u16 {
        let mut node = Node::new(Kind::Load, w);
        node.x = state.seg;
        node.imm = self.access_width(state.aw) as u64 | operand << 8;
        node.args[0] = off;
        self.node(node)
    }

    /// `m.field`.
    pub(super) fn field(&mut self, i: usize, field: Field) -> V {
        if let Operand::Far { sel, off } = self.operand(i) {
            return match field {
                Field::Sel => V::Node(self.const_node(u64::from(sel), Width::W16)),
                _ => {
                    let w = self.far_width();
                    V::Node(self.const_node(off, w))
                }
            };
        }
        let state = self.mem_state(i);
        let (off, w) = self.field_place(&state, field);
        let load = self.load_node(&state, off, w, 0);
        self.step(StepKind::Load { node: load });
        V::Node(load)
    }

    /// `m.field = v`.
    pub(super) fn set_field(&mut self, i: usize, field: Field, v: V) {
        let state = self.mem_state(i);
        let (off, w) = self.field_place(&state, field);
        let value = self.fit(v, w);
        self.step(StepKind::Store { seg: state.seg, aw: state.aw, off, value, w, ptr: Val::NONE });
    }

    /// Offset and width of a field.
    fn field_place(&mut self, state: &MemState, field: Field) -> (u16, Width) {
        let osz = self.far_width();
        let base_width = self.off_width();
        let (disp, w) = match field {
            Field::Off | Field::Lo => (0, osz),
            Field::Hi => (osz.bytes(), osz),
            Field::Sel => (osz.bytes(), Width::W16),
            Field::Limit => (0, Width::W16),
            Field::Base => (2, base_width),
        };
        (self.displaced(state.off, state.aw, i64::from(disp)), w)
    }

    fn far_width(&self) -> Width {
        Width::from_bits(u32::from(self.insn.osz))
    }

    /// An offset plus a constant, wrapped at the address width.
    fn displaced(&mut self, off: u16, aw: Width, disp: i64) -> u16 {
        if disp == 0 {
            return off;
        }
        let w = self.at_node(off).w;
        let node = *self.at_node(off);
        // Add before the cut of a narrow sum, so that both displacements fold.
        let inner = if aw < w && node.kind == Kind::Op(Code::Extu) { node.args[0] } else { off };
        let inner = match self.at_node(inner) {
            n if n.kind == Kind::Trunc => n.args[0],
            n if n.kind == Kind::Gpr => {
                let num = n.imm as u8;
                self.gpr_node(num, w)
            }
            _ => inner,
        };
        let inner = self.extend(inner, w, Code::Extu);
        let disp = self.const_node(disp.cast_unsigned(), w);
        let sum = self.fold(Code::Add, w, inner, disp);
        self.wrap(sum, aw)
    }

    /// An offset of a body, as loads and stores want it, and its address width.
    fn offset(&mut self, off: V) -> (u16, Width) {
        let n = self.as_node(off, self.a());
        let aw = self.at_node(n).w;
        (self.widen_offset(n), aw)
    }

    /// `load(SEG, off, n)`.
    pub(super) fn load(&mut self, num: u8, overridable: bool, off: V, w: Width) -> V {
        let seg = if overridable { self.insn.segment(num) } else { num };
        let (off, aw) = self.offset(off);
        let state = MemState { off, aw, seg, w, ..MemState::EMPTY };
        let load = self.load_node(&state, off, w, 0);
        self.step(StepKind::Load { node: load });
        V::Node(load)
    }

    /// `store(SEG, off, v)`.
    pub(super) fn store(&mut self, num: u8, overridable: bool, off: V, v: V) {
        let seg = if overridable { self.insn.segment(num) } else { num };
        let (off, aw) = self.offset(off);
        let value = self.as_node(v, self.width);
        let w = self.at_node(value).w;
        self.step(StepKind::Store { seg, aw, off, value, w, ptr: Val::NONE });
    }

    // ---- stack

    /// Stack pointer plus `delta` at the stack width.
    pub(super) fn stack_pointer(&mut self, delta: i64) -> u16 {
        let s = self.s();
        let sp = self.gpr_node(RSP, s);
        if delta < 0 {
            let bytes = self.const_node(delta.unsigned_abs(), s);
            return self.fold(Code::Sub, s, sp, bytes);
        }
        let bytes = self.const_node(delta.cast_unsigned(), s);
        self.fold(Code::Add, s, sp, bytes)
    }

    fn stack_slot(&mut self, delta: i64) -> u16 {
        let slot = self.stack_pointer(delta);
        self.widen_offset(slot)
    }

    /// `push(v)`: width W.
    pub(super) fn push(&mut self, v: V) {
        let w = self.width;
        let value = self.fit(v, w);
        self.sp_delta -= i64::from(w.bytes());
        let off = self.stack_slot(self.sp_delta);
        let aw = self.s();
        self.step(StepKind::Store { seg: seg::SS, aw, off, value, w, ptr: Val::NONE });
    }

    /// `pop()`: width W.
    pub(super) fn pop(&mut self) -> V {
        let w = self.width;
        let off = self.stack_slot(self.sp_delta);
        self.sp_delta += i64::from(w.bytes());
        let state = MemState { off, aw: self.s(), seg: seg::SS, w, ..MemState::EMPTY };
        let load = self.load_node(&state, off, w, 0);
        self.step(StepKind::Load { node: load });
        V::Node(load)
    }

    /// The staged move of the stack pointer, ahead of the other register writes.
    pub(super) fn stage_stack_pointer(&mut self) {
        if self.sp_delta == 0 {
            return;
        }
        let node = self.stack_pointer(self.sp_delta);
        let dest = Dest::Reg(Val::gpr(RSP));
        let covered = self.staged.list().iter().any(|w| w.dest == dest && w.w >= self.s());
        if covered {
            return;
        }
        let old = self.staged;
        self.staged.count = 0;
        let w = self.s();
        self.staged.put(Write::new(dest, w, node));
        // A popped value narrower than the stack pointer is a second write, after this one.
        for write in old.list() {
            self.staged.append(*write);
        }
    }

    pub(super) fn step(&mut self, kind: StepKind) {
        if matches!(kind, StepKind::Store { .. }) {
            self.marks |= mark::STORE;
        }
        self.work.steps.push(Step { pred: self.pred, kind });
    }
}
