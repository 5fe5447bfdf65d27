//! The CPU: the state generated code sees, and what only Rust sees.
//!
//! Everything derived from the state (mode, windows, jump context, TLB) is brought up to date by
//! `sync_mode` and the flush methods; whoever changes the state calls them before it returns.
//! Source of the reset values: SDM Vol. 3A, "Processor State After Reset".

use std::sync::Arc;

use mem::{Bus, GuestRam, Lin, Phys, PhysMap};

use crate::access::{Handles, Span};
use crate::cpuid::{Leaves, Model};
use crate::flags;
use crate::mode::Mode;
use crate::segment::{Segment, attr};
use crate::state::{CpuState, MXCSR_RESET, TableReg, Window, seg};
use crate::tlb::{HostPage, JUMP_MASK, Jumps, Tlb, ViewId};
use crate::watch::Watch;

/// CR0 bits.
pub mod cr0 {
    /// Protection enable.
    pub const PE: u64 = 1;
    /// Monitor coprocessor.
    pub const MP: u64 = 1 << 1;
    /// Emulation.
    pub const EM: u64 = 1 << 2;
    /// Task switched.
    pub const TS: u64 = 1 << 3;
    /// Extension type, always 1.
    pub const ET: u64 = 1 << 4;
    /// Numeric error.
    pub const NE: u64 = 1 << 5;
    /// Write protect.
    pub const WP: u64 = 1 << 16;
    /// Alignment mask.
    pub const AM: u64 = 1 << 18;
    /// Not write-through.
    pub const NW: u64 = 1 << 29;
    /// Cache disable.
    pub const CD: u64 = 1 << 30;
    /// Paging.
    pub const PG: u64 = 1 << 31;
}

/// CR4 bits.
pub mod cr4 {
    /// Virtual-8086 mode extensions.
    pub const VME: u64 = 1;
    /// Protected-mode virtual interrupts.
    pub const PVI: u64 = 1 << 1;
    /// RDTSC is privileged.
    pub const TSD: u64 = 1 << 2;
    /// I/O breakpoints; DR4 and DR5 do not exist.
    pub const DE: u64 = 1 << 3;
    /// 4 MiB pages.
    pub const PSE: u64 = 1 << 4;
    /// 64-bit page-table entries.
    pub const PAE: u64 = 1 << 5;
    /// Machine checks are reported.
    pub const MCE: u64 = 1 << 6;
    /// Global pages.
    pub const PGE: u64 = 1 << 7;
    /// RDPMC is open to all.
    pub const PCE: u64 = 1 << 8;
    /// The system saves SSE state.
    pub const OSFXSR: u64 = 1 << 9;
    /// The system handles SIMD exceptions.
    pub const OSXMMEXCPT: u64 = 1 << 10;
    /// SGDT, SIDT, SLDT, SMSW and STR are privileged.
    pub const UMIP: u64 = 1 << 11;
    /// RDFSBASE and its like exist.
    pub const FSGSBASE: u64 = 1 << 16;
    /// Process-context identifiers in CR3.
    pub const PCIDE: u64 = 1 << 17;
    /// XSAVE and XCR0 exist.
    pub const OSXSAVE: u64 = 1 << 18;
    /// The supervisor cannot fetch from user pages.
    pub const SMEP: u64 = 1 << 20;
    /// The supervisor reaches user pages only with EFLAGS.AC set.
    pub const SMAP: u64 = 1 << 21;
}

/// EFER bits.
pub mod efer {
    /// SYSCALL and SYSRET exist.
    pub const SCE: u64 = 1;
    /// Paging enters IA-32e mode.
    pub const LME: u64 = 1 << 8;
    /// IA-32e mode is on.
    pub const LMA: u64 = 1 << 10;
    /// XD in page-table entries counts.
    pub const NXE: u64 = 1 << 11;
}

/// IA32_MISC_ENABLE after RESET: fast strings on (without, systems take ERMS for absent, but not FSRM), branch trace store and
/// event sampling unavailable.
const MISC_ENABLE_RESET: u64 = 0x1801;

/// A translation context: what a jump table belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Context {
    mode: u32,
    cs_limit: u32,
    cs_base: u64,
    /// The address space, for code of programs; 0 for code of the system, which all share.
    space: u64,
}

impl Context {
    /// Is it that of a program?
    pub(crate) const fn is_user(&self) -> bool {
        self.space != 0
    }
    /// The same of no address space in particular.
    pub(crate) const fn of_any_space(self) -> Self {
        Self { space: 0, ..self }
    }
    /// Linear address of an instruction pointer.
    pub(crate) const fn lin_of(&self, pc: u64) -> u64 {
        let lin = self.cs_base.wrapping_add(pc);
        if Mode(self.mode).has(Mode::CODE64) { lin } else { lin & 0xFFFF_FFFF }
    }
}

#[cfg(test)]
impl Context {
    /// Some context of an address space.
    pub(crate) const fn of_space(space: u64) -> Self {
        Self { mode: 0, cs_limit: 0, cs_base: 0, space }
    }
}

/// One processor and its links to memory and bus.
#[repr(C)]
pub struct Cpu {
    /// The state; first, so that its address is the CPU's.
    pub state: CpuState,
    /// Guest memory.
    pub ram: Arc<GuestRam>,
    /// The physical map.
    pub map: Arc<PhysMap>,
    /// The machine around it.
    pub bus: Box<dyn Bus>,
    /// The software TLB.
    pub tlb: Tlb,
    /// Pages entered into the TLB's arrays so far, by view.
    pub(crate) tlb_fills: [u64; 4],
    /// Stores to lines with translated code since the run loop looked: offset in guest RAM, bytes.
    pub smc: Vec<(u64, u64)>,
    /// Runs native instructions for the evaluator and fetches x87 state from the host; without one they are undefined.
    pub native: Option<Box<dyn ir::NativeRunner>>,
    /// A triple fault happened: the CPU stands still until reset.
    pub shutdown: bool,
    /// Instruction-counted time: whatever reaches the bus happens at its exact insn, and nothing depends on the engine.
    pub is_counted: bool,
    /// The insn about to be evaluated has done its bulk part in generated code.
    pub is_bulk_done: bool,
    /// NMIs are held until IRET.
    pub nmi_blocked: bool,
    /// The insn just run must not raise a single-step trap (software interrupts).
    pub(crate) inhibit_step: bool,
    /// IRET has just loaded RF: it holds for the next insn.
    pub(crate) keep_rf: bool,
    /// Instruction pointer when breakpoints were last looked for.
    pub(crate) insn_pc: u64,
    /// DR6 bits of a #DB due when the current insn is done.
    pub(crate) pending_db: u64,
    /// What a debugger outside the guest watches, and which of these were hit.
    pub(crate) watches: Vec<Watch>,
    pub(crate) watches_hit: u32,
    /// FERR# is asserted: an x87 exception waits with CR0.NE clear.
    pub(crate) ferr: bool,
    /// Breakpoints that DR7 arms.
    pub(crate) armed: crate::debug::Armed,
    /// What the processor model means for the rules here.
    pub(crate) caps: Caps,
    pub(crate) model: Model,
    /// The interrupt shadow that is on came from STI, which does not hold off single-step traps.
    pub(crate) shadow_is_sti: bool,
    pub(crate) a20_mask: u64,
    pub(crate) pdpte: [u64; 4],
    pub(crate) handles: Handles,
    /// The operand that stands in the state's buffer.
    pub(crate) split: Span,
    pub(crate) msr: crate::msr::Msrs,
    /// Nesting of faults inside task switches.
    pub(crate) delivery_depth: u32,
    pub(crate) map_generation: u64,
    pub(crate) jumps: Jumps,
    /// Jumps to system code in pages that are not global may have been noted.
    pub(crate) has_local_code: bool,
    /// What the modes of the system and of programs led to.
    pub(crate) levels: [crate::quick::Level; 2],
}

impl Cpu {
    /// Pages entered into the TLB so far, by view.
    pub const fn tlb_fills(&self) -> [u64; 4] {
        self.tlb_fills
    }
    /// A CPU in reset state.
    pub fn new(ram: Arc<GuestRam>, map: Arc<PhysMap>, bus: Box<dyn Bus>) -> Self {
        let (model, tlb) = (Model::max(None), Tlb::new((ram.len() >> 12) as usize));
        let mut cpu = Self {
            state: CpuState { jump_mask: JUMP_MASK, ..Default::default() },
            ram,
            map,
            bus,
            tlb,
            tlb_fills: [0; 4],
            smc: Vec::new(),
            native: None,
            shutdown: false,
            is_counted: false,
            is_bulk_done: false,
            nmi_blocked: false,
            inhibit_step: false,
            keep_rf: false,
            ferr: false,
            insn_pc: 0,
            pending_db: 0,
            watches: Vec::new(),
            watches_hit: 0,
            armed: crate::debug::Armed::default(),
            caps: model.caps(),
            model,
            shadow_is_sti: false,
            a20_mask: !0,
            pdpte: [0; 4],
            handles: Handles::default(),
            split: Span::default(),
            msr: crate::msr::Msrs::default(),
            delivery_depth: 0,
            map_generation: 0,
            jumps: Jumps::default(),
            has_local_code: false,
            levels: Default::default(),
        };
        cpu.reset();
        cpu
    }

    /// The state after RESET. `jump_mask` is left alone: other threads own it.
    pub fn reset(&mut self) {
        let jump_mask = self.state.jump_mask;
        let data = Segment { selector: 0, attr: 0x93, limit: 0xFFFF, base: 0 };
        let signature = self.model.signature();
        self.state = CpuState {
            jump_mask,
            df: 1,
            tlb_mask: self.tlb.mask(),
            usual_addend: self.tlb.usual(),
            pc: 0xFFF0,
            ..Default::default()
        };
        let s = &mut self.state;
        s.gpr[2] = u64::from(signature);
        s.seg = [data; seg::COUNT];
        s.seg[usize::from(seg::CS)] = Segment { selector: 0xF000, base: 0xFFFF_0000, ..data };
        s.ldtr = Segment { attr: 0x82, ..data };
        s.tr = Segment { attr: 0x8B, ..data };
        s.gdtr = TableReg { base: 0, limit: 0xFFFF, pad: 0 };
        s.idtr = TableReg { base: 0, limit: 0xFFFF, pad: 0 };
        s.cr0 = cr0::CD | cr0::NW | cr0::ET;
        s.dr[6] = 0xFFFF_0FF0;
        s.dr[7] = 0x400;
        s.mxcsr = MXCSR_RESET;
        s.xcr0 = 1;
        s.pat = 0x0007_0406_0007_0406;
        s.apic_base = if self.caps.has_apic { crate::msr::APIC_BASE_RESET } else { 0 };
        s.misc_enable = MISC_ENABLE_RESET;
        self.shutdown = false;
        self.nmi_blocked = false;
        self.inhibit_step = false;
        self.keep_rf = false;
        self.pending_db = 0;
        self.ferr = false;
        self.armed = crate::debug::Armed::default();
        self.shadow_is_sti = false;
        self.pdpte = [0; 4];
        self.msr = crate::msr::Msrs::default();
        self.smc.clear();
        self.bus.set_apic_base(self.state.apic_base);
        self.sync_bus();
        self.flush_tlb();
        self.sync_mode();
        self.state.leave = 0;
    }

    /// CR0.PE without virtual-8086 mode: selectors name descriptors.
    pub const fn is_protected(&self) -> bool {
        self.state.cr0 & cr0::PE != 0 && self.state.eflags & flags::VM == 0
    }

    /// Virtual-8086 mode.
    pub const fn is_vm86(&self) -> bool {
        self.state.cr0 & cr0::PE != 0 && self.state.eflags & flags::VM != 0
    }

    /// IA-32e mode is on: 64-bit or compatibility mode.
    pub const fn is_long(&self) -> bool {
        self.state.efer & efer::LMA != 0
    }

    /// 64-bit mode, by the code segment in force.
    pub const fn is_code64(&self) -> bool {
        self.is_long() && self.state.seg[seg::CS as usize].attr & attr::L != 0
    }

    /// The bits of a linear address.
    pub(crate) const fn lin_mask(&self) -> u64 {
        if self.is_long() { !0 } else { 0xFFFF_FFFF }
    }

    /// The mode bits as of the last [`Cpu::sync_mode`].
    pub const fn mode(&self) -> Mode {
        Mode(self.state.mode)
    }

    /// Recomputes windows, mode and jump context from the state; true if the mode changed.
    pub fn sync_mode(&mut self) -> bool {
        if self.is_code64() {
            let s = &mut self.state;
            for (window, segment) in s.window.iter_mut().zip(&s.seg).skip(usize::from(seg::FS)) {
                *window = Window { base: segment.base, read_end: u64::MAX, write_end: u64::MAX };
            }
            let flat = Window { base: 0, read_end: u64::MAX, write_end: u64::MAX };
            s.window[..usize::from(seg::FS)].fill(flat);
        } else {
            for n in 0..seg::COUNT {
                self.state.window[n] = self.window_of(n);
            }
        }
        self.sync_derived()
    }

    /// `sync_mode` after nothing but segment register `n` changed, in the middle of a block.
    pub(crate) fn sync_segment(&mut self, n: usize) {
        let window = self.window_of(n);
        let is_same = self.state.window[n] == window;
        self.state.window[n] = window;
        // The mode hangs on flat segments, and on all windows together where CS is not flat.
        let is_mere_window = match n as u8 {
            seg::CS | seg::SS => false,
            seg::FS | seg::GS => is_same || self.mode().has(Mode::FLAT_CS),
            _ => is_same || self.mode().has(Mode::CODE64),
        };
        if !is_mere_window && self.sync_derived() {
            self.ask_to_leave();
        }
    }

    /// Mode and jump context, from state and windows.
    pub(crate) fn sync_derived(&mut self) -> bool {
        let mode = self.compute_mode();
        let is_changed = mode.0 != self.state.mode;
        self.state.mode = mode.0;
        self.sync_views();
        let context = self.context();
        self.follow_jumps();
        if !self.jumps.is_in(context) {
            self.enter_context(context);
        }
        self.note_transfer();
        self.note_level();
        is_changed
    }

    /// Where the views in use are: after the level, EFLAGS.AC or the address space changed.
    fn sync_views(&mut self) {
        let has_smap = self.state.cr4 & cr4::SMAP != 0;
        let with_ac = if has_smap { ViewId::SupervisorAc } else { ViewId::Supervisor };
        self.state.views = [self.tlb.base(ViewId::Supervisor), self.tlb.base(with_ac)];
        self.state.tlb_base = self.tlb.base(self.view());
    }

    /// The translation context of the mode as last synced.
    fn context(&self) -> Context {
        let mode = self.mode();
        let cs = &self.state.seg[usize::from(seg::CS)];
        let (cs_limit, cs_base) =
            if mode.has(Mode::FLAT_CS) { (0, 0) } else { (cs.limit, cs.base) };
        let space = if mode.cpl() == 3 { self.tlb.space_id() } else { 0 };
        Context { mode: mode.0, cs_limit, cs_base, space }
    }

    /// `sync_mode` for the middle of a block: asks generated code to leave when the mode changed.
    pub(crate) fn sync_in_block(&mut self) {
        if self.sync_mode() {
            self.ask_to_leave();
        }
    }

    /// Makes generated code leave at its next check of `leave`, to look at the state afresh.
    pub(crate) const fn ask_to_leave(&mut self) {
        self.state.leave = ir::exit::RESYNC + 1;
    }

    /// Clears the interrupt shadow; true if it was on. The run loop calls it before it runs the
    /// one insn that the shadow covers.
    pub fn take_shadow(&mut self) -> bool {
        let was_on = self.state.shadow != 0;
        self.state.shadow = 0;
        self.shadow_is_sti = false;
        was_on
    }

    fn compute_mode(&self) -> Mode {
        let s = &self.state;
        let bit = |is_set: bool, bit: u32| if is_set { bit } else { 0 };
        let common = bit(s.eflags & flags::TF != 0, Mode::TF)
            | bit(s.shadow != 0, Mode::SHADOW)
            | bit(self.breaks_on_code(), Mode::BREAK)
            | bit(self.has_virtual_if(), Mode::VIRTUAL)
            | (s.cpl & 3) << Mode::CPL_SHIFT;
        if self.is_code64() {
            return Mode(common | Mode::ALWAYS_64);
        }
        let cs = &s.seg[usize::from(seg::CS)];
        let ss = &s.seg[usize::from(seg::SS)];
        let is_flat = |n: u8| {
            let w = &s.window[usize::from(n)];
            w.base == 0 && w.read_end == 1 << 32 && w.write_end == 1 << 32
        };
        let is_64k = s.window.iter().all(|w| w.read_end == 0x1_0000 && w.write_end == 0x1_0000);
        Mode(
            common
                | bit(cs.attr & attr::DB != 0, Mode::CODE32)
                | bit(ss.attr & attr::DB != 0, Mode::STACK32)
                | bit(s.cr0 & cr0::PE != 0, Mode::PE)
                | bit(self.is_vm86(), Mode::VM86)
                | bit(cs.base == 0 && cs.limit == u32::MAX, Mode::FLAT_CS)
                | bit(is_flat(seg::SS), Mode::FLAT_SS)
                | bit(is_flat(seg::DS), Mode::FLAT_DS)
                | bit(is_flat(seg::ES), Mode::FLAT_ES)
                | bit(is_64k, Mode::ALL_64K),
        )
    }

    /// The fast-path window of a segment. 64-bit code uses only the base.
    pub(crate) fn window_of(&self, n: usize) -> Window {
        let s = &self.state.seg[n];
        if self.is_code64() {
            let base = if n >= usize::from(seg::FS) { s.base } else { 0 };
            return Window { base, read_end: u64::MAX, write_end: u64::MAX };
        }
        if s.is_expand_down() {
            return Window { base: s.base, read_end: 0, write_end: 0 };
        }
        let end = u64::from(s.limit) + 1;
        if !self.is_protected() {
            return Window { base: s.base, read_end: end, write_end: end };
        }
        let allow = |access| if crate::access::may_access(s, access) { end } else { 0 };
        Window {
            base: s.base,
            read_end: allow(mem::Access::Read),
            write_end: allow(mem::Access::Write),
        }
    }

    /// Generated code goes from level to level without telling: the jump table in use is the one the state names.
    /// A state just made (reset, loading) names none yet.
    fn follow_jumps(&mut self) {
        match self.state.jump_base {
            0 => self.state.jump_base = self.jumps.base(),
            base => self.jumps.follow(base),
        }
    }

    fn enter_context(&mut self, context: Context) {
        let tlb = &self.tlb;
        self.jumps.enter(context, |c| c.space == 0 || tlb.has_space(c.space));
        self.state.jump_base = self.jumps.base();
        // A table given to another context leads nowhere for the one it had.
        let base = self.state.jump_base;
        let is_of = |level: &crate::quick::Level| level.is_of(base);
        let is_noted = [self.state.to_system.ctx, self.state.to_user.ctx].contains(&base);
        if is_noted || self.levels.iter().any(is_of) {
            self.forget_transfers();
        }
    }
}

/// Flushes, and changes of the machine around the CPU.
impl Cpu {
    /// Forgets every translation, and with it every jump-table entry.
    pub fn flush_tlb(&mut self) {
        self.tlb.flush(self.pcid(self.state.cr3));
        self.sync_views();
        self.follow_jumps();
        self.jumps.forget_all();
        self.forget_transfers();
    }

    /// Goes to the address space of a new CR3: `pcid`, of which what is known is kept if `keeps`.
    pub(crate) fn enter_space(&mut self, pcid: u16, keeps: bool) {
        self.tlb.enter_space(pcid, keeps);
        self.forget_local_code();
    }

    /// Forgets the translations of the address space `pcid`, but those of global pages.
    pub(crate) fn flush_space(&mut self, pcid: u16) {
        self.tlb.flush_space(pcid);
        self.forget_local_code();
    }

    /// Forgets every translation but those of global pages, in all address spaces.
    pub(crate) fn flush_local(&mut self) {
        self.tlb.flush_local();
        self.forget_local_code();
    }

    /// After non-global pages were forgotten: jumps to system code in such pages are stale. Programs' code has a
    /// context of its own for each space.
    fn forget_local_code(&mut self) {
        self.forget_transfers();
        if std::mem::take(&mut self.has_local_code) {
            self.jumps.forget(|context| context.space == 0);
        }
        self.sync_derived();
    }

    /// What the jump table knows of the instruction pointer: the host address that `enter_jump` was given.
    pub fn known_jump(&mut self) -> Option<u64> {
        self.follow_jumps();
        self.jumps.known(self.state.pc)
    }

    /// Says at which host address stands what leaves generated code as a jump does that knows no code for its target, whether
    /// entries of jump tables outlive a flush, and whether two that want one place both stay. To be called before anything is entered.
    pub fn set_up_jumps(&mut self, miss: u64, sleeps: bool, has_annex: bool) {
        self.jumps.set_up(miss, sleeps, has_annex);
    }

    /// Notes where the code at `pc` stands in host memory, for indirect jumps in the current mode.
    /// `is_crossing`: its bytes extend into the next page. `place` tells where in memory the page with its first byte lies.
    pub fn enter_jump(&mut self, pc: u64, is_crossing: bool, host: u64, place: u64) {
        let lin = self.lin_pc(pc);
        let is_global = self.tlb.is_global(lin)
            && (!is_crossing || self.tlb.is_global(Lin(lin.0.wrapping_add(0x1000))));
        self.has_local_code |= self.state.cpl != 3 && !is_global;
        self.follow_jumps();
        self.jumps.note(pc, lin, host, place);
    }

    /// Forgets what the jump table knows of `pc`.
    pub fn forget_jump(&mut self, pc: u64) {
        self.follow_jumps();
        self.jumps.forget_one(pc);
    }

    /// Forgets one page and the jumps to it.
    pub fn flush_page(&mut self, lin: Lin) {
        self.jumps.flush_page(lin, self.tlb.shifts_of(lin));
        self.tlb.flush_page(lin);
    }

    /// Forgets one page of the address space `pcid`.
    pub(crate) fn flush_page_of(&mut self, pcid: u16, lin: Lin) {
        self.jumps.flush_page(lin, self.tlb.shifts_of(lin));
        self.tlb.flush_page_of(pcid, lin);
    }

    /// A page fault at `lin` takes with it what was known of the page, so that it does not come again once memory says otherwise, and what no
    /// longer holds is not used after it (SDM Vol. 3A, "Operations that Invalidate TLBs and Paging-Structure Caches").
    pub(crate) fn forget_faulted(&mut self, lin: Lin) {
        let shifts = match self.tlb.forget_faulted(lin) {
            true => self.tlb.shifts_of(lin),
            false => (12, 12),
        };
        self.jumps.flush_page(lin, shifts);
    }

    /// Makes every jump-table entry stale: all code was dropped.
    pub fn flush_jumps(&mut self) {
        self.follow_jumps();
        self.jumps.drop_all();
        self.forget_transfers();
    }

    /// Drops the write entries of a page of guest RAM that now holds translated code.
    pub fn protect_code_page(&mut self, ram_off: u64) {
        if let Some(p) = self.ram.page_ptr(ram_off) {
            let at = p.addr() as u64 & !0xFFF;
            self.tlb.protect(HostPage { at, number: ram_off >> 12 });
        }
    }

    /// The view that generated code uses now.
    pub fn view(&self) -> ViewId {
        if self.checks_alignment() { ViewId::Closed } else { self.data_view() }
    }

    /// Looks at the A20 gate and the physical map; true if they changed and the TLB was flushed.
    pub fn sync_bus(&mut self) -> bool {
        let a20_mask = if self.bus.a20() { !0 } else { !(1 << 20) };
        let generation = self.map.generation();
        if a20_mask == self.a20_mask && generation == self.map_generation {
            return false;
        }
        self.a20_mask = a20_mask;
        self.map_generation = generation;
        self.flush_tlb();
        true
    }

    /// After an access to a device, which may have changed the map or the A20 gate.
    pub(crate) fn after_bus_access(&mut self) {
        if self.sync_bus() || self.is_counted {
            self.ask_to_leave();
        }
    }

    /// Physical address of the code byte at `pc`, for the current mode, as a fetch.
    pub fn fetch_phys(&mut self, pc: u64) -> Result<Phys, crate::fault::Fault> {
        let lin = self.lin_pc(pc);
        let limit = u64::from(self.state.seg[usize::from(seg::CS)].limit);
        if !is_canonical(lin.0) || (pc > limit && !self.is_code64()) {
            return Err(crate::fault::Fault::gp(0));
        }
        self.translate(lin, mem::Access::Fetch, self.state.cpl)
    }

    /// Linear address of instruction pointer `pc`.
    pub const fn lin_pc(&self, pc: u64) -> Lin {
        if self.is_code64() {
            return Lin(pc);
        }
        Lin(self.state.seg[seg::CS as usize].base.wrapping_add(pc) & 0xFFFF_FFFF)
    }
}

/// The facts about the processor model that the system architecture depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caps {
    /// The bits of features in CPUID.
    pub(crate) leaves: Leaves,
    /// Width of physical addresses.
    pub(crate) phys_bits: u8,
    /// The highest basic leaf of CPUID.
    pub(crate) last_basic: u32,
    /// The highest extended leaf, 0 for none.
    pub(crate) last_extended: u32,
    /// Leaves 15h and 16h say how fast the clocks run.
    pub(crate) knows_rates: bool,
    /// CLFLUSH, and the size of a line in leaf 1.
    pub(crate) has_clflush: bool,
    /// An x87 FPU: escapes without a row are undefined.
    pub(crate) has_fpu: bool,
    /// 4 MiB pages above 4 GiB.
    pub(crate) pse36: bool,
    /// 1 GiB pages.
    pub(crate) page_1g: bool,
    /// Vendor is AMD: SYSCALL in compatibility mode, SYSENTER not in long mode, null FS and GS keep their base, #AC of vectors.
    pub(crate) is_amd: bool,
    /// CPUID, and with it EFLAGS.ID.
    pub(crate) has_cpuid: bool,
    /// 64-bit mode and its MSRs.
    pub(crate) has_long: bool,
    /// SYSENTER and its MSRs.
    pub(crate) has_sep: bool,
    /// MTRRs.
    pub(crate) has_mtrr: bool,
    /// The page attribute table.
    pub(crate) has_pat: bool,
    /// A local APIC, and IA32_APIC_BASE.
    pub(crate) has_apic: bool,
    /// Its registers can be MSRs.
    pub(crate) has_x2apic: bool,
    /// Its timer can be armed for a value of the time-stamp counter.
    pub(crate) has_tsc_deadline: bool,
    /// Machine-check banks.
    pub(crate) has_mca: bool,
    /// IA32_TSC_ADJUST.
    pub(crate) has_tsc_adjust: bool,
    /// IA32_TSC_AUX.
    pub(crate) has_tsc_aux: bool,
    /// Bits of IA32_SPEC_CTRL that can be set.
    pub(crate) spec_ctrl: u64,
    /// IA32_ARCH_CAPABILITIES.
    pub(crate) has_arch_caps: bool,
    /// Bits of CR4 that can be set.
    pub(crate) cr4: u64,
    /// Bits of XCR0 that can be set; 0 without XSAVE.
    pub(crate) xcr0: u64,
    /// Bits of EFER that can be set.
    pub(crate) efer: u64,
}

/// Is the address canonical: bits 47 to 63 equal?
pub(crate) const fn is_canonical(at: u64) -> bool {
    ((at << 16) as i64 >> 16) as u64 == at
}
