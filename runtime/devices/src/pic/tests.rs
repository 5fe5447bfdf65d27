//! Tests of the interrupt controllers.

use super::*;
use crate::State;

fn pair() -> PicPair {
    let mut pic = PicPair::new();
    for (port, value) in
        [(0, 0x11), (1, 0x08), (1, 4), (1, 1), (2, 0x11), (3, 0x70), (3, 2), (3, 1)]
    {
        pic.port_write(port, Size::B1, value);
    }
    pic
}

fn pulse(pic: &mut PicPair, input: u8) {
    pic.set_line(input, true);
    pic.set_line(input, false);
}

#[test]
fn priorities_nesting_and_eoi() {
    let mut pic = pair();
    pulse(&mut pic, 4);
    pulse(&mut pic, 1);
    assert_eq!(pic.inta(), 0x09);
    assert!(!pic.intr(), "a lower one waits");
    pulse(&mut pic, 0);
    assert_eq!(pic.inta(), 0x08, "a higher one nests");
    pic.port_write(0, Size::B1, 0x20);
    assert!(!pic.intr());
    pic.port_write(0, Size::B1, 0x20);
    assert_eq!(pic.inta(), 0x0c);
}

#[test]
fn the_slave_cascades() {
    let mut pic = pair();
    pulse(&mut pic, 14);
    pulse(&mut pic, 8);
    assert_eq!(pic.inta(), 0x70);
    pic.port_write(2, Size::B1, 0x20);
    assert!(!pic.intr(), "the master still serves its input 2");
    pic.port_write(0, Size::B1, 0x20);
    assert_eq!(pic.inta(), 0x76);
    assert_eq!(pic.registers().1, 0x4004);
}

#[test]
fn masks_edges_levels_and_spurious() {
    let mut pic = pair();
    pic.port_write(1, Size::B1, 0xff);
    pulse(&mut pic, 3);
    assert!(!pic.intr());
    assert_eq!(pic.inta(), 0x0f, "spurious");
    assert_eq!(pic.registers().1, 0, "spurious sets no ISR bit");
    pic.port_write(1, Size::B1, 0);
    assert_eq!(pic.inta(), 0x0b, "the edge was kept");
    pic.port_write(0, Size::B1, 0x63);
    pic.port_write(4, Size::B1, 0xff);
    assert_eq!(pic.port_read(4, Size::B1), 0xf8);
    pic.set_line(5, true);
    assert_eq!(pic.inta(), 0x0d);
    pic.port_write(0, Size::B1, 0x20);
    assert!(pic.intr(), "a level still high asks again");
    pic.set_line(5, false);
    assert!(!pic.intr());
}

#[test]
fn rotation_poll_aeoi_and_special_mask() {
    let mut pic = pair();
    pic.port_write(0, Size::B1, 0xc3);
    pulse(&mut pic, 3);
    pulse(&mut pic, 4);
    pic.port_write(0, Size::B1, 0x0c);
    assert_eq!(pic.port_read(0, Size::B1), 0x84, "4 is first when 3 is last");
    pic.port_write(0, Size::B1, 0xa0);
    assert_eq!(pic.inta(), 0x0b);
    pic.port_write(1, Size::B1, 0x08);
    pic.port_write(0, Size::B1, 0x68);
    pulse(&mut pic, 4);
    assert_eq!(pic.inta(), 0x0c, "a masked level in service does not inhibit");
    let mut aeoi = PicPair::new();
    for (port, value) in [(0, 0x13), (1, 0x20), (1, 3)] {
        aeoi.port_write(port, Size::B1, value);
    }
    pulse(&mut aeoi, 6);
    assert_eq!(aeoi.inta(), 0x26);
    assert_eq!(aeoi.registers().1, 0);
}

#[test]
fn special_fully_nested_and_level_mode() {
    let mut pic = pair();
    for (port, value) in [(0, 0x11), (1, 0x08), (1, 4), (1, 0x11)] {
        pic.port_write(port, Size::B1, value);
    }
    pulse(&mut pic, 12);
    assert_eq!(pic.inta(), 0x74);
    pulse(&mut pic, 9);
    assert_eq!(pic.inta(), 0x71, "the slave's input of the master does not inhibit itself");
    for (port, value) in [(0, 0x19), (1, 0x08), (1, 4), (1, 0x01)] {
        pic.port_write(port, Size::B1, value);
    }
    pic.set_line(1, true);
    assert_eq!(pic.inta(), 0x09);
    pic.port_write(0, Size::B1, 0x61);
    assert!(pic.intr(), "all inputs are level-triggered");
    pic.set_line(1, false);
    assert!(!pic.intr());
}

#[test]
fn reading_irr_isr_and_set_priority() {
    let mut pic = pair();
    pulse(&mut pic, 3);
    pulse(&mut pic, 5);
    assert_eq!(pic.port_read(0, Size::B1), 0x28, "IRR by default");
    assert_eq!(pic.inta(), 0x0b);
    pic.port_write(0, Size::B1, 0x0b);
    assert_eq!(pic.port_read(0, Size::B1), 0x08);
    pic.port_write(0, Size::B1, 0x0a);
    assert_eq!(pic.port_read(0, Size::B1), 0x20);
    pic.port_write(0, Size::B1, 0xc4);
    assert!(pic.intr(), "5 is the highest once 4 is the lowest");
    pic.port_write(0, Size::B1, 0xe3);
    assert_eq!(pic.registers().1, 0, "rotate on specific EOI");
}

#[test]
fn state_round_trip() {
    let mut pic = pair();
    pulse(&mut pic, 9);
    let mut other = PicPair::new();
    other.load(&pic.save()).unwrap();
    assert_eq!(other.inta(), 0x71);
}
