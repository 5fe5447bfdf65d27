//! Snapshot files: a whole machine at one moment.
//!
//! ```text
//! offset 0      header, one page: magic, version, checksum, sizes, when it was made
//! 4096          the machine's memory; pages of zeros are holes
//! behind it     clusters of 4 KiB: what disks hold only in memory
//! the end       contents: configuration, CPU, board, checksums of memory and clusters, disks
//! ```
//!
//! Memory is neither packed nor copied when it is loaded: the file is mapped copy-on-write, so that
//! a guest goes on before most of its memory was read. All of it is checked first. A file is written
//! under another name, made durable and renamed: what has the snapshot's name is whole.
//!
//! The file is untrusted: lengths are checked against the file's own, nothing is allocated by a
//! number alone, and checksums find what was damaged by accident. They do not say who made it.

mod clusters;
mod contents;
mod file;
mod pages;
mod store;

use std::io;
use std::path::PathBuf;

pub use contents::{Contents, DiskEntry};
pub use file::{Info, Reader, Writer};
pub use store::{Store, date_text, name_now};

pub(crate) use pages::describe;

use mem::StateError;

use crate::board;

/// Bytes of a page, the grain of everything in the file.
pub(crate) const PAGE: u64 = 4096;

/// Why a snapshot cannot be saved, loaded or deleted.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The host refused.
    #[error("cannot {doing} snapshot {path}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// Some other file.
    #[error("{0} is no snapshot")]
    Other(PathBuf),
    /// Another version of the format.
    #[error("snapshot {path} has version {found} of the format, this program reads {expected}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// This program's.
        expected: u32,
    },
    /// Bytes are missing or changed.
    #[error("snapshot {path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it shows.
        what: &'static str,
    },
    /// Another machine.
    #[error("snapshot {path} is of another machine: it has {theirs}, this one {ours}")]
    Machine {
        /// The file.
        path: PathBuf,
        /// What the saved machine has.
        theirs: String,
        /// What this machine has.
        ours: String,
    },
    /// A disk has other contents.
    #[error(
        "disk {disk} was written since snapshot {path} was made; a machine run with -snapshot leaves its images alone"
    )]
    DiskChanged {
        /// The file.
        path: PathBuf,
        /// The disk's place.
        disk: String,
    },
    /// A disk cannot be read or made durable.
    #[error("cannot save disk {disk}")]
    Disk {
        /// Its place.
        disk: String,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// The processor's state cannot be.
    #[error("the snapshot's processor cannot be loaded")]
    Cpu(#[source] StateError),
    /// The board's state cannot be.
    #[error("the snapshot's devices cannot be loaded")]
    Board(#[source] board::SnapshotError),
    /// Not a usable name.
    #[error("{0:?} is no name for a snapshot: letters, digits, and -_.+: are, up to 100")]
    Name(String),
    /// There is none.
    #[error("there is no snapshot {0:?}")]
    Missing(String),
}
