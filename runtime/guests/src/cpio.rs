//! Archives in the "newc" format, which the kernel unpacks as its first root file system
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::path::Path;

use crate::{Error, io};

/// File type bits of `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// An archive that grows. All entries belong to root and carry one fixed time, so that equal contents give equal bytes.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// A folder.
    pub fn directory(&mut self, name: &str) -> &mut Self {
        self.entry(name, DIRECTORY | 0o755, (0, 0), &[])
    }

    /// A file with these permissions.
    pub fn file(&mut self, name: &str, permissions: u32, contents: &[u8]) -> &mut Self {
        self.entry(name, REGULAR | permissions, (0, 0), contents)
    }

    /// A file of the host's.
    pub fn host_file(
        &mut self,
        name: &str,
        permissions: u32,
        path: &Path,
    ) -> Result<&mut Self, Error> {
        let contents = std::fs::read(path).map_err(io(path))?;
        Ok(self.file(name, permissions, &contents))
    }

    /// A symbolic link.
    pub fn symlink(&mut self, name: &str, target: &str) -> &mut Self {
        self.entry(name, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    /// A character device.
    pub fn character(&mut self, name: &str, major: u32, minor: u32) -> &mut Self {
        self.entry(name, CHARACTER | 0o600, (major, minor), &[])
    }

    /// The archive's bytes, with its trailer.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) -> &mut Self {
        let size = u32::try_from(contents.len()).expect("a file of an initramfs is below 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("a name is short");
        self.entries += 1;
        let links = 1 + u32::from(mode & DIRECTORY != 0 && mode & REGULAR == 0);
        let fields =
            [self.entries, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_as_the_format_says() {
        let mut archive = Archive::default();
        archive.file("ab", 0o644, b"xyz").character("dev/null", 1, 3);
        let bytes = archive.finish();
        let first = "070701000000010000\
                     81A400000000000000000000000100000000000000030000000000000000\
                     0000000000000000000000030000";
        assert!(bytes.starts_with(first.as_bytes()), "{}", String::from_utf8_lossy(&bytes[..110]));
        assert_eq!(&bytes[110..126], b"ab\0\0\0\0xyz\x00070701");
        assert!(bytes.windows(10).any(|w| w == b"TRAILER!!!") && bytes.len() % 512 == 0);
    }

    #[test]
    fn equal_contents_are_equal_bytes() {
        let make = || {
            let mut archive = Archive::default();
            archive.directory("d").symlink("d/l", "../x");
            archive.finish()
        };
        assert_eq!(make(), make());
    }
}
