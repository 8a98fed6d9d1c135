//! The table of operations, and the small enums that qualify them.

use crate::vector::Form;

/// Type of an operation's result and operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Type {
    /// Low 32 bits of the operands; results are zero-extended.
    I32,
    /// 64 bits.
    I64,
    /// Binary32 in the low half of a floating-point register. The upper half of an operand is
    /// ignored, that of a result unspecified: use `fbox` before it is kept or read as 64 bits.
    F32,
    /// Binary64 in a floating-point register.
    F64,
    /// 128 bits of lanes in a vector register.
    V128,
    /// 256 bits of lanes in a vector register.
    V256,
}

impl Type {
    /// Every type.
    pub const ALL: &[Self] = &[Self::I32, Self::I64, Self::F32, Self::F64, Self::V128, Self::V256];

    /// Whether it is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// Whether it is a vector type.
    pub fn is_vector(self) -> bool {
        matches!(self, Self::V128 | Self::V256)
    }

    /// Width of a vector type in bytes; 8 for all others.
    pub fn bytes(self) -> usize {
        match self {
            Self::V128 => 16,
            Self::V256 => 32,
            _ => 8,
        }
    }
}

/// What an operation does beside computing its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effects(u8);

impl Effects {
    /// Only its result matters: dead when that is unused.
    pub const NONE: Self = Self(0);
    /// May end the unit with a guest exception; guest state must be exact.
    pub const FAULTS: Self = Self(1);
    /// Reads or writes guest memory or state that the operands do not name.
    pub const STATE: Self = Self(2);
    /// Leaves the unit, always or sometimes, or is the target of a branch.
    pub const CONTROL: Self = Self(4);
    /// May set floating-point exception flags.
    pub const FLAGS: Self = Self(8);
    /// Its result depends on guest state that the operands do not name: dead when that is unused,
    /// and not to be moved across operations with `STATE`.
    pub const READS: Self = Self(16);
    const MEMORY: Self = Self(3);

    /// Whether all of `other` are among these.
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

macro_rules! form {
    () => {
        None
    };
    ($form:ident) => {
        Some(Form::$form)
    };
}

macro_rules! operations {
    ($($(#[$doc:meta])* $kind:ident $name:literal $arity:literal $effects:ident $($form:ident)?;)*) => {
        /// What an operation computes. `a`, `b`, `c` are its operands, `aux` qualifies it.
        ///
        /// Operations on vectors have a [`Form`], which says what their operands are and what is in
        /// `aux`: mostly a [`Lane`](crate::Lane), the width of the lanes that they work on one by one. Lane 0 is in
        /// the lowest bits and bytes are little-endian, in memory, too. What is in each lane of a
        /// result depends on nothing but the same lanes of the operands where nothing else is said.
        /// There are no masks: what must not be written is blended with the old value, and operands of
        /// lanes that do not count and could raise floating-point flags are blended with harmless
        /// ones before.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum OpKind { $($(#[$doc])* $kind),* }

        impl OpKind {
            /// Every operation.
            pub const ALL: &[Self] = &[$(Self::$kind),*];
            /// Name in listings.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),* }
            }
            /// Number of operands.
            #[inline]
            pub fn arity(self) -> usize {
                const ARITIES: &[u8] = &[$($arity),*];
                usize::from(ARITIES[self as usize])
            }
            /// What it does beside computing its result.
            #[inline]
            pub fn effects(self) -> Effects {
                const EFFECTS: &[Effects] = &[$(Effects::$effects),*];
                EFFECTS[self as usize]
            }
            /// What a vector operation takes and gives; nothing for all others.
            pub fn form(self) -> Option<Form> {
                match self { $(Self::$kind => form!($($form)?)),* }
            }
        }
    };
}

operations! {
    /// Copy of all 64 bits, whatever the type; that tells the class only.
    Mov "mov" 1 NONE;
    /// a + b
    Add "add" 2 NONE;
    /// a − b
    Sub "sub" 2 NONE;
    /// a & b
    And "and" 2 NONE;
    /// a | b
    Or "or" 2 NONE;
    /// a ^ b
    Xor "xor" 2 NONE;
    /// a & !b
    AndNot "andnot" 2 NONE;
    /// a << (b mod width)
    Shl "shl" 2 NONE;
    /// a >> (b mod width), zeros shifted in
    Shr "shr" 2 NONE;
    /// a >> (b mod width), sign shifted in
    Sar "sar" 2 NONE;
    /// Rotate left by b mod width.
    Rotl "rotl" 2 NONE;
    /// Rotate right by b mod width.
    Rotr "rotr" 2 NONE;
    /// Low half of a · b.
    Mul "mul" 2 NONE;
    /// High half of the signed product; 64-bit only.
    MulHigh "mulh" 2 NONE;
    /// High half of the unsigned product; 64-bit only.
    MulHighU "mulhu" 2 NONE;
    /// High half of signed a times unsigned b; 64-bit only.
    MulHighSU "mulhsu" 2 NONE;
    /// Signed quotient; by zero: all ones; overflow: a.
    Div "div" 2 NONE;
    /// Unsigned quotient; by zero: all ones.
    DivU "divu" 2 NONE;
    /// Signed remainder; by zero: a; overflow: 0.
    Rem "rem" 2 NONE;
    /// Unsigned remainder; by zero: a.
    RemU "remu" 2 NONE;
    /// Signed minimum.
    Min "min" 2 NONE;
    /// Signed maximum.
    Max "max" 2 NONE;
    /// Unsigned minimum.
    MinU "minu" 2 NONE;
    /// Unsigned maximum.
    MaxU "maxu" 2 NONE;
    /// Leading zeros; of zero: the width.
    Clz "clz" 1 NONE;
    /// Trailing zeros; of zero: the width.
    Ctz "ctz" 1 NONE;
    /// Number of set bits.
    Popcnt "popcnt" 1 NONE;
    /// Bytes in reverse order.
    Bswap "bswap" 1 NONE;
    /// a with the low `aux` bits (8 or 16) of b in the place of its own.
    Insert "insert" 2 NONE;
    /// The low bits of a at the places where b has ones ([`bits::deposit`](crate::bits::deposit)).
    Deposit "deposit" 2 NONE;
    /// The bits of a at the places where b has ones, side by side.
    Extract "extract" 2 NONE;
    /// The CRC-32C of the low `aux` bits (8, 16, 32, 64) of b, after a ([`bits::crc32c`](crate::bits::crc32c)).
    Crc32 "crc" 2 NONE;
    /// Sign extension from the low `aux` bits (8, 16, 32) to 64.
    Sext "sext" 1 NONE;
    /// Zero extension from the low `aux` bits (8, 16, 32) to 64.
    Zext "zext" 1 NONE;
    /// 1 if a `aux: Cond` b, else 0; 64-bit or 32-bit compare by type.
    SetCond "setcond" 2 NONE;
    /// b if a ≠ 0, else c; all 64 bits of each, whatever the type.
    Select "select" 3 NONE;

    /// Loads `aux: MemOp` at a + b (b a constant), wrapping; into a floating-point register by type,
    /// F32 as `U32`, F64 as `U64`; into a vector V128 as `V128`, V256 as `V256`.
    Load "load" 2 MEMORY;
    /// Stores the low bytes of c as `aux: MemOp` at a + b (b a constant); c is of the type's class. All
    /// bytes are written or, when it faults, none.
    Store "store" 3 MEMORY;
    /// Atomically: old = [a]; [a] = old `AmoOp` b. `aux` packs both; result: old, extended. Faults
    /// when misaligned.
    Amo "amo" 2 MEMORY;
    /// Atomically: old = [a]; if old = b then [a] = c. Result: old, extended as `aux: MemOp` says;
    /// b is compared in the operation's width. Faults when misaligned.
    Cas "cas" 3 MEMORY;
    /// Orders memory accesses: full barrier.
    Fence "fence" 0 STATE;

    /// Calls helper `aux`, which may read and change all guest state and may fault. The arguments
    /// are read before, the result is written after it.
    Call "call" 3 MEMORY;
    /// Calls leaf helper `aux` with a, b and c: a function of the ISA's state that cannot fault or leave, and
    /// neither touches guest memory nor computes with the host's vector units. It may read and write all of
    /// the state but the guest registers that are pinned.
    Leaf "leaf" 3 STATE;

    /// The 64 bits of an integer in a floating-point register, whatever the type.
    ToFloat "tofloat" 1 NONE;
    /// The bits of float a as an integer: all 64, or (`aux` = 32) the low half, zero-extended.
    ToInt "toint" 1 NONE;
    /// Float a with the upper half of its register all ones (NaN-boxed); F32 only.
    FBox "fbox" 1 NONE;
    /// Low half of a if its upper half is all ones, else the default NaN; F32 only. With `aux` = 16
    /// the same of the low quarter, a binary16, and still boxed.
    FUnbox "funbox" 1 NONE;
    /// a + b. Like all that follow: rounded as the `Rounding` in `aux` from bit 8 on says, tininess is
    /// detected after rounding. What is said of NaNs, extrema and integers here and below is what
    /// [`FloatRules::Canonical`] says: a NaN result is the default NaN (positive, quiet, no payload).
    FAdd "fadd" 2 FLAGS;
    /// a − b
    FSub "fsub" 2 FLAGS;
    /// a · b
    FMul "fmul" 2 FLAGS;
    /// a / b
    FDiv "fdiv" 2 FLAGS;
    /// IEEE 754-2019 minimumNumber: a quiet NaN loses against a number, −0 is less than +0, a
    /// signalling NaN is invalid.
    FMin "fmin" 2 FLAGS;
    /// IEEE 754-2019 maximumNumber, alike.
    FMax "fmax" 2 FLAGS;
    /// √a
    FSqrt "fsqrt" 1 FLAGS;
    /// ±(a · b) ± c, rounded once; `aux` bit 0 negates the product, bit 1 negates c.
    FMulAdd "fmuladd" 3 FLAGS;
    /// 1 if a `aux: FpCond` b, else 0; integer result.
    FCompare "fcompare" 2 FLAGS;
    /// How a relates to b, an integer: 0 for greater, 1 for less, 64 for equal, 69 for unordered. With
    /// `aux` = 1 any NaN is invalid, else a signalling one.
    FRelate "frelate" 2 FLAGS;
    /// Converts between F32 and F64: to the operation's type from the other; NaN to the default NaN.
    FConvert "fconvert" 1 FLAGS;
    /// Signed integer (`aux` = 32 or 64 bits) to float.
    FFromInt "ffromint" 1 FLAGS;
    /// Unsigned integer (`aux` = 32 or 64 bits) to float.
    FFromUInt "ffromuint" 1 FLAGS;
    /// Float of the operation's type to signed integer (`aux` = 32 or 64 bits), saturating, NaN to the
    /// maximum, both invalid and not inexact. 32-bit results are sign-extended to 64.
    FToInt "ftoint" 1 FLAGS;
    /// The same to unsigned integer; 32-bit results are sign-extended, too.
    FToUInt "ftouint" 1 FLAGS;
    /// a rounded to an integral value; inexact if that changes it and `aux` bit 0 is set.
    FRound "fround" 1 FLAGS;
    /// The binary16 in the low quarter of a's register, whatever is above, as F32.
    FFromHalf "ffromhalf" 1 FLAGS;
    /// F32 to binary16 in the low quarter of a register, the others all ones.
    FToHalf "ftohalf" 1 FLAGS;

    /// Exception flags that the host's units collected since they were last taken away, as an
    /// integer: invalid 16, division by zero 8, overflow 4, underflow 2, inexact 1 and, where the rules
    /// know it, denormal operand 32. An executor that puts flags into the state at once answers 0.
    FlagsGet "flagsget" 0 FLAGS;
    /// Takes away what `FlagsGet` answers.
    FlagsClear "flagsclear" 0 FLAGS;

    /// Copies memory at a to the vector registers. b (a constant) is the first byte there and, above its
    /// low 32 bits, how many bytes: 4, 8 or a multiple of 16. That is what helper `aux` does, called
    /// with c, a and b, and it is called where the bytes cannot be had in one piece. The result, if
    /// there is one, is the helper's, or 0 for a copy in one piece.
    VCopyIn "vcopyin" 3 MEMORY;
    /// Copies vector registers to memory at a, alike.
    VCopyOut "vcopyout" 3 MEMORY;
    /// Copies the first c bytes at a, but not more than fit, to the vector registers. b (a constant) has
    /// the first byte there, from bit 16 on how many fit (16 or a multiple of 32), and from bit 32 on
    /// an argument. That is what helper `aux` does, called with the argument, a and c, and it is called
    /// where all that could be copied is not in one piece.
    VCopySomeIn "vcopysomein" 3 MEMORY;
    /// Copies vector registers to memory at a, alike.
    VCopySomeOut "vcopysomeout" 3 MEMORY;

    // Vectors. These have a `Form`, and a vector type.
    /// The vector at byte a (a constant) of the guest's vector registers.
    VGet "vget" 1 READS GET;
    /// Writes b to byte a (a constant) and following of the guest's vector registers.
    VPut "vput" 2 STATE PUT;
    /// The low bits of integer a in each lane.
    VSplat "vsplat" 1 NONE FROM_INT;
    /// Vector a with the low bits of integer b in one lane.
    VInsert "vinsert" 2 NONE INSERT;
    /// A lane of a as an integer, zero-extended.
    VExtract "vextract" 1 NONE EXTRACT;
    /// a + b
    VAdd "vadd" 2 NONE BINARY;
    /// a − b
    VSub "vsub" 2 NONE BINARY;
    /// Low half of a · b.
    VMul "vmul" 2 NONE BINARY;
    /// a & b
    VAnd "vand" 2 NONE LOGIC;
    /// a | b
    VOr "vor" 2 NONE LOGIC;
    /// a ^ b
    VXor "vxor" 2 NONE LOGIC;
    /// a & !b
    VAndNot "vandnot" 2 NONE LOGIC;
    /// a << (b mod width)
    VShl "vshl" 2 NONE BINARY;
    /// a >> (b mod width), zeros shifted in
    VShr "vshr" 2 NONE BINARY;
    /// a >> (b mod width), sign shifted in
    VSar "vsar" 2 NONE BINARY;
    /// a << (integer b mod width)
    VShlBy "vshlby" 2 NONE SCALAR;
    /// a >> (integer b mod width), zeros shifted in
    VShrBy "vshrby" 2 NONE SCALAR;
    /// a >> (integer b mod width), sign shifted in
    VSarBy "vsarby" 2 NONE SCALAR;
    /// Rotated to the left by the constant above the lane width.
    VRotate "vrotate" 1 NONE ROTATE;
    /// Signed minimum.
    VMin "vmin" 2 NONE BINARY;
    /// Signed maximum.
    VMax "vmax" 2 NONE BINARY;
    /// Unsigned minimum.
    VMinU "vminu" 2 NONE BINARY;
    /// Unsigned maximum.
    VMaxU "vmaxu" 2 NONE BINARY;
    /// All ones if the condition holds, else zero.
    VCompare "vcompare" 2 NONE COMPARE;
    /// By byte: b's if the byte of a has its top bit set, else c's. So a may be a mask of lanes of any
    /// width that are all ones or zero.
    VBlend "vblend" 3 NONE BLEND;
    /// The top bits of the lanes as an integer, lane 0's in bit 0.
    VToBits "vtobits" 1 NONE TO_INT;
    /// All ones where integer a has the bit with the lane's number set, else zero.
    VFromBits "vfrombits" 1 NONE FROM_INT;
    /// All ones in lane i if i + b (a constant below 2³¹) is less than a, unsigned in 64 bits, else
    /// zero: the lanes below a vector length.
    VBelow "vbelow" 2 NONE BELOW;

    /// a + b, or the nearest that signed lanes can hold.
    VAddSat "vaddsat" 2 NONE BINARY;
    /// a + b, or the nearest that unsigned lanes can hold.
    VAddSatU "vaddsatu" 2 NONE BINARY;
    /// a − b, or the nearest that signed lanes can hold.
    VSubSat "vsubsat" 2 NONE BINARY;
    /// a − b, or the nearest that unsigned lanes can hold.
    VSubSatU "vsubsatu" 2 NONE BINARY;
    /// (a + b + 1) / 2 of unsigned lanes, with all bits of the sum.
    VAvgU "vavgu" 2 NONE BINARY;
    /// High half of the signed product.
    VMulHigh "vmulhigh" 2 NONE BINARY;
    /// High half of the unsigned product.
    VMulHighU "vmulhighu" 2 NONE BINARY;
    /// Each lane holds its number.
    VIota "viota" 0 NONE IOTA;
    /// The lanes of half the width in the low half of a, sign-extended.
    VWiden "vwiden" 1 NONE WIDEN;
    /// The lanes of half the width in the low half of a, zero-extended.
    VWidenU "vwidenu" 1 NONE WIDEN;
    /// The low halves of the lanes of a, which are of twice the width, in the low half of the result,
    /// whose high half is zero.
    VNarrow "vnarrow" 1 NONE NARROW;
    /// Byte i is the byte of a whose number is in byte i of b; zero if a has no such byte.
    VShuffle "vshuffle" 2 NONE LOGIC;
    /// In each 128 bits: the lanes of the low halves of a and b, by turns, a's first.
    VUnpackLow "vunpacklow" 2 NONE BINARY;
    /// In each 128 bits: the lanes of the high halves of a and b, by turns, a's first.
    VUnpackHigh "vunpackhigh" 2 NONE BINARY;
    /// Lanes from `aux`'s index on of a, followed by b: as many as a vector has.
    VAlign "valign" 2 NONE ALIGN;
    /// In each 128 bits: the lanes of a, then those of b, all of twice the width, each as the nearest
    /// that signed lanes can hold.
    VPack "vpack" 2 NONE PACK;
    /// The same: the nearest that unsigned lanes can hold, of signed ones.
    VPackU "vpacku" 2 NONE PACK;
    /// In lanes of 32 bits: the sum of the products of their signed halves.
    VPairs16 "vpairswords" 2 NONE LOGIC;
    /// In lanes of 16 bits: the sum of the products of their bytes, a's unsigned and b's signed, or the
    /// nearest that signed lanes can hold.
    VPairs8 "vpairsbytes" 2 NONE LOGIC;
    /// In lanes of 64 bits: the sum of the differences of their unsigned bytes, without signs.
    VDistance "vdistance" 2 NONE LOGIC;
    /// In lanes of 64 bits: the product of their low halves, signed.
    VMulLow "vmullow" 2 NONE LOGIC;
    /// In lanes of 64 bits: the product of their low halves, unsigned.
    VMulLowU "vmullowu" 2 NONE LOGIC;
    /// In lanes of 16 bits: (a · b + 2¹⁴) / 2¹⁵, signed.
    VMulRound "vmulround" 2 NONE LOGIC;
    /// In each 128 bits: byte i is the byte of a whose number is in the low four bits of byte i of b;
    /// zero if that has its top bit set.
    VShuffleEach "vshuffleeach" 2 NONE LOGIC;
    /// In each 128 bits: the lanes of 32 bits of a whose numbers are in `aux`, two bits each.
    VPick "vpick" 1 NONE BYTE1;
    /// In each 128 bits: of the four lowest lanes of 16 bits those whose numbers are in `aux`; then the
    /// others.
    VPickLow "vpicklow" 1 NONE BYTE1;
    /// The same with the four highest.
    VPickHigh "vpickhigh" 1 NONE BYTE1;
    /// In each 128 bits: two lanes of 32 bits of a and two of b, whose numbers are in `aux`.
    VPickTwo "vpicktwo" 2 NONE BYTE2;
    /// One lane of 64 bits of each 128 of a and b by turns, whose numbers are the bits of `aux`.
    VPickOne "vpickone" 2 NONE BYTE2;
    /// In each 128 bits: bytes from `aux` on of a, followed by b, followed by zeros.
    VAlignEach "valigneach" 2 NONE BYTE2;
    /// Lanes of 32 bits: b's where the bit of `aux` is set, else a's.
    VChoose32 "vchoosewords" 2 NONE BYTE2;
    /// In each 128 bits the same with lanes of 16 bits.
    VChoose16 "vchoosehalves" 2 NONE BYTE2;
    /// The lanes of 64 bits of a whose numbers are in `aux`, two bits each.
    VPermute64 "vpermutedoubles" 1 NONE WIDE1;
    /// The lanes of 32 bits of a whose numbers, modulo 8, are in those of b.
    VPermute32 "vpermutewords" 2 NONE WIDE_LOGIC;
    /// A round of AES encryption of block a with the round key b ([`cipher`](crate::cipher)).
    VAesEncrypt "vaesencrypt" 2 NONE BLOCK2;
    /// The last round.
    VAesEncryptLast "vaesencryptlast" 2 NONE BLOCK2;
    /// A round of the equivalent inverse cipher.
    VAesDecrypt "vaesdecrypt" 2 NONE BLOCK2;
    /// The last round.
    VAesDecryptLast "vaesdecryptlast" 2 NONE BLOCK2;
    /// Inverse mixed columns.
    VAesMix "vaesmix" 1 NONE BLOCK1;
    /// Substituted words for round keys, with the constant in `aux`.
    VAesAssist "vaesassist" 1 NONE BLOCK_BYTE1;
    /// The carry-less product of one half of a and one of b, by bits 0 and 4 of `aux`.
    VCarryless "vcarryless" 2 NONE BLOCK_BYTE2;
    /// Two rounds of SHA-256 ([`sha`](crate::sha)): a has C, D, G, H, b has A, B, E, F, c the sums of words and
    /// constants.
    VSha256Rounds "vsharounds" 3 NONE BLOCK3;
    /// The first step of four words of SHA-256's schedule.
    VSha256First "vshafirst" 2 NONE BLOCK2;
    /// The last one.
    VSha256Last "vshalast" 2 NONE BLOCK2;
    /// Four rounds of SHA-1 of state a with words b, with the function in `aux`.
    VSha1Rounds "vshaonerounds" 2 NONE BLOCK_BYTE2;
    /// What SHA-1's rounds add to the first of four words.
    VSha1Next "vshaonenext" 2 NONE BLOCK2;
    /// The first step of four words of SHA-1's schedule.
    VSha1First "vshaonefirst" 2 NONE BLOCK2;
    /// The last one.
    VSha1Last "vshaonelast" 2 NONE BLOCK2;
    /// Compares texts that end with a zero as `aux` says ([`text`](crate::text)): the index, with the flags from
    /// bit 32 on.
    VTextIndex "vtextindex" 2 NONE BLOCK_INT2;
    /// Estimates of 1 / a in lanes of 32 bits, with a relative error of 1.5 · 2⁻¹² at most. Executors differ
    /// in them. Denormal numbers are zeros; there are no flags.
    VFRcp "vfrcp" 1 NONE ONE;
    /// Estimates of 1 / √a, alike.
    VFRsqrt "vfrsqrt" 1 NONE ONE;
    /// a, with zeros above.
    VExtend "vextend" 1 NONE EXTEND;
    /// One half of a.
    VHalf "vhalf" 1 NONE HALF;
    /// a, with b above.
    VJoin "vjoin" 2 NONE JOIN;

    // Floating-point lanes. What is said of the scalar operations holds for each lane: rounding, the
    // default NaN, and the flags, which are those of all lanes together.
    /// The bits of float a in each lane.
    VSplatF "vsplatf" 1 NONE FROM_FLOAT;
    /// A lane of a as a float.
    VExtractF "vextractf" 1 NONE TO_FLOAT;
    /// a + b
    VFAdd "vfadd" 2 FLAGS FLOAT2;
    /// a − b
    VFSub "vfsub" 2 FLAGS FLOAT2;
    /// a · b
    VFMul "vfmul" 2 FLAGS FLOAT2;
    /// a / b
    VFDiv "vfdiv" 2 FLAGS FLOAT2;
    /// a − b in lanes with even numbers, a + b in the others.
    VFAddSub "vfaddsub" 2 FLAGS FLOAT2;
    /// IEEE 754-2019 minimumNumber, as `FMin`.
    VFMin "vfmin" 2 FLAGS FLOAT2;
    /// IEEE 754-2019 maximumNumber, as `FMax`.
    VFMax "vfmax" 2 FLAGS FLOAT2;
    /// √a
    VFSqrt "vfsqrt" 1 FLAGS FLOAT1;
    /// ±(a · b) ± c, rounded once.
    VFMulAdd "vfmuladd" 3 FLAGS FLOAT3;
    /// All ones if the condition holds, else zero.
    VFCompare "vfcompare" 2 FLAGS FLOAT_COMPARE;
    /// To lanes of 64 bits: the binary32 lanes of the low half of a, as binary64. To lanes of 32 bits:
    /// the binary64 lanes of a as binary32 in the low half of the result, whose high half is zero.
    VFConvert "vfconvert" 1 FLAGS FLOAT1;
    /// Signed integer to float of the same width.
    VFFromInt "vffromint" 1 FLAGS FLOAT1;
    /// Unsigned integer to float of the same width.
    VFFromUInt "vffromuint" 1 FLAGS FLOAT1;
    /// Float to signed integer of the same width, saturating, NaN to the maximum, both invalid and not
    /// inexact.
    VFToInt "vftoint" 1 FLAGS ROUND;
    /// Float to unsigned integer of the same width, alike; what rounds to less than zero is zero and
    /// invalid.
    VFToUInt "vftouint" 1 FLAGS ROUND;

    /// To the integral value that the `Rounding` in `aux` says; inexact if that changes it and bit 7
    /// is set there.
    VFRound "vfround" 1 FLAGS INTEGRAL;
    /// The signed 32-bit integers in the low half of a as binary64.
    VFFromInt32 "vffromhalfint" 1 FLAGS DOUBLE1;
    /// Binary64 to signed 32-bit integers in the low half, as `VFToInt`; the high half is zero.
    VFToInt32 "vftohalfint" 1 FLAGS DOUBLE_ROUND;
    /// Vector a with float b in one lane.
    VInsertF "vinsertf" 2 NONE INSERT_FLOAT;
    /// Float a in the lowest lane, zeros above.
    VFromF "vfromf" 1 NONE FROM_FLOAT;

    // The lowest lanes alone; all others are those of a. Only with `FloatRules::Propagate` and of 128
    // bits: ISAs that keep the others keep such rules.
    /// a + b
    VFAddLow "vfaddlow" 2 FLAGS LOW;
    /// a − b
    VFSubLow "vfsublow" 2 FLAGS LOW;
    /// a · b
    VFMulLow "vfmullow" 2 FLAGS LOW;
    /// a / b
    VFDivLow "vfdivlow" 2 FLAGS LOW;
    /// The lesser.
    VFMinLow "vfminlow" 2 FLAGS LOW;
    /// The greater.
    VFMaxLow "vfmaxlow" 2 FLAGS LOW;
    /// √b
    VFSqrtLow "vfsqrtlow" 2 FLAGS LOW;
    /// All ones if the condition holds, else zero.
    VFCompareLow "vfcomparelow" 2 FLAGS LOW_COMPARE;
    /// Converts the lowest lane of b, which is of the other width.
    VFConvertLow "vfconvertlow" 2 FLAGS LOW;
    /// b as `VFRound` makes it.
    VFRoundLow "vfroundlow" 2 FLAGS LOW_INTEGRAL;

    /// Begins guest instruction at pc a (a constant); `aux` is its length in bytes. What follows in
    /// the list belongs to it, wherever control comes from.
    Insn "insn" 1 CONTROL;
    /// A place to branch to, number `aux`.
    Label "label" 0 CONTROL;
    /// Goes to label a (a constant).
    Branch "branch" 1 CONTROL;
    /// Goes to label c (a constant) if a `aux: Cond` b; 64-bit or 32-bit compare by type.
    BranchIf "branchif" 3 CONTROL;
    /// Leaves for guest address c (a constant) if a `aux: Cond` b.
    ExitIf "exitif" 3 CONTROL;
    /// Leaves for guest address a (a constant); `aux: Hint`.
    Exit "exit" 1 CONTROL;
    /// Leaves for guest address a; `aux: Hint`.
    ExitIndirect "exitind" 1 CONTROL;
    /// Leaves for the run loop with pc = a (a constant; not for `Redirected`); `aux: ExitKind`.
    ExitLoop "exitloop" 1 CONTROL;
    /// From here on the mode's flags are a (a constant), which the state says by now as well. What
    /// follows in the list was translated for them, and is reached with no others.
    SetFlags "setflags" 1 CONTROL;
    /// Leaves for guest address b (a constant) if a ≠ 0, with the mode's flags c (a constant), which
    /// the state says by now as well.
    ExitFlags "exitflags" 3 CONTROL;
}

macro_rules! packed_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant),* }
        impl $name {
            /// Every value, in the order of their codes.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
            /// The value whose code is in the low bits of an operation's `aux`.
            ///
            /// # Panics
            /// There is none: the builder made no such operation.
            pub fn from_code(code: u16) -> Self {
                Self::ALL[usize::from(code)]
            }
            /// Name in listings.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
    };
}
pub(crate) use packed_enum;

packed_enum! {
    /// Integer comparison.
    Cond {
        /// a = b
        Eq "eq",
        /// a ≠ b
        Ne "ne",
        /// signed a < b
        Lt "lt",
        /// signed a ≥ b
        Ge "ge",
        /// unsigned a < b
        Ltu "ltu",
        /// unsigned a ≥ b
        Geu "geu",
        /// signed a ≤ b
        Le "le",
        /// signed a > b
        Gt "gt",
        /// unsigned a ≤ b
        Leu "leu",
        /// unsigned a > b
        Gtu "gtu",
    }
}

impl Cond {
    /// The condition that holds when this does not.
    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Self::Eq => Self::Ne,
            Self::Ne => Self::Eq,
            Self::Lt => Self::Ge,
            Self::Ge => Self::Lt,
            Self::Ltu => Self::Geu,
            Self::Geu => Self::Ltu,
            Self::Le => Self::Gt,
            Self::Gt => Self::Le,
            Self::Leu => Self::Gtu,
            Self::Gtu => Self::Leu,
        }
    }

    /// The condition that holds of (b, a) when this holds of (a, b).
    #[must_use]
    pub fn swapped(self) -> Self {
        match self {
            Self::Eq | Self::Ne => self,
            Self::Lt => Self::Gt,
            Self::Gt => Self::Lt,
            Self::Ge => Self::Le,
            Self::Le => Self::Ge,
            Self::Ltu => Self::Gtu,
            Self::Gtu => Self::Ltu,
            Self::Geu => Self::Leu,
            Self::Leu => Self::Geu,
        }
    }

    /// Whether it holds of two 64-bit values.
    pub fn holds(self, a: u64, b: u64) -> bool {
        let (sa, sb) = (a.cast_signed(), b.cast_signed());
        match self {
            Self::Eq => a == b,
            Self::Ne => a != b,
            Self::Lt => sa < sb,
            Self::Ge => sa >= sb,
            Self::Ltu => a < b,
            Self::Geu => a >= b,
            Self::Le => sa <= sb,
            Self::Gt => sa > sb,
            Self::Leu => a <= b,
            Self::Gtu => a > b,
        }
    }
}

packed_enum! {
    /// Floating-point comparison. Signalling: any NaN is invalid; else a signalling one is.
    FpCond {
        /// a = b
        EqQuiet "eq",
        /// a < b; signalling.
        LtSignal "lt",
        /// a ≤ b; signalling.
        LeSignal "le",
        /// a < b
        LtQuiet "ltq",
        /// a ≤ b
        LeQuiet "leq",
        /// a = b; signalling.
        EqSignal "eqs",
        /// Unordered.
        Un "un",
        /// Unordered; signalling.
        UnSignal "uns",
        /// Not a = b.
        Ne "ne",
        /// Not a = b; signalling.
        NeSignal "nes",
        /// Not a < b.
        NotLt "nlt",
        /// Not a < b; signalling.
        NotLtSignal "nlts",
        /// Not a ≤ b.
        NotLe "nle",
        /// Not a ≤ b; signalling.
        NotLeSignal "nles",
        /// Not unordered.
        Ord "ord",
        /// Not unordered; signalling.
        OrdSignal "ords",
        /// a = b or unordered.
        EqUn "equ",
        /// a = b or unordered; signalling.
        EqUnSignal "equs",
        /// a < b or a > b.
        LtGt "ltgt",
        /// a < b or a > b; signalling.
        LtGtSignal "ltgts",
        /// Never.
        Never "never",
        /// Never; signalling.
        NeverSignal "nevers",
        /// Always.
        Always "always",
        /// Always; signalling.
        AlwaysSignal "alwayss",
    }
}

impl FpCond {
    /// Whether any NaN is invalid.
    pub fn signals(self) -> bool {
        use FpCond as C;
        matches!(
            self,
            C::LtSignal
                | C::LeSignal
                | C::EqSignal
                | C::UnSignal
                | C::NeSignal
                | C::NotLtSignal
                | C::NotLeSignal
                | C::OrdSignal
                | C::EqUnSignal
                | C::LtGtSignal
                | C::NeverSignal
                | C::AlwaysSignal
        )
    }

    /// Whether it holds of a number and one that it is less than, equal to, or greater than, or
    /// of two numbers that are unordered.
    pub fn holds(self) -> [bool; 4] {
        use FpCond as C;
        let bits = match self {
            C::EqQuiet | C::EqSignal => 0b0100,
            C::LtQuiet | C::LtSignal => 0b1000,
            C::LeQuiet | C::LeSignal => 0b1100,
            C::Un | C::UnSignal => 0b0001,
            C::Ne | C::NeSignal => 0b1011,
            C::NotLt | C::NotLtSignal => 0b0111,
            C::NotLe | C::NotLeSignal => 0b0011,
            C::Ord | C::OrdSignal => 0b1110,
            C::EqUn | C::EqUnSignal => 0b0101,
            C::LtGt | C::LtGtSignal => 0b1010,
            C::Never | C::NeverSignal => 0,
            C::Always | C::AlwaysSignal => 0b1111,
        };
        [bits & 8 != 0, bits & 4 != 0, bits & 2 != 0, bits & 1 != 0]
    }
}

packed_enum! {
    /// What an ISA decides of floating-point operations where the standard leaves it open; of a unit.
    FloatRules {
        /// As the table of operations says: NaN results are the default NaN, minimum and maximum are
        /// those of IEEE 754-2019 and prefer numbers, conversions to integers saturate.
        Canonical "canonical",
        /// NaN results are the first operand that is a NaN (of multiply-adds: a, b, c), quieted, or else
        /// the negative quiet NaN without a payload; infinity times zero plus a quiet NaN is not
        /// invalid. Minimum and maximum are b if a NaN, which is invalid even when quiet, or two
        /// zeros take part. Conversions to integers that do not fit give the most negative integer;
        /// there are none to unsigned ones. Operands that are denormal raise a flag of their own,
        /// but in conversions to integers, in roundings to integral values, and from binary16.
        Propagate "propagate",
    }
}

#[expect(clippy::derivable_impls, reason = "the macro of packed enums has no default variant")]
impl Default for FloatRules {
    fn default() -> Self {
        Self::Canonical
    }
}

packed_enum! {
    /// Rounding of a floating-point operation.
    Rounding {
        /// As the processor's rounding mode says.
        Current "cur",
        /// Towards zero.
        TowardZero "rtz",
        /// To nearest, ties to even.
        Nearest "rne",
        /// Towards negative infinity.
        Down "rdn",
        /// Towards positive infinity.
        Up "rup",
    }
}

impl Rounding {
    /// Where it lies in an operation's `aux`.
    pub const SHIFT: u32 = 8;

    /// As part of an operation's `aux`.
    pub const fn aux(self) -> u16 {
        (self as u16) << Self::SHIFT
    }
}

packed_enum! {
    /// What an atomic read-modify-write does.
    AmoOp {
        /// new
        Swap "swap",
        /// old + new
        Add "add",
        /// old ^ new
        Xor "xor",
        /// old & new
        And "and",
        /// old | new
        Or "or",
        /// signed minimum
        Min "min",
        /// signed maximum
        Max "max",
        /// unsigned minimum
        MinU "minu",
        /// unsigned maximum
        MaxU "maxu",
    }
}

/// Width, extension and alignment rule of a memory access; guest memory is little-endian unless
/// `BIG_ENDIAN` is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemOp(u16);

impl AmoOp {
    /// What memory holds afterwards: `old` and `value` are in the width of `mem`.
    pub fn apply(self, mem: MemOp, old: u64, value: u64) -> u64 {
        let shift = 64 - 8 * mem.size();
        let signed = |v: u64| (v << shift).cast_signed();
        let unsigned = |v: u64| v << shift;
        match self {
            Self::Swap => value,
            Self::Add => old.wrapping_add(value),
            Self::Xor => old ^ value,
            Self::And => old & value,
            Self::Or => old | value,
            Self::Min => {
                if signed(old) < signed(value) {
                    old
                } else {
                    value
                }
            }
            Self::Max => {
                if signed(old) > signed(value) {
                    old
                } else {
                    value
                }
            }
            Self::MinU => {
                if unsigned(old) < unsigned(value) {
                    old
                } else {
                    value
                }
            }
            Self::MaxU => {
                if unsigned(old) > unsigned(value) {
                    old
                } else {
                    value
                }
            }
        }
    }
}

impl MemOp {
    /// One byte, zero-extended.
    pub const U8: Self = Self(0);
    /// Two bytes, zero-extended.
    pub const U16: Self = Self(1);
    /// Four bytes, zero-extended.
    pub const U32: Self = Self(2);
    /// Eight bytes.
    pub const U64: Self = Self(3);
    /// One byte, sign-extended.
    pub const S8: Self = Self(8);
    /// Two bytes, sign-extended.
    pub const S16: Self = Self(9);
    /// Four bytes, sign-extended.
    pub const S32: Self = Self(10);
    /// Sixteen bytes, for vectors; little-endian only.
    pub const V128: Self = Self(4);
    /// Thirty-two bytes, for vectors; little-endian only.
    pub const V256: Self = Self(5);
    const SIGNED: u16 = 8;
    const ALIGNED: u16 = 16;
    const BIG_ENDIAN: u16 = 32;
    /// First bit above a `MemOp` in an operation's `aux`, where an [`AmoOp`] goes.
    pub const BITS: u32 = 6;

    /// The same access, which faults when misaligned.
    #[must_use]
    pub const fn aligned(self) -> Self {
        Self(self.0 | Self::ALIGNED)
    }
    /// The same access to big-endian memory.
    #[must_use]
    pub const fn big_endian(self) -> Self {
        Self(self.0 | Self::BIG_ENDIAN)
    }
    /// Width in bytes.
    pub const fn size(self) -> u32 {
        1 << (self.0 & 7)
    }
    /// Whether a narrow load is sign-extended.
    pub const fn is_signed(self) -> bool {
        self.0 & Self::SIGNED != 0
    }
    /// Whether a misaligned access faults.
    pub const fn must_align(self) -> bool {
        self.0 & Self::ALIGNED != 0
    }
    /// Whether memory is big-endian.
    pub const fn is_big_endian(self) -> bool {
        self.0 & Self::BIG_ENDIAN != 0
    }
    /// Packed for an operation's `aux`.
    pub const fn code(self) -> u16 {
        self.0
    }
    /// From the low bits of an operation's `aux`.
    pub const fn from_code(code: u16) -> Self {
        Self(code & 0x3f)
    }
    /// The access that loads and stores vectors of a type.
    pub const fn vector(ty: Type) -> Self {
        match ty {
            Type::V256 => Self::V256,
            _ => Self::V128,
        }
    }
    /// Extends a value of this width (8 bytes at most), held in the low bits, to 64 bits.
    pub const fn extend(self, value: u64) -> u64 {
        let shift = 64 - 8 * self.size();
        if self.is_signed() {
            ((value << shift).cast_signed() >> shift).cast_unsigned()
        } else {
            value << shift >> shift
        }
    }
}
