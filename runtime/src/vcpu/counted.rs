//! Counted runs (`-icount`): exactly so many insns, with the virtual time of each known wherever the guest can see it.
//!
//! The number of insns that may still begin lies in the state while generated code runs. Each block takes its insns off at its
//! entry, and leaves if they are too many: the rest of the run, less than a block, is for the evaluator. What leaves a block
//! early gives back what it has not done; where, the insn table tells. A helper is told by the state's `ahead` how many
//! insns of its block are not done, so that the bus knows the time of the very insn. Everything else that reaches the bus is left to the
//! evaluator (`Cpu::is_counted`). What wants the run loop right behind its insn takes the budget away: calls end
//! their blocks, so that the next entry leaves.
//!
//! One insn is one tick, also one that faults; of a repeated string insn each turn, that is what its bulk helper does and one
//! iteration. Delivering an interrupt takes no time.

use ir::exit;
use jit::Jit;
use mem::Ns;

use super::shim::{Core, FAULT_AT_PC};
use super::{Vcpu, VcpuExit};
use crate::machine::Accel;

/// Taken from a budget to make the next block leave: more than any run has.
const STOP: i32 = 1 << 30;

/// A stretch of counted time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stretch {
    /// Virtual time at its first insn.
    pub start_ns: Ns,
    /// An insn takes 2 to this power nanoseconds.
    pub shift: u8,
    /// Most insns; at most [`Stretch::MAX`].
    pub insns: u32,
}

impl Stretch {
    /// Insns of the longest stretch.
    pub const MAX: u32 = 1 << 20;
}

/// Where a counted run stands.
#[derive(Debug, Default)]
pub(super) struct Counter {
    stretch: Stretch,
    /// Insns that may still begin, outside generated code.
    left: i32,
    is_stopped: bool,
    /// Fewer insns are left than the next block has.
    is_tail: bool,
}

impl Counter {
    /// An insn outside generated code is done.
    pub(super) fn spend(&mut self, insns: i32) {
        self.left = self.left.wrapping_sub(insns);
    }
    /// Must the run loop have a look before the next block?
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }
    /// May another insn begin?
    pub(super) fn has_left(&self) -> bool {
        self.left > 0
    }
    fn used(&self) -> u32 {
        (i64::from(self.stretch.insns) - i64::from(self.left)).clamp(0, u32::MAX.into()) as u32
    }
    /// Virtual time when `ahead` insns that are taken off have not been done.
    fn now(&self, left: i32, ahead: u32) -> Ns {
        let undone = i64::from(left) + i64::from(ahead);
        let done = (i64::from(self.stretch.insns) - undone).max(0) as u64;
        self.stretch.start_ns.saturating_add(done << self.stretch.shift)
    }
}

impl Core {
    /// Before generated code.
    pub(super) fn lend_budget(&mut self) {
        self.cpu.state.budget = self.counter.left;
    }
    /// After it.
    pub(super) fn take_budget_back(&mut self) {
        let lent = self.cpu.state.budget;
        self.counter.left = if self.counter.is_stopped { lent.wrapping_add(STOP) } else { lent };
    }
    /// A helper begins: the bus learns the time.
    pub(super) fn count_call(&mut self) {
        if !self.cpu.is_counted {
            return;
        }
        let budget = self.cpu.state.budget;
        let left = if self.counter.is_stopped { budget.wrapping_add(STOP) } else { budget };
        let now = self.counter.now(left, self.cpu.state.ahead);
        self.cpu.bus.advance_to(now);
    }
    /// A helper is done: if it set something off, the next block leaves.
    pub(super) fn stop_if_asked(&mut self) {
        if self.cpu.is_counted && self.cpu.state.jump_mask == 0 && !self.counter.is_stopped {
            self.counter.is_stopped = true;
            self.cpu.state.budget = self.cpu.state.budget.wrapping_sub(STOP);
        }
    }
}

impl Vcpu {
    /// Runs a stretch of insns, unless something needs the outer loop before. Returns what, and how many insns have run.
    pub fn run_counted(&mut self, stretch: Stretch) -> (Option<VcpuExit>, u32) {
        let insns = stretch.insns.min(Stretch::MAX);
        let stretch = Stretch { insns, ..stretch };
        self.core.counter =
            Counter { stretch, left: insns as i32, is_stopped: false, is_tail: false };
        let exit = loop {
            if !self.core.counter.has_left() {
                break None;
            }
            self.core.counter.is_stopped = false;
            self.tell_time();
            if let Some(exit) = self.between_blocks() {
                break Some(exit);
            }
            if self.config.accel == Accel::Interp
                || self.core.counter.is_tail
                || self.core.cpu.has_ferr()
            {
                self.evaluate_one();
            } else {
                self.enter_generated();
            }
        };
        self.core.cpu.park_fpu();
        (exit, self.core.counter.used())
    }

    /// Tells the bus the time of the next insn.
    pub(super) fn tell_time(&mut self) {
        if !self.config.counted {
            return;
        }
        let counter = &self.core.counter;
        let now = counter.now(counter.left, 0);
        self.core.cpu.bus.advance_to(now);
    }

    /// Gives back what a block that left with `code` has not done. True if it has not begun.
    pub(super) fn settle_count(&mut self, code: u32) -> bool {
        let behind = match code {
            Jit::BUDGET | exit::FAULT | exit::EVAL_ONE => self.insns_behind(),
            FAULT_AT_PC => self.core.cpu.state.ahead.saturating_sub(1) as i32,
            code if Jit::trap_of(code).is_some() => self.insns_behind(),
            _ => return false,
        };
        // The insn itself counts, but has yet to be done or to fault.
        self.core.counter.left += behind + 1;
        self.tell_time();
        if code == Jit::BUDGET {
            self.core.cpu.state.pc = self.pc_of_site();
            self.core.counter.is_tail = !self.core.counter.is_stopped;
            return true;
        }
        self.core.counter.spend(1);
        false
    }

    /// An insn whose bytes cannot be fetched faults and counts.
    pub(super) fn count_fault(&mut self) {
        self.tell_time();
        self.core.counter.spend(1);
    }

    fn insns_behind(&self) -> i32 {
        self.site().map_or(0, |insn| i32::from(insn.behind))
    }
}
