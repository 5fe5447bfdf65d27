//! Linux bzImage, by its three entries.
//!
//! Source: Linux, Documentation/arch/x86/boot.rst ("The Real-Mode Kernel Header", "32-bit Boot Protocol",
//! "64-bit Boot Protocol") and zero-page.rst.

use super::kernel::{EntryMode, KernelError, Request, put32, u16_at, u32_at, u64_at};
use super::plan::{INFO_AT, LOW_AREA, MemoryMap, Plan, Start, identity_tables};

const SETUP_SECTS: usize = 0x1f1;
const VID_MODE: usize = 0x1fa;
const BOOT_FLAG: usize = 0x1fe;
const HEADER: usize = 0x202;
const VERSION: usize = 0x206;
const TYPE_OF_LOADER: usize = 0x210;
const LOADFLAGS: usize = 0x211;
const CODE32_START: usize = 0x214;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const HEAP_END_PTR: usize = 0x224;
const CMD_LINE_PTR: usize = 0x228;
const INITRD_ADDR_MAX: usize = 0x22c;
const KERNEL_ALIGNMENT: usize = 0x230;
const RELOCATABLE_KERNEL: usize = 0x234;
const XLOADFLAGS: usize = 0x236;
const CMDLINE_SIZE: usize = 0x238;
const PREF_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;
/// The header's end in the newest protocol.
const HEADER_END: usize = 0x268;

const LOADED_HIGH: u8 = 0x01;
const CAN_USE_HEAP: u8 = 0x80;
const XLF_KERNEL_64: u16 = 0x01;
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 0x02;
/// A loader without an assigned number.
const LOADER_UNDEFINED: u8 = 0xff;

/// Real-mode code, then its heap up to the stack's top; the protocol's example has these numbers.
const REAL_AT: u32 = 0x1_0000;
const HEAP_END: u16 = 0xe000;
const SETUP_MAX: usize = 0x8000;
const CMDLINE_AT: u32 = LOW_AREA.start;
const KERNEL_AT: u32 = 0x10_0000;
const TABLES_AT: u32 = 0x7_0000;
/// Where the 64-bit entry is, from the start of the protected-mode code.
const ENTRY_64: u32 = 0x200;

/// fw_cfg keys of QEMU's interface, by which other firmware loads kernels.
const KEY_KERNEL: [u16; 3] = [0x07, 0x08, 0x11];
const KEY_INITRD: [u16; 3] = [0x0a, 0x0b, 0x12];
const KEY_CMDLINE: [u16; 3] = [0x13, 0x14, 0x15];
const KEY_SETUP: [u16; 3] = [0x16, 0x17, 0x18];
/// A zero page, and page tables, for our own loader.
const KEY_ZERO_PAGE: u16 = 0x8100;
const KEY_TABLES: u16 = 0x8101;

/// Does the file begin like a kernel with a setup header?
pub(super) fn is_bzimage(file: &[u8]) -> bool {
    u16_at(file, BOOT_FLAG) == 0xaa55 && file.get(HEADER..HEADER + 4) == Some(b"HdrS")
}

/// What the header says.
struct Header {
    version: u16,
    setup_len: usize,
    cmdline_max: usize,
    initrd_max: u64,
    xloadflags: u16,
    init_size: u64,
    /// Where a relocatable kernel would like to be, and its alignment.
    preferred: Option<(u64, u64)>,
}

fn header(request: &Request<'_>) -> Result<Header, KernelError> {
    let file = &request.file;
    let version = u16_at(file, VERSION);
    if version < 0x0202 {
        return Err(request.bad(format!(
            "boot protocol {}.{:02} is too old, at least 2.02 is needed",
            version >> 8,
            version & 0xff
        )));
    }
    if file.get(LOADFLAGS).is_none_or(|flags| flags & LOADED_HIGH == 0) {
        return Err(request.bad("a zImage is not supported, only a bzImage"));
    }
    let sectors = match file.get(SETUP_SECTS).copied().unwrap_or(0) {
        0 => 4,
        n => usize::from(n),
    };
    let setup_len = (sectors + 1) * 512;
    if setup_len > SETUP_MAX {
        return Err(request.bad(format!("real-mode code of {setup_len} bytes is too long")));
    }
    if file.len() <= setup_len || file.len() < HEADER_END {
        return Err(request.bad("the file is truncated"));
    }
    let since = |at: u16| version >= at;
    let xloadflags = if since(0x020c) { u16_at(file, XLOADFLAGS) } else { 0 };
    let initrd_max = match since(0x0203) {
        _ if xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G != 0 => u64::from(u32::MAX),
        true => u64::from(u32_at(file, INITRD_ADDR_MAX)) + 1,
        false => 0x3800_0000,
    };
    let is_relocatable = since(0x020a) && file.get(RELOCATABLE_KERNEL).is_some_and(|&b| b != 0);
    let alignment = u64::from(u32_at(file, KERNEL_ALIGNMENT)).max(0x1000);
    Ok(Header {
        version,
        setup_len,
        cmdline_max: if since(0x0206) { u32_at(file, CMDLINE_SIZE) as usize } else { 255 },
        initrd_max,
        xloadflags,
        init_size: if since(0x020a) { u64::from(u32_at(file, INIT_SIZE)) } else { 0 },
        preferred: is_relocatable.then(|| (u64_at(file, PREF_ADDRESS), alignment)),
    })
}

/// The plan for a bzImage.
pub(super) fn plan(mut request: Request<'_>) -> Result<Plan, KernelError> {
    let header = header(&request)?;
    let cmdline = request.cmdline(header.cmdline_max)?;
    // The larger part stays where it is.
    let setup = request.file.drain(..header.setup_len).collect();
    let kernel = std::mem::replace(&mut request.file, setup);
    // Nothing of the code that is loaded may lie behind the file's end: syssize counts 16 bytes.
    let declared = u64::from(u32_at(&request.file, 0x1f4)) * 16;
    if header.version >= 0x0204 && declared > (kernel.len() as u64).next_multiple_of(16) {
        return Err(request.bad(format!(
            "the file is truncated: {} bytes of code, the header says {declared}",
            kernel.len()
        )));
    }
    let kernel_at = place_kernel(&request, &header, kernel.len() as u64)?;
    let kernel_end = u64::from(kernel_at) + (kernel.len() as u64).max(header.init_size);
    let initrd = request.initrd()?;
    let initrd_at = match initrd.len() {
        0 => 0,
        n => {
            request.place_high("the initrd", n, kernel_end.min(request.top()), header.initrd_max)?
        }
    };
    let initrd_len = initrd.len() as u32;

    let setup = &mut request.file;
    setup[TYPE_OF_LOADER] = LOADER_UNDEFINED;
    setup[LOADFLAGS] |= CAN_USE_HEAP;
    setup[HEAP_END_PTR..HEAP_END_PTR + 2].copy_from_slice(&(HEAP_END - 0x200).to_le_bytes());
    put32(setup, CODE32_START, kernel_at);
    put32(setup, RAMDISK_IMAGE, initrd_at);
    put32(setup, RAMDISK_SIZE, initrd_len);
    put32(setup, CMD_LINE_PTR, CMDLINE_AT);
    if let Some(mode) = video_mode(&request.config.append) {
        setup[VID_MODE..VID_MODE + 2].copy_from_slice(&mode.to_le_bytes());
    }

    let mut plan = Plan::new(start(&request, &header, kernel_at)?);
    let mut item = |keys: [u16; 3], bytes: Vec<u8>, at: u32| {
        plan.items.extend([(keys[0], at), (keys[1], bytes.len() as u32)].map(|(key, value)| {
            super::plan::Item { key, bytes: value.to_le_bytes().to_vec().into() }
        }));
        if !bytes.is_empty() {
            plan.load(keys[2], bytes, at);
        }
    };
    item(KEY_KERNEL, kernel, kernel_at);
    item(KEY_INITRD, initrd, initrd_at);
    item(KEY_CMDLINE, cmdline, CMDLINE_AT);
    if request.config.entry == EntryMode::Bits16 {
        item(KEY_SETUP, request.file, REAL_AT);
        return Ok(plan);
    }
    plan.load(KEY_ZERO_PAGE, zero_page(&request), INFO_AT);
    if let Start::Long { cr3, .. } = plan.start {
        plan.load(KEY_TABLES, identity_tables(cr3), cr3);
    }
    plan.memory_map = Some(MemoryMap {
        at: INFO_AT as u16 + 0x2d0,
        stride: 20,
        count_at: INFO_AT as u16 + 0x1e8,
        count_unit: 1,
    });
    Ok(plan)
}

/// Where the protected-mode code goes: 1 MiB for the real-mode entry, as ever; else where it would like to be.
fn place_kernel(request: &Request<'_>, header: &Header, len: u64) -> Result<u32, KernelError> {
    let len = len.max(header.init_size);
    let fits = |at: u64| at.checked_add(len).is_some_and(|end| end <= request.top());
    let mut at = u64::from(KERNEL_AT);
    if let Some((preferred, alignment)) = header.preferred
        && request.config.entry != EntryMode::Bits16
    {
        let near = at.next_multiple_of(alignment.min(1 << 30));
        at = if preferred >= at && fits(preferred) { preferred } else { near };
    }
    if !fits(at) {
        return Err(KernelError::Memory {
            what: "the kernel".to_owned(),
            needed: len,
            room: request.top().saturating_sub(at),
        });
    }
    Ok(at as u32)
}

fn start(request: &Request<'_>, header: &Header, kernel_at: u32) -> Result<Start, KernelError> {
    Ok(match request.config.entry {
        EntryMode::Bits16 => Start::Real { segment: (REAL_AT >> 4) as u16 },
        EntryMode::Bits32 => Start::Protected { entry: kernel_at, eax: 0, ebx: 0, esi: INFO_AT },
        EntryMode::Bits64 if header.xloadflags & XLF_KERNEL_64 == 0 => {
            return Err(request.bad("it has no 64-bit entry"));
        }
        EntryMode::Bits64 => {
            Start::Long { entry: kernel_at + ENTRY_64, rsi: INFO_AT, cr3: TABLES_AT }
        }
    })
}

/// `struct boot_params` for the entries that leave out the real-mode code. The loader adds the memory map.
fn zero_page(request: &Request<'_>) -> Vec<u8> {
    let setup = &request.file;
    let mut page = vec![0; 0x1000];
    // The jump at 0x200 says where the header ends.
    let end = (HEADER + usize::from(setup[0x201])).clamp(HEADER, 0x290).min(setup.len());
    page[SETUP_SECTS..end].copy_from_slice(&setup[SETUP_SECTS..end]);
    if request.has_vga {
        // screen_info: VGA text, mode 3, 80 by 25, characters 16 lines high.
        page[0x06] = 3;
        page[0x07] = 80;
        page[0x0e] = 25;
        page[0x0f] = 1;
        page[0x10] = 16;
    }
    page
}

/// The video mode that `vga=` on the command line asks the real-mode code for.
fn video_mode(append: &str) -> Option<u16> {
    let value =
        append.split_whitespace().filter_map(|word| word.strip_prefix("vga=")).next_back()?;
    Some(match value {
        "normal" => 0xffff,
        "ext" => 0xfffe,
        "ask" => 0xfffd,
        _ => match value.strip_prefix("0x") {
            Some(hex) => u16::from_str_radix(hex, 16).ok()?,
            None => value.parse().ok()?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::kernel::KernelConfig;
    use super::super::kernel::tests::plan_of;
    use super::*;

    /// Setup code of 5 sectors, then 1000 bytes of kernel.
    fn image() -> Vec<u8> {
        let mut file = vec![0; 5 * 512 + 1000];
        file[SETUP_SECTS] = 4;
        file[BOOT_FLAG..BOOT_FLAG + 2].copy_from_slice(&[0x55, 0xaa]);
        file[0x1f4] = 62;
        file[0x200..0x208].copy_from_slice(b"\xeb\x66HdrS\x0c\x02");
        file[LOADFLAGS] = LOADED_HIGH;
        put32(&mut file, INITRD_ADDR_MAX, 0x7fff_ffff);
        put32(&mut file, KERNEL_ALIGNMENT, 0x20_0000);
        file[RELOCATABLE_KERNEL] = 1;
        file[XLOADFLAGS] = 1;
        put32(&mut file, CMDLINE_SIZE, 2047);
        put32(&mut file, PREF_ADDRESS, 0x100_0000);
        put32(&mut file, INIT_SIZE, 0x10_0000);
        file
    }

    #[test]
    fn real_mode_header_is_filled_in() {
        let config = KernelConfig { append: "quiet vga=0x305".into(), ..KernelConfig::default() };
        let plan = plan_of(image(), &config, 64 << 20).unwrap();
        assert_eq!(plan.start, Start::Real { segment: 0x1000 });
        let setup = plan.items.iter().find(|item| item.key == 0x18).unwrap();
        assert_eq!(setup.bytes[TYPE_OF_LOADER..TYPE_OF_LOADER + 2], [0xff, 0x81]);
        assert_eq!(u16_at(&setup.bytes, VID_MODE), 0x305);
        assert_eq!(u32_at(&setup.bytes, CMD_LINE_PTR), 0x2_0000);
        let cmdline = plan.items.iter().find(|item| item.key == 0x15).unwrap();
        assert_eq!(&cmdline.bytes[..], b"quiet vga=0x305\0");
        let size = plan.items.iter().find(|item| item.key == 0x08).unwrap();
        assert_eq!(size.bytes[..], 1000u32.to_le_bytes());
    }

    #[test]
    fn other_entries() {
        let with = |entry| KernelConfig { entry, ..KernelConfig::default() };
        let plan = plan_of(image(), &with(EntryMode::Bits32), 64 << 20).unwrap();
        let expect = Start::Protected { entry: 0x100_0000, eax: 0, ebx: 0, esi: INFO_AT };
        assert_eq!(plan.start, expect);
        let plan = plan_of(image(), &with(EntryMode::Bits64), 8 << 20).unwrap();
        assert_eq!(plan.start, Start::Long { entry: 0x20_0200, rsi: INFO_AT, cr3: 0x7_0000 });
        assert_eq!(u32::from(plan.memory_map.unwrap().at), INFO_AT + 0x2d0);
        let mut file = image();
        file[XLOADFLAGS] = 0;
        let error = plan_of(file, &with(EntryMode::Bits64), 64 << 20).unwrap_err();
        assert_eq!(error.to_string(), "kernel : it has no 64-bit entry");
    }

    #[test]
    fn bad_files_are_told_apart() {
        let config = KernelConfig::default();
        let error = |change: &dyn Fn(&mut Vec<u8>), ram: u64| {
            let mut file = image();
            change(&mut file);
            plan_of(file, &config, ram).unwrap_err().to_string()
        };
        assert!(error(&|f| f.truncate(3000), 64 << 20).contains("truncated: 440 bytes"));
        assert!(error(&|f| f.truncate(2000), 64 << 20).ends_with("truncated"));
        assert!(error(&|f| f[VERSION] = 0, 64 << 20).contains("protocol 2.00 is too old"));
        assert!(error(&|f| f[LOADFLAGS] = 0, 64 << 20).contains("zImage"));
        assert!(error(&|f| f[SETUP_SECTS] = 200, 64 << 20).contains("too long"));
        assert!(error(&|_| {}, 2 << 20).contains("more by -m"));
        let long = KernelConfig { append: "x".repeat(3000), ..config.clone() };
        let error = plan_of(image(), &long, 64 << 20).unwrap_err().to_string();
        assert_eq!(
            error,
            "the kernel takes a command line of at most 2047 bytes, -append has 3000"
        );
    }

    #[test]
    fn no_header_makes_it_panic() {
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut file = image();
            for _ in 0..4 {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                file[0x1f1 + (seed >> 33) as usize % 0x80] = (seed >> 56) as u8;
            }
            file.truncate(0x1f0 + (seed >> 40) as usize % 4000);
            for entry in [EntryMode::Bits16, EntryMode::Bits32, EntryMode::Bits64] {
                let config = KernelConfig { entry, ..KernelConfig::default() };
                if let Ok(plan) = plan_of(file.clone(), &config, 64 << 20) {
                    plan.encode();
                }
            }
        }
    }
}
