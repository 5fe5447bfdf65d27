//! The command at a terminal and on sockets, as a user and his scripts meet it: real processes, a real pseudo-terminal.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

/// No step takes this long.
const LIMIT: Duration = Duration::from_secs(600);

/// A boot firmware whose code is at F000:8000.
fn firmware(dir: &tempfile::TempDir, name: &str, code: &[u8]) -> String {
    let mut image = vec![0xff; 0x1_0000];
    image[0x8000..0x8000 + code.len()].copy_from_slice(code);
    // jmp near to 8000h.
    image[0xfff0..0xfff3].copy_from_slice(&[0xe9, 0x0d, 0x80]);
    let path = dir.path().join(name);
    std::fs::write(&path, image).expect("a temporary file can be written");
    path.to_str().expect("temporary names are UTF-8").to_owned()
}

/// cli; hlt; jmp back
const HALT: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];
/// Sends back what comes in on COM1: l: mov dx, 3FDh; in al, dx; test al, 1; jz l; mov dx, 3F8h; in al, dx; out dx, al;
/// jmp l
const ECHO: &[u8] =
    &[0xba, 0xfd, 0x03, 0xec, 0xa8, 1, 0x74, 0xf8, 0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb, 0xf1];
/// Sends 0, 1, 2 … on COM1 whenever the transmitter is empty: mov bl, 0; l: mov dx, 3FDh; in al, dx; test al, 20h; jz l;
/// mov dx, 3F8h; mov al, bl; out dx, al; inc bl; jmp l
const COUNT: &[u8] = &[
    0xb3, 0, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xf8, 0xba, 0xf8, 0x03, 0x88, 0xd8, 0xee,
    0xfe, 0xc3, 0xeb, 0xee,
];

/// What a reader thread has seen so far.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<u8>>>);

impl Seen {
    fn of(mut from: impl Read + Send + 'static) -> Self {
        let seen = Self::default();
        let theirs = seen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                theirs.0.lock().expect("no panic").extend_from_slice(&bytes[..n]);
            }
        });
        seen
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned()
    }

    /// Waits for `text`, and forgets everything up to its end.
    #[track_caller]
    fn wait_for(&self, text: &str) {
        let start = Instant::now();
        loop {
            let mut seen = self.0.lock().expect("no panic");
            let found = seen.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                seen.drain(..at + text.len());
                return;
            }
            drop(seen);
            assert!(start.elapsed() < LIMIT, "{text:?} not in {:?}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The command, which does not outlive a test that fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended by itself if all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The command on a terminal of its own.
struct AtTerminal {
    child: Running,
    keys: File,
    seen: Seen,
    terminal: File,
    /// The terminal's modes before the command started.
    before: String,
}

impl AtTerminal {
    fn run(args: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).expect("a pseudo-terminal");
        unlockpt(&master).expect("a pseudo-terminal");
        let name = ptsname(&master, Vec::new()).expect("a pseudo-terminal has a name");
        let name = name.to_str().expect("ASCII").to_owned();
        let terminal = OpenOptions::new().read(true).write(true).open(name).expect("its other end");
        let master: OwnedFd = master;
        let keys = File::from(master);
        let seen = Seen::of(keys.try_clone().expect("a handle"));
        let before = format!("{:?}", tcgetattr(&terminal).expect("a terminal"));
        let end = || Stdio::from(terminal.try_clone().expect("a handle"));
        let child = Command::new(env!("CARGO_BIN_EXE_stele"))
            .args(args)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("the command starts");
        Self { child: Running(child), keys, seen, terminal, before }
    }

    fn type_keys(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).expect("the terminal takes keys");
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.terminal).expect("a terminal");
        !modes.local_modes.contains(LocalModes::ICANON)
    }

    #[track_caller]
    fn wait_raw(&self, raw: bool) {
        let start = Instant::now();
        while self.is_raw() != raw {
            assert!(start.elapsed() < LIMIT, "the terminal does not become raw={raw}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[track_caller]
fn ends(child: &mut Running) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.0.try_wait().expect("a child can be waited for") {
            return status;
        }
        if start.elapsed() > LIMIT {
            panic!("the command does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn send(child: &Running, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.0.id().to_string()]).status();
    assert!(sent.expect("kill is there").success());
}

#[test]
fn the_terminal_is_as_before_whatever_ends_the_run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let halt = firmware(&dir, "halt.bin", HALT);
    for (signal, code) in [("", 0), ("-INT", 130), ("-TERM", 143), ("-HUP", 129), ("-QUIT", 131)] {
        for display in [&["-nographic"][..], &["-display", "tty"]] {
            let mut at = AtTerminal::run(&[display, &["-bios", &halt]].concat());
            at.wait_raw(true);
            at.seen.wait_for("Ctrl-a x quits");
            match signal {
                "" => at.type_keys(b"\x01x"),
                signal => send(&at.child, signal),
            }
            assert_eq!(ends(&mut at.child).code(), Some(code), "{signal} {display:?}");
            let after = format!("{:?}", tcgetattr(&at.terminal).expect("a terminal"));
            assert_eq!(at.before.contains("ICANON"), after.contains("ICANON"));
            assert!(!at.is_raw(), "{signal} {display:?}");
        }
    }
}

#[test]
fn a_stopped_process_gives_the_terminal_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let echo = firmware(&dir, "echo.bin", ECHO);
    let mut at = AtTerminal::run(&["-nographic", "-vga", "none", "-bios", &echo]);
    at.wait_raw(true);
    send(&at.child, "-TSTP");
    at.wait_raw(false);
    send(&at.child, "-CONT");
    at.wait_raw(true);
    at.type_keys(b"still here");
    at.seen.wait_for("still here");
    at.type_keys(b"\x01x");
    assert_eq!(ends(&mut at.child).code(), Some(0));
}

#[test]
fn ctrl_a_moves_between_serial_port_and_monitor() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let echo = firmware(&dir, "echo.bin", ECHO);
    let mut at = AtTerminal::run(&["-nographic", "-vga", "none", "-bios", &echo]);
    at.seen.wait_for("Ctrl-a x quits, Ctrl-a h helps");
    at.wait_raw(true);
    at.type_keys(b"to the guest ");
    at.seen.wait_for("to the guest ");
    at.type_keys(b"\x01h");
    at.seen.wait_for("Ctrl-a c  switch between console and monitor");
    at.type_keys(b"\x01c");
    at.seen.wait_for("(stele) ");
    at.type_keys(b"info sttus\x7f\x7f\x7fatus\r");
    at.seen.wait_for("VM status: running");
    at.type_keys(b"info charde\t\r");
    at.seen.wait_for("serial0: filename=stdio (mux of 2, focus 1)");
    at.type_keys(b"\x01cback\x01\x01");
    at.seen.wait_for("back\x01");
    at.type_keys(b"\x01cquit\r");
    assert_eq!(ends(&mut at.child).code(), Some(0));
}

#[test]
fn the_display_has_a_monitor_behind_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let halt = firmware(&dir, "halt.bin", HALT);
    let mut at = AtTerminal::run(&["-bios", &halt]);
    at.wait_raw(true);
    at.type_keys(b"\x01c");
    at.seen.wait_for("(stele) ");
    at.type_keys(b"info cpus\r");
    at.seen.wait_for("* CPU #0");
    at.type_keys(b"\x01c\x01cquit\r");
    assert_eq!(ends(&mut at.child).code(), Some(0));
}

fn connect(path: &Path) -> UnixStream {
    let start = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(error) => assert!(start.elapsed() < LIMIT, "{}: {error}", path.display()),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn peers_of_sockets_come_and_go() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let echo = firmware(&dir, "echo.bin", ECHO);
    let (monitor, serial) = (dir.path().join("monitor"), dir.path().join("serial"));
    let unix = |path: &Path| format!("unix:{},server,nowait", path.display());
    let child = Command::new(env!("CARGO_BIN_EXE_stele"))
        .args(["-display", "none", "-vga", "none", "-S", "-bios", &echo])
        .args(["-monitor", &unix(&monitor), "-serial", &unix(&serial)])
        .stdin(Stdio::null())
        .spawn()
        .expect("the command starts");
    let mut child = Running(child);
    // Rubbish, floods, and a peer that leaves at once.
    drop(connect(&monitor));
    for rubbish in [&b"\x00\xff\x1b[[[\n"[..], b"help\nhelp", &[b'x'; 100_000]] {
        // The command may have had enough of it.
        let _ = connect(&monitor).write_all(rubbish);
    }
    let mut out = connect(&monitor);
    let seen = Seen::of(out.try_clone().expect("a handle"));
    seen.wait_for("(stele) ");
    out.write_all(b"info status\ncont\ninfo status\n").expect("it reads");
    seen.wait_for("paused");
    seen.wait_for("running");
    for _ in 0..3 {
        let mut line = connect(&serial);
        line.write_all(b"hello").expect("it reads");
        Seen::of(line.try_clone().expect("a handle")).wait_for("hello");
        line.shutdown(std::net::Shutdown::Both).expect("it can be closed");
    }
    // A peer that closes its half still gets its answers.
    out.shutdown(std::net::Shutdown::Both).expect("it can be closed");
    let mut script = connect(&monitor);
    script.write_all(b"info version\n").expect("it reads");
    script.shutdown(std::net::Shutdown::Write).expect("it can be closed");
    Seen::of(script).wait_for(env!("CARGO_PKG_VERSION"));
    let mut last = connect(&monitor);
    last.write_all(b"quit\n").expect("it reads");
    assert_eq!(ends(&mut child).code(), Some(0));
    assert!(!monitor.exists(), "the socket's file is removed");
}

#[test]
fn a_slow_reader_gets_every_byte_in_order() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let count = firmware(&dir, "count.bin", COUNT);
    let serial = dir.path().join("serial");
    let child = Command::new(env!("CARGO_BIN_EXE_stele"))
        .args(["-display", "none", "-vga", "none", "-bios", &count])
        .args(["-serial", &format!("unix:{},server", serial.display())])
        .args(["-monitor", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts");
    let mut child = Running(child);
    let mut line = connect(&serial);
    std::thread::sleep(Duration::from_millis(300));
    let mut bytes = vec![0; 400_000];
    line.read_exact(&mut bytes).expect("the guest goes on when there is room");
    assert!(bytes.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)));
    // Nobody reads any more, and the monitor still answers.
    let seen = Seen::of(child.0.stdout.take().expect("piped"));
    let mut stdin = child.0.stdin.take().expect("piped");
    stdin.write_all(b"info status\nquit\n").expect("it reads");
    seen.wait_for("VM status: running");
    assert_eq!(ends(&mut child).code(), Some(0));
}

#[test]
fn a_pseudo_terminal_is_announced_and_works() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let echo = firmware(&dir, "echo.bin", ECHO);
    let child = Command::new(env!("CARGO_BIN_EXE_stele"))
        .args(["-display", "none", "-vga", "none", "-bios", &echo, "-serial", "pty"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut child = Running(child);
    let errors = Seen::of(child.0.stderr.take().expect("piped"));
    errors.wait_for("char device redirected to ");
    let start = Instant::now();
    while !errors.text().contains(" (label serial0)") {
        assert!(start.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(5));
    }
    let path = errors.text().split(' ').next().expect("a name").to_owned();
    for _ in 0..2 {
        let mut user = OpenOptions::new().read(true).write(true).open(&path).expect("a terminal");
        // It takes a moment until the other side knows that somebody is there.
        std::thread::sleep(Duration::from_millis(400));
        user.write_all(b"hello").expect("it reads");
        let mut bytes = [0; 5];
        user.read_exact(&mut bytes).expect("the guest answers");
        assert_eq!(&bytes, b"hello");
    }
    send(&child, "-TERM");
    assert_eq!(ends(&mut child).code(), Some(143));
}

#[test]
fn the_end_of_stdin_changes_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let halt = firmware(&dir, "halt.bin", HALT);
    let child = Command::new(env!("CARGO_BIN_EXE_stele"))
        .args(["-nographic", "-vga", "none", "-bios", &halt])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the command starts");
    let mut child = Running(child);
    std::thread::sleep(Duration::from_millis(1500));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.0.id())).expect("it runs");
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    assert!(ticks < 75, "a halted guest used {ticks} ticks of 10 ms");
    send(&child, "-TERM");
    assert_eq!(ends(&mut child).code(), Some(143));
}
