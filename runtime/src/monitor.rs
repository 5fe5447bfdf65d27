//! The monitor: where the user speaks to the emulator, in the spelling of QEMU's human monitor (HMP).
//!
//! A [`Monitor`] sits on a line like a device: it edits what comes in and runs whole lines against the machine, on
//! the machine's thread, between two stretches of guest code. What there is to say stands in `table`: one row per
//! command with its help, so that a command cannot be without it. Whoever reaches a monitor commands the guest;
//! lines are still not trusted: what is wrong with one is one line of answer.

mod control;
mod debug;
mod editor;
mod expr;
mod files;
mod info;
mod input;
mod media;
mod memory;
mod paging;
mod qmp;
mod snapshots;
mod table;

pub(crate) use memory::{read_linear, write_linear};
pub use qmp::{Event, Qmp};

use devices::chardev::CharBackend;

use crate::console::{Front, Received};
use crate::machine::Machine;
use editor::{Edit, Editor};

/// What stands before the user's line.
const PROMPT: &str = "(stele) ";
/// Most lines run before the guest gets its turn again.
const LINES_AT_ONCE: usize = 16;

/// A monitor on a line.
#[derive(Debug)]
pub struct Monitor {
    front: Front,
    editor: Editor,
    formats: memory::Formats,
}

/// A command's call: the machine and the words.
pub(crate) struct Call<'a> {
    machine: &'a mut Machine,
    /// What `x`, `xp` and `print` used last.
    formats: &'a mut memory::Formats,
    /// The command as typed, without its `/format`.
    name: &'a str,
    /// `/format`, without the slash.
    format: &'a str,
    /// Everything behind.
    rest: &'a str,
}

impl Call<'_> {
    /// The words behind the command; quotes keep blanks together.
    fn list(&self) -> Result<Vec<String>, String> {
        split(self.rest)
    }

    /// As many words as there must be.
    fn exactly<const N: usize>(&self) -> Result<[String; N], String> {
        self.list()?.try_into().map_err(|_| self.usage())
    }

    /// What the command wants, for an answer to what it got.
    fn usage(&self) -> String {
        let args = table::find(self.name).map_or("", |command| command.args);
        format!("usage: {} {args}", self.name)
    }

    /// The value of an expression.
    fn value(&self, text: &str) -> Result<u64, String> {
        expr::value(text, self.machine.vcpu().cpu())
    }
}

impl Monitor {
    /// A monitor with this end of a line; with `echo` it shows what is typed.
    pub fn new(front: Front, echo: bool) -> Self {
        Self { front, editor: Editor::new(echo), formats: memory::Formats::default() }
    }

    /// Serves what has come in.
    pub(crate) fn poll(&mut self, machine: &mut Machine) {
        for _ in 0..LINES_AT_ONCE {
            match self.next_line() {
                Some(line) => self.run(&line, machine),
                None => return,
            }
            if machine.is_ending() {
                return;
            }
            self.say(PROMPT);
        }
        machine.input().wake();
    }

    fn next_line(&mut self) -> Option<String> {
        while let Some(received) = self.front.receive() {
            match received {
                Received::Opened => {
                    self.editor.clear();
                    let banner =
                        concat!("Stele ", env!("CARGO_PKG_VERSION"), " monitor - type 'help'\n");
                    self.say(banner);
                    self.say(PROMPT);
                }
                Received::Break => {}
                Received::Byte(byte) => {
                    let edit = self.editor.byte(byte, table::complete);
                    match edit {
                        Edit::Echo(text) => self.front.write(text.as_bytes()),
                        Edit::Show(text) => {
                            self.say(&format!("\n{text}\n{PROMPT}"));
                            let again = self.editor.shown().to_owned();
                            self.front.write(again.as_bytes());
                        }
                        Edit::Line(line, echo) => {
                            self.front.write(echo.as_bytes());
                            return Some(line);
                        }
                    }
                }
            }
        }
        None
    }

    fn run(&mut self, line: &str, machine: &mut Machine) {
        match call(machine, &mut self.formats, line) {
            Ok(text) if text.is_empty() || text.ends_with('\n') => self.say(&text),
            Ok(text) => self.say(&(text + "\n")),
            Err(why) => self.say(&format!("Error: {why}\n")),
        }
    }

    /// Terminals want both ends of a line.
    fn say(&mut self, text: &str) {
        self.front.write(text.replace('\n', "\r\n").as_bytes());
    }
}

/// Runs one line: its answer, or one line that says what is wrong.
///
/// # Errors
/// The line is no command, or the command cannot be done.
pub fn run_line(machine: &mut Machine, line: &str) -> Result<String, String> {
    call(machine, &mut memory::Formats::default(), line)
}

fn call(
    machine: &mut Machine,
    formats: &mut memory::Formats,
    line: &str,
) -> Result<String, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(String::new());
    }
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (name, format) = word.split_once('/').unwrap_or((word, ""));
    let command = table::find(name)?;
    if !format.is_empty() && !command.takes_format {
        return Err(format!("{name} takes no /format"));
    }
    (command.run)(&mut Call { machine, formats, name, format, rest: rest.trim() })
}

/// Words between blanks; double quotes hold them together.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    if quoted {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests;
