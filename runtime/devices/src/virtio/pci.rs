//! What a virtio function shows in PCI configuration space: base registers and capabilities, placed
//! as QEMU's transitional devices have them.
//!
//! Source: VIRTIO 1.2, 4.1.4 "Virtio Structure PCI Capabilities"; PCI Local Bus Specification 3.0,
//! 6.8.2 "MSI-X Capability Structure".

use super::Kind;
use crate::pci::{ConfigSpace, Identity, reg};

/// A function's windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bar {
    /// Ports of the legacy interface.
    Legacy,
    /// MSI-X table and pending bits.
    Msix,
    /// The structures of the 1.x interface.
    Modern,
}

/// Ports of the legacy window.
pub(super) const LEGACY_PORTS: u32 = 128;
/// Bytes of the MSI-X window.
pub(super) const MSIX_BYTES: u32 = 0x1000;
/// Bytes of the window of the 1.x interface, and of each structure in it.
pub(super) const MODERN_BYTES: u32 = 0x4000;
pub(super) const STRUCTURE: u64 = 0x1000;
/// Where in the MSI-X window the pending bits are.
pub(super) const PENDING: u64 = 0x800;
/// Bytes between the queues' notification registers.
pub(super) const NOTIFY_STEP: u32 = 4;

const BAR_LEGACY: u8 = reg::BAR0;
const BAR_MSIX: u8 = reg::BAR0 + 4;
const BAR_MODERN: u8 = reg::BAR0 + 16;
/// Kind bits: I/O; 64-bit prefetchable memory.
const IO: u8 = 1;
const MEM64_PREFETCHABLE: u8 = 12;

const CAP_POINTER: u8 = 0x34;
const CAP_VENDOR: u8 = 9;
const CAP_MSIX: u8 = 0x11;
/// Places of the capabilities: common, ISR, device, notification, window by configuration space, MSI-X.
const PLACES: [u8; 5] = [0x40, 0x50, 0x60, 0x70, 0x84];
/// The window capability's fields.
pub(super) const WINDOW: u8 = PLACES[4];
/// Its data register.
pub(super) const WINDOW_DATA: u8 = WINDOW + 16;
const MSIX: u8 = 0x98;
/// MSI-X message control, high byte: enable and function mask.
const MSIX_CONTROL: u8 = MSIX + 3;
const MSIX_ENABLE: u8 = 0x80;
const MSIX_MASK: u8 = 0x40;

/// Interrupts by INTx are off: command register, high byte.
const INTX_OFF: u8 = 4;

/// The configuration space of a device with `vectors` MSI-X vectors (0: it has no MSI-X).
pub(super) fn config_space(kind: Kind, vectors: u16) -> ConfigSpace {
    let identity = Identity { vendor: 0x1af4, device: kind.device, class: kind.class, revision: 0 };
    let mut config = ConfigSpace::new(identity);
    config.preset16(reg::SUB_ID, kind.id);
    config.preset16(reg::STATUS, 0x0010);
    config.preset(reg::INT_PIN, 1);
    config.add_bar(BAR_LEGACY, LEGACY_PORTS, IO);
    config.add_bar(BAR_MODERN, MODERN_BYTES, MEM64_PREFETCHABLE);
    for i in 4..8 {
        config.allow(BAR_MODERN + i, 0xff);
    }
    config.preset(CAP_POINTER, if vectors > 0 { MSIX } else { WINDOW });
    // Type, structure's number, length of the capability, what comes next.
    let structures =
        [(1, 0, 16, 0), (3, 1, 16, PLACES[0]), (4, 2, 16, PLACES[1]), (2, 3, 20, PLACES[2])];
    for ((kind, number, len, next), at) in structures.into_iter().zip(PLACES) {
        config.preset(at, CAP_VENDOR);
        config.preset(at + 1, next);
        config.preset(at + 2, len);
        config.preset(at + 3, kind);
        config.preset(at + 4, 4);
        config.preset16(at + 8, number * STRUCTURE as u16);
        config.preset16(at + 12, STRUCTURE as u16);
    }
    config.preset(PLACES[3] + 16, NOTIFY_STEP as u8);
    config.preset(WINDOW, CAP_VENDOR);
    config.preset(WINDOW + 1, PLACES[3]);
    config.preset(WINDOW + 2, 20);
    config.preset(WINDOW + 3, 5);
    // Base register, offset and length are the driver's to choose.
    for at in [4].into_iter().chain(8..16) {
        config.allow(WINDOW + at, 0xff);
    }
    if vectors > 0 {
        config.add_bar(BAR_MSIX, MSIX_BYTES, 0);
        config.preset(MSIX, CAP_MSIX);
        config.preset(MSIX + 1, WINDOW);
        config.preset16(MSIX + 2, vectors - 1);
        config.allow(MSIX_CONTROL, MSIX_ENABLE | MSIX_MASK);
        config.preset(MSIX + 4, 1);
        config.preset16(MSIX + 8, PENDING as u16 | 1);
    }
    config
}

/// What the registers say.
pub(super) trait Registers {
    fn legacy_base(&self) -> Option<u16>;
    fn memory_base(&self, bar: Bar) -> Option<u64>;
    fn is_msix_on(&self) -> bool;
    fn is_msix_masked(&self) -> bool;
    fn is_intx_off(&self) -> bool;
    /// The window's place: which, and the offset in it.
    fn window(&self) -> Option<(Bar, u64)>;
}

impl Registers for ConfigSpace {
    fn legacy_base(&self) -> Option<u16> {
        self.io_base(BAR_LEGACY)
    }

    fn memory_base(&self, bar: Bar) -> Option<u64> {
        match bar {
            Bar::Legacy => None,
            Bar::Msix => self.mem_base(BAR_MSIX),
            Bar::Modern => {
                let low = u64::from(self.dword(BAR_MODERN) & !15);
                let base = low | u64::from(self.dword(BAR_MODERN + 4)) << 32;
                let is_on = self.word(reg::COMMAND) & crate::pci::COMMAND_MEM != 0;
                (is_on && base != 0).then_some(base)
            }
        }
    }

    fn is_msix_on(&self) -> bool {
        self.byte(MSIX) == CAP_MSIX && self.byte(MSIX_CONTROL) & MSIX_ENABLE != 0
    }

    fn is_msix_masked(&self) -> bool {
        self.byte(MSIX_CONTROL) & MSIX_MASK != 0
    }

    fn is_intx_off(&self) -> bool {
        self.byte(reg::COMMAND + 1) & INTX_OFF != 0
    }

    fn window(&self) -> Option<(Bar, u64)> {
        let bar = match self.byte(WINDOW + 4) {
            0 => Bar::Legacy,
            1 => Bar::Msix,
            4 => Bar::Modern,
            _ => return None,
        };
        Some((bar, u64::from(self.dword(WINDOW + 8))))
    }
}
