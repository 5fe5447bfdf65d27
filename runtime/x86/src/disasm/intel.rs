//! Operands in Intel spelling: destination first, memory with its size.

use super::{
    branch_target, high_name, immediate, index_name, number, operand, register_name, segment_name,
    stack_name, truncate, vector_name,
};
use crate::decode::{MemOperand, Operand};
use crate::insn::{Form, Insn, prefix};

/// All operands.
pub(super) fn operands(insn: &Insn, pc: u64) -> String {
    let forms = insn.info().forms;
    let texts: Vec<String> = (0..forms.len())
        .filter(|i| forms[*i] != Form::Same)
        .map(|i| spell(insn, pc, forms[i], operand(insn, i)))
        .collect();
    texts.join(", ")
}

fn spell(insn: &Insn, pc: u64, form: Form, bound: Operand) -> String {
    match bound {
        Operand::Reg { num, bits } => register_name(num, bits),
        Operand::High { num } => high_name(num).to_owned(),
        Operand::Mem(m) => format!("{}{}", size_name(m.bits), memory(insn, &m)),
        Operand::Imm { value, bits } => immediate(insn, form, value, bits),
        Operand::Rel { disp } => branch_target(insn, pc, disp),
        Operand::Far { sel, off } => format!("{}:{}", number(u64::from(sel)), number(off)),
        Operand::Vec { num, bits } => vector_name(num, bits),
        Operand::Mmx { num } => format!("mm{num}"),
        Operand::St { num } => stack_name(form, num),
        Operand::Seg(n) => segment_name(n).to_owned(),
        Operand::Cr(n) => format!("cr{n}"),
        Operand::Dr(n) => format!("dr{n}"),
        Operand::Str { seg, reg, bits } => {
            let is_shown = reg == 7 || insn.prefixes & prefix::SEG != 0;
            let segment = if is_shown { format!("{}:", segment_name(seg)) } else { String::new() };
            format!("{}{segment}[{}]", size_name(u16::from(bits)), register_name(reg, insn.asz))
        }
    }
}

const fn size_name(bits: u16) -> &'static str {
    match bits {
        8 => "byte ptr ",
        16 => "word ptr ",
        32 => "dword ptr ",
        48 => "fword ptr ",
        64 => "qword ptr ",
        80 => "tbyte ptr ",
        128 => "xmmword ptr ",
        256 => "ymmword ptr ",
        _ => "",
    }
}

fn memory(insn: &Insn, m: &MemOperand) -> String {
    let mut text = String::new();
    if insn.prefixes & prefix::SEG != 0 {
        text = format!("{}:", segment_name(m.seg));
    }
    let mut terms: Vec<String> = Vec::new();
    if m.rip {
        terms.push(if m.asz == 32 { "eip" } else { "rip" }.to_owned());
    }
    terms.extend(m.base.map(|base| register_name(base, m.asz)));
    if let Some(index) = index_name(insn, m) {
        // Alone, even a factor of one is shown: `[ebp*1]` is in DS, `[ebp]` in SS.
        let scale = if m.scale == 0 && m.base.is_some() {
            String::new()
        } else {
            format!("*{}", 1 << m.scale)
        };
        terms.push(format!("{}{scale}", index));
    }
    if terms.is_empty() {
        return format!("{text}[{}]", number(truncate(m.disp.cast_unsigned(), m.asz)));
    }
    let sign = if m.disp < 0 { "-" } else { "+" };
    let disp = if m.disp == 0 {
        String::new()
    } else {
        format!(" {sign} {}", number(m.disp.unsigned_abs()))
    };
    format!("{text}[{}{disp}]", terms.join(" + "))
}
