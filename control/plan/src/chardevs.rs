//! Character back ends: `-chardev`, and the short forms of `-serial`, `-monitor` and their like.

use crate::refusal::{Refusal, Result};
use crate::{CharBackend, Chardev, Socket, SocketAddress};
use options::{Bytes, Grammar, Item, List, OptionGroup, option_group};

option_group! {
    /// `-chardev`: the keys of all kinds.
    struct ChardevOptions in "chardev" {
        /// Kind of back end.
        "backend" => backend: Option<String>,
        /// Whether several front ends share it.
        "mux" => mux: bool = false,
        /// File that takes a copy of the output.
        "logfile" => logfile: Option<String>,
        /// Whether that file is appended to.
        "logappend" => logappend: bool = false,
        /// File, socket, pipe or device.
        "path" => path: Option<String>,
        /// File that gives the input.
        "input-path" => input: Option<String>,
        /// Whether the file is appended to.
        "append" => append: bool = false,
        /// Whether Ctrl-C stops the emulator.
        "signal" => signal: bool = true,
        /// Size of the ring in bytes.
        "size" => size: Option<Bytes>,
        /// Host to connect to or listen on.
        "host" => host: Option<String>,
        /// Port.
        "port" => port: Option<String>,
        /// Highest port to try.
        "to" => to: Option<u16>,
        /// Whether IPv4 is used.
        "ipv4" => ipv4: Option<bool>,
        /// Whether IPv6 is used.
        "ipv6" => ipv6: Option<bool>,
        /// Descriptor.
        "fd" => fd: Option<String>,
        /// Whether it listens.
        "server" => server: bool = false,
        /// Whether start waits for a client.
        "wait" => wait: Option<bool>,
        /// Whether small writes are sent at once.
        "nodelay" => nodelay: bool = false,
        /// As nodelay=off.
        "delay" => delay: bool = true,
        /// Whether telnet is spoken.
        "telnet" => telnet: bool = false,
        /// Whether TN3270 is spoken.
        "tn3270" => tn3270: bool = false,
        /// Whether WebSocket is spoken.
        "websocket" => websocket: bool = false,
        /// Seconds between attempts to connect.
        "reconnect" => reconnect: Option<u64>,
        /// Milliseconds between attempts to connect.
        "reconnect-ms" => reconnect_ms: Option<u64>,
        /// Whether the Unix name is outside the file system.
        "abstract" => is_abstract: bool = false,
        /// Whether an abstract name ends where it ends.
        "tight" => tight: bool = true,
        /// TLS credentials.
        "tls-creds" => tls_creds: Option<String>,
        /// TLS authorisation.
        "tls-authz" => tls_authz: Option<String>,
        /// Address to bind.
        "localaddr" => localaddr: Option<String>,
        /// Port to bind.
        "localport" => localport: Option<String>,
        /// Width in pixels.
        "width" => width: Option<u64>,
        /// Height in pixels.
        "height" => height: Option<u64>,
        /// Width in characters.
        "cols" => cols: Option<u64>,
        /// Height in characters.
        "rows" => rows: Option<u64>,
    }
}

/// Kinds of back ends there are, in the order of `-chardev help`.
pub(crate) const KINDS: &[&str] = &[
    "null", "stdio", "file", "pipe", "pty", "socket", "udp", "ringbuf", "serial", "parallel", "vc",
];

/// Kinds of the original that are not there yet.
const LATER: &[&str] = &[
    "hub",
    "mux",
    "msmouse",
    "braille",
    "testdev",
    "wctablet",
    "memory",
    "spicevmc",
    "spiceport",
    "qemu-vdagent",
    "dbus",
];

/// Reads `-chardev`.
///
/// # Errors
/// With QEMU's words where scripts know them.
pub fn chardev(text: &str) -> Result<Chardev> {
    let mut list = List::parse(text, Grammar::loose("backend"))?;
    let id = list
        .take_id()?
        .ok_or_else(|| Refusal::new("chardev: no id specified").hint("Give it a name: id=NAME."))?;
    from_list(id, &list)
}

fn from_list(id: String, list: &List) -> Result<Chardev> {
    let kind = list.get("backend").unwrap_or_default().to_owned();
    if kind.is_empty() {
        return Err(Refusal::new("chardev: \"backend\" missing"));
    }
    let given = ChardevOptions::from_list(list)?;
    if let Some(tls) = given.tls_creds.as_ref().or(given.tls_authz.as_ref()) {
        return Err(Refusal::new(format!("not supported yet: TLS ('{tls}')")));
    }
    let backend = backend(&kind, &given)?;
    let ChardevOptions { mux, logfile, logappend, .. } = given;
    Ok(Chardev { mux, logfile, logappend, ..Chardev::new(&id, backend) })
}

fn backend(kind: &str, given: &ChardevOptions) -> Result<CharBackend> {
    let path = |what: &str| {
        given.path.clone().ok_or_else(|| Refusal::new(format!("chardev: {kind}: no {what} given")))
    };
    Ok(match kind {
        "null" => CharBackend::Null,
        "stdio" => CharBackend::Stdio { signal: given.signal },
        "vc" => CharBackend::Console,
        "pty" => CharBackend::Pty { link: given.path.clone() },
        "pipe" => CharBackend::Pipe { path: path("device path")? },
        "serial" | "tty" => CharBackend::Serial { path: path("device path")? },
        "parallel" | "parport" => CharBackend::Parallel { path: path("device path")? },
        "file" => CharBackend::File {
            path: path("filename")?,
            input: given.input.clone(),
            append: given.append,
        },
        "ringbuf" | "memory" => CharBackend::Ringbuf { size: ring_size(given)? },
        "udp" => CharBackend::Udp {
            remote: format!(
                "{}:{}",
                given.host.as_deref().unwrap_or("localhost"),
                given
                    .port
                    .as_deref()
                    .ok_or_else(|| { Refusal::new("chardev: udp: remote port not specified") })?
            ),
            local: local_address(given),
        },
        "socket" => CharBackend::Socket(socket(given)?),
        _ if LATER.contains(&kind) => {
            return Err(Refusal::new(format!("not supported yet: character back end '{kind}'")));
        }
        _ => {
            return Err(Refusal::new(format!("'{kind}' is not a valid char driver name"))
                .suggesting(kind, KINDS.iter().copied())
                .hint("'-chardev help' lists them."));
        }
    })
}

fn local_address(given: &ChardevOptions) -> Option<String> {
    let port = given.localport.as_deref();
    let host = given.localaddr.as_deref();
    (port.is_some() || host.is_some())
        .then(|| format!("{}:{}", host.unwrap_or("0.0.0.0"), port.unwrap_or("0")))
}

fn ring_size(given: &ChardevOptions) -> Result<u64> {
    let size = given.size.map_or(65536, |size| size.0);
    if !size.is_power_of_two() || size > 1 << 30 {
        return Err(Refusal::new("size of ringbuf chardev must be power of two")
            .hint("It must also be at most 1G."));
    }
    Ok(size)
}

fn socket(given: &ChardevOptions) -> Result<Socket> {
    for (on, what) in [(given.websocket, "websocket"), (given.tn3270, "tn3270")] {
        if on {
            return Err(Refusal::new(format!("not supported yet: {what}=on")));
        }
    }
    let address = match (&given.path, &given.fd, &given.port) {
        (Some(path), None, None) => {
            SocketAddress::Unix { path: path.clone(), is_abstract: given.is_abstract }
        }
        (None, Some(fd), None) => SocketAddress::Fd(fd.clone()),
        (None, None, Some(port)) => SocketAddress::Tcp {
            host: given.host.clone().unwrap_or_default(),
            port: port.clone(),
            to: given.to,
        },
        (None, None, None) => {
            return Err(Refusal::new("chardev: socket: no address given")
                .hint("Give path=PATH for a Unix socket, or host=HOST,port=PORT for TCP."));
        }
        _ => return Err(Refusal::new("None or one of 'path', 'fd' or 'host' option required.")),
    };
    let reconnect_ms =
        given.reconnect_ms.unwrap_or_else(|| given.reconnect.unwrap_or(0).saturating_mul(1000));
    if given.server && reconnect_ms > 0 {
        return Err(Refusal::new("'reconnect' option is incompatible with 'server'"));
    }
    if !given.server && given.wait.is_some() {
        return Err(Refusal::new(
            "'wait' option is incompatible with socket in client connect mode",
        ));
    }
    Ok(Socket {
        address,
        server: given.server,
        wait: given.server && given.wait.unwrap_or(true),
        telnet: given.telnet,
        nodelay: given.nodelay || !given.delay,
        reconnect_ms,
    })
}

/// What a short form stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    /// Nothing: `none`.
    None,
    /// An existing back end: `chardev:ID`.
    Reference(String),
    /// A new back end, and whether a monitor shares it (`mon:`).
    New(Box<Chardev>, bool),
}

/// Reads the short form of a back end, to be called `id`.
pub(crate) fn short(id: &str, text: &str) -> Result<Short> {
    if text == "none" {
        return Ok(Short::None);
    }
    if let Some(name) = text.strip_prefix("chardev:") {
        return Ok(Short::Reference(name.to_owned()));
    }
    let (inner, monitor) = match text.strip_prefix("mon:") {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let mut list = short_list(inner)?;
    if monitor {
        list.set("mux", "on");
        if inner == "stdio" {
            list.set("signal", "off");
        }
    }
    let chardev = from_list(id.to_owned(), &list)?;
    Ok(Short::New(Box::new(chardev), monitor))
}

/// The keys a short form stands for.
fn short_list(text: &str) -> Result<List> {
    let of = |pairs: &[(&str, &str)]| List {
        source: text.to_owned(),
        items: pairs.iter().map(|(key, value)| Item::new(key, value)).collect(),
    };
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    let colon = text.contains(':');
    Ok(match kind {
        "null" | "stdio" | "vc" if !colon || kind == "vc" => of(&[("backend", kind)]),
        "pty" if colon => of(&[("backend", "pty"), ("path", rest)]),
        "pty" => of(&[("backend", "pty")]),
        "file" | "pipe" if colon => of(&[("backend", kind), ("path", rest)]),
        "ringbuf" if !colon => of(&[("backend", kind)]),
        "unix" if colon => {
            let mut list = List::parse(rest, Grammar::loose("path"))?;
            list.items.insert(0, Item::new("backend", "socket"));
            undo_nowait(&mut list);
            list
        }
        "tcp" | "telnet" if colon => network(kind, rest)?,
        "udp" if colon => datagram(rest)?,
        _ if text.starts_with("/dev/parport") || text.starts_with("/dev/ppi") => {
            of(&[("backend", "parallel"), ("path", text)])
        }
        _ if text.starts_with("/dev/") => of(&[("backend", "serial"), ("path", text)]),
        _ if LATER.contains(&kind) => {
            return Err(Refusal::new(format!("not supported yet: character back end '{kind}'")));
        }
        _ => {
            let known = ["null", "stdio", "none", "pty", "mon:stdio", "vc"];
            return Err(Refusal::new(format!("'{text}' is not a valid char driver"))
                .suggesting(text, known)
                .hint(
                    "Forms: stdio, mon:stdio, null, none, pty, file:PATH, pipe:PATH, \
                     unix:PATH[,server=on,wait=off], tcp:HOST:PORT[,server=on,wait=off], chardev:ID.",
                ));
        }
    })
}

/// `nowait` is older than `wait=off`.
fn undo_nowait(list: &mut List) {
    for (old, new) in [("nowait", "wait"), ("noserver", "server")] {
        if list.take(old).is_some() {
            list.set(new, "off");
        }
    }
}

fn network(kind: &str, rest: &str) -> Result<List> {
    let mut list = List::parse(rest, Grammar::loose("address"))?;
    let address = list.take("address").map(|item| item.value).unwrap_or_default();
    let (host, port) = address
        .rsplit_once(':')
        .filter(|(_, port)| !port.is_empty())
        .ok_or_else(|| Refusal::new(format!("'{kind}:{rest}' needs HOST:PORT")))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    undo_nowait(&mut list);
    for (key, value) in [("port", port), ("host", host), ("backend", "socket")] {
        list.items.insert(0, Item::new(key, value));
    }
    if kind == "telnet" {
        list.set("telnet", "on");
    }
    Ok(list)
}

/// `udp:[HOST]:PORT[@[HOST]:PORT]`.
fn datagram(rest: &str) -> Result<List> {
    let (remote, local) = match rest.split_once('@') {
        Some((remote, local)) => (remote, Some(local)),
        None => (rest, None),
    };
    let split = |address: &str| -> Result<(String, String)> {
        address
            .rsplit_once(':')
            .filter(|(_, port)| !port.is_empty())
            .map(|(host, port)| (host.to_owned(), port.to_owned()))
            .ok_or_else(|| Refusal::new(format!("'udp:{rest}' needs HOST:PORT")))
    };
    let (host, port) = split(remote)?;
    let mut items = vec![Item::new("backend", "udp"), Item::new("port", &port)];
    if !host.is_empty() {
        items.push(Item::new("host", &host));
    }
    if let Some(local) = local {
        let (host, port) = split(local)?;
        items.push(Item::new("localport", &port));
        if !host.is_empty() {
            items.push(Item::new("localaddr", &host));
        }
    }
    Ok(List { source: rest.to_owned(), items })
}

/// Text for `-chardev help`.
pub(crate) fn help() -> String {
    let kinds: String = KINDS.iter().map(|kind| format!("  {kind}\n")).collect();
    format!("Available chardev backend types: \n{kinds}")
}

/// Text for `-chardev KIND,help`.
pub(crate) fn options_help() -> String {
    ChardevOptions::help()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> CharBackend {
        match short("serial0", text).unwrap() {
            Short::New(chardev, _) => chardev.backend,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn short_forms_are_understood() {
        assert_eq!(made("stdio"), CharBackend::Stdio { signal: true });
        assert_eq!(made("mon:stdio"), CharBackend::Stdio { signal: false });
        assert_eq!(made("null"), CharBackend::Null);
        assert_eq!(made("vc:80Cx24C"), CharBackend::Console);
        assert_eq!(
            made("file:/a,b"),
            CharBackend::File { path: "/a,b".into(), input: None, append: false }
        );
        assert_eq!(short("x", "chardev:c").unwrap(), Short::Reference("c".into()));
        assert_eq!(short("x", "none").unwrap(), Short::None);
    }

    #[test]
    fn sockets_have_an_address_and_a_role() {
        let CharBackend::Socket(socket) = made("tcp:[::1]:4444,server,nowait,nodelay") else {
            panic!("no socket")
        };
        let address = SocketAddress::Tcp { host: "::1".into(), port: "4444".into(), to: None };
        assert_eq!(socket.address, address);
        assert!(socket.server && !socket.wait && socket.nodelay && !socket.telnet);
        let CharBackend::Socket(socket) = made("unix:/tmp/s,server=on") else {
            panic!("no socket")
        };
        assert!(socket.server && socket.wait);
        let CharBackend::Socket(socket) = made("telnet::4444") else { panic!("no socket") };
        assert!(socket.telnet && !socket.server);
        assert!(chardev("socket,id=a").is_err());
        assert!(chardev("socket,id=a,path=x,wait=on").is_err());
        assert!(chardev("socket,id=a,path=x,port=1").is_err());
    }
}
