//! What vector operations take and give.

use crate::ops::{Cond, FpCond, Rounding, Type, packed_enum};

packed_enum! {
    /// Width of the lanes of a vector operation.
    Lane {
        /// 8 bits.
        B8 "8",
        /// 16 bits.
        B16 "16",
        /// 32 bits.
        B32 "32",
        /// 64 bits.
        B64 "64",
    }
}

impl Lane {
    /// Width in bits.
    pub const fn bits(self) -> u32 {
        8 << self as u32
    }
    /// Width in bytes.
    pub const fn bytes(self) -> usize {
        1 << self as usize
    }
    /// The lane width that is `bits` wide, if it is one.
    pub fn of_bits(bits: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|lane| lane.bits() == bits)
    }
    /// Packed for an operation's `aux`, with what else goes there.
    pub const fn with(self, more: u16) -> u16 {
        self as u16 | more << Self::SHIFT
    }
    /// First bit of `aux` above the lane width.
    pub(crate) const SHIFT: u32 = 8;
}

/// What an operand or result of a vector operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Absent.
    None,
    /// An integer.
    Int,
    /// An integer constant.
    Const,
    /// A floating-point value of the width of the lanes.
    Float,
    /// A vector of the operation's type.
    Vector,
    /// A vector of 128 bits, where the operation's type is V256.
    Half,
}

impl Slot {
    /// Type of the vector that it is in an operation of a type, if it is one.
    pub fn vector(self, ty: Type) -> Option<Type> {
        match self {
            Self::Vector => Some(ty),
            Self::Half => Some(Type::V128),
            _ => None,
        }
    }
}

/// What is in the `aux` of a vector operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aux {
    /// Nothing.
    None,
    /// A [`Lane`] in the low byte.
    Lanes,
    /// A [`Lane`] wider than 8 bits.
    Wider,
    /// A [`Lane`] narrower than 64 bits.
    Narrower,
    /// A [`Lane`] of 8 or 16 bits.
    Packed,
    /// Only above that: any byte.
    Byte,
    /// A lane's number above that.
    Index,
    /// A number of bits above that, fewer than a lane has.
    Count,
    /// Only above that: 0 for the low half, 1 for the high one.
    WhichHalf,
    /// A [`Cond`] above that.
    Cond,
    /// A [`Lane`] of 32 or 64 bits: binary32 or binary64.
    Floats,
    /// A lane's number above that.
    FloatIndex,
    /// An [`FpCond`] above that.
    FloatCond,
    /// Above that, bit 0 to negate a product, bit 1 to negate what is added to it.
    Negate,
    /// A [`Rounding`] above that: the processor's, or towards zero.
    Rounding,
    /// A [`Lane`] of 64 bits.
    Doubles,
    /// Above that a [`Rounding`]: the processor's, or towards zero.
    DoublesRounding,
    /// Above that any [`Rounding`], and bit 7 to tell inexact results.
    Integral,
}

/// What tells inexact results among what `aux` has beside the lanes.
pub(crate) const EXACTLY: u16 = 1 << 7;

impl Aux {
    /// Whether lanes are floating-point values.
    pub fn is_float(self) -> bool {
        use Aux as A;
        matches!(
            self,
            A::Floats
                | A::FloatIndex
                | A::FloatCond
                | A::Negate
                | A::Rounding
                | A::Doubles
                | A::DoublesRounding
                | A::Integral
        )
    }
}

/// What a vector operation takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// The result.
    pub result: Slot,
    /// The operands.
    pub operands: [Slot; 3],
    /// What qualifies it.
    pub aux: Aux,
    /// Whether it works on the lowest lane alone.
    pub low: bool,
    /// The only type that it has, if there is but one.
    pub only: Option<Type>,
}

impl Form {
    const fn new(result: Slot, a: Slot, b: Slot, c: Slot, aux: Aux) -> Self {
        Self { result, operands: [a, b, c], aux, low: false, only: None }
    }
}

/// The forms by the names that the table of operations uses.
impl Form {
    pub(crate) const GET: Self =
        Self::new(Slot::Vector, Slot::Const, Slot::None, Slot::None, Aux::None);
    pub(crate) const PUT: Self =
        Self::new(Slot::None, Slot::Const, Slot::Vector, Slot::None, Aux::None);
    pub(crate) const FROM_INT: Self =
        Self::new(Slot::Vector, Slot::Int, Slot::None, Slot::None, Aux::Lanes);
    pub(crate) const TO_INT: Self =
        Self::new(Slot::Int, Slot::Vector, Slot::None, Slot::None, Aux::Lanes);
    pub(crate) const INSERT: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::Int, Slot::None, Aux::Index);
    pub(crate) const EXTRACT: Self =
        Self::new(Slot::Int, Slot::Vector, Slot::None, Slot::None, Aux::Index);
    pub(crate) const BINARY: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::Vector, Slot::None, Aux::Lanes);
    pub(crate) const LOGIC: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::Vector, Slot::None, Aux::None);
    pub(crate) const SCALAR: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::Int, Slot::None, Aux::Lanes);
    pub(crate) const COMPARE: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::Vector, Slot::None, Aux::Cond);
    pub(crate) const BLEND: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::Vector, Slot::Vector, Aux::None);
    pub(crate) const ROTATE: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::None, Slot::None, Aux::Count);
    pub(crate) const IOTA: Self =
        Self::new(Slot::Vector, Slot::None, Slot::None, Slot::None, Aux::Lanes);
    pub(crate) const WIDEN: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::None, Slot::None, Aux::Wider);
    pub(crate) const NARROW: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::None, Slot::None, Aux::Narrower);
    pub(crate) const ALIGN: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::Vector, Slot::None, Aux::Index);
    pub(crate) const PACK: Self = Self { aux: Aux::Packed, ..Self::LOGIC };
    pub(crate) const BYTE2: Self = Self { aux: Aux::Byte, ..Self::LOGIC };
    pub(crate) const BYTE1: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::None, Slot::None, Aux::Byte);
    pub(crate) const ONE: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::None, Slot::None, Aux::None);
    pub(crate) const BLOCK1: Self = Self { only: Some(Type::V128), ..Self::ONE };
    pub(crate) const BLOCK2: Self = Self { only: Some(Type::V128), ..Self::LOGIC };
    pub(crate) const BLOCK3: Self = Self { only: Some(Type::V128), ..Self::BLEND };
    pub(crate) const BLOCK_INT2: Self = Self { result: Slot::Int, ..Self::BLOCK_BYTE2 };
    pub(crate) const BLOCK_BYTE1: Self = Self { only: Some(Type::V128), ..Self::BYTE1 };
    pub(crate) const BLOCK_BYTE2: Self = Self { only: Some(Type::V128), ..Self::BYTE2 };
    pub(crate) const WIDE1: Self = Self { only: Some(Type::V256), ..Self::BYTE1 };
    pub(crate) const WIDE_LOGIC: Self = Self { only: Some(Type::V256), ..Self::LOGIC };
    pub(crate) const EXTEND: Self = Self {
        only: Some(Type::V256),
        ..Self::new(Slot::Vector, Slot::Half, Slot::None, Slot::None, Aux::None)
    };
    pub(crate) const HALF: Self = Self {
        only: Some(Type::V256),
        ..Self::new(Slot::Half, Slot::Vector, Slot::None, Slot::None, Aux::WhichHalf)
    };
    pub(crate) const JOIN: Self = Self {
        only: Some(Type::V256),
        ..Self::new(Slot::Vector, Slot::Half, Slot::Half, Slot::None, Aux::None)
    };
    pub(crate) const FROM_FLOAT: Self =
        Self::new(Slot::Vector, Slot::Float, Slot::None, Slot::None, Aux::Floats);
    pub(crate) const TO_FLOAT: Self =
        Self::new(Slot::Float, Slot::Vector, Slot::None, Slot::None, Aux::FloatIndex);
    pub(crate) const FLOAT1: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::None, Slot::None, Aux::Floats);
    pub(crate) const FLOAT2: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::Vector, Slot::None, Aux::Floats);
    pub(crate) const FLOAT3: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::Vector, Slot::Vector, Aux::Negate);
    pub(crate) const FLOAT_COMPARE: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::Vector, Slot::None, Aux::FloatCond);
    pub(crate) const ROUND: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::None, Slot::None, Aux::Rounding);
    pub(crate) const INTEGRAL: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::None, Slot::None, Aux::Integral);
    pub(crate) const DOUBLE1: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::None, Slot::None, Aux::Doubles);
    pub(crate) const DOUBLE_ROUND: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::None, Slot::None, Aux::DoublesRounding);
    pub(crate) const INSERT_FLOAT: Self =
        Self::new(Slot::Vector, Slot::Vector, Slot::Float, Slot::None, Aux::FloatIndex);
    pub(crate) const LOW: Self = Self { low: true, only: Some(Type::V128), ..Self::FLOAT2 };
    pub(crate) const LOW_COMPARE: Self = Self { aux: Aux::FloatCond, ..Self::LOW };
    pub(crate) const LOW_INTEGRAL: Self = Self { aux: Aux::Integral, ..Self::LOW };
    pub(crate) const BELOW: Self =
        Self::new(Slot::Vector, Slot::Int, Slot::Const, Slot::None, Aux::Lanes);
}

impl Aux {
    /// What `aux` adds to an operation's name in listings.
    pub(crate) fn print(self, aux: u16) -> String {
        let lane = || Lane::from_code(aux & 3).name();
        let more = aux >> Lane::SHIFT;
        match self {
            Self::None => String::new(),
            Self::Lanes
            | Self::Wider
            | Self::Narrower
            | Self::Packed
            | Self::Floats
            | Self::Doubles => lane().to_owned(),
            Self::WhichHalf | Self::Byte => format!("_{more}"),
            Self::Index | Self::Count | Self::FloatIndex | Self::Negate => {
                format!("{}_{more}", lane())
            }
            Self::FloatCond => format!("{}_{}", lane(), FpCond::from_code(more).name()),
            Self::Rounding | Self::DoublesRounding => {
                format!("{}_{}", lane(), Rounding::from_code(more).name())
            }
            Self::Integral => {
                let exactly = if more & EXACTLY != 0 { "x" } else { "" };
                format!("{}_{exactly}{}", lane(), Rounding::from_code(more & !EXACTLY).name())
            }
            Self::Cond => format!("{}_{}", lane(), Cond::from_code(more).name()),
        }
    }

    /// The reverse of [`Aux::print`].
    pub(crate) fn parse(self, text: &str) -> Option<u16> {
        macro_rules! code {
            ($t:ty, $name:expr) => {{
                let name = $name;
                <$t>::ALL.iter().position(|v| v.name() == name).map(|code| code as u16)
            }};
        }
        let (lane, more) = text.split_once('_').unwrap_or((text, ""));
        let more = match self {
            Self::None => return text.is_empty().then_some(0),
            Self::Lanes
            | Self::Wider
            | Self::Narrower
            | Self::Packed
            | Self::Floats
            | Self::Doubles => more.is_empty().then_some(0)?,
            Self::WhichHalf | Self::Byte => {
                return lane.is_empty().then_some(more.parse::<u16>().ok()?.checked_mul(256)?);
            }
            Self::FloatCond => code!(FpCond, more)?,
            Self::Rounding | Self::DoublesRounding => code!(Rounding, more)?,
            Self::Integral => match more.strip_prefix('x') {
                Some(rounding) => code!(Rounding, rounding)? | EXACTLY,
                None => code!(Rounding, more)?,
            },
            Self::Index | Self::Count | Self::FloatIndex | Self::Negate => {
                more.parse::<u8>().ok()?.into()
            }
            Self::Cond => code!(Cond, more)?,
        };
        let lane = code!(Lane, lane)?;
        Some(lane | more << Lane::SHIFT)
    }
}

/// Where an ISA keeps its vector registers in its state struct. They are not registers of the table:
/// operations name bytes of this region, and these are always exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VectorRegion {
    /// Byte offset in the state struct.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// The bytes of a vector, lowest first; those above its type's width mean nothing.
pub type VectorBytes = [u8; 32];
