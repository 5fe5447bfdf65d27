//! 82371AB (PIIX4) power management function: PM timer, PM1 event and control blocks, general
//! purpose events, APM ports.
//!
//! Source: Intel 82371AB datasheet, "Power Management Registers"; ACPI 1.0, "PM1 Control". There
//! is no SMM on this machine, and nothing raises a general purpose event yet: the function says at power-on that SMI handling is already set up,
//! and the ACPI enable and disable commands act at once.

use mem::{Ns, PortDevice, Size};

use crate::pci::{ConfigSpace, Identity, reg};
use crate::state::StateError;
use crate::{Alarm, Wire, state_fields};

/// The PM timer's clock in hertz.
const PM_HZ: u64 = 3_579_545;
/// The timer counts 24 bits; the status bit tells changes of the highest.
const HIGH_BIT_TICKS: u64 = 1 << 23;

const PMBASE: u8 = 0x40;
const PMREGMISC: u8 = 0x80;
const DEVACTB: u8 = 0x58;

const STS_TMR: u16 = 0x0001;
const STS_PWRBTN: u16 = 0x0100;
const STS_ALL: u16 = 0x8d31;
const EN_MASK: u16 = 0x0521;
const CNT_SCI_EN: u16 = 0x0001;
const CNT_SLP_EN: u16 = 0x2000;
const CNT_WRITABLE: u16 = 0x1c02;

/// APM command by which an ACPI system takes over.
pub const APM_ACPI_ENABLE: u8 = 0xf1;
/// APM command by which it gives back.
pub const APM_ACPI_DISABLE: u8 = 0xf0;

/// Ports of the function's register block.
pub const PM_PORTS: u16 = 64;

/// The function. Port offsets 0–63 are the block at PMBASE; the APM ports have their own calls.
pub struct AcpiPm {
    /// Its configuration space.
    pub config: ConfigSpace,
    status: u16,
    enable: u16,
    control: u16,
    general_control: u32,
    gpe_status: u16,
    gpe_enable: u16,
    apm: [u8; 2],
    /// PM timer ticks up to which `status` is right.
    synced: u64,
    sci: Wire,
    power_off: Wire,
    timer: Alarm,
}

state_fields!(
    AcpiPm,
    2,
    [config, status, enable, control, general_control, gpe_status, gpe_enable, apm, synced]
);

impl AcpiPm {
    /// The function, its SCI wire and the wire that switches the machine off.
    pub fn new(sci: Wire, power_off: Wire, timer: Alarm) -> Self {
        let identity = Identity { vendor: 0x8086, device: 0x7113, class: 0x068000, revision: 3 };
        let mut config = ConfigSpace::new(identity);
        config.preset16(reg::STATUS, 0x0280);
        config.preset(reg::INT_PIN, 1);
        config.preset(PMBASE, 1);
        config.allow(PMBASE, 0xc0);
        config.allow(PMBASE + 1, 0xff);
        config.preset(0x90, 1);
        config.allow(0x90, 0xf0);
        config.allow(0x91, 0xff);
        for at in (0x44..0x7c).chain([PMREGMISC, 0xd2, 0xd3, 0xd4, 0xd5]) {
            config.allow(at, 0xff);
        }
        // APMC_EN (DEVACTB bit 25): SMI handling is already set up, there is nothing to install.
        config.preset(DEVACTB + 3, 0x02);
        Self {
            config,
            status: 0,
            enable: 0,
            control: 0,
            general_control: 0,
            gpe_status: 0,
            gpe_enable: 0,
            apm: [0; 2],
            synced: 0,
            sci,
            power_off,
            timer,
        }
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        self.config.reset();
        (self.status, self.enable, self.control, self.general_control) = (0, 0, 0, 0);
        (self.gpe_status, self.gpe_enable) = (0, 0);
        self.apm = [0; 2];
        self.sync();
        self.status = 0;
        self.update();
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        self.synced = self.synced.min(self.ticks());
        self.update();
        Ok(())
    }

    /// The base of the register block, once firmware has placed and enabled it.
    pub fn io_base(&self) -> Option<u16> {
        let base = self.config.word(PMBASE) & 0xffc0;
        (self.config.byte(PMREGMISC) & 1 != 0 && base != 0).then_some(base)
    }

    /// Presses the power button.
    pub fn press_power_button(&mut self) {
        self.status |= STS_PWRBTN;
        self.update();
    }

    /// The alarm: the timer's high bit has changed.
    pub fn expired(&mut self) {
        self.sync();
        self.update();
    }

    /// Reads APM control (0) or status (1).
    pub fn apm_read(&self, offset: u16) -> u8 {
        self.apm[usize::from(offset & 1)]
    }

    /// Writes APM control (0) or status (1).
    pub fn apm_write(&mut self, offset: u16, value: u8) {
        self.apm[usize::from(offset & 1)] = value;
        match (offset & 1, value) {
            (0, APM_ACPI_ENABLE) => self.control |= CNT_SCI_EN,
            (0, APM_ACPI_DISABLE) => self.control &= !CNT_SCI_EN,
            _ => {}
        }
        self.update();
    }

    /// Reads a byte of general purpose event block 0: status (0–1), enables (2–3).
    pub fn gpe_read(&self, offset: u16) -> u8 {
        let register = if offset & 2 == 0 { self.gpe_status } else { self.gpe_enable };
        (register >> (8 * (offset & 1))) as u8
    }

    /// Writes a byte of general purpose event block 0: status bits are cleared by ones.
    pub fn gpe_write(&mut self, offset: u16, value: u8) {
        let shift = 8 * (offset & 1);
        let bits = u16::from(value) << shift;
        if offset & 2 == 0 {
            self.gpe_status &= !bits;
        } else {
            self.gpe_enable = self.gpe_enable & !(0xff << shift) | bits;
        }
        self.update();
    }

    fn ticks(&self) -> u64 {
        (u128::from(self.timer.now()) * u128::from(PM_HZ) / 1_000_000_000) as u64
    }

    fn sync(&mut self) {
        let now = self.ticks();
        if now / HIGH_BIT_TICKS > self.synced / HIGH_BIT_TICKS {
            self.status |= STS_TMR;
        }
        self.synced = now;
    }

    /// Drives the SCI and arms the alarm for the next change of the high bit if it is wanted.
    fn update(&mut self) {
        let raised = self.status & self.enable | self.gpe_status & self.gpe_enable;
        self.sci.set(self.control & CNT_SCI_EN != 0 && raised != 0);
        let wanted = self.enable & !self.status & STS_TMR != 0;
        let next = (self.ticks() / HIGH_BIT_TICKS + 1) * HIGH_BIT_TICKS;
        let at = (u128::from(next) * 1_000_000_000).div_ceil(u128::from(PM_HZ)) as Ns;
        self.timer.arm(wanted.then_some(at));
    }

    fn read_dword(&mut self, at: u16) -> u32 {
        self.sync();
        match at {
            0x00 => u32::from(self.enable) << 16 | u32::from(self.status),
            0x04 => u32::from(self.control),
            0x08 => self.ticks() as u32 & 0x00ff_ffff,
            0x28 => self.general_control,
            _ => 0,
        }
    }

    fn write_byte(&mut self, at: u16, value: u8) {
        let shift = 8 * (at & 1);
        let (bits, mask) = (u16::from(value) << shift, 0xffu16 << shift);
        match at {
            0..=1 => {
                self.sync();
                self.status &= !(bits & STS_ALL);
            }
            2..=3 => self.enable = (self.enable & !mask | bits) & EN_MASK,
            4..=5 => self.write_control(bits, mask),
            0x28..=0x2b => {
                let shift = 8 * (at & 3);
                let keep = self.general_control & !(0xff << shift);
                self.general_control = keep | u32::from(value) << shift;
            }
            _ => {}
        }
    }

    fn write_control(&mut self, bits: u16, mask: u16) {
        let mask = mask & CNT_WRITABLE;
        self.control = self.control & !mask | bits & mask;
        if bits & CNT_SLP_EN != 0 {
            // PIIX4 sleep types: 0 is soft off; 2 is suspend to disk, which ends in off as well.
            match self.control >> 10 & 7 {
                0 | 2 => self.power_off.set(true),
                kind => log::warn!("guest asks for sleep type={kind}, which is not supported"),
            }
        }
    }
}

impl PortDevice for AcpiPm {
    fn port_read(&mut self, offset: u16, size: Size) -> u64 {
        let value = u64::from(self.read_dword(offset & !3)) >> (8 * (offset & 3));
        value & size.mask()
    }

    fn port_write(&mut self, offset: u16, size: Size, value: u64) {
        for (i, byte) in value.to_le_bytes().into_iter().enumerate().take(size.bytes() as usize) {
            self.write_byte(offset.wrapping_add(i as u16), byte);
        }
        self.update();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;
    use crate::testing::{FakeTimer, FakeWire};

    fn function() -> (AcpiPm, FakeWire, FakeWire, FakeTimer) {
        let (sci, off, timer) = (FakeWire::default(), FakeWire::default(), FakeTimer::default());
        (AcpiPm::new(sci.boxed(), off.boxed(), timer.boxed()), sci, off, timer)
    }

    #[test]
    fn the_timer_counts_and_overflows() {
        let (mut pm, sci, _, timer) = function();
        timer.set_now(1_000_000_000);
        assert_eq!(pm.port_read(8, Size::B4), 3_579_545);
        pm.apm_write(0, APM_ACPI_ENABLE);
        assert_eq!(pm.port_read(4, Size::B2), 1);
        pm.port_write(2, Size::B2, 1);
        let mut fired = 0;
        timer.run_to(3_000_000_000, || {
            pm.expired();
            fired += 1;
        });
        assert_eq!((fired, sci.level()), (1, true));
        pm.port_write(0, Size::B2, 1);
        assert!(!sci.level());
    }

    #[test]
    fn events_raise_the_sci() {
        let (mut pm, sci, _, _) = function();
        pm.port_write(2, Size::B2, STS_PWRBTN.into());
        pm.press_power_button();
        assert!(!sci.level(), "not yet ACPI's");
        pm.apm_write(0, APM_ACPI_ENABLE);
        assert!(sci.level());
        pm.port_write(0, Size::B2, STS_PWRBTN.into());
        assert!(!sci.level());
        pm.gpe_write(2, 4);
        pm.gpe_write(3, 0x80);
        assert_eq!([0, 1, 2, 3].map(|i| pm.gpe_read(i)), [0, 0, 4, 0x80]);
        pm.gpe_status = 0x8000;
        pm.update();
        assert!(sci.level());
        pm.gpe_write(1, 0x80);
        assert!(!sci.level());
        pm.press_power_button();
        pm.apm_write(0, APM_ACPI_DISABLE);
        assert!(!sci.level());
    }

    #[test]
    fn block_base_and_power_off() {
        let (mut pm, _, off, _) = function();
        assert_eq!(pm.io_base(), None);
        pm.config.write(0x40, Size::B4, 0x601);
        pm.config.write(0x80, Size::B1, 1);
        assert_eq!(pm.io_base(), Some(0x600));
        pm.port_write(4, Size::B2, 0x0400 | 0x2000);
        assert!(!off.level(), "suspend to RAM is not there");
        pm.port_write(4, Size::B2, 0x2000);
        assert!(off.level());
        let saved = pm.save();
        pm.load(&saved).unwrap();
        assert_eq!(pm.io_base(), Some(0x600));
    }
}
