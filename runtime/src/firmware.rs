//! Finds firmware: third-party images are never part of this project, they come from Debian packages.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::machine::{Firmware, MachineConfig};

/// Where Debian's packages put firmware.
const SYSTEM_DIRS: [&str; 2] = ["/usr/share/seabios", "/usr/share/qemu"];
/// The VGA card's option ROM.
const VGA_ROM: &str = "vgabios-stdvga.bin";
/// What the firmware maps in: whole 64 KiB blocks, at most 16 MiB below 4 GiB.
const GRANULE: usize = 64 << 10;
const MAX_FIRMWARE: u64 = 16 << 20;
/// An option ROM's largest size: 255 blocks of 512 bytes.
const MAX_OPTION_ROM: u64 = 255 * 512;

/// The images a machine starts with.
#[derive(Debug)]
pub struct Images {
    /// Firmware, a multiple of 64 KiB.
    pub firmware: Vec<u8>,
    /// Option ROM of the VGA card, if there is a card and its ROM was found.
    pub vga_rom: Option<Vec<u8>>,
}

/// Why there is no firmware.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// No directory has it.
    #[error(
        "firmware {0} not found: apt install seabios (or name a file with -bios, a directory with -L)"
    )]
    Missing(PathBuf),
    /// It is there and cannot be read.
    #[error("cannot read firmware {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// It is no firmware.
    #[error("firmware {0} has {1} bytes: must be a multiple of 64 KiB")]
    Size(PathBuf, usize),
}

/// Loads the images that `config` names.
///
/// # Errors
/// One line: which file, what is wrong, what to install.
pub fn load(config: &MachineConfig) -> Result<Images, FirmwareError> {
    let name = match &config.firmware {
        Firmware::Image(bytes) => {
            return Ok(Images { firmware: bytes.to_vec(), vga_rom: None });
        }
        Firmware::Search(name) => name,
    };
    let firmware = read(name, &config.firmware_dirs, MAX_FIRMWARE)?;
    if firmware.is_empty() || !firmware.len().is_multiple_of(GRANULE) {
        return Err(FirmwareError::Size(name.clone(), firmware.len()));
    }
    let vga_rom = if config.vga {
        // Firmware that was found by its path may well do without: SeaBIOS and its ROMs come as one package.
        let rom = read(Path::new(VGA_ROM), &config.firmware_dirs, MAX_OPTION_ROM);
        rom.inspect_err(|error| log::warn!("the VGA card has no option ROM: {error}")).ok()
    } else {
        None
    };
    Ok(Images { firmware, vga_rom })
}

/// Is SeaBIOS where Debian's package puts it?
pub fn is_installed() -> bool {
    let name = MachineConfig::default().firmware;
    let Firmware::Search(name) = name else { return true };
    SYSTEM_DIRS.iter().any(|dir| Path::new(dir).join(&name).is_file())
}

/// Reads `name`: as a path first, then from `dirs`, then from the system's directories.
fn read(name: &Path, dirs: &[PathBuf], limit: u64) -> Result<Vec<u8>, FirmwareError> {
    for path in candidates(name, dirs) {
        match read_limited(&path, limit) {
            Ok(bytes) => return Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(FirmwareError::Read { path, source }),
        }
    }
    Err(FirmwareError::Missing(name.to_owned()))
}

fn candidates(name: &Path, dirs: &[PathBuf]) -> Vec<PathBuf> {
    let is_plain = name.components().count() == 1;
    let system = SYSTEM_DIRS.iter().map(PathBuf::from);
    let searched = dirs.iter().cloned().chain(system).map(|dir| dir.join(name));
    let here = std::iter::once(name.to_owned());
    if is_plain { here.chain(searched).collect() } else { here.collect() }
}

fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_firmware_names_the_package() {
        let config = MachineConfig {
            firmware: Firmware::Search("no-such-firmware.bin".into()),
            ..MachineConfig::default()
        };
        let text = load(&config).unwrap_err().to_string();
        assert!(
            text.contains("no-such-firmware.bin") && text.contains("apt install seabios"),
            "{text}"
        );
        assert!(!text.contains('\n'));
    }

    #[test]
    fn a_path_is_not_searched_for() {
        let dirs = [PathBuf::from("/d")];
        assert_eq!(candidates(Path::new("./x"), &dirs).len(), 1);
        assert_eq!(candidates(Path::new("x"), &dirs).len(), 4);
    }

    #[test]
    fn the_demo_needs_no_file() {
        let config = MachineConfig {
            firmware: Firmware::Image(crate::demo::firmware().into()),
            ..MachineConfig::default()
        };
        assert_eq!(load(&config).unwrap().firmware.len(), crate::demo::FIRMWARE_SIZE);
    }
}
