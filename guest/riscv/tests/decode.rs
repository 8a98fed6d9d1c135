//! The specification against itself and against a table of known texts.

use riscv::decode::{Ext, ExtSet, INSNS, disassemble, disassemble_plain, lookup};

/// Everything that can be active together with RV64 or RV32.
fn everything(xlen: Ext) -> ExtSet {
    let other = if xlen == Ext::Rv64 { Ext::Rv32 } else { Ext::Rv64 };
    ExtSet::all().without(other)
}

/// A small generator of words; the seed makes failures repeat.
fn words(seed: u64) -> impl FnMut() -> u32 {
    let mut x = seed | 1;
    move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 16) as u32
    }
}

/// The encodings that fit, by linear search.
fn fitting(insn: u32, ext: ExtSet) -> Vec<usize> {
    let fits = |i: &usize| INSNS[*i].matches(insn) && INSNS[*i].available(ext);
    (0..INSNS.len()).filter(fits).collect()
}

#[test]
fn every_encoding_decodes_to_itself() {
    let mut next = words(3);
    for xlen in [Ext::Rv32, Ext::Rv64] {
        let ext = everything(xlen);
        for (i, info) in INSNS.iter().enumerate().filter(|(_, info)| info.available(ext)) {
            for _ in 0..100 {
                let insn = next() & !info.mask | info.value;
                if !info.matches(insn) {
                    continue;
                }
                let found = usize::from(lookup(insn, ext).expect("it fits"));
                // A more specific encoding may take it; that one fixes more bits.
                let more = INSNS[found].mask & info.mask == info.mask;
                assert!(found == i || more, "{insn:#010x} {} {}", info.name, INSNS[found].name);
                assert!(disassemble(insn, 0, ext).is_some());
            }
        }
    }
}

#[test]
fn the_decision_tree_finds_what_linear_search_finds() {
    let mut next = words(5);
    for round in 0..60_000 {
        let base = &INSNS[round % INSNS.len()];
        let noise = next() & next() & next() & next();
        let insn = (next() & !base.mask | base.value) ^ noise;
        let mut ext = everything(if round % 3 == 0 { Ext::Rv32 } else { Ext::Rv64 });
        if round % 2 == 0 {
            ext.0 &= u128::from(next()) << 96
                | u128::from(next()) << 64
                | u128::from(next()) << 32
                | u128::from(next())
                | 3;
        }
        let found = lookup(insn, ext).map(usize::from);
        let fits = fitting(insn, ext);
        match found {
            None => assert!(fits.is_empty(), "{insn:#010x}: {fits:?}"),
            Some(i) => {
                assert!(fits.contains(&i), "{insn:#010x}");
                let wider = |j: &usize| INSNS[*j].mask & !INSNS[i].mask == 0;
                assert!(fits.iter().all(wider), "{insn:#010x}");
            }
        }
    }
}

#[test]
fn nothing_is_decoded_without_extensions() {
    let mut next = words(9);
    assert!((0..10_000).all(|_| lookup(next(), ExtSet::EMPTY).is_none()));
}

#[test]
fn no_word_of_zeros_or_ones_is_legal() {
    for xlen in [Ext::Rv32, Ext::Rv64] {
        assert_eq!(lookup(0, everything(xlen)), None);
        assert_eq!(lookup(u32::MAX, everything(xlen)), None);
    }
}

#[test]
fn a_hint_without_its_extension_is_the_instruction_around_it() {
    let name = |ext: ExtSet, insn| lookup(insn, ext).map(|i| INSNS[usize::from(i)].name);
    let all = everything(Ext::Rv64);
    assert_eq!(name(all, 0x0100_000f), Some("pause"));
    assert_eq!(name(all.without(Ext::Zihintpause), 0x0100_000f), Some("fence"));
    assert_eq!(name(all, 0x0000_6013), Some("prefetch.i"));
    assert_eq!(name(all.without(Ext::Zicbop), 0x0000_6013), Some("ori"));
    assert_eq!(name(all, 0x0805_453b), Some("zext.h"));
    assert_eq!(name(all.without(Ext::Zbb), 0x0805_453b), Some("packw"));
}

#[test]
fn reserved_words_are_illegal() {
    let all = everything(Ext::Rv64);
    let reserved = [
        (0x0031_50d3, "fadd.s with rounding mode 5"),
        (0x4020_8057, "vadc.vvm into v0"),
        (0x31db_1713, "aes64ks1i with round 13"),
        (0x6101, "c.addi16sp of zero"),
        (0x0004, "c.addi4spn of zero"),
        (0x4002, "c.lwsp into zero"),
        (0x8002, "c.jr of zero"),
    ];
    for (insn, what) in reserved {
        assert_eq!(lookup(insn, all), None, "{what}");
    }
    assert!(lookup(0x2800_b0af, all).is_some(), "amocas.d takes any register on RV64");
    assert_eq!(lookup(0x2800_b0af, everything(Ext::Rv32)), None, "and an even pair on RV32");
}

#[test]
fn extensions_bring_what_they_imply() {
    let set = ExtSet::of(&[Ext::Rv32, Ext::C, Ext::D, Ext::V]).closed();
    for ext in [Ext::F, Ext::Zicsr, Ext::Zca, Ext::Zcd, Ext::Zcf, Ext::Zve32x] {
        assert!(set.has(ext), "{ext:?}");
    }
    assert!(!ExtSet::of(&[Ext::Rv64, Ext::C, Ext::D]).closed().has(Ext::Zcf));
}

#[test]
fn names_of_extensions_go_both_ways() {
    for ext in Ext::ALL {
        assert_eq!(Ext::from_name(ext.name()), Some(*ext));
    }
    assert_eq!(Ext::from_name("Zba"), None);
}

/// `xlen address code  plain text  [= text with aliases]`
const TEXTS: &str = include_str!("disasm.vec");

#[test]
fn texts_are_those_of_the_table() {
    for line in TEXTS.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (head, texts) = line.split_once("  ").unwrap();
        let head: Vec<_> = head.split(' ').collect();
        let xlen = if head[0] == "32" { Ext::Rv32 } else { Ext::Rv64 };
        let pc = u64::from_str_radix(head[1], 16).unwrap();
        let insn = u32::from_str_radix(head[2], 16).unwrap();
        let (plain, alias) = texts.split_once(" = ").unwrap_or((texts, texts));
        let squeeze = |t: Option<String>| {
            t.map(|t| t.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default()
        };
        let mut ext = everything(xlen);
        if xlen == Ext::Rv64 {
            ext = ext.without(Ext::Zcf);
        }
        assert_eq!(squeeze(disassemble_plain(insn, pc, ext)), plain.trim(), "{line}");
        assert_eq!(squeeze(disassemble(insn, pc, ext)), alias.trim(), "{line}");
    }
}
