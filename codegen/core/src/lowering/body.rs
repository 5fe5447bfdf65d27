//! Statements of a body, as calls on the lowering context.

use super::expr::{field, width};
use super::{function_name, helpers, with_names};
use isa_spec::model::{Expr, ExprKind, ExprWidth, Insn, Isa, Place, Pos, Stmt, StmtKind};
use std::fmt::Write as _;

/// The lowering function of an instruction.
pub fn function(isa: &Isa, insn: &Insn) -> Result<String, String> {
    let mut operands = insn.params.clone();
    operands.extend(with_names(isa, insn));
    let mut body = Body {
        isa,
        insn,
        operands,
        lets: Vec::new(),
        reads: Vec::new(),
        out: String::new(),
        depth: 1,
        temps: 0,
    };
    let doc = insn.doc.lines().next().unwrap_or_default().trim();
    let params = insn.params.join(", ");
    let _ = writeln!(body.out, "/// {} {params}: {doc}", insn.name);
    let _ = writeln!(body.out, "fn {}(cx: &mut Lower<'_>) {{", function_name(insn));
    let uses_simd = |row: &isa_spec::model::Row| {
        ["x87", "mmx", "sse", "avx", "wait"].into_iter().any(|name| row.attrs.has(name))
    };
    if super::rows_of(isa, insn).any(uses_simd) {
        body.line("cx.simd_enter();");
    } else if insn.body.is_empty() {
        body.line("let _ = cx;");
    }
    body.statements(&insn.body)?;
    body.out.push_str("}\n");
    Ok(body.out)
}

/// Text of one body under construction.
pub(super) struct Body<'a> {
    pub(super) isa: &'a Isa,
    insn: &'a Insn,
    /// Operand names by number: parameters, then `with` names.
    operands: Vec<String>,
    /// `let` names in scope.
    lets: Vec<String>,
    /// Reads of operands and registers in scope, and the names that hold them: all reads see the entry state.
    reads: Vec<(String, String)>,
    out: String,
    depth: usize,
    temps: u32,
}

impl Body<'_> {
    fn statements(&mut self, stmts: &[Stmt]) -> Result<(), String> {
        stmts.iter().try_for_each(|stmt| self.statement(stmt))
    }

    fn statement(&mut self, stmt: &Stmt) -> Result<(), String> {
        match &stmt.kind {
            StmtKind::Let(names, value) => self.bind(names, value),
            StmtKind::Assign(place, value) => self.assign(place, value, stmt.pos),
            StmtKind::Cc(kind, args) => {
                let args = self.args(args)?;
                self.line(&format!("cx.cc_{kind}({args});"));
                Ok(())
            }
            StmtKind::If(cond, then, otherwise) => self.branch(cond, then, otherwise),
            StmtKind::Raise(vector, code) => {
                let code = match code {
                    Some(code) => format!("Some({})", self.expr(code)?),
                    None => "None".into(),
                };
                self.line(&format!("cx.raise(vector::{vector}, {code});"));
                Ok(())
            }
            StmtKind::Goto(target) => {
                let target = self.expr(target)?;
                self.line(&format!("cx.goto({target});"));
                Ok(())
            }
            StmtKind::Mark(mark) => {
                let method = if mark == "next" { "next_block" } else { mark };
                self.line(&format!("cx.{method}();"));
                Ok(())
            }
            StmtKind::Effect(effect) => self.effect(effect),
            StmtKind::Native(written, read) => {
                let numbers = |names: &[String]| -> Result<String, String> {
                    let list: Result<Vec<String>, String> = names
                        .iter()
                        .map(|name| Ok(self.operand(name, stmt.pos)?.to_string()))
                        .collect();
                    Ok(list?.join(", "))
                };
                let (written, read) = (numbers(written)?, numbers(read)?);
                self.line(&format!("cx.native(&[{written}], &[{read}]);"));
                Ok(())
            }
        }
    }

    fn bind(&mut self, names: &[String], value: &Expr) -> Result<(), String> {
        let value = self.expr(value)?;
        let idents: Vec<String> = names.iter().map(|n| rust_name(n)).collect();
        let pattern =
            if idents.len() == 1 { idents[0].clone() } else { format!("({})", idents.join(", ")) };
        // A read whose name is hidden from here on is made again when it is needed.
        for (key, held) in &mut self.reads {
            if idents.contains(held) {
                key.clear();
            }
        }
        self.name_last(&value, &pattern);
        self.lets.extend(names.iter().cloned());
        Ok(())
    }

    /// Gives a value its name: where the last line has just made it, that line binds the name.
    fn name_last(&mut self, value: &str, pattern: &str) {
        let start = self.out.trim_end().rfind('\n').map_or(0, |at| at + 1);
        let made = format!("let {value} = ");
        let is_temp = value.starts_with('t') && !self.reads.iter().any(|(_, name)| name == value);
        if is_temp && self.out[start..].trim_start().starts_with(&made) {
            let line = self.out.split_off(start).replacen(&made, &format!("let {pattern} = "), 1);
            self.out.push_str(&line);
        } else {
            self.line(&format!("let {pattern} = {value};"));
        }
    }

    fn assign(&mut self, place: &Place, value: &Expr, pos: Pos) -> Result<(), String> {
        let value = self.expr(value)?;
        match place {
            Place::Operand(name) => {
                let number = self.operand(name, pos)?;
                self.line(&format!("cx.assign({number}, {value}); // {name}"));
            }
            Place::Reg(n, w) => self.line(&format!("cx.set_reg({n}, {}, {value});", width(*w))),
            Place::Flag(64) => self.line(&format!("cx.set_df({value});")),
            Place::Flag(mask) => self.line(&format!("cx.set_flag({mask}, {value});")),
            Place::State(n) => {
                let field = self.state(*n, pos)?;
                self.line(&format!("cx.set_state({field}, {value});"));
            }
            Place::Field(name, part) => {
                let number = self.operand(name, pos)?;
                self.line(&format!(
                    "cx.set_field({number}, Field::{}, {value}); // {name}",
                    field(part)?
                ));
            }
        }
        Ok(())
    }

    /// `if`: both branches run with the context told the condition; a branch that is statically out is skipped.
    fn branch(&mut self, cond: &Expr, then: &[Stmt], otherwise: &[Stmt]) -> Result<(), String> {
        let cond = self.expr(cond)?;
        let state = self.fresh();
        self.line(&format!("let {state} = cx.enter_if({cond});"));
        self.arm(&format!("if {state}.takes_then() {{"), then)?;
        self.line(&format!("cx.enter_else(&{state});"));
        if !otherwise.is_empty() {
            self.arm(&format!("if {state}.takes_else() {{"), otherwise)?;
        }
        self.line(&format!("cx.leave_if(&{state});"));
        Ok(())
    }

    fn arm(&mut self, head: &str, stmts: &[Stmt]) -> Result<(), String> {
        let scope = (self.lets.len(), self.reads.len());
        self.line(head);
        self.depth += 1;
        self.statements(stmts)?;
        self.depth -= 1;
        self.line("}");
        self.lets.truncate(scope.0);
        self.reads.truncate(scope.1);
        Ok(())
    }

    fn effect(&mut self, effect: &Expr) -> Result<(), String> {
        match &effect.kind {
            ExprKind::Mem { store: true, seg, overridable, off, value, .. } => {
                let off = self.expr(off)?;
                let value = match value {
                    Some(value) => self.expr(value)?,
                    None => return Err(self.wrong(effect.pos, "`store` without a value")),
                };
                self.line(&format!("cx.store({seg}, {overridable}, {off}, {value});"));
            }
            ExprKind::Helper(id, args) => {
                let args = self.args(args)?;
                let name = self.helper(*id, effect.pos)?;
                self.line(&format!("cx.call(helpers::{name}, &[{args}]);"));
            }
            ExprKind::Call(name, args, None) => {
                let args = self.args(args)?;
                self.line(&format!("cx.{name}({args});"));
            }
            _ => return Err(self.wrong(effect.pos, "this expression has no effect")),
        }
        Ok(())
    }

    /// Constant name of helper `id`.
    pub(super) fn helper(&self, id: usize, pos: Pos) -> Result<String, String> {
        let helper = self.isa.helpers.get(id).ok_or_else(|| self.wrong(pos, "no such helper"))?;
        Ok(helpers::constant(helper))
    }

    /// Place and width of a field of the state.
    pub(super) fn state(&self, n: usize, pos: Pos) -> Result<String, String> {
        let field = self.isa.states.get(n).ok_or_else(|| self.wrong(pos, "no such field"))?;
        let bits = width(ExprWidth::Bits(field.bits));
        Ok(format!("field::{}, {bits}", field.name.to_uppercase()))
    }

    /// Operand number of a parameter or `with` name.
    pub(super) fn operand(&self, name: &str, pos: Pos) -> Result<usize, String> {
        let found = self.operands.iter().position(|n| n == name);
        found.ok_or_else(|| self.wrong(pos, &format!("unknown operand `{name}`")))
    }

    /// Is it a `let` variable in scope?
    pub(super) fn is_let(&self, name: &str) -> bool {
        self.lets.iter().any(|n| n == name)
    }

    /// Emits `let tN = value;` and gives the name.
    pub(super) fn bind_temp(&mut self, value: &str) -> String {
        let name = self.fresh();
        self.line(&format!("let {name} = {value};"));
        name
    }

    pub(super) fn fresh(&mut self) -> String {
        self.temps += 1;
        format!("t{}", self.temps)
    }

    pub(super) fn line(&mut self, text: &str) {
        for _ in 0..self.depth {
            self.out.push_str("    ");
        }
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// Emits `head`, what `inner` makes as the value of the block, `tail`.
    pub(super) fn nested(
        &mut self,
        head: &str,
        tail: &str,
        inner: impl FnOnce(&mut Self) -> Result<String, String>,
    ) -> Result<(), String> {
        let scope = self.reads.len();
        self.line(head);
        self.depth += 1;
        let value = inner(self)?;
        self.line(&value);
        self.depth -= 1;
        self.line(tail);
        self.reads.truncate(scope);
        Ok(())
    }

    /// The name that holds what `read` gives; `name` is used for it if it is free.
    pub(super) fn read(&mut self, name: &str, read: &str) -> String {
        if let Some((_, held)) = self.reads.iter().find(|(key, _)| key == read) {
            return held.clone();
        }
        let wanted = rust_name(name);
        let is_taken = self.is_let(name) || self.reads.iter().any(|(_, held)| *held == wanted);
        let held = if is_taken { self.fresh() } else { wanted };
        self.line(&format!("let {held} = {read};"));
        self.reads.push((read.to_owned(), held.clone()));
        held
    }

    /// An error message at a place of the tables.
    pub(super) fn wrong(&self, pos: Pos, message: &str) -> String {
        let file = self.isa.files.get(usize::from(pos.file)).map_or("?", |f| f.0.as_str());
        format!(
            "error: {message}\n --> isa-spec/x86/{file}:{}:{}\n in {}",
            pos.line, pos.column, self.insn.name
        )
    }
}

/// A `let` name as a Rust name that clashes with none of ours.
pub(super) fn rust_name(name: &str) -> String {
    let is_temp = name
        .strip_prefix('t')
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if is_temp || name == "cx" || name == "helpers" || name == "vector" {
        format!("{name}_")
    } else {
        name.into()
    }
}
