//! The options that name disks: `IMAGE -hda…-hdd -cdrom -fda -fdb -drive -snapshot`.

use std::path::PathBuf;

use super::keyval::KeyVals;
use super::{Args, CliError};
use crate::disk::{Cache, DriveBus, DriveConfig, DriveSource, Format, Media};
use crate::machine::MachineConfig;

/// The keys of `-drive`.
const KEYS: &[&str] = &[
    "file", "format", "if", "index", "bus", "unit", "media", "id", "snapshot", "readonly", "cache",
    "backing", "serial", "discard",
];
/// `-drive help`.
const HELP: &str = "\
-drive KEY=VALUE,...   (a comma in a value is written twice)
  file=FILE            the image; none with media=cdrom or if=floppy: an empty drive
  format=raw|qcow2     without it the first bytes tell, and a disk found to be raw refuses writes
                       to sector 0 that would make it look like another format
  media=disk|cdrom     a CD is never written
  if=ide|virtio|none   what it is connected to; none: a -device names it by its id
  index=N              its place there: IDE 0-3, floppy 0-1; or bus=B,unit=U
  id=ID                its name in messages and in the monitor
  snapshot=on          writes go to a temporary file and are lost at the end
  readonly=on          writes are refused; the image is shared with other readers
  cache=writeback      writes are durable when the guest flushes (default)
  cache=writethrough   writes are durable at once
  cache=unsafe         flushes are ignored: a crash of the host may lose all
  serial=TEXT          the serial number of a virtio disk
  discard=unmap        what the guest discards on a raw virtio disk is given back to the host
  backing=on           a qcow2 image may read its backing file (names come from the image)
";
/// Keys about the host's ways of doing I/O, of which the guest sees nothing.
const QUIET: &[&str] = &["aio", "detect-zeroes"];

/// Most virtio devices: there are as many PCI slots left.
pub(super) const VIRTIO_MAX: usize = 29;

/// Fills in the drives.
pub(super) fn resolve(args: &Args, config: &mut MachineConfig) -> Result<(), CliError> {
    if args.image.is_some() && args.hda.is_some() {
        return Err(CliError::usage(
            "the disk image and -hda name the same disk; use -hdb for a second",
        ));
    }
    let named = [
        ("-hda", args.hda.as_ref().or(args.image.as_ref()), DriveBus::Ide, 0, Media::Disk),
        ("-hdb", args.hdb.as_ref(), DriveBus::Ide, 1, Media::Disk),
        ("-hdc", args.hdc.as_ref(), DriveBus::Ide, 2, Media::Disk),
        ("-hdd", args.hdd.as_ref(), DriveBus::Ide, 3, Media::Disk),
        ("-cdrom", args.cdrom.as_ref(), DriveBus::Ide, 2, Media::Cdrom),
        ("-fda", args.fda.as_ref(), DriveBus::Floppy, 0, Media::Disk),
        ("-fdb", args.fdb.as_ref(), DriveBus::Floppy, 1, Media::Disk),
    ];
    for (option, file, bus, slot, media) in named {
        let Some(file) = file else { continue };
        let drive = DriveConfig { bus, media, ..DriveConfig::file(file, slot) };
        place(option, drive, Some(slot), config)?;
    }
    for text in &args.drive {
        let (index, drive) = drive(text)?;
        place("-drive", drive, index, config)?;
    }
    config.drives.iter_mut().for_each(|drive| drive.snapshot |= args.snapshot);
    config.drives.sort_by_key(|drive| drive.slot);
    Ok(())
}

/// Puts a drive at its place on its bus, or at the first free one.
fn place(
    option: &str,
    mut drive: DriveConfig,
    index: Option<usize>,
    config: &mut MachineConfig,
) -> Result<(), CliError> {
    let (bus, places) = match drive.bus {
        DriveBus::Ide => ("IDE", 4),
        DriveBus::Floppy => ("floppy", 2),
        DriveBus::Virtio => ("virtio", VIRTIO_MAX),
        DriveBus::None => ("unconnected", 64),
    };
    let same = |other: &&DriveConfig| other.bus == drive.bus;
    let is_free = |slot: usize| config.drives.iter().filter(same).all(|other| other.slot != slot);
    drive.slot = match index {
        Some(slot) if slot >= places => {
            let last = places - 1;
            return Err(CliError::usage(format!("{option}: {bus} has places 0 to {last}")));
        }
        Some(slot) if is_free(slot) => slot,
        Some(slot) => {
            return Err(CliError::usage(format!("{option}: two drives at {bus} place {slot}")));
        }
        None => (0..places)
            .find(|&slot| is_free(slot))
            .ok_or_else(|| CliError::usage(format!("{option}: more than {places} {bus} drives")))?,
    };
    if !drive.id.is_empty() && config.drives.iter().any(|other| other.id == drive.id) {
        return Err(CliError::usage(format!("{option}: two drives with id={}", drive.id)));
    }
    config.drives.push(drive);
    Ok(())
}

fn drive(text: &str) -> Result<(Option<usize>, DriveConfig), CliError> {
    if matches!(text, "help" | "?") {
        return Err(CliError::Text(HELP.to_owned()));
    }
    let mut kv = KeyVals::parse("-drive", "", text);
    let file = kv.take("file").filter(|file| !file.is_empty());
    let format = one_of(&mut kv, "format", &[("raw", Format::Raw), ("qcow2", Format::Qcow2)])?;
    let buses = [
        ("ide", DriveBus::Ide),
        ("floppy", DriveBus::Floppy),
        ("virtio", DriveBus::Virtio),
        ("none", DriveBus::None),
    ];
    let bus = one_of(&mut kv, "if", &buses)?;
    let bus = bus.unwrap_or_default();
    let media = one_of(&mut kv, "media", &[("disk", Media::Disk), ("cdrom", Media::Cdrom)])?;
    let media = media.unwrap_or_default();
    let caches = [
        ("writeback", Cache::Writeback),
        ("writethrough", Cache::Writethrough),
        ("unsafe", Cache::Unsafe),
        // These bypass the host's page cache; what is durable when is the same.
        ("none", Cache::Writeback),
        ("directsync", Cache::Writethrough),
    ];
    let cache = one_of(&mut kv, "cache", &caches)?.unwrap_or_default();
    for errors in ["werror", "rerror"] {
        one_of(&mut kv, errors, &[("report", ())])?;
    }
    for quiet in QUIET {
        kv.take(quiet);
    }
    let discards = [("unmap", true), ("on", true), ("ignore", false), ("off", false)];
    let discard = one_of(&mut kv, "discard", &discards)?.unwrap_or(false);
    let is_removable = media == Media::Cdrom || bus == DriveBus::Floppy;
    let source = match file {
        Some(file) => DriveSource::File(PathBuf::from(file)),
        None if is_removable => DriveSource::Empty,
        None => return Err(CliError::usage("-drive: file=FILE is missing")),
    };
    let mut index = kv.take_number("index")?;
    let unit = kv.take_number("unit")?;
    if let Some(number) = kv.take_number("bus")? {
        let per_bus = if bus == DriveBus::Ide { 2 } else { 1 };
        index = Some(number.saturating_mul(per_bus).saturating_add(unit.unwrap_or(0)));
    } else if unit.is_some() {
        index = unit;
    }
    let drive = DriveConfig {
        bus,
        slot: 0,
        media,
        source,
        format,
        backing: kv.take_bool("backing")?.unwrap_or(false),
        snapshot: kv.take_bool("snapshot")?.unwrap_or(false),
        read_only: kv.take_bool("readonly")?.or(kv.take_bool("read-only")?).unwrap_or(false),
        cache,
        id: kv.take("id").unwrap_or_default(),
        serial: kv.take("serial").unwrap_or_default(),
        discard,
        boot_index: None,
    };
    kv.finish(KEYS)?;
    Ok((index.map(|index| usize::try_from(index).unwrap_or(usize::MAX)), drive))
}

/// Takes a value that is one of a few words.
fn one_of<T: Copy>(
    kv: &mut KeyVals,
    key: &str,
    words: &[(&str, T)],
) -> Result<Option<T>, CliError> {
    let Some(given) = kv.take(key) else { return Ok(None) };
    match words.iter().find(|(word, _)| *word == given) {
        Some((_, value)) => Ok(Some(*value)),
        None => {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let known = known.join(" ");
            Err(CliError::usage(format!("-drive: {key}={given} is not supported (known: {known})")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(args: Args) -> Result<Vec<DriveConfig>, String> {
        let mut config = MachineConfig::default();
        resolve(&args, &mut config).map_err(|error| error.to_string())?;
        Ok(config.drives)
    }

    fn drives(texts: &[&str]) -> Result<Vec<DriveConfig>, String> {
        let drive = texts.iter().map(|text| text.to_string()).collect();
        resolved(Args { drive, ..Args::default() })
    }

    #[test]
    fn places() {
        let args = Args {
            image: Some("a".into()),
            cdrom: Some("c".into()),
            drive: vec!["file=b".into(), "file=d,index=3,media=cdrom".into()],
            snapshot: true,
            ..Args::default()
        };
        let drives = resolved(args).unwrap();
        let names: Vec<_> = drives.iter().map(|drive| (drive.slot, drive.name())).collect();
        let names: Vec<_> = names.iter().map(|(slot, name)| (*slot, name.as_str())).collect();
        assert_eq!(names, [(0, "ide0-hd0"), (1, "ide0-hd1"), (2, "ide1-cd0"), (3, "ide1-cd1")]);
        assert!(drives.iter().all(|drive| drive.snapshot));
    }

    #[test]
    fn what_drive_says() {
        let all = "file=x,format=qcow2,if=ide,bus=1,unit=1,id=d0,cache=unsafe,backing=on,readonly=on,werror=report";
        let [drive] = &drives(&[all]).unwrap()[..] else { unreachable!("one drive") };
        assert_eq!(
            (drive.slot, drive.format, drive.cache),
            (3, Some(Format::Qcow2), Cache::Unsafe)
        );
        assert!(drive.backing && drive.read_only && !drive.snapshot);
        assert_eq!(drive.name(), "d0");
        let empty = &drives(&["media=cdrom"]).unwrap()[0];
        assert!(matches!(empty.source, DriveSource::Empty));
    }

    #[test]
    fn what_is_refused() {
        for (texts, expect) in [
            (&["format=raw"][..], "file=FILE is missing"),
            (&["file=a,format=vmdk"], "format=vmdk is not supported (known: raw qcow2)"),
            (&["file=a,if=scsi"], "if=scsi is not supported"),
            (&["file=a,index=4"], "IDE has places 0 to 3"),
            (&["file=a,bus=99999999999999999999"], "is not a number"),
            (&["file=a,index=0", "file=b,index=0"], "two drives at IDE place 0"),
            (&["file=a,id=x", "file=b,id=x"], "two drives with id=x"),
            (&["file=a", "file=b", "file=c", "file=d", "file=e"], "more than 4 IDE drives"),
            (&["file=a,if=floppy,index=2"], "floppy has places 0 to 1"),
            (&["file=a,cache=fast"], "cache=fast"),
            (&["file=a,werror=stop"], "werror=stop"),
            (&["file=a,backng=on"], "did you mean backing=?"),
        ] {
            let error = drives(texts).unwrap_err();
            assert!(error.contains(expect), "{texts:?}: {error}");
        }
    }
}
