//! What came with a command, after the schema found it right.

use serde_json::{Map, Value};

/// Arguments of a command, or members of one of them. The schema has checked them: members that
/// must be there are, and have their type; asking for anything else gives nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments(Map<String, Value>);

impl Arguments {
    /// Members that were checked.
    pub fn new(members: Map<String, Value>) -> Self {
        Self(members)
    }

    /// All members.
    pub fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// A text; empty if it is not there.
    pub fn text(&self, name: &str) -> &str {
        self.text_if(name).unwrap_or_default()
    }

    /// A text that may be left out.
    pub fn text_if(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// A switch that may be left out.
    pub fn switch(&self, name: &str) -> Option<bool> {
        self.0.get(name).and_then(Value::as_bool)
    }

    /// A signed number that may be left out.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.0.get(name).and_then(Value::as_i64)
    }

    /// An unsigned number that may be left out.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(Value::as_u64)
    }

    /// A value of any type.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The members of a member; none if it is not there.
    pub fn object(&self, name: &str) -> Self {
        self.0.get(name).and_then(Value::as_object).cloned().map(Self).unwrap_or_default()
    }

    /// The elements of an array; none if it is not there.
    pub fn list(&self, name: &str) -> &[Value] {
        self.0.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The elements of an array of objects.
    pub fn objects(&self, name: &str) -> impl Iterator<Item = Self> {
        self.list(name).iter().filter_map(Value::as_object).cloned().map(Self)
    }
}
