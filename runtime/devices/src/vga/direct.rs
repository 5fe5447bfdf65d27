//! Video memory without the chip: where bytes of the window at A0000h are plain bytes of memory, the board may map memory there, and
//! the CPU's accesses cost what others do.
//!
//! With 256 colours chained, that is video memory itself. In text modes the window's bytes alternate between planes 0 and 1, which lie among
//! those of planes 2 and 3 in video memory; a copy of theirs, the *cells*, is lent to the CPU then, and the planes are brought up to date
//! whenever someone looks at them ([`Vga::put_back`]).

use super::Vga;
use super::memory::{GFX_MISC, GFX_READ_MAP, SEQ_MAP_MASK, SEQ_MODE, SEQ_MODE_CHAIN4};

/// Bytes of the window of a text mode.
pub const CELLS_LEN: u64 = 0x8000;
/// Bytes of video memory that they are spread over.
pub const CELLS_SPREAD: u64 = 2 * CELLS_LEN;
/// Bytes of the window of chained planes.
pub const LINEAR_LEN: u64 = 0x1_0000;

/// Bytes of the cells that are copied at a time.
const CHUNK: usize = 2048;
/// Accesses before memory is mapped: that and taking it back cost as much as some hundreds of them. Twice as many each time.
const PATIENCE: u32 = 1024;
const MOST_PATIENCE: u32 = 1 << 17;

/// What the window may be mapped to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direct {
    /// [`CELLS_LEN`] bytes at this offset from A0000h: the cells.
    Cells(u64),
    /// [`LINEAR_LEN`] bytes at A0000h: video memory from here on.
    Linear(u64),
}

/// Accesses that came by the chip, and what was done about it.
#[derive(Debug)]
pub(super) struct Touches {
    count: u32,
    patience: u32,
    /// The cells are newer than the planes.
    is_lent: bool,
}

impl Default for Touches {
    fn default() -> Self {
        Self { count: 0, patience: PATIENCE, is_lent: false }
    }
}

impl Touches {
    pub(super) const fn add(&mut self) {
        self.count = self.count.wrapping_add(1);
    }
}

impl Vga {
    /// What the window could be mapped to as the registers stand.
    pub fn direct(&self) -> Option<Direct> {
        if self.cells.len() != CELLS_LEN {
            return None;
        }
        let window = self.gfx[GFX_MISC] >> 2 & 3;
        let mask = self.seq[SEQ_MAP_MASK] & 15;
        if self.seq[SEQ_MODE] & SEQ_MODE_CHAIN4 != 0 {
            let base = self.bank_base();
            let fits = window == 1 && base + LINEAR_LEN <= self.vram.len();
            return (fits && mask == 15).then_some(Direct::Linear(base));
        }
        let is_odd_even = self.is_odd_even() && self.gfx[GFX_READ_MAP] & 2 == 0;
        let fits = self.vram.len() >= CELLS_SPREAD;
        if self.is_graphics() || window < 2 || !is_odd_even || mask != 3 || !fits {
            return None;
        }
        Some(Direct::Cells(if window == 2 { 0x1_0000 } else { 0x1_8000 }))
    }

    /// Have so many accesses come by the chip that memory should be mapped instead? Asked after each.
    pub fn wants_direct(&mut self) -> bool {
        if self.touches.count < self.touches.patience {
            return false;
        }
        self.touches.count = 0;
        self.direct().is_some()
    }

    /// The cells are about to be mapped: fills them.
    pub fn lend_cells(&mut self) {
        let (mut cells, mut planes) = ([0; CHUNK], [0; 2 * CHUNK]);
        for at in (0..CELLS_LEN).step_by(CHUNK) {
            self.vram.read_bytes(2 * at, &mut planes);
            for (pair, four) in cells.chunks_exact_mut(2).zip(planes.chunks_exact(4)) {
                pair.copy_from_slice(&four[..2]);
            }
            self.cells.write_bytes(at, &cells);
        }
        self.touches.is_lent = true;
    }

    /// Brings the planes up to date with lent cells.
    pub fn put_back(&self) {
        if !self.touches.is_lent {
            return;
        }
        let (mut cells, mut planes) = ([0; CHUNK], [0; 2 * CHUNK]);
        for at in (0..CELLS_LEN).step_by(CHUNK) {
            self.cells.read_bytes(at, &mut cells);
            self.vram.read_bytes(2 * at, &mut planes);
            for (pair, four) in cells.chunks_exact(2).zip(planes.chunks_exact_mut(4)) {
                four[..2].copy_from_slice(pair);
            }
            self.vram.write_bytes(2 * at, &planes);
        }
    }

    /// What was mapped is no longer: the chip sees all accesses again.
    pub fn take_back(&mut self) {
        self.put_back();
        let patience = self.touches.patience.saturating_mul(2).min(MOST_PATIENCE);
        self.touches = Touches { patience, ..Touches::default() };
    }
}
