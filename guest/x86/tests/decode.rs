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

/// Length and mnemonic of random instructions in VEX and EVEX; what has no line in the other's tables, or
/// should have none, has one in ours only on purpose.
#[test]
fn random_vector_instructions_are_what_another_decoder_says() {
    let mut random = Random::new(77);
    let (mut both, mut differences) = (0, BTreeMap::new());
    for _ in 0..1_500_000 {
        let mut bytes: Vec<u8> = (0..2).flat_map(|_| random.number().to_le_bytes()).collect();
        bytes.truncate(15);
        if random.percent(80) {
            bytes[0] = 0x62;
            bytes[1] = bytes[1] & 0xf0 | random.pick(&[1, 2, 3]);
            bytes[2] |= 4;
            if random.percent(50) {
                // No register where there is none.
                (bytes[2], bytes[3]) = (bytes[2] | 0x78, bytes[3] | 8);
            }
        } else {
            bytes[0] = 0xc4;
            bytes[1] = bytes[1] & 0xe0 | random.pick(&[1, 2, 3]);
        }
        let mut decoder = Decoder::with_ip(64, &bytes, 0, DecoderOptions::NONE);
        let theirs = decoder.decode();
        let insn = ours(Width::W64, &bytes);
        let shown = text(Width::W64, 0, &bytes).0;
        match insn {
            Some(insn) => {
                both += 1;
                let name = format!("{:?}", theirs.mnemonic()).to_lowercase();
                // Gathers whose registers are the same are undefined when they run.
                let overlaps = insn.entry.mnemonic.contains("gather");
                let same = overlaps && theirs.code() == Code::INVALID
                    || usize::from(insn.len) == theirs.len() && named(insn.entry.mnemonic, &name);
                if !same {
                    let line = format!("{bytes:02x?}: {shown}, not {theirs}");
                    differences.entry(insn.entry.mnemonic.to_owned()).or_insert(line);
                }
            }
            None if theirs.code() != Code::INVALID && !is_left_out(&theirs) => {
                let line = format!("{bytes:02x?}: nothing, not {theirs}");
                differences.entry(format!("{:?}", theirs.code())).or_insert(line);
            }
            None => {}
        }
    }
    assert!(differences.is_empty(), "{} {differences:#?}", differences.len());
    assert!(both > 50_000, "only {both} are instructions");
}

/// Whether names are of one instruction: ours leaves sizes out.
fn named(ours: &str, theirs: &str) -> bool {
    ours.split('|').any(|name| name == theirs || theirs.strip_prefix('v') == Some(name))
        || theirs.starts_with(ours) && theirs.len() == ours.len() + 1
        || ours.starts_with("vpextr") && theirs.starts_with("vpextr")
        || ours.starts_with("vpinsr") && theirs.starts_with("vpinsr")
        || matches!((ours, theirs), ("vmovd", "vmovq"))
        || theirs.strip_suffix("64") == Some(ours)
}

/// Instructions of features that are not translated.
fn is_left_out(insn: &iced_x86::Instruction) -> bool {
    use iced_x86::CpuidFeature as F;
    let known = |feature: &F| {
        let name = format!("{feature:?}").to_lowercase();
        let other = ["fp16", "er", "pf", "4fmaps", "4vnniw"].iter().any(|n| name.ends_with(n));
        name.starts_with("avx512") && !other || name == "avx" || name == "avx2"
    };
    !insn.cpuid_features().iter().all(known)
}

#[test]
fn every_entry_has_a_map_and_a_name() {
    for entry in ENTRIES {
        assert!(usize::from(entry.map) < MAPS.len() && !entry.mnemonic.is_empty(), "{entry:?}");
    }
}
