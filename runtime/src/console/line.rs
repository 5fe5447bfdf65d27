//! A line between devices and the host: bounded queues both ways, and the multiplexer on top.
//!
//! A host end ([`super::host`]) empties `out` and feeds input from its threads; each device or monitor on the line
//! holds a [`Front`]. With several fronts the one in focus gets the input and all share the output. Guests poll
//! their ports, so the answers "nothing came" and "there is room" are atomics.
//!
//! A chip with flow control (a UART) asks for room and waits; what writes without asking is made to wait where the
//! host end is patient (a file, stdout), and loses bytes beyond a bound where it is a peer that may never read.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use devices::chardev::CharBackend;

use super::{Input, InputSender};

/// From this many bytes on their way out a line has no room.
const OUT_ROOM: usize = 64 << 10;
/// Most bytes on their way out, for those who do not ask for room.
const OUT_MAX: usize = 4 << 20;
/// Most bytes on their way in.
const IN_MAX: usize = 4 << 10;
/// With this many bytes waiting the writer is woken at once; with fewer it waits [`GATHER`] for more.
const OUT_BATCH: usize = 4 << 10;
const GATHER: Duration = Duration::from_millis(1);

/// What comes in on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A byte.
    Byte(u8),
    /// A break condition.
    Break,
    /// The front now has a user: a peer connected, or the focus moved to it.
    Opened,
}

#[derive(Debug)]
struct FrontQueue {
    input: VecDeque<Received>,
    /// Is `input` not empty?
    ready: Arc<AtomicBool>,
    is_monitor: bool,
}

#[derive(Debug, Default)]
struct State {
    out: Vec<u8>,
    /// The writer has bytes in hand that are not written yet.
    busy: bool,
    /// Somebody is at the far end; without anybody output is dropped.
    peer: bool,
    fronts: Vec<FrontQueue>,
    focus: usize,
    /// Time stamps at the beginning of lines, since then.
    stamps: Option<Instant>,
    mid_line: bool,
    /// The machine is gone, or the host end is for good.
    closed: bool,
    lost: u64,
}

#[derive(Debug, Default)]
struct Shared {
    label: String,
    is_patient: bool,
    state: Mutex<State>,
    changed: Condvar,
    full: AtomicBool,
    /// The guest is not to see how fast the far end is.
    hides_pace: AtomicBool,
    sender: OnceLock<InputSender>,
}

/// A line. Clones share it.
#[derive(Clone, Debug)]
pub struct Line(Arc<Shared>);

/// One user of a line: a device or a monitor.
#[derive(Debug)]
pub struct Front {
    line: Line,
    index: usize,
    ready: Arc<AtomicBool>,
}

impl Line {
    /// A line without fronts. A patient one makes writers wait rather than lose bytes.
    pub fn new(label: &str, is_patient: bool) -> Self {
        Self(Arc::new(Shared { label: label.to_owned(), is_patient, ..Shared::default() }))
    }

    /// Its name.
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// Never says that there is no room: with counted time a run must not depend on how fast the host reads.
    pub fn hide_pace(&self) {
        self.0.hides_pace.store(true, Release);
    }

    /// Adds a user; the first has the focus.
    pub fn front(&self, is_monitor: bool) -> Front {
        let mut state = self.lock();
        let ready = Arc::new(AtomicBool::new(false));
        state.fronts.push(FrontQueue { input: VecDeque::new(), ready: ready.clone(), is_monitor });
        Front { line: self.clone(), index: state.fronts.len() - 1, ready }
    }

    /// Is anybody at the far end?
    pub fn has_peer(&self) -> bool {
        self.lock().peer
    }

    /// Waits until everything is written, or nobody takes it; for impatient lines at most `limit`.
    pub fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        while state.peer && !state.closed && (!state.out.is_empty() || state.busy) {
            if !self.0.is_patient && Instant::now() >= end {
                return;
            }
            state = self.wait(state, limit.max(GATHER));
        }
    }

    /// Is the machine gone?
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Ends the line's threads.
    pub fn close(&self) {
        self.lock().closed = true;
        self.0.changed.notify_all();
    }

    /// Queues text from the emulator itself, of any length.
    pub fn print(&self, text: &str) {
        let mut state = self.lock();
        self.push(&mut state, text.as_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, at_most: Duration) -> MutexGuard<'a, State> {
        self.0.changed.wait_timeout(state, at_most).unwrap_or_else(PoisonError::into_inner).0
    }

    fn push(&self, state: &mut State, bytes: &[u8]) {
        if !state.peer || state.closed {
            return;
        }
        if state.out.len().saturating_add(bytes.len()) > OUT_MAX {
            if state.lost == 0 {
                log::warn!("{}: the far end does not read, output is lost", self.0.label);
            }
            state.lost += bytes.len() as u64;
            return;
        }
        let before = state.out.len();
        match state.stamps {
            None => state.out.extend_from_slice(bytes),
            Some(since) => stamp(state, since, bytes),
        }
        let after = state.out.len();
        self.0.full.store(after >= OUT_ROOM, Release);
        if before == 0 || (before < OUT_BATCH && after >= OUT_BATCH) {
            self.0.changed.notify_all();
        }
    }
}

/// Copies `bytes` to the output with the time at the beginning of each line.
fn stamp(state: &mut State, since: Instant, bytes: &[u8]) {
    for &byte in bytes {
        if !std::mem::replace(&mut state.mid_line, byte != b'\n') {
            let ms = since.elapsed().as_millis();
            let (s, m, h) = (ms / 1000 % 60, ms / 60_000 % 60, ms / 3_600_000);
            let text = format!("[{h:02}:{m:02}:{s:02}.{:03}] ", ms % 1000);
            state.out.extend_from_slice(text.as_bytes());
        }
        state.out.push(byte);
    }
}

/// The host end's side.
impl Line {
    /// Names who is told of input. Called once, before the threads start.
    pub(super) fn connect(&self, sender: &InputSender) {
        // A second call would name the same machine.
        let _ = self.0.sender.set(sender.clone());
    }

    /// Tells the machine to look at its lines; false when it is gone.
    pub(super) fn announce(&self) -> bool {
        self.0.sender.get().is_none_or(|sender| sender.send(Input::Bytes))
    }

    /// Tells the machine something else.
    pub(super) fn tell(&self, input: Input) -> bool {
        self.0.sender.get().is_none_or(|sender| sender.send(input))
    }

    /// Somebody came to the far end, or left it. What a peer that left did not take is lost with it.
    pub(crate) fn set_peer(&self, peer: bool) {
        let mut state = self.lock();
        let is_new = peer && !state.peer;
        state.peer = peer;
        if !peer {
            state.out.clear();
            self.0.full.store(false, Release);
        }
        if is_new {
            let focus = state.focus;
            open(&mut state, focus);
        }
        drop(state);
        self.0.changed.notify_all();
        self.announce();
    }

    /// Waits for output and swaps it into `bytes` (empty); false when the line is closed.
    pub(crate) fn take_output(&self, bytes: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        state.busy = false;
        self.0.changed.notify_all();
        while state.out.is_empty() && !state.closed {
            state = self.wait(state, Duration::from_secs(3600));
        }
        // Bytes come one by one: a moment later there are more, and one write takes them all.
        let end = Instant::now() + GATHER;
        while !state.closed && !state.out.is_empty() && state.out.len() < OUT_BATCH {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.wait(state, left);
        }
        if state.closed && state.out.is_empty() {
            return false;
        }
        state.busy = true;
        std::mem::swap(&mut state.out, bytes);
        drop(state);
        self.0.changed.notify_all();
        if self.0.full.swap(false, Release) {
            // A transmitter waits for the room.
            self.announce();
        }
        true
    }

    /// Gives what came in to the front in focus, waiting while its queue is full and `alive` says so; false when
    /// the machine is gone.
    pub(crate) fn feed(&self, items: &[Received], mut alive: impl FnMut() -> bool) -> bool {
        let mut state = self.lock();
        for &item in items {
            loop {
                if state.closed {
                    return false;
                }
                let focus = state.focus;
                let Some(front) = state.fronts.get_mut(focus) else { return true };
                if front.input.len() < IN_MAX {
                    front.input.push_back(item);
                    front.ready.store(true, Release);
                    break;
                }
                drop(state);
                if !self.announce() || !alive() {
                    return false;
                }
                state = self.wait(self.lock(), Duration::from_millis(200));
            }
        }
        drop(state);
        self.announce()
    }

    /// Moves the focus to the next front.
    pub(super) fn next_focus(&self) -> bool {
        let mut state = self.lock();
        let next = (state.focus + 1) % state.fronts.len().max(1);
        state.focus = next;
        open(&mut state, next);
        drop(state);
        self.announce()
    }

    /// Switches time stamps on or off.
    pub(super) fn toggle_stamps(&self) {
        let mut state = self.lock();
        state.stamps = if state.stamps.is_some() { None } else { Some(Instant::now()) };
        state.mid_line = false;
    }

    /// After the far end's last byte: waits a moment for the answers to what it asked.
    pub(super) fn linger(&self) {
        let end = Instant::now() + Duration::from_secs(1);
        let mut quiet = 0;
        while quiet < 3 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(15));
            let state = self.lock();
            let is_done = state.out.is_empty()
                && !state.busy
                && state.fronts.iter().all(|front| front.input.is_empty());
            quiet = if is_done { quiet + 1 } else { 0 };
        }
    }
}

/// Tells a monitor that it has a user now; devices do not care.
fn open(state: &mut State, index: usize) {
    if let Some(front) = state.fronts.get_mut(index).filter(|front| front.is_monitor) {
        front.input.push_back(Received::Opened);
        front.ready.store(true, Release);
    }
}

impl Front {
    /// The next thing that came in.
    pub fn receive(&mut self) -> Option<Received> {
        self.receive_if(|_| true)
    }

    /// Its line.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Does input come here?
    pub fn has_focus(&self) -> bool {
        self.line.lock().focus == self.index
    }

    fn receive_if(&mut self, wanted: impl Fn(Received) -> bool) -> Option<Received> {
        if !self.ready.load(Acquire) {
            return None;
        }
        let mut state = self.line.lock();
        let queue = &mut state.fronts.get_mut(self.index)?.input;
        let item = queue.front().copied().filter(|&item| wanted(item))?;
        let was_full = queue.len() >= IN_MAX;
        queue.pop_front();
        self.ready.store(!queue.is_empty(), Release);
        drop(state);
        if was_full {
            self.line.0.changed.notify_all();
        }
        Some(item)
    }
}

impl CharBackend for Front {
    fn write(&mut self, bytes: &[u8]) {
        let line = &self.line;
        let mut state = line.lock();
        while line.0.is_patient && state.out.len() >= OUT_MAX && state.peer && !state.closed {
            state = line.wait(state, Duration::from_secs(1));
        }
        line.push(&mut state, bytes);
    }

    fn has_room(&self) -> bool {
        !self.line.0.full.load(Acquire) || self.line.0.hides_pace.load(Acquire)
    }

    fn read(&mut self) -> Option<u8> {
        match self.receive_if(|item| matches!(item, Received::Byte(_)))? {
            Received::Byte(byte) => Some(byte),
            Received::Break | Received::Opened => None,
        }
    }

    fn take_break(&mut self) -> bool {
        self.receive_if(|item| item == Received::Break).is_some()
    }
}

/// `info chardev` lines.
impl Line {
    /// One line about the line.
    pub fn describe(&self, target: &str) -> String {
        let state = self.lock();
        let mut text = format!("{}: filename={target}", self.0.label);
        if state.fronts.len() > 1 {
            let _ = write!(text, " (mux of {}, focus {})", state.fronts.len(), state.focus);
        }
        if !state.peer {
            text.push_str(" (disconnected)");
        }
        if state.lost > 0 {
            let _ = write!(text, " ({} bytes lost)", state.lost);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &[u8]) -> Vec<Received> {
        text.iter().map(|&b| Received::Byte(b)).collect()
    }

    #[test]
    fn input_goes_to_the_front_in_focus() {
        let line = Line::new("mux", true);
        let (mut a, mut b) = (line.front(false), line.front(true));
        line.set_peer(true);
        assert!(line.feed(&bytes(b"xy"), || true));
        assert!(line.next_focus());
        assert!(line.feed(&bytes(b"z"), || true));
        assert_eq!([a.read(), a.read(), a.read()], [Some(b'x'), Some(b'y'), None]);
        assert_eq!(b.receive(), Some(Received::Opened));
        assert_eq!(b.receive(), Some(Received::Byte(b'z')));
        assert_eq!(b.receive(), None);
    }

    #[test]
    fn output_waits_for_a_slow_peer_and_is_dropped_without_one() {
        let line = Line::new("slow", false);
        let mut front = line.front(false);
        front.write(b"nobody listens");
        line.set_peer(true);
        front.write(&[b'a'; OUT_ROOM]);
        assert!(!front.has_room());
        let mut out = Vec::new();
        assert!(line.take_output(&mut out));
        assert_eq!(out.len(), OUT_ROOM);
        assert!(front.has_room());
        for _ in 0..100 {
            front.write(&[b'b'; OUT_ROOM]);
        }
        assert!(line.describe("x").contains("bytes lost"));
        line.set_peer(false);
        assert!(front.has_room(), "a peer that left holds nobody up");
        line.flush(Duration::from_secs(60));
    }

    #[test]
    fn a_break_keeps_its_place() {
        let line = Line::new("b", true);
        let mut front = line.front(false);
        line.feed(&[Received::Byte(1), Received::Break, Received::Byte(2)], || true);
        assert!(!front.take_break());
        assert_eq!((front.read(), front.read()), (Some(1), None));
        assert!(front.take_break());
        assert_eq!(front.read(), Some(2));
    }

    #[test]
    fn a_full_front_lets_go_when_the_peer_does() {
        let line = Line::new("b", true);
        let _front = line.front(false);
        assert!(!line.feed(&bytes(&[0; IN_MAX + 1]), || false));
    }

    #[test]
    fn stamps_stand_at_line_starts() {
        let line = Line::new("t", true);
        let mut front = line.front(false);
        line.set_peer(true);
        line.toggle_stamps();
        front.write(b"a\nb");
        front.write(b"c\n");
        let mut out = Vec::new();
        assert!(line.take_output(&mut out));
        assert_eq!(String::from_utf8(out).unwrap().matches("[00:00:00.").count(), 2);
    }
}
