//! Models of the PC's chips, one file per chip.
//!
//! A chip knows its registers, its [`IrqLine`]s, its [`Timer`] and its [`Dma`] handle; it knows no
//! CPU, no interrupt number, no PC address, no host clock and no other chip (DESIGN rule 7): the
//! board wires them. Register accesses come from a hostile guest, so every index is masked or
//! checked, every loop is bounded and nothing allocates by a guest's wish.
//!
//! Every chip has `reset` (the power-on state) and is saved and loaded through [`State`].
#![forbid(unsafe_code)]

pub mod acpi_pm;
pub mod block;
pub mod chardev;
pub mod debug_exit;
pub mod debugcon;
pub mod dma8237;
pub mod fdc;
pub mod fpu_error;
pub mod fw_cfg;
pub mod hpet;
pub mod i440fx;
pub mod i8042;
pub mod ide;
pub mod ioapic;
pub mod lapic;
pub mod message;
pub mod pc_testdev;
pub mod pci;
pub mod pci_testdev;
pub mod pic;
pub mod piix3;
pub mod pit;
pub mod port61;
pub mod port92;
pub mod ps2;
pub mod rtc;
pub mod uart;
pub mod vga;
pub mod virtio;

#[cfg(test)]
mod testing;

pub use mem::state::{State, StateError};
pub use mem::{state, state_fields};

use mem::{Dma, IrqLine, Timer};

/// An interrupt (or any other) wire out of a chip.
pub type Wire = Box<dyn IrqLine + Send>;
/// A chip's alarm.
pub type Alarm = Box<dyn Timer + Send>;
/// A chip's bus-master port.
pub type BusMaster = Box<dyn Dma + Send>;
