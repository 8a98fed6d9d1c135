//! Processor models, as data.

use super::more::MORE;
use super::{Config, CpuError, FeatureSet, feature};

/// A model that `-cpu` names.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// Vendor as CPUID tells it.
    pub vendor: &'static str,
    /// Name for people.
    pub text: &'static str,
    /// Family, model, stepping.
    pub signature: (u32, u32, u32),
    /// Names of other models whose features it has too.
    pub like: &'static str,
    /// Names of its features.
    pub features: &'static str,
}

pub(super) const INTEL: &str = "GenuineIntel";
pub(super) const AMD: &str = "AuthenticAMD";

/// Models that others are like. `max` has all that is translated.
static MODELS: &[Model] = &[
    Model {
        name: "qemu32",
        vendor: INTEL,
        text: "QEMU Virtual CPU version 2.5+",
        signature: (6, 6, 3),
        like: "",
        features: "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx \
                   fxsr sse sse2 pni hypervisor",
    },
    Model {
        name: "qemu64",
        vendor: AMD,
        text: "QEMU Virtual CPU version 2.5+",
        signature: (15, 107, 1),
        like: "qemu32",
        features: "cx16 lahf-lm syscall nx lm svm 3dnowprefetch",
    },
    Model {
        name: "Nehalem",
        vendor: INTEL,
        text: "Intel Core i7 9xx (Nehalem Class Core i7)",
        signature: (6, 26, 3),
        like: "qemu32",
        features: "cx16 lahf-lm syscall nx lm ssse3 sse4.1 sse4.2 popcnt",
    },
    Model {
        name: "Haswell",
        vendor: INTEL,
        text: "Intel Core Processor (Haswell)",
        signature: (6, 60, 4),
        like: "Nehalem",
        features: "rdtscp pclmulqdq fma pcid x2apic movbe tsc-deadline aes xsave avx f16c rdrand \
                   fsgsbase bmi1 avx2 smep bmi2 erms invpcid xsaveopt abm vme arat",
    },
    Model {
        name: "Skylake-Server",
        vendor: INTEL,
        text: "Intel Xeon Processor (Skylake)",
        signature: (6, 85, 4),
        like: "Haswell",
        features: "pdpe1gb 3dnowprefetch rdseed adx smap clwb clflushopt avx512f avx512dq avx512bw \
                   avx512cd avx512vl xsavec xgetbv1 xsaves",
    },
    Model {
        name: "Cascadelake-Server",
        vendor: INTEL,
        text: "Intel Xeon Processor (Cascadelake)",
        signature: (6, 85, 6),
        like: "Skylake-Server",
        features: "avx512vnni",
    },
    Model {
        name: "Cooperlake",
        vendor: INTEL,
        text: "Intel Xeon Processor (Cooperlake)",
        signature: (6, 85, 10),
        like: "Cascadelake-Server",
        features: "avx512-bf16",
    },
    Model {
        name: "Icelake-Server",
        vendor: INTEL,
        text: "Intel Xeon Processor (Icelake)",
        signature: (6, 134, 0),
        like: "Cascadelake-Server",
        features: "avx512ifma avx512vbmi avx512vbmi2 avx512bitalg avx512-vpopcntdq gfni vaes \
                   vpclmulqdq sha-ni umip rdpid fsrm wbnoinvd",
    },
    Model {
        name: "SapphireRapids",
        vendor: INTEL,
        text: "Intel Xeon Processor (SapphireRapids)",
        signature: (6, 143, 4),
        like: "Icelake-Server",
        features: "avx512-bf16 avx512-fp16 avx-vnni serialize movdiri movdir64b",
    },
    Model {
        name: "EPYC",
        vendor: AMD,
        text: "AMD EPYC Processor",
        signature: (23, 1, 2),
        like: "qemu32",
        features: "cx16 lahf-lm syscall nx lm ssse3 sse4.1 sse4.2 popcnt rdtscp pclmulqdq fma movbe \
                   aes xsave avx f16c rdrand fsgsbase bmi1 avx2 smep bmi2 abm vme arat pdpe1gb \
                   3dnowprefetch rdseed adx smap clflushopt sha-ni xsaveopt xsavec xgetbv1 mmxext \
                   fxsr-opt sse4a misalignsse cr8legacy osvw",
    },
    Model {
        name: "EPYC-Rome",
        vendor: AMD,
        text: "AMD EPYC-Rome Processor",
        signature: (23, 49, 0),
        like: "EPYC",
        features: "clwb rdpid umip wbnoinvd",
    },
    Model {
        name: "EPYC-Milan",
        vendor: AMD,
        text: "AMD EPYC-Milan Processor",
        signature: (25, 1, 1),
        like: "EPYC-Rome",
        features: "erms fsrm invpcid pcid pku vaes vpclmulqdq",
    },
    Model {
        name: "EPYC-Genoa",
        vendor: AMD,
        text: "AMD EPYC-Genoa Processor",
        signature: (25, 17, 0),
        like: "EPYC-Milan",
        features: "gfni avx512f avx512dq avx512bw avx512cd avx512vl avx512ifma avx512vbmi avx512vbmi2 \
                   avx512vnni avx512bitalg avx512-vpopcntdq avx512-bf16 x2apic",
    },
    Model {
        name: "EPYC-Turin",
        vendor: AMD,
        text: "AMD EPYC-Turin Processor",
        signature: (26, 0, 0),
        like: "EPYC-Genoa",
        features: "avx-vnni avx512-vp2intersect movdiri movdir64b",
    },
    Model {
        name: "max",
        vendor: AMD,
        text: "QEMU TCG CPU version 2.5+",
        signature: (15, 107, 1),
        like: "EPYC",
        features: "erms fsrm umip pku vaes vpclmulqdq gfni rdpid clwb avx512f avx512dq avx512bw avx512cd \
                   avx512vl avx512ifma avx512vbmi avx512vbmi2 avx512vnni avx512bitalg \
                   avx512-vpopcntdq avx512-bf16 avx512-vp2intersect avx-vnni invpcid pcid",
    },
];

/// Every model.
pub fn models() -> impl Iterator<Item = &'static Model> {
    MODELS.iter().chain(MORE)
}

/// Other names of models: endings, and what they change.
const VARIANTS: &[(&str, &str)] = &[
    ("-noTSX-IBRS", "-hle,-rtm,+spec-ctrl"),
    ("-noTSX", "-hle,-rtm"),
    ("-IBRS", "+spec-ctrl"),
    ("-IBPB", ""),
];

/// The model of a name, and what the name changes.
fn named(name: &str) -> Option<(&'static Model, &'static str)> {
    // Versions of models differ in what is not translated.
    let plain = name.rsplit_once("-v").filter(|(_, n)| n.parse::<u32>().is_ok());
    let plain = plain.map_or(name, |(name, _)| name);
    let find = |name: &str| models().find(|model| model.name == name);
    let variant = |(ending, change): &(&str, &'static str)| {
        find(plain.strip_suffix(ending)?).map(|model| (model, *change))
    };
    find(plain).map(|model| (model, "")).or_else(|| VARIANTS.iter().find_map(variant))
}

/// The features of a model and of what it is like.
fn features(model: &Model) -> FeatureSet {
    let base = models().find(|m| m.name == model.like);
    let set = base.map(features).unwrap_or_default();
    model.features.split_whitespace().filter_map(feature).fold(set, FeatureSet::with)
}

/// The processor that `-cpu` names: `Haswell,+aes,-avx2,movbe=off`.
///
/// # Errors
/// There is no such model, or a property that it does not have.
pub fn parse(text: &str) -> Result<Config, CpuError> {
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default();
    let (model, change) = named(name).ok_or_else(|| CpuError::Model(name.to_owned()))?;
    let (family, number, stepping) = model.signature;
    let mut config = Config {
        features: features(model),
        vendor: model.vendor.to_owned(),
        name: model.text.to_owned(),
        family,
        model: number,
        stepping,
    };
    for part in change.split(',').filter(|part| !part.is_empty()).chain(parts) {
        config.set(part)?;
    }
    config.close();
    Ok(config)
}

impl Config {
    fn set(&mut self, part: &str) -> Result<(), CpuError> {
        let (name, value) = match (part.strip_prefix('+'), part.strip_prefix('-')) {
            (Some(name), _) => (name, "on"),
            (_, Some(name)) => (name, "off"),
            _ => part.split_once('=').unwrap_or((part, "on")),
        };
        let bad = || CpuError::Value(name.to_owned(), value.to_owned());
        let number = || value.parse().map_err(|_| bad());
        match name {
            "vendor" if value.len() == 12 => value.clone_into(&mut self.vendor),
            "model-id" | "model_id" if value.len() <= 48 => value.clone_into(&mut self.name),
            "family" => self.family = number()?,
            "model" => self.model = number()?,
            "stepping" => self.stepping = number()?,
            _ => {
                let feature = feature(name).ok_or_else(|| CpuError::Feature(name.to_owned()))?;
                self.features = match value {
                    "on" | "yes" | "true" | "y" => self.features.with(feature),
                    "off" | "no" | "false" | "n" => self.features.without(feature),
                    _ => return Err(bad()),
                };
            }
        }
        Ok(())
    }

    /// Takes away what needs something that is not there, and what is not translated.
    fn close(&mut self) {
        for (needs, names) in REQUIRES {
            if feature(needs).is_some_and(|f| !self.features.has(f)) {
                for feature in names.split_whitespace().filter_map(feature) {
                    self.features = self.features.without(feature);
                }
            }
        }
        for feature in NOT_TRANSLATED.split_whitespace().filter_map(feature) {
            self.features = self.features.without(feature);
        }
    }
}

/// What a feature is there for: without the left one there is none of the right ones.
const REQUIRES: &[(&str, &str)] = &[
    ("xsave", "avx xsaveopt xsavec xgetbv1 xsaves"),
    ("avx", "avx2 fma f16c avx512f vaes vpclmulqdq avx-vnni"),
    (
        "avx512f",
        "avx512dq avx512bw avx512cd avx512vl avx512ifma avx512vbmi avx512vbmi2 avx512vnni \
         avx512bitalg avx512-vpopcntdq avx512-bf16 avx512-fp16 avx512-vp2intersect",
    ),
];

/// Features whose instructions are not translated yet.
const NOT_TRANSLATED: &str = "misalignsse xsaves svm monitor hle rtm fma4 tbm avx512-fp16 sha512 movdiri movdir64b \
     serialize pku ospke";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_like_models_and_names_are_one_each() {
        let all: Vec<&Model> = models().collect();
        for (n, model) in all.iter().enumerate() {
            assert!(all[..n].iter().all(|other| other.name != model.name), "{}", model.name);
            let known = model.like.is_empty() || all.iter().any(|other| other.name == model.like);
            assert!(known && model.vendor.len() == 12 && model.text.len() <= 48, "{}", model.name);
            for name in model.features.split_whitespace() {
                assert!(feature(name).is_some(), "{}: {name}", model.name);
            }
            assert!(parse(model.name).is_ok());
        }
    }

    #[test]
    fn generations_have_what_they_brought() {
        let has = |text: &str, name: &str| {
            let config = parse(text).ok()?;
            Some(config.features.has(feature(name)?))
        };
        let table = [
            ("Conroe", "ssse3", "sse4.1"),
            ("Westmere", "aes", "avx"),
            ("SandyBridge-v2", "avx", "f16c"),
            ("IvyBridge-IBRS", "f16c", "avx2"),
            ("Broadwell-noTSX", "adx", "sha-ni"),
            ("Skylake-Client", "xsavec", "avx512f"),
            ("Denverton", "sha-ni", "avx"),
            ("Opteron_G1", "pni", "cx16"),
        ];
        for (model, with, without) in table {
            assert_eq!(
                (has(model, with), has(model, without)),
                (Some(true), Some(false)),
                "{model}"
            );
        }
        assert!(parse("Haswell-xyz").is_err() && parse("Pentium9").is_err());
    }
}
