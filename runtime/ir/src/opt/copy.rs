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

use super::{dead::count_uses, register_of};
use crate::{Block, Code, Op, Role, Scratch, Val, Width};

/// What a temporary or register is a copy of, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    /// The source, `NONE` if it is no copy.
    from: Val,
    /// Width copied: reads up to this width may use the source.
    w: Width,
    /// Position of the copy; the source must not have been written since.
    at: u32,
}

impl Default for Copied {
    fn default() -> Self {
        Self { from: Val::NONE, w: Width::W8, at: 0 }
    }
}

/// The op that defined a temporary.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Definition {
    /// Index of the op plus 1; 0 = none in this stretch.
    op: u32,
    /// Position from which temporaries are counted as written, for `forward`.
    written: u32,
}

/// Forwards copies and retargets results. Leaves dead copies behind for `dead_code`.
pub fn copies(block: &mut Block, scratch: &mut Scratch) {
    forward(block, scratch);
    retarget(block, scratch);
}

fn forward(block: &mut Block, scratch: &mut Scratch) {
    let pass = &mut scratch.pass;
    super::reset(&mut pass.copies, block.temps.len());
    super::reset(&mut pass.defs, block.temps.len());
    let mut walk = Forward {
        pool: &block.pool,
        widths: &block.temps,
        temps: &mut pass.copies,
        written: &mut pass.defs,
        registers: [Copied::default(); 16],
        registers_written: [0; 16],
        forgotten: 0,
        now: 0,
    };
    for op in &mut block.ops {
        walk.now += 1;
        if op.code == Code::Label {
            walk.forgotten = walk.now;
            continue;
        }
        let pointer_op = matches!(op.code, Code::LdH | Code::StH);
        op.map_sources(|v, role, w| walk.source(v, role, w, pointer_op));
        walk.results(op);
    }
}

struct Forward<'a> {
    pool: &'a [u64],
    widths: &'a [Width],
    temps: &'a mut [Copied],
    written: &'a mut [Definition],
    registers: [Copied; 16],
    registers_written: [u32; 16],
    /// Copies made up to here are forgotten.
    forgotten: u32,
    now: u32,
}

impl Forward<'_> {
    /// What to read instead of `v`.
    fn source(&self, v: Val, role: Role, w: Width, pointer_op: bool) -> Val {
        let copied = if let Some(t) = v.as_temp() {
            self.temps.get(usize::from(t))
        } else {
            v.as_gpr().map(|r| &self.registers[usize::from(r)])
        };
        let Some(&Copied { from, w: copied_w, at }) = copied else { return v };
        if from.is_none() || at <= self.forgotten || self.written_at(from) > at {
            return v;
        }
        let fits = match role {
            Role::Arg => self.fits_argument(v, from, copied_w),
            _ => w <= copied_w,
        };
        let is_pointer = pointer_op && role == Role::At(Width::W64);
        if fits && (!is_pointer || from.as_temp().is_some()) { from } else { v }
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

    fn written_at(&self, v: Val) -> u32 {
        if let Some(t) = v.as_temp() {
            self.written.get(usize::from(t)).map_or(u32::MAX, |d| d.written)
        } else {
            register_of(v).map_or(0, |r| self.registers_written[r])
        }
    }

    fn results(&mut self, op: &Op) {
        if op.code == Code::Call {
            self.registers_written = [self.now; 16];
            self.registers = [Copied::default(); 16];
        }
        if op.code == Code::Mov && op.a == op.d && op.a.as_temp().is_some() {
            return;
        }
        let now = self.now;
        op.for_each_result(|v, _| {
            if let Some(t) = v.as_temp() {
                let t = usize::from(t);
                if let (Some(copy), Some(d)) = (self.temps.get_mut(t), self.written.get_mut(t)) {
                    *copy = Copied::default();
                    d.written = now;
                }
            } else if let Some(r) = register_of(v) {
                self.registers[r] = Copied::default();
                self.registers_written[r] = now;
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
        let copy = |from| Copied { from, w: op.w, at: self.now };
        if let Some(t) = op.d.as_temp() {
            if let Some(slot) = self.temps.get_mut(usize::from(t)) {
                *slot = copy(op.a);
            }
        } else if let Some(r) = op.d.as_gpr() {
            if let Some(t) = op.a.as_temp() {
                if let Some(slot) = self.temps.get_mut(usize::from(t)) {
                    *slot = copy(op.d);
                }
            } else if op.a.as_gpr().is_some() {
                self.registers[usize::from(r)] = copy(op.a);
            }
        }
    }
}

fn retarget(block: &mut Block, scratch: &mut Scratch) {
    count_uses(block, scratch);
    let pass = &mut scratch.pass;
    super::reset(&mut pass.defs, block.temps.len());
    let keeps_after = pass.flags_after.len() == block.ops.len();
    let mut walk = Retarget { defs: &mut pass.defs, touched: [0; 16], stretch: 0 };
    let mut kept = 0;
    for n in 0..block.ops.len() {
        let op = block.ops[n];
        if let Some(t) = walk.movable(&op, &pass.uses)
            && let Some((def, slot)) = walk.definition(t, &op, &block.ops[..kept])
        {
            match slot {
                Slot::D => block.ops[def].d = op.d,
                Slot::E => block.ops[def].e = op.d,
            }
            walk.touch(op.d, kept as u32);
            // The flags behind the removed move are those before it.
            continue;
        }
        block.ops[kept] = op;
        if keeps_after {
            pass.flags_after[kept] = pass.flags_after[n];
        }
        kept += 1;
        walk.account(&op, kept as u32);
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

struct Retarget<'a> {
    defs: &'a mut [Definition],
    /// Last op (index plus 1) that read or wrote each register.
    touched: [u32; 16],
    /// Ops up to this one (index plus 1) lie before a label, branch, exit or insn start.
    stretch: u32,
}

impl Retarget<'_> {
    /// The temporary of a move to a register that is its only use.
    fn movable(&self, op: &Op, uses: &[u16]) -> Option<usize> {
        if op.code != Code::Mov || register_of(op.d).is_none() {
            return None;
        }
        let t = usize::from(op.a.as_temp()?);
        (uses.get(t) == Some(&1)).then_some(t)
    }

    /// The op, and which of its results, that may write the register in the move's place.
    fn definition(&self, t: usize, mov: &Op, ops: &[Op]) -> Option<(usize, Slot)> {
        let plus_1 = self.defs.get(t)?.op;
        let index = plus_1.checked_sub(1)? as usize;
        let op = ops.get(index)?;
        let (slot, w, other) = if op.d == mov.a {
            (Slot::D, op.d_width(), op.second_result())
        } else {
            (Slot::E, op.w, Some(op.d))
        };
        let free = plus_1 >= self.stretch && self.touched[register_of(mov.d)?] <= plus_1;
        let apart = other.is_none_or(|other| are_apart(other, mov.d, mov.w));
        let high_allowed = mov.d.as_high().is_none() || writes_high(op.code);
        (free && w == mov.w && apart && high_allowed).then_some((index, slot))
    }

    fn account(&mut self, op: &Op, plus_1: u32) {
        let ends_stretch = op.code.is_branch() || matches!(op.code, Code::Label | Code::InsnStart);
        if ends_stretch || op.code.exposes_state() {
            // The op's own result may still move to a register: it is written after the op could leave.
            self.stretch = plus_1;
        }
        op.for_each_source(|v, _| self.touch(v, plus_1));
        op.for_each_result(|v, _| {
            if let Some(slot) = v.as_temp().and_then(|t| self.defs.get_mut(usize::from(t))) {
                slot.op = plus_1;
            }
            self.touch(v, plus_1);
        });
    }

    fn touch(&mut self, v: Val, plus_1: u32) {
        if let Some(r) = register_of(v) {
            self.touched[r] = plus_1;
        }
    }
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
