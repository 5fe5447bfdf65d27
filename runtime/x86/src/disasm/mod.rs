//! The disassembler: a decoded instruction as text, AT&T (as QEMU's `-d in_asm` prints) or Intel.
//!
//! Mnemonics are templates generated from the tables (`codegen/core/src/disasm.rs`); operands are printed by
//! what they are bound to. Nothing here knows an instruction by name.

mod att;
mod intel;
mod tables;

use crate::decode::{MemOperand, Operand, attr};
use crate::insn::{Form, Insn, Sz, prefix};

/// Which assembler's spelling.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Syntax {
    /// AT&T: `movl     $1, %eax`.
    #[default]
    Att,
    /// Intel: `mov      eax, 1`.
    Intel,
}

/// The instruction as text. `pc` is the value of its instruction pointer, for branch targets.
pub fn format(insn: &Insn, pc: u64, syntax: Syntax) -> String {
    let mut mnemonic = prefixes(insn).to_owned();
    let row = usize::from(insn.row);
    let template = match syntax {
        Syntax::Att => tables::ATT[row],
        Syntax::Intel => tables::INTEL[row],
    };
    expand(&mut mnemonic, template, insn, syntax);
    let operands = match syntax {
        Syntax::Att => att::operands(insn, pc, tables::INDIRECT[row]),
        Syntax::Intel => intel::operands(insn, pc),
    };
    if operands.is_empty() { mnemonic } else { format!("{mnemonic:<8} {operands}") }
}

/// Bytes that are no instruction.
pub fn format_bytes(bytes: &[u8]) -> String {
    let list: Vec<String> = bytes.iter().map(|byte| format!("0x{byte:02x}")).collect();
    format!("{:<8} {}", ".byte", list.join(", "))
}

/// LOCK and the repeat prefixes, where they mean something.
fn prefixes(insn: &Insn) -> &'static str {
    let attrs = insn.info().attrs;
    let repeats = attrs & (attr::REP | attr::REPCC) != 0;
    if insn.prefixes & prefix::LOCK != 0 {
        "lock "
    } else if !repeats || insn.prefixes & prefix::MANDATORY != 0 {
        ""
    } else if insn.prefixes & prefix::REPNE != 0 {
        "repne "
    } else if insn.prefixes & prefix::REP == 0 {
        ""
    } else if attrs & attr::REPCC != 0 {
        "repe "
    } else {
        "rep "
    }
}

/// Condition names, by the low four opcode bits.
const CONDITIONS: [&str; 16] =
    ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];

/// Fills in a mnemonic template.
fn expand(out: &mut String, template: &str, insn: &Insn, syntax: Syntax) {
    let mut alternatives = template.split('|');
    let by_address = insn.info().attrs & attr::BYASZ != 0;
    let wanted = usize::from(if by_address { insn.asz } else { insn.osz } / 32); // 16, 32, 64
    let first = alternatives.next().unwrap_or_default();
    let chosen = alternatives.take(wanted).last().unwrap_or(first);
    for c in chosen.chars() {
        match c {
            '%' => out.push(size_letter(insn.osz, syntax)),
            '=' => out.push(size_letter(insn.size_bits(Sz::Z) as u8, syntax)),
            '~' => out.push(size_letter(insn.size_bits(Sz::Y) as u8, syntax)),
            '^' => out.push(size_letter(if insn.is_memory_form() { 16 } else { insn.osz }, syntax)),
            '#' => out.push_str(CONDITIONS[usize::from(insn.condition())]),
            c => out.push(c),
        }
    }
}

const fn size_letter(bits: u8, syntax: Syntax) -> char {
    match (bits, syntax) {
        (8, _) => 'b',
        (16, _) => 'w',
        (32, Syntax::Att) => 'l',
        (32, Syntax::Intel) => 'd',
        _ => 'q',
    }
}

/// Hexadecimal from 10 on, as QEMU prints numbers.
fn number(value: u64) -> String {
    if value < 10 { value.to_string() } else { format!("{value:#x}") }
}

/// A signed number.
fn signed(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", number(value.unsigned_abs()))
}

/// Operand `i`; a 16-bit result that is zero-extended into its register shows the whole register.
fn operand(insn: &Insn, i: usize) -> Operand {
    match insn.operand(i) {
        Operand::Reg { num, bits: 16 } if i == 0 && insn.info().attrs & attr::ZEXT_REG != 0 => {
            Operand::Reg { num, bits: insn.osz }
        }
        other => other,
    }
}

/// An immediate: as a signed number where it was sign-extended to a wider operation, else unsigned. Masks
/// are shown unsigned at the width of the operation.
fn immediate(insn: &Insn, form: Form, value: u64, bits: u8) -> String {
    let width = operation_bits(insn);
    if !matches!(form, Form::I(_)) || width <= bits {
        number(truncate(value, bits))
    } else if tables::BITWISE[usize::from(insn.row)] {
        number(truncate(value, width))
    } else {
        signed(value.cast_signed())
    }
}

/// Width of the operation: of the first operand, or the operand size when that has none.
fn operation_bits(insn: &Insn) -> u8 {
    match insn.operand(0) {
        Operand::Reg { bits, .. } => bits,
        Operand::Mem(MemOperand { bits, .. }) if bits <= 64 => bits as u8,
        Operand::High { .. } => 8,
        _ => insn.osz,
    }
}

/// Where a near branch goes.
fn branch_target(insn: &Insn, pc: u64, disp: i64) -> String {
    let target = pc.wrapping_add(u64::from(insn.len)).wrapping_add(disp.cast_unsigned());
    format!("{:#x}", truncate(target, insn.osz))
}

/// The low `bits` of a value.
const fn truncate(value: u64, bits: u8) -> u64 {
    value & u64::MAX >> (64 - bits as u32)
}

/// Segment registers.
const SEGMENTS: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];

/// Name of a segment register.
fn segment_name(number: u8) -> &'static str {
    SEGMENTS[usize::from(number)]
}

/// Registers at 16 bits; other widths are spelled from these.
const WORDS: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];

/// Name of a general register.
fn register_name(number: u8, bits: u8) -> String {
    let Some(word) = WORDS.get(usize::from(number)) else {
        let suffix = match bits {
            8 => "b",
            16 => "w",
            32 => "d",
            _ => "",
        };
        return format!("r{number}{suffix}");
    };
    match bits {
        8 if number < 4 => format!("{}l", &word[..1]),
        8 => format!("{word}l"),
        16 => (*word).to_owned(),
        32 => format!("e{word}"),
        _ => format!("r{word}"),
    }
}

/// Name of a vector register.
fn vector_name(number: u8, bits: u16) -> String {
    format!("{}{number}", if bits == 256 { "ymm" } else { "xmm" })
}

/// Name of an x87 stack register: the top by itself, or one that the encoding names.
fn stack_name(form: Form, number: u8) -> String {
    if form == Form::St0 { "st".to_owned() } else { format!("st({number})") }
}

/// Name of the index register, if there is one: general, or a vector register in `vsib` rows.
fn index_name(insn: &Insn, m: &MemOperand) -> Option<String> {
    let bits = if tables::LONG_INDEX[usize::from(insn.row)] { 256 } else { 128 };
    let vector = m.vector_index.map(|number| vector_name(number, bits));
    vector.or_else(|| m.index.map(|number| register_name(number, m.asz)))
}

/// Name of AH CH DH BH.
fn high_name(number: u8) -> &'static str {
    ["ah", "ch", "dh", "bh"][usize::from(number & 3)]
}

#[cfg(test)]
mod tests;
