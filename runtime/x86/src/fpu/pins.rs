//! FERR# and IGNNE#: x87 exceptions as PCs have them while CR0.NE is clear.
//!
//! A waiting insn that meets an unmasked exception asserts FERR# and is tried again until an interrupt comes. Whether the pin is
//! still asserted follows from the status word after every insn, so that the run loop leaves all to the evaluator meanwhile: from the
//! error to the FNCLEX of its handler. Source: SDM Vol. 1, "MS-DOS* Compatibility Sub-mode"; Vol. 3A, "Microprocessor and
//! FPU Exception Handling".

use super::area::FSW_EXCEPTIONS;
use crate::cpu::{Cpu, cr0};

impl Cpu {
    /// Is FERR# asserted? Then insns are to be evaluated one by one, [`Cpu::settle_ferr`] behind each.
    pub const fn has_ferr(&self) -> bool {
        self.ferr
    }

    /// An insn is done, or may have changed CR0: negates FERR# when nothing asserts it any more.
    pub fn settle_ferr(&mut self) {
        if self.ferr {
            self.park_fpu();
            if !self.has_x87_error() || self.state.cr0 & cr0::NE != 0 {
                self.drive_ferr(false);
            }
        }
    }

    pub(crate) fn drive_ferr(&mut self, is_on: bool) {
        self.ferr = is_on;
        self.bus.set_ferr(is_on);
    }

    /// Does IGNNE# let waiting insns run in spite of an exception?
    pub(crate) fn ignores_x87_errors(&self) -> bool {
        self.ferr && self.state.cr0 & cr0::NE == 0 && self.bus.ignne()
    }

    /// Takes the exceptions out of the status word, so that the host's unit runs one more insn. x87 state is parked.
    pub(crate) fn hold_x87_errors(&mut self) -> u16 {
        let held = self.fsw() & FSW_EXCEPTIONS;
        self.set_fpu_words(self.fcw(), self.fsw() & !held, self.full_tags());
        held
    }

    /// Puts them back.
    pub(crate) fn restore_x87_errors(&mut self, held: u16) {
        self.set_fpu_words(self.fcw(), self.fsw() | held, self.full_tags());
    }
}
