//! The end of an insn: checks, loads and calls in order, then the staged writes. How control goes on: `leave`.

use super::boolean::B;
use super::flow::Target;
use super::mem::MemState;
use super::node::{Kind, NO, V};
use super::tables::helpers;
use super::{Dest, Flow, Lower, Work, Write, mark};
use crate::state::CpuState;
use ir::{AccessKind, Code, FlagMask, Op, Val, Width, exit};
use std::mem::offset_of;

/// Something that happens before the commits, or a store, under a condition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) pred: B,
    pub(super) kind: StepKind,
}

/// Kinds of steps.
#[derive(Clone, Copy, Debug)]
pub(super) enum StepKind {
    /// A load of the body.
    Load { node: u16 },
    /// A helper call. A late one writes a segment, control or debug register: it comes after every load and
    /// check of the body.
    Call { helper: u32, args: [u16; 4], ret: u16, late: bool },
    /// A fault.
    Raise { what: u32, code: u16 },
    /// A store: done with the commits.
    Store { seg: u8, aw: Width, off: u16, value: u16, w: Width, ptr: Val },
    /// Check that a memory operand can be written.
    Probe { operand: u8 },
    /// Leave; the helper has set the instruction pointer.
    Exit,
    /// A look for where a jump goes, which faults if it can go nowhere.
    Look { target: u16, found: u16 },
}

impl Lower<'_> {
    /// Emits everything that the insn has staged.
    pub(super) fn finish(&mut self) -> Flow {
        self.stage_stack_pointer();
        self.stage_string_steps();
        if self.run_steps() == Flow::End {
            return Flow::End;
        }
        if self.marks & mark::LATE != 0 {
            self.run_late_calls();
        }
        self.commit();
        self.leave()
    }

    // ---- checks, loads, calls

    fn run_steps(&mut self) -> Flow {
        let mut n = 0;
        while n < self.work.steps.len() {
            let Step { pred, kind } = self.work.steps[n];
            let is_conditional = pred != B::Const(true);
            match kind {
                StepKind::Raise { what, code } => {
                    let code = if code == NO { Val::NONE } else { self.emit(code) };
                    if !is_conditional {
                        let mut op = Op::new(Code::Raise, Width::W32);
                        op.imm = what;
                        op.a = code;
                        self.block.push(op);
                        return Flow::End;
                    }
                    self.prepare(pred);
                    let label = self.cold_raise(what, code);
                    self.branch_if(pred, label, true);
                }
                StepKind::Call { late: true, .. } => {}
                StepKind::Call { .. } | StepKind::Exit if is_conditional => {
                    n = self.run_conditional(n, pred);
                    continue;
                }
                _ => self.run_step(kind),
            }
            n += 1;
        }
        Flow::Next
    }

    fn run_step(&mut self, kind: StepKind) {
        match kind {
            StepKind::Load { node } => {
                self.emit(node);
            }
            StepKind::Call { helper, args, ret, .. } => self.emit_call(helper, args, ret),
            StepKind::Probe { operand } => {
                let MemState { seg, aw, off, w, .. } = self.mem_state(usize::from(operand));
                self.push_ptr(seg, aw, off, w, AccessKind::W);
            }
            StepKind::Exit => self.push_exit(exit::RESYNC, Val::NONE),
            StepKind::Look { target, found } => self.push_look(target, found),
            StepKind::Raise { .. } | StepKind::Store { .. } => {}
        }
    }

    /// Register writes that are helper calls.
    fn run_late_calls(&mut self) {
        let mut n = 0;
        while let Some(&Step { pred, kind }) = self.work.steps.get(n) {
            n = match kind {
                StepKind::Call { late: true, .. } if pred != B::Const(true) => {
                    self.run_conditional(n, pred)
                }
                StepKind::Call { helper: helpers::LOAD_SEG, args, ret, late: true }
                    if self.loads_by_itself(args[0]) =>
                {
                    self.load_segment(args, ret);
                    n + 1
                }
                StepKind::Call { late: true, .. } => {
                    self.run_step(kind);
                    n + 1
                }
                _ => n + 1,
            };
        }
    }

    /// Steps under one dynamic condition: branched around.
    fn run_conditional(&mut self, first: usize, pred: B) -> usize {
        self.prepare(pred);
        let skip = self.block.label();
        self.branch_if(pred, skip, false);
        let (known, pc_stored) = (self.work.emitted.len(), self.pc_stored);
        let mut n = first;
        while let Some(&Step { pred: other, kind }) = self.work.steps.get(n)
            && other == pred
            && matches!(kind, StepKind::Call { .. } | StepKind::Exit)
        {
            self.run_step(kind);
            n += 1;
        }
        self.push_label(skip);
        // What was computed in there does not exist on the other path.
        self.forget(known);
        self.pc_stored = pc_stored;
        n
    }

    fn forget(&mut self, known: usize) {
        for n in self.work.emitted.drain(known..) {
            if let Some(node) = self.work.nodes.get_mut(usize::from(n)) {
                node.val = Val::NONE;
                node.second = Val::NONE;
            }
        }
    }

    pub(super) fn emit_call(&mut self, helper: u32, args: [u16; 4], ret: u16) {
        let vals = args.map(|n| self.emit_argument(n));
        let info = &helpers::INFO[helper as usize];
        if info.faults || info.ends {
            self.push_own_pc();
        }
        let mut op = Op::new(Code::Call, Width::W64);
        op.imm = helper;
        [op.a, op.b, op.c, op.e] = vals;
        if info.ret != 0 {
            op.w = self.at_node(ret).w;
            op.d = self.block.temp(op.w);
        }
        self.block.push(op);
        self.set_value(ret, op.d);
    }

    // ---- commits

    fn commit(&mut self) {
        let has_stores = self.marks & mark::STORE != 0;
        let has_flags = !self.work.cc.is_empty() || self.staged.flag_mask != 0;
        let has_state = self.marks & mark::STATE != 0;
        let has_more = has_state || self.staged.df.is_some() || !self.work.jumps.is_empty();
        if !(has_stores || has_flags || has_more) {
            return self.commit_registers();
        }
        if has_stores {
            self.probe_stores();
        }
        let (mask, image) = self.flag_image();
        self.settle_jumps(mask != 0);
        if !self.work.cc.is_empty() {
            self.mark_flag_users();
        }
        if has_stores {
            self.plain_stores(); // the last thing that may fault
        }
        let df = self.df_step().map(|n| self.emit(n));
        self.emit_values(image, false);
        if !self.work.cc.is_empty() {
            self.emit_cc(FlagMask(mask));
            self.emit_values(image, true);
        }
        if has_stores {
            self.pointer_stores();
        }
        if mask != 0 {
            let mut op = Op::new(Code::Putf, Width::W32);
            op.x = mask;
            op.fdef = FlagMask(mask);
            op.a = self.emit(image);
            self.block.push(op);
        }
        if has_state {
            self.commit_state();
        }
        self.commit_registers();
        if let Some(step) = df {
            self.push_st_env(offset_of!(CpuState, df), Width::W32, step);
        }
    }

    /// Several stores, or flags that must come after the last fault: check the places first.
    fn probe_stores(&mut self) {
        let own = |cx: &Self, w: &Write| {
            w.is_certain() && matches!(w.dest, Dest::Mem(i) if cx.mem[usize::from(i)].ptr.is_none())
        };
        let unchecked = self.staged.list().iter().filter(|w| own(self, w)).count()
            + self.work.steps.iter().filter(|s| matches!(s.kind, StepKind::Store { .. })).count();
        if unchecked == 0 || (unchecked == 1 && self.work.cc.is_empty()) {
            return;
        }
        for n in 0..self.work.steps.len() {
            if let StepKind::Store { seg, aw, off, w, .. } = self.work.steps[n].kind {
                let pointer = self.push_ptr(seg, aw, off, w, AccessKind::W);
                if let StepKind::Store { ptr, .. } = &mut self.work.steps[n].kind {
                    *ptr = pointer;
                }
            }
        }
        for n in 0..self.staged.count {
            let write = self.staged.writes[n];
            if let Dest::Mem(i) = write.dest
                && write.is_certain()
            {
                self.operand_pointer(usize::from(i), AccessKind::W);
            }
        }
    }

    /// The explicitly assigned flags: mask and a node with their EFLAGS image.
    fn flag_image(&mut self) -> (u8, u16) {
        let mask = self.staged.flag_mask;
        if mask == 0 {
            return (0, NO);
        }
        let (mut known, mut image) = (0, None);
        for n in (0..6).filter(|n| mask >> n & 1 != 0) {
            let bit = FlagMask(1 << n);
            match self.staged.flags[n] {
                B::Const(value) => known |= if value { bit.eflags() } else { 0 },
                b => {
                    let wide = self.b2i(b, Width::W32);
                    let shift = u64::from(bit.eflags().trailing_zeros());
                    let placed = self.shl(wide, V::Num(shift));
                    image = Some(match image {
                        None => placed,
                        Some(sum) => self.or(sum, placed),
                    });
                }
            }
        }
        let image = match image {
            None => V::Num(u64::from(known)),
            Some(sum) if known == 0 => sum,
            Some(sum) => self.or(sum, V::Num(u64::from(known))),
        };
        (mask, self.fit(image, Width::W32))
    }

    /// Conditions of jumps that look at the entry flags become values when this insn changes flags.
    fn settle_jumps(&mut self, sets_flags: bool) {
        if !sets_flags && self.work.cc.is_empty() {
            return;
        }
        for n in 0..self.work.jumps.len() {
            let pred = self.work.jumps[n].pred;
            if self.looks_at_flags(pred) {
                self.work.jumps[n].pred = B::Bit(self.bit_node(pred));
            }
        }
    }

    fn looks_at_flags(&self, b: B) -> bool {
        match b {
            B::Flags(_) | B::Af => true,
            B::And(pair) | B::Or(pair) => {
                let (x, y) = self.work.pairs[usize::from(pair)];
                self.looks_at_flags(x) || self.looks_at_flags(y)
            }
            B::Const(_) | B::Cmp(..) | B::Bit(_) => false,
        }
    }

    /// Emits the values that the commits need: those that do not rest on the flag op first, so that it
    /// comes last and still is the op that computes the others.
    fn emit_values(&mut self, image: u16, all: bool) {
        for n in 0..self.work.steps.len() {
            if let StepKind::Store { value, off, ptr, .. } = self.work.steps[n].kind {
                self.emit_root(value, all);
                if ptr.is_none() {
                    self.emit_root(off, all);
                }
            }
        }
        for n in 0..self.staged.count {
            let write = self.staged.writes[n];
            self.emit_root(write.node, all);
        }
        if self.staged.flag_mask != 0 {
            self.emit_root(image, all);
        }
        for n in 0..self.work.jumps.len() {
            let jump = self.work.jumps[n];
            if let Target::Node(n) = jump.target {
                self.emit_root(n, all);
            }
            self.emit_condition(jump.pred, all);
        }
        for n in 0..self.work.cc.len() {
            self.emit_condition(self.work.cc[n].0, true);
        }
    }

    fn emit_condition(&mut self, b: B, all: bool) {
        match b {
            B::Const(_) | B::Flags(_) | B::Af => {}
            B::Cmp(_, x, y) => {
                self.emit_root(x, all);
                self.emit_root(y, all);
            }
            B::Bit(n) => self.emit_root(n, all),
            B::And(pair) | B::Or(pair) => {
                let (x, y) = self.work.pairs[usize::from(pair)];
                self.emit_condition(x, all);
                self.emit_condition(y, all);
            }
        }
    }

    fn emit_root(&mut self, n: u16, all: bool) {
        let node = self.at_node(n);
        if all || !node.rests_on_cc || node.rests_on_flags {
            self.emit(n);
        }
    }

    /// Marks which nodes rest on flag ops and on entry flags. Nodes stand behind what they are made of, but
    /// for bit scans, which are flag ops themselves then.
    fn mark_flag_users(&mut self) {
        let Work { nodes, cc, .. } = &mut *self.work;
        for n in 0..nodes.len() {
            let is_cc = cc.iter().any(|(_, node)| usize::from(*node) == n);
            let (mut on_cc, mut on_flags) = (is_cc, !is_cc && nodes[n].reads_flags());
            for arg in nodes[n].args {
                if let Some(arg) = nodes.get(usize::from(arg)) {
                    on_cc |= arg.rests_on_cc;
                    on_flags |= !is_cc && arg.rests_on_flags;
                }
            }
            nodes[n].rests_on_cc = on_cc;
            nodes[n].rests_on_flags = on_flags;
        }
    }

    fn plain_stores(&mut self) {
        for n in 0..self.work.steps.len() {
            let Step { pred, kind } = self.work.steps[n];
            if let StepKind::Store { seg, aw, off, value, w, ptr } = kind
                && ptr.is_none()
            {
                self.mismatches += u32::from(pred != B::Const(true)); // no store under a dynamic condition
                let state = MemState { off, aw, seg, w, ..MemState::EMPTY };
                self.push_store(&state, value);
            }
        }
        for n in 0..self.staged.count {
            let write = self.staged.writes[n];
            if let Dest::Mem(i) = write.dest
                && self.mem[usize::from(i)].ptr.is_none()
            {
                let state = self.mem_state(usize::from(i));
                if write.is_certain() {
                    self.push_store(&state, write.node);
                } else {
                    self.push_store_if(&state, write);
                }
            }
        }
    }

    /// A store that a condition decides, with all that it needs in front of the branch around it.
    fn push_store_if(&mut self, state: &MemState, write: Write) {
        self.emit(state.off);
        self.emit(write.node);
        self.prepare(write.when);
        let skip = self.block.label();
        self.branch_if(write.when, skip, false);
        self.push_store(state, write.node);
        self.push_label(skip);
    }

    fn push_store(&mut self, state: &MemState, value: u16) {
        let mut op = Op::new(Code::St, state.w);
        op.a = self.emit(state.off);
        op.b = self.emit(value);
        op.x = state.seg;
        op.y = self.access_width(state.aw) as u8;
        self.block.push(op);
    }

    fn pointer_stores(&mut self) {
        for n in 0..self.work.steps.len() {
            if let StepKind::Store { value, w, ptr, .. } = self.work.steps[n].kind
                && !ptr.is_none()
            {
                self.push_pointer_store(ptr, w, value);
            }
        }
        for n in 0..self.staged.count {
            let write = self.staged.writes[n];
            if let Dest::Mem(i) = write.dest {
                let ptr = self.mem[usize::from(i)].ptr;
                if !ptr.is_none() {
                    self.push_pointer_store(ptr, write.w, write.node);
                }
            }
        }
    }

    fn push_pointer_store(&mut self, ptr: Val, w: Width, value: u16) {
        let mut op = Op::new(Code::StH, w);
        op.a = ptr;
        op.b = self.emit(value);
        self.block.push(op);
    }

    /// The flag op: with its value when something needs that.
    fn emit_cc(&mut self, explicit: FlagMask) {
        let written = FlagMask(self.row.written).minus(explicit);
        for n in 0..self.work.cc.len() {
            let (pred, node) = self.work.cc[n];
            let Kind::Op(code) = self.at_node(node).kind else { continue };
            let fdef = FlagMask(code.can_define().0 & written.0);
            if fdef.is_empty() {
                continue;
            }
            if code == Code::Putf {
                self.work.nodes[usize::from(node)].x &= fdef.0;
            }
            if pred == B::Const(true) {
                let is_fresh = self.at_node(node).val.is_none();
                let wants_value = is_fresh && self.is_value_wanted();
                self.emit_op(node, wants_value, fdef);
                continue;
            }
            for arg in self.at_node(node).args {
                if arg != NO {
                    self.emit(arg);
                }
            }
            let skip = self.block.label();
            self.branch_if(pred, skip, false);
            self.emit_op(node, false, fdef);
            self.push_label(skip);
        }
    }

    /// Does a staged write, store or jump rest on the value of a flag op?
    fn is_value_wanted(&self) -> bool {
        let rests = |n: u16| self.at_node(n).rests_on_cc;
        let in_jump = |b: B| match b {
            B::Cmp(_, x, y) => rests(x) || rests(y),
            B::Bit(n) => rests(n),
            B::And(_) | B::Or(_) => true,
            B::Const(_) | B::Flags(_) | B::Af => false,
        };
        let in_step = |kind| matches!(kind, StepKind::Store { value, .. } if rests(value));
        self.staged.flag_mask != 0
            || self.staged.list().iter().any(|w| rests(w.node))
            || self.work.steps.iter().any(|s| in_step(s.kind))
            || self
                .work
                .jumps
                .iter()
                .any(|j| in_jump(j.pred) || matches!(j.target, Target::Node(n) if rests(n)))
    }

    /// The value of the state's `df` when DF is assigned.
    fn df_step(&mut self) -> Option<u16> {
        Some(match self.staged.df? {
            B::Const(true) => self.const_node(u64::MAX, Width::W32),
            B::Const(false) => self.const_node(1, Width::W32),
            b => {
                let wide = self.b2i(b, Width::W32);
                let twice = self.shl(wide, V::Num(1));
                let one = self.const_node(1, Width::W32);
                let twice = self.fit(twice, Width::W32);
                self.fold(Code::Sub, Width::W32, one, twice)
            }
        })
    }
}
