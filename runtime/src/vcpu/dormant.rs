//! Blocks whose bytes were written, kept for the case that the bytes come back: code that is generated again, breakpoints
//! that are set and removed, data beside code. And what their changes tell about the blocks that are made in their place.

use jit::Jit;
use mem::GuestRam;
use x86::front::Changing;

use super::Vcpu;
use super::cache::{BlockId, Body, Cache, Key, Translated};
use super::pages::{Peeked, Stretch};
use super::pipeline::FETCH;
use super::translate::guard_all;

/// Times that bytes of a block change before it reads those that are immediates when it runs.
const STEADY: u8 = 2;

/// What is known of the code at a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    /// Bytes that have changed, a bit each from the block's first on.
    pub(super) changed: [u64; 4],
    /// How often, up to a limit.
    pub(super) changes: u8,
    /// It was worth being made for speed.
    pub(super) was_hot: bool,
}

/// In which pages blocks have ever slept, many pages to a bit: in most none has, and nobody looks for one there.
#[derive(Debug)]
pub(super) struct HasSlept(Box<[u64; 256]>);

impl Default for HasSlept {
    fn default() -> Self {
        Self(Box::new([0; 256]))
    }
}

impl HasSlept {
    fn place(key: &Key) -> (usize, u64) {
        let page = key.phys >> 12;
        ((page >> 6) as usize % 256, 1 << (page % 64))
    }
    fn add(&mut self, key: &Key) {
        let (word, bit) = Self::place(key);
        self.0[word] |= bit;
    }
    fn has(&self, key: &Key) -> bool {
        let (word, bit) = Self::place(key);
        self.0[word] & bit != 0
    }
}

/// Whose place a new block takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Old {
    /// The block that has the key now.
    pub(super) live: Option<BlockId>,
    /// The one that sleeps there.
    pub(super) dormant: Option<BlockId>,
    pub(super) past: Past,
}

impl Past {
    /// The bytes that are to be taken as changing.
    pub(super) fn changing(&self, host: Option<u64>) -> Option<Changing> {
        let host = host.filter(|_| self.changes >= STEADY)?;
        Some(Changing { bytes: self.changed, host })
    }
    /// Make the next block for speed at once? Not every time: what changes too soon is not worth it.
    pub(super) fn is_worth_speed(&self) -> bool {
        self.was_hot && self.changes % 4 != 3
    }
}

impl Cache {
    /// The block that slept in at a key.
    pub(super) fn dormant(&self, key: &Key) -> Option<BlockId> {
        if !self.has_slept.has(key) {
            return None;
        }
        self.dormant.find(key.hash(), |id| self.get(id).key == *key)
    }

    /// A block was dropped: may it come back?
    pub(super) fn lay_down(&mut self, id: BlockId) {
        let block = self.get(id);
        let is_fit = block.key.page().is_some() && !self.is_crossing(id);
        if is_fit && matches!(block.body, Body::Host(_)) {
            let key = block.key;
            self.has_slept.add(&key);
            self.dormant.insert(key.hash(), id);
        }
    }

    /// Is what the block rests on in memory as it was?
    fn still_holds(&self, block: &Translated, ram: &GuestRam) -> bool {
        let (own, rest) = split(self.bytes_of(block), (block.len as usize).min(FETCH));
        let (first, rest) = split(rest, block.peeked[0].reach());
        let behind = [(block.peeked[0], first), (block.peeked[1], rest)];
        block.key.page().is_some() && holds(ram, block.key.phys, own, block.live_bytes(), behind)
    }

    /// What a block that sleeps tells of the next.
    pub(super) fn past_of(&self, id: BlockId, ram: &GuestRam) -> Past {
        let block = self.get(id);
        let mut past = block.past();
        past.was_hot = self.is_hot(id);
        let mut buf = [0; FETCH];
        let own = self.bytes_of(block);
        let len = (block.len as usize).min(FETCH).min(own.len());
        if ram.read_bytes(block.key.phys, &mut buf[..len]) {
            for n in (0..len).filter(|&n| buf[n] != own[n]) {
                past.changed[n / 64] |= 1 << (n % 64);
            }
        }
        past.changes = if past.changes == u8::MAX { STEADY } else { past.changes + 1 };
        past
    }

    /// A sleeping block whose bytes are back lives again.
    fn wake(&mut self, id: BlockId, jit: &mut Jit) {
        let key = self.get(id).key;
        self.dormant.remove(key.hash(), id);
        self.enter(id);
        self.open_far(id, jit);
    }
}

/// The first `at` bytes of some, and the rest.
fn split(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    bytes.split_at(at.min(bytes.len()))
}

/// Is the code at RAM offset `at` (in one page) still `own`, but for the bytes in `live`, and are those that were peeked at in its
/// page what they were?
pub(super) fn holds(
    ram: &GuestRam,
    at: u64,
    own: &[u8],
    live: &[Stretch],
    behind: [(Peeked, &[u8]); 2],
) -> bool {
    let (mut buf, start) = ([0; FETCH], at & 0xFFF);
    let len = own.len().min(FETCH);
    if !ram.read_bytes(at, &mut buf[..len]) {
        return false;
    }
    let same = |from: u64, to: u64| {
        let (from, to) = ((from - start) as usize, (to - start) as usize);
        own.get(from..to) == buf.get(from..to)
    };
    let mut from = start;
    for live in live {
        if !same(from, live.at.into()) {
            return false;
        }
        from = live.end();
    }
    same(from, start + len as u64)
        && behind.iter().all(|(peeked, was)| {
            let (reach, mut now) = (peeked.reach(), [0; 64]);
            let page = at & !0xFFF;
            let is_read = ram.read_bytes(page + u64::from(peeked.at), &mut now[..reach]);
            let same = |n: usize| peeked.mask >> n & 1 == 0 || was.get(n) == Some(&now[n]);
            is_read && (0..reach).all(same)
        })
}

impl Vcpu {
    /// Lets a block that sleeps live again, if its bytes are what they were.
    pub(super) fn revive(&mut self, id: BlockId) -> Option<BlockId> {
        let (cpu, cache) = (&mut self.core.cpu, &mut self.core.cache);
        let jit = self.translator.jit_mut()?;
        if !cache.still_holds(cache.get(id), &cpu.ram) {
            return None;
        }
        cache.wake(id, jit);
        let block = cache.get(id);
        guard_all(cpu, &block.key, block.len, None, &block.peeked);
        self.stats.revived += 1;
        Some(id)
    }
}
