//! The decoder against another's: random bytes have the same length, or are no instruction.

use iced_x86::{Code, Decoder, DecoderOptions, Mnemonic};
use irgen::Random;
use std::collections::BTreeMap;
use x86::decode::{ENTRIES, Fetch, Insn, MAPS, Width, decode, text};

fn ours(width: Width, bytes: &[u8]) -> Option<Insn> {
    let mut source = |at: usize| bytes.get(at).copied();
    decode(width, &mut Fetch::new(&mut source)).ok()
}

/// What the other one decodes and we leave out, or the other way round, on purpose.
fn differs_on_purpose(insn: &iced_x86::Instruction, bytes: &[u8]) -> bool {
    // Near branches with an operand-size prefix: AMD's and Intel's differ.
    let odd_branch = insn.is_jcc_short_or_near()
        || insn.is_jmp_short_or_near()
        || insn.is_call_near()
        || insn.is_jmp_near_indirect()
        || insn.is_call_near_indirect()
        || matches!(insn.mnemonic(), Mnemonic::Ret | Mnemonic::Loop | Mnemonic::Loope)
        || matches!(insn.mnemonic(), Mnemonic::Loopne | Mnemonic::Jrcxz | Mnemonic::Jecxz);
    // AMD's manual gives these no ModRM byte; the processors take one.
    let ud = matches!(insn.mnemonic(), Mnemonic::Ud0 | Mnemonic::Ud1);
    // XACQUIRE and XRELEASE, and what only some processors have.
    ud || odd_branch && bytes.contains(&0x66) || insn.code() == Code::INVALID
}

#[test]
fn random_bytes_have_the_length_that_another_decoder_says() {
    for (width, bits) in [(Width::W64, 64), (Width::W32, 32), (Width::W16, 16)] {
        let mut random = Random::new(u64::from(bits));
        let (mut both, mut differences) = (0, BTreeMap::new());
        for _ in 0..400_000 {
            let mut bytes: Vec<u8> = (0..2).flat_map(|_| random.number().to_le_bytes()).collect();
            bytes.truncate(15);
            if random.percent(30) {
                bytes[0] = random.pick(&[0x66, 0xf2, 0xf3, 0x48, 0x67, 0x0f, 0x41, 0x4c]);
            }
            let mut decoder = Decoder::with_ip(bits, &bytes, 0, DecoderOptions::AMD);
            let theirs = decoder.decode();
            let Some(insn) = ours(width, &bytes) else { continue };
            if insn.entry.map >= 4 || differs_on_purpose(&theirs, &bytes) {
                continue;
            }
            both += 1;
            let shown = text(width, 0, &bytes).0;
            if usize::from(insn.len) != theirs.len() {
                let (ours, theirs) = (insn.len, theirs.len());
                let line = format!("{bits}: {bytes:02x?}: {shown}: {ours}, not {theirs}");
                differences.entry(insn.entry.mnemonic).or_insert(line);
            }
        }
        assert!(differences.is_empty(), "{differences:#?}");
        assert!(both > 100_000, "{bits}: only {both} are instructions");
    }
}

#[test]
fn every_entry_has_a_map_and_a_name() {
    for entry in ENTRIES {
        assert!(usize::from(entry.map) < MAPS.len() && !entry.mnemonic.is_empty(), "{entry:?}");
    }
}
