//! QMP as a program speaks it: greeting, handshake, commands, errors, events, the end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    events: Vec<Value>,
}

impl Session {
    /// The embedded demo, stopped, with QMP on stdin and stdout.
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stele"));
        command.args(["-display", "none", "-serial", "null", "-qmp", "stdio", "-S"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, input, output, events: Vec::new() }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// The next answer; events on the way are kept.
    fn answer(&mut self) -> Value {
        loop {
            let object = self.line();
            match object.get("event") {
                Some(_) => self.events.push(object),
                None => return object,
            }
        }
    }

    fn send(&mut self, text: &str) -> Value {
        self.input.write_all(text.as_bytes()).expect("it reads");
        self.answer()
    }

    fn execute(&mut self, name: &str, arguments: Value) -> Value {
        self.send(&json!({ "execute": name, "arguments": arguments }).to_string())
    }

    /// Waits for an event.
    fn event(&mut self, name: &str) -> Value {
        loop {
            if let Some(at) = self.events.iter().position(|event| event["event"] == name) {
                return self.events.remove(at);
            }
            let object = self.line();
            assert!(object.get("event").is_some(), "{object}");
            self.events.push(object);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_session() {
    let mut qmp = Session::start();
    let greeting = qmp.line();
    assert_eq!(greeting["QMP"]["version"]["qemu"]["major"], 7, "{greeting}");
    // Nothing before the handshake.
    let refused = qmp.execute("query-status", json!({}));
    assert_eq!(refused["error"]["class"], "CommandNotFound");
    assert_eq!(qmp.send("{\"execute\": \"qmp_capabilities\", \"id\": 7}\n")["id"], 7);
    // A stopped machine goes on, and is stopped again.
    let status = qmp.execute("query-status", json!({}));
    assert_eq!(
        status["return"],
        json!({"running": false, "singlestep": false, "status": "paused"})
    );
    assert_eq!(qmp.execute("cont", json!({}))["return"], json!({}));
    assert!(qmp.event("RESUME")["timestamp"]["seconds"].is_u64());
    qmp.execute("stop", json!({}));
    qmp.event("STOP");
    qmp.execute("system_powerdown", json!({}));
    qmp.event("POWERDOWN");
    qmp.execute("system_reset", json!({}));
    assert_eq!(qmp.event("RESET")["data"]["guest"], false);
    let human = qmp.execute("human-monitor-command", json!({"command-line": "info status"}));
    assert_eq!(human["return"], "VM status: paused\r\n");
    let block = qmp.execute("query-block", json!({}));
    assert_eq!(block["return"][0]["device"], "ide0-hd0", "{block}");
    let commands = qmp.execute("query-commands", json!({}));
    assert!(commands["return"].as_array().is_some_and(|list| list.len() > 12), "{commands}");
    let dir = tempfile::tempdir().expect("a folder");
    let picture = dir.path().join("a \"b\".png");
    let dump = json!({"filename": picture.display().to_string(), "format": "png"});
    assert!(qmp.execute("screendump", dump)["error"].is_object(), "quotes are refused");
    let picture = dir.path().join("a b.png");
    let dump = json!({"filename": picture.display().to_string(), "format": "png"});
    assert_eq!(qmp.execute("screendump", dump)["return"], json!({}));
    assert!(std::fs::read(picture).expect("a picture").starts_with(b"\x89PNG"));
    let keys =
        json!({"keys": [{"type": "qcode", "data": "shift"}, {"type": "qcode", "data": "a"}]});
    assert_eq!(qmp.execute("send-key", keys)["return"], json!({}));
    // The end.
    assert_eq!(qmp.execute("quit", json!({}))["return"], json!({}));
    assert_eq!(qmp.event("SHUTDOWN")["data"]["reason"], "host-qmp-quit");
    assert_eq!(qmp.child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn bytes_that_are_no_commands() {
    let mut qmp = Session::start();
    qmp.line();
    qmp.send("{\"execute\":\"qmp_capabilities\"}");
    for (bytes, class) in [
        ("nonsense\n", "GenericError"),
        ("[1, 2]\n", "GenericError"),
        ("{\"execute\": 5}", "GenericError"),
        ("{}", "GenericError"),
        ("{\"execute\": \"no-such\"}", "CommandNotFound"),
        ("{\"execute\": \"eject\"}", "GenericError"),
        ("{\"execute\": \"eject\", \"arguments\": {\"device\": \"none\"}}", "GenericError"),
        ("{\"execute\": \"send-key\", \"arguments\": {\"keys\": [3]}}", "GenericError"),
        ("{\"execute\": \"qmp_capabilities\"}", "CommandNotFound"),
    ] {
        let answer = qmp.send(bytes);
        assert_eq!(answer["error"]["class"], class, "{bytes}: {answer}");
        assert!(answer["error"]["desc"].is_string());
    }
    // Commands may come in pieces, and several at once.
    qmp.input.write_all(b"{\"execute\":").expect("it reads");
    qmp.input.flush().expect("it reads");
    std::thread::sleep(std::time::Duration::from_millis(50));
    let two = " \"query-name\"}{\"execute\": \"query-version\", \"id\": [1]}";
    assert_eq!(qmp.send(two)["return"], json!({}));
    assert_eq!(qmp.answer()["id"], json!([1]));
    // What never ends is cut off.
    let long = format!("{{\"execute\": \"{}", "x".repeat(1 << 20));
    assert_eq!(qmp.send(&long)["error"]["class"], "GenericError");
}
