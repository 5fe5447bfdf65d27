//! Register commits, and the peephole behind them: results go straight into their registers.
//!
//! Values are first emitted into temporaries, then moved. A move whose temporary was made by an op of the same
//! insn disappears when nothing in between could see the register: the op then writes the register itself.

use super::boolean::B;
use super::flow::Target;
use super::{Dest, Lower, Write};
use ir::{Code, Op, Role, Val, Width};

/// One pending register write.
#[derive(Clone, Copy)]
struct Move {
    reg: Val,
    w: Width,
    val: Val,
    done: bool,
}

impl Lower<'_> {
    /// Moves the staged values into their registers, as if all at once.
    pub(super) fn commit_registers(&mut self) {
        if self.staged.count == 0 || (self.staged.count == 1 && self.commit_only()) {
            return;
        }
        let mut moves =
            [Move { reg: Val::NONE, w: Width::W8, val: Val::NONE, done: true }; super::MAX_WRITES];
        let mut count = 0;
        for n in 0..self.staged.count {
            let Write { dest, w, node, .. } = self.staged.writes[n];
            if let Dest::Reg(reg) = dest {
                moves[count] = Move { reg, w, val: self.emit(node), done: false };
                count += 1;
            }
        }
        let moves = &mut moves[..count];
        self.save_jump_values(moves);
        while let Some(first) = moves.iter().position(|m| !m.done) {
            let next = (first..moves.len()).find(|&k| !moves[k].done && is_free(moves, k));
            let k = next.unwrap_or(first);
            if next.is_none() {
                self.save_sources(moves, k);
            }
            moves[k].done = true;
            let Move { reg, w, val, .. } = moves[k];
            let extends = w == Width::W32 && self.is_code64();
            if reg != val || extends {
                self.push_move(reg, w, val);
                self.has_moves |= val.as_temp().is_some();
            }
        }
    }

    /// The only staged write, if it is of a value that the last op has just made: the op then writes the register.
    fn commit_only(&mut self) -> bool {
        let Write { dest: Dest::Reg(reg), w, node, .. } = self.staged.writes[0] else {
            return false;
        };
        let val = self.emit(node);
        if !self.work.jumps.is_empty() || self.cold_uses(val) {
            return false;
        }
        match self.block.ops.last_mut() {
            Some(maker)
                if maker.d == val
                    && val.as_temp().is_some()
                    && maker.d_width() == w
                    && maker.second_result().is_none()
                    && !matches!(maker.code, Code::Ptr | Code::Native) =>
            {
                maker.d = reg;
                true
            }
            _ => false,
        }
    }

    fn push_move(&mut self, d: Val, w: Width, a: Val) {
        let mut op = Op::new(Code::Mov, w);
        op.d = d;
        op.a = a;
        self.block.push(op);
    }

    /// Copies the sources that writing move `k` would destroy.
    fn save_sources(&mut self, moves: &mut [Move], k: usize) {
        let (reg, w) = (moves[k].reg, moves[k].w);
        for other in moves.iter_mut().filter(|m| !m.done) {
            if other.reg != reg && overlap(reg, w, other.val, other.w) {
                let copy = self.block.temp(other.w);
                self.push_move(copy, other.w, other.val);
                other.val = copy;
            }
        }
    }

    /// Jump conditions and targets are used after the registers have changed.
    fn save_jump_values(&mut self, moves: &[Move]) {
        for n in 0..self.work.jumps.len() {
            let jump = self.work.jumps[n];
            if let Target::Node(node) = jump.target {
                self.save_node(node, moves);
            }
            self.save_condition(jump.pred, moves);
        }
    }

    fn save_condition(&mut self, b: B, moves: &[Move]) {
        match b {
            B::Const(_) | B::Flags(_) | B::Af => {}
            B::Cmp(_, x, y) => {
                self.save_node(x, moves);
                self.save_node(y, moves);
            }
            B::Bit(n) => self.save_node(n, moves),
            B::And(pair) | B::Or(pair) => {
                let (x, y) = self.work.pairs[usize::from(pair)];
                self.save_condition(x, moves);
                self.save_condition(y, moves);
            }
        }
    }

    fn save_node(&mut self, n: u16, moves: &[Move]) {
        let val = self.emit(n);
        let w = self.at_node(n).w;
        if moves.iter().any(|m| overlap(m.reg, m.w, val, w)) {
            let copy = self.block.temp(w);
            self.push_move(copy, w, val);
            self.set_value(n, copy);
        }
    }

    /// Retargets the insn's ops, and notes whether it may fault.
    pub(super) fn retarget(&mut self) {
        let mut n = self.first_op;
        while self.has_moves && n < self.block.ops.len() {
            let op = self.block.ops[n];
            if op.code == Code::Mov
                && is_register(op.d)
                && op.a.as_temp().is_some()
                && self.retarget_move(n)
            {
                self.block.ops.remove(n);
            } else {
                n += 1;
            }
        }
        let colds = &self.work.colds;
        let ops = &mut self.block.ops[self.first_op..];
        let may_fault = ops.iter().any(|op| {
            let is_cold_branch = op.code.is_branch()
                && colds.iter().any(|cold| cold.label == op.imm && !cold.is_side());
            is_cold_branch
                || matches!(op.code, Code::Ld | Code::St | Code::Ptr | Code::Call | Code::Raise)
                || matches!(op.code, Code::SimdEnter | Code::Look)
                || op.code == Code::Native && op.exposes_state()
        });
        if let Some(start) = ops.first_mut() {
            start.y = u8::from(may_fault);
        }
    }

    /// Makes the op that computed the temporary of move `at` write the register itself, if nobody can tell.
    fn retarget_move(&mut self, at: usize) -> bool {
        let Op { d: reg, a: temp, w, .. } = self.block.ops[at];
        let Some(def) = self.only_definition(temp, at) else { return false };
        let maker = self.block.ops[def];
        let is_first = maker.d == temp;
        let made_width = if is_first { maker.d_width() } else { maker.w };
        let other =
            if is_first { maker.second_result() } else { Some(maker.d).filter(|d| !d.is_none()) };
        if made_width != w
            || maker.code == Code::Ptr
            || self.cold_uses(temp)
            || other.is_some_and(|other| overlap(reg, w, other, maker.w))
            || !self.is_quiet(def + 1..at, reg, w)
            || !self.can_replace(def + 1, at, temp, reg)
        {
            return false;
        }
        let maker = &mut self.block.ops[def];
        if is_first {
            maker.d = reg;
        } else {
            maker.e = reg;
        }
        for op in &mut self.block.ops[def + 1..] {
            op.map_sources(|val, _, _| if val == temp { reg } else { val });
        }
        true
    }

    /// The one op of this insn before `at` that defines `temp`.
    fn only_definition(&self, temp: Val, at: usize) -> Option<usize> {
        let defines = |op: &Op| op.d == temp || op.second_result() == Some(temp);
        let mut found = None;
        for n in self.first_op..self.block.ops.len() {
            if defines(&self.block.ops[n]) {
                if found.is_some() || n >= at {
                    return None;
                }
                found = Some(n);
            }
        }
        found
    }

    /// Does nothing in the range see or change the register, or let control or a fault out?
    fn is_quiet(&self, range: std::ops::Range<usize>, reg: Val, w: Width) -> bool {
        self.block.ops[range].iter().all(|op| {
            let mut quiet =
                !(op.code.exposes_state() || op.code.is_branch() || op.code == Code::Label);
            op.for_each_source(|val, width| quiet &= !overlap(reg, w, val, width));
            op.for_each_result(|val, width| quiet &= !overlap(reg, w, val, width));
            quiet
        })
    }

    /// Can every later use of `temp` read the register instead?
    fn can_replace(&self, from: usize, at: usize, temp: Val, reg: Val) -> bool {
        let mut is_overwritten = false;
        for (n, op) in self.block.ops.iter().enumerate().skip(from) {
            let mut uses = false;
            let mut fits = true;
            op.for_each_source(|val, width| {
                uses |= val == temp;
                fits &= val != temp || reg.as_high().is_none() || width == Width::W8;
            });
            let shape = op.code.shape();
            let as_argument =
                shape.a == Role::Arg || matches!(op.code, Code::LdH | Code::StH) && op.a == temp;
            if uses && (is_overwritten || !fits || as_argument) {
                return false;
            }
            if n > at {
                op.for_each_result(|val, width| {
                    is_overwritten |= overlap(reg, Width::W64, val, width)
                });
                is_overwritten |= op.code == Code::Call;
            }
        }
        true
    }
}

/// May move `k` go now: no pending move reads its register, and none before it writes there?
fn is_free(moves: &[Move], k: usize) -> bool {
    let Move { reg, w, .. } = moves[k];
    moves.iter().enumerate().all(|(n, other)| {
        n == k
            || other.done
            || !(overlap(reg, w, other.val, other.w)
                || (n < k && overlap(reg, w, other.reg, other.w)))
    })
}

fn is_register(val: Val) -> bool {
    val.as_gpr().is_some() || val.as_high().is_some()
}

/// Do two operands at these widths share register bits?
fn overlap(a: Val, aw: Width, b: Val, bw: Width) -> bool {
    match ((a.as_gpr(), a.as_high()), (b.as_gpr(), b.as_high())) {
        ((Some(x), _), (Some(y), _)) | ((_, Some(x)), (_, Some(y))) => x == y,
        ((Some(x), _), (_, Some(y))) => x == y && aw > Width::W8,
        ((_, Some(x)), (Some(y), _)) => x == y && bw > Width::W8,
        _ => false,
    }
}
