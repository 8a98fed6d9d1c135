//! Character devices.

use crate::daemon::{Answer, Daemon, done};
use chardev::{Backend, Config, Socket, SocketAddress};
use options::base64;
use qmp::{Arguments, Command, Error};
use serde_json::json;
use std::sync::Mutex;

pub(crate) static COMMANDS: &[Command<Daemon>] = &[
    Command { name: "chardev-add", run: add },
    Command { name: "chardev-change", run: change },
    Command { name: "chardev-remove", run: remove },
    Command { name: "chardev-send-break", run: send_break },
    Command { name: "query-chardev", run: list },
    Command { name: "query-chardev-backends", run: backends },
    Command { name: "ringbuf-read", run: read },
    Command { name: "ringbuf-write", run: write },
];

/// Makes a back end of what `chardev-add` says.
type Make = fn(&Arguments) -> Result<Backend, Error>;

/// Kinds of back ends, newest first as the peer lists them.
const KINDS: &[(&str, Make)] = &[
    ("serial", |data| Ok(Backend::Serial { path: data.text("device").to_owned() })),
    ("pipe", |data| Ok(Backend::Pipe { path: data.text("device").to_owned() })),
    ("null", |_| Ok(Backend::Null)),
    ("ringbuf", ring),
    ("socket", socket),
    ("stdio", |data| Ok(Backend::Stdio { signal: data.switch("signal").unwrap_or(true) })),
    ("memory", ring),
    ("udp", udp),
    ("file", |data| {
        Ok(Backend::File {
            path: data.text("out").to_owned(),
            input: data.text_if("in").map(str::to_owned),
            append: data.switch("append").unwrap_or(false),
        })
    }),
    ("pty", |data| Ok(Backend::Pty { link: data.text_if("path").map(str::to_owned) })),
];

/// Text of `--chardev help`.
pub(crate) fn help() -> String {
    let names: String = KINDS.iter().rev().map(|(name, _)| format!("  {name}\n")).collect();
    format!("Available chardev backend types: \n{names}")
}

/// Largest ring in bytes.
const MAX_RING: i64 = 1 << 30;

fn ring(data: &Arguments) -> Result<Backend, Error> {
    let size = data.int("size").unwrap_or(65536);
    match u64::try_from(size) {
        Ok(size) if size.is_power_of_two() && size <= MAX_RING as u64 => {
            Ok(Backend::Ringbuf { size })
        }
        _ => Err(Error::new("size of ringbuf chardev must be power of two")),
    }
}

/// Where a socket is, for the older form with its parts in `data`.
fn address(value: &Arguments) -> Result<SocketAddress, Error> {
    let parts = value.object("data");
    let text = |key: &str| parts.text(key).to_owned();
    Ok(match value.text("type") {
        "inet" => SocketAddress::Tcp {
            host: text("host"),
            port: text("port"),
            to: parts.size("to").and_then(|n| u16::try_from(n).ok()),
        },
        "unix" => SocketAddress::Unix {
            path: text("path"),
            is_abstract: parts.switch("abstract").unwrap_or(false),
        },
        "fd" => SocketAddress::Fd(text("str")),
        kind => return Err(Error::not_yet(&format!("address type '{kind}'"))),
    })
}

fn socket(data: &Arguments) -> Result<Backend, Error> {
    for key in ["tls-creds", "tls-authz"] {
        if data.text_if(key).is_some() {
            return Err(Error::not_yet(&format!("'{key}'")));
        }
    }
    for key in ["websocket", "tn3270"] {
        if data.switch(key) == Some(true) {
            return Err(Error::not_yet(&format!("{key}=on")));
        }
    }
    let server = data.switch("server").unwrap_or(true);
    let seconds = data.int("reconnect").unwrap_or(0).saturating_mul(1000);
    let reconnect = data.int("reconnect-ms").unwrap_or(seconds);
    if server && reconnect != 0 {
        return Err(Error::new(
            "'reconnect' option is incompatible with socket in server listen mode",
        ));
    }
    if !server && data.switch("wait").is_some() {
        let text = "'wait' option is incompatible with socket in client connect mode";
        return Err(Error::new(text));
    }
    Ok(Backend::Socket(Socket {
        address: address(&data.object("addr"))?,
        server,
        wait: server && data.switch("wait").unwrap_or(false),
        telnet: data.switch("telnet").unwrap_or(false),
        nodelay: data.switch("nodelay").unwrap_or(false),
        reconnect_ms: u64::try_from(reconnect).unwrap_or(0),
    }))
}

fn udp(data: &Arguments) -> Result<Backend, Error> {
    let text = |key: &str| match address(&data.object(key))? {
        SocketAddress::Tcp { host, port, .. } if host.is_empty() => Ok(format!("localhost:{port}")),
        SocketAddress::Tcp { host, port, .. } => Ok(format!("{host}:{port}")),
        _ => Err(Error::new("only inet addresses can be used for udp")),
    };
    let local = if data.value("local").is_some() { Some(text("local")?) } else { None };
    Ok(Backend::Udp { remote: text("remote")?, local })
}

/// Adds what `--chardev` or `chardev-add` describes; returns where a pseudo-terminal is.
pub(crate) fn open(daemon: &Daemon, config: &Config) -> Result<Option<String>, Error> {
    let id = &config.id;
    if daemon.chardevs.contains(id) {
        return Err(Error::new(format!("Chardev with id '{id}' already exists")));
    }
    let pty = Mutex::new(None);
    let notice = |line: &str| {
        if let Some(rest) = line.strip_prefix("char device redirected to ") {
            let path = rest.split(' ').next().unwrap_or_default().to_owned();
            *crate::daemon::lock(&pty) = Some(path);
        } else {
            eprintln!("{line}");
        }
    };
    daemon.chardevs.open(config, &notice).map_err(|error| Error::new(error.to_string()))?;
    Ok(pty.into_inner().unwrap_or_default())
}

fn add(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let id = arguments.text("id");
    let backend = arguments.object("backend");
    let kind = backend.text("type");
    let Some((_, make)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        return Err(Error::not_yet(&format!("character back end '{kind}'")));
    };
    if daemon.chardevs.contains(id) {
        return Err(Error::new(format!("Chardev with id '{id}' already exists")));
    }
    let failed = |error: Error| {
        let text = format!("Failed to add chardev '{id}': {}", error.text);
        Error::of(error.class, text)
    };
    let data = backend.object("data");
    let mut config = Config::new(id, make(&data).map_err(failed)?);
    config.logfile = data.text_if("logfile").map(str::to_owned);
    config.logappend = data.switch("logappend").unwrap_or(false);
    let pty = open(daemon, &config).map_err(failed)?;
    Ok(pty.map_or_else(|| json!({}), |pty| json!({"pty": pty})))
}

/// Another back end under the same id. As the peer's, the old one is gone even if the new one fails.
fn change(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let id = arguments.text("id");
    match daemon.chardevs.close(id) {
        Some(true) => add(daemon, arguments),
        // Monitors are the only users.
        Some(false) => Err(Error::new("Chardev user does not support chardev hotswap")),
        None => Err(Error::new(format!("Chardev '{id}' does not exist"))),
    }
}

fn remove(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let id = arguments.text("id");
    match daemon.chardevs.close(id) {
        Some(true) => done(),
        Some(false) => Err(Error::new(format!("Chardev '{id}' is busy"))),
        None => Err(Error::new(format!("Chardev '{id}' not found"))),
    }
}

fn send_break(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let id = arguments.text("id");
    if daemon.chardevs.send_break(id) {
        return done();
    }
    Err(Error::new(format!("Chardev '{id}' not found")))
}

fn list(daemon: &Daemon, _: &Arguments) -> Answer {
    let one = |(label, filename, used): (String, String, bool)| json!({"label": label, "filename": filename, "frontend-open": used});
    Ok(daemon.chardevs.all().into_iter().map(one).collect())
}

fn backends(_: &Daemon, _: &Arguments) -> Answer {
    Ok(KINDS.iter().map(|(name, _)| json!({"name": name})).collect())
}

/// Refuses a device that is none or keeps no bytes.
fn no_ring(daemon: &Daemon, id: &str) -> Error {
    if daemon.chardevs.contains(id) {
        return Error::new(format!("{id} is not a ringbuf device"));
    }
    Error::new(format!("Device '{id}' not found"))
}

fn read(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let id = arguments.text("device");
    let size = arguments.int("size").unwrap_or(0);
    // Nothing is taken out before the request is known to be right.
    if daemon.chardevs.read_ring(id, 0).is_none() {
        return Err(no_ring(daemon, id));
    }
    let size = usize::try_from(size).ok().filter(|size| *size > 0);
    let size = size.ok_or_else(|| Error::new("size must be greater than zero"))?;
    let bytes = daemon.chardevs.read_ring(id, size).unwrap_or_default();
    if arguments.text("format") == "base64" {
        return Ok(json!(base64::encode(&bytes)));
    }
    Ok(json!(String::from_utf8_lossy(&bytes)))
}

fn write(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let (id, data) = (arguments.text("device"), arguments.text("data"));
    let bytes = if arguments.text("format") == "base64" {
        base64::decode(data).ok_or_else(|| Error::new("Base64 data is not valid"))?
    } else {
        data.as_bytes().to_vec()
    };
    daemon.chardevs.write_ring(id, &bytes).ok_or_else(|| no_ring(daemon, id))?;
    done()
}
