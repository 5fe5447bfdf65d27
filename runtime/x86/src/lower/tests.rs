//! Ops of representative instructions, and a sweep over all rows.

use super::show::{insn_text, sample};
use super::{Flow, Lower, Place, Work};
use crate::decode::{Features, ROWS, decode};
use crate::insn::CodeSize;
use crate::mode::Mode;
use ir::Block;

/// Ops of one instruction in flat code.
fn ops(hex: &str, size: CodeSize) -> String {
    let bytes: Vec<u8> =
        hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    insn_text(&decode(&bytes, size, &Features::ALL).unwrap(), size)
}

/// Golden: one file of instructions with their ops, blessed by `UPDATE_EXPECT=1`.
#[test]
fn representative_instructions() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lower/tests/ops.txt");
    let old = std::fs::read_to_string(path).unwrap();
    let mut new = String::new();
    for line in old.lines().filter(|line| line.starts_with("# ")) {
        let (size, hex) = line[2..].split_once(' ').unwrap();
        let size = match size {
            "16" => CodeSize::Bits16,
            "32" => CodeSize::Bits32,
            _ => CodeSize::Bits64,
        };
        let hex = hex.split(';').next().unwrap();
        new.push_str(&format!("{line}\n{}\n", ops(hex, size)));
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, &new).unwrap();
    } else {
        assert_eq!(old, new, "run with UPDATE_EXPECT=1 to accept");
    }
}

/// Modes a sweep runs in: flat and not, each privilege case.
fn places() -> Vec<Place> {
    let flat = Mode::FLAT_CS | Mode::FLAT_SS | Mode::FLAT_DS | Mode::FLAT_ES;
    let long = Mode::PE | Mode::CODE64;
    let protected32 = Mode::PE | Mode::CODE32 | Mode::STACK32;
    [
        0,
        Mode::PE,
        Mode::PE | Mode::VM86 | 3 << Mode::CPL_SHIFT,
        protected32 | flat,
        protected32 | 3 << Mode::CPL_SHIFT,
        protected32 | Mode::TF,
        Mode::SHADOW | flat,
        long | flat,
        long | flat | Mode::EDGE | 3 << Mode::CPL_SHIFT,
    ]
    .map(|bits| Place { mode: Mode(bits), ip: 0xF123, page_off: 0x123, cs_limit: 0xFFFF })
    .to_vec()
}

#[test]
fn every_row_lowers_to_a_block_that_verifies() {
    let (mut block, mut work) = (Block::default(), Work::default());
    let mut failures = Vec::new();
    for (row, info) in ROWS.iter().enumerate() {
        let mut lowered = 0;
        for place in places() {
            let size = crate::front::code_size(place.mode);
            for modrm in [0xCB, 0x4B, 0x44, 0xDA, 0x5C] {
                let Some(insn) = sample(row as u16, info, size, modrm) else { continue };
                lowered += 1;
                let mut lower = Lower::new(&mut block, &mut work, place);
                if lower.lower(&insn, place.page_off) == Flow::Next {
                    lower.end(place.page_off + u32::from(insn.len));
                }
                lower.close();
                let mismatches = lower.mismatches();
                let text = ir::text::print(&block, &super::IrNames);
                if let Err(errors) = ir::verify(&block) {
                    failures.push(format!("{} {}: {errors:?}\n{text}", info.at, info.opcode));
                }
                if mismatches != 0 {
                    failures.push(format!(
                        "{} {}: {mismatches} mismatches\n{text}",
                        info.at, info.opcode
                    ));
                }
            }
        }
        // A weak row may be left to processors that lack a feature.
        if lowered == 0 && info.attrs & crate::decode::attr::WEAK == 0 {
            failures.push(format!("{} \"{}\": no sample decodes", info.at, info.opcode));
        }
    }
    assert!(
        failures.is_empty(),
        "{}\n{} failures",
        failures[..failures.len().min(20)].join("\n"),
        failures.len()
    );
}
