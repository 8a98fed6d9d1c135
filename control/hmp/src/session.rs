//! One monitor: bytes in, bytes out.

use crate::commands::{self, COMMANDS};
use crate::dump::Format;
use crate::editor::{Editor, Typed};
use crate::info::TOPICS;
use crate::target::{Action, MonitorTarget};
use std::fmt::Write;
use std::sync::Arc;

/// The version of QEMU whose monitor this is.
pub(crate) const QEMU_VERSION: &str = "10.0.2";

const PROMPT: &[u8] = b"(qemu) ";

/// A monitor, without the stream it is on.
pub struct Session {
    editor: Editor,
    pub(crate) target: Arc<dyn MonitorTarget>,
    /// Name and version of the product, after the version in `info version`.
    pub(crate) product: String,
    pub(crate) cpu: usize,
    pub(crate) format: Format,
    /// What the last command asks of the machine, done when its line proved to be right.
    pub(crate) pending: Option<Action>,
}

impl Session {
    /// A monitor of `target`; `product` names the program, such as ` (Tinamou 0.1.0)`.
    pub fn new(target: Arc<dyn MonitorTarget>, product: &str) -> Self {
        let (editor, format) = (Editor::default(), Format::default());
        Self { editor, target, product: product.to_owned(), cpu: 0, format, pending: None }
    }

    /// What is shown to who connects.
    pub fn greeting(&self) -> Vec<u8> {
        let mut out = format!("QEMU {QEMU_VERSION} monitor - type 'help' for more information\r\n")
            .into_bytes();
        out.extend(PROMPT);
        out
    }

    /// What is shown to who comes back: the prompt, and the line so far.
    pub fn welcome_back(&mut self) -> Vec<u8> {
        let mut out = PROMPT.to_vec();
        self.editor.show(&mut out);
        out
    }

    /// Takes bytes typed, and returns bytes to show.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for byte in bytes {
            match self.editor.feed(*byte, &mut out) {
                Typed::Nothing => {}
                Typed::Complete => self.complete(&mut out),
                Typed::Line(line) => {
                    let text = self.run(&line);
                    push_lines(&mut out, &text);
                    out.extend(PROMPT);
                }
            }
        }
        out
    }

    /// Runs one command and returns what it says, with `\n` line ends.
    pub fn run(&mut self, line: &str) -> String {
        self.pending = None;
        let mut text = commands::run(self, line);
        // Anything said is a complaint when an action is due: then it is not done.
        if let Some(action) = self.pending.take().filter(|_| text.is_empty()) {
            let mark = if matches!(action, Action::Commit(_)) { "" } else { "Error: " };
            if let Err(why) = self.target.act(action) {
                let _ = writeln!(text, "{mark}{why}");
            }
        }
        text
    }

    pub(crate) fn history(&self) -> String {
        let lines = self.editor.history().iter().enumerate();
        lines.fold(String::new(), |mut text, (number, line)| {
            let _ = writeln!(text, "{number}: '{line}'");
            text
        })
    }

    /// Completes the name of a command or of a subject of `info`.
    fn complete(&mut self, out: &mut Vec<u8>) {
        let head = self.editor.head();
        let mut words = head.split_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next());
        let (start, names): (&str, Vec<&str>) = match (first, second) {
            ("info", None) if head.ends_with(' ') => ("", TOPICS.iter().map(|r| r.name).collect()),
            ("info", Some(word)) if !head.ends_with(' ') => {
                (word, TOPICS.iter().map(|r| r.name).collect())
            }
            (_, None) if !head.ends_with(' ') => {
                (first, COMMANDS.iter().flat_map(|c| c.names.split('|')).collect())
            }
            _ => return,
        };
        let fitting: Vec<&str> = names.into_iter().filter(|n| n.starts_with(start)).collect();
        let Some(common) = common_start(&fitting) else { return };
        self.editor.insert(&common.as_bytes()[start.len()..]);
        if fitting.len() == 1 {
            self.editor.insert(b" ");
        } else if common.len() == start.len() {
            push_lines(out, &format!("\n{}\n", fitting.join(" ")));
            out.extend(PROMPT);
            self.editor.show(out);
            return;
        }
        self.editor.refresh(out);
    }
}

fn common_start<'a>(names: &[&'a str]) -> Option<&'a str> {
    let first = *names.first()?;
    let same = |name: &&str| first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    let length = names.iter().map(same).min()?;
    first.get(..length)
}

/// Adds text with the line ends a raw terminal needs.
fn push_lines(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        if byte == b'\n' {
            out.push(b'\r');
        }
        out.push(byte);
    }
}
