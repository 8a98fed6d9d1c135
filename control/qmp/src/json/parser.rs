//! Tokens to a value.

use super::lexer::{Token, TokenKind};
use serde_json::{Map, Number, Value};

/// Makes one value of all the tokens; what follows a complete value does not count.
///
/// # Errors
/// What is wrong, without "JSON parse error".
pub fn parse(tokens: &[Token], text: &[u8]) -> Result<Value, String> {
    Parser { tokens: tokens.iter(), text }.value()
}

struct Parser<'a> {
    tokens: std::slice::Iter<'a, Token>,
    text: &'a [u8],
}

const NO_VALUE: &str = "expecting value";

impl<'a> Parser<'a> {
    fn next(&mut self) -> Result<Token, String> {
        self.tokens.next().copied().ok_or_else(|| "premature EOI".to_owned())
    }

    fn peek(&self) -> Option<TokenKind> {
        self.tokens.as_slice().first().map(|token| token.kind)
    }

    fn text(&self, token: Token) -> &'a [u8] {
        self.text.get(token.start as usize..token.end as usize).unwrap_or_default()
    }

    /// The nesting is bounded by the reader.
    fn value(&mut self) -> Result<Value, String> {
        let token = self.next()?;
        match token.kind {
            TokenKind::OpenBrace => self.object(),
            TokenKind::OpenBracket => self.array(),
            TokenKind::Text => text_of(self.text(token)).map(Value::String),
            TokenKind::Integer | TokenKind::Float => number(self.text(token), token.kind),
            TokenKind::Word => match self.text(token) {
                b"null" => Ok(Value::Null),
                b"true" => Ok(Value::Bool(true)),
                b"false" => Ok(Value::Bool(false)),
                word => Err(format!("invalid keyword '{}'", String::from_utf8_lossy(word))),
            },
            _ => Err(NO_VALUE.to_owned()),
        }
    }

    fn object(&mut self) -> Result<Value, String> {
        let mut members = Map::new();
        if self.peek() == Some(TokenKind::CloseBrace) {
            self.next()?;
            return Ok(Value::Object(members));
        }
        loop {
            let Value::String(key) = self.value()? else {
                return Err("key is not a string in object".to_owned());
            };
            if self.next()?.kind != TokenKind::Colon {
                return Err("missing : in object pair".to_owned());
            }
            let value = self.value()?;
            if members.insert(key, value).is_some() {
                return Err("duplicate key".to_owned());
            }
            match self.next()?.kind {
                TokenKind::Comma => {}
                TokenKind::CloseBrace => return Ok(Value::Object(members)),
                _ => return Err("expected separator in dict".to_owned()),
            }
        }
    }

    fn array(&mut self) -> Result<Value, String> {
        let mut elements = Vec::new();
        if self.peek() == Some(TokenKind::CloseBracket) {
            self.next()?;
            return Ok(Value::Array(elements));
        }
        loop {
            elements.push(self.value()?);
            match self.next()?.kind {
                TokenKind::Comma => {}
                TokenKind::CloseBracket => return Ok(Value::Array(elements)),
                _ => return Err("expected separator in list".to_owned()),
            }
        }
    }
}

/// A number; one too large for 64 bits is a float.
fn number(text: &[u8], kind: TokenKind) -> Result<Value, String> {
    let text = String::from_utf8_lossy(text);
    if kind == TokenKind::Integer {
        if let Ok(number) = text.parse::<i64>() {
            return Ok(number.into());
        }
        if let Ok(number) = text.parse::<u64>() {
            return Ok(number.into());
        }
    }
    let float = text.parse().ok().and_then(Number::from_f64);
    float.map(Value::Number).ok_or_else(|| format!("number '{text}' is out of range"))
}

/// The text that a token in quotes stands for.
fn text_of(token: &[u8]) -> Result<String, String> {
    let inner = token.get(1..token.len().saturating_sub(1)).unwrap_or_default();
    let mut text = String::with_capacity(inner.len());
    let mut at = 0;
    while let Some(byte) = inner.get(at) {
        if *byte != b'\\' {
            let plain = inner[at..].iter().position(|b| *b == b'\\').unwrap_or(inner.len() - at);
            push_plain(&inner[at..at + plain], &mut text)?;
            at += plain;
            continue;
        }
        let (c, used) = escape(&token[at + 1..])?;
        text.push(c);
        at += used;
    }
    Ok(text)
}

fn push_plain(bytes: &[u8], text: &mut String) -> Result<(), String> {
    let invalid = || "invalid UTF-8 sequence in string".to_owned();
    // NUL may be written in two bytes, as Java does it.
    let mut parts = bytes.split_inclusive(|b| *b == 0xc0);
    let mut rest = parts.next();
    while let Some(part) = rest {
        rest = parts.next();
        let plain = match part.strip_suffix(&[0xc0]) {
            Some(plain) => {
                let after = rest.and_then(|r| r.strip_prefix(&[0x80])).ok_or_else(invalid)?;
                rest = Some(after);
                Some(plain)
            }
            None => None,
        };
        let checked = std::str::from_utf8(plain.unwrap_or(part)).map_err(|_| invalid())?;
        if checked.chars().any(|c| !character(u32::from(c))) {
            return Err(invalid());
        }
        text.push_str(checked);
        if plain.is_some() {
            text.push('\0');
        }
    }
    Ok(())
}

/// Whether a code point is one that text can have: neither half of a pair nor reserved for none.
fn character(code: u32) -> bool {
    char::from_u32(code).is_some() && !(0xfdd0..=0xfdef).contains(&code) && code & 0xfffe != 0xfffe
}

/// The character of an escape sequence, and how many bytes it takes. The closing quote is there, so
/// that the text shown for a wrong one ends with it.
fn escape(bytes: &[u8]) -> Result<(char, usize), String> {
    let c = match bytes.get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(byte @ (b'"' | b'\'' | b'\\' | b'/')) => char::from(*byte),
        Some(b'u') => return unicode(bytes),
        _ => return Err("invalid escape sequence in string".to_owned()),
    };
    Ok((c, 2))
}

fn unicode(bytes: &[u8]) -> Result<(char, usize), String> {
    let invalid = || {
        let shown = bytes.get(..bytes.len().min(6)).unwrap_or_default();
        format!("{} is not a valid Unicode character", String::from_utf8_lossy(shown))
    };
    let first = hex(bytes).ok_or_else(invalid)?;
    let (code, used) = match first {
        0xd800..=0xdbff => {
            let second = bytes.get(6..).and_then(hex);
            let second = second.filter(|s| (0xdc00..=0xdfff).contains(s)).ok_or_else(invalid)?;
            (0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12)
        }
        _ => (first, 6),
    };
    if !character(code) {
        return Err(invalid());
    }
    char::from_u32(code).map(|c| (c, used)).ok_or_else(invalid)
}

/// The number in `\uXXXX`.
fn hex(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
}
