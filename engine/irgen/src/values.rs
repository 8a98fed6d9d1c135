//! Values at which things go wrong.

use crate::Random;

/// An integer: boundaries, sign extensions, single bits, and sometimes anything.
pub fn integer(random: &mut Random<'_>) -> u64 {
    const EDGES: &[u64] = &[
        0,
        1,
        2,
        3,
        7,
        8,
        31,
        32,
        33,
        63,
        64,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        0x7fff_ffff,
        0x8000_0000,
        0x8000_0001,
        0xffff_ffff,
        0x1_0000_0000,
        0x7fff_ffff_ffff_ffff,
        0x8000_0000_0000_0000,
        0x8000_0000_0000_0001,
        0xffff_ffff_0000_0000,
        0xffff_ffff_7fff_ffff,
        0xffff_ffff_8000_0000,
        0xffff_ffff_ffff_8000,
        0xffff_ffff_ffff_ff80,
        0xffff_ffff_ffff_fffe,
        0xffff_ffff_ffff_ffff,
    ];
    match random.below(10) {
        0..5 => random.pick(EDGES),
        5 => 1u64.rotate_left(random.below(64) as u32),
        6 => random.number() >> random.below(64),
        7 => i64::from(random.number() as i32).cast_unsigned(),
        8 => random.pick(EDGES).wrapping_sub(random.below(4)),
        _ => random.number(),
    }
}

/// The bits of a binary64 value.
pub fn float64(random: &mut Random<'_>) -> u64 {
    const EDGES: &[u64] = &[
        0,
        1,                     // the smallest subnormal
        0x000f_ffff_ffff_ffff, // the largest
        0x0010_0000_0000_0000, // the smallest normal
        0x0010_0000_0000_0001,
        0x1ff0_0000_0000_0000, // underflows when squared
        0x3690_0000_0000_0000, // subnormal as binary32
        0x3810_0000_0000_0000, // the smallest normal of binary32
        0x380f_ffff_ffff_ffff,
        0x3fef_ffff_ffff_ffff,
        0x3ff0_0000_0000_0000, // 1
        0x3ff0_0000_0000_0001,
        0x3fe0_0000_0000_0000, // 1/2
        0x3ff8_0000_0000_0000, // 3/2
        0x4004_0000_0000_0000, // 5/2
        0x41df_ffff_ffc0_0000, // 2^31 − 1
        0x41df_ffff_ffe0_0000,
        0x41e0_0000_0000_0000, // 2^31
        0x41e0_0000_0020_0000,
        0x41ef_ffff_ffe0_0000, // 2^32 − 1
        0x43df_ffff_ffff_ffff, // below 2^63
        0x43e0_0000_0000_0000, // 2^63
        0x43f0_0000_0000_0000, // 2^64
        0x47ef_ffff_e000_0000, // the largest binary32
        0x47ef_ffff_f000_0000,
        0x5fe0_0000_0000_0000, // overflows when squared
        0x7fef_ffff_ffff_ffff, // the largest
        0x7ff0_0000_0000_0000, // infinity
        0x7ff0_0000_0000_0001, // signalling NaN
        0x7ff8_0000_0000_0000, // quiet NaN
        0x7ffc_dead_beef_0000,
    ];
    let magnitude = match random.below(10) {
        0..6 => random.pick(EDGES),
        6 => (0x3ff - 70 + random.below(140)) << 52 | random.number() >> 12,
        7 => (0x3ff - 40 + random.below(80)) << 52 | random.number() >> 60 << 48,
        8 => random.pick(EDGES) ^ random.below(4),
        _ => random.number() >> 1,
    };
    magnitude | random.below(2) << 63
}

/// The bits of a binary32 value.
pub fn float32(random: &mut Random<'_>) -> u32 {
    const EDGES: &[u32] = &[
        0,
        1,
        0x007f_ffff,
        0x0080_0000,
        0x0080_0001,
        0x1f80_0000,
        0x3f7f_ffff,
        0x3f80_0000,
        0x3f80_0001,
        0x3f00_0000,
        0x3fc0_0000,
        0x4020_0000,
        0x4b00_0001,
        0x4eff_ffff,
        0x4f00_0000,
        0x4f80_0000,
        0x5eff_ffff,
        0x5f00_0000,
        0x5f80_0000,
        0x7f7f_ffff,
        0x7f80_0000,
        0x7f80_0001,
        0x7fc0_0000,
        // Around what half precision can hold.
        0x3300_0000,
        0x3300_0001,
        0x3380_0000,
        0x387f_c000,
        0x387f_f000,
        0x3880_0000,
        0x3f80_1000,
        0x477f_e000,
        0x477f_efff,
        0x477f_f000,
        0x7fe1_2345,
    ];
    let magnitude = match random.below(8) {
        0..5 => random.pick(EDGES),
        5 => (0x7f - 30 + random.below(60) as u32) << 23 | (random.number() >> 41) as u32,
        6 => random.pick(EDGES) ^ random.below(4) as u32,
        _ => (random.number() >> 33) as u32,
    };
    magnitude | (random.below(2) as u32) << 31
}
