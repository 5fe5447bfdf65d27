//! The options that name devices and their far ends: `-device -chardev -serial -parallel -debugcon -fw_cfg`.

use anyhow::Context;

use super::keyval::KeyVals;
use super::{Args, CliError};
use crate::machine::{CharTarget, MachineConfig};

/// Fills in character devices and ISA devices.
pub(super) fn resolve(args: &Args, config: &mut MachineConfig) -> Result<(), CliError> {
    let chardevs = args.chardev.iter().map(|text| chardev(text)).collect::<Result<Vec<_>, _>>()?;
    serial(args, &chardevs, config)?;
    for text in &args.parallel {
        if !matches!(target("-parallel", text, &chardevs)?, CharTarget::None | CharTarget::Null) {
            return Err(CliError::usage("-parallel: no parallel port yet, use none or null"));
        }
    }
    if let Some(text) = &args.debugcon {
        config.debugcon.push((0xe9, target("-debugcon", text, &chardevs)?));
    }
    for text in &args.device {
        device(text, &chardevs, config)?;
    }
    for text in &args.fw_cfg {
        fw_cfg(text, config)?;
    }
    one_stdio(config)
}

fn chardev(text: &str) -> Result<(String, CharTarget), CliError> {
    let mut kv = KeyVals::parse("-chardev", "backend", text);
    let backend = kv.take("backend").unwrap_or_default();
    let id = kv.take("id").ok_or_else(|| CliError::usage("-chardev: id=ID is missing"))?;
    let target = match backend.as_str() {
        "stdio" => CharTarget::Stdio,
        "null" => CharTarget::Null,
        "file" => {
            let path = kv.take("path");
            CharTarget::File(
                path.ok_or_else(|| CliError::usage("-chardev file: path= is missing"))?.into(),
            )
        }
        other => {
            return Err(CliError::usage(format!(
                "-chardev {other} is not supported (stdio, file, null)"
            )));
        }
    };
    for quiet in ["signal", "mux", "append", "logfile"] {
        kv.take(quiet);
    }
    kv.finish(&["id", "path"])?;
    Ok((id, target))
}

/// What a `-serial`-like value means.
fn target(
    option: &str,
    text: &str,
    chardevs: &[(String, CharTarget)],
) -> Result<CharTarget, CliError> {
    let by_id = |id: &str| {
        let found =
            chardevs.iter().find(|(known, _)| known == id).map(|(_, target)| target.clone());
        found.ok_or_else(|| CliError::usage(format!("{option}: there is no -chardev with id={id}")))
    };
    match text.split_once(':') {
        None if text == "stdio" => Ok(CharTarget::Stdio),
        None if text == "null" => Ok(CharTarget::Null),
        None if text == "none" => Ok(CharTarget::None),
        Some(("mon", "stdio")) => Ok(CharTarget::Stdio),
        Some(("file", path)) if !path.is_empty() => Ok(CharTarget::File(path.into())),
        Some(("chardev", id)) => by_id(id),
        _ => Err(CliError::usage(format!(
            "{option} {text} is not supported (stdio, file:PATH, null, none)"
        ))),
    }
}

fn serial(
    args: &Args,
    chardevs: &[(String, CharTarget)],
    config: &mut MachineConfig,
) -> Result<(), CliError> {
    for text in &args.serial {
        config.serial.push(target("-serial", text, chardevs)?);
    }
    if config.serial.len() > 4 {
        return Err(CliError::usage("-serial: a PC has four serial ports"));
    }
    if config.serial.is_empty() && !args.nodefaults {
        config.serial.push(if args.nographic { CharTarget::Stdio } else { CharTarget::Null });
    }
    Ok(())
}

fn device(
    text: &str,
    chardevs: &[(String, CharTarget)],
    config: &mut MachineConfig,
) -> Result<(), CliError> {
    let mut kv = KeyVals::parse("-device", "driver", text);
    let driver = kv.take("driver").unwrap_or_default();
    match driver.as_str() {
        "isa-debug-exit" => {
            let base = port(kv.take_number("iobase")?.unwrap_or(0x501))?;
            let size = kv.take_number("iosize")?.unwrap_or(2);
            let size =
                u16::try_from(size).ok().filter(|&n| n >= 1 && base.checked_add(n - 1).is_some());
            let size = size.ok_or_else(|| CliError::usage("-device isa-debug-exit: bad iosize"))?;
            kv.finish(&["iobase", "iosize"])?;
            config.debug_exit = Some((base, size));
        }
        "isa-debugcon" => {
            let base = port(kv.take_number("iobase")?.unwrap_or(0xe9))?;
            let id = kv.take("chardev");
            let id =
                id.ok_or_else(|| CliError::usage("-device isa-debugcon: chardev=ID is missing"))?;
            kv.take_number("readback")?;
            kv.finish(&["iobase", "chardev"])?;
            config.debugcon.push((base, target("-device", &format!("chardev:{id}"), chardevs)?));
        }
        "VGA" | "isa-vga" => config.vga = true,
        other => {
            return Err(CliError::usage(format!(
                "-device {other} is not supported yet (isa-debug-exit, isa-debugcon, VGA)"
            )));
        }
    }
    Ok(())
}

fn port(number: u64) -> Result<u16, CliError> {
    u16::try_from(number)
        .map_err(|_| CliError::usage(format!("-device: port {number:#x} is above 0xffff")))
}

fn fw_cfg(text: &str, config: &mut MachineConfig) -> Result<(), CliError> {
    let mut kv = KeyVals::parse("-fw_cfg", "name", text);
    let name = kv.take("name").unwrap_or_default();
    if name.is_empty() || name.len() > 55 {
        return Err(CliError::usage("-fw_cfg: name= must have 1 to 55 characters"));
    }
    let bytes = match (kv.take("string"), kv.take("file")) {
        (Some(string), None) => string.into_bytes(),
        (None, Some(file)) => {
            std::fs::read(&file).with_context(|| format!("-fw_cfg: cannot read {file}"))?
        }
        _ => return Err(CliError::usage("-fw_cfg: give string= or file=")),
    };
    kv.finish(&["name", "string", "file"])?;
    config.fw_cfg.push((name, bytes));
    Ok(())
}

/// stdin and stdout have one user.
fn one_stdio(config: &MachineConfig) -> Result<(), CliError> {
    let serial = config.serial.iter();
    let users = serial.chain(config.debugcon.iter().map(|(_, target)| target));
    if users.filter(|target| matches!(target, CharTarget::Stdio)).count() > 1 {
        return Err(CliError::usage(
            "stdio can serve one device only (-serial, -debugcon, -chardev)",
        ));
    }
    Ok(())
}

/// Does a character device use stdin and stdout?
pub(super) fn uses_stdio(config: &MachineConfig) -> bool {
    let debug = config.debugcon.iter().map(|(_, target)| target);
    config.serial.iter().chain(debug).any(|target| matches!(target, CharTarget::Stdio))
}
