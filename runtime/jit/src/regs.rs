//! Where temporaries live: scratch registers while they last, frame slots beyond.
//!
//! One forward pass. A temporary gets a register at its first definition and loses it after its last use. When
//! registers run out, one that no label separates from its uses is spilled to the frame: no jump can lead past the spill to
//! a use.
//!
//! Guest registers that have no host register of their own live in the state. A scratch register that was loaded from such a
//! place, or in which such a register was computed, goes on holding a copy while nothing better wants it ("kept"). A computed
//! one is "ahead" of its place until it is stored there: when the scratch register is wanted, and before anyone can look.

use std::ops::Range;

use ir::{Block, Code, Op, Val};

use crate::abi;
use crate::asm::Mem;
use crate::compile::CompileError;

/// Place of a temporary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loc {
    None,
    Reg(u8),
    Slot(u8),
}

/// One temporary.
#[derive(Clone, Copy)]
struct Temp {
    loc: Loc,
    /// Index of the last op that mentions it.
    last_use: u32,
    /// Mentions.
    uses: u16,
    /// A label stands between its first and its last mention.
    crosses: bool,
    /// Labels before its first mention.
    seen: u32,
}

const FRESH: Temp = Temp { loc: Loc::None, last_use: 0, uses: 0, crosses: false, seen: 0 };

/// Per-temporary facts and the free registers.
#[derive(Default)]
pub(crate) struct Regs {
    list: Vec<Temp>,
    owner: [u16; 16],
    free: u16,
    locked: u16,
    slots: u32,
    /// Registers that may hold temporaries.
    temps: u16,
    /// Scratch registers that hold a copy of a guest register, and of which.
    copies: u16,
    copy_of: [u8; 16],
    /// Of these, those whose guest register's place is out of date.
    ahead: u16,
    /// Index of the last op that mentions each guest register from the ninth on.
    last_mention: [u32; 8],
}

const NOBODY: u16 = u16::MAX;
/// What must be stored before a register is used anew.
#[derive(Clone, Copy)]
pub(crate) enum Spill {
    /// A temporary, to this frame slot.
    Slot(u8),
    /// This guest register, to its place in the state.
    Home(u8),
}

/// Which guest register each scratch register is ahead of; 255 = none.
pub(crate) type Ahead = [u8; abi::SCRATCH.len()];

/// Kept for the next op (address of a fused load).
const HELD: u16 = u16::MAX - 1;

impl Regs {
    /// Computes life times for a block.
    pub(crate) fn prepare(&mut self, block: &Block, temps: u16) {
        self.prepare_for(block, 0..block.ops.len(), temps);
    }
    /// The same for some of its ops, which share no temporary with others.
    pub(crate) fn prepare_for(&mut self, block: &Block, ops: Range<usize>, temps: u16) {
        self.temps = temps;
        self.list.clear();
        self.list.resize(block.temps.len(), FRESH);
        self.last_mention = [0; 8];
        let mut seen = 0;
        let first = ops.start;
        for (i, op) in (first..).zip(&block.ops[ops]) {
            if op.code == Code::InsnStart {
                continue;
            }
            seen += u32::from(op.code == Code::Label);
            for v in [op.d, op.e, op.a, op.b, op.c] {
                if !is_tracked(v) {
                    continue;
                }
                if let Some(t) = v.as_temp() {
                    let temp = &mut self.list[usize::from(t)];
                    if temp.uses == 0 {
                        temp.seen = seen;
                    }
                    temp.crosses |= temp.seen != seen;
                    temp.last_use = i as u32;
                    temp.uses += 1;
                } else if let Some(n @ 8..) = v.as_gpr() {
                    self.last_mention[usize::from(n) & 7] = i as u32;
                }
            }
        }
        self.owner = [NOBODY; 16];
        self.free = abi::SCRATCH_MASK;
        self.locked = 0;
        self.slots = 0;
        self.copies = 0;
        self.ahead = 0;
    }

    pub(crate) fn loc(&self, t: u16) -> Loc {
        self.list[usize::from(t)].loc
    }
    /// Is `t` mentioned exactly twice (defined once, used once), the use being op `at`?
    pub(crate) fn only_use_is(&self, t: u16, at: usize) -> bool {
        let temp = &self.list[usize::from(t)];
        temp.uses == 2 && temp.last_use as usize == at
    }
    /// Keeps a register from being given away until [`Regs::end_op`].
    pub(crate) fn lock(&mut self, r: u8) {
        self.locked |= 1 << r;
    }

    /// A free scratch register, locked until the op's end. What it held and must be stored comes back.
    pub(crate) fn take(&mut self) -> Result<(u8, Option<Spill>), CompileError> {
        self.take_of(abi::SCRATCH_MASK)
    }
    /// The same, from the registers that may hold temporaries.
    pub(crate) fn take_temp(&mut self) -> Result<(u8, Option<Spill>), CompileError> {
        self.take_of(self.temps)
    }
    fn take_of(&mut self, from: u16) -> Result<(u8, Option<Spill>), CompileError> {
        // Registers that cannot hold temporaries go first where they may be taken.
        let order = abi::SCRATCH.into_iter();
        let open = self.free & !self.locked & from;
        let open = [self.copies, self.ahead]
            .into_iter()
            .map(|held| open & !held)
            .find(|&open| open != 0)
            .unwrap_or(open);
        let preferred = if open & !self.temps != 0 { open & !self.temps } else { open };
        if let Some(r) = order.clone().find(|&r| preferred & 1 << r != 0) {
            let is_ahead = self.ahead & 1 << r != 0;
            self.free &= !(1 << r);
            self.copies &= !(1 << r);
            self.ahead &= !(1 << r);
            self.locked |= 1 << r;
            self.owner[usize::from(r)] = NOBODY;
            return Ok((r, is_ahead.then_some(Spill::Home(self.copy_of[usize::from(r)]))));
        }
        for r in order.filter(|&r| from & 1 << r != 0) {
            let t = self.owner[usize::from(r)];
            if self.locked & 1 << r == 0 && t < HELD && !self.list[usize::from(t)].crosses {
                let slot = self.new_slot()?;
                self.list[usize::from(t)].loc = Loc::Slot(slot);
                self.owner[usize::from(r)] = NOBODY;
                self.locked |= 1 << r;
                return Ok((r, Some(Spill::Slot(slot))));
            }
        }
        Err(CompileError::Registers)
    }
    /// A frame slot that is used for nothing else in this block.
    pub(crate) fn new_slot(&mut self) -> Result<u8, CompileError> {
        if self.slots as usize >= abi::SLOTS {
            return Err(CompileError::Registers);
        }
        self.slots += 1;
        Ok(self.slots as u8 - 1)
    }
    /// Gives register `r` (taken before) to temporary `t`.
    pub(crate) fn bind(&mut self, t: u16, r: u8) {
        if let Loc::Reg(old) = self.list[usize::from(t)].loc
            && old != r
        {
            self.release(old);
        }
        self.list[usize::from(t)].loc = Loc::Reg(r);
        self.owner[usize::from(r)] = t;
        self.free &= !(1 << r);
    }
    /// Temporary `t` stays where it is up to op `until`, for the flags it is an operand of; `crosses`: a label comes before that.
    pub(crate) fn lend(&mut self, t: u16, until: usize, crosses: bool) {
        let temp = &mut self.list[usize::from(t)];
        temp.last_use = temp.last_use.max(until as u32);
        temp.crosses |= crosses;
    }
    /// Behind op `at`: nothing asks for temporary `t` any more but what mentions it.
    pub(crate) fn expire(&mut self, t: u16, at: usize) {
        let temp = &mut self.list[usize::from(t)];
        if temp.last_use as usize <= at
            && let Loc::Reg(r) = temp.loc
        {
            temp.loc = Loc::None;
            if self.owner[usize::from(r)] == t {
                self.release(r);
            }
        }
    }
    /// Returns a register taken for the op's own use.
    pub(crate) fn release(&mut self, r: u8) {
        if abi::SCRATCH_MASK & 1 << r != 0 {
            self.free |= 1 << r;
            self.locked &= !(1 << r);
            self.owner[usize::from(r)] = NOBODY;
        }
    }
    /// Keeps scratch register `r` beyond this op, until [`Regs::release`]. A live temporary's register needs no keeping.
    pub(crate) fn hold(&mut self, r: u8, at: usize) {
        if abi::SCRATCH_MASK & 1 << r == 0 {
            return;
        }
        let owner = self.owner[usize::from(r)];
        if owner < HELD && self.list[usize::from(owner)].last_use as usize > at {
            return;
        }
        self.owner[usize::from(r)] = HELD;
        self.free &= !(1 << r);
    }
    /// Ends a hold.
    pub(crate) fn unhold(&mut self, r: u8) {
        if abi::SCRATCH_MASK & 1 << r != 0 && self.owner[usize::from(r)] == HELD {
            self.release(r);
        }
    }
    /// Frees the registers of source temporaries that op `at` was the last to read, before its results are placed.
    pub(crate) fn end_sources(&mut self, at: usize, op: &Op) {
        for v in [op.a, op.b, op.c] {
            if let Some(t) = v.as_temp()
                && v != op.d
                && v != op.e
                && self.list[usize::from(t)].last_use as usize <= at
                && let Loc::Reg(r) = self.list[usize::from(t)].loc
                && self.owner[usize::from(r)] != HELD
            {
                self.release(r);
                self.list[usize::from(t)].loc = Loc::None;
            }
        }
    }
    /// The register that holds a copy of guest register `n`, locked until the op's end.
    pub(crate) fn kept(&mut self, n: u8) -> Option<u8> {
        let r = self.holder(n)?;
        self.lock(r);
        Some(r)
    }
    /// The register that holds a copy of guest register `n`.
    pub(crate) fn holder(&self, n: u8) -> Option<u8> {
        let mut left = self.copies;
        while left != 0 {
            let r = left.trailing_zeros() as u8;
            if self.copy_of[usize::from(r)] == n {
                return Some(r);
            }
            left &= left - 1;
        }
        None
    }
    /// Is guest register `n` neither held in a register nor mentioned behind op `at`?
    pub(crate) fn is_passing(&self, n: u8, at: usize) -> bool {
        let is_kept = (0..16).any(|r| self.copies & 1 << r != 0 && self.copy_of[r] == n);
        !is_kept && self.last_mention[usize::from(n) & 7] as usize <= at
    }
    /// Is guest register `n` mentioned behind op `at`?
    pub(crate) fn comes_again(&self, n: u8, at: usize) -> bool {
        self.last_mention[usize::from(n) & 7] as usize > at
    }
    /// Register `r`, the op's own, now equals guest register `n`. Can it be kept?
    pub(crate) fn keep(&mut self, n: u8, r: u8) -> bool {
        self.forget(n);
        let can = self.temps & 1 << r != 0 && self.owner[usize::from(r)] >= HELD;
        if can {
            self.copies |= 1 << r;
            self.copy_of[usize::from(r)] = n;
        }
        can
    }
    /// Kept register `r` got a new value of its guest register.
    pub(crate) fn set_ahead(&mut self, r: u8) {
        self.ahead |= 1 << r;
    }
    /// Which scratch registers are ahead, and of what.
    pub(crate) fn ahead(&self) -> Ahead {
        abi::SCRATCH.map(|r| match self.ahead & 1 << r {
            0 => u8::MAX,
            _ => self.copy_of[usize::from(r)],
        })
    }
    /// Is any guest register's place out of date?
    pub(crate) fn is_any_ahead(&self) -> bool {
        self.ahead != 0
    }
    /// All places are current again.
    pub(crate) fn settle(&mut self) {
        self.ahead = 0;
    }
    /// Guest register `n` got another value.
    pub(crate) fn forget(&mut self, n: u8) {
        let mut left = self.copies;
        while left != 0 {
            let r = left.trailing_zeros() as u8;
            if self.copy_of[usize::from(r)] == n {
                self.copies &= !(1 << r);
                self.ahead &= !(1 << r);
            }
            left &= left - 1;
        }
    }
    /// Other paths join, or any guest register may have got another value.
    pub(crate) fn forget_all(&mut self) {
        debug_assert!(self.ahead == 0, "a guest register's place is out of date");
        self.copies = 0;
    }
    /// May register `r` hold a temporary?
    pub(crate) fn may_hold(&self, r: u8) -> bool {
        self.temps & 1 << r != 0
    }
    /// After op `at`: unlock, and free the registers of temporaries that are done.
    pub(crate) fn end_op(&mut self, at: usize, op: &Op) {
        if self.locked == 0 && self.free == abi::SCRATCH_MASK {
            return;
        }
        self.locked = 0;
        for v in [op.d, op.e, op.a, op.b, op.c] {
            if let Some(t) = v.as_temp()
                && self.list[usize::from(t)].last_use as usize <= at
                && let Loc::Reg(r) = self.list[usize::from(t)].loc
            {
                if self.owner[usize::from(r)] != HELD {
                    self.release(r);
                }
                self.list[usize::from(t)].loc = Loc::None;
            }
        }
        for r in abi::SCRATCH {
            if self.owner[usize::from(r)] == NOBODY {
                self.free |= 1 << r;
            }
        }
    }
}

/// Is `v` a temporary or a guest register from the ninth on? Some others pass, too: one comparison sorts out most.
fn is_tracked(v: Val) -> bool {
    (8..0x8000).contains(&v.0)
}

/// Frame slot as a memory operand.
pub(crate) fn slot_mem(slot: u8) -> Mem {
    Mem::base(abi::reg::RSP, i32::from(slot) * 8)
}
