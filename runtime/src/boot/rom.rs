//! The loader ROM: an option ROM of our own that firmware offers as a boot device and that carries out a
//! [`Plan`]. Going through firmware costs some 30 ms and gives the kernel a machine that is set up: ACPI
//! tables, PCI resources, a video mode.
//!
//! It is guest code, assembled by `global_asm!` into read-only data, and never run by the host.

#![expect(unsafe_code, reason = "global_asm! emits the image; its linker symbols are read here")]
// UNSAFETY: the only unsafe operation is forming a slice between two symbols that the assembly below defines.

use std::arch::global_asm;

use super::plan::Plan;

global_asm!(include_str!("rom.s"), options(att_syntax, raw));

unsafe extern "C" {
    static stele_boot_rom: [u8; 0];
    static stele_boot_rom_end: [u8; 0];
}

/// The `fw_cfg` file by which firmware finds the ROM.
pub const FILE: &str = "genroms/stele-kernel.bin";
/// Its line in firmware's boot order.
pub const BOOT_ORDER_LINE: &str = "/rom@genroms/stele-kernel.bin";

const BLOCK: usize = 512;
const SIZE_AT: usize = 2;
const PNP_POINTER_AT: usize = 0x1a;
const PNP_LEN: usize = 32;
const PNP_CHECKSUM: usize = 9;

/// The code, without a plan.
fn code() -> &'static [u8] {
    let (start, end) = (&raw const stele_boot_rom, &raw const stele_boot_rom_end);
    let len = end.addr() - start.addr();
    // SAFETY: both symbols lie in one section that the assembly above defines as read-only data, the second
    // behind the first; it lives as long as the program.
    unsafe { std::slice::from_raw_parts(start.cast(), len) }
}

/// The ROM that carries out `plan`; `None` if the plan is too long.
pub fn image(plan: &Plan) -> Option<Vec<u8>> {
    let mut rom = code().to_vec();
    rom.extend(plan.encode()?);
    // A byte is kept for the checksum.
    rom.resize((rom.len() + 1).next_multiple_of(BLOCK), 0);
    rom[SIZE_AT] = u8::try_from(rom.len() / BLOCK).ok()?;
    let pnp = usize::from(u16::from_le_bytes([rom[PNP_POINTER_AT], rom[PNP_POINTER_AT + 1]]));
    rom[pnp + PNP_CHECKSUM] = checksum(&rom[pnp..pnp + PNP_LEN]);
    let last = rom.len() - 1;
    rom[last] = checksum(&rom);
    Some(rom)
}

/// What makes the bytes' sum zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::super::plan::Start;
    use super::*;

    #[test]
    fn the_image_is_a_plug_and_play_rom() {
        let mut plan = Plan::new(Start::Real { segment: 0x1000 });
        plan.clear(0x10_0000, 1);
        let rom = image(&plan).unwrap();
        assert_eq!(rom[..2], [0x55, 0xaa]);
        assert_eq!(rom.len(), usize::from(rom[2]) * 512);
        assert_eq!(checksum(&rom), 0);
        let pnp = usize::from(rom[0x1a]);
        assert_eq!(&rom[pnp..pnp + 4], b"$PnP");
        assert_eq!(checksum(&rom[pnp..pnp + 32]), 0);
        let name = usize::from(u16::from_le_bytes([rom[pnp + 16], rom[pnp + 17]]));
        assert!(rom[name..].starts_with(b"Kernel"));
        assert!(rom.windows(16).any(|bytes| bytes == &plan.encode().unwrap()[96..112]));
    }
}
