//! The arithmetic flags, kept as what made them.
//!
//! Source: Intel SDM volume 1, “Status Flags”, and the pages of the instructions in volume 2. What these
//! leave undefined is as AMD's family 26 leaves it.

use crate::state::eflags::{AF, ARITHMETIC, CF, OF, PF, SF, ZF};

/// How flags come from `cc_dst`, `cc_src` and `cc_src2` (in the order of these: d, s, t), with r for the
/// result. Values are of the operation's size; what is above does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// d has the flags as they are in the register.
    Eflags,
    /// r = d = x + s
    Add,
    /// r = d = x + s + t, t being 0 or 1
    Adc,
    /// r = d − s
    Sub,
    /// r = d − s − t, t being 0 or 1
    Sbb,
    /// r = d of a logical operation: CF, AF and OF are 0.
    Logic,
    /// r = d = x + 1; CF is s.
    Inc,
    /// r = d = x − 1; CF is s.
    Dec,
    /// r = d = x << n; s = x << (n − 1), whose top bit is CF. OF: whether the two differ.
    Shl,
    /// r = d = x >> n; s = x >> (n − 1), whose lowest bit is CF. OF: the top bit of s xor that of r. AF is 1,
    /// of `Shl` as well.
    Shr,
    /// r = d of a bit field: as `Logic`, but AF is 1.
    Field,
}

/// A kind, the size of values, and whether CF and OF are in `cc_over` instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cc {
    /// How flags come from values.
    pub kind: Kind,
    /// Bytes of the values: 1, 2, 4, 8.
    pub size: u8,
    /// Whether `cc_over` has CF.
    pub carry: bool,
    /// Whether `cc_over` has OF.
    pub overflow: bool,
}

impl Cc {
    /// Flags as they are in the register.
    pub const EFLAGS: Self = Self::new(Kind::Eflags, 8);

    /// A kind with a size.
    pub const fn new(kind: Kind, size: u8) -> Self {
        Self { kind, size, carry: false, overflow: false }
    }

    /// As `cc_op` holds it.
    pub const fn code(self) -> u64 {
        let over = (self.carry as u64) << 16 | (self.overflow as u64) << 17;
        self.kind as u64 | (self.size as u64) << 8 | over
    }

    /// From what `cc_op` holds; nonsense is [`Cc::EFLAGS`].
    pub fn from_code(code: u64) -> Self {
        use Kind as K;
        const KINDS: [Kind; 11] = [
            K::Eflags,
            K::Add,
            K::Adc,
            K::Sub,
            K::Sbb,
            K::Logic,
            K::Inc,
            K::Dec,
            K::Shl,
            K::Shr,
            K::Field,
        ];
        let kind = KINDS.get(code as u8 as usize).copied().unwrap_or(K::Eflags);
        let size = match (code >> 8) as u8 {
            size @ (1 | 2 | 4) => size,
            _ => 8,
        };
        let over = |bit: u32| code >> bit & 1 != 0;
        Self { kind, size, carry: over(16), overflow: over(17) }
    }
}

/// The arithmetic flags.
pub fn compute(op: u64, [dst, src, src2]: [u64; 3], over: u64) -> u64 {
    let cc = Cc::from_code(op);
    let flags = of_kind(cc, dst, src, src2);
    let mask = if cc.carry { CF } else { 0 } | if cc.overflow { OF } else { 0 };
    flags & !mask | over & mask
}

fn of_kind(cc: Cc, dst: u64, src: u64, src2: u64) -> u64 {
    let bits = 8 * u32::from(cc.size);
    let mask = u64::MAX >> (64 - bits);
    let top = 1 << (bits - 1);
    let (d, s, t) = (dst & mask, src & mask, src2 & 1);
    let bit = |condition: bool, flag: u64| if condition { flag } else { 0 };
    let result = |r: u64| {
        bit(r == 0, ZF) | bit(r & top != 0, SF) | bit((r as u8).count_ones().is_multiple_of(2), PF)
    };
    // r = x + y: CF as given; the others from the bits.
    let sum = |x: u64, y: u64, r: u64, carry: bool| {
        let overflow = (x ^ r) & (y ^ r) & top != 0;
        result(r) | bit(carry, CF) | (x ^ y ^ r) & AF | bit(overflow, OF)
    };
    // r = x − y, alike.
    let difference = |x: u64, y: u64, r: u64, borrow: bool| {
        let overflow = (x ^ y) & (x ^ r) & top != 0;
        result(r) | bit(borrow, CF) | (x ^ y ^ r) & AF | bit(overflow, OF)
    };
    match cc.kind {
        Kind::Eflags => dst & ARITHMETIC,
        Kind::Add => sum(d.wrapping_sub(s) & mask, s, d, d < s),
        Kind::Adc => {
            let x = d.wrapping_sub(s).wrapping_sub(t) & mask;
            sum(x, s, d, if t != 0 { d <= s } else { d < s })
        }
        Kind::Sub => difference(d, s, d.wrapping_sub(s) & mask, d < s),
        Kind::Sbb => {
            let r = d.wrapping_sub(s).wrapping_sub(t) & mask;
            difference(d, s, r, if t != 0 { d <= s } else { d < s })
        }
        Kind::Logic => result(d),
        Kind::Inc => result(d) | bit(d & 15 == 0, AF) | bit(d == top, OF) | src & CF,
        Kind::Dec => result(d) | bit(d & 15 == 15, AF) | bit(d == top - 1, OF) | src & CF,
        Kind::Shl => {
            let carry = s & top != 0;
            result(d) | AF | bit(carry, CF) | bit((d & top != 0) != carry, OF)
        }
        Kind::Shr => result(d) | AF | bit(s & 1 != 0, CF) | bit((s ^ d) & top != 0, OF),
        Kind::Field => result(d) | AF,
    }
}
