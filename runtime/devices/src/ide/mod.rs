//! IDE: two channels of ATA disks and ATAPI CD drives behind the PIIX3 PCI function, with bus-master DMA.
//!
//! Sources: ATA/ATAPI-6 (T13/1410D) for registers and commands; MMC-5 for the CD drive's packets; Intel 82371SB datasheet and the
//! "Programming Interface for Bus Master IDE Controller" for DMA. A command is carried out when it
//! is written: there is no seek time, so BSY is never seen except while a DMA command waits for
//! the bus master to be started.

mod atapi;
mod bmdma;
mod channel;
mod commands;
mod drive;
mod packet;

pub use channel::Channel;
pub use drive::Drive;

use mem::Size;

use crate::pci::{ConfigSpace, Identity, reg};
use crate::state::StateError;
use crate::state_fields;

/// Ports of the bus-master block: eight per channel.
pub const BUS_MASTER_PORTS: u16 = 16;

const BAR4: u8 = 0x20;

/// The PCI function with its two channels.
pub struct IdeFunction {
    /// Its configuration space.
    pub config: ConfigSpace,
    /// Primary and secondary.
    pub channels: [Channel; 2],
}

state_fields!(IdeFunction, 1, [config, channels]);

impl IdeFunction {
    /// The function around two channels.
    pub fn new(channels: [Channel; 2]) -> Self {
        let identity = Identity { vendor: 0x8086, device: 0x7010, class: 0x010180, revision: 0 };
        let mut config = ConfigSpace::new(identity);
        config.preset16(reg::STATUS, 0x0280);
        config.add_bar(BAR4, 16, 1);
        for at in 0x40..=0x44 {
            config.allow(at, 0xff);
        }
        Self { config, channels }
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        self.config.reset();
        self.channels.iter_mut().for_each(Channel::reset);
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }

    /// The base of the bus-master ports, once firmware has set it.
    pub fn bus_master_base(&self) -> Option<u16> {
        self.config.io_base(BAR4)
    }

    /// Reads a bus-master port, 0–15.
    pub fn bus_master_read(&mut self, offset: u16, size: Size) -> u64 {
        let channel = &self.channels[usize::from(offset >> 3 & 1)];
        channel.bus_master_read(offset & 7, size)
    }

    /// Writes a bus-master port, 0–15.
    pub fn bus_master_write(&mut self, offset: u16, size: Size, value: u64) {
        let channel = &mut self.channels[usize::from(offset >> 3 & 1)];
        channel.bus_master_write(offset & 7, size, value);
    }
}

#[cfg(test)]
mod cd_tests;
#[cfg(test)]
mod tests;
