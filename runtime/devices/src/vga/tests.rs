//! Tests of the display adapter.

use std::sync::Arc;

use mem::{GuestRam, MmioDevice, PortDevice, RamWindow, Size};

use super::{CELLS_LEN, Direct, Vga};
use crate::State;
use crate::testing::FakeTimer;

fn vga() -> Vga {
    let ram = Arc::new(GuestRam::new((1 << 20) + CELLS_LEN).unwrap());
    let cells = RamWindow::new(ram.clone(), 1 << 20, CELLS_LEN);
    Vga::new([RamWindow::new(ram, 0, 1 << 20), cells], FakeTimer::default().boxed(), 0x9c00)
}

fn set(vga: &mut Vga, index_port: u16, index: u64, value: u64) {
    vga.port_write(index_port, Size::B1, index);
    vga.port_write(index_port + 1, Size::B1, value);
}

const SEQ: u16 = 0x14;
const GFX: u16 = 0x1e;
const CRTC: u16 = 0x24;

/// The registers of mode 3 that the memory path and the snapshot look at.
fn text_mode(vga: &mut Vga) {
    vga.port_write(0x12, Size::B1, 0x67);
    for (index, value) in [(2, 3), (4, 2)] {
        set(vga, SEQ, index, value);
    }
    for (index, value) in [(5, 0x10), (6, 0x0e), (8, 0xff)] {
        set(vga, GFX, index, value);
    }
    for (index, value) in
        [(1, 79), (7, 0x1f), (9, 0x4f), (0x0a, 13), (0x0b, 14), (0x12, 0x8f), (0x13, 40)]
    {
        set(vga, CRTC, index, value);
    }
}

#[test]
fn text_reaches_the_snapshot() {
    let mut v = vga();
    assert!(v.text_screen().is_none());
    text_mode(&mut v);
    for (i, ch) in b"Hi".iter().enumerate() {
        v.mmio_write(0x18000 + 160 + 2 * i as u64, Size::B2, 0x0700 | u64::from(*ch));
    }
    set(&mut v, CRTC, 0x0e, 0);
    set(&mut v, CRTC, 0x0f, 82);
    let screen = v.text_screen().unwrap();
    assert_eq!((screen.cols, screen.rows), (80, 25));
    assert_eq!(screen.line(1), "Hi");
    assert_eq!(screen.cells[80].attr, 7);
    assert_eq!(screen.cursor, Some((2, 1)));
    assert_eq!(v.mmio_read(0x18000 + 160, Size::B2), 0x0748);
    assert_eq!(v.mmio_read(0, Size::B1), 0xff, "outside the window");
}

/// GRUB as firmware loads its font so: the sequencer speaks of odd and even planes, the graphics controller does not.
#[test]
fn the_graphics_controller_says_whether_planes_alternate() {
    let mut v = vga();
    v.port_write(0x12, Size::B1, 0x63);
    for (port, index, value) in [(SEQ, 4, 0), (SEQ, 2, 4), (GFX, 5, 0), (GFX, 6, 0), (GFX, 8, 0xff)]
    {
        set(&mut v, port, index, value);
    }
    for at in 0..4 {
        v.mmio_write(at, Size::B1, 0xa0 | at);
    }
    let font = [0, 1, 2, 3].map(|at| v.vram().read(4 * at + 2, Size::B1));
    assert_eq!(font, [0xa0, 0xa1, 0xa2, 0xa3]);
    set(&mut v, SEQ, 2, 3);
    set(&mut v, GFX, 5, 0x10);
    v.mmio_write(0x10, Size::B2, 0x0741);
    assert_eq!(v.vram().read(0x20, Size::B4), 0x0741);
}

#[test]
fn planar_write_and_read_modes() {
    let mut v = vga();
    v.port_write(0x12, Size::B1, 0x63);
    set(&mut v, SEQ, 4, 6);
    set(&mut v, SEQ, 2, 0x0f);
    set(&mut v, GFX, 6, 5);
    set(&mut v, GFX, 8, 0xff);
    // Write mode 0 with set/reset in planes 0 and 2.
    set(&mut v, GFX, 0, 0x01);
    set(&mut v, GFX, 1, 0x05);
    v.mmio_write(0, Size::B1, 0xa5);
    let planes = |v: &mut Vga, at| {
        [0, 1, 2, 3].map(|plane| {
            set(v, GFX, 4, plane);
            v.mmio_read(at, Size::B1)
        })
    };
    assert_eq!(planes(&mut v, 0), [0xff, 0xa5, 0x00, 0xa5]);
    // Mode 1 copies the latches.
    set(&mut v, GFX, 5, 1);
    v.mmio_write(5, Size::B1, 0);
    set(&mut v, GFX, 5, 0);
    assert_eq!(planes(&mut v, 5), [0xff, 0xa5, 0x00, 0xa5]);
    // Mode 2: colour 9 in the low nibble of bits.
    set(&mut v, GFX, 5, 2);
    set(&mut v, GFX, 8, 0x0f);
    v.mmio_write(0, Size::B1, 9);
    set(&mut v, GFX, 5, 0);
    assert_eq!(planes(&mut v, 0), [0xff, 0xa0, 0x00, 0xaf]);
    // Mode 3: set/reset through the CPU's mask, XORed with the latches.
    set(&mut v, GFX, 5, 3);
    set(&mut v, GFX, 3, 0x18);
    set(&mut v, GFX, 8, 0xff);
    v.mmio_write(0, Size::B1, 0x81);
    set(&mut v, GFX, 5, 0);
    assert_eq!(planes(&mut v, 0), [0x7e, 0xa0, 0x00, 0xaf]);
    // Read mode 1: where is plane 0 one and plane 3 one?
    set(&mut v, GFX, 5, 8);
    set(&mut v, GFX, 2, 9);
    set(&mut v, GFX, 7, 9);
    assert_eq!(v.mmio_read(0, Size::B1), 0x7e & 0xaf);
}

#[test]
fn vbe_modes_banks_and_bounds() {
    let mut v = vga();
    let put = |v: &mut Vga, index, value| {
        v.vbe_write(0, index);
        v.vbe_write(1, value);
    };
    assert_eq!(v.vbe_read(1), 0xb0c5);
    put(&mut v, 1, 640);
    put(&mut v, 2, 480);
    put(&mut v, 3, 32);
    put(&mut v, 4, 0x41);
    assert_eq!(v.vbe_mode(), None, "1.2 MB do not fit");
    put(&mut v, 3, 8);
    put(&mut v, 4, 0x41);
    assert_eq!(v.vbe_mode(), Some((640, 480, 8)));
    put(&mut v, 5, 2);
    v.mmio_write(3, Size::B1, 0x77);
    assert_eq!(v.vram().read(0x20003, Size::B1), 0x77);
    put(&mut v, 5, 16);
    assert_eq!(v.vbe_read(1), 2, "no such bank");
    put(&mut v, 6, 1024);
    v.vbe_write(0, 7);
    assert_eq!(v.vbe_read(1), 1024);
    assert_eq!(v.registers_read(0x500, Size::B2), 0xb0c5);
    assert_eq!(v.registers_read(0x514, Size::B2), 16);
}

#[test]
fn dac_attributes_and_status() {
    let mut v = vga();
    v.port_write(0x12, Size::B1, 1);
    v.port_write(0x18, Size::B1, 255);
    for value in [1, 2, 0xff, 4] {
        v.port_write(0x19, Size::B1, value);
    }
    v.port_write(0x17, Size::B1, 255);
    let read: Vec<u64> = (0..4).map(|_| v.port_read(0x19, Size::B1)).collect();
    assert_eq!(read, [1, 2, 0x3f, 4]);
    v.port_read(0x2a, Size::B1);
    v.port_write(0x10, Size::B1, 0x31);
    v.port_write(0x10, Size::B1, 0x5a);
    assert_eq!(v.port_read(0x11, Size::B1), 0x5a);
    assert_eq!(v.port_read(0x0a, Size::B1), 0xff, "mono ports are silent");
}

/// What a word's access does is what those of its bytes do, in every mode.
#[test]
fn cells_are_two_bytes() {
    let mut seed = 9u64;
    let mut next = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        seed >> 33
    };
    for _ in 0..2000 {
        let (mut whole, mut halves) = (vga(), vga());
        let registers = [(SEQ, 2, next()), (SEQ, 4, next()), (GFX, 4, next()), (GFX, 5, next())];
        let (misc, offset, value) = (next() & 0xf, 0x1_8000 + (next() & 15), next() & 0xffff);
        for v in [&mut whole, &mut halves] {
            for (port, index, value) in registers {
                set(v, port, index, value & 0x1f);
            }
            set(v, GFX, 6, misc);
            set(v, GFX, 8, 0xff);
            (0..32).for_each(|i| v.vram.write(4 * i, Size::B4, 0x0403_0201 * (i + 1)));
        }
        whole.mmio_write(offset, Size::B2, value);
        halves.mmio_write(offset, Size::B1, value & 0xff);
        halves.mmio_write(offset + 1, Size::B1, value >> 8);
        assert!((0..32).all(|i| whole.byte(i) == halves.byte(i)), "{registers:x?} {offset:x}");
        let bytes = [0, 1].map(|i| halves.mmio_read(offset + i, Size::B1));
        assert_eq!(whole.mmio_read(offset, Size::B2), bytes[0] | bytes[1] << 8, "{registers:x?}");
    }
}

#[test]
fn hostile_traffic_and_state() {
    let mut v = vga();
    let mut seed = 3u64;
    for _ in 0..50_000 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let (port, value) = ((seed >> 33) as u16 % 0x30, seed >> 40 & 0xffff);
        match seed >> 61 {
            0 => drop(v.port_read(port, Size::B1)),
            1 => v.vbe_write(port & 1, value as u16 & 0xfff),
            2 => v.mmio_write(value << 1, Size::B4, seed),
            3 => drop(v.mmio_read(value << 1, Size::B8)),
            4 => v.registers_write(value & 0xfff, Size::B2, seed),
            5 => drop(v.text_screen()),
            _ => v.port_write(port, Size::B1, value),
        }
    }
    let saved = v.save();
    v.load(&saved).unwrap();
    assert_eq!(v.save(), saved);
}

/// A palette that passes pixels through, and a DAC whose entry n is (n, n, 0) of 63.
fn palette(v: &mut Vga) {
    v.port_read(0x2a, Size::B1);
    for (index, value) in (0..16).map(|n| (n, n)).chain([(0x10, 1), (0x12, 15)]) {
        v.port_write(0x10, Size::B1, index);
        v.port_write(0x10, Size::B1, value);
    }
    v.port_write(0x18, Size::B1, 0);
    for n in 0..64 {
        for value in [n, n, 0] {
            v.port_write(0x19, Size::B1, value);
        }
    }
}

fn shade(n: u8) -> [u8; 3] {
    let value = n << 2 | n >> 4;
    [value, value, 0]
}

#[test]
fn text_has_a_picture() {
    let mut v = vga();
    text_mode(&mut v);
    palette(&mut v);
    // Font 0 in plane 2: the first line of 'A' is 11000001b.
    v.vram().write(u64::from(b'A') * 32 * 4 + 2, Size::B1, 0xc1);
    v.mmio_write(0x18000, Size::B2, 0x1700 | u64::from(b'A'));
    let picture = v.picture();
    assert_eq!((picture.width, picture.height), (720, 400));
    let row: Vec<_> = (0..9).map(|x| picture.at(x, 0)).collect();
    let (f, b) = (shade(7), shade(1));
    assert_eq!(row, [f, f, b, b, b, b, b, f, b]);
    assert_eq!(picture.at(0, 1), b);
    // Text is not made of planes that could be switched off.
    v.port_read(0x2a, Size::B1);
    v.port_write(0x10, Size::B1, 0x32);
    v.port_write(0x10, Size::B1, 0);
    assert_eq!(v.picture(), picture);
}

#[test]
fn mode_13h_and_planar_modes_have_pictures() {
    let mut v = vga();
    palette(&mut v);
    v.port_write(0x12, Size::B1, 0x63);
    for (index, value) in [(1, 79), (7, 0x1f), (9, 0x41), (0x12, 0x8f), (0x13, 40), (0x17, 0xa3)] {
        set(&mut v, CRTC, index, value);
    }
    set(&mut v, CRTC, 0x18, 0xff);
    for (index, value) in [(2, 15), (4, 0x0e)] {
        set(&mut v, SEQ, index, value);
    }
    for (index, value) in [(5, 0x40), (6, 5), (8, 0xff)] {
        set(&mut v, GFX, index, value);
    }
    v.mmio_write(320 * 3 + 5, Size::B1, 42);
    let picture = v.picture();
    assert_eq!((picture.width, picture.height), (320, 200));
    assert_eq!((picture.at(5, 3), picture.at(6, 3)), (shade(42), shade(0)));
    // 640x400 in 16 colours: the same memory, by planes.
    set(&mut v, SEQ, 4, 6);
    set(&mut v, GFX, 5, 0);
    set(&mut v, CRTC, 9, 0x40);
    set(&mut v, SEQ, 2, 0b0101);
    v.mmio_write(80 * 7 + 2, Size::B1, 0x81);
    let picture = v.picture();
    assert_eq!((picture.width, picture.height), (640, 400));
    assert_eq!([16, 17, 23].map(|x| picture.at(x, 7)), [5, 0, 5].map(shade));
}

#[test]
fn linear_modes_have_pictures_of_every_depth() {
    let cases: [(u64, &[u8], [u8; 3]); 5] = [
        (8, &[9], shade(9)),
        (15, &[0x1f, 0x7c], [255, 0, 255]),
        (16, &[0xe0, 0x07], [0, 255, 0]),
        (24, &[1, 2, 3], [3, 2, 1]),
        (32, &[1, 2, 3, 0], [3, 2, 1]),
    ];
    for (bpp, bytes, color) in cases {
        let mut v = vga();
        palette(&mut v);
        for (index, value) in [(1, 320), (2, 200), (3, bpp), (4, 0x41)] {
            v.vbe_write(0, index);
            v.vbe_write(1, value as u16);
        }
        let at = (320 * 2 + 1) * bytes.len() as u64;
        v.vram().write_bytes(at, bytes);
        let picture = v.picture();
        assert_eq!((picture.width, picture.height), (320, 200), "{bpp}");
        assert_eq!(picture.at(1, 2), color, "{bpp}");
    }
}

#[test]
fn nonsense_registers_still_give_a_picture() {
    let mut v = vga();
    for fill in [0xff, 0x55, 0x81, 0x00] {
        for port in [SEQ, GFX, CRTC] {
            for index in 0..32 {
                set(&mut v, port, index, fill);
            }
        }
        let picture = v.picture();
        assert_eq!(picture.rgb.len(), picture.width * picture.height * 3);
    }
}

#[test]
fn cells_are_lent_and_put_back() {
    let mut v = vga();
    assert_eq!(v.direct(), None, "no mode is set");
    text_mode(&mut v);
    assert_eq!(v.direct(), Some(Direct::Cells(0x1_8000)));
    // A font, in plane 2.
    v.vram().write(2, Size::B1, 0x99);
    let wishes = (0..3000).filter(|n| {
        v.mmio_write(0x1_8000 + 2 * (n & 7), Size::B2, 0x1f00 | n & 0xff);
        v.wants_direct()
    });
    assert_eq!(wishes.count(), 2);
    v.lend_cells();
    let lent = v.cells.clone();
    assert_eq!(lent.read(14, Size::B2), v.mmio_read(0x1_800e, Size::B2));
    lent.write(14, Size::B2, 0x2e41);
    lent.write(CELLS_LEN - 2, Size::B2, 0x2e42);
    assert_eq!(v.text_screen().unwrap().cells[7].ch, b'A');
    assert_eq!(v.vram().read(2, Size::B1), 0x99, "other planes stay");
    v.take_back();
    assert_eq!(v.mmio_read(0x1_800e, Size::B2), 0x2e41);
    assert_eq!(v.mmio_read(0x1_fffe, Size::B2), 0x2e42);
    lent.write(14, Size::B2, 0);
    assert_eq!(v.mmio_read(0x1_800e, Size::B2), 0x2e41, "not lent any more");
    // It takes twice as many now.
    let wishes = (0..2040).filter(|_| {
        v.mmio_read(0x1_8000, Size::B1);
        v.wants_direct()
    });
    assert_eq!(wishes.count(), 0);
}

#[test]
fn what_is_not_plain_bytes_is_not_direct() {
    for (port, index, value) in
        [(SEQ, 2, 7), (GFX, 5, 0), (GFX, 4, 2), (GFX, 6, 0x0f), (GFX, 6, 2), (GFX, 6, 6)]
    {
        let mut v = vga();
        text_mode(&mut v);
        set(&mut v, port, index, value);
        assert_eq!(v.direct(), None, "{port:#x} {index} {value:#x}");
    }
    // Chained planes in the window of 64 KiB, all of them enabled.
    let mut v = vga();
    for (port, index, value) in [(SEQ, 4, 0x0e), (SEQ, 2, 15), (GFX, 6, 5)] {
        assert_eq!(v.direct(), None);
        set(&mut v, port, index, value);
    }
    assert_eq!(v.direct(), Some(Direct::Linear(0)));
    for (index, value) in [(1, 640), (2, 480), (3, 8), (4, 1), (5, 3)] {
        v.vbe_write(0, index);
        v.vbe_write(1, value);
    }
    assert_eq!(v.direct(), Some(Direct::Linear(0x3_0000)));
}
