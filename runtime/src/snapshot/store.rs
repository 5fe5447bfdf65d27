//! Snapshots by name: files of one folder.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Info, SnapshotError, file};

/// The end of the file's name.
const SUFFIX: &str = ".stele";
/// Longest name.
const NAME_MAX: usize = 100;

/// The folder that holds a machine's snapshots.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Snapshots in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The file of the snapshot called `name`; a name with a slash is a file's path.
    ///
    /// # Errors
    /// The name cannot be one.
    pub fn path(&self, name: &str) -> Result<PathBuf, SnapshotError> {
        if name.contains('/') && !name.ends_with('/') && !name.contains('\0') {
            return Ok(name.into());
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.+:".contains(c);
        let is_name = !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(is_plain);
        if !is_name || name.starts_with('.') {
            return Err(SnapshotError::Name(name.to_owned()));
        }
        let name = name.strip_suffix(SUFFIX).unwrap_or(name);
        Ok(self.folder.join(format!("{name}{SUFFIX}")))
    }

    /// Deletes a snapshot. A machine that was loaded from it goes on.
    ///
    /// # Errors
    /// There is none of this name, it is another file, or the host refuses.
    pub fn delete(&self, name: &str) -> Result<(), SnapshotError> {
        let path = self.path(name)?;
        if !path.exists() {
            return Err(SnapshotError::Missing(name.to_owned()));
        }
        if let Err(SnapshotError::Other(path)) = file::info(&path) {
            return Err(SnapshotError::Other(path));
        }
        let deleted = std::fs::remove_file(&path);
        deleted.map_err(|source| SnapshotError::File { doing: "delete", path, source })
    }

    /// All snapshots of the folder with what their headers say, by name.
    ///
    /// # Errors
    /// The folder cannot be read. Files that are no snapshots are left out.
    pub fn list(&self) -> Result<Vec<(String, Info)>, SnapshotError> {
        let path = || self.folder.clone();
        let folder: &Path =
            if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder };
        let entries = std::fs::read_dir(folder).map_err(|source| SnapshotError::File {
            doing: "list",
            path: path(),
            source,
        })?;
        let mut found: Vec<(String, Info)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                let name = name.strip_suffix(SUFFIX)?.to_owned();
                Some((name, file::info(&entry.path()).ok()?))
            })
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }
}

/// A name for a snapshot without one: `vm-` and the second, UTC.
pub fn name_now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let digits = date_text(since.as_secs()).replace([' ', ':', '-'], "");
    format!("vm-{digits}")
}

/// Seconds since 1970 as `2026-01-31 12:34:56`, UTC.
pub fn date_text(seconds: u64) -> String {
    // Days are counted from 0000-03-01, so that the leap day is the last day of a year; a cycle of
    // the calendar has 400 years.
    let days = seconds / 86_400 + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let m = (5 * day + 2) / 153;
    let (month, day) = (if m < 10 { m + 3 } else { m - 9 }, day - (153 * m + 2) / 5 + 1);
    let year = cycle * 400 + year + u64::from(month < 3);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths() {
        let store = Store::new("dir");
        assert_eq!(store.path("a-1").unwrap(), Path::new("dir/a-1.stele"));
        assert_eq!(store.path("a.stele").unwrap(), Path::new("dir/a.stele"));
        assert_eq!(store.path("./x/y").unwrap(), Path::new("./x/y"));
        for bad in ["", ".", "..", "a b", "ü", "x/", "a\0/b", &"n".repeat(101)] {
            assert!(matches!(store.path(bad), Err(SnapshotError::Name(_))), "{bad:?}");
        }
    }

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_401, "2000-02-29 00:00:01"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_763_823_845, "2025-11-22 15:04:05"),
            (4_102_444_799, "2099-12-31 23:59:59"),
        ] {
            assert_eq!(date_text(seconds), text);
        }
    }

    #[test]
    fn only_snapshots_are_listed_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        std::fs::write(folder.path().join("no.stele"), b"something else").unwrap();
        assert_eq!(store.list().unwrap(), []);
        assert!(matches!(store.delete("no"), Err(SnapshotError::Other(_))));
        assert!(matches!(store.delete("nothing"), Err(SnapshotError::Missing(_))));
        assert!(Store::new("/nonexistent").list().is_err());
    }
}
