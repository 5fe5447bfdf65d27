//! The processor as gdb sees it: always the 64-bit layout, so that it never has to be told of a mode.
//!
//! [`TABLE`] and `target.xml` list the same registers in the same order.

use std::num::NonZeroUsize;

use gdbstub::arch::{Arch, RegId, Registers};
use x86::registers::Register;

/// x86-64, with segment bases and control registers.
#[derive(Debug)]
pub enum X86 {}

impl Arch for X86 {
    type Usize = u64;
    type Registers = All;
    type BreakpointKind = usize;
    type RegId = Id;

    fn target_description_xml() -> Option<&'static str> {
        Some(include_str!("target.xml"))
    }
}

/// Each register and its bytes.
pub(super) const TABLE: [(Register, usize); 66] = {
    use Register::{
        Cr, Eflags, Fcw, FpuCs, FpuDp, FpuDs, FpuIp, FpuOp, Fsw, Ftw, Gpr, Pc, Segment, St, Xmm,
    };
    const fn row(register: Register, bytes: usize) -> (Register, usize) {
        (register, bytes)
    }
    let mut table = [row(Pc, 8); 66];
    let general = [0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut n = 0;
    while n < 16 {
        table[n] = row(Gpr(general[n]), 8);
        table[40 + n] = row(Xmm(n as u8), 16);
        n += 1;
    }
    table[17] = row(Eflags, 4);
    let segments = [1, 2, 3, 0, 4, 5];
    n = 0;
    while n < 6 {
        table[18 + n] = row(Segment(segments[n]), 4);
        n += 1;
    }
    let words = [Fcw, Fsw, Ftw, FpuCs, FpuIp, FpuDs, FpuDp, FpuOp];
    n = 0;
    while n < 8 {
        table[24 + n] = row(St(n as u8), 10);
        table[32 + n] = row(words[n], 4);
        n += 1;
    }
    table[56] = row(Register::Mxcsr, 4);
    table[57] = row(Register::FsBase, 8);
    table[58] = row(Register::GsBase, 8);
    table[59] = row(Register::KernelGsBase, 8);
    let control = [0, 2, 3, 4, 8];
    n = 0;
    while n < 5 {
        table[60 + n] = row(Cr(control[n]), 8);
        n += 1;
    }
    table[65] = row(Register::Efer, 8);
    table
};

/// A register by gdb's number.
#[derive(Clone, Copy, Debug)]
pub struct Id(pub(super) usize);

impl RegId for Id {
    fn from_raw_id(id: usize) -> Option<(Self, Option<NonZeroUsize>)> {
        let (_, bytes) = TABLE.get(id)?;
        Some((Self(id), NonZeroUsize::new(*bytes)))
    }
}

/// All registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct All(pub(super) [u128; TABLE.len()]);

impl Default for All {
    fn default() -> Self {
        Self([0; TABLE.len()])
    }
}

/// Where the instruction pointer stands.
pub(super) const PC: usize = 16;

impl Registers for All {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        self.0[PC] as u64
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        for (value, (_, bytes)) in self.0.iter().zip(TABLE) {
            value.to_le_bytes()[..bytes].iter().for_each(|&byte| write_byte(Some(byte)));
        }
    }

    fn gdb_deserialize(&mut self, mut bytes: &[u8]) -> Result<(), ()> {
        for (value, (_, len)) in self.0.iter_mut().zip(TABLE) {
            let (own, rest) = bytes.split_at_checked(len).ok_or(())?;
            *value = number(own);
            bytes = rest;
        }
        Ok(())
    }
}

/// Bytes in the guest's order as a number.
pub(super) fn number(bytes: &[u8]) -> u128 {
    let mut wide = [0; 16];
    let n = bytes.len().min(wide.len());
    wide[..n].copy_from_slice(&bytes[..n]);
    u128::from_le_bytes(wide)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_lists_the_table() {
        let xml = X86::target_description_xml().unwrap();
        let rows: Vec<(&str, usize)> = xml
            .lines()
            .filter_map(|line| line.trim().strip_prefix("<reg name=\""))
            .map(|rest| {
                let (name, rest) = rest.split_once('"').unwrap();
                let bits = rest.split_once("bitsize=\"").unwrap().1.split_once('"').unwrap().0;
                (name, bits.parse::<usize>().unwrap() / 8)
            })
            .collect();
        assert_eq!(rows.len(), TABLE.len());
        for (n, ((name, bytes), (register, own))) in rows.iter().zip(TABLE).enumerate() {
            assert_eq!(*bytes, own, "{n} {name} {register:?}");
        }
        assert_eq!((rows[PC].0, TABLE[PC].0), ("rip", Register::Pc));
        assert_eq!((rows[18].0, TABLE[18].0), ("cs", Register::Segment(1)));
        assert_eq!((rows[59].0, TABLE[59].0), ("k_gs_base", Register::KernelGsBase));
        assert_eq!((rows[64].0, TABLE[64].0), ("cr8", Register::Cr(8)));
    }

    #[test]
    fn all_registers_go_there_and_back() {
        let mut all = All::default();
        for (n, (value, (_, bytes))) in all.0.iter_mut().zip(TABLE).enumerate() {
            *value =
                (0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10 + n as u128) % (1 << (8 * bytes - 1));
        }
        let mut bytes = Vec::new();
        all.gdb_serialize(|byte| bytes.extend(byte));
        let mut again = All::default();
        again.gdb_deserialize(&bytes).unwrap();
        assert_eq!(again, all);
        assert_eq!(again.gdb_deserialize(&bytes[1..]), Err(()));
    }
}
