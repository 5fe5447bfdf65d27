//! One request: the buffers the driver offers, as two streams of bytes.

use mem::{Dma, Phys, RamDma};
use virtio_queue::DescriptorChain;

use super::{CHAIN_MAX, Nonsense};

/// A buffer in guest memory.
#[derive(Clone, Copy, Debug)]
struct Buffer {
    at: Phys,
    len: u32,
}

/// The request's buffers: first those to read, then those to write.
pub struct Chain<'a> {
    memory: &'a RamDma,
    input: Vec<Buffer>,
    output: Vec<Buffer>,
    written: u32,
}

/// The sum of the buffers' lengths.
fn total(buffers: &[Buffer]) -> u64 {
    buffers.iter().map(|buffer| u64::from(buffer.len)).sum()
}

/// Takes up to `n` bytes off the front of `buffers`, one buffer's at most.
fn take_front(buffers: &mut Vec<Buffer>, n: usize) -> Option<Buffer> {
    while buffers.first().is_some_and(|buffer| buffer.len == 0) {
        buffers.remove(0);
    }
    let first = buffers.first_mut()?;
    let len = first.len.min(u32::try_from(n).unwrap_or(u32::MAX));
    let taken = Buffer { at: first.at, len };
    first.at = first.at.add(u64::from(len));
    first.len -= len;
    Some(taken)
}

impl<'a> Chain<'a> {
    /// Collects the buffers that a chain of descriptors names.
    pub(super) fn new(
        memory: &'a RamDma,
        chain: DescriptorChain<&'a RamDma>,
    ) -> Result<Self, Nonsense> {
        let mut it = Self { memory, input: Vec::new(), output: Vec::new(), written: 0 };
        for (n, descriptor) in chain.enumerate() {
            let buffer = Buffer { at: Phys(descriptor.addr().0), len: descriptor.len() };
            // Buffers to write come behind those to read.
            let is_order_right = descriptor.is_write_only() || it.output.is_empty();
            if n >= CHAIN_MAX
                || !is_order_right
                || buffer.at.0.checked_add(buffer.len.into()).is_none()
            {
                return Err(Nonsense);
            }
            match descriptor.is_write_only() {
                true => it.output.push(buffer),
                false => it.input.push(buffer),
            }
        }
        if it.input.is_empty() && it.output.is_empty() {
            return Err(Nonsense);
        }
        Ok(it)
    }

    /// Bytes left to read.
    pub fn readable(&self) -> u64 {
        total(&self.input)
    }

    /// Bytes left to write.
    pub fn writable(&self) -> u64 {
        total(&self.output)
    }

    /// Fills `buf` with the next bytes; false if there are not as many.
    pub fn read(&mut self, buf: &mut [u8]) -> bool {
        let mut done = 0;
        while done < buf.len() {
            let Some(part) = take_front(&mut self.input, buf.len() - done) else { return false };
            let end = done + part.len as usize;
            self.memory.read(part.at, &mut buf[done..end]);
            done = end;
        }
        true
    }

    /// Writes the next bytes; false if there is no room for all.
    pub fn write(&mut self, buf: &[u8]) -> bool {
        let mut done = 0;
        while done < buf.len() {
            let Some(part) = take_front(&mut self.output, buf.len() - done) else { return false };
            let end = done + part.len as usize;
            self.memory.write(part.at, &buf[done..end]);
            self.written = self.written.saturating_add(part.len);
            done = end;
        }
        true
    }

    /// Cuts the last byte to write off, where a request's status goes.
    pub fn take_status(&mut self) -> Option<Phys> {
        while self.output.last().is_some_and(|buffer| buffer.len == 0) {
            self.output.pop();
        }
        let last = self.output.last_mut()?;
        last.len -= 1;
        Some(last.at.add(u64::from(last.len)))
    }

    /// Writes the status that [`take_status`](Self::take_status) made a place for.
    pub fn put_status(&mut self, at: Phys, status: u8) {
        self.memory.write(at, &[status]);
        self.written = self.written.saturating_add(1);
    }

    /// Bytes written.
    pub(super) fn written(&self) -> u32 {
        self.written
    }
}
