//! What a board is built from, why it may not be, and what it tells the outer loop.

use devices::block::BlockDev;
use devices::chardev::CharBackend;
use devices::fdc::FloppyDrive;
use devices::virtio::VirtioDevice;
use mem::RamError;

use super::clock::ClockKind;
use super::smbios::SmbiosFields;
use crate::boot::plan::Plan;

/// A board's parts, as objects: files were opened and names resolved before.
pub struct BoardConfig {
    /// Guest memory in bytes, a whole number of MiB.
    pub ram_bytes: u64,
    /// Firmware: a multiple of 64 KiB, at most 16 MiB. It ends at 4 GiB; its last 128 KiB are also
    /// at 0xE0000 until the host bridge shadows them.
    pub firmware: Vec<u8>,
    /// Is there a VGA card?
    pub vga: bool,
    /// The card's option ROM, shown in its ROM BAR.
    pub vga_rom: Option<Vec<u8>>,
    /// Further option ROMs, for firmware to load by fw_cfg: file name and bytes.
    pub option_roms: Vec<(String, Vec<u8>)>,
    /// IDE drives: primary master, primary slave, secondary master, secondary slave.
    pub drives: [IdeUnit; 4],
    /// Floppy drives A and B. With none there is no floppy controller.
    pub floppies: [Option<FloppyDrive>; 2],
    /// Virtio devices, from PCI slot 3 on.
    pub virtio: Vec<Box<dyn VirtioDevice>>,
    /// COM1–COM4.
    pub serial: [Option<Box<dyn CharBackend>>; 4],
    /// Debug consoles by port (0x402 is SeaBIOS's).
    pub debugcon: Vec<(u16, Box<dyn CharBackend>)>,
    /// isa-debug-exit: first port and number of ports.
    pub debug_exit: Option<(u16, u16)>,
    /// Is there pc-testdev?
    pub pc_testdev: bool,
    /// Is there pci-testdev?
    pub pci_testdev: bool,
    /// Wall clock at power-on, in seconds since 1970.
    pub rtc_base: i64,
    /// What drives virtual time.
    pub clock: ClockKind,
    /// A kernel for firmware to start first.
    pub kernel: Option<Plan>,
    /// SMBIOS fields the user has set.
    pub smbios: SmbiosFields,
    /// Boot order: `a` floppy, `c` disk, `d` CD, `n` network.
    pub boot_order: String,
    /// Another order until the first reset.
    pub boot_once: Option<String>,
    /// Firmware's names of devices, first of all to be booted; `HALT` ends the list for good.
    pub boot_paths: Vec<String>,
    /// How long firmware shows its boot menu's prompt, in ms.
    pub boot_menu_wait: Option<u16>,
    /// How long firmware waits before it tries again when nothing boots, in ms.
    pub boot_fail_wait: Option<u16>,
    /// Let firmware offer its boot menu.
    pub boot_menu: bool,
    /// Firmware's console is COM1, not the VGA card.
    pub nographic: bool,
    /// Further fw_cfg files.
    pub fw_cfg: Vec<(String, Vec<u8>)>,
}

/// What came of the wish to change a medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is changed.
    Done,
    /// The guest has locked the drive; it has been asked to let go.
    Locked,
    /// There is no such drive.
    NoDrive,
}

/// What is at a place of an IDE channel.
#[derive(Default)]
pub enum IdeUnit {
    /// Nothing.
    #[default]
    Empty,
    /// A disk.
    Disk(Box<dyn BlockDev>),
    /// A CD drive, with its medium.
    Cd(Option<Box<dyn BlockDev>>),
}

impl Default for BoardConfig {
    fn default() -> Self {
        Self {
            ram_bytes: 128 << 20,
            firmware: Vec::new(),
            vga: true,
            vga_rom: None,
            option_roms: Vec::new(),
            drives: [const { IdeUnit::Empty }; 4],
            floppies: [const { None }; 2],
            virtio: Vec::new(),
            serial: [const { None }; 4],
            debugcon: Vec::new(),
            debug_exit: None,
            pc_testdev: false,
            pci_testdev: false,
            rtc_base: 0,
            clock: ClockKind::Icount,
            kernel: None,
            smbios: Vec::new(),
            boot_order: "cad".to_owned(),
            boot_once: None,
            boot_paths: Vec::new(),
            boot_menu_wait: None,
            boot_fail_wait: None,
            boot_menu: false,
            nographic: false,
            fw_cfg: Vec::new(),
        }
    }
}

/// Why a board could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// Not a whole number of MiB, none at all, or too much.
    #[error("guest memory of {0} bytes is not between 1 MiB and 512 GiB in whole MiB")]
    RamSize(u64),
    /// Not a multiple of 64 KiB between 64 KiB and 16 MiB.
    #[error("firmware of {0} bytes is not a multiple of 64 KiB up to 16 MiB")]
    FirmwareSize(usize),
    /// Larger than 16 MiB.
    #[error("the video option ROM of {0} bytes is larger than 16 MiB")]
    RomSize(usize),
    /// The loader's plan is too long.
    #[error("the kernel is in too many pieces to be loaded")]
    KernelPieces,
    /// Something else has the port.
    #[error("port {0:#06x} of {1} is already in use")]
    PortTaken(u16, &'static str),
    /// The host refused the memory.
    #[error("cannot allocate the machine's memory")]
    Ram(#[from] RamError),
}

/// What the guest did that the board cannot settle alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BoardEvent {
    /// Reset the machine: [`Board::reset`](super::Board::reset), then the CPU.
    Reset,
    /// The machine is switched off.
    PowerOff,
    /// isa-debug-exit was written: end with this status.
    DebugExit(u8),
}
