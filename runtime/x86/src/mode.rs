//! What a translation depends on besides its bytes: the mode bits of a block's key.

/// Mode bits. Two blocks with equal bytes and equal `Mode` have equal translations (plus, when CS is not
/// flat, equal `pc_base` and CS limit).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Mode(pub u32);

/// A little more than the farthest that a direct jump goes.
const EDGE_REACH: u64 = (1 << 31) + 0x2000;

impl Mode {
    /// CS.D = 1: 32-bit code.
    pub const CODE32: u32 = 1;
    /// SS.B = 1: 32-bit stack pointer.
    pub const STACK32: u32 = 2;
    /// CR0.PE.
    pub const PE: u32 = 4;
    /// EFLAGS.VM.
    pub const VM86: u32 = 8;
    /// CPL, two bits.
    pub const CPL_SHIFT: u32 = 4;
    /// CS has base 0 and limit 4 GiB: code is position-independent.
    pub const FLAT_CS: u32 = 1 << 6;
    /// SS window is base 0, 4 GiB, readable and writable: no add, no check.
    pub const FLAT_SS: u32 = 1 << 7;
    /// DS likewise.
    pub const FLAT_DS: u32 = 1 << 8;
    /// ES likewise.
    pub const FLAT_ES: u32 = 1 << 9;
    /// EFLAGS.TF: one insn per block, then #DB.
    pub const TF: u32 = 1 << 10;
    /// All six windows end at exactly 0x10000 for reads and writes: 16-bit offsets need only the wrap check.
    pub const ALL_64K: u32 = 1 << 11;
    /// 64-bit code.
    pub const CODE64: u32 = 1 << 12;
    /// An interrupt shadow is on for the first insn (one-insn block).
    pub const SHADOW: u32 = 1 << 13;
    /// 64-bit code within 2 GiB of the edge of the canonical addresses: direct jumps out of the page check their targets. Not a
    /// property of the processor's state but of the place of the block (see [`Mode::at`]).
    pub const EDGE: u32 = 1 << 15;

    /// A translation without spans (`ir::opt::spans`). Not a property of the processor's state either: another way to run the same code.
    pub const PLAIN: u32 = 1 << 16;

    /// VIF stands for IF (CR4.VME, CR4.PVI; IOPL is less than 3).
    pub const VIRTUAL: u32 = 1 << 17;

    /// The mode of a block at instruction pointer `pc`.
    #[must_use]
    pub const fn at(self, pc: u64) -> Self {
        // Nearer than a displacement and a page offset reach.
        let is_near = pc.wrapping_add(EDGE_REACH).wrapping_sub(1 << 47) < 2 * EDGE_REACH
            || pc.wrapping_add(1 << 47).wrapping_add(EDGE_REACH) < 2 * EDGE_REACH;
        if self.has(Self::CODE64) && is_near { Self(self.0 | Self::EDGE) } else { self }
    }
    /// Instruction breakpoints are armed: one insn per block.
    pub const BREAK: u32 = 1 << 14;
    /// With any of these every insn is a block of its own and returns to the run loop.
    pub const SINGLE: u32 = Self::TF | Self::SHADOW | Self::BREAK;
    /// The bits that 64-bit code always has.
    pub const ALWAYS_64: u32 =
        Self::CODE64 | Self::PE | Self::FLAT_CS | Self::FLAT_SS | Self::FLAT_DS | Self::FLAT_ES;

    /// Is the bit set?
    pub const fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }
    /// CPL 0..3.
    pub const fn cpl(self) -> u32 {
        self.0 >> Self::CPL_SHIFT & 3
    }
}
