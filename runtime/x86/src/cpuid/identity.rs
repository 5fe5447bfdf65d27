//! Who the processor says it is: vendor, family, brand string, and the width of its physical addresses.
//!
//! The tables give each model's own; `-cpu MODEL,family=6,…` gives others. Feature bits are not part of it.
//! Names of models may carry the suffixes by which scripts tell variants apart: `-v2`, `-noTSX`, `-IBRS`,
//! `-IBPB`. No model here has TSX, so that only `-IBRS` says something: the speculation controls are there.
//! Source: SDM Vol. 2A, "CPUID - CPU Identification".

use crate::decode::CpuInfo;

/// Characters of the vendor string.
const VENDOR: usize = 12;
/// Characters of the brand string, with the zero that ends it.
const BRAND: usize = 48;
/// The families, models and steppings that leaf 1 has room for.
const FAMILY_MAX: u32 = 0xF + 0xFF;
const MODEL_MAX: u32 = 0xFF;
const STEPPING_MAX: u32 = 0xF;
/// Narrowest and widest physical addresses.
const PHYS_BITS: std::ops::RangeInclusive<u8> = 32..=40;

/// What `Identity::set` knows.
pub const KEYS: [&str; 6] = ["vendor", "model-id", "family", "model", "stepping", "phys-bits"];

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) vendor: [u8; VENDOR],
    pub(super) brand: [u8; BRAND],
    pub(super) family: u32,
    pub(super) model: u32,
    pub(super) stepping: u32,
    /// Asked for; `None`: what the features allow.
    pub(super) phys_bits: Option<u8>,
}

/// The text's bytes, cut and filled up with zeros.
fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let mut to = [0; N];
    for (to, from) in to.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    to
}

impl Identity {
    pub(super) fn of(info: &CpuInfo) -> Self {
        Self {
            vendor: bytes(info.vendor),
            brand: bytes(info.brand),
            family: info.family,
            model: info.model,
            stepping: info.stepping,
            phys_bits: None,
        }
    }

    /// Sets one of [`KEYS`]; the error says what its value must be.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        let is_text = value.bytes().all(|b| matches!(b, b' '..=b'~'));
        let number = |most: u32| {
            let digits = value.strip_prefix("0x");
            let n =
                digits.map_or_else(|| value.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok());
            n.filter(|&n| n <= most)
        };
        match key {
            "vendor" if is_text && value.len() == VENDOR => self.vendor = bytes(value),
            "vendor" => return Err("twelve characters"),
            "model-id" if is_text && value.len() < BRAND => self.brand = bytes(value),
            "model-id" => return Err("at most 47 characters"),
            "family" => self.family = number(FAMILY_MAX).ok_or("a number up to 270")?,
            "model" => self.model = number(MODEL_MAX).ok_or("a number up to 255")?,
            "stepping" => self.stepping = number(STEPPING_MAX).ok_or("a number up to 15")?,
            _ => {
                let bits = number(255).map(|n| n as u8);
                let bits = bits.filter(|n| *n == 0 || PHYS_BITS.contains(n));
                self.phys_bits = Some(bits.ok_or("a number from 32 to 40")?).filter(|&n| n != 0);
            }
        }
        Ok(())
    }

    pub(super) fn is_amd(&self) -> bool {
        matches!(&self.vendor, b"AuthenticAMD" | b"HygonGenuine")
    }
}

/// The model's name without its last suffix, if that is one of a variant, and whether it was `-IBRS`.
pub(super) fn without_variant(name: &str) -> Option<(&str, bool)> {
    let (rest, suffix) = name.rsplit_once('-')?;
    match suffix.as_bytes() {
        b"noTSX" | b"IBPB" | [b'v', b'1'..=b'9'] => Some((rest, false)),
        b"IBRS" => Some((rest, true)),
        _ => None,
    }
}
