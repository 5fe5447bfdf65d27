//! One drive: its task file, what it remembers between commands, and IDENTIFY (PACKET) DEVICE.

use super::atapi::CdState;
use crate::block::{BlockDev, SECTOR};
use crate::state::{StateError, ensure};
use crate::state_fields;

/// Most sectors per interrupt of the MULTIPLE commands.
pub(super) const MAX_MULTIPLE: u8 = 16;

/// Sectors an LBA28 command can reach.
const LBA28_LIMIT: u64 = 1 << 28;

// Status register.
pub(super) const BSY: u8 = 0x80;
pub(super) const DRDY: u8 = 0x40;
pub(super) const DSC: u8 = 0x10;
pub(super) const DRQ: u8 = 0x08;
pub(super) const ERR: u8 = 0x01;
// Error register.
pub(super) const UNC: u8 = 0x40;
pub(super) const IDNF: u8 = 0x10;
pub(super) const ABRT: u8 = 0x04;
/// "Device 0 passed, device 1 passed or not present" after a diagnostic.
const DIAGNOSTIC_OK: u8 = 0x01;
/// Device register: the bits that always read one, device select, and LBA addressing.
const DEVICE_ONES: u8 = 0xa0;
pub(super) const DEVICE_SELECT: u8 = 0x10;
const DEVICE_LBA: u8 = 0x40;

/// The command block registers of one drive. Count and address are two deep: the last value and
/// the one before it (`hob`), as the 48-bit commands want.
#[derive(Debug, Default)]
pub(super) struct TaskFile {
    pub(super) feature: u8,
    pub(super) error: u8,
    pub(super) count: u8,
    pub(super) lba: [u8; 3],
    pub(super) device: u8,
    pub(super) status: u8,
    pub(super) hob_feature: u8,
    pub(super) hob_count: u8,
    pub(super) hob_lba: [u8; 3],
}

state_fields!(
    TaskFile,
    1,
    [feature, error, count, lba, device, status, hob_feature, hob_count, hob_lba,]
);

impl TaskFile {
    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }

    /// Writes register 1–6, keeping the previous value one level down.
    pub(super) fn write(&mut self, register: u16, value: u8) {
        match register {
            1 => {
                self.hob_feature = self.feature;
                self.feature = value;
            }
            2 => {
                self.hob_count = self.count;
                self.count = value;
            }
            3..=5 => {
                let i = usize::from(register - 3);
                self.hob_lba[i] = self.lba[i];
                self.lba[i] = value;
            }
            _ => self.device = value | DEVICE_ONES,
        }
    }
}

/// A drive's place on a channel, and the drive if there is one.
pub struct Drive {
    /// The disk, or the medium of a CD drive.
    disk: Option<Box<dyn BlockDev>>,
    is_cd: bool,
    pub(super) cd: CdState,
    serial: String,
    pub(super) regs: TaskFile,
    pub(super) multiple: u8,
    pub(super) write_cache: bool,
    /// Transfer mode as SET FEATURES gave it: type in the high bits, mode in the low three.
    pub(super) transfer_mode: u8,
    /// Translation set by INITIALIZE DEVICE PARAMETERS.
    pub(super) heads: u8,
    pub(super) sectors_per_track: u8,
}

state_fields!(Drive, 2, [regs, cd, multiple, write_cache, transfer_mode, heads, sectors_per_track]);

impl Drive {
    /// A drive with `disk` behind it; the serial number is what IDENTIFY shows.
    pub fn new(disk: Box<dyn BlockDev>, serial: &str) -> Self {
        Self::build(Some(disk), false, serial)
    }

    /// A CD drive with this medium in it, or none.
    pub fn cd(medium: Option<Box<dyn BlockDev>>, serial: &str) -> Self {
        Self::build(medium, true, serial)
    }

    /// An empty place.
    pub fn absent() -> Self {
        Self::build(None, false, "")
    }

    fn build(disk: Option<Box<dyn BlockDev>>, is_cd: bool, serial: &str) -> Self {
        let mut drive = Self {
            disk,
            is_cd,
            cd: CdState::default(),
            serial: serial.to_owned(),
            regs: TaskFile::default(),
            multiple: 0,
            write_cache: true,
            transfer_mode: 0,
            heads: 16,
            sectors_per_track: 63,
        };
        drive.reset();
        drive
    }

    /// Power-on or hardware reset.
    pub fn reset(&mut self) {
        self.cd.reset();
        self.multiple = 0;
        self.write_cache = true;
        self.transfer_mode = 0;
        self.heads = 16;
        self.sectors_per_track = 63;
        self.set_signature();
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        ensure(self.multiple <= MAX_MULTIPLE, "sectors per interrupt")?;
        ensure(self.heads > 0 && self.sectors_per_track > 0, "drive geometry")
    }

    /// Is there a drive?
    pub fn is_present(&self) -> bool {
        self.is_cd || self.disk.is_some()
    }

    /// Is it a CD drive?
    pub fn is_cd(&self) -> bool {
        self.is_cd
    }

    /// Takes the medium out of a CD drive. A guest that has locked the drive is asked to let go of it, unless
    /// `force`; false if it still has it.
    pub fn eject(&mut self, force: bool) -> bool {
        if self.cd.is_locked() && !self.cd.is_tray_open() && !force {
            self.cd.request_eject();
            return false;
        }
        self.change(None);
        true
    }

    /// Puts another medium, or none, into a CD drive.
    pub fn change(&mut self, medium: Option<Box<dyn BlockDev>>) {
        self.cd.changed(medium.is_some());
        self.disk = medium;
    }

    pub(super) fn cd_parts(&mut self) -> (&mut CdState, Option<&dyn BlockDev>) {
        match &self.disk {
            Some(disk) => (&mut self.cd, Some(&**disk)),
            None => (&mut self.cd, None),
        }
    }

    /// Registers as after reset or diagnostic: the signature of an ATA device.
    pub(super) fn set_signature(&mut self) {
        self.regs = TaskFile {
            error: DIAGNOSTIC_OK,
            count: 1,
            lba: if self.is_cd { [1, 0x14, 0xeb] } else { [1, 0, 0] },
            device: DEVICE_ONES,
            // A CD drive is not ready until its first command.
            status: if self.is_present() && !self.is_cd { DRDY | DSC } else { 0 },
            ..TaskFile::default()
        };
    }

    pub(super) fn disk(&mut self) -> Option<&mut dyn BlockDev> {
        match &mut self.disk {
            Some(disk) => Some(&mut **disk),
            None => None,
        }
    }

    pub(super) fn sectors(&self) -> u64 {
        self.disk.as_ref().map_or(0, |disk| disk.sectors())
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.is_read_only())
    }

    /// The command ended well.
    pub(super) fn succeed(&mut self) {
        self.regs.status = DRDY | DSC;
        self.regs.error = 0;
    }

    /// The command ended with these error bits.
    pub(super) fn fail(&mut self, error: u8) {
        self.regs.status = DRDY | DSC | ERR;
        self.regs.error = error;
    }

    /// Sectors a command asks for: zero means the largest number.
    pub(super) fn wanted(&self, ext: bool) -> u64 {
        let r = &self.regs;
        let (count, all) = match ext {
            true => (u64::from(r.hob_count) << 8 | u64::from(r.count), 0x10000),
            false => (u64::from(r.count), 0x100),
        };
        if count == 0 { all } else { count }
    }

    /// The first sector a command addresses; `None` for an impossible CHS address.
    pub(super) fn address(&self, ext: bool) -> Option<u64> {
        let r = &self.regs;
        let [low, mid, high] = r.lba.map(u64::from);
        if ext {
            let [low2, mid2, high2] = r.hob_lba.map(u64::from);
            return Some(low | mid << 8 | high << 16 | low2 << 24 | mid2 << 32 | high2 << 40);
        }
        let nibble = u64::from(r.device & 15);
        if r.device & DEVICE_LBA != 0 {
            return Some(low | mid << 8 | high << 16 | nibble << 24);
        }
        let (heads, spt) = (u64::from(self.heads), u64::from(self.sectors_per_track));
        let sector = low.checked_sub(1)?;
        ((mid | high << 8) * heads + nibble).checked_mul(spt)?.checked_add(sector)
    }

    /// Puts a sector's address into the registers, in the form the command used.
    pub(super) fn set_address(&mut self, lba: u64, ext: bool) {
        let bytes = lba.to_le_bytes();
        if ext {
            self.regs.lba = [bytes[0], bytes[1], bytes[2]];
            self.regs.hob_lba = [bytes[3], bytes[4], bytes[5]];
        } else if self.regs.device & DEVICE_LBA != 0 {
            self.regs.lba = [bytes[0], bytes[1], bytes[2]];
            self.regs.device = self.regs.device & 0xf0 | bytes[3] & 15;
        } else {
            let (heads, spt) = (u64::from(self.heads), u64::from(self.sectors_per_track));
            let cylinder = (lba / (heads * spt)).to_le_bytes();
            self.regs.lba = [(lba % spt) as u8 + 1, cylinder[0], cylinder[1]];
            self.regs.device = self.regs.device & 0xf0 | (lba / spt % heads) as u8 & 15;
        }
    }

    /// Default geometry: cylinders, heads, sectors per track (ATA-6, annex C).
    fn geometry(&self) -> (u16, u16, u16) {
        let cylinders = (self.sectors() / (16 * 63)).clamp(1, 16_383);
        (cylinders as u16, 16, 63)
    }

    /// The IDENTIFY DEVICE sector.
    pub(super) fn identify(&self) -> [u8; SECTOR] {
        let mut words = [0u16; 256];
        let total = self.sectors();
        let (cylinders, heads, spt) = self.geometry();
        words[0] = 0x0040;
        words[1] = cylinders;
        words[3] = heads;
        words[6] = spt;
        put_string(&mut words[10..20], &self.serial);
        put_string(&mut words[23..27], "1.0");
        put_string(&mut words[27..47], "STELE HARDDISK");
        words[47] = 0x8000 | u16::from(MAX_MULTIPLE);
        words[48] = 1;
        // IORDY may be disabled, IORDY, LBA, DMA.
        words[49] = 0x0f00;
        words[50] = 0x4000;
        words[51] = 0x0200;
        words[52] = 0x0200;
        words[53] = 7;
        let current = u64::from(self.heads) * u64::from(self.sectors_per_track);
        let current_cylinders = (total / current).min(0xffff);
        words[54] = current_cylinders as u16;
        words[55] = u16::from(self.heads);
        words[56] = u16::from(self.sectors_per_track);
        put_u32(&mut words[57..59], (current_cylinders * current) as u32);
        if self.multiple > 0 {
            words[59] = 0x0100 | u16::from(self.multiple);
        }
        put_u32(&mut words[60..62], total.min(LBA28_LIMIT - 1) as u32);
        words[63] = 7 | self.selected_mode(0x20) << 8;
        words[64] = 3;
        words[65..69].fill(120);
        words[80] = 0x0070;
        // NOP and write cache; FLUSH (EXT) and 48-bit addresses.
        words[82] = 0x4020;
        words[83] = 0x7400;
        // WRITE FUA EXT.
        words[84] = 0x4040;
        words[85] = 0x4000 | u16::from(self.write_cache) << 5;
        words[86] = 0x3400;
        words[87] = 0x4040;
        words[88] = 0x3f | self.selected_mode(0x40) << 8;
        words[93] = 0x6001;
        put_u32(&mut words[100..102], total as u32);
        put_u32(&mut words[102..104], (total >> 32) as u32);
        sector(&words)
    }

    /// The IDENTIFY PACKET DEVICE sector.
    pub(super) fn identify_packet(&self) -> [u8; SECTOR] {
        let mut words = [0u16; 256];
        // ATAPI, CD drive, removable, DRQ within 50 us of PACKET, 12-byte packets.
        words[0] = 0x85c0;
        put_string(&mut words[10..20], &self.serial);
        put_string(&mut words[23..27], "1.0");
        put_string(&mut words[27..47], "STELE CD-ROM");
        words[49] = 0x0f00;
        words[51] = 0x0200;
        words[53] = 6;
        words[63] = 7 | self.selected_mode(0x20) << 8;
        words[64] = 3;
        words[65..69].fill(120);
        words[80] = 0x0070;
        // PACKET and DEVICE RESET.
        words[82] = 0x0210;
        words[83] = 0x4000;
        words[84] = 0x4000;
        words[85] = 0x0210;
        words[87] = 0x4000;
        words[88] = 0x3f | self.selected_mode(0x40) << 8;
        words[93] = 0x6001;
        sector(&words)
    }

    /// The selected mode of a transfer type, as one bit.
    fn selected_mode(&self, kind: u8) -> u16 {
        if self.transfer_mode & 0xf8 == kind { 1 << (self.transfer_mode & 7) } else { 0 }
    }
}

fn sector(words: &[u16; 256]) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    for (pair, word) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(words) {
        *pair = word.to_le_bytes();
    }
    bytes
}

fn put_u32(words: &mut [u16], value: u32) {
    words[0] = value as u16;
    words[1] = (value >> 16) as u16;
}

/// ATA strings hold two characters per word, the first in the high byte, padded with blanks.
fn put_string(words: &mut [u16], text: &str) {
    let mut bytes = text.bytes().map(|b| if b.is_ascii_graphic() { b } else { b' ' });
    for word in words {
        let high = bytes.next().unwrap_or(b' ');
        let low = bytes.next().unwrap_or(b' ');
        *word = u16::from_be_bytes([high, low]);
    }
}
