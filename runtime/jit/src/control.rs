//! Branches, exits, calls and raises.

use ir::{Code, Cond, FlagMask, Op, Val, Width, exit};

use crate::abi;
use crate::asm::{Alu, Mem, Rm, state};
use crate::compile::{CompileError, Emit, Exit, Hole, Src};
use crate::recipe::Redo;
use crate::thunks::{Wish, look_up};

/// The way out of a look that missed.
pub(crate) struct Lost {
    hole: usize,
    back: usize,
    target: u8,
    d: u8,
    what: u32,
    /// Page offset of its insn, and how many come behind.
    insn: (u16, u16),
}

/// Cold code to be emitted for the interrupt check of a backward exit.
pub(crate) struct PollSite {
    hole: usize,
    /// The flags, if they are not home.
    flags: Option<Redo>,
    /// Which of the block's exits.
    exit: usize,
    /// Page offset of its insn, and how many come behind.
    insn: (u16, u16),
}

/// Flags live where direct exit `op` leads.
pub(crate) fn live_at(exits: &[FlagMask; 2], op: &Op) -> u8 {
    exits.get(usize::from(op.x)).map_or(FlagMask::ALL.0, |live| live.0)
}

impl Emit<'_> {
    /// Branches within a block go forward only: lifetimes and flag facts are those of one pass.
    pub(crate) fn branch(&mut self, op: &Op) -> Result<(), CompileError> {
        if self.lists.labels[op.imm as usize] != usize::MAX {
            return Err(CompileError::Form(self.at));
        }
        match op.code {
            Code::Label => {
                if !self.inherit(op.imm) {
                    self.flags_home_if(self.facts.label[op.imm as usize].0)?;
                    self.flags_host = false;
                    self.flags_home = true;
                    self.recipe = None;
                }
                let here = self.asm.pos();
                self.lists.labels[op.imm as usize] = here;
                if let Some(ahead) = self.lists.private.ahead_at(op.imm) {
                    self.store_ahead(ahead);
                }
                self.simd = 0;
                self.regs.forget_all();
                return Ok(());
            }
            Code::Jccf => {
                self.need_flags()?;
                if !self.bequeath(op.imm, true) {
                    self.flags_home_if(self.facts.label[op.imm as usize].0)?;
                }
                self.leave_ahead(op);
                let short = self.is_short(op.imm);
                let at = if short { self.asm.jcc8(op.cond()) } else { self.asm.jcc(op.cond()) };
                self.lists.holes.push(Hole { at, label: op.imm, short });
                return Ok(());
            }
            _ => {}
        }
        let mut short = false;
        let at = if op.code == Code::Br {
            self.flags_home_if(self.facts.label[op.imm as usize].0)?;
            self.asm.jmp()
        } else {
            self.clobber()?;
            if !self.bequeath(op.imm, false) {
                self.flags_home_if(self.facts.label[op.imm as usize].0)?;
            }
            self.compare(op.w, op.a, op.b)?;
            self.leave_ahead(op);
            short = self.is_short(op.imm);
            if short { self.asm.jcc8(op.cond()) } else { self.asm.jcc(op.cond()) }
        };
        self.lists.holes.push(Hole { at, label: op.imm, short });
        Ok(())
    }
    /// At a branch: what is ahead is stored where it leads.
    fn leave_ahead(&mut self, op: &Op) {
        if self.regs.is_any_ahead() && self.stores_behind(op) {
            self.lists.private.leave_ahead(op.imm, self.regs.ahead());
        }
    }
    /// Does a branch here only jump over one direct exit, so that a one-byte distance surely reaches?
    fn is_short(&self, label: u32) -> bool {
        let next = |n: usize| self.op_at(self.at + n);
        next(1).is_some_and(|op| op.code == Code::GotoTb)
            && next(2).is_some_and(|op| op.code == Code::Label && op.imm == label)
    }
    /// Makes the state's copy of the flags current if any of `live` matters.
    pub(crate) fn flags_home_if(&mut self, live: u8) -> Result<(), CompileError> {
        let is_somewhere = self.flags_host || self.recipe.is_some();
        if live != 0 && is_somewhere { self.bring_home() } else { Ok(()) }
    }

    pub(crate) fn control(&mut self, op: &Op) -> Result<(), CompileError> {
        if op.code != Code::GotoTb {
            self.flags_home_if(63)?;
        }
        match op.code {
            Code::GotoTb => self.goto_tb(op)?,
            Code::Look => self.look(op)?,
            Code::GotoPtr => self.goto_ptr(op)?,
            Code::ExitTb => self.exit_tb(op)?,
            Code::Raise => self.raise(op)?,
            _ => self.call(op)?,
        }
        self.flags_host = false;
        Ok(())
    }

    fn goto_tb(&mut self, op: &Op) -> Result<(), CompileError> {
        let live = self.exit_live(op);
        if live != 0 {
            self.complete_step();
        }
        self.flags_home_if(live)?;
        if op.y == 1 && self.hot {
            let flags = self.before_look()?;
            self.asm.alu_mi(Alu::Cmp, Width::W32, state(self.layout.jump_mask), 0);
            let hole = self.asm.jcc(Cond::E);
            let insn = (self.page_offset, self.behind);
            self.lists.polls.push(PollSite { hole, flags, exit: self.out.exits.len(), insn });
        }
        self.exit_site(op.x, op.imm, op.y == 1);
        Ok(())
    }
    /// The five bytes of a direct exit.
    pub(crate) fn exit_site(&mut self, slot: u8, page_offset: u32, backward: bool) {
        let site = self.here();
        let hole = self.asm.call();
        self.asm.fix_cache(hole, self.start, self.thunks.exit_link);
        self.out.exits.push(Exit { site, poll: 0, page_offset, slot, backward });
    }
    /// The cold code of interrupt checks.
    pub(crate) fn poll_exits(&mut self) {
        let mut polls = std::mem::take(&mut self.lists.polls);
        for poll in polls.drain(..) {
            self.mark(poll.insn.0, poll.insn.1);
            let here = self.asm.pos();
            self.asm.fix32(poll.hole, here);
            if let Some(flags) = &poll.flags {
                self.save_redone(flags);
            }
            let hole = self.asm.call();
            self.asm.fix_cache(hole, self.start, self.thunks.exit_poll_direct);
            let behind = self.here();
            if let Some(exit) = self.out.exits.get_mut(poll.exit) {
                exit.poll = behind;
            }
        }
        self.lists.polls = polls;
    }
    /// Flags the direct exit of `op` must leave home.
    pub(crate) fn exit_live(&self, op: &Op) -> u8 {
        live_at(&self.exit_flags, op)
    }
    /// Cache offset of the cursor.
    fn here(&self) -> u32 {
        (self.start + self.asm.pos()) as u32
    }

    /// A jump's target is looked up before the insn commits, so that it can still fault if it is none; a miss finds the way out.
    fn look(&mut self, op: &Op) -> Result<(), CompileError> {
        let target = self.src_reg(op.a, Width::W64)?;
        if !self.hot {
            self.asm.store(Width::W64, state(self.layout.scratch), target);
            let hole = self.asm.call();
            self.want(Wish::Target(op.imm), self.start + hole);
            return Ok(());
        }
        let table = self.take()?;
        let d = self.dst(op.d)?;
        let hole = look_up(&mut self.asm, self.layout, target, d, table);
        self.asm.load(Width::W64, d, Mem::index(table, d, abi::JUMP_SCALE, abi::JUMP_HOST));
        let (back, insn) = (self.asm.pos(), (self.page_offset, self.behind));
        self.lists.lost.push(Lost { hole, back, target, d, what: op.imm, insn });
        Ok(())
    }
    /// What follows looks that missed.
    pub(crate) fn lost_looks(&mut self) {
        let lost = std::mem::take(&mut self.lists.lost);
        for &Lost { hole, back, target, d, what, insn } in &lost {
            self.mark(insn.0, insn.1);
            let here = self.asm.pos();
            self.asm.fix32(hole, here);
            self.asm.store(Width::W64, state(self.layout.scratch), target);
            let hole = self.asm.call();
            self.want(Wish::Target(what), self.start + hole);
            let hole = self.asm.lea_rip(d);
            self.asm.fix_cache(hole, self.start, self.thunks.second_look);
            self.asm.jmp_back(back);
        }
        self.lists.lost = lost;
        self.lists.lost.clear();
    }

    fn goto_ptr(&mut self, op: &Op) -> Result<(), CompileError> {
        if self.hot && !op.b.is_none() {
            let mut found = self.src_reg(op.b, Width::W64)?;
            let target = self.src(op.a, op.w)?;
            if found == abi::PC && target != Src::Reg(abi::PC) {
                found = self.take()?;
                self.asm.mov_rr(Width::W64, found, abi::PC);
            }
            self.move_to(abi::PC, target, op.w);
            self.asm.jmp_r(found);
            return Ok(());
        }
        let target = self.src(op.a, op.w)?;
        self.move_to(abi::PC, target, op.w);
        match op.w {
            Width::W8 | Width::W16 => self.asm.movzx(op.w, abi::PC, Rm::R(abi::PC)),
            Width::W32 if target == Src::Reg(abi::PC) => {
                self.asm.mov_rr(Width::W32, abi::PC, abi::PC);
            }
            Width::W32 | Width::W64 => {}
        }
        if self.hot {
            self.thunks.jump_table(&mut self.asm, self.layout, self.start);
        } else {
            let hole = self.asm.jmp();
            self.asm.fix_cache(hole, self.start, self.thunks.goto_ptr);
        }
        Ok(())
    }

    fn exit_tb(&mut self, op: &Op) -> Result<(), CompileError> {
        if !op.a.is_none() {
            let pc = self.src(op.a, op.w)?;
            let t = self.take()?;
            self.move_to(t, pc, op.w);
            self.asm.store(Width::W64, state(self.layout.pc), t);
        }
        if op.imm == exit::RESYNC {
            let hole = self.asm.jmp();
            self.asm.fix_cache(hole, self.start, self.thunks.resync);
            return Ok(());
        }
        self.asm.mov_ri(Width::W32, abi::PC, u64::from(op.imm));
        let hole = self.asm.jmp();
        self.asm.fix_cache(hole, self.start, self.thunks.exit_tb);
        Ok(())
    }

    fn raise(&mut self, op: &Op) -> Result<(), CompileError> {
        self.mark(self.page_offset, self.behind);
        let (fault, code) = (self.layout.fault, self.layout.fault_code);
        let known = self.block.const_of(op.a);
        if known == Some(0) && code == fault + 4 {
            // Mostly the code is 0: one store does for both, a vector being positive.
            self.asm.store_i(Width::W64, state(fault), op.imm as i32);
        } else {
            self.asm.store_i(Width::W32, state(fault), op.imm as i32);
            if !op.a.is_none() {
                let value = self.src_reg(op.a, Width::W32)?;
                self.asm.store(Width::W32, state(code), value);
            }
        }
        let hole = self.asm.call();
        self.asm.fix_cache(hole, self.start, self.thunks.exit_raise);
        Ok(())
    }

    fn call(&mut self, op: &Op) -> Result<(), CompileError> {
        self.flags_host = false;
        for (i, v) in [op.a, op.b, op.c, op.e].into_iter().enumerate() {
            if v.is_none() {
                continue;
            }
            let slot = state(self.layout.args + 8 * i as i32);
            match self.block.const_of(v) {
                Some(n) if n <= i32::MAX as u64 => self.asm.store_i(Width::W64, slot, n as i32),
                _ => {
                    let r = self.argument(v)?;
                    self.asm.store(Width::W64, slot, r);
                }
            }
        }
        if self.counted {
            let ahead = state(self.layout.ahead);
            self.asm.store_i(Width::W32, ahead, i32::from(self.behind) + 1);
        }
        let hole = self.asm.call();
        self.want(Wish::Helper(op.imm), self.start + hole);
        self.simd = 0;
        self.regs.forget_all();
        if op.d.is_none() {
            return Ok(());
        }
        let result = state(self.layout.args);
        if op.w < Width::W32 && op.d.as_temp().is_none() {
            let t = self.take()?;
            self.asm.load(Width::W32, t, result);
            return self.write_back(op.d, op.w, t);
        }
        let d = self.dst(op.d)?;
        self.asm.load(op.w.max(Width::W32), d, result);
        Ok(())
    }
    /// An argument as a 64-bit register: what is narrower is zero-extended.
    fn argument(&mut self, v: Val) -> Result<u8, CompileError> {
        let width = v.as_temp().map_or(Width::W64, |t| self.block.temps[usize::from(t)]);
        match self.src(v, Width::W64)? {
            Src::Reg(r) if width < Width::W32 => {
                let t = self.take()?;
                self.asm.movzx(width, t, Rm::R(r));
                Ok(t)
            }
            Src::Reg(r) if r < 16 => Ok(r),
            other => {
                let t = self.take()?;
                self.move_to(t, other, Width::W64);
                Ok(t)
            }
        }
    }
}
