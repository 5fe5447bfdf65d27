//! A static x86-64 program in a bare long-mode guest (`tests/elf`) against the same program on the host CPU.
//!
//! The program logs two million lines of x87, SSE, AVX and bit arithmetic with their status flags; the guest's log
//! has to be the host's, byte for byte. Needs nasm, and a host that runs x86-64-v3: without them the test says so.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn nasm(source: &str, into: &Path, defines: &[String]) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/elf");
    let out = into.join(source.replace(".asm", ".bin"));
    let mut nasm = Command::new("nasm");
    nasm.args(["-w-all", "-f", "bin"]).args(defines).arg(folder.join(source)).arg("-o").arg(&out);
    match nasm.status() {
        Ok(status) => {
            assert!(status.success(), "nasm failed on {source}");
            Some(out)
        }
        Err(_) => {
            assert!(
                std::env::var_os("STELE_REQUIRE_ALL").is_none(),
                "nasm is required here and not installed"
            );
            eprintln!("SKIPPED: nasm is not installed, {source} was not run");
            None
        }
    }
}

/// Runs the program here and in a guest, and compares what both say.
fn check(accel: &str, rounds: Option<u32>) {
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        eprintln!("SKIPPED: this host CPU is no x86-64-v3");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let defines: Vec<String> = rounds.iter().map(|n| format!("-DROUNDS={n}")).collect();
    let Some(program) = nasm("arith.asm", dir.path(), &defines) else { return };
    let define = [format!("-DPROGRAM='{}'", program.display())];
    let Some(firmware) = nasm("shell.asm", dir.path(), &define) else { return };
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("our own file");
    let log = dir.path().join("guest.log");
    let status = Command::new(env!("CARGO_BIN_EXE_stele"))
        .args(["-accel", accel, "-cpu", "max", "-m", "64", "-display", "none", "-no-reboot"])
        .args(["-debugcon", &format!("file:{}", log.display())])
        .args(["-device", "isa-debug-exit,iobase=0x501", "-serial", "none", "-bios"])
        .arg(&firmware)
        .status()
        .expect("stele starts");
    let mut host =
        Command::new(&program).stdout(Stdio::piped()).spawn().expect("the program starts");
    let pipe = host.stdout.take().expect("a pipe was asked for");
    let lines = BufReader::new(pipe).lines();
    let guest = BufReader::new(fs::File::open(&log).expect("the guest wrote a log")).lines();
    let mut count = 0;
    let mut guest = guest.map(|line| line.expect("plain text"));
    for line in lines.map(|line| line.expect("plain text")) {
        count += 1;
        let got = guest.next().unwrap_or_default();
        assert_eq!(got, line, "line {count} of the guest ({accel}) differs from the host's");
    }
    assert!(host.wait().expect("the program ends").success(), "the program failed on the host");
    assert_eq!(guest.next(), None, "the guest wrote more than the host's {count} lines");
    assert_eq!(status.code(), Some(1), "the guest left through the debug exit with value 0");
    eprintln!("{count} lines agree ({accel})");
}

#[test]
fn two_million_lines_of_arithmetic_are_the_hosts() {
    check("jit", None);
}

#[test]
fn the_evaluator_does_arithmetic_like_the_host() {
    check("interp", Some(12));
}
