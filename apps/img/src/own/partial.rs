//! Conversions that go on after they were killed.
//!
//! The target is written as `TARGET.partial` and gets its name when it is complete. Beside it,
//! `TARGET.partial.json` says what is converted into it: the options, the files of the source with
//! length and time of change, and how many bytes are copied and stable. The order is: the state with
//! nothing done; the partial target; again and again, content, flush, state (written to a new file,
//! synced, renamed); at the end, content, flush, the target's name, and the state goes. So a state never
//! says more than is there.
//!
//! Who goes on opens the partial target, which locks it, gives back space that was lost when the last run
//! ended, and compares what is said to be there with the source.

use crate::args::Args;
use crate::commands::compare;
use crate::image::ImageArgs;
use crate::progress::Meter;
use crate::{Failure, Invocation, text};
use graph::{Fix, Node};
use jobs::{Progress, Silent};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Between two points from which a conversion can go on, unless the user says after how many bytes.
const PAUSE: Duration = Duration::from_secs(2);

/// Longest state that is read.
const MAX_STATE: u64 = 1 << 20;

/// Options that change nothing about what is converted.
const PASSING: &[&str] = &[
    "quiet",
    "progress",
    "rate",
    "parallel",
    "oob-writes",
    "object",
    "restart",
    "checkpoint",
    "source-cache",
    "target-cache",
    "force-share",
];

/// Subformats that put the content into files beside the one that is named.
const SEVERAL_FILES: &[&str] = &["monolithicFlat", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse"];

/// A target that is not complete.
pub(crate) struct Partial {
    target: PathBuf,
    path: PathBuf,
    state_path: PathBuf,
    /// What this conversion is; with how far it is, the state.
    identity: Value,
    /// Bytes that an earlier run copied.
    done: Option<u64>,
    /// Bytes between two checkpoints; zero for none.
    every: Option<u64>,
    /// What has the target's name now, locked until it is replaced.
    replaced: Option<Arc<dyn Node>>,
}

impl Partial {
    /// Where the conversion of `source` to `target` writes to, and how far an earlier run came; `None` for
    /// targets that are no plain files.
    pub fn find(
        called: &Invocation,
        args: &Args,
        image_args: &ImageArgs,
        source: &dyn Node,
        target: &str,
    ) -> Result<Option<Self>, Failure> {
        let name = target.strip_prefix("file:").unwrap_or(target);
        let plain = !name.split('/').next().is_some_and(|first| first.contains(':'));
        let several = |text: &str| SEVERAL_FILES.iter().any(|sub| text.contains(sub));
        let exists = fs::metadata(name).ok();
        if args.has("no-create")
            || !plain
            || exists.as_ref().is_some_and(|meta| !meta.is_file())
            || args.values("target-options").any(several)
        {
            return Ok(None);
        }
        // A link stays one: what it leads to is replaced.
        let target = fs::canonicalize(name).unwrap_or_else(|_| PathBuf::from(name));
        let replaced = match exists {
            Some(_) => {
                let raw = image_args.other(Some("raw"));
                Some(raw.open(name, |o| (o.writable, o.share) = (true, false))?)
            }
            None => None,
        };
        let every = args.value("checkpoint").map(|v| text::parse_bytes("checkpoint", v));
        let beside = |end: &str| {
            let mut path = target.clone().into_os_string();
            path.push(end);
            PathBuf::from(path)
        };
        let mut partial = Self {
            path: beside(".partial"),
            state_path: beside(".partial.json"),
            identity: identity(args, source),
            done: None,
            every: every.transpose()?,
            replaced,
            target,
        };
        partial.look(args.has("restart"))?;
        if let Some(done) = partial.done {
            let (there, all) = (text::size(done), text::size(source.size()));
            called.warn(&format!("going on at {there} of {all}; what is there is compared first"));
        }
        Ok(Some(partial))
    }

    /// Finds out what an earlier run left.
    fn look(&mut self, restart: bool) -> Result<(), Failure> {
        let (path, state_path) = (self.path.display(), self.state_path.display());
        if restart || !(self.path.exists() || self.state_path.exists()) {
            return Ok(());
        }
        let state = read_state(&self.state_path)
            .map_err(|e| Failure::io(format!("{state_path}: no state of a conversion"), &e));
        let otherwise = "remove it, or begin anew with --restart";
        let state =
            state.map_err(|f| f.followed_by(&format!("  {path} is in the way: {otherwise}")))?;
        for (key, what) in
            [("options", "other options"), ("sources", "another source, or it has changed")]
        {
            if state[key] != self.identity[key] {
                return Err(Failure::new(format!(
                    "{path}: left by a conversion with {what}: {otherwise}"
                )));
            }
        }
        self.done = state["done"].as_u64().filter(|done| *done > 0 && self.path.exists());
        Ok(())
    }

    /// The file to write to.
    pub fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Bytes that an earlier run copied; without, the target is to be made.
    pub fn done(&self) -> Option<u64> {
        self.done
    }

    /// Before the target is made.
    pub fn begin(&self) -> Result<(), Failure> {
        self.record(0)
            .map_err(|e| Failure::io(format!("Could not write {}", self.state_path.display()), &e))
    }

    /// Gives back the space that the last run lost when it ended; for targets that can be checked.
    pub fn mend(&self, image_args: &ImageArgs) -> Result<(), Failure> {
        image_args.check(&self.path(), Fix::Leaks).map(|_| ())
    }

    /// Bytes at the target's beginning that are the source's.
    pub fn verified(&self, source: &Arc<dyn Node>, target: &Arc<dyn Node>) -> Result<u64, Failure> {
        let done = self.done.unwrap_or(0).min(source.size()).min(target.size());
        let difference = compare::first_difference(source, target, 0..done, &Silent)?;
        // Where compression begins a unit, whatever its size.
        let unit = 2 << 20;
        let same = difference.unwrap_or(done);
        Ok(same - same % unit)
    }

    /// Writes the state: `done` bytes are stable in the target.
    fn record(&self, done: u64) -> io::Result<()> {
        let mut state = self.identity.clone();
        state["done"] = done.into();
        let mut new = self.state_path.clone().into_os_string();
        new.push(".new");
        let mut file = fs::File::create(&new)?;
        file.write_all(state.to_string().as_bytes())?;
        file.sync_data()?;
        fs::rename(&new, &self.state_path)
    }

    /// The target, which is closed, gets its name.
    pub fn complete(self) -> Result<(), Failure> {
        let failed = |e| Failure::io(format!("Could not name {}", self.target.display()), &e);
        if let Ok(old) = fs::metadata(&self.target) {
            fs::set_permissions(&self.path, old.permissions()).map_err(failed)?;
        }
        fs::rename(&self.path, &self.target).map_err(failed)?;
        let folder = self.target.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = fs::File::open(folder.unwrap_or(Path::new(".")));
        folder.and_then(|folder| folder.sync_all()).map_err(failed)?;
        fs::remove_file(&self.state_path).map_err(failed)?;
        drop(self.replaced);
        Ok(())
    }

    /// The conversion failed: what can be gone on with stays.
    pub fn give_up(&self, called: &Invocation) {
        let state = read_state(&self.state_path).ok();
        let done = state.and_then(|state| state["done"].as_u64()).unwrap_or(0);
        if done > 0 {
            let there = text::size(done);
            called.warn(&format!("{there} are kept in {}: the same command goes on", self.path()));
        } else {
            // What is not there need not be removed.
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_file(&self.state_path);
        }
    }
}

fn read_state(path: &Path) -> io::Result<Value> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    if fs::metadata(path)?.len() > MAX_STATE {
        return Err(invalid());
    }
    let state: Value = serde_json::from_slice(&fs::read(path)?).map_err(|_| invalid())?;
    if state["conversion"] == 1 { Ok(state) } else { Err(invalid()) }
}

/// What is converted, and how.
fn identity(args: &Args, source: &dyn Node) -> Value {
    let options = args.given().filter(|(option, _)| !PASSING.contains(option));
    let options: Vec<Value> = options.map(|(option, value)| json!([option, value])).collect();
    let mut sources = Vec::new();
    note_files(source, &mut sources);
    json!({
        "conversion": 1,
        "options": [options, args.operands],
        "sources": sources,
        "size": source.size(),
    })
}

/// The files below a node, in the order of its children; what is no file is known by its name only.
fn note_files(node: &dyn Node, found: &mut Vec<Value>) {
    let children = node.children();
    if children.is_empty() {
        let name = node.info().filename;
        let file = fs::metadata(&name).map(|meta| {
            json!([meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()])
        });
        found.push(json!({ "name": name, "length": node.size(), "file": file.ok() }));
    }
    children.iter().for_each(|child| note_files(&*child.node, found));
}

/// Makes what was copied stable now and then.
pub(crate) struct Checkpoints<'a> {
    pub meter: &'a Meter,
    pub target: &'a dyn Node,
    pub partial: Option<&'a Partial>,
    /// The last one: bytes, and when.
    pub last: Mutex<(u64, Instant)>,
}

impl Progress for Checkpoints<'_> {
    fn at(&self, done: u64, total: u64) {
        self.meter.at(done, total);
    }

    fn written(&self, up_to: u64) -> io::Result<()> {
        let Some(partial) = self.partial else { return Ok(()) };
        // One worker is enough, and the others need not wait for it.
        let Ok(mut last) = self.last.try_lock() else { return Ok(()) };
        let due = match partial.every {
            Some(0) => false,
            Some(bytes) => up_to >= last.0.saturating_add(bytes),
            None => last.1.elapsed() >= PAUSE,
        };
        if due && up_to > last.0 {
            self.target.flush()?;
            partial.record(up_to)?;
            *last = (up_to, Instant::now());
        }
        Ok(())
    }
}
