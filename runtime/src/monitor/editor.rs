//! Line editing for a terminal at the far end: insert, erase, move, history, completion. It knows VT100's keys and
//! nothing about the terminal's size.

use std::collections::VecDeque;

/// Longest line.
const LINE_MAX: usize = 4096;
/// Lines remembered.
const HISTORY_MAX: usize = 100;

/// What a byte led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// This is to be shown (perhaps nothing).
    Echo(String),
    /// A list to be shown, then the line again.
    Show(String),
    /// The line is complete; the text is to be shown.
    Line(String, String),
}

/// Inside an escape sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sequence {
    None,
    Escape,
    /// Behind `ESC [` or `ESC O`, with a number.
    Csi(u8),
}

/// A line being edited. Without echo it only collects.
#[derive(Debug)]
pub(super) struct Editor {
    echo: bool,
    line: Vec<char>,
    at: usize,
    /// Bytes of a UTF-8 character under way.
    partial: Vec<u8>,
    sequence: Sequence,
    history: VecDeque<String>,
    /// How far back the line was taken from; 0 = it is new.
    back: usize,
    last_was_cr: bool,
}

impl Editor {
    pub(super) fn new(echo: bool) -> Self {
        Self {
            echo,
            line: Vec::new(),
            at: 0,
            partial: Vec::new(),
            sequence: Sequence::None,
            history: VecDeque::new(),
            back: 0,
            last_was_cr: false,
        }
    }

    /// Forgets the line under way.
    pub(super) fn clear(&mut self) {
        (self.at, self.back, self.sequence) = (0, 0, Sequence::None);
        self.line.clear();
        self.partial.clear();
    }

    /// The line as far as it should be on the terminal, cursor at its place.
    pub(super) fn shown(&self) -> String {
        if !self.echo {
            return String::new();
        }
        let text: String = self.line.iter().collect();
        text + &left(self.line.len() - self.at)
    }

    /// Takes a byte. `complete` gives the words that could stand where this one begins.
    pub(super) fn byte(&mut self, byte: u8, complete: impl Fn(&str) -> Vec<String>) -> Edit {
        let after_cr = std::mem::replace(&mut self.last_was_cr, byte == b'\r');
        if byte == b'\n' && after_cr {
            return self.shows(String::new());
        }
        if self.sequence != Sequence::None {
            let text = self.in_sequence(byte);
            return self.shows(text);
        }
        let text = match byte {
            b'\r' | b'\n' => return self.enter(),
            b'\t' if self.echo => return self.tab(&complete),
            0x1b => {
                self.sequence = Sequence::Escape;
                String::new()
            }
            0x08 | 0x7f => self.erase(),
            0x01 => self.go_to(0),
            0x05 => self.go_to(self.line.len()),
            0x02 => self.go_to(self.at.saturating_sub(1)),
            0x06 => self.go_to((self.at + 1).min(self.line.len())),
            0x10 => self.recall(self.back + 1),
            0x0e => self.recall(self.back.saturating_sub(1)),
            0x0b => {
                self.line.truncate(self.at);
                "\x1b[K".to_owned()
            }
            0x15 | 0x03 => self.replace(""),
            0x17 => {
                let mut text = String::new();
                while self.at > 0 && self.line.get(self.at - 1) == Some(&' ') {
                    text += &self.erase();
                }
                while self.at > 0 && self.line.get(self.at - 1) != Some(&' ') {
                    text += &self.erase();
                }
                text
            }
            0..=0x1f => String::new(),
            byte => self.insert_byte(byte),
        };
        self.shows(text)
    }

    fn shows(&self, text: String) -> Edit {
        Edit::Echo(if self.echo { text } else { String::new() })
    }

    fn enter(&mut self) -> Edit {
        let line: String = std::mem::take(&mut self.line).into_iter().collect();
        self.clear();
        if !line.trim().is_empty() && self.history.back() != Some(&line) {
            self.history.push_back(line.clone());
            if self.history.len() > HISTORY_MAX {
                self.history.pop_front();
            }
        }
        let echo = if self.echo { "\r\n".to_owned() } else { String::new() };
        Edit::Line(line, echo)
    }

    fn in_sequence(&mut self, byte: u8) -> String {
        let sequence = std::mem::replace(&mut self.sequence, Sequence::None);
        match (sequence, byte) {
            (Sequence::Escape, b'[' | b'O') => self.sequence = Sequence::Csi(0),
            (Sequence::Csi(n), b'0'..=b'9') => {
                self.sequence = Sequence::Csi(n.wrapping_mul(10).wrapping_add(byte - b'0'));
            }
            (Sequence::Csi(_), b';') => self.sequence = Sequence::Csi(0),
            (Sequence::Csi(_), b'A') => return self.recall(self.back + 1),
            (Sequence::Csi(_), b'B') => return self.recall(self.back.saturating_sub(1)),
            (Sequence::Csi(_), b'C') => return self.go_to((self.at + 1).min(self.line.len())),
            (Sequence::Csi(_), b'D') => return self.go_to(self.at.saturating_sub(1)),
            (Sequence::Csi(_), b'H') | (Sequence::Csi(1 | 7), b'~') => return self.go_to(0),
            (Sequence::Csi(_), b'F') | (Sequence::Csi(4 | 8), b'~') => {
                return self.go_to(self.line.len());
            }
            (Sequence::Csi(3), b'~') if self.at < self.line.len() => {
                self.at += 1;
                return "\x1b[C".to_owned() + &self.erase();
            }
            _ => {}
        }
        String::new()
    }

    fn insert_byte(&mut self, byte: u8) -> String {
        self.partial.push(byte);
        let c = match std::str::from_utf8(&self.partial) {
            Ok(text) => text.chars().next(),
            Err(error) if error.error_len().is_none() => return String::new(),
            Err(_) => None,
        };
        self.partial.clear();
        match c {
            Some(c) if self.line.len() < LINE_MAX => {
                self.line.insert(self.at, c);
                self.at += 1;
                let behind: String = self.line[self.at - 1..].iter().collect();
                behind + &left(self.line.len() - self.at)
            }
            _ => String::new(),
        }
    }

    fn erase(&mut self) -> String {
        if self.at == 0 {
            return String::new();
        }
        self.at -= 1;
        self.line.remove(self.at);
        let behind: String = self.line[self.at..].iter().collect();
        format!("\x08{behind}\x1b[K{}", left(self.line.len() - self.at))
    }

    fn go_to(&mut self, at: usize) -> String {
        let from = std::mem::replace(&mut self.at, at);
        match at.checked_sub(from) {
            Some(0) => String::new(),
            Some(n) => format!("\x1b[{n}C"),
            None => left(from - at),
        }
    }

    fn replace(&mut self, text: &str) -> String {
        let start = self.go_to(0);
        self.line = text.chars().take(LINE_MAX).collect();
        self.at = self.line.len();
        format!("{start}\x1b[K{text}")
    }

    fn recall(&mut self, back: usize) -> String {
        if back > self.history.len() {
            return String::new();
        }
        self.back = back;
        let text = match back {
            0 => String::new(),
            _ => self.history.get(self.history.len() - back).cloned().unwrap_or_default(),
        };
        self.replace(&text)
    }

    fn tab(&mut self, complete: &impl Fn(&str) -> Vec<String>) -> Edit {
        let start: String = self.line[..self.at].iter().collect();
        let found = complete(&start);
        let word = start.rsplit(' ').next().unwrap_or_default();
        let Some(first) = found.first() else { return self.shows(String::new()) };
        let common = found.iter().fold(first.len(), |n, other| {
            first.bytes().zip(other.bytes()).take(n).take_while(|(a, b)| a == b).count()
        });
        let more = first.get(word.len()..common).unwrap_or_default().to_owned();
        if more.is_empty() && found.len() > 1 {
            return Edit::Show(found.join("  "));
        }
        let blank = if found.len() == 1 { " " } else { "" };
        let text = (more + blank).bytes().map(|byte| self.insert_byte(byte)).collect();
        self.shows(text)
    }
}

/// Moves the terminal's cursor left.
fn left(n: usize) -> String {
    if n == 0 { String::new() } else { format!("\x1b[{n}D") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types bytes; the lines that came out.
    fn typed(editor: &mut Editor, bytes: &[u8]) -> Vec<String> {
        let words = |start: &str| -> Vec<String> {
            let all = ["stop", "system_reset", "system_powerdown"];
            all.iter().filter(|w| w.starts_with(start)).map(|w| (*w).to_owned()).collect()
        };
        let lines = bytes.iter().filter_map(|&byte| match editor.byte(byte, words) {
            Edit::Line(line, _) => Some(line),
            _ => None,
        });
        lines.collect()
    }

    #[test]
    fn lines_are_edited() {
        let mut e = Editor::new(true);
        assert_eq!(typed(&mut e, b"helo\x1b[Dl\r\n"), ["hello"]);
        assert_eq!(typed(&mut e, b"ab\x7fc\n"), ["ac"]);
        assert_eq!(typed(&mut e, b"one two\x17three\x01>\x05<\r"), [">one three<"]);
        assert_eq!(typed(&mut e, b"x\x1b[A\r"), [">one three<"]);
        assert_eq!(typed(&mut e, b"\x1b[A\x1b[A\x1b[A\x1b[B\x15bye\x1b[H\x1b[3~\r"), ["ye"]);
        assert_eq!(typed(&mut e, "h\u{e9}\r".as_bytes()), ["h\u{e9}"]);
        assert_eq!(typed(&mut e, b"\xff\xfe\x1b[99999999;5Zok\r\r"), ["ok", ""]);
    }

    #[test]
    fn tab_completes() {
        let mut e = Editor::new(true);
        assert_eq!(typed(&mut e, b"sto\t\r"), ["stop "]);
        assert_eq!(typed(&mut e, b"sy\tr\t\r"), ["system_reset "]);
        assert_eq!(e.byte(b'x', |_| Vec::new()), Edit::Echo("x".into()));
        assert_eq!(e.byte(b'\t', |_| Vec::new()), Edit::Echo(String::new()));
    }

    #[test]
    fn a_line_has_an_end() {
        let mut e = Editor::new(false);
        typed(&mut e, &[b'a'; 3 * LINE_MAX]);
        assert_eq!(typed(&mut e, b"\n")[0].len(), LINE_MAX);
    }
}
