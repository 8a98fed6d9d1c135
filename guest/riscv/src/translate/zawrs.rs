//! Zawrs: wait on reservation set. Waiting may end at any time: here it goes through the run loop.

use super::Translator;
use crate::decode::Zawrs;
use ir::ExitKind;

impl Zawrs for Translator<'_, '_> {
    fn wrs_nto(&mut self) {
        self.exit_loop(ExitKind::Lookup, self.next);
    }
    fn wrs_sto(&mut self) {
        self.exit_loop(ExitKind::Lookup, self.next);
    }
}
