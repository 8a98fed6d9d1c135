//! CPU models as data, and the properties that change them (`-cpu rv64,v=true,vlen=256`).
//!
//! Names, defaults and rules are those of `qemu-system-riscv64 -cpu help` of QEMU 10, as its device
//! trees show them. Left out: models whose vendor extensions are missing (thead-c906), x-rv128, and
//! everything in [`UNSUPPORTED`], which the models that have it elsewhere lack here.

mod features;
mod property;
mod rules;

pub use features::{Feature, FeatureSet};
pub use property::{CpuError, parse, properties};

use crate::decode::{Ext, ExtSet, INSNS};
use crate::hart::Xlen;
use Feature as F;
use std::sync::OnceLock;

/// Versions of the privileged architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.10.
    V1_10,
    /// 1.11.
    V1_11,
    /// 1.12.
    V1_12,
    /// 1.13.
    V1_13,
}

/// Modes of address translation, each including those before it of the same XLEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SatpMode {
    /// None.
    Bare,
    /// 32-bit addresses, two levels.
    Sv32,
    /// 39-bit addresses, three levels.
    Sv39,
    /// 48-bit addresses, four levels.
    Sv48,
    /// 57-bit addresses, five levels.
    Sv57,
}

impl SatpMode {
    /// Every mode.
    pub const ALL: &[Self] = &[Self::Bare, Self::Sv32, Self::Sv39, Self::Sv48, Self::Sv57];

    /// Name as a property; `none` in the device tree stands for bare.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bare => "none",
            Self::Sv32 => "sv32",
            Self::Sv39 => "sv39",
            Self::Sv48 => "sv48",
            Self::Sv57 => "sv57",
        }
    }

    /// Encoding in `satp.MODE` of RV64 (Sv32: of RV32).
    pub const fn code(self) -> u64 {
        match self {
            Self::Bare => 0,
            Self::Sv32 => 1,
            Self::Sv39 => 8,
            Self::Sv48 => 9,
            Self::Sv57 => 10,
        }
    }

    /// The RV64 mode with this encoding.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.iter().copied().find(|m| *m != Self::Sv32 && m.code() == code)
    }

    /// Whether a hart whose best mode this is has `mode`.
    pub fn allows(self, mode: Self) -> bool {
        mode <= self
    }
}

/// What a hart can do: the result of a CPU model and its properties.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the model.
    pub model: &'static str,
    /// Width of integer registers.
    pub xlen: Xlen,
    /// Version of the privileged architecture.
    pub version: Version,
    /// Everything it has, by name.
    pub features: FeatureSet,
    /// Extensions that encodings depend on, closed.
    pub ext: ExtSet,
    /// Width of vector registers in bits.
    pub vlen: u32,
    /// Widest vector element in bits.
    pub elen: u32,
    /// Bytes that `cbo.clean`, `cbo.flush` and `cbo.inval` work on.
    pub cbom_block: u16,
    /// Bytes that prefetches work on.
    pub cbop_block: u16,
    /// Bytes that `cbo.zero` works on.
    pub cboz_block: u16,
    /// Best mode of address translation.
    pub satp: SatpMode,
    /// Programmable counters, by number (3 to 31).
    pub hpm_counters: u32,
    /// `mvendorid`.
    pub mvendorid: u64,
    /// `marchid`.
    pub marchid: u64,
    /// `mimpid`.
    pub mimpid: u64,
    /// Whether the ISA string has single letters only.
    pub short_isa_string: bool,
    /// Where execution begins after a reset, if a property says so.
    pub reset_pc: Option<u64>,
}

impl Config {
    /// Whether the hart has `feature`.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.has(feature)
    }

    /// `riscv,isa` of the device tree.
    pub fn isa_string(&self) -> String {
        let mut text = String::from(if self.xlen == Rv32 { "rv32" } else { "rv64" });
        for feature in self.named() {
            if !feature.is_letter() {
                text.push('_');
            }
            text.push_str(feature.name());
        }
        text
    }

    /// `riscv,isa-base` of the device tree.
    pub fn isa_base(&self) -> &'static str {
        if self.xlen == Rv32 { "rv32i" } else { "rv64i" }
    }

    /// `riscv,isa-extensions` of the device tree.
    pub fn isa_extensions(&self) -> Vec<&'static str> {
        self.named().map(Feature::name).collect()
    }

    /// `mmu-type` of the device tree.
    pub fn mmu_type(&self) -> String {
        format!("riscv,{}", self.satp.name())
    }

    /// The features that the ISA string names.
    fn named(&self) -> impl Iterator<Item = Feature> {
        let silent = FeatureSet::of(&[F::S, F::U, F::Mmu, F::Pmp]);
        let short = self.short_isa_string;
        self.features.iter().filter(move |f| !silent.has(*f) && (f.is_letter() || !short))
    }
}

/// What a model lets properties do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Anything.
    Open,
    /// Only take away: it is somebody's product.
    Vendor,
}

/// A row of the table of models.
struct Model {
    name: &'static str,
    xlen: Xlen,
    kind: Kind,
    version: Version,
    satp: SatpMode,
    /// Letters of `misa`.
    letters: &'static str,
    /// What it has beside, by name.
    features: &'static str,
    /// `mvendorid`, `marchid`, `mimpid`.
    ids: [u64; 3],
}

const GENERIC: &str = "zicbom zicbop zicboz zicntr zicsr zifencei zihintntl zihintpause zihpm \
    zawrs zfa zba zbb zbc zbs sstc svadu svvptc mmu pmp";
const MAX: &str = "zicbom zicbop zicboz zicond zicntr zicsr zifencei zihintntl zihintpause zihpm \
    zimop zabha zacas zawrs zfa zfbfmin zfh zfhmin zcb zcmop zba zbb zbc zbkb zbkc zbkx zbs zk zkn \
    zknd zkne zknh zkr zks zksed zksh zkt zvbb zvbc zve32f zve32x zve64f zve64d zve64x zvfbfmin \
    zvfbfwma zvfh zvfhmin zvkb zvkg zvkn zvknc zvkned zvkng zvknha zvknhb zvks zvksc zvksed zvksg \
    zvksh zvkt smaia smepmp smmpm smnpm smstateen ssaia sscofpmf ssnpm sspm sstc supm svadu svinval \
    svnapot svpbmt svvptc mmu pmp";
const RVA22U: &str = "zicbom zicbop zicboz zicntr zicsr zihintpause zihpm zfhmin zba zbb zbs zkt";
const RVA22S: &str = "zicbom zicbop zicboz zicntr zicsr zifencei zihintpause zihpm zfhmin zba zbb \
    zbs zkt svade svinval svpbmt mmu";
const RVA23U: &str = "zicbom zicbop zicboz zicond zicntr zicsr zihintntl zihintpause zihpm zimop \
    zawrs zfa zfhmin zcb zcmop zba zbb zbs zkt zvbb zvfhmin zvkb zvkt smnpm ssnpm supm";
const RVA23S: &str = "zicbom zicbop zicboz zicond zicntr zicsr zifencei zihintntl zihintpause \
    zihpm zimop zawrs zfa zfhmin zcb zcmop zba zbb zbs zkt zvbb zvfhmin zvkb zvkt smnpm \
    smstateen sscofpmf ssnpm sstc supm svade svinval svnapot svpbmt mmu";
const SIFIVE_E: &str = "zicntr zicsr zifencei zihpm pmp";
const SIFIVE_U: &str = "zicntr zicsr zifencei zihpm mmu pmp";
const IBEX: &str = "zicntr zicsr zifencei zihpm zmmul zba zbb zbc zbs smepmp pmp";
const NANHU: &str = "zicntr zicsr zifencei zihpm zba zbb zbc zbkb zbkc zbkx zbs zknd zkne zknh \
    zksed zksh svinval mmu pmp";
const ASCALON: &str = "zicbom zicbop zicboz zicond zicntr zicsr zifencei zihintntl zihintpause \
    zihpm zimop zawrs zfa zfbfmin zfh zfhmin zcb zcmop zba zbb zbs zkt zvbb zvbc zve32f zve32x \
    zve64f zve64d zve64x zvfbfmin zvfbfwma zvfh zvfhmin zvkb zvkg zvkn zvkned zvkng zvknhb zvkt \
    smaia smstateen ssaia sscofpmf sstc svade svinval svnapot svpbmt mmu pmp";

const VEYRON: &str = "zicbom zicboz zicntr zicsr zifencei zihpm zba zbb zbc zbs smaia smstateen \
    ssaia sscofpmf sstc svinval svnapot svpbmt xventanacondops mmu pmp";

const fn open(
    name: &'static str,
    (xlen, version, satp): (Xlen, Version, SatpMode),
    letters: &'static str,
    features: &'static str,
) -> Model {
    Model { name, xlen, kind: Kind::Open, version, satp, letters, features, ids: [0; 3] }
}

const fn vendor(
    name: &'static str,
    (xlen, version, satp): (Xlen, Version, SatpMode),
    letters: &'static str,
    features: &'static str,
) -> Model {
    Model { name, xlen, kind: Kind::Vendor, version, satp, letters, features, ids: [0; 3] }
}

use SatpMode::{Bare, Sv32, Sv39, Sv48, Sv57};
use Version::{V1_10, V1_12, V1_13};
use Xlen::{Rv32, Rv64};

/// Every model, in the order of `-cpu help`.
#[rustfmt::skip]
static MODELS: &[Model] = &[
    vendor("lowrisc-ibex", (Rv32, V1_12, Bare), "imcu", IBEX),
    open("max", (Rv64, V1_13, Sv57), "imafdcbvsu", MAX),
    open("max32", (Rv32, V1_13, Sv32), "imafdcsu", GENERIC),
    open("rv32", (Rv32, V1_13, Sv32), "imafdcsu", GENERIC),
    open("rv32e", (Rv32, V1_10, Bare), "e", ""),
    open("rv32i", (Rv32, V1_10, Bare), "i", ""),
    open("rv64", (Rv64, V1_13, Sv57), "imafdcsu", GENERIC),
    open("rv64e", (Rv64, V1_10, Bare), "e", ""),
    open("rv64i", (Rv64, V1_10, Bare), "i", ""),
    open("rva22s64", (Rv64, V1_12, Sv39), "imafdcbsu", RVA22S),
    open("rva22u64", (Rv64, V1_12, Bare), "imafdcbu", RVA22U),
    open("rva23s64", (Rv64, V1_13, Sv39), "imafdcbvsu", RVA23S),
    open("rva23u64", (Rv64, V1_13, Bare), "imafdcbvu", RVA23U),
    vendor("shakti-c", (Rv64, V1_10, Sv39), "imafdcsu", SIFIVE_U),
    vendor("sifive-e31", (Rv32, V1_10, Bare), "imacu", SIFIVE_E),
    vendor("sifive-e34", (Rv32, V1_10, Bare), "imafcu", SIFIVE_E),
    vendor("sifive-e51", (Rv64, V1_10, Bare), "imacu", SIFIVE_E),
    vendor("sifive-u34", (Rv32, V1_10, Sv32), "imafdcsu", SIFIVE_U),
    vendor("sifive-u54", (Rv64, V1_10, Sv39), "imafdcsu", SIFIVE_U),
    vendor("tt-ascalon", (Rv64, V1_13, Sv57), "imafdcvsu", ASCALON),
    Model { ids: [0x61f, 0x8000_0000_0001_0000, 0x111], ..vendor("veyron-v1", (Rv64, V1_12, Sv48), "imafdcsu", VEYRON) },
    vendor("xiangshan-nanhu", (Rv64, V1_12, Sv39), "imafdcbsu", NANHU),
];

/// Properties of QEMU whose extensions are not supported yet.
pub const UNSUPPORTED: &[&str] = &[
    "h",
    "sha",
    "smcdeleg",
    "smcntrpmf",
    "smcsrind",
    "smctr",
    "smdbltrp",
    "smrnmi",
    "ssccfg",
    "sscsrind",
    "ssctr",
    "ssdbltrp",
    "x-svukte",
    "xtheadba",
    "xtheadbb",
    "xtheadbs",
    "xtheadcmo",
    "xtheadcondmov",
    "xtheadfmemidx",
    "xtheadfmv",
    "xtheadmac",
    "xtheadmemidx",
    "xtheadmempair",
    "xtheadsync",
    "zama16b",
    "zce",
    "zcmp",
    "zcmt",
    "zdinx",
    "zfinx",
    "zhinx",
    "zhinxmin",
    "zicfilp",
    "zicfiss",
    "ztso",
];

/// Names of the models, as `-cpu help` lists them.
pub fn names() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|m| m.name)
}

fn letters(text: &str) -> FeatureSet {
    let known = text.char_indices().filter_map(|(i, c)| F::from_name(&text[i..i + c.len_utf8()]));
    known.fold(FeatureSet::default(), |set, f| set.set(f, true))
}

fn listed(text: &str) -> FeatureSet {
    let known = text.split_whitespace().filter_map(F::from_name);
    known.fold(FeatureSet::default(), |set, f| set.set(f, true))
}

/// Whether the instructions of `ext` are translated: no line of the specification that names it
/// waits for its translation.
fn translated(ext: Ext) -> bool {
    /// Named by lines of other extensions, too, and complete.
    const BASE: ExtSet = ExtSet::of(&[
        Ext::Rv32,
        Ext::Rv64,
        Ext::I,
        Ext::F,
        Ext::D,
        Ext::S,
        Ext::Zicsr,
        Ext::Zfhmin,
        Ext::Zfbfmin,
    ]);
    static WAITING: OnceLock<ExtSet> = OnceLock::new();
    let waiting = WAITING.get_or_init(|| {
        // What the hypervisor extension adds to others does not keep those waiting.
        let lines = INSNS.iter().filter(|i| i.pending && !i.all.has(Ext::H));
        let named = lines.flat_map(|i| i.any.iter().chain([&i.all]));
        ExtSet(named.fold(0, |set, named| set | named.0) & !BASE.0).with(Ext::H)
    });
    !waiting.has(ext)
}

/// Whether a feature that a user asks for can be had.
fn available(feature: Feature) -> bool {
    match Ext::ALL.iter().find(|e| e.name() == feature.name()) {
        Some(ext) => ExtSet::of(&[*ext]).closed().iter().all(translated),
        None => feature != F::H,
    }
}

/// The features that can be had.
fn all_available() -> FeatureSet {
    let available = F::ALL.iter().copied().filter(|f| available(*f));
    available.fold(FeatureSet::default(), |set, f| set.set(f, true))
}

/// The decoder's view of a set of features.
fn extensions(xlen: Xlen, features: FeatureSet) -> ExtSet {
    let base = if xlen == Rv32 { Ext::Rv32 } else { Ext::Rv64 };
    let named = Ext::ALL
        .iter()
        .copied()
        .filter(|e| F::from_name(e.name()).is_some_and(|f| features.has(f)));
    named.fold(ExtSet::of(&[base]), ExtSet::with).closed()
}

#[cfg(test)]
mod tests;
