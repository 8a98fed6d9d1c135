//! Making a new image: extents first, then the descriptor that names them.

use std::io;
use std::path::Path;

use graph::{Node, OpenError, Preallocation, SECTOR};
use protocols::{Access, FileOptions};

use super::descriptor::{NO_PARENT, Text};
use super::sparse::{HEADER, MAGIC, flags};
use super::{load_descriptor, random_cid};
use crate::blocks::codec::{grow, put, write};
use crate::blocks::option_size;
use crate::format::CreateRequest;
use crate::gate::Reason;

/// Longest extent of the formats that split a disk.
const SPLIT: u64 = 2 << 30;

const GRAIN: u64 = 65536;
const ENTRIES: u64 = 512;
const DESCRIPTOR_AT: u64 = 1;
const DESCRIPTOR_SECTORS: u64 = 20;

/// A value of `subformat=`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Subformat {
    name: &'static str,
    flat: bool,
    split: bool,
    compressed: bool,
}

const SUBFORMATS: &[Subformat] = &[
    Subformat { name: "monolithicSparse", flat: false, split: false, compressed: false },
    Subformat { name: "monolithicFlat", flat: true, split: false, compressed: false },
    Subformat { name: "twoGbMaxExtentSparse", flat: false, split: true, compressed: false },
    Subformat { name: "twoGbMaxExtentFlat", flat: true, split: true, compressed: false },
    Subformat { name: "streamOptimized", flat: false, split: false, compressed: true },
];

const ADAPTERS: &[&str] = &["ide", "buslogic", "lsilogic", "legacyESX"];

/// Checked options.
struct Plan {
    size: u64,
    subformat: Subformat,
    adapter: &'static str,
    hw_version: String,
    tools_version: String,
    zeroed_grain: bool,
    parent: Option<String>,
    parent_cid: u32,
}

fn refuse<T>(text: impl Into<String>) -> Result<T, OpenError> {
    Err(OpenError::Option(text.into()))
}

impl Plan {
    fn new(request: &CreateRequest<'_>) -> Result<Self, OpenError> {
        let options = request.options;
        let name = options.text("subformat").unwrap_or("monolithicSparse");
        let Some(subformat) = SUBFORMATS.iter().find(|s| s.name == name) else {
            return refuse(format!("invalid parameter value: {name}"));
        };
        let name = options.text("adapter_type").unwrap_or("ide");
        let Some(adapter) = ADAPTERS.iter().find(|adapter| **adapter == name) else {
            return refuse(format!("invalid parameter value: {name}"));
        };
        let hw = options.text("hwversion").filter(|version| *version != "undefined");
        let compat6 = options.switch("compat6");
        if compat6 && hw.is_some() {
            return refuse("compat6 cannot be enabled with hwversion set");
        }
        if options.text("backing_fmt").is_some_and(|format| format != "vmdk") {
            return refuse("backing_file must be a vmdk image");
        }
        let parent = options.text("backing_file").filter(|name| !name.is_empty());
        let zeroed_grain = options.switch("zeroed_grain");
        if subformat.flat && parent.is_some() {
            return refuse("Flat image can't have backing file");
        }
        if subformat.flat && zeroed_grain {
            return refuse("Flat image can't enable zeroed grain");
        }
        let size = option_size(options)?;
        let parent_cid = match parent {
            Some(parent) => parent_cid(request, parent)?,
            None => NO_PARENT,
        };
        Ok(Self {
            size,
            subformat: *subformat,
            adapter,
            hw_version: hw.unwrap_or(if compat6 { "6" } else { "4" }).to_owned(),
            tools_version: options.text("toolsversion").unwrap_or("2147483647").to_owned(),
            zeroed_grain,
            parent: parent.map(str::to_owned),
            parent_cid,
        })
    }

    /// Lengths of the extents.
    fn extents(&self) -> Vec<u64> {
        let Subformat { flat, split, .. } = self.subformat;
        if !flat && !split {
            return vec![self.size];
        }
        let most = if split { SPLIT } else { u64::MAX };
        let mut left = self.size;
        let mut extents = Vec::new();
        while left > 0 {
            extents.push(left.min(most));
            left -= left.min(most);
        }
        extents
    }
}

/// The content identifier of a backing file.
fn parent_cid(request: &CreateRequest<'_>, parent: &str) -> Result<u32, OpenError> {
    let path = crate::open::backing_path(request.path, parent)?;
    let options =
        FileOptions { read_only: true, access: Access::FORMAT_READ, ..FileOptions::new(&path) };
    let file = request.gate.open(&options, Reason::Named)?;
    match load_descriptor(&*file, &path) {
        Ok((descriptor, _)) => Ok(descriptor.cid),
        Err(_) => refuse("backing_file must be a vmdk image"),
    }
}

/// Makes the image and removes what it made if it cannot be completed.
pub(super) fn create(request: &CreateRequest<'_>) -> Result<(), OpenError> {
    let plan = Plan::new(request)?;
    let path = Path::new(request.path);
    let name = path.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
    let (stem, extension) = match name.rfind('.') {
        Some(dot) => name.split_at(dot),
        None => (name.as_str(), ""),
    };
    let in_one_file = !plan.subformat.flat && !plan.subformat.split;
    let mut lines = Vec::new();
    let mut made = Vec::new();
    let mut result = Ok(());
    for (i, len) in plan.extents().into_iter().enumerate() {
        let extent = match plan.subformat {
            _ if in_one_file => name.clone(),
            Subformat { split: false, .. } => format!("{stem}-flat{extension}"),
            Subformat { flat, .. } => {
                let letter = if flat { 'f' } else { 's' };
                format!("{stem}-{letter}{:03}{extension}", i + 1)
            }
        };
        let (kind, offset) = if plan.subformat.flat { ("FLAT", " 0") } else { ("SPARSE", "") };
        lines.push(format!("RW {} {kind} \"{extent}\"{offset}", len / SECTOR));
        if in_one_file {
            continue;
        }
        let file = path.with_file_name(extent).display().to_string();
        let existed = request.gate.exists(&file);
        let whole = if plan.subformat.flat { len } else { 0 };
        result = request.with_file(&file, whole, Preallocation::Off, |node| {
            if plan.subformat.flat {
                return Ok(());
            }
            sparse_extent(&*node, &plan, len, None).map_err(|e| OpenError::host(&file, e))
        });
        if result.is_err() {
            break;
        }
        made.extend((!existed).then_some(file));
    }
    let result = result.and_then(|()| describe(request, &plan, &lines, in_one_file));
    result.inspect_err(|_| made.iter().for_each(|file| request.gate.remove(file)))
}

/// Writes the descriptor: a file of its own, or a part of the only extent.
fn describe(
    request: &CreateRequest<'_>,
    plan: &Plan,
    lines: &[String],
    in_one_file: bool,
) -> Result<(), OpenError> {
    let failed = |e| OpenError::host(request.path, e);
    let text = Text {
        cid: random_cid().map_err(failed)?,
        parent_cid: plan.parent_cid,
        create_type: plan.subformat.name,
        parent: plan.parent.as_deref(),
        extents: lines,
        hw_version: &plan.hw_version,
        adapter: plan.adapter,
        tools_version: &plan.tools_version,
        size: plan.size,
    }
    .write();
    if in_one_file && text.len() as u64 > DESCRIPTOR_SECTORS * SECTOR {
        return refuse("the descriptor has no room for the name of the backing file");
    }
    request.with_file(request.path, 0, Preallocation::Off, |file| {
        let fill = || -> io::Result<()> {
            if in_one_file {
                return sparse_extent(&*file, plan, plan.size, Some(&text));
            }
            write(&*file, 0, text.as_bytes())?;
            file.flush()
        };
        fill().map_err(failed)
    })
}

/// Writes a sparse extent whose tables are all there and empty. The header comes last, when the rest
/// is stable: without it, the file is no extent.
fn sparse_extent(file: &dyn Node, plan: &Plan, len: u64, text: Option<&str>) -> io::Result<()> {
    let tables = len.div_ceil(GRAIN).div_ceil(ENTRIES);
    let table_sectors = ENTRIES * 4 / SECTOR;
    let directory_sectors = (tables * 4).div_ceil(SECTOR);
    let second = DESCRIPTOR_AT + DESCRIPTOR_SECTORS;
    let first = second + directory_sectors + tables * table_sectors;
    let end = first + directory_sectors + tables * table_sectors;
    let overhead = end.next_multiple_of(GRAIN / SECTOR);
    grow(file, overhead * SECTOR)?;
    for directory in [second, first] {
        let tables = (0..tables).map(|i| directory + directory_sectors + i * table_sectors);
        let entries: Vec<u8> = tables.flat_map(|at| (at as u32).to_le_bytes()).collect();
        write(file, directory * SECTOR, &entries)?;
    }
    if let Some(text) = text {
        write(file, DESCRIPTOR_AT * SECTOR, text.as_bytes())?;
    }
    file.flush()?;
    let compressed = plan.subformat.compressed;
    let mut bits = flags::NEWLINE_TEST | flags::REDUNDANT;
    bits |= if compressed { flags::COMPRESSED | flags::MARKERS } else { 0 };
    bits |= if plan.zeroed_grain { flags::ZEROED_GRAIN } else { 0 };
    let version: u32 = match (compressed, plan.zeroed_grain) {
        (true, _) => 3,
        (_, true) => 2,
        _ => 1,
    };
    let mut header = [0; HEADER];
    let h = &mut header[..];
    put(h, 0, MAGIC);
    put(h, 4, &version.to_le_bytes());
    put(h, 8, &bits.to_le_bytes());
    put(h, 12, &(len / SECTOR).to_le_bytes());
    put(h, 20, &(GRAIN / SECTOR).to_le_bytes());
    put(h, 28, &DESCRIPTOR_AT.to_le_bytes());
    put(h, 36, &DESCRIPTOR_SECTORS.to_le_bytes());
    put(h, 44, &(ENTRIES as u32).to_le_bytes());
    put(h, 48, &second.to_le_bytes());
    put(h, 56, &first.to_le_bytes());
    put(h, 64, &overhead.to_le_bytes());
    put(h, 73, b"\n \r\n");
    put(h, 77, &u16::from(compressed).to_le_bytes());
    write(file, 0, &header)?;
    file.flush()
}
