//! QMP: the monitor for programs. One JSON object a command, one an answer, one an event, as QEMU's "QMP Interop
//! Specification" has them; a part of its commands, and `human-monitor-command` for everything else.
//!
//! A peer is trusted as the user of a monitor is, its bytes are not: what is wrong with them is an error object, and
//! what does not end is cut off.

use devices::chardev::CharBackend;
use serde_json::{Value, json};

use super::run_line;
use crate::console::{Front, Received};
use crate::disk::{DriveBus, DriveSource, Media};
use crate::machine::{DriveConfig, Exit, Format, Machine};

/// Most bytes of a command.
const COMMAND_MAX: usize = 1 << 20;
/// Most commands run before the guest gets its turn again.
const COMMANDS_AT_ONCE: usize = 16;

/// Something that happened to the machine.
#[derive(Clone, Debug)]
pub struct Event {
    name: &'static str,
    data: Value,
    /// Since 1970.
    at: std::time::Duration,
}

impl Event {
    /// An event of now.
    pub fn new(name: &'static str, data: Value) -> Self {
        let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self { name, data, at: at.unwrap_or_default() }
    }
}

/// Why a command was not done: QMP's class of the error, and a sentence.
struct Refusal {
    class: &'static str,
    desc: String,
}

impl From<String> for Refusal {
    fn from(desc: String) -> Self {
        Self { class: "GenericError", desc }
    }
}

type Answer = Result<Value, Refusal>;
type Command = fn(&mut Machine, &Value) -> Answer;

/// The commands, in the order of `query-commands`.
const COMMANDS: &[(&str, Command)] = &[
    ("blockdev-change-medium", change),
    ("cont", |machine, _| done(machine.cont())),
    ("eject", eject),
    ("human-monitor-command", human),
    ("inject-nmi", |machine, _| {
        machine.send_nmi();
        Ok(json!({}))
    }),
    ("query-block", |machine, _| {
        Ok(Value::Array(machine.drives().iter().map(describe_drive).collect()))
    }),
    ("query-commands", |_, _| {
        Ok(Value::Array(COMMANDS.iter().map(|(name, _)| json!({ "name": name })).collect()))
    }),
    ("query-name", |machine, _| {
        let name = machine.name();
        Ok(if name.is_empty() { json!({}) } else { json!({ "name": name }) })
    }),
    ("query-status", status),
    ("query-version", |_, _| Ok(version())),
    ("quit", |machine, _| {
        machine.end(Exit::Quit);
        Ok(json!({}))
    }),
    ("screendump", screendump),
    ("send-key", send_key),
    ("stop", |machine, _| {
        machine.stop();
        Ok(json!({}))
    }),
    ("system_powerdown", |machine, _| done(run_line(machine, "system_powerdown"))),
    ("system_reset", |machine, _| done(run_line(machine, "system_reset"))),
];

/// A QMP monitor on a line.
#[derive(Debug)]
pub struct Qmp {
    front: Front,
    input: Vec<u8>,
    /// Capabilities are agreed: commands are taken and events sent.
    is_ready: bool,
}

impl Qmp {
    /// A monitor with this end of a line.
    pub fn new(front: Front) -> Self {
        Self { front, input: Vec::new(), is_ready: false }
    }

    /// Tells the peer of an event.
    pub(crate) fn tell(&mut self, event: &Event) {
        if self.is_ready {
            let (seconds, microseconds) = (event.at.as_secs(), event.at.subsec_micros());
            let mut object = json!({
                "timestamp": { "seconds": seconds, "microseconds": microseconds },
                "event": event.name,
            });
            if !event.data.is_null() {
                object["data"] = event.data.clone();
            }
            self.say(&object);
        }
    }

    /// Serves what has come in.
    pub(crate) fn poll(&mut self, machine: &mut Machine) {
        for _ in 0..COMMANDS_AT_ONCE {
            match self.next_object() {
                Some(Ok(object)) => {
                    let answer = self.run(&object, machine);
                    self.answer(&object, answer);
                }
                Some(Err(desc)) => self.answer(&Value::Null, Err(desc.into())),
                None => return,
            }
            if machine.is_ending() {
                return;
            }
        }
        machine.input().wake();
    }

    /// The next whole object.
    fn next_object(&mut self) -> Option<Result<Value, String>> {
        while let Some(received) = self.front.receive() {
            match received {
                Received::Opened => {
                    self.input.clear();
                    self.is_ready = false;
                    self.say(&json!({ "QMP": { "version": version(), "capabilities": [] } }));
                }
                Received::Break => {}
                Received::Byte(byte) if self.input.is_empty() && byte.is_ascii_whitespace() => {}
                Received::Byte(byte) => {
                    self.input.push(byte);
                    // An object ends with its brace; anything else is looked at by the line.
                    if matches!(byte, b'}' | b'\n')
                        && let Some(whole) = self.parse()
                    {
                        return Some(whole);
                    }
                    if self.input.len() >= COMMAND_MAX {
                        self.input.clear();
                        return Some(Err("the command is too long".to_owned()));
                    }
                }
            }
        }
        None
    }

    /// What has come, if it is whole, or can be no object.
    fn parse(&mut self) -> Option<Result<Value, String>> {
        let parsed = match serde_json::from_slice::<Value>(&self.input) {
            Err(error) if error.is_eof() => return None,
            Err(error) => Err(format!("JSON parse error, {error}")),
            Ok(object) if object.is_object() => Ok(object),
            Ok(_) => Err("QMP input must be a JSON object".to_owned()),
        };
        self.input.clear();
        Some(parsed)
    }

    fn run(&mut self, object: &Value, machine: &mut Machine) -> Answer {
        let name = object.get("execute").and_then(Value::as_str).ok_or_else(|| {
            Refusal::from("QMP input lacks member 'execute', a string".to_owned())
        })?;
        let unknown = |desc: String| Refusal { class: "CommandNotFound", desc };
        if name == "qmp_capabilities" {
            if self.is_ready {
                return Err(unknown("capabilities are agreed already".to_owned()));
            }
            self.is_ready = true;
            return Ok(json!({}));
        }
        if !self.is_ready {
            let desc = "Expecting capabilities negotiation with 'qmp_capabilities'";
            return Err(unknown(desc.to_owned()));
        }
        let found = COMMANDS.iter().find(|(known, _)| *known == name);
        let (_, command) =
            found.ok_or_else(|| unknown(format!("The command {name} has not been found")))?;
        command(machine, object.get("arguments").unwrap_or(&Value::Null))
    }

    fn answer(&mut self, object: &Value, answer: Answer) {
        let mut reply = match answer {
            Ok(value) => json!({ "return": value }),
            Err(Refusal { class, desc }) => json!({ "error": { "class": class, "desc": desc } }),
        };
        if let Some(id) = object.get("id") {
            reply["id"] = id.clone();
        }
        self.say(&reply);
    }

    fn say(&mut self, object: &Value) {
        self.front.write(format!("{object}\r\n").as_bytes());
    }
}

/// The QEMU whose commands these are, for clients that look, and who answers.
fn version() -> Value {
    let package = concat!("Stele ", env!("CARGO_PKG_VERSION"));
    json!({ "qemu": { "major": 7, "minor": 2, "micro": 0 }, "package": package })
}

fn done<T>(result: Result<T, String>) -> Answer {
    result.map(|_| json!({})).map_err(Refusal::from)
}

/// A member that must be there.
fn text<'a>(arguments: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    let found = arguments.get(name).and_then(Value::as_str);
    found.ok_or_else(|| Refusal::from(format!("Parameter '{name}' is missing, or no string")))
}

/// `device` or `id`: the drive's name.
fn device(arguments: &Value) -> Result<&str, Refusal> {
    text(arguments, "device").or_else(|_| text(arguments, "id"))
}

fn is_set(arguments: &Value, name: &str) -> bool {
    arguments.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn status(machine: &mut Machine, _: &Value) -> Answer {
    let status = match machine.status() {
        "running" => "running",
        "paused" => "paused",
        _ => "shutdown",
    };
    Ok(json!({ "status": status, "running": status == "running", "singlestep": false }))
}

fn human(machine: &mut Machine, arguments: &Value) -> Answer {
    let line = text(arguments, "command-line")?;
    // QEMU's answers to people are text in either case.
    let mut answer = run_line(machine, line).unwrap_or_else(|why| format!("Error: {why}"));
    if !answer.is_empty() && !answer.ends_with('\n') {
        answer.push('\n');
    }
    Ok(Value::String(answer.replace('\n', "\r\n")))
}

fn screendump(machine: &mut Machine, arguments: &Value) -> Answer {
    let file = quoted(text(arguments, "filename")?)?;
    let format = arguments.get("format").and_then(Value::as_str).unwrap_or("ppm");
    done(run_line(machine, &format!("screendump {file} -f {}", quoted(format)?)))
}

fn send_key(machine: &mut Machine, arguments: &Value) -> Answer {
    let keys = arguments.get("keys").and_then(Value::as_array);
    let names = keys.map(|keys| keys.iter().map(|key| key.get("data").and_then(Value::as_str)));
    let names: Option<Vec<&str>> = names.and_then(Iterator::collect);
    let names = names.ok_or_else(|| Refusal::from("keys must be a list of qcodes".to_owned()))?;
    let hold = arguments.get("hold-time").and_then(Value::as_u64).unwrap_or(100);
    done(run_line(machine, &format!("sendkey {} {hold}", quoted(&names.join("-"))?)))
}

fn eject(machine: &mut Machine, arguments: &Value) -> Answer {
    let force = is_set(arguments, "force");
    done(machine.change_medium(device(arguments)?, None, force))
}

fn change(machine: &mut Machine, arguments: &Value) -> Answer {
    let format = match arguments.get("format").and_then(Value::as_str) {
        None => None,
        Some("raw") => Some(Format::Raw),
        Some("qcow2") => Some(Format::Qcow2),
        Some(other) => {
            return Err(format!("format {other} is neither raw nor qcow2").into());
        }
    };
    let image = (text(arguments, "filename")?.into(), format);
    done(machine.change_medium(device(arguments)?, Some(image), is_set(arguments, "force")))
}

/// A word for a monitor's line.
fn quoted(text: &str) -> Result<String, Refusal> {
    match text.contains(['"', '\n', '\r']) {
        true => Err(format!("{text:?} holds a quote or a line's end").into()),
        false => Ok(format!("\"{text}\"")),
    }
}

fn describe_drive(drive: &DriveConfig) -> Value {
    let is_removable = drive.media == Media::Cdrom || drive.bus == DriveBus::Floppy;
    let mut object = json!({
        "device": drive.name(),
        "type": "unknown",
        "locked": false,
        "removable": is_removable,
    });
    let file = match &drive.source {
        DriveSource::Empty => return object,
        DriveSource::File(path) => path.display().to_string(),
        DriveSource::Bytes(_) => String::new(),
    };
    let driver = if drive.format == Some(Format::Qcow2) { "qcow2" } else { "raw" };
    let is_read_only = drive.read_only || drive.media == Media::Cdrom;
    object["inserted"] = json!({
        "file": file,
        "drv": driver,
        "ro": is_read_only,
        "encrypted": false,
        "backing_file_depth": u8::from(drive.snapshot),
    });
    object
}
