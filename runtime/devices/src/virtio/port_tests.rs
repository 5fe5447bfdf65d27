//! Console and network card as a driver with several queues sees them.

use mem::{Dma, Phys, Size};

use super::tests::{Bench, WRITE, bench};
use super::*;
use crate::State;
use crate::chardev::BufferChar;

/// Each queue has memory of its own: descriptors, rings, buffers of 256 bytes.
const fn base(queue: u16) -> u64 {
    0x1_0000 * (queue as u64 + 1)
}
const AVAIL: u64 = 0x1000;
const USED: u64 = 0x2000;
const BUFFERS: u64 = 0x4000;

/// A driver of several queues.
struct Driver {
    b: Bench,
    made: [u16; 8],
}

impl Driver {
    fn new(device: Box<dyn VirtioDevice>, features: u64, queues: u16) -> Self {
        let mut b = bench(device);
        b.pci.config_write(4, Size::B2, 7);
        for (at, value) in [(20, 0), (20, 1), (20, 3), (8, 0), (12, features & 0xffff_ffff)] {
            b.common(at, if at == 20 { Size::B1 } else { Size::B4 }, value);
        }
        b.common(8, Size::B4, 1);
        b.common(12, Size::B4, features >> 32);
        b.common(20, Size::B1, 11);
        for n in 0..queues {
            b.common(22, Size::B2, n.into());
            b.common(24, Size::B2, 8);
            for (at, ring) in [(32, 0), (40, AVAIL), (48, USED)] {
                b.common(at, Size::B8, base(n) + ring);
            }
            b.common(28, Size::B2, 1);
        }
        b.common(20, Size::B1, 15);
        Self { b, made: [0; 8] }
    }

    /// Offers one buffer; `bytes` are for the device to read, else it may write.
    fn offer(&mut self, queue: u16, bytes: Option<&[u8]>) {
        let n = self.made[usize::from(queue)];
        let slot = u64::from(n % 8);
        let at = base(queue) + BUFFERS + 256 * slot;
        if let Some(bytes) = bytes {
            self.b.memory.write(Phys(at), bytes);
        }
        let (len, flags) = bytes.map_or((256, WRITE), |bytes| (bytes.len() as u32, 0));
        self.b.describe(base(queue), slot, (at, len, flags), 0);
        let ring = base(queue) + AVAIL;
        self.b.memory.write(Phys(ring + 4 + 2 * slot), &(slot as u16).to_le_bytes());
        self.made[usize::from(queue)] = n + 1;
        self.b.memory.write(Phys(ring + 2), &(n + 1).to_le_bytes());
        self.b.pci.write(Bar::Modern, 0x3000 + 4 * u64::from(queue), Size::B2, queue.into());
    }

    /// What came in the buffer used as number `n`; `None`: not yet.
    fn came(&self, queue: u16, n: u16) -> Option<Vec<u8>> {
        let used = base(queue) + USED;
        if (self.b.word(used) >> 16) as u16 <= n {
            return None;
        }
        let entry = used + 4 + 8 * u64::from(n % 8);
        let (id, len) = (self.b.word(entry), self.b.word(entry + 4));
        let mut bytes = vec![0; len as usize];
        self.b.memory.read(Phys(base(queue) + BUFFERS + 256 * u64::from(id)), &mut bytes);
        Some(bytes)
    }

    fn control(&mut self, id: u8, event: u8, value: u8) {
        self.offer(3, Some(&[id, 0, 0, 0, event, 0, value, 0]));
    }
}

fn console() -> (VirtioConsole, BufferChar, BufferChar) {
    let (a, b) = (BufferChar::default(), BufferChar::default());
    let port = |far: &BufferChar, name: &str, is_console| {
        Some(ConsolePort { far: Box::new(far.clone()), name: name.to_owned(), is_console })
    };
    (VirtioConsole::new(vec![port(&a, "", true), port(&b, "org.x", false)]), a, b)
}

#[test]
fn one_console_without_ports() {
    let (device, far, _) = console();
    let mut d = Driver::new(Box::new(device), 1 << 32, 2);
    d.offer(1, Some(b"hello"));
    assert_eq!(far.sent(), b"hello");
    d.offer(0, None);
    assert_eq!(d.came(0, 0), None);
    far.feed(b"keys");
    d.b.pci.poll();
    assert_eq!(d.came(0, 0).unwrap(), b"keys");
    // A line without room is waited for.
    far.limit(3);
    d.offer(1, Some(b"more"));
    assert_eq!(d.came(1, 1), None);
    far.limit(0);
    d.b.pci.poll();
    assert_eq!(far.sent(), b"hellomore");
    // Before there are queues a driver may write single characters.
    d.b.pci.write(Bar::Modern, 0x2008, Size::B4, u64::from(b'!'));
    assert_eq!(far.sent(), b"hellomore!");
}

#[test]
fn ports_are_announced_named_and_opened() {
    let (device, _, far) = console();
    let mut d = Driver::new(Box::new(device), 1 << 32 | 2, 6);
    assert_eq!(d.b.pci.read(Bar::Modern, 0x2004, Size::B4), 2, "ports");
    far.feed(b"early");
    for _ in 0..8 {
        d.offer(2, None);
    }
    d.offer(4, None);
    d.control(0, 0, 1);
    assert_eq!(d.came(2, 0).unwrap(), [0, 0, 0, 0, 1, 0, 1, 0]);
    assert_eq!(d.came(2, 1).unwrap(), [1, 0, 0, 0, 1, 0, 1, 0]);
    d.control(0, 3, 1);
    assert_eq!(d.came(2, 2).unwrap(), [0, 0, 0, 0, 4, 0, 1, 0], "a console");
    assert_eq!(d.came(2, 3).unwrap(), [0, 0, 0, 0, 6, 0, 1, 0], "open");
    d.control(1, 3, 1);
    assert_eq!(d.came(2, 4).unwrap(), b"\x01\0\0\0\x07\0\x01\0org.x");
    assert_eq!(d.came(2, 5).unwrap(), [1, 0, 0, 0, 6, 0, 1, 0]);
    assert_eq!(d.came(4, 0), None, "nobody has opened it");
    let saved = d.b.pci.save();
    d.control(1, 6, 1);
    assert_eq!(d.came(4, 0).unwrap(), b"early");
    d.offer(5, Some(b"answer"));
    assert_eq!(far.sent(), b"answer");
    // Ports that are none, events that are none.
    for (id, event) in [(9, 3), (9, 6), (255, 6), (0, 99)] {
        d.control(id, event, 1);
    }
    assert_eq!(d.came(2, 6), None);
    d.b.pci.load(&saved).unwrap();
    assert_eq!(d.b.pci.save(), saved);
}

#[test]
fn control_messages_that_make_no_sense() {
    let (device, ..) = console();
    let mut d = Driver::new(Box::new(device), 1 << 32 | 2, 6);
    // A driver that asks and never listens does not fill the host's memory.
    for _ in 0..1000 {
        d.control(0, 3, 1);
    }
    assert!(d.b.pci.save().len() < 4096);
    d.offer(3, Some(b"short"));
    assert_ne!(d.b.status() & 0x40, 0, "it asks for a reset");
}

/// A cable that gives back what is sent.
#[derive(Default)]
struct Echo(std::collections::VecDeque<Vec<u8>>);

impl NetBackend for Echo {
    fn send(&mut self, frame: &[u8]) {
        self.0.push_back(frame.to_vec());
    }
    fn receive(&mut self) -> Option<Vec<u8>> {
        self.0.pop_front()
    }
}

#[test]
fn frames_go_and_come() {
    let card = VirtioNet::new([2, 0, 0, 0, 0, 7], Box::new(Echo::default()));
    let mut d = Driver::new(Box::new(card), 1 << 32 | 1 << 5 | 1 << 16, 2);
    assert_eq!(d.b.pci.read(Bar::Modern, 0x2000, Size::B8), 0x0001_0700_0000_0002);
    let frame = [[0; 12].as_slice(), b"to and fro"].concat();
    d.offer(1, Some(&frame));
    d.offer(0, None);
    let came = d.came(0, 0).unwrap();
    assert_eq!((&came[..10], came[10], &came[12..]), (&[0; 10][..], 1, &b"to and fro"[..]));
    // Longer than the buffer: lost, and the next one comes.
    d.offer(1, Some(&[0; 250]));
    d.offer(1, Some(&[0; 250]));
    d.offer(1, Some(&frame));
    d.offer(0, None);
    assert_eq!(d.came(0, 1).unwrap().len(), 250);
    d.offer(1, Some(b"no header"));
    assert_ne!(d.b.status() & 0x40, 0);
}
