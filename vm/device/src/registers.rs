//! `registers!`: a block of registers as the table in its manual.

/// Declares a register block once. Reads and writes get separate enums, so that a handler cannot
/// read what is write-only or the reverse; the table also knows which bits software may write.
///
/// ```
/// mod regs {
///     device::registers! { u32 {
///         0x00 CONTROL rw bits 0x3;
///         0x04 STATUS  ro;
///         0x08 CLEAR   wo;
///     }}
/// }
/// assert_eq!(regs::ReadReg::at(0x08), None);
/// assert_eq!(regs::WriteReg::at(0x00), Some((regs::WriteReg::CONTROL, 3)));
/// ```
#[macro_export]
macro_rules! registers {
    ($word:ty { $($rows:tt)* }) => {
        $crate::registers!(@row $word [] [] $($rows)*);
    };
    (@row $w:ty [$($r:tt)*] [$($wr:tt)*] $off:literal $name:ident rw $(bits $bits:expr)?; $($rest:tt)*) => {
        $crate::registers!(@row $w [$($r)* $off $name,] [$($wr)* $off $name ($($bits)?),] $($rest)*);
    };
    (@row $w:ty [$($r:tt)*] [$($wr:tt)*] $off:literal $name:ident ro; $($rest:tt)*) => {
        $crate::registers!(@row $w [$($r)* $off $name,] [$($wr)*] $($rest)*);
    };
    (@row $w:ty [$($r:tt)*] [$($wr:tt)*] $off:literal $name:ident wo $(bits $bits:expr)?; $($rest:tt)*) => {
        $crate::registers!(@row $w [$($r)*] [$($wr)* $off $name ($($bits)?),] $($rest)*);
    };
    (@row $w:ty [$($roff:literal $rname:ident,)*] [$($woff:literal $wname:ident ($($bits:expr)?),)*]) => {
        /// Registers the guest may read.
        #[allow(clippy::upper_case_acronyms, non_camel_case_types, missing_docs, dead_code)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ReadReg { $($rname),* }
        /// Registers the guest may write.
        #[allow(clippy::upper_case_acronyms, non_camel_case_types, missing_docs, dead_code)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum WriteReg { $($wname),* }
        impl ReadReg {
            /// The readable register at `offset`, if any.
            pub fn at(offset: u64) -> Option<Self> {
                match offset { $($roff => Some(Self::$rname),)* _ => None }
            }
        }
        impl WriteReg {
            /// The writable register at `offset` and the bits software may change in it.
            pub fn at(offset: u64) -> Option<(Self, $w)> {
                match offset {
                    $($woff => {
                        #[allow(unused_mut, unused_assignments)]
                        let mut bits = <$w>::MAX;
                        $(bits = $bits;)?
                        Some((Self::$wname, bits))
                    })*
                    _ => None,
                }
            }
        }
    };
}
