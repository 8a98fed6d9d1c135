//! What an image is, for people: `tinamou img info` without `--output`.

use crate::image::stored_in;
use crate::snapshots::snapshots_of;
use crate::text;
use graph::{Node, Property};

/// Names of properties that people ask for, and how they are called here.
const PROPERTIES: &[(&str, &str)] = &[
    ("compression-type", "compression"),
    ("create-type", "kind"),
    ("data-file", "data file"),
    ("bitmaps", "dirty bitmaps"),
];

/// An image in a few lines.
pub(crate) fn summary(node: &dyn Node) -> String {
    let info = node.info();
    let (length, allocated) = on_host(node);
    let mut rows = vec![("disk", text::size(node.size()))];
    let share = allocated as f64 * 100.0 / node.size().max(1) as f64;
    rows.push(("on the host", format!("{} ({share:.1} % of the disk)", text::size(allocated))));
    if length != allocated {
        rows.push(("file length", text::size(length)));
    }
    if let Some(name) = &info.backing_filename {
        let format = info.backing_format.iter().map(|format| format!(" ({format})"));
        rows.push(("on top of", name.clone() + &format.collect::<String>()));
    }
    if let Some(size) = info.cluster_size {
        rows.push(("clusters", text::size(size.into())));
    }
    for (name, value) in &info.specific {
        if let Some((_, shown)) = PROPERTIES.iter().find(|(known, _)| known == name)
            && let Some(words) = words(value)
        {
            rows.push((shown, words));
        }
    }
    let snapshots: Vec<String> = snapshots_of(node).into_iter().map(|s| s.name).collect();
    if !snapshots.is_empty() {
        rows.push(("snapshots", format!("{}: {}", snapshots.len(), snapshots.join(", "))));
    }
    if info.encrypted {
        rows.push(("encrypted", "yes".to_owned()));
    }
    let state = match (info.corrupt, info.dirty) {
        (true, _) => "damaged: see 'tinamou img repair'",
        (_, true) => "was not closed: it is put right when it is opened for writing",
        _ => "",
    };
    if !state.is_empty() {
        rows.push(("state", state.to_owned()));
    }
    let mut lines = format!("{}: {} image\n", info.filename, info.driver);
    for (name, value) in rows {
        lines.push_str(&format!("  {name:<13} {value}\n"));
    }
    lines
}

/// Length of the files that hold an image, and bytes that they take.
pub(super) fn on_host(node: &dyn Node) -> (u64, u64) {
    let below = stored_in(node);
    if below.is_empty() {
        return (node.size(), node.info().allocated.unwrap_or(node.size()));
    }
    let parts = below.iter().map(|child| on_host(&*child.node));
    parts.fold((0, 0), |(length, bytes), part| (length + part.0, bytes + part.1))
}

fn words(value: &Property) -> Option<String> {
    match value {
        Property::Text(text) => Some(text.clone()),
        Property::Number(number) => Some(number.to_string()),
        Property::List(items) => Some(items.len().to_string()),
        _ => None,
    }
}
