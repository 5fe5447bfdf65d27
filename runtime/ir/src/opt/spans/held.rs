//! What memory is known to hold: values that a block loaded or stored shortly before.
//!
//! A load that comes to the same place again makes the same value, so that addresses made from it are recognized, and if a register still
//! has it, the load is a move. All this holds for plain RAM that nobody else changes in between, which is known only when the spans are formed:
//! each use is noted and looked at then. Where a use does not hold, the spans are formed once more without it.

use super::{Access, Value};
use crate::{Op, Val, Width};

/// Most places that are remembered.
const MOST: usize = 24;

/// A place and what it holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    at: Value,
    seg: u8,
    w: Width,
    /// The value of the register that it came from or went to.
    value: Value,
    /// It is all of that value.
    is_whole: bool,
    /// Which access told.
    access: u16,
}

impl Held {
    /// Does an access begin where this lies?
    fn is_at(&self, a: &Access, mask: u64) -> bool {
        let is_same = self.at.off.wrapping_sub(a.at.off) & mask == 0;
        self.at.root == a.at.root && self.seg == a.seg && is_same
    }
}

/// What is known of memory at one point of the walk.
#[derive(Default, Debug)]
pub(super) struct Memory {
    held: Vec<Held>,
    /// Uses: the access that told, the one that was told, and the register to take it from instead, if there is one.
    uses: Vec<(u16, u16, Option<Val>)>,
    /// Accesses that must ask memory.
    asking: Vec<u16>,
    pub(super) is_on: bool,
    /// Bits of an address that count.
    mask: u64,
}

impl Memory {
    pub(super) fn begin(&mut self, mask: u64) {
        self.mask = mask;
        self.held.clear();
        self.uses.clear();
    }
    /// Nothing is known to stand where it stood.
    pub(super) fn forget(&mut self) {
        self.held.clear();
    }
    /// What access number `n`, a load, finds: a value, and whether the load makes all of that value.
    pub(super) fn load(
        &mut self,
        n: usize,
        a: &Access,
        op: &Op,
        registers: &[Value; 16],
    ) -> Option<Value> {
        if !self.is_on || self.asking.contains(&(n as u16)) {
            return None;
        }
        let mask = self.mask;
        let held = *self.held.iter().find(|h| h.is_at(a, mask) && h.w == op.w)?;
        // The first eight are at hand.
        let register = registers[..8].iter().position(|&r| r == held.value);
        let from = register.map(|r| Val::gpr(r as u8));
        if from.is_some() || held.is_whole {
            self.uses.push((held.access, n as u16, from));
        }
        held.is_whole.then_some(held.value)
    }
    /// Access number `n` loaded this.
    pub(super) fn loaded(&mut self, n: usize, a: &Access, op: &Op, value: Value) {
        self.note(n, a, op, value, true);
    }
    /// Access number `n` stores this, all of a value if `is_whole`.
    pub(super) fn store(&mut self, n: usize, a: &Access, op: &Op, value: Value, is_whole: bool) {
        let (size, mask) = (u64::from(a.size), self.mask);
        self.held.retain(|h| {
            let there = h.at.off.wrapping_sub(a.at.off) & mask;
            let back = a.at.off.wrapping_sub(h.at.off) & mask;
            let is_beside = there >= size && back >= u64::from(h.w.bytes());
            h.at.root == a.at.root && h.seg == a.seg && is_beside
        });
        self.note(n, a, op, value, is_whole);
    }
    fn note(&mut self, n: usize, a: &Access, op: &Op, value: Value, is_whole: bool) {
        if self.is_on && op.w >= Width::W32 && self.held.len() < MOST {
            let (at, seg, w) = (a.at, a.seg, op.w);
            let access = n as u16; // there are fewer
            let mask = self.mask;
            self.held.retain(|h| !h.is_at(a, mask) || h.w != w);
            self.held.push(Held { at, seg, w, value, is_whole, access });
        }
    }
    /// How many uses there are.
    pub(super) fn uses(&self) -> usize {
        self.uses.len()
    }
    /// The accesses from the one that told to the one that was told, if these two are of one span.
    pub(super) fn between(&self, n: usize, accesses: &[Access]) -> Option<(usize, usize)> {
        let &(from, to, _) = self.uses.get(n)?;
        let (from, to) = (usize::from(from), usize::from(to));
        let span = accesses.get(from)?.span;
        (span.is_some() && accesses.get(to)?.span == span).then_some((from, to))
    }
    /// The spans are formed: are all uses within plain RAM? Those that are not ask memory from now on.
    pub(super) fn is_sound(&mut self, accesses: &[Access]) -> bool {
        let known = self.asking.len();
        for &(from, to, _) in &self.uses {
            let between = accesses.get(usize::from(from)..=usize::from(to)).unwrap_or_default();
            let (first, last) = (between.first(), between.last());
            let is_one = first.map(|a| a.span) == last.map(|a| a.span);
            if !(is_one && between.iter().all(|a| a.span.is_some())) {
                self.asking.push(to);
            }
        }
        self.asking.len() == known
    }
    /// Forgets which accesses must ask.
    pub(super) fn begin_block(&mut self, is_on: bool) {
        self.asking.clear();
        self.is_on = is_on;
    }
    /// The register to take the result of access number `n` from.
    pub(super) fn instead(&self, n: usize) -> Option<Val> {
        let found = self.uses.iter().find(|u| usize::from(u.1) == n)?;
        found.2
    }
}
