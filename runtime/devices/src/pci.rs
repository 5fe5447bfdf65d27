//! PCI configuration space of one function, and configuration mechanism 1.
//!
//! Source: PCI Local Bus Specification 2.1, chapter 6 "Configuration Space" and 3.7.4
//! "Generating Configuration Cycles".

use mem::Size;

use crate::state::StateError;
use crate::state_fields;

/// Registers every function has.
pub mod reg {
    /// Vendor, then device.
    pub const VENDOR: u8 = 0x00;
    /// Device number.
    pub const DEVICE: u8 = 0x02;
    /// Command.
    pub const COMMAND: u8 = 0x04;
    /// Status.
    pub const STATUS: u8 = 0x06;
    /// Revision.
    pub const REVISION: u8 = 0x08;
    /// Programming interface, sub-class and class.
    pub const CLASS: u8 = 0x09;
    /// Header type.
    pub const HEADER: u8 = 0x0e;
    /// First base address register.
    pub const BAR0: u8 = 0x10;
    /// Subsystem vendor.
    pub const SUB_VENDOR: u8 = 0x2c;
    /// Subsystem.
    pub const SUB_ID: u8 = 0x2e;
    /// Expansion ROM base.
    pub const ROM: u8 = 0x30;
    /// Interrupt line: a scratch byte for firmware.
    pub const INT_LINE: u8 = 0x3c;
    /// Interrupt pin: 0 none, 1 = INTA#.
    pub const INT_PIN: u8 = 0x3d;
}

/// Command register: I/O space is decoded.
pub const COMMAND_IO: u16 = 1;
/// Command register: memory space is decoded.
pub const COMMAND_MEM: u16 = 2;
/// Command register: may master the bus.
pub const COMMAND_MASTER: u16 = 4;

/// Who a function says it is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Vendor number.
    pub vendor: u16,
    /// Device number.
    pub device: u16,
    /// Class, sub-class, programming interface: 0xCCSSPP.
    pub class: u32,
    /// Revision.
    pub revision: u8,
}

/// The 256 bytes, with what software can write in each and what it clears by writing ones.
#[derive(Debug, Clone)]
pub struct ConfigSpace {
    bytes: [u8; 256],
    initial: [u8; 256],
    writable: [u8; 256],
    clear_by_one: [u8; 256],
}

state_fields!(ConfigSpace, 1, [bytes]);

impl ConfigSpace {
    /// The space of one function, with subsystem 1AF4:1100 as firmware expects of this machine.
    pub fn new(identity: Identity) -> Self {
        let mut space =
            Self { bytes: [0; 256], initial: [0; 256], writable: [0; 256], clear_by_one: [0; 256] };
        space.preset16(reg::VENDOR, identity.vendor);
        space.preset16(reg::DEVICE, identity.device);
        space.preset(reg::REVISION, identity.revision);
        for (i, byte) in identity.class.to_le_bytes()[..3].iter().enumerate() {
            space.preset(reg::CLASS + i as u8, *byte);
        }
        space.preset16(reg::SUB_VENDOR, 0x1af4);
        space.preset16(reg::SUB_ID, 0x1100);
        space.allow(reg::COMMAND, 0x07);
        space.allow(reg::COMMAND + 1, 0x05);
        space.allow(reg::INT_LINE, 0xff);
        space.clear_by_one[usize::from(reg::STATUS) + 1] = 0xf9;
        space
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        for i in 0..256 {
            let fixed = !(self.writable[i] | self.clear_by_one[i]);
            self.bytes[i] = self.bytes[i] & !fixed | self.initial[i] & fixed;
        }
        Ok(())
    }

    /// Sets a byte and its power-on value.
    pub fn preset(&mut self, at: u8, value: u8) {
        self.bytes[usize::from(at)] = value;
        self.initial[usize::from(at)] = value;
    }

    /// Sets two bytes and their power-on value.
    pub fn preset16(&mut self, at: u8, value: u16) {
        let [low, high] = value.to_le_bytes();
        self.preset(at, low);
        self.preset(at.wrapping_add(1), high);
    }

    /// Lets software write the `mask` bits of a byte.
    pub fn allow(&mut self, at: u8, mask: u8) {
        self.writable[usize::from(at)] = mask;
    }

    /// Makes `at` a base address register of `size` bytes (a power of two) with `kind` in its low
    /// bits (1 for I/O, 8 for prefetchable memory).
    pub fn add_bar(&mut self, at: u8, size: u32, kind: u8) {
        let mask = !(size.max(4) - 1);
        for (i, byte) in mask.to_le_bytes().into_iter().enumerate() {
            self.allow(at.wrapping_add(i as u8), byte);
        }
        self.preset(at, kind);
    }

    /// Makes the expansion ROM register one of `size` bytes; bit 0 enables it.
    pub fn add_rom(&mut self, size: u32) {
        self.add_bar(reg::ROM, size, 0);
        self.allow(reg::ROM, 1);
    }

    /// Back to power-on values.
    pub fn reset(&mut self) {
        self.bytes = self.initial;
    }

    /// One byte.
    pub fn byte(&self, at: u8) -> u8 {
        self.bytes[usize::from(at)]
    }

    /// Sets one byte, whatever software may write.
    pub fn set_byte(&mut self, at: u8, value: u8) {
        self.bytes[usize::from(at)] = value;
    }

    /// Two bytes.
    pub fn word(&self, at: u8) -> u16 {
        u16::from_le_bytes([self.byte(at), self.byte(at.wrapping_add(1))])
    }

    /// Four bytes.
    pub fn dword(&self, at: u8) -> u32 {
        u32::from(self.word(at)) | u32::from(self.word(at.wrapping_add(2))) << 16
    }

    /// The I/O base in a register, if I/O space is on and the base was set.
    pub fn io_base(&self, at: u8) -> Option<u16> {
        let base = self.dword(at) & 0xfffc;
        (self.word(reg::COMMAND) & COMMAND_IO != 0 && base != 0).then_some(base as u16)
    }

    /// The memory base in a register, if memory space is on and the base was set.
    pub fn mem_base(&self, at: u8) -> Option<u64> {
        let base = self.dword(at) & !15;
        (self.word(reg::COMMAND) & COMMAND_MEM != 0 && base != 0).then_some(u64::from(base))
    }

    /// The expansion ROM's base, if enabled.
    pub fn rom_base(&self) -> Option<u64> {
        let rom = self.dword(reg::ROM);
        let on = rom & 1 != 0 && self.word(reg::COMMAND) & COMMAND_MEM != 0;
        (on && rom & !0x7ff != 0).then_some(u64::from(rom & !0x7ff))
    }

    /// A configuration read.
    pub fn read(&self, at: u8, size: Size) -> u32 {
        (0..size.bytes().min(4) as u8)
            .map(|i| u32::from(self.byte(at.wrapping_add(i))) << (8 * i))
            .fold(0, |all, byte| all | byte)
    }

    /// A configuration write.
    pub fn write(&mut self, at: u8, size: Size, value: u32) {
        for (i, new) in value.to_le_bytes().into_iter().enumerate().take(size.bytes() as usize) {
            let at = usize::from(at.wrapping_add(i as u8));
            let writable = self.writable[at];
            let old = self.bytes[at] & !(new & self.clear_by_one[at]);
            self.bytes[at] = old & !writable | new & writable;
        }
    }
}

/// Where a configuration access goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigTarget {
    /// Bus number.
    pub bus: u8,
    /// Device number, 0–31.
    pub device: u8,
    /// Function number, 0–7.
    pub function: u8,
    /// Register, with the byte lane of the data port access.
    pub register: u8,
}

/// The address register of configuration mechanism 1.
#[derive(Debug, Default)]
pub struct ConfigAddress {
    value: u32,
}

state_fields!(ConfigAddress, 1, [value]);

impl ConfigAddress {
    /// Back to power-on.
    pub fn reset(&mut self) {
        self.value = 0;
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        Ok(())
    }

    /// Reads the register: a whole doubleword, else it is not this register that answers.
    pub fn read(&self, size: Size) -> Option<u32> {
        (size == Size::B4).then_some(self.value)
    }

    /// Writes the register, by doublewords only.
    pub fn write(&mut self, size: Size, value: u32) {
        if size == Size::B4 {
            self.value = value & 0x80ff_fffc;
        }
    }

    /// The target of an access to the data port at byte `lane`, if the enable bit is set.
    pub fn target(&self, lane: u16) -> Option<ConfigTarget> {
        let v = self.value;
        (v & 0x8000_0000 != 0).then_some(ConfigTarget {
            bus: (v >> 16) as u8,
            device: (v >> 11) as u8 & 31,
            function: (v >> 8) as u8 & 7,
            register: v as u8 & 0xfc | lane as u8 & 3,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;

    fn space() -> ConfigSpace {
        let identity = Identity { vendor: 0x1234, device: 0x1111, class: 0x030000, revision: 2 };
        let mut space = ConfigSpace::new(identity);
        space.add_bar(reg::BAR0, 16 << 20, 8);
        space.add_rom(0x10000);
        space
    }

    #[test]
    fn identity_and_bar_sizing() {
        let mut s = space();
        assert_eq!(s.read(0, Size::B4), 0x1111_1234);
        assert_eq!(s.read(8, Size::B4), 0x0300_0002);
        s.write(reg::BAR0, Size::B4, u32::MAX);
        assert_eq!(s.read(reg::BAR0, Size::B4), 0xff00_0008);
        s.write(reg::ROM, Size::B4, 0xffff_fffe);
        assert_eq!(s.read(reg::ROM, Size::B4), 0xffff_0000);
        s.write(0, Size::B4, 0);
        assert_eq!(s.read(0, Size::B2), 0x1234);
        s.write(reg::BAR0, Size::B4, 0xe000_0000);
        assert_eq!(s.mem_base(reg::BAR0), None);
        s.write(reg::COMMAND, Size::B2, 0xffff);
        assert_eq!(s.mem_base(reg::BAR0), Some(0xe000_0000));
        assert_eq!(s.word(reg::COMMAND), 0x0507);
        assert_eq!(s.rom_base(), None);
        s.write(reg::ROM, Size::B4, 0xf000_0001);
        assert_eq!(s.rom_base(), Some(0xf000_0000));
        let saved = s.save();
        s.reset();
        assert_eq!(s.mem_base(reg::BAR0), None);
        s.load(&saved).unwrap();
        assert_eq!(s.rom_base(), Some(0xf000_0000));
    }

    #[test]
    fn mechanism_1_addresses() {
        let mut address = ConfigAddress::default();
        address.write(Size::B1, 0x80);
        assert_eq!(address.target(0), None);
        address.write(Size::B4, 0x8000_0948);
        assert_eq!(
            address.target(3),
            Some(ConfigTarget { bus: 0, device: 1, function: 1, register: 0x4b })
        );
        assert_eq!(address.read(Size::B4), Some(0x8000_0948));
        assert_eq!(address.read(Size::B1), None);
    }
}
