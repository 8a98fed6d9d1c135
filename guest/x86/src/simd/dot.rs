//! DPPS and DPPD (SDM volume 2): products of chosen lanes are summed in pairs.

use super::Bytes;
use softfloat::{Env, F32, F64, Flags, Float};

/// Of lanes of `size` bytes: the low bits of the immediate choose lanes of the result, the high ones
/// products. Nothing is added once `stops` says so of the flags.
pub(crate) fn product(
    env: &mut Env,
    size: usize,
    (a, b): (Bytes, Bytes),
    imm: u8,
    stops: impl Fn(Flags) -> bool,
) -> Bytes {
    let lane = |v: Bytes, i: usize| {
        v[i * size..(i + 1) * size].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let lanes = 16 / size;
    let mut products = [0u64; 4];
    for (i, product) in products.iter_mut().enumerate().take(lanes) {
        if imm >> (4 + i) & 1 != 0 {
            let (x, y) = (lane(a, i), lane(b, i));
            *product = match size {
                4 => F32::mul(env, x as u32, y as u32).into(),
                _ => F64::mul(env, x, y),
            };
        }
    }
    if stops(env.flags) {
        return a;
    }
    let mut add = |x: u64, y: u64| match size {
        4 => F32::add(env, x as u32, y as u32).into(),
        _ => F64::add(env, x, y),
    };
    let low = add(products[0], products[1]);
    let sum = if size == 4 {
        let high = add(products[2], products[3]);
        add(low, high)
    } else {
        low
    };
    std::array::from_fn(|i| match imm >> (i / size) & 1 {
        0 => 0,
        _ => sum.to_le_bytes()[i % size],
    })
}
