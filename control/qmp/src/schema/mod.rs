//! What can be said on a monitor: types, commands and events.
//!
//! They are declared in `schema/*.schema`, in a notation of our own (see [`text`]). From the
//! declarations come the check of arguments ([`check`]) and what `query-qmp-schema` answers
//! ([`introspect`]). Names, members and their types are those of QEMU 10.0's interface.

mod check;
mod introspect;
mod text;

pub use check::Source;

use std::collections::HashMap;

/// Number of a type in its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(usize);

/// The type that has no members: what a command returns that returns nothing.
pub const EMPTY: TypeId = TypeId(0);

/// Types that the notation has by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// Text.
    Str,
    /// `true` or `false`.
    Bool,
    /// A number with a fraction.
    Number,
    /// A whole number of this many bits, with or without a sign.
    Integer {
        /// 16, 32 or 64.
        bits: u32,
        /// Whether it can be negative.
        signed: bool,
    },
    /// `null`.
    Null,
    /// Any value.
    Any,
}

/// Built-in types by the name they have in the notation.
const BUILTINS: &[(&str, Builtin)] = &[
    ("str", Builtin::Str),
    ("bool", Builtin::Bool),
    ("number", Builtin::Number),
    ("int", Builtin::Integer { bits: 64, signed: true }),
    ("int32", Builtin::Integer { bits: 32, signed: true }),
    ("uint16", Builtin::Integer { bits: 16, signed: false }),
    ("uint32", Builtin::Integer { bits: 32, signed: false }),
    ("size", Builtin::Integer { bits: 64, signed: false }),
    ("null", Builtin::Null),
    ("any", Builtin::Any),
];

/// A type.
#[derive(Debug)]
pub struct Type {
    /// Its name; empty for the arguments of one command.
    pub name: String,
    /// What values it has.
    pub kind: Kind,
    /// What clients may want to know about it.
    pub features: Vec<String>,
}

/// Kinds of types.
#[derive(Debug)]
pub enum Kind {
    /// A built-in one.
    Builtin(Builtin),
    /// Any number of values of one type.
    Array(TypeId),
    /// One of some words.
    Enum(Vec<Word>),
    /// Members by name.
    Object(Object),
    /// A value of one of these types, which JSON tells apart.
    Alternate(Vec<TypeId>),
}

/// A value of an enumeration.
#[derive(Debug)]
pub struct Word {
    /// The word.
    pub name: String,
    /// What clients may want to know about it.
    pub features: Vec<String>,
}

/// A type with members.
#[derive(Debug, Default)]
pub struct Object {
    /// The type whose members come first.
    pub base: Option<TypeId>,
    /// Its own members.
    pub members: Vec<Member>,
    /// The member that decides which members follow, and those for each of its values.
    pub branches: Option<(String, Vec<(String, TypeId)>)>,
}

/// A member of an object.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: TypeId,
    /// Whether it may be left out.
    pub optional: bool,
    /// What clients may want to know about it.
    pub features: Vec<String>,
}

/// A command or an event.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What comes with it.
    pub data: TypeId,
    /// What it is.
    pub role: Role,
    /// What clients may want to know about it.
    pub features: Vec<String>,
}

/// Commands and events.
#[derive(Debug, PartialEq, Eq)]
pub enum Role {
    /// Clients send it.
    Command {
        /// What it answers.
        returns: TypeId,
        /// Whether it can overtake others.
        oob: bool,
    },
    /// Clients hear of it.
    Event {
        /// Whether it is sent once in a while only, however often it happens; then the member, if
        /// any, whose values are counted each by itself.
        limited: Option<Option<String>>,
    },
}

/// All that can be said.
#[derive(Debug)]
pub struct Schema {
    types: Vec<Type>,
    names: HashMap<String, TypeId>,
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
}

/// The declarations, in the order in which clients are told of them.
const FILES: &[&str] = &[
    include_str!("../../schema/common.schema"),
    include_str!("../../schema/sockets.schema"),
    include_str!("../../schema/crypto.schema"),
    include_str!("../../schema/job.schema"),
    include_str!("../../schema/block_core.schema"),
    include_str!("../../schema/block_export.schema"),
    include_str!("../../schema/char.schema"),
    include_str!("../../schema/authz.schema"),
    include_str!("../../schema/transaction.schema"),
    include_str!("../../schema/control.schema"),
    include_str!("../../schema/introspect.schema"),
    include_str!("../../schema/qom.schema"),
];

impl Schema {
    /// The schema of the product.
    pub fn whole() -> Self {
        Self::parse(&FILES.concat()).expect("the declarations are tested")
    }

    /// Reads declarations.
    ///
    /// # Errors
    /// What is wrong in them, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        text::parse(text)
    }

    /// The type called `name`.
    pub fn named(&self, name: &str) -> Option<TypeId> {
        self.names.get(name).copied()
    }

    /// The command or event called `name`.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.by_name.get(name).and_then(|at| self.entries.get(*at))
    }

    /// Commands and events, in the order in which they are declared.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(crate) fn get(&self, id: TypeId) -> &Type {
        // Numbers come from this schema alone.
        &self.types[id.0]
    }

    /// Own and inherited members, those of the base first.
    pub(crate) fn members<'a>(&'a self, object: &'a Object) -> Vec<&'a Member> {
        let mut members = match object.base.map(|base| &self.get(base).kind) {
            Some(Kind::Object(base)) => self.members(base),
            _ => Vec::new(),
        };
        members.extend(&object.members);
        members
    }
}

#[cfg(test)]
mod tests;
