//! The programs of the bench-kit beside the project, each in a guest with the checksum it has natively.
//!
//! The kit (`../shared/bench-kit`, or the folder `STELE_BENCH_KIT` names) is C: it takes gcc and python3 to build it.
//! `STELE_BENCH_SCALE` sets how much work each does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use guests::{Arch, Linux};

use crate::support::{Guest, kernel_options, linux, store};

/// Checksums by program, from lines `@E name sum`.
fn sums(text: &str) -> BTreeMap<String, String> {
    let ends = text.lines().filter_map(|line| line.trim().strip_prefix("@E "));
    ends.filter_map(|rest| rest.split_once(' '))
        .map(|(name, sum)| (name.to_owned(), sum.to_owned()))
        .collect()
}

/// The kit's program for a width; says why there is none.
fn program(arch: Arch) -> Result<PathBuf, String> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/bench-kit");
    let kit = std::env::var_os("STELE_BENCH_KIT").map_or_else(|| beside.into(), PathBuf::from);
    let source = kit.join("src/bench.c");
    if !source.is_file() {
        return Err(format!("no bench-kit at {} (STELE_BENCH_KIT names it)", kit.display()));
    }
    let name = format!("bench-{}", arch.name());
    let built = store().make(&name, |dir| {
        let failed =
            |line| guests::Error::Failed { program: "building the bench-kit".into(), line };
        let cold = dir.join("cold.c");
        let made = Command::new("python3").arg(kit.join("src/gencold.py")).output();
        let made = made.map_err(|error| failed(format!("python3: {error}")))?;
        std::fs::write(&cold, &made.stdout).map_err(|error| failed(error.to_string()))?;
        let mut gcc = Command::new("gcc");
        if arch == Arch::I386 {
            gcc.args(["-m32", "-msse2"]);
        }
        gcc.args(["-O2", "-static", "-fno-tree-loop-distribute-patterns", "-w", "-o"]);
        gcc.arg(dir.join("bench")).arg(&source).arg(&cold).arg("-lm");
        let output = gcc.output().map_err(|error| failed(format!("gcc: {error}")))?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(()),
            false => Err(failed(said.lines().last().unwrap_or("gcc failed").to_owned())),
        }
    });
    built.map(|dir| dir.join("bench")).map_err(|error| error.to_string())
}

fn natively(program: &Path, scale: &str, busybox: &Path) -> BTreeMap<String, String> {
    let mut command = Command::new(program);
    command.args([scale, "all"]).env("BENCH_SELF", program).env("BB", busybox);
    let output = command.output().expect("the program runs on the host");
    sums(&String::from_utf8_lossy(&output.stdout))
}

#[track_caller]
fn check(arch: Arch) {
    let Some(linux) = linux(arch, Linux::flavour(arch)) else { return };
    let program = match program(arch) {
        Ok(program) => program,
        // It is no part of the project, so that nothing requires it.
        Err(why) => return eprintln!("SKIPPED: {why}"),
    };
    let scale = std::env::var("STELE_BENCH_SCALE").unwrap_or_else(|_| "0.02".into());
    let native = natively(&program, &scale, linux.busybox());
    assert!(native.len() > 20, "{native:?}");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let initrd = dir.path().join("initramfs");
    let bytes = linux.initramfs_with(&[("bench", &program)]).expect("the initramfs can be built");
    std::fs::write(&initrd, bytes).expect("room");
    let mut words = kernel_options(&linux, &format!("quiet action=\"bench {scale} all\""));
    let place = words.iter().position(|word| word == "-initrd").expect("it is an option") + 1;
    words[place] = initrd.display().to_string();
    let mut guest = Guest::stele(&words);
    assert_eq!(guest.exit_code(), 0, "{}", guest.output());
    assert_eq!(sums(&guest.output()), native);
}

#[test]
fn programs_64_have_their_native_checksums() {
    check(Arch::Amd64);
}

#[test]
fn programs_32_have_their_native_checksums() {
    check(Arch::I386);
}
