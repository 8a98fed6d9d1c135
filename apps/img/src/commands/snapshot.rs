//! `snapshot`: lists, takes, applies and deletes internal snapshots.

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::image::{self, ImageArgs};
use crate::snapshots::snapshot_table;
use crate::{Command, Failure, Invocation};
use formats::Purpose;
use graph::{Image, Node, SnapshotInfo, Snapshots, host_text};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) const COMMAND: Command = Command {
    name: "snapshot",
    summary: "List or manipulate snapshots within image",
    usage: &["[-f FMT | --image-opts] [-l | -a|-c|-d SNAPSHOT]", "[-U] [--object OBJDEF] FILENAME"],
    options: &[
        flag('h', "help", image::HELP),
        flag('q', "quiet", image::QUIET),
        takes('f', "format", "FMT", image::FORMAT),
        flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
        flag('U', "force-share", image::FORCE_SHARE),
        takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
        flag('l', "list", "list the snapshots (what happens without another operation)"),
        takes('c', "create", "SNAPSHOT", "take a snapshot of that name"),
        takes('a', "apply", "SNAPSHOT", "make the disk hold what it did at that snapshot"),
        takes('d', "delete", "SNAPSHOT", "delete that snapshot"),
    ],
    operands: &[("FILENAME", image::FILENAME)],
    run,
};

/// What to do with which snapshot.
enum Action<'a> {
    List,
    Create(&'a str),
    Apply(&'a str),
    Delete(&'a str),
}

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let image_args = ImageArgs::parse(args)?;
    let action = action(called, args)?;
    let filename = called.one_operand(args, "Expecting one image file name")?;
    let node = image_args.open(filename, |o| {
        o.writable = !matches!(action, Action::List);
        if matches!(action, Action::List) {
            o.purpose = Purpose::Info;
            o.without_backing = true;
        }
    })?;
    match action {
        Action::List => print!("{}", snapshot_table(&*node)),
        Action::Create(name) => create(&*node, name)?,
        Action::Apply(name) => found(called, &*node, ("apply", name), |s| s.apply(name))?,
        Action::Delete(name) => found(called, &*node, ("delete", name), |s| s.delete(name))?,
    }
    if !matches!(action, Action::List) {
        node.flush().map_err(|e| Failure::io(filename, &e))?;
    }
    Ok(0)
}

fn action<'a>(called: &Invocation, args: &'a Args) -> Result<Action<'a>, Failure> {
    let mut chosen = args.given().filter_map(|(option, value)| match option {
        "list" => Some(Action::List),
        "create" => Some(Action::Create(value)),
        "apply" => Some(Action::Apply(value)),
        "delete" => Some(Action::Delete(value)),
        _ => None,
    });
    let action = chosen.next().unwrap_or(Action::List);
    if chosen.next().is_some() {
        return Err(called.usage("Cannot mix '-l', '-a', '-c', '-d'"));
    }
    Ok(action)
}

fn facet(node: &dyn Node) -> Option<&dyn Snapshots> {
    node.image().and_then(Image::snapshots)
}

fn create(node: &dyn Node, name: &str) -> Result<(), Failure> {
    let failed = |why: &str| Failure::new(format!("Could not create snapshot '{name}': {why}"));
    let snapshots = facet(node).ok_or_else(|| failed("Operation not supported"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let info = SnapshotInfo {
        name: name.to_owned(),
        // The format counts seconds in 32 bits.
        date_sec: now.as_secs() as u32,
        date_nsec: now.subsec_nanos(),
        icount: Some(0),
        ..SnapshotInfo::default()
    };
    snapshots.create(&info).map_err(|e| failed(&host_text(&e)))
}

const NOT_FOUND: &str = "snapshot not found";

/// Applies or deletes; with our own face, a name that is not there is answered with those that are.
fn found(
    called: &Invocation,
    node: &dyn Node,
    (verb, name): (&str, &str),
    act: impl FnOnce(&dyn Snapshots) -> io::Result<()>,
) -> Result<(), Failure> {
    let failed = |why: &str| Failure::new(format!("Could not {verb} snapshot '{name}': {why}"));
    let snapshots = facet(node).ok_or_else(|| {
        failed(match verb {
            "apply" => "Block driver does not support snapshots",
            _ => NOT_FOUND,
        })
    })?;
    match act(snapshots) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound && called.is_own() => {
            let names: Vec<String> = snapshots.list().into_iter().map(|s| s.name).collect();
            let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Err(failed(&format!("snapshot not found; the image has: {there}")))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(failed(match verb {
            "apply" => "Failed to load snapshot: No such file or directory",
            _ => NOT_FOUND,
        })),
        Err(e) => Err(failed(&host_text(&e))),
    }
}
