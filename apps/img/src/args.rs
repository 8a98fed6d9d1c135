//! The command line of one command: options from a table, in the manner of GNU `getopt_long`.
//!
//! Options and operands mix freely, `--` ends the options, long options may be shortened as long as
//! they stay unique, `--long=value` and `-ovalue` carry their value with them.

use crate::Failure;
use formats::Objects;
use std::sync::OnceLock;

/// One option of a command.
pub struct Opt {
    /// Its letter, if it has one.
    pub short: Option<char>,
    /// Its long name.
    pub long: &'static str,
    /// Name of its value in the help, if it takes one.
    pub value: Option<&'static str>,
    /// The value can be left out: it only counts when it is attached (`--long=value`).
    pub optional: bool,
    /// What it does, for the help.
    pub help: &'static str,
}

/// A switch.
pub const fn flag(short: char, long: &'static str, help: &'static str) -> Opt {
    Opt { short: some(short), long, value: None, optional: false, help }
}

/// An option with a value.
pub const fn takes(
    short: char,
    long: &'static str,
    value: &'static str,
    help: &'static str,
) -> Opt {
    Opt { short: some(short), long, value: Some(value), optional: false, help }
}

/// An option whose value can be left out.
pub(crate) const fn may_take(
    short: char,
    long: &'static str,
    value: &'static str,
    help: &'static str,
) -> Opt {
    Opt { optional: true, ..takes(short, long, value, help) }
}

/// No short form.
pub const NO_SHORT: char = '\0';

const fn some(short: char) -> Option<char> {
    if short == NO_SHORT { None } else { Some(short) }
}

/// What was given.
pub struct Args {
    given: Vec<(&'static str, String)>,
    /// Words that are no options.
    pub operands: Vec<String>,
    objects: OnceLock<Objects>,
}

impl Args {
    /// Sorts `words` by the table of command `program` (`qemu-img info`); an option in a later table hides
    /// one of that name in an earlier one.
    ///
    /// # Errors
    /// In the words of `getopt_long`.
    pub fn parse(
        program: &str,
        tables: &[&'static [Opt]],
        words: &[String],
    ) -> Result<Self, Failure> {
        let parser = Parser { program, table: visible(tables) };
        let (given, operands, objects) = (Vec::new(), Vec::new(), OnceLock::new());
        let mut args = Self { given, operands, objects };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                args.operands.extend(words.by_ref().cloned());
            } else if let Some(long) = word.strip_prefix("--") {
                args.given.push(parser.long(long, &mut words)?);
            } else if word.starts_with('-') && word[1..].starts_with(|c: char| !c.is_ascii_digit())
            {
                // A number below zero is an operand: `resize` takes one.
                parser.shorts(&word[1..], &mut words, &mut args.given)?;
            } else {
                args.operands.push(word.clone());
            }
        }
        Ok(args)
    }

    /// Whether the switch was given.
    pub fn has(&self, long: &str) -> bool {
        self.given.iter().any(|(name, _)| *name == long)
    }

    /// The last value given to the option.
    pub fn value(&self, long: &str) -> Option<&str> {
        self.given.iter().rev().find(|(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// Every value given to the option.
    pub fn values<'a>(&'a self, long: &'a str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// What `--object` gave. Made once: the file of a secret may be one that can be read once.
    ///
    /// # Errors
    /// As [`Objects::parse`].
    pub(crate) fn objects(&self) -> Result<Objects, Failure> {
        if let Some(objects) = self.objects.get() {
            return Ok(objects.clone());
        }
        let objects = Objects::parse(self.values("object"))?;
        Ok(self.objects.get_or_init(|| objects).clone())
    }

    /// Everything given, in order.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.given.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

/// The options of several tables, without those that a later table has, too.
pub(crate) fn visible(tables: &[&'static [Opt]]) -> Vec<&'static Opt> {
    let mut found: Vec<&'static Opt> = Vec::new();
    for opt in tables.iter().flat_map(|table| table.iter()) {
        match found.iter_mut().find(|earlier| earlier.long == opt.long) {
            Some(earlier) => *earlier = opt,
            None => found.push(opt),
        }
    }
    found
}

struct Parser<'a> {
    program: &'a str,
    table: Vec<&'static Opt>,
}

impl Parser<'_> {
    fn long<'w>(
        &self,
        word: &str,
        words: &mut impl Iterator<Item = &'w String>,
    ) -> Result<(&'static str, String), Failure> {
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let opt = self.find_long(name)?;
        let value = match (opt.value, attached) {
            (None, None) => String::new(),
            (None, Some(_)) => {
                return Err(
                    self.refuse(format!("option '--{}' doesn't allow an argument", opt.long))
                );
            }
            (Some(_), Some(value)) => value.to_owned(),
            (Some(_), None) if opt.optional => String::new(),
            (Some(_), None) => words
                .next()
                .ok_or_else(|| {
                    self.refuse(format!("option '--{}' requires an argument", opt.long))
                })?
                .clone(),
        };
        Ok((opt.long, value))
    }

    fn find_long(&self, name: &str) -> Result<&'static Opt, Failure> {
        if let Some(exact) = self.table.iter().find(|opt| opt.long == name) {
            return Ok(exact);
        }
        let candidates: Vec<&'static Opt> =
            self.table.iter().copied().filter(|opt| opt.long.starts_with(name)).collect();
        match candidates.as_slice() {
            [one] => Ok(one),
            [] => Err(self.refuse(format!("unrecognized option '--{name}'"))),
            several => {
                let names: Vec<String> =
                    several.iter().map(|o| format!("'--{}'", o.long)).collect();
                let names = names.join(" ");
                Err(self.refuse(format!("option '--{name}' is ambiguous; possibilities: {names}")))
            }
        }
    }

    fn shorts<'w>(
        &self,
        letters: &str,
        words: &mut impl Iterator<Item = &'w String>,
        given: &mut Vec<(&'static str, String)>,
    ) -> Result<(), Failure> {
        for (at, letter) in letters.char_indices() {
            let Some(opt) = self.table.iter().find(|opt| opt.short == Some(letter)) else {
                return Err(self.refuse(format!("invalid option -- '{letter}'")));
            };
            if opt.value.is_none() || opt.optional {
                given.push((opt.long, String::new()));
                continue;
            }
            let rest = &letters[at + letter.len_utf8()..];
            let value = match rest {
                "" => words
                    .next()
                    .ok_or_else(|| {
                        self.refuse(format!("option requires an argument -- '{letter}'"))
                    })?
                    .clone(),
                rest => rest.to_owned(),
            };
            given.push((opt.long, value));
            break;
        }
        Ok(())
    }

    /// A complaint in `getopt`'s form: the program with its command, then where to find help.
    fn refuse(&self, text: String) -> Failure {
        Failure::usage(format!("{}: {text}", self.program), self.program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: &[Opt] = &[
        flag('q', "quiet", ""),
        takes('b', "backing", "FILE", ""),
        takes('F', "backing-format", "FMT", ""),
        takes(NO_SHORT, "object", "OBJDEF", ""),
    ];

    static OWN: &[Opt] = &[may_take('p', "progress", "KIND", "")];

    #[test]
    fn a_value_that_can_be_left_out_is_attached() {
        let args = parse(&["-p", "a", "--progress", "b"]).expect("all are known");
        assert_eq!((args.value("progress"), args.operands.len()), (Some(""), 2));
        let args = parse(&["--progress=json", "a"]).expect("all are known");
        assert_eq!(args.value("progress"), Some("json"));
    }

    fn parse(words: &[&str]) -> Result<Args, String> {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        Args::parse("prog cmd", &[TABLE, OWN], &words).map_err(|f| f.to_string())
    }

    #[test]
    fn options_and_operands_mix() {
        let args =
            parse(&["a", "-qb", "base", "--object=x=1", "--backing-f", "raw", "b", "--", "-q"])
                .expect("all are known");
        assert!(args.has("quiet"));
        assert_eq!(args.value("backing"), Some("base"));
        assert_eq!(args.value("object"), Some("x=1"));
        assert_eq!(args.value("backing-format"), Some("raw"));
        assert_eq!(args.operands, ["a", "b", "-q"]);
    }

    #[test]
    fn complaints_are_those_of_getopt() {
        let cases = [
            (&["-z"][..], "prog cmd: invalid option -- 'z'"),
            (&["-b"], "prog cmd: option requires an argument -- 'b'"),
            (&["--foo"], "prog cmd: unrecognized option '--foo'"),
            (&["--object"], "prog cmd: option '--object' requires an argument"),
            (&["--quiet=1"], "prog cmd: option '--quiet' doesn't allow an argument"),
            (
                &["--back"],
                "prog cmd: option '--back' is ambiguous; possibilities: '--backing' '--backing-format'",
            ),
        ];
        for (words, text) in cases {
            let complaint = parse(words).err().expect("it is refused");
            assert_eq!(complaint, format!("{text}\nTry 'prog cmd --help' for more info"));
        }
    }
}
