//! Internal snapshots as tables and JSON.

use graph::{Image, Node, SnapshotInfo};
use host::local_time;
use serde_json::{Value, json};

/// The snapshots of an image.
pub(crate) fn snapshots_of(node: &dyn Node) -> Vec<SnapshotInfo> {
    node.image().and_then(Image::snapshots).map(|s| s.list()).unwrap_or_default()
}

/// `Snapshot list:` with a line for each, or nothing.
pub(crate) fn snapshot_table(node: &dyn Node) -> String {
    let snapshots = snapshots_of(node);
    if snapshots.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "Snapshot list:\n{:<7} {:<16} {:>8} {:>19} {:>15} {:>10}\n",
        "ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT"
    );
    for s in &snapshots {
        let size = crate::text::size(s.vm_state_size);
        let icount = s.icount.map(|n| n.to_string()).unwrap_or_default();
        text.push_str(&format!(
            "{:<7} {:<16} {size:>8} {:>19} {:>15} {icount:>10}\n",
            s.id,
            s.name,
            local_time(i64::from(s.date_sec)),
            clock(s.vm_clock_nsec),
        ));
    }
    text
}

/// `HHHH:MM:SS.mmm`
fn clock(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:04}:{minutes:02}:{:02}.{:03}", seconds % 60, nanoseconds / 1_000_000 % 1000)
}

/// The snapshots as `info --output=json` shows them; `None` without any.
pub(crate) fn snapshots_json(node: &dyn Node) -> Option<Value> {
    let snapshots = snapshots_of(node);
    let one = |s: &SnapshotInfo| {
        let mut value = json!({
            "vm-clock-nsec": s.vm_clock_nsec % 1_000_000_000,
            "name": s.name,
            "date-sec": s.date_sec,
            "date-nsec": s.date_nsec,
            "vm-clock-sec": s.vm_clock_nsec / 1_000_000_000,
            "id": s.id,
            "vm-state-size": s.vm_state_size,
        });
        if let Some(count) = s.icount {
            value["icount"] = count.into();
        }
        value
    };
    (!snapshots.is_empty()).then(|| snapshots.iter().map(one).collect())
}
