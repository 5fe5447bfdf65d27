//! Control, debug and model-specific registers, CPUID and the time stamp counter.
//!
//! The model is a Pentium Pro without FPU: CPUID names only what the tables implement.
//! Source: SDM Vol. 3A, "Control Registers", "Debug Registers"; Vol. 2, "CPUID", "RDMSR".

use crate::cpu::{Cpu, SIGNATURE, cr0, cr4};
use crate::fault::{Fault, dr6};
use crate::flags;
use crate::segment::{Segment, attr};

/// Bits kept in CR3 (32-byte aligned, for PAE).
pub(crate) const CR3_MASK: u64 = 0xFFFF_FFF8;
const CR0_MASK: u64 = cr0::PE
    | cr0::MP
    | cr0::EM
    | cr0::TS
    | cr0::ET
    | cr0::NE
    | cr0::WP
    | cr0::AM
    | cr0::NW
    | cr0::CD
    | cr0::PG;
const CR4_MASK: u64 =
    cr4::TSD | cr4::PSE | cr4::PAE | cr4::PGE | cr4::PCE | cr4::OSFXSR | cr4::OSXMMEXCPT;
/// CR0 bits whose change makes translations stale.
const CR0_PAGING: u64 = cr0::PE | cr0::PG | cr0::WP;
/// CR4 bits whose change makes translations stale.
const CR4_PAGING: u64 = cr4::PSE | cr4::PAE | cr4::PGE;
/// DR7.GD: accesses to debug registers raise #DB.
const DR7_GD: u64 = 1 << 13;

/// Model-specific registers that only hold a value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Msrs {
    /// Added to the bus's counter (WRMSR to the time stamp counter).
    tsc_offset: u64,
    /// Performance event selection and counters: they keep what is written and never count.
    perf: [u64; 4],
}

/// MSR numbers.
mod msr {
    pub(super) const TSC: u32 = 0x10;
    pub(super) const PLATFORM_ID: u32 = 0x17;
    pub(super) const EBL_CR_POWERON: u32 = 0x2A;
    pub(super) const BIOS_UPDT_TRIG: u32 = 0x79;
    pub(super) const BIOS_SIGN: u32 = 0x8B;
    pub(super) const PERFCTR0: u32 = 0xC1;
    pub(super) const PERFCTR1: u32 = 0xC2;
    pub(super) const EVNTSEL0: u32 = 0x186;
    pub(super) const EVNTSEL1: u32 = 0x187;
}

/// CPUID feature bits (leaf 1, EDX).
mod feature {
    pub(super) const PSE: u32 = 1 << 3;
    pub(super) const TSC: u32 = 1 << 4;
    pub(super) const MSR: u32 = 1 << 5;
    pub(super) const PAE: u32 = 1 << 6;
    pub(super) const CX8: u32 = 1 << 8;
    pub(super) const PGE: u32 = 1 << 13;
    pub(super) const CMOV: u32 = 1 << 15;
    pub(super) const ALL: u32 = PSE | TSC | MSR | PAE | CX8 | PGE | CMOV;
}

/// Control registers.
impl Cpu {
    pub(crate) fn write_cr0(&mut self, v: u64) -> Result<(), Fault> {
        let new = v & CR0_MASK | cr0::ET;
        let old = self.state.cr0;
        if new & (cr0::PG | cr0::PE) == cr0::PG || new & (cr0::NW | cr0::CD) == cr0::NW {
            return Err(Fault::gp(0));
        }
        if new & !old & cr0::PG != 0 && self.state.cr4 & cr4::PAE != 0 {
            self.pdpte = self.read_pdptes(self.state.cr3)?;
        }
        self.state.cr0 = new;
        if (new ^ old) & CR0_PAGING != 0 {
            self.flush_tlb();
        }
        if old & !new & cr0::PE != 0 {
            self.enter_real_mode();
        }
        self.sync_in_block();
        Ok(())
    }

    /// Leaving protected mode: segments without descriptor become 64 KiB real-mode ones.
    fn enter_real_mode(&mut self) {
        for s in &mut self.state.seg {
            if s.attr & attr::P == 0 {
                *s = Segment::of_8086(s.selector, attr::REAL);
            }
        }
        self.state.cpl = 0;
    }

    pub(crate) fn write_cr3(&mut self, v: u64) -> Result<(), Fault> {
        let new = v & CR3_MASK;
        if self.state.cr0 & cr0::PG != 0 && self.state.cr4 & cr4::PAE != 0 {
            self.pdpte = self.read_pdptes(new)?;
        }
        self.state.cr3 = new;
        self.flush_tlb();
        Ok(())
    }

    pub(crate) fn write_cr4(&mut self, v: u64) -> Result<(), Fault> {
        if v & 0xFFFF_FFFF & !CR4_MASK != 0 {
            return Err(Fault::gp(0));
        }
        let new = v & CR4_MASK;
        let old = self.state.cr4;
        if new & cr4::PAE != 0 && self.state.cr0 & cr0::PG != 0 && (new ^ old) & CR4_PAGING != 0 {
            self.pdpte = self.read_pdptes(self.state.cr3)?;
        }
        self.state.cr4 = new;
        if (new ^ old) & CR4_PAGING != 0 {
            self.flush_tlb();
        }
        Ok(())
    }

    /// LMSW: the low four bits of CR0, and PE cannot be cleared.
    pub(crate) fn load_msw(&mut self, v: u16) {
        let low = u64::from(v) & 0xF | self.state.cr0 & cr0::PE;
        let changed = (self.state.cr0 ^ low) & 0xF;
        self.state.cr0 ^= changed;
        if changed & cr0::PE != 0 {
            self.flush_tlb();
        }
        self.sync_in_block();
    }
}

/// Debug registers.
impl Cpu {
    /// DR4 and DR5 are DR6 and DR7: CR4.DE does not exist here.
    fn debug_index(&mut self, n: u32) -> Result<usize, Fault> {
        if self.state.dr[7] & DR7_GD != 0 {
            return Err(Fault::db(dr6::BD));
        }
        Ok((if n == 4 || n == 5 { n + 2 } else { n & 7 }) as usize)
    }

    pub(crate) fn read_debug(&mut self, n: u32) -> Result<u32, Fault> {
        let i = self.debug_index(n)?;
        Ok(self.state.dr[i] as u32)
    }

    pub(crate) fn write_debug(&mut self, n: u32, v: u32) -> Result<(), Fault> {
        let i = self.debug_index(n)?;
        let v = u64::from(v);
        self.state.dr[i] = match i {
            6 => v & 0xE00F | 0xFFFF_0FF0,
            7 => v & !0xD000 | 0x400,
            _ => v,
        };
        Ok(())
    }
}

/// Identification and counters.
impl Cpu {
    /// CPUID for `leaf`: eax, ebx, ecx, edx. Leaves beyond the last give the last, as Intel's do.
    pub(crate) fn identify(leaf: u32) -> [u32; 4] {
        match leaf {
            0 => {
                let word = |b: &[u8; 4]| u32::from_le_bytes(*b);
                [1, word(b"Genu"), word(b"ntel"), word(b"ineI")]
            }
            _ => [SIGNATURE, 0, 0, feature::ALL],
        }
    }

    pub(crate) fn time_stamp(&mut self) -> u64 {
        self.bus.tsc().wrapping_add(self.msr.tsc_offset)
    }

    /// RDTSC: #GP(0) outside CPL 0 when CR4.TSD is set.
    pub(crate) fn read_tsc(&mut self) -> Result<u64, Fault> {
        if self.state.cr4 & cr4::TSD != 0 && self.state.cpl != 0 {
            return Err(Fault::gp(0));
        }
        Ok(self.time_stamp())
    }

    pub(crate) fn read_pmc(&mut self, n: u32) -> Result<u64, Fault> {
        let is_allowed = self.state.cpl == 0 || self.state.cr4 & cr4::PCE != 0;
        match n {
            0 | 1 if is_allowed => Ok(self.msr.perf[n as usize] & 0xFF_FFFF_FFFF),
            _ => Err(Fault::gp(0)),
        }
    }

    pub(crate) fn read_msr(&mut self, n: u32) -> Result<u64, Fault> {
        match n {
            msr::TSC => Ok(self.time_stamp()),
            msr::PERFCTR0 | msr::PERFCTR1 => Ok(self.msr.perf[(n - msr::PERFCTR0) as usize]),
            msr::EVNTSEL0 | msr::EVNTSEL1 => Ok(self.msr.perf[(n - msr::EVNTSEL0) as usize + 2]),
            msr::PLATFORM_ID | msr::EBL_CR_POWERON | msr::BIOS_SIGN => Ok(0),
            _ => Err(Fault::gp(0)),
        }
    }

    pub(crate) fn write_msr(&mut self, n: u32, v: u64) -> Result<(), Fault> {
        match n {
            msr::TSC => self.msr.tsc_offset = v.wrapping_sub(self.bus.tsc()),
            msr::PERFCTR0 | msr::PERFCTR1 => self.msr.perf[(n - msr::PERFCTR0) as usize] = v,
            msr::EVNTSEL0 | msr::EVNTSEL1 => self.msr.perf[(n - msr::EVNTSEL0) as usize + 2] = v,
            msr::EBL_CR_POWERON | msr::BIOS_UPDT_TRIG | msr::BIOS_SIGN => {}
            _ => return Err(Fault::gp(0)),
        }
        Ok(())
    }
}

/// EFLAGS images and the interrupt flag.
impl Cpu {
    /// May POPF, PUSHF and INT n run here? In virtual-8086 mode only with IOPL 3.
    pub(crate) fn check_vm86_iopl(&self) -> Result<(), Fault> {
        if self.is_vm86() && self.state.iopl() != 3 { Err(Fault::gp(0)) } else { Ok(()) }
    }

    /// POPF.
    pub(crate) fn pop_flags(&mut self, v: u32, osz: u32) -> Result<(), Fault> {
        self.check_vm86_iopl()?;
        let s = &self.state;
        let mut mask = crate::interrupt::always_popped(osz / 8);
        if self.is_vm86() || s.cpl <= s.iopl() {
            mask |= flags::IF;
        }
        if s.cpl == 0 && !self.is_vm86() {
            mask |= flags::IOPL;
            // VIF and VIP are cleared, whatever the image says.
            mask |= if osz == 32 { flags::VIF | flags::VIP } else { 0 };
        }
        self.state.set_eflags_masked(v & !(flags::VIF | flags::VIP), mask);
        self.state.eflags &= !flags::RF;
        self.sync_in_block();
        Ok(())
    }

    /// CLI and STI: #GP(0) unless CPL <= IOPL (IOPL 3 in virtual-8086 mode).
    pub(crate) fn set_interrupt_flag(&mut self, is_on: bool) -> Result<(), Fault> {
        if self.state.cr0 & cr0::PE != 0 && self.state.cpl > self.state.iopl() {
            return Err(Fault::gp(0));
        }
        if !is_on {
            self.state.eflags &= !flags::IF;
        } else if self.state.eflags & flags::IF == 0 {
            self.state.eflags |= flags::IF;
            self.state.shadow = 1;
            self.shadow_is_sti = true;
        }
        Ok(())
    }
}
