//! Control registers, EFLAGS images, and the rules of entering and leaving IA-32e mode.
//!
//! Source: SDM Vol. 3A, "Control Registers", "Initializing IA-32e Mode"; Vol. 2, "MOV - Move to/from
//! Control Registers", "INVPCID".

use mem::{Lin, TscMap};

use crate::cpu::{Cpu, cr0, cr4, efer, is_canonical};
use crate::fault::Fault;
use crate::flags;
use crate::segment::{Segment, attr};
use crate::state::seg;

/// CR3: do not drop translations.
const CR3_NO_FLUSH: u64 = 1 << 63;
/// A process-context identifier.
const PCID: u64 = 0xFFF;
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
/// CR0 bits whose change makes translations stale.
const CR0_PAGING: u64 = cr0::PE | cr0::PG | cr0::WP;
/// CR4 bits whose change makes translations stale.
const CR4_PAGING: u64 = cr4::PSE | cr4::PAE | cr4::PGE | cr4::PCIDE | cr4::SMEP | cr4::SMAP;
/// CR4 bits whose change makes the page-directory-pointer entries be read again.
const CR4_PDPTE: u64 = cr4::PSE | cr4::PAE | cr4::PGE | cr4::SMEP;

/// CR0.
impl Cpu {
    pub(crate) fn write_cr0(&mut self, v: u64) -> Result<(), Fault> {
        let new = v & CR0_MASK | cr0::ET;
        let old = self.state.cr0;
        let is_impossible = new & (cr0::PG | cr0::PE) == cr0::PG
            || new & (cr0::NW | cr0::CD) == cr0::NW
            || v >> 32 != 0;
        if is_impossible {
            return Err(Fault::gp(0));
        }
        if new & !old & cr0::PG != 0 {
            self.enable_paging()?;
        }
        if old & !new & cr0::PG != 0 {
            if self.is_code64() || self.state.cr4 & cr4::PCIDE != 0 {
                return Err(Fault::gp(0));
            }
            self.state.efer &= !efer::LMA;
        }
        self.state.cr0 = new;
        self.state.ready = 0;
        // Without paging addresses are what they are, in real mode as in protected mode.
        if (new ^ old) & CR0_PAGING != 0 && (new | old) & cr0::PG != 0 {
            self.flush_tlb();
        }
        if old & !new & cr0::PE != 0 {
            self.enter_real_mode();
        }
        self.sync_in_block();
        Ok(())
    }

    /// CR0.PG is about to be set: enters IA-32e mode if EFER.LME asks for it.
    fn enable_paging(&mut self) -> Result<(), Fault> {
        let has_pae = self.state.cr4 & cr4::PAE != 0;
        if self.state.efer & efer::LME != 0 {
            let is_cs64 = self.state.seg[usize::from(seg::CS)].attr & attr::L != 0;
            let is_tss16 = self.state.tr.attr & 8 == 0 && self.state.tr.selector & !3 != 0;
            if !has_pae || is_cs64 || is_tss16 {
                return Err(Fault::gp(0));
            }
            self.state.efer |= efer::LMA;
        } else if has_pae {
            self.pdpte = self.read_pdptes(self.state.cr3)?;
        }
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

    /// LMSW: the low four bits of CR0, and PE cannot be cleared.
    pub(crate) fn load_msw(&mut self, v: u16) {
        let low = u64::from(v) & 0xF | self.state.cr0 & cr0::PE;
        // Where PE is set there was no paging: the TLB holds.
        let changed = (self.state.cr0 ^ low) & 0xF;
        self.state.cr0 ^= changed;
        self.state.ready = 0;
        self.sync_in_block();
    }

    /// CLTS.
    pub(crate) const fn clear_task_switched(&mut self) {
        self.state.cr0 &= !cr0::TS;
    }
}

/// CR3, CR4 and CR8.
impl Cpu {
    pub(crate) fn write_cr3(&mut self, v: u64) -> Result<(), Fault> {
        let has_pcid = self.state.cr4 & cr4::PCIDE != 0;
        let keeps = has_pcid && v & CR3_NO_FLUSH != 0;
        // Bits that paging ignores are kept all the same: those of an identifier stand in the way of CR4.PCIDE.
        let new = if has_pcid { v & !CR3_NO_FLUSH } else { v };
        if new >> self.caps.phys_bits != 0 {
            return Err(Fault::gp(0));
        }
        if self.state.cr0 & cr0::PG != 0 && self.state.cr4 & cr4::PAE != 0 && !self.is_long() {
            self.pdpte = self.read_pdptes(new)?;
        }
        self.state.cr3 = new;
        self.enter_space(self.pcid(new), keeps);
        Ok(())
    }

    /// The process-context identifier in a CR3 or an INVPCID descriptor: 0 while there are none.
    pub(crate) const fn pcid(&self, v: u64) -> u16 {
        if self.state.cr4 & cr4::PCIDE != 0 { (v & PCID) as u16 } else { 0 }
    }

    /// CR3 as a task switch loads it.
    pub(crate) fn load_task_cr3(&mut self, cr3: u64) {
        self.state.cr3 = cr3 & 0xFFFF_FFFF;
        if self.state.cr4 & cr4::PAE != 0 {
            self.pdpte = self.read_pdptes(cr3).unwrap_or_default();
        }
        self.enter_space(0, false);
    }

    pub(crate) fn write_cr4(&mut self, v: u64) -> Result<(), Fault> {
        let old = self.state.cr4;
        let changed = v ^ old;
        let is_long = self.is_long();
        let enters_pcid = v & !old & cr4::PCIDE != 0;
        let is_impossible = v & !self.caps.cr4 != 0
            || (is_long && v & cr4::PAE == 0)
            || (enters_pcid && (!is_long || self.state.cr3 & PCID != 0));
        if is_impossible {
            return Err(Fault::gp(0));
        }
        let has_pdptes = v & cr4::PAE != 0 && self.state.cr0 & cr0::PG != 0 && !is_long;
        if has_pdptes && changed & CR4_PDPTE != 0 {
            self.pdpte = self.read_pdptes(self.state.cr3)?;
        }
        self.state.cr4 = v;
        self.state.ready = 0;
        self.forget_time();
        if changed & CR4_PAGING != 0 {
            self.flush_tlb();
        }
        if changed & cr4::PVI != 0 {
            self.forget_transfers();
        }
        if changed & cr4::DE != 0 {
            self.arm_breakpoints(false);
        }
        self.sync_in_block();
        Ok(())
    }

    /// The task priority, CR8: the local APIC's.
    pub fn task_priority(&self) -> u8 {
        self.bus.task_priority()
    }

    pub(crate) fn write_cr8(&mut self, v: u64) -> Result<(), Fault> {
        if v > 15 {
            return Err(Fault::gp(0));
        }
        self.bus.set_task_priority(v as u8);
        Ok(())
    }
}

/// Dropping translations.
impl Cpu {
    /// INVLPG.
    pub(crate) fn invalidate_page(&mut self, n: u8, off: u64) {
        let lin = self.lin_of(n, off);
        if is_canonical(lin) {
            self.flush_page(Lin(lin));
        }
    }

    /// Segment base and offset, without checks.
    fn lin_of(&self, n: u8, off: u64) -> u64 {
        let base = self.state.seg[usize::from(n) % seg::COUNT].base;
        match self.is_code64() {
            true if n < seg::FS => off,
            true => base.wrapping_add(off),
            false => base.wrapping_add(off) & 0xFFFF_FFFF,
        }
    }

    /// INVPCID: descriptor at `n:off`.
    pub(crate) fn invalidate_context(&mut self, kind: u64, n: u8, off: u64) -> Result<(), Fault> {
        let low = self.load(n, off, 8)?;
        let address = self.load(n, off.wrapping_add(8), 8)?;
        let has_pcid = self.state.cr4 & cr4::PCIDE != 0;
        let is_other = !has_pcid && low & PCID != 0;
        let is_legal = match kind {
            0 => !is_other && is_canonical(address),
            1 => !is_other,
            2 | 3 => true,
            _ => false,
        };
        // What is reserved in the descriptor counts for every kind, also where the identifier is not looked at.
        if !is_legal || low & !PCID != 0 {
            return Err(Fault::gp(0));
        }
        let pcid = self.pcid(low);
        match kind {
            0 => self.flush_page_of(pcid, Lin(address)),
            1 => self.flush_space(pcid),
            2 => self.flush_tlb(),
            _ => self.flush_local(),
        }
        Ok(())
    }
}

/// The time-stamp counter.
impl Cpu {
    /// RDTSC: #GP(0) outside CPL 0 when CR4.TSD is set.
    pub(crate) fn read_tsc(&mut self) -> Result<u64, Fault> {
        if self.state.cr4 & cr4::TSD != 0 && self.state.cpl != 0 {
            return Err(Fault::gp(0));
        }
        let now = self.time_stamp();
        self.follow_time();
        Ok(now)
    }

    /// Lets generated code tell the time by itself, as far as it may.
    fn follow_time(&mut self) {
        self.state.tsc = match self.state.cr4 & cr4::TSD {
            0 => self.bus.tsc_map().moved(self.tsc_offset()),
            _ => TscMap::default(),
        };
    }

    /// The host's counter may stand otherwise to the guest's than it did.
    pub const fn forget_time(&mut self) {
        self.state.tsc.span = 0;
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
        if self.is_vm86() && self.has_virtual_if() {
            return self.pop_virtual_flags(v, osz);
        }
        self.check_vm86_iopl()?;
        let s = &self.state;
        let mut mask = self.always_popped(osz / 8);
        if self.is_vm86() || s.cpl <= s.iopl() {
            mask |= flags::IF;
        }
        if s.cpl == 0 && !self.is_vm86() {
            mask |= flags::IOPL;
            // VIF and VIP are cleared, whatever the image says.
            mask |= if osz >= 32 { flags::VIF | flags::VIP } else { 0 };
        }
        let old = self.state.eflags;
        self.state.set_eflags_masked(v & !(flags::VIF | flags::VIP), mask);
        self.state.eflags &= !flags::RF;
        if (old ^ self.state.eflags) & (flags::TF | flags::IOPL | flags::AC) != 0 {
            self.sync_in_block();
        }
        Ok(())
    }

    /// STI, which the row has permitted: if interrupts were off, they wait for one insn more.
    pub(crate) const fn set_interrupt_flag(&mut self) {
        if self.state.eflags & flags::IF == 0 {
            self.state.eflags |= flags::IF;
            self.state.shadow = 1;
            self.shadow_is_sti = true;
        }
    }
}
