//! The rest of a command line, read argument by argument.

use crate::expression::{self, Registers};

/// What is left of a command line.
pub(crate) struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `text`.
    pub fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Whether nothing is left.
    pub fn is_at_end(&mut self) -> bool {
        self.skip();
        self.rest.is_empty()
    }

    /// The name of a command: up to a space or the slash of a format.
    pub fn name(&mut self) -> &'a str {
        self.skip();
        let end =
            self.rest.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name
    }

    /// A word, or a text in quotes; `None` at the end.
    ///
    /// # Errors
    /// The quotes do not end, or hold an unknown escape.
    pub fn word(&mut self) -> Result<Option<String>, String> {
        self.skip();
        if !self.rest.starts_with('"') {
            let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
            let (word, rest) = self.rest.split_at(end);
            self.rest = rest;
            return Ok((!word.is_empty()).then(|| word.to_owned()));
        }
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(Some(text));
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => text.push('\n'),
                    Some('r') => text.push('\r'),
                    Some(c @ ('\\' | '\'' | '"')) => text.push(c),
                    Some(c) => return Err(format!("unsupported escape code: '\\{c}'")),
                    None => break,
                },
                _ => text.push(c),
            }
        }
        Err("unterminated string".to_owned())
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// There is none, or it is wrong.
    pub fn expression(&mut self, registers: &Registers<'_>) -> Result<u64, String> {
        let (value, rest) = expression::evaluate(self.rest, registers)?;
        self.rest = rest;
        Ok(value)
    }

    /// Options such as `-f`; only those in `allowed`.
    ///
    /// # Errors
    /// An unknown option.
    pub fn flags(&mut self, allowed: &str) -> Result<Vec<char>, String> {
        let mut found = Vec::new();
        loop {
            self.skip();
            let mut chars = self.rest.chars();
            let (Some('-'), Some(flag)) = (chars.next(), chars.next()) else { return Ok(found) };
            if !flag.is_ascii_alphabetic() {
                return Ok(found);
            }
            if !allowed.contains(flag) {
                return Err(format!("unsupported option -{flag}"));
            }
            found.push(flag);
            self.rest = chars.as_str();
        }
    }

    /// The text of a format after a slash: `4xw` of `/4xw`; `None` when there is no slash.
    pub fn format(&mut self) -> Option<&'a str> {
        self.skip();
        let rest = self.rest.strip_prefix('/')?;
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (format, rest) = rest.split_at(end);
        self.rest = rest;
        Some(format)
    }
}
