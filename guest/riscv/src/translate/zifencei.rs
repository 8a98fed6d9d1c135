//! Zifencei: instruction-fetch fence.

use super::Translator;
use crate::decode::Zifencei;
use ir::ExitKind;

impl Zifencei for Translator<'_, '_> {
    /// The engine follows changes of code by itself; the code after this one is looked up afresh.
    fn fence_i(&mut self) {
        self.exit_loop(ExitKind::Lookup, self.next);
    }
}
