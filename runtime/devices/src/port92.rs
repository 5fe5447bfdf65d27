//! Port 92h: system control port A — fast A20 gate and fast reset.
//!
//! Source: PIIX3 and PS/2 hardware references.

use mem::{PortDevice, Size};

use crate::state::StateError;
use crate::{Wire, state_fields};

const RESET: u8 = 0x01;
const A20: u8 = 0x02;

/// The register.
pub struct Port92 {
    value: u8,
    a20: Wire,
    reset_line: Wire,
}

state_fields!(Port92, 1, [value]);

impl Port92 {
    /// A register that drives the A20 gate and pulses the CPU reset line.
    pub fn new(a20: Wire, reset_line: Wire) -> Self {
        Self { value: A20, a20, reset_line }
    }

    /// Back to power-on: A20 open, as firmware finds it.
    pub fn reset(&mut self) {
        self.value = A20;
        self.a20.set(true);
    }

    /// Takes the level of the A20 gate when another chip has driven it.
    pub fn follow_a20(&mut self, high: bool) {
        self.value = if high { self.value | A20 } else { self.value & !A20 };
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }
}

impl PortDevice for Port92 {
    fn port_read(&mut self, _offset: u16, _size: Size) -> u64 {
        u64::from(self.value)
    }

    fn port_write(&mut self, _offset: u16, _size: Size, value: u64) {
        let rises = value as u8 & !self.value & RESET != 0;
        self.value = value as u8;
        self.a20.set(self.value & A20 != 0);
        if rises {
            self.value &= !RESET;
            self.reset_line.set(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeWire;

    #[test]
    fn a20_and_reset() {
        let (a20, reset) = (FakeWire::default(), FakeWire::default());
        let mut port = Port92::new(a20.boxed(), reset.boxed());
        port.reset();
        assert!(a20.level());
        port.port_write(0, Size::B1, 0);
        assert!(!a20.level() && !reset.level());
        port.port_write(0, Size::B1, 3);
        assert!(a20.level() && reset.level());
        assert_eq!(port.port_read(0, Size::B1), 2);
    }
}
