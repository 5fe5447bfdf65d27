//! Between generated code and the CPU: the state's layout for the JIT, the way in, and the two functions generated code calls.
//!
// UNSAFETY: generated code passes the address of the state back; it is turned into the `Core` it belongs to.
#![expect(unsafe_code, reason = "the helper shim")]

use std::mem::offset_of;

use super::cache::{BlockId, Cache};
use super::counted::Counter;
use ir::exit;
use jit::{
    Calls, CodeLines, Jit, SlowKind, StateLayout, WindowLayout, meta_is_aligned, meta_kind,
    meta_seg, meta_size,
};
use mem::{GuestRam, Size};
use x86::cpu::Cpu;
use x86::fault::Fault;
use x86::flags;
use x86::mode::Mode;
use x86::slow::Slow;
use x86::state::{CpuState, Window};
use x86::tlb::{JUMP_MASK, JUMPS};

/// Exit code: `Core::pending` is to be raised at the state's own instruction pointer (a helper raised it).
pub(super) const FAULT_AT_PC: u32 = 19;

/// The CPU and what a call from generated code leaves for the loop.
#[repr(C)]
pub(super) struct Core {
    /// First, so that the state's address is the core's.
    pub(super) cpu: Cpu,
    /// A fault to be delivered.
    pub(super) pending: Option<Fault>,
    /// The last entry ended in a fault.
    pub(super) faulted: bool,
    /// What is left of a counted run.
    pub(super) counter: Counter,
    /// Which blocks exist.
    pub(super) cache: Cache,
    /// How often compact blocks may yet be entered before they are translated again, by block number modulo the
    /// array's size. Generated code counts here, too.
    pub(super) heat: [u8; HEAT],
    /// Accesses that took the slow path: loads, stores, others.
    pub(super) slow: [u64; 3],
    /// Calls of each helper.
    pub(super) helper_calls: [u64; HELPERS],
}

/// Helpers there are.
pub(super) const HELPERS: usize = x86::lower::helpers::INFO.len();

/// Counters of compact blocks.
const HEAT: usize = 1 << 14;

const _: () = assert!(jit::abi::JUMP_HOST as usize == x86::tlb::JUMP_HOST);
const _: () = assert!(((JUMP_MASK as usize) << jit::abi::JUMP_SCALE) + 16 == JUMPS * 16);
const _: () = assert!(
    jit::abi::ANNEX as usize == x86::tlb::ANNEX
        && jit::abi::ANNEX_FACTOR as u32 == x86::tlb::ANNEX_FACTOR
        && jit::abi::ANNEX_SHIFT as u32 == x86::tlb::ANNEX_SHIFT
);
const _: () = assert!(jit::abi::TLB_READ_ADDEND as usize == x86::tlb::READ_ADD);
const _: () = assert!(jit::abi::TLB_WRITE as usize == x86::tlb::WRITE_TAG);
const _: () = assert!(jit::abi::TLB_CODE as usize == x86::tlb::CODE_TAG);
const _: () = assert!(jit::abi::TLB_USUAL_READS as usize == x86::tlb::usual::READS);
const _: () = assert!(jit::abi::TLB_USUAL_WRITES as usize == x86::tlb::usual::WRITES);
const _: () = assert!(jit::abi::USUAL_HERE == x86::tlb::usual::HERE);
const _: () = assert!(jit::abi::USUAL_NEXT == x86::tlb::usual::NEXT);
const _: () = assert!(
    x86::tlb::READ_TAG == 0 && x86::tlb::WRITE_ADD - x86::tlb::WRITE_TAG == x86::tlb::READ_ADD
);
const _: () = assert!(offset_of!(Core, cpu) == 0 && offset_of!(Cpu, state) == 0);

impl Core {
    pub(super) fn new(cpu: Cpu) -> Box<Self> {
        let (counter, cache) = (Counter::default(), Cache::default());
        Box::new(Self {
            cpu,
            pending: None,
            faulted: false,
            counter,
            cache,
            heat: [0; HEAT],
            slow: [0; 3],
            helper_calls: [0; HELPERS],
        })
    }

    /// A block's counter.
    pub(super) fn heat_mut(&mut self, block: BlockId) -> &mut u8 {
        &mut self.heat[block as usize % HEAT]
    }

    /// Offset of a block's counter from the state.
    pub(super) const fn heat_offset(block: BlockId) -> i32 {
        (offset_of!(Self, heat) + block as usize % HEAT) as i32
    }
}

/// Where the JIT finds the state's fields.
pub(super) fn layout(ram: &GuestRam) -> StateLayout {
    let field = |at: usize| at as i32;
    let window = std::array::from_fn(|n| {
        let at = offset_of!(CpuState, window) + n * size_of::<Window>();
        WindowLayout {
            base: field(at + offset_of!(Window, base)),
            read_end: field(at + offset_of!(Window, read_end)),
            write_end: field(at + offset_of!(Window, write_end)),
        }
    });
    StateLayout {
        cc: field(offset_of!(CpuState, cc)),
        jump_mask: field(offset_of!(CpuState, jump_mask)),
        turns: field(offset_of!(CpuState, repeating)),
        pc_base: field(offset_of!(CpuState, pc_base)),
        pc: field(offset_of!(CpuState, pc)),
        jump_base: field(offset_of!(CpuState, jump_base)),
        tlb_mask: field(offset_of!(CpuState, tlb_mask)),
        usual_addend: field(offset_of!(CpuState, usual_addend)),
        is_bounced: field(offset_of!(CpuState, is_bounced)),
        scratch: field(offset_of!(CpuState, scratch)),
        args: field(offset_of!(CpuState, args)),
        meta: field(offset_of!(CpuState, meta)),
        host_ret: field(offset_of!(CpuState, host_ret)),
        tlb_base: field(offset_of!(CpuState, tlb_base)),
        budget: field(offset_of!(CpuState, budget)),
        ahead: field(offset_of!(CpuState, ahead)),
        gpr: field(offset_of!(CpuState, gpr)),
        fault: field(offset_of!(CpuState, fault)),
        fault_code: field(offset_of!(CpuState, fault_code)),
        leave: field(offset_of!(CpuState, leave)),
        shadow: field(offset_of!(CpuState, shadow)),
        ready: field(offset_of!(CpuState, ready)),
        mxcsr: field(offset_of!(CpuState, mxcsr)),
        fpu_host: field(offset_of!(CpuState, fpu_host)),
        fpu: field(offset_of!(CpuState, fpu)),
        ymm: field(offset_of!(CpuState, ymm)),
        window,
        code_lines: CodeLines {
            ram: ram.page_ptr(0).map_or(0, |p| p.addr() as u64),
            words: ram.code_lines_addr(),
        },
    }
}

/// The functions generated code calls.
pub(super) fn calls() -> Calls {
    Calls {
        slow_memory: slow_memory as *const () as usize,
        helper: helper as *const () as usize,
        simd_enter: simd_enter as *const () as usize,
    }
}

/// Runs generated code from cache offset `far`.
pub(super) fn enter(jit: &Jit, core: &mut Core, far: usize) -> u32 {
    let state = (&raw mut *core).cast::<u8>();
    // SAFETY: the state is the first field of the core and matches `layout`; the TLB view its `tlb_base` names belongs to this
    // CPU and holds only guest RAM; `far` comes from the block cache, which is emptied when the JIT is flushed.
    unsafe { jit.enter(state, far) }
}

/// Runs generated code from the jump-table entry `far`.
pub(super) fn enter_far(jit: &Jit, core: &mut Core, far: u64) -> u32 {
    let state = (&raw mut *core).cast::<u8>();
    // SAFETY: as in `enter`; jump tables hold only addresses of entries for indirect jumps, and none from before a flush
    // of the JIT matches any more.
    unsafe { jit.enter_far(state, far) }
}

/// The bits of an offset within a segment.
const fn offset_mask(mode: Mode) -> u64 {
    if mode.has(Mode::CODE64) { u64::MAX } else { 0xFFFF_FFFF }
}

/// The memory slow path: does the access with all checks, fills the TLB.
extern "C" fn slow_memory(state: *mut CpuState) -> u32 {
    // SAFETY: generated code was entered through `enter` with this address, whose exclusive borrow is dormant until it returns.
    let core = unsafe { &mut *state.cast::<Core>() };
    let cpu = &mut core.cpu;
    let meta = cpu.state.meta;
    let (seg, size) = (meta_seg(meta), meta_size(meta));
    let base = cpu.state.window.get(usize::from(seg)).map_or(0, |w| w.base);
    let off = cpu.state.scratch[0].wrapping_sub(base) & offset_mask(cpu.mode());
    let value = cpu.state.scratch[1];
    let kind = meta_kind(meta);
    core.slow[(kind as usize).min(2)] += 1;
    if kind == SlowKind::StoreBack {
        cpu.store_back(size);
        return 0;
    }
    let access = kind.access();
    // A misaligned operand faults before its page is looked at.
    let aligned = match meta_is_aligned(meta) {
        true => cpu.check_operand_alignment(seg, off, size, access),
        false => Ok(()),
    };
    let is_sole = matches!(kind, SlowKind::SoleRead | SlowKind::SoleWrite);
    let done = aligned.and_then(|()| match kind {
        SlowKind::Load => cpu.slow_load(seg, off, size),
        SlowKind::Store => cpu.slow_store(seg, off, size, value),
        _ => cpu.slow_ptr(seg, off, size, (access, is_sole)),
    });
    match done {
        Ok(Slow::Done(result)) => {
            cpu.state.scratch[1] = result;
            notice_devices(cpu);
            0
        }
        Ok(Slow::OnCode(at)) if !core.cache.covers(at, u64::from(size)) => {
            // Data beside code in one line: no block is made from these bytes.
            cpu.state.scratch[1] = beside_code(cpu, kind, at, size, value);
            0
        }
        Ok(Slow::EvalOne | Slow::OnCode(_)) => exit::EVAL_ONE + 1,
        Err(fault) => {
            core.pending = Some(fault);
            exit::FAULT + 1
        }
    }
}

/// A store (0 comes back) or pointer (its host address) at RAM offset `at`.
fn beside_code(cpu: &Cpu, kind: SlowKind, at: u64, size: u32, value: u64) -> u64 {
    if kind != SlowKind::Store {
        return cpu.ram.page_ptr(at).map_or(0, |p| (p.addr() as u64 & !0xFFF) | (at & 0xFFF));
    }
    let size = Size::from_bytes(size.into()).unwrap_or(Size::B8);
    cpu.ram.write_cpu(at, size, value & size.mask());
    0
}

/// A helper of the tables.
extern "C" fn helper(state: *mut CpuState) -> u32 {
    // SAFETY: as in `slow_memory`.
    let core = unsafe { &mut *state.cast::<Core>() };
    core.count_call();
    let cpu = &mut core.cpu;
    let id = cpu.state.meta;
    let args = std::array::from_fn(|i| {
        let arg = &raw const cpu.state.args[i];
        // Generated code has just stored them one by one: two of them loaded at once would wait until those stores are in the
        // cache, which took as long as all the rest of a call.
        // SAFETY: a field of the state, borrowed here.
        unsafe { arg.read_volatile() }
    });
    core.helper_calls[id as usize % HELPERS] += 1;
    match x86::lower::dispatch(cpu, id, args) {
        Ok(result) => {
            cpu.state.args[0] = result;
            notice_devices(cpu);
            core.stop_if_asked();
            0
        }
        Err(fault) => {
            core.pending = Some(fault);
            FAULT_AT_PC + 1
        }
    }
}

/// FP or vector state is wanted that is not ready.
extern "C" fn simd_enter(state: *mut CpuState) -> u32 {
    // SAFETY: as in `slow_memory`.
    let core = unsafe { &mut *state.cast::<Core>() };
    match core.cpu.enter_simd(core.cpu.state.meta as u8) {
        Ok(()) => 0,
        Err(fault) => {
            core.pending = Some(fault);
            exit::FAULT + 1
        }
    }
}

/// After anything that may have reached a device: makes the next check leave if the loop has something to do.
fn notice_devices(cpu: &mut Cpu) {
    let waits = cpu.bus.intr();
    cpu.state.watched = waits.into();
    let interrupt = waits && cpu.state.eflags & flags::IF != 0;
    if interrupt || cpu.state.leave != 0 || !cpu.smc.is_empty() || cpu.ram.has_dirty_code() {
        cpu.state.jump_mask = 0;
    }
}
