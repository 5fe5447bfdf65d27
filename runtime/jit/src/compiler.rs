//! The compiler proper: blocks to host code in any memory, for any place of the cache. It has no cache, so that there may be several, on
//! threads of their own; what they make is a [`Piece`], which whoever has the cache installs there.

use std::sync::Arc;

use ir::{Cond, Width};

use crate::abi;
use crate::asked::Asked;
use crate::asm::{Alu, Asm, Mem, state};
use crate::compile::{Bail, CompileError, Compiled, Emit, Far, Hole, Request, Tier};
use crate::control::{Lost, PollSite};
use crate::flags::FlagFacts;
use crate::layout::StateLayout;
use crate::memory::{SecondLook, SlowSite};
use crate::native::TrapSite;
use crate::recipe::Private;
use crate::regs::Regs;
use crate::shelf::Shelf;
use crate::signal::Sites;
use crate::thunks::{Thunks, Wish};

/// Vectors of a compilation, kept for the next.
#[derive(Default)]
pub(crate) struct Lists {
    pub(crate) labels: Vec<usize>,
    pub(crate) holes: Vec<Hole>,
    pub(crate) slow: Vec<SlowSite>,
    pub(crate) bails: Vec<Bail>,
    pub(crate) lost: Vec<Lost>,
    /// Page offsets of a counted block's insns.
    pub(crate) starts: Vec<u16>,
    /// Calls of thunks that may not exist yet, with the cache offsets of their holes.
    pub(crate) wants: Vec<(Wish, usize)>,
    pub(crate) polls: Vec<PollSite>,
    pub(crate) traps: Vec<TrapSite>,
    pub(crate) seconds: Vec<SecondLook>,
    pub(crate) private: Private,
    /// Displacements that tell places of the unit at hand, and these.
    pub(crate) places: Vec<(usize, u32)>,
    /// Flags live and exposed behind each unit.
    pub(crate) behind: Vec<(u8, u8)>,
    /// Flags live before each.
    pub(crate) before: Vec<u8>,
    /// Cache offset of the block compiled last.
    start: usize,
}

impl Lists {
    /// Before a block.
    fn clear(&mut self) {
        self.labels.clear();
        self.holes.clear();
        self.slow.clear();
        self.bails.clear();
        self.lost.clear();
        self.starts.clear();
        self.wants.clear();
        self.polls.clear();
        self.traps.clear();
        self.seconds.clear();
    }
}

/// Bytes a block may need at most; a block that does not fit in the rest of the cache counts as full.
pub(crate) const BLOCK_ROOM: usize = 64 << 10;

/// Where code is put.
pub(crate) struct Space<'a> {
    pub(crate) bytes: &'a mut [u8],
    /// Cache offset of the first byte.
    pub(crate) at: usize,
    /// Code that is to be moved: where it reaches fixed code, by cache offset.
    pub(crate) outward: Option<&'a mut Vec<u32>>,
}

/// What compiles blocks, with its reusable memory. It knows where the fixed code of one cache is, and calls of thunks that may not exist
/// yet are left open.
pub struct Compiler {
    pub(crate) layout: StateLayout,
    pub(crate) thunks: Thunks,
    sites: Arc<Sites>,
    facts: FlagFacts,
    regs: Regs,
    lists: Lists,
    shelf: Shelf,
}

/// A block compiled away from its cache, as for offset 0 there. Made by [`Compiler::compile`], installed by [`crate::Jit::install`].
#[derive(Default)]
pub struct Piece {
    bytes: Vec<u8>,
    len: usize,
    code: Compiled,
    outward: Vec<u32>,
    wants: Vec<(Wish, usize)>,
    /// Instructions that go on at code of their own when they trap, and that code.
    traps: Vec<(usize, usize)>,
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x?} {:x?} {:?}", self.code(), self.outward, self.code)
    }
}

impl PartialEq for Piece {
    /// Is it the same code?
    fn eq(&self, other: &Self) -> bool {
        let places = |piece: &Self| {
            let mut places = piece.outward.clone();
            places.sort_unstable();
            places
        };
        (self.code(), &self.wants, &self.traps, &self.code)
            == (other.code(), &other.wants, &other.traps, &other.code)
            && places(self) == places(other)
    }
}

impl Piece {
    pub(crate) fn code(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
    pub(crate) fn outward(&self) -> impl Iterator<Item = usize> {
        self.outward.iter().map(|&at| at as usize)
    }
    pub(crate) fn wants(&self, start: usize) -> impl Iterator<Item = (Wish, usize)> {
        self.wants.iter().map(move |&(wish, hole)| (wish, start + hole))
    }
    pub(crate) fn traps(&self) -> &[(usize, usize)] {
        &self.traps
    }
    /// What it is when it begins at cache offset `start`.
    pub(crate) fn describe(&self, start: usize, out: &mut Compiled) {
        out.clone_from(&self.code);
        out.entry += start;
        out.end += start;
        out.far = out.far.map(|far| far + start);
        for exit in &mut out.exits {
            exit.site += start as u32;
            exit.poll += if exit.poll == 0 { 0 } else { start as u32 };
        }
    }
}

impl Compiler {
    pub(crate) fn new(layout: StateLayout, thunks: Thunks, sites: Arc<Sites>) -> Self {
        let (facts, regs, lists, shelf) = <_>::default();
        Self { layout, thunks, sites, facts, regs, lists, shelf }
    }
    /// Another for the same cache.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::new(self.layout, self.thunks.clone(), Arc::clone(&self.sites))
    }

    /// Compiles a block into `piece`, whose memory is reused.
    ///
    /// # Errors
    /// See [`CompileError`]; `piece` means nothing then.
    pub fn compile(
        &mut self,
        request: &Request<'_>,
        piece: &mut Piece,
    ) -> Result<(), CompileError> {
        piece.bytes.resize(BLOCK_ROOM, 0);
        piece.outward.clear();
        let (bytes, outward) = (&mut piece.bytes[..], Some(&mut piece.outward));
        let space = Space { bytes, at: 0, outward };
        piece.len = self.compile_to(request, space, &mut piece.code)?;
        piece.wants.clear();
        piece.wants.append(&mut self.lists.wants);
        piece.traps.clear();
        piece.traps.extend(self.traps());
        Ok(())
    }

    /// Compiles a block; returns the bytes of its code. Calls of thunks are left open ([`Compiler::wants`]).
    pub(crate) fn compile_to(
        &mut self,
        request: &Request<'_>,
        mut space: Space<'_>,
        out: &mut Compiled,
    ) -> Result<usize, CompileError> {
        let hot = request.tier == Tier::Hot;
        match self.attempt(request, &mut space, out, hot) {
            // Operands kept for flags may be what takes the registers.
            Err(CompileError::Registers | CompileError::Form(_)) if hot => {
                self.attempt(request, &mut space, out, false)
            }
            done => done,
        }
    }
    /// The open calls of the block just compiled: what they want, and the cache offsets of their holes.
    pub(crate) fn wants(&self) -> impl Iterator<Item = (Wish, usize)> {
        self.lists.wants.iter().copied()
    }
    /// Its instructions that go on at code of their own when they trap, and that code, by cache offset.
    pub(crate) fn traps(&self) -> impl Iterator<Item = (usize, usize)> {
        let start = self.lists.start;
        self.lists.traps.iter().map(move |site| (start + site.at, start + site.stub))
    }

    /// The same; `remakes`: flags may be made again instead of kept.
    fn attempt(
        &mut self,
        request: &Request<'_>,
        space: &mut Space<'_>,
        out: &mut Compiled,
        remakes: bool,
    ) -> Result<usize, CompileError> {
        let hot = request.tier == Tier::Hot;
        let late_traps = hot && remakes && request.late_traps && self.sites.has_room();
        let private = &mut self.lists.private;
        if hot {
            private.prepare(&request.block.ops, request.block.labels as usize);
        }
        let private = hot.then_some(&*private);
        let by_units = !(hot || request.counted || request.block.units.is_empty());
        if !by_units {
            self.facts.compute(request.block, request.exit_flags, late_traps, private);
            let temps = if hot { abi::SCRATCH_MASK } else { abi::COMPACT_TEMPS };
            self.regs.prepare(request.block, temps);
        }
        if let Some(outward) = &mut space.outward {
            outward.clear();
        }
        let (mut head, at) = (0, space.at);
        if let Some(far) = request.far {
            let asm = Asm::new(space.bytes).noting(space.outward.as_deref_mut());
            head = self.far_head(asm, at, (request.page_offset, far), None, None);
        }
        out.far = request.far.map(|_| at);
        let start = at + head;
        out.entry = start;
        out.insns.clear();
        out.exits.clear();
        let bytes = space.bytes.get_mut(head..).unwrap_or_default();
        self.lists.clear();
        self.lists.start = start;
        let mut emit = Emit {
            asm: Asm::new(bytes).noting(space.outward.as_deref_mut()),
            block: request.block,
            layout: &self.layout,
            thunks: &self.thunks,
            facts: &mut self.facts,
            regs: &mut self.regs,
            hot,
            seg: request.seg,
            exit_flags: request.exit_flags,
            start,
            at: 0,
            ops_end: 0,
            flags_home: true,
            flags_host: false,
            out,
            lists: &mut self.lists,
            page_offset: request.page_offset as u16,
            counted: request.counted,
            first_offset: request.page_offset as u16,
            recipe: None,
            prepared: None,
            partial: None,
            remakes,
            late_traps,
            guesses: hot && request.guesses,
            behind: 0,
            pending: [None; 2],
            fused: None,
            simd: 0,
            by_units,
            asked: Asked::default(),
        };
        let body = if by_units { emit.units(&mut self.shelf) } else { emit.body() };
        let done = body.and_then(|()| emit.finish());
        let len = emit.asm.pos();
        let full = emit.asm.overflowed();
        done?;
        if full {
            return Err(CompileError::Full);
        }
        out.end = start + len;
        Ok(head + len)
    }

    /// Where the state has what.
    pub(crate) fn layout(&self) -> &StateLayout {
        &self.layout
    }

    /// The code of an entry for indirect jumps ([`crate::Jit::far_entry`]) at cache offset `start`; without `entry` it leads to what is
    /// emitted next. Returns its bytes.
    pub(crate) fn far_head(
        &self,
        mut asm: Asm<'_>,
        start: usize,
        (page_offset, far): (u32, Far),
        counter: Option<i32>,
        entry: Option<usize>,
    ) -> usize {
        let leave_if = |asm: &mut Asm<'_>, cond| {
            let hole = asm.jcc(cond);
            asm.fix_cache(hole, start, self.thunks.exit_miss(far.pc_width));
        };
        if let Some(at) = counter {
            asm.alu_mi(Alu::Sub, Width::W8, state(at), 1);
            leave_if(&mut asm, Cond::E);
        }
        if far.polls {
            asm.alu_mi(Alu::Cmp, Width::W32, state(self.layout.jump_mask), 0);
            leave_if(&mut asm, Cond::E);
        }
        asm.lea(far.pc_width, abi::PC, Mem::base(abi::PC, (page_offset as i32).wrapping_neg()));
        asm.store(Width::W64, state(self.layout.pc_base), abi::PC);
        if let Some(entry) = entry {
            let hole = asm.jmp();
            asm.fix_cache(hole, start, entry);
        }
        asm.pos()
    }
}
