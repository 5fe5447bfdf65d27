//! Debian packages by name, with the system's apt: its sources, its keys, its proxy; lists and cache of our own.
//!
//! apt.conf(5) names the options. The configuration goes in by `-c`, which apt reads last, because only a file can
//! clear the system's hooks. apt checks every file against its signed lists.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use crate::store::Progress;
use crate::{Arch, Error, io};

/// apt with private state, for one architecture.
pub(crate) struct Apt {
    /// `ROOT/apt/ARCH`.
    dir: PathBuf,
    arch: Arch,
}

impl Apt {
    /// Makes folders and configuration.
    pub(crate) fn new(root: &Path, arch: Arch) -> Result<Self, Error> {
        let dir = root.join("apt").join(arch.name());
        for sub in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(sub)).map_err(io(&dir))?;
        }
        let at = dir.display();
        let name = arch.name();
        let status = dir.join("status");
        fs::write(&status, "").map_err(io(&status))?;
        let text = format!(
            "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n\
             #clear APT::Update::Post-Invoke-Success;\n#clear APT::Architectures;\n\
             Dir::State \"{at}\";\nDir::State::lists \"{at}/lists\";\n\
             Dir::State::status \"{at}/status\";\nDir::Cache \"{at}/cache\";\n\
             APT::Architecture \"{name}\";\nAPT::Architectures {{ \"{name}\"; }};\n\
             APT::Sandbox::User \"\";\nAcquire::Languages \"none\";\nAcquire::Retries \"2\";\n"
        );
        let conf = dir.join("apt.conf");
        fs::write(&conf, text).map_err(io(&conf))?;
        Ok(Self { dir, arch })
    }

    /// Are there lists of packages?
    pub(crate) fn has_lists(&self) -> bool {
        fs::read_dir(self.dir.join("lists")).is_ok_and(|entries| {
            entries
                .filter_map(Result::ok)
                .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
        })
    }

    /// Fetches the lists. A source that cannot be reached is no failure as long as another can: whether a package can
    /// be had shows when it is asked for.
    pub(crate) fn update(&self) -> Result<(), Error> {
        let output = self.command("apt-get").args(["-q", "update"]).output().map_err(no_apt)?;
        if self.has_lists() {
            return Ok(());
        }
        let line = last_line(&output);
        Err(Error::Failed { program: "apt-get update".into(), line })
    }

    /// The package beginning with `prefix` that `meta` depends on.
    pub(crate) fn dependency(&self, meta: &str, prefix: &str) -> Result<String, Error> {
        let mut command = self.command("apt-cache");
        let output = command.args(["depends", meta]).output().map_err(no_apt)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let found = text.lines().find_map(|line| depends_on(line, prefix));
        found.ok_or_else(|| self.refused(meta, &output))
    }

    /// Downloads a package into `to`; returns the file's path. Says how much has come, for large ones.
    pub(crate) fn download(
        &self,
        name: &str,
        to: &Path,
        progress: &Progress,
    ) -> Result<PathBuf, Error> {
        let mut command = self.command("apt-get");
        command.args(["-q", "download", name]).current_dir(to);
        let mut child = command.spawn().map_err(no_apt)?;
        let mut shown = 0;
        while child.try_wait().map_err(no_apt)?.is_none() {
            thread::sleep(Duration::from_millis(50));
            let sizes = files(to).into_iter().filter_map(|path| path.metadata().ok());
            let mib = sizes.map(|about| about.len()).sum::<u64>() >> 20;
            if mib >= shown + 4 {
                shown = mib;
                progress(&format!("fetching {name} ({}), {mib} MiB", self.arch.name()));
            }
        }
        let output = child.wait_with_output().map_err(no_apt)?;
        let file = files(to).into_iter().find(|path| path.extension().is_some_and(|e| e == "deb"));
        match file {
            Some(file) if output.status.success() => Ok(file),
            _ => Err(self.refused(name, &output)),
        }
    }

    fn refused(&self, package: &str, output: &Output) -> Error {
        let (package, arch) = (package.to_owned(), self.arch.name());
        Error::Package { package, arch, line: last_line(output) }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.dir.join("apt.conf")).env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Unpacks a `.deb` into `to`.
pub(crate) fn unpack(file: &Path, to: &Path) -> Result<(), Error> {
    let mut command = Command::new("dpkg-deb");
    let output = command.arg("-x").arg(file).arg(to).output();
    let output = output.map_err(|_| Error::NoProgram { program: "dpkg-deb", package: "dpkg" })?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Error::Failed { program: "dpkg-deb".into(), line: last_line(&output) }),
    }
}

/// Runs a program that makes something; `input` goes to its standard input.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Result<Output, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |line: String| Error::Failed { program: program.clone(), line };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why itself.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    match output.status.success() {
        true => Ok(output),
        false => Err(failed(last_line(&output))),
    }
}

fn no_apt(_: std::io::Error) -> Error {
    Error::NoProgram { program: "apt-get", package: "apt" }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(Result::ok).map(|entry| entry.path()).collect()
}

/// The package in a line `  Depends: NAME` of apt-cache, if it begins so.
fn depends_on(line: &str, prefix: &str) -> Option<String> {
    let name = line.trim_start().strip_prefix("Depends: ")?;
    // A name of another architecture is followed by it.
    let name = name.split(':').next().unwrap_or(name);
    name.starts_with(prefix).then(|| name.to_owned())
}

/// What a user should see of a program's output: its first error, else its last line.
fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().find(|line| line.starts_with("E: ")).or_else(|| lines().next_back());
    line.map_or_else(|| output.status.to_string(), |line| line.trim_start_matches("E: ").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read() {
        let line = "  Depends: linux-image-6.1.0-50-686";
        assert_eq!(depends_on(line, "linux-image-").unwrap(), "linux-image-6.1.0-50-686");
        let other = " |Depends: linux-image-6.1.0-50-686:i386";
        assert_eq!(depends_on(other, "linux-image-"), None, "an alternative is not the first");
        let line = "  Depends: linux-image-9:i386";
        assert_eq!(depends_on(line, "linux-image-").unwrap(), "linux-image-9");
        assert_eq!(depends_on("  Recommends: linux-image-9", "linux-image-"), None);
    }

    #[test]
    fn a_failing_program_says_why() {
        let error =
            run(Command::new("sh").args(["-c", "echo first >&2; echo E: why >&2; exit 3"]), b"");
        assert_eq!(error.unwrap_err().to_string(), "sh failed: why");
        let error = run(&mut Command::new("no-such-program-here"), b"").unwrap_err().to_string();
        assert!(error.starts_with("no-such-program-here failed: "), "{error}");
    }

    #[test]
    fn a_file_that_is_no_package_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.deb");
        fs::write(&file, "nonsense").unwrap();
        let error = unpack(&file, dir.path()).unwrap_err().to_string();
        assert!(error.contains("dpkg-deb"), "{error}");
    }
}
