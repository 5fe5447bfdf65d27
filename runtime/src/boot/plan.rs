//! A plan: what the loader ROM does to start a kernel, as plain data.
//!
//! The ROM knows no file format. Its plan is a list of `fw_cfg` DMA commands that bring every byte to its
//! place, where the memory map is wanted, and the registers the kernel is entered with. All decisions are
//! made here on the host, where files can be checked. Source: QEMU's interface specification "fw_cfg" for the
//! commands; Intel SDM Vol. 3, "Segment Descriptors".

use std::ops::Range;
use std::sync::Arc;

/// Where the ROM puts its plan; below 64 KiB, so that 16-bit code reaches it.
pub const PLAN_AT: u32 = 0x1000;
/// The most bytes of a plan: what follows begins there.
const PLAN_MAX: usize = (INFO_AT - PLAN_AT) as usize;
const HEADER_LEN: usize = 96;
const GDT_OFFSET: usize = 48;
/// What a kernel finds its parameters in: a page for a structure, and one for the memory map. The ROM writes both
/// with 16-bit addresses; its stack follows them.
pub const INFO_AT: u32 = 0x5000;
/// The memory map's place, for kernels that do not want it in the structure itself.
pub const MEMORY_MAP_AT: u32 = 0x6000;
/// Conventional memory for kernels that want to be there: from the top of the ROM's stack.
pub const KERNEL_LOW: Range<u32> = 0x8000..LOW_AREA.start;
/// Conventional memory for command lines, module lists and page tables.
pub const LOW_AREA: Range<u32> = 0x2_0000..0x9_0000;
/// The most entries the ROM collects.
pub const MEMORY_MAP_ENTRIES: u32 = 128;

/// The most bytes of one DMA command.
const CHUNK: u32 = 64 << 20;
const DMA_READ: u32 = 2;
const DMA_SKIP: u32 = 4;
const DMA_SELECT: u32 = 8;
/// A key nobody has: reads as zeros.
const KEY_ZEROS: u16 = 0xbfff;

/// Bytes the guest fetches by `fw_cfg`.
#[derive(Clone, Debug)]
pub struct Item {
    /// The key.
    pub key: u16,
    /// The bytes.
    pub bytes: Arc<Vec<u8>>,
}

/// Where the firmware's memory map goes: entries of 20 bytes, as INT 15h E820h gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryMap {
    /// Address of the first entry.
    pub at: u16,
    /// From entry to entry.
    pub stride: u16,
    /// Where the number of entries is stored, as 32 bits.
    pub count_at: u16,
    /// By what the number is multiplied.
    pub count_unit: u16,
}

/// How the kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In real mode at offset 0 of `segment` + 20h, with all data segments at `segment`.
    Real {
        /// The segment.
        segment: u16,
    },
    /// In 32-bit protected mode, flat, paging off.
    Protected {
        /// Where.
        entry: u32,
        /// EAX.
        eax: u32,
        /// EBX.
        ebx: u32,
        /// ESI.
        esi: u32,
    },
    /// In 64-bit mode, the first 4 GiB mapped as they are.
    Long {
        /// Where.
        entry: u32,
        /// RSI.
        rsi: u32,
        /// CR3.
        cr3: u32,
    },
}

/// The plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Bytes the commands refer to, and what else firmware may want of the kernel.
    pub items: Vec<Item>,
    /// The memory map, if it is wanted.
    pub memory_map: Option<MemoryMap>,
    /// Where the address of the ACPI root pointer is stored, if it is wanted.
    pub rsdp_at: Option<u16>,
    /// The end.
    pub start: Start,
    commands: Vec<[u8; 16]>,
}

impl Plan {
    /// A plan that only enters the kernel.
    pub fn new(start: Start) -> Self {
        Self { items: Vec::new(), memory_map: None, rsdp_at: None, start, commands: Vec::new() }
    }

    /// Adds an item and loads all of it to `at`.
    pub fn load(&mut self, key: u16, bytes: impl Into<Arc<Vec<u8>>>, at: u32) {
        let bytes = bytes.into();
        let len = bytes.len() as u32;
        self.items.push(Item { key, bytes });
        self.load_part(key, 0, len, at);
    }

    /// Loads `len` bytes from `offset` of an item to `at`.
    pub fn load_part(&mut self, key: u16, offset: u32, len: u32, at: u32) {
        self.command(u32::from(key) << 16 | DMA_SELECT | DMA_SKIP, offset, 0);
        let mut done = 0;
        while done < len {
            let n = (len - done).min(CHUNK);
            self.command(DMA_READ, n, at.wrapping_add(done));
            done += n;
        }
    }

    /// Clears memory.
    pub fn clear(&mut self, at: u32, len: u32) {
        if len > 0 {
            self.load_part(KEY_ZEROS, 0, len, at);
        }
    }

    fn command(&mut self, control: u32, len: u32, at: u32) {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&control.to_be_bytes());
        bytes[4..8].copy_from_slice(&len.to_be_bytes());
        bytes[12..].copy_from_slice(&at.to_be_bytes());
        self.commands.push(bytes);
    }

    /// The plan as the ROM reads it (`rom.s` names the fields); `None` if it has too many commands.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let total = HEADER_LEN + 16 * self.commands.len();
        if total > PLAN_MAX {
            return None;
        }
        let mut out = Vec::with_capacity(total);
        let mut words =
            |words: &[u16]| out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        words(&[total as u16, self.commands.len() as u16]);
        let map = self.memory_map;
        words(&map.map_or([0; 4], |m| [m.at, m.stride, m.count_at, m.count_unit]));
        words(&[self.rsdp_at.unwrap_or(0)]);
        let (kind, registers) = match self.start {
            Start::Real { segment } => (16, [u32::from(segment), 0, 0, 0, 0]),
            Start::Protected { entry, eax, ebx, esi } => (32, [entry, eax, ebx, esi, 0]),
            Start::Long { entry, rsi, cr3 } => (64, [entry, 0, 0, rsi, cr3]),
        };
        words(&[kind]);
        out.extend(registers.iter().flat_map(|word| word.to_le_bytes()));
        let gdt = gdt(kind == 64);
        out.extend((8 * gdt.len() as u16 - 1).to_le_bytes());
        out.extend((PLAN_AT + GDT_OFFSET as u32).to_le_bytes());
        out.resize(GDT_OFFSET, 0);
        out.extend(gdt.iter().flat_map(|entry| entry.to_le_bytes()));
        out.resize(HEADER_LEN, 0);
        out.extend(self.commands.iter().flatten());
        Some(out)
    }
}

/// Selectors: 08h 32-bit code, 10h the kernel's code, 18h data, 20h a task state segment.
fn gdt(is_long: bool) -> [u64; 5] {
    const CODE_32: u64 = 0x00cf_9a00_0000_ffff;
    const CODE_64: u64 = 0x00af_9a00_0000_ffff;
    const DATA: u64 = 0x00cf_9200_0000_ffff;
    const TSS: u64 = 0x0000_8900_0000_0067;
    [0, CODE_32, if is_long { CODE_64 } else { CODE_32 }, DATA, TSS]
}

/// Page tables at `at` that map the first 4 GiB as they are, by 2 MiB pages.
pub fn identity_tables(at: u32) -> Vec<u8> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 0x80;
    let at = u64::from(at);
    let mut words = vec![0u64; 6 * 512];
    words[0] = (at + 0x1000) | PRESENT_WRITABLE;
    for i in 0..4 {
        words[512 + i] = (at + 0x2000 + 0x1000 * i as u64) | PRESENT_WRITABLE;
    }
    for (i, word) in words[1024..].iter_mut().enumerate() {
        *word = (i as u64) << 21 | LARGE | PRESENT_WRITABLE;
    }
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_registers() {
        let mut plan = Plan::new(Start::Protected { entry: 0x10_0000, eax: 1, ebx: 2, esi: 3 });
        plan.load(0x11, vec![1; 5], 0x10_0000);
        plan.clear(0x20_0000, CHUNK + 1);
        plan.memory_map =
            Some(MemoryMap { at: 0x6000, stride: 24, count_at: 0x5030, count_unit: 1 });
        let bytes = plan.encode().unwrap();
        assert_eq!(bytes.len(), HEADER_LEN + 5 * 16);
        assert_eq!(bytes[..4], [176, 0, 5, 0]);
        assert_eq!(bytes[4..12], [0, 0x60, 24, 0, 0x30, 0x50, 1, 0]);
        assert_eq!(bytes[14..20], [32, 0, 0, 0, 0x10, 0]);
        assert_eq!(bytes[96..112], [0, 0x11, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[112..128], [0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0x10, 0, 0]);
        assert_eq!(bytes[160..176], [0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 4, 0x20, 0, 0]);
        for i in 0..2000 {
            plan.clear(i, 1);
        }
        assert!(plan.encode().is_none());
    }

    #[test]
    fn tables_map_the_last_page() {
        let tables = identity_tables(0x7_0000);
        let word = |at: usize| u64::from_le_bytes(tables[at..at + 8].try_into().unwrap());
        assert_eq!(word(0), 0x7_1003);
        assert_eq!(word(0x1000 + 3 * 8), 0x7_5003);
        assert_eq!(word(0x5000 + 511 * 8), 0xffe0_0083);
    }
}
