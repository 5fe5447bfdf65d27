//! Commands that look at memory and ports. Memory is read past the CPU: nothing changes by looking, and addresses
//! with no memory behind them are told, not asked.

use std::fmt::Write as _;

use mem::{Bus, Lin, PageKind, Phys, Port, Size};
use x86::disasm::{self, Syntax};

use super::Call;
use crate::log::insn_line;
use crate::machine::Machine;

type Answer = Result<String, String>;

/// Most items of one command.
const COUNT_MAX: u64 = 64 << 10;
/// Longest instruction.
const INSN_MAX: usize = 15;

/// `/fmt`: how many, shown how, how large.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Formats {
    kind: char,
    size: Size,
}

impl Default for Formats {
    fn default() -> Self {
        Self { kind: 'x', size: Size::B4 }
    }
}

/// Reads `/fmt`; the letters given become the default of the next command.
fn format(call: &mut Call<'_>) -> Result<(u64, Formats), String> {
    let digits = call.format.find(|c: char| !c.is_ascii_digit()).unwrap_or(call.format.len());
    let (count, letters) = call.format.split_at(digits);
    let count = if count.is_empty() { Ok(1) } else { count.parse() };
    let count = count.ok().filter(|&n| n <= COUNT_MAX);
    let count = count.ok_or_else(|| format!("the count is above {COUNT_MAX}"))?;
    for letter in letters.chars() {
        match letter {
            'x' | 'd' | 'u' | 'o' | 'c' | 'i' => call.formats.kind = letter,
            'b' => call.formats.size = Size::B1,
            'h' => call.formats.size = Size::B2,
            'w' => call.formats.size = Size::B4,
            'g' => call.formats.size = Size::B8,
            'l' => call.formats.size = Size::B4,
            other => return Err(format!("unknown format letter '{other}'")),
        }
    }
    if call.formats.kind == 'c' {
        call.formats.size = Size::B1;
    }
    Ok((count, *call.formats))
}

fn show(value: u64, Formats { kind, size }: Formats) -> String {
    let value = value & size.mask();
    let bits = 8 * size.bytes() as u32;
    match kind {
        'd' => format!("{}", (value << (64 - bits)).cast_signed() >> (64 - bits)),
        'u' => format!("{value}"),
        'o' => format!("{value:#o}"),
        'c' => match value as u8 {
            c @ (b'\'' | b'\\') => format!("'\\{}'", char::from(c)),
            c @ 0x20..=0x7e => format!("'{}'", char::from(c)),
            b'\n' => "'\\n'".to_owned(),
            b'\r' => "'\\r'".to_owned(),
            b'\t' => "'\\t'".to_owned(),
            c => format!("'\\x{c:02x}'"),
        },
        _ => format!("0x{value:0width$x}", width = 2 * size.bytes() as usize),
    }
}

/// Bytes of physical memory; `None` where there is none.
pub(super) fn read_phys(machine: &Machine, at: u64, buf: &mut [u8]) -> Option<()> {
    let board = machine.board();
    let mut done = 0;
    while done < buf.len() {
        let at = Phys(at.wrapping_add(done as u64));
        let PageKind::Ram { off, .. } = board.map().lookup(at) else { return None };
        let in_page = at.page_offset();
        let n = (0x1000 - in_page as usize).min(buf.len() - done);
        if !board.ram().read_bytes(off + in_page, &mut buf[done..done + n]) {
            return None;
        }
        done += n;
    }
    Some(())
}

/// Bytes at a linear address, as the CPU's page tables map it now.
pub(crate) fn read_linear(machine: &mut Machine, at: u64, buf: &mut [u8]) -> Option<()> {
    let mut done = 0;
    while done < buf.len() {
        let lin = Lin(at.wrapping_add(done as u64));
        let phys = machine.vcpu_mut().cpu_mut().peek_phys(lin)?;
        let n = (0x1000 - lin.page_offset() as usize).min(buf.len() - done);
        read_phys(machine, phys.0, &mut buf[done..done + n])?;
        done += n;
    }
    Some(())
}

/// Writes guest memory at a linear address; `None`, and nothing is written, where there is none that can be.
pub(crate) fn write_linear(machine: &mut Machine, at: u64, bytes: &[u8]) -> Option<()> {
    let mut pieces = Vec::new();
    let mut done = 0;
    while done < bytes.len() {
        let lin = Lin(at.wrapping_add(done as u64));
        let phys = machine.vcpu_mut().cpu_mut().peek_phys(lin)?;
        let kind = machine.board().map().lookup(phys);
        let PageKind::Ram { off, writable: true } = kind else { return None };
        let n = (0x1000 - lin.page_offset() as usize).min(bytes.len() - done);
        pieces.push((off + phys.page_offset(), done..done + n));
        done += n;
    }
    let board = machine.board();
    pieces.into_iter().all(|(off, range)| board.ram().write_bytes(off, &bytes[range])).then_some(())
}

fn read(machine: &mut Machine, at: u64, buf: &mut [u8], is_physical: bool) -> Option<()> {
    if is_physical { read_phys(machine, at, buf) } else { read_linear(machine, at, buf) }
}

pub(super) fn x(call: &mut Call<'_>) -> Answer {
    examine(call, false)
}

pub(super) fn xp(call: &mut Call<'_>) -> Answer {
    examine(call, true)
}

fn examine(call: &mut Call<'_>, is_physical: bool) -> Answer {
    if call.rest.is_empty() {
        return Err(call.usage());
    }
    let (count, format) = format(call)?;
    let start = call.value(call.rest)?;
    if format.kind == 'i' {
        return instructions(call.machine, start, count, is_physical);
    }
    let size = format.size.bytes();
    let per_line = if format.kind == 'c' { 8 } else { 16 / size };
    let mut text = String::new();
    for n in 0..count {
        let at = start.wrapping_add(n.wrapping_mul(size));
        let mut bytes = [0; 8];
        let what = &mut bytes[..size as usize];
        if read(call.machine, at, what, is_physical).is_none() {
            let _ = write!(text, "\nCannot access memory at {at:#x}");
            break;
        }
        if n % per_line == 0 {
            let newline = if n == 0 { "" } else { "\n" };
            let _ = write!(text, "{newline}{at:016x}:");
        }
        let _ = write!(text, " {}", show(u64::from_le_bytes(bytes), format));
    }
    Ok(text.trim_start_matches('\n').to_owned())
}

fn instructions(machine: &mut Machine, start: u64, count: u64, is_physical: bool) -> Answer {
    let mut text = String::new();
    let mut at = start;
    for _ in 0..count {
        let mut bytes = Vec::new();
        while bytes.len() < INSN_MAX {
            let mut byte = [0];
            let next = at.wrapping_add(bytes.len() as u64);
            if read(machine, next, &mut byte, is_physical).is_none() {
                break;
            }
            bytes.push(byte[0]);
        }
        if bytes.is_empty() {
            let _ = writeln!(text, "Cannot access memory at {at:#x}");
            break;
        }
        let cpu = machine.vcpu().cpu();
        let size = x86::front::code_size(cpu.mode());
        let (len, what) = match x86::decode::decode(&bytes, size, &cpu.model().features()) {
            Ok(insn) => (usize::from(insn.len), disasm::format(&insn, at, Syntax::Att)),
            Err(_) => (1, disasm::format_bytes(&bytes[..1])),
        };
        text += &insn_line(at, bytes.get(..len).unwrap_or(&bytes), &what);
        at = at.wrapping_add(len.max(1) as u64);
    }
    Ok(text)
}

pub(super) fn print(call: &mut Call<'_>) -> Answer {
    let (_, format) = format(call)?;
    let value = call.value(call.rest)?;
    Ok(match format.kind {
        'i' | 'x' => format!("{value:#x}"),
        kind => show(value, Formats { kind, size: Size::B8 }),
    })
}

pub(super) fn gva2gpa(call: &mut Call<'_>) -> Answer {
    let at = call.value(call.rest)?;
    match call.machine.vcpu_mut().cpu_mut().peek_phys(Lin(at)) {
        Some(phys) => Ok(format!("gpa: {:#x}", phys.0)),
        None => Ok("Unmapped".to_owned()),
    }
}

pub(super) fn sum(call: &mut Call<'_>) -> Answer {
    let [at, size] = call.exactly()?;
    let (at, size) = (call.value(&at)?, call.value(&size)?);
    if size > 1 << 32 {
        return Err("the size is above 4 GiB".to_owned());
    }
    let mut sum = 0u16;
    let mut page = [0; 4096];
    let mut done = 0;
    while done < size {
        let n = (size - done).min(4096) as usize;
        let here = at.wrapping_add(done);
        read_phys(call.machine, here, &mut page[..n])
            .ok_or_else(|| format!("Cannot access memory at {here:#x}"))?;
        sum = page[..n].iter().fold(sum, |s, &b| s.rotate_right(1).wrapping_add(b.into()));
        done += n as u64;
    }
    Ok(format!("{sum:05}"))
}

fn port(call: &mut Call<'_>, text: &str) -> Result<(Port, Size), String> {
    let (_, format) = format(call)?;
    let size = if call.format.is_empty() { Size::B1 } else { format.size };
    if size == Size::B8 {
        return Err("ports have 1, 2 or 4 bytes".to_owned());
    }
    let number = call.value(text)?;
    let number = u16::try_from(number).map_err(|_| format!("there is no port {number:#x}"))?;
    Ok((Port(number), size))
}

pub(super) fn port_in(call: &mut Call<'_>) -> Answer {
    let [at] = call.exactly()?;
    let (port, size) = port(call, &at)?;
    let value = call.machine.board_mut().port_in(port, size) & size.mask();
    let width = 2 * size.bytes() as usize;
    Ok(format!("port{}[0x{:04x}] = 0x{value:0width$x}", ['b', 'w', 'l'][width / 4], port.0))
}

pub(super) fn port_out(call: &mut Call<'_>) -> Answer {
    let [at, value] = call.exactly()?;
    let (port, size) = port(call, &at)?;
    let value = call.value(&value)? & size.mask();
    call.machine.board_mut().port_out(port, size, value);
    Ok(String::new())
}
