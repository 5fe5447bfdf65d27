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
        (&["-cpu", "max,+avx9"], "no feature avx9, did you mean avx?"),
        (&["-cpu", "qemu64,+cr8-legacy"], "cannot be had"),
        (&["-cpu", "max,+svm"], "svm cannot be had"),
        (&["-cpu", "max,vendor=AMD"], "vendor=AMD must be twelve characters"),
        (&["-cpu", "max,phys-bits=52"], "from 32 to 40"),
        (&["-cpu", "Haswell-v0"], "no model Haswell-v0"),
        (&["-sandbox", "on"], "it can only be off"),
        (&["-uuid", "x"], "x is no UUID"),
        (&["-machine", "pc,hpet=off"], "hpet=off is not supported yet"),
        (&["-smp", "2"], "one CPU only"),
        (&["-d", "in_asmm"], "did you mean in_asm?"),
        (&["-dfilter", "5..1"], "5..1 is no range"),
        (&["-accel", "kvm"], "-accel kvm"),
        (&["-machine", "q35"], "only pc"),
        (&["-s", "-gdb", "tcp::1"], "there is one gdb server"),
        (&["-gdb", "file:x"], "-gdb file:x: tcp::PORT, unix:PATH"),
        (&["-gdb", "tcp::x"], "-gdb tcp::x"),
        (&["-net", "user"], "-net: only none"),
        (&["-drive", "format=raw"], "file=FILE is missing"),
        (&["-drive", "file=a,formt=raw"], "did you mean format=?"),
        (&["-device", "e1000"], "-device e1000 is not supported yet"),
        (&["-serial", "udp::1"], "-serial udp::1 is not supported"),
        (&["-serial", "stdio", "-monitor", "stdio"], "-serial mon:stdio shares it"),
        (&["-chardev", "pty,id=a", "-serial", "chardev:a", "-monitor", "chardev:a"], "mux=on"),
        (&["-mon", "chardev=x"], "no -chardev with id=x"),
        (&["-echr", "x"], "no ASCII code"),
        (&["-action", "reboot=never"], "must be shutdown or reset"),
        (&["-action", "panik=none"], "known: reboot shutdown"),
        (&["-device", "isa-debugcon,chardev=d"], "no -chardev with id=d"),
        (&["-serial", "stdio", "-debugcon", "stdio"], "one device only"),
        (&["-display", "gtk"], "-display gtk is not supported yet"),
        (&["-append", "x"], "there is no -kernel they belong to"),
        (&["-kernel", "x", "-machine", "pc,kernel-entry=8"], "is not 16, 32 or 64"),
        (&["-icount", "auto"], "give shift=0 to shift=10"),
        (&["-icount", "shift=11"], "shift=0 to shift=10"),
        (&["-icount", "shift=3,align=on"], "align=on is not supported"),
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
    let vmdk = file(&dir, "v.img", &b"KDMV".repeat(256));
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
        (&["-drive", &format!("file={qcow}")], "cannot use qcow2 image"),
        (&["-drive", &format!("file={vmdk}")], "is in vmdk format"),
        (&["-hda", &disk, "-bios", &odd], "multiple of 64 KiB"),
        (&["-hda", &disk, "-bios", "no-such-bios.bin"], "apt install seabios"),
        (&["-hda", &disk, "-pidfile", "/no/such/dir/pid"], "cannot write /no/such/dir/pid"),
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
        (&["-device", "?"], "name \"pc-testdev\", bus ISA"),
        (&["-machine", "help"], "(default)"),
        (&["-accel", "help"], "interp"),
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

#[test]
fn without_arguments_the_demo_runs_and_ends_by_itself() {
    let output = stele(&[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("Stele demo firmware"), "{text}");
    assert!(text.trim_end().ends_with("Power off."), "{text}");
    assert!(!text.contains('\x1b'), "no escape sequences without a terminal");
}

#[test]
fn nographic_speaks_on_stdout() {
    let output = stele(&["-nographic"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Primes below 100000: 9592\r\n"));
}

#[test]
fn ctrl_a_x_quits() {
    use std::io::Write;
    let dir = tempfile::tempdir().expect("a temporary directory");
    // A boot firmware that halts for ever: cli; hlt; jmp back to the hlt, at F000:FFF0.
    let mut halt = vec![0xff; 0x1_0000];
    halt[0xfff0..0xfff4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    let halt = file(&dir, "halt.bin", &halt);
    let mut child = Command::new(env!("CARGO_BIN_EXE_stele"))
        .args(["-nographic", "-vga", "none", "-bios", &halt])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"\x01x").expect("the command reads");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn exit_codes_tell_what_the_guest_did() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let firmware = |name: &str, code: &[u8]| {
        let mut image = vec![0xff; 0x1_0000];
        image[0x8000..0x8000 + code.len()].copy_from_slice(code);
        // jmp near to 8000h.
        image[0xfff0..0xfff3].copy_from_slice(&[0xe9, 0x0d, 0x80]);
        file(&dir, name, &image)
    };
    // mov al, 16; mov dx, 501h; out dx, al; hlt
    let exit = firmware("exit.bin", &[0xb0, 16, 0xba, 0x01, 0x05, 0xee, 0xf4]);
    let options = ["-display", "none", "-vga", "none", "-no-reboot"];
    let debug_exit = ["-device", "isa-debug-exit,iobase=0x501", "-bios", &exit];
    assert_eq!(stele(&[&options[..], &debug_exit].concat()).status.code(), Some(33));
    // As kvm-unit-tests are run. in al, E8h, after out E0h, al; mov dx, F4h; out dx, al
    let testdev = firmware("testdev.bin", &[0xb0, 3, 0xe6, 0xe0, 0xb0, 0, 0xe4, 0xe8, 0xe6, 0xf4]);
    let words = "-nodefaults -device pc-testdev -device isa-debug-exit,iobase=0xf4,iosize=0x4 \
                 -vnc none -serial null -device pci-testdev -machine accel=tcg -smp 1 -bios";
    let words: Vec<&str> = words.split_whitespace().chain([testdev.as_str()]).collect();
    assert_eq!(stele(&words).status.code(), Some(7));
    // lidt cs:[8010h] with limit 0; int3
    let mut code = vec![0x2e, 0x0f, 0x01, 0x1e, 0x10, 0x80, 0xcc, 0xf4];
    code.resize(0x16, 0);
    let triple = firmware("triple.bin", &code);
    let output = stele(&[&options[..], &["-bios", &triple]].concat());
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8_lossy(&output.stderr);
    for part in ["triple fault near f000:", "EIP=000080", "last blocks", "\nf000:000000000000fff0"]
    {
        assert!(text.contains(part), "{part:?} not in {text}");
    }
    // mov al, FEh; out 64h, al: the keyboard controller resets the machine
    let reset = firmware("reset.bin", &[0xb0, 0xfe, 0xe6, 0x64, 0xf4]);
    assert_eq!(stele(&[&options[..], &["-bios", &reset]].concat()).status.code(), Some(0));
}

#[test]
fn signals_end_with_128_plus_n() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut halt = vec![0xff; 0x1_0000];
    halt[0xfff0..0xfff4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    let halt = file(&dir, "halt.bin", &halt);
    let mut child = Command::new(env!("CARGO_BIN_EXE_stele"))
        .args(["-display", "none", "-vga", "none", "-bios", &halt])
        .stdin(Stdio::null())
        .spawn()
        .expect("the command starts");
    std::thread::sleep(std::time::Duration::from_millis(500));
    let killed = Command::new("kill").arg(child.id().to_string()).status().expect("kill is there");
    assert!(killed.success());
    assert_eq!(child.wait().expect("it ends").code(), Some(128 + 15));
}

#[test]
fn the_log_has_qemu_s_sections() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = dir.path().join("log");
    let log = log.to_str().expect("UTF-8");
    let output = stele(&["-d", "in_asm,op,op_opt,out_asm,int,exec", "-D", log]);
    assert_eq!(output.status.code(), Some(0));
    let text = std::fs::read_to_string(log).expect("the log was written");
    for section in [
        "PROLOGUE: [size=",
        "----------------\nIN: \n0xfffffff0:",
        "\nOP:\n ----",
        "\nOP after optimization and liveness analysis:\n",
        "\nOUT: [size=",
        "\nTrace 0: 0x",
        "Servicing hardware INT=0x20",
    ] {
        assert!(text.contains(section), "{section:?}");
    }
    assert_eq!(text.matches("PROLOGUE:").count(), 1);
}

#[test]
fn a_shell_completes_options() {
    let stele = env!("CARGO_BIN_EXE_stele");
    let script = format!(
        "source <({stele} completion bash); COMP_WORDS=(stele -snap); COMP_CWORD=1; \
         _stele stele -snap stele; echo \"${{COMPREPLY[@]}}\""
    );
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash is everywhere");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), "-snapshot", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_tables_can_be_asked() {
    for (args, expect) in [
        (&["spec", "show", "0F B1"][..], "CMPXCHG"),
        (&["spec", "show", "0F", "B1"], "CMPXCHG"),
        (&["spec", "show", "cmpxchg"], "0F B1"),
        (&["spec", "list"], "0F B1 /r"),
        (&["isa", "--coverage"], "one-byte map:"),
    ] {
        let output = stele(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(expect), "{args:?}");
    }
    check_error(&["spec", "show", "cmpxchgg"], 2, "did you mean CMPXCHG?");
}
