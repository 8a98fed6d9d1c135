//! Making a new image.

use std::io;

use graph::{Node, OpenError, Preallocation};

use super::crc::crc32c;
use super::{
    BAT, CurrentHeader, HEADERS, IDENTIFIER, METADATA, METADATA_TABLE, MIB, REGIONS, State, item,
    state,
};
use crate::blocks::codec::{grow, put, write};
use crate::blocks::option_size;
use crate::format::CreateRequest;

/// Largest disk: 64 TiB.
const MOST: u64 = 64 << 40;

const REGION_TABLE: usize = 65536;

/// What the file names as its creator.
const CREATOR: &str = "Tinamou";

/// Free space behind the regions of a new image.
const GAP: u64 = 4 * MIB;

/// Checked options.
struct Plan {
    size: u64,
    block: u64,
    log_len: u64,
    fixed: bool,
    zero_blocks: bool,
}

fn refuse<T>(text: &str) -> Result<T, OpenError> {
    Err(OpenError::Option(text.to_owned()))
}

impl Plan {
    fn new(request: &CreateRequest<'_>) -> Result<Self, OpenError> {
        let options = request.options;
        let size = option_size(options)?;
        if size > MOST {
            return refuse("Image size too large; max of 64TB");
        }
        let fixed = match options.text("subformat").unwrap_or("dynamic") {
            "dynamic" => false,
            "fixed" => true,
            other => {
                return refuse(&format!("Parameter 'subformat' does not accept value '{other}'"));
            }
        };
        let log_len = options.number("log_size").unwrap_or(MIB);
        let up = |n: u64| n.max(1).checked_next_multiple_of(MIB).unwrap_or(u64::MAX);
        let log_len = if log_len < MIB { up(log_len) } else { log_len };
        if log_len >= 1 << 32 {
            return refuse("Log size must be smaller than 4 GB");
        }
        if !log_len.is_multiple_of(MIB) || options.number("log_size") == Some(0) {
            return refuse("Log size must be a multiple of 1 MB");
        }
        let block = match options.number("block_size").unwrap_or(0) {
            0 => default_block(size),
            n => up(n).min(256 * MIB),
        };
        if !block.is_power_of_two() {
            return refuse("Block size must be a power of two");
        }
        let zero_blocks = options.text("block_state_zero").is_none_or(|text| text != "off")
            && (!options.is_set("block_state_zero") || options.switch("block_state_zero"));
        Ok(Self { size, block, log_len, fixed, zero_blocks })
    }

    /// Bytes of the block allocation table.
    fn table_len(&self) -> u64 {
        let blocks = self.size.div_ceil(self.block);
        let entries = blocks + blocks.saturating_sub(1) / self.chunk();
        (entries * 8).next_multiple_of(MIB).max(MIB)
    }

    /// Blocks that one sector bitmap stands for.
    fn chunk(&self) -> u64 {
        (512 << 23) / self.block
    }
}

/// The block size for a disk if the user has no wish.
fn default_block(size: u64) -> u64 {
    match size {
        n if n > 32 << 40 => 64 * MIB,
        n if n > 100 << 30 => 32 * MIB,
        n if n > 1 << 30 => 16 * MIB,
        _ => 8 * MIB,
    }
}

/// Makes an image.
pub(super) fn create(request: &CreateRequest<'_>) -> Result<(), OpenError> {
    let plan = Plan::new(request)?;
    request.with_file(request.path, 0, Preallocation::Off, |file| {
        plan.write(&*file).map_err(|e| OpenError::host(request.path, e))
    })
}

impl Plan {
    /// Tables first; the identifier, without which the file is no image, last.
    fn write(&self, file: &dyn Node) -> io::Result<()> {
        let table_at = MIB + self.log_len;
        let metadata_at = table_at + self.table_len();
        let data_at = metadata_at + MIB + GAP;
        grow(file, if self.fixed { data_at + self.size } else { data_at })?;
        self.write_table(file, table_at, data_at)?;
        self.write_metadata(file, metadata_at)?;
        let regions = self.region_table(table_at, metadata_at);
        for at in REGIONS {
            write(file, at, &regions)?;
        }
        let mut header = CurrentHeader::fresh(MIB, self.log_len as u32)?;
        for _ in HEADERS {
            header.advance(file)?;
        }
        file.flush()?;
        let mut start = [0; 520];
        put(&mut start, 0, IDENTIFIER);
        let name: Vec<u8> = CREATOR.encode_utf16().flat_map(u16::to_le_bytes).collect();
        put(&mut start, 8, &name);
        write(file, 0, &start)?;
        file.flush()
    }

    fn write_table(&self, file: &dyn Node, table_at: u64, data_at: u64) -> io::Result<()> {
        let blocks = self.size.div_ceil(self.block);
        if !self.fixed && !self.zero_blocks {
            return Ok(());
        }
        let entries = blocks + blocks.saturating_sub(1) / self.chunk();
        let chunk = self.chunk();
        let mut bytes = Vec::new();
        let mut at = table_at;
        for i in 0..entries {
            let entry = if i % (chunk + 1) == chunk {
                0
            } else if self.zero_blocks {
                State::Zero as u64
            } else {
                let block = i - i / (chunk + 1);
                state(data_at + block * self.block, State::FullyPresent)
            };
            bytes.extend(entry.to_le_bytes());
            if bytes.len() >= 1 << 20 {
                write(file, at, &bytes)?;
                at += bytes.len() as u64;
                bytes.clear();
            }
        }
        write(file, at, &bytes)
    }

    fn write_metadata(&self, file: &dyn Node, at: u64) -> io::Result<()> {
        let leave_allocated = u64::from(self.fixed);
        let parameters = self.block | leave_allocated << 32;
        let sector = 512u32.to_le_bytes();
        let page83 = crate::uuid::random()?;
        let items: [(&[u8; 16], &[u8], u32); 5] = [
            (&item::FILE_PARAMETERS, &parameters.to_le_bytes(), 4),
            (&item::DISK_SIZE, &self.size.to_le_bytes(), 6),
            (&item::PAGE_83, &page83, 6),
            (&item::LOGICAL_SECTOR, &sector, 6),
            (&item::PHYSICAL_SECTOR, &sector, 6),
        ];
        let mut table = vec![0; METADATA_TABLE];
        put(&mut table, 0, b"metadata");
        put(&mut table, 10, &(items.len() as u16).to_le_bytes());
        let mut values = Vec::new();
        for (i, (guid, value, flags)) in items.into_iter().enumerate() {
            let entry = &mut table[32 + i * 32..][..32];
            put(entry, 0, guid);
            put(entry, 16, &((METADATA_TABLE + values.len()) as u32).to_le_bytes());
            put(entry, 20, &(value.len() as u32).to_le_bytes());
            put(entry, 24, &flags.to_le_bytes());
            values.extend_from_slice(value);
        }
        table.extend(values);
        write(file, at, &table)
    }

    fn region_table(&self, table_at: u64, metadata_at: u64) -> Vec<u8> {
        let mut table = vec![0; REGION_TABLE];
        put(&mut table, 0, b"regi");
        put(&mut table, 8, &2u32.to_le_bytes());
        let regions = [(&BAT, table_at, self.table_len()), (&METADATA, metadata_at, MIB)];
        for (i, (guid, at, len)) in regions.into_iter().enumerate() {
            let entry = &mut table[16 + i * 32..][..32];
            put(entry, 0, guid);
            put(entry, 16, &at.to_le_bytes());
            put(entry, 24, &(len as u32).to_le_bytes());
        }
        let sum = crc32c(&table);
        put(&mut table, 4, &sum.to_le_bytes());
        table
    }
}
