//! How control goes on behind an insn: the next one, a jump, or back to the run loop.

use super::boolean::B;
use super::flow::{Jump, Target};
use super::{Along, Flow, Lower, mark, row};
use crate::mode::Mode;
use crate::state::CpuState;
use ir::{Code, Cond, Op, Val, Width, exit};
use std::mem::offset_of;

/// Most branches in the middle of a block.
const MOST_SIDES: u8 = 4;
/// The same of a loop.
const MOST_SIDES_OF_LOOP: u8 = 12;
/// Most turns of a loop in a block; more than two only while there are few insns.
const MOST_TURNS: u8 = 8;
/// Insns of a loop that are few.
const FEW: u32 = 48;

impl Lower<'_> {
    pub(super) fn leave(&mut self) -> Flow {
        let is_plain = self.marks & !(mark::STORE | mark::LATE | mark::STATE) == 0
            && !self.has_attr(row::SHADOW | row::ENDS)
            && !self.place.mode.has(Mode::SHADOW);
        if is_plain && self.rep_skip.is_none() && self.work.jumps.is_empty() {
            return Flow::Next;
        }
        let is_shadow = self.marks & mark::SHADOW != 0 || self.has_attr(row::SHADOW);
        if is_shadow || self.place.mode.has(Mode::SHADOW) {
            let value = self.block.constant(u64::from(is_shadow));
            self.push_st_env(offset_of!(CpuState, shadow), Width::W32, value);
        }
        if self.marks & mark::EXIT != 0 {
            self.push_exit(exit::RESYNC, Val::NONE);
            return Flow::End;
        }
        if self.marks & mark::NEXT != 0 {
            let next = self.next();
            self.push_goto_page(1, next, false);
            return Flow::End;
        }
        let code = if self.marks & mark::HALT != 0 {
            Some(exit::HALT)
        } else if is_shadow || self.has_attr(row::ENDS) {
            Some(exit::RESYNC)
        } else {
            None
        };
        if let Some(code) = code {
            let next = self.next();
            let pc = self.push_pc(next);
            self.push_exit(code, pc);
            return Flow::End;
        }
        if self.marks & mark::LEAVE != 0 {
            self.push_leave_check();
        }
        if let Some(skip) = self.rep_skip {
            self.end_repeat(skip);
            return Flow::End;
        }
        if self.work.jumps.is_empty() { Flow::Next } else { self.jump() }
    }

    /// A segment load may have changed what the block's translation rests on.
    fn push_leave_check(&mut self) {
        let mut load = Op::new(Code::LdEnv, Width::W32);
        load.imm = offset_of!(CpuState, leave) as u32;
        load.d = self.block.temp(Width::W32);
        let leave = self.block.push(load);
        let mut op = Op::new(Code::Brcond, Width::W32);
        op.x = Cond::Ne as u8;
        op.a = leave;
        op.b = self.block.constant(0);
        op.imm = self.cold_resync();
        self.block.push(op);
    }

    /// A direct jump within the page that the block goes on behind, as execution mostly does.
    fn side(&mut self) -> Option<Flow> {
        let &[Jump { pred, target: Target::Page(off), .. }] = self.work.jumps.as_slice() else {
            return None;
        };
        let along = self.goes_on.filter(|_| !self.place.is_single_step())?;
        let next = u32::try_from(self.next()).ok()?;
        if pred == B::Const(true) {
            return self.follows(&along, off, true).map(Flow::At);
        }
        let most = if self.is_loop() { MOST_SIDES_OF_LOOP } else { MOST_SIDES };
        if self.sides >= most {
            return None;
        }
        let is_forward = off > i64::from(self.at);
        if is_forward && along.sides && (along.has_run)(next) {
            self.sides += 1;
            let label = self.cold_side(off);
            self.branch_if(pred, label, true);
            return Some(Flow::Next);
        }
        let to = self.follows(&along, off, !is_forward)?;
        self.sides += 1;
        let label = self.cold_side(next.into());
        self.branch_if(pred, label, false);
        Some(Flow::At(to))
    }

    /// Does the block go on where a jump leads? Forward if `surely` or if that has run before, and to the block's start. Not if it calls
    /// out: a device may write code, which is taken up at the next jump.
    fn follows(&mut self, along: &Along<'_>, off: i64, surely: bool) -> Option<u32> {
        let start = self.place.page_off;
        let to = u32::try_from(off).ok().filter(|to| (start..start + along.reach).contains(to))?;
        let calls_out = || self.block.ops.iter().any(|op| op.code == Code::Call);
        if !along.loops || to >= 4096 || calls_out() {
            return None;
        }
        if to > self.at {
            return (surely || (along.has_run)(to)).then_some(to);
        }
        let insns = self.insns + (self.insns - self.turn_at);
        let most = if insns <= FEW { MOST_TURNS } else { 2 };
        if to != start || self.turns + 1 >= most || insns > 2 * along.max_insns {
            return None;
        }
        self.turns += 1;
        self.turn_at = self.insns;
        Some(to)
    }

    fn jump(&mut self) -> Flow {
        if let Some(flow) = self.side() {
            return flow;
        }
        let mut taken = [None; 2];
        let mut falls_through = true;
        for n in 0..self.work.jumps.len() {
            let jump = self.work.jumps[n];
            if jump.pred == B::Const(true) {
                self.push_goto(&jump);
                falls_through = false;
                break;
            }
            let label = self.block.label();
            self.branch_if(jump.pred, label, true);
            match taken.get_mut(n) {
                Some(slot) => *slot = Some((label, jump)),
                None => self.mismatches += 1, // more jumps than a block has ends
            }
        }
        if falls_through {
            let next = self.next();
            self.push_goto_page(1, next, false);
        }
        for (label, jump) in taken.into_iter().flatten() {
            self.push_label(label);
            self.push_goto(&jump);
        }
        Flow::End
    }

    fn push_goto(&mut self, jump: &Jump) {
        match jump.target {
            Target::Page(off) => self.push_goto_page(0, off, off <= i64::from(self.at)),
            Target::Node(n) => self.push_goto_node(n, jump.found),
        }
    }
}
