//! The stages of making a block: fetch, decode and lower, optimise, assign and emit, publish.

use std::time::Instant;

use ir::opt::Passes;
use ir::{Block, Code, FlagMask};
use jit::{CompileError, Compiled, Jit, Request, SegPolicy, Tier};
use mem::{Phys, Size};
use x86::cpu::Cpu;
use x86::fault::Fault;
use x86::front::{self, BlockInfo, BuildConfig, BuildError, Changing, CodeBytes};
use x86::lower::{Along, Place};
use x86::mode::Mode;
use x86::state::seg;

use super::cache::{BlockId, Key, New, Second, lines};
use super::dormant::Old;
use super::pages::Peeked;
use super::{Vcpu, far_kind};

/// Most bytes a block is made from.
pub(super) const FETCH: usize = 256;
const _: () = assert!(FETCH == Changing::REACH as usize);
/// Most bytes a block is made from that has not proved hot.
const FETCH_COMPACT: usize = 192;
/// One block in so many is timed.
const TIMED: u64 = 8;
/// Bytes looked at to see which flags a successor kills.
const PEEK: usize = 40;
/// Bytes needed of the second page.
const OVER: usize = 16;

/// The translator's reusable parts.
pub(super) struct Translator {
    jit: Option<Jit>,
    passes: Passes,
    config: BuildConfig,
    front: front::Scratch,
    pub(super) block: Block,
    pub(super) info: BlockInfo,
    opt: ir::Scratch,
    compiled: Compiled,
    /// Guest bytes of the block under way.
    bytes: [u8; FETCH],
    /// What it looked at behind its two direct exits.
    behind: [[u8; PEEK]; 2],
}

impl Translator {
    pub(super) fn new(jit: Option<Jit>, passes: Passes, config: BuildConfig) -> Self {
        Self {
            jit,
            passes,
            config,
            front: front::Scratch::default(),
            block: Block::default(),
            info: BlockInfo::default(),
            opt: ir::Scratch::new(),
            compiled: Compiled::default(),
            bytes: [0; FETCH],
            behind: [[0; PEEK]; 2],
        }
    }
    /// Page offsets at which blocks begin.
    pub(super) fn set_stops(&mut self, stops: Option<Box<front::Offsets>>) {
        self.front.stops = stops;
    }
    pub(super) fn jit(&self) -> Option<&Jit> {
        self.jit.as_ref()
    }
    pub(super) fn jit_mut(&mut self) -> Option<&mut Jit> {
        self.jit.as_mut()
    }

    /// The key of the block at `pc` in the CPU's mode.
    pub(super) fn key(&self, cpu: &mut Cpu, pc: u64) -> Result<Key, Fault> {
        let phys = cpu.fetch_phys(pc)?;
        // RAM is keyed by its place in the memory file, so that remapping (shadow RAM) changes the key.
        let at = match cpu.map.ram_offset(phys) {
            Some(off) => off,
            None => phys.0 | 1 << 63,
        };
        let mode = cpu.mode().at(pc);
        let place = place_of(cpu, pc);
        let flat = place.is_flat();
        Ok(Key {
            phys: at,
            mode,
            pc_base: if flat { 0 } else { place.ip_base() as u32 },
            cs_limit: if flat { u32::MAX } else { place.cs_limit },
        })
    }

    /// Fetch, decode, lower: fills `block` and `info`. Immediates of `changing` bytes are read when the block runs; the block goes on behind
    /// forward branches where `goes_on` says so.
    pub(super) fn build(
        &mut self,
        cpu: &mut Cpu,
        pc: u64,
        single: bool,
        changing: Option<Changing>,
        goes_on: Option<Along<'_>>,
    ) -> Result<Option<Second>, Fault> {
        let place = place_of(cpu, pc);
        let page_rest = 0x1000 - place.page_off as usize;
        let phys = cpu.fetch_phys(pc)?;
        let reach = if goes_on.is_some() { FETCH } else { FETCH_COMPACT };
        let (len, _) = fetch(cpu, phys, &mut self.bytes[..page_rest.min(reach)]);
        let config = BuildConfig {
            max_insns: if single { 1 } else { self.config.max_insns },
            ..self.config
        };
        self.front.changing = changing;
        let page = &self.bytes[..len];
        let code = CodeBytes { page, next: None };
        let made = (&mut self.block, &mut self.info);
        match front::build_along(&code, place, &config, &mut self.front, made, goes_on) {
            Ok(()) => return Ok(None),
            Err(BuildError::NeedsNextPage) => {}
        }
        self.front.changing = None;
        let next_phys = cpu.fetch_phys(pc.wrapping_add(page_rest as u64))?;
        let mut next = [0; OVER];
        let (_, ram) = fetch(cpu, next_phys, &mut next);
        let code = CodeBytes { page, next: Some(&next) };
        // With the next page given there is nothing left to ask for.
        let _ =
            front::build(&code, place, &config, &mut self.front, &mut self.block, &mut self.info);
        Ok(Some(Second { phys: next_phys.page().0, page: ram.map(|off| off & !0xFFF) }))
    }

    /// Flags live at the direct exits, by a look at what follows them, and the bytes that this rests on.
    fn exit_flags(&mut self, cpu: &Cpu, key: &Key) -> ([FlagMask; 2], [Peeked; 2]) {
        let (mut live, mut peeked) = ([FlagMask::ALL; 2], [Peeked::default(); 2]);
        if key.phys >> 63 != 0 {
            return (live, peeked);
        }
        let size = front::code_size(key.mode);
        for op in self.block.ops.iter().filter(|op| op.code == Code::GotoTb && op.x < 2) {
            let at = op.imm & 0xFFF;
            let ip = key.pc_base.wrapping_add(at);
            let in_limit = u64::from(key.cs_limit) + 1 - u64::from(ip.min(key.cs_limit));
            let mut bytes = [0; PEEK];
            let len = PEEK.min(0x1000 - at as usize).min(in_limit as usize);
            if cpu.ram.read_bytes((key.phys & !0xFFF) + u64::from(at), &mut bytes[..len]) {
                let (dead, relied_on) =
                    front::flags_dead_at(&bytes[..len], size, &self.config.features);
                let slot = usize::from(op.x & 1);
                peeked[slot] = Peeked { at: at as u16, mask: relied_on };
                self.behind[slot] = bytes;
                live[slot] = FlagMask::ALL.minus(dead);
            }
        }
        (live, peeked)
    }
}

/// Instruction pointer `pc` as the front end wants it.
fn place_of(cpu: &Cpu, pc: u64) -> Place {
    let cs = &cpu.state.seg[usize::from(seg::CS)];
    Place {
        mode: cpu.mode().at(pc),
        ip: pc,
        page_off: cpu.lin_pc(pc).page_offset() as u32,
        cs_limit: cs.limit,
    }
}

/// Reads code bytes, from RAM or from whatever answers on the bus; returns how many, and their offset in RAM if it is RAM.
fn fetch(cpu: &mut Cpu, phys: Phys, bytes: &mut [u8]) -> (usize, Option<u64>) {
    let ram = cpu.map.ram_offset(phys);
    if ram.is_some_and(|off| cpu.ram.read_bytes(off, bytes)) {
        return (bytes.len(), ram);
    }
    let len = bytes.len().min(OVER);
    for (i, b) in bytes[..len].iter_mut().enumerate() {
        *b = cpu.phys_read(phys.add(i as u64), Size::B1) as u8;
    }
    (len, None)
}

/// How each segment is accessed in a mode.
fn policies(mode: Mode) -> [SegPolicy; 6] {
    if mode.has(Mode::CODE64) {
        use SegPolicy::{Base, Flat};
        return [Flat, Flat, Flat, Flat, Base, Base];
    }
    let rest = if mode.has(Mode::ALL_64K) { SegPolicy::Wrap64K } else { SegPolicy::Window };
    let flat = |bit| if mode.has(bit) { SegPolicy::Flat } else { rest };
    [flat(Mode::FLAT_ES), rest, flat(Mode::FLAT_SS), flat(Mode::FLAT_DS), rest, rest]
}

impl Vcpu {
    /// Makes the block at `pc` and publishes it.
    pub(super) fn translate(
        &mut self,
        pc: u64,
        key: Key,
        tier: Tier,
        old: Old,
    ) -> Result<BlockId, Fault> {
        let is_timed = self.stats.blocks.is_multiple_of(TIMED);
        let start = is_timed.then(Instant::now);
        let cpu = &mut self.core.cpu;
        let changing = old.past.changing(host_of(cpu, &key));
        let cache = &self.core.cache;
        // What follows a branch and has run before is worth having along.
        let always = self.config.hot_after == Some(0);
        let has_run = |off: u32| {
            let phys = (key.phys & !0xFFF) | u64::from(off & 0xFFF);
            // Where all is hot, branches go on either way, as they come.
            always && !off.is_multiple_of(3) || cache.find(&Key { phys, ..key }).is_some()
        };
        let passes = self.translator.passes;
        let (sides, loops) = (passes.has(Passes::SIDES), passes.has(Passes::LOOPS));
        let goes_on = tier == Tier::Hot
            && !key.mode.has(Mode::PLAIN)
            && changing.is_none()
            && !self.config.counted
            && (sides || loops);
        let (reach, max_insns) = (FETCH as u32, self.translator.config.max_insns);
        let along = Along { has_run: &has_run, sides, loops, reach, max_insns };
        let goes_on = goes_on.then_some(along);
        let second = self.translator.build(cpu, pc, false, changing, goes_on)?;
        self.trace_block(pc);
        let t = &mut self.translator;
        let cpu = &mut self.core.cpu;
        // Code that has not proved hot is not worth looking at twice.
        let quick = tier == Tier::Compact;
        // A counted block may have to leave at its entry, and one that is stopped at is looked at: what comes before keeps all
        // flags.
        let (exit_flags, peeked) = if quick || t.config.counted || self.stops.is_some() {
            ([FlagMask::ALL; 2], Default::default())
        } else {
            t.exit_flags(cpu, &key)
        };
        let passes = if quick { Passes::NONE } else { t.passes };
        ir::opt::optimize(&mut t.block, &mut t.opt, passes, exit_flags);
        let (seg, page_offset) = (policies(key.mode), cpu.lin_pc(pc).page_offset() as u32);
        let wants_spans = !(quick || key.mode.has(Mode::PLAIN | Mode::SINGLE) || t.config.counted);
        let has_spans = wants_spans && passes.has(Passes::SPANS) && {
            let flat =
                (0..6).filter(|&n| seg[n] == SegPolicy::Flat).fold(0, |mask, n| mask | 1 << n);
            ir::opt::spans(&mut t.block, &mut t.opt, passes, exit_flags, flat)
        };
        let counted = t.config.counted;
        // Hot code is entered like the code it replaces.
        let is_far = !quick && old.live.is_some_and(|id| self.core.cache.far(id).is_some());
        let far = is_far.then(|| far_kind(cpu, pc));
        let late_traps = passes.has(Passes::TRAPS) && !counted;
        let mut request = Request {
            block: &t.block,
            seg,
            page_offset,
            tier,
            exit_flags,
            counted,
            far,
            late_traps,
        };
        let out = &mut t.compiled;
        let mut compiled = t.jit.as_mut().map(|jit| jit.compile(&request, out));
        if let (Some(Err(CompileError::Registers)), Some(jit)) = (&compiled, t.jit.as_mut()) {
            // Compact code has fewer registers for temporaries.
            request.tier = Tier::Hot;
            compiled = Some(jit.compile(&request, out));
        }
        let is_loop = t.info.is_loop && passes.has(Passes::LOOPS);
        if (has_spans || is_loop)
            && matches!(compiled, Some(Err(CompileError::Registers | CompileError::Form(_))))
        {
            let less = if is_loop { Passes::LOOPS } else { Passes::SPANS };
            let passes = std::mem::replace(&mut t.passes, passes.without(less));
            let made = self.translate(pc, key, tier, old);
            self.translator.passes = passes;
            return made;
        }
        if compiled == Some(Err(CompileError::Full)) {
            self.flush_cache();
            return self.translate(pc, key, tier, Old { past: old.past, ..Old::default() });
        }
        let is_hot = request.tier == Tier::Hot;
        let is_host = compiled == Some(Ok(()));
        let id = self.publish(key, second, peeked, old, is_host, is_hot);
        if is_hot {
            self.link_ahead(id);
        }
        // Reading the clock takes time, too.
        let spent = start.map_or(0, |start| start.elapsed().as_nanos() as u64);
        self.stats.translate_ns += TIMED * spent;
        self.trace_translated(pc, id);
        self.map_block(pc, id);
        Ok(id)
    }

    /// Enters the block just made into the cache, with its host code if there is any, and counts it.
    fn publish(
        &mut self,
        key: Key,
        second: Option<Second>,
        peeked: [Peeked; 2],
        old: Old,
        is_host: bool,
        is_hot: bool,
    ) -> BlockId {
        let t = &mut self.translator;
        let host = is_host.then_some(&t.compiled);
        let (len, insns) = (t.info.bytes, t.info.insns.len() as u32);
        guard_all(&mut self.core.cpu, &key, len, second, &peeked);
        let [first, other] = [0, 1].map(|n| &t.behind[n][..peeked[n].reach()]);
        let own = &t.bytes[..(len as usize).min(FETCH)];
        let (bytes, live) = ([own, first, other], t.info.live.as_slice());
        let new = New { host, insns, len, second, peeked, live, bytes, old, is_hot };
        let id = self.core.cache.insert(key, new, t.jit.as_mut());
        if let Some(host) = host.filter(|host| host.far.is_some()) {
            self.core.cache.set_far(id, host.far);
        }
        *self.core.heat_mut(id) = self.config.hot_after.unwrap_or(0);
        self.stats.host_bytes += host.map_or(0, |host| (host.end - host.entry) as u64);
        self.stats.insns += u64::from(insns);
        self.stats.blocks += 1;
        if is_hot {
            self.stats.hot_blocks += 1;
            self.stats.hot_insns += u64::from(insns);
        }
        self.stats.guest_bytes += u64::from(len);
        id
    }
}

/// Host address of a key's byte in guest RAM.
fn host_of(cpu: &Cpu, key: &Key) -> Option<u64> {
    key.page()?;
    let page = cpu.ram.page_ptr(key.phys)?;
    Some((page.addr() as u64 & !0xFFF) | (key.phys & 0xFFF))
}

/// Marks what a block was made from as translated code.
pub(super) fn guard_all(
    cpu: &mut Cpu,
    key: &Key,
    len: u32,
    second: Option<Second>,
    peeked: &[Peeked; 2],
) {
    let start = key.phys & 0xFFF;
    let first = u64::from(len).min(0x1000 - start);
    if let Some(page) = key.page() {
        let peeked = peeked.iter().flat_map(|p| p.runs()).fold(0, |mask, s| mask | s.lines());
        guard(cpu, page, lines(start, first) | peeked);
    }
    if let Some(page) = second.and_then(|s| s.page) {
        guard(cpu, page, lines(0, u64::from(len) - first));
    }
}
/// Marks lines of a page as holding translated code; the page loses its write entries.
fn guard(cpu: &mut Cpu, page: u64, lines: u64) {
    if cpu.ram.code_lines(page) == 0 {
        cpu.protect_code_page(page);
    }
    cpu.ram.set_code_lines(page, lines);
}
