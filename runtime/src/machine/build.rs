//! Builds a machine from its description: opens files, makes the board, the CPU and the log.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use devices::fdc::FloppyDrive;
use devices::virtio::{
    ConsolePort, Entropy, VirtioBlk, VirtioConsole, VirtioDevice, VirtioNet, VirtioRng,
};
use x86::cpu::Cpu;

use super::alarm::{Alarm, Bell};
use super::attend::{About, Attended};
use super::bus::{Link, SharedBoard};
use super::icount::Icount;
use super::lines::Lines;
use super::{Machine, MachineConfig, MachineError, RtcBase};
use crate::board::{self, Board, BoardConfig, ClockKind, FIRST_FREE_SLOT, IdeUnit};
use crate::boot::kernel;
use crate::console::{self, Wake};
use crate::disk::{self, DriveBus, Media};
use crate::firmware;
use crate::log::{Items, Log};
use crate::vcpu::{Vcpu, VcpuConfig};

impl Machine {
    /// Builds the machine in its power-on state. Nothing is attached to the terminal.
    ///
    /// # Errors
    /// A file, memory or the code cache is refused.
    pub fn new(config: &MachineConfig) -> Result<Self, MachineError> {
        let log = Log::open(&config.log).map_err(|source| MachineError::Output {
            path: config.log.file.clone().unwrap_or_default(),
            source,
        })?;
        let mut lines = Lines::new(config);
        let (board_config, firmware) = board_config(config, &mut lines)?;
        let monitors = lines.monitors(config)?;
        let controls = lines.controls(config)?;
        let gdb = lines.gdb(config)?;
        let board = Board::new(board_config)?;
        let (ram, map) = (board.ram().clone(), board.map().clone());
        let board = Rc::new(RefCell::new(board));
        let link = Rc::new(Link::default());
        let bus = SharedBoard { board: board.clone(), link: link.clone(), log: log.clone() };
        let mut cpu = Cpu::new(ram, map, Box::new(bus));
        let mut model = config.cpu;
        if config.icount_shift.is_some() {
            // The host's random numbers would make every run another one.
            for feature in ["rdrand", "rdseed"] {
                // Known features can be switched off.
                let _ = model.set(feature, false, None);
            }
        }
        cpu.set_model(model);
        let vcpu = VcpuConfig {
            accel: config.accel,
            passes: config.passes,
            counted: config.icount_shift.is_some(),
            nochain: log.has(Items::NOCHAIN),
            perf_map: config.perf_map,
            ..VcpuConfig::default()
        };
        let vcpu = Vcpu::new(cpu, vcpu, log.clone())?;
        let kicker = vcpu.kicker();
        // Nobody else has set it: the link was made above.
        let _ = link.kicker.set(kicker.clone());
        let icount = config.icount_shift.map(|shift| Icount::new(shift, config.icount_sleep));
        let alarm = icount.is_none().then(|| Alarm::start(kicker.clone()));
        let bell = Arc::new(Bell::default());
        let wake: Wake = {
            let bell = bell.clone();
            Arc::new(move || {
                kicker.kick();
                bell.ring();
            })
        };
        let (sender, inputs) = console::inputs(wake);
        let about = About {
            name: config.name.clone(),
            drives: config.drives.clone(),
            firmware,
            lines: lines.others().to_vec(),
        };
        let mut machine = Self {
            board,
            vcpu,
            log,
            bell,
            alarm,
            icount,
            link,
            inputs,
            sender,
            keys: VecDeque::new(),
            user: Attended::new(lines.into_hosts(), monitors, controls, about),
            screen: None,
            redraw_at: Instant::now(),
            no_reboot: config.no_reboot,
            no_shutdown: config.no_shutdown,
            snapshots: config.snapshots.clone(),
            debug: crate::gdb::Debug::default(),
        };
        machine.user.gdb = gdb;
        if config.stopped {
            machine.stop();
        }
        Ok(machine)
    }
}

fn board_config(
    config: &MachineConfig,
    lines: &mut Lines,
) -> Result<(BoardConfig, String), MachineError> {
    let images = firmware::load(config)?;
    let low_ram = board::low_ram(config.ram_bytes);
    let kernel =
        config.kernel.as_ref().map(|k| kernel::load(k, low_ram, config.vga)).transpose()?;
    let drives = ide_units(config)?;
    let floppies = floppies(config)?;
    let mut serial = [const { None }; 4];
    for (i, (place, target)) in serial.iter_mut().zip(&config.serial).enumerate() {
        *place = lines.device(target, &format!("serial{i}"))?;
    }
    let mut debugcon = Vec::new();
    for (port, target) in &config.debugcon {
        if let Some(backend) = lines.device(target, &format!("debugcon{port:x}"))? {
            debugcon.push((*port, backend));
        }
    }
    let firmware = format!("firmware: {} bytes", images.firmware.len());
    let board = BoardConfig {
        ram_bytes: config.ram_bytes,
        firmware: images.firmware,
        vga: config.vga,
        vga_rom: images.vga_rom,
        drives,
        virtio: virtio_devices(config, lines)?,
        boot_paths: boot_paths(config),
        floppies,
        serial,
        debugcon,
        debug_exit: config.debug_exit,
        pc_testdev: config.pc_testdev,
        pci_testdev: config.pci_testdev,
        rtc_base: rtc_base(config.rtc, config.icount_shift.is_some()),
        clock: if config.icount_shift.is_some() { ClockKind::Icount } else { ClockKind::Host },
        kernel,
        boot_order: config.boot_order.clone(),
        boot_once: config.boot_once.clone(),
        boot_menu_wait: config.boot_menu_wait,
        boot_fail_wait: config.boot_fail_wait,
        smbios: config.smbios.clone(),
        boot_menu: config.boot_menu,
        nographic: config.nographic,
        fw_cfg: config.fw_cfg.clone(),
        ..BoardConfig::default()
    };
    Ok((board, firmware))
}

/// The drives of the IDE channels, with their images open.
fn ide_units(config: &MachineConfig) -> Result<[IdeUnit; 4], MachineError> {
    let mut units: [IdeUnit; 4] = Default::default();
    for drive in config.drives.iter().filter(|drive| drive.bus == DriveBus::Ide) {
        let Some(unit) = units.get_mut(drive.slot) else { continue };
        *unit = match (drive.media, disk::open(drive)?) {
            (Media::Cdrom, medium) => IdeUnit::Cd(medium),
            (Media::Disk, Some(disk)) => IdeUnit::Disk(disk),
            (Media::Disk, None) => IdeUnit::Empty,
        };
    }
    Ok(units)
}

/// The floppy drives, with their images open.
fn floppies(config: &MachineConfig) -> Result<[Option<FloppyDrive>; 2], MachineError> {
    let mut drives = [None, None];
    for drive in config.drives.iter().filter(|drive| drive.bus == DriveBus::Floppy) {
        let Some(place) = drives.get_mut(drive.slot) else { continue };
        *place = Some(FloppyDrive::new(disk::open(drive)?));
    }
    Ok(drives)
}

/// The virtio devices: disks by their places, then network cards, consoles and entropy.
fn virtio_devices(
    config: &MachineConfig,
    lines: &mut Lines,
) -> Result<Vec<Box<dyn VirtioDevice>>, MachineError> {
    let mut devices: Vec<Box<dyn VirtioDevice>> = Vec::new();
    for drive in config.drives.iter().filter(|drive| drive.bus == DriveBus::Virtio) {
        if let Some(image) = disk::open(drive)? {
            devices.push(Box::new(VirtioBlk::new(image, &drive.serial)));
        }
    }
    for (n, nic) in config.nics.iter().enumerate() {
        let cable = lines.cable(nic.cable.as_ref(), &format!("net{n}"))?;
        devices.push(Box::new(VirtioNet::new(nic.mac, cable)));
    }
    for (n, console) in config.consoles.iter().enumerate() {
        let mut ports = Vec::new();
        for (i, port) in console.ports.iter().enumerate() {
            let Some(port) = port else {
                ports.push(None);
                continue;
            };
            let far = lines.device(&port.target, &format!("virtio-serial{n}.{i}"))?;
            let (name, is_console) = (port.name.clone(), port.is_console);
            ports.push(far.map(|far| ConsolePort { far, name, is_console }));
        }
        devices.push(Box::new(VirtioConsole::new(ports)));
    }
    for n in 0..config.entropy_devices {
        devices.push(Box::new(VirtioRng::new(entropy(config.icount_shift.is_some(), n as u64))));
    }
    Ok(devices)
}

/// Firmware's names of the devices that have a place in the boot order, in that order.
fn boot_paths(config: &MachineConfig) -> Vec<String> {
    let mut slot = usize::from(FIRST_FREE_SLOT);
    let mut next_slot = || {
        slot += 1;
        slot - 1
    };
    let mut paths = Vec::new();
    for drive in &config.drives {
        let (place, unit) = (drive.slot / 2, drive.slot % 2);
        let path = match drive.bus {
            DriveBus::Ide => format!("/pci@i0cf8/ide@1,1/drive@{place}/disk@{unit}"),
            DriveBus::Floppy => format!("/pci@i0cf8/isa@1/fdc@03f0/floppy@{}", drive.slot),
            DriveBus::Virtio => format!("/pci@i0cf8/scsi@{:x}/disk@0,0", next_slot()),
            DriveBus::None => continue,
        };
        paths.extend(drive.boot_index.map(|index| (index, path)));
    }
    for nic in &config.nics {
        let path = format!("/pci@i0cf8/ethernet@{:x}/ethernet-phy@0", next_slot());
        paths.extend(nic.boot_index.map(|index| (index, path)));
    }
    paths.sort();
    let halt = config.boot_strict.then(|| "HALT".to_owned());
    paths.into_iter().map(|(_, path)| path).chain(halt).collect()
}

/// The host's random bytes; with counted time, the same in every run.
fn entropy(is_counted: bool, seed: u64) -> Entropy {
    let mut state = seed;
    let mut fixed = move |bytes: &mut [u8]| {
        for byte in bytes {
            // SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            *byte = (z ^ z >> 27) as u8;
        }
    };
    let host = |bytes: &mut [u8]| {
        let flags = rustix::rand::GetRandomFlags::empty();
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match rustix::rand::getrandom(rest, flags) {
                Ok(n) => done += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return log::error!("the host has no random bytes: {error}"),
            }
        }
    };
    if is_counted { Box::new(move |bytes| fixed(bytes)) } else { Box::new(host) }
}

/// 2000-01-01: where instruction-counted time starts if the command line names no date.
const COUNTED_EPOCH: i64 = 946_684_800;

fn rtc_base(base: RtcBase, is_counted: bool) -> i64 {
    let now = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(0)
    };
    match base {
        RtcBase::Fixed(seconds) => seconds,
        // The same run must see the same clock.
        _ if is_counted => COUNTED_EPOCH,
        RtcBase::Utc => now(),
        RtcBase::LocalTime => now() + crate::boot::utc_offset(now()),
    }
}
