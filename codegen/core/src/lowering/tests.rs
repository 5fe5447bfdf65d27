//! Generated text of small bodies, blessed by `UPDATE_EXPECT=1`.

use super::{function, source};
use isa_spec::model::Isa;

const TABLE: &str = include_str!("tests/sample.isa");

fn sample() -> Isa {
    let root = ("x86.isa".to_owned(), "isa x86;\nuse sample;\n".to_owned());
    let files = vec![root, ("sample.isa".to_owned(), TABLE.to_owned())];
    isa_spec::parse_files(files).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn functions_of_the_sample() {
    let isa = sample();
    let new: String = isa.insns.iter().map(|insn| function(&isa, insn).unwrap() + "\n").collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lowering/tests/sample.rs.txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, &new).unwrap();
    }
    let old = std::fs::read_to_string(path).unwrap();
    assert_eq!(old, new, "run with UPDATE_EXPECT=1 to accept");
}

#[test]
fn the_module_lexes_and_is_deterministic() {
    let first = source(&sample()).unwrap();
    assert_eq!(first, source(&sample()).unwrap());
    let tokens: proc_macro2::TokenStream = first.parse().unwrap();
    let file: syn::File = syn::parse2(tokens).unwrap();
    let has_item = |name: &str| {
        file.items.iter().any(|item| matches!(item, syn::Item::Static(s) if s.ident == name))
    };
    assert!(["LOWER", "TEXT", "SOURCE", "LOWER_ROWS"].into_iter().all(has_item));
}

#[test]
fn the_source_of_an_insn_ends_before_its_cases() {
    let isa = sample();
    let text = super::table_text(&isa, &isa.insns[0]);
    assert!(text.starts_with("/// d = d + s") && text.trim_end().ends_with('}'), "{text}");
    assert!(!text.contains("case"), "{text}");
}

#[test]
fn the_real_tables_generate() {
    let isa = isa_spec::load(&crate::tables_dir()).unwrap_or_else(|errors| panic!("{errors}"));
    let text = source(&isa).unwrap();
    let functions = text.lines().filter(|line| line.starts_with("fn lower_")).count();
    assert_eq!(functions, isa.insns.len());
}
