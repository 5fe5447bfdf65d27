//! Tests of the CD drive, as a driver sees it.

use mem::{PortDevice, Size};

use super::{Channel, Drive, IdeFunction};
use crate::State;
use crate::block::MemDisk;
use crate::testing::{FakeDma, FakeWire};

const CD: usize = 2048;

struct Bench {
    ide: IdeFunction,
    irq: FakeWire,
    dma: FakeDma,
}

impl Bench {
    /// A disc of 40 sectors whose every byte is its sector number, as secondary master.
    fn new() -> Self {
        let bytes = (0..40 * CD).map(|i| (i / CD) as u8).collect();
        Self::with(Drive::cd(Some(Box::new(MemDisk::new(bytes))), "S3"))
    }

    fn with(drive: Drive) -> Self {
        let (irq, dma) = (FakeWire::default(), FakeDma::new());
        let empty = [Drive::absent(), Drive::absent()];
        let primary = Channel::new(empty, FakeWire::default().boxed(), dma.boxed());
        let secondary = Channel::new([drive, Drive::absent()], irq.boxed(), dma.boxed());
        Self { ide: IdeFunction::new([primary, secondary]), irq, dma }
    }

    fn channel(&mut self) -> &mut Channel {
        &mut self.ide.channels[1]
    }
    fn read(&mut self, register: u16) -> u64 {
        self.channel().port_read(register, Size::B1)
    }
    fn write(&mut self, register: u16, value: u64) {
        self.channel().port_write(register, Size::B1, value);
    }

    /// Sends a packet; bytes per burst at most `limit`.
    fn packet(&mut self, packet: &[u8], feature: u64, limit: u16) {
        self.write(6, 0xa0);
        self.write(1, feature);
        self.write(4, u64::from(limit & 0xff));
        self.write(5, u64::from(limit >> 8));
        self.write(7, 0xa0);
        assert_eq!((self.read(8) & 0x88, self.read(2)), (8, 1));
        let mut bytes = [0; 12];
        bytes[..packet.len()].copy_from_slice(packet);
        for pair in bytes.as_chunks::<2>().0 {
            let word = u64::from(u16::from_le_bytes(*pair));
            self.channel().port_write(0, Size::B2, word);
        }
    }

    /// Sends a packet and reads its whole answer.
    fn ask(&mut self, packet: &[u8], limit: u16) -> Vec<u8> {
        self.packet(packet, 0, limit);
        let mut all = Vec::new();
        while self.read(7) & 8 != 0 {
            assert_eq!(self.read(2), 2);
            let n = (self.read(4) | self.read(5) << 8) as usize;
            assert!(n > 0 && n <= usize::from(limit));
            let mut part = vec![0; n.next_multiple_of(2)];
            for pair in part.as_chunks_mut::<2>().0 {
                *pair = (self.channel().port_read(0, Size::B2) as u16).to_le_bytes();
            }
            all.extend_from_slice(&part[..n]);
        }
        assert_eq!(self.read(2), 3);
        all
    }

    /// The sense key, code and qualifier of the last failure.
    fn sense(&mut self) -> [u8; 3] {
        let bytes = self.ask(&[0x03, 0, 0, 0, 18], 0xfffe);
        [bytes[2], bytes[12], bytes[13]]
    }

    /// Sends a packet that must fail.
    fn fails(&mut self, packet: &[u8]) -> [u8; 3] {
        self.packet(packet, 0, 0xfffe);
        assert_eq!(self.read(7), 0x51);
        let error = self.read(1) as u8;
        let sense = self.sense();
        assert_eq!(error >> 4, sense[0]);
        sense
    }
}

#[test]
fn drivers_tell_it_from_a_disk() {
    let mut b = Bench::new();
    assert_eq!([2, 3, 4, 5, 7].map(|r| b.read(r)), [1, 1, 0x14, 0xeb, 0]);
    b.write(7, 0xec);
    assert_eq!((b.read(7), b.read(1), b.read(4), b.read(5)), (0x51, 4, 0x14, 0xeb));
    b.write(7, 0xa1);
    assert_eq!(b.read(7), 0x58);
    assert_eq!(b.channel().port_read(0, Size::B2), 0x85c0);
    b.write(7, 8);
    assert_eq!((b.read(7), b.read(5)), (0, 0xeb));
    let inquiry = b.ask(&[0x12, 0, 0, 0, 36], 0xfffe);
    assert_eq!((inquiry[0], inquiry[1], inquiry.len()), (5, 0x80, 36));
    assert_eq!(b.ask(&[0x12, 0, 0, 0, 5], 0xfffe).len(), 5);
}

#[test]
fn sectors_come_in_bursts() {
    let mut b = Bench::new();
    assert_eq!(b.ask(&[0x25], 8), [0, 0, 0, 39, 0, 0, 8, 0]);
    for limit in [2048, 0xffff, 0xfffe, 4095, 2, 3] {
        let data = b.ask(&[0x28, 0, 0, 0, 0, 3, 0, 0, 30], limit);
        assert_eq!(data.len(), 30 * CD, "limit {limit}");
        assert!(data.chunks(CD).zip(3..).all(|(sector, n)| sector.iter().all(|&b| b == n)));
    }
    let data = b.ask(&[0xa8, 0, 0, 0, 0, 39, 0, 0, 0, 1], 2048);
    assert_eq!(data, vec![39; CD]);
    let raw = b.ask(&[0xbe, 0, 0, 0, 0, 1, 0, 0, 1, 0xf8], 0xfffe);
    assert_eq!((raw.len(), &raw[12..17]), (2352, &[0, 2, 1, 1, 1][..]));
    assert_eq!(b.fails(&[0x28, 0, 0, 0, 0, 39, 0, 0, 2]), [5, 0x21, 0]);
    assert_eq!(b.fails(&[0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 2]), [5, 0x21, 0]);
    assert_eq!(b.sense(), [0, 0, 0], "told once");
    b.packet(&[0x25], 0, 0);
    assert_eq!((b.read(7), b.read(1)), (0x51, 4), "no room for a burst");
}

#[test]
fn answers_and_sectors_by_dma() {
    let mut b = Bench::new();
    b.dma.poke(0x100, &[0x00, 0x10, 0, 0, 0x00, 0x18, 0, 0]);
    b.dma.poke(0x108, &[0x00, 0x40, 0, 0, 0x00, 0x18, 0, 0x80]);
    b.ide.bus_master_write(12, Size::B4, 0x100);
    b.packet(&[0x28, 0, 0, 0, 0, 5, 0, 0, 6], 1, 0);
    assert_eq!(b.read(8) & 0x80, 0x80);
    b.ide.bus_master_write(8, Size::B1, 9);
    assert_eq!((b.ide.bus_master_read(10, Size::B1), b.irq.level()), (4, true));
    assert_eq!((b.read(7), b.read(2)), (0x50, 3));
    assert_eq!(b.dma.peek(0x1000, 3 * CD)[2 * CD..], vec![7; CD]);
    assert_eq!(b.dma.peek(0x4000, 3 * CD)[..CD], vec![8; CD]);
    b.ide.bus_master_write(8, Size::B1, 0);
    b.ide.bus_master_write(10, Size::B1, 6);
    b.packet(&[0x25], 1, 0);
    b.ide.bus_master_write(8, Size::B1, 9);
    assert_eq!(b.dma.peek(0x1000, 9), [0, 0, 0, 39, 0, 0, 8, 0, 5]);
    assert_eq!(b.ide.bus_master_read(10, Size::B1), 5, "more room than data: still active");
}

#[test]
fn tables_of_contents() {
    let mut b = Bench::new();
    let toc = b.ask(&[0x43, 0, 0, 0, 0, 0, 0, 0, 255], 0xfffe);
    assert_eq!(toc, [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 0, 40]);
    let msf = b.ask(&[0x43, 2, 0, 0, 0, 0, 0xaa, 0, 255], 0xfffe);
    assert_eq!(msf, [0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 2, 40]);
    assert_eq!(b.ask(&[0x43, 0, 0, 0, 0, 0, 0, 0, 4], 0xfffe).len(), 4);
    let sessions = b.ask(&[0x43, 0, 0, 0, 0, 0, 0, 0, 255, 0x40], 0xfffe);
    assert_eq!(sessions, [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0]);
    assert_eq!(b.ask(&[0x43, 0, 2, 0, 0, 0, 0, 0, 255], 0xfffe).len(), 48);
    assert_eq!(b.fails(&[0x43, 0, 0, 0, 0, 0, 2, 0, 255]), [5, 0x24, 0]);
    assert_eq!(b.fails(&[0x43, 0, 7, 0, 0, 0, 0, 0, 255]), [5, 0x24, 0]);
}

#[test]
fn what_it_is_and_what_is_in_it() {
    let mut b = Bench::new();
    let all = b.ask(&[0x46, 0, 0, 0, 0, 0, 0, 1, 0], 0xfffe);
    assert_eq!((all.len(), all[3], all[7]), (68, 64, 8));
    let one = b.ask(&[0x46, 2, 0, 3, 0, 0, 0, 1, 0], 0xfffe);
    assert_eq!(one[8..], [0, 3, 3, 4, 0x29, 0, 0, 0]);
    let caps = b.ask(&[0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 128], 0xfffe);
    assert_eq!((caps.len(), caps[1], caps[8], caps[9]), (28, 26, 0x2a, 18));
    assert_eq!(b.ask(&[0x51, 0, 0, 0, 0, 0, 0, 0, 34], 0xfffe)[..4], [0, 32, 0x0e, 1]);
    assert_eq!(b.fails(&[0x5a, 0, 0xea, 0, 0, 0, 0, 0, 128]), [5, 0x39, 0]);
    assert_eq!(b.fails(&[0x5a, 0, 0x05, 0, 0, 0, 0, 0, 128]), [5, 0x24, 0]);
    assert_eq!(b.fails(&[0xff]), [5, 0x20, 0]);
    assert_eq!(b.ask(&[0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8], 0xfffe).len(), 8);
    assert!(b.ask(&[0xbb], 0xfffe).is_empty());
}

#[test]
fn media_come_and_go() {
    let mut b = Bench::with(Drive::cd(None, "S3"));
    assert_eq!(b.fails(&[0x00]), [2, 0x3a, 1]);
    let disc = Box::new(MemDisk::new(vec![1; 3 * CD]));
    b.channel().drive(0).unwrap().change(Some(disc));
    let event = b.ask(&[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8], 0xfffe);
    assert_eq!(event, [0, 6, 4, 0x10, 2, 2, 0, 0]);
    assert_eq!(b.fails(&[0x00]), [6, 0x28, 0]);
    assert!(b.ask(&[0x00], 0xfffe).is_empty());
    assert!(b.ask(&[0x1e, 0, 0, 0, 1], 0xfffe).is_empty());
    assert!(!b.channel().drive(0).unwrap().eject(false), "locked");
    assert_eq!(b.ask(&[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8], 0xfffe)[4], 1);
    assert_eq!(b.fails(&[0x1b, 0, 0, 0, 2]), [5, 0x53, 2]);
    assert!(b.ask(&[0x1e], 0xfffe).is_empty());
    assert!(b.ask(&[0x1b, 0, 0, 0, 2], 0xfffe).is_empty());
    assert_eq!(b.fails(&[0x25]), [2, 0x3a, 2]);
    assert!(b.ask(&[0x1b, 0, 0, 0, 3], 0xfffe).is_empty());
    assert_eq!(b.fails(&[0x25]), [6, 0x28, 0]);
    assert_eq!(b.ask(&[0x25], 0xfffe)[3], 2);
    assert!(b.channel().drive(0).unwrap().eject(false));
    assert_eq!(b.fails(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1]), [2, 0x3a, 1]);
    assert_eq!(b.fails(&[0x4a, 0]), [5, 0x24, 0]);
}

#[test]
fn saved_in_the_middle_of_an_answer() {
    let mut b = Bench::new();
    b.packet(&[0x28, 0, 0, 0, 0, 3, 0, 0, 2], 0, 2048);
    b.channel().port_read(0, Size::B2);
    let saved = b.ide.save();
    let mut other = Bench::new();
    other.ide.load(&saved).unwrap();
    assert_eq!(other.ide.save(), saved);
    for bench in [&mut b, &mut other] {
        let mut rest = vec![0; CD - 2];
        assert_eq!(bench.channel().read_block(&mut rest), CD - 2);
        assert_eq!(bench.read(7), 0x58);
        let mut next = vec![0; 2 * CD];
        assert_eq!(bench.channel().read_block(&mut next), CD);
        assert_eq!((rest, &next[..CD]), (vec![3; CD - 2], &vec![4; CD][..]));
        assert_eq!((bench.read(7), bench.read(2)), (0x50, 3));
    }
}

#[test]
fn hostile_packets_and_registers() {
    let mut b = Bench::new();
    let codes =
        [0x00, 0x03, 0x12, 0x1b, 0x1e, 0x25, 0x28, 0x43, 0x46, 0x4a, 0x51, 0x5a, 0xa8, 0xbd, 0xbe];
    let mut seed = 5u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        seed >> 24
    };
    for _ in 0..20_000 {
        let value = random();
        match value % 8 {
            0 => b.write(7, 0xa0),
            1 => b.write(1, value >> 8 & 3),
            2 => b.write((value >> 8) as u16 & 1 | 4, value >> 16 & 0xff),
            3 => b.ide.bus_master_write(8 + (value >> 8 & 7) as u16, Size::B4, value >> 16),
            4 => b.write((value >> 8) as u16 % 9, value >> 16 & 0xff),
            5 => b.ide.bus_master_write(8, Size::B1, 9),
            _ => {
                // A packet with a command that exists, and anything behind it.
                b.write(8, 0);
                b.write(7, 0xa0);
                let mut packet = [random().to_le_bytes(), random().to_le_bytes()].concat();
                packet[0] = codes[random() as usize % codes.len()];
                b.channel().write_block(&packet[..12]);
                for _ in 0..random() % 600 {
                    b.channel().port_read(0, [Size::B1, Size::B2, Size::B4][value as usize % 3]);
                }
            }
        }
    }
    let saved = b.ide.save();
    b.ide.load(&saved).unwrap();
    assert_eq!(b.ide.save(), saved);
}
