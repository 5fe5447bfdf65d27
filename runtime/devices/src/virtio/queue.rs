//! A queue's registers, and its ring.

use mem::{Dma, Phys, RamDma};
use virtio_queue::{Queue, QueueOwnedT, QueueState, QueueT};

use super::{Chain, Nonsense};
use crate::state::{Field, StateError, ensure};

/// No MSI-X vector.
pub(super) const NO_VECTOR: u16 = 0xffff;
/// The driver wants no interrupts: a flag of the available ring.
const NO_INTERRUPT: u8 = 1;

/// What a look at a queue came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// Nothing to say.
    Quiet,
    /// The driver is to be told.
    Interrupt,
    /// The ring or a request makes no sense.
    Broken,
}

/// One queue.
pub(super) struct VirtQueue {
    ring: Queue,
    /// The MSI-X vector that tells of used buffers.
    pub(super) vector: u16,
}

impl VirtQueue {
    /// A queue of up to `size` entries, a power of two.
    pub(super) fn new(size: u16) -> Self {
        let ring = Queue::new(size).unwrap_or_default();
        Self { ring, vector: NO_VECTOR }
    }

    pub(super) fn reset(&mut self) {
        self.ring.reset();
        self.vector = NO_VECTOR;
    }

    pub(super) fn size(&self) -> u16 {
        self.ring.size()
    }

    pub(super) fn max_size(&self) -> u16 {
        self.ring.max_size()
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.ring.ready()
    }

    /// The ring's registers: descriptor table, available and used ring.
    pub(super) fn addresses(&self) -> [u64; 3] {
        [self.ring.desc_table(), self.ring.avail_ring(), self.ring.used_ring()]
    }

    /// Sets half of an address; a misplaced one is not taken.
    pub(super) fn set_address(&mut self, which: usize, low: Option<u32>, high: Option<u32>) {
        match which {
            0 => self.ring.set_desc_table_address(low, high),
            1 => self.ring.set_avail_ring_address(low, high),
            _ => self.ring.set_used_ring_address(low, high),
        }
    }

    pub(super) fn set_size(&mut self, size: u16) {
        self.ring.set_size(size);
    }

    pub(super) fn enable(&mut self, event_idx: bool) {
        self.ring.set_event_idx(event_idx);
        self.ring.set_ready(true);
    }

    /// The legacy interface's one register: all rings lie behind a page.
    pub(super) fn set_page(&mut self, page: u32, event_idx: bool) {
        let size = u64::from(self.ring.max_size());
        let desc = u64::from(page) << 12;
        let avail = desc + 16 * size;
        let used = (avail + 6 + 2 * size).next_multiple_of(4096);
        for (which, at) in [desc, avail, used].into_iter().enumerate() {
            self.set_address(which, Some(at as u32), Some((at >> 32) as u32));
        }
        match page {
            0 => self.ring.set_ready(false),
            _ => self.enable(event_idx),
        }
    }

    /// Serves what the driver has made available.
    pub(super) fn serve(
        &mut self,
        memory: &RamDma,
        mut serve: impl FnMut(&mut Chain<'_>) -> Result<bool, Nonsense>,
    ) -> Served {
        if !self.ring.ready() || !self.ring.is_valid(memory) {
            return Served::Broken;
        }
        let mut is_used = false;
        // There cannot be more than the ring has room for.
        for _ in 0..=self.ring.size() {
            let Ok(mut heads) = self.ring.iter(memory) else { return Served::Broken };
            let Some(descriptors) = heads.next() else { break };
            let head = descriptors.head_index();
            let Ok(mut chain) = Chain::new(memory, descriptors) else { return Served::Broken };
            match serve(&mut chain) {
                Ok(true) => {}
                Ok(false) => {
                    self.ring.go_to_previous_position();
                    break;
                }
                Err(Nonsense) => return Served::Broken,
            }
            if self.ring.add_used(memory, head, chain.written()).is_err() {
                return Served::Broken;
            }
            is_used = true;
        }
        // The driver is asked to tell of the next request. None can have come meanwhile: it does not
        // run while it is served.
        if self.ring.enable_notification(memory).is_err() {
            return Served::Broken;
        }
        match is_used && self.wants_interrupt(memory) {
            true => Served::Interrupt,
            false => Served::Quiet,
        }
    }

    fn wants_interrupt(&mut self, memory: &RamDma) -> bool {
        if self.ring.event_idx_enabled() {
            return self.ring.needs_notification(memory).unwrap_or(true);
        }
        let mut flags = [0; 2];
        memory.read(Phys(self.ring.avail_ring()), &mut flags);
        flags[0] & NO_INTERRUPT == 0
    }
}

impl Field for VirtQueue {
    fn put(&self, out: &mut Vec<u8>) {
        let s = self.ring.state();
        for word in [self.vector, s.next_avail, s.next_used, s.size] {
            word.put(out);
        }
        s.event_idx_enabled.put(out);
        s.ready.put(out);
        for at in [s.desc_table, s.avail_ring, s.used_ring] {
            at.put(out);
        }
    }

    fn take(&mut self, input: &mut &[u8]) -> Result<(), StateError> {
        let mut s = QueueState { max_size: self.ring.max_size(), ..QueueState::default() };
        self.vector.take(input)?;
        for word in [&mut s.next_avail, &mut s.next_used, &mut s.size] {
            word.take(input)?;
        }
        s.event_idx_enabled.take(input)?;
        s.ready.take(input)?;
        for at in [&mut s.desc_table, &mut s.avail_ring, &mut s.used_ring] {
            at.take(input)?;
        }
        let ring = Queue::try_from(s);
        ensure(ring.is_ok(), "a virtio queue")?;
        self.ring = ring.unwrap_or_default();
        Ok(())
    }
}
