//! 82441FX host bridge: the PAM and SMRAM registers that shape memory below 1 MiB.
//!
//! Source: Intel 440FX PCIset datasheet, "Programmable Attribute Map Registers" and "System
//! Management RAM Control Register". What the attributes do to the map is the board's business.

use mem::Size;

use crate::pci::{ConfigSpace, Identity};
use crate::state::StateError;
use crate::state_fields;

const PAM0: u8 = 0x59;
const PAM_LAST: u8 = 0x5f;
const SMRAM: u8 = 0x72;

const SMRAM_OPEN: u8 = 0x40;
const SMRAM_LOCK: u8 = 0x10;

/// Where reads and writes of one shadow segment go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PamAttributes {
    /// Reads go to RAM, not to PCI.
    pub read_ram: bool,
    /// Writes go to RAM, not to PCI.
    pub write_ram: bool,
}

/// The segments the PAM registers control.
pub const PAM_SEGMENTS: usize = 13;

/// The host bridge, function 0 of device 0.
#[derive(Debug)]
pub struct HostBridge {
    /// Its configuration space.
    pub config: ConfigSpace,
}

state_fields!(HostBridge, 1, [config]);

impl Default for HostBridge {
    fn default() -> Self {
        Self::new()
    }
}

impl HostBridge {
    /// The bridge as after power-on.
    pub fn new() -> Self {
        let identity = Identity { vendor: 0x8086, device: 0x1237, class: 0x060000, revision: 2 };
        let mut config = ConfigSpace::new(identity);
        // PMCCFG, DRAM timing and row boundaries are scratch: firmware may program them.
        for at in 0x50..=0x58 {
            config.allow(at, 0xff);
        }
        for at in PAM0..=PAM_LAST {
            config.allow(at, 0x33);
        }
        config.allow(PAM0, 0x30);
        for at in 0x60..=0x67 {
            config.allow(at, 0xff);
        }
        config.preset(SMRAM, 0x02);
        config.allow(SMRAM, 0x78);
        Self { config }
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        self.config.reset();
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }

    /// A configuration write. The memory map below 1 MiB may change by it.
    pub fn config_write(&mut self, at: u8, size: Size, value: u32) {
        let smram = self.config.byte(SMRAM);
        self.config.write(at, size, value);
        if smram & SMRAM_LOCK != 0 {
            self.config.set_byte(SMRAM, smram);
        } else if self.config.byte(SMRAM) & SMRAM_LOCK != 0 {
            let locked = self.config.byte(SMRAM) & !SMRAM_OPEN;
            self.config.set_byte(SMRAM, locked);
        }
    }

    /// Attributes of segment `i`: 0–7 are 16 KiB each from 0xC0000, 8–11 16 KiB each from
    /// 0xE0000, 12 the 64 KiB at 0xF0000.
    pub fn pam(&self, i: usize) -> PamAttributes {
        let bits = match i {
            12.. => self.config.byte(PAM0) >> 4,
            _ => self.config.byte(PAM0 + 1 + i as u8 / 2) >> (4 * (i & 1)),
        };
        PamAttributes { read_ram: bits & 1 != 0, write_ram: bits & 2 != 0 }
    }

    /// Is the RAM behind the video window at 0xA0000 open to all code?
    pub fn is_smram_open(&self) -> bool {
        self.config.byte(SMRAM) & SMRAM_OPEN != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pam_segments_and_smram() {
        let mut bridge = HostBridge::new();
        bridge.config_write(0x59, Size::B1, 0xff);
        assert_eq!(bridge.config.byte(0x59), 0x30);
        assert_eq!(bridge.pam(12), PamAttributes { read_ram: true, write_ram: true });
        bridge.config_write(0x5c, Size::B4, 0x0000_1200);
        assert_eq!(bridge.pam(6), PamAttributes { read_ram: false, write_ram: true });
        assert_eq!(bridge.pam(7), PamAttributes { read_ram: true, write_ram: false });
        bridge.config_write(SMRAM, Size::B1, 0x4a);
        assert!(bridge.is_smram_open());
        bridge.config_write(SMRAM, Size::B1, 0x1a);
        bridge.config_write(SMRAM, Size::B1, 0x4a);
        assert!(!bridge.is_smram_open(), "locked");
    }
}
