//! `spec/system.map`: what is the kernel's, or is told by it. Rings other than 3 come with system mode.

use super::{Place, Translator};
use crate::decode::Insn;
use crate::decode::traits::System;
use crate::helpers::HelperIndex;
use crate::helpers_system::what;
use crate::state::{GPR, SEG_BASE, gpr, mode, seg};
use crate::trap::Exception;
use ir::GuestReg;

impl System for Translator<'_, '_> {
    fn mov_from_segment(&mut self, i: &Insn) {
        let number = i.reg & 7;
        if number > seg::GS {
            return self.undefined_instruction();
        }
        let value = self.selector(number);
        // Of memory, 16 bits always.
        let size = if i.memory.is_some() { 2 } else { i.size };
        let place = match i.memory {
            Some(_) => {
                let (base, offset) = self.address(i, 2);
                Place::Memory(base, offset)
            }
            None => Place::Gpr(i.rm),
        };
        self.put(place, size, value);
    }
    fn mov_to_segment(&mut self, i: &Insn) {
        let number = i.reg & 7;
        if number > seg::GS || number == seg::CS {
            return self.undefined_instruction();
        }
        let value = self.read(i, 1);
        let number = self.b.imm(number.into());
        self.call_effect(HelperIndex::LoadSegment, &[number, value]);
        self.lookup_next();
    }
    fn fwait(&mut self, _: &Insn) {
        // CR0.TS counts with CR0.MP only, which kernels set together.
        if self.flags & mode::TS != 0 {
            return self.raise(Exception::NotAvailable, 0);
        }
        self.check_pending();
    }
    fn ins(&mut self, i: &Insn) {
        self.privileged(i);
    }
    fn outs(&mut self, i: &Insn) {
        self.privileged(i);
    }
    fn in_(&mut self, i: &Insn) {
        self.privileged(i);
    }
    fn out(&mut self, i: &Insn) {
        self.privileged(i);
    }
    fn hlt(&mut self, i: &Insn) {
        self.privileged(i);
    }
    fn cli(&mut self, i: &Insn) {
        self.privileged(i);
    }
    fn sti(&mut self, i: &Insn) {
        self.privileged(i);
    }
    fn privileged(&mut self, _: &Insn) {
        self.raise(Exception::Protection, 0);
    }
    fn undefined(&mut self, _: &Insn) {
        self.undefined_instruction();
    }
    fn mov_control(&mut self, i: &Insn) {
        self.privileged(i);
    }
    fn mov_debug(&mut self, i: &Insn) {
        self.privileged(i);
    }
    fn rdpmc(&mut self, i: &Insn) {
        self.privileged(i);
    }
    fn sldt(&mut self, i: &Insn) {
        self.told(i, what::LDTR);
    }
    fn str(&mut self, i: &Insn) {
        self.told(i, what::TR);
    }
    fn smsw(&mut self, i: &Insn) {
        self.told(i, what::CR0);
    }
    fn sgdt(&mut self, i: &Insn) {
        self.table(i, what::GDTR);
    }
    fn sidt(&mut self, i: &Insn) {
        self.table(i, what::IDTR);
    }
    fn verr(&mut self, i: &Insn) {
        self.examine(i, 0, false);
    }
    fn verw(&mut self, i: &Insn) {
        self.examine(i, 1, false);
    }
    fn lar(&mut self, i: &Insn) {
        self.examine(i, 2, true);
    }
    fn lsl(&mut self, i: &Insn) {
        self.examine(i, 3, true);
    }
    fn xgetbv(&mut self, _: &Insn) {
        if self.flags & mode::OSXSAVE == 0 {
            return self.undefined_instruction();
        }
        self.call_effect(HelperIndex::Xgetbv, &[]);
    }
    fn rdtscp(&mut self, _: &Insn) {
        self.time_stamp();
        let aux = self.told_value(what::TSC_AUX);
        self.b.set_reg(Self::gpr(gpr::RCX), aux);
    }
    fn rdpid(&mut self, i: &Insn) {
        let aux = self.told_value(what::TSC_AUX);
        self.b.set_reg(GuestReg(GPR + (i.rm & 15)), aux);
    }
    fn rdfsbase(&mut self, i: &Insn) {
        self.read_base(i, seg::FS);
    }
    fn rdgsbase(&mut self, i: &Insn) {
        self.read_base(i, seg::GS);
    }
    fn wrfsbase(&mut self, i: &Insn) {
        self.write_base(i, seg::FS);
    }
    fn wrgsbase(&mut self, i: &Insn) {
        self.write_base(i, seg::GS);
    }
    fn lfence(&mut self, _: &Insn) {}
    fn sfence(&mut self, _: &Insn) {}
    fn mfence(&mut self, _: &Insn) {
        self.b.fence();
    }
    fn clflush(&mut self, i: &Insn) {
        // It faults as a load of a byte does.
        let (base, offset) = self.address(i, 1);
        self.get(Place::Memory(base, offset), 1);
    }
}

impl Translator<'_, '_> {
    fn told_value(&mut self, what: u64) -> ir::Operand {
        let what = self.b.imm(what);
        self.call(HelperIndex::SystemRegister, &[what])
    }

    fn told(&mut self, i: &Insn, what: u64) {
        let value = self.told_value(what);
        match i.memory {
            Some(_) => {
                let (base, offset) = self.address(i, 2);
                self.put(Place::Memory(base, offset), 2, value);
            }
            None => {
                self.put(Place::Gpr(i.rm), i.size, value);
            }
        }
    }

    /// Limit and base of a table, as told to programs.
    fn table(&mut self, i: &Insn, what: u64) {
        let size = if self.is_long() { 8 } else { 4 };
        let (limit, base) = (self.told_value(what), self.told_value(what + 1));
        let (at, offset) = self.address(i, size + 2);
        self.put(Place::Memory(at, offset), 2, limit);
        self.put(Place::Memory(at, offset + 2), size, base);
    }

    fn examine(&mut self, i: &Insn, which: u64, result: bool) {
        if self.flags & mode::PROTECTED == 0 || self.flags & mode::VM86 != 0 {
            return self.undefined_instruction();
        }
        let selector = self.read(i, usize::from(result));
        let old = self.x(i.reg);
        let which = self.b.imm(which);
        let value = self.call(HelperIndex::Examine, &[which, selector, old]);
        self.flags_settled();
        if result {
            self.write(i, 0, value);
        }
    }

    fn read_base(&mut self, i: &Insn, segment: u8) {
        if self.flags & mode::FSGSBASE == 0 {
            return self.undefined_instruction();
        }
        let base = self.segment_base(segment);
        self.write(i, 0, base);
    }

    fn write_base(&mut self, i: &Insn, segment: u8) {
        if self.flags & mode::FSGSBASE == 0 {
            return self.undefined_instruction();
        }
        let size = Self::size(i, 0);
        let value = self.read(i, 0);
        let value = self.zx(value, size);
        self.keep(GuestReg(SEG_BASE + segment), value);
    }
}
