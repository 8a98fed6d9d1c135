//! Pages that code comes from: of a machine's RAM, or of a process.
#![expect(unsafe_code, reason = "code of a process is read where it may be gone")]

use crate::pages::Pages;
use codegen::guarded;
use ir::{OpKind, Unit};
use memory::{PAGE, Ram};
use std::sync::Arc;

/// A page of guest memory that code comes from.
#[derive(Clone)]
pub(crate) struct CodePage {
    pub(crate) place: CodePlace,
    /// Whether its guest address leads to it in every address space.
    pub(crate) global: bool,
    /// Whether all of it may be fetched from. If not, each halfword asks.
    pub(crate) whole: bool,
}

/// Where a page with code is.
#[derive(Clone)]
pub(crate) enum CodePlace {
    /// The block, and the offset of the page in it.
    Ram(Arc<Ram>, u64),
    /// Memory of a process, by host address.
    Process(Arc<Pages>, u64),
}

impl CodePage {
    /// Host address of the page.
    pub(crate) fn host(&self) -> u64 {
        match &self.place {
            CodePlace::Ram(ram, offset) => ram.host_address() + offset,
            CodePlace::Process(_, host) => *host,
        }
    }

    /// The halfword at an offset in the page.
    pub(crate) fn halfword(&self, at: u64) -> Option<u16> {
        match &self.place {
            CodePlace::Ram(ram, offset) => ram.load_u16(offset + at),
            CodePlace::Process(_, host) => load_code(host + at, 2).map(|half| half as u16),
        }
    }

    /// The byte at an offset in the page.
    pub(crate) fn byte(&self, at: u64) -> Option<u8> {
        match &self.place {
            CodePlace::Ram(ram, offset) => ram.load_u8(offset + at),
            CodePlace::Process(_, host) => load_code(host + at, 1).map(|byte| byte as u8),
        }
    }

    /// Copies from the page, which has as many bytes.
    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = self.byte(at + i as u64).unwrap_or_default();
        }
    }

    pub(crate) fn mark(&self) {
        match &self.place {
            CodePlace::Ram(ram, offset) => ram.set_code(*offset),
            CodePlace::Process(pages, host) => pages.mark(*host),
        }
    }

    pub(crate) fn clear(&self) {
        match &self.place {
            CodePlace::Ram(ram, offset) => ram.clear_code(*offset),
            CodePlace::Process(pages, host) => pages.clear(*host),
        }
    }

    /// Whether its code may change without anybody noticing.
    pub(crate) fn is_compared(&self) -> bool {
        match &self.place {
            CodePlace::Ram(..) => false,
            CodePlace::Process(pages, host) => pages.is_compared(*host),
        }
    }
}

fn load_code(at: u64, size: u32) -> Option<u64> {
    // SAFETY: the personality keeps memory from which code may be fetched apart from the emulator's.
    unsafe { guarded::load(at, size) }.ok()
}

/// Instructions of a unit up to the first that stores, if others follow.
pub(crate) fn until_store(unit: &Unit) -> Option<u32> {
    let mut insns = 0;
    let mut stores = false;
    for op in &unit.ops {
        match op.kind {
            OpKind::Insn if stores => return Some(insns),
            OpKind::Insn => insns += 1,
            OpKind::Store | OpKind::Amo | OpKind::Cas | OpKind::Call => stores = true,
            OpKind::VCopyOut | OpKind::VCopySomeOut => stores = true,
            _ => {}
        }
    }
    None
}

/// The guest code that a unit was translated from.
pub(crate) fn code_of(unit: &Unit, first: &CodePage, second: Option<&CodePage>) -> Vec<u8> {
    let at = unit.pc % PAGE;
    let mut code = vec![0; unit.len as usize];
    let in_first = code.len().min((PAGE - at) as usize);
    let (start, end) = code.split_at_mut(in_first);
    first.read(at, start);
    if let Some(second) = second {
        second.read(0, end);
    }
    code
}
