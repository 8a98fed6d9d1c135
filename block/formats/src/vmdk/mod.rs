//! VMDK ("Virtual Disk Format 5.0", VMware Technical Note; integers little-endian).
//!
//! A text, the descriptor, names the extents that make up the disk, one behind the other: flat
//! files, or sparse extents of grains (64 KiB) found through a directory of tables. The descriptor
//! is a file of its own or lies inside the only extent. `streamOptimized` extents hold compressed
//! grains, each written once.
//!
//! Order of writes: `blocks` states it; both the tables and their redundant copies are leaves. The
//! content identifier (CID) changes in place, before the first write of an opened image, so that
//! overlays notice.
//! Not supported: seSparse, raw device mappings, images with a change-tracking file for writing.

mod create;
mod descriptor;
mod parent;
mod sparse;

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use graph::{
    CheckReport, Child, Compress, Extent, ExtentKind, Fix, Image, ImageOption, Limits, Node,
    NodeInfo, OpenError, Preallocation, Property, Role, ValueKind, WriteFlags, ZeroFlags,
    check_range,
};

use crate::Raw;
use crate::blocks::codec::{Fields, read_padded, write};
use crate::blocks::{Blocks, no_resize};
use crate::format::{CreateRequest, Format, OpenRequest, Reference};
use descriptor::{Descriptor, Kind, LONGEST};
use sparse::{COWD, Grains, Header, MAGIC, Map};

const FORMAT: &str = "vmdk";

/// Types of images whose descriptor is a file of its own.
const TYPES: &[&str] = &[
    "monolithicFlat",
    "vmfs",
    "vmfsSparse",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "custom",
];

/// The row of `vmdk` in the table of formats.
pub struct VmdkFormat;

const CREATE_OPTIONS: &[ImageOption] = &[
    ImageOption::new("size", ValueKind::Size, "Virtual disk size"),
    ImageOption::new(
        "adapter_type",
        ValueKind::Text,
        "Virtual adapter type, can be one of ide (default), lsilogic, buslogic or legacyESX",
    ),
    ImageOption::new("backing_file", ValueKind::Text, "File name of a base image"),
    ImageOption::new("backing_fmt", ValueKind::Text, "Must be 'vmdk' if present"),
    ImageOption::with("compat6", ValueKind::Switch, "off", "VMDK version 6 image"),
    ImageOption::with("hwversion", ValueKind::Text, "undefined", "VMDK hardware version"),
    ImageOption::new(
        "subformat",
        ValueKind::Text,
        "VMDK flat extent format, can be one of {monolithicSparse (default) | monolithicFlat | \
         twoGbMaxExtentSparse | twoGbMaxExtentFlat | streamOptimized} ",
    ),
    ImageOption::new("toolsversion", ValueKind::Text, "VMware guest tools version"),
    ImageOption::new(
        "zeroed_grain",
        ValueKind::Switch,
        "Enable efficient zero writes using the zeroed-grain GTE feature",
    ),
];

impl Format for VmdkFormat {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn recognises(&self, start: &[u8], _path: &str) -> bool {
        start.starts_with(MAGIC) || start.starts_with(COWD) || descriptor::is_descriptor(start)
    }

    fn references(&self, file: &dyn Node, path: &str) -> Result<Vec<Reference>, OpenError> {
        let (descriptor, place) = load_descriptor(file, path)?;
        let parent = descriptor.parent.map(|name| Reference {
            role: Role::Backing,
            name,
            format: Some(FORMAT.to_owned()),
        });
        let extents = descriptor.extents.into_iter().enumerate();
        let files = extents.filter(|(_, e)| !place.embedded && e.kind != Kind::Zero);
        let files = files.map(|(i, extent)| Reference {
            role: Role::Extent(i as u32),
            name: extent.file,
            format: None,
        });
        Ok(files.chain(parent).collect())
    }

    fn open(&self, request: OpenRequest<'_>) -> Result<Arc<dyn Node>, OpenError> {
        Ok(Arc::new(Vmdk::open(request)?))
    }

    fn create_options(&self) -> &'static [ImageOption] {
        CREATE_OPTIONS
    }

    fn create(&self, request: &CreateRequest<'_>) -> Result<(), OpenError> {
        create::create(request)
    }

    fn check(&self, request: OpenRequest<'_>, _: Fix) -> Result<Option<CheckReport>, OpenError> {
        let failed = |e| OpenError::host(request.path, e);
        let mut report = CheckReport::default();
        let (descriptor, place) = load_descriptor(&*request.file, request.path)?;
        let mut start = 0;
        for (i, extent) in descriptor.extents.iter().enumerate() {
            let child = request.child(Role::Extent(i as u32));
            let file = if place.embedded { Some(Arc::clone(&request.file)) } else { child };
            if let (Kind::Sparse, Some(file)) = (extent.kind, file) {
                let header = Header::read(&*file, request.path)?;
                sparse::check(&*file, &header, start, &mut report).map_err(failed)?;
            }
            start += extent.size;
        }
        Ok(Some(report))
    }
}

/// Where a descriptor lies.
#[derive(Clone, Copy)]
struct DescriptorPlace {
    offset: u64,
    /// Inside the only extent.
    embedded: bool,
}

/// Reads the descriptor of the image in `file`. An extent without one describes itself.
fn load_descriptor(
    file: &dyn Node,
    path: &str,
) -> Result<(Descriptor, DescriptorPlace), OpenError> {
    let fields = Fields { path, format: FORMAT };
    let mut start = [0; 512];
    read_padded(file, 0, &mut start).map_err(|e| OpenError::host(path, e))?;
    let embedded = start.starts_with(MAGIC) || start.starts_with(COWD);
    if !embedded && !descriptor::is_descriptor(&start) {
        return Err(OpenError::NotThisFormat { format: FORMAT });
    }
    let (offset, len) = if embedded {
        let header = Header::read(file, path)?;
        if header.descriptor_offset == 0 {
            return Ok((alone(&header), DescriptorPlace { offset: 0, embedded }));
        }
        (header.descriptor_offset, header.descriptor_len)
    } else {
        (0, file.size())
    };
    let mut text = vec![0; len.min(LONGEST).min(file.size().saturating_sub(offset)) as usize];
    read_padded(file, offset, &mut text).map_err(|e| OpenError::host(path, e))?;
    let mut descriptor = Descriptor::parse(&text, &fields)?;
    if !embedded {
        let name = descriptor.create_type.as_str();
        if !TYPES.contains(&name) {
            return Err(fields.refuse(format!("Unsupported image type '{name}'")));
        }
    } else {
        // The extent that holds the descriptor is the disk, whatever name it had.
        descriptor.extents = alone(&Header::read(file, path)?).extents;
    }
    Ok((descriptor, DescriptorPlace { offset, embedded }))
}

/// What a sparse extent without a descriptor stands for.
fn alone(header: &Header) -> Descriptor {
    Descriptor {
        cid: descriptor::NO_PARENT,
        cid_digits: (0, 0),
        parent_cid: descriptor::NO_PARENT,
        create_type: "monolithicSparse".to_owned(),
        parent: None,
        extents: vec![descriptor::Extent {
            writable: true,
            size: header.capacity,
            kind: Kind::Sparse,
            type_name: String::new(),
            file: String::new(),
            offset: 0,
        }],
    }
}

/// A content identifier that is not the word for "no parent".
fn random_cid() -> io::Result<u32> {
    Ok(u32::from_le_bytes(crate::uuid::random_bytes()?) & 0xffff_fffe)
}

/// A part of the disk.
struct Part {
    start: u64,
    len: u64,
    /// None for an extent of zeroes.
    node: Option<Arc<dyn Node>>,
    /// Grain size of a sparse extent.
    grain: Option<u64>,
    compressed: bool,
    file: Option<Arc<dyn Node>>,
    type_name: String,
    writable: bool,
}

/// An open image.
pub struct Vmdk {
    file: Arc<dyn Node>,
    backing: Option<Arc<dyn Node>>,
    parts: Vec<Part>,
    size: u64,
    read_only: bool,
    place: DescriptorPlace,
    descriptor: Mutex<Descriptor>,
    /// The CID has changed since the image was opened.
    touched: std::sync::atomic::AtomicBool,
}

impl Vmdk {
    fn open(request: OpenRequest<'_>) -> Result<Self, OpenError> {
        let path = request.path;
        let fields = Fields { path, format: FORMAT };
        let (descriptor, place) = load_descriptor(&*request.file, path)?;
        let read_only = request.read_only || request.file.read_only();
        let backing = request.child(Role::Backing);
        let parent = match &backing {
            Some(backing) => Some(parent::of(backing, descriptor.parent_cid, &fields)?),
            None => None,
        };
        let mut parts = Vec::new();
        let mut start: u64 = 0;
        for (i, extent) in descriptor.extents.iter().enumerate() {
            let child = request.child(Role::Extent(i as u32));
            let file = if place.embedded { Some(Arc::clone(&request.file)) } else { child };
            let part = open_part(extent, file, start, &parent, &request)?;
            let end = start.checked_add(part.len).filter(|end| *end <= i64::MAX as u64);
            start = end.ok_or_else(|| fields.refuse("the extents are too large"))?;
            parts.push(part);
        }
        Ok(Self {
            file: request.file,
            backing,
            parts,
            size: start,
            read_only,
            place,
            descriptor: Mutex::new(descriptor),
            touched: Default::default(),
        })
    }

    /// Calls `each` for the parts of a range, with offsets inside them.
    fn parts(
        &self,
        offset: u64,
        len: u64,
        mut each: impl FnMut(&Part, u64, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        check_range(offset, len, self.size)?;
        let (mut at, end) = (offset, offset + len);
        let first = self.parts.partition_point(|part| part.start + part.len <= offset);
        for part in &self.parts[first..] {
            if at >= end {
                break;
            }
            let stop = end.min(part.start + part.len);
            each(part, at - part.start, stop - at)?;
            at = stop;
        }
        Ok(())
    }

    fn writable(&self) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        use std::sync::atomic::Ordering;
        if self.touched.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut descriptor = self.descriptor.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.touched.load(Ordering::Acquire) {
            self.change_cid(&mut descriptor)?;
            self.touched.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Gives the content a new identifier with as many digits as the old one had.
    fn change_cid(&self, descriptor: &mut Descriptor) -> io::Result<()> {
        let (at, digits) = descriptor.cid_digits;
        if digits == 0 {
            return Ok(());
        }
        let mask = if digits >= 8 { u32::MAX } else { (1 << (4 * digits)) - 1 };
        let old = descriptor.cid;
        let mut cid = random_cid()? & mask;
        if cid == old {
            cid ^= 2;
        }
        let text = format!("{cid:0digits$x}");
        write(&*self.file, self.place.offset + at as u64, text.as_bytes())?;
        descriptor.cid = cid;
        Ok(())
    }

    fn finish(&self, fua: bool) -> io::Result<()> {
        if fua { self.flush() } else { Ok(()) }
    }
}

fn open_part(
    extent: &descriptor::Extent,
    file: Option<Arc<dyn Node>>,
    start: u64,
    backing: &Option<Arc<dyn Node>>,
    request: &OpenRequest<'_>,
) -> Result<Part, OpenError> {
    let part = |len, node, file| Part {
        start,
        len,
        node,
        grain: None,
        compressed: false,
        file,
        type_name: extent.type_name.clone(),
        writable: extent.writable,
    };
    let file = match (extent.kind, file) {
        (Kind::Zero, _) => return Ok(part(extent.size, None, None)),
        (_, Some(file)) => file,
        (_, None) => {
            let why = format!("the file of extent '{}' is missing", extent.file);
            return Err(OpenError::Image { path: request.path.to_owned(), why });
        }
    };
    let read_only = request.read_only || file.read_only() || !extent.writable;
    if extent.kind == Kind::Flat {
        let end = extent.offset.checked_add(extent.size);
        if end.is_none_or(|end| end > file.size()) {
            let why = format!("the file of extent '{}' is too short", extent.file);
            return Err(OpenError::Image { path: request.path.to_owned(), why });
        }
        let node = Raw::window(Arc::clone(&file), extent.offset, Some(extent.size))?;
        return Ok(part(extent.size, Some(Arc::new(node) as Arc<dyn Node>), Some(file)));
    }
    let header = Header::read(&*file, request.path)?;
    if header.version == 3 && !header.compressed() && !read_only {
        let what = "writing VMDK version 3, which tracks changes".to_owned();
        return Err(OpenError::NotSupported { path: request.path.to_owned(), what });
    }
    // What this extent has not is behind the same offset of the backing file.
    let behind = match backing {
        Some(backing) if backing.size() > start => {
            Some(Arc::new(Raw::window(Arc::clone(backing), start, None)?) as Arc<dyn Node>)
        }
        _ => None,
    };
    let map = Map::new(header);
    let mut node = Blocks::of(Arc::clone(&file), behind, read_only, request.discard, map);
    if header.compressed() {
        let markers = header.flags & sparse::flags::MARKERS != 0;
        let grain = header.grain;
        node = node.with_unpack(Grains { grain, markers }).with_pack(Grains { grain, markers });
    }
    let len = if extent.size == 0 { header.capacity } else { extent.size.min(header.capacity) };
    Ok(Part {
        grain: Some(header.grain),
        compressed: header.compressed(),
        ..part(len, Some(Arc::new(node) as Arc<dyn Node>), Some(file))
    })
}

impl Node for Vmdk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut rest = &mut buf[..];
        let len = rest.len() as u64;
        self.parts(offset, len, |part, at, len| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(len as usize);
            rest = later;
            match &part.node {
                Some(node) => node.read_at(at, now),
                None => {
                    now.fill(0);
                    Ok(())
                }
            }
        })
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.writable()?;
        let mut rest = buf;
        self.parts(offset, buf.len() as u64, |part, at, len| {
            let (now, later) = rest.split_at(len as usize);
            rest = later;
            part.for_writing()?.write_at(at, now, WriteFlags::default())
        })?;
        self.finish(flags.fua)
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.writable()?;
        let each = ZeroFlags { fua: false, ..flags };
        self.parts(offset, len, |part, at, len| match &part.node {
            None => Ok(()),
            Some(_) => part.for_writing()?.write_zeroes(at, len, each),
        })?;
        self.finish(flags.fua)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable()?;
        self.parts(offset, len, |part, at, len| match &part.node {
            None => Ok(()),
            Some(_) => part.for_writing()?.discard(at, len),
        })
    }

    fn flush(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        for part in &self.parts {
            if let Some(node) = &part.node {
                node.flush()?;
            }
        }
        if self.place.embedded { Ok(()) } else { self.file.flush() }
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.size)?;
        let first = self.parts.partition_point(|part| part.start + part.len <= offset);
        let Some(part) = self.parts.get(first) else {
            return Ok(Extent { kind: ExtentKind::Unallocated, len, host_offset: None });
        };
        let at = offset - part.start;
        let len = len.min(part.len - at);
        match &part.node {
            Some(node) => node.block_status(at, len),
            None => Ok(Extent { kind: ExtentKind::Zero, len, host_offset: None }),
        }
    }

    fn truncate(&self, _size: u64) -> io::Result<()> {
        Err(no_resize())
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn limits(&self) -> Limits {
        let first = self.parts.iter().find_map(|part| part.node.as_ref());
        first.map_or_else(Limits::default, |node| node.limits())
    }

    fn children(&self) -> Vec<Child> {
        let file = Child { role: Role::File, node: Arc::clone(&self.file) };
        let extents = self.parts.iter().enumerate().filter(|_| !self.place.embedded);
        let extents = extents.filter_map(|(i, part)| {
            let node = Arc::clone(part.file.as_ref()?);
            Some(Child { role: Role::Extent(i as u32), node })
        });
        let backing = self.backing.as_ref();
        let backing = backing.map(|b| Child { role: Role::Backing, node: Arc::clone(b) });
        extents.chain([file]).chain(backing).collect()
    }

    fn info(&self) -> NodeInfo {
        let file = self.file.info();
        let descriptor = self.descriptor.lock().unwrap_or_else(PoisonError::into_inner);
        let others = self.parts.iter().filter(|_| !self.place.embedded);
        let others = others.filter_map(|part| part.file.as_ref()?.info().allocated);
        NodeInfo {
            driver: FORMAT,
            filename: file.filename,
            allocated: file.allocated.map(|bytes| bytes + others.sum::<u64>()),
            cluster_size: self.parts.iter().find_map(|p| p.grain.and_then(|g| g.try_into().ok())),
            backing_filename: descriptor.parent.clone(),
            backing_format: descriptor.parent.as_ref().map(|_| FORMAT.to_owned()),
            specific: vec![
                ("cid", u64::from(descriptor.cid).into()),
                ("parent-cid", u64::from(descriptor.parent_cid).into()),
                ("create-type", descriptor.create_type.as_str().into()),
                ("extents", Property::List(self.parts.iter().map(Part::describe).collect())),
            ],
            ..NodeInfo::default()
        }
    }

    fn image(&self) -> Option<&dyn Image> {
        Some(self)
    }
}

impl Part {
    fn for_writing(&self) -> io::Result<&dyn Node> {
        match &self.node {
            Some(node) if self.writable => Ok(&**node),
            _ => Err(io::Error::new(
                io::ErrorKind::ReadOnlyFilesystem,
                "this extent of the vmdk image cannot be written",
            )),
        }
    }

    fn describe(&self) -> Property {
        let filename = self.file.as_ref().map_or(String::new(), |file| file.info().filename);
        let compressed = self.compressed.then_some(("compressed", Property::Bool(true)));
        let grain = self.grain.map(|grain| ("cluster-size", Property::Number(grain)));
        let fields = compressed
            .into_iter()
            .chain([
                ("virtual-size", Property::Number(self.len)),
                ("filename", Property::Text(filename)),
            ])
            .chain(grain)
            .chain([("format", Property::Text(self.type_name.clone()))]);
        Property::Group(fields.collect())
    }
}

impl Image for Vmdk {
    fn resize(&self, size: u64, _: Preallocation) -> io::Result<()> {
        self.truncate(size)
    }

    fn compress(&self) -> Option<&dyn Compress> {
        self.parts.first().filter(|part| part.compressed).map(|_| self as &dyn Compress)
    }
}

impl Compress for Vmdk {
    fn unit(&self) -> u64 {
        self.parts.first().and_then(|part| part.grain).unwrap_or(1)
    }

    fn only(&self) -> bool {
        true
    }

    fn write_compressed(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // An extent that compresses does so with every write.
        self.write_at(offset, data, WriteFlags::default())
    }
}
