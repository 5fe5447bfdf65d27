//! Memory operands: ModRM, SIB and displacement.

use super::{B, Gen, X};
use crate::model::Form;

impl Gen<'_> {
    /// Is there an address that the options allow?
    pub(super) fn memory_allowed(&self) -> bool {
        let fixed = self.o.absolute.is_some() || (self.o.mode == 64 && self.o.rip.is_some());
        self.o.memory_forms && (self.o.all_bases() != 0 || fixed)
    }

    /// A memory operand beside this ModRM.reg.
    pub(super) fn memory(&mut self, reg: u8, asz: u32, tail: &mut Vec<u8>) -> Option<Option<u8>> {
        let has_base = self.o.bases != 0 || (self.is_wide && self.o.high_bases != 0);
        if self.row.attrs.has("vsib") {
            return if has_base { self.based(reg, tail) } else { None };
        }
        if self.o.mode == 64
            && let Some(range) = self.o.rip.clone()
            && (self.below(4) == 0 || !(has_base || self.o.absolute.is_some()))
        {
            let disp = self.within(&range);
            tail.extend_from_slice(&disp.to_le_bytes());
            return Some(Some(reg << 3 | 5));
        }
        if let Some(range) = self.o.absolute.clone()
            && (!has_base || self.below(4) == 0)
        {
            let (low, high) = (u64::from(*range.start()), u64::from(*range.end()));
            let address = low + self.below(high.saturating_sub(low) + 1);
            if self.o.mode == 64 {
                tail.push(0x25); // SIB without base and index: rm = 5 is relative to the next insn
                tail.extend_from_slice(&address.to_le_bytes()[..4]);
                return Some(Some(reg << 3 | 4));
            }
            let len = asz as usize / 8;
            tail.extend_from_slice(&address.to_le_bytes()[..len]);
            return Some(Some(reg << 3 | if asz == 16 { 6 } else { 5 }));
        }
        if asz == 16 { self.memory16(reg, tail) } else { self.based(reg, tail) }
    }

    fn memory16(&mut self, reg: u8, tail: &mut Vec<u8>) -> Option<Option<u8>> {
        /// Base and index of each rm value.
        const PARTS: [(u8, Option<u8>); 8] = [
            (3, Some(6)),
            (3, Some(7)),
            (5, Some(6)),
            (5, Some(7)),
            (6, None),
            (7, None),
            (5, None),
            (3, None),
        ];
        let allowed = |(base, index): &(u8, Option<u8>)| {
            self.o.bases >> base & 1 != 0 && index.is_none_or(|i| self.o.indexes >> i & 1 != 0)
        };
        let mask = PARTS
            .iter()
            .enumerate()
            .filter(|(_, p)| allowed(p))
            .fold(0u16, |mask, (n, _)| mask | 1 << n);
        let rm = self.one_of(mask)?;
        let range = self.o.disp.clone();
        let disp = self.within(&range);
        let mode = match disp {
            0 if rm != 6 => 0,
            -128..=127 => 1,
            _ => 2,
        };
        tail.extend_from_slice(&disp.to_le_bytes()[..mode]);
        Some(Some((mode as u8) << 6 | reg << 3 | rm))
    }

    /// `[base + index * scale + disp]` at 32 or 64 bits.
    fn based(&mut self, reg: u8, tail: &mut Vec<u8>) -> Option<Option<u8>> {
        let base = self.one_of(self.o.all_bases())?;
        self.extend(base, B);
        let indexes = self.o.all_indexes();
        let index = if self.row.attrs.has("vsib") {
            Some(self.vector_index(reg)?)
        } else if indexes != 0 && self.below(3) == 0 {
            self.one_of(indexes)
        } else {
            None
        };
        self.extend(index.unwrap_or(0), X);
        let sib = base & 7 == 4 || index.is_some() || self.below(8) == 0;
        let range = self.o.disp.clone();
        let disp = self.within(&range);
        let mode: u8 = match disp {
            0 if base & 7 != 5 => 0,
            -128..=127 => 1,
            _ => 2,
        };
        if sib {
            let scale = if index.is_some() { self.below(4) as u8 } else { 0 };
            tail.push(scale << 6 | (index.unwrap_or(4) & 7) << 3 | base & 7);
        }
        let len = [0, 1, 4][usize::from(mode)];
        tail.extend_from_slice(&disp.to_le_bytes()[..len]);
        Some(Some(mode << 6 | reg << 3 | if sib { 4 } else { base & 7 }))
    }

    /// An index register unlike the destination and the mask.
    fn vector_index(&mut self, reg: u8) -> Option<u8> {
        let target = reg | (self.rex & super::R) << 1;
        let mask = match self.row.forms.iter().any(|form| matches!(form, Form::H(_))) {
            true => self.vvvv,
            false => target,
        };
        if target == mask && self.row.forms.iter().any(|form| form.uses_vvvv()) {
            return None;
        }
        self.one_of(self.o.vectors & !(1 << target) & !(1 << mask))
    }
}
