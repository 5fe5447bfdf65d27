//! Ctrl-a (or `-echr`): the key that speaks to the emulator instead of the guest, as in QEMU's multiplexed console.

use super::keys::{Key, Stroke};

/// What the user can ask of the emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Ctrl-a x: end the run.
    Quit,
    /// Ctrl-a h: say what there is.
    Help,
    /// Ctrl-a c: between the console and the monitor.
    Monitor,
    /// Ctrl-a s: make what the guest wrote to its disks durable.
    Flush,
    /// Ctrl-a b: a break condition on the serial line.
    Break,
    /// Ctrl-a t: time stamps at line starts.
    Stamps,
}

/// The default escape character.
pub const CTRL_A: u8 = 1;

/// The answer to Ctrl-a h, one line per line; `~` stands for the escape key.
const HELP: &[&str] = &[
    "~ h  this help",
    "~ x  quit",
    "~ c  switch between console and monitor",
    "~ s  make the guest's disk writes durable",
    "~ t  time stamps on or off",
    "~ b  send break",
    "~ ~  send ~",
];

/// How the escape character is written.
pub fn key_name(escape: u8) -> String {
    match escape {
        1..=26 => format!("Ctrl-{}", char::from(escape + b'a' - 1)),
        other => format!("{:#04x}", other),
    }
}

/// What there is behind the escape character.
pub fn help(escape: u8) -> Vec<String> {
    let name = key_name(escape);
    HELP.iter().map(|line| line.replace('~', &name)).collect()
}

/// What to do with one byte or key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer<T> {
    /// It is the guest's.
    Pass(T),
    /// It completes a command.
    Command(Command),
    /// It is part of an escape.
    Nothing,
}

/// The state between the escape and the next key.
#[derive(Debug)]
pub(super) struct Escape {
    key: u8,
    armed: bool,
}

impl Escape {
    /// Nothing pressed yet; `key` is the escape character.
    pub(super) fn new(key: u8) -> Self {
        Self { key, armed: false }
    }

    /// The escape character.
    pub(super) fn character(&self) -> u8 {
        self.key
    }

    /// A byte from a line.
    pub(super) fn byte(&mut self, byte: u8) -> Answer<u8> {
        if !std::mem::take(&mut self.armed) {
            self.armed = byte == self.key;
            return if self.armed { Answer::Nothing } else { Answer::Pass(byte) };
        }
        match byte {
            byte if byte == self.key => Answer::Pass(byte),
            b'a' if self.key == CTRL_A => Answer::Pass(CTRL_A),
            _ => command(char::from(byte)),
        }
    }

    /// A key for the keyboard.
    pub(super) fn key(&mut self, stroke: Stroke) -> Answer<Stroke> {
        let escape = char::from(self.key.wrapping_add(b'a' - 1));
        let is_escape = stroke.key == Key::Char(escape) && stroke.ctrl && !stroke.alt;
        if !std::mem::take(&mut self.armed) {
            self.armed = is_escape;
            return if is_escape { Answer::Nothing } else { Answer::Pass(stroke) };
        }
        match stroke.key {
            Key::Char(c) if c == escape && (is_escape || self.key == CTRL_A) => {
                Answer::Pass(Stroke { ctrl: true, ..stroke })
            }
            Key::Char(c) => command(c),
            Key::Code(_) => Answer::Nothing,
        }
    }
}

fn command<T>(letter: char) -> Answer<T> {
    Answer::Command(match letter {
        'x' => Command::Quit,
        'h' | '?' => Command::Help,
        'c' => Command::Monitor,
        's' => Command::Flush,
        'b' => Command::Break,
        't' => Command::Stamps,
        _ => return Answer::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        let mut escape = Escape::new(CTRL_A);
        let answers: Vec<_> = b"q\x01x\x01\x01x\x01z!".iter().map(|&b| escape.byte(b)).collect();
        use Answer::{Nothing, Pass};
        let quit = Answer::Command(Command::Quit);
        let expect =
            [Pass(b'q'), Nothing, quit, Nothing, Pass(1), Pass(b'x'), Nothing, Nothing, Pass(b'!')];
        assert_eq!(answers, expect);
    }

    #[test]
    fn another_escape_character() {
        let mut escape = Escape::new(0x14);
        let answers: Vec<_> = b"\x01x\x14\x14\x14b".iter().map(|&b| escape.byte(b)).collect();
        use Answer::{Nothing, Pass};
        let sends = Answer::Command(Command::Break);
        assert_eq!(answers, [Pass(1), Pass(b'x'), Nothing, Pass(0x14), Nothing, sends]);
        assert_eq!(help(0x14)[0], "Ctrl-t h  this help");
    }

    #[test]
    fn keys() {
        let key = |c, ctrl| Stroke { key: Key::Char(c), ctrl, alt: false, shift: false };
        let mut escape = Escape::new(CTRL_A);
        assert_eq!(escape.key(key('a', false)), Answer::Pass(key('a', false)));
        assert_eq!(escape.key(key('a', true)), Answer::Nothing);
        assert_eq!(escape.key(key('a', true)), Answer::Pass(key('a', true)));
        assert_eq!(escape.key(key('a', true)), Answer::Nothing);
        assert_eq!(escape.key(key('h', false)), Answer::Command(Command::Help));
    }
}
