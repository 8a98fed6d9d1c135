//! `-d`, `-D` and `-dfilter` of user mode.

use crate::options::{Options, Stop};
use options::parse_number;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use trace::Item;

/// Items that are accepted and log nothing here.
const SILENT: &[(&str, &str)] = &[
    ("op_ind", "not logged here"),
    ("fpu", "include floating-point registers in 'cpu'"),
    ("vpu", "include vector registers in 'cpu'"),
    ("pcall", "x86 only"),
    ("page", "not logged here"),
    ("tid", "not logged here"),
    ("invalid_mem", "not logged here"),
];

const STRACE: (&str, &str) = ("strace", "log every system call, its arguments and its result");

/// Does what the options say.
///
/// # Errors
/// An item, range or file cannot be used.
pub fn configure(options: &mut Options) -> Result<(), Stop> {
    let mut items = Vec::new();
    for name in options.log.iter().flat_map(|text| text.split(',')) {
        if name == STRACE.0 {
            options.strace = true;
        } else if name == "all" {
            items.extend(Item::TABLE.iter().map(|(item, _, _)| *item));
            options.strace = true;
        } else if let Some((item, _, _)) = Item::TABLE.iter().find(|(_, n, _)| *n == name) {
            items.push(*item);
        } else if !SILENT.iter().any(|(n, _)| *n == name) {
            return Err(Stop::Print(help(), 1));
        }
    }
    let file = options.log_file.as_deref().map(open).transpose()?;
    trace::configure(&items, file);
    if let Some(text) = &options.log_filter {
        let ranges = text.split(',').map(range).collect::<Option<Vec<_>>>();
        trace::set_filter(ranges.ok_or_else(|| Stop::Refuse("Bad range specifier".to_owned()))?);
    }
    Ok(())
}

fn help() -> String {
    let mut text = String::from("Log items (comma separated):\n");
    let known = Item::TABLE.iter().map(|(_, name, help)| (*name, *help));
    for (name, help) in known.chain([STRACE]).chain(SILENT.iter().copied()) {
        let _ = writeln!(text, "{name:<15} {help}");
    }
    text
}

/// Opens the file of `-D`, in whose name `%d` stands for the process's number.
fn open(name: &OsStr) -> Result<File, Stop> {
    let bytes = name.as_bytes();
    let number = std::process::id().to_string();
    let path = match bytes.windows(2).position(|two| two == b"%d") {
        Some(at) => [&bytes[..at], number.as_bytes(), &bytes[at + 2..]].concat(),
        None => bytes.to_vec(),
    };
    let path = std::path::PathBuf::from(std::ffi::OsString::from_vec(path));
    File::create(&path).map_err(|error| {
        let error = crate::errno::Errno::of(&error);
        Stop::Refuse(format!("Error opening logfile {}: {error}", path.display()))
    })
}

/// `START+LEN`, `START-LEN` or `START..END`.
fn range(text: &str) -> Option<RangeInclusive<u64>> {
    let sign = ["..", "+", "-"].into_iter().find(|sign| text.contains(sign))?;
    let (left, right) = text.split_once(sign)?;
    let (left, right) = (parse_number(left)?, parse_number(right)?);
    let (low, high) = match sign {
        ".." => (left, right),
        "+" => (left, left.checked_add(right.checked_sub(1)?)?),
        _ => (left.checked_sub(right.checked_sub(1)?)?, left),
    };
    (low <= high).then_some(low..=high)
}
