//! Random encodings: every row of the tables can be encoded, deterministically, and the bytes are
//! that row's.

use isa_spec::encode::{Options, encode};
use isa_spec::model::{Form, Imm};
use std::path::Path;

fn tables() -> isa_spec::model::Isa {
    isa_spec::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("x86")).unwrap()
}

fn rng(seed: u64) -> impl FnMut() -> u64 {
    let mut x = seed;
    move || {
        x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = x;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn everything(mode: u32) -> Options {
    Options {
        absolute: Some(0x2000..=0x2FFF),
        far: Some((8, 0..=0xFFF)),
        indexes: 0xEF,
        segments: 0x3F,
        high_bases: 0xFF,
        high_indexes: 0xFF,
        rip: Some(-0x400..=0x400),
        state: 0xFF,
        vector_index: true,
        ..Options::with_memory(mode, 0xFF, -0x400..=0x400)
    }
}

#[test]
fn every_row_can_be_encoded() {
    let isa = tables();
    for mode in [16, 32, 64] {
        let mut r = rng(u64::from(mode));
        for n in 0..isa.rows.len() {
            let row = &isa.rows[n];
            let is_long_only = row.attrs.has("o64") || row.opcode.rex_w;
            if if mode == 64 { row.attrs.has("i64") } else { is_long_only } {
                continue;
            }
            // Its index needs a SIB byte, which 16-bit addresses do not have.
            let tries = if mode == 16 && row.attrs.has("vsib") { 0 } else { 20 };
            for _ in 0..tries {
                let got = encode(&isa, n, &everything(mode), &mut r);
                let text = isa_spec::check::describe_row(&isa, row);
                let Some(got) = got else {
                    // A processor without a feature has the weak row where others have the gated ones.
                    assert!(row.attrs.has("weak"), "no encoding of {text} in mode {mode}");
                    break;
                };
                assert!(!got.bytes.is_empty() && got.bytes.len() <= 15, "{text}");
            }
        }
    }
}

#[test]
fn long_mode_reaches_every_register() {
    let isa = tables();
    let mut r = rng(3);
    let (mut rex, mut plain) = (0u8, 0);
    for n in 0..isa.rows.len() {
        for _ in 0..50 {
            if let Some(got) = encode(&isa, n, &everything(64), &mut r) {
                rex |= got.rex;
                plain += u32::from(got.rex == 0);
            }
        }
    }
    assert_eq!(rex, 0x4F);
    assert!(plain > 100);
}

#[test]
fn the_same_numbers_give_the_same_bytes() {
    let isa = tables();
    for n in 0..isa.rows.len() {
        let first = encode(&isa, n, &everything(32), &mut rng(7));
        assert_eq!(first, encode(&isa, n, &everything(32), &mut rng(7)));
    }
}

#[test]
fn options_are_kept() {
    let isa = tables();
    let mut r = rng(1);
    let options = Options { registers: 0b0000_0110, ..Options::registers_only(32) };
    for n in 0..isa.rows.len() {
        let row = &isa.rows[n];
        let memory_only = row.forms.iter().any(|f| f.uses_rm() && f.is_memory_only());
        let far = row.opcode.imms.iter().any(|i| matches!(i, Imm::Ptr | Imm::Moffs));
        for _ in 0..10 {
            let Some(got) = encode(&isa, n, &options, &mut r) else {
                continue;
            };
            assert!(!memory_only && !far, "{:?}", row.opcode);
            assert!(!got.locked && !got.repeated && got.asz == 32);
            if let (Some(modrm), true) =
                (got.modrm, row.forms.contains(&Form::E(isa_spec::model::Sz::V)))
            {
                assert!(modrm >= 0xC0 && matches!(modrm & 7, 1 | 2), "{:02X?}", got.bytes);
            }
        }
    }
}
