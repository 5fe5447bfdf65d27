//! The machine under a debugger: what it asked for, stops, single steps.

use super::{Exit, Machine, VcpuExit};
use crate::console::Host;
use crate::gdb::{Debug, Gdb};
use crate::vcpu::Stretch;

impl Machine {
    /// What a debugger has asked for.
    pub(crate) fn debug(&self) -> &Debug {
        &self.debug
    }

    /// The same, to be changed.
    pub(crate) fn debug_mut(&mut self) -> &mut Debug {
        &mut self.debug
    }

    /// Stops where a debugger wants to.
    pub(super) fn stop_for_debugger(&mut self, why: VcpuExit) {
        self.debug.note(why);
        self.stop();
    }

    /// Runs one insn of the stopped machine. Returns what the insn hit.
    pub(crate) fn step_over(&mut self) -> Option<VcpuExit> {
        let Some(icount) = &self.icount else { return self.vcpu.step_over() };
        let shift = icount.shift();
        let start_ns = self.board.borrow().now();
        let (exit, done) = self.vcpu.step_over_counted(Stretch { start_ns, shift, insns: 1 });
        self.board.borrow_mut().advance_to(start_ns.saturating_add(u64::from(done) << shift));
        self.board.borrow_mut().run_timers();
        exit.filter(|exit| matches!(exit, VcpuExit::Shutdown | VcpuExit::Watch(_)))
    }

    /// Lets the gdb server do what was asked of it.
    pub(super) fn poll_gdb(&mut self) {
        if let Some(mut gdb) = self.user.gdb.take() {
            gdb.poll(self);
            self.user.gdb = Some(gdb);
        }
    }

    /// The run is over.
    pub(super) fn end_gdb(&mut self, exit: Exit) {
        if let Some(mut gdb) = self.user.gdb.take() {
            gdb.end(self, exit);
            self.user.gdb = Some(gdb);
        }
    }

    /// A gdb server with its host end, in place of the one there was.
    pub(crate) fn set_gdb(&mut self, new: Option<(Gdb, Host)>) {
        if let Some(mut old) = self.user.gdb.take() {
            let label = old.label().to_owned();
            old.close(self);
            self.user.hosts.retain(|host| host.line().label() != label);
        }
        if let Some((gdb, host)) = new {
            self.user.hosts.push(host);
            self.user.gdb = Some(gdb);
        }
    }
}
