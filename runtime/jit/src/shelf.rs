//! Code of insns kept for the next time: compact blocks are put together from it.
//!
//! Units that have a name (`ir::Unit`) are the same ops wherever they stand. Compact code begins and ends each unit with nothing kept
//! from one to the next but flags, so that a unit's code depends on its name, its values and a few bits ([`Emit::context`]). It is kept
//! with what tells where it stands, and put elsewhere by a copy. Where a unit made from other values ([`Unit::probe`]) comes to the same
//! code but for the bytes of these values, it is good for all values of their classes.

use std::ops::Range;

use ir::{Code, Op, Unit, unit};

use crate::abi;
use crate::asked::Asked;
use crate::asm::FILLED;
use crate::compile::{CompileError, Emit, Exit};
use crate::thunks::Wish;

/// Most bytes of a unit's code that is kept.
const BYTES: usize = 46;
/// Most places in it that are written anew.
const PATCHES: usize = 4;
/// Contexts and values that a unit's code is kept for.
const WAYS: usize = 4;

/// What is written anew at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patch {
    /// The way to this cache offset.
    Fixed(u32),
    /// The way to a thunk.
    Want(Wish),
    /// One of the unit's places as four bytes.
    Place(u8),
    /// Some low bytes of one of its values.
    Value(u8, u8),
    /// A direct exit to one of its places by this slot, perhaps backward.
    Exit(u8, bool, u8),
}

/// A unit's code in one context.
#[derive(Clone, Copy)]
#[repr(C, align(128))]
struct Body {
    name: u32,
    /// Number of another body of the same name, or [`NONE`].
    next: u32,
    context: u32,
    /// It is for these values, or for all of their classes.
    values: [i32; 2],
    is_general: bool,
    /// Its context says where flags are before it, or which are wanted behind.
    asks: [bool; 2],
    /// Where flags are behind it: home, in EFLAGS.
    flags: u8,
    simd: u8,
    through: Through,
    len: u8,
    count: u8,
    bytes: [u8; BYTES],
    at: [u8; PATCHES],
    patches: [Patch; PATCHES],
}

/// Flags live and exposed before a unit, where none are behind it and where all are.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Through {
    least: (u8, u8),
    most: (u8, u8),
}

impl Through {
    /// Each flag for itself is made live, kept as it is or killed.
    fn before(self, (live, exposed): (u8, u8)) -> (u8, u8) {
        (self.least.0 | self.most.0 & live, self.least.1 | self.most.1 & exposed)
    }
}

impl Body {
    const EMPTY: Self = Self {
        name: 0,
        next: NONE,
        context: 0,
        values: [0; 2],
        is_general: false,
        asks: [true; 2],
        flags: 0,
        simd: 0,
        through: Through { least: (0, 0), most: (0, 0) },
        len: 0,
        count: 0,
        bytes: [0; BYTES],
        at: [0; PATCHES],
        patches: [Patch::Fixed(0); PATCHES],
    };

    /// The bits of a context that matter.
    fn mask(&self) -> u32 {
        const PLACES: u32 = 0xFF_3000;
        const WANTED: u32 = 0xFFF;
        let masks = [if self.asks[0] { PLACES } else { 0 }, if self.asks[1] { WANTED } else { 0 }];
        1 << 31 | masks[0] | masks[1]
    }
    fn is_for(&self, context: u32) -> bool {
        self.context == context & self.mask()
    }
    fn is_of(&self, unit: &Unit) -> bool {
        let same = self.values.map(i64::from) == unit.values;
        self.name == unit.name && (self.is_general || same)
    }
    fn add(&mut self, at: usize, patch: Patch) -> Option<()> {
        let n = usize::from(self.count);
        *self.at.get_mut(n)? = u8::try_from(at).ok()?;
        self.patches[n] = patch;
        self.count += 1;
        Some(())
    }
    /// The same code for all values of the classes, if `other`, made from [`unit::others`], says so.
    fn general(mut self, unit: &Unit, other: &Self) -> Option<Self> {
        let count = usize::from(self.count);
        let is_same = (self.len, self.count, self.flags, self.simd)
            == (other.len, other.count, other.flags, other.simd)
            && self.through == other.through
            && self.at[..count] == other.at[..count]
            && self.patches[..count] == other.patches[..count];
        let others = unit::others(unit.values)?;
        let mut at = 0;
        while is_same && at < usize::from(self.len) {
            if self.bytes[at] == other.bytes[at] {
                at += 1;
                continue;
            }
            // It must be all bytes of a value that may differ.
            let is_value = |n: usize| {
                let len = unit::class_bytes(unit.values[n]);
                let [mine, its] = [unit.values[n], others[n]].map(i64::to_le_bytes);
                len != 0
                    && self.bytes.get(at..at + len) == mine.get(..len)
                    && other.bytes.get(at..at + len) == its.get(..len)
            };
            let n = (0..2).find(|&n| is_value(n))?;
            let len = unit::class_bytes(unit.values[n]);
            self.add(at, Patch::Value(n as u8, len as u8))?;
            at += len;
        }
        self.is_general = true;
        is_same.then_some(self)
    }
}

/// The units that are known.
#[derive(Default)]
pub(crate) struct Shelf {
    /// One for each name, then others of the same names.
    bodies: Vec<Body>,
    /// Which of a name's bodies goes next.
    turn: usize,
}

impl Shelf {
    /// A name's bodies by number, as many as there are places.
    fn numbers(&self, name: u32) -> impl Iterator<Item = usize> {
        let next = |&n: &usize| self.bodies.get(n).map(|body| body.next as usize);
        std::iter::successors(Some(name as usize % Unit::NAMES), next)
            .take_while(|&n| n != NONE as usize)
    }
    fn of(&self, unit: &Unit) -> impl Iterator<Item = &Body> {
        self.numbers(unit.name).filter_map(|n| self.bodies.get(n)).filter(|body| body.is_of(unit))
    }
    fn find(&self, unit: &Unit, context: u32) -> Option<&Body> {
        self.of(unit).find(|body| body.is_for(context))
    }
    #[cold]
    fn add(&mut self, body: &Body) {
        if self.bodies.is_empty() {
            self.bodies.resize(Unit::NAMES, Body::EMPTY);
        }
        let is_free = |&n: &usize| self.bodies[n].name != body.name;
        let free = self.numbers(body.name).find(is_free);
        let number = free.unwrap_or_else(|| {
            let count = self.numbers(body.name).count();
            let last = self.numbers(body.name).last().unwrap_or_default();
            if count < WAYS {
                self.bodies[last].next = self.bodies.len() as u32;
                self.bodies.push(Body::EMPTY);
                return self.bodies.len() - 1;
            }
            self.turn += 1;
            self.numbers(body.name).nth(self.turn % WAYS).unwrap_or(last)
        });
        let place = &mut self.bodies[number];
        *place = Body { next: place.next, ..*body };
    }
}

/// In the place of a body's number: there is none.
const NONE: u32 = u32::MAX;

/// Where a unit's code begins, to know what belongs to it.
#[derive(Clone, Copy)]
struct Begun {
    at: usize,
    noted: usize,
    fills: usize,
    wants: usize,
    exits: usize,
    insns: usize,
    holes: usize,
    flags: (bool, bool),
    simd: u8,
}

impl Emit<'_> {
    /// Emits a compact block unit by unit.
    pub(crate) fn units(&mut self, shelf: &mut Shelf) -> Result<(), CompileError> {
        self.scan_units(shelf)?;
        let block = self.block;
        for (n, unit) in block.units.iter().enumerate() {
            if self.lists.before[n] == 0 {
                // Nobody wants them: they may as well be home.
                (self.flags_home, self.flags_host) = (true, false);
            }
            let context = self.context(self.lists.behind[n]);
            if unit.name != 0
                && let Some(body) = shelf.find(unit, context)
            {
                self.put(unit, body);
            } else if unit.name != 0 && unit.ops.is_empty() {
                return Err(CompileError::Unlowered(n));
            } else {
                self.make(n, context, shelf)?;
            }
        }
        Ok(())
    }
    /// Flags live and exposed behind each unit.
    fn scan_units(&mut self, shelf: &Shelf) -> Result<(), CompileError> {
        let block = self.block;
        self.facts.begin(block);
        self.lists.labels.resize(block.labels as usize, usize::MAX);
        self.lists.behind.clear();
        self.lists.behind.resize(block.units.len(), (63, 63));
        self.lists.before.clear();
        self.lists.before.resize(block.units.len(), 63);
        // All are looked for before anything rests on one: they come from far away, and together.
        let is_missing =
            |unit: &Unit| unit.ops.is_empty() && unit.name != 0 && shelf.of(unit).next().is_none();
        let mut missing =
            block.units.iter().map(is_missing).enumerate().filter(|&(_, missing)| missing);
        if let Some((n, _)) = missing.next_back() {
            return Err(CompileError::Unlowered(n));
        }
        let mut state = (63, 63);
        for (n, unit) in block.units.iter().enumerate().rev() {
            self.lists.behind[n] = state;
            state = if !unit.ops.is_empty() {
                self.facts.scan(block, unit.ops.clone(), state)
            } else if unit.name == 0 {
                state
            } else {
                let body = shelf.of(unit).next().ok_or(CompileError::Unlowered(n))?;
                body.through.before(state)
            };
            self.lists.before[n] = state.0;
        }
        Ok(())
    }
    /// All that the code of a unit with a name depends on beside that: flags live and exposed behind it, where they are before it, and what
    /// is ready of FP and vector state. Not 0.
    fn context(&self, (live, exposed): (u8, u8)) -> u32 {
        let flags = u32::from(live) | u32::from(exposed) << 6 | u32::from(self.places()) << 12;
        1 << 31 | u32::from(self.simd) << 16 | flags
    }
    /// Where flags are, as bits.
    fn places(&self) -> u8 {
        u8::from(self.flags_home) | u8::from(self.flags_host) << 1
    }
    /// Puts a unit's code here.
    fn put(&mut self, unit: &Unit, body: &Body) {
        let from = self.asm.pos();
        self.page_offset = unit.places[0] as u16;
        self.mark(self.page_offset, 0);
        self.asm.chunk(&body.bytes, body.len.into());
        for (&at, patch) in body.at.iter().zip(&body.patches[..body.count.into()]) {
            let at = from + usize::from(at);
            match *patch {
                Patch::Fixed(target) => self.asm.fix_cache(at, self.start, target as usize),
                Patch::Want(wish) => self.want(wish, self.start + at),
                Patch::Place(n) => {
                    let place = unit.places[usize::from(n) % 3];
                    self.asm.put(at, &place.to_le_bytes());
                }
                Patch::Value(n, len) => {
                    let value = unit.values[usize::from(n) % 2].to_le_bytes();
                    self.asm.put(at, &value[..usize::from(len) % 8]);
                }
                Patch::Exit(slot, backward, n) => {
                    self.asm.fix_cache(at, self.start, self.thunks.exit_link);
                    let page_offset = unit.places[usize::from(n) % 3];
                    let site = (self.start + at) as u32 - 1;
                    let exit = Exit { site, poll: 0, page_offset, slot, backward };
                    self.out.exits.push(exit);
                }
            }
        }
        if body.asks[0] {
            (self.flags_home, self.flags_host) = (body.flags & 1 != 0, body.flags & 2 != 0);
            self.simd = body.simd;
        }
    }

    /// Emits unit `n` from its ops, and keeps its code if it has a name.
    #[cold]
    fn make(&mut self, n: usize, context: u32, shelf: &mut Shelf) -> Result<(), CompileError> {
        let block = self.block;
        let (unit, behind) = (&block.units[n], self.lists.behind[n]);
        let begun = self.begun();
        self.asked = Asked::begin(unit.ops.start);
        self.unit_ops(&unit.ops)?;
        if unit.name == 0 {
            return Ok(());
        }
        self.fill_holes(begun.holes)?;
        self.lists.holes.truncate(begun.holes);
        let Some(mut body) = self.body_since(&begun, unit) else {
            return Ok(());
        };
        body.through = self.through(&unit.ops);
        body.asks = [self.asked.places, self.asked.rests_on(|n| self.facts.differs(n))];
        (body.name, body.context) = (unit.name, context & body.mask());
        let singles = unit.values.map(|value| unit::class_bytes(value) == 0);
        body.is_general = singles == [true; 2];
        if !unit.probe.is_empty() && self.takes_any(&unit.ops, &unit.probe) {
            let end = self.begun();
            (self.flags_home, self.flags_host, self.simd) =
                (begun.flags.0, begun.flags.1, begun.simd);
            self.facts.scan(block, unit.probe.clone(), behind);
            let other = match self.unit_ops(&unit.probe) {
                Ok(()) if self.fill_holes(begun.holes).is_ok() => self.body_since(&end, unit),
                _ => None,
            };
            self.take_back(&end);
            let other = other.map(|other| Body { through: self.through(&unit.probe), ..other });
            body = other.and_then(|other| body.general(unit, &other)).unwrap_or(body);
        }
        shelf.add(&body);
        Ok(())
    }
    /// Emits the ops of a unit, with nothing kept in registers before and behind.
    fn unit_ops(&mut self, ops: &Range<usize>) -> Result<(), CompileError> {
        self.lists.places.clear();
        self.regs.prepare_for(self.block, ops.clone(), abi::COMPACT_TEMPS);
        self.ops(ops.clone())?;
        if self.regs.is_any_ahead() {
            self.store_homes();
        }
        self.regs.forget_all();
        Ok(())
    }
    fn begun(&self) -> Begun {
        Begun {
            at: self.asm.pos(),
            noted: self.asm.noted(),
            fills: self.asm.fills,
            wants: self.lists.wants.len(),
            exits: self.out.exits.len(),
            insns: self.out.insns.len(),
            holes: self.lists.holes.len(),
            flags: (self.flags_home, self.flags_host),
            simd: self.simd,
        }
    }
    /// Undoes what was emitted since.
    fn take_back(&mut self, to: &Begun) {
        self.asm.rewind(to.at, to.noted);
        self.lists.wants.truncate(to.wants);
        self.out.exits.truncate(to.exits);
        self.out.insns.truncate(to.insns);
        self.lists.holes.truncate(to.holes);
        (self.flags_home, self.flags_host) = to.flags;
        self.simd = to.simd;
        (self.pending, self.fused) = ([None; 2], None);
    }
    fn through(&mut self, ops: &Range<usize>) -> Through {
        let least = self.facts.scan(self.block, ops.clone(), (0, 0));
        self.facts.keep_least(ops.end);
        let most = self.facts.scan(self.block, ops.clone(), (63, 63));
        Through { least, most }
    }
    /// Do these ops, which two values of a class came to, differ in nothing but what their host code takes whatever it is?
    fn takes_any(&self, ops: &Range<usize>, others: &Range<usize>) -> bool {
        let (Some(ops), Some(others)) =
            (self.block.ops.get(ops.clone()), self.block.ops.get(others.clone()))
        else {
            return false;
        };
        let constant = |v| self.block.const_of(v);
        let takes = |(op, other): (&Op, &Op)| {
            let sources = [(op.a, other.a), (op.b, other.b), (op.c, other.c), (op.e, other.e)];
            let is_any = matches!(
                op.code,
                Code::Mov
                    | Code::Add
                    | Code::Sub
                    | Code::Adc
                    | Code::Sbb
                    | Code::And
                    | Code::Or
                    | Code::Xor
                    | Code::Imul
                    | Code::Lea
                    | Code::Ld
                    | Code::St
                    | Code::Ptr
                    | Code::LdH
                    | Code::StH
                    | Code::StEnv
                    | Code::Call
            );
            let same = sources.iter().all(|&(v, other)| constant(v) == constant(other));
            let moves = op.imm != other.imm && !matches!(op.code, Code::Lea);
            // Labels have numbers of their own.
            let moves = moves && op.code != Code::Label && !op.code.is_branch();
            (op.code, op.w, op.x, op.y) == (other.code, other.w, other.x, other.y)
                && (is_any || same)
                && !moves
        };
        ops.len() == others.len() && ops.iter().zip(others).all(takes)
    }

    /// The code of a unit just emitted, if it can be put elsewhere.
    fn body_since(&self, begun: &Begun, unit: &Unit) -> Option<Body> {
        let code = self.asm.since(begun.at);
        let mut body = Body {
            len: code.len() as u8, // at most BYTES
            values: [i32::try_from(unit.values[0]).ok()?, i32::try_from(unit.values[1]).ok()?],
            flags: self.places(),
            simd: self.simd,
            ..Body::EMPTY
        };
        body.bytes.get_mut(..code.len())?.copy_from_slice(code);
        let place = |value| unit.places.iter().position(|&p| p == value).map(|n| n as u8);
        let exits = &self.out.exits[begun.exits..];
        let site_of = |exit: &Exit| exit.site as usize + 1 - self.start;
        for exit in exits {
            let n = place(exit.page_offset)?;
            body.add(site_of(exit) - begun.at, Patch::Exit(exit.slot, exit.backward, n))?;
        }
        if self.asm.fills - begun.fills > FILLED {
            return None;
        }
        for n in begun.fills..self.asm.fills {
            let (at, target) = self.asm.filled[n % FILLED];
            if !exits.iter().any(|exit| site_of(exit) == at) {
                body.add(at - begun.at, Patch::Fixed(target as u32))?;
            }
        }
        for &(wish, at) in &self.lists.wants[begun.wants..] {
            body.add(at - self.start - begun.at, Patch::Want(wish))?;
        }
        for &(at, value) in &self.lists.places {
            body.add(at - begun.at, Patch::Place(place(value)?))?;
        }
        // What tells where the code stands means nothing in it.
        for (&at, patch) in body.at.iter().zip(&body.patches[..body.count.into()]) {
            if !matches!(patch, Patch::Value(..))
                && let Some(bytes) = body.bytes.get_mut(usize::from(at)..usize::from(at) + 4)
            {
                bytes.fill(0);
            }
        }
        Some(body)
    }
}

const _: () = assert!(size_of::<Body>() == 128);
