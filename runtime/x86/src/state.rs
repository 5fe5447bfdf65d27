//! The guest CPU's state as generated code sees it: one `repr(C)` struct, hot fields first.
//!
//! Generated code holds the address of its byte 128 in a host register throughout, so that the first 256 bytes are reached with
//! one-byte displacements, `cc` with none. Offsets are taken with `offset_of!` and asserted below.

use mem::TscMap;

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

/// Where a fast transfer leads: what follows from the level it enters, kept so that generated code can do it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Host address of the jump table there; 0: not known, or the transfer is not a plain one.
    pub ctx: u64,
    /// Host address of the TLB view there.
    pub view: u64,
    /// CS but for its base.
    pub cs: u64,
    /// SS but for its base.
    pub ss: u64,
    /// Mode bits there.
    pub mode: u32,
    /// Padding, 0.
    pub pad: u32,
}

/// What a load of a segment register last found, kept so that generated code can do the same load again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The selector and [`KNOWN`](Self::KNOWN); 0: not known.
    pub key: u32,
    /// `KNOWN` if a null selector makes a segment of zeros.
    pub null_key: u32,
    /// Linear address of the descriptor.
    pub at: u64,
    /// The descriptor.
    pub descriptor: u64,
    /// The segment but for its base.
    pub word: u64,
    /// Its base, also that of its window.
    pub base: u64,
    /// The end of its window for reads.
    pub read_end: u64,
    /// And for writes.
    pub write_end: u64,
}

impl Load {
    /// In a key: there is one.
    pub const KNOWN: u32 = 1 << 16;
}

impl Segment {
    /// All but the base, as it stands in memory.
    pub const fn word(&self) -> u64 {
        self.selector as u64 | (self.attr as u64) << 16 | (self.limit as u64) << 32
    }
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
    /// General registers rax rcx rdx rbx rsp rbp rsi rdi r8…r15.
    pub gpr: [u64; 16],
    /// The six arithmetic flags as `lahf; seto al` leaves them in AX: AH = SF ZF - AF - PF - CF (bits 15 14 12 10 8), AL = OF (bit 0). Bits 9, 11, 13 are don't-care.
    pub cc: u32,
    /// Mask of the bits of an instruction pointer that select an entry of the jump table; 0 = leave generated code at the next check (interrupt,
    /// timer, stop). Written by other threads.
    pub jump_mask: u32,
    /// Instruction pointer of page offset 0 of the running block's page (so: ip = pc_base + page offset).
    pub pc_base: u64,
    /// Instruction pointer; exact outside generated code only.
    pub pc: u64,
    /// Host address of the jump table of the current mode, CS base and limit, and, at level 3, address space.
    pub jump_base: u64,
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
    /// Parts of FP and vector state (bits of `ir::simd`) that generated code may use right now: in host registers, and
    /// no fault condition holds. Rust clears it whenever it changes CR0, CR4, XCR0, or the parts themselves.
    pub ready: u32,
    /// Host address of the generated code that left or called out: tells the guest insn.
    pub host_ret: u64,
    /// Host address of the current view's TLB, loaded into a host register on entry.
    pub tlb_base: u64,
    /// Host address less linear address of most pages that supervisor code uses: a guess, which generated code checks.
    pub usual_addend: u64,
    /// Fast windows of ES CS SS DS FS GS.
    pub window: [Window; seg::COUNT],
    /// Counted runs: insns that may still begin, less those of the blocks entered; a block that would make it negative leaves.
    pub budget: i32,
    /// Counted runs: insns of the running block that are not done, from the one that calls a helper on.
    pub ahead: u32,
    /// EFLAGS without the arithmetic flags and DF: TF IF IOPL NT RF VM AC VIF VIP ID.
    pub eflags: u32,
    /// CPL (3 in virtual-8086 mode).
    pub cpl: u32,
    /// Nonzero when the run loop may look between an insn and the next: an interrupt waits for IF, or the evaluator runs the code.
    pub watched: u32,
    /// What translations depend on now: bits of [`Mode`](crate::mode::Mode).
    pub mode: u32,
    /// Host addresses of the views that supervisor code uses with EFLAGS.AC clear and set.
    pub views: [u64; 2],
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
    /// Interrupt shadow (STI, MOV SS): 1 = hold interrupts for one insn.
    pub shadow: u32,
    /// Halted (HLT).
    pub halted: u32,
    /// Nonzero between two iterations of a repeated string insn; comparisons count them.
    pub repeating: u64,
    /// MXCSR.
    pub mxcsr: u32,
    /// What SYSCALL in 64-bit code and SYSENTER in 32-bit code put in force.
    pub to_system: Transfer,
    /// What SYSRET to 64-bit code and SYSEXIT in 32-bit code put in force.
    pub to_user: Transfer,
    /// 1 = x87 and MMX state is in this thread's host FPU, not in `fpu`.
    pub fpu_host: u32,
    /// What loads of the data segment registers found.
    pub loads: [Load; seg::COUNT],
    /// XCR0.
    pub xcr0: u64,
    /// Instruction pointer of the last x87 insn that was not a control insn.
    pub fpu_ip: u64,
    /// Its operand's offset.
    pub fpu_dp: u64,
    /// Its opcode, 11 bits.
    pub fpu_op: u16,
    /// CS of `fpu_ip`.
    pub fpu_cs: u16,
    /// Segment of `fpu_dp`.
    pub fpu_ds: u16,
    /// Padding, 0.
    pub fpu_pad: u16,
    /// IA32_STAR.
    pub star: u64,
    /// IA32_LSTAR.
    pub lstar: u64,
    /// IA32_CSTAR.
    pub cstar: u64,
    /// IA32_FMASK.
    pub sfmask: u64,
    /// IA32_KERNEL_GS_BASE.
    pub kernel_gs_base: u64,
    /// IA32_SYSENTER_CS.
    pub sysenter_cs: u64,
    /// IA32_SYSENTER_ESP.
    pub sysenter_esp: u64,
    /// IA32_SYSENTER_EIP.
    pub sysenter_eip: u64,
    /// IA32_TSC_AUX.
    pub tsc_aux: u64,
    /// IA32_PAT.
    pub pat: u64,
    /// IA32_APIC_BASE.
    pub apic_base: u64,
    /// IA32_MISC_ENABLE.
    pub misc_enable: u64,
    /// How the time-stamp counter follows from the host's, with `CR4.TSD` and the guest's own offset in it; not known at first.
    pub tsc: TscMap,
    /// A copy of memory operands that generated code cannot point at in guest RAM.
    pub bounce: Bounce,
    /// Is the buffer's content to be stored? Generated code asks.
    pub is_bounced: u64,
    /// x87 and MMX state as XSAVE stores it, when `fpu_host` is 0.
    pub fpu: XsaveArea,
    /// Vector registers.
    pub ymm: [[u64; 4]; 16],
}

/// Places of the fields that the tables name (`state` items of `helpers.isa`).
pub mod field {
    use super::{CpuState, Segment, Transfer, TscMap, Window, seg};
    use std::mem::offset_of;

    const fn base_of(n: u8) -> usize {
        offset_of!(CpuState, seg) + n as usize * size_of::<Segment>() + offset_of!(Segment, base)
    }
    const fn window_of(n: u8) -> usize {
        offset_of!(CpuState, window) + n as usize * size_of::<Window>() + offset_of!(Window, base)
    }

    /// EFLAGS but for the arithmetic flags and DF.
    pub const EFLAGS: usize = offset_of!(CpuState, eflags);
    /// Base of FS.
    pub const FS_BASE: usize = base_of(seg::FS);
    /// Base of GS.
    pub const GS_BASE: usize = base_of(seg::GS);
    /// Base of FS as accesses apply it: equal to `FS_BASE` in 64-bit code.
    pub const FS_WINDOW: usize = window_of(seg::FS);
    /// Base of GS as accesses apply it.
    pub const GS_WINDOW: usize = window_of(seg::GS);
    /// IA32_KERNEL_GS_BASE.
    pub const KERNEL_GS_BASE: usize = offset_of!(CpuState, kernel_gs_base);
    /// CR4.
    pub const CR4: usize = offset_of!(CpuState, cr4);
    /// See [`CpuState::watched`].
    pub const WATCHED: usize = offset_of!(CpuState, watched);
    /// The TLB view in use.
    pub const TLB_BASE: usize = offset_of!(CpuState, tlb_base);
    /// CPL.
    pub const CPL: usize = offset_of!(CpuState, cpl);
    /// See [`CpuState::mode`].
    pub const MODE: usize = offset_of!(CpuState, mode);
    /// See [`CpuState::jump_base`].
    pub const JUMP_BASE: usize = offset_of!(CpuState, jump_base);
    /// CS but for its base.
    pub const CS_WORD: usize = CS_BASE - 8;
    /// Base of CS.
    pub const CS_BASE: usize = base_of(seg::CS);
    /// SS but for its base.
    pub const SS_WORD: usize = SS_BASE - 8;
    /// Base of SS.
    pub const SS_BASE: usize = base_of(seg::SS);
    /// Of `tsc`: where its span begins.
    pub const TSC_ZERO: usize = offset_of!(CpuState, tsc) + offset_of!(TscMap, zero);
    /// Of `tsc`: ticks it holds for.
    pub const TSC_SPAN: usize = offset_of!(CpuState, tsc) + offset_of!(TscMap, span);
    /// Of `tsc`: counts of a tick.
    pub const TSC_SCALE: usize = offset_of!(CpuState, tsc) + offset_of!(TscMap, scale);
    /// Of `tsc`: the counter where the span begins.
    pub const TSC_BASE: usize = offset_of!(CpuState, tsc) + offset_of!(TscMap, base);
    /// IA32_TSC_AUX.
    pub const TSC_AUX: usize = offset_of!(CpuState, tsc_aux);
    /// IA32_LSTAR.
    pub const LSTAR: usize = offset_of!(CpuState, lstar);
    /// Of the window of CS: where reads end.
    pub const CS_READ_END: usize = window_of(seg::CS) + offset_of!(Window, read_end);
    /// Of the window of CS: where writes end.
    pub const CS_WRITE_END: usize = window_of(seg::CS) + offset_of!(Window, write_end);
    /// IA32_SYSENTER_ESP.
    pub const SYSENTER_ESP: usize = offset_of!(CpuState, sysenter_esp);
    /// IA32_SYSENTER_EIP.
    pub const SYSENTER_EIP: usize = offset_of!(CpuState, sysenter_eip);
    /// IA32_FMASK.
    pub const SFMASK: usize = offset_of!(CpuState, sfmask);
    /// Of `to_system`: the context.
    pub const SYSTEM_CTX: usize = offset_of!(CpuState, to_system) + offset_of!(Transfer, ctx);
    /// Of `to_system`: the mode bits.
    pub const SYSTEM_MODE: usize = offset_of!(CpuState, to_system) + offset_of!(Transfer, mode);
    /// Of `to_system`: the view.
    pub const SYSTEM_VIEW: usize = offset_of!(CpuState, to_system) + offset_of!(Transfer, view);
    /// Of `to_system`: CS.
    pub const SYSTEM_CS: usize = offset_of!(CpuState, to_system) + offset_of!(Transfer, cs);
    /// Of `to_system`: SS.
    pub const SYSTEM_SS: usize = offset_of!(CpuState, to_system) + offset_of!(Transfer, ss);
    /// Of `to_user`: the context.
    pub const USER_CTX: usize = offset_of!(CpuState, to_user) + offset_of!(Transfer, ctx);
    /// Of `to_user`: the mode bits.
    pub const USER_MODE: usize = offset_of!(CpuState, to_user) + offset_of!(Transfer, mode);
    /// Of `to_user`: the view.
    pub const USER_VIEW: usize = offset_of!(CpuState, to_user) + offset_of!(Transfer, view);
    /// Of `to_user`: CS.
    pub const USER_CS: usize = offset_of!(CpuState, to_user) + offset_of!(Transfer, cs);
    /// Of `to_user`: SS.
    pub const USER_SS: usize = offset_of!(CpuState, to_user) + offset_of!(Transfer, ss);
    /// The supervisor's view while EFLAGS.AC is clear.
    pub const VIEW: usize = offset_of!(CpuState, views);
    /// The supervisor's view while EFLAGS.AC is set.
    pub const VIEW_AC: usize = offset_of!(CpuState, views) + 8;
}

const _: () =
    assert!(std::mem::offset_of!(Segment, limit) == 4 && std::mem::offset_of!(Segment, base) == 8);
const _: () = assert!(std::mem::offset_of!(CpuState, gpr) == 0);
const _: () = assert!(std::mem::offset_of!(CpuState, cc) == 128);
const _: () = assert!(std::mem::offset_of!(CpuState, ready) < 256);
const _: () = assert!(std::mem::offset_of!(CpuState, ymm) % 32 == 0);
const _: () = assert!(size_of::<XsaveArea>() == 576);

/// A buffer for one memory operand.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounce(pub [u8; 64]);

impl Default for Bounce {
    fn default() -> Self {
        Self([0; 64])
    }
}

/// An XSAVE area of legacy region and header (SDM Vol. 1, "XSAVE Area"); only x87 state is kept in it.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XsaveArea(pub [u8; 576]);

impl Default for XsaveArea {
    /// The x87 state after RESET (SDM Vol. 3A, "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT").
    fn default() -> Self {
        let mut area = Self([0; 576]);
        area.set_u16(Self::FCW, 0x40);
        area.set_u16(Self::FTW, 0xFF);
        area.0[Self::MXCSR..Self::MXCSR + 4].copy_from_slice(&MXCSR_RESET.to_le_bytes());
        area.0[Self::XSTATE_BV] = 1;
        area
    }
}

/// MXCSR after RESET.
pub const MXCSR_RESET: u32 = 0x1F80;

impl XsaveArea {
    /// Control word.
    pub const FCW: usize = 0;
    /// Status word.
    pub const FSW: usize = 2;
    /// Abridged tag word, one byte: 1 = register in use.
    pub const FTW: usize = 4;
    /// MXCSR; kept in `CpuState::mxcsr`, here only what XRSTOR accepts.
    pub const MXCSR: usize = 24;
    /// ST0 to ST7, 16 bytes each.
    pub const ST: usize = 32;
    /// State-component bitmap of the header: bit 0 = x87 state is not in its initial configuration.
    pub const XSTATE_BV: usize = 512;

    /// Two bytes at `at`; 0 outside the area.
    pub fn u16(&self, at: usize) -> u16 {
        self.0.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_le_bytes(*b))
    }

    /// Sets two bytes at `at`.
    pub fn set_u16(&mut self, at: usize, v: u16) {
        if let Some(b) = self.0.get_mut(at..).and_then(|b| b.first_chunk_mut()) {
            *b = v.to_le_bytes();
        }
    }
}
