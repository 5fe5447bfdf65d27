//! Memory thunks: the slow path behind an inline check, or check, access and slow path together for compact code.

use ir::{AccessKind, Cond, Width};

use crate::abi::{self, THUNK_INDEX, THUNK_LIN, TLB};
use crate::asm::{Alu, Asm, Mem, state};
use crate::layout::{SegPolicy, StateLayout};
use crate::memory::{SlowKind, load_to};

/// A store whose value is already in the state (a constant).
pub(crate) const NO_VALUE: u8 = 31;

/// In a key's size: the address must be a multiple of the size.
pub(crate) const ALIGNED: u8 = 0x80;

/// In a key's segment: no limit is checked, so that only the TLB can have sent the access to the slow path.
pub(crate) const UNLIMITED: u8 = 0x80;

/// What a thunk does before the slow path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Part {
    /// Nothing: the check was inline and failed.
    SlowOnly,
    /// Everything, for this kind of segment; the register holds the offset.
    Whole(SegPolicy),
}

/// One shape of access. `value`: result or value register, [`NO_VALUE`], or 32 + addend register for a load or pointer that its
/// consumer takes from memory. `lin`: register of the linear address (of the offset, for whole accesses).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ThunkKey {
    pub(crate) part: Part,
    pub(crate) kind: SlowKind,
    /// Bytes, perhaps with [`ALIGNED`].
    pub(crate) size: u8,
    /// Segment number, perhaps with [`UNLIMITED`].
    pub(crate) seg: u8,
    pub(crate) lin: u8,
    pub(crate) value: u8,
    pub(crate) merge: bool,
}

impl ThunkKey {
    /// Its fields side by side.
    pub(crate) fn number(self) -> u64 {
        let part = match self.part {
            Part::SlowOnly => 0,
            Part::Whole(policy) => 1 + policy as u8,
        };
        let low = u32::from_le_bytes([part, self.seg, self.lin, self.value]);
        u64::from(self.meta() ^ u32::from(self.merge) << 31) << 32 | u64::from(low)
    }
    fn meta(self) -> u32 {
        self.kind as u32 | u32::from(self.size) << 8 | u32::from(self.seg) << 16
    }
    const fn bytes(self) -> i32 {
        (self.size & !ALIGNED) as i32
    }
    /// Width of a load or store.
    const fn width(self) -> Width {
        Width::from_bits(8 * self.size as u32)
    }
    const fn writes(self) -> bool {
        !matches!(self.kind.access(), AccessKind::R)
    }

    /// Emits it at the cursor; `common` is the cache offset of the call into the runtime.
    pub(crate) fn emit(self, asm: &mut Asm<'_>, start: usize, layout: &StateLayout, common: usize) {
        match self.part {
            Part::SlowOnly => self.slow(asm, start, layout, common, self.lin),
            Part::Whole(policy) => {
                let (lin, limit) = self.linear(asm, layout, policy);
                let misaligned = self.check_alignment(asm, lin);
                let miss = self.check(asm, layout, lin);
                self.fast(asm, lin);
                for hole in [limit, misaligned, Some(miss)].into_iter().flatten() {
                    let here = asm.pos();
                    asm.fix32(hole, here);
                }
                if lin == THUNK_LIN && self.part != Part::Whole(SegPolicy::Flat) {
                    // The check may have mixed the tag in: form the linear address again.
                    self.form_linear(asm, layout, policy);
                }
                self.slow(asm, start, layout, common, lin);
            }
        }
    }

    fn form_linear(self, asm: &mut Asm<'_>, layout: &StateLayout, policy: SegPolicy) {
        let window = layout.window[usize::from(self.seg & !UNLIMITED)];
        asm.load(Width::W64, THUNK_LIN, state(window.base));
        let w = if policy == SegPolicy::Base { Width::W64 } else { Width::W32 };
        asm.alu_rr(Alu::Add, w, THUNK_LIN, self.lin);
    }
    /// Base and limit by policy; returns the linear address's register and the limit check's hole.
    fn linear(
        self,
        asm: &mut Asm<'_>,
        layout: &StateLayout,
        policy: SegPolicy,
    ) -> (u8, Option<usize>) {
        let size = self.bytes();
        if policy == SegPolicy::Flat {
            return (self.lin, None);
        }
        let window = layout.window[usize::from(self.seg & !UNLIMITED)];
        let hole = match policy {
            SegPolicy::Base => None,
            SegPolicy::Wrap64K if size == 1 => None,
            SegPolicy::Wrap64K => {
                asm.alu_ri(Alu::Cmp, Width::W32, self.lin, 0x1_0000 - size);
                Some(asm.jcc(Cond::A))
            }
            _ => {
                let end = if self.writes() { window.write_end } else { window.read_end };
                asm.lea(Width::W64, THUNK_INDEX, Mem::base(self.lin, size));
                asm.alu_rm(Alu::Cmp, Width::W64, THUNK_INDEX, state(end));
                Some(asm.jcc(Cond::A))
            }
        };
        self.form_linear(asm, layout, policy);
        (THUNK_LIN, hole)
    }
    fn check_alignment(self, asm: &mut Asm<'_>, lin: u8) -> Option<usize> {
        if self.size & ALIGNED == 0 {
            return None;
        }
        asm.test_ri(Width::W8, lin, self.bytes() - 1);
        Some(asm.jcc(Cond::Ne))
    }
    /// TLB check; leaves the addend in [`THUNK_INDEX`]. Returns the miss's hole.
    fn check(self, asm: &mut Asm<'_>, layout: &StateLayout, lin: u8) -> usize {
        let table = if self.writes() { abi::TLB_WRITE } else { 0 };
        let tag = Mem::index(TLB, THUNK_INDEX, 3, table);
        let limit = 0x1000 - self.bytes();
        asm.pext_m(Width::W64, THUNK_INDEX, lin, state(layout.tlb_mask));
        let miss;
        if lin == THUNK_LIN {
            asm.alu_rm(Alu::Xor, Width::W64, lin, tag);
            asm.alu_ri(Alu::Cmp, Width::W64, lin, limit);
            miss = asm.jcc(Cond::A);
            asm.alu_rm(Alu::Xor, Width::W64, lin, tag);
        } else {
            asm.load(Width::W64, THUNK_LIN, tag);
            asm.alu_rr(Alu::Xor, Width::W64, THUNK_LIN, lin);
            asm.alu_ri(Alu::Cmp, Width::W64, THUNK_LIN, limit);
            miss = asm.jcc(Cond::A);
        }
        let addend = Mem::index(TLB, THUNK_INDEX, 3, table + abi::TLB_READ_ADDEND);
        asm.load(Width::W64, THUNK_INDEX, addend);
        miss
    }
    fn fast(self, asm: &mut Asm<'_>, lin: u8) {
        let mem = Mem::index(THUNK_INDEX, lin, 0, 0);
        match self.kind {
            SlowKind::Load => load_to(asm, self.width(), self.value, self.merge, mem),
            SlowKind::Store => asm.store(self.width(), mem, self.value),
            _ => asm.lea(Width::W64, self.value, mem),
        }
        asm.byte(0xC3);
    }
    /// Describes the access in the state, calls out, takes the result.
    fn slow(self, asm: &mut Asm<'_>, start: usize, layout: &StateLayout, common: usize, lin: u8) {
        let slot = state(layout.scratch + 8);
        asm.store(Width::W64, state(layout.scratch), lin);
        if self.kind == SlowKind::Store && self.value != NO_VALUE {
            asm.store(Width::W64, slot, self.value);
        }
        asm.store_i(Width::W32, state(layout.meta), self.meta() as i32);
        let hole = asm.call();
        asm.fix_cache(hole, start, common);
        match self.kind {
            SlowKind::Store | SlowKind::StoreBack => {}
            SlowKind::Load if self.value >= 32 => {
                let addend = self.value - 32;
                asm.lea(Width::W64, addend, slot);
                asm.alu_rr(Alu::Sub, Width::W64, addend, lin);
            }
            SlowKind::Load => load_to(asm, self.width(), self.value, self.merge, slot),
            _ if self.value >= 32 => {
                let addend = self.value - 32;
                asm.load(Width::W64, addend, slot);
                asm.alu_rr(Alu::Sub, Width::W64, addend, lin);
            }
            _ => asm.load(Width::W64, self.value, slot),
        }
        asm.byte(0xC3);
    }
}
