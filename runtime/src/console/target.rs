//! The far ends a line can have, as plain data.

use std::fmt;
use std::path::PathBuf;

use devices::chardev::BufferChar;

/// The far end of a character device.
#[derive(Clone, Debug)]
pub enum CharTarget {
    /// There is no such device.
    None,
    /// The device exists, its output is dropped.
    Null,
    /// stdin and stdout.
    Stdio,
    /// Output to a file.
    File(PathBuf),
    /// Output to a file, behind what it holds.
    Append(PathBuf),
    /// A pseudo-terminal; its name is printed.
    Pty,
    /// A stream socket.
    Socket(SocketTarget),
    /// A pair of named pipes, `PATH.in` and `PATH.out`, or one device for both.
    Pipe(PathBuf),
    /// The character device of this name.
    Chardev(String),
    /// A buffer in memory, for embedders and tests.
    Buffer(BufferChar),
}

/// A socket as a far end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketTarget {
    /// Where.
    pub address: SocketAddress,
    /// Listen there, instead of connecting.
    pub server: bool,
    /// A server waits for its first peer before the machine starts.
    pub wait: bool,
}

/// Where a socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketAddress {
    /// A path in the file system.
    Unix(PathBuf),
    /// Host name and port.
    Tcp(String, u16),
}

/// A character device with a name of its own.
#[derive(Clone, Debug)]
pub struct CharConfig {
    /// Its name.
    pub id: String,
    /// Its far end.
    pub target: CharTarget,
    /// Several devices share it, and the escape character works.
    pub mux: bool,
}

impl fmt::Display for CharTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Null => f.write_str("null"),
            Self::Stdio => f.write_str("stdio"),
            Self::File(path) | Self::Append(path) => write!(f, "file:{}", path.display()),
            Self::Pty => f.write_str("pty"),
            Self::Socket(socket) => write!(f, "{socket}"),
            Self::Pipe(path) => write!(f, "pipe:{}", path.display()),
            Self::Chardev(id) => write!(f, "chardev:{id}"),
            Self::Buffer(_) => f.write_str("memory"),
        }
    }
}

impl fmt::Display for SocketTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            SocketAddress::Unix(path) => write!(f, "unix:{}", path.display())?,
            SocketAddress::Tcp(host, port) => write!(f, "tcp:{host}:{port}")?,
        }
        f.write_str(if self.server { ",server" } else { "" })
    }
}
