//! What random encodings may contain.

use std::ops::RangeInclusive;

/// What encodings may contain. Register masks have bit n for register n (eAX eCX eDX eBX eSP eBP
/// eSI eDI); the masks of the upper eight registers have bit n for register 8 + n.
#[derive(Clone, Debug)]
pub struct Options {
    /// 16-, 32- or 64-bit code.
    pub mode: u32,
    /// Registers that may be general register operands; for 8-bit operands without REX bit n stands for both
    /// halves.
    pub registers: u8,
    /// Likewise of r8 to r15, in 64-bit code.
    pub high_registers: u8,
    /// May ModRM.rm name a register?
    pub register_forms: bool,
    /// May ModRM.rm name memory?
    pub memory_forms: bool,
    /// Registers that may be a base.
    pub bases: u8,
    /// Likewise of r8 to r15.
    pub high_bases: u8,
    /// Registers that may be an index (never eSP).
    pub indexes: u8,
    /// Likewise of r8 to r15.
    pub high_indexes: u8,
    /// Displacements beside a base or index.
    pub disp: RangeInclusive<i32>,
    /// Addresses for forms without base and index, and moffs; in 64-bit code below 2 GiB.
    pub absolute: Option<RangeInclusive<u32>>,
    /// Displacements from the next instruction, in 64-bit code.
    pub rip: Option<RangeInclusive<i32>>,
    /// Displacements of near jumps.
    pub jump: RangeInclusive<i32>,
    /// Selector and offsets of far pointers in the code; `None` = no such rows.
    pub far: Option<(u16, RangeInclusive<u32>)>,
    /// 66 prefix allowed on rows that take it as operand size.
    pub opsize: bool,
    /// 67 prefix allowed.
    pub adsize: bool,
    /// LOCK allowed where the row permits it and the operand is memory.
    pub lock: bool,
    /// F3/F2 allowed on `rep`/`repcc` rows.
    pub rep: bool,
    /// Segments (bit n for segment n) that may stand as override before memory operands.
    pub segments: u8,
    /// FP and vector state that rows may use: 1 x87, 2 MMX, 4 SSE, 8 AVX, 16 `wait`.
    pub state: u8,
    /// Vector registers that may be operands; of MMX the low eight bits count.
    pub vectors: u16,
    /// Rows with a vector index (`vsib`) allowed.
    pub vector_index: bool,
}

impl Options {
    /// Registers only but rSP, no memory, no jumps beyond ±127, no prefixes but 66 and REX, no FP and vector state.
    pub fn registers_only(mode: u32) -> Options {
        Options {
            mode,
            registers: 0xEF,
            high_registers: 0xFF,
            register_forms: true,
            memory_forms: false,
            bases: 0,
            high_bases: 0,
            indexes: 0,
            high_indexes: 0,
            disp: 0..=0,
            absolute: None,
            rip: None,
            jump: -128..=127,
            far: None,
            opsize: true,
            adsize: false,
            lock: false,
            rep: false,
            segments: 0,
            state: 0,
            vectors: 0xFFFF,
            vector_index: false,
        }
    }

    /// As [`Options::registers_only`], with memory operands at the given bases and displacements,
    /// LOCK and REP.
    pub fn with_memory(mode: u32, bases: u8, disp: RangeInclusive<i32>) -> Options {
        Options {
            memory_forms: true,
            bases,
            disp,
            adsize: true,
            lock: true,
            rep: true,
            ..Options::registers_only(mode)
        }
    }

    /// General registers that may be operands.
    pub(super) fn general(&self) -> u16 {
        u16::from(self.registers) | u16::from(self.high_registers) << 8
    }

    /// Registers that may be bases.
    pub(super) fn all_bases(&self) -> u16 {
        u16::from(self.bases) | u16::from(self.high_bases) << 8
    }

    /// Registers that may be indexes.
    pub(super) fn all_indexes(&self) -> u16 {
        (u16::from(self.indexes) | u16::from(self.high_indexes) << 8) & !(1 << 4)
    }
}
