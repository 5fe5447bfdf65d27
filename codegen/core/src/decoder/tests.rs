//! The decode tables of small tables, walked as the decoder walks them.

use super::record::Gate;
use super::tree::{FLAG, Kind, Tree};
use isa_spec::model::Isa;

/// Parses rows; `body` is the items after `isa x86;`.
fn isa(items: &str) -> Isa {
    let files = vec![
        ("x86.isa".to_owned(), "isa x86; use t;".to_owned()),
        ("t.isa".to_owned(), format!("isa x86;\n{items}")),
    ];
    isa_spec::parse_files(files).unwrap_or_else(|errors| panic!("{errors}"))
}

/// What a decoder knows when it walks.
#[derive(Clone, Copy, Default)]
struct Bytes {
    map: usize,
    opcode: u8,
    /// 0 none, 1 66, 2 F3, 3 F2.
    prefix: u16,
    modrm: u8,
    code64: bool,
    open: bool,
}

/// The name of the insn whose row is found.
fn find(isa: &Isa, bytes: Bytes) -> Option<&str> {
    let tree = Tree::build(isa).unwrap();
    let mut entry = tree.maps[bytes.map * 256 + usize::from(bytes.opcode)];
    while entry & FLAG != 0 {
        let (kind, base) = tree.nodes[usize::from(entry & !FLAG)];
        let slot = match kind {
            Kind::Mode => u16::from(bytes.code64),
            Kind::Prefix => bytes.prefix,
            Kind::RexW | Kind::VexL | Kind::RexB => 0,
            Kind::ModReg => {
                u16::from(bytes.modrm >> 3 & 7) + if bytes.modrm >= 0xC0 { 8 } else { 0 }
            }
            Kind::Rm => u16::from(bytes.modrm & 7),
            Kind::Gate => 2 - u16::from(bytes.open),
        };
        entry = tree.slots[usize::from(base + slot)];
    }
    let row = usize::from(entry).checked_sub(1)?;
    Some(&isa.insns[isa.rows[row].insn].name)
}

#[test]
fn a_mandatory_prefix_wins_over_none() {
    let isa = isa(r#"
        /// a
        insn MOVBE(d, s) { "0F 38 F0 /r" Gv, Mv; } => { d = s; }
        /// b
        insn CRC32(d, s) { "F2 0F 38 F0 /r" Gd, Eb; } => { d = d; }
    "#);
    let at = Bytes { map: 2, opcode: 0xF0, ..Bytes::default() };
    assert_eq!(find(&isa, at), Some("MOVBE"));
    assert_eq!(find(&isa, Bytes { prefix: 1, ..at }), Some("MOVBE"));
    assert_eq!(find(&isa, Bytes { prefix: 3, ..at }), Some("CRC32"));
    assert_eq!(find(&isa, Bytes { modrm: 0xC0, ..at }), None, "MOVBE has no register form");
    assert_eq!(find(&isa, Bytes { modrm: 0xC0, prefix: 3, ..at }), Some("CRC32"));
}

#[test]
fn a_closed_gate_leaves_the_weak_row() {
    let isa = isa(r#"
        /// a
        insn BSF(d, s) { "0F BC /r" Gv, Ev weak; } => { d = s; }
        /// b
        insn TZCNT(d, s) cpuid(BMI1) { "F3 0F BC /r" Gv, Ev; } => { d = s; }
    "#);
    let at = Bytes { map: 1, opcode: 0xBC, prefix: 2, ..Bytes::default() };
    assert_eq!(find(&isa, at), Some("BSF"));
    assert_eq!(find(&isa, Bytes { open: true, ..at }), Some("TZCNT"));
    assert_eq!(find(&isa, Bytes { prefix: 0, open: true, ..at }), Some("BSF"));
    let gates = Tree::build(&isa).unwrap().gates;
    assert_eq!(gates, [Gate { level: 0, maker: 0, features: vec!["BMI1".to_owned()] }]);
}

#[test]
fn groups_split_by_register_and_form() {
    let isa = isa(r#"
        /// a
        insn SGDT(m) { "0F 01 /0" Ms; } => { m.limit = 0; }
        /// b
        insn VMCALL() { "0F 01 C1" - modrm; } => { raise!(UD); }
        /// c
        insn SMSW(d) { "0F 01 /4" Ew; } => { d = 0; }
    "#);
    let at = |modrm| Bytes { map: 1, opcode: 0x01, modrm, ..Bytes::default() };
    assert_eq!(find(&isa, at(0x05)), Some("SGDT"));
    assert_eq!(find(&isa, at(0xC1)), Some("VMCALL"));
    assert_eq!(find(&isa, at(0xC0)), None);
    assert_eq!(find(&isa, at(0x20)), Some("SMSW"));
    assert_eq!(find(&isa, at(0xE0)), Some("SMSW"));
    assert_eq!(find(&isa, at(0x28)), None);
}

#[test]
fn modes_choose_between_rows() {
    let isa = isa(r#"
        /// a
        insn ARPL(d, s) i64 { "63 /r" Ew, Gw; } => { d = s; }
        /// b
        insn MOVSXD(d, s) o64 { "63 /r" Gv, Ed; } => { d = d; }
    "#);
    let at = Bytes { opcode: 0x63, ..Bytes::default() };
    assert_eq!(find(&isa, at), Some("ARPL"));
    assert_eq!(find(&isa, Bytes { code64: true, ..at }), Some("MOVSXD"));
}

#[test]
fn equal_nodes_are_shared() {
    let isa = isa_spec::load(&crate::tables_dir()).unwrap_or_else(|errors| panic!("{errors}"));
    let tree = Tree::build(&isa).unwrap();
    let bytes = 2 * (tree.maps.len() + tree.slots.len()) + 4 * tree.nodes.len();
    assert!(bytes < 40 << 10, "{bytes} bytes of decode tables");
}

#[test]
fn the_same_tables_give_the_same_source() {
    for output in [crate::Output::Decoder, crate::Output::Disasm] {
        let source = crate::expand(output);
        assert_eq!(source, crate::expand(output));
        assert!(source.contains("isa-spec/x86/x86.isa"), "the root is tracked");
        assert!(!source.contains("compile_error"), "the tables are right");
    }
}

#[test]
fn wrong_gates_are_errors() {
    let mut isa = isa(r#"
        /// a
        insn X() { "F1" -; } => { raise!(UD); }
    "#);
    isa.rows[0].attrs.list.push(("since".to_owned(), "I999".to_owned()));
    let error = crate::generate(crate::Output::Decoder, &isa).unwrap_err();
    assert_eq!(error, "`F1`: `since(I999)` names no processor");
}
