//! Parallel NOR flash with the Intel/Sharp extended command set (CFI command set 0x0001; JEDEC
//! JESD68.01, Intel StrataFlash P30 data sheet). Several chips side by side make up the bank's
//! width; each command and status word carries a copy for every chip.
//!
//! While it shows its array the bank is memory that guests execute from; any command turns it into
//! registers until the array is asked for again. Programming replaces bits rather than clearing
//! them, and everything is done at once: status is always ready. Not modelled: block locks,
//! suspension, one-time-programmable cells.

use device::{
    AccessRules, Bus, Category, Device, DeviceClass, MmioDevice, Property, RestoreError,
    SavedState, Shared, Value,
};
use memory::{AddressSpace, Backing, Gpa, IoHandler, Ram, Region, RegionId};
use state::Blob;
use std::io;
use std::sync::{Arc, Weak};

/// Where a bank keeps its contents beyond the machine's life.
pub trait FlashStore: Send {
    /// Whether writes are refused.
    fn read_only(&self) -> bool;
    /// Bytes that it holds.
    fn len(&self) -> u64;
    /// Whether it holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Reads bytes at `offset`.
    ///
    /// # Errors
    /// The host fails.
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes bytes at `offset`.
    ///
    /// # Errors
    /// The host fails.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// What the board chooses.
#[derive(Clone, Copy, Debug)]
pub struct FlashConfig {
    /// Name of the memory block, such as `virt.flash0`.
    pub name: &'static str,
    /// Bytes in the bank: whole sectors.
    pub len: u64,
    /// Bytes in a sector, all chips together: a power of two, 4096 to 1 MiB.
    pub sector_len: u64,
    /// Bytes that the bank answers with: 4 at most.
    pub bank_width: u32,
    /// Bytes of one chip's data.
    pub device_width: u32,
}

impl FlashConfig {
    /// One of the two banks of `virt`: 32 MiB, 32 bits from two chips of 16.
    pub const fn virt(name: &'static str) -> Self {
        Self { name, len: 32 << 20, sector_len: 256 << 10, bank_width: 4, device_width: 2 }
    }

    fn chips(&self) -> u32 {
        (self.bank_width / self.device_width.max(1)).max(1)
    }
}

/// Commands.
mod command {
    pub const PROGRAM_ALTERNATE: u8 = 0x10;
    pub const ERASE: u8 = 0x20;
    pub const PROGRAM: u8 = 0x40;
    pub const CLEAR_STATUS: u8 = 0x50;
    pub const LOCK: u8 = 0x60;
    pub const READ_STATUS: u8 = 0x70;
    pub const READ_ID: u8 = 0x90;
    pub const READ_CFI: u8 = 0x98;
    pub const CONFIRM: u8 = 0xd0;
    pub const WRITE_BUFFER: u8 = 0xe8;
    pub const READ_ARRAY: u8 = 0xff;
}

/// Status register: ready, and the two errors.
const READY: u8 = 0x80;
const ERASE_ERROR: u8 = 0x20;
const PROGRAM_ERROR: u8 = 0x10;
/// log2 of the bytes in each chip's write buffer.
const BUFFER_LOG2: u32 = 11;
const MANUFACTURER: u8 = 0x89;
const DEVICE: u8 = 0x18;

/// What reads show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
enum Mode {
    #[default]
    Array = 0,
    Status = 1,
    Id = 2,
    Cfi = 3,
}

/// What the next write is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    #[default]
    Command = 0,
    Data = 1,
    EraseConfirm = 2,
    LockConfirm = 3,
    BufferCount = 4,
    BufferData = 5,
    BufferConfirm = 6,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Array, Self::Status, Self::Id, Self::Cfi];
}

impl Step {
    const ALL: [Self; 7] = [
        Self::Command,
        Self::Data,
        Self::EraseConfirm,
        Self::LockConfirm,
        Self::BufferCount,
        Self::BufferData,
        Self::BufferConfirm,
    ];
}

/// Everything the guest can observe beside the contents, which are RAM to the machine.
#[derive(Clone, Debug, Default, SavedState)]
struct State {
    /// A [`Mode`].
    #[n(1)]
    mode: u8,
    /// A [`Step`].
    #[n(2)]
    step: u8,
    #[n(3)]
    status: u8,
    /// Words that the buffer still waits for.
    #[n(4)]
    words_left: u32,
    /// Where in the bank the buffer goes; `u64::MAX` before its first word.
    #[n(5)]
    buffer_at: u64,
    #[n(6)]
    buffer: Blob,
}

/// A bank of flash.
pub struct PflashCfi01 {
    config: FlashConfig,
    ram: Arc<Ram>,
    store: Option<Box<dyn FlashStore>>,
    mapped: Option<(Weak<AddressSpace>, RegionId)>,
    own: device::Weak<Self>,
    mode: Mode,
    step: Step,
    state: State,
}

impl PflashCfi01 {
    /// A bank with the contents of `store`; without one it is empty (zeros, as QEMU has it) and
    /// forgets what is written.
    ///
    /// # Errors
    /// The store has another length than the bank, or the host has no memory or cannot read it.
    pub fn open(
        config: FlashConfig,
        mut store: Option<Box<dyn FlashStore>>,
    ) -> io::Result<Shared<Self>> {
        let ram = Ram::new(config.name, config.len)?;
        if let Some(store) = store.as_mut() {
            let (wanted, there) = (config.len, store.len());
            if there != wanted {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("the device requires {wanted} bytes, the drive provides {there} bytes"),
                ));
            }
            let mut chunk = vec![0; 1 << 16];
            for at in (0..config.len).step_by(chunk.len()) {
                let n = (config.len - at).min(chunk.len() as u64) as usize;
                store.read(at, &mut chunk[..n])?;
                // Pages of zeros stay untouched, so that they cost nothing.
                if chunk[..n].iter().any(|b| *b != 0) && !ram.write(at, &chunk[..n]) {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
            }
        }
        Ok(Shared::new_cyclic(|own| {
            let (mode, step) = (Mode::Array, Step::Command);
            let state = State { status: READY, ..State::default() };
            Self { config, ram, store, mapped: None, own, mode, step, state }
        }))
    }

    /// Maps the bank at `base`, once.
    pub fn map(&mut self, space: &Arc<AddressSpace>, base: u64) {
        let region = Region {
            name: self.config.name.into(),
            base: Gpa(base),
            len: self.config.len,
            priority: 0,
            backing: self.backing(),
        };
        self.mapped = Some((Arc::downgrade(space), space.map(region)));
    }

    /// The contents: saved, migrated and dumped as RAM.
    pub fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }

    /// What answers in the present mode.
    fn backing(&self) -> Backing {
        let own = self.own.upgrade().map(|own| Arc::new(own) as Arc<dyn IoHandler>);
        match (self.mode, own) {
            (Mode::Array, writes) => Backing::Rom { ram: Arc::clone(&self.ram), offset: 0, writes },
            (_, Some(own)) => Backing::Io(own),
            (_, None) => Backing::Rom { ram: Arc::clone(&self.ram), offset: 0, writes: None },
        }
    }

    /// Changes what reads show; the map changes only between array and registers.
    fn show(&mut self, mode: Mode) {
        let before = std::mem::replace(&mut self.mode, mode);
        if (before == Mode::Array) != (mode == Mode::Array) {
            self.remap();
        }
    }

    fn remap(&self) {
        if let Some((space, id)) = &self.mapped
            && let Some(space) = space.upgrade()
        {
            space.set_backing(*id, self.backing());
        }
    }

    /// A copy of `value` for each chip, as many as an access of `size` bytes sees.
    fn replicate(&self, value: u8, size: u32) -> u64 {
        let width = self.config.device_width.clamp(1, 8);
        (0..size.div_ceil(width))
            .fold(0, |word, chip| word | u64::from(value) << (8 * width * chip))
    }

    /// Number of the table entry at `offset`: one for each word of the bank.
    fn index(&self, offset: u64) -> u64 {
        (offset / u64::from(self.config.bank_width.max(1))) & 0xff
    }

    fn id(&self, offset: u64) -> u8 {
        match self.index(offset) {
            0 => MANUFACTURER,
            1 => DEVICE,
            _ => 0,
        }
    }

    /// A byte of the CFI query table.
    fn cfi(&self, offset: u64) -> u8 {
        let index = self.index(offset);
        let chips = u64::from(self.config.chips());
        let sectors = (self.config.len / self.config.sector_len.max(1)).saturating_sub(1);
        let sector_units = self.config.sector_len / chips / 256;
        match index {
            0x10..=0x12 => b"QRY"[(index - 0x10) as usize],
            // Command set 1; its table is at 0x31.
            0x13 => 1,
            0x15 => 0x31,
            // Supply: 4.5 to 5.5 V.
            0x1b => 0x45,
            0x1c => 0x55,
            // Typical times: word and buffer 2^7 us, block 2^10 ms; longest 2^4 times that.
            0x1f | 0x20 => 7,
            0x21 => 0x0a,
            0x23..=0x25 => 4,
            // log2 of the bytes of a chip; 16 data lines; buffer; one region of equal sectors.
            0x27 => (self.config.len / chips).max(1).ilog2() as u8,
            0x28 => 2,
            0x2a => BUFFER_LOG2 as u8,
            0x2c => 1,
            0x2d => sectors as u8,
            0x2e => (sectors >> 8) as u8,
            0x2f => sector_units as u8,
            0x30 => (sector_units >> 8) as u8,
            0x31..=0x35 => b"PRI10"[(index - 0x31) as usize],
            0x3f => 1,
            _ => 0,
        }
    }

    fn first_cycle(&mut self, value: u8) {
        let (mode, step) = match value {
            command::PROGRAM | command::PROGRAM_ALTERNATE => (Mode::Status, Step::Data),
            command::ERASE => (Mode::Status, Step::EraseConfirm),
            command::LOCK => (Mode::Status, Step::LockConfirm),
            command::READ_STATUS => (Mode::Status, Step::Command),
            command::READ_ID => (Mode::Id, Step::Command),
            command::READ_CFI => (Mode::Cfi, Step::Command),
            command::WRITE_BUFFER => (Mode::Status, Step::BufferCount),
            command::CLEAR_STATUS => {
                self.state.status = READY;
                (Mode::Array, Step::Command)
            }
            command::READ_ARRAY | 0xf0 | 0 => (Mode::Array, Step::Command),
            _ => {
                device::guest_error!("pflash_cfi01: command {value:#04x}");
                (Mode::Array, Step::Command)
            }
        };
        self.step = step;
        self.show(mode);
    }

    /// Programs bytes, and writes them through to the store.
    fn program(&mut self, offset: u64, bytes: &[u8]) {
        if !self.persist(offset, bytes) || !self.ram.write(offset, bytes) {
            self.state.status |= PROGRAM_ERROR;
        }
    }

    fn erase(&mut self, offset: u64) {
        let len = self.config.sector_len.clamp(1, 1 << 20);
        let (start, ones) = (offset / len * len, vec![0xff; len as usize]);
        if !self.persist(start, &ones) || !self.ram.write(start, &ones) {
            self.state.status |= ERASE_ERROR;
        }
    }

    fn persist(&mut self, offset: u64, bytes: &[u8]) -> bool {
        match self.store.as_mut() {
            None => true,
            Some(store) if store.read_only() => false,
            Some(store) => store.write(offset, bytes).is_ok(),
        }
    }

    /// Words, one of every chip, that the write buffer takes.
    fn buffer_words(&self) -> u32 {
        (1 << BUFFER_LOG2) / self.config.device_width.clamp(1, 4)
    }

    fn start_buffer(&mut self, count: u16) {
        if u32::from(count) >= self.buffer_words() {
            return self.abort(PROGRAM_ERROR | ERASE_ERROR);
        }
        self.state.words_left = u32::from(count) + 1;
        self.state.buffer.0.clear();
        self.state.buffer_at = u64::MAX;
        self.step = Step::BufferData;
    }

    /// One word for the buffer. The first fixes the place; all lie in one sector.
    fn fill_buffer(&mut self, offset: u64, size: u32, value: u64) {
        let sector = self.config.sector_len.max(1);
        let first = self.state.buffer_at == u64::MAX;
        if first {
            self.state.buffer_at = offset;
        }
        let at = self.state.buffer_at;
        let capacity = u64::from(self.buffer_words() * self.config.bank_width);
        let Some(within) = offset.checked_sub(at).filter(|w| w + u64::from(size) <= capacity)
        else {
            return self.abort(PROGRAM_ERROR);
        };
        if offset / sector != at / sector {
            return self.abort(PROGRAM_ERROR);
        }
        let end = within as usize + size as usize;
        let buffer = &mut self.state.buffer.0;
        // What is skipped stays as it is in the array.
        while buffer.len() < end {
            buffer.push(self.ram.load_u8(at + buffer.len() as u64).unwrap_or(0xff));
        }
        buffer[within as usize..end].copy_from_slice(&value.to_le_bytes()[..size as usize]);
        self.state.words_left = self.state.words_left.saturating_sub(1);
        if self.state.words_left == 0 {
            self.step = Step::BufferConfirm;
        }
    }

    fn abort(&mut self, errors: u8) {
        self.state.status |= errors;
        self.state.buffer.0.clear();
        self.step = Step::Command;
    }
}

impl Device for PflashCfi01 {
    fn reset(&mut self) {
        self.state = State { status: READY, ..State::default() };
        self.step = Step::Command;
        self.show(Mode::Array);
    }

    fn save(&self) -> Value {
        State { mode: self.mode as u8, step: self.step as u8, ..self.state.clone() }.save()
    }

    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        let mut new = State::default();
        new.restore(value)?;
        let unknown = |field| RestoreError::new("no such value").within(field);
        let mode = Mode::ALL.get(usize::from(new.mode)).ok_or_else(|| unknown("mode"))?;
        let step = Step::ALL.get(usize::from(new.step)).ok_or_else(|| unknown("step"))?;
        let capacity = (self.buffer_words() * self.config.bank_width) as usize;
        if new.buffer.0.len() > capacity {
            return Err(RestoreError::new("too many bytes").within("buffer"));
        }
        self.state = new;
        self.step = *step;
        self.mode = *mode;
        self.remap();
        Ok(())
    }
}

impl MmioDevice for PflashCfi01 {
    fn rules(&self) -> AccessRules {
        AccessRules { min: 1, max: 4 }
    }

    fn read(&mut self, offset: u64, size: u32) -> u64 {
        match self.mode {
            Mode::Status => self.replicate(self.state.status, size),
            Mode::Id => self.replicate(self.id(offset), size),
            Mode::Cfi => self.replicate(self.cfi(offset), size),
            // Another thread asked for the array since this access was decoded.
            Mode::Array => {
                let mut bytes = [0; 8];
                let n = size.min(8) as usize;
                let inside = self.ram.read(offset, &mut bytes[..n]);
                if inside { u64::from_le_bytes(bytes) } else { 0 }
            }
        }
    }

    fn write(&mut self, offset: u64, size: u32, value: u64) {
        let code = value as u8;
        match self.step {
            Step::Command => return self.first_cycle(code),
            Step::Data => {
                self.program(offset, &value.to_le_bytes()[..size.min(8) as usize]);
                self.step = Step::Command;
            }
            Step::EraseConfirm if code == command::CONFIRM => {
                self.erase(offset);
                self.step = Step::Command;
            }
            Step::EraseConfirm => self.abort(ERASE_ERROR | PROGRAM_ERROR),
            Step::LockConfirm => self.step = Step::Command,
            Step::BufferCount => self.start_buffer(value as u16),
            Step::BufferData => self.fill_buffer(offset, size, value),
            Step::BufferConfirm if code == command::CONFIRM => {
                let bytes = std::mem::take(&mut self.state.buffer.0);
                self.program(self.state.buffer_at, &bytes);
                self.step = Step::Command;
            }
            Step::BufferConfirm => self.abort(PROGRAM_ERROR | ERASE_ERROR),
        }
        self.show(Mode::Status);
    }
}

/// The row of `cfi.pflash01`.
pub static CLASS: DeviceClass = DeviceClass {
    name: "cfi.pflash01",
    aliases: &[],
    bus: Bus::System,
    category: Category::Storage,
    description: "parallel NOR flash, Intel command set",
    properties: &[Property {
        name: "drive",
        kind: "str",
        default: "",
        description: "block node that keeps the contents",
    }],
    saved_version: 1,
};

#[cfg(test)]
#[path = "pflash_cfi01_tests.rs"]
mod tests;
