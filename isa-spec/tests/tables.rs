//! The project's own tables: complete, parsed, checked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("x86")
}

#[test]
fn the_tables_parse_and_check() {
    if let Err(errors) = isa_spec::load(&folder()) {
        panic!("{errors}");
    }
}

#[test]
fn the_root_lists_every_file() {
    let root = std::fs::read_to_string(folder().join("x86.isa")).unwrap();
    let listed: BTreeSet<String> = root
        .lines()
        .filter_map(|l| l.trim().strip_prefix("use ")?.split(';').next())
        .map(|name| format!("{name}.isa"))
        .chain(["x86.isa".to_string()])
        .collect();
    let present: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(listed, present, "left: listed in x86.isa, right: in the folder");
}

#[test]
fn every_insn_has_a_case() {
    let isa = isa_spec::load(&folder()).unwrap();
    let missing: Vec<&str> = isa_spec::check::missing_cases(&isa)
        .into_iter()
        .map(|n| isa.insns[n].name.as_str())
        .collect();
    assert!(missing.is_empty(), "insns without a case: {missing:?}");
}

/// The macros parse the tables at every build of crate x86: this must stay quick.
#[test]
fn loading_is_quick() {
    let start = std::time::Instant::now();
    let isa = isa_spec::load(&folder()).unwrap();
    let took = start.elapsed();
    assert!(took.as_millis() < 3000, "{} rows took {took:?}", isa.rows.len());
}

#[test]
fn rows_are_found_by_opcode_and_name() {
    let isa = isa_spec::load(&folder()).unwrap();
    let names = |query: &str| -> BTreeSet<String> {
        isa_spec::find_rows(&isa, query).into_iter().map(|n| isa.rows[n].mnemonic.clone()).collect()
    };
    let set = |list: &[&str]| -> BTreeSet<String> { list.iter().map(|s| s.to_string()).collect() };
    assert_eq!(names("0F B1"), set(&["cmpxchg"]));
    assert_eq!(names("0f b1"), set(&["cmpxchg"]));
    assert_eq!(names("F7 /3"), set(&["neg"]));
    assert_eq!(names("80 C8"), set(&["or"]));
    assert_eq!(names("xadd"), set(&["xadd"]));
    assert_eq!(names("0F 04 FF"), set(&[]));
    let text = isa_spec::show(&isa, "0F B1");
    assert!(text.contains("insn CMPXCHG(d, s)") && text.contains("0F B1 /r"), "{text}");
    assert!(!text.contains("case "), "{text}");
}

#[test]
fn coverage_shows_full_one_byte_map() {
    let isa = isa_spec::load(&folder()).unwrap();
    let text = isa_spec::coverage::render(&isa);
    assert!(text.contains("one-byte map:"), "{text}");
    let maps = isa_spec::coverage::coverage(&isa);
    let empty: Vec<usize> = maps[0]
        .slots
        .iter()
        .enumerate()
        .filter(|(_, s)| s.filled == isa_spec::coverage::Filled::Empty)
        .map(|(n, _)| n)
        .collect();
    assert!(empty.is_empty(), "one-byte opcodes without a row: {empty:02X?}\n{text}");
}
