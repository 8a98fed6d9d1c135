//! VDI, the disk image of VirtualBox, version 1.1 (published description: "VDI file structure",
//! VirtualBox forum, and the VDI entry of the forensics wiki; integers little-endian).
//!
//! Layout: a header of 512 bytes; the block map, a 32-bit number of a block in the file for each
//! block of the disk (or one of two words for "nothing there"); the blocks, 1 MiB each. A static
//! image has all blocks in order.
//!
//! Order of writes: the header's count of blocks, which reserves the place of a new block, and the
//! data; flush; the map's entry. A crash in between loses the space of the block.
//! Not supported: undo and difference images, data in front of blocks.

use std::sync::Arc;
use std::{fmt, io};

use graph::{
    CheckReport, Fix, ImageOption, Node, NodeInfo, OpenError, Preallocation, SECTOR, ValueKind,
};

use crate::blocks::codec::{
    Fields, damage, damaged, grow, le32, le64, note, put, read_start, write,
};
use crate::blocks::{BlockMap, Blocks, Place, Space, Step, Tables, option_size};
use crate::format::{CreateRequest, Format, OpenRequest};

const FORMAT: &str = "vdi";
const HEADER: usize = 512;
const BLOCK: u64 = 1 << 20;
const TEXT: &[u8] = b"<<< QEMU VM Virtual Disk Image >>>\n";

/// The row of `vdi` in the table of formats.
pub struct VdiFormat;

const CREATE_OPTIONS: &[ImageOption] = &[
    ImageOption::new("size", ValueKind::Size, "Virtual disk size"),
    ImageOption::with("static", ValueKind::Switch, "off", "VDI static (pre-allocated) image"),
];

impl Format for VdiFormat {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn recognises(&self, start: &[u8], _path: &str) -> bool {
        start.get(SIGNATURE_AT..).is_some_and(|rest| rest.starts_with(&SIGNATURE))
    }

    fn open(&self, request: OpenRequest<'_>) -> Result<Arc<dyn Node>, OpenError> {
        let header = Header::read(&*request.file, request.path)?;
        let map = Map { header, free: None };
        Ok(Arc::new(Blocks::new(request, map)))
    }

    fn create_options(&self) -> &'static [ImageOption] {
        CREATE_OPTIONS
    }

    fn create(&self, request: &CreateRequest<'_>) -> Result<(), OpenError> {
        let size = option_size(request.options)?;
        check_size(size).map_err(OpenError::Option)?;
        request.with_file(request.path, 0, Preallocation::Off, |file| {
            let made = create(&*file, size, request.options.switch("static"));
            made.map_err(|e| OpenError::host(request.path, e))
        })
    }

    fn check(&self, request: OpenRequest<'_>, fix: Fix) -> Result<Option<CheckReport>, OpenError> {
        let header = Header::read(&*request.file, request.path)?;
        let report = check(&*request.file, &header, fix);
        report.map(Some).map_err(|e| OpenError::host(request.path, e))
    }
}

const SIGNATURE_AT: usize = 0x40;
const SIGNATURE: [u8; 4] = [0x7f, 0x10, 0xda, 0xbe];

mod at {
    //! Offsets in the header.
    pub const VERSION: usize = 0x44;
    pub const HEADER_SIZE: usize = 0x48;
    pub const IMAGE_TYPE: usize = 0x4c;
    pub const OFFSET_BMAP: usize = 0x154;
    pub const OFFSET_DATA: usize = 0x158;
    pub const SECTOR_SIZE: usize = 0x168;
    pub const DISK_SIZE: usize = 0x170;
    pub const BLOCK_SIZE: usize = 0x178;
    pub const BLOCK_EXTRA: usize = 0x17c;
    pub const BLOCKS_IN_IMAGE: usize = 0x180;
    pub const BLOCKS_ALLOCATED: usize = 0x184;
    pub const UUID_IMAGE: usize = 0x188;
    pub const UUID_LAST_SNAP: usize = 0x198;
    pub const UUID_LINK: usize = 0x1a8;
    pub const UUID_PARENT: usize = 0x1b8;
}

/// Block numbers from here on are words: never written, or discarded.
const DISCARDED: u32 = 0xffff_fffe;
const UNALLOCATED: u32 = 0xffff_ffff;

/// Most blocks of an image: the map has to stay below 2 GiB.
const MOST_BLOCKS: u64 = ((1 << 31) - SECTOR) / 4;

/// What a header says.
#[derive(Clone, Copy, Debug)]
struct Header {
    offset_bmap: u64,
    offset_data: u64,
    /// Length of the disk in bytes.
    size: u64,
    blocks: u32,
    allocated: u32,
}

impl Header {
    fn read(file: &dyn Node, path: &str) -> Result<Self, OpenError> {
        let start = read_start::<HEADER>(file, path)?;
        if !VdiFormat.recognises(&start, path) {
            return Err(OpenError::NotThisFormat { format: FORMAT });
        }
        Self::parse(&start, file.size(), &Fields { path, format: FORMAT })
    }

    fn parse(b: &[u8], file_len: u64, fields: &Fields<'_>) -> Result<Self, OpenError> {
        let unless = |right: bool, why: fmt::Arguments<'_>| {
            if right {
                Ok(())
            } else {
                Err(fields.refuse(format!("unsupported VDI image ({why})")))
            }
        };
        let version = le32(b, at::VERSION);
        unless(
            version == 0x1_0001,
            format_args!("version {}.{}", version >> 16, version & 0xffff),
        )?;
        let header = Self {
            offset_bmap: le32(b, at::OFFSET_BMAP).into(),
            offset_data: le32(b, at::OFFSET_DATA).into(),
            // Of a part of a sector, all is there.
            size: le64(b, at::DISK_SIZE).checked_next_multiple_of(SECTOR).unwrap_or(u64::MAX),
            blocks: le32(b, at::BLOCKS_IN_IMAGE),
            allocated: le32(b, at::BLOCKS_ALLOCATED),
        };
        let bmap = header.offset_bmap;
        unless(bmap.is_multiple_of(SECTOR), format_args!("unaligned block map offset {bmap:#x}"))?;
        let data = header.offset_data;
        unless(data.is_multiple_of(SECTOR), format_args!("unaligned data offset {data:#x}"))?;
        let sector = le32(b, at::SECTOR_SIZE);
        unless(u64::from(sector) == SECTOR, format_args!("sector size {sector} is not {SECTOR}"))?;
        let block = le32(b, at::BLOCK_SIZE);
        unless(u64::from(block) == BLOCK, format_args!("block size {block} is not {BLOCK}"))?;
        let blocks = u64::from(header.blocks);
        unless(
            blocks <= MOST_BLOCKS,
            format_args!("too many blocks {blocks}, max is {MOST_BLOCKS}"),
        )?;
        check_size(header.size).map_err(|why| fields.refuse(why))?;
        let (size, room) = (header.size, blocks * BLOCK);
        unless(size <= room, format_args!("disk size {size}, image bitmap has room for {room}"))?;
        let zero = |at: usize| le64(b, at) == 0 && le64(b, at + 8) == 0;
        unless(zero(at::UUID_LINK), format_args!("non-NULL link UUID"))?;
        unless(zero(at::UUID_PARENT), format_args!("non-NULL parent UUID"))?;
        unless(le32(b, at::BLOCK_EXTRA) == 0, format_args!("data in front of blocks"))?;
        let bmap_end = bmap + blocks * 4;
        unless(bmap_end <= file_len, format_args!("the block map ends beyond the file"))?;
        unless(
            blocks == 0 || bmap_end <= data && bmap >= HEADER as u64,
            format_args!("the block map overlaps header or data"),
        )?;
        Ok(header)
    }
}

fn check_size(size: u64) -> Result<(), String> {
    let most = MOST_BLOCKS * BLOCK;
    if size <= most {
        return Ok(());
    }
    Err(format!("Unsupported VDI image size (size is {size:#x}, max supported is {most:#x})"))
}

/// The table of an open image.
struct Map {
    header: Header,
    /// Known from the first new block on.
    free: Option<Free>,
}

/// Numbers that no entry of the map has.
struct Free {
    /// Lost by a crash, below `next`; the lowest is the last.
    holes: Vec<u32>,
    /// All from here on are free.
    next: u32,
}

/// Which blocks of the file are used: a bit for each number.
struct Used(Vec<u64>);

impl Used {
    fn new(blocks: u32) -> Self {
        Self(vec![0; (blocks as usize).div_ceil(64)])
    }

    fn has(&self, number: u32) -> bool {
        self.0[number as usize / 64] >> (number % 64) & 1 != 0
    }

    /// Marks a number; whether it was free.
    fn mark(&mut self, number: u32) -> bool {
        let was_free = !self.has(number);
        self.0[number as usize / 64] |= 1 << (number % 64);
        was_free
    }
}

impl BlockMap for Map {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn size(&self) -> u64 {
        self.header.size
    }

    fn block(&self) -> u64 {
        BLOCK
    }

    fn lookup(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
    ) -> io::Result<(Place, u64)> {
        let entry = u32::from_le_bytes(tables.get(file, self.entry_at(guest))?);
        let within = guest % BLOCK;
        let place = match entry {
            DISCARDED.. => Place::Zero,
            number => Place::Data(self.host(u64::from(number)) + within),
        };
        Ok((place, BLOCK - within))
    }

    fn allocate(&mut self, tables: &mut Tables, file: &dyn Node, _: u64) -> io::Result<Space> {
        let free = match &mut self.free {
            Some(free) => free,
            None => self.free.insert(Free::find(&self.header, tables, file)?),
        };
        let number = match free.holes.pop() {
            Some(number) => number,
            None if free.next < self.header.blocks => {
                free.next += 1;
                free.next - 1
            }
            None => return Err(damaged("vdi: all blocks of the file are used")),
        };
        // Others take the number of blocks for the first free one: holes count as used.
        let count = free.next.to_le_bytes();
        tables.put(file, at::BLOCKS_ALLOCATED as u64, &count, Step::Reserve)?;
        let host = self.host(u64::from(number));
        Ok(Space { host, end: host + BLOCK })
    }

    fn link(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
        host: u64,
    ) -> io::Result<()> {
        let number = (host - self.header.offset_data) / BLOCK;
        tables.put(file, self.entry_at(guest), &(number as u32).to_le_bytes(), Step::Leaves)
    }

    fn describe(&self, _info: &mut NodeInfo) {}
}

impl Free {
    /// Looks at the whole map: a crash can leave a count that is too high.
    fn find(header: &Header, tables: &mut Tables, file: &dyn Node) -> io::Result<Self> {
        let mut used = Used::new(header.blocks);
        for block in 0..header.blocks {
            let at = header.offset_bmap + u64::from(block) * 4;
            let number = u32::from_le_bytes(tables.get(file, at)?);
            if number < header.blocks {
                used.mark(number);
            }
        }
        let next = (0..header.blocks).rev().find(|n| used.has(*n)).map_or(0, |n| n + 1);
        let holes = (0..next).rev().filter(|n| !used.has(*n)).collect();
        Ok(Self { holes, next })
    }
}

impl Map {
    fn entry_at(&self, guest: u64) -> u64 {
        self.header.offset_bmap + guest / BLOCK * 4
    }

    fn host(&self, number: u64) -> u64 {
        self.header.offset_data + number * BLOCK
    }
}

/// Writes a new image of `size` bytes into `file`, which is empty.
fn create(file: &dyn Node, size: u64, fixed: bool) -> io::Result<()> {
    let blocks = size.div_ceil(BLOCK) as u32;
    let map_len = (u64::from(blocks) * 4).next_multiple_of(SECTOR);
    let header = new_header(size, blocks, HEADER as u64 + map_len, fixed)?;
    write_map(file, blocks, map_len, fixed)?;
    let data = if fixed { u64::from(blocks) * BLOCK } else { 0 };
    grow(file, HEADER as u64 + map_len + data)?;
    // Without a header the file is no image: it comes when the rest is there.
    file.flush()?;
    write(file, 0, &header)?;
    file.flush()
}

fn new_header(size: u64, blocks: u32, data: u64, fixed: bool) -> io::Result<[u8; HEADER]> {
    let mut header = [0; HEADER];
    let h = &mut header[..];
    put(h, 0, TEXT);
    put(h, SIGNATURE_AT, &SIGNATURE);
    put(h, at::VERSION, &0x1_0001u32.to_le_bytes());
    put(h, at::HEADER_SIZE, &0x180u32.to_le_bytes());
    put(h, at::IMAGE_TYPE, &(if fixed { 2u32 } else { 1 }).to_le_bytes());
    put(h, at::OFFSET_BMAP, &(HEADER as u32).to_le_bytes());
    put(h, at::OFFSET_DATA, &(data as u32).to_le_bytes());
    put(h, at::SECTOR_SIZE, &(SECTOR as u32).to_le_bytes());
    put(h, at::DISK_SIZE, &size.to_le_bytes());
    put(h, at::BLOCK_SIZE, &(BLOCK as u32).to_le_bytes());
    put(h, at::BLOCKS_IN_IMAGE, &blocks.to_le_bytes());
    put(h, at::BLOCKS_ALLOCATED, &(if fixed { blocks } else { 0 }).to_le_bytes());
    put(h, at::UUID_IMAGE, &crate::uuid::random()?);
    put(h, at::UUID_LAST_SNAP, &crate::uuid::random()?);
    Ok(header)
}

/// Writes the map in pieces of bounded size.
fn write_map(file: &dyn Node, blocks: u32, map_len: u64, fixed: bool) -> io::Result<()> {
    const PIECE: u64 = 1 << 20;
    let mut at = 0;
    while at < map_len {
        let len = PIECE.min(map_len - at);
        let entry = |i: u64| match i {
            i if i >= u64::from(blocks) => 0,
            i if fixed => i as u32,
            _ => UNALLOCATED,
        };
        let first = at / 4;
        let bytes: Vec<u8> =
            (first..first + len / 4).flat_map(|i| entry(i).to_le_bytes()).collect();
        write(file, HEADER as u64 + at, &bytes)?;
        at += len;
    }
    Ok(())
}

/// Checks that each block of the file is used once and that the header counts them. A count that
/// is too high is what a crash leaves: the space of a block is lost, nothing else.
fn check(file: &dyn Node, header: &Header, fix: Fix) -> io::Result<CheckReport> {
    let mut report = CheckReport::default();
    let mut tables = Tables::default();
    let mut used = Used::new(header.blocks);
    let mut found = 0;
    for block in 0..header.blocks {
        let at = header.offset_bmap + u64::from(block) * 4;
        let number = u32::from_le_bytes(tables.get(file, at)?);
        if number >= DISCARDED {
            continue;
        }
        if number >= header.blocks {
            damage(&mut report, format!("ERROR: block index {block} too large, is {number}"));
            continue;
        }
        if used.mark(number) {
            found += 1;
        } else {
            damage(
                &mut report,
                format!("ERROR: block index {block} also used by another: {number}"),
            );
        }
    }
    let counted = header.allocated;
    if found == counted {
        return Ok(report);
    }
    let text = format!("ERROR: allocated blocks mismatch, is {found}, should be {counted}");
    if found > counted {
        damage(&mut report, text);
    } else {
        report.leaks += u64::from(counted - found);
        note(&mut report, text);
    }
    let needed = (0..header.blocks).rev().find(|n| used.has(*n)).map_or(0, |n| n + 1);
    let repairs = if found > counted { fix == Fix::All } else { fix >= Fix::Leaks };
    // Blocks in the middle cannot be given back: their count stays.
    if repairs && needed == found {
        write(file, at::BLOCKS_ALLOCATED as u64, &found.to_le_bytes())?;
        file.flush()?;
        report.leaks_fixed = std::mem::take(&mut report.leaks);
        if found > counted {
            report.corruptions -= 1;
            report.corruptions_fixed += 1;
        }
    }
    Ok(report)
}
