//! The stages of making a block: fetch, decode and lower, optimise, assign and emit, publish.

use std::time::Instant;

use ir::opt::Passes;
use jit::{CompileError, Compiled, Jit, Tier};
use mem::{Phys, Size};
use x86::cpu::Cpu;
use x86::fault::Fault;
use x86::front::{self, BuildConfig, BuildError, Changing, CodeBytes};
use x86::lower::Place;
use x86::state::seg;

use crate::log::Items;

use super::cache::{BlockId, Key, New, Second, lines};
use super::dormant::Old;
use super::pages::Peeked;
use super::pipeline::{FETCH, FETCH_COMPACT, Manner, Order, Outcome, Pipeline};
use super::shim::Core;
use super::{Stats, Vcpu, far_kind};

/// One block in so many is timed.
const TIMED: u64 = 8;
/// What the log shows of ops.
const SHOWN: [Items; 2] = [Items::OP, Items::OP_OPT];
/// Bytes needed of the second page.
const OVER: usize = 16;

/// The translator's reusable parts.
pub(super) struct Translator {
    jit: Option<Jit>,
    pub(super) pipeline: Pipeline,
    compiled: Compiled,
    /// Guest bytes of the block under way.
    bytes: [u8; FETCH],
}

impl Translator {
    pub(super) fn new(jit: Option<Jit>, passes: Passes, config: BuildConfig) -> Self {
        let pipeline = Pipeline::new(passes, config);
        Self { jit, pipeline, compiled: Compiled::default(), bytes: [0; FETCH] }
    }
    /// Page offsets at which blocks begin.
    pub(super) fn set_stops(&mut self, stops: Option<Box<front::Offsets>>) {
        self.pipeline.front.stops = stops;
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

    /// Fetch, decode, lower: fills `block` and `info`. Immediates of `changing` bytes are read when the block runs.
    pub(super) fn build(
        &mut self,
        cpu: &mut Cpu,
        pc: u64,
        manner: Manner<'_>,
        changing: Option<Changing>,
    ) -> Result<Option<Second>, Fault> {
        let place = place_of(cpu, pc);
        let page_rest = 0x1000 - place.page_off as usize;
        let phys = cpu.fetch_phys(pc)?;
        let is_along = matches!(manner, Manner::Along(_));
        let reach = if is_along { FETCH } else { FETCH_COMPACT };
        let (len, _) = fetch(cpu, phys, &mut self.bytes[..page_rest.min(reach)]);
        self.pipeline.front.changing = changing;
        let page = &self.bytes[..len];
        let code = CodeBytes { page, next: None };
        match self.pipeline.lower(&code, place, manner) {
            Ok(()) => return Ok(None),
            Err(BuildError::NeedsNextPage) => {}
        }
        self.pipeline.front.changing = None;
        let next_phys = cpu.fetch_phys(pc.wrapping_add(page_rest as u64))?;
        let mut next = [0; OVER];
        let (_, ram) = fetch(cpu, next_phys, &mut next);
        let code = CodeBytes { page, next: Some(&next) };
        // With the next page given there is nothing left to ask for.
        let manner = if is_along { Manner::Straight { by_names: false } } else { manner };
        let _ = self.pipeline.lower(&code, place, manner);
        Ok(Some(Second { phys: next_phys.page().0, page: ram.map(|off| off & !0xFFF) }))
    }
}

/// Instruction pointer `pc` as the front end wants it.
pub(super) fn place_of(cpu: &Cpu, pc: u64) -> Place {
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
            // Where all is hot, branches go on either way, as they come.
            always && !off.is_multiple_of(3) || key.page().is_some_and(|p| cache.begins_at(p, off))
        };
        // Hot code is entered like the code it replaces.
        let is_far = tier == Tier::Hot && old.live.is_some_and(|id| cache.far(id).is_some());
        let order = Order {
            key,
            place: place_of(cpu, pc),
            tier,
            far: is_far.then(|| far_kind(cpu, pc)),
            // A counted block may have to leave at its entry, and one that is stopped at is looked at.
            keeps_flags: self.config.counted || self.stops.is_some(),
        };
        let is_shown = SHOWN.iter().any(|&item| self.log.has(item));
        let what = (changing.is_some(), is_shown);
        let manner = match key.page() {
            Some(_) => self.translator.pipeline.manner(&order, what, &has_run),
            None => Manner::Single,
        };
        let second = self.translator.build(cpu, pc, manner, changing)?;
        // What a device answers may be something else next time, and nothing tells of it: fetched anew whenever it runs.
        let is_memory = key.page().is_some() && second.is_none_or(|second| second.page.is_some());
        self.trace_block(pc);
        let Translator { jit, pipeline, compiled, .. } = &mut self.translator;
        let ram = &self.core.cpu.ram;
        let peek =
            |at: usize, bytes: &mut [u8]| ram.read_bytes((key.phys & !0xFFF) + at as u64, bytes);
        let made = pipeline.finish(&order, peek, |request| match jit.as_mut() {
            Some(jit) if is_memory => jit.compile(request, compiled),
            _ => Err(CompileError::Registers),
        });
        let host = match made {
            Outcome::Host(tier) => Some(tier),
            Outcome::Evaluated => None,
            Outcome::Without(less) => {
                let passes = pipeline.passes;
                pipeline.passes = passes.without(less);
                let made = self.translate(pc, key, tier, old);
                self.translator.pipeline.passes = passes;
                return made;
            }
            Outcome::Full => {
                self.flush_cache();
                return self.translate(pc, key, tier, Old { past: old.past, ..Old::default() });
            }
        };
        let id = self.publish_made(key, second, old, (host.is_some(), host.unwrap_or(tier)));
        // Reading the clock takes time, too.
        let spent = start.map_or(0, |start| start.elapsed().as_nanos() as u64);
        self.stats.translate_ns += TIMED * spent;
        self.stats.hot_ns += if tier == Tier::Hot { TIMED * spent } else { 0 };
        self.trace_translated(pc, id);
        self.map_block(self.core.cpu.lin_pc(pc).0, id);
        Ok(id)
    }

    /// Publishes the block that the translator has just made, in a tier, with host code or without.
    fn publish_made(
        &mut self,
        key: Key,
        second: Option<Second>,
        old: Old,
        (is_host, tier): (bool, Tier),
    ) -> BlockId {
        let Translator { jit, pipeline, compiled, bytes } = &mut self.translator;
        let is_hot = tier == Tier::Hot;
        let len = pipeline.info.bytes;
        let [first, other] = pipeline.peeked_bytes();
        let new = New {
            host: is_host.then_some(&*compiled),
            insns: pipeline.info.insns.len() as u32,
            len,
            second,
            peeked: pipeline.peeked,
            live: &pipeline.info.live,
            bytes: [&bytes[..(len as usize).min(FETCH)], first, other],
            old,
            is_hot,
        };
        let heat = self.config.hot_after.unwrap_or(0);
        let id = publish(&mut self.core, &mut self.stats, jit.as_mut(), key, new, heat);
        if is_hot {
            self.link_ahead(id);
        }
        id
    }
}

/// Enters a new block into the cache, with its host code if there is any, and counts it.
pub(super) fn publish(
    core: &mut Core,
    stats: &mut Stats,
    jit: Option<&mut Jit>,
    key: Key,
    new: New<'_>,
    heat: u8,
) -> BlockId {
    guard_all(&mut core.cpu, &key, new.len, new.second, &new.peeked);
    let (insns, is_hot, len) = (u64::from(new.insns), new.is_hot, new.len);
    let host = new.host;
    let id = core.cache.insert(key, new, jit);
    if let Some(host) = host.filter(|host| host.far.is_some()) {
        core.cache.set_far(id, host.far);
    }
    *core.heat_mut(id) = heat;
    stats.host_bytes += host.map_or(0, |host| (host.end - host.entry) as u64);
    stats.insns += insns;
    stats.blocks += 1;
    if is_hot {
        stats.hot_blocks += 1;
        stats.hot_insns += insns;
    }
    stats.guest_bytes += u64::from(len);
    id
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
    let known = cpu.ram.code_lines(page);
    if known == 0 {
        cpu.protect_code_page(page);
    }
    if known & lines != lines {
        cpu.ram.set_code_lines(page, lines);
    }
}
