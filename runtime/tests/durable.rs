//! What a guest has flushed is on the disk, whatever happens to the process; and one image has one writer.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use devices::block::{BlockDev, SECTOR};
use stele::disk::{self, DriveConfig, Format};

/// A boot sector that writes sector 100 full of 5Ah by PIO, ends with `flush` (FLUSH CACHE or NOP), says K to port
/// E9h and waits for ever.
fn boot_sector(flush: u8) -> [u8; SECTOR] {
    #[rustfmt::skip]
    let code = [
        0xba, 0xf6, 0x01, 0xb0, 0xe0, 0xee,             // device 0, LBA
        0xba, 0xf2, 0x01, 0xb0, 0x01, 0xee,             // one sector
        0x42, 0xb0, 0x64, 0xee,                         // number 100
        0x42, 0x30, 0xc0, 0xee, 0x42, 0xee,
        0xba, 0xf7, 0x01, 0xb0, 0x30, 0xee,             // WRITE SECTORS
        0xec, 0xa8, 0x08, 0x74, 0xfb,                   // until DRQ
        0xba, 0xf0, 0x01, 0xb9, 0x00, 0x01,
        0xb8, 0x5a, 0x5a, 0xef, 0xe2, 0xfd,             // 256 words
        0xba, 0xf7, 0x01, 0xec, 0xa8, 0x80, 0x75, 0xfb, // until not BSY
        0xb0, flush, 0xee, 0xec, 0xa8, 0x80, 0x75, 0xfb,
        0xb0, 0x4b, 0xe6, 0xe9, 0xf4, 0xeb, 0xfd,
    ];
    let mut sector = [0; SECTOR];
    sector[..code.len()].copy_from_slice(&code);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

const FLUSH_CACHE: u8 = 0xe7;
const CHECK_POWER_MODE: u8 = 0xe5;

struct Bench {
    dir: tempfile::TempDir,
    format: Format,
}

impl Bench {
    /// An image of 1 MiB with the boot sector; `None` if there is no SeaBIOS to start it.
    fn new(format: Format, flush: u8) -> Option<Self> {
        if !Path::new("/usr/share/seabios/bios-256k.bin").exists() {
            assert!(std::env::var_os("STELE_REQUIRE_ALL").is_none(), "seabios is missing");
            eprintln!("SKIPPED: no SeaBIOS here (apt install seabios)");
            return None;
        }
        let bench = Self { dir: tempfile::tempdir().expect("a temporary directory"), format };
        match format {
            Format::Raw => std::fs::write(bench.image(), vec![0; 1 << 20]).expect("room for it"),
            Format::Qcow2 => {
                use imago::{FormatCreateBuilder, Storage, StorageCreateOptions};
                let options = StorageCreateOptions::new().filename(bench.image());
                let file = imago::file::File::create_open(options).expect("room for it");
                let image = imago::qcow2::Qcow2::<imago::file::File>::create_builder(file);
                image.size(1 << 20).create().expect("a new image");
            }
        }
        let mut disk = bench.disk();
        disk.write(0, &boot_sector(flush)).expect("it is writable");
        disk.flush().expect("it is writable");
        Some(bench)
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("disk.img")
    }

    fn disk(&self) -> Box<dyn BlockDev> {
        let config =
            DriveConfig { format: Some(self.format), ..DriveConfig::file(self.image(), 0) };
        disk::open(&config).expect("nobody else has it").expect("it is a disk")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stele"));
        let format = if self.format == Format::Raw { "raw" } else { "qcow2" };
        let said = self.dir.path().join("said");
        command.args(["-m", "16", "-display", "none", "-vga", "none", "-drive"]);
        command.arg(format!("file={},format={format}", self.image().display()));
        command.arg("-debugcon").arg(format!("file:{}", said.display()));
        command.stdin(Stdio::null());
        command
    }

    /// Starts a machine and waits until the guest has written.
    fn start(&self) -> Child {
        let mut child = self.command().spawn().expect("stele starts");
        let start = Instant::now();
        while std::fs::read(self.dir.path().join("said")).unwrap_or_default() != b"K" {
            let ended = child.try_wait().expect("it is ours");
            assert!(ended.is_none(), "stele ended before the guest wrote: {ended:?}");
            assert!(start.elapsed() < Duration::from_secs(60), "the guest does not write");
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }

    #[track_caller]
    fn check_written(&self) {
        let mut sector = [0; SECTOR];
        self.disk().read(100, &mut sector).expect("it is readable");
        assert_eq!(sector, [0x5a; SECTOR]);
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(status.expect("kill is everywhere").success());
}

#[test]
fn a_killed_process_loses_nothing_flushed() {
    for format in [Format::Raw, Format::Qcow2] {
        let Some(bench) = Bench::new(format, FLUSH_CACHE) else { return };
        let mut child = bench.start();
        child.kill().expect("it is running");
        child.wait().expect("it is ours");
        bench.check_written();
    }
}

#[test]
fn a_terminated_process_flushes_in_time() {
    for format in [Format::Raw, Format::Qcow2] {
        let Some(bench) = Bench::new(format, CHECK_POWER_MODE) else { return };
        let mut child = bench.start();
        let start = Instant::now();
        signal(&child, "-TERM");
        assert_eq!(child.wait().expect("it is ours").code(), Some(143));
        assert!(start.elapsed() < Duration::from_secs(5));
        bench.check_written();
    }
}

#[test]
fn a_second_machine_is_told() {
    let Some(bench) = Bench::new(Format::Qcow2, FLUSH_CACHE) else { return };
    let mut child = bench.start();
    let second = bench.command().output().expect("stele starts");
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("in use by another process: failed to get \"write\" lock"), "{said}");
    assert_eq!(said.lines().count(), 1);
    child.kill().expect("it is running");
    child.wait().expect("it is ours");
}
