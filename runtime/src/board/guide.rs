//! What firmware reads about the machine: fw_cfg items and CMOS bytes.
//!
//! Sources: QEMU's fw_cfg interface specification for keys and file names; SeaBIOS documentation
//! ("Runtime_config") for the files it looks for; the PC's CMOS memory map.

use devices::fw_cfg::{self, FwCfg};
use devices::rtc::Rtc;

use super::memory::Layout;
use super::{BoardConfig, BoardError, acpi, smbios};
use crate::boot::plan::Plan;
use crate::boot::rom;

/// E820 memory type: usable.
const E820_RAM: u32 = 1;
/// COM1, where firmware's console is when there is no display.
const SERIAL_CONSOLE_PORT: u16 = 0x3f8;

/// Fills in fw_cfg.
pub(super) fn fill_fw_cfg(
    cfg: &mut FwCfg,
    layout: &Layout,
    config: &BoardConfig,
) -> Result<(), BoardError> {
    cfg.set_item(fw_cfg::KEY_RAM_SIZE, config.ram_bytes.to_le_bytes().to_vec());
    let cpus = 1u16.to_le_bytes().to_vec();
    cfg.set_item(fw_cfg::KEY_NB_CPUS, cpus.clone());
    cfg.set_item(fw_cfg::KEY_MAX_CPUS, cpus);
    let flag = |on: bool| u16::from(on).to_le_bytes().to_vec();
    cfg.set_item(fw_cfg::KEY_NOGRAPHIC, flag(config.nographic));
    cfg.set_item(fw_cfg::KEY_BOOT_MENU, flag(config.boot_menu));
    // The timer's interrupt, ISA 0, is at the IOAPIC's input 2.
    cfg.set_item(fw_cfg::KEY_IRQ0_OVERRIDE, 1u32.to_le_bytes().to_vec());
    cfg.add_file("etc/e820", e820(layout));
    add_acpi_tables(cfg, &acpi_machine(layout, config));
    for (name, bytes) in smbios::files(layout, &config.smbios) {
        cfg.add_file(name, bytes);
    }
    if let Some(ms) = config.boot_menu_wait {
        cfg.add_file("etc/boot-menu-wait", ms.to_le_bytes().to_vec());
    }
    if let Some(ms) = config.boot_fail_wait {
        cfg.add_file("etc/boot-fail-wait", u32::from(ms).to_le_bytes().to_vec());
    }
    if config.nographic {
        cfg.add_file("etc/sercon-port", SERIAL_CONSOLE_PORT.to_le_bytes().to_vec());
    }
    for (name, rom) in &config.option_roms {
        cfg.add_file(&format!("genroms/{name}"), rom.clone());
    }
    if let Some(plan) = &config.kernel {
        add_kernel(cfg, plan)?;
    }
    add_boot_order(cfg, config);
    for (name, bytes) in &config.fw_cfg {
        cfg.add_file(name, bytes.clone());
    }
    Ok(())
}

/// Adds the ACPI tables, or puts new ones in their place.
pub(super) fn add_acpi_tables(cfg: &mut FwCfg, machine: &acpi::Machine) {
    for (name, bytes) in acpi::files(machine) {
        cfg.add_file(name, bytes);
    }
}

/// What the ACPI tables say before firmware has placed anything.
pub(super) fn acpi_machine(layout: &Layout, config: &BoardConfig) -> acpi::Machine {
    acpi::Machine {
        pci_hole: layout.pci_hole(),
        serial: config.serial.each_ref().map(Option::is_some),
        has_vga: config.vga,
        has_floppy: config.floppies.iter().any(Option::is_some),
        pm_base: acpi::PM_BASE,
    }
}

/// Adds the kernel's items and the ROM that loads it.
fn add_kernel(cfg: &mut FwCfg, plan: &Plan) -> Result<(), BoardError> {
    for item in &plan.items {
        cfg.set_item(item.key, item.bytes.clone());
    }
    cfg.add_file(rom::FILE, rom::image(plan).ok_or(BoardError::KernelPieces)?);
    Ok(())
}

/// What is to be booted before everything else, one device a line: a kernel's ROM, then the user's choice.
fn add_boot_order(cfg: &mut FwCfg, config: &BoardConfig) {
    let kernel = config.kernel.as_ref().map(|_| rom::BOOT_ORDER_LINE);
    let lines: Vec<_> =
        kernel.into_iter().chain(config.boot_paths.iter().map(String::as_str)).collect();
    if !lines.is_empty() {
        let mut order = lines.join("\n").into_bytes();
        order.push(0);
        cfg.add_file("bootorder", order);
    }
}

/// The RAM entries of the E820 map.
fn e820(layout: &Layout) -> Vec<u8> {
    let mut table = Vec::new();
    for (start, len) in [(0, layout.low_ram), (1 << 32, layout.high_ram)] {
        if len > 0 {
            table.extend(u64::to_le_bytes(start));
            table.extend(u64::to_le_bytes(len));
            table.extend(E820_RAM.to_le_bytes());
        }
    }
    table
}

/// Fills in the CMOS bytes that describe the machine.
pub(super) fn fill_cmos(rtc: &mut Rtc, layout: &Layout, config: &BoardConfig) {
    let mut put16 = |at: u8, value: u64| {
        let [low, high] = (value.min(0xffff) as u16).to_le_bytes();
        rtc.set_cmos(at, low);
        rtc.set_cmos(at + 1, high);
    };
    put16(0x15, 640);
    // KiB above 1 MiB, twice; then 64 KiB blocks above 16 MiB, and above 4 GiB.
    let above_1m = ((layout.low_ram >> 10) - 1024).min(0xfc00);
    put16(0x17, above_1m);
    put16(0x30, above_1m);
    put16(0x34, layout.low_ram.saturating_sub(16 << 20) >> 16);
    let high = (layout.high_ram >> 16).to_le_bytes();
    for (at, byte) in (0x5b..=0x5d).zip(high) {
        rtc.set_cmos(at, byte);
    }
    // Floppy drives' kinds. Equipment: PS/2 mouse; floppy drives, and how many beyond one.
    let kind = |i: usize| config.floppies[i].as_ref().map_or(0, |drive| drive.kind() as u8);
    rtc.set_cmos(0x10, kind(0) << 4 | kind(1));
    let floppies = match config.floppies.iter().flatten().count() as u8 {
        0 => 0,
        n => (n - 1) << 6 | 1,
    };
    rtc.set_cmos(0x14, 0x04 | floppies);
    // One CPU.
    rtc.set_cmos(0x5f, 0);
    set_boot_order(rtc, config.boot_once.as_ref().unwrap_or(&config.boot_order));
}

/// Puts a boot order into CMOS, where SeaBIOS looks for it.
pub(super) fn set_boot_order(rtc: &mut Rtc, order: &str) {
    let mut order = order.bytes().filter_map(boot_code);
    let mut next = || order.next().unwrap_or(0);
    let (first, second, third) = (next(), next(), next());
    rtc.set_cmos(0x3d, second << 4 | first);
    rtc.set_cmos(0x38, third << 4);
}

/// The CMOS code of a boot device letter.
fn boot_code(letter: u8) -> Option<u8> {
    Some(match letter {
        b'a' | b'b' => 1,
        b'c' => 2,
        b'd' => 3,
        b'n' => 4,
        _ => return None,
    })
}
