//! Linear to physical: 32-bit two-level paging with PSE, three-level PAE, and four-level paging.
//!
//! Accessed and dirty bits are written only after every check passed. Physical addresses leave here
//! with the A20 gate applied. Source: SDM Vol. 3A, "Paging".

use mem::{Access, Lin, PageKind, Phys, Size};

use crate::cpu::{Cpu, cr0, cr4, efer};
use crate::fault::{Fault, pf};
use crate::tlb::{HostPage, Page, ViewId, right};

/// Bits of a paging-structure entry.
mod entry {
    pub(super) const P: u64 = 1;
    pub(super) const RW: u64 = 2;
    pub(super) const US: u64 = 4;
    pub(super) const A: u64 = 1 << 5;
    pub(super) const D: u64 = 1 << 6;
    pub(super) const PS: u64 = 1 << 7;
    pub(super) const G: u64 = 1 << 8;
    pub(super) const XD: u64 = 1 << 63;
    /// Reserved in a 2 MiB entry.
    pub(super) const RESERVED_2M: u64 = 0x001F_E000;
    /// Reserved in a 1 GiB entry.
    pub(super) const RESERVED_1G: u64 = 0x3FFF_E000;
    /// Bits 52 to 62: reserved in PAE paging, ignored in four-level paging.
    pub(super) const HIGH: u64 = 0x7FF0_0000_0000_0000;
    /// Reserved in a page-directory-pointer entry of PAE paging.
    pub(super) const RESERVED_PDPTE: u64 = 0x1E6;
}

/// The outcome of a walk, before permissions.
struct Walk {
    /// Physical 4 KiB page of the address.
    phys: u64,
    /// log2 of the page's size.
    shift: u8,
    /// AND of the RW and US bits of all levels.
    rights: u64,
    /// XD is set at some level.
    is_xd: bool,
    /// Address and value of the entries above the leaf.
    upper: [(u64, u64); 3],
    /// How many of them there are.
    depth: usize,
    leaf: (u64, u64),
}

impl Walk {
    const fn new() -> Self {
        let none = (0, 0);
        Self {
            phys: 0,
            shift: 12,
            rights: !0,
            is_xd: false,
            upper: [none; 3],
            depth: 0,
            leaf: none,
        }
    }

    /// Takes the rights of an entry.
    const fn pass(&mut self, at: u64, value: u64) {
        self.rights &= value;
        self.is_xd |= value & entry::XD != 0;
        self.leaf = (at, value);
    }

    /// The entry passed last leads further down.
    const fn descend(&mut self) {
        self.upper[self.depth % 3] = self.leaf;
        self.depth += 1;
    }

    /// The entry passed last maps a page of `1 << shift` bytes at `base`.
    const fn map(&mut self, base: u64, shift: u8, lin: Lin) {
        self.shift = shift;
        self.phys = base | lin.0 & ((1 << shift) - 1) & !0xFFF;
    }
}

/// The rights an access needs.
const fn need(access: Access) -> u8 {
    match access {
        Access::Read => right::R,
        Access::Write => right::W,
        Access::Rmw => right::R | right::W,
        Access::Fetch => right::X,
    }
}

impl Cpu {
    /// The view of accesses that code at level `cpl` makes now.
    pub(crate) const fn view_for(&self, cpl: u32) -> ViewId {
        if cpl == 3 {
            ViewId::User
        } else if self.state.cr4 & cr4::SMAP != 0 && self.state.eflags & crate::flags::AC != 0 {
            ViewId::SupervisorAc
        } else {
            ViewId::Supervisor
        }
    }

    /// The view of data accesses of the code that runs.
    pub(crate) const fn data_view(&self) -> ViewId {
        self.view_for(self.state.cpl)
    }

    /// Translates for code at privilege level `cpl` and enters the page into the TLB.
    pub fn translate(&mut self, lin: Lin, access: Access, cpl: u32) -> Result<Phys, Fault> {
        let view = match access {
            Access::Fetch if cpl != 3 => ViewId::Supervisor,
            _ => self.view_for(cpl),
        };
        self.translate_in(lin, access, view)
    }

    /// Translates for a view.
    #[inline]
    pub(crate) fn translate_in(
        &mut self,
        lin: Lin,
        access: Access,
        view: ViewId,
    ) -> Result<Phys, Fault> {
        let need = need(access);
        if let Some(phys) = self.tlb.recall(lin, need, view) {
            return Ok(phys);
        }
        self.translate_cold(lin, need, view)
    }

    fn translate_cold(&mut self, lin: Lin, need: u8, view: ViewId) -> Result<Phys, Fault> {
        let lin = Lin(lin.0 & self.lin_mask());
        let found = match self.state.cr0 & cr0::PG != 0 {
            false => {
                let rights = right::R | right::W | right::X;
                Page { phys: lin_page(lin), rights, shift: 12, is_global: false }
            }
            true => match self.walk_checked(lin, need, view) {
                Ok(page) => page,
                Err(fault) => {
                    self.forget_faulted(lin);
                    return Err(fault);
                }
            },
        };
        let page = Page { phys: Phys(found.phys.0 & self.a20_mask), ..found };
        if self.tlb.adapt() {
            self.state.tlb_mask = self.tlb.mask();
        }
        self.tlb.remember(lin, page, view);
        self.enter_tlb(lin, page.phys, page.rights, view);
        self.enter_next(lin, page, view);
        Ok(page.phys.add(lin.page_offset()))
    }

    /// Enters the page behind one that was just entered, if the same entry maps it, or none: generated code of 32 bits looks only at the
    /// map of usual addends where both are on it. Not worth it for what is soon forgotten.
    fn enter_next(&mut self, lin: Lin, page: Page, view: ViewId) {
        let is_kept = page.is_global && page.shift > 12 || self.state.cr0 & cr0::PG == 0;
        if !is_kept || view != ViewId::Supervisor || self.is_long() {
            return;
        }
        let next = Lin(lin.page().0.wrapping_add(0x1000));
        let is_other = page.shift > 12 && next.0 & ((1 << page.shift) - 1) == 0;
        if is_other
            || next.0 > u64::from(u32::MAX)
            || self.tlb.recall(next, page.rights, view).is_some()
        {
            return;
        }
        let phys = Phys(page.phys.page().0.wrapping_add(0x1000) & self.a20_mask);
        if matches!(self.map.lookup(phys), PageKind::Ram { .. }) {
            self.tlb.remember(next, Page { phys, ..page }, view);
            self.enter_tlb(next, phys, page.rights, view);
        }
    }

    /// Gives generated code what it may have of a page.
    pub(crate) fn enter_tlb(&mut self, lin: Lin, page: Phys, rights: u8, view: ViewId) {
        let PageKind::Ram { off, writable } = self.map.lookup(page) else { return };
        let Some(host) = self.ram.page_ptr(off) else { return };
        if self.watches_page(lin) {
            return;
        }
        if writable {
            self.ram.prepare(off);
        }
        let host = host.addr() as u64 & !0xFFF;
        self.tlb_fills[view as usize] += 1;
        if view != ViewId::User {
            self.state.usual_addend = self.tlb.usual_addend(host.wrapping_sub(lin.page().0));
        }
        if rights & right::R != 0 {
            self.tlb.enter_read(lin, host, view);
        }
        if rights & right::W != 0 && writable {
            match self.ram.code_lines(off) {
                0 => self.tlb.enter_write(lin, HostPage { at: host, number: off >> 12 }, view),
                _ => self.tlb.enter_code(lin, host, view),
            }
        }
    }

    /// Walks, checks rights, sets A and D.
    fn walk_checked(&mut self, lin: Lin, need: u8, view: ViewId) -> Result<Page, Fault> {
        let is_write = need & right::W != 0;
        let is_user = view == ViewId::User;
        let has_fetch_bit = self.has_nx() || self.state.cr4 & cr4::SMEP != 0;
        let code = (u32::from(is_write) * pf::WRITE)
            | (u32::from(is_user) * pf::USER)
            | (u32::from(need & right::X != 0 && has_fetch_bit) * pf::FETCH);
        let mut walk = Walk::new();
        self.walk(lin, &mut walk).map_err(|bits| Fault::pf(lin.0, code | bits))?;
        let mut rights = self.rights_of(&walk, view);
        if rights & need != need {
            return Err(Fault::pf(lin.0, code | pf::PRESENT));
        }
        for &(at, value) in &walk.upper[..walk.depth.min(3)] {
            self.set_entry_bits(at, value, entry::A);
        }
        let (at, value) = walk.leaf;
        let bits = if is_write { entry::A | entry::D } else { entry::A };
        self.set_entry_bits(at, value, bits);
        if !is_write && value & entry::D == 0 {
            rights &= !right::W;
        }
        let is_global = value & entry::G != 0 && self.state.cr4 & cr4::PGE != 0;
        Ok(Page { phys: Phys(walk.phys), rights, shift: walk.shift, is_global })
    }

    /// What a view may do with a page (SDM Vol. 3A, "Determination of Access Rights").
    const fn rights_of(&self, walk: &Walk, view: ViewId) -> u8 {
        let (cr0, cr4) = (self.state.cr0, self.state.cr4);
        let is_user_page = walk.rights & entry::US != 0;
        let is_rw = walk.rights & entry::RW != 0;
        let (read, write, fetch) = match view {
            ViewId::User => (is_user_page, is_user_page && is_rw, is_user_page),
            ViewId::Supervisor | ViewId::SupervisorAc | ViewId::Closed => {
                let is_barred =
                    is_user_page && cr4 & cr4::SMAP != 0 && view as u8 == ViewId::Supervisor as u8;
                let may_write = is_rw || cr0 & cr0::WP == 0;
                let may_fetch = !is_user_page || cr4 & cr4::SMEP == 0;
                (!is_barred, !is_barred && may_write, may_fetch)
            }
        };
        let fetch = fetch && !(walk.is_xd && self.has_nx());
        (read as u8 * right::R) | (write as u8 * right::W) | (fetch as u8 * right::X)
    }

    /// Does XD in paging-structure entries count?
    const fn has_nx(&self) -> bool {
        self.state.efer & efer::NXE != 0 && self.state.cr4 & cr4::PAE != 0
    }

    /// Walks, into `walk`, which is new.
    fn walk(&mut self, lin: Lin, walk: &mut Walk) -> Result<(), u32> {
        match (self.is_long(), self.state.cr4 & cr4::PAE != 0) {
            (true, _) => self.walk_four_level(lin, walk),
            (false, true) => self.walk_pae(lin, walk),
            (false, false) => self.walk_legacy(lin, walk),
        }
    }

    fn walk_legacy(&mut self, lin: Lin, walk: &mut Walk) -> Result<(), u32> {
        let pde_at = (self.state.cr3 & 0xFFFF_F000) | (lin.0 >> 22 << 2);
        let pde = self.entry_read(pde_at, Size::B4);
        if pde & entry::P == 0 {
            return Err(0);
        }
        walk.pass(pde_at, pde);
        if pde & entry::PS != 0 && self.state.cr4 & cr4::PSE != 0 {
            // Bits 13 to 21 are reserved, except those that PSE-36 makes address bits 32 and up.
            let extra = if self.caps.pse36 { self.caps.phys_bits.clamp(32, 40) - 32 } else { 0 };
            let high = (1 << extra) - 1;
            if pde & 0x003F_E000 & !(high << 13) != 0 {
                return Err(pf::PRESENT | pf::RESERVED);
            }
            walk.map((pde & 0xFFC0_0000) | (pde >> 13 & high) << 32, 22, lin);
            return Ok(());
        }
        walk.descend();
        let pte_at = (pde & 0xFFFF_F000) | (lin.0 >> 12 & 0x3FF) << 2;
        let pte = self.entry_read(pte_at, Size::B4);
        if pte & entry::P == 0 {
            return Err(0);
        }
        walk.pass(pte_at, pte);
        walk.map(pte & 0xFFFF_F000, 12, lin);
        Ok(())
    }

    fn walk_pae(&mut self, lin: Lin, walk: &mut Walk) -> Result<(), u32> {
        let pdpte = self.pdpte[(lin.0 >> 30 & 3) as usize];
        if pdpte & entry::P == 0 {
            return Err(0);
        }
        self.walk_directory(lin, pdpte, walk, entry::HIGH)
    }

    fn walk_four_level(&mut self, lin: Lin, walk: &mut Walk) -> Result<(), u32> {
        let pml4e = self.table_entry(self.state.cr3, lin.0 >> 39, walk, entry::PS)?;
        walk.descend();
        let refused = if self.caps.page_1g { 0 } else { entry::PS };
        let pdpte = self.table_entry(pml4e, lin.0 >> 30, walk, refused)?;
        if pdpte & entry::PS != 0 {
            if pdpte & entry::RESERVED_1G != 0 {
                return Err(pf::PRESENT | pf::RESERVED);
            }
            walk.map(pdpte & self.frame_mask() & !0x3FFF_FFFF, 30, lin);
            return Ok(());
        }
        walk.descend();
        self.walk_directory(lin, pdpte, walk, 0)
    }

    /// The two lowest levels of PAE and four-level paging.
    fn walk_directory(
        &mut self,
        lin: Lin,
        table: u64,
        walk: &mut Walk,
        reserved: u64,
    ) -> Result<(), u32> {
        let pde = self.table_entry(table, lin.0 >> 21, walk, reserved)?;
        if pde & entry::PS != 0 {
            if pde & entry::RESERVED_2M != 0 {
                return Err(pf::PRESENT | pf::RESERVED);
            }
            walk.map(pde & self.frame_mask() & !0x1F_FFFF, 21, lin);
            return Ok(());
        }
        walk.descend();
        let pte = self.table_entry(pde, lin.0 >> 12, walk, reserved)?;
        walk.map(pte & self.frame_mask(), 12, lin);
        Ok(())
    }

    /// Entry `index` of the table of 512 that `parent` names: present and without reserved bits.
    fn table_entry(
        &mut self,
        parent: u64,
        index: u64,
        walk: &mut Walk,
        reserved: u64,
    ) -> Result<u64, u32> {
        let at = (parent & self.frame_mask()) | (index & 0x1FF) << 3;
        let value = self.entry_read(at, Size::B8);
        if value & entry::P == 0 {
            return Err(0);
        }
        let xd = if self.has_nx() { 0 } else { entry::XD };
        if value & (reserved | xd | self.above_phys()) != 0 {
            return Err(pf::PRESENT | pf::RESERVED);
        }
        walk.pass(at, value);
        Ok(value)
    }

    /// Address bits of a table entry.
    pub(crate) const fn frame_mask(&self) -> u64 {
        ((1 << self.caps.phys_bits) - 1) & !0xFFF
    }

    /// Bits of a table entry between the physical address and bit 52.
    pub(crate) const fn above_phys(&self) -> u64 {
        0x000F_FFFF_FFFF_FFFF & !((1 << self.caps.phys_bits) - 1)
    }

    /// The four page-directory-pointer entries at `cr3`, as MOV to CR3 loads them.
    /// #GP(0) when a present one has a reserved bit set.
    pub(crate) fn read_pdptes(&mut self, cr3: u64) -> Result<[u64; 4], Fault> {
        let mut entries = [0; 4];
        let reserved = entry::RESERVED_PDPTE | entry::HIGH | entry::XD | self.above_phys();
        for (i, slot) in entries.iter_mut().enumerate() {
            *slot = self.entry_read((cr3 & 0xFFFF_FFE0) + 8 * i as u64, Size::B8);
            if *slot & entry::P != 0 && *slot & reserved != 0 {
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
        let lin = Lin(lin.0 & self.lin_mask());
        let page = match self.state.cr0 & cr0::PG != 0 {
            false => lin.page().0,
            true => {
                let mut walk = Walk::new();
                self.walk(lin, &mut walk).ok()?;
                walk.phys
            }
        };
        Some(Phys((page & self.a20_mask) | lin.page_offset()))
    }
}

const fn lin_page(lin: Lin) -> Phys {
    Phys(lin.0 & !0xFFF)
}
