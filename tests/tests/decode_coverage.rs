//! Which instructions the tables have, measured against iced-x86's list, and which rows are run by what: `isa-spec/COVERAGE.md`
//! must say what is true.
//!
//! `UPDATE_EXPECT=1` writes the page anew, and the native oracle's column of `isa-spec/coverage.txt`. An instruction here is one of iced's codes: an operation with one kind
//! of operands and one encoding. It counts as covered when the decoder takes some encoding of it.

use iced_x86::{Code, Decoder, DecoderOptions, EncodingKind, Instruction};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use isa_spec::model::Isa;
use isa_spec::reach::{COLUMNS, FAULT, NATIVE, Reach};
use stele_tests::native::cases::{batch, code_size};
use stele_tests::native::state::Width;
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

/// Cases dealt to each row and width to see whether it gets one that is its own.
const CASES: usize = 32;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../isa-spec").join(name)
}

fn is_updating() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}

/// The mark of a row in the native oracle's column: does its generator deal cases of the row?
fn native_mark(isa: &Isa, row: usize) -> Option<u8> {
    let has_case = |width: &Width| {
        let is_it = |code: &[u8]| {
            let mut bytes = [0; 16];
            bytes[..code.len()].copy_from_slice(code);
            decode(&bytes, code_size(*width), &Features::ALL)
                .is_ok_and(|insn| usize::from(insn.row) == row)
        };
        batch(isa, row, *width, 1, CASES).cases.iter().any(|case| is_it(case.code()))
    };
    // Cases run as a user without rights to ports.
    let is_privileged =
        ["cpl0", "iopl", "iobitmap"].iter().any(|attr| isa.rows[row].attrs.has(attr));
    let mark = if is_privileged { FAULT } else { COLUMNS[NATIVE].mark };
    Width::ALL.iter().any(has_case).then_some(mark)
}

/// `coverage.txt`, with the native oracle's column checked or written.
fn reach() -> Reach {
    let isa = isa_spec::load(&file("x86")).unwrap_or_else(|errors| panic!("{errors}"));
    let text = std::fs::read_to_string(file("coverage.txt")).unwrap_or_default();
    let (written, problems) = Reach::parse(&isa, &text);
    let mut now = written.clone();
    let marks: Vec<Option<u8>> = (0..isa.rows.len()).map(|row| native_mark(&isa, row)).collect();
    now.set(NATIVE, &marks);
    if is_updating() {
        std::fs::write(file("coverage.txt"), now.to_string()).unwrap();
    } else {
        let rows = now.differences(&written, NATIVE);
        let is_current = rows.is_empty() && problems.is_empty();
        assert!(
            is_current,
            "isa-spec/coverage.txt is not current: run with UPDATE_EXPECT=1: {rows:#?} {problems:#?}"
        );
    }
    let silent: Vec<&str> =
        now.untested().filter(|(_, why)| why.is_empty()).map(|(row, _)| row).collect();
    assert!(silent.is_empty(), "no oracle runs these, and coverage.txt has no reason: {silent:#?}");
    now
}

/// What runs the rows, as a chapter of the page.
fn reach_chapter(reach: &Reach) -> String {
    let mut out = String::from(
        "\n## What runs the rows\n\n\
         Rows by table, and how many of them are run by what. `coverage.txt` beside this page says it row by row: the\n\
         columns `native` and `system` are checked by tests, the boots' are what was seen when they were written.\n\n",
    );
    for column in COLUMNS {
        let _ = writeln!(out, "- {}: {}", column.name, column.about);
    }
    let _ = write!(out, "\n{}", reach.summary());
    out.push_str(
        "\nRows that no oracle runs, or only for their fault:\n\n| row | why |\n|---|---|\n",
    );
    for (row, why) in reach.untested() {
        let _ = writeln!(out, "| {} | {why} |", row.replace(" | ", ", "));
    }
    out
}

fn page(seen: &BTreeMap<String, Extension>, reach: &Reach) -> String {
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
    out + &reach_chapter(reach)
}

#[test]
fn the_coverage_page_is_true() {
    let path = file("COVERAGE.md");
    let now = page(&survey(), &reach());
    if is_updating() {
        std::fs::write(&path, &now).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == now, "isa-spec/COVERAGE.md is not current: run with UPDATE_EXPECT=1\n{now}");
}
