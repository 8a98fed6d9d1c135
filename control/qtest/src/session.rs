//! Commands and their replies.

use crate::{LineListener, Pins, QtestTarget};
use options::base64;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// Longest block that one command moves.
const MAX_BLOCK: u64 = 64 << 20;
/// Longest line; a longer one is refused and skipped.
const MAX_LINE: usize = 3 * MAX_BLOCK as usize;

/// Where replies and messages go, in order. Clones are the same.
#[derive(Clone)]
pub struct Outbox(Arc<dyn Fn(&str) + Send + Sync>);

impl Outbox {
    /// An outbox that hands lines (with their line end) to `send`, which may be called with locks of
    /// devices held.
    pub fn new(send: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(send))
    }

    /// An outbox that collects, and what it has collected.
    pub fn collecting() -> (Self, Arc<Mutex<String>>) {
        let lines = Arc::new(Mutex::new(String::new()));
        let theirs = Arc::clone(&lines);
        let outbox = Self::new(move |line| {
            theirs.lock().unwrap_or_else(PoisonError::into_inner).push_str(line);
        });
        (outbox, lines)
    }

    fn send(&self, line: &str) {
        (self.0)(line);
    }
}

/// One side of the protocol, without the stream it is on.
pub struct Session {
    target: Arc<dyn QtestTarget>,
    outbox: Outbox,
    line: Vec<u8>,
    /// The line is too long; the rest of it is skipped.
    skipping: bool,
    /// The device whose lines are intercepted, and which ones.
    intercepted: Option<(String, Pins)>,
}

/// A reply: what follows `OK`, or a whole line that says what went wrong.
type Reply = Result<String, String>;

/// A command, by its name.
type Command = fn(&mut Session, &[&str]) -> Reply;

#[rustfmt::skip]
const COMMANDS: &[(&str, Command)] = &[
    ("endianness", |s, _| Ok(if s.target.is_big_endian() { "big" } else { "little" }.into())),
    ("readb", |s, w| s.load(w, 1)),
    ("readw", |s, w| s.load(w, 2)),
    ("readl", |s, w| s.load(w, 4)),
    ("readq", |s, w| s.load(w, 8)),
    ("writeb", |s, w| s.store(w, 1)),
    ("writew", |s, w| s.store(w, 2)),
    ("writel", |s, w| s.store(w, 4)),
    ("writeq", |s, w| s.store(w, 8)),
    ("read", |s, w| Ok(hex(&s.read(w)?))),
    ("b64read", |s, w| Ok(base64::encode(&s.read(w)?))),
    ("write", Session::write_hex),
    ("b64write", Session::write_base64),
    ("memset", Session::fill),
    ("inb", |s, w| s.port_in(w, 1)),
    ("inw", |s, w| s.port_in(w, 2)),
    ("inl", |s, w| s.port_in(w, 4)),
    ("outb", |s, w| s.port_out(w, 1)),
    ("outw", |s, w| s.port_out(w, 2)),
    ("outl", |s, w| s.port_out(w, 4)),
    ("irq_intercept_in", |s, w| s.intercept(w, Pins::In)),
    ("irq_intercept_out", |s, w| s.intercept(w, Pins::Out)),
    ("irq_intercept_out_named", |s, w| s.intercept(w, Pins::Out)),
    ("set_irq_in", Session::set_line),
    ("clock_step", Session::clock_step),
    ("clock_set", Session::clock_set),
];

impl Session {
    /// A session that drives `target`.
    pub fn new(target: Arc<dyn QtestTarget>, outbox: Outbox) -> Self {
        Self { target, outbox, line: Vec::new(), skipping: false, intercepted: None }
    }

    /// Takes bytes of commands; `note` hears every line that is complete, for a log.
    pub fn feed(&mut self, bytes: &[u8], note: &mut dyn FnMut(&str)) {
        for byte in bytes {
            if *byte != b'\n' {
                self.skipping |= self.line.len() >= MAX_LINE;
                if !self.skipping {
                    self.line.push(*byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if std::mem::take(&mut self.skipping) {
                self.outbox.send("FAIL line is too long\n");
                continue;
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            note(line);
            self.run(line);
        }
    }

    /// Does one command and sends its reply.
    pub fn run(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, arguments) = words.split_first().map_or(("", &[][..]), |(n, rest)| (*n, rest));
        let reply = match COMMANDS.iter().find(|(known, _)| *known == name) {
            Some((_, command)) => command(self, arguments),
            None => Err(format!("FAIL Unknown command '{name}'")),
        };
        let line = match reply {
            Ok(text) if text.is_empty() => "OK\n".to_owned(),
            Ok(text) => format!("OK {text}\n"),
            Err(text) => text + "\n",
        };
        self.outbox.send(&line);
    }

    fn load(&self, words: &[&str], size: u32) -> Reply {
        let address = number(words, 0, "address")?;
        Ok(format!("{:#018x}", self.target.load(address, size)))
    }

    fn store(&self, words: &[&str], size: u32) -> Reply {
        let (address, value) = (number(words, 0, "address")?, number(words, 1, "value")?);
        self.target.store(address, size, value & (u64::MAX >> (64 - 8 * size)));
        Ok(String::new())
    }

    fn read(&self, words: &[&str]) -> Result<Vec<u8>, String> {
        let (address, size) = block(words)?;
        let mut buffer = vec![0; size];
        self.target.read(address, &mut buffer);
        Ok(buffer)
    }

    /// Writes hexadecimal data; what is missing is zero, what is no digit counts as zero.
    fn write_hex(&mut self, words: &[&str]) -> Reply {
        let address = number(words, 0, "address")?;
        let text = *words.get(2).ok_or("FAIL data is missing")?;
        if number(words, 1, "size")? == 0 {
            return Err("ERR invalid argument size".to_owned());
        }
        let (_, size) = block(words)?;
        let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
        let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or(0) as u8;
        let mut bytes = vec![0; size];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = digit(&pair[0]) << 4 | pair.get(1).map_or(0, digit);
        }
        self.target.write(address, &bytes);
        Ok(String::new())
    }

    fn write_base64(&mut self, words: &[&str]) -> Reply {
        let (address, size) = block(words)?;
        let text = *words.get(2).ok_or("FAIL data is missing")?;
        let mut bytes = base64::decode(text).ok_or("FAIL data is no Base64")?;
        bytes.truncate(size);
        self.target.write(address, &bytes);
        Ok(String::new())
    }

    fn fill(&mut self, words: &[&str]) -> Reply {
        let (address, pattern) = (number(words, 0, "address")?, number(words, 2, "pattern")?);
        if number(words, 1, "size")? == 0 {
            return Ok(String::new());
        }
        let (_, size) = block(words)?;
        self.target.write(address, &vec![pattern.to_le_bytes()[0]; size]);
        Ok(String::new())
    }

    fn port_in(&self, words: &[&str], size: u32) -> Reply {
        let port = port(words)?;
        let width = if size == 4 { 10 } else { 6 };
        Ok(format!("{:#0width$x}", self.target.port_in(port, size)))
    }

    fn port_out(&self, words: &[&str], size: u32) -> Reply {
        let value = number(words, 1, "value")? & (u64::MAX >> (64 - 8 * size));
        self.target.port_out(port(words)?, size, u32::try_from(value).unwrap_or(u32::MAX));
        Ok(String::new())
    }

    fn intercept(&mut self, words: &[&str], pins: Pins) -> Reply {
        let path = *words.first().ok_or("FAIL device is missing")?;
        if let Some((known, which)) = &self.intercepted {
            return if (known.as_str(), *which) == (path, pins) {
                Ok(String::new())
            } else {
                Err("FAIL IRQ intercept already enabled".to_owned())
            };
        }
        let outbox = self.outbox.clone();
        let listener: LineListener = Arc::new(move |number, level| {
            let verb = if level { "raise" } else { "lower" };
            outbox.send(&format!("IRQ {verb} {number}\n"));
        });
        let name = words.get(1).copied();
        self.target.intercept(path, pins, name, listener).map_err(|why| format!("FAIL {why}"))?;
        self.intercepted = Some((path.to_owned(), pins));
        Ok(String::new())
    }

    fn set_line(&mut self, words: &[&str]) -> Reply {
        let [path, name, ..] = words else {
            return Err("FAIL device or name is missing".to_owned());
        };
        let (line, level) = (number(words, 2, "number")?, number(words, 3, "level")?);
        let line = u32::try_from(line).map_err(|_| "FAIL number is out of range".to_owned())?;
        let done = self.target.set_line(path, name, line, level);
        done.map(|()| String::new()).map_err(|why| format!("FAIL {why}"))
    }

    /// Moves the clock on by so many ns, or to the next timer.
    fn clock_step(&mut self, words: &[&str]) -> Reply {
        let now = self.target.now_ns();
        let to = match words.first() {
            Some(_) => now.saturating_add(number(words, 0, "ns")?),
            None => self.target.next_deadline_ns().unwrap_or(now).max(now),
        };
        self.clock_to(to)
    }

    /// Moves the clock on to a time; it never goes back.
    fn clock_set(&mut self, words: &[&str]) -> Reply {
        self.clock_to(number(words, 0, "ns")?)
    }

    fn clock_to(&mut self, time: u64) -> Reply {
        if time > self.target.now_ns() {
            self.target.advance_to_ns(time);
        }
        Ok(self.target.now_ns().to_string())
    }
}

fn number(words: &[&str], at: usize, what: &str) -> Result<u64, String> {
    let text = *words.get(at).ok_or_else(|| format!("FAIL {what} is missing"))?;
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    if let Some(positive) = text.strip_prefix('-') {
        // As strtoull(3): a negative number is its two's complement.
        if let Ok(value) = positive.parse::<u64>() {
            return Ok(value.wrapping_neg());
        }
    }
    u64::from_str_radix(digits, radix)
        .map_err(|_| format!("FAIL {what} '{text}' is no number below 2^64"))
}

/// Address and size of a block that is not empty and not too long.
fn block(words: &[&str]) -> Result<(u64, usize), String> {
    let (address, size) = (number(words, 0, "address")?, number(words, 1, "size")?);
    let fits = usize::try_from(size).ok().filter(|_| (1..=MAX_BLOCK).contains(&size));
    fits.map(|size| (address, size))
        .ok_or_else(|| format!("FAIL size must be from 1 to {MAX_BLOCK}"))
}

fn port(words: &[&str]) -> Result<u16, String> {
    let port = number(words, 0, "port")?;
    u16::try_from(port).map_err(|_| "FAIL port is above 65535".to_owned())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("0x");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
