//! Finds the row that bytes belong to: a slow and obvious decoder for cases, tests and `stele
//! spec show`.
//!
//! It knows lengths and rows only; the decoder proper is generated from the same tables.

use crate::boxes::RowBox;
use crate::model::{Imm, Isa, Maker, Mandatory, Map, ModRm, Row};

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

/// What stands before the opcode byte.
struct Prefixes {
    /// Bytes before the opcode byte.
    len: usize,
    map: Map,
    opsize: bool,
    adsize: bool,
    class: u8,
    w: bool,
    /// REX.B.
    rex_b: bool,
    /// VEX.L and VEX.vvvv.
    vex: Option<(bool, u8)>,
}

/// Finds the row `bytes` begin with, in 16-, 32- or 64-bit code (`mode`), all features on, on Intel's processors.
pub fn locate(isa: &Isa, bytes: &[u8], mode: u32) -> Option<Located> {
    locate_of(Maker::Intel, isa, bytes, mode)
}

/// The same on those of a maker.
pub fn locate_of(maker: Maker, isa: &Isa, bytes: &[u8], mode: u32) -> Option<Located> {
    let p = prefixes(bytes, mode)?;
    let at = p.len;
    let byte = *bytes.get(at)?;
    let modrm = bytes.get(at + 1).copied();
    let mode_bit = match (mode, p.w) {
        (64, true) => 4,
        (64, false) => 2,
        (_, true) => 8,
        _ => 1,
    };
    let length_bit = 1 << u8::from(p.vex.is_some_and(|(l, _)| l));
    let mut best: Option<(usize, RowBox)> = None;
    for (n, row) in isa.rows.iter().enumerate() {
        let op = &row.opcode;
        if op.map != p.map
            || !maker.has(row)
            || op.vex.is_some() != p.vex.is_some()
            || !(op.byte..=op.byte.saturating_add(op.span.saturating_sub(1))).contains(&byte)
        {
            continue;
        }
        let b = RowBox::of(row);
        let rex_b_fits = b.rex_b >> u8::from(p.rex_b) & 1 != 0;
        let lengths_fit = p.vex.is_none() || b.lengths & length_bit != 0;
        let fits =
            b.prefixes & p.class != 0 && b.modes & mode_bit != 0 && rex_b_fits && lengths_fit;
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
    let has_vvvv = row.forms.iter().any(|form| form.uses_vvvv()) || row.attrs.has("vsib");
    if !has_vvvv && p.vex.is_some_and(|(_, vvvv)| vvvv != 0) {
        return None;
    }
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

fn prefixes(bytes: &[u8], mode: u32) -> Option<Prefixes> {
    let mut p = Prefixes {
        len: 0,
        map: Map::One,
        opsize: false,
        adsize: false,
        class: 1,
        w: false,
        rex_b: false,
        vex: None,
    };
    let (mut rep, mut plain) = (0, true);
    for &byte in bytes {
        match byte {
            0x66 => p.opsize = true,
            0x67 => p.adsize = true,
            0xF2 => rep = 8,
            0xF3 => rep = 4,
            0xF0 | 0x26 | 0x2E | 0x36 | 0x3E | 0x64 | 0x65 => {}
            _ => break,
        }
        plain &= !matches!(byte, 0x66 | 0xF0 | 0xF2 | 0xF3);
        p.len += 1;
    }
    if mode == 64
        && let Some(rex @ 0x40..=0x4F) = bytes.get(p.len)
    {
        p.w = rex & 8 != 0;
        p.rex_b = rex & 1 != 0;
        p.len += 1;
        plain = false;
    }
    p.class = match (rep, p.opsize) {
        (0, true) => 2,
        (0, false) => 1,
        (class, _) => class,
    };
    let next = bytes.get(p.len + 1).copied().unwrap_or(0);
    if matches!(bytes.get(p.len), Some(0xC4 | 0xC5)) && (mode == 64 || next >= 0xC0) {
        return if plain { vex_prefix(bytes, p) } else { None };
    }
    let (map, skip) = match bytes.get(p.len..)? {
        [0x0F, 0x38, ..] => (Map::M0f38, 2),
        [0x0F, 0x3A, ..] => (Map::M0f3a, 2),
        [0x0F, ..] => (Map::M0f, 1),
        _ => (Map::One, 0),
    };
    p.map = map;
    p.len += skip;
    Some(p)
}

fn vex_prefix(bytes: &[u8], mut p: Prefixes) -> Option<Prefixes> {
    let (map, last) = match bytes.get(p.len..)? {
        [0xC5, last, ..] => (1, last & 0x7F),
        [0xC4, first, last, ..] => (first & 0x1F, *last),
        _ => return None,
    };
    p.map = [Map::M0f, Map::M0f38, Map::M0f3a].get(usize::from(map).wrapping_sub(1)).copied()?;
    p.len += if bytes.get(p.len) == Some(&0xC5) { 2 } else { 3 };
    p.w = last & 0x80 != 0;
    p.vex = Some((last & 4 != 0, !last >> 3 & 15));
    p.class = 1 << [0u8, 1, 2, 3].get(usize::from(last & 3)).copied()?;
    Some(p)
}

fn operand_size(row: &Row, mode: u32, p: &Prefixes) -> u32 {
    let toggled = p.opsize && row.opcode.prefix != Mandatory::P66;
    match mode {
        16 if toggled => 32,
        16 => 16,
        32 if toggled => 16,
        32 => 32,
        _ if p.w || row.attrs.has("f64") => 64,
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
        Imm::B | Imm::Is4 => 1,
        Imm::W => 2,
        Imm::D => 4,
        Imm::Q => 8,
        Imm::Z => z,
        Imm::V => osz as usize / 8,
        Imm::Ptr => z + 2,
        Imm::Moffs => asz as usize / 8,
    }
}
