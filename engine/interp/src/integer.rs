//! Integer operations.

use ir::{Op, OpKind, Type, bits};

/// Whether the condition of an operation holds of its first two operands, in its width.
pub(crate) fn compare(op: &Op, a: u64, b: u64) -> bool {
    match op.ty {
        // Sign extension keeps both orders.
        Type::I32 => op.cond().holds(sext32(a), sext32(b)),
        _ => op.cond().holds(a, b),
    }
}

fn sext32(value: u64) -> u64 {
    i64::from(value as i32).cast_unsigned()
}

/// The value of an integer operation; `None` if it is a floating-point one.
pub(crate) fn evaluate(op: &Op, a: u64, b: u64, c: u64) -> Option<u64> {
    Some(match op.kind {
        OpKind::Mov => a,
        OpKind::SetCond => u64::from(compare(op, a, b)),
        OpKind::Select => {
            if a != 0 {
                b
            } else {
                c
            }
        }
        OpKind::Sext | OpKind::Zext => extend(op, a),
        OpKind::Insert => {
            let low = (1 << op.aux) - 1;
            a & !low | b & low
        }
        OpKind::Crc32 => bits::crc32c(a as u32, b, op.aux).into(),
        kind if op.ty == Type::I32 => u64::from(narrow(kind, a as u32, b as u32)?),
        kind => wide(kind, a, b)?,
    })
}

fn extend(op: &Op, a: u64) -> u64 {
    let shift = 64 - u32::from(op.aux);
    match op.kind {
        OpKind::Sext => ((a << shift).cast_signed() >> shift).cast_unsigned(),
        _ => a << shift >> shift,
    }
}

macro_rules! width {
    ($name:ident, $u:ident, $s:ident) => {
        /// An operation of this width on two values.
        fn $name(kind: OpKind, a: $u, b: $u) -> Option<$u> {
            let (sa, sb) = (a.cast_signed(), b.cast_signed());
            Some(match kind {
                OpKind::Add => a.wrapping_add(b),
                OpKind::Sub => a.wrapping_sub(b),
                OpKind::And => a & b,
                OpKind::Or => a | b,
                OpKind::Xor => a ^ b,
                OpKind::AndNot => a & !b,
                // The counts of these are taken modulo the width.
                OpKind::Shl => a.wrapping_shl(b as u32),
                OpKind::Shr => a.wrapping_shr(b as u32),
                OpKind::Sar => sa.wrapping_shr(b as u32).cast_unsigned(),
                OpKind::Rotl => a.rotate_left(b as u32 % $u::BITS),
                OpKind::Rotr => a.rotate_right(b as u32 % $u::BITS),
                OpKind::Mul => a.wrapping_mul(b),
                OpKind::Div if b == 0 => $u::MAX,
                OpKind::Div => sa.wrapping_div(sb).cast_unsigned(),
                OpKind::DivU => a.checked_div(b).unwrap_or($u::MAX),
                OpKind::Rem if b == 0 => a,
                OpKind::Rem => sa.wrapping_rem(sb).cast_unsigned(),
                OpKind::RemU => a.checked_rem(b).unwrap_or(a),
                OpKind::Min => sa.min(sb).cast_unsigned(),
                OpKind::Max => sa.max(sb).cast_unsigned(),
                OpKind::MinU => a.min(b),
                OpKind::MaxU => a.max(b),
                OpKind::Clz => $u::from(a.leading_zeros() as u8),
                OpKind::Ctz => $u::from(a.trailing_zeros() as u8),
                OpKind::Popcnt => $u::from(a.count_ones() as u8),
                OpKind::Bswap => a.swap_bytes(),
                OpKind::Deposit => bits::deposit(a.into(), b.into()) as $u,
                OpKind::Extract => bits::extract(a.into(), b.into()) as $u,
                _ => return None,
            })
        }
    };
}

width!(narrow, u32, i32);
width!(wide_common, u64, i64);

fn wide(kind: OpKind, a: u64, b: u64) -> Option<u64> {
    let (sa, sb) = (i128::from(a.cast_signed()), i128::from(b.cast_signed()));
    let (ua, ub) = (u128::from(a), u128::from(b));
    let high = |product: i128| (product >> 64) as u64;
    Some(match kind {
        OpKind::MulHigh => high(sa * sb),
        OpKind::MulHighU => ((ua * ub) >> 64) as u64,
        OpKind::MulHighSU => high(sa * i128::from(b)),
        _ => return wide_common(kind, a, b),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::Operand;

    fn value(kind: OpKind, ty: Type, aux: u16, [a, b]: [u64; 2]) -> u64 {
        let none = Operand::NONE;
        evaluate(&Op { kind, ty, aux, dst: none, a: none, b: none, c: none }, a, b, 0).unwrap()
    }

    #[test]
    fn narrow_results_are_zero_extended() {
        let minus = u64::MAX;
        assert_eq!(value(OpKind::Add, Type::I32, 0, [minus, 0]), 0xffff_ffff);
        assert_eq!(value(OpKind::Sar, Type::I32, 0, [0x8000_0000, 33]), 0xc000_0000);
        assert_eq!(value(OpKind::Div, Type::I32, 0, [7, 1 << 32]), 0xffff_ffff);
        assert_eq!(value(OpKind::Rem, Type::I32, 0, [minus << 4, 0]), 0xffff_fff0);
        assert_eq!(value(OpKind::Clz, Type::I32, 0, [minus << 32, 0]), 32);
    }

    #[test]
    fn division_overflows_to_its_dividend() {
        let min = i64::MIN.cast_unsigned();
        assert_eq!(value(OpKind::Div, Type::I64, 0, [min, u64::MAX]), min);
        assert_eq!(value(OpKind::Rem, Type::I64, 0, [min, u64::MAX]), 0);
        assert_eq!(value(OpKind::Div, Type::I32, 0, [1 << 31, u64::MAX]), 1 << 31);
    }

    #[test]
    fn high_products_differ_by_sign() {
        let minus = u64::MAX;
        assert_eq!(value(OpKind::MulHigh, Type::I64, 0, [minus, minus]), 0);
        assert_eq!(value(OpKind::MulHighU, Type::I64, 0, [minus, minus]), minus - 1);
        assert_eq!(value(OpKind::MulHighSU, Type::I64, 0, [minus, minus]), minus);
    }
}
