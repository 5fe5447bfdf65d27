//! Bare-metal probes of privileged behaviour (`tests/probe/*.asm`) against recorded results.
//!
//! Each line a probe prints is folded into a digest of its group (first two fields). The recorded
//! digests are of runs whose lines were compared with Bochs 2.7 one by one; `probe/README.md` lists
//! where they differ and why. UPDATE_EXPECT=1 records anew. Needs nasm: without it the test says so.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe")
}

/// Assembles a probe; `None` without nasm.
fn assemble(name: &str, into: &Path) -> Option<PathBuf> {
    let image = into.join(format!("{name}.bin"));
    let source = folder().join(format!("{name}.asm"));
    let mut nasm = Command::new("nasm");
    nasm.args(["-w-all", "-f", "bin"]).arg(source).arg("-o").arg(&image);
    match nasm.status() {
        Ok(status) => {
            assert!(status.success(), "nasm failed on {name}.asm");
            Some(image)
        }
        Err(_) => {
            eprintln!("SKIPPED: nasm is not installed, {name}.asm was not run");
            None
        }
    }
}

/// Runs an image as firmware and gives what it wrote to port E9.
fn run(image: &Path, accel: &str, into: &Path) -> String {
    let out = into.join(format!("{accel}.txt"));
    let status = Command::new(env!("CARGO_BIN_EXE_stele"))
        .args(["-accel", accel, "-m", "16", "-display", "none", "-serial", "none", "-no-reboot"])
        .args(["-device", "isa-debugcon,iobase=0xe9,chardev=d", "-chardev"])
        .arg(format!("file,id=d,path={}", out.display()))
        .args(["-device", "isa-debug-exit,iobase=0x501", "-bios"])
        .arg(image)
        .status()
        .expect("stele starts");
    assert_eq!(status.code(), Some(1), "the probe leaves through the debug exit with value 0");
    std::fs::read_to_string(out).expect("the probe wrote its lines")
}

/// One line per group: its name, number of lines and digest.
fn digest(text: &str) -> String {
    let mut groups: Vec<(&str, u32, u64)> = Vec::new();
    for line in text.lines() {
        let group = line.get(..5).unwrap_or(line);
        if groups.last().is_none_or(|g| g.0 != group) {
            groups.push((group, 0, 0xCBF2_9CE4_8422_2325));
        }
        if let Some((_, lines, hash)) = groups.last_mut() {
            *lines += 1;
            for byte in line.trim_end().bytes() {
                *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
            }
        }
    }
    groups.iter().fold(String::new(), |mut out, (group, lines, hash)| {
        let _ = writeln!(out, "{group} {lines} {hash:016x}");
        out
    })
}

fn check(name: &str, accels: &[&str]) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let Some(image) = assemble(name, dir.path()) else { return };
    let golden = folder().join(format!("{name}.digest"));
    for accel in accels {
        let text = run(&image, accel, dir.path());
        assert!(text.ends_with("Z\n"), "{name} on {accel} did not finish");
        let got = digest(&text);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&golden, got).expect("the digest can be written");
            continue;
        }
        let want = std::fs::read_to_string(&golden).expect("the recorded digest");
        let bad: Vec<&str> = got.lines().filter(|l| !want.lines().any(|w| w == *l)).collect();
        assert!(got == want, "{name} on {accel} differs in groups: {bad:?}");
    }
}

#[test]
fn machine() {
    check("machine", &["jit"]);
}

#[test]
fn faults() {
    check("faults", &["jit", "interp"]);
}
