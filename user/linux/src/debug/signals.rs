//! Numbers of signals in the protocol of debuggers (those of `gdb/signals.h`), and of Linux.

/// Signals of Linux below 32 whose numbers differ, and theirs in the protocol.
const DIFFERENT: &[(u32, u8)] = &[
    (7, 10),
    (10, 30),
    (12, 31),
    (16, UNKNOWN),
    (17, 20),
    (18, 19),
    (19, 17),
    (20, 18),
    (23, 16),
    (29, 23),
    (30, 32),
    (31, 12),
];
/// The first real-time signal that they number one after the other, and its number.
const REAL_TIME: (u32, u8) = (33, 45);
/// The others.
const REAL_TIME_32: u8 = 77;
const REAL_TIME_64: u8 = 78;
const UNKNOWN: u8 = 143;

/// The protocol's number of a signal.
pub fn to_protocol(signal: u32) -> u8 {
    match signal {
        32 => REAL_TIME_32,
        64 => REAL_TIME_64,
        33..=63 => (signal - REAL_TIME.0) as u8 + REAL_TIME.1,
        0 | 65.. => UNKNOWN,
        _ => DIFFERENT.iter().find(|row| row.0 == signal).map_or(signal as u8, |row| row.1),
    }
}

/// The signal that the protocol means; `None` for none, or one that Linux does not have.
pub fn from_protocol(number: u8) -> Option<u32> {
    (1..=crate::signal::LAST).find(|signal| to_protocol(*signal) == number && number != UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_come_back_from_the_protocol() {
        for signal in (1..=64).filter(|signal| *signal != 16) {
            assert_eq!(from_protocol(to_protocol(signal)), Some(signal));
        }
        assert_eq!((to_protocol(11), to_protocol(17), to_protocol(34)), (11, 20, 46));
        assert_eq!((from_protocol(0), from_protocol(UNKNOWN)), (None, None));
    }
}
