//! The tables as firmware links them: found from the root, sound, and to the liking of `iasl`.

use super::*;

fn machine() -> Machine {
    Machine {
        pci_hole: 0x2000_0000..0xfec0_0000,
        serial: [true, false, false, true],
        has_vga: true,
        has_floppy: true,
        pm_base: 0xb000,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Does what firmware does with the script; gives the files at their places in a flat memory.
fn link(files: &[(&'static str, Vec<u8>)]) -> (Vec<u8>, usize) {
    let script = &files.iter().find(|(name, _)| *name == LOADER).unwrap().1;
    let mut memory = Vec::new();
    let mut placed: Vec<(String, usize)> = Vec::new();
    let name = |bytes: &[u8]| {
        let end = bytes.iter().position(|&b| b == 0).unwrap();
        String::from_utf8(bytes[..end].to_vec()).unwrap()
    };
    for command in script.chunks(128) {
        let first = name(&command[4..60]);
        let base = |file: &str| placed.iter().find(|(n, _)| n == file).unwrap().1;
        match u32_at(command, 0) {
            1 => {
                let at = (memory.len() + 0x1000).next_multiple_of(u32_at(command, 60) as usize);
                memory.resize(at, 0);
                memory.extend(&files.iter().find(|(n, _)| *n == first).unwrap().1);
                placed.push((first, at));
            }
            2 => {
                let target = base(&name(&command[60..116])) as u64;
                let (at, size) =
                    (base(&first) + u32_at(command, 116) as usize, command[120] as usize);
                let mut value = [0; 8];
                value[..size].copy_from_slice(&memory[at..at + size]);
                let sum = (u64::from_le_bytes(value) + target).to_le_bytes();
                memory[at..at + size].copy_from_slice(&sum[..size]);
            }
            3 => {
                let [at, start, len] = [60, 64, 68].map(|i| u32_at(command, i) as usize);
                let file = base(&first);
                let sum = |memory: &[u8]| {
                    memory[file + start..file + start + len]
                        .iter()
                        .fold(0u8, |a, b| a.wrapping_add(*b))
                };
                memory[file + at] = memory[file + at].wrapping_sub(sum(&memory));
            }
            other => panic!("command {other}"),
        }
    }
    (memory, placed.iter().find(|(n, _)| n == RSDP).unwrap().1)
}

fn is_sound(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |a, b| a.wrapping_add(*b)) == 0
}

#[test]
fn linked_tables_are_found_from_the_root() {
    let (memory, rsdp) = link(&files(&machine()));
    assert!(is_sound(&memory[rsdp..rsdp + 20]) && is_sound(&memory[rsdp..rsdp + 36]));
    let table = |at: u32| {
        let at = at as usize;
        let table = &memory[at..at + u32_at(&memory, at + 4) as usize];
        assert!(table.starts_with(b"FACS") || is_sound(table), "{:?}", &table[..4]);
        table
    };
    let (rsdt, xsdt) = (table(u32_at(&memory, rsdp + 16)), table(u32_at(&memory, rsdp + 24)));
    let names: Vec<&[u8]> = rsdt[36..]
        .chunks(4)
        .map(|at| &table(u32::from_le_bytes(at.try_into().unwrap()))[..4])
        .collect();
    assert_eq!(names, [b"FACP", b"APIC", b"HPET"]);
    assert_eq!(xsdt.len(), 36 + 3 * 8);
    let fadt = table(u32_at(rsdt, 36));
    assert_eq!(fadt.len(), 244);
    assert_eq!(&table(u32_at(fadt, 36))[..4], b"FACS");
    assert_eq!(u32_at(fadt, 36) % 64, 0);
    assert_eq!(&table(u32_at(fadt, 40))[..4], b"DSDT");
    assert_eq!((u32_at(fadt, 40), 0), (u32_at(fadt, 140), u32_at(fadt, 132)));
    let pm = [56, 64, 76, 152, 176, 212].map(|at| u32_at(fadt, at));
    assert_eq!(pm, [0xb000, 0xb004, 0xb008, 0xb000, 0xb004, 0xb008]);
}

#[test]
fn what_is_not_there_is_not_named() {
    let has = |machine: &Machine, text: &[u8]| {
        files(machine)[1].1.windows(text.len()).any(|bytes| bytes == text)
    };
    let bare = Machine { has_floppy: false, ..machine() };
    assert!(has(&machine(), b"FDC0") && !has(&bare, b"FDC0"));
    assert!(has(&bare, b"COM1") && has(&bare, b"COM4") && !has(&bare, b"COM2"));
}

/// The outer oracle: the ACPI component architecture's disassembler and compiler.
#[test]
fn iasl_takes_the_tables() {
    use std::process::Command;
    if Command::new("iasl").arg("-v").output().is_err() {
        assert!(std::env::var_os("STELE_REQUIRE_ALL").is_none(), "iasl is missing: acpica-tools");
        eprintln!("SKIPPED: iasl is missing (apt install acpica-tools)");
        return;
    }
    let (memory, rsdp) = link(&files(&machine()));
    let dir = tempfile::tempdir().unwrap();
    let rsdt = u32_at(&memory, rsdp + 16) as usize;
    let fadt = u32_at(&memory, rsdt + 36) as usize;
    let dsdt = u32_at(&memory, fadt + 40) as usize;
    let tables = memory[rsdt + 36..rsdt + u32_at(&memory, rsdt + 4) as usize].chunks(4);
    let listed = tables.map(|at| u32::from_le_bytes(at.try_into().unwrap()) as usize);
    for at in listed.chain([rsdt, dsdt]) {
        let bytes = &memory[at..at + u32_at(&memory, at + 4) as usize];
        let name = String::from_utf8(bytes[..4].to_vec()).unwrap();
        std::fs::write(dir.path().join(format!("{name}.aml")), bytes).unwrap();
        let run = |args: &[&str]| {
            let out = Command::new("iasl").args(args).current_dir(dir.path()).output().unwrap();
            let text = [out.stdout, out.stderr].concat();
            (out.status.success(), String::from_utf8_lossy(&text).into_owned())
        };
        let (is_good, text) = run(&["-d", &format!("{name}.aml")]);
        assert!(is_good && !text.contains("Error") && !text.contains("Warning"), "{name}: {text}");
        let (is_good, text) = run(&["-p", "out", &format!("{name}.dsl")]);
        assert!(is_good && text.contains(" 0 Errors"), "{name}: {text}");
        assert!(name != "DSDT" || text.contains(" 0 Warnings"), "{text}");
    }
}
