//! SMBIOS tables, handed to firmware by fw_cfg: who made the machine, and what is in it.
//!
//! Firmware copies them, adds its own structure (type 0) unless there is one, and fixes address and checksums of
//! the entry point. Source: System Management BIOS Reference Specification (DSP0134) 2.8.

use super::memory::Layout;

const ANCHOR: &str = "etc/smbios/smbios-anchor";
const TABLES: &str = "etc/smbios/smbios-tables";
const NO_ERROR_INFORMATION: u16 = 0xfffe;
const NOT_THERE: u16 = 0xffff;
/// Memory array's handle, which the devices refer to.
const ARRAY: u16 = 0x1000;
/// The largest module; memory is told in modules of this size.
const MODULE_MAX: u64 = 16 << 30;

/// What `-smbios` changes: structure type, field name, value.
pub type SmbiosFields = Vec<(u8, String, String)>;

/// The fields that can be set, by structure type.
pub const SMBIOS_FIELDS: &[(u8, &[&str])] = &[
    (0, &["vendor", "version", "date"]),
    (1, &["manufacturer", "product", "version", "serial", "uuid", "sku", "family"]),
    (3, &["manufacturer", "version", "serial", "asset", "sku"]),
    (4, &["sock_pfx", "manufacturer", "version", "serial", "asset", "part"]),
    (11, &["value"]),
    (17, &["loc_pfx", "bank", "manufacturer", "serial", "asset", "part"]),
];

/// A UUID's 16 bytes in SMBIOS order (the first three groups little endian), from its text.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let groups: Vec<&str> = text.split('-').collect();
    if groups.iter().map(|group| group.len()).ne([8, 4, 4, 4, 12]) || !text.is_ascii() {
        return None;
    }
    let digits = groups.concat();
    let mut out = [0; 16];
    for (i, byte) in out.iter_mut().enumerate() {
        let pair = &digits[2 * i..2 * i + 2];
        *byte = u8::from_str_radix(pair, 16).ok().filter(|_| !pair.starts_with('+'))?;
    }
    out[..4].reverse();
    out[4..6].reverse();
    out[6..8].reverse();
    Some(out)
}

/// The files: names and bytes.
pub(super) fn files(layout: &Layout, fields: &SmbiosFields) -> [(&'static str, Vec<u8>); 2] {
    let mut set = Structures { fields, bytes: Vec::new(), count: 0, largest: 0 };
    set.bios();
    set.system();
    set.chassis();
    set.processor();
    set.oem_strings();
    set.memory(layout);
    set.add(32, 0x2000, &[0; 7], &[]);
    set.add(127, 0x7f00, &[], &[]);
    [(ANCHOR, set.entry_point()), (TABLES, set.bytes)]
}

struct Structures<'a> {
    fields: &'a SmbiosFields,
    bytes: Vec<u8>,
    count: u16,
    largest: usize,
}

impl Structures<'_> {
    fn add(&mut self, kind: u8, handle: u16, data: &[u8], strings: &[String]) {
        let start = self.bytes.len();
        self.bytes.extend([kind, 4 + data.len() as u8]);
        self.bytes.extend(handle.to_le_bytes());
        self.bytes.extend(data);
        for text in strings {
            self.bytes.extend(text.bytes().filter(|&byte| byte != 0).chain([0]));
        }
        // The set of strings ends with an empty one; an empty set is two zeros.
        self.bytes.extend(if strings.is_empty() { &[0, 0][..] } else { &[0] });
        self.count += 1;
        self.largest = self.largest.max(self.bytes.len() - start);
    }

    fn given(&self, kind: u8, name: &str) -> Option<String> {
        let found = self.fields.iter().rev().find(|(k, n, _)| *k == kind && n == name);
        found.map(|(_, _, value)| value.clone())
    }

    fn field(&self, kind: u8, name: &str, default: &str) -> String {
        self.given(kind, name).unwrap_or_else(|| default.to_owned())
    }

    /// BIOS information: firmware's own affair, unless the user wants to say it.
    fn bios(&mut self) {
        if !self.fields.iter().any(|(kind, ..)| *kind == 0) {
            return;
        }
        let strings = Strings::of([
            self.field(0, "vendor", ""),
            self.field(0, "version", ""),
            self.field(0, "date", ""),
        ]);
        let [vendor, version, date] = strings.numbers;
        let mut data = vec![vendor, version, 0x00, 0xe8, date, 0];
        // Characteristics: none are told. Then release numbers of BIOS and embedded controller: unknown.
        data.extend(0x08u64.to_le_bytes());
        data.extend([0, 0x04, 0xff, 0xff, 0xff, 0xff]);
        self.add(0, 0, &data, &strings.texts);
    }

    fn system(&mut self) {
        let strings = Strings::of([
            self.field(1, "manufacturer", "Stele"),
            self.field(1, "product", "PC (i440FX and PIIX)"),
            self.field(1, "version", env!("CARGO_PKG_VERSION")),
            self.field(1, "serial", ""),
            self.field(1, "sku", ""),
            self.field(1, "family", ""),
        ]);
        let uuid = self.given(1, "uuid").and_then(|text| parse_uuid(&text)).unwrap_or([0; 16]);
        let [manufacturer, product, version, serial, sku, family] = strings.numbers;
        let mut data = vec![manufacturer, product, version, serial];
        data.extend(uuid);
        // Woken by the power switch.
        data.extend([6, sku, family]);
        self.add(1, 0x100, &data, &strings.texts);
    }

    fn chassis(&mut self) {
        let strings = Strings::of([
            self.field(3, "manufacturer", "Stele"),
            self.field(3, "version", env!("CARGO_PKG_VERSION")),
            self.field(3, "serial", ""),
            self.field(3, "asset", ""),
            self.field(3, "sku", ""),
        ]);
        let [manufacturer, version, serial, asset, sku] = strings.numbers;
        // Type "other"; states safe, safe, safe; security unknown; nothing more is told.
        let data =
            [manufacturer, 1, version, serial, asset, 3, 3, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0, sku];
        self.add(3, 0x300, &data, &strings.texts);
    }

    fn processor(&mut self) {
        let strings = Strings::of([
            format!("{} 0", self.field(4, "sock_pfx", "CPU")),
            self.field(4, "manufacturer", "Stele"),
            self.field(4, "version", env!("CARGO_PKG_VERSION")),
            self.field(4, "serial", ""),
            self.field(4, "asset", ""),
            self.field(4, "part", ""),
        ]);
        let [socket, manufacturer, version, serial, asset, part] = strings.numbers;
        // A central processor of another family; CPUID says the rest.
        let mut data = vec![socket, 3, 1, manufacturer];
        data.extend([0; 8]);
        data.extend([version, 0]);
        // External clock, maximal and current speed: unknown. Enabled; upgrade "other"; no caches are told.
        data.extend([0, 0, 0, 0, 0, 0, 0x41, 1]);
        data.extend([NOT_THERE; 3].map(u16::to_le_bytes).concat());
        // One core, one thread; characteristics unknown.
        data.extend([serial, asset, part, 1, 1, 1, 0x02, 0, 1, 0]);
        self.add(4, 0x400, &data, &strings.texts);
    }

    fn oem_strings(&mut self) {
        let values = self.fields.iter().filter(|(kind, name, _)| *kind == 11 && name == "value");
        let texts: Vec<String> =
            values.map(|(.., value)| value.clone()).filter(|value| !value.is_empty()).collect();
        if !texts.is_empty() {
            self.add(11, 0xe00, &[texts.len().min(255) as u8], &texts[..texts.len().min(255)]);
        }
    }

    fn memory(&mut self, layout: &Layout) {
        let total = layout.low_ram + layout.high_ram;
        let modules = total.div_ceil(MODULE_MAX);
        // On the system board, system memory, multi-bit error correction; sizes in KiB.
        let mut data = vec![1, 3, 6];
        let kib = u32::try_from(total >> 10).ok().filter(|kib| kib >> 31 == 0);
        data.extend(kib.unwrap_or(0x8000_0000).to_le_bytes());
        data.extend(NO_ERROR_INFORMATION.to_le_bytes());
        data.extend((modules as u16).to_le_bytes());
        data.extend(if kib.is_some() { 0 } else { total }.to_le_bytes());
        self.add(16, ARRAY, &data, &[]);
        for i in 0..modules {
            self.module(i as u16, (total - i * MODULE_MAX).min(MODULE_MAX));
        }
        let ranges = [(0, layout.low_ram), (1 << 32, layout.high_ram)];
        for (i, (start, len)) in ranges.into_iter().enumerate().filter(|(_, (_, len))| *len > 0) {
            let (first, last) = (start, start + len - 1);
            // Addresses in KiB if they fit, else in bytes.
            let narrow = last >> 42 == 0;
            let kib = |at: u64| if narrow { (at >> 10) as u32 } else { u32::MAX };
            let mut data = [kib(first), kib(last)].map(u32::to_le_bytes).concat();
            data.extend(ARRAY.to_le_bytes());
            data.push(1);
            data.extend(if narrow { [0; 2] } else { [first, last] }.map(u64::to_le_bytes).concat());
            self.add(19, 0x1300 + i as u16, &data, &[]);
        }
    }

    fn module(&mut self, i: u16, bytes: u64) {
        let strings = Strings::of([
            format!("{} {i}", self.field(17, "loc_pfx", "DIMM")),
            self.field(17, "bank", ""),
            self.field(17, "manufacturer", "Stele"),
            self.field(17, "serial", ""),
            self.field(17, "asset", ""),
            self.field(17, "part", ""),
        ]);
        let [locator, bank, manufacturer, serial, asset, part] = strings.numbers;
        let mib = (bytes >> 20) as u16;
        let mut data =
            [ARRAY, NO_ERROR_INFORMATION, NOT_THERE, NOT_THERE, mib].map(u16::to_le_bytes).concat();
        // A DIMM in no set, RAM of another kind, speed unknown; then attributes, sizes, voltages: unknown.
        data.extend([9, 0, locator, bank, 7, 2, 0, 0, 0, manufacturer, serial, asset, part]);
        data.extend([0; 13]);
        self.add(17, 0x1100 + i, &data, &strings.texts);
    }

    /// The 31-byte entry point; firmware fills in the tables' address and both checksums.
    fn entry_point(&self) -> Vec<u8> {
        let mut out = b"_SM_\0\x1f\x02\x08".to_vec();
        out.extend((self.largest as u16).to_le_bytes());
        out.extend([0; 6]);
        out.extend(b"_DMI_\0");
        out.extend((self.bytes.len() as u16).to_le_bytes());
        out.extend([0; 4]);
        out.extend(self.count.to_le_bytes());
        out.push(0x28);
        let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        out[0x15] = sum(&out[0x10..]).wrapping_neg();
        out[4] = sum(&out).wrapping_neg();
        out
    }
}

/// Texts of a structure, and the numbers by which it refers to them; an empty one has number 0.
struct Strings<const N: usize> {
    texts: Vec<String>,
    numbers: [u8; N],
}

impl<const N: usize> Strings<N> {
    fn of(all: [String; N]) -> Self {
        let mut texts = Vec::new();
        let numbers = all.map(|text| {
            if text.is_empty() {
                return 0;
            }
            texts.push(text);
            texts.len() as u8
        });
        Self { texts, numbers }
    }
}

#[cfg(test)]
mod tests {
    use super::super::BoardConfig;
    use super::*;

    fn structures(ram_bytes: u64, fields: &SmbiosFields) -> (Vec<u8>, Vec<(u8, Vec<u8>)>) {
        let config =
            BoardConfig { ram_bytes, firmware: vec![0; 0x1_0000], ..BoardConfig::default() };
        let [(_, anchor), (_, tables)] = files(&Layout::new(&config).unwrap(), fields);
        let mut out = Vec::new();
        let mut rest = &tables[..];
        while !rest.is_empty() {
            let len = usize::from(rest[1]);
            let end = len + rest[len..].windows(2).position(|pair| pair == [0, 0]).unwrap() + 2;
            out.push((rest[0], rest[..end].to_vec()));
            rest = &rest[end..];
        }
        (anchor, out)
    }

    #[test]
    fn structures_have_the_lengths_of_2_8() {
        let (anchor, all) = structures(5 << 30, &Vec::new());
        let lengths: Vec<(u8, u8)> = all.iter().map(|(kind, bytes)| (*kind, bytes[1])).collect();
        let expect = [
            (1, 0x1b),
            (3, 0x16),
            (4, 0x2a),
            (16, 0x17),
            (17, 0x28),
            (19, 0x1f),
            (19, 0x1f),
            (32, 0x0b),
            (127, 4),
        ];
        assert_eq!(lengths, expect);
        assert_eq!(anchor.len(), 0x1f);
        assert_eq!(anchor.iter().fold(0u8, |a, b| a.wrapping_add(*b)), 0);
        assert_eq!(u16::from_le_bytes([anchor[28], anchor[29]]), 9);
        // 5 GiB: the second range is from 4 GiB to 6 GiB, in KiB.
        assert_eq!(all[6].1[4..12], [0, 0, 0x40, 0, 0xff, 0xff, 0x5f, 0]);
    }

    #[test]
    fn fields_are_put_in() {
        let field = |kind, name: &str, value: &str| (kind, name.to_owned(), value.to_owned());
        let uuid = "00112233-4455-6677-8899-aabbccddeeff";
        let fields = vec![
            field(0, "vendor", "Acme"),
            field(1, "serial", "42"),
            field(1, "uuid", uuid),
            field(11, "value", "hello"),
        ];
        let (_, all) = structures(64 << 20, &fields);
        assert_eq!(all[0].0, 0);
        assert!(all[0].1.ends_with(b"Acme\0\0"));
        assert_eq!(all[1].1[8..16], [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66]);
        assert!(all.iter().any(|(kind, bytes)| *kind == 11 && bytes.ends_with(b"hello\0\0")));
        assert!(parse_uuid("x").is_none() && parse_uuid(&uuid.replace('f', "g")).is_none());
    }
}
