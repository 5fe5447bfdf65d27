//! Finds the row that bytes belong to: a slow and obvious decoder for cases, tests and `stele
//! spec show`.
//!
//! It knows lengths and rows only; the decoder proper is generated from the same tables.

use crate::boxes::RowBox;
use crate::model::{Imm, Isa, Mandatory, Map, ModRm, Row};

/// An encoding found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Located {
    /// Index into [`Isa::rows`].
    pub row: usize,
    /// Length in bytes.
    pub len: usize,
    /// Operand size in bits, from mode and prefixes.
    pub osz: u32,
}

struct Prefixes {
    len: usize,
    opsize: bool,
    adsize: bool,
    class: u8,
    rex_w: bool,
}

/// Finds the row `bytes` begin with, in 16-, 32- or 64-bit code (`mode`), all features on.
pub fn locate(isa: &Isa, bytes: &[u8], mode: u32) -> Option<Located> {
    let p = prefixes(bytes, mode);
    let (map, skip) = match bytes.get(p.len..)? {
        [0x0F, 0x38, ..] => (Map::M0f38, 2),
        [0x0F, 0x3A, ..] => (Map::M0f3a, 2),
        [0x0F, ..] => (Map::M0f, 1),
        _ => (Map::One, 0),
    };
    let at = p.len + skip;
    let byte = *bytes.get(at)?;
    let modrm = bytes.get(at + 1).copied();
    let mode_bit = match (mode, p.rex_w) {
        (64, true) => 4,
        (64, false) => 2,
        _ => 1,
    };
    let mut best: Option<(usize, RowBox)> = None;
    for (n, row) in isa.rows.iter().enumerate() {
        let op = &row.opcode;
        if op.map != map
            || !(op.byte..=op.byte.saturating_add(op.span.saturating_sub(1))).contains(&byte)
        {
            continue;
        }
        let b = RowBox::of(row);
        let fits = b.prefixes & p.class != 0 && b.modes & mode_bit != 0;
        let modrm_fits = match row.opcode.modrm {
            ModRm::None => true,
            _ => modrm.is_some_and(|m| b.modrm.has(m)),
        };
        if fits && modrm_fits && best.as_ref().is_none_or(|(_, old)| b.beats(old)) {
            best = Some((n, b));
        }
    }
    let (n, _) = best?;
    let row = isa.rows.get(n)?;
    let osz = operand_size(row, mode, &p);
    let asz = match (mode, p.adsize) {
        (16, false) | (32, true) => 16,
        (64, false) => 64,
        _ => 32,
    };
    let len = at + 1 + modrm_len(row, bytes, at + 1, asz)?;
    let len = len + immediates_len(row, osz, asz);
    (len <= bytes.len() && len <= 15).then_some(Located { row: n, len, osz })
}

fn prefixes(bytes: &[u8], mode: u32) -> Prefixes {
    let mut p = Prefixes { len: 0, opsize: false, adsize: false, class: 1, rex_w: false };
    let mut rep = 0;
    for &byte in bytes {
        match byte {
            0x66 => p.opsize = true,
            0x67 => p.adsize = true,
            0xF2 => rep = 8,
            0xF3 => rep = 4,
            0xF0 | 0x26 | 0x2E | 0x36 | 0x3E | 0x64 | 0x65 => {}
            _ => break,
        }
        p.len += 1;
    }
    if mode == 64
        && let Some(rex @ 0x40..=0x4F) = bytes.get(p.len)
    {
        p.rex_w = rex & 8 != 0;
        p.len += 1;
    }
    p.class = match (rep, p.opsize) {
        (0, true) => 2,
        (0, false) => 1,
        (class, _) => class,
    };
    p
}

fn operand_size(row: &Row, mode: u32, p: &Prefixes) -> u32 {
    let toggled = p.opsize && row.opcode.prefix != Mandatory::P66;
    match mode {
        16 if toggled => 32,
        16 => 16,
        32 if toggled => 16,
        32 => 32,
        _ if p.rex_w || row.attrs.has("f64") => 64,
        _ if toggled => 16,
        _ if row.attrs.has("d64") => 64,
        _ => 32,
    }
}

/// Length of ModRM, SIB and displacement.
fn modrm_len(row: &Row, bytes: &[u8], at: usize, asz: u32) -> Option<usize> {
    match row.opcode.modrm {
        ModRm::None => return Some(0),
        ModRm::Fixed(_) | ModRm::FixedPlus(_) => return Some(1),
        ModRm::Any | ModRm::Reg(_) => {}
    }
    let modrm = *bytes.get(at)?;
    let (mode, rm) = (modrm >> 6, modrm & 7);
    if mode == 3 || row.attrs.has("nomod") {
        return Some(1);
    }
    if asz == 16 {
        return Some(match (mode, rm) {
            (0, 6) | (2, _) => 3,
            (1, _) => 2,
            _ => 1,
        });
    }
    let sib = usize::from(rm == 4);
    let base = if rm == 4 { *bytes.get(at + 1)? & 7 } else { rm };
    let disp = match (mode, base) {
        (0, 5) | (2, _) => 4,
        (1, _) => 1,
        _ => 0,
    };
    Some(1 + sib + disp)
}

/// Length of the immediates of a row.
pub(crate) fn immediates_len(row: &Row, osz: u32, asz: u32) -> usize {
    row.opcode.imms.iter().map(|i| immediate_len(*i, osz, asz)).sum()
}

/// Length of an immediate column.
pub(crate) fn immediate_len(imm: Imm, osz: u32, asz: u32) -> usize {
    let z = if osz == 16 { 2 } else { 4 };
    match imm {
        Imm::B => 1,
        Imm::W => 2,
        Imm::D => 4,
        Imm::Q => 8,
        Imm::Z => z,
        Imm::V => osz as usize / 8,
        Imm::Ptr => z + 2,
        Imm::Moffs => asz as usize / 8,
    }
}
