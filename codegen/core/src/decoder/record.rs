//! What the decoder needs to know of one row, as bits.

use isa_spec::model::{Form, Imm, LEVELS, Mandatory, ModRm, Row};

/// Bits of a row's decode record: name, value, meaning.
pub(super) const BITS: &[(&str, u32, &str)] = &[
    ("IMM_B", 1, "Immediate kind: 1 byte."),
    ("IMM_W", 2, "Immediate kind: 2 bytes."),
    ("IMM_D", 3, "Immediate kind: 4 bytes."),
    ("IMM_Q", 4, "Immediate kind: 8 bytes."),
    ("IMM_Z", 5, "Immediate kind: 2 or 4 bytes by operand size."),
    ("IMM_V", 6, "Immediate kind: 2, 4 or 8 bytes by operand size."),
    ("IMM_PTR", 7, "Immediate kind: offset by operand size, then a selector."),
    ("IMM_MOFFS", 8, "Immediate kind: offset by address size."),
    ("MODRM", 1 << 8, "Has a ModRM byte."),
    ("LOCK", 1 << 9, "LOCK is legal on the memory form."),
    ("NOMOD", 1 << 10, "ModRM.mod is ignored."),
    ("MANDATORY", 1 << 11, "A prefix is part of the opcode."),
    ("NO_OPSIZE", 1 << 12, "66 does not change the operand size."),
    ("D64", 1 << 13, "64-bit operand size by default in 64-bit mode."),
    ("F64", 1 << 14, "64-bit operand size always in 64-bit mode."),
    ("VVVV", 1 << 15, "An operand uses VEX.vvvv."),
    ("VSIB", 1 << 19, "The index is a vector register."),
    ("CHECK_MASK", 7 << 16, "Which registers ModRM.reg may name."),
    ("CHECK_SEG_WRITTEN", 1 << 16, "A segment register that can be loaded."),
    ("CHECK_SEG_READ", 2 << 16, "A segment register."),
    ("CHECK_CR", 3 << 16, "A control register."),
    ("CHECK_DR", 4 << 16, "A debug register."),
];

/// The value of a named bit.
fn bit(name: &str) -> u32 {
    BITS.iter()
        .find(|(n, _, _)| *n == name)
        .map_or_else(|| unreachable!("{name} is in BITS"), |b| b.1)
}

/// What a row's processor must have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Gate {
    /// Generation, 0 = any.
    pub(super) level: u8,
    /// 0 = any, 1 = Intel, 2 = AMD.
    pub(super) maker: u8,
    /// CPUID feature names, at most two.
    pub(super) features: Vec<String>,
}

/// The row's gate.
pub(super) fn gate(row: &Row) -> Result<Gate, String> {
    let level = match row.attrs.arg("since") {
        None => 0,
        Some(name) => LEVELS
            .iter()
            .position(|level| *level == name.trim())
            .ok_or_else(|| format!("`{}`: `since({name})` names no processor", row.opcode.text))?,
    };
    let maker = match row.attrs.arg("maker") {
        None => 0,
        Some("intel") => 1,
        Some(_) => 2,
    };
    let names = row.attrs.arg("cpuid").unwrap_or_default();
    let features =
        names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
    Ok(Gate { level: level as u8, maker, features: features.collect() })
}

/// The row's decode record.
pub(super) fn bits(row: &Row) -> Result<u32, String> {
    let mut bits = immediates(row)?;
    let mut set = |condition: bool, name: &str| {
        if condition {
            bits |= bit(name);
        }
    };
    let prefix = row.opcode.prefix;
    set(row.opcode.modrm != ModRm::None, "MODRM");
    set(row.attrs.has("lock") && row.opcode.modrm != ModRm::None, "LOCK");
    set(row.attrs.has("nomod"), "NOMOD");
    let uses_vvvv = row.forms.iter().any(|form| form.uses_vvvv()) || row.attrs.has("vsib");
    set(uses_vvvv, "VVVV");
    set(row.attrs.has("vsib"), "VSIB");
    set(matches!(prefix, Mandatory::P66 | Mandatory::F3 | Mandatory::F2), "MANDATORY");
    set(prefix == Mandatory::P66 || row.attrs.has("i66"), "NO_OPSIZE");
    set(row.attrs.has("d64"), "D64");
    set(row.attrs.has("f64"), "F64");
    let is_reg_form = |f: &&Form| matches!(f, Form::Sw | Form::C | Form::D);
    if let Some(form) = row.forms.iter().find(is_reg_form) {
        let check = match form {
            Form::Sw if row.forms.first() == Some(&Form::Sw) => "CHECK_SEG_WRITTEN",
            Form::Sw => "CHECK_SEG_READ",
            Form::C => "CHECK_CR",
            _ => "CHECK_DR",
        };
        bits |= bit(check);
    }
    Ok(bits)
}

fn immediates(row: &Row) -> Result<u32, String> {
    let kind = |imm: &Imm| {
        bit(match imm {
            Imm::B | Imm::Is4 => "IMM_B",
            Imm::W => "IMM_W",
            Imm::D => "IMM_D",
            Imm::Q => "IMM_Q",
            Imm::Z => "IMM_Z",
            Imm::V => "IMM_V",
            Imm::Ptr => "IMM_PTR",
            Imm::Moffs => "IMM_MOFFS",
        })
    };
    match row.opcode.imms.as_slice() {
        [] => Ok(0),
        [one] => Ok(kind(one)),
        [first, second @ (Imm::B | Imm::W | Imm::D | Imm::Z)] if *first != Imm::Ptr => {
            Ok(kind(first) | kind(second) << 4)
        }
        _ => Err(format!("`{}`: the decoder has no place for these immediates", row.opcode.text)),
    }
}

/// May ModRM select a register in this row?
pub(super) fn admits_register(row: &Row) -> bool {
    let needs_memory =
        |f: &Form| matches!(f, Form::M(_) | Form::MAddr | Form::Mp | Form::Ma | Form::Ms);
    row.attrs.has("nomod") || !(row.attrs.has("mem") || row.forms.iter().any(needs_memory))
}

/// May ModRM select memory in this row?
pub(super) fn admits_memory(row: &Row) -> bool {
    let needs_register = |f: &Form| f.is_rm_register();
    row.attrs.has("nomod") || !(row.attrs.has("reg") || row.forms.iter().any(needs_register))
}
