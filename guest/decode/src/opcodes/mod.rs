//! Compiler for opcode maps: ISAs of prefixes, opcode bytes and ModRM, one line per entry.
//!
//! The language is described in `OPCODES.md`. What an operand *is* the ISA's crate says
//! ([`Language`] lists the words); the compiler checks the lines, finds entries that overlap, and
//! writes the tables, a trait per file and the dispatcher.

mod emit;
mod parse;

use crate::error::{Place, SpecError};
use crate::syntax::Source;
use std::process::ExitCode;

/// The words of an ISA's maps.
#[derive(Clone, Debug)]
pub struct Language {
    /// Opcode maps, in the order of their numbers.
    pub maps: &'static [&'static str],
    /// Kinds of operands, which a type follows; whether each needs a ModRM byte.
    pub kinds: &'static [(&'static str, bool)],
    /// Types of operands.
    pub types: &'static [&'static str],
    /// Operands that are always the same.
    pub fixed: &'static [&'static str],
    /// Attributes that entries may have.
    pub attributes: &'static [&'static str],
    /// Features that entries may need, with a `+` before.
    pub features: Vec<String>,
}

/// Groups of conditions: each entry accepts at least one bit of each group, each instruction has
/// exactly one.
pub(crate) const GROUPS: [(u32, u32); 8] =
    [(0, 4), (4, 2), (6, 3), (9, 2), (11, 8), (19, 8), (27, 2), (29, 2)];

/// Words for conditions, and the bits that they leave.
pub(crate) const CONDITIONS: [(&str, usize, u32); 15] = [
    ("np", 0, 1),
    ("66", 0, 2),
    ("F3", 0, 4),
    ("F2", 0, 8),
    ("W0", 1, 1),
    ("W1", 1, 2),
    ("L0", 2, 1),
    ("L1", 2, 2),
    ("L2", 2, 4),
    ("mem", 3, 1),
    ("reg", 3, 2),
    ("i64", 6, 1),
    ("o64", 6, 2),
    ("b0", 7, 1),
    ("b1", 7, 2),
];

/// An operand: kind and type, or one that is always the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OperandWord {
    Typed(String, String),
    Fixed(String),
}

/// An entry of a map.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) map: usize,
    pub(crate) opcode: u8,
    pub(crate) accepts: u32,
    pub(crate) modrm: bool,
    pub(crate) mnemonic: String,
    pub(crate) operands: Vec<OperandWord>,
    pub(crate) attributes: Vec<String>,
    pub(crate) features: Vec<String>,
    pub(crate) method: String,
}

/// A file: its trait, and which of the entries are its.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) pending: bool,
    pub(crate) entries: Vec<Entry>,
}

/// Compiles files of opcode maps into Rust.
///
/// # Errors
///
/// Every mistake found.
pub fn compile(sources: &[Source], language: &Language) -> Result<String, Vec<SpecError>> {
    let files = parse::parse(sources, language)?;
    Ok(emit::emit(&files, language))
}

/// For a build script: compiles every `*.map` file of `folder` into `$OUT_DIR/<output>`.
///
/// Prints the mistakes and fails if there are any.
pub fn build(folder: &str, language: &Language, output: &str) -> ExitCode {
    crate::build_with(folder, "map", output, |sources| compile(sources, language))
}
