//! The notation of the declarations.
//!
//! ```text
//! enum JobStatus { running, paused !feature }            words
//! object JobInfo { id: str, error?: str }                members; `?` marks those that may be left out
//! object Chain : Node { backing: [Node] }                members of Node, then its own; an array
//! object Options { driver: Driver } by driver { raw: RawOptions }
//! alternate Reference { Options, str }                   one of these, told apart by JSON
//! command query-jobs { all?: bool } -> [JobInfo] oob !unstable
//! command job-create JobInfo                             arguments are the members of JobInfo
//! event JOB_CHANGED { id: str } limited by id            sent once a second for each id
//! ```
//!
//! `#` begins a comment. Declarations may use each other in any order.

use super::{BUILTINS, EMPTY, Entry, Kind, Member, Object, Role, Schema, Type, TypeId, Word};
use std::collections::HashMap;

/// Reads declarations.
pub fn parse(text: &str) -> Result<Schema, String> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, names: HashMap::new(), types: vec![] };
    let nothing = Kind::Object(Object::default());
    parser.types.push(Some(Type { name: "Empty".into(), kind: nothing, features: vec![] }));
    for (name, builtin) in BUILTINS {
        let id = parser.reference(name);
        let kind = Kind::Builtin(*builtin);
        parser.types[id.0] = Some(Type { name: (*name).into(), kind, features: vec![] });
    }
    let mut entries = Vec::new();
    while parser.peek().is_some() {
        entries.extend(parser.declaration()?);
    }
    parser.finish(entries)
}

struct Token<'a> {
    text: &'a str,
    line: usize,
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let mut rest = line.split('#').next().unwrap_or_default().trim_start();
        while !rest.is_empty() {
            let word = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c));
            let len = match (rest.starts_with("->"), word) {
                (true, _) => 2,
                (_, Some(0)) if rest.starts_with(['{', '}', '[', ']', ':', ',', '?', '!']) => 1,
                (_, Some(0)) => return Err(format!("line {line_number}: stray '{rest}'")),
                (_, Some(len)) => len,
                (_, None) => rest.len(),
            };
            tokens.push(Token { text: &rest[..len], line: line_number });
            rest = rest[len..].trim_start();
        }
    }
    Ok(tokens)
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    names: HashMap<String, TypeId>,
    /// `None` for those that are used and not declared yet.
    types: Vec<Option<Type>>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).map(|token| token.text)
    }

    fn next(&mut self) -> Result<&'a str, String> {
        let text = self.peek().ok_or("unexpected end")?;
        self.at += 1;
        Ok(text)
    }

    fn accept(&mut self, text: &str) -> bool {
        let found = self.peek() == Some(text);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        if self.accept(text) { Ok(()) } else { Err(self.wrong(&format!("'{text}' expected"))) }
    }

    fn wrong(&self, what: &str) -> String {
        match self.tokens.get(self.at) {
            Some(token) => format!("line {}: {what}", token.line),
            None => format!("at the end: {what}"),
        }
    }

    fn name(&mut self) -> Result<&'a str, String> {
        match self.peek() {
            Some(text) if text.starts_with(|c: char| c.is_ascii_alphanumeric()) => self.next(),
            _ => Err(self.wrong("a name expected")),
        }
    }

    /// The number of the type called `name`, declared or not.
    fn reference(&mut self, name: &str) -> TypeId {
        let next = TypeId(self.types.len());
        let id = *self.names.entry(name.to_owned()).or_insert(next);
        if id == next {
            self.types.push(None);
        }
        id
    }

    fn anonymous(&mut self, kind: Kind) -> TypeId {
        self.types.push(Some(Type { name: String::new(), kind, features: vec![] }));
        TypeId(self.types.len() - 1)
    }

    fn declare(&mut self, name: &str, kind: Kind, features: Vec<String>) -> Result<(), String> {
        let id = self.reference(name);
        let slot = &mut self.types[id.0];
        if slot.is_some() {
            return Err(self.wrong(&format!("'{name}' is declared twice")));
        }
        *slot = Some(Type { name: name.to_owned(), kind, features });
        Ok(())
    }

    fn declaration(&mut self) -> Result<Option<Entry>, String> {
        let what = self.next()?;
        let name = self.name()?;
        match what {
            "enum" => {
                let words = self.list(Self::word)?;
                let features = self.features()?;
                self.declare(name, Kind::Enum(words), features)?;
            }
            "object" => {
                let base = if self.accept(":") { Some(self.type_name()?) } else { None };
                let members = self.list(Self::member)?;
                let features = self.features()?;
                let branches = if self.accept("by") {
                    Some((self.name()?.to_owned(), self.list(Self::branch)?))
                } else {
                    None
                };
                self.declare(name, Kind::Object(Object { base, members, branches }), features)?;
            }
            "alternate" => {
                let kinds = self.list(Self::type_name)?;
                let features = self.features()?;
                self.declare(name, Kind::Alternate(kinds), features)?;
            }
            "command" => {
                let data = self.data()?;
                let returns = if self.accept("->") { self.type_name()? } else { EMPTY };
                let role = Role::Command { returns, oob: self.accept("oob") };
                let features = self.features()?;
                return Ok(Some(Entry { name: name.to_owned(), data, role, features }));
            }
            "event" => {
                let data = self.data()?;
                let limited = if self.accept("limited") {
                    Some(if self.accept("by") { Some(self.name()?.to_owned()) } else { None })
                } else {
                    None
                };
                let role = Role::Event { limited };
                let features = self.features()?;
                return Ok(Some(Entry { name: name.to_owned(), data, role, features }));
            }
            _ => return Err(self.wrong(&format!("'{what}' declares nothing"))),
        }
        Ok(None)
    }

    /// What comes with a command or an event: members of its own, a type, or nothing.
    fn data(&mut self) -> Result<TypeId, String> {
        const AFTER: &[&str] =
            &["->", "oob", "limited", "!", "enum", "object", "alternate", "command", "event"];
        match self.peek() {
            Some("{") => {
                let members = self.list(Self::member)?;
                Ok(self.anonymous(Kind::Object(Object { members, ..Object::default() })))
            }
            Some(word) if !AFTER.contains(&word) => self.type_name(),
            _ => Ok(EMPTY),
        }
    }

    fn list<T>(&mut self, item: fn(&mut Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        let mut items = Vec::new();
        self.expect("{")?;
        while !self.accept("}") {
            items.push(item(self)?);
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(items)
    }

    fn word(&mut self) -> Result<Word, String> {
        Ok(Word { name: self.name()?.to_owned(), features: self.features()? })
    }

    fn member(&mut self) -> Result<Member, String> {
        let name = self.name()?.to_owned();
        let optional = self.accept("?");
        self.expect(":")?;
        Ok(Member { name, kind: self.type_name()?, optional, features: self.features()? })
    }

    fn branch(&mut self) -> Result<(String, TypeId), String> {
        let value = self.name()?.to_owned();
        self.expect(":")?;
        Ok((value, self.type_name()?))
    }

    fn type_name(&mut self) -> Result<TypeId, String> {
        if !self.accept("[") {
            let name = self.name()?;
            return Ok(self.reference(name));
        }
        let element = self.name()?;
        self.expect("]")?;
        let inner = self.reference(element);
        let id = self.reference(&format!("[{element}]"));
        let slot = &mut self.types[id.0];
        if slot.is_none() {
            *slot = Some(Type { name: String::new(), kind: Kind::Array(inner), features: vec![] });
        }
        Ok(id)
    }

    fn features(&mut self) -> Result<Vec<String>, String> {
        let mut features = Vec::new();
        while self.accept("!") {
            features.push(self.name()?.to_owned());
        }
        Ok(features)
    }

    fn finish(self, entries: Vec<Entry>) -> Result<Schema, String> {
        let missing = self.names.iter().find(|(_, id)| self.types[id.0].is_none());
        if let Some((name, _)) = missing {
            return Err(format!("'{name}' is used and not declared"));
        }
        let types = self.types.into_iter().flatten().collect();
        let names = entries.iter().enumerate().map(|(at, entry)| (entry.name.clone(), at));
        let by_name: HashMap<_, _> = names.collect();
        if by_name.len() != entries.len() {
            return Err("a command or event is declared twice".to_owned());
        }
        Ok(Schema { types, names: self.names, entries, by_name })
    }
}
