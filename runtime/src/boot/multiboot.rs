//! Multiboot 1 kernels and their modules.
//!
//! Source: Multiboot Specification 0.6.96, "OS image format" and "Boot information format".

use std::path::Path;

use super::elf::Elf;
use super::kernel::{CMDLINE_MAX, KernelError, Request, put32, read, u32_at};
use super::plan::{
    INFO_AT, Item, LOW_AREA, MEMORY_MAP_AT, MEMORY_MAP_ENTRIES, MemoryMap, Plan, Start,
};
use super::pvh;

const HEADER_MAGIC: u32 = 0x1bad_b002;
const LOADER_MAGIC: u32 = 0x2bad_b002;
/// The header lies in the file's first 8 KiB, on 4 bytes.
const SEARCH: usize = 8192;

/// Header flags.
const WANTS_VIDEO: u32 = 1 << 2;
const REQUIRED: u32 = 0xffff;
const KNOWN: u32 = 7;
const HAS_ADDRESSES: u32 = 1 << 16;

/// Information flags: memory sizes, command line, modules, memory map, loader's name.
const INFO_FLAGS: u32 = 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;
/// Bytes of the information structure; the module list follows it.
const INFO_LEN: usize = 128;
const MODULE_LEN: usize = 16;
const MODULES_MAX: usize = 64;
/// A memory map entry: its size without this field, then 20 bytes.
const ENTRY_LEN: u16 = 24;

const STRINGS_AT: u32 = LOW_AREA.start;
const KEY_FILE: u16 = 0x11;
const KEY_INFO: u16 = 0x8100;
const KEY_MAP: u16 = 0x8101;
const KEY_STRINGS: u16 = 0x8102;
const KEY_MODULES: u16 = 0x8110;

/// Where the header is in the file, if there is one.
pub(super) fn find(file: &[u8]) -> Option<usize> {
    let head = &file[..file.len().min(SEARCH)];
    (0..head.len().saturating_sub(11)).step_by(4).find(|&at| {
        let [magic, flags, checksum] = [0, 4, 8].map(|i| u32_at(head, at + i));
        magic == HEADER_MAGIC && magic.wrapping_add(flags).wrapping_add(checksum) == 0
    })
}

/// The plan for a multiboot kernel whose header is at `header`.
pub(super) fn plan(request: &Request<'_>, header: usize) -> Result<Plan, KernelError> {
    let flags = u32_at(&request.file, header + 4);
    if flags & REQUIRED & !KNOWN != 0 {
        let unknown = flags & REQUIRED & !KNOWN;
        return Err(request.bad(format!("multiboot features {unknown:#x} are not known")));
    }
    if flags & WANTS_VIDEO != 0 {
        log::warn!("the multiboot kernel asks for a video mode and gets text");
    }
    let mut plan =
        Plan::new(Start::Protected { entry: 0, eax: LOADER_MAGIC, ebx: INFO_AT, esi: 0 });
    let (entry, end) = match flags & HAS_ADDRESSES {
        0 => load_elf(request, &mut plan)?,
        _ => load_flat(request, header, &mut plan)?,
    };
    plan.start = Start::Protected { entry, eax: LOADER_MAGIC, ebx: INFO_AT, esi: 0 };
    information(request, &mut plan, end)?;
    Ok(plan)
}

/// Loads an ELF kernel; gives entry and end.
fn load_elf(request: &Request<'_>, plan: &mut Plan) -> Result<(u32, u64), KernelError> {
    let elf = Elf::parse(&request.file).map_err(|what| request.bad(what))?;
    if elf.is_64 {
        return Err(request.bad("a 64-bit ELF file, multiboot starts 32-bit ones only"));
    }
    // The entry is a linear address; before paging it is where its segment was loaded.
    let home =
        elf.segments.iter().find(|s| (s.linear..s.linear + s.memory_len).contains(&elf.entry));
    let entry = match home {
        Some(s) if (s.physical..s.physical + s.memory_len).contains(&elf.entry) => elf.entry,
        Some(s) => elf.entry - s.linear + s.physical,
        None => elf.entry,
    };
    pvh::load_segments(request, &elf, plan)?;
    Ok((entry as u32, elf.extent().1))
}

/// Loads by the addresses in the header; gives entry and end.
fn load_flat(
    request: &Request<'_>,
    header: usize,
    plan: &mut Plan,
) -> Result<(u32, u64), KernelError> {
    let file_len = request.file.len() as u64;
    let field = |i: usize| u64::from(u32_at(&request.file, header + 12 + 4 * i));
    let [header_at, load_at, load_end, bss_end, entry] = [0, 1, 2, 3, 4].map(field);
    let before = header_at.checked_sub(load_at).filter(|&n| n <= header as u64);
    let Some(before) = before.filter(|_| request.file.len() >= header + 32) else {
        return Err(request.bad("the multiboot header's addresses contradict each other"));
    };
    let offset = header as u64 - before;
    let len = match load_end {
        0 => file_len - offset,
        end => end.saturating_sub(load_at),
    };
    if len == 0 || offset + len > file_len {
        return Err(request.bad("the file is truncated: the multiboot header wants more of it"));
    }
    let end = (load_at + len).max(bss_end);
    pvh::check_place(request, load_at, end - load_at)?;
    plan.items.push(Item { key: KEY_FILE, bytes: request.file.clone().into() });
    plan.load_part(KEY_FILE, offset as u32, len as u32, load_at as u32);
    plan.clear((load_at + len) as u32, (end - load_at - len) as u32);
    Ok((entry as u32, end))
}

/// Modules, strings and the information structure.
fn information(request: &Request<'_>, plan: &mut Plan, end: u64) -> Result<(), KernelError> {
    let config = request.config;
    let modules = config.initrd.as_deref().map(split_modules).unwrap_or_default();
    if modules.len() > MODULES_MAX {
        return Err(request.bad(format!("at most {MODULES_MAX} multiboot modules")));
    }
    let mut strings = Vec::new();
    let mut string = |text: &str| {
        let at = STRINGS_AT + strings.len() as u32;
        strings.extend(text.bytes().chain([0]));
        at
    };
    let mut info = vec![0; INFO_LEN + MODULE_LEN * modules.len()];
    put32(&mut info, 0, INFO_FLAGS);
    put32(&mut info, 4, 639);
    put32(&mut info, 8, (request.top().saturating_sub(1 << 20) >> 10) as u32);
    put32(&mut info, 16, string(&format!("{} {}", config.kernel.display(), config.append)));
    put32(&mut info, 20, modules.len() as u32);
    put32(&mut info, 24, INFO_AT + INFO_LEN as u32);
    put32(&mut info, 48, MEMORY_MAP_AT);
    put32(&mut info, 64, string("stele"));
    let mut at = end.max(1 << 20).next_multiple_of(0x1000);
    for (i, module) in modules.iter().enumerate() {
        let path = module.split(' ').next().unwrap_or_default();
        let bytes = read("module", Path::new(path))?;
        let len = bytes.len() as u64;
        if at + len > request.top() {
            let room = request.top().saturating_sub(at);
            return Err(KernelError::Memory { what: format!("module {path}"), needed: len, room });
        }
        let entry = INFO_LEN + MODULE_LEN * i;
        put32(&mut info, entry, at as u32);
        put32(&mut info, entry + 4, (at + len) as u32);
        put32(&mut info, entry + 8, string(module));
        if len > 0 {
            plan.load(KEY_MODULES + i as u16, bytes, at as u32);
        }
        at = (at + len).next_multiple_of(0x1000);
    }
    if strings.len() > CMDLINE_MAX {
        return Err(KernelError::CommandLine { len: strings.len(), max: CMDLINE_MAX });
    }
    plan.load(KEY_STRINGS, strings, STRINGS_AT);
    plan.load(KEY_INFO, info, INFO_AT);
    let size = (u32::from(ENTRY_LEN) - 4).to_le_bytes();
    let entry: Vec<u8> = size.into_iter().chain([0; 20]).collect();
    plan.load(KEY_MAP, entry.repeat(MEMORY_MAP_ENTRIES as usize), MEMORY_MAP_AT);
    plan.memory_map = Some(MemoryMap {
        at: MEMORY_MAP_AT as u16 + 4,
        stride: ENTRY_LEN,
        count_at: INFO_AT as u16 + 44,
        count_unit: ENTRY_LEN,
    });
    Ok(())
}

/// `file arguments,file arguments`; `,,` stands for a comma.
fn split_modules(text: &str) -> Vec<String> {
    let marked = text.replace(",,", "\0");
    marked.split(',').map(|part| part.replace('\0', ",")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::elf::tests::elf32;
    use super::super::kernel::KernelConfig;
    use super::super::kernel::tests::plan_of;
    use super::*;

    fn header(flags: u32, addresses: &[u32]) -> Vec<u8> {
        let sum = 0u32.wrapping_sub(HEADER_MAGIC).wrapping_sub(flags);
        let words = [HEADER_MAGIC, flags, sum].into_iter().chain(addresses.iter().copied());
        words.flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn flat_images() {
        let config = KernelConfig { append: "a b".into(), ..KernelConfig::default() };
        let mut file = vec![0; 64];
        file.extend(header(0x1_0003, &[0x10_0040, 0x10_0000, 0x10_0080, 0x10_1000, 0x10_0070]));
        file.resize(300, 0x90);
        assert_eq!(find(&file), Some(64));
        let plan = plan_of(file.clone(), &config, 64 << 20).unwrap();
        let start = Start::Protected { entry: 0x10_0070, eax: LOADER_MAGIC, ebx: INFO_AT, esi: 0 };
        assert_eq!(plan.start, start);
        let strings = plan.items.iter().find(|item| item.key == KEY_STRINGS).unwrap();
        assert_eq!(&strings.bytes[..], b" a b\0stele\0");
        file.truncate(120);
        assert!(plan_of(file, &config, 64 << 20).unwrap_err().to_string().contains("truncated"));
        let odd = header(0x1_0003, &[0x10_0000, 0x10_0040, 0, 0, 0]);
        assert!(plan_of(odd, &config, 64 << 20).unwrap_err().to_string().contains("contradict"));
        let new = header(8, &[]);
        assert!(plan_of(new, &config, 64 << 20).unwrap_err().to_string().contains("0x8"));
    }

    #[test]
    fn elf_images_and_modules() {
        let config = KernelConfig {
            initrd: Some("/dev/null one two,/dev/null".into()),
            ..KernelConfig::default()
        };
        let file = elf32(0x10_0000, &header(3, &[]), &[]);
        let plan = plan_of(file, &config, 64 << 20).unwrap();
        let info = plan.items.iter().find(|item| item.key == KEY_INFO).unwrap();
        assert_eq!(u32_at(&info.bytes, 20), 2);
        assert_eq!(u32_at(&info.bytes, INFO_LEN), 0x10_1000);
        let missing =
            KernelConfig { initrd: Some("/no/such module".into()), ..KernelConfig::default() };
        let file = elf32(0x10_0000, &header(3, &[]), &[]);
        let text = plan_of(file, &missing, 64 << 20).unwrap_err().to_string();
        assert_eq!(text, "cannot read module /no/such");
        assert_eq!(split_modules("a,,b c,d"), ["a,b c", "d"]);
    }

    /// Kernels for real mode lie in conventional memory (kvm-unit-tests' `realmode.flat`: from 32 KiB).
    #[test]
    fn conventional_memory_is_free_from_32_kib() {
        let config = KernelConfig::default();
        let code = [header(0, &[]), vec![0x90; 0xa000]].concat();
        let plan = plan_of(elf32(0x8000, &code, &[]), &config, 64 << 20).unwrap();
        assert!(matches!(plan.start, Start::Protected { entry: 0x8000.., .. }), "{:?}", plan.start);
        assert!(MEMORY_MAP_AT + u32::from(ENTRY_LEN) * MEMORY_MAP_ENTRIES < 0x8000 - 0x1000);
        assert!(INFO_AT as usize + INFO_LEN + MODULE_LEN * MODULES_MAX <= MEMORY_MAP_AT as usize);
        assert!(plan_of(elf32(0x7ff0, &code, &[]), &config, 64 << 20).is_err());
    }

    #[test]
    fn no_header_makes_it_panic() {
        let config = KernelConfig::default();
        let mut seed = 3u64;
        let mut next = || {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (seed >> 32) as u32
        };
        for _ in 0..20_000 {
            let edge = |n: u32| if n & 1 == 0 { n % 0x20_0000 } else { n };
            let addresses = [(); 5].map(|()| edge(next()));
            let mut file = header(0x1_0000, &addresses);
            file.resize(32 + next() as usize % 64, 0);
            if let Ok(plan) = plan_of(file, &config, 64 << 20) {
                plan.encode();
            }
        }
    }
}
