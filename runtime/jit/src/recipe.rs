//! Flags made again instead of kept.
//!
//! Saving the flags home costs more than most instructions that make them, and mostly nobody looks. Where the operands of a producer
//! are still there wherever its flags may be looked at, hot code keeps nothing: the cold path that lets somebody look (a slow
//! memory access, an interrupt check) does the operation once more and saves the flags then. A producer whose result took
//! an operand's place is undone and done again: `add a, b` by `sub a, b; add a, b`. Operands that do not stay are put aside in the
//! frame: a plain store or two, still cheaper than the flags.

use ir::{Code, FlagMask, Op, Val, Width};

use crate::abi::{self, reg};
use crate::asm::{Alu, Asm, Mem, Rm, state};
use crate::compile::{CompileError, Emit, Src};
use crate::regs::{Ahead, Loc, slot_mem};
use crate::steps::{CF_OF, HOME_CARRY, Own, PRODUCT, Step, complete_flags};

/// What is done once more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    /// `cmp a, b`
    Compare,
    /// `test a, b`
    Test,
    /// `a += b` was done in place.
    Add,
    /// `a -= b` was done in place.
    Sub,
    /// `a = -a` was done in place.
    Neg,
    /// The result was zero by form: `xor a, a`.
    Zero,
    /// `a` was shifted in this way (a group of `shift_ri`) by this many bits.
    Shift(u8, u8),
    /// Only CF, as it is home.
    Carry,
    /// `b:a` is a product (is it signed?), which made CF and OF; the others are home.
    Product(bool),
    /// CF, put aside in `a`, is these bits of the flags' home; the others are there.
    Aside(i32),
}

impl How {
    /// Does it take more than to save the flags at once and be done?
    const fn is_dear(self) -> bool {
        matches!(self, Self::Shift(..) | Self::Product(_) | Self::Aside(_))
    }
}

/// An operand of a recipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operand {
    /// As it is.
    Val(Val),
    /// Put aside in a frame slot.
    Slot(u8),
}

/// How the flags of a producer are made again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Recipe {
    pub(crate) how: How,
    pub(crate) w: Width,
    pub(crate) a: Operand,
    pub(crate) b: Operand,
    /// What came behind and left CF alone.
    pub(crate) step: Option<Step>,
}

/// A producer's way to be done again.
#[derive(Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) how: How,
    pub(crate) w: Width,
    pub(crate) a: Val,
    pub(crate) b: Val,
}

/// What becomes of a producer's flags.
#[derive(Clone, Copy)]
pub(crate) enum Fate {
    /// The operands stay as long as the flags live: up to this op; and is a label before it?
    Stay(usize, bool),
    /// An operand changes while they live.
    Lost,
    /// They are surely looked at.
    Seen,
}

/// Where an operand is.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Reg(u8),
    Mem(Mem),
    Imm(i32),
}

/// A recipe with the places its operands have at one point of the code.
#[derive(Clone, Copy)]
pub(crate) struct Redo {
    how: How,
    w: Width,
    a: Place,
    b: Place,
    step: Option<(Step, Place)>,
    /// The flags' home.
    cc: Mem,
}

/// The flags as a branch left them, for the label that only it leads to.
#[derive(Clone, Copy)]
pub(crate) struct Inherited {
    home: bool,
    host: bool,
    /// What EFLAGS hold of the flags if not all ([`Emit::partial`]).
    part: Option<FlagMask>,
    recipe: Option<Recipe>,
}

/// Labels of hot code that one branch leads to and no other path.
#[derive(Default)]
pub(crate) struct Private {
    /// Per label: how many branches lead there; [`SHARED`] if the op before it goes on.
    branches: Vec<u8>,
    /// What each of them left.
    left: Vec<Option<Inherited>>,
    /// Guest registers to be stored there first.
    ahead: Vec<Option<Ahead>>,
    /// Temporaries that a recipe needs beyond their last mention, and up to which op.
    lent: Vec<(usize, u16)>,
}

const SHARED: u8 = u8::MAX;

impl Private {
    /// Looks at a block's labels.
    pub(crate) fn prepare(&mut self, ops: &[Op], labels: usize) {
        self.branches.clear();
        self.branches.resize(labels, 0);
        self.left.clear();
        self.left.resize(labels, None);
        self.ahead.clear();
        self.ahead.resize(labels, None);
        self.lent.clear();
        let mut ends = false;
        for op in ops {
            if op.code.is_branch() || op.code == Code::Label {
                let Some(n) = self.branches.get_mut(op.imm as usize) else { continue };
                let is_shared = op.code == Code::Label && !ends;
                *n = if is_shared {
                    SHARED
                } else {
                    n.saturating_add(u8::from(op.code != Code::Label))
                };
            }
            ends = op.code.is_end() || op.code == Code::Br;
        }
    }
    /// The branch to a private label leaves these registers to be stored there.
    pub(crate) fn leave_ahead(&mut self, label: u32, ahead: Ahead) {
        if let Some(slot) = self.ahead.get_mut(label as usize) {
            *slot = Some(ahead);
        }
    }
    /// What the branch to a label has left to be stored.
    pub(crate) fn ahead_at(&mut self, label: u32) -> Option<Ahead> {
        self.ahead.get_mut(label as usize)?.take()
    }
    /// Does one branch lead to a label and nothing else?
    pub(crate) fn is_private(&self, label: u32) -> bool {
        self.branches.get(label as usize) == Some(&1)
    }
}

/// Does writing `d` change `v`?
pub(crate) fn touches(d: Val, v: Val) -> bool {
    let gpr = |v: Val| v.as_gpr().or(v.as_high());
    d == v && !d.is_none() || (gpr(d).is_some() && gpr(d) == gpr(v))
}

/// A stretch of ops on which the flags of a producer live.
struct Life {
    /// The op that ends it.
    until: usize,
    /// Labels it goes on at.
    labels: Vec<u32>,
    /// An operand changes on the way.
    lost: bool,
    /// One changed by a step, which can be taken back.
    stepped: bool,
    /// They are looked at on a path that is not cold.
    seen: bool,
}

impl Emit<'_> {
    /// May the flags of op `n` be made again at all? Only whole sets are.
    fn is_remakable(&self, n: usize) -> bool {
        let op = &self.block.ops[n];
        let need = self.facts.after[n].0;
        self.remakes
            && need != 0
            && need & !(op.fdef.0 & op.can_define().0) == 0
            && op.flags_kept(&self.block.pool).is_empty()
    }
    /// Behind producer `n`, the current op: how its flags can be made again; `None` if they are better saved at once. Its operands are kept
    /// for that.
    pub(crate) fn make_recipe(&mut self, n: usize) -> Result<Option<Recipe>, CompileError> {
        if let Some(recipe) = self.prepared.take() {
            self.lay_aside(&recipe);
            return Ok(Some(recipe));
        }
        if !self.is_remakable(n) {
            return Ok(None);
        }
        let ways = self.ways(n);
        if let Some(recipe) = self.standing(&ways) {
            return Ok(Some(recipe));
        }
        let op = self.block.ops[n];
        let Some(&(c, _)) = ways.iter().flatten().next() else { return Ok(None) };
        let Some(a) = self.put_aside(&op, c.a, c.w)? else { return Ok(None) };
        let b = if c.b == c.a { Some(a) } else { self.put_aside(&op, c.b, c.w)? };
        Ok(b.map(|b| Recipe { how: c.how, w: c.w, a, b, step: None }))
    }
    /// Behind producer `n`, whose flags only the label of a branch may show to anyone: a recipe that costs nothing.
    pub(crate) fn free_recipe(&mut self, n: usize) -> Option<Recipe> {
        let is_wanted = self.is_remakable(n) && self.facts.hidden[n] != 0;
        let ways = if is_wanted { self.ways(n) } else { [None; 2] };
        self.standing(&ways)
    }
    /// The first of these ways whose operands stay where they are, and are kept for it.
    fn standing(&mut self, ways: &[Option<(Candidate, Fate)>; 2]) -> Option<Recipe> {
        let stays = |&(c, fate): &(Candidate, Fate)| match fate {
            Fate::Stay(until, has_labels) => Some((c, until, has_labels)),
            _ => None,
        };
        let (c, until, has_labels) = ways.iter().flatten().find_map(stays)?;
        let (a, b) = (Operand::Val(c.a), Operand::Val(c.b));
        let recipe = Recipe { how: c.how, w: c.w, a, b, step: None };
        self.lend(&c, until, has_labels).then_some(recipe)
    }
    /// The ways to make the flags of op `n` again, if they are not surely looked at, and what becomes of them.
    fn ways(&self, n: usize) -> [Option<(Candidate, Fate)>; 2] {
        candidates(&self.block.ops[n]).map(|candidate| {
            let c = candidate.filter(|c| self.can_redo(c))?;
            let fate = self.fate(&c, n);
            (!matches!(fate, Fate::Seen)).then_some((c, fate))
        })
    }
    /// Before a shift of `a` by `count` bits: puts `a` aside if its flags are better made again.
    pub(crate) fn prepare_shift(
        &mut self,
        op: &Op,
        group: u8,
        count: u8,
        a: Src,
    ) -> Result<(), CompileError> {
        let is_plain = matches!(op.code, Code::Shl | Code::Shr | Code::Sar);
        if !is_plain
            || count == 0
            || self.facts.after[self.at].1 == 0
            || !self.is_remakable(self.at)
        {
            return Ok(());
        }
        let c = Candidate { how: How::Shift(group, count), w: op.w, a: Val::NONE, b: Val::NONE };
        let Src::Reg(r @ 0..16) = a else { return Ok(()) };
        if matches!(self.fate(&c, self.at), Fate::Seen) {
            return Ok(());
        }
        let Ok(slot) = self.regs.new_slot() else { return Ok(()) };
        self.asm.store(Width::W64, slot_mem(slot), r);
        let (a, b) = (Operand::Slot(slot), Operand::Val(Val::NONE));
        self.prepared = Some(Recipe { how: c.how, w: c.w, a, b, step: None });
        Ok(())
    }
    /// Operand `v` of the current op, which is done, in a frame slot; constants stay what they are.
    fn put_aside(&mut self, op: &Op, v: Val, w: Width) -> Result<Option<Operand>, CompileError> {
        if v.is_none() || self.block.const_of(v).is_some() {
            return Ok(Some(Operand::Val(v)));
        }
        let result = self.pending.iter().flatten().find(|p| v.as_gpr() == Some(p.n) && v == op.d);
        let r = match result {
            Some(p) => p.r,
            None => match self.src(v, w)? {
                Src::Reg(r @ 0..16) => r,
                _ => return Ok(None),
            },
        };
        let Ok(slot) = self.regs.new_slot() else { return Ok(None) };
        self.asm.store(Width::W64, slot_mem(slot), r);
        Ok(Some(Operand::Slot(slot)))
    }
    /// Are its operands of a form that can be used in place?
    fn can_redo(&self, c: &Candidate) -> bool {
        let is_constant = |v: Val| self.block.const_of(v).is_some();
        let fits = |v: Val| {
            let bits = 64 - c.w.bits();
            let value = self.block.const_of(v).map(|n| (n << bits).cast_signed() >> bits);
            value.is_none_or(|n| i32::try_from(n).is_ok())
        };
        c.how == How::Zero
            || !(c.a.as_high().is_some() || c.b.as_high().is_some() || is_constant(c.a))
                && fits(c.b)
    }
    /// What becomes of the flags of op `n` if they are made again in this way.
    pub(crate) fn fate(&self, c: &Candidate, n: usize) -> Fate {
        let mut life =
            Life { until: n, labels: Vec::new(), lost: false, stepped: false, seen: false };
        let mut go_on = self.follow(c, n + 1, self.facts.after[n].0, true, &mut life);
        let mut next = 0;
        while let (Some(()), Some(&label)) = (go_on, life.labels.get(next)) {
            let is_it = |op: &Op| op.code == Code::Label && op.imm == label;
            let at = self.block.ops.iter().position(is_it).unwrap_or(n);
            life.until = life.until.max(at);
            let live = self.facts.label.get(label as usize).map_or(63, |facts| facts.0);
            go_on = self.follow(c, at + 1, live, false, &mut life);
            next += 1;
        }
        match go_on {
            None => Fate::Seen,
            // To save them at once is cheaper than to put operands aside and then do it all the same.
            Some(()) if life.seen && (life.lost || c.how.is_dear()) => Fate::Seen,
            Some(()) if life.lost => Fate::Lost,
            Some(()) => Fate::Stay(life.until, !life.labels.is_empty()),
        }
    }
    /// One straight stretch from op `from` on, with the flags `need` alive; `is_sure` if execution surely gets there.
    fn follow(
        &self,
        r: &Candidate,
        from: usize,
        mut need: u8,
        mut is_sure: bool,
        life: &mut Life,
    ) -> Option<()> {
        for (at, op) in self.block.ops.iter().enumerate().skip(from) {
            if need == 0 {
                return Some(());
            }
            life.until = life.until.max(at);
            let looked_at = match op.code {
                Code::InsnStart => continue,
                Code::Label => return Some(()),
                Code::Br => {
                    return (!is_sure || self.facts.label.get(op.imm as usize)?.0 == 0)
                        .then_some(());
                }
                Code::Jccf | Code::Brcond => {
                    let is_private = self.lists.private.is_private(op.imm);
                    if is_private && !life.labels.contains(&op.imm) {
                        life.labels.push(op.imm);
                    }
                    let saves = !is_private && self.facts.label.get(op.imm as usize)?.0 & need != 0;
                    life.seen |= saves;
                    if saves && is_sure {
                        return None;
                    }
                    is_sure = false;
                    continue;
                }
                Code::GotoTb => need & self.exit_live(op) != 0,
                Code::Ld | Code::St | Code::Ptr | Code::Span | Code::SimdEnter => false,
                Code::Native if self.is_late_trap(op) => false,
                _ => op.exposes_state() || op.is_implicit(),
            };
            life.seen |= looked_at;
            if looked_at || op.code.is_end() {
                return (!(looked_at && is_sure)).then_some(());
            }
            need &= !(op.flags_asked().minus(op.flags_kept(&self.block.pool)).0);
            // What was not asked for behind it nobody wants.
            need &= self.facts.after[at].0;
            // A register that comes to itself stays what it is.
            if op.code == Code::Mov && op.d == op.a && op.w >= r.w {
                continue;
            }
            // Of a product's flags only its own are made from it.
            let made = if matches!(r.how, How::Product(_)) { CF_OF.0 } else { !0 };
            if need & made != 0 && [op.d, op.e].iter().any(|&d| touches(d, r.a) || touches(d, r.b))
            {
                let is_step = Step::of(op).is_some_and(|step| step.can_be_undone(r.w));
                life.lost |= !is_step || life.stepped;
                life.stepped |= is_step;
            }
        }
        Some(())
    }
    /// The temporaries of `recipe` are kept up to op `until`, over a label if `has_labels`. False if they cannot be.
    fn lend(&mut self, recipe: &Candidate, until: usize, has_labels: bool) -> bool {
        for t in [recipe.a, recipe.b].into_iter().filter_map(Val::as_temp) {
            if has_labels && !matches!(self.regs.loc(t), Loc::Reg(_)) {
                return false;
            }
            self.regs.lend(t, until, has_labels);
            self.lists.private.lent.push((until, t));
        }
        true
    }
    /// Behind op `at`: temporaries kept for a recipe that are done.
    pub(crate) fn end_loans(&mut self, at: usize) {
        let regs = &mut *self.regs;
        self.lists.private.lent.retain(|&(until, t)| {
            if until <= at {
                regs.expire(t, at);
            }
            until > at
        });
    }

    /// Do the flags of op `n` have a recipe with operand `v`?
    pub(crate) fn needs_again(&self, n: usize, v: Val) -> bool {
        self.is_remakable(n) && self.ways(n).iter().flatten().any(|(c, _)| c.a == v || c.b == v)
    }
    /// Before code that destroys EFLAGS and may, in a cold path, let somebody look at the flags: what the cold path does first.
    pub(crate) fn before_look(&mut self) -> Result<Option<Redo>, CompileError> {
        if self.recipe.is_none() {
            self.bring_home()?;
        }
        self.flags_host = false;
        self.redo()
    }

    fn place(&self, operand: Operand, w: Width) -> Option<Place> {
        let v = match operand {
            Operand::Val(v) => v,
            Operand::Slot(slot) => return Some(Place::Mem(slot_mem(slot))),
        };
        if let Some(n) = v.as_gpr() {
            let held = abi::PINNED.get(usize::from(n)).copied().or_else(|| self.regs.holder(n));
            return Some(held.map_or_else(|| Place::Mem(self.gpr_home(n)), Place::Reg));
        }
        if let Some(value) = self.block.const_of(v) {
            let bits = 64 - w.bits();
            return i32::try_from((value << bits).cast_signed() >> bits).ok().map(Place::Imm);
        }
        match self.regs.loc(v.as_temp()?) {
            Loc::Reg(r) => Some(Place::Reg(r)),
            Loc::Slot(slot) => Some(Place::Mem(slot_mem(slot))),
            Loc::None => None,
        }
    }
    /// The current recipe, if the flags are nowhere else, with the places of its operands here.
    pub(crate) fn redo(&self) -> Result<Option<Redo>, CompileError> {
        let Some(r) = self.recipe.filter(|_| !self.flags_home) else { return Ok(None) };
        let lost = CompileError::Form(self.at);
        let step = match r.step {
            None => None,
            Some(step) => {
                let at = self.place(Operand::Val(step.d), step.w).ok_or(lost)?;
                Some((step, at))
            }
        };
        let (how, w) = match r.how {
            How::Zero => (How::Compare, Width::W64),
            how => (how, r.w),
        };
        let (a, b) = match r.how {
            How::Zero | How::Carry => (Place::Reg(abi::STATE), Place::Reg(abi::STATE)),
            _ => {
                let a = self.place(r.a, r.w).ok_or(lost)?;
                let is_same = r.b == Operand::Val(Val::NONE);
                (a, if is_same { a } else { self.place(r.b, r.w).ok_or(lost)? })
            }
        };
        Ok(Some(Redo { how, w, a, b, step, cc: state(self.layout.cc) }))
    }
    /// The state's copy of the flags becomes current, wherever they are now.
    pub(crate) fn bring_home(&mut self) -> Result<(), CompileError> {
        self.asked.places = true;
        if self.flags_home {
            return Ok(());
        }
        if !self.flags_host
            && let Some(redo) = self.redo()?
        {
            redo.emit(&mut self.asm);
        }
        self.save_flags()
    }
    /// In a cold path: the flags go home, while the path that is not cold goes on without.
    pub(crate) fn save_redone(&mut self, redo: &Redo) {
        redo.emit(&mut self.asm);
        let hole = self.asm.call();
        self.asm.fix_cache(hole, self.start, self.thunks.save_flags);
    }

    /// At a branch whose label no other path leads to: the label goes on with the flags where they are. False if they must be home.
    pub(crate) fn bequeath(&mut self, label: u32, host_stays: bool) -> bool {
        let host = self.flags_host && host_stays;
        let is_somewhere = self.flags_home || host || self.recipe.is_some();
        let is_heir = self.hot && self.lists.private.is_private(label) && is_somewhere;
        if is_heir {
            let part = self.part_here().filter(|_| host_stays);
            let left = Inherited { home: self.flags_home, host, part, recipe: self.recipe };
            self.lists.private.left[label as usize] = Some(left);
        }
        is_heir
    }
    /// At a label: takes over what its branch left. False if it must be taken to be home.
    pub(crate) fn inherit(&mut self, label: u32) -> bool {
        let left = self.lists.private.left.get_mut(label as usize).and_then(Option::take);
        if let Some(left) = left {
            (self.flags_home, self.flags_host, self.recipe) = (left.home, left.host, left.recipe);
            self.partial = left.part.map(|own| (self.at, own));
        }
        left.is_some()
    }
}

/// The ways to make the flags of `op` again, best first.
fn candidates(op: &Op) -> [Option<Candidate>; 2] {
    let recipe = |how, a, b| Some(Candidate { how, w: op.w, a, b });
    let test = || recipe(How::Test, op.d, op.d);
    let in_place = |how, b| if touches(op.d, b) { None } else { recipe(how, op.d, b) };
    match op.code {
        Code::Sub | Code::Xor if op.a == op.b => [recipe(How::Zero, op.a, op.b), None],
        Code::Sub if op.d.is_none() => [recipe(How::Compare, op.a, op.b), None],
        Code::Sub if touches(op.d, op.a) || touches(op.d, op.b) => [in_place(How::Sub, op.b), None],
        Code::Sub => [recipe(How::Compare, op.a, op.b), in_place(How::Sub, op.b)],
        Code::And if op.d.is_none() => [recipe(How::Test, op.a, op.b), None],
        Code::And | Code::Or | Code::Xor if !op.d.is_none() => [test(), None],
        Code::Add if !op.d.is_none() => [in_place(How::Add, op.b), in_place(How::Add, op.a)],
        Code::Neg if !op.d.is_none() => [recipe(How::Neg, op.d, Val::NONE), None],
        _ => [None, None],
    }
}

impl Redo {
    /// EFLAGS = the flags, everything else as it was.
    pub(crate) fn emit(&self, asm: &mut Asm<'_>) {
        let Some((step, at)) = self.step else { return self.emit_first(asm) };
        step.emit(asm, at, true);
        self.emit_first(asm);
        step.emit(asm, at, false);
    }
    /// The same without the step.
    fn emit_first(&self, asm: &mut Asm<'_>) {
        match (self.how, self.a, self.b) {
            (How::Shift(..), Place::Mem(m), _)
            | (How::Test, Place::Mem(m), _)
            | (How::Compare | How::Add | How::Sub, Place::Mem(m), Place::Mem(_)) => {
                // Two places in memory, or one that must not change: a register is borrowed.
                let r = if self.b.is(reg::R8) { reg::R9 } else { reg::R8 };
                asm.push_reg(r);
                asm.load(self.w, r, pushed(m));
                let b = if self.how == How::Test && same(self.a, self.b) {
                    Place::Reg(r)
                } else {
                    self.b.pushed()
                };
                Self { a: Place::Reg(r), b, ..*self }.emit_first(asm);
                asm.pop_reg(r);
            }
            (How::Compare, a, b) => alu(asm, Alu::Cmp, self.w, a, b),
            (How::Test, Place::Reg(a), Place::Reg(b)) => asm.test_rr(self.w, a, b),
            (How::Test, Place::Reg(a), Place::Mem(b)) => asm.test_mr(self.w, b, a),
            (How::Test, Place::Reg(a), Place::Imm(n)) => asm.test_ri(self.w, a, n),
            (How::Add, a, b) => {
                alu(asm, Alu::Sub, self.w, a, b);
                alu(asm, Alu::Add, self.w, a, b);
            }
            (How::Sub, a, b) => {
                alu(asm, Alu::Add, self.w, a, b);
                alu(asm, Alu::Sub, self.w, a, b);
            }
            (How::Neg, a, _) => {
                let rm = match a {
                    Place::Mem(m) => Rm::M(m),
                    Place::Reg(r) => Rm::R(r),
                    Place::Imm(_) => return,
                };
                asm.group3(3, self.w, rm);
                asm.group3(3, self.w, rm);
            }
            // On a copy: where it was, the result is.
            (How::Shift(group, count), Place::Reg(r), _) => {
                asm.shift_ri(group, self.w, Rm::R(r), count)
            }
            (How::Carry, ..) => asm.bt_mi(self.cc, HOME_CARRY),
            (How::Product(is_signed), Place::Reg(a), Place::Reg(b)) => {
                let own = Own::Halves(self.w, is_signed, a, b);
                complete_flags(asm, own, PRODUCT, self.cc);
            }
            (How::Aside(bits), Place::Mem(m), _) => {
                complete_flags(asm, Own::Aside(m), bits, self.cc);
            }
            (How::Zero | How::Product(_) | How::Aside(_), ..)
            | (How::Test | How::Shift(..), Place::Imm(_), _) => {}
        }
    }
}

impl Place {
    fn is(self, r: u8) -> bool {
        matches!(self, Self::Reg(n) if n == r)
    }
    /// The same place while a word more lies on the host's stack.
    fn pushed(self) -> Self {
        match self {
            Self::Mem(m) => Self::Mem(pushed(m)),
            place => place,
        }
    }
}

fn same(a: Place, b: Place) -> bool {
    matches!((a, b), (Place::Mem(a), Place::Mem(b)) if a.base == b.base && a.disp == b.disp)
}

pub(crate) fn pushed(m: Mem) -> Mem {
    if m.base == reg::RSP { Mem::base(m.base, m.disp + 8) } else { m }
}

fn alu(asm: &mut Asm<'_>, k: Alu, w: Width, a: Place, b: Place) {
    match (a, b) {
        (Place::Reg(a), Place::Reg(b)) => asm.alu_rr(k, w, a, b),
        (Place::Reg(a), Place::Imm(n)) => asm.alu_ri(k, w, a, n),
        (Place::Reg(a), Place::Mem(b)) => asm.alu_rm(k, w, a, b),
        (Place::Mem(a), Place::Reg(b)) => asm.alu_mr(k, w, a, b),
        (Place::Mem(a), Place::Imm(n)) => asm.alu_mi(k, w, a, n),
        (Place::Mem(_), Place::Mem(_)) | (Place::Imm(_), _) => {}
    }
}
