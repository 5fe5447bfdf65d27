//! Lowered insns kept for the next time: half of what a translator meets it has met before, byte for byte, in the same mode.
//!
//! Kept are insns whose ops do not depend on where they stand, of a few ops and without branches. What is recalled is what
//! lowering would make, to the number of the last temporary; a test compares the two for every row.

use super::{Flow, Lower};
use crate::insn::Insn;
use crate::mode::Mode;
use ir::{Block, Code, Op, Val, Width};

/// Places of the table; a power of two.
const ENTRIES: usize = 2048;
/// Ops behind `InsnStart`.
const OPS: usize = 4;
/// Temporaries.
const TEMPS: usize = 4;
/// Constants.
const CONSTANTS: usize = 2;

/// One insn with its ops.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Of length 0 when the place is free.
    insn: Insn,
    mode: Mode,
    may_fault: u8,
    ops: u8,
    temps: u8,
    constants: u8,
    temp: [Width; TEMPS],
    op: [Op; OPS],
    constant: [u64; CONSTANTS],
}

const FREE: Entry = Entry {
    insn: super::EMPTY_INSN,
    mode: Mode(0),
    may_fault: 0,
    ops: 0,
    temps: 0,
    constants: 0,
    temp: [Width::W8; TEMPS],
    op: [Op::new(Code::InsnStart, Width::W8); OPS],
    constant: [0; CONSTANTS],
};

/// The table: each insn has one place, the last one there stays.
#[derive(Debug)]
pub(super) struct Memo {
    entries: Box<[Entry]>,
    /// Part of a hash of each entry's insn, so that those which are not wanted need not be looked at.
    tags: Box<[u16]>,
}

impl Default for Memo {
    fn default() -> Self {
        Self { entries: vec![FREE; ENTRIES].into(), tags: vec![0; ENTRIES].into() }
    }
}

impl Memo {
    /// Its place, and its tag.
    fn place(insn: &Insn, mode: Mode) -> (usize, u16) {
        let Insn { row, opcode, modrm, sib, rex, prefixes, disp, imm, .. } = *insn;
        let bytes = u64::from(u32::from_le_bytes([opcode, modrm, sib, rex]));
        let bytes = bytes << 32 | u64::from(row) << 16 | u64::from(prefixes);
        let wide = imm ^ u64::from(disp.cast_unsigned()).rotate_left(20) ^ u64::from(mode.0) << 40;
        let mixed = bytes.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32) ^ wide;
        let mixed = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed >> 32) as usize & (ENTRIES - 1), (mixed >> 48) as u16)
    }
}

/// A block before an insn, to know what the insn has added.
pub(super) struct Before {
    temps: usize,
    labels: u32,
}

impl Before {
    pub(super) fn of(block: &Block) -> Self {
        Self { temps: block.temps.len(), labels: block.labels }
    }
}

impl Lower<'_> {
    /// Emits the ops of an insn that was lowered in this mode before; false if it is not known.
    pub(super) fn recall(&mut self, insn: &Insn, at: u32) -> bool {
        let mode = self.place.mode;
        let (place, tag) = Memo::place(insn, mode);
        if self.work.memo.tags[place] != tag {
            return false;
        }
        let known = &self.work.memo.entries[place];
        if known.insn != *insn || known.mode != mode {
            return false;
        }
        let block = &mut *self.block;
        let first_temp = block.temps.len() as u16;
        block.temps.extend_from_slice(&known.temp[..usize::from(known.temps)]);
        let mut constants = [Val::NONE; CONSTANTS];
        for (val, value) in constants.iter_mut().zip(&known.constant[..known.constants.into()]) {
            *val = block.constant(*value);
        }
        let here = |val: Val| match (val.as_temp(), val.as_pool()) {
            (Some(t), _) => Val::temp(first_temp + t),
            (_, Some(n)) => constants[usize::from(n) % CONSTANTS],
            _ => val,
        };
        let mut start = Op::new(Code::InsnStart, Width::W32);
        (start.imm, start.x, start.y) = (at, insn.len, known.may_fault);
        block.push(start);
        for op in &known.op[..usize::from(known.ops)] {
            let [d, e, a, b, c] = [op.d, op.e, op.a, op.b, op.c].map(here);
            block.push(Op { d, e, a, b, c, ..*op });
        }
        true
    }

    /// Keeps the insn just lowered if its ops would be the same elsewhere.
    pub(super) fn remember(&mut self, before: &Before, flow: Flow) {
        let block = &*self.block;
        let [start, ops @ ..] = &block.ops[self.first_op..] else { return };
        let temps = &block.temps[before.temps..];
        let is_fixed = flow != Flow::Next
            || self.knows_place
            || block.labels != before.labels
            || ops.iter().any(|op| matches!(op.code, Code::ReadPc | Code::Native));
        if is_fixed || ops.len() > OPS || temps.len() > TEMPS {
            return;
        }
        let mut entry =
            Entry { insn: self.insn, mode: self.place.mode, may_fault: start.y, ..FREE };
        entry.temp[..temps.len()].copy_from_slice(temps);
        (entry.ops, entry.temps) = (ops.len() as u8, temps.len() as u8); // both are small
        for (kept, op) in entry.op.iter_mut().zip(ops) {
            *kept = *op;
            for val in [&mut kept.d, &mut kept.e, &mut kept.a, &mut kept.b, &mut kept.c] {
                if let Some(t) = val.as_temp() {
                    *val = Val::temp(t - before.temps as u16);
                } else if let Some(value) = block.const_of(*val) {
                    let known = &entry.constant[..usize::from(entry.constants)];
                    let n = known.iter().position(|&v| v == value).unwrap_or(known.len());
                    let Some(place) = entry.constant.get_mut(n) else { return };
                    *place = value;
                    entry.constants = entry.constants.max(n as u8 + 1);
                    *val = Val::pool(n as u16);
                }
            }
        }
        let (place, tag) = Memo::place(&self.insn, self.place.mode);
        self.work.memo.entries[place] = entry;
        self.work.memo.tags[place] = tag;
    }
}

#[cfg(test)]
mod tests {
    use super::super::show::sample;
    use super::super::{IrNames, Place, Work};
    use super::*;
    use crate::decode::ROWS;
    use crate::front::code_size;

    /// Some insns one behind the other, so that numbers of temporaries and constants differ.
    fn text(insns: &[Insn], place: Place, work: &mut Work) -> String {
        let mut block = Block::default();
        let mut lower = Lower::new(&mut block, work, place);
        let at = |n: usize| place.page_off + 16 * n as u32;
        let is_open = (0..insns.len()).all(|n| lower.lower(&insns[n], at(n)) == Flow::Next);
        if is_open {
            lower.end(at(insns.len()));
        }
        lower.close();
        let errors = ir::verify(&block);
        assert!(errors.is_ok(), "{errors:?}");
        ir::text::print(&block, &IrNames) + &format!("{:?}", block.temps)
    }

    #[test]
    fn what_is_recalled_is_what_would_be_made() {
        let flat = Mode::FLAT_CS | Mode::FLAT_SS | Mode::FLAT_DS | Mode::FLAT_ES;
        let modes = [
            0,
            flat | Mode::PE | Mode::CODE32 | Mode::STACK32,
            Mode::PE | Mode::CODE32 | 3 << Mode::CPL_SHIFT,
            flat | Mode::PE | Mode::CODE64,
        ];
        let mut recalled = 0;
        for mode in modes.map(Mode) {
            let place = |page_off| {
                let ip = 0xF000 + u64::from(page_off);
                Place { mode, ip, page_off, cs_limit: 0xFFFF }
            };
            let mut before: Option<Insn> = None;
            for (row, info) in (0..).zip(ROWS.iter()) {
                for modrm in [0xCB, 0x4B, 0x44] {
                    let Some(insn) = sample(row, info, code_size(mode), modrm) else { continue };
                    let mut work = Work::default();
                    text(&[insn], place(0x10), &mut work);
                    let is_known = work.memo.entries[Memo::place(&insn, mode).0].insn == insn;
                    recalled += usize::from(is_known);
                    let list = [before.unwrap_or(insn), insn];
                    let fresh = text(&list, place(0x123), &mut Work::default());
                    assert_eq!(text(&list, place(0x123), &mut work), fresh, "{}", info.mnemonic);
                    before = if is_known { Some(insn) } else { before };
                }
            }
        }
        assert!(recalled > 1000, "{recalled}");
    }
}
