//! Rows the tables do not hold yet: added to them they parse, check, are found and can be
//! encoded. One row is all it takes.

use isa_spec::encode::{Options, encode};
use isa_spec::{find_rows, locate};
use std::path::Path;

const UNSEEN: &str = r#"/// d = s with its bytes reversed. SDM Vol. 2, MOVBE.
insn MOVBE(d, s) cpuid(MOVBE) {
    "0F 38 F0 /r"  Gv, Mv;
    "0F 38 F1 /r"  Mv, Gv;
} => { d = bswap(s); }
case "0F 38 F0 00" m32 { eax = 0x2000, m32[0x2000] = 0x11223344 } => { eax = 0x44332211 };

/// Bits set in s. SDM Vol. 2, POPCNT.
insn POPCNT(d, s) cpuid(POPCNT) flags(o=0 s=0 z a=0 p=0 c=0) {
    "F3 0F B8 /r"  Gv, Ev;
} => { of = false; sf = false; af = false; pf = false; cf = false; zf = s == 0; d = popcnt(s); }
case "F3 0F B8 C3" m32 { ebx = 0xF0 } => { eax = 4, flags = "" };

/// Zero bits below the lowest one. SDM Vol. 2, TZCNT. Without the feature the bytes are BSF's.
insn TZCNT(d, s) cpuid(BMI1) flags(o=? s=? z a=? p=? c) {
    "F3 0F BC /r"  Gv, Ev;
} => { let r = if s == 0 { W } else { ctz(s) }; cf = s == 0; zf = r == 0; d = r; }
case "F3 0F BC C3" m32 { ebx = 8 } => { eax = 3, flags = "" };

/// d = d + s + CF; CF only. SDM Vol. 2, ADCX.
insn ADCX(d, s) cpuid(ADX) flags(c; c) {
    "66 0F 38 F6 /r"  Gd, Ed;
} => { let t = zext(d, 64) + zext(s, 64) + b2i(cf, 64); cf = bit(t, 32); d = trunc(t, 32); }
case "66 0F 38 F6 C3" m32 { eax = 0xFFFFFFFF, ebx = 1 } => { eax = 0, flags = "c" };

/// Checksum of a byte, polynomial 11EDC6F41h reflected. SDM Vol. 2, CRC32.
insn CRC32(d, s) cpuid(SSE42) {
    "F2 0F 38 F0 /r"  Gd, Eb;
} => {
    let a = d ^ zext(s, 32);
    let b = (a >> 1) ^ (0x82F63B78 & -(a & 1));
    let c = (b >> 1) ^ (0x82F63B78 & -(b & 1));
    let e = (c >> 1) ^ (0x82F63B78 & -(c & 1));
    let f = (e >> 1) ^ (0x82F63B78 & -(e & 1));
    let g = (f >> 1) ^ (0x82F63B78 & -(f & 1));
    let h = (g >> 1) ^ (0x82F63B78 & -(g & 1));
    let i = (h >> 1) ^ (0x82F63B78 & -(h & 1));
    d = (i >> 1) ^ (0x82F63B78 & -(i & 1));
}
case "F2 0F 38 F0 C3" m32 { ebx = 1 } => { eax = 0xF26B8303 };

/// m = s, past the caches. SDM Vol. 2, MOVNTI.
insn MOVNTI(d, s) cpuid(SSE2) { "NP 0F C3 /r" Md, Gd; } => { d = s; }
case "0F C3 18" m32 { eax = 0x2000, ebx = 5 } => { m32[0x2000] = 5 };
"#;

fn with_unseen() -> isa_spec::model::Isa {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("x86");
    let mut files = isa_spec::load(&dir).unwrap().files;
    let text = |name: &str| files.iter().any(|(_, text)| text.contains(&format!("insn {name}(")));
    let unseen: Vec<&str> = UNSEEN
        .split("\n\n")
        .filter(|item| {
            // A table may have got the row meanwhile.
            let name = item.split_once("insn ").and_then(|(_, rest)| rest.split('(').next());
            !name.is_some_and(text)
        })
        .collect();
    files.push(("unseen.isa".to_string(), format!("isa x86;\n{}", unseen.join("\n\n"))));
    let isa = isa_spec::parse_files(files).unwrap_or_else(|e| panic!("{e}"));
    isa_spec::check::check(&isa).unwrap_or_else(|e| panic!("{e}"));
    isa
}

#[test]
fn new_rows_need_nothing_but_themselves() {
    let isa = with_unseen();
    assert_eq!(find_rows(&isa, "0F 38 F0").len(), 2, "MOVBE and CRC32");
    let mut state = 1u64;
    let mut rng = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        state >> 17
    };
    let options = Options::with_memory(32, 0xC8, 0..=64);
    for name in ["movbe", "popcnt", "tzcnt", "adcx", "crc32", "movnti"] {
        let rows = find_rows(&isa, name);
        assert!(!rows.is_empty(), "{name}");
        for row in rows {
            assert!(encode(&isa, row, &options, &mut rng).is_some(), "{name}");
        }
    }
}

#[test]
fn a_mandatory_prefix_wins() {
    let isa = with_unseen();
    let name = |bytes: &[u8]| {
        let found = locate(&isa, bytes, 32).unwrap();
        isa.rows[found.row].mnemonic.clone()
    };
    assert_eq!(name(&[0x0F, 0xBC, 0xC3]), "bsf");
    assert_eq!(name(&[0xF3, 0x0F, 0xBC, 0xC3]), "tzcnt");
    assert_eq!(name(&[0x66, 0x0F, 0x38, 0xF0, 0x03]), "movbe");
    assert_eq!(name(&[0xF2, 0x0F, 0x38, 0xF0, 0x03]), "crc32");
    // F3 means nothing here, and is not ignored either: processors raise #UD.
    assert!(locate(&isa, &[0xF3, 0x0F, 0x38, 0xF0, 0x03], 32).is_none());
}
