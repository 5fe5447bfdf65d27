//! Boots Debian again and again, half of the times 64-bit, half 32-bit, and checks each: the marker comes, the exit code is 0,
//! the process's memory stays within the guest's plus 128 MiB plus the code cache.
//!
//!     cargo run --release -p stele --example boots -- 50
//!     cargo run --release -p stele --example boots -- 2 -accel interp    # options of the command follow the number

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use guests::{Arch, INIT_MARKER, Linux, Store};

/// Guest memory of each boot.
const RAM_MIB: u64 = 256;
/// The emulator's own, and its cache of generated code.
const OWN_MIB: u64 = 128;
const CODE_CACHE_MIB: u64 = 64;
/// The evaluator takes minutes.
const PATIENCE: Duration = Duration::from_secs(1800);

fn main() -> anyhow::Result<()> {
    let count: usize = std::env::args().nth(1).map_or(Ok(50), |text| text.parse())?;
    // The command is beside the examples' folder of the same build.
    let exe = std::env::current_exe()?;
    let stele = exe.ancestors().nth(2).context("an example is in a folder of the build")?;
    let stele = stele.join("stele");
    ensure!(stele.is_file(), "build the command first: cargo build --release -p stele");
    let store = Store::open(&Store::default_root(), Box::new(|text| eprintln!("{text}")))?;
    let mut guests = Vec::new();
    for arch in [Arch::Amd64, Arch::I386] {
        let linux = Linux::fetch(&store, arch, Linux::flavour(arch))?;
        let initrd = linux.initramfs(&store)?;
        guests.push((arch, linux.kernel.image, initrd));
    }
    let mut worst_mib = 0;
    let start = Instant::now();
    for number in 0..count {
        let (arch, kernel, initrd) = &guests[number % 2];
        let mut command = Command::new(&stele);
        command.args(["-m", &RAM_MIB.to_string(), "-nographic", "-no-reboot", "-kernel"]);
        command.arg(kernel).arg("-initrd").arg(initrd);
        command.args(["-append", "console=ttyS0 quiet action=true"]).args(std::env::args().skip(2));
        let begin = Instant::now();
        let peak = boot(&mut command).with_context(|| format!("boot {number}, {}", arch.name()))?;
        println!(
            "{number:4} {:5} {:6.2} s {peak:4} MiB",
            arch.name(),
            begin.elapsed().as_secs_f64()
        );
        worst_mib = worst_mib.max(peak);
    }
    let each = start.elapsed().as_secs_f64() / count.max(1) as f64;
    println!("{count} boots without a failure, {each:.2} s each, at most {worst_mib} MiB");
    Ok(())
}

/// One boot to the end; returns the process's peak memory in MiB.
fn boot(command: &mut Command) -> anyhow::Result<u64> {
    let output = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
    let mut child = command.spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let deadline = Instant::now() + PATIENCE;
    let mut peak = 0;
    let code = loop {
        peak = peak.max(peak_mib(&status));
        if let Some(code) = child.try_wait()? {
            break code;
        }
        if Instant::now() > deadline {
            child.kill()?;
            bail!("no end after {} s:\n{}", PATIENCE.as_secs(), text(output)?);
        }
        thread::sleep(Duration::from_millis(5));
    };
    let text = text(output)?;
    ensure!(code.code() == Some(0), "{code}:\n{text}");
    ensure!(text.contains(INIT_MARKER), "no marker:\n{text}");
    let limit = RAM_MIB + OWN_MIB + CODE_CACHE_MIB;
    ensure!(peak <= limit, "{peak} MiB of memory, more than {limit}");
    Ok(peak)
}

fn text(mut file: std::fs::File) -> anyhow::Result<String> {
    use std::io::{Read, Seek};
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The largest resident size so far, by /proc.
fn peak_mib(status: &str) -> u64 {
    let text = std::fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
