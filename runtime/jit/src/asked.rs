//! What the code of a unit rests on beside its ops, noted while it is emitted: so that it is found again wherever that is the same.

use std::cell::Cell;

use ir::Code;

use crate::compile::Emit;

/// What has been asked for.
#[derive(Default)]
pub(crate) struct Asked {
    /// Where flags are, or what is ready of FP and vector state; or these have changed.
    pub(crate) places: bool,
    /// Flag facts of any op.
    all: bool,
    /// Index of the unit's first op.
    first: usize,
    /// Those of the unit's ops, a bit each, whose flag facts were.
    ops: Cell<u64>,
}

impl Asked {
    /// Of a unit that begins with op `first`: nothing so far.
    pub(crate) fn begin(first: usize) -> Self {
        Self { first, ..Self::default() }
    }
    /// Somebody asks who wants the flags behind op `at`.
    pub(crate) fn note(&self, at: usize) {
        let n = at.saturating_sub(self.first).min(63);
        self.ops.set(self.ops.get() | 1 << n);
    }
    /// May the code depend on flags that are wanted behind the unit, if they make a difference behind the ops that `differs` names?
    pub(crate) fn rests_on(&self, mut differs: impl FnMut(usize) -> bool) -> bool {
        let is_asked = |n: usize| self.ops.get() >> n & 1 != 0;
        self.all || is_asked(63) || (0..63).any(|n| is_asked(n) && differs(self.first + n))
    }
}

impl Emit<'_> {
    /// Notes what emitting an op of this code asks without saying so.
    pub(crate) fn note_asked(&mut self, code: Code) {
        match code {
            Code::LdEnv | Code::StEnv | Code::ReadPc | Code::LdH | Code::StH => {}
            Code::Ld | Code::St | Code::Ptr => self.asked.places = true,
            Code::GotoTb | Code::GotoPtr | Code::ExitTb | Code::Raise | Code::Call => {
                self.asked.places = true;
            }
            Code::Mov | Code::Extu | Code::Exts | Code::Bswap | Code::Lea | Code::Not => {}
            // What defines flags says itself what it asks.
            Code::Add | Code::Sub | Code::Adc | Code::Sbb | Code::And | Code::Or | Code::Xor => {}
            Code::Neg | Code::Inc | Code::Dec => {}
            _ => (self.asked.places, self.asked.all) = (true, true),
        }
    }
}
