//! A character device on stdin and stdout.
//!
//! Output goes through a thread, so that the machine makes no system call per byte; the queue is bounded, so that
//! a slow reader slows the guest instead of filling memory.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use devices::chardev::CharBackend;

use super::escape::{Answer, Escape};
use super::{Input, InputSender};

/// Most bytes on their way out.
const OUT_MAX: usize = 64 << 10;
/// Most bytes on their way in.
const IN_MAX: usize = 4 << 10;
/// What a signal SIGPIPE would be.
const SIGPIPE: i32 = 13;

#[derive(Default)]
struct Queues {
    out: Vec<u8>,
    input: VecDeque<u8>,
    /// The writer has bytes in hand that are not written yet.
    busy: bool,
    /// stdout is gone.
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    /// Is `input` not empty? Guests poll their serial port: the answer "no" must be cheap.
    has_input: AtomicBool,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queues: MutexGuard<'a, Queues>) -> MutexGuard<'a, Queues> {
        self.changed.wait(queues).unwrap_or_else(PoisonError::into_inner)
    }
}

/// stdin and stdout as a character device's far end. Clones share it.
#[derive(Clone, Default)]
pub struct Stdio(Arc<Shared>);

impl Stdio {
    /// Starts the writer thread.
    pub fn start_output(&self, to: InputSender) {
        let shared = self.0.clone();
        std::thread::spawn(move || write_out(&shared, &to));
    }

    /// Starts the reader thread. With `escapes`, Ctrl-a speaks to the emulator.
    pub fn start_input(&self, to: InputSender, escapes: bool) {
        let shared = self.0.clone();
        std::thread::spawn(move || read_in(&shared, &to, escapes));
    }

    /// Queues text from the emulator itself.
    pub fn print(&self, text: &str) {
        self.clone().write(text.as_bytes());
    }

    /// Waits until everything is written.
    pub fn flush(&self) {
        let mut queues = self.0.lock();
        while (!queues.out.is_empty() || queues.busy) && !queues.closed {
            queues = self.0.wait(queues);
        }
    }
}

impl CharBackend for Stdio {
    fn write(&mut self, bytes: &[u8]) {
        let mut queues = self.0.lock();
        while queues.out.len() >= OUT_MAX && !queues.closed {
            queues = self.0.wait(queues);
        }
        if !queues.closed {
            queues.out.extend_from_slice(bytes);
            self.0.changed.notify_all();
        }
    }

    fn read(&mut self) -> Option<u8> {
        if !self.0.has_input.load(Acquire) {
            return None;
        }
        let mut queues = self.0.lock();
        let byte = queues.input.pop_front()?;
        self.0.has_input.store(!queues.input.is_empty(), Release);
        if queues.input.len() + 1 == IN_MAX {
            self.0.changed.notify_all();
        }
        Some(byte)
    }
}

fn write_out(shared: &Shared, to: &InputSender) {
    let mut stdout = io::stdout().lock();
    let mut bytes = Vec::new();
    loop {
        let mut queues = shared.lock();
        queues.busy = false;
        shared.changed.notify_all();
        while queues.out.is_empty() {
            queues = shared.wait(queues);
        }
        queues.busy = true;
        std::mem::swap(&mut queues.out, &mut bytes);
        shared.changed.notify_all();
        drop(queues);
        let done = stdout.write_all(&bytes).and_then(|()| stdout.flush());
        bytes.clear();
        if let Err(error) = done {
            shared.lock().closed = true;
            shared.changed.notify_all();
            // Nobody listens any more: end as a program that SIGPIPE ended.
            if error.kind() != io::ErrorKind::BrokenPipe {
                log::error!("cannot write to stdout: {error}");
            }
            to.send(Input::Signal(SIGPIPE));
            return;
        }
    }
}

fn read_in(shared: &Shared, to: &InputSender, escapes: bool) {
    let mut escape = Escape::default();
    let mut buf = [0; 256];
    let mut stdin = io::stdin().lock();
    loop {
        let n = match stdin.read(&mut buf) {
            Ok(0) => return,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        for &byte in &buf[..n] {
            let answer = if escapes { escape.byte(byte) } else { Answer::Pass(byte) };
            let alive = match answer {
                Answer::Pass(byte) => {
                    let mut queues = shared.lock();
                    while queues.input.len() >= IN_MAX {
                        queues = shared.wait(queues);
                    }
                    queues.input.push_back(byte);
                    shared.has_input.store(true, Release);
                    true
                }
                Answer::Command(command) => to.send(Input::Command(command)),
                Answer::Nothing => true,
            };
            if !alive {
                return;
            }
        }
        if !to.send(Input::Bytes) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_read_in_order() {
        let mut stdio = Stdio::default();
        stdio.0.lock().input.extend(b"ab");
        assert_eq!(stdio.read(), None, "not announced yet");
        stdio.0.has_input.store(true, Release);
        assert_eq!([stdio.read(), stdio.read(), stdio.read()], [Some(b'a'), Some(b'b'), None]);
    }

    #[test]
    fn a_closed_output_swallows() {
        let mut stdio = Stdio::default();
        stdio.0.lock().closed = true;
        stdio.write(&vec![0; OUT_MAX + 1]);
        stdio.write(b"x");
        stdio.flush();
        assert!(stdio.0.lock().out.is_empty());
    }
}
