//! The options that name far ends: `-chardev -serial -parallel -monitor -mon -debugcon -echr`.

use std::io::IsTerminal;
use std::path::PathBuf;

use super::keyval::{KeyVals, parse_number};
use super::{Args, CliError};
use crate::machine::{CharConfig, CharTarget, MachineConfig, SocketAddress, SocketTarget};

/// The character devices named so far.
pub(super) struct Chars {
    named: Vec<CharConfig>,
    /// Uses of named ones: the option and the name.
    uses: Vec<(String, String)>,
}

impl Chars {
    /// Reads `-chardev`.
    pub(super) fn new(args: &Args) -> Result<Self, CliError> {
        let mut named: Vec<CharConfig> = Vec::new();
        for text in &args.chardev {
            let new = chardev(text)?;
            if named.iter().any(|known| known.id == new.id) {
                return Err(CliError::usage(format!("-chardev: two with id={}", new.id)));
            }
            named.push(new);
        }
        Ok(Self { named, uses: Vec::new() })
    }

    /// Reads `-serial -parallel -monitor -debugcon -echr`.
    pub(super) fn ports(
        &mut self,
        args: &Args,
        config: &mut MachineConfig,
    ) -> Result<(), CliError> {
        for (i, text) in args.serial.iter().enumerate() {
            let target = self.target("-serial", text, &format!("serial{i}"), config)?;
            config.serial.push(target);
        }
        if config.serial.len() > 4 {
            return Err(CliError::usage("-serial: a PC has four serial ports"));
        }
        if config.serial.is_empty() && !args.nodefaults {
            let default = if args.nographic { CharTarget::Stdio } else { CharTarget::Null };
            config.serial.push(default);
        }
        for text in &args.parallel {
            let target = self.target("-parallel", text, "parallel0", config)?;
            if !matches!(target, CharTarget::None | CharTarget::Null) {
                return Err(CliError::usage("-parallel: no parallel port yet, use none or null"));
            }
        }
        for text in args.monitor.iter().filter(|text| !is_vc(text)) {
            let label = format!("compat_monitor{}", config.monitors.len());
            match self.target("-monitor", text, &label, config)? {
                CharTarget::None | CharTarget::Null => {}
                target => config.monitors.push(target),
            }
        }
        for text in &args.mon {
            let mut kv = KeyVals::parse("-mon", "chardev", text);
            let id =
                kv.take("chardev").ok_or_else(|| CliError::usage("-mon: chardev=ID is missing"))?;
            let mode = kv.take("mode").unwrap_or_else(|| "readline".into());
            kv.take("pretty");
            kv.finish(&["chardev", "mode"])?;
            let target = self.named("-mon", &id)?;
            match mode.as_str() {
                "readline" => config.monitors.push(target),
                "control" => config.controls.push(target),
                _ => {
                    return Err(CliError::usage(format!(
                        "-mon: mode={mode} is no mode (readline, control)"
                    )));
                }
            }
        }
        for text in &args.qmp {
            let label = format!("qmp{}", config.controls.len());
            match self.target("-qmp", text, &label, config)? {
                CharTarget::None | CharTarget::Null => {}
                target => config.controls.push(target),
            }
        }
        let gdb = args.gdb.as_deref().or(args.gdb_default.then_some("tcp::1234"));
        config.gdb = gdb.map(|text| gdb_target("-gdb", text)).transpose()?;
        if let Some(text) = &args.debugcon {
            let target = self.target("-debugcon", text, "debugcon", config)?;
            config.debugcon.push((0xe9, target));
        }
        if let Some(text) = &args.echr {
            let code = parse_number(text).and_then(|n| u8::try_from(n).ok());
            config.escape = code.filter(|&n| n > 0 && n < 0x80).ok_or_else(|| {
                CliError::usage(format!("-echr: {text} is no ASCII code (1 to 127, or 0x14)"))
            })?;
        }
        Ok(())
    }

    /// A named one.
    pub(super) fn named(&mut self, option: &str, id: &str) -> Result<CharTarget, CliError> {
        if !self.named.iter().any(|known| known.id == id) {
            let text = format!("{option}: there is no -chardev with id={id}");
            return Err(CliError::usage(text));
        }
        self.uses.push((option.to_owned(), id.to_owned()));
        Ok(CharTarget::Chardev(id.to_owned()))
    }

    /// What a `-serial`-like value means. With `mon:` a monitor shares the far end.
    fn target(
        &mut self,
        option: &str,
        text: &str,
        label: &str,
        config: &mut MachineConfig,
    ) -> Result<CharTarget, CliError> {
        if let Some(rest) = text.strip_prefix("mon:") {
            let target = match rest.split_once(':') {
                Some(("chardev", _)) => {
                    let text =
                        format!("{option} {text}: use mux=on and -mon chardev, or mon:stdio");
                    return Err(CliError::usage(text));
                }
                _ => plain_target(option, rest)?,
            };
            return Ok(self.share(target, label, config, option != "-monitor"));
        }
        match text.split_once(':') {
            Some(("chardev", id)) => self.named(option, id),
            _ => plain_target(option, text),
        }
    }

    /// Gives a far end a name and the escape character, and, if wanted, a monitor beside the device.
    fn share(
        &mut self,
        target: CharTarget,
        label: &str,
        config: &mut MachineConfig,
        with_monitor: bool,
    ) -> CharTarget {
        if matches!(target, CharTarget::None | CharTarget::Null) {
            return target;
        }
        let shared = CharTarget::Chardev(label.to_owned());
        self.named.push(CharConfig { id: label.to_owned(), target, mux: true });
        if with_monitor {
            config.monitors.push(shared.clone());
        }
        shared
    }

    /// Checks that no far end has two users, and gives the user of stdio the escape character.
    pub(super) fn finish(
        mut self,
        args: &Args,
        config: &mut MachineConfig,
    ) -> Result<(), CliError> {
        for (i, (option, id)) in self.uses.iter().enumerate() {
            let is_mux = self.named.iter().any(|known| known.id == *id && known.mux);
            if let Some((other, _)) = self.uses[..i].iter().find(|(_, known)| known == id)
                && !is_mux
            {
                return Err(CliError::usage(format!(
                    "{option}: chardev {id} belongs to {other} already; mux=on lets both use it"
                )));
            }
        }
        let devices = config.serial.iter().chain(config.debugcon.iter().map(|(_, target)| target));
        let direct = devices.filter(|target| matches!(target, CharTarget::Stdio)).count();
        let monitors = config.monitors.iter().chain(&config.controls).chain(&config.gdb);
        let monitor = monitors.filter(|t| matches!(t, CharTarget::Stdio)).count();
        let is_stdio = |known: &&CharConfig| matches!(known.target, CharTarget::Stdio);
        let shared = self.named.iter().filter(is_stdio).count();
        if direct + monitor + shared > 1 {
            return Err(CliError::usage(
                "stdio can serve one device only (-serial, -monitor, -debugcon, -chardev); \
                 -serial mon:stdio shares it between serial port and monitor",
            ));
        }
        if monitor == 1 {
            config.stdio_signals = true;
        }
        if direct == 1 && (args.nographic || std::io::stdin().is_terminal()) {
            self.escape_on_stdio(args, config);
        }
        config.chardevs = self.named;
        Ok(())
    }

    /// A device has stdin and stdout to itself: Ctrl-a works there, and leads to a monitor if none was placed elsewhere.
    fn escape_on_stdio(&mut self, args: &Args, config: &mut MachineConfig) {
        let with_monitor = args.monitor.is_empty() && args.mon.is_empty() && !args.nodefaults;
        let serial = config.serial.iter().position(|target| matches!(target, CharTarget::Stdio));
        let label = serial.map_or("debugcon".to_owned(), |i| format!("serial{i}"));
        let shared = self.share(CharTarget::Stdio, &label, config, with_monitor);
        match serial {
            Some(i) => config.serial[i] = shared,
            None => {
                for (_, target) in &mut config.debugcon {
                    if matches!(target, CharTarget::Stdio) {
                        *target = shared.clone();
                    }
                }
            }
        }
    }
}

fn is_vc(text: &str) -> bool {
    text == "vc" || text.starts_with("vc:")
}

/// Does the user want a monitor behind Ctrl-a c of the display?
pub(super) fn has_vc_monitor(args: &Args) -> bool {
    args.monitor.iter().any(|text| is_vc(text)) || (args.monitor.is_empty() && !args.nodefaults)
}

/// Does anything use stdin and stdout?
pub(super) fn uses_stdio(config: &MachineConfig) -> bool {
    let debug = config.debugcon.iter().map(|(_, target)| target);
    config
        .serial
        .iter()
        .chain(debug)
        .chain(&config.monitors)
        .chain(&config.controls)
        .chain(&config.gdb)
        .any(|target| config.is_stdio(target))
}

/// What `-gdb` names: a socket listens, and waits for nobody.
pub(crate) fn gdb_target(option: &str, text: &str) -> Result<CharTarget, CliError> {
    match plain_target(option, text)? {
        CharTarget::Socket(socket) => {
            Ok(CharTarget::Socket(SocketTarget { server: true, wait: false, ..socket }))
        }
        target @ (CharTarget::None | CharTarget::Pty | CharTarget::Stdio) => Ok(target),
        _ => Err(CliError::usage(format!(
            "{option} {text}: tcp::PORT, unix:PATH, pty, stdio or none"
        ))),
    }
}

fn plain_target(option: &str, text: &str) -> Result<CharTarget, CliError> {
    let unsupported = || {
        CliError::usage(format!(
            "{option} {text} is not supported (stdio, mon:stdio, pty, file:F, pipe:F, unix:F, tcp:H:P, null, none)"
        ))
    };
    match text.split_once(':') {
        None if text == "stdio" => Ok(CharTarget::Stdio),
        None if text == "null" || is_vc(text) => Ok(CharTarget::Null),
        None if text == "none" => Ok(CharTarget::None),
        None if text == "pty" => Ok(CharTarget::Pty),
        Some(("vc", _)) => Ok(CharTarget::Null),
        Some(("file", path)) if !path.is_empty() => Ok(CharTarget::File(path.into())),
        Some(("pipe", path)) if !path.is_empty() => Ok(CharTarget::Pipe(path.into())),
        Some((kind @ ("unix" | "tcp"), rest)) => {
            let (place, flags) = rest.split_once(',').unwrap_or((rest, ""));
            let address = match kind {
                "unix" if !place.is_empty() => SocketAddress::Unix(place.into()),
                "tcp" => tcp(place).ok_or_else(unsupported)?,
                _ => return Err(unsupported()),
            };
            socket(address, KeyVals::parse("-serial", "", flags)).map(CharTarget::Socket)
        }
        _ => Err(unsupported()),
    }
}

/// `HOST:PORT`, `:PORT`, `[::1]:PORT`.
pub(super) fn tcp(place: &str) -> Option<SocketAddress> {
    let (host, port) = place.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some(SocketAddress::Tcp(host.to_owned(), port.parse().ok()?))
}

fn socket(address: SocketAddress, mut kv: KeyVals) -> Result<SocketTarget, CliError> {
    let server = kv.take_bool("server")?.unwrap_or(false);
    let nowait = kv.take_bool("nowait")?.unwrap_or(false);
    let wait = kv.take_bool("wait")?.unwrap_or(!nowait);
    if kv.take_bool("telnet")?.unwrap_or(false) {
        return Err(CliError::usage("telnet is not supported: connect with nc or socat"));
    }
    for quiet in ["nodelay", "delay", "ipv4", "ipv6"] {
        kv.take(quiet); // how the host carries it; the guest sees no difference
    }
    kv.finish(&["server", "wait", "nowait"])?;
    Ok(SocketTarget { address, server, wait: server && wait })
}

fn chardev(text: &str) -> Result<CharConfig, CliError> {
    let mut kv = KeyVals::parse("-chardev", "backend", text);
    let backend = kv.take("backend").unwrap_or_default();
    let id = kv.take("id").ok_or_else(|| CliError::usage("-chardev: id=ID is missing"))?;
    let mux = kv.take_bool("mux")?.unwrap_or(false);
    kv.take("signal");
    kv.take("logfile");
    kv.take("logappend");
    let path = |kv: &mut KeyVals| -> Result<PathBuf, CliError> {
        let missing = || CliError::usage(format!("-chardev {backend}: path= is missing"));
        kv.take("path").filter(|path| !path.is_empty()).map(PathBuf::from).ok_or_else(missing)
    };
    let target = match backend.as_str() {
        "stdio" => CharTarget::Stdio,
        "null" | "vc" => CharTarget::Null,
        "pty" => CharTarget::Pty,
        "file" => {
            let path = path(&mut kv)?;
            match kv.take_bool("append")?.unwrap_or(false) {
                true => CharTarget::Append(path),
                false => CharTarget::File(path),
            }
        }
        "pipe" => CharTarget::Pipe(path(&mut kv)?),
        "socket" => {
            let address = match kv.take_number("port")? {
                Some(port) => {
                    let port = u16::try_from(port).map_err(|_| {
                        CliError::usage(format!("-chardev: there is no port {port}"))
                    })?;
                    SocketAddress::Tcp(kv.take("host").unwrap_or_default(), port)
                }
                None => SocketAddress::Unix(path(&mut kv)?),
            };
            let target = socket(address, kv)?;
            return Ok(CharConfig { id, target: CharTarget::Socket(target), mux });
        }
        other => {
            return Err(CliError::usage(format!(
                "-chardev {other} is not supported (stdio, file, socket, pty, pipe, null)"
            )));
        }
    };
    kv.finish(&["id", "path", "mux"])?;
    Ok(CharConfig { id, target, mux })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_ends() {
        for (text, expect) in [
            ("stdio", "stdio"),
            ("vc:80Cx24C", "null"),
            ("pty", "pty"),
            ("file:a:b", "file:a:b"),
            ("pipe:/tmp/p", "pipe:/tmp/p"),
            ("unix:/tmp/s,server,nowait", "unix:/tmp/s,server"),
            ("unix:/tmp/s", "unix:/tmp/s"),
            ("tcp::4444,server=on,wait=off", "tcp::4444,server"),
            ("tcp:[::1]:1", "tcp:::1:1"),
        ] {
            assert_eq!(plain_target("-serial", text).unwrap().to_string(), expect, "{text}");
        }
        for text in ["", "tcp:", "tcp::x", "tcp:h:70000", "unix:", "file:", "udp::1", "tcp::1,foo"]
        {
            assert!(plain_target("-serial", text).is_err(), "{text}");
        }
        let Ok(CharTarget::Socket(socket)) = plain_target("-serial", "unix:s,server") else {
            panic!("no socket");
        };
        assert!(socket.wait);
    }

    #[test]
    fn chardevs() {
        assert!(chardev("socket,id=a,path=/s,server=on,wait=off").is_ok());
        assert!(chardev("socket,id=a,host=::1,port=5,mux=on").unwrap().mux);
        for text in ["stdio", "file,id=a", "socket,id=a", "socket,id=a,port=99999", "spice,id=a"] {
            assert!(chardev(text).is_err(), "{text}");
        }
    }
}
