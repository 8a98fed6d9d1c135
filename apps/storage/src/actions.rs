//! Transactions: several actions that all happen, or none.

use crate::daemon::{Answer, Daemon, done, refusal};
use crate::jobs_commands::{backup, common, drive_backup};
use crate::{bitmaps, snapshots};
use graph::Drained;
use jobs::job::Group;
use jobs::site::Common;
use qmp::{Arguments, Command, Error};

pub(crate) static COMMANDS: &[Command<Daemon>] =
    &[Command { name: "transaction", run: transaction }];

/// What an action leaves to be done: to make it so, and to undo it.
#[derive(Default)]
struct Prepared {
    commit: Option<Step>,
    undo: Option<Step>,
}

type Step = Box<dyn FnOnce(&Daemon) -> Result<(), Error>>;

impl Prepared {
    fn undone_by(undo: impl FnOnce(&Daemon) + 'static) -> Self {
        let undo: Step = Box::new(move |daemon| {
            undo(daemon);
            Ok(())
        });
        Self { undo: Some(undo), ..Self::default() }
    }
}

type Action = fn(&Daemon, &Arguments, Option<Group>) -> Result<Prepared, Error>;

/// Actions by name, and whether their jobs can wait for each other.
const ACTIONS: &[(&str, bool, Action)] = &[
    ("abort", true, |_, _, _| Err(Error::new("Transaction aborted using Abort action"))),
    ("block-dirty-bitmap-add", false, |daemon, data, _| {
        bitmaps::add(daemon, data)?;
        let (node, name) = (data.text("node").to_owned(), data.text("name").to_owned());
        Ok(Prepared::undone_by(move |daemon| {
            // Nobody can have taken it: commands run one after the other.
            let _ = daemon.site.bitmaps.remove(&node, &name);
        }))
    }),
    ("block-dirty-bitmap-remove", false, |daemon, data, _| {
        let (node, name) = (data.text("node").to_owned(), data.text("name").to_owned());
        // It goes when everything else went well; until then it only must be there and free.
        let member = daemon.node(&node)?;
        let there = daemon.site.bitmaps.list(&member);
        let found = there.iter().find(|bitmap| bitmap.name == name);
        let found = found.ok_or_else(|| Error::new(format!("Dirty bitmap '{name}' not found")))?;
        if found.busy {
            let text = format!(
                "Bitmap '{name}' is currently in use by another operation and cannot be used"
            );
            return Err(Error::new(text));
        }
        let commit: Step =
            Box::new(move |daemon| daemon.site.bitmaps.remove(&node, &name).map_err(refusal));
        Ok(Prepared { commit: Some(commit), undo: None })
    }),
    ("block-dirty-bitmap-clear", false, |daemon, data, _| {
        let saved = bitmaps::clear(daemon, data)?;
        Ok(Prepared::undone_by(move |daemon| daemon.site.bitmaps.restore(&saved)))
    }),
    ("block-dirty-bitmap-enable", false, |daemon, data, _| {
        let saved = bitmaps::enable(daemon, data, true)?;
        Ok(Prepared::undone_by(move |daemon| daemon.site.bitmaps.restore_recording(&saved)))
    }),
    ("block-dirty-bitmap-disable", false, |daemon, data, _| {
        let saved = bitmaps::enable(daemon, data, false)?;
        Ok(Prepared::undone_by(move |daemon| daemon.site.bitmaps.restore_recording(&saved)))
    }),
    ("block-dirty-bitmap-merge", false, |daemon, data, _| {
        let saved = bitmaps::merge(daemon, data)?;
        Ok(Prepared::undone_by(move |daemon| daemon.site.bitmaps.restore(&saved)))
    }),
    ("blockdev-backup", true, |daemon, data, group| copied(daemon, data, group, backup)),
    ("drive-backup", true, |daemon, data, group| copied(daemon, data, group, drive_backup)),
    ("blockdev-snapshot", false, |daemon, data, _| {
        let done = snapshots::overlay(daemon, data)?;
        Ok(Prepared::undone_by(move |daemon| done.undo(daemon)))
    }),
    ("blockdev-snapshot-sync", false, |daemon, data, _| {
        let before = daemon.device_or_node(data)?;
        snapshots::new_overlay(daemon, data)?;
        let name = data.text("snapshot-node-name").to_owned();
        Ok(Prepared::undone_by(move |daemon| snapshots::take_back(daemon, &before, &name)))
    }),
    ("blockdev-snapshot-internal-sync", false, |daemon, data, _| {
        let taken = snapshots::internal(daemon, data)?;
        Ok(Prepared::undone_by(move |_| taken.undo()))
    }),
];

/// A backup that is made now and starts when everything else went well.
fn copied(
    daemon: &Daemon,
    data: &Arguments,
    group: Option<Group>,
    begin: fn(&Daemon, &Arguments, &Common) -> Result<(), Error>,
) -> Result<Prepared, Error> {
    let mut common = Common { group, held: true, ..common(data) };
    let id = common.id.get_or_insert_with(|| data.text("device").to_owned()).clone();
    begin(daemon, data, &common)?;
    let other = id.clone();
    let commit: Step = Box::new(move |daemon| daemon.site.jobs.start(&id).map_err(refusal));
    let undone = Prepared::undone_by(move |daemon| daemon.site.jobs.withdraw(&other));
    Ok(Prepared { commit: Some(commit), ..undone })
}

/// Holds still the nodes that actions are about, so that all of them happen at the same moment.
fn hold_still(daemon: &Daemon, arguments: &Arguments) -> Vec<Drained> {
    let nodes = arguments.objects("actions").flat_map(|action| {
        let data = action.object("data");
        let named = ["node", "device", "node-name"].map(|key| data.text(key).to_owned());
        named.into_iter().filter_map(|name| daemon.graph().named(&name))
    });
    nodes.map(|member| daemon.graph().drain(&member)).collect()
}

fn transaction(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let grouped = arguments.object("properties").text("completion-mode") == "grouped";
    let group = grouped.then(|| daemon.site.jobs.group());
    let _still = hold_still(daemon, arguments);
    let mut prepared: Vec<Prepared> = Vec::new();
    for action in arguments.objects("actions") {
        let kind = action.text("type");
        let one = match ACTIONS.iter().find(|(name, ..)| *name == kind) {
            None => Err(Error::not_yet(&format!("action '{kind}' in a transaction"))),
            Some((_, false, _)) if grouped => Err(Error::new(format!(
                "Action '{kind}' does not support transaction property completion-mode = grouped"
            ))),
            Some((_, _, prepare)) => prepare(daemon, &action.object("data"), group),
        };
        match one {
            Ok(one) => prepared.push(one),
            Err(error) => {
                for undo in prepared.into_iter().rev().filter_map(|one| one.undo) {
                    // Undoing has no way to fail that anybody could do something about.
                    let _ = undo(daemon);
                }
                return Err(error);
            }
        }
    }
    for commit in prepared.into_iter().filter_map(|one| one.commit) {
        commit(daemon)?;
    }
    done()
}
