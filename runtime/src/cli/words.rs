//! The first words that are not machines: `spec`, `isa`, `demo`, `completion`, `man`. (An image of such a name is given as `./spec`.)

use std::ffi::{OsStr, OsString};

use isa_spec::model::Isa;

use super::{CliError, demo, paper, suggest};

/// A first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// `spec show BYTES`, `spec list`.
    Spec,
    /// `isa --coverage`.
    Isa,
    /// `demo linux`, `demo --write DIR`.
    Demo,
    /// `completion SHELL`.
    Completion,
    /// `man`.
    Man,
}

/// The word that `first` is, if it is one.
pub(super) fn find(first: &OsStr) -> Option<Word> {
    match first.to_str()? {
        "spec" => Some(Word::Spec),
        "isa" => Some(Word::Isa),
        "demo" => Some(Word::Demo),
        "completion" => Some(Word::Completion),
        "man" => Some(Word::Man),
        _ => None,
    }
}

/// Runs it with the arguments that follow.
pub(super) fn run(word: Word, args: &[OsString]) -> Result<u8, CliError> {
    let words: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    match (word, words.as_slice()) {
        (Word::Demo, _) => demo::run(args),
        (Word::Spec, ["show", what @ ..]) if !what.is_empty() => spec_show(&what.join(" ")),
        (Word::Spec, ["list"]) => spec_list(),
        (Word::Isa, ["--coverage"]) => coverage(),
        (Word::Completion, [shell]) => Err(CliError::Text(paper::completion(shell)?)),
        (Word::Completion, _) => Err(CliError::usage("usage: stele completion bash|zsh|fish")),
        (Word::Man, []) => Err(CliError::Text(paper::man()?)),
        (Word::Man, _) => Err(CliError::usage("usage: stele man")),
        (Word::Spec, _) => Err(CliError::usage("usage: stele spec show BYTES | stele spec list")),
        (Word::Isa, _) => Err(CliError::usage("usage: stele isa --coverage")),
    }
}

/// Name and text of each table file.
const TABLES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/tables.rs"));

fn isa() -> Result<Isa, CliError> {
    let files = TABLES.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect();
    // They were checked when the decoder was generated from them.
    isa_spec::parse_files(files).map_err(|errors| CliError::Host(anyhow::anyhow!("{errors}")))
}

/// Rows, generated lowering and IR of what `what` names: opcode text, or a mnemonic.
fn spec_show(what: &str) -> Result<u8, CliError> {
    let text = x86::lower::spec_show(what);
    if !text.starts_with("no row") {
        return Err(CliError::Text(text));
    }
    // Bytes that are not a row's own text, as `0F C7 08`: the rows without their lowering.
    let isa = isa()?;
    if !isa_spec::find_rows(&isa, what).is_empty() {
        return Err(CliError::Text(isa_spec::show(&isa, what)));
    }
    let names = isa.insns.iter().map(|insn| insn.name.as_str());
    let hint = match suggest::nearest(what, names) {
        Some(near) => format!("did you mean {near}?"),
        None => "stele spec list shows all".to_owned(),
    };
    Err(CliError::usage(format!("spec show: no row for {what}: {hint}")))
}

/// Which rows are run by what.
const REACH: &str = include_str!("../../../isa-spec/coverage.txt");

/// The opcode maps with what is missing; what runs the rows.
fn coverage() -> Result<u8, CliError> {
    let isa = isa()?;
    let (reach, _) = isa_spec::reach::Reach::parse(&isa, REACH);
    let maps = isa_spec::coverage::render(&isa);
    Err(CliError::Text(format!(
        "{maps}\nRows by table and by what runs them:\n\n{}",
        reach.summary()
    )))
}

/// Every row: opcode, mnemonic, where it stands.
fn spec_list() -> Result<u8, CliError> {
    let rows = x86::decode::ROWS.iter();
    let lines = rows.map(|row| format!("{:<16} {:<12} {}\n", row.opcode, row.mnemonic, row.at));
    Err(CliError::Text(lines.collect()))
}
