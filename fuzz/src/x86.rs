//! x86 instructions: the decoder, the disassembler and the translator on any bytes, in any mode.
//!
//! What must hold: texts are not empty, and units are well-formed.

use crate::bytes::Bytes;
use ir::{Builder, Unit};
use isa::{CodeSource, Guest, Mode};
use std::cell::RefCell;
use x86::{FeatureSet, Wiring, X86, model};

/// Where the code begins: near the end of a page.
const START: u64 = 0x1000_0fc0;

/// Code of an input.
struct Code<'a>(&'a [u8]);

impl CodeSource for Code<'_> {
    fn halfword(&mut self, gva: u64) -> Option<u16> {
        let at = usize::try_from(gva.checked_sub(START)?).ok()?;
        Some(u16::from_le_bytes(*self.0.get(at..)?.first_chunk()?))
    }
}

fn processor() -> X86 {
    let mut config = model::parse("max").expect("a known model");
    config.features = FeatureSet::all();
    X86 { config, wiring: Wiring::default(), user: true }
}

/// The first bytes are the mode's flags, the others code.
pub fn feed(bytes: &[u8]) {
    thread_local!(static GUEST: RefCell<X86> = RefCell::new(processor()));
    let mut input = Bytes(bytes);
    let flags = input.number(4) as u32 & 0x01ff_ffff;
    let flags = if flags & 3 == 3 { flags ^ 1 } else { flags };
    let code = input.0;
    GUEST.with_borrow(|guest| {
        let (text, len) = guest.disassemble(START, code);
        assert!(!text.is_empty() && len > 0);
        let mode = Mode { pc: START, flags, mmu: 0 };
        let mut unit = Unit { pc: START, flags, ..Unit::default() };
        guest.translate(&mode, 32, &mut Code(code), &mut Builder::new(&mut unit));
        assert_eq!(unit.verify(), Ok(()));
    });
}

/// Instructions of each map, in code of each width.
pub fn seeds() -> Vec<Vec<u8>> {
    const CODE: [&[u8]; 6] = [
        &[0x48, 0x8b, 0x44, 0x8b, 0x10, 0x83, 0xf8, 0x05, 0x74, 0x02, 0xff, 0xc0, 0xc3],
        &[0x0f, 0xaf, 0xc1, 0xf0, 0x0f, 0xb1, 0x0b, 0xf3, 0xa4, 0x0f, 0x05],
        &[0x66, 0x0f, 0x38, 0x17, 0xc1, 0x66, 0x0f, 0x3a, 0x0f, 0xc1, 0x04],
        &[0xc5, 0xfd, 0x6f, 0x06, 0xc4, 0xe2, 0x7d, 0x18, 0x07, 0xc4, 0xe3, 0x7d, 0x19, 0xc1, 1],
        &[0xd9, 0xe8, 0xdd, 0x06, 0xde, 0xc1, 0xdf, 0xe0],
        &[0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1, 0x67, 0x8b, 0x07, 0x27, 0x9a, 1, 2, 3, 4, 5, 6],
    ];
    let modes = [0xb8u32, 0xbd, 0xbe];
    let all = CODE.iter().flat_map(|code| modes.iter().map(move |mode| (mode, code)));
    all.map(|(mode, code)| [&mode.to_le_bytes()[..], code].concat()).collect()
}
