//! Debian's kernels by `-kernel` to a marker in the initramfs, and their messages beside those QEMU's machine gets.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use guests::{Arch, INIT_MARKER, find_program};

use crate::support::{Guest, kernel_options, linux, skip};

/// The guest's memory (in `kernel_options`), the emulator's own, and its cache of generated code.
const MEMORY_MIB: u64 = 256 + 128 + 64;

/// Prints the kernel's messages of level warning and above between two words, and switches off.
const WARNINGS: &str =
    "quiet action=\"echo be''gin; dmesg -r | grep '^<[0-4]>'; echo e''nd; read line\"";

#[track_caller]
fn check(arch: Arch, flavour: &str, options: &[&str]) {
    let Some(linux) = linux(arch, flavour) else { return };
    let words = kernel_options(&linux, WARNINGS);
    let mut guest = Guest::stele(words.iter().map(String::as_str).chain(options.iter().copied()));
    guest.expect(INIT_MARKER);
    let ours = warnings(&mut guest);
    assert!(guest.peak_mib() <= MEMORY_MIB, "{} MiB", guest.peak_mib());
    guest.send("\n");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
    let Some(qemu) = find_program("qemu-system-x86_64") else {
        return skip("qemu-system-x86_64 (Debian package qemu-system-x86), to compare messages");
    };
    let mut command = Command::new(qemu);
    command.args(&words).args(["-cpu", "max", "-net", "none", "-vga", "std"]);
    let mut qemu = Guest::start(&mut command);
    let theirs = warnings(&mut qemu);
    let more: Vec<&String> = ours.difference(&theirs).collect();
    assert!(more.is_empty(), "messages that QEMU's machine does not give: {more:#?}");
}

/// The messages without what differs from run to run: time, addresses, numbers.
#[track_caller]
fn warnings(guest: &mut Guest) -> BTreeSet<String> {
    guest.expect("begin");
    let text = guest.expect("end");
    text.lines().filter(|line| !line.trim().is_empty()).map(normalise).collect()
}

fn normalise(line: &str) -> String {
    let message = line.split_once("] ").map_or(line, |(_, message)| message);
    let mut out = String::new();
    for c in message.trim().chars() {
        match c {
            '0'..='9' | 'a'..='f' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            c => out.push(c),
        }
    }
    out
}

#[test]
fn messages_are_normalised() {
    assert_eq!(normalise("<4>[    1.5] at 0xfee0 is 12 MHz"), "at #xfee# is # MHz");
}

/// The same on the evaluator, which takes two minutes of processor time: only when `STELE_LONG` asks for it. Time is counted, so that
/// the kernel does not find a slow machine.
#[track_caller]
fn check_evaluator(arch: Arch, flavour: &str) {
    if std::env::var_os("STELE_LONG").is_none() {
        eprintln!("SKIPPED: minutes on the evaluator; STELE_LONG=1 runs it (in a release build)");
        return;
    }
    let Some(linux) = linux(arch, flavour) else { return };
    let words = kernel_options(&linux, "quiet action=\"echo 6 x 7 is $((6 * 7))\"");
    let mut guest = Guest::stele(
        words.iter().map(String::as_str).chain(["-accel", "interp", "-icount", "shift=2"]),
    )
    .patience(Duration::from_secs(1800));
    guest.expect(INIT_MARKER);
    guest.expect("6 x 7 is 42");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
}

#[test]
fn cloud_amd64_on_the_evaluator() {
    check_evaluator(Arch::Amd64, "cloud-amd64");
}

#[test]
fn i686_on_the_evaluator() {
    check_evaluator(Arch::I386, "686");
}

#[test]
fn cloud_amd64_to_its_initramfs() {
    check(Arch::Amd64, "cloud-amd64", &[]);
}

#[test]
fn i686_to_its_initramfs() {
    check(Arch::I386, "686", &[]);
}

#[test]
fn i686_pae_to_its_initramfs() {
    check(Arch::I386, "686-pae", &[]);
}
