//! What to do about an error: one line below it.

/// Words of an error, and advice for who meets it.
const ADVICE: &[(&[&str], &str)] = &[
    (
        &["Failed to get", "lock"],
        "another process has the image open; end it, or add -U to read while it writes",
    ),
    (
        &["Image is corrupt"],
        "'tinamou img repair IMAGE' tells what is damaged and what can be done",
    ),
    (
        &["Could not open", "backing"],
        "the image names a file that is not there; 'tinamou img rebase -u -b NEW -F FORMAT IMAGE' gives it another name",
    ),
    (&["No such file or directory"], "look at the spelling of the name and of its folder"),
    (&["Permission denied"], "the file belongs to somebody else; see 'ls -l', or run as its owner"),
    (&["No space left on device"], "make room, or name a target on another file system"),
    (&["Unknown file format"], "'tinamou img help' lists the formats"),
    (&["Unknown driver"], "'tinamou img help' lists the formats"),
    (
        &["output file is smaller than input file"],
        "'tinamou img resize TARGET SIZE' makes it longer; without -n a new one is made",
    ),
    (&["--shrink"], "shrink the file system in the image first"),
    (&["does not support"], "'tinamou img convert -O qcow2 IMAGE NEW' makes an image that does"),
    (&["No secret with id"], "give the passphrase: --object secret,id=NAME,file=PATH"),
    (
        &["encrypt.key-secret"],
        "give the passphrase: --object secret,id=NAME,file=PATH, and --image-opts …,encrypt.key-secret=NAME",
    ),
];

/// An error for people: nothing is said twice in a row, and below it is what to do, if that is known.
pub(crate) fn readable(error: &str) -> String {
    let mut parts: Vec<&str> = error.split(": ").collect();
    parts.dedup();
    let mut text = parts.join(": ");
    if let Some(advice) = advice(error) {
        text.push('\n');
        text.push_str(&advice);
    }
    text
}

/// What to do about an error, if it is a known one.
fn advice(error: &str) -> Option<String> {
    let fits = |words: &&[&str]| words.iter().all(|word| error.contains(word));
    ADVICE
        .iter()
        .find(|(words, _)| fits(words))
        .map(|(_, advice)| format!("  what to do: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_errors_come_with_advice() {
        let text = "Could not open 'x': Failed to get shared \"write\" lock\nIs another process …";
        assert!(advice(text).is_some_and(|line| line.contains("-U")));
        assert_eq!(advice("something new"), None);
    }

    #[test]
    fn nothing_is_said_twice() {
        let text = "tool: Could not open 'x': Could not open 'x': Oh";
        assert_eq!(readable(text), "tool: Could not open 'x': Oh");
    }
}
