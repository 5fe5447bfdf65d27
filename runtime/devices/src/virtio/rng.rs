//! The entropy device.
//!
//! Source: VIRTIO 1.2, 5.4 "Entropy Device".

use super::{Chain, Kind, Nonsense, VirtioDevice};
use crate::StateError;

/// Most bytes given for one request.
const BYTES_MAX: u64 = 64 << 10;

/// Where random bytes come from.
pub type Entropy = Box<dyn FnMut(&mut [u8]) + Send>;

/// The device.
pub struct VirtioRng {
    entropy: Entropy,
}

impl VirtioRng {
    /// A device that passes on what `entropy` gives.
    pub fn new(entropy: Entropy) -> Self {
        Self { entropy }
    }
}

impl VirtioDevice for VirtioRng {
    fn kind(&self) -> Kind {
        Kind { id: 4, device: 0x1005, class: 0x00_ff00, queues: &[8] }
    }

    fn features(&self) -> u64 {
        0
    }

    fn config_read(&self, _at: u16) -> u8 {
        0
    }

    fn serve(&mut self, _queue: usize, chain: &mut Chain<'_>) -> Result<bool, Nonsense> {
        let mut bytes = vec![0; chain.writable().min(BYTES_MAX) as usize];
        if bytes.is_empty() {
            return Err(Nonsense);
        }
        (self.entropy)(&mut bytes);
        chain.write(&bytes);
        Ok(true)
    }

    fn reset(&mut self) {}

    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        if bytes.is_empty() { Ok(()) } else { Err(StateError::Trailing(bytes.len())) }
    }
}
