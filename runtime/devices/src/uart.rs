//! 16550A UART: registers, FIFOs and interrupt identification.
//!
//! Source: National Semiconductor PC16550D datasheet. Bytes sent leave at once while the far end has
//! room, else they wait in the transmitter and THRE stays low; bytes received wait in the FIFO. The
//! receive time-out of four characters is kept by an alarm.

use std::collections::VecDeque;

use mem::{Ns, PortDevice, Size};

use crate::chardev::CharBackend;
use crate::state::{StateError, ensure};
use crate::{Alarm, Wire, state_fields};

const FIFO_LEN: usize = 16;
/// Nanoseconds per unit of divisor for one character of ten bits: 10 * 16 / 1.8432 MHz.
const CHAR_NS_PER_DIVISOR: Ns = 86_806;

// Register offsets.
const DATA: u16 = 0;
const IER: u16 = 1;
const IIR_FCR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const MSR: u16 = 6;

const IER_RDA: u8 = 0x01;
const IER_THRE: u8 = 0x02;
const IER_RLS: u8 = 0x04;
const IER_MSI: u8 = 0x08;
const IIR_NONE: u8 = 0x01;
const IIR_MSI: u8 = 0x00;
const IIR_THRE: u8 = 0x02;
const IIR_RDA: u8 = 0x04;
const IIR_RLS: u8 = 0x06;
const IIR_TIMEOUT: u8 = 0x0c;
const IIR_FIFOS: u8 = 0xc0;
const FCR_ENABLE: u8 = 0x01;
const FCR_CLEAR_RX: u8 = 0x02;
const FCR_CLEAR_TX: u8 = 0x04;
const LCR_BREAK: u8 = 0x40;
const LCR_DLAB: u8 = 0x80;
const MCR_OUT2: u8 = 0x08;
const MCR_LOOP: u8 = 0x10;
const LSR_DR: u8 = 0x01;
const LSR_OE: u8 = 0x02;
const LSR_BI: u8 = 0x10;
const LSR_ERRORS: u8 = 0x1e;
const LSR_THRE_TEMT: u8 = 0x60;
/// The receiver's FIFO holds a character with an error.
const LSR_FIFO_ERROR: u8 = 0x80;
/// CTS, DSR and DCD: the far end is always ready.
const MSR_READY: u8 = 0xb0;

/// One UART. Port offsets 0–7 are its registers.
pub struct Uart {
    divisor: u16,
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    scratch: u8,
    line_errors: u8,
    /// Modem status: levels in the high nibble, changes in the low one.
    msr: u8,
    rx: VecDeque<u8>,
    /// Bytes the far end had no room for.
    tx: VecDeque<u8>,
    /// THR became empty and IIR has not told it yet.
    thre_pending: bool,
    /// Bytes below the trigger level have waited for four characters.
    timed_out: bool,
    irq: Wire,
    timer: Alarm,
    backend: Box<dyn CharBackend>,
}

state_fields!(
    Uart,
    2,
    [divisor, ier, fcr, lcr, mcr, scratch, line_errors, msr, rx, tx, thre_pending, timed_out,]
);

impl Uart {
    /// A UART between `irq` and `backend`; `timer` must call [`expired`](Self::expired).
    pub fn new(irq: Wire, timer: Alarm, backend: Box<dyn CharBackend>) -> Self {
        Self {
            divisor: 12,
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            scratch: 0,
            line_errors: 0,
            msr: MSR_READY,
            rx: VecDeque::with_capacity(FIFO_LEN),
            tx: VecDeque::with_capacity(FIFO_LEN),
            thre_pending: false,
            timed_out: false,
            irq,
            timer,
            backend,
        }
    }

    /// The master reset pin.
    pub fn reset(&mut self) {
        (self.divisor, self.ier, self.fcr, self.lcr, self.mcr) = (12, 0, 0, 0, 0);
        (self.scratch, self.line_errors, self.msr) = (0, 0, MSR_READY);
        self.rx.clear();
        self.tx.clear();
        self.thre_pending = false;
        self.timed_out = false;
        self.timer.arm(None);
        self.update_irq();
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        ensure(self.rx.len() <= FIFO_LEN && self.tx.len() <= FIFO_LEN, "serial FIFO")?;
        self.update_irq();
        self.arm_timeout();
        Ok(())
    }

    /// Exchanges bytes with the backend while there is room on either side. To be called now and then.
    pub fn poll(&mut self) {
        self.drain();
        let mut took = false;
        while !self.is_loop() && self.rx.len() < self.capacity() {
            if self.rx.is_empty() && self.backend.take_break() {
                self.line_errors |= LSR_BI;
                self.rx.push_back(0);
            } else if let Some(byte) = self.backend.read() {
                self.rx.push_back(byte);
            } else {
                break;
            }
            took = true;
        }
        if took {
            self.arm_timeout();
        }
        self.update_irq();
    }

    /// Sends what waits, once the far end has room again.
    fn drain(&mut self) {
        if !self.tx.is_empty() && self.backend.has_room() {
            let bytes: Vec<u8> = self.tx.drain(..).collect();
            self.backend.write(&bytes);
            self.thre_pending = true;
        }
    }

    /// The alarm: received bytes have waited long enough.
    pub fn expired(&mut self) {
        self.timed_out = !self.rx.is_empty();
        self.update_irq();
    }

    fn is_loop(&self) -> bool {
        self.mcr & MCR_LOOP != 0
    }

    fn fifo_on(&self) -> bool {
        self.fcr & FCR_ENABLE != 0
    }

    fn capacity(&self) -> usize {
        if self.fifo_on() { FIFO_LEN } else { 1 }
    }

    fn trigger(&self) -> usize {
        if self.fifo_on() { [1, 4, 8, 14][usize::from(self.fcr >> 6)] } else { 1 }
    }

    /// (Re)starts the time-out if bytes wait below the trigger level.
    fn arm_timeout(&mut self) {
        let waits = self.fifo_on() && !self.rx.is_empty() && self.rx.len() < self.trigger();
        let four_chars = 4 * CHAR_NS_PER_DIVISOR * Ns::from(self.divisor.max(1));
        self.timer.arm(waits.then(|| self.timer.now().saturating_add(four_chars)));
    }

    /// The interrupt of highest priority, as IIR shows it.
    fn interrupt(&self) -> u8 {
        if self.ier & IER_RLS != 0 && self.line_errors != 0 {
            IIR_RLS
        } else if self.ier & IER_RDA != 0 && self.rx.len() >= self.trigger() {
            IIR_RDA
        } else if self.ier & IER_RDA != 0 && self.timed_out {
            IIR_TIMEOUT
        } else if self.ier & IER_THRE != 0 && self.thre_pending {
            IIR_THRE
        } else if self.ier & IER_MSI != 0 && self.msr & 15 != 0 {
            IIR_MSI
        } else {
            IIR_NONE
        }
    }

    /// On a PC the interrupt leaves the chip only while OUT2 is on.
    fn update_irq(&mut self) {
        let open = self.mcr & MCR_OUT2 != 0 && !self.is_loop();
        self.irq.set(open && self.interrupt() != IIR_NONE);
    }

    fn receive(&mut self, byte: u8) {
        if self.rx.len() >= self.capacity() {
            self.line_errors |= LSR_OE;
            if !self.fifo_on() {
                self.rx.clear();
                self.rx.push_back(byte);
            }
        } else {
            self.rx.push_back(byte);
        }
        self.arm_timeout();
    }

    fn send(&mut self, byte: u8) {
        if self.is_loop() {
            self.receive(byte);
        } else if self.tx.is_empty() && self.backend.has_room() {
            self.backend.write(&[byte]);
        } else {
            // A full transmitter loses the byte, as the chip does.
            if self.tx.len() < self.capacity() {
                self.tx.push_back(byte);
            }
            self.thre_pending = false;
            return;
        }
        self.thre_pending = true;
    }

    fn write_lcr(&mut self, value: u8) {
        let break_starts = value & !self.lcr & LCR_BREAK != 0;
        self.lcr = value;
        if break_starts && self.is_loop() {
            self.receive(0);
            self.line_errors |= LSR_BI;
        }
    }

    /// Line status; reading it clears the errors.
    fn read_lsr(&mut self) -> u8 {
        self.poll();
        let errors = std::mem::take(&mut self.line_errors) & LSR_ERRORS;
        let in_fifo = if self.fifo_on() && errors & !LSR_OE != 0 { LSR_FIFO_ERROR } else { 0 };
        let ready = if self.rx.is_empty() { 0 } else { LSR_DR };
        let empty = if self.tx.is_empty() { LSR_THRE_TEMT } else { 0 };
        errors | in_fifo | ready | empty
    }

    /// Takes the modem lines at a change of MCR: looped back, or from the ready far end.
    fn update_msr(&mut self) {
        let levels = if self.is_loop() {
            let m = self.mcr;
            (m & 2) << 3 | (m & 1) << 5 | (m & 4) << 4 | (m & 8) << 4
        } else {
            MSR_READY
        };
        let changed = (self.msr ^ levels) >> 4;
        // TERI tells the trailing edge of RI only.
        let teri_fell = self.msr & !levels & 0x40 != 0;
        let changes = changed & 0x0b | if teri_fell { 4 } else { 0 };
        self.msr = levels | self.msr & 15 | changes;
    }

    fn write_fcr(&mut self, value: u8) {
        let toggled = (value ^ self.fcr) & FCR_ENABLE != 0;
        if toggled || value & FCR_CLEAR_RX != 0 {
            self.rx.clear();
            self.timed_out = false;
        }
        if (toggled || value & FCR_CLEAR_TX != 0) && !self.tx.is_empty() {
            self.tx.clear();
            self.thre_pending = true;
        }
        self.fcr = value & 0xc9;
        self.arm_timeout();
    }
}

impl PortDevice for Uart {
    fn port_read(&mut self, offset: u16, _size: Size) -> u64 {
        let dlab = self.lcr & LCR_DLAB != 0;
        let value = match offset & 7 {
            DATA if dlab => self.divisor as u8,
            DATA => {
                self.timed_out = false;
                let byte = self.rx.pop_front().unwrap_or(0);
                self.poll();
                self.arm_timeout();
                byte
            }
            IER if dlab => (self.divisor >> 8) as u8,
            IER => self.ier,
            IIR_FCR => {
                let id = self.interrupt();
                if id == IIR_THRE {
                    self.thre_pending = false;
                }
                id | if self.fifo_on() { IIR_FIFOS } else { 0 }
            }
            LCR => self.lcr,
            MCR => self.mcr,
            LSR => self.read_lsr(),
            MSR => {
                let msr = self.msr;
                self.msr &= 0xf0;
                msr
            }
            _ => self.scratch,
        };
        self.update_irq();
        u64::from(value)
    }

    fn port_write(&mut self, offset: u16, _size: Size, value: u64) {
        let value = value as u8;
        let dlab = self.lcr & LCR_DLAB != 0;
        match offset & 7 {
            DATA if dlab => self.divisor = self.divisor & 0xff00 | u16::from(value),
            DATA => self.send(value),
            IER if dlab => self.divisor = self.divisor & 0x00ff | u16::from(value) << 8,
            IER => {
                // Enabling THRE while THR is empty asks for the interrupt at once.
                if value & !self.ier & IER_THRE != 0 && self.tx.is_empty() {
                    self.thre_pending = true;
                }
                self.ier = value & 15;
            }
            IIR_FCR => self.write_fcr(value),
            LCR => self.write_lcr(value),
            MCR => {
                self.mcr = value & 0x1f;
                self.update_msr();
            }
            LSR | MSR => {}
            _ => self.scratch = value,
        }
        self.update_irq();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;
    use crate::chardev::BufferChar;
    use crate::testing::{FakeTimer, FakeWire};

    struct Bench {
        uart: Uart,
        irq: FakeWire,
        timer: FakeTimer,
        line: BufferChar,
    }

    impl Bench {
        fn new() -> Self {
            let (irq, timer) = (FakeWire::default(), FakeTimer::default());
            let line = BufferChar::default();
            let uart = Uart::new(irq.boxed(), timer.boxed(), Box::new(line.clone()));
            Self { uart, irq, timer, line }
        }
        fn read(&mut self, offset: u16) -> u64 {
            self.uart.port_read(offset, Size::B1)
        }
        fn write(&mut self, offset: u16, value: u64) {
            self.uart.port_write(offset, Size::B1, value);
        }
    }

    #[test]
    fn sends_and_detects_like_firmware_expects() {
        let mut b = Bench::new();
        b.write(1, 2);
        assert_eq!(b.read(1), 2);
        assert_eq!(b.read(2), 2, "THR empty");
        assert_eq!(b.read(2), 1, "reading IIR cleared it");
        b.write(1, 0);
        b.write(0, b'H'.into());
        b.write(0, b'i'.into());
        assert_eq!(b.line.sent(), b"Hi");
        assert_eq!(b.read(5), 0x60);
        b.write(3, 0x83);
        b.write(0, 1);
        assert_eq!((b.read(0), b.read(1)), (1, 0), "divisor latch");
    }

    #[test]
    fn receives_with_and_without_fifo() {
        let mut b = Bench::new();
        b.write(4, 0x08);
        b.write(1, 1);
        b.line.feed(b"abc");
        b.uart.poll();
        assert!(b.irq.level());
        assert_eq!(b.read(2), 4);
        assert_eq!(b.read(0), u64::from(b'a'));
        assert_eq!(b.read(0), u64::from(b'b'), "the next one followed");
        b.write(2, 0x81);
        b.line.feed(b"defg");
        b.uart.poll();
        assert!(!b.irq.level(), "four bytes are below the trigger of eight");
        let at = b.timer.deadline().unwrap();
        b.timer.set_now(at);
        b.uart.expired();
        assert!(b.irq.level());
        assert_eq!(b.read(2), 0xcc, "time-out");
        assert_eq!(b.read(0), u64::from(b'd'));
        assert!(!b.irq.level());
    }

    #[test]
    fn loop_back_and_overrun() {
        let mut b = Bench::new();
        b.write(4, 0x1f);
        assert_eq!(b.read(6) & 0xf0, 0xf0);
        b.write(0, 0x55);
        b.write(0, 0x66);
        assert_eq!(b.read(5) & 3, 3, "data ready, overrun");
        assert_eq!(b.read(0), 0x66);
        assert!(b.line.sent().is_empty());
        let saved = b.uart.save();
        b.uart.load(&saved).unwrap();
        assert_eq!(b.read(4), 0x1f);
    }
    #[test]
    fn a_full_far_end_holds_the_transmitter() {
        let mut b = Bench::new();
        b.write(4, 0x08);
        b.write(2, 1);
        b.line.limit(3);
        for byte in b"abcdef" {
            b.write(0, u64::from(*byte));
        }
        assert_eq!(b.line.sent(), b"abc");
        assert_eq!(b.read(5) & 0x60, 0, "THRE is late");
        b.write(1, 2);
        assert!(!b.irq.level());
        b.line.limit(100);
        b.uart.poll();
        assert_eq!(b.line.sent(), b"abcdef");
        assert!(b.irq.level(), "the transmitter is empty again");
        assert_eq!(b.read(5) & 0x60, 0x60);
    }

    #[test]
    fn a_break_comes_behind_the_bytes_before_it() {
        let mut b = Bench::new();
        b.write(4, 0x08);
        b.write(2, 1);
        b.write(1, 4);
        b.line.feed(b"x");
        b.line.send_break();
        assert_eq!(b.read(5) & 0x11, 1);
        assert_eq!(b.read(0), u64::from(b'x'));
        assert!(b.irq.level());
        assert_eq!(b.read(5) & 0x91, 0x91);
        assert_eq!((b.read(0), b.read(5) & 0x91), (0, 0));
        b.write(4, 0x10);
        b.write(3, 0x43);
        assert_eq!(b.read(5) & 0x11, 0x11, "looped back");
    }
}
