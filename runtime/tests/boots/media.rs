//! Boot media as Debian ships them: GRUB's rescue CD and floppy, memtest86+, the installer.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::{Duration, Instant};

use guests::Arch;

use crate::support::{Guest, Monitor, or_skip, store};

/// A file of a package.
#[track_caller]
pub(crate) fn file(arch: Arch, package: &str, path: &str) -> Option<String> {
    let root = or_skip(store().package(arch, package))?;
    let path = root.join(path);
    assert!(path.is_file(), "{package} has {}", path.display());
    Some(path.display().to_string())
}

#[track_caller]
fn check_grub(option: &str, image: &str, accel: &str) {
    let path = format!("usr/lib/grub-rescue/{image}");
    let Some(path) = file(Arch::Amd64, "grub-rescue-pc", &path) else { return };
    let order = if option == "-cdrom" { "d" } else { "a" };
    let words =
        ["-m", "64", "-nographic", "-snapshot", "-boot", order, option, &path, "-accel", accel];
    let mut guest = Guest::stele(words);
    // The CD has a menu first; its key for a prompt is c.
    if guest.expect_any(&["grub> ", "for a command-line"]).0 == 1 {
        guest.send("c");
        guest.expect("grub> ");
    }
    // The prompt answers, and knows the drive it was started from.
    guest.send("ls\r");
    guest.expect(if option == "-cdrom" { "(cd" } else { "(fd0)" });
    guest.expect("grub> ");
}

#[test]
fn grub_rescue_cd_to_its_prompt() {
    check_grub("-cdrom", "grub-rescue-cdrom.iso", "jit");
}

#[test]
fn grub_rescue_cd_on_the_evaluator() {
    check_grub("-cdrom", "grub-rescue-cdrom.iso", "interp");
}

#[test]
fn grub_rescue_floppy_to_its_prompt() {
    check_grub("-fda", "grub-rescue-floppy.img", "jit");
}

#[test]
fn memtest86_passes_over_32_mib() {
    let Some(path) = file(Arch::Amd64, "memtest86+", "boot/memtest86+x64.bin") else { return };
    let append = "console=ttyS0,115200";
    let words = ["-m", "32", "-nographic", "-kernel", &path, "-append", append];
    // The last of its tests waits 80 seconds, twice, for bits to fade.
    let mut guest = Guest::stele(words);
    guest.expect("Memtest86+");
    guest.expect("Pass:  1");
    guest.expect("Errors: 0 ");
    let output = guest.output();
    let wrong = output.split("Errors: ").skip(1).find(|rest| !rest.starts_with("0 "));
    assert_eq!(wrong, None);
}

/// The installer's kernel and initial RAM disk as options.
#[track_caller]
fn installer() -> Option<[String; 6]> {
    let package = "debian-installer-12-netboot-amd64";
    let dir = "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64";
    let kernel = file(Arch::Amd64, package, &format!("{dir}/linux"))?;
    let initrd = file(Arch::Amd64, package, &format!("{dir}/initrd.gz"))?;
    let words = ["-m", "1G", "-kernel", &kernel, "-initrd", &initrd];
    Some(words.map(str::to_owned))
}

#[test]
fn debian_installer_to_its_first_screen() {
    let Some(words) = installer() else { return };
    let more = ["-nographic", "-append", "console=ttyS0 quiet"].map(str::to_owned);
    Guest::stele(words.iter().chain(&more)).expect("Select a language");
}

/// The share of each wanted colour in a picture, in thousandths of all points.
pub(crate) fn shares<const N: usize>(path: &Path, wanted: [[u8; 3]; N]) -> Option<[usize; N]> {
    let decoder = png::Decoder::new(BufReader::new(File::open(path).ok()?));
    let mut reader = decoder.read_info().ok()?;
    let mut bytes = vec![0; reader.output_buffer_size()?];
    let size = reader.next_frame(&mut bytes).ok()?.buffer_size();
    let points = bytes[..size].chunks_exact(3);
    let all = points.len();
    Some(wanted.map(|colour| points.clone().filter(|point| **point == colour).count() * 1000 / all))
}

#[test]
fn debian_installer_on_the_screen() {
    const GREY: [u8; 3] = [0xaa, 0xaa, 0xaa];
    const RED: [u8; 3] = [0xaa, 0, 0];
    let Some(words) = installer() else { return };
    let (options, monitor) = Monitor::options();
    let more = ["-display", "none", "-append", "vga=normal quiet"].map(str::to_owned);
    let _guest = Guest::stele(words.iter().chain(&more).chain(&options));
    let (mut monitor, dir) = (monitor(), tempfile::tempdir().expect("a temporary folder"));
    let picture = dir.path().join("screen.png");
    let start = Instant::now();
    // Its list of languages: a grey window, with a red bar on the one that is proposed.
    loop {
        monitor.command(&format!("screendump {}", picture.display()));
        match shares(&picture, [GREY, RED]) {
            Some([grey, red]) if grey >= 600 && red >= 5 => return,
            seen => assert!(start.elapsed() < Duration::from_secs(1800), "{seen:?}"),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}
