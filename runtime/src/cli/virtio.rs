//! Virtio devices and what firmware boots: `-device virtio-…`, `virtconsole`, `virtserialport`, `ide-hd`, `ide-cd`, and the
//! network options `-netdev -nic -net`.

use devices::virtio::PORTS_MAX;

use super::chardevs::{self, Chars};
use super::keyval::KeyVals;
use super::{Args, CliError};
use crate::disk::{DriveBus, DriveConfig, Media};
use crate::machine::{ConsoleConfig, MachineConfig, NicConfig, PortConfig, SocketTarget};

/// The first bytes of cards' addresses that the user has not chosen, as QEMU's.
const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
/// Longest name of a port.
const NAME_MAX: usize = 63;

/// The far ends that `-netdev` names.
pub(super) struct Cables {
    named: Vec<(String, Option<SocketTarget>)>,
}

impl Cables {
    /// Reads `-netdev`, and the cards of `-nic` and `-net`.
    pub(super) fn new(args: &Args, config: &mut MachineConfig) -> Result<Self, CliError> {
        let mut it = Self { named: Vec::new() };
        for text in &args.netdev {
            let mut kv = KeyVals::parse("-netdev", "type", text);
            let id = kv.take("id").ok_or_else(|| CliError::usage("-netdev: id=ID is missing"))?;
            let cable = cable("-netdev", &mut kv)?;
            kv.finish(&["type", "id", "connect", "listen"])?;
            if it.named.iter().any(|(known, _)| *known == id) {
                return Err(CliError::usage(format!("-netdev: two with id={id}")));
            }
            it.named.push((id, cable));
        }
        for text in &args.nic {
            let mut kv = KeyVals::parse("-nic", "type", text);
            if text == "none" {
                continue;
            }
            let model = kv.take("model").unwrap_or_else(|| "virtio".into());
            if !matches!(model.as_str(), "virtio" | "virtio-net-pci") {
                let text = format!("-nic: model={model} is not supported, only virtio");
                return Err(CliError::usage(text));
            }
            let mac = mac(&mut kv, config)?;
            let cable = cable("-nic", &mut kv)?;
            kv.take("id");
            kv.finish(&["type", "id", "connect", "listen", "mac", "model"])?;
            config.nics.push(NicConfig { mac, cable, boot_index: None });
        }
        if args.net.iter().any(|net| net != "none") {
            return Err(CliError::usage("-net: only none; use -nic or -netdev with -device"));
        }
        Ok(it)
    }

    /// `virtio-net-pci`.
    pub(super) fn card(&self, mut kv: KeyVals, config: &mut MachineConfig) -> Result<(), CliError> {
        let cable = match kv.take("netdev") {
            None => None,
            Some(id) => {
                let found = self.named.iter().find(|(known, _)| *known == id);
                let found = found.ok_or_else(|| {
                    CliError::usage(format!("-device: there is no -netdev with id={id}"))
                })?;
                found.1.clone()
            }
        };
        let mac = mac(&mut kv, config)?;
        let boot_index = boot_index(&mut kv)?;
        kv.take("id");
        kv.finish(&["netdev", "mac", "id", "bootindex"])?;
        config.nics.push(NicConfig { mac, cable, boot_index });
        Ok(())
    }
}

/// Where a cable leads: `socket` to another machine.
fn cable(option: &str, kv: &mut KeyVals) -> Result<Option<SocketTarget>, CliError> {
    let kind = kv.take("type").unwrap_or_default();
    if kind != "socket" {
        return Err(CliError::usage(format!(
            "{option} {kind} is not supported: socket joins two machines, -nic none is no card"
        )));
    }
    let (place, server) = match (kv.take("connect"), kv.take("listen")) {
        (Some(place), None) => (place, false),
        (None, Some(place)) => (place, true),
        _ => return Err(CliError::usage(format!("{option} socket: give connect= or listen="))),
    };
    let address = chardevs::tcp(&place).ok_or_else(|| {
        CliError::usage(format!("{option} socket: {place} is no HOST:PORT (or :PORT)"))
    })?;
    Ok(Some(SocketTarget { address, server, wait: false }))
}

/// The address the user gives a card, or the next one.
fn mac(kv: &mut KeyVals, config: &MachineConfig) -> Result<[u8; 6], CliError> {
    let Some(text) = kv.take("mac") else {
        let mut mac = MAC;
        mac[5] = mac[5].wrapping_add(config.nics.len() as u8);
        return Ok(mac);
    };
    let bytes: Vec<u8> =
        text.split([':', '-']).map_while(|part| u8::from_str_radix(part, 16).ok()).collect();
    match <[u8; 6]>::try_from(bytes) {
        Ok(mac) if mac[0] & 1 == 0 && text.len() <= 17 => Ok(mac),
        _ => Err(CliError::usage(format!("mac={text} is no card's address (52:54:00:12:34:56)"))),
    }
}

fn boot_index(kv: &mut KeyVals) -> Result<Option<u32>, CliError> {
    let Some(index) = kv.take_number("bootindex")? else { return Ok(None) };
    let index = u32::try_from(index);
    index.map(Some).map_err(|_| CliError::usage("-device: bootindex is too large"))
}

/// The drive that a `-device` takes, which `-drive if=none` has left free.
fn free_drive<'a>(
    driver: &str,
    kv: &mut KeyVals,
    config: &'a mut MachineConfig,
) -> Result<&'a mut DriveConfig, CliError> {
    let id = kv.take("drive").ok_or_else(|| {
        CliError::usage(format!(
            "-device {driver}: drive=ID is missing (with -drive if=none,id=ID)"
        ))
    })?;
    let drive = config.drives.iter_mut().find(|drive| drive.id == id);
    let drive = drive.ok_or_else(|| {
        CliError::usage(format!("-device {driver}: there is no -drive with id={id}"))
    })?;
    match drive.bus {
        DriveBus::None => Ok(drive),
        _ => Err(CliError::usage(format!(
            "-device {driver}: drive {id} has its place (if=none leaves it free)"
        ))),
    }
}

/// `virtio-blk-pci`: connects a `-drive if=none` to a virtio device.
pub(super) fn disk(mut kv: KeyVals, config: &mut MachineConfig) -> Result<(), CliError> {
    let boot_index = boot_index(&mut kv)?;
    let serial = kv.take("serial");
    kv.take("id"); // a name for the user
    let is_virtio = |drive: &&DriveConfig| drive.bus == DriveBus::Virtio;
    let slot = config.drives.iter().filter(is_virtio).map(|drive| drive.slot + 1).max();
    let drive = free_drive("virtio-blk-pci", &mut kv, config)?;
    kv.finish(&["drive", "serial", "id", "bootindex"])?;
    drive.bus = DriveBus::Virtio;
    drive.slot = slot.unwrap_or(0);
    drive.boot_index = boot_index;
    if let Some(serial) = serial {
        drive.serial = serial;
    }
    Ok(())
}

/// `ide-hd` and `ide-cd`: connects a `-drive if=none` to an IDE channel.
pub(super) fn ide(
    driver: &'static str,
    mut kv: KeyVals,
    config: &mut MachineConfig,
) -> Result<(), CliError> {
    let boot_index = boot_index(&mut kv)?;
    kv.take("id");
    let bus = match kv.take("bus").as_deref() {
        None => None,
        Some("ide.0") => Some(0),
        Some("ide.1") => Some(1),
        Some(bus) => {
            return Err(CliError::usage(format!("-device {driver}: bus={bus} is no ide.0, ide.1")));
        }
    };
    let unit = kv.take_number("unit")?;
    let is_taken = |config: &MachineConfig, slot| {
        config.drives.iter().any(|drive| drive.bus == DriveBus::Ide && drive.slot == slot)
    };
    let mut places = (0..4usize).filter(|place| {
        bus.is_none_or(|bus| place / 2 == bus)
            && unit.is_none_or(|unit| (place % 2) as u64 == unit)
            && !is_taken(config, *place)
    });
    let slot = places
        .next()
        .ok_or_else(|| CliError::usage(format!("-device {driver}: no such IDE place is free")))?;
    let drive = free_drive(driver, &mut kv, config)?;
    kv.finish(&["drive", "bus", "unit", "id", "bootindex"])?;
    drive.slot = slot;
    drive.bus = DriveBus::Ide;
    drive.media = if driver == "ide-cd" { Media::Cdrom } else { Media::Disk };
    drive.boot_index = boot_index;
    Ok(())
}

/// `virtio-serial-pci`: a device for the consoles and ports that follow.
pub(super) fn serial(mut kv: KeyVals, config: &mut MachineConfig) -> Result<(), CliError> {
    let id = kv.take("id").unwrap_or_default();
    kv.take_number("max_ports")?;
    kv.finish(&["id", "max_ports"])?;
    config.consoles.push(ConsoleConfig { id, ports: vec![None] });
    Ok(())
}

/// `virtconsole` and `virtserialport`; without a `virtio-serial-pci` before them they bring one along.
pub(super) fn port(
    driver: &'static str,
    mut kv: KeyVals,
    chars: &mut Chars,
    config: &mut MachineConfig,
) -> Result<(), CliError> {
    let is_console = driver == "virtconsole";
    let id = kv.take("chardev");
    let id =
        id.ok_or_else(|| CliError::usage(format!("-device {driver}: chardev=ID is missing")))?;
    let name = kv.take("name").unwrap_or_default();
    if name.len() > NAME_MAX {
        return Err(CliError::usage(format!("-device {driver}: name= is too long")));
    }
    let bus = kv.take("bus");
    let wanted = kv.take_number("nr")?;
    kv.take("id");
    kv.finish(&["chardev", "name", "bus", "nr", "id"])?;
    let target = chars
        .named(if is_console { "-device virtconsole" } else { "-device virtserialport" }, &id)?;
    if config.consoles.is_empty() {
        config.consoles.push(ConsoleConfig { id: String::new(), ports: vec![None] });
    }
    let device = match &bus {
        // "ID.0" is the bus of the device called ID.
        Some(bus) => config.consoles.iter_mut().find(|c| bus.strip_suffix(".0") == Some(&c.id)),
        None => config.consoles.last_mut(),
    };
    let device = device.ok_or_else(|| {
        let bus = bus.unwrap_or_default();
        CliError::usage(format!("-device {driver}: there is no virtio-serial-pci for bus={bus}"))
    })?;
    // Port 0 is a console's: drivers without several ports know no other.
    let first = usize::from(!is_console);
    let ports = &mut device.ports;
    let place = match wanted {
        Some(nr) => usize::try_from(nr).unwrap_or(usize::MAX),
        None => (first..).find(|&nr| ports.get(nr).is_none_or(Option::is_none)).unwrap_or(first),
    };
    if place >= PORTS_MAX || place < first || ports.get(place).is_some_and(Option::is_some) {
        return Err(CliError::usage(format!("-device {driver}: port {place} is not to be had")));
    }
    if ports.len() <= place {
        ports.resize_with(place + 1, || None);
    }
    ports[place] = Some(PortConfig { target, name, is_console });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{devices, drives};
    use crate::machine::CharTarget;

    fn resolved(change: impl Fn(&mut Args)) -> Result<MachineConfig, String> {
        let mut args = Args { serial: vec!["null".into()], ..Args::default() };
        change(&mut args);
        let mut config = MachineConfig::default();
        drives::resolve(&args, &mut config).map_err(|error| error.to_string())?;
        devices::resolve(&args, &mut config).map_err(|error| error.to_string())?;
        Ok(config)
    }

    fn own(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_string()).collect()
    }

    #[test]
    fn consoles_and_ports() {
        let config = resolved(|args| {
            args.chardev = own(&["null,id=a", "null,id=b", "null,id=c", "null,id=d"]);
            args.device = own(&[
                "virtconsole,chardev=a",
                "virtserialport,chardev=b,name=org.x.0",
                "virtio-serial-pci,id=two",
                "virtserialport,chardev=c,bus=two.0,nr=4",
                "virtconsole,chardev=d,bus=two.0",
            ]);
        });
        let config = config.unwrap();
        let shape = |n: usize| -> Vec<_> {
            let ports = config.consoles[n].ports.iter();
            ports.map(|port| port.as_ref().map(|p| (p.is_console, p.name.clone()))).collect()
        };
        assert_eq!(shape(0), [Some((true, String::new())), Some((false, "org.x.0".into()))]);
        assert_eq!(
            shape(1),
            [Some((true, String::new())), None, None, None, Some((false, String::new()))]
        );
        let target = config.consoles[0].ports[0].as_ref().map(|port| port.target.clone());
        assert!(matches!(target, Some(CharTarget::Chardev(id)) if id == "a"));
        for (device, expect) in [
            ("virtconsole", "chardev=ID is missing"),
            ("virtconsole,chardev=z", "there is no -chardev with id=z"),
            ("virtconsole,chardev=a,bus=x.0", "no virtio-serial-pci for bus=x.0"),
            ("virtserialport,chardev=a,nr=0", "port 0 is not to be had"),
            ("virtserialport,chardev=a,nr=99", "port 99 is not to be had"),
        ] {
            let error = resolved(|args| {
                args.chardev = own(&["null,id=a"]);
                args.device = own(&[device]);
            });
            let error = error.map(|_| ()).unwrap_err();
            assert!(error.contains(expect), "{device}: {error}");
        }
    }

    #[test]
    fn network_cards() {
        let config = resolved(|args| {
            args.netdev = own(&["socket,id=n,listen=:1234"]);
            args.nic = own(&["none", "socket,connect=h:5,mac=02:00:00:00:00:01"]);
            args.device = own(&["virtio-net-pci,netdev=n", "virtio-net-pci,bootindex=1"]);
        });
        let nics = config.unwrap().nics;
        let listens: Vec<_> =
            nics.iter().map(|nic| nic.cable.as_ref().map(|cable| cable.server)).collect();
        assert_eq!(listens, [Some(false), Some(true), None]);
        assert_eq!((nics[0].mac[0], nics[1].mac[5], nics[2].mac[5]), (2, 0x57, 0x58));
        assert_eq!(nics[2].boot_index, Some(1));
        for (nic, expect) in [
            ("user", "-nic user is not supported"),
            ("socket", "give connect= or listen="),
            ("socket,connect=x", "x is no HOST:PORT"),
            ("socket,connect=h:1,mac=zz", "mac=zz is no card's address"),
            ("socket,connect=h:1,mac=01:00:00:00:00:00", "is no card's address"),
            ("socket,connect=h:1,model=e1000", "only virtio"),
        ] {
            let error = resolved(|args| args.nic = own(&[nic])).map(|_| ()).unwrap_err();
            assert!(error.contains(expect), "{nic}: {error}");
        }
    }

    #[test]
    fn drives_by_device() {
        let drives = ["file=a,if=none,id=x", "file=b,if=none,id=y", "file=c,index=0"];
        let config = resolved(|args| {
            args.drive = own(&drives);
            args.device = own(&["ide-hd,drive=x,bootindex=3", "ide-cd,drive=y,bus=ide.1,unit=1"]);
        });
        let mut drives: Vec<_> = config.unwrap().drives;
        drives.sort_by_key(|drive| drive.slot);
        let shape: Vec<_> =
            drives.iter().map(|d| (d.slot, d.media == Media::Cdrom, d.boot_index)).collect();
        assert_eq!(shape, [(0, false, None), (1, false, Some(3)), (3, true, None)]);
        let error = resolved(|args| {
            args.drive = own(&["file=a,if=none,id=x"]);
            args.device = own(&["ide-hd,drive=x,unit=2"]);
        });
        assert!(error.map(|_| ()).unwrap_err().contains("no such IDE place"));
    }
}
