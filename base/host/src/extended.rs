//! Extended precision on the host's x87 unit: arithmetic, comparisons, conversions, exactly as an x87
//! with all exceptions masked makes them (Intel SDM volume 1, chapter 8).
//!
//! The unit is left as it was found, but for exceptions: it keeps those that it has told of, and a
//! caller that keeps them, too, says so, as clearing them takes longer than the arithmetic.

#![expect(unsafe_code, reason = "x87 instructions have no safe wrappers")]

/// An extended real: ten bytes, the others do not matter.
pub type Extended = [u8; 16];

/// The control word that the unit has: all exceptions masked, extended precision, to nearest.
static CONTROL: u16 = 0x37f;
/// The exceptions in the status word.
const EXCEPTIONS: u16 = 0x3f;

/// Instructions that leave the unit's registers empty, as they were.
#[cfg(target_arch = "x86_64")]
macro_rules! x87 {
    ($($line:expr),+; $($operand:tt)*) => {
        // SAFETY: the instructions access the borrowed values that their operands name, and no stack.
        unsafe {
            std::arch::asm!($($line),+, $($operand)*,
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                options(nostack))
        }
    };
}

#[cfg(not(target_arch = "x86_64"))]
macro_rules! x87 {
    ($($any:tt)*) => {
        unreachable!("there is no setting without the unit")
    };
}

/// How instructions compute; only hosts that have the unit have this.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    control: u16,
    known: u16,
}

impl Setting {
    /// With a control word that masks all exceptions, and the exceptions that the caller knows of: any of
    /// these may be told again.
    pub fn new(control: u16, known: u16) -> Option<Self> {
        let masked = control & EXCEPTIONS == EXCEPTIONS;
        (cfg!(target_arch = "x86_64") && masked).then_some(Self { control, known })
    }

    /// Executes an instruction.
    #[inline(always)]
    fn with<T>(self, execute: impl FnOnce() -> T) -> T {
        let mut before = 0u16;
        x87!("fnstsw ax"; inout("ax") before);
        if before & EXCEPTIONS & !self.known != 0 {
            x87!("fnclex"; in("ax") before);
        }
        if self.control == CONTROL {
            return execute();
        }
        x87!("fldcw word ptr [{0}]"; in(reg) &raw const self.control);
        let result = execute();
        x87!("fldcw word ptr [{0}]"; in(reg) &raw const CONTROL);
        result
    }
}

/// The digit of an operation in encodings: 0 and 1 add and multiply, 4 to 7 subtract and divide, the odd ones
/// reversed.
pub type Operation = u8;

/// Executes the instruction whose name ends like its operation.
macro_rules! by_operation {
    ($operation:expr, $execute:ident, $prefix:literal, $operand:literal) => {
        match $operation & 7 {
            0 => $execute!($prefix, "add ", $operand),
            1 => $execute!($prefix, "mul ", $operand),
            4 => $execute!($prefix, "sub ", $operand),
            5 => $execute!($prefix, "subr ", $operand),
            6 => $execute!($prefix, "div ", $operand),
            _ => $execute!($prefix, "divr ", $operand),
        }
    };
}

/// `a` becomes what the operation makes of `a` and `b`; the status word.
pub fn arithmetic(setting: Setting, operation: Operation, a: &mut Extended, b: &Extended) -> u16 {
    let mut status = 0u16;
    macro_rules! execute {
        ($($name:literal),+) => {
            x87!("fld tbyte ptr [{b}]", "fld tbyte ptr [{a}]", concat!($($name),+), "fnstsw ax",
                 "fstp tbyte ptr [{a}]", "fstp st(0)"; a = in(reg) a, b = in(reg) b, inout("ax") status)
        };
    }
    setting.with(|| by_operation!(operation, execute, "f", "st(0), st(1)"));
    status
}

/// A value in memory, other than an extended real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Binary32.
    Single,
    /// Binary64.
    Double,
    /// A signed integer.
    Int16,
    /// A signed integer of 32 bits.
    Int32,
    /// A signed integer of 64 bits.
    Int64,
}

/// `a` becomes what the operation makes of `a` and a value in the low bytes of `b`, which is no integer of 64
/// bits; the status word.
pub fn with_memory(
    setting: Setting,
    operation: Operation,
    a: &mut Extended,
    (format, b): (Memory, u64),
) -> u16 {
    let mut status = 0u16;
    macro_rules! execute {
        ($($name:literal),+) => {
            x87!("fld tbyte ptr [{a}]", concat!($($name),+), "fnstsw ax", "fstp tbyte ptr [{a}]";
                 a = in(reg) a, b = in(reg) &raw const b, inout("ax") status)
        };
    }
    setting.with(|| match format {
        Memory::Single => by_operation!(operation, execute, "f", "dword ptr [{b}]"),
        Memory::Double => by_operation!(operation, execute, "f", "qword ptr [{b}]"),
        Memory::Int16 => by_operation!(operation, execute, "fi", "word ptr [{b}]"),
        _ => by_operation!(operation, execute, "fi", "dword ptr [{b}]"),
    });
    status
}

/// How `a` relates to `b`: the status word with C0, C2 and C3. Quiet NaNs are invalid unless `quiet`.
pub fn compare(setting: Setting, quiet: bool, a: &Extended, b: &Extended) -> u16 {
    let mut status = 0u16;
    macro_rules! execute {
        ($compare:literal) => {
            x87!("fld tbyte ptr [{b}]", "fld tbyte ptr [{a}]", $compare, "fnstsw ax";
                 a = in(reg) a, b = in(reg) b, inout("ax") status)
        };
    }
    setting.with(|| match quiet {
        true => execute!("fucompp"),
        false => execute!("fcompp"),
    });
    status
}

/// `a` becomes its square root; the status word.
pub fn square_root(setting: Setting, a: &mut Extended) -> u16 {
    let mut status = 0u16;
    setting.with(|| {
        x87!("fld tbyte ptr [{a}]", "fsqrt", "fnstsw ax", "fstp tbyte ptr [{a}]";
             a = in(reg) a, inout("ax") status);
    });
    status
}

/// `a` becomes an integral value; the status word.
pub fn round(setting: Setting, a: &mut Extended) -> u16 {
    let mut status = 0u16;
    setting.with(|| {
        x87!("fld tbyte ptr [{a}]", "frndint", "fnstsw ax", "fstp tbyte ptr [{a}]";
             a = in(reg) a, inout("ax") status);
    });
    status
}

/// `to` becomes the value in the low bytes of `bits`; the status word.
pub fn load(setting: Setting, format: Memory, bits: u64, to: &mut Extended) -> u16 {
    let mut status = 0u16;
    macro_rules! execute {
        ($load:literal) => {
            x87!($load, "fnstsw ax", "fstp tbyte ptr [{to}]";
                 from = in(reg) &raw const bits, to = in(reg) to, inout("ax") status)
        };
    }
    setting.with(|| match format {
        Memory::Single => execute!("fld dword ptr [{from}]"),
        Memory::Double => execute!("fld qword ptr [{from}]"),
        Memory::Int16 => execute!("fild word ptr [{from}]"),
        Memory::Int32 => execute!("fild dword ptr [{from}]"),
        Memory::Int64 => execute!("fild qword ptr [{from}]"),
    });
    status
}

/// What is stored of `a`, zero-extended, and the status word. With `cut`, integers are rounded towards zero.
pub fn store(setting: Setting, format: Memory, cut: bool, a: &Extended) -> (u64, u16) {
    let (mut result, mut status) = (0u64, 0u16);
    macro_rules! execute {
        ($store:literal) => {
            x87!("fld tbyte ptr [{a}]", $store, "fnstsw ax";
                 a = in(reg) a, to = in(reg) &raw mut result, inout("ax") status)
        };
    }
    setting.with(|| match (format, cut) {
        (Memory::Single, _) => execute!("fstp dword ptr [{to}]"),
        (Memory::Double, _) => execute!("fstp qword ptr [{to}]"),
        (Memory::Int16, false) => execute!("fistp word ptr [{to}]"),
        (Memory::Int32, false) => execute!("fistp dword ptr [{to}]"),
        (Memory::Int64, false) => execute!("fistp qword ptr [{to}]"),
        (Memory::Int16, true) => execute!("fisttp word ptr [{to}]"),
        (Memory::Int32, true) => execute!("fisttp dword ptr [{to}]"),
        (Memory::Int64, true) => execute!("fisttp qword ptr [{to}]"),
    });
    (result, status)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    const SETTING: Setting = Setting { control: 0x37f, known: 0 };
    const INEXACT: u16 = 1 << 5;

    fn double(value: f64) -> Extended {
        let mut extended = [0; 16];
        assert_eq!(load(SETTING, Memory::Double, value.to_bits(), &mut extended) & EXCEPTIONS, 0);
        extended
    }

    fn as_double(value: &Extended) -> f64 {
        f64::from_bits(store(SETTING, Memory::Double, false, value).0)
    }

    #[test]
    fn operations_are_those_of_their_digits() {
        let results = [7.5, 9.0, 4.5, -4.5, 4.0, 0.25];
        let operations = [0, 1, 4, 5, 6, 7];
        let of = |operation| {
            let mut a = double(6.0);
            arithmetic(SETTING, operation, &mut a, &double(1.5));
            as_double(&a)
        };
        assert_eq!(operations.map(of), results);
        for (format, a, bits) in [
            (Memory::Single, 6.0, u64::from(1.5f32.to_bits())),
            (Memory::Double, 6.0, 1.5f64.to_bits()),
            (Memory::Int16, 24.0, 6),
            (Memory::Int32, 24.0, 6),
        ] {
            let of = |operation| {
                let mut value = double(a);
                with_memory(SETTING, operation, &mut value, (format, bits));
                as_double(&value)
            };
            let by = if a == 6.0 { [1.0; 6] } else { [4.0, 16.0, 4.0, 4.0, 1.0, 1.0] };
            let wanted: [f64; 6] = std::array::from_fn(|i| results[i] * by[i]);
            assert_eq!(operations.map(of), wanted, "{format:?}");
        }
    }

    #[test]
    fn exceptions_are_told_once_and_known_ones_may_be_told_again() {
        let (one, three) = (double(1.0), double(3.0));
        let told = |setting, operation| {
            arithmetic(setting, operation, &mut one.clone(), &three) & EXCEPTIONS
        };
        assert_eq!(told(SETTING, 6), INEXACT);
        assert_eq!(told(SETTING, 0), 0);
        let known = Setting { known: INEXACT, ..SETTING };
        assert_eq!(told(known, 6), INEXACT);
        assert_eq!(compare(SETTING, true, &one, &three) & EXCEPTIONS, 0);
    }

    #[test]
    fn rounding_is_that_of_the_control_word_and_of_this_operation_only() {
        let down = Setting { control: 0x77f, known: 0 };
        let rounded = |setting, value| {
            let mut value = double(value);
            round(setting, &mut value);
            as_double(&value)
        };
        assert_eq!(rounded(down, -2.5), -3.0);
        assert_eq!(rounded(SETTING, -2.5), -2.0);
        assert_eq!(store(SETTING, Memory::Int32, false, &double(3.5)).0, 4);
        assert_eq!(store(SETTING, Memory::Int32, true, &double(3.5)).0, 3);
        let mut square = double(2.25);
        square_root(SETTING, &mut square);
        assert_eq!(as_double(&square), 1.5);
        assert!(Setting::new(0x37e, 0).is_none());
    }
}
