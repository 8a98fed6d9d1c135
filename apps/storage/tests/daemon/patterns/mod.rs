//! Random requests of our tools and the installed ones, in turn, on one image. After each turn both
//! have to find in it what was written, and nothing wrong with it.
//!
//! `PATTERNS=N` makes N rounds with other requests each; `cargo xtask patterns` does that.

mod cases;
mod model;

use crate::Test;
use crate::client::Daemon;
use crate::tools::{Whose, folder, tool};
use cases::{CASES, Case, SECRET};
use model::Model;
use seeded::Random;
use std::path::Path;
use std::process::{Child, Output};
use std::time::{Duration, Instant};

pub const TESTS: &[Test] = &[("either_tool_goes_on_where_the_other_stopped", patterns)];

/// Bytes of the disks, most bytes that they grow to, and the unit of lengths.
const SIZE: u64 = 4 << 20;
const MOST: u64 = 6 << 20;
const UNIT: u64 = 1 << 20;
/// Turns of a round, and requests of a turn.
const TURNS: u64 = 4;
const REQUESTS: u64 = 10;

/// How requests get to the image.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// `qemu-io` opens it.
    Direct,
    /// Through `qemu-nbd`.
    Server,
    /// Through an export of the storage daemon.
    Daemon,
}

fn patterns() {
    let rounds = std::env::var("PATTERNS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for round in 1..=rounds {
        for case in CASES {
            let seed = round << 32 | u64::from(case.name.bytes().map(u32::from).sum::<u32>());
            let mut story = Story::begin(case, seed);
            for turn in 0..TURNS {
                story.turn(turn);
            }
            let _ = std::fs::remove_dir_all(&story.within);
        }
    }
}

/// How long a server may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All that a tool printed.
fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// One image and what has happened to it.
struct Story {
    case: &'static Case,
    random: Random,
    within: std::path::PathBuf,
    model: Model,
    told: Vec<String>,
}

impl Story {
    fn begin(case: &'static Case, seed: u64) -> Self {
        let within = folder("patterns");
        let mut random = Random(seed);
        random.next();
        let maker = [Whose::Ours, Whose::Peer][random.below(2) as usize];
        case.create(maker, SIZE, &within);
        let told = vec![format!("{}, seed {seed:#x}, made by {maker:?}", case.name)];
        let mut story = Self { case, random, within, model: Model::default(), told };
        story.model.accept(story.content(Whose::Peer));
        story.compare(Whose::Ours);
        story
    }

    fn turn(&mut self, turn: u64) {
        let whose = [Whose::Ours, Whose::Peer][((turn + self.random.below(3) / 2) % 2) as usize];
        let way = match self.random.below(4) {
            0 => Way::Server,
            1 => Way::Daemon,
            _ => Way::Direct,
        };
        self.told.push(format!("turn {turn}: {whose:?}, {way:?}"));
        let commands: Vec<String> = (0..REQUESTS).map(|_| self.request(whose, way)).collect();
        self.told.extend(commands.iter().map(|command| format!("  {command}")));
        match way {
            Way::Direct => self.direct(whose, &commands),
            Way::Server => self.through_server(whose, &commands),
            Way::Daemon => self.through_daemon(whose, &commands),
        }
        self.manage(whose);
        self.verify();
    }

    /// The next request, which the model has then seen.
    fn request(&mut self, whose: Whose, way: Way) -> String {
        let random = &mut self.random;
        let size = self.model.len();
        let most = [512, 5000, 70_000, 1 << 19][random.below(4) as usize];
        let align = [1, 512, 4096, 65536][random.below(4) as usize];
        let start = random.below(size) / align * align;
        let len = (random.below(most).next_multiple_of(align).max(align)).min(size - start);
        let byte = random.below(255) as u8 + 1;
        let packs = self.case.packs;
        match random.below(10) {
            0..3 if self.case.zeroes_are_lost => {
                self.model.fill(start, len, 0);
                format!("write -P 0 {start} {len}")
            }
            0 | 1 => {
                self.model.fill(start, len, 0);
                format!("write -z {start} {len}")
            }
            2 => {
                self.model.fill(start, len, 0);
                format!("write -z -u {start} {len}")
            }
            3 => {
                self.model.forget(start, len);
                format!("discard {start} {len}")
            }
            4 => "flush".to_owned(),
            // The peer packs only what was never written.
            5 if packs != 0 && matches!((whose, way), (Whose::Ours, Way::Direct)) => {
                let start = start / packs * packs;
                let len = packs.min(size - start);
                self.model.fill(start, len, byte);
                format!("write -c -P {byte} {start} {len}")
            }
            6 => {
                let half = len.div_ceil(2);
                self.model.fill(start, len, byte);
                let rest = len - half;
                if rest == 0 {
                    format!("write -P {byte} {start} {len}")
                } else {
                    format!("writev -P {byte} {start} {half} {rest}")
                }
            }
            7 => {
                self.model.fill(start, len, byte);
                format!("write -f -P {byte} {start} {len}")
            }
            _ => {
                self.model.fill(start, len, byte);
                format!("write -P {byte} {start} {len}")
            }
        }
    }

    fn direct(&self, whose: Whose, commands: &[String]) {
        let image = self.case.image();
        self.io(whose, commands, &[&SECRET[..], &["--image-opts", &image]].concat());
    }

    fn io(&self, whose: Whose, commands: &[String], target: &[&str]) {
        let mut args: Vec<&str> = commands.iter().flat_map(|text| ["-c", text]).collect();
        args.extend(target);
        let begun = Instant::now();
        let (output, text) = loop {
            let output = tool(whose, "qemu-io", &args, &self.within).output().unwrap();
            let text = said(&output);
            // A server is there for a moment before it listens.
            if !text.contains("Connection refused") || begun.elapsed() > LIMIT {
                break (output, text);
            }
        };
        let bad = !output.status.success() || text.contains("failed") || text.contains("rror");
        assert!(!bad, "{}\n{text}", self.story());
    }

    /// Through the server of one side, with the client of the other.
    fn through_server(&mut self, whose: Whose, commands: &[String]) {
        let image = self.case.image();
        let socket = self.within.join("nbd").display().to_string();
        let args = ["--discard=unmap", "-k", &socket, "--image-opts", &image];
        let mut server = tool(whose, "qemu-nbd", &[&SECRET[..], &args].concat(), &self.within);
        let mut server = Server(server.spawn().unwrap());
        self.over_nbd(commands, "nbd+unix:///?socket=nbd");
        // It ends with its client.
        assert!(server.0.wait().unwrap().success(), "{}", self.story());
        let _ = std::fs::remove_file(&socket);
    }

    fn over_nbd(&mut self, commands: &[String], uri: &str) {
        let begun = Instant::now();
        while !self.within.join("nbd").exists() {
            assert!(begun.elapsed() < LIMIT, "no socket\n{}", self.story());
            std::thread::sleep(Duration::from_millis(2));
        }
        let client = [Whose::Ours, Whose::Peer][self.random.below(2) as usize];
        self.told.push(format!("  by the client of {client:?}"));
        self.io(client, commands, &["-f", "raw", uri]);
    }

    fn through_daemon(&mut self, whose: Whose, commands: &[String]) {
        let node = format!("{},node-name=disk", self.case.image());
        let node = node.trim_start_matches("driver=");
        let export = "nbd,id=e,node-name=disk,writable=on";
        let server = "addr.type=unix,addr.path=nbd";
        let args = ["--blockdev", node, "--nbd-server", server, "--export", export];
        let daemon = Daemon::start(whose, &[&SECRET[..], &args].concat(), &self.within);
        // It talks when all is there.
        drop(daemon.client());
        self.over_nbd(commands, "nbd+unix:///disk?socket=nbd");
        daemon.signal("TERM");
        assert!(daemon.ended().success(), "{}", self.story());
        for socket in ["nbd", "qmp"] {
            let _ = std::fs::remove_file(self.within.join(socket));
        }
    }

    /// Snapshots and another length, now and then. What a tool refuses changes nothing.
    fn manage(&mut self, whose: Whose) {
        let image = self.case.image();
        let open = [&SECRET[..], &["--image-opts", &image]].concat();
        match self.random.below(4) {
            0 | 1 if self.case.snapshots => {
                let name = format!("s{}", self.random.below(3));
                let known = self.model.has_snapshot(&name);
                let what = match (known, self.random.below(2)) {
                    (false, _) => "-c",
                    (true, 0) => "-a",
                    (true, _) => "-d",
                };
                self.told.push(format!("  snapshot {what} {name}"));
                let args = [&["snapshot", what, &name][..], &open].concat();
                if self.done(whose, &args) {
                    self.model.snapshot(what, &name);
                }
            }
            2 => {
                let size = (self.random.below((MOST - UNIT) / UNIT) + 1) * UNIT;
                self.told.push(format!("  resize to {size}"));
                let text = size.to_string();
                let args = [&["resize", "-q", "--shrink"][..], &open, &[&text]].concat();
                // The peer shows again what a shrunk disk had in its last cluster.
                let grows_as_zeroes = self.case.format != "luks" && whose == Whose::Ours;
                if self.done(whose, &args) {
                    self.model.resize(size, grows_as_zeroes);
                }
            }
            _ => {}
        }
    }

    /// Whether the tool did it; it must not end in another way than by saying no.
    fn done(&mut self, whose: Whose, args: &[&str]) -> bool {
        let output = tool(whose, "qemu-img", args, &self.within).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1)), "{code:?} {text}\n{}", self.story());
        if code == Some(1) {
            self.told.push(format!("    refused: {}", text.trim_end()));
        }
        code == Some(0)
    }

    /// Both find what is to be there, and nothing wrong.
    fn verify(&mut self) {
        let found = self.content(Whose::Peer);
        if let Err(at) = self.model.check(&found) {
            panic!("other content at {at:#x}\n{}", self.story());
        }
        self.model.accept(found);
        self.compare(Whose::Ours);
        let image = self.case.image();
        for whose in [Whose::Ours, Whose::Peer] {
            let args = [&["check"][..], &SECRET, &["--image-opts", &image]].concat();
            let output = tool(whose, "qemu-img", &args, &self.within).output().unwrap();
            // Formats that cannot be checked say so.
            let fine = matches!(output.status.code(), Some(0 | 63));
            let text = said(&output);
            assert!(fine, "check by {whose:?}: {text}\n{}", self.story());
        }
    }

    /// The content as a tool finds it.
    fn content(&self, whose: Whose) -> Vec<u8> {
        let image = self.case.image();
        let args = [&["convert"][..], &SECRET, &["--image-opts", "-O", "raw", &image, "raw"]];
        let output = tool(whose, "qemu-img", &args.concat(), &self.within).output().unwrap();
        assert!(output.status.success(), "{}\n{}", said(&output), self.story());
        std::fs::read(self.within.join("raw")).unwrap()
    }

    /// A tool finds in the image what the other one found.
    fn compare(&self, whose: Whose) {
        let image = self.case.image();
        let raw = "driver=raw,file.driver=file,file.filename=raw";
        let args = [&["compare"][..], &SECRET, &["--image-opts", &image, raw]].concat();
        let output = tool(whose, "qemu-img", &args, &self.within).output().unwrap();
        let text = said(&output);
        assert!(output.status.success(), "{whose:?}: {text}\n{}", self.story());
    }

    fn story(&self) -> String {
        format!("{}\nin {}", self.told.join("\n"), Path::new(&self.within).display())
    }
}
