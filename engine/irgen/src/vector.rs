//! Vector operations of units, by their forms.

use crate::generate::{Maker, NONE};
use crate::guest::{COPY_IN, COPY_OUT, COPY_SOME_IN, COPY_SOME_OUT, VECTOR_BYTES};
use ir::{Aux, Cond, FloatRules, Form, FpCond, Lane, MemOp, OpKind, Operand, Rounding, Slot, Type};

impl Maker<'_, '_> {
    pub(crate) fn vector(&mut self) {
        let ty = self.random.pick(&[Type::V128, Type::V256]);
        match self.random.below(100) {
            0..10 => {
                let value = self.vector_operand(ty);
                self.put(ty, value);
            }
            10..16 => self.vector_load(ty),
            16..21 => self.vector_store(ty),
            21..25 => self.vector_copy(),
            25..29 => self.vector_copy_some(),
            _ => self.vector_operation(ty),
        }
    }

    /// A place among the vector registers.
    fn place_of(&mut self, ty: Type) -> Operand {
        let last = VECTOR_BYTES as u64 - ty.bytes() as u64;
        let at = match self.random.below(8) {
            0 => self.random.below(last + 1),
            _ => self.random.below(last / 16 + 1) * 16,
        };
        self.constant(at)
    }

    fn put(&mut self, ty: Type, value: Operand) {
        let at = self.place_of(ty);
        self.effect(OpKind::VPut, ty, 0, [at, value, NONE]);
    }

    /// A vector: one that is there, or one from the registers.
    fn vector_operand(&mut self, ty: Type) -> Operand {
        let fits: Vec<_> = self.vectors.iter().filter(|v| v.0 == ty).map(|v| v.1).collect();
        if !fits.is_empty() && self.random.percent(70) {
            return self.random.pick(&fits);
        }
        let at = self.place_of(ty);
        self.vector_result(OpKind::VGet, ty, 0, [at, NONE, NONE])
    }

    fn vector_result(&mut self, kind: OpKind, ty: Type, aux: u16, args: [Operand; 3]) -> Operand {
        let dst = self.temp();
        self.push(kind, ty, aux, dst, args);
        if self.vectors.len() >= self.shape.pressure.max(3) {
            let old = self.random.below(self.vectors.len() as u64) as usize;
            self.vectors.swap_remove(old);
        }
        let ty = kind.form().and_then(|form| form.result.vector(ty)).unwrap_or(ty);
        self.vectors.push((ty, dst));
        dst
    }

    fn vector_access(&mut self, ty: Type) -> (MemOp, [Operand; 2]) {
        let mem = MemOp::vector(ty);
        let mem = if self.random.percent(15) { mem.aligned() } else { mem };
        let (base, by) = self.base(u64::from(mem.size()), true);
        (mem, [base, by])
    }

    fn vector_load(&mut self, ty: Type) {
        let (mem, [base, by]) = self.vector_access(ty);
        let value = self.vector_result(OpKind::Load, ty, mem.code(), [base, by, NONE]);
        self.put(ty, value);
    }

    fn vector_store(&mut self, ty: Type) {
        let value = self.vector_operand(ty);
        let (mem, [base, by]) = self.vector_access(ty);
        self.effect(OpKind::Store, ty, mem.code(), [base, by, value]);
    }

    fn vector_copy(&mut self) {
        let len = self.random.pick(&[4, 8, 16, 32, 48, 64]);
        let at = self.random.below(VECTOR_BYTES as u64 - len + 1);
        let place = self.constant(at | len << 32);
        let (base, _) = self.base(len, true);
        let arg = self.int();
        if self.random.percent(50) {
            let args = [base, place, arg];
            match self.random.percent(70) {
                true => self.effect(OpKind::VCopyIn, Type::I64, COPY_IN, args),
                false => self.int_result(OpKind::VCopyIn, Type::I64, COPY_IN, args),
            }
        } else {
            self.effect(OpKind::VCopyOut, Type::I64, COPY_OUT, [base, place, arg]);
        }
    }

    fn vector_copy_some(&mut self) {
        let fit = self.random.pick(&[16, 32, 64, 96]);
        let at = self.random.below(VECTOR_BYTES as u64 - fit + 1);
        let arg = at | fit << 16;
        let place = self.constant(arg | arg << 32);
        let (base, _) = self.base(fit, true);
        let count = self.vector_int(fit / 2);
        let (kind, helper) = match self.random.percent(50) {
            true => (OpKind::VCopySomeIn, COPY_SOME_IN),
            false => (OpKind::VCopySomeOut, COPY_SOME_OUT),
        };
        self.effect(kind, Type::I64, helper, [base, place, count]);
    }

    /// Any operation of the table that has a form.
    fn vector_operation(&mut self, ty: Type) {
        let rules = self.shape.rules;
        // Executors differ in estimates.
        let estimates = [OpKind::VFRcp, OpKind::VFRsqrt];
        let fits = |kind: OpKind, form: Form| match rules {
            _ if estimates.contains(&kind) => false,
            FloatRules::Canonical => !form.low,
            FloatRules::Propagate => kind != OpKind::VFToUInt,
        };
        let all: Vec<(OpKind, Form)> = OpKind::ALL
            .iter()
            .filter_map(|kind| Some((*kind, kind.form()?)))
            .filter(|(kind, form)| fits(*kind, *form))
            .collect();
        let (kind, form) = self.random.pick(&all);
        let ty = form.only.unwrap_or(ty);
        let lane = self.random.pick(match form.aux {
            Aux::Wider => &Lane::ALL[1..],
            Aux::Narrower => &Lane::ALL[..3],
            Aux::Packed => &Lane::ALL[..2],
            Aux::Doubles | Aux::DoublesRounding => &Lane::ALL[3..],
            aux if aux.is_float() => &Lane::ALL[2..],
            _ => Lane::ALL,
        });
        let lanes = (ty.bytes() / lane.bytes()) as u64;
        let aux = match form.aux {
            Aux::None => 0,
            Aux::WhichHalf => Lane::B8.with(self.random.below(2) as u16),
            Aux::Byte if self.random.percent(50) => Lane::B8.with(self.random.below(256) as u16),
            Aux::Byte => Lane::B8.with(self.random.below(34) as u16),
            Aux::Packed | Aux::Lanes | Aux::Wider | Aux::Narrower | Aux::Floats | Aux::Doubles => {
                lane.with(0)
            }
            Aux::FloatCond => lane.with(self.random.pick(FpCond::ALL) as u16),
            Aux::Negate => lane.with(self.random.below(4) as u16),
            Aux::Integral => {
                let exactly = self.random.below(2) as u16;
                lane.with(self.random.pick(Rounding::ALL) as u16 | exactly << 7)
            }
            Aux::Rounding | Aux::DoublesRounding => {
                let modes = [Rounding::Current, Rounding::TowardZero];
                lane.with(self.random.pick(&modes) as u16)
            }
            Aux::Count => lane.with(self.random.below(lane.bits().into()) as u16),
            Aux::Index | Aux::FloatIndex => lane.with(self.random.below(lanes) as u16),
            Aux::Cond => lane.with(self.random.pick(Cond::ALL) as u16),
        };
        if matches!(kind, OpKind::VGet | OpKind::VPut) {
            let value = self.vector_operand(ty);
            return self.put(ty, value);
        }
        let args = form.operands.map(|slot| match slot {
            Slot::None => NONE,
            Slot::Int => self.vector_int(lanes),
            Slot::Const => {
                let first = self.random.below(2 * lanes);
                self.constant(first)
            }
            Slot::Float => self.float(lane == Lane::B64),
            Slot::Vector => self.vector_operand(ty),
            Slot::Half => self.vector_operand(Type::V128),
        });
        if form.result == Slot::Float {
            return self.float_result(kind, ty, aux, (lane == Lane::B64, args));
        }
        if form.result == Slot::Int {
            return self.int_result(kind, ty, aux, args);
        }
        let value = self.vector_result(kind, ty, aux, args);
        let ty = form.result.vector(ty).unwrap_or(ty);
        if self.random.percent(60) {
            self.put(ty, value);
        }
    }

    /// An integer: a count of lanes now and then.
    fn vector_int(&mut self, lanes: u64) -> Operand {
        if !self.random.percent(30) {
            return self.int();
        }
        let count = self.random.below(3 * lanes + 1);
        let count = self.constant(count);
        if self.random.percent(50) {
            return count;
        }
        let dst = self.temp();
        self.push(OpKind::Mov, Type::I64, 0, dst, [count, NONE, NONE]);
        dst
    }
}
