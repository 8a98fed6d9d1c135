//! Options of images (`-o` of the tools): what a format knows, and what a user chose.

use std::collections::BTreeMap;

use options::{SizeProblem, parse_size};

use crate::OpenError;

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Any text; the format judges it.
    Text,
    /// Bytes, with an optional binary suffix.
    Size,
    /// A number.
    Number,
    /// `on` or `off`.
    Switch,
}

impl ValueKind {
    /// As `-o help` shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "str",
            Self::Size => "size",
            Self::Number => "num",
            Self::Switch => "bool (on/off)",
        }
    }
}

/// A row in a table of options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageOption {
    /// As the user spells it.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: ValueKind,
    /// One line of help.
    pub help: &'static str,
    /// What holds if the user says nothing and that is shown; else `None`.
    pub default: Option<&'static str>,
}

impl ImageOption {
    /// A row without a default.
    pub const fn new(name: &'static str, kind: ValueKind, help: &'static str) -> Self {
        Self { name, kind, help, default: None }
    }

    /// A row with a default.
    pub const fn with(
        name: &'static str,
        kind: ValueKind,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self { name, kind, help, default: Some(default) }
    }
}

/// A checked value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Number(u64),
    Switch(bool),
}

/// Options as the user gave them, checked against a table.
#[derive(Clone, Debug, Default)]
pub struct ImageOptions {
    table: Vec<ImageOption>,
    values: BTreeMap<&'static str, Value>,
}

impl ImageOptions {
    /// No values yet, for the rows of all `tables`; of two rows of one name, the first counts.
    pub fn new(tables: &[&[ImageOption]]) -> Self {
        let mut table: Vec<ImageOption> = Vec::new();
        for row in tables.concat() {
            if table.iter().all(|known| known.name != row.name) {
                table.push(row);
            }
        }
        Self { table, values: BTreeMap::new() }
    }

    /// The rows, in the order in which tools print values.
    pub fn table(&self) -> &[ImageOption] {
        &self.table
    }

    /// Sets a value from text.
    ///
    /// # Errors
    /// `Option` with QEMU's text for an unknown name or a value that cannot be.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), OpenError> {
        let refuse = |text: String| Err(OpenError::Option(text));
        let Some(row) = self.table.iter().find(|row| row.name == name) else {
            return refuse(format!("Invalid parameter '{name}'"));
        };
        let value = match row.kind {
            ValueKind::Text => Value::Text(text.to_owned()),
            ValueKind::Switch => match text {
                "on" | "yes" | "true" | "y" => Value::Switch(true),
                "off" | "no" | "false" | "n" => Value::Switch(false),
                _ => return refuse(format!("Parameter '{name}' expects 'on' or 'off'")),
            },
            ValueKind::Number => match parse_number(text) {
                Some(n) => Value::Number(n),
                None => return refuse(format!("Parameter '{name}' expects a number")),
            },
            ValueKind::Size => match parse_size(text, b'B') {
                Ok(n) => Value::Number(n),
                Err(SizeProblem::OutOfRange) => {
                    return refuse(format!(
                        "Value '{text}' is out of range for parameter '{name}'"
                    ));
                }
                Err(SizeProblem::NotASize) => {
                    return refuse(format!(
                        "Parameter '{name}' expects a non-negative number below 2^64\n\
                         Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, \
                         peta-\nand exabytes, respectively."
                    ));
                }
            },
        };
        self.values.insert(row.name, value);
        Ok(())
    }

    /// Sets a number or size.
    ///
    /// # Errors
    /// As [`ImageOptions::set`].
    pub fn set_number(&mut self, name: &str, value: u64) -> Result<(), OpenError> {
        self.set(name, &value.to_string())
    }

    /// Whether the user (or [`ImageOptions::set`]) gave a value.
    pub fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Takes a value back.
    pub fn unset(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// A text, or its default.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.values.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => self.default(name),
        }
    }

    /// A number or size, or its default.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.values.get(name) {
            Some(Value::Number(n)) => Some(*n),
            _ => self.default(name).and_then(|text| parse_size(text, b'B').ok()),
        }
    }

    /// A switch, or its default, or off.
    pub fn switch(&self, name: &str) -> bool {
        match self.values.get(name) {
            Some(Value::Switch(on)) => *on,
            _ => self.default(name) == Some("on"),
        }
    }

    /// Name and printed value of all that is set or has a default, in the order of the table.
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        let text = |row: &ImageOption| match self.values.get(row.name) {
            Some(Value::Text(text)) => Some(text.clone()),
            Some(Value::Number(n)) => Some(n.to_string()),
            Some(Value::Switch(on)) => Some(if *on { "on" } else { "off" }.to_owned()),
            None => row.default.map(str::to_owned),
        };
        self.table.iter().filter_map(|row| text(row).map(|t| (row.name, t))).collect()
    }

    fn default(&self, name: &str) -> Option<&'static str> {
        self.table.iter().find(|row| row.name == name).and_then(|row| row.default)
    }
}

fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_and_shown_in_the_order_of_the_table() {
        const TABLE: &[ImageOption] = &[
            ImageOption::with("lazy", ValueKind::Switch, "off", ""),
            ImageOption::new("size", ValueKind::Size, ""),
            ImageOption::new("name", ValueKind::Text, ""),
        ];
        let mut options = ImageOptions::new(&[TABLE]);
        assert!(options.set("lazy", "1").is_err() && options.set("x", "1").is_err());
        options.set("size", "1k").expect("it is a size");
        assert_eq!(options.shown(), [("lazy", "off".to_owned()), ("size", "1024".to_owned())]);
        assert_eq!((options.number("size"), options.text("name")), (Some(1024), None));
    }
}
