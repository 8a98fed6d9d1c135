//! Vector operations that move lanes to other places within 128 bits.

use crate::vector::{get, set};
use ir::{Lane, Op, OpKind, VectorBytes};

/// The value of such an operation.
pub(crate) fn moved(op: &Op, x: &VectorBytes, y: &VectorBytes) -> VectorBytes {
    let number = usize::from(op.lane_aux());
    let two_bits = |i: usize| number >> (2 * (i % 4)) & 3;
    let each = |lane: Lane, of: &dyn Fn(usize) -> u64| {
        let mut result = [0; 32];
        for i in 0..op.ty.bytes() / lane.bytes() {
            set(&mut result, lane, i, of(i));
        }
        result
    };
    match op.kind {
        OpKind::VShuffleEach => each(Lane::B8, &|i| match y[i] {
            0x80.. => 0,
            at => x[i / 16 * 16 + usize::from(at & 15)].into(),
        }),
        OpKind::VPick => each(Lane::B32, &|i| get(x, Lane::B32, i / 4 * 4 + two_bits(i))),
        OpKind::VPickLow | OpKind::VPickHigh => {
            let from = if op.kind == OpKind::VPickLow { 0 } else { 4 };
            each(Lane::B16, &|i| match i % 8 / 4 * 4 == from {
                true => get(x, Lane::B16, i / 4 * 4 + two_bits(i)),
                false => get(x, Lane::B16, i),
            })
        }
        OpKind::VPickTwo => each(Lane::B32, &|i| {
            get(if i % 4 < 2 { x } else { y }, Lane::B32, i / 4 * 4 + two_bits(i))
        }),
        OpKind::VPickOne => each(Lane::B64, &|i| {
            get(if i % 2 == 0 { x } else { y }, Lane::B64, i / 2 * 2 + (number >> i & 1))
        }),
        OpKind::VAlignEach => each(Lane::B8, &|i| {
            let (half, at) = (i / 16 * 16, i % 16 + number);
            match at {
                0..16 => x[half + at].into(),
                16..32 => y[half + at - 16].into(),
                _ => 0,
            }
        }),
        OpKind::VChoose32 => {
            each(Lane::B32, &|i| get(if number >> i & 1 != 0 { y } else { x }, Lane::B32, i))
        }
        OpKind::VChoose16 => {
            each(Lane::B16, &|i| get(if number >> (i % 8) & 1 != 0 { y } else { x }, Lane::B16, i))
        }
        OpKind::VPermute64 => each(Lane::B64, &|i| get(x, Lane::B64, two_bits(i))),
        _ => each(Lane::B32, &|i| get(x, Lane::B32, get(y, Lane::B32, i) as usize & 7)),
    }
}
