//! The coprocessor-error latch: FERR# of the processor sets it, a write to port F0h clears it.
//!
//! Source: PIIX3 datasheet, "Coprocessor Error Register". IGNNE# has no effect here: the processor
//! tries the waiting instruction again until the handler has cleared the exception.

use mem::{PortDevice, Size};

use crate::state::StateError;
use crate::{Wire, state_fields};

/// The latch.
pub struct FpuError {
    is_set: bool,
    irq: Wire,
}

state_fields!(FpuError, 1, [is_set]);

impl FpuError {
    /// A latch that drives an interrupt line.
    pub fn new(irq: Wire) -> Self {
        Self { is_set: false, irq }
    }

    /// Back to power-on: clear.
    pub fn reset(&mut self) {
        self.set(false);
    }

    /// FERR# was asserted.
    pub fn raise(&mut self) {
        self.set(true);
    }

    fn set(&mut self, is_set: bool) {
        self.is_set = is_set;
        self.irq.set(is_set);
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }
}

impl PortDevice for FpuError {
    fn port_read(&mut self, _offset: u16, _size: Size) -> u64 {
        0xFF
    }

    fn port_write(&mut self, _offset: u16, _size: Size, _value: u64) {
        self.set(false);
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
        latch.raise();
        assert!(irq.level());
        latch.port_write(0, Size::B1, 0);
        assert!(!irq.level());
        assert_eq!(latch.port_read(0, Size::B1), 0xFF);
    }
}
