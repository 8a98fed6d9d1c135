//! SHA-1 and SHA-256 (FIPS 180-4) by the steps that the SHA extensions have. Words are written from the
//! highest lane down, as in the manual.

use crate::cipher::{Block, from_words, words};

/// SHA1RNDS4: four rounds with one of the functions.
pub fn sha1_rounds(state: Block, message: Block, function: u8) -> Block {
    const K: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];
    let f = |b: u32, c: u32, d: u32| match function & 3 {
        0 => b & c ^ !b & d,
        2 => b & c ^ b & d ^ c & d,
        _ => b ^ c ^ d,
    };
    let ([mut d, mut c, mut b, mut a], message) = (words(state), words(message));
    let mut e = 0u32;
    for w in message.into_iter().rev() {
        let next = f(b, c, d)
            .wrapping_add(a.rotate_left(5))
            .wrapping_add(w)
            .wrapping_add(e)
            .wrapping_add(K[usize::from(function & 3)]);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
    }
    from_words([d, c, b, a])
}

/// SHA1NEXTE
pub fn sha1_next(a: Block, b: Block) -> Block {
    let [w0, w1, w2, w3] = words(b);
    from_words([w0, w1, w2, w3.wrapping_add(words(a)[3].rotate_left(30))])
}

/// SHA1MSG1
pub fn sha1_message1(a: Block, b: Block) -> Block {
    let ([w3, w2, w1, w0], [_, _, w5, w4]) = (words(a), words(b));
    from_words([w5 ^ w3, w4 ^ w2, w3 ^ w1, w2 ^ w0])
}

/// SHA1MSG2
pub fn sha1_message2(a: Block, b: Block) -> Block {
    let ([x0, x1, x2, x3], [w15, w14, w13, _]) = (words(a), words(b));
    let w16 = (x3 ^ w13).rotate_left(1);
    let w17 = (x2 ^ w14).rotate_left(1);
    let w18 = (x1 ^ w15).rotate_left(1);
    from_words([(x0 ^ w16).rotate_left(1), w18, w17, w16])
}

fn sigma(x: u32, [a, b, shift]: [u32; 3]) -> u32 {
    x.rotate_right(a) ^ x.rotate_right(b) ^ x >> shift
}

/// SHA256MSG1
pub fn sha256_message1(a: Block, b: Block) -> Block {
    let ([w0, w1, w2, w3], [w4, ..]) = (words(a), words(b));
    let s0 = |x| sigma(x, [7, 18, 3]);
    from_words([
        w0.wrapping_add(s0(w1)),
        w1.wrapping_add(s0(w2)),
        w2.wrapping_add(s0(w3)),
        w3.wrapping_add(s0(w4)),
    ])
}

/// SHA256MSG2
pub fn sha256_message2(a: Block, b: Block) -> Block {
    let ([x0, x1, x2, x3], [_, _, w14, w15]) = (words(a), words(b));
    let s1 = |x| sigma(x, [17, 19, 10]);
    let w16 = x0.wrapping_add(s1(w14));
    let w17 = x1.wrapping_add(s1(w15));
    from_words([w16, w17, x2.wrapping_add(s1(w16)), x3.wrapping_add(s1(w17))])
}

/// SHA256RNDS2: two rounds; `a` has C, D, G, H, `b` has A, B, E, F, `wk` the sums of words and constants.
pub fn sha256_rounds(a: Block, b: Block, wk: Block) -> Block {
    let ([mut h, mut g, mut d, mut c], [mut f, mut e, mut bb, mut aa]) = (words(a), words(b));
    let wk = words(wk);
    for w in [wk[0], wk[1]] {
        let ch = e & f ^ !e & g;
        let maj = aa & bb ^ aa & c ^ bb & c;
        let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let s0 = aa.rotate_right(2) ^ aa.rotate_right(13) ^ aa.rotate_right(22);
        let t = ch.wrapping_add(s1).wrapping_add(w).wrapping_add(h);
        let next = t.wrapping_add(maj).wrapping_add(s0);
        (h, g, f, e, d, c, bb, aa) = (g, f, e, t.wrapping_add(d), c, bb, aa, next);
    }
    from_words([f, e, bb, aa])
}
