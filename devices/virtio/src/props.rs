//! Properties from the command line, checked against a class's table.

use crate::core::RingOptions;
use device::{DeviceClass, Property};
use options::{SizeProblem, nearest, parse_bool, parse_number, parse_size};
use std::fmt;

/// Why a device could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError {
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it, if there is something to say.
    pub hint: Option<String>,
}

impl BuildError {
    /// An error without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The same error with help for people.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BuildError {}

/// The properties of one device: what was given, over the class's defaults.
#[derive(Clone, Copy, Debug)]
pub struct Props<'a> {
    class: &'static DeviceClass,
    given: &'a [(String, String)],
}

impl<'a> Props<'a> {
    /// Checks that `class` has every property in `given`. Later values win.
    ///
    /// # Errors
    /// A property is unknown.
    pub fn new(
        class: &'static DeviceClass,
        given: &'a [(String, String)],
    ) -> Result<Self, BuildError> {
        for (name, _) in given {
            if !class.properties.iter().any(|p| p.name == name) {
                let error = BuildError::new(format!("Property '{}.{name}' not found", class.name));
                return Err(match nearest(name, class.properties.iter().map(|p| p.name)) {
                    Some(near) => error.with_hint(format!("Did you mean '{near}'?")),
                    None => error,
                });
            }
        }
        Ok(Self { class, given })
    }

    /// The class.
    pub fn class(&self) -> &'static DeviceClass {
        self.class
    }

    fn property(&self, name: &str) -> Option<&'static Property> {
        self.class.properties.iter().find(|p| p.name == name)
    }

    /// What was given, if anything was.
    pub fn given(&self, name: &str) -> Option<&'a str> {
        self.given.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// What was given, else the default; empty when there is neither.
    pub fn text(&self, name: &str) -> &'a str {
        self.given(name).unwrap_or_else(|| self.property(name).map_or("", |p| p.default))
    }

    /// A switch; off when the class lacks it.
    ///
    /// # Errors
    /// The value is no switch.
    pub fn bool(&self, name: &str) -> Result<bool, BuildError> {
        match self.text(name) {
            "" => Ok(false),
            text => parse_bool(text).ok_or_else(|| {
                BuildError::new(format!("Parameter '{name}' expects 'on' or 'off'"))
            }),
        }
    }

    /// A switch that may be left to the device (`auto`).
    ///
    /// # Errors
    /// The value is neither.
    pub fn on_off_auto(&self, name: &str) -> Result<Option<bool>, BuildError> {
        match self.text(name) {
            "auto" | "" => Ok(None),
            text => parse_bool(text).map(Some).ok_or_else(|| {
                BuildError::new(format!("Parameter '{name}' does not accept value '{text}'"))
                    .with_hint("Known values: auto, on, off.")
            }),
        }
    }

    /// A number.
    ///
    /// # Errors
    /// The value is none, or too large.
    pub fn number<T: TryFrom<u64>>(&self, name: &str) -> Result<T, BuildError> {
        let text = self.text(name);
        let number = parse_number(text)
            .ok_or_else(|| BuildError::new(format!("Parameter '{name}' expects integer")))?;
        T::try_from(number).map_err(|_| {
            BuildError::new(format!("Value '{text}' is out of range for parameter '{name}'"))
        })
    }

    /// A size in bytes.
    ///
    /// # Errors
    /// The value is none.
    pub fn size(&self, name: &str) -> Result<u64, BuildError> {
        let text = self.text(name);
        parse_size(text, b'b').map_err(|problem| match problem {
            SizeProblem::NotASize => BuildError::new(format!("Parameter '{name}' expects a size")),
            SizeProblem::OutOfRange => {
                BuildError::new(format!("Value '{text}' is out of range for parameter '{name}'"))
            }
        })
    }

    /// The properties that every virtio device has.
    ///
    /// # Errors
    /// A value is no switch, or chooses what is not there yet.
    pub fn ring_options(&self) -> Result<RingOptions, BuildError> {
        if self.bool("in_order")? {
            return Err(BuildError::new("not supported yet: in_order=on"));
        }
        Ok(RingOptions {
            indirect_desc: self.bool("indirect_desc")?,
            event_idx: self.bool("event_idx")?,
            notify_on_empty: self.bool("notify_on_empty")?,
            any_layout: self.bool("any_layout")?,
            iommu_platform: self.bool("iommu_platform")?,
            packed: self.bool("packed")?,
            queue_reset: self.bool("queue_reset")?,
        })
    }
}
