//! Native instructions: the guest's own opcode, run on the host with its operands renamed.
//!
//! Host and guest are the same architecture, so FP and vector instructions need no meaning here: an
//! instruction is its opcode, where its operands are, and what it touches beside them. Vector, MMX and
//! x87 registers keep their numbers; general registers and memory are operands of the op.

use crate::{AccessKind, FlagMask};

/// Parts of FP and vector state: bits of `Native::uses`, of the mask in a `SimdEnter` and of the
/// state field that says which parts generated code may touch.
pub mod simd {
    /// The x87 stack, its control, status and tag words.
    pub const X87: u8 = 1;
    /// MMX registers, which are the x87 registers.
    pub const MMX: u8 = 2;
    /// XMM registers and MXCSR.
    pub const SSE: u8 = 4;
    /// YMM registers.
    pub const AVX: u8 = 8;
    /// Only the check of a waiting instruction.
    pub const WAIT: u8 = 16;
}

/// Where one operand of a native instruction lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum NativeReg {
    /// No such operand.
    #[default]
    None,
    /// Fixed bits of the encoding (opcode extension, x87 stack index), not a register to rename.
    Digit(u8),
    /// A vector or MMX register, which keeps its number.
    Vec(u8),
    /// A general register written: the op's `d`.
    Out,
    /// A general register read and written: the op's `d`.
    InOut,
    /// A general register read: the op's `b`.
    In0,
    /// A general register read: the op's `c`.
    In1,
    /// Memory: the op's `a` is its checked pointer.
    Mem,
}

/// A host instruction that is the guest's own with registers renamed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Native {
    /// Opcode map: 0 one-byte, 1 `0F`, 2 `0F38`, 3 `0F3A`.
    pub map: u8,
    /// Mandatory prefix: 0 none, 1 `66`, 2 `F3`, 3 `F2`.
    pub pp: u8,
    /// An operand-size prefix beside the mandatory one (CRC32 with a 16-bit source).
    pub opsize: bool,
    /// The LOCK prefix.
    pub lock: bool,
    /// The opcode byte.
    pub opcode: u8,
    /// REX.W or VEX.W.
    pub w: bool,
    /// 0 legacy encoding, 1 VEX.L = 0, 2 VEX.L = 1.
    pub vl: u8,
    /// ModRM.reg.
    pub reg: NativeReg,
    /// ModRM.rm.
    pub rm: NativeReg,
    /// VEX.vvvv.
    pub vvvv: NativeReg,
    /// Immediate bytes, low byte first, copied as they are.
    pub imm: u16,
    /// How many immediate bytes there are (0..=2).
    pub imm_len: u8,
    /// ModRM.rm is an 8-bit general register: numbers 4..8 need a REX prefix.
    pub byte_rm: bool,
    /// Guest flags it reads from EFLAGS.
    pub reads: FlagMask,
    /// Bits of `simd`: the state it uses.
    pub uses: u8,
    /// Bytes of its memory operand (0: none).
    pub mem_bytes: u8,
    /// What it does with its memory operand.
    pub access: AccessKind,
}

impl Native {
    /// Has it a memory operand?
    pub const fn has_memory(&self) -> bool {
        matches!(self.rm, NativeReg::Mem)
    }
    /// Where the general register it writes is encoded, and whether it is read as well.
    pub fn result(&self) -> Option<NativeReg> {
        [self.reg, self.rm, self.vvvv]
            .into_iter()
            .find(|r| matches!(r, NativeReg::Out | NativeReg::InOut))
    }
    /// Does one of its operands have this role?
    pub fn has(&self, role: NativeReg) -> bool {
        [self.reg, self.rm, self.vvvv].contains(&role)
    }
}

/// What a native instruction takes and gives outside vector and FP state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NativeIo {
    /// Values of `In0` and `In1`.
    pub gpr: [u64; 2],
    /// Value of `Out`; for `InOut` the old one, whole, going in.
    pub out: u64,
    /// Arithmetic flags in EFLAGS positions, in and out.
    pub flags: u32,
    /// Checked pointer of the memory operand, as `Guest::probe` returned it.
    pub mem: Option<u64>,
    /// What it does with the memory operand.
    pub kind: AccessKind,
    /// Bytes of the memory operand.
    pub size: u32,
    /// Does it read or write general registers by itself?
    pub implicit: bool,
}

/// A host exception that a native instruction raised, with the guest's vector for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NativeTrap {
    /// An unmasked SIMD floating-point exception (vector 19).
    Simd,
    /// A pending unmasked x87 exception (vector 16).
    X87,
    /// The host does not know the instruction.
    Undefined,
    /// The host refuses its memory operand: misaligned.
    Protection,
}

/// The guest's registers and FP state, for a native instruction outside generated code.
#[derive(Debug)]
pub struct NativeState<'a> {
    /// General registers; touched only by instructions that do so implicitly.
    pub gpr: &'a mut [u64; 16],
    /// Vector registers.
    pub ymm: &'a mut [[u64; 4]; 16],
    /// MXCSR.
    pub mxcsr: &'a mut u32,
    /// x87 state as XSAVE stores it: legacy region and header.
    pub fpu: &'a mut [u8; 576],
    /// The memory operand's bytes.
    pub operand: &'a mut [u8; 64],
}

/// Runs native instructions one at a time, for the evaluator, and takes FP state out of the host's registers. Made by the crate that knows
/// the host.
pub trait NativeRunner {
    /// Runs `native`. On a trap nothing has changed but status flags.
    ///
    /// # Errors
    /// When the instruction raised an exception.
    fn run(
        &mut self,
        native: &Native,
        io: &mut NativeIo,
        state: NativeState<'_>,
    ) -> Result<(), NativeTrap>;
    /// Stores the calling thread's x87 state to `fpu` and resets the host's.
    fn park(&mut self, fpu: &mut [u8; 576]);
}
