//! Option groups: a struct that is grammar, documentation and help at once.

use crate::{Item, List, OptionError, OptionValue, nearest};
use std::fmt::Write;

/// One key of a group.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name of the key.
    pub key: &'static str,
    /// Name of the type of its value.
    pub kind: &'static str,
    /// What it does: the field's documentation.
    pub doc: &'static str,
}

/// A struct made from the keys of one option.
pub trait OptionGroup: Sized {
    /// Name of the group.
    const GROUP: &'static str;
    /// Its keys, in the order of declaration.
    const FIELDS: &'static [Field];

    /// Reads the group from a list; unknown keys are refused.
    ///
    /// # Errors
    /// On an unknown key, or a value of the wrong type.
    fn from_list(list: &List) -> Result<Self, OptionError>;

    /// Help text: one line for each key, sorted by name.
    fn help() -> String {
        let mut fields: Vec<&Field> = Self::FIELDS.iter().collect();
        fields.sort_by_key(|f| f.key);
        let mut text = format!("{} options:\n", Self::GROUP);
        for field in fields {
            let left = format!("  {}=<{}>", field.key, field.kind);
            let _ = writeln!(text, "{left:<24} - {}", field.doc.trim());
        }
        text
    }

    /// Refuses the first key of `list` that the group does not have.
    ///
    /// # Errors
    /// When there is such a key.
    fn check_keys(list: &List) -> Result<(), OptionError> {
        let known = |item: &&Item| Self::FIELDS.iter().all(|f| f.key != item.key);
        list.items.iter().find(known).map_or(Ok(()), |item| Err(unknown::<Self>(item)))
    }
}

/// Most keys that are listed after an unknown one.
const MAX_LISTED: usize = 12;

fn unknown<G: OptionGroup>(item: &Item) -> OptionError {
    let error = item.error(format!("Invalid parameter '{}'", item.key));
    match nearest(&item.key, G::FIELDS.iter().map(|f| f.key)) {
        Some(near) => error.with_hint(format!("Did you mean '{near}'?")),
        None if G::FIELDS.len() > MAX_LISTED => error,
        None => {
            let keys: Vec<&str> = G::FIELDS.iter().map(|f| f.key).collect();
            error.with_hint(format!("Known parameters: {}.", keys.join(", ")))
        }
    }
}

/// How often a key may be given, and what stands in the struct when it is not.
pub trait Shape: Sized {
    /// Name of the value's type.
    const KIND: &'static str;

    /// Reads the field `key` of `list`; `None` when the key is absent and needs a default.
    ///
    /// # Errors
    /// When a value is of the wrong type.
    fn read(list: &List, key: &str) -> Result<Option<Self>, OptionError>;
}

impl<T: OptionValue> Shape for T {
    const KIND: &'static str = T::KIND;

    fn read(list: &List, key: &str) -> Result<Option<Self>, OptionError> {
        list.item(key).map(T::parse).transpose()
    }
}

impl<T: OptionValue> Shape for Option<T> {
    const KIND: &'static str = T::KIND;

    fn read(list: &List, key: &str) -> Result<Option<Self>, OptionError> {
        list.item(key).map(T::parse).transpose().map(Some)
    }
}

/// Declares an option group.
///
/// A field without default is an `Option`; its documentation is the help text.
///
/// ```
/// options::option_group! {
///     /// `-demo`: shows the form.
///     pub struct Demo in "demo" {
///         /// Name of the thing.
///         "name" => name: Option<String>,
///         /// Whether it is loud.
///         "very-loud" => very_loud: bool = false,
///     }
/// }
/// use options::{Grammar, List, OptionGroup};
/// let list = List::parse("x,very-loud=on", Grammar::loose("name"))?;
/// let demo = Demo::from_list(&list)?;
/// assert!(demo.very_loud && demo.name.as_deref() == Some("x"));
/// # Ok::<(), options::OptionError>(())
/// ```
#[macro_export]
macro_rules! option_group {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident in $group:literal {
            $( $(#[doc = $doc:literal])+ $key:literal => $field:ident : $kind:ty $(= $default:expr)? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $( $(#[doc = $doc])+ pub $field: $kind, )*
        }

        impl $crate::OptionGroup for $name {
            const GROUP: &'static str = $group;
            const FIELDS: &'static [$crate::Field] = &[
                $( $crate::Field {
                    key: $key,
                    kind: <$kind as $crate::Shape>::KIND,
                    doc: concat!($($doc),+),
                }, )*
            ];

            fn from_list(list: &$crate::List) -> ::std::result::Result<Self, $crate::OptionError> {
                Self::check_keys(list)?;
                Ok(Self {
                    $( $field: match <$kind as $crate::Shape>::read(list, $key)? {
                        Some(value) => value,
                        None => $crate::option_group!(@default $($default)?),
                    }, )*
                })
            }
        }
    };
    (@default $default:expr) => { $default };
    (@default) => { None };
}

/// Declares an enumeration whose values have names on the command line.
///
/// ```
/// options::option_enum! {
///     /// How to draw.
///     pub enum Style { /// Thin lines.
///         Thin = "thin", /// Thick lines.
///         Thick = "thick" }
/// }
/// assert_eq!(Style::from_name("thick"), Some(Style::Thick));
/// assert_eq!(Style::Thin.name(), "thin");
/// ```
#[macro_export]
macro_rules! option_enum {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident { $( $(#[$doc:meta])* $variant:ident = $text:literal ),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name { $( $(#[$doc])* $variant ),* }

        impl $name {
            /// Every value with its name.
            pub const NAMES: &'static [(Self, &'static str)] = &[$( (Self::$variant, $text) ),*];

            /// The value called `name`.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::NAMES.iter().find(|(_, text)| *text == name).map(|(value, _)| *value)
            }

            /// The name of the value.
            pub fn name(self) -> &'static str {
                match self { $( Self::$variant => $text ),* }
            }
        }

        impl $crate::OptionValue for $name {
            const KIND: &'static str = concat!($($text, "|"),*, "…");

            fn parse(item: &$crate::Item) -> ::std::result::Result<Self, $crate::OptionError> {
                Self::from_name(&item.value).ok_or_else(|| {
                    let names: Vec<&str> = Self::NAMES.iter().map(|(_, text)| *text).collect();
                    item.error(format!(
                        "Parameter '{}' does not accept value '{}'", item.key, item.value
                    ))
                    .with_hint(format!("Known values: {}.", names.join(", ")))
                })
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::{Bytes, Grammar, List, OptionGroup};

    option_enum! {
        /// A mode.
        pub enum Mode { /// Stop.
            Stop = "stop", /// Go.
            Go = "go" }
    }

    option_group! {
        /// A group.
        pub struct Sample in "sample" {
            /// How much.
            "size" => size: Option<Bytes>,
            /// Which mode.
            "mode" => mode: Mode = Mode::Stop,
            /// How many.
            "count" => count: u32 = 3,
        }
    }

    fn read(text: &str) -> Result<Sample, crate::OptionError> {
        Sample::from_list(&List::parse(text, Grammar::loose("size"))?)
    }

    #[test]
    fn absent_keys_have_defaults() {
        let expected = Sample { size: Some(Bytes(2048)), mode: Mode::Stop, count: 3 };
        assert_eq!(read("2k"), Ok(expected));
        assert_eq!(Mode::Go.name(), "go");
        assert_eq!(read("count=5,mode=go").unwrap().count, 5);
    }

    #[test]
    fn wrong_keys_and_values_name_the_right_ones() {
        let error = read("conut=1").unwrap_err();
        assert_eq!(error.message, "Invalid parameter 'conut'");
        assert_eq!(error.hint.as_deref(), Some("Did you mean 'count'?"));
        let error = read("mode=run").unwrap_err();
        assert_eq!(error.message, "Parameter 'mode' does not accept value 'run'");
        assert_eq!(error.hint.as_deref(), Some("Known values: stop, go."));
        assert_eq!(read("count=4294967296").unwrap_err().key, "count");
        assert_eq!(read("count=x").unwrap_err().message, "Parameter 'count' expects a number");
    }

    #[test]
    fn help_lists_every_key() {
        let help = Sample::help();
        assert!(help.starts_with("sample options:\n  count=<num>"), "{help}");
        assert!(help.contains("How much."), "{help}");
    }
}
