//! Writes entries as Rust.

use super::parse::camel;
use super::{Entry, File, Language, OperandWord};
use std::collections::{BTreeMap, BTreeSet};

/// Appends a line; writing to a string succeeds.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{
        $out.push_str(&format!($($arg)*));
        $out.push('\n');
    }};
}

/// The module's source.
pub(super) fn emit(files: &[File], language: &Language) -> String {
    let mut out = String::from("// Generated from the opcode maps: do not edit.\n");
    words(&mut out, language);
    traits(&mut out, files);
    tables(&mut out, files, language);
    out
}

fn words(out: &mut String, language: &Language) {
    enumeration(out, "Kind", "Kind of an operand.", language.kinds.iter().map(|(name, _)| *name));
    enumeration(out, "Ty", "Type of an operand.", language.types.iter().copied());
    enumeration(out, "Fixed", "Operand that is always the same.", language.fixed.iter().copied());
    enumeration(out, "Attr", "Attribute of an entry.", language.attributes.iter().copied());
}

fn enumeration<'a>(out: &mut String, name: &str, doc: &str, words: impl Iterator<Item = &'a str>) {
    put!(out, "/// {doc}\n#[derive(Clone, Copy, Debug, PartialEq, Eq)]\n#[repr(u8)]");
    put!(out, "pub enum {name} {{");
    words.for_each(|word| put!(out, "    /// `{word}`\n    {},", variant(word)));
    put!(out, "}}");
}

/// A word as the name of a variant.
fn variant(word: &str) -> String {
    let name = camel(&word.replace(['.', '-'], "_"));
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("N{name}") } else { name }
}

fn traits(out: &mut String, files: &[File]) {
    let mut bounds = Vec::new();
    let mut arms = String::new();
    let mut ops = BTreeSet::new();
    for file in files {
        let mut methods: BTreeMap<&str, &Entry> = BTreeMap::new();
        for entry in &file.entries {
            methods.entry(&entry.method).or_insert(entry);
        }
        ops.extend(methods.keys().map(|method| variant(method)));
        if methods.is_empty() || file.pending {
            continue;
        }
        bounds.push(file.name.clone());
        put!(out, "/// Instructions of a file of opcode maps.\npub trait {} {{", file.name);
        for (method, entry) in &methods {
            put!(out, "    /// `{}`\n    fn {method}(&mut self, i: &Insn);", entry.mnemonic);
            put!(arms, "        Op::{} => {}::{method}(t, i),", variant(method), file.name);
        }
        put!(out, "}}");
    }
    put!(out, "/// A method of the translator.");
    put!(out, "#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]");
    put!(out, "#[repr(u16)]\npub enum Op {{");
    ops.iter().for_each(|op| put!(out, "    /// See the trait.\n    {op},"));
    put!(out, "}}");
    let bounds = bounds.join(" + ");
    put!(out, "/// Everything that the dispatcher calls.\npub trait Isa: {bounds} {{}}");
    put!(out, "impl<T: {bounds}> Isa for T {{}}");
    put!(out, "/// Calls the instruction's method; false if it has none yet.");
    put!(out, "pub fn dispatch<T: Isa>(t: &mut T, i: &Insn) -> bool {{");
    put!(out, "    match i.entry.op {{\n{arms}        #[allow(unreachable_patterns)]");
    put!(out, "        _ => return false,\n    }}\n    true\n}}");
}

fn tables(out: &mut String, files: &[File], language: &Language) {
    let mut slots: BTreeMap<(usize, u8), Vec<&Entry>> = BTreeMap::new();
    for entry in files.iter().flat_map(|file| &file.entries) {
        slots.entry((entry.map, entry.opcode)).or_default().push(entry);
    }
    put!(out, "/// Every entry, by map and opcode.\npub static ENTRIES: &[Entry] = &[");
    let mut places = vec![vec![(0usize, 0usize, false); 256]; language.maps.len()];
    let mut count = 0;
    for ((map, opcode), entries) in &slots {
        places[*map][usize::from(*opcode)] = (count, entries.len(), entries[0].modrm);
        count += entries.len();
        entries.iter().for_each(|entry| put!(out, "    {},", entry_text(entry)));
    }
    put!(out, "];");
    put!(
        out,
        "/// For each map and opcode: the first entry, how many, whether a ModRM byte follows."
    );
    put!(out, "pub static SLOTS: [[(u16, u8, bool); 256]; {}] = [", language.maps.len());
    for map in places {
        put!(out, "    {map:?},");
    }
    put!(out, "];");
    put!(out, "/// Names of the maps.\npub static MAPS: &[&str] = &{:?};", language.maps);
}

fn entry_text(entry: &Entry) -> String {
    let operand = |word: &OperandWord| match word {
        OperandWord::Typed(kind, ty) => {
            format!("Operand::Typed(Kind::{}, Ty::{})", variant(kind), variant(ty))
        }
        OperandWord::Fixed(word) => format!("Operand::Fixed(Fixed::{})", variant(word)),
    };
    let operands: Vec<_> = entry.operands.iter().map(operand).collect();
    let attributes = entry.attributes.iter().map(|a| format!("1 << Attr::{} as u32", variant(a)));
    let attributes: Vec<_> = attributes.chain(["0".to_owned()]).collect();
    let features = entry.features.iter().map(|f| format!("Feature::{}", variant(f)));
    let features: Vec<_> = features.collect();
    format!(
        "Entry {{ map: {}, opcode: {:#04x}, accepts: {:#010x}, modrm: {}, mnemonic: {:?}, \
         operands: &[{}], attrs: {}, features: &[{}], op: Op::{}, file: {:?} }}",
        entry.map,
        entry.opcode,
        entry.accepts,
        entry.modrm,
        entry.mnemonic,
        operands.join(", "),
        attributes.join(" | "),
        features.join(", "),
        variant(&entry.method),
        entry.place.file.rsplit('/').next().unwrap_or_default(),
    )
}
