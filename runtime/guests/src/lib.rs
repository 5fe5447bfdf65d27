//! Real guests to run: Debian packages fetched by name, and the initramfs and disk images built from them.
//!
//! Nothing third-party is part of the project. A [`Store`] is a folder, normally `target/guests`, that holds what was
//! fetched with the system's apt (private lists and cache, no root) and what was built from that; `stele demo linux`
//! and the boot tests share it. Everything in it was made in a temporary place and renamed, so that it is whole or
//! absent; deleting the folder is always safe.

#![forbid(unsafe_code)]

mod apt;
mod cpio;
mod disk;
mod linux;
mod modules;
mod store;
mod tools;

pub use cpio::Archive;
pub use disk::{DiskLayout, START_SECTOR, boot_disk, read_back, recover};
pub use linux::{INIT_MARKER, LOGIN_USER, Linux};
pub use store::{Kernel, Progress, Store};
pub use tools::find_program;

use std::path::{Path, PathBuf};

/// Width of a guest's kernel and programs; Debian's names of the two architectures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit.
    Amd64,
    /// 32-bit.
    I386,
}

impl Arch {
    /// Debian's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::I386 => "i386",
        }
    }

    /// Bits of a register.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Amd64 => 64,
            Self::I386 => 32,
        }
    }
}

/// Why a guest could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// A program this needs is not installed and no package can bring it.
    #[error("{program} is missing (Debian package {package})")]
    NoProgram {
        /// Its name.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// A program failed.
    #[error("{program} failed: {line}")]
    Failed {
        /// Its name.
        program: String,
        /// The last line it said.
        line: String,
    },
    /// apt knows no such package, or cannot fetch it.
    #[error("apt cannot fetch {package} ({arch}): {line}")]
    Package {
        /// The package.
        package: String,
        /// For which architecture.
        arch: &'static str,
        /// The last line apt said.
        line: String,
    },
    /// A package does not contain what it should.
    #[error("package {package} has no {what}")]
    Contents {
        /// The package.
        package: String,
        /// What was looked for.
        what: String,
    },
    /// A disk's parts do not fit together.
    #[error("{0}")]
    Layout(String),
}

/// The error of a file operation on `path`.
pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { path, source }
}
