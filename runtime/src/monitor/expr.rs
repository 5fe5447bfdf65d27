//! Arithmetic on the monitor's line: numbers, registers, the operators of C.

use x86::cpu::Cpu;

/// Deepest nesting.
const DEPTH_MAX: usize = 64;

/// The value of an expression over a CPU's registers.
pub(super) fn value(text: &str, cpu: &Cpu) -> Result<u64, String> {
    let mut parser = Parser { rest: text.trim(), cpu, depth: 0 };
    let value = parser.sum()?;
    match parser.rest {
        "" => Ok(value),
        rest => Err(format!("unexpected '{}'", first_word(rest))),
    }
}

fn first_word(text: &str) -> String {
    text.chars().take(20).take_while(|c| !c.is_whitespace()).collect()
}

struct Parser<'a> {
    rest: &'a str,
    cpu: &'a Cpu,
    depth: usize,
}

impl Parser<'_> {
    fn eat(&mut self, wanted: &[char]) -> Option<char> {
        let c = self.rest.chars().next().filter(|c| wanted.contains(c))?;
        self.rest = self.rest[c.len_utf8()..].trim_start();
        Some(c)
    }

    fn sum(&mut self) -> Result<u64, String> {
        let mut value = self.logic()?;
        while let Some(op) = self.eat(&['+', '-']) {
            let right = self.logic()?;
            value = if op == '+' { value.wrapping_add(right) } else { value.wrapping_sub(right) };
        }
        Ok(value)
    }

    fn logic(&mut self) -> Result<u64, String> {
        let mut value = self.product()?;
        while let Some(op) = self.eat(&['&', '|', '^']) {
            let right = self.product()?;
            value = match op {
                '&' => value & right,
                '|' => value | right,
                _ => value ^ right,
            };
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<u64, String> {
        let mut value = self.unary()?;
        while let Some(op) = self.eat(&['*', '/', '%']) {
            let right = self.unary()?;
            value = match op {
                '*' => value.wrapping_mul(right),
                '/' => value.checked_div(right).ok_or("division by zero")?,
                _ => value.checked_rem(right).ok_or("division by zero")?,
            };
        }
        Ok(value)
    }

    fn unary(&mut self) -> Result<u64, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("the expression is nested too deeply".to_owned());
        }
        let value = match self.eat(&['+', '-', '~', '(', '$', '\'']) {
            Some('+') => self.unary()?,
            Some('-') => self.unary()?.wrapping_neg(),
            Some('~') => !self.unary()?,
            Some('(') => {
                let value = self.sum()?;
                self.eat(&[')']).ok_or("')' is missing")?;
                value
            }
            Some('$') => self.register()?,
            Some(_) => {
                let c = self.rest.chars().next().ok_or("a character is missing")?;
                self.rest = &self.rest[c.len_utf8()..];
                self.eat(&['\'']).ok_or("' is missing")?;
                u64::from(u32::from(c))
            }
            None => self.number()?,
        };
        self.depth -= 1;
        Ok(value)
    }

    fn word(&mut self) -> &str {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest.trim_start();
        word
    }

    fn number(&mut self) -> Result<u64, String> {
        let word = self.word().to_owned();
        let parsed = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            Some(hex) => u64::from_str_radix(hex, 16),
            None if word.len() > 1 && word.starts_with('0') => u64::from_str_radix(&word, 8),
            None => word.parse(),
        };
        parsed.map_err(|_| match word.as_str() {
            "" if self.rest.is_empty() => "a number is missing".to_owned(),
            "" => format!("unexpected '{}'", first_word(self.rest)),
            word => format!("{word} is no number"),
        })
    }

    fn register(&mut self) -> Result<u64, String> {
        let name = self.word().to_ascii_lowercase();
        register(self.cpu, &name).ok_or_else(|| format!("there is no register ${name}"))
    }
}

const NAMES_64: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];
const NAMES_32: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
const NAMES_16: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
const SEGMENTS: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];

/// The value of a register; the instruction pointer as a linear address, which is what `x` wants.
fn register(cpu: &Cpu, name: &str) -> Option<u64> {
    let state = &cpu.state;
    let at = |names: &[&str]| names.iter().position(|&known| known == name);
    if let Some(n) = at(&NAMES_64) {
        return Some(state.gpr[n]);
    }
    if let Some(n) = at(&NAMES_32) {
        return Some(state.gpr[n] & 0xFFFF_FFFF);
    }
    if let Some(n) = at(&NAMES_16) {
        return Some(state.gpr[n] & 0xFFFF);
    }
    if let Some(n) = at(&SEGMENTS) {
        return Some(u64::from(state.seg[n].selector));
    }
    if let Some(base) = name.strip_suffix("_base").or_else(|| name.strip_suffix(".base"))
        && let Some(n) = SEGMENTS.iter().position(|&known| known == base)
    {
        return Some(state.seg[n].base);
    }
    Some(match name {
        "pc" | "rip" | "eip" | "ip" => cpu.lin_pc(state.pc).0,
        "eflags" | "rflags" => u64::from(state.eflags()),
        "cr0" => state.cr0,
        "cr2" => state.cr2,
        "cr3" => state.cr3,
        "cr4" => state.cr4,
        "efer" => state.efer,
        _ => return None,
    })
}
