//! Expressions of a body: each becomes a Rust expression that may be used once as an argument.
//!
//! Calls on the context are bound to a `let` one by one (the context is borrowed mutably), which also makes
//! the evaluation order that of the text.

use super::body::{Body, rust_name};
use isa_spec::model::{Expr, ExprKind, ExprWidth};

impl Body<'_> {
    /// Arguments, comma-separated.
    pub(super) fn args(&mut self, args: &[Expr]) -> Result<String, String> {
        let texts: Result<Vec<String>, String> = args.iter().map(|a| self.expr(a)).collect();
        Ok(texts?.join(", "))
    }

    /// The value of an expression: a name or a literal.
    pub(super) fn expr(&mut self, e: &Expr) -> Result<String, String> {
        match &e.kind {
            ExprKind::Int(n) => Ok(format!("V::Num({n})")),
            ExprKind::Bool(b) => Ok(format!("B::Const({b})")),
            ExprKind::Name(name) if self.is_let(name) => Ok(rust_name(name)),
            ExprKind::Name(name) => {
                let number = self.operand(name, e.pos)?;
                Ok(self.read(name, &format!("cx.read({number})")))
            }
            ExprKind::Reg(n, w) => {
                Ok(self.read(&register_name(*n, *w), &format!("cx.reg({n}, {})", width(*w))))
            }
            ExprKind::Seg(n) => Ok(self.bind_temp(&format!("cx.selector({n})"))),
            ExprKind::Flag(64) => Ok(self.bind_temp("cx.df()")),
            ExprKind::Flag(mask) => Ok(format!("B::flag({mask})")),
            ExprKind::WidthNum(w) => Ok(format!("V::bits_of({})", width(*w))),
            ExprKind::NextIp => Ok(self.bind_temp("cx.next_ip()")),
            ExprKind::Field(name, part) => {
                let number = self.operand(name, e.pos)?;
                let part = field(part).map_err(|m| self.wrong(e.pos, &m))?;
                Ok(self.bind_temp(&format!("cx.field({number}, Field::{part})")))
            }
            ExprKind::State(n) => {
                let field = self.state(*n, e.pos)?;
                Ok(self.bind_temp(&format!("cx.state({field})")))
            }
            ExprKind::Un(op, x) => {
                let x = self.expr(x)?;
                let method = if *op == '-' { "negate" } else { "not" };
                Ok(self.bind_temp(&format!("cx.{method}({x})")))
            }
            ExprKind::Bin(op, a, b) => {
                let method = operator(op)
                    .ok_or_else(|| self.wrong(e.pos, &format!("no operator `{op}`")))?;
                let (a, b) = (self.expr(a)?, self.expr(b)?);
                Ok(self.bind_temp(&format!("cx.{method}({a}, {b})")))
            }
            ExprKind::Call(name, args, w) => self.builtin(e, name, args, *w),
            ExprKind::Mem { store: false, seg, overridable, off, width: Some(w), .. } => {
                let off = self.expr(off)?;
                Ok(self.bind_temp(&format!("cx.load({seg}, {overridable}, {off}, {})", width(*w))))
            }
            ExprKind::Mem { .. } => Err(self.wrong(e.pos, "a store is no value")),
            ExprKind::Helper(id, args) => {
                let args = self.args(args)?;
                let name = self.helper(*id, e.pos)?;
                Ok(self.bind_temp(&format!("cx.call(helpers::{name}, &[{args}])")))
            }
            ExprKind::If(cond, then, otherwise) => self.select(cond, then, otherwise),
        }
    }

    fn builtin(
        &mut self,
        e: &Expr,
        name: &str,
        args: &[Expr],
        w: Option<ExprWidth>,
    ) -> Result<String, String> {
        // These take the operand itself, not its value.
        if let ("pair", [first, second]) = (name, args)
            && let (ExprKind::Name(a), ExprKind::Name(b)) = (&first.kind, &second.kind)
        {
            let (a, b) = (self.operand(a, e.pos)?, self.operand(b, e.pos)?);
            return Ok(self.bind_temp(&format!("cx.num_pair({a}, {b})")));
        }
        if let ("seg_num", [Expr { kind: ExprKind::Seg(segment), .. }]) = (name, args) {
            return Ok(self.bind_temp(&format!("cx.seg_num({segment})")));
        }
        if let ("seg_of" | "addr" | "num" | "vsib", [Expr { kind: ExprKind::Name(operand), .. }]) =
            (name, args)
        {
            let number = self.operand(operand, e.pos)?;
            return Ok(self.bind_temp(&format!("cx.{name}({number})")));
        }
        let mut list = self.args(args)?;
        if let Some(w) = w {
            if !list.is_empty() {
                list.push_str(", ");
            }
            list.push_str(width(w));
        }
        Ok(self.bind_temp(&format!("cx.{name}({list})")))
    }

    /// `if` as a value: an arm that is statically out is not evaluated.
    fn select(&mut self, cond: &Expr, then: &Expr, otherwise: &Expr) -> Result<String, String> {
        let cond = self.expr(cond)?;
        let (a, b, result) = (self.fresh(), self.fresh(), self.fresh());
        for (name, sense, arm) in [(&a, true, then), (&b, false, otherwise)] {
            let head = format!("let {name} = if cx.may_be({cond}, {sense}) {{");
            self.nested(&head, "} else { Default::default() };", |body| body.expr(arm))?;
        }
        self.line(&format!("let {result} = cx.select({cond}, {a}, {b});"));
        Ok(result)
    }
}

/// Name for the value of a register, as the manual spells it.
fn register_name(num: u8, w: ExprWidth) -> String {
    const WORDS: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
    const LOW: [&str; 8] = ["al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"];
    const HIGH: [&str; 4] = ["ah", "ch", "dh", "bh"];
    let word = WORDS[usize::from(num & 7)];
    match w {
        _ if num >= 16 => HIGH[usize::from(num & 3)].into(),
        _ if num >= 8 => format!("r{num}"),
        ExprWidth::Bits(8) => LOW[usize::from(num)].into(),
        ExprWidth::Bits(16) => format!("{word}16"), // `cx` is the context
        ExprWidth::Bits(32) => format!("e{word}"),
        _ => format!("r{word}"),
    }
}

/// Method of a binary operator.
fn operator(op: &str) -> Option<&'static str> {
    Some(match op {
        "+" => "add",
        "-" => "sub",
        "*" => "imul",
        "&" => "and",
        "|" => "or",
        "^" => "xor",
        "&&" => "both",
        "||" => "either",
        "<<" => "shl",
        ">>" => "shr",
        "==" => "equal",
        "!=" => "differ",
        "<" => "below",
        "<=" => "below_equal",
        ">" => "above",
        ">=" => "above_equal",
        _ => return None,
    })
}

/// A width as an expression of the run time's `Wd`.
pub(super) fn width(w: ExprWidth) -> &'static str {
    match w {
        ExprWidth::W => "cx.w()",
        ExprWidth::A => "cx.a()",
        ExprWidth::S => "cx.s()",
        ExprWidth::W2 => "cx.w2()",
        ExprWidth::Bits(8) => "Width::W8",
        ExprWidth::Bits(16) => "Width::W16",
        ExprWidth::Bits(32) => "Width::W32",
        ExprWidth::Bits(_) => "Width::W64",
    }
}

/// Variant of `Field` for a field name of a memory operand.
pub(super) fn field(name: &str) -> Result<&'static str, String> {
    Ok(match name {
        "off" => "Off",
        "sel" => "Sel",
        "lo" => "Lo",
        "hi" => "Hi",
        "limit" => "Limit",
        "base" => "Base",
        _ => return Err(format!("unknown field `{name}`")),
    })
}
