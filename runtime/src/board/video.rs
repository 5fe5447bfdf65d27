//! The VGA card's window at A0000h, mapped as memory while its bytes are just that ([`devices::vga::Direct`]).
//!
//! While the cells of a text mode are mapped, the part of the frame buffer whose planes they are a copy of is not: who comes to it there
//! finds it up to date, and the cells gone.

use devices::vga::{CELLS_LEN, CELLS_SPREAD, Direct, LINEAR_LEN, Vga};
use mem::{PAGE_SIZE, Phys};

use super::Board;
use super::memory::VIDEO;

/// Where a window's memory appears, and how much of it.
const fn place(direct: Direct) -> (u64, u64) {
    match direct {
        Direct::Cells(at) => (VIDEO.start + at, CELLS_LEN),
        Direct::Linear(_) => (VIDEO.start, LINEAR_LEN),
    }
}

impl Board {
    /// The card has seen an access to the window: if it was one of many, memory is to be mapped there when no insn is under way.
    #[inline]
    pub(super) fn follow_video(&mut self) {
        self.is_video_due |= self.chips.vga.as_mut().is_some_and(Vga::wants_direct);
    }

    /// Maps the window, if that is due.
    pub(super) fn map_video(&mut self) {
        if !std::mem::take(&mut self.is_video_due) {
            return;
        }
        let Some(direct) = self.chips.vga.as_ref().and_then(Vga::direct) else { return };
        self.unmap_video();
        let (at, len) = place(direct);
        let is_covered =
            self.apic_page.is_some_and(|page| page + PAGE_SIZE > at && page < at + len);
        if is_covered || self.chips.host_bridge.is_smram_open() {
            return;
        }
        let Some(vga) = &mut self.chips.vga else { return };
        let off = match direct {
            Direct::Linear(from) => self.layout.vram.off + from,
            Direct::Cells(_) => {
                vga.lend_cells();
                if let Some(base) = self.bars.framebuffer {
                    self.map.unmap_delicate(Phys(base), CELLS_SPREAD);
                }
                self.layout.cells.off
            }
        };
        self.map.map_ram(Phys(at), len, off, true);
        self.video = Some(direct);
    }

    /// The window is the card's again.
    pub(super) fn unmap_video(&mut self) {
        let Some(direct) = self.video.take() else { return };
        let (at, len) = place(direct);
        self.map.unmap(Phys(at), len);
        self.chips.vga.iter_mut().for_each(Vga::take_back);
        if let (Direct::Cells(_), Some(base)) = (direct, self.bars.framebuffer) {
            self.map.map_ram(Phys(base), CELLS_SPREAD, self.layout.vram.off, true);
            self.recover_apic();
        }
    }

    /// The card's registers were written: is what is mapped still what the window shows?
    pub(super) fn check_video(&mut self) {
        if self.video.is_some() && self.video != self.chips.vga.as_ref().and_then(Vga::direct) {
            self.unmap_video();
        }
    }

    /// Where a byte of the frame buffer is that the cells hide, which are gone then.
    pub(super) fn hidden_framebuffer(&mut self, at: Phys) -> Option<u64> {
        let hidden = at.0.checked_sub(self.bars.framebuffer?)?;
        if hidden >= CELLS_SPREAD || !matches!(self.video, Some(Direct::Cells(_))) {
            return None;
        }
        self.unmap_video();
        self.map.ram_offset(at)
    }
}

#[cfg(test)]
mod tests {
    use mem::{Bus, PageKind, Port, Size};

    use super::*;
    use crate::board::{BoardConfig, ClockKind};

    const TEXT: Phys = Phys(0xb_8000);
    const BAR: u64 = 0xe000_0000;

    fn board() -> Board {
        let config = BoardConfig {
            ram_bytes: 16 << 20,
            firmware: vec![0; 128 << 10],
            clock: ClockKind::Host,
            ..BoardConfig::default()
        };
        let mut b = Board::new(config).unwrap();
        // The frame buffer's place, memory enabled.
        for (register, value) in [(0x10, BAR), (0x18, BAR + (16 << 20)), (4, 2)] {
            b.port_out(Port(0xcf8), Size::B4, 0x8000_1000 | register);
            b.port_out(Port(0xcfc), Size::B4, value);
        }
        // Mode 3, as far as the window goes.
        b.port_out(Port(0x3c2), Size::B1, 0x67);
        for (port, value) in
            [(0x3c4, 0x302), (0x3c4, 0x204), (0x3ce, 0x1005), (0x3ce, 0x0e06), (0x3d4, 0x4f01)]
        {
            b.port_out(Port(port), Size::B2, value);
        }
        b
    }

    /// Writes `ch` everywhere in the text until memory is mapped there.
    fn wear(b: &mut Board, ch: u64) {
        for n in 0.. {
            b.mmio_write(Phys(TEXT.0 + 2 * (n & 0xff)), Size::B2, 0x700 | ch);
            if b.has_event() {
                break;
            }
        }
        assert!(b.map().lookup(TEXT) == PageKind::Io, "not while an insn is under way");
        b.run_timers();
        assert!(!b.has_event());
    }

    fn cells(b: &Board) -> u64 {
        match b.map().lookup(TEXT) {
            PageKind::Ram { off, writable: true } => off,
            other => panic!("{other:?}"),
        }
    }

    fn shown(b: &Board, n: usize) -> u8 {
        b.text_screen().unwrap().cells[n].ch
    }

    #[test]
    fn text_becomes_memory_and_goes() {
        let mut b = board();
        wear(&mut b, 0x41);
        let off = cells(&b);
        assert_eq!(b.ram().read(off, Size::B2), Some(0x741));
        b.ram().write(off + 2, Size::B2, 0x742);
        assert_eq!((shown(&b, 0), shown(&b, 1)), (b'A', b'B'));
        // Registers that have nothing to do with it.
        b.port_out(Port(0x3d4), Size::B2, 0x020e);
        assert_eq!(cells(&b), off);
        // All planes are wanted.
        b.port_out(Port(0x3c4), Size::B2, 0xf02);
        assert_eq!(b.map().lookup(TEXT), PageKind::Io);
        assert_eq!(b.mmio_read(TEXT.add(2), Size::B2), 0x742);
        b.port_out(Port(0x3c4), Size::B2, 0x302);
        wear(&mut b, 0x43);
        assert_eq!(shown(&b, 3), b'C');
        b.reset();
        assert_eq!(b.map().lookup(TEXT), PageKind::Io);
    }

    #[test]
    fn the_frame_buffer_shows_the_same() {
        let mut b = board();
        let frame = b.map().lookup(Phys(BAR));
        wear(&mut b, 0x41);
        assert!(b.map().is_delicate(Phys(BAR)) && b.map().is_delicate(Phys(BAR + (16 << 20))));
        b.ram().write(cells(&b) + 4, Size::B2, 0x742);
        assert_eq!(b.mmio_read(Phys(BAR + 8), Size::B2), 0x742);
        assert_eq!((b.map().lookup(TEXT), b.map().lookup(Phys(BAR))), (PageKind::Io, frame));
        wear(&mut b, 0x43);
        b.mmio_write(Phys(BAR + 8), Size::B2, 0x744);
        assert_eq!(b.mmio_read(TEXT.add(4), Size::B2), 0x744);
        // Turning a mode on clears what the cells were a copy of.
        wear(&mut b, 0x45);
        for (index, value) in [(1, 640), (2, 480), (3, 32), (4, 0x41)] {
            b.port_out(Port(0x1ce), Size::B2, index);
            b.port_out(Port(0x1cf), Size::B2, value);
        }
        assert_eq!(b.map().lookup(Phys(BAR)), frame);
        let PageKind::Ram { off, .. } = frame else { panic!() };
        assert_eq!(b.ram().read(off, Size::B4), Some(0));
    }

    #[test]
    fn saved_text_is_all_there() {
        let mut b = board();
        wear(&mut b, 0x41);
        b.ram().write(cells(&b), Size::B2, 0x742);
        let saved = b.save();
        let frame = b.layout.vram.off;
        assert_eq!(b.ram().read(frame, Size::B2), Some(0x742));
        assert_ne!(b.map().lookup(TEXT), PageKind::Io);
        b.load(&saved).unwrap();
        assert_eq!(b.map().lookup(TEXT), PageKind::Io);
        assert_eq!(shown(&b, 0), b'B');
    }

    #[test]
    fn what_lies_above_is_not_covered() {
        let mut b = board();
        // SMRAM is open: the window is memory of another kind.
        b.port_out(Port(0xcf8), Size::B4, 0x8000_0070);
        for n in 0..5000 {
            b.mmio_write(Phys(TEXT.0 + 2 * (n & 0xff)), Size::B2, 0x720);
        }
        b.port_out(Port(0xcfe), Size::B1, 0x4a);
        let smram = b.map().lookup(TEXT);
        b.run_timers();
        assert_eq!(b.map().lookup(TEXT), smram);
        assert!(matches!(smram, PageKind::Ram { off: 0xb_8000, .. }), "{smram:?}");
    }
}
