//! What the operations on single bits compute.

/// The low bits of `source` at the places where `mask` has ones, from the lowest up.
pub fn deposit(source: u64, mask: u64) -> u64 {
    let (mut result, mut left, mut source) = (0, mask, source);
    while left != 0 {
        let bit = left & left.wrapping_neg();
        result |= if source & 1 != 0 { bit } else { 0 };
        (source, left) = (source >> 1, left & (left - 1));
    }
    result
}

/// The bits of `source` at the places where `mask` has ones, side by side.
pub fn extract(source: u64, mask: u64) -> u64 {
    let (mut result, mut left, mut at) = (0, mask, 0);
    while left != 0 {
        let bit = left & left.wrapping_neg();
        result |= u64::from(source & bit != 0) << at;
        (at, left) = (at + 1, left & (left - 1));
    }
    result
}

/// The CRC-32C (polynomial 0x11EDC6F41, reflected) of the low `bits` bits of `value` after `crc`.
pub fn crc32c(crc: u32, value: u64, bits: u16) -> u32 {
    (0..bits).fold(crc, |crc, bit| {
        let odd = (u64::from(crc) ^ value >> bit) & 1 != 0;
        crc >> 1 ^ if odd { 0x82f6_3b78 } else { 0 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_go_to_the_places_of_a_mask_and_come_back() {
        assert_eq!(deposit(0b1011, 0xf0f0_0000_0000_0001), 0x0050_0000_0000_0001);
        assert_eq!(extract(0x0050_0000_0000_0001, 0xf0f0_0000_0000_0001), 0b1011);
    }

    #[test]
    fn the_checksum_of_digits_is_the_known_one() {
        let crc = b"123456789".iter().fold(!0, |crc, byte| crc32c(crc, (*byte).into(), 8));
        assert_eq!(!crc, 0xe306_9283);
    }
}
