//! `-T`/`--trace`: the tools have no trace points, but say so as the peer does of names it does not know.

use crate::Failure;
use graph::host_text;
use options::{Grammar, List};

/// Reads `[enable=]PATTERN[,events=FILE][,file=FILE]`; the lines for standard error.
pub(crate) fn enable(program: &str, text: &str) -> Result<Vec<String>, Failure> {
    let list =
        List::parse(text, Grammar::strict("enable")).map_err(|e| Failure::new(e.to_string()))?;
    let mut lines = Vec::new();
    for item in &list.items {
        match item.key.as_str() {
            "enable" => lines.extend(unknown(&format!("{program}: "), &item.value)),
            "events" => lines.extend(listed(program, &item.value)?),
            "file" => {}
            other => return Err(Failure::new(format!("Invalid parameter '{other}'"))),
        }
    }
    Ok(lines)
}

/// The names in a file, one per line.
fn listed(program: &str, path: &str) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::complete(format!("{program}:{path}: {}", host_text(&e))))?;
    let rows =
        text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    Ok(rows
        .filter_map(|(row, line)| unknown(&format!("{program}:{path}:{}: ", row + 1), line))
        .collect())
}

/// What is said of a name; a pattern may match nothing, and so may its opposite.
fn unknown(place: &str, name: &str) -> Option<String> {
    let plain = !name.is_empty() && !name.starts_with('-') && !name.contains('*');
    plain.then(|| format!("{place}warning: trace event '{name}' does not exist"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unknown_and_patterns_match_nothing() {
        let said = enable("qemu-img", "one,enable=two*,file=x").expect("it is well formed");
        assert_eq!(said, ["qemu-img: warning: trace event 'one' does not exist"]);
        assert!(enable("qemu-img", "").is_ok_and(|said| said.is_empty()));
        let refused = enable("qemu-img", "a,foo=b").err().map(|f| f.to_string());
        assert_eq!(refused.as_deref(), Some("Invalid parameter 'foo'"));
    }
}
