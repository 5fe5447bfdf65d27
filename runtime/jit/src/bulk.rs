//! Repeated moves, fills and comparisons in one go, by the host's own repeated instructions: guest and host keep index and count in the
//! same registers.
//!
//! It goes from page to page as long as the TLB has the pages, all elements lie within them, the direction is up and nobody asks for the
//! run loop; what is left is for the ops behind, which do the work their way. Of a comparison that is at least the element that ends it:
//! that makes the flags.

use ir::{Cond, Op, Width};

use crate::abi::{self, TLB, reg};
use crate::asm::{Alu, Mem, Rm, state};
use crate::compile::{CompileError, Emit};
use crate::layout::SegPolicy;

/// Number of the segment that fills and moves go to.
const DESTINATION: usize = 0;
/// Bytes of a page.
const PAGE: i32 = 0x1000;
/// Numbers of instructions in their groups.
const NEG: u8 = 3;
const SHR: u8 = 5;

/// What is repeated.
#[derive(Clone, Copy)]
struct Kind {
    prefix: u8,
    /// Opcode for bytes.
    opcode: u8,
    /// When the last element compared ends it.
    ends: Option<Cond>,
    /// Turns that must have been made one by one.
    turns: i32,
}

impl Kind {
    fn of(op: &Op) -> Self {
        let has_source = op.x < 6;
        let is_until_equal = op.bulk_is_until_equal();
        if !op.bulk_compares() {
            let opcode = if has_source { 0xA4 } else { 0xAA };
            return Self { prefix: 0xF3, opcode, ends: None, turns: 0 };
        }
        Self {
            prefix: if is_until_equal { 0xF2 } else { 0xF3 },
            opcode: if has_source { 0xA6 } else { 0xAE },
            ends: Some(if is_until_equal { Cond::E } else { Cond::Ne }),
            turns: op.bulk_turns() as i32,
        }
    }
}

impl Emit<'_> {
    pub(crate) fn bulk(&mut self, op: &Op) -> Result<(), CompileError> {
        let source = (op.x < 6).then_some(usize::from(op.x));
        let is_flat = |n: usize| self.seg.get(n) == Some(&SegPolicy::Flat);
        if !self.hot || !is_flat(DESTINATION) || !source.is_none_or(is_flat) {
            return Ok(());
        }
        self.flags_home_if(self.live_after())?;
        self.flags_host = false;
        let kind = Kind::of(op);
        let log = op.y & 3;
        let mut holes = [None; 6];
        // How many elements, then how many there are left.
        let (count, left) = (self.take()?, self.take()?);
        let to = self.take()?;
        let from = if source.is_some() { Some(self.take()?) } else { None };
        self.asm.alu_mi(Alu::Cmp, Width::W32, state(op.imm as i32), 1);
        holes[0] = Some(self.asm.jcc(Cond::Ne));
        if kind.ends.is_some() {
            self.asm.alu_mi(Alu::Cmp, Width::W64, state(self.layout.turns), kind.turns);
            holes[5] = Some(self.asm.jcc(Cond::B));
        }
        let again = self.asm.pos();
        let table = if kind.ends.is_some() { 0 } else { abi::TLB_WRITE };
        holes[1] = Some(self.room(reg::RDI, to, count, log, table));
        if let Some(from) = from {
            holes[2] = Some(self.room(reg::RSI, from, left, log, 0));
            self.asm.alu_rr(Alu::Cmp, Width::W32, left, count);
            self.asm.cmov(Cond::B, Width::W32, count, left);
        }
        self.asm.mov_rr(op.w, left, reg::RCX);
        self.asm.alu_rr(Alu::Cmp, op.w, count, reg::RCX);
        self.asm.cmov(Cond::A, op.w, count, left);
        // There are none, or the next one lies in two pages.
        self.asm.test_rr(Width::W32, count, count);
        holes[3] = Some(self.asm.jcc(Cond::E));
        self.asm.mov_rr(Width::W64, reg::RCX, count);
        self.asm.alu_rr(Alu::Sub, op.w, left, count);
        if let Some(from) = from {
            self.asm.alu_rr(Alu::Add, Width::W64, reg::RSI, from);
        }
        self.asm.alu_rr(Alu::Add, Width::W64, reg::RDI, to);
        self.asm.repeated(kind.prefix, kind.opcode, Width::from_code(log));
        if let Some(ends) = kind.ends {
            let distances = [Some((reg::RDI, to)), from.map(|from| (reg::RSI, from))];
            self.take_last_back(ends, (op.w, log), left, distances);
            self.leave_here(holes);
            return Ok(());
        }
        // At 32 bits this cuts the sum to an address again.
        self.asm.alu_rr(Alu::Sub, op.w, reg::RDI, to);
        if let Some(from) = from {
            self.asm.alu_rr(Alu::Sub, op.w, reg::RSI, from);
        }
        self.asm.mov_rr(op.w, reg::RCX, left);
        self.asm.test_rr(op.w, left, left);
        holes[4] = Some(self.asm.jcc(Cond::E));
        self.asm.alu_mi(Alu::Cmp, Width::W32, state(self.layout.jump_mask), 0);
        let hole = self.asm.jcc(Cond::Ne);
        self.asm.fix32(hole, again);
        self.leave_here(holes);
        Ok(())
    }
    fn leave_here(&mut self, holes: [Option<usize>; 6]) {
        let here = self.asm.pos();
        for hole in holes.into_iter().flatten() {
            self.asm.fix32(hole, here);
        }
    }

    /// Behind a comparison: the last element is taken back, for the ops behind, which make the flags of it: what follows may fault.
    /// `registers` with the host's distances, those that there are. Where it has come to its end, by the element or by the
    /// count, the turns are counted anew.
    fn take_last_back(
        &mut self,
        ends: Cond,
        (w, log): (Width, u8),
        left: u8,
        registers: [Option<(u8, u8)>; 2],
    ) {
        let by_element = self.asm.jcc(ends);
        self.asm.test_rr(w, left, left);
        let goes_on = self.asm.jcc(Cond::Ne);
        let here = self.asm.pos();
        self.asm.fix32(by_element, here);
        self.asm.store_i(Width::W64, state(self.layout.turns), 1);
        let here = self.asm.pos();
        self.asm.fix32(goes_on, here);
        for (register, distance) in registers.into_iter().flatten() {
            self.asm.alu_rr(Alu::Sub, w, register, distance);
            self.asm.alu_ri(Alu::Sub, w, register, 1 << log);
        }
        self.asm.lea(w, reg::RCX, Mem::index(reg::RCX, left, 0, 1));
    }

    /// How many whole elements fit into the page at linear address `lin`, if this table has it: to `room`, and the host's distance to
    /// `addend`. Returns the hole of the branch that is taken if not.
    fn room(&mut self, lin: u8, addend: u8, room: u8, log: u8, table: i32) -> usize {
        self.asm.pext_m(Width::W64, addend, lin, state(self.layout.tlb_mask));
        self.asm.load(Width::W64, room, Mem::index(TLB, addend, 3, table));
        self.asm.alu_rr(Alu::Xor, Width::W64, room, lin);
        self.asm.alu_ri(Alu::Cmp, Width::W64, room, PAGE - 1);
        let hole = self.asm.jcc(Cond::A);
        let entry = Mem::index(TLB, addend, 3, table + abi::TLB_READ_ADDEND);
        self.asm.load(Width::W64, addend, entry);
        self.asm.alu_ri(Alu::Sub, Width::W32, room, PAGE);
        self.asm.group3(NEG, Width::W32, Rm::R(room));
        if log > 0 {
            self.asm.shift_ri(SHR, Width::W32, Rm::R(room), log);
        }
        hole
    }
}
