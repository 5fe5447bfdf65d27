//! The options that name devices: `-device -fw_cfg`; their far ends are in `chardevs`.

use anyhow::Context;

use super::chardevs::Chars;
use super::keyval::KeyVals;
use super::{Args, CliError};
use crate::disk::{DriveBus, DriveConfig};
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
        "virtio-blk-pci" | "virtio-blk" => virtio_disk(kv, config)?,
        "virtio-rng-pci" | "virtio-rng" => {
            kv.take("id");
            kv.take("rng");
            kv.finish(&["id", "rng"])?;
            config.entropy_devices += 1;
        }
        "VGA" | "isa-vga" => config.vga = true,
        other => {
            return Err(CliError::usage(format!(
                "-device {other} is not supported yet (isa-debug-exit, isa-debugcon, VGA, virtio-blk-pci, virtio-rng-pci)"
            )));
        }
    }
    Ok(())
}

/// Connects a `-drive if=none` to a virtio device.
fn virtio_disk(mut kv: KeyVals, config: &mut MachineConfig) -> Result<(), CliError> {
    let id = kv.take("drive").ok_or_else(|| {
        CliError::usage("-device virtio-blk-pci: drive=ID is missing (with -drive if=none,id=ID)")
    })?;
    let serial = kv.take("serial");
    // Firmware boots by -boot; the name is for the user.
    for quiet in ["id", "bootindex"] {
        kv.take(quiet);
    }
    kv.finish(&["drive", "serial", "id", "bootindex"])?;
    let is_virtio = |drive: &&DriveConfig| drive.bus == DriveBus::Virtio;
    let slot = config.drives.iter().filter(is_virtio).map(|drive| drive.slot + 1).max();
    let drive = config.drives.iter_mut().find(|drive| drive.id == id);
    let drive = drive.ok_or_else(|| {
        CliError::usage(format!("-device virtio-blk-pci: there is no -drive with id={id}"))
    })?;
    if drive.bus != DriveBus::None {
        return Err(CliError::usage(format!(
            "-device virtio-blk-pci: drive {id} has its place (if=none leaves it free)"
        )));
    }
    drive.bus = DriveBus::Virtio;
    drive.slot = slot.unwrap_or(0);
    if let Some(serial) = serial {
        drive.serial = serial;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::drives;

    fn resolved(drive: &[&str], device: &[&str]) -> Result<MachineConfig, String> {
        let own = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect();
        let args = Args { drive: own(drive), device: own(device), ..Args::default() };
        let mut config = MachineConfig::default();
        drives::resolve(&args, &mut config).map_err(|error| error.to_string())?;
        super::resolve(&args, &mut config).map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn virtio_devices() {
        let drives = ["file=a,if=none,id=x", "file=b,if=virtio", "file=c,if=none,id=y"];
        let devices =
            ["virtio-blk-pci,drive=y,serial=s,id=d0", "virtio-blk-pci,drive=x", "virtio-rng-pci"];
        let config = resolved(&drives, &devices).unwrap();
        let mut disks: Vec<_> =
            config.drives.iter().map(|d| (d.slot, d.bus, d.serial.as_str())).collect();
        disks.sort_by_key(|disk| disk.0);
        let virtio = DriveBus::Virtio;
        assert_eq!(disks, [(0, virtio, ""), (1, virtio, "s"), (2, virtio, "")]);
        assert_eq!(config.entropy_devices, 1);
        for (device, expect) in [
            ("virtio-blk-pci", "drive=ID is missing"),
            ("virtio-blk-pci,drive=z", "there is no -drive with id=z"),
            ("virtio-blk-pci,drive=x,disable-modern=on", "disable-modern"),
            ("virtio-net-pci", "-device virtio-net-pci is not supported yet"),
        ] {
            let error = resolved(&drives, &[device]).map(|_| ()).unwrap_err();
            assert!(error.contains(expect), "{device}: {error}");
        }
        let twice = ["virtio-blk-pci,drive=x", "virtio-blk-pci,drive=x"];
        let error = resolved(&drives, &twice).map(|_| ()).unwrap_err();
        assert!(error.contains("drive x has its place"), "{error}");
    }
}
