//! Vector operations, lane by lane.

use crate::Run;
use ir::{Cond, Effects, Lane, Op, OpKind, Operand, Value, VectorBytes, cipher, sha, text};
use isa::Guest;

const ZERO: VectorBytes = [0; 32];

impl<G: Guest> Run<'_, '_, G> {
    /// A vector operand; zero where the operation has none.
    fn read_vector(&self, op: &Op, index: usize, operand: Operand) -> VectorBytes {
        match operand.value() {
            Value::Temp(t) if op.operand_vector(index).is_some() => self.vectors[t.0 as usize],
            _ => ZERO,
        }
    }

    fn write_vector(&mut self, dst: Operand, value: VectorBytes) {
        if let Value::Temp(t) = dst.value() {
            self.vectors[t.0 as usize] = value;
        }
    }

    /// Executes an operation of a vector type.
    pub(crate) fn vector(&mut self, op: &Op) -> Result<(), G::Trap> {
        let (mmu, mem, size) = (self.unit.mmu, op.mem(), op.ty.bytes());
        let [a, b] = [op.a, op.b].map(|operand| self.read(operand));
        let [x, y, z] = [(0, op.a), (1, op.b), (2, op.c)]
            .map(|(index, operand)| self.read_vector(op, index, operand));
        let value = match op.kind {
            OpKind::VGet => {
                let mut value = ZERO;
                let from = a as usize..a as usize + size;
                value[..size].copy_from_slice(&G::vector_bytes(self.cpu.state)[from]);
                value
            }
            OpKind::VPut => {
                let to = a as usize..a as usize + size;
                G::vector_bytes(self.cpu.state)[to].copy_from_slice(&y[..size]);
                return Ok(());
            }
            OpKind::Load => {
                G::set_pc(self.cpu.state, self.pc);
                self.cpu.load_vector(mmu, mem, a.wrapping_add(b))?
            }
            OpKind::Store => {
                G::set_pc(self.cpu.state, self.pc);
                return self.cpu.store_vector(mmu, mem, a.wrapping_add(b), &z);
            }
            OpKind::VExtract | OpKind::VExtractF => {
                self.write(op.dst, get(&x, op.lane(), op.lane_aux().into()));
                return Ok(());
            }
            OpKind::VTextIndex => {
                let found = text::compare(low(&x), low(&y), [None; 2], op.lane_aux() as u8);
                self.write(op.dst, found.packed());
                return Ok(());
            }
            OpKind::VToBits => {
                self.write(op.dst, to_bits(op, &x));
                return Ok(());
            }
            _ if op.kind.effects().has(Effects::FLAGS) => self.float.vector(op, [&x, &y, &z]),
            _ => evaluate(op, [a, b], [&x, &y, &z]),
        };
        self.write_vector(op.dst, value);
        Ok(())
    }
}

/// Lane `index`, zero-extended.
pub(crate) fn get(v: &VectorBytes, lane: Lane, index: usize) -> u64 {
    let size = lane.bytes();
    (0..size).fold(0, |value, i| value | u64::from(v[index * size + i]) << (8 * i))
}

/// Sets lane `index` to the low bits of `value`.
pub(crate) fn set(v: &mut VectorBytes, lane: Lane, index: usize, value: u64) {
    let size = lane.bytes();
    v[index * size..(index + 1) * size].copy_from_slice(&value.to_le_bytes()[..size]);
}

pub(crate) fn signed(lane: Lane, value: u64) -> i64 {
    let shift = 64 - lane.bits();
    (value << shift).cast_signed() >> shift
}

fn lanes(op: &Op) -> usize {
    op.ty.bytes() / op.lane().bytes()
}

fn to_bits(op: &Op, a: &VectorBytes) -> u64 {
    let bit = |i| u64::from(signed(op.lane(), get(a, op.lane(), i)) < 0) << i;
    (0..lanes(op)).map(bit).sum()
}

/// A vector whose lanes are the function's values.
pub(crate) fn each(op: &Op, mut lane_of: impl FnMut(usize) -> u64) -> VectorBytes {
    let mut result = ZERO;
    for i in 0..lanes(op) {
        set(&mut result, op.lane(), i, lane_of(i));
    }
    result
}

pub(crate) fn all_ones_if(holds: bool) -> u64 {
    if holds { u64::MAX } else { 0 }
}

/// The value of an operation: integers in `a` and `b`, vectors in `x`, `y` and `z`.
fn evaluate(op: &Op, [a, b]: [u64; 2], [x, y, z]: [&VectorBytes; 3]) -> VectorBytes {
    let lane = op.lane();
    let bytes = |of: fn(u8, u8) -> u8| {
        let mut result = ZERO;
        for i in 0..op.ty.bytes() {
            result[i] = of(x[i], y[i]);
        }
        result
    };
    match op.kind {
        OpKind::VSplat | OpKind::VSplatF => each(op, |_| a),
        OpKind::VFromF => {
            let mut result = ZERO;
            set(&mut result, lane, 0, a);
            result
        }
        OpKind::VInsert | OpKind::VInsertF => {
            let mut result = *x;
            set(&mut result, lane, op.lane_aux().into(), b);
            result
        }
        OpKind::VAnd => bytes(|a, b| a & b),
        OpKind::VOr => bytes(|a, b| a | b),
        OpKind::VXor => bytes(|a, b| a ^ b),
        OpKind::VAndNot => bytes(|a, b| a & !b),
        OpKind::VCompare => {
            let cond = Cond::from_code(op.lane_aux());
            // Sign extension keeps both orders.
            let extended = |v, i| signed(lane, get(v, lane, i)).cast_unsigned();
            each(op, |i| all_ones_if(cond.holds(extended(x, i), extended(y, i))))
        }
        OpKind::VIota => each(op, |i| i as u64),
        OpKind::VWiden => each(op, |i| {
            let half = Lane::ALL[lane as usize - 1];
            signed(half, get(x, half, i)).cast_unsigned()
        }),
        OpKind::VWidenU => each(op, |i| get(x, Lane::ALL[lane as usize - 1], i)),
        OpKind::VNarrow => each(op, |i| {
            let present = i < lanes(op) / 2;
            if present { get(x, Lane::ALL[lane as usize + 1], i) } else { 0 }
        }),
        OpKind::VShuffle => {
            let mut result = ZERO;
            for i in 0..op.ty.bytes() {
                let from = usize::from(y[i]);
                result[i] = if from < op.ty.bytes() { x[from] } else { 0 };
            }
            result
        }
        OpKind::VUnpackLow | OpKind::VUnpackHigh => {
            let per_half = 16 / lane.bytes();
            let from = if op.kind == OpKind::VUnpackHigh { per_half / 2 } else { 0 };
            each(op, |i| {
                let source = if i % 2 == 0 { x } else { y };
                get(source, lane, i / per_half * per_half + from + i % per_half / 2)
            })
        }
        OpKind::VAlign => {
            let (first, count) = (usize::from(op.lane_aux()), lanes(op));
            each(op, |i| match first + i {
                at if at < count => get(x, lane, at),
                at => get(y, lane, at - count),
            })
        }
        OpKind::VPack | OpKind::VPackU => pack(op, x, y),
        OpKind::VPairs16
        | OpKind::VPairs8
        | OpKind::VDistance
        | OpKind::VMulLow
        | OpKind::VMulLowU
        | OpKind::VMulRound => products(op, x, y),
        OpKind::VShuffleEach
        | OpKind::VPick
        | OpKind::VPickLow
        | OpKind::VPickHigh
        | OpKind::VPickTwo
        | OpKind::VPickOne
        | OpKind::VAlignEach
        | OpKind::VChoose32
        | OpKind::VChoose16
        | OpKind::VPermute64
        | OpKind::VPermute32 => crate::vector_places::moved(op, x, y),
        OpKind::VAesEncrypt
        | OpKind::VAesEncryptLast
        | OpKind::VAesDecrypt
        | OpKind::VAesDecryptLast
        | OpKind::VAesMix
        | OpKind::VAesAssist
        | OpKind::VCarryless
        | OpKind::VSha256Rounds
        | OpKind::VSha256First
        | OpKind::VSha256Last
        | OpKind::VSha1Rounds
        | OpKind::VSha1Next
        | OpKind::VSha1First
        | OpKind::VSha1Last => block(op, [x, y, z]),
        OpKind::VFRcp | OpKind::VFRsqrt => {
            let mut result = ZERO;
            for i in 0..op.ty.bytes() / 4 {
                let number = get(x, Lane::B32, i) as u32;
                set(&mut result, Lane::B32, i, crate::float::estimate(op.kind, number).into());
            }
            result
        }
        OpKind::VExtend => *x,
        OpKind::VHalf => {
            let mut result = ZERO;
            let from = 16 * usize::from(op.lane_aux());
            result[..16].copy_from_slice(&x[from..from + 16]);
            result
        }
        OpKind::VJoin => {
            let mut result = *x;
            result[16..].copy_from_slice(&y[..16]);
            result
        }
        OpKind::VBlend => std::array::from_fn(|i| if x[i] >> 7 != 0 { y[i] } else { z[i] }),
        OpKind::VFromBits => each(op, |i| all_ones_if(a >> i & 1 != 0)),
        OpKind::VBelow => each(op, |i| all_ones_if(b.wrapping_add(i as u64) < a)),
        OpKind::VShlBy | OpKind::VShrBy | OpKind::VSarBy => {
            each(op, |i| binary(op.kind, lane, get(x, lane, i), b))
        }
        OpKind::VRotate => each(op, |i| {
            let (a, count) = (get(x, lane, i), u32::from(op.lane_aux()));
            a << count | a.checked_shr(lane.bits() - count).unwrap_or(0)
        }),
        kind => each(op, |i| binary(kind, lane, get(x, lane, i), get(y, lane, i))),
    }
}

/// The low 128 bits.
fn low(v: &VectorBytes) -> cipher::Block {
    std::array::from_fn(|i| v[i])
}

/// An operation on blocks of ciphers.
fn block(op: &Op, operands: [&VectorBytes; 3]) -> VectorBytes {
    let ([a, b, c], byte) = (operands.map(low), op.lane_aux() as u8);
    let value = match op.kind {
        OpKind::VAesEncrypt => cipher::encrypt(a, b, false),
        OpKind::VAesEncryptLast => cipher::encrypt(a, b, true),
        OpKind::VAesDecrypt => cipher::decrypt(a, b, false),
        OpKind::VAesDecryptLast => cipher::decrypt(a, b, true),
        OpKind::VAesMix => cipher::inverse_mix(a),
        OpKind::VAesAssist => cipher::key_assist(a, byte),
        OpKind::VSha256Rounds => sha::sha256_rounds(a, b, c),
        OpKind::VSha256First => sha::sha256_message1(a, b),
        OpKind::VSha256Last => sha::sha256_message2(a, b),
        OpKind::VSha1Rounds => sha::sha1_rounds(a, b, byte),
        OpKind::VSha1Next => sha::sha1_next(a, b),
        OpKind::VSha1First => sha::sha1_message1(a, b),
        OpKind::VSha1Last => sha::sha1_message2(a, b),
        _ => cipher::carryless(a, b, byte),
    };
    let mut result = ZERO;
    result[..16].copy_from_slice(&value);
    result
}

/// Lanes of twice the width, narrowed with saturation in each 128 bits.
fn pack(op: &Op, x: &VectorBytes, y: &VectorBytes) -> VectorBytes {
    let (lane, wide) = (op.lane(), Lane::ALL[op.lane() as usize + 1]);
    let (min, max) = match op.kind {
        OpKind::VPack => (i64::MIN >> (64 - lane.bits()), i64::MAX >> (64 - lane.bits())),
        _ => (0, (1 << lane.bits()) - 1),
    };
    let per_half = 16 / lane.bytes();
    each(op, |i| {
        let (half, at) = (i / per_half, i % per_half);
        let from = if at < per_half / 2 { x } else { y };
        let index = half * per_half / 2 + at % (per_half / 2);
        signed(wide, get(from, wide, index)).clamp(min, max).cast_unsigned()
    })
}

/// Sums and parts of products, in lanes of a width of their own.
fn products(op: &Op, x: &VectorBytes, y: &VectorBytes) -> VectorBytes {
    let mut result = ZERO;
    let mut fill = |lane: Lane, of: &dyn Fn(usize) -> i64| {
        for i in 0..op.ty.bytes() / lane.bytes() {
            set(&mut result, lane, i, of(i).cast_unsigned());
        }
    };
    let s = |v, lane, i| signed(lane, get(v, lane, i));
    match op.kind {
        OpKind::VPairs16 => fill(Lane::B32, &|i| {
            let product = |i| s(x, Lane::B16, i) * s(y, Lane::B16, i);
            product(2 * i) + product(2 * i + 1)
        }),
        OpKind::VPairs8 => fill(Lane::B16, &|i| {
            let product = |i: usize| i64::from(x[i]) * s(y, Lane::B8, i);
            (product(2 * i) + product(2 * i + 1)).clamp(i16::MIN.into(), i16::MAX.into())
        }),
        OpKind::VDistance => {
            fill(Lane::B64, &|i| (8 * i..8 * i + 8).map(|i| i64::from(x[i].abs_diff(y[i]))).sum())
        }
        OpKind::VMulLow => {
            fill(Lane::B64, &|i| s(x, Lane::B32, 2 * i) * s(y, Lane::B32, 2 * i));
        }
        OpKind::VMulLowU => fill(Lane::B64, &|i| {
            (get(x, Lane::B32, 2 * i) * get(y, Lane::B32, 2 * i)).cast_signed()
        }),
        _ => fill(Lane::B16, &|i| (s(x, Lane::B16, i) * s(y, Lane::B16, i) + (1 << 14)) >> 15),
    }
    result
}

/// One lane; the bits of the result above it mean nothing.
fn binary(kind: OpKind, lane: Lane, a: u64, b: u64) -> u64 {
    let (sa, sb) = (signed(lane, a), signed(lane, b));
    let count = b % u64::from(lane.bits());
    let (min, max) = (i128::from(i64::MIN >> (64 - lane.bits())), i64::MAX >> (64 - lane.bits()));
    let saturated = |value: i128| value.clamp(min, max.into()) as u64;
    let all = u128::from(u64::MAX >> (64 - lane.bits()));
    match kind {
        OpKind::VAddSat => saturated(i128::from(sa) + i128::from(sb)),
        OpKind::VSubSat => saturated(i128::from(sa) - i128::from(sb)),
        OpKind::VAddSatU => (u128::from(a) + u128::from(b)).min(all) as u64,
        OpKind::VSubSatU => a.saturating_sub(b),
        OpKind::VAvgU => (u128::from(a) + u128::from(b)).div_ceil(2) as u64,
        OpKind::VMulHigh => ((i128::from(sa) * i128::from(sb)) >> lane.bits()) as u64,
        OpKind::VMulHighU => ((u128::from(a) * u128::from(b)) >> lane.bits()) as u64,
        OpKind::VAdd => a.wrapping_add(b),
        OpKind::VSub => a.wrapping_sub(b),
        OpKind::VMul => a.wrapping_mul(b),
        OpKind::VShl | OpKind::VShlBy => a << count,
        OpKind::VShr | OpKind::VShrBy => a >> count,
        OpKind::VSar | OpKind::VSarBy => (sa >> count).cast_unsigned(),
        OpKind::VMin => sa.min(sb).cast_unsigned(),
        OpKind::VMax => sa.max(sb).cast_unsigned(),
        OpKind::VMinU => a.min(b),
        OpKind::VMaxU => a.max(b),
        other => unreachable!("{other:?} does not work on two lanes"),
    }
}
