//! Memory of a process as one of its processors sees it in slow paths.

use crate::code_page::{CodePage, CodePlace};
use crate::engine::{Engine, Place};
use crate::pages::{KnownArea, Pages};
use crate::process::{TRIES, wanted};
use codegen::guarded::HostFault;
use isa::{Access, Guest, MemoryFault};
use memory::PAGE;
use std::sync::Arc;

impl<G: Guest> Engine<G> {
    /// The page of a process that holds code at `gva`.
    pub(crate) fn process_page(&self, pages: &Arc<Pages>, gva: u64) -> Result<CodePage, G::Trap> {
        let gva = pages.wrapped(gva);
        let checked = pages.check(gva, 1, wanted(Access::Fetch));
        checked.map_err(|fault| G::memory_trap(fault.kind, Access::Fetch, fault.address))?;
        let host = gva.wrapping_add(pages.base) & !(PAGE - 1);
        // Units that are interpreted are not compared.
        let whole = !(self.cache.options.interpret && pages.is_compared(host));
        let place = CodePlace::Process(Arc::clone(pages), host);
        Ok(CodePage { place, global: true, whole })
    }

    /// Where an access to memory of a process goes. Code from there is forgotten if it is written.
    pub(crate) fn process_place(
        &self,
        pages: &Pages,
        access: Access,
        (gva, len): (u64, u32),
    ) -> Result<Place, G::Trap> {
        let gva = pages.wrapped(gva);
        let allows = |area: &KnownArea| pages.allows(area, (gva, len.into()), wanted(access));
        if !self.area.get().as_ref().is_some_and(allows) {
            let checked = pages.check(gva, len.into(), wanted(access));
            checked.map_err(|fault| G::memory_trap(fault.kind, access, fault.address))?;
            self.area.set(pages.known(gva));
        }
        let at = gva.wrapping_add(pages.base);
        if access != Access::Load {
            self.cache.prepare_write(&(at..at + u64::from(len)));
        }
        Ok(Place::Host { at, slow: false })
    }

    /// Whether a store to `size` bytes at `gva` would overwrite code of the page that the instruction
    /// at `pc` is in.
    pub(crate) fn overwrites_itself(&self, pc: u64, gva: u64, size: u32) -> bool {
        let Some(pages) = &self.process else { return false };
        let at = pages.wrapped(gva).wrapping_add(pages.base);
        let own = pages.wrapped(pc).wrapping_add(pages.base) & !(PAGE - 1);
        let range = at..at.saturating_add(size.into());
        range.start < own + PAGE
            && own < range.end
            && !pages.code_in(&(own..own + 1), true).is_empty()
    }

    /// The trap for an access that the host could not make; none to try again.
    pub(crate) fn host_trap(
        &self,
        (access, gva): (Access, u64),
        fault: HostFault,
        tries: &mut u32,
    ) -> Result<(), G::Trap> {
        *tries += 1;
        let kind = match fault {
            HostFault::Access if self.process.is_some() => {
                // Another thread may have translated code from the page just now.
                if *tries < TRIES {
                    return Ok(());
                }
                MemoryFault::Protected
            }
            _ => MemoryFault::Bus,
        };
        Err(G::memory_trap(kind, access, gva))
    }
}
