//! 8237A DMA controllers and their page registers.
//!
//! Source: Intel 8237A datasheet (order 231466). Transfers are made by the board, which brings a channel and
//! the chip that requests it together ([`Dma8237::serve`]); they take no time.

use mem::{Dma, Phys, PortDevice, Size};

use crate::state::StateError;
use crate::state_fields;

// Command register: the controller is off.
const COMMAND_DISABLE: u8 = 0x04;
// Mode register: kind of transfer, reload at the end, addresses go down.
const MODE_TO_MEMORY: u8 = 0x04;
const MODE_FROM_MEMORY: u8 = 0x08;
const MODE_AUTO: u8 = 0x10;
const MODE_DOWN: u8 = 0x20;

/// Bytes moved at a time.
const CHUNK: usize = 512;

/// A chip that moves data by ISA DMA.
pub trait DmaPeer {
    /// Does it drive its request line?
    fn is_requesting(&self) -> bool;
    /// Does it give bytes (else it takes them)?
    fn gives(&self) -> bool;
    /// Gives or takes some of the bytes, from the first on; how many.
    fn exchange(&mut self, bytes: &mut [u8]) -> usize;
    /// They have been moved; `terminal_count`: the controller has reached the end of its count.
    fn exchanged(&mut self, terminal_count: bool);
}

/// One controller of four channels. The board shifts offsets of the 16-bit one right by one.
#[derive(Debug, Default)]
pub struct Dma8237 {
    base_address: [u16; 4],
    base_count: [u16; 4],
    address: [u16; 4],
    count: [u16; 4],
    mode: [u8; 4],
    command: u8,
    status: u8,
    request: u8,
    mask: u8,
    temporary: u8,
    /// The next access of an address or count is its high byte.
    high_next: bool,
}

state_fields!(
    Dma8237,
    1,
    [
        base_address,
        base_count,
        address,
        count,
        mode,
        command,
        status,
        request,
        mask,
        temporary,
        high_next,
    ]
);

impl Dma8237 {
    /// A controller after power-on: all channels masked.
    pub fn new() -> Self {
        Self { mask: 15, ..Self::default() }
    }

    /// The reset pin, which is the master clear command.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }

    /// Moves what `peer` wants moved on an 8-bit channel, whose page register holds `page`, until it wants no more or
    /// the channel does not go on.
    pub fn serve(&mut self, channel: usize, page: u8, memory: &dyn Dma, peer: &mut dyn DmaPeer) {
        let bit = 1u8 << (channel & 3);
        let channel = channel & 3;
        // A peer that asks for ever gets no more than the channel can count twice.
        for _ in 0..2 * 0x10000 {
            let is_off = self.command & COMMAND_DISABLE != 0 || self.mask & bit != 0;
            if is_off || !peer.is_requesting() {
                return;
            }
            let moved = self.move_some(channel, page, memory, peer);
            let (count, is_over) = self.count[channel].overflowing_sub(moved);
            self.count[channel] = count;
            if is_over {
                self.status |= bit;
                if self.mode[channel] & MODE_AUTO != 0 {
                    self.address[channel] = self.base_address[channel];
                    self.count[channel] = self.base_count[channel];
                } else {
                    self.mask |= bit;
                }
            }
            peer.exchanged(is_over);
            if moved == 0 && !is_over {
                return;
            }
        }
    }

    /// Moves some bytes, as many as the channel's count allows at most; how many.
    fn move_some(
        &mut self,
        channel: usize,
        page: u8,
        memory: &dyn Dma,
        peer: &mut dyn DmaPeer,
    ) -> u16 {
        let mut bytes = [0xff; CHUNK];
        let mode = self.mode[channel];
        let is_down = mode & MODE_DOWN != 0;
        let start = self.address[channel];
        // Addresses wrap within 64 KiB: the page does not count. One piece never wraps.
        let to_wrap = if is_down { usize::from(start) + 1 } else { 0x10000 - usize::from(start) };
        let room = (usize::from(self.count[channel]) + 1).min(to_wrap).min(CHUNK);
        let base = u64::from(page) << 16 | u64::from(start);
        let piece = |len: usize| Phys(if is_down { base + 1 - len as u64 } else { base });
        let gives = peer.gives();
        if !gives && mode & MODE_FROM_MEMORY != 0 {
            memory.read(piece(room), &mut bytes[..room]);
            if is_down {
                bytes[..room].reverse();
            }
        }
        let moved = peer.exchange(&mut bytes[..room]).min(room);
        if gives && mode & MODE_TO_MEMORY != 0 && moved > 0 {
            if is_down {
                bytes[..moved].reverse();
            }
            memory.write(piece(moved), &bytes[..moved]);
        }
        let step = moved as u16;
        self.address[channel] =
            if is_down { start.wrapping_sub(step) } else { start.wrapping_add(step) };
        step
    }

    fn flip(&mut self) -> bool {
        self.high_next = !self.high_next;
        !self.high_next
    }

    fn master_clear(&mut self) {
        (self.command, self.status, self.request, self.temporary) = (0, 0, 0, 0);
        self.mask = 15;
        self.high_next = false;
    }
}

impl PortDevice for Dma8237 {
    fn port_read(&mut self, offset: u16, _size: Size) -> u64 {
        let offset = offset & 15;
        let channel = usize::from(offset >> 1 & 3);
        let value = match offset {
            0..8 => {
                let word =
                    if offset & 1 == 0 { self.address[channel] } else { self.count[channel] };
                let [low, high] = word.to_le_bytes();
                if self.flip() { high } else { low }
            }
            8 => {
                // Reading the status clears the terminal count bits.
                let status = self.status | self.request << 4;
                self.status &= 0xf0;
                status
            }
            0xd => self.temporary,
            0xf => self.mask | 0xf0,
            _ => 0xff,
        };
        u64::from(value)
    }

    fn port_write(&mut self, offset: u16, _size: Size, value: u64) {
        let value = value as u8;
        let channel = usize::from(value & 3);
        let bit = 1 << channel;
        let put = |set: u8| if value & 4 != 0 { set | bit } else { set & !bit };
        match offset & 15 {
            offset @ 0..8 => {
                let high = self.flip();
                let channel = usize::from(offset >> 1 & 3);
                let base = match offset & 1 {
                    0 => &mut self.base_address[channel],
                    _ => &mut self.base_count[channel],
                };
                *base = match high {
                    true => *base & 0x00ff | u16::from(value) << 8,
                    false => *base & 0xff00 | u16::from(value),
                };
                let loaded = *base;
                match offset & 1 {
                    0 => self.address[channel] = loaded,
                    _ => self.count[channel] = loaded,
                }
            }
            8 => self.command = value,
            9 => self.request = put(self.request),
            0xa => self.mask = put(self.mask),
            0xb => self.mode[channel] = value,
            0xc => self.high_next = false,
            0xd => self.master_clear(),
            0xe => self.mask = 0,
            _ => self.mask = value & 15,
        }
    }
}

/// The page registers at 80h–8Fh: sixteen bytes that hold what was written.
#[derive(Debug, Default)]
pub struct DmaPages {
    pages: [u8; 16],
}

state_fields!(DmaPages, 1, [pages]);

impl DmaPages {
    /// Back to power-on.
    pub fn reset(&mut self) {
        self.pages = [0; 16];
    }

    /// The page of an 8-bit channel; the PC has them at 87h, 83h, 81h and 82h.
    pub fn page(&self, channel: usize) -> u8 {
        self.pages[[7, 3, 1, 2][channel & 3]]
    }

    /// The last byte written to offset 0, where firmware reports its progress (POST code).
    pub fn post_code(&self) -> u8 {
        self.pages[0]
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }
}

impl PortDevice for DmaPages {
    fn port_read(&mut self, offset: u16, _size: Size) -> u64 {
        u64::from(self.pages[usize::from(offset & 15)])
    }

    fn port_write(&mut self, offset: u16, _size: Size, value: u64) {
        self.pages[usize::from(offset & 15)] = value as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives 1, 2, 3 … or takes bytes until it has had enough.
    struct Peer {
        left: usize,
        gives: bool,
        taken: Vec<u8>,
        counted_out: bool,
    }

    impl DmaPeer for Peer {
        fn is_requesting(&self) -> bool {
            self.left > 0
        }
        fn gives(&self) -> bool {
            self.gives
        }
        fn exchange(&mut self, bytes: &mut [u8]) -> usize {
            let n = bytes.len().min(self.left).min(3);
            for byte in &mut bytes[..n] {
                if self.gives {
                    *byte = self.taken.len() as u8 + 1;
                }
                self.taken.push(*byte);
            }
            self.left -= n;
            n
        }
        fn exchanged(&mut self, terminal_count: bool) {
            self.counted_out |= terminal_count;
        }
    }

    #[test]
    fn transfers_up_down_and_around() {
        let memory = crate::testing::FakeDma::new();
        let run = |mode: u8, address: u16, count: u16, gives: bool| {
            let mut dma = Dma8237::new();
            dma.mode[2] = mode;
            (dma.address[2], dma.count[2]) = (address, count);
            dma.mask = 0;
            let mut peer = Peer { left: 8, gives, taken: Vec::new(), counted_out: false };
            dma.serve(2, 0, &memory, &mut peer);
            (peer, dma)
        };
        let (peer, dma) = run(0x46, 0x100, 3, true);
        assert_eq!((memory.peek(0x100, 5), peer.counted_out), (vec![1, 2, 3, 4, 0], true));
        assert_eq!((dma.mask, dma.status, dma.count[2]), (4, 4, 0xffff));
        run(0x66, 0x207, 7, true);
        assert_eq!(memory.peek(0x200, 8), [8, 7, 6, 5, 4, 3, 2, 1]);
        let (peer, _) = run(0x6a, 0x207, 9, false);
        assert_eq!((peer.taken, peer.counted_out), (vec![1, 2, 3, 4, 5, 6, 7, 8], false));
        let (_, dma) = run(0x46, 0xfffc, 20, true);
        assert_eq!((dma.address[2], memory.peek(0, 4)), (4, vec![5, 6, 7, 8]));
        let (peer, _) = run(0x56, 0x300, 1, true);
        assert_eq!(peer.taken.len(), 8, "reloads itself");
    }

    #[test]
    fn flip_flop_masks_and_clear() {
        let mut dma = Dma8237::new();
        assert_eq!(dma.port_read(15, Size::B1), 0xff);
        dma.port_write(12, Size::B1, 0);
        dma.port_write(2, Size::B1, 0x34);
        dma.port_write(2, Size::B1, 0x12);
        assert_eq!(dma.port_read(2, Size::B1), 0x34);
        dma.port_write(12, Size::B1, 0);
        assert_eq!(dma.port_read(2, Size::B1), 0x34);
        assert_eq!(dma.port_read(2, Size::B1), 0x12);
        dma.port_write(10, Size::B1, 2);
        assert_eq!(dma.port_read(15, Size::B1), 0xfb);
        dma.port_write(13, Size::B1, 0);
        assert_eq!(dma.port_read(15, Size::B1), 0xff);
    }
}
