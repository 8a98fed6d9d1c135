//! Second pass: how many bits of each result anybody wants.

use crate::forward::Rotation;
use crate::vectors::{Overwritten, place};
use ir::{Const, Effects, Lane, Op, OpKind, Operand, Temp, Type, Unit, Value};

/// All bits.
const ALL: u8 = 64;

#[derive(Debug)]
pub(crate) struct Backward {
    /// How many low bits of each guest register's value are wanted, unless all are since it may
    /// have been observed: if the second is not the present generation.
    regs: Vec<(u8, u32)>,
    temps: Vec<u8>,
    generation: u32,
    /// The operations that remain, last first.
    kept: Vec<Op>,
    vectors: Overwritten,
}

impl Default for Backward {
    fn default() -> Self {
        Self {
            regs: vec![(ALL, 0); 256],
            temps: Vec::new(),
            generation: 0,
            kept: Vec::new(),
            vectors: Overwritten::default(),
        }
    }
}

impl Backward {
    pub(crate) fn run(&mut self, unit: &mut Unit, rotations: &[Rotation]) {
        self.temps.clear();
        self.temps.resize(unit.temps as usize, 0);
        if self.generation > u32::MAX / 2 {
            self.regs.fill((ALL, 0));
            self.generation = 0;
        }
        self.generation += 1;
        self.kept.clear();
        self.vectors.observe();
        let mut rotations = rotations.iter().rev().peekable();
        for at in (0..unit.ops.len()).rev() {
            let rotation = rotations.next_if(|rotation| rotation.at == at);
            let rotates = rotations.peek().map(|before| before.at);
            self.operation(unit, at, rotation, rotates);
        }
        unit.ops.clear();
        unit.ops.extend(self.kept.iter().rev());
    }

    fn wanted(&self, operand: Operand) -> u8 {
        match operand.value() {
            Value::Temp(t) => self.temps[t.0 as usize],
            Value::Reg(r) => match self.regs[usize::from(r.0)] {
                (bits, generation) if generation == self.generation => bits,
                _ => ALL,
            },
            _ => 0,
        }
    }

    fn want(&mut self, operand: Operand, bits: u8) {
        match operand.value() {
            Value::Temp(t) => {
                let wanted = &mut self.temps[t.0 as usize];
                *wanted = bits.max(*wanted);
            }
            Value::Reg(r) => {
                let bits = bits.max(self.wanted(operand));
                self.regs[usize::from(r.0)] = (bits, self.generation);
            }
            _ => {}
        }
    }

    /// `rotates` is the last operation before it that is to become a rotation.
    fn operation(
        &mut self,
        unit: &mut Unit,
        at: usize,
        rotation: Option<&Rotation>,
        rotates: Option<usize>,
    ) {
        let mut op = unit.ops[at];
        if op.kind == OpKind::Insn {
            return self.kept.push(op);
        }
        let effects = op.kind.effects();
        let bits = self.wanted(op.dst);
        if Effects::READS.has(effects) {
            if bits == 0 {
                return;
            }
            if let Some(rotation) = rotation {
                op = self.rotate(unit, op, bits, rotation);
            }
            self.narrow(unit, &mut op, bits);
            if self.shorten(unit, &op, at, rotates) {
                return;
            }
            if op.kind == OpKind::Mov && (op.a == op.dst || self.join(unit, &op, at)) {
                return;
            }
        }
        if let Value::Reg(r) = op.dst.value() {
            self.regs[usize::from(r.0)] = (0, self.generation);
        }
        match op.kind {
            OpKind::VGet => self.vectors.get(place(unit, &op)),
            OpKind::VPut if self.vectors.put(place(unit, &op)) => return,
            _ if observes(&op) => {
                // All guest registers are wanted from here on.
                self.generation += 1;
                self.vectors.observe();
            }
            _ => {}
        }
        let demands = demands(unit, &op, bits);
        for (operand, bits) in op.operands().zip(demands) {
            // An operand that is named must be there, even if none of its bits matters.
            self.want(operand, bits.max(1));
        }
        self.kept.push(op);
    }

    /// The operation that makes a temporary, if there is nothing between it and `at` but what nobody wants.
    fn maker(&self, unit: &Unit, operand: Operand, at: usize) -> Option<usize> {
        let Value::Temp(_) = operand.value() else { return None };
        let unwanted = |op: &Op| {
            op.kind.effects() == Effects::NONE
                && matches!(op.dst.value(), Value::Temp(_))
                && self.wanted(op.dst) == 0
        };
        let before = unit.ops[..at].iter().rposition(|op| op.dst == operand || !unwanted(op))?;
        (unit.ops[before].dst == operand).then_some(before)
    }

    /// Lets the operation before compute in 32 bits, if it does for nothing but the zero extension from these.
    fn shorten(&self, unit: &mut Unit, op: &Op, at: usize, rotates: Option<usize>) -> bool {
        use OpKind as K;
        let maker = self.maker(unit, op.a, at).filter(|maker| rotates != Some(*maker));
        let Some(before) = maker else { return false };
        let before = &mut unit.ops[before];
        let shortens = (op.kind, op.aux) == (K::Zext, 32)
            && before.ty == Type::I64
            && matches!(before.kind, K::Add | K::Sub | K::And | K::Or | K::Xor | K::Mul)
            && self.wanted(op.a) == 0;
        if shortens {
            (before.ty, before.dst) = (Type::I32, op.dst);
        }
        shortens
    }

    /// Lets the operation before assign a guest register itself, instead of a temporary that is
    /// only copied to it.
    fn join(&self, unit: &mut Unit, op: &Op, at: usize) -> bool {
        let Some(before) = self.maker(unit, op.a, at) else { return false };
        let before = &mut unit.ops[before];
        let joins = self.wanted(op.a) == 0 && before.result_is_float() == op.ty.is_float();
        if joins {
            before.dst = op.dst;
        }
        joins
    }

    /// Turns an operation into a copy that only changes bits that nobody wants.
    fn narrow(&self, unit: &Unit, op: &mut Op, bits: u8) {
        let same = match op.kind {
            OpKind::Sext | OpKind::Zext => op.aux >= u16::from(bits),
            OpKind::And => {
                let low = u64::MAX >> (ALL - bits);
                let mask = unit.as_const(op.b);
                mask.is_some_and(|mask| mask & low == low) && (op.ty == Type::I64 || bits <= 32)
            }
            _ => false,
        };
        if same {
            let none = Operand::NONE;
            *op = Op { kind: OpKind::Mov, ty: Type::I64, aux: 0, b: none, c: none, ..*op };
        }
    }

    /// The rotation in place of what joins two shifts, if nobody else wants these.
    fn rotate(&mut self, unit: &mut Unit, op: Op, bits: u8, rotation: &Rotation) -> Op {
        let free = |operand| operand == op.dst || self.wanted(operand) == 0;
        let Rotation { of, count, ty, width, extended, .. } = *rotation;
        if ty.is_vector() && (free(op.a) || free(op.b)) {
            let aux =
                Lane::of_bits(width.into()).map_or(0, |lane| lane.with((width - count).into()));
            return Op { kind: OpKind::VRotate, ty, aux, a: of, b: Operand::NONE, ..op };
        }
        if !free(op.a) || !free(op.b) {
            return op;
        }
        unit.consts.push(u64::from(count));
        let count = Const(unit.consts.len() as u32 - 1).into();
        let none = Operand::NONE;
        let rotate = Op { kind: OpKind::Rotr, ty, aux: 0, dst: op.dst, a: of, b: count, c: none };
        if !extended || bits <= 32 {
            return rotate;
        }
        let temp = Temp(unit.temps).into();
        unit.temps += 1;
        self.temps.push(32);
        let extend = Op { kind: OpKind::Sext, ty: Type::I64, aux: 32, a: temp, b: none, ..rotate };
        if let Value::Reg(r) = op.dst.value() {
            self.regs[usize::from(r.0)] = (0, self.generation);
        }
        self.kept.push(extend);
        Op { dst: temp, ..rotate }
    }
}

/// Whether guest registers may be looked at, or control may leave, at an operation.
fn observes(op: &Op) -> bool {
    let effects = op.kind.effects();
    match op.kind {
        OpKind::Insn | OpKind::Label => false,
        OpKind::FlagsGet | OpKind::FlagsClear | OpKind::Leaf => true,
        _ => effects.has(Effects::FAULTS) || effects.has(Effects::CONTROL),
    }
}

/// How many low bits of each operand matter for `bits` bits of the result.
fn demands(unit: &Unit, op: &Op, bits: u8) -> [u8; 3] {
    use OpKind as K;
    let width = if op.ty == Type::I32 { 32 } else { ALL };
    let low = bits.min(width);
    match op.kind {
        K::Mov if !op.ty.is_float() => [bits; 3],
        K::Add | K::Sub | K::Mul | K::Or | K::Xor | K::AndNot => [low; 3],
        K::And => match unit.as_const(op.b) {
            Some(mask) => [low.min(ALL - mask.leading_zeros() as u8); 3],
            None => [low; 3],
        },
        K::Shl => match unit.as_const(op.b) {
            Some(count) => [low.saturating_sub(count as u8 & (width - 1)), 8, 8],
            None => [low, 8, 8],
        },
        K::Shr | K::Sar => match unit.as_const(op.b) {
            Some(count) if op.kind == K::Shr || bits < ALL => {
                [width.min(low.saturating_add(count as u8 & (width - 1))), 8, 8]
            }
            _ => [width, 8, 8],
        },
        K::Insert => [bits, bits.min(op.aux as u8), 0],
        K::Rotl | K::Rotr => [width, 8, 8],
        K::Sext | K::Zext => [bits.min(op.aux as u8); 3],
        K::Select => [ALL, bits, bits],
        K::Store if op.ty == Type::I64 => [ALL, ALL, 8 * op.mem().size() as u8],
        K::FFromInt | K::FFromUInt => [op.aux as u8; 3],
        K::Div | K::DivU | K::Rem | K::RemU => [width; 3],
        K::Min | K::Max | K::MinU | K::MaxU | K::Clz | K::Ctz | K::Popcnt | K::Bswap => [width; 3],
        K::SetCond | K::BranchIf | K::ExitIf => [width; 3],
        _ => [ALL; 3],
    }
}
