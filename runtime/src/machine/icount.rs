//! Instruction-counted time: virtual time is a count of guest instructions, so that a run depends on nothing but
//! the machine and its inputs. The board's clock holds it.

use std::time::Instant;

use mem::Ns;

use super::{Exit, Machine, host_time};
use crate::vcpu::{Stretch, VcpuExit};

/// The clock of `-icount`.
#[derive(Debug)]
pub(super) struct Icount {
    shift: u8,
    /// Virtual time at which [`Machine::run_until`] returns.
    stop: Ns,
    /// Idle time passes as fast as the host's; else at once.
    sleeps: bool,
}

impl Icount {
    pub(super) fn new(shift: u8, sleeps: bool) -> Self {
        Self { shift, stop: Ns::MAX, sleeps }
    }

    /// An instruction takes 2 to this power nanoseconds.
    pub(super) fn shift(&self) -> u8 {
        self.shift
    }
}

impl Machine {
    /// Runs until virtual time is `at`, to the instruction, or the machine ends. Without counted time: until it ends.
    pub fn run_until(&mut self, at: Ns) -> Option<Exit> {
        self.stop_at(at);
        let exit = loop {
            if self.icount.is_some() && self.board.borrow().now() >= at {
                break None;
            }
            if let Some(exit) = self.turn() {
                break Some(exit);
            }
        };
        self.stop_at(Ns::MAX);
        exit
    }

    fn stop_at(&mut self, at: Ns) {
        if let Some(icount) = &mut self.icount {
            icount.stop = at;
        }
    }

    /// Runs guest code up to the next deadline, or as long as a stretch may be.
    pub(super) fn run_counted(&mut self) -> VcpuExit {
        let Some(icount) = &self.icount else { return VcpuExit::Kick };
        let shift = icount.shift;
        let (now, deadline) = {
            let board = self.board.borrow();
            (board.now(), board.next_deadline().unwrap_or(Ns::MAX).min(icount.stop))
        };
        self.link.armed.set(deadline);
        let rest = deadline.saturating_sub(now).div_ceil(1 << shift);
        let insns = rest.clamp(1, Stretch::MAX.into()) as u32;
        let (exit, done) = self.vcpu.run_counted(Stretch { start_ns: now, shift, insns });
        self.board.borrow_mut().advance_to(now.saturating_add(u64::from(done) << shift));
        exit.unwrap_or(VcpuExit::Kick)
    }

    /// When counted time goes on while the CPU is halted: at the next deadline, if there is one.
    pub(super) fn next_idle(&self) -> Option<Ns> {
        let icount = self.icount.as_ref()?;
        let deadline = self.board.borrow().next_deadline().unwrap_or(Ns::MAX).min(icount.stop);
        (deadline != Ns::MAX).then_some(deadline)
    }

    /// The CPU is halted until `deadline`: counted time moves there, at once or as fast as the host's. An input comes before.
    pub(super) fn pass_idle(&mut self, deadline: Ns) {
        if self.icount.as_ref().is_some_and(|icount| icount.sleeps) {
            let end = host_time(deadline, self.board.borrow().now());
            self.bell.wait(Some(end));
            if Instant::now() < end {
                return;
            }
        }
        self.board.borrow_mut().advance_to(deadline);
    }
}
