//! What goes wrong with jobs: refused commands, failing work, and what is done about failing requests.

use std::fmt;
use std::io;

/// The class of an error in QMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Any.
    Generic,
    /// No such block job.
    DeviceNotActive,
    /// No such device or node.
    DeviceNotFound,
}

impl Class {
    /// The name in QMP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic => "GenericError",
            Self::DeviceNotActive => "DeviceNotActive",
            Self::DeviceNotFound => "DeviceNotFound",
        }
    }
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its class.
    pub class: Class,
    /// QEMU's text.
    pub text: String,
}

impl Refusal {
    /// A refusal of no special class.
    pub fn new(text: impl Into<String>) -> Self {
        Self { class: Class::Generic, text: text.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

impl From<graph::OpenError> for Refusal {
    fn from(error: graph::OpenError) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {}", host_words(cause));
            source = cause.source();
        }
        Self::new(text)
    }
}

fn host_words(cause: &(dyn std::error::Error + 'static)) -> String {
    cause.downcast_ref::<io::Error>().map_or_else(|| cause.to_string(), graph::host_text)
}

/// Why a job's work ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Somebody cancelled it.
    Cancelled,
    /// This went wrong.
    Error(String),
}

impl Failure {
    /// What `query-jobs` shows.
    pub fn text(&self) -> &str {
        match self {
            Self::Cancelled => "Operation canceled",
            Self::Error(text) => text,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Error(graph::host_text(&error))
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Error(refusal.text)
    }
}

/// What a job does when a request fails (`BlockdevOnError`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Fail.
    #[default]
    Report,
    /// Go on.
    Ignore,
    /// Pause when there is no space left, else fail.
    Enospc,
    /// Pause, and try again when resumed.
    Stop,
    /// As `Enospc`.
    Auto,
}

impl OnError {
    /// Every policy by its name in QMP.
    pub const TABLE: &[(&str, Self)] = &[
        ("report", Self::Report),
        ("ignore", Self::Ignore),
        ("enospc", Self::Enospc),
        ("stop", Self::Stop),
        ("auto", Self::Auto),
    ];

    /// What is to be done about this error.
    pub(crate) fn action(self, error: &io::Error) -> Action {
        match self {
            Self::Report => Action::Report,
            Self::Ignore => Action::Ignore,
            Self::Stop => Action::Stop,
            Self::Enospc | Self::Auto => match error.kind() {
                io::ErrorKind::StorageFull => Action::Stop,
                _ => Action::Report,
            },
        }
    }
}

/// What was done about a request that failed (`BlockErrorAction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The job fails.
    Report,
    /// The job goes on.
    Ignore,
    /// The job is paused.
    Stop,
}

impl Action {
    /// The name in QMP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Ignore => "ignore",
            Self::Stop => "stop",
        }
    }
}

/// Which kind of request failed (`IoOperationType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reading from the source.
    Read,
    /// Writing to the target.
    Write,
}

impl Operation {
    /// The name in QMP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What the requests of a job have met since it was last resumed (`BlockDeviceIoStatus`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoStatus {
    /// Nothing bad.
    #[default]
    Ok,
    /// An error.
    Failed,
    /// No space left.
    Nospace,
}

impl IoStatus {
    /// The name in QMP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Nospace => "nospace",
        }
    }
}
