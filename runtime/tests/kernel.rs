//! Kernels by `-kernel`'s way: every format and entry, on SeaBIOS, with small kernels of our own that say what they
//! got. Needs nasm and seabios: without them the tests say so.

use std::path::{Path, PathBuf};
use std::process::Command;

use devices::chardev::BufferChar;
use stele::boot::kernel::{EntryMode, KernelConfig};
use stele::machine::{Accel, CharTarget, Exit, Machine, MachineConfig};

/// The status the kernels end with when all is well.
const GOOD: Exit = Exit::DebugExit(0x21);

/// Assembles the kernel of this format; `None` if something is missing.
fn kernel(dir: &Path, format: u8) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/kernel.asm");
    let out = dir.join(format!("kernel{format}"));
    let mut nasm = Command::new("nasm");
    nasm.args(["-w-all", "-f", "bin"]).arg(format!("-DFORMAT={format}"));
    let has_nasm = match nasm.arg(&source).arg("-o").arg(&out).status() {
        Ok(status) => {
            assert!(status.success(), "nasm refuses {}", source.display());
            true
        }
        Err(_) => false,
    };
    let has_firmware = Path::new("/usr/share/seabios/bios-256k.bin").exists();
    if has_nasm && has_firmware {
        return Some(out);
    }
    assert!(std::env::var_os("STELE_REQUIRE_ALL").is_none(), "nasm or seabios is missing");
    eprintln!("SKIPPED: nasm or seabios is missing (apt install nasm seabios)");
    None
}

/// Boots it; gives what it said and how it ended.
fn boot(config: KernelConfig, accel: Accel) -> (String, Exit) {
    let com1 = BufferChar::default();
    let config = MachineConfig {
        ram_bytes: 32 << 20,
        vga: false,
        kernel: Some(config),
        serial: vec![CharTarget::Buffer(com1.clone())],
        debug_exit: Some((0x501, 2)),
        accel,
        ..MachineConfig::default()
    };
    let exit = Machine::new(&config).expect("the kernel is good").run();
    (String::from_utf8_lossy(&com1.sent()).into_owned(), exit)
}

#[test]
fn a_bzimage_by_each_entry() {
    let dir = tempfile::tempdir().unwrap();
    let Some(kernel) = kernel(dir.path(), 1) else { return };
    let initrd = dir.path().join("initrd");
    std::fs::write(&initrd, "D234567").unwrap();
    for (entry, expect) in [
        (EntryMode::Bits16, "16-bit entry\nquiet a=b\n7"),
        (EntryMode::Bits32, "32-bit entry\nquiet a=b\nDm\n"),
        (EntryMode::Bits64, "64-bit entry\nquiet a=b\nDm\n"),
    ] {
        let config = KernelConfig {
            kernel: kernel.clone(),
            initrd: Some(initrd.to_str().unwrap().to_owned()),
            append: "quiet a=b".into(),
            entry,
        };
        assert_eq!(boot(config, Accel::Jit), (expect.to_owned(), GOOD), "{entry:?}");
    }
}

#[test]
fn multiboot_with_modules() {
    let dir = tempfile::tempdir().unwrap();
    let Some(kernel) = kernel(dir.path(), 2) else { return };
    let [one, two] = ["one", "two"].map(|name| dir.path().join(name).display().to_string());
    std::fs::write(&one, "1xx").unwrap();
    std::fs::write(&two, "2xxxx").unwrap();
    let config = KernelConfig {
        kernel: kernel.clone(),
        initrd: Some(format!("{one} for you,{two}")),
        append: "the end".into(),
        ..KernelConfig::default()
    };
    let expect = format!("{} the end\n{one} for you\n13{two}\n25\n", kernel.display());
    assert_eq!(boot(config, Accel::Jit), (expect, GOOD));
}

#[test]
fn pvh_on_both_engines() {
    let dir = tempfile::tempdir().unwrap();
    let Some(kernel) = kernel(dir.path(), 3) else { return };
    let initrd = dir.path().join("initrd");
    std::fs::write(&initrd, "module").unwrap();
    let config = KernelConfig {
        kernel,
        initrd: Some(initrd.to_str().unwrap().to_owned()),
        append: "console".into(),
        ..KernelConfig::default()
    };
    for accel in [Accel::Jit, Accel::Interp] {
        assert_eq!(boot(config.clone(), accel), ("console\nm\n".to_owned(), GOOD));
    }
}
