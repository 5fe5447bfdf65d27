//! Tests of the floppy controller, as a driver sees it, with the DMA controller beside it.

use mem::{PortDevice, Size};

use super::{Fdc, FloppyDrive, Geometry};
use crate::State;
use crate::block::{MemDisk, SECTOR};
use crate::dma8237::Dma8237;
use crate::testing::{FakeDma, FakeWire};

struct Bench {
    fdc: Fdc,
    dma: Dma8237,
    memory: FakeDma,
    irq: FakeWire,
}

impl Bench {
    /// A 1.44 MB disk in drive A; every byte is its sector's number.
    fn new() -> Self {
        Self::with(FloppyDrive::new(Some(Box::new(disk(2880)))))
    }

    fn with(drive: FloppyDrive) -> Self {
        let irq = FakeWire::default();
        let fdc = Fdc::new([drive, FloppyDrive::default()], irq.boxed());
        let mut bench = Self { fdc, dma: Dma8237::new(), memory: FakeDma::new(), irq };
        bench.write(2, 0x1c);
        bench.write(7, 0);
        for unit in 0..4 {
            assert_eq!(bench.ask(&[8])[0], 0xc0 | unit);
        }
        bench
    }

    fn read(&mut self, port: u16) -> u8 {
        self.fdc.port_read(port, Size::B1) as u8
    }
    fn write(&mut self, port: u16, value: u8) {
        self.fdc.port_write(port, Size::B1, value.into());
        self.dma.serve(2, 0, &self.memory, &mut self.fdc);
    }
    /// Sends a command and takes its result.
    fn ask(&mut self, command: &[u8]) -> Vec<u8> {
        for byte in command {
            assert_eq!(self.read(4) & 0xc0, 0x80, "{command:02x?}");
            self.write(5, *byte);
        }
        let mut result = Vec::new();
        while self.read(4) & 0xd0 == 0xd0 {
            result.push(self.read(5));
        }
        result
    }
    /// Programs DMA channel 2: `mode` as the mode register wants it.
    fn program(&mut self, mode: u64, address: u16, bytes: u16) {
        let [low, high] = address.to_le_bytes();
        let [few, many] = (bytes - 1).to_le_bytes();
        let writes = [
            (10, 6),
            (12, 0),
            (11, mode),
            (4, low.into()),
            (4, high.into()),
            (5, few.into()),
            (5, many.into()),
            (10, 2),
        ];
        for (port, value) in writes {
            self.dma.port_write(port, Size::B1, value);
        }
    }
}

fn disk(sectors: usize) -> MemDisk {
    MemDisk::new((0..sectors * SECTOR).map(|i| (i / SECTOR) as u8).collect())
}

#[test]
fn reset_and_seeks_interrupt() {
    let mut b = Bench::new();
    assert_eq!(b.ask(&[8]), [0x80], "nothing left to sense");
    assert_eq!(b.read(7), 0x80, "the disk has just been put in");
    for byte in [0x0f, 0, 5] {
        b.write(5, byte);
    }
    assert!(b.irq.level());
    assert_eq!(b.ask(&[8]), [0x20, 5]);
    assert!(!b.irq.level());
    assert_eq!(b.read(7), 0);
    assert_eq!(b.ask(&[4, 0]), [0x28]);
    assert!(b.ask(&[7, 0]).is_empty());
    assert_eq!(b.ask(&[8]), [0x20, 0]);
    assert_eq!(b.ask(&[4, 0]), [0x38]);
    assert!(b.ask(&[7, 1]).is_empty());
    assert_eq!(b.ask(&[8])[0] & 0x70, 0x70, "drive B is not there");
    assert_eq!(b.ask(&[0x10]), [0x90]);
    assert_eq!(b.ask(&[0x94]), [0x10]);
    assert_eq!(b.ask(&[0x1f]), [0x80]);
    b.write(2, 0x18);
    assert_eq!((b.read(4), b.irq.level()), (0, false));
}

#[test]
fn reads_by_dma_across_heads() {
    let mut b = Bench::new();
    b.program(0x46, 0x1000, 4 * 512);
    let result = b.ask(&[0xe6, 0, 0, 0, 17, 2, 18, 0x1b, 0xff]);
    assert_eq!(result, [4, 0, 0, 0, 1, 3, 2], "on the other side, behind sector 2");
    let data = b.memory.peek(0x1000, 4 * 512);
    let seen: Vec<u8> = data.iter().step_by(512).copied().collect();
    assert_eq!(seen, [16, 17, 18, 19]);
    assert_eq!(b.dma.port_read(8, Size::B1) & 0x0f, 4, "terminal count");
    // One track of one side, and one sector more than it has.
    b.program(0x46, 0x1000, 3 * 512);
    assert_eq!(b.ask(&[0x46, 0, 0, 0, 17, 2, 18, 0x1b, 0xff])[..3], [0x40, 0x80, 0]);
    // No such sector; the wrong track; the wrong rate.
    assert_eq!(b.ask(&[0x46, 0, 0, 0, 19, 2, 18, 0x1b, 0xff])[..3], [0x40, 4, 0]);
    assert_eq!(b.ask(&[0x46, 0, 3, 0, 1, 2, 18, 0x1b, 0xff])[..3], [0x40, 4, 0x10]);
    b.write(7, 2);
    assert_eq!(b.ask(&[0x4a, 0])[..2], [0x40, 1]);
    b.write(7, 0);
    assert_eq!(b.ask(&[0x4a, 0])[..2], [0, 0]);
}

#[test]
fn writes_and_formats() {
    let mut b = Bench::new();
    b.memory.poke(0x2000, &[0xaa; 700]);
    b.program(0x4a, 0x2000, 700);
    assert_eq!(b.ask(&[0x45, 0, 0, 0, 3, 2, 18, 0x1b, 0xff])[..3], [0, 0, 0]);
    let mut sector = [0; 512];
    b.fdc.drive(0).unwrap().disk().unwrap().read(3, &mut sector).unwrap();
    assert_eq!((sector[187], sector[188]), (0xaa, 0), "a sector cut short is filled up");
    b.memory.poke(0x3000, &[0, 1, 1, 2, 0, 1, 2, 2]);
    b.program(0x4a, 0x3000, 8);
    assert_eq!(b.ask(&[0x4d, 4, 2, 2, 0x50, 0xf6])[..3], [4, 0, 0]);
    b.fdc.drive(0).unwrap().disk().unwrap().read(19, &mut sector).unwrap();
    assert_eq!(sector, [0xf6; 512]);
}

#[test]
fn data_register_instead_of_dma() {
    let mut b = Bench::new();
    b.ask(&[3, 0xaf, 0x03]);
    for byte in [0x46, 0, 0, 0, 2, 2, 2, 0x1b, 0xff] {
        b.write(5, byte);
    }
    assert!(b.irq.level());
    for _ in 0..512 {
        assert_eq!(b.read(4) & 0xe0, 0xe0);
        assert_eq!(b.read(5), 1);
    }
    assert_eq!(b.ask(&[])[..2], [0x40, 0x80], "without terminal count it is the end of the track");
}

#[test]
fn empty_and_protected_drives() {
    let mut b = Bench::with(FloppyDrive::new(None));
    assert_eq!(b.ask(&[0x4a, 0])[..2], [0x40, 1]);
    assert_eq!(b.ask(&[0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff])[..2], [0x40, 1]);
    b.ask(&[0x0f, 0, 3]);
    assert_eq!(b.read(7), 0x80);
    b.fdc.drive(0).unwrap().change(Some(Box::new(disk(1440))));
    b.write(7, 2);
    assert_eq!(b.ask(&[0x4a, 0])[..2], [0, 0]);
}

#[test]
fn geometries() {
    for (sectors, expect) in [
        (2880, Some((80, 18))),
        (5760, Some((80, 36))),
        (2400, Some((80, 15))),
        (1440, Some((80, 9))),
        (2600, Some((80, 18))),
        (6000, None),
    ] {
        assert_eq!(Geometry::of(sectors).map(|g| (g.tracks, g.sectors)), expect, "{sectors}");
    }
}

#[test]
fn saved_in_the_middle_of_a_sector() {
    let mut b = Bench::new();
    b.ask(&[3, 0xaf, 0x03]);
    for byte in [0x46, 0, 0, 0, 2, 2, 3, 0x1b, 0xff] {
        b.write(5, byte);
    }
    b.read(5);
    let saved = b.fdc.save();
    let mut other = Bench::new();
    other.fdc.load(&saved).unwrap();
    assert_eq!(other.fdc.save(), saved);
    let rest: Vec<u8> = (0..1023).map(|_| other.read(5)).collect();
    assert_eq!((rest[0], rest[510], rest[511], rest[1022]), (1, 1, 2, 2));
}

#[test]
fn hostile_register_traffic() {
    let mut b = Bench::new();
    let mut seed = 11u64;
    for _ in 0..200_000 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let (port, value) = ((seed >> 33) as u16 & 7, (seed >> 40) as u8);
        match seed >> 61 {
            0 => drop(b.read(port)),
            1 => b.dma.port_write((seed >> 48) as u16 & 15, Size::B1, value.into()),
            2 => b.write(port, value),
            // Mostly commands that exist, so that transfers are reached.
            3 => b.write(2, 0x1c),
            4 => drop(b.read(5)),
            _ => b.write(5, [0x46, 0xc5, 0x4d, 0, 1, 2, 18, value][(seed >> 50) as usize & 7]),
        }
    }
    let saved = b.fdc.save();
    b.fdc.load(&saved).unwrap();
    assert_eq!(b.fdc.save(), saved);
}
