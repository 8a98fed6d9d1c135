//! Whether a value is of a type: arguments of commands, and options that say the same in words.

use super::{Builtin, Kind, Member, Object, Schema, TypeId};
use crate::Error;
use options::{parse_bool, parse_number, parse_size};
use serde_json::{Map, Value};
use std::fmt;

/// How a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In JSON, where numbers and switches are no text.
    Json,
    /// In words of a command line, where all is text.
    Words,
}

/// Where a value is: the way to it from the whole.
#[derive(Clone, Copy)]
enum Place<'a> {
    Whole,
    Member(&'a Place<'a>, &'a str),
    Element(&'a Place<'a>, usize),
}

impl Place<'_> {
    /// The last step; an element of an array has no name.
    fn name(&self) -> &str {
        match self {
            Place::Member(_, name) => name,
            _ => "null",
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Whole => Ok(()),
            Place::Member(Place::Whole, name) => f.write_str(name),
            Place::Member(parent, name) => write!(f, "{parent}.{name}"),
            Place::Element(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

fn wrong_type(place: &dyn fmt::Display, expected: &str) -> Error {
    Error::new(format!("Invalid parameter type for '{place}', expected: {expected}"))
}

fn expects(place: &Place<'_>, what: &str) -> Error {
    Error::new(format!("Parameter '{place}' expects {what}"))
}

impl Schema {
    /// Checks the members of `given` against a type and returns them; written in words, they
    /// become the numbers and switches that they stand for.
    ///
    /// # Errors
    /// The first one that does not fit.
    pub fn check(
        &self,
        id: TypeId,
        given: Map<String, Value>,
        source: Source,
    ) -> Result<Map<String, Value>, Error> {
        match self.check_value(id, Value::Object(given), &Place::Whole, source)? {
            Value::Object(members) => Ok(members),
            _ => Err(wrong_type(&Place::Whole, "object")),
        }
    }

    fn check_value(
        &self,
        id: TypeId,
        value: Value,
        place: &Place<'_>,
        source: Source,
    ) -> Result<Value, Error> {
        let of_type = self.get(id);
        match (&of_type.kind, value) {
            (Kind::Builtin(builtin), value) => scalar(*builtin, value, place, source),
            (Kind::Enum(words), Value::String(word)) => {
                if words.iter().any(|known| known.name == word) {
                    return Ok(Value::String(word));
                }
                let name = place.name();
                Err(Error::new(format!("Parameter '{name}' does not accept value '{word}'")))
            }
            (Kind::Enum(_), _) => Err(wrong_type(place, "string")),
            (Kind::Array(element), Value::Array(elements)) => {
                let check = |(index, value)| {
                    self.check_value(*element, value, &Place::Element(place, index), source)
                };
                elements
                    .into_iter()
                    .enumerate()
                    .map(check)
                    .collect::<Result<_, _>>()
                    .map(Value::Array)
            }
            (Kind::Array(_), _) => Err(wrong_type(place, "array")),
            (Kind::Object(object), Value::Object(mut given)) => {
                let mut taken = Map::new();
                self.take_members(object, &mut given, &mut taken, place, source)?;
                match given.keys().next() {
                    None => Ok(Value::Object(taken)),
                    Some(name) => {
                        let place = Place::Member(place, name);
                        Err(Error::new(format!("Parameter '{place}' is unexpected")))
                    }
                }
            }
            (Kind::Object(_), _) => Err(wrong_type(place, "object")),
            (Kind::Alternate(kinds), value) => {
                let fitting = kinds.iter().find(|kind| fits(&self.get(**kind).kind, &value));
                let kind = fitting.ok_or_else(|| wrong_type(&place.name(), &of_type.name))?;
                self.check_value(*kind, value, place, source)
            }
        }
    }

    /// Moves the members of an object from `given` to `taken`, in the order of the declarations.
    fn take_members(
        &self,
        object: &Object,
        given: &mut Map<String, Value>,
        taken: &mut Map<String, Value>,
        place: &Place<'_>,
        source: Source,
    ) -> Result<(), Error> {
        for Member { name, kind, optional, .. } in self.members(object) {
            let place = Place::Member(place, name);
            match given.shift_remove(name) {
                Some(value) => {
                    taken.insert(name.clone(), self.check_value(*kind, value, &place, source)?);
                }
                None if *optional => {}
                None => return Err(Error::missing(&place)),
            }
        }
        if let Some((tag, branches)) = &object.branches {
            let value = taken.get(tag).and_then(Value::as_str);
            let branch = branches.iter().find(|(name, _)| Some(name.as_str()) == value);
            if let Some(Kind::Object(branch)) = branch.map(|(_, kind)| &self.get(*kind).kind) {
                self.take_members(branch, given, taken, place, source)?;
            }
        }
        Ok(())
    }
}

/// Whether JSON tells that a value is of this kind.
fn fits(kind: &Kind, value: &Value) -> bool {
    match value {
        Value::Null => matches!(kind, Kind::Builtin(Builtin::Null)),
        Value::Bool(_) => matches!(kind, Kind::Builtin(Builtin::Bool)),
        Value::Number(_) => {
            matches!(kind, Kind::Builtin(Builtin::Integer { .. } | Builtin::Number))
        }
        Value::String(_) => matches!(kind, Kind::Builtin(Builtin::Str) | Kind::Enum(_)),
        Value::Array(_) => matches!(kind, Kind::Array(_)),
        Value::Object(_) => matches!(kind, Kind::Object(_)),
    }
}

fn scalar(
    builtin: Builtin,
    value: Value,
    place: &Place<'_>,
    source: Source,
) -> Result<Value, Error> {
    match (builtin, &value) {
        (Builtin::Any, _)
        | (Builtin::Str, Value::String(_))
        | (Builtin::Null, Value::Null)
        | (Builtin::Number, Value::Number(_)) => Ok(value),
        (Builtin::Bool, Value::Bool(_)) => Ok(value),
        (Builtin::Str, _) => Err(wrong_type(place, "string")),
        (Builtin::Null, _) => Err(wrong_type(place, "null")),
        (Builtin::Bool, Value::String(word)) if source == Source::Words => {
            let on = parse_bool(word).ok_or_else(|| expects(place, "'on' or 'off'"))?;
            Ok(Value::Bool(on))
        }
        (Builtin::Bool, _) => Err(wrong_type(place, "boolean")),
        (Builtin::Number, Value::String(word)) if source == Source::Words => {
            let number = word.parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            number.map(Value::Number).ok_or_else(|| expects(place, "number"))
        }
        (Builtin::Number, _) => Err(wrong_type(place, "number")),
        (Builtin::Integer { bits, signed }, _) => {
            let value = match (source, &value) {
                (Source::Words, Value::String(word)) => in_words(word, signed, place)?,
                _ => value,
            };
            integer(bits, signed, &value, place)
        }
    }
}

/// The number that a word stands for.
fn in_words(word: &str, signed: bool, place: &Place<'_>) -> Result<Value, Error> {
    let negative = word.strip_prefix('-').and_then(parse_number).filter(|_| signed);
    if let Some(number) = negative {
        let number = i64::try_from(number).ok().map(|n| -n);
        return number.map(Value::from).ok_or_else(|| expects(place, "integer"));
    }
    let number = parse_number(word).or_else(|| {
        // Sizes may have a suffix; a signed number is none.
        parse_size(word, b'b').ok().filter(|_| !signed)
    });
    let number = number.filter(|n| !signed || i64::try_from(*n).is_ok());
    number.map(Value::from).ok_or_else(|| expects(place, "integer"))
}

/// The value as a whole number of this range.
fn integer(bits: u32, signed: bool, value: &Value, place: &Place<'_>) -> Result<Value, Error> {
    let (sign, end) = (if signed { "" } else { "u" }, if bits == 64 { "" } else { "_t" });
    let range = || expects(place, &format!("{sign}int{bits}{end}"));
    if signed {
        let number = value.as_i64().ok_or_else(|| wrong_type(place, "integer"))?;
        let most = i64::MAX >> (64 - bits);
        let fits = (-most - 1..=most).contains(&number);
        return if fits { Ok(number.into()) } else { Err(range()) };
    }
    // Negative numbers of 64 bits are taken as what their bits say.
    let number = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
    let number = number.ok_or_else(|| expects(place, "uint64"))?;
    if number > u64::MAX >> (64 - bits) { Err(range()) } else { Ok(number.into()) }
}
