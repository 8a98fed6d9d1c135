//! Compiles the opcode maps and the table of features.

use decode::opcodes::{Language, build};
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

/// Kinds of operands (Intel SDM volume 2, appendix A, “Codes for Addressing Method”; those of more
/// than one letter are ours), and whether they need a ModRM byte.
const KINDS: &[(&str, bool)] = &[
    ("VSIBx", true),
    ("VSIBy", true),
    ("kG", true),
    ("kE", true),
    ("kH", false),
    ("STi", true),
    ("A", false),
    ("B", false),
    ("C", true),
    ("D", true),
    ("E", true),
    ("G", true),
    ("H", false),
    ("I", false),
    ("J", false),
    ("L", false),
    ("M", true),
    ("N", true),
    ("O", false),
    ("P", true),
    ("Q", true),
    ("R", true),
    ("S", true),
    ("U", true),
    ("V", true),
    ("W", true),
    ("X", false),
    ("Y", false),
    ("Z", false),
    ("sI", false),
];
/// Types of operands (the same, “Codes for Operand Type”; `oo`: 64 bytes; `hx`, `qx`, `ex`: half, a
/// quarter, an eighth of `x`; `t`: 10 bytes; `n`: no access to memory, or one that the method makes).
const TYPES: &[&str] = &[
    "a", "b", "w", "d", "q", "v", "z", "y", "p", "s", "t", "n", "dq", "qq", "oo", "x", "hx", "qx",
    "ex",
];
const FIXED: &[&str] =
    &["AL", "CL", "AX", "DX", "rAX", "eAX", "ES", "CS", "SS", "DS", "FS", "GS", "1", "ST0", "XMM0"];
/// `lock`: may have the prefix, with a destination in memory. `d64`: 64 bits by default, or 16;
/// `f64`: 64 bits always; `modrm`: a ModRM byte follows though no operand needs it. `v`: the result
/// of VEX is three operands; `bcst32`, `bcst64`: the operand in memory may be one lane for all;
/// `t…`: how displacements of 8 bits are scaled (Intel SDM volume 2, “Compressed Displacement”).
/// `round`, `sae`: with ModRM of registers, the bit for broadcasts says so. `mask`, `zero`: EVEX's
/// opmask and zeroing are allowed. `e8`…`e64`: bits of the lanes that the opmask is for, if W does not say (of
/// the destination if `once`). `whole`: all of the memory operand is read, whatever the opmask says. `once`: of
/// 512 bits, the method makes the whole result, not each half.
const ATTRIBUTES: &[&str] = &[
    "lock",
    "d64",
    "f64",
    "modrm",
    "bcst16",
    "bcst32",
    "bcst64",
    "tfull",
    "thalf",
    "tmem",
    "tscalar",
    "tfixed",
    "thalfmem",
    "tquartermem",
    "teighthmem",
    "tmem128",
    "tmovddup",
    "ttuple2",
    "ttuple4",
    "ttuple8",
    "round",
    "sae",
    "mask",
    "zero",
    "e8",
    "e16",
    "e32",
    "e64",
    "whole",
    "once",
];
const MAPS: &[&str] = &[
    "onebyte",
    "0f",
    "0f38",
    "0f3a",
    "vex.0f",
    "vex.0f38",
    "vex.0f3a",
    "evex.0f",
    "evex.0f38",
    "evex.0f3a",
    "evex.map5",
    "evex.map6",
];

/// A row of the table of features.
struct Row {
    name: String,
    leaf: (u32, u32),
    register: usize,
    bit: u32,
}

fn row(line: &str) -> Option<Row> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [name, leaf, register, bit] = words[..] else { return None };
    let (leaf, sub) = leaf.split_once('.')?;
    let hex = |text| u32::from_str_radix(text, 16).ok();
    Some(Row {
        name: name.to_owned(),
        leaf: (hex(leaf)?, hex(sub)?),
        register: ["eax", "ebx", "ecx", "edx"].iter().position(|r| *r == register)?,
        bit: bit.parse().ok().filter(|b| *b < 32)?,
    })
}

/// `sse4.1` as `Sse4_1`, `3dnow` as `N3dnow`.
fn variant(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |c| c.to_uppercase().chain(letters).collect())
    };
    let name: String = name.split(['.', '-', '_']).map(capital).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("N{name}") } else { name }
}

fn features_source(rows: &[Row]) -> String {
    let mut out = String::from("/// A feature of processors.\n");
    out += "#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]\n#[repr(u8)]\n";
    out += "pub enum Feature {\n";
    for row in rows {
        let _ = writeln!(out, "    /// `{}`\n    {},", row.name, variant(&row.name));
    }
    out += "}\n/// Every feature: its name, and where CPUID tells it.\n";
    out += "pub static FEATURES: &[FeatureInfo] = &[\n";
    for Row { name, leaf, register, bit } in rows {
        let of = variant(name);
        let _ = writeln!(
            out,
            "    FeatureInfo {{ feature: Feature::{of}, name: {name:?}, leaf: {leaf:?}, \
             register: {register}, bit: {bit} }},"
        );
    }
    out + "];\n"
}

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=spec");
    let text = match fs::read_to_string("spec/features.txt") {
        Ok(text) => text,
        Err(e) => {
            println!("cargo::error=spec/features.txt: {e}");
            return ExitCode::FAILURE;
        }
    };
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let Some(row) = row(line) else {
            println!("cargo::error=spec/features.txt:{}: no feature", number + 1);
            return ExitCode::FAILURE;
        };
        rows.push(row);
    }
    let path = Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("features.rs");
    if let Err(e) = fs::write(&path, features_source(&rows)) {
        println!("cargo::error={}: {e}", path.display());
        return ExitCode::FAILURE;
    }
    let language = Language {
        maps: MAPS,
        kinds: KINDS,
        types: TYPES,
        fixed: FIXED,
        attributes: ATTRIBUTES,
        features: rows.into_iter().map(|row| row.name).collect(),
    };
    build("spec", &language, "opcodes.rs")
}
