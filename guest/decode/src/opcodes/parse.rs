//! From text to entries.

use super::{CONDITIONS, Entry, File, GROUPS, Language, OperandWord};
use crate::error::{Errors, Place, SpecError};
use crate::syntax::Source;
use std::collections::BTreeMap;

/// Condition codes, in the order of the opcodes.
const CC: [&str; 16] =
    ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];

/// Every entry of every file.
pub(super) fn parse(sources: &[Source], language: &Language) -> Result<Vec<File>, Vec<SpecError>> {
    let mut errors = Errors::default();
    let mut files = Vec::new();
    for source in sources {
        let stem = source.name.rsplit('/').next().unwrap_or_default();
        let name = camel(stem.split('.').next().unwrap_or_default());
        let mut file = File { name, pending: false, entries: Vec::new() };
        let mut section = None;
        for (number, line) in source.text.lines().enumerate() {
            let place = Place { file: source.name.clone(), line: number + 1 };
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            if line == "pending" {
                file.pending = true;
            } else if let Some(name) = line.strip_prefix("trait ") {
                file.name = name.to_owned();
            } else if let Some(head) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                section = errors.keep(&place, Section::parse(head, language));
            } else {
                match &section {
                    Some(section) => {
                        let entries = section.line(line, &place, language);
                        file.entries.extend(errors.keep(&place, entries).unwrap_or_default());
                    }
                    None => errors.add(&place, "entry outside of a map"),
                }
            }
        }
        // Several files may be of one trait.
        match files.iter_mut().find(|other: &&mut File| other.name == file.name) {
            Some(other) => other.entries.extend(file.entries),
            None => files.push(file),
        }
    }
    check(&files, &mut errors);
    if errors.0.is_empty() { Ok(files) } else { Err(errors.0) }
}

/// Entries that share a slot must differ in a condition, and agree about ModRM.
fn check(files: &[File], errors: &mut Errors) {
    let mut slots: BTreeMap<(usize, u8), Vec<&Entry>> = BTreeMap::new();
    for entry in files.iter().flat_map(|file| &file.entries) {
        let slot = slots.entry((entry.map, entry.opcode)).or_default();
        for other in slot.iter() {
            let both = entry.accepts & other.accepts;
            let overlaps = GROUPS.iter().all(|(at, len)| both >> at & ((1 << len) - 1) != 0);
            if overlaps {
                errors.add(&entry.place, format!("overlaps {}", other.place.line));
            }
            if entry.modrm != other.modrm {
                let line = other.place.line;
                errors.add(&entry.place, format!("line {line} disagrees about a ModRM byte"));
            }
        }
        slot.push(entry);
    }
    let mut methods: BTreeMap<&str, &str> = BTreeMap::new();
    for (file, entry) in files.iter().flat_map(|file| file.entries.iter().map(move |e| (file, e))) {
        let owner = methods.entry(&entry.method).or_insert(&file.name);
        if *owner != file.name {
            errors.add(&entry.place, format!("method `{}` is {owner}'s", entry.method));
        }
    }
}

/// A map, and what all its entries have.
struct Section {
    map: usize,
    common: Common,
}

#[derive(Clone, Default)]
struct Common {
    /// Conditions by group; 0 where nothing is said.
    conditions: [u32; 8],
    attributes: Vec<String>,
    features: Vec<String>,
    method: Option<String>,
}

impl Common {
    /// Takes one word in; whether it means anything.
    fn word(&mut self, word: &str, language: &Language) -> Result<bool, String> {
        if let Some((_, group, bits)) = CONDITIONS.iter().find(|(name, ..)| *name == word) {
            self.conditions[*group] |= bits;
        } else if let Some(feature) = word.strip_prefix('+') {
            if !language.features.iter().any(|f| f == feature) {
                return Err(format!("unknown feature `{feature}`"));
            }
            self.features.push(feature.to_owned());
        } else if let Some(method) = word.strip_prefix('=') {
            self.method = Some(method.to_owned());
        } else if language.attributes.contains(&word) {
            self.attributes.push(word.to_owned());
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

impl Section {
    fn parse(head: &str, language: &Language) -> Result<Self, String> {
        let mut words = head.split_whitespace();
        let name = words.next().unwrap_or_default();
        let map = language.maps.iter().position(|map| *map == name);
        let map = map.ok_or_else(|| format!("unknown map `{name}`"))?;
        let mut common = Common::default();
        for word in words {
            if !common.word(word, language)? {
                return Err(format!("unknown word `{word}`"));
            }
        }
        Ok(Self { map, common })
    }

    fn line(&self, line: &str, place: &Place, language: &Language) -> Result<Vec<Entry>, String> {
        let mut words = line.split_whitespace().peekable();
        let opcode = Opcode::parse(words.next().unwrap_or_default())?;
        let mnemonic = words.next().ok_or("a mnemonic is missing")?;
        let mut operands = Vec::new();
        if let Some(list) = words.peek()
            && let Some(found) = operand_list(list, language)
        {
            operands = found;
            words.next();
        }
        let mut common = self.common.clone();
        // What a line says of a group replaces what the section says.
        let mut own = Common::default();
        for word in words {
            if !own.word(word, language)? {
                return Err(format!("unknown word `{word}`"));
            }
        }
        for (common, own) in common.conditions.iter_mut().zip(own.conditions) {
            *common = if own != 0 { own } else { *common };
        }
        common.attributes.extend(own.attributes);
        common.features.extend(own.features);
        common.method = own.method.or(common.method);
        for (group, bits) in [(4, opcode.digit.map(|d| 1 << d)), (5, opcode.rm.map(|r| 1 << r))] {
            common.conditions[group] = bits.unwrap_or(common.conditions[group]);
        }
        if opcode.rm.is_some() {
            common.conditions[3] = 2;
        }
        let mut accepts = 0;
        for ((at, len), bits) in GROUPS.iter().zip(common.conditions) {
            accepts |= (if bits == 0 { (1 << len) - 1 } else { bits }) << at;
        }
        let needs = |word: &OperandWord| match word {
            OperandWord::Typed(kind, _) => language.kinds.iter().any(|(k, m)| k == kind && *m),
            OperandWord::Fixed(_) => false,
        };
        let modrm = opcode.digit.is_some()
            || common.attributes.iter().any(|a| a == "modrm")
            || operands.iter().any(needs);
        let method = common.method.clone().unwrap_or_else(|| method_of(mnemonic));
        let many = mnemonic.contains("{cc}");
        if many && opcode.last - opcode.first != 15 {
            return Err("{cc} wants 16 opcodes".to_owned());
        }
        let entry = |byte: u8| Entry {
            place: place.clone(),
            map: self.map,
            opcode: byte,
            accepts,
            modrm,
            mnemonic: mnemonic.replace("{cc}", CC[usize::from(byte & 15)]),
            operands: operands.clone(),
            attributes: common.attributes.clone(),
            features: common.features.clone(),
            method: method.clone(),
        };
        Ok((opcode.first..=opcode.last).map(entry).collect())
    }
}

/// `XX`, `XX-YY`, `XX/digit`, `XX:modrm`.
struct Opcode {
    first: u8,
    last: u8,
    digit: Option<u8>,
    rm: Option<u8>,
}

impl Opcode {
    fn parse(word: &str) -> Result<Self, String> {
        let byte = |text: &str| {
            let byte = if text.len() == 2 { u8::from_str_radix(text, 16).ok() } else { None };
            byte.ok_or_else(|| format!("`{text}` is no byte"))
        };
        if let Some((opcode, modrm)) = word.split_once(':') {
            let (opcode, modrm) = (byte(opcode)?, byte(modrm)?);
            if modrm < 0xc0 {
                return Err(format!("{modrm:02x} names no registers"));
            }
            let (digit, rm) = (Some(modrm >> 3 & 7), Some(modrm & 7));
            return Ok(Self { first: opcode, last: opcode, digit, rm });
        }
        if let Some((opcode, digit)) = word.split_once('/') {
            let opcode = byte(opcode)?;
            let digit = digit.parse().ok().filter(|d| *d < 8);
            let digit = Some(digit.ok_or_else(|| format!("`{word}`: no digit"))?);
            return Ok(Self { first: opcode, last: opcode, digit, rm: None });
        }
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        Ok(Self { first: byte(first)?, last: byte(last)?, digit: None, rm: None })
    }
}

/// `Ev,Gv`; nothing if a word of it is no operand.
fn operand_list(list: &str, language: &Language) -> Option<Vec<OperandWord>> {
    let one = |word: &str| {
        if language.fixed.contains(&word) {
            return Some(OperandWord::Fixed(word.to_owned()));
        }
        let fits = |(kind, _): &&(&str, bool)| {
            word.strip_prefix(*kind).is_some_and(|ty| language.types.contains(&ty))
        };
        let (kind, _) = language.kinds.iter().find(fits)?;
        let ty = word.strip_prefix(*kind)?;
        Some(OperandWord::Typed((*kind).to_owned(), ty.to_owned()))
    };
    list.split(',').map(one).collect()
}

/// The name of a mnemonic's method: of several by operand size, the first's.
fn method_of(mnemonic: &str) -> String {
    let first = mnemonic.split('|').next().unwrap_or_default();
    let name = first.replace(['{', '}'], "").replace(['.', '-'], "_");
    match name.as_str() {
        "in" | "loop" | "mod" | "if" | "for" | "move" => format!("{name}_"),
        _ => name,
    }
}

/// `two_words` as `TwoWords`.
pub(super) fn camel(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |c| c.to_uppercase().chain(letters).collect())
    };
    name.split('_').map(capital).collect()
}
