//! 82371SB (PIIX3) ISA bridge: PCI interrupt routing and the reset control register.
//!
//! Source: Intel 82371FB/82371SB datasheet, "PIRQRC" and "Reset Control Register".

use mem::{PortDevice, Size};

use crate::pci::{ConfigSpace, Identity, reg};
use crate::state::StateError;
use crate::{Wire, state_fields};

const PIRQ_A: u8 = 0x60;
const PIRQ_OFF: u8 = 0x80;

/// Reset control: hard (both bits) or soft, at the rising edge of the CPU reset bit.
const RCR_CPU: u8 = 0x04;

/// The ISA bridge. Port offset 0 is the reset control register (0xCF9).
pub struct IsaBridge {
    /// Its configuration space.
    pub config: ConfigSpace,
    reset_control: u8,
    reset_line: Wire,
}

state_fields!(IsaBridge, 1, [config, reset_control]);

impl IsaBridge {
    /// A bridge that pulses `reset_line`.
    pub fn new(reset_line: Wire) -> Self {
        let identity = Identity { vendor: 0x8086, device: 0x7000, class: 0x060100, revision: 0 };
        let mut config = ConfigSpace::new(identity);
        config.preset16(reg::COMMAND, 0x0007);
        config.preset16(reg::STATUS, 0x0200);
        config.preset(reg::HEADER, 0x80);
        for at in [0x4c, 0x4e, 0x4f, 0x69, 0x6a, 0x70, 0x71, 0x76, 0x77, 0x78, 0x79, 0x80, 0x82] {
            config.allow(at, 0xff);
        }
        for at in [0xa0, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xaa, 0xab, 0xac, 0xae] {
            config.allow(at, 0xff);
        }
        config.preset(0x4c, 0x4d);
        config.preset(0x4e, 0x03);
        config.preset(0x69, 0x02);
        for at in PIRQ_A..PIRQ_A + 4 {
            config.preset(at, PIRQ_OFF);
            config.allow(at, 0x8f);
        }
        Self { config, reset_control: 0, reset_line }
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        self.config.reset();
        self.reset_control = 0;
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }

    /// The interrupt controller input that PCI interrupt `pirq` (0–3) is routed to.
    pub fn route(&self, pirq: u8) -> Option<u8> {
        let value = self.config.byte(PIRQ_A + (pirq & 3));
        (value & PIRQ_OFF == 0).then_some(value & 15)
    }
}

impl PortDevice for IsaBridge {
    fn port_read(&mut self, _offset: u16, _size: Size) -> u64 {
        u64::from(self.reset_control)
    }

    fn port_write(&mut self, _offset: u16, _size: Size, value: u64) {
        let rises = value as u8 & !self.reset_control & RCR_CPU != 0;
        self.reset_control = value as u8 & 0x02;
        if rises {
            self.reset_line.set(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeWire;

    #[test]
    fn routing_and_reset() {
        let reset = FakeWire::default();
        let mut bridge = IsaBridge::new(reset.boxed());
        assert_eq!(bridge.route(1), None);
        bridge.config.write(0x60, Size::B4, 0x0b0a_0b0a);
        assert_eq!([0, 1, 2, 3].map(|i| bridge.route(i)), [Some(10), Some(11), Some(10), Some(11)]);
        bridge.port_write(0, Size::B1, 2);
        assert!(!reset.level());
        bridge.port_write(0, Size::B1, 6);
        assert!(reset.level());
    }
}
