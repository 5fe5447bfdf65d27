//! Cables of network cards.
//!
//! A socket carries frames as QEMU's `-netdev socket` does: each behind its length, four bytes, most
//! significant first. The far end of a socket is a line like any other; the peer is untrusted.

use devices::virtio::{FRAME_MAX, NetBackend};

use crate::console::{Front, Received};
use devices::chardev::CharBackend;

/// Bytes of the length before a frame.
const LENGTH: usize = 4;

/// A cable through a stream socket.
pub(super) struct SocketCable {
    front: Front,
    /// What has come of the next length and frame.
    partial: Vec<u8>,
    /// The peer sent a length that cannot be: it is heard no more until another one connects.
    is_lost: bool,
}

impl SocketCable {
    /// A cable on `front`, which must be a monitor's: they are told of new peers.
    pub(super) fn new(front: Front) -> Self {
        Self { front, partial: Vec::new(), is_lost: false }
    }

    /// The length of the frame that has begun.
    fn length(&self) -> Option<usize> {
        let length = self.partial.first_chunk::<LENGTH>()?;
        usize::try_from(u32::from_be_bytes(*length)).ok()
    }
}

impl NetBackend for SocketCable {
    fn send(&mut self, frame: &[u8]) {
        if !self.front.has_room() {
            return; // lost, as on a busy Ethernet
        }
        let mut packet = (frame.len() as u32).to_be_bytes().to_vec();
        packet.extend_from_slice(frame);
        self.front.write(&packet);
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        while let Some(item) = self.front.receive() {
            match item {
                Received::Opened => {
                    self.partial.clear();
                    self.is_lost = false;
                }
                Received::Byte(byte) if !self.is_lost => self.partial.push(byte),
                Received::Byte(_) | Received::Break => continue,
            }
            match self.length() {
                Some(length) if length > FRAME_MAX => {
                    log::warn!("a network peer sends nonsense: it is not listened to any more");
                    self.is_lost = true;
                    self.partial.clear();
                }
                Some(length) if self.partial.len() == LENGTH + length => {
                    let frame = self.partial.split_off(LENGTH);
                    self.partial.clear();
                    return Some(frame);
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Line;

    fn feed(line: &Line, bytes: &[u8]) {
        let items: Vec<_> = bytes.iter().map(|&byte| Received::Byte(byte)).collect();
        assert!(line.feed(&items, || true));
    }

    #[test]
    fn frames_come_whole_and_nonsense_ends_at_the_next_peer() {
        let line = Line::new("net0", false);
        let mut cable = SocketCable::new(line.front(true));
        line.set_peer(true);
        feed(&line, &[0, 0, 0, 3, 1, 2]);
        assert_eq!(cable.receive(), None);
        feed(&line, &[3, 0, 0, 0, 1, 9]);
        assert_eq!((cable.receive(), cable.receive()), (Some(vec![1, 2, 3]), Some(vec![9])));
        // Half a frame, then another peer.
        feed(&line, &[0, 0, 0, 9, 7]);
        assert_eq!(cable.receive(), None);
        line.set_peer(false);
        line.set_peer(true);
        feed(&line, &[0xff, 0, 0, 0, 0, 0, 0, 1, 5]);
        assert_eq!(cable.receive(), None);
        line.set_peer(false);
        line.set_peer(true);
        feed(&line, &[0, 0, 0, 1, 5]);
        assert_eq!(cable.receive(), Some(vec![5]));
    }
}
