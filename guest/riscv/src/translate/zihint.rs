//! Zihintpause and Zihintntl: hints, which do nothing here.

use super::Translator;
use crate::decode::Zihint;
use ir::ExitKind;

impl Zihint for Translator<'_, '_> {
    /// Others may run: the loop that waits with it goes through the run loop.
    fn pause(&mut self) {
        self.exit_loop(ExitKind::Lookup, self.next);
    }
    fn ntl_p1(&mut self) {}
    fn ntl_pall(&mut self) {}
    fn ntl_s1(&mut self) {}
    fn ntl_all(&mut self) {}
}
