//! Values to text, in pure ASCII.

use serde_json::Value;

/// A value on one line.
pub fn compact(value: &Value) -> String {
    let mut text = String::new();
    Printer { text: &mut text, pretty: false }.value(value, 0);
    text
}

/// A value with each member and element on a line of its own.
pub fn pretty(value: &Value) -> String {
    let mut text = String::new();
    Printer { text: &mut text, pretty: true }.value(value, 0);
    text
}

struct Printer<'a> {
    text: &'a mut String,
    pretty: bool,
}

impl Printer<'_> {
    fn value(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Null => self.text.push_str("null"),
            Value::Bool(on) => self.text.push_str(if *on { "true" } else { "false" }),
            Value::Number(number) => self.text.push_str(&number.to_string()),
            Value::String(text) => self.quoted(text),
            Value::Array(elements) => {
                self.text.push('[');
                for (index, element) in elements.iter().enumerate() {
                    self.separate(index, depth + 1);
                    self.value(element, depth + 1);
                }
                self.line(depth);
                self.text.push(']');
            }
            Value::Object(members) => {
                self.text.push('{');
                for (index, (key, member)) in members.iter().enumerate() {
                    self.separate(index, depth + 1);
                    self.quoted(key);
                    self.text.push_str(": ");
                    self.value(member, depth + 1);
                }
                self.line(depth);
                self.text.push('}');
            }
        }
    }

    fn separate(&mut self, index: usize, depth: usize) {
        if index > 0 {
            self.text.push_str(if self.pretty { "," } else { ", " });
        }
        self.line(depth);
    }

    fn line(&mut self, depth: usize) {
        if self.pretty {
            self.text.push('\n');
            (0..depth).for_each(|_| self.text.push_str("    "));
        }
    }

    fn quoted(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                ' '..='~' => self.text.push(c),
                _ => {
                    for half in c.encode_utf16(&mut [0; 2]) {
                        self.text.push_str(&format!("\\u{half:04X}"));
                    }
                }
            }
        }
        self.text.push('"');
    }
}
