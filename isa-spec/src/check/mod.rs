//! Checks of the whole table: what the parser cannot see in one item alone.

mod cases;
mod flags;
mod konst;
mod overlap;
mod rows;
mod types;
mod vector;
mod widths;
mod writes;

use crate::error::{Errors, Sink};
use crate::model::{Expr, ExprKind, Insn, Isa, Row, Stmt, StmtKind};
use crate::parse::form::form_name;

/// Checks the tables.
pub fn check(isa: &Isa) -> Result<(), Errors> {
    check_in("", isa)
}

/// Checks the tables; `folder` is shown before file names.
pub(crate) fn check_in(folder: &str, isa: &Isa) -> Result<(), Errors> {
    let mut sink = Sink::default();
    rows::check(isa, &mut sink);
    overlap::check(isa, &mut sink);
    flags::check(isa, &mut sink);
    widths::check(isa, &mut sink);
    writes::check(isa, &mut sink);
    vector::check(isa, &mut sink);
    cases::check(isa, &mut sink);
    sink.finish(folder, &isa.files)
}

/// Instructions that should have a case and have none, by index into [`Isa::insns`]: those whose
/// whole work stands in the table. What helpers and ports do is tested with the machine, what the host does natively
/// with the host.
pub fn missing_cases(isa: &Isa) -> Vec<usize> {
    let bare = isa.insns.iter().enumerate().filter(|(_, i)| i.cases.is_empty());
    bare.filter(|(_, insn)| !uses_machine(insn)).map(|(n, _)| n).collect()
}

fn uses_machine(insn: &Insn) -> bool {
    let is_native = |stmt: &Stmt| matches!(stmt.kind, StmtKind::Native(..));
    let mut found = insn.body.iter().any(is_native);
    all_exprs(&insn.body, &mut |e| {
        found |= match &e.kind {
            ExprKind::Helper(..) => true,
            ExprKind::Call(name, ..) => name == "port_in" || name == "port_out",
            _ => false,
        }
    });
    found
}

/// A row in one line: "ADD `00 /r` Eb, Gb lock (arith.isa:7)".
pub fn describe_row(isa: &Isa, row: &Row) -> String {
    let name = isa.insns.get(row.insn).map_or("?", |i| i.name.as_str());
    let forms: Vec<String> = row.forms.iter().map(|f| form_name(*f)).collect();
    let forms = if forms.is_empty() { "-".to_string() } else { forms.join(", ") };
    let file = isa.files.get(usize::from(row.pos.file)).map_or("?", |(n, _)| n.as_str());
    format!("{name} `{}` {forms} ({file}:{})", row.opcode.text, row.pos.line)
}

/// Calls `f` with every statement, inner ones included, outer first.
pub(crate) fn each_stmt<'a>(body: &'a [Stmt], f: &mut dyn FnMut(&'a Stmt)) {
    for stmt in body {
        f(stmt);
        if let StmtKind::If(_, then, other) = &stmt.kind {
            each_stmt(then, f);
            each_stmt(other, f);
        }
    }
}

/// Calls `f` with the expressions that stand directly in a statement.
pub(crate) fn exprs_of<'a>(stmt: &'a Stmt, f: &mut dyn FnMut(&'a Expr)) {
    match &stmt.kind {
        StmtKind::Let(_, e) | StmtKind::Assign(_, e) | StmtKind::Goto(e) => f(e),
        StmtKind::Effect(e) | StmtKind::If(e, _, _) => f(e),
        StmtKind::Cc(_, args) => args.iter().for_each(f),
        StmtKind::Raise(_, code) => code.iter().for_each(f),
        StmtKind::Mark(_) | StmtKind::Native(..) => {}
    }
}

/// Calls `f` with an expression and all within it, outer first.
pub(crate) fn each_expr<'a>(e: &'a Expr, f: &mut dyn FnMut(&'a Expr)) {
    f(e);
    match &e.kind {
        ExprKind::Un(_, a) => each_expr(a, f),
        ExprKind::Bin(_, a, b) => {
            each_expr(a, f);
            each_expr(b, f);
        }
        ExprKind::Call(_, args, _) | ExprKind::Helper(_, args) => {
            for a in args {
                each_expr(a, f);
            }
        }
        ExprKind::Mem { off, value, .. } => {
            each_expr(off, f);
            if let Some(value) = value {
                each_expr(value, f);
            }
        }
        ExprKind::If(c, a, b) => {
            each_expr(c, f);
            each_expr(a, f);
            each_expr(b, f);
        }
        ExprKind::Int(_) | ExprKind::Bool(_) | ExprKind::Name(_) | ExprKind::Reg(..) => {}
        ExprKind::Seg(_) | ExprKind::Flag(_) | ExprKind::WidthNum(_) | ExprKind::NextIp => {}
        ExprKind::Field(..) | ExprKind::State(_) => {}
    }
}

/// Calls `f` with every expression of a body.
pub(crate) fn all_exprs<'a>(body: &'a [Stmt], f: &mut dyn FnMut(&'a Expr)) {
    each_stmt(body, &mut |stmt| exprs_of(stmt, &mut |e| each_expr(e, f)));
}
