//! Everything two runs of the same guest code may be told apart by.

use x86::cpu::Cpu;
use x86::state::{Segment, TableReg, XsaveArea};

/// General registers in the order of their numbers.
pub const GPR_NAMES: [&str; 16] = [
    "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];
/// Segment registers in the order of their numbers.
pub const SEG_NAMES: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];

/// Architectural state and memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// General registers.
    pub gpr: [u64; 16],
    /// Instruction pointer.
    pub pc: u64,
    /// EFLAGS.
    pub eflags: u32,
    /// CPL.
    pub cpl: u32,
    /// Segment registers.
    pub seg: [Segment; 6],
    /// LDTR and TR.
    pub system: [Segment; 2],
    /// GDTR and IDTR.
    pub tables: [TableReg; 2],
    /// CR0 CR2 CR3 CR4.
    pub cr: [u64; 4],
    /// DR0 to DR7.
    pub dr: [u64; 8],
    /// EFER, XCR0, IA32_KERNEL_GS_BASE, IA32_TSC_AUX.
    pub system_registers: [u64; 4],
    /// Vector registers.
    pub ymm: [[u64; 4]; 16],
    /// MXCSR.
    pub mxcsr: u32,
    /// x87 and MMX: control, status and tag words, then the registers.
    pub fpu: ([u16; 3], [[u8; 10]; 8]),
    /// The last x87 instruction: FIP FDP FOP FCS FDS.
    pub fpu_last: [u64; 5],
    /// Waiting after HLT.
    pub is_halted: bool,
    /// Stopped by a triple fault.
    pub is_shut_down: bool,
    /// Guest memory.
    pub memory: Vec<u8>,
}

impl Snapshot {
    /// What a CPU looks like now.
    pub fn of(cpu: &Cpu) -> Self {
        let s = &cpu.state;
        let mut memory = vec![0; cpu.ram.len() as usize];
        assert!(cpu.ram.read_bytes(0, &mut memory), "the bench has this much memory");
        Self {
            gpr: s.gpr,
            pc: s.pc,
            eflags: s.eflags(),
            cpl: s.cpl,
            seg: s.seg,
            system: [s.ldtr, s.tr],
            tables: [s.gdtr, s.idtr],
            cr: [s.cr0, s.cr2, s.cr3, s.cr4],
            dr: s.dr,
            system_registers: [s.efer, s.xcr0, s.kernel_gs_base, s.tsc_aux],
            ymm: s.ymm,
            mxcsr: s.mxcsr,
            fpu: (
                [XsaveArea::FCW, XsaveArea::FSW, XsaveArea::FTW].map(|at| s.fpu.u16(at)),
                std::array::from_fn(|n| {
                    std::array::from_fn(|i| s.fpu.0[XsaveArea::ST + 16 * n + i])
                }),
            ),
            fpu_last: [s.fpu_ip, s.fpu_dp, s.fpu_op.into(), s.fpu_cs.into(), s.fpu_ds.into()],
            is_halted: s.halted != 0,
            is_shut_down: cpu.shutdown,
            memory,
        }
    }

    /// A line for each difference, `self` being right.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut list = Vec::new();
        let mut note = |name: &str, want: u64, got: u64| {
            if want != got {
                list.push(format!("{name} is {got:#x} instead of {want:#x}"));
            }
        };
        for (n, name) in GPR_NAMES.iter().enumerate() {
            note(name, self.gpr[n], other.gpr[n]);
        }
        note("eip", self.pc, other.pc);
        note("eflags", self.eflags.into(), other.eflags.into());
        note("cpl", self.cpl.into(), other.cpl.into());
        for (n, name) in ["cr0", "cr2", "cr3", "cr4"].iter().enumerate() {
            note(name, self.cr[n], other.cr[n]);
        }
        for (n, (want, got)) in self.dr.iter().zip(&other.dr).enumerate() {
            note(&format!("dr{n}"), *want, *got);
        }
        for (n, name) in ["efer", "xcr0", "kernel_gs_base", "tsc_aux"].iter().enumerate() {
            note(name, self.system_registers[n], other.system_registers[n]);
        }
        note("mxcsr", self.mxcsr.into(), other.mxcsr.into());
        for (n, name) in ["fip", "fdp", "fop", "fcs", "fds"].iter().enumerate() {
            note(name, self.fpu_last[n], other.fpu_last[n]);
        }
        note("halted", self.is_halted.into(), other.is_halted.into());
        note("shutdown", self.is_shut_down.into(), other.is_shut_down.into());
        let segments =
            self.seg.iter().chain(&self.system).zip(other.seg.iter().chain(&other.system));
        for ((want, got), name) in segments.zip(SEG_NAMES.iter().chain(&["ldtr", "tr"])) {
            if want != got {
                list.push(format!("{name} is {got:x?} instead of {want:x?}"));
            }
        }
        if self.tables != other.tables {
            list.push(format!("gdtr, idtr are {:x?} instead of {:x?}", other.tables, self.tables));
        }
        for (n, (want, got)) in self.ymm.iter().zip(&other.ymm).enumerate() {
            if want != got {
                list.push(format!("ymm{n} is {got:x?} instead of {want:x?}"));
            }
        }
        if self.fpu != other.fpu {
            list.push(format!("x87 state is {:x?} instead of {:x?}", other.fpu, self.fpu));
        }
        list.extend(self.memory_differences(other));
        list
    }

    fn memory_differences(&self, other: &Self) -> Vec<String> {
        const SHOWN: usize = 24;
        if self.memory == other.memory {
            return Vec::new();
        }
        let differ = |(_, (want, got)): &(usize, (&u8, &u8))| want != got;
        let pairs = self.memory.iter().zip(&other.memory).enumerate().filter(differ);
        pairs
            .take(SHOWN)
            .map(|(at, (want, got))| format!("m8[{at:#x}] is {got:#04x} instead of {want:#04x}"))
            .collect()
    }
}
