//! What instructions on vectors share: operands, results, exceptions.
//!
//! A value of 64 bits (MMX) is a vector of 128 bits of which the upper half means nothing. Results of VEX
//! instructions clear what is above them, those of legacy ones keep it.

use super::Translator;
use crate::decode::{Encoding, Insn, Kind, Operand as Spec, Ty};
use crate::helpers::HelperIndex;
use crate::state::{FTOP, FTW, X87_AT, ZMM_BYTES, mode};
use crate::trap::Exception;
use ir::{Cond, Lane, MemOp, OpKind, Operand, Type};

/// All x87 registers are in use, as MMX instructions leave them.
const ALL_IN_USE: u64 = 0xff;
/// Exponent and sign of an x87 register that an MMX instruction wrote.
const MMX_UPPER: u64 = 0xffff;

/// Byte of the region where a vector register begins.
pub(crate) fn vector_at(number: u8) -> u32 {
    u32::from(number & 31) * ZMM_BYTES as u32
}

/// Byte of the region where an MMX register begins.
fn mmx_at(number: u8) -> u32 {
    X87_AT as u32 + u32::from(number & 7) * 16
}

pub(crate) fn typed(i: &Insn, n: usize) -> Option<(Kind, Ty)> {
    match i.entry.operands.get(n) {
        Some(Spec::Typed(kind, ty)) => Some((*kind, *ty)),
        _ => None,
    }
}

/// Whether an operand is an MMX register, or may be.
fn is_mmx(i: &Insn, n: usize) -> bool {
    matches!(typed(i, n), Some((Kind::P | Kind::Q | Kind::N, _)))
}

impl Translator<'_, '_> {
    /// The type of the vectors that an instruction works on. Scalar ones do not look at VEX's length.
    pub(crate) fn vector_type(i: &Insn) -> Type {
        let long = |o: &Spec| matches!(o, Spec::Typed(_, Ty::X | Ty::Hx | Ty::Qq));
        let wide = Self::is_vex(i) && i.vl >= 32 && i.entry.operands.iter().any(long);
        if wide { Type::V256 } else { Type::V128 }
    }

    pub(crate) fn is_vex(i: &Insn) -> bool {
        i.encoding != Encoding::Legacy
    }

    /// Whether an operand of the instruction is an MMX register.
    pub(crate) fn uses_mmx(i: &Insn) -> bool {
        (0..i.entry.operands.len()).any(|n| match typed(i, n) {
            Some((Kind::P | Kind::N, _)) => true,
            Some((Kind::Q, _)) => i.memory.is_none(),
            _ => false,
        })
    }

    /// Raises what an instruction on vectors raises before all else; whether it is to go on.
    pub(crate) fn vectors_enabled(&mut self, i: &Insn) -> bool {
        let mmx = Self::uses_mmx(i);
        let flags = self.flags;
        let flag = |mask| flags & mask != 0;
        let undefined = match i.encoding {
            Encoding::Legacy if mmx => flag(mode::NO_X87) && !flag(mode::TS),
            Encoding::Legacy => flag(mode::NO_SSE),
            Encoding::Vex => !flag(mode::AVX),
            Encoding::Evex => !flag(mode::AVX) || !flag(mode::AVX512),
        };
        if undefined {
            self.undefined_instruction();
        } else if flag(mode::TS) {
            self.raise(Exception::NotAvailable, 0);
        } else if mmx && i.memory.is_none() {
            // What accesses memory may fault before.
            self.enter_mmx();
        }
        !undefined && !flag(mode::TS)
    }

    /// Raises what an x87 instruction raises before all else; whether it is to go on.
    pub(crate) fn x87_enabled(&mut self, _: &Insn) -> bool {
        if self.flags & mode::NO_X87 != 0 {
            self.raise(Exception::NotAvailable, 0);
            return false;
        }
        true
    }

    /// MMX instructions take all x87 registers into use, and make the first one the top.
    pub(crate) fn enter_mmx(&mut self) {
        let (top, all) = (self.b.imm(0), self.b.imm(ALL_IN_USE));
        self.b.set_reg(FTOP, top);
        self.b.set_reg(FTW, all);
    }

    /// The number of the vector register that an operand is.
    pub(crate) fn vector_number(i: &Insn, n: usize) -> u8 {
        match typed(i, n).map(|(kind, _)| kind) {
            Some(Kind::V | Kind::P | Kind::G) => i.reg,
            Some(Kind::H) => i.vvvv,
            Some(Kind::L) => (i.imm[0] as u8 >> 4) & if i.is_long() { 15 } else { 7 },
            Some(_) => i.rm,
            None => 0,
        }
    }

    /// Operand `n` as a vector of a type. From memory as many bytes are read as the operand has, with
    /// zeros above.
    pub(crate) fn vector_operand(&mut self, i: &Insn, n: usize, ty: Type) -> Operand {
        if self.wide.is_some() {
            return self.evex_operand(i, n, ty);
        }
        if let Some((Kind::W | Kind::M | Kind::Q, _)) = typed(i, n)
            && i.memory.is_some()
        {
            let value = self.vector_from_memory(i, n, Self::wants_alignment(i));
            let narrow = ty == Type::V256 && Self::size(i, n) < 32;
            return if narrow { self.widen_zero(value) } else { value };
        }
        let number = Self::vector_number(i, n);
        let at = if is_mmx(i, n) { mmx_at(number) } else { vector_at(number) };
        self.b.vget(ty, at)
    }

    /// Whether 16 bytes of memory must be aligned, as legacy instructions want it but for those that came
    /// late.
    fn wants_alignment(i: &Insn) -> bool {
        const LATE: [&str; 3] = ["pcmpestr", "pcmpistr", "sha"];
        let late = LATE.iter().any(|name| i.entry.mnemonic.starts_with(name));
        i.encoding == Encoding::Legacy && !late
    }

    /// The memory operand as a vector, which must be aligned or need not.
    pub(crate) fn vector_from_memory(&mut self, i: &Insn, n: usize, aligned: bool) -> Operand {
        if self.wide.is_some() {
            return self.evex_operand(i, n, Self::vector_type(i));
        }
        let size = Self::size(i, n);
        let at = self.address(i, size);
        self.vector_at_address(size, at, aligned)
    }

    /// A vector of as many bytes of memory.
    pub(crate) fn vector_at_address(
        &mut self,
        size: u8,
        (base, offset): (Operand, i64),
        aligned: bool,
    ) -> Operand {
        let access = |mem: MemOp| if aligned { mem.aligned() } else { mem };
        match size {
            32 => self.b.vload(Type::V256, access(MemOp::V256), base, offset),
            16 => self.b.vload(Type::V128, access(MemOp::V128), base, offset),
            4 | 8 => {
                let (ty, lane) = float_type(size);
                let mem = self.mem(size);
                let value = self.b.load_float(ty, mem, base, offset);
                self.b.vector1(OpKind::VFromF, Type::V128, lane, value)
            }
            _ => {
                let mem = self.mem(size);
                let value = self.b.load(mem, base, offset);
                let zero = self.zero(Type::V128);
                let lane = if size == 1 { Lane::B8 } else { Lane::B16 };
                self.b.vinsert(Type::V128, lane, 0, zero, value)
            }
        }
    }

    /// A vector of zeros.
    pub(crate) fn zero(&mut self, ty: Type) -> Operand {
        let zero = self.b.imm(0);
        self.b.vsplat(ty, Lane::B64, zero)
    }

    /// 128 bits as 256, with zeros above.
    pub(crate) fn widen_zero(&mut self, value: Operand) -> Operand {
        self.b.vector1(OpKind::VExtend, Type::V256, Lane::B8, value)
    }

    /// Writes a vector of a type to operand `n`, a register or all of its memory.
    pub(crate) fn put_vector(&mut self, i: &Insn, n: usize, ty: Type, value: Operand) {
        if self.wide.is_some() {
            return self.keep_result(i, n, ty, value);
        }
        if i.memory.is_some() && matches!(typed(i, n), Some((Kind::W | Kind::M | Kind::Q, _))) {
            let (base, offset) = self.address(i, Self::size(i, n));
            return self.b.vstore(ty, MemOp::vector(ty), base, offset, value);
        }
        let number = Self::vector_number(i, n);
        if is_mmx(i, n) {
            return self.put_mmx(number, value);
        }
        if !Self::is_vex(i) {
            return self.b.vput(Type::V128, vector_at(number), value);
        }
        self.put_whole(number, ty, value);
    }

    /// Writes a vector register, and zeros above.
    pub(crate) fn put_whole(&mut self, number: u8, ty: Type, value: Operand) {
        let wide = if ty == Type::V256 { value } else { self.widen_zero(value) };
        self.b.vput(Type::V256, vector_at(number), wide);
        if self.flags & mode::ZMM != 0 || number >= 16 {
            let zero = self.zero(Type::V256);
            self.b.vput(Type::V256, vector_at(number) + 32, zero);
        }
    }

    /// Writes the low half of a vector to an MMX register.
    pub(crate) fn put_mmx(&mut self, number: u8, value: Operand) {
        self.enter_mmx();
        let upper = self.b.imm(MMX_UPPER);
        let whole = self.b.vinsert(Type::V128, Lane::B64, 1, value, upper);
        self.b.vput(Type::V128, mmx_at(number), whole);
    }

    /// Which operands the sources of an instruction of two are.
    pub(crate) fn sources(i: &Insn) -> (usize, usize) {
        if Self::is_vex(i) { (1, 2) } else { (0, 1) }
    }

    /// Whether both sources are the same register: the idiom for zero.
    pub(crate) fn is_same_twice(i: &Insn) -> bool {
        let (x, y) = Self::sources(i);
        i.memory.is_none() && Self::vector_number(i, x) == Self::vector_number(i, y)
    }

    /// An instruction of two sources: `op` makes the result of them.
    pub(crate) fn binary_vector(
        &mut self,
        i: &Insn,
        op: impl FnOnce(&mut Self, Type, Operand, Operand) -> Operand,
    ) {
        if !self.vectors_enabled(i) {
            return;
        }
        let ty = Self::vector_type(i);
        let (x, y) = Self::sources(i);
        let b = self.vector_operand(i, y, ty);
        let a = self.vector_operand(i, x, ty);
        let value = op(self, ty, a, b);
        self.put_vector(i, 0, ty, value);
    }

    /// An instruction of one source.
    pub(crate) fn unary_vector(
        &mut self,
        i: &Insn,
        op: impl FnOnce(&mut Self, Type, Operand) -> Operand,
    ) {
        if let Some((ty, value)) = self.of_one_vector(i, op) {
            self.put_vector(i, 0, ty, value);
        }
    }

    /// What an operation makes of the only source, unless vectors are disabled.
    fn of_one_vector(
        &mut self,
        i: &Insn,
        op: impl FnOnce(&mut Self, Type, Operand) -> Operand,
    ) -> Option<(Type, Operand)> {
        if !self.vectors_enabled(i) {
            return None;
        }
        let ty = Self::vector_type(i);
        let a = self.vector_operand(i, 1, ty);
        Some((ty, op(self, ty, a)))
    }

    /// The same with results that are integers, for a general register.
    pub(crate) fn vector_to_general(
        &mut self,
        i: &Insn,
        op: impl FnOnce(&mut Self, Type, Operand) -> Operand,
    ) {
        if let Some((_, value)) = self.of_one_vector(i, op) {
            self.write(i, 0, value);
        }
    }

    /// Computes what may raise exceptions of SSE: where some are unmasked, they come before the result
    /// is written.
    pub(crate) fn exactly(&mut self, compute: impl FnOnce(&mut Self) -> Operand) -> Operand {
        let fixed = self.fixed_rounding;
        if self.flags & mode::SSE_EXACT == 0 && fixed.is_none() {
            return compute(self);
        }
        let (first, last) = self.ends();
        match fixed {
            Some(rounding) if first => {
                let rounding = self.b.imm(rounding.into());
                self.call_effect(HelperIndex::RoundingBegin, &[rounding]);
            }
            None if first => self.call_effect(HelperIndex::SimdBegin, &[]),
            _ => {}
        }
        let value = compute(self);
        match fixed {
            Some(_) if last => self.call_effect(HelperIndex::RoundingEnd, &[]),
            None if last => self.call_effect(HelperIndex::SimdEnd, &[]),
            _ => {}
        }
        value
    }

    /// Takes the exception that writing operand 0 to memory would.
    pub(crate) fn probe_store(&mut self, i: &Insn) {
        let size = Self::size(i, 0);
        let (base, offset) = self.address(i, size);
        let (offset, size) = (self.imm(offset), self.b.imm(size.into()));
        let address = self.b.add(base, offset);
        self.call_effect(HelperIndex::ProbeStore, &[address, size]);
    }

    /// Lanes of all ones where the lane is less than zero.
    pub(crate) fn negative(&mut self, ty: Type, lane: Lane, value: Operand) -> Operand {
        let zero = self.zero(ty);
        self.b.vcompare(ty, lane, Cond::Lt, value, zero)
    }

    /// 1 if no bit of a vector is set, else 0.
    pub(crate) fn is_zero(&mut self, ty: Type, value: Operand) -> Operand {
        let zero = self.zero(ty);
        let same = self.b.vcompare(ty, Lane::B8, Cond::Eq, value, zero);
        let bits = self.b.vector1(OpKind::VToBits, ty, Lane::B8, same);
        let all = self.b.imm(if ty == Type::V256 { 0xffff_ffff } else { 0xffff });
        self.b.setcond(Cond::Eq, bits, all)
    }
}

/// The floating-point type of a size in bytes.
pub(crate) fn float_type(size: u8) -> (Type, Lane) {
    if size == 4 { (Type::F32, Lane::B32) } else { (Type::F64, Lane::B64) }
}

impl Insn {
    /// Whether it is of 64-bit code.
    pub(crate) fn is_long(&self) -> bool {
        self.width == crate::decode::Width::W64
    }

    /// The last immediate, as a byte.
    pub(crate) fn byte(&self) -> u8 {
        self.imm[0] as u8
    }
}

/// Methods that are a shape and what it takes.
macro_rules! shapes {
    ($($name:ident $shape:ident($($arg:expr),*);)*) => {
        $(fn $name(&mut self, i: &Insn) { self.$shape(i $(, $arg)*); })*
    };
}
pub(crate) use shapes;
