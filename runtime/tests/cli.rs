//! The command as a user meets it: options, messages, exit codes.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn stele(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stele"));
    command.args(args).stdin(Stdio::null()).output().expect("the command starts")
}

/// Runs the command and checks its exit code and that stderr is exactly one line holding `expect`.
#[track_caller]
fn check_error(args: &[&str], code: i32, expect: &str) {
    let output = stele(args);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
    assert!(text.contains(expect), "{args:?}: {text}");
    assert!(output.stdout.is_empty(), "{args:?}");
}

fn file(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> String {
    let path: PathBuf = dir.path().join(name);
    std::fs::write(&path, bytes).expect("a temporary file can be written");
    path.to_str().expect("temporary names are UTF-8").to_owned()
}

#[test]
fn usage_errors_are_one_line_and_exit_2() {
    for (args, expect) in [
        (&["-nographik"][..], "unknown option -nographik: did you mean -nographic?"),
        (&["--hdz", "x"], "did you mean -hd"),
        (&["-m"], "-m needs a value"),
        (&["-m", "zebra"], "-m: zebra is no size"),
        (&["-m", "1"], "out of range"),
        (&["-m", "1T"], "out of range"),
        (&["-cpu", "z80"], "no model z80"),
        (&["-smp", "2"], "one CPU only"),
        (&["-d", "in_asmm"], "did you mean in_asm?"),
        (&["-dfilter", "5..1"], "5..1 is no range"),
        (&["-accel", "kvm"], "-accel kvm"),
        (&["-machine", "q35"], "only pc"),
        (&["-s"], "gdb server is not supported yet"),
        (&["-gdb", "tcp::1"], "gdb server is not supported yet"),
        (&["-S"], "not supported yet"),
        (&["-net", "user"], "no network yet"),
        (&["-drive", "format=raw"], "file=FILE is missing"),
        (&["-drive", "file=a,formt=raw"], "did you mean format=?"),
        (&["-drive", "file=a,format=qcow2"], "only raw"),
        (&["-device", "e1000"], "-device e1000 is not supported yet"),
        (&["-serial", "tcp::1"], "-serial tcp::1 is not supported"),
        (&["-device", "isa-debugcon,chardev=d"], "no -chardev with id=d"),
        (&["-serial", "stdio", "-debugcon", "stdio"], "one device only"),
        (&["-display", "gtk"], "-display gtk is not supported yet"),
        (&["-kernel", "x"], "-kernel is not supported yet"),
        (&["-icount", "auto"], "-icount"),
        (&["-rtc", "base=yesterday"], "no date"),
        (&["-opt", "nonsense"], "-opt"),
        (&["a", "b"], "one disk image only"),
        (&["spec"], "usage: stele spec show"),
        (&["isa"], "usage: stele isa --coverage"),
    ] {
        check_error(args, 2, expect);
    }
}

#[test]
fn bad_files_are_one_line_and_exit_1() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let empty = file(&dir, "empty.img", b"");
    let short = file(&dir, "short.img", &[0; 100]);
    let qcow = file(&dir, "q.img", &[b"QFI\xfb".as_slice(), &[0; 1020]].concat());
    let disk = file(&dir, "disk.img", &[0; 1024]);
    let odd = file(&dir, "odd.bin", &[0; 1000]);
    let missing = dir.path().join("missing.img");
    let missing = missing.to_str().expect("UTF-8");
    let folder = dir.path().to_str().expect("UTF-8");
    for (args, expect) in [
        (&[missing][..], "cannot open disk image"),
        (&["-hda", &empty], "is empty"),
        (&["-hda", &short], "less than one sector"),
        (&["-hda", folder], "directory"),
        (&["-drive", &format!("file={qcow},format=raw")], "qcow2"),
        (&["-hda", &disk, "-bios", &odd], "multiple of 64 KiB"),
        (&["-hda", &disk, "-bios", "no-such-bios.bin"], "apt install seabios"),
        (
            &["-display", "none", "-hda", &disk, "-d", "int", "-D", "/no/such/dir/log"],
            "/no/such/dir/log",
        ),
    ] {
        check_error(args, 1, expect);
    }
}

#[test]
fn asked_for_text_goes_to_stdout() {
    for (args, expect) in [
        (&["--help"][..], "Usage: stele [OPTIONS] [IMAGE]"),
        (&["-h"], "-nographic"),
        (&["--version"], concat!("stele ", env!("CARGO_PKG_VERSION"))),
        (&["-d", "help"], "in_asm          show guest code"),
        (&["-cpu", "help"], "pentiumpro"),
    ] {
        let output = stele(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(expect), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn the_demo_can_be_written_out() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().to_str().expect("UTF-8");
    assert!(stele(&["demo", "--write", path]).status.success());
    assert_eq!(std::fs::read(dir.path().join("demo.bin")).expect("written").len(), 0x1_0000);
    assert_eq!(std::fs::read(dir.path().join("demo.img")).expect("written").len(), 0x8000);
}
