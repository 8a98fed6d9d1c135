//! Source form, as the device tree compiler prints it.

use crate::{Node, Tree};
use std::fmt;

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "/dts-v1/;\n")?;
        for (address, len) in &self.reserved {
            writeln!(f, "/memreserve/ {address:#018x} {len:#018x};")?;
        }
        print(f, &self.root, 0)
    }
}

fn print(f: &mut fmt::Formatter<'_>, node: &Node, depth: usize) -> fmt::Result {
    let tabs = "\t".repeat(depth);
    let name = if depth == 0 { "/" } else { &node.name };
    writeln!(f, "{tabs}{name} {{")?;
    for (name, value) in &node.properties {
        match value.as_slice() {
            [] => writeln!(f, "{tabs}\t{name};")?,
            bytes => writeln!(f, "{tabs}\t{name} = {};", literal(bytes))?,
        }
    }
    for child in &node.children {
        writeln!(f)?;
        print(f, child, depth + 1)?;
    }
    writeln!(f, "{tabs}}};")
}

/// Text when it looks like text, else cells, else bytes.
fn literal(bytes: &[u8]) -> String {
    if is_text(bytes) {
        let texts: Vec<String> = bytes[..bytes.len() - 1]
            .split(|b| *b == 0)
            .map(|text| format!("{:?}", String::from_utf8_lossy(text)))
            .collect();
        return texts.join(", ");
    }
    let (cells, rest) = bytes.as_chunks::<4>();
    if rest.is_empty() {
        let cells: Vec<String> =
            cells.iter().map(|cell| format!("{:#04x}", u32::from_be_bytes(*cell))).collect();
        return format!("<{}>", cells.join(" "));
    }
    let bytes: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("[{}]", bytes.join(" "))
}

/// Printable, ends with a zero, and no text in it is empty.
fn is_text(bytes: &[u8]) -> bool {
    let Some((0, texts)) = bytes.split_last() else { return false };
    texts
        .split(|b| *b == 0)
        .all(|text| !text.is_empty() && text.iter().all(|b| b.is_ascii_graphic() || *b == b' '))
}
