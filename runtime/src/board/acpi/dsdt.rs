//! The differentiated system description table: what ACPI systems cannot find out by themselves about an
//! i440FX/PIIX3 PC. Only what the board has is named.
//!
//! Sources: ACPI Specification 6.4, "ACPI-Defined Devices and Device-Specific Objects"; Intel 82371SB datasheet,
//! "PIRQRC"; the PC's I/O map.

use super::Machine;
use super::aml::{
    ARG0, Aml, LOCAL0, and, bus_range, byte_field, device, dma, dword_field, eisa_id, int,
    interrupt, io, io_range, irq, less, list, memory_range, memory32_fixed, method, name, or,
    package, path, pci_config_region, resources, ret, scope, store, string, when,
};

/// The interrupts that PCI links can be routed to, and the one the PM function is soldered to.
const LINK_IRQS: [u32; 3] = [5, 10, 11];
const SCI_IRQ: u32 = super::SCI_IRQ as u32;
/// Offset of the number in the resource template of one `Interrupt`.
const INTERRUPT_NUMBER: u8 = 5;
const PRESENT: u64 = 0x0b;
const PRESENT_DISABLED: u64 = 0x09;

/// The table's body.
pub(super) fn body(machine: &Machine) -> Aml {
    list([
        scope("\\_SB", list([pci_root(machine), links(), processor(), hpet()])),
        // Soft off: sleep type 0 in both control registers (there is one).
        name("\\_S5", package(vec![int(0), int(0), int(0), int(0)])),
    ])
}

fn pci_root(machine: &Machine) -> Aml {
    let crs = resources([
        bus_range(0, 0xff),
        io(0xcf8, 8),
        io_range(0, 0xcf7),
        io_range(0xd00, 0xffff),
        memory_range(0xa_0000, 0xb_ffff, true),
        memory_range(machine.pci_hole.start as u32, (machine.pci_hole.end - 1) as u32, false),
    ]);
    let body = list([
        name("_HID", eisa_id("PNP0A03")),
        name("_UID", int(0)),
        name("_CRS", crs),
        name("_PRT", routing()),
        isa_bridge(machine),
        chipset_resources(machine),
    ]);
    device("PCI0", body)
}

/// Slot by slot, pin by pin: the links in turn, starting one further with each slot. The PM function's pin goes
/// to the system control interrupt.
fn routing() -> Aml {
    let mut entries = Vec::new();
    for slot in 0..32u64 {
        for pin in 0..4u64 {
            let link = match (slot, pin) {
                (1, 0) => "LNKS",
                _ => ["LNKD", "LNKA", "LNKB", "LNKC"][(slot + pin) as usize & 3],
            };
            entries.push(package(vec![int(slot << 16 | 0xffff), int(pin), path(link), int(0)]));
        }
    }
    package(entries)
}

/// Ports of the power management function that no PCI register announces.
fn chipset_resources(machine: &Machine) -> Aml {
    let pm = io(machine.pm_base, 0x40);
    let body = list([
        name("_HID", eisa_id("PNP0C02")),
        name("_UID", int(1)),
        name("_CRS", resources([pm, io(super::GPE0_BASE, super::GPE0_LEN), io(super::SMI_CMD, 2)])),
    ]);
    device("PMIO", body)
}

fn isa_bridge(machine: &Machine) -> Aml {
    let registers: Vec<String> = (0..4).map(|i| format!("PRQ{i}")).collect();
    let mut body = list([
        name("_ADR", int(0x1_0000)),
        pci_config_region("PIRQ", 0x60, 4),
        byte_field("PIRQ", &registers),
        isa("RTC", "PNP0B00", resources([io(0x70, 8), irq(8)])),
        isa("KBD", "PNP0303", resources([io(0x60, 1), io(0x64, 1), irq(1)])),
        isa("MOU", "PNP0F13", resources([irq(12)])),
        firmware_configuration(),
    ]);
    if machine.has_floppy {
        let crs = resources([io(0x3f2, 4), io(0x3f7, 1), irq(6), dma(2)]);
        body.extend(isa("FDC0", "PNP0700", crs));
    }
    for (i, (port, line)) in
        [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)].into_iter().enumerate()
    {
        if machine.serial[i] {
            let port_body = list([
                name("_HID", eisa_id("PNP0501")),
                name("_UID", int(i as u64 + 1)),
                name("_STA", int(0x0f)),
                name("_CRS", resources([io(port, 8), irq(line)])),
            ]);
            body.extend(device(&format!("COM{}", i + 1), port_body));
        }
    }
    device("ISA", body)
}

fn isa(device_name: &str, hid: &str, crs: Aml) -> Aml {
    let body = [name("_HID", eisa_id(hid)), name("_STA", int(0x0f)), name("_CRS", crs)];
    device(device_name, list(body))
}

/// fw_cfg, which Linux has a driver for.
fn firmware_configuration() -> Aml {
    let body = [
        name("_HID", string("QEMU0002")),
        name("_STA", int(PRESENT)),
        name("_CRS", resources([io(0x510, 12)])),
    ];
    device("FWCF", list(body))
}

/// The interrupt links A to D, routed by the ISA bridge's registers, and S, which is soldered.
fn links() -> Aml {
    let mut out = Vec::new();
    for (i, letter) in ["A", "B", "C", "D"].into_iter().enumerate() {
        out.extend(link(&format!("LNK{letter}"), i as u64, &format!("\\_SB.PCI0.ISA.PRQ{i}")));
    }
    let fixed = resources([interrupt(&[SCI_IRQ])]);
    let body = list([
        name("_HID", eisa_id("PNP0C0F")),
        name("_UID", int(4)),
        name("_PRS", fixed.clone()),
        name("_STA", int(PRESENT)),
        method("_DIS", 0, Vec::new()),
        name("_CRS", fixed),
        method("_SRS", 1, Vec::new()),
    ]);
    out.extend(device("LNKS", body));
    out
}

fn link(link_name: &str, uid: u64, register: &str) -> Aml {
    let register = || path(register);
    let is_off = and(register(), int(0x80));
    let status = list([when(is_off, ret(int(PRESENT_DISABLED))), ret(int(PRESENT))]);
    let current = list([
        name("BUF", resources([interrupt(&[0])])),
        dword_field(path("BUF"), INTERRUPT_NUMBER, "NUMB"),
        store(register(), LOCAL0.to_vec()),
        when(less(LOCAL0.to_vec(), int(0x80)), store(LOCAL0.to_vec(), path("NUMB"))),
        ret(path("BUF")),
    ]);
    let set = list([
        dword_field(ARG0.to_vec(), INTERRUPT_NUMBER, "NUMB"),
        store(path("NUMB"), register()),
    ]);
    let body = list([
        name("_HID", eisa_id("PNP0C0F")),
        name("_UID", int(uid)),
        name("_PRS", resources([interrupt(&LINK_IRQS)])),
        method("_STA", 0, status),
        method("_DIS", 0, or(register(), int(0x80), register())),
        method("_CRS", 0, current),
        method("_SRS", 1, set),
    ]);
    device(link_name, body)
}

fn processor() -> Aml {
    device("CPU0", list([name("_HID", string("ACPI0007")), name("_UID", int(0))]))
}

fn hpet() -> Aml {
    let crs = resources([memory32_fixed(super::HPET_BASE, 0x400)]);
    device(
        "HPET",
        list([name("_HID", eisa_id("PNP0103")), name("_UID", int(0)), name("_CRS", crs)]),
    )
}
