//! The debug console: a port that prints every byte written and reads as 0xE9.
//!
//! Firmware recognises it by that value (SeaBIOS at 0x402, Bochs' habit at 0xE9). Bytes leave line by line, and whenever
//! the outer loop runs: a host call for each would cost more than all else about the port.

use mem::{PortDevice, Size};

use crate::chardev::CharBackend;
use crate::state::StateError;
use crate::state_fields;

/// The value read, by which software knows the port is there.
const PRESENT: u64 = 0xe9;

/// A line longer than this leaves in pieces.
const LINE: usize = 512;

/// The port.
pub struct Debugcon {
    out: Box<dyn CharBackend>,
    line: Vec<u8>,
}

impl Drop for Debugcon {
    fn drop(&mut self) {
        self.flush();
    }
}

state_fields!(Debugcon, 1, []);

impl Debugcon {
    /// A console that prints to `out`.
    pub fn new(out: Box<dyn CharBackend>) -> Self {
        Self { out, line: Vec::with_capacity(LINE) }
    }

    /// Nothing of the guest's to reset; an unfinished line leaves.
    pub fn reset(&mut self) {
        self.flush();
    }

    /// Sends what has been written of the line under way.
    pub fn flush(&mut self) {
        if !self.line.is_empty() {
            self.out.write(&self.line);
            self.line.clear();
        }
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }
}

impl PortDevice for Debugcon {
    fn port_read(&mut self, _offset: u16, _size: Size) -> u64 {
        PRESENT
    }

    fn port_write(&mut self, _offset: u16, _size: Size, value: u64) {
        self.line.push(value as u8);
        if value as u8 == b'\n' || self.line.len() >= LINE {
            self.flush();
        }
    }
}
