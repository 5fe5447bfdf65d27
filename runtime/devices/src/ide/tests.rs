//! Tests of the IDE channels, as a driver sees them.

use mem::{PortDevice, Size};

use super::{Channel, Drive, IdeFunction};
use crate::State;
use crate::block::{BlockDev, MemDisk, SECTOR};
use crate::testing::{FakeDma, FakeWire};

struct Bench {
    ide: IdeFunction,
    irq: FakeWire,
    dma: FakeDma,
}

impl Bench {
    /// A 64-sector disk whose every byte is its sector number, alone on the primary channel.
    fn new() -> Self {
        let bytes = (0..64 * SECTOR).map(|i| (i / SECTOR) as u8).collect();
        Self::with(Drive::new(Box::new(MemDisk::new(bytes)), "S1"))
    }

    fn with(drive: Drive) -> Self {
        let (irq, dma) = (FakeWire::default(), FakeDma::new());
        let primary = Channel::new([drive, Drive::absent()], irq.boxed(), dma.boxed());
        let empty = [Drive::absent(), Drive::absent()];
        let secondary = Channel::new(empty, FakeWire::default().boxed(), dma.boxed());
        Self { ide: IdeFunction::new([primary, secondary]), irq, dma }
    }

    fn read(&mut self, register: u16) -> u64 {
        self.ide.channels[0].port_read(register, Size::B1)
    }
    fn write(&mut self, register: u16, value: u64) {
        self.ide.channels[0].port_write(register, Size::B1, value);
    }
    fn command(&mut self, code: u64, lba: u64, count: u64) {
        self.write(2, count);
        self.write(3, lba & 0xff);
        self.write(4, lba >> 8 & 0xff);
        self.write(5, lba >> 16 & 0xff);
        self.write(6, 0xe0 | lba >> 24 & 15);
        self.write(7, code);
    }
    fn data_in(&mut self, words: usize) -> Vec<u8> {
        (0..words)
            .flat_map(|_| (self.ide.channels[0].port_read(0, Size::B2) as u16).to_le_bytes())
            .collect()
    }
    fn data_out(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks(2) {
            let value = u64::from(u16::from_le_bytes([pair[0], pair[1]]));
            self.ide.channels[0].port_write(0, Size::B2, value);
        }
    }
}

#[test]
fn identify_shows_size_and_names() {
    let mut b = Bench::new();
    b.command(0xec, 0, 0);
    assert!(b.irq.level());
    assert_eq!(b.read(7), 0x58);
    assert!(!b.irq.level());
    let data = b.data_in(256);
    assert_eq!(b.read(7), 0x50);
    let word = |i: usize| u16::from_le_bytes([data[2 * i], data[2 * i + 1]]);
    assert_eq!((word(60), word(61), word(100)), (64, 0, 64));
    assert_eq!(&data[20..24], b"1S  ");
    assert_eq!(word(83) & 0x0400, 0x0400);
}

#[test]
fn absent_drives_answer_as_absent() {
    let mut b = Bench::new();
    b.write(6, 0xb0);
    assert_eq!((b.read(7), b.read(6)), (0, 0xb0));
    b.write(7, 0xec);
    assert_eq!(b.read(7), 0);
    let empty = &mut b.ide.channels[1];
    empty.port_write(6, Size::B1, 0xa0);
    empty.port_write(2, Size::B1, 0x55);
    assert_eq!(empty.port_read(2, Size::B1), 0);
    assert_eq!(empty.port_read(7, Size::B1), 0);
}

#[test]
fn pio_read_interrupts_per_sector() {
    let mut b = Bench::new();
    b.command(0x20, 5, 2);
    assert_eq!(b.irq.rises(), 1);
    b.read(7);
    assert_eq!(b.data_in(256), vec![5; SECTOR]);
    assert_eq!(b.irq.rises(), 2);
    assert_eq!(b.read(7), 0x58);
    assert_eq!(b.data_in(256), vec![6; SECTOR]);
    assert_eq!((b.irq.rises(), b.read(7), b.read(3), b.read(2)), (2, 0x50, 6, 0));
}

#[test]
fn multiple_and_48_bit_writes() {
    let mut b = Bench::new();
    b.command(0xc5, 0, 4);
    assert_eq!((b.read(7), b.read(1)), (0x51, 4), "SET MULTIPLE first");
    b.write(2, 3);
    b.write(7, 0xc6);
    assert_eq!(b.read(7), 0x51, "three is no power of two");
    b.write(2, 4);
    b.write(7, 0xc6);
    assert_eq!(b.read(7), 0x50);
    let before = b.irq.rises();
    for register in [2, 3, 4, 5] {
        b.write(register, 0);
    }
    b.command(0x39, 10, 6);
    b.data_out(&[0xaa; 4 * SECTOR]);
    assert_eq!(b.irq.rises() - before, 1);
    assert_eq!(b.read(7), 0x58);
    b.data_out(&[0xbb; 2 * SECTOR]);
    assert_eq!(b.irq.rises() - before, 2);
    assert_eq!(b.read(7), 0x50);
    b.command(0x20, 15, 1);
    assert_eq!(b.data_in(256), vec![0xbb; SECTOR]);
}

#[test]
fn chs_addressing() {
    let mut b = Bench::new();
    b.write(2, 1);
    b.write(3, 2);
    b.write(4, 0);
    b.write(5, 0);
    b.write(6, 0xa0);
    b.write(7, 0x20);
    assert_eq!(b.data_in(256)[0], 1);
    b.write(3, 0);
    b.write(2, 1);
    b.write(7, 0x20);
    assert_eq!((b.read(7), b.read(1)), (0x51, 0x10), "there is no sector 0");
}

#[test]
fn beyond_the_end_and_unknown_commands() {
    let mut b = Bench::new();
    b.command(0x20, 63, 2);
    assert_eq!((b.read(7), b.read(1)), (0x51, 0x10));
    b.command(0xa1, 0, 0);
    assert_eq!((b.read(7), b.read(1)), (0x51, 4));
    b.command(0x40, 0, 64);
    assert_eq!(b.read(7), 0x50);
}

#[test]
fn software_reset_and_diagnostic_show_the_signature() {
    let mut b = Bench::new();
    b.command(0x20, 5, 2);
    b.write(8, 0x06);
    assert_eq!(b.read(8), 0x80);
    b.write(8, 0x02);
    assert_eq!([1, 2, 3, 4, 5, 7].map(|r| b.read(r)), [1, 1, 1, 0, 0, 0x50]);
    assert!(!b.irq.level());
    b.write(8, 0);
    b.write(7, 0x90);
    assert!(b.irq.level());
    assert_eq!(b.read(1), 1);
}

#[test]
fn dma_scatters_through_the_table() {
    let mut b = Bench::new();
    b.dma.poke(0x100, &[0x00, 0x10, 0, 0, 0x00, 0x01, 0, 0]);
    b.dma.poke(0x108, &[0x00, 0x20, 0, 0, 0x00, 0x03, 0, 0x80]);
    b.ide.bus_master_write(4, Size::B4, 0x100);
    b.command(0xc8, 7, 2);
    assert_eq!(b.read(8) & 0x80, 0x80, "waits for the bus master");
    b.ide.bus_master_write(0, Size::B1, 9);
    assert!(b.irq.level());
    assert_eq!(b.ide.bus_master_read(2, Size::B1), 4, "done: interrupt, not active");
    assert_eq!(b.read(7), 0x50);
    assert_eq!(b.dma.peek(0x1000, 0x100), [7; 0x100]);
    assert_eq!(b.dma.peek(0x2000, 0x300)[0xff..0x101], [7, 8]);
    b.ide.bus_master_write(0, Size::B1, 0);
    b.ide.bus_master_write(2, Size::B1, 6);
    assert_eq!(b.ide.bus_master_read(2, Size::B1), 0);
    b.dma.poke(0x100, &[0x00, 0x30, 0, 0, 0x00, 0x02, 0, 0x80]);
    b.dma.poke(0x3000, &[0x5a; SECTOR]);
    b.ide.bus_master_write(0, Size::B1, 1);
    b.command(0xca, 20, 1);
    assert_eq!(b.read(7), 0x50);
    b.command(0x20, 20, 1);
    assert_eq!(b.data_in(256), vec![0x5a; SECTOR]);
}

#[test]
fn a_short_table_ends_the_bus_master() {
    let mut b = Bench::new();
    b.dma.poke(0x100, &[0x00, 0x10, 0, 0, 0x00, 0x01, 0, 0x80]);
    b.ide.bus_master_write(4, Size::B4, 0x100);
    b.ide.bus_master_write(0, Size::B1, 9);
    b.command(0xc8, 7, 2);
    assert_eq!(b.ide.bus_master_read(2, Size::B1), 0);
    assert!(!b.irq.level());
    b.write(8, 4);
    b.write(8, 0);
    assert_eq!(b.read(7), 0x50);
}

struct BadDisk;

impl BlockDev for BadDisk {
    fn sectors(&self) -> u64 {
        64
    }
    fn read(&mut self, lba: u64, _: &mut [u8]) -> std::io::Result<()> {
        if lba == 3 { Err(std::io::Error::other("bad sector")) } else { Ok(()) }
    }
    fn write(&mut self, _: u64, _: &[u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::StorageFull.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Err(std::io::Error::other("bad disk"))
    }
}

#[test]
fn host_errors_become_ata_errors() {
    let mut b = Bench::with(Drive::new(Box::new(BadDisk), "bad"));
    b.command(0x20, 2, 2);
    b.data_in(256);
    assert_eq!((b.read(7), b.read(1), b.read(3)), (0x51, 0x40, 3));
    b.command(0x30, 2, 1);
    b.data_out(&[0; SECTOR]);
    assert_eq!((b.read(7), b.read(1)), (0x51, 4));
    b.command(0xe7, 0, 0);
    assert_eq!(b.read(7), 0x51);
}

#[test]
fn hostile_register_traffic_and_state() {
    let mut b = Bench::new();
    let mut seed = 7u64;
    for _ in 0..50_000 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let (port, value) = ((seed >> 33) as u16 % 26, seed >> 40 & 0xffff_ffff);
        let size = [Size::B1, Size::B2, Size::B4][(seed >> 62) as usize % 3];
        match port {
            0..9 if seed & 1 == 0 => drop(b.ide.channels[0].port_read(port, size)),
            0..9 => b.ide.channels[0].port_write(port, size, value),
            _ => b.ide.bus_master_write((port - 9) & 15, size, value),
        }
    }
    let saved = b.ide.save();
    b.ide.load(&saved).unwrap();
    assert_eq!(b.ide.save(), saved);
}
