//! A pseudo-terminal as a far end: we hold the master, whoever opens its name has the other side.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::super::line::Line;
use super::{Demux, spawn};

/// How often an end without a user is looked at.
const IDLE: Duration = Duration::from_millis(100);

/// The master.
#[derive(Debug)]
pub(super) struct Pty {
    master: OwnedFd,
    path: PathBuf,
}

impl Pty {
    /// Makes a pair; its other side is raw, and counts as closed until somebody opens it.
    pub(super) fn open() -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let path = PathBuf::from(OsStr::from_bytes(name.as_bytes()));
        // Only after a close does the master report that nobody is there.
        let other = open_other(&path)?;
        let mut modes = tcgetattr(&other)?;
        modes.make_raw();
        tcsetattr(&other, OptionalActions::Now, &modes)?;
        drop(other);
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        Ok(Self { master, path })
    }

    /// The name of the other side.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts the threads.
    pub(super) fn start(self, demux: Demux) -> io::Result<()> {
        let master = Arc::new(self.master);
        let (line, theirs) = (demux.line.clone(), master.clone());
        spawn(move || read(&master, demux));
        spawn(move || write(&theirs, &line));
        Ok(())
    }
}

fn open_other(path: &Path) -> io::Result<File> {
    let no_ctty = OFlags::NOCTTY.bits().cast_signed();
    OpenOptions::new().read(true).write(true).custom_flags(no_ctty).open(path)
}

/// Waits for `wanted`, at most a second; what there is.
fn look(master: &OwnedFd, wanted: PollFlags) -> PollFlags {
    let fd = master.as_fd();
    let mut fds = [PollFd::new(&fd, wanted)];
    match poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })) {
        Ok(_) => fds[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

fn read(master: &OwnedFd, mut demux: Demux) {
    let line = demux.line.clone();
    let mut bytes = [0; 1024];
    while !line.is_closed() {
        let found = look(master, PollFlags::IN);
        let has_user = !found.contains(PollFlags::HUP);
        if has_user != line.has_peer() {
            line.set_peer(has_user);
        }
        if found.contains(PollFlags::IN) {
            let n = rustix::io::read(master, &mut bytes).unwrap_or(0);
            let waits = || !look_now(master).contains(PollFlags::HUP);
            if n > 0 && !demux.take(&bytes[..n], waits) && line.is_closed() {
                return;
            }
        } else if !has_user {
            std::thread::sleep(IDLE);
        }
    }
}

fn look_now(master: &OwnedFd) -> PollFlags {
    let fd = master.as_fd();
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => fds[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

fn write(master: &OwnedFd, line: &Line) {
    let mut bytes = Vec::new();
    while line.take_output(&mut bytes) {
        let mut rest = &bytes[..];
        // What a user who left did not read is dropped.
        while !rest.is_empty() && line.has_peer() && !line.is_closed() {
            match rustix::io::write(master, rest) {
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                    look(master, PollFlags::OUT);
                }
                Err(_) => break,
            }
        }
        bytes.clear();
    }
}
