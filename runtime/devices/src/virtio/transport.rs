//! The transport: registers of a virtio PCI function, its queues and its interrupts.
//!
//! Source: VIRTIO 1.2, 4.1 "Virtio Over PCI Bus" with its legacy sections, 2.1 "Device Status Field".

use mem::{RamDma, Size};

use super::pci::{
    Bar, LEGACY_PORTS, MODERN_BYTES, MSIX_BYTES, NOTIFY_STEP, PENDING, Registers, STRUCTURE,
    WINDOW_DATA, config_space,
};
use super::queue::{NO_VECTOR, Served, VirtQueue};
use super::{Kind, VirtioDevice};
use crate::Wire;
use crate::block::BlockDev;
use crate::pci::{COMMAND_MASTER, ConfigSpace, reg};
use crate::state::{Field, State, StateError, ensure, take_version};

/// Sends a message-signalled interrupt: address and data.
pub type Msi = Box<dyn Fn(u64, u32) + Send>;

// Device status.
const FEATURES_OK: u8 = 8;
const DRIVER_OK: u8 = 4;
const NEEDS_RESET: u8 = 0x40;

// Features of the transport.
const F_ANY_LAYOUT: u64 = 1 << 27;
const F_INDIRECT: u64 = 1 << 28;
const F_EVENT_IDX: u64 = 1 << 29;
const F_VERSION_1: u64 = 1 << 32;

// ISR status.
const ISR_QUEUE: u8 = 1;
const ISR_CONFIG: u8 = 2;

/// PCI status: an INTx interrupt is pending.
const STATUS_INTX: u8 = 8;
/// Bytes of an MSI-X table entry, and its mask bit.
const ENTRY: usize = 16;
const ENTRY_MASK: u8 = 1;

const VERSION: u8 = 1;

/// A virtio function.
pub struct VirtioPci {
    config: ConfigSpace,
    device: Box<dyn VirtioDevice>,
    kind: Kind,
    memory: RamDma,
    irq: Wire,
    msi: Option<Msi>,
    queues: Vec<VirtQueue>,
    status: u8,
    isr: u8,
    /// Which halves of the features the driver looks at and chooses.
    feature_select: [u32; 2],
    driver_features: u64,
    queue_select: u16,
    config_vector: u16,
    /// MSI-X entries.
    table: Vec<[u8; ENTRY]>,
    pending: u64,
}

impl VirtioPci {
    /// A function with `device` behind it, an INTx wire, and MSI-X if there is a way for messages.
    pub fn new(device: Box<dyn VirtioDevice>, memory: RamDma, irq: Wire, msi: Option<Msi>) -> Self {
        let kind = device.kind();
        let vectors = if msi.is_some() { kind.queues.len() as u16 + 1 } else { 0 };
        let mut it = Self {
            config: config_space(kind, vectors),
            device,
            kind,
            memory,
            irq,
            msi,
            queues: kind.queues.iter().map(|&size| VirtQueue::new(size)).collect(),
            status: 0,
            isr: 0,
            feature_select: [0; 2],
            driver_features: 0,
            queue_select: 0,
            config_vector: NO_VECTOR,
            table: vec![[0; ENTRY]; usize::from(vectors)],
            pending: 0,
        };
        it.reset();
        it
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        self.config.reset();
        self.table.iter_mut().for_each(|entry| {
            *entry = [0; ENTRY];
            entry[12] = ENTRY_MASK;
        });
        self.pending = 0;
        self.reset_device();
    }

    /// The reset a driver asks for.
    fn reset_device(&mut self) {
        self.device.reset();
        self.queues.iter_mut().for_each(VirtQueue::reset);
        self.status = 0;
        self.feature_select = [0; 2];
        self.driver_features = 0;
        self.queue_select = 0;
        self.config_vector = NO_VECTOR;
        self.isr = 0;
        self.drive_irq();
    }

    /// The disk behind it, if it is one.
    pub fn disk(&mut self) -> Option<&mut dyn BlockDev> {
        self.device.disk()
    }

    /// Something came in for the device: looks at all queues.
    pub fn poll(&mut self) {
        (0..self.queues.len()).for_each(|n| self.serve(n));
    }

    fn offered(&self) -> u64 {
        self.device.features() | F_ANY_LAYOUT | F_INDIRECT | F_EVENT_IDX | F_VERSION_1
    }

    fn has_event_idx(&self) -> bool {
        self.driver_features & F_EVENT_IDX != 0
    }

    fn set_driver_features(&mut self, features: u64) {
        self.driver_features = features;
        self.device.set_features(features);
    }

    fn set_status(&mut self, status: u8) {
        if status == 0 {
            return self.reset_device();
        }
        let mut status = status | self.status & NEEDS_RESET;
        let is_agreed = self.driver_features & !self.offered() == 0;
        if status & FEATURES_OK != 0 && !is_agreed {
            status &= !FEATURES_OK;
        }
        self.status = status;
        if status & DRIVER_OK != 0 {
            self.poll();
        }
    }

    /// The driver has told of new requests in queue `n`.
    fn notified(&mut self, n: usize) {
        match self.device.wakes_others(n) {
            true => {
                self.serve(n);
                self.poll();
            }
            false => self.serve(n),
        }
    }

    /// Serves queue `n`.
    fn serve(&mut self, n: usize) {
        let is_master = self.config.word(reg::COMMAND) & COMMAND_MASTER != 0;
        let Some(queue) = self.queues.get_mut(n) else { return };
        if self.status & (DRIVER_OK | NEEDS_RESET) != DRIVER_OK || !is_master || !queue.is_enabled()
        {
            return;
        }
        let device = &mut self.device;
        match queue.serve(&self.memory, |chain| device.serve(n, chain)) {
            Served::Quiet => {}
            Served::Interrupt => self.interrupt(ISR_QUEUE, self.queues[n].vector),
            Served::Broken => {
                log::warn!("virtio device {}: a request makes no sense", self.kind.id);
                self.status |= NEEDS_RESET;
                self.interrupt(ISR_CONFIG, self.config_vector);
            }
        }
    }

    fn interrupt(&mut self, cause: u8, vector: u16) {
        if !self.config.is_msix_on() {
            self.isr |= cause;
            return self.drive_irq();
        }
        if usize::from(vector) < self.table.len() {
            self.pending |= 1 << vector;
            self.send_pending();
        }
    }

    /// Sends the messages that nothing masks.
    fn send_pending(&mut self) {
        let Some(msi) = &self.msi else { return };
        if !self.config.is_msix_on() || self.config.is_msix_masked() {
            return;
        }
        for (n, entry) in self.table.iter().enumerate() {
            if self.pending >> n & 1 != 0 && entry[12] & ENTRY_MASK == 0 {
                self.pending &= !(1 << n);
                let address = entry.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
                let data = entry[8..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
                msi(address, data);
            }
        }
    }

    fn drive_irq(&mut self) {
        let is_pending = self.isr != 0 && !self.config.is_msix_on();
        let status = self.config.byte(reg::STATUS) & !STATUS_INTX;
        let bit = if is_pending { STATUS_INTX } else { 0 };
        self.config.set_byte(reg::STATUS, status | bit);
        self.irq.set(is_pending && !self.config.is_intx_off());
    }

    /// A read of the ISR status, which clears it.
    fn take_isr(&mut self) -> u8 {
        let isr = std::mem::take(&mut self.isr);
        self.drive_irq();
        isr
    }

    fn selected(&mut self) -> Option<&mut VirtQueue> {
        self.queues.get_mut(usize::from(self.queue_select))
    }
}

/// Configuration space and windows.
impl VirtioPci {
    /// Its configuration space.
    pub fn config(&self) -> &ConfigSpace {
        &self.config
    }

    /// Its I/O window: first port and how many.
    pub fn ports(&self) -> (Option<u16>, u16) {
        (self.config.legacy_base(), LEGACY_PORTS as u16)
    }

    /// Which of its memory windows `at` lies in, and the offset there.
    pub fn decode(&self, at: u64) -> Option<(Bar, u64)> {
        let windows = [(Bar::Modern, MODERN_BYTES), (Bar::Msix, MSIX_BYTES)];
        windows.into_iter().find_map(|(bar, len)| {
            let offset = at.checked_sub(self.config.memory_base(bar)?)?;
            (offset < u64::from(len)).then_some((bar, offset))
        })
    }

    /// A configuration read.
    pub fn config_read(&mut self, at: u8, size: Size) -> u32 {
        if at & !3 == WINDOW_DATA
            && let Some((bar, offset)) = self.config.window()
        {
            return self.read(bar, offset.wrapping_add(u64::from(at & 3)), size) as u32;
        }
        self.config.read(at, size)
    }

    /// A configuration write.
    pub fn config_write(&mut self, at: u8, size: Size, value: u32) {
        if at & !3 == WINDOW_DATA
            && let Some((bar, offset)) = self.config.window()
        {
            return self.write(bar, offset.wrapping_add(u64::from(at & 3)), size, value.into());
        }
        self.config.write(at, size, value);
        self.drive_irq();
        self.send_pending();
    }

    /// Reads a register of a window.
    pub fn read(&mut self, bar: Bar, offset: u64, size: Size) -> u64 {
        let byte = |it: &mut Self, at: u64| match bar {
            Bar::Legacy => it.legacy_read(at as u16),
            Bar::Msix => it.msix_read(at),
            Bar::Modern => it.modern_read(at),
        };
        size.gather(|i| byte(self, offset.wrapping_add(i)))
    }

    /// Writes a register of a window.
    pub fn write(&mut self, bar: Bar, offset: u64, size: Size, value: u64) {
        match bar {
            Bar::Legacy => self.legacy_write(offset as u16, size, value as u32),
            Bar::Msix => self.msix_write(offset, size, value),
            Bar::Modern => match offset / STRUCTURE {
                // Halves of an address may be written at once.
                0 if size == Size::B8 => {
                    self.common_write(offset, value as u32);
                    self.common_write(offset.wrapping_add(4), (value >> 32) as u32);
                }
                0 => self.common_write(offset, value as u32),
                2 => self.device_write((offset % STRUCTURE) as u16, size, value),
                3 => self.notified((offset % STRUCTURE / u64::from(NOTIFY_STEP)) as usize),
                _ => {}
            },
        }
    }

    fn device_write(&mut self, at: u16, size: Size, value: u64) {
        for i in 0..size.bytes() {
            self.device.config_write(at.wrapping_add(i as u16), (value >> (8 * i)) as u8);
        }
    }

    fn modern_read(&mut self, offset: u64) -> u8 {
        let at = offset % STRUCTURE;
        match offset / STRUCTURE {
            0 => self.common_bytes().get(at as usize).copied().unwrap_or(0),
            1 if at == 0 => self.take_isr(),
            2 => self.device.config_read(at as u16),
            _ => 0,
        }
    }

    /// The common configuration structure.
    fn common_bytes(&mut self) -> [u8; 56] {
        let half = |features: u64, select: u32| match select {
            0 => features as u32,
            1 => (features >> 32) as u32,
            _ => 0,
        };
        let [look, choose] = self.feature_select;
        let (offered, chosen) = (half(self.offered(), look), half(self.driver_features, choose));
        let select = self.queue_select;
        let queues = self.queues.len() as u16;
        let queue = self.queues.get(usize::from(select));
        let addresses = queue.map_or([0; 3], VirtQueue::addresses);
        let mut bytes = [0; 56];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &look.to_le_bytes());
        put(4, &offered.to_le_bytes());
        put(8, &choose.to_le_bytes());
        put(12, &chosen.to_le_bytes());
        put(16, &self.config_vector.to_le_bytes());
        put(18, &queues.to_le_bytes());
        put(20, &[self.status]);
        put(22, &select.to_le_bytes());
        if let Some(queue) = queue {
            put(24, &queue.size().to_le_bytes());
            put(26, &queue.vector.to_le_bytes());
            put(28, &u16::from(queue.is_enabled()).to_le_bytes());
            put(30, &select.to_le_bytes());
        }
        for (i, address) in addresses.into_iter().enumerate() {
            put(32 + 8 * i, &address.to_le_bytes());
        }
        bytes
    }

    fn common_write(&mut self, at: u64, value: u32) {
        let word = value as u16;
        match at {
            0 => self.feature_select[0] = value,
            8 => self.feature_select[1] = value,
            12 => {
                let old = self.driver_features;
                match self.feature_select[1] {
                    0 => self.set_driver_features(old & !0xffff_ffff | u64::from(value)),
                    1 => self.set_driver_features(old & 0xffff_ffff | u64::from(value) << 32),
                    _ => {}
                }
            }
            16 => self.config_vector = self.known_vector(word),
            20 => self.set_status(value as u8),
            22 => self.queue_select = word,
            26 => {
                let vector = self.known_vector(word);
                if let Some(queue) = self.selected() {
                    queue.vector = vector;
                }
            }
            _ => self.queue_write(at, value),
        }
    }

    /// Writes a register of the selected queue.
    fn queue_write(&mut self, at: u64, value: u32) {
        let event_idx = self.has_event_idx();
        let Some(queue) = self.selected() else { return };
        match at {
            // What the ring is made of is fixed while it is in use.
            _ if queue.is_enabled() => {}
            24 => queue.set_size(value as u16),
            28 if value & 1 != 0 => queue.enable(event_idx),
            32..56 if at.is_multiple_of(4) => {
                let which = (at - 32) as usize / 8;
                match at % 8 {
                    0 => queue.set_address(which, Some(value), None),
                    _ => queue.set_address(which, None, Some(value)),
                }
            }
            _ => {}
        }
    }

    /// A vector that exists, or none.
    fn known_vector(&self, vector: u16) -> u16 {
        if usize::from(vector) < self.table.len() { vector } else { NO_VECTOR }
    }

    fn msix_read(&self, offset: u64) -> u8 {
        match offset.checked_sub(PENDING) {
            Some(at) => self.pending.to_le_bytes().get(at as usize).copied().unwrap_or(0),
            None => {
                let entry = self.table.get(offset as usize / ENTRY);
                entry.map_or(0, |entry| entry[offset as usize % ENTRY])
            }
        }
    }

    fn msix_write(&mut self, offset: u64, size: Size, value: u64) {
        for i in 0..size.bytes() {
            let at = offset.wrapping_add(i) as usize;
            if let Some(entry) = self.table.get_mut(at / ENTRY) {
                entry[at % ENTRY] = (value >> (8 * i)) as u8;
            }
        }
        self.send_pending();
    }
}

/// The legacy interface.
impl VirtioPci {
    /// Where the device's configuration begins.
    fn legacy_config(&self) -> u16 {
        if self.config.is_msix_on() { 24 } else { 20 }
    }

    fn legacy_read(&mut self, at: u16) -> u8 {
        let config = self.legacy_config();
        if at >= config {
            return self.device.config_read(at - config);
        }
        let queue = self.queues.get(usize::from(self.queue_select));
        let pick =
            |bytes: &[u8], from: u16| bytes.get(usize::from(at - from)).copied().unwrap_or(0);
        match at {
            0..4 => pick(&(self.offered() as u32).to_le_bytes(), 0),
            4..8 => pick(&(self.driver_features as u32).to_le_bytes(), 4),
            8..12 => {
                let page = queue.map_or(0, |queue| (queue.addresses()[0] >> 12) as u32);
                pick(&page.to_le_bytes(), 8)
            }
            12..14 => pick(&queue.map_or(0, VirtQueue::max_size).to_le_bytes(), 12),
            14..16 => pick(&self.queue_select.to_le_bytes(), 14),
            18 => self.status,
            19 => self.take_isr(),
            20..22 => pick(&self.config_vector.to_le_bytes(), 20),
            22..24 => pick(&queue.map_or(NO_VECTOR, |queue| queue.vector).to_le_bytes(), 22),
            _ => 0,
        }
    }

    fn legacy_write(&mut self, at: u16, size: Size, value: u32) {
        let config = self.legacy_config();
        if at >= config {
            return self.device_write(at - config, size, value.into());
        }
        let event_idx = self.has_event_idx();
        match at {
            4 => self.set_driver_features(u64::from(value) & self.offered()),
            8 => {
                if let Some(queue) = self.selected() {
                    queue.set_page(value, event_idx);
                }
            }
            14 => self.queue_select = value as u16,
            16 => self.notified(usize::from(value as u16)),
            18 => self.set_status(value as u8),
            20 => self.config_vector = self.known_vector(value as u16),
            22 => {
                let vector = self.known_vector(value as u16);
                if let Some(queue) = self.selected() {
                    queue.vector = vector;
                }
            }
            _ => {}
        }
    }
}

impl State for VirtioPci {
    fn save(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        self.config.put(&mut out);
        self.status.put(&mut out);
        self.isr.put(&mut out);
        self.feature_select.put(&mut out);
        self.driver_features.put(&mut out);
        self.queue_select.put(&mut out);
        self.config_vector.put(&mut out);
        self.pending.put(&mut out);
        self.queues.iter().for_each(|queue| queue.put(&mut out));
        self.table.iter().for_each(|entry| entry.put(&mut out));
        self.device.save().put(&mut out);
        out
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let input = &mut &*bytes;
        take_version(input, VERSION)?;
        self.config.take(input)?;
        self.status.take(input)?;
        self.isr.take(input)?;
        self.feature_select.take(input)?;
        self.driver_features.take(input)?;
        self.queue_select.take(input)?;
        self.config_vector.take(input)?;
        self.pending.take(input)?;
        self.queues.iter_mut().try_for_each(|queue| queue.take(input))?;
        self.table.iter_mut().try_for_each(|entry| entry.take(input))?;
        let mut device = Vec::new();
        device.take(input)?;
        self.device.load(&device)?;
        self.device.set_features(self.driver_features);
        ensure(input.is_empty(), "a virtio device")?;
        self.drive_irq();
        Ok(())
    }
}
