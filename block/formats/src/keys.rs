//! Options of a node as `key=value` with dotted keys (`file.driver=file`).

use std::collections::BTreeMap;

use graph::OpenError;
use options::parse_size;

/// Options below a prefix; what is taken is gone, what is left at the end was not understood.
#[derive(Clone)]
pub struct Keys {
    map: BTreeMap<String, String>,
    /// `file.` for the options of the `file` child; for messages.
    prefix: String,
    style: Style,
}

/// Who wrote the options: decides how complaints are worded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `-drive`, and the file names and options of the tools.
    Drive,
    /// `-blockdev` and the monitor.
    Blockdev,
}

impl Keys {
    /// Options as pairs.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>, style: Style) -> Self {
        Self { map: pairs.into_iter().collect(), prefix: String::new(), style }
    }

    /// Who wrote them.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Whether there is a value for `key`.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The keys that are left.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    /// The value of `key`.
    pub fn take(&mut self, key: &str) -> Option<String> {
        self.map.remove(key)
    }

    /// What is left, for a second time.
    pub fn pairs(&self) -> Vec<(String, String)> {
        self.map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// The first of several spellings of a key.
    pub fn take_any(&mut self, keys: &[&str]) -> Option<String> {
        keys.iter().find_map(|key| self.take(key))
    }

    /// A switch.
    ///
    /// # Errors
    /// `Option` for a value that is neither `on` nor `off`.
    pub fn take_bool(&mut self, key: &str) -> Result<Option<bool>, OpenError> {
        match self.take(key).as_deref() {
            None => Ok(None),
            Some("on" | "true" | "yes" | "y") => Ok(Some(true)),
            Some("off" | "false" | "no" | "n") => Ok(Some(false)),
            Some(_) => Err(bad(format!("Parameter '{}{key}' expects 'on' or 'off'", self.prefix))),
        }
    }

    /// A number of bytes, with an optional suffix k, M, G, T, P, E.
    ///
    /// # Errors
    /// `Option` for a value that is no size.
    pub fn take_size(&mut self, key: &str) -> Result<Option<u64>, OpenError> {
        let Some(text) = self.take(key) else { return Ok(None) };
        let refuse = || {
            bad(match self.style {
                Style::Blockdev => format!("Parameter '{}{key}' expects integer", self.prefix),
                Style::Drive => format!(
                    "Parameter '{key}' expects a non-negative number below 2^64\n\
                     Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n\
                     and exabytes, respectively."
                ),
            })
        };
        parse_size(&text, b'B').map(Some).map_err(|_| refuse())
    }

    /// One of several names.
    ///
    /// # Errors
    /// `Option` for a value that is none of them.
    pub fn take_name<T: Copy>(
        &mut self,
        key: &str,
        names: &[(&str, T)],
    ) -> Result<Option<T>, OpenError> {
        let Some(text) = self.take(key) else { return Ok(None) };
        let found = names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        let refuse =
            || bad(format!("Parameter '{}{key}' does not accept value '{text}'", self.prefix));
        found.map(Some).ok_or_else(refuse)
    }

    /// The options of a child: everything that begins with `name.`.
    pub fn child(&mut self, name: &str) -> Option<Self> {
        let prefix = format!("{name}.");
        let keys: Vec<String> =
            self.map.keys().filter(|k| k.starts_with(&prefix)).cloned().collect();
        if keys.is_empty() {
            return None;
        }
        let map = keys
            .into_iter()
            .filter_map(|k| self.map.remove(&k).map(|v| (k[prefix.len()..].to_owned(), v)));
        let prefix = format!("{}{prefix}", self.prefix);
        Some(Self { map: map.collect(), prefix, style: self.style })
    }

    /// What is left.
    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.map.into_iter().collect()
    }

    /// The name of `key` with its prefix, for messages.
    pub fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// `Option` for a key that is left.
    pub fn finish(self, driver: &str) -> Result<(), OpenError> {
        self.check_finished(driver, "format")
    }

    /// The same for a driver that is called a `format` or a `protocol`.
    ///
    /// # Errors
    /// As [`Keys::finish`].
    pub fn check_finished(&self, driver: &str, kind: &str) -> Result<(), OpenError> {
        let Some(key) = self.map.keys().next() else { return Ok(()) };
        let key = format!("{}{key}", self.prefix);
        Err(bad(match self.style {
            Style::Blockdev => format!("Parameter '{key}' is unexpected"),
            Style::Drive => {
                let not = if kind == "format" { "does not" } else { "doesn't" };
                format!("Block {kind} '{driver}' {not} support the option '{key}'")
            }
        }))
    }
}

fn bad(text: String) -> OpenError {
    OpenError::Option(text)
}
