//! The guest's arithmetic flags in the host's EFLAGS: liveness, and moves between EFLAGS and the state ("home").
//!
//! Between producer and consumer the flags stay in EFLAGS. Where an insn that may fault, a check or an exit follows
//! before they are overwritten, hot code can make them again there (`recipe`); else they are also saved home right after the
//! producer (`lahf; seto`), so that they are exact there.

use std::ops::Range;

use ir::{Block, Code, FlagMask, Op, Width};

use crate::abi::reg;
use crate::asm::{Alu, state};
use crate::compile::{CompileError, Emit};
use crate::control::live_at;
use crate::native::traps_late;
use crate::recipe::Private;

/// Flag facts per op.
#[derive(Default)]
pub(crate) struct FlagFacts {
    /// After each op: flags that are live (consumed or exposed later, before being overwritten), and of these the exposed ones (a
    /// fault, check or exit comes before they are overwritten).
    pub(crate) after: Vec<(u8, u8)>,
    /// After each op: flags that only a label to which one branch leads exposes.
    pub(crate) hidden: Vec<u8>,
    /// Live at each label.
    pub(crate) label: Vec<(u8, u8)>,
    /// See [`FlagFacts::keep_least`].
    least: Vec<(u8, u8)>,
    /// Native instructions that may trap do not expose flags where they are known somewhere.
    late_traps: bool,
}

/// Flags the op certainly overwrites.
fn kills(block: &Block, op: &Op) -> u8 {
    op.flags_asked().minus(op.flags_kept(&block.pool)).0
}

/// A producer that defines nothing here.
fn is_unasked(op: &Op) -> bool {
    op.fdef.is_empty() && op.code != Code::Putf
}

/// What an op is to the scan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Neutral,
    /// May define flags.
    Produces,
    /// All flags are exposed.
    Exposes,
    /// Branches, ends, and what reads flags.
    Special,
}

const KINDS: [Kind; Code::ALL.len()] = {
    let mut kinds = [Kind::Neutral; Code::ALL.len()];
    let mut n = 0;
    while n < kinds.len() {
        let code = Code::ALL[n];
        kinds[n] = match code {
            Code::GotoTb | Code::Label | Code::Native => Kind::Special,
            Code::Setccf | Code::Cmovf => Kind::Special,
            _ if code.is_branch() || !code.always_reads().is_empty() => Kind::Special,
            _ if code.exposes_state() => Kind::Exposes,
            _ if !code.can_define().is_empty() => Kind::Produces,
            _ => Kind::Neutral,
        };
        n += 1;
    }
    kinds
};

impl FlagFacts {
    /// One backward scan. `exits` are the flags live at the two direct exits.
    /// What a branch to one of the labels in `private` exposes is saved there, in cold code.
    pub(crate) fn compute(
        &mut self,
        block: &Block,
        exits: [FlagMask; 2],
        late_traps: bool,
        private: Option<&Private>,
    ) {
        self.begin(block);
        self.late_traps = late_traps;
        self.hidden.clear();
        self.hidden.resize(block.ops.len(), 0);
        let (mut live, mut exposed, mut hidden) = (63u8, 63u8, 0u8);
        for n in (0..block.ops.len()).rev() {
            let op = &block.ops[n];
            self.after[n] = (live, exposed);
            self.hidden[n] = hidden & !exposed;
            let after = (live, exposed);
            (live, exposed) = self.step(block, op, exits, after);
            match KINDS[op.code as usize] {
                Kind::Neutral | Kind::Exposes => {}
                Kind::Produces if is_unasked(op) => {}
                Kind::Produces => hidden &= !kills(block, op),
                Kind::Special => {
                    hidden &= !kills(block, op);
                    if op.code == Code::Jccf && private.is_some_and(|p| p.is_private(op.imm)) {
                        hidden |= exposed;
                        exposed = after.1;
                    }
                    if op.code.is_end() || op.code == Code::Label {
                        hidden = 0;
                    }
                }
            }
        }
    }
    /// What is live and exposed before an op, of that behind it.
    #[inline]
    fn step(
        &mut self,
        block: &Block,
        op: &Op,
        exits: [FlagMask; 2],
        (live, exposed): (u8, u8),
    ) -> (u8, u8) {
        match KINDS[op.code as usize] {
            Kind::Neutral => (live, exposed),
            Kind::Exposes => (63, 63),
            Kind::Produces if is_unasked(op) => (live, exposed),
            Kind::Produces => {
                let k = kills(block, op);
                (live & !k, exposed & !k)
            }
            Kind::Special => self.before(block, op, exits, (live, exposed)),
        }
    }
    /// Before the block or its parts are scanned.
    pub(crate) fn begin(&mut self, block: &Block) {
        self.late_traps = false;
        if self.after.len() < block.ops.len() {
            self.after.resize(block.ops.len(), (63, 63));
        }
        self.label.clear();
        self.label.resize(block.labels as usize, (63, 63));
    }
    /// The same for some of the block's ops, behind which (live, exposed) flags are known, in compact code: what is live and exposed
    /// before them. The ops behind must have been scanned before, if these branch there.
    pub(crate) fn scan(
        &mut self,
        block: &Block,
        ops: Range<usize>,
        (mut live, mut exposed): (u8, u8),
    ) -> (u8, u8) {
        for n in ops.rev() {
            let op = &block.ops[n];
            self.after[n] = (live, exposed);
            (live, exposed) = self.step(block, op, [FlagMask::ALL; 2], (live, exposed));
        }
        (live, exposed)
    }
    /// Keeps what the last scan found, up to op `end`, for [`FlagFacts::differs`].
    pub(crate) fn keep_least(&mut self, end: usize) {
        self.least.clear();
        self.least.extend_from_slice(&self.after[..end]);
    }
    /// Did the scan since then find something else behind op `n`?
    pub(crate) fn differs(&self, n: usize) -> bool {
        self.least.get(n) != self.after.get(n)
    }
    /// What is live and exposed before a special op.
    fn before(
        &mut self,
        block: &Block,
        op: &Op,
        exits: [FlagMask; 2],
        (live, exposed): (u8, u8),
    ) -> (u8, u8) {
        match op.code {
            Code::GotoTb => {
                // A backward exit looks for interrupts.
                let live = if op.y == 0 { live_at(&exits, op) } else { 63 };
                (live, live)
            }
            Code::Label => {
                if let Some(l) = self.label.get_mut(op.imm as usize) {
                    *l = (live, exposed);
                }
                (live, exposed)
            }
            Code::Br => self.at_label(op.imm),
            Code::Brcond | Code::Jccf => {
                let (l, e) = self.at_label(op.imm);
                (live | l | op.flags_read().0, exposed | e)
            }
            Code::Native if op.exposes_state() => {
                let is_late = self.late_traps && traps_late(block, op);
                (63, if is_late { exposed & !kills(block, op) } else { 63 })
            }
            _ => {
                let k = kills(block, op);
                (live & !k | op.flags_read().0, exposed & !k)
            }
        }
    }
    fn at_label(&self, label: u32) -> (u8, u8) {
        self.label.get(label as usize).copied().unwrap_or((63, 63))
    }
}

impl Emit<'_> {
    /// Saves EFLAGS home, leaving EFLAGS and all registers as they are.
    pub(crate) fn save_flags(&mut self) -> Result<(), CompileError> {
        self.flags_home = true;
        if !self.hot {
            let hole = self.asm.call();
            self.asm.fix_cache(hole, self.start, self.thunks.save_flags);
            return Ok(());
        }
        let t = self.take()?;
        self.asm.mov_rr(Width::W64, t, reg::RAX);
        self.asm.lahf();
        self.asm.setcc(ir::Cond::O, reg::RAX);
        self.asm.store(Width::W32, state(self.layout.cc), reg::RAX);
        self.asm.mov_rr(Width::W64, reg::RAX, t);
        self.regs.release(t);
        Ok(())
    }
    /// Loads EFLAGS from home.
    pub(crate) fn restore_flags(&mut self) -> Result<(), CompileError> {
        self.flags_host = true;
        if !self.hot {
            let hole = self.asm.call();
            self.asm.fix_cache(hole, self.start, self.thunks.restore_flags);
            return Ok(());
        }
        let t = self.take()?;
        self.asm.mov_rr(Width::W64, t, reg::RAX);
        self.asm.load(Width::W32, reg::RAX, state(self.layout.cc));
        self.asm.alu_ri(Alu::Add, Width::W8, reg::RAX, 0x7F);
        self.asm.sahf();
        self.asm.mov_rr(Width::W64, reg::RAX, t);
        self.regs.release(t);
        Ok(())
    }
    /// Flags live after the current op.
    pub(crate) fn live_after(&self) -> u8 {
        self.asked.note(self.at);
        self.facts.after[self.at].0
    }
    /// Before host code that destroys EFLAGS: makes sure live flags are home.
    pub(crate) fn clobber(&mut self) -> Result<(), CompileError> {
        self.asked.places = true;
        let is_only = self.flags_host && !self.flags_home && self.recipe.is_none();
        if is_only && self.flags_wanted() {
            self.save_flags()?;
        }
        self.flags_host = false;
        Ok(())
    }
    /// Does the current op or anything later want the flags as they are before the op?
    fn flags_wanted(&self) -> bool {
        let op = &self.block.ops[self.at];
        self.live_after() != 0 || !op.flags_read().is_empty()
    }
    /// Before a consumer: EFLAGS hold the flags it reads.
    pub(crate) fn need_flags(&mut self) -> Result<(), CompileError> {
        self.need_flags_and(0)
    }
    /// The same, and the flags of `kept`.
    fn need_flags_and(&mut self, kept: u8) -> Result<(), CompileError> {
        self.asked.places = true;
        if self.flags_host || self.has_part() || self.takes_carry(kept) {
            return Ok(());
        }
        match self.redo()? {
            Some(redo) => redo.emit(&mut self.asm),
            None => return self.restore_flags(),
        }
        self.flags_host = true;
        Ok(())
    }
    /// The flags of this producer that anyone wants.
    fn wanted_of(&self, op: &Op) -> u8 {
        op.fdef.0 & self.live_after()
    }
    /// Before a producer: loads the flags it keeps or reads, if anyone wants them.
    pub(crate) fn before_producer(&mut self, op: &Op) -> Result<(), CompileError> {
        self.asked.places = true;
        let kept = self.live_after() & !kills(self.block, op);
        let keeps = self.wanted_of(op) != 0 && kept != 0;
        let is_prepared = keeps && self.prepare_kept(op, kept);
        if (!op.flags_read().is_empty() || keeps) && !is_prepared {
            self.need_flags_and(if keeps { kept } else { 0 })?;
            self.partial = None;
        }
        if self.wanted_of(op) == 0 && !self.keeps_live(op) {
            self.clobber()?;
        }
        if self.merges(op) {
            self.bring_home()?;
        }
        Ok(())
    }
    /// Does the host op leave all live flags as they are, with EFLAGS holding them?
    fn keeps_live(&self, op: &Op) -> bool {
        self.flags_host && self.live_after() & op.can_define().0 == 0
    }
    /// Must flags that the host op overwrites but the op does not define be kept?
    pub(crate) fn merges(&self, op: &Op) -> bool {
        self.wanted_of(op) != 0 && self.live_after() & op.can_define().0 & !op.fdef.0 != 0
    }
    /// After a producer of some flags only: puts these into the state's copy.
    fn merge_flags(&mut self, op: &Op) -> Result<(), CompileError> {
        let mask = op.fdef.eflags() & 0xD5;
        let mask = (mask << 8 | u32::from(op.fdef.meets(FlagMask::O))) as i32;
        let home = state(self.layout.cc);
        let (t, u) = (self.take()?, self.take()?);
        self.asm.mov_rr(Width::W64, t, reg::RAX);
        self.asm.lahf();
        self.asm.setcc(ir::Cond::O, reg::RAX);
        self.asm.alu_ri(Alu::And, Width::W32, reg::RAX, mask);
        self.asm.load(Width::W32, u, home);
        self.asm.alu_ri(Alu::And, Width::W32, u, !mask);
        self.asm.alu_rr(Alu::Or, Width::W32, u, reg::RAX);
        self.asm.store(Width::W32, home, u);
        self.asm.mov_rr(Width::W64, reg::RAX, t);
        self.regs.release(t);
        self.regs.release(u);
        self.flags_home = true;
        self.flags_host = false;
        Ok(())
    }
    /// After a producer: EFLAGS are the flags; saves them where they are exposed.
    pub(crate) fn after_producer(&mut self, op: &Op) -> Result<(), CompileError> {
        self.asked.places = true;
        if self.wanted_of(op) == 0 {
            self.flags_host = self.keeps_live(op) && self.live_after() != 0;
            return Ok(());
        }
        self.recipe = None;
        if self.merges(op) {
            return self.merge_flags(op);
        }
        self.flags_host = self.partial.is_none_or(|(at, _)| at != self.at);
        self.flags_home = false;
        self.asked.note(self.at);
        if self.facts.after[self.at].1 == 0 {
            self.recipe = self.free_recipe(self.at);
            return Ok(());
        }
        self.recipe = self.make_recipe(self.at)?;
        if self.recipe.is_none() { self.save_flags() } else { Ok(()) }
    }
}
