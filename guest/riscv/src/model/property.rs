//! `-cpu MODEL,property=value,…`.

use super::features::{Feature, FeatureSet};
use super::{
    Config, Kind, MODELS, Model, SatpMode, UNSUPPORTED, Version, all_available, available,
    extensions, letters, listed, names, rules,
};
use crate::hart::Xlen;
use std::fmt;

/// Why a CPU cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuError {
    /// No such model.
    UnknownModel {
        /// What was asked for.
        name: String,
    },
    /// Not `key=value`.
    NoValue {
        /// What was there.
        text: String,
    },
    /// A property that does not exist, or whose value does not fit.
    Property {
        /// The model.
        model: &'static str,
        /// The property.
        name: String,
        /// Its value.
        value: String,
        /// What is wrong.
        problem: String,
    },
    /// The result does not fit together.
    Combination(String),
}

impl fmt::Display for CpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownModel { name } => {
                write!(f, "unable to find CPU model '{name}'")?;
                match options::nearest(name, names()) {
                    Some(near) => write!(f, "; did you mean '{near}'?"),
                    None => write!(f, " (-cpu help lists them)"),
                }
            }
            Self::NoValue { text } => write!(f, "Expected key=value format, found {text}."),
            Self::Property { model, name, value, problem } => {
                write!(f, "can't apply global {model}-riscv-cpu.{name}={value}: {problem}")
            }
            Self::Combination(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for CpuError {}

/// Properties that are no features.
const OTHERS: &[&str] = &[
    "g",
    "sv32",
    "sv39",
    "sv48",
    "sv57",
    "sv64",
    "vlen",
    "elen",
    "cbom_blocksize",
    "cbop_blocksize",
    "cboz_blocksize",
    "priv_spec",
    "vext_spec",
    "pmu-mask",
    "pmu-num",
    "mvendorid",
    "marchid",
    "mimpid",
    "short-isa-string",
    "resetvec",
    "debug",
    "x-misa-w",
    "rva22u64",
    "rva22s64",
    "rva23u64",
    "rva23s64",
];

/// Features that are named in the ISA string but are no properties.
const SILENT: FeatureSet = FeatureSet::of(&[
    Feature::Zic64b,
    Feature::Ziccamoa,
    Feature::Ziccif,
    Feature::Zicclsm,
    Feature::Za64rs,
    Feature::Shcounterenw,
    Feature::Shgatpa,
    Feature::Shtvala,
    Feature::Shvsatpa,
    Feature::Shvstvala,
    Feature::Shvstvecd,
    Feature::Ssccptr,
    Feature::Sscounterenw,
    Feature::Ssstateen,
    Feature::Sstvala,
    Feature::Sstvecd,
    Feature::Ssu64xl,
]);

/// Every property and, where it is a switch, its type.
pub fn properties() -> impl Iterator<Item = (&'static str, &'static str)> {
    let switches = Feature::ALL.iter().filter(|f| !SILENT.has(**f)).map(|f| (f.name(), "bool"));
    switches.chain(OTHERS.iter().map(|name| (*name, "")))
}

/// Makes the configuration of `model,property=value,…`.
///
/// # Errors
/// Unknown names, values that do not fit, features that exclude or need each other.
pub fn parse(text: &str) -> Result<Config, CpuError> {
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default();
    let found = MODELS.iter().find(|m| m.name == name);
    let model = found.ok_or_else(|| CpuError::UnknownModel { name: name.to_owned() })?;
    let mut builder = Builder::new(model);
    for part in parts {
        let pair = part.split_once('=');
        let (name, value) = pair.ok_or_else(|| CpuError::NoValue { text: part.to_owned() })?;
        builder.set(name, value).map_err(|problem| CpuError::Property {
            model: model.name,
            name: name.to_owned(),
            value: value.to_owned(),
            problem,
        })?;
    }
    builder.finish().map_err(CpuError::Combination)
}

struct Builder {
    model: &'static Model,
    config: Config,
    version_given: bool,
    asked: FeatureSet,
    refused: FeatureSet,
    /// Satp modes turned on (true) and off.
    modes: Vec<(SatpMode, bool)>,
    profile_mode: Option<SatpMode>,
    /// What is wrong with a value, told once all properties are known.
    problem: Option<String>,
}

fn boolean(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "on" | "true" | "yes" | "y" => Ok(true),
        "off" | "false" | "no" | "n" => Ok(false),
        _ => Err(format!("Parameter '{name}' expects 'on' or 'off'")),
    }
}

fn number(name: &str, value: &str) -> Result<u64, String> {
    let parsed = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => value.parse(),
    };
    parsed.map_err(|_| format!("Parameter '{name}' expects uint64"))
}

impl Builder {
    fn new(model: &'static Model) -> Self {
        let [mvendorid, marchid, mimpid] = model.ids;
        let config = Config {
            model: model.name,
            xlen: model.xlen,
            version: model.version,
            features: letters(model.letters).union(listed(model.features)),
            ext: crate::decode::ExtSet::EMPTY,
            vlen: 128,
            elen: 64,
            cbom_block: 64,
            cbop_block: 64,
            cboz_block: 64,
            satp: model.satp,
            hpm_counters: 0x7_fff8,
            mvendorid,
            marchid,
            mimpid,
            short_isa_string: false,
            reset_pc: None,
        };
        let (asked, refused) = (FeatureSet::default(), FeatureSet::default());
        let (version_given, profile_mode) = (false, None);
        Self {
            model,
            config,
            version_given,
            asked,
            refused,
            modes: Vec::new(),
            profile_mode,
            problem: None,
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        if let Some(feature) = Feature::from_name(name)
            && !SILENT.has(feature)
            && feature != Feature::H
        {
            return self.set_feature(feature, boolean(name, value)?);
        }
        if UNSUPPORTED.contains(&name) {
            return match boolean(name, value)? {
                true => Err(format!("not supported yet: extension {name}")),
                false => Ok(()),
            };
        }
        if let Some(mode) = SatpMode::ALL.iter().copied().find(|m| m.name() == name)
            && (mode == SatpMode::Sv32) == (self.model.xlen == Xlen::Rv32)
            && mode != SatpMode::Bare
        {
            self.modes.push((mode, boolean(name, value)?));
            return Ok(());
        }
        self.set_other(name, value)
    }

    fn set_feature(&mut self, feature: Feature, present: bool) -> Result<(), String> {
        if present && self.model.kind == Kind::Vendor && !self.config.has(feature) {
            return Err(format!("'{}' CPU does not allow enabling extensions", self.model.name));
        }
        if present && !available(feature) {
            return Err(format!("not supported yet: extension {}", feature.name()));
        }
        self.asked = self.asked.set(feature, present);
        self.refused = self.refused.set(feature, !present);
        Ok(())
    }

    fn set_other(&mut self, name: &str, value: &str) -> Result<(), String> {
        let config = &mut self.config;
        match name {
            "vlen" | "elen" => {
                let bits = number(name, value)?;
                if !bits.is_power_of_two() {
                    let what = name.to_ascii_uppercase();
                    return Err(format!("Vector extension {what} must be power of 2"));
                }
                let bits = u32::try_from(bits).unwrap_or(u32::MAX);
                *(if name == "vlen" { &mut config.vlen } else { &mut config.elen }) = bits;
            }
            "cbom_blocksize" | "cbop_blocksize" | "cboz_blocksize" => {
                let bytes = number(name, value)?;
                let fits = bytes.is_power_of_two() && (4..=4096).contains(&bytes);
                if !fits {
                    return Err("a block is a power of two from 4 to 4096 bytes".to_owned());
                }
                let bytes = bytes as u16;
                match name {
                    "cbom_blocksize" => config.cbom_block = bytes,
                    "cbop_blocksize" => config.cbop_block = bytes,
                    _ => config.cboz_block = bytes,
                }
            }
            "mvendorid" => config.mvendorid = number(name, value)? & 0xffff_ffff,
            "marchid" => config.marchid = number(name, value)?,
            "mimpid" => config.mimpid = number(name, value)?,
            "resetvec" => config.reset_pc = Some(number(name, value)?),
            "short-isa-string" => config.short_isa_string = boolean(name, value)?,
            "debug" | "x-misa-w" => {
                if boolean(name, value)? && name == "x-misa-w" {
                    return Err("not supported yet: a writable misa".to_owned());
                }
            }
            "pmu-mask" => {
                let mask = number(name, value)?;
                if mask & 7 != 0 {
                    self.problem = Some("\"pmu-mask\" contains invalid bits (0-2) set".to_owned());
                }
                config.hpm_counters = u32::try_from(mask)
                    .map_err(|_| "Number of counters exceeds maximum available".to_owned())?;
            }
            "pmu-num" => {
                let count = number(name, value)?;
                if count > 29 {
                    return Err("Number of counters exceeds maximum available".to_owned());
                }
                config.hpm_counters = ((1u32 << count) - 1) << 3;
            }
            "priv_spec" => {
                config.version = match value {
                    "v1.10.0" => Version::V1_10,
                    "v1.11.0" => Version::V1_11,
                    "v1.12.0" => Version::V1_12,
                    "v1.13.0" => Version::V1_13,
                    _ => return Err(format!("Unsupported privilege spec version '{value}'")),
                };
                self.version_given = true;
            }
            "vext_spec" if value == "v1.0" => {}
            "vext_spec" => return Err(format!("Unsupported vector spec version '{value}'")),
            "g" => {
                return self.set_group(
                    &["i", "m", "a", "f", "d", "zicsr", "zifencei"],
                    name,
                    value,
                );
            }
            "rva22u64" | "rva22s64" | "rva23u64" | "rva23s64" => {
                return self.set_profile(name, value);
            }
            "sv64" if self.model.xlen == Xlen::Rv64 => {
                if boolean(name, value)? {
                    let best = self.model.satp.name();
                    let text = "is higher than hw max capability";
                    self.problem = Some(format!("satp_mode sv64 {text} {best}"));
                }
            }
            _ => return Err(self.unknown(name)),
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> String {
        let features = Feature::ALL.iter().filter(|f| !SILENT.has(**f)).map(|f| f.name());
        let known = features.chain(OTHERS.iter().copied());
        let hint = options::nearest(name, known)
            .map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
        format!("Property '{}-riscv-cpu.{name}' not found{hint}", self.model.name)
    }

    fn set_group(&mut self, members: &[&str], name: &str, value: &str) -> Result<(), String> {
        let present = boolean(name, value)?;
        members
            .iter()
            .filter_map(|m| Feature::from_name(m))
            .try_for_each(|f| if present { self.set_feature(f, true) } else { Ok(()) })
    }

    fn set_profile(&mut self, name: &str, value: &str) -> Result<(), String> {
        if !boolean(name, value)? {
            return Ok(());
        }
        if self.model.kind == Kind::Vendor {
            return Err(format!("Profile {name} is not available for vendor CPUs"));
        }
        if self.model.xlen == Xlen::Rv32 {
            return Err(format!("Profile {name} only available for 64 bit CPUs"));
        }
        let profile = MODELS.iter().find(|m| m.name == name);
        let profile = profile.expect("every profile is a model, too");
        let set = letters(profile.letters).union(listed(profile.features));
        self.config.features = self.config.features.union(set);
        self.config.version = self.config.version.max(profile.version);
        self.profile_mode = Some(profile.satp);
        Ok(())
    }

    /// The best satp mode after the properties.
    fn mode(&self) -> Result<SatpMode, String> {
        let best = self.model.satp;
        let base = self.profile_mode.map_or(best, |mode| mode.max(best));
        let on = self.modes.iter().filter(|(_, on)| *on).map(|(m, _)| *m).max();
        let off = self.modes.iter().filter(|(_, on)| !*on).map(|(m, _)| *m).min();
        match (on, off) {
            (Some(on), _) if on > base && self.model.kind == Kind::Vendor => Err(format!(
                "satp_mode {} is higher than hw max capability {}",
                on.name(),
                best.name()
            )),
            (Some(on), Some(off)) if off < on => {
                Err(format!("cannot disable {} satp mode if {} is enabled", off.name(), on.name()))
            }
            (Some(on), _) => Ok(on),
            (None, Some(off)) => {
                let below = SatpMode::ALL.iter().copied().filter(|m| {
                    *m < off && (*m != SatpMode::Sv32 || self.model.xlen == Xlen::Rv32)
                });
                Ok(below.max().unwrap_or(SatpMode::Bare).min(base))
            }
            (None, None) => Ok(base),
        }
    }

    fn finish(mut self) -> Result<Config, String> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let model = self.model;
        let mut set = self.config.features.union(self.asked).intersection(all_available());
        for feature in self.refused.iter() {
            set = set.set(feature, false);
        }
        if !self.version_given {
            let needed = self.asked.iter().map(rules::since).max();
            self.config.version = self.config.version.max(needed.unwrap_or(model.version));
        }
        let version = self.config.version;
        for feature in set.iter().filter(|f| rules::since(*f) > version) {
            set = set.set(feature, false);
        }
        let blocks = [self.config.cbom_block, self.config.cbop_block, self.config.cboz_block];
        let blocks_of_64 = blocks == [64; 3];
        set = rules::complete(model, version, set, self.refused, blocks_of_64);
        rules::check(model.xlen, set).map_err(str::to_owned)?;
        if set.has(Feature::Zve32x) {
            self.check_vector()?;
        }
        self.config.features = set;
        self.config.satp = if set.has(Feature::S) && !self.refused.has(Feature::Mmu) {
            self.mode()?
        } else {
            SatpMode::Bare
        };
        self.config.ext = extensions(model.xlen, set);
        Ok(self.config)
    }

    fn check_vector(&self) -> Result<(), String> {
        let what = "Vector extension implementation only supports";
        if !(128..=1024).contains(&self.config.vlen) {
            return Err(format!("{what} VLEN in the range [128, 1024]"));
        }
        if !(8..=64).contains(&self.config.elen) {
            return Err(format!("{what} ELEN in the range [8, 64]"));
        }
        Ok(())
    }
}
