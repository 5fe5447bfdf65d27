//! A kernel started without a boot loader: `-kernel`, `-initrd`, `-append`.
//!
//! Files are read and checked here, before there is a machine; the format decides who makes the [`Plan`].
//! Every byte of them is untrusted: lengths and addresses are checked against the file and guest memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::plan::Plan;
use super::{bzimage, elf, multiboot, pvh};

/// Firmware keeps its tables at the top of memory below 4 GiB: nothing is loaded there.
pub const TOP_RESERVED: u64 = 512 << 10;
/// The longest command line that fits the place it gets.
pub const CMDLINE_MAX: usize = 0x8000;
/// No kernel or initial RAM disk is larger: it has to lie below 4 GiB.
const FILE_MAX: u64 = 3 << 30;

/// What to boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelConfig {
    /// The kernel: Linux bzImage, PVH or multiboot ELF.
    pub kernel: PathBuf,
    /// Initial RAM disk; with a multiboot kernel `file arguments,file arguments`.
    pub initrd: Option<String>,
    /// The command line.
    pub append: String,
    /// How a bzImage is entered.
    pub entry: EntryMode,
}

/// The boot protocol's entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryMode {
    /// The real-mode code: asks the BIOS about memory and screen by itself.
    #[default]
    Bits16,
    /// 32-bit protected mode.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

/// Why a kernel cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A file cannot be read.
    #[error("cannot read {what} {path}")]
    Read {
        /// Kernel or initrd.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// No format that is known.
    #[error("kernel {0} is no kernel: not a bzImage, a PVH ELF file or a multiboot image")]
    Unknown(PathBuf),
    /// The file contradicts itself.
    #[error("kernel {path}: {what}")]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is not enough memory.
    #[error("{what} needs {needed} bytes, guest memory has room for {room}: more by -m")]
    Memory {
        /// Kernel or initrd.
        what: String,
        /// Bytes wanted.
        needed: u64,
        /// Bytes there.
        room: u64,
    },
    /// The command line is too long.
    #[error("the kernel takes a command line of at most {max} bytes, -append has {len}")]
    CommandLine {
        /// Length given.
        len: usize,
        /// Length allowed.
        max: usize,
    },
}

/// A kernel file, read, with what the formats need to place it.
pub(super) struct Request<'a> {
    pub(super) config: &'a KernelConfig,
    pub(super) file: Vec<u8>,
    /// RAM below 4 GiB.
    pub(super) low_ram: u64,
    /// Is there a VGA card in text mode?
    pub(super) has_vga: bool,
}

impl Request<'_> {
    /// Where nothing may be loaded any more.
    pub(super) fn top(&self) -> u64 {
        self.low_ram.saturating_sub(TOP_RESERVED)
    }

    pub(super) fn bad(&self, what: impl Into<String>) -> KernelError {
        KernelError::Bad { path: self.config.kernel.clone(), what: what.into() }
    }

    /// The command line with its terminating zero.
    pub(super) fn cmdline(&self, max: usize) -> Result<Vec<u8>, KernelError> {
        let mut line = self.config.append.clone().into_bytes();
        let max = max.min(CMDLINE_MAX - 1);
        if line.len() > max {
            return Err(KernelError::CommandLine { len: line.len(), max });
        }
        line.push(0);
        Ok(line)
    }

    /// The initial RAM disk's bytes; empty without one.
    pub(super) fn initrd(&self) -> Result<Vec<u8>, KernelError> {
        match &self.config.initrd {
            Some(path) => read("initrd", Path::new(path)),
            None => Ok(Vec::new()),
        }
    }

    /// A page below `max` for `len` bytes, as high as possible, above `floor`.
    pub(super) fn place_high(
        &self,
        what: &str,
        len: usize,
        floor: u64,
        max: u64,
    ) -> Result<u32, KernelError> {
        let top = self.top().min(max);
        let at = top.checked_sub(len as u64).map(|at| at & !0xfff).filter(|&at| at >= floor);
        at.map(|at| at as u32).ok_or_else(|| KernelError::Memory {
            what: what.to_owned(),
            needed: len as u64,
            room: top.saturating_sub(floor),
        })
    }
}

/// Reads the kernel and makes the plan to boot it in a machine with `low_ram` bytes below 4 GiB.
///
/// # Errors
/// One line: which file, what is wrong with it.
pub fn load(config: &KernelConfig, low_ram: u64, has_vga: bool) -> Result<Plan, KernelError> {
    let file = read("kernel", &config.kernel)?;
    plan(Request { config, file, low_ram, has_vga })
}

fn plan(request: Request<'_>) -> Result<Plan, KernelError> {
    if bzimage::is_bzimage(&request.file) {
        return bzimage::plan(request);
    }
    if let Some(header) = multiboot::find(&request.file) {
        return multiboot::plan(&request, header);
    }
    if elf::is_elf(&request.file) {
        return pvh::plan(&request);
    }
    Err(KernelError::Unknown(request.config.kernel.clone()))
}

/// Does the kernel write to a screen nobody sees? Only Linux's own default is known: without `console=` it is
/// the VGA card.
pub fn lacks_console(config: &KernelConfig) -> bool {
    !config.append.split_whitespace().any(|word| word.starts_with("console=")) && {
        let mut head = Vec::new();
        let file = File::open(&config.kernel);
        file.and_then(|file| file.take(0x1000).read_to_end(&mut head)).is_ok()
            && bzimage::is_bzimage(&head)
    }
}

pub(super) fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, KernelError> {
    let wrap = |source| KernelError::Read { what, path: path.to_owned(), source };
    let file = File::open(path).map_err(wrap)?;
    let len = file.metadata().map_err(wrap)?.len();
    let mut bytes = Vec::with_capacity(len.min(FILE_MAX) as usize);
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(wrap)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(wrap(io::Error::other("larger than 3 GiB")));
    }
    Ok(bytes)
}

/// Little-endian fields of a file; zero outside.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    array_at(bytes, at).map_or(0, u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    array_at(bytes, at).map_or(0, u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    array_at(bytes, at).map_or(0, u64::from_le_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Stores a 32-bit little-endian field.
pub(super) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A plan for bytes that were never a file.
    pub(in crate::boot) fn plan_of(
        file: Vec<u8>,
        config: &KernelConfig,
        low_ram: u64,
    ) -> Result<Plan, KernelError> {
        plan(Request { config, file, low_ram, has_vga: true })
    }

    #[test]
    fn rubbish_is_no_kernel() {
        let config = KernelConfig::default();
        for file in [vec![], vec![0; 100], vec![0xff; 100_000], b"#!/bin/sh\n".to_vec()] {
            assert!(matches!(plan_of(file, &config, 64 << 20), Err(KernelError::Unknown(_))));
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let config = KernelConfig { kernel: "/no/such/vmlinuz".into(), ..Default::default() };
        let text = load(&config, 64 << 20, true).unwrap_err().to_string();
        assert_eq!(text, "cannot read kernel /no/such/vmlinuz");
    }
}
