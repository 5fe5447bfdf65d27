//! pc-testdev: what the unit tests of processors and hypervisors (kvm-unit-tests) poke at: a register behind ports of several widths,
//! 64 KiB of device memory, and the ISA interrupt lines.
//!
//! Source: the behaviour of QEMU's device of this name. Ports E0h to E3h are a register, E8h to EBh the same one byte by byte; E4h takes
//! the address of a page to be forgotten and found again, which changes nothing here; 2000h to 200Fh drive a line each.

use mem::{MmioDevice, PortDevice, Size};

use crate::state::{StateError, ensure};
use crate::{Wire, state_fields};

/// ISA interrupt lines.
pub const LINES: usize = 16;
/// Where the memory is.
pub const MEMORY: u64 = 0xff00_0000;
/// Its length.
pub const MEMORY_LEN: u64 = 0x1_0000;

/// The device's own offset of the register, of the page port, of the bytewise register, and of the lines.
pub const REGISTER: u16 = 0;
/// See [`REGISTER`].
pub const PAGE: u16 = 4;
/// See [`REGISTER`].
pub const BYTES: u16 = 8;
/// See [`REGISTER`].
pub const LINE: u16 = 16;

/// The device.
pub struct PcTestdev {
    register: u32,
    memory: Vec<u8>,
    lines: [Wire; LINES],
}

state_fields!(PcTestdev, 1, [register, memory]);

impl PcTestdev {
    /// A device that drives these lines.
    pub fn new(lines: [Wire; LINES]) -> Self {
        Self { register: 0, memory: vec![0; MEMORY_LEN as usize], lines }
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        self.register = 0;
        self.memory.fill(0);
        self.lines.iter().for_each(|line| line.set(false));
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        ensure(self.memory.len() as u64 == MEMORY_LEN, "pc-testdev memory")
    }
}

impl PortDevice for PcTestdev {
    fn port_read(&mut self, offset: u16, size: Size) -> u64 {
        match offset {
            REGISTER..PAGE | BYTES..LINE => {
                u64::from(self.register) >> (8 * (offset & 3)) & size.mask()
            }
            _ => size.mask(),
        }
    }

    fn port_write(&mut self, offset: u16, size: Size, value: u64) {
        let shift = 8 * (offset & 3);
        match offset {
            REGISTER..PAGE | BYTES..LINE => {
                let mask = (size.mask() << shift) as u32;
                self.register = self.register & !mask | (value << shift) as u32 & mask;
            }
            LINE.. => {
                if let Some(line) = self.lines.get(usize::from(offset - LINE)) {
                    line.set(value as u8 != 0);
                }
            }
            _ => {}
        }
    }
}

impl MmioDevice for PcTestdev {
    fn mmio_read(&mut self, offset: u64, size: Size) -> u64 {
        size.gather(|i| self.memory.get((offset + i) as usize).copied().unwrap_or(0xff))
    }

    fn mmio_write(&mut self, offset: u64, size: Size, value: u64) {
        for i in 0..size.bytes() {
            if let Some(byte) = self.memory.get_mut((offset + i) as usize) {
                *byte = (value >> (8 * i)) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeWire;

    #[test]
    fn registers_lines_and_memory() {
        let lines: [FakeWire; LINES] = Default::default();
        let mut dev = PcTestdev::new(lines.each_ref().map(FakeWire::boxed));
        dev.port_write(REGISTER, Size::B4, 0x1234_5678);
        dev.port_write(REGISTER + 1, Size::B2, 0xabcd);
        dev.port_write(BYTES + 3, Size::B1, 0xef);
        assert_eq!(dev.port_read(REGISTER, Size::B4), 0xefab_cd78);
        assert_eq!(dev.port_read(BYTES + 1, Size::B1), 0xcd);
        dev.port_write(PAGE, Size::B4, 0x1000);
        assert_eq!(dev.port_read(REGISTER, Size::B4), 0xefab_cd78);
        dev.port_write(LINE + 14, Size::B1, 1);
        dev.port_write(LINE + 200, Size::B1, 1);
        assert!(lines[14].level() && !lines[15].level());
        dev.mmio_write(0xfffe, Size::B4, 0x0403_0201);
        assert_eq!(dev.mmio_read(0xfffd, Size::B4), 0xff02_0100);
        let saved = crate::state::State::save(&dev);
        dev.reset();
        assert_eq!((dev.mmio_read(0xfffe, Size::B1), lines[14].level()), (0, false));
        crate::state::State::load(&mut dev, &saved).unwrap();
        assert_eq!(dev.mmio_read(0xfffe, Size::B1), 1);
    }
}
