//! Names of what a hart may have: letters of `misa`, extensions, and parts without a name there.

use std::fmt;

macro_rules! features {
    ($($id:ident $name:literal),* $(,)?) => {
        /// One feature; the order is that of the ISA string in the device tree.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the extensions' own names, in lower case in `name`")]
        pub enum Feature { $($id),* }

        impl Feature {
            /// Every feature.
            pub const ALL: &[Self] = &[$(Self::$id),*];

            /// Name as a property and in the ISA string.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$id => $name),* }
            }
        }
    };
}

features! {
    I "i", E "e", M "m", A "a", F "f", D "d", C "c", B "b", V "v", H "h", S "s", U "u",
    Zic64b "zic64b", Zicbom "zicbom", Zicbop "zicbop", Zicboz "zicboz", Ziccamoa "ziccamoa",
    Ziccif "ziccif", Zicclsm "zicclsm", Ziccrse "ziccrse", Zicond "zicond", Zicntr "zicntr",
    Zicsr "zicsr", Zifencei "zifencei", Zihintntl "zihintntl", Zihintpause "zihintpause",
    Zihpm "zihpm", Zimop "zimop", Zmmul "zmmul", Za64rs "za64rs", Zaamo "zaamo", Zabha "zabha",
    Zacas "zacas", Zalrsc "zalrsc", Zawrs "zawrs", Zfa "zfa", Zfbfmin "zfbfmin", Zfh "zfh",
    Zfhmin "zfhmin", Zca "zca", Zcb "zcb", Zcf "zcf", Zcd "zcd", Zcmop "zcmop", Zba "zba",
    Zbb "zbb", Zbc "zbc", Zbkb "zbkb", Zbkc "zbkc", Zbkx "zbkx", Zbs "zbs", Zk "zk", Zkn "zkn",
    Zknd "zknd", Zkne "zkne", Zknh "zknh", Zkr "zkr", Zks "zks", Zksed "zksed", Zksh "zksh",
    Zkt "zkt", Zvbb "zvbb", Zvbc "zvbc", Zve32f "zve32f", Zve32x "zve32x", Zve64f "zve64f",
    Zve64d "zve64d", Zve64x "zve64x", Zvfbfmin "zvfbfmin", Zvfbfwma "zvfbfwma", Zvfh "zvfh",
    Zvfhmin "zvfhmin", Zvkb "zvkb", Zvkg "zvkg", Zvkn "zvkn", Zvknc "zvknc", Zvkned "zvkned",
    Zvkng "zvkng", Zvknha "zvknha", Zvknhb "zvknhb", Zvks "zvks", Zvksc "zvksc",
    Zvksed "zvksed", Zvksg "zvksg", Zvksh "zvksh", Zvkt "zvkt", Shcounterenw "shcounterenw",
    Shgatpa "shgatpa", Shtvala "shtvala", Shvsatpa "shvsatpa", Shvstvala "shvstvala",
    Shvstvecd "shvstvecd", Smaia "smaia", Smepmp "smepmp", Smmpm "smmpm", Smnpm "smnpm",
    Smstateen "smstateen", Ssaia "ssaia",
    Ssccptr "ssccptr", Sscofpmf "sscofpmf", Sscounterenw "sscounterenw", Ssnpm "ssnpm",
    Sspm "sspm", Ssstateen "ssstateen", Sstc "sstc", Sstvala "sstvala", Sstvecd "sstvecd",
    Ssu64xl "ssu64xl", Supm "supm", Svade "svade", Svadu "svadu", Svinval "svinval", Svnapot "svnapot",
    Svpbmt "svpbmt", Svvptc "svvptc", Xventanacondops "xventanacondops", Mmu "mmu", Pmp "pmp",
}

impl Feature {
    /// The feature of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|f| f.name() == name)
    }

    /// Whether it is a letter of `misa`.
    pub fn is_letter(self) -> bool {
        self <= Self::U
    }
}

/// A set of features.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct FeatureSet(u128);

const _: () = assert!(Feature::ALL.len() <= 128, "a set holds every feature");

impl FeatureSet {
    /// The set of these.
    pub const fn of(list: &[Feature]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < list.len() {
            bits |= 1 << list[i] as u32;
            i += 1;
        }
        Self(bits)
    }

    /// Whether `feature` is in the set.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 >> feature as u32 & 1 != 0
    }

    /// The set with one more, or one less.
    #[must_use]
    pub const fn set(self, feature: Feature, present: bool) -> Self {
        let bit = 1 << feature as u32;
        Self(if present { self.0 | bit } else { self.0 & !bit })
    }

    /// The features in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The features in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether every feature of `other` is in this set.
    pub const fn has_all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The features in the order of the ISA string.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.iter().copied().filter(move |f| self.has(*f))
    }
}

impl fmt::Debug for FeatureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Feature::name)).finish()
    }
}
