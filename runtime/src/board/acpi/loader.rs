//! The linker's script: tells firmware where to put table files, and which pointers and checksums to fix then.
//!
//! Source: the file `etc/table-loader` as SeaBIOS reads it: commands of 128 bytes, little endian, file names of 56.

const COMMAND_LEN: usize = 128;
const NAME_LEN: usize = 56;
const ALLOCATE: u32 = 1;
const ADD_POINTER: u32 = 2;
const ADD_CHECKSUM: u32 = 3;

/// Where a file goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Zone {
    /// High memory.
    High = 1,
    /// The last 64 KiB of the first MiB.
    Low = 2,
}

/// The script.
#[derive(Default, Debug)]
pub(super) struct Script(Vec<u8>);

impl Script {
    /// Loads `file` at a multiple of `align`.
    pub(super) fn allocate(&mut self, file: &str, align: u32, zone: Zone) {
        self.command(ALLOCATE, &[&padded(file), &align.to_le_bytes(), &[zone as u8]]);
    }

    /// Adds where `target` was put to the `size` bytes at `offset` of `file`.
    pub(super) fn add_pointer(&mut self, file: &str, offset: usize, size: u8, target: &str) {
        let offset = (offset as u32).to_le_bytes();
        self.command(ADD_POINTER, &[&padded(file), &padded(target), &offset, &[size]]);
    }

    /// Makes the sum of `len` bytes from `start` of `file` zero by the byte at `offset`.
    pub(super) fn add_checksum(&mut self, file: &str, offset: usize, start: usize, len: usize) {
        let words = [offset, start, len].map(|word| (word as u32).to_le_bytes());
        self.command(ADD_CHECKSUM, &[&padded(file), words.as_flattened()]);
    }

    /// The script as a file.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn command(&mut self, kind: u32, parts: &[&[u8]]) {
        let start = self.0.len();
        self.0.extend(kind.to_le_bytes());
        parts.iter().for_each(|part| self.0.extend(*part));
        self.0.resize(start + COMMAND_LEN, 0);
    }
}

fn padded(name: &str) -> [u8; NAME_LEN] {
    let mut out = [0; NAME_LEN];
    let n = name.len().min(NAME_LEN - 1);
    out[..n].copy_from_slice(&name.as_bytes()[..n]);
    out
}
