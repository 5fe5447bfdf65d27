//! `stele demo linux`: Debian's kernel and busybox, fetched with apt, on a disk or an initramfs built here.

use std::io::{IsTerminal, Write};
use std::path::Path;

use guests::{Arch, Error, Linux, Store};

use crate::firmware;

/// How the demo starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// SeaBIOS, GRUB, kernel, root file system on ext4.
    #[default]
    Disk,
    /// Kernel and initramfs at once.
    Kernel,
}

/// What `demo linux` was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Width of the guest.
    pub arch: Arch,
    /// How it starts.
    pub start: Start,
}

impl Default for Request {
    fn default() -> Self {
        Self { arch: Arch::Amd64, start: Start::default() }
    }
}

/// Fetches and builds what is not there yet; returns the options that boot it.
pub fn options(request: Request) -> Result<Vec<String>, Error> {
    let line = ProgressLine::new();
    let store = Store::open(&Store::default_root(), Box::new(move |text| line.show(text)))?;
    let result = build(&store, request);
    ProgressLine::new().clear();
    result
}

fn build(store: &Store, request: Request) -> Result<Vec<String>, Error> {
    let arch = request.arch;
    let linux = Linux::fetch(store, arch, Linux::flavour(arch))?;
    let mut options: Vec<String> = ["-m", "256M", "-nographic"].map(str::to_owned).to_vec();
    if !firmware::is_installed() {
        let package = store.package(Arch::Amd64, "seabios")?;
        options.extend(["-L".to_owned(), text(&package.join("usr/share/seabios"))]);
    }
    match request.start {
        Start::Disk => {
            let disk = text(&linux.disk(store)?);
            options.extend(["-snapshot", "-hda", &disk].map(str::to_owned));
        }
        Start::Kernel => {
            let kernel = text(&linux.kernel.image);
            let initrd = text(&linux.initramfs(store)?);
            let words = ["-kernel", &kernel, "-initrd", &initrd, "-append", "console=ttyS0"];
            options.extend(words.map(str::to_owned));
        }
    }
    Ok(options)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// One line on stderr that is written over; plain lines if stderr is no terminal.
#[derive(Clone, Copy)]
struct ProgressLine {
    is_terminal: bool,
}

impl ProgressLine {
    fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal() }
    }

    fn show(self, text: &str) {
        let mut stderr = std::io::stderr().lock();
        // Nobody to read it is no reason to stop.
        let _ = match self.is_terminal {
            true => write!(stderr, "\r\x1b[Kdemo: {text} …"),
            false => writeln!(stderr, "demo: {text}"),
        };
        let _ = stderr.flush();
    }

    fn clear(self) {
        if self.is_terminal {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}
