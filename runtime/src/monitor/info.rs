//! The `info` words.

use std::fmt::Write as _;

use devices::pci::reg;
use mem::{PAGE_SIZE, PageKind, Phys, Size};

use super::{Call, paging};

type Answer = Result<String, String>;

/// Most lines of one answer about pages.
const LINES_MAX: usize = 20_000;

pub(super) fn status(call: &mut Call<'_>) -> Answer {
    Ok(format!("VM status: {}", call.machine.status()))
}

pub(super) fn version(_call: &mut Call<'_>) -> Answer {
    Ok(env!("CARGO_PKG_VERSION").to_owned())
}

pub(super) fn name(call: &mut Call<'_>) -> Answer {
    Ok(call.machine.name().to_owned())
}

pub(super) fn registers(call: &mut Call<'_>) -> Answer {
    Ok(call.machine.vcpu().cpu().dump())
}

pub(super) fn cpus(call: &mut Call<'_>) -> Answer {
    let halted = if call.machine.vcpu().cpu().state.halted != 0 { " (halted)" } else { "" };
    Ok(format!("* CPU #0: thread_id={}{halted}", std::process::id()))
}

pub(super) fn chardev(call: &mut Call<'_>) -> Answer {
    Ok(call.machine.describe_lines().join("\n"))
}

pub(super) fn block(call: &mut Call<'_>) -> Answer {
    let drives = call.machine.describe_drives();
    Ok(if drives.is_empty() { "no drives".to_owned() } else { drives.join("\n") })
}

pub(super) fn roms(call: &mut Call<'_>) -> Answer {
    Ok(call.machine.describe_firmware().to_owned())
}

pub(super) fn pic(call: &mut Call<'_>) -> Answer {
    let (irr, isr, imr) = call.machine.board().pic_registers();
    let chip = |n: usize| {
        let byte = |word: u16| word.to_le_bytes()[n];
        format!("pic{n}: irr={:02x} imr={:02x} isr={:02x}", byte(irr), byte(imr), byte(isr))
    };
    Ok(format!("{}\n{}", chip(0), chip(1)))
}

pub(super) fn lapic(call: &mut Call<'_>) -> Answer {
    Ok(call.machine.board().describe_lapic())
}

/// The redirection table's entries that software has set up.
pub(super) fn ioapic(call: &mut Call<'_>) -> Answer {
    let board = call.machine.board();
    let line = |(pin, entry): (usize, &u64)| {
        let flag = |bit: u32, set, clear| if entry >> bit & 1 != 0 { set } else { clear };
        let (vector, to) = (entry & 0xff, entry >> 56);
        let (logical, low) = (flag(11, "logical", "physical"), flag(13, "low", "high"));
        let (level, masked) = (flag(15, "level", "edge"), flag(16, " masked", ""));
        format!(
            "pin {pin:2}: vector {vector:#04x} to {to:#04x} {logical} active-{low} {level}{masked}\n"
        )
    };
    Ok(board.ioapic_table().iter().enumerate().map(line).collect())
}

pub(super) fn irq(call: &mut Call<'_>) -> Answer {
    let counts = call.machine.interrupt_counts();
    let told = counts.iter().enumerate().filter(|&(_, &n)| n > 0);
    let text: String = told.map(|(vector, n)| format!("vector {vector:#04x}: {n}\n")).collect();
    Ok(if text.is_empty() { "no interrupt so far".to_owned() } else { text })
}

pub(super) fn jit(call: &mut Call<'_>) -> Answer {
    Ok(call.machine.vcpu().describe())
}

pub(super) fn mem(call: &mut Call<'_>) -> Answer {
    paging::ranges(call.machine, LINES_MAX)
}

pub(super) fn tlb(call: &mut Call<'_>) -> Answer {
    paging::pages(call.machine, LINES_MAX)
}

/// Runs of pages of one kind below 4 GiB, and RAM above it.
pub(super) fn mtree(call: &mut Call<'_>) -> Answer {
    let board = call.machine.board();
    let map = board.map();
    let mut text = String::new();
    let mut start = 0;
    let mut kind = map.lookup(Phys(0));
    let mut tell = |start: u64, end: u64, kind: PageKind| {
        let what = match kind {
            PageKind::Ram { off, writable: true } => format!("ram @{off:#x}"),
            PageKind::Ram { off, writable: false } => format!("rom @{off:#x}"),
            PageKind::Io => "i/o".to_owned(),
        };
        let _ = writeln!(text, "{start:016x}-{:016x}: {what}", end - 1);
    };
    let end = board.ram_end();
    let mut at = PAGE_SIZE;
    while at < end {
        let next = map.lookup(Phys(at));
        let goes_on = match (kind, next) {
            (PageKind::Io, PageKind::Io) => true,
            (PageKind::Ram { off: a, writable: was }, PageKind::Ram { off: b, writable: is }) => {
                was == is && b == a + (at - start)
            }
            _ => false,
        };
        if !goes_on {
            tell(start, at, kind);
            (start, kind) = (at, next);
        }
        at += PAGE_SIZE;
    }
    tell(start, end, kind);
    Ok(text)
}

pub(super) fn pci(call: &mut Call<'_>) -> Answer {
    let board = call.machine.board();
    let mut text = String::new();
    for (device, function) in (0..32).flat_map(|d| (0..8).map(move |f| (d, f))) {
        let Some(config) = board.pci_config(device, function) else { continue };
        let word = |at| config.read(at, Size::B2) as u16;
        if word(reg::VENDOR) == 0xffff {
            continue;
        }
        let class = config.read(reg::CLASS + 1, Size::B2);
        let _ = writeln!(text, "  Bus  0, device {device:3}, function {function}:");
        let (vendor, id) = (word(reg::VENDOR), word(reg::DEVICE));
        let _ = writeln!(text, "    Class {class:04x}: PCI device {vendor:04x}:{id:04x}");
        let pin = config.read(reg::INT_PIN, Size::B1) as u8;
        if pin > 0 {
            let line = config.read(reg::INT_LINE, Size::B1);
            let _ = writeln!(text, "      IRQ {line}, pin {}", char::from(b'@' + (pin & 7)));
        }
        for bar in 0..6u8 {
            let value = config.read(reg::BAR0 + 4 * bar, Size::B4);
            match (value, value & 1) {
                (0 | 1, _) => {}
                (_, 1) => {
                    let _ = writeln!(text, "      BAR{bar}: I/O at {:#06x}", value & !3);
                }
                _ => {
                    let _ = writeln!(text, "      BAR{bar}: memory at {:#010x}", value & !15);
                }
            }
        }
    }
    Ok(text)
}
