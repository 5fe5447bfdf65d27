//! Which instructions the tables have, measured against iced-x86's list: `isa-spec/COVERAGE.md` must say what is true.
//!
//! `UPDATE_EXPECT=1` writes the page anew. An instruction here is one of iced's codes: an operation with one kind
//! of operands and one encoding. It counts as covered when the decoder takes some encoding of it.

use iced_x86::{Code, Decoder, DecoderOptions, EncodingKind, Instruction};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use x86::decode::{Features, attr, decode};
use x86::insn::CodeSize;

/// Codes of one extension.
#[derive(Default)]
struct Extension {
    known: BTreeSet<String>,
    covered: BTreeSet<String>,
    /// Decoded as a hint that does nothing.
    idle: BTreeSet<String>,
}

/// Tries every opcode of every map behind every class of prefix with ModRM bytes of each kind.
fn survey() -> BTreeMap<String, Extension> {
    const PREFIXES: [&[u8]; 9] = [
        &[],
        &[0x66],
        &[0xF2],
        &[0xF3],
        &[0x48],
        &[0x66, 0x48],
        &[0xF2, 0x48],
        &[0xF3, 0x48],
        &[0x67],
    ];
    const ESCAPES: [&[u8]; 4] = [&[], &[0x0F], &[0x0F, 0x38], &[0x0F, 0x3A]];
    let mut starts: Vec<Vec<u8>> = Vec::new();
    for prefixes in PREFIXES {
        starts.extend(ESCAPES.iter().map(|escape| [prefixes, *escape].concat()));
    }
    for map in 1..=3_u8 {
        // Every pp, L and W; vvvv 1111 and 1110.
        let payloads = (0..=255_u8).filter(|byte| byte & 0x70 == 0x70);
        starts.extend(payloads.map(|payload| vec![0xC4, 0xE0 | map, payload]));
    }
    let mut seen = BTreeMap::new();
    for start in &starts {
        for opcode in 0..=255_u8 {
            for modrm in (0..=255_u8).filter(|m| *m >= 0xC0 || *m & 0xC7 == 0 || *m & 0xC7 == 4) {
                let mut bytes = [0x11; 15];
                bytes[..start.len()].copy_from_slice(start);
                bytes[start.len()..start.len() + 2].copy_from_slice(&[opcode, modrm]);
                for size in [CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64] {
                    look(&bytes, size, &mut seen);
                }
            }
        }
    }
    seen
}

fn look(bytes: &[u8; 15], size: CodeSize, seen: &mut BTreeMap<String, Extension>) {
    let bits = match size {
        CodeSize::Bits16 => 16,
        CodeSize::Bits32 => 32,
        CodeSize::Bits64 => 64,
    };
    let theirs: Instruction = Decoder::new(bits, bytes, DecoderOptions::NONE).decode();
    let is_ours = matches!(theirs.encoding(), EncodingKind::Legacy | EncodingKind::VEX);
    if theirs.code() == Code::INVALID || !is_ours {
        return;
    }
    let names: Vec<String> =
        theirs.cpuid_features().iter().map(|feature| format!("{feature:?}")).collect();
    let extension = seen.entry(names.join(" + ")).or_default();
    let code = format!("{:?}", theirs.code());
    let ours = decode(bytes, size, &Features::ALL);
    if let Ok(insn) = ours
        && usize::from(insn.len) == theirs.len()
    {
        let is_hint = insn.info().attrs & attr::HINT != 0;
        let list = if is_hint { &mut extension.idle } else { &mut extension.covered };
        list.insert(code.clone());
    }
    extension.known.insert(code);
}

fn page(seen: &BTreeMap<String, Extension>) -> String {
    let mut out = String::from(
        "# What the tables cover\n\n\
         Instructions by extension, counted against the list of iced-x86 (legacy and VEX encodings): an operation with one\n\
         kind of operands and one encoding is one. Written by `tests/tests/decode_coverage.rs` (`UPDATE_EXPECT=1`), which\n\
         fails when it is not true.\n\n\
         | extension | instructions | in the tables | as hints without effect | missing |\n|---|---|---|---|---|\n",
    );
    let (mut known, mut covered) = (0, 0);
    let is_there = |e: &Extension| !e.covered.is_empty() || !e.idle.is_empty();
    for (name, extension) in seen.iter().filter(|(_, e)| is_there(e)) {
        let (all, have) = (extension.known.len(), extension.covered.len());
        (known, covered) = (known + all, covered + have);
        let idle = extension.idle.difference(&extension.covered).count();
        let found: BTreeSet<&String> = extension.covered.union(&extension.idle).collect();
        let missing: Vec<&str> = extension
            .known
            .iter()
            .filter(|code| !found.contains(code))
            .map(String::as_str)
            .collect();
        let row = format!("| {name} | {all} | {have} | {idle} | {}", missing.join(" "));
        let _ = writeln!(out, "{} |", row.trim_end());
    }
    let _ = writeln!(out, "| all of these | {known} | {covered} | | |");
    let absent: Vec<String> = seen
        .iter()
        .filter(|(_, e)| !is_there(e))
        .map(|(name, e)| format!("{name} ({})", e.known.len()))
        .collect();
    let _ = writeln!(out, "\nExtensions of which the tables have nothing: {}.", absent.join(", "));
    out
}

#[test]
fn the_coverage_page_is_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../isa-spec/COVERAGE.md");
    let now = page(&survey());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == now, "isa-spec/COVERAGE.md is not current: run with UPDATE_EXPECT=1\n{now}");
}
