//! The loops of the exec benches, as guest images and as host functions made from the same text (`kernels.s`).
//!
// UNSAFETY: reads images between linker symbols and calls assembly functions that follow the System V ABI.
#![expect(unsafe_code, reason = "global_asm! emits the images and the host functions")]

use std::arch::global_asm;

global_asm!(include_str!("kernels.s"), options(att_syntax, raw));

/// Bytes of a loop's guest image.
const IMAGE: usize = 256;
/// Bytes of [`cold_code`].
const COLD: usize = 8192;
/// Bytes of a kernel's buffer: source in the first half, destination in the second.
pub const BUFFER: usize = 0x2000;

/// Guest registers 0..8 in encoding order.
type Registers = [u64; 8];

/// One loop.
#[derive(Clone, Copy)]
pub struct Kernel {
    /// What it does.
    pub name: &'static str,
    /// Code width: 16 (real mode) or 32 (flat protected mode).
    pub bits: u32,
    /// Units per turn: insns, or repeated string insns.
    pub units: u64,
    /// Guest code, ended by HLT.
    pub code: &'static [u8; IMAGE],
    /// Number of the register that counts turns.
    pub counter: usize,
    native: unsafe extern "C" fn(*mut Registers),
}

macro_rules! kernels {
    ($($name:literal, $bits:literal, $units:literal, $counter:literal, $guest:ident, $native:ident;)*) => {
        unsafe extern "C" {
            $(
                static $guest: [u8; IMAGE];
                fn $native(registers: *mut Registers);
            )*
        }

        /// All loops, 16- and 32-bit.
        pub static KERNELS: &[Kernel] = &[$(Kernel {
            name: $name,
            bits: $bits,
            units: $units,
            // SAFETY: `kernels.s` defines the symbol as exactly IMAGE bytes of read-only data.
            code: unsafe { &$guest },
            counter: $counter,
            native: $native,
        }),*];
    };
}

kernels! {
    "alu", 16, 12, 1, stele_bench_alu16, stele_native_alu16;
    "alu", 32, 12, 1, stele_bench_alu32, stele_native_alu32;
    "memory", 16, 8, 1, stele_bench_mem16, stele_native_mem16;
    "memory", 32, 8, 1, stele_bench_mem32, stele_native_mem32;
    "call", 16, 8, 1, stele_bench_call16, stele_native_call16;
    "call", 32, 8, 1, stele_bench_call32, stele_native_call32;
    "indirect", 16, 6, 1, stele_bench_indirect16, stele_native_indirect16;
    "indirect", 32, 6, 1, stele_bench_indirect32, stele_native_indirect32;
    "sse", 32, 10, 1, stele_bench_sse32, stele_native_sse32;
    "sse-helper", 32, 4, 1, stele_bench_ssehelper32, stele_native_ssehelper32;
    "x87", 32, 8, 1, stele_bench_x8732, stele_native_x8732;
    "rep-movs-4k", 16, 1, 2, stele_bench_movs16, stele_native_movs16;
    "rep-movs-4k", 32, 1, 2, stele_bench_movs32, stele_native_movs32;
    "rep-stos-4k", 16, 1, 2, stele_bench_stos16, stele_native_stos16;
    "rep-stos-4k", 32, 1, 2, stele_bench_stos32, stele_native_stos32;
    "rep-movsb-16", 16, 1, 2, stele_bench_short16, stele_native_short16;
    "rep-movsb-16", 32, 1, 2, stele_bench_short32, stele_native_short32;
}

unsafe extern "C" {
    static stele_bench_cold32: [u8; COLD];
}

/// 32-bit code of 256 blocks with 8 insns each, which runs through once.
pub fn cold_code() -> &'static [u8] {
    // SAFETY: `kernels.s` defines the symbol as exactly COLD bytes of read-only data.
    unsafe { &stele_bench_cold32 }
}

impl Kernel {
    /// Registers before the first turn, for a buffer at `buffer`.
    pub fn registers(&self, buffer: u64, loops: u32) -> Registers {
        let mut r = [0x1234, 0, 0x4321, buffer, 0, buffer + BUFFER as u64 / 2, 0, 0];
        if matches!(self.name, "alu" | "call" | "indirect") {
            r[3] = 0x5555;
        }
        r[self.counter] = u64::from(loops);
        r
    }
}

/// A loop as the host runs it.
pub struct Native {
    kernel: &'static Kernel,
    buffer: Box<[u8; BUFFER]>,
}

impl Native {
    /// With a zeroed buffer.
    pub fn new(kernel: &'static Kernel) -> Self {
        Self { kernel, buffer: Box::new([0; BUFFER]) }
    }

    /// Turns `loops` (at least 1) times; returns rax.
    pub fn run(&mut self, loops: u32) -> u64 {
        let at = self.buffer.as_mut_ptr().expose_provenance() as u64;
        let mut registers = self.kernel.registers(at, loops.max(1));
        // SAFETY: the function keeps the ABI and touches nothing but `registers` and the BUFFER bytes at `at`: every
        // kernel masks its offsets or counts to half of them.
        unsafe { (self.kernel.native)(&raw mut registers) };
        registers[0]
    }

    /// The buffer's contents.
    pub fn buffer(&self) -> &[u8] {
        &self.buffer[..]
    }
}
