//! isa-debug-exit: a port by which a test guest ends the machine with a status.

use mem::{PortDevice, Size};

use crate::state::StateError;
use crate::state_fields;

/// The port. A write of `v` asks for process status `(v << 1) | 1`, never zero.
#[derive(Debug, Default)]
pub struct DebugExit {
    requested: Option<u8>,
}

state_fields!(DebugExit, 1, [requested]);

impl DebugExit {
    /// The status asked for since the last call.
    pub fn take_status(&mut self) -> Option<u8> {
        self.requested.take()
    }

    /// Has a status been asked for?
    pub fn is_requested(&self) -> bool {
        self.requested.is_some()
    }

    /// Forgets a request.
    pub fn reset(&mut self) {
        self.requested = None;
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }
}

impl PortDevice for DebugExit {
    fn port_read(&mut self, _offset: u16, _size: Size) -> u64 {
        0
    }

    fn port_write(&mut self, _offset: u16, _size: Size, value: u64) {
        // The processor may get some instructions further: the first request counts.
        self.requested.get_or_insert((value as u8) << 1 | 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_odd() {
        let mut port = DebugExit::default();
        port.port_write(0, Size::B4, 16);
        port.port_write(0, Size::B4, 17);
        assert_eq!(port.take_status(), Some(33));
        assert_eq!(port.take_status(), None);
    }
}
