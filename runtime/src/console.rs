//! The user's side of the machine: keys and bytes in, serial output and the VGA text screen out.
//!
//! Threads of this module block on the terminal; they only queue [`Input`]s and wake the machine, which does
//! everything else on its own thread.

mod cp437;
mod escape;
mod keys;
mod screen;
mod stdio;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

pub use cp437::to_unicode;
pub use escape::{Command, HELP};
pub use keys::{Key, Stroke};
pub use screen::{Screen, plain_text};
pub use stdio::Stdio;

/// Something the user or the host did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A key for the guest's keyboard.
    Stroke(Stroke),
    /// Bytes for the device on stdio are waiting in [`Stdio`].
    Bytes,
    /// A command to the emulator itself.
    Command(Command),
    /// The terminal has another size.
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
pub fn read_keys(to: InputSender) {
    std::thread::spawn(move || {
        let mut escape = escape::Escape::default();
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

/// Starts the thread that turns SIGINT, SIGTERM and SIGHUP into inputs. A second one ends the process at once.
///
/// # Errors
/// The signals cannot be caught.
pub fn catch_signals(to: InputSender) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        for (count, signal) in signals.forever().enumerate() {
            if count > 0 || !to.send(Input::Signal(signal)) {
                crate::terminal::restore();
                std::process::exit(crate::exit::signal(signal).into());
            }
        }
    });
    Ok(())
}
