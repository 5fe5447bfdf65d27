//! The embedded default: a small firmware and a demo disk of our own, so that `stele` without arguments shows a
//! whole machine at work with nothing to download.
//!
//! Both are guest code, assembled by `global_asm!` into read-only data. The host never runs them: it only copies
//! the bytes. Every address in them is a difference of two labels, so the linker has nothing to relocate.

#![expect(
    unsafe_code,
    reason = "global_asm! emits the two images; their linker symbols are read here"
)]
// UNSAFETY: the only unsafe operations are forming slices between two symbols that the assembly below defines.

use std::arch::global_asm;

global_asm!(
    include_str!("firmware.s"),
    include_str!("firmware_video.s"),
    include_str!("firmware_disk.s"),
    options(att_syntax, raw)
);

global_asm!(include_str!("disk.s"), include_str!("disk_protected.s"), options(att_syntax, raw));

unsafe extern "C" {
    static stele_demo_fw: [u8; FIRMWARE_SIZE];
    static stele_demo_disk: [u8; DISK_SIZE];
}

/// Bytes of the firmware image: the last 64 KiB of the first MiB and of the 4 GiB space.
pub const FIRMWARE_SIZE: usize = 0x1_0000;
/// Bytes of the disk image.
pub const DISK_SIZE: usize = 0x8000;

/// The `fw_cfg` file the firmware asks whether a person sits at the console: `1` or `0`.
pub const INTERACTIVE_FILE: &str = "opt/stele/interactive";

/// The firmware image, entered at its byte 0xFFF0.
pub fn firmware() -> &'static [u8] {
    // SAFETY: the symbol is defined by the assembly above as exactly FIRMWARE_SIZE bytes (`.org 0x10000` just
    // before its end) of read-only data that lives as long as the program.
    unsafe { &stele_demo_fw }
}

/// The disk image: boot sector and stage two.
pub fn disk() -> &'static [u8] {
    // SAFETY: as above, DISK_SIZE bytes (`.org 32768`).
    unsafe { &stele_demo_disk }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_starts_with_a_far_jump() {
        let fw = firmware();
        assert_eq!(fw[0xfff0], 0xea);
        assert_eq!(u16::from_le_bytes([fw[0xfff3], fw[0xfff4]]), 0xf000);
        let entry = u16::from_le_bytes([fw[0xfff1], fw[0xfff2]]);
        assert_eq!(fw[usize::from(entry)], 0xfa, "cli is the first instruction");
        assert_eq!(fw[0xffff], 0xff);
    }

    #[test]
    fn disk_has_a_boot_signature() {
        assert_eq!(&disk()[510..512], &[0x55, 0xaa]);
        assert!(disk()[512..8704].iter().any(|&b| b != 0));
        assert!(disk()[512 + 16 * 512..].iter().all(|&b| b == 0));
    }
}
