//! The register map: one table. Which host register holds what while generated code runs.
//!
//! Guest registers keep their own numbers so that implicit operands (MUL, DIV, shifts by CL, AH–BH) copy
//! one to one; the guest's stack pointer is the exception, because the host's is the host stack.

/// Host register numbers as encoded.
pub mod reg {
    #![allow(missing_docs, reason = "the architecture's names")]
    pub const RAX: u8 = 0;
    pub const RCX: u8 = 1;
    pub const RDX: u8 = 2;
    pub const RBX: u8 = 3;
    pub const RSP: u8 = 4;
    pub const RBP: u8 = 5;
    pub const RSI: u8 = 6;
    pub const RDI: u8 = 7;
    pub const R8: u8 = 8;
    pub const R9: u8 = 9;
    pub const R10: u8 = 10;
    pub const R11: u8 = 11;
    pub const R12: u8 = 12;
    pub const R13: u8 = 13;
    pub const R14: u8 = 14;
    pub const R15: u8 = 15;
}

/// Holds the address of byte [`STATE_BIAS`] of the guest CPU's state throughout.
pub const STATE: u8 = reg::R14;
/// The state's first 256 bytes are reached with one-byte displacements.
pub const STATE_BIAS: i32 = 128;
/// Holds the address of the current view's TLB (tags and addends).
pub const TLB: u8 = reg::R13;
/// Host register of each guest register 0..8 (32-bit guests: all are pinned).
pub const PINNED: [u8; 8] =
    [reg::RAX, reg::RCX, reg::RDX, reg::RBX, reg::R15, reg::RBP, reg::RSI, reg::RDI];
/// Scratch registers, in order of preference.
pub const SCRATCH: [u8; 5] = [reg::R8, reg::R9, reg::R10, reg::R11, reg::R12];
/// All scratch registers as a bit mask.
pub const SCRATCH_MASK: u16 = 0b0001_1111_0000_0000;
/// In compact code only these hold temporaries: the other two belong to the memory thunks.
pub const COMPACT_TEMPS: u16 = 0b0000_0111_0000_0000;
/// Memory thunks: the linear address.
pub const THUNK_LIN: u8 = reg::R11;
/// Memory thunks: TLB index, then addend.
pub const THUNK_INDEX: u8 = reg::R12;
/// Carries the instruction pointer across an indirect jump.
pub const PC: u8 = reg::R8;

/// Bytes of stack frame for spilled temporaries (also keeps the stack aligned for calls).
pub const FRAME: i32 = 0x108;
/// Spill slots of 8 bytes in the frame.
pub const SLOTS: usize = 32;

/// Byte offset of the read addends behind the read tags, and so on: tags and addends of reads, then of writes.
pub const TLB_READ_ADDEND: i32 = 0x2_0000;
/// Byte offset of the write tags.
pub const TLB_WRITE: i32 = 0x4_0000;
/// Byte offset of the tags of pages that may be written but for lines with code; addends as for writes.
pub const TLB_CODE: i32 = 0xC0000;
/// Byte offset of the map of pages that may be read at the usual addend: a byte for each page of the first 4 GiB.
pub const TLB_USUAL_READS: i32 = 0xE_0000;
/// Byte offset of the map for writes.
pub const TLB_USUAL_WRITES: i32 = 0x1E_0000;
/// In a byte of a map: its page is there.
pub const USUAL_HERE: u8 = 1;
/// So is the page that follows.
pub const USUAL_NEXT: u8 = 2;
/// Byte offset of the host address in an entry of a jump table; the tag, an instruction pointer, comes first.
pub const JUMP_HOST: i32 = 8;
/// What the bits that select an entry are to be multiplied by, log2.
pub const JUMP_SCALE: u8 = 3;
/// Byte offset of a jump table's annex, where a jump looks second.
pub const ANNEX: i32 = 0x20_0000;
/// The low half of an instruction pointer, multiplied by this and shifted right by [`ANNEX_SHIFT`], selects an entry of the annex.
pub const ANNEX_FACTOR: i32 = 0x61C8_8647;
/// See [`ANNEX_FACTOR`].
pub const ANNEX_SHIFT: u8 = 20;
