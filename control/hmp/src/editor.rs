//! A line editor for a stream of bytes: emacs-like keys, history, completion.

/// Lines kept.
const HISTORY: usize = 64;
/// Longest line; more is not taken.
const MAX_LINE: usize = 4095;

/// Where in an escape sequence the input is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Plain,
    /// After ESC.
    Escape,
    /// After ESC [, with the number so far.
    Csi(u32),
    /// After ESC O.
    Ss3,
}

/// What a byte led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// Nothing beyond what is shown.
    Nothing,
    /// A whole line.
    Line(String),
    /// Completion is asked for.
    Complete,
}

/// The line being typed, and those before it.
#[derive(Debug, Default)]
pub(crate) struct Editor {
    line: Vec<u8>,
    cursor: usize,
    /// Column of the cursor as the terminal has it.
    shown: usize,
    history: Vec<String>,
    /// Place in the history while going through it; its length otherwise.
    place: usize,
    state: State,
}

impl Editor {
    /// The line up to the cursor.
    pub fn head(&self) -> String {
        String::from_utf8_lossy(&self.line[..self.cursor]).into_owned()
    }

    /// Lines typed before, oldest first.
    pub fn history(&self) -> &[String] {
        &self.history
    }

    /// Takes one byte; what the terminal must show goes to `out`.
    pub fn feed(&mut self, byte: u8, out: &mut Vec<u8>) -> Typed {
        let typed = match self.state {
            State::Plain => self.plain(byte, out),
            State::Escape => {
                self.escape(byte);
                Typed::Nothing
            }
            State::Csi(number) => {
                self.csi(byte, number);
                Typed::Nothing
            }
            State::Ss3 => {
                self.state = State::Plain;
                self.arrow(byte);
                Typed::Nothing
            }
        };
        if typed == Typed::Nothing && self.state == State::Plain {
            self.refresh(out);
        }
        typed
    }

    fn plain(&mut self, byte: u8, out: &mut Vec<u8>) -> Typed {
        match byte {
            1 => self.cursor = 0,
            2 => self.cursor = self.cursor.saturating_sub(1),
            4 => self.delete(),
            5 => self.cursor = self.line.len(),
            6 => self.cursor = (self.cursor + 1).min(self.line.len()),
            8 | 127 => self.backspace(),
            b'\t' => return Typed::Complete,
            b'\r' | b'\n' => return self.enter(out),
            11 => self.line.truncate(self.cursor),
            12 => {
                out.extend(b"\x1b[2J\x1b[1;1H");
                self.shown = usize::MAX;
            }
            14 => self.recall(self.place.saturating_add(1)),
            16 => self.recall(self.place.wrapping_sub(1)),
            21 => {
                self.line.drain(..self.cursor);
                self.cursor = 0;
            }
            23 => self.kill_word(),
            27 => self.state = State::Escape,
            32..=126 | 128.. => self.insert(&[byte]),
            _ => {}
        }
        Typed::Nothing
    }

    fn escape(&mut self, byte: u8) {
        self.state = match byte {
            b'[' => State::Csi(0),
            b'O' => State::Ss3,
            _ => State::Plain,
        };
    }

    fn csi(&mut self, byte: u8, number: u32) {
        if byte.is_ascii_digit() {
            let number = number.saturating_mul(10).saturating_add(u32::from(byte - b'0'));
            self.state = State::Csi(number);
            return;
        }
        self.state = State::Plain;
        match (byte, number) {
            (b'~', 1 | 7) => self.cursor = 0,
            (b'~', 4 | 8) => self.cursor = self.line.len(),
            (b'~', 3) => self.delete(),
            (b'~', _) => {}
            _ => self.arrow(byte),
        }
    }

    fn arrow(&mut self, byte: u8) {
        match byte {
            b'A' => self.recall(self.place.wrapping_sub(1)),
            b'B' => self.recall(self.place.saturating_add(1)),
            b'C' => self.cursor = (self.cursor + 1).min(self.line.len()),
            b'D' => self.cursor = self.cursor.saturating_sub(1),
            b'H' => self.cursor = 0,
            b'F' => self.cursor = self.line.len(),
            _ => {}
        }
    }

    /// Puts text in at the cursor.
    pub fn insert(&mut self, text: &[u8]) {
        if self.line.len() + text.len() > MAX_LINE {
            return;
        }
        self.line.splice(self.cursor..self.cursor, text.iter().copied());
        self.cursor += text.len();
    }

    fn backspace(&mut self) {
        if self.cursor > 0 {
            self.cursor -= 1;
            self.line.remove(self.cursor);
        }
    }

    fn delete(&mut self) {
        if self.cursor < self.line.len() {
            self.line.remove(self.cursor);
        }
    }

    fn kill_word(&mut self) {
        let head = &self.line[..self.cursor];
        let word_end = head.iter().rposition(|b| *b != b' ').map_or(0, |at| at + 1);
        let start = head[..word_end].iter().rposition(|b| *b == b' ').map_or(0, |at| at + 1);
        self.line.drain(start..self.cursor);
        self.cursor = start;
    }

    fn recall(&mut self, place: usize) {
        if place > self.history.len() {
            return;
        }
        self.place = place;
        self.line = self.history.get(place).map_or_else(Vec::new, |l| l.clone().into_bytes());
        self.cursor = self.line.len();
    }

    fn enter(&mut self, out: &mut Vec<u8>) -> Typed {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        (self.cursor, self.shown) = (0, 0);
        if !line.is_empty() {
            self.history.retain(|known| *known != line);
            self.history.push(line.clone());
            if self.history.len() > HISTORY {
                self.history.remove(0);
            }
        }
        self.place = self.history.len();
        out.extend(b"\r\n");
        Typed::Line(line)
    }

    /// Shows the line so far, after a new prompt.
    pub fn show(&mut self, out: &mut Vec<u8>) {
        self.shown = 0;
        if !self.line.is_empty() {
            self.refresh(out);
        }
    }

    /// Makes the terminal show the line as it is now.
    pub fn refresh(&mut self, out: &mut Vec<u8>) {
        if self.shown == usize::MAX {
            // The screen was cleared.
            self.shown = 0;
            out.extend(b"(qemu) ");
        }
        for _ in 0..self.shown {
            out.extend(b"\x1b[D");
        }
        out.extend(&self.line);
        out.extend(b"\x1b[K");
        for _ in self.cursor..self.line.len() {
            out.extend(b"\x1b[D");
        }
        self.shown = self.cursor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<String> {
        let mut editor = Editor::default();
        let mut out = Vec::new();
        input
            .iter()
            .filter_map(|b| match editor.feed(*b, &mut out) {
                Typed::Line(line) => Some(line),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn keys_edit_the_line() {
        for (input, line) in [
            (&b"abc\x08d\r"[..], "abd"),
            (b"bc\x01a\x05d\r", "abcd"),
            (b"abc\x1b[D\x1b[D\x1b[3~\r", "ac"),
            (b"abc\x02\x02\x0b\r", "a"),
            (b"abc def \x17x\r", "abc x"),
            (b"abc\x15def\r", "def"),
            (b"b\x1bOHa\x1b[Fc\n", "abc"),
            (b"\x1b[99999999999~\x1b[A\x1b[Bx\r", "x"),
        ] {
            assert_eq!(lines(input), [line], "{input:?}");
        }
    }

    #[test]
    fn history_goes_up_and_down_without_repeats() {
        assert_eq!(lines(b"one\rtwo\r\x1b[A\x1b[A\r"), ["one", "two", "one"]);
        assert_eq!(lines(b"one\r\x10\x0ex\r"), ["one", "x"]);
        let many: Vec<u8> = (0..100).flat_map(|i| format!("l{i}\r").into_bytes()).collect();
        assert_eq!(lines(&many).len(), 100);
    }

    #[test]
    fn the_terminal_sees_what_the_original_shows() {
        let mut editor = Editor::default();
        let mut out = Vec::new();
        for byte in b"in\x02" {
            editor.feed(*byte, &mut out);
        }
        assert_eq!(out, b"i\x1b[K\x1b[Din\x1b[K\x1b[D\x1b[Din\x1b[K\x1b[D");
    }
}
