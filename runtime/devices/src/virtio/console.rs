//! The console device: a virtual console and named byte channels.
//!
//! Source: VIRTIO 1.2, 5.3 "Console Device". Queues 0 and 1 are port 0's, 2 and 3 carry control
//! messages, from 4 on there are two for each further port. A driver that does not take
//! `F_MULTIPORT` sees port 0 alone. Input waits at the far end until the guest has given buffers
//! for it and, with several ports, has opened the port.

use std::collections::VecDeque;

use super::{Chain, Kind, Nonsense, VirtioDevice};
use crate::StateError;
use crate::chardev::CharBackend;
use crate::state::{Field, ensure};

/// Most ports of a device.
pub const PORTS_MAX: usize = 16;

// Features.
const F_MULTIPORT: u64 = 1 << 1;
const F_EMERG_WRITE: u64 = 1 << 2;

/// The control queues: to the driver, and from it.
const CONTROL_IN: usize = 2;
const CONTROL_OUT: usize = 3;
/// Entries of each queue.
const QUEUE_SIZE: u16 = 128;
const QUEUES: [u16; 2 * PORTS_MAX + 2] = [QUEUE_SIZE; 2 * PORTS_MAX + 2];
/// Where in the configuration a driver writes a character before it has queues.
const EMERG_WRITE: u16 = 8;
/// Bytes of a control message, but for a name.
const MESSAGE_BYTES: usize = 8;
/// Most control messages that wait for the driver; it asks for them, so more come of nonsense only.
const MESSAGES_MAX: usize = 4 * PORTS_MAX;
/// Bytes moved at a time.
const STEP: usize = 4096;

// Events of control messages.
const DEVICE_READY: u16 = 0;
const DEVICE_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const CONSOLE_PORT: u16 = 4;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// A port and its far end.
pub struct ConsolePort {
    /// The far end.
    pub far: Box<dyn CharBackend>,
    /// The name the guest sees; a guest's udev makes links of it.
    pub name: String,
    /// Is it a console (`hvc0`), or a channel for programs (`vport0p1`)?
    pub is_console: bool,
}

/// The device.
pub struct VirtioConsole {
    ports: Vec<Option<ConsolePort>>,
    /// The ports the guest has opened.
    opened: u32,
    /// Control messages for the driver.
    messages: VecDeque<Vec<u8>>,
    features: u64,
}

impl VirtioConsole {
    /// A device with these ports, by their numbers; port 0 is a console, or absent. What is beyond
    /// [`PORTS_MAX`] is not there.
    pub fn new(mut ports: Vec<Option<ConsolePort>>) -> Self {
        ports.truncate(PORTS_MAX);
        if ports.is_empty() {
            ports.push(None);
        }
        Self { ports, opened: 0, messages: VecDeque::new(), features: 0 }
    }

    fn has_ports(&self) -> bool {
        self.features & F_MULTIPORT != 0
    }

    fn port(&mut self, id: usize) -> Option<&mut ConsolePort> {
        self.ports.get_mut(id)?.as_mut()
    }

    fn say(&mut self, id: u32, event: u16, value: u16, name: &str) {
        if self.messages.len() >= MESSAGES_MAX {
            return;
        }
        let mut message = id.to_le_bytes().to_vec();
        message.extend(event.to_le_bytes());
        message.extend(value.to_le_bytes());
        message.extend(name.as_bytes());
        self.messages.push_back(message);
    }

    /// The driver says something about a port, or about itself.
    fn control(&mut self, id: u32, event: u16, value: u16) {
        match event {
            DEVICE_READY if value != 0 => {
                for id in 0..self.ports.len() {
                    if self.port(id).is_some() {
                        self.say(id as u32, DEVICE_ADD, 1, "");
                    }
                }
            }
            PORT_READY if value != 0 => {
                let Some(port) = self.port(id as usize) else { return };
                let (is_console, name) = (port.is_console, port.name.clone());
                if is_console {
                    self.say(id, CONSOLE_PORT, 1, "");
                }
                if !name.is_empty() {
                    self.say(id, PORT_NAME, 1, &name);
                }
                // The far end is there: whether somebody listens is not the guest's affair.
                self.say(id, PORT_OPEN, 1, "");
            }
            PORT_OPEN if (id as usize) < self.ports.len() => {
                let bit = 1 << id;
                self.opened = if value != 0 { self.opened | bit } else { self.opened & !bit };
            }
            _ => {}
        }
    }

    /// Gives the driver what the far end of a port has sent.
    fn receive(&mut self, id: usize, chain: &mut Chain<'_>) -> bool {
        let is_open = !self.has_ports() || self.opened >> id & 1 != 0;
        let room = chain.writable().min(STEP as u64) as usize;
        let Some(port) = self.port(id).filter(|_| is_open) else { return false };
        let bytes: Vec<u8> = std::iter::from_fn(|| port.far.read()).take(room).collect();
        !bytes.is_empty() && chain.write(&bytes)
    }

    /// Takes what the driver sends to a port. What is sent to none is lost.
    fn transmit(&mut self, id: usize, chain: &mut Chain<'_>) -> bool {
        let Some(port) = self.port(id) else { return true };
        if !port.far.has_room() {
            return false;
        }
        let mut left = chain.readable();
        let mut bytes = [0; STEP];
        while left > 0 {
            let part = &mut bytes[..left.min(STEP as u64) as usize];
            if !chain.read(part) {
                break;
            }
            port.far.write(part);
            left -= part.len() as u64;
        }
        true
    }
}

impl VirtioDevice for VirtioConsole {
    fn kind(&self) -> Kind {
        let queues = &QUEUES[..2 * self.ports.len() + 2];
        Kind { id: 3, device: 0x1003, class: 0x07_8000, queues }
    }

    fn features(&self) -> u64 {
        F_MULTIPORT | F_EMERG_WRITE
    }

    fn set_features(&mut self, features: u64) {
        self.features = features;
    }

    fn config_read(&self, at: u16) -> u8 {
        // Columns and rows are not known; then the number of ports.
        let ports = (self.ports.len() as u32).to_le_bytes();
        at.checked_sub(4).and_then(|at| ports.get(usize::from(at))).copied().unwrap_or(0)
    }

    fn config_write(&mut self, at: u16, value: u8) {
        if at == EMERG_WRITE
            && let Some(port) = self.port(0)
        {
            port.far.write(&[value]);
        }
    }

    fn serve(&mut self, queue: usize, chain: &mut Chain<'_>) -> Result<bool, Nonsense> {
        match queue {
            CONTROL_IN => {
                let Some(message) = self.messages.front() else { return Ok(false) };
                if chain.writable() < message.len() as u64 {
                    return Err(Nonsense);
                }
                chain.write(message);
                self.messages.pop_front();
            }
            CONTROL_OUT => {
                let mut message = [0; MESSAGE_BYTES];
                if !chain.read(&mut message) {
                    return Err(Nonsense);
                }
                let [a, b, c, d, e0, e1, v0, v1] = message;
                let id = u32::from_le_bytes([a, b, c, d]);
                self.control(id, u16::from_le_bytes([e0, e1]), u16::from_le_bytes([v0, v1]));
            }
            _ => {
                let id = if queue < CONTROL_IN { 0 } else { queue / 2 - 1 };
                return Ok(match queue % 2 {
                    0 => self.receive(id, chain),
                    _ => self.transmit(id, chain),
                });
            }
        }
        Ok(true)
    }

    fn wakes_others(&self, queue: usize) -> bool {
        queue == CONTROL_OUT
    }

    fn reset(&mut self) {
        self.opened = 0;
        self.messages.clear();
        self.features = 0;
    }

    fn save(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.opened.put(&mut out);
        (self.messages.len() as u32).put(&mut out);
        self.messages.iter().for_each(|message| message.put(&mut out));
        out
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let input = &mut &*bytes;
        self.opened.take(input)?;
        let mut count = 0u32;
        count.take(input)?;
        ensure(count as usize <= MESSAGES_MAX, "a virtio console")?;
        self.messages.clear();
        for _ in 0..count {
            let mut message = Vec::new();
            message.take(input)?;
            ensure(message.len() <= 64 + MESSAGE_BYTES, "a virtio console")?;
            self.messages.push_back(message);
        }
        ensure(input.is_empty(), "a virtio console")
    }
}
