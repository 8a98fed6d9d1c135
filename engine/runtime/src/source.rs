//! Guest code, as translators read it.

use crate::code_page::CodePage;
use crate::engine::Engine;
use isa::{CodeSource, Guest};
use memory::PAGE;

/// Guest code for the translator: the page a unit begins in, and the next if it is known.
pub(crate) struct Source<'a> {
    pub(crate) pc: u64,
    pub(crate) first: &'a CodePage,
    pub(crate) second: Option<&'a CodePage>,
    pub(crate) wants_second: bool,
}

impl Source<'_> {
    /// The page with the code at `gva`, and the offset there.
    fn page(&mut self, gva: u64) -> Option<(&CodePage, u64)> {
        let page = match (gva / PAGE).wrapping_sub(self.pc / PAGE) {
            0 => self.first,
            1 => {
                self.wants_second = true;
                self.second?
            }
            _ => return None,
        };
        Some((page, gva % PAGE))
    }
}

impl CodeSource for Source<'_> {
    fn halfword(&mut self, gva: u64) -> Option<u16> {
        let (page, at) = self.page(gva)?;
        page.halfword(at)
    }

    fn byte(&mut self, gva: u64) -> Option<u8> {
        let (page, at) = self.page(gva)?;
        page.byte(at)
    }
}

/// Guest code where every halfword has to be asked for.
pub(crate) struct Asking<'a, G: Guest> {
    pub(crate) guest: &'a G,
    pub(crate) engine: &'a mut Engine<G>,
    pub(crate) state: &'a mut G::State,
    pub(crate) which: (u8, u32),
}

impl<G: Guest> CodeSource for Asking<'_, G> {
    fn halfword(&mut self, gva: u64) -> Option<u16> {
        let page = self.engine.code_page(self.guest, self.state, self.which, gva).ok()?;
        page.halfword(gva % PAGE)
    }

    fn byte(&mut self, gva: u64) -> Option<u8> {
        let page = self.engine.code_page(self.guest, self.state, self.which, gva).ok()?;
        page.byte(gva % PAGE)
    }
}
