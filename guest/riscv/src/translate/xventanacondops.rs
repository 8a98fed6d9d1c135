//! XVentanaCondOps: conditional operations, which Zicond took over under other names.

use super::Translator;
use crate::decode::{R, Xventanacondops, Zicond};

impl Xventanacondops for Translator<'_, '_> {
    /// rd = rs2 ≠ 0 ? rs1 : 0
    fn vt_maskc(&mut self, a: R) {
        self.czero_eqz(a);
    }
    /// rd = rs2 = 0 ? rs1 : 0
    fn vt_maskcn(&mut self, a: R) {
        self.czero_nez(a);
    }
}
