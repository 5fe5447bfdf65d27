//! What a debugger outside the guest does to a vCPU: stops at instructions, watched memory, single steps.
//!
//! While there are stops, blocks end before every page offset that one has, in whatever page, and what begins there is
//! never jumped to by generated code: the run loop comes by and looks. Everything else runs as always, but for flags that are
//! kept at all exits. Without stops nothing of this costs anything.

use x86::watch::Watch;

use super::counted::Stretch;
use super::{Vcpu, VcpuExit};

/// Linear addresses of instructions before which the vCPU stops, in order; not empty.
pub(super) struct Stops(Vec<u64>);

impl Vcpu {
    /// Stops before the instructions at these linear addresses, and at no others.
    pub fn set_stops(&mut self, at: &[u64]) {
        let mut at = at.to_vec();
        at.sort_unstable();
        at.dedup();
        if self.stops.as_ref().map_or(&[][..], |stops| &stops.0) == at {
            return;
        }
        let offsets = at.iter().map(|at| (at & 0xFFF) as u32);
        self.translator.set_stops((!at.is_empty()).then(|| Box::new(offsets.collect())));
        self.stops = (!at.is_empty()).then_some(Stops(at));
        self.flush_cache();
    }

    /// Watches memory: a run ends behind an insn that touches it.
    pub fn set_watches(&mut self, watches: &[Watch]) {
        self.core.cpu.set_watches(watches);
    }

    /// Does somebody want to stop at the instruction pointer?
    pub fn is_at_stop(&self) -> bool {
        self.stops_at(self.core.cpu.state.pc)
    }

    pub(super) fn stops_at(&self, pc: u64) -> bool {
        let Some(stops) = &self.stops else { return false };
        stops.0.binary_search(&self.core.cpu.lin_pc(pc).0).is_ok()
    }

    /// May generated code not jump to this place in its page, because there is a stop at that offset?
    pub(super) fn is_barred(&self, at: u64) -> bool {
        let Some(stops) = &self.stops else { return false };
        stops.0.iter().any(|stop| (stop ^ at) & 0xFFF == 0)
    }

    /// The stop or watchpoint that ends a run here.
    pub(super) fn debug_exit(&mut self) -> Option<VcpuExit> {
        match self.core.cpu.take_watches_hit() {
            0 => self.is_at_stop().then_some(VcpuExit::Stop),
            hits => Some(VcpuExit::Watch(hits)),
        }
    }

    /// Runs one insn, whatever stops there; interrupts wait, but for a halted CPU. Returns what it hit.
    pub fn step_over(&mut self) -> Option<VcpuExit> {
        let cpu = &mut self.core.cpu;
        cpu.state.leave = 0;
        cpu.sync_bus();
        self.drop_written_code();
        let cpu = &mut self.core.cpu;
        if cpu.state.shadow != 0 {
            cpu.sync_mode();
        }
        let is_halted = cpu.state.halted != 0;
        let is_done = if is_halted { cpu.service() } else { cpu.service_debug() };
        if !is_done && !cpu.shutdown && cpu.state.halted == 0 {
            self.evaluate_one();
        }
        self.core.cpu.park_fpu();
        if self.core.cpu.shutdown {
            return Some(VcpuExit::Shutdown);
        }
        match self.core.cpu.take_watches_hit() {
            0 => None,
            hits => Some(VcpuExit::Watch(hits)),
        }
    }

    /// The same in counted time, in which interrupts come when they come.
    pub fn step_over_counted(&mut self, stretch: Stretch) -> (Option<VcpuExit>, u32) {
        let stops = self.stops.take();
        let done = loop {
            let done = self.run_counted(Stretch { insns: 1, ..stretch });
            // Whoever kicked is served behind the step.
            if done != (Some(VcpuExit::Kick), 0) {
                break done;
            }
        };
        self.stops = stops;
        done
    }
}
