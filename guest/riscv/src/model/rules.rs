//! What features bring along, and what they need.

use super::features::{Feature as F, FeatureSet};
use super::{Kind, Model, Version};
use crate::hart::Xlen;

/// Features that bring others along, from privileged version 1.12 on.
#[rustfmt::skip]
const BROUGHT: &[(F, &[F])] = &[
    (F::M, &[F::Zmmul]),
    (F::A, &[F::Zaamo, F::Zalrsc]),
    (F::B, &[F::Zba, F::Zbb, F::Zbs]),
    (F::Zfh, &[F::Zfhmin]),
    (F::Zcb, &[F::Zca]),
    (F::Zcmop, &[F::Zca]),
    (F::Zk, &[F::Zkn, F::Zkr, F::Zkt]),
    (F::Zkn, &[F::Zbkb, F::Zbkc, F::Zbkx, F::Zkne, F::Zknd, F::Zknh]),
    (F::Zks, &[F::Zbkb, F::Zbkc, F::Zbkx, F::Zksed, F::Zksh]),
    (F::Zvkn, &[F::Zvkned, F::Zvknhb, F::Zvkb, F::Zvkt]),
    (F::Zvknhb, &[F::Zve64x]),
    (F::Zvknc, &[F::Zvkn, F::Zvbc]),
    (F::Zvkng, &[F::Zvkn, F::Zvkg]),
    (F::Zvks, &[F::Zvksed, F::Zvksh, F::Zvkb, F::Zvkt]),
    (F::Zvksc, &[F::Zvks, F::Zvbc]),
    (F::Zvksg, &[F::Zvks, F::Zvkg]),
    (F::Zvbb, &[F::Zvkb]),
    (F::Zvfh, &[F::Zvfhmin, F::Zfhmin]),
    (F::Zvfhmin, &[F::Zve32f]),
    (F::Zvfbfmin, &[F::Zve32f]),
    (F::Zvfbfwma, &[F::Zvfbfmin, F::Zfbfmin]),
];

/// The same in every version.
#[rustfmt::skip]
const BROUGHT_ALWAYS: &[(F, &[F])] = &[
    (F::V, &[F::Zve64d]),
    (F::Zve64d, &[F::Zve64f, F::D]),
    (F::Zve64f, &[F::Zve64x, F::Zve32f]),
    (F::Zve64x, &[F::Zve32x]),
    (F::Zve32f, &[F::Zve32x, F::F]),
    (F::Zve32x, &[F::Zicsr]),
    (F::Zfh, &[F::F]),
    (F::Zfhmin, &[F::F]),
    (F::D, &[F::F]),
    (F::F, &[F::Zicsr]),
];

/// Names that every hart of a version has.
const SINCE_1_11: FeatureSet =
    FeatureSet::of(&[F::Ziccamoa, F::Ziccif, F::Zicclsm, F::Ziccrse, F::Ssccptr]);
const SINCE_1_12: FeatureSet = FeatureSet::of(&[
    F::Za64rs,
    F::Shcounterenw,
    F::Shgatpa,
    F::Shtvala,
    F::Shvsatpa,
    F::Shvstvala,
    F::Shvstvecd,
    F::Sscounterenw,
    F::Sstvala,
    F::Sstvecd,
    F::Ssu64xl,
]);

/// The version of the privileged architecture that brought a feature.
pub(super) fn since(feature: F) -> Version {
    match feature {
        f if f.is_letter() => Version::V1_10,
        F::Zicntr | F::Zicsr | F::Zifencei | F::Zihpm | F::Zihintpause | F::Zihintntl => {
            Version::V1_10
        }
        F::Zve32x | F::Zve32f | F::Zve64x | F::Zve64f | F::Zve64d | F::Mmu | F::Pmp => {
            Version::V1_10
        }
        F::Ziccrse | F::Zfh | F::Zfhmin => Version::V1_11,
        F::Svvptc => Version::V1_13,
        _ => Version::V1_12,
    }
}

/// Adds what features bring along, but not what the user took away.
pub(super) fn complete(
    model: &Model,
    version: Version,
    mut set: FeatureSet,
    refused: FeatureSet,
    blocks_of_64: bool,
) -> FeatureSet {
    loop {
        let before = set;
        let mut bring = |rules: &[(F, &[F])]| {
            for (from, brought) in rules {
                if set.has(*from) {
                    let new = brought.iter().filter(|f| !refused.has(**f));
                    set = new.fold(set, |set, f| set.set(*f, true));
                }
            }
        };
        if model.kind == Kind::Open {
            bring(BROUGHT_ALWAYS);
            if version >= Version::V1_12 {
                bring(BROUGHT);
            }
        }
        if version >= Version::V1_12 && set.has(F::C) {
            set = set.set(F::Zca, !refused.has(F::Zca));
            if model.kind == Kind::Open {
                let wide = set.has(F::Zcd) || set.has(F::D);
                set = set.set(F::Zcd, wide && !refused.has(F::Zcd));
                let narrow = set.has(F::Zcf) || model.xlen == Xlen::Rv32 && set.has(F::F);
                set = set.set(F::Zcf, narrow && !refused.has(F::Zcf));
            }
        }
        if before == set {
            break;
        }
    }
    if version >= Version::V1_11 {
        set = set.union(SINCE_1_11);
    }
    if version >= Version::V1_12 {
        set = set.union(SINCE_1_12).set(F::Zic64b, blocks_of_64);
    }
    set.set(F::Ssstateen, set.has(F::Smstateen))
}

/// Features with what they cannot do without: if the first is there, one of the others must be.
#[rustfmt::skip]
const NEEDS: &[(&[F], &[F], &str)] = &[
    (&[F::S], &[F::U], "Setting S extension without U extension is illegal"),
    (&[F::F], &[F::Zicsr], "F extension requires Zicsr"),
    (&[F::Zacas], &[F::A, F::Zaamo], "Zacas extension requires A extension"),
    (&[F::Zawrs], &[F::A, F::Zalrsc], "Zawrs extension requires A extension"),
    (&[F::Zfa], &[F::F], "Zfa extension requires F extension"),
    (&[F::Zfh, F::Zfhmin], &[F::F], "Zfh/Zfhmin extensions require F extension"),
    (&[F::Zfbfmin], &[F::F], "Zfbfmin extension depends on F extension"),
    (&[F::D], &[F::F], "D extension requires F extension"),
    (&[F::Zve32f, F::Zve64f], &[F::F], "Zve32f/Zve64f extensions require F extension"),
    (&[F::Zve64d, F::V], &[F::D], "Zve64d/V extensions require D extension"),
    (&[F::Zvfh, F::Zvfhmin], &[F::Zve32f], "Zvfh/Zvfhmin extensions require Zve32f extension"),
    (&[F::Zvfbfmin, F::Zvfbfwma], &[F::Zve32f], "Zvfbfmin extension depends on Zve32f extension"),
    (&[F::Zvbb, F::Zvkb, F::Zvkg, F::Zvkned, F::Zvknha, F::Zvksed, F::Zvksh], &[F::Zve32x],
     "Vector crypto extensions require V or Zve* extensions"),
    (&[F::Zvbc, F::Zvknhb], &[F::Zve64x],
     "Zvbc and Zvknhb extensions require V or Zve64x extensions"),
    (&[F::Smepmp], &[F::Pmp], "Invalid configuration: Smepmp requires PMP support"),
    (&[F::Zicntr], &[F::Zicsr], "Zicntr extension requires Zicsr extension"),
    (&[F::Zihpm], &[F::Zicsr], "Zihpm extension requires Zicsr extension"),
];

/// Checks a complete set of features.
///
/// # Errors
/// What does not fit together.
pub(super) fn check(xlen: Xlen, set: FeatureSet) -> Result<(), &'static str> {
    match (set.has(F::I), set.has(F::E)) {
        (true, true) => return Err("I and E extensions are incompatible"),
        (false, false) => return Err("Either I or E extension must be set"),
        _ => {}
    }
    if set.has(F::Zcf) && xlen != Xlen::Rv32 {
        return Err("Zcf extension is only relevant to RV32");
    }
    let broken = NEEDS.iter().find(|(these, one_of, _)| {
        these.iter().any(|f| set.has(*f)) && !one_of.iter().any(|f| set.has(*f))
    });
    broken.map_or(Ok(()), |(_, _, problem)| Err(problem))
}
