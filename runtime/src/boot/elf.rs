//! ELF files, as far as a loader needs them: loadable segments, notes, the entry point.
//!
//! Source: System V ABI, "Object Files" and "Program Loading", with the i386 and AMD64 supplements.

use super::kernel::{u16_at, u32_at, u64_at};

const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// An executable for x86.
#[derive(Debug)]
pub(super) struct Elf {
    pub(super) is_64: bool,
    pub(super) entry: u64,
    /// Loadable segments.
    pub(super) segments: Vec<Segment>,
    notes: Vec<(u64, u64)>,
}

/// A loadable segment, inside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u32,
    pub(super) file_len: u32,
    pub(super) physical: u64,
    pub(super) memory_len: u64,
    pub(super) linear: u64,
}

/// Does the file begin like an ELF file?
pub(super) fn is_elf(file: &[u8]) -> bool {
    file.starts_with(b"\x7fELF")
}

impl Elf {
    /// Reads the headers.
    ///
    /// # Errors
    /// What is wrong, for the user.
    pub(super) fn parse(file: &[u8]) -> Result<Self, &'static str> {
        let is_64 = match file.get(4..6) {
            Some([1, 1]) => false,
            Some([2, 1]) => true,
            _ => return Err("the ELF file is not little-endian 32- or 64-bit"),
        };
        if file.len() < if is_64 { 64 } else { 52 } {
            return Err("the ELF header is truncated");
        }
        if u16_at(file, 18) != if is_64 { EM_X86_64 } else { EM_386 } {
            return Err("the ELF file is not for x86");
        }
        let word = |at: usize| if is_64 { u64_at(file, at) } else { u64::from(u32_at(file, at)) };
        let (entry, table) = (word(24), word(if is_64 { 32 } else { 28 }));
        let (size, count) = match is_64 {
            true => (u16_at(file, 54), u16_at(file, 56)),
            false => (u16_at(file, 42), u16_at(file, 44)),
        };
        if size < if is_64 { 56 } else { 32 } {
            return Err("the ELF file has no program headers");
        }
        let mut elf = Self { is_64, entry, segments: Vec::new(), notes: Vec::new() };
        for i in 0..u64::from(count) {
            let at = table.checked_add(i * u64::from(size));
            let at = at.and_then(|at| usize::try_from(at).ok());
            let header = at.and_then(|at| file.get(at..at.checked_add(size.into())?));
            elf.add(header.ok_or("the ELF program headers are truncated")?, file.len() as u64)?;
        }
        if elf.segments.is_empty() {
            return Err("the ELF file has nothing to load");
        }
        Ok(elf)
    }

    fn add(&mut self, header: &[u8], file_len: u64) -> Result<(), &'static str> {
        let word = |at64: usize, at32: usize| match self.is_64 {
            true => u64_at(header, at64),
            false => u64::from(u32_at(header, at32)),
        };
        let (offset, linear, physical) = (word(8, 4), word(16, 8), word(24, 12));
        let (in_file, in_memory) = (word(32, 16), word(40, 20));
        let kind = u32_at(header, 0);
        if kind != PT_LOAD && kind != PT_NOTE || in_memory == 0 && in_file == 0 {
            return Ok(());
        }
        if offset.checked_add(in_file).is_none_or(|end| end > file_len) {
            return Err("a segment of the ELF file lies behind its end: it is truncated");
        }
        if kind == PT_NOTE {
            self.notes.push((offset, in_file));
            return Ok(());
        }
        if in_memory < in_file || physical.checked_add(in_memory).is_none_or(|end| end > 1 << 32) {
            return Err("a segment of the ELF file does not lie below 4 GiB");
        }
        let (offset, file_len) = (offset as u32, in_file as u32);
        self.segments.push(Segment { offset, file_len, physical, memory_len: in_memory, linear });
        Ok(())
    }

    /// The bytes of the note of this owner and type.
    pub(super) fn note<'a>(&self, file: &'a [u8], owner: &[u8], kind: u32) -> Option<&'a [u8]> {
        self.notes.iter().find_map(|&(offset, len)| {
            let mut rest = file.get(offset as usize..(offset + len) as usize)?;
            loop {
                // Name and descriptor are padded to 4 bytes.
                let padded = |n: u32| (n as usize).checked_next_multiple_of(4);
                let name_len = padded(u32_at(rest, 0))?;
                let desc_len = u32_at(rest, 4);
                let body = rest.get(12..)?;
                let desc = body.get(name_len..)?;
                let is_it = u32_at(rest, 8) == kind && body.get(..owner.len()) == Some(owner);
                if is_it {
                    return desc.get(..desc_len as usize);
                }
                rest = desc.get(padded(desc_len)?..)?;
            }
        })
    }

    /// First and last physical address of all segments.
    pub(super) fn extent(&self) -> (u64, u64) {
        let start = self.segments.iter().map(|s| s.physical).min().unwrap_or(0);
        let end = self.segments.iter().map(|s| s.physical + s.memory_len).max().unwrap_or(0);
        (start, end)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An ELF32 file: one segment of `code` at `at` with 16 bytes of cleared memory behind it, one note.
    pub(in crate::boot) fn elf32(at: u32, code: &[u8], note: &[u8]) -> Vec<u8> {
        let mut file = b"\x7fELF\x01\x01\x01".to_vec();
        file.resize(16, 0);
        for half in [2u16, EM_386, 1, 0] {
            file.extend(half.to_le_bytes());
        }
        for word in [at, 52, 0, 0] {
            file.extend(word.to_le_bytes());
        }
        for half in [52u16, 32, 2, 0, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        let start = 52 + 64u32;
        let (len, note_at) = (code.len() as u32, start + code.len() as u32);
        for word in [PT_LOAD, start, at, at, len, len + 16, 7, 4] {
            file.extend(word.to_le_bytes());
        }
        for word in [PT_NOTE, note_at, 0, 0, note.len() as u32, note.len() as u32, 4, 4] {
            file.extend(word.to_le_bytes());
        }
        file.extend(code);
        file.extend(note);
        file
    }

    #[test]
    fn segments_and_notes() {
        let note = b"\x04\0\0\0\x04\0\0\0\x01\0\0\0GNU\0abcd\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\x10\x20\x30\0";
        let file = elf32(0x10_0000, &[0x90; 40], note);
        let elf = Elf::parse(&file).unwrap();
        assert_eq!(
            (elf.is_64, elf.entry, elf.extent()),
            (false, 0x10_0000, (0x10_0000, 0x10_0038))
        );
        assert_eq!(elf.note(&file, b"Xen\0", 18), Some(&b"\x10\x20\x30\0"[..]));
        assert_eq!(elf.note(&file, b"Xen\0", 17), None);
        assert!(Elf::parse(&file[..file.len() - 1]).is_err());
        for len in 0..file.len() {
            let _ = Elf::parse(&file[..len]);
        }
    }

    #[test]
    fn no_file_makes_it_panic() {
        let file = elf32(0x10_0000, &[0x90; 40], &[1; 64]);
        let mut seed = 7u64;
        for _ in 0..50_000 {
            let mut file = file.clone();
            for _ in 0..3 {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                let at = 4 + (seed >> 33) as usize % (file.len() - 4);
                file[at] = (seed >> 56) as u8;
            }
            if let Ok(elf) = Elf::parse(&file) {
                elf.note(&file, b"Xen\0", 18);
                elf.extent();
            }
        }
    }
}
