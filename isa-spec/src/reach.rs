//! Which rows are run by what: `coverage.txt`, a line per row, a column per test or boot.
//!
//! A line is `marks table mnemonic opcode | operands`, and behind `#` the reason why no oracle runs the row. Rows are named by
//! what they say, not by number, so that a new row changes one line. Each column is written by whoever knows it
//! (`UPDATE_EXPECT=1` for the oracles' tests, `examples/rows.rs` for the boots); reasons are written by hand.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::form_name;
use crate::model::Isa;

/// A column of the file.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// As it is headed in tables, and named to `examples/rows.rs`.
    pub name: &'static str,
    /// Its mark in a line.
    pub mark: u8,
    /// What it means.
    pub about: &'static str,
}

/// Rows that the native oracle runs.
pub const NATIVE: usize = 0;
/// Rows in the code of the system oracle's records.
pub const SYSTEM: usize = 1;
/// The mark of a row that the native oracle runs at a level that may not: its fault is compared, nothing else.
pub const FAULT: u8 = b'f';
/// What a line has where a column has no mark.
const NONE: u8 = b'-';

/// All columns, in the order of the marks.
pub const COLUMNS: [Column; 7] = [
    column("native", b'n', "run by the native oracle (`f`: for its fault only)"),
    column("system", b's', "in the code of the system oracle's records"),
    column("seabios", b'b', "translated when SeaBIOS starts and finds nothing to boot"),
    column("grub", b'g', "translated from there to GRUB's prompt, from CD and from floppy"),
    column("linux64", b'l', "translated from power-on to the login of Debian's disk, 64-bit"),
    column("linux32", b'i', "the same, 32-bit"),
    column("memtest", b'm', "translated in memtest86+, 32- and 64-bit"),
];

const fn column(name: &'static str, mark: u8, about: &'static str) -> Column {
    Column { name, mark, about }
}

/// A row's line.
#[derive(Clone, Debug)]
struct Line {
    /// Table, mnemonic, opcode, operands.
    row: String,
    marks: [u8; COLUMNS.len()],
    /// Why no oracle runs it.
    reason: String,
}

/// The file.
#[derive(Clone, Debug)]
pub struct Reach {
    /// By row number.
    lines: Vec<Line>,
}

impl Reach {
    /// Reads the file; rows that it does not have get no marks. Also returns what is wrong with it.
    pub fn parse(isa: &Isa, text: &str) -> (Self, Vec<String>) {
        let lines = row_names(isa).into_iter().map(|row| Line {
            row,
            marks: [NONE; COLUMNS.len()],
            reason: String::new(),
        });
        let mut reach = Self { lines: lines.collect() };
        let mut problems = Vec::new();
        let numbers = reach.lines.iter().enumerate().map(|(n, line)| (line.row.clone(), n));
        let mut left: BTreeMap<String, usize> = numbers.collect();
        for text in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            match read_line(text) {
                None => problems.push(format!("not a line of coverage.txt: {text}")),
                Some(line) => match left.remove(&line.row) {
                    Some(n) => reach.lines[n] = line,
                    None => problems.push(format!("no such row, or twice: {text}")),
                },
            }
        }
        problems.extend(left.into_keys().map(|row| format!("without a line: {row}")));
        (reach, problems)
    }

    /// Sets a column anew: the mark of each row, `None` for none. Rows beyond `marks` get none.
    pub fn set(&mut self, column: usize, marks: &[Option<u8>]) {
        for (n, line) in self.lines.iter_mut().enumerate() {
            line.marks[column] = marks.get(n).copied().flatten().unwrap_or(NONE);
        }
    }

    /// Adds rows to a column.
    pub fn add(&mut self, column: usize, rows: impl IntoIterator<Item = usize>) {
        for row in rows {
            if let Some(line) = self.lines.get_mut(row) {
                line.marks[column] = COLUMNS[column].mark;
            }
        }
    }

    /// The rows whose column differs from that of `other`.
    pub fn differences(&self, other: &Self, column: usize) -> Vec<&str> {
        let both = self.lines.iter().zip(&other.lines);
        let differing = both.filter(|(a, b)| a.marks[column] != b.marks[column]);
        differing.map(|(line, _)| line.row.as_str()).collect()
    }

    /// Rows that no oracle runs, or only for their fault, with the reason given.
    pub fn untested(&self) -> impl Iterator<Item = (&str, &str)> {
        let untested =
            |line: &&Line| line.marks[SYSTEM] == NONE && line.marks[NATIVE] != COLUMNS[NATIVE].mark;
        self.lines.iter().filter(untested).map(|line| (line.row.as_str(), line.reason.as_str()))
    }

    /// A table: rows of each file, and how many of them each column has.
    pub fn summary(&self) -> String {
        let mut counts: BTreeMap<&str, [usize; COLUMNS.len() + 3]> = BTreeMap::new();
        for line in &self.lines {
            let table = line.row.split(' ').next().unwrap_or_default();
            for name in [table, "~all"] {
                let count = counts.entry(name).or_default();
                count[0] += 1;
                count[1] += usize::from(line.marks[NATIVE] == COLUMNS[NATIVE].mark);
                count[2] += usize::from(line.marks[NATIVE] == FAULT);
                for (n, mark) in line.marks.iter().enumerate().skip(SYSTEM) {
                    count[2 + n] += usize::from(*mark != NONE);
                }
                count[COLUMNS.len() + 2] +=
                    usize::from(line.marks.iter().all(|mark| *mark == NONE));
            }
        }
        let rest = COLUMNS.iter().skip(SYSTEM).map(|column| column.name);
        let names: Vec<&str> =
            ["rows", "native", "faults only"].into_iter().chain(rest).chain(["nothing"]).collect();
        let mut out =
            format!("| table    | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
        for (table, count) in counts {
            let _ = write!(out, "| {:<8} |", table.trim_start_matches('~'));
            for (name, count) in names.iter().zip(count) {
                let _ = write!(out, " {count:>width$} |", width = name.len());
            }
            out.push('\n');
        }
        out
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Which rows of the tables are run by what (src/reach.rs, CONTRIBUTING.md). The marks:"
        )?;
        for Column { name, mark, about } in COLUMNS {
            writeln!(f, "#   {} {name}: {about}", char::from(mark))?;
        }
        for line in &self.lines {
            let marks = std::str::from_utf8(&line.marks).unwrap_or_default();
            let reason = if line.reason.is_empty() { "" } else { " # " };
            writeln!(f, "{marks} {}{reason}{}", line.row, line.reason)?;
        }
        Ok(())
    }
}

fn read_line(text: &str) -> Option<Line> {
    let (marks, row) = text.split_once(' ')?;
    let (row, reason) = row.split_once(" # ").unwrap_or((row, ""));
    let marks: [u8; COLUMNS.len()] = marks.as_bytes().try_into().ok()?;
    let is_known = |(n, mark): (usize, &u8)| {
        [NONE, COLUMNS[n].mark].contains(mark) || n == NATIVE && *mark == FAULT
    };
    let is_good = marks.iter().enumerate().all(is_known);
    is_good.then(|| Line { row: row.to_owned(), marks, reason: reason.to_owned() })
}

/// What rows are called: table, mnemonic, opcode, operands; the second of equal ones has a 2.
fn row_names(isa: &Isa) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut names = Vec::with_capacity(isa.rows.len());
    for row in &isa.rows {
        let file = isa.files.get(usize::from(row.pos.file)).map_or("?", |(file, _)| file);
        let forms: Vec<String> = row.forms.iter().map(|form| form_name(*form)).collect();
        let forms = if forms.is_empty() { "-".to_owned() } else { forms.join(",") };
        let table = file.trim_end_matches(".isa");
        let mut name = format!("{table} {} {} | {forms}", row.mnemonic, row.opcode.text);
        let count = seen.entry(name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            let _ = write!(name, " {count}");
        }
        names.push(name);
    }
    names
}

/// Row numbers in a log of `-d rows`.
///
/// # Errors
/// A line that names a row other tables have there: the log is of another build.
pub fn read_log(isa: &Isa, log: &str) -> Result<Vec<usize>, String> {
    let mut rows = Vec::new();
    for line in log.lines() {
        let Some(rest) = line.strip_prefix("row ") else { continue };
        let named =
            rest.split_once(' ').and_then(|(n, text)| Some((n.parse::<usize>().ok()?, text)));
        let is_same = |(n, text): &(usize, &str)| {
            let row = isa.rows.get(*n);
            row.is_some_and(|row| *text == format!("{} {}", row.mnemonic, row.opcode.text))
        };
        let (n, _) =
            named.filter(is_same).ok_or_else(|| format!("not a row of these tables: {line}"))?;
        rows.push(n);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn isa() -> Isa {
        let items = r#"isa x86;
            /// a
            insn ADD(d, s) flags(o s z a p c) { "01 /r" Ev, Gv; "03 /r" Gv, Ev; } => { cc = add(d, s); d = d + s; }
            /// b
            insn CLC() flags(c) { "F8" -; } => { cf = false; }
        "#;
        let files = vec![
            ("x86.isa".to_owned(), "isa x86; use t;".to_owned()),
            ("t.isa".to_owned(), items.to_owned()),
        ];
        crate::parse_files(files).unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn what_is_written_is_read() {
        let isa = isa();
        let (mut reach, problems) = Reach::parse(&isa, "");
        assert_eq!(problems.len(), 3, "{problems:?}");
        reach.set(NATIVE, &[Some(b'n'), Some(FAULT)]);
        reach.add(SYSTEM, [2, 99]);
        let text = reach.to_string().replace("| Gv,Ev", "| Gv,Ev # why not");
        let (again, problems) = Reach::parse(&isa, &text);
        assert_eq!((again.to_string(), problems), (text, vec![]));
        assert_eq!(again.untested().collect::<Vec<_>>(), [("t add 03 /r | Gv,Ev", "why not")]);
        assert!(again.differences(&reach, NATIVE).is_empty());
        assert!(again.summary().contains("| all      |    3 |      1 |           1 |      1 |"));
    }

    #[test]
    fn bad_lines_are_told() {
        let isa = isa();
        let text = "n------ t clc F8 | -\nn------ t clc F8 | -\nn t clc\nx------ t clc F8 | -\nn------ t sub 29 | -";
        let (_, problems) = Reach::parse(&isa, text);
        assert_eq!(problems.len(), 4 + 2, "{problems:?}");
    }

    #[test]
    fn logs_of_other_tables_are_refused() {
        let isa = isa();
        let log = "IN:\nrow 2 clc F8\nrow 0 add 01 /r\n";
        assert_eq!(read_log(&isa, log), Ok(vec![2, 0]));
        for bad in ["row 3 clc F8", "row 1 clc F8", "row x", "row 2"] {
            assert!(read_log(&isa, bad).is_err(), "{bad}");
        }
    }
}
