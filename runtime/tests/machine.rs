//! Whole machines through the library: the embedded demo, firmware from Debian, two at a time, counted time.

use std::borrow::Cow;
use std::path::Path;

use devices::chardev::BufferChar;
use stele::console::{Command, Input, Key, Stroke};
use stele::demo;
use stele::machine::{Accel, CharTarget, DriveConfig, Exit, Firmware, Machine, MachineConfig};

/// The demo as a machine, with what COM1 prints.
fn demo_config(interactive: bool) -> (MachineConfig, BufferChar) {
    let com1 = BufferChar::default();
    let answer = if interactive { b"1" } else { b"0" };
    let config = MachineConfig {
        ram_bytes: 16 << 20,
        firmware: Firmware::Image(Cow::Borrowed(demo::firmware())),
        drives: vec![DriveConfig::bytes(demo::disk())],
        serial: vec![CharTarget::Buffer(com1.clone())],
        fw_cfg: vec![(demo::INTERACTIVE_FILE.into(), answer.to_vec())],
        ..MachineConfig::default()
    };
    (config, com1)
}

fn text(com: &BufferChar) -> String {
    String::from_utf8_lossy(&com.sent()).into_owned()
}

#[track_caller]
fn check_demo(accel: Accel) {
    let (mut config, com1) = demo_config(false);
    config.accel = accel;
    let mut machine = Machine::new(&config).expect("the demo needs nothing from outside");
    assert_eq!(machine.run(), Exit::PowerOff);
    let serial = text(&com1);
    for line in ["F000:FFF0", "signature 55AA", "paging on", "below 100000: 9592", "Power off."] {
        assert!(serial.contains(line), "{line} not in\n{serial}");
        assert!(machine.screen_text().contains(line), "{line} not in\n{}", machine.screen_text());
    }
}

#[test]
fn the_demo_runs_on_the_jit() {
    check_demo(Accel::Jit);
}

#[test]
fn the_demo_runs_on_the_evaluator() {
    check_demo(Accel::Interp);
}

#[test]
fn keys_reach_the_guest() {
    let (config, com1) = demo_config(true);
    let mut machine = Machine::new(&config).expect("the demo needs nothing from outside");
    let input = machine.input();
    let watched = com1.clone();
    let typist = std::thread::spawn(move || {
        while !text(&watched).contains("> ") {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        for (c, shown) in [('a', "> a"), ('b', "> ab"), ('c', "> abc"), ('q', "")] {
            let stroke = Stroke { key: Key::Char(c), shift: false, ctrl: false, alt: false };
            assert!(input.send(Input::Stroke(stroke)));
            // The demo keeps one key: it has taken it when it shows it.
            while !text(&watched).contains(shown) {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    });
    assert_eq!(machine.run(), Exit::PowerOff);
    typist.join().expect("the typist does not panic");
    assert!(text(&com1).contains("> abc"), "{}", text(&com1));
}

#[test]
fn the_user_can_quit_a_halted_guest() {
    let (config, _com1) = demo_config(true);
    let mut machine = Machine::new(&config).expect("the demo needs nothing from outside");
    let input = machine.input();
    let quitter = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        input.send(Input::Command(Command::Quit))
    });
    assert_eq!(machine.run(), Exit::Quit);
    assert!(quitter.join().expect("no panic"));
}

#[test]
fn two_machines_live_in_one_process() {
    let run = || {
        let (config, com1) = demo_config(false);
        let mut machine = Machine::new(&config).expect("the demo needs nothing from outside");
        assert_eq!(machine.run(), Exit::PowerOff);
        text(&com1)
    };
    let other = std::thread::spawn(run);
    let mine = run();
    let other = other.join().expect("the other machine ran");
    let primes = |text: &str| text.lines().filter(|l| l.contains("9592")).count();
    assert_eq!((primes(&mine), primes(&other)), (1, 1));
}

#[test]
fn counted_time_repeats_itself() {
    let run = || {
        let (mut config, com1) = demo_config(false);
        config.icount_shift = Some(6);
        let mut machine = Machine::new(&config).expect("the demo needs nothing from outside");
        assert_eq!(machine.run(), Exit::PowerOff);
        (text(&com1), machine.vcpu().cpu().state_hash())
    };
    assert_eq!(run(), run());
}

/// Hashes of a counted machine at several times, on one engine.
fn guest_hashes(mut config: MachineConfig, accel: Accel, opt: bool, at: &[u64]) -> Vec<u64> {
    config.icount_shift = Some(4);
    config.accel = accel;
    if !opt {
        config.passes = ir::opt::Passes::NONE;
    }
    let mut machine = Machine::new(&config).expect("the machine can be built");
    let mut all = Vec::new();
    for &at in at {
        if machine.run_until(at).is_some() {
            break;
        }
        all.push(machine.state_hash());
    }
    all.push(machine.state_hash());
    all
}

#[track_caller]
fn engines_keep_time(config: impl Fn() -> MachineConfig, at: &[u64]) {
    let reference = guest_hashes(config(), Accel::Interp, true, at);
    assert!(reference.windows(2).any(|pair| pair[0] != pair[1]), "nothing happens");
    for opt in [true, false] {
        let jit = guest_hashes(config(), Accel::Jit, opt, at);
        let same = jit.iter().zip(&reference).take_while(|(a, b)| a == b).count();
        assert_eq!(jit, reference, "opt {opt}: equal up to point {same} of {at:?}");
    }
}

#[test]
fn counted_time_is_the_same_on_every_engine() {
    let at: Vec<u64> = (1..40).map(|n| n * 1_234_567).chain([1 << 40]).collect();
    engines_keep_time(|| demo_config(false).0, &at);
}

#[test]
fn counted_firmware_is_the_same_on_every_engine() {
    if !Path::new("/usr/share/seabios/bios-256k.bin").exists() {
        eprintln!("SKIPPED: no SeaBIOS here (apt install seabios)");
        return;
    }
    let config = || MachineConfig {
        ram_bytes: 16 << 20,
        firmware: Firmware::Search("bios-256k.bin".into()),
        ..MachineConfig::default()
    };
    let at: Vec<u64> = (1..12).map(|n| n * 3_333_333).collect();
    engines_keep_time(config, &at);
}

#[test]
fn seabios_looks_for_a_boot_device() {
    if !Path::new("/usr/share/seabios/bios-256k.bin").exists() {
        eprintln!("SKIPPED: no SeaBIOS here (apt install seabios)");
        return;
    }
    for firmware in ["bios-256k.bin", "bios.bin"] {
        let debug = BufferChar::default();
        let config = MachineConfig {
            ram_bytes: 64 << 20,
            firmware: Firmware::Search(firmware.into()),
            debugcon: vec![(0x402, CharTarget::Buffer(debug.clone()))],
            ..MachineConfig::default()
        };
        let mut machine = Machine::new(&config).expect("SeaBIOS is there");
        let input = machine.input();
        let watched = debug.clone();
        let watcher = std::thread::spawn(move || {
            let start = std::time::Instant::now();
            while !text(&watched).contains("No bootable device") && start.elapsed().as_secs() < 60 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            input.send(Input::Command(Command::Quit));
        });
        assert_eq!(machine.run(), Exit::Quit);
        watcher.join().expect("no panic");
        assert!(text(&debug).contains("No bootable device"), "{firmware}:\n{}", text(&debug));
        let screen = machine.screen_text();
        assert!(screen.starts_with("SeaBIOS (version"), "{firmware}: {screen}");
    }
}

#[test]
fn seabios_boots_a_disk() {
    if !Path::new("/usr/share/seabios/bios-256k.bin").exists() {
        eprintln!("SKIPPED: no SeaBIOS here (apt install seabios)");
        return;
    }
    let (mut config, com1) = demo_config(false);
    config.firmware = Firmware::Search("bios-256k.bin".into());
    let mut machine = Machine::new(&config).expect("SeaBIOS is there");
    let input = machine.input();
    let watched = com1.clone();
    // Under SeaBIOS the demo takes a person to be there: it waits for a key.
    let typist = std::thread::spawn(move || {
        let start = std::time::Instant::now();
        while !text(&watched).contains("> ") && start.elapsed().as_secs() < 600 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let stroke = Stroke { key: Key::Char('q'), shift: false, ctrl: false, alt: false };
        input.send(Input::Stroke(stroke));
        // Should it hang.
        std::thread::sleep(std::time::Duration::from_secs(600));
        input.send(Input::Command(Command::Quit));
    });
    assert_eq!(machine.run(), Exit::PowerOff);
    drop(typist);
    assert!(text(&com1).contains("Primes below 100000: 9592"), "{}", text(&com1));
}
