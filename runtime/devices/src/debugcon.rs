//! The debug console: a port that prints every byte written and reads as 0xE9.
//!
//! Firmware recognises it by that value (SeaBIOS at 0x402, Bochs' habit at 0xE9).

use mem::{PortDevice, Size};

use crate::chardev::CharBackend;
use crate::state::StateError;
use crate::state_fields;

/// The value read, by which software knows the port is there.
const PRESENT: u64 = 0xe9;

/// The port.
pub struct Debugcon {
    out: Box<dyn CharBackend>,
}

state_fields!(Debugcon, 1, []);

impl Debugcon {
    /// A console that prints to `out`.
    pub fn new(out: Box<dyn CharBackend>) -> Self {
        Self { out }
    }

    /// Nothing to reset.
    pub fn reset(&mut self) {}

    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }
}

impl PortDevice for Debugcon {
    fn port_read(&mut self, _offset: u16, _size: Size) -> u64 {
        PRESENT
    }

    fn port_write(&mut self, _offset: u16, _size: Size, value: u64) {
        self.out.write(&[value as u8]);
    }
}
