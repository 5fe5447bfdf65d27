//! `case` items: bytes, mode, inputs, outputs.

use super::attr::flag_letter;
use super::cursor::Cursor;
use super::form;
use crate::error::Diag;
use crate::model::{Case, CaseItem, Maker, Pos};
use proc_macro2::Delimiter;

/// Reads a case after its keyword.
pub(crate) fn case(c: &mut Cursor, pos: Pos) -> Result<Case, Diag> {
    let (text, text_pos) = c.string("the bytes of the insn as a string")?;
    let bytes = hex_bytes(&text).map_err(|m| Diag::new(text_pos, m))?;
    let (mode, mode_pos) = c.word("a mode (m16 m32 m64)")?;
    let mode = match mode.as_str() {
        "m16" => 16,
        "m32" => 32,
        "m64" => 64,
        _ => {
            return Err(Diag::new(mode_pos, format!("unknown mode `{mode}` (m16 m32 m64)")));
        }
    };
    let maker = if c.at_word("amd") {
        c.next();
        Maker::Amd
    } else {
        Maker::Intel
    };
    let inputs = case_items(c, "the inputs in braces")?;
    c.expect_puncts("=>")?;
    let outputs = case_items(c, "the outputs in braces")?;
    c.expect_puncts(";")?;
    Ok(Case { bytes, mode, maker, inputs, outputs, pos })
}

fn hex_bytes(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err("the bytes of a case are pairs of hex digits".to_string());
    }
    if digits.len() > 30 {
        return Err("an insn has at most 15 bytes".to_string());
    }
    let byte = |pair: &[u8]| -> Option<u8> {
        u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()
    };
    digits
        .chunks(2)
        .map(|pair| byte(pair).ok_or_else(|| format!("`{text}` is not made of hex bytes")))
        .collect()
}

fn case_items(c: &mut Cursor, what: &str) -> Result<Vec<CaseItem>, Diag> {
    let mut inner = c.expect_group(Delimiter::Brace, what)?;
    let mut list = Vec::new();
    while !inner.is_empty() {
        list.push(case_item(&mut inner)?);
        if !inner.is_empty() {
            inner.expect_puncts(",")?;
        }
    }
    Ok(list)
}

fn case_item(c: &mut Cursor) -> Result<CaseItem, Diag> {
    let (name, pos) = c.word("a register, `m8[…]`, `flags` or `raises`")?;
    match name.as_str() {
        "flags" => {
            c.expect_puncts("=")?;
            let (text, at) = c.string("flag letters as a string")?;
            flags(&text).map(CaseItem::Flags).map_err(|m| Diag::new(at, m))
        }
        "raises" => {
            c.expect_puncts("=")?;
            let (text, at) = c.string("a vector as a string")?;
            raises(&text).ok_or_else(|| {
                Diag::new(at, format!("`{text}`: expected a vector such as `UD` or `GP(0)`"))
            })
        }
        "m8" | "m16" | "m32" | "m64" => {
            let bits = name[1..].parse::<u32>().map_err(|e| Diag::new(pos, e.to_string()))?;
            let mut inner = c.expect_group(Delimiter::Bracket, "`[` address `]`")?;
            let address = inner.int("a linear address")?;
            inner.expect_end("`]`")?;
            c.expect_puncts("=")?;
            let value = value(c, bits)?;
            Ok(CaseItem::Mem(bits, address, value))
        }
        "m128" | "m256" => {
            let bits = if name == "m128" { 128 } else { 256 };
            let mut inner = c.expect_group(Delimiter::Bracket, "`[` address `]`")?;
            let address = inner.int("a linear address")?;
            inner.expect_end("`]`")?;
            c.expect_puncts("=")?;
            Ok(CaseItem::WideMem(bits, address, wide_value(c, bits)?))
        }
        _ if let Some(bits) = wide_bits(&name) => {
            c.expect_puncts("=")?;
            Ok(CaseItem::Wide(name, wide_value(c, bits)?))
        }
        _ => {
            let bits = register_bits(&name).ok_or_else(|| {
                Diag::new(pos, format!("`{name}` is no register, `m8[…]`, `flags` or `raises`"))
            })?;
            c.expect_puncts("=")?;
            Ok(CaseItem::Reg(name, value(c, bits)?))
        }
    }
}

/// Width of a register of the FP and vector state.
fn wide_bits(name: &str) -> Option<u32> {
    match name {
        "mxcsr" => return Some(32),
        "fcw" | "fsw" => return Some(16),
        _ => {}
    }
    let stems = [("xmm", 128, 16), ("ymm", 256, 16), ("mm", 64, 8), ("st", 80, 8)];
    stems.into_iter().find_map(|(stem, bits, count)| {
        let number: u32 = name.strip_prefix(stem)?.parse().ok()?;
        (number < count).then_some(bits)
    })
}

/// A number of up to 256 bits: hexadecimal of any length, or a small decimal one. Low word first.
fn wide_value(c: &mut Cursor, bits: u32) -> Result<[u64; 4], Diag> {
    let pos = c.pos();
    let text = c.peek().map(ToString::to_string).unwrap_or_default().replace('_', "");
    let Some(digits) = text.strip_prefix("0x") else {
        return Ok([c.int("a number")?, 0, 0, 0]);
    };
    c.next();
    let mut words = [0u64; 4];
    for (at, digit) in digits.bytes().rev().enumerate() {
        let digit = char::from(digit).to_digit(16);
        let digit = digit.ok_or_else(|| Diag::new(pos, format!("`{text}` is no number")))?;
        if digit != 0 && at as u32 * 4 + (32 - digit.leading_zeros()) > bits {
            return Err(Diag::new(pos, format!("`{text}` does not fit {bits} bits")));
        }
        if let Some(word) = words.get_mut(at / 16) {
            *word |= u64::from(digit) << (at % 16 * 4);
        }
    }
    Ok(words)
}

fn value(c: &mut Cursor, bits: u32) -> Result<u64, Diag> {
    let pos = c.pos();
    let value = c.int("a number")?;
    if bits < 64 && value >> bits != 0 {
        return Err(Diag::new(pos, format!("{value:#X} does not fit {bits} bits")));
    }
    Ok(value)
}

/// Width of a register that a case may name.
fn register_bits(name: &str) -> Option<u32> {
    if name != name.to_ascii_lowercase() {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    if form::seg(&upper).is_some() {
        return Some(16);
    }
    if let Some((_, crate::model::ExprWidth::Bits(bits))) = form::reg(&upper) {
        return Some(bits);
    }
    match name {
        "eip" | "cr0" | "cr2" | "cr3" | "cr4" | "eflags" => Some(32),
        "ip" | "ldtr" | "tr" => Some(16),
        "rip" | "r8" | "r9" | "r10" | "r11" | "r12" | "r13" | "r14" | "r15" => Some(64),
        _ => None,
    }
}

fn flags(text: &str) -> Result<u8, String> {
    let mut mask = 0;
    for word in text.split_whitespace() {
        mask |= match (flag_letter(word), word) {
            (Some(bit), _) => bit,
            (None, "d") => 64,
            _ => return Err(format!("unknown flag letter `{word}` (o s z a p c d)")),
        };
    }
    Ok(mask)
}

/// Names of vectors that `raise!` and `raises` know.
pub(crate) const VECTORS: [&str; 15] =
    ["DE", "DB", "BP", "OF", "BR", "UD", "NM", "TS", "NP", "SS", "GP", "PF", "MF", "AC", "XM"];

fn raises(text: &str) -> Option<CaseItem> {
    let (name, code) = match text.split_once('(') {
        Some((name, rest)) => (name, Some(rest.strip_suffix(')')?)),
        None => (text, None),
    };
    if !VECTORS.contains(&name) {
        return None;
    }
    let code = match code {
        None => None,
        Some(c) => match c.strip_prefix("0x") {
            Some(hex) => Some(u32::from_str_radix(hex, 16).ok()?),
            None => Some(c.parse().ok()?),
        },
    };
    Some(CaseItem::Raises(name.to_string(), code))
}
