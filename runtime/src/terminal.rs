//! The user's terminal in raw mode, and surely back again.
//!
//! The process has one terminal, so what must be put back is process-wide: it is put back when [`Raw`] is dropped,
//! when the program panics, and by [`restore`] before an exit that runs no destructors.

use std::io::{self, Write};
use std::sync::{Mutex, Once, PoisonError};

use crossterm::{cursor, execute, terminal};
use rustix::termios::{
    self, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios,
};

struct Saved {
    modes: Termios,
    raw: Termios,
    full_screen: bool,
}

/// What [`restore`] puts back; `None` while the terminal is as it was found.
static SAVED: Mutex<Option<Saved>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// The terminal in raw mode, as long as this lives.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Keys arrive one by one; none means a signal, unless `signals`. With `full_screen` on the alternate screen.
    ///
    /// # Errors
    /// stdin is no terminal, or it refuses.
    pub fn enter(full_screen: bool, signals: bool) -> io::Result<Self> {
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                before(info);
            }));
        });
        let stdin = io::stdin();
        let modes = termios::tcgetattr(&stdin)?;
        let mut raw = raw_modes(modes.clone());
        if signals {
            raw.local_modes |= modes.local_modes & LocalModes::ISIG;
        }
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Saved { modes, raw: raw.clone(), full_screen });
        let guard = Self(());
        termios::tcsetattr(&stdin, OptionalActions::Flush, &raw)?;
        if full_screen {
            execute!(io::stdout(), terminal::EnterAlternateScreen)?;
        }
        Ok(guard)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Raw input; output keeps the terminal's own treatment, so that a guest's bare line feeds start a line.
fn raw_modes(mut modes: Termios) -> Termios {
    modes.input_modes &= !(InputModes::IGNBRK
        | InputModes::BRKINT
        | InputModes::PARMRK
        | InputModes::ISTRIP
        | InputModes::INLCR
        | InputModes::IGNCR
        | InputModes::ICRNL
        | InputModes::IXON);
    modes.output_modes |= OutputModes::OPOST;
    modes.local_modes &= !(LocalModes::ECHO
        | LocalModes::ECHONL
        | LocalModes::ICANON
        | LocalModes::IEXTEN
        | LocalModes::ISIG);
    modes.special_codes[SpecialCodeIndex::VMIN] = 1;
    modes.special_codes[SpecialCodeIndex::VTIME] = 0;
    modes
}

/// Puts the terminal back as it was found. Harmless at any time, and twice.
pub fn restore() {
    let saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(saved) = saved {
        give_back(&saved);
    }
}

/// Puts the terminal back for as long as the process is stopped.
pub fn suspend() {
    if let Some(saved) = &*SAVED.lock().unwrap_or_else(PoisonError::into_inner) {
        give_back(saved);
    }
}

/// Takes the terminal again after the process was stopped.
pub fn resume() {
    if let Some(saved) = &*SAVED.lock().unwrap_or_else(PoisonError::into_inner) {
        // A terminal that has gone away meanwhile cannot be helped.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &saved.raw);
        if saved.full_screen {
            let _ = execute!(io::stdout(), terminal::EnterAlternateScreen);
        }
    }
}

fn give_back(saved: &Saved) {
    // Nothing better can be done about a terminal that has gone away.
    if saved.full_screen {
        let mut out = io::stdout();
        let _ = execute!(out, terminal::LeaveAlternateScreen, cursor::Show);
        let _ = out.flush();
    }
    let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &saved.modes);
}
