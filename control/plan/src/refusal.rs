//! Why a command line was refused.

use options::OptionError;
use std::fmt;

/// A refused command line: one line that scripts may match on, and help for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The line, without the program's name: `-m foo: Parameter 'size' expects …`.
    pub message: String,
    /// Further lines: what to do about it.
    pub hints: Vec<String>,
}

/// Result of a planning step.
pub type Result<T> = std::result::Result<T, Refusal>;

impl Refusal {
    /// A refusal with the given line.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: Vec::new() }
    }

    /// The same refusal with one more line of help.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same refusal with "Did you mean …?" when a candidate is near `name`.
    #[must_use]
    pub fn suggesting<'a>(self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match options::nearest(name, known) {
            Some(near) => self.hint(format!("Did you mean '{near}'?")),
            None => self,
        }
    }

    /// The same refusal, said of the option `place` (such as `-m foo`).
    #[must_use]
    pub fn at(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The whole text for standard error, with `program` in front and a final line end.
    pub fn report(&self, program: &str) -> String {
        let mut text = format!("{program}: {}\n", self.message);
        for hint in &self.hints {
            text.push_str(hint);
            text.push('\n');
        }
        text
    }
}

impl From<OptionError> for Refusal {
    fn from(error: OptionError) -> Self {
        Self { message: error.message, hints: error.hint.into_iter().collect() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}
