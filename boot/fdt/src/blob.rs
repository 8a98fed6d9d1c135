//! The flattened form: header, memory reservations, structure, strings.

use crate::{Node, Tree};
use std::collections::HashMap;
use std::fmt;

const MAGIC: u32 = 0xd00d_feed;
const VERSION: u32 = 17;
const LAST_COMPATIBLE: u32 = 16;
const HEADER: usize = 40;
/// Blobs larger than this are refused: the tools of the kernel stop at 2 MiB.
const MAX_LEN: usize = 16 << 20;
/// Nodes nested deeper are refused.
const MAX_DEPTH: u32 = 64;

/// Names of nodes and properties longer than this are refused; the specification allows 31.
const MAX_NAME: usize = 255;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// A blob cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Byte offset of what is wrong.
    pub offset: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device tree blob: {} at byte {:#x}", self.problem, self.offset)
    }
}

impl std::error::Error for ParseError {}

impl Tree {
    /// The blob that a firmware or kernel reads.
    pub fn to_blob(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.node(&self.root);
        writer.cell(END);
        let reservations = HEADER;
        let structure = reservations + 16 * (self.reserved.len() + 1);
        let strings = structure + writer.structure.len();
        let total = strings + writer.strings.len();
        let cells = [
            MAGIC,
            total as u32,
            structure as u32,
            strings as u32,
            reservations as u32,
            VERSION,
            LAST_COMPATIBLE,
            self.boot_cpu,
            writer.strings.len() as u32,
            writer.structure.len() as u32,
        ];
        let mut blob: Vec<u8> = cells.iter().flat_map(|c| c.to_be_bytes()).collect();
        for (address, len) in self.reserved.iter().chain([&(0, 0)]) {
            blob.extend_from_slice(&address.to_be_bytes());
            blob.extend_from_slice(&len.to_be_bytes());
        }
        blob.extend_from_slice(&writer.structure);
        blob.extend_from_slice(&writer.strings);
        blob
    }

    /// Reads a blob; trailing bytes are ignored.
    ///
    /// # Errors
    /// It is cut short, malformed, or beyond what real trees need.
    pub fn parse(blob: &[u8]) -> Result<Self, ParseError> {
        let header = |field: usize| be32(blob, field * 4);
        let error = |offset, problem| Err(ParseError { offset, problem });
        if header(0)? != MAGIC {
            return error(0, "no magic number");
        }
        let total = header(1)? as usize;
        if !(HEADER..=MAX_LEN.min(blob.len())).contains(&total) {
            return error(4, "wrong total length");
        }
        let blob = &blob[..total];
        if header(5)? < LAST_COMPATIBLE || header(6)? > VERSION {
            return error(20, "unknown version");
        }
        let strings = header(3)? as usize;
        if strings > total {
            return error(12, "strings lie outside");
        }
        let mut reader = Reader { blob, at: header(2)? as usize, strings };
        let root = reader.root()?;
        let reserved = reservations(blob, header(4)? as usize)?;
        Ok(Self { root, reserved, boot_cpu: header(7)? })
    }
}

fn reservations(blob: &[u8], mut at: usize) -> Result<Vec<(u64, u64)>, ParseError> {
    let mut reserved = Vec::new();
    loop {
        let double = |at| Ok(u64::from(be32(blob, at)?) << 32 | u64::from(be32(blob, at + 4)?));
        let entry = (double(at)?, double(at + 8)?);
        if entry == (0, 0) {
            return Ok(reserved);
        }
        reserved.push(entry);
        at += 16;
    }
}

fn be32(blob: &[u8], at: usize) -> Result<u32, ParseError> {
    let cut = ParseError { offset: at, problem: "cut short" };
    let bytes = blob.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or(cut)?;
    Ok(u32::from_be_bytes(*bytes))
}

#[derive(Default)]
struct Writer {
    structure: Vec<u8>,
    strings: Vec<u8>,
    /// Offsets of names, and of the ends of names, that are in `strings`.
    known: HashMap<Vec<u8>, u32>,
}

impl Writer {
    fn cell(&mut self, value: u32) {
        self.structure.extend_from_slice(&value.to_be_bytes());
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.structure.extend_from_slice(bytes);
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }

    fn node(&mut self, node: &Node) {
        self.cell(BEGIN_NODE);
        self.padded(&[node.name.as_bytes(), &[0]].concat());
        for (name, value) in &node.properties {
            self.cell(PROP);
            self.cell(value.len() as u32);
            let name = self.string(name.as_bytes());
            self.cell(name);
            self.padded(value);
        }
        node.children.iter().for_each(|child| self.node(child));
        self.cell(END_NODE);
    }

    /// Offset of `name` among the strings.
    fn string(&mut self, name: &[u8]) -> u32 {
        if let Some(offset) = self.known.get(name) {
            return *offset;
        }
        let offset = self.strings.len() as u32;
        self.strings.extend_from_slice(name);
        self.strings.push(0);
        for start in 0..name.len() {
            self.known.entry(name[start..].to_vec()).or_insert(offset + start as u32);
        }
        offset
    }
}

struct Reader<'a> {
    blob: &'a [u8],
    at: usize,
    strings: usize,
}

impl Reader<'_> {
    fn error<T>(&self, problem: &'static str) -> Result<T, ParseError> {
        Err(ParseError { offset: self.at, problem })
    }

    fn cell(&mut self) -> Result<u32, ParseError> {
        let cell = be32(self.blob, self.at)?;
        self.at += 4;
        Ok(cell)
    }

    /// The next token that is not a no-operation.
    fn token(&mut self) -> Result<u32, ParseError> {
        loop {
            match self.cell()? {
                NOP => {}
                token => return Ok(token),
            }
        }
    }

    fn align(&mut self) {
        self.at = self.at.next_multiple_of(4);
    }

    /// The text at `at`, and where it ends.
    fn text(&self, at: usize) -> Result<(String, usize), ParseError> {
        let rest = self.blob.get(at..).unwrap_or(&[]);
        let Some(len) = rest.iter().take(MAX_NAME + 1).position(|b| *b == 0) else {
            return self.error("name without an end, or too long");
        };
        match std::str::from_utf8(&rest[..len]) {
            Ok(text) => Ok((text.into(), at + len + 1)),
            Err(_) => self.error("name is not text"),
        }
    }

    fn root(&mut self) -> Result<Node, ParseError> {
        if self.token()? != BEGIN_NODE {
            return self.error("no root node");
        }
        let root = self.node(0)?;
        match self.token()? {
            END => Ok(root),
            _ => self.error("no end"),
        }
    }

    /// A node whose begin token has been read.
    fn node(&mut self, depth: u32) -> Result<Node, ParseError> {
        if depth > MAX_DEPTH {
            return self.error("nodes nested too deep");
        }
        let (name, end) = self.text(self.at)?;
        self.at = end;
        self.align();
        let mut node = Node::new(name);
        loop {
            match self.token()? {
                PROP => node.properties.push(self.property()?),
                BEGIN_NODE => node.children.push(self.node(depth + 1)?),
                END_NODE => return Ok(node),
                _ => return self.error("unknown token"),
            }
        }
    }

    fn property(&mut self) -> Result<(String, Vec<u8>), ParseError> {
        let len = self.cell()? as usize;
        let name = self.cell()? as usize;
        let (name, _) = self.text(self.strings.saturating_add(name))?;
        let Some(value) = self.blob.get(self.at..self.at.saturating_add(len)) else {
            return self.error("value is cut short");
        };
        self.at += len;
        self.align();
        Ok((name, value.to_vec()))
    }
}
