//! SeaBIOS from the reset vector through its whole POST to the first instruction of an IDE disk's boot sector.

use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use stele::machine::{DriveConfig, Exit, Machine, MachineConfig};
use stele::vcpu::Stats;

/// Port of isa-debug-exit.
const EXIT_PORT: u16 = 0x501;

/// `mov dx, 0x501; xor al, al; out dx, al; hlt` and the signature.
static BOOT_SECTOR: [u8; 512] = {
    let mut sector = [0; 512];
    let code = [0xBA, EXIT_PORT as u8, (EXIT_PORT >> 8) as u8, 0x30, 0xC0, 0xEE, 0xF4];
    let mut i = 0;
    while i < code.len() {
        sector[i] = code[i];
        i += 1;
    }
    sector[510] = 0x55;
    sector[511] = 0xAA;
    sector
};

/// A PC whose disk ends the run.
fn machine() -> Option<Machine> {
    let config = MachineConfig {
        drives: vec![DriveConfig::bytes(&BOOT_SECTOR)],
        debug_exit: Some((EXIT_PORT, 2)),
        ..MachineConfig::default()
    };
    Machine::new(&config).inspect_err(|error| eprintln!("boot: skipped: {error}")).ok()
}

/// Boots once; the translator's counters afterwards.
fn boot(mut machine: Machine) -> Stats {
    assert_eq!(machine.run(), Exit::DebugExit(1), "the boot sector ran");
    machine.vcpu().stats()
}

fn seabios(c: &mut Criterion) {
    let Some(first) = machine() else { return };
    report(&boot(first));
    let mut group = c.benchmark_group("boot");
    group.sample_size(10);
    group.bench_function("seabios-to-boot-sector", |b| {
        b.iter_custom(|iters| {
            let start = Instant::now();
            for _ in 0..iters {
                machine().map(boot);
            }
            start.elapsed()
        });
    });
}

fn report(stats: &Stats) {
    let insns = stats.insns.max(1) as f64;
    eprintln!(
        "boot: {} blocks, {} insns translated: {:.0} ns and {:.1} host bytes per insn; {} insns \
         evaluated, {} blocks invalidated, {} cache flushes",
        stats.blocks,
        stats.insns,
        stats.translate_ns as f64 / insns,
        stats.host_bytes as f64 / insns,
        stats.evaluated,
        stats.invalidated,
        stats.flushes,
    );
}

criterion_group!(benches, seabios);
criterion_main!(benches);
