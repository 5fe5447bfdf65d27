//! Every command and every `info` word, with its help: one row each.

use std::fmt::Write as _;

use super::{Call, control, debug, files, info, input, media, memory, snapshots};
use crate::cli::nearest;

/// What a command does: its answer, or one line that says what is wrong.
pub(super) type Run = fn(&mut Call<'_>) -> Result<String, String>;

/// A command.
pub(super) struct Command {
    /// Its names, `|` between them.
    names: &'static str,
    /// Its arguments, for people.
    pub(super) args: &'static str,
    help: &'static str,
    /// May a `/format` follow the name?
    pub(super) takes_format: bool,
    pub(super) run: Run,
}

const fn row(names: &'static str, args: &'static str, help: &'static str, run: Run) -> Command {
    Command { names, args, help, takes_format: false, run }
}

const fn row_f(names: &'static str, args: &'static str, help: &'static str, run: Run) -> Command {
    Command { names, args, help, takes_format: true, run }
}

/// The commands, in the order of `help`.
static COMMANDS: &[Command] = &[
    row("help|?", "[cmd]", "this list, or the help of one command", help),
    row("info", "[subcommand]", "show things; info alone lists them", info_word),
    row("quit|q", "", "end the run", control::quit),
    row("stop|s", "", "stop the machine", control::stop),
    row("cont|c", "", "let it go on", control::cont),
    row("system_reset", "", "press the reset button", control::system_reset),
    row("system_powerdown", "", "press the power button", control::system_powerdown),
    row("savevm", "[name]", "save the whole machine: name.stele, or a path", snapshots::savevm),
    row("loadvm", "name", "go on from a saved machine", snapshots::loadvm),
    row("delvm", "name", "delete a saved machine", snapshots::delvm),
    row("nmi", "", "send a non-maskable interrupt", control::nmi),
    row_f("x", "/fmt addr", "memory at a linear address: count, x d u o c i, b h w g", memory::x),
    row_f("xp", "/fmt addr", "memory at a physical address", memory::xp),
    row_f("print|p", "/fmt expr", "the value of an expression; $eax is a register", memory::print),
    row("gva2gpa", "addr", "the physical address of a linear one", memory::gva2gpa),
    row("sum", "addr size", "checksum (BSD) of physical memory", memory::sum),
    row_f("i", "/fmt port", "read an I/O port", memory::port_in),
    row_f("o", "/fmt port value", "write an I/O port", memory::port_out),
    row(
        "eject",
        "[-f] device",
        "take the medium out; -f: though the guest locked it",
        media::eject,
    ),
    row("change", "device file [raw|qcow2]", "put another medium in", media::change),
    row("memsave", "addr size file", "save memory at a linear address", files::memsave),
    row("pmemsave", "addr size file", "save memory at a physical address", files::pmemsave),
    row("screen", "", "the text screen", input::screen),
    row("screendump", "file [-f png|ppm]", "save the picture; .png or else PPM", files::screendump),
    row(
        "sendkey",
        "keys [hold_ms]",
        "press keys together: sendkey ctrl-alt-delete",
        input::sendkey,
    ),
    row("mouse_move", "dx dy [dz]", "move the mouse, turn its wheel", input::mouse_move),
    row("mouse_button", "state", "1 left, 2 middle, 4 right; 0 releases", input::mouse_button),
    row("gdbserver", "[dev|none]", "listen for gdb: tcp::1234 unless told", debug::gdbserver),
    row(
        "set",
        "linear-pc on|off",
        "show gdb the instruction pointer with CS base added",
        debug::set,
    ),
    row("log", "items|none", "the items of -d", files::log),
    row("logfile", "file", "where they are written", files::logfile),
];

/// An `info` word.
struct Info {
    name: &'static str,
    help: &'static str,
    run: Run,
}

const fn about(name: &'static str, help: &'static str, run: Run) -> Info {
    Info { name, help, run }
}

/// The `info` words, in the order of `info`.
static INFOS: &[Info] = &[
    about("block", "disks", info::block),
    about("chardev", "character devices and their far ends", info::chardev),
    about("cpus", "processors", info::cpus),
    about("ioapic", "the IOAPIC's redirection table", info::ioapic),
    about("irq", "interrupts delivered, by vector", info::irq),
    about("jit", "the translator: blocks, code cache, exits", info::jit),
    about("lapic", "the local APIC", info::lapic),
    about("mem", "linear address ranges that are mapped", info::mem),
    about("mtree", "physical memory map", info::mtree),
    about("name", "the name of the machine", info::name),
    about("pci", "PCI devices with their regions", info::pci),
    about("pic", "the 8259 interrupt controllers", info::pic),
    about("registers", "the processor's registers", info::registers),
    about("roms", "firmware", info::roms),
    about("snapshots", "saved machines", snapshots::list),
    about("status", "is the machine running?", info::status),
    about("tlb", "pages that are mapped", info::tlb),
    about("version", "the version of Stele", info::version),
];

impl Command {
    fn is(&self, name: &str) -> bool {
        self.names.split('|').any(|known| known == name)
    }

    fn line(&self) -> String {
        let usage = format!("{} {}", self.names, self.args);
        format!("{:<28} -- {}\n", usage.trim_end(), self.help)
    }
}

/// The command of this name.
pub(super) fn find(name: &str) -> Result<&'static Command, String> {
    COMMANDS.iter().find(|command| command.is(name)).ok_or_else(|| {
        let names = COMMANDS.iter().flat_map(|command| command.names.split('|'));
        unknown("command", name, names.filter(|name| name.len() > 1), "help")
    })
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>, list: &str) -> String {
    let name: String = name.chars().take(40).collect();
    match nearest(&name, known) {
        Some(near) => format!("unknown {what} '{name}': did you mean {near}?"),
        None => format!("unknown {what} '{name}': {list} lists them"),
    }
}

fn help(call: &mut Call<'_>) -> Result<String, String> {
    match call.list()?.as_slice() {
        [] => Ok(COMMANDS.iter().map(Command::line).collect()),
        [word] if word == "info" => Ok(infos()),
        [word] => Ok(find(word)?.line()),
        [first, word] if first == "info" => {
            let found = INFOS.iter().find(|info| info.name == word).ok_or("no such info")?;
            Ok(format!("info {:<23} -- {}\n", found.name, found.help))
        }
        _ => Err(call.usage()),
    }
}

fn infos() -> String {
    INFOS.iter().fold(String::new(), |mut text, info| {
        let _ = writeln!(text, "info {:<23} -- {}", info.name, info.help);
        text
    })
}

fn info_word(call: &mut Call<'_>) -> Result<String, String> {
    let rest = call.rest;
    let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if word.is_empty() {
        return Ok(infos());
    }
    let found = INFOS
        .iter()
        .find(|info| info.name == word)
        .ok_or_else(|| unknown("info", word, INFOS.iter().map(|info| info.name), "help info"))?;
    (found.run)(&mut Call {
        machine: call.machine,
        formats: call.formats,
        name: call.name,
        format: call.format,
        rest: rest.trim(),
    })
}

/// The words that could stand where the last word of `start` begins.
pub(super) fn complete(start: &str) -> Vec<String> {
    let begins = |words: &mut dyn Iterator<Item = &'static str>, word: &str| {
        words.filter(|known| known.starts_with(word)).map(str::to_owned).collect()
    };
    let mut commands = COMMANDS.iter().filter_map(|command| command.names.split('|').next());
    match start.trim_start().split_once(' ') {
        None => begins(&mut commands, start.trim_start()),
        Some(("info", word)) => begins(&mut INFOS.iter().map(|info| info.name), word.trim()),
        Some(("help" | "?", word)) => begins(&mut commands, word.trim()),
        Some(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_rows_short() {
        let mut names: Vec<_> = COMMANDS.iter().flat_map(|c| c.names.split('|')).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(COMMANDS.iter().all(|command| command.line().len() < 100));
        assert!(INFOS.is_sorted_by_key(|info| info.name));
    }

    #[test]
    fn words_are_completed() {
        assert_eq!(complete("system_r"), ["system_reset"]);
        assert_eq!(complete("info st"), ["status"]);
        assert_eq!(complete("x 1"), Vec::<String>::new());
        assert!(find("sytem_reset").err().unwrap().contains("did you mean system_reset?"));
    }
}
