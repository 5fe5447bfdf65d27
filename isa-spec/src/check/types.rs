//! Types of expressions in a body, for one row at given sizes.

use super::konst::{Sizes, konst};
use crate::builtins::{self, Gives};
use crate::model::{Expr, ExprKind, ExprWidth, Form, Insn, Isa, Pos, Row};

/// Type of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ty {
    /// A number of so many bits.
    Int(u32),
    /// A literal or immediate: as wide as the other side, at least so many bits.
    Adapt(u32),
    /// A truth value.
    Bool,
    /// Two numbers of so many bits.
    Pair(u32),
    /// Nothing.
    Unit,
    /// An error was told already.
    Unknown,
}

impl Ty {
    fn text(self) -> String {
        match self {
            Ty::Int(w) => format!("{w} bits"),
            Ty::Adapt(w) => format!("a literal of {w} bits"),
            Ty::Bool => "a truth value".to_string(),
            Ty::Pair(w) => format!("a pair of {w} bits"),
            Ty::Unit => "nothing".to_string(),
            Ty::Unknown => "unknown".to_string(),
        }
    }
}

/// Types a body for one row at given sizes.
pub(crate) struct Typer<'a> {
    pub(crate) isa: &'a Isa,
    pub(crate) insn: &'a Insn,
    pub(crate) row: &'a Row,
    pub(crate) sizes: Sizes,
    pub(crate) lets: Vec<(&'a str, Ty)>,
    pub(crate) errors: Vec<(Pos, String)>,
}

impl<'a> Typer<'a> {
    /// Records an error.
    pub(crate) fn fail(&mut self, pos: Pos, text: impl Into<String>) -> Ty {
        self.errors.push((pos, text.into()));
        Ty::Unknown
    }

    /// The form a name stands for in this row.
    pub(crate) fn form(&self, name: &str) -> Option<Form> {
        let own = self.insn.params.iter().zip(&self.row.forms).find(|(n, _)| *n == name);
        let with = self.row.attrs.with.iter().find(|(n, _)| n == name);
        own.map(|(_, f)| *f).or(with.map(|(_, f)| *f))
    }

    /// Is the condition known while lowering? Then its value.
    pub(crate) fn known(&self, e: &Expr) -> Option<bool> {
        konst(e, &self.sizes).map(|v| v != 0)
    }

    /// Type of an expression.
    pub(crate) fn ty(&mut self, e: &'a Expr) -> Ty {
        match &e.kind {
            ExprKind::Int(v) => Ty::Adapt(64 - v.leading_zeros()),
            ExprKind::Bool(_) | ExprKind::Flag(_) => Ty::Bool,
            ExprKind::WidthNum(_) => Ty::Adapt(7),
            ExprKind::NextIp => Ty::Adapt(0),
            ExprKind::Name(name) => self.name(name, e.pos),
            ExprKind::Reg(_, width) => Ty::Int(self.sizes.bits(*width)),
            ExprKind::Seg(_) => Ty::Int(16),
            ExprKind::Field(name, field) => self.field(name, field, e.pos),
            ExprKind::State(n) => self.state(*n),
            ExprKind::Un(op, a) => self.unary(*op, a, e.pos),
            ExprKind::Bin(op, a, b) => self.binary(op, a, b, e),
            ExprKind::Call(name, args, width) => self.call(name, args, *width, e.pos),
            ExprKind::Mem { off, width, value, .. } => self.memory(off, *width, value.as_deref()),
            ExprKind::Helper(n, args) => self.helper(*n, args, e.pos),
            ExprKind::If(c, a, b) => self.choice(c, a, b, e.pos),
        }
    }

    fn name(&mut self, name: &str, pos: Pos) -> Ty {
        if let Some((_, ty)) = self.lets.iter().rev().find(|(n, _)| *n == name) {
            return *ty;
        }
        let Some(form) = self.form(name) else {
            return Ty::Unknown;
        };
        match form {
            Form::I(s) | Form::Iu(s) => Ty::Adapt(s.bits(self.sizes.osz)),
            Form::Lit(v) => Ty::Adapt(32 - v.leading_zeros()),
            Form::J(_) => Ty::Adapt(0),
            Form::Sw | Form::Seg(_) => Ty::Int(16),
            Form::C | Form::D => Ty::Int(self.sizes.system_register()),
            Form::MAddr => {
                self.fail(pos, format!("`{name}` is an address only: write `addr({name})`"))
            }
            Form::Mp | Form::Ap => self.fail(pos, format!("write `{name}.off` or `{name}.sel`")),
            Form::Ma => self.fail(pos, format!("write `{name}.lo` or `{name}.hi`")),
            Form::Ms => self.fail(pos, format!("write `{name}.limit` or `{name}.base`")),
            _ => match form.width(self.sizes.osz) {
                Some(width) => Ty::Int(width),
                None => self.no_number(name, form, pos),
            },
        }
    }

    /// A vector or x87 operand where a number is wanted.
    fn no_number(&mut self, name: &str, form: Form, pos: Pos) -> Ty {
        let form = crate::parse::form::form_name(form);
        self.fail(
            pos,
            format!("`{name}` ({form}) is no number: `native!`, or `num({name})` and a helper"),
        )
    }

    /// Type of a field of an operand.
    pub(crate) fn field(&mut self, name: &str, field: &str, pos: Pos) -> Ty {
        let Some(form) = self.form(name) else {
            return Ty::Unknown;
        };
        match (form, field) {
            (Form::Mp | Form::Ap, "off") | (Form::Ma, "lo" | "hi") => Ty::Int(self.sizes.osz),
            (Form::Mp | Form::Ap, "sel") | (Form::Ms, "limit") => Ty::Int(16),
            (Form::Ms, "base") => Ty::Int(self.sizes.table_base()),
            _ => {
                let form = crate::parse::form::form_name(form);
                self.fail(pos, format!("operand `{name}` ({form}) has no field `.{field}`"))
            }
        }
    }

    /// Type of a field of the state.
    pub(crate) fn state(&self, n: usize) -> Ty {
        self.isa.states.get(n).map_or(Ty::Unknown, |field| Ty::Int(field.bits))
    }

    fn unary(&mut self, op: char, a: &'a Expr, pos: Pos) -> Ty {
        match (op, self.ty(a)) {
            ('-', Ty::Bool) => self.fail(pos, "`-` takes a number"),
            (_, Ty::Adapt(_)) => Ty::Adapt(0),
            (_, ty) => ty,
        }
    }

    fn binary(&mut self, op: &str, a: &'a Expr, b: &'a Expr, e: &'a Expr) -> Ty {
        let (x, y) = (self.ty(a), self.ty(b));
        if let Some(value) = konst(e, &self.sizes)
            && !matches!((x, y), (Ty::Bool, _) | (_, Ty::Bool))
            && !matches!(op, "==" | "!=" | "<" | "<=" | ">" | ">=" | "&&" | "||")
        {
            return Ty::Adapt(64 - value.leading_zeros());
        }
        match op {
            "&&" | "||" => {
                for (ty, side) in [(x, a), (y, b)] {
                    if !matches!(ty, Ty::Bool | Ty::Unknown) {
                        self.fail(
                            side.pos,
                            format!("`{op}` joins truth values, this is {}", ty.text()),
                        );
                    }
                }
                Ty::Bool
            }
            "<<" | ">>" => {
                self.number(y, b.pos);
                match self.number(x, a.pos) {
                    Ty::Adapt(_) => Ty::Adapt(0),
                    ty => ty,
                }
            }
            "==" | "!=" => {
                if (x, y) != (Ty::Bool, Ty::Bool) {
                    self.unify(&[x, y], e.pos, op);
                }
                Ty::Bool
            }
            "<" | "<=" | ">" | ">=" => {
                self.unify(&[x, y], e.pos, op);
                Ty::Bool
            }
            _ => self.unify(&[x, y], e.pos, op),
        }
    }

    /// Demands a number.
    fn number(&mut self, ty: Ty, pos: Pos) -> Ty {
        match ty {
            Ty::Int(_) | Ty::Adapt(_) | Ty::Unknown => ty,
            Ty::Bool => self.fail(pos, "a number is wanted, this is a truth value (`b2i(x, n)`)"),
            Ty::Pair(_) | Ty::Unit => {
                self.fail(pos, format!("a number is wanted, this is {}", ty.text()))
            }
        }
    }

    /// The one width of several sides.
    fn unify(&mut self, sides: &[Ty], pos: Pos, what: &str) -> Ty {
        let mut width = None;
        let mut least = 0;
        for &ty in sides {
            match self.number(ty, pos) {
                Ty::Int(w) if width.is_some_and(|old| old != w) => {
                    let old = width.unwrap_or(w);
                    return self
                        .fail(pos, format!("width mismatch at `{what}`: {old} bits and {w} bits"));
                }
                Ty::Int(w) => width = Some(w),
                Ty::Adapt(w) => least = least.max(w),
                _ => return Ty::Unknown,
            }
        }
        match width {
            None => Ty::Adapt(least),
            Some(w) if least > w => {
                self.fail(pos, format!("a literal of {least} bits meets {w} bits at `{what}`"))
            }
            Some(w) => Ty::Int(w),
        }
    }

    /// Types of arguments that must be as wide as each other.
    pub(crate) fn same(&mut self, args: &'a [Expr], pos: Pos, what: &str) -> Ty {
        let types: Vec<Ty> = args.iter().map(|a| self.ty(a)).collect();
        self.unify(&types, pos, what)
    }

    /// Arguments of an operation or flag kind; gives the type of the first.
    pub(crate) fn operation(&mut self, name: &str, args: &'a [Expr], pos: Pos) -> Ty {
        let split = match name {
            "adc" | "sbb" | "shld" | "shrd" => 2,
            "shl" | "shr" | "sar" | "rol" | "ror" | "rcl" | "rcr" => 1,
            "bt" | "bts" | "btr" | "btc" | "bit" => 1,
            "bsf" | "bsr" => args.len(),
            _ => args.len(),
        };
        let (sides, rest) = args.split_at(split.min(args.len()));
        let ty = self.same(sides, pos, name);
        for arg in rest {
            let ty = self.ty(arg);
            if !matches!(name, "adc" | "sbb") {
                self.number(ty, arg.pos);
            } else if !matches!(ty, Ty::Bool | Ty::Unknown) {
                self.fail(arg.pos, format!("the carry of `{name}` is a truth value (`cf`)"));
            }
        }
        ty
    }

    fn call(&mut self, name: &str, args: &'a [Expr], width: Option<ExprWidth>, pos: Pos) -> Ty {
        let Some(builtin) = builtins::builtin(name) else {
            return if name == "cond" { Ty::Bool } else { Ty::Adapt(0) };
        };
        match builtin.gives {
            Gives::Width => self.resized(name, args, width.map_or(0, |w| self.sizes.bits(w)), pos),
            Gives::Same => self.operation(name, args, pos),
            Gives::Bool => {
                self.operation(name, args, pos);
                Ty::Bool
            }
            Gives::Pair => match self.operation(name, args, pos) {
                Ty::Int(w) => Ty::Pair(w),
                Ty::Adapt(_) => self.fail(pos, format!("the width of `{name}` is unknown")),
                _ => Ty::Unknown,
            },
            Gives::Half | Gives::Double => self.halves(builtin.gives, name, args, pos),
            Gives::Operand => Ty::Int(self.sizes.w),
            Gives::Bits(bits) => Ty::Int(bits),
            Gives::Address => self.address(args, pos),
            Gives::Nothing => {
                for arg in args {
                    let ty = self.ty(arg);
                    self.number(ty, arg.pos);
                }
                Ty::Unit
            }
        }
    }

    fn address(&mut self, args: &[Expr], pos: Pos) -> Ty {
        if let Some(Expr { kind: ExprKind::Name(name), .. }) = args.first()
            && self.form(name).is_some_and(|f| !f.may_be_memory())
        {
            return self.fail(pos, format!("`{name}` is no memory operand in this row"));
        }
        Ty::Int(self.sizes.asz)
    }

    fn resized(&mut self, name: &str, args: &'a [Expr], to: u32, pos: Pos) -> Ty {
        let from = args.first().map_or(Ty::Unknown, |a| self.ty(a));
        match (name, from) {
            _ if to > 64 => {
                return self.fail(pos, format!("`{name}` to {to} bits: 64 is the most"));
            }
            ("b2i", Ty::Bool | Ty::Unknown) => {}
            ("b2i", _) => return self.fail(pos, "`b2i` takes a truth value"),
            (_, Ty::Bool) => {
                return self.fail(pos, format!("`{name}` of a truth value: use `b2i(x, n)`"));
            }
            ("trunc", Ty::Int(w)) if w < to => {
                return self.fail(pos, format!("`trunc` from {w} bits to {to} bits widens"));
            }
            ("zext" | "sext", Ty::Int(w)) if w > to => {
                return self.fail(pos, format!("`{name}` from {w} bits to {to} bits loses bits"));
            }
            _ => {}
        }
        Ty::Int(to)
    }

    fn halves(&mut self, gives: Gives, name: &str, args: &'a [Expr], pos: Pos) -> Ty {
        match (gives, self.same(args, pos, name)) {
            (_, Ty::Adapt(_)) => self.fail(pos, format!("the width of `{name}` is unknown")),
            (Gives::Half, Ty::Int(8)) => self.fail(pos, format!("`{name}` of 8 bits")),
            (Gives::Half, Ty::Int(w)) => Ty::Int(w / 2),
            (_, Ty::Int(w)) if w > 32 => self.fail(pos, format!("`{name}` beyond 64 bits")),
            (_, Ty::Int(w)) => Ty::Int(w * 2),
            (_, _) => Ty::Unknown,
        }
    }

    fn memory(&mut self, off: &'a Expr, width: Option<ExprWidth>, value: Option<&'a Expr>) -> Ty {
        let ty = self.ty(off);
        if let Ty::Int(w) = self.number(ty, off.pos)
            && w != self.sizes.asz
            && w != self.sizes.ssz
        {
            let text = format!("an offset is as wide as `A` or `S`, this is {w} bits");
            self.fail(off.pos, text);
        }
        if let Some(value) = value {
            let ty = self.ty(value);
            if let Ty::Adapt(_) = self.number(ty, value.pos) {
                self.fail(value.pos, "how wide is the value? Write `zext(value, n)`");
            }
            return Ty::Unit;
        }
        width.map_or(Ty::Unknown, |w| Ty::Int(self.sizes.bits(w)))
    }

    fn helper(&mut self, n: usize, args: &'a [Expr], pos: Pos) -> Ty {
        let Some(helper) = self.isa.helpers.get(n) else {
            return self.fail(pos, "unknown helper");
        };
        for (arg, (name, width)) in args.iter().zip(&helper.args) {
            let ty = self.ty(arg);
            match self.number(ty, arg.pos) {
                Ty::Int(w) | Ty::Adapt(w) if w > *width => {
                    let helper = &helper.name;
                    let text =
                        format!("helper `{helper}`: `{name}` has {width} bits, this has {w}");
                    self.fail(arg.pos, text);
                }
                _ => {}
            }
        }
        helper.ret.map_or(Ty::Unit, Ty::Int)
    }

    fn choice(&mut self, c: &'a Expr, a: &'a Expr, b: &'a Expr, pos: Pos) -> Ty {
        self.condition(c);
        match self.known(c) {
            Some(true) => self.ty(a),
            Some(false) => self.ty(b),
            None => match (self.ty(a), self.ty(b)) {
                (Ty::Bool, Ty::Bool) => Ty::Bool,
                (x, y) => self.unify(&[x, y], pos, "if"),
            },
        }
    }

    /// Demands a truth value.
    pub(crate) fn condition(&mut self, c: &'a Expr) {
        let ty = self.ty(c);
        if !matches!(ty, Ty::Bool | Ty::Unknown) {
            self.fail(c.pos, format!("a condition is a truth value, this is {}", ty.text()));
        }
    }

    /// Demands that a value of this type fits a target of `want` bits.
    pub(crate) fn fits(&mut self, ty: Ty, want: u32, pos: Pos, what: &str) {
        match ty {
            Ty::Int(w) if w != want => {
                self.fail(pos, format!("width mismatch: {what} has {want} bits, the value {w}"));
            }
            Ty::Adapt(w) if w > want => {
                self.fail(
                    pos,
                    format!("a literal of {w} bits does not fit the {want} bits of {what}"),
                );
            }
            Ty::Bool => {
                self.fail(pos, format!("{what} is assigned a truth value: use `b2i(x, n)`"));
            }
            Ty::Pair(_) | Ty::Unit => {
                self.fail(pos, format!("{what} is assigned {}", ty.text()));
            }
            Ty::Int(_) | Ty::Adapt(_) | Ty::Unknown => {}
        }
    }

    /// Width an operand can take when it is assigned.
    pub(crate) fn operand_width(&mut self, name: &str, pos: Pos) -> Option<u32> {
        let form = self.form(name)?;
        match form {
            Form::Sw | Form::Seg(_) => Some(16),
            Form::C | Form::D => Some(self.sizes.system_register()),
            Form::I(_) | Form::Iu(_) | Form::J(_) | Form::Ap | Form::Lit(_) | Form::MAddr => {
                let form = crate::parse::form::form_name(form);
                self.fail(pos, format!("`{name}` ({form}) cannot be assigned in this row"));
                None
            }
            Form::Mp | Form::Ma | Form::Ms => {
                self.fail(pos, format!("`{name}` can be assigned by its fields only"));
                None
            }
            _ => {
                let width = form.width(self.sizes.osz);
                if width.is_none() {
                    self.no_number(name, form, pos);
                }
                width
            }
        }
    }

    /// Is this a size that the stack takes?
    pub(crate) fn stack_value(&mut self, ty: Ty, pos: Pos) {
        if let Ty::Int(w @ 8) = ty {
            self.fail(pos, format!("`push` of {w} bits"));
        }
    }
}

/// Sizes that a row can have.
pub(crate) fn sizes_of(row: &Row) -> Vec<Sizes> {
    let mut list = Vec::new();
    let mut add = |operands: &[u32], addresses: &[u32], stacks: &[u32]| {
        for &osz in operands {
            for &asz in addresses {
                for &ssz in stacks {
                    list.push(Sizes { w: row.width(osz), osz, asz, ssz });
                }
            }
        }
    };
    let has = |attr| row.attrs.has(attr);
    if !has("o64") && !row.opcode.rex_w {
        add(&[16, 32], &[16, 32], &[16, 32]);
    }
    if !has("i64") {
        let operands: &[u32] = match () {
            () if has("f64") || row.opcode.rex_w => &[64],
            () if has("d64") => &[16, 64],
            () => &[16, 32, 64],
        };
        add(operands, &[32, 64], &[64]);
    }
    list
}
