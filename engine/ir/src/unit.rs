//! Operands, operations and units.

use crate::ops::{Cond, FloatRules, MemOp, OpKind, Rounding, Type, packed_enum};
use crate::vector::{Aux, EXACTLY, Lane, Slot};
use std::fmt;

/// A guest register, by its row in the ISA's register table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GuestReg(pub u8);

/// A temporary of one unit; assigned once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Temp(pub u32);

/// A constant of one unit, by its place in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Const(pub u32);

/// A place to branch to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(pub u16);

/// A function of the ISA that generated code calls, by its row in the ISA's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HelperId(pub u16);

/// A leaf helper ([`OpKind::Leaf`]) of the ISA, by its row in the ISA's table of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeafId(pub u16);

/// An operand or destination, packed into 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operand(u32);

/// An operand, unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Absent.
    None,
    /// A temporary.
    Temp(Temp),
    /// A guest register.
    Reg(GuestReg),
    /// A constant.
    Const(Const),
}

impl Operand {
    const TAG: u32 = 30;
    const INDEX: u32 = (1 << Self::TAG) - 1;
    /// No operand.
    pub const NONE: Self = Self(0);

    /// Unpacks.
    #[inline]
    pub fn value(self) -> Value {
        let index = self.0 & Self::INDEX;
        match self.0 >> Self::TAG {
            0 => Value::None,
            1 => Value::Temp(Temp(index)),
            2 => Value::Reg(GuestReg(index as u8)),
            _ => Value::Const(Const(index)),
        }
    }

    /// Whether there is none.
    #[inline]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl From<Temp> for Operand {
    fn from(t: Temp) -> Self {
        Self(1 << Self::TAG | t.0 & Self::INDEX)
    }
}
impl From<GuestReg> for Operand {
    fn from(r: GuestReg) -> Self {
        Self(2 << Self::TAG | u32::from(r.0))
    }
}
impl From<Const> for Operand {
    fn from(c: Const) -> Self {
        Self(3 << Self::TAG | c.0 & Self::INDEX)
    }
}
impl fmt::Debug for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.value())
    }
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// What it does.
    pub kind: OpKind,
    /// Type of its operands and result.
    pub ty: Type,
    /// Condition, memory access, helper…: what the kind's documentation says.
    pub aux: u16,
    /// Where the result goes: a temporary, a guest register, or nowhere.
    pub dst: Operand,
    /// First operand.
    pub a: Operand,
    /// Second operand.
    pub b: Operand,
    /// Third operand.
    pub c: Operand,
}

impl Op {
    /// The operands in order.
    #[inline]
    pub fn operands(&self) -> impl Iterator<Item = Operand> {
        [self.a, self.b, self.c].into_iter().take(self.kind.arity())
    }
    /// Whether the result is a floating-point value.
    pub fn result_is_float(&self) -> bool {
        use OpKind as K;
        if let Some(form) = self.kind.form() {
            return form.result == Slot::Float;
        }
        match self.kind {
            K::Mov | K::Load => self.ty.is_float(),
            K::ToFloat | K::FBox | K::FUnbox | K::FAdd | K::FSub | K::FMul | K::FDiv => true,
            K::FMin | K::FMax => true,
            K::FSqrt | K::FMulAdd | K::FConvert | K::FFromInt | K::FFromUInt => true,
            K::FRound | K::FFromHalf | K::FToHalf => true,
            _ => false,
        }
    }
    /// Whether operand `index` is a floating-point value.
    pub fn operand_is_float(&self, index: usize) -> bool {
        use OpKind as K;
        if let Some(form) = self.kind.form() {
            return form.operands[index] == Slot::Float;
        }
        match self.kind {
            K::Mov => self.ty.is_float(),
            K::Store => index == 2 && self.ty.is_float(),
            K::ToInt | K::FBox | K::FUnbox | K::FAdd | K::FSub | K::FMul | K::FDiv => true,
            K::FMin | K::FMax | K::FRelate => true,
            K::FSqrt | K::FMulAdd | K::FCompare | K::FConvert | K::FToInt => true,
            K::FToUInt | K::FRound | K::FFromHalf | K::FToHalf => true,
            _ => false,
        }
    }
    /// The type of the result if it is a vector.
    pub fn result_vector(&self) -> Option<Type> {
        match self.kind.form() {
            Some(form) => form.result.vector(self.ty),
            None => (self.kind == OpKind::Load && self.ty.is_vector()).then_some(self.ty),
        }
    }
    /// The type of operand `index` if it is a vector.
    pub fn operand_vector(&self, index: usize) -> Option<Type> {
        match self.kind.form() {
            Some(form) => form.operands[index].vector(self.ty),
            None => {
                let stored = index == 2 && self.kind == OpKind::Store && self.ty.is_vector();
                stored.then_some(self.ty)
            }
        }
    }
    /// How a floating-point operation rounds.
    pub fn rounding(&self) -> Rounding {
        Rounding::from_code(self.aux >> Rounding::SHIFT)
    }
    /// What `aux` of a floating-point operation holds beside the rounding.
    pub fn float_aux(&self) -> u16 {
        self.aux & 0xff
    }
    /// The width of the lanes of a vector operation.
    pub fn lane(&self) -> Lane {
        Lane::from_code(self.aux & 3)
    }
    /// What `aux` of a vector operation holds beside the width of the lanes.
    pub fn lane_aux(&self) -> u16 {
        self.aux >> Lane::SHIFT
    }
    /// How a vector operation rounds to integral values, and whether it tells inexact ones.
    pub fn integral(&self) -> (Rounding, bool) {
        (Rounding::from_code(self.lane_aux() & !EXACTLY), self.lane_aux() & EXACTLY != 0)
    }
    /// The operand that names the label it branches to.
    fn target(&self) -> Option<Operand> {
        match self.kind {
            OpKind::Branch => Some(self.a),
            OpKind::BranchIf => Some(self.c),
            _ => None,
        }
    }
    /// `aux` as a condition.
    pub fn cond(&self) -> Cond {
        Cond::from_code(self.aux)
    }
    /// `aux` as a memory access.
    pub fn mem(&self) -> MemOp {
        MemOp::from_code(self.aux)
    }
}

packed_enum! {
    /// What kind of jump leaves a unit, for prediction.
    Hint {
        /// Neither call nor return.
        Jump "jump",
        /// A call: the next instruction is where a return will go.
        Call "call",
        /// A return.
        Return "return",
    }
}

packed_enum! {
    /// Why a unit goes back to the run loop.
    ExitKind {
        /// Look the next unit up afresh: something that translation depends on may have changed, or
        /// an interrupt may have become possible.
        Lookup "lookup",
        /// Go on at the address unless the helper before changed the mode or made an interrupt
        /// possible, of which the runtime knows; then as `Lookup`.
        Recheck "recheck",
        /// Wait for an interrupt.
        Halt "halt",
        /// The helper before has set the pc and all else.
        Redirected "redirected",
    }
}

/// Class of a guest register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegClass {
    /// 64 bits in a general register of the host.
    Int,
    /// 64 bits in a floating-point register of the host.
    Float,
}

/// A row of an ISA's register table.
#[derive(Clone, Copy, Debug)]
pub struct RegInfo {
    /// Name in the manual.
    pub name: &'static str,
    /// Class.
    pub class: RegClass,
    /// Byte offset in the ISA's state struct; the register takes 8 bytes there.
    pub offset: u32,
    /// Rank for a host register of its own: 1 is pinned first, 0 never.
    pub pin: u8,
}

/// A translation unit.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// Operations in program order.
    pub ops: Vec<Op>,
    /// Constants.
    pub consts: Vec<u64>,
    /// Number of temporaries.
    pub temps: u32,
    /// Number of labels.
    pub labels: u16,
    /// Guest address of the first instruction.
    pub pc: u64,
    /// Bytes of guest code, from `pc` on, that the unit was made from.
    pub len: u32,
    /// Guest instructions in it.
    pub insns: u32,
    /// Which set of translations memory accesses use.
    pub mmu: u8,
    /// `Mode::flags` that it was made for.
    pub flags: u32,
    /// What floating-point operations do where the table leaves it to the ISA.
    pub float: FloatRules,
}

impl Unit {
    /// Empties the unit, keeping its memory.
    pub fn clear(&mut self) {
        let (mut ops, mut consts) =
            (std::mem::take(&mut self.ops), std::mem::take(&mut self.consts));
        ops.clear();
        consts.clear();
        *self = Self { ops, consts, ..Self::default() };
    }

    /// A constant's value.
    #[inline]
    pub fn constant(&self, c: Const) -> u64 {
        self.consts[c.0 as usize]
    }

    /// The operand's value, if it is a constant.
    #[inline]
    pub fn as_const(&self, operand: Operand) -> Option<u64> {
        match operand.value() {
            Value::Const(c) => Some(self.constant(c)),
            _ => None,
        }
    }

    /// What is wrong with an operation under the unit's floating-point rules.
    fn rules_problem(&self, op: &Op) -> Option<&'static str> {
        let low = op.kind.form().is_some_and(|form| form.low);
        let unsigned = matches!(op.kind, OpKind::FToUInt | OpKind::VFToUInt);
        let fits = match self.float {
            FloatRules::Canonical => !low,
            FloatRules::Propagate => !unsigned,
        };
        (!fits).then_some("operation is for other rules of floating point")
    }

    /// Checks what builders guarantee and generators rely on: temporaries are assigned once and
    /// before use, none lives across a label; constants exist, labels are placed once; the end is an
    /// exit; vectors are temporaries, of the type of the operations on them.
    ///
    /// # Errors
    /// The first operation that breaks a rule.
    pub fn verify(&self) -> Result<(), VerifyError> {
        let mut assigned = vec![Assigned::Not; self.temps as usize];
        let mut placed = vec![false; usize::from(self.labels)];
        for (index, op) in self.ops.iter().enumerate() {
            let fail = |problem| Err(VerifyError { index, problem });
            if let Some(problem) = vector_problem(op).or_else(|| self.rules_problem(op)) {
                return fail(problem);
            }
            for (index, operand) in op.operands().enumerate() {
                let wanted = Assigned::of(op.operand_vector(index));
                match operand.value() {
                    Value::None => return fail("operand is missing"),
                    Value::Temp(t) => match assigned.get(t.0 as usize) {
                        Some(found) if *found == wanted => {}
                        Some(Assigned::Not) | None => {
                            return fail(
                                "temporary is read before it is assigned, or across a label",
                            );
                        }
                        Some(_) => return fail("operand is a vector of another type, or none"),
                    },
                    _ if wanted != Assigned::Scalar => return fail("vector is no temporary"),
                    Value::Const(c) if c.0 as usize >= self.consts.len() => {
                        return fail("constant does not exist");
                    }
                    _ => {}
                }
            }
            match op.dst.value() {
                Value::Const(_) => return fail("result goes to a constant"),
                Value::Temp(t) => match assigned.get_mut(t.0 as usize) {
                    Some(seen @ Assigned::Not) => {
                        *seen = Assigned::of(op.result_vector());
                    }
                    _ => return fail("temporary is assigned twice or does not exist"),
                },
                Value::Reg(_) if op.result_vector().is_some() => {
                    return fail("vector is no temporary");
                }
                _ => {}
            }
            if op.kind == OpKind::Label {
                assigned.fill(Assigned::Not);
                match placed.get_mut(usize::from(op.aux)) {
                    Some(seen @ false) => *seen = true,
                    _ => return fail("label is placed twice or does not exist"),
                }
            }
        }
        let lost = self.ops.iter().position(|op| {
            let label = op.target().map(|to| self.as_const(to).unwrap_or(u64::MAX));
            label.is_some_and(|l| !placed.get(l as usize).is_some_and(|p| *p))
        });
        if let Some(index) = lost {
            return Err(VerifyError { index, problem: "branch goes to no label" });
        }
        let ends = self.ops.last().is_some_and(|op| {
            matches!(op.kind, OpKind::Exit | OpKind::ExitIndirect | OpKind::ExitLoop)
        });
        if ends {
            Ok(())
        } else {
            Err(VerifyError { index: self.ops.len(), problem: "no exit at the end" })
        }
    }
}

/// What a temporary holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Assigned {
    Not,
    Scalar,
    Vector(Type),
}

impl Assigned {
    fn of(vector: Option<Type>) -> Self {
        vector.map_or(Self::Scalar, Self::Vector)
    }
}

/// What is wrong with an operation on vectors, its operands aside.
fn vector_problem(op: &Op) -> Option<&'static str> {
    let Some(form) = op.kind.form() else {
        let memory = matches!(op.kind, OpKind::Load | OpKind::Store);
        let fits = match op.ty.is_vector() {
            true => op.mem().size() as usize == op.ty.bytes(),
            false => op.mem().size() <= 8,
        };
        let plain = !op.ty.is_vector() || !op.mem().is_big_endian();
        return match memory {
            true if !fits => Some("access does not fit the type"),
            true if !plain => Some("vector in memory is big-endian"),
            false if op.ty.is_vector() => Some("operation is not for vectors"),
            _ => None,
        };
    };
    let consts = (0..3).all(|i| {
        let operand = [op.a, op.b, op.c][i];
        form.operands[i] != Slot::Const || matches!(operand.value(), Value::Const(_))
    });
    let lanes = op.ty.bytes() / op.lane().bytes();
    match form.aux {
        _ if !op.ty.is_vector() => Some("operation is for vectors"),
        _ if form.only.is_some_and(|only| only != op.ty) => Some("operation is of another width"),
        Aux::Packed if op.lane().bits() > 16 => Some("lanes are too wide"),
        Aux::Wider if op.lane() == Lane::B8 => Some("lanes are too narrow"),
        Aux::Narrower if op.lane() == Lane::B64 => Some("lanes are too wide"),
        Aux::WhichHalf if op.lane_aux() > 1 => Some("half does not exist"),
        _ if !consts => Some("operand is no constant"),
        aux if aux.is_float() && op.lane().bits() < 32 => Some("lanes are no floats"),
        Aux::Doubles | Aux::DoublesRounding if op.lane() != Lane::B64 => {
            Some("lanes are not of 64 bits")
        }
        Aux::Rounding | Aux::DoublesRounding if op.lane_aux() > Rounding::TowardZero as u16 => {
            Some("lanes do not round like that")
        }
        Aux::Index | Aux::FloatIndex if usize::from(op.lane_aux()) >= lanes => {
            Some("lane does not exist")
        }
        Aux::Count if u32::from(op.lane_aux()) >= op.lane().bits() => Some("lane has fewer bits"),
        _ => None,
    }
}

/// A unit that breaks a rule of the IR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyError {
    /// Index of the operation.
    pub index: usize,
    /// What is wrong.
    pub problem: &'static str,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation {}: {}", self.index, self.problem)
    }
}

impl std::error::Error for VerifyError {}
