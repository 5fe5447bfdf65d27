//! Which format an image is in, by its first bytes.

use super::Format;

/// Bytes that are looked at.
pub(super) const HEAD: usize = 512;

/// First bytes of other formats: where, what, name.
const FOREIGN: &[(usize, &[u8], &str)] = &[
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"conectix", "vhd"),
    (0, b"vhdxfile", "vhdx"),
    (0x40, b"\x7f\x10\xda\xbe", "vdi"),
    (0, b"QED\0", "qed"),
    (0, b"LUKS\xba\xbe", "luks"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
];

/// What the first bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looks {
    /// One of our formats; raw if nothing else.
    Like(Format),
    /// A format we cannot read.
    Foreign(&'static str),
}

/// Looks at the first bytes of an image.
pub(super) fn probe(head: &[u8]) -> Looks {
    // "QFI\xfb", then the version: 1 is the older format of the same name.
    if head.starts_with(b"QFI\xfb") {
        return match head.get(4..8) {
            Some([0, 0, 0, 1]) => Looks::Foreign("qcow"),
            _ => Looks::Like(Format::Qcow2),
        };
    }
    let found = FOREIGN
        .iter()
        .find(|(at, magic, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    found.map_or(Looks::Like(Format::Raw), |(_, _, name)| Looks::Foreign(name))
}
