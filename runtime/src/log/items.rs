//! The log's items: one table of names, bits and what they mean.

use std::fmt::Write;

/// A set of log items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Items(u32);

impl Items {
    /// Guest code of each block translated.
    pub const IN_ASM: Self = Self(1);
    /// Ops of each block, as lowered.
    pub const OP: Self = Self(1 << 1);
    /// Ops after the optimiser.
    pub const OP_OPT: Self = Self(1 << 2);
    /// Host code of each block.
    pub const OUT_ASM: Self = Self(1 << 3);
    /// Interrupts and exceptions.
    pub const INT: Self = Self(1 << 4);
    /// Each block entered.
    pub const EXEC: Self = Self(1 << 5);
    /// Registers before each block.
    pub const CPU: Self = Self(1 << 6);
    /// Blocks are not chained, so that `exec` and `cpu` show every one.
    pub const NOCHAIN: Self = Self(1 << 7);
    /// Page table walks and flushes.
    pub const MMU: Self = Self(1 << 8);
    /// Protected mode far transfers.
    pub const PCALL: Self = Self(1 << 9);
    /// CPU state at reset.
    pub const CPU_RESET: Self = Self(1 << 10);
    /// Accesses to hardware that is not there.
    pub const UNIMP: Self = Self(1 << 11);
    /// Things a guest should not do.
    pub const GUEST_ERRORS: Self = Self(1 << 12);
    /// Code pages and their protection.
    pub const PAGE: Self = Self(1 << 13);
    /// Each row of the tables, when code in the ranges first has it.
    pub const ROWS: Self = Self(1 << 14);

    /// Are all of `other`'s items in this set?
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0 && other.0 != 0
    }

    /// Is the set empty?
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|row| row.name)
    }

    /// Reads a comma-separated list of names; `all` is every item that changes nothing but the log.
    ///
    /// # Errors
    /// The name that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut items = Self::default();
        for name in text.split(',').filter(|name| !name.is_empty()) {
            items = match TABLE.iter().find(|row| row.name == name) {
                Some(row) => items.with(row.item),
                None if name == "all" => TABLE
                    .iter()
                    .filter(|row| row.item != Self::NOCHAIN)
                    .fold(items, |all, row| all.with(row.item)),
                None => return Err(name.to_owned()),
            };
        }
        Ok(items)
    }
}

struct Row {
    name: &'static str,
    item: Items,
    about: &'static str,
}

const TABLE: &[Row] = &[
    row("out_asm", Items::OUT_ASM, "show generated host code of each block"),
    row("in_asm", Items::IN_ASM, "show guest code of each block"),
    row("op", Items::OP, "show ops of each block"),
    row("op_opt", Items::OP_OPT, "show ops after optimization and liveness analysis"),
    row("int", Items::INT, "show interrupts and exceptions in short format"),
    row("exec", Items::EXEC, "show trace before each executed block"),
    row("cpu", Items::CPU, "show CPU registers before entering a block"),
    row("nochain", Items::NOCHAIN, "do not chain blocks, so that exec and cpu show all of them"),
    row("mmu", Items::MMU, "accepted, shows nothing yet"),
    row("pcall", Items::PCALL, "accepted, shows nothing yet"),
    row("cpu_reset", Items::CPU_RESET, "show CPU state before CPU resets"),
    row("unimp", Items::UNIMP, "show warnings about what the machine lacks"),
    row("guest_errors", Items::GUEST_ERRORS, "show warnings about what the guest should not do"),
    row("page", Items::PAGE, "accepted, shows nothing yet"),
    row("rows", Items::ROWS, "show each row of the instruction tables when it is first translated"),
];

const fn row(name: &'static str, item: Items, about: &'static str) -> Row {
    Row { name, item, about }
}

/// The text of `-d help`.
pub fn help() -> String {
    let mut text = String::from("Log items (comma separated):\n");
    for Row { name, about, .. } in TABLE {
        let _ = writeln!(text, "{name:<15} {about}");
    }
    text.push_str("all             all of them but nochain\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let items = Items::parse("in_asm,,op").unwrap();
        assert!(items.has(Items::IN_ASM) && items.has(Items::OP) && !items.has(Items::INT));
        assert_eq!(Items::parse("in_asm,ops"), Err("ops".to_owned()));
        assert_eq!(Items::parse(""), Ok(Items::default()));
        assert!(!Items::parse("all").unwrap().has(Items::NOCHAIN));
    }

    #[test]
    fn bits_are_distinct() {
        let all = TABLE.iter().fold(0, |all, row| {
            assert_eq!(all & row.item.0, 0, "{}", row.name);
            all | row.item.0
        });
        assert_eq!(all.count_ones() as usize, TABLE.len());
    }
}
