//! Where a debugger comes: `PORT`, `HOST:PORT` or `PATH`, and `,suspend=n` behind it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// A place to wait at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A TCP port of every address of the host, or of one.
    Port(String, u16),
    /// A socket in the file system.
    Path(PathBuf),
}

/// The value of `-g`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub place: Place,
    /// Whether the program waits for a debugger before its first instruction.
    pub suspend: bool,
}

impl Endpoint {
    /// Reads the value of `-g`; `%d` in a path stands for this process's number.
    ///
    /// # Errors
    /// The text of what is wrong.
    pub fn parse(value: &OsStr, pid: u32) -> Result<Self, String> {
        let mut words = value.as_bytes().split(|byte| *byte == b',');
        let first = words.next().unwrap_or_default();
        let mut suspend = true;
        for word in words {
            suspend = match word {
                b"suspend=y" | b"suspend=on" => true,
                b"suspend=n" | b"suspend=off" => false,
                _ if word.starts_with(b"suspend=") => {
                    return Err("Parameter 'suspend' expects 'on' or 'off'".to_owned());
                }
                _ => {
                    let word = String::from_utf8_lossy(word);
                    return Err(format!(
                        "gdbstub: unknown option \"{word}\"\nUsage: -g {{port|path}}[,suspend={{y|n}}]"
                    ));
                }
            };
        }
        Ok(Self { place: place(first, pid), suspend })
    }
}

fn place(word: &[u8], pid: u32) -> Place {
    const ANY: &str = "0.0.0.0";
    let text = String::from_utf8_lossy(word);
    if let Ok(port) = text.parse() {
        return Place::Port(ANY.to_owned(), port);
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && let Ok(port) = port.parse()
        && !host.contains('/')
    {
        let host = if host.is_empty() { ANY } else { host };
        return Place::Port(host.trim_matches(['[', ']']).to_owned(), port);
    }
    let number = pid.to_string();
    let path = match word.windows(2).position(|two| two == b"%d") {
        Some(at) => [&word[..at], number.as_bytes(), &word[at + 2..]].concat(),
        None => word.to_vec(),
    };
    Place::Path(PathBuf::from(OsString::from_vec(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_hosts_and_paths_are_told_apart() {
        let read = |text: &str| Endpoint::parse(OsStr::new(text), 77);
        let port = |host: &str, port| Place::Port(host.to_owned(), port);
        let table = [
            ("1234", port("0.0.0.0", 1234), true),
            (":1234", port("0.0.0.0", 1234), true),
            ("localhost:99,suspend=n", port("localhost", 99), false),
            ("[::1]:99", port("::1", 99), true),
            ("/tmp/a-%d.sock", Place::Path("/tmp/a-77.sock".into()), true),
            ("/tmp/a:5,suspend=y", Place::Path("/tmp/a:5".into()), true),
            ("99999", Place::Path("99999".into()), true),
        ];
        for (text, place, suspend) in table {
            assert_eq!(read(text), Ok(Endpoint { place, suspend }), "{text}");
        }
        assert!(read("1234,suspend=x").is_err());
    }
}
