//! Floating-point lanes, by softfloat.

use crate::float::{Bits, FloatUnit, compare, fixed_rounding, form};
use crate::vector::{all_ones_if, each, get, set};
use ir::{FpCond, Lane, Op, OpKind, VectorBytes};
use softfloat::{Env, Extremum, F32, F64, Float, Inexact};

impl FloatUnit {
    /// The value of an operation on floating-point lanes.
    pub(crate) fn vector(&mut self, op: &Op, [x, y, z]: [&VectorBytes; 3]) -> VectorBytes {
        let lane = op.lane();
        if op.kind.form().is_some_and(|form| form.low) {
            return self.low(op, [x, y]);
        }
        match (op.kind, lane) {
            (OpKind::VFAddSub, _) => {
                let kinds = [OpKind::VFSub, OpKind::VFAdd];
                each(op, |i| {
                    let op = Op { kind: kinds[i % 2], ..*op };
                    let args = [x, y, z].map(|v| get(v, lane, i));
                    match lane {
                        Lane::B32 => self.lane::<F32>(&op, args),
                        _ => self.lane::<F64>(&op, args),
                    }
                })
            }
            (OpKind::VFFromInt32, _) => {
                each(op, |i| F64::from_i32(&mut self.env, get(x, Lane::B32, i) as i32))
            }
            (OpKind::VFToInt32, _) => {
                let mode = fixed_rounding(ir::Rounding::from_code(op.lane_aux()));
                let mut result = [0; 32];
                for i in 0..op.ty.bytes() / 8 {
                    let value = F64::to_int::<i32>(&mut self.env, get(x, lane, i), mode);
                    set(&mut result, Lane::B32, i, value as u64);
                }
                result
            }
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

    /// The lowest lane alone.
    fn low(&mut self, op: &Op, [x, y]: [&VectorBytes; 2]) -> VectorBytes {
        let lane = op.lane();
        let [a, b] = [x, y].map(|v| get(v, lane, 0));
        let kind = match op.kind {
            OpKind::VFAddLow => OpKind::VFAdd,
            OpKind::VFSubLow => OpKind::VFSub,
            OpKind::VFMulLow => OpKind::VFMul,
            OpKind::VFDivLow => OpKind::VFDiv,
            OpKind::VFMinLow => OpKind::VFMin,
            OpKind::VFMaxLow => OpKind::VFMax,
            OpKind::VFCompareLow => OpKind::VFCompare,
            OpKind::VFSqrtLow => OpKind::VFSqrt,
            OpKind::VFRoundLow => OpKind::VFRound,
            other => other,
        };
        let a = if matches!(kind, OpKind::VFSqrt | OpKind::VFRound) { b } else { a };
        let value = match (kind, lane) {
            (OpKind::VFConvertLow, Lane::B32) => {
                F64::convert::<F32>(&mut self.env, get(y, Lane::B64, 0)).into()
            }
            (OpKind::VFConvertLow, _) => {
                F32::convert::<F64>(&mut self.env, get(y, Lane::B32, 0) as u32)
            }
            (_, Lane::B32) => self.lane::<F32>(&Op { kind, ..*op }, [a, b, 0]),
            _ => self.lane::<F64>(&Op { kind, ..*op }, [a, b, 0]),
        };
        let mut result = *x;
        set(&mut result, lane, 0, value);
        result
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
            OpKind::VFMin => F::extremum(env, a, b, Extremum::Min, self.extremum),
            OpKind::VFMax => F::extremum(env, a, b, Extremum::Max, self.extremum),
            OpKind::VFRound => {
                let (rounding, tell) = op.integral();
                let tell = if tell { Inexact::Raise } else { Inexact::Suppress };
                F::round_to_integral(env, a, fixed_rounding(rounding), tell)
            }
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
