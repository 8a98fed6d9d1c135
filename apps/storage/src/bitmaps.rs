//! Dirty bitmaps.

use crate::daemon::{Answer, Daemon, done, refusal};
use jobs::site::{BitmapName, NewBitmap, Saved};
use qmp::{Arguments, Command, Error};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) static COMMANDS: &[Command<Daemon>] = &[
    Command { name: "block-dirty-bitmap-add", run: |d, a| add(d, a).and_then(|()| done()) },
    Command { name: "block-dirty-bitmap-remove", run: |d, a| remove(d, a).and_then(|()| done()) },
    Command { name: "block-dirty-bitmap-clear", run: |d, a| clear(d, a).and_then(|_| done()) },
    Command {
        name: "block-dirty-bitmap-enable",
        run: |d, a| enable(d, a, true).and_then(|_| done()),
    },
    Command {
        name: "block-dirty-bitmap-disable",
        run: |d, a| enable(d, a, false).and_then(|_| done()),
    },
    Command { name: "block-dirty-bitmap-merge", run: |d, a| merge(d, a).and_then(|_| done()) },
    Command { name: "x-debug-block-dirty-bitmap-sha256", run: digest },
];

/// The digest of a bitmap's bits, in words as a host with little endians has them.
fn digest(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let (node, name) = (arguments.text("node"), arguments.text("name"));
    let mut hash = Sha256::new();
    let hear = |word: u64| hash.update(word.to_le_bytes());
    daemon.site.bitmaps.each_word(node, name, hear).map_err(refusal)?;
    let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(json!({"sha256": digits}))
}

pub(crate) fn add(daemon: &Daemon, arguments: &Arguments) -> Result<(), Error> {
    let granularity = arguments.size("granularity").and_then(|bytes| u32::try_from(bytes).ok());
    let new = NewBitmap {
        node: arguments.text("node").to_owned(),
        name: arguments.text("name").to_owned(),
        granularity,
        persistent: arguments.switch("persistent").unwrap_or(false),
        disabled: arguments.switch("disabled").unwrap_or(false),
    };
    daemon.site.bitmaps.add(&new).map_err(refusal)
}

pub(crate) fn remove(daemon: &Daemon, arguments: &Arguments) -> Result<(), Error> {
    let (node, name) = (arguments.text("node"), arguments.text("name"));
    daemon.site.bitmaps.remove(node, name).map_err(refusal)
}

pub(crate) fn clear(daemon: &Daemon, arguments: &Arguments) -> Result<Saved, Error> {
    let (node, name) = (arguments.text("node"), arguments.text("name"));
    daemon.site.bitmaps.clear(node, name).map_err(refusal)
}

pub(crate) fn enable(daemon: &Daemon, arguments: &Arguments, on: bool) -> Result<Saved, Error> {
    let (node, name) = (arguments.text("node"), arguments.text("name"));
    daemon.site.bitmaps.enable(node, name, on).map_err(refusal)
}

pub(crate) fn merge(daemon: &Daemon, arguments: &Arguments) -> Result<Saved, Error> {
    let sources: Vec<BitmapName> = arguments.list("bitmaps").iter().map(named).collect();
    let (node, target) = (arguments.text("node"), arguments.text("target"));
    daemon.site.bitmaps.merge(node, target, &sources).map_err(refusal)
}

/// A bitmap's name, or a node's with it.
pub(crate) fn named(value: &Value) -> BitmapName {
    match value {
        Value::Object(members) => {
            let text = |key: &str| members.get(key).and_then(Value::as_str).map(str::to_owned);
            BitmapName { node: text("node"), name: text("name").unwrap_or_default() }
        }
        _ => BitmapName { node: None, name: value.as_str().unwrap_or_default().to_owned() },
    }
}
