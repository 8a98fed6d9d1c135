//! Objects by their paths: what `object-add` makes, and what else the tree shows.

use crate::daemon::{Answer, Daemon, done, lock, refused};
use crypto::{Credentials, Endpoint};
use formats::OBJECT_KINDS;
use graph::Secrets;
use graph::throttle::Group;
use options::{List, identifier};
use qmp::{Arguments, Class, Command, Error};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub(crate) static COMMANDS: &[Command<Daemon>] = &[
    Command { name: "object-add", run: add },
    Command { name: "object-del", run: remove },
    Command { name: "qom-list", run: list },
    Command { name: "qom-get", run: get },
    Command { name: "qom-set", run: set },
    Command { name: "qom-list-types", run: list_types },
    Command { name: "qom-list-properties", run: list_properties },
];

/// A type of objects that users make.
struct Kind {
    name: &'static str,
    parent: &'static str,
    /// Names and types of its properties, with values that are not given.
    properties: &'static [(&'static str, &'static str, Default)],
    /// Whether it can be made.
    there: bool,
}

/// What a property is if nobody says.
enum Default {
    Number(i64),
    Word(&'static str),
    Switch(bool),
    /// Nothing, or nothing that is shown.
    Nothing,
}

const LOOP: &[(&str, &str, Default)] = &[
    ("aio-max-batch", "int", Default::Number(0)),
    ("thread-pool-min", "int", Default::Number(0)),
    ("thread-pool-max", "int", Default::Number(64)),
];

/// Types that users make, in the order of `--object help`.
const KINDS: &[Kind] = &[
    kind("authz-list", "authz", &[], false),
    kind("authz-list-file", "authz", &[], false),
    kind("authz-simple", "authz", &[], false),
    kind(
        "iothread",
        "event-loop-base",
        &[
            ("aio-max-batch", "int", Default::Number(0)),
            ("thread-pool-min", "int", Default::Number(0)),
            ("thread-pool-max", "int", Default::Number(64)),
            ("poll-max-ns", "int", Default::Number(32768)),
            ("poll-grow", "int", Default::Number(0)),
            ("poll-shrink", "int", Default::Number(0)),
        ],
        true,
    ),
    kind("main-loop", "event-loop-base", LOOP, true),
    kind("pr-manager-helper", "pr-manager", &[], false),
    kind(
        "secret",
        "secret_common",
        &[
            ("data", "string", Default::Nothing),
            ("file", "string", Default::Nothing),
            ("format", "QCryptoSecretFormat", Default::Word("raw")),
            ("keyid", "string", Default::Nothing),
            ("iv", "string", Default::Nothing),
        ],
        true,
    ),
    kind("secret_keyring", "secret_common", &[], false),
    kind("thread-context", "object", &[], false),
    kind("throttle-group", "object", &[("limits", "ThrottleLimits", Default::Nothing)], true),
    kind("tls-creds-anon", "tls-creds", &[], false),
    kind("tls-creds-psk", "tls-creds", &[], false),
    kind(
        "tls-creds-x509",
        "tls-creds",
        &[
            ("verify-peer", "bool", Default::Switch(true)),
            ("dir", "string", Default::Nothing),
            ("endpoint", "QCryptoTLSCredsEndpoint", Default::Word("client")),
            ("priority", "string", Default::Nothing),
            ("sanity-check", "bool", Default::Switch(true)),
            ("passwordid", "string", Default::Nothing),
        ],
        true,
    ),
];

const fn kind(
    name: &'static str,
    parent: &'static str,
    properties: &'static [(&'static str, &'static str, Default)],
    there: bool,
) -> Kind {
    Kind { name, parent, properties, there }
}

/// Properties that are never shown.
const SECRET: &[&str] = &["data"];

fn kind_named(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// What an object was made of.
type Made = (&'static Kind, Map<String, Value>);

/// The objects of the daemon.
#[derive(Default)]
pub(crate) struct Objects {
    /// What each was made of.
    made: Mutex<BTreeMap<String, Made>>,
    /// Those that nodes and servers ask for.
    held: Mutex<formats::Objects>,
}

impl Objects {
    /// What nodes may ask for, as it is now.
    pub fn held(&self) -> formats::Objects {
        lock(&self.held).clone()
    }

    fn group(&self, id: &str) -> Option<Arc<Group>> {
        lock(&self.held).throttle_group(id)
    }

    /// Credentials for an end of connections.
    pub fn tls(&self, id: &str, endpoint: Endpoint) -> Result<Arc<Credentials>, Error> {
        lock(&self.held).keys().tls(id, endpoint).map_err(Error::new)
    }

    /// Whether there is an I/O thread of this name.
    pub fn check_iothread(&self, id: &str) -> Result<(), Error> {
        match lock(&self.made).get(id) {
            Some((kind, _)) if kind.name == "iothread" => Ok(()),
            _ => Err(Error::new(format!("iothread \"{id}\" not found"))),
        }
    }
}

/// Text of `--object help`.
pub(crate) fn help() -> String {
    let names: String = KINDS.iter().map(|kind| format!("  {}\n", kind.name)).collect();
    format!("List of user creatable objects:\n{names}")
}

/// Text of `--object TYPE,help`.
pub(crate) fn help_of(kind: &str) -> Option<String> {
    let kind = kind_named(kind)?;
    let mut lines: Vec<String> =
        kind.properties.iter().map(|(name, of, _)| format!("  {name}=<{of}>\n")).collect();
    lines.sort();
    Some(match lines.is_empty() {
        true => format!("There are no options for {}.\n", kind.name),
        false => format!("{} options:\n{}", kind.name, lines.concat()),
    })
}

fn add(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let (kind, id) = (arguments.text("qom-type"), arguments.text("id"));
    let Some(kind) = kind_named(kind) else {
        return Err(Error::new(format!("invalid object type: {kind}")));
    };
    if !identifier(id) {
        return Err(Error::new("Parameter 'id' expects an identifier"));
    }
    let mut made = lock(&daemon.objects.made);
    if made.contains_key(id) {
        let text = format!("attempt to add duplicate property '{id}' to object (type 'container')");
        return Err(Error::new(text));
    }
    if !kind.there {
        return Err(Error::not_yet(&format!("object type '{}'", kind.name)));
    }
    let mut given = arguments.members().clone();
    if OBJECT_KINDS.contains(&kind.name) {
        let list = List::of_members(&given).map_err(|error| Error::new(error.to_string()))?;
        lock(&daemon.objects.held).add(list).map_err(refused)?;
    }
    given.retain(|key, _| {
        !["qom-type", "id"].contains(&key.as_str()) && !SECRET.contains(&key.as_str())
    });
    made.insert(id.to_owned(), (kind, given));
    done()
}

fn remove(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let id = arguments.text("id");
    if lock(&daemon.objects.held).is_group_in_use(id) {
        return Err(Error::new(format!("object '{id}' is in use, can not be deleted")));
    }
    let gone = lock(&daemon.objects.made).remove(id);
    gone.ok_or_else(|| Error::new(format!("object '{id}' not found")))?;
    lock(&daemon.objects.held).remove(id);
    done()
}

/// What a path leads to.
enum Place {
    Container(&'static str),
    Object(String),
    Chardev,
}

/// Containers below the root.
const CONTAINERS: &[&str] = &["backend", "objects", "chardevs"];

fn find(daemon: &Daemon, path: &str) -> Result<Place, Error> {
    let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty()).collect();
    let missing = || Error::of(Class::DeviceNotFound, format!("Device '{path}' not found"));
    match steps.as_slice() {
        [] if path.starts_with('/') => Ok(Place::Container("")),
        [name] if CONTAINERS.contains(name) => {
            let found = CONTAINERS.iter().find(|known| known == &name);
            found.map(|name| Place::Container(name)).ok_or_else(missing)
        }
        ["objects", id] if lock(&daemon.objects.made).contains_key(*id) => {
            Ok(Place::Object((*id).to_owned()))
        }
        ["chardevs", id] if daemon.chardevs.contains(id) => Ok(Place::Chardev),
        // The last part of a path is enough where it is unique.
        [id] if !path.starts_with('/') && lock(&daemon.objects.made).contains_key(*id) => {
            Ok(Place::Object((*id).to_owned()))
        }
        _ => Err(missing()),
    }
}

fn property(name: &str, of: &str) -> Value {
    json!({"name": name, "type": of})
}

fn list(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let mut found = vec![property("type", "string")];
    match find(daemon, arguments.text("path"))? {
        Place::Container("") => {
            found.extend(CONTAINERS.iter().map(|name| property(name, "child<container>")));
        }
        Place::Container("objects") => {
            for (id, (kind, _)) in &*lock(&daemon.objects.made) {
                found.push(property(id, &format!("child<{}>", kind.name)));
            }
        }
        Place::Container("chardevs") => {
            for (id, what, _) in daemon.chardevs.all() {
                found.push(property(&id, &format!("child<chardev-{}>", chardev_kind(&what))));
            }
        }
        Place::Container(_) | Place::Chardev => {}
        Place::Object(id) => {
            if let Some((kind, _)) = lock(&daemon.objects.made).get(&id) {
                found.extend(kind.properties.iter().map(|(name, of, _)| property(name, of)));
            }
        }
    }
    Ok(Value::Array(found))
}

/// The kind of a character back end by its description.
fn chardev_kind(what: &str) -> &str {
    let what = what.strip_prefix("disconnected:").unwrap_or(what);
    match what.split(':').next().unwrap_or_default() {
        "tcp" | "unix" | "telnet" | "fd" => "socket",
        kind => kind,
    }
}

fn no_property(kind: &str, name: &str) -> Error {
    Error::new(format!("Property '{kind}.{name}' not found"))
}

fn get(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let name = arguments.text("property");
    let place = find(daemon, arguments.text("path"))?;
    let Place::Object(id) = place else {
        let kind = if matches!(place, Place::Chardev) { "chardev" } else { "container" };
        return if name == "type" { Ok(json!(kind)) } else { Err(no_property(kind, name)) };
    };
    let made = lock(&daemon.objects.made);
    let Some((kind, given)) = made.get(&id) else { return Err(no_property("object", name)) };
    if name == "type" {
        return Ok(json!(kind.name));
    }
    if let Some(group) = daemon.objects.group(&id) {
        let limits = group.limits().named();
        let short = name.strip_prefix("x-").unwrap_or_default();
        if let Some((_, value)) = limits.iter().find(|(known, _)| known == short) {
            return Ok(json!(value));
        }
        if name == "limits" {
            let members = limits.into_iter().map(|(name, value)| (name, json!(value)));
            return Ok(Value::Object(members.collect()));
        }
    }
    let row = kind.properties.iter().find(|(known, ..)| *known == name);
    let (_, _, default) = row.ok_or_else(|| no_property(kind.name, name))?;
    if SECRET.contains(&name) {
        return Err(Error::new(format!("Property '{}.{name}' is not readable", kind.name)));
    }
    Ok(given.get(name).cloned().unwrap_or_else(|| match default {
        Default::Number(number) => json!(number),
        Default::Word(word) => json!(word),
        Default::Switch(on) => json!(on),
        Default::Nothing => json!(""),
    }))
}

/// Only threads and throttle groups have properties that can be changed later.
fn set(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let name = arguments.text("property");
    let Place::Object(id) = find(daemon, arguments.text("path"))? else {
        return Err(no_property("container", name));
    };
    let mut made = lock(&daemon.objects.made);
    let Some((kind, given)) = made.get_mut(&id) else { return Err(no_property("object", name)) };
    let not_writable = || Error::new(format!("Property '{}.{name}' is not writable", kind.name));
    if name == "type" {
        return Err(not_writable());
    }
    if let Some(group) = daemon.objects.group(&id) {
        return set_limits(&group, name, arguments.value("value"));
    }
    if !kind.properties.iter().any(|(known, ..)| *known == name) {
        return Err(no_property(kind.name, name));
    }
    if kind.parent != "event-loop-base" {
        return Err(not_writable());
    }
    let value = arguments.value("value").filter(|value| value.is_i64());
    let value = value.ok_or_else(|| {
        Error::new(format!("Invalid parameter type for '{name}', expected: integer"))
    })?;
    given.insert(name.to_owned(), value.clone());
    done()
}

/// Changes the limits that are given; all others stay.
fn set_limits(group: &Group, name: &str, value: Option<&Value>) -> Answer {
    let mut limits = group.limits();
    if name != "limits" {
        let short = name.strip_prefix("x-").unwrap_or_default();
        return Err(match limits.set(short, 0) {
            true => Error::new("Property cannot be set after initialization"),
            false => no_property("throttle-group", name),
        });
    }
    let Some(members) = value.and_then(Value::as_object) else {
        return Err(Error::new("Invalid parameter type for 'limits', expected: object"));
    };
    for (name, value) in members {
        let Some(number) = value.as_i64() else {
            let text = format!("Invalid parameter type for 'limits.{name}', expected: integer");
            return Err(Error::new(text));
        };
        let negative = |_| Error::new("Property values cannot be negative");
        if !limits.set(name, u64::try_from(number).map_err(negative)?) {
            return Err(Error::new(format!("Parameter 'limits.{name}' is unexpected")));
        }
    }
    limits.check().map_err(refused)?;
    group.set_limits(limits);
    done()
}

fn list_types(_: &Daemon, arguments: &Arguments) -> Answer {
    let mut found = Vec::new();
    let wanted = arguments.text_if("implements");
    let abstract_too = arguments.switch("abstract") == Some(true);
    let mut parents: Vec<&str> = KINDS.iter().map(|kind| kind.parent).collect();
    parents.sort_unstable();
    parents.dedup();
    for kind in KINDS.iter().filter(|kind| kind.there) {
        let implements = [kind.name, kind.parent, "user-creatable", "object"];
        if wanted.is_none_or(|wanted| implements.contains(&wanted)) {
            found.push(json!({"name": kind.name, "parent": kind.parent}));
        }
    }
    for parent in parents.into_iter().filter(|parent| abstract_too && *parent != "object") {
        if wanted.is_none_or(|wanted| [parent, "object"].contains(&wanted)) {
            found.push(json!({"name": parent, "abstract": true, "parent": "object"}));
        }
    }
    if wanted.is_none_or(|wanted| ["container", "object"].contains(&wanted)) {
        found.push(json!({"name": "container", "parent": "object"}));
    }
    Ok(Value::Array(found))
}

fn list_properties(_: &Daemon, arguments: &Arguments) -> Answer {
    let name = arguments.text("typename");
    let missing = || Error::of(Class::DeviceNotFound, format!("Class '{name}' not found"));
    let kind = kind_named(name).filter(|kind| kind.there).ok_or_else(missing)?;
    let rows = kind.properties.iter().map(|(name, of, _)| property(name, of));
    Ok(std::iter::once(property("type", "string")).chain(rows).collect())
}
