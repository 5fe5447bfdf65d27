//! The options that name devices: `-device -fw_cfg`; their far ends are in `chardevs`.

use anyhow::Context;

use super::chardevs::Chars;
use super::drives::VIRTIO_MAX;
use super::keyval::KeyVals;
use super::virtio::{self, Cables};
use super::{Args, CliError};
use crate::disk::DriveBus;
use crate::machine::MachineConfig;

/// `-device help`, in the form that QEMU's has, which scripts look for names in: name, bus, keys and what it is.
const HELP: &[(&str, &str, &str)] = &[
    ("isa-debug-exit", "ISA", "iobase=PORT,iosize=N: the guest ends the run with a status"),
    ("pc-testdev", "ISA", "kvm-unit-tests' device: ports 0xe0, 0x2000, memory at 0xff000000"),
    ("pci-testdev", "PCI", "a PCI function that counts writes"),
    ("isa-debugcon", "ISA", "iobase=PORT,chardev=ID: a port that takes text"),
    ("VGA", "PCI", "the VGA card, with -nodefaults"),
    ("ide-hd", "IDE", "drive=ID[,bus=ide.0|ide.1][,unit=0|1][,bootindex=N]: a -drive if=none"),
    ("ide-cd", "IDE", "drive=ID[,bus=ide.0|ide.1][,unit=0|1][,bootindex=N]: a -drive if=none"),
    ("virtio-blk-pci", "PCI", "drive=ID[,serial=TEXT][,bootindex=N]: a -drive if=none"),
    ("virtio-net-pci", "PCI", "[netdev=ID][,mac=ADDRESS][,bootindex=N]"),
    ("virtio-rng-pci", "PCI", "random bytes of the host's"),
    ("virtio-serial-pci", "PCI", "[id=ID]: for the consoles and ports that follow"),
    ("virtconsole", "virtio-serial-bus", "chardev=ID[,bus=ID.0]: hvc0"),
    ("virtserialport", "virtio-serial-bus", "chardev=ID[,name=NAME][,nr=N][,bus=ID.0]: a channel"),
];

fn help() -> String {
    let line = |(name, bus, about): &(&str, &str, &str)| {
        format!("name \"{name}\", bus {bus}, desc \"{about}\"\n")
    };
    HELP.iter().map(line).collect()
}

/// Fills in character devices and ISA devices.
pub(super) fn resolve(args: &Args, config: &mut MachineConfig) -> Result<(), CliError> {
    let mut chars = Chars::new(args)?;
    chars.ports(args, config)?;
    let cables = Cables::new(args, config)?;
    for text in &args.device {
        device(text, &mut chars, &cables, config)?;
    }
    config.drives.sort_by_key(|drive| drive.slot);
    let virtio = config.drives.iter().filter(|drive| drive.bus == DriveBus::Virtio).count()
        + config.nics.len()
        + config.consoles.len()
        + config.entropy_devices;
    if virtio > VIRTIO_MAX {
        return Err(CliError::usage(format!("there are slots for {VIRTIO_MAX} virtio devices")));
    }
    for text in &args.fw_cfg {
        fw_cfg(text, config)?;
    }
    chars.finish(args, config)
}

fn device(
    text: &str,
    chars: &mut Chars,
    cables: &Cables,
    config: &mut MachineConfig,
) -> Result<(), CliError> {
    let mut kv = KeyVals::parse("-device", "driver", text);
    let driver = kv.take("driver").unwrap_or_default();
    if matches!(driver.as_str(), "help" | "?") {
        return Err(CliError::Text(help()));
    }
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
        "virtio-blk-pci" | "virtio-blk" => virtio::disk(kv, config)?,
        "ide-hd" => virtio::ide("ide-hd", kv, config)?,
        "ide-cd" => virtio::ide("ide-cd", kv, config)?,
        "virtio-net-pci" | "virtio-net" => cables.card(kv, config)?,
        "virtio-serial-pci" | "virtio-serial" => virtio::serial(kv, config)?,
        "virtconsole" => virtio::port("virtconsole", kv, chars, config)?,
        "virtserialport" => virtio::port("virtserialport", kv, chars, config)?,
        "virtio-rng-pci" | "virtio-rng" => {
            kv.take("id");
            kv.take("rng");
            kv.finish(&["id", "rng"])?;
            config.entropy_devices += 1;
        }
        "pc-testdev" => {
            no_keys(kv)?;
            config.pc_testdev = true;
        }
        "pci-testdev" => {
            no_keys(kv)?;
            config.pci_testdev = true;
        }
        "VGA" | "isa-vga" => config.vga = true,
        other => {
            return Err(CliError::usage(format!(
                "-device {other} is not supported yet (-device help lists them)"
            )));
        }
    }
    Ok(())
}

/// A device that takes no more than a name.
fn no_keys(mut kv: KeyVals) -> Result<(), CliError> {
    kv.take("id");
    kv.finish(&["id"])
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
            ("virtio-gpu-pci", "-device virtio-gpu-pci is not supported yet"),
        ] {
            let error = resolved(&drives, &[device]).map(|_| ()).unwrap_err();
            assert!(error.contains(expect), "{device}: {error}");
        }
        let twice = ["virtio-blk-pci,drive=x", "virtio-blk-pci,drive=x"];
        let error = resolved(&drives, &twice).map(|_| ()).unwrap_err();
        assert!(error.contains("drive x has its place"), "{error}");
    }
}
