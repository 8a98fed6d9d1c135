//! JSON as it comes from a monitor's client: a stream that is bounded and that survives errors.
//!
//! Source: RFC 8259, "QEMU Machine Protocol Specification" (single quotes are as good as double ones;
//! a control character brings the reader back to a known state), and QEMU 10.0's answers to bad
//! input. Values that a format's name suggests elsewhere (`%d`) are no JSON here.

mod lexer;
mod parser;
mod print;

pub use print::{compact, pretty};

use lexer::{Lexeme, Lexer, Token, TokenKind};
use serde_json::Value;

/// Deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 1024;
/// Most tokens of one value.
pub const MAX_TOKENS: usize = 2 << 20;
/// Most bytes of one value.
pub const MAX_BYTES: usize = 64 << 20;

/// Cuts a stream of bytes into values.
#[derive(Default)]
pub struct Reader {
    lexer: Lexer,
    /// Tokens of the value that is not complete yet; their texts are in `text`.
    tokens: Vec<Token>,
    text: Vec<u8>,
    /// Braces and brackets that are open.
    braces: isize,
    brackets: isize,
}

/// A value, or why there is none: the text for the client.
pub type Outcome = Result<Value, String>;

impl Reader {
    /// Takes bytes up to the end of the first value or error among them: how many it took, and
    /// what it found. All are taken when it found nothing.
    pub fn feed(&mut self, bytes: &[u8]) -> (usize, Option<Outcome>) {
        let mut taken = 0;
        while let Some(byte) = bytes.get(taken) {
            let (used, lexeme) = self.lexer.step(*byte, &mut self.text);
            taken += usize::from(used);
            if let Some(found) = lexeme.and_then(|lexeme| self.take(lexeme)) {
                return (taken, Some(found));
            }
            if self.text.len() > MAX_BYTES {
                self.lexer.recover();
                return (taken, Some(self.give_up("JSON token size limit exceeded".to_owned())));
            }
        }
        (taken, None)
    }

    /// Says that the stream ends here: a number at its end is complete now, and anything else
    /// that began is not.
    pub fn end(&mut self) -> Option<Outcome> {
        let (_, lexeme) = self.lexer.step(b'\n', &mut self.text);
        let found = lexeme.and_then(|lexeme| self.take(lexeme));
        let rest = std::mem::take(self);
        found.or_else(|| (!rest.tokens.is_empty()).then(|| rest.parsed()))
    }

    fn parsed(&self) -> Outcome {
        parser::parse(&self.tokens, &self.text).map_err(|why| format!("JSON parse error, {why}"))
    }

    fn take(&mut self, lexeme: Lexeme) -> Option<Outcome> {
        let token = match lexeme {
            Lexeme::Token(token) => token,
            Lexeme::Stray(text) => {
                return Some(self.give_up(format!("JSON parse error, stray '{text}'")));
            }
        };
        match token.kind {
            TokenKind::OpenBrace => self.braces += 1,
            TokenKind::CloseBrace => self.braces -= 1,
            TokenKind::OpenBracket => self.brackets += 1,
            TokenKind::CloseBracket => self.brackets -= 1,
            _ => {}
        }
        self.tokens.push(token);
        if self.tokens.len() > MAX_TOKENS {
            return Some(self.give_up("JSON token count limit exceeded".to_owned()));
        }
        let open = self.braces + self.brackets;
        if usize::try_from(open).is_ok_and(|open| open > MAX_DEPTH) {
            return Some(self.give_up("JSON nesting depth limit exceeded".to_owned()));
        }
        let waits =
            (self.braces > 0 || self.brackets > 0) && self.braces >= 0 && self.brackets >= 0;
        if waits {
            return None;
        }
        let found = self.parsed();
        self.forget();
        Some(found)
    }

    fn give_up(&mut self, why: String) -> Outcome {
        self.forget();
        Err(why)
    }

    fn forget(&mut self) {
        // A large value does not keep its memory.
        (self.tokens, self.text) = Default::default();
        (self.braces, self.brackets) = (0, 0);
    }
}

/// Reads a text that is one value.
///
/// # Errors
/// The text for the user.
pub fn parse(text: &str) -> Outcome {
    let mut reader = Reader::default();
    let (taken, found) = reader.feed(text.as_bytes());
    let found = found.or_else(|| reader.end());
    let rest = text.as_bytes().get(taken..).unwrap_or_default();
    match found {
        Some(Ok(_)) if !rest.trim_ascii().is_empty() => {
            Err("JSON parse error, expected end of input".to_owned())
        }
        Some(found) => found,
        None => Err("JSON parse error, premature EOI".to_owned()),
    }
}

#[cfg(test)]
mod tests;
