//! Golden tests of the error messages: each `errors/NAME.isa` holds one kind of mistake,
//! `errors/NAME.txt` what is said of it.
//!
//! `UPDATE_EXPECT=1 cargo test -p isa-spec --test errors` writes the `.txt` files anew.

use isa_spec::{Errors, parse_files};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/errors")
}

fn message(name: &str, text: &str) -> Result<(), Errors> {
    let isa = parse_files(vec![(name.to_string(), text.to_string())])?;
    isa_spec::check::check(&isa)
}

#[test]
fn every_mistake_is_told_as_expected() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|p| p.extension().is_some_and(|e| e == "isa"));
    names.sort();
    assert!(names.len() > 30, "the golden files are missing");
    let mut wrong = Vec::new();
    for path in names {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let Err(errors) = message(&name, &text) else {
            wrong.push(format!("{name}: no error is told"));
            continue;
        };
        let got = errors.to_string();
        let golden = path.with_extension("txt");
        if update {
            std::fs::write(&golden, &got).unwrap();
            continue;
        }
        let want = std::fs::read_to_string(&golden).unwrap_or_default();
        if want != got {
            wrong.push(format!("{name}:\n--- expected\n{want}--- got\n{got}"));
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_EXPECT=1 writes them anew", wrong.join("\n"));
}

/// A table without mistakes, so that the goldens above fail for the reason they name.
#[test]
fn a_sound_table_has_no_errors() {
    let text = "isa x86;\n/// d = d + s. SDM Vol. 2, ADD.\n\
        insn ADD(d, s) flags(o s z a p c) { \"01 /r\" Ev, Gv lock; } => { cc = add(d, s); d = d + s; }\n";
    if let Err(errors) = message("sound.isa", text) {
        panic!("{errors}");
    }
}
