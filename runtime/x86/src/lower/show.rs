//! Lowering shown to people: names for the IR's text form, and what a row becomes.

use super::tables::{SOURCE, TEXT, helpers};
use super::{Flow, HAS_ERROR_CODE, Lower, Place, Work};
use crate::decode::{Features, Maker, ROWS, decode};
use crate::insn::{CodeSize, Insn, RowInfo};
use crate::mode::Mode;
use crate::state::CpuState;
use ir::Block;
use ir::text::{Names, print};
use std::fmt::Write as _;
use std::mem::offset_of;

/// Names of state fields, helpers and faults in the text form of ops.
#[derive(Clone, Copy, Debug, Default)]
pub struct IrNames;

/// State fields that ops name.
const FIELDS: &[(usize, &str)] = &[
    (offset_of!(CpuState, cc), "cc"),
    (offset_of!(CpuState, pc_base), "pc_base"),
    (offset_of!(CpuState, pc), "pc"),
    (offset_of!(CpuState, leave), "leave"),
    (offset_of!(CpuState, df), "df"),
    (offset_of!(CpuState, eflags), "eflags"),
    (offset_of!(CpuState, shadow), "shadow"),
];

/// Names of the exceptions by vector (SDM Vol. 3A, "Exception and Interrupt Vectors").
const FAULTS: [&str; 18] = [
    "de", "db", "nmi", "bp", "of", "br", "ud", "nm", "df", "cso", "ts", "np", "ss", "gp", "pf",
    "v15", "mf", "ac",
];

impl Names for IrNames {
    fn env(&self, off: u32) -> Option<&str> {
        FIELDS.iter().find(|(at, _)| *at == off as usize).map(|(_, name)| *name)
    }
    fn helper(&self, id: u32) -> Option<&str> {
        helpers::INFO.get(id as usize).map(|h| h.name)
    }
    fn fault(&self, what: u32) -> Option<&str> {
        FAULTS.get((what & !HAS_ERROR_CODE) as usize).copied()
    }
    fn env_named(&self, name: &str) -> Option<u32> {
        FIELDS.iter().find(|(_, field)| *field == name).map(|(at, _)| *at as u32)
    }
    fn helper_named(&self, name: &str) -> Option<u32> {
        helpers::INFO.iter().position(|h| h.name == name).map(|id| id as u32)
    }
    fn fault_named(&self, name: &str) -> Option<u32> {
        let has_code = matches!(name, "ts" | "np" | "ss" | "gp" | "pf" | "ac" | "df");
        let vector = FAULTS.iter().position(|fault| *fault == name)? as u32;
        Some(if has_code { vector | HAS_ERROR_CODE } else { vector })
    }
}

/// The ops of one insn in flat code at ring 0, as text.
pub fn insn_text(insn: &Insn, size: CodeSize) -> String {
    let mut bits = Mode::FLAT_CS | Mode::FLAT_SS | Mode::FLAT_DS | Mode::FLAT_ES;
    bits |= match size {
        CodeSize::Bits16 => 0,
        CodeSize::Bits32 => Mode::PE | Mode::CODE32 | Mode::STACK32,
        CodeSize::Bits64 => Mode::PE | Mode::CODE64,
    };
    let place = Place { mode: Mode(bits), ip: 0x100, page_off: 0x100, cs_limit: u32::MAX };
    let (mut block, mut work) = (Block::default(), Work::default());
    let mut lower = Lower::new(&mut block, &mut work, place);
    if lower.lower(insn, place.page_off) == Flow::Next {
        lower.end(place.page_off + u32::from(insn.len));
    }
    lower.close();
    print(&block, &IrNames)
}

/// What the tables make of an opcode (`0F B1`) or mnemonic: rows, source, generated lowering, ops per width.
pub fn spec_show(query: &str) -> String {
    let mut out = String::new();
    let mut last_insn = None;
    for (row, info) in ROWS.iter().enumerate().filter(|(_, info)| matches_query(info, query)) {
        if last_insn != Some(info.insn) {
            last_insn = Some(info.insn);
            show_insn(&mut out, info);
        }
        show_row(&mut out, row as u16, info);
    }
    if out.is_empty() {
        let _ = writeln!(out, "no row has the opcode or mnemonic `{query}`");
    }
    out
}

fn matches_query(info: &RowInfo, query: &str) -> bool {
    let query = query.trim().to_ascii_lowercase();
    let opcode = info.opcode.to_ascii_lowercase();
    let by_opcode = opcode == query
        || opcode.strip_prefix(query.as_str()).is_some_and(|rest| rest.starts_with([' ', '+']));
    !query.is_empty()
        && (by_opcode || info.mnemonic == query || info.name.eq_ignore_ascii_case(&query))
}

fn show_insn(out: &mut String, info: &RowInfo) {
    let insn = usize::from(info.insn);
    let _ = writeln!(out, "{} ({})\n", info.name, info.at);
    let _ = writeln!(out, "{}", SOURCE.get(insn).copied().unwrap_or_default());
    let _ = writeln!(out, "lowering:\n{}", TEXT.get(insn).copied().unwrap_or_default());
}

fn show_row(out: &mut String, row: u16, info: &RowInfo) {
    let _ =
        writeln!(out, "row \"{}\" {} {:?} ({})", info.opcode, info.mnemonic, info.forms, info.at);
    let mut seen: Vec<String> = Vec::new();
    for (bits, size) in [(16, CodeSize::Bits16), (32, CodeSize::Bits32), (64, CodeSize::Bits64)] {
        for modrm in [0xCB, 0x4B] {
            let Some(insn) = sample(row, info, size, modrm) else { continue };
            let text = insn_text(&insn, size);
            if seen.contains(&text) {
                continue;
            }
            let kind = if modrm >= 0xC0 { "registers" } else { "memory" };
            let _ = writeln!(out, "{bits}-bit code, {kind}:\n{text}");
            seen.push(text);
        }
    }
}

/// An instruction of this row, made from its opcode column; immediates count 1, 2, 3 …. In 64-bit code with REX.W
/// where the row takes it.
pub(super) fn sample(row: u16, info: &RowInfo, size: CodeSize, modrm: u8) -> Option<Insn> {
    let with = |rex| sample_with(row, info, size, modrm, rex);
    match size {
        // REX.W, none, REX.W and B.
        CodeSize::Bits64 => [Some(0x48), None, Some(0x49)].into_iter().find_map(with),
        CodeSize::Bits16 | CodeSize::Bits32 => with(None),
    }
}

fn sample_with(
    row: u16,
    info: &RowInfo,
    size: CodeSize,
    modrm: u8,
    rex: Option<u8>,
) -> Option<Insn> {
    let prefixes = info.opcode.split_whitespace().take_while(|word| {
        matches!(*word, "NP" | "66" | "F3" | "F2" | "REX.W") // the opcode column's own order
    });
    let count = prefixes.clone().count();
    let mandatory = prefixes.filter_map(|word| u8::from_str_radix(word, 16).ok());
    let mut bytes: Vec<u8> = mandatory.chain(rex).collect();
    for word in info.opcode.split_whitespace().skip(count) {
        if let Some(fields) = word.strip_prefix("VEX.") {
            bytes = vex_prefix(fields, info.attrs & crate::decode::attr::VSIB != 0);
            continue;
        }
        let base = word.split('+').next().unwrap_or(word);
        if let Some(field) = word.strip_prefix('/') {
            let reg = field.parse::<u8>().map_or(modrm, |reg| (modrm & 0xC7) | (reg & 7) << 3);
            bytes.push(reg);
        } else if base.len() == 2
            && let Ok(byte) = u8::from_str_radix(base, 16)
        {
            // `+r`: rBX, `+cc`: E.
            bytes.push(
                byte + if word.ends_with("+r") {
                    3
                } else if word.ends_with("+cc") {
                    4
                } else {
                    0
                },
            );
        }
    }
    bytes.extend(1..=15);
    let of = |maker| decode(&bytes, size, &Features { maker, ..Features::ALL }).ok();
    [Maker::Intel, Maker::Amd].into_iter().filter_map(of).find(|insn| insn.row == row)
}

/// A VEX prefix of three bytes from the opcode column's fields; vvvv names register 0, or 5 as a gather's mask, which must not
/// be the index.
fn vex_prefix(fields: &str, is_gather: bool) -> Vec<u8> {
    let mut fields = fields.split('.');
    let length = if fields.next() == Some("256") { 4 } else { 0 };
    let pp = match fields.next() {
        Some("66") => 1,
        Some("F3") => 2,
        Some("F2") => 3,
        _ => 0,
    };
    let map = match fields.next() {
        Some("0F38") => 2,
        Some("0F3A") => 3,
        _ => 1,
    };
    let w = if fields.next() == Some("W1") { 0x80 } else { 0 };
    let vvvv = if is_gather { 0x50 } else { 0x78 };
    vec![0xC4, 0xE0 | map, w | vvvv | length | pp]
}
