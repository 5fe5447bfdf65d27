//! No input is slept through: thousands of single bytes, sent at ever other moments, each echoed by a guest that
//! has nothing else to wake it. `STELE_WAKEUPS` is how many to each kind of guest.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A byte that is not echoed for so long never will be.
const LIMIT: Duration = Duration::from_secs(600);

/// IRQ 4 (vector 0Ch) leads to an echo; then interrupts are on. The 8259 is set up for vectors 8 to 15 with only this line
/// open, COM1 for interrupts on received data.
#[rustfmt::skip]
const BY_INTERRUPT: &[u8] = &[
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x70, // cli; ds = ss = 0; mov sp, 7000h
    0xc7, 0x06, 0x30, 0x00, 0x40, 0x80,                         // mov word [30h], 8040h
    0x8c, 0x0e, 0x32, 0x00,                                     // mov [32h], cs
    0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x08, 0xe6, 0x21,             // ICW1, ICW2
    0xb0, 0x04, 0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21,             // ICW3, ICW4
    0xb0, 0xef, 0xe6, 0x21,                                     // mask: all but IRQ 4
    0xba, 0xf9, 0x03, 0xb0, 0x01, 0xee,                         // interrupt enable: data
    0xba, 0xfc, 0x03, 0xb0, 0x0b, 0xee,                         // modem control: OUT2
    0xfb,                                                       // sti
];
/// The handler, at F000:8040: in al, dx; out dx, al; end of interrupt; iret
const HANDLER: &[u8] =
    &[0x50, 0x52, 0xba, 0xf8, 0x03, 0xec, 0xee, 0xb0, 0x20, 0xe6, 0x20, 0x5a, 0x58, 0xcf];
/// l: hlt; jmp l
const HALTING: &[u8] = &[0xf4, 0xeb, 0xfd];
/// l: jmp l
const SPINNING: &[u8] = &[0xeb, 0xfe];
/// l: mov ax, [100h]; call f; jmp l; f: ret — indirect jumps
const CALLING: &[u8] = &[0xa1, 0x00, 0x01, 0xe8, 0x02, 0x00, 0xeb, 0xf8, 0xc3];
/// l: mov dx, 3FDh; in al, dx; test al, 1; jz l; mov dx, 3F8h; in al, dx; out dx, al; jmp l
const POLLING: &[u8] =
    &[0xba, 0xfd, 0x03, 0xec, 0xa8, 1, 0x74, 0xf8, 0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb, 0xf1];

fn firmware(dir: &Path, pieces: &[(usize, &[u8])]) -> PathBuf {
    let mut image = vec![0xff; 0x1_0000];
    for &(at, code) in pieces {
        image[at..at + code.len()].copy_from_slice(code);
    }
    // jmp near to 8000h.
    image[0xfff0..0xfff3].copy_from_slice(&[0xe9, 0x0d, 0x80]);
    let path = dir.join("firmware");
    std::fs::write(&path, image).expect("a temporary file can be written");
    path
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connect(path: &Path, child: &mut Running) -> UnixStream {
    let start = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(error) => assert!(start.elapsed() < LIMIT, "no socket: {error}"),
        }
        let ended = child.0.try_wait().expect("it is ours");
        assert!(ended.is_none(), "the command ended: {ended:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
fn check(pieces: &[(usize, &[u8])], options: &[&str]) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let socket = dir.path().join("com1");
    let mut command = Command::new(env!("CARGO_BIN_EXE_stele"));
    command.args(["-m", "16", "-display", "none", "-vga", "none", "-monitor", "none", "-bios"]);
    command.arg(firmware(dir.path(), pieces)).args(options);
    command.arg("-serial").arg(format!("unix:{},server,nowait", socket.display()));
    let child = command.stdin(Stdio::null()).spawn().expect("the command starts");
    let mut child = Running(child);
    let mut stream = connect(&socket, &mut child);
    stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
    let count = std::env::var("STELE_WAKEUPS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    for n in 0..count {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let (start, pause) = (Instant::now(), Duration::from_nanos(chance % 200_000));
        while start.elapsed() < pause {
            std::hint::spin_loop();
        }
        let mut echo = [0];
        stream.write_all(&[n as u8]).expect("the guest is there");
        if let Err(error) = stream.read_exact(&mut echo) {
            panic!("byte {n} is not echoed: {error}");
        }
        assert_eq!(echo, [n as u8]);
    }
}

#[track_caller]
fn check_interrupts(idle: &[u8]) {
    let main = [BY_INTERRUPT, idle].concat();
    assert!(main.len() <= 0x40);
    for options in [&["-accel", "jit"], &["-accel", "interp"]] {
        check(&[(0x8000, &main), (0x8040, HANDLER)], options);
    }
    check(&[(0x8000, &main), (0x8040, HANDLER)], &["-icount", "shift=3,sleep=on"]);
}

#[test]
fn a_halted_guest_wakes() {
    check_interrupts(HALTING);
}

#[test]
fn a_spinning_guest_is_interrupted() {
    check_interrupts(SPINNING);
}

#[test]
fn a_calling_guest_is_interrupted() {
    check_interrupts(CALLING);
}

#[test]
fn a_polling_guest_sees_its_byte() {
    check(&[(0x8000, POLLING)], &[]);
}
