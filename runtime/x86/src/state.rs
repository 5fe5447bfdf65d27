//! The guest CPU's state as generated code sees it: one `repr(C)` struct, hot fields first.
//!
//! Generated code holds its address in a host register throughout; the first 128 bytes are reached with
//! one-byte displacements. Offsets are taken with `offset_of!` and asserted below.

/// Segment register numbers as encoded (SDM Vol. 2, "ModR/M and SIB Bytes").
pub mod seg {
    /// ES.
    pub const ES: u8 = 0;
    /// CS.
    pub const CS: u8 = 1;
    /// SS.
    pub const SS: u8 = 2;
    /// DS.
    pub const DS: u8 = 3;
    /// FS.
    pub const FS: u8 = 4;
    /// GS.
    pub const GS: u8 = 5;
    /// Number of segment registers with a fast-path window.
    pub const COUNT: usize = 6;
}

/// What generated code needs of one data segment: linear base, and the exclusive end of the offsets that may be
/// read / written without further checks (0 = every access takes the slow path, which does the full check).
/// An access of n bytes at offset o is inside when `o + n <= end` (64-bit sum).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Linear base.
    pub base: u64,
    /// End for reads.
    pub read_end: u64,
    /// End for writes.
    pub write_end: u64,
}

/// The full segment register: selector and cached descriptor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Access byte (type, S, DPL, P) in bits 0..8 and AVL L D/B G in bits 12..16 as in the descriptor's second dword >> 8; 0 = null/unusable.
    pub attr: u16,
    /// Limit in bytes, inclusive, granularity applied.
    pub limit: u32,
    /// Base.
    pub base: u64,
}

/// Descriptor table register.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableReg {
    /// Base.
    pub base: u64,
    /// Limit, inclusive.
    pub limit: u32,
    /// Padding, 0.
    pub pad: u32,
}

/// The state. `Cpu` holds it as its first field.
#[repr(C, align(64))]
#[derive(Clone, Debug, Default)]
pub struct CpuState {
    /// The six arithmetic flags as `lahf; seto al` leaves them in AX: AH = SF ZF - AF - PF - CF (bits 15 14 12 10 8), AL = OF (bit 0). Bits 9, 11, 13 are don't-care.
    pub cc: u32,
    /// Nonzero = leave generated code at the next check (interrupt, timer, stop). Written by other threads.
    pub poll: u32,
    /// Instruction pointer of page offset 0 of the running block's page (so: ip = pc_base + page offset).
    pub pc_base: u64,
    /// Instruction pointer; exact outside generated code only.
    pub pc: u64,
    /// Jump-cache context: differs whenever mode, CS base, paging context or view differ; in bits 32..64 for 32-bit guests.
    pub jump_ctx: u64,
    /// pext mask that turns a linear address into a TLB index.
    pub tlb_mask: u64,
    /// Nonzero after a helper or slow path when generated code must leave (an `ir::exit` code + 1).
    pub leave: u32,
    /// DF as a step: +1 or -1.
    pub df: i32,
    /// Scratch for slow paths: linear address or offset, value.
    pub scratch: [u64; 2],
    /// Arguments of a helper call; the result comes back in the first.
    pub args: [u64; 4],
    /// What a slow path is to do (segment, width, kind) or the helper's number.
    pub meta: u32,
    /// Padding, 0.
    pub pad: u32,
    /// Host address of the generated code that left or called out: tells the guest insn.
    pub host_ret: u64,
    /// Host address of the current view's TLB, loaded into a host register on entry.
    pub tlb_base: u64,
    /// General registers rax rcx rdx rbx rsp rbp rsi rdi r8…r15.
    pub gpr: [u64; 16],
    /// Fast windows of ES CS SS DS FS GS.
    pub window: [Window; seg::COUNT],
    /// EFLAGS without the arithmetic flags and DF: TF IF IOPL NT RF VM AC VIF VIP ID.
    pub eflags: u32,
    /// CPL (3 in virtual-8086 mode).
    pub cpl: u32,
    /// ES CS SS DS FS GS.
    pub seg: [Segment; seg::COUNT],
    /// LDTR.
    pub ldtr: Segment,
    /// TR.
    pub tr: Segment,
    /// GDTR.
    pub gdtr: TableReg,
    /// IDTR.
    pub idtr: TableReg,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// DR0..DR7.
    pub dr: [u64; 8],
    /// EFER.
    pub efer: u64,
    /// Fault recorded by generated code or a slow path: vector | 0x100 if it has an error code.
    pub fault: u32,
    /// Its error code.
    pub fault_code: u32,
    /// Insns retired in icount mode: budget left.
    pub budget: i64,
    /// Interrupt shadow (STI, MOV SS): 1 = hold interrupts for one insn.
    pub shadow: u32,
    /// Halted (HLT).
    pub halted: u32,
}

const _: () = assert!(std::mem::offset_of!(CpuState, gpr) <= 120);
