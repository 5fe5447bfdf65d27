//! Saving and loading the chips' state. Guest memory and the CPU are the caller's.
//!
//! Format: magic, format version, virtual time, wires; then per chip its name, a length and the
//! chip's own versioned bytes. The board loaded into has the same parts as the one saved.

use std::sync::atomic::Ordering::Relaxed;

use devices::block::BlockDev;
use devices::state::Field;
use devices::vga::Vga;
use devices::{State, StateError};

use super::Board;
use super::chips::Chips;

const MAGIC: [u8; 8] = *b"STELEBRD";
const VERSION: u8 = 2;

/// Why a saved board was refused. The board is then in no useful state: reset it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
        /// Its name.
        chip: String,
        /// Why.
        #[source]
        source: StateError,
    },
    /// The frame around the chips is damaged.
    #[error("saved board is damaged")]
    Frame(#[from] StateError),
}

/// A chip and the name it is saved under.
type Named<'a> = (String, &'a mut dyn State);

/// The interrupt controllers. They are loaded last: they say what they saw of the wires that other
/// chips drive while these are loaded.
fn controllers(c: &mut Chips) -> Vec<Named<'_>> {
    vec![
        ("pic".to_owned(), &mut c.pic),
        ("ioapic".to_owned(), &mut c.ioapic),
        ("lapic".to_owned(), &mut c.lapic),
    ]
}

/// The other chips.
fn parts(c: &mut Chips) -> Vec<Named<'_>> {
    let single: Vec<(&str, &mut dyn State)> = vec![
        ("port61", &mut c.port61),
        ("i8042", &mut c.i8042),
        ("rtc", &mut c.rtc),
        ("dma-pages", &mut c.dma_pages),
        ("port92", &mut c.port92),
        ("fpu-error", &mut c.fpu_error),
        ("pci-address", &mut c.pci_address),
        ("i440fx", &mut c.host_bridge),
        ("piix3", &mut c.isa),
        ("ide", &mut c.ide),
        ("acpi-pm", &mut c.acpi_pm),
        ("fw-cfg", &mut c.fw_cfg),
        ("debug-exit", &mut c.debug_exit),
        ("pit", &mut c.pit),
        ("hpet", &mut c.hpet),
    ];
    let mut all: Vec<Named<'_>> =
        single.into_iter().map(|(name, chip)| (name.to_owned(), chip)).collect();
    all.extend(numbered("dma", c.dma.iter_mut().map(Some)));
    all.extend(numbered("serial", c.serial.iter_mut().map(Option::as_mut)));
    all.extend(c.fdc.iter_mut().map(|chip| ("fdc".to_owned(), chip as &mut dyn State)));
    all.extend(numbered("virtio", c.virtio.iter_mut().map(Some)));
    all.extend(
        c.pc_testdev.iter_mut().map(|chip| ("pc-testdev".to_owned(), chip as &mut dyn State)),
    );
    all.extend(
        c.pci_testdev.iter_mut().map(|chip| ("pci-testdev".to_owned(), chip as &mut dyn State)),
    );
    all.extend(c.vga.iter_mut().map(|chip| ("vga".to_owned(), chip as &mut dyn State)));
    all
}

/// Saves chips.
fn put_all(chips: Vec<Named<'_>>, out: &mut Vec<u8>) {
    for (name, chip) in chips {
        name.into_bytes().put(out);
        chip.save().put(out);
    }
}

/// Loads chips, which were saved in this order.
fn take_all(chips: Vec<Named<'_>>, input: &mut &[u8]) -> Result<(), SnapshotError> {
    for (name, chip) in chips {
        let (mut found, mut state) = (Vec::new(), Vec::new());
        found.take(input)?;
        state.take(input)?;
        if found != name.as_bytes() {
            return Err(SnapshotError::Parts);
        }
        chip.load(&state).map_err(|source| SnapshotError::Chip { chip: name, source })?;
    }
    Ok(())
}

/// Chips of one kind, by the numbers of their places.
fn numbered<'a, T: State + 'a>(
    name: &'static str,
    places: impl Iterator<Item = Option<&'a mut T>> + 'a,
) -> impl Iterator<Item = Named<'a>> {
    let present = places.enumerate().filter_map(|(i, chip)| Some((i, chip?)));
    present.map(move |(i, chip)| (format!("{name}{i}"), chip as &mut dyn State))
}

impl Board {
    /// What is saved, by name: two boards of equal parts can take each other's state.
    pub fn part_names(&mut self) -> Vec<String> {
        let mut names: Vec<_> = parts(&mut self.chips).into_iter().map(|(name, _)| name).collect();
        names.extend(controllers(&mut self.chips).into_iter().map(|(name, _)| name));
        names
    }

    /// The disks, by the names of their places.
    pub fn disks(&mut self) -> Vec<(String, &mut dyn BlockDev)> {
        let channels = self.chips.ide.channels.iter_mut().enumerate();
        let disks = channels.flat_map(|(channel, c)| c.disks().map(move |d| (channel, d)));
        let ide = disks.map(|(channel, (i, disk))| (format!("ide{channel}-{i}"), disk));
        let floppies = self.chips.fdc.iter_mut().flat_map(|fdc| fdc.drives());
        let floppies = floppies.filter_map(|(i, d)| Some((format!("floppy{i}"), d.disk()?)));
        let virtio = self.chips.virtio.iter_mut().enumerate();
        let virtio = virtio.filter_map(|(i, v)| Some((format!("virtio{i}"), v.disk()?)));
        ide.chain(floppies).chain(virtio).collect()
    }

    /// The state of all chips and of virtual time.
    pub fn save(&mut self) -> Vec<u8> {
        // Guest memory, which is saved next, has all there is then.
        self.chips.vga.iter().for_each(Vga::put_back);
        let mut out = MAGIC.to_vec();
        VERSION.put(&mut out);
        self.now().put(&mut out);
        for flag in self.signals.flags() {
            flag.load(Relaxed).put(&mut out);
        }
        put_all(parts(&mut self.chips), &mut out);
        put_all(controllers(&mut self.chips), &mut out);
        out
    }

    /// Takes the state of all chips and of virtual time. Alarms that no chip arms are off.
    ///
    /// # Errors
    /// The bytes are no saved board, or one of other parts, or damaged.
    pub fn load(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(SnapshotError::Magic)?;
        self.unmap_video();
        let input = &mut &*rest;
        devices::state::take_version(input, VERSION)?;
        let (mut now, mut flags) = (0u64, [false; 3]);
        now.take(input)?;
        flags.take(input)?;
        self.time.restore(self.alarms.clock(), now);
        self.alarms.disarm();
        take_all(parts(&mut self.chips), input)?;
        // Chips drove their wires while they were loaded; what was saved of these holds.
        for (flag, high) in self.signals.flags().into_iter().zip(flags) {
            flag.store(high, Relaxed);
        }
        self.remap();
        self.settle_all();
        take_all(controllers(&mut self.chips), input)?;
        self.place_apic();
        self.settle_all();
        if !input.is_empty() {
            return Err(StateError::Trailing(input.len()).into());
        }
        Ok(())
    }
}
