//! What is booted: disk images and dates are checked here, before a machine is built around them.

use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow, bail};

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// First bytes of image formats that a raw disk would read as rubbish.
const FORMATS: &[(&[u8], &str)] = &[
    (b"QFI\xfb", "qcow2"),
    (b"KDMV", "vmdk"),
    (b"conectix", "vhd"),
    (b"vhdxfile", "vhdx"),
    (b"<<< ", "vdi"),
];

/// Checks that a raw disk image can be opened (for writing too, if it will be written), is not empty and is not
/// in another format.
///
/// # Errors
/// One line that names the file and what is wrong with it.
pub fn check_image(path: &Path, writable: bool) -> anyhow::Result<()> {
    let name = path.display();
    let mut file = OpenOptions::new().read(true).write(writable).open(path).with_context(|| {
        let way = if writable { " for writing (try snapshot=on)" } else { "" };
        let way = if path.exists() { way } else { "" };
        format!("cannot open disk image {name}{way}")
    })?;
    let about = file.metadata().with_context(|| format!("cannot read disk image {name}"))?;
    if about.is_dir() {
        bail!("disk image {name} is a directory");
    }
    if about.is_file() && about.len() == 0 {
        bail!("disk image {name} is empty");
    }
    if about.is_file() && about.len() < SECTOR {
        bail!("disk image {name} has {} bytes, less than one sector of 512", about.len());
    }
    let mut head = [0; 16];
    file.read_exact(&mut head).with_context(|| format!("cannot read disk image {name}"))?;
    match FORMATS.iter().find(|(magic, _)| head.starts_with(magic)) {
        Some((_, format)) => Err(anyhow!(
            "disk image {name} is in {format} format, which is not supported yet: qemu-img convert -O raw {name} disk.img"
        )),
        None => Ok(()),
    }
}

/// Seconds since 1970 of `2026-01-31T12:34:56` or `2026-01-31`, UTC.
pub fn parse_date(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last_day = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1970..=9999).contains(&year) || !(1..=last_day).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days since 1970-01-01, counting years from March so that the leap day is the last day of a year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let parts: Vec<u16> =
        text.split(separator).map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [a, b, c] = parts[..] else { return None };
    Some([a.into(), b.into(), c.into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (text, seconds) in [
            ("1970-01-01", Some(0)),
            ("2000-02-29T00:00:01", Some(951_782_401)),
            ("2025-11-22T15:04:05", Some(1_763_823_845)),
            ("1900-01-01", None),
            ("2025-02-29", None),
            ("2025-13-01", None),
            ("2025-01-01T24:00:00", None),
            ("utc", None),
            ("", None),
        ] {
            assert_eq!(parse_date(text), seconds, "{text}");
        }
    }
}
