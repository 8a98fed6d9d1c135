//! First pass: what is known of values when an operation runs.

use crate::facts::{Fact, Origin, Shift, Source};
use crate::vectors::{Held, place as vector_place};
use ir::{Const, Effects, Op, OpKind, Operand, RegInfo, Temp, Type, Unit, Value, fold};

/// Two shifts of one value that are a rotation, found at the operation that joins them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotation {
    /// Index of the operation.
    pub(crate) at: usize,
    /// What is rotated.
    pub(crate) of: Operand,
    /// To the right, by how much.
    pub(crate) count: u8,
    pub(crate) ty: Type,
    /// Bits of the value, or of a lane of a vector.
    pub(crate) width: u8,
    /// Whether the result of a 32-bit rotation is sign-extended.
    pub(crate) extended: bool,
}

/// A result that may be wanted again.
#[derive(Clone, Copy, Debug)]
struct Result {
    kind: OpKind,
    ty: Type,
    aux: u16,
    a: Source,
    b: Source,
    result: Source,
}

/// Results remembered at a time.
const RESULTS: usize = 16;

#[derive(Debug)]
pub(crate) struct Forward {
    /// When each guest register was assigned last, and what is known of it since.
    regs: Vec<(u32, Fact)>,
    temps: Vec<Fact>,
    /// Guest registers assigned before may hold anything.
    floor: u32,
    clock: u32,
    results: [Option<Result>; RESULTS],
    /// Whether there is any among them.
    remembers: bool,
    rotations: Vec<Rotation>,
    vectors: Held,
}

impl Default for Forward {
    fn default() -> Self {
        Self {
            regs: vec![(0, Fact::NONE); 256],
            temps: Vec::new(),
            floor: 0,
            clock: 0,
            results: [None; RESULTS],
            remembers: false,
            rotations: Vec::new(),
            vectors: Held::default(),
        }
    }
}

impl Forward {
    pub(crate) fn run(&mut self, unit: &mut Unit, regs: &[RegInfo]) {
        // Temporaries are assigned before they are read: what was known of others does not matter.
        self.temps.resize(self.temps.len().max(unit.temps as usize), Fact::NONE);
        self.rotations.clear();
        if self.clock > u32::MAX / 2 {
            self.regs.fill((0, Fact::NONE));
            self.clock = 0;
        }
        self.forget();
        let mut ops = std::mem::take(&mut unit.ops);
        for (at, op) in ops.iter_mut().enumerate() {
            self.operation(unit, regs, op, at);
        }
        unit.ops = ops;
    }

    /// In the order of the operations they replace.
    pub(crate) fn rotations(&self) -> &[Rotation] {
        &self.rotations
    }

    /// Guest registers may hold anything, and temporaries are gone.
    fn forget(&mut self) {
        self.clock += 1;
        self.floor = self.clock;
        self.vectors.forget();
        if std::mem::take(&mut self.remembers) {
            self.results = [None; RESULTS];
        }
    }

    fn version(&self, operand: Operand) -> u32 {
        match operand.value() {
            Value::Reg(r) => self.regs[usize::from(r.0)].0.max(self.floor),
            _ => 0,
        }
    }

    fn source(&self, operand: Operand) -> Source {
        Source { operand, version: self.version(operand) }
    }

    fn is_current(&self, source: Source) -> bool {
        self.version(source.operand) == source.version
    }

    /// What is known of a register or temporary.
    fn tracked(&self, operand: Operand) -> Option<&Fact> {
        match operand.value() {
            Value::Temp(t) => Some(&self.temps[t.0 as usize]),
            Value::Reg(r) => {
                let (version, fact) = &self.regs[usize::from(r.0)];
                (*version > self.floor).then_some(fact)
            }
            _ => None,
        }
    }

    fn fact(&self, unit: &Unit, operand: Operand) -> Fact {
        match operand.value() {
            Value::Const(c) => {
                let known = Fact::of_constant(unit.constant(c));
                Fact { origin: Origin::Constant(operand), ..known }
            }
            _ => self.tracked(operand).copied().unwrap_or(Fact::NONE),
        }
    }

    fn operation(&mut self, unit: &mut Unit, regs: &[RegInfo], op: &mut Op, at: usize) {
        match op.kind {
            OpKind::Insn => return,
            OpKind::Label => return self.forget(),
            _ => {}
        }
        self.substitute(unit, regs, op);
        let mut known = Fact::NONE;
        match op.kind {
            OpKind::Load if op.ty == Type::I64 => known = Fact::of(op, known, known, None),
            OpKind::VGet => {
                let place = vector_place(unit, op);
                if let Some(operand) = self.vectors.get(place, op) {
                    known.origin = Origin::Copy(Source { operand, version: 0 });
                }
            }
            OpKind::VPut => self.vectors.put(vector_place(unit, op), op.b),
            OpKind::VShlBy | OpKind::VShrBy => {
                if let Some(shift) = self.vector_shift(unit, op) {
                    known.origin = Origin::Shift(shift);
                }
            }
            OpKind::VOr | OpKind::VXor => {
                let (a, b) = (self.fact(unit, op.a), self.fact(unit, op.b));
                self.rotations.extend(self.rotation(op, a, b, at));
            }
            OpKind::VCopyIn | OpKind::VCopySomeIn => self.vectors.forget(),
            OpKind::ExitIndirect if matches!(op.a.value(), Value::Const(_)) => {
                op.kind = OpKind::Exit;
            }
            _ if op.kind.effects() == Effects::NONE
                && matches!(op.ty, Type::I32 | Type::I64)
                && !op.result_is_float() =>
            {
                known = self.simplify(unit, op, at);
            }
            _ => {}
        }
        if is_costly(op.kind) {
            self.reuse(unit, op, &mut known);
        }
        // Flags that were outside may be in a register now.
        if forgets(op.kind) {
            self.forget();
        }
        match op.dst.value() {
            Value::Reg(r) => {
                self.clock += 1;
                self.regs[usize::from(r.0)] = (self.clock, known);
            }
            Value::Temp(t) => self.temps[t.0 as usize] = known,
            _ => {}
        }
    }

    /// Puts constants and the originals of copies in the places of operands, where that makes
    /// better code.
    fn substitute(&self, unit: &Unit, regs: &[RegInfo], op: &mut Op) {
        for place in 0..op.kind.arity() {
            let operand = [op.a, op.b, op.c][place];
            let Some(fact) = self.tracked(operand) else { continue };
            let better = match fact.origin {
                Origin::Unknown | Origin::Shift(_) => continue,
                Origin::Constant(value) => {
                    let anywhere = matches!(operand.value(), Value::Temp(_))
                        || op.kind == OpKind::ExitIndirect;
                    (anywhere || takes_constant(unit, op, place, value)).then_some(value)
                }
                Origin::Copy(source) => (self.is_current(source)
                    && is_nearer(regs, source.operand, operand))
                .then_some(source.operand),
            };
            if let Some(better) = better
                && !op.operand_is_float(place)
            {
                *[&mut op.a, &mut op.b, &mut op.c][place] = better;
            }
        }
    }

    /// Whether nothing can be said of a 64-bit operation, as nothing is known of its operands.
    fn is_opaque(&self, op: &Op) -> bool {
        use OpKind as K;
        let unknown = |operand: Operand| match operand.value() {
            Value::Const(_) => false,
            _ => self.tracked(operand).is_none_or(Fact::is_nothing),
        };
        matches!(op.kind, K::Add | K::Sub | K::Mul | K::Or | K::Xor)
            && unknown(op.a)
            && unknown(op.b)
    }

    /// Makes an integer operation simpler; what is known of its result.
    fn simplify(&mut self, unit: &mut Unit, op: &mut Op, at: usize) -> Fact {
        use OpKind as K;
        if op.kind == K::ToInt || op.ty == Type::I64 && self.is_opaque(op) {
            return Fact::NONE;
        }
        let (a, b) = (self.fact(unit, op.a), self.fact(unit, op.b));
        let constant = |fact: Fact| match fact.origin {
            Origin::Constant(value) => unit.as_const(value),
            _ => None,
        };
        let (left, right) = (constant(a), constant(b));
        if let (Some(x), Some(y), 2) = (left, right, op.kind.arity())
            && let Some(value) = fold(op.kind, op.ty, x, y)
        {
            return Self::become_constant(unit, op, value);
        }
        let wide = op.ty == Type::I64;
        let bits = op.aux as u8;
        let same = match op.kind {
            K::Mov => true,
            K::Sext => a.signed <= bits,
            K::Zext => a.unsigned <= bits,
            K::Add | K::Sub | K::Or | K::Xor | K::Shl | K::Shr | K::Sar => wide && right == Some(0),
            K::And => wide && right.is_some_and(|mask| covers(mask, a.unsigned)),
            _ => false,
        };
        if same {
            return self.become_copy(unit, op, a);
        }
        if op.kind == K::Sext
            && let Some(value) = left
        {
            let shift = 64 - u32::from(op.aux);
            let value = ((value << shift).cast_signed() >> shift).cast_unsigned();
            return Self::become_constant(unit, op, value);
        }
        if let Some(rotation) = self.rotation(op, a, b, at) {
            self.rotations.push(rotation);
        }
        let mut known = Fact::of(op, a, b, right);
        match (op.kind, right) {
            (K::Shl | K::Shr | K::Sar, Some(count)) => {
                known = self.shifted(op, a, count as u8, known);
            }
            (K::Sext, _) if op.aux == 32 => {
                if let Origin::Shift(shift @ Shift { ty: Type::I32, .. }) = a.origin {
                    known.origin = Origin::Shift(Shift { extended: true, ..shift });
                }
            }
            _ => {}
        }
        known
    }

    fn become_constant(unit: &mut Unit, op: &mut Op, value: u64) -> Fact {
        unit.consts.push(value);
        let operand: Operand = Const(unit.consts.len() as u32 - 1).into();
        let (ty, none) = (Type::I64, Operand::NONE);
        *op = Op { kind: OpKind::Mov, ty, aux: 0, dst: op.dst, a: operand, b: none, c: none };
        Fact { origin: Origin::Constant(operand), ..Fact::of_constant(value) }
    }

    /// The operation gives its first operand as it is.
    fn become_copy(&self, unit: &Unit, op: &mut Op, a: Fact) -> Fact {
        let none = Operand::NONE;
        *op = Op { kind: OpKind::Mov, ty: Type::I64, aux: 0, b: none, c: none, ..*op };
        let origin = match (a.origin, op.a.value()) {
            (Origin::Unknown | Origin::Copy(_), Value::Temp(_) | Value::Reg(_)) => {
                Origin::Copy(self.source(op.a))
            }
            (_, Value::Const(_)) => return self.fact(unit, op.a),
            (origin, _) => origin,
        };
        Fact { origin, ..a }
    }

    /// A shift of a known value by a constant: a pair of them may be an extension.
    fn shifted(&self, op: &mut Op, a: Fact, count: u8, known: Fact) -> Fact {
        let (ty, wide) = (op.ty, op.ty == Type::I64);
        let count = count & if wide { 63 } else { 31 };
        let width = if wide { 64 } else { 32 };
        let (of, extended) = (self.source(op.a), false);
        let left = Shift { kind: OpKind::Shl, ty, width, count, extended, of };
        if let (Origin::Shift(first), OpKind::Shr | OpKind::Sar) = (a.origin, op.kind)
            && wide
            && (first.kind, first.ty, first.count) == (OpKind::Shl, ty, count)
            && matches!(count, 32 | 48 | 56)
            && self.is_current(first.of)
        {
            op.kind = if op.kind == OpKind::Shr { OpKind::Zext } else { OpKind::Sext };
            (op.aux, op.a, op.b) = (64 - u16::from(count), first.of.operand, Operand::NONE);
            return Fact::of(op, Fact::NONE, Fact::NONE, None);
        }
        Fact { origin: Origin::Shift(Shift { kind: op.kind, ..left }), ..known }
    }

    /// A shift of the lanes of a vector by a constant.
    fn vector_shift(&self, unit: &Unit, op: &Op) -> Option<Shift> {
        let kind = if op.kind == OpKind::VShlBy { OpKind::Shl } else { OpKind::Shr };
        let width = op.lane().bits() as u8;
        let count = unit.as_const(op.b)? as u8 & (width - 1);
        Some(Shift { kind, ty: op.ty, width, count, extended: false, of: self.source(op.a) })
    }

    /// The rotation that an operation joins of two shifts.
    fn rotation(&self, op: &Op, a: Fact, b: Fact, at: usize) -> Option<Rotation> {
        use OpKind as K;
        let (Origin::Shift(x), Origin::Shift(y)) = (a.origin, b.origin) else { return None };
        let joins = matches!(op.kind, K::Or | K::Xor | K::Add | K::VOr | K::VXor);
        let (right, left) = if x.kind == OpKind::Shr { (x, y) } else { (y, x) };
        let width = right.width;
        let fits = joins
            && (right.kind, left.kind) == (OpKind::Shr, OpKind::Shl)
            && (right.ty, right.width) == (left.ty, left.width)
            && right.of == left.of
            && right.count != 0
            && right.count + left.count == width
            && (op.ty == right.ty || op.ty == Type::I64)
            && self.is_current(right.of);
        fits.then_some(Rotation {
            at,
            of: right.of.operand,
            count: right.count,
            ty: right.ty,
            width,
            extended: left.extended && op.ty == Type::I64,
        })
    }

    /// Takes a result that is there already, or remembers this one.
    fn reuse(&mut self, unit: &Unit, op: &mut Op, known: &mut Fact) {
        let (a, b) = (self.source(op.a), self.source(op.b));
        let index = (op.kind as usize ^ place(unit, op.a) ^ place(unit, op.b) << 2) % RESULTS;
        let same = |x: Source, y: Source| {
            x == y || unit.as_const(x.operand).is_some_and(|v| unit.as_const(y.operand) == Some(v))
        };
        if let Some(found) = self.results[index]
            && (found.kind, found.ty, found.aux) == (op.kind, op.ty, op.aux)
            && same(found.a, a)
            && same(found.b, b)
            && self.is_current(found.result)
        {
            if op.result_vector().is_some() {
                // Whoever reads it reads the other; the operation is dead.
                known.origin = Origin::Copy(found.result);
                return;
            }
            let ty = if op.result_is_float() { op.ty } else { Type::I64 };
            let (from, none) = (found.result.operand, Operand::NONE);
            *op = Op { kind: OpKind::Mov, ty, aux: 0, dst: op.dst, a: from, b: none, c: none };
            known.origin = Origin::Copy(found.result);
            return;
        }
        let result = match op.dst.value() {
            // The assignment that follows is the next tick.
            Value::Reg(_) => Source { operand: op.dst, version: self.clock + 1 },
            Value::Temp(_) => Source { operand: op.dst, version: 0 },
            _ => return,
        };
        if result.operand != op.a && result.operand != op.b {
            let Op { kind, ty, aux, .. } = *op;
            self.results[index] = Some(Result { kind, ty, aux, a, b, result });
            self.remembers = true;
        }
    }
}

/// Whether an operation may assign guest registers that it does not name.
fn forgets(kind: OpKind) -> bool {
    matches!(kind, OpKind::Call | OpKind::Leaf | OpKind::FlagsGet | OpKind::FlagsClear)
}

/// A number for an operand, the same for few others.
fn place(unit: &Unit, operand: Operand) -> usize {
    match operand.value() {
        Value::Temp(t) => t.0 as usize,
        Value::Reg(r) => usize::from(r.0),
        Value::Const(c) => unit.constant(c) as usize,
        Value::None => 0,
    }
}

/// Whether a mask has all of the lowest `bits` bits.
fn covers(mask: u64, bits: u8) -> bool {
    let low = if bits >= 64 { u64::MAX } else { (1 << bits) - 1 };
    mask & low == low
}

/// Pure operations whose result is worth a register: longer than a move.
fn is_costly(kind: OpKind) -> bool {
    use OpKind as K;
    matches!(
        kind,
        K::Mul
            | K::MulHigh
            | K::MulHighU
            | K::MulHighSU
            | K::Div
            | K::DivU
            | K::Rem
            | K::RemU
            | K::SetCond
            | K::FUnbox
            | K::VSplat
            | K::VSplatF
            | K::VBelow
            | K::VFromBits
    )
}

/// Whether a constant in this place makes shorter code than a register.
fn takes_constant(unit: &Unit, op: &Op, place: usize, value: Operand) -> bool {
    use OpKind as K;
    let value = unit.as_const(value).unwrap_or(u64::MAX).cast_signed();
    if i32::try_from(value).is_err() {
        return false;
    }
    match op.kind {
        K::Mov => true,
        K::Add | K::And | K::Or | K::Xor | K::SetCond | K::BranchIf | K::ExitIf => {
            let other = if place == 0 { op.b } else { op.a };
            place < 2 && unit.as_const(other).is_none()
        }
        K::Sub | K::Shl | K::Shr | K::Sar | K::Rotl | K::Rotr => place == 1,
        K::Store => place == 2 && op.mem().size() >= 4,
        _ => false,
    }
}

/// Whether the original of a copy is at least as likely to be in a host register.
fn is_nearer(regs: &[RegInfo], original: Operand, copy: Operand) -> bool {
    let pinned = |operand: Operand| match operand.value() {
        Value::Reg(r) => regs.get(usize::from(r.0)).is_some_and(|info| info.pin != 0),
        _ => false,
    };
    match (original.value(), copy.value()) {
        (Value::Temp(Temp(_)), Value::Temp(_)) => true,
        (_, Value::Temp(_)) => pinned(original),
        _ => pinned(original) && !pinned(copy),
    }
}
