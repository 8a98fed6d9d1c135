//! Why an option was refused.

use std::fmt;
use std::ops::Range;

/// A refused option: the line a script may match on, and help for people on further lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionError {
    /// Key at fault; empty when the text as a whole is.
    pub key: String,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it, if there is something to say.
    pub hint: Option<String>,
    /// Bytes of the option's text at fault.
    pub span: Range<usize>,
}

impl OptionError {
    /// An error about `key`, found at `span`.
    pub fn new(key: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { key: key.to_owned(), message: message.into(), hint: None, span }
    }

    /// The same error with help for people.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with "Did you mean …?" when a candidate is close to `name`.
    #[must_use]
    pub fn suggesting<'a>(
        mut self,
        name: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        if let Some(near) = crate::nearest(name, candidates) {
            self.hint = Some(format!("Did you mean '{near}'?"));
        }
        self
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for OptionError {}
