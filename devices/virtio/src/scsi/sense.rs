//! Sense data in fixed format (SPC-4, "Sense data").

/// Why a command ended with CHECK CONDITION: key, additional code and its qualifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense(pub u8, pub u8, pub u8);

/// Nothing to report.
pub const NO_SENSE: Sense = Sense(0, 0, 0);
/// The medium is not there.
pub const NO_MEDIUM: Sense = Sense(2, 0x3a, 0);
/// The host failed to read.
pub const READ_ERROR: Sense = Sense(0x0b, 0x00, 0x06);
/// The command is not known.
pub const INVALID_OPCODE: Sense = Sense(5, 0x20, 0);
/// The address is beyond the last block.
pub const LBA_OUT_OF_RANGE: Sense = Sense(5, 0x21, 0);
/// A field of the command is wrong.
pub const INVALID_FIELD: Sense = Sense(5, 0x24, 0);
/// There is no such logical unit.
pub const NO_LUN: Sense = Sense(5, 0x25, 0);
/// A field of the parameters is wrong.
pub const INVALID_PARAMETER: Sense = Sense(5, 0x26, 0);
/// The medium is of another kind.
pub const WRONG_MEDIUM: Sense = Sense(5, 0x30, 0);
/// The medium is locked in.
pub const REMOVAL_PREVENTED: Sense = Sense(5, 0x53, 2);
/// The device was reset.
pub const RESET: Sense = Sense(6, 0x29, 0);
/// The device is read-only.
pub const WRITE_PROTECTED: Sense = Sense(7, 0x27, 0);

impl Sense {
    /// The 18 bytes that a driver reads.
    pub fn bytes(self) -> [u8; 18] {
        let mut b = [0; 18];
        (b[0], b[2], b[7], b[12], b[13]) = (0x70, self.0, 10, self.1, self.2);
        b
    }
}
