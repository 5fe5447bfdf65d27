//! Constant folding: ops on known values become moves, branches on known values jumps or nothing.
//!
//! One walk forward; a temporary's known value is used until it is assigned again or a label is met. An op that
//! defines flags is left alone: run `flag_liveness` first, so that few do. Constants go second in
//! commutative ops, and what follows a jump up to the next label is dropped.

use crate::{Block, Code, Op, Scratch, Val, Width, alu, compare};

/// A temporary's value, if known.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Known {
    value: u64,
    /// Stretch in which it is known; 0 = never.
    stretch: u32,
}

/// Folds constants and drops unreachable ops and unused labels.
pub fn fold_constants(block: &mut Block, scratch: &mut Scratch) {
    count_label_uses(block, scratch);
    let pass = &mut scratch.pass;
    super::reset(&mut pass.known, block.temps.len());
    let keeps_after = pass.flags_after.len() == block.ops.len();
    let mut fold = Fold { known: &mut pass.known, stretch: 1, knows_any: false };
    let mut kept: usize = 0;
    let mut reachable = true;
    let mut flags_changed = false;
    for n in 0..block.ops.len() {
        let mut op = block.ops[n];
        if op.code == Code::Label {
            if pass.label_uses.get(op.imm as usize) == Some(&0) {
                continue;
            }
            reachable = true;
            fold.forget_all();
            if let Some(last) = kept.checked_sub(1)
                && block.ops[last].code == Code::Br
                && block.ops[last].imm == op.imm
            {
                // The label stays: another jump may want it.
                kept -= 1;
            }
        }
        let outcome = if reachable { fold.step(block, &mut op) } else { Outcome::Removed };
        if outcome != Outcome::Same {
            let before = &block.ops[n];
            flags_changed |= before.code.is_branch() || !before.flags_read().is_empty();
        }
        if outcome == Outcome::Removed {
            if op.code.is_branch() {
                super::drop_use(&mut pass.label_uses, op.imm as usize);
            }
            continue;
        }
        reachable = !(op.code.is_end() || op.code == Code::Br);
        if kept != n || outcome == Outcome::Changed {
            block.ops[kept] = op;
            if keeps_after {
                pass.flags_after[kept] = pass.flags_after[n];
            }
        }
        kept += 1;
    }
    block.ops.truncate(kept);
    if keeps_after {
        pass.flags_after.truncate(kept);
    }
    pass.flags_are_current &= keeps_after && !flags_changed;
}

fn count_label_uses(block: &Block, scratch: &mut Scratch) {
    let uses = &mut scratch.pass.label_uses;
    super::reset(uses, block.labels as usize);
    if block.labels == 0 {
        return;
    }
    for op in block.ops.iter().filter(|op| op.code.is_branch()) {
        if let Some(count) = uses.get_mut(op.imm as usize) {
            *count = count.saturating_add(1);
        }
    }
}

#[derive(PartialEq, Eq)]
enum Outcome {
    Same,
    Changed,
    Removed,
}

/// What an op is to this pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Neither known nor of interest.
    Opaque,
    Move,
    Value,
    Branch,
}

const KINDS: [Kind; Code::ALL.len()] = {
    let mut kinds = [Kind::Opaque; Code::ALL.len()];
    let mut n = 0;
    while n < kinds.len() {
        let code = Code::ALL[n];
        kinds[n] = match code {
            Code::Mov => Kind::Move,
            Code::Brcond => Kind::Branch,
            Code::LdEnv | Code::ReadPc | Code::Ticks => Kind::Opaque,
            Code::Getf | Code::Setccf | Code::Bt => Kind::Opaque,
            _ if code.is_pure() => Kind::Value,
            _ => Kind::Opaque,
        };
        n += 1;
    }
    kinds
};

struct Fold<'a> {
    known: &'a mut [Known],
    stretch: u32,
    /// Is any temporary known in this stretch?
    knows_any: bool,
}

/// Sources of an op, each with its value if known.
struct Sources {
    a: Option<u64>,
    b: Option<u64>,
    c: Option<u64>,
}

impl Fold<'_> {
    fn forget_all(&mut self) {
        self.stretch += 1;
        self.knows_any = false;
    }

    fn step(&mut self, block: &mut Block, op: &mut Op) -> Outcome {
        let mut outcome = Outcome::Same;
        match KINDS[op.code as usize] {
            Kind::Opaque => {}
            Kind::Move => return self.record_move(block, op),
            Kind::Branch => outcome = self.branch(block, op),
            Kind::Value => {
                let hopeful = self.may_know(op.a) || self.may_know(op.b) || self.may_know(op.c);
                if hopeful || op.a == op.b || op.c == op.e {
                    outcome = self.value_op(block, op);
                }
            }
        }
        if op.code == Code::Mov {
            self.record_move(block, op);
        } else if self.knows_any {
            op.for_each_result(|v, _| self.record(v, None));
        }
        outcome
    }

    /// Is it a constant, or a temporary that could be known?
    fn may_know(&self, v: Val) -> bool {
        v.as_pool().is_some() || self.knows_any && v.as_temp().is_some()
    }

    fn value_op(&self, block: &mut Block, op: &mut Op) -> Outcome {
        let before = *op;
        if is_commutative(op.code) && op.a.as_pool().is_some() && op.b.as_pool().is_none() {
            (op.a, op.b) = (op.b, op.a);
        }
        if !op.d.is_none() && op.flags_asked().is_empty() {
            self.compute(block, op);
        }
        if *op == before { Outcome::Same } else { Outcome::Changed }
    }

    fn value(&self, block: &Block, v: Val, w: Width) -> Option<u64> {
        let whole = match v.as_temp() {
            Some(t) => {
                let known = self.known.get(usize::from(t))?;
                (known.stretch == self.stretch).then_some(known.value)?
            }
            None => block.const_of(v)?,
        };
        Some(whole & w.mask())
    }

    fn sources(&self, block: &Block, op: &Op) -> Sources {
        let shape = op.code.shape();
        let value = |v, role| self.value(block, v, op.width_of(role));
        Sources { a: value(op.a, shape.a), b: value(op.b, shape.b), c: value(op.c, shape.c) }
    }

    fn branch(&self, block: &Block, op: &mut Op) -> Outcome {
        let s = self.sources(block, op);
        if let (Some(a), Some(b)) = (s.a, s.b) {
            if !compare(op.cond(), op.w, a, b) {
                return Outcome::Removed;
            }
            *op = Op { imm: op.imm, ..Op::new(Code::Br, op.w) };
            return Outcome::Changed;
        }
        Outcome::Same
    }

    fn compute(&self, block: &mut Block, op: &mut Op) {
        let s = self.sources(block, op);
        let result = match op.code {
            Code::Extu => s.a.map(Folded::Value),
            Code::Exts => s.a.map(|a| Folded::Value(sign_extend(Width::from_code(op.x), a))),
            Code::Setcond => match (s.a, s.b) {
                (Some(a), Some(b)) => Some(Folded::Value(compare(op.cond(), op.w, a, b).into())),
                _ => None,
            },
            Code::Movcond => match (s.a, s.b) {
                (Some(a), Some(b)) if compare(op.cond(), op.w, a, b) => Some(Folded::Source(op.c)),
                (Some(_), Some(_)) => Some(Folded::Source(op.e)),
                _ if op.c == op.e => Some(Folded::Source(op.c)),
                _ => None,
            },
            Code::Lea => match (s.a, s.b) {
                (Some(a), Some(b)) => Some(Folded::Value(op.address(a, b))),
                (None, Some(b)) if op.a.is_none() => Some(Folded::Value(op.address(0, b))),
                _ => None,
            },
            Code::Cmovf if op.a == op.b => Some(Folded::Source(op.a)),
            _ => arithmetic(op, &s),
        };
        let w = op.d_width();
        let a = match result {
            None => return,
            Some(Folded::Source(v)) => v,
            Some(Folded::Value(v)) => block.constant(v & w.mask()),
        };
        *op = Op { d: op.d, a, ..Op::new(Code::Mov, w) };
    }

    fn record_move(&mut self, block: &Block, op: &Op) -> Outcome {
        if op.d.as_temp().is_some() && (self.knows_any || op.a.as_pool().is_some()) {
            self.record(op.d, self.value(block, op.a, op.w));
        }
        Outcome::Same
    }

    fn record(&mut self, v: Val, value: Option<u64>) {
        if let Some(known) = v.as_temp().and_then(|t| self.known.get_mut(usize::from(t))) {
            *known = match value {
                Some(value) => Known { value, stretch: self.stretch },
                None => Known::default(),
            };
            self.knows_any |= value.is_some();
        }
    }
}

/// What an op comes down to.
enum Folded {
    Value(u64),
    Source(Val),
}

/// Arithmetic without flags: all sources known, or a neutral operand.
fn arithmetic(op: &Op, s: &Sources) -> Option<Folded> {
    if !op.flags_read().is_empty() || op.second_result().is_some() {
        return None;
    }
    let all_known = (op.a.is_none() || s.a.is_some())
        && (op.b.is_none() || s.b.is_some())
        && (op.c.is_none() || s.c.is_some());
    if all_known && !op.a.is_none() {
        let value = |v: Option<u64>| v.unwrap_or(0);
        return alu(op.code, op.w, value(s.a), value(s.b), value(s.c), 0)
            .map(|r| Folded::Value(r.d));
    }
    match (op.code, s.b) {
        (Code::Add | Code::Sub | Code::Or | Code::Xor, Some(0)) => Some(Folded::Source(op.a)),
        (Code::And, Some(0)) | (Code::Imul, Some(0)) => Some(Folded::Value(0)),
        (Code::And, Some(m)) if m == op.w.mask() => Some(Folded::Source(op.a)),
        (Code::Imul, Some(1)) => Some(Folded::Source(op.a)),
        (Code::Shl | Code::Shr | Code::Sar | Code::Rol | Code::Ror, Some(n))
            if n & u64::from(op.w.count_mask()) == 0 =>
        {
            Some(Folded::Source(op.a))
        }
        (Code::Xor | Code::Sub, None) if op.a == op.b => Some(Folded::Value(0)),
        (Code::And | Code::Or, None) if op.a == op.b => Some(Folded::Source(op.a)),
        _ => None,
    }
}

fn is_commutative(code: Code) -> bool {
    matches!(code, Code::Add | Code::Adc | Code::And | Code::Or | Code::Xor | Code::Imul)
}

fn sign_extend(w: Width, v: u64) -> u64 {
    let by = 64 - w.bits();
    ((v << by).cast_signed() >> by).cast_unsigned()
}
