//! Commands for zoned devices. None of our nodes has zones: what is asked is checked, and refused.

use super::commands::{Done, Refusal, UNSUPPORTED, number};
use super::letters::Letters;
use super::session::Session;

fn refused(what: &str) -> Done {
    Err(Refusal::new(format!("zone {what} failed: {UNSUPPORTED}")))
}

pub(super) fn report(_: &mut Session, letters: &Letters<'_>) -> Done {
    number(letters.arguments[0])?;
    if u32::try_from(number(letters.arguments[1])?).is_err() {
        return Err(Refusal::new("Number of zones must be less than 2^32"));
    }
    refused("report")
}

/// A command for a range of zones.
fn manage(letters: &Letters<'_>, what: &str) -> Done {
    letters.arguments.iter().try_for_each(|word| number(word).map(|_| ()))?;
    refused(what)
}

pub(super) fn open(_: &mut Session, letters: &Letters<'_>) -> Done {
    manage(letters, "open")
}

pub(super) fn close(_: &mut Session, letters: &Letters<'_>) -> Done {
    manage(letters, "close")
}

pub(super) fn finish(_: &mut Session, letters: &Letters<'_>) -> Done {
    manage(letters, "finish")
}

pub(super) fn reset(_: &mut Session, letters: &Letters<'_>) -> Done {
    manage(letters, "reset")
}

pub(super) fn append(_: &mut Session, letters: &Letters<'_>) -> Done {
    manage(letters, "append")
}
