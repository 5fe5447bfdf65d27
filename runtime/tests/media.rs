//! Removable media from Debian's packages boot through SeaBIOS: GRUB's rescue CD (El Torito) and floppy.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use stele::console::{Command, Input};
use stele::disk::{DriveBus, DriveConfig, DriveSource, Media};
use stele::machine::{Exit, Machine, MachineConfig};

/// Are the files there? If they must be, it is a failure that they are not.
fn has(files: &[&str]) -> bool {
    let missing = files.iter().find(|file| !Path::new(file).exists());
    let Some(missing) = missing else { return true };
    assert!(std::env::var_os("STELE_REQUIRE_ALL").is_none(), "{missing} is missing");
    eprintln!("SKIPPED: no {missing} (apt install seabios grub-rescue-pc)");
    false
}

/// Runs a machine with this drive until its screen shows one of `texts`, at most a minute.
#[track_caller]
fn check_screen(drive: DriveConfig, texts: &[&str]) {
    let config =
        MachineConfig { ram_bytes: 64 << 20, drives: vec![drive], ..MachineConfig::default() };
    let mut machine = Machine::new(&config).expect("the image opens");
    let input = machine.input();
    let is_over = Arc::new(AtomicBool::new(false));
    let watched = is_over.clone();
    let clock = std::thread::spawn(move || {
        while !watched.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(200));
            input.send(Input::Command(Command::Quit));
        }
    });
    let start = Instant::now();
    let mut screen = String::new();
    let is_there = |screen: &str| texts.iter().any(|text| screen.contains(text));
    while !is_there(&screen) && start.elapsed() < Duration::from_secs(60) {
        assert_eq!(machine.run(), Exit::Quit);
        screen = machine.screen_text();
    }
    is_over.store(true, Ordering::Relaxed);
    clock.join().expect("the clock does not panic");
    assert!(is_there(&screen), "{texts:?} not in\n{screen}");
}

fn drive(file: &str) -> DriveConfig {
    DriveConfig { source: DriveSource::File(file.into()), ..DriveConfig::default() }
}

/// What stands below GRUB's menu.
const MENU: &str = "or `c' for a command-line";
const BIOS: &str = "/usr/share/seabios/bios-256k.bin";

#[test]
fn grub_boots_from_a_cd() {
    let iso = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso";
    if has(&[BIOS, iso]) {
        let cd = DriveConfig { slot: 2, media: Media::Cdrom, ..drive(iso) };
        check_screen(cd, &[MENU]);
    }
}

#[test]
fn grub_boots_from_a_floppy() {
    let image = "/usr/lib/grub-rescue/grub-rescue-floppy.img";
    if has(&[BIOS, image]) {
        let floppy = DriveConfig { bus: DriveBus::Floppy, read_only: true, ..drive(image) };
        // The menu comes when its modules are unpacked, which takes a while.
        check_screen(floppy, &["Welcome to GRUB!", MENU]);
    }
}
