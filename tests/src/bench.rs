//! One vCPU, 2 MiB of memory, a bus nothing answers on.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use ir::opt::Passes;
use isa_spec::model::Maker;
use mem::{Bus, GuestRam, Phys, PhysMap, Port, Size};
use stele::log::{Items, Log};
use stele::machine::{Accel, host_cpuid};
use stele::vcpu::{Kicker, Stats, Vcpu, VcpuConfig, VcpuExit};
use x86::cpu::Cpu;
use x86::cpuid::Model;

use crate::Snapshot;
use crate::program::FICKLE;

/// Bytes of guest memory, from physical address 0 on; everything above is open bus.
pub const RAM: u64 = 2 << 20;

/// What a bench made by [`Bench::with_gap`] lacks: nothing that random programs are given lies there, and a fifth of the memory is a fifth
/// of the work to fill, read and compare.
const GAP: Range<u64> = 0x2_0000..0x11_0000;
/// Where such a bench's memory ends.
const GAP_RAM: u64 = 0x12_0000;

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
    /// Almost as a machine runs it: optimised, compact first, final after a few dispatches.
    Mixed,
    /// The same with the final form made on another thread, which takes effect a fixed while after it was ordered.
    Beside,
}

impl Engine {
    /// All of them, the reference first.
    pub const ALL: [Self; 7] = [
        Self::Evaluator,
        Self::Compact,
        Self::Hot,
        Self::CompactOptimised,
        Self::HotOptimised,
        Self::Mixed,
        Self::Beside,
    ];

    /// The vCPU's configuration, with a code cache as small as a test needs.
    pub fn config(self) -> VcpuConfig {
        let (accel, passes, hot_after) = match self {
            Self::Evaluator => (Accel::Interp, Passes::NONE, Some(0)),
            Self::Compact => (Accel::Jit, Passes::NONE, None),
            Self::Hot => (Accel::Jit, Passes::NONE, Some(0)),
            Self::CompactOptimised => (Accel::Jit, Passes::ALL, None),
            Self::HotOptimised => (Accel::Jit, Passes::ALL, Some(0)),
            Self::Mixed => (Accel::Jit, Passes::ALL.without(Passes::ASYNC), Some(2)),
            Self::Beside => (Accel::Jit, Passes::ALL, Some(2)),
        };
        let cache_bytes = 1 << 20;
        VcpuConfig { accel, passes, hot_after, cache_bytes, lag: Some(1), ..VcpuConfig::default() }
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

/// A maker's processor with all that this host can offer.
pub fn model_of(maker: Maker) -> Model {
    let mut model = Model::max(Some(host_cpuid));
    let vendor = match maker {
        Maker::Intel => "GenuineIntel",
        Maker::Amd => "AuthenticAMD",
    };
    model.set_identity("vendor", vendor).expect("a vendor's name");
    model
}

/// The greatest model but for what gives other results each time: a jump into the middle of an insn may find it.
fn repeatable() -> Model {
    let mut model = Model::max(Some(host_cpuid));
    for row in FICKLE {
        model.set(&row.to_lowercase(), false, None).expect("a feature has the row's name");
    }
    model
}

/// A processor to run test code on.
pub struct Bench {
    /// The vCPU.
    pub vcpu: Vcpu,
    /// Physical addresses without memory; the host's memory is joined there.
    gap: Range<u64>,
    watch: Option<Watchdog>,
}

impl Bench {
    /// A processor in reset state.
    pub fn new(engine: Engine) -> Self {
        Self::with_config(engine.config())
    }

    /// A processor of this model.
    pub fn of(engine: Engine, model: Model) -> Self {
        Self::with_memory(engine.config(), Log::off(), Box::new(NullBus), RAM..RAM, model)
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
        Self::with_memory(config, log, bus, RAM..RAM, repeatable())
    }

    /// A processor with the ends of the lowest MiB and a bit and nothing between them, for what runs in thousands.
    pub fn with_gap(config: VcpuConfig, log: Rc<Log>) -> Self {
        Self::with_memory(config, log, Box::new(NullBus), GAP, repeatable())
    }

    fn with_memory(
        config: VcpuConfig,
        log: Rc<Log>,
        bus: Box<dyn Bus>,
        gap: Range<u64>,
        model: Model,
    ) -> Self {
        let end = if gap.is_empty() { RAM } else { GAP_RAM };
        let len = end - (gap.end - gap.start);
        let ram = Arc::new(GuestRam::new(len).expect("the host has 2 MiB to spare"));
        let map = Arc::new(PhysMap::new(0, 0));
        map.map_ram(Phys(0), gap.start, 0, true);
        map.map_ram(Phys(gap.end), end - gap.end, gap.start, true);
        let mut cpu = Cpu::new(ram, map, bus);
        cpu.set_model(model);
        let vcpu = Vcpu::new(cpu, config, log).expect("the host maps a code cache");
        Self { vcpu, gap, watch: None }
    }

    /// Likewise, and the items of `STELE_LOG` are logged to stderr.
    pub fn logging(config: VcpuConfig) -> Self {
        Self::with_gap(config, Self::wanted_log())
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
        let low = self.gap.start.min(1 << 20);
        assert!(ram.fill(0, low, 0xF4) && ram.fill(low, ram.len() - low, 0));
        self.settle();
    }

    /// Brings everything derived up to date after the state was written.
    pub fn settle(&mut self) {
        self.vcpu.state_changed();
    }

    /// Writes guest memory.
    pub fn poke(&self, at: u64, bytes: &[u8]) {
        let off = self.ram_offset(at);
        assert!(self.cpu().ram.write_bytes(off, bytes), "{at:#x} is outside the bench's memory");
    }

    fn ram_offset(&self, at: u64) -> u64 {
        let off = self.cpu().map.ram_offset(Phys(at));
        off.unwrap_or_else(|| panic!("{at:#x} is outside the bench's memory"))
    }

    /// Reads guest memory.
    pub fn peek(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let off = self.ram_offset(at);
        assert!(
            self.cpu().ram.read_bytes(off, &mut bytes),
            "{at:#x} is outside the bench's memory"
        );
        bytes
    }

    /// A handle by which other threads stop a run.
    pub fn kicker(&self) -> Kicker {
        self.vcpu.kicker()
    }

    /// Runs until a HLT.
    pub fn run(&mut self) -> Ending {
        let watch = self.watch.get_or_insert_with(|| Watchdog::new(self.vcpu.kicker()));
        watch.round();
        let exit = self.vcpu.run();
        watch.round();
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

    /// What the vCPU has counted.
    pub fn stats(&self) -> Stats {
        self.vcpu.stats()
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
        VcpuExit::Kick | VcpuExit::Stop | VcpuExit::Watch(_) => Ending::Endless,
    }
}

/// Kicks a vCPU that runs too long; its thread ends when this is dropped.
struct Watchdog {
    /// Odd while the vCPU runs, another number each time.
    rounds: Arc<AtomicU64>,
    _over: Sender<()>,
}

impl Watchdog {
    fn new(kicker: Kicker) -> Self {
        let (over, is_over) = channel();
        let rounds = Arc::new(AtomicU64::new(0));
        let seen = rounds.clone();
        thread::spawn(move || {
            let mut last = 0;
            while is_over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let now = seen.load(Relaxed);
                if now == last && now % 2 == 1 {
                    kicker.kick();
                }
                last = now;
            }
        });
        Self { rounds, _over: over }
    }

    /// A run begins or ends.
    fn round(&self) {
        self.rounds.fetch_add(1, Relaxed);
    }
}
