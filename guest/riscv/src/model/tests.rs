//! Models and properties against what QEMU shows.

use super::*;
use std::collections::BTreeSet;

const GOLDEN: &str = include_str!("../../tests/models.golden");

/// Names in an ISA string that this crate can have at present.
fn parts(isa: &str) -> BTreeSet<String> {
    let mut names = isa.split('_');
    let base = names.next().unwrap();
    let letters = base[4..].chars().map(String::from);
    let known = |name: &String| F::from_name(name).is_some_and(available);
    letters.chain(names.map(str::to_owned)).filter(known).collect()
}

fn rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    GOLDEN.lines().filter(|l| !l.starts_with('#')).map(|line| {
        let mut fields = line.split('\t');
        let mut next = || fields.next().expect("three fields");
        (next(), next(), next())
    })
}

#[test]
fn models_and_properties_give_the_isa_strings_of_qemu() {
    let mut wrong = Vec::new();
    for (cpu, isa, mmu) in rows().filter(|(_, isa, _)| *isa != "error") {
        let config = match parse(cpu) {
            Ok(config) => config,
            Err(e) if e.to_string().contains("not supported yet") => continue,
            Err(e) => {
                wrong.push(format!("{cpu}: {e}"));
                continue;
            }
        };
        let (ours, theirs) = (parts(&config.isa_string()), parts(isa));
        if ours != theirs {
            let more: Vec<_> = ours.difference(&theirs).collect();
            let less: Vec<_> = theirs.difference(&ours).collect();
            wrong.push(format!("{cpu}: too much {more:?}, too little {less:?}"));
        }
        if config.mmu_type() != mmu {
            wrong.push(format!("{cpu}: {} instead of {mmu}", config.mmu_type()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_isa_string_has_the_order_of_qemu() {
    let places = |isa: &str| {
        let names = isa[4..].split('_').map(str::to_owned).collect::<Vec<_>>();
        names.into_iter().filter(|n| F::from_name(n).is_some()).skip(1).collect::<Vec<_>>()
    };
    for (_, isa, _) in rows().filter(|(_, isa, _)| *isa != "error") {
        let names = places(isa);
        let known: Vec<_> = names.iter().filter_map(|n| F::from_name(n)).collect();
        assert!(known.is_sorted(), "{isa}");
    }
}

#[test]
fn mistakes_give_the_messages_of_qemu() {
    let mut wrong = Vec::new();
    for (cpu, _, message) in rows().filter(|(_, isa, _)| *isa == "error") {
        match parse(cpu) {
            Ok(_) => wrong.push(format!("{cpu} is accepted, not refused with: {message}")),
            Err(e) => {
                let text = e.to_string();
                if !text.starts_with(message) && !text.contains("not supported yet") {
                    wrong.push(format!("{cpu}: {text}\n    not: {message}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn misspelled_names_are_recognised() {
    let text = |cpu: &str| parse(cpu).unwrap_err().to_string();
    assert_eq!(text("rv46"), "unable to find CPU model 'rv46'; did you mean 'rv64'?");
    assert!(text("rv64,zicbmo=on").ends_with("not found; did you mean 'zicbom'?"));
    let h = "can't apply global rv64-riscv-cpu.h=on: not supported yet: extension h";
    assert_eq!(text("rv64,h=on"), h);
    assert!(parse("rv64,h=off").is_ok());
}

#[test]
fn names_without_a_feature_behind_them_do_not_exist() {
    for model in MODELS {
        for name in model.features.split_whitespace() {
            assert!(F::from_name(name).is_some(), "{}: {name}", model.name);
        }
        assert!(parse(model.name).is_ok(), "{}", model.name);
    }
    for name in UNSUPPORTED {
        assert!(F::from_name(name).is_none_or(|f| f == F::H), "{name}");
    }
}

#[test]
fn blocks_and_identities_are_taken_over() {
    let c = parse("rv64,cbom_blocksize=128,mvendorid=0x489,marchid=0x8000000000000007").unwrap();
    assert_eq!((c.cbom_block, c.cboz_block), (128, 64));
    assert_eq!((c.mvendorid, c.marchid, c.mimpid), (0x489, 0x8000_0000_0000_0007, 0));
    let c = parse("veyron-v1").unwrap();
    assert_eq!((c.mvendorid, c.marchid, c.mimpid), (0x61f, 0x8000_0000_0001_0000, 0x111));
    assert_eq!(parse("rv64,pmu-num=4").unwrap().hpm_counters, 0x78);
    assert_eq!(parse("rv64,short-isa-string=on").unwrap().isa_string(), "rv64imafdc");
}

#[test]
fn what_models_without_vectors_have_is_translated() {
    for model in MODELS.iter().filter(|m| !m.letters.contains('v')) {
        let config = parse(model.name).unwrap();
        let wanted = listed(model.features).union(letters(model.letters));
        assert!(config.features.has_all(wanted), "{}: not all of {wanted:?}", model.name);
    }
}
