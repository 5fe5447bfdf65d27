//! From options to a machine: defaults, and every option's values checked.

use std::io::IsTerminal;

use ir::opt::Passes;

use super::cpu::cpu;
use super::keyval::{KeyVals, parse_size};
use super::{Args, CliError, chardevs, devices, drives, suggest};
use crate::log::{self, LogConfig};
use crate::machine::{Accel, Display, DriveConfig, Firmware, MachineConfig, RtcBase};
use crate::{boot, demo};

/// Largest guest memory; above 3 GiB it continues at 4 GiB.
const MAX_RAM: u64 = 64 << 30;
/// Smallest: the first MiB, and room for firmware tables.
const MIN_RAM: u64 = 2 << 20;

/// Properties of QEMU's `pc` that make no difference here, whatever their value.
const QUIET: [&str; 9] = [
    "usb",
    "vmport",
    "dump-guest-core",
    "mem-merge",
    "kernel_irqchip",
    "kernel-irqchip",
    "smm",
    "graphics",
    "suppress-vmdesc",
];

/// `-machine help`.
const MACHINES: &str = "\
Supported machines are:
pc                   Standard PC (i440FX + PIIX, 1996) (default)
";

/// `-accel help`.
const ACCELS: &str = "\
Accelerators:
jit                  translation to host code, also: tcg (default)
interp               the reference evaluator
";

/// Checks the options and builds the machine's description.
pub(super) fn resolve(args: &Args) -> Result<MachineConfig, CliError> {
    refuse(args)?;
    let mut config = MachineConfig {
        log: log_config(args)?,
        firmware_dirs: args.library.clone(),
        no_reboot: args.no_reboot,
        no_shutdown: args.no_shutdown,
        loadvm: args.loadvm.clone(),
        perf_map: args.perf_map,
        name: args.name.clone().unwrap_or_default(),
        passes: passes(args)?,
        nographic: args.nographic,
        stopped: args.stopped,
        ..MachineConfig::default()
    };
    config.ram_bytes = memory(args)?;
    cpu(args, &mut config)?;
    super::boot::resolve(args, &mut config)?;
    machine(args, &mut config)?;
    clock(args, &mut config)?;
    actions(args, &mut config)?;
    if let Some(bios) = &args.bios {
        config.firmware = Firmware::Search(bios.clone());
    }
    drives::resolve(args, &mut config)?;
    devices::resolve(args, &mut config)?;
    if is_bare(args) {
        embed_demo(&mut config);
    }
    display(args, &mut config)?;
    Ok(config)
}

/// Options that are known, and not there yet.
fn refuse(args: &Args) -> Result<(), CliError> {
    let smp = args.smp.as_deref().unwrap_or("1");
    let mut smp = KeyVals::parse("-smp", "cpus", smp);
    let cpus = smp.take_number("cpus")?.unwrap_or(1);
    for key in ["sockets", "cores", "threads", "maxcpus", "dies"] {
        if smp.take_number(key)?.is_some_and(|n| n != 1) {
            return Err(CliError::usage(format!("-smp: {key} above 1 is not supported yet")));
        }
    }
    smp.finish(&["cpus"])?;
    let refused = [
        (args.gdb_default && args.gdb.is_some(), "-s and -gdb: there is one gdb server"),
        (cpus != 1, "-smp: one CPU only so far"),
        (
            args.vga.as_deref().is_some_and(|card| !matches!(card, "std" | "none")),
            "-vga: std or none",
        ),
    ];
    match refused.into_iter().find(|&(is_given, _)| is_given) {
        Some((_, why)) => Err(CliError::usage(why)),
        None => Ok(()),
    }
}

fn log_config(args: &Args) -> Result<LogConfig, CliError> {
    let items = args.debug.as_deref().unwrap_or_default();
    if items.split(',').any(|item| matches!(item, "help" | "?")) {
        return Err(CliError::Text(log::help()));
    }
    let items = log::Items::parse(items).map_err(|unknown| {
        let hint = suggest::nearest(&unknown, log::Items::names()).map_or_else(
            || "-d help lists them".to_owned(),
            |near| format!("did you mean {near}?"),
        );
        CliError::usage(format!("-d: unknown log item {unknown}: {hint}"))
    })?;
    let ranges = match &args.dfilter {
        Some(text) => log::parse_ranges(text).map_err(|bad| {
            CliError::usage(format!("-dfilter: {bad} is no range (a+n, a-n, a..b)"))
        })?,
        None => Vec::new(),
    };
    Ok(LogConfig { items, ranges, file: args.debug_file.clone() })
}

fn passes(args: &Args) -> Result<Passes, CliError> {
    let text = args.opt.as_deref().unwrap_or("all");
    Passes::parse(text).map_err(|unknown| CliError::usage(format!("-opt: {unknown}")))
}

fn memory(args: &Args) -> Result<u64, CliError> {
    let Some(text) = &args.memory else { return Ok(128 << 20) };
    let mut kv = KeyVals::parse("-m", "size", text);
    let size = kv.take("size").unwrap_or_default();
    kv.finish(&["size"])?;
    let bytes = parse_size(&size)
        .ok_or_else(|| CliError::usage(format!("-m: {size} is no size (64, 512M, 1G)")))?;
    if !(MIN_RAM..=MAX_RAM).contains(&bytes) {
        return Err(CliError::usage(format!("-m: {size} is out of range (2M to 64G)")));
    }
    Ok(bytes.next_multiple_of(1 << 20))
}

fn machine(args: &Args, config: &mut MachineConfig) -> Result<(), CliError> {
    let mut accel = args.accel.clone();
    if let Some(text) = &args.machine {
        let mut kv = KeyVals::parse("-machine", "type", text);
        let kind = kv.take("type").unwrap_or_else(|| "pc".into());
        if matches!(kind.as_str(), "help" | "?") {
            return Err(CliError::Text(MACHINES.to_owned()));
        }
        if kind != "pc" && !kind.starts_with("pc-i440fx") {
            return Err(CliError::usage(format!("-machine {kind} is not supported, only pc")));
        }
        accel = accel.or(kv.take("accel"));
        super::boot::kernel_entry(&mut kv, &mut config.kernel)?;
        for quiet in QUIET {
            kv.take(quiet);
        }
        for needed in ["hpet", "acpi"] {
            if kv.take_bool(needed)? == Some(false) {
                let text = format!("-machine: {needed}=off is not supported yet");
                return Err(CliError::usage(text));
            }
        }
        kv.finish(&["type", "accel", "kernel-entry"])?;
    }
    let Some(text) = accel else { return Ok(()) };
    let mut kv = KeyVals::parse("-accel", "accel", &text);
    let names = kv.take("accel").unwrap_or_default();
    // Of several the first that is there.
    let found = names.split(':').find_map(|name| match name {
        "tcg" | "jit" => Some(Accel::Jit),
        "interp" => Some(Accel::Interp),
        _ => None,
    });
    config.accel = match (found, names.as_str()) {
        (Some(accel), _) => accel,
        (None, "help" | "?") => return Err(CliError::Text(ACCELS.to_owned())),
        (None, "kvm") => {
            return Err(CliError::usage("-accel kvm: Stele translates, use jit or interp"));
        }
        (None, _) => {
            return Err(CliError::usage(format!("-accel {names}: use jit (tcg) or interp")));
        }
    };
    for quiet in ["thread", "tb-size", "split-wx"] {
        kv.take(quiet);
    }
    kv.finish(&["thread"])
}

fn clock(args: &Args, config: &mut MachineConfig) -> Result<(), CliError> {
    if let Some(text) = &args.icount {
        let mut kv = KeyVals::parse("-icount", "shift", text);
        let shift = kv.take("shift").unwrap_or_else(|| "3".into());
        if shift == "auto" {
            return Err(CliError::usage(
                "-icount: shift=auto would follow the host's clock; give shift=0 to shift=10",
            ));
        }
        let shift = shift.parse::<u8>().ok().filter(|&n| n <= 10);
        config.icount_shift =
            Some(shift.ok_or_else(|| CliError::usage("-icount: shift=0 to shift=10"))?);
        config.icount_sleep = kv.take_bool("sleep")?.unwrap_or(false);
        if kv.take_bool("align")? == Some(true) {
            return Err(CliError::usage("-icount: align=on is not supported"));
        }
        kv.finish(&["shift", "sleep"])?;
    }
    if let Some(text) = &args.rtc {
        let mut kv = KeyVals::parse("-rtc", "base", text);
        config.rtc = match kv.take("base").as_deref() {
            None | Some("utc") => RtcBase::Utc,
            Some("localtime") => RtcBase::LocalTime,
            Some(date) => RtcBase::Fixed(boot::parse_date(date).ok_or_else(|| {
                CliError::usage(format!("-rtc: {date} is no date (2026-01-31T12:00:00)"))
            })?),
        };
        kv.take("clock");
        kv.take("driftfix");
        kv.finish(&["base", "clock"])?;
    }
    Ok(())
}

/// `-action`: what the guest's reset and power-off do.
fn actions(args: &Args, config: &mut MachineConfig) -> Result<(), CliError> {
    for text in &args.action {
        let mut kv = KeyVals::parse("-action", "", text);
        for (key, flag, on, off) in [
            ("reboot", &mut config.no_reboot, "shutdown", "reset"),
            ("shutdown", &mut config.no_shutdown, "pause", "poweroff"),
        ] {
            match kv.take(key) {
                None => {}
                Some(value) if value == on => *flag = true,
                Some(value) if value == off => *flag = false,
                Some(value) => {
                    let text = format!("-action: {key}={value} must be {on} or {off}");
                    return Err(CliError::usage(text));
                }
            }
        }
        kv.finish(&["reboot", "shutdown"])?;
    }
    Ok(())
}

/// Do the options say nothing about the machine, only about how to look at it? Then it is the embedded demo.
fn is_bare(args: &Args) -> bool {
    let machine = Args {
        nographic: false,
        display: None,
        serial: Vec::new(),
        monitor: Vec::new(),
        qmp: Vec::new(),
        chardev: Vec::new(),
        echr: None,
        stopped: false,
        debug: None,
        debug_file: None,
        dfilter: None,
        accel: None,
        opt: None,
        icount: None,
        name: None,
        ..args.clone()
    };
    machine == Args::default()
}

fn embed_demo(config: &mut MachineConfig) {
    config.firmware = Firmware::Image(demo::firmware().into());
    config.drives.push(DriveConfig::bytes(demo::disk()));
    let is_interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let answer = if is_interactive { b"1" } else { b"0" };
    config.fw_cfg.push((demo::INTERACTIVE_FILE.into(), answer.to_vec()));
}

fn display(args: &Args, config: &mut MachineConfig) -> Result<(), CliError> {
    config.vga = args.vga.as_deref() != Some("none")
        && (!args.nodefaults || args.vga.is_some() || config.vga);
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let stdio = chardevs::uses_stdio(config);
    if let Some(other) = args.vnc.as_deref().filter(|kind| *kind != "none") {
        return Err(CliError::usage(format!("-vnc {other} is not supported yet (none)")));
    }
    config.display = match args.display.as_deref().or(args.vnc.as_deref()) {
        Some("none") => Display::None,
        Some("curses" | "tty") if stdio => {
            return Err(CliError::usage("-display tty and a device on stdio exclude each other"));
        }
        Some("curses" | "tty") if !is_terminal => {
            return Err(CliError::usage("-display tty: stdin and stdout must be a terminal"));
        }
        Some("curses" | "tty") => Display::Tty,
        Some(other) => {
            return Err(CliError::usage(format!(
                "-display {other} is not supported yet (tty, none)"
            )));
        }
        None if args.nographic || stdio || !config.vga => Display::None,
        None if is_terminal => Display::Tty,
        None => Display::LastScreen,
    };
    config.display_monitor = config.display == Display::Tty && chardevs::has_vc_monitor(args);
    Ok(())
}
