//! The gdb server: gdb's remote serial protocol on a line, by the crate `gdbstub`.
//!
//! A [`Gdb`] is polled like a monitor, on the machine's thread between two stretches of guest code; it feeds the protocol's
//! state machine byte by byte and never waits. Who connects stops the machine and commands the guest; what it sends is
//! not trusted: a packet that makes no sense ends the conversation, not the machine. Breakpoints are by linear address, whatever
//! the mode.

mod arch;
mod target;
#[cfg(test)]
mod tests;

use std::convert::Infallible;

use devices::chardev::CharBackend;
use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStub, SingleThreadStopReason};
use gdbstub::target::ext::breakpoints::WatchKind;
use x86::watch::Watch;

use crate::console::{Front, Received};
use crate::machine::{Exit, Machine};
use crate::vcpu::VcpuExit;

type Stub = GdbStubStateMachine<'static, Machine, Outbox>;
type Reason = SingleThreadStopReason<u64>;

/// Most bytes taken before the guest gets its turn again.
const BYTES_AT_ONCE: usize = 64 << 10;

/// Answers on their way.
#[derive(Debug, Default)]
struct Outbox(Vec<u8>);

impl Connection for Outbox {
    type Error = Infallible;

    fn write(&mut self, byte: u8) -> Result<(), Infallible> {
        self.0.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Where to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Breakpoint {
    at: u64,
    is_hardware: bool,
}

/// How gdb wants the machine to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Continue,
    Step,
}

/// What a debugger has asked of the machine.
#[derive(Debug, Default)]
pub(crate) struct Debug {
    breakpoints: Vec<Breakpoint>,
    watches: Vec<Watch>,
    wish: Option<Wish>,
    /// Why the machine stopped, until gdb is told.
    hit: Option<VcpuExit>,
    /// The instruction pointer is shown with CS base added.
    pub(crate) linear_pc: bool,
}

impl Debug {
    /// The machine stopped for this.
    pub(crate) fn note(&mut self, hit: VcpuExit) {
        self.hit = Some(hit);
    }
}

/// A gdb server on a line.
pub(crate) struct Gdb {
    front: Front,
    stub: Option<Stub>,
    /// The machine ran when the peer came.
    was_running: bool,
}

impl Gdb {
    /// A server with this end of a line.
    pub(crate) fn new(front: Front) -> Self {
        Self { front, stub: None, was_running: false }
    }

    /// Where it listens.
    pub(crate) fn label(&self) -> &str {
        self.front.line().label()
    }

    /// Serves what has come in, and tells gdb that the machine stopped.
    pub(crate) fn poll(&mut self, machine: &mut Machine) {
        for _ in 0..BYTES_AT_ONCE {
            match self.front.receive() {
                Some(Received::Byte(byte)) => self.take(byte, machine),
                Some(Received::Opened) => self.open(machine),
                Some(Received::Break) => {}
                None => {
                    if self.stub.is_some() && !self.front.line().has_peer() {
                        self.leave(machine, self.was_running);
                    }
                    return self.report(machine);
                }
            }
            if machine.is_ending() {
                return;
            }
        }
        machine.input().wake();
    }

    /// The server goes.
    pub(crate) fn close(&mut self, machine: &mut Machine) {
        if self.stub.is_some() {
            self.leave(machine, self.was_running);
        }
    }

    /// The machine's run is over.
    pub(crate) fn end(&mut self, machine: &mut Machine, exit: Exit) {
        if let Some(Stub::Running(stub)) = self.stub.take() {
            let told = stub.report_stop(machine, Reason::Exited(exit.code()));
            self.keep(told, machine);
        }
    }

    /// A peer has come.
    fn open(&mut self, machine: &mut Machine) {
        if self.stub.is_some() {
            self.leave(machine, self.was_running);
        }
        self.was_running = !machine.is_stopped();
        machine.stop();
        machine.debug_mut().hit = None;
        self.begin(machine);
    }

    fn begin(&mut self, machine: &mut Machine) {
        let stub = GdbStub::new(Outbox::default()).run_state_machine(machine);
        self.keep(stub, machine);
    }

    fn take(&mut self, byte: u8, machine: &mut Machine) {
        let next = match self.stub.take() {
            Some(Stub::Idle(stub)) => stub.incoming_data(machine, byte),
            Some(Stub::Running(stub)) => stub.incoming_data(machine, byte),
            other => {
                self.stub = other;
                return;
            }
        };
        self.keep(next, machine);
    }

    /// Takes the stub's next state; answers go out.
    fn keep<E: std::fmt::Display>(&mut self, next: Result<Stub, E>, machine: &mut Machine) {
        let mut next = match next {
            Ok(next) => next,
            Err(error) => {
                log::warn!("{}: {error}; it begins anew", self.label());
                return self.begin(machine);
            }
        };
        self.send(&mut next);
        match next {
            Stub::CtrlCInterrupt(stub) => {
                machine.stop();
                let signal = Some(Reason::Signal(Signal::SIGINT));
                self.keep(stub.interrupt_handled(machine, signal), machine);
            }
            Stub::Disconnected(stub) => match stub.get_reason() {
                DisconnectReason::Kill => machine.end(Exit::Quit),
                DisconnectReason::TargetExited(_) | DisconnectReason::TargetTerminated(_) => {}
                DisconnectReason::Disconnect => {
                    self.leave(machine, true);
                    self.was_running = true;
                    self.begin(machine);
                }
            },
            next => {
                let is_running = matches!(next, Stub::Running(_));
                self.stub = Some(next);
                if let (true, Some(wish)) = (is_running, machine.debug_mut().wish.take()) {
                    go_on(machine, wish);
                }
            }
        }
    }

    fn send(&mut self, stub: &mut Stub) {
        let outbox = match stub {
            Stub::Idle(stub) => stub.borrow_conn(),
            Stub::Running(stub) => stub.borrow_conn(),
            Stub::CtrlCInterrupt(stub) => stub.borrow_conn(),
            Stub::Disconnected(stub) => stub.borrow_conn(),
        };
        let bytes = std::mem::take(&mut outbox.0);
        if !bytes.is_empty() {
            self.front.write(&bytes);
        }
    }

    /// If gdb waits for the machine to stop, and it has: says why.
    fn report(&mut self, machine: &mut Machine) {
        if !machine.is_stopped() || !matches!(self.stub, Some(Stub::Running(_))) {
            return;
        }
        if let Some(Stub::Running(stub)) = self.stub.take() {
            let reason = reason(machine);
            self.keep(stub.report_stop(machine, reason), machine);
        }
    }

    /// The peer is done with the machine, which forgets what it asked for.
    fn leave(&mut self, machine: &mut Machine, goes_on: bool) {
        self.stub = None;
        let debug = machine.debug_mut();
        debug.breakpoints.clear();
        debug.watches.clear();
        (debug.wish, debug.hit) = (None, None);
        put_in_force(machine);
        if goes_on {
            // One that is switched off stays so.
            let _ = machine.cont();
        }
    }
}

/// Gives the vCPU what gdb wants to stop at.
fn put_in_force(machine: &mut Machine) {
    let debug = machine.debug();
    let at: Vec<u64> = debug.breakpoints.iter().map(|breakpoint| breakpoint.at).collect();
    let watches = debug.watches.clone();
    machine.vcpu_mut().set_stops(&at);
    machine.vcpu_mut().set_watches(&watches);
}

/// Steps, or goes on from where it stands: what stops here has been seen.
fn go_on(machine: &mut Machine, wish: Wish) {
    put_in_force(machine);
    machine.debug_mut().hit = None;
    let hit = match wish {
        Wish::Step => Some(machine.step_over().unwrap_or(VcpuExit::Kick)),
        Wish::Continue if machine.vcpu().is_at_stop() => machine.step_over(),
        Wish::Continue => None,
    };
    match hit {
        Some(hit) => machine.debug_mut().hit = Some(hit),
        // One that is switched off is reported as stopped again.
        None => drop(machine.cont()),
    }
    machine.input().wake();
}

/// Why the machine stands still.
fn reason(machine: &mut Machine) -> Reason {
    let debug = machine.debug();
    match debug.hit {
        Some(VcpuExit::Kick) => Reason::DoneStep,
        Some(VcpuExit::Stop) => {
            let cpu = machine.vcpu().cpu();
            let at = cpu.lin_pc(cpu.state.pc).0;
            let is_hardware = |it: &&Breakpoint| it.at == at && it.is_hardware;
            // gdb goes by the instruction pointer that it sees: where that is another number, it knows of no breakpoint.
            if cpu.state.pc != at && !debug.linear_pc {
                Reason::Signal(Signal::SIGTRAP)
            } else if debug.breakpoints.iter().any(|it| is_hardware(&it)) {
                Reason::HwBreak(())
            } else {
                Reason::SwBreak(())
            }
        }
        Some(VcpuExit::Watch(hits)) => match debug.watches.get(hits.trailing_zeros() as usize) {
            Some(watch) => {
                let kind = match (watch.reads, watch.writes) {
                    (true, true) => WatchKind::ReadWrite,
                    (true, false) => WatchKind::Read,
                    (false, _) => WatchKind::Write,
                };
                Reason::Watch { tid: (), kind, addr: watch.first }
            }
            None => Reason::Signal(Signal::SIGTRAP),
        },
        Some(VcpuExit::Shutdown | VcpuExit::Halted) | None => Reason::Signal(Signal::SIGINT),
    }
}
