//! Snapshots of whole machines: what is saved, what is refused, and that a loaded machine goes on as the saved one.

use std::borrow::Cow;
use std::os::unix::fs::FileExt;
use std::path::Path;

use devices::chardev::BufferChar;
use stele::console::{Command, Input};
use stele::demo;
use stele::machine::{
    Accel, CharTarget, DriveConfig, DriveSource, Exit, Firmware, Machine, MachineConfig,
};

/// The demo as a machine that counts time, with what COM1 prints.
fn demo_config(accel: Accel) -> (MachineConfig, BufferChar) {
    let com1 = BufferChar::default();
    let source = DriveSource::Bytes(demo::disk());
    let config = MachineConfig {
        ram_bytes: 16 << 20,
        firmware: Firmware::Image(Cow::Borrowed(demo::firmware())),
        drives: vec![DriveConfig { source, snapshot: true, ..DriveConfig::default() }],
        serial: vec![CharTarget::Buffer(com1.clone())],
        fw_cfg: vec![(demo::INTERACTIVE_FILE.into(), b"0".to_vec())],
        icount_shift: Some(6),
        accel,
        ..MachineConfig::default()
    };
    (config, com1)
}

fn text(com: &BufferChar) -> String {
    String::from_utf8_lossy(&com.sent()).into_owned()
}

fn machine(accel: Accel) -> (Machine, BufferChar) {
    let (config, com1) = demo_config(accel);
    (Machine::new(&config).expect("the demo needs nothing from outside"), com1)
}

/// Runs until COM1 has printed `what`, or a little beyond.
fn run_to(machine: &mut Machine, com1: &BufferChar, what: &'static str) {
    let (input, watched) = (machine.input(), com1.clone());
    let watcher = std::thread::spawn(move || {
        while !text(&watched).contains(what) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        input.send(Input::Command(Command::Quit));
    });
    assert_eq!(machine.run(), Exit::Quit);
    watcher.join().expect("the watcher does not panic");
}

/// Saves in the middle; the machine that goes on, and a new one that loads, end alike.
#[track_caller]
fn check_both_go_on(saver: Accel, loader: Accel, at: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a");
    let (mut first, com1) = machine(saver);
    run_to(&mut first, &com1, at);
    first.save_snapshot(&file).expect("it can be saved");
    let (middle, before) = (first.state_hash(), com1.sent().len());

    let (mut second, com2) = machine(loader);
    second.load_snapshot(&file).expect("it can be loaded");
    assert_eq!(second.state_hash(), middle);
    let again = folder.path().join("b");
    second.save_snapshot(&again).unwrap();
    assert_eq!(without_date(&file), without_date(&again));

    assert_eq!((first.run(), second.run()), (Exit::PowerOff, Exit::PowerOff));
    assert_eq!(com1.sent()[before..], com2.sent()[..]);
    assert_eq!(first.state_hash(), second.state_hash());

    // Back in time, in a machine that ran on: translated code, timers and disks follow.
    first.load_snapshot(&file).unwrap();
    assert_eq!(first.state_hash(), middle);
    let end = second.state_hash();
    assert_eq!(first.run(), Exit::PowerOff);
    assert_eq!(first.state_hash(), end);
}

/// A snapshot's bytes without checksum and date of its header.
fn without_date(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[12..24].fill(0);
    bytes
}

#[test]
fn saved_on_the_jit_loaded_on_the_evaluator() {
    check_both_go_on(Accel::Jit, Accel::Interp, "paging on");
}

#[test]
fn saved_on_the_evaluator_loaded_on_the_jit() {
    check_both_go_on(Accel::Interp, Accel::Jit, "F000:FFF0");
}

#[test]
fn other_machines_and_disks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a");
    let (mut saver, _) = machine(Accel::Jit);
    saver.save_snapshot(&file).unwrap();
    type Change = fn(&mut MachineConfig);
    let refusals: [(Change, &str); 5] = [
        (|c| c.ram_bytes = 32 << 20, "bytes of memory"),
        (|c| c.icount_shift = Some(5), "-icount shift=6, this one -icount shift=5"),
        (|c| c.serial.clear(), "device"),
        (|c| c.drives.clear(), "disk ide0-0"),
        (|c| c.cpu = x86::cpuid::Model::named("qemu64", None).unwrap(), "CPU max"),
    ];
    for (change, message) in refusals {
        let (mut config, _) = demo_config(Accel::Jit);
        change(&mut config);
        let mut machine = Machine::new(&config).unwrap();
        let before = machine.state_hash();
        let error = machine.load_snapshot(&file).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains('\n'), "{error}");
        assert_eq!(machine.state_hash(), before);
    }
}

#[test]
fn a_written_image_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, image) = (folder.path().join("a"), folder.path().join("disk.img"));
    std::fs::write(&image, demo::disk()).unwrap();
    let (mut config, _) = demo_config(Accel::Jit);
    config.drives[0].source = DriveSource::File(image.clone());
    config.drives[0].snapshot = false;
    let mut machine = Machine::new(&config).unwrap();
    machine.save_snapshot(&file).unwrap();
    machine.load_snapshot(&file).expect("nothing was written");
    drop(machine);
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[777] ^= 1;
    std::fs::write(&image, bytes).unwrap();
    let mut machine = Machine::new(&config).unwrap();
    let error = machine.load_snapshot(&file).unwrap_err().to_string();
    assert!(error.contains("disk ide0-0 was written since"), "{error}");
    // Its contents elsewhere are another matter.
    config.drives[0].snapshot = true;
    drop(machine);
    let error = Machine::new(&config).unwrap().load_snapshot(&file).unwrap_err().to_string();
    assert!(error.contains("writes in its image, this one disk ide0-0"), "{error}");
}

#[test]
fn damaged_files_are_refused_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (file, bad) = (folder.path().join("a"), folder.path().join("bad"));
    let (mut saver, com1) = machine(Accel::Jit);
    run_to(&mut saver, &com1, "signature");
    saver.save_snapshot(&file).unwrap();
    let good = std::fs::read(&file).unwrap();
    let (mut loader, _) = machine(Accel::Jit);
    let before = loader.state_hash();
    let mut refused = |what: &str| {
        let error = loader.load_snapshot(&bad).expect_err(what).to_string();
        assert!(!error.contains('\n'), "{error}");
    };
    let len = good.len();
    for n in [0, 7, 8, 15, 16, 4095, 4096, 1 << 20, len / 2, len - 4096, len - 1] {
        std::fs::write(&bad, &good[..n]).unwrap();
        refused("shortened");
    }
    std::fs::write(&bad, [&good[..], &[0]].concat()).unwrap();
    refused("longer");
    // Bits all over the header, the contents, and some of memory.
    std::fs::copy(&file, &bad).unwrap();
    let spoilt = std::fs::OpenOptions::new().write(true).open(&bad).unwrap();
    let ends = (0..4096).chain(len - 20_000..len).step_by(61);
    for at in ends.chain((4096..len).step_by(len / 40)) {
        spoilt.write_all_at(&[good[at] ^ 1 << (at % 8)], at as u64).unwrap();
        refused(&format!("a bit of byte {at}"));
        spoilt.write_all_at(&[good[at]], at as u64).unwrap();
    }
    assert_eq!(loader.state_hash(), before);
    loader.load_snapshot(&bad).expect("the file is as it was");
}

#[test]
fn a_failed_save_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a");
    let (mut saver, _) = machine(Accel::Jit);
    saver.save_snapshot(&file).unwrap();
    let old = std::fs::read(&file).unwrap();
    assert!(saver.save_snapshot(&folder.path().join("no/such/folder")).is_err());
    assert!(saver.save_snapshot(folder.path()).is_err());
    assert_eq!(std::fs::read(&file).unwrap(), old);
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}
