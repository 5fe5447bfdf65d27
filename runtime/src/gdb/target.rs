//! What gdb may do to the machine: the operations of the protocol, which the crate `gdbstub` has decoded and checked.
//!
//! Nothing here is visible to the guest: breakpoints are not written into its code, watchpoints and steps do not use its
//! debug registers or TF.

use std::convert::Infallible;

use gdbstub::common::Signal;
use gdbstub::outputln;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::single_register_access::{
    SingleRegisterAccess, SingleRegisterAccessOps,
};
use gdbstub::target::ext::base::singlethread::{
    SingleThreadBase, SingleThreadResume, SingleThreadResumeOps, SingleThreadSingleStep,
    SingleThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps,
    SwBreakpoint, SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps};
use gdbstub::target::{Target, TargetError, TargetResult};
use x86::watch::Watch;

use super::arch::{All, Id, PC, TABLE, X86, number};
use super::{Breakpoint, Wish};
use crate::machine::Machine;
use crate::monitor;

/// Most breakpoints.
const BREAKPOINTS_MAX: usize = 1024;

impl Target for Machine {
    type Arch = X86;
    type Error = Infallible;

    fn base_ops(&mut self) -> BaseOps<'_, X86, Infallible> {
        BaseOps::SingleThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    fn guard_rail_implicit_sw_breakpoints(&self) -> bool {
        true
    }
}

/// How much of CS base the reported instruction pointer has in it.
fn shown_base(machine: &Machine) -> u64 {
    let cpu = machine.vcpu().cpu();
    if machine.debug().linear_pc { cpu.lin_pc(0).0 } else { 0 }
}

fn peek(machine: &Machine, n: usize) -> u128 {
    let Some((register, bytes)) = TABLE.get(n) else { return 0 };
    let value = machine.vcpu().cpu().peek_register(*register);
    let value = if n == PC { value.wrapping_add(shown_base(machine).into()) } else { value };
    if *bytes < 16 { value & ((1 << (8 * bytes)) - 1) } else { value }
}

fn poke(machine: &mut Machine, n: usize, value: u128) -> TargetResult<(), Machine> {
    if peek(machine, n) == value {
        return Ok(());
    }
    let Some((register, _)) = TABLE.get(n) else { return Err(TargetError::NonFatal) };
    let value = match n {
        PC => u128::from((value as u64).wrapping_sub(shown_base(machine))),
        _ => value,
    };
    let cpu = machine.vcpu_mut().cpu_mut();
    if !cpu.poke_register(*register, value) {
        return Err(TargetError::NonFatal);
    }
    cpu.state_loaded();
    Ok(())
}

impl SingleThreadBase for Machine {
    fn read_registers(&mut self, all: &mut All) -> TargetResult<(), Self> {
        for (n, value) in all.0.iter_mut().enumerate() {
            *value = peek(self, n);
        }
        Ok(())
    }

    fn write_registers(&mut self, all: &All) -> TargetResult<(), Self> {
        all.0.iter().enumerate().try_for_each(|(n, &value)| poke(self, n, value))
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, (), Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8]) -> TargetResult<usize, Self> {
        // As much as there is memory.
        let mut done = 0;
        while done < data.len() {
            let at = start.wrapping_add(done as u64);
            let n = (0x1000 - (at & 0xFFF) as usize).min(data.len() - done);
            if monitor::read_linear(self, at, &mut data[done..done + n]).is_none() {
                break;
            }
            done += n;
        }
        if done == 0 && !data.is_empty() { Err(TargetError::NonFatal) } else { Ok(done) }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8]) -> TargetResult<(), Self> {
        monitor::write_linear(self, start, data).ok_or(TargetError::NonFatal)
    }

    fn support_resume(&mut self) -> Option<SingleThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

impl SingleRegisterAccess<()> for Machine {
    fn read_register(&mut self, _: (), id: Id, buf: &mut [u8]) -> TargetResult<usize, Self> {
        let (_, bytes) = TABLE[id.0];
        let place = buf.get_mut(..bytes).ok_or(TargetError::NonFatal)?;
        place.copy_from_slice(&peek(self, id.0).to_le_bytes()[..bytes]);
        Ok(bytes)
    }

    fn write_register(&mut self, _: (), id: Id, value: &[u8]) -> TargetResult<(), Self> {
        if value.len() != TABLE[id.0].1 {
            return Err(TargetError::NonFatal);
        }
        poke(self, id.0, number(value))
    }
}

impl SingleThreadResume for Machine {
    fn resume(&mut self, _: Option<Signal>) -> Result<(), Infallible> {
        self.debug_mut().wish = Some(Wish::Continue);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<SingleThreadSingleStepOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadSingleStep for Machine {
    fn step(&mut self, _: Option<Signal>) -> Result<(), Infallible> {
        self.debug_mut().wish = Some(Wish::Step);
        Ok(())
    }
}

impl Breakpoints for Machine {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

fn add(machine: &mut Machine, new: Breakpoint) -> bool {
    let breakpoints = &mut machine.debug_mut().breakpoints;
    let is_new = !breakpoints.contains(&new);
    if is_new && breakpoints.len() >= BREAKPOINTS_MAX {
        return false;
    }
    breakpoints.extend(is_new.then_some(new));
    true
}

fn remove(machine: &mut Machine, old: Breakpoint) -> bool {
    let breakpoints = &mut machine.debug_mut().breakpoints;
    let before = breakpoints.len();
    breakpoints.retain(|it| *it != old);
    breakpoints.len() != before
}

impl SwBreakpoint for Machine {
    fn add_sw_breakpoint(&mut self, at: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(add(self, Breakpoint { at, is_hardware: false }))
    }

    fn remove_sw_breakpoint(&mut self, at: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(remove(self, Breakpoint { at, is_hardware: false }))
    }
}

impl HwBreakpoint for Machine {
    fn add_hw_breakpoint(&mut self, at: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(add(self, Breakpoint { at, is_hardware: true }))
    }

    fn remove_hw_breakpoint(&mut self, at: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(remove(self, Breakpoint { at, is_hardware: true }))
    }
}

fn watch(at: u64, len: u64, kind: WatchKind) -> Watch {
    Watch {
        first: at,
        last: at.saturating_add(len.max(1) - 1),
        reads: kind != WatchKind::Write,
        writes: kind != WatchKind::Read,
    }
}

impl HwWatchpoint for Machine {
    fn add_hw_watchpoint(
        &mut self,
        at: u64,
        len: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        let watches = &mut self.debug_mut().watches;
        let new = watch(at, len, kind);
        if !watches.contains(&new) {
            if watches.len() >= Watch::MAX {
                return Ok(false);
            }
            watches.push(new);
        }
        Ok(true)
    }

    fn remove_hw_watchpoint(
        &mut self,
        at: u64,
        len: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        let (watches, old) = (&mut self.debug_mut().watches, watch(at, len, kind));
        let before = watches.len();
        watches.retain(|it| *it != old);
        Ok(watches.len() != before)
    }
}

impl MonitorCmd for Machine {
    fn handle_monitor_cmd(
        &mut self,
        command: &[u8],
        mut out: ConsoleOutput<'_>,
    ) -> Result<(), Infallible> {
        let line = String::from_utf8_lossy(command);
        match monitor::run_line(self, &line) {
            Ok(text) if text.is_empty() => {}
            Ok(text) => outputln!(out, "{}", text.trim_end()),
            Err(why) => outputln!(out, "Error: {why}"),
        }
        Ok(())
    }
}
