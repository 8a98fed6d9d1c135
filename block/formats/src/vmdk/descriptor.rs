//! The descriptor: a text that names the parts of an image and its parent.

use std::fmt::Write as _;

use graph::SECTOR;

use crate::blocks::codec::Fields;
use graph::OpenError;

/// First line of every descriptor.
pub(super) const FIRST_LINE: &str = "# Disk DescriptorFile";

/// The content identifier that stands for "no parent".
pub(super) const NO_PARENT: u32 = 0xffff_ffff;

/// Longest descriptor: that of sparse extents has 20 sectors, files of many extents more.
pub(super) const LONGEST: u64 = 1 << 20;

/// Most extents of an image; 2048 of 2 GiB make 4 TiB.
const MOST_EXTENTS: usize = 4096;

/// What is in an extent's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Grains and tables.
    Sparse,
    /// The disk's bytes.
    Flat,
    /// There is no file; all zeroes.
    Zero,
}

/// One line of the extent description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The guest may write.
    pub writable: bool,
    /// Length in bytes.
    pub size: u64,
    /// What it is.
    pub kind: Kind,
    /// The word for that.
    pub type_name: String,
    /// Its file, relative to the descriptor.
    pub file: String,
    /// Where in the file a flat extent begins, in bytes.
    pub offset: u64,
}

/// A parsed descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub cid: u32,
    /// Offset of the identifier's digits in the text, and how many there are.
    pub cid_digits: (usize, usize),
    pub parent_cid: u32,
    pub create_type: String,
    pub parent: Option<String>,
    pub extents: Vec<Extent>,
}

impl Descriptor {
    /// Parses a text, which may be followed by zero bytes.
    pub fn parse(bytes: &[u8], fields: &Fields<'_>) -> Result<Self, OpenError> {
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        let text = String::from_utf8_lossy(&bytes[..end]);
        if !is_descriptor(text.as_bytes()) {
            return Err(fields.refuse("the descriptor does not begin as one"));
        }
        let cid =
            value_of(&text, "CID").ok_or_else(|| fields.refuse("the descriptor has no CID"))?;
        let hex = |text: &str| u32::from_str_radix(text, 16).ok();
        let parent_cid = value_of(&text, "parentCID").and_then(|(_, digits)| hex(digits));
        let create_type = value_of(&text, "createType").map(|(_, name)| name.to_owned());
        let parent_cid = parent_cid.unwrap_or(NO_PARENT);
        let hint = value_of(&text, "parentFileNameHint").map(|(_, name)| name.to_owned());
        let mut extents = Vec::new();
        for line in text.lines() {
            if let Some(extent) = extent_of(line.trim(), fields)? {
                extents.push(extent);
            }
        }
        if extents.len() > MOST_EXTENTS {
            return Err(fields.refuse(format!("more than {MOST_EXTENTS} extents")));
        }
        Ok(Self {
            // Lossy decoding moves nothing in front of the first line that is not text.
            cid: hex(cid.1).ok_or_else(|| fields.refuse("the descriptor's CID is no number"))?,
            cid_digits: (cid.0, cid.1.len()),
            parent_cid,
            create_type: create_type.unwrap_or_default(),
            parent: hint.filter(|_| parent_cid != NO_PARENT),
            extents,
        })
    }
}

/// Whether a file begins as a descriptor: comments and blank lines, then the version.
pub(super) fn is_descriptor(start: &[u8]) -> bool {
    let text = String::from_utf8_lossy(start);
    let Some(rest) = text.strip_prefix(FIRST_LINE) else {
        let mut lines = text.lines().map(str::trim);
        let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
        return text.starts_with('#')
            && first.is_some_and(|line| matches!(line, "version=1" | "version=2" | "version=3"));
    };
    rest.starts_with(['\n', '\r', ' '])
}

/// The value of `key=value` or `key = "value"`, with its offset in the text.
fn value_of<'a>(text: &'a str, key: &str) -> Option<(usize, &'a str)> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let value = line.trim_start().strip_prefix(key).and_then(|rest| {
            let value = rest.trim_start().strip_prefix('=')?.trim();
            Some(value.strip_prefix('"').map_or(value, |v| v.split('"').next().unwrap_or(v)))
        });
        if let Some(value) = value {
            return Some((at + (value.as_ptr() as usize - line.as_ptr() as usize), value));
        }
        at += line.len();
    }
    None
}

/// `RW 4192256 SPARSE "file.vmdk"`, `RW 100 FLAT "file.vmdk" 0`, `RW 100 ZERO`.
fn extent_of(line: &str, fields: &Fields<'_>) -> Result<Option<Extent>, OpenError> {
    let mut words = line.splitn(4, char::is_whitespace);
    let writable = match words.next() {
        Some("RW") => true,
        Some("RDONLY") => false,
        Some("NOACCESS") => return Err(fields.refuse(format!("no access to extent: {line}"))),
        _ => return Ok(None),
    };
    let bad = || fields.refuse(format!("Invalid extent line: {line}"));
    let sectors: u64 = words.next().and_then(|n| n.parse().ok()).ok_or_else(bad)?;
    let size = sectors.checked_mul(SECTOR).filter(|s| *s <= i64::MAX as u64).ok_or_else(bad)?;
    let type_name = words.next().ok_or_else(bad)?.to_owned();
    let rest = words.next().unwrap_or("").trim();
    let kind = match type_name.as_str() {
        "FLAT" | "VMFS" => Kind::Flat,
        "SPARSE" | "VMFSSPARSE" => Kind::Sparse,
        "ZERO" => Kind::Zero,
        _ => return Err(fields.refuse(format!("Unsupported extent type '{type_name}'"))),
    };
    let (file, tail) = match rest.strip_prefix('"').and_then(|r| r.split_once('"')) {
        Some((file, tail)) => (file.to_owned(), tail.trim()),
        None if kind == Kind::Zero => (String::new(), ""),
        None => return Err(bad()),
    };
    let offset: u64 = match tail.split_whitespace().next() {
        Some(n) => n.parse().map_err(|_| bad())?,
        None if type_name == "FLAT" => return Err(bad()),
        None => 0,
    };
    let offset = offset.checked_mul(SECTOR).ok_or_else(bad)?;
    Ok(Some(Extent { writable, size, kind, type_name, file, offset }))
}

/// What the text of a new descriptor says.
pub(super) struct Text<'a> {
    pub cid: u32,
    pub parent_cid: u32,
    pub create_type: &'a str,
    pub parent: Option<&'a str>,
    /// Lines of the extent description.
    pub extents: &'a [String],
    pub hw_version: &'a str,
    pub adapter: &'a str,
    pub tools_version: &'a str,
    /// Length of the disk in bytes.
    pub size: u64,
}

impl Text<'_> {
    pub fn write(&self) -> String {
        let mut out = format!(
            "{FIRST_LINE}\nversion=1\nCID={:x}\nparentCID={:x}\ncreateType=\"{}\"\n",
            self.cid, self.parent_cid, self.create_type
        );
        if let Some(parent) = self.parent {
            let _ = writeln!(out, "parentFileNameHint=\"{parent}\"");
        }
        out.push_str("\n# Extent description\n");
        for extent in self.extents {
            let _ = writeln!(out, "{extent}");
        }
        let heads = if self.adapter == "ide" { 16 } else { 255 };
        let _ = write!(
            out,
            "\n# The Disk Data Base\n#DDB\n\n\
             ddb.virtualHWVersion = \"{}\"\n\
             ddb.geometry.cylinders = \"{}\"\n\
             ddb.geometry.heads = \"{heads}\"\n\
             ddb.geometry.sectors = \"63\"\n\
             ddb.adapterType = \"{}\"\n\
             ddb.toolsVersion = \"{}\"\n",
            self.hw_version,
            self.size / (63 * heads * SECTOR),
            self.adapter,
            self.tools_version
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: Fields<'_> = Fields { path: "x", format: "vmdk" };

    #[test]
    fn a_descriptor_is_read_back() {
        let text = Text {
            cid: 0x4f2_9bb6,
            parent_cid: 0x12,
            create_type: "twoGbMaxExtentFlat",
            parent: Some("base.vmdk"),
            extents: &["RW 8 FLAT \"a b.vmdk\" 3".to_owned(), "RDONLY 16 ZERO".to_owned()],
            hw_version: "4",
            adapter: "ide",
            tools_version: "1",
            size: 12288,
        }
        .write();
        let read = Descriptor::parse(text.as_bytes(), &FIELDS).expect("it is good");
        assert_eq!((read.cid, read.parent_cid), (0x4f2_9bb6, 0x12));
        assert_eq!(&text[read.cid_digits.0..][..read.cid_digits.1], "4f29bb6");
        assert_eq!(read.parent.as_deref(), Some("base.vmdk"));
        assert_eq!(read.extents.len(), 2);
        assert_eq!((read.extents[0].file.as_str(), read.extents[0].offset), ("a b.vmdk", 1536));
        assert!(!read.extents[1].writable && read.extents[1].kind == Kind::Zero);
    }

    #[test]
    fn bad_extent_lines_are_refused() {
        for line in [
            "RW x FLAT \"a\" 0",
            "RW 1 FLAT \"a\"",
            "RW 1 FLAT a 0",
            "RW 99999999999999999 FLAT \"a\" 0",
            "RW 1 MAGIC \"a\"",
            "RW",
        ] {
            let text = format!("{FIRST_LINE}\nversion=1\nCID=1\n{line}\n");
            assert!(Descriptor::parse(text.as_bytes(), &FIELDS).is_err(), "{line}");
        }
    }
}
