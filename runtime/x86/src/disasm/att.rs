//! Operands in AT&T spelling: sources first, `%` before registers, `$` before immediates.

use super::{
    branch_target, high_name, immediate, index_name, number, operand, register_name, segment_name,
    signed, stack_name, truncate, vector_name,
};
use crate::decode::{MemOperand, Operand};
use crate::insn::{Form, Insn, prefix};

/// All operands, last first.
pub(super) fn operands(insn: &Insn, pc: u64, is_indirect: bool) -> String {
    let forms = insn.info().forms;
    let mut texts: Vec<String> = (0..forms.len())
        .filter(|i| forms[*i] != Form::Same)
        .map(|i| spell(insn, pc, forms[i], operand(insn, i)))
        .collect();
    // The two columns of an instruction with two immediates (ENTER) keep the manual's order.
    if !forms.iter().all(|form| matches!(form, Form::I(_) | Form::Iu(_))) {
        texts.reverse();
    }
    let star = if is_indirect { "*" } else { "" };
    format!("{star}{}", texts.join(", "))
}

fn spell(insn: &Insn, pc: u64, form: Form, bound: Operand) -> String {
    match bound {
        Operand::Reg { num, bits } => format!("%{}", register_name(num, bits)),
        Operand::High { num } => format!("%{}", high_name(num)),
        Operand::Mem(m) => memory(insn, &m),
        Operand::Imm { value, bits } => format!("${}", immediate(insn, form, value, bits)),
        Operand::Rel { disp } => branch_target(insn, pc, disp),
        Operand::Far { sel, off } => format!("${}:${}", number(u64::from(sel)), number(off)),
        Operand::Vec { num, bits } => format!("%{}", vector_name(num, bits)),
        Operand::Mmx { num } => format!("%mm{num}"),
        Operand::St { num } => format!("%{}", stack_name(form, num)),
        Operand::Seg(n) => format!("%{}", segment_name(n)),
        Operand::Cr(n) => format!("%cr{n}"),
        Operand::Dr(n) => format!("%dr{n}"),
        Operand::Str { seg, reg, .. } => {
            let is_shown = reg == 7 || insn.prefixes & prefix::SEG != 0;
            let segment = if is_shown { format!("%{}:", segment_name(seg)) } else { String::new() };
            format!("{segment}(%{})", register_name(reg, insn.asz))
        }
    }
}

fn memory(insn: &Insn, m: &MemOperand) -> String {
    let mut text = String::new();
    if insn.prefixes & prefix::SEG != 0 {
        text = format!("%{}:", segment_name(m.seg));
    }
    if m.base.is_none() && m.index.is_none() && m.vector_index.is_none() && !m.rip {
        return text + &number(truncate(m.disp.cast_unsigned(), m.asz));
    }
    if m.disp != 0 {
        text += &signed(m.disp);
    }
    text.push('(');
    if m.rip {
        text += if m.asz == 32 { "%eip" } else { "%rip" };
    }
    if let Some(base) = m.base {
        text += &format!("%{}", register_name(base, m.asz));
    }
    if let Some(index) = index_name(insn, m) {
        text += &format!(", %{}", index);
        if m.scale != 0 {
            text += &format!(", {}", 1 << m.scale);
        }
    }
    text + ")"
}
