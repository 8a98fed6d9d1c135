//! Why a command failed.

use serde_json::{Value, json};
use std::fmt;

/// What kind of error it is: clients may look at it, most are [`Generic`](Class::Generic).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Whatever has no class of its own.
    Generic,
    /// There is no such command, or not now.
    CommandNotFound,
    /// The device is there and does not do this now.
    DeviceNotActive,
    /// There is no such device.
    DeviceNotFound,
    /// The host's processor or kernel lacks something.
    KvmMissingCap,
}

impl Class {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic => "GenericError",
            Self::CommandNotFound => "CommandNotFound",
            Self::DeviceNotActive => "DeviceNotActive",
            Self::DeviceNotFound => "DeviceNotFound",
            Self::KvmMissingCap => "KVMMissingCap",
        }
    }
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of error it is.
    pub class: Class,
    /// The text for people.
    pub text: String,
}

impl Error {
    /// An error of no class of its own.
    pub fn new(text: impl Into<String>) -> Self {
        Self { class: Class::Generic, text: text.into() }
    }

    /// An error of a class.
    pub fn of(class: Class, text: impl Into<String>) -> Self {
        Self { class, text: text.into() }
    }

    /// Something that we do not do yet.
    pub fn not_yet(what: &str) -> Self {
        Self::new(format!("not supported yet: {what}"))
    }

    /// A member that must be there and is not.
    pub fn missing(path: &dyn fmt::Display) -> Self {
        Self::new(format!("Parameter '{path}' is missing"))
    }

    /// As it goes to a client.
    pub fn to_json(&self) -> Value {
        json!({"class": self.class.name(), "desc": self.text})
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}
