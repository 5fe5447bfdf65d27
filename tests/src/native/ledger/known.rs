//! A difference, and what the ledger's entries ask about it.

use x86::decode::{MemOperand, Operand, ROWS, attr, decode};
use x86::insn::Insn;
use x86::state::seg;

use crate::native::cases::{code_size, linear};
use crate::native::compare::differences;
use crate::native::guest::features;
use crate::native::layout::segment;
use crate::native::state::{Case, Output, Width};

/// A difference, and what entries ask about it.
pub struct Known<'a> {
    pub(super) case: &'a Case,
    pub(super) host: &'a Output,
    pub(super) ours: &'a Output,
    /// Table name of the instruction, on either maker's processors, empty if the bytes are none.
    pub(super) name: &'static str,
    pub(super) mnemonic: &'static str,
    pub(super) prefixes: u16,
    pub(super) rex_w: bool,
    pub(super) mem: Option<MemOperand>,
    /// Segments, and registers that point into them, of operands whose place the memory operand does not tell: strings, the stack, bit
    /// strings.
    implied: Vec<(u8, usize)>,
    /// The register with a memory operand's bit offset, and its width (`bitbase`).
    bit_offset: Option<(u8, u32)>,
}

pub(super) const UD: u8 = 6;
pub(super) const END: u8 = 3;
pub(super) const SS: u8 = 12;
pub(super) const GP: u8 = 13;
pub(super) const PF: u8 = 14;
pub(super) const MF: u8 = 16;
pub(super) const AC: u8 = 17;
pub(super) const XM: u8 = 19;

/// Bytes of the largest operand that has no width in the tables: FXSAVE's.
const LARGEST: u64 = 512;
/// So far from 4 GiB may a string's element or a stack's slot be that crosses it.
const NEAR: u32 = 64;

/// See [`Known::implied`].
fn implied(insn: &Insn) -> Vec<(u8, usize)> {
    const STACK: [&str; 13] = [
        "push", "pop", "pusha", "popa", "pushf", "popf", "call", "ret", "enter", "leave", "iret",
        "retf", "int",
    ];
    let row = &ROWS[usize::from(insn.row)];
    let forms = (0..insn.info().forms.len()).filter_map(|n| match insn.operand(n) {
        Operand::Str { seg, reg, .. } => Some((seg, usize::from(reg))),
        _ => None,
    });
    let mut list: Vec<_> = forms.collect();
    if STACK.contains(&row.mnemonic) {
        list.extend([(seg::SS, 4), (seg::SS, 5)]);
    }
    if row.mnemonic.contains("maskmov") {
        list.push((insn.segment(seg::DS), 7));
    }
    list
}

impl<'a> Known<'a> {
    pub(super) fn new(case: &'a Case, host: &'a Output, ours: &'a Output) -> Self {
        let insn = decode(&case.bytes, code_size(case.width), features()).ok();
        let row = insn.map(|insn| &ROWS[usize::from(insn.row)]);
        let mem = insn.and_then(|insn| {
            (0..insn.info().forms.len()).find_map(|n| match insn.operand(n) {
                Operand::Mem(m) => Some(m),
                _ => None,
            })
        });
        Self {
            case,
            host,
            ours,
            name: row.map_or("", |row| row.name.trim_end_matches("_AMD")),
            mnemonic: row.map_or("", |row| row.mnemonic),
            prefixes: insn.map_or(0, |insn| insn.prefixes),
            rex_w: insn.is_some_and(|insn| insn.rex & 8 != 0),
            mem,
            implied: insn.map_or(Vec::new(), |insn| implied(&insn)),
            bit_offset: insn.filter(|insn| insn.info().attrs & attr::BITBASE != 0).and_then(
                |insn| match insn.operand(1) {
                    Operand::Reg { num, bits } => Some((num, bits.into())),
                    _ => None,
                },
            ),
        }
    }

    pub(super) fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.mnemonic) || names.contains(&self.name)
    }

    /// The vectors: the host's is of the first list, ours of the second.
    pub(super) fn ended(&self, host: &[u8], ours: &[u8]) -> bool {
        host.contains(&self.host.vector) && ours.contains(&self.ours.vector)
    }

    pub(super) fn is_long(&self) -> bool {
        self.case.width == Width::W64
    }

    /// Both fault alike but for what `forget` takes out.
    pub(super) fn same_but(&self, forget: fn(&mut Output)) -> bool {
        let (mut host, mut ours) = (self.host.clone(), self.ours.clone());
        forget(&mut host);
        forget(&mut ours);
        differences(self.case, &host, &ours).is_empty()
    }

    /// Offset of the memory operand in its segment; of a gather's, only what all elements share.
    pub(super) fn offset(&self) -> Option<u64> {
        let m = self.mem?;
        let gpr = |n: Option<u8>| n.map_or(0, |n| self.case.gpr[usize::from(n)]);
        let next = if m.rip { self.case.ip.wrapping_add(self.case.len.into()) } else { 0 };
        let moved = self.bit_offset.map_or(0, |(n, bits)| {
            let signed = self.case.gpr[usize::from(n)].cast_signed() << (64 - bits) >> (64 - bits);
            (signed >> bits.trailing_zeros() << bits.trailing_zeros() >> 3).cast_unsigned()
        });
        // POP finds its destination by the stack pointer it leaves behind.
        let popped =
            if self.name == "POP" && m.base == Some(4) { u64::from(m.bits / 8) } else { 0 };
        let off = gpr(m.base)
            .wrapping_add(moved)
            .wrapping_add(popped)
            .wrapping_add(gpr(m.index) << m.scale)
            .wrapping_add(m.disp.cast_unsigned())
            .wrapping_add(next);
        Some(if m.asz == 64 { off } else { off & ((1 << m.asz) - 1) })
    }

    /// Its linear address.
    pub(super) fn linear(&self) -> Option<u64> {
        Some(linear(self.case, usize::from(self.mem?.seg), self.offset()?))
    }

    /// Does the effective address, without a segment's base, leave the canonical ones?
    pub(super) fn has_odd_offset(&self) -> bool {
        let Some(m) = self.mem.filter(|m| m.seg >= 4 && m.asz == 64) else { return false };
        let Some(off) = self.offset() else { return false };
        let is_odd = |a: u64| (a.cast_signed() << 16 >> 16).cast_unsigned() != a;
        is_odd(off) || is_odd(off.wrapping_add(u64::from(m.bits / 8).max(1) - 1))
    }

    /// Did the host refuse a conditional branch that ends with its segment, where we take it?
    pub(super) fn is_refused_at_limit(&self) -> bool {
        let last = self.case.ip.wrapping_add(u64::from(self.case.len)).wrapping_sub(1);
        let is_at_end = !self.is_long() && last == u64::from(segment(self.case.seg[1]).limit);
        let is_untouched = (self.host.ip, self.host.code) == (self.case.ip, 0)
            && self.host.gpr[1] as u32 == self.case.gpr[1] as u32;
        is_at_end
            && is_untouched
            && self.is(&["Jcc", "LOOP", "LOOPE", "LOOPNE", "JCXZ"])
            && self.ended(&[GP], &[END, PF])
    }

    pub(super) fn is_x87_or_mmx(&self) -> bool {
        let first = self.case.code().iter().find(|b| matches!(b, 0xD8..=0xDF | 0x0F));
        first.is_some()
    }

    /// Do both fault at the instruction, having done the same, and only tell of another fault?
    pub(super) fn differs_in_fault(&self) -> bool {
        let is_fault = |o: &Output| o.vector != END && o.ip == self.case.ip;
        let is_alike = self.same_but(|o| (o.vector, o.code, o.cr2) = (0, 0, 0));
        is_fault(self.host) && is_fault(self.ours) && is_alike
    }

    /// Does the memory operand begin below 4 GiB of its segment and end above?
    pub(super) fn ends_above_4_gib(&self) -> bool {
        self.mem.zip(self.offset()).is_some_and(|(m, off)| {
            let bytes = if m.bits == 0 { LARGEST } else { u64::from(m.bits / 8).max(1) };
            !self.is_long() && m.asz == 32 && off + bytes > 1 << 32
        })
    }

    /// Does an operand do so in a segment that has all offsets?
    pub(super) fn crosses_4_gib(&self) -> bool {
        let of = |n: u8| segment(self.case.seg[usize::from(n)]);
        let has_all = |n: u8| of(n).limit == u32::MAX;
        let near = |n: u8, register: usize| {
            let off = match self.host.vector {
                PF => (self.host.cr2 as u32).wrapping_sub(of(n).base as u32),
                _ => self.host.gpr[register] as u32,
            };
            has_all(n) && off.wrapping_add(NEAR) < 2 * NEAR
        };
        let is_implied = self.implied.iter().any(|&(n, register)| near(n, register));
        let is_operand = self.ends_above_4_gib() && self.mem.is_some_and(|m| has_all(m.seg));
        !self.is_long() && (is_operand || is_implied)
    }
}
