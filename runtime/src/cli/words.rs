//! The first words that are not machines: `spec`, `isa`, `demo`. (An image of such a name is given as `./spec`.)

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::Context;

use super::CliError;
use crate::{demo, exit};

/// A first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// `spec show BYTES`, `spec list`.
    Spec,
    /// `isa --coverage`.
    Isa,
    /// `demo --write DIR`.
    Demo,
}

/// The word that `first` is, if it is one.
pub(super) fn find(first: &OsStr) -> Option<Word> {
    match first.to_str()? {
        "spec" => Some(Word::Spec),
        "isa" => Some(Word::Isa),
        "demo" => Some(Word::Demo),
        _ => None,
    }
}

/// Runs it with the arguments that follow.
pub(super) fn run(word: Word, args: &[OsString]) -> Result<u8, CliError> {
    let words: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    match (word, words.as_slice()) {
        (Word::Demo, ["--write", dir]) => write_demo(&PathBuf::from(dir)),
        (Word::Demo, _) => Err(CliError::usage("usage: stele demo --write DIR")),
        (Word::Spec, ["show", what @ ..]) if !what.is_empty() => spec_show(&what.join(" ")),
        (Word::Spec, ["list"]) | (Word::Isa, ["--coverage"]) => coverage(),
        (Word::Spec, _) => Err(CliError::usage("usage: stele spec show BYTES | stele spec list")),
        (Word::Isa, _) => Err(CliError::usage("usage: stele isa --coverage")),
    }
}

fn spec_show(_what: &str) -> Result<u8, CliError> {
    Err(CliError::usage("spec show: the tables are not linked in yet"))
}

fn coverage() -> Result<u8, CliError> {
    Err(CliError::usage("spec list: the tables are not linked in yet"))
}

fn write_demo(dir: &PathBuf) -> Result<u8, CliError> {
    for (name, bytes) in [("demo.bin", demo::firmware()), ("demo.img", demo::disk())] {
        let path = dir.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(exit::OK)
}
