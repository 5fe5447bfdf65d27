//! Options about what is booted: `-kernel` and its companions, `-boot`, `-smbios`.

use super::keyval::KeyVals;
use super::{Args, CliError};
use crate::board::{SMBIOS_FIELDS, parse_uuid};
use crate::boot::kernel::{EntryMode, KernelConfig};
use crate::machine::MachineConfig;

/// The longest waits: firmware takes them as 16 bits of milliseconds.
const WAIT_MAX: u64 = 0xffff;

/// Reads them all, but `kernel-entry` of `-machine`.
pub(super) fn resolve(args: &Args, config: &mut MachineConfig) -> Result<(), CliError> {
    kernel(args, config)?;
    boot(args, config)?;
    args.smbios.iter().try_for_each(|text| smbios(text, config))?;
    match &args.uuid {
        Some(uuid) => smbios(&format!("type=1,uuid={uuid}"), config),
        None => Ok(()),
    }
}

fn kernel(args: &Args, config: &mut MachineConfig) -> Result<(), CliError> {
    let Some(path) = &args.kernel else {
        return match (&args.initrd, &args.append) {
            (None, None) => Ok(()),
            _ => Err(CliError::usage("-initrd, -append: there is no -kernel they belong to")),
        };
    };
    config.kernel = Some(KernelConfig {
        kernel: path.clone(),
        initrd: args.initrd.clone(),
        append: args.append.clone().unwrap_or_default(),
        ..KernelConfig::default()
    });
    Ok(())
}

/// `-machine kernel-entry=16|32|64`.
pub(super) fn kernel_entry(
    kv: &mut KeyVals,
    kernel: &mut Option<KernelConfig>,
) -> Result<(), CliError> {
    let Some(text) = kv.take("kernel-entry") else { return Ok(()) };
    let entry = match text.as_str() {
        "16" => EntryMode::Bits16,
        "32" => EntryMode::Bits32,
        "64" => EntryMode::Bits64,
        _ => {
            return Err(CliError::usage(format!(
                "-machine: kernel-entry={text} is not 16, 32 or 64"
            )));
        }
    };
    match kernel {
        Some(kernel) => kernel.entry = entry,
        None => return Err(CliError::usage("-machine: kernel-entry without -kernel")),
    }
    Ok(())
}

fn boot(args: &Args, config: &mut MachineConfig) -> Result<(), CliError> {
    let Some(text) = &args.boot else { return Ok(()) };
    let mut kv = KeyVals::parse("-boot", "order", text);
    if let Some(order) = kv.take("order") {
        config.boot_order = letters(order)?;
    }
    config.boot_once = kv.take("once").map(letters).transpose()?;
    config.boot_menu = kv.take_bool("menu")?.unwrap_or(false);
    config.boot_strict = kv.take_bool("strict")?.unwrap_or(false);
    config.boot_menu_wait = wait(&mut kv, "splash-time")?;
    config.boot_fail_wait = wait(&mut kv, "reboot-timeout")?;
    if kv.take("splash").is_some() {
        eprintln!("stele: -boot: splash is ignored, there are no boot pictures");
    }
    kv.finish(&["order", "once", "menu", "splash-time", "reboot-timeout"])
}

fn letters(order: String) -> Result<String, CliError> {
    let is_known = |c| matches!(c, 'a' | 'b' | 'c' | 'd' | 'n');
    let is_twice = |(i, c): (usize, char)| order[..i].contains(c);
    if order.is_empty() || !order.chars().all(is_known) {
        return Err(CliError::usage(format!("-boot: order {order} must be of a c d n")));
    }
    if order.char_indices().any(is_twice) {
        return Err(CliError::usage(format!("-boot: order {order} names a device twice")));
    }
    Ok(order)
}

fn wait(kv: &mut KeyVals, key: &str) -> Result<Option<u16>, CliError> {
    match kv.take_number(key)? {
        Some(ms) if ms > WAIT_MAX => {
            Err(CliError::usage(format!("-boot: {key}={ms} is more than {WAIT_MAX} ms")))
        }
        ms => Ok(ms.map(|ms| ms as u16)),
    }
}

/// `type=N,field=value,…`
fn smbios(text: &str, config: &mut MachineConfig) -> Result<(), CliError> {
    let mut kv = KeyVals::parse("-smbios", "", text);
    if kv.take("file").is_some() {
        return Err(CliError::usage("-smbios: file= is not supported, only type=N,field=value"));
    }
    let Some(kind) = kv.take_number("type")? else {
        return Err(CliError::usage("-smbios needs type=N,field=value"));
    };
    let fields = SMBIOS_FIELDS.iter().find(|(known, _)| u64::from(*known) == kind);
    let Some((kind, names)) = fields else {
        return Err(CliError::usage(format!("-smbios: type={kind} is none of 0 1 3 4 11 17")));
    };
    let mut taken = Vec::new();
    for name in *names {
        while let Some(value) = kv.take_first(name) {
            if *name == "uuid" && parse_uuid(&value).is_none() {
                return Err(CliError::usage(format!("-uuid, -smbios: {value} is no UUID")));
            }
            taken.push((*kind, (*name).to_owned(), value));
        }
    }
    config.smbios.extend(taken);
    kv.finish(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(change: impl Fn(&mut Args)) -> Result<MachineConfig, String> {
        let mut args = Args::default();
        change(&mut args);
        let mut config = MachineConfig::default();
        resolve(&args, &mut config).map(|()| config).map_err(|error| error.to_string())
    }

    #[test]
    fn boot_orders() {
        let boot = |text: &str| resolved(|args| args.boot = Some(text.into()));
        let config = boot("order=dc,once=a,menu=on,splash-time=5000").unwrap();
        assert_eq!((config.boot_order.as_str(), config.boot_once.as_deref()), ("dc", Some("a")));
        assert!(config.boot_menu && config.boot_menu_wait == Some(5000));
        assert_eq!(boot("d").unwrap().boot_order, "d");
        assert_eq!(boot("x").unwrap_err(), "-boot: order x must be of a c d n");
        assert_eq!(boot("cc").unwrap_err(), "-boot: order cc names a device twice");
        assert!(boot("splash-time=70000").unwrap_err().contains("65535"));
        assert!(boot("oder=c").unwrap_err().contains("did you mean order"));
    }

    #[test]
    fn smbios_fields() {
        let smbios = |text: &str| resolved(|args| args.smbios = vec![text.into()]);
        let config = smbios("type=1,serial=42,product=A,,B").unwrap();
        assert!(config.smbios.contains(&(1, "product".into(), "A,B".into())));
        assert_eq!(smbios("type=11,value=a,value=b").unwrap().smbios.len(), 2);
        assert!(smbios("serial=1").unwrap_err().contains("type=N"));
        assert!(smbios("type=9").unwrap_err().contains("none of"));
        assert!(smbios("type=1,uuid=5").unwrap_err().contains("no UUID"));
        assert!(smbios("type=1,seral=5").unwrap_err().contains("did you mean serial"));
    }

    #[test]
    fn kernels_and_their_companions() {
        let error = resolved(|args| args.append = Some("quiet".into())).unwrap_err();
        assert_eq!(error, "-initrd, -append: there is no -kernel they belong to");
        let config = resolved(|args| args.kernel = Some("k".into())).unwrap();
        let mut kernel = config.kernel;
        let mut entry = |text| {
            kernel_entry(&mut KeyVals::parse("-machine", "type", text), &mut kernel)
                .map_err(|error| error.to_string())
        };
        assert!(entry("pc,kernel-entry=64").is_ok());
        assert!(entry("pc,kernel-entry=8").unwrap_err().contains("16, 32 or 64"));
        assert_eq!(kernel.unwrap().entry, EntryMode::Bits64);
    }
}
