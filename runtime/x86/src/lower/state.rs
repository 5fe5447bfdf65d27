//! Fields of the processor's state in a body (`cpu.name`), and what a body may ask about the engine.
//!
//! A field is read where its value is first needed and written behind every fault, as registers are. What is derived from a
//! field elsewhere (windows, mode, contexts) is the body's business: it writes all that belongs together.

use super::boolean::B;
use super::node::V;
use super::{Dest, Lower, Write, mark, row};
use crate::mode::Mode;
use ir::{Code, Width};

/// Page size.
const PAGE: i64 = 4096;

impl Lower<'_> {
    /// `cpu.name`, at `offset` in the state.
    pub(super) fn state(&mut self, offset: usize, w: Width) -> V {
        V::Node(self.env_node(offset, w))
    }

    /// `cpu.name = v`.
    pub(super) fn set_state(&mut self, offset: usize, w: Width, v: V) {
        let node = self.fit(v, w);
        self.marks |= mark::STATE;
        self.staged.put(Write::new(Dest::State(offset as u32), w, node));
    }

    /// Stores the staged fields; every value is computed already.
    pub(super) fn commit_state(&mut self) {
        for n in 0..self.staged.count {
            let Write { dest, w, node, .. } = self.staged.writes[n];
            if let Dest::State(offset) = dest {
                let value = self.emit(node);
                self.push_st_env(offset as usize, w, value);
            }
        }
    }

    /// `host_ticks()`: the host's time-stamp counter.
    pub(super) fn host_ticks(&mut self) -> V {
        V::Node(self.op_node(Code::Ticks, Width::W64, &[]))
    }

    /// `alone()`: does the run loop look between this insn and the next, whatever happens? So it does in single steps and
    /// counted time, and perhaps at the end of a page.
    pub(super) fn alone(&mut self) -> B {
        self.knows_place = true;
        B::Const(self.place.is_single_step() || self.is_counted || self.next() >= PAGE)
    }

    /// `is_cpl0()`: code of privilege level 0, real mode included.
    pub(super) fn is_cpl0(&mut self) -> B {
        let mode = self.place.mode;
        B::Const(mode.cpl() == 0 && !mode.has(Mode::VM86))
    }

    /// `virtual_if()`: does VIF stand for IF, in rows that IOPL guards?
    pub(super) fn virtual_if(&mut self) -> B {
        let mode = self.place.mode;
        B::Const(mode.has(Mode::VIRTUAL) && (mode.has(Mode::VM86) || self.has_attr(row::IOPL)))
    }

    /// `next!()`.
    pub(super) fn next_block(&mut self) {
        self.marks |= mark::NEXT;
    }
}
