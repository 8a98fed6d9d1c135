//! Which host, and how the user's ssh client is called.

use std::process::Command;

/// What is asked of the host's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostKey {
    /// It must be known already.
    #[default]
    Known,
    /// Nothing.
    Any,
}

/// A file on another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Name or number of the host.
    pub host: String,
    /// Port; the client's choice without.
    pub port: Option<u16>,
    /// User there; the client's choice without.
    pub user: Option<String>,
    /// Path of the file there.
    pub path: String,
    /// What is asked of the host's key.
    pub host_key: HostKey,
    /// Writes are refused.
    pub read_only: bool,
    /// A file that only allows reading is used so, instead of being an error.
    pub auto_read_only: bool,
}

impl Options {
    /// Reads `ssh://[USER@]HOST[:PORT]/PATH[?host_key_check=yes|no]`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(uri: &str) -> Result<Self, String> {
        let rest = uri.strip_prefix("ssh://").ok_or("URI scheme must be 'ssh'")?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = place.split_once('/').ok_or("missing path in URI")?;
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user.to_owned()), address),
            None => (None, authority),
        };
        let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match address.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        if host.is_empty() {
            return Err("missing hostname in URI".to_owned());
        }
        let port = port.map(str::parse).transpose();
        let port = port.map_err(|_| format!("the port of '{uri}' is no number below 65536"))?;
        let mut host_key = HostKey::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            host_key = match pair {
                "host_key_check=yes" => HostKey::Known,
                "host_key_check=no" => HostKey::Any,
                other => return Err(format!("not supported yet: '{other}' in an ssh URI")),
            };
        }
        let (host, path) = (host.to_owned(), format!("/{path}"));
        let (read_only, auto_read_only) = (false, false);
        Ok(Self { host, port, user, path, host_key, read_only, auto_read_only })
    }

    /// The file as a URI.
    pub fn uri(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("ssh://{user}{host}{port}{}", self.path)
    }

    /// The command that reaches the host's SFTP server.
    ///
    /// # Errors
    /// A name that the client would take for an option.
    pub fn command(&self) -> Result<Command, String> {
        for word in [Some(&self.host), self.user.as_ref()].into_iter().flatten() {
            if word.is_empty() || word.starts_with('-') {
                return Err(format!("'{word}' cannot be the name of a host or user"));
            }
        }
        let mut command = Command::new("ssh");
        // Nobody can answer: a terminal belongs to the guest or to scripts.
        command.args(["-oBatchMode=yes", "-oForwardX11=no", "-oForwardAgent=no"]);
        command.args(["-oClearAllForwardings=yes", "-oPermitLocalCommand=no"]);
        match self.host_key {
            HostKey::Known => command.arg("-oStrictHostKeyChecking=yes"),
            HostKey::Any => {
                let nowhere = ["-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null"];
                command.args(nowhere).arg("-oLogLevel=ERROR")
            }
        };
        if let Some(port) = self.port {
            command.arg(format!("-p{port}"));
        }
        if let Some(user) = &self.user {
            command.arg("-l").arg(user);
        }
        command.args(["-s", "--", &self.host, "sftp"]);
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_name_files() {
        let options = Options::parse("ssh://me@host:5/a/b?host_key_check=no").expect("it is one");
        assert_eq!((options.host.as_str(), options.port), ("host", Some(5)));
        assert_eq!((options.user.as_deref(), options.path.as_str()), (Some("me"), "/a/b"));
        assert_eq!(options.host_key, HostKey::Any);
        assert_eq!(options.uri(), "ssh://me@host:5/a/b");
        assert_eq!(Options::parse("ssh://[::1]/x").expect("it is one").uri(), "ssh://[::1]/x");
        for wrong in ["ssh://host", "ssh:///x", "ssh://h:x/y", "ssh://h/x?y=z", "http://h/x"] {
            assert!(Options::parse(wrong).is_err(), "{wrong}");
        }
        let sly = Options::parse("ssh://-oProxyCommand=x/y").expect("it is one");
        assert!(sly.command().is_err());
    }
}
