//! Ctrl-a: the key that speaks to the emulator instead of the guest, as in QEMU's multiplexed console.

use super::keys::{Key, Stroke};

/// What the user can ask of the emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Ctrl-a x: end the run.
    Quit,
    /// Ctrl-a h: say what there is.
    Help,
    /// Ctrl-a c: the monitor, which is not there yet.
    Monitor,
}

/// The answer to Ctrl-a h, one line per line.
pub const HELP: &[&str] = &[
    "Ctrl-a h: this help",
    "Ctrl-a x: quit",
    "Ctrl-a c: monitor (not there yet)",
    "Ctrl-a Ctrl-a: send Ctrl-a",
];

const CTRL_A: u8 = 1;

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

/// The state between Ctrl-a and the next key.
#[derive(Debug, Default)]
pub(super) struct Escape {
    armed: bool,
}

impl Escape {
    /// A byte from stdin.
    pub(super) fn byte(&mut self, byte: u8) -> Answer<u8> {
        if !std::mem::take(&mut self.armed) {
            self.armed = byte == CTRL_A;
            return if self.armed { Answer::Nothing } else { Answer::Pass(byte) };
        }
        match byte {
            CTRL_A | b'a' => Answer::Pass(CTRL_A),
            _ => command(char::from(byte)),
        }
    }

    /// A key for the keyboard.
    pub(super) fn key(&mut self, stroke: Stroke) -> Answer<Stroke> {
        let is_ctrl_a = stroke.key == Key::Char('a') && stroke.ctrl && !stroke.alt;
        if !std::mem::take(&mut self.armed) {
            self.armed = is_ctrl_a;
            return if is_ctrl_a { Answer::Nothing } else { Answer::Pass(stroke) };
        }
        match stroke.key {
            Key::Char('a') => Answer::Pass(Stroke { ctrl: true, ..stroke }),
            Key::Char(c) => command(c),
            Key::Code(_) => Answer::Nothing,
        }
    }
}

fn command<T>(letter: char) -> Answer<T> {
    match letter {
        'x' => Answer::Command(Command::Quit),
        'h' | '?' => Answer::Command(Command::Help),
        'c' => Answer::Command(Command::Monitor),
        _ => Answer::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        let mut escape = Escape::default();
        let answers: Vec<_> = b"q\x01x\x01\x01x\x01z!".iter().map(|&b| escape.byte(b)).collect();
        use Answer::{Nothing, Pass};
        let quit = Answer::Command(Command::Quit);
        let expect =
            [Pass(b'q'), Nothing, quit, Nothing, Pass(1), Pass(b'x'), Nothing, Nothing, Pass(b'!')];
        assert_eq!(answers, expect);
    }

    #[test]
    fn keys() {
        let key = |c, ctrl| Stroke { key: Key::Char(c), ctrl, alt: false, shift: false };
        let mut escape = Escape::default();
        assert_eq!(escape.key(key('a', false)), Answer::Pass(key('a', false)));
        assert_eq!(escape.key(key('a', true)), Answer::Nothing);
        assert_eq!(escape.key(key('a', true)), Answer::Pass(key('a', true)));
        assert_eq!(escape.key(key('a', true)), Answer::Nothing);
        assert_eq!(escape.key(key('h', false)), Answer::Command(Command::Help));
    }
}
