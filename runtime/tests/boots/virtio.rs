//! Virtio devices under Debian's drivers: a console to log in on, a channel for programs, a disk that is discarded from, two
//! machines on one cable; and SeaBIOS booting the virtio disk it is told to.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;

use guests::Arch;

use crate::support::{Guest, kernel_options_with, linux, or_skip, skip, store};

/// Options for the 64-bit kernel with these modules and this command line.
#[track_caller]
fn options(modules: &[&str], append: &str) -> Option<Vec<String>> {
    let linux = linux(Arch::Amd64, "cloud-amd64")?;
    let initrd = or_skip(linux.initramfs_with_modules(store(), modules))?;
    Some(kernel_options_with(&linux, &initrd, append))
}

fn start(mut words: Vec<String>, more: &[&str]) -> Guest {
    words.extend(more.iter().map(|word| (*word).to_owned()));
    Guest::stele(words)
}

#[test]
fn a_console_and_a_channel() {
    let action = "quiet action=\"echo pi''ng > /dev/vport0p1; head -n 1 /dev/vport0p1; \
                  setsid sh -c 'exec sh </dev/hvc0 >/dev/hvc0 2>&1'\"";
    let modules = ["virtio_pci", "virtio_console"];
    let Some(words) = options(&modules, action) else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("channel");
    let listener = UnixListener::bind(&path).expect("a socket");
    let channel = format!("socket,id=chan,path={}", path.display());
    let console = [
        "-serial",
        "null",
        "-chardev",
        "stdio,id=con",
        "-chardev",
        &channel,
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtconsole,chardev=con",
        "-device",
        "virtserialport,chardev=chan,name=org.stele.test",
    ];
    let mut guest = start(words, &console);
    let (mut peer, _) = listener.accept().expect("it connects");
    let mut ping = [0; 5];
    peer.read_exact(&mut ping).expect("the guest writes");
    assert_eq!(&ping, b"ping\n");
    peer.write_all(b"pong\n").expect("the guest reads");
    // A shell on hvc0, which is our stdin and stdout.
    guest.expect("# ");
    assert_eq!(guest.shell("cat /sys/class/virtio-ports/vport0p1/name"), "org.stele.test");
    assert_eq!(guest.shell("seq 1 20000 | md5sum | cut -c 1-8"), "e071f707");
    let long = guest.shell("seq 1 20000");
    assert!((1..=20_000).map(|n| n.to_string()).eq(long.lines().map(str::trim_end)), "{long}");
    guest.send("poweroff -f\n");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
}

#[test]
fn a_disk_gives_back_what_is_discarded() {
    let action = "quiet action=\"dd if=/dev/urandom of=/dev/vda bs=1M count=16 2>/dev/null; sync; \
                  blkdiscard -o 4194304 -l 8388608 /dev/vda; echo status $?; \
                  cat /sys/block/vda/queue/discard_max_bytes; cat /sys/block/vda/serial\"";
    let Some(words) = options(&["virtio_pci", "virtio_blk"], action) else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let image = dir.path().join("disk.img");
    let file = std::fs::File::create(&image).and_then(|file| file.set_len(16 << 20));
    file.expect("room for a disk");
    let drive =
        format!("file={},format=raw,if=virtio,discard=unmap,serial=the-serial", image.display());
    let mut guest = start(words, &["-drive", &drive]);
    guest.expect("status 0");
    guest.expect("67108864");
    guest.expect("the-serial");
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
    let blocks = std::fs::metadata(&image).expect("the image is there").blocks();
    let mib = (blocks * 512) >> 20;
    match mib {
        16 => skip("a temporary folder on a file system with holes"),
        _ => assert_eq!(mib, 8, "MiB left of 16"),
    }
}

#[test]
fn two_machines_on_one_cable() {
    let modules = ["virtio_pci", "virtio_net"];
    let first = "quiet action=\"ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up; \
                 echo li''stening; nc -l -p 7 > /tmp/in; md5sum < /tmp/in\"";
    let second = "quiet action=\"ip addr add 10.0.0.2/24 dev eth0; ip link set eth0 up; \
                  ping -c 3 10.0.0.1; seq 1 30000 > /tmp/out; md5sum < /tmp/out; nc 10.0.0.1 7 < /tmp/out\"";
    let (Some(one), Some(two)) = (options(&modules, first), options(&modules, second)) else {
        return;
    };
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let port = free.expect("a free port").port();
    let (listen, connect) = (
        format!("socket,listen=127.0.0.1:{port}"),
        format!("socket,id=n,connect=127.0.0.1:{port}"),
    );
    let mut one = start(one, &["-nic", &listen]);
    one.expect("listening");
    let mac = "virtio-net-pci,netdev=n,mac=52:54:00:00:00:02";
    let mut two = start(two, &["-netdev", &connect, "-device", mac]);
    two.expect("3 packets transmitted, 3 packets received");
    let last_line = |text: String| text.lines().last().map(str::to_owned);
    let sum = last_line(two.expect("  -"));
    assert_eq!(last_line(one.expect("  -")), sum);
    assert_eq!((one.exit_code(), two.exit_code()), (0, 0));
}

/// A disk whose boot sector says a letter on the first serial port and ends the run.
fn talking_disk(letter: u8) -> Vec<u8> {
    // mov dx,3F8h; mov al,letter; out dx,al; mov dx,501h; xor al,al; out dx,al; hlt
    let mut sector =
        vec![0xba, 0xf8, 0x03, 0xb0, letter, 0xee, 0xba, 0x01, 0x05, 0x30, 0xc0, 0xee, 0xf4];
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector.resize(1 << 20, 0);
    sector
}

#[test]
fn firmware_boots_the_disk_with_the_lowest_index() {
    if !std::path::Path::new("/usr/share/seabios/bios-256k.bin").is_file() {
        return skip("SeaBIOS (Debian package seabios)");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut options: Vec<String> = ["-m", "32", "-nographic", "-device", "isa-debug-exit"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    for letter in [b'A', b'B', b'C', b'D'] {
        let path = dir.path().join(format!("{}.img", char::from(letter)));
        std::fs::write(&path, talking_disk(letter)).expect("room for a disk");
        let id = char::from(letter.to_ascii_lowercase());
        options.extend([
            "-drive".into(),
            format!("file={},format=raw,if=none,id={id}", path.display()),
        ]);
    }
    for (first, expect) in [("a", "A"), ("b", "B"), ("c", "C"), ("d", "D")] {
        let mut words = options.clone();
        for (id, driver) in
            [("a", "ide-hd"), ("b", "virtio-blk-pci"), ("c", "virtio-blk-pci"), ("d", "ide-hd")]
        {
            let index = if id == first { 1 } else { 2 };
            words.extend(["-device".into(), format!("{driver},drive={id},bootindex={index}")]);
        }
        let mut guest = Guest::stele(&words);
        assert_eq!(guest.exit_code(), 1, "{}", guest.output());
        let output = guest.output();
        assert!(output.trim_end().ends_with(expect), "{output}");
    }
}
