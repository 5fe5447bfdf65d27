//! The coprocessor-error logic: FERR# of the processor raises an interrupt; a write to port F0h takes it back and asserts IGNNE#
//! for as long as FERR# stays, so that the handler can use the coprocessor.
//!
//! Source: PIIX3 datasheet, "Coprocessor Error Register".

use mem::{PortDevice, Size};

use crate::state::StateError;
use crate::{Wire, state_fields};

/// The latch and the two pins.
pub struct FpuError {
    is_set: bool,
    ferr: bool,
    ignne: bool,
    irq: Wire,
}

state_fields!(FpuError, 2, [is_set, ferr, ignne]);

impl FpuError {
    /// A latch that drives an interrupt line.
    pub fn new(irq: Wire) -> Self {
        Self { is_set: false, ferr: false, ignne: false, irq }
    }

    /// Back to power-on: clear.
    pub fn reset(&mut self) {
        self.set_ferr(false);
        self.set(false);
    }

    /// The processor's FERR# changes; what was asserted already stays as it is.
    pub fn set_ferr(&mut self, is_on: bool) {
        if is_on && !self.ferr {
            self.set(true);
        }
        self.ferr = is_on;
        self.ignne &= is_on;
    }

    /// The processor's IGNNE#.
    pub fn ignne(&self) -> bool {
        self.ignne
    }

    fn set(&mut self, is_set: bool) {
        self.is_set = is_set;
        self.irq.set(is_set);
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        self.ignne &= self.ferr;
        Ok(())
    }
}

impl PortDevice for FpuError {
    fn port_read(&mut self, _offset: u16, _size: Size) -> u64 {
        0xFF
    }

    fn port_write(&mut self, _offset: u16, _size: Size, _value: u64) {
        self.set(false);
        self.ignne = self.ferr;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeWire;

    #[test]
    fn latches_until_written() {
        let irq = FakeWire::default();
        let mut latch = FpuError::new(irq.boxed());
        latch.port_write(0, Size::B1, 0);
        assert!(!latch.ignne(), "only while FERR# is asserted");
        latch.set_ferr(true);
        assert!(irq.level() && !latch.ignne());
        latch.port_write(0, Size::B1, 0);
        assert!(!irq.level() && latch.ignne());
        latch.set_ferr(true);
        assert!(!irq.level(), "the same error asks once");
        latch.set_ferr(false);
        assert!(!latch.ignne());
        latch.set_ferr(true);
        assert!(irq.level() && !latch.ignne());
        latch.set_ferr(false);
        assert!(irq.level(), "the interrupt stays until it is acknowledged");
        assert_eq!(latch.port_read(0, Size::B1), 0xFF);
    }
}
