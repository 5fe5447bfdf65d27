//! The sections of the log, worded as QEMU words them so that its users and their scripts can read ours.

use std::fmt::{self, Display, Write as _};

use super::{Items, Log};

/// Where a block runs, for `exec` lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Host address of its code.
    pub host: u64,
    /// Linear base of CS.
    pub cs_base: u64,
    /// Linear address of its first instruction.
    pub pc: u64,
    /// Mode bits.
    pub mode: u32,
    /// Translation flags.
    pub flags: u32,
}

impl Log {
    /// `PROLOGUE:` once per log: the trampoline's code at host address `at`.
    pub fn prologue(&self, at: u64, code: &[u8]) {
        if self.has(Items::OUT_ASM) && !self.prologue_done.replace(true) {
            self.write(format_args!("PROLOGUE: [size={}]\n{}\n", code.len(), host_code(at, code)));
        }
    }

    /// `IN:` with one line per guest instruction, already disassembled.
    pub fn in_asm(&self, pc: u64, lines: &dyn Display) {
        if self.wants(Items::IN_ASM, pc) {
            self.write(format_args!("----------------\nIN: \n{}\n", Lines(lines)));
        }
    }

    /// `OP:` with the ops' text form.
    pub fn op(&self, pc: u64, ops: &dyn Display) {
        if self.wants(Items::OP, pc) {
            self.write(format_args!("OP:\n{}\n", Lines(ops)));
        }
    }

    /// `OP after optimization and liveness analysis:` with the ops' text form.
    pub fn op_opt(&self, pc: u64, ops: &dyn Display) {
        if self.wants(Items::OP_OPT, pc) {
            let head = "OP after optimization and liveness analysis:";
            self.write(format_args!("{head}\n{}\n", Lines(ops)));
        }
    }

    /// `OUT:` with the host code of the block at guest address `pc`.
    pub fn out_asm(&self, pc: u64, at: u64, code: &[u8]) {
        if self.wants(Items::OUT_ASM, pc) {
            self.write(format_args!("OUT: [size={}]\n{}\n", code.len(), host_code(at, code)));
        }
    }

    /// `Trace 0:` for a block about to run.
    pub fn trace(&self, place: Place) {
        if self.wants(Items::EXEC, place.pc) {
            let Place { host, cs_base, pc, mode, flags } = place;
            self.write(format_args!(
                "Trace 0: {host:#x} [{cs_base:08x}/{pc:016x}/{mode:08x}/{flags:08x}] \n"
            ));
        }
    }

    /// The registers before a block.
    pub fn cpu(&self, pc: u64, registers: &dyn Display) {
        if self.wants(Items::CPU, pc) {
            self.write(format_args!("{}", Lines(registers)));
        }
    }

    /// `Servicing hardware INT=` for an external interrupt.
    pub fn hardware_interrupt(&self, vector: u8) {
        if self.has(Items::INT) {
            self.write(format_args!("Servicing hardware INT=0x{vector:02x}\n"));
        }
    }

    /// `CPU Reset` and the registers as they were.
    pub fn cpu_reset(&self, registers: &dyn Display) {
        if self.has(Items::CPU_RESET) {
            self.write(format_args!("CPU Reset (CPU 0)\n{}", Lines(registers)));
        }
    }
}

/// Text that surely ends with one line end.
struct Lines<'a>(&'a dyn Display);

impl Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(&text)?;
        if text.ends_with('\n') { Ok(()) } else { f.write_char('\n') }
    }
}

/// A listing of x86-64 host code at address `at`: one line per instruction, `address:  bytes  text`.
///
/// Without the `disasm` feature there is no text, and a line holds eight bytes.
pub fn host_code(at: u64, code: &[u8]) -> String {
    let mut text = String::new();
    #[cfg(feature = "disasm")]
    disassemble(&mut text, at, code);
    #[cfg(not(feature = "disasm"))]
    for (i, bytes) in code.chunks(8).enumerate() {
        line(&mut text, at.wrapping_add(8 * i as u64), bytes, "");
    }
    text
}

#[cfg(feature = "disasm")]
fn disassemble(text: &mut String, at: u64, code: &[u8]) {
    use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter};
    let mut decoder = Decoder::with_ip(64, code, at, DecoderOptions::NONE);
    let mut formatter = GasFormatter::new();
    formatter.options_mut().set_uppercase_hex(false);
    formatter.options_mut().set_gas_show_mnemonic_size_suffix(true);
    formatter.options_mut().set_space_after_operand_separator(true);
    let mut insn_text = String::new();
    while decoder.can_decode() {
        let start = decoder.position();
        let insn = decoder.decode();
        let bytes = code.get(start..decoder.position()).unwrap_or_default();
        insn_text.clear();
        if insn.is_invalid() {
            insn_text.push_str("(bad)");
        } else {
            formatter.format(&insn, &mut insn_text);
        }
        line(text, insn.ip(), bytes, &insn_text);
    }
}

fn line(text: &mut String, at: u64, bytes: &[u8], insn: &str) {
    text.push_str(&insn_line(at, bytes, insn));
}

/// One line of a listing, guest or host: `0x000fe05b:  2e 66 83 3e c8 61 00     cmpl $0, %cs:0x61c8`.
pub fn insn_line(at: u64, bytes: &[u8], insn: &str) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let hex = hex.join(" ");
    format!("{}\n", format!("0x{at:08x}:  {hex:<24} {insn}").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            std::io::Write::write(&mut *self.0.lock().unwrap(), bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn sections_read_as_in_qemu() {
        let out = Shared::default();
        let items = Items::parse("in_asm,op,op_opt,out_asm,exec,int").unwrap();
        let log = Log::new(items, Vec::new(), Box::new(out.clone()));
        log.prologue(0x1000, &[0x55]);
        log.prologue(0x1000, &[0x55]);
        log.in_asm(0xffff_fff0, &"0xfffffff0:  ea 5b e0 00 f0           ljmpw    $0xf000, $0xe05b");
        log.op(0, &" add_i32 eax,eax,ebx\n");
        log.op_opt(0, &" addf_i32 eax,eax,ebx");
        log.out_asm(0, 0x2000, &[0x41, 0xff, 0x26]);
        log.trace(Place {
            host: 0x2000,
            cs_base: 0xffff_0000,
            pc: 0xffff_fff0,
            mode: 0x40,
            flags: 1,
        });
        log.hardware_interrupt(8);
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let expect = "PROLOGUE: [size=1]\n\
            0x00001000:  55                       pushq %rbp\n\
            \n\
            ----------------\n\
            IN: \n\
            0xfffffff0:  ea 5b e0 00 f0           ljmpw    $0xf000, $0xe05b\n\
            \n\
            OP:\n add_i32 eax,eax,ebx\n\
            \n\
            OP after optimization and liveness analysis:\n addf_i32 eax,eax,ebx\n\
            \n\
            OUT: [size=3]\n\
            0x00002000:  41 ff 26                 jmpq *(%r14)\n\
            \n\
            Trace 0: 0x2000 [ffff0000/00000000fffffff0/00000040/00000001] \n\
            Servicing hardware INT=0x08\n";
        if cfg!(feature = "disasm") {
            assert_eq!(text, expect);
        }
    }
}
