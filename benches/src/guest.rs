//! A CPU with nothing around it but memory: runs a kernel through `Vcpu`, as the machine would.

use stele::log::Log;
use stele::vcpu::{Stats, VcpuConfig};
use stele_tests::{Bench, Ending, setup};

use crate::kernels::{BUFFER, Kernel};

/// Where code is put; `kernels.s` knows it too.
const CODE: u64 = 0x8000;
/// Where the kernels' buffer is: offsets of 16 bits reach it.
const DATA: u64 = 0x2000;
/// Initial stack pointer.
const STACK: u64 = 0x7000;

/// A bare guest with one image loaded.
pub struct Guest {
    bench: Bench,
    kernel: Option<&'static Kernel>,
}

impl Guest {
    /// A guest about to run `kernel` on the JIT.
    ///
    /// # Panics
    /// When the host refuses memory.
    pub fn new(kernel: &'static Kernel) -> Self {
        Self { kernel: Some(kernel), ..Self::with_code(kernel.code, kernel.bits) }
    }

    /// A guest with `code` at 0x8000, in real mode (16) or flat protected mode at CPL 0 (32).
    ///
    /// # Panics
    /// When the host refuses memory.
    pub fn with_code(code: &[u8], bits: u32) -> Self {
        let mut bench = Bench::with_log(VcpuConfig::default(), Log::off());
        bench.clear();
        bench.poke(DATA, &[0; BUFFER]);
        match bits {
            16 => setup::real(&mut bench, [0; 6]),
            _ => setup::flat(&mut bench, bits),
        }
        setup::vectors(&mut bench);
        bench.poke(CODE, code);
        Self { bench, kernel: None }
    }

    /// Runs the kernel for `loops` (at least 1) turns; returns EAX.
    ///
    /// # Panics
    /// When the guest does anything but halt.
    pub fn run(&mut self, loops: u32) -> u64 {
        let state = &mut self.bench.cpu_mut().state;
        if let Some(kernel) = self.kernel {
            state.gpr[..8].copy_from_slice(&kernel.registers(DATA, loops.max(1)));
        } else {
            state.gpr[3] = DATA;
        }
        (state.gpr[4], state.pc, state.halted) = (STACK, CODE, 0);
        assert_eq!(self.bench.run(), Ending::Halted);
        self.bench.cpu().state.gpr[0]
    }

    /// Forgets all translations.
    pub fn forget(&mut self) {
        self.bench.settle();
    }

    /// Counters of the translator.
    pub fn stats(&self) -> Stats {
        self.bench.vcpu.stats()
    }

    /// The kernel's buffer.
    pub fn buffer(&self) -> Vec<u8> {
        self.bench.peek(DATA, BUFFER)
    }
}
