//! The outer loop: a board, a CPU and the world outside, until the guest or the user ends it.
//!
//! [`Machine::run`] serves timers, events and inputs, then calls the inner loop ([`Vcpu::run`]), which comes back
//! when it is kicked, when the CPU halts, or when it shuts down. Everything guest-visible happens on this thread;
//! others only kick. Who kicks: the alarm thread at the next deadline, console threads with inputs, and the
//! bus link when the guest did something the board cannot settle alone.

mod alarm;
mod attend;
mod build;
mod bus;
mod config;
mod debug;
mod icount;
mod lines;
mod net;
mod session;
mod snapshot;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::board::{Board, BoardError, BoardEvent};
use crate::boot::kernel::KernelError;
use crate::console::{Command, Input, InputSender, Screen};
use crate::disk::DiskError;
use crate::exit;
use crate::firmware::FirmwareError;
use crate::log::{Items, Log};
use crate::vcpu::{Vcpu, VcpuExit};
use alarm::{Alarm, Bell};
use attend::{Attended, Standing};

pub use crate::console::{CharConfig, CharTarget, SocketAddress, SocketTarget};
pub use crate::disk::{Cache, DriveBus, DriveConfig, DriveSource, Format, Media};
pub use config::{
    Accel, ConsoleConfig, Display, Firmware, MachineConfig, NicConfig, PortConfig, RtcBase,
    host_cpuid,
};
pub use session::run;

/// Why a machine could not be built or run.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// No firmware.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// A kernel cannot be booted.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A disk image cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The board cannot be built.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// The translator cannot be set up.
    #[error("cannot set up the code cache")]
    Jit(#[from] jit::CodeBufError),
    /// A file for output cannot be made.
    #[error("cannot write {path}")]
    Output {
        /// The file.
        path: std::path::PathBuf,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// The far end of a character device cannot be had.
    #[error("cannot open {what}")]
    Line {
        /// Which.
        what: String,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// The terminal refuses.
    #[error("cannot use the terminal")]
    Terminal(#[source] io::Error),
    /// A snapshot cannot be saved or loaded.
    #[error(transparent)]
    Snapshot(#[from] crate::snapshot::SnapshotError),
    /// What the guest wrote could not be made durable.
    #[error("cannot write the guest's changes to its disk")]
    Flush(#[source] io::Error),
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest switched the machine off.
    PowerOff,
    /// The guest reset the machine, with `no_reboot`.
    Reset,
    /// The guest wrote this status to isa-debug-exit.
    DebugExit(u8),
    /// Triple fault, with `no_reboot`.
    TripleFault,
    /// The user quit.
    Quit,
    /// A signal.
    Signal(i32),
}

impl Exit {
    /// The exit code of the command.
    pub fn code(self) -> u8 {
        match self {
            Self::PowerOff | Self::Reset | Self::Quit => exit::OK,
            Self::DebugExit(status) => status,
            Self::TripleFault => exit::TRIPLE_FAULT,
            Self::Signal(number) => exit::signal(number),
        }
    }
}

/// How often the terminal is redrawn.
const REDRAW: Duration = Duration::from_millis(33);
/// When to try again to put a key into a full keyboard buffer.
const KEY_RETRY: Duration = Duration::from_millis(10);
/// Most key codes that wait for the guest; more are dropped.
const KEYS_MAX: usize = 4096;

/// A PC: board, CPU, and what connects them to the user.
pub struct Machine {
    board: Rc<RefCell<Board>>,
    vcpu: Vcpu,
    log: Rc<Log>,
    bell: Arc<Bell>,
    /// Wakes the vCPU at the next deadline; `None` with instruction-counted time.
    alarm: Option<Alarm>,
    icount: Option<icount::Icount>,
    link: Rc<bus::Link>,
    inputs: Receiver<Input>,
    sender: InputSender,
    /// Key codes the guest's keyboard had no room for.
    keys: VecDeque<(u16, bool)>,
    user: Attended,
    screen: Option<Screen>,
    redraw_at: Instant,
    no_reboot: bool,
    no_shutdown: bool,
    snapshots: crate::snapshot::Store,
    debug: crate::gdb::Debug,
}

impl Machine {
    /// Runs until the guest or the user ends it. May be called again afterwards.
    pub fn run(&mut self) -> Exit {
        loop {
            if let Some(exit) = self.turn() {
                self.announce_end(exit);
                return exit;
            }
        }
    }

    /// One turn of the outer loop.
    fn turn(&mut self) -> Option<Exit> {
        if let Some(exit) = self.serve() {
            return Some(exit);
        }
        if self.is_stopped() {
            self.log.flush();
            self.bell.wait(self.next_wake());
            return None;
        }
        let done = match self.icount {
            Some(_) => self.run_counted(),
            None => self.vcpu.run(),
        };
        match done {
            VcpuExit::Kick => {}
            VcpuExit::Halted => self.sleep(),
            VcpuExit::Shutdown => return self.triple_fault(),
            why @ (VcpuExit::Stop | VcpuExit::Watch(_)) => self.stop_for_debugger(why),
        }
        None
    }

    /// Where inputs for this machine are sent; wakes it.
    pub fn input(&self) -> InputSender {
        self.sender.clone()
    }

    /// The CPU and its translator.
    pub fn vcpu(&self) -> &Vcpu {
        &self.vcpu
    }

    /// The same, to be changed between runs.
    pub fn vcpu_mut(&mut self) -> &mut Vcpu {
        &mut self.vcpu
    }

    /// The VGA text screen as text; empty in graphics modes.
    pub fn screen_text(&self) -> String {
        let screen = self.board.borrow().text_screen();
        screen.map(|screen| crate::console::plain_text(&screen)).unwrap_or_default()
    }

    /// Makes everything the guest wrote durable.
    ///
    /// # Errors
    /// The first error a disk gave.
    pub fn flush(&mut self) -> Result<(), MachineError> {
        self.log.flush();
        self.user.hosts.iter().for_each(crate::console::Host::flush);
        self.board.borrow_mut().flush_disks().map_err(MachineError::Flush)
    }

    /// Everything between two stretches of guest code.
    fn serve(&mut self) -> Option<Exit> {
        if !self.is_stopped() {
            self.board.borrow_mut().run_timers();
        }
        while let Ok(input) = self.inputs.try_recv() {
            if let Some(exit) = self.take_input(input) {
                return Some(exit);
            }
        }
        self.poll_monitors();
        if let Some(exit) = self.user.ending.take() {
            return Some(exit);
        }
        if !self.is_stopped() {
            self.release_keys();
            self.type_keys();
        }
        loop {
            let event = self.board.borrow_mut().take_event();
            let Some(event) = event else { break };
            if let Some(exit) = self.take_event(event) {
                return Some(exit);
            }
        }
        self.redraw();
        self.arm();
        None
    }

    fn take_event(&mut self, event: BoardEvent) -> Option<Exit> {
        match event {
            BoardEvent::DebugExit(status) => Some(Exit::DebugExit(status)),
            BoardEvent::PowerOff if self.no_shutdown => {
                self.stop();
                self.user.standing = Standing::Off;
                self.tell(&["The guest is off (-no-shutdown). Ctrl-a x quits."]);
                None
            }
            BoardEvent::PowerOff => Some(Exit::PowerOff),
            BoardEvent::Reset if self.no_reboot => Some(Exit::Reset),
            BoardEvent::Reset => {
                self.reset();
                self.notify("RESET", serde_json::json!({ "guest": true, "reason": "guest-reset" }));
                None
            }
        }
    }

    fn take_input(&mut self, input: Input) -> Option<Exit> {
        match input {
            Input::Stroke(stroke) if self.shows_monitor() => self.type_to_monitor(stroke),
            Input::Stroke(stroke) if self.keys.len() < KEYS_MAX => self.keys.extend(stroke.codes()),
            Input::Stroke(_) => {}
            Input::Bytes => self.board.borrow_mut().poll_input(),
            Input::Resized => self.screen.iter_mut().for_each(Screen::forget),
            Input::Signal(number) => return Some(Exit::Signal(number)),
            Input::Command(Command::Quit) => return Some(Exit::Quit),
            Input::Command(Command::Help) => {
                let help = crate::console::help(crate::console::CTRL_A);
                self.tell(&help.iter().map(String::as_str).collect::<Vec<_>>());
            }
            Input::Command(Command::Monitor) => self.switch_view(),
            Input::Command(Command::Flush) => {
                let done = self.board.borrow_mut().flush_disks();
                match done {
                    Ok(()) => self.tell(&["The guest's disk writes are durable."]),
                    Err(error) => self.tell(&[&format!("The disks cannot be flushed: {error}")]),
                }
            }
            // Lines do these by themselves; a display has neither.
            Input::Command(Command::Break | Command::Stamps) => {}
        }
        None
    }

    fn type_keys(&mut self) {
        let mut board = self.board.borrow_mut();
        while let Some(&(code, down)) = self.keys.front() {
            if !board.key(code, down) {
                return;
            }
            self.keys.pop_front();
        }
    }

    fn redraw(&mut self) {
        let is_hidden = self.shows_monitor();
        let Some(screen) = &mut self.screen else { return };
        if is_hidden || Instant::now() < self.redraw_at {
            return;
        }
        self.redraw_at = Instant::now() + REDRAW;
        let board = self.board.borrow();
        let is_graphics = board.vga().is_some_and(devices::vga::Vga::is_graphics);
        let shown = if is_graphics { None } else { Some(board.text_screen().unwrap_or_default()) };
        drop(board);
        if let Err(error) = screen.draw(shown, &mut io::stdout().lock()) {
            log::error!("cannot draw on the terminal: {error}");
            self.screen = None;
        }
    }

    /// When the machine must be served again at the latest, in host time.
    fn next_wake(&self) -> Option<Instant> {
        let mut wakes = [None; 4];
        if self.alarm.is_some() && !self.is_stopped() {
            let board = self.board.borrow();
            wakes[0] = board.next_deadline().map(|at| host_time(at, board.now()));
        }
        if self.screen.is_some() && !self.shows_monitor() {
            wakes[1] = Some(self.redraw_at);
        }
        if !self.keys.is_empty() && !self.is_stopped() {
            wakes[2] = Some(Instant::now() + KEY_RETRY);
        }
        wakes[3] = self.next_release().filter(|_| !self.is_stopped());
        wakes.into_iter().flatten().min()
    }

    fn arm(&self) {
        if let Some(alarm) = &self.alarm {
            self.link.armed.set(self.board.borrow().next_deadline().unwrap_or(u64::MAX));
            alarm.set(self.next_wake());
        }
    }

    /// The CPU is halted: nothing happens before the next deadline or input.
    fn sleep(&mut self) {
        self.log.flush();
        match self.next_idle() {
            Some(idle) => self.pass_idle(idle),
            None => self.bell.wait(self.next_wake()),
        }
    }

    fn reset(&mut self) {
        self.log_reset();
        self.board.borrow_mut().reset();
        self.vcpu.reset();
    }

    fn log_reset(&self) {
        if self.log.has(Items::CPU_RESET) {
            self.log.cpu_reset(&self.vcpu.cpu().dump());
        }
    }

    fn triple_fault(&mut self) -> Option<Exit> {
        if self.no_reboot {
            self.log_reset();
            return Some(Exit::TripleFault);
        }
        self.reset();
        None
    }
}

/// The host's time at virtual time `at`, when it is `now`.
fn host_time(at: u64, now: u64) -> Instant {
    // A year from now is as good as never, and cannot overflow.
    let ns = at.saturating_sub(now).min(365 * 24 * 3600 * 1_000_000_000);
    Instant::now() + Duration::from_nanos(ns)
}
