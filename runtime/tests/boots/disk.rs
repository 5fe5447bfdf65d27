//! The disk that `demo linux` boots: SeaBIOS, GRUB's menu, kernel, root file system, login; and that what the guest wrote
//! is on it.

use std::path::{Path, PathBuf};

use guests::{Arch, LOGIN_USER, Linux, read_back, recover};

use crate::support::{Guest, linux, or_skip, store};

/// A copy of the guest's disk that may be written.
struct Disk {
    image: PathBuf,
    _dir: tempfile::TempDir,
}

#[track_caller]
fn disk(arch: Arch) -> Option<Disk> {
    let linux = linux(arch, Linux::flavour(arch))?;
    let shared = or_skip(linux.disk(store()))?;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let image = dir.path().join("disk.img");
    std::fs::copy(shared, &image).expect("room for a copy");
    Some(Disk { image, _dir: dir })
}

fn start(disk: &Path, options: &[&str]) -> Guest {
    let image = disk.to_str().expect("temporary names are UTF-8");
    let drive = format!("file={image},format=raw");
    Guest::stele(["-m", "256", "-nographic", "-drive", &drive].iter().chain(options))
}

/// From power-on by GRUB's second entry to a shell behind the login prompt.
#[track_caller]
fn log_in(guest: &mut Guest) {
    guest.expect("a shell");
    guest.expect("a login prompt");
    guest.send("\x1b[B"); // cursor down
    guest.send("\r");
    guest.expect("disk system is up");
    guest.expect("login: ");
    guest.send(&format!("{LOGIN_USER}\n"));
    guest.expect("# ");
}

#[track_caller]
fn check_login_and_files(arch: Arch, options: &[&str]) {
    let Some(disk) = disk(arch) else { return };
    let mut guest = start(&disk.image, options);
    log_in(&mut guest);
    assert_eq!(guest.shell("tty"), "/dev/ttyS0");
    let machine = if arch == Arch::Amd64 { "x86_64" } else { "i686" };
    assert_eq!(guest.shell("uname -m"), machine);
    // A script, as a user would write one.
    guest.send("cat > /root/work <<'END'\n");
    guest.send("for n in 1 2 3 4 5 6 7 8; do\n");
    guest.send("dd if=/dev/urandom of=/root/data$n bs=4k count=$((n * 16)) 2>/dev/null\n");
    guest.send("done\nmd5sum /root/data? > /root/sums\nEND\n");
    let sums = guest.shell("sh /root/work; cat /root/sums");
    assert_eq!(sums.lines().count(), 8, "{sums}");
    assert_eq!(guest.shell("sync; dmesg -r | grep -c '^<[0-3]>.*\\(ata\\|EXT4\\|I/O\\)'"), "0");
    guest.send("poweroff\n");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
    let dir = tempfile::tempdir().expect("a temporary folder");
    for line in sums.lines() {
        let (sum, file) = line.split_once("  ").expect("md5sum's form");
        let bytes = read_back(store(), &disk.image, file).expect("debugfs reads it");
        assert_eq!(md5(dir.path(), &bytes), sum, "{file}");
    }
    assert!(recover(store(), &disk.image).expect("e2fsck runs"), "the file system is clean");
}

/// The sum by the host's own program.
fn md5(dir: &Path, bytes: &[u8]) -> String {
    let file = dir.join("bytes");
    std::fs::write(&file, bytes).expect("room");
    let output = std::process::Command::new("md5sum").arg(&file).output().expect("md5sum is there");
    String::from_utf8_lossy(&output.stdout)[..32].to_owned()
}

#[test]
fn disk_64_to_login_files_and_back() {
    check_login_and_files(Arch::Amd64, &[]);
}

#[test]
fn disk_32_to_login_files_and_back() {
    check_login_and_files(Arch::I386, &[]);
}

#[test]
fn what_was_synced_survives_kill_9() {
    let Some(disk) = disk(Arch::Amd64) else { return };
    let mut guest = start(&disk.image, &[]);
    log_in(&mut guest);
    let sums: Vec<String> = (0..5)
        .map(|round| {
            guest.shell(&format!(
                "seq $((RANDOM)) 1 200000 | head -c 300000 > /root/f{round}; sync; md5sum < /root/f{round}"
            ))
        })
        .collect();
    guest.kill();
    // A mount would replay the journal: so does e2fsck.
    recover(store(), &disk.image).expect("e2fsck runs");
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (round, sum) in sums.iter().enumerate() {
        let bytes = read_back(store(), &disk.image, &format!("/root/f{round}"));
        let bytes = bytes.expect("debugfs reads it");
        assert_eq!(bytes.len(), 300_000, "file {round}");
        assert_eq!(Some(md5(dir.path(), &bytes).as_str()), sum.split(' ').next(), "file {round}");
    }
}
