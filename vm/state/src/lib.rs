//! Saved state: what the guest can observe of a device or processor, as numbered, typed fields.
//!
//! The same values serve snapshots, migration and the save → restore → save test of every
//! device. A [`Value`] is a small tree with a byte encoding of its own; a record's fields are
//! found by number, so that either side may know more of them than the other.

mod encode;

pub use encode::{DecodeError, decode, encode};
pub use state_derive::SavedState;

use std::fmt;

/// One saved value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Any unsigned number, `bool` (0 or 1) and enum discriminant.
    Unsigned(u128),
    /// Bytes: memory contents, strings.
    Bytes(Vec<u8>),
    /// A sequence.
    List(Vec<Value>),
    /// Numbered fields.
    Record(Vec<(u16, Value)>),
}

/// Why a stream does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreError {
    /// Path of the field, outermost first, dots between.
    pub field: String,
    /// What is wrong with its value.
    pub problem: String,
}

impl RestoreError {
    /// An error about the value itself; the callers up the tree add the path.
    pub fn new(problem: impl Into<String>) -> Self {
        Self { field: String::new(), problem: problem.into() }
    }

    /// Prepends the name of the field that the error is in.
    #[must_use]
    pub fn within(mut self, name: &str) -> Self {
        let rest = if self.field.is_empty() { String::new() } else { format!(".{}", self.field) };
        self.field = format!("{name}{rest}");
        self
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "saved state: {}: {}", self.field, self.problem)
    }
}

impl std::error::Error for RestoreError {}

impl Value {
    /// The fields of a record.
    pub fn record(&self) -> Result<&[(u16, Value)], RestoreError> {
        match self {
            Self::Record(fields) => Ok(fields),
            other => Err(RestoreError::new(format!("{} where a record belongs", other.kind()))),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Unsigned(_) => "a number",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Record(_) => "a record",
        }
    }
}

/// A struct whose fields are saved; derive it.
pub trait SavedState {
    /// Everything the guest can observe.
    fn save(&self) -> Value;
    /// Takes over a saved value. On an error nothing is changed.
    ///
    /// # Errors
    /// The first field that does not fit.
    fn restore(&mut self, value: &Value) -> Result<(), RestoreError>;
}

/// A type that can be a saved field.
pub trait Saved: Sized {
    /// As a value.
    fn to_value(&self) -> Value;
    /// Back from a value.
    ///
    /// # Errors
    /// The value is of another kind or out of range.
    fn from_value(value: &Value) -> Result<Self, RestoreError>;
}

/// Field `number` of a record, or the type's default where the record lacks it.
///
/// # Errors
/// The field's value does not fit its type.
pub fn field<T: Saved + Default>(
    record: &[(u16, Value)],
    number: u16,
    name: &str,
) -> Result<T, RestoreError> {
    match record.iter().find(|(n, _)| *n == number) {
        Some((_, value)) => T::from_value(value).map_err(|e| e.within(name)),
        None => Ok(T::default()),
    }
}

macro_rules! saved_numbers {
    ($($t:ty),*) => { $(
        impl Saved for $t {
            fn to_value(&self) -> Value {
                Value::Unsigned(u128::from(*self))
            }
            fn from_value(value: &Value) -> Result<Self, RestoreError> {
                match value {
                    Value::Unsigned(v) => Self::try_from(*v).map_err(|_| {
                        RestoreError::new(format!("{v:#x} is too large for {}", stringify!($t)))
                    }),
                    other => Err(RestoreError::new(format!("{} where a number belongs", other.kind()))),
                }
            }
        }
    )* };
}
saved_numbers!(u8, u16, u32, u64, u128);

impl Saved for usize {
    fn to_value(&self) -> Value {
        Value::Unsigned(*self as u128)
    }
    fn from_value(value: &Value) -> Result<Self, RestoreError> {
        u64::from_value(value)?
            .try_into()
            .map_err(|_| RestoreError::new("too large for this host".to_owned()))
    }
}

impl Saved for i64 {
    fn to_value(&self) -> Value {
        Value::Unsigned(u128::from(self.cast_unsigned()))
    }
    fn from_value(value: &Value) -> Result<Self, RestoreError> {
        u64::from_value(value).map(u64::cast_signed)
    }
}

impl Saved for bool {
    fn to_value(&self) -> Value {
        Value::Unsigned(u128::from(*self))
    }
    fn from_value(value: &Value) -> Result<Self, RestoreError> {
        match u8::from_value(value)? {
            0 => Ok(false),
            1 => Ok(true),
            n => Err(RestoreError::new(format!("{n} where a truth value belongs"))),
        }
    }
}

impl Saved for String {
    fn to_value(&self) -> Value {
        Value::Bytes(self.as_bytes().to_vec())
    }
    fn from_value(value: &Value) -> Result<Self, RestoreError> {
        match value {
            Value::Bytes(b) => {
                Self::from_utf8(b.clone()).map_err(|_| RestoreError::new("text is not UTF-8"))
            }
            other => Err(RestoreError::new(format!("{} where text belongs", other.kind()))),
        }
    }
}

impl<T: Saved> Saved for Option<T> {
    fn to_value(&self) -> Value {
        Value::List(self.iter().map(T::to_value).collect())
    }
    fn from_value(value: &Value) -> Result<Self, RestoreError> {
        let mut list = Vec::<T>::from_value(value)?;
        match list.len() {
            0 | 1 => Ok(list.pop()),
            n => Err(RestoreError::new(format!("{n} values where one or none belongs"))),
        }
    }
}

impl<T: Saved> Saved for Vec<T> {
    fn to_value(&self) -> Value {
        Value::List(self.iter().map(T::to_value).collect())
    }
    fn from_value(value: &Value) -> Result<Self, RestoreError> {
        match value {
            Value::List(items) => items.iter().map(T::from_value).collect(),
            other => Err(RestoreError::new(format!("{} where a list belongs", other.kind()))),
        }
    }
}

impl<T: Saved, const N: usize> Saved for [T; N] {
    fn to_value(&self) -> Value {
        Value::List(self.iter().map(T::to_value).collect())
    }
    fn from_value(value: &Value) -> Result<Self, RestoreError> {
        let items = Vec::<T>::from_value(value)?;
        let len = items.len();
        items.try_into().map_err(|_| RestoreError::new(format!("{len} values where {N} belong")))
    }
}

impl<A: Saved, B: Saved> Saved for (A, B) {
    fn to_value(&self) -> Value {
        Value::List(vec![self.0.to_value(), self.1.to_value()])
    }
    fn from_value(value: &Value) -> Result<Self, RestoreError> {
        match value {
            Value::List(items) if items.len() == 2 => {
                Ok((A::from_value(&items[0])?, B::from_value(&items[1])?))
            }
            other => Err(RestoreError::new(format!("{} where a pair belongs", other.kind()))),
        }
    }
}

/// A block of bytes, saved as such rather than as a list of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Saved for Blob {
    fn to_value(&self) -> Value {
        Value::Bytes(self.0.clone())
    }
    fn from_value(value: &Value) -> Result<Self, RestoreError> {
        match value {
            Value::Bytes(b) => Ok(Self(b.clone())),
            other => Err(RestoreError::new(format!("{} where bytes belong", other.kind()))),
        }
    }
}

#[cfg(test)]
extern crate self as state;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Eq, SavedState)]
    struct Fifo {
        #[n(1)]
        level: u8,
        #[n(2)]
        data: Blob,
        #[n(3)]
        limits: [u32; 2],
        #[n(4)]
        armed: Option<u64>,
    }

    fn fifo() -> Fifo {
        Fifo { level: 3, data: Blob(vec![1, 2, 3]), limits: [7, 9], armed: Some(1 << 40) }
    }

    #[test]
    fn saves_and_restores_through_bytes() {
        let bytes = encode(&fifo().save());
        let mut other = Fifo::default();
        other.restore(&decode(&bytes).unwrap()).unwrap();
        assert_eq!(other, fifo());
    }

    #[test]
    fn absent_fields_take_their_default_and_unknown_ones_are_skipped() {
        let mut other = fifo();
        let value = Value::Record(vec![(1, Value::Unsigned(9)), (77, Value::List(vec![]))]);
        other.restore(&value).unwrap();
        assert_eq!(other, Fifo { level: 9, ..Fifo::default() });
    }

    #[test]
    fn a_bad_field_is_named_and_changes_nothing() {
        let mut other = fifo();
        let value = Value::Record(vec![(1, Value::Unsigned(9)), (3, Value::Unsigned(0))]);
        let err = other.restore(&value).unwrap_err();
        assert_eq!(err.to_string(), "saved state: limits: a number where a list belongs");
        assert_eq!(other, fifo());
    }

    #[test]
    fn no_prefix_or_flip_of_a_stream_panics() {
        let good = encode(&fifo().save());
        for n in 0..good.len() {
            assert!(decode(&good[..n]).is_err());
            let mut bad = good.clone();
            bad[n] ^= 0xff;
            if let Ok(value) = decode(&bad) {
                let _ = Fifo::default().restore(&value);
            }
        }
    }
}
