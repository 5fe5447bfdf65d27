//! Guest memory and buses: address newtypes, guest RAM, the physical map and the traits through
//! which a CPU reaches devices and a device reaches memory.
//!
//! This crate knows neither CPUs nor chips. Everything that is an address has a type of its own
//! (DESIGN rule 6): [`Lin`] before paging, [`Phys`] after it, [`Port`] on the I/O bus.

mod addr;
mod bus;
mod given;
mod hash;
mod physmap;
mod ram;
mod rings;
pub mod state;
mod window;

pub use addr::{Lin, PAGE_SIZE, Phys, Port};
pub use bus::{Access, Bus, Dma, IrqLine, MmioDevice, Ns, PortDevice, Size, Timer, TscMap};
pub use hash::NumberHasher;
pub use physmap::{PageKind, PhysMap};
pub use ram::{CODE_LINE, GuestRam, RamError, line_mask};
pub use state::{State, StateError};
pub use window::{RamDma, RamWindow};
