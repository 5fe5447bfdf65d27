//! What a processor has: generation and CPUID features, as the decoder's gates and the machine ask for them.

use super::tables::feature;

/// What the modelled processor has: decides rows with `since`, `maker` or `cpuid`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Features {
    /// Processor generation.
    pub level: Level,
    /// Whose processor it is.
    pub maker: Maker,
    /// Bits of module [`feature`].
    pub cpuid: u128,
}

/// A CPUID bit as the tables declare it; its number is its index in [`super::FEATURES`].
#[derive(Clone, Copy, Debug)]
pub struct FeatureInfo {
    /// Name, as `cpuid(…)` gives it.
    pub name: &'static str,
    /// CPUID leaf.
    pub leaf: u32,
    /// Sub-leaf.
    pub sub: u32,
    /// Register: 0 EAX, 1 EBX, 2 ECX, 3 EDX.
    pub reg: u8,
    /// Bit number.
    pub bit: u8,
    /// Offered only together with these features.
    pub needs: &'static [u8],
    /// Some row asks for it, or the machine has it by itself.
    pub exists: bool,
    /// The host must have it too.
    pub native: bool,
}

/// A processor model as the tables declare it.
#[derive(Clone, Copy, Debug)]
pub struct CpuInfo {
    /// Name, as the user gives it.
    pub name: &'static str,
    /// Vendor string, 12 characters.
    pub vendor: &'static str,
    /// Brand string.
    pub brand: &'static str,
    /// Family, extended family added.
    pub family: u32,
    /// Model, extended model added.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
    /// Generation.
    pub level: Level,
    /// Bits of module [`feature`].
    pub features: u128,
}

impl Features {
    /// Intel's Pentium Pro with every feature that the tables know of.
    pub const ALL: Self = Self { level: Level::P6, maker: Maker::Intel, cpuid: u128::MAX };
    /// A processor of this generation with the extensions of these names, as the tables' `cpuid(…)` spell them. A
    /// name that gates no row changes nothing.
    pub fn named(level: Level, names: &[&str]) -> Self {
        let known = feature::NAMES.iter().enumerate();
        let cpuid = known
            .filter(|(_, name)| names.contains(name))
            .fold(0, |bits, (bit, _)| bits | 1 << bit);
        Self { level, maker: Maker::Intel, cpuid }
    }
    /// A processor of this generation without CPUID-gated extensions.
    pub const fn plain(level: Level) -> Self {
        Self { level, maker: Maker::Intel, cpuid: 0 }
    }
}

/// Whose processors it is like, where encodings differ: the `maker` attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Maker {
    /// Intel, and everybody but AMD and Hygon.
    Intel = 1,
    /// AMD and Hygon.
    Amd,
}

/// Processor generations, as in the `since` attribute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum Level {
    /// 8086 and 8088.
    I8086,
    /// 80186 and 80188.
    I186,
    /// 80286.
    I286,
    /// 80386.
    I386,
    /// 80486.
    I486,
    /// Pentium.
    P5,
    /// Pentium Pro and later.
    P6,
}
