//! The table of functions that translated code calls.
//!
//! A row makes both the identifier ([`HelperIndex`]) and the entry of [`HELPERS`], so that they
//! cannot drift apart. Arguments and results are described at the functions.

use crate::processor::X86;
use crate::state::State;
use crate::{
    helpers_integer as integer, helpers_save as save, helpers_segment as segment,
    helpers_simd as simd, helpers_system as system, helpers_wide as wide, helpers_x87 as x87,
};

isa::helpers! { X86;
    // Traps.
    /// Exception (vector, error code, bytes to go on).
    Raise "raise" system::raise;
    /// Fetches the byte at (address) again, to take the exception of doing so.
    FetchFault "fetch_fault" system::fetch_fault;
    /// `INT n`, `SYSCALL`, `SYSENTER` (what, the next instruction's address).
    SystemCall "system_call" system::system_call;

    // Integers: helpers_integer.rs.
    /// Sets the flags register (value, mask).
    SetFlags "set_flags" integer::set_flags;
    /// `div` with 128 bits (divisor); the registers are set.
    Div64 "div64" integer::div64;
    /// `idiv`, alike.
    Idiv64 "idiv64" integer::idiv64;
    /// `cmpxchg8b` (address).
    Cmpxchg8b "cmpxchg8b" integer::cmpxchg8b;
    /// `cmpxchg16b` (address).
    Cmpxchg16b "cmpxchg16b" integer::cmpxchg16b;
    /// `rdrand`, `rdseed` (): 64 random bits.
    Random "random" integer::random, quiet: true;
    /// `daa`, `das`, `aaa`, `aas` (opcode).
    Decimal "decimal" integer::decimal;
    /// A locked operation on memory, misaligned or without a form of its own (address, operand,
    /// operation): the old value.
    Locked "locked" integer::locked;
    /// `rep movs` and `rep stos` (what): a part of it.
    RepeatMove "repeat_move" integer::repeat_move;

    // Segments: helpers_segment.rs.
    /// Checked linear address (segment and access, offset).
    Linear "linear" segment::linear, quiet: true;
    /// Loads a segment register (number, selector).
    LoadSegment "load_segment" segment::load_segment;
    /// Loads CS and goes on there (selector, offset).
    FarJump "far_jump" segment::far_jump;
    /// `far call` (selector, offset, next and size).
    FarCall "far_call" segment::far_call;
    /// `retf` and `iret` (what, size).
    FarReturn "far_return" segment::far_return;
    /// `verr`, `verw`, `lar`, `lsl` (what, selector, old value).
    Examine "examine" segment::examine;

    // The system: helpers_system.rs.
    /// `cpuid` ().
    Cpuid "cpuid" system::cpuid;
    /// `rdtsc` (): the counter.
    Tsc "tsc" system::tsc, quiet: true;
    /// `xgetbv` ().
    Xgetbv "xgetbv" system::xgetbv;
    /// Reads what the kernel told (what).
    SystemRegister "system_register" system::system_register, quiet: true;

    // Vectors: helpers_simd.rs.
    /// Begins to look for the exceptions of an instruction ().
    SimdBegin "simd_begin" simd::simd_begin, float: true;
    /// Raises #XM if it raised one that is not masked ().
    SimdEnd "simd_end" simd::simd_end, float: true;
    /// MXCSR ().
    Mxcsr "mxcsr" simd::mxcsr, float: true, quiet: true;
    /// Sets MXCSR (value).
    SetMxcsr "set_mxcsr" simd::set_mxcsr, float: true;
    /// Looks whether a store would fault (address, bytes).
    ProbeStore "probe_store" simd::probe_store, quiet: true;
    /// `dpps`, `dppd` (size of lanes, what it names).
    DotProduct "dot_product" simd::dot_product, float: true;
    /// `vmaskmov` and its like, from memory (what it names, address, size of lanes).
    MaskedMove "masked_move" simd::masked_move;
    /// `maskmovdqu` and its like (where data and mask are, address, bytes).
    MaskedBytes "masked_bytes" simd::masked_bytes;
    /// Gathers (what it names, base, how).
    Gather "gather" simd::gather;

    // AVX-512: helpers_wide.rs.
    /// Computes with a rounding mode and no exceptions from now on (mode).
    RoundingBegin "rounding_begin" wide::rounding_begin, float: true;
    /// Ends that ().
    RoundingEnd "rounding_end" wide::rounding_end, float: true;
    /// Reads lanes by an opmask (address, bits, how).
    MaskedRead "masked_read" wide::masked_read;
    /// Writes lanes by an opmask (address, bits, bytes of a lane).
    MaskedWrite "masked_write" wide::masked_write;
    /// A floating-point instruction of a table (what, which registers, opmask): bits for an opmask or a masked
    /// write.
    WideFloats "wide_floats" wide::wide_floats, float: true;
    /// Gathers and scatters (base, how, whether it scatters).
    GatherMasked "gather_masked" wide::gather;
    /// A float to an unsigned integer (value, how).
    ToUnsigned "to_unsigned" wide::to_unsigned, float: true;
    /// An unsigned integer to a float (value, how).
    FromUnsigned "from_unsigned" wide::from_unsigned, float: true;

    // The x87: helpers_x87.rs.
    /// #MF if an exception is pending ().
    X87Check "x87_check" x87::check, quiet: true;
    /// `fldcw` (value).
    X87SetControl "x87_set_control" x87::set_control;
    /// `fninit` ().
    X87Initialise "x87_initialise" x87::initialise;

    // Saved registers: helpers_save.rs.
    /// `fnstenv` (address, operand size).
    StoreEnvironment "store_environment" save::store_environment;
    /// `fldenv` (address, operand size).
    LoadEnvironment "load_environment" save::load_environment;
    /// `fnsave` (address, operand size).
    X87Save "x87_save" save::save;
    /// `frstor` (address, operand size).
    X87Restore "x87_restore" save::restore;
    /// `fxsave` (address, width of code).
    Fxsave "fxsave" save::fxsave, float: true;
    /// `fxrstor` (address, width of code).
    Fxrstor "fxrstor" save::fxrstor, float: true;
    /// `xsave` (address, width of code, whether compacted).
    Xsave "xsave" save::xsave, float: true;
    /// `xrstor` (address, width of code).
    Xrstor "xrstor" save::xrstor, float: true;
}

isa::leaves! { State;
    // AVX-512: helpers_wide.rs.
    /// An instruction of a table (what, which registers, opmask): bits for an opmask or a masked write.
    Wide wide::wide;
    /// Clears all above 256 bits of vector registers (how many).
    ClearUpperHalves wide::clear_upper_halves;

    // Integers: helpers_integer.rs.
    /// Puts the arithmetic flags into `cc_dst` (): them.
    SettleFlags integer::settle_flags;
    /// The flags register (): whole.
    Flags integer::flags;
    /// `rcl` (value, count, size); CF in and out in `scratch[0]`.
    Rcl integer::rcl;
    /// `rcr`, alike.
    Rcr integer::rcr;

    // Vectors: helpers_simd.rs.
    /// An instruction of a table (which, what it names).
    Rare simd::rare;
    /// `pcmpestri` and its like (what it names and does, lengths).
    CompareStrings simd::compare_strings;

    // The x87: helpers_x87.rs.
    /// `fld` of memory (format, low half, high half).
    X87Load x87::load;
    /// `fld` of a register (its number).
    X87Push x87::push;
    /// `fld1` and its like (which).
    X87Constant x87::constant;
    /// `fst` to memory (format, whether cut): the low half.
    X87Store x87::store;
    /// `fadd` and its like (what, other operand).
    X87Arithmetic x87::arithmetic;
    /// `fcomi` and its like (register, whether quiet, pops): flags.
    X87CompareFlags x87::compare_flags;
    /// `fst` to a register (its number, pops).
    X87Copy x87::copy;
    /// `fxch` (register).
    X87Exchange x87::exchange;
    /// `fcmov` (register, whether the condition holds).
    X87MoveIf x87::move_if;
    /// Instructions on the top of the stack (last byte of the encoding).
    X87Unary x87::unary;
    /// `ffree` (register, pops).
    X87Free x87::free;
    /// `fnclex` ().
    X87ClearExceptions x87::clear_exceptions;
}
