//! From a terminal's key events to the keys of a US keyboard, named by their set 1 make codes.
//!
//! A terminal tells characters, not keys, and no releases: each event becomes a press and a release, with the
//! modifiers that the character needs around it.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// One key with its modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stroke {
    /// The key.
    pub key: Key,
    /// Shift is held; a character brings its own.
    pub shift: bool,
    /// Control is held.
    pub ctrl: bool,
    /// Alt is held.
    pub alt: bool,
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The key that types this ASCII character.
    Char(char),
    /// A make code; 0xE000 added for extended keys.
    Code(u16),
}

const LEFT_SHIFT: u16 = 0x2a;
const LEFT_CTRL: u16 = 0x1d;
const LEFT_ALT: u16 = 0x38;

/// First make code, characters without and with Shift.
const ROWS: [(u16, &str, &str); 5] = [
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (0x39, " ", " "),
];

impl Stroke {
    /// What a terminal event means for the keyboard, if anything.
    pub fn from_event(event: &KeyEvent) -> Option<Self> {
        if event.kind == KeyEventKind::Release {
            return None;
        }
        let key = match event.code {
            KeyCode::Char(c) if c.is_ascii() => Key::Char(c),
            KeyCode::Char(_) => return None,
            code => Key::Code(special(code)?),
        };
        let has = |modifier| event.modifiers.contains(modifier);
        Some(Self {
            key,
            shift: has(KeyModifiers::SHIFT) || event.code == KeyCode::BackTab,
            ctrl: has(KeyModifiers::CONTROL),
            alt: has(KeyModifiers::ALT),
        })
    }

    /// What a terminal would send for it: for a line editor.
    pub fn bytes(&self) -> Vec<u8> {
        let text: &[u8] = match self.key {
            Key::Char(c) if self.ctrl => return vec![c as u8 & 0x1f],
            Key::Char(c) => return vec![c as u8],
            Key::Code(0x01) => b"",
            Key::Code(0x0e) => b"\x7f",
            Key::Code(0x0f) => b"\t",
            Key::Code(0x1c) => b"\r",
            Key::Code(0xe047) => b"\x1b[H",
            Key::Code(0xe048) => b"\x1b[A",
            Key::Code(0xe04b) => b"\x1b[D",
            Key::Code(0xe04d) => b"\x1b[C",
            Key::Code(0xe04f) => b"\x1b[F",
            Key::Code(0xe050) => b"\x1b[B",
            Key::Code(0xe053) => b"\x1b[3~",
            Key::Code(_) => b"",
        };
        text.to_vec()
    }

    /// The presses (true) and releases that type it.
    pub fn codes(&self) -> Vec<(u16, bool)> {
        let (code, shift) = match self.key {
            Key::Char(c) => match char_code(c) {
                Some(found) => found,
                None => return Vec::new(),
            },
            Key::Code(code) => (code, self.shift),
        };
        let modifiers = [(shift, LEFT_SHIFT), (self.ctrl, LEFT_CTRL), (self.alt, LEFT_ALT)];
        let held = || modifiers.into_iter().filter(|&(is_held, _)| is_held).map(|(_, code)| code);
        let mut codes: Vec<(u16, bool)> = held().map(|code| (code, true)).collect();
        codes.extend([(code, true), (code, false)]);
        codes.extend(held().map(|code| (code, false)));
        codes
    }
}

/// Make code, and is Shift needed.
fn char_code(c: char) -> Option<(u16, bool)> {
    match c {
        '\n' | '\r' => return Some((0x1c, false)),
        '\t' => return Some((0x0f, false)),
        '\x1b' => return Some((0x01, false)),
        '\x08' | '\x7f' => return Some((0x0e, false)),
        _ => {}
    }
    ROWS.iter().find_map(|&(first, plain, shifted)| {
        let at = |row: &str| row.find(c).map(|i| first + i as u16); // rows are ASCII and short
        at(plain).map(|code| (code, false)).or_else(|| at(shifted).map(|code| (code, true)))
    })
}

fn special(code: KeyCode) -> Option<u16> {
    Some(match code {
        KeyCode::Esc => 0x01,
        KeyCode::Backspace => 0x0e,
        KeyCode::Tab | KeyCode::BackTab => 0x0f,
        KeyCode::Enter => 0x1c,
        KeyCode::F(n @ 1..=10) => 0x3a + u16::from(n),
        KeyCode::F(n @ 11..=12) => 0x57 + u16::from(n) - 11,
        KeyCode::Home => 0xe047,
        KeyCode::Up => 0xe048,
        KeyCode::PageUp => 0xe049,
        KeyCode::Left => 0xe04b,
        KeyCode::Right => 0xe04d,
        KeyCode::End => 0xe04f,
        KeyCode::Down => 0xe050,
        KeyCode::PageDown => 0xe051,
        KeyCode::Insert => 0xe052,
        KeyCode::Delete => 0xe053,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(code: KeyCode, modifiers: KeyModifiers) -> Vec<(u16, bool)> {
        Stroke::from_event(&KeyEvent::new(code, modifiers)).map_or(Vec::new(), |s| s.codes())
    }

    #[test]
    fn characters_bring_their_shift() {
        let none = KeyModifiers::NONE;
        assert_eq!(codes(KeyCode::Char('a'), none), [(0x1e, true), (0x1e, false)]);
        let shifted = [(0x2a, true), (0x1e, true), (0x1e, false), (0x2a, false)];
        assert_eq!(codes(KeyCode::Char('A'), KeyModifiers::SHIFT), shifted);
        assert_eq!(codes(KeyCode::Char('A'), none), shifted);
        assert_eq!(codes(KeyCode::Char('/'), none), [(0x35, true), (0x35, false)]);
        assert_eq!(codes(KeyCode::Char('é'), none), []);
    }

    #[test]
    fn every_printable_character_has_a_key() {
        for c in ' '..='~' {
            assert!(char_code(c).is_some(), "{c}");
        }
    }

    #[test]
    fn special_keys() {
        let none = KeyModifiers::NONE;
        assert_eq!(codes(KeyCode::F(1), none)[0], (0x3b, true));
        assert_eq!(codes(KeyCode::F(12), none)[0], (0x58, true));
        assert_eq!(codes(KeyCode::Up, none), [(0xe048, true), (0xe048, false)]);
        let ctrl_c = [(0x1d, true), (0x2e, true), (0x2e, false), (0x1d, false)];
        assert_eq!(codes(KeyCode::Char('c'), KeyModifiers::CONTROL), ctrl_c);
    }
}
