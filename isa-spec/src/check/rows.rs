//! Rows by themselves: opcode column against operand forms, attributes against both and against
//! the body.

use super::{all_exprs, describe_row, each_stmt};
use crate::error::{Diag, Sink};
use crate::model::{ExprKind, Form, Imm, Insn, Isa, ModRm, Place, Row, StmtKind, Sz};
use crate::parse::form::form_name;
use std::collections::BTreeSet;

/// What a body does with names.
struct Uses<'a> {
    read: BTreeSet<&'a str>,
    written: BTreeSet<&'a str>,
}

/// Checks every row.
pub(super) fn check(isa: &Isa, sink: &mut Sink) {
    let uses: Vec<Uses<'_>> = isa.insns.iter().map(uses).collect();
    for insn in &isa.insns {
        if insn.doc.is_empty() {
            let text = format!("insn `{}` has no doc line (`/// effect. Source.`)", insn.name);
            sink.error(insn.pos, text);
        }
        leaving_helpers(isa, insn, sink);
        unused_lets(insn, sink);
    }
    for row in &isa.rows {
        let (Some(insn), Some(uses)) = (isa.insns.get(row.insn), uses.get(row.insn)) else {
            continue;
        };
        let mut tell = |text: String| {
            let note = format!("row {}", describe_row(isa, row));
            sink.push(Diag::new(row.pos, text).note(None, note));
        };
        modrm(row, &mut tell);
        opcode_register(row, &mut tell);
        immediates(row, &mut tell);
        names(insn, row, uses, &mut tell);
        prefixes(insn, row, uses, &mut tell);
        attributes(row, &mut tell);
    }
}

fn uses(insn: &Insn) -> Uses<'_> {
    let mut uses = Uses { read: BTreeSet::new(), written: BTreeSet::new() };
    all_exprs(&insn.body, &mut |e| match &e.kind {
        ExprKind::Name(name) | ExprKind::Field(name, _) => {
            uses.read.insert(name);
        }
        _ => {}
    });
    each_stmt(&insn.body, &mut |stmt| match &stmt.kind {
        StmtKind::Assign(Place::Operand(name) | Place::Field(name, _), _) => {
            uses.written.insert(name);
        }
        StmtKind::Native(written, read) => {
            uses.written.extend(written.iter().map(String::as_str));
            uses.read.extend(read.iter().map(String::as_str));
        }
        _ => {}
    });
    uses
}

/// A helper that sets the instruction pointer ends the body's insn.
fn leaving_helpers(isa: &Isa, insn: &Insn, sink: &mut Sink) {
    let mut ends = None;
    all_exprs(&insn.body, &mut |e| {
        if let ExprKind::Helper(n, _) = e.kind
            && let Some(h) = isa.helpers.get(n)
            && h.effects.iter().any(|x| x == "ends")
        {
            ends = Some((e.pos, &h.name));
        }
    });
    let mut leaves = false;
    each_stmt(&insn.body, &mut |stmt| {
        leaves |= matches!(&stmt.kind, StmtKind::Mark(m) if m == "exit" || m == "halt");
    });
    if let Some((pos, name)) = ends
        && !leaves
    {
        let text = format!("helper `{name}` ends the block: the body must say `exit!();` after it");
        sink.error(pos, text);
    }
}

/// A `let` that nothing reads is a slip of the pen.
fn unused_lets(insn: &Insn, sink: &mut Sink) {
    let Uses { read, .. } = uses(insn);
    each_stmt(&insn.body, &mut |stmt| {
        if let StmtKind::Let(names, _) = &stmt.kind {
            for name in names.iter().filter(|n| !n.starts_with('_') && !read.contains(n.as_str())) {
                sink.error(stmt.pos, format!("nothing reads `{name}`"));
            }
        }
    });
}

fn modrm(row: &Row, tell: &mut dyn FnMut(String)) {
    let in_rm = row.forms.iter().filter(|f| f.uses_rm()).count();
    let in_reg = row.forms.iter().filter(|f| f.uses_reg()).count();
    if in_rm > 1 {
        tell("two operands in ModRM.rm".to_string());
    }
    if in_reg > 1 {
        tell("two operands in ModRM.reg".to_string());
    }
    let form = |f: &dyn Fn(&Form) -> bool| {
        row.forms.iter().find(|x| f(x)).map(|x| form_name(*x)).unwrap_or_default()
    };
    // `/n` may pick one control or debug register; the operand's value is its number then.
    let general = |f: &Form| matches!(f, Form::G(_) | Form::Sw | Form::V(_) | Form::P(_));
    match row.opcode.modrm {
        ModRm::Any => {}
        ModRm::Reg(n) if row.forms.iter().any(general) => {
            let name = form(&general);
            tell(format!("`/{n}` fixes ModRM.reg, so no operand can be `{name}`"));
        }
        ModRm::Reg(_) => {}
        ModRm::None | ModRm::Fixed(_) | ModRm::FixedPlus(_) if in_rm + in_reg > 0 => {
            let name = form(&|f| f.uses_rm() || f.uses_reg());
            tell(format!("operand `{name}` needs a ModRM byte: `/r` or `/0`..`/7`"));
        }
        ModRm::None | ModRm::Fixed(_) | ModRm::FixedPlus(_) => {}
    }
}

fn opcode_register(row: &Row, tell: &mut dyn FnMut(String)) {
    let in_opcode = row.forms.iter().find(|f| matches!(f, Form::Z(_)));
    let plus_r = row.opcode.span == 8;
    match in_opcode {
        Some(form) if !plus_r => {
            tell(format!("operand `{}` needs `+r` in the opcode", form_name(*form)));
        }
        None if plus_r => tell("`+r` in the opcode, but no operand `Zb`, `Zw` or `Zv`".to_string()),
        _ => {}
    }
}

fn immediates(row: &Row, tell: &mut dyn FnMut(String)) {
    let wanted: Vec<Imm> = row.forms.iter().filter_map(|f| column_of(*f)).collect();
    if wanted == row.opcode.imms {
        return;
    }
    let text = |list: &[Imm]| {
        let words: Vec<&str> = list.iter().map(|i| column_name(*i)).collect();
        if words.is_empty() { "none".to_string() } else { format!("`{}`", words.join(" ")) }
    };
    let (want, have) = (text(&wanted), text(&row.opcode.imms));
    tell(format!("the operands ask for immediate columns {want}, the opcode has {have}"));
}

fn column_of(form: Form) -> Option<Imm> {
    match form {
        Form::I(s) | Form::Iu(s) | Form::J(s) => Some(match s {
            Sz::B => Imm::B,
            Sz::W => Imm::W,
            Sz::D | Sz::Y => Imm::D,
            Sz::Q => Imm::Q,
            Sz::V => Imm::V,
            Sz::Z => Imm::Z,
            Sz::T | Sz::Dq | Sz::Qq | Sz::X => return None,
        }),
        Form::L(_) => Some(Imm::Is4),
        Form::O(_) => Some(Imm::Moffs),
        Form::Ap => Some(Imm::Ptr),
        _ => None,
    }
}

fn column_name(imm: Imm) -> &'static str {
    match imm {
        Imm::B => "ib",
        Imm::W => "iw",
        Imm::D => "id",
        Imm::Q => "iq",
        Imm::Z => "iz",
        Imm::V => "iv",
        Imm::Ptr => "cp",
        Imm::Moffs => "ov",
        Imm::Is4 => "is4",
    }
}

fn names(insn: &Insn, row: &Row, uses: &Uses<'_>, tell: &mut dyn FnMut(String)) {
    for (name, _) in &row.attrs.with {
        if insn.params.contains(name) {
            tell(format!("`with({name} = …)` has the name of an operand"));
        }
        if !uses.read.contains(name.as_str()) && !uses.written.contains(name.as_str()) {
            tell(format!("the body does not use `{name}` of `with`"));
        }
    }
    let idle = row.attrs.has("noaccess") || row.attrs.has("undef");
    for name in insn.params.iter().map(String::as_str) {
        if !idle && !uses.read.contains(name) && !uses.written.contains(name) {
            tell(format!(
                "the body does not use operand `{name}` (`noaccess` says it is decoded only)"
            ));
        }
    }
    let bound = |name: &str| {
        insn.params.iter().any(|p| p == name) || row.attrs.with.iter().any(|(n, _)| n == name)
    };
    let mut missing: BTreeSet<&str> = uses.written.clone();
    let mut lets = BTreeSet::new();
    each_stmt(&insn.body, &mut |stmt| {
        if let StmtKind::Let(names, _) = &stmt.kind {
            lets.extend(names.iter().map(String::as_str));
        }
    });
    missing.extend(uses.read.iter().filter(|n| !lets.contains(*n)));
    for name in missing.into_iter().filter(|n| !bound(n)) {
        let hint = format!("`with({name} = …)`");
        tell(format!("the body uses `{name}`, which this row does not bind ({hint})"));
    }
}

fn prefixes(insn: &Insn, row: &Row, uses: &Uses<'_>, tell: &mut dyn FnMut(String)) {
    let locked = if row.attrs.has("lock") { "lock" } else { "locked" };
    if row.attrs.has("lock") || row.attrs.has("locked") {
        let pairs = || insn.params.iter().zip(&row.forms);
        let memory = pairs().find(|(_, f)| f.uses_rm() && f.may_be_memory());
        match memory {
            None => tell(format!("`{locked}`: no operand of this row can be memory")),
            Some((name, form)) => {
                let name = name.as_str();
                if !uses.written.contains(name) || !uses.read.contains(name) {
                    let form = form_name(*form);
                    tell(format!(
                        "`{locked}`: the body does not both read and write `{name}` ({form})"
                    ));
                }
            }
        }
    }
    let string = |f: &Form| matches!(f, Form::X(_) | Form::Y(_));
    let is_string = row.forms.iter().any(string) || row.attrs.with.iter().any(|(_, f)| string(f));
    for word in ["rep", "repcc"] {
        if row.attrs.has(word) && !is_string {
            tell(format!("`{word}`: the row has no string operand (`X` or `Y`)"));
        }
    }
    if row.attrs.has("bulk") && !row.attrs.has("rep") && !row.attrs.has("repcc") {
        tell("`bulk` needs `rep` or `repcc`".to_string());
    }
}

fn attributes(row: &Row, tell: &mut dyn FnMut(String)) {
    for (a, b) in [("i64", "o64"), ("d64", "f64"), ("norexb", "rexb"), ("rep", "repcc")] {
        if row.attrs.has(a) && row.attrs.has(b) {
            tell(format!("`{a}` and `{b}` exclude each other"));
        }
    }
    if row.opcode.vex.is_some() && row.opcode.text.contains("REX") {
        tell("a VEX row has no REX prefix: write W1".to_string());
    }
    if row.attrs.has("nomod") && !row.forms.iter().any(|f| matches!(f, Form::R(_))) {
        tell("`nomod`: the row has no `R` operand".to_string());
    }
    if row.attrs.has("bitbase") && !row.forms.iter().any(|f| matches!(f, Form::E(_) | Form::M(_))) {
        tell("`bitbase`: the row has no `E` or `M` operand".to_string());
    }
    if row.opcode.rex_w && row.attrs.has("i64") {
        tell("REX.W does not exist outside 64-bit mode (`i64`)".to_string());
    }
}
