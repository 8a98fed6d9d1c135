//! Images that are not files of the host: what their names say, and their options.

use std::sync::Arc;
use std::time::Duration;

use graph::{Node, OpenError, Secrets};
use nbd::{Address, Location};

use crate::gate::{Gate, Reason};
use crate::keys::Keys;
use crate::open::{Inherited, check_protocol, protocol_of};

/// The options of the `file` child that a file name stands for.
pub(crate) fn pairs_of(filename: &str) -> Result<Vec<(String, String)>, OpenError> {
    let remote = protocol_of(filename).is_some_and(|p| matches!(p, "nbd" | "nbd+tcp" | "nbd+unix"));
    if !remote {
        check_protocol(filename)?;
        return Ok(vec![("file.filename".to_owned(), filename.to_owned())]);
    }
    let location = Location::parse(filename).map_err(OpenError::Option)?;
    let mut pairs = vec![("driver", "nbd".to_owned()), ("export", location.export)];
    match location.address {
        Address::Unix(path) => {
            pairs.extend([("server.type", "unix".to_owned()), ("server.path", path)]);
        }
        Address::Tcp { host, port } => {
            pairs.extend([("server.type", "inet".to_owned()), ("server.host", host)]);
            pairs.push(("server.port", port.to_string()));
        }
    }
    Ok(pairs.into_iter().map(|(key, value)| (format!("file.{key}"), value)).collect())
}

/// Whether `file.` options name something else than a file.
pub(crate) fn is_remote(pairs: &[(String, String)]) -> bool {
    pairs.iter().any(|(key, value)| key == "file.driver" && value == "nbd")
}

/// The node of driver `nbd`.
pub(crate) fn nbd(
    keys: &mut Keys,
    common: &Inherited,
    gate: &dyn Gate,
    secrets: &dyn Secrets,
) -> Result<Arc<dyn Node>, OpenError> {
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
    gate.connect(&location, &options, Reason::Named)
}

fn address(keys: &mut Keys) -> Result<Address, OpenError> {
    let missing = |key: &str| OpenError::Option(format!("Parameter '{key}' is missing"));
    // The older spelling has the same without `server.`.
    let mut take = |key: &str| keys.take(&format!("server.{key}")).or_else(|| keys.take(key));
    let (kind, path) = (take("type"), take("path"));
    let (host, port) = (take("host"), take("port"));
    match (kind.as_deref(), path, host) {
        (Some("unix") | None, Some(path), None) => Ok(Address::Unix(path)),
        (Some("unix"), ..) => Err(missing("server.path")),
        (Some("inet") | None, None, Some(host)) => {
            let port = port.unwrap_or_else(|| "10809".to_owned());
            let wrong = || OpenError::Option(format!("'{port}' is no port number"));
            Ok(Address::Tcp { host, port: port.parse().map_err(|_| wrong())? })
        }
        (Some("inet"), ..) => Err(missing("server.host")),
        (None, ..) => Err(missing("server.type")),
        (Some(other), ..) => {
            let text = format!("Parameter 'server.type' does not accept value '{other}'");
            Err(OpenError::Option(text))
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
        assert!(pairs_of("http://x").is_err());
    }
}
