//! The syntax tree of bodies.

use super::Pos;

/// Statement.
#[derive(Clone, Debug)]
pub struct Stmt {
    /// What.
    pub kind: StmtKind,
    /// Where.
    pub pos: Pos,
}

/// Statement kinds.
#[derive(Clone, Debug)]
pub enum StmtKind {
    /// `let a = e;` or `let (a, b) = e;`
    Let(Vec<String>, Expr),
    /// Assignment to operand, register (`Place::Reg`), or flag.
    Assign(Place, Expr),
    /// `cc = kind(args);`
    Cc(String, Vec<Expr>),
    /// `if c { … } else { … }`
    If(Expr, Vec<Stmt>, Vec<Stmt>),
    /// `raise!(V, code)`
    Raise(String, Option<Expr>),
    /// `goto!(e)`
    Goto(Expr),
    /// `exit!()`, `halt!()`, `shadow!()`
    Mark(String),
    /// `store`, `push`, `port_out`, `call!` for effect.
    Effect(Expr),
    /// `native!(written; read);`: operand names.
    Native(Vec<String>, Vec<String>),
}

/// Left side of an assignment.
#[derive(Clone, Debug)]
pub enum Place {
    /// Operand param or `with` name.
    Operand(String),
    /// Register at a width: number and width.
    Reg(u8, ExprWidth),
    /// `cf` … `of` (FlagMask bit), or DF as 64.
    Flag(u8),
    /// Field of an `Ms` operand: `m.limit`, `m.base`.
    Field(String, String),
    /// `cpu.name`: number in [`Isa::states`](super::Isa::states).
    State(usize),
}

/// A width in a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ExprWidth {
    /// Fixed bits.
    Bits(u32),
    /// Operand size.
    W,
    /// Address size.
    A,
    /// Stack size.
    S,
    /// Twice the operand size.
    W2,
}

/// Expression.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What.
    pub kind: ExprKind,
    /// Where.
    pub pos: Pos,
}

/// Expression kinds.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// Literal.
    Int(u64),
    /// `true`/`false`.
    Bool(bool),
    /// Operand param, `with` name, or `let` variable.
    Name(String),
    /// Fixed register at a width; 16..20 are AH CH DH BH.
    Reg(u8, ExprWidth),
    /// Segment register as a value (its selector), 0..6.
    Seg(u8),
    /// Flag as bool (FlagMask bit; DF = 64).
    Flag(u8),
    /// `W A S` / `OSZ ASZ SSZ` as a number of bits.
    WidthNum(ExprWidth),
    /// `next_ip`.
    NextIp,
    /// `m.off` …
    Field(String, String),
    /// `cpu.name`: number in [`Isa::states`](super::Isa::states).
    State(usize),
    /// Unary: `!`, `-`.
    Un(char, Box<Expr>),
    /// Binary operator as written (`+`, `==`, `&&`, `<<` …).
    Bin(String, Box<Expr>, Box<Expr>),
    /// Builtin function: name, width argument if the function takes one (last argument), other
    /// arguments.
    Call(String, Vec<Expr>, Option<ExprWidth>),
    /// `load(SEG, off, n)` / `store(SEG, off, v)`: segment 0..6, overridable, arguments.
    Mem {
        /// `true` = store.
        store: bool,
        /// Segment register number.
        seg: u8,
        /// `seg(DS)`: a prefix may override it.
        overridable: bool,
        /// Offset.
        off: Box<Expr>,
        /// Width of a load.
        width: Option<ExprWidth>,
        /// Value of a store.
        value: Option<Box<Expr>>,
    },
    /// `call!(helper(args))`: helper index in [`Isa::helpers`](super::Isa::helpers).
    Helper(usize, Vec<Expr>),
    /// `if c { a } else { b }`
    If(Box<Expr>, Box<Expr>, Box<Expr>),
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}
