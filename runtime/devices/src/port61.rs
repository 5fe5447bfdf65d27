//! Port 61h: system control port B — speaker gate, counter outputs and NMI status bits.
//!
//! Source: PIIX3 datasheet, "NMI Status and Control Register". The speaker itself is silent.

use mem::Ns;

use crate::state::StateError;
use crate::state_fields;

/// Gate of timer counter 2.
const GATE2: u8 = 0x01;
/// Bits software can write: gate, speaker data, and the two NMI enables.
const WRITABLE: u8 = 0x0f;
/// Nanoseconds between two toggles of the refresh bit: 18 ticks of the timer's input clock.
const REFRESH_NS: Ns = 15_085;

/// The register. The board carries counter 2's gate and output between it and the timer.
#[derive(Debug, Default)]
pub struct Port61 {
    control: u8,
}

state_fields!(Port61, 1, [control]);

impl Port61 {
    /// Back to power-on: everything off.
    pub fn reset(&mut self) {
        self.control = 0;
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        self.control &= WRITABLE;
        Ok(())
    }

    /// Reads the register, given counter 2's output and the virtual time.
    pub fn read(&self, out2: bool, now: Ns) -> u8 {
        let refresh = (now / REFRESH_NS) as u8 & 1;
        self.control | refresh << 4 | u8::from(out2) << 5
    }

    /// Writes the register; returns the new level of counter 2's gate.
    pub fn write(&mut self, value: u8) -> bool {
        self.control = value & WRITABLE;
        self.control & GATE2 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits() {
        let mut port = Port61::default();
        assert!(port.write(0xf1));
        assert_eq!(port.read(true, 0), 0x21);
        assert_eq!(port.read(false, REFRESH_NS), 0x11);
        assert!(!port.write(2));
    }
}
