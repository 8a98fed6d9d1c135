//! What CPUID answers (SDM volume 2, CPUID; APM volume 3, appendix E).

use super::{Config, FEATURES, Feature};
use crate::image::{self, COMPONENTS};
use crate::state::{CR4_OSXSAVE, State, XCR0_AVX512};

/// EAX, EBX, ECX, EDX.
pub type Answer = [u32; 4];

/// Four letters.
fn letters(text: &[u8], at: usize) -> u32 {
    let letter = |i: usize| text.get(at + i).copied().unwrap_or(0);
    u32::from_le_bytes([letter(0), letter(1), letter(2), letter(3)])
}

impl Config {
    /// The answer for a leaf and subleaf.
    pub fn cpuid(&self, state: &State, leaf: u32, sub: u32) -> Answer {
        let highest = if leaf >= 0x8000_0000 { 0x8000_0008 } else { 0xd };
        // Beyond the last there is nothing (AMD; Intel answers as for the last basic one).
        if leaf > highest {
            return [0; 4];
        }
        // Other leaves have no subleaves.
        let sub = if matches!(leaf, 7 | 0xd) { sub } else { 0 };
        let vendor = self.vendor.as_bytes();
        let [v0, v1, v2] = [0, 4, 8].map(|at| letters(vendor, at));
        let mut answer = match leaf {
            0 => [0xd, v0, v2, v1],
            1 => [self.signature(), 0x1_0800, 0, 0],
            7 if sub == 0 => [1, 0, 0, 0],
            0xd => return self.xsave_leaf(state, sub),
            0x8000_0000 => [0x8000_0008, v0, v2, v1],
            0x8000_0001 => [self.signature(), 0, 0, 0],
            0x8000_0002..=0x8000_0004 => {
                let at = (leaf - 0x8000_0002) as usize * 16;
                [0, 4, 8, 12].map(|i| letters(self.name.as_bytes(), at + i))
            }
            0x8000_0008 if self.features.has(Feature::Lm) => [0x3028, 0, 0, 0],
            0x8000_0008 => [0x2020, 0, 0, 0],
            _ => [0; 4],
        };
        self.add_features(&mut answer, leaf, sub);
        if leaf == 1 && state.cr[4] & CR4_OSXSAVE != 0 {
            answer[2] |= 1 << 27;
        }
        if leaf == 0x8000_0001 && self.vendor == "AuthenticAMD" {
            // Some of leaf 1's are repeated.
            let [.., basic] = self.cpuid(state, 1, 0);
            answer[3] |= basic & 0x0183_f3ff;
        }
        answer
    }

    fn add_features(&self, answer: &mut Answer, leaf: u32, sub: u32) {
        let here = |row: &&super::FeatureInfo| row.leaf == (leaf, sub);
        for row in FEATURES.iter().filter(here) {
            if self.features.has(row.feature) {
                answer[row.register] |= 1 << row.bit;
            }
        }
    }

    fn xsave_leaf(&self, state: &State, sub: u32) -> Answer {
        if !self.features.has(Feature::Xsave) {
            return [0; 4];
        }
        let supported = self.xcr0();
        // No component ends behind the first pages.
        let size = |enabled: u64| image::len(enabled) as u32;
        match sub {
            0 => [supported as u32, size(state.xcr0), size(supported), 0],
            1 => {
                let mut answer = [0; 4];
                self.add_features(&mut answer, 0xd, 1);
                answer
            }
            _ => {
                let known =
                    |(bit, ..): &&(u32, usize, usize)| *bit == sub && supported >> bit & 1 != 0;
                let component = COMPONENTS.iter().find(known);
                component.map_or([0; 4], |(_, at, len)| [*len as u32, *at as u32, 0, 0])
            }
        }
    }

    /// The bits that XCR0 may have.
    pub fn xcr0(&self) -> u64 {
        if !self.features.has(Feature::Xsave) {
            return 1;
        }
        let avx = if self.features.has(Feature::Avx) { 4 } else { 0 };
        let avx512 = if self.features.has(Feature::Avx512f) { XCR0_AVX512 } else { 0 };
        3 | avx | avx512
    }
}
