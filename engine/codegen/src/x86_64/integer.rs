//! Integer operations.

use super::asm::gpr::{RAX, RCX, RDX};
use super::asm::{Alu, Cc, Gpr, Mem, Pp, Width};
use super::lower::Generator;
use crate::CompileError;
use ir::{Op, OpKind, Value};

/// Numbers of shift operations in their opcodes.
const ROL: u8 = 0;
const ROR: u8 = 1;
const SHL: u8 = 4;
const SHR: u8 = 5;
const SAR: u8 = 7;

impl Generator<'_> {
    pub(super) fn integer_move(&mut self, op: &Op) -> Result<(), CompileError> {
        if self.defer(op) {
            return Ok(());
        }
        if let Some(v) = self.unit.as_const(op.a) {
            let d = self.define_int(op, None)?;
            self.asm.mov_imm(d, v);
        } else {
            let a = self.int(op.a)?;
            let d = self.define_int(op, Some(op.a))?;
            self.asm.mov(Width::W64, d, a);
        }
        self.defined(op);
        Ok(())
    }

    pub(super) fn lower_integer(&mut self, op: &Op) -> Result<(), CompileError> {
        use OpKind as K;
        match op.kind {
            K::Add => self.arithmetic(op, Alu::Add, true)?,
            K::Sub => self.arithmetic(op, Alu::Sub, false)?,
            K::And => self.arithmetic(op, Alu::And, true)?,
            K::Or => self.arithmetic(op, Alu::Or, true)?,
            K::Xor => self.arithmetic(op, Alu::Xor, true)?,
            K::AndNot => self.and_not(op)?,
            K::Shl => self.shift(op, SHL, Some(Pp::P66))?,
            K::Shr => self.shift(op, SHR, Some(Pp::F2))?,
            K::Sar => self.shift(op, SAR, Some(Pp::F3))?,
            K::Rotl => self.shift(op, ROL, None)?,
            K::Rotr => self.shift(op, ROR, None)?,
            K::Mul => self.multiply(op)?,
            K::MulHigh | K::MulHighU | K::MulHighSU => self.multiply_high(op)?,
            K::Div | K::DivU | K::Rem | K::RemU => self.divide(op)?,
            K::Min | K::Max | K::MinU | K::MaxU => self.extremum(op)?,
            K::Clz => self.count(op, 0xbd)?,
            K::Ctz => self.count(op, 0xbc)?,
            K::Popcnt => self.count(op, 0xb8)?,
            K::Bswap => self.unary(op, |g, w, d| g.asm.bswap(w, d))?,
            K::Deposit => self.bits_by_mask(op, Pp::F2)?,
            K::Extract => self.bits_by_mask(op, Pp::F3)?,
            K::Crc32 => self.checksum(op)?,
            K::Insert => self.insert(op)?,
            K::Sext | K::Zext => self.extend(op)?,
            K::SetCond => self.set_cond(op)?,
            K::Select => self.select(op)?,
            other => unreachable!("{other:?} is lowered elsewhere"),
        }
        Ok(())
    }

    fn arithmetic(&mut self, op: &Op, alu: Alu, commutes: bool) -> Result<(), CompileError> {
        let w = Self::width(op);
        let swap = commutes && self.unit.as_const(op.a).is_some();
        let (a, b) = if swap { (op.b, op.a) } else { (op.a, op.b) };
        let ra = self.int(a)?;
        if let Some(imm) = self.small_const(b) {
            let d = self.define_int(op, Some(a))?;
            match alu {
                Alu::Add if d != ra => self.asm.lea(w, d, Mem::base(ra, imm)),
                Alu::Sub if d != ra && imm != i32::MIN => {
                    self.asm.lea(w, d, Mem::base(ra, -imm));
                }
                _ => {
                    self.asm.mov(Width::W64, d, ra);
                    self.asm.alu_imm(alu, w, d.into(), imm);
                }
            }
        } else {
            let rb = self.int(b)?;
            let d = self.define_int(op, Some(a))?;
            if d == ra {
                self.asm.alu(alu, w, d, rb.into());
            } else if d == rb && commutes {
                self.asm.alu(alu, w, d, ra.into());
            } else if d == rb {
                self.asm.mov(Width::W64, RAX, ra);
                self.asm.alu(alu, w, RAX, rb.into());
                self.asm.mov(Width::W64, d, RAX);
            } else if alu == Alu::Add {
                self.asm.lea(w, d, Mem::indexed(ra, rb, 0));
            } else {
                self.asm.mov(Width::W64, d, ra);
                self.asm.alu(alu, w, d, rb.into());
            }
        }
        self.defined(op);
        Ok(())
    }

    fn and_not(&mut self, op: &Op) -> Result<(), CompileError> {
        let (a, b) = (self.int(op.a)?, self.int(op.b)?);
        let d = self.define_int(op, Some(op.a))?;
        self.asm.andn(Self::width(op), d, b, a.into());
        self.defined(op);
        Ok(())
    }

    fn shift(&mut self, op: &Op, number: u8, bmi: Option<Pp>) -> Result<(), CompileError> {
        let w = Self::width(op);
        let a = self.int(op.a)?;
        if let Some(count) = self.unit.as_const(op.b) {
            let count = (count & if w == Width::W64 { 63 } else { 31 }) as u8;
            let d = self.define_int(op, Some(op.a))?;
            match number {
                ROR | ROL if d != a => {
                    let bits = if w == Width::W64 { 64 } else { 32 };
                    let right = if number == ROR { count } else { (bits - count) % bits };
                    self.asm.rorx(w, d, a.into(), right);
                }
                _ => {
                    self.asm.mov(w, d, a);
                    self.asm.shift_imm(w, number, d, count);
                }
            }
        } else {
            let b = self.int(op.b)?;
            let d = self.define_int(op, Some(op.a))?;
            match bmi {
                Some(pp) => self.asm.shiftx(pp, w, d, a.into(), b),
                None => {
                    self.asm.mov(Width::W64, RCX, b);
                    self.asm.mov(Width::W64, RAX, a);
                    self.asm.shift_cl(w, number, RAX);
                    self.asm.mov(w, d, RAX);
                }
            }
        }
        self.defined(op);
        Ok(())
    }

    fn multiply(&mut self, op: &Op) -> Result<(), CompileError> {
        let w = Self::width(op);
        let (a, b) = (self.int(op.a)?, self.int(op.b)?);
        let d = self.define_int(op, Some(op.a))?;
        if d == b {
            self.asm.imul(w, d, a.into());
        } else {
            self.asm.mov(Width::W64, d, a);
            self.asm.imul(w, d, b.into());
        }
        self.defined(op);
        Ok(())
    }

    fn multiply_high(&mut self, op: &Op) -> Result<(), CompileError> {
        self.claim(RDX)?;
        let (a, b) = (self.int(op.a)?, self.int(op.b)?);
        let d = self.define_int(op, None)?;
        self.asm.mov(Width::W64, RAX, a);
        let number = if op.kind == OpKind::MulHigh { 5 } else { 4 };
        self.asm.group3(Width::W64, number, b.into());
        if op.kind == OpKind::MulHighSU {
            // Signed a: the unsigned product counts b · 2^64 too much when a is negative.
            self.asm.mov(Width::W64, RCX, a);
            self.asm.shift_imm(Width::W64, SAR, RCX, 63);
            self.asm.alu(Alu::And, Width::W64, RCX, b.into());
            self.asm.alu(Alu::Sub, Width::W64, RDX, RCX.into());
        }
        self.asm.mov(Width::W64, d, RDX);
        self.defined(op);
        Ok(())
    }

    /// Division never traps on the guests we know: the two special cases are taken out.
    fn divide(&mut self, op: &Op) -> Result<(), CompileError> {
        let w = Self::width(op);
        let signed = matches!(op.kind, OpKind::Div | OpKind::Rem);
        let remainder = matches!(op.kind, OpKind::Rem | OpKind::RemU);
        self.claim(RDX)?;
        let (a, b) = (self.int(op.a)?, self.int(op.b)?);
        let d = self.define_int(op, None)?;
        self.asm.mov(w, RAX, a);
        self.asm.mov(w, RCX, b);
        self.asm.test(w, RCX, RCX);
        let zero = self.asm.jcc(Cc::E);
        let minus_one = signed.then(|| {
            self.asm.alu_imm(Alu::Cmp, w, RCX.into(), -1);
            self.asm.jcc(Cc::E)
        });
        if signed {
            self.asm.cqo(w);
            self.asm.group3(w, 7, RCX.into());
        } else {
            self.asm.alu(Alu::Xor, Width::W32, RDX, RDX.into());
            self.asm.group3(w, 6, RCX.into());
        }
        let done = self.asm.jmp();
        self.asm.bind(zero);
        self.asm.mov(w, RDX, RAX);
        self.all_ones(RAX, w);
        let zero_done = self.asm.jmp();
        if let Some(minus_one) = minus_one {
            self.asm.bind(minus_one);
            self.asm.alu(Alu::Xor, Width::W32, RDX, RDX.into());
            self.asm.group3(w, 3, RAX.into());
        }
        self.asm.bind(done);
        self.asm.bind(zero_done);
        self.asm.mov(w, d, if remainder { RDX } else { RAX });
        self.defined(op);
        Ok(())
    }

    fn all_ones(&mut self, reg: Gpr, w: Width) {
        self.asm.mov_imm(reg, if w == Width::W64 { u64::MAX } else { 0xffff_ffff });
    }

    fn extremum(&mut self, op: &Op) -> Result<(), CompileError> {
        let w = Self::width(op);
        let (a, b) = (self.int(op.a)?, self.int(op.b)?);
        let d = self.define_int(op, Some(op.a))?;
        let keep_b = match op.kind {
            OpKind::Min => Cc::G,
            OpKind::Max => Cc::L,
            OpKind::MinU => Cc::A,
            _ => Cc::B,
        };
        self.asm.mov(w, RAX, a);
        self.asm.alu(Alu::Cmp, w, RAX, b.into());
        self.asm.cmov(keep_b, w, RAX, b.into());
        self.asm.mov(w, d, RAX);
        self.defined(op);
        Ok(())
    }

    fn count(&mut self, op: &Op, opcode: u8) -> Result<(), CompileError> {
        let a = self.int(op.a)?;
        let d = self.define_int(op, Some(op.a))?;
        self.asm.count_bits(Self::width(op), opcode, d, a.into());
        self.defined(op);
        Ok(())
    }

    fn unary(
        &mut self,
        op: &Op,
        emit: impl FnOnce(&mut Self, Width, Gpr),
    ) -> Result<(), CompileError> {
        let w = Self::width(op);
        let a = self.int(op.a)?;
        let d = self.define_int(op, Some(op.a))?;
        self.asm.mov(w, d, a);
        emit(self, w, d);
        self.defined(op);
        Ok(())
    }

    fn extend(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.int(op.a)?;
        let d = self.define_int(op, Some(op.a))?;
        self.asm.mov_extended(u32::from(op.aux) / 8, op.kind == OpKind::Sext, d, a.into());
        self.defined(op);
        Ok(())
    }

    fn set_cond(&mut self, op: &Op) -> Result<(), CompileError> {
        let cc = self.compare(op)?;
        let d = self.define_int(op, None)?;
        self.asm.setcc(cc, RAX);
        self.asm.movzx8(d, RAX.into());
        self.defined(op);
        Ok(())
    }

    fn bits_by_mask(&mut self, op: &Op, pp: Pp) -> Result<(), CompileError> {
        let (a, b) = (self.int(op.a)?, self.int(op.b)?);
        let d = self.define_int(op, Some(op.a))?;
        self.asm.deposit(pp, Self::width(op), d, a, b.into());
        self.defined(op);
        Ok(())
    }

    fn insert(&mut self, op: &Op) -> Result<(), CompileError> {
        let (a, b) = (self.int(op.a)?, self.int(op.b)?);
        let d = self.define_int(op, Some(op.a))?;
        let by = if d == b && d != a { RAX } else { b };
        self.asm.mov(Width::W64, by, b);
        self.asm.mov(Width::W64, d, a);
        self.asm.mov_low(u32::from(op.aux) / 8, d, by);
        self.defined(op);
        Ok(())
    }

    fn checksum(&mut self, op: &Op) -> Result<(), CompileError> {
        let (a, b) = (self.int(op.a)?, self.int(op.b)?);
        let d = self.define_int(op, Some(op.a))?;
        self.asm.mov(Width::W32, RAX, a);
        self.asm.crc32(u32::from(op.aux) / 8, RAX, b);
        self.asm.mov(Width::W64, d, RAX);
        self.defined(op);
        Ok(())
    }

    /// Whether the operation is a comparison that only the choice right behind it asks for, which then makes it.
    pub(super) fn is_for_select(&self, index: usize) -> bool {
        let (op, next) = (&self.unit.ops[index], self.unit.ops.get(index + 1));
        let asks = |next: &Op| {
            next.kind == OpKind::Select && next.a == op.dst && next.b != op.dst && next.c != op.dst
        };
        op.kind == OpKind::SetCond
            && next.is_some_and(asks)
            && matches!(op.dst.value(), Value::Temp(t) if self.last_use[t.0 as usize] == index as u32 + 1)
    }

    /// b if a condition holds, else c.
    fn select(&mut self, op: &Op) -> Result<(), CompileError> {
        let (yes, no) = (self.int(op.b)?, self.int(op.c)?);
        let before = (self.at as usize).checked_sub(1).filter(|before| self.is_for_select(*before));
        let cc = match before {
            Some(before) => {
                let comparison = self.unit.ops[before];
                let cc = self.compare(&comparison)?;
                self.kill_operands(&comparison);
                cc
            }
            None => {
                let a = self.int(op.a)?;
                self.asm.test(Width::W64, a, a);
                Cc::Ne
            }
        };
        // Making room and moves change no flags.
        let d = self.define_int(op, Some(op.c))?;
        if d == yes {
            self.asm.cmov(cc.negated(), Width::W64, d, no.into());
        } else {
            self.asm.mov(Width::W64, d, no);
            self.asm.cmov(cc, Width::W64, d, yes.into());
        }
        self.defined(op);
        Ok(())
    }
}
