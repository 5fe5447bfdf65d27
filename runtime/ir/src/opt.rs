//! The optimiser: linear passes over a block, each of which can be switched off.
//!
//! A pass never changes what a block does to the guest: values, memory, faults and every flag that can
//! be observed stay; flags nobody can observe need not. Passes allocate nothing once their `Scratch` has
//! grown to the largest block seen.

mod copy;
mod dead;
mod flags;
mod fold;
mod spans;
mod sums;

pub use copy::copies;
pub use dead::dead_code;
pub use flags::flag_liveness;
pub use fold::fold_constants;
pub use spans::{Segments, spans};

use crate::{Block, FlagMask, Scratch, Val, Width};

/// A set of passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passes(u16);

impl Passes {
    /// None: the ops as lowered.
    pub const NONE: Self = Self(0);
    /// Flag liveness.
    pub const FLAGS: Self = Self(1);
    /// Constant folding.
    pub const FOLD: Self = Self(2);
    /// Copy forwarding and result retargeting.
    pub const COPY: Self = Self(4);
    /// Dead code.
    pub const DEAD: Self = Self(8);
    /// Spans: one check for accesses that lie close together. Not a pass of `optimize`: see `spans`.
    pub const SPANS: Self = Self(16);
    /// Blocks that go on behind branches not taken. Not a pass of `optimize`: the front end's business.
    pub const SIDES: Self = Self(32);
    /// Blocks that go on where jumps lead, loops several times over. Not a pass of `optimize`: the front end's business.
    pub const LOOPS: Self = Self(64);
    /// State that is brought home when a native instruction traps, not before. Not a pass of `optimize`: the JIT's business.
    pub const TRAPS: Self = Self(128);
    /// The supervisor's pages are taken to lie where most of them do, until the TLB says otherwise. The JIT's business, too.
    pub const GUESS: Self = Self(256);
    /// Blocks for speed are made on a second thread. Not a pass of `optimize`: the run loop's business.
    pub const ASYNC: Self = Self(512);
    /// What a block has loaded or stored is not loaded again. A part of `spans`.
    pub const REUSE: Self = Self(1024);
    /// Entries of jump tables outlive a flush if what they lead to lies where it lay. Not a pass of `optimize`: the run loop's business.
    pub const SLEEP: Self = Self(2048);
    /// Jump tables have an annex for what took turns with another entry. The run loop's business, too.
    pub const ANNEX: Self = Self(4096);
    /// Compact loops count their turns in generated code. The run loop's business, too.
    pub const TURNS: Self = Self(8192);
    /// Compact blocks are put together from code of insns that was made before. The translator's business.
    pub const KEPT: Self = Self(16384);
    /// All.
    pub const ALL: Self = Self(32767);
    /// Each pass with the name `parse` takes.
    pub const NAMES: [(&'static str, Self); 15] = [
        ("flags", Self::FLAGS),
        ("fold", Self::FOLD),
        ("copy", Self::COPY),
        ("dead", Self::DEAD),
        ("spans", Self::SPANS),
        ("sides", Self::SIDES),
        ("loops", Self::LOOPS),
        ("traps", Self::TRAPS),
        ("guess", Self::GUESS),
        ("async", Self::ASYNC),
        ("reuse", Self::REUSE),
        ("sleep", Self::SLEEP),
        ("annex", Self::ANNEX),
        ("turns", Self::TURNS),
        ("kept", Self::KEPT),
    ];

    /// All names, for whoever typed another.
    fn names() -> String {
        Self::NAMES.map(|(name, _)| name).join(", ")
    }
    /// Is every pass of `other` in this set?
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// Union.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// This set without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Reads a comma-separated list: `all`, `none`, a pass's name to add it, `-name` to take it out. A list
    /// that begins with `-` starts from all.
    pub fn parse(text: &str) -> Result<Self, UnknownPass> {
        let mut set = if text.starts_with('-') { Self::ALL } else { Self::NONE };
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            let (name, adds) = word.strip_prefix('-').map_or((word, true), |name| (name, false));
            let pass = match name {
                "all" => Self::ALL,
                "none" => {
                    set = Self::NONE;
                    continue;
                }
                _ => Self::NAMES
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|&(_, pass)| pass)
                    .ok_or_else(|| UnknownPass(name.to_owned()))?,
            };
            set = if adds { set.with(pass) } else { set.without(pass) };
        }
        Ok(set)
    }
}

/// A name `Passes::parse` does not know.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("unknown optimiser pass `{0}`; there are {names}, all and none", names = Passes::names())]
pub struct UnknownPass(pub String);

/// Flags live where a block continues through `goto_tb` slots 0 and 1. `ALL_LIVE` unless the translator knows that
/// the successor overwrites a flag before anything there can read it, fault or leave.
pub type LiveAtExit = [FlagMask; 2];

/// Everything live at both slots.
pub const ALL_LIVE: LiveAtExit = [FlagMask::ALL; 2];

/// Runs the chosen passes in their order. With `FLAGS`, `Scratch::flags_after` speaks about the result.
pub fn optimize(block: &mut Block, scratch: &mut Scratch, passes: Passes, live: LiveAtExit) {
    scratch.pass.flags_are_current = false;
    scratch.pass.uses_are_current = false;
    if passes != Passes::NONE {
        block.units.clear();
    }
    if passes.has(Passes::FLAGS) {
        flag_liveness(block, scratch, live);
    }
    if passes.has(Passes::FOLD) {
        fold_constants(block, scratch);
    }
    if passes.has(Passes::COPY) {
        copies(block, scratch);
        scratch.pass.uses_are_current = true;
    }
    if passes.has(Passes::DEAD) {
        dead_code(block, scratch);
    }
    if passes.has(Passes::FLAGS) && !scratch.pass.flags_are_current {
        // A branch or a consumer of flags went away: what it kept alive may go too.
        flag_liveness(block, scratch, live);
        if passes.has(Passes::DEAD) {
            dead_code(block, scratch);
        }
        if !scratch.pass.flags_are_current {
            flag_liveness(block, scratch, live);
        }
    }
}

/// What the passes keep between blocks.
#[derive(Default, Debug)]
pub(crate) struct PassScratch {
    /// Flags live after each op, from the last flag liveness.
    pub(crate) flags_after: Vec<FlagMask>,
    /// Does `flags_after` match the block's ops, and would another run find nothing new?
    pub(crate) flags_are_current: bool,
    /// Flag state at each label.
    labels: Vec<flags::State>,
    /// Uses of each temporary.
    uses: Vec<u16>,
    /// Does `uses` match the block's ops?
    uses_are_current: bool,
    /// References to each label.
    label_uses: Vec<u16>,
    /// Region in which a later op overwrites the temporary.
    overwritten: Vec<u32>,
    /// What each temporary is a copy of.
    copies: Vec<copy::Copied>,
    /// Known value of each temporary.
    known: Vec<fold::Known>,
    /// Of `spans`.
    spans: spans::Work,
    /// Ops that `sums` drops.
    gone: Vec<bool>,
}

impl Scratch {
    /// Flags live after each op (consumed later or observable later), from the last `flag_liveness`. An op
    /// that defines no flags must leave these as they are, one that defines some the rest of them. Parallel
    /// to the block's ops as `optimize` left them; empty if the pass did not run.
    pub fn flags_after(&self) -> &[FlagMask] {
        if self.pass.flags_are_current { &self.pass.flags_after } else { &[] }
    }
}

/// Counts the reads of each temporary.
fn count_uses(block: &Block, scratch: &mut Scratch) {
    let uses = &mut scratch.pass.uses;
    reset(uses, block.temps.len());
    for op in &block.ops {
        op.for_each_source(|v, _| add_use(uses, v));
    }
}

/// Counts a read of a temporary.
#[inline]
fn add_use(counts: &mut [u16], v: Val) {
    if let Some(count) = v.as_temp().and_then(|t| counts.get_mut(usize::from(t))) {
        *count = count.saturating_add(1);
    }
}

/// Takes one from a count.
fn drop_use(counts: &mut [u16], n: usize) {
    if let Some(count) = counts.get_mut(n) {
        *count = count.saturating_sub(1);
    }
}

/// Resets a per-temporary vector to `n` default entries.
fn reset<T: Clone + Default>(v: &mut Vec<T>, n: usize) {
    v.clear();
    v.resize(n, T::default());
}

/// The general register a register operand is part of.
fn register_of(v: Val) -> Option<usize> {
    v.as_gpr().or_else(|| v.as_high()).map(usize::from)
}

/// Does writing `v` at `w` replace all 64 bits?
fn replaces_register(v: Val, w: Width) -> bool {
    v.as_gpr().is_some() && w >= Width::W32
}
