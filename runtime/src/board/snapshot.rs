//! Saving and loading the chips' state. Guest memory and the CPU are the caller's.
//!
//! Format: magic, format version, virtual time, wires; then per chip a length and the chip's own
//! versioned bytes, in a fixed order. The board loaded into has the same parts as the one saved.

use std::sync::atomic::Ordering::Relaxed;

use devices::state::Field;
use devices::{State, StateError};

use super::Board;
use super::chips::Chips;

const MAGIC: [u8; 8] = *b"STELEBRD";
const VERSION: u8 = 1;

/// Why a saved board was refused. The board is then in no useful state: reset it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// These are not the bytes of a saved board.
    #[error("this is not a saved board")]
    Magic,
    /// The board saved had other parts.
    #[error("the saved board has other parts than this one")]
    Parts,
    /// A chip refused its part.
    #[error("saved state of chip {chip} is unusable")]
    Chip {
        /// Its number in the order of saving.
        chip: usize,
        /// Why.
        #[source]
        source: StateError,
    },
    /// The frame around the chips is damaged.
    #[error("saved board is damaged")]
    Frame(#[from] StateError),
}

/// The chips in the order of saving.
fn parts(c: &mut Chips) -> Vec<&mut dyn State> {
    let mut all: Vec<&mut dyn State> = vec![
        &mut c.port61,
        &mut c.i8042,
        &mut c.rtc,
        &mut c.dma_pages,
        &mut c.port92,
        &mut c.fpu_error,
        &mut c.pci_address,
        &mut c.host_bridge,
        &mut c.isa,
        &mut c.ide,
        &mut c.acpi_pm,
        &mut c.fw_cfg,
        &mut c.debug_exit,
        &mut c.pit,
    ];
    all.extend(c.dma.iter_mut().map(|chip| chip as &mut dyn State));
    all.extend(c.serial.iter_mut().flatten().map(|chip| chip as &mut dyn State));
    all.extend(c.vga.iter_mut().map(|chip| chip as &mut dyn State));
    all
}

impl Board {
    /// The state of all chips and of virtual time.
    pub fn save(&mut self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        VERSION.put(&mut out);
        self.now().put(&mut out);
        self.a20.put(&mut out);
        self.chips.pic.save().put(&mut out);
        let chips = parts(&mut self.chips);
        (chips.len() as u32).put(&mut out);
        for chip in chips {
            chip.save().put(&mut out);
        }
        out
    }

    /// Takes the state of all chips and of virtual time. The caller has loaded guest memory.
    ///
    /// # Errors
    /// The bytes are no saved board, or one of other parts, or damaged.
    pub fn load(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(SnapshotError::Magic)?;
        let input = &mut &*rest;
        devices::state::take_version(input, VERSION)?;
        let (mut now, mut a20, mut count) = (0u64, false, 0u32);
        let mut pic = Vec::new();
        now.take(input)?;
        a20.take(input)?;
        pic.take(input)?;
        count.take(input)?;
        self.time.restore(self.alarms.clock(), now);
        let chips = parts(&mut self.chips);
        if chips.len() != count as usize {
            return Err(SnapshotError::Parts);
        }
        for (i, chip) in chips.into_iter().enumerate() {
            let mut state = Vec::new();
            state.take(input)?;
            chip.load(&state).map_err(|source| SnapshotError::Chip { chip: i, source })?;
        }
        if !input.is_empty() {
            return Err(StateError::Trailing(input.len()).into());
        }
        self.signals.a20.store(a20, Relaxed);
        self.remap();
        // Loading drove the wires; the controllers' own state comes last and says what they saw.
        self.settle_all();
        let load = self.chips.pic.load(&pic);
        load.map_err(|source| SnapshotError::Chip { chip: usize::MAX, source })?;
        self.settle_all();
        Ok(())
    }
}
