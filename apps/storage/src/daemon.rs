//! What the daemon has, and all its commands.

use crate::exports::ExportList;
use crate::objects::Objects;
use crate::{
    WAITING, actions, bitmaps, chardevs, exports, jobs_commands, nodes, objects, snapshots,
};
use chardev::Chardevs;
use formats::{HostFiles, Manager};
use graph::{Graph, Member, OpenError};
use jobs::Jobs;
use jobs::job::{Event, HostClock, Listener, Refusal};
use jobs::site::Site;
use qmp::{Arguments, Class, Command, Dispatcher, Error, Events, Schema, Version};
use serde_json::{Map, Value, json};
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the commands work on.
pub(crate) struct Daemon {
    pub site: Site,
    pub objects: Objects,
    pub chardevs: Chardevs,
    pub exports: ExportList,
    pub events: Arc<Events>,
    /// Ends the daemon.
    end: Mutex<Sender<()>>,
}

/// A command's answer.
pub(crate) type Answer = Result<Value, Error>;

/// The answer of commands that say nothing.
pub(crate) fn done() -> Answer {
    Ok(json!({}))
}

static CONTROL: &[Command<Daemon>] = &[Command { name: "quit", run: quit }];

/// All commands, by area.
pub(crate) static TABLES: &[&[Command<Daemon>]] = &[
    CONTROL,
    actions::COMMANDS,
    bitmaps::COMMANDS,
    chardevs::COMMANDS,
    exports::COMMANDS,
    jobs_commands::COMMANDS,
    nodes::COMMANDS,
    objects::COMMANDS,
    snapshots::COMMANDS,
];

fn quit(daemon: &Daemon, _: &Arguments) -> Answer {
    // Who waits for it is there until it hears it.
    let _ = lock(&daemon.end).send(());
    done()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells clients about jobs.
struct JobEvents(Arc<Events>);

impl Listener for JobEvents {
    fn hear(&self, event: Event) {
        let (name, data) = (event.name(), crate::views::job_event(&event));
        self.0.emit(name, data);
    }
}

impl Daemon {
    /// A daemon with nothing in it; `end` hears when it is to end.
    ///
    /// # Errors
    /// The host has no more threads.
    pub fn new(end: Sender<()>) -> io::Result<Arc<Dispatcher<Self>>> {
        let schema = Arc::new(Schema::whole());
        let events = Arc::new(Events::new(Arc::clone(&schema)));
        let listener = Arc::new(JobEvents(Arc::clone(&events)));
        let jobs = Jobs::new(listener, Arc::new(HostClock::default()));
        let graph = Graph::new();
        let told = Arc::clone(&events);
        graph.hear(move |notice| {
            let (name, data) = crate::views::notice(&notice);
            told.emit(name, data);
        });
        let daemon = Self {
            site: Site::new(graph, jobs),
            objects: Objects::default(),
            chardevs: Chardevs::start(1, |_| {})?,
            exports: ExportList::default(),
            events,
            end: Mutex::new(end),
        };
        let version =
            Version { qemu: (10, 0, 0), package: concat!("tinamou ", env!("CARGO_PKG_VERSION")) };
        Ok(Arc::new(Dispatcher::new(schema, TABLES, WAITING, version, daemon)))
    }

    /// The graph.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.site.graph
    }

    /// Does something with the nodes, with the objects as they are now.
    pub fn manage<T>(&self, act: impl FnOnce(&Manager<'_>) -> T) -> T {
        let secrets = self.objects.held();
        act(&Manager { graph: self.graph(), gate: &HostFiles, secrets: &secrets })
    }

    /// The node called `name`.
    pub fn node(&self, name: &str) -> Result<Arc<Member>, Error> {
        self.graph().get(name).map_err(refused)
    }

    /// The node that a command names as a device or a node. There are no devices here.
    pub fn device_or_node(&self, arguments: &Arguments) -> Result<Arc<Member>, Error> {
        let (device, node) = (arguments.text("device"), arguments.text("node-name"));
        self.graph().named(node).filter(|_| !node.is_empty()).ok_or_else(|| {
            Error::new(format!("Cannot find device='{device}' nor node-name='{node}'"))
        })
    }

    /// Tells all clients that something happened.
    pub fn emit(&self, name: &str, data: Value) {
        if let Value::Object(data) = data {
            self.events.emit(name, data);
        }
    }

    /// Ends what runs and writes what is left to write.
    pub fn shut_down(&self) {
        self.exports.close_all(self);
        self.site.jobs.shutdown();
        for member in self.graph().members() {
            // The images can do no more, and who cares asks by a flush of its own.
            let _ = member.node().flush();
        }
        for name in self.graph().members().iter().rev().map(|m| m.name().to_owned()) {
            // A node goes when the last one that uses it does.
            let _ = self.graph().remove(&name);
        }
    }
}

/// Why a node could not be opened or changed, for a client.
pub(crate) fn refused(error: OpenError) -> Error {
    refusal(Refusal::from(error))
}

/// Why something about a job was refused, for a client.
pub(crate) fn refusal(refusal: Refusal) -> Error {
    let class = match refusal.class {
        jobs::job::Class::Generic => Class::Generic,
        jobs::job::Class::DeviceNotActive => Class::DeviceNotActive,
        jobs::job::Class::DeviceNotFound => Class::DeviceNotFound,
    };
    // Hints for people stand on lines of their own.
    Error::of(class, refusal.text.lines().next().unwrap_or_default())
}

/// An I/O error, after what was tried.
pub(crate) fn io_failed(what: &str, error: &io::Error) -> Error {
    Error::new(format!("{what}: {}", graph::host_text(error)))
}

/// A map of what `json!` made.
pub(crate) fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
