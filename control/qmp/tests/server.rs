//! Monitors over sockets, with commands and events of the test's own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use chardev::{Backend, Chardevs, Config, Socket, SocketAddress};
use qmp::{Arguments, Class, Command, Dispatcher, Error, Events, Schema, Server, Source, Version};
use serde_json::{Map, Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SCHEMA: &str = "
    enum QMPCapability { oob }
    object CommandInfo { name: str }
    command qmp_capabilities { enable?: [QMPCapability] }
    command query-version -> any
    command query-commands -> [CommandInfo]
    command query-qmp-schema -> any
    command echo { what: any } -> any
    command wait
    command release oob
    command inactive
    command absent
    command later
    event PLAIN { n: int }
    event RARE { who: str, n: int } limited by who
";

struct Thing {
    events: Arc<Events>,
    gate: Mutex<Receiver<()>>,
    key: Sender<()>,
}

fn echo(_: &Thing, arguments: &Arguments) -> Result<Value, Error> {
    Ok(arguments.value("what").cloned().unwrap_or_default())
}

fn wait(thing: &Thing, _: &Arguments) -> Result<Value, Error> {
    thing.gate.lock().unwrap().recv().unwrap();
    Ok(json!({}))
}

fn release(thing: &Thing, _: &Arguments) -> Result<Value, Error> {
    thing.key.send(()).unwrap();
    Ok(json!({}))
}

fn inactive(_: &Thing, _: &Arguments) -> Result<Value, Error> {
    Err(Error::of(Class::DeviceNotActive, "not now"))
}

static COMMANDS: &[Command<Thing>] = &[
    Command { name: "echo", run: echo },
    Command { name: "wait", run: wait },
    Command { name: "release", run: release },
    Command { name: "inactive", run: inactive },
];

struct Bench {
    server: Server<Thing>,
    events: Arc<Events>,
    dispatcher: Arc<Dispatcher<Thing>>,
    _chardevs: Chardevs,
    folder: PathBuf,
}

impl Bench {
    /// With as many monitors, at sockets `0`, `1`, …
    fn start(test: &str, monitors: usize, pretty: bool) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("qmp-{test}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let schema = Arc::new(Schema::parse(SCHEMA).unwrap());
        let events = Arc::new(Events::new(Arc::clone(&schema)));
        let (key, gate) = channel();
        let thing = Thing { events: Arc::clone(&events), gate: Mutex::new(gate), key };
        let version = Version { qemu: (10, 0, 0), package: "test" };
        let dispatcher = Arc::new(Dispatcher::new(schema, &[COMMANDS], &["later"], version, thing));
        let server = Server::start(Arc::clone(&dispatcher), Arc::clone(&events)).unwrap();
        let chardevs = Chardevs::start(1, |_| {}).unwrap();
        for index in 0..monitors {
            let path = folder.join(index.to_string()).display().to_string();
            let socket = Socket {
                address: SocketAddress::Unix { path, is_abstract: false },
                server: true,
                wait: false,
                telnet: false,
                nodelay: false,
                reconnect_ms: 0,
            };
            let id = index.to_string();
            chardevs.open(&Config::new(&id, Backend::Socket(socket)), &|_| {}).unwrap();
            server.attach(chardevs.port(&id).unwrap(), pretty);
        }
        Self { server, events, dispatcher, _chardevs: chardevs, folder }
    }

    fn client(&self, monitor: usize) -> Client {
        let stream = UnixStream::connect(self.folder.join(monitor.to_string())).unwrap();
        // Only a failure takes that long.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Client { lines: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    fn emit(&self, name: &str, data: Value) {
        let Value::Object(data) = data else { panic!("{data}") };
        self.events.emit(name, data);
    }
}

struct Client {
    lines: BufReader<UnixStream>,
    stream: UnixStream,
}

impl Client {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n").unwrap().to_owned()
    }

    fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    fn says(&mut self, text: &str) -> String {
        self.send(text);
        self.line()
    }

    fn ready(bench: &Bench, monitor: usize, enable: &str) -> Self {
        let mut client = bench.client(monitor);
        client.line();
        let text =
            format!("{{'execute': 'qmp_capabilities', 'arguments': {{'enable': [{enable}]}}}}");
        assert_eq!(client.says(&text), r#"{"return": {}}"#);
        client
    }

    /// An event without its time.
    fn event(&mut self) -> Value {
        let mut event: Map<String, Value> = serde_json::from_str(&self.line()).unwrap();
        let time = event.shift_remove("timestamp").unwrap();
        assert!(time["seconds"].as_u64().unwrap() > 1_700_000_000 && time["microseconds"].is_u64());
        Value::Object(event)
    }
}

#[test]
fn a_conversation_is_as_with_the_peer() {
    let bench = Bench::start("conversation", 1, false);
    let mut client = bench.client(0);
    let version = r#"{"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": "test"}"#;
    let greeting = format!(r#"{{"QMP": {{"version": {version}, "capabilities": ["oob"]}}}}"#);
    assert_eq!(client.line(), greeting);
    let error = |class: &str, text: &str| {
        format!(r#"{{"error": {{"class": "{class}", "desc": "{text}"}}}}"#)
    };
    let negotiate = "Expecting capabilities negotiation with 'qmp_capabilities'";
    let complete = "Capabilities negotiation is already complete, command ignored";
    for (text, answer) in [
        ("{'execute': 'echo'}", error("CommandNotFound", negotiate)),
        ("{'execute': 'qmp_capabilities'}", r#"{"return": {}}"#.to_owned()),
        ("{'execute': 'qmp_capabilities'}", error("CommandNotFound", complete)),
        ("{'execute': 'query-version'}", format!(r#"{{"return": {version}}}"#)),
        (
            "{'id': [1, {}], 'execute': 'echo', 'arguments': {'what': 'x'}}",
            r#"{"return": "x", "id": [1, {}]}"#.to_owned(),
        ),
        ("{'execute': 'no'}", error("CommandNotFound", "The command no has not been found")),
        (
            "{'execute': 'absent'}",
            error("CommandNotFound", "The command absent has not been found"),
        ),
        ("{'execute': 'later'}", error("GenericError", "not supported yet: later")),
        ("{'execute': 'PLAIN'}", error("CommandNotFound", "The command PLAIN has not been found")),
        ("{'execute': 'inactive'}", error("DeviceNotActive", "not now")),
        ("{'execute': 1}", error("GenericError", "QMP input member 'execute' must be a string")),
        (
            "{'execute': 'echo', 'arguments': []}",
            error("GenericError", "QMP input member 'arguments' must be an object"),
        ),
        (
            "{'execute': 'echo', 'x': 1}",
            error("GenericError", "QMP input member 'x' is unexpected"),
        ),
        (
            "{'exec-oob': 'release'}",
            error("GenericError", "QMP input member 'exec-oob' is unexpected"),
        ),
        ("{'execute': 'echo'}", error("GenericError", "Parameter 'what' is missing")),
        ("[]", error("GenericError", "QMP input must be a JSON object")),
        ("@\n", error("GenericError", "JSON parse error, stray '@'")),
    ] {
        assert_eq!(client.says(text), answer, "{text}");
    }
    let last = client.says("{'id': 4}");
    assert!(last.starts_with(r#"{"id": 4, "error": "#), "{last}");
    assert!(last.contains("QMP input lacks member 'execute'"), "{last}");
    let commands = client.says("{'execute': 'query-commands'}");
    assert!(commands.contains("\"inactive\"") && !commands.contains("absent"), "{commands}");
}

#[test]
fn many_commands_may_be_sent_at_once() {
    let bench = Bench::start("many", 1, false);
    let mut client = Client::ready(&bench, 0, "");
    let text = |n: usize| format!("{{'execute': 'echo', 'arguments': {{'what': {n}}}}}\n");
    let all: String = (0..500).map(text).collect();
    let mut stream = client.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || stream.write_all(all.as_bytes()).unwrap());
    for n in 0..500 {
        assert_eq!(client.line(), format!("{{\"return\": {n}}}"));
    }
    writer.join().unwrap();
}

#[test]
fn a_command_can_overtake_one_that_waits() {
    let bench = Bench::start("oob", 1, false);
    let mut client = Client::ready(&bench, 0, "'oob'");
    client.send(
        "{'execute': 'wait', 'id': 1} {'execute': 'echo', 'id': 2, 'arguments': {'what': 0}}",
    );
    assert!(client.says("{'exec-oob': 'echo', 'id': 3}").contains("does not support OOB"));
    client.send("{'exec-oob': 'release', 'id': 4}");
    let mut answers = [client.line(), client.line(), client.line()];
    answers.sort();
    let expected =
        [r#"{"return": 0, "id": 2}"#, r#"{"return": {}, "id": 1}"#, r#"{"return": {}, "id": 4}"#];
    assert_eq!(answers, expected);
    assert!(client.says("{'exec-oob': 'no'}").contains("The command no has not been found"));
    let both = client.says("{'exec-oob': 'release', 'execute': 'echo'}");
    assert!(both.contains("'execute' clashes with 'exec-oob'"), "{both}");
}

#[test]
fn clients_are_apart_and_a_new_one_starts_afresh() {
    let bench = Bench::start("apart", 2, false);
    let mut first = Client::ready(&bench, 0, "");
    let mut second = bench.client(1);
    second.line();
    assert!(second.says("{'execute': 'echo'}").contains("Expecting capabilities"));
    drop(second);
    let mut third = Client::ready(&bench, 1, "'oob'");
    // The first one leaves in the middle of a message, and while a command runs.
    first.send("{'execute': 'wait'} {'execute': ");
    drop(first);
    assert_eq!(third.says("{'exec-oob': 'release'}"), r#"{"return": {}}"#);
    let mut fourth = Client::ready(&bench, 0, "");
    assert_eq!(fourth.says("{'execute': 'echo', 'arguments': {'what': 1}}"), r#"{"return": 1}"#);
}

#[test]
fn events_reach_who_negotiated_and_rare_ones_are_held_back() {
    let bench = Bench::start("events", 2, false);
    let mut first = Client::ready(&bench, 0, "");
    let mut second = bench.client(1);
    second.line();
    bench.emit("PLAIN", json!({"n": 1}));
    for n in 1..5 {
        bench.emit("RARE", json!({"who": "a", "n": n}));
    }
    bench.emit("RARE", json!({"who": "b", "n": 9}));
    let rare = |who: &str, n: u32| json!({"event": "RARE", "data": {"who": who, "n": n}});
    assert_eq!(first.event(), json!({"event": "PLAIN", "data": {"n": 1}}));
    assert_eq!(first.event(), rare("a", 1));
    assert_eq!(first.event(), rare("b", 9));
    // Of those that came too soon after the first, the last is sent.
    assert_eq!(first.event(), rare("a", 4));
    assert_eq!(second.says("{'execute': 'qmp_capabilities'}"), r#"{"return": {}}"#);
}

#[test]
fn answers_can_be_pretty() {
    let bench = Bench::start("pretty", 1, true);
    let mut client = bench.client(0);
    let greeting: Vec<String> = (0..15).map(|_| client.line()).collect();
    assert_eq!(greeting[..3], ["{", "    \"QMP\": {", "        \"version\": {"]);
    assert_eq!(client.says("{'execute': 'qmp_capabilities'}"), "{");
    assert_eq!([client.line(), client.line(), client.line()], ["    \"return\": {", "    }", "}"]);
}

#[test]
fn options_run_commands_and_the_server_ends_in_order() {
    let bench = Bench::start("options", 1, false);
    let client = Client::ready(&bench, 0, "");
    let words = Map::from_iter([("what".to_owned(), json!("x"))]);
    assert_eq!(bench.dispatcher.call("echo", words, Source::Words), Ok(json!("x")));
    assert!(Arc::ptr_eq(&bench.dispatcher.context().events, &bench.events));
    drop(client);
    bench.server.finish();
}
