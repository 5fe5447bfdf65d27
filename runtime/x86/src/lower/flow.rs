//! Control in a body: conditions, faults, jumps, helper calls, and how a block is left.

use super::boolean::{B, Logic};
use super::finish::{Step, StepKind};
use super::node::{Kind, NO, Node, V};
use super::tables::helpers;
use super::{Dest, HAS_ERROR_CODE, Lower, MAX_WRITES, Staged, Write, mark, row, vector};
use crate::insn::Sz;
use crate::mode::Mode;
use crate::state::CpuState;
use ir::{Code, Cond, Op, SIDE_SLOT, Val, Width, exit};
use std::mem::offset_of;

/// Page size: `GotoTb` reaches offsets below it.
const PAGE: i64 = 4096;

/// State of an `if` in a generated function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IfState {
    cond: B,
}

impl IfState {
    /// Is the first branch to be lowered?
    pub(crate) fn takes_then(&self) -> bool {
        self.cond != B::Const(false)
    }
    /// Is the `else` branch to be lowered?
    pub(crate) fn takes_else(&self) -> bool {
        self.cond != B::Const(true)
    }
    fn is_static(&self) -> bool {
        matches!(self.cond, B::Const(_))
    }
}

/// A dynamic `if` under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct IfFrame {
    /// Staged writes before it.
    saved: Staged,
    /// Staged writes at the end of the first branch.
    then: Staged,
    /// Condition outside.
    pred: B,
}

/// Where a jump goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// Offset from the start of this page, known now.
    Page(i64),
    /// A node that holds the instruction pointer.
    Node(u16),
}

/// A staged jump.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jump {
    pub(super) pred: B,
    pub(super) target: Target,
    /// The node of what [`Code::Look`] found, or `NO`.
    pub(super) found: u16,
}

/// An out-of-line part, emitted at the end of the block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cold {
    pub(super) label: u32,
    /// Page offset and length of the insn it belongs to.
    at: u32,
    len: u8,
    kind: ColdKind,
}

impl Cold {
    /// Does it use a value of its insn?
    fn wants_temporary(&self) -> bool {
        matches!(self.kind, ColdKind::Raise { code, .. } if code.as_temp().is_some())
    }
    /// Does it go on within the page, after the insn?
    pub(super) const fn is_side(&self) -> bool {
        matches!(self.kind, ColdKind::Side { .. })
    }
}

#[derive(Clone, Copy, Debug)]
enum ColdKind {
    /// Raise a fault with this error code.
    Raise { what: u32, code: Val },
    /// Leave with the instruction pointer at this page offset.
    Resync { next: i64 },
    /// Go to this page offset: a branch that the block goes on behind.
    Side { off: i64 },
}

impl Lower<'_> {
    // ---- conditions

    /// `if c {`
    pub(super) fn enter_if(&mut self, c: B) -> IfState {
        let cond = self.plain(c);
        let state = IfState { cond };
        if !state.is_static() {
            self.work.ifs.push(IfFrame {
                saved: self.staged,
                then: Staged::EMPTY,
                pred: self.pred,
            });
            self.pred = self.both(self.pred, cond);
        }
        state
    }

    /// `} else {`
    pub(super) fn enter_else(&mut self, state: &IfState) {
        if state.is_static() {
            return;
        }
        let not = self.negation(state.cond);
        if let Some(frame) = self.work.ifs.last_mut() {
            frame.then = self.staged;
            self.staged = frame.saved;
            let outside = frame.pred;
            self.pred = self.both(outside, not);
        }
    }

    /// `}`: what the branches staged becomes selects.
    pub(super) fn leave_if(&mut self, state: &IfState) {
        if state.is_static() {
            return;
        }
        let Some(frame) = self.work.ifs.pop() else { return };
        let otherwise = self.staged;
        self.pred = frame.pred;
        for write in frame.then.list() {
            self.merge(state.cond, Some(*write), otherwise.find(write.dest));
        }
        for write in otherwise.list() {
            if frame.then.value(write.dest).is_none() {
                self.merge(state.cond, None, Some(*write));
            }
        }
        self.merge_flags(state.cond, &frame.then, &otherwise);
    }

    /// Merges what the branches have staged for one place; a branch that has nothing leaves it as it is.
    fn merge(&mut self, cond: B, then: Option<Write>, otherwise: Option<Write>) {
        let Some(write) = then.or(otherwise) else { return };
        if let (Dest::Mem(_), false) = (write.dest, self.has_attr(row::LOCK)) {
            return self.merge_memory(cond, then, otherwise);
        }
        let (then, otherwise) = (then.map(|w| w.node), otherwise.map(|w| w.node));
        if then != otherwise {
            let (node, w) = self.merge_values(cond, write, then, otherwise);
            self.staged.put(Write { node, w, ..write });
        }
    }

    fn merge_values(
        &mut self,
        cond: B,
        write: Write,
        then: Option<u16>,
        otherwise: Option<u16>,
    ) -> (u16, Width) {
        let w = self.merged_width(write, then, otherwise);
        let entry = Write { w, ..write };
        let then = then.unwrap_or_else(|| self.entry_value(entry));
        let otherwise = otherwise.unwrap_or_else(|| self.entry_value(entry));
        let then = self.extend(then, w, Code::Extu);
        let otherwise = self.extend(otherwise, w, Code::Extu);
        (self.select_nodes(cond, then, otherwise, w), w)
    }

    /// Memory that one branch leaves alone is not touched there. Rows that can be locked write in both cases: their read and
    /// write are one access.
    fn merge_memory(&mut self, cond: B, then: Option<Write>, otherwise: Option<Write>) {
        let not = self.negation(cond);
        let merged = match (then, otherwise) {
            (None, None) => return,
            (Some(write), None) => Write { when: self.both(cond, write.when), ..write },
            (None, Some(write)) => Write { when: self.both(not, write.when), ..write },
            (Some(a), Some(b)) if (a.node, a.when) == (b.node, b.when) => return,
            (Some(a), Some(b)) => {
                let (node, w) = self.merge_values(cond, a, Some(a.node), Some(b.node));
                let (then, otherwise) = (self.both(cond, a.when), self.both(not, b.when));
                let is_certain = a.is_certain() && b.is_certain();
                let when = if is_certain { a.when } else { self.either(then, otherwise) };
                Write { node, w, when, ..a }
            }
        };
        self.staged.put(merged);
    }

    /// A register that one branch leaves alone keeps its upper half there: in 64-bit code 32-bit writes merge at 64 bits.
    fn merged_width(&self, write: Write, then: Option<u16>, otherwise: Option<u16>) -> Width {
        let of = |n: Option<u16>| n.map_or(Width::W64, |n| self.at_node(n).w);
        let is_gpr = matches!(write.dest, Dest::Reg(reg) if reg.as_gpr().is_some());
        if self.is_code64() && is_gpr && write.w >= Width::W32 {
            of(then).max(of(otherwise))
        } else {
            write.w
        }
    }

    /// What a place holds at entry, at the write's width.
    fn entry_value(&mut self, write: Write) -> u16 {
        match write.dest {
            Dest::Mem(i) => self.load_operand(usize::from(i)),
            Dest::State(at) => self.env_node(at as usize, write.w),
            Dest::Reg(reg) => match reg.as_high() {
                Some(n) => self.high_node(n),
                None => self.gpr_node(reg.as_gpr().unwrap_or(0), write.w),
            },
        }
    }

    fn merge_flags(&mut self, cond: B, then: &Staged, otherwise: &Staged) {
        for n in 0..6 {
            let (a, b) = (then.flag(n), otherwise.flag(n));
            if a != b {
                let entry = B::flag(1 << n);
                let merged = B::choose(self, cond, a.unwrap_or(entry), b.unwrap_or(entry));
                self.staged.set_flag(n, merged);
            }
        }
        if then.df != otherwise.df {
            let entry = self.df();
            let merged =
                B::choose(self, cond, then.df.unwrap_or(entry), otherwise.df.unwrap_or(entry));
            self.staged.df = Some(merged);
        }
    }

    // ---- flags by name

    /// DF at entry.
    pub(super) fn df(&mut self) -> B {
        let step = self.env_node(offset_of!(CpuState, df), Width::W32);
        let zero = self.const_node(0, Width::W32);
        B::Cmp(Cond::L, step, zero)
    }

    /// `df = b`.
    pub(super) fn set_df(&mut self, b: B) {
        self.staged.df = Some(self.plain(b));
    }

    /// `cf = b` …, by `FlagMask` bit.
    pub(super) fn set_flag(&mut self, mask: u8, b: B) {
        let b = self.plain(b);
        self.staged.set_flag(mask.trailing_zeros() as usize % 6, b);
    }

    /// `arith_flags()`: the six flags in EFLAGS positions.
    pub(super) fn arith_flags(&mut self) -> V {
        V::Node(self.op_node(Code::Getf, Width::W32, &[]))
    }

    // ---- faults

    /// `raise!(vector, code)`.
    pub(super) fn raise(&mut self, vector: u32, code: Option<V>) {
        let what = if code.is_some() { vector | HAS_ERROR_CODE } else { vector };
        let code = code.map_or(NO, |code| self.as_node(code, Width::W32));
        self.step(StepKind::Raise { what, code });
    }

    /// `if b { raise!(GP, 0) }`.
    pub(super) fn raise_gp_if(&mut self, b: B) {
        let pred = self.both(self.pred, b);
        if pred != B::Const(false) {
            let code = self.const_node(0, Width::W32);
            let what = vector::GP | HAS_ERROR_CODE;
            self.work.steps.push(Step { pred, kind: StepKind::Raise { what, code } });
        }
    }

    // ---- instruction pointers

    /// The instruction pointer of a page offset: a constant, or read at run time in position-independent code.
    pub(super) fn pc_node(&mut self, off: i64, w: Width) -> u16 {
        if !self.place.is_flat() {
            let ip = self.ip_of(off);
            return self.const_node(ip, w);
        }
        let mut node = Node::new(Kind::Pc, w);
        node.imm = off.cast_unsigned();
        node.adapts = true;
        self.node(node)
    }

    /// Instruction pointer of a page offset when CS is not flat.
    fn ip_of(&mut self, off: i64) -> u64 {
        self.knows_place = true;
        self.place.ip_base().wrapping_add(off.cast_unsigned()) & Width::W32.mask()
    }

    /// `next_ip`.
    pub(super) fn next_ip(&mut self) -> V {
        self.ip_value(self.next())
    }

    /// `ip`.
    pub(super) fn ip(&mut self) -> V {
        self.ip_value(i64::from(self.at))
    }

    fn ip_value(&mut self, off: i64) -> V {
        if !self.place.is_flat() {
            return V::Num(self.ip_of(off));
        }
        let w = self.ip_width();
        V::Node(self.pc_node(off, w))
    }

    /// The value of a `J` operand: next instruction pointer plus displacement at operand size.
    pub(super) fn branch_target(&mut self, disp: i64) -> V {
        let off = self.next().wrapping_add(disp);
        let osz = Width::from_bits(u32::from(self.insn.osz));
        if !self.place.is_flat() {
            return V::Num(self.ip_of(off) & osz.mask());
        }
        let w = self.ip_width();
        let pc = self.pc_node(off, w);
        if osz >= w {
            return V::Node(pc);
        }
        let cut = self.cut(pc, osz);
        V::Node(self.extend(cut, w, Code::Extu))
    }

    /// `goto!(target)`: checked against the code segment's limit.
    pub(super) fn goto(&mut self, target: V) {
        let w = self.ip_width();
        let n = match target {
            V::Num(ip) => self.const_node(ip, w),
            V::Node(n) => self.extend(n, w, Code::Extu),
        };
        let target = match (self.at_node(n).kind, self.const_of(n)) {
            (Kind::Pc, _) => Target::Page(self.at_node(n).imm.cast_signed()),
            (_, Some(ip)) if !self.place.is_flat() => {
                let off = (ip as u32).wrapping_sub(self.place.ip_base() as u32); // 32-bit pointers
                Target::Page(i64::from(off.cast_signed()))
            }
            _ => Target::Node(n),
        };
        if !self.place.is_flat() {
            // The segment's limit is none of what an insn is remembered by.
            self.knows_place = true;
            let limit = self.const_node(u64::from(self.place.cs_limit), w);
            let is_short = matches!(self.at_node(n).kind, Kind::Op(Code::Extu) if self.at_node(n).x <= Width::W16 as u8);
            if !(is_short && self.place.cs_limit >= 0xFFFF) {
                let beyond = self.above(V::Node(n), V::Node(limit));
                self.raise_gp_if(beyond);
            }
        }
        let mut found = NO;
        if self.is_code64() && self.may_leave_canonical(target) {
            match target {
                // A transfer to another level finds its target in another table.
                Target::Node(target)
                    if self.pred == B::Const(true) && self.marks & mark::STATE == 0 =>
                {
                    found = self.node(Node::new(Kind::Call, Width::W64));
                    self.step(StepKind::Look { target, found });
                }
                _ => self.raise_unless_canonical(n),
            }
        }
        self.work.jumps.push(Jump { pred: self.pred, target, found });
    }

    /// Only an indirect jump can go far; a direct one out of the page must start near the edge of the canonical addresses.
    fn may_leave_canonical(&self, target: Target) -> bool {
        match target {
            Target::Node(_) => true,
            Target::Page(off) => self.place.mode.has(Mode::EDGE) && !(0..PAGE).contains(&off),
        }
    }

    /// #GP(0) of a jump to a non-canonical address: bits 47 to 63 are not all equal, so their value is neither 0 nor -1.
    fn raise_unless_canonical(&mut self, target: u16) {
        let top = self.sar(V::Node(target), V::Num(47));
        let top = self.add(top, V::Num(1));
        let beyond = self.above(top, V::Num(1));
        self.raise_gp_if(beyond);
    }

    // ---- helpers and ports

    /// `call!(helper(args))`.
    pub(super) fn call(&mut self, helper: u32, args: &[V]) -> V {
        self.call_step(helper, args, false)
    }

    /// A helper call that writes a segment, control or debug register.
    pub(super) fn call_late(&mut self, helper: u32, args: &[V]) {
        self.call_step(helper, args, true);
    }

    fn call_step(&mut self, helper: u32, args: &[V], late: bool) -> V {
        let mut nodes = [NO; 4];
        for (slot, arg) in nodes.iter_mut().zip(args) {
            *slot = self.as_node(*arg, Width::W64);
        }
        let info = &helpers::INFO[helper as usize];
        if info.stores {
            self.marks |= mark::LEAVE;
        }
        if late {
            self.marks |= mark::LATE;
        }
        let bits = if info.ret == 0 { 64 } else { u32::from(info.ret) };
        let ret = self.node(Node::new(Kind::Call, Width::from_bits(bits)));
        self.step(StepKind::Call { helper, args: nodes, ret, late });
        V::Node(ret)
    }

    /// `port_in(port, n)`.
    pub(super) fn port_in(&mut self, port: V, w: Width) -> V {
        self.probe_destinations();
        let port = self.zext(port, Width::W16);
        let value = self.call(helpers::PORT_IN, &[port, V::Num(u64::from(w.bytes()))]);
        self.trunc(value, w)
    }

    /// `port_out(port, v)`: as many bytes as `v` has.
    pub(super) fn port_out(&mut self, port: V, v: V) {
        let port = self.zext(port, Width::W16);
        let v = V::Node(self.as_node(v, self.width));
        let w = self.common(v, v).unwrap_or(self.width);
        self.call(helpers::PORT_OUT, &[port, V::Num(u64::from(w.bytes())), v]);
    }

    /// A device is not read before it is sure that the string destination can be written.
    fn probe_destinations(&mut self) {
        for i in 0..self.own_operands {
            if matches!(
                self.insn.info().forms[i],
                crate::insn::Form::Y(Sz::B | Sz::W | Sz::D | Sz::V | Sz::Z)
            ) {
                self.mem_state(i);
                self.step(StepKind::Probe { operand: i as u8 });
            }
        }
    }

    // ---- marks

    /// `exit!()`.
    pub(super) fn exit(&mut self) {
        if self.pred == B::Const(true) {
            self.marks |= mark::EXIT;
        } else {
            self.step(StepKind::Exit);
        }
    }

    /// `halt!()`.
    pub(super) fn halt(&mut self) {
        self.marks |= mark::HALT;
    }

    /// `shadow!()`.
    pub(super) fn shadow(&mut self) {
        self.marks |= mark::SHADOW;
    }

    // ---- leaving

    /// Emits a jump to a page offset: chained within the page, through the jump table elsewhere.
    pub(super) fn push_goto_page(&mut self, slot: u8, off: i64, backward: bool) {
        if (0..PAGE).contains(&off) && !self.place.is_single_step() {
            let mut op = Op::new(Code::GotoTb, Width::W32);
            op.imm = off as u32; // below PAGE
            op.x = slot;
            op.y = u8::from(backward);
            self.block.push(op);
        } else {
            self.push_goto_far(off);
        }
    }

    /// Emits a jump to a page offset through the jump table.
    pub(super) fn push_goto_far(&mut self, off: i64) {
        let pc = self.push_pc(off);
        self.push_goto_value(pc, Val::NONE);
    }

    /// Emits a jump to a node's value.
    pub(super) fn push_goto_node(&mut self, target: u16, found: u16) {
        let pc = self.emit(target);
        let found = if found == NO { Val::NONE } else { self.emit(found) };
        self.push_goto_value(pc, found);
    }

    /// Emits a look for a jump's target.
    pub(super) fn push_look(&mut self, target: u16, found: u16) {
        let mut op = Op::new(Code::Look, Width::W64);
        op.a = self.emit(target);
        op.imm = vector::GP | HAS_ERROR_CODE;
        op.d = self.block.temp(Width::W64);
        self.block.push(op);
        self.set_value(found, op.d);
    }

    /// Emits a jump to an instruction pointer; `found`: what `Look` found.
    fn push_goto_value(&mut self, pc: Val, found: Val) {
        if self.place.is_single_step() {
            return self.push_exit(exit::RESYNC, pc);
        }
        let mut op = Op::new(Code::GotoPtr, self.ip_width());
        (op.a, op.b) = (pc, found);
        self.block.push(op);
    }

    /// The instruction pointer of a page offset as an operand.
    pub(super) fn push_pc(&mut self, off: i64) -> Val {
        if !self.place.is_flat() {
            let ip = self.ip_of(off);
            return self.block.constant(ip);
        }
        let w = self.ip_width();
        self.push_read_pc(off, w)
    }

    pub(super) fn push_read_pc(&mut self, off: i64, w: Width) -> Val {
        let near = off.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
        let mut op = Op::new(Code::ReadPc, w);
        op.d = self.block.temp(w);
        // A 32-bit pointer wraps as this does.
        op.imm = (if w == Width::W64 { near } else { off } as i32).cast_unsigned();
        let pc = self.block.push(op);
        if w < Width::W64 || near == off {
            return pc;
        }
        // A displacement of nearly 2 GiB, on top of the page offset.
        let mut op = Op::new(Code::Add, w);
        op.a = pc;
        op.b = self.block.constant(off.wrapping_sub(near).cast_unsigned());
        op.d = self.block.temp(w);
        self.block.push(op)
    }

    /// Emits an exit. RESYNC goes on by the jump table where that knows how; behind an insn that is a block because the run loop must
    /// look afterwards (a trap, or an interrupt that waited one insn longer), it may not.
    pub(super) fn push_exit(&mut self, code: u32, pc: Val) {
        let mut op = Op::new(Code::ExitTb, self.ip_width());
        let looks = code == exit::RESYNC && self.place.is_single_step();
        op.imm = if looks { exit::NEXT } else { code };
        op.a = pc;
        self.block.push(op);
    }

    pub(super) fn push_raise(&mut self, what: u32, code: u64) {
        let mut op = Op::new(Code::Raise, Width::W32);
        op.imm = what;
        if what & HAS_ERROR_CODE != 0 {
            op.a = self.block.constant(code);
        }
        self.block.push(op);
    }

    /// Label of an out-of-line fault.
    pub(super) fn cold_raise(&mut self, what: u32, code: Val) -> u32 {
        self.cold(ColdKind::Raise { what, code })
    }

    /// Label of an out-of-line exit behind this insn.
    pub(super) fn cold_resync(&mut self) -> u32 {
        let next = self.next();
        self.cold(ColdKind::Resync { next })
    }

    /// Label of an out-of-line jump within the page.
    pub(super) fn cold_side(&mut self, off: i64) -> u32 {
        self.cold(ColdKind::Side { off })
    }

    fn cold(&mut self, kind: ColdKind) -> u32 {
        let label = self.block.label();
        self.work.colds.push(Cold { label, at: self.at, len: self.insn.len, kind });
        label
    }

    /// Emits the out-of-line parts.
    pub(super) fn emit_colds(&mut self) {
        let has_units = !self.work.colds.iter().any(Cold::wants_temporary);
        for n in 0..self.work.colds.len() {
            let cold = self.work.colds[n];
            self.push_unit();
            let mut label = Op::new(Code::Label, Width::W32);
            label.imm = cold.label;
            self.block.push(label);
            match cold.kind {
                ColdKind::Raise { what, code } => {
                    self.push_start(cold.at, cold.len, 1);
                    let mut op = Op::new(Code::Raise, Width::W32);
                    op.imm = what;
                    op.a = code;
                    self.block.push(op);
                }
                ColdKind::Side { off } => self.push_goto_page(SIDE_SLOT, off, false),
                ColdKind::Resync { next } => {
                    let pc = self.push_pc(next);
                    self.push_exit(exit::RESYNC, pc);
                }
            }
        }
        self.work.colds.clear();
        if !has_units {
            self.block.units.clear();
        }
    }

    /// Error codes that cold parts still want.
    pub(super) fn cold_uses(&self, val: Val) -> bool {
        self.work
            .colds
            .iter()
            .any(|c| matches!(c.kind, ColdKind::Raise { code, .. } if code == val))
    }

    /// Is code of this mode 64-bit?
    pub(super) fn is_code64(&self) -> bool {
        self.place.mode.has(Mode::CODE64)
    }
}

const _: () = assert!(MAX_WRITES <= 16, "IfFrame copies the staged writes");
