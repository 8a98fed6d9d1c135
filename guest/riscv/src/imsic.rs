//! What a hart asks of its incoming MSI controller (RISC-V AIA, “IMSIC”).

/// One of a hart's interrupt files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// M-level.
    Machine,
    /// S-level.
    Supervisor,
}

/// The interrupt files of one hart. The device drives the hart's external interrupt lines itself.
pub trait Imsic: Send + Sync {
    /// Reads the indirect register `select` (0x70 to 0xff), `xlen` bits wide, and replaces the bits
    /// in `mask` by those of `value`, in one step; `None` if there is no such register.
    fn access(&self, file: File, select: u32, xlen: u32, value: u64, mask: u64) -> Option<u64>;
    /// The most urgent interrupt that is pending and enabled, as `xtopei` shows it (identity in
    /// bits 26–16 and 10–0); 0 if there is none.
    fn top(&self, file: File) -> u32;
    /// The same, which also clears its pending bit.
    fn claim(&self, file: File) -> u32;
}
