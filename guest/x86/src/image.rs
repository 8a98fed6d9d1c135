//! The x87 and vector registers as XSAVE lays them out in its standard form: what signal frames and
//! debuggers have (SDM volume 1, “XSAVE-Managed State Components”).

use crate::state::{OPMASK_AT, State, X87_AT, ZMM_BYTES};

/// Bytes of the part that FXSAVE has.
pub const LEGACY: usize = 512;
/// Bytes of the header behind it.
pub const HEADER: usize = 64;
/// Components beside x87 and SSE: bit, place, bytes of each of their pieces, where these begin in the
/// region of vectors, how far they are apart there, how many.
const COMPONENTS: [(u32, usize, usize, usize, usize, usize); 4] = [
    (2, 576, 16, 16, ZMM_BYTES, 16),
    (5, 1088, 8, OPMASK_AT, 8, 8),
    (6, 1152, 32, 32, ZMM_BYTES, 16),
    (7, 1664, 64, 16 * ZMM_BYTES, ZMM_BYTES, 16),
];

impl State {
    /// Bytes of the image of what XCR0 enables.
    pub fn image_len(&self) -> usize {
        let used = COMPONENTS.iter().filter(|c| self.xcr0 >> c.0 & 1 != 0);
        used.map(|c| c.1 + c.2 * c.5).fold(LEGACY + HEADER, usize::max)
    }

    fn st_at(&self, i: usize) -> usize {
        X87_AT + 16 * ((self.ftop as usize + i) & 7)
    }

    /// The registers in XSAVE's standard form.
    pub fn image(&self) -> Vec<u8> {
        let mut out = vec![0; self.image_len()];
        let fsw = self.fsw as u16 & !0x3800 | (self.ftop as u16 & 7) << 11;
        out[..2].copy_from_slice(&(self.fcw as u16).to_le_bytes());
        out[2..4].copy_from_slice(&fsw.to_le_bytes());
        out[4] = self.ftw as u8;
        out[24..28].copy_from_slice(&(self.mxcsr as u32).to_le_bytes());
        out[28..32].copy_from_slice(&0xffff_u32.to_le_bytes());
        for i in 0..8 {
            let (from, to) = (self.st_at(i), 32 + 16 * i);
            out[to..to + 10].copy_from_slice(&self.vectors.0[from..from + 10]);
        }
        for i in 0..16 {
            let (from, to) = (ZMM_BYTES * i, 160 + 16 * i);
            out[to..to + 16].copy_from_slice(&self.vectors.0[from..from + 16]);
        }
        let mut present = 3u64;
        for (bit, at, len, from, step, count) in COMPONENTS {
            if self.xcr0 >> bit & 1 == 0 {
                continue;
            }
            present |= 1 << bit;
            for i in 0..count {
                let (from, to) = (from + step * i, at + len * i);
                out[to..to + len].copy_from_slice(&self.vectors.0[from..from + len]);
            }
        }
        out[LEGACY..LEGACY + 8].copy_from_slice(&present.to_le_bytes());
        out
    }

    /// Takes the registers over from an image; of one that is too short, what is there. Reserved bits
    /// of MXCSR are dropped, as the kernel does.
    pub fn set_image(&mut self, image: &[u8]) {
        let Some(head) = image.first_chunk::<LEGACY>() else { return };
        let word = |at: usize| u64::from(u16::from_le_bytes([head[at], head[at + 1]]));
        (self.fcw, self.ftw) = (word(0) & 0x1f3f | 0x40, word(4) & 0xff);
        (self.fsw, self.ftop) = (word(2) & !0x3800, word(2) >> 11 & 7);
        self.mxcsr = word(24) | word(26) << 16;
        self.mxcsr &= 0xffff;
        for i in 0..8 {
            let (to, from) = (self.st_at(i), 32 + 16 * i);
            self.vectors.0[to..to + 10].copy_from_slice(&head[from..from + 10]);
        }
        for i in 0..16 {
            let (to, from) = (ZMM_BYTES * i, 160 + 16 * i);
            self.vectors.0[to..to + 16].copy_from_slice(&head[from..from + 16]);
        }
        let present = image.get(LEGACY..LEGACY + 8).map_or(0, |bytes| {
            bytes.iter().rev().fold(0, |value: u64, byte| value << 8 | u64::from(*byte))
        });
        for (bit, at, len, to, step, count) in COMPONENTS {
            if self.xcr0 >> bit & 1 == 0 || image.len() < LEGACY + HEADER {
                continue;
            }
            for i in 0..count {
                let (to, from) = (to + step * i, at + len * i);
                let there = present >> bit & 1 != 0;
                let bytes = image.get(from..from + len).filter(|_| there);
                match bytes {
                    Some(bytes) => self.vectors.0[to..to + len].copy_from_slice(bytes),
                    None => self.vectors.0[to..to + len].fill(0),
                }
            }
        }
    }
}
