//! pci-testdev: a PCI function whose windows count writes, for measuring and testing how a guest's accesses get through.
//!
//! Source: QEMU's specification "QEMU PCI test device". Both windows, BAR 0 in memory and BAR 1 at ports, begin with the header that
//! it describes; each has one test: bytes written at an offset.

use mem::Size;

use crate::pci::{ConfigSpace, Identity, reg};
use crate::state::StateError;
use crate::state_fields;

/// The windows' lengths, in memory and at ports.
pub const MEMORY_LEN: u32 = 4096;
/// See [`MEMORY_LEN`].
pub const PORTS_LEN: u16 = 128;

/// Where and what the test's writes are.
const TEST_OFFSET: u32 = 64;
const TEST_DATA: u8 = 0xfa;
/// Header: which test, by number.
const TEST: u64 = 0;
const NAME: &[u8] = b"bytes\0";

/// Which window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// BAR 0.
    Memory,
    /// BAR 1.
    Ports,
}

/// The function.
#[derive(Debug)]
pub struct PciTestdev {
    /// Its configuration space.
    pub config: ConfigSpace,
    /// The test chosen, and the writes it has counted, by window.
    chosen: [u8; 2],
    counts: [u32; 2],
}

state_fields!(PciTestdev, 1, [config, chosen, counts]);

impl Default for PciTestdev {
    fn default() -> Self {
        let identity = Identity { vendor: 0x1b36, device: 5, class: 0x00_ff00, revision: 0 };
        let mut config = ConfigSpace::new(identity);
        config.add_bar(reg::BAR0, MEMORY_LEN, 0);
        config.add_bar(reg::BAR0 + 4, PORTS_LEN.into(), 1);
        Self { config, chosen: [0; 2], counts: [0; 2] }
    }
}

impl PciTestdev {
    /// Back to power-on.
    pub fn reset(&mut self) {
        self.config.reset();
        (self.chosen, self.counts) = ([0; 2], [0; 2]);
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }

    /// The ports, once firmware has placed and enabled them.
    pub fn ports(&self) -> Option<u16> {
        self.config.io_base(reg::BAR0 + 4)
    }

    /// The offset of an address in the memory window, if it lies there.
    pub fn decode(&self, at: u64) -> Option<u64> {
        let base = self.config.mem_base(reg::BAR0)?;
        at.checked_sub(base).filter(|&offset| offset < u64::from(MEMORY_LEN))
    }

    /// Reads a window.
    pub fn read(&self, window: Window, offset: u64, size: Size) -> u64 {
        let mut header = [0; 16 + NAME.len()];
        if self.chosen[window as usize] == 0 {
            header[1] = 1;
            header[4..8].copy_from_slice(&TEST_OFFSET.to_le_bytes());
            header[8] = TEST_DATA;
            header[16..].copy_from_slice(NAME);
        }
        header[12..16].copy_from_slice(&self.counts[window as usize].to_le_bytes());
        size.gather(|i| header.get((offset + i) as usize).copied().unwrap_or(0))
    }

    /// Writes a window.
    pub fn write(&mut self, window: Window, offset: u64, size: Size, value: u64) {
        let which = window as usize;
        if offset == TEST {
            (self.chosen[which], self.counts[which]) = (value as u8, 0);
        } else if (offset, size, value as u8) == (TEST_OFFSET.into(), Size::B1, TEST_DATA)
            && self.chosen[which] == 0
        {
            self.counts[which] = self.counts[which].wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_counted() {
        let mut dev = PciTestdev::default();
        dev.write(Window::Ports, TEST, Size::B1, 0);
        let (width, offset) =
            (dev.read(Window::Ports, 1, Size::B1), dev.read(Window::Ports, 4, Size::B4));
        let data = dev.read(Window::Ports, 8, Size::B4);
        assert_eq!((width, offset, data), (1, 64, 0xfa));
        for (at, size, value) in
            [(64, Size::B1, 0xfa), (64, Size::B1, 1), (65, Size::B1, 0xfa), (64, Size::B2, 0xfa)]
        {
            dev.write(Window::Ports, at, size, value);
        }
        assert_eq!(dev.read(Window::Ports, 12, Size::B4), 1);
        assert_eq!(dev.read(Window::Memory, 12, Size::B4), 0);
        assert_eq!(dev.read(Window::Memory, 16, Size::B4), u64::from(u32::from_le_bytes(*b"byte")));
        dev.write(Window::Memory, TEST, Size::B1, 1);
        assert_eq!(dev.read(Window::Memory, 1, Size::B1), 0, "there is no such test");
        assert_eq!((dev.decode(0), dev.ports()), (None, None));
    }
}
