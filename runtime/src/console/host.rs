//! The host ends of lines: files, sockets, pseudo-terminals, stdin and stdout. Each has a thread per direction,
//! which block on the host so that the machine never does. Peers are not trusted: they may stop reading, flood, or
//! go away at any byte.

mod pty;
mod socket;

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::escape::{self, Answer, Command, Escape};
use super::line::{Line, Received};
use super::target::CharTarget;
use super::{Input, InputSender};

/// What a signal SIGPIPE would be.
const SIGPIPE: i32 = 13;
/// How long the end of a run waits for a peer to read.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// An open host end.
#[derive(Debug)]
pub struct Host {
    line: Line,
    /// For the user: what it is.
    name: String,
    kind: Kind,
    escape: Option<u8>,
    /// Removed with the host end.
    socket_file: Option<PathBuf>,
}

#[derive(Debug)]
enum Kind {
    Stdio,
    File(File),
    Pipe { input: File, output: File },
    Pty(pty::Pty),
    Server(socket::Server),
    Client(socket::Stream),
    Started,
}

impl Host {
    /// Opens a host end; `None` for targets that are none. With `escape` this character speaks to the emulator.
    ///
    /// # Errors
    /// The host refuses.
    pub fn open(target: &CharTarget, label: &str, escape: Option<u8>) -> io::Result<Option<Self>> {
        let mut name = target.to_string();
        let mut socket_file = None;
        let kind = match target {
            CharTarget::None
            | CharTarget::Null
            | CharTarget::Chardev(_)
            | CharTarget::Buffer(_) => return Ok(None),
            CharTarget::Stdio => Kind::Stdio,
            CharTarget::File(path) => Kind::File(File::create(path)?),
            CharTarget::Append(path) => {
                Kind::File(OpenOptions::new().append(true).create(true).open(path)?)
            }
            CharTarget::Pipe(path) => open_pipe(path)?,
            CharTarget::Pty => {
                let pty = pty::Pty::open()?;
                name = format!("pty:{}", pty.path().display());
                Kind::Pty(pty)
            }
            CharTarget::Socket(socket) if socket.server => {
                let server = socket::Server::bind(socket)?;
                socket_file = server.file();
                Kind::Server(server)
            }
            CharTarget::Socket(socket) => Kind::Client(socket::connect(&socket.address)?),
        };
        let is_patient = matches!(kind, Kind::Stdio | Kind::File(_));
        let line = Line::new(label, is_patient);
        Ok(Some(Self { line, name, kind, escape, socket_file }))
    }

    /// Its line.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Is it stdin and stdout?
    pub fn is_stdio(&self) -> bool {
        self.name == "stdio"
    }

    /// Does the escape character work here?
    pub fn has_escape(&self) -> bool {
        self.escape.is_some()
    }

    /// Is a person expected at a terminal there?
    pub fn is_interactive(&self) -> bool {
        match self.kind {
            Kind::Stdio => io::stdin().is_terminal(),
            Kind::Pty(_) => true,
            _ => false,
        }
    }

    /// What a user must know to use it, if anything.
    pub fn announcement(&self) -> Option<String> {
        match &self.kind {
            Kind::Pty(pty) => Some(format!(
                "char device redirected to {} (label {})",
                pty.path().display(),
                self.line.label()
            )),
            Kind::Server(server) if server.waits() => {
                Some(format!("waiting for a connection on {}", self.name))
            }
            _ => None,
        }
    }

    /// Starts its threads, once. A server that waits, waits here for its first peer.
    ///
    /// # Errors
    /// No peer can come, or no thread.
    pub fn start(&mut self, sender: &InputSender) -> io::Result<()> {
        self.line.connect(sender);
        let line = self.line.clone();
        let demux = Demux { line: line.clone(), escape: self.escape.map(Escape::new) };
        match std::mem::replace(&mut self.kind, Kind::Started) {
            Kind::Stdio => {
                line.set_peer(true);
                spawn(move || read_all(io::stdin().lock(), demux));
                spawn(move || write_stdout(&line));
            }
            Kind::File(file) => {
                line.set_peer(true);
                spawn(move || write_all(file, &line));
            }
            Kind::Pipe { input, output } => {
                line.set_peer(true);
                spawn(move || read_all(input, demux));
                spawn(move || write_all(output, &line));
            }
            Kind::Pty(pty) => pty.start(demux)?,
            Kind::Server(server) => server.start(demux)?,
            Kind::Client(stream) => socket::start_client(stream, demux)?,
            Kind::Started => {}
        }
        Ok(())
    }

    /// Waits until everything is written.
    pub fn flush(&self) {
        self.line.flush(FLUSH_LIMIT);
    }

    /// One line for `info chardev`.
    pub fn describe(&self) -> String {
        self.line.describe(&self.name)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.line.close();
        if let Some(path) = &self.socket_file {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// `PATH.in` and `PATH.out` if they exist, else `PATH` for both.
fn open_pipe(path: &Path) -> io::Result<Kind> {
    let with = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    // Reading and writing: opening neither waits for a peer nor ends when one leaves.
    let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
    match (open(&with(".in")), open(&with(".out"))) {
        (Ok(input), Ok(output)) => Ok(Kind::Pipe { input, output }),
        _ => {
            let both = open(path)?;
            Ok(Kind::Pipe { input: both.try_clone()?, output: both })
        }
    }
}

/// Gives a line the terminal as its far end; its input is typed by `Line::feed`.
pub fn show_on_terminal(line: &Line, sender: &InputSender) {
    line.connect(sender);
    let line = line.clone();
    spawn(move || write_stdout(&line));
}

fn spawn(work: impl FnOnce() + Send + 'static) {
    std::thread::spawn(work);
}

/// Takes the escapes out of what comes in.
#[derive(Debug)]
struct Demux {
    line: Line,
    escape: Option<Escape>,
}

impl Demux {
    /// Passes bytes on; false when the machine is gone, or `alive` said that the peer is.
    fn take(&mut self, bytes: &[u8], mut alive: impl FnMut() -> bool) -> bool {
        let mut items = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            let answer = match &mut self.escape {
                Some(escape) => escape.byte(byte),
                None => Answer::Pass(byte),
            };
            match answer {
                Answer::Pass(byte) => items.push(Received::Byte(byte)),
                Answer::Nothing => {}
                Answer::Command(command) => {
                    if !self.line.feed(&items, &mut alive) || !self.command(command, &mut alive) {
                        return false;
                    }
                    items.clear();
                }
            }
        }
        self.line.feed(&items, alive)
    }

    fn command(&self, command: Command, alive: impl FnMut() -> bool) -> bool {
        match command {
            Command::Monitor => self.line.next_focus(),
            Command::Break => self.line.feed(&[Received::Break], alive),
            Command::Stamps => {
                self.line.toggle_stamps();
                true
            }
            Command::Help => {
                let key = self.escape.as_ref().map_or(escape::CTRL_A, Escape::character);
                self.line.print(&format!("\r\n{}\r\n", escape::help(key).join("\r\n")));
                true
            }
            Command::Quit | Command::Flush => self.line.tell(Input::Command(command)),
        }
    }
}

/// Reads to the end.
fn read_all(mut from: impl Read, mut demux: Demux) {
    let mut bytes = [0; 1024];
    loop {
        match from.read(&mut bytes) {
            Ok(0) => return,
            Ok(n) => {
                if !demux.take(&bytes[..n], || true) {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A terminal that went away, or that this process may not read in the background.
            Err(_) => return,
        }
    }
}

/// Writes what the line brings; an error is told once, and later bytes are dropped.
fn write_all(mut to: impl Write, line: &Line) {
    let mut bytes = Vec::new();
    while line.take_output(&mut bytes) {
        if let Err(error) = to.write_all(&bytes) {
            log::error!("cannot write output of {}: {error}", line.label());
            line.set_peer(false);
            return;
        }
        bytes.clear();
    }
}

fn write_stdout(line: &Line) {
    let mut stdout = io::stdout();
    let mut bytes = Vec::new();
    while line.take_output(&mut bytes) {
        if let Err(error) = stdout.write_all(&bytes).and_then(|()| stdout.flush()) {
            // Nobody listens any more: end as a program that SIGPIPE ended.
            if error.kind() != io::ErrorKind::BrokenPipe {
                log::error!("cannot write to stdout: {error}");
            }
            line.set_peer(false);
            line.tell(Input::Signal(SIGPIPE));
            return;
        }
        bytes.clear();
    }
}
