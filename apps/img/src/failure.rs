//! How a command fails: text and exit code.

use graph::OpenError;
use std::fmt;
use std::io;

/// Why a command ended early.
#[derive(Debug)]
pub struct Failure {
    text: String,
    /// Exit code of the process.
    pub code: u8,
    /// The text begins with the program's name already.
    complete: bool,
}

impl Failure {
    /// The operation failed; exit code 1.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 1, complete: false }
    }

    /// The same with another exit code.
    pub fn with_code(text: impl Into<String>, code: u8) -> Self {
        Self { code, ..Self::new(text) }
    }

    /// A wrong command line: a complete line, and whose `--help` to look at.
    pub fn usage(line: String, helper: &str) -> Self {
        let text = format!("{line}\nTry '{helper} --help' for more info");
        Self { text, code: 1, complete: true }
    }

    /// The operation failed; the text begins with the program's name already.
    pub fn complete(text: String) -> Self {
        Self { complete: true, ..Self::new(text) }
    }

    /// An I/O error, after what was tried.
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(format!("{what}: {}", graph::host_text(error)))
    }

    /// Puts words and a colon before the text.
    pub fn within(self, what: impl fmt::Display) -> Self {
        Self { text: format!("{what}: {}", self.text), ..self }
    }

    /// The same with another exit code.
    pub fn coded(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// The image that could not be opened is the new backing file `name`.
    pub fn reopening(self, name: &str) -> Self {
        let own = format!("Could not open '{name}': ");
        let text = self.text.strip_prefix(&own).unwrap_or(&self.text);
        Self { text: format!("Could not open new backing file '{name}': {text}"), ..self }
    }

    /// Takes words away from the front, if they are there.
    pub fn without(self, words: &str) -> Self {
        let text = self.text.strip_prefix(words).unwrap_or(&self.text).to_owned();
        Self { text, ..self }
    }

    /// Adds a line below the text.
    pub fn followed_by(self, line: &str) -> Self {
        Self { text: format!("{}\n{line}", self.text), ..self }
    }

    /// What standard error gets.
    pub fn line(&self, program: &str) -> String {
        if self.complete { self.text.clone() } else { format!("{program}: {}", self.text) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::new(error.to_string())
    }
}
