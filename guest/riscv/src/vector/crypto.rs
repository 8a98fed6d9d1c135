//! Vector cryptography: Zvkg, Zvkned, Zvknha, Zvknhb, Zvksed, Zvksh.
//!
//! Instructions work on groups of four or eight elements, which are one block, state or key.
//! Source: The RISC-V Instruction Set Manual, volume I, “Cryptography Extensions: Vector”.

use super::{Done, Group, Vector};
use crate::decode::Ext;
use crate::helpers_crypto::{ROUND_CONSTANTS, SM4_KEY, SM4_ROUND, SM4_SBOX, mix_column};
use ir::cipher::{AES_INVERSE_SBOX, AES_SBOX};

/// Four words: a block of AES or SM4, element 0 first.
type Block = [u32; 4];

/// An instruction of the opcode OP-VE.
pub(super) fn operate(v: &mut Vector<'_, '_>) -> Done {
    match v.funct6() {
        0x20 => sm3_message(v),
        0x21 => with_immediate(v, |_, key, round| sm4_keys(key, round)),
        0x22 => with_immediate(v, |_, key, round| aes_key_128(key, round)),
        0x28 | 0x29 => match v.vs1() {
            0x00 => blocks(v, |s, k| aes_unmix(xor(aes_decrypt(s), k))),
            0x01 => blocks(v, |s, k| xor(aes_decrypt(s), k)),
            0x02 => blocks(v, |s, k| xor(aes_mix(aes_encrypt(s)), k)),
            0x03 => blocks(v, |s, k| xor(aes_encrypt(s), k)),
            0x07 => blocks(v, xor),
            0x10 => blocks(v, sm4_rounds),
            0x11 => blocks(v, galois_multiply),
            _ => Err(v.illegal()),
        },
        0x2a => with_immediate(v, aes_key_256),
        0x2b => sm3_compress(v),
        0x2c => three(v, |d, h, x| galois_multiply(xor(d, x), h)),
        0x2d => sha2(v, sha2_message::<u32>, sha2_message::<u64>),
        0x2e => sha2(v, sha2_compress::<u32, 2>, sha2_compress::<u64, 2>),
        0x2f => sha2(v, sha2_compress::<u32, 0>, sha2_compress::<u64, 0>),
        _ => Err(v.illegal()),
    }
}

/// The destination group, for element groups of `size` elements of width `sew`.
fn groups(v: &Vector<'_, '_>, sew: i32, size: usize) -> Result<Group, crate::trap::Trap> {
    let whole = v.vl.is_multiple_of(size) && v.vstart.is_multiple_of(size);
    v.require(v.sew == sew && whole && v.vlmax() >= size)?;
    Ok(v.group(v.vd(), sew)?)
}

/// The numbers of the element groups that take part.
fn numbers(v: &Vector<'_, '_>, size: usize) -> std::ops::Range<usize> {
    v.vstart / size..v.vl / size
}

fn read<const N: usize>(v: &Vector<'_, '_>, group: Group, n: usize) -> [u32; N] {
    std::array::from_fn(|i| v.get(group, n * N + i) as u32)
}

fn write<const N: usize>(v: &mut Vector<'_, '_>, group: Group, n: usize, words: [u32; N]) {
    for (i, word) in words.into_iter().enumerate() {
        v.set(group, n * N + i, u64::from(word));
    }
}

/// vd = op(vd, vs2), or with the first group of vs2 for all (`.vs`).
fn blocks(v: &mut Vector<'_, '_>, op: fn(Block, Block) -> Block) -> Done {
    let dest = groups(v, 2, 4)?;
    let scalar = v.funct6() & 1 != 0;
    let source = if scalar {
        // As many registers as one element group needs.
        let count = 16_usize.div_ceil(v.vlenb);
        let one = Group { first: v.vs2(), count, eew: 2, emul: 0 };
        v.require(one.first.is_multiple_of(count) && !dest.overlaps(one))?;
        one
    } else {
        v.group(v.vs2(), 2)?
    };
    for n in numbers(v, 4) {
        let (state, key) = (read(v, dest, n), read(v, source, if scalar { 0 } else { n }));
        write(v, dest, n, op(state, key));
    }
    Ok(())
}

/// vd = op(vd, vs2, immediate)
fn with_immediate(v: &mut Vector<'_, '_>, op: fn(Block, Block, u32) -> Block) -> Done {
    let dest = groups(v, 2, 4)?;
    let source = v.group(v.vs2(), 2)?;
    let immediate = v.vs1() as u32;
    for n in numbers(v, 4) {
        let value = op(read(v, dest, n), read(v, source, n), immediate);
        write(v, dest, n, value);
    }
    Ok(())
}

/// vd = op(vd, vs2, vs1)
fn three(v: &mut Vector<'_, '_>, op: fn(Block, Block, Block) -> Block) -> Done {
    let dest = groups(v, 2, 4)?;
    let (second, first) = (v.group(v.vs2(), 2)?, v.group(v.vs1(), 2)?);
    for n in numbers(v, 4) {
        let value = op(read(v, dest, n), read(v, second, n), read(v, first, n));
        write(v, dest, n, value);
    }
    Ok(())
}

fn xor(a: Block, b: Block) -> Block {
    std::array::from_fn(|i| a[i] ^ b[i])
}

fn substituted(word: u32, table: &[u8; 256]) -> u32 {
    u32::from_le_bytes(word.to_le_bytes().map(|b| table[usize::from(b)]))
}

/// Columns with row r taken from r columns further on.
fn shift_rows(state: Block, direction: usize) -> Block {
    std::array::from_fn(|column| {
        let row = |r: usize| state[(column + direction * r) % 4] & 0xff << (8 * r);
        row(0) | row(1) | row(2) | row(3)
    })
}

/// SubBytes and ShiftRows.
fn aes_encrypt(state: Block) -> Block {
    shift_rows(state.map(|w| substituted(w, &AES_SBOX)), 1)
}

/// Their inverses.
fn aes_decrypt(state: Block) -> Block {
    shift_rows(state.map(|w| substituted(w, &AES_INVERSE_SBOX)), 3)
}

fn aes_mix(state: Block) -> Block {
    state.map(|w| mix_column(w, false))
}

fn aes_unmix(state: Block) -> Block {
    state.map(|w| mix_column(w, true))
}

/// RotWord, SubWord and the constant of a round.
fn aes_schedule(word: u32, round: usize) -> u32 {
    let constant = ROUND_CONSTANTS.get(round).copied().unwrap_or(0);
    substituted(word.rotate_right(8), &AES_SBOX) ^ u32::from(constant)
}

/// Each word XORed with all those before it.
fn chained(first: u32, rest: [u32; 3]) -> Block {
    let one = first ^ rest[0];
    let two = one ^ rest[1];
    [first, one, two, two ^ rest[2]]
}

fn aes_key_128(key: Block, round: u32) -> Block {
    let round = round & 15;
    let round = if (1..=10).contains(&round) { round } else { round ^ 8 };
    let first = key[0] ^ aes_schedule(key[3], round as usize - 1);
    chained(first, [key[1], key[2], key[3]])
}

fn aes_key_256(before: Block, key: Block, round: u32) -> Block {
    let round = round & 15;
    let round = if (2..=14).contains(&round) { round } else { round ^ 8 };
    let word = if round & 1 != 0 {
        substituted(key[3], &AES_SBOX)
    } else {
        aes_schedule(key[3], (round as usize >> 1) - 1)
    };
    chained(before[0] ^ word, [before[1], before[2], before[3]])
}

fn wide(block: Block) -> u128 {
    block.iter().rev().fold(0, |value, w| value << 32 | u128::from(*w))
}

fn narrow(value: u128) -> Block {
    std::array::from_fn(|i| (value >> (32 * i)) as u32)
}

/// The product in GF(2¹²⁸) as GCM has it: bits are in reverse order in each byte.
fn galois_multiply(a: Block, b: Block) -> Block {
    let reversed = |block| wide(block).reverse_bits().swap_bytes();
    let (a, mut b) = (reversed(a), reversed(b));
    let mut product = 0;
    for bit in 0..128 {
        if a >> bit & 1 != 0 {
            product ^= b;
        }
        b = if b >> 127 != 0 { b << 1 ^ 0x87 } else { b << 1 };
    }
    narrow(product.reverse_bits().swap_bytes())
}

/// A word and its rotations, XORed, after substitution.
fn sm4_transform(word: u32, turns: &[u32]) -> u32 {
    let word = substituted(word, &SM4_SBOX);
    turns.iter().fold(word, |sum, n| sum ^ word.rotate_left(*n))
}

/// Four steps: each new word from the four before it and a parameter.
fn sm4_steps(block: Block, parameter: impl Fn(usize) -> u32, turns: &[u32]) -> Block {
    let mut words = block;
    for i in 0..4 {
        let others = words[(i + 1) % 4] ^ words[(i + 2) % 4] ^ words[(i + 3) % 4];
        words[i] ^= sm4_transform(others ^ parameter(i), turns);
    }
    words
}

fn sm4_rounds(state: Block, keys: Block) -> Block {
    sm4_steps(state, |i| keys[i], &SM4_ROUND)
}

fn sm4_keys(keys: Block, round: u32) -> Block {
    // Byte j of constant i is 7·(4i + j), the highest byte first.
    let constant = |i: usize| {
        let i = 4 * (round & 7) + i as u32;
        u32::from_be_bytes(std::array::from_fn(|j| ((4 * i + j as u32) * 7) as u8))
    };
    sm4_steps(keys, constant, &SM4_KEY)
}

/// Words of SHA-256 and SHA-512, and their functions.
trait ShaWord: Copy {
    const EEW: i32;
    fn of(bits: u64) -> Self;
    fn bits(self) -> u64;
    fn add(self, other: Self) -> Self;
    /// The functions σ0, σ1, Σ0, Σ1.
    fn mix(self, function: usize) -> Self;
    fn choose(self, yes: Self, no: Self) -> Self;
    fn majority(self, b: Self, c: Self) -> Self;
}

macro_rules! sha_word {
    ($word:ty, $eew:literal, $turns:expr) => {
        impl ShaWord for $word {
            const EEW: i32 = $eew;
            fn of(bits: u64) -> Self {
                bits as Self
            }
            fn bits(self) -> u64 {
                u64::from(self)
            }
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            fn mix(self, function: usize) -> Self {
                // The last number of σ is a shift.
                let [a, b, c]: [u32; 3] = $turns[function];
                let last = if function < 2 { self >> c } else { self.rotate_right(c) };
                self.rotate_right(a) ^ self.rotate_right(b) ^ last
            }
            fn choose(self, yes: Self, no: Self) -> Self {
                self & yes ^ !self & no
            }
            fn majority(self, b: Self, c: Self) -> Self {
                self & b ^ self & c ^ b & c
            }
        }
    };
}

sha_word!(u32, 2, [[7, 18, 3], [17, 19, 10], [2, 13, 22], [6, 11, 25]]);
sha_word!(u64, 3, [[1, 8, 7], [19, 61, 6], [28, 34, 39], [14, 18, 41]]);

/// vd, vs2, vs1 to vd.
type Sha<W> = fn([W; 4], [W; 4], [W; 4]) -> [W; 4];

fn sha2(v: &mut Vector<'_, '_>, op32: Sha<u32>, op64: Sha<u64>) -> Done {
    match v.sew {
        2 => sha2_of(v, op32),
        3 if v.has(Ext::Zvknhb) => sha2_of(v, op64),
        _ => Err(v.illegal()),
    }
}

fn sha2_of<W: ShaWord>(v: &mut Vector<'_, '_>, op: Sha<W>) -> Done {
    let dest = groups(v, W::EEW, 4)?;
    let (second, first) = (v.group(v.vs2(), W::EEW)?, v.group(v.vs1(), W::EEW)?);
    v.require(!dest.overlaps(second) && !dest.overlaps(first))?;
    for n in numbers(v, 4) {
        let words = |group| std::array::from_fn(|i| W::of(v.get(group, 4 * n + i)));
        let value = op(words(dest), words(second), words(first));
        for (i, word) in value.into_iter().enumerate() {
            v.set(dest, 4 * n + i, word.bits());
        }
    }
    Ok(())
}

/// Message schedule: words 16 to 19 from 0–3, 4 9 10 11, and 12–15.
fn sha2_message<W: ShaWord>(early: [W; 4], middle: [W; 4], late: [W; 4]) -> [W; 4] {
    let next = |before: W, recent: W, near: W, oldest: W| {
        recent.mix(1).add(before).add(near.mix(0)).add(oldest)
    };
    let w16 = next(middle[1], late[2], early[1], early[0]);
    let w17 = next(middle[2], late[3], early[2], early[1]);
    let w18 = next(middle[3], w16, early[3], early[2]);
    let w19 = next(late[0], w17, middle[0], early[3]);
    [w16, w17, w18, w19]
}

/// Two rounds with the words from `FROM` on: h g d c (vd) and f e b a (vs2) to f e b a.
fn sha2_compress<W: ShaWord, const FROM: usize>(
    [mut h, mut g, mut d, mut c]: [W; 4],
    [mut f, mut e, mut b, mut a]: [W; 4],
    words: [W; 4],
) -> [W; 4] {
    for word in [words[FROM], words[FROM + 1]] {
        let t1 = h.add(e.mix(3)).add(e.choose(f, g)).add(word);
        let t2 = a.mix(2).add(a.majority(b, c));
        (h, g, f, e) = (g, f, e, d.add(t1));
        (d, c, b, a) = (c, b, a, t1.add(t2));
    }
    [f, e, b, a]
}

/// `vsm3me`: words 16 to 23 of the message from 0–7 (vs1) and 8–15 (vs2).
fn sm3_message(v: &mut Vector<'_, '_>) -> Done {
    let dest = groups(v, 2, 8)?;
    let (second, first) = (v.group(v.vs2(), 2)?, v.group(v.vs1(), 2)?);
    v.require(!dest.overlaps(second) && !dest.overlaps(first))?;
    for n in numbers(v, 8) {
        let (early, late): ([u32; 8], [u32; 8]) = (read(v, first, n), read(v, second, n));
        let mut w = [0_u32; 24];
        for (i, word) in early.into_iter().chain(late).enumerate() {
            w[i] = word.swap_bytes();
        }
        for i in 16..24 {
            let x = w[i - 16] ^ w[i - 9] ^ w[i - 3].rotate_left(15);
            let mixed = x ^ x.rotate_left(15) ^ x.rotate_left(23);
            w[i] = mixed ^ w[i - 13].rotate_left(7) ^ w[i - 6];
        }
        let new: [u32; 8] = std::array::from_fn(|i| w[16 + i].swap_bytes());
        write(v, dest, n, new);
    }
    Ok(())
}

/// `vsm3c`: two rounds of compression on the state in vd with words of vs2.
fn sm3_compress(v: &mut Vector<'_, '_>) -> Done {
    let dest = groups(v, 2, 8)?;
    let source = v.group(v.vs2(), 2)?;
    v.require(!dest.overlaps(source))?;
    let rounds = v.vs1() as u32;
    for n in numbers(v, 8) {
        let state: [u32; 8] = read(v, dest, n);
        let words: [u32; 8] = read(v, source, n);
        let (mut state, words) = (state.map(u32::swap_bytes), words.map(u32::swap_bytes));
        for i in 0..2 {
            state = sm3_round(state, 2 * rounds + i as u32, words[i], words[i] ^ words[i + 4]);
        }
        write(v, dest, n, state.map(u32::swap_bytes));
    }
    Ok(())
}

fn sm3_round(state: [u32; 8], j: u32, word: u32, mixed: u32) -> [u32; 8] {
    let [a, b, c, d, e, f, g, h] = state;
    let early = j < 16;
    let constant: u32 = if early { 0x79cc_4519 } else { 0x7a87_9d8a };
    let turned = a.rotate_left(12);
    let ss1 = turned.wrapping_add(e).wrapping_add(constant.rotate_left(j % 32)).rotate_left(7);
    let ff = if early { a ^ b ^ c } else { a & b | a & c | b & c };
    let gg = if early { e ^ f ^ g } else { e & f | !e & g };
    let tt1 = ff.wrapping_add(d).wrapping_add(ss1 ^ turned).wrapping_add(mixed);
    let tt2 = gg.wrapping_add(h).wrapping_add(ss1).wrapping_add(word);
    let new_e = tt2 ^ tt2.rotate_left(9) ^ tt2.rotate_left(17);
    [tt1, a, b.rotate_left(9), c, new_e, e, f.rotate_left(19), g]
}
