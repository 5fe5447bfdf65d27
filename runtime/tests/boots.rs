//! Stock guests, from power-on to power-off: Debian's kernels by `-kernel` and from a disk, GRUB's rescue media, memtest86+,
//! Debian's installer, other firmware and a hypervisor, time beside the host's, and what the command's exit code says about their end.
//!
//! Guests are fetched with apt into `target/guests` (see the crate `guests`) and shared by all tests; without them the
//! tests skip loudly. The emulator is the real command in a process of its own.

#[path = "boots/chips.rs"]
mod chips;
#[path = "boots/demo.rs"]
mod demo;
#[path = "boots/disk.rs"]
mod disk;
#[path = "boots/firmware.rs"]
mod firmware;
#[path = "boots/gdb.rs"]
mod gdb;
#[path = "boots/kernel.rs"]
mod kernel;
#[path = "boots/media.rs"]
mod media;
#[path = "boots/power.rs"]
mod power;
#[path = "boots/programs.rs"]
mod programs;
#[path = "boots/support.rs"]
mod support;
#[path = "boots/time.rs"]
mod time;
#[path = "boots/virtio.rs"]
mod virtio;
