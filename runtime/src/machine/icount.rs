//! Instruction-counted time: virtual time is a count of guest instructions, so that a run depends on nothing but
//! the machine and its inputs.

use super::Machine;
use crate::vcpu::VcpuExit;

/// The clock of `-icount`.
#[derive(Debug)]
pub(super) struct Icount {
    shift: u8,
    /// Virtual time in ns.
    now: u64,
}

impl Icount {
    pub(super) fn new(shift: u8) -> Self {
        Self { shift, now: 0 }
    }

    /// Virtual time is 2^shift ns per instruction.
    pub(super) fn shift(&self) -> u8 {
        self.shift
    }

    /// Virtual time in ns.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Sets virtual time: for loading a saved machine.
    pub(super) fn set_now(&mut self, now: u64) {
        self.now = now;
    }
}

/// Inputs are looked at after this many instructions.
const SLICE: u32 = 4096;

impl Machine {
    /// Runs a slice of guest code one instruction at a time, or up to the next deadline.
    pub(super) fn run_counted(&mut self) -> VcpuExit {
        let Some(icount) = &mut self.icount else { return VcpuExit::Kick };
        let deadline = self.board.borrow().next_deadline().unwrap_or(u64::MAX);
        self.link.armed.set(deadline);
        for _ in 0..SLICE {
            if let Some(exit) = self.vcpu.step() {
                return exit;
            }
            icount.now = icount.now.saturating_add(1 << icount.shift);
            self.board.borrow_mut().advance_to(icount.now);
            if icount.now >= deadline {
                break;
            }
        }
        VcpuExit::Kick
    }

    /// The CPU is halted: time moves to the next deadline. False if there is none.
    pub(super) fn skip_to_deadline(&mut self) -> bool {
        let Some(icount) = &mut self.icount else { return false };
        let mut board = self.board.borrow_mut();
        let Some(deadline) = board.next_deadline() else { return false };
        icount.now = icount.now.max(deadline);
        board.advance_to(icount.now);
        true
    }
}
