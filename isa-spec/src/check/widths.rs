//! Widths and types of bodies: each body is typed for every row and every size the row allows.

use super::describe_row;
use super::konst::Sizes;
use super::types::{Ty, Typer, sizes_of};
use crate::error::{Diag, Sink};
use crate::model::{Expr, ExprKind, Form, Isa, Place, Pos, Stmt, StmtKind};
use std::collections::BTreeSet;

/// Checks every insn.
pub(super) fn check(isa: &Isa, sink: &mut Sink) {
    let mut told: BTreeSet<Pos> = BTreeSet::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for row in &isa.rows {
        let Some(insn) = isa.insns.get(row.insn) else {
            continue;
        };
        let key = format!("{} {:?} {:?}", row.insn, row.forms, row.attrs.with);
        if !seen.insert(key) {
            continue;
        }
        for sizes in sizes_of(row) {
            let lets = Vec::new();
            let mut typer = Typer { isa, insn, row, sizes, lets, errors: Vec::new() };
            body(&mut typer, &insn.body);
            for (pos, text) in typer.errors {
                if told.insert(pos) {
                    let note = format!("in row {}, {}", describe_row(isa, row), sizes_text(&sizes));
                    sink.push(Diag::new(pos, text).note(Some(row.pos), note));
                }
            }
        }
    }
}

fn sizes_text(sizes: &Sizes) -> String {
    let Sizes { osz, asz, ssz, w } = sizes;
    format!("W = {w} (operand size {osz}, address size {asz}, stack {ssz})")
}

fn body<'a>(t: &mut Typer<'a>, list: &'a [Stmt]) {
    let scope = t.lets.len();
    for stmt in list {
        statement(t, stmt);
    }
    t.lets.truncate(scope);
}

fn statement<'a>(t: &mut Typer<'a>, stmt: &'a Stmt) {
    match &stmt.kind {
        StmtKind::Let(names, value) => let_names(t, names, value),
        StmtKind::Assign(place, value) => assign(t, place, value, stmt.pos),
        StmtKind::Cc(kind, args) => {
            if kind == "set" {
                let ty = args.first().map_or(Ty::Unknown, |a| t.ty(a));
                t.fits(ty, 32, stmt.pos, "`cc = set(…)`");
            } else if let Ty::Adapt(_) = t.operation(kind, args, stmt.pos) {
                t.fail(stmt.pos, format!("the width of `{kind}` is unknown"));
            }
        }
        StmtKind::If(cond, then, other) => {
            t.condition(cond);
            let known = t.known(cond);
            if known != Some(false) {
                body(t, then);
            }
            if known != Some(true) {
                body(t, other);
            }
        }
        StmtKind::Raise(_, code) => {
            if let Some(code) = code {
                let ty = t.ty(code);
                if let Ty::Bool | Ty::Unit | Ty::Pair(_) = ty {
                    t.fail(code.pos, "an error code is a number");
                }
            }
        }
        StmtKind::Goto(target) => {
            let ty = t.ty(target);
            let want = t.sizes.w;
            t.fits(ty, want, target.pos, "the target of `goto!`");
        }
        StmtKind::Mark(_) | StmtKind::Native(..) => {}
        StmtKind::Effect(e) => {
            let ty = t.ty(e);
            if let (ExprKind::Call(name, args, _), Ty::Unit) = (&e.kind, ty)
                && name == "push"
                && let Some(arg) = args.first()
            {
                let ty = t.ty(arg);
                t.stack_value(ty, arg.pos);
            }
        }
    }
}

fn let_names<'a>(t: &mut Typer<'a>, names: &'a [String], value: &'a Expr) {
    let ty = t.ty(value);
    match (ty, names) {
        (Ty::Pair(w), [a, b]) => {
            t.lets.push((a, Ty::Int(w)));
            t.lets.push((b, Ty::Int(w)));
        }
        (Ty::Unit, [name]) => {
            t.fail(value.pos, "this gives no value");
            t.lets.push((name, Ty::Unknown));
        }
        (ty, names) => {
            let ty = if names.len() == 1 { ty } else { Ty::Unknown };
            for name in names {
                t.lets.push((name, ty));
            }
        }
    }
}

fn assign<'a>(t: &mut Typer<'a>, place: &'a Place, value: &'a Expr, pos: Pos) {
    let ty = t.ty(value);
    match place {
        Place::Flag(_) => {
            if !matches!(ty, Ty::Bool | Ty::Unknown) {
                t.fail(value.pos, "a flag is assigned a truth value");
            }
        }
        Place::Reg(_, width) => {
            let want = t.sizes.bits(*width);
            t.fits(ty, want, value.pos, "the register");
        }
        Place::Field(name, field) => {
            if let Ty::Int(want) = t.field(name, field, pos) {
                t.fits(ty, want, value.pos, &format!("`{name}.{field}`"));
            }
        }
        Place::State(n) => {
            if let Ty::Int(want) = t.state(*n) {
                t.fits(ty, want, value.pos, "the field of the state");
            }
        }
        Place::Operand(name) => {
            let popped = matches!(&value.kind, ExprKind::Call(f, _, _) if f == "pop");
            let segment = matches!(t.form(name), Some(Form::Seg(_) | Form::Sw));
            if let Some(want) = t.operand_width(name, pos)
                && !(popped && segment)
            {
                t.fits(ty, want, value.pos, &format!("`{name}`"));
            }
        }
    }
}
