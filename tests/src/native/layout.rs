//! Where everything lies: the linear addresses, rights and descriptors that host and guest share.
//!
//! All of it is in the low 2 GiB, within reach of 16-, 32- and 64-bit code. The pages stand so that every pair of neighbours
//! with different rights exists, for accesses that cross from one into the other.

use x86::state::Segment;

use super::state::Width;

/// Linear address of everything: 16-bit code segments start here.
pub const AREA: u64 = 0x2000_0000;
/// Bytes from [`AREA`] on in which nothing else may be mapped.
pub const AREA_LEN: u64 = 0x10_0000;
/// Two pages of code, readable.
pub const CODE: u64 = AREA + 0x4000;
/// End of the code.
pub const CODE_END: u64 = CODE + 0x2000;
/// Data pages, see [`DATA_RIGHTS`]: 16-bit data segments start here.
pub const DATA: u64 = AREA + 0x1_0000;
/// Linear address of the stack page, the last of the data pages.
pub const STACK: u64 = DATA + 0x7000;
/// Bytes of a page.
pub const PAGE: u64 = 0x1000;

/// What a page may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rights {
    /// Not mapped.
    None,
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// Rights of the data pages.
pub const DATA_RIGHTS: [Rights; 8] = [
    Rights::Write,
    Rights::Write,
    Rights::Read,
    Rights::Write,
    Rights::None,
    Rights::Read,
    Rights::None,
    Rights::Write,
];

/// Numbers of the data pages that may be written: [`DATA_RIGHTS`].
pub const WRITABLE: [usize; 4] = [0, 1, 3, 7];

/// Bytes of all data pages.
pub const DATA_LEN: usize = DATA_RIGHTS.len() * PAGE as usize;

/// Bytes that host and guest hold for the area: code, then data.
pub const BACKING_LEN: usize = (CODE_END - CODE) as usize + DATA_LEN;

/// Place of a linear address in the backing, if it has one.
pub const fn backing(lin: u64) -> Option<usize> {
    if lin >= CODE && lin < CODE_END {
        Some((lin - CODE) as usize)
    } else if lin >= DATA && lin < DATA + DATA_LEN as u64 {
        Some((lin - DATA) as usize + (CODE_END - CODE) as usize)
    } else {
        None
    }
}

/// A descriptor of the local table.
#[derive(Clone, Copy, Debug)]
pub struct Local {
    /// Base.
    pub base: u32,
    /// Limit, in pages if `pages`.
    pub limit: u32,
    /// 0 data, 1 expand-down data, 2 code.
    pub contents: u8,
    /// D/B: 32-bit.
    pub big: bool,
    /// Data: read-only; code: not readable.
    pub restricted: bool,
    /// G.
    pub pages: bool,
    /// Not present.
    pub absent: bool,
}

const PLAIN: Local = Local {
    base: DATA as u32,
    limit: 0xFFFF,
    contents: 0,
    big: false,
    restricted: false,
    pages: false,
    absent: false,
};

/// Entries 1 and up of the local descriptor table, as [`sel`] names them.
pub const LOCALS: [Local; 17] = [
    Local { base: AREA as u32, contents: 2, ..PLAIN },
    PLAIN,
    Local { limit: 0x7FBF, ..PLAIN },
    Local { limit: 0x37FF, big: true, ..PLAIN },
    Local { limit: 0x0FFF, contents: 1, ..PLAIN },
    Local { base: AREA as u32, limit: 0x1_0FFF, contents: 1, big: true, ..PLAIN },
    Local { restricted: true, ..PLAIN },
    Local { base: AREA as u32, contents: 2, big: true, restricted: true, ..PLAIN },
    Local { base: AREA as u32, limit: 0x5FFF, contents: 2, big: true, ..PLAIN },
    Local { absent: true, ..PLAIN },
    Local { base: 0, limit: 0xF_FFFF, big: true, pages: true, ..PLAIN },
    Local { base: AREA as u32, limit: 0x4FF8, contents: 2, big: true, ..PLAIN },
    Local { base: DATA as u32 + 1, big: true, ..PLAIN },
    Local { base: 0xFFFF_F000, limit: 0xF_FFFF, big: true, pages: true, ..PLAIN },
    Local { base: AREA as u32, limit: 0x4FF8, contents: 2, ..PLAIN },
    Local { limit: 7, big: true, pages: true, ..PLAIN },
    Local { base: AREA as u32, contents: 2, restricted: true, ..PLAIN },
];

/// Selectors.
pub mod sel {
    /// 32-bit flat code, as Linux gives it to programs.
    pub const CODE32: u16 = 0x23;
    /// Flat data.
    pub const DATA: u16 = 0x2B;
    /// 64-bit code.
    pub const CODE64: u16 = 0x33;

    const fn local(n: u16) -> u16 {
        n << 3 | 7
    }
    /// 16-bit code.
    pub const CODE16: u16 = local(1);
    /// 64 KiB of data, 16-bit.
    pub const DATA16: u16 = local(2);
    /// Likewise, ending in the stack page.
    pub const SHORT16: u16 = local(3);
    /// 32-bit data that end in a writable page.
    pub const SHORT32: u16 = local(4);
    /// Expand-down, 16-bit.
    pub const DOWN16: u16 = local(5);
    /// Expand-down, 32-bit.
    pub const DOWN32: u16 = local(6);
    /// Read-only data.
    pub const READ_ONLY: u16 = local(7);
    /// Code that cannot be read, 32-bit.
    pub const EXEC_ONLY: u16 = local(8);
    /// Readable code with a base, 32-bit, that ends where the code pages do.
    pub const BASED32: u16 = local(9);
    /// Not present.
    pub const ABSENT: u16 = local(10);
    /// Flat data by the local table.
    pub const FLAT: u16 = local(11);
    /// 32-bit code that ends shortly before the end of the first code page.
    pub const TIGHT32: u16 = local(12);
    /// Data with an odd base.
    pub const ODD: u16 = local(13);
    /// Data whose base makes linear addresses wrap.
    pub const WRAPPED: u16 = local(14);
    /// 16-bit code that ends shortly before the end of the first code page.
    pub const TIGHT16: u16 = local(15);
    /// Data with a limit in pages.
    pub const PAGES: u16 = local(16);
    /// Code that cannot be read, 16-bit.
    pub const EXEC_ONLY16: u16 = local(17);
}

/// Data segments that any data segment register may hold.
pub const DATA_SEGMENTS: [u16; 13] = [
    sel::DATA,
    sel::DATA16,
    sel::SHORT16,
    sel::SHORT32,
    sel::DOWN16,
    sel::DOWN32,
    sel::READ_ONLY,
    sel::BASED32,
    sel::FLAT,
    sel::ODD,
    sel::WRAPPED,
    sel::PAGES,
    0,
];

/// Selectors for instructions to try, good and bad.
pub const SELECTORS: [u16; 34] = [
    0,
    3,
    sel::CODE32,
    sel::CODE32 & !3,
    sel::DATA,
    sel::DATA & !3,
    sel::DATA & !3 | 1,
    sel::CODE16,
    sel::CODE16 & !3 | 1,
    sel::DATA16,
    sel::DATA16 & !3,
    sel::SHORT16,
    sel::SHORT32,
    sel::DOWN16,
    sel::DOWN32,
    sel::READ_ONLY,
    sel::EXEC_ONLY,
    sel::BASED32,
    sel::ABSENT,
    sel::FLAT,
    sel::TIGHT32,
    sel::ODD,
    sel::WRAPPED,
    sel::TIGHT16,
    sel::PAGES,
    sel::EXEC_ONLY16,
    4,
    7,
    0x97, // behind the last of the local table
    0x87 + 0x1000,
    0x10, // the kernel's
    0x1B,
    0x70, // empty
    0x8B, // behind the global table
];

/// Descriptors of the global table, in Linux's places; the processor's own stand in for the kernel's.
pub const GLOBALS: [u64; 16] = {
    let mut table = [0; 16];
    table[1] = 0x00CF_9B00_0000_FFFF;
    table[2] = 0x00AF_9B00_0000_FFFF;
    table[3] = 0x00CF_9300_0000_FFFF;
    table[4] = 0x00CF_FB00_0000_FFFF;
    table[5] = 0x00CF_F300_0000_FFFF;
    table[6] = 0x00AF_FB00_0000_FFFF;
    table
};

impl Local {
    /// Type, S, DPL, P, AVL, D/B and G as in [`Segment::attr`].
    pub const fn attr(&self) -> u16 {
        let kind = (self.contents as u16) << 2 | (!self.restricted as u16) << 1 | 1;
        let present = if self.absent { 0 } else { 0x80 };
        let big = if self.big { 0x4000 } else { 0 };
        let pages = if self.pages { 0x8000 } else { 0 };
        0x1070 | kind | present | big | pages
    }

    /// The eight bytes in the table.
    pub const fn descriptor(&self) -> u64 {
        crate::setup::descriptor(self.base as u64, self.limit as u64, self.attr())
    }
}

/// The segment that a selector loads; a null segment for those that load none.
pub fn segment(selector: u16) -> Segment {
    let index = usize::from(selector >> 3);
    let is_local = selector & 4 != 0;
    let raw = match is_local {
        true => LOCALS.get(index.wrapping_sub(1)).map_or(0, Local::descriptor),
        false => GLOBALS.get(index).copied().unwrap_or(0),
    };
    if raw == 0 {
        return Segment { selector, ..Segment::default() };
    }
    let attr = (raw >> 40) as u16 & 0xF0FF;
    let units = (raw & 0xFFFF | raw >> 32 & 0xF_0000) as u32;
    let limit = if attr & 0x8000 != 0 { units << 12 | 0xFFF } else { units };
    let base = raw >> 16 & 0xFF_FFFF | (raw >> 56) << 24;
    Segment { selector, attr, limit, base }
}

/// The code segment cases run in unless they say otherwise.
pub const fn code_selector(width: Width) -> u16 {
    match width {
        Width::W16 => sel::CODE16,
        Width::W32 => sel::CODE32,
        Width::W64 => sel::CODE64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_and_list_agree() {
        let list: Vec<usize> =
            (0..DATA_RIGHTS.len()).filter(|&n| DATA_RIGHTS[n] == Rights::Write).collect();
        assert_eq!(list, WRITABLE);
    }

    #[test]
    fn segments_come_from_their_descriptors() {
        let s = segment(sel::PAGES);
        assert_eq!((s.base, s.limit, s.attr), (DATA, 0x7FFF, 0xD0F3));
        let s = segment(sel::CODE32);
        assert_eq!((s.base, s.limit, s.attr), (0, u32::MAX, 0xC0FB));
        assert_eq!(segment(sel::DOWN32).attr, 0x50F7);
    }
}
