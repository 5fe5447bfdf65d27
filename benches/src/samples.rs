//! Code bytes for the decode and translate benches: SeaBIOS where it is installed, else the embedded demo.

use std::path::Path;

use x86::decode::{Features, decode};
use x86::insn::CodeSize;

/// Where Debian's package `seabios` puts the image.
const SEABIOS: &str = "/usr/share/seabios/bios-256k.bin";

/// Code of one width.
pub struct Sample {
    /// Where it is from.
    pub origin: &'static str,
    /// Its width.
    pub size: CodeSize,
    /// The bytes. Data lies between the code.
    pub bytes: Vec<u8>,
}

/// Code of 16 and of 32 bits.
pub fn samples() -> [Sample; 2] {
    let [wide, narrow] = match std::fs::read(Path::new(SEABIOS)) {
        // POST and other 32-bit code fill the middle of the image, the 16-bit entry points its last 64 KiB.
        Ok(image) if image.len() >= 0x4_0000 => {
            let half = image.len() - 0x1_0000;
            [
                ("seabios", image[half - 0x1_0000..half].to_vec()),
                ("seabios", image[half..].to_vec()),
            ]
        }
        _ => [("demo", stele::demo::disk().to_vec()), ("demo", stele::demo::firmware().to_vec())],
    };
    let sample = |(origin, bytes), size| Sample { origin, size, bytes };
    [sample(narrow, CodeSize::Bits16), sample(wide, CodeSize::Bits32)]
}

/// Decodes from front to back; bytes that are no insn are skipped one at a time. Returns how many insns there were.
pub fn sweep(sample: &Sample) -> u64 {
    let (mut at, mut insns) = (0, 0);
    while let Some(rest) = sample.bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match decode(rest, sample.size, &Features::ALL) {
            Ok(insn) => {
                insns += 1;
                at += usize::from(insn.len);
            }
            Err(_) => at += 1,
        }
    }
    insns
}
