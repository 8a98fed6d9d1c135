//! A daemon that runs, and a client on its socket.

use crate::tools::{Whose, tool};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// How long something may take before the test fails.
const LIMIT: Duration = Duration::from_secs(60);

/// A daemon with a monitor at `qmp` in its folder. It ends with the test.
pub struct Daemon {
    child: Option<Child>,
    folder: PathBuf,
}

impl Daemon {
    pub fn start(whose: Whose, args: &[&str], within: &Path) -> Self {
        let chardev = "socket,id=monitor,path=qmp,server=on,wait=off";
        let fixed = ["--chardev", chardev, "--monitor", "monitor"];
        let mut command = tool(whose, "qemu-storage-daemon", &fixed, within);
        let child = command.args(args).spawn().unwrap();
        Self { child: Some(child), folder: within.to_owned() }
    }

    /// A client that negotiated.
    pub fn client(&self) -> Client {
        Client::connect(&self.folder.join("qmp"))
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Sends it a signal by the shell's name for it.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let status = std::process::Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for it to end.
    pub fn ended(mut self) -> ExitStatus {
        self.child.take().unwrap().wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A client of a monitor.
pub struct Client {
    lines: BufReader<UnixStream>,
    stream: UnixStream,
    /// Events that came while something else was waited for.
    events: VecDeque<Value>,
}

impl Client {
    /// Connects as soon as somebody listens, and negotiates.
    pub fn connect(path: &Path) -> Self {
        let begun = Instant::now();
        // Paths of sockets are short; the folder may be deep.
        let folder = std::fs::File::open(path.parent().unwrap()).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        use std::os::fd::AsRawFd;
        let short = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
        let stream = loop {
            match UnixStream::connect(&short) {
                Ok(stream) => break stream,
                Err(error) => assert!(begun.elapsed() < LIMIT, "no socket: {error}"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap());
        let mut client = Self { lines, stream, events: VecDeque::new() };
        assert!(client.message()["QMP"]["version"].is_object());
        client.call("qmp_capabilities", json!({}));
        client
    }

    fn message(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    fn answer(&mut self, command: &str, arguments: Value) -> Value {
        // At once: who was told to quit reads no more.
        let message = format!("{}\n", json!({"execute": command, "arguments": arguments}));
        let written = self.stream.write_all(message.as_bytes());
        assert!(written.is_ok(), "{command}: {written:?}");
        loop {
            let message = self.message();
            if message.get("event").is_none() {
                return message;
            }
            self.events.push_back(message);
        }
    }

    /// What a command that must succeed returns.
    pub fn call(&mut self, command: &str, arguments: Value) -> Value {
        let answer = self.answer(command, arguments);
        answer.get("return").unwrap_or_else(|| panic!("{command}: {answer}")).clone()
    }

    /// Gives a command again and again until nobody uses what it is about any more.
    pub fn until_unused(&mut self, command: &str, arguments: Value) {
        let begun = Instant::now();
        loop {
            let answer = self.answer(command, arguments.clone());
            if answer.get("return").is_some() {
                return;
            }
            let text = answer["error"]["desc"].as_str().unwrap_or_default();
            assert!(text.contains("in use") && begun.elapsed() < LIMIT, "{command}: {answer}");
        }
    }

    /// The text of the error of a command that must fail.
    pub fn fails(&mut self, command: &str, arguments: Value) -> String {
        let answer = self.answer(command, arguments);
        let text = answer["error"]["desc"].as_str();
        text.unwrap_or_else(|| panic!("{command}: {answer}")).to_owned()
    }

    /// Waits for the next event of this name: what came with it.
    pub fn event(&mut self, name: &str) -> Value {
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.message(),
            };
            if event["event"] == name {
                return event["data"].clone();
            }
        }
    }
}
