//! What a case is made of, and what comes out of it.

/// Size of code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Width {
    /// 16-bit protected mode.
    W16,
    /// 32-bit protected mode.
    W32,
    /// 64-bit mode.
    W64,
}

impl Width {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::W16, Self::W32, Self::W64];

    /// 16, 32 or 64.
    pub const fn bits(self) -> u32 {
        match self {
            Self::W16 => 16,
            Self::W32 => 32,
            Self::W64 => 64,
        }
    }
}

/// Floating-point and vector state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub struct Fp {
    /// The 512 bytes of FXSAVE with REX.W.
    pub legacy: [u8; 512],
    /// Upper halves of YMM0 to YMM15.
    pub high: [[u64; 2]; 16],
}

impl Fp {
    /// The state after FNINIT, MXCSR at its reset value, vector registers zero.
    pub const INIT: Self = {
        let mut legacy = [0; 512];
        legacy[0] = 0x7F;
        legacy[1] = 0x03;
        legacy[24] = 0x80;
        legacy[25] = 0x1F;
        Self { legacy, high: [[0; 2]; 16] }
    };
}

/// Bytes that stand in memory when a case begins.
#[derive(Clone, Copy, Debug)]
pub struct Patch {
    /// Linear address; what of it lies outside the data pages is dropped.
    pub at: u64,
    /// How many bytes count.
    pub len: u8,
    /// The bytes.
    pub bytes: [u8; 64],
}

impl Patch {
    /// No bytes.
    pub const NONE: Self = Self { at: 0, len: 0, bytes: [0; 64] };
}

/// An instruction and what it runs on.
#[derive(Clone, Debug)]
pub struct Case {
    /// Code size.
    pub width: Width,
    /// The bytes, `len` of them.
    pub bytes: [u8; 16],
    /// How many.
    pub len: u8,
    /// Offset of the first byte in the code segment.
    pub ip: u64,
    /// General registers.
    pub gpr: [u64; 16],
    /// EFLAGS.
    pub flags: u32,
    /// Selectors of ES CS SS DS FS GS.
    pub seg: [u16; 6],
    /// Bases of FS and GS in 64-bit mode.
    pub bases: [u64; 2],
    /// Memory.
    pub patches: [Patch; 2],
    /// Floating-point state; `None` = the instruction has nothing to do with it.
    pub fp: Option<Box<Fp>>,
    /// Row of the tables that the bytes decode to, if any.
    pub row: Option<u16>,
}

impl Case {
    /// The instruction's bytes.
    pub fn code(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Linear address of the instruction.
    pub fn lin(&self) -> u64 {
        if self.width == Width::W64 {
            return self.ip;
        }
        super::layout::segment(self.seg[1]).base.wrapping_add(self.ip) & 0xFFFF_FFFF
    }
}

/// How many changed words of memory an [`Output`] lists.
pub const LISTED: usize = 16;

/// Changed memory: all words go into `count` and `hash`, the first few are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// 8-byte words that differ from before.
    pub count: u32,
    /// A hash over place and value of each.
    pub hash: u64,
    /// Linear address and value of the first ones.
    pub list: [(u64, u64); LISTED],
}

impl Changes {
    /// Adds a word.
    pub fn add(&mut self, lin: u64, value: u64) {
        if let Some(slot) = self.list.get_mut(self.count as usize) {
            *slot = (lin, value);
        }
        self.count += 1;
        let mixed = (self.hash.rotate_left(23) ^ lin).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.hash = (mixed ^ value).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    }
}

/// What is left of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exception that ended it: #BP behind the instruction if nothing went wrong.
    pub vector: u8,
    /// Error code.
    pub code: u32,
    /// Linear address of a page fault, else 0.
    pub cr2: u64,
    /// General registers.
    pub gpr: [u64; 16],
    /// Instruction pointer as pushed.
    pub ip: u64,
    /// EFLAGS as pushed.
    pub flags: u32,
    /// Selectors.
    pub seg: [u16; 6],
    /// Bases of FS and GS.
    pub bases: [u64; 2],
    /// Memory.
    pub changes: Changes,
    /// Floating-point state, when the case has some.
    pub fp: Option<Box<Fp>>,
}

/// [`Output::vector`] of a case that does not end.
pub const ENDLESS: u8 = 0xFE;
/// [`Output::vector`] of a case that Stele ended by a shutdown.
pub const SHUTDOWN: u8 = 0xFD;

impl Output {
    /// Nothing yet.
    pub const EMPTY: Self = Self {
        vector: 0xFF,
        code: 0,
        cr2: 0,
        gpr: [0; 16],
        ip: 0,
        flags: 0,
        seg: [0; 6],
        bases: [0; 2],
        changes: Changes { count: 0, hash: 0, list: [(0, 0); LISTED] },
        fp: None,
    };
}
