//! Model-specific registers: RDMSR and WRMSR.
//!
//! An unknown register is #GP(0), with one line in the log for each. Nothing here has a cache to
//! control: memory types and machine-check banks keep what is written, within the manual's rules.
//! Source: SDM Vol. 4, "Architectural MSRs"; AMD APM Vol. 2, "MSR Cross-Reference".

use crate::cpu::{Cpu, cr0, efer, is_canonical};
use crate::fault::Fault;
use crate::state::seg;

/// Registers that only Rust sees.
#[derive(Clone, Debug, Default)]
pub(crate) struct Msrs {
    /// Added to the bus's counter (writes of the time-stamp counter and IA32_TSC_ADJUST).
    tsc_offset: u64,
    tsc_adjust: u64,
    /// Performance event selection and counters: they keep what is written and never count.
    perf: [u64; 4],
    mtrr_var: [u64; 2 * MTRRS],
    mtrr_fixed: [u64; 11],
    mtrr_default: u64,
    mcg_status: u64,
    /// CTL STATUS ADDR MISC of each bank.
    banks: [u64; 4 * BANKS],
    debugctl: u64,
    spec_ctrl: u64,
    /// AMD's SYSCFG, HWCR, NB_CFG and interrupt-pending register: they keep what is written.
    amd: [u64; 4],
    /// Unknown registers that were reported.
    reported: Vec<u32>,
}

mem::state_fields!(
    Msrs,
    2,
    [
        tsc_offset,
        tsc_adjust,
        perf,
        mtrr_var,
        mtrr_fixed,
        mtrr_default,
        mcg_status,
        banks,
        debugctl,
        spec_ctrl,
        amd
    ]
);

impl Msrs {
    fn check_state(&mut self) -> Result<(), mem::StateError> {
        Ok(())
    }
}

/// Variable-range MTRR pairs.
const MTRRS: usize = 8;
/// Machine-check banks.
const BANKS: usize = 4;

/// MSR numbers.
mod number {
    pub(super) const P5_MC_ADDR: u32 = 0;
    pub(super) const P5_MC_TYPE: u32 = 1;
    pub(super) const TSC: u32 = 0x10;
    pub(super) const PLATFORM_ID: u32 = 0x17;
    pub(super) const APIC_BASE: u32 = 0x1B;
    pub(super) const EBL_CR_POWERON: u32 = 0x2A;
    pub(super) const FEATURE_CONTROL: u32 = 0x3A;
    pub(super) const TSC_ADJUST: u32 = 0x3B;
    pub(super) const SPEC_CTRL: u32 = 0x48;
    pub(super) const PRED_CMD: u32 = 0x49;
    pub(super) const BIOS_UPDT_TRIG: u32 = 0x79;
    pub(super) const BIOS_SIGN: u32 = 0x8B;
    pub(super) const PERFCTR0: u32 = 0xC1;
    pub(super) const PERFCTR1: u32 = 0xC2;
    pub(super) const MTRRCAP: u32 = 0xFE;
    pub(super) const ARCH_CAPABILITIES: u32 = 0x10A;
    pub(super) const SYSENTER_CS: u32 = 0x174;
    pub(super) const SYSENTER_ESP: u32 = 0x175;
    pub(super) const SYSENTER_EIP: u32 = 0x176;
    pub(super) const MCG_CAP: u32 = 0x179;
    pub(super) const MCG_STATUS: u32 = 0x17A;
    pub(super) const EVNTSEL0: u32 = 0x186;
    pub(super) const EVNTSEL1: u32 = 0x187;
    pub(super) const MISC_ENABLE: u32 = 0x1A0;
    pub(super) const DEBUGCTL: u32 = 0x1D9;
    /// The last-branch and last-exception records, which stay 0.
    pub(super) const LAST_BRANCH: std::ops::RangeInclusive<u32> = 0x1DB..=0x1DE;
    pub(super) const TSC_DEADLINE: u32 = 0x6E0;
    /// The local APIC's registers.
    pub(super) const X2APIC: std::ops::RangeInclusive<u32> = 0x800..=0x8FF;
    pub(super) const MTRR_VAR: u32 = 0x200;
    pub(super) const MTRR_VAR_LAST: u32 = MTRR_VAR + 2 * super::MTRRS as u32 - 1;
    pub(super) const PAT: u32 = 0x277;
    pub(super) const MTRR_DEFAULT: u32 = 0x2FF;
    pub(super) const BANK0: u32 = 0x400;
    pub(super) const BANK_LAST: u32 = BANK0 + 4 * super::BANKS as u32 - 1;
    pub(super) const EFER: u32 = 0xC000_0080;
    pub(super) const STAR: u32 = 0xC000_0081;
    pub(super) const LSTAR: u32 = 0xC000_0082;
    pub(super) const CSTAR: u32 = 0xC000_0083;
    pub(super) const FMASK: u32 = 0xC000_0084;
    pub(super) const FS_BASE: u32 = 0xC000_0100;
    pub(super) const GS_BASE: u32 = 0xC000_0101;
    pub(super) const KERNEL_GS_BASE: u32 = 0xC000_0102;
    pub(super) const TSC_AUX: u32 = 0xC000_0103;
    /// Of AMD's processors: SYSCFG, HWCR, NB_CFG, interrupt pending.
    pub(super) const AMD: [u32; 4] = [0xC001_0010, HWCR, 0xC001_001F, 0xC001_0055];
    pub(super) const HWCR: u32 = 0xC001_0015;
}

/// IA32_APIC_BASE after RESET: on, of the bootstrap processor.
pub(crate) const APIC_BASE_RESET: u64 = 0xFEE0_0900;
/// IA32_APIC_BASE: bootstrap processor, registers as MSRs, on.
const APIC_BSP: u64 = 1 << 8;
const APIC_EXTD: u64 = 1 << 10;
const APIC_EN: u64 = 1 << 11;
/// Bits of IA32_MISC_ENABLE that can be written: fast strings.
const MISC_ENABLE_WRITABLE: u64 = 1;
/// HWCR: the time-stamp counter runs at one rate (AMD's PPR of family 17h, "MSRC001_0015"), as CPUID 8000_0007h says.
const TSC_FREQ_SEL: u64 = 1 << 24;
/// IA32_MTRRCAP: fixed ranges and write-combining, `MTRRS` pairs.
const MTRRCAP_VALUE: u64 = 0x500 | MTRRS as u64;
/// IA32_MCG_CAP.
const MCG_CAP_VALUE: u64 = BANKS as u64;
/// IA32_ARCH_CAPABILITIES: nothing is executed speculatively here, so none of the known leaks exists
/// (RDCL_NO, IBRS_ALL, SKIP_L1DFL, SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO,
/// BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO).
const ARCH_CAPABILITIES_VALUE: u64 = 0x0D10_E17B;
/// The microcode revision, in the upper half of IA32_BIOS_SIGN_ID: none of the errata exists here, so
/// it is above the last that systems ask of any family 6 model.
const MICROCODE: u64 = 0x7FFF_FFFF << 32;

/// The index of a fixed-range MTRR.
const fn fixed_mtrr(n: u32) -> Option<usize> {
    match n {
        0x250 => Some(0),
        0x258 => Some(1),
        0x259 => Some(2),
        0x268..=0x26F => Some(n as usize - 0x268 + 3),
        _ => None,
    }
}

/// The index of a register of AMD's processors.
fn amd_register(n: u32) -> Option<usize> {
    number::AMD.iter().position(|&known| known == n)
}

/// Is it a memory type that MTRRs (and with `is_pat` PAT) know?
const fn is_memory_type(v: u64, is_pat: bool) -> bool {
    matches!(v, 0 | 1 | 4..=6) || (is_pat && v == 7)
}

/// Is each byte a memory type?
fn are_memory_types(v: u64, is_pat: bool) -> bool {
    v.to_le_bytes().iter().all(|&b| is_memory_type(u64::from(b), is_pat))
}

/// `Ok` or #GP(0).
const fn demand(is_legal: bool) -> Result<(), Fault> {
    if is_legal { Ok(()) } else { Err(Fault::gp(0)) }
}

/// The time-stamp counter.
impl Cpu {
    pub(crate) fn time_stamp(&mut self) -> u64 {
        self.bus.tsc().wrapping_add(self.msr.tsc_offset)
    }

    /// What the guest has moved its counter by.
    pub(crate) const fn tsc_offset(&self) -> u64 {
        self.msr.tsc_offset
    }

    fn set_time_stamp(&mut self, v: u64) {
        let old = self.time_stamp();
        self.move_time_stamp(v.wrapping_sub(old));
    }

    fn move_time_stamp(&mut self, by: u64) {
        // The deadline is a value of the counter, not a time.
        let deadline = self.tsc_deadline();
        self.msr.tsc_offset = self.msr.tsc_offset.wrapping_add(by);
        self.forget_time();
        self.msr.tsc_adjust = self.msr.tsc_adjust.wrapping_add(by);
        if deadline != 0 {
            self.set_tsc_deadline(deadline);
        }
    }

    /// IA32_TSC_DEADLINE; 0 if the timer is not armed.
    fn tsc_deadline(&mut self) -> u64 {
        let at = self.bus.tsc_deadline();
        at.map_or(0, |at| at.wrapping_add(self.msr.tsc_offset))
    }

    fn set_tsc_deadline(&mut self, v: u64) {
        let (now, count) = (self.bus.tsc(), self.time_stamp());
        let at = now.saturating_add(v.saturating_sub(count));
        self.bus.set_tsc_deadline((v != 0).then_some(at));
    }

    pub(crate) fn read_pmc(&mut self, n: u32) -> Result<u64, Fault> {
        let is_allowed = self.state.cpl == 0 || self.state.cr4 & crate::cpu::cr4::PCE != 0;
        match n {
            0 | 1 if is_allowed => Ok(self.msr.perf[n as usize] & 0xFF_FFFF_FFFF),
            _ => Err(Fault::gp(0)),
        }
    }
}

/// RDMSR and WRMSR.
impl Cpu {
    pub(crate) fn read_msr(&mut self, n: u32) -> Result<u64, Fault> {
        let (s, m) = (&self.state, &self.msr);
        Ok(match n {
            number::TSC => self.time_stamp(),
            number::APIC_BASE if self.caps.has_apic => s.apic_base,
            number::TSC_DEADLINE if self.caps.has_tsc_deadline => self.tsc_deadline(),
            _ if number::X2APIC.contains(&n) && self.caps.has_x2apic => {
                self.bus.apic_read(n & 0xFF).ok_or(Fault::gp(0))?
            }
            number::TSC_ADJUST if self.caps.has_tsc_adjust => m.tsc_adjust,
            number::SPEC_CTRL if self.caps.spec_ctrl != 0 => m.spec_ctrl,
            number::ARCH_CAPABILITIES if self.caps.has_arch_caps => ARCH_CAPABILITIES_VALUE,
            number::BIOS_SIGN => MICROCODE,
            number::P5_MC_ADDR
            | number::P5_MC_TYPE
            | number::PLATFORM_ID
            | number::EBL_CR_POWERON => 0,
            number::FEATURE_CONTROL => 1,
            number::PERFCTR0 | number::PERFCTR1 => m.perf[(n - number::PERFCTR0) as usize],
            number::EVNTSEL0 | number::EVNTSEL1 => m.perf[(n - number::EVNTSEL0) as usize + 2],
            number::SYSENTER_CS if self.caps.has_sep => s.sysenter_cs,
            number::SYSENTER_ESP if self.caps.has_sep => s.sysenter_esp,
            number::SYSENTER_EIP if self.caps.has_sep => s.sysenter_eip,
            number::MCG_CAP if self.caps.has_mca => MCG_CAP_VALUE,
            number::MCG_STATUS if self.caps.has_mca => m.mcg_status,
            number::BANK0..=number::BANK_LAST if self.caps.has_mca => {
                m.banks[(n - number::BANK0) as usize]
            }
            number::MISC_ENABLE => s.misc_enable,
            number::DEBUGCTL => m.debugctl,
            _ if number::LAST_BRANCH.contains(&n) => 0,
            number::MTRRCAP if self.caps.has_mtrr => MTRRCAP_VALUE,
            number::MTRR_VAR..=number::MTRR_VAR_LAST if self.caps.has_mtrr => {
                m.mtrr_var[(n - number::MTRR_VAR) as usize]
            }
            number::MTRR_DEFAULT if self.caps.has_mtrr => m.mtrr_default,
            number::PAT if self.caps.has_pat => s.pat,
            number::EFER if self.caps.efer != 0 => s.efer,
            number::TSC_AUX if self.caps.has_tsc_aux => s.tsc_aux,
            number::STAR..=number::KERNEL_GS_BASE if self.caps.has_long => self.read_long_msr(n)?,
            _ => match (fixed_mtrr(n), amd_register(n)) {
                (Some(i), _) if self.caps.has_mtrr => m.mtrr_fixed[i],
                (_, Some(i)) if self.caps.is_amd => {
                    m.amd[i] | if n == number::HWCR { TSC_FREQ_SEL } else { 0 }
                }
                _ => return Err(self.unknown_msr(n, None)),
            },
        })
    }

    /// The registers that came with 64-bit mode.
    fn read_long_msr(&mut self, n: u32) -> Result<u64, Fault> {
        let s = &self.state;
        Ok(match n {
            number::STAR => s.star,
            number::LSTAR => s.lstar,
            number::CSTAR => s.cstar,
            number::FMASK => s.sfmask,
            number::FS_BASE => s.seg[usize::from(seg::FS)].base,
            number::GS_BASE => s.seg[usize::from(seg::GS)].base,
            number::KERNEL_GS_BASE => s.kernel_gs_base,
            _ => return Err(self.unknown_msr(n, None)),
        })
    }

    pub(crate) fn write_msr(&mut self, n: u32, v: u64) -> Result<(), Fault> {
        match n {
            number::TSC => self.set_time_stamp(v),
            number::TSC_ADJUST if self.caps.has_tsc_adjust => {
                self.move_time_stamp(v.wrapping_sub(self.msr.tsc_adjust));
            }
            number::APIC_BASE if self.caps.has_apic => self.write_apic_base(v)?,
            number::TSC_DEADLINE if self.caps.has_tsc_deadline => self.set_tsc_deadline(v),
            _ if number::X2APIC.contains(&n) && self.caps.has_x2apic => {
                demand(self.bus.apic_write(n & 0xFF, v))?;
            }
            number::SPEC_CTRL if self.caps.spec_ctrl != 0 => {
                demand(v & !self.caps.spec_ctrl == 0)?;
                self.msr.spec_ctrl = v;
            }
            number::PRED_CMD if self.caps.spec_ctrl != 0 => demand(v & !1 == 0)?,
            number::EBL_CR_POWERON | number::BIOS_UPDT_TRIG | number::BIOS_SIGN => {}
            number::P5_MC_ADDR | number::P5_MC_TYPE => {}
            number::PERFCTR0 | number::PERFCTR1 => {
                self.msr.perf[(n - number::PERFCTR0) as usize] = v
            }
            number::EVNTSEL0 | number::EVNTSEL1 => {
                self.msr.perf[(n - number::EVNTSEL0) as usize + 2] = v
            }
            number::SYSENTER_CS if self.caps.has_sep => {
                self.state.sysenter_cs = v & 0xFFFF_FFFF;
                self.forget_transfers();
            }
            number::SYSENTER_ESP if self.caps.has_sep => {
                demand(is_canonical(v))?;
                self.state.sysenter_esp = v;
            }
            number::SYSENTER_EIP if self.caps.has_sep => {
                demand(is_canonical(v))?;
                self.state.sysenter_eip = v;
            }
            number::MCG_STATUS if self.caps.has_mca => self.msr.mcg_status = v & 7,
            number::BANK0..=number::BANK_LAST if self.caps.has_mca => {
                let i = (n - number::BANK0) as usize;
                // STATUS, ADDR and MISC can only be cleared.
                demand(i.is_multiple_of(4) || v == 0)?;
                self.msr.banks[i] = v;
            }
            number::MISC_ENABLE => {
                let kept = self.state.misc_enable & !MISC_ENABLE_WRITABLE;
                self.state.misc_enable = kept | v & MISC_ENABLE_WRITABLE;
            }
            // Branch traps and last-branch records do not exist: the bits read 0.
            number::DEBUGCTL => self.msr.debugctl = 0,
            number::PAT if self.caps.has_pat => {
                demand(are_memory_types(v, true))?;
                self.state.pat = v;
            }
            number::EFER if self.caps.efer != 0 => self.write_efer(v)?,
            number::TSC_AUX if self.caps.has_tsc_aux => {
                demand(v >> 32 == 0)?;
                self.state.tsc_aux = v;
            }
            number::STAR..=number::KERNEL_GS_BASE if self.caps.has_long => {
                self.write_long_msr(n, v)?
            }
            _ => match amd_register(n) {
                Some(i) if self.caps.is_amd => self.msr.amd[i] = v,
                _ => self.write_mtrr(n, v)?,
            },
        }
        Ok(())
    }

    /// IA32_APIC_BASE, with the transitions between its modes that the manual allows (SDM Vol. 3A,
    /// "x2APIC State Transitions").
    fn write_apic_base(&mut self, v: u64) -> Result<(), Fault> {
        let flags = APIC_BSP | APIC_EN | if self.caps.has_x2apic { APIC_EXTD } else { 0 };
        demand(v & !(flags | self.frame_mask()) == 0)?;
        let (old, new) = (self.state.apic_base & (APIC_EN | APIC_EXTD), v & (APIC_EN | APIC_EXTD));
        let leaves_x2apic = old & APIC_EXTD != 0 && new == APIC_EN;
        let skips_xapic = old == 0 && new & APIC_EXTD != 0;
        demand(new != APIC_EXTD && !leaves_x2apic && !skips_xapic)?;
        // The bootstrap-processor flag is the hardware's.
        self.state.apic_base = v & !APIC_BSP | self.state.apic_base & APIC_BSP;
        self.bus.set_apic_base(self.state.apic_base);
        self.after_bus_access();
        Ok(())
    }

    fn write_long_msr(&mut self, n: u32, v: u64) -> Result<(), Fault> {
        demand(matches!(n, number::STAR | number::FMASK) || is_canonical(v))?;
        match n {
            number::STAR => {
                self.state.star = v;
                self.forget_transfers();
            }
            number::LSTAR => self.state.lstar = v,
            number::CSTAR => self.state.cstar = v,
            number::FMASK => {
                self.state.sfmask = v & 0xFFFF_FFFF;
                self.forget_transfers();
            }
            number::FS_BASE => self.set_segment_base(seg::FS, v),
            number::GS_BASE => self.set_segment_base(seg::GS, v),
            number::KERNEL_GS_BASE => self.state.kernel_gs_base = v,
            _ => return Err(self.unknown_msr(n, Some(v))),
        }
        Ok(())
    }

    fn write_mtrr(&mut self, n: u32, v: u64) -> Result<(), Fault> {
        if !self.caps.has_mtrr {
            return Err(self.unknown_msr(n, Some(v)));
        }
        let above = !((1 << self.caps.phys_bits) - 1);
        match n {
            number::MTRR_VAR..=number::MTRR_VAR_LAST => {
                let is_mask = n & 1 != 0;
                let reserved = above | if is_mask { 0x7FF } else { 0xF00 };
                demand(v & reserved == 0 && (is_mask || is_memory_type(v & 0xFF, false)))?;
                self.msr.mtrr_var[(n - number::MTRR_VAR) as usize] = v;
            }
            number::MTRR_DEFAULT => {
                demand(v & !0xCFF == 0 && is_memory_type(v & 0xFF, false))?;
                self.msr.mtrr_default = v;
            }
            _ => match fixed_mtrr(n) {
                Some(i) => {
                    demand(are_memory_types(v, false))?;
                    self.msr.mtrr_fixed[i] = v;
                }
                None => return Err(self.unknown_msr(n, Some(v))),
            },
        }
        Ok(())
    }

    /// Sets the base of FS or GS.
    pub(crate) fn set_segment_base(&mut self, n: u8, base: u64) {
        self.state.seg[usize::from(n)].base = base;
        self.sync_segment(usize::from(n));
    }

    fn write_efer(&mut self, v: u64) -> Result<(), Fault> {
        let old = self.state.efer;
        demand(v & !(self.caps.efer | efer::LMA) == 0)?;
        demand((v ^ old) & efer::LME == 0 || self.state.cr0 & cr0::PG == 0)?;
        self.state.efer = v & !efer::LMA | old & efer::LMA;
        self.forget_transfers();
        self.forget_loads();
        if (v ^ old) & efer::NXE != 0 {
            self.flush_tlb();
        }
        Ok(())
    }

    /// #GP(0), reported once for each register.
    fn unknown_msr(&mut self, n: u32, written: Option<u64>) -> Fault {
        /// Enough to tell what a guest looks for, however many it tries.
        const REPORTS: usize = 64;
        if self.msr.reported.len() < REPORTS && !self.msr.reported.contains(&n) {
            self.msr.reported.push(n);
            match written {
                Some(v) => log::warn!("unknown MSR written n={n:#010x} value={v:#018x}"),
                None => log::warn!("unknown MSR read n={n:#010x}"),
            }
        }
        Fault::gp(0)
    }
}
