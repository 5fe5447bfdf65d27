//! The network device.
//!
//! Source: VIRTIO 1.2, 5.1 "Network Device". Frames go to and come from a [`NetBackend`] whole; no
//! offloads are offered, so that the header before each frame says nothing.

use super::{Chain, Kind, Nonsense, VirtioDevice};
use crate::StateError;
use crate::state::ensure;

// Features.
const F_MAC: u64 = 1 << 5;
const F_STATUS: u64 = 1 << 16;
const F_VERSION_1: u64 = 1 << 32;

const RECEIVE: usize = 0;
/// Entries of each queue.
const QUEUES: [u16; 2] = [256; 2];
/// The header's length: of the legacy interface, and of the 1.x one, which ends with the number of
/// buffers.
const HEADER: usize = 10;
const HEADER_1: usize = 12;
/// Place of that number.
const NUM_BUFFERS: usize = 10;
/// Status of the configuration: the link is up.
const LINK_UP: u16 = 1;
/// The longest frame: Ethernet's with a VLAN tag, and room for what a careless driver adds.
pub const FRAME_MAX: usize = 1 << 16;

/// What is at the other end of the cable. No call may block for long.
pub trait NetBackend: Send {
    /// Takes a frame; one that cannot be carried is lost, as on any Ethernet.
    fn send(&mut self, frame: &[u8]);
    /// The next frame for the guest.
    fn receive(&mut self) -> Option<Vec<u8>>;
}

/// A cable whose other end lies on the floor.
#[derive(Debug, Default)]
pub struct NoNet;

impl NetBackend for NoNet {
    fn send(&mut self, _frame: &[u8]) {}
    fn receive(&mut self) -> Option<Vec<u8>> {
        None
    }
}

/// The device.
pub struct VirtioNet {
    mac: [u8; 6],
    cable: Box<dyn NetBackend>,
    features: u64,
}

impl VirtioNet {
    /// A card of this address, with `cable` plugged in.
    pub fn new(mac: [u8; 6], cable: Box<dyn NetBackend>) -> Self {
        Self { mac, cable, features: 0 }
    }

    fn header_len(&self) -> usize {
        if self.features & F_VERSION_1 != 0 { HEADER_1 } else { HEADER }
    }

    fn receive(&mut self, chain: &mut Chain<'_>) -> bool {
        let mut packet = [0; HEADER_1];
        packet[NUM_BUFFERS] = 1;
        let header = &packet[..self.header_len()];
        // A frame that is longer than the buffer is lost, and the next one tried.
        while let Some(frame) = self.cable.receive() {
            if chain.writable() >= (header.len() + frame.len()) as u64 {
                return chain.write(header) && chain.write(&frame);
            }
        }
        false
    }

    fn transmit(&mut self, chain: &mut Chain<'_>) -> Result<(), Nonsense> {
        let mut header = [0; HEADER_1];
        let len = self.header_len();
        if !chain.read(&mut header[..len]) {
            return Err(Nonsense);
        }
        let mut frame = vec![0; chain.readable().min(FRAME_MAX as u64) as usize];
        if chain.read(&mut frame) && !frame.is_empty() {
            self.cable.send(&frame);
        }
        Ok(())
    }
}

impl VirtioDevice for VirtioNet {
    fn kind(&self) -> Kind {
        Kind { id: 1, device: 0x1000, class: 0x02_0000, queues: &QUEUES }
    }

    fn features(&self) -> u64 {
        F_MAC | F_STATUS
    }

    fn set_features(&mut self, features: u64) {
        self.features = features;
    }

    fn config_read(&self, at: u16) -> u8 {
        let [low, high] = LINK_UP.to_le_bytes();
        let status = [low, high];
        self.mac.iter().chain(&status).nth(usize::from(at)).copied().unwrap_or(0)
    }

    fn serve(&mut self, queue: usize, chain: &mut Chain<'_>) -> Result<bool, Nonsense> {
        match queue {
            RECEIVE => Ok(self.receive(chain)),
            _ => self.transmit(chain).map(|()| true),
        }
    }

    fn reset(&mut self) {
        self.features = 0;
    }

    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        ensure(bytes.is_empty(), "a virtio network card")
    }
}
