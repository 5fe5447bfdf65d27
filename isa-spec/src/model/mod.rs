//! What the parser makes of the tables: plain data, names as in LANGUAGE.md.
//!
//! Rows are already expanded (shapes substituted, attributes merged), in table order. Bodies are
//! a small syntax tree of our own. Every node that an error may point at has a [`Pos`].

mod body;

pub use body::{Expr, ExprKind, ExprWidth, Place, Stmt, StmtKind};

/// Where something stands in the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash, PartialOrd, Ord)]
pub struct Pos {
    /// Index into [`Isa::files`].
    pub file: u16,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// All tables of one instruction set.
#[derive(Clone, Debug, Default)]
pub struct Isa {
    /// Source files: name relative to the table folder, and text.
    pub files: Vec<(String, String)>,
    /// Instructions in table order.
    pub insns: Vec<Insn>,
    /// Rows of all instructions, in table order; `Row::insn` points back.
    pub rows: Vec<Row>,
    /// Helpers in table order; the index is the helper's number.
    pub helpers: Vec<Helper>,
    /// Fields of the processor's state that bodies name: `cpu.NAME`.
    pub states: Vec<StateField>,
    /// CPUID features in table order; the index is the feature's number.
    pub features: Vec<Feature>,
    /// Processor models in table order.
    pub cpus: Vec<Cpu>,
}

/// A field of the processor's state: `state NAME: width;`.
#[derive(Clone, Debug)]
pub struct StateField {
    /// Name as bodies write it behind `cpu.`.
    pub name: String,
    /// Bits.
    pub bits: u32,
    /// Where it stands.
    pub pos: Pos,
}

/// One instruction: semantics written once.
#[derive(Clone, Debug)]
pub struct Insn {
    /// Table name, e.g. `ADD`, `MOV_S`. Unique.
    pub name: String,
    /// Doc lines joined.
    pub doc: String,
    /// Operand parameter names, in order of the rows' forms.
    pub params: Vec<String>,
    /// The flags clause.
    pub flags: FlagsClause,
    /// The body.
    pub body: Vec<Stmt>,
    /// Test cases.
    pub cases: Vec<Case>,
    /// Where it stands.
    pub pos: Pos,
}

/// Flags clause; masks are `ir::FlagMask` bits: C=1 P=2 A=4 Z=8 S=16 O=32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlagsClause {
    /// Written (including constant and undefined ones).
    pub written: u8,
    /// Of these, always cleared.
    pub zero: u8,
    /// Of these, always set.
    pub one: u8,
    /// Of these, architecturally undefined.
    pub undefined: u8,
    /// Read.
    pub read: u8,
    /// Reads the flags of the row's condition code (`cc`).
    pub reads_cc: bool,
    /// Writes flags outside the six (`d`, `i`, `all` …).
    pub system_written: bool,
    /// Reads flags outside the six.
    pub system_read: bool,
    /// The clause was present.
    pub present: bool,
}

/// Mandatory prefix column.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Mandatory {
    /// Row does not care.
    #[default]
    Any,
    /// None of 66 F2 F3.
    Np,
    /// Neither F2 nor F3; 66 is the operand size.
    Nfx,
    /// 66.
    P66,
    /// F3.
    F3,
    /// F2.
    F2,
}

/// Opcode map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash, PartialOrd, Ord)]
pub enum Map {
    /// One-byte opcodes.
    #[default]
    One,
    /// `0F`.
    M0f,
    /// `0F 38`.
    M0f38,
    /// `0F 3A`.
    M0f3a,
}

/// What a VEX prefix must say beside map and mandatory prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Vex {
    /// Vector length.
    pub l: VexL,
    /// W bit.
    pub w: VexW,
}

/// The L column of a VEX opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum VexL {
    /// `128`: L = 0.
    L128,
    /// `256`: L = 1.
    L256,
    /// `LIG`: ignored.
    Lig,
    /// `LZ`: L = 0, nothing is a vector.
    Lz,
}

/// The W column of a VEX opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum VexW {
    /// W = 0.
    W0,
    /// W = 1.
    W1,
    /// Ignored (or read as the operand size by `y` operands).
    Wig,
}

/// What the ModRM byte must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum ModRm {
    /// No ModRM byte.
    #[default]
    None,
    /// `/r`: any.
    Any,
    /// `/0`..`/7`.
    Reg(u8),
    /// A fixed byte.
    Fixed(u8),
    /// `C0+i`-like: a fixed first byte whose low three bits are free.
    FixedPlus(u8),
}

/// Immediate columns, in order (`ib iw id iz iv iq cb cz cp ov is4`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Imm {
    /// 1 byte.
    B,
    /// 2 bytes.
    W,
    /// 4 bytes.
    D,
    /// 8 bytes.
    Q,
    /// 2 or 4 by operand size.
    Z,
    /// 2, 4 or 8 by operand size.
    V,
    /// Far pointer: offset by operand size, then a 16-bit selector.
    Ptr,
    /// Address-size offset (moffs).
    Moffs,
    /// A register in the high half of a byte.
    Is4,
}

/// The opcode string, taken apart.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub struct Opcode {
    /// As written, shape parameter substituted.
    pub text: String,
    /// Mandatory prefix.
    pub prefix: Mandatory,
    /// `REX.W` (or VEX.W in a row derived from such a one) required: 64-bit code only.
    pub rex_w: bool,
    /// VEX encoding.
    pub vex: Option<Vex>,
    /// Map.
    pub map: Map,
    /// Opcode byte within the map (base value).
    pub byte: u8,
    /// How many consecutive opcodes from `byte`: 1, 8 (`+r`) or 16 (`+cc`).
    pub span: u8,
    /// `+cc`: the low nibble is a condition.
    pub has_cc: bool,
    /// ModRM demand.
    pub modrm: ModRm,
    /// Immediates.
    pub imms: Vec<Imm>,
}

/// An operand form (LANGUAGE.md).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Form {
    /// ModRM.rm register or memory.
    E(Sz),
    /// ModRM.reg general register.
    G(Sz),
    /// Memory only.
    M(Sz),
    /// Address only.
    MAddr,
    /// Far pointer in memory.
    Mp,
    /// BOUND pair in memory.
    Ma,
    /// Descriptor-table image in memory.
    Ms,
    /// ModRM.rm register only.
    R(Sz),
    /// Opcode low bits register.
    Z(Sz),
    /// Immediate, sign-extended to the operation.
    I(Sz),
    /// Immediate, zero-extended.
    Iu(Sz),
    /// Branch displacement.
    J(Sz),
    /// moffs.
    O(Sz),
    /// Far pointer immediate.
    Ap,
    /// Segment register from ModRM.reg.
    Sw,
    /// Control register.
    C,
    /// Debug register.
    D,
    /// String source.
    X(Sz),
    /// String destination.
    Y(Sz),
    /// Fixed general register: number (16..20 = AH CH DH BH at 8 bits) and size.
    Reg(u8, Sz),
    /// Fixed segment register 0..6.
    Seg(u8),
    /// Literal.
    Lit(u32),
    /// Vector register by ModRM.reg.
    V(Sz),
    /// Vector register by VEX.vvvv.
    H(Sz),
    /// Vector register by ModRM.rm, or memory.
    W(Sz),
    /// Vector register by ModRM.rm.
    U(Sz),
    /// Vector register by bits 7:4 of an immediate.
    L(Sz),
    /// MMX register by ModRM.reg.
    P(Sz),
    /// MMX register by ModRM.rm, or memory.
    Q(Sz),
    /// MMX register by ModRM.rm.
    N(Sz),
    /// General register by VEX.vvvv.
    B(Sz),
    /// `H` in a legacy row: the register of the first other operand; not encoded, not printed.
    Same,
    /// Top of the x87 stack.
    St0,
    /// x87 stack register by the low bits of the ModRM byte.
    StI,
    /// XMM0.
    Xmm0,
}

/// Operand size letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Sz {
    /// 8.
    B,
    /// 16.
    W,
    /// 32.
    D,
    /// 64.
    Q,
    /// Operand size 16/32/64.
    V,
    /// 16 or 32 (never 64).
    Z,
    /// 32, or 64 with REX.W in long mode.
    Y,
    /// 80.
    T,
    /// 128.
    Dq,
    /// 256.
    Qq,
    /// 128, or 256 with VEX.L.
    X,
}

/// Attributes of a row, merged from insn, shape call and row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    /// Bare flags and their arguments: (`lock`, ""), (`since`, "I386"), (`vm86`, "iopl"), (`att`,
    /// "mov%") …
    pub list: Vec<(String, String)>,
    /// `with(name = FORM)`.
    pub with: Vec<(String, Form)>,
}

impl Attrs {
    /// Is the attribute present?
    pub fn has(&self, name: &str) -> bool {
        self.list.iter().any(|(n, _)| n == name)
    }
    /// Argument text of an attribute.
    pub fn arg(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(n, _)| n == name).map(|(_, a)| a.as_str())
    }
}

/// One encoding of one instruction.
#[derive(Clone, Debug)]
pub struct Row {
    /// Index into [`Isa::insns`].
    pub insn: usize,
    /// Mnemonic in Intel spelling, lower case.
    pub mnemonic: String,
    /// Opcode.
    pub opcode: Opcode,
    /// Operand forms, one per insn param.
    pub forms: Vec<Form>,
    /// Attributes.
    pub attrs: Attrs,
    /// Where it stands.
    pub pos: Pos,
}

/// A declared helper.
#[derive(Clone, Debug)]
pub struct Helper {
    /// Method name in the `Helpers` trait.
    pub name: String,
    /// Argument names and widths in bits.
    pub args: Vec<(String, u32)>,
    /// Return width in bits.
    pub ret: Option<u32>,
    /// `faults`, `ends`, `pure`, …
    pub effects: Vec<String>,
    /// Where it stands.
    pub pos: Pos,
}

/// Whose processors, where encodings differ: attribute `maker`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Maker {
    /// Intel, and everybody but AMD and Hygon.
    #[default]
    Intel,
    /// AMD and Hygon.
    Amd,
}

impl Maker {
    /// Do its processors have the row, as far as that is a matter of who makes them?
    pub fn has(self, row: &Row) -> bool {
        let own = match self {
            Self::Intel => "intel",
            Self::Amd => "amd",
        };
        row.attrs.arg("maker").is_none_or(|maker| maker == own)
    }
}

/// A test case of an instruction.
#[derive(Clone, Debug)]
pub struct Case {
    /// Bytes of the insn.
    pub bytes: Vec<u8>,
    /// 16, 32 or 64.
    pub mode: u32,
    /// Whose processor runs it.
    pub maker: Maker,
    /// Inputs.
    pub inputs: Vec<CaseItem>,
    /// Outputs.
    pub outputs: Vec<CaseItem>,
    /// Where it stands.
    pub pos: Pos,
}

/// One input or output of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseItem {
    /// Register by lower-case name (`eax`, `al`, `ds`, `cr0`, `eip`) = value.
    Reg(String, u64),
    /// `m8[..]`/`m16`/`m32`: bits, linear address, value.
    Mem(u32, u64, u64),
    /// Set flags, `ir::FlagMask` bits, plus DF as bit 6.
    Flags(u8),
    /// `raises`: vector name and error code.
    Raises(String, Option<u32>),
    /// FP and vector state by name (`xmm0 ymm15 mm7 st0 mxcsr fcw fsw`) = value, low word first.
    Wide(String, [u64; 4]),
    /// `m128[..]`/`m256[..]`: bits, linear address, value, low word first.
    WideMem(u32, u64, [u64; 4]),
}

/// A CPUID bit.
#[derive(Clone, Debug)]
pub struct Feature {
    /// Name, as `cpuid(…)` gives it.
    pub name: String,
    /// CPUID leaf.
    pub leaf: u32,
    /// Sub-leaf (0 where the leaf has none).
    pub sub: u32,
    /// Register: 0 EAX, 1 EBX, 2 ECX, 3 EDX.
    pub reg: u8,
    /// Bit number.
    pub bit: u8,
    /// Offered only together with these, indices into [`Isa::features`].
    pub needs: Vec<usize>,
    /// Offered only if the host has it, whatever its rows are.
    pub host: bool,
    /// The machine has it without rows.
    pub system: bool,
    /// Where it stands.
    pub pos: Pos,
}

/// A processor model.
#[derive(Clone, Debug)]
pub struct Cpu {
    /// Name, as the user gives it.
    pub name: String,
    /// Vendor string, 12 characters.
    pub vendor: String,
    /// Brand string.
    pub brand: String,
    /// Family as counted by the manuals (extended family added).
    pub family: u32,
    /// Model (extended model added).
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
    /// Generation: an index into [`LEVELS`].
    pub level: u8,
    /// Features, bit n for feature n.
    pub features: u128,
    /// Where it stands.
    pub pos: Pos,
}

/// Processor generations in order, as `since` and `level` name them.
pub const LEVELS: [&str; 7] = ["I8086", "I186", "I286", "I386", "I486", "P5", "P6"];
