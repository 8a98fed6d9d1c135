//! Options of a command of the prompt: single letters, some with values, before the arguments.

/// A command line, sorted.
pub(super) struct Letters<'a> {
    given: Vec<(char, &'a str)>,
    /// What follows the options.
    pub arguments: Vec<&'a str>,
}

impl<'a> Letters<'a> {
    /// Sorts `words` by `known`, in which a colon follows a letter that takes a value. The error is the
    /// complaint of `getopt`, without the command's name.
    pub fn parse(known: &str, words: &[&'a str]) -> Result<Self, String> {
        let mut letters = Self { given: Vec::new(), arguments: Vec::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if *word == "--" {
                letters.arguments.extend(words.by_ref());
            } else if word.len() < 2 || !word.starts_with('-') {
                letters.arguments.push(word);
            } else {
                letters.read_word(known, word, &mut words)?;
            }
        }
        Ok(letters)
    }

    fn read_word(
        &mut self,
        known: &str,
        word: &'a str,
        words: &mut std::slice::Iter<'_, &'a str>,
    ) -> Result<(), String> {
        for (at, letter) in word.char_indices().skip(1) {
            let Some(place) = known.find(letter).filter(|_| letter != ':') else {
                return Err(format!("invalid option -- '{letter}'"));
            };
            let takes_value = known[place + letter.len_utf8()..].starts_with(':');
            if !takes_value {
                self.given.push((letter, ""));
                continue;
            }
            let rest = &word[at + letter.len_utf8()..];
            let value = match rest {
                "" => words
                    .next()
                    .copied()
                    .ok_or_else(|| format!("option requires an argument -- '{letter}'"))?,
                rest => rest,
            };
            self.given.push((letter, value));
            break;
        }
        Ok(())
    }

    /// Whether the letter was given.
    pub fn has(&self, letter: char) -> bool {
        self.given.iter().any(|(l, _)| *l == letter)
    }

    /// Everything given, in order, with empty values where a letter takes none.
    pub fn given(&self) -> impl Iterator<Item = (char, &'a str)> {
        self.given.iter().copied()
    }

    /// The value of a letter.
    pub fn value(&self, letter: char) -> Option<&'a str> {
        self.given.iter().rev().find(|(l, _)| *l == letter).map(|(_, value)| *value)
    }
}

/// Words of a command; double and single quotes keep blanks.
pub(super) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut begun, mut quote) = (Vec::new(), String::new(), false, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), _) if q == c => quote = None,
            (None, '"' | '\'') => (quote, begun) = (Some(c), true),
            (None, c) if c.is_whitespace() => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_their_values() {
        let letters =
            Letters::parse("qP:s:", &["-qP7", "0", "-s", "1", "--", "-1"]).expect("it is right");
        assert!(letters.has('q'));
        assert_eq!((letters.value('P'), letters.value('s')), (Some("7"), Some("1")));
        assert_eq!(letters.arguments, ["0", "-1"]);
        let complaint = |words: &[&'static str]| Letters::parse("qP:", words).err();
        assert_eq!(complaint(&["-z"]).as_deref(), Some("invalid option -- 'z'"));
        assert_eq!(complaint(&["-:"]).as_deref(), Some("invalid option -- ':'"));
        assert_eq!(complaint(&["-P"]).as_deref(), Some("option requires an argument -- 'P'"));
    }

    #[test]
    fn quotes_keep_blanks() {
        assert_eq!(words("open  -o \"a b\"c 'd'"), ["open", "-o", "a bc", "d"]);
        assert!(words("  ").is_empty());
    }
}
