//! The x87 and vector registers as XSAVE lays them out in its standard form: what signal frames and
//! debuggers have (SDM volume 1, “XSAVE-Managed State Components”).

use crate::helpers_x87::set_words;
use crate::state::{OPMASK_AT, State, X87_AT, ZMM_BYTES};
use softfloat::{Class, F80, Float};

/// Bytes of the part that FXSAVE has.
pub const LEGACY: usize = 512;
/// Bytes of the header behind it.
pub const HEADER: usize = 64;
/// What there is beside the legacy region: the bit, where in the standard form, and how long it is.
pub(crate) const COMPONENTS: [(u32, usize, usize); 4] =
    [(2, 576, 256), (5, 1088, 64), (6, 1152, 512), (7, 1664, 1024)];

/// Where the bytes of a component are in the region of vectors, piece by piece, if code has `count` vectors.
pub(crate) fn pieces(component: u32, count: usize) -> Vec<(usize, usize)> {
    let upper = |from: usize, len: usize| move |n: usize| (n * ZMM_BYTES + from, len);
    match component {
        2 => (0..count).map(upper(16, 16)).collect(),
        5 => vec![(OPMASK_AT, 64)],
        6 => (0..count).map(upper(32, 32)).collect(),
        _ => (16..16 + count).map(upper(0, 64)).collect(),
    }
}

fn register_at(state: &State, i: u64) -> usize {
    X87_AT + 16 * ((state.ftop + i) as usize & 7)
}

/// ST(i).
pub(crate) fn register(state: &State, i: u64) -> [u8; 10] {
    let at = register_at(state, i);
    std::array::from_fn(|k| state.vectors.0[at + k])
}

/// Sets ST(i) to the first ten bytes.
pub(crate) fn set_register(state: &mut State, i: u64, bytes: &[u8]) {
    let at = register_at(state, i);
    state.vectors.0[at..at + 10].copy_from_slice(&bytes[..10]);
}

/// The status word with TOP.
pub(crate) fn status_word(state: &State) -> u16 {
    (state.fsw & !0x3800 | (state.ftop & 7) << 11) as u16
}

/// Bytes of the image of the components whose bits are set.
pub(crate) fn len(enabled: u64) -> usize {
    let used = COMPONENTS.iter().filter(|(bit, ..)| enabled >> bit & 1 != 0);
    used.map(|(_, at, len)| at + len).fold(LEGACY + HEADER, usize::max)
}

impl State {
    /// Bytes of the image of what XCR0 enables.
    pub fn image_len(&self) -> usize {
        len(self.xcr0)
    }

    /// The x87's tag word, two bits for each register by its physical number: in use, zero, special, empty.
    pub fn tag_word(&self) -> u64 {
        let tag = |physical: u64| {
            let bytes = register(self, physical.wrapping_sub(self.ftop) & 7);
            let value = bytes.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte));
            match F80::classify(value) {
                _ if self.ftw >> physical & 1 == 0 => 3,
                Class::PositiveZero | Class::NegativeZero => 1,
                Class::PositiveNormal | Class::NegativeNormal => 0,
                _ => 2,
            }
        };
        (0..8).map(|physical| tag(physical) << (2 * physical)).sum()
    }

    /// The abridged form of a tag word: a bit for each register that is in use.
    pub fn in_use(tag_word: u64) -> u64 {
        (0..8).map(|i| u64::from(tag_word >> (2 * i) & 3 != 3) << i).sum()
    }

    /// The registers in XSAVE's standard form.
    pub fn image(&self) -> Vec<u8> {
        let mut out = vec![0; self.image_len()];
        out[..2].copy_from_slice(&(self.fcw as u16).to_le_bytes());
        out[2..4].copy_from_slice(&status_word(self).to_le_bytes());
        out[4] = self.ftw as u8;
        out[24..28].copy_from_slice(&(self.mxcsr as u32).to_le_bytes());
        out[28..32].copy_from_slice(&0xffff_u32.to_le_bytes());
        for i in 0..8 {
            out[32 + 16 * i..][..10].copy_from_slice(&register(self, i as u64));
        }
        for i in 0..16 {
            let (from, to) = (ZMM_BYTES * i, 160 + 16 * i);
            out[to..to + 16].copy_from_slice(&self.vectors.0[from..from + 16]);
        }
        let mut present = 3u64;
        for (bit, mut to, _) in COMPONENTS {
            if self.xcr0 >> bit & 1 == 0 {
                continue;
            }
            present |= 1 << bit;
            for (from, len) in pieces(bit, 16) {
                out[to..to + len].copy_from_slice(&self.vectors.0[from..from + len]);
                to += len;
            }
        }
        out[LEGACY..LEGACY + 8].copy_from_slice(&present.to_le_bytes());
        out
    }

    /// Takes the registers over from an image; of one that is too short, what is there. Reserved bits
    /// of MXCSR are dropped, as the kernel does; whether an x87 exception is pending follows from the two
    /// words, as XRSTOR has it.
    pub fn set_image(&mut self, image: &[u8]) {
        let Some(head) = image.first_chunk::<LEGACY>() else { return };
        let word = |at: usize| u64::from(u16::from_le_bytes([head[at], head[at + 1]]));
        set_words(self, word(0), word(2));
        (self.ftw, self.ftop) = (word(4) & 0xff, word(2) >> 11 & 7);
        self.mxcsr = word(24) | word(26) << 16;
        self.mxcsr &= 0xffff;
        for i in 0..8 {
            set_register(self, i as u64, &head[32 + 16 * i..]);
        }
        for i in 0..16 {
            let (to, from) = (ZMM_BYTES * i, 160 + 16 * i);
            self.vectors.0[to..to + 16].copy_from_slice(&head[from..from + 16]);
        }
        let present = image.get(LEGACY..LEGACY + 8).map_or(0, |bytes| {
            bytes.iter().rev().fold(0, |value: u64, byte| value << 8 | u64::from(*byte))
        });
        for (bit, mut from, _) in COMPONENTS {
            if self.xcr0 >> bit & 1 == 0 || image.len() < LEGACY + HEADER {
                continue;
            }
            for (to, len) in pieces(bit, 16) {
                let there = present >> bit & 1 != 0;
                let bytes = image.get(from..from + len).filter(|_| there);
                match bytes {
                    Some(bytes) => self.vectors.0[to..to + len].copy_from_slice(bytes),
                    None => self.vectors.0[to..to + len].fill(0),
                }
                from += len;
            }
        }
        self.note_vectors();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_x87_exception_follows_from_the_words() {
        // Control, status, what is read back: invalid operation unmasked, masked, and no exception.
        for (control, status, read) in
            [(0x37eu16, 0x1u16, 0x8081u16), (0x37f, 0x8081, 0x1), (0x37e, 0x8080, 0)]
        {
            let mut image = State { xcr0: 7, ..State::default() }.image();
            image[..2].copy_from_slice(&control.to_le_bytes());
            image[2..4].copy_from_slice(&(status | 5 << 11).to_le_bytes());
            let mut state = State { xcr0: 7, ..State::default() };
            state.set_image(&image);
            assert_eq!(status_word(&state), read | 5 << 11, "{control:#x} {status:#x}");
        }
    }
}
