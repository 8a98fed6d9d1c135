//! The option grammar of QEMU's command line: `key=value,key2=a,,b`, its JSON twin, and typed structs.
//!
//! [`List::parse`] turns text into ordered keys and values with their place in the text, so that an
//! error can point at it. [`option_group!`](crate::option_group) declares a struct that is grammar,
//! documentation and help at once; an unknown key is refused with the nearest known one. Source: the
//! QEMU 10.0 system emulation manual, "Invocation", and the behaviour of its binaries.
//! Not here: what an option means; that is `control/plan`.

pub mod base64;
mod error;
mod group;
mod list;
mod nearest;
mod value;

pub use error::OptionError;
pub use group::{Field, OptionGroup, Shape};
pub use list::{Grammar, Item, Kind, List, identifier};
pub use nearest::nearest;
pub use value::{Bytes, OptionValue, SizeProblem, parse_bool, parse_number, parse_size, size_of};
