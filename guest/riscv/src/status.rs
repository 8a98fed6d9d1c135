//! Fields of `mstatus` and bits of `mip` and `mie` (privileged manual, “Machine Status Registers”,
//! “Machine Interrupt Registers”).

/// S-mode interrupts enabled.
pub(crate) const SIE: u64 = 1 << 1;
/// M-mode interrupts enabled.
pub(crate) const MIE: u64 = 1 << 3;
/// SIE before the trap.
pub(crate) const SPIE: u64 = 1 << 5;
/// MIE before the trap.
pub(crate) const MPIE: u64 = 1 << 7;
/// Privilege before the trap to S-mode.
pub(crate) const SPP: u64 = 1 << 8;
/// State of the vector unit.
pub(crate) const VS: u64 = 3 << 9;
/// Privilege before the trap to M-mode.
pub(crate) const MPP: u64 = 3 << 11;
/// Position of [`MPP`].
pub(crate) const MPP_SHIFT: u32 = 11;
/// State of the floating-point unit.
pub(crate) const FS: u64 = 3 << 13;
/// Loads and stores with the privilege in MPP.
pub(crate) const MPRV: u64 = 1 << 17;
/// S-mode may access pages of U-mode.
pub(crate) const SUM: u64 = 1 << 18;
/// Loads may read executable pages.
pub(crate) const MXR: u64 = 1 << 19;
/// S-mode may not change address translation.
pub(crate) const TVM: u64 = 1 << 20;
/// S-mode may not wait.
pub(crate) const TW: u64 = 1 << 21;
/// S-mode may not return from traps.
pub(crate) const TSR: u64 = 1 << 22;
/// XLEN of U-mode: always 64 here.
pub(crate) const UXL64: u64 = 2 << 32;
/// XLEN of S-mode: always 64 here.
pub(crate) const SXL64: u64 = 2 << 34;

/// Supervisor software interrupt.
pub(crate) const SSIP: u64 = 1 << 1;
/// Machine software interrupt; an input line.
pub(crate) const MSIP: u64 = 1 << 3;
/// Supervisor timer interrupt; with Sstc an input line.
pub(crate) const STIP: u64 = 1 << 5;
/// Machine timer interrupt; an input line.
pub(crate) const MTIP: u64 = 1 << 7;
/// Supervisor external interrupt; an input line and a software bit.
pub(crate) const SEIP: u64 = 1 << 9;
/// Machine external interrupt; an input line.
pub(crate) const MEIP: u64 = 1 << 11;
/// Counter overflow.
pub(crate) const LCOFIP: u64 = 1 << 13;

/// Number of the timer's input line.
pub(crate) const STIP_LINE: u32 = 5;

/// `menvcfg`: S-mode has the timer.
pub(crate) const STCE: u64 = 1 << 63;
/// `menvcfg`: page-based memory types.
pub(crate) const PBMTE: u64 = 1 << 62;
/// `menvcfg`: hardware sets accessed and dirty bits.
pub(crate) const ADUE: u64 = 1 << 61;
/// `xenvcfg`: `cbo.zero` is allowed.
pub(crate) const CBZE: u64 = 1 << 7;
/// `xenvcfg`: `cbo.clean` and `cbo.flush` are allowed.
pub(crate) const CBCFE: u64 = 1 << 6;
/// `xenvcfg`: how `cbo.inval` behaves.
pub(crate) const CBIE: u64 = 3 << 4;
/// `menvcfg`, `senvcfg`, `mseccfg`: pointer masking of the next mode, or of M-mode.
pub(crate) const PMM: u64 = 3 << PMM_SHIFT;
/// Position of [`PMM`].
pub(crate) const PMM_SHIFT: u32 = 32;
/// `xenvcfg`: fences of I/O imply memory.
pub(crate) const FIOM: u64 = 1;

/// `mstateen0`: `sstateen0`.
pub(crate) const STATEEN_SE0: u64 = 1 << 63;
/// `mstateen0`: `senvcfg`.
pub(crate) const STATEEN_ENVCFG: u64 = 1 << 62;
/// `mstateen0`: indirect registers.
pub(crate) const STATEEN_CSRIND: u64 = 1 << 60;
/// `mstateen0`: AIA registers.
pub(crate) const STATEEN_AIA: u64 = 1 << 59;
/// `mstateen0`: the interrupt file.
pub(crate) const STATEEN_IMSIC: u64 = 1 << 58;
