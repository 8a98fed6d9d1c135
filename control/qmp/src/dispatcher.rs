//! From a client's message to the answer.

use crate::json::Outcome;
use crate::schema::{EMPTY, Role, Schema, Source};
use crate::{Arguments, Class, Error};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// A command: its name in the schema, and what it does with `C`.
pub struct Command<C> {
    /// The name.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&C, &Arguments) -> Result<Value, Error>,
}

/// What a client is told about the program.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// The version of the interface.
    pub qemu: (u32, u32, u32),
    /// What the program is.
    pub package: &'static str,
}

impl Version {
    fn to_json(self) -> Value {
        let (major, minor, micro) = self.qemu;
        json!({"qemu": {"micro": micro, "minor": minor, "major": major}, "package": self.package})
    }
}

/// What a connection has agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Whether the capabilities are negotiated: commands are taken, events are sent.
    pub negotiated: bool,
    /// Whether commands can overtake others.
    pub oob: bool,
}

/// What a program serves: commands for `C` by name, and what the schema says about them.
pub struct Dispatcher<C: 'static> {
    schema: Arc<Schema>,
    commands: HashMap<&'static str, &'static Command<C>>,
    /// Commands that clients are told of and that fail.
    waiting: &'static [&'static str],
    version: Version,
    context: C,
}

/// A message that asks for a command.
struct Request {
    name: String,
    arguments: Map<String, Value>,
    oob: bool,
}

/// Commands that every program has.
const OWN: &[&str] = &["qmp_capabilities", "query-version", "query-commands", "query-qmp-schema"];

impl<C> Dispatcher<C> {
    /// Serves these commands with `context`; those in `waiting` are not supported yet. Each must be
    /// in the schema.
    pub fn new(
        schema: Arc<Schema>,
        tables: &[&'static [Command<C>]],
        waiting: &'static [&'static str],
        version: Version,
        context: C,
    ) -> Self {
        let rows = tables.iter().flat_map(|table| table.iter());
        let commands: HashMap<_, _> = rows.map(|command| (command.name, command)).collect();
        let all = commands.keys().chain(waiting);
        debug_assert!(all.into_iter().all(|name| schema.entry(name).is_some()));
        Self { schema, commands, waiting, version, context }
    }

    /// What the commands work on.
    pub fn context(&self) -> &C {
        &self.context
    }

    /// The schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// What a client gets first.
    pub fn greeting(&self) -> Value {
        json!({"QMP": {"version": self.version.to_json(), "capabilities": ["oob"]}})
    }

    /// Whether a message wants to overtake others.
    pub fn overtakes(session: Session, message: &Outcome) -> bool {
        session.oob && message.as_ref().is_ok_and(|m| m.get("exec-oob").is_some())
    }

    /// Does what a message asks for, and returns the answer. It comes in after everything that
    /// should come before, unless it [`overtakes`](Self::overtakes).
    pub fn answer(&self, session: &mut Session, message: Outcome) -> Value {
        let mut members = match message {
            Ok(Value::Object(members)) => members,
            Ok(_) => return failed(None, &Error::new("QMP input must be a JSON object")),
            Err(text) => return failed(None, &Error::new(text)),
        };
        let id = members.shift_remove("id");
        let done = request(*session, members).and_then(|request| self.run(session, request));
        match done {
            Ok(value) => {
                let mut answer = Map::from_iter([("return".to_owned(), value)]);
                answer.extend(id.map(|id| ("id".to_owned(), id)));
                Value::Object(answer)
            }
            Err(error) => failed(id, &error),
        }
    }

    fn run(&self, session: &mut Session, request: Request) -> Result<Value, Error> {
        let Request { name, arguments, oob } = request;
        let negotiates = name == "qmp_capabilities";
        if !session.negotiated && !negotiates {
            let text = "Expecting capabilities negotiation with 'qmp_capabilities'";
            return Err(Error::of(Class::CommandNotFound, text));
        }
        let may_overtake = match self.schema.entry(&name).map(|entry| &entry.role) {
            Some(Role::Command { oob, .. }) if self.serves(&name) => *oob,
            _ => {
                let text = format!("The command {name} has not been found");
                return Err(Error::of(Class::CommandNotFound, text));
            }
        };
        if oob && !may_overtake {
            return Err(Error::new(format!("The command {name} does not support OOB")));
        }
        let arguments = self.check(&name, arguments, Source::Json)?;
        if negotiates && session.negotiated {
            let text = "Capabilities negotiation is already complete, command ignored";
            return Err(Error::of(Class::CommandNotFound, text));
        }
        if negotiates {
            let wanted = arguments.list("enable");
            *session = Session { negotiated: true, oob: wanted.iter().any(|word| word == "oob") };
            return Ok(json!({}));
        }
        self.execute(&name, &arguments)
    }

    /// Runs a command as if a client had sent it, for options that do the same.
    ///
    /// # Errors
    /// Why it failed, or that there is no such command.
    pub fn call(
        &self,
        name: &str,
        arguments: Map<String, Value>,
        source: Source,
    ) -> Result<Value, Error> {
        let arguments = self.check(name, arguments, source)?;
        self.execute(name, &arguments)
    }

    fn check(
        &self,
        name: &str,
        arguments: Map<String, Value>,
        source: Source,
    ) -> Result<Arguments, Error> {
        let data = self.schema.entry(name).map_or(EMPTY, |entry| entry.data);
        self.schema.check(data, arguments, source).map(Arguments::new)
    }

    fn execute(&self, name: &str, arguments: &Arguments) -> Result<Value, Error> {
        match name {
            "query-version" => Ok(self.version.to_json()),
            "query-commands" => {
                // Newest first.
                let commands = self.schema.entries().rev().filter(|entry| {
                    matches!(entry.role, Role::Command { .. }) && self.serves(&entry.name)
                });
                Ok(commands.map(|entry| json!({"name": entry.name})).collect())
            }
            "query-qmp-schema" => Ok(self.schema.describe(&|name| self.tells_of(name))),
            _ => match self.commands.get(name) {
                Some(command) => (command.run)(&self.context, arguments),
                None => Err(Error::not_yet(name)),
            },
        }
    }

    fn serves(&self, name: &str) -> bool {
        OWN.contains(&name) || self.commands.contains_key(name) || self.waiting.contains(&name)
    }

    /// Commands that are served, and every event.
    fn tells_of(&self, name: &str) -> bool {
        let event = |entry: &crate::schema::Entry| matches!(entry.role, Role::Event { .. });
        self.serves(name) || self.schema.entry(name).is_some_and(event)
    }
}

fn failed(id: Option<Value>, error: &Error) -> Value {
    let mut answer = Map::new();
    answer.extend(id.map(|id| ("id".to_owned(), id)));
    answer.insert("error".to_owned(), error.to_json());
    Value::Object(answer)
}

/// What a message asks for.
fn request(session: Session, members: Map<String, Value>) -> Result<Request, Error> {
    let mut name = None;
    let mut arguments = Map::new();
    for (key, value) in members {
        let wrong = |what: &str| Error::new(format!("QMP input member '{key}' must be {what}"));
        match key.as_str() {
            "execute" | "exec-oob" if key == "execute" || session.oob => {
                let Value::String(given) = value else { return Err(wrong("a string")) };
                if name.replace((given, key == "exec-oob")).is_some() {
                    let text = "QMP input member 'execute' clashes with 'exec-oob'";
                    return Err(Error::new(text));
                }
            }
            "arguments" => {
                let Value::Object(given) = value else { return Err(wrong("an object")) };
                arguments = given;
            }
            _ => return Err(Error::new(format!("QMP input member '{key}' is unexpected"))),
        }
    }
    let (name, oob) = name.ok_or_else(|| Error::new("QMP input lacks member 'execute'"))?;
    Ok(Request { name, arguments, oob })
}
