//! gdb itself, driving the machine: a boot sector in real mode, and a kernel on its way to long mode.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use guests::{Arch, INIT_MARKER, find_program};

use crate::support::{Guest, Monitor, kernel_options, linux, skip};

/// A loop that counts a word of memory up, three times; a long one; then for ever a wait for interrupts.
#[rustfmt::skip]
const SECTOR: &[u8] = &[
    0x31, 0xc0, 0x8e, 0xd8,             // 7c00: xor ax, ax; mov ds, ax
    0xc7, 0x06, 0x00, 0x7e, 0x00, 0x00, // 7c04: mov word [7e00h], 0
    0xb9, 0x03, 0x00,                   // 7c0a: mov cx, 3
    0xff, 0x06, 0x00, 0x7e,             // 7c0d: inc word [7e00h]
    0xe2, 0xfa,                         // 7c11: loop 7c0dh
    0xea, 0x18, 0x00, 0xc0, 0x07,       // 7c13: jmp 07c0:0018
    0x40,                               // 7c18: inc ax
    0x66, 0xb9, 0x40, 0x0d, 0x03, 0x00, // 7c19: mov ecx, 200000
    0x66, 0x31, 0xdb,                   // 7c1f: xor ebx, ebx
    0x66, 0x43,                         // 7c22: inc ebx
    0x66, 0x83, 0xfb, 0x00,             // 7c24: cmp ebx, 0
    0x66, 0x49,                         // 7c28: dec ecx
    0x75, 0xf6,                         // 7c2a: jnz 7c22h
    0x66, 0xa3, 0x04, 0x7e,             // 7c2c: mov [7e04h], eax
    0xf4,                               // 7c30: hlt
    0xeb, 0xfd,                         // 7c31: jmp 7c30h
];

/// Where gdb finds the machine, and a folder for it.
struct Socket {
    path: PathBuf,
    dir: tempfile::TempDir,
}

impl Socket {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self { path: dir.path().join("gdb"), dir }
    }

    fn options(&self) -> [String; 2] {
        ["-gdb".to_owned(), format!("unix:{}", self.path.display())]
    }

    /// The option of a disk beside the socket that boots [`SECTOR`].
    fn boot_drive(&self) -> String {
        let image = self.dir.path().join("disk");
        let mut sector = SECTOR.to_vec();
        sector.resize(510, 0);
        sector.extend([0x55, 0xaa]);
        std::fs::write(&image, sector).expect("room");
        format!("file={},format=raw", image.display())
    }
}

/// gdb, or a word about what is skipped.
fn gdb() -> Option<PathBuf> {
    let found = find_program("gdb");
    if found.is_none() {
        skip("gdb (Debian package gdb)");
    }
    found
}

/// What gdb says to a script, once the machine listens.
fn run(gdb: &Path, socket: &Socket, script: &str) -> String {
    let start = Instant::now();
    while !socket.path.exists() {
        assert!(start.elapsed().as_secs() < 600, "the machine does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    let file = socket.dir.path().join("script");
    let head = "set pagination off\nset confirm off\nset architecture i386:x86-64\ntarget remote";
    let text = format!("{head} {}\n{script}", socket.path.display());
    std::fs::write(&file, text).expect("room");
    let mut command = Command::new(gdb);
    command.args(["-q", "-nx", "-batch", "-x"]).arg(&file).stdin(Stdio::null());
    let output = command.output().expect("gdb starts");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{err}")
}

#[track_caller]
fn expect_all(said: &str, wanted: &[&str]) {
    let mut rest = said;
    for text in wanted {
        match rest.find(text) {
            Some(at) => rest = &rest[at + text.len()..],
            None => panic!("no {text:?} at its place in:\n{said}"),
        }
    }
}

#[test]
fn a_boot_sector_under_gdb() {
    let Some(gdb) = gdb() else { return };
    for engine in [&["-accel", "jit"][..], &["-accel", "interp"], &["-icount", "shift=4"]] {
        let socket = Socket::new();
        let drive = socket.boot_drive();
        let options = ["-m", "16", "-display", "none", "-S", "-snapshot", "-drive", &drive];
        let _guest = Guest::stele(
            options
                .map(str::to_owned)
                .iter()
                .chain(&socket.options())
                .map(String::as_str)
                .chain(engine.iter().copied()),
        );
        let script = "
            print $rip
            break *0x7c11
            continue
            print $cx
            continue
            print $cx
            x/1xh 0x7e00
            delete
            watch *(short *)0x7e00
            continue
            print $rip
            delete
            set var *(char *)0x9000 = 0x5a
            x/1xb 0x9000
            hbreak *0x7c18
            monitor set linear-pc on
            continue
            print $rip
            print $cs
            stepi
            print $rip
            set $rax = 0x41
            print $ax
            print $eflags & 0x100
            monitor info registers
            delete
            break *0x17c24
            break *0x7c2c
            continue
            print $ebx
            print $ecx
            delete
            awatch *(int *)0x7e04
            continue
            print $rip
            delete
            rwatch *(char *)0x46c
            detach";
        let said = run(&gdb, &socket, script);
        expect_all(
            &said,
            &[
                "0xfff0",
                "Breakpoint 1,",
                "= 3\n",
                "Breakpoint 1,",
                "= 2\n",
                "0x0002",
                "Old value = 2",
                "New value = 3",
                "0x7c11",
                "0x5a",
                "Breakpoint 3,",
                "0x7c18",
                "= 1984",
                "0x7c19",
                "= 65\n",
                "= 0\n",
                "Breakpoint 5,",
                "= 200000\n",
                "= 0\n",
                "New value = 65",
                "0x7c30",
                "detached",
            ],
        );
        assert!(said.contains("CS =07c0 00007c00"), "{said}");
    }
}

#[test]
fn a_kernel_under_gdb() {
    let Some(gdb) = gdb() else { return };
    let Some(linux) = linux(Arch::Amd64, "cloud-amd64") else { return };
    let socket = Socket::new();
    let words = kernel_options(&linux, "quiet nokaslr action=true");
    let mut guest = Guest::stele(words.iter().chain(&["-S".to_owned()]).chain(&socket.options()));
    // The kernel proper begins at 16 MiB, in long mode with the boot code's tables; from there it goes to its own addresses.
    let script = "
        break *0x1000000
        continue
        print/x $efer
        print $rip
        stepi
        stepi
        delete
        watch $cr3
        delete
        print $cs
        print/x $cr0 >> 31
        tbreak *0xffffffff81000000
        detach";
    let said = run(&gdb, &socket, script);
    expect_all(&said, &["Breakpoint 1,", "= 0x500", "0x1000000", "= 16", "= 0x1", "detached"]);
    guest.expect(INIT_MARKER);
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
}

/// The next packet's text.
fn packet(peer: &mut UnixStream) -> String {
    let (mut text, mut byte) = (String::new(), [0]);
    while byte != *b"#" {
        peer.read_exact(&mut byte).expect("an answer");
        match byte[0] {
            b'$' => text.clear(),
            byte => text.push(char::from(byte)),
        }
    }
    peer.read_exact(&mut [0; 2]).expect("its sum");
    peer.write_all(b"+").expect("the machine listens");
    text
}

#[track_caller]
fn wait_until_running(monitor: &mut Monitor) {
    let start = Instant::now();
    while !monitor.command("info status").contains("running") {
        assert!(start.elapsed() < Duration::from_secs(600), "it does not go on");
    }
}

#[test]
fn an_interrupt_a_lost_peer_and_a_kill() {
    let socket = Socket::new();
    let drive = socket.boot_drive();
    let (options, monitor) = Monitor::options();
    let words = ["-m", "16", "-display", "none", "-snapshot", "-drive", &drive].map(str::to_owned);
    let mut guest = Guest::stele(words.iter().chain(&socket.options()).chain(&options));
    let mut monitor = monitor();
    let connect = || {
        let peer = UnixStream::connect(&socket.path).expect("the machine listens");
        peer.set_read_timeout(Some(Duration::from_secs(600))).expect("a time limit");
        peer
    };
    let mut peer = connect();
    peer.write_all(b"$?#3f").expect("the machine listens");
    assert!(packet(&mut peer).contains("05"));
    assert!(monitor.command("info status").contains("paused"));
    for _ in 0..20 {
        peer.write_all(b"$vCont;c#a8").expect("the machine listens");
        std::thread::sleep(Duration::from_millis(10));
        peer.write_all(b"\x03").expect("the machine listens");
        assert!(packet(&mut peer).contains("02"));
    }
    // A stop by somebody else is told, too.
    peer.write_all(b"$vCont;c#a8").expect("the machine listens");
    wait_until_running(&mut monitor);
    assert_eq!(monitor.command("stop"), "");
    assert!(packet(&mut peer).contains("02"));
    // It ran when the peer came: so it does when the peer is gone.
    drop(peer);
    wait_until_running(&mut monitor);
    let mut peer = connect();
    peer.write_all(b"$?#3f").expect("the machine listens");
    packet(&mut peer);
    peer.write_all(b"$k#6b").expect("the machine listens");
    assert_eq!(guest.exit_code(), 0);
}

#[test]
fn a_running_system_under_gdb() {
    let Some(gdb) = gdb() else { return };
    let Some(linux) = linux(Arch::Amd64, "cloud-amd64") else { return };
    let socket = Socket::new();
    let words = kernel_options(&linux, "quiet nokaslr");
    let mut guest = Guest::stele(words.iter().chain(&socket.options()));
    guest.expect(INIT_MARKER);
    guest.expect("# ");
    let mut place = |symbol: &str| {
        guest.shell(&format!("grep -w {symbol} /proc/kallsyms | head -n 1 | cut -c 1-16"))
    };
    let (entry, jiffies) = (place("entry_SYSCALL_64"), place("jiffies"));
    guest.send("while :; do cat /proc/uptime > /dev/null; done & echo work''ing\n");
    guest.expect("working");
    let script = format!(
        "
        hbreak *0x{entry}
        continue
        print $cs & 3
        print $gs_base != $k_gs_base
        ignore 1 20
        continue
        print $rip
        stepi
        delete
        watch *(unsigned long *)0x{jiffies}
        continue
        continue
        delete
        detach"
    );
    let said = run(&gdb, &socket, &script);
    let place = format!("0x{entry}");
    let wanted =
        ["Breakpoint 1,", "= 0\n", "= 1\n", "Breakpoint 1,", &place, "Old value", "Old value"];
    expect_all(&said, &wanted);
    // It goes on as if nothing had been.
    assert_eq!(guest.shell("kill %1; echo $((6 * 7))").lines().last(), Some("42"));
    guest.send("poweroff -f\n");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
}
