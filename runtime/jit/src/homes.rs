//! Guest registers that have no host register of their own: they live in the state.
//!
//! An op computes their new value in a scratch register, which goes on holding it (see `regs`) and is stored before anyone can
//! look: branches, ends, calls. A guest memory access in hot code stores it on its slow path only. A register that passes
//! through once is used from the state by the instruction itself.

use ir::{Code, Op, Val, Width};

use crate::abi::{PINNED, SCRATCH};
use crate::alu::commutes;
use crate::asm::{Alu, Mem, state};
use crate::compile::{CompileError, Emit, Src};
use crate::memory::Fused;
use crate::regs::Ahead;

/// A result on its way to a guest register in the state.
#[derive(Clone, Copy)]
pub(crate) struct Pending {
    /// Guest register.
    pub(crate) n: u8,
    /// Where it is computed. A narrow result is put into the register's whole value.
    pub(crate) r: u8,
}

impl Emit<'_> {
    /// Where guest register `n` is in the state.
    pub(crate) fn gpr_home(&self, n: u8) -> Mem {
        state(self.layout.gpr + 8 * i32::from(n))
    }
    /// The place of operand `v` if it is a guest register in the state that is better used from there.
    pub(crate) fn home_of(&self, v: Val) -> Option<Mem> {
        let n = v.as_gpr().filter(|&n| usize::from(n) >= PINNED.len())?;
        self.regs.is_passing(n, self.at).then(|| self.gpr_home(n))
    }
    /// Guest register `n`, which has no host register, in a scratch register.
    pub(crate) fn state_gpr(&mut self, n: u8) -> Result<u8, CompileError> {
        if let Some(r) = self.regs.kept(n) {
            return Ok(r);
        }
        let r = self.take_temp()?;
        self.asm.load(Width::W64, r, self.gpr_home(n));
        self.regs.keep(n, r);
        Ok(r)
    }
    /// Before an op whose result is a part of a guest register in the state: all of that, before anything of the op can jump. A narrow
    /// store would do without, but hold up the next load of all of it.
    pub(crate) fn load_whole(&mut self, op: &Op) -> Result<(), CompileError> {
        let n = op.d.as_gpr().filter(|&n| usize::from(n) >= PINNED.len());
        if let Some(n) = n.filter(|_| op.d_width() < Width::W32) {
            self.state_gpr(n)?;
        }
        Ok(())
    }
    /// Where the new value of guest register `n`, which has no host register, is computed; stored behind the op.
    pub(crate) fn state_dst(&mut self, n: u8) -> Result<u8, CompileError> {
        if let Some(p) = self.pending.iter().flatten().find(|p| p.n == n) {
            return Ok(p.r);
        }
        let r = match self.regs.kept(n) {
            Some(r) => r,
            None if self.result_width(n) < Width::W32 => self.state_gpr(n)?,
            None => self.take_temp()?,
        };
        let at = usize::from(self.pending[0].is_some());
        self.pending[at] = Some(Pending { n, r });
        Ok(r)
    }
    /// How wide the current op's result for guest register `n` is.
    fn result_width(&self, n: u8) -> Width {
        let op = &self.block.ops[self.at];
        if op.d.as_gpr() == Some(n) { op.d_width() } else { op.w }
    }
    /// Behind an op: its results that were computed for guest registers in the state.
    pub(crate) fn store_results(&mut self) {
        for p in std::mem::take(&mut self.pending).into_iter().flatten() {
            self.store_gpr(p.n, self.result_width(p.n), p.r);
        }
    }
    /// Guest register `n` = register `r` (at 32 bits: zero-extended already; below: put into the whole, which `r` keeps).
    pub(crate) fn store_gpr(&mut self, n: u8, w: Width, r: u8) {
        let stays = w < Width::W32 || self.regs.keep(n, r) && self.regs.comes_again(n, self.at);
        if stays {
            self.regs.set_ahead(r);
        } else {
            self.asm.store(Width::W64, self.gpr_home(n), r);
        }
    }
    /// Does the op, or what may follow from it, look at guest registers in the state?
    pub(crate) fn looks_at_homes(&self, op: &Op) -> bool {
        match op.code {
            Code::Ld | Code::St | Code::Ptr | Code::Span => !self.hot,
            Code::Label => true,
            Code::Jccf | Code::Brcond if self.stores_behind(op) => false,
            Code::Native if self.late_traps => {
                op.is_implicit() || op.exposes_state() && !self.is_late_trap(op)
            }
            Code::Native => true,
            code => code.is_branch() || op.exposes_state(),
        }
    }
    /// Does a branch on flags stand behind op `i`? Nothing should come between what makes the flags and that.
    pub(crate) fn leads_to_branch(&self, i: usize) -> bool {
        let next = |n: usize| self.op_at(i + n);
        let branch = next(1).filter(|op| op.code != Code::InsnStart).or_else(|| next(2));
        branch.is_some_and(|op| op.code == Code::Jccf && !self.stores_behind(op))
    }
    /// Does what is ahead at branch `op` go home where its label is? Only if nothing else leads there.
    pub(crate) fn stores_behind(&self, op: &Op) -> bool {
        self.hot && self.lists.private.is_private(op.imm)
    }
    /// Brings all guest registers' places up to date.
    pub(crate) fn store_homes(&mut self) {
        self.store_ahead(self.regs.ahead());
        self.regs.settle();
    }
    /// Stores what was ahead at some point; the registers must hold it still.
    pub(crate) fn store_ahead(&mut self, ahead: Ahead) {
        for (r, n) in SCRATCH.into_iter().zip(ahead) {
            if n != u8::MAX {
                self.asm.store(Width::W64, self.gpr_home(n), r);
            }
        }
    }
    /// The op does without the register it asked for.
    pub(crate) fn cancel_pending(&mut self, n: u8) {
        if self.pending[0].is_some_and(|p| p.n == n) {
            self.pending[0] = self.pending[1].take();
        } else if self.pending[1].is_some_and(|p| p.n == n) {
            self.pending[1] = None;
        }
    }
    /// An operand that is best taken from its place in the state.
    pub(crate) fn fused_home(&self, k: Alu, op: &Op) -> Option<Fused> {
        if op.a.as_high().is_some() || op.b.as_high().is_some() || op.d.as_high().is_some() {
            return None;
        }
        let is_compare = op.d.is_none() && matches!(k, Alu::Sub | Alu::And);
        if op.a != op.b && (is_compare || commutes(k) && op.d != op.a) {
            let far = |v| self.block.const_of(v).is_some_and(|n| i32::try_from(n).is_err());
            let fits = !(is_compare && op.w == Width::W64 && far(op.b));
            if let Some(mem) = self.home_of(op.a).filter(|_| fits) {
                return Some(Fused { val: op.a, mem });
            }
        }
        let keeps_flags = op.fdef.0 & self.live_after() == 0 && op.d != op.a;
        let mem = if keeps_flags { None } else { self.home_of(op.b) };
        mem.map(|mem| Fused { val: op.b, mem })
    }
    /// `d = d k b` on a guest register in its place in the state.
    pub(crate) fn binary_home(&mut self, k: Alu, op: &Op) -> Result<bool, CompileError> {
        if op.d != op.a || op.w != Width::W64 || op.b.as_high().is_some() {
            return Ok(false);
        }
        let Some(mem) = self.home_of(op.d) else { return Ok(false) };
        let b = match self.src(op.b, op.w)? {
            Src::Imm(n) if i32::try_from(n).is_err() => Src::Reg(self.copy_of(op.b, op.w)?),
            b => b,
        };
        self.before_producer(op)?;
        match b {
            Src::Reg(b) => self.asm.alu_mr(k, op.w, mem, b),
            Src::Imm(n) => self.asm.alu_mi(k, op.w, mem, n as i32),
        }
        self.after_producer(op)?;
        Ok(true)
    }

    /// Moves what needs no widening straight to a guest register's place in the state.
    pub(crate) fn mov_home(&mut self, op: &Op, a: Src) -> bool {
        let Some(n) = op.d.as_gpr().filter(|&n| usize::from(n) >= PINNED.len()) else {
            return false;
        };
        if op.w < Width::W32 || self.regs.comes_again(n, self.at) {
            return false;
        }
        let home = self.gpr_home(n);
        match a {
            Src::Reg(r) if r < 16 && op.w != Width::W32 => self.asm.store(op.w, home, r),
            Src::Imm(v) if op.w == Width::W32 => match i32::try_from(v & 0xFFFF_FFFF) {
                Ok(v) => self.asm.store_i(Width::W64, home, v),
                Err(_) => return false,
            },
            Src::Imm(v) => match i32::try_from(v) {
                Ok(v) => self.asm.store_i(op.w, home, v),
                Err(_) => return false,
            },
            Src::Reg(_) => return false,
        }
        self.regs.forget(n);
        true
    }
}
