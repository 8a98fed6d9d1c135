//! What is known of a value.

use ir::{MemOp, Op, OpKind, Operand, Type};

/// An operand as it was at some operation: a guest register may have been assigned since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) operand: Operand,
    /// Of a guest register: when it was assigned.
    pub(crate) version: u32,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Origin {
    #[default]
    Unknown,
    /// It is this constant.
    Constant(Operand),
    /// It is the same as another.
    Copy(Source),
    /// It is another, shifted by a constant.
    Shift(Shift),
}

/// A shift by a constant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shift {
    /// `Shl`, `Shr` or `Sar`.
    pub(crate) kind: OpKind,
    pub(crate) ty: Type,
    /// Bits of the value, or of a lane of a vector.
    pub(crate) width: u8,
    pub(crate) count: u8,
    /// Whether a 32-bit result was sign-extended afterwards.
    pub(crate) extended: bool,
    pub(crate) of: Source,
}

/// What is known of an integer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fact {
    /// It is the zero extension of its low bits, so many.
    pub(crate) unsigned: u8,
    /// It is the sign extension of its low bits, so many.
    pub(crate) signed: u8,
    pub(crate) origin: Origin,
}

impl Fact {
    /// Nothing.
    pub(crate) const NONE: Self = Self { unsigned: 64, signed: 64, origin: Origin::Unknown };

    /// Whether that is all there is, but perhaps for a copy.
    pub(crate) fn is_nothing(&self) -> bool {
        self.unsigned == 64
            && self.signed == 64
            && matches!(self.origin, Origin::Unknown | Origin::Copy(_))
    }

    /// A value of `bits` bits, zero-extended.
    pub(crate) const fn unsigned(bits: u8) -> Self {
        let signed = if bits < 64 { bits + 1 } else { 64 };
        Self { unsigned: bits, signed, origin: Origin::Unknown }
    }

    /// A value of `bits` bits, sign-extended.
    pub(crate) const fn signed(bits: u8) -> Self {
        Self { unsigned: 64, signed: bits, origin: Origin::Unknown }
    }

    /// A known value.
    pub(crate) fn of_constant(value: u64) -> Self {
        let sign = value.cast_signed();
        let redundant = if sign < 0 { sign.leading_ones() } else { sign.leading_zeros() };
        Self {
            unsigned: 64 - value.leading_zeros() as u8,
            signed: 65 - redundant as u8,
            origin: Origin::Unknown,
        }
    }

    /// One of two.
    fn either(self, other: Self) -> Self {
        Self {
            unsigned: self.unsigned.max(other.unsigned),
            signed: self.signed.max(other.signed),
            origin: Origin::Unknown,
        }
    }

    /// What is known of an operation's result, given its operands and, if that is a constant, the
    /// second one's value.
    pub(crate) fn of(op: &Op, a: Self, b: Self, count: Option<u64>) -> Self {
        use OpKind as K;
        let bits = op.aux as u8;
        let known = match op.kind {
            K::Load => return Self::of_load(op.mem()),
            K::Mov => return Self { origin: Origin::Unknown, ..a },
            K::Sext => return Self { unsigned: 64, ..Self::signed(a.signed.min(bits)) },
            K::Zext => return Self::unsigned(a.unsigned.min(bits)),
            K::FToInt | K::FToUInt if op.float_aux() == 32 => return Self::signed(32),
            K::SetCond | K::FCompare => Self::unsigned(1),
            K::Crc32 => Self::unsigned(32),
            K::Clz | K::Ctz | K::Popcnt => Self::unsigned(7),
            K::And => Self {
                signed: a.signed.max(b.signed),
                ..Self::unsigned(a.unsigned.min(b.unsigned))
            },
            K::Or | K::Xor => a.either(b),
            K::Shr => match (count, op.ty) {
                (Some(count), Type::I32) => Self::unsigned(32 - (count as u8 & 31)),
                (Some(count), _) => Self::unsigned(a.unsigned.saturating_sub(count as u8 & 63)),
                _ => Self::NONE,
            },
            K::Sar => Self::signed(match count {
                Some(count) => a.signed.saturating_sub(count as u8 & 63).max(1),
                None => a.signed,
            }),
            _ => Self::NONE,
        };
        if op.ty == Type::I32 {
            // The result is zero-extended, whatever the operands are.
            return Self::unsigned(known.unsigned.min(32));
        }
        Self { signed: known.signed.min(known.unsigned.saturating_add(1)), ..known }
    }

    fn of_load(mem: MemOp) -> Self {
        let bits = 8 * mem.size() as u8;
        if mem.is_signed() { Self::signed(bits) } else { Self::unsigned(bits) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_have_as_many_bits_as_they_need() {
        let bits =
            |value: u64| (Fact::of_constant(value).unsigned, Fact::of_constant(value).signed);
        assert_eq!(bits(0), (0, 1));
        assert_eq!(bits(0xff), (8, 9));
        assert_eq!(bits(u64::MAX), (64, 1));
        assert_eq!(bits(0xffff_ffff_8000_0000), (64, 32));
        assert_eq!(bits(1 << 63), (64, 64));
    }
}
