//! Repeated moves and fills in one go, by the host's own repeated instructions: guest and host keep index and count in the
//! same registers.
//!
//! It is done when all elements lie in one page per operand whose TLB entries are there, and the direction is up; else nothing
//! happens, and the ops behind do the work their way.

use ir::{Cond, Op, Width};

use crate::abi::{self, TLB, reg};
use crate::asm::{Alu, Mem, state};
use crate::compile::{CompileError, Emit};
use crate::layout::SegPolicy;

/// Number of the segment that fills and moves go to.
const DESTINATION: usize = 0;
/// Bytes of a page.
const PAGE: i32 = 0x1000;

impl Emit<'_> {
    pub(crate) fn bulk(&mut self, op: &Op) -> Result<(), CompileError> {
        let source = (op.x < 6).then_some(usize::from(op.x));
        let is_flat = |n: usize| self.seg.get(n) == Some(&SegPolicy::Flat);
        if !self.hot || !is_flat(DESTINATION) || !source.is_none_or(is_flat) {
            return Ok(());
        }
        self.flags_home_if(self.live_after())?;
        self.flags_host = false;
        let log = op.y & 3;
        let mut holes = [None; 4];
        let t = self.take()?;
        let to = self.take()?;
        let from = if source.is_some() { Some(self.take()?) } else { None };
        self.asm.alu_mi(Alu::Cmp, Width::W32, state(op.imm as i32), 1);
        holes[0] = Some(self.asm.jcc(Cond::Ne));
        self.asm.alu_ri(Alu::Cmp, op.w, reg::RCX, PAGE >> log);
        holes[1] = Some(self.asm.jcc(Cond::A));
        holes[2] = Some(self.whole_run(reg::RDI, to, t, log, abi::TLB_WRITE));
        if let Some(from) = from {
            holes[3] = Some(self.whole_run(reg::RSI, from, t, log, 0));
            self.asm.alu_rr(Alu::Add, Width::W64, reg::RSI, from);
        }
        self.asm.alu_rr(Alu::Add, Width::W64, reg::RDI, to);
        self.asm.repeated(source.is_some(), Width::from_code(log));
        // At 32 bits this cuts the sum to an address again.
        self.asm.alu_rr(Alu::Sub, op.w, reg::RDI, to);
        if let Some(from) = from {
            self.asm.alu_rr(Alu::Sub, op.w, reg::RSI, from);
        }
        let here = self.asm.pos();
        for hole in holes.into_iter().flatten() {
            self.asm.fix32(hole, here);
        }
        Ok(())
    }

    /// Is the run of elements at linear address `lin` within a page that this table has? `addend` becomes the host's distance;
    /// returns the hole of the branch that is taken if not. The entry of another page differs from the address in a bit above
    /// the page's and agrees in one (an empty one's tag is made so), so the sum does not wrap.
    fn whole_run(&mut self, lin: u8, addend: u8, t: u8, log: u8, table: i32) -> usize {
        self.asm.pext_m(Width::W64, addend, lin, state(self.layout.tlb_mask));
        self.asm.load(Width::W64, t, Mem::index(TLB, addend, 3, table));
        self.asm.alu_rr(Alu::Xor, Width::W64, t, lin);
        self.asm.lea(Width::W64, t, Mem::index(t, reg::RCX, log, 0));
        self.asm.alu_ri(Alu::Cmp, Width::W64, t, PAGE);
        let hole = self.asm.jcc(Cond::A);
        let entry = Mem::index(TLB, addend, 3, table + abi::TLB_READ_ADDEND);
        self.asm.load(Width::W64, addend, entry);
        hole
    }
}
