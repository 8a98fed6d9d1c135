//! Makes units: valid ones, of every operation, that mostly do not end at once.

use crate::Random;
use crate::guest::{BUS, CODE, FFLAGS, FLOATS, INTS, LEAF_ROWS, PLAIN, REDIRECT, WINDOW, WRITABLE};
use crate::values::{float32, float64, integer};
use ir::{
    AmoOp, Cond, Const, ExitKind, FloatRules, FpCond, GuestReg, Hint, MemOp, Op, OpKind, Operand,
    Rounding, Temp, Type, Unit, Value,
};

/// What units look like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Operations, about.
    pub ops: usize,
    /// Temporaries that stay in use at a time, at most; some more than there are host registers
    /// make the generator spill.
    pub pressure: usize,
    /// Out of 100 operations, how many are floating-point ones.
    pub float: u64,
    /// Out of 100 operations, how many are on vectors.
    pub vector: u64,
    /// Out of 100 operations, how many access memory.
    pub memory: u64,
    /// What floating-point operations do where ISAs differ.
    pub rules: FloatRules,
}

impl Shape {
    /// Any shape.
    pub fn random(random: &mut Random<'_>) -> Self {
        Self {
            ops: random.pick(&[3, 8, 20, 60]),
            pressure: random.pick(&[2, 4, 8, 16, 40]),
            float: random.pick(&[0, 10, 20, 60]),
            memory: random.pick(&[0, 5, 15, 40]),
            vector: random.pick(&[0, 0, 20, 60]),
            rules: random.pick(FloatRules::ALL),
        }
    }
}

/// A floating-point temporary, and whether all its 64 bits are specified.
#[derive(Clone, Copy)]
struct FloatTemp {
    operand: Operand,
    full: bool,
}

pub(crate) struct Maker<'r, 'b> {
    pub(crate) random: &'r mut Random<'b>,
    pub(crate) shape: Shape,
    unit: Unit,
    ints: Vec<Operand>,
    floats: Vec<FloatTemp>,
    /// Vectors, each with its type.
    pub(crate) vectors: Vec<(Type, Operand)>,
    pending: Vec<u16>,
    pc: u64,
}

/// A valid unit.
pub fn generate(random: &mut Random<'_>, shape: Shape) -> Unit {
    let mut m = Maker {
        random,
        shape,
        unit: Unit { pc: CODE, float: shape.rules, ..Unit::default() },
        ints: Vec::new(),
        floats: Vec::new(),
        vectors: Vec::new(),
        pending: Vec::new(),
        pc: CODE,
    };
    m.insn();
    while m.unit.ops.len() < shape.ops {
        m.operation();
    }
    while !m.pending.is_empty() {
        m.place();
        m.integer();
    }
    m.end();
    m.unit
}

pub(crate) const NONE: Operand = Operand::NONE;

impl Maker<'_, '_> {
    // ---- pieces ----

    pub(crate) fn push(
        &mut self,
        kind: OpKind,
        ty: Type,
        aux: u16,
        dst: Operand,
        [a, b, c]: [Operand; 3],
    ) {
        self.unit.ops.push(Op { kind, ty, aux, dst, a, b, c });
    }

    pub(crate) fn effect(&mut self, kind: OpKind, ty: Type, aux: u16, args: [Operand; 3]) {
        self.push(kind, ty, aux, NONE, args);
    }

    pub(crate) fn constant(&mut self, value: u64) -> Operand {
        self.unit.consts.push(value);
        Const(self.unit.consts.len() as u32 - 1).into()
    }

    pub(crate) fn temp(&mut self) -> Operand {
        self.unit.temps += 1;
        Temp(self.unit.temps - 1).into()
    }

    fn int_reg(&mut self) -> GuestReg {
        GuestReg(self.random.below(INTS as u64) as u8)
    }

    fn float_reg(&mut self) -> GuestReg {
        GuestReg((INTS + self.random.below(FLOATS as u64) as usize) as u8)
    }

    /// An integer operand.
    pub(crate) fn int(&mut self) -> Operand {
        match self.random.below(10) {
            0..5 if !self.ints.is_empty() => self.random.pick(&self.ints),
            0..8 => self.int_reg().into(),
            _ => {
                let value = integer(self.random);
                self.constant(value)
            }
        }
    }

    /// A floating-point operand; with `full`, one whose 64 bits are all specified.
    pub(crate) fn float(&mut self, full: bool) -> Operand {
        let fits: Vec<_> =
            self.floats.iter().filter(|t| t.full || !full).map(|t| t.operand).collect();
        match self.random.below(10) {
            0..5 if !fits.is_empty() => self.random.pick(&fits),
            0..9 => self.float_reg().into(),
            _ => {
                let value = float_register(self.random);
                self.constant(value)
            }
        }
    }

    /// Pushes an operation with an integer result.
    pub(crate) fn int_result(&mut self, kind: OpKind, ty: Type, aux: u16, args: [Operand; 3]) {
        if self.random.percent(40) {
            let dst = self.int_reg().into();
            return self.push(kind, ty, aux, dst, args);
        }
        let dst = self.temp();
        self.push(kind, ty, aux, dst, args);
        if self.ints.len() >= self.shape.pressure.max(1) {
            let old = self.random.below(self.ints.len() as u64) as usize;
            self.ints.swap_remove(old);
        }
        self.ints.push(dst);
    }

    /// Pushes an operation with a floating-point result.
    pub(crate) fn float_result(
        &mut self,
        kind: OpKind,
        ty: Type,
        aux: u16,
        (full, args): (bool, [Operand; 3]),
    ) {
        if full && self.random.percent(40) {
            let dst = self.float_reg().into();
            return self.push(kind, ty, aux, dst, args);
        }
        let operand = self.temp();
        self.push(kind, ty, aux, operand, args);
        if self.floats.len() >= 20 {
            let old = self.random.below(20) as usize;
            self.floats.swap_remove(old);
        }
        self.floats.push(FloatTemp { operand, full });
    }

    fn width(&mut self) -> Type {
        self.random.pick(&[Type::I64, Type::I64, Type::I32])
    }

    fn cond(&mut self) -> u16 {
        self.random.pick(Cond::ALL) as u16
    }

    // ---- operations ----

    fn insn(&mut self) {
        let pc = self.constant(self.pc);
        self.effect(OpKind::Insn, Type::I64, 4, [pc, NONE, NONE]);
        self.pc += 4;
        self.unit.insns += 1;
        self.unit.len = (self.pc - CODE) as u32;
    }

    fn operation(&mut self) {
        if self.random.percent(25) && self.unit.insns < 64 {
            self.insn();
        }
        let choice = self.random.below(100);
        let Shape { float, memory, vector, .. } = self.shape;
        if choice < float {
            return self.floating();
        }
        if choice < float + memory {
            return self.memory();
        }
        if self.random.below(100) < vector {
            return self.vector();
        }
        match self.random.below(100) {
            0..73 => self.integer(),
            73..81 => self.idiom(),
            81..91 => self.call(),
            91..93 => self.exit_if(),
            93 => self.exit_flags(),
            94..97 => self.branch(),
            97..99 if !self.pending.is_empty() => self.place(),
            _ => self.effect(OpKind::Fence, Type::I64, 0, [NONE; 3]),
        }
    }

    fn integer(&mut self) {
        const BINARY: &[OpKind] = &[
            OpKind::Add,
            OpKind::Sub,
            OpKind::And,
            OpKind::Or,
            OpKind::Xor,
            OpKind::AndNot,
            OpKind::Shl,
            OpKind::Shr,
            OpKind::Sar,
            OpKind::Rotl,
            OpKind::Rotr,
            OpKind::Mul,
            OpKind::Div,
            OpKind::DivU,
            OpKind::Rem,
            OpKind::RemU,
            OpKind::Min,
            OpKind::Max,
            OpKind::MinU,
            OpKind::MaxU,
            OpKind::Deposit,
            OpKind::Extract,
        ];
        const HIGH: &[OpKind] = &[OpKind::MulHigh, OpKind::MulHighU, OpKind::MulHighSU];
        const UNARY: &[OpKind] = &[OpKind::Clz, OpKind::Ctz, OpKind::Popcnt, OpKind::Bswap];
        const EXTEND: &[OpKind] = &[OpKind::Sext, OpKind::Zext];
        let (a, b, c) = (self.int(), self.int(), self.int());
        match self.random.below(100) {
            0..64 => {
                let (kind, ty) = (self.random.pick(BINARY), self.width());
                self.int_result(kind, ty, 0, [a, b, NONE]);
            }
            64..69 => {
                let kind = self.random.pick(HIGH);
                self.int_result(kind, Type::I64, 0, [a, b, NONE]);
            }
            69..77 => {
                let (kind, ty) = (self.random.pick(UNARY), self.width());
                self.int_result(kind, ty, 0, [a, NONE, NONE]);
            }
            77..84 => {
                let (kind, bits) = (self.random.pick(EXTEND), self.random.pick(&[8, 16, 32]));
                self.int_result(kind, Type::I64, bits, [a, NONE, NONE]);
            }
            84..90 => {
                let (cond, ty) = (self.cond(), self.width());
                self.int_result(OpKind::SetCond, ty, cond, [a, b, NONE]);
            }
            90 => {
                let bits = self.random.pick(&[8, 16, 32, 64]);
                self.int_result(OpKind::Crc32, Type::I64, bits, [a, b, NONE]);
            }
            91 => {
                let bits = self.random.pick(&[8, 16]);
                self.int_result(OpKind::Insert, Type::I64, bits, [a, b, NONE]);
            }
            92..95 => self.int_result(OpKind::Select, Type::I64, 0, [a, b, c]),
            _ => self.int_result(OpKind::Mov, Type::I64, 0, [a, NONE, NONE]),
        }
    }

    /// What front ends make of instructions that lack an operation of their own.
    fn idiom(&mut self) {
        let (of, ty) = (self.int(), self.width());
        let width = if ty == Type::I32 { 32 } else { 64 };
        let count = match self.random.below(3) {
            0 => self.random.pick(&[8, 16, width / 2, width - 16, width - 8]),
            _ => self.random.below(width),
        };
        match self.random.below(4) {
            // A choice by a comparison.
            3 => {
                let (cond, ty) = (self.cond(), self.width());
                let args = [self.int(), self.int(), NONE];
                let holds = self.temp();
                self.push(OpKind::SetCond, ty, cond, holds, args);
                let (yes, no) = (self.int(), self.int());
                self.int_result(OpKind::Select, Type::I64, 0, [holds, yes, no]);
            }
            // An extension.
            0 => {
                let by = self.constant(count);
                let left = self.register_or_temp(OpKind::Shl, ty, [of, by, NONE]);
                let right = self.random.pick(&[OpKind::Shr, OpKind::Sar]);
                self.int_result(right, ty, 0, [left, by, NONE]);
            }
            // A rotation.
            1 => {
                let (by, rest) = (self.constant(count), self.constant((width - count) % width));
                let left = self.register_or_temp(OpKind::Shl, ty, [of, rest, NONE]);
                let right = self.register_or_temp(OpKind::Shr, ty, [of, by, NONE]);
                let join = self.random.pick(&[OpKind::Or, OpKind::Xor, OpKind::Add]);
                let ty = if ty == Type::I32 { self.width() } else { ty };
                self.int_result(join, ty, 0, [left, right, NONE]);
            }
            // Words, each sign-extended.
            _ => {
                let mut value = of;
                for _ in 0..3 {
                    let kind = self.random.pick(&[OpKind::Add, OpKind::Sub, OpKind::Mul]);
                    let other = self.int();
                    value = self.register_or_temp(kind, Type::I32, [value, other, NONE]);
                }
            }
        }
    }

    /// Pushes an operation whose 32-bit result is mostly sign-extended; its result.
    fn register_or_temp(&mut self, kind: OpKind, ty: Type, args: [Operand; 3]) -> Operand {
        let mut dst = if self.random.percent(50) { self.int_reg().into() } else { self.temp() };
        if ty == Type::I32 && self.random.percent(70) {
            let narrow = self.temp();
            self.push(kind, ty, 0, narrow, args);
            self.push(OpKind::Sext, Type::I64, 32, dst, [narrow, NONE, NONE]);
        } else {
            self.push(kind, ty, 0, dst, args);
        }
        if self.random.percent(20) {
            // Overwritten, so that nobody sees it.
            let copy = self.temp();
            self.push(OpKind::Mov, Type::I64, 0, copy, [dst, NONE, NONE]);
            if matches!(dst.value(), Value::Reg(_)) {
                let zero = self.constant(0);
                self.push(OpKind::Mov, Type::I64, 0, dst, [zero, NONE, NONE]);
            }
            dst = copy;
        }
        dst
    }

    /// Reads or writes the flags: those in the state and those that are not there yet.
    fn flags(&mut self) {
        if self.random.percent(60) {
            let outside = self.temp();
            self.push(OpKind::FlagsGet, Type::I64, 0, outside, [NONE; 3]);
            self.int_result(OpKind::Or, Type::I64, 0, [outside, FFLAGS.into(), NONE]);
        } else {
            let (any, mask) = (self.int(), self.constant(0x1f));
            self.effect(OpKind::FlagsClear, Type::I64, 0, [NONE; 3]);
            self.push(OpKind::And, Type::I64, 0, FFLAGS.into(), [any, mask, NONE]);
        }
    }

    fn floating(&mut self) {
        const BINARY: &[OpKind] =
            &[OpKind::FAdd, OpKind::FSub, OpKind::FMul, OpKind::FDiv, OpKind::FMin, OpKind::FMax];
        let ty = self.random.pick(&[Type::F32, Type::F64]);
        let double = ty == Type::F64;
        let bits: u16 = self.random.pick(&[32, 64]);
        let rounding = match self.random.below(3) {
            0 => self.random.pick(Rounding::ALL).aux(),
            _ => 0,
        };
        match self.random.below(110) {
            0..5 => self.flags(),
            5..35 => {
                let (kind, a, b) =
                    (self.random.pick(BINARY), self.float(double), self.float(double));
                self.float_result(kind, ty, rounding, (double, [a, b, NONE]));
            }
            35..42 => {
                let a = self.float(double);
                self.float_result(OpKind::FSqrt, ty, rounding, (double, [a, NONE, NONE]));
            }
            42..54 => {
                let args = [self.float(double), self.float(double), self.float(double)];
                let aux = self.random.below(4) as u16 | rounding;
                self.float_result(OpKind::FMulAdd, ty, aux, (double, args));
            }
            54..62 => {
                let (a, b) = (self.float(double), self.float(double));
                if self.random.percent(30) {
                    let signalling = self.random.below(2) as u16;
                    return self.int_result(OpKind::FRelate, ty, signalling, [a, b, NONE]);
                }
                let cond = self.random.pick(FpCond::ALL) as u16;
                self.int_result(OpKind::FCompare, ty, cond, [a, b, NONE]);
            }
            62..67 => {
                let a = self.float(!double);
                self.float_result(OpKind::FConvert, ty, rounding, (double, [a, NONE, NONE]));
            }
            67..73 => {
                let kind = self.random.pick(&[OpKind::FFromInt, OpKind::FFromUInt]);
                let a = self.int();
                self.float_result(kind, ty, bits | rounding, (double, [a, NONE, NONE]));
            }
            73..81 => {
                let a = self.float(double);
                let kind = match self.shape.rules {
                    FloatRules::Canonical => self.random.pick(&[OpKind::FToInt, OpKind::FToUInt]),
                    FloatRules::Propagate => OpKind::FToInt,
                };
                let aux = bits | self.random.pick(Rounding::ALL).aux();
                self.int_result(kind, ty, aux, [a, NONE, NONE]);
            }
            81..85 => {
                let a = self.float(false);
                self.float_result(OpKind::FBox, Type::F32, 0, (true, [a, NONE, NONE]));
            }
            85..89 => {
                let a = self.float(true);
                self.float_result(OpKind::FUnbox, Type::F32, 0, (false, [a, NONE, NONE]));
            }
            89..92 => {
                let a = self.int();
                self.float_result(OpKind::ToFloat, ty, 0, (true, [a, NONE, NONE]));
            }
            92..96 => {
                let a = self.float(bits == 64);
                self.int_result(OpKind::ToInt, Type::I64, bits, [a, NONE, NONE]);
            }
            96..100 => {
                let a = self.float(double);
                let aux = self.random.below(2) as u16 | self.random.pick(Rounding::ALL).aux();
                self.float_result(OpKind::FRound, ty, aux, (double, [a, NONE, NONE]));
            }
            100..107 => self.half(rounding),
            _ => {
                let a = self.float(true);
                self.float_result(OpKind::Mov, Type::F64, 0, (true, [a, NONE, NONE]));
            }
        }
    }

    /// An operation on half precision: to it, from it, or unboxing.
    fn half(&mut self, rounding: u16) {
        let ty = Type::F32;
        match self.random.below(3) {
            0 => {
                let a = self.float(false);
                self.float_result(OpKind::FToHalf, ty, rounding, (true, [a, NONE, NONE]));
            }
            1 => {
                let a = self.float(false);
                self.float_result(OpKind::FFromHalf, ty, 0, (false, [a, NONE, NONE]));
            }
            _ => {
                let a = self.float(true);
                self.float_result(OpKind::FUnbox, ty, 16, (true, [a, NONE, NONE]));
            }
        }
    }

    /// An access of `size` bytes goes here.
    fn address(&mut self, size: u64) -> u64 {
        let within = self.random.below(WRITABLE - 8);
        match self.random.below(100) {
            0..70 => WINDOW + within / size * size,
            70..82 => WINDOW + within,
            82..90 => WINDOW + 0x1000 - self.random.below(size),
            90..94 => WINDOW + WRITABLE - self.random.below(size),
            94..96 => WINDOW + WRITABLE + 0x1000 - self.random.below(size + 1),
            96..97 => WINDOW - self.random.below(size + 1),
            97..98 => BUS + within / size * size % 0x1000,
            98..99 => u64::MAX - self.random.below(12),
            _ => WINDOW + WRITABLE + within / size * size % 0x1000,
        }
    }

    /// Base and offset whose sum is where an access goes.
    pub(crate) fn base(&mut self, size: u64, offset: bool) -> (Operand, Operand) {
        let target = self.address(size);
        let by = match self.random.below(10) {
            _ if !offset => 0,
            0..5 => self.random.below(4096).wrapping_sub(2048),
            5..8 => 0,
            _ => integer(self.random),
        };
        if self.random.percent(30) {
            // Somewhere in the window, as some integer says.
            let (any, mask, start) = (self.int(), 0xfff & !(size - 1), WINDOW.wrapping_sub(by));
            let (mask, start) = (self.constant(mask), self.constant(start));
            let within = self.temp();
            self.push(OpKind::And, Type::I64, 0, within, [any, mask, NONE]);
            let base = self.temp();
            self.push(OpKind::Add, Type::I64, 0, base, [within, start, NONE]);
            return (base, self.constant(by));
        }
        let base = self.constant(target.wrapping_sub(by));
        let base = if self.random.percent(60) {
            let dst: Operand =
                if self.random.percent(50) { self.int_reg().into() } else { self.temp() };
            self.push(OpKind::Mov, Type::I64, 0, dst, [base, NONE, NONE]);
            dst
        } else {
            base
        };
        (base, self.constant(by))
    }

    fn access(&mut self, mem: MemOp) -> MemOp {
        let mem = if self.random.percent(15) { mem.aligned() } else { mem };
        if self.random.percent(6) { mem.big_endian() } else { mem }
    }

    fn memory(&mut self) {
        const ALL: &[MemOp] =
            &[MemOp::U8, MemOp::U16, MemOp::U32, MemOp::U64, MemOp::S8, MemOp::S16, MemOp::S32];
        let mem = self.random.pick(ALL);
        let mem = self.access(mem);
        let size = u64::from(mem.size());
        match self.random.below(100) {
            0..10 => self.neighbours(),
            10..35 => {
                let (base, by) = self.base(size, true);
                self.int_result(OpKind::Load, Type::I64, mem.code(), [base, by, NONE]);
            }
            35..65 => {
                let (base, by) = self.base(size, true);
                let value = self.int();
                self.effect(OpKind::Store, Type::I64, mem.code(), [base, by, value]);
            }
            65..80 => self.float_memory(),
            80..92 => {
                let (base, _) = self.base(size, false);
                let aux = mem.code() | (self.random.pick(AmoOp::ALL) as u16) << MemOp::BITS;
                let value = self.int();
                self.int_result(OpKind::Amo, Type::I64, aux, [base, value, NONE]);
            }
            _ => self.compare_and_swap(mem),
        }
    }

    /// Accesses through one register, near each other.
    fn neighbours(&mut self) {
        let near = self.random.pick(&[8, 64, 400]);
        let (target, base) = (self.address(8), self.int_reg());
        let target = self.constant(target);
        self.push(OpKind::Mov, Type::I64, 0, base.into(), [target, NONE, NONE]);
        for _ in 0..2 + self.random.below(4) {
            let by = self.random.below(near).wrapping_sub(near / 2);
            let by = self.constant(by);
            let mem = self.random.pick(&[MemOp::U8, MemOp::S16, MemOp::U32, MemOp::U64]);
            let mem = if self.random.percent(10) { self.access(mem) } else { mem };
            match self.random.below(10) {
                0..4 => {
                    self.int_result(OpKind::Load, Type::I64, mem.code(), [base.into(), by, NONE])
                }
                4..7 => {
                    let value = self.int();
                    self.effect(OpKind::Store, Type::I64, mem.code(), [base.into(), by, value]);
                }
                7 => {
                    let args = (true, [base.into(), by, NONE]);
                    self.float_result(OpKind::Load, Type::F64, MemOp::U64.code(), args);
                }
                8 => {
                    let value = self.float(true);
                    let args = [base.into(), by, value];
                    self.effect(OpKind::Store, Type::F64, MemOp::U64.code(), args);
                }
                _ => self.integer(),
            }
        }
    }

    fn float_memory(&mut self) {
        let double = self.random.percent(50);
        let (ty, mem) = if double { (Type::F64, MemOp::U64) } else { (Type::F32, MemOp::U32) };
        let mem = self.access(mem);
        let (base, by) = self.base(u64::from(mem.size()), true);
        if self.random.percent(50) {
            self.float_result(OpKind::Load, ty, mem.code(), (double, [base, by, NONE]));
        } else {
            let value = self.float(double);
            self.effect(OpKind::Store, ty, mem.code(), [base, by, value]);
        }
    }

    /// Expects what a load just found, half the time.
    fn compare_and_swap(&mut self, mem: MemOp) {
        let (base, by) = self.base(u64::from(mem.size()), false);
        let expected = if self.random.percent(50) {
            let found = self.temp();
            self.push(OpKind::Load, Type::I64, mem.code(), found, [base, by, NONE]);
            found
        } else {
            self.int()
        };
        let new = self.int();
        self.int_result(OpKind::Cas, Type::I64, mem.code(), [base, expected, new]);
    }

    fn call(&mut self) {
        let (kind, rows) = match self.random.percent(50) {
            true => (OpKind::Call, PLAIN),
            false => (OpKind::Leaf, LEAF_ROWS),
        };
        let helper = self.random.pick(rows);
        let args = [self.int(), self.int(), self.int()];
        if self.random.percent(20) {
            self.effect(kind, Type::I64, helper, args);
        } else {
            self.int_result(kind, Type::I64, helper, args);
        }
    }

    fn exit_if(&mut self) {
        // Mostly a condition that does not hold.
        let (a, b) = (self.int(), self.int());
        let (cond, ty) = (self.cond(), self.width());
        let b = if self.random.percent(70) { a } else { b };
        let cond = if a == b { Cond::Ne as u16 } else { cond };
        let pc = self.target();
        self.effect(OpKind::ExitIf, ty, cond, [a, b, pc]);
    }

    /// The run loop finds the flags anew, whatever is said of them here.
    fn exit_flags(&mut self) {
        let flags = self.constant(1);
        if self.random.percent(50) {
            return self.effect(OpKind::SetFlags, Type::I64, 0, [flags, NONE, NONE]);
        }
        let zero = self.constant(0);
        let a = if self.random.percent(70) { zero } else { self.int() };
        let pc = self.target();
        self.effect(OpKind::ExitFlags, Type::I64, 0, [a, pc, flags]);
    }

    /// A guest address to leave for.
    fn target(&mut self) -> Operand {
        let pc = match self.random.below(3) {
            0 => CODE + 4 * self.random.below(200),
            1 => self.pc,
            _ => integer(self.random),
        };
        self.constant(pc)
    }

    fn branch(&mut self) {
        let label = match self.pending.is_empty() || self.random.percent(50) {
            true => {
                self.unit.labels += 1;
                self.pending.push(self.unit.labels - 1);
                self.unit.labels - 1
            }
            false => self.random.pick(&self.pending),
        };
        let to = self.constant(u64::from(label));
        if self.random.percent(85) {
            let args = [self.int(), self.int(), to];
            let (cond, ty) = (self.cond(), self.width());
            self.effect(OpKind::BranchIf, ty, cond, args);
        } else {
            self.effect(OpKind::Branch, Type::I64, 0, [to, NONE, NONE]);
            self.place();
        }
    }

    /// Places a label, at which temporaries end.
    fn place(&mut self) {
        let at = self.random.below(self.pending.len() as u64) as usize;
        let label = self.pending.swap_remove(at);
        self.effect(OpKind::Label, Type::I64, label, [NONE; 3]);
        self.ints.clear();
        self.floats.clear();
        self.vectors.clear();
    }

    fn end(&mut self) {
        let hint = self.random.pick(Hint::ALL) as u16;
        match self.random.below(10) {
            0..4 => {
                let pc = self.target();
                self.effect(OpKind::Exit, Type::I64, hint, [pc, NONE, NONE]);
            }
            4..7 => {
                let pc = self.int();
                self.effect(OpKind::ExitIndirect, Type::I64, hint, [pc, NONE, NONE]);
            }
            7..9 => {
                let kind = self.random.pick(&[ExitKind::Lookup, ExitKind::Halt]) as u16;
                let pc = self.target();
                self.effect(OpKind::ExitLoop, Type::I64, kind, [pc, NONE, NONE]);
            }
            _ => {
                let args = [self.int(), self.int(), self.int()];
                self.effect(OpKind::Call, Type::I64, REDIRECT, args);
                let pc = self.constant(0);
                let kind = ExitKind::Redirected as u16;
                self.effect(OpKind::ExitLoop, Type::I64, kind, [pc, NONE, NONE]);
            }
        }
    }
}

/// What a floating-point register may hold: a double, a boxed single or half, or anything.
pub(crate) fn float_register(random: &mut Random<'_>) -> u64 {
    match random.below(10) {
        0..5 => float64(random),
        5..8 => u64::from(float32(random)) | 0xffff_ffff << 32,
        8 => integer(random) | 0xffff_ffff_ffff << 16,
        _ => random.number(),
    }
}
