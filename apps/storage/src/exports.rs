//! Exports of block nodes: who offers them to whom.

use crate::daemon::{Answer, Daemon, done, lock, refused};
use crate::fuse_export;
use crate::nbd_server::{self, NbdServer};
use crate::vhost_export;
use graph::{Access, Edge, Member, Permissions, User};
use options::identifier;
use qmp::{Arguments, Command, Error};
use serde_json::{Value, json};
use std::os::unix::fs::FileTypeExt;
use std::sync::{Arc, Mutex};

pub(crate) static COMMANDS: &[Command<Daemon>] = &[
    Command { name: "block-export-add", run: add },
    Command { name: "block-export-del", run: remove },
    Command { name: "query-block-exports", run: list },
    Command { name: "nbd-server-start", run: nbd_server::start_legacy },
    Command { name: "nbd-server-stop", run: nbd_server::stop },
    Command { name: "nbd-server-add", run: nbd_add },
    Command { name: "nbd-server-remove", run: nbd_remove },
];

/// Opens an export of one kind on an edge to its node.
type Open = fn(&Daemon, &Arguments, &Arc<Edge>) -> Result<Box<dyn Export>, Error>;

/// Kinds of exports.
const KINDS: &[(&str, Open)] = &[
    ("nbd", nbd_server::open),
    ("fuse", fuse_export::open),
    ("vhost-user-blk", vhost_export::open),
    ("vduse-blk", |_, _, _| Err(Error::not_yet("export type 'vduse-blk'"))),
];

/// An export that is open.
pub(crate) trait Export: Send + Sync {
    /// Ends it unless somebody uses it; whether it ended.
    fn close_if_unused(&self) -> bool;
    /// Ends it: its users are sent away, and their last requests are done.
    fn close(&self);
}

struct Entry {
    id: String,
    kind: String,
    edge: Arc<Edge>,
    export: Box<dyn Export>,
}

/// The exports that there are, and the NBD server.
#[derive(Default)]
pub(crate) struct ExportList {
    entries: Mutex<Vec<Entry>>,
    pub server: Mutex<Option<NbdServer>>,
}

impl ExportList {
    /// Ends all exports, and the server.
    pub fn close_all(&self, daemon: &Daemon) {
        let server = lock(&self.server).take();
        for entry in std::mem::take(&mut *lock(&self.entries)) {
            end(daemon, entry);
        }
        drop(server);
    }

    /// Ends the exports of this kind.
    pub fn close_kind(&self, daemon: &Daemon, kind: &str) {
        let (gone, kept) =
            std::mem::take(&mut *lock(&self.entries)).into_iter().partition(|e| e.kind == kind);
        *lock(&self.entries) = kept;
        let gone: Vec<Entry> = gone;
        gone.into_iter().for_each(|entry| end(daemon, entry));
    }
}

/// Ends an export that is no longer in the list.
fn end(daemon: &Daemon, entry: Entry) {
    entry.export.close();
    // Nothing is in flight any more, whoever still holds the edge.
    entry.edge.turn(None);
    daemon.emit("BLOCK_EXPORT_DELETED", json!({"id": entry.id}));
}

/// Removes a socket that an earlier run left behind; anything else at its path is not ours.
pub(crate) fn clear_socket(path: &str) {
    if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
        // Who cannot remove it learns so when it is bound.
        let _ = std::fs::remove_file(path);
    }
}

fn add(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let (id, kind) = (arguments.text("id"), arguments.text("type"));
    if !identifier(id) {
        return Err(Error::new("Invalid block export id"));
    }
    if lock(&daemon.exports.entries).iter().any(|entry| entry.id == id) {
        return Err(Error::new(format!("Block export id '{id}' is already in use")));
    }
    let Some((_, open)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        return Err(Error::new(format!("No driver found for export type '{kind}'")));
    };
    let node = arguments.text("node-name");
    let missing = || Error::new(format!("Cannot find device='' nor node-name='{node}'"));
    let member = daemon.graph().named(node).ok_or_else(missing)?;
    if let Some(thread) = arguments.text_if("iothread") {
        daemon.objects.check_iothread(thread)?;
    }
    let puts_up = kind == "nbd" && arguments.switch("allow-inactive") == Some(true);
    if member.options().inactive && !puts_up {
        if arguments.switch("allow-inactive") == Some(true) {
            return Err(Error::new("Export type does not support inactive exports"));
        }
        daemon.graph().activate(&member).map_err(refused)?;
    }
    let writable = arguments.switch("writable").unwrap_or(false);
    if writable && (member.node().read_only() || member.options().read_only) {
        return Err(Error::new("Cannot export read-only node as writable"));
    }
    let growable = arguments.switch("growable").unwrap_or(false);
    let edge = edge(daemon, &member, writable, growable, puts_up)?;
    let export = open(daemon, arguments, &edge)?;
    let (id, kind) = (id.to_owned(), kind.to_owned());
    lock(&daemon.exports.entries).push(Entry { id, kind, edge, export });
    done()
}

/// An edge for an export: others may do with the node what they like.
fn edge(
    daemon: &Daemon,
    member: &Arc<Member>,
    writable: bool,
    growable: bool,
    puts_up: bool,
) -> Result<Arc<Edge>, Error> {
    let write = if writable { Access::WRITE } else { Access::NONE };
    let grow = if growable { Access::RESIZE } else { Access::NONE };
    let taken = Access::READ.with(write).with(grow);
    let permissions = Permissions { taken, shared: Access::ALL };
    let user = User::Device(String::new());
    let edge = daemon.graph().attach(member, user, Permissions::UNUSED).map_err(refused)?;
    if puts_up {
        edge.put_up();
    }
    daemon.graph().require(&edge, permissions).map_err(refused)?;
    Ok(edge)
}

fn remove(daemon: &Daemon, arguments: &Arguments) -> Answer {
    remove_named(daemon, arguments.text("id"), arguments.text("mode") == "hard")
}

fn remove_named(daemon: &Daemon, id: &str, hard: bool) -> Answer {
    let entry = {
        let mut entries = lock(&daemon.exports.entries);
        let at = entries.iter().position(|entry| entry.id == id);
        let at = at.ok_or_else(|| Error::new(format!("Export '{id}' is not found")))?;
        if !hard && !entries[at].export.close_if_unused() {
            return Err(Error::new(format!("export '{id}' still in use")));
        }
        entries.remove(at)
    };
    end(daemon, entry);
    done()
}

fn list(daemon: &Daemon, _: &Arguments) -> Answer {
    let entries = lock(&daemon.exports.entries);
    let one = |entry: &Entry| {
        let node = entry.edge.target().map(|member| member.name().to_owned());
        json!({"id": entry.id, "type": entry.kind, "node-name": node, "shutting-down": false})
    };
    Ok(entries.iter().rev().map(one).collect())
}

/// The older way: the export is called as its node unless told otherwise.
fn nbd_add(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let device = arguments.text("device");
    daemon.node(device)?;
    let name = arguments.text_if("name").unwrap_or(device);
    let mut given = json!({"type": "nbd", "id": name, "name": name, "node-name": device});
    for key in ["description", "writable"] {
        if let Some(value) = arguments.value(key) {
            given[key] = value.clone();
        }
    }
    if let Some(bitmap) = arguments.value("bitmap") {
        given["bitmaps"] = Value::Array(vec![bitmap.clone()]);
    }
    add(daemon, &Arguments::new(crate::daemon::members(given)))
}

fn nbd_remove(daemon: &Daemon, arguments: &Arguments) -> Answer {
    remove_named(daemon, arguments.text("name"), arguments.text("mode") == "hard")
}
