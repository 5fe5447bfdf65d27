//! Linear to physical: 32-bit two-level paging with PSE, and three-level PAE.
//!
//! Accessed and dirty bits are written only after every check passed. Physical addresses leave here
//! with the A20 gate applied. Source: SDM Vol. 3A, "Paging".

use mem::{Access, Lin, PageKind, Phys, Size};

use crate::cpu::{Cpu, cr0, cr4};
use crate::fault::{Fault, pf};

/// Bits of a paging-structure entry.
mod entry {
    pub(super) const P: u64 = 1;
    pub(super) const RW: u64 = 2;
    pub(super) const US: u64 = 4;
    pub(super) const A: u64 = 1 << 5;
    pub(super) const D: u64 = 1 << 6;
    pub(super) const PS: u64 = 1 << 7;
    /// Reserved in a 4 MiB entry of a processor without PSE-36.
    pub(super) const RESERVED_4M: u64 = 0x003F_E000;
    /// Reserved in a 2 MiB entry.
    pub(super) const RESERVED_2M: u64 = 0x001F_E000;
    /// Reserved above 36 physical address bits.
    pub(super) const RESERVED_HIGH: u64 = !0xF_FFFF_FFFF;
    /// Physical page number of a PAE entry.
    pub(super) const PAE_FRAME: u64 = 0xF_FFFF_F000;
    /// Reserved in a page-directory-pointer entry.
    pub(super) const RESERVED_PDPTE: u64 = RESERVED_HIGH | 0x1E6;
}

/// The outcome of a walk, before permissions.
struct Walk {
    /// Physical page of the address.
    phys: u64,
    /// AND of the RW and US bits of all levels.
    rights: u64,
    /// Entry addresses and values, upper level first; the last one present is the leaf.
    upper: Option<(u64, u64)>,
    leaf: (u64, u64),
}

impl Cpu {
    /// Translates for privilege level `cpl` (3 = user) and enters the page into the TLB.
    pub fn translate(&mut self, lin: Lin, access: Access, cpl: u32) -> Result<Phys, Fault> {
        let is_write = matches!(access, Access::Write | Access::Rmw);
        let is_user = cpl == 3;
        if let Some(phys) = self.tlb.recall(lin, is_write, is_user) {
            return Ok(phys);
        }
        self.translate_cold(lin, is_write, is_user)
    }

    fn translate_cold(&mut self, lin: Lin, is_write: bool, is_user: bool) -> Result<Phys, Fault> {
        let lin = Lin(lin.0 & 0xFFFF_FFFF);
        let (page, is_writable) = match self.state.cr0 & cr0::PG != 0 {
            false => (lin.page().0, true),
            true => self.walk_checked(lin, is_write, is_user)?,
        };
        let page = Phys(page & self.a20_mask);
        self.tlb.remember(lin, page, is_writable, is_user);
        self.enter_tlb(lin, page, is_writable, is_user);
        Ok(page.add(lin.page_offset()))
    }

    /// Gives generated code what it may have of a page.
    pub(crate) fn enter_tlb(&mut self, lin: Lin, page: Phys, is_writable: bool, is_user: bool) {
        let PageKind::Ram { off, writable } = self.map.lookup(page) else { return };
        let Some(host) = self.ram.page_ptr(off) else { return };
        let host = host.addr() as u64 & !0xFFF;
        self.tlb.enter_read(lin, host, is_user);
        if is_writable && writable && self.ram.code_lines(off) == 0 {
            self.tlb.enter_write(lin, host, is_user);
        }
    }

    /// Walks, checks rights, sets A and D. Gives the physical page and whether later writes need
    /// no further look.
    fn walk_checked(
        &mut self,
        lin: Lin,
        is_write: bool,
        is_user: bool,
    ) -> Result<(u64, bool), Fault> {
        let code = (u32::from(is_write) * pf::WRITE) | (u32::from(is_user) * pf::USER);
        let walk = match self.state.cr4 & cr4::PAE != 0 {
            true => self.walk_pae(lin),
            false => self.walk_legacy(lin),
        };
        let walk = walk.map_err(|bits| Fault::pf(lin.0, code | bits))?;
        let may_write = walk.rights & entry::RW != 0 || (!is_user && self.state.cr0 & cr0::WP == 0);
        let may_access = !is_user || walk.rights & entry::US != 0;
        if !may_access || (is_write && !may_write) {
            return Err(Fault::pf(lin.0, code | pf::PRESENT));
        }
        if let Some((at, value)) = walk.upper {
            self.set_entry_bits(at, value, entry::A);
        }
        let (at, value) = walk.leaf;
        let bits = if is_write { entry::A | entry::D } else { entry::A };
        self.set_entry_bits(at, value, bits);
        let is_dirty = is_write || value & entry::D != 0;
        Ok((walk.phys, may_write && is_dirty))
    }

    fn walk_legacy(&mut self, lin: Lin) -> Result<Walk, u32> {
        let pde_at = (self.state.cr3 & 0xFFFF_F000) | (lin.0 >> 22 << 2);
        let pde = self.entry_read(pde_at, Size::B4);
        if pde & entry::P == 0 {
            return Err(0);
        }
        if pde & entry::PS != 0 && self.state.cr4 & cr4::PSE != 0 {
            if pde & entry::RESERVED_4M != 0 {
                return Err(pf::PRESENT | pf::RESERVED);
            }
            let phys = (pde & 0xFFC0_0000) | (lin.0 & 0x003F_F000);
            return Ok(Walk { phys, rights: pde, upper: None, leaf: (pde_at, pde) });
        }
        let pte_at = (pde & 0xFFFF_F000) | (lin.0 >> 12 & 0x3FF) << 2;
        let pte = self.entry_read(pte_at, Size::B4);
        if pte & entry::P == 0 {
            return Err(0);
        }
        let phys = pte & 0xFFFF_F000;
        Ok(Walk { phys, rights: pde & pte, upper: Some((pde_at, pde)), leaf: (pte_at, pte) })
    }

    fn walk_pae(&mut self, lin: Lin) -> Result<Walk, u32> {
        let pdpte = self.pdpte[(lin.0 >> 30 & 3) as usize];
        if pdpte & entry::P == 0 {
            return Err(0);
        }
        let pde_at = (pdpte & entry::PAE_FRAME) | (lin.0 >> 21 & 0x1FF) << 3;
        let pde = self.entry_read(pde_at, Size::B8);
        if pde & entry::P == 0 {
            return Err(0);
        }
        if pde & entry::RESERVED_HIGH != 0 {
            return Err(pf::PRESENT | pf::RESERVED);
        }
        if pde & entry::PS != 0 {
            if pde & entry::RESERVED_2M != 0 {
                return Err(pf::PRESENT | pf::RESERVED);
            }
            let phys = (pde & 0xF_FFE0_0000) | (lin.0 & 0x001F_F000);
            return Ok(Walk { phys, rights: pde, upper: None, leaf: (pde_at, pde) });
        }
        let pte_at = (pde & entry::PAE_FRAME) | (lin.0 >> 12 & 0x1FF) << 3;
        let pte = self.entry_read(pte_at, Size::B8);
        if pte & entry::P == 0 {
            return Err(0);
        }
        if pte & entry::RESERVED_HIGH != 0 {
            return Err(pf::PRESENT | pf::RESERVED);
        }
        let phys = pte & entry::PAE_FRAME;
        Ok(Walk { phys, rights: pde & pte, upper: Some((pde_at, pde)), leaf: (pte_at, pte) })
    }

    /// The four page-directory-pointer entries at `cr3`, as MOV to CR3 loads them.
    /// #GP(0) when a present one has a reserved bit set.
    pub(crate) fn read_pdptes(&mut self, cr3: u64) -> Result<[u64; 4], Fault> {
        let mut entries = [0; 4];
        for (i, slot) in entries.iter_mut().enumerate() {
            *slot = self.entry_read((cr3 & 0xFFFF_FFE0) + 8 * i as u64, Size::B8);
            if *slot & entry::P != 0 && *slot & entry::RESERVED_PDPTE != 0 {
                return Err(Fault::gp(0));
            }
        }
        Ok(entries)
    }

    fn entry_read(&mut self, at: u64, size: Size) -> u64 {
        self.phys_read(Phys(at & self.a20_mask), size)
    }

    /// Sets A/D bits in the low dword of an entry if one is missing.
    fn set_entry_bits(&mut self, at: u64, value: u64, bits: u64) {
        if value & bits != bits {
            let low = (value | bits) & 0xFFFF_FFFF;
            self.phys_write(Phys(at & self.a20_mask), Size::B4, low);
        }
    }

    /// Translates without side effects, for debuggers: no fault, no A/D bits, no TLB.
    pub fn peek_phys(&mut self, lin: Lin) -> Option<Phys> {
        let lin = Lin(lin.0 & 0xFFFF_FFFF);
        let page = match self.state.cr0 & cr0::PG != 0 {
            false => lin.page().0,
            true if self.state.cr4 & cr4::PAE != 0 => self.walk_pae(lin).ok()?.phys,
            true => self.walk_legacy(lin).ok()?.phys,
        };
        Some(Phys((page & self.a20_mask) | lin.page_offset()))
    }
}
