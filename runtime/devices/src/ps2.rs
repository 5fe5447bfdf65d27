//! The devices at the far end of the keyboard controller's two ports: keyboard and mouse.
//!
//! Sources: IBM PS/2 Hardware Interface Technical Reference, "Keyboard" and "Mouse"; Microsoft's
//! IntelliMouse notes for the wheel and the side buttons. Both queue at most a device buffer's worth of bytes.

use std::collections::VecDeque;

use crate::state::{StateError, ensure};
use crate::state_fields;

/// Bytes a device buffers before it drops events.
const QUEUE_LEN: usize = 32;
const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const SELF_TEST_OK: u8 = 0xaa;
const ID_PLAIN: u8 = 0;
const ID_WHEEL: u8 = 3;
const ID_EXPLORER: u8 = 4;

/// The controller's translation of scan code set 2 to set 1 ("8042 scan code table").
pub(crate) const SET2_TO_SET1: [u8; 0x85] = [
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
    0x80, 0x81, 0x82, 0x41, 0x54,
];

/// The set 2 code of a set 1 make code, if a key has it.
fn set2_of(set1: u8) -> Option<u8> {
    match set1 {
        // Two set 2 codes translate to these; the keys send the upper ones.
        0x41 => Some(0x83),
        0x54 => Some(0x84),
        _ => SET2_TO_SET1.iter().position(|&code| code == set1).map(|i| i as u8),
    }
}

/// The keyboard. Keys are named by their set 1 make code, with 0xE000 added for extended keys.
#[derive(Debug)]
pub struct Keyboard {
    queue: VecDeque<u8>,
    /// A command that waits for its argument byte; 0 is none.
    command: u8,
    enabled: bool,
    /// Scan code set in use: 1 or 2.
    set: u8,
    leds: u8,
    last_sent: u8,
}

state_fields!(Keyboard, 1, [queue, command, enabled, set, leds, last_sent]);

impl Default for Keyboard {
    fn default() -> Self {
        Self { queue: VecDeque::new(), command: 0, enabled: true, set: 2, leds: 0, last_sent: 0 }
    }
}

impl Keyboard {
    fn check_state(&mut self) -> Result<(), StateError> {
        ensure(self.queue.len() <= QUEUE_LEN + 8 && matches!(self.set, 1 | 2), "keyboard")
    }

    /// Presses or releases a key; false if the buffer is full and the event was dropped.
    pub fn key(&mut self, code: u16, down: bool) -> bool {
        if !self.enabled {
            return true;
        }
        let make = code as u8 & 0x7f;
        let mut bytes = Vec::with_capacity(3);
        if code >> 8 == 0xe0 {
            bytes.push(0xe0);
        }
        match self.set {
            1 => bytes.push(make | if down { 0 } else { 0x80 }),
            _ => {
                let Some(code) = set2_of(make) else { return true };
                if !down {
                    bytes.push(0xf0);
                }
                bytes.push(code);
            }
        }
        if self.queue.len() + bytes.len() > QUEUE_LEN {
            return false;
        }
        self.queue.extend(bytes);
        true
    }

    /// Lit lamps: bit 0 scroll lock, 1 num lock, 2 caps lock.
    pub fn leds(&self) -> u8 {
        self.leds
    }

    /// The next byte for the controller.
    pub(crate) fn pop(&mut self) -> Option<u8> {
        let byte = self.queue.pop_front()?;
        self.last_sent = byte;
        Some(byte)
    }

    /// A byte from the controller.
    pub(crate) fn write(&mut self, value: u8) {
        match std::mem::take(&mut self.command) {
            0 => self.start_command(value),
            _ if value >= 0xed => self.start_command(value),
            0xed => {
                self.leds = value & 7;
                self.reply(&[ACK]);
            }
            0xf0 => self.scan_code_set(value),
            _ => self.reply(&[ACK]),
        }
    }

    fn scan_code_set(&mut self, value: u8) {
        match value {
            0 => self.reply(&[ACK, self.set]),
            1 | 2 => {
                self.set = value;
                self.reply(&[ACK]);
            }
            _ => self.reply(&[RESEND]),
        }
    }

    fn start_command(&mut self, value: u8) {
        match value {
            0xed | 0xf0 | 0xf3 => {
                self.command = value;
                self.reply(&[ACK]);
            }
            0xee => self.reply(&[0xee]),
            // With translation on, the second ID byte reaches the host as 41h.
            0xf2 => self.reply(&[ACK, 0xab, 0x83]),
            0xf4..=0xf6 => {
                self.defaults();
                self.enabled = value != 0xf5;
                self.reply(&[ACK]);
            }
            // Make/break modes exist for set 3 only: acknowledged.
            0xf7..=0xfa => self.reply(&[ACK]),
            0xfe => self.reply(&[self.last_sent]),
            0xff => {
                self.defaults();
                self.enabled = true;
                self.reply(&[ACK, SELF_TEST_OK]);
            }
            _ => self.reply(&[RESEND]),
        }
    }

    fn defaults(&mut self) {
        self.queue.clear();
        self.set = 2;
        self.leds = 0;
    }

    fn reply(&mut self, bytes: &[u8]) {
        reply(&mut self.queue, bytes);
    }
}

/// Queues a reply; there is always room for a few, as events leave eight bytes free.
fn reply(queue: &mut VecDeque<u8>, bytes: &[u8]) {
    if queue.len() + bytes.len() <= QUEUE_LEN + 8 {
        queue.extend(bytes);
    }
}

/// The mouse: three buttons, and a wheel once the host has knocked.
#[derive(Debug)]
pub struct Mouse {
    queue: VecDeque<u8>,
    command: u8,
    enabled: bool,
    remote: bool,
    wrap: bool,
    scaling: bool,
    resolution: u8,
    rate: u8,
    buttons: u8,
    /// The last three sample rates: 200, 100, 80 switches the wheel on, 200, 200, 80 then two more buttons.
    knock: [u8; 3],
    /// What the mouse says it is.
    id: u8,
}

state_fields!(
    Mouse,
    2,
    [queue, command, enabled, remote, wrap, scaling, resolution, rate, buttons, knock, id,]
);

impl Default for Mouse {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            command: 0,
            enabled: false,
            remote: false,
            wrap: false,
            scaling: false,
            resolution: 2,
            rate: 100,
            buttons: 0,
            knock: [0; 3],
            id: ID_PLAIN,
        }
    }
}

impl Mouse {
    fn check_state(&mut self) -> Result<(), StateError> {
        let is_known = matches!(self.id, ID_PLAIN | ID_WHEEL | ID_EXPLORER);
        ensure(self.queue.len() <= QUEUE_LEN + 8 && is_known, "mouse")
    }

    /// Moves the mouse (right and up are positive), turns the wheel and sets the buttons (bit 0
    /// left, 1 right, 2 middle, 3 and 4 on the sides). Dropped when reporting is off or the buffer is full.
    pub fn event(&mut self, dx: i16, dy: i16, wheel: i8, buttons: u8) {
        self.buttons = buttons & 0x1f;
        if self.enabled && !self.remote && !self.wrap && self.queue.len() + 4 <= QUEUE_LEN {
            self.packet(dx, dy, wheel);
        }
    }

    fn packet(&mut self, dx: i16, dy: i16, wheel: i8) {
        let (dx, dy) = (dx.clamp(-256, 255), dy.clamp(-256, 255));
        let signs = u8::from(dx < 0) << 4 | u8::from(dy < 0) << 5;
        self.queue.extend([8 | self.buttons & 7 | signs, dx as u8, dy as u8]);
        let wheel = wheel.clamp(-8, 7) as u8;
        match self.id {
            ID_WHEEL => self.queue.push_back(wheel),
            ID_EXPLORER => self.queue.push_back(wheel & 0x0f | self.buttons << 1 & 0x30),
            _ => {}
        }
    }

    pub(crate) fn pop(&mut self) -> Option<u8> {
        self.queue.pop_front()
    }

    pub(crate) fn write(&mut self, value: u8) {
        if self.wrap && !matches!(value, 0xec | 0xff) {
            return reply(&mut self.queue, &[value]);
        }
        match std::mem::take(&mut self.command) {
            0xe8 => {
                self.resolution = value & 3;
                reply(&mut self.queue, &[ACK]);
            }
            0xf3 => {
                self.rate = value;
                self.knock = [self.knock[1], self.knock[2], value];
                self.id = match (self.knock, self.id) {
                    ([200, 100, 80], ID_PLAIN) => ID_WHEEL,
                    ([200, 200, 80], ID_WHEEL) => ID_EXPLORER,
                    (_, id) => id,
                };
                reply(&mut self.queue, &[ACK]);
            }
            _ => self.start_command(value),
        }
    }

    fn start_command(&mut self, value: u8) {
        let mut answer = ACK;
        match value {
            0xe6 | 0xe7 => self.scaling = value == 0xe7,
            0xe8 | 0xf3 => self.command = value,
            0xe9 => {
                let status = u8::from(self.remote) << 6
                    | u8::from(self.enabled) << 5
                    | u8::from(self.scaling) << 4
                    | (self.buttons & 1) << 2
                    | (self.buttons & 6) >> 1;
                return reply(&mut self.queue, &[ACK, status, self.resolution, self.rate]);
            }
            0xea | 0xf0 => self.remote = value == 0xf0,
            0xeb => {
                reply(&mut self.queue, &[ACK]);
                return self.packet_if_room();
            }
            0xec | 0xee => self.wrap = value == 0xee,
            0xf2 => return reply(&mut self.queue, &[ACK, self.id]),
            0xf4 | 0xf5 => self.enabled = value == 0xf4,
            0xf6 => *self = Self { id: self.id, buttons: self.buttons, ..Self::default() },
            0xff => {
                *self = Self::default();
                return reply(&mut self.queue, &[ACK, SELF_TEST_OK, 0]);
            }
            _ => answer = RESEND,
        }
        reply(&mut self.queue, &[answer]);
    }

    fn packet_if_room(&mut self) {
        if self.queue.len() + 4 <= QUEUE_LEN + 8 {
            self.packet(0, 0, 0);
        }
    }
}
