//! INC and DEC, which leave CF as it was: the flags are those of two producers.
//!
//! Where nobody but a cold path looks, CF need not be brought together with the rest: the cold path takes the step back, makes CF as
//! before it (or takes it from home), and makes the step again.

use ir::{Code, FlagMask, Op, Val, Width};

use crate::asm::{Asm, Rm, state};
use crate::compile::Emit;
use crate::recipe::{Candidate, Fate, How, Operand, Place, Recipe, touches};

/// The bit of the flags' home that is CF: AH as `lahf` leaves it.
pub(crate) const HOME_CARRY: u8 = 8;

/// A guest register that went one up or down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    /// The register.
    pub(crate) d: Val,
    pub(crate) w: Width,
    down: bool,
}

impl Step {
    /// What an op does, if it is a step in place.
    pub(crate) fn of(op: &Op) -> Option<Self> {
        let is_step = matches!(op.code, Code::Inc | Code::Dec);
        let is_in_place = op.d == op.a && op.d.as_gpr().is_some();
        let down = op.code == Code::Dec;
        (is_step && is_in_place).then_some(Self { d: op.d, w: op.w, down })
    }
    /// Does taking it back bring the register back as an operand of width `w`?
    pub(crate) fn can_be_undone(&self, w: Width) -> bool {
        self.w != Width::W32 || w <= Width::W32
    }
    /// Makes the step, or takes it back.
    pub(crate) fn emit(&self, asm: &mut Asm<'_>, at: Place, back: bool) {
        let rm = match at {
            Place::Reg(r) => Rm::R(r),
            Place::Mem(m) => Rm::M(m),
            Place::Imm(_) => return,
        };
        asm.incdec(u8::from(self.down != back), self.w, rm);
    }
}

impl Recipe {
    /// Does one of its operands change with `d`?
    fn rests_on(&self, d: Val) -> bool {
        [self.a, self.b].iter().any(|o| matches!(*o, Operand::Val(v) if touches(d, v)))
    }
}

impl Emit<'_> {
    /// Before an INC or DEC whose flags are wanted together with the CF it keeps: prepares the recipe of both. False if CF must be in
    /// EFLAGS first.
    pub(crate) fn prepare_step(&mut self, op: &Op) -> bool {
        let exposed = self.facts.after[self.at].1;
        let Some(step) = Step::of(op).filter(|_| self.remakes && exposed != 0) else {
            return false;
        };
        let Some(recipe) = self.carry_before(step) else { return false };
        let c = Candidate { how: How::Carry, w: op.w, a: op.d, b: Val::NONE };
        if !matches!(self.fate(&c, self.at), Fate::Stay(..)) {
            return false;
        }
        self.prepared = Some(recipe);
        if self.flags_host {
            return true;
        }
        self.partial = Some(self.at);
        !self.is_read_late()
    }
    /// How CF is made before a step, with the step behind it.
    fn carry_before(&self, step: Step) -> Option<Recipe> {
        let none = Operand::Val(Val::NONE);
        let step = Some(step);
        if self.flags_home {
            return Some(Recipe { how: How::Carry, w: Width::W32, a: none, b: none, step });
        }
        let recipe = self.recipe?;
        let new = step.map_or(Val::NONE, |s| s.d);
        if let Some(old) = recipe.step
            && (recipe.rests_on(old.d) || old.d != new && recipe.rests_on(new))
        {
            return None;
        }
        if recipe.rests_on(new) && !step.is_some_and(|s| s.can_be_undone(recipe.w)) {
            return None;
        }
        Some(Recipe { step, ..recipe })
    }
    /// Does anything that is not cold read the current step's flags or the CF it kept, but for a reader right behind that does without CF?
    fn is_read_late(&self) -> bool {
        for (n, op) in self.block.ops.iter().enumerate().skip(self.at + 1) {
            let is_next = self.follows_directly(self.at, n);
            let reads = op.flags_read();
            let is_served = is_next && self.reads_part(op);
            if !(reads.is_empty() || is_served) {
                return true;
            }
            if op.code.is_end() || self.facts.after[n].0 == 0 {
                return false;
            }
        }
        false
    }
    /// Is op `n` the next after op `before`?
    fn follows_directly(&self, before: usize, n: usize) -> bool {
        let between = self.block.ops.get(before + 1..n).unwrap_or_default();
        n > before && between.iter().all(|op| op.code == Code::InsnStart)
    }
    /// Does it read flags but for CF, and change none?
    fn reads_part(&self, op: &Op) -> bool {
        matches!(op.code, Code::Jccf | Code::Setccf | Code::Cmovf)
            && !op.flags_read().meets(FlagMask::C)
    }
    /// Do EFLAGS hold what the current op reads, right behind a step whose CF is elsewhere?
    pub(crate) fn has_part(&self) -> bool {
        let op = &self.block.ops[self.at];
        self.partial.is_some_and(|at| self.follows_directly(at, self.at)) && self.reads_part(op)
    }
    /// Brings CF alone from home into EFLAGS, if the current op asks for no more, now or behind it.
    pub(crate) fn takes_carry(&mut self, kept: u8) -> bool {
        let wants = self.block.ops[self.at].flags_read().0 | kept;
        let is_carry = wants & !FlagMask::C.0 == 0;
        if is_carry && self.flags_home && !self.flags_host {
            self.asm.bt_mi(state(self.layout.cc), HOME_CARRY);
            return true;
        }
        false
    }
}
