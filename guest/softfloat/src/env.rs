//! The floating-point environment: what an ISA's control register and manual fix, and the flags.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign};

/// How an inexact result is rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// To nearest, ties to even (IEEE `roundTiesToEven`).
    #[default]
    NearestEven,
    /// Toward zero.
    TowardZero,
    /// Toward negative infinity.
    Down,
    /// Toward positive infinity.
    Up,
    /// To nearest, ties away from zero (IEEE `roundTiesToAway`, RISC-V RMM).
    NearestMaxMag,
    /// Truncate, then set the lowest bit if anything was lost (“von Neumann” rounding).
    ToOdd,
}

impl Rounding {
    /// The mode of a RISC-V `frm`/`rm` field; `None` for reserved and dynamic encodings.
    #[must_use]
    pub const fn from_riscv(rm: u8) -> Option<Self> {
        Some(match rm {
            0 => Self::NearestEven,
            1 => Self::TowardZero,
            2 => Self::Down,
            3 => Self::Up,
            4 => Self::NearestMaxMag,
            _ => return None,
        })
    }

    /// Whether a positive or negative magnitude between two neighbours goes to the upper one.
    /// `odd`: the lower neighbour is odd; `rest`: what lies above it, compared with one half.
    #[inline]
    pub(crate) fn increments<W: Ord>(self, negative: bool, odd: bool, rest: &W, half: &W) -> bool {
        match self {
            Self::NearestEven => rest > half || (rest == half && odd),
            Self::NearestMaxMag => rest >= half,
            Self::TowardZero | Self::ToOdd => false,
            Self::Down => negative,
            Self::Up => !negative,
        }
    }

    /// Whether a magnitude too large for the format becomes infinity (else the largest number).
    #[inline]
    pub(crate) fn overflows_to_infinity(self, negative: bool) -> bool {
        match self {
            Self::NearestEven | Self::NearestMaxMag => true,
            Self::TowardZero | Self::ToOdd => false,
            Self::Down => negative,
            Self::Up => !negative,
        }
    }
}

/// When a result counts as tiny (IEEE 754 clause 7.5 leaves the choice to the implementer).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tininess {
    /// Before rounding (Arm, PowerPC).
    Before,
    /// After rounding to unbounded exponent range (RISC-V, x86).
    #[default]
    AfterRounding,
}

/// What happens to tiny results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushToZero {
    /// They stay subnormal.
    #[default]
    Off,
    /// They become zero, underflow is raised (Arm FPCR.FZ).
    Underflow,
    /// They become zero, underflow and inexact are raised (x86 MXCSR.FTZ).
    UnderflowInexact,
}

/// Which NaN operand an operation returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagate {
    /// None: always the default NaN (RISC-V; Arm with FPCR.DN).
    #[default]
    Never,
    /// The first NaN operand, quieted (x86 SSE, PowerPC).
    First,
    /// The first signalling one, else the first quiet one (Arm, s390x).
    SignallingFirst,
    /// A quiet one before a signalling one, else the larger significand, else the positive (x87).
    LargerSignificand,
}

/// The order in which a fused multiply-add `a * b + c` looks at its operands for NaNs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FmaOrder {
    /// a, b, c (x86).
    #[default]
    FactorsFirst,
    /// c, a, b (Arm).
    AddendFirst,
    /// a, c, b (PowerPC).
    AddendSecond,
}

/// The result of infinity × 0 + quiet NaN in a fused multiply-add (IEEE leaves it open).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InfZeroNan {
    /// The default NaN, invalid is raised (RISC-V, Arm).
    #[default]
    DefaultInvalid,
    /// A NaN operand, invalid is raised (PowerPC).
    PropagateInvalid,
    /// A NaN operand, nothing is raised (x86).
    PropagateQuiet,
}

/// The fraction of the default NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NanFraction {
    /// Only the highest fraction bit.
    #[default]
    Top,
    /// All fraction bits (SPARC, m68k).
    All,
    /// All but the highest (MIPS before 2008 encoding).
    AllButTop,
    /// Only the second highest (PA-RISC).
    Second,
}

/// How NaNs are recognised, chosen and made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NanRule {
    /// Which operand is returned.
    pub propagate: Propagate,
    /// Operand order of fused multiply-add.
    pub fma_order: FmaOrder,
    /// Infinity × 0 + quiet NaN.
    pub inf_zero_nan: InfZeroNan,
    /// Sign of the default NaN.
    pub default_negative: bool,
    /// Fraction of the default NaN.
    pub default_fraction: NanFraction,
    /// The highest fraction bit marks signalling NaNs instead of quiet ones (old MIPS, PA-RISC).
    /// Such a signalling NaN is replaced by the default NaN when an operation would return it.
    pub signalling_bit: bool,
}

impl NanRule {
    /// RISC-V: the canonical NaN, always.
    pub const RISCV: Self = Self {
        propagate: Propagate::Never,
        fma_order: FmaOrder::FactorsFirst,
        inf_zero_nan: InfZeroNan::DefaultInvalid,
        default_negative: false,
        default_fraction: NanFraction::Top,
        signalling_bit: false,
    };

    /// x86 SSE and AVX: the first NaN operand; the default (“real indefinite”) is negative.
    pub const X86_SSE: Self = Self {
        propagate: Propagate::First,
        inf_zero_nan: InfZeroNan::PropagateQuiet,
        default_negative: true,
        ..Self::RISCV
    };

    /// x87: the larger significand.
    pub const X87: Self = Self { propagate: Propagate::LargerSignificand, ..Self::X86_SSE };

    /// Arm with FPCR.DN clear.
    pub const ARM: Self = Self {
        propagate: Propagate::SignallingFirst,
        fma_order: FmaOrder::AddendFirst,
        ..Self::RISCV
    };

    /// Arm with FPCR.DN set.
    pub const ARM_DEFAULT_NAN: Self = Self { propagate: Propagate::Never, ..Self::ARM };
}

/// What a conversion to an integer returns when the number does not fit (invalid is raised).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IntOverflow {
    /// The nearest integer; NaN gives the largest (RISC-V).
    #[default]
    SaturateNanMax,
    /// The nearest integer; NaN gives 0 (Arm).
    SaturateNanZero,
    /// The nearest integer; NaN gives the smallest (PowerPC).
    SaturateNanMin,
    /// The “integer indefinite”: the highest bit alone if signed, all bits if unsigned (x86).
    Indefinite,
}

/// Precision to which x87 arithmetic on the 80-bit format rounds (the control word's PC field).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExtendedPrecision {
    /// 24 bits.
    Single,
    /// 53 bits.
    Double,
    /// 64 bits.
    #[default]
    Extended,
}

/// A set of exception flags; the lowest five bits are laid out as in RISC-V's `fflags`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// The result was rounded.
    pub const INEXACT: Self = Self(1 << 0);
    /// The result was tiny and inexact, or flushed to zero.
    pub const UNDERFLOW: Self = Self(1 << 1);
    /// The rounded result was too large.
    pub const OVERFLOW: Self = Self(1 << 2);
    /// An exact infinity from finite operands.
    pub const DIV_BY_ZERO: Self = Self(1 << 3);
    /// No useful result is defined.
    pub const INVALID: Self = Self(1 << 4);
    /// A subnormal operand took part (x86 DE).
    pub const INPUT_DENORMAL: Self = Self(1 << 5);
    /// A subnormal operand was taken for zero (Arm IDC).
    pub const INPUT_FLUSHED: Self = Self(1 << 6);

    const NAMES: [(Self, &str); 7] = [
        (Self::INVALID, "invalid"),
        (Self::DIV_BY_ZERO, "div_by_zero"),
        (Self::OVERFLOW, "overflow"),
        (Self::UNDERFLOW, "underflow"),
        (Self::INEXACT, "inexact"),
        (Self::INPUT_DENORMAL, "input_denormal"),
        (Self::INPUT_FLUSHED, "input_flushed"),
    ];

    /// No flag.
    #[must_use]
    pub const fn empty() -> Self {
        Self(0)
    }

    /// All bits, including the two that RISC-V does not have.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The bits of RISC-V's `fflags`: NV DZ OF UF NX.
    #[must_use]
    pub const fn riscv(self) -> u8 {
        self.0 & 0x1f
    }

    /// A set from [`Flags::bits`]; unknown bits are dropped.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0x7f)
    }

    /// Whether no flag is raised.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are raised.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Raises and lowers nothing but what `other` has: set union.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl BitAnd for Flags {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOrAssign for Flags {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raised = Self::NAMES.iter().filter(|(flag, _)| self.contains(*flag));
        f.debug_set().entries(raised.map(|(_, name)| name)).finish()
    }
}

/// Everything beside the operands that decides a result, and the flags the operations raise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    /// Rounding mode.
    pub rounding: Rounding,
    /// When a result is tiny.
    pub tininess: Tininess,
    /// What happens to tiny results.
    pub flush_to_zero: FlushToZero,
    /// Subnormal operands are taken for zeros of the same sign.
    pub denormals_are_zero: bool,
    /// How NaNs are handled.
    pub nan: NanRule,
    /// What a conversion to an integer returns when the number does not fit.
    pub int_overflow: IntOverflow,
    /// Precision of arithmetic on the 80-bit format.
    pub extended_precision: ExtendedPrecision,
    /// Raised exceptions; operations only ever add to them.
    pub flags: Flags,
    /// Whether the last rounding made the magnitude larger (x87 C1); meaningless without one.
    pub rounded_up: bool,
}

impl Env {
    /// RISC-V.
    #[must_use]
    pub fn riscv(rounding: Rounding) -> Self {
        Self { rounding, ..Self::default() }
    }

    /// x86 SSE with MXCSR's flush bits clear.
    #[must_use]
    pub fn x86_sse(rounding: Rounding) -> Self {
        let (nan, int_overflow) = (NanRule::X86_SSE, IntOverflow::Indefinite);
        Self { rounding, nan, int_overflow, ..Self::default() }
    }

    /// x87 with 64-bit precision.
    #[must_use]
    pub fn x87(rounding: Rounding) -> Self {
        Self { nan: NanRule::X87, ..Self::x86_sse(rounding) }
    }

    /// Arm with FPCR's FZ and DN clear.
    #[must_use]
    pub fn arm(rounding: Rounding) -> Self {
        Self {
            rounding,
            tininess: Tininess::Before,
            nan: NanRule::ARM,
            int_overflow: IntOverflow::SaturateNanZero,
            ..Self::default()
        }
    }

    #[inline]
    pub(crate) fn raise(&mut self, flags: Flags) {
        self.flags |= flags;
    }
}
