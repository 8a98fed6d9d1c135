//! Firmware configuration device: named and numbered blobs that the guest's firmware reads (Linux
//! `include/uapi/linux/qemu_fw_cfg.h` and the interface documentation it refers to), with DMA.
//!
//! Blobs are read-only but for those made writable, which DMA may change in place. DMA reaches
//! RAM only.

use crate::{CHUNK, read_ram, write_ram};
use device::{
    AccessRules, Bus, Category, Device, DeviceClass, MmioDevice, RestoreError, SavedState, Value,
};
use memory::AddressSpace;
use state::Blob;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Numbers of the blobs that have no name.
pub mod keys {
    /// "QEMU".
    pub const SIGNATURE: u16 = 0x00;
    /// Features: bit 0 the traditional interface, bit 1 DMA.
    pub const ID: u16 = 0x01;
    /// UUID of the machine, 16 bytes.
    pub const UUID: u16 = 0x02;
    /// 1 when no graphics are wanted.
    pub const NOGRAPHIC: u16 = 0x04;
    /// Number of processors.
    pub const NB_CPUS: u16 = 0x05;
    /// Kernel: length.
    pub const KERNEL_SIZE: u16 = 0x08;
    /// Initial RAM disk: length.
    pub const INITRD_SIZE: u16 = 0x0b;
    /// 1 when the firmware's boot menu is wanted.
    pub const BOOT_MENU: u16 = 0x0e;
    /// Kernel.
    pub const KERNEL_DATA: u16 = 0x11;
    /// Initial RAM disk.
    pub const INITRD_DATA: u16 = 0x12;
    /// Kernel command line: length with the final zero.
    pub const CMDLINE_SIZE: u16 = 0x14;
    /// Kernel command line.
    pub const CMDLINE_DATA: u16 = 0x15;
    /// Directory of the named blobs.
    pub const FILE_DIR: u16 = 0x19;
    /// Number of the first named blob.
    pub const FILE_FIRST: u16 = 0x20;
}

const CTL: u64 = 0x08;
const DMA_HIGH: u64 = 0x10;
const DMA_LOW: u64 = 0x14;
/// What the DMA register reads: "QEMU CFG".
const DMA_SIGNATURE: u64 = 0x5145_4d55_2043_4647;

const DMA_ERROR: u32 = 1 << 0;
const DMA_READ: u32 = 1 << 1;
const DMA_SKIP: u32 = 1 << 2;
const DMA_SELECT: u32 = 1 << 3;
const DMA_WRITE: u32 = 1 << 4;

/// Named blobs at most: what the directory's key range and a sane firmware take.
const MAX_FILES: usize = 0x1000;
/// Bytes of a name in the directory, with its final zero.
const NAME_LEN: usize = 56;

/// A blob.
#[derive(Clone, Debug, Default)]
struct Item {
    bytes: Vec<u8>,
    writable: bool,
}

/// Everything the guest can observe and change.
#[derive(Clone, Default, SavedState)]
struct State {
    #[n(1)]
    selected: u16,
    /// Next byte of the selected blob.
    #[n(2)]
    offset: u32,
    #[n(3)]
    dma_high: u32,
    /// Writable blobs by number.
    #[n(4)]
    written: Vec<(u16, Blob)>,
}

/// Why a blob cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileError {
    /// The name is empty, longer than 55 bytes or not ASCII.
    Name,
    /// Another blob has that name.
    Duplicate,
    /// There are too many.
    TooMany,
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name => write!(f, "name must have 1 to 55 ASCII characters"),
            Self::Duplicate => write!(f, "name is taken"),
            Self::TooMany => write!(f, "too many files"),
        }
    }
}

impl std::error::Error for FileError {}

/// Firmware configuration device.
pub struct FwCfg {
    space: Arc<AddressSpace>,
    /// Blobs by number.
    numbered: BTreeMap<u16, Item>,
    /// Blobs by name; the directory has them in this order, numbered from `FILE_FIRST` on.
    named: BTreeMap<String, Item>,
    state: State,
}

impl FwCfg {
    /// Bytes that the registers take.
    pub const LEN: u64 = 0x18;

    /// A device whose DMA goes through `space`, with signature and features only.
    pub fn new(space: Arc<AddressSpace>) -> Self {
        let mut device = Self {
            space,
            numbered: BTreeMap::new(),
            named: BTreeMap::new(),
            state: State::default(),
        };
        device.set(keys::SIGNATURE, b"QEMU".to_vec());
        device.set(keys::ID, 3u32.to_le_bytes().to_vec());
        device
    }

    /// Sets blob number `key`.
    pub fn set(&mut self, key: u16, bytes: Vec<u8>) {
        self.numbered.insert(key, Item { bytes, writable: false });
    }

    /// Adds a named blob.
    ///
    /// # Errors
    /// The name does not fit or is taken.
    pub fn add_file(
        &mut self,
        name: &str,
        bytes: Vec<u8>,
        writable: bool,
    ) -> Result<(), FileError> {
        if name.is_empty() || name.len() >= NAME_LEN || !name.is_ascii() {
            return Err(FileError::Name);
        }
        if self.named.contains_key(name) {
            return Err(FileError::Duplicate);
        }
        if self.named.len() >= MAX_FILES {
            return Err(FileError::TooMany);
        }
        self.named.insert(name.into(), Item { bytes, writable });
        let directory = self.directory();
        self.set(keys::FILE_DIR, directory);
        Ok(())
    }

    /// Contents of a named blob as the guest may have changed them.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.named.get(name).map(|item| item.bytes.as_slice())
    }

    /// Count, then length, number and name of each; numbers are big-endian.
    fn directory(&self) -> Vec<u8> {
        let mut bytes = (self.named.len() as u32).to_be_bytes().to_vec();
        for (key, (name, item)) in (keys::FILE_FIRST..).zip(&self.named) {
            let start = bytes.len();
            bytes.extend((item.bytes.len() as u32).to_be_bytes());
            bytes.extend(key.to_be_bytes());
            bytes.extend([0; 2]);
            bytes.extend(name.as_bytes());
            bytes.resize(start + 8 + NAME_LEN, 0);
        }
        bytes
    }

    fn item(&self, key: u16) -> Option<&Item> {
        match key.checked_sub(keys::FILE_FIRST) {
            Some(n) => self.named.values().nth(n.into()),
            None => self.numbered.get(&key),
        }
    }

    fn item_mut(&mut self, key: u16) -> Option<&mut Item> {
        match key.checked_sub(keys::FILE_FIRST) {
            Some(n) => self.named.values_mut().nth(n.into()),
            None => self.numbered.get_mut(&key),
        }
    }

    fn select(&mut self, key: u16) {
        self.state.selected = key;
        self.state.offset = 0;
    }

    /// The next bytes of the selected blob; zeros behind its end.
    fn take(&mut self, buffer: &mut [u8]) {
        let start = self.state.offset as usize;
        let bytes = self.item(self.state.selected).map_or(&[][..], |item| &item.bytes);
        let rest = bytes.get(start..).unwrap_or(&[]);
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        buffer[n..].fill(0);
        self.skip(n as u32);
    }

    fn skip(&mut self, n: u32) {
        self.state.offset = self.state.offset.saturating_add(n);
    }

    /// Carries out the `FWCfgDmaAccess` at `address` and reports in its first word.
    fn dma(&mut self, address: u64) {
        let mut access = [0; 16];
        if !read_ram(&self.space, address, &mut access) {
            return device::guest_error!("fw_cfg: no DMA descriptor at {address:#x}");
        }
        let word = |at: usize| {
            u32::from_be_bytes([access[at], access[at + 1], access[at + 2], access[at + 3]])
        };
        let (control, len) = (word(0), word(4));
        let data = u64::from(word(8)) << 32 | u64::from(word(12));
        if control & DMA_SELECT != 0 {
            self.select((control >> 16) as u16);
        }
        let done = if control & DMA_READ != 0 {
            self.dma_read(data, len)
        } else if control & DMA_WRITE != 0 {
            self.dma_write(data, len)
        } else if control & DMA_SKIP != 0 {
            self.skip(len);
            true
        } else {
            true
        };
        let result = if done { 0 } else { DMA_ERROR };
        write_ram(&self.space, address, &result.to_be_bytes());
    }

    fn dma_read(&mut self, at: u64, len: u32) -> bool {
        let mut chunk = [0; CHUNK];
        let mut done = 0;
        while done < len {
            let n = (len - done).min(CHUNK as u32);
            let chunk = &mut chunk[..n as usize];
            self.take(chunk);
            let Some(to) = at.checked_add(done.into()) else { return false };
            if !write_ram(&self.space, to, chunk) {
                return false;
            }
            done += n;
        }
        true
    }

    fn dma_write(&mut self, at: u64, len: u32) -> bool {
        let (key, start) = (self.state.selected, self.state.offset as usize);
        let space = Arc::clone(&self.space);
        let Some(item) = self.item_mut(key).filter(|item| item.writable) else { return false };
        let end = start.saturating_add(len as usize);
        let Some(target) = item.bytes.get_mut(start..end) else { return false };
        let done = read_ram(&space, at, target);
        self.skip(len);
        done
    }

    /// Writable blobs with their numbers.
    fn written(&self) -> Vec<(u16, Blob)> {
        (keys::FILE_FIRST..)
            .zip(self.named.values())
            .filter(|(_, item)| item.writable)
            .map(|(key, item)| (key, Blob(item.bytes.clone())))
            .collect()
    }
}

impl Device for FwCfg {
    fn reset(&mut self) {
        self.state = State::default();
    }

    fn save(&self) -> Value {
        State { written: self.written(), ..self.state.clone() }.save()
    }

    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        let mut new = State::default();
        new.restore(value)?;
        for (key, blob) in &new.written {
            let fits = |item: &Item| item.writable && item.bytes.len() == blob.0.len();
            if !self.item(*key).is_some_and(fits) {
                let problem = format!("no writable file {key:#x} of {} bytes here", blob.0.len());
                return Err(RestoreError::new(problem).within("written"));
            }
        }
        for (key, blob) in std::mem::take(&mut new.written) {
            if let Some(item) = self.item_mut(key) {
                item.bytes = blob.0;
            }
        }
        self.state = new;
        Ok(())
    }
}

impl MmioDevice for FwCfg {
    fn rules(&self) -> AccessRules {
        AccessRules::ANY
    }

    fn read(&mut self, offset: u64, size: u32) -> u64 {
        if offset < CTL {
            // The bytes of the blob keep their order in memory.
            let mut bytes = [0; 8];
            self.take(&mut bytes[..size.min(8) as usize]);
            return u64::from_le_bytes(bytes);
        }
        match offset {
            DMA_HIGH.. if offset < Self::LEN => {
                DMA_SIGNATURE.swap_bytes() >> (8 * (offset - DMA_HIGH))
            }
            _ => 0,
        }
    }

    fn write(&mut self, offset: u64, size: u32, value: u64) {
        match (offset, size) {
            (CTL, 2) => self.select((value as u16).swap_bytes()),
            (DMA_HIGH, 4) => self.state.dma_high = (value as u32).swap_bytes(),
            (DMA_LOW, 4) => {
                let high = std::mem::take(&mut self.state.dma_high);
                self.dma(u64::from(high) << 32 | u64::from((value as u32).swap_bytes()));
            }
            (DMA_HIGH, 8) => {
                self.state.dma_high = 0;
                self.dma(value.swap_bytes());
            }
            _ => device::guest_error!("fw_cfg: write of {size} bytes at {offset:#x}"),
        }
    }
}

/// The row of `fw_cfg_mem`.
pub static CLASS: DeviceClass = DeviceClass {
    name: "fw_cfg_mem",
    aliases: &[],
    bus: Bus::System,
    category: Category::Misc,
    description: "firmware configuration",
    properties: &[],
    saved_version: 1,
};

#[cfg(test)]
mod tests {
    use super::*;
    use device::{assert_saves_and_restores, hammer_registers};
    use memory::{Gpa, Ram};

    const RAM: u64 = 0x8000_0000;

    fn bench() -> (Arc<AddressSpace>, FwCfg) {
        let space = AddressSpace::new("memory");
        space.map_ram(RAM, &Ram::new("ram", 0x10_0000).unwrap());
        let mut device = FwCfg::new(Arc::clone(&space));
        device.set(keys::NB_CPUS, 3u16.to_le_bytes().to_vec());
        device.add_file("opt/b", b"hello".to_vec(), false).unwrap();
        device.add_file("etc/a", vec![0; 4], true).unwrap();
        (space, device)
    }

    fn select(device: &mut FwCfg, key: u16) {
        device.write(CTL, 2, key.swap_bytes().into());
    }

    /// Runs a DMA access and returns the word it reports.
    fn dma(space: &AddressSpace, device: &mut FwCfg, control: u32, len: u32, at: u64) -> u32 {
        let words = [control.to_be_bytes(), len.to_be_bytes()].concat();
        let access = [words, at.to_be_bytes().to_vec()].concat();
        space.write(Gpa(RAM), &access).unwrap();
        device.write(DMA_HIGH, 8, RAM.swap_bytes());
        (space.load(Gpa(RAM), 4).unwrap() as u32).swap_bytes()
    }

    #[test]
    fn the_selected_blob_is_read_at_any_width() {
        let (_, mut device) = bench();
        assert_eq!(device.read(0, 1), 0x51);
        assert_eq!(device.read(0, 4), 0x55_4d45);
        assert_eq!(device.read(0, 8), 0);
        select(&mut device, keys::NB_CPUS);
        assert_eq!(device.read(0, 4), 3);
        select(&mut device, 0x7fff);
        assert_eq!(device.read(0, 8), 0);
        assert_eq!(device.read(DMA_HIGH, 8), 0x4746_4320_554d_4551);
        assert_eq!(device.read(DMA_LOW, 4), 0x4746_4320);
    }

    #[test]
    fn the_directory_is_sorted_and_numbered() {
        let (_, mut device) = bench();
        select(&mut device, keys::FILE_DIR);
        let bytes: Vec<u8> = (0..4 + 2 * 64).map(|_| device.read(0, 1) as u8).collect();
        assert_eq!(bytes[..12], [0, 0, 0, 2, 0, 0, 0, 4, 0, 0x20, 0, 0]);
        assert_eq!(&bytes[12..18], b"etc/a\0");
        assert_eq!(&bytes[68..82], b"\0\0\0\x05\0\x21\0\0opt/b\0");
        assert_eq!(device.add_file("opt/b", vec![], false), Err(FileError::Duplicate));
        assert_eq!(device.add_file(&"x".repeat(56), vec![], false), Err(FileError::Name));
    }

    #[test]
    fn dma_reads_skips_and_writes() {
        let (space, mut device) = bench();
        let at = RAM + 0x1ffe;
        let select_read = DMA_SELECT | DMA_READ;
        assert_eq!(dma(&space, &mut device, 0x21 << 16 | select_read, 8, at), 0);
        let mut bytes = [9; 9];
        space.read(Gpa(at), &mut bytes).unwrap();
        assert_eq!(&bytes, b"hello\0\0\0\0");
        assert_eq!(dma(&space, &mut device, 0x21 << 16 | DMA_SELECT | DMA_SKIP, 4, 0), 0);
        assert_eq!(device.read(0, 1), u64::from(b'o'));
        assert_eq!(dma(&space, &mut device, 0x20 << 16 | DMA_SELECT | DMA_WRITE, 4, at), 0);
        assert_eq!(device.file("etc/a"), Some(&b"hell"[..]));
    }

    #[test]
    fn dma_that_cannot_be_done_reports_an_error() {
        let (space, mut device) = bench();
        let write = DMA_SELECT | DMA_WRITE;
        assert_eq!(dma(&space, &mut device, 0x21 << 16 | write, 4, RAM), DMA_ERROR);
        assert_eq!(dma(&space, &mut device, 0x20 << 16 | write, 5, RAM), DMA_ERROR);
        assert_eq!(dma(&space, &mut device, 0x20 << 16 | write, 4, u64::MAX - 1), DMA_ERROR);
        assert_eq!(dma(&space, &mut device, DMA_READ, 4, 0), DMA_ERROR);
        assert_eq!(dma(&space, &mut device, DMA_READ, u32::MAX, RAM + 0x1000), DMA_ERROR);
        device.write(DMA_HIGH, 4, 0);
        device.write(DMA_LOW, 4, u64::MAX);
    }

    #[test]
    fn saves_and_restores() {
        let (space, mut device) = bench();
        dma(&space, &mut device, 0x20 << 16 | DMA_SELECT | DMA_WRITE, 4, RAM + 8);
        select(&mut device, 0);
        device.read(0, 2);
        let (_, mut fresh) = bench();
        assert_saves_and_restores(&device, &mut fresh);
        assert_eq!(fresh.file("etc/a"), device.file("etc/a"));
        assert!(FwCfg::new(space).restore(&device.save()).is_err());
    }

    #[test]
    fn random_accesses_are_harmless() {
        let (space, mut device) = bench();
        let mut random = device::SeededRandom::new(3);
        for seed in 0..50 {
            hammer_registers(&mut device, FwCfg::LEN, seed, 300);
            let control = random.next_u64() as u32 & 0x3f_001f;
            let len = random.below(0x2000) as u32;
            dma(&space, &mut device, control, len, RAM + random.below(0x10_2000));
        }
    }
}
