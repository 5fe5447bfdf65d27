//! The user's hold on the machine: monitors, stop and go, reset, keys and mouse, and where messages go.

use std::cell::{Ref, RefMut};
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Exit, Machine};
use crate::board::{Board, Change};
use crate::console::{self, Line, Received, Stroke};
use crate::disk::{self, DriveBus, DriveConfig, DriveSource, Format, Media};
use crate::gdb::Gdb;
use crate::log::Log;
use crate::monitor::{Event, Monitor, Qmp};

/// Most events kept for controls that are just serving a command.
const EVENTS_MAX: usize = 64;

/// Is the machine running?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It runs.
    Running,
    /// The user stopped it, or it was started stopped.
    Paused,
    /// The guest switched it off.
    Off,
}

/// What the user's side of a machine is made of.
pub(super) struct Attended {
    pub(super) standing: Standing,
    /// The run ends with this.
    pub(super) ending: Option<Exit>,
    pub(super) hosts: Vec<console::Host>,
    pub(super) monitors: Vec<Monitor>,
    pub(super) controls: Vec<Qmp>,
    pub(super) gdb: Option<Gdb>,
    /// What the controls have not been told of.
    events: Vec<Event>,
    /// Keys to be released.
    releases: Vec<(Instant, Vec<u16>)>,
    mouse_buttons: u8,
    /// The monitor that shares the terminal with the display, while it is shown.
    over_display: Option<Line>,
    is_over: bool,
    pub(super) about: About,
}

/// What the machine was built from, in words.
#[derive(Debug, Default)]
pub(super) struct About {
    pub(super) name: String,
    pub(super) drives: Vec<DriveConfig>,
    pub(super) firmware: String,
    pub(super) lines: Vec<String>,
}

impl Attended {
    pub(super) fn new(
        hosts: Vec<console::Host>,
        monitors: Vec<Monitor>,
        controls: Vec<Qmp>,
        about: About,
    ) -> Self {
        Self {
            standing: Standing::Running,
            ending: None,
            hosts,
            monitors,
            controls,
            gdb: None,
            events: Vec::new(),
            releases: Vec::new(),
            mouse_buttons: 0,
            over_display: None,
            is_over: false,
            about,
        }
    }
}

/// A drive as `info block` shows it.
fn describe_drive(drive: &DriveConfig) -> String {
    let what = match &drive.source {
        DriveSource::Empty => "[not inserted]".to_owned(),
        DriveSource::File(path) => path.display().to_string(),
        DriveSource::Bytes(bytes) => format!("{} bytes in memory", bytes.len()),
    };
    let flag = |is_set: bool, text| if is_set { text } else { "" };
    let snapshot = flag(drive.snapshot, " (snapshot)");
    let read_only = flag(drive.read_only, " (read-only)");
    format!("{}: {what}{snapshot}{read_only}", drive.name())
}

/// An error with its causes.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// For the monitor.
impl Machine {
    /// The board.
    pub(crate) fn board(&self) -> Ref<'_, Board> {
        self.board.borrow()
    }

    /// The board, to do something to it.
    pub(crate) fn board_mut(&self) -> RefMut<'_, Board> {
        self.board.borrow_mut()
    }

    /// The log of `-d`.
    pub(crate) fn log(&self) -> &Rc<Log> {
        &self.log
    }

    /// Ends the run.
    pub(crate) fn end(&mut self, exit: Exit) {
        self.user.ending.get_or_insert(exit);
    }

    /// Is the run about to end?
    pub(crate) fn is_ending(&self) -> bool {
        self.user.ending.is_some()
    }

    /// Stops the CPU and virtual time.
    pub fn stop(&mut self) {
        if self.user.standing == Standing::Running {
            self.user.standing = Standing::Paused;
            self.board.borrow_mut().pause();
            self.notify("STOP", Value::Null);
        }
    }

    /// Lets a stopped machine go on.
    ///
    /// # Errors
    /// It is switched off.
    pub fn cont(&mut self) -> Result<(), String> {
        match self.user.standing {
            Standing::Running => {}
            Standing::Paused => {
                self.user.standing = Standing::Running;
                self.board.borrow_mut().resume();
                self.notify("RESUME", Value::Null);
            }
            Standing::Off => return Err("the machine is off: system_reset switches it on".into()),
        }
        Ok(())
    }

    /// Does the CPU stand still?
    pub fn is_stopped(&self) -> bool {
        self.user.standing != Standing::Running
    }

    /// `running`, `paused` or `paused (shutdown)`.
    pub(crate) fn status(&self) -> &'static str {
        match self.user.standing {
            Standing::Running => "running",
            Standing::Paused => "paused",
            Standing::Off => "paused (shutdown)",
        }
    }

    /// The reset button. A machine that was off goes on.
    pub(crate) fn press_reset(&mut self) {
        self.reset();
        self.notify("RESET", json!({ "guest": false, "reason": "host-qmp-system-reset" }));
        if self.user.standing == Standing::Off {
            self.user.standing = Standing::Running;
            self.board.borrow_mut().resume();
        }
    }

    /// The power button.
    pub(crate) fn press_power(&mut self) {
        self.board.borrow_mut().press_power_button();
        self.notify("POWERDOWN", Value::Null);
    }

    /// The drives.
    pub(crate) fn drives(&self) -> &[DriveConfig] {
        &self.user.about.drives
    }

    /// A non-maskable interrupt.
    pub(crate) fn send_nmi(&mut self) {
        self.link.nmi.set(true);
        self.vcpu.kicker().kick();
    }

    /// Presses keys together and releases them `hold_ms` later, in reverse order.
    pub(crate) fn press_keys(&mut self, codes: &[u16], hold_ms: u64) {
        self.keys.extend(codes.iter().map(|&code| (code, true)));
        let at = Instant::now() + Duration::from_millis(hold_ms);
        self.user.releases.push((at, codes.iter().rev().copied().collect()));
    }

    /// Moves the mouse and its wheel.
    pub(crate) fn move_mouse(&mut self, dx: i16, dy: i16, wheel: i8) {
        self.board.borrow_mut().mouse(dx, dy, wheel, self.user.mouse_buttons);
    }

    /// Sets the mouse's buttons: bit 0 left, 1 right, 2 middle.
    pub(crate) fn set_mouse_buttons(&mut self, buttons: u8) {
        self.user.mouse_buttons = buttons;
        self.move_mouse(0, 0, 0);
    }

    /// How often each interrupt vector was delivered.
    pub(crate) fn interrupt_counts(&self) -> [u64; 256] {
        **self.link.counts.borrow()
    }

    /// The machine's name.
    pub(crate) fn name(&self) -> &str {
        &self.user.about.name
    }

    /// One line per drive.
    pub(crate) fn describe_drives(&self) -> Vec<String> {
        self.user.about.drives.iter().map(describe_drive).collect()
    }

    /// Puts another image, or none, into a drive of this name.
    pub(crate) fn change_medium(
        &mut self,
        name: &str,
        image: Option<(PathBuf, Option<Format>)>,
        force: bool,
    ) -> Result<(), String> {
        let found = self.user.about.drives.iter_mut().find(|drive| drive.name() == name);
        let drive = found.ok_or_else(|| format!("there is no drive {name}: info block"))?;
        let mut new = drive.clone();
        (new.source, new.format) = match image {
            Some((path, format)) => (DriveSource::File(path), format),
            None => (DriveSource::Empty, None),
        };
        let medium = disk::open(&new).map_err(|error| one_line(&error))?;
        let mut board = self.board.borrow_mut();
        let change = match (new.bus, new.media) {
            (DriveBus::Ide, Media::Cdrom) => board.change_cd(new.slot, medium, force),
            (DriveBus::Floppy, _) => board.change_floppy(new.slot, medium),
            _ => return Err(format!("{name} is not removable")),
        };
        match change {
            Change::Done => {
                *drive = new;
                Ok(())
            }
            Change::Locked => Err(format!("{name} is locked; the guest has been asked to let go")),
            Change::NoDrive => Err(format!("{name} is not removable")),
        }
    }

    /// The firmware.
    pub(crate) fn describe_firmware(&self) -> &str {
        &self.user.about.firmware
    }

    /// One line per character device.
    pub(crate) fn describe_lines(&self) -> Vec<String> {
        let hosts = self.user.hosts.iter().map(console::Host::describe);
        self.user.about.lines.iter().cloned().chain(hosts).collect()
    }
}

impl Machine {
    /// Lets the monitors do what was asked of them.
    pub(super) fn poll_monitors(&mut self) {
        let mut monitors = std::mem::take(&mut self.user.monitors);
        monitors.iter_mut().for_each(|monitor| monitor.poll(self));
        self.user.monitors = monitors;
        let mut controls = std::mem::take(&mut self.user.controls);
        controls.iter_mut().for_each(|control| control.poll(self));
        self.user.controls = controls;
        self.poll_gdb();
        self.tell_events();
    }

    /// Programs that control the machine are told of this.
    pub(super) fn notify(&mut self, name: &'static str, data: Value) {
        if !self.user.controls.is_empty() || self.user.events.len() < EVENTS_MAX {
            self.user.events.push(Event::new(name, data));
        }
    }

    fn tell_events(&mut self) {
        let events = std::mem::take(&mut self.user.events);
        for control in &mut self.user.controls {
            events.iter().for_each(|event| control.tell(event));
        }
    }

    /// The run is over.
    pub(super) fn announce_end(&mut self, exit: Exit) {
        let (guest, reason) = match exit {
            Exit::PowerOff => (true, "guest-shutdown"),
            Exit::Reset => (true, "guest-reset"),
            Exit::TripleFault => (true, "guest-panic"),
            Exit::DebugExit(_) => (true, "guest-shutdown"),
            Exit::Quit => (false, "host-qmp-quit"),
            Exit::Signal(_) => (false, "host-signal"),
        };
        self.notify("SHUTDOWN", json!({ "guest": guest, "reason": reason }));
        self.tell_events();
        self.end_gdb(exit);
    }

    /// Says something to the user where the console is.
    pub(super) fn tell(&mut self, lines: &[&str]) {
        let host = self.user.hosts.iter().find(|host| host.is_stdio());
        match (&mut self.screen, host) {
            (Some(screen), _) => screen.notice(&lines.join(" | ")),
            (None, Some(host)) => host.line().print(&format!("\r\n{}\r\n", lines.join("\r\n"))),
            (None, None) => log::info!("{}", lines.join(" ")),
        }
    }

    /// Releases keys whose time has come.
    pub(super) fn release_keys(&mut self) {
        let now = Instant::now();
        let keys = &mut self.keys;
        self.user.releases.retain(|(at, codes)| {
            if *at <= now {
                keys.extend(codes.iter().map(|&code| (code, false)));
            }
            *at > now
        });
    }

    /// When the next keys are to be released.
    pub(super) fn next_release(&self) -> Option<Instant> {
        self.user.releases.iter().map(|(at, _)| *at).min()
    }

    /// Puts a monitor behind Ctrl-a c on the terminal that shows the display.
    pub(super) fn add_monitor_over_display(&mut self) {
        let line = Line::new("compat_monitor0", true);
        self.user.monitors.push(Monitor::new(line.front(true), true));
        console::show_on_terminal(&line, &self.sender);
        self.user.over_display = Some(line);
    }

    /// Is the terminal the monitor's?
    pub(super) fn shows_monitor(&self) -> bool {
        self.user.is_over
    }

    /// Between display and monitor.
    pub(super) fn switch_view(&mut self) {
        let Some(line) = &self.user.over_display else {
            return self.tell(&["There is no monitor here (-monitor)."]);
        };
        self.user.is_over = !self.user.is_over;
        if self.user.is_over {
            // A terminal that cannot be written will be noticed by the display.
            let _ = io::stdout().write_all(b"\x1b[0m\x1b[2J\x1b[H\x1b[?25h");
            let _ = io::stdout().flush();
            line.set_peer(true);
        } else {
            line.flush(Duration::from_secs(1));
            line.set_peer(false);
            self.screen.iter_mut().for_each(console::Screen::forget);
        }
    }

    /// A key for the monitor over the display.
    pub(super) fn type_to_monitor(&mut self, stroke: Stroke) {
        if let Some(line) = &self.user.over_display {
            let items: Vec<_> = stroke.bytes().into_iter().map(Received::Byte).collect();
            // The monitor is served right after: its queue does not fill.
            line.feed(&items, || false);
        }
    }

    /// If a line is on stdin and stdout: does the escape character work there?
    pub(super) fn stdio_escapes(&self) -> Option<bool> {
        let host = self.user.hosts.iter().find(|host| host.is_stdio());
        host.map(console::Host::has_escape)
    }

    /// Starts everything that speaks with the host but for stdin and stdout.
    pub(super) fn start_hosts(&mut self, with_stdio: bool) -> io::Result<()> {
        let sender = self.sender.clone();
        for host in &mut self.user.hosts {
            if host.is_stdio() == with_stdio {
                if let Some(text) = host.announcement() {
                    eprintln!("stele: {text}");
                }
                host.start(&sender)?;
            }
        }
        Ok(())
    }
}
