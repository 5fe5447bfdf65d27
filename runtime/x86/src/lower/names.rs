//! Names of insns whose host code may be known: what makes compact code asks for ops only where it is not.
//!
//! A name stands for what lowering depends on, but for three things that it is told apart: where the insn stands and leads, its displacement
//! and its immediate, of which the name has only the class (`ir::unit`). Which of these get into the code unchanged is for
//! whoever keeps code to find out; therefore an insn with a new name is lowered once more with other values.

use super::memo::Known;
use super::{Flow, Lower};
use crate::insn::Insn;
use crate::mode::Mode;
use ir::{Unit, unit};

const WAYS: usize = 2;
const SETS: usize = Unit::NAMES / WAYS;

/// One name.
#[derive(Clone, Copy, Debug, Default)]
struct Name {
    /// What it is the name of, plus one.
    key: u128,
    name: u32,
    is_end: bool,
    stage: Stage,
}

/// How far an insn has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    /// It was met once, which says nothing.
    #[default]
    Met,
    /// It was met again, and lowered for those who keep code.
    Kept,
}

/// A set of the table, a line of the host's cache.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Set([Name; WAYS]);

/// The table. What was asked for last comes first in its set.
#[derive(Debug, Default)]
pub(super) struct Names {
    sets: Vec<Set>,
    /// Names given so far.
    made: u32,
}

impl Names {
    fn set(key: u128) -> usize {
        const BY: u64 = 0x9E37_79B9_7F4A_7C15;
        let mixed = (key as u64).wrapping_mul(BY).rotate_left(32) ^ (key >> 64) as u64;
        let mixed = mixed.wrapping_mul(BY);
        (mixed >> 40) as usize % SETS
    }
    fn find(&mut self, key: u128) -> Option<&mut Name> {
        let Set(set) = self.sets.get_mut(Self::set(key))?;
        let way = set.iter().position(|name| name.key == key + 1)?;
        set.swap(0, way);
        Some(&mut set[0])
    }
    /// Gives `key` a name, and up another's for it. Names are not used again: when they have run out there are none.
    fn add(&mut self, key: u128, is_end: bool) {
        const STEP: u32 = Unit::NAMES as u32;
        if self.sets.is_empty() {
            self.sets.resize(SETS, Set::default());
        }
        self.made = self.made.saturating_add(1);
        if self.made >= u32::MAX / STEP {
            return;
        }
        let number = Self::set(key);
        let Set(set) = &mut self.sets[number];
        let first = (number * WAYS) as u32;
        set.swap(0, 1);
        // The two names of a set never have the same number.
        let low = if set[1].name % STEP == first { first + 1 } else { first };
        let name = self.made * STEP + low;
        set[0] = Name { key: key + 1, name, is_end, stage: Stage::Met };
    }
}

/// An insn that may have a name.
pub(super) struct Named {
    key: u128,
    known: Known,
    values: [i64; 2],
    /// Bytes of the immediate.
    imm_len: u8,
}

/// All of an insn that lowering depends on, with the classes of its values.
fn key_of(insn: &Insn, mode: Mode, classes: [u8; 2], leads: u64) -> u128 {
    let bytes = u32::from_le_bytes([insn.opcode, insn.modrm, insn.sib, insn.rex]);
    let size = |bits: u8| u64::from(bits >> 5 & 3);
    let [disp, imm] = classes.map(u64::from);
    let low = u64::from(bytes) << 32 | u64::from(mode.0);
    let fields = [
        (u64::from(insn.row), 16),
        (u64::from(insn.prefixes), 16),
        (u64::from(insn.vvvv), 4),
        (u64::from(insn.vl), 2),
        (u64::from(insn.has_sib), 1),
        (u64::from(insn.seg), 3),
        (size(insn.osz), 2),
        (size(insn.asz), 2),
        (disp, 3),
        (imm, 3),
        (leads, 3),
    ];
    let mut high = 0;
    for (value, bits) in fields {
        high = high << bits | value;
    }
    u128::from(high) << 64 | u128::from(low)
}

impl Lower<'_> {
    /// Lowers an insn by its name, or not at all if that is known.
    pub(super) fn lower_named(&mut self, insn: &Insn, at: u32) -> Option<Flow> {
        let named = self.named(insn, at)?;
        let number = self.block.units.len();
        let Some(found) = self.work.names.find(named.key) else {
            self.push_unit();
            let before = self.before();
            let flow = self.lower_fresh(insn, at);
            if self.is_anywhere(&named.known, &before, flow) {
                self.work.names.add(named.key, flow == Flow::End);
            }
            return Some(flow);
        };
        let stage = std::mem::replace(&mut found.stage, Stage::Kept);
        let flow = if found.is_end { Flow::End } else { Flow::Next };
        let unit = named.known.unit(self.block.ops.len(), named.values);
        self.block.units.push(Unit { name: found.name, ..unit });
        if stage == Stage::Met {
            self.lower_for_keeping(insn, at, &named, number);
        } else {
            self.work.named.push((number, *insn, at));
        }
        Some(flow)
    }

    /// Lowers the insn of unit `number` behind all others: its code is not known after all.
    pub(super) fn lower_unit(&mut self, number: usize) {
        let Some(&(_, insn, at)) = self.work.named.iter().find(|named| named.0 == number) else {
            return;
        };
        let Some(named) = self.named(&insn, at) else { return };
        self.lower_for_keeping(&insn, at, &named, number);
    }

    /// Lowers the insn of a unit with a name, and once more with other values.
    #[cold]
    fn lower_for_keeping(&mut self, insn: &Insn, at: u32, named: &Named, number: usize) {
        let first = self.block.ops.len();
        self.lower_fresh(insn, at);
        self.block.units[number].ops = first..self.block.ops.len();
        let Some([disp, imm]) = unit::others(named.values) else { return };
        if [disp, imm] == named.values {
            return;
        }
        let mut other = *insn;
        if disp != named.values[0] {
            other.disp = disp as i32;
        }
        if imm != named.values[1] {
            let unused = 64 - 8 * u32::from(named.imm_len.clamp(1, 8));
            other.imm = imm.cast_unsigned() << unused >> unused;
        }
        let (first, before) = (self.block.ops.len(), self.before());
        self.lower_fresh(&other, at);
        if self.has_new_colds(&before) {
            self.take_back(first, &before);
        } else {
            self.block.units[number].probe = first..self.block.ops.len();
        }
    }

    /// The insn with what its name is made of; nothing for those that are not worth one.
    fn named(&self, insn: &Insn, at: u32) -> Option<Named> {
        let known = self.known(insn, at)?;
        let (mut values, mut imm_len, mut leads) = ([0; 2], 0, 0);
        if known.leads_by_disp() {
            leads = 1;
        } else {
            values[0] = i64::from(insn.disp);
        }
        if known.leads_by_imm() {
            leads = known.relation();
        } else if insn.imm != 0 {
            imm_len = insn.only_immediate()?;
            let unused = 64 - 8 * u32::from(imm_len.clamp(1, 8));
            values[1] = (insn.imm << unused).cast_signed() >> unused;
        }
        let [Some(disp), Some(imm)] = values.map(unit::class) else { return None };
        (insn.imm2 == 0).then(|| Named {
            key: key_of(insn, self.place.mode, [disp, imm], leads),
            known,
            values,
            imm_len,
        })
    }
}
