//! The options that name devices: `-device -fw_cfg`; their far ends are in `chardevs`.

use anyhow::Context;

use super::chardevs::Chars;
use super::keyval::KeyVals;
use super::{Args, CliError};
use crate::machine::MachineConfig;

/// Fills in character devices and ISA devices.
pub(super) fn resolve(args: &Args, config: &mut MachineConfig) -> Result<(), CliError> {
    let mut chars = Chars::new(args)?;
    chars.ports(args, config)?;
    for text in &args.device {
        device(text, &mut chars, config)?;
    }
    for text in &args.fw_cfg {
        fw_cfg(text, config)?;
    }
    chars.finish(args, config)
}

fn device(text: &str, chars: &mut Chars, config: &mut MachineConfig) -> Result<(), CliError> {
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
            config.debugcon.push((base, chars.named("-device isa-debugcon", &id)?));
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
