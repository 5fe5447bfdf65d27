//! Loads of data segment registers without the helper: in flat 32-bit code of level 0, which systems do with the same few selectors all
//! the time, and in real mode.
//!
//! A load that finds the selector and the very descriptor of the last one that the helper did ([`Load`]) leads to the same
//! segment: DS and ES, on whose flatness the translation rests, must hold it already, FS and GS take it over. So does a null
//! selector in FS and GS. All else is the helper's, which notes what it found. Level 0 may load what any level has loaded.
//!
//! In real mode a load changes selector and base, and nothing else where all segments have 64 KiB: one that is not present has fewer.

use super::Lower;
use crate::mode::Mode;
use crate::state::{CpuState, Load, Segment, Window, seg};
use ir::{Code, Cond, Op, Val, Width};
use std::mem::offset_of;

/// The bits of the mode that matter here, and how they must be: descriptors are read through DS.
const MATTER: u32 = FLAT | Mode::CODE64 | Mode::VM86 | 3 << Mode::CPL_SHIFT;
const FLAT: u32 = Mode::CODE32 | Mode::PE | Mode::FLAT_CS | Mode::FLAT_DS;

/// The bits of the mode that matter in real mode.
const REAL_MATTER: u32 = REAL | Mode::CODE64 | Mode::VM86 | Mode::PE;
const REAL: u32 = Mode::ALL_64K;

/// Where the note of segment register `n` has a field.
const fn load_at(n: usize, field: usize) -> usize {
    offset_of!(CpuState, loads) + n * size_of::<Load>() + field
}

/// Where the words of segment register `n` are: itself and its window; and the fields of its note that go there.
fn places(n: usize) -> [(usize, usize); 5] {
    let register = offset_of!(CpuState, seg) + n * size_of::<Segment>();
    let window = offset_of!(CpuState, window) + n * size_of::<Window>();
    let base = load_at(n, offset_of!(Load, base));
    [
        (register, load_at(n, offset_of!(Load, word))),
        (register + offset_of!(Segment, base), base),
        (window + offset_of!(Window, base), base),
        (window + offset_of!(Window, read_end), load_at(n, offset_of!(Load, read_end))),
        (window + offset_of!(Window, write_end), load_at(n, offset_of!(Load, write_end))),
    ]
}

impl Lower<'_> {
    /// Can this load be done without the helper? `number` is the node of the register's number.
    pub(super) fn loads_by_itself(&self, number: u16) -> bool {
        let n = self.at_node(number).imm as u8;
        let is_data = matches!(n, seg::ES | seg::DS | seg::FS | seg::GS);
        let is_known = match self.is_real() {
            true => is_data || n == seg::SS,
            false => is_data && self.place.mode.0 & MATTER == FLAT,
        };
        is_known && !self.is_counted
    }
    fn is_real(&self) -> bool {
        self.place.mode.0 & REAL_MATTER == REAL
    }

    /// The load, `args` being those of the helper.
    pub(super) fn load_segment(&mut self, args: [u16; 4], ret: u16) {
        let n = self.at_node(args[0]).imm as usize % seg::COUNT;
        let selector = self.emit_argument(args[1]);
        if self.is_real() {
            return self.load_real(n, selector);
        }
        let key = self.segment_op(Code::Or, Width::W32, selector, Some(Load::KNOWN.into()));
        let [helper, other, done] = [0; 3].map(|_| self.block.label());
        let has_null = n >= usize::from(seg::FS);
        let known = self.load_env(load_at(n, offset_of!(Load, key)), Width::W32);
        self.branch_unless_equal(key, known, Width::W32, if has_null { other } else { helper });
        let at = self.load_env(load_at(n, offset_of!(Load, at)), Width::W32);
        let mut read = Op::new(Code::Ld, Width::W64);
        (read.a, read.x, read.y) = (at, seg::DS, Width::W32 as u8);
        read.d = self.block.temp(Width::W64);
        let found = self.block.push(read);
        let known = self.load_env(load_at(n, offset_of!(Load, descriptor)), Width::W64);
        self.branch_unless_equal(found, known, Width::W64, helper);
        if has_null {
            for (to, from) in places(n) {
                let word = self.load_env(from, Width::W64);
                self.push_st_env(to, Width::W64, word);
            }
            self.push_jump(done);
            self.push_label(other);
            let known = self.load_env(load_at(n, offset_of!(Load, null_key)), Width::W32);
            self.branch_unless_equal(key, known, Width::W32, helper);
            let zero = self.block.constant(0);
            for (to, _) in places(n) {
                self.push_st_env(to, Width::W64, zero);
            }
        } else {
            for (to, from) in &places(n)[..2] {
                let (now, known) =
                    (self.load_env(*to, Width::W64), self.load_env(*from, Width::W64));
                self.branch_unless_equal(now, known, Width::W64, helper);
            }
        }
        self.push_jump(done);
        self.push_label(helper);
        let pc_stored = self.pc_stored;
        self.emit_call(super::tables::helpers::LOAD_SEG, args, ret);
        self.pc_stored = pc_stored;
        self.push_label(done);
    }

    /// The load in real mode.
    fn load_real(&mut self, n: usize, selector: Val) {
        let mut whole = Op::new(Code::Extu, Width::W64);
        (whole.a, whole.x) = (selector, Width::W16 as u8);
        whole.d = self.block.temp(Width::W64);
        let whole = self.block.push(whole);
        let base = self.segment_op(Code::Shl, Width::W64, whole, Some(4));
        let [(register, _), (register_base, _), (window_base, _), ..] = places(n);
        let at = register + offset_of!(Segment, selector);
        self.push_st_env(at, Width::W16, selector);
        self.push_st_env(register_base, Width::W64, base);
        self.push_st_env(window_base, Width::W64, base);
    }

    fn segment_op(&mut self, code: Code, w: Width, a: Val, b: Option<u64>) -> Val {
        let mut op = Op::new(code, w);
        op.a = a;
        if let Some(b) = b {
            op.b = self.block.constant(b);
        }
        op.d = self.block.temp(w);
        self.block.push(op)
    }

    fn load_env(&mut self, offset: usize, w: Width) -> Val {
        let mut op = Op::new(Code::LdEnv, w);
        op.imm = offset as u32; // an offset into the state
        op.d = self.block.temp(w);
        self.block.push(op)
    }

    fn branch_unless_equal(&mut self, a: Val, b: Val, w: Width, label: u32) {
        let mut op = Op::new(Code::Brcond, w);
        (op.x, op.a, op.b, op.imm) = (Cond::Ne as u8, a, b, label);
        self.block.push(op);
    }

    fn push_jump(&mut self, label: u32) {
        let mut op = Op::new(Code::Br, Width::W32);
        op.imm = label;
        self.block.push(op);
    }
}
