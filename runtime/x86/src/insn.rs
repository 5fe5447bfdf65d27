//! A decoded guest instruction: which row, and the bytes' fields. Operands are bound lazily from the row.

/// Prefix bits.
pub mod prefix {
    /// F0.
    pub const LOCK: u16 = 1;
    /// F3 (last of F2/F3 wins).
    pub const REP: u16 = 2;
    /// F2.
    pub const REPNE: u16 = 4;
    /// 66.
    pub const OPSIZE: u16 = 8;
    /// 67.
    pub const ADSIZE: u16 = 16;
    /// A segment override is present (`Insn::seg`).
    pub const SEG: u16 = 32;
    /// The 66 byte is this row's mandatory prefix, not an operand-size prefix.
    pub const MANDATORY: u16 = 64;
    /// Decoded in 64-bit mode.
    pub const CODE64: u16 = 128;
}

/// Code mode the bytes are decoded in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum CodeSize {
    /// 16-bit defaults.
    Bits16,
    /// 32-bit defaults.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

/// One decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Row number: index into the generated `ROWS`.
    pub row: u16,
    /// Length in bytes, 1..=15.
    pub len: u8,
    /// Last opcode byte (its low bits are the register or condition of `+r`/`+cc` rows).
    pub opcode: u8,
    /// ModRM byte (0 if none).
    pub modrm: u8,
    /// SIB byte (0 if none).
    pub sib: u8,
    /// Has a SIB byte.
    pub has_sib: bool,
    /// REX byte, or the bits of a VEX prefix at the same places (0 if none).
    pub rex: u8,
    /// VEX: 0 none (legacy encoding), 1 L = 0, 2 L = 1.
    pub vl: u8,
    /// VEX.vvvv, not inverted (0 if none).
    pub vvvv: u8,
    /// Segment override 0..6, valid with `prefix::SEG`.
    pub seg: u8,
    /// Effective operand size in bits: 16, 32, 64.
    pub osz: u8,
    /// Effective address size in bits: 16, 32, 64.
    pub asz: u8,
    /// Prefix bits.
    pub prefixes: u16,
    /// Displacement, sign-extended.
    pub disp: i32,
    /// First immediate as read, zero-extended (J: displacement; Ap: offset; moffs: offset).
    pub imm: u64,
    /// Second immediate (ENTER's level, Ap's selector).
    pub imm2: u32,
}

/// Why bytes are no instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// #UD; the length that was looked at (so that a page fault of a needed byte wins over #UD is the fetcher's business).
    Undefined {
        /// Bytes consumed.
        len: u8,
    },
    /// More than 15 bytes: #GP(0).
    TooLong,
    /// The slice ended before the insn did: more bytes are needed (page end).
    Truncated,
}

/// What the tables say about a row, in the form the run time needs.
#[derive(Clone, Copy, Debug)]
pub struct RowInfo {
    /// Index of the instruction (its body, `LOWER[insn]`).
    pub insn: u16,
    /// Table name of the instruction.
    pub name: &'static str,
    /// Mnemonic (Intel, lower case).
    pub mnemonic: &'static str,
    /// Opcode column as in the table.
    pub opcode: &'static str,
    /// `file:line` in the tables.
    pub at: &'static str,
    /// Attribute bits (`attr` module generated beside the rows).
    pub attrs: u64,
    /// Operand forms, see `form` codes in the decoder.
    pub forms: &'static [Form],
    /// Arithmetic flags read (FlagMask bits; `cc` rows: all).
    pub reads: u8,
    /// Arithmetic flags certainly written.
    pub writes: u8,
    /// Arithmetic flags left undefined.
    pub undefined: u8,
    /// May fault, exit, or touch memory (anything after which flags must be recoverable).
    pub may_fault: bool,
    /// Likewise, when ModRM selects a register (see [`Insn::may_fault`]).
    pub may_fault_reg: bool,
    /// FP and vector state it uses: bits of `ir::simd`.
    pub simd: u8,
    /// Opcode map: 0 one-byte, 1 0F, 2 0F38, 3 0F3A.
    pub map: u8,
    /// Mandatory prefix: 0 none, 1 66, 2 F3, 3 F2.
    pub pp: u8,
}

/// Operand forms at run time: mirrors `isa_spec::model::Form`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "same names as in LANGUAGE.md")]
pub enum Form {
    E(Sz),
    G(Sz),
    M(Sz),
    MAddr,
    Mp,
    Ma,
    Ms,
    R(Sz),
    Z(Sz),
    I(Sz),
    Iu(Sz),
    J(Sz),
    O(Sz),
    Ap,
    Sw,
    C,
    D,
    X(Sz),
    Y(Sz),
    Reg(u8, Sz),
    Seg(u8),
    Lit(u32),
    V(Sz),
    H(Sz),
    W(Sz),
    U(Sz),
    L(Sz),
    P(Sz),
    Q(Sz),
    N(Sz),
    B(Sz),
    /// `H` of a legacy row: the register of the first other operand.
    Same,
    St0,
    StI,
    Xmm0,
}

/// Operand size letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "same letters as in LANGUAGE.md")]
pub enum Sz {
    B,
    W,
    D,
    Q,
    V,
    Z,
    Y,
    T,
    Dq,
    Qq,
    X,
}
