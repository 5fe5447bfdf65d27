//! Firmware, loaders and a hypervisor that the project was not built around: OVMF, GRUB, U-Boot, iPXE, Xen, as Debian ships them.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use guests::{Arch, INIT_MARKER};

use crate::media::{file, shares};
use crate::support::{Guest, Monitor, kernel_options, linux};

/// OVMF places the power management ports itself, so that the kernel finds the switch only if the tables say where.
#[test]
fn ovmf_starts_a_kernel_that_switches_off() {
    let part = |name| file(Arch::Amd64, "ovmf", &format!("usr/share/OVMF/{name}"));
    let (Some(variables), Some(code)) = (part("OVMF_VARS.fd"), part("OVMF_CODE.fd")) else {
        return;
    };
    let Some(linux) = linux(Arch::Amd64, "cloud-amd64") else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let image = dir.path().join("ovmf.fd");
    let parts = [variables, code].map(|path| std::fs::read(path).expect("a file of the package"));
    std::fs::write(&image, parts.concat()).expect("the folder can be written");
    let bios = ["-bios".to_owned(), image.display().to_string()];
    let mut guest =
        Guest::stele(kernel_options(&linux, "action=\"poweroff -f\"").iter().chain(&bios));
    let before = guest.expect(INIT_MARKER);
    assert!(before.contains("efi: EFI v2"), "{before}");
    assert_eq!(guest.exit_code(), 0);
    assert!(!guest.output().contains("PM-Timer failed"), "the tables name the timer's port");
}

#[test]
fn u_boot_to_its_prompt() {
    let rom = "usr/lib/u-boot/qemu-x86_64/u-boot.rom";
    let Some(rom) = file(Arch::Amd64, "u-boot-qemu", rom) else { return };
    let mut guest = Guest::stele(["-m", "256", "-nographic", "-bios", &rom]);
    guest.expect("Hit any key to stop autoboot");
    guest.send("\r");
    guest.expect("=> ");
    guest.send("md.b fffffff0 1\r");
    guest.expect("fffffff0: ");
}

/// It sets the graphics card up itself, as only QEMU's card understands, and shows a bar of 78 columns of 80 in one of 25 rows.
#[test]
fn grub_as_firmware_to_its_menu() {
    const GREY: [u8; 3] = [0xa2, 0xa2, 0xa2];
    let Some(rom) = file(Arch::Amd64, "grub-firmware-qemu", "usr/share/qemu/grub.bin") else {
        return;
    };
    let (options, monitor) = Monitor::options();
    let words = ["-m", "64", "-display", "none", "-bios", &rom].map(str::to_owned);
    let _guest = Guest::stele(words.iter().chain(&options));
    let (mut monitor, dir) = (monitor(), tempfile::tempdir().expect("a temporary folder"));
    let picture = dir.path().join("screen.png");
    let start = Instant::now();
    loop {
        let text = monitor.command("screen");
        monitor.command(&format!("screendump {}", picture.display()));
        // Letters cover a part of the bar.
        let grey = shares(&picture, [GREY]).map_or(0, |[grey]| grey);
        if text.contains("GNU GRUB  version 2") && (40..200).contains(&grey) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "{grey} of 1000 in grey\n{text}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn ipxe_cd_to_its_command_line() {
    let Some(iso) = file(Arch::Amd64, "ipxe", "usr/lib/ipxe/ipxe.iso") else { return };
    let mut guest = Guest::stele(["-m", "64", "-nographic", "-cdrom", &iso]);
    guest.expect("Ctrl-B");
    guest.send("\x02");
    guest.expect("iPXE> ");
    // The BIOS keeps no more than 15 keys.
    guest.send("cpuid --ext 29\r");
    guest.expect("iPXE> ");
    guest.send("show version\r");
    guest.expect("builtin/version:string = ");
}

/// A gzip file's contents beside it.
fn unpacked(path: &str, to: &Path) {
    let output = Command::new("gzip").args(["-dc", path]).output().expect("gzip runs");
    assert!(output.status.success() && !output.stdout.is_empty(), "{path}");
    std::fs::write(to, output.stdout).expect("the folder can be written");
}

#[test]
fn xen_starts_linux_as_its_first_guest() {
    let xen = "boot/xen-4.17-amd64.gz";
    let Some(xen) = file(Arch::Amd64, "xen-hypervisor-4.17-amd64", xen) else { return };
    let Some(linux) = linux(Arch::Amd64, "cloud-amd64") else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let image = dir.path().join("xen");
    unpacked(&xen, &image);
    let initrd = linux.initramfs(crate::support::store()).expect("the initramfs can be built");
    let image = image.display().to_string();
    let linux = format!("{} earlyprintk=xen action=true", linux.kernel.image.display());
    let modules = format!("{linux},{}", initrd.display());
    let append = "console=com1 com1=115200 dom0_mem=256M";
    let words = ["-m", "512", "-nographic", "-no-reboot", "-kernel", &image, "-append", append];
    let mut guest = Guest::stele(words.iter().chain(&["-initrd", &modules]));
    guest.expect("Xen version 4.17");
    guest.expect("Run /init as init process");
    // This kernel has no console of Xen's for its programs; that they run shows by what they do.
    guest.expect("Hardware Dom0 halted");
}
