//! Tests of the board: chips by their PC addresses.

use devices::block::MemDisk;
use devices::chardev::BufferChar;
use mem::{Bus, PageKind, Phys, Port, Size};

use super::clock::ClockKind;
use super::{Board, BoardConfig, BoardError, BoardEvent, IdeUnit, SnapshotError};

fn config() -> BoardConfig {
    let mut firmware = vec![0x90; 256 << 10];
    firmware[(256 << 10) - 16] = 0xea;
    let mut disk = vec![0; 1 << 20];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    BoardConfig {
        ram_bytes: 16 << 20,
        firmware,
        vga_rom: Some(vec![0x55; 0x9c00]),
        drives: [
            IdeUnit::Disk(Box::new(MemDisk::new(disk))),
            IdeUnit::Empty,
            IdeUnit::Empty,
            IdeUnit::Empty,
        ],
        debug_exit: Some((0x501, 1)),
        ..BoardConfig::default()
    }
}

fn board() -> Board {
    Board::new(config()).unwrap()
}

fn out(b: &mut Board, port: u16, value: u64) {
    b.port_out(Port(port), Size::B1, value);
}

fn inb(b: &mut Board, port: u16) -> u64 {
    b.port_in(Port(port), Size::B1)
}

/// Configuration space access: bus 0, `devfn` = device << 3 | function.
fn pci(b: &mut Board, devfn: u64, register: u64, write: Option<(Size, u64)>) -> u64 {
    let address = 0x8000_0000 | devfn << 8 | register & 0xfc;
    b.port_out(Port(0xcf8), Size::B4, address);
    let data = Port(0xcfc + (register & 3) as u16);
    match write {
        Some((size, value)) => {
            b.port_out(data, size, value);
            0
        }
        None => b.port_in(data, Size::B4),
    }
}

#[test]
fn memory_at_power_on() {
    let b = board();
    let at = |phys| b.map().lookup(Phys(phys));
    assert_eq!(at(0), PageKind::Ram { off: 0, writable: true });
    assert_eq!(at(0x9_f000), PageKind::Ram { off: 0x9_f000, writable: true });
    assert_eq!(at(0xb_8000), PageKind::Io);
    assert_eq!(at(0xc_0000), PageKind::Io);
    assert!(matches!(at(0xf_f000), PageKind::Ram { writable: false, .. }));
    assert_eq!(at(0x10_0000), PageKind::Ram { off: 0x10_0000, writable: true });
    assert_eq!(at(16 << 20), PageKind::Io);
    for reset_vector in [0xffff_fff0, 0xf_fff0] {
        let off = b.map().ram_offset(Phys(reset_vector)).unwrap();
        assert_eq!(b.ram().read(off, Size::B1), Some(0xea));
    }
}

#[test]
fn memory_above_the_pci_hole() {
    let b = Board::new(BoardConfig { ram_bytes: 4 << 30, ..config() }).unwrap();
    let at = |phys| b.map().lookup(Phys(phys));
    assert_eq!(at(0xbfff_f000), PageKind::Ram { off: 0xbfff_f000, writable: true });
    assert_eq!(at(0xc000_0000), PageKind::Io);
    assert_eq!(at(1 << 32), PageKind::Ram { off: 0xc000_0000, writable: true });
    assert_eq!(at(0x1_4000_0000), PageKind::Io);
    assert!(b.ram().write((4 << 30) - 8, Size::B8, 1));
}

#[test]
fn sizes_that_cannot_be() {
    let refuse = |edit: fn(&mut BoardConfig)| {
        let mut config = config();
        edit(&mut config);
        Board::new(config).err().unwrap().to_string()
    };
    assert!(refuse(|c| c.ram_bytes = 0).contains("guest memory"));
    assert!(refuse(|c| c.firmware.clear()).contains("firmware of 0 bytes"));
    assert!(refuse(|c| c.debug_exit = Some((0x60, 4))).contains("already in use"));
    let mut twice = config();
    let console = || Box::new(BufferChar::default());
    twice.debugcon = vec![(0x402, console()), (0x402, console())];
    assert!(matches!(Board::new(twice), Err(BoardError::PortTaken(0x402, "debugcon"))));
}

#[test]
fn shadowing_moves_the_map() {
    let mut b = board();
    let before = b.map().generation();
    pci(&mut b, 0, 0x59, Some((Size::B1, 0x20)));
    assert_ne!(b.map().generation(), before);
    assert_eq!(b.map().lookup(Phys(0xf_0000)), PageKind::Io);
    assert_eq!(b.mmio_read(Phys(0xf_fff0), Size::B1), 0xea, "reads still see the ROM");
    b.mmio_write(Phys(0xf_fff0), Size::B1, 0x12);
    assert_eq!(b.ram().read(0xf_fff0, Size::B1), Some(0x12), "writes reach the RAM behind it");
    pci(&mut b, 0, 0x59, Some((Size::B1, 0x10)));
    assert_eq!(b.map().lookup(Phys(0xf_f000)), PageKind::Ram { off: 0xf_f000, writable: false });
    b.mmio_write(Phys(0xf_fff0), Size::B1, 0x34);
    assert_eq!(b.ram().read(0xf_fff0, Size::B1), Some(0x12), "write-protected");
    b.reset();
    let off = b.map().ram_offset(Phys(0xf_fff0)).unwrap();
    assert_eq!(b.ram().read(off, Size::B1), Some(0xea));
}

#[test]
fn pci_functions_and_bars() {
    let mut b = board();
    let ids = [0x00, 0x08, 0x09, 0x0b, 0x10].map(|devfn| pci(&mut b, devfn, 0, None));
    assert_eq!(ids, [0x1237_8086, 0x7000_8086, 0x7010_8086, 0x7113_8086, 0x1111_1234]);
    assert_eq!(pci(&mut b, 0x18, 0, None), 0xffff_ffff);
    assert_eq!(pci(&mut b, 0, 0x2c, None), 0x1100_1af4);
    pci(&mut b, 0x10, 0x10, Some((Size::B4, 0xe000_0000)));
    pci(&mut b, 0x10, 0x30, Some((Size::B4, 0xe100_0001)));
    pci(&mut b, 0x10, 4, Some((Size::B2, 3)));
    assert!(matches!(b.map().lookup(Phys(0xe000_0000)), PageKind::Ram { writable: true, .. }));
    let rom = b.map().ram_offset(Phys(0xe100_0000)).unwrap();
    assert_eq!(b.ram().read(rom, Size::B1), Some(0x55));
    // A BAR over RAM or firmware decodes nothing.
    pci(&mut b, 0x10, 0x10, Some((Size::B4, 0)));
    assert_eq!(b.map().lookup(Phys(0)), PageKind::Ram { off: 0, writable: true });
    pci(&mut b, 0x10, 0x10, Some((Size::B4, 0xffff_ffff)));
    assert!(matches!(b.map().lookup(Phys(0xffff_f000)), PageKind::Ram { writable: false, .. }));
    assert_eq!(b.map().lookup(Phys(0xe000_0000)), PageKind::Io);
}

#[test]
fn test_devices() {
    const TESTDEV: u64 = 3 << 3;
    let mut b =
        Board::new(BoardConfig { pc_testdev: true, pci_testdev: true, ..config() }).unwrap();
    b.port_out(Port(0xe0), Size::B4, 0x8765_4321);
    assert_eq!(b.port_in(Port(0xe8), Size::B4), 0x8765_4321);
    b.mmio_write(Phys(0xff00_0ffe), Size::B4, 0x1234_5678);
    assert_eq!(b.mmio_read(Phys(0xff00_1000), Size::B2), 0x1234);
    out(&mut b, 0x4d1, 0x40);
    out(&mut b, 0x200e, 1);
    out(&mut b, 0xa0, 0x0a);
    assert_eq!(inb(&mut b, 0xa0), 0x40, "line 14 waits in the second 8259");
    out(&mut b, 0x200e, 0);
    assert_eq!(inb(&mut b, 0xa0), 0);
    assert_eq!(pci(&mut b, TESTDEV, 0, None), 0x0005_1b36);
    pci(&mut b, TESTDEV, 0x10, Some((Size::B4, 0xfe00_0000)));
    pci(&mut b, TESTDEV, 0x14, Some((Size::B4, 0xc100)));
    pci(&mut b, TESTDEV, 0x04, Some((Size::B2, 3)));
    b.mmio_write(Phys(0xfe00_0040), Size::B1, 0xfa);
    out(&mut b, 0xc140, 0xfa);
    out(&mut b, 0xc140, 0xfa);
    assert_eq!(b.mmio_read(Phys(0xfe00_000c), Size::B4), 1);
    assert_eq!(b.port_in(Port(0xc10c), Size::B4), 2);
    let saved = b.save();
    let mut other =
        Board::new(BoardConfig { pc_testdev: true, pci_testdev: true, ..config() }).unwrap();
    other.load(&saved).unwrap();
    assert_eq!(other.port_in(Port(0xc10c), Size::B4), 2);
    assert_eq!(board().port_in(Port(0xe0), Size::B4), 0xffff_ffff, "only where asked for");
}

/// A fw_cfg file, by its directory.
fn fw_cfg_file(b: &mut Board, name: &str) -> Vec<u8> {
    let mut read = |key: u16, len: usize| {
        b.port_out(Port(0x510), Size::B2, key.into());
        (0..len).map(|_| b.port_in(Port(0x511), Size::B1) as u8).collect::<Vec<u8>>()
    };
    let files = read(0x19, 4).iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
    let directory = read(0x19, 4 + 64 * files);
    let entry = directory[4..].chunks(64).find(|e| e[8..].starts_with(name.as_bytes())).unwrap();
    let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
    read(number(&entry[4..6]) as u16, number(&entry[..4]))
}

/// The power management function's place on PCI.
const ACPI_PM: u64 = 1 << 3 | 3;

#[test]
fn the_pm_timer_is_read_no_faster_than_pci_allows() {
    const READS: u64 = 100_000;
    let mut b = Board::new(BoardConfig { clock: ClockKind::Host, ..config() }).unwrap();
    pci(&mut b, ACPI_PM, 0x40, Some((Size::B4, 0xb001)));
    pci(&mut b, ACPI_PM, 0x80, Some((Size::B1, 1)));
    let before = b.now();
    let first = b.port_in(Port(0xb008), Size::B4);
    let last = (0..READS).fold(first, |_, _| b.port_in(Port(0xb008), Size::B4));
    let ns = b.now() - before;
    assert!(ns >= READS * 120, "{ns}");
    // 24 bits last 4.7 s.
    let ticks = last.wrapping_sub(first) & 0xff_ffff;
    assert!(ns > 4_000_000_000 || ticks >= READS * 120 * 3_579_545 / 1_000_000_000 - 1, "{ticks}");
}

#[test]
fn acpi_tables_follow_the_pm_ports() {
    let mut b = board();
    let names = |b: &mut Board, port: u16| {
        let tables = fw_cfg_file(b, "etc/acpi/tables");
        tables.windows(4).filter(|bytes| **bytes == u32::from(port).to_le_bytes()).count()
    };
    assert_eq!((names(&mut b, 0x608), names(&mut b, 0xb008)), (2, 0), "SeaBIOS's place");
    pci(&mut b, ACPI_PM, 0x40, Some((Size::B4, 0xb001)));
    pci(&mut b, ACPI_PM, 0x80, Some((Size::B1, 1)));
    assert_eq!((names(&mut b, 0x608), names(&mut b, 0xb008)), (0, 2));
    let mut config = config();
    config.fw_cfg.push(("etc/acpi/tables".to_owned(), vec![1, 2, 3]));
    let mut b = Board::new(config).unwrap();
    pci(&mut b, ACPI_PM, 0x40, Some((Size::B4, 0xb001)));
    pci(&mut b, ACPI_PM, 0x80, Some((Size::B1, 1)));
    assert_eq!(fw_cfg_file(&mut b, "etc/acpi/tables"), [1, 2, 3], "the user's stay");
}

#[test]
fn interrupts_reach_the_cpu() {
    let mut b = board();
    for (port, value) in
        [(0x20, 0x11), (0x21, 8), (0x21, 4), (0x21, 1), (0x20, 0x20), (0x43, 0x34), (0x40, 0)]
    {
        out(&mut b, port, value);
    }
    out(&mut b, 0x40, 0);
    assert!(b.intr(), "OUT rose with the control word");
    assert_eq!(b.inta(), 8);
    out(&mut b, 0x20, 0x20);
    assert!(!b.intr());
    let deadline = b.next_deadline().unwrap();
    assert!((54_925_000..54_927_000).contains(&deadline));
    b.advance_to(deadline);
    b.run_timers();
    assert!(b.intr());
    assert_eq!(b.inta(), 8);
    out(&mut b, 0x20, 0x20);
    b.key(0x1e, true);
    assert_eq!(b.inta(), 9);
}

#[test]
fn a20_events_and_debug_exit() {
    let mut b = board();
    assert!(b.a20());
    let before = b.map().generation();
    out(&mut b, 0x92, 0);
    assert!(!b.a20());
    assert_ne!(b.map().generation(), before);
    out(&mut b, 0x64, 0xdf);
    assert!(b.a20());
    assert_eq!(inb(&mut b, 0x92), 2);
    assert_eq!(b.take_event(), None);
    out(&mut b, 0x64, 0xfe);
    assert!(b.has_event());
    assert_eq!(b.take_event(), Some(BoardEvent::Reset));
    out(&mut b, 0xcf9, 6);
    assert_eq!(b.take_event(), Some(BoardEvent::Reset));
    out(&mut b, 0x501, 16);
    assert_eq!(b.take_event(), Some(BoardEvent::DebugExit(33)));
    pci(&mut b, 0x0b, 0x40, Some((Size::B4, 0x601)));
    pci(&mut b, 0x0b, 0x80, Some((Size::B1, 1)));
    b.port_out(Port(0x604), Size::B2, 0x2000);
    assert_eq!(b.take_event(), Some(BoardEvent::PowerOff));
    b.advance_to(1_000_000_000);
    assert_eq!(b.port_in(Port(0x608), Size::B4), 3_579_545);
}

#[test]
fn movable_ports_never_cover_fixed_ones() {
    let mut b = board();
    pci(&mut b, 0x09, 0x20, Some((Size::B4, 0x60)));
    pci(&mut b, 0x09, 4, Some((Size::B2, 5)));
    assert_eq!(inb(&mut b, 0x64) & 0x10, 0x10, "the keyboard controller still answers");
    pci(&mut b, 0x09, 0x20, Some((Size::B4, 0xc000)));
    assert_eq!(inb(&mut b, 0xc002), 0);
    assert_eq!(inb(&mut b, 0x68), 0xff);
}

#[test]
fn wide_accesses_split_for_narrow_chips() {
    let mut b = board();
    b.port_out(Port(0x3ce), Size::B2, 0x0506);
    out(&mut b, 0x3ce, 6);
    assert_eq!(inb(&mut b, 0x3cf), 5);
    assert_eq!(b.port_in(Port(0x1ff0), Size::B4), 0xffff_ffff);
    assert_eq!(b.port_in(Port(0xffff), Size::B2) >> 8, 0, "wraps to the DMA controller's port 0");
    b.port_out(Port(0x510), Size::B2, 0);
    let signature: Vec<u64> = (0..4).map(|_| inb(&mut b, 0x511)).collect();
    assert_eq!(signature, b"QEMU".map(u64::from));
}

#[test]
fn state_round_trip_between_boards() {
    let mut b = board();
    out(&mut b, 0x43, 0x34);
    out(&mut b, 0x40, 0x10);
    out(&mut b, 0x40, 0x20);
    out(&mut b, 0x92, 0);
    pci(&mut b, 0, 0x59, Some((Size::B1, 0x30)));
    b.advance_to(123_456_789);
    b.run_timers();
    let saved = b.save();
    let mut other = board();
    other.load(&saved).unwrap();
    assert_eq!(other.save(), saved);
    assert_eq!(other.next_deadline(), b.next_deadline());
    assert_eq!((other.a20(), other.intr()), (false, b.intr()));
    assert_eq!(other.map().lookup(Phys(0xf_0000)), b.map().lookup(Phys(0xf_0000)));
    for n in 0..saved.len() {
        assert!(other.load(&saved[..n]).is_err());
    }
    assert_eq!(other.load(b"nonsense"), Err(SnapshotError::Magic));
    other.reset();
}

#[test]
fn hostile_port_traffic_does_no_harm() {
    let mut b = board();
    let mut seed = 11u64;
    for i in 0..200_000u64 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let port = Port((seed >> 44) as u16 & if seed & 8 == 0 { 0xfff } else { 0xffff });
        let size = [Size::B1, Size::B2, Size::B4][(seed >> 5) as usize % 3];
        match seed >> 61 {
            0..3 => drop(b.port_in(port, size)),
            3 => b.mmio_write(Phys(seed >> 33 & 0xfffff), size, seed),
            4 => drop(b.mmio_read(Phys(seed >> 33), size)),
            5 if i % 64 == 0 => {
                b.advance_to(b.now() + (seed >> 40));
                b.run_timers();
                b.inta();
            }
            _ => b.port_out(port, size, seed >> 16),
        }
        b.take_event();
    }
    b.reset();
    assert_eq!(inb(&mut b, 0x64) & 0x10, 0x10);
}

#[test]
fn boards_can_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Board>();
}

fn mmio(b: &mut Board, at: u64, value: u64) {
    b.mmio_write(Phys(at), Size::B4, value);
}

/// Input `pin` of the IOAPIC sends vector `entry & FFh` so.
fn redirect(b: &mut Board, pin: u64, entry: u64) {
    for (n, half) in [(0x10 + 2 * pin, entry & 0xffff_ffff), (0x11 + 2 * pin, entry >> 32)] {
        mmio(b, 0xfec0_0000, n);
        mmio(b, 0xfec0_0010, half);
    }
}

const LAPIC: u64 = 0xfee0_0000;
const EOI: u64 = LAPIC + 0xb0;

/// Enables the local APIC, and masks the 8259s there.
fn enable(b: &mut Board) {
    mmio(b, LAPIC + 0xf0, 0x1ff);
    mmio(b, LAPIC + 0x350, 0x1_0700);
}

#[test]
fn the_8259s_reach_the_processor_through_lint0() {
    let mut b = board();
    for (port, value) in [(0x20, 0x11), (0x21, 8), (0x21, 4), (0x21, 1), (0x21, 0xfe)] {
        out(&mut b, port, value);
    }
    for (port, value) in [(0x43, 0x34), (0x40, 100), (0x40, 0)] {
        out(&mut b, port, value);
    }
    b.advance_to(1_000_000);
    b.run_timers();
    assert!(b.intr(), "as after power-on");
    mmio(&mut b, LAPIC + 0xf0, 0x1ff);
    mmio(&mut b, LAPIC + 0x350, 0x1_0700);
    assert!(!b.intr(), "masked");
    mmio(&mut b, LAPIC + 0x350, 0x8700);
    assert!(b.intr(), "virtual wire");
    b.set_apic_base(0);
    assert!(b.intr(), "without a local APIC");
    assert_eq!(b.inta(), 8);
    assert_eq!(b.mmio_read(Phys(LAPIC + 0x30), Size::B4), 0xffff_ffff, "nobody there");
}

#[test]
fn ioapic_inputs_and_ends() {
    let mut b = board();
    enable(&mut b);
    redirect(&mut b, 2, 0x30);
    for (port, value) in [(0x43, 0x34), (0x40, 100), (0x40, 0)] {
        out(&mut b, port, value);
    }
    b.advance_to(1_000_000);
    b.run_timers();
    assert_eq!((b.intr(), b.inta(), b.intr()), (true, 0x30, false), "the 8254 at input 2");
    mmio(&mut b, EOI, 0);
    // ACPI's interrupt: PM base 600h, SCI on, power button enabled, level-triggered.
    pci(&mut b, 0x0b, 0x40, Some((Size::B4, 0x601)));
    pci(&mut b, 0x0b, 0x80, Some((Size::B1, 1)));
    out(&mut b, 0xb2, 0xf1);
    redirect(&mut b, 9, 0x8041);
    b.port_out(Port(0x602), Size::B2, 0x100);
    b.press_power_button();
    assert_eq!((b.intr(), b.inta(), b.intr()), (true, 0x41, false));
    mmio(&mut b, EOI, 0);
    assert_eq!((b.intr(), b.inta()), (true, 0x41), "still asserted: it comes again");
    b.port_out(Port(0x600), Size::B2, 0x100);
    mmio(&mut b, EOI, 0);
    assert!(!b.intr());
}

#[test]
fn hpet_takes_the_place_of_the_8254() {
    let mut b = board();
    enable(&mut b);
    redirect(&mut b, 2, 0x30);
    redirect(&mut b, 20, 0x31);
    b.mmio_write(Phys(0xfed0_0010), Size::B8, 3);
    b.mmio_write(Phys(0xfed0_0100), Size::B8, 4);
    b.mmio_write(Phys(0xfed0_0108), Size::B8, 100);
    b.mmio_write(Phys(0xfed0_0140), Size::B8, 20 << 9 | 4);
    b.mmio_write(Phys(0xfed0_0148), Size::B8, 200);
    assert_eq!(b.next_deadline(), Some(1000));
    b.advance_to(1000);
    b.run_timers();
    assert_eq!((b.intr(), b.inta()), (true, 0x30));
    mmio(&mut b, EOI, 0);
    b.advance_to(2000);
    b.run_timers();
    assert_eq!((b.intr(), b.inta()), (true, 0x31));
    mmio(&mut b, EOI, 0);
    for (port, value) in [(0x43, 0x34), (0x40, 100), (0x40, 0)] {
        out(&mut b, port, value);
    }
    b.advance_to(1_000_000);
    b.run_timers();
    assert!(!b.intr(), "the 8254 leads nowhere");
    b.mmio_write(Phys(0xfed0_0010), Size::B8, 1);
    b.advance_to(2_000_000);
    b.run_timers();
    assert!(b.intr());
}

#[test]
fn messages_and_pci_interrupts() {
    let mut b = board();
    enable(&mut b);
    b.signals.msi_wire().send(0xfee0_0000, 0x55);
    b.settle();
    assert_eq!((b.intr(), b.inta()), (true, 0x55));
    mmio(&mut b, EOI, 0);
    b.signals.msi_wire().send(0xfee0_5000, 0x56);
    mmio(&mut b, 0xfee0_1000, 0x57);
    b.settle();
    assert!(!b.intr(), "for other processors");
    let wire = b.signals.irq_wire(super::irq::IrqSource::Pci(3));
    wire.set(true);
    redirect(&mut b, 11, 0x8060);
    assert!(!b.intr(), "not routed");
    pci(&mut b, 0x08, 0x60, Some((Size::B4, 0x800b_8080)));
    assert_eq!((b.intr(), b.inta()), (true, 0x60), "slot 3's INTA# is PIRQC");
    wire.set(false);
    mmio(&mut b, EOI, 0);
    assert!(!b.intr());
}

#[test]
fn the_local_apic_moves_and_is_saved() {
    let mut b = board();
    b.set_apic_base(0x10_0900);
    assert_eq!(b.map().lookup(Phys(0x10_0000)), PageKind::Io);
    mmio(&mut b, 0x10_00f0, 0x1ff);
    mmio(&mut b, 0x10_0320, 0x4_0070);
    b.set_tsc_deadline(Some(5000));
    assert_eq!((b.tsc_deadline(), b.next_deadline()), (Some(5000), Some(5000)));
    b.set_task_priority(5);
    let saved = b.save();
    b.reset();
    assert!(matches!(b.map().lookup(Phys(0x10_0000)), PageKind::Ram { off: 0x10_0000, .. }));
    assert_eq!((b.task_priority(), b.next_deadline()), (0, None));
    b.load(&saved).unwrap();
    assert_eq!(b.map().lookup(Phys(0x10_0000)), PageKind::Io);
    assert_eq!((b.task_priority(), b.tsc_deadline()), (5, Some(5000)));
    b.advance_to(5000);
    b.run_timers();
    assert_eq!((b.intr(), b.inta()), (true, 0x70));
    b.set_apic_base(0xfee0_0d00);
    assert_eq!((b.apic_read(0x0f), b.apic_read(0x31)), (Some(0x1ff), None), "x2APIC");
    assert!(b.apic_write(0x3f, 0x71) && !b.intr() && b.apic_write(0x0b, 0) && b.intr());
    for base in [u64::MAX, 0xb_8900, 0xe000_0900, 0x1_0000_0900, 0xf_0900, 0xfee0_0900] {
        b.set_apic_base(base & !0x400);
    }
    assert_eq!(b.mmio_read(Phys(LAPIC + 0xf0), Size::B4), 0x1ff);
}

#[test]
fn nmi_messages() {
    let mut b = board();
    mmio(&mut b, LAPIC + 0x300, 0x4_4400);
    assert!(b.has_event() && b.take_nmi() && !b.has_event());
}

/// A disk's data register gives as a block what it gives word by word; other ports give none.
#[test]
fn blocks_of_port_data() {
    let mut b = board();
    let sector = |b: &mut Board, block: bool| {
        for (port, value) in
            [(0x1f6, 0xe0), (0x1f2, 1), (0x1f3, 0), (0x1f4, 0), (0x1f5, 0), (0x1f7, 0x20)]
        {
            b.port_out(Port(port), Size::B1, value);
        }
        let mut bytes = vec![0; 600];
        if block {
            assert_eq!(b.port_in_block(Port(0x1f0), Size::B2, &mut bytes), 512);
            assert_eq!(b.port_in_block(Port(0x1f0), Size::B2, &mut bytes[512..]), 0);
        } else {
            for pair in bytes[..512].as_chunks_mut::<2>().0 {
                *pair = (b.port_in(Port(0x1f0), Size::B2) as u16).to_le_bytes();
            }
        }
        bytes
    };
    assert_eq!(sector(&mut b, true), sector(&mut b, false));
    for port in [0x1f1, 0x1f7, 0x170, 0x3f8, 0xffff] {
        assert_eq!(b.port_in_block(Port(port), Size::B2, &mut [0; 8]), 0, "{port:#x}");
        assert_eq!(b.port_out_block(Port(port), Size::B1, &[0; 8]), 0, "{port:#x}");
    }
}
