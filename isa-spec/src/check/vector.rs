//! FP and vector rows: forms against encodings and state attributes, `native!` bodies, names of features.

use super::{describe_row, each_stmt};
use crate::error::{Diag, Sink, suggest};
use crate::model::{Form, Insn, Isa, Row, StmtKind, Vex, VexL};
use crate::parse::form::form_name;

/// Attributes that say what state a row uses.
const STATE: [&str; 5] = ["x87", "mmx", "sse", "avx", "wait"];

/// Checks every row and body.
pub(super) fn check(isa: &Isa, sink: &mut Sink) {
    for insn in &isa.insns {
        native_body(insn, sink);
    }
    for row in &isa.rows {
        let Some(insn) = isa.insns.get(row.insn) else { continue };
        let mut tell = |text: String| {
            let note = format!("row {}", describe_row(isa, row));
            sink.push(Diag::new(row.pos, text).note(None, note));
        };
        encoding(row, &mut tell);
        state(row, &mut tell);
        attributes(row, &mut tell);
        features(isa, row, &mut tell);
        native_row(insn, row, &mut tell);
    }
}

/// `native!` stands alone: nothing of a body may come before or after what the host does.
fn native_body(insn: &Insn, sink: &mut Sink) {
    let mut native = None;
    let mut count = 0;
    each_stmt(&insn.body, &mut |stmt| {
        count += 1;
        if let StmtKind::Native(..) = stmt.kind {
            native = Some(stmt.pos);
        }
    });
    if let Some(pos) = native
        && count > 1
    {
        sink.error(pos, "`native!` is the only statement of its body");
    }
}

/// Which forms which encodings have.
fn encoding(row: &Row, tell: &mut dyn FnMut(String)) {
    for form in &row.forms {
        let vex_only = matches!(form, Form::L(_) | Form::B(_));
        if vex_only && row.opcode.vex.is_none() {
            tell(format!("operand `{}` exists in VEX rows only", form_name(*form)));
        }
    }
    if row.forms.iter().filter(|form| form.uses_vvvv()).count() > 1 {
        tell("two operands in VEX.vvvv".to_string());
    }
    let first = row.forms.iter().find(|form| **form != Form::Same);
    let names_register = matches!(first, Some(Form::V(_) | Form::U(_) | Form::P(_) | Form::N(_)));
    if row.forms.contains(&Form::Same) && !names_register {
        tell("`H`: the first other operand of a legacy row must be a `V` or `U` register".into());
    }
    let is_x87 = (0xD8..=0xDF).contains(&row.opcode.byte) && row.opcode.vex.is_none();
    if row.forms.iter().any(|form| matches!(form, Form::StI | Form::St0)) && !is_x87 {
        tell("`ST` operands belong to the opcodes D8 to DF".to_string());
    }
    if let Some(Vex { l: VexL::Lz, .. }) = row.opcode.vex
        && row.forms.iter().any(|form| form.is_vector())
    {
        tell("`LZ` is for rows without vector operands: write 128".to_string());
    }
}

/// The state attributes against the operands.
fn state(row: &Row, tell: &mut dyn FnMut(String)) {
    let is_vex = row.opcode.vex.is_some();
    let has = |name: &str| row.attrs.has(name);
    let any = |is: &dyn Fn(&Form) -> bool| row.forms.iter().find(|form| is(form)).copied();
    let mut want = |form: Option<Form>, name: &str| {
        if let Some(form) = form.filter(|_| !has(name)) {
            tell(format!("operand `{}`: the row must say `{name}`", form_name(form)));
        }
    };
    want(any(&|form| form.is_vector()), if is_vex { "avx" } else { "sse" });
    want(any(&|form| matches!(form, Form::P(_) | Form::Q(_) | Form::N(_))), "mmx");
    want(any(&|form| matches!(form, Form::St0 | Form::StI)), "x87");
    if has("avx") && !is_vex {
        tell("`avx`: this is no VEX row".to_string());
    }
    if has("sse") && is_vex {
        tell("`sse`: a VEX row uses `avx`".to_string());
    }
}

fn attributes(row: &Row, tell: &mut dyn FnMut(String)) {
    let has = |name: &str| row.attrs.has(name);
    let memory = row.forms.iter().chain(row.attrs.with.iter().map(|(_, form)| form));
    let memory = memory.into_iter().any(|form| form.may_be_memory());
    for name in ["align", "aligned", "vsib"] {
        if has(name) && !memory {
            tell(format!("`{name}`: no operand of this row can be memory"));
        }
    }
    if has("align") && has("aligned") {
        tell("`align` and `aligned` exclude each other".to_string());
    }
    if has("align") && row.opcode.vex.is_some() {
        tell("`align` speaks of legacy encodings; `aligned` of every one".to_string());
    }
    if has("vsib") && row.opcode.vex.is_none() {
        tell("`vsib`: this is no VEX row".to_string());
    }
    for name in ["nowait", "control"] {
        if has(name) && !has("x87") && !has("wait") {
            tell(format!("`{name}`: this is no `x87` row"));
        }
    }
    if has("mxcsr") && !has("sse") && !has("avx") {
        tell("`mxcsr`: the row must say `sse` or `avx`".to_string());
    }
    for name in ["mxcsr", "implicit"] {
        if has(name) && !has("native") {
            tell(format!("`{name}`: the body is not `native!`"));
        }
    }
    if has("wait") && STATE[..4].iter().any(|name| has(name)) {
        tell("`wait` stands alone: x87 rows wait by themselves".to_string());
    }
}

/// Every feature that gates a row is declared, once anything is.
fn features(isa: &Isa, row: &Row, tell: &mut dyn FnMut(String)) {
    if isa.features.is_empty() {
        return;
    }
    let names = row.attrs.arg("cpuid").unwrap_or_default().split(',').filter(|n| !n.is_empty());
    for name in names {
        if !isa.features.iter().any(|feature| feature.name == name) {
            let near = suggest(name, isa.features.iter().map(|f| f.name.as_str()));
            tell(format!("`cpuid({name})`: no feature of that name is declared{near}"));
        }
    }
}

/// Operands of `native!` in this row.
fn native_row(insn: &Insn, row: &Row, tell: &mut dyn FnMut(String)) {
    let Some(StmtKind::Native(written, read)) = insn.body.first().map(|stmt| &stmt.kind) else {
        return;
    };
    let form = |name: &String| {
        let own = insn.params.iter().position(|param| param == name);
        let with = row.attrs.with.iter().find(|(n, _)| n == name).map(|(_, form)| *form);
        own.and_then(|n| row.forms.get(n).copied()).or(with)
    };
    let is_general =
        |form: &Form| matches!(form, Form::E(_) | Form::G(_) | Form::R(_) | Form::B(_));
    let general: Vec<Form> = written.iter().filter_map(form).filter(is_general).collect();
    if general.len() > 1 {
        tell("`native!` writes two general registers: one at most".to_string());
    }
    for (names, is_written) in [(written, true), (read, false)] {
        for name in names {
            let Some(form) = form(name) else { continue };
            let is_value = matches!(form, Form::I(_) | Form::Iu(_) | Form::Lit(_));
            let is_known = form.is_vector()
                || is_general(&form)
                || matches!(form, Form::M(_) | Form::MAddr | Form::Same | Form::St0 | Form::StI)
                || matches!(form, Form::P(_) | Form::Q(_) | Form::N(_) | Form::Reg(..));
            if !(is_known || is_value && !is_written) {
                let form = form_name(form);
                tell(format!("`native!` cannot take operand `{name}` ({form}) in this place"));
            }
        }
    }
}
