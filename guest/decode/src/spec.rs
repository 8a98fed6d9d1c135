//! The meaning of a specification: names looked up, bits placed, texts split.

use std::collections::BTreeMap;

use crate::cube::{Cube, Words};
use crate::error::{Errors, Place};
use crate::resolve;
use crate::syntax::{self, Source};

/// A checked specification.
#[derive(Default)]
pub struct Spec {
    /// Names of extensions, in the order of declaration.
    pub extensions: Vec<String>,
    /// Sets of extensions of which at most one is ever active.
    pub exclusive: Vec<Vec<usize>>,
    /// Extensions that bring others: all of the first, so all of the second.
    pub implies: Vec<(Vec<usize>, Vec<usize>)>,
    /// Ways to print an operand.
    pub shows: BTreeMap<String, Show>,
    /// Named sets of operands, which become structures.
    pub forms: Vec<(String, Vec<String>)>,
    /// Rust type of each operand.
    pub types: BTreeMap<String, Type>,
    /// Traits, one per file that has instructions.
    pub groups: Vec<Group>,
    /// Encodings.
    pub lines: Vec<Line>,
    /// Other names for instructions, for the disassembler only.
    pub aliases: Vec<Alias>,
    pub(crate) fields: BTreeMap<String, Field>,
}

/// How an operand is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    /// By name, from a list.
    Names(Vec<String>),
    /// By a function of the ISA's crate.
    Function,
    /// Signed decimal number.
    Decimal,
    /// Hexadecimal number with `0x`.
    Hex,
}

/// Rust type of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// Register number or small code.
    U8,
    /// Wider code.
    U16,
    /// Widest code.
    U32,
    /// Immediate, already extended and shifted.
    I64,
}

impl Type {
    /// Name in Rust.
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::I64 => "i64",
        }
    }

    /// Tells whether a value fits.
    pub fn holds(self, value: i64) -> bool {
        match self {
            Self::U8 => u8::try_from(value).is_ok(),
            Self::U16 => u16::try_from(value).is_ok(),
            Self::U32 => u32::try_from(value).is_ok(),
            Self::I64 => true,
        }
    }
}

/// A declared field of bit patterns.
pub(crate) struct Field {
    /// `Some(true)`: immediate with sign; `Some(false)`: immediate without; `None`: number of something.
    pub signed: Option<bool>,
    pub show: String,
    pub operand: String,
    pub add: i64,
    pub except: Vec<i64>,
}

/// A file's instructions.
pub struct Group {
    /// Name of the trait.
    pub name: String,
    /// File name.
    pub file: String,
    /// Decoded and printed, but with no trait yet.
    pub pending: bool,
}

/// A run of value bits in an instruction word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    /// Lowest bit in the word.
    pub from: u32,
    /// Lowest bit in the value.
    pub to: u32,
    /// Number of bits.
    pub len: u32,
}

/// Where in the word an operand is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Operand {
    /// Name in the operand structure.
    pub name: String,
    /// Its bits.
    pub parts: Vec<Part>,
    /// The highest bit is the sign.
    pub signed: bool,
    /// Added to what the bits say.
    pub add: i64,
    /// How it is printed unless the text says otherwise.
    pub show: String,
}

impl Operand {
    /// Number of value bits, with those below the lowest encoded one.
    pub fn width(&self) -> u32 {
        self.parts.iter().map(|p| p.to + p.len).max().unwrap_or(0)
    }

    /// The operand's value in `word`.
    pub fn value(&self, word: u32) -> i64 {
        let raw = self
            .parts
            .iter()
            .fold(0_u64, |v, p| v | (u64::from(word) >> p.from & ((1 << p.len) - 1)) << p.to);
        let free = 64 - self.width();
        let raw = raw << free;
        let value = if self.signed { raw as i64 >> free } else { (raw >> free) as i64 };
        value.wrapping_add(self.add)
    }

    /// The words in which the operand has a value; `None` if it never has.
    pub fn equals(&self, value: i64) -> Option<Cube> {
        let raw = value.wrapping_sub(self.add);
        let cube = self.parts.iter().fold(Cube::ALL, |c, p| {
            let ones = ((1_u64 << p.len) - 1) as u32;
            Cube {
                mask: c.mask | ones << p.from,
                value: c.value | ((raw >> p.to) as u32 & ones) << p.from,
            }
        });
        (self.value(cube.value) == value).then_some(cube)
    }

    /// Every value that the operand can have, if these are few.
    pub fn values(&self) -> Option<Vec<i64>> {
        let len: u32 = self.parts.iter().map(|p| p.len).sum();
        if len > 8 {
            return None;
        }
        let word = |n: u32| {
            let mut at = 0;
            self.parts.iter().fold(0, |w, p| {
                let bits = n >> at & ((1 << p.len) - 1);
                at += p.len;
                w | bits << p.from
            })
        };
        Some((0..1 << len).map(|n| self.value(word(n))).collect())
    }
}

/// Part of a disassembly text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Printed as it is.
    Literal(String),
    /// Operand name and way to print it (empty: the operand's own).
    Operand(String, String),
}

/// What a structure's field is filled with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// From the instruction word.
    Field(Operand),
    /// A constant.
    Number(i64),
}

/// One encoding.
pub struct Line {
    /// Where it is written.
    pub place: Place,
    /// Mnemonic as written.
    pub name: String,
    /// Mnemonic as printed.
    pub mnemonic: Vec<Piece>,
    /// Name of the trait's method.
    pub method: String,
    /// Index of the file's group.
    pub group: usize,
    /// Extensions needed: one of each list.
    pub need: Vec<Vec<usize>>,
    /// Bits in the encoding, 16 or 32.
    pub len: u32,
    /// The words that it stands for.
    pub words: Words,
    /// Operands, in the order of their structure.
    pub operands: Vec<Operand>,
    /// Operands as printed.
    pub text: Vec<Piece>,
    /// Lines that this one takes words from.
    pub over: Vec<usize>,
    /// For a short form: the line whose method is called, and with what.
    pub target: Option<(usize, Vec<(String, Value)>)>,
}

impl Line {
    /// The operand called `name`.
    pub fn operand(&self, name: &str) -> Option<&Operand> {
        self.operands.iter().find(|o| o.name == name)
    }

    /// The sorted names of the operands: what a structure is known by.
    pub fn key(&self) -> Vec<&str> {
        let mut key: Vec<_> = self.operands.iter().map(|o| o.name.as_str()).collect();
        key.sort_unstable();
        key
    }
}

/// One comparison of an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Operand compared.
    pub operand: String,
    /// Equal or different.
    pub equal: bool,
    /// With one of these (or, if different, with all).
    pub with: Vec<Other>,
}

/// Right side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    /// A constant.
    Number(i64),
    /// Another operand.
    Operand(String),
}

/// Another name of an instruction.
pub struct Alias {
    /// Where it is written.
    pub place: Place,
    /// Mnemonic as printed.
    pub mnemonic: Vec<Piece>,
    /// Method of the instruction it stands for.
    pub of: String,
    /// Operands as printed.
    pub text: Vec<Piece>,
    /// When it applies.
    pub tests: Vec<Test>,
}

impl Spec {
    /// Reads and checks a specification.
    ///
    /// # Errors
    ///
    /// Every mistake found, in the order of files and lines.
    pub fn parse(sources: &[Source]) -> Result<Self, Vec<crate::SpecError>> {
        let mut errors = Errors::default();
        let items: Vec<_> = sources.iter().map(|s| syntax::parse(s, &mut errors)).collect();
        let spec = resolve::resolve(sources, items, &mut errors);
        if errors.0.is_empty() {
            crate::check::check(&spec, &mut errors);
        }
        match errors.0.is_empty() {
            true => Ok(spec),
            false => {
                errors.0.sort();
                Err(errors.0)
            }
        }
    }

    /// The line that `word` belongs to among the extensions in `active`, by linear search.
    ///
    /// Slow and obviously right: the oracle for the decision tree.
    pub fn find(&self, word: u32, active: &dyn Fn(usize) -> bool) -> Option<usize> {
        let matches = |line: &Line| {
            line.words.contains(word) && line.need.iter().all(|any| any.iter().any(|e| active(*e)))
        };
        let mut best: Option<usize> = None;
        for (i, line) in self.lines.iter().enumerate().filter(|(_, l)| matches(l)) {
            if best.is_none_or(|b| line.over.contains(&b)) {
                best = Some(i);
            }
        }
        best
    }

    /// The operand structure for a set of operands: name and fields in order.
    pub fn form(&self, line: &Line) -> (String, Vec<String>) {
        let key = line.key();
        let declared = self.forms.iter().find(|(_, fields)| {
            let mut fields: Vec<_> = fields.iter().map(String::as_str).collect();
            fields.sort_unstable();
            fields == key
        });
        declared.cloned().unwrap_or_else(|| {
            let name = if key.is_empty() { "NoArgs".into() } else { camel(&key.join("_")) };
            (name, key.into_iter().map(String::from).collect())
        })
    }
}

/// `sh1add.uw` → `Sh1addUw`
pub(crate) fn camel(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    words
        .map(|w| {
            let (first, rest) = w.split_at(1);
            first.to_ascii_uppercase() + rest
        })
        .collect()
}
