//! How a run ends, as scripts see it: the exit code of a real kernel's power-off, reboot, panic and triple fault.

use guests::Arch;

use crate::support::{Guest, kernel_options, linux};

/// Boots the 64-bit kernel; its initramfs runs `action`.
#[track_caller]
fn boot(append: &str, action: &str, options: &[&str]) -> Option<Guest> {
    let linux = linux(Arch::Amd64, "cloud-amd64")?;
    let words = kernel_options(&linux, &format!("quiet {append} action=\"{action}\""));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Some(Guest::stele(words.iter().chain(options)))
}

#[test]
fn power_off_is_0() {
    let Some(mut guest) = boot("", "poweroff -f", &[]) else { return };
    guest.expect("is up");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
}

#[test]
fn reboot_without_reboot_is_0() {
    let Some(mut guest) = boot("", "reboot -f", &[]) else { return };
    guest.expect("is up");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
}

#[test]
fn panic_with_reboot_is_a_reset() {
    let Some(mut guest) = boot("panic=-1", "echo c > /proc/sysrq-trigger", &[]) else { return };
    guest.expect("Kernel panic");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
}

#[test]
fn a_triple_fault_is_3() {
    // reboot=t: the kernel empties its IDT and raises a fault.
    let Some(mut guest) = boot("reboot=t", "reboot -f", &[]) else { return };
    guest.expect("is up");
    assert_eq!(guest.exit_code(), 3, "{}", guest.output());
}
