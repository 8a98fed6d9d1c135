//! Decimal arithmetic, which 64-bit code does not have.

use super::{Place, Translator};
use crate::decode::Insn;
use crate::flags::Kind;
use crate::helpers::HelperIndex;
use crate::state::gpr;
use crate::trap::Exception;

impl Translator<'_, '_> {
    /// `daa`, `das`, `aaa`, `aas`.
    pub(super) fn decimal(&mut self, i: &Insn) {
        let opcode = self.b.imm(i.opcode.into());
        self.call_effect(HelperIndex::Decimal, &[opcode]);
        self.flags_settled();
    }

    /// `aam`: AH = AL / base, AL = the remainder.
    pub(super) fn adjust_multiplied(&mut self, i: &Insn) {
        if i.imm[0] & 0xff == 0 {
            return self.raise(Exception::Divide, 0);
        }
        let (rax, base) = (self.x(gpr::RAX), self.b.imm(i.imm[0].cast_unsigned() & 0xff));
        let al = self.b.zext(rax, 8);
        let (high, low) = (self.b.divu(al, base), self.b.remu(al, base));
        let (high, low) = (self.b.copy(high), self.b.copy(low));
        self.put(Place::Gpr(gpr::RAX), 1, low);
        self.put(Place::High(0), 1, high);
        self.flags_of_result(1, low);
    }

    /// `aad`: AL = AL + AH · base, AH = 0. The flags are those of the sum.
    pub(super) fn adjust_before_division(&mut self, i: &Insn) {
        let (rax, base) = (self.x(gpr::RAX), self.imm(i.imm[0] & 0xff));
        let ah = self.get(Place::High(0), 1);
        let ah = self.b.zext(ah, 8);
        let tens = self.b.mul(ah, base);
        let tens = self.b.copy(tens);
        let sum = self.b.add(rax, tens);
        let sum = self.b.zext(sum, 8);
        let sum = self.b.copy(sum);
        self.put(Place::Gpr(gpr::RAX), 2, sum);
        self.flags_from(Kind::Add, 1, sum, tens);
    }
}
