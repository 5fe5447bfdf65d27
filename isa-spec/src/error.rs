//! Errors of the tables: all of them at once, each with its place, its source line and a caret.

use crate::model::Pos;
use std::fmt;

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diag {
    /// Where; line 0 = the file as a whole.
    pub pos: Pos,
    /// What is wrong, lower case, no trailing full stop.
    pub message: String,
    /// Further lines, each perhaps with a place of its own.
    pub notes: Vec<(Option<Pos>, String)>,
}

impl Diag {
    /// An error without notes.
    pub fn new(pos: Pos, message: impl Into<String>) -> Diag {
        Diag { pos, message: message.into(), notes: Vec::new() }
    }

    /// Adds a note, with a place if it has one.
    #[must_use]
    pub fn note(mut self, pos: Option<Pos>, text: impl Into<String>) -> Diag {
        self.notes.push((pos, text.into()));
        self
    }
}

/// All errors of a set of tables; `Display` renders them with their source lines.
#[derive(Clone, Debug, Default)]
pub struct Errors {
    /// The errors, in order of their places.
    pub list: Vec<Diag>,
    /// Folder shown before file names, e.g. `isa-spec/x86`.
    pub folder: String,
    /// The files the places refer to: name and text.
    pub files: Vec<(String, String)>,
}

impl std::error::Error for Errors {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diag in &self.list {
            writeln!(f, "error: {}", diag.message)?;
            self.show_place(f, diag.pos, " -->")?;
            for (pos, text) in &diag.notes {
                writeln!(f, "note: {text}")?;
                if let Some(pos) = pos {
                    self.show_place(f, *pos, " -->")?;
                }
            }
            writeln!(f)?;
        }
        let n = self.list.len();
        writeln!(f, "{n} error{} in the tables", if n == 1 { "" } else { "s" })
    }
}

impl Errors {
    fn show_place(&self, f: &mut fmt::Formatter<'_>, pos: Pos, arrow: &str) -> fmt::Result {
        let Some((name, text)) = self.files.get(usize::from(pos.file)) else {
            return Ok(());
        };
        let slash = if self.folder.is_empty() { "" } else { "/" };
        let folder = &self.folder;
        if pos.line == 0 {
            return writeln!(f, "{arrow} {folder}{slash}{name}");
        }
        writeln!(f, "{arrow} {folder}{slash}{name}:{}:{}", pos.line, pos.column)?;
        let line = text.lines().nth(pos.line as usize - 1).unwrap_or("");
        let gutter = pos.line.to_string();
        let pad = " ".repeat(gutter.len());
        let lead: String = line
            .chars()
            .take((pos.column as usize).saturating_sub(1))
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        writeln!(f, "{pad} |\n{gutter} | {line}\n{pad} | {lead}^")
    }
}

/// Collects errors while work goes on.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    /// What was found so far.
    pub(crate) list: Vec<Diag>,
}

impl Sink {
    /// Records an error.
    pub(crate) fn push(&mut self, diag: Diag) {
        self.list.push(diag);
    }

    /// Records an error without notes.
    pub(crate) fn error(&mut self, pos: Pos, message: impl Into<String>) {
        self.push(Diag::new(pos, message));
    }

    /// Turns the list into `Errors`, sorted by place, doubles removed.
    pub(crate) fn finish(mut self, folder: &str, files: &[(String, String)]) -> Result<(), Errors> {
        if self.list.is_empty() {
            return Ok(());
        }
        self.list.sort_by_key(|d| d.pos);
        self.list.dedup();
        Err(Errors { list: self.list, folder: folder.to_string(), files: files.to_vec() })
    }
}

/// The candidate nearest to `word`, as ` (did you mean …?)`, or nothing.
pub(crate) fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let best = candidates
        .into_iter()
        .filter(|c| *c != word)
        .map(|c| (distance(word, c), c))
        .filter(|(d, c)| *d <= 1 + c.len().min(word.len()) / 5)
        .min_by_key(|(d, _)| *d);
    best.map_or(String::new(), |(_, c)| format!(" (did you mean `{c}`?)"))
}

/// Edits from one word to the other: letters added, dropped, changed, or two neighbours
/// exchanged; case counts as nothing.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<u8> = a.bytes().map(|c| c.to_ascii_lowercase()).collect();
    let b: Vec<u8> = b.bytes().map(|c| c.to_ascii_lowercase()).collect();
    let mut before = vec![0; b.len() + 1];
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            let change = row[j] + usize::from(a[i] != b[j]);
            next[j + 1] = change.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                next[j + 1] = next[j + 1].min(before[j - 1] + 1);
            }
        }
        before = row;
        row = next;
    }
    row[b.len()]
}
