//! A CPU with nothing around it but memory: runs a kernel through `Vcpu`, as the machine would.

use std::sync::Arc;

use mem::{Bus, GuestRam, Phys, PhysMap, Port, Size};
use stele::log::Log;
use stele::vcpu::{Stats, Vcpu, VcpuConfig, VcpuExit};
use x86::cpu::{Cpu, cr0, cr4};
use x86::state::{Segment, seg};

use crate::kernels::{BUFFER, Kernel};

/// Bytes of guest memory.
const RAM: u64 = 1 << 20;
/// Where code is put; `kernels.s` knows it too.
const CODE: u64 = 0x8000;
/// Where the kernels' buffer is: offsets of 16 bits reach it.
const DATA: u64 = 0x2000;
/// Initial stack pointer.
const STACK: u64 = 0x7000;
/// Access rights of flat segments: present, 4 KiB granularity, 32-bit; code and data, accessed.
const FLAT_CODE: u16 = 0xC09B;
const FLAT_DATA: u16 = 0xC093;

struct NoDevices;

impl Bus for NoDevices {
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
        0
    }
    fn a20(&self) -> bool {
        true
    }
}

/// A bare guest with one image loaded.
pub struct Guest {
    vcpu: Vcpu,
    kernel: Option<&'static Kernel>,
}

impl Guest {
    /// A guest about to run `kernel` on the JIT.
    ///
    /// # Panics
    /// When the host refuses memory.
    pub fn new(kernel: &'static Kernel) -> Self {
        let mut guest = Self::with_code(kernel.code, kernel.bits);
        guest.kernel = Some(kernel);
        guest
    }

    /// A guest with `code` at 0x8000, in real mode (16) or flat protected mode at CPL 0 (32).
    ///
    /// # Panics
    /// When the host refuses memory.
    pub fn with_code(code: &[u8], bits: u32) -> Self {
        let ram = Arc::new(GuestRam::new(RAM).expect("the host has a MiB"));
        let map = Arc::new(PhysMap::new(0, 0));
        map.map_ram(Phys(0), RAM, 0, true);
        assert!(ram.write_bytes(CODE, code), "the code fits into memory");
        let mut cpu = Cpu::new(ram, map, Box::new(NoDevices));
        set_mode(&mut cpu, bits);
        let vcpu = Vcpu::new(cpu, VcpuConfig::default(), Log::off());
        let mut vcpu = vcpu.expect("the host lets us map a code cache");
        vcpu.state_changed();
        Self { vcpu, kernel: None }
    }

    /// Runs the kernel for `loops` (at least 1) turns; returns EAX.
    ///
    /// # Panics
    /// When the guest does anything but halt.
    pub fn run(&mut self, loops: u32) -> u64 {
        if let Some(kernel) = self.kernel {
            let registers = kernel.registers(DATA, loops.max(1));
            self.vcpu.cpu_mut().state.gpr[..8].copy_from_slice(&registers);
        } else {
            self.vcpu.cpu_mut().state.gpr[3] = DATA;
        }
        let state = &mut self.vcpu.cpu_mut().state;
        (state.gpr[4], state.pc, state.halted) = (STACK, CODE, 0);
        assert_eq!(self.vcpu.run(), VcpuExit::Halted);
        self.vcpu.cpu().state.gpr[0]
    }

    /// Forgets all translations.
    pub fn forget(&mut self) {
        self.vcpu.state_changed();
    }

    /// Counters of the translator.
    pub fn stats(&self) -> Stats {
        self.vcpu.stats()
    }

    /// The kernel's buffer.
    pub fn buffer(&self) -> Vec<u8> {
        let mut bytes = vec![0; BUFFER];
        let is_memory = self.vcpu.cpu().ram.read_bytes(DATA, &mut bytes);
        assert!(is_memory, "the buffer is memory");
        bytes
    }
}

fn set_mode(cpu: &mut Cpu, bits: u32) {
    let is_32bit = bits == 32;
    let data = if is_32bit {
        Segment { selector: 0x10, attr: FLAT_DATA, limit: u32::MAX, base: 0 }
    } else {
        Segment { selector: 0, attr: 0x93, limit: 0xFFFF, base: 0 }
    };
    cpu.state.seg = [data; seg::COUNT];
    if is_32bit {
        cpu.state.cr0 |= cr0::PE;
        cpu.state.cr4 |= cr4::OSFXSR;
        cpu.state.seg[usize::from(seg::CS)] = Segment { selector: 8, attr: FLAT_CODE, ..data };
    }
}
