//! Ties a hart's CSRs to its interrupt files.

use intc::InterruptFile;
use riscv::imsic::{File, Imsic};
use std::sync::Arc;

/// The interrupt files of one hart.
#[derive(Clone)]
pub struct HartFiles {
    /// M-level.
    pub machine: Arc<InterruptFile>,
    /// S-level.
    pub supervisor: Arc<InterruptFile>,
}

impl HartFiles {
    fn file(&self, file: File) -> &InterruptFile {
        match file {
            File::Machine => &self.machine,
            File::Supervisor => &self.supervisor,
        }
    }
}

impl Imsic for HartFiles {
    fn access(&self, file: File, select: u32, xlen: u32, value: u64, mask: u64) -> Option<u64> {
        self.file(file).access(select, xlen, value, mask)
    }

    fn top(&self, file: File) -> u32 {
        self.file(file).top()
    }

    fn claim(&self, file: File) -> u32 {
        self.file(file).claim()
    }
}
