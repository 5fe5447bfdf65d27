//! The guest's page tables, walked for `info mem` and `info tlb`: what is mapped where, with which rights.
//!
//! Source: SDM Vol. 3A, "Paging": 32-bit, PAE and four-level. Tables are guest data: entries that lead nowhere end
//! their branch, tables that lead to themselves only repeat, and the number of lines is bounded.

use std::fmt::Write as _;

use super::memory::read_phys;
use crate::machine::Machine;

type Answer = Result<String, String>;

const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;

const P: u64 = 1;
const RW: u64 = 1 << 1;
const US: u64 = 1 << 2;
const PS: u64 = 1 << 7;
const XD: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Most table entries looked at.
const WORK_MAX: u64 = 16 << 20;

/// A mapped page.
#[derive(Clone, Copy)]
struct Page {
    lin: u64,
    phys: u64,
    len: u64,
    /// The last entry's bits.
    entry: u64,
    /// U/S and R/W of all entries together, XD of any.
    rights: u64,
}

/// How the levels of a paging mode look.
struct Shape {
    /// Lowest address bit that each level's index takes, from the top.
    shifts: &'static [u32],
    index_bits: u32,
    entry_bytes: u64,
    /// Levels (by shift) at which PS makes a page.
    large: &'static [u32],
}

const LEGACY: Shape = Shape { shifts: &[22, 12], index_bits: 10, entry_bytes: 4, large: &[22] };
const LEGACY_SMALL: Shape = Shape { large: &[], ..LEGACY };
const PAE: Shape = Shape { shifts: &[30, 21, 12], index_bits: 9, entry_bytes: 8, large: &[21] };
const LONG: Shape =
    Shape { shifts: &[39, 30, 21, 12], index_bits: 9, entry_bytes: 8, large: &[30, 21] };

struct Walk<'a> {
    machine: &'a Machine,
    shape: Shape,
    work: u64,
}

impl Walk<'_> {
    /// Calls `page` for each page below a table; false when it wants no more.
    fn table(
        &mut self,
        level: usize,
        table: u64,
        lin: u64,
        rights: u64,
        page: &mut dyn FnMut(Page) -> bool,
    ) -> bool {
        let Some(&shift) = self.shape.shifts.get(level) else { return true };
        // The directory pointers of PAE are four.
        let is_pointers = self.shape.shifts.len() == 3 && level == 0;
        let count = if is_pointers { 4 } else { 1 << self.shape.index_bits };
        let mut bytes = vec![0; (count * self.shape.entry_bytes) as usize];
        if read_phys(self.machine, table, &mut bytes).is_none() {
            return true;
        }
        for (i, raw) in bytes.chunks_exact(self.shape.entry_bytes as usize).enumerate() {
            self.work += 1;
            if self.work > WORK_MAX {
                return false;
            }
            let mut entry = [0; 8];
            entry[..raw.len()].copy_from_slice(raw);
            let entry = u64::from_le_bytes(entry);
            if entry & P == 0 {
                continue;
            }
            let lin = lin | (i as u64) << shift;
            let own = if is_pointers { RW | US } else { entry & (RW | US) };
            let both = rights & own & (RW | US) | (rights | entry) & XD;
            let is_large = entry & PS != 0 && self.shape.large.contains(&shift);
            let goes_on = if is_large || shift == 12 {
                let len = 1 << shift;
                let mut phys = entry & ADDRESS & !(len - 1);
                if shift == 22 {
                    // PSE-36: bits 13 to 20 are address bits 32 to 39.
                    phys |= (entry >> 13 & 0xff) << 32;
                }
                page(Page { lin: canonical(lin), phys, len, entry, rights: both })
            } else {
                self.table(level + 1, entry & ADDRESS, lin, both, page)
            };
            if !goes_on {
                return false;
            }
        }
        true
    }
}

fn canonical(lin: u64) -> u64 {
    if lin >> 47 & 1 != 0 { lin | 0xffff_0000_0000_0000 } else { lin }
}

/// Calls `page` for every mapped page, in the order of the tables.
fn walk(machine: &Machine, page: &mut dyn FnMut(Page) -> bool) -> Result<(), String> {
    let cpu = machine.vcpu().cpu();
    let state = &cpu.state;
    if state.cr0 & CR0_PG == 0 {
        return Err("paging is off".to_owned());
    }
    if state.cr4 & CR4_LA57 != 0 {
        return Err("five-level paging is not shown".to_owned());
    }
    let is_legacy = state.cr4 & CR4_PAE == 0;
    let (shape, top) = match (cpu.is_long(), is_legacy, state.cr4 & CR4_PSE != 0) {
        (true, ..) => (LONG, state.cr3 & ADDRESS),
        (false, false, _) => (PAE, state.cr3 & 0xffff_ffe0),
        (false, true, true) => (LEGACY, state.cr3 & 0xffff_f000),
        (false, true, false) => (LEGACY_SMALL, state.cr3 & 0xffff_f000),
    };
    Walk { machine, shape, work: 0 }.table(0, top, 0, RW | US, page);
    Ok(())
}

/// `info tlb`: one line per page.
pub(super) fn pages(machine: &Machine, lines_max: usize) -> Answer {
    let mut text = String::new();
    let mut lines = 0;
    walk(machine, &mut |page| {
        let bit = |n: u32, letter: char| if page.entry >> n & 1 != 0 { letter } else { '-' };
        let flags: String = [
            bit(63, 'X'),
            bit(8, 'G'),
            if page.len > 4096 { 'P' } else { '-' },
            bit(6, 'D'),
            bit(5, 'A'),
            bit(4, 'C'),
            bit(3, 'T'),
            bit(2, 'U'),
            bit(1, 'W'),
        ]
        .iter()
        .collect();
        let _ = writeln!(text, "{:016x}: {:016x} {flags}", page.lin, page.phys);
        lines += 1;
        lines < lines_max
    })?;
    if lines >= lines_max {
        let _ = writeln!(text, "(the first {lines_max} pages)");
    }
    Ok(text)
}

/// `info mem`: ranges of equal rights.
pub(super) fn ranges(machine: &Machine, lines_max: usize) -> Answer {
    let mut text = String::new();
    let mut lines = 0;
    let mut run: Option<(u64, u64, u64)> = None;
    let mut tell = |(start, end, rights): (u64, u64, u64)| {
        let letter = |bit, letter| if rights & bit != 0 { letter } else { '-' };
        let (user, write) = (letter(US, 'u'), letter(RW, 'w'));
        let last = end.wrapping_sub(start);
        let _ = writeln!(text, "{start:016x}-{end:016x} {last:016x} {user}r{write}");
    };
    walk(machine, &mut |page| {
        let rights = page.rights & (RW | US);
        run = match run {
            Some((start, end, was)) if end == page.lin && was == rights => {
                Some((start, end.wrapping_add(page.len), was))
            }
            old => {
                old.into_iter().for_each(&mut tell);
                lines += usize::from(old.is_some());
                Some((page.lin, page.lin.wrapping_add(page.len), rights))
            }
        };
        lines < lines_max
    })?;
    run.into_iter().for_each(tell);
    Ok(text)
}
