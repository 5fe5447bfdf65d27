//! The decoder against iced-x86: which byte strings are instructions, and how long they are.
//!
//! Every string's first three bytes are tried in 16-, 32- and 64-bit code, every opcode of the `0F` maps behind the
//! usual prefixes, the VEX space, and random strings. iced knows every extension there ever was; [`LEDGER`] lists by
//! rule what may differ, and each rule must be needed.

use iced_x86::{Code, CpuidFeature, Decoder, DecoderOptions, Instruction};
use std::collections::BTreeMap;
use x86::decode::{Features, ROWS, decode};
use x86::insn::CodeSize;

/// One string on which the decoders differ.
struct Difference<'a> {
    bytes: &'a [u8],
    /// Our row and length.
    ours: Option<(u16, usize)>,
    /// iced's instruction, if valid.
    theirs: Option<Instruction>,
}

impl Difference<'_> {
    fn only_theirs(&self) -> bool {
        self.ours.is_none()
    }
}

/// A reason for which the decoders may differ.
struct Rule {
    reason: &'static str,
    applies: fn(&Difference) -> bool,
}

/// The ledger of allowed differences.
const LEDGER: &[Rule] = &[Rule {
    reason: "an extension that the tables do not have",
    applies: |d| d.only_theirs() && d.theirs.is_some_and(|insn| !is_in_the_tables(&insn)),
}];

/// Do the tables have every extension that this instruction belongs to?
fn is_in_the_tables(insn: &Instruction) -> bool {
    const FEATURES: [CpuidFeature; 59] = [
        CpuidFeature::ADX,
        CpuidFeature::AES,
        CpuidFeature::AVX,
        CpuidFeature::AVX2,
        CpuidFeature::BMI1,
        CpuidFeature::BMI2,
        CpuidFeature::CLFSH,
        CpuidFeature::CLWB,
        CpuidFeature::MOVDIRI,
        CpuidFeature::SHA,
        CpuidFeature::CLFLUSHOPT,
        CpuidFeature::CMOV,
        CpuidFeature::CMPXCHG16B,
        CpuidFeature::CPUID,
        CpuidFeature::CX8,
        CpuidFeature::F16C,
        CpuidFeature::FMA,
        CpuidFeature::FPU,
        CpuidFeature::FPU287,
        CpuidFeature::FPU387,
        CpuidFeature::FSGSBASE,
        CpuidFeature::FXSR,
        CpuidFeature::INTEL186,
        CpuidFeature::INTEL286,
        CpuidFeature::INTEL386,
        CpuidFeature::INTEL486,
        CpuidFeature::INTEL8086,
        CpuidFeature::INVPCID,
        CpuidFeature::LZCNT,
        CpuidFeature::MMX,
        CpuidFeature::MOVBE,
        CpuidFeature::MSR,
        CpuidFeature::MULTIBYTENOP,
        CpuidFeature::PAUSE,
        CpuidFeature::PCLMULQDQ,
        CpuidFeature::POPCNT,
        CpuidFeature::PREFETCHW,
        CpuidFeature::RDPID,
        CpuidFeature::RDPMC,
        CpuidFeature::RDRAND,
        CpuidFeature::RDSEED,
        CpuidFeature::SEP,
        CpuidFeature::SMAP,
        CpuidFeature::SSE,
        CpuidFeature::SSE2,
        CpuidFeature::SSE3,
        CpuidFeature::SSE4_1,
        CpuidFeature::SSE4_2,
        CpuidFeature::SSSE3,
        CpuidFeature::SYSCALL,
        CpuidFeature::TSC,
        CpuidFeature::X64,
        CpuidFeature::XSAVE,
        CpuidFeature::XSAVEC,
        CpuidFeature::XSAVEOPT,
        CpuidFeature::MONITOR,
        CpuidFeature::RDTSCP,
        CpuidFeature::CET_IBT,
        CpuidFeature::PREFETCHWT1,
    ];
    insn.cpuid_features().iter().all(|feature| FEATURES.contains(feature))
}

/// Width of code as iced counts it.
const fn bits(size: CodeSize) -> u32 {
    match size {
        CodeSize::Bits16 => 16,
        CodeSize::Bits32 => 32,
        CodeSize::Bits64 => 64,
    }
}

/// What one run has seen.
#[derive(Default)]
struct Tally {
    strings: u64,
    valid: u64,
    rules_used: Vec<u64>,
    unexplained: BTreeMap<String, (u64, String)>,
}

impl Tally {
    fn compare(&mut self, size: CodeSize, bytes: &[u8; 15]) {
        let bits = bits(size);
        // Escapes that no x87 row has are decoded for processors without coprocessor; on others their row raises #UD.
        let ours = decode(bytes, size, &Features::ALL).ok();
        let ours = ours.filter(|insn| insn.info().name != "ESC");
        let ours = ours.map(|insn| (insn.row, usize::from(insn.len)));
        let mut decoder = Decoder::new(bits, bytes, DecoderOptions::NONE);
        let theirs = Some(decoder.decode()).filter(|insn| insn.code() != Code::INVALID);
        self.strings += 1;
        self.valid += u64::from(ours.is_some());
        if ours.map(|(_, len)| len) != theirs.map(|insn| insn.len()) {
            self.explain(size, &Difference { bytes, ours, theirs });
        }
    }

    fn explain(&mut self, size: CodeSize, difference: &Difference) {
        self.rules_used.resize(LEDGER.len(), 0);
        if let Some(rule) = LEDGER.iter().position(|rule| (rule.applies)(difference)) {
            self.rules_used[rule] += 1;
            return;
        }
        let ours = difference.ours.map(|(row, len)| {
            let row = &ROWS[usize::from(row)];
            (format!("{} `{}`", row.name, row.opcode), len)
        });
        let theirs = difference.theirs.map(|insn| (format!("{:?}", insn.code()), insn.len()));
        let key = match (&ours, &theirs) {
            (Some((row, _)), None) => format!("only ours: {row}"),
            (None, Some((code, _))) => format!("only iced: {code}"),
            _ => format!("ours {ours:?}, iced {theirs:?}"),
        };
        let entry = self
            .unexplained
            .entry(format!("{size:?} {key}"))
            .or_insert_with(|| (0, hex(difference.bytes)));
        entry.0 += 1;
    }

    /// Fails with every unexplained difference.
    fn verdict(&self, name: &str) {
        println!(
            "{name}: {} strings, {} valid, ledger {:?}",
            self.strings, self.valid, self.rules_used
        );
        for (key, (count, example)) in &self.unexplained {
            println!("{count:8} {key}, first {example}");
        }
        assert!(
            self.unexplained.is_empty(),
            "{name}: {} kinds of difference",
            self.unexplained.len()
        );
        for (rule, used) in LEDGER.iter().zip(&self.rules_used) {
            assert!(*used > 0, "{name}: no longer needed: {}", rule.reason);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" ")
}

/// SplitMix64: the same numbers on every run.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn bytes(&mut self) -> [u8; 15] {
        let mut bytes = [0; 15];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}

/// Every opening of three bytes.
fn all_openings(size: CodeSize, name: &str) {
    let mut tally = Tally::default();
    let mut bytes = Rng(3).bytes();
    for opening in 0..1_u32 << 24 {
        bytes[..3].copy_from_slice(&opening.to_le_bytes()[..3]);
        tally.compare(size, &bytes);
    }
    tally.verdict(name);
}

#[test]
fn every_opening_in_16_bit_code() {
    all_openings(CodeSize::Bits16, "openings, 16-bit");
}

#[test]
fn every_opening_in_32_bit_code() {
    all_openings(CodeSize::Bits32, "openings, 32-bit");
}

#[test]
fn every_opening_in_64_bit_code() {
    all_openings(CodeSize::Bits64, "openings, 64-bit");
}

const SIZES: [CodeSize; 3] = [CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64];

/// Every opcode of the one-byte and `0F` maps with every ModRM byte, behind prefixes; SIB bytes by chance.
#[test]
fn every_opcode_behind_prefixes() {
    const PREFIXES: [&[u8]; 20] = [
        &[],
        &[0x66],
        &[0x67],
        &[0xF0],
        &[0xF2],
        &[0xF3],
        &[0x66, 0x67],
        &[0x66, 0xF3],
        &[0xF2, 0xF3],
        &[0xF0, 0x67],
        &[0x48],
        &[0x41],
        &[0x44],
        &[0x66, 0x48],
        &[0xF3, 0x4C],
        &[0xF2, 0x4F],
        &[0xF0, 0x49],
        &[0x65, 0x45],
        &[0x48, 0x66],
        &[0x66, 0xF2, 0x48],
    ];
    const ESCAPES: [&[u8]; 4] = [&[], &[0x0F], &[0x0F, 0x38], &[0x0F, 0x3A]];
    let mut tally = Tally::default();
    let mut rng = Rng(7);
    for (prefixes, escape) in PREFIXES.iter().flat_map(|p| ESCAPES.iter().map(move |e| (p, e))) {
        for tail in 0..1_u32 << 16 {
            for size in SIZES {
                let mut bytes = rng.bytes();
                let start = [prefixes, *escape, &tail.to_le_bytes()[..2]].concat();
                bytes[..start.len()].copy_from_slice(&start);
                tally.compare(size, &bytes);
            }
        }
    }
    tally.verdict("opcodes behind prefixes");
}

/// The VEX space: every two-byte prefix with every opcode, every three-byte prefix with random ones.
#[test]
fn vex_prefixes() {
    let mut tally = Tally::default();
    let mut rng = Rng(13);
    for opening in 0..1_u32 << 16 {
        for size in SIZES {
            for modrm in [0x05, 0x44, 0xC1, 0xF8] {
                let mut bytes = rng.bytes();
                let [payload, opcode, ..] = opening.to_le_bytes();
                bytes[..4].copy_from_slice(&[0xC5, payload, opcode, modrm]);
                tally.compare(size, &bytes);
            }
            for map in 1..=3 {
                for _ in 0..8 {
                    let mut bytes = rng.bytes();
                    let [payload, opcode, ..] = opening.to_le_bytes();
                    let extension = bytes[1] & 0xE0 | map;
                    bytes[..4].copy_from_slice(&[0xC4, extension, payload, opcode]);
                    tally.compare(size, &bytes);
                }
            }
        }
    }
    for _ in 0..300_000 {
        for size in SIZES {
            let mut bytes = rng.bytes();
            let prefix = [0x66, 0xF2, 0xF3, 0xF0, 0x48, 0x67, 0x65, 0x2E];
            bytes[0] = prefix[rng.next() as usize % prefix.len()];
            bytes[1] = 0xC4 | bytes[1] & 1;
            bytes[2] |= 0xC0;
            tally.compare(size, &bytes);
        }
    }
    tally.verdict("VEX");
}

/// Random strings, half of them with a run of prefixes, so that the 15-byte limit is met.
#[test]
fn random_strings() {
    const PREFIX_BYTES: [u8; 13] =
        [0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x48, 0x4D];
    let mut tally = Tally::default();
    let mut rng = Rng(11);
    for i in 0..3_000_000 {
        let mut bytes = rng.bytes();
        let mut choice = rng.next();
        let run = if i % 2 == 0 { 0 } else { (choice >> 32) as usize % 16 };
        for byte in &mut bytes[..run.min(15)] {
            *byte = PREFIX_BYTES[(choice % 13) as usize];
            choice = choice.rotate_right(5).wrapping_mul(5);
        }
        tally.compare(SIZES[i % 3], &bytes);
    }
    tally.verdict("random strings");
}
