//! One vCPU, 2 MiB of memory, a bus nothing answers on.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use ir::opt::Passes;
use mem::{Bus, GuestRam, Phys, PhysMap, Port, Size};
use stele::log::{Items, Log};
use stele::machine::{Accel, host_cpuid};
use stele::vcpu::{Kicker, Vcpu, VcpuConfig, VcpuExit};
use x86::cpu::Cpu;
use x86::cpuid::Model;

use crate::Snapshot;

/// Bytes of guest memory, from physical address 0 on; everything above is open bus.
pub const RAM: u64 = 2 << 20;

/// A run that has not ended by then never will.
const PATIENCE: Duration = Duration::from_secs(20);

/// How guest code is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    /// The evaluator, one insn at a time: what the others are measured by.
    Evaluator,
    /// Compact host code from the ops as lowered.
    Compact,
    /// Host code in its final form from the ops as lowered.
    Hot,
    /// Compact host code after every optimiser pass.
    CompactOptimised,
    /// Host code in its final form after every optimiser pass.
    HotOptimised,
    /// As a machine runs it: optimised, compact first, final after a few dispatches.
    Mixed,
}

impl Engine {
    /// All of them, the reference first.
    pub const ALL: [Self; 6] = [
        Self::Evaluator,
        Self::Compact,
        Self::Hot,
        Self::CompactOptimised,
        Self::HotOptimised,
        Self::Mixed,
    ];

    /// The vCPU's configuration, with a code cache as small as a test needs.
    pub fn config(self) -> VcpuConfig {
        let (accel, passes, hot_after) = match self {
            Self::Evaluator => (Accel::Interp, Passes::NONE, Some(0)),
            Self::Compact => (Accel::Jit, Passes::NONE, None),
            Self::Hot => (Accel::Jit, Passes::NONE, Some(0)),
            Self::CompactOptimised => (Accel::Jit, Passes::ALL, None),
            Self::HotOptimised => (Accel::Jit, Passes::ALL, Some(0)),
            Self::Mixed => (Accel::Jit, Passes::ALL, Some(2)),
        };
        VcpuConfig { accel, passes, hot_after, cache_bytes: 1 << 20, ..VcpuConfig::default() }
    }
}

/// Why [`Bench::run`] came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// HLT.
    Halted,
    /// Triple fault.
    Shutdown,
    /// Neither, for a long time.
    Endless,
}

/// No devices: ports and unmapped memory read all ones, writes go nowhere, time stands still.
#[derive(Clone, Copy, Debug)]
pub struct NullBus;

impl Bus for NullBus {
    fn port_in(&mut self, _: Port, size: Size) -> u64 {
        size.mask()
    }
    fn port_out(&mut self, _: Port, _: Size, _: u64) {}
    fn mmio_read(&mut self, _: Phys, size: Size) -> u64 {
        size.mask()
    }
    fn mmio_write(&mut self, _: Phys, _: Size, _: u64) {}
    fn intr(&self) -> bool {
        false
    }
    fn inta(&mut self) -> u8 {
        0xFF
    }
    fn tsc(&mut self) -> u64 {
        1000
    }
    fn a20(&self) -> bool {
        true
    }
}

/// A processor to run test code on.
pub struct Bench {
    /// The vCPU.
    pub vcpu: Vcpu,
}

impl Bench {
    /// A processor in reset state.
    pub fn new(engine: Engine) -> Self {
        Self::with_config(engine.config())
    }

    /// Likewise, with a configuration of one's own.
    pub fn with_config(config: VcpuConfig) -> Self {
        Self::with_log(config, Log::off())
    }

    /// Likewise, and what it does is written to `log`.
    pub fn with_log(config: VcpuConfig, log: Rc<Log>) -> Self {
        Self::with_bus(config, log, Box::new(NullBus))
    }

    /// Likewise, with something that answers on the bus.
    pub fn with_bus(config: VcpuConfig, log: Rc<Log>, bus: Box<dyn Bus>) -> Self {
        let ram = Arc::new(GuestRam::new(RAM).expect("the host has 2 MiB to spare"));
        let map = Arc::new(PhysMap::new(0, 0));
        map.map_ram(Phys(0), RAM, 0, true);
        let mut cpu = Cpu::new(ram, map, bus);
        cpu.set_model(Model::max(Some(host_cpuid)));
        let vcpu = Vcpu::new(cpu, config, log).expect("the host maps a code cache");
        Self { vcpu }
    }

    /// A processor in reset state that logs the items of `STELE_LOG` to stderr.
    pub fn logging(config: VcpuConfig) -> Self {
        Self::with_log(config, Self::wanted_log())
    }

    /// A log of the items of `STELE_LOG` to stderr.
    pub fn wanted_log() -> Rc<Log> {
        let items = std::env::var("STELE_LOG").unwrap_or_default();
        let items = Items::parse(&items).expect("STELE_LOG names items of -d");
        Log::new(items, Vec::new(), Box::new(std::io::stderr()))
    }

    /// The CPU.
    pub fn cpu(&self) -> &Cpu {
        self.vcpu.cpu()
    }

    /// The CPU, to set it up. [`Bench::run`] expects [`Bench::settle`] to be called after it.
    pub fn cpu_mut(&mut self) -> &mut Cpu {
        self.vcpu.cpu_mut()
    }

    /// Resets the CPU and fills memory below 1 MiB with HLT, above with zeros; translations are dropped.
    pub fn clear(&mut self) {
        self.vcpu.reset();
        self.cpu_mut().state.gpr = [0; 16];
        let ram = &self.cpu().ram;
        assert!(ram.fill(0, 1 << 20, 0xF4) && ram.fill(1 << 20, RAM - (1 << 20), 0));
        self.settle();
    }

    /// Brings everything derived up to date after the state was written.
    pub fn settle(&mut self) {
        self.vcpu.state_changed();
    }

    /// Writes guest memory.
    pub fn poke(&self, at: u64, bytes: &[u8]) {
        assert!(self.cpu().ram.write_bytes(at, bytes), "{at:#x} is outside the bench's memory");
    }

    /// Reads guest memory.
    pub fn peek(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        assert!(self.cpu().ram.read_bytes(at, &mut bytes), "{at:#x} is outside the bench's memory");
        bytes
    }

    /// Runs until a HLT.
    pub fn run(&mut self) -> Ending {
        let watch = Watchdog::new(self.vcpu.kicker());
        let exit = self.vcpu.run();
        drop(watch);
        ending(exit)
    }

    /// Runs at most `limit` insns on the evaluator, whatever the engine, with a look at the CPU before each.
    pub fn run_steps(&mut self, limit: u32, mut before: impl FnMut(&mut Cpu)) -> Ending {
        for _ in 0..limit {
            before(self.vcpu.cpu_mut());
            if let Some(exit) = self.vcpu.step() {
                return ending(exit);
            }
        }
        Ending::Endless
    }

    /// Everything a guest could see.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.cpu())
    }
}

fn ending(exit: VcpuExit) -> Ending {
    match exit {
        VcpuExit::Halted => Ending::Halted,
        VcpuExit::Shutdown => Ending::Shutdown,
        VcpuExit::Kick => Ending::Endless,
    }
}

/// Kicks a vCPU that runs too long; leaves off when dropped.
struct Watchdog {
    _over: Sender<()>,
}

impl Watchdog {
    fn new(kicker: Kicker) -> Self {
        let (over, is_over) = channel();
        thread::spawn(move || {
            if is_over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                kicker.kick();
            }
        });
        Self { _over: over }
    }
}
