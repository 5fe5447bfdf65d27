//! Interrupt messages: what an IOAPIC, a local APIC or a message-signalled interrupt sends.
//!
//! Source: SDM Vol. 3A, "Advanced Programmable Interrupt Controller (APIC)": "Message Signalled
//! Interrupts", "Interrupt Command Register (ICR)"; 82093AA datasheet, "I/O Redirection Table".

/// How a message is taken (the manual's delivery mode field).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// An interrupt with the message's vector.
    Fixed,
    /// The same for the processor that runs at the lowest priority.
    LowestPriority,
    /// A system management interrupt.
    Smi,
    /// A non-maskable interrupt.
    Nmi,
    /// Initialisation of the processor.
    Init,
    /// Start-up of a processor that waits for it.
    StartUp,
    /// An interrupt whose vector an 8259 gives.
    ExtInt,
    /// The reserved code.
    Reserved,
}

impl Delivery {
    /// The mode a three-bit field names.
    pub const fn from_bits(bits: u32) -> Self {
        match bits & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            7 => Self::ExtInt,
            _ => Self::Reserved,
        }
    }
}

/// One message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// For whom: an APIC's number, or a set of them if `is_logical`.
    pub destination: u32,
    /// `destination` is compared with logical destination registers.
    pub is_logical: bool,
    /// How it is taken.
    pub delivery: Delivery,
    /// The interrupt's vector.
    pub vector: u8,
    /// Level-triggered: the end of the interrupt is announced to IOAPICs.
    pub is_level: bool,
}

impl Message {
    /// The message that a write of `data` to `address` (FEExxxxxh) stands for; `None` if it only
    /// takes back a level.
    pub const fn from_msi(address: u64, data: u32) -> Option<Self> {
        let (is_level, asserts) = (data >> 15 & 1 != 0, data >> 14 & 1 != 0);
        if is_level && !asserts {
            return None;
        }
        Some(Self {
            destination: (address >> 12 & 0xff) as u32,
            is_logical: address >> 2 & 1 != 0,
            delivery: Delivery::from_bits(data >> 8),
            vector: data as u8,
            is_level,
        })
    }
}

/// A device's way to send message-signalled interrupts: a write of `data` to `address`.
pub trait MessageLine {
    /// Sends one.
    fn send(&self, address: u64, data: u32);
}

/// A [`MessageLine`] out of a chip.
pub type MsiWire = Box<dyn MessageLine + Send>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msi_fields() {
        let m = Message::from_msi(0xfee0_3004, 0x0000_0141).unwrap();
        assert_eq!((m.destination, m.is_logical, m.vector), (3, true, 0x41));
        assert_eq!((m.delivery, m.is_level), (Delivery::LowestPriority, false));
        assert!(Message::from_msi(0xfee0_0000, 0x8041).is_none(), "level, not asserted");
        assert!(Message::from_msi(0xfee0_0000, 0xc041).unwrap().is_level);
        let modes = [0, 1, 2, 3, 4, 5, 6, 7].map(Delivery::from_bits);
        assert_eq!(
            (modes[3], modes[5], modes[7]),
            (Delivery::Reserved, Delivery::Init, Delivery::ExtInt)
        );
    }
}
