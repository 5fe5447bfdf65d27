//! Puts the text of the instruction tables into the binary, for `stele spec list` and `stele isa --coverage`.
//!
//! The list of files is the folder itself, so that a new table needs no change here.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    let tables = Path::new(&manifest).join("../isa-spec/x86");
    println!("cargo::rerun-if-changed={}", tables.display());
    let entries = std::fs::read_dir(&tables).expect("the tables are in isa-spec/x86");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "isa"));
    files.sort();
    let mut text = String::from("&[");
    for path in files {
        let name = path.file_name().expect("a file has a name").to_string_lossy();
        write!(text, "({name:?}, include_str!({path:?})),").expect("a String takes any text");
    }
    text.push(']');
    std::fs::write(Path::new(&out).join("tables.rs"), text).expect("OUT_DIR can be written");
}
