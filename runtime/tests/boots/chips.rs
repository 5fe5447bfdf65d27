//! What a user does to a running Debian guest, and what it makes of it: the power button, another CD, keys, the mouse, the
//! clock's alarm, a reboot.

use guests::{Arch, INIT_MARKER};

use crate::media::file;
use crate::support::{Guest, Monitor, kernel_options_with, linux, or_skip, store};

/// Boots a kernel whose initramfs loads these modules and ends in a shell; the monitor is at hand.
#[track_caller]
fn boot(arch: Arch, modules: &[&str], more: &[&str]) -> Option<(Guest, Monitor)> {
    let flavour = guests::Linux::flavour(arch);
    let linux = linux(arch, flavour)?;
    let initrd = or_skip(linux.initramfs_with_modules(store(), modules))?;
    let (options, monitor) = Monitor::options();
    let mut words = kernel_options_with(&linux, &initrd, "quiet");
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words.extend(options);
    let mut guest = Guest::stele(words);
    guest.expect(INIT_MARKER);
    guest.expect("# ");
    Some((guest, monitor()))
}

#[test]
fn the_power_button_reaches_the_guest() {
    let Some((mut guest, mut monitor)) = boot(Arch::Amd64, &["button", "evdev"], &[]) else {
        return;
    };
    let find = "for e in /sys/class/input/event*; do \
                grep -q 'Power Button' $e/device/name && ev=/dev/input/${e##*/}; done; echo $ev";
    assert!(guest.shell(find).starts_with("/dev/input/event"));
    // Time, then type 1 (key), code 116 (power), value 1 (down).
    // What is open keeps events for its reader.
    guest.send(
        "exec 3<$ev; echo re''ady; head -c 24 <&3 | hexdump -v -e '/1 \"%02x\"'; poweroff -f\n",
    );
    guest.expect("ready\r\n");
    assert_eq!(monitor.command("system_powerdown"), "");
    guest.expect("0100740001000000");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
}

#[test]
fn a_cd_is_mounted_locked_changed_and_taken_out() {
    let iso = "usr/lib/grub-rescue/grub-rescue-cdrom.iso";
    let Some(iso) = file(Arch::Amd64, "grub-rescue-pc", iso) else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let other = dir.path().join("other.iso");
    let mut bytes = b"ANOTHER DISC".to_vec();
    bytes.resize(64 << 10, 0);
    std::fs::write(&other, bytes).expect("room for a disc");
    let modules = ["ata_piix", "sr_mod", "isofs"];
    let Some((mut guest, mut monitor)) = boot(Arch::Amd64, &modules, &["-cdrom", &iso]) else {
        return;
    };
    assert_eq!(guest.shell("mkdir /mnt; mount -t iso9660 -o ro /dev/sr0 /mnt; echo $?"), "0");
    let modules = guest.shell("ls /mnt/boot/grub/i386-pc | grep -c '\\.mod$'");
    assert!(modules.parse::<u32>().is_ok_and(|n| n > 100), "{modules}");
    // Files read back are those the image was made from.
    let path = "usr/lib/grub/i386-pc/ext2.mod";
    if let Some(original) = file(Arch::Amd64, "grub-pc-bin", path) {
        let bytes = std::fs::read(original).expect("it is there").len();
        assert_eq!(guest.shell("cat /mnt/boot/grub/i386-pc/ext2.mod | wc -c"), bytes.to_string());
    }
    assert_eq!(guest.shell("dd if=/dev/sr0 of=/dev/null bs=64k 2>/dev/null; echo $?"), "0");
    // Mounted, it is locked.
    let answer = monitor.command("eject ide1-cd0");
    assert!(answer.contains("locked"), "{answer}");
    assert_eq!(guest.shell("umount /mnt; echo $?"), "0");
    let change = format!("change ide1-cd0 {}", other.display());
    assert_eq!(monitor.command(&change), "");
    assert_eq!(guest.shell("head -c 12 /dev/sr0"), "ANOTHER DISC");
    assert_eq!(guest.shell("cat /sys/block/sr0/size"), "128");
    assert_eq!(monitor.command("eject ide1-cd0"), "");
    let answer = guest.shell("head -c 1 /dev/sr0 2>&1");
    assert!(answer.contains("No medium found"), "{answer}");
    assert_eq!(monitor.command(&format!("change ide1-cd0 {iso}")), "");
    assert_eq!(guest.shell("mount -t iso9660 -o ro /dev/sr0 /mnt; ls -d /mnt/boot"), "/mnt/boot");
    guest.send("poweroff -f\n");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
}

#[test]
fn keys_and_the_mouse_arrive() {
    let Some((mut guest, mut monitor)) = boot(Arch::I386, &["psmouse"], &[]) else { return };
    guest.send("echo re''ady; head -n 1 < /dev/tty1\n");
    guest.expect("ready\r\n");
    for keys in ["shift-h", "e", "y", "spc", "1", "shift-1", "ret"] {
        assert_eq!(monitor.command(&format!("sendkey {keys}")), "");
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    guest.expect("Hey 1!");
    guest.expect("# ");
    // A PS/2 packet as the kernel's own mouse device gives it: buttons and signs, 10 right, 5 up.
    let packet =
        "exec 3</dev/input/mice; echo re''ady; head -c 3 <&3 | hexdump -v -e '/1 \"%02x\"'; echo\n";
    guest.send(packet);
    guest.expect("ready\r\n");
    assert_eq!(monitor.command("mouse_button 1"), "");
    guest.expect("090000");
    guest.expect("# ");
    guest.send(packet);
    guest.expect("ready\r\n");
    assert_eq!(monitor.command("mouse_move 10 5"), "");
    let packet = guest.expect("# ");
    assert!(packet.contains("0a"), "{packet}");
    guest.send("poweroff -f\n");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
}

#[test]
fn the_clock_wakes_at_its_alarm() {
    let Some((mut guest, _monitor)) = boot(Arch::Amd64, &[], &["-rtc", "base=2026-02-28T23:59:50"])
    else {
        return;
    };
    let date = guest.shell("cat /sys/class/rtc/rtc0/date");
    assert!(["2026-02-28", "2026-03-01"].contains(&date.as_str()), "{date}");
    // Armed for three seconds later; it goes off by itself, not before.
    let wait = "cd /sys/class/rtc/rtc0; a=$(cat since_epoch); echo +3 > wakealarm; \
                while [ -n \"$(cat wakealarm)\" ]; do usleep 50000; done; echo $(($(cat since_epoch) - a))";
    let waited = guest.shell(wait);
    // Late is a busy host's doing.
    assert!(waited.parse::<u32>().is_ok_and(|s| (3..60).contains(&s)), "{waited}");
    assert_eq!(guest.shell("hwclock -r -u -f /dev/rtc0 | grep -c 2026"), "1");
    guest.send("poweroff -f\n");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
}

#[test]
fn three_reboots_in_a_row() {
    let Some(linux) = linux(Arch::Amd64, "cloud-amd64") else { return };
    let initrd = linux.initramfs(store()).expect("the initramfs can be built");
    let words = kernel_options_with(&linux, &initrd, "quiet action=\"reboot -f\"");
    let mut guest = Guest::stele(words.iter().filter(|word| *word != "-no-reboot"));
    for _ in 0..4 {
        guest.expect(INIT_MARKER);
    }
    guest.kill();
}
