//! The inner loop: runs guest code until something needs the outer loop.
//!
//! `Vcpu::run` finds or makes the block at the instruction pointer, enters it, and acts on why generated code came
//! back. Stages of making one are in `translate`; which blocks exist and how they are linked in `cache`; the two entry points
//! generated code calls in `shim`.

mod beside;
mod cache;
mod counted;
mod dormant;
mod eval;
mod index;
mod kick;
mod memo;
mod pages;
mod perf_map;
mod pipeline;
mod report;
mod shim;
mod stats;
mod stops;
mod trace;
mod translate;
mod worker;

use std::rc::Rc;

use ir::opt::Passes;
use ir::{SPAN_SLOT, Scratch, Width, exit};
use jit::{CodeBufError, Exit, Far, InsnMark, Jit, Runner, Tier};
use x86::cpu::Cpu;
use x86::fault::Fault;
use x86::front::BuildConfig;
use x86::mode::Mode;
use x86::tlb::JUMP_MASK;

use crate::log::{Items, Log};
use crate::machine::Accel;
use beside::Beside;
use cache::{BlockId, Key};
pub use counted::Stretch;
use dormant::{Old, Past};
pub use kick::Kicker;
use perf_map::PerfMap;
use shim::Core;
pub use stats::Stats;
use translate::Translator;

/// How a vCPU runs guest code.
#[derive(Clone, Debug)]
pub struct VcpuConfig {
    /// Host code or evaluator.
    pub accel: Accel,
    /// Optimiser passes.
    pub passes: Passes,
    /// Never link blocks directly, so that the log shows each.
    pub nochain: bool,
    /// Bytes of code cache.
    pub cache_bytes: usize,
    /// Most insns in a block.
    pub max_insns: u32,
    /// Runs are counted ([`Vcpu::run_counted`]).
    pub counted: bool,
    /// Times a block is entered before it is translated again for speed: 0 = at once, `None` = never. Half as often is enough for blocks
    /// that are made on a second thread.
    pub hot_after: Option<u8>,
    /// Tells `perf` of each block (a file in `/tmp`).
    pub perf_map: bool,
    /// For tests: a block made on the second thread is taken so many visits of the run loop after it was ordered, not when it is there.
    pub lag: Option<u32>,
}

impl Default for VcpuConfig {
    fn default() -> Self {
        Self {
            accel: Accel::Jit,
            passes: Passes::ALL,
            nochain: false,
            cache_bytes: 64 << 20,
            max_insns: 64,
            counted: false,
            hot_after: Some(64),
            perf_map: false,
            lag: None,
        }
    }
}

/// Why [`Vcpu::run`] returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VcpuExit {
    /// [`Kicker::kick`] was called, or a device wants the outer loop.
    Kick,
    /// HLT with nothing to deliver.
    Halted,
    /// Triple fault.
    Shutdown,
    /// A debugger wants to stop here.
    Stop,
    /// The last insn touched memory that a debugger watches: bit n is the nth watch.
    Watch(u32),
}

/// By how much a compact block gets warmer each time it is gone back to: as by so many entries.
const LOOP_STEP: u8 = 8;

/// The bits of an instruction pointer.
const fn pc_mask(mode: Mode) -> u64 {
    if mode.has(Mode::CODE64) { u64::MAX } else { 0xFFFF_FFFF }
}

/// Width of instruction pointers in generated code.
const fn pc_width(mode: Mode) -> Width {
    if mode.has(Mode::CODE64) { Width::W64 } else { Width::W32 }
}

/// How indirect jumps to `pc` enter its block.
fn far_kind(cpu: &Cpu, pc: u64) -> Far {
    // Wherever the page is mapped.
    Far { pc_width: pc_width(cpu.mode()), polls: pc & u64::from(JUMP_MASK) & 0xFFF == 0 }
}

/// One virtual CPU with its translator.
pub struct Vcpu {
    core: Box<Core>,
    translator: Translator,
    scratch: Scratch,
    config: VcpuConfig,
    log: Rc<Log>,
    kicker: Kicker,
    stats: Stats,
    recent: report::Recent,
    rows: trace::Rows,
    perf_map: Option<PerfMap>,
    /// The last exit was a span's: the next block is to be one without.
    next_is_plain: bool,
    /// The block that the last exit leads to, if it was found on the way.
    next_block: Option<BlockId>,
    memo: memo::Memo,
    stops: Option<stops::Stops>,
    beside: Beside,
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        self.kicker.disconnect();
    }
}

impl Vcpu {
    /// A vCPU around `cpu`.
    ///
    /// # Errors
    /// When the code cache cannot be mapped.
    pub fn new(cpu: Cpu, mut config: VcpuConfig, log: Rc<Log>) -> Result<Self, CodeBufError> {
        let build = BuildConfig {
            features: cpu.model().features(),
            max_insns: config.max_insns,
            counted: config.counted,
        };
        let mut core = Core::new(cpu);
        core.cpu.is_counted = config.counted;
        core.cpu.native = Some(Box::new(Runner::new()?));
        let jit = match config.accel {
            Accel::Jit => {
                Some(Jit::new(config.cache_bytes, shim::layout(&core.cpu.ram), shim::calls())?)
            }
            Accel::Interp => None,
        };
        if let Some(jit) = &jit {
            let has = |pass| config.passes.has(pass);
            core.cpu.set_up_jumps(jit.miss(), has(Passes::SLEEP), has(Passes::ANNEX));
        }
        let is_beside = Self::translates_beside(&config);
        if is_beside {
            // Half the price.
            config.hot_after = config.hot_after.map(|after| after.div_ceil(2));
        }
        let kicker = Kicker::new(&mut core.cpu.state.jump_mask);
        let mut vcpu = Self {
            core,
            translator: Translator::new(jit, config.passes, build),
            scratch: Scratch::new(),
            config,
            log,
            kicker,
            stats: Stats::default(),
            recent: report::Recent::default(),
            rows: trace::Rows::default(),
            perf_map: None,
            next_is_plain: false,
            next_block: None,
            memo: memo::Memo::default(),
            stops: None,
            beside: Beside::new(is_beside),
        };
        if let (true, Some(jit)) = (vcpu.config.perf_map, vcpu.translator.jit()) {
            vcpu.perf_map = PerfMap::open(jit);
        }
        vcpu.log_prologue();
        Ok(vcpu)
    }
    /// The CPU.
    pub fn cpu(&self) -> &Cpu {
        &self.core.cpu
    }
    /// The CPU, to change it between runs. Call [`Vcpu::state_changed`] after changing modes or memory behind its back.
    pub fn cpu_mut(&mut self) -> &mut Cpu {
        &mut self.core.cpu
    }
    /// A handle for other threads to make [`Vcpu::run`] return.
    pub fn kicker(&self) -> Kicker {
        self.kicker.clone()
    }
    /// Counters so far.
    pub fn stats(&self) -> Stats {
        let core = &self.core;
        Stats { slow: core.slow, tlb_fills: core.cpu.tlb_fills(), ..self.stats }
    }
    /// Resets the CPU; translations stay, they are keyed by physical address.
    pub fn reset(&mut self) {
        self.core.cpu.reset();
    }
    /// Drops everything derived: after loading a state.
    pub fn state_changed(&mut self) {
        self.core.cpu.ram.take_dirty_code();
        self.core.cpu.state_loaded();
        self.core.pending = None;
        self.flush_cache();
    }

    /// Runs until the outer loop is needed. FP state is home then: another CPU may run on this thread, or this one on another.
    pub fn run(&mut self) -> VcpuExit {
        // Time may have been stopped, or set, since the last run.
        self.core.cpu.forget_time();
        loop {
            if let Some(exit) = self.between_blocks() {
                self.core.cpu.park_fpu();
                return exit;
            }
            match self.config.accel {
                _ if self.core.cpu.has_ferr() => self.evaluate_one(),
                Accel::Jit => self.enter_generated(),
                Accel::Interp => self.evaluate_run(),
            }
        }
    }

    /// Runs exactly one insn on the evaluator, delivering what it raises. For debuggers and tests.
    pub fn step(&mut self) -> Option<VcpuExit> {
        let out = self.between_blocks();
        if out.is_none() {
            self.evaluate_one();
        }
        out
    }

    /// Interrupts, requests and pending invalidations: with exact state, before the next block.
    fn between_blocks(&mut self) -> Option<VcpuExit> {
        let cpu = &mut self.core.cpu;
        cpu.state.leave = 0;
        cpu.sync_bus();
        self.drop_written_code();
        let cpu = &mut self.core.cpu;
        if cpu.shutdown {
            return Some(VcpuExit::Shutdown);
        }
        if cpu.state.shadow != 0 {
            cpu.sync_mode();
        }
        let kicked = self.kicker.take(&mut cpu.state.jump_mask);
        self.take_ordered();
        let cpu = &mut self.core.cpu;
        cpu.service();
        if cpu.shutdown {
            return Some(VcpuExit::Shutdown);
        }
        if kicked {
            return Some(VcpuExit::Kick);
        }
        if let Some(exit) = self.debug_exit() {
            return Some(exit);
        }
        (self.core.cpu.state.halted != 0).then_some(VcpuExit::Halted)
    }

    /// Enters generated code at the instruction pointer and acts on why it came back. Goes on by itself while blocks only
    /// need their successors made: nothing may be delivered there, because flags the successor overwrites are not kept.
    fn enter_generated(&mut self) {
        (self.next_is_plain, self.next_block) = (false, None);
        loop {
            if self.is_at_stop() {
                return;
            }
            let mode = self.core.cpu.mode();
            let is_plain = std::mem::take(&mut self.next_is_plain);
            let single = mode.has(Mode::SINGLE);
            let found = self.next_block.take();
            if !is_plain
                && found.is_none()
                && let Some(far) = self.known_jump()
            {
                self.stats.known_jumps += 1;
                let code = self.run_far(far);
                if !self.act(code, false) || self.core.counter.is_stopped() {
                    return;
                }
                continue;
            }
            let made = found.map_or_else(|| self.block_at(self.core.cpu.state.pc, is_plain), Ok);
            let block = match made {
                Ok(block) => block,
                Err(fault) => {
                    self.count_fault();
                    return self.deliver(fault);
                }
            };
            if self.core.cpu.take_shadow() {
                self.core.cpu.sync_mode();
            }
            self.trace_exec(block);
            let Some(entry) = self.core.cache.entry(block) else {
                self.evaluate_block(block);
                return self.after_step(mode);
            };
            let code = self.run_from(entry);
            let goes_on = self.act(code, single || self.config.nochain);
            if single || !goes_on || self.core.counter.is_stopped() {
                return self.after_step(mode);
            }
        }
    }
    /// After an insn that ran by itself: RF is spent, and the single-step trap of one that began with TF set.
    fn after_step(&mut self, mode: Mode) {
        if mode.has(Mode::TF) {
            self.tell_time();
        }
        if mode.has(Mode::BREAK) && !self.core.faulted {
            self.core.cpu.finish_insn();
        }
        if mode.has(Mode::TF) && !self.core.faulted {
            self.core.cpu.finish_step();
        }
    }

    /// Where the jump table leads from here, if it knows, and nothing wants to see each block.
    fn known_jump(&mut self) -> Option<u64> {
        let cpu = &mut self.core.cpu;
        let is_plain = !cpu.mode().has(Mode::SINGLE) && cpu.state.shadow == 0;
        let is_seen = self.config.nochain || self.log.has(Items::EXEC) || self.log.has(Items::CPU);
        (is_plain && !is_seen && self.translator.jit().is_some()).then(|| cpu.known_jump())?
    }

    /// Runs generated code from the jump-table entry `far`.
    fn run_far(&mut self, far: u64) -> u32 {
        let state = &self.core.cpu.state;
        self.recent.note(state.seg[1].selector, state.pc);
        self.enter(|jit, core| shim::enter_far(jit, core, far))
    }

    /// Runs generated code from a block's entry at cache offset `entry`.
    fn run_from(&mut self, entry: usize) -> u32 {
        let cpu = &mut self.core.cpu;
        self.recent.note(cpu.state.seg[1].selector, cpu.state.pc);
        let page_offset = cpu.lin_pc(cpu.state.pc).page_offset();
        cpu.state.pc_base = cpu.state.pc.wrapping_sub(page_offset) & pc_mask(cpu.mode());
        self.enter(|jit, core| shim::enter(jit, core, entry))
    }

    fn enter(&mut self, enter: impl FnOnce(&Jit, &mut Core) -> u32) -> u32 {
        self.stats.entries += 1;
        self.core.faulted = false;
        self.core.cpu.state.watched = self.core.cpu.bus.intr().into();
        self.core.lend_budget();
        let Some(jit) = self.translator.jit() else { return exit::NEXT };
        let code = enter(jit, &mut self.core);
        self.core.take_budget_back();
        code
    }

    /// Acts on an exit code; true if the next block may be entered without looking at interrupts.
    fn act(&mut self, code: u32, unlinked: bool) -> bool {
        self.stats.count_exit(code);
        if self.config.counted && self.settle_count(code) {
            return false;
        }
        match code {
            Jit::LINK => return self.follow_direct(!unlinked),
            Jit::POLL_DIRECT => {
                self.follow_direct(false);
            }
            Jit::MISS if !unlinked => return self.fill_jump_table(),
            exit::FAULT => {
                self.raise_at_site();
                return self.is_quiet();
            }
            shim::FAULT_AT_PC => {
                let fault = self.core.pending.take().unwrap_or(Fault::ud());
                self.deliver(fault);
                return self.is_quiet();
            }
            exit::EVAL_ONE => {
                self.core.cpu.state.pc = self.pc_of_site();
                self.stats.evaluated += 1;
                self.core.cpu.is_bulk_done = self.config.counted;
                self.evaluate_insn();
                self.core.cpu.is_bulk_done = false;
            }
            code => {
                if let Some(trap) = Jit::trap_of(code) {
                    self.core.cpu.state.pc = self.pc_of_site();
                    let fault = self.core.cpu.native_fault(trap);
                    self.deliver(fault);
                }
            }
        }
        false
    }

    /// Is there nothing to be done before the next block?
    fn is_quiet(&self) -> bool {
        let cpu = &self.core.cpu;
        let has_writes = !cpu.smc.is_empty() || cpu.ram.has_dirty_code();
        !self.config.counted && cpu.state.jump_mask != 0 && !has_writes && cpu.is_quiet()
    }

    /// Delivers a fault at the state's instruction pointer.
    fn deliver(&mut self, fault: Fault) {
        self.core.faulted = true;
        self.trace_fault(fault);
        self.core.cpu.deliver_fault(fault);
    }
    /// The same of a fault that the insn there raised as it ran.
    fn deliver_of_insn(&mut self, fault: Fault) {
        let fault = self.core.cpu.fault_of_insn(fault);
        self.deliver(fault);
    }
    /// A memory slow path or `Raise` left: its host address tells the insn.
    fn raise_at_site(&mut self) {
        self.core.cpu.state.pc = self.pc_of_site();
        let state = &self.core.cpu.state;
        let fault = match self.core.pending.take() {
            Some(fault) => fault,
            None => Fault::from_raise(state.fault, state.fault_code),
        };
        self.deliver_of_insn(fault);
    }
    /// Instruction pointer of the insn whose code left with `host_ret`.
    fn pc_of_site(&self) -> u64 {
        self.pc_in_page(self.site().map_or(0, |insn| u64::from(insn.page_offset)))
    }
    /// The insn whose code left with `host_ret`.
    fn site(&self) -> Option<InsnMark> {
        let host_ret = self.core.cpu.state.host_ret;
        let offset = self.translator.jit()?.buf().offset_of(host_ret)?;
        self.core.cache.insn_at(offset)
    }
    /// Instruction pointer of an offset in the running block's page.
    fn pc_in_page(&self, page_offset: u64) -> u64 {
        let cpu = &self.core.cpu;
        cpu.state.pc_base.wrapping_add(page_offset) & pc_mask(cpu.mode())
    }

    /// A direct exit left, unlinked or to be polled: goes to its target and links the two if allowed. True if it was a forward
    /// exit: the target must follow at once.
    fn follow_direct(&mut self, link: bool) -> bool {
        let state = &self.core.cpu.state;
        let found = self.core.cache.exit_at(state.host_ret, self.translator.jit());
        let Some((from, exit)) =
            found.and_then(|(id, n)| Some(((id, n), self.core.cache.exit(id, n)?)))
        else {
            return false;
        };
        let pc = self.pc_in_page(u64::from(exit.page_offset));
        self.core.cpu.state.pc = pc;
        let is_hot = self.core.cache.is_hot(from.0);
        // What hot code leads to is soon hot, and so are loops.
        let step = match is_hot {
            true => self.config.hot_after.unwrap_or(0) / 2 + 1,
            false => u8::from(exit.backward) * LOOP_STEP,
        };
        let is_plain = exit.slot == SPAN_SLOT;
        self.next_is_plain = is_plain;
        if link && let Some(to) = self.warm_block_at(pc, step, is_plain) {
            self.next_block = Some(to);
            self.link(from, exit, to);
            self.count_turns(from, exit, to);
            if exit.backward && !is_hot && self.core.cache.is_hot(to) {
                self.warm_source(from.0, step);
            }
        }
        // Hot code has looked for interrupts before a backward exit.
        !exit.backward || is_hot
    }
    /// Has a direct exit jump to a block, if it may.
    fn link(&mut self, from: (BlockId, usize), exit: Exit, to: BlockId) {
        if self.is_barred(u64::from(exit.page_offset)) {
            return;
        }
        let (cache, jit) = (&mut self.core.cache, self.translator.jit_mut());
        let (Some(entry), Some(jit)) = (cache.entry(to), jit) else { return };
        if cache.may_link(from.0, exit, to) && cache.note_link(from.0, from.1, to) {
            jit.link(exit.site, entry);
        } else if !self.config.counted
            && cache.may_look_up(from.0, exit, to)
            && cache.note_link(from.0, from.1, to)
        {
            jit.look_up(&exit, pc_width(self.core.cpu.mode()));
        }
    }
    /// Has a compact block's backward exit count its turns by itself, once it has made some: those of the block it leads to,
    /// or, where that is hot, its own.
    fn count_turns(&mut self, from: (BlockId, usize), exit: Exit, to: BlockId) {
        let may = !self.config.counted && self.config.passes.has(Passes::TURNS);
        let Some(hot_after) = self.config.hot_after.filter(|_| may) else {
            return;
        };
        let (who, seen) = match self.core.cache.is_hot(to) {
            true => (from.0, LOOP_STEP),
            false => (to, 2 * LOOP_STEP),
        };
        let heat = *self.core.heat_mut(who);
        let is_loop = heat <= hot_after.saturating_sub(seen) || heat > hot_after;
        let is_barred = self.is_barred(u64::from(exit.page_offset));
        let cache = &mut self.core.cache;
        if !is_loop || heat <= LOOP_STEP || is_barred || !cache.may_count(from.0, exit, to) {
            return;
        }
        if let (Some(entry), Some(jit)) = (cache.entry(to), self.translator.jit_mut())
            && cache.note_link(from.0, from.1, to)
        {
            jit.count_turns(&exit, entry, Core::heat_offset(who), LOOP_STEP);
        }
    }
    /// A compact block went back to hot code, as it will again and again: others jump to it without a count, so it gets warmer itself.
    fn warm_source(&mut self, from: BlockId, step: u8) {
        let heat = self.core.heat_mut(from);
        *heat = heat.saturating_sub(step);
        let is_due = *heat == 0 && self.config.hot_after.is_some();
        if !is_due || !self.core.cache.is_live(from) {
            return;
        }
        let key = self.core.cache.get(from).key;
        let (pc, flushes) = (self.pc_in_page(key.phys & 0xFFF), self.stats.flushes);
        *self.core.heat_mut(from) = LOOP_STEP;
        self.warm_block_at(pc, LOOP_STEP, key.mode.has(Mode::PLAIN));
        if self.stats.flushes != flushes {
            self.next_block = None;
        }
    }
    /// Links the exits of a new hot block that lead to what is hot already: each would leave once to find it.
    pub(super) fn link_ahead(&mut self, id: BlockId) {
        let key = self.core.cache.get(id).key;
        if self.config.nochain || key.mode.has(Mode::SINGLE) {
            return;
        }
        for n in 0.. {
            let Some(exit) = self.core.cache.exit(id, n) else { return };
            let phys = (key.phys & !0xFFF) | u64::from(exit.page_offset & 0xFFF);
            let is_plain = if exit.slot == SPAN_SLOT { Mode::PLAIN } else { 0 };
            let mode = Mode(key.mode.0 & !Mode::PLAIN | is_plain);
            if let Some(to) = self.core.cache.find(&Key { phys, mode, ..key }) {
                self.link((id, n), exit, to);
            }
        }
    }

    /// An indirect jump missed: enters the target into the jump table, unless it missed because the loop was asked for. True if it was
    /// found. If not (the fetch faults, or the evaluator runs the block), what the cache knew of the target
    /// was a closed entry, which would miss for ever.
    fn fill_jump_table(&mut self) -> bool {
        if self.core.cpu.state.jump_mask == 0 {
            return false;
        }
        let pc = self.core.cpu.state.pc;
        let found =
            self.warm_block_at(pc, 0, false).and_then(|to| Some((to, self.far_entry(to, pc)?)));
        let Some((to, far)) = found else {
            self.core.cpu.forget_jump(pc);
            return false;
        };
        let is_crossing = self.core.cache.is_crossing(to);
        let place = self.core.cache.get(to).key.phys & !0xFFF;
        self.core.cpu.enter_jump(pc, is_crossing, far, place);
        true
    }
    /// Host address of a block's entry for indirect jumps, made when first wanted.
    fn far_entry(&mut self, block: BlockId, pc: u64) -> Option<u64> {
        if self.is_barred(self.core.cpu.lin_pc(pc).0) {
            return None;
        }
        let page_offset = self.core.cpu.lin_pc(pc).page_offset() as u32;
        let kind = far_kind(&self.core.cpu, pc);
        let jit = self.translator.jit_mut()?;
        let far = match self.core.cache.far(block) {
            Some(far) => far,
            None => {
                let entry = self.core.cache.entry(block)?;
                let counts = self.config.hot_after.is_some() && self.core.cache.is_compact(block);
                let counter = counts.then(|| Core::heat_offset(block));
                let far = jit.far_entry(entry, page_offset, kind, counter).ok()?;
                self.core.cache.set_far(block, Some(far));
                far
            }
        };
        Some(jit.buf().address(far))
    }

    /// The block at `pc`, translated if it is new; the one without spans if `is_plain`.
    fn block_at(&mut self, pc: u64, is_plain: bool) -> Result<BlockId, Fault> {
        let mut key = self.translator.key(&mut self.core.cpu, pc)?;
        key.mode.0 |= if is_plain { Mode::PLAIN } else { 0 };
        let live = self.core.cache.find(&key);
        if let Some(id) = live
            && self.core.cache.second_page_holds(id, &mut self.core.cpu, pc)
        {
            return Ok(id);
        }
        let dormant = self.core.cache.dormant(&key);
        if let Some(id) = dormant.and_then(|id| self.revive(id)) {
            return Ok(id);
        }
        let cache = &self.core.cache;
        let past = dormant.map_or(Past::default(), |id| cache.past_of(id, &self.core.cpu.ram));
        let tier = match self.config.hot_after {
            Some(0) => Tier::Hot,
            Some(_) if past.is_worth_speed() => Tier::Hot,
            _ => Tier::Compact,
        };
        self.translate(pc, key, tier, Old { live, dormant, past })
    }
    /// The block at `pc`, if it may be jumped to directly. It gets warmer by `step`, and is made again when it is hot. A cache flush on the way
    /// makes the place the jump comes from invalid: then there is none.
    fn warm_block_at(&mut self, pc: u64, step: u8, is_plain: bool) -> Option<BlockId> {
        if self.core.cpu.mode().has(Mode::SINGLE) {
            return None;
        }
        let flushes = self.stats.flushes;
        let mut id = self.block_at(pc, is_plain).ok()?;
        if self.config.hot_after.is_some() && self.core.cache.is_compact(id) {
            let heat = self.core.heat_mut(id);
            *heat = heat.saturating_sub(step);
            let is_due = *heat == 0;
            if is_due && self.order_hot(id, pc, step == LOOP_STEP) {
                *self.core.heat_mut(id) = u8::MAX;
            } else if is_due {
                let block = self.core.cache.get(id);
                let (key, past) = (block.key, block.past());
                let old = Old { live: Some(id), dormant: None, past };
                id = self.translate(pc, key, Tier::Hot, old).ok()?;
            }
        }
        (self.stats.flushes == flushes).then_some(id)
    }

    /// Drops translations whose bytes devices or the evaluator wrote.
    fn drop_written_code(&mut self) {
        while let Some((off, len)) = self.core.cpu.smc.pop() {
            self.invalidate(off, len);
        }
        if self.core.cpu.ram.has_dirty_code() {
            for page in self.core.cpu.ram.take_dirty_code() {
                self.invalidate(page, 0x1000);
            }
        }
    }
    /// Drops the translations of `len` bytes at RAM offset `off` (within a page).
    fn invalidate(&mut self, off: u64, len: u64) {
        let Some(jit) = self.translator.jit_mut() else { return };
        let page = off & !0xFFF;
        let dropped = self.core.cache.invalidate(page, off & 0xFFF, len, jit);
        self.stats.invalidated += dropped;
        self.core.cpu.ram.clear_code_lines(page);
        let left = self.core.cache.lines_of(page);
        if left != 0 {
            self.core.cpu.ram.set_code_lines(page, left);
        }
    }
    /// Empties the code cache.
    fn flush_cache(&mut self) {
        for page in self.core.cache.clear() {
            self.core.cpu.ram.clear_code_lines(page);
        }
        if let Some(jit) = self.translator.jit_mut() {
            jit.flush();
        }
        self.core.cpu.flush_jumps();
        self.stats.flushes += 1;
    }
}
