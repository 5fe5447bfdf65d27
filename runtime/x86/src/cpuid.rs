//! The processor model: which features it has, what CPUID says, and what follows for the system side.
//!
//! Features and models are tables (`isa-spec/x86/features.isa`, `cpus.isa`). A feature is offered if
//! rows or the machine bring it to life and, where its rows run natively, the host has it too.
//! Source: SDM Vol. 2A, "CPUID - CPU Identification"; AMD APM Vol. 3, "Obtaining Processor Information
//! Via the CPUID Instruction".

mod identity;

use std::fmt::Write as _;

use crate::cpu::{Caps, Cpu, cr4, efer};
use crate::decode::{CPUS, CpuInfo, FEATURES, FeatureInfo, Features, Level, Maker};

use identity::Identity;
pub use identity::KEYS as IDENTITY_KEYS;

/// The host's CPUID: leaf and sub-leaf to EAX, EBX, ECX, EDX.
pub type HostCpuid = fn(u32, u32) -> [u32; 4];

/// Width of physical addresses with 64-bit mode, with PAE, and without.
const PHYS_BITS: [u8; 3] = [40, 36, 32];
/// Width of linear addresses in 64-bit mode.
const LIN_BITS: u32 = 48;
/// Bytes of an XSAVE area without and with AVX state.
const XSAVE_BYTES: [u32; 2] = [576, 832];

/// Rate of the time-stamp counter, in hertz. The machine's [`mem::Bus::tsc`] counts so.
pub const TSC_HZ: u64 = 1_000_000_000;
/// Rate of the core crystal clock.
const CRYSTAL_HZ: u64 = 1_000_000_000;
const MHZ: u64 = 1_000_000;

/// The model with everything, should the tables have none of its name.
static MAX: CpuInfo = CpuInfo {
    name: "max",
    vendor: "GenuineIntel",
    brand: "",
    family: 6,
    model: 94,
    stepping: 3,
    level: Level::P6,
    features: u128::MAX,
};

/// Other spellings of features that users know.
const ALIASES: &[(&str, &str)] = &[
    ("pni", "sse3"),
    ("abm", "lzcnt"),
    ("xd", "nx"),
    ("cmpxchg16b", "cx16"),
    ("cmpxchg8b", "cx8"),
    ("clflush", "clfsh"),
    ("3dnowprefetch", "prefetchw"),
];

/// Features of real processors that scripts switch off to be safe: not here anyway. Paravirtual ones
/// (`kvm-…`, `hv-…`) are of this kind, too.
const ABSENT: &[&str] = &[
    "3dnow",
    "3dnowext",
    "mmxext",
    "fma4",
    "xop",
    "tbm",
    "lwp",
    "svm",
    "vmx",
    "smx",
    "hypervisor",
    "ht",
    "ss",
    "ds",
    "acpi",
    "tm",
    "tm2",
    "pbe",
    "dtes64",
    "ds-cpl",
    "est",
    "cid",
    "xtpr",
    "pdcm",
    "dca",
    "hle",
    "rtm",
    "mpx",
    "pku",
    "pks",
    "la57",
    "sgx",
    "sgxlc",
    "waitpkg",
    "cldemote",
    "tsx-ldtrk",
    "intel-pt",
    "xsaves",
    "stibp",
    "ssbd",
    "md-clear",
    "core-capability",
    "split-lock-detect",
    "invtsc",
    "topoext",
    "osvw",
    "ibs",
    "skinit",
    "wdt",
    "tce",
    "nodeid-msr",
    "perfctr-core",
    "perfctr-nb",
    "extapic",
    "misalignsse",
    "fxsr-opt",
    "cmp-legacy",
    "xsaveerptr",
    "ibpb",
    "amd-stibp",
    "amd-ssbd",
    "virt-ssbd",
    "amd-no-ssb",
    "npt",
    "lbrv",
    "nrip-save",
    "tsc-scale",
    "vmcb-clean",
    "pmu",
    "flushbyasid",
    "decodeassists",
    "pause-filter",
    "pfthreshold",
    "vgif",
    "rdpru",
    "ia64",
    "pn",
    "osxsave",
    "rdctl-no",
    "ibrs-all",
    "rsba",
    "skip-l1dfl-vmentry",
    "mds-no",
    "ssb-no",
    "pschange-mc-no",
    "taa-no",
];

/// Does the name stand for a feature that processors have and this one never?
fn is_absent(name: &str) -> bool {
    const FAMILIES: [&str; 5] = ["avx512", "amx", "kvm", "hv", "xen"];
    let name: String = plain(name).collect();
    ABSENT.iter().any(|known| plain(known).eq(name.chars()))
        || FAMILIES.iter().any(|family| name.starts_with(family))
}

/// A processor model with its features as the user wants them.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    info: &'static CpuInfo,
    identity: Identity,
    features: u128,
    /// What the model's list has and the user did not switch off, to be had or not.
    wanted: u128,
}

/// Why a feature cannot be switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureError {
    /// The tables do not know the name.
    Unknown,
    /// Neither rows nor the machine have it, or the host lacks it.
    NotOffered,
}

/// The name without case and punctuation.
fn plain(name: &str) -> impl Iterator<Item = char> + '_ {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase())
}

fn index_of(name: &str) -> Option<usize> {
    // Nearly all who ask know the table's own spelling; CPUID asks often.
    if let Some(exact) = FEATURES.iter().position(|f| f.name == name) {
        return Some(exact);
    }
    let alias = ALIASES.iter().find(|(other, _)| plain(other).eq(plain(name)));
    let name = alias.map_or(name, |(_, known)| known);
    FEATURES.iter().position(|f| plain(f.name).eq(plain(name)))
}

/// Drops features whose needs are not met.
fn settled(mut features: u128) -> u128 {
    loop {
        let is_met = |f: &FeatureInfo| f.needs.iter().all(|&n| features >> n & 1 != 0);
        let unmet = FEATURES
            .iter()
            .enumerate()
            .filter(|(i, f)| features >> i & 1 != 0 && !is_met(f))
            .fold(0, |bits, (i, _)| bits | 1u128 << i);
        if unmet == 0 {
            return features;
        }
        features &= !unmet;
    }
}

/// The names of features.
fn names(features: u128) -> impl Iterator<Item = &'static str> {
    let all = FEATURES.iter().enumerate();
    all.filter(move |(i, _)| features >> i & 1 != 0).map(|(_, f)| f.name)
}

/// The features a guest can have.
fn offered(host: Option<HostCpuid>) -> u128 {
    let is_offered = |f: &FeatureInfo| {
        let on_host = || {
            host.is_none_or(|cpuid| {
                let most = cpuid(f.leaf & 0x8000_0000, 0)[0];
                let reg = usize::from(f.reg & 3);
                f.leaf <= most && cpuid(f.leaf, f.sub)[reg] >> f.bit & 1 != 0
            })
        };
        f.exists && (!f.native || on_host())
    };
    let all = FEATURES.iter().enumerate().filter(|(_, f)| is_offered(f));
    settled(all.fold(0, |bits, (i, _)| bits | 1u128 << i))
}

/// Choosing.
impl Model {
    /// The model of this name on a host (`None`: one that has everything). Its features are those of the
    /// tables that can be offered.
    pub fn named(name: &str, host: Option<HostCpuid>) -> Option<Self> {
        if name == MAX.name {
            return Some(Self::max(host));
        }
        if let Some(info) = CPUS.iter().find(|info| info.name == name) {
            return Some(Self::of(info, host));
        }
        let (base, has_ibrs) = identity::without_variant(name)?;
        let mut model = Self::named(base, host)?;
        if has_ibrs {
            // A host or a version that has it not leaves it out, as with every feature of a model.
            let _ = model.set("SPEC_CTRL", true, host);
        }
        Some(model)
    }

    fn of(info: &'static CpuInfo, host: Option<HostCpuid>) -> Self {
        let features = settled(info.features & offered(host));
        let wanted = if info.name == MAX.name { 0 } else { info.features };
        Self { info, identity: Identity::of(info), features, wanted }
    }

    /// Name, features and identity in one word, equal for equal models only.
    pub fn fingerprint(&self) -> String {
        let mut text = format!("{},{:x}", self.info.name, self.features);
        if self.identity != Identity::of(self.info) {
            let _ = write!(text, ",{:?}", self.identity);
        }
        text
    }

    /// Sets vendor, family and the like (a key of [`IDENTITY_KEYS`]).
    ///
    /// # Errors
    /// What the value must be.
    pub fn set_identity(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        self.identity.set(key, value)
    }

    /// The features of the model's list that cannot be had on this host.
    pub fn missing(&self, host: Option<HostCpuid>) -> impl Iterator<Item = &'static str> {
        names(self.wanted & !offered(host))
    }

    /// Those of them that another host would have.
    pub fn lacking(&self, host: Option<HostCpuid>) -> impl Iterator<Item = &'static str> {
        names(self.wanted & offered(None) & !offered(host))
    }

    /// Everything that the host allows.
    pub fn max(host: Option<HostCpuid>) -> Self {
        let info = CPUS.iter().find(|info| info.name == MAX.name).unwrap_or(&MAX);
        Self::of(info, host)
    }

    /// The models that exist: name and brand.
    pub fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
        CPUS.iter().map(|info| (info.name, info.brand))
    }

    /// The names of all features that the tables know.
    pub fn all_features() -> impl Iterator<Item = &'static str> {
        FEATURES.iter().map(|f| f.name)
    }

    /// Switches a feature on, with what it needs, or off, with what needs it.
    ///
    /// # Errors
    /// The feature is unknown, or cannot be had.
    pub fn set(
        &mut self,
        name: &str,
        is_on: bool,
        host: Option<HostCpuid>,
    ) -> Result<(), FeatureError> {
        let Some(i) = index_of(name) else {
            return match (is_absent(name), is_on) {
                (true, false) => Ok(()),
                (true, true) => Err(FeatureError::NotOffered),
                (false, _) => Err(FeatureError::Unknown),
            };
        };
        if !is_on {
            self.features = settled(self.features & !(1 << i));
            self.wanted = settled(self.wanted & !(1 << i));
            return Ok(());
        }
        if offered(host) >> i & 1 == 0 {
            return Err(FeatureError::NotOffered);
        }
        self.add(i);
        Ok(())
    }

    fn add(&mut self, i: usize) {
        self.features |= 1 << i;
        for &need in FEATURES[i].needs {
            if self.features >> need & 1 == 0 {
                self.add(usize::from(need));
            }
        }
    }

    /// The model's name.
    pub const fn name(&self) -> &'static str {
        self.info.name
    }

    /// The names of its features.
    pub fn feature_names(&self) -> impl Iterator<Item = &'static str> {
        names(self.features)
    }

    /// What the decoder asks.
    pub fn features(&self) -> Features {
        let maker = if self.is_amd() { Maker::Amd } else { Maker::Intel };
        Features { level: self.info.level, maker, cpuid: self.features }
    }

    /// Does it have the feature of this name?
    pub fn has(&self, name: &str) -> bool {
        index_of(name).is_some_and(|i| self.features >> i & 1 != 0)
    }
}

/// How many sub-leaves of CPUID features have bits in.
const LEAVES: usize = 12;

/// The bits of a model's features by leaf and sub-leaf: a guest may ask for them often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaves([((u32, u32), [u32; 4]); LEAVES]);

impl Leaves {
    /// The registers of a leaf, or of one that has none yet.
    fn entry(&mut self, leaf: (u32, u32)) -> &mut [u32; 4] {
        let is_it = |&(known, bits): &((u32, u32), [u32; 4])| known == leaf || bits == [0; 4];
        let i = self.0.iter().position(is_it).unwrap_or(LEAVES - 1);
        self.0[i].0 = leaf;
        &mut self.0[i].1
    }

    /// EAX, EBX, ECX, EDX.
    fn bits(&self, leaf: u32, sub: u32) -> [u32; 4] {
        let known = self.0.iter().find(|(known, _)| *known == (leaf, sub));
        known.map_or([0; 4], |(_, bits)| *bits)
    }

    /// The highest sub-leaf of a leaf.
    fn last_sub(&self, leaf: u32) -> u32 {
        let subs = self.0.iter().filter(|((known, _), bits)| *known == leaf && *bits != [0; 4]);
        subs.map(|((_, sub), _)| *sub).max().unwrap_or(0)
    }
}

/// What follows for the system side.
impl Model {
    fn is_amd(&self) -> bool {
        self.identity.is_amd()
    }

    pub(crate) fn caps(&self) -> Caps {
        let has = |name: &str| self.has(name);
        let wide = if has("LM") { 0 } else { usize::from(!(has("PAE") || has("PSE36"))) + 1 };
        let set = |list: &[(&str, u64)]| {
            list.iter().filter(|(name, _)| has(name)).fold(0, |bits, (_, bit)| bits | bit)
        };
        let cr4 = set(&[
            ("VME", cr4::VME | cr4::PVI),
            ("TSC", cr4::TSD),
            ("DE", cr4::DE),
            ("PSE", cr4::PSE),
            ("PAE", cr4::PAE),
            ("MCE", cr4::MCE),
            ("PGE", cr4::PGE),
            ("FXSR", cr4::OSFXSR),
            ("SSE", cr4::OSXMMEXCPT),
            ("UMIP", cr4::UMIP),
            ("FSGSBASE", cr4::FSGSBASE),
            ("PCID", cr4::PCIDE),
            ("XSAVE", cr4::OSXSAVE),
            ("SMEP", cr4::SMEP),
            ("SMAP", cr4::SMAP),
        ]);
        let pmc = if self.info.level >= Level::P6 { cr4::PCE } else { 0 };
        Caps {
            phys_bits: self.identity.phys_bits.filter(|_| wide == 0).unwrap_or(PHYS_BITS[wide]),
            leaves: self.leaves(),
            last_basic: self.last_basic(),
            last_extended: self.last_extended(),
            knows_rates: self.knows_rates(),
            has_clflush: has("CLFSH"),
            has_fpu: has("FPU"),
            pse36: has("PSE36"),
            page_1g: has("PDPE1GB"),
            is_amd: self.is_amd(),
            has_cpuid: self.info.level >= Level::P5,
            has_long: has("LM"),
            has_sep: has("SEP"),
            has_mtrr: has("MTRR"),
            has_pat: has("PAT"),
            has_apic: has("APIC"),
            has_x2apic: has("X2APIC"),
            has_tsc_deadline: has("TSC_DEADLINE"),
            has_mca: has("MCA"),
            has_tsc_adjust: has("TSC_ADJUST"),
            has_tsc_aux: has("RDTSCP") || has("RDPID"),
            spec_ctrl: set(&[("SPEC_CTRL", 7), ("BHI_CTRL", 1 << 10)]),
            has_arch_caps: has("ARCH_CAPABILITIES"),
            cr4: cr4 | pmc,
            efer: set(&[("SYSCALL", efer::SCE), ("LM", efer::LME), ("NX", efer::NXE)]),
            xcr0: set(&[("XSAVE", 3), ("AVX", 4)]),
        }
    }

    /// Family, model and stepping as leaf 1 and EDX after RESET give them.
    pub fn signature(&self) -> u32 {
        let Identity { family, model, stepping, .. } = self.identity;
        let (family, extended) = (family.min(15), family.saturating_sub(15));
        let high = if family == 6 || family == 15 { model >> 4 & 15 } else { 0 };
        extended << 20 | high << 16 | family << 8 | (model & 15) << 4 | stepping & 15
    }

    /// The leaves that features have bits in.
    fn leaves(&self) -> Leaves {
        let mut leaves = Leaves::default();
        let mine = FEATURES.iter().enumerate().filter(|(i, _)| self.features >> i & 1 != 0);
        for (_, f) in mine {
            leaves.entry((f.leaf, f.sub))[usize::from(f.reg & 3)] |= 1 << f.bit;
        }
        leaves
    }

    /// The highest basic leaf.
    fn last_basic(&self) -> u32 {
        let used = FEATURES.iter().enumerate().filter(|(i, _)| self.features >> i & 1 != 0);
        let used = used.map(|(_, f)| f.leaf).filter(|leaf| leaf >> 31 == 0).max().unwrap_or(1);
        let monitor = if self.has("MONITOR") { 5 } else { 1 };
        let xsave = if self.has("XSAVE") { 0xD } else { 1 };
        let topology = if self.has("X2APIC") { 0xB } else { 1 };
        let rates = if self.knows_rates() { 0x16 } else { 1 };
        let caches = match self.info.level {
            Level::P6 if self.is_amd() => 1,
            Level::P6 if self.has("SSE2") => 4,
            Level::P6 => 2,
            _ => 1,
        };
        used.max(monitor).max(xsave).max(caches).max(topology).max(rates)
    }

    /// Do leaves 15h and 16h say how fast the clocks run? Processors that can be armed by the counter do.
    fn knows_rates(&self) -> bool {
        self.has("TSC_DEADLINE") && !self.is_amd()
    }

    /// The highest extended leaf, 0 for none.
    fn last_extended(&self) -> u32 {
        if self.has("LM") {
            0x8000_0008
        } else if self.info.level >= Level::P6 && self.identity.brand[0] != 0 {
            0x8000_0004
        } else {
            0
        }
    }

    /// The processor's place: one thread of one core, or nothing without x2APIC numbers.
    fn leaf_b(&self, sub: u32) -> [u32; 4] {
        let level = sub & 0xFF;
        match sub {
            0 | 1 if self.has("X2APIC") => [0, 1, (sub + 1) << 8 | level, 0],
            _ => [0, 0, level, 0],
        }
    }

    /// Twelve characters of the vendor string or sixteen of the brand string, as little-endian words.
    fn word(text: &[u8], n: usize) -> u32 {
        text.as_chunks().0.get(n).map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }
}

/// CPUID.
impl Cpu {
    /// CPUID: EAX, EBX, ECX, EDX of a leaf. Beyond the last leaf Intel's processors give the last basic
    /// one, AMD's zeros.
    pub(crate) fn identify(&self, leaf: u32, sub: u32) -> [u32; 4] {
        let is_extended = leaf >> 31 != 0;
        let last = if is_extended { self.caps.last_extended } else { self.caps.last_basic };
        if leaf > last {
            if self.caps.is_amd || leaf == 0x8000_0000 {
                return [0; 4];
            }
            return self.leaf(self.caps.last_basic, sub);
        }
        self.leaf(leaf, sub)
    }

    fn leaf(&self, leaf: u32, sub: u32) -> [u32; 4] {
        let model = &self.model;
        match leaf {
            0 => {
                let word = |n| Model::word(&model.identity.vendor, n);
                [self.caps.last_basic, word(0), word(2), word(1)]
            }
            1 => self.leaf_1(),
            2 if self.caps.has_long => [0x7603_6301, 0x00F0_B5FF, 0, 0x00C3_0000],
            2 => [0x0302_0101, 0, 0, 0x0604_0A42],
            4 => cache(sub),
            5 => [64, 64, 0, 0],
            7 => {
                let leaves = &self.caps.leaves;
                let [a, b, c, d] = leaves.bits(7, sub);
                [if sub == 0 { leaves.last_sub(7) } else { a }, b, c, d]
            }
            0xB => model.leaf_b(sub),
            0xD => self.leaf_d(sub),
            // The crystal's rate, which is the local APIC timer's, and the counter's as a multiple of it.
            0x15 if self.caps.knows_rates => {
                [1, (TSC_HZ / CRYSTAL_HZ) as u32, CRYSTAL_HZ as u32, 0]
            }
            0x16 if self.caps.knows_rates => [(TSC_HZ / MHZ) as u32, (TSC_HZ / MHZ) as u32, 100, 0],
            0x8000_0000 => [self.caps.last_extended, 0, 0, 0],
            0x8000_0001 => self.leaf_8000_0001(),
            0x8000_0002..=0x8000_0004 => {
                let at = (leaf - 0x8000_0002) as usize * 4;
                std::array::from_fn(|i| Model::word(&model.identity.brand, at + i))
            }
            // 32 KiB of data and code, 64-byte lines, 8 ways; 512 KiB behind them, 16 ways.
            0x8000_0005 if self.caps.is_amd => [0, 0, 0x2008_0140, 0x2008_0140],
            0x8000_0006 => [0, 0, 0x0200_8140, 0],
            // The time-stamp counter runs at one rate always.
            0x8000_0007 => [0, 0, 0, 1 << 8],
            0x8000_0008 => {
                let [_, b, c, d] = self.caps.leaves.bits(leaf, sub);
                [u32::from(self.caps.phys_bits) | LIN_BITS << 8, b, c, d]
            }
            // A leaf that holds features only.
            _ => self.caps.leaves.bits(leaf, sub),
        }
    }

    fn leaf_1(&self) -> [u32; 4] {
        const OSXSAVE: u32 = 1 << 27;
        const APIC: u32 = 1 << 9;
        const APIC_ENABLED: u64 = 1 << 11;
        let [_, _, mut c, mut d] = self.caps.leaves.bits(1, 0);
        if self.state.cr4 & cr4::OSXSAVE != 0 {
            c |= OSXSAVE;
        }
        if self.state.apic_base & APIC_ENABLED == 0 {
            d &= !APIC;
        }
        let line = if self.caps.has_clflush { 8 << 8 } else { 0 };
        [self.model.signature(), line, c, d]
    }

    /// XSAVE state: areas, and their sizes for what XCR0 has and could have.
    fn leaf_d(&self, sub: u32) -> [u32; 4] {
        let has_avx = self.caps.xcr0 & 4 != 0;
        let size = |xcr0: u64| XSAVE_BYTES[usize::from(xcr0 & 4 != 0)];
        match sub {
            0 => [self.caps.xcr0 as u32, size(self.state.xcr0), size(self.caps.xcr0), 0],
            1 => {
                let [a, ..] = self.caps.leaves.bits(0xD, 1);
                [a, if a & 2 != 0 { size(self.state.xcr0) } else { 0 }, 0, 0]
            }
            2 if has_avx => [XSAVE_BYTES[1] - XSAVE_BYTES[0], XSAVE_BYTES[0], 0, 0],
            _ => [0; 4],
        }
    }

    fn leaf_8000_0001(&self) -> [u32; 4] {
        const SYSCALL: u32 = 1 << 11;
        /// Bits that AMD's processors repeat from leaf 1.
        const REPEATED: u32 = 0x0183_F3FF;
        let [_, _, c, mut d] = self.caps.leaves.bits(0x8000_0001, 0);
        if self.caps.is_amd {
            d |= self.leaf_1()[3] & REPEATED;
            return [self.model.signature(), 0, c, d];
        }
        if !self.is_code64() {
            // Intel's have SYSCALL in 64-bit code only, and say so.
            d &= !SYSCALL;
        }
        [0, 0, c, d]
    }
}

/// The caches of Intel's leaf 4: 32 KiB data, 32 KiB code, 1 MiB, 16 MiB.
const fn cache(sub: u32) -> [u32; 4] {
    const fn shape(kind: u32, level: u32, ways: u32, sets: u32) -> [u32; 4] {
        [kind | level << 5 | 1 << 8, (ways - 1) << 22 | 63, sets - 1, 0]
    }
    match sub {
        0 => shape(1, 1, 8, 64),
        1 => shape(2, 1, 8, 64),
        2 => shape(3, 2, 16, 1024),
        3 => shape(3, 3, 16, 16384),
        _ => [0; 4],
    }
}

/// The model of a CPU.
impl Cpu {
    /// The processor model.
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// Makes it another model; call before anything runs, it resets.
    pub fn set_model(&mut self, model: Model) {
        self.model = model;
        self.caps = model.caps();
        self.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cpu;

    #[test]
    fn every_feature_has_its_bit_in_its_leaf() {
        let mut leaves: Vec<_> = FEATURES.iter().map(|f| (f.leaf, f.sub)).collect();
        leaves.sort_unstable();
        leaves.dedup();
        assert!(leaves.len() <= LEAVES, "{leaves:x?}");
        for info in CPUS {
            let model = Model::named(info.name, None).unwrap();
            for (i, f) in FEATURES.iter().enumerate() {
                let bits = model.leaves().bits(f.leaf, f.sub)[usize::from(f.reg & 3)];
                assert_eq!(bits >> f.bit & 1, (model.features >> i & 1) as u32, "{}", f.name);
            }
        }
    }

    const LM: (usize, u32) = (3, 1 << 29);

    fn with(name: &str) -> Cpu {
        let mut cpu = cpu();
        cpu.set_model(Model::named(name, None).unwrap());
        cpu
    }

    fn no_host(_: u32, _: u32) -> [u32; 4] {
        [0; 4]
    }

    #[test]
    fn models() {
        for (name, _) in Model::list() {
            assert!(Model::named(name, None).is_some(), "{name}");
        }
        assert!(Model::named("z80", None).is_none());
        let old = with("pentiumpro");
        assert_eq!(old.state.gpr[2], 0x619);
        assert_eq!(old.identify(0x8000_0000, 0)[0], 0);
        assert_eq!((old.caps.phys_bits, old.caps.efer, old.caps.xcr0), (36, 0, 0));
        let amd = with("qemu64");
        assert_eq!(amd.identify(0, 0)[1..], [0x6874_7541, 0x444D_4163, 0x6974_6E65]);
        assert_eq!(amd.identify(1, 0)[0], 0x0006_0FB1);
        assert_ne!(amd.identify(0x8000_0001, 0)[LM.0] & LM.1, 0);
        assert_eq!(amd.identify(0x8000_0001, 0)[3] & 1, 1, "bits of leaf 1 again");
        assert_eq!(amd.identify(0x8000_0008, 0)[..2], [0x3028, 0]);
        assert_eq!(with("EPYC-Rome").identify(0x8000_0008, 0)[1], 1 | 1 << 9, "CLZERO, WBNOINVD");
        assert_eq!(amd.identify(0x0FFF_FFFF, 0), [0; 4]);
    }

    #[test]
    fn identities() {
        let mut model = Model::named("max", None).unwrap();
        let print = model.fingerprint();
        for (key, value) in [
            ("vendor", "AuthenticAMD"),
            ("family", "0x17"),
            ("model", "49"),
            ("stepping", "2"),
            ("model-id", "A name"),
            ("phys-bits", "36"),
        ] {
            assert!(IDENTITY_KEYS.contains(&key));
            assert_eq!(model.set_identity(key, value), Ok(()), "{key}");
        }
        assert_ne!(model.fingerprint(), print);
        for (key, value) in [
            ("vendor", "AMD"),
            ("vendor", "AuthenticÄM"),
            ("family", "271"),
            ("model", "-1"),
            ("stepping", "16"),
            ("phys-bits", "41"),
            ("phys-bits", "x"),
        ] {
            assert!(model.set_identity(key, value).is_err(), "{key}={value}");
        }
        let mut cpu = cpu();
        cpu.set_model(model);
        assert_eq!(cpu.identify(1, 0)[0], 0x0083_0F12);
        assert_eq!(cpu.identify(0x8000_0002, 0)[0], u32::from_le_bytes(*b"A na"));
        assert_eq!(cpu.identify(0x8000_0008, 0)[0] & 0xFF, 36);
        assert!(cpu.caps.is_amd);
    }

    #[test]
    fn variants_and_what_they_lack() {
        let has = |name: &str, feature| Model::named(name, None).unwrap().has(feature);
        assert!(has("Haswell-noTSX-IBRS", "SPEC_CTRL") && !has("Haswell-noTSX", "SPEC_CTRL"));
        assert!(has("Cascadelake-Server-v4", "CLWB") && has("x86-64-v2-v1", "SSSE3"));
        assert!(Model::named("Haswell-v0", None).is_none());
        let poor = Model::named("Haswell", Some(no_host)).unwrap();
        assert!(poor.missing(Some(no_host)).any(|name| name == "AVX2"));
        assert_eq!(Model::max(Some(no_host)).missing(Some(no_host)).count(), 0);
        let mut zen = Model::named("EPYC", Some(no_host)).unwrap();
        assert!(zen.missing(Some(no_host)).any(|name| name == "CR8_LEGACY"));
        assert!(zen.lacking(Some(no_host)).all(|name| name != "CR8_LEGACY"), "no host has it");
        assert!(zen.lacking(Some(no_host)).any(|name| name == "SSE4A"));
        assert_eq!(zen.lacking(None).count(), 0);
        zen.set("sse4a", false, Some(no_host)).unwrap();
        assert!(zen.lacking(Some(no_host)).all(|name| name != "SSE4A"), "not wanted");
        let mut model = Model::named("qemu64", None).unwrap();
        assert_eq!(model.set("la57", false, None), Ok(()));
        assert_eq!(model.set("avx512vl", false, None), Ok(()));
        assert_eq!(model.set("hv_time", true, None), Err(FeatureError::NotOffered));
        assert_eq!(model.set("avx9", false, None), Err(FeatureError::Unknown));
    }

    #[test]
    fn features_bring_what_they_need() {
        let mut model = Model::named("x86-64-v3", None).unwrap();
        assert!(model.has("avx2") && model.has("SSE4.1") && !model.has("smap"));
        model.set("sse3", false, None).unwrap();
        assert!(!model.has("avx2") && !model.has("ssse3") && model.has("sse2"));
        model.set("fma", true, None).unwrap();
        assert!(model.has("avx") && model.has("pni") && !model.has("avx2"));
        assert_eq!(model.set("sse9", true, None), Err(FeatureError::Unknown));
        model.set("vme", true, None).unwrap();
        model.set("tsc-deadline", true, None).unwrap();
        assert!(model.has("apic") && !model.has("x2apic"));
        assert_eq!(model.set("avx", true, Some(no_host)), Err(FeatureError::NotOffered));
        let poor = Model::max(Some(no_host));
        assert!(!poor.has("fpu") && !poor.has("sse") && poor.has("tsc") && poor.has("pae"));
    }

    #[test]
    fn apic_and_clocks() {
        let mut cpu = with("max");
        assert_eq!(cpu.identify(0x15, 0), [1, 1, 1_000_000_000, 0]);
        assert_eq!(cpu.identify(0x16, 0), [1000, 1000, 100, 0]);
        assert_eq!(cpu.identify(6, 0)[0] & 4, 4, "the APIC timer never stops");
        assert_eq!(cpu.identify(0xB, 1), [0, 1, 0x201, 0]);
        assert_eq!(cpu.identify(0xB, 2), [0, 0, 2, 0]);
        assert_eq!(cpu.identify(1, 0)[3] >> 9 & 1, 1);
        cpu.write_msr(0x1B, 0xFEE0_0000).unwrap();
        assert_eq!(cpu.identify(1, 0)[3] >> 9 & 1, 0, "switched off");
        let old = with("qemu64");
        assert_eq!((old.identify(0x15, 0), old.identify(0xB, 0)), ([0; 4], [0; 4]));
    }

    #[test]
    fn live_bits_and_sizes() {
        let mut cpu = with("max");
        let has_osxsave = |cpu: &Cpu| cpu.identify(1, 0)[2] >> 27 & 1;
        assert_eq!((has_osxsave(&cpu), cpu.identify(0xD, 0)), (0, [7, 576, 832, 0]));
        cpu.write_cr4(cr4::OSXSAVE).unwrap();
        cpu.state.xcr0 = 7;
        assert_eq!((has_osxsave(&cpu), cpu.identify(0xD, 0)[1]), (1, 832));
        assert_eq!(cpu.identify(0xD, 2), [256, 576, 0, 0]);
        assert_eq!(cpu.identify(0x8000_0001, 0)[3] >> 11 & 1, 0, "SYSCALL in 64-bit code only");
        assert_eq!((cpu.identify(7, 0)[0], with("x86-64-v3").identify(7, 0)[0]), (2, 0));
        assert_eq!(cpu.identify(0x2000_0000, 0), cpu.identify(cpu.identify(0, 0)[0], 0));
    }
}
