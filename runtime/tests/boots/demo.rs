//! `stele demo linux` as a user meets it, with and without apt, and what a user is told who forgot the console.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use guests::{Arch, INIT_MARKER};

use crate::support::{Guest, kernel_options, linux, store};

/// The command with the tests' store of guests.
#[track_caller]
fn demo(words: &[&str]) -> Guest {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stele"));
    command.args(["demo", "linux"]).args(words).env("STELE_GUESTS", store().root());
    Guest::start(&mut command)
}

#[test]
fn the_demo_ends_in_a_shell() {
    let Some(_) = linux(Arch::Amd64, "cloud-amd64") else { return };
    let mut guest = demo(&["--kernel", "--", "-m", "200M"]);
    guest.expect(INIT_MARKER);
    guest.expect("# ");
    assert_eq!(guest.shell("uname -m; grep -c . /proc/cpuinfo | grep -vc '^0'"), "x86_64\n1");
    let memory = guest.shell("grep MemTotal /proc/meminfo | tr -dc 0-9");
    assert!(memory.parse::<u32>().is_ok_and(|kib| kib < 200 << 10), "{memory}");
    guest.send("poweroff -f\n");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
}

#[test]
fn the_demos_disk_boots_by_itself() {
    let Some(_) = linux(Arch::I386, "686-pae") else { return };
    let mut guest = demo(&["--arch", "32"]);
    guest.expect("a login prompt");
    guest.expect("disk system is up");
    guest.expect("# ");
    assert_eq!(guest.shell("uname -m"), "i686");
    guest.send("poweroff -f\n");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
}

#[test]
fn without_apt_the_demo_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_stele"));
    command.args(["demo", "linux"]).env("STELE_GUESTS", dir.path()).env("PATH", "");
    let output = command.stdin(Stdio::null()).output().expect("the command starts");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    for part in ["stele: demo linux: ", "apt", "-kernel vmlinuz -initrd initrd"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_kernel_without_a_console_is_told_of() {
    let Some(linux) = linux(Arch::Amd64, "cloud-amd64") else { return };
    let mut words = kernel_options(&linux, "");
    let append = words.last_mut().expect("it is the last");
    *append = "quiet".to_owned();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stele"));
    command.args(&words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let stderr = child.stderr.take().expect("it is a pipe");
    let mut line = String::new();
    BufReader::new(stderr).read_line(&mut line).expect("it is text");
    assert!(line.contains("-append \"console=ttyS0\""), "{line}");
    child.kill().expect("it is running");
    child.wait().expect("it is ours");
}
