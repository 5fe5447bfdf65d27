//! The options, and the pre-pass that lets clap read QEMU's single-dash long options.
//!
//! Every option is a clap *long* option here, also `-m` and `-s`: the pre-pass rewrites `-name value` to
//! `--name=value`, so that values may begin with a dash and no two spellings can disagree.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::{ArgAction, CommandFactory, Parser};

use super::{CliError, catalogue, suggest};

/// The command line as given, not yet checked against itself.
#[derive(Parser, Debug, Default, Clone, PartialEq, Eq)]
#[command(name = "stele", disable_help_flag = true, disable_version_flag = true)]
#[command(args_override_self = true)]
pub struct Args {
    /// disk image, same as -hda
    pub image: Option<PathBuf>,

    /// IDE disk 0 (primary master)
    #[arg(long, value_name = "FILE", help_heading = "Disks")]
    pub hda: Option<PathBuf>,
    /// IDE disk 1 (primary slave)
    #[arg(long, value_name = "FILE", help_heading = "Disks")]
    pub hdb: Option<PathBuf>,
    /// IDE disk 2 (secondary master)
    #[arg(long, value_name = "FILE", help_heading = "Disks")]
    pub hdc: Option<PathBuf>,
    /// IDE disk 3 (secondary slave)
    #[arg(long, value_name = "FILE", help_heading = "Disks")]
    pub hdd: Option<PathBuf>,
    /// file=F and, after commas, what `stele -drive help` lists
    #[arg(long, value_name = "OPTS", help_heading = "Disks", action = ArgAction::Append)]
    pub drive: Vec<String>,
    /// CD image, in IDE place 2
    #[arg(long, value_name = "FILE", help_heading = "Disks")]
    pub cdrom: Option<PathBuf>,
    /// floppy image, first drive
    #[arg(long, value_name = "FILE", help_heading = "Disks")]
    pub fda: Option<PathBuf>,
    /// floppy image, second drive
    #[arg(long, value_name = "FILE", help_heading = "Disks")]
    pub fdb: Option<PathBuf>,
    /// never write to the images: changes go to a temporary file
    #[arg(long, help_heading = "Disks")]
    pub snapshot: bool,

    /// kernel: bzImage, PVH or multiboot ELF
    #[arg(long, value_name = "FILE", help_heading = "Kernel")]
    pub kernel: Option<PathBuf>,
    /// initial RAM disk; multiboot modules: 'FILE ARGS,FILE ARGS'
    #[arg(long, value_name = "FILE", help_heading = "Kernel")]
    pub initrd: Option<String>,
    /// the kernel's command line
    #[arg(long, value_name = "LINE", help_heading = "Kernel")]
    pub append: Option<String>,

    /// memory, MiB or with suffix K M G
    #[arg(long = "m", value_name = "SIZE", help_heading = "Machine")]
    pub memory: Option<String>,
    /// CPU model (-cpu help lists)
    #[arg(long, value_name = "MODEL", help_heading = "Machine")]
    pub cpu: Option<String>,
    /// number of CPUs: 1
    #[arg(long, value_name = "N", help_heading = "Machine")]
    pub smp: Option<String>,
    /// machine type, also -M: pc; kernel-entry=16|32|64 of a bzImage
    #[arg(long, alias = "M", value_name = "TYPE", help_heading = "Machine")]
    pub machine: Option<String>,
    /// tcg or jit (the JIT), interp (the reference evaluator)
    #[arg(long, value_name = "NAME", help_heading = "Machine")]
    pub accel: Option<String>,
    /// optimiser passes: all, none, or a list
    #[arg(long, value_name = "PASSES", help_heading = "Machine")]
    pub opt: Option<String>,
    /// shift=N: time from the instruction count, N = log2 of ns per instruction
    #[arg(long, value_name = "OPTS", help_heading = "Machine")]
    pub icount: Option<String>,
    /// base=utc|localtime|2026-01-31T12:00:00
    #[arg(long, value_name = "OPTS", help_heading = "Machine")]
    pub rtc: Option<String>,
    /// a floppy, c disk, d CD: order=dc,once=d,menu=on|off,splash-time=MS
    #[arg(long, value_name = "ORDER", help_heading = "Machine")]
    pub boot: Option<String>,
    /// type=0|1|3|4|11|17,field=value: what SMBIOS says
    #[arg(long, value_name = "OPTS", help_heading = "Machine", action = ArgAction::Append)]
    pub smbios: Vec<String>,
    /// firmware file
    #[arg(long, value_name = "FILE", help_heading = "Machine")]
    pub bios: Option<PathBuf>,
    /// where to look for firmware first
    #[arg(long = "L", value_name = "DIR", help_heading = "Machine", action = ArgAction::Append)]
    pub library: Vec<PathBuf>,
    /// what SMBIOS says the system's UUID is
    #[arg(long, value_name = "UUID", help_heading = "Machine")]
    pub uuid: Option<String>,
    /// a file to write the process's number to
    #[arg(long, value_name = "FILE", help_heading = "Machine")]
    pub pidfile: Option<PathBuf>,
    /// a name for the machine
    #[arg(long, value_name = "NAME", help_heading = "Machine")]
    pub name: Option<String>,
    /// no default serial port, display or disks beyond those named
    #[arg(long, help_heading = "Machine")]
    pub nodefaults: bool,
    /// a reset ends the run (a triple fault: exit code 3)
    #[arg(long, help_heading = "Machine")]
    pub no_reboot: bool,
    /// go on from a snapshot: its name, or its file's path
    #[arg(long, value_name = "NAME", help_heading = "Machine")]
    pub loadvm: Option<String>,
    /// stay after the guest's power-off
    #[arg(long, help_heading = "Machine")]
    pub no_shutdown: bool,
    /// reboot=reset|shutdown, shutdown=poweroff|pause: the same two, by value
    #[arg(long, value_name = "OPTS", help_heading = "Machine", action = ArgAction::Append)]
    pub action: Vec<String>,

    /// std or none
    #[arg(long, value_name = "CARD", help_heading = "Console")]
    pub vga: Option<String>,
    /// tty (or curses), none
    #[arg(long, value_name = "KIND", help_heading = "Console")]
    pub display: Option<String>,
    /// none
    #[arg(long, value_name = "DISPLAY", help_heading = "Console")]
    pub vnc: Option<String>,
    /// no display; serial port and monitor on stdin and stdout
    #[arg(long, help_heading = "Console")]
    pub nographic: bool,
    /// stdio, mon:stdio, pty, file:F, pipe:F, unix:F or tcp:H:P (,server), null
    #[arg(long, value_name = "DEV", help_heading = "Console", action = ArgAction::Append)]
    pub serial: Vec<String>,
    /// none, null
    #[arg(long, value_name = "DEV", help_heading = "Console", action = ArgAction::Append)]
    pub parallel: Vec<String>,
    /// the monitor: as -serial, or vc (behind Ctrl-a c)
    #[arg(long, value_name = "DEV", help_heading = "Console", action = ArgAction::Append)]
    pub monitor: Vec<String>,
    /// the monitor for programs (JSON): as -serial
    #[arg(long, value_name = "DEV", help_heading = "Console", action = ArgAction::Append)]
    pub qmp: Vec<String>,
    /// chardev=ID[,mode=control]: a monitor on a -chardev
    #[arg(long, value_name = "OPTS", help_heading = "Console", action = ArgAction::Append)]
    pub mon: Vec<String>,
    /// BACKEND,id=ID[,mux=on]: stdio, file, socket, pty, pipe, null
    #[arg(long, value_name = "OPTS", help_heading = "Console", action = ArgAction::Append)]
    pub chardev: Vec<String>,
    /// the escape character instead of Ctrl-a: its ASCII code
    #[arg(long, value_name = "CODE", help_heading = "Console")]
    pub echr: Option<String>,
    /// port 0xe9: as -serial
    #[arg(long, value_name = "DEV", help_heading = "Console")]
    pub debugcon: Option<String>,
    /// a device and its keys (-device help lists them)
    #[arg(long, value_name = "OPTS", help_heading = "Devices", action = ArgAction::Append)]
    pub device: Vec<String>,
    /// none
    #[arg(long, value_name = "NET", help_heading = "Devices", action = ArgAction::Append)]
    pub net: Vec<String>,
    /// none, or socket,connect=HOST:PORT or socket,listen=:PORT[,mac=]: a virtio card
    #[arg(long, value_name = "NET", help_heading = "Devices", action = ArgAction::Append)]
    pub nic: Vec<String>,
    /// socket,id=ID,connect= or listen=: for -device virtio-net-pci,netdev=ID
    #[arg(long, value_name = "NET", help_heading = "Devices", action = ArgAction::Append)]
    pub netdev: Vec<String>,
    /// name=N,string=S or name=N,file=F
    #[arg(long = "fw_cfg", value_name = "OPTS", help_heading = "Devices", action = ArgAction::Append)]
    pub fw_cfg: Vec<String>,

    /// log items, comma-separated (-d help lists)
    #[arg(long = "d", value_name = "ITEMS", help_heading = "Debugging")]
    pub debug: Option<String>,
    /// log to this file
    #[arg(long = "D", value_name = "FILE", help_heading = "Debugging")]
    pub debug_file: Option<PathBuf>,
    /// log only code at these addresses: a+n, a-n, a..b
    #[arg(long, value_name = "RANGES", help_heading = "Debugging")]
    pub dfilter: Option<String>,
    /// name generated code for perf in /tmp/perf-PID.map
    #[arg(long, help_heading = "Debugging")]
    pub perf_map: bool,
    /// the gdb server at tcp::1234
    #[arg(long = "s", help_heading = "Debugging")]
    pub gdb_default: bool,
    /// start stopped: the monitor's cont, or gdb, lets it go
    #[arg(long = "S", help_heading = "Debugging")]
    pub stopped: bool,
    /// the gdb server: tcp::PORT, tcp:HOST:PORT, unix:PATH, pty, stdio
    #[arg(long, value_name = "DEV", help_heading = "Debugging")]
    pub gdb: Option<String>,

    /// this text
    #[arg(long, alias = "h", alias = "?")]
    pub help: bool,
    /// the version
    #[arg(long)]
    pub version: bool,
}

/// Reads the command line (without the program's name).
pub(super) fn parse(args: Vec<OsString>) -> Result<Args, CliError> {
    let command = Args::command();
    let rewritten = rewrite(&command, args)?;
    let parsed = Args::try_parse_from(rewritten).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or("bad command line").trim_start_matches("error: ");
        CliError::usage(first.replace("'--", "'-"))
    })?;
    if parsed.help {
        return Err(CliError::Text(catalogue::help(&command)));
    }
    if parsed.version {
        return Err(CliError::Text(format!("stele {}\n", env!("CARGO_PKG_VERSION"))));
    }
    Ok(parsed)
}

/// Rewrites QEMU's `-name value` to clap's `--name=value`; refuses what is no option of ours.
fn rewrite(command: &clap::Command, args: Vec<OsString>) -> Result<Vec<OsString>, CliError> {
    let mut out = vec![OsString::from("stele")];
    let mut positional = Vec::new();
    let mut words = args.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            positional.extend(words.by_ref());
            break;
        }
        let Some(given) = option_name(&word) else {
            positional.push(word);
            continue;
        };
        let (name, inline) = match given.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(OsString::from(value))),
            None => (given, None),
        };
        if let Some(takes_value) = catalogue::is_without_effect(&name) {
            let value = if takes_value { inline.or_else(|| words.next()) } else { inline };
            harmless(&name, takes_value, value)?;
            continue;
        }
        let Some(option) = find(command, &name) else {
            return Err(unknown(command, &name));
        };
        if !option.get_action().takes_values() {
            if inline.is_some() {
                return Err(CliError::usage(format!("-{name} takes no value")));
            }
            out.push(dashed(&name));
            continue;
        }
        let value = match inline {
            Some(value) => value,
            None => words.next().ok_or_else(|| {
                CliError::usage(format!("-{name} needs a value: {}", catalogue::usage(option)))
            })?,
        };
        let mut joined = dashed(&name).into_vec();
        joined.push(b'=');
        joined.extend_from_slice(value.as_bytes());
        out.push(OsString::from_vec(joined));
    }
    if let [_, second, ..] = positional.as_slice() {
        return Err(CliError::usage(format!(
            "one disk image only: what is '{}'? (use -hdb FILE for a second)",
            second.to_string_lossy()
        )));
    }
    out.push(OsString::from("--"));
    out.extend(positional);
    Ok(out)
}

/// Checks the value of an option that then changes nothing.
fn harmless(name: &str, takes_value: bool, value: Option<OsString>) -> Result<(), CliError> {
    let value = value.map(|value| value.to_string_lossy().into_owned());
    let problem = match (takes_value, value) {
        (false, None) => return Ok(()),
        (false, Some(_)) => format!("-{name} takes no value"),
        (true, None) => format!("-{name} needs a value"),
        (true, Some(value)) if catalogue::is_harmless(name, &value) => return Ok(()),
        (true, Some(value)) => {
            let why = catalogue::not_supported(name).unwrap_or_default();
            format!("-{name} {value} is not supported yet{why}")
        }
    };
    Err(CliError::usage(problem))
}

/// The name in `-name` or `--name`; `None` for a plain word and for `-` alone.
fn option_name(word: &OsStr) -> Option<String> {
    let rest = word.as_bytes().strip_prefix(b"-")?;
    let rest = rest.strip_prefix(b"-").unwrap_or(rest);
    (!rest.is_empty()).then(|| String::from_utf8_lossy(rest).into_owned())
}

fn dashed(name: &str) -> OsString {
    OsString::from(format!("--{name}"))
}

fn find<'a>(command: &'a clap::Command, name: &str) -> Option<&'a clap::Arg> {
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(name)
            || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    })
}

fn unknown(command: &clap::Command, name: &str) -> CliError {
    if let Some(why) = catalogue::not_supported(name) {
        return CliError::usage(format!("-{name} is not supported yet{why}"));
    }
    let known = command.get_arguments().filter_map(clap::Arg::get_long);
    let hint = match suggest::nearest(name, known) {
        Some(near) => format!("did you mean -{near}?"),
        None => "see stele --help".to_owned(),
    };
    CliError::usage(format!("unknown option -{name}: {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Args, CliError> {
        parse(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn qemu_spellings_are_read() {
        let args = parse_words(&[
            "-m",
            "64",
            "-hda",
            "a.img",
            "-s",
            "-d",
            "in_asm",
            "-D",
            "-x",
            "--smp=1",
            "-M",
            "pc",
            "-no-user-config",
            "-k",
            "de",
            "-sandbox=off",
            "-overcommit",
            "mem-lock=off",
        ])
        .unwrap();
        assert_eq!(args.memory.as_deref(), Some("64"));
        assert_eq!(args.hda, Some(PathBuf::from("a.img")));
        assert!(args.gdb_default && !args.stopped);
        assert_eq!(args.debug_file, Some(PathBuf::from("-x")));
        assert_eq!(args.smp.as_deref(), Some("1"));
        assert_eq!(args.machine.as_deref(), Some("pc"));
    }

    #[test]
    fn last_one_wins_and_lists_grow() {
        let args = parse_words(&["-m", "1", "-drive", "file=a", "-drive", "file=b", "-m", "2"]);
        let args = args.unwrap();
        assert_eq!(args.memory.as_deref(), Some("2"));
        assert_eq!(args.drive, ["file=a", "file=b"]);
    }

    #[test]
    fn mistakes_are_one_line() {
        for (words, expect) in [
            (&["-nographik"][..], "unknown option -nographik: did you mean -nographic?"),
            (&["-zzzzzzz"], "unknown option -zzzzzzz: see stele --help"),
            (&["-m"], "-m needs a value: -m SIZE"),
            (&["-snapshot=on"], "-snapshot takes no value"),
            (&["a", "b"], "one disk image only: what is 'b'? (use -hdb FILE for a second)"),
            (&["-spice", "port=1"], "-spice is not supported yet"),
            (&["-sandbox", "on"], "-sandbox on is not supported yet: it can only be off"),
            (&["-no-user-config=1"], "-no-user-config takes no value"),
            (&["-k"], "-k needs a value"),
        ] {
            let Err(CliError::Usage(text)) = parse_words(words) else { panic!("{words:?}") };
            assert_eq!(text, expect);
        }
    }

    #[test]
    fn the_command_is_sound() {
        Args::command().debug_assert();
    }
}
