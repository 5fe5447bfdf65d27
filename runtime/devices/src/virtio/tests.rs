//! A driver's view of the devices, by both interfaces, and drivers that talk nonsense.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use mem::{Dma, GuestRam, IrqLine, Phys, PhysMap, RamDma, Size};

use super::*;
use crate::State;
use crate::block::MemDisk;

const DESC: u64 = 0x1000;
const AVAIL: u64 = 0x2000;
const USED: u64 = 0x3000;
const HEADER: u64 = 0x4000;
const DATA: u64 = 0x5000;
const STATUS: u64 = 0x6000;
/// Descriptor flags.
const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

#[derive(Clone, Default)]
struct Pin(Arc<AtomicBool>);

impl IrqLine for Pin {
    fn set(&self, high: bool) {
        self.0.store(high, Relaxed);
    }
}

pub(super) struct Bench {
    pub(super) memory: RamDma,
    pub(super) pci: VirtioPci,
    pin: Pin,
    messages: Arc<Mutex<Vec<(u64, u32)>>>,
    /// Requests made so far.
    made: u16,
}

pub(super) fn bench(device: Box<dyn VirtioDevice>) -> Bench {
    let ram = Arc::new(GuestRam::new(0x10_0000).unwrap());
    let map = Arc::new(PhysMap::new(0, 0));
    map.map_ram(Phys(0), 0x10_0000, 0, true);
    let memory = RamDma::new(ram, map);
    let (pin, messages) = (Pin::default(), Arc::new(Mutex::new(Vec::new())));
    let sent = messages.clone();
    let msi: Msi = Box::new(move |address, data| sent.lock().unwrap().push((address, data)));
    let pci = VirtioPci::new(device, memory.clone(), Box::new(pin.clone()), Some(msi));
    Bench { memory, pci, pin, messages, made: 0 }
}

fn disk() -> Box<dyn VirtioDevice> {
    let bytes = (0..16 * 512).map(|i| (i / 512) as u8).collect();
    Box::new(VirtioBlk::new(Box::new(MemDisk::new(bytes)), "serial-1"))
}

impl Bench {
    pub(super) fn common(&mut self, at: u64, size: Size, value: u64) {
        self.pci.write(Bar::Modern, at, size, value);
    }

    pub(super) fn status(&mut self) -> u64 {
        self.pci.read(Bar::Modern, 20, Size::B1)
    }

    /// Starts the device by the 1.x interface with these features.
    fn start(&mut self, features: u64) {
        self.common(20, Size::B1, 0);
        self.memory.write(Phys(AVAIL), &[0; 4]);
        self.memory.write(Phys(USED), &[0; 4]);
        self.made = 0;
        // Bus master, memory and I/O.
        self.pci.config_write(4, Size::B2, 7);
        for status in [0, 1, 3] {
            self.common(20, Size::B1, status);
        }
        for half in [0, 1] {
            self.common(8, Size::B4, half);
            self.common(12, Size::B4, features >> (32 * half) & 0xffff_ffff);
        }
        self.common(20, Size::B1, 11);
        assert_eq!(self.status(), 11);
        self.common(22, Size::B2, 0);
        self.common(24, Size::B2, 8);
        for (at, ring) in [(32, DESC), (40, AVAIL), (48, USED)] {
            self.common(at, Size::B8, ring);
        }
        self.common(28, Size::B2, 1);
        self.common(20, Size::B1, 15);
    }

    pub(super) fn describe(
        &self,
        table: u64,
        n: u64,
        (at, len, flags): (u64, u32, u16),
        next: u16,
    ) {
        let mut bytes = at.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.memory.write(Phys(table + 16 * n), &bytes);
    }

    /// Makes a chain of buffers, tells the device, and gives the length it says it wrote.
    fn request(&mut self, buffers: &[(u64, u32, u16)]) -> u32 {
        let last = buffers.len() - 1;
        for (n, &(at, len, flags)) in buffers.iter().enumerate() {
            let more = if n < last { NEXT } else { 0 };
            self.describe(DESC, n as u64, (at, len, flags | more), n as u16 + 1);
        }
        self.offer(0);
        self.word(USED + 8 + 8 * u64::from((self.made - 1) % 8))
    }

    /// Makes the chain at `head` available and notifies.
    fn offer(&mut self, head: u16) {
        let slot = AVAIL + 4 + 2 * u64::from(self.made % 8);
        self.memory.write(Phys(slot), &head.to_le_bytes());
        self.made += 1;
        self.memory.write(Phys(AVAIL + 2), &self.made.to_le_bytes());
        self.pci.write(Bar::Modern, 0x3000, Size::B2, 0);
    }

    pub(super) fn word(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.memory.read(Phys(at), &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn header(&self, kind: u32, sector: u64) {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend(sector.to_le_bytes());
        self.memory.write(Phys(HEADER), &bytes);
    }

    /// A disk request with one buffer; its status.
    fn block(&mut self, kind: u32, sector: u64, len: u32, flags: u16) -> u8 {
        self.header(kind, sector);
        self.memory.write(Phys(STATUS), &[0xaa]);
        self.request(&[(HEADER, 16, 0), (DATA, len, flags), (STATUS, 1, WRITE)]);
        self.word(STATUS) as u8
    }

    fn used(&self) -> u16 {
        (self.word(USED) >> 16) as u16
    }
}

#[test]
fn identity_and_capabilities() {
    let mut b = bench(disk());
    assert_eq!(b.pci.config_read(0, Size::B4), 0x1001_1af4);
    assert_eq!(b.pci.config_read(8, Size::B4), 0x0100_0000);
    assert_eq!(b.pci.config_read(0x2c, Size::B4), 0x0002_1af4);
    let mut at = b.pci.config_read(0x34, Size::B1) as u8;
    let mut seen = Vec::new();
    while at != 0 && seen.len() < 10 {
        let head = b.pci.config_read(at, Size::B4);
        let kind = if head & 0xff == 9 { head >> 24 } else { 0x11 };
        seen.push((at, kind));
        at = (head >> 8) as u8;
    }
    assert_eq!(seen, [(0x98, 0x11), (0x84, 5), (0x70, 2), (0x60, 4), (0x50, 3), (0x40, 1)]);
    // The size of the 64-bit window.
    b.pci.config_write(0x20, Size::B4, u32::MAX);
    assert_eq!(b.pci.config_read(0x20, Size::B4), 0xffff_c00c);
    // Registers through configuration space: the number of queues.
    b.pci.config_write(0x88, Size::B1, 4);
    b.pci.config_write(0x8c, Size::B4, 18);
    b.pci.config_write(0x90, Size::B4, 2);
    assert_eq!(b.pci.config_read(0x94, Size::B2), 1);
}

#[test]
fn a_disk_reads_writes_and_flushes() {
    let mut b = bench(disk());
    b.start(1 << 32 | 1 << 9);
    assert_eq!(b.pci.read(Bar::Modern, 0x2000, Size::B8), 16);
    assert_eq!(b.block(0, 3, 1024, WRITE), 0);
    assert_eq!((b.word(DATA), b.word(DATA + 512)), (0x0303_0303, 0x0404_0404));
    assert_eq!((b.used(), b.word(USED + 8)), (1, 1025));
    assert!(b.pin.0.load(Relaxed));
    assert_eq!(b.pci.read(Bar::Modern, 0x1000, Size::B1), 1);
    assert!(!b.pin.0.load(Relaxed), "reading the ISR lowers the wire");
    b.memory.write(Phys(DATA), &[9; 512]);
    assert_eq!(b.block(1, 7, 512, 0), 0);
    assert_eq!(b.block(4, 0, 0, 0), 0);
    assert_eq!(b.block(0, 7, 512, WRITE), 0);
    assert_eq!(b.word(DATA), 0x0909_0909);
    assert_eq!(b.block(8, 0, 20, WRITE), 0);
    let mut id = [0; 8];
    b.memory.read(Phys(DATA), &mut id);
    assert_eq!(&id, b"serial-1");
    // Zeroes from sector 7 on, one sector.
    b.memory.write(Phys(DATA), &[7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(b.block(13, 0, 16, 0), 0);
    assert_eq!(b.block(0, 7, 512, WRITE), 0);
    assert_eq!(b.word(DATA), 0);
    // Discard is a hint; its flags are reserved, its ranges checked, several segments allowed.
    let segment = |sector: u8, count: u8, flags: u8| {
        [sector, 0, 0, 0, 0, 0, 0, 0, count, 0, 0, 0, flags, 0, 0, 0]
    };
    b.memory.write(Phys(DATA), &[segment(3, 2, 0), segment(0, 1, 0)].concat());
    assert_eq!(b.block(11, 0, 32, 0), 0);
    for (bytes, len, expect) in [
        (segment(3, 2, 1), 16, 2),
        (segment(15, 2, 0), 16, 1),
        (segment(3, 2, 0), 15, 2),
        (segment(3, 2, 0), 16 * 17, 2),
    ] {
        b.memory.write(Phys(DATA), &bytes);
        assert_eq!(b.block(11, 0, len, 0), expect, "{bytes:?} {len}");
    }
    // What it has not got: beyond the end, half sectors, other requests.
    assert_eq!(b.block(0, 16, 512, WRITE), 1);
    assert_eq!(b.block(0, u64::MAX, 512, WRITE), 1);
    assert_eq!(b.block(1, 0, 100, 0), 1);
    assert_eq!(b.block(99, 0, 512, WRITE), 2);
}

#[test]
fn with_event_indices_the_device_says_when_to_be_told() {
    let mut b = bench(disk());
    b.start(1 << 32 | 1 << 29);
    for n in 1..20u16 {
        // The driver wants an interrupt for each; the device wants to hear of the next request.
        b.memory.write(Phys(AVAIL + 4 + 16), &(n - 1).to_le_bytes());
        assert_eq!(b.block(0, 0, 512, WRITE), 0);
        assert_eq!(b.word(USED + 4 + 64) as u16, n, "the available event");
        assert_eq!(b.pci.read(Bar::Modern, 0x1000, Size::B1), 1);
    }
    // An interrupt only after the next but one.
    b.memory.write(Phys(AVAIL + 4 + 16), &20u16.to_le_bytes());
    assert_eq!(b.block(0, 0, 512, WRITE), 0);
    assert_eq!(b.pci.read(Bar::Modern, 0x1000, Size::B1), 0);
    assert_eq!(b.block(0, 0, 512, WRITE), 0);
    assert_eq!(b.pci.read(Bar::Modern, 0x1000, Size::B1), 1);
}

#[test]
fn an_indirect_table_and_the_legacy_interface() {
    let mut b = bench(disk());
    b.pci.config_write(4, Size::B2, 7);
    let port = |b: &mut Bench, at, size, value| b.pci.write(Bar::Legacy, at, size, value);
    for status in [0, 1, 3] {
        port(&mut b, 18, Size::B1, status);
    }
    assert_eq!(b.pci.read(Bar::Legacy, 12, Size::B2), 256);
    port(&mut b, 4, Size::B4, 1 << 28);
    // All rings behind page 16: 256 descriptors, then the available ring, then a page boundary.
    port(&mut b, 8, Size::B4, 16);
    port(&mut b, 18, Size::B1, 7);
    assert_eq!(b.pci.read(Bar::Legacy, 8, Size::B4), 16);
    assert_eq!(b.pci.read(Bar::Legacy, 20, Size::B4), 16, "sectors");
    b.header(0, 5);
    for (n, buffer) in
        [(HEADER, 16, NEXT), (DATA, 512, WRITE | NEXT), (STATUS, 1, WRITE)].into_iter().enumerate()
    {
        b.describe(0x8000, n as u64, buffer, n as u16 + 1);
    }
    b.describe(0x1_0000, 0, (0x8000, 48, INDIRECT), 0);
    b.memory.write(Phys(0x1_1000), &[0, 0, 1, 0, 0, 0]);
    port(&mut b, 16, Size::B2, 0);
    assert_eq!((b.word(DATA), b.word(STATUS) as u8), (0x0505_0505, 0));
    assert_eq!(b.word(0x1_2000) >> 16, 1, "the used ring's index");
    assert_eq!(b.pci.read(Bar::Legacy, 19, Size::B1), 1);
    assert!(!b.pin.0.load(Relaxed));
}

#[test]
fn messages_wait_while_they_are_masked() {
    let mut b = bench(disk());
    // MSI-X on; vector 1 for the queue.
    b.pci.config_write(0x98, Size::B4, 0x8000_0000);
    b.pci.write(Bar::Msix, 16, Size::B8, 0xfee0_1000);
    b.pci.write(Bar::Msix, 24, Size::B4, 0x41);
    b.start(1 << 32);
    b.common(22, Size::B2, 0);
    b.common(26, Size::B2, 1);
    assert_eq!(b.pci.read(Bar::Modern, 26, Size::B2), 1);
    assert_eq!(b.block(0, 0, 512, WRITE), 0);
    assert!(b.messages.lock().unwrap().is_empty(), "the entry is masked after reset");
    assert_eq!(b.pci.read(Bar::Msix, 0x800, Size::B8), 2);
    b.pci.write(Bar::Msix, 28, Size::B4, 0);
    assert_eq!(*b.messages.lock().unwrap(), [(0xfee0_1000, 0x41)]);
    assert_eq!(b.block(0, 0, 512, WRITE), 0);
    assert_eq!(b.messages.lock().unwrap().len(), 2);
    assert!(!b.pin.0.load(Relaxed));
    b.common(26, Size::B2, 2);
    assert_eq!(b.pci.read(Bar::Modern, 26, Size::B2), 0xffff, "there is no vector 2");
}

#[test]
fn nonsense_stops_the_device_until_its_reset() {
    let chains: [&[(u64, u32, u16)]; 5] = [
        // No place for the status; a header too short; nothing at all to read.
        &[(HEADER, 16, 0)],
        &[(HEADER, 15, 0), (STATUS, 1, WRITE)],
        &[(DATA, 512, WRITE), (STATUS, 1, WRITE)],
        // What is read comes behind what is written; an address beyond all.
        &[(STATUS, 1, WRITE), (HEADER, 16, 0)],
        &[(u64::MAX - 3, 16, 0), (STATUS, 1, WRITE)],
    ];
    for chain in chains {
        let mut b = bench(disk());
        b.start(1 << 32);
        b.request(chain);
        assert_eq!(b.status(), 0x4f, "{chain:?}");
        assert_eq!(b.used(), 0);
        b.start(1 << 32);
        assert_eq!(b.block(0, 0, 512, WRITE), 0, "after {chain:?}");
    }
    // Buffers that are no memory read as ones and take nothing.
    let mut b = bench(disk());
    b.start(1 << 32);
    b.header(0, 0);
    b.request(&[(HEADER, 16, 0), (0x20_0000, 512, WRITE), (STATUS, 1, WRITE)]);
    assert_eq!(b.word(STATUS) as u8, 0);
    // A chain that bites its tail ends.
    b.describe(DESC, 0, (HEADER, 16, NEXT), 0);
    b.offer(0);
    // A head that does not exist, and rings that are no memory.
    b.start(1 << 32);
    b.offer(0x7fff);
    b.common(20, Size::B1, 0);
    b.start_at_nothing();
}

impl Bench {
    fn start_at_nothing(&mut self) {
        self.common(20, Size::B1, 11);
        for at in [32, 40, 48] {
            self.common(at, Size::B8, 0xffff_ffff_ffff_f000);
        }
        self.common(28, Size::B2, 1);
        self.common(20, Size::B1, 15);
        self.pci.write(Bar::Modern, 0x3000, Size::B2, 0);
        assert_ne!(self.status() & 0x40, 0);
    }
}

#[test]
fn features_that_nobody_offered_are_not_agreed() {
    let mut b = bench(disk());
    b.common(8, Size::B4, 1);
    b.common(12, Size::B4, 0x8000_0001);
    b.common(20, Size::B1, 11);
    assert_eq!(b.status(), 3);
}

#[test]
fn random_bytes() {
    let mut next = 0u8;
    let entropy: Entropy = Box::new(move |bytes| {
        for byte in bytes {
            next += 1;
            *byte = next;
        }
    });
    let mut b = bench(Box::new(VirtioRng::new(entropy)));
    b.start(1 << 32);
    assert_eq!(b.request(&[(DATA, 3, WRITE), (DATA + 8, 2, WRITE)]), 5);
    assert_eq!((b.word(DATA), b.word(DATA + 8)), (0x0003_0201, 0x0504));
    b.request(&[(DATA, 3, 0)]);
    assert_ne!(b.status() & 0x40, 0);
}

#[test]
fn state_round_trip_and_damage() {
    let mut b = bench(disk());
    b.start(1 << 32 | 1 << 29);
    b.block(0, 0, 512, WRITE);
    let saved = b.pci.save();
    let mut other = bench(disk());
    other.pci.load(&saved).unwrap();
    assert_eq!(other.pci.save(), saved);
    assert_eq!(other.pin.0.load(Relaxed), b.pin.0.load(Relaxed));
    // It goes on with the rings where they stand.
    let mut page = vec![0; 0x6000];
    b.memory.read(Phys(DESC), &mut page);
    other.memory.write(Phys(DESC), &page);
    other.made = b.made;
    assert_eq!(other.block(0, 2, 512, WRITE), 0);
    assert_eq!((other.word(DATA), other.used()), (0x0202_0202, 2));
    for n in 0..saved.len() {
        assert!(other.pci.load(&saved[..n]).is_err());
    }
    for bit in 0..saved.len() * 8 {
        let mut bad = saved.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if other.pci.load(&bad).is_ok() {
            other.pci.poll();
        }
    }
}
