//! Expressions of a body: `syn::Expr` to [`Expr`].

use super::body::{BodyCx, Failed, width_name};
use super::cursor::pos_of;
use super::form;
use crate::builtins;
use crate::error::suggest;
use crate::model::{Expr, ExprKind, ExprWidth, Pos};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;

/// Converts an expression.
pub(crate) fn expr(e: &syn::Expr, cx: &mut BodyCx<'_>) -> Result<Expr, Failed> {
    let pos = pos_of(cx.file, e.span());
    let kind = match e {
        syn::Expr::Paren(p) => return expr(&p.expr, cx),
        syn::Expr::Group(g) => return expr(&g.expr, cx),
        syn::Expr::Lit(l) => literal(&l.lit, pos, cx)?,
        syn::Expr::Path(_) => name(&path_name(e).unwrap_or_default(), pos, cx)?,
        syn::Expr::Unary(u) => unary(u, pos, cx)?,
        syn::Expr::Binary(b) => binary(b, pos, cx)?,
        syn::Expr::Call(c) => call(c, pos, cx)?,
        syn::Expr::Field(f) => field(f, pos, cx)?,
        syn::Expr::If(i) => if_value(i, pos, cx)?,
        syn::Expr::Macro(m) if m.mac.path.is_ident("call") => {
            let kind = helper_call(&m.mac, pos, cx)?;
            return Ok(Expr { kind, pos });
        }
        _ => return cx.fail(pos, "this is no expression of a body"),
    };
    Ok(Expr { kind, pos })
}

/// The single name a path consists of.
pub(crate) fn path_name(e: &syn::Expr) -> Option<String> {
    match e {
        syn::Expr::Path(p) if p.qself.is_none() => p.path.get_ident().map(ToString::to_string),
        _ => None,
    }
}

fn literal(lit: &syn::Lit, pos: Pos, cx: &mut BodyCx<'_>) -> Result<ExprKind, Failed> {
    match lit {
        syn::Lit::Bool(b) => Ok(ExprKind::Bool(b.value)),
        syn::Lit::Int(i) if i.suffix().is_empty() => match i.base10_parse::<u64>() {
            Ok(value) => Ok(ExprKind::Int(value)),
            Err(error) => cx.fail(pos, error.to_string()),
        },
        syn::Lit::Int(_) => cx.fail(pos, "literals take the width of the other side: no suffix"),
        _ => cx.fail(pos, "only numbers and truth values can be literals"),
    }
}

fn name(word: &str, pos: Pos, cx: &mut BodyCx<'_>) -> Result<ExprKind, Failed> {
    if cx.knows(word) {
        return Ok(ExprKind::Name(word.to_string()));
    }
    if let Some((_, bit)) = form::FLAGS.iter().find(|(n, _)| *n == word) {
        return Ok(ExprKind::Flag(*bit));
    }
    if let Some((n, width)) = form::reg(word) {
        return Ok(ExprKind::Reg(n, width));
    }
    if let Some(n) = form::seg(word) {
        return Ok(ExprKind::Seg(n));
    }
    if let Some(width) = width_name(word) {
        return Ok(ExprKind::WidthNum(width));
    }
    match word {
        "next_ip" => Ok(ExprKind::NextIp),
        "ip" => Ok(ExprKind::Call("ip".to_string(), Vec::new(), None)),
        "CC" => cx.fail(pos, "`CC` stands in `cond(CC)` only"),
        _ => {
            let near = cx.near(word);
            cx.fail(pos, format!("unknown name `{word}`{near}"))
        }
    }
}

fn unary(u: &syn::ExprUnary, pos: Pos, cx: &mut BodyCx<'_>) -> Result<ExprKind, Failed> {
    let op = match u.op {
        syn::UnOp::Not(_) => '!',
        syn::UnOp::Neg(_) => '-',
        _ => return cx.fail(pos, "unknown operator"),
    };
    Ok(ExprKind::Un(op, Box::new(expr(&u.expr, cx)?)))
}

fn binary(b: &syn::ExprBinary, pos: Pos, cx: &mut BodyCx<'_>) -> Result<ExprKind, Failed> {
    use syn::BinOp;
    let op = match b.op {
        BinOp::Add(_) => "+",
        BinOp::Sub(_) => "-",
        BinOp::Mul(_) => "*",
        BinOp::BitAnd(_) => "&",
        BinOp::BitOr(_) => "|",
        BinOp::BitXor(_) => "^",
        BinOp::Shl(_) => "<<",
        BinOp::Shr(_) => ">>",
        BinOp::Eq(_) => "==",
        BinOp::Ne(_) => "!=",
        BinOp::Lt(_) => "<",
        BinOp::Le(_) => "<=",
        BinOp::Gt(_) => ">",
        BinOp::Ge(_) => ">=",
        BinOp::And(_) => "&&",
        BinOp::Or(_) => "||",
        _ => {
            let pos = pos_of(cx.file, b.op.span());
            return cx.fail(pos, "operators are + - * & | ^ << >> == != < <= > >= && ||");
        }
    };
    let left = expr(&b.left, cx);
    let right = expr(&b.right, cx);
    let _ = pos;
    Ok(ExprKind::Bin(op.to_string(), Box::new(left?), Box::new(right?)))
}

fn field(f: &syn::ExprField, pos: Pos, cx: &mut BodyCx<'_>) -> Result<ExprKind, Failed> {
    let base = path_name(&f.base).unwrap_or_default();
    let syn::Member::Named(member) = &f.member else {
        return cx.fail(pos, "fields have names: `.off .sel .lo .hi .limit .base`");
    };
    if base == "cpu" && !cx.knows("cpu") {
        return state(&member.to_string(), pos, cx);
    }
    if !cx.operands.contains(&base) {
        return cx.fail(pos, format!("`{base}` is no operand, so it has no fields"));
    }
    let member = member.to_string();
    const FIELDS: [&str; 6] = ["off", "sel", "lo", "hi", "limit", "base"];
    if !FIELDS.contains(&member.as_str()) {
        let near = suggest(&member, FIELDS);
        return cx.fail(pos, format!("unknown field `.{member}`{near}"));
    }
    Ok(ExprKind::Field(base, member))
}

/// `cpu.name`: a field of the processor's state.
fn state(member: &str, pos: Pos, cx: &mut BodyCx<'_>) -> Result<ExprKind, Failed> {
    match cx.states.iter().position(|field| field.name == member) {
        Some(n) => Ok(ExprKind::State(n)),
        None => {
            let near = suggest(member, cx.states.iter().map(|field| field.name.as_str()));
            cx.fail(pos, format!("`{member}` is no field of the state{near}"))
        }
    }
}

fn if_value(i: &syn::ExprIf, pos: Pos, cx: &mut BodyCx<'_>) -> Result<ExprKind, Failed> {
    let cond = expr(&i.cond, cx);
    let then = block_value(&i.then_branch, cx);
    let other = match &i.else_branch {
        None => return cx.fail(pos, "an `if` that gives a value needs an `else`"),
        Some((_, e)) => match &**e {
            syn::Expr::Block(b) => block_value(&b.block, cx),
            inner => expr(inner, cx),
        },
    };
    Ok(ExprKind::If(Box::new(cond?), Box::new(then?), Box::new(other?)))
}

fn block_value(block: &syn::Block, cx: &mut BodyCx<'_>) -> Result<Expr, Failed> {
    match block.stmts.as_slice() {
        [syn::Stmt::Expr(e, None)] => expr(e, cx),
        [syn::Stmt::Macro(m)] if m.semi_token.is_none() && m.mac.path.is_ident("call") => {
            let pos = pos_of(cx.file, m.span());
            let kind = helper_call(&m.mac, pos, cx)?;
            Ok(Expr { kind, pos })
        }
        _ => {
            let pos = pos_of(cx.file, block.span());
            cx.fail(pos, "a branch of an `if` that gives a value is one expression")
        }
    }
}

/// `rCX(A)`: a register at a given width. `None` if the expression is something else.
pub(crate) fn reg_at_width(
    e: &syn::Expr,
    cx: &mut BodyCx<'_>,
) -> Option<Result<(u8, ExprWidth), Failed>> {
    let syn::Expr::Call(call) = e else {
        return None;
    };
    let word = path_name(&call.func)?;
    let (n, width) = form::reg(&word)?;
    let pos = pos_of(cx.file, call.span());
    if width != ExprWidth::W || call.args.len() != 1 {
        return Some(cx.fail(pos, format!("`{word}(…)`: write `rCX(A)`, `rSP(S)` or `rBP(W)`")));
    }
    Some(width_arg(&call.args[0], cx).map(|width| (n, width)))
}

fn width_arg(e: &syn::Expr, cx: &mut BodyCx<'_>) -> Result<ExprWidth, Failed> {
    let pos = pos_of(cx.file, e.span());
    if let Some(width) = path_name(e).and_then(|n| width_name(&n)) {
        return Ok(width);
    }
    match e {
        syn::Expr::Paren(p) => return width_arg(&p.expr, cx),
        syn::Expr::Lit(l) => {
            if let syn::Lit::Int(i) = &l.lit
                && let Ok(bits @ (8 | 16 | 32 | 64)) = i.base10_parse::<u32>()
            {
                return Ok(ExprWidth::Bits(bits));
            }
        }
        syn::Expr::Binary(b) if matches!(b.op, syn::BinOp::Mul(_)) => {
            let two = |e: &syn::Expr| match e {
                syn::Expr::Lit(l) => {
                    matches!(&l.lit, syn::Lit::Int(i) if i.base10_digits() == "2")
                }
                _ => false,
            };
            let own = |e: &syn::Expr| path_name(e).as_deref() == Some("W");
            if two(&b.left) && own(&b.right) || own(&b.left) && two(&b.right) {
                return Ok(ExprWidth::W2);
            }
        }
        _ => {}
    }
    cx.fail(pos, "a width is 8, 16, 32, 64, W, A, S or 2*W")
}

fn call(c: &syn::ExprCall, pos: Pos, cx: &mut BodyCx<'_>) -> Result<ExprKind, Failed> {
    let Some(word) = path_name(&c.func) else {
        return cx.fail(pos, "only builtins can be called");
    };
    if form::reg(&word).is_some() {
        let e = syn::Expr::Call(c.clone());
        return match reg_at_width(&e, cx) {
            Some(reg) => reg.map(|(n, width)| ExprKind::Reg(n, width)),
            None => cx.fail(pos, "this is no register"),
        };
    }
    match word.as_str() {
        "load" | "store" => return memory(c, word == "store", pos, cx),
        "cond" => {
            return match c.args.first().and_then(path_name).as_deref() {
                Some("CC") if c.args.len() == 1 => Ok(ExprKind::Call(word, Vec::new(), None)),
                _ => cx.fail(pos, "write `cond(CC)`"),
            };
        }
        _ => {}
    }
    let Some(builtin) = builtins::builtin(&word) else {
        let near = cx.near(&word);
        return cx.fail(pos, format!("unknown builtin `{word}`{near}"));
    };
    let want = builtin.args + usize::from(builtin.width);
    if c.args.len() != want {
        let s = if want == 1 { "" } else { "s" };
        let got = c.args.len();
        return cx.fail(pos, format!("`{word}` takes {want} argument{s}, not {got}"));
    }
    let mut args = Vec::new();
    for arg in c.args.iter().take(builtin.args) {
        args.push(expr(arg, cx)?);
    }
    let width = match c.args.last() {
        Some(arg) if builtin.width => Some(width_arg(arg, cx)?),
        _ => None,
    };
    let takes = |kind: &str| takes_kind(&word, kind);
    let all = |is: fn(&ExprKind) -> bool| args.iter().all(|a| is(&a.kind));
    if takes("memory") && !all(|kind| matches!(kind, ExprKind::Name(_))) {
        return cx.fail(pos, format!("`{word}` takes a memory operand"));
    }
    if takes("operand") && !all(|kind| matches!(kind, ExprKind::Name(_))) {
        return cx.fail(pos, format!("`{word}` takes operands"));
    }
    if takes("segment") && !all(|kind| matches!(kind, ExprKind::Seg(_))) {
        return cx.fail(pos, format!("`{word}` takes a segment register"));
    }
    Ok(ExprKind::Call(word, args, width))
}

/// Does this builtin take what `kind` says instead of a value?
fn takes_kind(name: &str, kind: &str) -> bool {
    let wanted = match name {
        "addr" | "seg_of" | "vsib" => "memory",
        "num" | "pair" => "operand",
        "seg_num" => "segment",
        _ => "value",
    };
    wanted == kind
}

fn memory(
    c: &syn::ExprCall,
    store: bool,
    pos: Pos,
    cx: &mut BodyCx<'_>,
) -> Result<ExprKind, Failed> {
    let [segment, off, last] = c.args.iter().collect::<Vec<_>>()[..] else {
        let form = if store { "store(SEG, off, value)" } else { "load(SEG, off, width)" };
        return cx.fail(pos, format!("write `{form}`"));
    };
    let (seg, overridable) = segment_arg(segment, cx)?;
    let off = Box::new(expr(off, cx)?);
    let (width, value) = if store {
        (None, Some(Box::new(expr(last, cx)?)))
    } else {
        (Some(width_arg(last, cx)?), None)
    };
    Ok(ExprKind::Mem { store, seg, overridable, off, width, value })
}

fn segment_arg(e: &syn::Expr, cx: &mut BodyCx<'_>) -> Result<(u8, bool), Failed> {
    let pos = pos_of(cx.file, e.span());
    if let Some(n) = path_name(e).and_then(|w| form::seg(&w)) {
        return Ok((n, false));
    }
    if let syn::Expr::Call(c) = e
        && path_name(&c.func).as_deref() == Some("seg")
        && c.args.len() == 1
        && let Some(n) = path_name(&c.args[0]).and_then(|w| form::seg(&w))
    {
        return Ok((n, true));
    }
    cx.fail(pos, "a segment is `ES CS SS DS FS GS`, or `seg(DS)` where a prefix may override it")
}

/// Arguments of a macro as expressions.
pub(crate) fn macro_args(mac: &syn::Macro, cx: &mut BodyCx<'_>) -> Result<Vec<syn::Expr>, Failed> {
    let parser = Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated;
    match parser.parse2(mac.tokens.clone()) {
        Ok(list) => Ok(list.into_iter().collect()),
        Err(error) => {
            let pos = pos_of(cx.file, error.span());
            cx.fail(pos, error.to_string())
        }
    }
}

/// `call!(helper(args))`.
pub(crate) fn helper_call(
    mac: &syn::Macro,
    pos: Pos,
    cx: &mut BodyCx<'_>,
) -> Result<ExprKind, Failed> {
    let list = macro_args(mac, cx)?;
    let [syn::Expr::Call(c)] = list.as_slice() else {
        return cx.fail(pos, "write `call!(helper(arguments))`");
    };
    let word = path_name(&c.func).unwrap_or_default();
    let Some(&(index, arity)) = cx.helpers.get(&word) else {
        let near = suggest(&word, cx.helpers.keys().map(String::as_str));
        return cx.fail(pos, format!("unknown helper `{word}`{near}"));
    };
    if arity != c.args.len() {
        let (s, got) = (if arity == 1 { "" } else { "s" }, c.args.len());
        return cx.fail(pos, format!("helper `{word}` takes {arity} argument{s}, not {got}"));
    }
    let mut args = Vec::new();
    for arg in &c.args {
        args.push(expr(arg, cx)?);
    }
    Ok(ExprKind::Helper(index, args))
}
