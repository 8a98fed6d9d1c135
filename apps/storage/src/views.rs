//! What is shown of nodes and jobs.

use graph::{
    Edge, Graph, GraphEdge, GraphNode, Member, NodeInfo, NodeKind, Notice, Role, SECTOR, User,
};
use jobs::job::{Event, JobInfo, Kind, Milestone};
use jobs::site::{DirtyInfo, Site};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A node as `query-named-block-nodes` shows it.
pub(crate) fn node(site: &Site, member: &Arc<Member>, flat: bool) -> Value {
    let facts = site.graph.facts(member);
    let info = &facts.info;
    let depth = if flat { 0 } else { facts.backing_depth };
    let told = facts.options.read_only && !facts.options.auto_read_only;
    let by_itself = facts.read_only && member.kind() != NodeKind::Filter;
    let mut about = crate::daemon::members(json!({
        "file": file_name(info, member),
        "node-name": member.name(),
        "ro": told || by_itself,
        "drv": info.driver,
        "backing_file_depth": depth,
        "active": !facts.options.inactive,
        "encrypted": info.encrypted,
        "detect_zeroes": detect_zeroes(member),
        "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0,
        "image": image(member, flat),
        "cache": {
            "writeback": true,
            "direct": facts.options.direct,
            "no-flush": facts.options.no_flush,
        },
        "write_threshold": facts.write_threshold,
    }));
    if let Some(backing) = &info.backing_filename {
        about.insert("backing_file".into(), json!(backing));
    }
    let bitmaps: Vec<Value> = site.bitmaps.list(member).iter().map(bitmap).collect();
    if !bitmaps.is_empty() {
        about.insert("dirty-bitmaps".into(), Value::Array(bitmaps));
    }
    Value::Object(about)
}

fn detect_zeroes(member: &Member) -> &'static str {
    match member.options().detect_zeroes {
        graph::DetectZeroes::Off => "off",
        graph::DetectZeroes::On => "on",
        graph::DetectZeroes::Unmap => "unmap",
    }
}

/// Its own file name, or that of the child that has its bytes.
fn file_name(info: &NodeInfo, member: &Arc<Member>) -> String {
    if !info.filename.is_empty() {
        return info.filename.clone();
    }
    let child = member.children().into_iter().find_map(|edge| edge.target());
    child.map(|child| file_name(&child.node().info(), &child)).unwrap_or_default()
}

fn backing(member: &Arc<Member>) -> Option<Arc<Member>> {
    let is_backing = |edge: &Arc<Edge>| *edge.user() == User::Node(Role::Backing);
    member.children().into_iter().find(is_backing).and_then(|edge| edge.target())
}

fn image(member: &Arc<Member>, flat: bool) -> Value {
    let mut about = crate::daemon::members(img::image_json(&*member.node()));
    about.shift_remove("children");
    if is_null(member) {
        // There is nothing that could be dirty, or of a format.
        about.shift_remove("dirty-flag");
        about.shift_remove("format-specific");
    }
    if !flat && let Some(backing) = backing(member) {
        about.insert("backing-image".into(), image(&backing, false));
    }
    Value::Object(about)
}

/// Whether the bytes come from nowhere.
fn is_null(member: &Arc<Member>) -> bool {
    match member.node().info().driver {
        "null-co" | "null-aio" => true,
        "raw" => {
            let file = member.children().into_iter().find_map(|edge| edge.target());
            file.is_some_and(|file| is_null(&file))
        }
        _ => false,
    }
}

fn bitmap(info: &DirtyInfo) -> Value {
    let mut about = crate::daemon::members(json!({
        "name": info.name,
        "count": info.count,
        "granularity": info.granularity,
        "recording": info.recording,
        "busy": info.busy,
        "persistent": info.persistent,
    }));
    if info.inconsistent {
        about.insert("inconsistent".into(), json!(true));
    }
    Value::Object(about)
}

/// Counters of a node. Most belong to devices, which are not here.
pub(crate) fn statistics(member: &Arc<Member>) -> Value {
    const COUNTERS: &[&str] = &[
        "rd_bytes",
        "wr_bytes",
        "zone_append_bytes",
        "unmap_bytes",
        "rd_operations",
        "wr_operations",
        "zone_append_operations",
        "flush_operations",
        "unmap_operations",
        "rd_total_time_ns",
        "wr_total_time_ns",
        "zone_append_total_time_ns",
        "flush_total_time_ns",
        "unmap_total_time_ns",
        "wr_highest_offset",
        "rd_merged",
        "wr_merged",
        "zone_append_merged",
        "unmap_merged",
        "failed_rd_operations",
        "failed_wr_operations",
        "failed_zone_append_operations",
        "failed_flush_operations",
        "failed_unmap_operations",
        "invalid_rd_operations",
        "invalid_wr_operations",
        "invalid_zone_append_operations",
        "invalid_flush_operations",
        "invalid_unmap_operations",
    ];
    let zero = COUNTERS.iter().map(|name| ((*name).to_owned(), json!(0)));
    let mut counters: Map<String, Value> = zero.collect();
    for name in ["account_invalid", "account_failed"] {
        counters.insert(name.to_owned(), json!(false));
    }
    counters.insert("timed_stats".to_owned(), json!([]));
    counters.insert("wr_highest_offset".to_owned(), json!(member.highest_write()));
    let mut about = crate::daemon::members(json!({"node-name": member.name(), "stats": counters}));
    let child = member.children().into_iter().find(|edge| *edge.user() == User::Node(Role::File));
    if let Some(child) = child.and_then(|edge| edge.target()) {
        about.insert("parent".to_owned(), statistics(&child));
    }
    if let Some(backing) = backing(member) {
        about.insert("backing".to_owned(), statistics(&backing));
    }
    let driver = member.node().info().driver;
    if matches!(driver, "file" | "host_device") {
        let discards = member.discarded();
        let own = json!({
            "driver": driver, "discard-nb-ok": discards.ok, "discard-nb-failed": discards.failed,
            "discard-bytes-ok": discards.bytes,
        });
        about.insert("driver-specific".to_owned(), own);
    }
    Value::Object(about)
}

/// Nodes and edges with their permissions, for developers.
pub(crate) fn graph(graph: &Graph) -> Value {
    let (nodes, edges) = graph.drawing();
    let node =
        |node: &GraphNode| json!({"id": node.id, "type": node.kind.name(), "name": node.name});
    let edge = |edge: &GraphEdge| {
        json!({
            "parent": edge.parent, "child": edge.child, "name": edge.name,
            "perm": edge.perm.names(), "shared-perm": edge.shared_perm.names(),
        })
    };
    let nodes: Vec<Value> = nodes.iter().map(node).collect();
    let edges: Vec<Value> = edges.iter().map(edge).collect();
    json!({"nodes": nodes, "edges": edges})
}

/// A job as `query-jobs` shows it.
pub(crate) fn job(job: &JobInfo) -> Value {
    let mut about = crate::daemon::members(json!({
        "id": job.id,
        "type": job.kind.name(),
        "status": job.status.name(),
        "current-progress": job.current,
        "total-progress": job.total,
    }));
    about.extend(job.error.as_ref().map(|error| ("error".to_owned(), json!(error))));
    Value::Object(about)
}

/// A job as `query-block-jobs` shows it.
pub(crate) fn block_job(job: &JobInfo) -> Value {
    let mut about = crate::daemon::members(json!({
        "type": job.kind.name(),
        "device": job.id,
        "len": job.total,
        "offset": job.current,
        "busy": job.busy,
        "paused": job.paused,
        "speed": job.speed,
        "io-status": job.io_status.name(),
        "ready": job.ready,
        "status": job.status.name(),
        "auto-finalize": job.auto_finalize,
        "auto-dismiss": job.auto_dismiss,
    }));
    about.extend(job.error.as_ref().map(|error| ("error".to_owned(), json!(error))));
    if job.kind == Kind::Mirror {
        about.insert("actively-synced".into(), json!(job.actively_synced.unwrap_or_default()));
    }
    Value::Object(about)
}

/// What comes with an event about a job.
pub(crate) fn job_event(event: &Event) -> Map<String, Value> {
    crate::daemon::members(match event {
        Event::Status { id, status } => json!({"id": id, "status": status.name()}),
        Event::Ready(at) | Event::Cancelled(at) | Event::Completed(at, None) => milestone(at),
        Event::Completed(at, Some(error)) => {
            let mut about = milestone(at);
            about["error"] = json!(error);
            about
        }
        Event::Pending { kind, id } => json!({"type": kind.name(), "id": id}),
        Event::Error { device, operation, action } => {
            json!({"device": device, "operation": operation.name(), "action": action.name()})
        }
    })
}

/// The event by which clients hear of a node, and what comes with it.
pub(crate) fn notice(notice: &Notice) -> (&'static str, Map<String, Value>) {
    let sectors = |offset: u64, len: u64| {
        let first = offset / SECTOR;
        (first, offset.saturating_add(len).div_ceil(SECTOR) - first)
    };
    match notice {
        Notice::Disagreement { node, offset, len } => {
            let (first, count) = sectors(*offset, *len);
            let data = json!({"reference": node, "sector-num": first, "sectors-count": count});
            ("QUORUM_FAILURE", crate::daemon::members(data))
        }
        Notice::BadChild { child, operation, offset, len, error } => {
            let (first, count) = sectors(*offset, *len);
            let mut data = crate::daemon::members(json!({
                "type": operation, "node-name": child, "sector-num": first, "sectors-count": count,
            }));
            data.extend(error.as_ref().map(|text| ("error".to_owned(), json!(text))));
            ("QUORUM_REPORT_BAD", data)
        }
    }
}

fn milestone(at: &Milestone) -> Value {
    json!({
        "type": at.kind.name(), "device": at.device, "len": at.len, "offset": at.offset,
        "speed": at.speed,
    })
}
