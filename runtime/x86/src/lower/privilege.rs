//! Checks that a row's attributes ask for before anything else (SDM Vol. 2, exception lists).

use super::boolean::B;
use super::node::V;
use super::{Lower, row, vector};
use crate::mode::Mode;
use crate::state::CpuState;
use ir::{Cond, Width};
use std::mem::offset_of;

/// EFLAGS.IOPL.
const IOPL_MASK: u64 = 3 << 12;
const IOPL_SHIFT: u32 = 12;

impl Lower<'_> {
    /// Mode and CPL are part of the block's key; IOPL is read at run time.
    pub(super) fn check_privileges(&mut self) {
        const ANY: u32 = row::PE | row::CPL0 | row::IOPL | row::VM86_IOPL;
        if !self.has_attr(ANY) {
            return;
        }
        let mode = self.place.mode;
        let is_vm86 = mode.has(Mode::VM86);
        let is_protected = mode.has(Mode::PE) && !is_vm86;
        if self.has_attr(row::PE) && !is_protected {
            self.raise(vector::UD, None);
        }
        if self.has_attr(row::CPL0) && (is_vm86 || (is_protected && mode.cpl() != 0)) {
            self.raise(vector::GP, Some(V::Num(0)));
        }
        if mode.has(Mode::VIRTUAL) && (is_vm86 || self.has_attr(row::IOPL)) {
            // The body, or its helper, knows what to do.
        } else if self.has_attr(row::IOPL | row::VM86_IOPL) && is_vm86 {
            self.check_iopl(3);
        } else if self.has_attr(row::IOPL) && is_protected {
            self.check_iopl(u64::from(mode.cpl()));
        }
    }

    /// #GP(0) unless IOPL >= `cpl`.
    fn check_iopl(&mut self, cpl: u64) {
        if cpl == 0 {
            return;
        }
        let eflags = V::Node(self.env_node(offset_of!(CpuState, eflags), Width::W32));
        let iopl = self.and(eflags, V::Num(IOPL_MASK));
        let (x, y) = (self.fit(iopl, Width::W32), self.const_node(cpl << IOPL_SHIFT, Width::W32));
        self.raise_gp_if(B::Cmp(Cond::B, x, y));
    }
}
