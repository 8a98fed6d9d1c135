//! MSI-X: a table of messages in a BAR of its own (PCI Local Bus 3.0, "MSI-X Capability and Table
//! Structures").

pub use device::MsiSink;
use device::{AccessRules, guest_error};
use memory::IoHandler;
use state::{Blob, RestoreError, Saved, Value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Bytes of the BAR when the table has at most 128 vectors.
pub const MSIX_BAR_LEN: u64 = 0x1000;

const ENTRY: usize = 16;
/// Vector control: the entry is masked.
const MASKED: u8 = 1;

/// The table, the pending bits and the two control bits of one function.
pub struct Msix {
    vectors: u16,
    pba: usize,
    len: u64,
    state: Mutex<Table>,
    mastering: Arc<AtomicBool>,
    sink: OnceLock<Arc<dyn MsiSink>>,
}

struct Table {
    bytes: Vec<u8>,
    pending: Vec<u8>,
    enabled: bool,
    masked: bool,
}

impl Table {
    fn entry_masked(&self, vector: u16) -> bool {
        self.masked || self.bytes[usize::from(vector) * ENTRY + 12] & MASKED != 0
    }

    fn message(&self, vector: u16) -> (u64, u32) {
        let at = usize::from(vector) * ENTRY;
        let word = |i: usize| {
            let b = &self.bytes[at + i..at + i + 4];
            u32::from_le_bytes([b[0], b[1], b[2], b[3]])
        };
        (u64::from(word(0)) | u64::from(word(4)) << 32, word(8))
    }

    /// Messages that are pending and no longer masked.
    fn take_due(&mut self, vectors: u16) -> Vec<(u64, u32)> {
        if !self.enabled {
            return Vec::new();
        }
        let mut due = Vec::new();
        for vector in 0..vectors {
            let (byte, bit) = (usize::from(vector / 8), 1 << (vector % 8));
            if self.pending[byte] & bit != 0 && !self.entry_masked(vector) {
                self.pending[byte] &= !bit;
                due.push(self.message(vector));
            }
        }
        due
    }
}

impl Msix {
    /// A table of `vectors` (1 to 2048) messages; they are sent while `mastering` is set.
    pub fn new(vectors: u16, mastering: Arc<AtomicBool>) -> Arc<Self> {
        let vectors = vectors.clamp(1, 2048);
        let table = usize::from(vectors) * ENTRY;
        let pba = if table <= 0x800 { 0x800 } else { table.next_multiple_of(0x1000) };
        let len = (pba as u64 + u64::from(vectors).div_ceil(64) * 8).next_power_of_two();
        let state = Mutex::new(Self::fresh(vectors));
        let len = len.max(MSIX_BAR_LEN);
        Arc::new(Self { vectors, pba, len, state, mastering, sink: OnceLock::new() })
    }

    fn fresh(vectors: u16) -> Table {
        let mut bytes = vec![0; usize::from(vectors) * ENTRY];
        bytes.chunks_exact_mut(ENTRY).for_each(|entry| entry[12] = MASKED);
        let pending = vec![0; usize::from(vectors).div_ceil(64) * 8];
        Table { bytes, pending, enabled: false, masked: false }
    }

    /// Vectors in the table.
    pub fn vectors(&self) -> u16 {
        self.vectors
    }

    /// Bytes of the BAR.
    pub fn bar_len(&self) -> u64 {
        self.len
    }

    /// Offset of the pending bits in the BAR.
    pub fn pba_offset(&self) -> u32 {
        self.pba as u32
    }

    /// Says where messages go; the first call counts.
    pub fn connect(&self, sink: Arc<dyn MsiSink>) {
        let _ = self.sink.set(sink);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the function interrupts by messages.
    pub fn enabled(&self) -> bool {
        self.table().enabled
    }

    /// Sends the message of `vector`, now or when it is unmasked. A vector that the table lacks
    /// delivers nothing.
    pub fn trigger(&self, vector: u16) {
        if vector >= self.vectors {
            return;
        }
        let mut table = self.table();
        if !table.enabled {
            return;
        }
        table.pending[usize::from(vector / 8)] |= 1 << (vector % 8);
        self.deliver(table);
    }

    fn deliver(&self, mut table: MutexGuard<'_, Table>) {
        if !self.mastering.load(Ordering::Acquire) {
            return;
        }
        let due = table.take_due(self.vectors);
        drop(table);
        if let Some(sink) = self.sink.get() {
            due.iter().for_each(|(address, data)| sink.send(*address, *data));
        }
    }

    /// Takes over the message control register's two bits.
    pub(crate) fn control(&self, enabled: bool, masked: bool) {
        let mut table = self.table();
        (table.enabled, table.masked) = (enabled, masked);
        self.deliver(table);
    }

    pub(crate) fn reset(&self) {
        *self.table() = Self::fresh(self.vectors);
    }

    pub(crate) fn save(&self) -> Value {
        let table = self.table();
        let blob = |b: &[u8]| Blob(b.to_vec()).to_value();
        Value::Record(vec![(1, blob(&table.bytes)), (2, blob(&table.pending))])
    }

    /// The control bits come with the configuration space.
    pub(crate) fn restore(&self, value: &Value) -> Result<(), RestoreError> {
        let record = value.record()?;
        let bytes: Blob = state::field(record, 1, "table")?;
        let pending: Blob = state::field(record, 2, "pending")?;
        let mut table = self.table();
        if bytes.0.len() != table.bytes.len() || pending.0.len() != table.pending.len() {
            return Err(RestoreError::new("another number of vectors").within("table"));
        }
        (table.bytes, table.pending) = (bytes.0, pending.0);
        Ok(())
    }
}

impl IoHandler for Msix {
    fn rules(&self) -> AccessRules {
        AccessRules { min: 4, max: 4 }
    }

    fn read(&self, offset: u64, size: u32) -> u64 {
        let table = self.table();
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let source =
            if at < self.pba { table.bytes.get(at..) } else { table.pending.get(at - self.pba..) };
        let source = source.unwrap_or(&[]);
        (0..size as usize)
            .fold(0, |v, i| v | u64::from(source.get(i).copied().unwrap_or(0)) << (8 * i))
    }

    fn write(&self, offset: u64, size: u32, value: u64) {
        let mut table = self.table();
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = at.saturating_add(size as usize);
        let Some(target) = table.bytes.get_mut(at..end) else {
            return guest_error!("msix: write at {offset:#x}, outside the table");
        };
        target.copy_from_slice(&value.to_le_bytes()[..size as usize]);
        // Vector control has one bit; an address is a multiple of four.
        for control in table.bytes.chunks_exact_mut(ENTRY) {
            control[12] &= MASKED;
            control[13..].fill(0);
        }
        self.deliver(table);
    }
}
