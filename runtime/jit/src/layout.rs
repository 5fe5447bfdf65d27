//! Where the guest state's fields are: filled in by the runtime from the guest crate's `offset_of!`.

/// Offsets of one segment window.
#[derive(Clone, Copy, Debug, Default)]
pub struct WindowLayout {
    /// Linear base (u64).
    pub base: i32,
    /// Exclusive end for reads (u64).
    pub read_end: i32,
    /// Exclusive end for writes (u64).
    pub write_end: i32,
}

/// Byte offsets of the state fields that generated code touches.
#[derive(Clone, Copy, Debug, Default)]
pub struct StateLayout {
    /// Arithmetic flags as `lahf; seto al` leaves them (u32).
    pub cc: i32,
    /// Mask of an instruction pointer's bits that select an entry of the jump table; 0 = leave at the next check (u32).
    pub jump_mask: i32,
    /// Turns that the insn under way has made (u64).
    pub turns: i32,
    /// Instruction pointer of the page's first byte (u64).
    pub pc_base: i32,
    /// Instruction pointer (u64).
    pub pc: i32,
    /// The jump table (u64).
    pub jump_base: i32,
    /// pext mask: linear address to TLB index (u64).
    pub tlb_mask: i32,
    /// A guess at the addend that an access finds in the TLB.
    pub usual_addend: i32,
    /// Is the operand that a slow path made to be stored back (u64)?
    pub is_bounced: i32,
    /// Slow-path scratch, two u64.
    pub scratch: i32,
    /// Helper arguments, four u64.
    pub args: i32,
    /// Slow-path descriptor or helper number (u32).
    pub meta: i32,
    /// Host address that left or called out (u64).
    pub host_ret: i32,
    /// TLB base (u64).
    pub tlb_base: i32,
    /// Insns that may still begin in a counted run (i32).
    pub budget: i32,
    /// Insns of the block not done, from the one that calls on (u32).
    pub ahead: i32,
    /// General registers, sixteen u64.
    pub gpr: i32,
    /// Fault word (u32), error code follows (u32).
    pub fault: i32,
    /// Error code (u32).
    pub fault_code: i32,
    /// Nonzero: a resync must go through the run loop (u32).
    pub leave: i32,
    /// Nonzero: likewise, the next insn is special (u32).
    pub shadow: i32,
    /// Parts of FP and vector state usable right now, bits of `ir::simd`; those permitted in the second byte (u32).
    pub ready: i32,
    /// MXCSR (u32).
    pub mxcsr: i32,
    /// Is the x87 state in the host's FPU? (u32)
    pub fpu_host: i32,
    /// x87 state, an XSAVE area aligned to 64 bytes.
    pub fpu: i32,
    /// Vector registers, sixteen of 32 bytes, aligned to their size.
    pub ymm: i32,
    /// Windows of the six segments.
    pub window: [WindowLayout; 6],
    /// Which lines of memory hold code.
    pub code_lines: CodeLines,
}

/// Host addresses by which generated code tells what it must not write by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct CodeLines {
    /// Guest RAM.
    pub ram: u64,
    /// A word for each page of it, of a bit for each 64-byte line; 0: there are none.
    pub words: u64,
}

/// How accesses through a segment are formed in a block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SegPolicy {
    /// Base 0, no limit: the offset is the linear address.
    Flat,
    /// Base from the state, limit 0xFFFF known: only accesses that wrap are checked.
    Wrap64K,
    /// Base and limits from the state.
    Window,
    /// Base from the state, 64 bits, no limit.
    Base,
}

/// Entry points of the runtime, called with the state's address. See `thunks`.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    /// `extern "C" fn(state) -> u32`: memory slow path described by `meta` and `scratch`; returns 0, or an exit code + 1 to leave.
    pub slow_memory: usize,
    /// `extern "C" fn(state) -> u32`: helper number in `meta`, arguments in `args`; returns 0, or an exit code + 1 to leave.
    pub helper: usize,
    /// `extern "C" fn(state) -> u32`: a part of FP and vector state is wanted (its bit of `ir::simd` is in `meta`): sets the second byte of
    /// `ready` to the parts permitted now; returns 0, or an exit code + 1 to leave.
    pub simd_enter: usize,
}
