//! Text to ordered keys and values.

use crate::OptionError;
use serde_json::{Map, Value};
use std::ops::Range;

/// Deepest nesting and most members of the JSON form.
const MAX_DEPTH: usize = 32;

/// What kind of text an option takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grammar {
    /// Key of a first value that has none: `-smp 4` is `-smp cpus=4`.
    pub implied: Option<&'static str>,
    /// Whether a bare `foo` means `foo=on` and `nofoo` means `foo=off`.
    pub shorthand: bool,
    /// Whether `{…}` is read as JSON.
    pub json: bool,
}

impl Grammar {
    /// QemuOpts style: bare keys are switches.
    pub const fn loose(implied: &'static str) -> Self {
        Self { implied: Some(implied), shorthand: true, json: false }
    }

    /// Keyval style: every key needs a value; JSON is understood.
    pub const fn strict(implied: &'static str) -> Self {
        Self { implied: Some(implied), shorthand: false, json: true }
    }

    /// As [`loose`](Self::loose) without an implied first key.
    pub const BARE: Self = Self { implied: None, shorthand: true, json: false };
}

/// How a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, of the plain form or a JSON string.
    Text,
    /// A JSON number.
    Number,
    /// A JSON or shorthand switch; the text is `on` or `off`.
    Bool,
    /// JSON `null`; the text is empty.
    Null,
}

/// One key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Key; members of nested JSON objects have dotted keys, array elements numbers.
    pub key: String,
    /// Value, with doubled commas undone.
    pub value: String,
    /// How the value was written.
    pub kind: Kind,
    /// Whether the key was left out (implied) or the value was (shorthand).
    pub short: bool,
    /// Bytes of the source with key and value; the whole source for JSON.
    pub span: Range<usize>,
}

impl Item {
    /// An item that no text stands behind.
    pub fn new(key: &str, value: &str) -> Self {
        let (key, value) = (key.to_owned(), value.to_owned());
        Self { key, value, kind: Kind::Text, short: false, span: 0..0 }
    }

    /// An error about this item.
    pub fn error(&self, message: impl Into<String>) -> OptionError {
        OptionError::new(&self.key, self.span.clone(), message)
    }
}

/// The keys and values of one option, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Text of the option.
    pub source: String,
    /// Keys and values as given; a later one overrides an earlier one with the same key.
    pub items: Vec<Item>,
}

impl List {
    /// Reads the text of an option.
    ///
    /// # Errors
    /// When the text does not follow the grammar.
    pub fn parse(source: &str, grammar: Grammar) -> Result<Self, OptionError> {
        let mut list = Self { source: source.to_owned(), items: Vec::new() };
        if grammar.json && source.starts_with('{') {
            list.read_json()?;
        } else {
            list.read_plain(grammar)?;
        }
        Ok(list)
    }

    fn read_plain(&mut self, grammar: Grammar) -> Result<(), OptionError> {
        let mut at = 0;
        while at < self.source.len() {
            let (raw, end) = piece(&self.source, at);
            let item = read_item(raw, at..end, at == 0, grammar)?;
            self.items.extend(item);
            at = end + 1;
        }
        Ok(())
    }

    fn read_json(&mut self) -> Result<(), OptionError> {
        let whole = 0..self.source.len();
        let value: Value = serde_json::from_str(&self.source)
            .map_err(|e| OptionError::new("", whole.clone(), format!("JSON parse error, {e}")))?;
        match value {
            Value::Object(members) => self.take_members(&members),
            _ => Err(OptionError::new("", whole, "JSON object expected")),
        }
    }

    fn take_members(&mut self, members: &Map<String, Value>) -> Result<(), OptionError> {
        let whole = 0..self.source.len();
        members.iter().try_for_each(|(key, value)| flatten(&mut self.items, key, value, &whole, 0))
    }

    /// Members of a JSON object as keys and values: those of members have dotted keys, elements of arrays
    /// their numbers.
    ///
    /// # Errors
    /// They are nested too deeply.
    pub fn of_members(members: &Map<String, Value>) -> Result<Self, OptionError> {
        let mut list = Self::default();
        list.take_members(members)?;
        Ok(list)
    }

    /// Keys and values, without where they stand.
    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.items.into_iter().map(|item| (item.key, item.value)).collect()
    }

    /// The value of `key`: the last one given.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.item(key).map(|item| item.value.as_str())
    }

    /// The item of `key`: the last one given.
    pub fn item(&self, key: &str) -> Option<&Item> {
        self.items.iter().rev().find(|item| item.key == key)
    }

    /// Takes all items of `key` out and returns the last one.
    pub fn take(&mut self, key: &str) -> Option<Item> {
        let taken = self.items.iter().rposition(|i| i.key == key).map(|at| self.items.remove(at));
        self.items.retain(|item| item.key != key);
        taken
    }

    /// Takes the switch `key` out.
    ///
    /// # Errors
    /// When its value is no switch.
    pub fn take_bool(&mut self, key: &str) -> Result<Option<bool>, OptionError> {
        self.take(key).map(|item| <bool as crate::OptionValue>::parse(&item)).transpose()
    }

    /// Sets `key`, replacing what was there.
    pub fn set(&mut self, key: &str, value: &str) {
        match self.items.iter_mut().rev().find(|item| item.key == key) {
            Some(item) => (item.value, item.kind) = (value.to_owned(), Kind::Text),
            None => self.items.push(Item::new(key, value)),
        }
    }

    /// Takes the identifier `id` out, and checks its form.
    ///
    /// # Errors
    /// When it is no identifier.
    pub fn take_id(&mut self) -> Result<Option<String>, OptionError> {
        let Some(item) = self.take("id") else { return Ok(None) };
        if identifier(&item.value) {
            return Ok(Some(item.value));
        }
        Err(item.error("Parameter 'id' expects an identifier").with_hint(
            "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
        ))
    }

    /// Whether the text asks for help (`help` or `?` without a value).
    pub fn wants_help(&self) -> bool {
        self.items.iter().any(|i| i.short && (asks_help(&i.key) || asks_help(&i.value)))
    }

    /// The items below `prefix.`, with the prefix removed.
    pub fn below(&self, prefix: &str) -> Self {
        let strip = |item: &Item| {
            let key = item.key.strip_prefix(prefix)?.strip_prefix('.')?.to_owned();
            Some(Item { key, ..item.clone() })
        };
        Self { source: self.source.clone(), items: self.items.iter().filter_map(strip).collect() }
    }
}

fn asks_help(word: &str) -> bool {
    word == "help" || word == "?"
}

/// Whether `name` can be an identifier: a letter, then letters, digits, `-`, `.` and `_`.
pub fn identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

/// The piece of `source` from `at` up to a comma that is not doubled, and where that comma is.
fn piece(source: &str, at: usize) -> (&str, usize) {
    let bytes = source.as_bytes();
    let mut end = at;
    while end < bytes.len() {
        match (bytes[end], bytes.get(end + 1)) {
            (b',', Some(b',')) => end += 2,
            (b',', _) => break,
            _ => end += 1,
        }
    }
    (&source[at..end], end)
}

fn read_item(
    raw: &str,
    span: Range<usize>,
    first: bool,
    grammar: Grammar,
) -> Result<Option<Item>, OptionError> {
    let plain = |text: &str| text.replace(",,", ",");
    let item = |key: &str, value: String, kind, short| {
        Ok(Some(Item { key: key.to_owned(), value, kind, short, span: span.clone() }))
    };
    if let Some((key, value)) = raw.split_once('=') {
        if key.is_empty() {
            return Err(OptionError::new("", span.clone(), "Invalid parameter ''"));
        }
        return item(key, plain(value), Kind::Text, false);
    }
    match grammar.implied {
        Some(key) if first && !asks_help(raw) => return item(key, plain(raw), Kind::Text, true),
        _ if raw.is_empty() => return Ok(None),
        _ if asks_help(raw) => return item(raw, "on".to_owned(), Kind::Bool, true),
        _ => {}
    }
    if !grammar.shorthand {
        let message = format!("Expected '=' after parameter '{}'", plain(raw));
        return Err(OptionError::new(raw, span.clone(), message));
    }
    item(raw, "on".to_owned(), Kind::Bool, true)
}

fn flatten(
    items: &mut Vec<Item>,
    key: &str,
    value: &Value,
    span: &Range<usize>,
    depth: usize,
) -> Result<(), OptionError> {
    if depth > MAX_DEPTH {
        return Err(OptionError::new(key, span.clone(), "JSON nesting is too deep"));
    }
    let (value, kind) = match value {
        Value::Object(members) => {
            for (inner, value) in members {
                flatten(items, &format!("{key}.{inner}"), value, span, depth + 1)?;
            }
            return Ok(());
        }
        Value::Array(elements) => {
            for (index, value) in elements.iter().enumerate() {
                flatten(items, &format!("{key}.{index}"), value, span, depth + 1)?;
            }
            return Ok(());
        }
        Value::String(text) => (text.clone(), Kind::Text),
        Value::Number(number) => (number.to_string(), Kind::Number),
        Value::Bool(on) => (if *on { "on" } else { "off" }.to_owned(), Kind::Bool),
        Value::Null => (String::new(), Kind::Null),
    };
    items.push(Item { key: key.to_owned(), value, kind, short: false, span: span.clone() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &List) -> Vec<(&str, &str)> {
        list.items.iter().map(|i| (i.key.as_str(), i.value.as_str())).collect()
    }

    #[test]
    fn plain_form_keeps_order_spans_and_doubled_commas() {
        let list = List::parse("a.img,,x,if=none,file.x=1,,2", Grammar::loose("file")).unwrap();
        assert_eq!(pairs(&list), [("file", "a.img,x"), ("if", "none"), ("file.x", "1,2")]);
        assert!(list.items[0].short);
        assert_eq!(&list.source[list.items[1].span.clone()], "if=none");
    }

    #[test]
    fn bare_keys_are_switches_only_where_allowed() {
        let list = List::parse("pty,server,wait=off", Grammar::loose("backend")).unwrap();
        assert_eq!(pairs(&list), [("backend", "pty"), ("server", "on"), ("wait", "off")]);
        let error = List::parse("virt,foo", Grammar::strict("type")).unwrap_err();
        assert_eq!(error.message, "Expected '=' after parameter 'foo'");
        assert_eq!(error.span, 5..8);
    }

    #[test]
    fn help_is_a_request_not_a_value() {
        for text in ["help", "virt,help", "virt,?"] {
            assert!(List::parse(text, Grammar::strict("type")).unwrap().wants_help(), "{text}");
        }
        let list = List::parse("type=help", Grammar::strict("type")).unwrap();
        assert!(!list.wants_help());
        assert!(List::parse("", Grammar::strict("type")).unwrap().items.is_empty());
        assert!(List::parse("=x", Grammar::BARE).is_err());
    }

    #[test]
    fn json_form_is_flattened() {
        let text = r#"{"driver":"qcow2","file":{"driver":"file","n":[1,true]},"backing":null}"#;
        let mut list = List::parse(text, Grammar::strict("driver")).unwrap();
        assert_eq!(
            pairs(&list),
            [
                ("driver", "qcow2"),
                ("file.driver", "file"),
                ("file.n.0", "1"),
                ("file.n.1", "on"),
                ("backing", ""),
            ]
        );
        assert_eq!(list.item("backing").unwrap().kind, Kind::Null);
        assert_eq!(pairs(&list.below("file")), [("driver", "file"), ("n.0", "1"), ("n.1", "on")]);
        assert_eq!(list.take("driver").unwrap().value, "qcow2");
        assert!(list.get("driver").is_none());
        for bad in ["{", "{\"a\":", "{}x"] {
            assert!(List::parse(bad, Grammar::strict("driver")).is_err(), "{bad}");
        }
    }

    #[test]
    fn later_values_win_and_ids_are_checked() {
        let mut list = List::parse("a=1,a=2,id=x-1", Grammar::BARE).unwrap();
        assert_eq!(list.get("a"), Some("2"));
        assert_eq!(list.take_id().unwrap().as_deref(), Some("x-1"));
        assert_eq!(list.take("a").unwrap().value, "2");
        assert!(list.items.is_empty());
        let mut bad = List::parse("id=1a", Grammar::BARE).unwrap();
        assert_eq!(bad.take_id().unwrap_err().message, "Parameter 'id' expects an identifier");
    }
}
