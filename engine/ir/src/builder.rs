//! The builder: what front ends see.
//!
//! Operations on constants are folded and identities vanish here, so that front ends need not
//! look for special cases. Results are temporaries; [`Builder::set_reg`] moves the last result
//! straight into its guest register where it can.
//!
//! An operand that names a guest register means its value *when the operation runs*: compute all
//! results before setting the registers they read.

use crate::ops::{AmoOp, Cond, Effects, FloatRules, FpCond, MemOp, OpKind, Rounding, Type};
use crate::unit::{
    Const, ExitKind, GuestReg, HelperId, Hint, Label, LeafId, Op, Operand, Temp, Unit, Value,
};
use crate::vector::{EXACTLY, Lane};

/// Appends operations to a unit.
pub struct Builder<'a> {
    unit: &'a mut Unit,
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident $name32:ident $kind:ident;)*) => { $(
        $(#[$doc])*
        pub fn $name(&mut self, a: Operand, b: Operand) -> Operand {
            self.binary(OpKind::$kind, Type::I64, a, b)
        }
        /// The same on the low 32 bits; the result is zero-extended.
        pub fn $name32(&mut self, a: Operand, b: Operand) -> Operand {
            self.binary(OpKind::$kind, Type::I32, a, b)
        }
    )* };
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident $name32:ident $kind:ident;)*) => { $(
        $(#[$doc])*
        pub fn $name(&mut self, a: Operand) -> Operand {
            self.emit(OpKind::$kind, Type::I64, 0, [a, Operand::NONE, Operand::NONE])
        }
        /// The same on the low 32 bits; the result is zero-extended.
        pub fn $name32(&mut self, a: Operand) -> Operand {
            self.emit(OpKind::$kind, Type::I32, 0, [a, Operand::NONE, Operand::NONE])
        }
    )* };
}

impl<'a> Builder<'a> {
    /// A builder that appends to `unit`.
    pub fn new(unit: &'a mut Unit) -> Self {
        Self { unit }
    }

    /// The unit so far.
    pub fn unit(&self) -> &Unit {
        self.unit
    }

    /// The unit's floating-point operations follow these rules.
    pub fn float_rules(&mut self, rules: FloatRules) {
        self.unit.float = rules;
    }

    /// Guest instructions so far.
    pub fn insns(&self) -> u32 {
        self.unit.insns
    }

    /// Takes over all of another unit but for where it is, as it is. This one must be empty.
    pub fn replay(&mut self, other: &Unit) {
        debug_assert!(self.unit.ops.is_empty(), "operands would name other constants");
        self.unit.ops.clone_from(&other.ops);
        self.unit.consts.clone_from(&other.consts);
        (self.unit.temps, self.unit.labels) = (other.temps, other.labels);
        (self.unit.len, self.unit.insns) = (other.len, other.insns);
        self.unit.float = other.float;
    }

    /// Begins the guest instruction at `pc`, `len` bytes long. Faults of the operations that
    /// follow are its faults.
    pub fn insn(&mut self, pc: u64, len: u32) {
        let at = self.imm(pc);
        self.unit.insns += 1;
        self.unit.len = (pc.wrapping_sub(self.unit.pc) as u32).wrapping_add(len);
        self.effect(OpKind::Insn, Type::I64, len as u16, [at, Operand::NONE, Operand::NONE]);
    }

    /// A constant.
    pub fn imm(&mut self, value: u64) -> Operand {
        let recent = self.unit.consts.iter().rev().take(8).position(|c| *c == value);
        let index = match recent {
            Some(back) => self.unit.consts.len() - 1 - back,
            None => {
                self.unit.consts.push(value);
                self.unit.consts.len() - 1
            }
        };
        Const(index as u32).into()
    }

    /// A guest register's value at the operation that reads it.
    pub fn reg(&self, reg: GuestReg) -> Operand {
        reg.into()
    }

    /// Assigns a guest register. The value must not be used again afterwards unless it is a
    /// constant: read the register instead.
    pub fn set_reg(&mut self, reg: GuestReg, value: Operand) {
        self.assign(Type::I64, reg, value);
    }

    /// Assigns a guest register of the floating-point class; like [`Builder::set_reg`].
    pub fn set_float_reg(&mut self, reg: GuestReg, value: Operand) {
        self.assign(Type::F64, reg, value);
    }

    fn assign(&mut self, ty: Type, reg: GuestReg, value: Operand) {
        if value == reg.into() {
            return;
        }
        if let (Value::Temp(_), Some(last)) = (value.value(), self.unit.ops.last_mut())
            && last.dst == value
        {
            last.dst = reg.into();
            return;
        }
        self.push(OpKind::Mov, ty, 0, reg.into(), [value, Operand::NONE, Operand::NONE]);
    }

    /// A copy of a value as it is now, safe from later changes of the register it names.
    pub fn copy(&mut self, value: Operand) -> Operand {
        self.emit(OpKind::Mov, Type::I64, 0, [value, Operand::NONE, Operand::NONE])
    }

    binary! {
        /// a + b
        add add32 Add;
        /// a − b
        sub sub32 Sub;
        /// a & b
        and and32 And;
        /// a | b
        or or32 Or;
        /// a ^ b
        xor xor32 Xor;
        /// a & !b
        andnot andnot32 AndNot;
        /// a << (b mod 64)
        shl shl32 Shl;
        /// a >> (b mod 64), zeros shifted in
        shr shr32 Shr;
        /// a >> (b mod 64), sign shifted in
        sar sar32 Sar;
        /// Rotate left.
        rotl rotl32 Rotl;
        /// Rotate right.
        rotr rotr32 Rotr;
        /// Low half of the product.
        mul mul32 Mul;
        /// Signed quotient; by zero: all ones; overflow: a.
        div div32 Div;
        /// Unsigned quotient; by zero: all ones.
        divu divu32 DivU;
        /// Signed remainder; by zero: a; overflow: 0.
        rem rem32 Rem;
        /// Unsigned remainder; by zero: a.
        remu remu32 RemU;
        /// Signed minimum.
        min min32 Min;
        /// Signed maximum.
        max max32 Max;
        /// Unsigned minimum.
        minu minu32 MinU;
        /// Unsigned maximum.
        maxu maxu32 MaxU;
        /// The low bits of a at the places where b has ones.
        deposit deposit32 Deposit;
        /// The bits of a at the places where b has ones, side by side.
        extract extract32 Extract;
    }

    unary! {
        /// Leading zeros; of zero: the width.
        clz clz32 Clz;
        /// Trailing zeros; of zero: the width.
        ctz ctz32 Ctz;
        /// Set bits.
        popcnt popcnt32 Popcnt;
        /// Bytes in reverse order.
        bswap bswap32 Bswap;
    }

    /// A value with the low `bits` bits (8 or 16) of another one in the place of its own.
    pub fn insert(&mut self, into: Operand, value: Operand, bits: u16) -> Operand {
        self.emit(OpKind::Insert, Type::I64, bits, [into, value, Operand::NONE])
    }

    /// The CRC-32C of the low `bits` bits (8, 16, 32, 64) of a value, after another one.
    pub fn crc32c(&mut self, crc: Operand, value: Operand, bits: u16) -> Operand {
        self.emit(OpKind::Crc32, Type::I64, bits, [crc, value, Operand::NONE])
    }

    /// High half of the signed product.
    pub fn mulh(&mut self, a: Operand, b: Operand) -> Operand {
        self.binary(OpKind::MulHigh, Type::I64, a, b)
    }

    /// High half of the unsigned product.
    pub fn mulhu(&mut self, a: Operand, b: Operand) -> Operand {
        self.binary(OpKind::MulHighU, Type::I64, a, b)
    }

    /// High half of signed a times unsigned b.
    pub fn mulhsu(&mut self, a: Operand, b: Operand) -> Operand {
        self.binary(OpKind::MulHighSU, Type::I64, a, b)
    }

    /// !a
    pub fn not(&mut self, a: Operand) -> Operand {
        let ones = self.imm(u64::MAX);
        self.xor(a, ones)
    }

    /// −a
    pub fn neg(&mut self, a: Operand) -> Operand {
        let zero = self.imm(0);
        self.sub(zero, a)
    }

    /// Sign extension from the low `bits` (8, 16 or 32).
    pub fn sext(&mut self, a: Operand, bits: u16) -> Operand {
        if let Some(v) = self.unit.as_const(a) {
            let shift = 64 - u32::from(bits);
            return self.imm(((v << shift).cast_signed() >> shift).cast_unsigned());
        }
        self.emit(OpKind::Sext, Type::I64, bits, [a, Operand::NONE, Operand::NONE])
    }

    /// Zero extension from the low `bits` (8, 16 or 32).
    pub fn zext(&mut self, a: Operand, bits: u16) -> Operand {
        if let Some(v) = self.unit.as_const(a) {
            let shift = 64 - u32::from(bits);
            return self.imm(v << shift >> shift);
        }
        self.emit(OpKind::Zext, Type::I64, bits, [a, Operand::NONE, Operand::NONE])
    }

    /// 1 if the condition holds of the 64-bit values, else 0.
    pub fn setcond(&mut self, cond: Cond, a: Operand, b: Operand) -> Operand {
        if let (Some(x), Some(y)) = (self.unit.as_const(a), self.unit.as_const(b)) {
            return self.imm(u64::from(cond.holds(x, y)));
        }
        self.emit(OpKind::SetCond, Type::I64, cond as u16, [a, b, Operand::NONE])
    }

    /// 1 if the condition holds of the low 32 bits, else 0.
    pub fn setcond32(&mut self, cond: Cond, a: Operand, b: Operand) -> Operand {
        self.emit(OpKind::SetCond, Type::I32, cond as u16, [a, b, Operand::NONE])
    }

    /// `yes` if `a` is not zero, else `no`.
    pub fn select(&mut self, a: Operand, yes: Operand, no: Operand) -> Operand {
        match self.unit.as_const(a) {
            Some(0) => no,
            Some(_) => yes,
            None => self.emit(OpKind::Select, Type::I64, 0, [a, yes, no]),
        }
    }

    /// Loads from `base + offset` into an integer.
    pub fn load(&mut self, mem: MemOp, base: Operand, offset: i64) -> Operand {
        let offset = self.imm(offset.cast_unsigned());
        self.emit(OpKind::Load, Type::I64, mem.code(), [base, offset, Operand::NONE])
    }

    /// Stores the low bytes of an integer at `base + offset`.
    pub fn store(&mut self, mem: MemOp, base: Operand, offset: i64, value: Operand) {
        let offset = self.imm(offset.cast_unsigned());
        self.effect(OpKind::Store, Type::I64, mem.code(), [base, offset, value]);
    }

    /// Loads a float (F32: `U32`, F64: `U64`) from `base + offset`.
    pub fn load_float(&mut self, ty: Type, mem: MemOp, base: Operand, offset: i64) -> Operand {
        let offset = self.imm(offset.cast_unsigned());
        self.emit(OpKind::Load, ty, mem.code(), [base, offset, Operand::NONE])
    }

    /// Stores a float at `base + offset`.
    pub fn store_float(
        &mut self,
        ty: Type,
        mem: MemOp,
        base: Operand,
        offset: i64,
        value: Operand,
    ) {
        let offset = self.imm(offset.cast_unsigned());
        self.effect(OpKind::Store, ty, mem.code(), [base, offset, value]);
    }

    /// Atomic read-modify-write; the old value, extended as `mem` says.
    pub fn amo(&mut self, op: AmoOp, mem: MemOp, at: Operand, value: Operand) -> Operand {
        let aux = mem.code() | (op as u16) << MemOp::BITS;
        self.emit(OpKind::Amo, Type::I64, aux, [at, value, Operand::NONE])
    }

    /// Atomic compare-and-swap; the old value, extended as `mem` says.
    pub fn cas(&mut self, mem: MemOp, at: Operand, expected: Operand, new: Operand) -> Operand {
        self.emit(OpKind::Cas, Type::I64, mem.code(), [at, expected, new])
    }

    /// A full memory barrier.
    pub fn fence(&mut self) {
        self.effect(OpKind::Fence, Type::I64, 0, [Operand::NONE; 3]);
    }

    /// Calls a helper with up to three arguments; its result.
    pub fn call(&mut self, helper: HelperId, args: &[Operand]) -> Operand {
        let args = self.padded(args);
        self.emit(OpKind::Call, Type::I64, helper.0, args)
    }

    /// Calls a helper whose result does not matter.
    pub fn call_effect(&mut self, helper: HelperId, args: &[Operand]) {
        let args = self.padded(args);
        self.effect(OpKind::Call, Type::I64, helper.0, args);
    }

    /// Calls a leaf helper with up to three arguments; its result.
    pub fn leaf(&mut self, leaf: LeafId, args: &[Operand]) -> Operand {
        let args = self.padded(args);
        self.emit(OpKind::Leaf, Type::I64, leaf.0, args)
    }

    /// Calls a leaf helper whose result does not matter.
    pub fn leaf_effect(&mut self, leaf: LeafId, args: &[Operand]) {
        let args = self.padded(args);
        self.effect(OpKind::Leaf, Type::I64, leaf.0, args);
    }

    /// Arguments of a helper; those that are not given are zero.
    fn padded(&mut self, args: &[Operand]) -> [Operand; 3] {
        let zero = self.imm(0);
        std::array::from_fn(|i| args.get(i).copied().unwrap_or(zero))
    }

    /// The bits of an integer as a float value.
    pub fn to_float(&mut self, ty: Type, a: Operand) -> Operand {
        self.emit(OpKind::ToFloat, ty, 0, [a, Operand::NONE, Operand::NONE])
    }

    /// The low `bits` (32 or 64) of a float value as an integer, zero-extended.
    pub fn to_int(&mut self, a: Operand, bits: u16) -> Operand {
        self.emit(OpKind::ToInt, Type::I64, bits, [a, Operand::NONE, Operand::NONE])
    }

    /// An F32 value with the upper half of its register all ones, as RISC-V keeps it.
    pub fn fbox(&mut self, a: Operand) -> Operand {
        self.emit(OpKind::FBox, Type::F32, 0, [a, Operand::NONE, Operand::NONE])
    }

    /// The F32 value in a register if its upper half is all ones, else the default NaN.
    pub fn funbox(&mut self, a: Operand) -> Operand {
        self.emit(OpKind::FUnbox, Type::F32, 0, [a, Operand::NONE, Operand::NONE])
    }

    /// The binary16 in a register, boxed, or the default NaN, boxed, if it is not.
    pub fn funbox_half(&mut self, a: Operand) -> Operand {
        self.emit(OpKind::FUnbox, Type::F32, 16, [a, Operand::NONE, Operand::NONE])
    }

    /// A two-operand floating-point operation: `FAdd`, `FSub`, `FMul`, `FDiv`, `FMin`,
    /// `FMax`.
    pub fn float2(
        &mut self,
        kind: OpKind,
        (ty, rounding): (Type, Rounding),
        a: Operand,
        b: Operand,
    ) -> Operand {
        self.emit(kind, ty, rounding.aux(), [a, b, Operand::NONE])
    }

    /// Square root.
    pub fn fsqrt(&mut self, ty: Type, rounding: Rounding, a: Operand) -> Operand {
        self.emit(OpKind::FSqrt, ty, rounding.aux(), [a, Operand::NONE, Operand::NONE])
    }

    /// ±(a · b) ± c with one rounding.
    pub fn fmuladd(
        &mut self,
        (ty, rounding): (Type, Rounding),
        (negate_product, negate_addend): (bool, bool),
        [a, b, c]: [Operand; 3],
    ) -> Operand {
        let form = u16::from(negate_product) | u16::from(negate_addend) << 1;
        self.emit(OpKind::FMulAdd, ty, form | rounding.aux(), [a, b, c])
    }

    /// Rounds to an integral value; whether inexact is told says `inexact`.
    pub fn fround(
        &mut self,
        (ty, rounding): (Type, Rounding),
        inexact: bool,
        a: Operand,
    ) -> Operand {
        let aux = u16::from(inexact) | rounding.aux();
        self.emit(OpKind::FRound, ty, aux, [a, Operand::NONE, Operand::NONE])
    }

    /// The binary16 in the low quarter of a register as F32.
    pub fn ffrom_half(&mut self, a: Operand) -> Operand {
        self.emit(OpKind::FFromHalf, Type::F32, 0, [a, Operand::NONE, Operand::NONE])
    }

    /// F32 as a boxed binary16.
    pub fn fto_half(&mut self, rounding: Rounding, a: Operand) -> Operand {
        let aux = rounding.aux();
        self.emit(OpKind::FToHalf, Type::F32, aux, [a, Operand::NONE, Operand::NONE])
    }

    /// Compares floats; an integer 0 or 1.
    pub fn fcompare(&mut self, ty: Type, cond: FpCond, a: Operand, b: Operand) -> Operand {
        self.emit(OpKind::FCompare, ty, cond as u16, [a, b, Operand::NONE])
    }

    /// How floats relate: 0 greater, 1 less, 64 equal, 69 unordered. `signalling`: any NaN is invalid.
    pub fn frelate(&mut self, ty: Type, signalling: bool, a: Operand, b: Operand) -> Operand {
        self.emit(OpKind::FRelate, ty, signalling.into(), [a, b, Operand::NONE])
    }

    /// Converts to `ty` from the other of F32 and F64.
    pub fn fconvert(&mut self, ty: Type, rounding: Rounding, a: Operand) -> Operand {
        self.emit(OpKind::FConvert, ty, rounding.aux(), [a, Operand::NONE, Operand::NONE])
    }

    /// A `bits`-wide (32 or 64) integer as a float.
    pub fn ffrom_int(
        &mut self,
        (ty, rounding): (Type, Rounding),
        (bits, signed): (u16, bool),
        a: Operand,
    ) -> Operand {
        let kind = if signed { OpKind::FFromInt } else { OpKind::FFromUInt };
        self.emit(kind, ty, bits | rounding.aux(), [a, Operand::NONE, Operand::NONE])
    }

    /// A float as an integer of `bits` (32 or 64) bits.
    pub fn fto_int(
        &mut self,
        (ty, rounding): (Type, Rounding),
        (bits, signed): (u16, bool),
        a: Operand,
    ) -> Operand {
        let kind = if signed { OpKind::FToInt } else { OpKind::FToUInt };
        self.emit(kind, ty, bits | rounding.aux(), [a, Operand::NONE, Operand::NONE])
    }

    /// Exception flags that are collected outside the state: what the state has is not among them.
    pub fn flags_get(&mut self) -> Operand {
        self.emit(OpKind::FlagsGet, Type::I64, 0, [Operand::NONE; 3])
    }

    /// Takes the flags away that [`Builder::flags_get`] answers.
    pub fn flags_clear(&mut self) {
        self.effect(OpKind::FlagsClear, Type::I64, 0, [Operand::NONE; 3]);
    }

    /// The vector at byte `offset` of the guest's vector registers.
    pub fn vget(&mut self, ty: Type, offset: u32) -> Operand {
        let at = self.imm(offset.into());
        self.emit(OpKind::VGet, ty, 0, [at, Operand::NONE, Operand::NONE])
    }

    /// Writes a vector to byte `offset` and following of the guest's vector registers.
    pub fn vput(&mut self, ty: Type, offset: u32, value: Operand) {
        let at = self.imm(offset.into());
        self.effect(OpKind::VPut, ty, 0, [at, value, Operand::NONE]);
    }

    /// Loads a vector from `base + offset`.
    pub fn vload(&mut self, ty: Type, mem: MemOp, base: Operand, offset: i64) -> Operand {
        self.load_float(ty, mem, base, offset)
    }

    /// Stores a vector at `base + offset`.
    pub fn vstore(&mut self, ty: Type, mem: MemOp, base: Operand, offset: i64, value: Operand) {
        self.store_float(ty, mem, base, offset, value);
    }

    /// Copies `len` bytes (4, 8 or a multiple of 16) from memory at `from` to byte `offset` and
    /// following of the guest's vector registers, as `helper` does with `arg` and the two.
    pub fn vcopy_in(
        &mut self,
        helper: HelperId,
        arg: Operand,
        from: Operand,
        (offset, len): (u32, u32),
    ) {
        let place = self.imm(u64::from(offset) | u64::from(len) << 32);
        self.effect(OpKind::VCopyIn, Type::I64, helper.0, [from, place, arg]);
    }

    /// The same for a copy that may end early, which the helper's result tells: 0 for all bytes.
    pub fn vcopy_in_part(
        &mut self,
        helper: HelperId,
        arg: Operand,
        from: Operand,
        (offset, len): (u32, u32),
    ) -> Operand {
        let place = self.imm(u64::from(offset) | u64::from(len) << 32);
        self.emit(OpKind::VCopyIn, Type::I64, helper.0, [from, place, arg])
    }

    /// Copies vector registers to memory at `to`, alike.
    pub fn vcopy_out(
        &mut self,
        helper: HelperId,
        arg: Operand,
        to: Operand,
        (offset, len): (u32, u32),
    ) {
        let place = self.imm(u64::from(offset) | u64::from(len) << 32);
        self.effect(OpKind::VCopyOut, Type::I64, helper.0, [to, place, arg]);
    }

    /// Copies the first `count` bytes, at most `fit` (16 or a multiple of 32), from memory at `from`
    /// to byte `offset` and following of the vector registers, as `helper` does with `arg` and the two.
    pub fn vcopy_some_in(
        &mut self,
        (helper, arg): (HelperId, u32),
        from: Operand,
        (offset, fit): (u16, u16),
        count: Operand,
    ) {
        let place = self.copy_place(arg, offset, fit);
        self.effect(OpKind::VCopySomeIn, Type::I64, helper.0, [from, place, count]);
    }

    /// Copies vector registers to memory at `to`, alike.
    pub fn vcopy_some_out(
        &mut self,
        (helper, arg): (HelperId, u32),
        to: Operand,
        (offset, fit): (u16, u16),
        count: Operand,
    ) {
        let place = self.copy_place(arg, offset, fit);
        self.effect(OpKind::VCopySomeOut, Type::I64, helper.0, [to, place, count]);
    }

    fn copy_place(&mut self, arg: u32, offset: u16, fit: u16) -> Operand {
        self.imm(u64::from(offset) | u64::from(fit) << 16 | u64::from(arg) << 32)
    }

    /// A vector operation of one operand, which may be an integer or a float by its form.
    pub fn vector1(&mut self, kind: OpKind, ty: Type, lane: Lane, a: Operand) -> Operand {
        self.emit(kind, ty, lane.with(0), [a, Operand::NONE, Operand::NONE])
    }

    /// A vector operation of two operands, the second of which may be an integer by its form.
    pub fn vector2(
        &mut self,
        kind: OpKind,
        ty: Type,
        lane: Lane,
        a: Operand,
        b: Operand,
    ) -> Operand {
        self.emit(kind, ty, lane.with(0), [a, b, Operand::NONE])
    }

    /// A logical vector operation: `VAnd`, `VOr`, `VXor`, `VAndNot`.
    pub fn vlogic(&mut self, kind: OpKind, ty: Type, a: Operand, b: Operand) -> Operand {
        self.emit(kind, ty, 0, [a, b, Operand::NONE])
    }

    /// An operation on one vector that has no lanes to name: `VAesMix`, `VFRcp`, `VFRsqrt`.
    pub fn vlogic1(&mut self, kind: OpKind, ty: Type, a: Operand) -> Operand {
        self.emit(kind, ty, 0, [a, Operand::NONE, Operand::NONE])
    }

    /// Two rounds of SHA-256.
    pub fn vsha256_rounds(&mut self, operands: [Operand; 3]) -> Operand {
        self.emit(OpKind::VSha256Rounds, Type::V128, 0, operands)
    }

    /// The low bits of an integer in each lane.
    pub fn vsplat(&mut self, ty: Type, lane: Lane, a: Operand) -> Operand {
        self.vector1(OpKind::VSplat, ty, lane, a)
    }

    /// A vector with the low bits of an integer in lane `index`.
    pub fn vinsert(
        &mut self,
        ty: Type,
        lane: Lane,
        index: u16,
        a: Operand,
        value: Operand,
    ) -> Operand {
        self.emit(OpKind::VInsert, ty, lane.with(index), [a, value, Operand::NONE])
    }

    /// Lane `index` as an integer, zero-extended.
    pub fn vextract(&mut self, ty: Type, lane: Lane, index: u16, a: Operand) -> Operand {
        self.emit(OpKind::VExtract, ty, lane.with(index), [a, Operand::NONE, Operand::NONE])
    }

    /// Lanes of all ones where the condition holds, else of zeros.
    pub fn vcompare(
        &mut self,
        ty: Type,
        lane: Lane,
        cond: Cond,
        a: Operand,
        b: Operand,
    ) -> Operand {
        self.emit(OpKind::VCompare, ty, lane.with(cond as u16), [a, b, Operand::NONE])
    }

    /// Lane `index` as a float.
    pub fn vextract_float(&mut self, ty: Type, lane: Lane, index: u16, a: Operand) -> Operand {
        self.emit(OpKind::VExtractF, ty, lane.with(index), [a, Operand::NONE, Operand::NONE])
    }

    /// ±(a · b) ± c with one rounding, lane by lane.
    pub fn vfmuladd(
        &mut self,
        ty: Type,
        lane: Lane,
        (negate_product, negate_addend): (bool, bool),
        [a, b, c]: [Operand; 3],
    ) -> Operand {
        let more = u16::from(negate_product) | u16::from(negate_addend) << 1;
        self.emit(OpKind::VFMulAdd, ty, lane.with(more), [a, b, c])
    }

    /// Lanes of all ones where the condition holds of floats, else of zeros.
    pub fn vfcompare(
        &mut self,
        ty: Type,
        lane: Lane,
        cond: FpCond,
        a: Operand,
        b: Operand,
    ) -> Operand {
        self.emit(OpKind::VFCompare, ty, lane.with(cond as u16), [a, b, Operand::NONE])
    }

    /// The lowest lanes compared as floats; the other lanes of `a`.
    pub fn vfcompare_low(&mut self, lane: Lane, cond: FpCond, a: Operand, b: Operand) -> Operand {
        let aux = lane.with(cond as u16);
        self.emit(OpKind::VFCompareLow, Type::V128, aux, [a, b, Operand::NONE])
    }

    /// Floats rounded to integral values; whether inexact is told says `inexact`.
    pub fn vfround(
        &mut self,
        (ty, lane): (Type, Lane),
        (rounding, inexact): (Rounding, bool),
        a: Operand,
    ) -> Operand {
        let aux = lane.with(integral(rounding, inexact));
        self.emit(OpKind::VFRound, ty, aux, [a, Operand::NONE, Operand::NONE])
    }

    /// The lowest lane of `b` rounded alike; the other lanes of `a`.
    pub fn vfround_low(
        &mut self,
        lane: Lane,
        (rounding, inexact): (Rounding, bool),
        a: Operand,
        b: Operand,
    ) -> Operand {
        let aux = lane.with(integral(rounding, inexact));
        self.emit(OpKind::VFRoundLow, Type::V128, aux, [a, b, Operand::NONE])
    }

    /// Floats of 64 bits as signed integers of 32, in the low half.
    pub fn vfto_int32(&mut self, ty: Type, rounding: Rounding, a: Operand) -> Operand {
        let aux = Lane::B64.with(rounding as u16);
        self.emit(OpKind::VFToInt32, ty, aux, [a, Operand::NONE, Operand::NONE])
    }

    /// A vector with a float in lane `index`.
    pub fn vinsert_float(
        &mut self,
        (ty, lane): (Type, Lane),
        index: u16,
        a: Operand,
        value: Operand,
    ) -> Operand {
        self.emit(OpKind::VInsertF, ty, lane.with(index), [a, value, Operand::NONE])
    }

    /// Floats as integers of the same width.
    pub fn vfto_int(
        &mut self,
        ty: Type,
        lane: Lane,
        (signed, rounding): (bool, Rounding),
        a: Operand,
    ) -> Operand {
        let kind = if signed { OpKind::VFToInt } else { OpKind::VFToUInt };
        self.emit(kind, ty, lane.with(rounding as u16), [a, Operand::NONE, Operand::NONE])
    }

    /// A vector operation whose `aux` is a byte: `VPick`, `VAlignEach`, `VChoose32`…; `b` of those of two
    /// operands.
    pub fn vbyte(&mut self, kind: OpKind, ty: Type, byte: u8, a: Operand, b: Operand) -> Operand {
        let b = if kind.arity() == 2 { b } else { Operand::NONE };
        self.emit(kind, ty, Lane::B8.with(byte.into()), [a, b, Operand::NONE])
    }

    /// Half 0 or 1 of a vector of 256 bits.
    pub fn vhalf(&mut self, which: u16, a: Operand) -> Operand {
        let aux = Lane::B8.with(which);
        self.emit(OpKind::VHalf, Type::V256, aux, [a, Operand::NONE, Operand::NONE])
    }

    /// Lanes from `index` on of `a`, followed by `b`: as many as a vector has.
    pub fn valign(&mut self, ty: Type, lane: Lane, index: u16, a: Operand, b: Operand) -> Operand {
        self.emit(OpKind::VAlign, ty, lane.with(index), [a, b, Operand::NONE])
    }

    /// `yes` where the lanes of `mask`, of any width, are all ones, `no` where they are zero.
    pub fn vblend(&mut self, ty: Type, mask: Operand, yes: Operand, no: Operand) -> Operand {
        self.emit(OpKind::VBlend, ty, 0, [mask, yes, no])
    }

    /// Lanes of all ones where the lane's number plus `first` is less than `len`, else of zeros.
    pub fn vbelow(&mut self, ty: Type, lane: Lane, len: Operand, first: u32) -> Operand {
        let first = self.imm(first.into());
        self.vector2(OpKind::VBelow, ty, lane, len, first)
    }

    /// A new label, to be placed once.
    pub fn label(&mut self) -> Label {
        self.unit.labels += 1;
        Label(self.unit.labels - 1)
    }

    /// Places a label. Temporaries do not live across it.
    pub fn place(&mut self, label: Label) {
        self.effect(OpKind::Label, Type::I64, label.0, [Operand::NONE; 3]);
    }

    /// Goes to a label.
    pub fn branch(&mut self, label: Label) {
        let to = self.imm(u64::from(label.0));
        self.effect(OpKind::Branch, Type::I64, 0, [to, Operand::NONE, Operand::NONE]);
    }

    /// Goes to a label if the condition holds.
    pub fn branch_if(&mut self, cond: Cond, a: Operand, b: Operand, label: Label) {
        let to = self.imm(u64::from(label.0));
        self.effect(OpKind::BranchIf, Type::I64, cond as u16, [a, b, to]);
    }

    /// Leaves for guest address `pc` if the condition holds.
    pub fn exit_if(&mut self, cond: Cond, a: Operand, b: Operand, pc: u64) {
        let to = self.imm(pc);
        self.effect(OpKind::ExitIf, Type::I64, cond as u16, [a, b, to]);
    }

    /// Goes to a label if the condition holds of the low 32 bits.
    pub fn branch_if32(&mut self, cond: Cond, a: Operand, b: Operand, label: Label) {
        let to = self.imm(u64::from(label.0));
        self.effect(OpKind::BranchIf, Type::I32, cond as u16, [a, b, to]);
    }

    /// Leaves for guest address `pc` if the condition holds of the low 32 bits.
    pub fn exit_if32(&mut self, cond: Cond, a: Operand, b: Operand, pc: u64) {
        let to = self.imm(pc);
        self.effect(OpKind::ExitIf, Type::I32, cond as u16, [a, b, to]);
    }

    /// The mode has these flags from here on.
    pub fn set_flags(&mut self, flags: u32) {
        let flags = self.imm(u64::from(flags));
        self.effect(OpKind::SetFlags, Type::I64, 0, [flags, Operand::NONE, Operand::NONE]);
    }

    /// Leaves for guest address `pc` with these flags of the mode if `a` is not zero.
    pub fn exit_flags(&mut self, a: Operand, pc: u64, flags: u32) {
        let (to, flags) = (self.imm(pc), self.imm(u64::from(flags)));
        self.effect(OpKind::ExitFlags, Type::I64, 0, [a, to, flags]);
    }

    /// Leaves for guest address `pc`.
    pub fn exit(&mut self, pc: u64, hint: Hint) {
        let to = self.imm(pc);
        self.effect(OpKind::Exit, Type::I64, hint as u16, [to, Operand::NONE, Operand::NONE]);
    }

    /// Leaves for a computed guest address.
    pub fn exit_indirect(&mut self, target: Operand, hint: Hint) {
        self.effect(
            OpKind::ExitIndirect,
            Type::I64,
            hint as u16,
            [target, Operand::NONE, Operand::NONE],
        );
    }

    /// Leaves for the run loop, to go on at guest address `pc`.
    pub fn exit_loop(&mut self, kind: ExitKind, pc: u64) {
        let to = self.imm(pc);
        self.effect(OpKind::ExitLoop, Type::I64, kind as u16, [to, Operand::NONE, Operand::NONE]);
    }

    fn binary(&mut self, kind: OpKind, ty: Type, a: Operand, b: Operand) -> Operand {
        let (ca, cb) = (self.unit.as_const(a), self.unit.as_const(b));
        if let (Some(x), Some(y)) = (ca, cb)
            && let Some(v) = fold(kind, ty, x, y)
        {
            return self.imm(v);
        }
        if ty == Type::I64 {
            let same = match (kind, ca, cb) {
                (OpKind::Add | OpKind::Sub | OpKind::Or | OpKind::Xor, _, Some(0)) => Some(a),
                (OpKind::Shl | OpKind::Shr | OpKind::Sar, _, Some(0)) => Some(a),
                (OpKind::Add | OpKind::Or | OpKind::Xor, Some(0), _) => Some(b),
                (OpKind::And, _, Some(u64::MAX)) => Some(a),
                _ => None,
            };
            if let Some(same) = same {
                return same;
            }
        }
        self.emit(kind, ty, 0, [a, b, Operand::NONE])
    }

    fn emit(&mut self, kind: OpKind, ty: Type, aux: u16, args: [Operand; 3]) -> Operand {
        let dst = Temp(self.unit.temps).into();
        self.unit.temps += 1;
        self.push(kind, ty, aux, dst, args);
        dst
    }

    fn effect(&mut self, kind: OpKind, ty: Type, aux: u16, args: [Operand; 3]) {
        debug_assert!(kind.effects() != Effects::NONE, "an operation for nothing");
        self.push(kind, ty, aux, Operand::NONE, args);
    }

    fn push(&mut self, kind: OpKind, ty: Type, aux: u16, dst: Operand, [a, b, c]: [Operand; 3]) {
        self.unit.ops.push(Op { kind, ty, aux, dst, a, b, c });
    }
}

/// What says how to round to integral values.
fn integral(rounding: Rounding, inexact: bool) -> u16 {
    rounding as u16 | if inexact { EXACTLY } else { 0 }
}

/// The value of an operation on constants, for those worth folding.
pub fn fold(kind: OpKind, ty: Type, a: u64, b: u64) -> Option<u64> {
    let value = match (kind, ty) {
        (OpKind::Add, _) => a.wrapping_add(b),
        (OpKind::Sub, _) => a.wrapping_sub(b),
        (OpKind::And, _) => a & b,
        (OpKind::Or, _) => a | b,
        (OpKind::Xor, _) => a ^ b,
        (OpKind::AndNot, _) => a & !b,
        (OpKind::Shl, Type::I64) => a << (b & 63),
        (OpKind::Shr, Type::I64) => a >> (b & 63),
        (OpKind::Sar, Type::I64) => (a.cast_signed() >> (b & 63)).cast_unsigned(),
        (OpKind::Shl, Type::I32) => a << (b & 31),
        (OpKind::Shr, Type::I32) => (a & 0xffff_ffff) >> (b & 31),
        (OpKind::Sar, Type::I32) => u64::from((a as i32 >> (b & 31)).cast_unsigned()),
        _ => return None,
    };
    Some(if ty == Type::I32 { value & 0xffff_ffff } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_fold_and_identities_vanish() {
        let mut unit = Unit::default();
        let mut b = Builder::new(&mut unit);
        let (x, zero, five) = (b.reg(GuestReg(1)), b.imm(0), b.imm(5));
        assert_eq!(b.add(x, zero), x);
        let sum = b.add(five, five);
        assert_eq!(b.unit().as_const(sum), Some(10));
        let minus = b.imm(u64::MAX);
        let word = b.add32(minus, zero);
        assert_eq!(b.unit().as_const(word), Some(0xffff_ffff));
        assert!(unit.ops.is_empty());
    }

    #[test]
    fn a_result_goes_straight_into_its_register() {
        let mut unit = Unit::default();
        let mut b = Builder::new(&mut unit);
        let (x, y) = (b.reg(GuestReg(1)), b.reg(GuestReg(2)));
        let sum = b.add(x, y);
        b.set_reg(GuestReg(3), sum);
        b.exit(0x1000, Hint::Jump);
        assert_eq!(unit.ops.len(), 2);
        assert_eq!(unit.ops[0].dst, GuestReg(3).into());
        assert_eq!(unit.verify(), Ok(()));
    }

    #[test]
    fn temporaries_do_not_cross_labels() {
        let mut unit = Unit::default();
        let mut b = Builder::new(&mut unit);
        let x = b.reg(GuestReg(1));
        let sum = b.add(x, x);
        let label = b.label();
        b.place(label);
        b.set_reg(GuestReg(2), sum);
        b.exit(0, Hint::Jump);
        assert_eq!(unit.verify().unwrap_err().index, 2);
    }
}
