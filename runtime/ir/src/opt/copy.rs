//! Copies: forwards them to their readers, then lets an op write a register directly instead of through a
//! temporary.
//!
//! The lowering stages writes (`tmp = a + b; …; eax = tmp`), so that a fault leaves the registers alone.
//! Where nothing in between can fault or touches the register the staging is not needed.
//!
//! 1. `forward`, first to last: a temporary or register that is a copy is replaced by its source while neither has
//!    changed. After `eax = tmp` readers of `tmp` read `eax`, so that `tmp` often has no other use.
//! 2. `retarget`: `tmp = op …; eax = tmp` with no other use of `tmp` becomes `eax = op …`.
//!
//! Both work within straight-line stretches: a label forgets everything.

use super::{add_use, register_of};
use crate::{Block, Code, FlagMask, Op, Role, Scratch, Undefined, Val, Width};

/// What a temporary or register is a copy of, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    /// Position of the copy; the source must not have been written since.
    at: u32,
    /// Position of the last write to the temporary or register itself.
    written: u32,
    /// The source, `NONE` if it is no copy.
    from: Val,
    /// Width copied: reads up to this width may use the source.
    w: Width,
}

impl Copied {
    const NO: Self = Self { at: 0, written: 0, from: Val::NONE, w: Width::W8 };
}

impl Default for Copied {
    fn default() -> Self {
        Self::NO
    }
}

/// Forwards copies and retargets results. Leaves dead copies behind for `dead_code`.
pub fn copies(block: &mut Block, scratch: &mut Scratch) {
    if forward(block, scratch) {
        retarget(block, scratch);
    }
}

/// Forwards, and counts the uses that are left. Is there a move that could be retargeted?
fn forward(block: &mut Block, scratch: &mut Scratch) -> bool {
    let pass = &mut scratch.pass;
    super::reset(&mut pass.copies, block.temps.len());
    super::reset(&mut pass.uses, block.temps.len());
    let uses = &mut pass.uses;
    let mut has_candidate = false;
    let mut walk = Forward {
        pool: &block.pool,
        widths: &block.temps,
        temps: &mut pass.copies,
        registers: [Copied::NO; 16],
        forgotten: 0,
        now: 0,
    };
    for op in &mut block.ops {
        walk.now += 1;
        if op.code == Code::Label {
            walk.forgotten = walk.now;
            continue;
        }
        let reader = *op;
        op.map_sources_by_role(|v, role| {
            let v = walk.source(v, role, &reader);
            add_use(uses, v);
            v
        });
        has_candidate |= op.code == Code::Mov && op.a.as_temp().is_some();
        walk.results(op);
    }
    has_candidate
}

/// Does an op change the low part of a register, as the host does best in place?
fn is_changed_in_part(v: Val, reader: &Op) -> bool {
    let is_narrow = reader.w < Width::W32 && reader.code != Code::Mov;
    is_narrow && reader.a == v && !reader.d.is_none()
}

struct Forward<'a> {
    pool: &'a [u64],
    widths: &'a [Width],
    temps: &'a mut [Copied],
    registers: [Copied; 16],
    /// Copies made up to here are forgotten.
    forgotten: u32,
    now: u32,
}

impl Forward<'_> {
    /// What to read instead of `v`.
    #[inline]
    fn source(&self, v: Val, role: Role, reader: &Op) -> Val {
        match self.entry(v) {
            Some(copied) if !copied.from.is_none() => self.forwarded(v, role, reader, copied),
            _ => v,
        }
    }

    #[inline]
    fn entry(&self, v: Val) -> Option<&Copied> {
        match v.as_temp() {
            Some(t) => self.temps.get(usize::from(t)),
            None => v.as_gpr().map(|r| &self.registers[usize::from(r)]),
        }
    }

    fn forwarded(&self, v: Val, role: Role, reader: &Op, copied: &Copied) -> Val {
        let Copied { from, w, at, .. } = *copied;
        let is_stale = self.entry(from).is_some_and(|source| source.written > at);
        if at <= self.forgotten || is_stale {
            return v;
        }
        // The first eight registers are the nearest on any host, and a shift's count has its own.
        let is_register = v.as_gpr().is_some();
        let is_count = matches!(role, Role::At(Width::W8));
        let is_far = from.as_gpr().is_some_and(|r| r >= 8);
        if is_register && (is_count || is_far || is_changed_in_part(v, reader)) {
            return v;
        }
        let would_keep = is_count && from.as_pool().is_some() && reader.fdef.meets(FlagMask::O);
        if would_keep && Undefined::of_host().tells_constant_rotates(reader.code) {
            return v;
        }
        let fits = match role {
            Role::Arg => self.fits_argument(v, from, w),
            _ => reader.width_of(role) <= w,
        };
        if fits && (role != Role::Pointer || from.as_temp().is_some()) { from } else { v }
    }

    /// Arguments are read whole: the bits above the copied width must be zero in the source too.
    fn fits_argument(&self, v: Val, from: Val, w: Width) -> bool {
        let whole = match v.as_temp() {
            Some(t) => self.widths.get(usize::from(t)).is_some_and(|&t| t == w),
            None => w == Width::W64,
        };
        whole
            && match (from.as_temp(), from.as_pool()) {
                (Some(t), _) => self.widths.get(usize::from(t)) == Some(&w),
                (_, Some(n)) => self.pool.get(usize::from(n)).is_some_and(|&c| c & !w.mask() == 0),
                _ => w == Width::W64,
            }
    }

    #[inline]
    fn results(&mut self, op: &Op) {
        let now = self.now;
        if op.code == Code::Call || op.is_implicit() {
            self.registers = [Copied { written: now, ..Copied::NO }; 16];
        }
        if op.code == Code::Mov && op.a == op.d && op.a.as_temp().is_some() {
            return;
        }
        op.for_each_result(|v, _| {
            if let Some(t) = v.as_temp() {
                if let Some(slot) = self.temps.get_mut(usize::from(t)) {
                    *slot = Copied { written: now, ..Copied::NO };
                }
            } else if let Some(r) = register_of(v) {
                self.registers[r] = Copied { written: now, ..Copied::NO };
            }
        });
        if op.code == Code::Mov {
            self.remember(op);
        }
    }

    /// Records what a move makes a copy of what. A register written from a temporary becomes the place to
    /// read, for registers are always at hand.
    fn remember(&mut self, op: &Op) {
        let is_high = op.a.as_high().is_some() || op.d.as_high().is_some();
        if is_high || op.a == op.d {
            return;
        }
        let (w, at) = (op.w, self.now);
        let copy = |slot: &mut Copied, from| *slot = Copied { from, w, at, ..*slot };
        if let Some(t) = op.d.as_temp() {
            if let Some(slot) = self.temps.get_mut(usize::from(t)) {
                copy(slot, op.a);
            }
        } else if let Some(r) = op.d.as_gpr() {
            if let Some(t) = op.a.as_temp() {
                if let Some(slot) = self.temps.get_mut(usize::from(t)) {
                    copy(slot, op.d);
                }
            } else if op.a.as_gpr().is_some() {
                copy(&mut self.registers[usize::from(r)], op.a);
            }
        }
    }
}

/// How far back `retarget` looks for the op that made a temporary.
const REACH: usize = 12;

fn retarget(block: &mut Block, scratch: &mut Scratch) {
    let pass = &mut scratch.pass;
    let keeps_after = pass.flags_after.len() == block.ops.len();
    let mut kept = 0;
    for n in 0..block.ops.len() {
        let op = block.ops[n];
        if op.code == Code::Mov
            && let Some(t) = op.a.as_temp()
            && register_of(op.d).is_some()
            && pass.uses.get(usize::from(t)) == Some(&1)
            && let Some((def, slot)) = definition(&op, &block.ops[..kept])
        {
            match slot {
                Slot::D => block.ops[def].d = op.d,
                Slot::E => block.ops[def].e = op.d,
            }
            pass.uses[usize::from(t)] = 0;
            // The flags behind the removed move are those before it.
            continue;
        }
        if kept != n {
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
}

enum Slot {
    D,
    E,
}

/// The op, and which of its results, that may write the register in the move's place: what lies between
/// neither touches the register nor can leave, and nothing joins there.
fn definition(mov: &Op, ops: &[Op]) -> Option<(usize, Slot)> {
    let register = register_of(mov.d)?;
    for (index, op) in ops.iter().enumerate().rev().take(REACH) {
        let (slot, w, other) = if op.d == mov.a {
            (Slot::D, op.d_width(), op.second_result())
        } else if op.second_result() == Some(mov.a) {
            (Slot::E, op.w, Some(op.d))
        } else {
            let is_border = op.code.is_branch() || matches!(op.code, Code::Label | Code::InsnStart);
            if is_border || op.exposes_state() || op.is_implicit() || touches(op, register) {
                return None;
            }
            continue;
        };
        let apart = other.is_none_or(|other| are_apart(other, mov.d, mov.w));
        let high_allowed = mov.d.as_high().is_none() || writes_high(op.code);
        // A load's own result is written after it could leave.
        return (w == mov.w && apart && high_allowed).then_some((index, slot));
    }
    None
}

fn touches(op: &Op, register: usize) -> bool {
    [op.d, op.e, op.a, op.b, op.c].into_iter().any(|v| register_of(v) == Some(register))
}

/// Do two results written at `w` share no bit? AL and AH do not.
fn are_apart(a: Val, b: Val, w: Width) -> bool {
    register_of(a) != register_of(b)
        || register_of(a).is_none()
        || w == Width::W8 && a.as_high().is_some() != b.as_high().is_some()
}

/// Ops that take a high-byte register as result without further thought on the host.
fn writes_high(code: Code) -> bool {
    matches!(
        code,
        Code::Mov
            | Code::Add
            | Code::Sub
            | Code::Adc
            | Code::Sbb
            | Code::And
            | Code::Or
            | Code::Xor
            | Code::Not
            | Code::Neg
            | Code::Inc
            | Code::Dec
            | Code::Mulu2
            | Code::Muls2
            | Code::Divu2
            | Code::Divs2
    )
}
