//! Where in a specification something is wrong, and what.

use std::fmt;

/// Position of a line in a specification.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Name of the file, as given to the compiler.
    pub file: String,
    /// Line number, from 1.
    pub line: usize,
}

/// One mistake in a specification.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpecError {
    /// Where the mistake is.
    pub place: Place,
    /// What is wrong, for a person to read.
    pub message: String,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.place.file, self.place.line, self.message)
    }
}

impl std::error::Error for SpecError {}

/// Collects mistakes, so that one run reports them all.
#[derive(Default)]
pub(crate) struct Errors(pub(crate) Vec<SpecError>);

impl Errors {
    pub(crate) fn add(&mut self, place: &Place, message: impl Into<String>) {
        self.0.push(SpecError { place: place.clone(), message: message.into() });
    }

    /// Keeps the value, or the mistake.
    pub(crate) fn keep<T>(&mut self, place: &Place, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.add(place, message)).ok()
    }
}
