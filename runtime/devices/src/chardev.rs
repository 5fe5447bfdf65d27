//! Byte streams between a serial chip and the world.

/// The far end of a serial line. No call may block for long.
pub trait CharBackend: Send {
    /// Takes bytes the guest sent.
    fn write(&mut self, bytes: &[u8]);
    /// May more be written? A chip with flow control waits while not; one without writes all the same.
    fn has_room(&self) -> bool {
        true
    }
    /// Is a break condition next on the line? Takes it.
    fn take_break(&mut self) -> bool {
        false
    }
    /// Gives the next byte for the guest, if there is one.
    fn read(&mut self) -> Option<u8> {
        None
    }
}

/// A line with nothing at the far end.
#[derive(Debug, Default)]
pub struct NullChar;

impl CharBackend for NullChar {
    fn write(&mut self, _bytes: &[u8]) {}
}

/// Collects what the guest sends, and feeds it prepared bytes: for tests and embedding.
#[derive(Debug, Default, Clone)]
pub struct BufferChar(std::sync::Arc<std::sync::Mutex<Buffers>>);

#[derive(Debug, Default)]
struct Buffers {
    sent: Vec<u8>,
    input: std::collections::VecDeque<u8>,
    /// There is room for less than this; 0 = no such limit.
    limit: usize,
    has_break: bool,
}

/// The most bytes a [`BufferChar`] keeps of what the guest sent; more are dropped.
const BUFFER_CAP: usize = 4 << 20;

impl BufferChar {
    /// Everything the guest sent so far.
    pub fn sent(&self) -> Vec<u8> {
        self.lock().sent.clone()
    }
    /// Appends bytes for the guest to receive.
    pub fn feed(&self, bytes: &[u8]) {
        self.lock().input.extend(bytes);
    }
    /// Lets the line seem full from this many bytes on.
    pub fn limit(&self, bytes: usize) {
        self.lock().limit = bytes;
    }
    /// A break condition after everything fed so far.
    pub fn send_break(&self) {
        self.lock().has_break = true;
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, Buffers> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl CharBackend for BufferChar {
    fn write(&mut self, bytes: &[u8]) {
        let mut buffers = self.lock();
        let room = BUFFER_CAP.saturating_sub(buffers.sent.len()).min(bytes.len());
        buffers.sent.extend_from_slice(&bytes[..room]);
    }
    fn has_room(&self) -> bool {
        let buffers = self.lock();
        buffers.limit == 0 || buffers.sent.len() < buffers.limit
    }
    fn take_break(&mut self) -> bool {
        let mut buffers = self.lock();
        buffers.input.is_empty() && std::mem::take(&mut buffers.has_break)
    }
    fn read(&mut self) -> Option<u8> {
        self.lock().input.pop_front()
    }
}

/// Writes what the guest sends to any [`std::io::Write`]; errors are logged once.
pub struct WriterChar<W> {
    out: W,
    failed: bool,
}

impl<W: std::io::Write + Send> WriterChar<W> {
    /// A line whose far end is `out`.
    pub fn new(out: W) -> Self {
        Self { out, failed: false }
    }
}

impl<W: std::io::Write + Send> CharBackend for WriterChar<W> {
    fn write(&mut self, bytes: &[u8]) {
        let done = self.out.write_all(bytes).and_then(|()| self.out.flush());
        if let Err(error) = done
            && !self.failed
        {
            self.failed = true;
            log::error!("cannot write guest output error={error}");
        }
    }
}
