//! The rules of `blkdebug`, and the file they come from.

use graph::{Event, OpenError, SECTOR};

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoType {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Writes zeroes.
    WriteZeroes,
    /// Discards.
    Discard,
    /// Makes what was written stable.
    Flush,
    /// Asks where content is.
    BlockStatus,
}

impl IoType {
    /// Every type by its name.
    pub const TABLE: &[(&str, Self)] = &[
        ("read", Self::Read),
        ("write", Self::Write),
        ("write-zeroes", Self::WriteZeroes),
        ("discard", Self::Discard),
        ("flush", Self::Flush),
        ("block-status", Self::BlockStatus),
    ];
}

/// `inject-error`: a request fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// What puts the rule in force.
    pub event: Event,
    /// The state in which it does; 0 is any.
    pub state: u64,
    /// The request that fails; without, all but those for block status.
    pub iotype: Option<IoType>,
    /// The error; 0 lets the request pass.
    pub errno: i32,
    /// The sector that the request must touch.
    pub sector: Option<u64>,
    /// The rule is over when it has matched.
    pub once: bool,
    /// Fail before anything else happens. Requests of ours always do.
    pub immediately: bool,
}

impl Injection {
    /// Whether a request fails by this rule.
    pub(super) fn fits(&self, io: IoType, range: Option<(u64, u64)>) -> bool {
        let kind = match self.iotype {
            Some(wanted) => wanted == io,
            None => io != IoType::BlockStatus,
        };
        let place = match (self.sector, range) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(sector), Some((offset, len))) => {
                let at = sector.saturating_mul(SECTOR);
                offset <= at && at < offset.saturating_add(len)
            }
        };
        kind && place
    }
}

/// `set-state`: an event changes the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What changes it.
    pub event: Event,
    /// The state in which it does; 0 is any.
    pub state: u64,
    /// The state afterwards.
    pub new_state: u64,
}

/// Rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Which requests fail.
    pub injections: Vec<Injection>,
    /// How the state changes.
    pub transitions: Vec<Transition>,
}

/// Options of one rule.
pub type Pairs = Vec<(String, String)>;

const INJECTION: &str = "inject-error";
const TRANSITION: &str = "set-state";

impl Rules {
    /// The groups in which rules come, with the name of the group that options have.
    pub const GROUPS: &[&str] = &[INJECTION, TRANSITION];

    /// Adds a rule of `group` (one of [`Rules::GROUPS`]). The error has the name of an option that
    /// the group does not have, apart from others, for callers word it differently.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn add(&mut self, group: &str, pairs: Pairs) -> Result<(), Refusal> {
        let mut pairs = pairs;
        let mut take = |key: &str| {
            let at = pairs.iter().position(|(k, _)| k == key)?;
            Some(pairs.remove(at).1)
        };
        let event = take("event");
        let state = take("state").map_or(Ok(0), |text| number("state", &text))?;
        let (new_state, iotype, errno) = (take("new_state"), take("iotype"), take("errno"));
        let (sector, once, now) = (take("sector"), take("once"), take("immediately"));
        let own: [(&str, &Option<String>); 5] = [
            ("iotype", &iotype),
            ("errno", &errno),
            ("sector", &sector),
            ("once", &once),
            ("immediately", &now),
        ];
        if let Some((key, _)) = pairs.first() {
            return Err(Refusal::Key(key.clone()));
        }
        let foreign = if group == TRANSITION {
            own.iter().find(|(_, value)| value.is_some()).map(|(name, _)| *name)
        } else {
            new_state.as_ref().map(|_| "new_state")
        };
        if let Some(name) = foreign {
            return Err(Refusal::Key(name.to_owned()));
        }
        let once = once.map_or(Ok(false), |text| switch("once", &text))?;
        let immediately = now.map_or(Ok(false), |text| switch("immediately", &text))?;
        let errno = errno.map_or(Ok(5), |text| number("errno", &text))?;
        let sector = sector.map(|text| number("sector", &text)).transpose()?;
        let new_state = new_state.map_or(Ok(0), |text| number("new_state", &text))?;
        let event = event.ok_or_else(|| Refusal::text("Missing event name for rule"))?;
        let event = Event::named(&event).ok_or_else(|| Refusal::value(&event))?;
        if group == TRANSITION {
            self.transitions.push(Transition { event, state, new_state });
            return Ok(());
        }
        let named = |text: &str| {
            let row = IoType::TABLE.iter().find(|(name, _)| *name == text);
            row.map(|(_, io)| *io).ok_or_else(|| Refusal::value(text))
        };
        let iotype = iotype.map(|text| named(&text)).transpose()?;
        let errno = i32::try_from(errno).unwrap_or(5);
        let rule = Injection { event, state, iotype, errno, sector, once, immediately };
        self.injections.push(rule);
        Ok(())
    }

    /// Reads a rules file: groups in brackets, each with lines of `key = "value"`.
    ///
    /// # Errors
    /// `Option` with QEMU's text.
    pub fn parse(text: &str) -> Result<Self, OpenError> {
        let mut rules = Self::default();
        let mut open: Option<(&str, Pairs)> = None;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(rest) = line.strip_prefix('[') {
                rules.close(open.take())?;
                let name = rest.split([']', ' ']).next().unwrap_or_default();
                let known = Self::GROUPS.iter().find(|group| **group == name);
                let Some(group) = known else {
                    return refuse(format!("There is no option group '{name}'"));
                };
                open = Some((group, Vec::new()));
                continue;
            }
            let Some((_, pairs)) = &mut open else {
                return refuse("no group defined".to_owned());
            };
            let Some((key, value)) = line.split_once(" = ") else {
                return refuse(format!("Invalid parameter '{line}'"));
            };
            let value = value.trim().strip_prefix('"').and_then(|v| v.split('"').next());
            pairs.push((key.trim().to_owned(), value.unwrap_or_default().to_owned()));
        }
        rules.close(open)?;
        Ok(rules)
    }

    fn close(&mut self, group: Option<(&str, Pairs)>) -> Result<(), OpenError> {
        let Some((group, pairs)) = group else { return Ok(()) };
        self.add(group, pairs).map_err(|refusal| match refusal {
            Refusal::Key(key) => OpenError::Option(format!("Invalid parameter '{key}'")),
            Refusal::Text(text) => OpenError::Option(text),
        })
    }
}

/// Why a rule is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The group has no option of this name.
    Key(String),
    /// Anything else, in words.
    Text(String),
}

impl Refusal {
    fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    fn value(value: &str) -> Self {
        Self::Text(format!("invalid parameter value: {value}"))
    }
}

fn number(name: &str, text: &str) -> Result<u64, Refusal> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    parsed.ok_or_else(|| Refusal::Text(format!("Parameter '{name}' expects a number")))
}

fn switch(name: &str, text: &str) -> Result<bool, Refusal> {
    match text {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(Refusal::Text(format!("Parameter '{name}' expects 'on' or 'off'"))),
    }
}

fn refuse<T>(text: String) -> Result<T, OpenError> {
    Err(OpenError::Option(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        Rules::parse(text).map_or_else(|e| e.to_string(), |_| String::new())
    }

    #[test]
    fn files_are_read_as_the_peer_does() {
        let text = "# c\n\n[inject-error]\nevent = \"read_aio\"\nerrno = \"28\"\nonce = \"on\"\n\n\
                    [set-state \"x\"]\n event = \"write_aio\"\nstate = \"1\"\nnew_state = \"2\"\n";
        let rules = Rules::parse(text).expect("it is one");
        assert_eq!((rules.injections.len(), rules.transitions.len()), (1, 1));
        assert_eq!((rules.injections[0].errno, rules.injections[0].once), (28, true));
        assert_eq!(rules.transitions[0].new_state, 2);
        for (text, complaint) in [
            ("x\n", "no group defined"),
            ("[foo]\n", "There is no option group 'foo'"),
            ("[inject-error]\n", "Missing event name for rule"),
            ("[inject-error]\nevent=\"foo\"\n", "Invalid parameter 'event=\"foo\"'"),
            ("[inject-error]\nevent = \"foo\"\n", "invalid parameter value: foo"),
            ("[inject-error]\nevent = \"none\"\nbad = \"1\"\n", "Invalid parameter 'bad'"),
            ("[set-state]\nevent = \"none\"\nerrno = \"1\"\n", "Invalid parameter 'errno'"),
            (
                "[inject-error]\nevent = \"none\"\nerrno = \"x\"\n",
                "Parameter 'errno' expects a number",
            ),
            ("[inject-error]\nevent = read_aio\n", "invalid parameter value: "),
        ] {
            assert_eq!(said(text), complaint, "{text}");
        }
    }
}
