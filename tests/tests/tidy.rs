//! Rules of the source tree that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines a source file may have.
const MAX_LINES: usize = 1000;

/// The only files with `unsafe` code (DESIGN, rule 10), and why.
const UNSAFE_FILES: [(&str, &str); 21] = [
    ("benches/src/kernels.rs", "images and host functions by global_asm!"),
    ("benches/src/mechanisms.rs", "images by global_asm!"),
    ("runtime/ir/tests/native_alu.rs", "single host instructions by inline assembly"),
    ("runtime/jit/src/code_buf.rs", "maps the code cache"),
    ("runtime/jit/src/jit.rs", "enters generated code"),
    ("runtime/jit/src/runner.rs", "runs single instructions"),
    ("runtime/jit/src/signal.rs", "handles their exceptions"),
    ("runtime/jit/src/thunks.rs", "the trampoline, emitted"),
    ("runtime/jit/src/trampoline.rs", "the way into generated code"),
    ("runtime/jit/tests/common/mod.rs", "what generated code calls"),
    ("runtime/jit/tests/differential.rs", "runs generated code"),
    ("runtime/jit/tests/native.rs", "runs generated code"),
    ("runtime/mem/src/ram.rs", "guest memory"),
    ("runtime/src/board/ticks.rs", "the host's RDTSC"),
    ("runtime/src/boot/rom.rs", "the loader ROM by global_asm!"),
    ("runtime/src/demo/embedded.rs", "the demo's image by global_asm!"),
    ("runtime/src/vcpu/kick.rs", "the word other threads write"),
    ("runtime/src/vcpu/shim.rs", "what generated code calls"),
    ("tests/src/native/host.rs", "foreign instructions under signals"),
    ("tests/src/native/host/setup.rs", "signal handlers, fixed mappings"),
    ("tests/src/native/view.rs", "memory shared with guest code"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files of the workspace with one of the extensions, by path relative to it, sorted; build output and hidden folders
/// left out.
fn files(extensions: &[&str]) -> Vec<(String, String)> {
    let mut list = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if extensions.iter().any(|x| name.ends_with(&format!(".{x}"))) {
                let relative = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                list.push((relative, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    list.sort();
    assert!(!list.is_empty(), "no files below {}", root().display());
    list
}

fn assert_none(found: &[String], what: &str) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = files(&["rs", "isa"])
        .iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    assert_none(&long, "files of more than 1,000 lines");
}

#[test]
fn every_table_is_listed() {
    let tables = files(&["isa"]);
    let list = tables.iter().find(|(name, _)| name == "isa-spec/x86/x86.isa").unwrap();
    let unlisted: Vec<String> = tables
        .iter()
        .filter_map(|(name, _)| name.strip_prefix("isa-spec/x86/")?.strip_suffix(".isa"))
        .filter(|name| *name != "x86" && !list.1.contains(&format!("use {name};")))
        .map(str::to_owned)
        .collect();
    assert_none(&unlisted, "tables that x86.isa does not `use`");
}

#[test]
fn unsafe_code_stands_in_listed_files_only() {
    // Spelled apart so that this file is not one of them.
    let word = concat!("un", "safe");
    let has_it = |text: &str| {
        text.lines().map(|line| line.split("//").next().unwrap_or("")).any(|code| {
            [" {", " fn ", " impl ", " trait ", " extern "]
                .iter()
                .any(|next| code.contains(&format!("{word}{next}")))
        }) || text.contains(concat!("global_", "asm!("))
    };
    let sources = files(&["rs"]);
    let is_listed = |name: &str| UNSAFE_FILES.iter().any(|(listed, _)| *listed == name);
    let (listed, others): (Vec<_>, Vec<_>) = sources
        .iter()
        .filter(|(_, text)| has_it(text))
        .map(|(name, _)| name.clone())
        .partition(|name| is_listed(name));
    assert_none(&others, "unsafe code in files that are not listed here");
    let gone: Vec<String> = UNSAFE_FILES
        .iter()
        .filter(|(name, _)| !listed.iter().any(|l| l == name))
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_none(&gone, "listed files without unsafe code: take them off the list");
}

#[test]
fn no_paths_of_one_machine() {
    // Spelled apart so that this file is not found.
    let words = [concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/ro", "ot/")];
    // These name paths of their guests.
    const GUESTS: [&str; 2] = ["runtime/guests/src/linux.rs:", "runtime/tests/boots/disk.rs:"];
    let mut found = lines_with(&words, &["rs", "isa", "toml", "md", "sh", "yml"]);
    found.retain(|line| !GUESTS.iter().any(|guest| line.starts_with(guest)));
    assert_none(&found, "absolute paths");
}

#[test]
fn no_marks_of_unfinished_work() {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("unimpl", "emented!("),
    ];
    assert_none(&lines_with(&words, &["rs", "isa", "toml"]), "unfinished work");
}

/// Where any of `words` stands.
fn lines_with(words: &[&str], extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in files(extensions) {
        for (n, line) in text.lines().enumerate() {
            let hits = words.iter().filter(|word| line.contains(**word));
            found.extend(hits.map(|word| format!("{name}:{}: {word}", n + 1)));
        }
    }
    found
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = files(&["rs"])
        .iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(name, _)| name.clone())
        .collect();
    assert_none(&silent, "files without a `//!` head");
}
