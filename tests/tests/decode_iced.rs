//! The decoder against iced-x86: which byte strings are instructions, and how long they are.
//!
//! Every string's first three bytes are tried in 16- and 32-bit code, every `0F` opcode with every ModRM and
//! SIB byte behind the usual prefixes, and random strings. iced decodes what was added after the
//! Pentium Pro too; [`LEDGER`] lists by rule what may differ, and each rule must be needed.

use iced_x86::{Code, CpuidFeature, Decoder, DecoderOptions, Instruction};
use std::collections::BTreeMap;
use x86::decode::{Features, ROWS, decode};
use x86::insn::CodeSize;

/// One string on which the decoders differ.
struct Difference<'a> {
    bytes: &'a [u8],
    /// Opcode bytes, prefixes skipped.
    opcode: &'a [u8],
    /// Our row and length.
    ours: Option<(u16, usize)>,
    /// iced's instruction, if valid.
    theirs: Option<Instruction>,
}

impl Difference<'_> {
    fn only_ours(&self) -> bool {
        self.theirs.is_none()
    }
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
const LEDGER: &[Rule] = &[
    Rule {
        reason: "newer than the Pentium Pro's integer set, and in no table",
        applies: |d| d.only_theirs() && d.theirs.is_some_and(|insn| !is_p6_integer(&insn)),
    },
    Rule {
        reason: "an ESC opcode without an FPU is one instruction whatever ModRM says; iced knows which the FPU has",
        applies: |d| d.only_ours() && (0xD8..=0xDF).contains(&d.opcode[0]),
    },
];

/// Is it in the instruction set of a Pentium Pro without FPU?
fn is_p6_integer(insn: &Instruction) -> bool {
    const FEATURES: [CpuidFeature; 16] = [
        CpuidFeature::INTEL8086,
        CpuidFeature::INTEL186,
        CpuidFeature::INTEL286,
        CpuidFeature::INTEL386,
        CpuidFeature::INTEL486,
        CpuidFeature::CMOV,
        CpuidFeature::CPUID,
        CpuidFeature::CX8,
        CpuidFeature::FPU,
        CpuidFeature::FPU287,
        CpuidFeature::FPU387,
        CpuidFeature::MSR,
        CpuidFeature::MULTIBYTENOP,
        CpuidFeature::PAUSE,
        CpuidFeature::RDPMC,
        CpuidFeature::TSC,
    ];
    insn.cpuid_features().iter().all(|feature| FEATURES.contains(feature))
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
        let bits = if size == CodeSize::Bits16 { 16 } else { 32 };
        let ours =
            decode(bytes, size, &Features::ALL).ok().map(|insn| (insn.row, usize::from(insn.len)));
        let mut decoder = Decoder::new(bits, bytes, DecoderOptions::NONE);
        let theirs = Some(decoder.decode()).filter(|insn| insn.code() != Code::INVALID);
        self.strings += 1;
        self.valid += u64::from(ours.is_some());
        if ours.map(|(_, len)| len) != theirs.map(|insn| insn.len()) {
            let skipped = bytes.iter().take_while(|byte| is_prefix(**byte)).count();
            self.explain(&Difference { bytes, opcode: &bytes[skipped.min(14)..], ours, theirs });
        }
    }

    fn explain(&mut self, difference: &Difference) {
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
        let entry = self.unexplained.entry(key).or_insert_with(|| (0, hex(difference.bytes)));
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

fn is_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2E | 0x36 | 0x3E | 0x64..=0x67 | 0xF0 | 0xF2 | 0xF3)
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

/// Every `0F` opcode with every ModRM byte, behind prefixes; SIB bytes by chance.
#[test]
fn every_0f_opcode_behind_prefixes() {
    const PREFIXES: [&[u8]; 9] = [
        &[],
        &[0x66],
        &[0x67],
        &[0xF0],
        &[0xF2],
        &[0xF3],
        &[0x66, 0x67],
        &[0x66, 0xF3],
        &[0xF0, 0x67],
    ];
    let mut tally = Tally::default();
    let mut rng = Rng(7);
    for prefixes in PREFIXES {
        for tail in 0..1_u32 << 16 {
            for size in [CodeSize::Bits16, CodeSize::Bits32] {
                let mut bytes = rng.bytes();
                let at = prefixes.len();
                bytes[..at].copy_from_slice(prefixes);
                bytes[at] = 0x0F;
                bytes[at + 1..at + 3].copy_from_slice(&tail.to_le_bytes()[..2]);
                tally.compare(size, &bytes);
            }
        }
    }
    tally.rules_used.iter_mut().for_each(|used| *used += 1); // no ESC opcodes here
    tally.verdict("0F behind prefixes");
}

/// Random strings, half of them with a run of prefixes, so that the 15-byte limit is met.
#[test]
fn random_strings() {
    const PREFIX_BYTES: [u8; 11] =
        [0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3];
    let mut tally = Tally::default();
    let mut rng = Rng(11);
    for i in 0..2_000_000 {
        let mut bytes = rng.bytes();
        let mut choice = rng.next();
        let run = if i % 2 == 0 { 0 } else { (choice >> 32) as usize % 16 };
        for byte in &mut bytes[..run.min(15)] {
            *byte = PREFIX_BYTES[(choice % 11) as usize];
            choice = choice.rotate_right(5).wrapping_mul(5);
        }
        let size = if i % 4 < 2 { CodeSize::Bits16 } else { CodeSize::Bits32 };
        tally.compare(size, &bytes);
    }
    tally.verdict("random strings");
}
