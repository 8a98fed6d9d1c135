//! Units made of any bytes, in any mode: well-formed, and optimised ones as well.

use ir::{Builder, Unit};
use irgen::Random;
use isa::{CodeSource, Guest, Mode};
use opt::Optimiser;
use x86::{FeatureSet, Wiring, X86, model};

/// Where the code begins: near the end of a page.
const START: u64 = 0x1000_0fc0;

struct Code(Vec<u8>);

impl CodeSource for Code {
    fn halfword(&mut self, gva: u64) -> Option<u16> {
        let at = usize::try_from(gva.checked_sub(START)?).ok()?;
        Some(u16::from_le_bytes(*self.0.get(at..)?.first_chunk()?))
    }
}

#[test]
fn units_of_any_bytes_are_well_formed() {
    let mut config = model::parse("max").expect("a known model");
    config.features = FeatureSet::all();
    let guest = X86 { config, wiring: Wiring::default(), user: true };
    let mut optimiser = Optimiser::default();
    let mut random = Random::new(7);
    for round in 0..60_000 {
        let mut bytes: Vec<u8> = (0..12).flat_map(|_| random.number().to_le_bytes()).collect();
        if random.percent(50) {
            // What is longer than one byte.
            let head = random.pick(&[&[0x0f][..], &[0x0f, 0x38], &[0xc4, 0xe2], &[0x62], &[0xf3]]);
            bytes[..head.len()].copy_from_slice(head);
        }
        // Any mode but single steps, which have one instruction each.
        let flags = random.number() as u32 & 0x00ff_ffff & !x86::state::mode::TF;
        let flags = if flags & 3 == 3 { flags ^ 1 } else { flags };
        let mode = Mode { pc: START, flags, mmu: 0 };
        let mut unit = Unit { pc: START, flags, ..Unit::default() };
        guest.translate(&mode, 8, &mut Code(bytes.clone()), &mut Builder::new(&mut unit));
        assert_eq!(unit.verify(), Ok(()), "round {round}, mode {flags:#x}: {bytes:02x?}");
        optimiser.run(&mut unit, X86::registers());
        assert_eq!(unit.verify(), Ok(()), "optimised, round {round}: {bytes:02x?}");
        let (text, len) = guest.disassemble(START, &bytes);
        assert!(!text.is_empty() && len > 0, "{bytes:02x?}");
    }
}
