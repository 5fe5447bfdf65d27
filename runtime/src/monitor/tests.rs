//! Commands against a machine that halts, and nonsense.

use std::borrow::Cow;

use super::{expr, run_line, split};
use crate::machine::{Firmware, Machine, MachineConfig};

/// A machine whose firmware is `cli; hlt; jmp`, at F000:FFF0.
fn machine() -> Machine {
    machine_in(std::path::Path::new("."))
}

/// The same with its snapshots in a folder.
fn machine_in(folder: &std::path::Path) -> Machine {
    let mut image = vec![0xff; 0x1_0000];
    image[0xfff0..0xfff4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    let firmware = Firmware::Image(Cow::Owned(image));
    let snapshots = crate::snapshot::Store::new(folder);
    let config =
        MachineConfig { ram_bytes: 4 << 20, firmware, snapshots, ..MachineConfig::default() };
    Machine::new(&config).expect("it needs nothing from outside")
}

#[track_caller]
fn says(machine: &mut Machine, line: &str, expect: &str) {
    let answer = run_line(machine, line).unwrap_or_else(|why| format!("Error: {why}"));
    assert!(answer.contains(expect), "{line}: {answer}");
}

#[test]
fn arithmetic() {
    let machine = machine();
    let cpu = machine.vcpu().cpu();
    for (text, expect) in [
        ("1+2*3", Ok(7)),
        ("(1 + 2) * 0x10 - 010", Ok(40)),
        ("-1", Ok(u64::MAX)),
        ("~0 & 0xff", Ok(255)),
        ("'A'", Ok(65)),
        ("$pc", Ok(0xffff_fff0)),
        ("$cs_base + 1", Ok(0xffff_0001)),
        ("7 / 0", Err("division by zero")),
        ("7 % (1-1)", Err("division by zero")),
        ("", Err("a number is missing")),
        ("1 2", Err("unexpected '2'")),
        ("(1", Err("')' is missing")),
        ("0xg", Err("0xg is no number")),
        ("18446744073709551616", Err("18446744073709551616 is no number")),
        ("$nope", Err("there is no register $nope")),
        ("\u{e9}", Err("unexpected '\u{e9}'")),
    ] {
        assert_eq!(expr::value(text, cpu), expect.map_err(str::to_owned), "{text}");
    }
    assert!(expr::value(&"(".repeat(100_000), cpu).is_err());
}

#[test]
fn commands_answer() {
    let m = &mut machine();
    for (line, expect) in [
        ("", ""),
        ("# a comment", ""),
        ("help", "system_reset"),
        ("help x", "x /fmt addr"),
        ("info", "info registers"),
        ("info registers", "EIP=0000fff0"),
        ("info status", "VM status: running"),
        ("info cpus", "* CPU #0"),
        ("info pic", "pic1: irr=00"),
        ("info irq", "no interrupt"),
        ("info lapic", "LVT LINT0"),
        ("info ioapic", "pin 23: vector 0x00"),
        ("info mtree", "00000000ffff0000"),
        ("info pci", "PCI device 8086:1237"),
        ("info jit", "code cache"),
        ("info version", env!("CARGO_PKG_VERSION")),
        ("info mem", "Error: paging is off"),
        ("x/4xb 0xfffffff0", "00000000fffffff0: 0xfa 0xf4 0xeb 0xfd"),
        ("x/3i $pc", "0xfffffff1:  f4"),
        ("xp/2hx 0xfffffff0", "0xf4fa 0xfdeb"),
        ("xp/1gx 0xffffffffffff0000", "Cannot access memory"),
        ("x/c 0xfffffff0", "'\\xfa'"),
        ("print/d -5", "-5"),
        ("p 0x10*2", "0x20"),
        ("sum 0xfffffff0 1", "00250"),
        ("gva2gpa 0x1234", "gpa: 0x1234"),
        ("o/b 0x80 0x5a", ""),
        ("i/b 0x80", "portb[0x0080] = 0x5a"),
        ("sendkey ctrl-alt-delete", ""),
        ("mouse_move 1 -1", ""),
        ("mouse_button 1", ""),
        ("log int,cpu_reset", ""),
        ("log none", ""),
        ("nmi", ""),
        ("stop", ""),
        ("info status", "VM status: paused"),
        ("cont", ""),
        ("system_powerdown", ""),
        ("system_reset", ""),
    ] {
        says(m, line, expect);
    }
    assert!(!m.is_ending());
    says(m, "quit", "");
    assert!(m.is_ending());
}

#[test]
fn nonsense_is_one_line() {
    let m = &mut machine();
    for line in [
        "bogus",
        "inof status",
        "info bogus",
        "x",
        "x/99999999999999999999x 0",
        "x/z 0",
        "x/4 (",
        "quit/4",
        "i",
        "i 0x10000",
        "i/g 1",
        "o 1",
        "sendkey",
        "sendkey a-b-nokey",
        "sendkey a x",
        "eject",
        "eject floppy9",
        "change ide1-cd0",
        "change ide9-cd9 /no/such/image",
        "screendump",
        "screendump /no/such/dir/a.png",
        "screendump a -f gif",
        "mouse_move 1",
        "mouse_move a b",
        "sum 0",
        "sum 0 0xffffffffffffffff",
        "memsave 0 1",
        "pmemsave 0 1 /no/such/dir/file",
        "log bogus",
        "logfile /no/such/dir/file",
        "help bogus",
        "help a b c",
        "memsave 0 1 \"x",
        "\u{0}",
        "/",
        "x/",
        "info \u{e9}",
    ] {
        match run_line(m, line) {
            Ok(text) => panic!("{line}: {text}"),
            Err(why) => assert!(!why.is_empty() && !why.contains('\n'), "{line}: {why}"),
        }
    }
}

#[test]
fn a_sum_of_everything_ends() {
    let m = &mut machine();
    assert!(run_line(m, "xp/65536xb 0").expect("memory").lines().count() == 4096);
    assert!(run_line(m, "info mtree").expect("a map").lines().count() < 40);
}

#[test]
fn quotes_hold_words_together() {
    assert_eq!(split("a  \"b c\" \"\"").unwrap(), ["a", "b c", ""]);
    assert!(split("\"").is_err());
}

#[test]
fn snapshots_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut m = machine_in(folder.path());
    says(&mut m, "info snapshots", "There is no snapshot available.");
    says(&mut m, "savevm", "");
    says(&mut m, "savevm here", "");
    says(&mut m, "info snapshots", "here ");
    says(&mut m, "info snapshots", "vm-20");
    m.vcpu_mut().cpu_mut().state.gpr[3] = 77;
    says(&mut m, "loadvm here", "");
    assert_eq!(m.vcpu().cpu().state.gpr[3], 0);
    says(&mut m, "delvm here", "");
    says(&mut m, "loadvm here", "Error: there is no snapshot \"here\"");
    says(&mut m, "delvm here", "Error: there is no snapshot");
    says(&mut m, "savevm ..", "is no name for a snapshot");
    says(&mut m, "savevm a b", "usage: savevm [name]");
    says(&mut m, "loadvm", "usage: loadvm name");
}

#[test]
fn files_hold_what_was_asked_for() {
    let m = &mut machine();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    for (line, name, start) in [
        ("screendump FILE", "a.png", &b"\x89PNG\r\n"[..]),
        ("screendump FILE", "a.ppm", b"P6\n640 400\n255\n"),
        ("screendump -f png FILE", "b", b"\x89PNG\r\n"),
        ("pmemsave 0xfffffff0 4 FILE", "rom", &[0xfa, 0xf4, 0xeb, 0xfd]),
        ("memsave 0xfffffff0 2 FILE", "linear", &[0xfa, 0xf4]),
    ] {
        let answer = run_line(m, &line.replace("FILE", &path(name)));
        assert_eq!(answer, Ok(String::new()), "{line}");
        assert!(std::fs::read(path(name)).expect("written").starts_with(start), "{line}");
    }
}
