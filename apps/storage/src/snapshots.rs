//! Snapshots: overlays that take over, and states inside of an image.

use crate::daemon::{Answer, Daemon, done, io_failed, refused};
use formats::SnapshotSync;
use graph::{Image, Member, Operation, SnapshotInfo};
use qmp::{Arguments, Command, Error};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) static COMMANDS: &[Command<Daemon>] = &[
    Command { name: "blockdev-snapshot", run: |d, a| overlay(d, a).and_then(|_| done()) },
    Command { name: "blockdev-snapshot-sync", run: |d, a| new_overlay(d, a).and_then(|_| done()) },
    Command {
        name: "blockdev-snapshot-internal-sync",
        run: |d, a| internal(d, a).and_then(|_| done()),
    },
    Command { name: "blockdev-snapshot-delete-internal-sync", run: delete_internal },
];

/// An overlay that took over from a node.
pub(crate) struct TookOver {
    node: Arc<Member>,
    overlay: Arc<Member>,
}

impl TookOver {
    /// Gives the place back to the node below.
    pub fn undo(self, daemon: &Daemon) {
        // It was like this before, so nobody minds.
        let _ = daemon.graph().replace(&self.overlay, &self.node);
        let _ = daemon.graph().set_backing(&self.overlay, None);
    }
}

/// `blockdev-snapshot`, alone or in a transaction.
pub(crate) fn overlay(daemon: &Daemon, arguments: &Arguments) -> Result<TookOver, Error> {
    let (node, overlay) = (arguments.text("node"), arguments.text("overlay"));
    daemon.manage(|manager| manager.snapshot(node, overlay)).map_err(refused)?;
    Ok(TookOver { node: daemon.node(node)?, overlay: daemon.node(overlay)? })
}

/// `blockdev-snapshot-sync`, alone or in a transaction: makes the overlay first.
pub(crate) fn new_overlay(daemon: &Daemon, arguments: &Arguments) -> Result<(), Error> {
    let (device, node) = (arguments.text_if("device"), arguments.text_if("node-name"));
    let what = SnapshotSync {
        node: node.or(device).unwrap_or_default().to_owned(),
        by_node_name: node.is_some(),
        snapshot_node_name: arguments.text_if("snapshot-node-name").map(str::to_owned),
        snapshot_file: arguments.text("snapshot-file").to_owned(),
        format: arguments.text_if("format").map(str::to_owned),
        existing: arguments.text("mode") == "existing",
    };
    daemon.device_or_node(arguments)?;
    daemon.manage(|manager| manager.snapshot_sync(&what)).map_err(refused)
}

/// Gives the place back that the overlay called `name` took; the overlay goes, its file stays.
pub(crate) fn take_back(daemon: &Daemon, node: &Arc<Member>, name: &str) {
    if let Some(overlay) = daemon.graph().named(name) {
        TookOver { node: Arc::clone(node), overlay }.undo(daemon);
    }
}

/// A snapshot that was taken inside of an image.
pub(crate) struct Taken {
    node: Arc<Member>,
    id: String,
}

impl Taken {
    /// Removes it again.
    pub fn undo(self) {
        if let Some(snapshots) = self.node.node().image().and_then(Image::snapshots) {
            // The image is as it was, but for space that may be lost.
            let _ = snapshots.delete(&self.id);
        }
    }
}

/// `blockdev-snapshot-internal-sync`, alone or in a transaction.
pub(crate) fn internal(daemon: &Daemon, arguments: &Arguments) -> Result<Taken, Error> {
    let (device, name) = (arguments.text("device"), arguments.text("name"));
    let node = daemon.node(device)?;
    daemon.graph().check_blocked(&node, Operation::InternalSnapshot).map_err(refused)?;
    if node.node().read_only() {
        return Err(Error::new(format!("Device '{device}' is read only")));
    }
    let image = node.node();
    let Some(snapshots) = image.image().and_then(Image::snapshots) else {
        return Err(Error::new(format!(
            "Block format '{}' used by device '{device}' does not support internal snapshots",
            node.node().info().driver
        )));
    };
    if name.is_empty() {
        return Err(Error::new("Name is empty"));
    }
    let there = snapshots.list();
    if there.iter().any(|snapshot| snapshot.name == name) {
        let text = format!("Snapshot with name '{name}' already exists on device '{device}'");
        return Err(Error::new(text));
    }
    let numbers = there.iter().filter_map(|snapshot| snapshot.id.parse::<u64>().ok());
    let id = numbers.max().unwrap_or(0).saturating_add(1).to_string();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let info = SnapshotInfo {
        id: id.clone(),
        name: name.to_owned(),
        vm_state_size: 0,
        date_sec: u32::try_from(now.as_secs()).unwrap_or(u32::MAX),
        date_nsec: now.subsec_nanos(),
        vm_clock_nsec: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        icount: None,
        disk_size: node.node().size(),
    };
    let _drained = daemon.graph().drain(&node);
    let failed = format!("Failed to create snapshot '{name}' on device '{device}'");
    snapshots.create(&info).map_err(|error| io_failed(&failed, &error))?;
    Ok(Taken { node: Arc::clone(&node), id })
}

fn delete_internal(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let device = arguments.text("device");
    let (id, name) = (arguments.text_if("id"), arguments.text_if("name"));
    let node = daemon.node(device)?;
    if id.is_none() && name.is_none() {
        return Err(Error::new("Name or id must be provided"));
    }
    daemon.graph().check_blocked(&node, Operation::InternalSnapshotDelete).map_err(refused)?;
    let image = node.node();
    let Some(snapshots) = image.image().and_then(Image::snapshots) else {
        return Err(Error::new(format!(
            "Block format '{}' used by device '{device}' does not support internal snapshots",
            node.node().info().driver
        )));
    };
    let fits =
        |s: &SnapshotInfo| id.is_none_or(|id| s.id == id) && name.is_none_or(|n| s.name == n);
    let Some(found) = snapshots.list().into_iter().find(fits) else {
        return Err(Error::new(format!(
            "Snapshot with id '{}' and name '{}' does not exist on device '{device}'",
            id.unwrap_or("null"),
            name.unwrap_or("null")
        )));
    };
    let _drained = daemon.graph().drain(&node);
    let failed = format!("Failed to delete snapshot '{}' on device '{device}'", found.name);
    snapshots.delete(&found.id).map_err(|error| io_failed(&failed, &error))?;
    Ok(shown(&found))
}

fn shown(snapshot: &SnapshotInfo) -> Value {
    json!({
        "id": snapshot.id,
        "name": snapshot.name,
        "vm-state-size": snapshot.vm_state_size,
        "date-sec": snapshot.date_sec,
        "date-nsec": snapshot.date_nsec,
        "vm-clock-sec": snapshot.vm_clock_nsec / 1_000_000_000,
        "vm-clock-nsec": snapshot.vm_clock_nsec % 1_000_000_000,
    })
}
