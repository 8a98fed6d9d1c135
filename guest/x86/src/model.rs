//! Features and models of processors, and what CPUID says of them.

include!(concat!(env!("OUT_DIR"), "/features.rs"));

mod cpuid;
mod models;
mod more;

pub use cpuid::Answer;
pub use models::{Model, models, parse};

/// A row of the table of features.
#[derive(Clone, Copy, Debug)]
pub struct FeatureInfo {
    /// The feature.
    pub feature: Feature,
    /// Name that `-cpu` takes.
    pub name: &'static str,
    /// Leaf and subleaf of CPUID.
    pub leaf: (u32, u32),
    /// Register there: EAX, EBX, ECX, EDX.
    pub register: usize,
    /// Bit there.
    pub bit: u32,
}

/// A set of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureSet([u64; 3]);

impl FeatureSet {
    /// Every feature.
    pub fn all() -> Self {
        FEATURES.iter().fold(Self::default(), |set, row| set.with(row.feature))
    }

    /// With one more.
    #[must_use]
    pub const fn with(mut self, feature: Feature) -> Self {
        self.0[feature as usize / 64] |= 1 << (feature as usize % 64);
        self
    }

    /// With one less.
    #[must_use]
    pub const fn without(mut self, feature: Feature) -> Self {
        self.0[feature as usize / 64] &= !(1 << (feature as usize % 64));
        self
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// Whether a feature is among them.
    pub const fn has(&self, feature: Feature) -> bool {
        self.0[feature as usize / 64] >> (feature as usize % 64) & 1 != 0
    }

    /// Those with these names, between spaces; unknown names are left out.
    pub fn named(names: &str) -> Self {
        names.split_whitespace().filter_map(feature).fold(Self::default(), Self::with)
    }
}

/// The feature with a name; `_`, `.` and `-` are the same.
pub fn feature(name: &str) -> Option<Feature> {
    let name = match name {
        "sse3" => "pni",
        "lzcnt" => "abm",
        "sha" => "sha-ni",
        "xd" => "nx",
        "i64" => "lm",
        name => name,
    };
    let plain = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte };
    let same = |row: &&FeatureInfo| row.name.bytes().map(plain).eq(name.bytes().map(plain));
    FEATURES.iter().find(same).map(|row| row.feature)
}

/// What a processor can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its features.
    pub features: FeatureSet,
    /// Twelve letters: `GenuineIntel`, `AuthenticAMD`.
    pub vendor: String,
    /// Name for people, 48 letters at most.
    pub name: String,
    /// Family.
    pub family: u32,
    /// Model.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
}

impl Config {
    /// Family, model and stepping as CPUID has them (SDM volume 2, CPUID, leaf 1, EAX).
    pub fn signature(&self) -> u32 {
        let (base, extended) = (self.family.min(15), self.family.saturating_sub(15));
        let model = (self.model & 15) << 4 | (self.model >> 4 & 15) << 16;
        extended << 20 | base << 8 | model | self.stepping & 15
    }
}

/// A processor that `-cpu` cannot name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuError {
    /// No model has this name.
    Model(String),
    /// No feature has this name.
    Feature(String),
    /// What a property was to be set to makes no sense.
    Value(String, String),
}

impl std::fmt::Display for CpuError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Model(name) => write!(f, "unable to find CPU model '{name}'"),
            Self::Feature(name) => write!(f, "Property 'cpu.{name}' not found"),
            Self::Value(name, value) => {
                write!(f, "Parameter '{name}' does not take the value '{value}'")
            }
        }
    }
}

impl std::error::Error for CpuError {}
