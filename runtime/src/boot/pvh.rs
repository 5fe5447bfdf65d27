//! ELF kernels that say where they take over without a boot loader: the x86/HVM direct boot ABI ("PVH").
//!
//! Source: Xen, docs/misc/pvh.pandoc, and public/arch-x86/hvm/start_info.h for the layout.

use super::elf::Elf;
use super::kernel::{CMDLINE_MAX, KernelError, Request, put32, u32_at};
use super::plan::{INFO_AT, KERNEL_LOW, LOW_AREA, MEMORY_MAP_AT, MemoryMap, Plan, Start};

const NOTE_OWNER: &[u8] = b"Xen\0";
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
const START_MAGIC: u32 = 0x336e_c578;
/// Fields of `hvm_start_info`.
const NR_MODULES: usize = 12;
const MODLIST_PADDR: usize = 16;
const CMDLINE_PADDR: usize = 24;
const RSDP_PADDR: u32 = 32;
const MEMMAP_PADDR: usize = 40;
const MEMMAP_ENTRIES: u32 = 48;
const MODLIST: u32 = 0x80;
/// Bytes of an `hvm_memmap_table_entry`.
const ENTRY_LEN: u16 = 24;

const CMDLINE_AT: u32 = LOW_AREA.start;
const KEY_FILE: u16 = 0x11;
const KEY_INITRD: u16 = 0x12;
const KEY_CMDLINE: u16 = 0x15;
const KEY_INFO: u16 = 0x8100;

/// The plan for an ELF kernel with a PVH entry.
pub(super) fn plan(request: &Request<'_>) -> Result<Plan, KernelError> {
    let elf = Elf::parse(&request.file).map_err(|what| request.bad(what))?;
    let note = elf.note(&request.file, NOTE_OWNER, XEN_ELFNOTE_PHYS32_ENTRY);
    let Some(note) = note.filter(|note| note.len() >= 4) else {
        return Err(request.bad("the ELF file has no PVH entry note and no multiboot header"));
    };
    let entry = u32_at(note, 0);
    let mut plan = Plan::new(Start::Protected { entry, eax: 0, ebx: INFO_AT, esi: 0 });
    load_segments(request, &elf, &mut plan)?;

    let initrd = request.initrd()?;
    let mut info = vec![0; 0x1000];
    put32(&mut info, 0, START_MAGIC);
    put32(&mut info, 4, 1);
    put32(&mut info, CMDLINE_PADDR, CMDLINE_AT);
    put32(&mut info, MEMMAP_PADDR, MEMORY_MAP_AT);
    if !initrd.is_empty() {
        let floor = elf.extent().1.max(1 << 20);
        let at = request.place_high("the initrd", initrd.len(), floor, 1 << 32)?;
        put32(&mut info, NR_MODULES, 1);
        put32(&mut info, MODLIST_PADDR, INFO_AT + MODLIST);
        put32(&mut info, MODLIST as usize, at);
        put32(&mut info, MODLIST as usize + 8, initrd.len() as u32);
        plan.load(KEY_INITRD, initrd, at);
    }
    plan.load(KEY_CMDLINE, request.cmdline(CMDLINE_MAX)?, CMDLINE_AT);
    plan.load(KEY_INFO, info, INFO_AT);
    plan.clear(MEMORY_MAP_AT, 0x1000);
    plan.rsdp_at = Some((INFO_AT + RSDP_PADDR) as u16);
    plan.memory_map = Some(MemoryMap {
        at: MEMORY_MAP_AT as u16,
        stride: ENTRY_LEN,
        count_at: (INFO_AT + MEMMAP_ENTRIES) as u16,
        count_unit: 1,
    });
    Ok(plan)
}

/// Loads an ELF file's segments to their physical addresses.
pub(super) fn load_segments(
    request: &Request<'_>,
    elf: &Elf,
    plan: &mut Plan,
) -> Result<(), KernelError> {
    for segment in &elf.segments {
        check_place(request, segment.physical, segment.memory_len)?;
    }
    plan.items.push(super::plan::Item { key: KEY_FILE, bytes: request.file.clone().into() });
    for segment in &elf.segments {
        let at = segment.physical as u32;
        if segment.file_len > 0 {
            plan.load_part(KEY_FILE, segment.offset, segment.file_len, at);
        }
        let rest = segment.memory_len as u32 - segment.file_len;
        plan.clear(at.wrapping_add(segment.file_len), rest);
    }
    Ok(())
}

/// May a kernel be loaded there? Above 1 MiB below firmware's tables, or in conventional memory that the
/// loader leaves alone.
pub(super) fn check_place(request: &Request<'_>, at: u64, len: u64) -> Result<(), KernelError> {
    let end = at.saturating_add(len);
    if at >= 1 << 20 && end > request.top() {
        return Err(KernelError::Memory {
            what: "the kernel".to_owned(),
            needed: end,
            room: request.top(),
        });
    }
    let is_low = at >= u64::from(KERNEL_LOW.start) && end <= u64::from(KERNEL_LOW.end);
    if at < 1 << 20 && !is_low {
        return Err(request.bad(format!(
            "it wants to be at {at:#x}, where firmware or the loader is (from 0x100000 is free)"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::elf::tests::elf32;
    use super::super::kernel::KernelConfig;
    use super::super::kernel::tests::plan_of;
    use super::*;

    #[test]
    fn the_note_is_the_entry() {
        let note = b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\x10\x00\x10\0";
        let file = elf32(0x10_0000, &[0x90; 40], note);
        let config = KernelConfig::default();
        let plan = plan_of(file.clone(), &config, 64 << 20).unwrap();
        let start = Start::Protected { entry: 0x10_0010, eax: 0, ebx: INFO_AT, esi: 0 };
        assert_eq!(plan.start, start);
        assert!(plan.encode().is_some());
        let low = elf32(0x7000, &[0x90; 40], note);
        let text = plan_of(low, &config, 64 << 20).unwrap_err().to_string();
        assert!(text.contains("0x7000"), "{text}");
        let straddles = elf32(KERNEL_LOW.end - 8, &[0x90; 40], note);
        assert!(plan_of(straddles, &config, 64 << 20).is_err());
        let high = elf32(0x800_0000, &[0x90; 40], note);
        let text = plan_of(high, &config, 64 << 20).unwrap_err().to_string();
        assert!(text.contains("more by -m"), "{text}");
        let plain = elf32(0x10_0000, &[0x90; 40], &[]);
        let text = plan_of(plain, &config, 64 << 20).unwrap_err().to_string();
        assert!(text.contains("no PVH entry note"), "{text}");
    }
}
