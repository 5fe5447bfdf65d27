//! Boots the default firmware to its first HLT-idle second and prints the translator's counters: blocks, host bytes and
//! nanoseconds per guest instruction. `cargo run --release -p stele --example boot_stats -- [seconds]`.

use std::time::Duration;

use stele::console::Input;
use stele::machine::{Machine, MachineConfig};

fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(1.0), |s| s.parse())?;
    let mut machine = Machine::new(&MachineConfig::default())?;
    let input = machine.input();
    let _quit = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs_f64(seconds));
        input.send(Input::Signal(15));
    });
    machine.run();
    let s = machine.vcpu().stats();
    let per = |n: u64| n as f64 / s.insns.max(1) as f64;
    println!(
        "blocks {} insns {} guest bytes {} host bytes {} ({:.1} per insn) translate {:.0} ns per insn",
        s.blocks,
        s.insns,
        s.guest_bytes,
        s.host_bytes,
        per(s.host_bytes),
        per(s.translate_ns),
    );
    println!(
        "evaluated {} invalidated {} flushes {} entries {}",
        s.evaluated, s.invalidated, s.flushes, s.entries
    );
    Ok(())
}
