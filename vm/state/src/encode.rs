//! Byte form of a [`Value`]: a tag, a length or number in LEB128, the contents.

use crate::Value;
use std::fmt;

const UNSIGNED: u8 = 0;
const BYTES: u8 = 1;
const LIST: u8 = 2;
const RECORD: u8 = 3;

/// Values nested deeper are refused; the deepest device nests four levels.
const MAX_DEPTH: u32 = 32;

/// The stream is cut short or malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Byte offset of what cannot be read.
    pub offset: usize,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "saved state is damaged at byte {}", self.offset)
    }
}

impl std::error::Error for DecodeError {}

/// The bytes of `value`.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, value);
    out
}

/// The value in `bytes`, which must hold exactly one.
///
/// # Errors
/// Damaged or cut short; a length that exceeds the stream is found before anything is allocated.
pub fn decode(bytes: &[u8]) -> Result<Value, DecodeError> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.value(0)?;
    if reader.at == bytes.len() { Ok(value) } else { Err(reader.error()) }
}

fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Unsigned(v) => {
            out.push(UNSIGNED);
            put_number(out, *v);
        }
        Value::Bytes(b) => {
            out.push(BYTES);
            put_number(out, b.len() as u128);
            out.extend_from_slice(b);
        }
        Value::List(items) => {
            out.push(LIST);
            put_number(out, items.len() as u128);
            items.iter().for_each(|item| put(out, item));
        }
        Value::Record(fields) => {
            out.push(RECORD);
            put_number(out, fields.len() as u128);
            for (number, item) in fields {
                put_number(out, u128::from(*number));
                put(out, item);
            }
        }
    }
}

fn put_number(out: &mut Vec<u8>, mut v: u128) {
    while v >= 0x80 {
        out.push((v & 0x7f) as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn error(&self) -> DecodeError {
        DecodeError { offset: self.at }
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.error())?;
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u128, DecodeError> {
        let (mut value, mut shift) = (0u128, 0u32);
        loop {
            let byte = self.byte()?;
            let bits = u128::from(byte & 0x7f);
            if shift >= 126 && bits > 3 || shift > 126 {
                return Err(self.error());
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// A count of things that take at least a byte each.
    fn count(&mut self) -> Result<usize, DecodeError> {
        let n = self.number()?;
        if n > (self.bytes.len() - self.at) as u128 {
            return Err(self.error());
        }
        Ok(n as usize)
    }

    fn value(&mut self, depth: u32) -> Result<Value, DecodeError> {
        if depth > MAX_DEPTH {
            return Err(self.error());
        }
        match self.byte()? {
            UNSIGNED => Ok(Value::Unsigned(self.number()?)),
            BYTES => {
                let n = self.count()?;
                let bytes = self.bytes[self.at..self.at + n].to_vec();
                self.at += n;
                Ok(Value::Bytes(bytes))
            }
            LIST => {
                let n = self.count()?;
                (0..n).map(|_| self.value(depth + 1)).collect::<Result<_, _>>().map(Value::List)
            }
            RECORD => {
                let n = self.count()?;
                let mut fields = Vec::new();
                for _ in 0..n {
                    let number = u16::try_from(self.number()?).map_err(|_| self.error())?;
                    fields.push((number, self.value(depth + 1)?));
                }
                Ok(Value::Record(fields))
            }
            _ => Err(DecodeError { offset: self.at - 1 }),
        }
    }
}
