//! fw_cfg: how the machine hands firmware its configuration, by key and by file name.
//!
//! Source: QEMU's interface specification "fw_cfg" (the text, not its code). Items are bytes; a
//! selected item is read from its start, and reads beyond its end give zero.

use std::sync::Arc;

use mem::{Phys, PortDevice, Size};

use crate::state::{StateError, ensure};
use crate::{BusMaster, state_fields};

const KEY_SIGNATURE: u16 = 0x00;
const KEY_ID: u16 = 0x01;
/// RAM below and above 4 GiB in all, 8 bytes.
pub const KEY_RAM_SIZE: u16 = 0x03;
/// Is there no graphics display? 2 bytes.
pub const KEY_NOGRAPHIC: u16 = 0x04;
/// CPUs present, 2 bytes.
pub const KEY_NB_CPUS: u16 = 0x05;
/// Show a boot menu? 2 bytes.
pub const KEY_BOOT_MENU: u16 = 0x0e;
/// Most CPUs there can be, 2 bytes.
pub const KEY_MAX_CPUS: u16 = 0x0f;
/// x86: interrupt 0 is at input 2 of the IOAPIC.
pub const KEY_IRQ0_OVERRIDE: u16 = 0x8002;
const KEY_FILE_DIR: u16 = 0x19;
const KEY_FILE_FIRST: u16 = 0x20;

/// Both interfaces are there: the ports and DMA.
const ID_TRADITIONAL_AND_DMA: u32 = 3;
const DMA_SIGNATURE: u64 = 0x5145_4d55_2043_4647;
const DMA_ERROR: u32 = 1;
const DMA_READ: u32 = 2;
const DMA_SKIP: u32 = 4;
const DMA_SELECT: u32 = 8;
const DMA_WRITE: u32 = 16;

/// Bytes of a file name in the directory, with its terminating zero.
const NAME_LEN: usize = 56;
/// The most DMA bytes served per command; the rest reads as an error.
const DMA_MAX: u32 = 1 << 28;

/// The device. Port offset 0 is the selector, 1 the data, 4–11 the DMA address (big endian).
pub struct FwCfg {
    items: Vec<(u16, Arc<Vec<u8>>)>,
    files: Vec<String>,
    selected: u16,
    offset: u32,
    dma_address: u64,
    dma: BusMaster,
}

state_fields!(FwCfg, 1, [selected, offset, dma_address]);

impl FwCfg {
    /// A device with no more than the items that say what it is.
    pub fn new(dma: BusMaster) -> Self {
        let mut cfg = Self {
            items: Vec::new(),
            files: Vec::new(),
            selected: 0,
            offset: 0,
            dma_address: 0,
            dma,
        };
        cfg.set_item(KEY_SIGNATURE, b"QEMU".to_vec());
        cfg.set_item(KEY_ID, ID_TRADITIONAL_AND_DMA.to_le_bytes().to_vec());
        cfg.set_item(KEY_FILE_DIR, 0u32.to_be_bytes().to_vec());
        cfg
    }

    /// Back to power-on; the items stay.
    pub fn reset(&mut self) {
        (self.selected, self.offset, self.dma_address) = (0, 0, 0);
    }

    fn check_state(&mut self) -> Result<(), StateError> {
        ensure(self.files.len() < 0x1000, "firmware configuration")
    }

    /// Sets the bytes of a key.
    pub fn set_item(&mut self, key: u16, bytes: impl Into<Arc<Vec<u8>>>) {
        let bytes = bytes.into();
        match self.items.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => *old = bytes,
            None => self.items.push((key, bytes)),
        }
    }

    /// Adds a named file, or replaces it. Names longer than 55 bytes are cut.
    pub fn add_file(&mut self, name: &str, bytes: impl Into<Arc<Vec<u8>>>) {
        let index = match self.files.iter().position(|file| file == name) {
            Some(index) => index,
            None => {
                self.files.push(name.to_owned());
                self.files.len() - 1
            }
        };
        self.set_item(KEY_FILE_FIRST.wrapping_add(index as u16), bytes);
        self.rebuild_directory();
    }

    fn rebuild_directory(&mut self) {
        // Firmware may search by halves: the directory is sorted by name.
        let mut order: Vec<usize> = (0..self.files.len()).collect();
        order.sort_by(|&a, &b| self.files[a].cmp(&self.files[b]));
        let mut directory = (self.files.len() as u32).to_be_bytes().to_vec();
        for index in order {
            let key = KEY_FILE_FIRST.wrapping_add(index as u16);
            directory.extend((self.item(key).len() as u32).to_be_bytes());
            directory.extend(key.to_be_bytes());
            directory.extend([0; 2]);
            let mut name = [0; NAME_LEN];
            let bytes = self.files[index].as_bytes();
            let n = bytes.len().min(NAME_LEN - 1);
            name[..n].copy_from_slice(&bytes[..n]);
            directory.extend(name);
        }
        self.set_item(KEY_FILE_DIR, directory);
    }

    fn item(&self, key: u16) -> &[u8] {
        self.items.iter().find(|(k, _)| *k == key).map_or(&[], |(_, bytes)| bytes)
    }

    fn select(&mut self, key: u16) {
        self.selected = key;
        self.offset = 0;
    }

    /// The next data byte.
    fn next_byte(&mut self) -> u8 {
        let byte = self.item(self.selected).get(self.offset as usize).copied().unwrap_or(0);
        self.offset = self.offset.saturating_add(1);
        byte
    }

    /// Executes the DMA command at the address given.
    fn run_dma(&mut self) {
        let at = Phys(std::mem::take(&mut self.dma_address));
        let mut command = [0; 16];
        self.dma.read(at, &mut command);
        let field = |i: usize| {
            command[i..].first_chunk().map_or(0, |bytes: &[u8; 4]| u32::from_be_bytes(*bytes))
        };
        let (control, length) = (field(0), field(4));
        let target = u64::from(field(8)) << 32 | u64::from(field(12));
        if control & DMA_SELECT != 0 {
            self.select((control >> 16) as u16);
        }
        let refused = control & DMA_WRITE != 0 || length > DMA_MAX;
        if !refused {
            if control & DMA_READ != 0 {
                self.dma_read(Phys(target), length);
            }
            if control & (DMA_READ | DMA_SKIP) != 0 {
                self.offset = self.offset.saturating_add(length);
            }
        }
        let result = if refused { DMA_ERROR } else { 0 };
        self.dma.write(at, &result.to_be_bytes());
    }

    fn dma_read(&self, target: Phys, length: u32) {
        let item = self.item(self.selected);
        let rest = item.get(self.offset as usize..).unwrap_or(&[]);
        let n = rest.len().min(length as usize);
        self.dma.write(target, &rest[..n]);
        let zeros = [0; 4096];
        let mut done = n as u64;
        while done < u64::from(length) {
            let n = (u64::from(length) - done).min(zeros.len() as u64);
            self.dma.write(target.add(done), &zeros[..n as usize]);
            done += n;
        }
    }
}

impl PortDevice for FwCfg {
    fn port_read(&mut self, offset: u16, size: Size) -> u64 {
        match offset {
            0 => u64::from(self.selected),
            1 => u64::from(self.next_byte()),
            4..=11 => {
                let bytes = DMA_SIGNATURE.to_be_bytes();
                let start = usize::from(offset - 4);
                let mut value = [0; 8];
                for (out, byte) in value.iter_mut().zip(&bytes[start..]).take(size.bytes() as usize)
                {
                    *out = *byte;
                }
                u64::from_le_bytes(value)
            }
            _ => 0xff,
        }
    }

    fn port_write(&mut self, offset: u16, size: Size, value: u64) {
        match (offset, size) {
            (0, Size::B2) => self.select(value as u16),
            (4, Size::B4) => {
                let high = u64::from((value as u32).swap_bytes()) << 32;
                self.dma_address = self.dma_address & 0xffff_ffff | high;
            }
            (8, Size::B4) => {
                let low = u64::from((value as u32).swap_bytes());
                self.dma_address = self.dma_address & !0xffff_ffff | low;
                self.run_dma();
            }
            (4, Size::B8) => {
                self.dma_address = value.swap_bytes();
                self.run_dma();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeDma;

    fn read(cfg: &mut FwCfg, n: usize) -> Vec<u8> {
        (0..n).map(|_| cfg.port_read(1, Size::B1) as u8).collect()
    }

    #[test]
    fn signature_items_and_directory() {
        let mut cfg = FwCfg::new(FakeDma::new().boxed());
        assert_eq!(read(&mut cfg, 6), b"QEMU\0\0");
        cfg.add_file("etc/z", vec![1, 2, 3]);
        cfg.add_file("etc/a", vec![9]);
        cfg.port_write(0, Size::B2, KEY_FILE_DIR.into());
        let dir = read(&mut cfg, 4 + 128);
        assert_eq!(&dir[..4], [0, 0, 0, 2]);
        assert_eq!(&dir[4..18], b"\0\0\0\x01\0\x21\0\0etc/a\0");
        cfg.port_write(0, Size::B2, 0x20);
        assert_eq!(read(&mut cfg, 4), [1, 2, 3, 0]);
        cfg.port_write(0, Size::B2, 0x7777);
        assert_eq!(read(&mut cfg, 2), [0, 0]);
    }

    #[test]
    fn dma_select_read_and_refused_write() {
        let dma = FakeDma::new();
        let mut cfg = FwCfg::new(dma.boxed());
        assert_eq!(cfg.port_read(4, Size::B4), u64::from(u32::from_le_bytes(*b"QEMU")));
        assert_eq!(cfg.port_read(8, Size::B4), u64::from(u32::from_le_bytes(*b" CFG")));
        cfg.add_file("f", (1..=10).collect::<Vec<u8>>());
        let mut command = 0x0020_000au32.to_be_bytes().to_vec();
        command.extend(12u32.to_be_bytes());
        command.extend(0x200u64.to_be_bytes());
        dma.poke(0x100, &command);
        dma.poke(0x200, &[0xee; 12]);
        cfg.port_write(8, Size::B4, 0x100u32.swap_bytes().into());
        assert_eq!(dma.peek(0x100, 4), [0; 4]);
        assert_eq!(dma.peek(0x200, 12), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0]);
        dma.poke(0x100, &0x0020_0018u32.to_be_bytes());
        cfg.port_write(8, Size::B4, 0x100u32.swap_bytes().into());
        assert_eq!(dma.peek(0x100, 4), [0, 0, 0, 1]);
    }
}
