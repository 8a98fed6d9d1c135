//! Floating-point lanes, by softfloat.

use crate::float::{Bits, FloatUnit, compare, fixed_rounding, form};
use crate::vector::{all_ones_if, each, get};
use ir::{FpCond, Lane, Op, OpKind, VectorBytes};
use softfloat::{Env, F32, F64, Float};

impl FloatUnit {
    /// The value of an operation on floating-point lanes.
    pub(crate) fn vector(&mut self, op: &Op, [x, y, z]: [&VectorBytes; 3]) -> VectorBytes {
        let lane = op.lane();
        match (op.kind, lane) {
            (OpKind::VFConvert, Lane::B64) => {
                each(op, |i| F32::convert::<F64>(&mut self.env, get(x, Lane::B32, i) as u32))
            }
            (OpKind::VFConvert, _) => {
                let wide = op.ty.bytes() / 8;
                let narrow =
                    |env: &mut Env, i| u64::from(F64::convert::<F32>(env, get(x, Lane::B64, i)));
                each(op, |i| if i < wide { narrow(&mut self.env, i) } else { 0 })
            }
            (_, Lane::B32) => {
                each(op, |i| self.lane::<F32>(op, [x, y, z].map(|v| get(v, lane, i))))
            }
            _ => each(op, |i| self.lane::<F64>(op, [x, y, z].map(|v| get(v, lane, i)))),
        }
    }

    fn lane<F: Bits>(&mut self, op: &Op, [x, y, z]: [u64; 3]) -> u64 {
        let env = &mut self.env;
        let narrow = op.lane() == Lane::B32;
        let [a, b, c] = [x, y, z].map(F::take);
        let mode = || fixed_rounding(ir::Rounding::from_code(op.lane_aux()));
        F::give(match op.kind {
            OpKind::VFAdd => F::add(env, a, b),
            OpKind::VFSub => F::sub(env, a, b),
            OpKind::VFMul => F::mul(env, a, b),
            OpKind::VFDiv => F::div(env, a, b),
            OpKind::VFMin => F::minimum_number(env, a, b),
            OpKind::VFMax => F::maximum_number(env, a, b),
            OpKind::VFSqrt => F::sqrt(env, a),
            OpKind::VFMulAdd => F::fma(env, a, b, c, form(op.lane_aux())),
            OpKind::VFFromInt if narrow => F::from_i32(env, x as i32),
            OpKind::VFFromInt => F::from_i64(env, x.cast_signed()),
            OpKind::VFFromUInt if narrow => F::from_u32(env, x as u32),
            OpKind::VFFromUInt => F::from_u64(env, x),
            OpKind::VFCompare => {
                let cond = FpCond::from_code(op.lane_aux());
                return all_ones_if(compare::<F>(env, cond, a, b));
            }
            OpKind::VFToInt if narrow => return F::to_int::<i32>(env, a, mode()) as u64,
            OpKind::VFToInt => return F::to_int::<i64>(env, a, mode()).cast_unsigned(),
            OpKind::VFToUInt if narrow => return F::to_int::<u32>(env, a, mode()).into(),
            OpKind::VFToUInt => return F::to_int::<u64>(env, a, mode()),
            other => unreachable!("{other:?} is no floating-point operation on lanes"),
        })
    }
}
