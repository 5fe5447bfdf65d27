//! Statements of a body: Rust syntax, read by syn, to [`Stmt`].

use super::case::VECTORS;
use super::cursor::pos_of;
use super::form;
use crate::builtins;
use crate::error::{Diag, Sink, suggest};
use crate::model::{Expr, ExprKind, ExprWidth, Place, Pos, StateField, Stmt, StmtKind};
use proc_macro2::{Group, TokenStream, TokenTree};
use std::collections::HashMap;
use syn::spanned::Spanned;

/// What a body may refer to.
pub(crate) struct BodyCx<'a> {
    /// File of the body.
    pub(crate) file: u16,
    /// Operand params and `with` names.
    pub(crate) operands: Vec<String>,
    /// `let` names in force.
    pub(crate) lets: Vec<String>,
    /// Helper numbers by name.
    pub(crate) helpers: &'a HashMap<String, (usize, usize)>,
    /// Fields of the processor's state.
    pub(crate) states: &'a [StateField],
    /// Where errors go.
    pub(crate) sink: &'a mut Sink,
}

/// Marks a place where conversion gave up; the error is recorded already.
pub(crate) struct Failed;

/// Reads a body.
pub(crate) fn body(group: &Group, cx: &mut BodyCx<'_>) -> Vec<Stmt> {
    let tokens: TokenStream = std::iter::once(TokenTree::Group(group.clone())).collect();
    match syn::parse2::<syn::Block>(tokens) {
        Ok(block) => statements(&block.stmts, cx),
        Err(error) => {
            let pos = pos_of(cx.file, error.span());
            cx.sink.error(pos, format!("body: {error}"));
            Vec::new()
        }
    }
}

fn statements(list: &[syn::Stmt], cx: &mut BodyCx<'_>) -> Vec<Stmt> {
    let scope = cx.lets.len();
    let mut out = Vec::new();
    for stmt in list {
        if let Ok(stmt) = statement(stmt, cx) {
            out.push(stmt);
        }
    }
    cx.lets.truncate(scope);
    out
}

fn statement(stmt: &syn::Stmt, cx: &mut BodyCx<'_>) -> Result<Stmt, Failed> {
    let pos = pos_of(cx.file, stmt.span());
    let kind = match stmt {
        syn::Stmt::Local(local) => let_statement(local, pos, cx)?,
        syn::Stmt::Macro(m) => macro_statement(&m.mac, pos, cx)?,
        syn::Stmt::Expr(expr, semi) => {
            let kind = expr_statement(expr, pos, cx)?;
            if semi.is_none() && !matches!(kind, StmtKind::If(..)) {
                cx.sink.error(pos, "a statement ends with `;`");
            }
            kind
        }
        _ => return cx.fail(pos, "this is no statement of a body"),
    };
    Ok(Stmt { kind, pos })
}

impl BodyCx<'_> {
    /// Records an error and gives up this statement.
    pub(crate) fn fail<T>(&mut self, pos: Pos, message: impl Into<String>) -> Result<T, Failed> {
        self.sink.push(Diag::new(pos, message));
        Err(Failed)
    }

    /// Is this name an operand or a `let` variable?
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.lets.iter().chain(&self.operands).any(|n| n == name)
    }

    /// Names for suggestions.
    pub(crate) fn near(&self, word: &str) -> String {
        let own = self.lets.iter().chain(&self.operands).map(String::as_str);
        let fixed = builtins::BUILTINS.iter().map(|b| b.name);
        let more = ["load", "store", "cond", "next_ip", "ip", "OSZ", "ASZ", "SSZ"];
        suggest(word, own.chain(fixed).chain(more).chain(form::FLAGS.iter().map(|(n, _)| *n)))
    }
}

fn let_statement(local: &syn::Local, pos: Pos, cx: &mut BodyCx<'_>) -> Result<StmtKind, Failed> {
    let Some(init) = local.init.as_ref().filter(|i| i.diverge.is_none()) else {
        return cx.fail(pos, "`let` needs a value: `let x = …;`");
    };
    let names = let_names(&local.pat, pos, cx)?;
    let value = super::expr::expr(&init.expr, cx);
    for name in &names {
        if name != "_" && cx.operands.contains(name) {
            cx.sink.error(pos, format!("`let {name}` hides the operand of that name"));
        }
        cx.lets.push(name.clone());
    }
    let value = value?;
    let pair = match &value.kind {
        ExprKind::Call(name, _, _) => {
            builtins::builtin(name).is_some_and(|b| b.gives == builtins::Gives::Pair)
        }
        _ => false,
    };
    match (names.len(), pair) {
        (1, false) | (2, true) => Ok(StmtKind::Let(names, value)),
        (_, true) => cx.fail(pos, "this gives a pair: `let (a, b) = …;`"),
        _ => cx.fail(pos, "only mulu, muls, divu and divs give a pair"),
    }
}

fn let_names(pat: &syn::Pat, pos: Pos, cx: &mut BodyCx<'_>) -> Result<Vec<String>, Failed> {
    match pat {
        syn::Pat::Ident(p) if p.by_ref.is_none() && p.mutability.is_none() => {
            Ok(vec![p.ident.to_string()])
        }
        syn::Pat::Wild(_) => Ok(vec!["_".to_string()]),
        syn::Pat::Tuple(t) if t.elems.len() == 2 => {
            let mut names = Vec::new();
            for p in &t.elems {
                names.extend(let_names(p, pos, cx)?);
            }
            Ok(names)
        }
        _ => cx.fail(pos, "`let` takes a name or a pair of names"),
    }
}

fn expr_statement(expr: &syn::Expr, pos: Pos, cx: &mut BodyCx<'_>) -> Result<StmtKind, Failed> {
    match expr {
        syn::Expr::Assign(a) => assignment(a, pos, cx),
        syn::Expr::If(i) => if_statement(i, cx),
        syn::Expr::Macro(m) => macro_statement(&m.mac, pos, cx),
        syn::Expr::Call(_) => {
            let value = super::expr::expr(expr, cx)?;
            match &value.kind {
                ExprKind::Mem { store: true, .. } => Ok(StmtKind::Effect(value)),
                ExprKind::Call(name, _, _) if name == "push" || name == "port_out" => {
                    Ok(StmtKind::Effect(value))
                }
                ExprKind::Call(name, _, _) => {
                    let text = format!("`{name}` gives a value; as a statement it does nothing");
                    cx.fail(pos, text)
                }
                _ => cx.fail(pos, "as a statement this does nothing"),
            }
        }
        _ => cx.fail(pos, "this is no statement of a body"),
    }
}

fn if_statement(i: &syn::ExprIf, cx: &mut BodyCx<'_>) -> Result<StmtKind, Failed> {
    let cond = super::expr::expr(&i.cond, cx);
    let then = statements(&i.then_branch.stmts, cx);
    let other = match &i.else_branch {
        None => Vec::new(),
        Some((_, e)) => match &**e {
            syn::Expr::Block(b) => statements(&b.block.stmts, cx),
            syn::Expr::If(inner) => {
                let pos = pos_of(cx.file, inner.span());
                vec![Stmt { kind: if_statement(inner, cx)?, pos }]
            }
            _ => Vec::new(),
        },
    };
    Ok(StmtKind::If(cond?, then, other))
}

fn assignment(a: &syn::ExprAssign, pos: Pos, cx: &mut BodyCx<'_>) -> Result<StmtKind, Failed> {
    if let syn::Expr::Path(p) = &*a.left
        && p.path.is_ident("cc")
    {
        return cc(&a.right, cx);
    }
    let place = place(&a.left, pos, cx);
    let value = super::expr::expr(&a.right, cx)?;
    Ok(StmtKind::Assign(place?, value))
}

fn cc(right: &syn::Expr, cx: &mut BodyCx<'_>) -> Result<StmtKind, Failed> {
    let pos = pos_of(cx.file, right.span());
    let syn::Expr::Call(call) = right else {
        return cx.fail(pos, "`cc` is assigned a flag kind: `cc = add(a, b);`");
    };
    let name = super::expr::path_name(&call.func).unwrap_or_default();
    let Some(kind) = builtins::kind(&name) else {
        let near = suggest(&name, builtins::KINDS.iter().map(|k| k.name));
        return cx.fail(pos, format!("unknown flag kind `{name}`{near}"));
    };
    if call.args.len() != kind.args {
        let (want, got) = (kind.args, call.args.len());
        return cx.fail(pos, format!("flag kind `{name}` takes {want} arguments, not {got}"));
    }
    let mut args = Vec::new();
    for arg in &call.args {
        args.push(super::expr::expr(arg, cx)?);
    }
    Ok(StmtKind::Cc(name, args))
}

fn place(left: &syn::Expr, pos: Pos, cx: &mut BodyCx<'_>) -> Result<Place, Failed> {
    if let Some(name) = super::expr::path_name(left) {
        if cx.operands.contains(&name) {
            return Ok(Place::Operand(name));
        }
        if cx.lets.contains(&name) {
            return cx.fail(pos, format!("`{name}` is a `let` name and cannot be assigned"));
        }
        if let Some((_, bit)) = form::FLAGS.iter().find(|(n, _)| *n == name) {
            return Ok(Place::Flag(*bit));
        }
        if let Some((n, width)) = form::reg(&name) {
            return Ok(Place::Reg(n, width));
        }
        let near = suggest(&name, cx.operands.iter().map(String::as_str));
        return cx.fail(pos, format!("`{name}` is no operand, register or flag{near}"));
    }
    if let syn::Expr::Field(_) = left {
        let field = super::expr::expr(left, cx)?;
        return match field.kind {
            ExprKind::Field(base, member) if member == "limit" || member == "base" => {
                Ok(Place::Field(base, member))
            }
            ExprKind::State(n) => Ok(Place::State(n)),
            _ => cx.fail(pos, "of the fields only `.limit` and `.base` can be assigned"),
        };
    }
    match super::expr::reg_at_width(left, cx) {
        Some(Ok((n, width))) => Ok(Place::Reg(n, width)),
        Some(Err(failed)) => Err(failed),
        None => cx.fail(pos, "the left side is an operand, a register or a flag"),
    }
}

fn macro_statement(mac: &syn::Macro, pos: Pos, cx: &mut BodyCx<'_>) -> Result<StmtKind, Failed> {
    let name = mac.path.get_ident().map(ToString::to_string).unwrap_or_default();
    match name.as_str() {
        "raise" => raise(mac, pos, cx),
        "goto" => {
            let args = super::expr::macro_args(mac, cx)?;
            let [target] = args.as_slice() else {
                return cx.fail(pos, "`goto!` takes one target");
            };
            Ok(StmtKind::Goto(super::expr::expr(target, cx)?))
        }
        "exit" | "halt" | "shadow" | "next" => {
            if !mac.tokens.is_empty() {
                return cx.fail(pos, format!("`{name}!` takes no argument"));
            }
            Ok(StmtKind::Mark(name))
        }
        "native" => native(mac, pos, cx),
        "call" => {
            let kind = super::expr::helper_call(mac, pos, cx)?;
            Ok(StmtKind::Effect(Expr { kind, pos }))
        }
        _ => {
            let near = suggest(
                &name,
                ["raise", "goto", "exit", "halt", "shadow", "next", "call", "native"],
            );
            cx.fail(pos, format!("unknown macro `{name}!`{near}"))
        }
    }
}

/// `native!(written; read)`.
fn native(mac: &syn::Macro, pos: Pos, cx: &mut BodyCx<'_>) -> Result<StmtKind, Failed> {
    let mut lists = vec![Vec::new()];
    for token in mac.tokens.clone() {
        let at = pos_of(cx.file, token.span());
        match &token {
            TokenTree::Punct(p) if p.as_char() == ';' => lists.push(Vec::new()),
            TokenTree::Punct(p) if p.as_char() == ',' => {}
            TokenTree::Ident(name) if cx.operands.iter().any(|o| name == o) => {
                if let Some(list) = lists.last_mut() {
                    list.push(name.to_string());
                }
            }
            _ => {
                let near = suggest(&token.to_string(), cx.operands.iter().map(String::as_str));
                return cx.fail(at, format!("`{token}` is no operand{near}"));
            }
        }
    }
    match <[Vec<String>; 2]>::try_from(lists) {
        Ok([written, read]) => Ok(StmtKind::Native(written, read)),
        Err(_) => cx.fail(pos, "expected `native!(written; read)`"),
    }
}

fn raise(mac: &syn::Macro, pos: Pos, cx: &mut BodyCx<'_>) -> Result<StmtKind, Failed> {
    let args = super::expr::macro_args(mac, cx)?;
    let vector = args.first().and_then(super::expr::path_name).unwrap_or_default();
    if !VECTORS.contains(&vector.as_str()) {
        let list = VECTORS.join(" ");
        return cx.fail(pos, format!("`raise!` needs a vector, one of {list}"));
    }
    let takes_code = matches!(vector.as_str(), "TS" | "NP" | "SS" | "GP" | "PF" | "AC");
    match (takes_code, args.get(1)) {
        _ if args.len() > 2 => cx.fail(pos, "`raise!` takes a vector and perhaps an error code"),
        (true, Some(code)) => {
            let code = super::expr::expr(code, cx)?;
            Ok(StmtKind::Raise(vector, Some(code)))
        }
        (false, None) => Ok(StmtKind::Raise(vector, None)),
        (true, None) => {
            cx.fail(pos, format!("{vector} needs an error code: `raise!({vector}, 0)`"))
        }
        (false, Some(_)) => cx.fail(pos, format!("{vector} has no error code")),
    }
}

/// A width by its name.
pub(crate) fn width_name(name: &str) -> Option<ExprWidth> {
    Some(match name {
        "W" | "OSZ" => ExprWidth::W,
        "A" | "ASZ" => ExprWidth::A,
        "S" | "SSZ" => ExprWidth::S,
        _ => return None,
    })
}
