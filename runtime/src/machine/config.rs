//! What a machine is made of, as plain data: the command line's result and an embedder's start.

use std::borrow::Cow;
use std::path::PathBuf;

use ir::opt::Passes;
use x86::cpuid::Model;

use crate::board::SmbiosFields;
use crate::boot::kernel::KernelConfig;
use crate::console::{CTRL_A, CharConfig, CharTarget, SocketTarget};
use crate::disk::DriveConfig;
use crate::log::LogConfig;
use crate::snapshot::Store;

/// Everything [`Machine::new`](super::Machine::new) needs. [`Default`] is a PC with 128 MiB, the default firmware
/// and nothing else.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// Guest memory in bytes.
    pub ram_bytes: u64,
    /// What the CPU runs after reset.
    pub firmware: Firmware,
    /// Directories searched for firmware before the system's.
    pub firmware_dirs: Vec<PathBuf>,
    /// Is there a VGA card?
    pub vga: bool,
    /// IDE disks.
    pub drives: Vec<DriveConfig>,
    /// A kernel to start without a boot loader.
    pub kernel: Option<KernelConfig>,
    /// Boot order, QEMU's letters.
    pub boot_order: String,
    /// Another order for the first boot.
    pub boot_once: Option<String>,
    /// How long firmware shows the menu's prompt, in ms.
    pub boot_menu_wait: Option<u16>,
    /// How long firmware waits before it tries again when nothing boots, in ms.
    pub boot_fail_wait: Option<u16>,
    /// SMBIOS fields.
    pub smbios: SmbiosFields,
    /// Let SeaBIOS offer its boot menu.
    pub boot_menu: bool,
    /// An entropy device: how many.
    pub entropy_devices: usize,
    /// Virtio consoles.
    pub consoles: Vec<ConsoleConfig>,
    /// Virtio network cards.
    pub nics: Vec<NicConfig>,
    /// Firmware boots nothing that has no place in the boot order.
    pub boot_strict: bool,
    /// Serial ports COM1..COM4.
    pub serial: Vec<CharTarget>,
    /// Character devices with names, for several users of one far end.
    pub chardevs: Vec<CharConfig>,
    /// Monitors.
    pub monitors: Vec<CharTarget>,
    /// Monitors for programs (QMP).
    pub controls: Vec<CharTarget>,
    /// Where gdb may connect.
    pub gdb: Option<CharTarget>,
    /// The escape character of multiplexed lines and of the display.
    pub escape: u8,
    /// Keys that send signals keep doing so while stdin is the machine's.
    pub stdio_signals: bool,
    /// A monitor behind Ctrl-a c, if the display is on the terminal.
    pub display_monitor: bool,
    /// Start stopped.
    pub stopped: bool,
    /// Debug consoles: port and far end.
    pub debugcon: Vec<(u16, CharTarget)>,
    /// isa-debug-exit: first port and number of ports.
    pub debug_exit: Option<(u16, u16)>,
    /// Is there pc-testdev?
    pub pc_testdev: bool,
    /// Is there pci-testdev?
    pub pci_testdev: bool,
    /// Extra `fw_cfg` files.
    pub fw_cfg: Vec<(String, Vec<u8>)>,
    /// The firmware's console is COM1, not the VGA card.
    pub nographic: bool,
    /// Where the picture goes.
    pub display: Display,
    /// How guest code runs.
    pub accel: Accel,
    /// The processor model.
    pub cpu: Model,
    /// Optimiser passes.
    pub passes: Passes,
    /// Log items and where they go.
    pub log: LogConfig,
    /// Virtual time from the instruction count: 2^shift ns per instruction.
    pub icount_shift: Option<u8>,
    /// With it: time in which the CPU is halted passes as fast as the host's.
    pub icount_sleep: bool,
    /// The guest's wall clock at power-on.
    pub rtc: RtcBase,
    /// A guest reset ends the run.
    pub no_reboot: bool,
    /// The guest's power-off leaves the machine standing.
    pub no_shutdown: bool,
    /// A name for messages.
    pub name: String,
    /// Where the machine's snapshots are.
    pub snapshots: Store,
    /// The snapshot a run goes on from: name or path. [`run`](super::run) loads it.
    pub loadvm: Option<String>,
    /// Names generated code for `perf`.
    pub perf_map: bool,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            ram_bytes: 128 << 20,
            firmware: Firmware::Search("bios-256k.bin".into()),
            firmware_dirs: Vec::new(),
            vga: true,
            drives: Vec::new(),
            kernel: None,
            boot_order: "cad".into(),
            boot_once: None,
            boot_menu_wait: None,
            boot_fail_wait: None,
            smbios: SmbiosFields::new(),
            boot_menu: false,
            entropy_devices: 0,
            consoles: Vec::new(),
            nics: Vec::new(),
            boot_strict: false,
            serial: Vec::new(),
            chardevs: Vec::new(),
            monitors: Vec::new(),
            controls: Vec::new(),
            gdb: None,
            escape: CTRL_A,
            stdio_signals: false,
            display_monitor: false,
            stopped: false,
            debugcon: Vec::new(),
            debug_exit: None,
            pc_testdev: false,
            pci_testdev: false,
            fw_cfg: Vec::new(),
            nographic: false,
            display: Display::None,
            accel: Accel::Jit,
            cpu: Model::max(Some(host_cpuid)),
            passes: Passes::ALL,
            log: LogConfig::default(),
            icount_shift: None,
            icount_sleep: false,
            rtc: RtcBase::Utc,
            no_reboot: false,
            no_shutdown: false,
            name: String::new(),
            snapshots: Store::new("."),
            loadvm: None,
            perf_map: false,
        }
    }
}

/// A virtio console device and its ports by number; port 0 is the console `hvc0`.
#[derive(Clone, Debug, Default)]
pub struct ConsoleConfig {
    /// The user's name for it.
    pub id: String,
    /// The ports.
    pub ports: Vec<Option<PortConfig>>,
}

/// A port of a virtio console.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Its far end.
    pub target: CharTarget,
    /// The name the guest sees.
    pub name: String,
    /// A console, or a channel for programs.
    pub is_console: bool,
}

/// A network card.
#[derive(Clone, Debug)]
pub struct NicConfig {
    /// Its address.
    pub mac: [u8; 6],
    /// Where its cable leads; `None`: nowhere.
    pub cable: Option<SocketTarget>,
    /// Its place in the boot order.
    pub boot_index: Option<u32>,
}

/// The firmware image.
#[derive(Clone, Debug)]
pub enum Firmware {
    /// A file of this name from the firmware directories.
    Search(PathBuf),
    /// These bytes.
    Image(Cow<'static, [u8]>),
}

impl MachineConfig {
    /// Does this far end lead to stdin and stdout, by itself or by name?
    pub fn is_stdio(&self, target: &CharTarget) -> bool {
        match target {
            CharTarget::Stdio => true,
            CharTarget::Chardev(id) => {
                let named = self.chardevs.iter().find(|known| known.id == *id);
                named.is_some_and(|known| matches!(known.target, CharTarget::Stdio))
            }
            _ => false,
        }
    }
}

/// CPUID of the host, by which models are cut to what can run here.
pub fn host_cpuid(leaf: u32, sub: u32) -> [u32; 4] {
    let found = std::arch::x86_64::__cpuid_count(leaf, sub);
    [found.eax, found.ebx, found.ecx, found.edx]
}

/// Where the VGA picture goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Display {
    /// Nowhere.
    None,
    /// Full-screen text in the terminal.
    Tty,
    /// The last text screen to stdout when the run ends.
    LastScreen,
}

/// How guest code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// Translated to host code.
    Jit,
    /// Evaluated op by op.
    Interp,
}

/// The guest's wall clock at power-on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcBase {
    /// The host's time, UTC.
    Utc,
    /// The host's time in its time zone.
    LocalTime,
    /// Seconds since 1970.
    Fixed(i64),
}
