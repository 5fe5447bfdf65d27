//! What is booted: disk images, kernels and dates are checked here, before a machine is built around them.

mod bzimage;
mod elf;
pub mod kernel;
mod multiboot;
pub mod plan;
mod pvh;
pub mod rom;

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

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

/// What is wrong with a disk image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is missing, or may not be opened.
    #[error("cannot open disk image {path}{hint}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What may help.
        hint: &'static str,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// It cannot be read.
    #[error("cannot read disk image {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// It is a directory.
    #[error("disk image {0} is a directory")]
    Directory(PathBuf),
    /// It has no bytes.
    #[error("disk image {0} is empty")]
    Empty(PathBuf),
    /// It has less than a sector.
    #[error("disk image {0} has {1} bytes, less than one sector of 512")]
    Short(PathBuf, u64),
    /// It is not a raw image.
    #[error(
        "disk image {0} is in {1} format, which is not supported yet: qemu-img convert -O raw {0} disk.img"
    )]
    Format(PathBuf, &'static str),
}

/// Checks that a raw disk image can be opened (for writing too, if it will be written), is not empty and is not
/// in another format.
///
/// # Errors
/// What is wrong with it.
pub fn check_image(path: &Path, writable: bool) -> Result<(), ImageError> {
    let owned = || path.to_owned();
    if path.is_dir() {
        return Err(ImageError::Directory(owned()));
    }
    let file = OpenOptions::new().read(true).write(writable).open(path);
    let mut file = file.map_err(|source| {
        let is_denied = source.kind() == io::ErrorKind::PermissionDenied;
        let hint = if writable && is_denied { " for writing (try -snapshot)" } else { "" };
        ImageError::Open { path: owned(), hint, source }
    })?;
    let read_error = |source| ImageError::Read { path: owned(), source };
    let about = file.metadata().map_err(read_error)?;
    if about.is_file() && about.len() == 0 {
        return Err(ImageError::Empty(owned()));
    }
    if about.is_file() && about.len() < SECTOR {
        return Err(ImageError::Short(owned(), about.len()));
    }
    let mut head = [0; 16];
    file.read_exact(&mut head).map_err(read_error)?;
    match FORMATS.iter().find(|(magic, _)| head.starts_with(magic)) {
        Some((_, format)) => Err(ImageError::Format(owned(), format)),
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

/// Seconds east of UTC of the host's time zone, from the second transition table of `/etc/localtime` (RFC 8536); 0
/// if it cannot be told.
pub fn utc_offset(now: i64) -> i64 {
    std::fs::read("/etc/localtime").ok().and_then(|zone| zone_offset(&zone, now)).unwrap_or(0)
}

fn zone_offset(zone: &[u8], now: i64) -> Option<i64> {
    let word = |at: usize| Some(i32::from_be_bytes(zone.get(at..at + 4)?.try_into().ok()?));
    let count = |header: usize, n: usize| usize::try_from(word(header + 20 + 4 * n)?).ok();
    if !zone.starts_with(b"TZif") {
        return None;
    }
    // Header: six counts (UT indicators, standard indicators, leap seconds, transitions, types, characters).
    let (leaps, times, types) = (count(0, 2)?, count(0, 3)?, count(0, 4)?);
    let first_len = times * 5 + types * 6 + count(0, 5)? + leaps * 8 + count(0, 1)? + count(0, 0)?;
    let second = 44 + first_len;
    let (times, types) = (count(second, 3)?, count(second, 4)?);
    let (at, kinds) = (second + 44, second + 44 + times * 8);
    let when =
        |n: usize| Some(i64::from_be_bytes(zone.get(at + n * 8..at + n * 8 + 8)?.try_into().ok()?));
    let past = (0..times).take_while(|&n| when(n).is_some_and(|t| t <= now)).count();
    let kind = past.checked_sub(1).map_or(Some(0), |n| zone.get(kinds + n).copied())?;
    if usize::from(kind) >= types {
        return None;
    }
    word(kinds + times + usize::from(kind) * 6).map(i64::from)
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
