//! AES and SM4 steps, permutation by lookup: pure functions of two registers.
//!
//! Sources: The RISC-V Instruction Set Manual, volume I, “Scalar Cryptography”; GB/T 32907 for
//! the S-box of SM4, made from its definition. Arguments:
//! instruction, rs1's value, rs2's value. Results are sign-extended on RV32.

use crate::hart::Riscv;
use crate::trap::Trap;
use ir::cipher::{AES_INVERSE_SBOX, AES_SBOX, inverse_in, multiply};
use isa::Cpu;

type Result = std::result::Result<u64, Trap>;

/// The polynomial of GF(2⁸) in SM4, without its highest bit.
const SM4_FIELD: u8 = 0xf5;

/// Substitution of SM4.
pub(crate) static SM4_SBOX: [u8; 256] = sm4_sbox();
/// Round constants of AES' key schedule; the last is for the step without one.
pub(crate) const ROUND_CONSTANTS: [u8; 11] =
    [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x1b, 0x36, 0x00];

/// The affine map of SM4's S-box, used before and after the reciprocal.
const fn sm4_affine(x: u8) -> u8 {
    let (mut y, mut i) = (0, 0);
    while i < 8 {
        let row = 0xa7_u8.rotate_left(i);
        y |= ((row & x).count_ones() as u8 & 1) << i;
        i += 1;
    }
    y ^ 0xd3
}

const fn sm4_sbox() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = sm4_affine(inverse_in(SM4_FIELD, sm4_affine(i as u8)));
        i += 1;
    }
    table
}

fn lookup(table: &[u8; 256], byte: u8) -> u8 {
    table[usize::from(byte)]
}

/// Bit 27 of the AES instructions: decryption.
fn decrypts(insn: u64) -> bool {
    insn >> 27 & 1 != 0
}

/// Bit 26 of the AES instructions: a middle round, which mixes columns.
fn mixes(insn: u64) -> bool {
    insn >> 26 & 1 != 0
}

/// The column that one byte, in row 0, contributes to (inverse) MixColumns.
fn mixed_column(byte: u8, decrypt: bool) -> u32 {
    let factors = if decrypt { [0xe, 0x9, 0xd, 0xb] } else { [2, 1, 1, 3] };
    u32::from_le_bytes(factors.map(|factor| multiply(byte, factor)))
}

/// (Inverse) MixColumns of one column.
pub(crate) fn mix_column(column: u32, decrypt: bool) -> u32 {
    let bytes = column.to_le_bytes().into_iter().zip([0, 8, 16, 24]);
    bytes.fold(0, |sum, (byte, by)| sum ^ mixed_column(byte, decrypt).rotate_left(by))
}

fn mix_columns(x: u64, decrypt: bool) -> u64 {
    let (low, high) = (mix_column(x as u32, decrypt), mix_column((x >> 32) as u32, decrypt));
    u64::from(low) | u64::from(high) << 32
}

fn substitution(decrypt: bool) -> &'static [u8; 256] {
    if decrypt { &AES_INVERSE_SBOX } else { &AES_SBOX }
}

/// Byte of rs2 that an instruction selects, and the distance in bits of its place from 0.
fn selected(insn: u64, y: u64) -> (u8, u32) {
    let by = (insn >> 30 & 3) as u32 * 8;
    ((y >> by) as u8, by)
}

/// `aes32esi`, `aes32esmi`, `aes32dsi`, `aes32dsmi`: one byte of a column's round.
pub(crate) fn aes32(cpu: &mut Cpu<'_, Riscv>, [insn, x, y]: [u64; 3]) -> Result {
    let (byte, by) = selected(insn, y);
    let byte = lookup(substitution(decrypts(insn)), byte);
    let column = if mixes(insn) { mixed_column(byte, decrypts(insn)) } else { u32::from(byte) };
    Ok(cpu.guest.value(x ^ u64::from(column.rotate_left(by))))
}

/// `aes64es`, `aes64esm`, `aes64ds`, `aes64dsm`: two columns of a round on the state rs2:rs1.
pub(crate) fn aes64(_: &mut Cpu<'_, Riscv>, [insn, x, y]: [u64; 3]) -> Result {
    let decrypt = decrypts(insn);
    let state = (u128::from(y) << 64 | u128::from(x)).to_le_bytes();
    let half: [u8; 8] = std::array::from_fn(|at| {
        let (column, row) = (at / 4, at % 4);
        let from = if decrypt { column + 4 - row } else { column + row } % 4;
        lookup(substitution(decrypt), state[4 * from + row])
    });
    let half = u64::from_le_bytes(half);
    Ok(if mixes(insn) { mix_columns(half, decrypt) } else { half })
}

/// `aes64im`: inverse MixColumns of two columns.
pub(crate) fn aes64im(_: &mut Cpu<'_, Riscv>, [_, x, _]: [u64; 3]) -> Result {
    Ok(mix_columns(x, true))
}

/// `aes64ks1i`: substitution, rotation and round constant of the key schedule.
pub(crate) fn aes64ks1(_: &mut Cpu<'_, Riscv>, [insn, x, _]: [u64; 3]) -> Result {
    let round = (insn >> 20 & 15) as usize;
    let Some(constant) = ROUND_CONSTANTS.get(round) else { return Err(Trap::illegal(insn)) };
    let word = (x >> 32) as u32;
    let word = if round == 10 { word } else { word.rotate_right(8) };
    let word = u32::from_le_bytes(word.to_le_bytes().map(|b| lookup(&AES_SBOX, b)));
    let word = u64::from(word ^ u32::from(*constant));
    Ok(word << 32 | word)
}

/// SM4's linear transformation of an S-box output in a round, for encryption (L) …
pub(crate) const SM4_ROUND: [u32; 4] = [2, 10, 18, 24];
/// … and for keys (L′): XOR of the word and its rotations.
pub(crate) const SM4_KEY: [u32; 2] = [13, 23];

/// `sm4ed`, `sm4ks`: one byte of a round, of data or keys.
pub(crate) fn sm4(_: &mut Cpu<'_, Riscv>, [insn, x, y]: [u64; 3]) -> Result {
    let (byte, by) = selected(insn, y);
    // The standard's words are big-endian.
    let word = u32::from(lookup(&SM4_SBOX, byte)) << 24;
    let turns: &[u32] = if insn >> 26 & 1 != 0 { &SM4_KEY } else { &SM4_ROUND };
    let word = turns.iter().fold(word, |sum, n| sum ^ word.rotate_left(*n)).swap_bytes();
    let word = (x as u32 ^ word.rotate_left(by)).cast_signed();
    Ok(i64::from(word).cast_unsigned())
}

/// `xperm4`: each nibble of rs2 selects one of rs1; those out of range give 0.
pub(crate) fn xperm4(cpu: &mut Cpu<'_, Riscv>, [_, x, y]: [u64; 3]) -> Result {
    Ok(permute(cpu, x, y, 4))
}

/// `xperm8`: the same with bytes.
pub(crate) fn xperm8(cpu: &mut Cpu<'_, Riscv>, [_, x, y]: [u64; 3]) -> Result {
    Ok(permute(cpu, x, y, 8))
}

fn permute(cpu: &Cpu<'_, Riscv>, x: u64, y: u64, bits: u32) -> u64 {
    let mask = (1 << bits) - 1;
    let (x, xlen) = (cpu.guest.address(x), if cpu.guest.is_rv32() { 32 } else { 64 });
    let places = (0..xlen).step_by(bits as usize);
    cpu.guest.value(places.fold(0, |sum, at| {
        let index = (y >> at & mask) as u32 * bits;
        let found = if index < xlen { x >> index & mask } else { 0 };
        sum | found << at
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_substitutions_are_those_of_the_standards() {
        assert_eq!(AES_SBOX[..4], [0x63, 0x7c, 0x77, 0x7b]);
        assert_eq!((AES_SBOX[0x53], AES_SBOX[0xff]), (0xed, 0x16));
        assert_eq!(AES_INVERSE_SBOX[0x63], 0);
        assert_eq!(SM4_SBOX[..4], [0xd6, 0x90, 0xe9, 0xfe]);
        assert_eq!((SM4_SBOX[0xef], SM4_SBOX[0xff]), (0x84, 0x48));
    }

    /// FIPS 197, example vectors of MixColumns.
    #[test]
    fn columns_mix_and_unmix() {
        let column = u32::from_le_bytes([0xdb, 0x13, 0x53, 0x45]);
        let mixed = mix_column(column, false);
        assert_eq!(mixed.to_le_bytes(), [0x8e, 0x4d, 0xa1, 0xbc]);
        assert_eq!(mix_column(mixed, true), column);
    }
}
