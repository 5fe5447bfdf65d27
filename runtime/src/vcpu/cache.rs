//! Which blocks exist, by key, by page and by host address, and which direct exits are linked.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem::offset_of;
use std::num::NonZeroU32;
use std::ops::Range;

use ir::SPAN_SLOT;
use jit::{Compiled, Exit, InsnMark, Jit};
use mem::NumberHasher;
use x86::cpu::Cpu;
use x86::mode::Mode;

use super::dormant::{HasSlept, Old, Past};
use super::index::Index;
use super::pages::{self, CodePage, Peeked, Stretch};
use super::pc_width;

/// What a translation depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key {
    /// Physical address of the first byte.
    pub(super) phys: u64,
    /// Mode bits.
    pub(super) mode: Mode,
    /// Instruction pointer of the page's first byte, when CS is not flat; else 0.
    pub(super) pc_base: u32,
    /// CS limit, when CS is not flat; else all ones.
    pub(super) cs_limit: u32,
}

impl Key {
    /// Offset of its page in RAM, `None` when the code is not in RAM.
    pub(super) fn page(&self) -> Option<u64> {
        (self.phys >> 63 == 0).then_some(self.phys & !0xFFF)
    }
    /// Blocks of one page lie side by side in an [`Index`], as they do in the page: what is asked for next is mostly near.
    pub(super) fn hash(&self) -> u32 {
        let mut hasher = NumberHasher::default();
        hasher.write_u64(self.phys & !0xFFF);
        hasher.write_u64(u64::from(self.mode.0) << 32 | u64::from(self.pc_base));
        hasher.write_u32(self.cs_limit);
        let page = hasher.finish() as u32; // the halves are mixed
        page.wrapping_add(self.phys as u32 & 0xFFF)
    }
}

/// Index of a block.
pub(super) type BlockId = u32;

/// What runs a block.
pub(super) enum Body {
    /// Host code.
    Host(HostCode),
    /// The evaluator, where the JIT has no form.
    Evaluated {
        /// How many insns the block has.
        insns: u32,
    },
}

/// Where the host code of a block stands, and its part of the cache's lists.
pub(super) struct HostCode {
    /// Cache offset of the entry.
    pub(super) entry: u32,
    /// Bytes.
    pub(super) len: u32,
    first_insn: u32,
    first_exit: u32,
    insns: u16,
    exits: u16,
}

impl HostCode {
    fn insns(&self) -> Range<usize> {
        Span { from: self.first_insn, len: self.insns.into() }.range()
    }
    fn exits(&self) -> Range<usize> {
        Span { from: self.first_exit, len: self.exits.into() }.range()
    }
}

/// Part of a list that all blocks share.
#[derive(Clone, Copy)]
struct Span {
    from: u32,
    len: u32,
}

impl Span {
    /// Appends to a list.
    fn of<T: Copy>(list: &mut Vec<T>, new: &[T]) -> Self {
        let from = list.len() as u32;
        list.extend_from_slice(new);
        Self { from, len: new.len() as u32 }
    }
    fn range(self) -> Range<usize> {
        self.from as usize..(self.from + self.len) as usize
    }
}

/// One translated block. What is looked at to find and enter it stands in one line of the host's cache.
#[repr(C, align(64))]
pub(super) struct Translated {
    pub(super) key: Key,
    pub(super) body: Body,
    /// Cache offset of the entry for indirect jumps.
    far: Option<NonZeroU32>,
    live: bool,
    /// Translated for speed.
    is_hot: bool,
    /// A form of it for speed is being made.
    is_ordered: bool,
    /// What few blocks have.
    rare: Option<Box<Rare>>,
    /// That entry leaves, and began with these bytes before.
    closed: Option<[u8; 5]>,
    /// Guest bytes.
    pub(super) len: u32,
    /// The first of the exits linked to this one, [`LAST`] if there is none.
    incoming: u32,
    /// Where its bytes, and those it peeked at, are kept.
    bytes: Span,
    /// What of its first page it looked at beyond its own bytes.
    pub(super) peeked: [Peeked; 2],
}

const _: () = assert!(size_of::<Translated>() == 128, "a boot makes thousands");
const _: () =
    assert!(offset_of!(Translated, closed) >= 64, "what comes before is in the first line");

/// Behind the last of the exits that are linked to a block.
const LAST: u32 = u32::MAX;
/// Instead of the next one, of an exit that is not linked.
const UNLINKED: u32 = u32::MAX - 1;

/// What few blocks have.
#[derive(Default)]
struct Rare {
    /// The part beyond the first page's end.
    second: Option<Second>,
    /// Bytes of it that are read when it runs, ascending: it does not rest on them.
    live: Vec<Stretch>,
    past: Past,
}

impl Translated {
    /// Indirect jumps come here no more.
    fn close_far(&mut self, jit: &mut Jit) {
        if let (Some(far), None) = (self.far, self.closed) {
            self.closed = Some(jit.close_far_entry(far.get() as usize, pc_width(self.key.mode)));
        }
    }
    /// Is a form of it for speed being made?
    pub(super) fn is_ordered(&self) -> bool {
        self.is_ordered
    }
    fn second(&self) -> Option<Second> {
        self.rare.as_ref().and_then(|rare| rare.second)
    }
    /// Bytes of it that are read when it runs, ascending.
    pub(super) fn live_bytes(&self) -> &[Stretch] {
        self.rare.as_ref().map_or(&[], |rare| &rare.live)
    }
    /// What is known of the bytes it was made from.
    pub(super) fn past(&self) -> Past {
        self.rare.as_ref().map_or(Past::default(), |rare| rare.past)
    }
    /// RAM pages it was made from.
    fn pages(&self) -> [Option<u64>; 2] {
        [self.key.page(), self.second().and_then(|s| s.page)]
    }
}

/// What is known of a block when it is entered into the cache.
pub(super) struct New<'a> {
    /// Host code, or `None` where the evaluator runs the block.
    pub(super) host: Option<&'a Compiled>,
    /// Guest insns.
    pub(super) insns: u32,
    pub(super) len: u32,
    pub(super) second: Option<Second>,
    pub(super) peeked: [Peeked; 2],
    /// Page offset and length of what it reads when it runs.
    pub(super) live: &'a [(u16, u8)],
    /// Its bytes, then those it peeked at.
    pub(super) bytes: [&'a [u8]; 3],
    pub(super) old: Old,
    pub(super) is_hot: bool,
}

/// The second page of a block whose insn crosses a page end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Second {
    /// Physical page the bytes were read from.
    pub(super) phys: u64,
    /// RAM page offset.
    pub(super) page: Option<u64>,
}

/// A direct exit, and the next one that is linked to the same block.
struct Linked {
    exit: Exit,
    next: u32,
}

/// All blocks.
pub(super) struct Cache {
    blocks: Vec<Translated>,
    by_key: Index,
    /// Blocks that were dropped and may come back, by key.
    pub(super) dormant: Index,
    pub(super) has_slept: HasSlept,
    by_page: HashMap<u64, CodePage, BuildHasherDefault<NumberHasher>>,
    /// (cache offset of the entry, block), ascending.
    by_host: Vec<(u32, BlockId)>,
    /// For each [`GRAIN`] bytes of the cache the first place in `by_host` whose block begins there or behind.
    first: Vec<u32>,
    insns: Vec<InsnMark>,
    exits: Vec<Linked>,
    /// Bytes that blocks were made from.
    bytes: Vec<u8>,
}

/// log2 of the bytes of the cache that one place of `Cache::first` stands for.
const GRAIN: u32 = 10;

/// Blocks there is room for before the first reallocation, more than a boot makes. The host gives what is used; growing would copy.
const ROOM: usize = 1 << 17;

impl Default for Cache {
    fn default() -> Self {
        Self {
            blocks: Vec::with_capacity(ROOM),
            by_key: Index::with_room(ROOM),
            dormant: Index::with_room(ROOM / 16),
            has_slept: HasSlept::default(),
            by_page: HashMap::default(),
            by_host: Vec::with_capacity(ROOM),
            first: Vec::new(),
            insns: Vec::with_capacity(8 * ROOM),
            exits: Vec::with_capacity(2 * ROOM),
            bytes: Vec::with_capacity(32 * ROOM),
        }
    }
}

/// The 64-byte lines of a page that bytes `from..from + len` touch.
pub(super) fn lines(from: u64, len: u64) -> u64 {
    let first = (from & 0xFFF) >> 6;
    let last = ((from & 0xFFF) + len.max(1) - 1).min(0xFFF) >> 6;
    (u64::MAX >> (63 - (last - first))) << first
}

impl Cache {
    pub(super) fn find(&self, key: &Key) -> Option<BlockId> {
        self.by_key.find(key.hash(), |id| self.blocks[id as usize].key == *key)
    }
    pub(super) fn get(&self, id: BlockId) -> &Translated {
        &self.blocks[id as usize]
    }
    /// The bytes a block was made from, then those it peeked at.
    pub(super) fn bytes_of(&self, block: &Translated) -> &[u8] {
        &self.bytes[block.bytes.range()]
    }
    /// Adds a block; it replaces one of the same key.
    pub(super) fn insert(&mut self, key: Key, new: New<'_>, jit: Option<&mut Jit>) -> BlockId {
        let id = self.blocks.len() as BlockId;
        if let Some(dormant) = new.old.dormant {
            self.dormant.remove(key.hash(), dormant);
        }
        let incoming = match new.old.live {
            Some(old) => {
                self.by_key.replace(key.hash(), old, id);
                self.retire(old, &new, jit)
            }
            None => {
                self.by_key.insert(key.hash(), id);
                LAST
            }
        };
        let New { host, insns, len, second, peeked, live, bytes, old, is_hot } = new;
        let past = old.past;
        let body = match host {
            Some(code) => Body::Host(self.note_host(id, code)),
            None => Body::Evaluated { insns },
        };
        let from = self.bytes.len() as u32;
        bytes.iter().for_each(|part| self.bytes.extend_from_slice(part));
        let is_rare = second.is_some() || !live.is_empty() || past != Past::default();
        let live = live.iter().map(|&(at, len)| Stretch { at, len: len.into() });
        let rare = is_rare.then(|| Box::new(Rare { second, live: live.collect(), past }));
        self.blocks.push(Translated {
            key,
            body,
            len,
            rare,
            peeked,
            bytes: Span { from, len: self.bytes.len() as u32 - from },
            incoming,
            live: true,
            is_hot,
            is_ordered: false,
            far: None,
            closed: None,
        });
        self.watch(id);
        id
    }
    /// Has a block that slept found by its key, and its bytes watched.
    pub(super) fn enter(&mut self, id: BlockId) {
        let block = &mut self.blocks[id as usize];
        block.live = true;
        self.by_key.insert(block.key.hash(), id);
        self.watch(id);
    }
    /// Has a block's bytes watched.
    fn watch(&mut self, id: BlockId) {
        let block = &self.blocks[id as usize];
        for page in block.pages().into_iter().flatten() {
            let code = self.by_page.entry(page).or_default();
            code.blocks.push(id);
            note_in(code, block, page);
        }
    }
    fn note_host(&mut self, id: BlockId, code: &Compiled) -> HostCode {
        let grain = code.entry >> GRAIN;
        if self.first.len() <= grain {
            self.first.resize(grain + 1, self.by_host.len() as u32);
        }
        self.by_host.push((code.entry as u32, id));
        let insns = Span::of(&mut self.insns, &code.insns);
        let first_exit = self.exits.len() as u32;
        self.exits.extend(code.exits.iter().map(|&exit| Linked { exit, next: UNLINKED }));
        HostCode {
            entry: code.entry as u32,
            len: (code.end - code.entry) as u32,
            first_insn: insns.from,
            first_exit,
            // A block has a few hundred at most.
            insns: insns.len as u16,
            exits: code.exits.len() as u16,
        }
    }
    /// Entry of a block with host code.
    pub(super) fn entry(&self, id: BlockId) -> Option<usize> {
        match &self.get(id).body {
            Body::Host(c) => Some(c.entry as usize),
            Body::Evaluated { .. } => None,
        }
    }
    /// Has it host code that can be made better?
    pub(super) fn is_compact(&self, id: BlockId) -> bool {
        !self.is_hot(id) && matches!(self.get(id).body, Body::Host(_))
    }
    /// Is it in its final form?
    pub(super) fn is_hot(&self, id: BlockId) -> bool {
        self.get(id).is_hot
    }
    pub(super) fn set_ordered(&mut self, id: BlockId, is_ordered: bool) {
        self.blocks[id as usize].is_ordered = is_ordered;
    }
    /// Is it found by its key?
    pub(super) fn is_live(&self, id: BlockId) -> bool {
        self.get(id).live
    }
    /// The entry for indirect jumps, if one was made.
    pub(super) fn far(&self, id: BlockId) -> Option<usize> {
        self.get(id).far.map(|far| far.get() as usize)
    }
    pub(super) fn set_far(&mut self, id: BlockId, far: Option<usize>) {
        self.blocks[id as usize].far = far.and_then(|far| NonZeroU32::new(far as u32));
    }
    /// Indirect jumps may come again.
    pub(super) fn open_far(&mut self, id: BlockId, jit: &mut Jit) {
        let block = &mut self.blocks[id as usize];
        if let (Some(far), Some(bytes)) = (block.far, block.closed.take()) {
            jit.open_far_entry(far.get() as usize, bytes);
        }
    }
    fn host_block(&self, at: usize) -> Option<(BlockId, &HostCode)> {
        let end = self.by_host.len() as u32;
        let place = |grain: usize| self.first.get(grain).copied().unwrap_or(end) as usize;
        let (from, to) = (place(at >> GRAIN), place((at >> GRAIN) + 1));
        let here = self.by_host[from..to].partition_point(|&(entry, _)| entry as usize <= at);
        let id = self.by_host[(from + here).checked_sub(1)?].1;
        match &self.get(id).body {
            Body::Host(c) => Some((id, c)),
            Body::Evaluated { .. } => None,
        }
    }
    /// The insn whose code ends a call at cache offset `at`.
    pub(super) fn insn_at(&self, at: usize) -> Option<InsnMark> {
        let (_, c) = self.host_block(at.checked_sub(1)?)?;
        let rel = (at - 1) as u32 - c.entry;
        let insns = &self.insns[c.insns()];
        let n = insns.partition_point(|insn| insn.at <= rel).checked_sub(1)?;
        Some(insns[n])
    }
    /// Which direct exit left with `host_ret`.
    pub(super) fn exit_at(&self, host_ret: u64, jit: Option<&Jit>) -> Option<(BlockId, usize)> {
        let at = jit?.buf().offset_of(host_ret)?;
        let (id, c) = self.host_block(at.checked_sub(1)?)?;
        let n = self.exits[c.exits()].iter().position(|mine| mine.exit.leaves_at(at))?;
        Some((id, n))
    }
    pub(super) fn exit(&self, id: BlockId, exit: usize) -> Option<Exit> {
        match &self.get(id).body {
            Body::Host(c) => self.exits[c.exits()].get(exit).map(|linked| linked.exit),
            Body::Evaluated { .. } => None,
        }
    }
    /// Does it cross its page's end?
    pub(super) fn is_crossing(&self, id: BlockId) -> bool {
        self.get(id).second().is_some()
    }
    /// A direct jump stays within one page of one mapping; a block that crosses its page's end depends on a second mapping.
    pub(super) fn may_link(&self, from: BlockId, exit: Exit, to: BlockId) -> bool {
        let (from, to) = (self.get(from), self.get(to));
        !counts(from, exit, to) && fit_together(from, exit, to)
    }
    /// May a direct exit go to a block that crosses its page's end, by the jump table, which knows when the second page is remapped?
    pub(super) fn may_look_up(&self, from: BlockId, exit: Exit, to: BlockId) -> bool {
        let (from, to) = (self.get(from), self.get(to));
        let is_crossing = to.second().is_some() && exit.slot != SPAN_SLOT;
        is_crossing && !counts(from, exit, to) && are_alike(from, exit, to)
    }
    /// May a compact block's backward exit go to a block by code that counts its turns?
    pub(super) fn may_count(&self, from: BlockId, exit: Exit, to: BlockId) -> bool {
        exit.counts_turns() && fit_together(self.get(from), exit, self.get(to))
    }
    /// Notes that a direct exit is about to be linked; false if it is already.
    pub(super) fn note_link(&mut self, from: BlockId, exit: usize, to: BlockId) -> bool {
        let Body::Host(code) = &self.get(from).body else { return false };
        let n = code.first_exit as usize + exit;
        if self.exits[n].next != UNLINKED {
            return false;
        }
        let first = &mut self.blocks[to as usize].incoming;
        self.exits[n].next = std::mem::replace(first, n as u32);
        true
    }
    /// No exit is linked to a block any more.
    pub(super) fn unlink_all(&mut self, to: BlockId, jit: &mut Jit) {
        let mut n = std::mem::replace(&mut self.blocks[to as usize].incoming, LAST);
        while n != LAST {
            let linked = &mut self.exits[n as usize];
            jit.unlink(linked.exit.site);
            n = std::mem::replace(&mut linked.next, UNLINKED);
        }
    }
    /// Is the second page of a crossing block still where it was?
    pub(super) fn second_page_holds(&self, id: BlockId, cpu: &mut Cpu, pc: u64) -> bool {
        let Some(second) = self.get(id).second() else { return true };
        let next_page = (pc | 0xFFF).wrapping_add(1);
        cpu.fetch_phys(next_page).is_ok_and(|p| p.page().0 == second.phys)
    }

    /// Drops the blocks made from bytes `from..from + len` of `page` (a RAM page offset), perhaps some behind them, too; returns how many.
    pub(super) fn invalidate(&mut self, page: u64, from: u64, len: u64, jit: &mut Jit) -> u64 {
        let Some(code) = self.by_page.get_mut(&page) else { return 0 };
        if !code.covers(from, len) {
            return 0;
        }
        let len = code.written(from, len);
        let ids = std::mem::take(&mut code.blocks);
        let overlaps = |id: &BlockId| {
            let mut meets = false;
            parts(self.get(*id), page, |part| meets |= part.meets(from, len));
            meets
        };
        let (hit, kept): (Vec<_>, Vec<_>) = ids.into_iter().partition(overlaps);
        for &id in &hit {
            self.drop_block(id, page, jit);
        }
        if kept.is_empty() {
            self.by_page.remove(&page);
        } else if let Some(code) = self.by_page.get_mut(&page) {
            code.clear();
            for &id in &kept {
                note_in(code, &self.blocks[id as usize], page);
            }
            code.blocks = kept;
        }
        hit.len() as u64
    }
    /// A block of the same key replaces `id`, and takes over the jumps to it: its bytes need not be watched any more.
    fn retire(&mut self, id: BlockId, new: &New<'_>, jit: Option<&mut Jit>) -> u32 {
        let block = &mut self.blocks[id as usize];
        block.live = false;
        let pages = block.pages();
        for page in pages.into_iter().flatten() {
            if let Some(code) = self.by_page.get_mut(&page) {
                code.blocks.retain(|&n| n != id);
            }
        }
        let Some(jit) = jit else { return LAST };
        self.blocks[id as usize].close_far(jit);
        let looks_up = self.get(id).second().is_some();
        let Some(code) = new.host.filter(|_| looks_up || new.second.is_none()) else {
            self.unlink_all(id, jit);
            return LAST;
        };
        let mut n = std::mem::replace(&mut self.blocks[id as usize].incoming, LAST);
        let mut taken_over = LAST;
        while n != LAST {
            let Linked { exit, next: to } = &mut self.exits[n as usize];
            let next = *to;
            if exit.counts_turns() {
                // Its turns were those of the old block.
                jit.unlink(exit.site);
                *to = UNLINKED;
            } else {
                if !looks_up {
                    jit.link(exit.site, code.entry);
                }
                *to = taken_over;
                taken_over = n;
            }
            n = next;
        }
        taken_over
    }
    fn drop_block(&mut self, id: BlockId, page: u64, jit: &mut Jit) {
        let block = &mut self.blocks[id as usize];
        block.live = false;
        let key = block.key;
        let pages = block.pages();
        block.close_far(jit);
        self.by_key.remove(key.hash(), id);
        self.unlink_all(id, jit);
        for other in pages.into_iter().flatten().filter(|&p| p != page) {
            if let Some(code) = self.by_page.get_mut(&other) {
                code.blocks.retain(|&n| n != id);
            }
        }
        self.lay_down(id);
    }
    /// Does any block rest on bytes at RAM offset `at` (within a page)?
    pub(super) fn covers(&self, at: u64, len: u64) -> bool {
        self.by_page.get(&(at & !0xFFF)).is_some_and(|code| code.covers(at & 0xFFF, len))
    }
    /// Where blocks begin in a RAM page, a bit for each of its bytes.
    pub(super) fn starts(&self, page: u64) -> [u64; 64] {
        self.by_page.get(&page).map_or([0; 64], |code| *code.starts())
    }
    /// Does any block begin at this offset of a RAM page?
    pub(super) fn begins_at(&self, page: u64, at: u32) -> bool {
        self.by_page.get(&page).is_some_and(|code| pages::begins_at(code.starts(), at))
    }
    /// Lines of `page` that hold translated code.
    pub(super) fn lines_of(&self, page: u64) -> u64 {
        self.by_page.get(&page).map_or(0, CodePage::lines)
    }
    /// Forgets everything; returns the RAM pages that held code.
    pub(super) fn clear(&mut self) -> Vec<u64> {
        self.blocks.clear();
        self.by_key.clear();
        self.dormant.clear();
        self.has_slept = HasSlept::default();
        self.by_host.clear();
        self.first.clear();
        self.bytes.clear();
        self.insns.clear();
        self.exits.clear();
        self.by_page.drain().map(|(page, _)| page).collect()
    }
}

/// May an exit of one block lead to the other, as far as places and modes go?
fn fit_together(from: &Translated, exit: Exit, to: &Translated) -> bool {
    to.second().is_none() && are_alike(from, exit, to)
}

/// Compact code counts its loops by leaving, and what hot code leads to is counted until it is hot, or soon will be.
fn counts(from: &Translated, exit: Exit, to: &Translated) -> bool {
    if from.is_hot { !to.is_hot && !to.is_ordered } else { exit.backward }
}

/// Are both live and made for one mode, as the exit wants it?
fn are_alike(from: &Translated, exit: Exit, to: &Translated) -> bool {
    let (Mode(now), Mode(then)) = (from.key.mode, to.key.mode);
    let is_same = (now ^ then) & !Mode::PLAIN == 0
        && to.key.mode.has(Mode::PLAIN) == (exit.slot == SPAN_SLOT);
    from.live && to.live && is_same
}

/// Notes in a page's account what a block rests on there, and that it begins there if it does.
fn note_in(code: &mut CodePage, block: &Translated, page: u64) {
    parts(block, page, |part| code.add(part));
    if block.key.page() == Some(page) {
        code.add_start(block.key.phys);
    }
}

/// What of a RAM page a block rests on: its bytes but those it reads when it runs, and those it peeked at.
fn parts(block: &Translated, page: u64, mut each: impl FnMut(Stretch)) {
    let at = block.key.phys & 0xFFF;
    let first = u64::from(block.len).min(0x1000 - at);
    let [own, second] = block.pages();
    let is_plain = block.rare.is_none() && block.peeked.iter().all(|peeked| peeked.mask == 0);
    if is_plain && own == Some(page) {
        return each(Stretch::between(at, at + first));
    }
    if own == Some(page) {
        let mut from = at;
        for live in block.live_bytes() {
            each(Stretch::between(from, live.at.into()));
            from = live.end();
        }
        each(Stretch::between(from, at + first));
        block.peeked.iter().flat_map(|peeked| peeked.runs()).for_each(&mut each);
    }
    if second == Some(page) {
        // A block is made from far less than a page.
        each(Stretch::between(0, u64::from(block.len) - first));
    }
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn line_masks() {
        assert_eq!(lines(0, 1), 1);
        assert_eq!(lines(63, 2), 3);
        assert_eq!(lines(0, 4096), u64::MAX);
        assert_eq!(lines(4095, 1), 1 << 63);
    }
}
