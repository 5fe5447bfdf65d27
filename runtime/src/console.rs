//! The user's side of the machine: keys and bytes in, serial output and the VGA text screen out.
//!
//! Threads of this module block on the terminal; they only queue [`Input`]s and wake the machine, which does
//! everything else on its own thread.

mod cp437;
mod escape;
mod host;
mod keys;
mod line;
mod screen;
mod target;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

pub use cp437::to_unicode;
pub use escape::{CTRL_A, Command, help, key_name};
pub use host::{Host, show_on_terminal};
pub use keys::{Key, Stroke};
pub use line::{Front, Line, Received};
pub use screen::{Screen, plain_text};
pub use target::{CharConfig, CharTarget, SocketAddress, SocketTarget};

/// Something the user or the host did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A key for the guest's keyboard.
    Stroke(Stroke),
    /// A line has input, or room again.
    Bytes,
    /// A command to the emulator itself.
    Command(Command),
    /// The terminal has another size, or was another program's meanwhile.
    Resized,
    /// A signal asks us to end.
    Signal(i32),
}

/// Wakes the machine's thread; called from other threads.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// The sending end that console threads hold.
#[derive(Clone)]
pub struct InputSender {
    queue: Sender<Input>,
    wake: Wake,
}

impl std::fmt::Debug for InputSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InputSender")
    }
}

impl InputSender {
    /// Queues an input and wakes the machine; false when the machine is gone.
    pub fn send(&self, input: Input) -> bool {
        let sent = self.queue.send(input).is_ok();
        (self.wake)();
        sent
    }

    /// Wakes the machine without an input.
    pub fn wake(&self) {
        (self.wake)();
    }
}

/// A queue of inputs: the console's end and the machine's end.
pub fn inputs(wake: Wake) -> (InputSender, Receiver<Input>) {
    let (queue, inputs) = channel();
    (InputSender { queue, wake }, inputs)
}

/// Starts the thread that reads keys for the guest's keyboard from the terminal (in raw mode).
pub fn read_keys(to: InputSender, escape: u8) {
    std::thread::spawn(move || {
        let mut escape = escape::Escape::new(escape);
        while let Ok(event) = crossterm::event::read() {
            let alive = match event {
                crossterm::event::Event::Key(key) => match Stroke::from_event(&key) {
                    Some(stroke) => match escape.key(stroke) {
                        escape::Answer::Pass(stroke) => to.send(Input::Stroke(stroke)),
                        escape::Answer::Command(command) => to.send(Input::Command(command)),
                        escape::Answer::Nothing => true,
                    },
                    None => true,
                },
                crossterm::event::Event::Resize(..) => to.send(Input::Resized),
                _ => true,
            };
            if !alive {
                return;
            }
        }
    });
}

/// Starts the thread that turns the signals that end programs into inputs; a second one ends the process at once. It
/// also gives the terminal back while the process is stopped.
///
/// # Errors
/// The signals cannot be caught.
pub fn catch_signals(to: InputSender) -> std::io::Result<()> {
    use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
    let all = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT];
    let mut signals = signal_hook::iterator::Signals::new(all)?;
    std::thread::spawn(move || {
        let mut is_ending = false;
        for signal in signals.forever() {
            match signal {
                SIGTSTP => {
                    crate::terminal::suspend();
                    // It stops here. If it cannot be stopped, going on is all there is.
                    let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
                }
                SIGCONT => {
                    crate::terminal::resume();
                    to.send(Input::Resized);
                }
                signal => {
                    if is_ending || !to.send(Input::Signal(signal)) {
                        crate::terminal::restore();
                        std::process::exit(crate::exit::signal(signal).into());
                    }
                    is_ending = true;
                }
            }
        }
    });
    Ok(())
}
