//! `info`: what an image says of itself.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::image::{self, ImageArgs, Output};
use crate::json::pretty;
use crate::snapshots::{snapshot_table, snapshots_json};
use crate::{Command, Failure, Invocation, own, text};
use formats::Purpose;
use graph::{Node, NodeInfo, Property};
use jobs::backing_of;
use serde_json::{Map, Value};
use std::sync::Arc;

pub(crate) const COMMAND: Command = Command {
    name: "info",
    summary: "Display information about image",
    usage: &[
        "[-f FMT | --image-opts] [-b] [-U] [--object OBJDEF]",
        "[--output human|json] FILENAME",
    ],
    options: &[
        flag('h', "help", image::HELP),
        takes('f', "format", "FMT", image::FORMAT),
        flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
        flag('b', "backing-chain", "show every image of the backing chain"),
        flag('U', "force-share", image::FORCE_SHARE),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
        takes(NO_SHORT, "output", "human|json", image::OUTPUT),
    ],
    operands: &[("FILENAME", image::FILENAME)],
    run,
};

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let output = Output::parse(called, args)?;
    let image_args = ImageArgs::parse(args)?;
    let filename = called.one_operand(args, "Expecting one image file name")?;
    let chain_wanted = args.has("backing-chain");
    let top = image_args.open(filename, |o| {
        o.purpose = Purpose::Info;
        o.without_backing = !chain_wanted;
    });
    let mut chain = vec![top.map_err(|failure| about_the_one_below(failure, filename))?];
    while chain_wanted && let Some(next) = chain.last().and_then(|node| backing_of(&**node)) {
        chain.push(next);
    }
    match output {
        Output::Json if chain_wanted => {
            let images = chain.iter().map(|node| image_json(&**node)).collect();
            print!("{}", pretty(&Value::Array(images)));
        }
        Output::Json => print!("{}", pretty(&image_json(&*chain[0]))),
        Output::Human => {
            let text = |node: &Arc<dyn Node>| match called.is_own() {
                true => own::summary(&**node),
                false => image_text(node),
            };
            let images: Vec<String> = chain.iter().map(text).collect();
            print!("{}", images.join("\n"));
        }
    }
    Ok(0)
}

/// Bytes that a node and what stores it take on the host.
fn allocated(node: &dyn Node) -> Option<u64> {
    let info = node.info();
    if OPAQUE.contains(&info.driver) {
        return None;
    }
    let children = image::stored_in(node);
    let below = children.iter().map(|child| allocated(&*child.node)).reduce(|a, b| Some(a? + b?));
    info.allocated.or(below.flatten())
}

/// Drivers that do not tell what the nodes below take.
const OPAQUE: &[&str] = &["blkdebug", "blkverify"];
/// The images of a chain are shown one by one: a complaint is about the one that cannot be opened.
fn about_the_one_below(failure: Failure, filename: &str) -> Failure {
    let text = failure.to_string();
    let above = format!("Could not open '{filename}': Could not open backing file: ");
    let below = text.strip_prefix(&above);
    let name = below.and_then(|text| text.strip_prefix("Could not open '")?.split('\'').next());
    match (name, below) {
        (Some(name), Some(below)) => Failure::new(below).within(format!("Could not open '{name}'")),
        _ => failure,
    }
}

/// The length of a node as the tools tell it.
fn whole_sectors(node: &dyn Node) -> u64 {
    let size = node.size();
    size.checked_next_multiple_of(graph::SECTOR).unwrap_or(size)
}

fn is_protocol(node: &dyn Node) -> bool {
    node.children().is_empty()
}

/// What an image says of itself, as `info --output=json` shows it.
pub fn image_json(node: &dyn Node) -> Value {
    let info = node.info();
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| {
        map.insert(key.to_owned(), value);
    };
    let children = image::stored_in(node).into_iter().map(|child| {
        let mut entry = Map::new();
        entry.insert("name".to_owned(), child.role.name().into());
        entry.insert("info".to_owned(), image_json(&*child.node));
        Value::Object(entry)
    });
    put("children", children.collect());
    if let Some(snapshots) = snapshots_json(node) {
        put("snapshots", snapshots);
    }
    if let Some(format) = &info.backing_format {
        put("backing-filename-format", format.as_str().into());
    }
    put("virtual-size", whole_sectors(node).into());
    put("filename", info.filename.as_str().into());
    if let Some(size) = info.cluster_size {
        put("cluster-size", size.into());
    }
    put("format", info.driver.into());
    if let Some(bytes) = allocated(node) {
        put("actual-size", bytes.into());
    }
    if info.encrypted {
        put("encrypted", true.into());
    }
    if !info.specific.is_empty() || is_protocol(node) {
        let mut specific = Map::new();
        specific.insert("type".to_owned(), info.driver.into());
        specific.insert("data".to_owned(), properties_json(&info.specific));
        put("format-specific", Value::Object(specific));
    }
    if let Some(name) = &info.backing_filename {
        put("full-backing-filename", formats::beside(&info.filename, name).into());
        put("backing-filename", name.as_str().into());
    }
    // The peer's driver for parallels does not tell.
    if info.driver != "parallels" {
        put("dirty-flag", info.dirty.into());
    }
    Value::Object(map)
}

fn properties_json(properties: &[(&'static str, Property)]) -> Value {
    let members = properties.iter().map(|(name, value)| ((*name).to_owned(), property_json(value)));
    Value::Object(members.collect())
}

fn property_json(property: &Property) -> Value {
    match property {
        Property::Bool(on) => (*on).into(),
        Property::Number(n) => (*n).into(),
        Property::Text(text) => text.as_str().into(),
        Property::List(items) => items.iter().map(property_json).collect(),
        Property::Group(members) => properties_json(members),
    }
}

fn image_text(node: &Arc<dyn Node>) -> String {
    let mut text = String::new();
    node_lines(&mut text, &**node, "", true);
    text
}

/// What people see of a node, and of those that store it, further in.
fn node_lines(text: &mut String, node: &dyn Node, path: &str, top: bool) {
    let info = node.info();
    let (name, kind, length) = if is_protocol(node) && !top {
        ("filename", "protocol type", "file length")
    } else {
        ("image", "file format", "virtual size")
    };
    let size = whole_sectors(node);
    text.push_str(&format!("{name}: {}\n{kind}: {}\n", info.filename, info.driver));
    text.push_str(&format!("{length}: {} ({size} bytes)\n", text::size(size)));
    text.push_str(&format!("disk size: {}\n", disk_size(node)));
    if info.encrypted {
        text.push_str("encrypted: yes\n");
    }
    if let Some(size) = info.cluster_size {
        text.push_str(&format!("cluster_size: {size}\n"));
    }
    if info.dirty {
        text.push_str("cleanly shut down: no\n");
    }
    text.push_str(&backing_lines(&info));
    text.push_str(&snapshot_table(node));
    if !info.specific.is_empty() {
        text.push_str("Format specific information:\n");
        property_lines(text, &info.specific, 1);
    }
    for child in image::stored_in(node) {
        let path = format!("{path}/{}", child.role.name());
        text.push_str(&format!("Child node '{path}':\n"));
        let mut below = String::new();
        node_lines(&mut below, &*child.node, &path, false);
        below.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
    }
}

fn disk_size(node: &dyn Node) -> String {
    allocated(node).map_or_else(|| "unavailable".to_owned(), text::size)
}

fn backing_lines(info: &NodeInfo) -> String {
    let Some(name) = &info.backing_filename else { return String::new() };
    let full = formats::beside(&info.filename, name);
    let actual = if full == *name { String::new() } else { format!(" (actual path: {full})") };
    let format = info.backing_format.iter().map(|f| format!("backing file format: {f}\n"));
    format!("backing file: {name}{actual}\n{}", format.collect::<String>())
}

/// The properties of a format, as people see them.
pub(crate) fn properties(properties: &[(&'static str, Property)]) -> String {
    let mut text = String::new();
    property_lines(&mut text, properties, 1);
    text
}

/// Values one per line; those with parts of their own below, further in.
fn property_lines(text: &mut String, properties: &[(&'static str, Property)], depth: usize) {
    for (name, value) in properties {
        property_line(text, &name.replace('-', " "), value, depth);
    }
}

fn property_line(text: &mut String, name: &str, value: &Property, depth: usize) {
    text.push_str(&format!("{}{name}:", "    ".repeat(depth)));
    match value {
        Property::Bool(on) => text.push_str(&format!(" {on}\n")),
        Property::Number(n) => text.push_str(&format!(" {n}\n")),
        Property::Text(words) => text.push_str(&format!(" {words}\n")),
        Property::List(items) => {
            text.push('\n');
            for (row, item) in items.iter().enumerate() {
                property_line(text, &format!("[{row}]"), item, depth + 1);
            }
        }
        Property::Group(members) => {
            text.push('\n');
            property_lines(text, members, depth + 1);
        }
    }
}
