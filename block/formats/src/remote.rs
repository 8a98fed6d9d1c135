//! Images that are not files of the host: what their names say, and their options.

use std::sync::Arc;
use std::time::Duration;

use graph::{Node, OpenError, Secrets};
use nbd::{Address, Location};
use protocols::Driver;

use crate::gate::{Gate, Place, Reason};
use crate::keys::{Keys, Style};
use crate::open::{Inherited, check_protocol, protocol_of};

/// Protocols of file names that are not files, with their drivers.
const PROTOCOLS: &[(&str, &str)] = &[
    ("nbd", "nbd"),
    ("nbd+tcp", "nbd"),
    ("nbd+unix", "nbd"),
    ("nbd+vsock", "nbd"),
    ("http", "http"),
    ("https", "https"),
    ("ssh", "ssh"),
];

/// The driver of what a file name names, if that is not a file.
fn driver_of(filename: &str) -> Option<&'static str> {
    let protocol = protocol_of(filename)?;
    PROTOCOLS.iter().find(|(name, _)| *name == protocol).map(|(_, driver)| *driver)
}

/// Whether a file name stands for something else than a file.
pub(crate) fn is_remote_name(filename: &str) -> bool {
    driver_of(filename).is_some()
}

/// Whether a driver is one of those here.
pub(crate) fn is_driver(name: &str) -> bool {
    PROTOCOLS.iter().any(|(_, driver)| *driver == name)
}

/// The options of the `file` child that a file name stands for.
pub(crate) fn pairs_of(filename: &str) -> Result<Vec<(String, String)>, OpenError> {
    if let Some(pairs) = crate::open_filters::pairs_of(filename)? {
        return Ok(pairs);
    }
    if let Some(folder) = filename.strip_prefix("fat:") {
        return Ok(crate::folder::pairs_of(folder));
    }
    let Some(driver) = driver_of(filename) else {
        check_protocol(filename)?;
        return Ok(vec![("file.filename".to_owned(), filename.to_owned())]);
    };
    let mut pairs = vec![("driver", driver.to_owned())];
    if driver == "nbd" {
        let location = Location::parse(filename).map_err(OpenError::Option)?;
        pairs.push(("export", location.export));
        let server: Vec<(_, String)> = match location.address {
            Address::Unix(path) => vec![("type", "unix".into()), ("path", path)],
            Address::Tcp { host, port } => {
                vec![("type", "inet".into()), ("host", host), ("port", port.to_string())]
            }
            Address::Vsock { cid, port } => {
                vec![("type", "vsock".into()), ("cid", cid.to_string()), ("port", port.to_string())]
            }
            // No name says these.
            Address::Abstract { .. } | Address::Handed(_) => Vec::new(),
        };
        let server = server.into_iter().map(|(key, value)| (format!("file.server.{key}"), value));
        let pairs = pairs.into_iter().map(|(key, value)| (format!("file.{key}"), value));
        return Ok(pairs.chain(server).collect());
    } else if driver == "ssh" {
        let options = ssh::Options::parse(filename).map_err(OpenError::Option)?;
        pairs.extend([("server.host", options.host), ("path", options.path)]);
        pairs.extend(options.port.map(|port| ("server.port", port.to_string())));
        pairs.extend(options.user.map(|user| ("user", user)));
        if options.host_key == ssh::HostKey::Any {
            pairs.push(("host-key-check.mode", "none".to_owned()));
        }
    } else {
        pairs.push(("url", filename.to_owned()));
    }
    Ok(pairs.into_iter().map(|(key, value)| (format!("file.{key}"), value)).collect())
}

/// Whether `file.` options name something else than a file.
pub(crate) fn is_remote(pairs: &[(String, String)]) -> bool {
    pairs.iter().any(|(key, value)| key == "file.driver" && Driver::named(value).is_none())
}

/// Connects to what `keys` describe.
pub(crate) fn open(
    driver: &str,
    mut keys: Keys,
    common: &Inherited,
    (gate, reason): (&dyn Gate, Reason),
    secrets: &dyn Secrets,
) -> Result<Arc<dyn Node>, OpenError> {
    let place = place(driver, &mut keys, common, secrets)?;
    keys.finish(driver)?;
    gate.connect(&place, reason)
}

/// Connects to the backing file that an image names, if its name is that of a server: what the gate
/// makes of it is the gate's business. An image can name an address and nothing else, no credentials.
pub(crate) fn backing(
    name: &str,
    common: &Inherited,
    gate: &dyn Gate,
) -> Result<Option<Arc<dyn Node>>, OpenError> {
    let Some(driver) = driver_of(name) else { return Ok(None) };
    let pairs = pairs_of(name)?.into_iter().filter(|(key, _)| key != "file.driver");
    let mut whole = Keys::new(pairs, Style::Drive);
    let mut keys = whole.child("file").unwrap_or_else(|| Keys::new([], Style::Drive));
    let place = place(driver, &mut keys, common, &graph::NoSecrets)?;
    gate.connect(&place, Reason::Backing).map(Some)
}

/// Makes a file of `size` bytes on a server; `None` for names that are not those of servers.
pub(crate) fn create(name: &str, size: u64) -> Result<Option<Arc<dyn Node>>, OpenError> {
    let failed = |e: std::io::Error| OpenError::Host {
        operation: format!("{name}: Could not resize '{name}'"),
        source: e,
    };
    match driver_of(name) {
        None => Ok(None),
        Some("ssh") => {
            let options = ssh::Options::parse(name).map_err(OpenError::Option)?;
            let node = ssh::Ssh::create(&options)?;
            node.truncate(size).map_err(failed)?;
            Ok(Some(Arc::new(node)))
        }
        // An export exists already, and is as long as it is.
        Some("nbd") => {
            let location = Location::parse(name).map_err(OpenError::Option)?;
            let node = nbd::Client::open(&location, &nbd::Options::default())?;
            if node.size() < size {
                return Err(failed(std::io::ErrorKind::Unsupported.into()));
            }
            Ok(Some(Arc::new(node)))
        }
        Some(driver) => Err(OpenError::Option(format!(
            "Protocol driver '{driver}' does not support image creation"
        ))),
    }
}

fn place(
    driver: &str,
    keys: &mut Keys,
    common: &Inherited,
    secrets: &dyn Secrets,
) -> Result<Place, OpenError> {
    match driver {
        "http" => web("http", keys, common, secrets),
        "https" => web("https", keys, common, secrets),
        "ssh" => ssh(keys, common),
        _ => nbd(keys, common, secrets),
    }
}

/// What the drivers `http` and `https` are told.
fn web(
    driver: &'static str,
    keys: &mut Keys,
    common: &Inherited,
    secrets: &dyn Secrets,
) -> Result<Place, OpenError> {
    let refuse = |text: &str| OpenError::Option(text.to_owned());
    if !common.read_only && !common.auto_read_only {
        return Err(refuse("curl driver does not support writes"));
    }
    let readahead = keys.take_size("readahead")?.unwrap_or(web::Options::READAHEAD);
    if !readahead.is_multiple_of(graph::SECTOR) {
        let text = format!("HTTP_READAHEAD_SIZE {readahead} is not a multiple of 512");
        return Err(OpenError::Option(text));
    }
    let seconds = keys.take_size("timeout")?.unwrap_or(web::Options::TIMEOUT.as_secs());
    if seconds > MOST_SECONDS {
        return Err(refuse("timeout parameter is too large or negative"));
    }
    let sslverify = keys.take_bool("sslverify")?.unwrap_or(true);
    let secret = |id: String| {
        let bytes = secrets.secret(&id)?;
        String::from_utf8(bytes).map_err(|_| refuse("a secret of an HTTP server is not UTF-8"))
    };
    let cookie = match (keys.take("cookie"), keys.take("cookie-secret")) {
        (Some(_), Some(_)) => {
            return Err(refuse("curl driver cannot handle both cookie and cookie secret"));
        }
        (cookie, None) => cookie,
        (None, Some(id)) => Some(secret(id)?),
    };
    let url =
        keys.take("url").ok_or_else(|| refuse("curl block driver requires an 'url' option"))?;
    let mut user = |prefix: &str| {
        let name = keys.take(&format!("{prefix}username"));
        let password = keys.take(&format!("{prefix}password-secret")).map(&secret).transpose()?;
        Ok::<_, OpenError>(name.map(|name| (name, password.unwrap_or_default())))
    };
    let (user, proxy_user) = (user("")?, user("proxy-")?);
    let timeout = (seconds != 0).then(|| Duration::from_secs(seconds));
    let options = web::Options { url, readahead, sslverify, timeout, cookie, user, proxy_user };
    Ok(Place::Web(driver, options))
}

/// What the driver `ssh` is told.
fn ssh(keys: &mut Keys, common: &Inherited) -> Result<Place, OpenError> {
    let missing = |what: &str| OpenError::Option(format!("Parameter '{what}' is missing"));
    // The older spelling has the same without `server.`.
    let mut take = |key: &str| keys.take(&format!("server.{key}")).or_else(|| keys.take(key));
    let (host, port) = (take("host"), take("port"));
    let port = port.map(|port| {
        port.parse().map_err(|_| OpenError::Option(format!("'{port}' is no port number")))
    });
    let host_key = match keys.take("host-key-check.mode").as_deref() {
        None | Some("known_hosts") => ssh::HostKey::Known,
        Some("none") => ssh::HostKey::Any,
        Some("hash") => {
            let (path, what) = ("ssh".to_owned(), "host-key-check.mode=hash".to_owned());
            return Err(OpenError::NotSupported { path, what });
        }
        Some(other) => {
            let text = format!("Parameter 'host-key-check.mode' does not accept value '{other}'");
            return Err(OpenError::Option(text));
        }
    };
    Ok(Place::Ssh(ssh::Options {
        host: host.ok_or_else(|| missing("server.host"))?,
        port: port.transpose()?,
        user: keys.take("user"),
        path: keys.take("path").ok_or_else(|| missing("path"))?,
        host_key,
        read_only: common.read_only,
        auto_read_only: common.auto_read_only,
    }))
}

/// Longest `timeout=` of a web server.
const MOST_SECONDS: u64 = 10_000;

/// What the driver `nbd` is told.
fn nbd(keys: &mut Keys, common: &Inherited, secrets: &dyn Secrets) -> Result<Place, OpenError> {
    let address = address(keys)?;
    let hostname = keys.take("tls-hostname");
    let tls = match keys.take("tls-creds") {
        Some(id) => Some(nbd::Tls { credentials: secrets.client_credentials(&id)?, hostname }),
        None => None,
    };
    let seconds = keys.take_size("reconnect-delay")?.unwrap_or(0);
    // How long the first connection may take: it is made at once or not at all.
    keys.take_size("open-timeout")?;
    let options = nbd::Options {
        read_only: common.read_only,
        auto_read_only: common.auto_read_only,
        reconnect_delay: Duration::from_secs(seconds),
        context: keys.take("x-dirty-bitmap"),
        tls,
    };
    let location = Location { address, export: keys.take("export").unwrap_or_default() };
    Ok(Place::Nbd(location, options))
}

fn address(keys: &mut Keys) -> Result<Address, OpenError> {
    let switch = |keys: &mut Keys, key: &str| keys.take_bool(&format!("server.{key}"));
    let (is_abstract, tight) = (switch(keys, "abstract")?, switch(keys, "tight")?);
    // The older spelling has the same without `server.`.
    let mut take = |key: &str| keys.take(&format!("server.{key}")).or_else(|| keys.take(key));
    let (kind, path, host) = (take("type"), take("path"), take("host"));
    let guessed = match (&path, &host) {
        (Some(_), None) => Some("unix"),
        (None, Some(_)) => Some("inet"),
        _ => None,
    };
    let missing = |key: &str| OpenError::Option(format!("Parameter '{key}' is missing"));
    let kind = kind.as_deref().or(guessed).ok_or_else(|| missing("type"))?;
    match kind {
        "unix" => {
            let path = path.ok_or_else(|| missing("path"))?;
            if is_abstract == Some(true) {
                return Ok(Address::Abstract { name: path, tight: tight.unwrap_or(true) });
            }
            Ok(Address::Unix(path))
        }
        "inet" => {
            let host = host.ok_or_else(|| missing("host"))?;
            let port = take("port").unwrap_or_else(|| "10809".to_owned());
            let wrong = || OpenError::Option(format!("'{port}' is no port number"));
            Ok(Address::Tcp { host, port: port.parse().map_err(|_| wrong())? })
        }
        "vsock" => {
            let cid = take("cid").ok_or_else(|| missing("cid"))?;
            let port = take("port").ok_or_else(|| missing("port"))?;
            Address::vsock(&cid, &port).map_err(OpenError::Option)
        }
        "fd" => Ok(Address::Handed(take("str").ok_or_else(|| missing("str"))?)),
        other => {
            Err(OpenError::Option(format!("Parameter 'type' does not accept value '{other}'")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_options() {
        let pairs = pairs_of("nbd+unix:///x?socket=/s").expect("it is one");
        let text: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let expected = "file.driver=nbd,file.export=x,file.server.type=unix,file.server.path=/s";
        assert_eq!(text.join(","), expected);
        assert!(is_remote(&pairs) && !is_remote(&pairs_of("a.qcow2").expect("it is a path")));
        assert!(pairs_of("nbd:").is_ok(), "a server on this host");
        assert!(pairs_of("rbd:x").is_err());
        assert!(is_remote(&pairs_of("https://x/y").expect("it is one")));
    }
}
