//! 8042 keyboard controller with its keyboard and mouse ports.
//!
//! Source: IBM PS/2 Technical Reference, "Keyboard and Auxiliary Device Controller". The output
//! buffer takes the next byte as soon as the host has read the last one.

use mem::{PortDevice, Size};

use crate::ps2::{Keyboard, Mouse, SET2_TO_SET1};
use crate::state::StateError;
use crate::{Wire, state_fields};

const STATUS_OBF: u8 = 0x01;
const STATUS_SYS: u8 = 0x04;
const STATUS_CMD: u8 = 0x08;
/// The keyboard lock switch is open.
const STATUS_UNLOCKED: u8 = 0x10;
const STATUS_AUX: u8 = 0x20;

const MODE_KBD_IRQ: u8 = 0x01;
const MODE_AUX_IRQ: u8 = 0x02;
const MODE_SYS: u8 = 0x04;
const MODE_KBD_OFF: u8 = 0x10;
const MODE_AUX_OFF: u8 = 0x20;
const MODE_TRANSLATE: u8 = 0x40;

const OUT_NOT_RESET: u8 = 0x01;
const OUT_A20: u8 = 0x02;
/// Clock and data lines of both devices, idle.
const OUT_IDLE: u8 = 0xcc;
const OUT_KBD_IRQ: u8 = 0x10;
const OUT_AUX_IRQ: u8 = 0x20;

/// Where the byte in the output buffer came from.
const FROM_CONTROLLER: u8 = 0;
const FROM_KEYBOARD: u8 = 1;
const FROM_MOUSE: u8 = 2;

/// The wires out of the controller.
pub struct Wires {
    /// Keyboard interrupt.
    pub kbd_irq: Wire,
    /// Mouse interrupt.
    pub aux_irq: Wire,
    /// A20 gate.
    pub a20: Wire,
    /// CPU reset, pulsed high.
    pub reset: Wire,
}

/// The controller. Port offset 0 is data (60h), 1 command and status (64h).
pub struct I8042 {
    keyboard: Keyboard,
    mouse: Mouse,
    mode: u8,
    outport: u8,
    /// A command that waits for its data byte; 0 is none.
    command: u8,
    last_was_command: bool,
    /// The output buffer and its source.
    output: Option<u8>,
    source: u8,
    last_output: u8,
    /// The next byte to be translated is a break code.
    saw_break: bool,
    wires: Wires,
}

state_fields!(
    I8042,
    1,
    [
        keyboard,
        mouse,
        mode,
        outport,
        command,
        last_was_command,
        output,
        source,
        last_output,
        saw_break,
    ]
);

impl I8042 {
    /// A controller with keyboard and mouse attached.
    pub fn new(wires: Wires) -> Self {
        let mut chip = Self {
            keyboard: Keyboard::default(),
            mouse: Mouse::default(),
            mode: 0,
            outport: 0,
            command: 0,
            last_was_command: false,
            output: None,
            source: 0,
            last_output: 0,
            saw_break: false,
            wires,
        };
        chip.reset();
        chip
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        self.keyboard = Keyboard::default();
        self.mouse = Mouse::default();
        self.mode = MODE_KBD_IRQ | MODE_AUX_IRQ;
        self.outport = OUT_IDLE | OUT_NOT_RESET | OUT_A20;
        self.command = 0;
        self.last_was_command = false;
        self.output = None;
        self.source = FROM_CONTROLLER;
        self.saw_break = false;
        self.update_irqs();
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        self.update_irqs();
        Ok(())
    }

    /// Presses or releases a key: set 1 make code, extended keys with 0xE000 added. False if the
    /// keyboard's buffer is full: try again later.
    pub fn key(&mut self, code: u16, down: bool) -> bool {
        let taken = self.keyboard.key(code, down);
        self.pump();
        taken
    }

    /// Moves the mouse; see [`Mouse::event`].
    pub fn mouse(&mut self, dx: i16, dy: i16, wheel: i8, buttons: u8) {
        self.mouse.event(dx, dy, wheel, buttons);
        self.pump();
    }

    /// Keyboard lamps; see [`Keyboard::leds`].
    pub fn leds(&self) -> u8 {
        self.keyboard.leds()
    }

    /// Takes the level of the A20 gate when another chip has driven it.
    pub fn follow_a20(&mut self, high: bool) {
        self.outport = if high { self.outport | OUT_A20 } else { self.outport & !OUT_A20 };
    }

    /// Moves the next byte into the empty output buffer.
    fn pump(&mut self) {
        if self.output.is_none() && self.mode & MODE_KBD_OFF == 0 {
            self.pump_keyboard();
        }
        if self.output.is_none()
            && self.mode & MODE_AUX_OFF == 0
            && let Some(byte) = self.mouse.pop()
        {
            self.put(byte, FROM_MOUSE);
        }
    }

    fn pump_keyboard(&mut self) {
        while let Some(byte) = self.keyboard.pop() {
            if self.mode & MODE_TRANSLATE == 0 {
                return self.put(byte, FROM_KEYBOARD);
            }
            if byte == 0xf0 {
                self.saw_break = true;
                continue;
            }
            let code = SET2_TO_SET1.get(usize::from(byte)).copied().unwrap_or(byte);
            let release = std::mem::take(&mut self.saw_break) && byte < 0xe0;
            return self.put(if release { code | 0x80 } else { code }, FROM_KEYBOARD);
        }
    }

    fn put(&mut self, byte: u8, source: u8) {
        self.output = Some(byte);
        self.source = source;
        self.update_irqs();
    }

    fn update_irqs(&mut self) {
        let full = self.output.is_some();
        let aux = full && self.source == FROM_MOUSE;
        let kbd = full && !aux;
        self.outport &= !(OUT_KBD_IRQ | OUT_AUX_IRQ);
        if kbd {
            self.outport |= OUT_KBD_IRQ;
        }
        if aux {
            self.outport |= OUT_AUX_IRQ;
        }
        self.wires.kbd_irq.set(kbd && self.mode & MODE_KBD_IRQ != 0);
        self.wires.aux_irq.set(aux && self.mode & MODE_AUX_IRQ != 0);
    }

    fn status(&self) -> u8 {
        let mut status = STATUS_UNLOCKED | self.mode & MODE_SYS & STATUS_SYS;
        if self.output.is_some() {
            status |= STATUS_OBF;
            if self.source == FROM_MOUSE {
                status |= STATUS_AUX;
            }
        }
        if self.last_was_command {
            status |= STATUS_CMD;
        }
        status
    }

    fn read_data(&mut self) -> u8 {
        if let Some(byte) = self.output.take() {
            self.last_output = byte;
            // The wires fall before the next byte raises them: each byte is an edge.
            self.update_irqs();
            self.pump();
        }
        self.last_output
    }

    fn write_command(&mut self, value: u8) {
        self.last_was_command = true;
        self.command = 0;
        match value {
            0x20..=0x3f => self.put(self.mode, FROM_CONTROLLER),
            0x60..=0x7f | 0xd1..=0xd4 => self.command = value,
            0xa7 => self.mode |= MODE_AUX_OFF,
            0xa8 => self.mode &= !MODE_AUX_OFF,
            0xa9 | 0xab => self.put(0, FROM_CONTROLLER),
            0xaa => {
                self.mode |= MODE_SYS;
                self.put(0x55, FROM_CONTROLLER);
            }
            0xad => self.mode |= MODE_KBD_OFF,
            0xae => self.mode &= !MODE_KBD_OFF,
            // Input port: not locked, not in manufacturing mode.
            0xc0 => self.put(0x80, FROM_CONTROLLER),
            0xd0 => self.put(self.outport, FROM_CONTROLLER),
            0xdd | 0xdf => self.write_outport(self.outport & !OUT_A20 | value & OUT_A20),
            0xe0 => self.put(0, FROM_CONTROLLER),
            // Pulses the output port's low bits; bit 0 low is a CPU reset.
            0xf0..=0xff if value & 1 == 0 => self.wires.reset.set(true),
            _ => log::debug!("keyboard controller command={value:#04x} ignored"),
        }
        self.pump();
    }

    fn write_data(&mut self, value: u8) {
        self.last_was_command = false;
        match std::mem::take(&mut self.command) {
            0 => {
                self.mode &= !MODE_KBD_OFF;
                self.keyboard.write(value);
            }
            0x60 => {
                self.mode = value & 0x7f;
                self.update_irqs();
            }
            0xd1 => self.write_outport(value),
            0xd2 => self.put(value, FROM_KEYBOARD),
            0xd3 => self.put(value, FROM_MOUSE),
            0xd4 => {
                self.mode &= !MODE_AUX_OFF;
                self.mouse.write(value);
            }
            _ => {}
        }
        self.pump();
    }

    fn write_outport(&mut self, value: u8) {
        self.outport = value;
        self.wires.a20.set(value & OUT_A20 != 0);
        if value & OUT_NOT_RESET == 0 {
            self.outport |= OUT_NOT_RESET;
            self.wires.reset.set(true);
        }
    }
}

impl PortDevice for I8042 {
    fn port_read(&mut self, offset: u16, _size: Size) -> u64 {
        u64::from(if offset == 0 { self.read_data() } else { self.status() })
    }

    fn port_write(&mut self, offset: u16, _size: Size, value: u64) {
        match offset {
            0 => self.write_data(value as u8),
            _ => self.write_command(value as u8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;
    use crate::testing::FakeWire;

    struct Bench {
        chip: I8042,
        kbd: FakeWire,
        aux: FakeWire,
        a20: FakeWire,
        reset: FakeWire,
    }

    impl Bench {
        fn new() -> Self {
            let [kbd, aux, a20, reset]: [FakeWire; 4] = Default::default();
            let chip = I8042::new(Wires {
                kbd_irq: kbd.boxed(),
                aux_irq: aux.boxed(),
                a20: a20.boxed(),
                reset: reset.boxed(),
            });
            Self { chip, kbd, aux, a20, reset }
        }
        fn command(&mut self, value: u64) {
            self.chip.port_write(1, Size::B1, value);
        }
        fn write(&mut self, value: u64) {
            self.chip.port_write(0, Size::B1, value);
        }
        fn drain(&mut self) -> Vec<u64> {
            let mut bytes = Vec::new();
            while self.chip.port_read(1, Size::B1) & 1 != 0 {
                bytes.push(self.chip.port_read(0, Size::B1));
            }
            bytes
        }
    }

    #[test]
    fn self_tests_and_command_byte() {
        let mut b = Bench::new();
        b.command(0xaa);
        assert_eq!(b.drain(), [0x55]);
        b.command(0xab);
        assert_eq!(b.drain(), [0]);
        b.command(0x60);
        b.write(0x61);
        b.command(0x20);
        assert_eq!(b.drain(), [0x61]);
        b.command(0xd1);
        b.write(0x01);
        assert!(!b.a20.level());
        b.command(0xdf);
        assert!(b.a20.level());
        b.command(0xfe);
        assert!(b.reset.level());
    }

    #[test]
    fn keyboard_commands_and_translated_keys() {
        let mut b = Bench::new();
        b.write(0xff);
        assert_eq!(b.drain(), [0xfa, 0xaa]);
        b.write(0xf2);
        assert_eq!(b.drain(), [0xfa, 0xab, 0x83]);
        b.write(0xed);
        b.write(7);
        assert_eq!((b.drain(), b.chip.leds()), (vec![0xfa, 0xfa], 7));
        b.chip.key(0x1e, true);
        b.chip.key(0x1e, false);
        assert_eq!(b.drain(), [0x1c, 0xf0, 0x1c], "set 2, as sent");
        b.command(0x60);
        b.write(0x41);
        let rises = b.kbd.rises();
        b.chip.key(0xe048, true);
        b.chip.key(0xe048, false);
        assert_eq!(b.drain(), [0xe0, 0x48, 0xe0, 0xc8]);
        assert_eq!(b.kbd.rises() - rises, 4, "one edge per byte");
    }

    #[test]
    fn every_set_1_key_survives_translation() {
        let mut b = Bench::new();
        b.command(0x60);
        b.write(0x40);
        for code in (1..=0x58).filter(|c| !(0x55..=0x56).contains(c)) {
            b.chip.key(code, true);
            assert_eq!(b.drain(), [u64::from(code)]);
        }
    }

    #[test]
    fn mouse_packets_and_wheel() {
        let mut b = Bench::new();
        let tell = |b: &mut Bench, value| {
            b.command(0xd4);
            b.write(value);
            b.drain()
        };
        assert_eq!(tell(&mut b, 0xff), [0xfa, 0xaa, 0]);
        assert_eq!(tell(&mut b, 0xf2), [0xfa, 0]);
        assert_eq!(tell(&mut b, 0xf4), [0xfa]);
        b.chip.mouse(-3, 5, 0, 1);
        assert!(b.aux.level());
        assert_eq!(b.drain(), [0x19, 0xfd, 5]);
        for rate in [200, 100, 80] {
            tell(&mut b, 0xf3);
            tell(&mut b, rate);
        }
        assert_eq!(tell(&mut b, 0xf2), [0xfa, 3]);
        b.chip.mouse(0, 0, -1, 0);
        assert_eq!(b.drain(), [8, 0, 0, 0xff]);
        for rate in [200, 200, 80] {
            tell(&mut b, 0xf3);
            tell(&mut b, rate);
        }
        assert_eq!(tell(&mut b, 0xf2), [0xfa, 4]);
        b.chip.mouse(0, 0, -1, 0x10);
        assert_eq!(b.drain(), [8, 0, 0, 0x2f]);
    }

    #[test]
    fn loop_back_bytes_and_disabled_ports() {
        let mut b = Bench::new();
        b.command(0xd3);
        b.write(0x42);
        assert_eq!(b.chip.port_read(1, Size::B1) & 0x21, 0x21);
        assert!(b.aux.level());
        assert_eq!(b.drain(), [0x42]);
        b.command(0xd2);
        b.write(0x43);
        assert!(b.kbd.level());
        assert_eq!(b.drain(), [0x43]);
        b.command(0xad);
        b.chip.key(0x1e, true);
        assert!(b.drain().is_empty(), "the keyboard's clock is held");
        b.command(0xae);
        assert_eq!(b.drain(), [0x1c]);
        b.command(0xd0);
        assert_eq!(b.drain(), [0xcf], "output port as it was before the byte came");
    }

    #[test]
    fn scan_code_sets_and_echo() {
        let mut b = Bench::new();
        for value in [0xee, 0xf0, 1, 0xf0, 0] {
            b.write(value);
        }
        assert_eq!(b.drain(), [0xee, 0xfa, 0xfa, 0xfa, 0xfa, 1]);
        b.write(0xf5);
        assert_eq!(b.drain(), [0xfa]);
        b.chip.key(0x1e, true);
        assert!(b.drain().is_empty(), "scanning is off");
        for value in [0xf4, 0xf0, 1] {
            b.write(value);
        }
        b.drain();
        b.chip.key(0xe01d, false);
        assert_eq!(b.drain(), [0xe0, 0x9d]);
        b.write(0xf0);
        b.write(9);
        assert_eq!(b.drain(), [0xfa, 0xfe]);
    }

    #[test]
    fn a_flood_is_bounded() {
        let mut b = Bench::new();
        for _ in 0..1000 {
            b.chip.key(0xe048, true);
            b.write(0xf2);
            b.command(0xd4);
            b.write(0xeb);
        }
        assert!(b.drain().len() < 100);
        let saved = b.chip.save();
        b.chip.load(&saved).unwrap();
    }
}
