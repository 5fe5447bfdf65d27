//! ACPI tables, handed to firmware by fw_cfg.
//!
//! Firmware decides where tables go, so that they are made as two files with offsets for pointers, and a script
//! that says which bytes are pointers and checksums. Sources: ACPI Specification 6.4, "ACPI Software Programming
//! Model"; IA-PC HPET Specification 1.0a, "The ACPI 2.0 HPET Description Table".

mod aml;
mod dsdt;
mod loader;

use std::ops::Range;

use loader::{Script, Zone};

/// Where SeaBIOS puts the PM function's register block; the tables follow firmware that chooses another place.
pub(super) const PM_BASE: u16 = 0x600;
const GPE0_BASE: u16 = 0xafe0;
const GPE0_LEN: u8 = 4;
const SMI_CMD: u16 = 0xb2;
const SCI_IRQ: u16 = 9;
const HPET_BASE: u32 = 0xfed0_0000;
const LAPIC_BASE: u32 = 0xfee0_0000;
const IOAPIC_BASE: u32 = 0xfec0_0000;
const RESET_PORT: u16 = 0xcf9;
/// Hard reset: both bits of the reset control register.
const RESET_VALUE: u8 = 0x06;
const CMOS_CENTURY: u8 = 0x32;

/// Bytes of the fixed table, revision 3.
const FADT_LEN: usize = 244;

const TABLES: &str = "etc/acpi/tables";
const RSDP: &str = "etc/acpi/rsdp";
const LOADER: &str = "etc/table-loader";

/// What the tables say about the machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// Memory for PCI below 4 GiB.
    pub(super) pci_hole: Range<u64>,
    pub(super) serial: [bool; 4],
    pub(super) has_vga: bool,
    pub(super) has_floppy: bool,
    /// First port of the PM function's register block.
    pub(super) pm_base: u16,
}

/// Is this the name of one of the files?
pub(super) fn is_file(name: &str) -> bool {
    [RSDP, TABLES, LOADER].contains(&name)
}

/// The files: names and bytes.
pub(super) fn files(machine: &Machine) -> [(&'static str, Vec<u8>); 3] {
    let mut script = Script::default();
    script.allocate(RSDP, 16, Zone::Low);
    script.allocate(TABLES, 64, Zone::High);
    let mut blob = Blob { bytes: facs(), script };
    let dsdt_at = blob.table(b"DSDT", 1, &dsdt::body(machine));
    let fadt_at = blob.table(b"FACP", 3, &fadt(machine, dsdt_at as u32));
    // FACS, and DSDT by its 32- and 64-bit pointer.
    for (offset, size) in [(36, 4), (40, 4), (140, 8)] {
        blob.script.add_pointer(TABLES, fadt_at + offset, size, TABLES);
    }
    blob.script.add_checksum(TABLES, fadt_at + 9, fadt_at, FADT_LEN);
    let listed = [fadt_at, blob.table(b"APIC", 3, &madt()), blob.table(b"HPET", 1, &hpet())];
    let rsdt_at = blob.pointers(b"RSDT", 4, &listed);
    let xsdt_at = blob.pointers(b"XSDT", 8, &listed);
    let rsdp = rsdp(rsdt_at as u32, xsdt_at as u64);
    let Blob { bytes, mut script } = blob;
    script.add_pointer(RSDP, 16, 4, TABLES);
    script.add_pointer(RSDP, 24, 8, TABLES);
    script.add_checksum(RSDP, 8, 0, 20);
    script.add_checksum(RSDP, 32, 0, 36);
    [(RSDP, rsdp), (TABLES, bytes), (LOADER, script.into_bytes())]
}

/// The file of tables while it grows.
struct Blob {
    bytes: Vec<u8>,
    script: Script,
}

impl Blob {
    /// Adds a table with its header; gives its offset.
    fn table(&mut self, signature: &[u8; 4], revision: u8, body: &[u8]) -> usize {
        let at = self.bytes.len().next_multiple_of(16);
        self.bytes.resize(at, 0);
        let len = 36 + body.len();
        self.bytes.extend(signature);
        self.bytes.extend((len as u32).to_le_bytes());
        self.bytes.extend([revision, 0]);
        self.bytes.extend(b"STELE ");
        self.bytes.extend(b"STELEPC ");
        self.bytes.extend(1u32.to_le_bytes());
        self.bytes.extend(b"STEL");
        self.bytes.extend(1u32.to_le_bytes());
        self.bytes.extend(body);
        // Checksums come last: pointers inside the table are fixed before.
        if !matches!(signature, b"FACP" | b"RSDT" | b"XSDT") {
            self.script.add_checksum(TABLES, at + 9, at, len);
        }
        at
    }

    /// Adds a table of pointers to tables.
    fn pointers(&mut self, signature: &[u8; 4], size: u8, tables: &[usize]) -> usize {
        let entry = |at: &usize| (*at as u64).to_le_bytes()[..usize::from(size)].to_vec();
        let body: Vec<u8> = tables.iter().flat_map(entry).collect();
        let at = self.table(signature, 1, &body);
        for i in 0..tables.len() {
            let offset = at + 36 + i * usize::from(size);
            self.script.add_pointer(TABLES, offset, size, TABLES);
        }
        self.script.add_checksum(TABLES, at + 9, at, 36 + body.len());
        at
    }
}

fn rsdp(rsdt: u32, xsdt: u64) -> Vec<u8> {
    let mut out = b"RSD PTR \0STELE \x02".to_vec();
    out.extend(rsdt.to_le_bytes());
    out.extend(36u32.to_le_bytes());
    out.extend(xsdt.to_le_bytes());
    out.resize(36, 0);
    out
}

/// The firmware control structure: a lock nobody needs.
fn facs() -> Vec<u8> {
    let mut out = b"FACS".to_vec();
    out.extend(64u32.to_le_bytes());
    out.resize(64, 0);
    out
}

/// A generic address structure of a port.
fn port(port: u16, bits: u8, access: u8) -> [u8; 12] {
    let mut out = [0; 12];
    out[..4].copy_from_slice(&[1, bits, 0, access]);
    out[4..6].copy_from_slice(&port.to_le_bytes());
    out
}

/// The fixed table's body. Offsets below are those of the whole table.
fn fadt(machine: &Machine, dsdt: u32) -> Vec<u8> {
    const WBINVD: u32 = 1 << 0;
    const PROC_C1: u32 = 1 << 2;
    const NO_SLEEP_BUTTON: u32 = 1 << 5;
    const RESET_REG_SUP: u32 = 1 << 10;
    const LEGACY_DEVICES: u16 = 1;
    const HAS_8042: u16 = 2;
    const VGA_NOT_PRESENT: u16 = 4;
    /// A transition this slow is never made.
    const NO_C2: u16 = 101;
    const NO_C3: u16 = 1001;

    let pm = machine.pm_base;
    let mut table = [0u8; FADT_LEN];
    let mut put = |at: usize, bytes: &[u8]| table[at..at + bytes.len()].copy_from_slice(bytes);
    put(40, &dsdt.to_le_bytes());
    put(46, &SCI_IRQ.to_le_bytes());
    put(48, &u32::from(SMI_CMD).to_le_bytes());
    put(52, &[devices::acpi_pm::APM_ACPI_ENABLE, devices::acpi_pm::APM_ACPI_DISABLE]);
    put(56, &u32::from(pm).to_le_bytes());
    put(64, &u32::from(pm + 4).to_le_bytes());
    put(76, &u32::from(pm + 8).to_le_bytes());
    put(80, &u32::from(GPE0_BASE).to_le_bytes());
    put(88, &[4, 2, 0, 4, GPE0_LEN]);
    put(220, &port(GPE0_BASE, 8 * GPE0_LEN, 1));
    put(96, &NO_C2.to_le_bytes());
    put(98, &NO_C3.to_le_bytes());
    put(108, &[CMOS_CENTURY]);
    let vga = if machine.has_vga { 0 } else { VGA_NOT_PRESENT };
    put(109, &(LEGACY_DEVICES | HAS_8042 | vga).to_le_bytes());
    put(112, &(WBINVD | PROC_C1 | NO_SLEEP_BUTTON | RESET_REG_SUP).to_le_bytes());
    put(116, &port(RESET_PORT, 8, 1));
    put(128, &[RESET_VALUE]);
    put(140, &u64::from(dsdt).to_le_bytes());
    put(148, &port(pm, 32, 2));
    put(172, &port(pm + 4, 16, 2));
    put(208, &port(pm + 8, 32, 3));
    table[36..].to_vec()
}

/// Interrupt controllers.
fn madt() -> Vec<u8> {
    const PCAT_COMPAT: u32 = 1;
    const LEVEL_ACTIVE_HIGH: u16 = 0x0d;
    let mut out = [LAPIC_BASE, PCAT_COMPAT].map(u32::to_le_bytes).concat();
    // The processor's local APIC, enabled; the I/O APIC with inputs from 0.
    out.extend([0, 8, 0, 0, 1, 0, 0, 0]);
    out.extend([1, 12, 0, 0]);
    out.extend([IOAPIC_BASE, 0].map(u32::to_le_bytes).concat());
    // The timer is at input 2; PCI's interrupts are level-triggered.
    for (source, input, flags) in [
        (0u8, 2u32, 0u16),
        (5, 5, LEVEL_ACTIVE_HIGH),
        (9, 9, LEVEL_ACTIVE_HIGH),
        (10, 10, LEVEL_ACTIVE_HIGH),
        (11, 11, LEVEL_ACTIVE_HIGH),
    ] {
        out.extend([2, 10, 0, source]);
        out.extend(input.to_le_bytes());
        out.extend(flags.to_le_bytes());
    }
    // NMI at LINT1 of every processor.
    out.extend([4, 6, 0xff, 0, 0, 1]);
    out
}

fn hpet() -> Vec<u8> {
    // Vendor 8086h, legacy replacement, 64-bit counter, three timers, revision 1.
    let mut out = 0x8086_a201u32.to_le_bytes().to_vec();
    out.extend([0, 64, 0, 0]);
    out.extend(u64::from(HPET_BASE).to_le_bytes());
    out.extend([0, 0, 0, 0]);
    out
}

#[cfg(test)]
mod tests;
