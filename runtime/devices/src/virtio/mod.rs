//! Virtio devices on PCI.
//!
//! Source: "Virtual I/O Device (VIRTIO) Version 1.2" (OASIS). The transport ([`VirtioPci`]) has the
//! registers of both the 1.x interface and the legacy one, as QEMU's transitional devices do; a
//! [`VirtioDevice`] behind it sees requests only. Rings are walked by the `virtio-queue` crate.
//!
//! Rings, descriptors and request headers are a hostile guest's: a chain is cut at
//! `CHAIN_MAX` descriptors, buffers are reached by DMA, which knows RAM only, and a device that is
//! told nonsense asks for its reset.

mod blk;
mod chain;
mod console;
mod net;
mod pci;
mod queue;
mod rng;
mod transport;

pub use blk::VirtioBlk;
pub use chain::Chain;
pub use console::{ConsolePort, PORTS_MAX, VirtioConsole};
pub use net::{FRAME_MAX, NetBackend, NoNet, VirtioNet};
pub use pci::Bar;
pub use rng::{Entropy, VirtioRng};
pub use transport::{Msi, VirtioPci};

use crate::StateError;
use crate::block::BlockDev;

/// Most descriptors of one request.
const CHAIN_MAX: usize = 1024;

/// What kind of device it is.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Virtio's number of the kind.
    pub id: u16,
    /// The PCI device number of its transitional form.
    pub device: u16,
    /// PCI class.
    pub class: u32,
    /// Entries of each queue.
    pub queues: &'static [u16],
}

/// The request was no request: the device asks for its reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonsense;

/// A device behind the transport.
pub trait VirtioDevice: Send {
    /// What it is.
    fn kind(&self) -> Kind;
    /// The features it offers beside the transport's.
    fn features(&self) -> u64;
    /// The driver has chosen these.
    fn set_features(&mut self, features: u64) {
        let _ = features;
    }
    /// A byte of its configuration; 0 beyond the end.
    fn config_read(&self, at: u16) -> u8;
    /// The driver writes a byte of its configuration.
    fn config_write(&mut self, at: u16, value: u8) {
        let _ = (at, value);
    }
    /// Serves a request of a queue. `Ok(false)`: it cannot be served yet, offer it again.
    ///
    /// # Errors
    /// It is no request.
    fn serve(&mut self, queue: usize, chain: &mut Chain<'_>) -> Result<bool, Nonsense>;
    /// May serving this queue give others something to do?
    fn wakes_others(&self, queue: usize) -> bool {
        let _ = queue;
        false
    }
    /// The disk behind it.
    fn disk(&mut self) -> Option<&mut dyn BlockDev> {
        None
    }
    /// Back to power-on.
    fn reset(&mut self);
    /// The device's own state.
    fn save(&self) -> Vec<u8>;
    /// Takes it back.
    ///
    /// # Errors
    /// The bytes are no such state.
    fn load(&mut self, bytes: &[u8]) -> Result<(), StateError>;
}

#[cfg(test)]
mod port_tests;
#[cfg(test)]
mod tests;
