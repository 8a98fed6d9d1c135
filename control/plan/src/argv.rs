//! Arguments to options in order, and `-readconfig` files to the options they stand for.

use crate::refusal::{Refusal, Result};
use crate::table::{self, OPTIONS, OptionRow};
use std::fmt::Write;

/// An option as it occurs.
#[derive(Clone, Debug)]
pub(crate) struct Occurrence {
    /// Which option.
    pub row: &'static OptionRow,
    /// The option as written, for messages: `-m 4G`.
    pub place: String,
    /// Its argument; empty when it takes none.
    pub value: String,
}

/// Splits arguments into options. A bare word is a disk image, as after `-hda`.
pub(crate) fn split(args: &[String]) -> Result<Vec<Occurrence>> {
    let hda = table::find("hda").expect("the table has -hda");
    let mut found = Vec::new();
    let mut args = args.iter();
    while let Some(word) = args.next() {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
        let Some(name) = name.filter(|_| word != "-") else {
            found.push(Occurrence { row: hda, place: word.clone(), value: word.clone() });
            continue;
        };
        let row = table::find(name).ok_or_else(|| unknown(word, name))?;
        let (value, place) = if row.argument.is_empty() {
            (String::new(), word.clone())
        } else {
            let value = args.next().ok_or_else(|| {
                Refusal::new(format!("{word}: requires an argument"))
                    .hint(format!("Its form is {word} {}", row.argument))
            })?;
            (value.clone(), format!("{word} {value}"))
        };
        found.push(Occurrence { row, place, value });
    }
    Ok(found)
}

fn unknown(word: &str, name: &str) -> Refusal {
    let refusal = Refusal::new(format!("{word}: invalid option"));
    if let Some((option, value)) = name.split_once('=')
        && table::find(option).is_some_and(|row| !row.argument.is_empty())
    {
        return refusal.hint(format!("Did you mean '-{option} {value}'?"));
    }
    match options::nearest(name, OPTIONS.iter().map(|row| row.name)) {
        Some(near) => refusal.hint(format!("Did you mean '-{near}'?")),
        None => refusal,
    }
}

/// Sections of a configuration file whose option has another name.
const SECTIONS: &[(&str, &str)] =
    &[("memory", "m"), ("smp-opts", "smp"), ("boot-opts", "boot"), ("accel", "accel")];

/// Reads a configuration file: `[group "id"]` sections with `key = "value"` lines.
pub(crate) fn config(place: &str, text: &str) -> Result<Vec<Occurrence>> {
    let mut found: Vec<Occurrence> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let at =
            |message: String| Refusal::new(format!("line {}: {message}", number + 1)).at(place);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            found.push(section(place, header).map_err(|r| at(r.message))?);
            continue;
        }
        let current = found.last_mut().ok_or_else(|| at("no section yet".to_owned()))?;
        let (key, value) = line
            .split_once('=')
            .and_then(|(key, value)| {
                Some((key.trim(), value.trim().strip_prefix('"')?.strip_suffix('"')?))
            })
            .ok_or_else(|| at("parse error; the form is key = \"value\"".to_owned()))?;
        let comma = if current.value.is_empty() { "" } else { "," };
        let _ = write!(current.value, "{comma}{key}={}", value.replace(',', ",,"));
    }
    Ok(found)
}

fn section(place: &str, header: &str) -> Result<Occurrence> {
    let (group, id) = match header.split_once(' ') {
        Some((group, id)) => (group, Some(id.trim().trim_matches('"'))),
        None => (header, None),
    };
    let name = SECTIONS.iter().find(|(from, _)| *from == group).map_or(group, |(_, to)| to);
    let row = table::find(name)
        .filter(|row| !row.argument.is_empty())
        .ok_or_else(|| Refusal::new(format!("There is no option group '{group}'")))?;
    let value = id.map_or(String::new(), |id| format!("id={id}"));
    Ok(Occurrence { row, place: format!("{place}: [{header}]"), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_files_become_options() {
        let text = "# c\n[machine]\n type = \"virt\"\n\n[device \"d0\"]\n  driver = \"a,b\"\n";
        let found = config("-readconfig x", text).unwrap();
        let pairs: Vec<_> = found.iter().map(|o| (o.row.name, o.value.as_str())).collect();
        assert_eq!(pairs, [("machine", "type=virt"), ("device", "id=d0,driver=a,,b")]);
        for bad in ["a = \"b\"", "[nosuch]", "[machine]\nx = y"] {
            assert!(config("-readconfig x", bad).is_err(), "{bad}");
        }
    }
}
