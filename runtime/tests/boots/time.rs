//! The guest's time beside the host's: how fast it goes while the guest idles and while it works, what the kernel thinks
//! of its clocks, and how long a saved machine takes to come back.

use std::time::{Duration, Instant};

use guests::{Arch, INIT_MARKER};

use crate::support::{Guest, Monitor, kernel_options, linux};

/// How long the clocks are compared; more for a sharper comparison.
fn span() -> Duration {
    let secs = std::env::var("STELE_CLOCK_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(secs.unwrap_or(8))
}

/// A reading of the guest's clock, and the host's time before it was asked and after it had answered.
struct Reading {
    guest: f64,
    asked: Instant,
    answered: Instant,
}

/// The closest of a few readings: other processes may run in between.
fn reading(guest: &mut Guest) -> Reading {
    let readings = (0..8).map(|_| {
        let asked = Instant::now();
        let text = guest.shell("cat /proc/uptime");
        let answered = Instant::now();
        let seconds = text.split(' ').next().and_then(|text| text.parse().ok());
        Reading { guest: seconds.expect("seconds"), asked, answered }
    });
    readings.min_by_key(|reading| reading.answered - reading.asked).expect("there are some")
}

/// The guest's clock went as fast as the host's, within 1 %: whatever the readings leave open counts for it.
#[track_caller]
fn compare(what: &str, from: &Reading, to: &Reading) {
    let guest = to.guest - from.guest;
    let least = (to.asked - from.answered).as_secs_f64() * 0.99 - 0.02; // in steps of 10 ms
    let most = (to.answered - from.asked).as_secs_f64() * 1.01 + 0.02;
    assert!((least..=most).contains(&guest), "{what}: {guest} s, not {least} to {most}");
    eprintln!("{what}: {guest:.2} s of {:.3} s", (to.answered - from.answered).as_secs_f64());
}

#[test]
fn the_guests_clock_is_the_hosts() {
    let Some(linux) = linux(Arch::Amd64, "cloud-amd64") else { return };
    let mut guest = Guest::stele(kernel_options(&linux, "quiet"));
    guest.expect(INIT_MARKER);
    guest.expect("# ");
    let start = reading(&mut guest);
    let used = processor_time(guest.id());
    std::thread::sleep(span());
    let used = processor_time(guest.id()) - used;
    let idle = reading(&mut guest);
    assert!(used < span() / 10, "an idle guest took {used:?} of {:?}", span());
    compare("idle", &start, &idle);
    guest.send("while :; do :; done & echo work''ing\n");
    guest.expect("working");
    let start = reading(&mut guest);
    std::thread::sleep(span());
    let busy = reading(&mut guest);
    compare("busy", &start, &busy);
    let source = "cat /sys/devices/system/clocksource/clocksource0/current_clocksource";
    assert_eq!(guest.shell(source), "tsc");
    let said = guest.shell("dmesg | grep -i 'clocksource\\|unstable\\|calib'");
    assert!(said.contains("clocksource: Switched to clocksource tsc"), "{said}");
    for complaint in ["unstable", "Unable to calibrate", "calibration failed"] {
        assert!(!said.contains(complaint), "{said}");
    }
    guest.send("poweroff -f\n");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
}

/// The processor time that a process has used so far.
fn processor_time(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10) // 100 ticks a second on every Linux
}

#[test]
fn a_saved_guest_is_back_at_its_prompt_at_once() {
    let Some(linux) = linux(Arch::Amd64, "cloud-amd64") else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("prompt").display().to_string();
    let (options, monitor) = Monitor::options();
    let words = kernel_options(&linux, "quiet");
    let mut guest = Guest::stele(words.iter().chain(&options));
    guest.expect(INIT_MARKER);
    guest.expect("# ");
    assert_eq!(guest.shell("x=kept; echo ok"), "ok");
    assert_eq!(monitor().command(&format!("savevm {file}")), "");
    guest.kill();
    let mut again = Guest::stele(words.iter().map(String::as_str).chain(["-loadvm", &file]));
    again.send("echo $x''!\n");
    again.expect("kept!");
    let used = processor_time(again.id());
    eprintln!("back after {used:?} of processor time");
    // 40 ms as released; tests are built with less care.
    assert!(used < Duration::from_millis(600), "{used:?}");
    again.kill();
}
