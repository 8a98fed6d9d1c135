//! Bit manipulation that IR has no operations for: pure functions of two registers.
//!
//! Arguments: instruction, rs1's value, rs2's value. Results are sign-extended on RV32.

use crate::hart::Riscv;
use crate::trap::Trap;
use isa::Cpu;

type Result = std::result::Result<u64, Trap>;

/// The carry-less product of two words of XLEN bits, and XLEN.
fn product(cpu: &Cpu<'_, Riscv>, x: u64, y: u64) -> (u128, u32) {
    let xlen = if cpu.guest.is_rv32() { 32 } else { 64 };
    let (x, y) = (cpu.guest.address(x), cpu.guest.address(y));
    (carryless(x, y), xlen)
}

/// Multiplies polynomials over GF(2).
pub(crate) fn carryless(x: u64, mut y: u64) -> u128 {
    let mut sum = 0;
    while y != 0 {
        sum ^= u128::from(x) << y.trailing_zeros();
        y &= y - 1;
    }
    sum
}

pub(crate) fn clmul(cpu: &mut Cpu<'_, Riscv>, [_, x, y]: [u64; 3]) -> Result {
    let (product, _) = product(cpu, x, y);
    Ok(cpu.guest.value(product as u64))
}

pub(crate) fn clmulh(cpu: &mut Cpu<'_, Riscv>, [_, x, y]: [u64; 3]) -> Result {
    let (product, xlen) = product(cpu, x, y);
    Ok(cpu.guest.value((product >> xlen) as u64))
}

pub(crate) fn clmulr(cpu: &mut Cpu<'_, Riscv>, [_, x, y]: [u64; 3]) -> Result {
    let (product, xlen) = product(cpu, x, y);
    Ok(cpu.guest.value((product >> (xlen - 1)) as u64))
}

/// Interleaves the bits of the halves of a word: the lower half's go to even places.
pub(crate) fn zip(cpu: &mut Cpu<'_, Riscv>, [_, x, _]: [u64; 3]) -> Result {
    let bit = |sum: u64, i: u32| sum | (x >> i & 1) << (2 * i) | (x >> (i + 16) & 1) << (2 * i + 1);
    Ok(cpu.guest.value((0..16).fold(0, bit)))
}

/// Undoes [`zip`].
pub(crate) fn unzip(cpu: &mut Cpu<'_, Riscv>, [_, x, _]: [u64; 3]) -> Result {
    let bit = |sum: u64, i: u32| sum | (x >> (2 * i) & 1) << i | (x >> (2 * i + 1) & 1) << (i + 16);
    Ok(cpu.guest.value((0..16).fold(0, bit)))
}
