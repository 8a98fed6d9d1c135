//! Interrupts as messages.

/// Takes message-signalled interrupts: writes that only interrupt controllers answer.
///
/// Called while the sending device is locked; an implementation locks only interrupt files and
/// what they drive, never a device that may send.
pub trait MsiSink: Send + Sync {
    /// Writes `data` to guest physical address `address`. A message that nobody takes is lost.
    fn send(&self, address: u64, data: u32);
}

/// A sink for tests: remembers every message.
#[derive(Default)]
pub struct RecordedMessages(std::sync::Mutex<Vec<(u64, u32)>>);

impl RecordedMessages {
    /// Messages since the last call.
    pub fn take(&self) -> Vec<(u64, u32)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl MsiSink for RecordedMessages {
    fn send(&self, address: u64, data: u32) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((address, data));
    }
}
