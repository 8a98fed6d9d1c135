//! Block nodes: adding, removing, changing and showing them.

use crate::daemon::{Answer, Daemon, done, members, refusal, refused};
use crate::views;
use formats::{HostFiles, amend_blockdev, create_blockdev};
use graph::{Edge, User};
use jobs::job::{Failure, Kind};
use jobs::site::Task;
use options::List;
use qmp::{Arguments, Command, Error};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(crate) static COMMANDS: &[Command<Daemon>] = &[
    Command { name: "blockdev-add", run: add },
    Command { name: "blockdev-del", run: remove },
    Command { name: "blockdev-reopen", run: reopen },
    Command { name: "blockdev-set-active", run: set_active },
    Command { name: "blockdev-create", run: create },
    Command { name: "x-blockdev-amend", run: amend },
    Command { name: "x-blockdev-change", run: change_children },
    Command { name: "query-named-block-nodes", run: list },
    Command { name: "query-block", run: |_, _| Ok(json!([])) },
    Command { name: "query-blockstats", run: statistics },
    Command {
        name: "x-debug-query-block-graph",
        run: |daemon, _| Ok(views::graph(daemon.graph())),
    },
    Command { name: "block_resize", run: resize },
    Command { name: "block-set-write-threshold", run: set_write_threshold },
    Command { name: "change-backing-file", run: change_backing_file },
    Command { name: "x-blockdev-set-iothread", run: set_iothread },
];

fn add(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let pairs = pairs(arguments.members())?;
    daemon.manage(|manager| manager.add(pairs).map(|_| ())).map_err(refused)?;
    done()
}

/// Gives nodes other options. An empty list changes nothing (the peer ends its process).
fn reopen(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let list = arguments.objects("options").map(|options| pairs(options.members()));
    let list = list.collect::<Result<_, _>>()?;
    daemon.manage(|manager| manager.reopen(list)).map_err(refused)?;
    done()
}

/// Gives a node, or all of them, to another process for a while, or takes them back.
fn set_active(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let graph = daemon.graph();
    let member = arguments.text_if("node-name").map(|name| {
        let missing = || Error::new(format!("Failed to find node with node-name='{name}'"));
        graph.named(name).ok_or_else(missing)
    });
    let done_so = match (member.transpose()?, arguments.switch("active") == Some(true)) {
        (Some(member), true) => graph.activate(&member),
        (Some(member), false) => graph.deactivate(&member),
        (None, true) => graph.activate_all(),
        (None, false) => graph.deactivate_all(),
    };
    done_so.map_err(refused)?;
    done()
}

/// Options as keys and values: members of members have dotted keys.
fn pairs(members: &Map<String, Value>) -> Result<Vec<(String, String)>, Error> {
    let list = List::of_members(members).map_err(|error| Error::new(error.to_string()))?;
    Ok(list.into_pairs())
}

fn remove(daemon: &Daemon, arguments: &Arguments) -> Answer {
    daemon.manage(|manager| manager.remove(arguments.text("node-name"))).map_err(refused)?;
    done()
}

/// Makes an image, as a job that has nothing to do with any node.
fn create(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let pairs = pairs(arguments.object("options").members())?;
    let (graph, secrets) = (Arc::clone(daemon.graph()), daemon.objects.held());
    let task =
        Task::new(move |_| create_blockdev(pairs, &HostFiles, &graph, &secrets).map_err(failed));
    daemon.site.task(Kind::Create, arguments.text("job-id"), task).map_err(refusal)?;
    done()
}

/// Changes options of an image, as a job.
fn amend(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let member = daemon.node(arguments.text("node-name"))?;
    let given = arguments.object("options");
    let driver = member.node().info().driver;
    if given.text("driver") != driver {
        return Err(Error::new("x-blockdev-amend doesn't support changing the block driver"));
    }
    let pairs = pairs(given.members())?;
    let force = arguments.switch("force").unwrap_or(false);
    let secrets = daemon.objects.held();
    let task = Task::new(move |job| {
        let mut progress = |at: u64, of| {
            job.set_total(of);
            let meter = job.meter();
            meter.add_done(at - meter.done().min(at));
        };
        amend_blockdev(&member, pairs, force, &secrets, &mut progress).map_err(failed)
    });
    daemon.site.task(Kind::Amend, arguments.text("job-id"), task).map_err(refusal)?;
    done()
}

fn failed(error: graph::OpenError) -> Failure {
    Failure::Error(refused(error).text)
}

fn change_children(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let (child, node) = (arguments.text_if("child"), arguments.text_if("node"));
    let parent = arguments.text("parent");
    daemon.manage(|manager| manager.change_children(parent, child, node)).map_err(refused)?;
    done()
}

fn list(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let flat = arguments.switch("flat") == Some(true);
    let members = daemon.graph().members();
    Ok(members.iter().rev().map(|member| views::node(&daemon.site, member, flat)).collect())
}

/// Most statistics belong to devices, which are not here.
fn statistics(daemon: &Daemon, arguments: &Arguments) -> Answer {
    if arguments.switch("query-nodes") != Some(true) {
        return Ok(json!([]));
    }
    Ok(daemon.graph().members().iter().rev().map(views::statistics).collect())
}

fn resize(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let member = daemon.device_or_node(arguments)?;
    let size = arguments.int("size").unwrap_or(0);
    daemon.manage(|manager| manager.resize(member.name(), size)).map_err(refused)?;
    done()
}

fn set_write_threshold(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let name = arguments.text("node-name");
    let offset = arguments.size("write-threshold").unwrap_or(0);
    let events = Arc::clone(&daemon.events);
    let node_name = name.to_owned();
    let tell = move |beyond, offset| {
        let data = json!({
            "node-name": node_name, "amount-exceeded": beyond, "write-threshold": offset
        });
        events.emit("BLOCK_WRITE_THRESHOLD", members(data));
    };
    daemon.manage(|manager| manager.set_write_threshold(name, offset, tell)).map_err(refused)?;
    done()
}

/// Says which thread serves a node. It has no effect: a node is served by who asks it (decision 3).
fn set_iothread(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let name = arguments.text("node-name");
    let missing = || Error::new(format!("Failed to find node with node-name='{name}'"));
    let member = daemon.graph().named(name).ok_or_else(missing)?;
    let lent = |edge: &Arc<Edge>| matches!(edge.user(), User::Device(_));
    let force = arguments.switch("force") == Some(true);
    if !force && member.parents().iter().any(lent) {
        return Err(Error::new(format!(
            "Node {name} is associated with a BlockBackend and could be in use (use force=true to \
             override this check)"
        )));
    }
    if let Some(thread) = arguments.text_if("iothread") {
        let missing = |_| Error::new(format!("Cannot find iothread {thread}"));
        daemon.objects.check_iothread(thread).map_err(missing)?;
    }
    done()
}

fn change_backing_file(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let (device, image) = (arguments.text("device"), arguments.text("image-node-name"));
    let file = arguments.text("backing-file");
    daemon.manage(|m| m.change_backing_file(device, image, file)).map_err(refused)?;
    done()
}
