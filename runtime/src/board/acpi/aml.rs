//! A small builder of AML, the byte code of ACPI's definition blocks: one function per term, with ASL's names.
//!
//! It builds what our own tables need. Names and arguments are ours, never the guest's or a file's. Source: ACPI
//! Specification 6.4, "ACPI Machine Language (AML) Specification" and "Resource Data Types for ACPI".

/// A term, or a list of them.
pub(super) type Aml = Vec<u8>;

/// Local variable 0.
pub(super) const LOCAL0: &[u8] = &[0x60];
/// Argument 0 of a method.
pub(super) const ARG0: &[u8] = &[0x68];

/// Joins terms.
pub(super) fn list<const N: usize>(terms: [Aml; N]) -> Aml {
    terms.concat()
}

/// An integer in its shortest form.
pub(super) fn int(value: u64) -> Aml {
    match value {
        0 | 1 => vec![value as u8],
        2..=0xff => vec![0x0a, value as u8],
        0x100..=0xffff => [&[0x0b][..], &(value as u16).to_le_bytes()].concat(),
        0x1_0000..=0xffff_ffff => [&[0x0c][..], &(value as u32).to_le_bytes()].concat(),
        _ => [&[0x0e][..], &value.to_le_bytes()].concat(),
    }
}

/// A string.
pub(super) fn string(text: &str) -> Aml {
    [&[0x0d], text.as_bytes(), &[0]].concat()
}

/// A compressed EISA identifier, as in `PNP0A03`: three letters, four hexadecimal digits.
pub(super) fn eisa_id(text: &str) -> Aml {
    let letter = |i: usize| u32::from(text.as_bytes()[i] - b'@') & 31;
    let product = u32::from_str_radix(&text[3..], 16).unwrap_or(0);
    let id = letter(0) << 26 | letter(1) << 21 | letter(2) << 16 | product;
    int(id.swap_bytes().into())
}

/// A name: `\_SB.PCI0`, `PRQ0`. Segments are padded to four characters.
pub(super) fn path(text: &str) -> Aml {
    let (root, rest) = match text.strip_prefix('\\') {
        Some(rest) => (&b"\\"[..], rest),
        None => (&b""[..], text),
    };
    let segments: Vec<&str> = rest.split('.').filter(|part| !part.is_empty()).collect();
    let mut out = root.to_vec();
    match segments.len() {
        0 => out.push(0),
        1 => {}
        2 => out.push(0x2e),
        n => out.extend([0x2f, n as u8]),
    }
    for segment in segments {
        out.extend(segment.bytes().chain(std::iter::repeat(b'_')).take(4));
    }
    out
}

/// The length field in front of `body`, which counts itself.
fn with_length(opcode: &[u8], body: &[u8]) -> Aml {
    let len = body.len();
    let mut out = opcode.to_vec();
    if len + 1 < 0x40 {
        out.push(len as u8 + 1);
    } else {
        let extra = (1..=3).find(|&n| len + 1 + n < 1 << (4 + 8 * n)).unwrap_or(3);
        let total = len + 1 + extra;
        out.push((extra as u8) << 6 | total as u8 & 15);
        out.extend((0..extra).map(|i| (total >> (4 + 8 * i)) as u8));
    }
    out.extend(body);
    out
}

/// `Name (name, value)`.
pub(super) fn name(name: &str, value: Aml) -> Aml {
    [vec![0x08], path(name), value].concat()
}

/// `Scope (name) { body }`.
pub(super) fn scope(name: &str, body: Aml) -> Aml {
    with_length(&[0x10], &[path(name), body].concat())
}

/// `Device (name) { body }`.
pub(super) fn device(name: &str, body: Aml) -> Aml {
    with_length(&[0x5b, 0x82], &[path(name), body].concat())
}

/// `Method (name, args, Serialized) { body }`.
pub(super) fn method(name: &str, args: u8, body: Aml) -> Aml {
    with_length(&[0x14], &[path(name), vec![args & 7 | 8], body].concat())
}

/// `Package { elements }`.
pub(super) fn package(elements: Vec<Aml>) -> Aml {
    with_length(&[0x12], &[vec![elements.len() as u8], elements.concat()].concat())
}

/// `OperationRegion (name, PCI_Config, offset, len)`.
pub(super) fn pci_config_region(name: &str, offset: u8, len: u8) -> Aml {
    const PCI_CONFIG: u8 = 2;
    let parts = [path(name), vec![PCI_CONFIG], int(offset.into()), int(len.into())];
    [vec![0x5b, 0x80], parts.concat()].concat()
}

/// `Field (region, ByteAcc, NoLock, Preserve)` of bytes with these names.
pub(super) fn byte_field(region: &str, names: &[String]) -> Aml {
    let fields: Vec<u8> = names.iter().flat_map(|name| [path(name), vec![8]].concat()).collect();
    with_length(&[0x5b, 0x81], &[path(region), vec![1], fields].concat())
}

/// `Return (value)`.
pub(super) fn ret(value: Aml) -> Aml {
    [vec![0xa4], value].concat()
}

/// `Store (value, target)`.
pub(super) fn store(value: Aml, target: Aml) -> Aml {
    [vec![0x70], value, target].concat()
}

/// `Or (a, b, target)`.
pub(super) fn or(a: Aml, b: Aml, target: Aml) -> Aml {
    [vec![0x7d], a, b, target].concat()
}

/// `And (a, b)`.
pub(super) fn and(a: Aml, b: Aml) -> Aml {
    [vec![0x7b], a, b, vec![0]].concat()
}

/// `LLess (a, b)`.
pub(super) fn less(a: Aml, b: Aml) -> Aml {
    [vec![0x95], a, b].concat()
}

/// `If (condition) { body }`.
pub(super) fn when(condition: Aml, body: Aml) -> Aml {
    with_length(&[0xa0], &[condition, body].concat())
}

/// `CreateDWordField (buffer, offset, name)`.
pub(super) fn dword_field(buffer: Aml, offset: u8, name: &str) -> Aml {
    [vec![0x8a], buffer, int(offset.into()), path(name)].concat()
}

/// `ResourceTemplate () { resources }`.
pub(super) fn resources<const N: usize>(parts: [Aml; N]) -> Aml {
    // The end tag's checksum may be left out as zero.
    let bytes = [parts.concat(), vec![0x79, 0]].concat();
    with_length(&[0x11], &[int(bytes.len() as u64), bytes].concat())
}

/// `IO (Decode16, base, base, 1, len)`.
pub(super) fn io(base: u16, len: u8) -> Aml {
    let [low, high] = base.to_le_bytes();
    vec![0x47, 1, low, high, low, high, 1, len]
}

/// `IRQNoFlags () { irq }`: edge, active high, exclusive.
pub(super) fn irq(irq: u8) -> Aml {
    let [low, high] = (1u16 << (irq & 15)).to_le_bytes();
    vec![0x22, low, high]
}

/// `DMA (Compatibility, NotBusMaster, Transfer8) { channel }`.
pub(super) fn dma(channel: u8) -> Aml {
    vec![0x2a, 1 << (channel & 7), 0]
}

/// `Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) { numbers }`.
pub(super) fn interrupt(numbers: &[u32]) -> Aml {
    let body = [vec![0x09, numbers.len() as u8], le32(numbers)].concat();
    [vec![0x89], (body.len() as u16).to_le_bytes().to_vec(), body].concat()
}

/// `Memory32Fixed (ReadOnly, base, len)`.
pub(super) fn memory32_fixed(base: u32, len: u32) -> Aml {
    [vec![0x86, 9, 0, 0], le32(&[base, len])].concat()
}

/// `WordBusNumber`, a range the bridge passes on.
pub(super) fn bus_range(first: u16, last: u16) -> Aml {
    word_range(2, 0, first, last)
}

/// `WordIO`, a range the bridge passes on.
pub(super) fn io_range(first: u16, last: u16) -> Aml {
    const ENTIRE_RANGE: u8 = 3;
    word_range(1, ENTIRE_RANGE, first, last)
}

fn word_range(kind: u8, type_flags: u8, first: u16, last: u16) -> Aml {
    let mut out = vec![0x88, 13, 0, kind, FIXED_PRODUCER, type_flags];
    let len = last.wrapping_sub(first).wrapping_add(1);
    out.extend([0, first, last, 0, len].iter().flat_map(|word| word.to_le_bytes()));
    out
}

/// Both ends fixed, positive decode, resource producer.
const FIXED_PRODUCER: u8 = 0x0c;

/// `DWordMemory (…, ReadWrite)`, a range the bridge passes on.
pub(super) fn memory_range(first: u32, last: u32, is_cacheable: bool) -> Aml {
    let type_flags = 1 | u8::from(is_cacheable) << 1;
    let len = last.wrapping_sub(first).wrapping_add(1);
    [vec![0x87, 23, 0, 0, FIXED_PRODUCER, type_flags], le32(&[0, first, last, 0, len])].concat()
}

fn le32(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_encode_as_the_specification_says() {
        assert_eq!(int(1), [1]);
        assert_eq!(int(0x1234), [0x0b, 0x34, 0x12]);
        assert_eq!(eisa_id("PNP0A03"), [0x0c, 0x41, 0xd0, 0x0a, 0x03]);
        assert_eq!(path("\\_SB.PCI0"), b"\\\x2e_SB_PCI0");
        assert_eq!(path("\\"), b"\\\0");
        assert_eq!(path("A.B.C"), b"\x2f\x03A___B___C___");
        assert_eq!(name("X", string("a")), b"\x08X___\x0da\0");
        assert_eq!(package(vec![int(0), int(5)]), [0x12, 5, 2, 0, 0x0a, 5]);
        assert_eq!(resources([irq(8)]), [0x11, 8, 0x0a, 5, 0x22, 0, 1, 0x79, 0]);
    }

    #[test]
    fn lengths_of_every_size() {
        assert_eq!(with_length(&[0x10], &[0; 62])[..2], [0x10, 63]);
        assert_eq!(with_length(&[0x10], &[0; 63])[..3], [0x10, 0x41, 4]);
        assert_eq!(with_length(&[0x10], &[0; 4093])[..3], [0x10, 0x4f, 0xff]);
        assert_eq!(with_length(&[0x10], &[0; 4094])[..4], [0x10, 0x81, 0x00, 1]);
    }
}
