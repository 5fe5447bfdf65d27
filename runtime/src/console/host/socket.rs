//! Stream sockets as far ends: a server that takes one peer after the other, or a client.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::line::Line;
use super::super::target::{SocketAddress, SocketTarget};
use super::{Demux, spawn};

/// How long a peer that is gone may hold the place while the guest has not taken what it sent.
const GONE_LIMIT: Duration = Duration::from_secs(2);

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
        })
    }

    fn shutdown(&self) {
        // A peer that has gone already makes it fail: as good.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }

    /// Has the peer closed its end?
    fn is_gone(&self) -> bool {
        let fd = self.fd();
        let mut fds = [PollFd::new(&fd, PollFlags::RDHUP)];
        let found = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        found.is_ok_and(|n| n > 0) && fds[0].revents().intersects(gone)
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(bytes),
            Self::Tcp(stream) => stream.read(bytes),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.write_all(bytes),
            Self::Tcp(stream) => stream.write_all(bytes),
        }
    }
}

#[derive(Debug)]
enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Server {
    listener: Listener,
    file: Option<PathBuf>,
    wait: bool,
}

impl Server {
    /// Listens at the target's address.
    pub(super) fn bind(target: &SocketTarget) -> io::Result<Self> {
        let (listener, file) = match &target.address {
            SocketAddress::Unix(path) => {
                remove_stale(path);
                (Listener::Unix(UnixListener::bind(path)?), Some(path.clone()))
            }
            SocketAddress::Tcp(host, port) => {
                // Without a host only this machine may connect: whoever does commands the guest.
                let host = if host.is_empty() { "127.0.0.1" } else { host };
                (Listener::Tcp(TcpListener::bind((host, *port))?), None)
            }
        };
        Ok(Self { listener, file, wait: target.wait })
    }

    /// The file it made.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.file.clone()
    }

    /// Does the machine wait for the first peer?
    pub(super) fn waits(&self) -> bool {
        self.wait
    }

    fn accept(&self) -> io::Result<Stream> {
        loop {
            let accepted = match &self.listener {
                Listener::Unix(listener) => listener.accept().map(|(s, _)| Stream::Unix(s)),
                Listener::Tcp(listener) => listener.accept().map(|(stream, _)| {
                    // Keystrokes should not wait for each other; without it they only are slower.
                    let _ = stream.set_nodelay(true);
                    Stream::Tcp(stream)
                }),
            };
            match accepted {
                Err(error) if is_passing(&error) => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                other => return other,
            }
        }
    }

    /// Starts the threads; with `wait` after the first peer has come.
    pub(super) fn start(self, mut demux: Demux) -> io::Result<()> {
        let first = if self.wait { Some(self.accept()?) } else { None };
        let writer = Writer::start(&demux.line);
        spawn(move || {
            let mut next = first.map(Ok);
            loop {
                match next.take().unwrap_or_else(|| self.accept()) {
                    Ok(stream) => {
                        if !serve(stream, &mut demux, &writer) {
                            return;
                        }
                    }
                    Err(error) => {
                        log::error!("{}: cannot accept: {error}", demux.line.label());
                        return;
                    }
                }
            }
        });
        Ok(())
    }
}

/// An error that has to do with one peer or one moment, not with the listening socket.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    let too_many_files = matches!(error.raw_os_error(), Some(23 | 24));
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) || too_many_files
}

/// Removes a socket file that nobody listens at any more.
fn remove_stale(path: &Path) {
    let is_socket = path.symlink_metadata().is_ok_and(|about| about.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        // If it cannot be removed, bind says so.
        let _ = std::fs::remove_file(path);
    }
}

/// Connects to the target's address.
pub(super) fn connect(address: &SocketAddress) -> io::Result<Stream> {
    match address {
        SocketAddress::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path)?)),
        SocketAddress::Tcp(host, port) => {
            let host = if host.is_empty() { "127.0.0.1" } else { host };
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for address in (host, *port).to_socket_addrs()? {
                match TcpStream::connect_timeout(&address, Duration::from_secs(10)) {
                    Ok(stream) => {
                        let _ = stream.set_nodelay(true);
                        return Ok(Stream::Tcp(stream));
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

/// Starts the threads of a connection made by [`connect`].
pub(super) fn start_client(stream: Stream, mut demux: Demux) -> io::Result<()> {
    let writer = Writer::start(&demux.line);
    spawn(move || {
        serve(stream, &mut demux, &writer);
    });
    Ok(())
}

/// The thread that writes to whoever is connected.
#[derive(Clone)]
struct Writer(Arc<Mutex<Option<Stream>>>);

impl Writer {
    fn start(line: &Line) -> Self {
        let writer = Self(Arc::new(Mutex::new(None)));
        let (line, theirs) = (line.clone(), writer.clone());
        spawn(move || {
            let mut bytes = Vec::new();
            while line.take_output(&mut bytes) {
                // A copy of the handle: the reader must be able to shut the connection down meanwhile.
                let stream = theirs.lock().as_ref().and_then(|stream| stream.try_clone().ok());
                if let Some(mut stream) = stream
                    && stream.write_all(&bytes).is_err()
                {
                    stream.shutdown();
                }
                bytes.clear();
            }
        });
        writer
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one peer to its end; false when the machine is gone.
fn serve(mut stream: Stream, demux: &mut Demux, writer: &Writer) -> bool {
    let line = demux.line.clone();
    *writer.lock() = stream.try_clone().ok();
    line.set_peer(true);
    let mut bytes = [0; 1024];
    let mut alive = true;
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => {
                line.linger();
                break;
            }
            Ok(n) => {
                let mut gone_since = None;
                let waits = || {
                    if !stream.is_gone() {
                        return true;
                    }
                    gone_since.get_or_insert_with(Instant::now).elapsed() < GONE_LIMIT
                };
                if !demux.take(&bytes[..n], waits) {
                    alive = !line.is_closed();
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    stream.shutdown();
    *writer.lock() = None;
    line.set_peer(false);
    alive && !line.is_closed()
}
