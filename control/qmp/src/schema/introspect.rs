//! What `query-qmp-schema` answers.
//!
//! Clients look members up by path, so that the answer has all that commands and events need, and
//! nothing else. Types have numbers instead of names: the names are not a part of the interface.

use super::{Builtin, EMPTY, Kind, Member, Object, Role, Schema, TypeId};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet, VecDeque};

impl Schema {
    /// The commands and events for which `serves` says so, with the types that they use.
    pub fn describe(&self, serves: &dyn Fn(&str) -> bool) -> Value {
        let mut writer = Writer {
            schema: self,
            names: HashMap::new(),
            used: HashSet::new(),
            numbers: 0,
            queue: VecDeque::new(),
            found: Vec::new(),
        };
        for entry in self.entries.iter().filter(|entry| serves(&entry.name)) {
            let data = writer.name(entry.data);
            let mut about = Map::new();
            about.insert("name".into(), json!(entry.name));
            match &entry.role {
                Role::Command { returns, oob } => {
                    about.insert("ret-type".into(), json!(writer.name(*returns)));
                    about.insert("meta-type".into(), json!("command"));
                    about.insert("arg-type".into(), json!(data));
                    if *oob {
                        about.insert("allow-oob".into(), json!(true));
                    }
                }
                Role::Event { .. } => {
                    about.insert("meta-type".into(), json!("event"));
                    about.insert("arg-type".into(), json!(data));
                }
            }
            with_features(&mut about, &entry.features);
            writer.found.push(Value::Object(about));
        }
        while let Some(id) = writer.queue.pop_front() {
            writer.describe(id);
        }
        Value::Array(writer.found)
    }
}

struct Writer<'a> {
    schema: &'a Schema,
    names: HashMap<TypeId, String>,
    used: HashSet<String>,
    numbers: usize,
    /// Types that were used and are not described yet.
    queue: VecDeque<TypeId>,
    found: Vec<Value>,
}

fn with_features(about: &mut Map<String, Value>, features: &[String]) {
    if !features.is_empty() {
        about.insert("features".into(), json!(features));
    }
}

impl Writer<'_> {
    /// The name of a type in the answer; a new one is described later.
    fn name(&mut self, id: TypeId) -> String {
        if let Some(name) = self.names.get(&id) {
            return name.clone();
        }
        let name = match self.schema.get(id).kind {
            // All widths are one to clients.
            Kind::Builtin(Builtin::Integer { .. }) => "int".to_owned(),
            Kind::Builtin(_) => self.schema.get(id).name.clone(),
            Kind::Array(element) => {
                // The array is described before its elements.
                let at = self.queue.len();
                let name = format!("[{}]", self.name(element));
                if self.used.insert(name.clone()) {
                    self.queue.insert(at, id);
                }
                self.names.insert(id, name.clone());
                return name;
            }
            _ => {
                self.numbers += 1;
                (self.numbers - 1).to_string()
            }
        };
        // Widths of numbers share a name.
        if self.used.insert(name.clone()) {
            self.queue.push_back(id);
        }
        self.names.insert(id, name.clone());
        name
    }

    fn describe(&mut self, id: TypeId) {
        let schema = self.schema;
        let of_type = schema.get(id);
        let mut about = Map::new();
        about.insert("name".into(), json!(self.name(id)));
        let meta = match &of_type.kind {
            Kind::Builtin(builtin) => {
                about.insert("json-type".into(), json!(json_type(*builtin)));
                "builtin"
            }
            Kind::Array(element) => {
                about.insert("element-type".into(), json!(self.name(*element)));
                "array"
            }
            Kind::Enum(words) => {
                let members = words.iter().map(|word| {
                    let mut about = Map::from_iter([("name".to_owned(), json!(word.name))]);
                    with_features(&mut about, &word.features);
                    Value::Object(about)
                });
                about.insert("members".into(), members.collect());
                about.insert("values".into(), words.iter().map(|w| json!(w.name)).collect());
                "enum"
            }
            Kind::Object(object) => {
                self.object(object, &mut about);
                "object"
            }
            Kind::Alternate(kinds) => {
                let kinds = kinds.iter().map(|kind| json!({"type": self.name(*kind)}));
                about.insert("members".into(), kinds.collect());
                "alternate"
            }
        };
        about.insert("meta-type".into(), json!(meta));
        with_features(&mut about, &of_type.features);
        self.found.push(Value::Object(about));
    }

    fn object(&mut self, object: &Object, about: &mut Map<String, Value>) {
        let members = self.schema.members(object);
        let described: Vec<Value> = members.iter().map(|member| self.member(member)).collect();
        if let Some((tag, branches)) = &object.branches {
            about.insert("tag".into(), json!(tag));
            let mut cases: Vec<(&str, TypeId)> =
                branches.iter().map(|(value, kind)| (value.as_str(), *kind)).collect();
            // Values that bring no members come last.
            let words = members.iter().find(|member| member.name == *tag);
            if let Some(Kind::Enum(words)) = words.map(|m| &self.schema.get(m.kind).kind) {
                let named = |word: &str| branches.iter().any(|(value, _)| value == word);
                let rest = words.iter().map(|word| word.name.as_str()).filter(|word| !named(word));
                cases.extend(rest.map(|word| (word, EMPTY)));
            }
            let cases = cases
                .into_iter()
                .map(|(value, kind)| json!({"case": value, "type": self.name(kind)}))
                .collect();
            about.insert("variants".into(), cases);
        }
        about.insert("members".into(), Value::Array(described));
    }

    fn member(&mut self, member: &Member) -> Value {
        let mut about = Map::new();
        about.insert("name".into(), json!(member.name));
        if member.optional {
            about.insert("default".into(), Value::Null);
        }
        about.insert("type".into(), json!(self.name(member.kind)));
        with_features(&mut about, &member.features);
        Value::Object(about)
    }
}

fn json_type(builtin: Builtin) -> &'static str {
    match builtin {
        Builtin::Str => "string",
        Builtin::Bool => "boolean",
        Builtin::Number => "number",
        Builtin::Integer { .. } => "int",
        Builtin::Null => "null",
        Builtin::Any => "value",
    }
}
