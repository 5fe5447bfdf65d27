//! Host programs that build images: the installed ones, else those of a fetched package.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Arch, Error, Store};

/// Where administrators' programs are; an ordinary user's `PATH` leaves these out.
const SYSTEM_DIRS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// A program that may have to be fetched.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
    /// Packages of libraries that a machine without the tool may lack, too.
    pub(crate) libraries: &'static [&'static str],
}

/// GRUB's core image is made by it.
pub(crate) const GRUB_MKIMAGE: Tool = Tool {
    program: "grub-mkimage",
    package: "grub-common",
    libraries: &["libdevmapper1.02.1", "liblzma5", "libselinux1", "libudev1", "libpcre2-8-0"],
};

/// Makes the file system.
pub(crate) const MKE2FS: Tool =
    Tool { program: "mke2fs", package: "e2fsprogs", libraries: EXT_LIBRARIES };

/// Reads files back, and sets owners.
pub(crate) const DEBUGFS: Tool =
    Tool { program: "debugfs", package: "e2fsprogs", libraries: EXT_LIBRARIES };

/// Replays the journal and checks.
pub(crate) const E2FSCK: Tool =
    Tool { program: "e2fsck", package: "e2fsprogs", libraries: EXT_LIBRARIES };

const EXT_LIBRARIES: &[&str] = &["libext2fs2", "libcom-err2", "libss2", "libblkid1", "libuuid1"];

/// An installed program by name: in `PATH`, or where administrators' programs are.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(SYSTEM_DIRS.map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|file| file.is_file())
}

impl Tool {
    /// A command that runs it.
    pub(crate) fn command(&self, store: &Store) -> Result<Command, Error> {
        if let Some(path) = find_program(self.program) {
            return Ok(Command::new(path));
        }
        let package = store.package(Arch::Amd64, self.package)?;
        let path = in_package(&package, self.program).ok_or_else(|| Error::Contents {
            package: self.package.to_owned(),
            what: self.program.to_owned(),
        })?;
        let mut libraries = Vec::new();
        for library in self.libraries {
            let root = store.package(Arch::Amd64, library)?;
            libraries.extend(["lib", "usr/lib"].map(|dir| root.join(dir).join("x86_64-linux-gnu")));
        }
        let mut command = Command::new(path);
        if let Ok(libraries) = std::env::join_paths(libraries) {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        Ok(command)
    }
}

fn in_package(root: &Path, program: &str) -> Option<PathBuf> {
    let mut dirs = SYSTEM_DIRS.iter().map(|dir| root.join(&dir[1..]).join(program));
    dirs.find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found() {
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-here").is_none());
    }
}
