//! INC and DEC, which leave CF as it was, multiplications, which make CF and OF alone, and bit tests, which make CF: the flags are those
//! of two producers.
//!
//! Where nobody but a cold path looks, the two need not be brought together. For INC and DEC the cold path takes the step back, makes CF as
//! before it (or takes it from home), and makes the step again; CF and OF of a product it finds by a look at the upper half, or, like CF of a
//! bit test, in a byte that was put aside.

use ir::{Code, Cond, FlagMask, Op, Val, Width};

use crate::abi::reg;
use crate::asm::{Alu, Asm, Mem, Rm, state};
use crate::compile::Emit;
use crate::recipe::{Candidate, Fate, How, Operand, Place, Recipe, pushed, touches};
use crate::regs::slot_mem;

/// The bit of the flags' home that is CF: AH as `lahf` leaves it.
pub(crate) const HOME_CARRY: u8 = 8;
/// The bits that are CF and OF.
pub(crate) const PRODUCT: i32 = 1 << HOME_CARRY | 1;
/// What a multiplication makes.
pub(crate) const CF_OF: FlagMask = FlagMask::C.or(FlagMask::O);

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

/// Does it read some of these flags alone, and change none?
fn reads_part(op: &Op, own: FlagMask) -> bool {
    matches!(op.code, Code::Jccf | Code::Setccf | Code::Cmovf)
        && op.flags_read().minus(own).is_empty()
}

/// What tells a producer's own flags when the others are home.
#[derive(Clone, Copy)]
pub(crate) enum Own {
    /// The halves of a product of this width (signed?): do they say more than the lower one?
    Halves(Width, bool, u8, u8),
    /// A byte that is not 0.
    Aside(Mem),
}

/// Bits `bits` of the flags' home become what `own` says, and all flags go into EFLAGS.
pub(crate) fn complete_flags(asm: &mut Asm<'_>, own: Own, bits: i32, cc: Mem) {
    let (t, u) = (reg::R8, reg::R9);
    asm.push_reg(t);
    asm.push_reg(u);
    asm.load(Width::W32, t, cc);
    asm.alu_ri(Alu::And, Width::W32, t, !bits);
    match own {
        Own::Halves(w, true, low, high) => {
            asm.mov_rr(Width::W64, u, low);
            asm.shift_ri(7, w, Rm::R(u), w.bits() as u8 - 1);
            asm.alu_rr(Alu::Cmp, w, u, high);
        }
        Own::Halves(w, false, _, high) => asm.test_rr(w, high, high),
        Own::Aside(m) => asm.alu_mi(Alu::Cmp, Width::W8, pushed(pushed(m)), 0),
    }
    let none = asm.jcc8(Cond::E);
    asm.alu_ri(Alu::Or, Width::W32, t, bits);
    let here = asm.pos();
    asm.fix8(none, here);
    asm.store(Width::W32, cc, t);
    asm.mov_rr(Width::W64, u, reg::RAX);
    asm.mov_rr(Width::W32, reg::RAX, t);
    asm.alu_ri(Alu::Add, Width::W8, reg::RAX, 0x7F);
    asm.sahf();
    asm.mov_rr(Width::W64, reg::RAX, u);
    asm.pop_reg(u);
    asm.pop_reg(t);
}

impl Recipe {
    /// The flags that are home while it stands.
    fn home(&self) -> FlagMask {
        match self.how {
            _ if self.step.is_some() => FlagMask::NONE,
            How::Product(_) | How::Aside(PRODUCT) => FlagMask::ALL.minus(CF_OF),
            How::Aside(_) => FlagMask::ALL.minus(FlagMask::C),
            _ => FlagMask::NONE,
        }
    }
    /// Does one of its operands change with `d`?
    fn rests_on(&self, d: Val) -> bool {
        [self.a, self.b].iter().any(|o| matches!(*o, Operand::Val(v) if touches(d, v)))
    }
}

impl Emit<'_> {
    /// Before a producer whose flags are wanted together with some it keeps: prepares the recipe of both. False if those it keeps must be
    /// in EFLAGS first.
    pub(crate) fn prepare_kept(&mut self, op: &Op, kept: u8) -> bool {
        if !self.remakes || self.facts.after[self.at].1 == 0 || self.merges(op) {
            return false;
        }
        let found = match kept == FlagMask::C.0 {
            true => self.step(op),
            false => self.product(op, kept).or_else(|| self.aside(op, kept)),
        };
        let Some(recipe) = found else { return false };
        self.prepared = Some(recipe);
        if self.flags_host {
            return true;
        }
        let own = FlagMask::ALL.minus(FlagMask(kept));
        self.partial = Some((self.at, own));
        !self.is_read_late(own)
    }
    /// The recipe of an INC or DEC.
    fn step(&self, op: &Op) -> Option<Recipe> {
        let recipe = self.carry_before(Step::of(op)?)?;
        let stays = Candidate { how: How::Carry, w: op.w, a: op.d, b: Val::NONE };
        matches!(self.fate(&stays, self.at), Fate::Stay(..)).then_some(recipe)
    }
    /// The recipe of a product whose halves stay.
    fn product(&self, op: &Op, kept: u8) -> Option<Recipe> {
        let is_signed = op.code == Code::Muls2;
        let is_product = is_signed || op.code == Code::Mulu2;
        let is_whole = op.w != Width::W8 && op.d.as_gpr().is_some() && op.e.as_gpr().is_some();
        if !(is_product && is_whole && self.is_home(kept)) {
            return None;
        }
        let c = Candidate { how: How::Product(is_signed), w: op.w, a: op.d, b: op.e };
        let (a, b) = (Operand::Val(op.d), Operand::Val(op.e));
        let recipe = Recipe { how: c.how, w: c.w, a, b, step: None };
        matches!(self.fate(&c, self.at), Fate::Stay(..)).then_some(recipe)
    }
    /// The recipe of a product or bit test whose CF is put aside.
    fn aside(&mut self, op: &Op, kept: u8) -> Option<Recipe> {
        let bits = match op.code {
            Code::Imul | Code::Mulu2 | Code::Muls2 => PRODUCT,
            Code::Bt | Code::Bts | Code::Btr | Code::Btc => 1 << HOME_CARRY,
            _ => return None,
        };
        let c = Candidate { how: How::Aside(bits), w: op.w, a: Val::NONE, b: Val::NONE };
        if !self.is_home(kept) || !matches!(self.fate(&c, self.at), Fate::Stay(..)) {
            return None;
        }
        let slot = self.regs.new_slot().ok()?;
        let (a, b) = (Operand::Slot(slot), Operand::Val(Val::NONE));
        Some(Recipe { how: c.how, w: c.w, a, b, step: None })
    }
    /// Behind a producer: puts its CF aside if the recipe says so.
    pub(crate) fn lay_aside(&mut self, recipe: &Recipe) {
        if let (How::Aside(_), Operand::Slot(slot)) = (recipe.how, recipe.a) {
            self.asm.setcc_m(Cond::B, slot_mem(slot));
        }
    }
    /// Are all of these flags home?
    fn is_home(&self, flags: u8) -> bool {
        let home = self.recipe.map_or(FlagMask::NONE, |r| r.home());
        self.flags_home || FlagMask(flags).minus(home).is_empty()
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
    /// Does anything that is not cold read the current op's flags or those it kept, but for a reader right behind of some of its `own`?
    fn is_read_late(&self, own: FlagMask) -> bool {
        for (n, op) in self.block.ops.iter().enumerate().skip(self.at + 1) {
            let is_next = self.follows_directly(self.at, n);
            let reads = op.flags_read();
            let is_served = is_next && reads_part(op, own);
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
    /// Do EFLAGS hold what the current op reads, right behind one whose other flags are elsewhere?
    pub(crate) fn has_part(&self) -> bool {
        let op = &self.block.ops[self.at];
        let is_served = |(at, own)| self.follows_directly(at, self.at) && reads_part(op, own);
        self.partial.is_some_and(is_served)
    }
    /// What EFLAGS hold of the flags here, if not all: what a producer made that only branches come behind.
    pub(crate) fn part_here(&self) -> Option<FlagMask> {
        let (at, own) = self.partial?;
        let between = self.block.ops.get(at + 1..self.at)?;
        let stays = |op: &Op| matches!(op.code, Code::InsnStart | Code::Jccf);
        between.iter().all(stays).then_some(own)
    }
    /// Where EFLAGS hold what INC or DEC made and CF is home: CF joins them.
    pub(crate) fn complete_step(&mut self) {
        let has_carry = self.recipe.is_some_and(|r| r.how == How::Carry);
        let is_part = !self.flags_home && !self.flags_host && self.part_here().is_some();
        if has_carry && is_part {
            self.asm.bt_mi(state(self.layout.cc), HOME_CARRY);
            self.flags_host = true;
        }
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
