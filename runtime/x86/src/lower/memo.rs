//! Lowered insns kept for the next time: most of what a translator meets it has met before, byte for byte, in the same mode.
//!
//! Kept are insns of a few ops. Where these tell where the insn stands, or lead on from there by its displacement, that is kept as such:
//! all near calls are one, and so are all branches on a condition that stay in the page. What is recalled is what lowering would
//! make, to the number of the last temporary; tests compare the two for every row.

use super::{Flow, Lower};
use crate::decode::Operand;
use crate::insn::{Form, Insn};
use crate::mode::Mode;
use ir::{Code, Op, Unit, Val, Width};

/// Sets of the table, of two entries each; a power of two. With four times as many three quarters of a boot's insns are recalled instead
/// of two thirds, but the host's cache does not hold them: that takes longer.
const SETS: usize = 512;
/// Ops behind `InsnStart`.
const OPS: usize = 6;
/// Temporaries.
const TEMPS: usize = 4;
/// Constants.
const CONSTANTS: usize = 2;
/// Displacements up to here are added to a page offset without a second thought.
const FAR: i64 = 1 << 30;

/// What an op's `imm` is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Imm {
    /// A number.
    Plain,
    /// Page offset of the insn, of the next, and of what the displacement leads to.
    At,
    Next,
    Target,
    /// A label, counted from the insn's first.
    Label,
}

/// One insn with its ops.
#[derive(Clone, Copy, Debug)]
struct Entry {
    insn: Insn,
    mode: Mode,
    may_fault: u8,
    ops: u8,
    temps: u8,
    constants: u8,
    labels: u8,
    is_end: bool,
    temp: [Width; TEMPS],
    imm: [Imm; OPS],
    op: [Op; OPS],
    constant: [u64; CONSTANTS],
}

/// The table.
#[derive(Debug)]
pub(super) struct Memo {
    /// For each place of a set the upper half of a hash, and the number of an entry plus one. What was asked for last comes first.
    heads: Box<[[u64; 2]]>,
    entries: Vec<Entry>,
}

impl Default for Memo {
    fn default() -> Self {
        // Zeros are memory that nobody has touched.
        Self { heads: vec![[0; 2]; SETS].into(), entries: Vec::new() }
    }
}

/// What an insn is known by, and where it stands.
pub(super) struct Known {
    /// Without what leads on from where it stands.
    insn: Insn,
    at: i64,
    next: i64,
    /// `NOWHERE` if it leads nowhere.
    target: i64,
    /// It leads there by its immediate.
    by_imm: bool,
}

const PAGE: i64 = 4096;
const NOWHERE: i64 = i64::MIN;

fn hash_of(insn: &Insn, mode: Mode) -> u64 {
    let Insn { row, opcode, modrm, sib, rex, prefixes, disp, imm, .. } = *insn;
    let bytes = u64::from(u32::from_le_bytes([opcode, modrm, sib, rex]));
    let bytes = bytes << 32 | u64::from(row) << 16 | u64::from(prefixes);
    let wide = imm ^ u64::from(disp.cast_unsigned()).rotate_left(20) ^ u64::from(mode.0) << 40;
    let mixed = bytes.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32) ^ wide;
    let mixed = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ mixed >> 32
}

impl Memo {
    const fn set(hash: u64) -> usize {
        hash as usize & (SETS - 1)
    }
    fn find(&mut self, known: &Known, mode: Mode) -> Option<&Entry> {
        let hash = hash_of(&known.insn, mode);
        let set = &mut self.heads[Self::set(hash)];
        for way in 0..set.len() {
            let head = set[way];
            if (head ^ hash) >> 32 == 0
                && let Some(entry) = self.entries.get((head as u32).wrapping_sub(1) as usize)
                && entry.insn == known.insn
                && entry.mode == mode
            {
                set.swap(0, way);
                return Some(entry);
            }
        }
        None
    }
    /// Adds an entry; the set's older one goes.
    fn add(&mut self, entry: Entry) {
        let hash = hash_of(&entry.insn, entry.mode);
        let set = &mut self.heads[Self::set(hash)];
        set.swap(0, 1);
        let n = match (set[0] as u32).checked_sub(1) {
            Some(n) => n as usize,
            None => self.entries.len(),
        };
        match self.entries.get_mut(n) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
        set[0] = hash >> 32 << 32 | (n as u64 + 1);
    }
}

/// A block before an insn, to know what the insn has added.
pub(super) struct Before {
    temps: usize,
    labels: u32,
    colds: usize,
}

impl Lower<'_> {
    /// What an insn at page offset `at` is known by. Nothing if a branch of it may lead on within the block.
    pub(super) fn known(&self, insn: &Insn, at: u32) -> Option<Known> {
        let (at, next) = (i64::from(at), i64::from(at) + i64::from(insn.len));
        let mut known = Known { insn: *insn, at, next, target: NOWHERE, by_imm: false };
        let mut disp = 0;
        // Where the byte is no ModRM byte of a memory operand nothing is lost by that.
        if insn.modrm & 0xC7 == 5 && self.is_code64() {
            disp = i64::from(insn.disp);
            known.target = next + disp;
            known.insn.disp = 0;
        } else if insn.imm != 0
            && insn.modrm == 0
            && let [Form::J(_)] = insn.info().forms
            && let Operand::Rel { disp: by } = insn.operand(0)
        {
            if self.goes_on.is_some() || !self.place.is_flat() {
                return None;
            }
            disp = by;
            known.target = next + disp;
            known.by_imm = true;
            let (is_back, in_page) = (known.target <= at, (0..PAGE).contains(&known.target));
            known.insn.imm = 1 | u64::from(in_page) << 1 | u64::from(is_back) << 2;
        }
        // At a page's end blocks end in another way.
        let is_clear =
            next < PAGE && known.target != at && known.target != next && disp.abs() <= FAR;
        is_clear.then_some(known)
    }

    pub(super) fn before(&self) -> Before {
        let block = &*self.block;
        Before { temps: block.temps.len(), labels: block.labels, colds: self.work.colds.len() }
    }

    /// Has the insn just lowered out-of-line parts?
    pub(super) fn has_new_colds(&self, before: &Before) -> bool {
        self.work.colds.len() != before.colds
    }
    /// Takes the ops from `first` on back, and what came with them.
    pub(super) fn take_back(&mut self, first: usize, before: &Before) {
        self.block.ops.truncate(first);
        self.block.temps.truncate(before.temps);
        self.block.labels = before.labels;
        self.work.colds.truncate(before.colds);
    }
    /// Are the ops of the insn just lowered the same wherever it stands, but for what tells its places?
    pub(super) fn is_anywhere(&self, known: &Known, before: &Before, flow: Flow) -> bool {
        let ops = self.block.ops.get(self.first_op..).unwrap_or_default();
        !self.knows_place
            && !self.has_new_colds(before)
            && !matches!(flow, Flow::At(_))
            && ops.iter().skip(1).all(|op| known.meaning(op).is_some())
    }

    /// Emits the ops of an insn that was lowered in this mode before, if it was.
    pub(super) fn recall(&mut self, known: &Known) -> Option<Flow> {
        let mode = self.place.mode;
        let entry = self.work.memo.find(known, mode)?;
        let block = &mut *self.block;
        let first_temp = block.temps.len() as u16;
        block.temps.extend_from_slice(&entry.temp[..usize::from(entry.temps)]);
        let mut constants = [Val::NONE; CONSTANTS];
        for (val, value) in constants.iter_mut().zip(&entry.constant[..entry.constants.into()]) {
            *val = block.constant(*value);
        }
        let here = |val: Val| match (val.as_temp(), val.as_pool()) {
            (Some(t), _) => Val::temp(first_temp + t),
            (_, Some(n)) => constants[usize::from(n) % CONSTANTS],
            _ => val,
        };
        let mut start = Op::new(Code::InsnStart, Width::W32);
        (start.imm, start.x, start.y) = (known.at as u32, known.insn.len, entry.may_fault);
        block.push(start);
        for (op, imm) in entry.op[..usize::from(entry.ops)].iter().zip(entry.imm) {
            let [d, e, a, b, c] = [op.d, op.e, op.a, op.b, op.c].map(here);
            let imm = match imm {
                Imm::Plain => op.imm,
                Imm::At => known.at as u32,
                Imm::Next => known.next as u32,
                Imm::Target => known.target as u32, // a 32-bit pointer wraps as this does
                Imm::Label => block.labels + op.imm,
            };
            block.push(Op { d, e, a, b, c, imm, ..*op });
        }
        block.labels += u32::from(entry.labels);
        Some(if entry.is_end { Flow::End } else { Flow::Next })
    }

    /// Keeps the insn just lowered if its ops can be told for elsewhere.
    pub(super) fn remember(&mut self, known: &Known, before: &Before, flow: Flow) {
        if self.knows_place || self.has_new_colds(before) || matches!(flow, Flow::At(_)) {
            return;
        }
        let block = &*self.block;
        let [start, ops @ ..] = &block.ops[self.first_op..] else { return };
        let temps = &block.temps[before.temps..];
        let labels = block.labels - before.labels;
        if ops.len() > OPS || temps.len() > TEMPS || labels > u8::MAX.into() {
            return;
        }
        let mut entry = Entry {
            insn: known.insn,
            mode: self.place.mode,
            may_fault: start.y,
            // All are small.
            ops: ops.len() as u8,
            temps: temps.len() as u8,
            constants: 0,
            labels: labels as u8,
            is_end: flow == Flow::End,
            temp: [Width::W8; TEMPS],
            imm: [Imm::Plain; OPS],
            op: [*start; OPS],
            constant: [0; CONSTANTS],
        };
        entry.temp[..temps.len()].copy_from_slice(temps);
        for (n, op) in ops.iter().enumerate() {
            let Some(imm) = known.meaning(op) else { return };
            let kept = &mut entry.op[n];
            *kept = *op;
            kept.imm = if imm == Imm::Label { op.imm - before.labels } else { op.imm };
            entry.imm[n] = imm;
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
        self.work.memo.add(entry);
    }
}

impl Known {
    /// The insn as a unit without a name whose ops begin at `first`.
    pub(super) fn unit(&self, first: usize, values: [i64; 2]) -> Unit {
        // As recalled ops tell them.
        let places = [self.at, self.next, self.target].map(|place| place as u32);
        Unit { ops: first..first, places, values, ..Unit::anonymous(first) }
    }
    /// Does its displacement lead on from where it stands?
    pub(super) fn leads_by_disp(&self) -> bool {
        self.target != NOWHERE && !self.leads_by_imm()
    }
    /// Does its immediate?
    pub(super) fn leads_by_imm(&self) -> bool {
        self.by_imm
    }
    /// What its ops depend on of where it leads by its immediate.
    pub(super) fn relation(&self) -> u64 {
        self.insn.imm
    }
    /// What an op's `imm` is; nothing if that is not known to be the same elsewhere.
    fn meaning(&self, op: &Op) -> Option<Imm> {
        match op.code {
            Code::Native => None,
            Code::GotoTb | Code::ReadPc => match i64::from(op.imm.cast_signed()) {
                off if off == self.at => Some(Imm::At),
                off if off == self.next => Some(Imm::Next),
                off if off == self.target => Some(Imm::Target),
                _ => None,
            },
            Code::Label => Some(Imm::Label),
            code if code.is_branch() => Some(Imm::Label),
            _ => Some(Imm::Plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::show::sample;
    use super::super::{IrNames, Place, Work};
    use super::*;
    use crate::decode::ROWS;
    use crate::front::code_size;
    use ir::Block;

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
    fn what_leads_on_from_its_place_is_recalled_anywhere() {
        let flat = Mode::FLAT_CS | Mode::FLAT_SS | Mode::FLAT_DS | Mode::FLAT_ES | Mode::PE;
        let mut recalled = 0;
        for mode in [Mode::CODE32 | Mode::STACK32, Mode::CODE64, Mode::CODE64 | Mode::EDGE] {
            let mode = Mode(flat | mode);
            let place = |at| Place { mode, ip: at, page_off: at as u32, cs_limit: u32::MAX };
            for (row, info) in (0..).zip(ROWS.iter()) {
                let mut work = Work::default();
                let Some(insn) = sample(row, info, code_size(mode), 0x05) else { continue };
                if !matches!(info.forms, [Form::J(_)]) && insn.modrm & 0xC7 != 5 {
                    continue;
                }
                for at in [0x20, 0xFF0] {
                    for by in [0, 1, 0x33, -0x16, -0x12, -1, -2, -5, -6, 0x7F, -0x7F] {
                        for scale in [1, 0x1234, 0x1_0000, 0x100_0000] {
                            let by = by * scale;
                            let imm = (by as u64) & ((1 << (8 * insn.len.min(4))) - 1);
                            let imm = if info.forms.len() == 1 { imm } else { insn.imm };
                            let insn = Insn { imm, disp: by, ..insn };
                            recalled += work.memo.entries.len();
                            let fresh = text(&[insn], place(at), &mut Work::default());
                            let again = text(&[insn], place(at), &mut work);
                            assert_eq!(again, fresh, "{} {at:#x} {by:#x}", info.mnemonic);
                        }
                    }
                }
            }
        }
        assert!(recalled > 1000, "{recalled}");
    }

    #[test]
    fn jumps_are_checked_by_the_limit_at_hand() {
        let place = |cs_limit| Place { mode: Mode(0), ip: 0xF123, page_off: 0x123, cs_limit };
        for (row, info) in (0..).zip(ROWS.iter()) {
            let Some(insn) = sample(row, info, code_size(Mode(0)), 0x20) else { continue };
            let mut work = Work::default();
            for limit in [0xFFFF, 0x5000, 0xF_FFFF, 0xFFFF] {
                let fresh = text(&[insn], place(limit), &mut Work::default());
                assert_eq!(text(&[insn], place(limit), &mut work), fresh, "{}", info.mnemonic);
            }
        }
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
                    let is_known = !work.memo.entries.is_empty();
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
