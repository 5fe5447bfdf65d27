//! A `stele` process and what its guest says: start, expect, send, exit code. And the guests, or a loud skip.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use guests::{Arch, Error, Linux, Store};

/// How long a guest may be silent about what is expected of it: it hangs then, however busy the host is with other things.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Bytes a process wrote, with a signal when more come.
#[derive(Default)]
struct Heard {
    bytes: Mutex<(Vec<u8>, bool)>,
    more: Condvar,
}

/// A running emulator whose guest talks on stdin and stdout.
pub(crate) struct Guest {
    child: Child,
    input: Option<ChildStdin>,
    heard: Arc<Heard>,
    /// Up to here the output has been expected.
    seen: usize,
    patience: Duration,
}

impl Guest {
    /// Starts `stele` with these options.
    pub(crate) fn stele<S: AsRef<OsStr>>(options: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stele"));
        command.args(options);
        Self::start(&mut command)
    }

    /// Starts any emulator: the oracle of some tests is QEMU.
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("the emulator starts");
        let mut output = child.stdout.take().expect("stdout is a pipe");
        let heard = Arc::new(Heard::default());
        let listener = heard.clone();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            let mut filter = Plain::default();
            loop {
                let read = output.read(&mut piece).unwrap_or(0);
                let mut bytes = listener.bytes.lock().unwrap();
                bytes.0.extend(piece[..read].iter().filter(|&&byte| filter.is_text(byte)));
                bytes.1 = read == 0;
                listener.more.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        Self { child, input, heard, seen: 0, patience: PATIENCE }
    }

    /// Waits that much for each thing expected.
    pub(crate) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Waits until the guest has said `text` after what was expected before; returns what came before it.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) -> String {
        self.expect_any(&[text]).1
    }

    /// Waits for the first of several texts; returns which, and what came before it.
    #[track_caller]
    pub(crate) fn expect_any(&mut self, texts: &[&str]) -> (usize, String) {
        let deadline = Instant::now() + self.patience;
        let mut heard = self.heard.bytes.lock().unwrap();
        loop {
            let new = &heard.0[self.seen..];
            let places = texts.iter().enumerate();
            let found = places.filter_map(|(which, text)| Some((find(new, text)?, which))).min();
            if let Some((at, which)) = found {
                let before = String::from_utf8_lossy(&new[..at]).replace('\r', "");
                self.seen += at + texts[which].len();
                return (which, before);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if heard.1 || left.is_zero() {
                let why = if heard.1 { "the process ended" } else { "time is up" };
                let tail = String::from_utf8_lossy(&heard.0[heard.0.len().saturating_sub(4000)..])
                    .into_owned();
                drop(heard);
                panic!("{why}, and nothing of {texts:?} came. The last output:\n{tail}");
            }
            heard = self.heard.more.wait_timeout(heard, left).unwrap().0;
        }
    }

    /// Types `text` for the guest.
    pub(crate) fn send(&mut self, text: &str) {
        let input = self.input.as_mut().expect("stdin is open");
        input.write_all(text.as_bytes()).expect("the emulator reads its input");
        input.flush().expect("the emulator reads its input");
    }

    /// Types a command line for the guest's shell, after its prompt; returns what the command printed.
    ///
    /// Begin and end are told by words that the echo of the command line does not contain.
    #[track_caller]
    pub(crate) fn shell(&mut self, command: &str) -> String {
        self.send(&format!("echo be''gin; {command}; echo do''ne\n"));
        self.expect("begin\r\n");
        self.expect("done\r\n").trim().to_owned()
    }

    /// Waits for the process's end; returns its exit code.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> i32 {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("the process is ours") {
                return status.code().expect("it was not killed");
            }
            assert!(Instant::now() < deadline, "no end. The last output:\n{}", self.tail());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the process as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory the process had so far, in MiB.
    pub(crate) fn peak_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("Linux tells it") / 1024
    }

    /// All that was said.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&self.heard.bytes.lock().unwrap().0).replace('\r', "")
    }

    fn tail(&self) -> String {
        let output = self.output();
        let start = output.len().saturating_sub(4000);
        output.chars().skip(start).collect()
    }
}

/// A monitor on a socket: its greeting and prompts are swallowed.
pub(crate) struct Monitor {
    socket: UnixStream,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Monitor {
    /// The options that put a monitor there, and the way to it once the process runs.
    pub(crate) fn options() -> (Vec<String>, impl FnOnce() -> Self) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("monitor");
        let place = format!("unix:{},server,nowait", path.display());
        let connect = move || {
            let deadline = Instant::now() + PATIENCE;
            let socket = loop {
                match UnixStream::connect(&path) {
                    Ok(socket) => break socket,
                    Err(error) => assert!(Instant::now() < deadline, "no monitor: {error}"),
                }
                thread::sleep(Duration::from_millis(20));
            };
            socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
            let mut monitor = Self { socket, path, _dir: dir };
            monitor.answer();
            monitor
        };
        (vec!["-monitor".to_owned(), place], connect)
    }

    /// Gives a command; returns its answer.
    #[track_caller]
    pub(crate) fn command(&mut self, line: &str) -> String {
        let sent = self.socket.write_all(format!("{line}\n").as_bytes());
        sent.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
        let answer = self.answer();
        // Some lines echo what is typed.
        answer.trim_start_matches(line).trim().to_owned()
    }

    /// Everything up to the next prompt.
    fn answer(&mut self) -> String {
        let (mut text, mut byte) = (Vec::new(), [0]);
        while !text.ends_with(b"(stele) ") {
            match self.socket.read(&mut byte) {
                Ok(1) => text.push(byte[0]),
                other => panic!("{other:?} after {}", String::from_utf8_lossy(&text)),
            }
        }
        text.truncate(text.len() - b"(stele) ".len());
        let mut filter = Plain::default();
        text.retain(|&byte| filter.is_text(byte));
        String::from_utf8_lossy(&text).replace('\r', "")
    }
}

/// Tells text from the control sequences of a terminal (ECMA-48), which firmware strews in between its letters.
#[derive(Default)]
struct Plain {
    state: Sequence,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Sequence {
    #[default]
    None,
    /// Behind ESC.
    Escape,
    /// Behind ESC [, until a final byte.
    Control,
}

impl Plain {
    fn is_text(&mut self, byte: u8) -> bool {
        let was = self.state;
        self.state = match (was, byte) {
            (_, 0x1b) => Sequence::Escape,
            (Sequence::Escape, b'[') | (Sequence::Control, 0x20..=0x3f) => Sequence::Control,
            _ => Sequence::None, // was the final byte, or text
        };
        was == Sequence::None && self.state == Sequence::None
    }
}

#[test]
fn control_sequences_are_no_text() {
    let mut plain = Plain::default();
    let text = b"\x1b[23;12H\x1b[23;13Hig\x1bchted\x1b[0;30m.";
    let kept: Vec<u8> = text.iter().copied().filter(|&byte| plain.is_text(byte)).collect();
    assert_eq!(kept, b"ighted.");
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find(bytes: &[u8], text: &str) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text.as_bytes())
}

/// The store of guests that `demo linux` has, too.
pub(crate) fn store() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| {
        Store::open(&Store::default_root(), Box::new(|text| eprintln!("guests: {text}")))
            .expect("the target folder can be written")
    })
}

/// What was fetched, or `None` with a loud word about what is skipped; an error if nothing may be skipped.
#[track_caller]
pub(crate) fn or_skip<T>(what: Result<T, Error>) -> Option<T> {
    match what {
        Ok(it) => Some(it),
        Err(error) => {
            skip(&error.to_string());
            None
        }
    }
}

/// Says that a test is skipped, and fails it if `STELE_REQUIRE_ALL` is set.
#[track_caller]
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("STELE_REQUIRE_ALL").is_none(), "needed: {why}");
    eprintln!("SKIPPED: {why}");
}

/// A guest by width and kernel.
#[track_caller]
pub(crate) fn linux(arch: Arch, flavour: &str) -> Option<Linux> {
    or_skip(Linux::fetch(store(), arch, flavour))
}

/// Options for a kernel with an initramfs that runs `action`.
#[track_caller]
pub(crate) fn kernel_options(linux: &Linux, append: &str) -> Vec<String> {
    let initrd = linux.initramfs(store()).expect("the initramfs can be built");
    kernel_options_with(linux, &initrd, append)
}

/// The same with another initramfs.
pub(crate) fn kernel_options_with(linux: &Linux, initrd: &Path, append: &str) -> Vec<String> {
    let mut options = Vec::new();
    for word in ["-m", "256", "-nographic", "-no-reboot", "-kernel"] {
        options.push(word.to_owned());
    }
    options.push(linux.kernel.image.display().to_string());
    options.extend(["-initrd".to_owned(), initrd.display().to_string(), "-append".to_owned()]);
    // Linux tests the 8254 by ten ticks in 160 ms, and panics: more than a busy host may give the guest to run in. On KVM it does not test.
    let mut words = String::from("console=ttyS0 no_timer_check");
    let _ = write!(words, " {append}");
    options.push(words);
    options
}
