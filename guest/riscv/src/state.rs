//! The registers of a hart, the table of those that IR can name, and the translation flags.
//!
//! RV32 keeps every value sign-extended to 64 bits in the same structure, except addresses: `pc`
//! and the addresses that memory operations get are zero-extended.

use ir::{GuestReg, RegClass, RegInfo};
use state::{RestoreError, Saved, SavedState, Value};
use std::mem::offset_of;

/// Bytes of one vector register at the largest VLEN (1024).
pub const VLENB_MAX: usize = 128;
/// Entries of physical memory protection.
pub const PMP_ENTRIES: usize = 16;
/// Programmable performance counters: `mhpmcounter3` to `mhpmcounter31`.
pub const HPM_COUNTERS: usize = 29;

/// Row of `f0` in the register table; `x0` is row 0.
pub const F0: u8 = 32;
/// Row of the address of the next instruction.
pub const PC: GuestReg = GuestReg(64);
/// Row of the address that the last load-reserved reserved; [`NO_RESERVATION`] if none.
pub const RESERVATION_ADDRESS: GuestReg = GuestReg(65);
/// Row of the value that the last load-reserved read.
pub const RESERVATION_VALUE: GuestReg = GuestReg(66);
/// Row of the accrued exceptions, as far as the host's units have not collected them.
pub const FFLAGS: GuestReg = GuestReg(67);
/// Row of the vector length.
pub const VL: GuestReg = GuestReg(68);
/// Row of the vector type.
pub const VTYPE: GuestReg = GuestReg(69);
/// Row of the first element of the next vector instruction.
pub const VSTART: GuestReg = GuestReg(70);
/// Row of whether translation depends on the three.
pub const VKNOWN: GuestReg = GuestReg(71);
/// `vtype.vill`, on RV32 too.
pub const VILL: u64 = 1 << 63;
/// A reservation address that no access has: odd, hence misaligned.
pub const NO_RESERVATION: u64 = u64::MAX;

/// Privilege modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Privilege {
    /// User.
    User = 0,
    /// Supervisor.
    Supervisor = 1,
    /// Machine.
    #[default]
    Machine = 3,
}

impl Privilege {
    /// From the encoding in `mstatus.MPP`; the reserved one reads as user.
    pub const fn from_bits(bits: u64) -> Self {
        match bits & 3 {
            3 => Self::Machine,
            1 => Self::Supervisor,
            _ => Self::User,
        }
    }

    /// The encoding in `mstatus.MPP`.
    pub const fn bits(self) -> u64 {
        self as u64
    }
}

impl Saved for Privilege {
    fn to_value(&self) -> Value {
        self.bits().to_value()
    }
    fn from_value(value: &Value) -> Result<Self, RestoreError> {
        match u8::from_value(value)? {
            n @ (0 | 1 | 3) => Ok(Self::from_bits(u64::from(n))),
            n => Err(RestoreError::new(format!("{n} is no privilege mode"))),
        }
    }
}

/// The vector registers: 32 of [`VLENB_MAX`] bytes each. With a smaller VLEN, register n begins at
/// n · VLEN/8, so that register groups are contiguous.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct VectorFile(pub [u8; 32 * VLENB_MAX]);

impl Default for VectorFile {
    fn default() -> Self {
        Self([0; 32 * VLENB_MAX])
    }
}

impl Saved for VectorFile {
    fn to_value(&self) -> Value {
        Value::Bytes(self.0.to_vec())
    }
    fn from_value(value: &Value) -> Result<Self, RestoreError> {
        let bytes = state::Blob::from_value(value)?.0;
        let len = bytes.len();
        let array = bytes
            .try_into()
            .map_err(|_| RestoreError::new(format!("{len} bytes of vector registers")))?;
        Ok(Self(array))
    }
}

/// Everything that software can observe of a hart. CSRs hold what was accepted by their masks.
#[derive(Clone, Debug, Default, PartialEq, Eq, SavedState)]
#[repr(C)]
pub struct State {
    /// Integer registers; `x0` stays zero.
    #[n(1)]
    pub x: [u64; 32],
    /// Floating-point registers, narrow values boxed.
    #[n(2)]
    pub f: [u64; 32],
    /// Address of the next instruction.
    #[n(3)]
    pub pc: u64,
    /// Address of the reservation, or [`NO_RESERVATION`].
    #[n(4)]
    pub reservation_address: u64,
    /// What was read when the reservation was made.
    #[n(5)]
    pub reservation_value: u64,
    /// Accrued floating-point exceptions: NV DZ OF UF NX from bit 4 down.
    #[n(6)]
    pub fflags: u64,
    /// Floating-point rounding mode.
    #[n(7)]
    pub frm: u64,
    /// Vector length.
    #[n(8)]
    pub vl: u64,
    /// Vector type; bit XLEN−1 (vill) is held in bit 63.
    #[n(9)]
    pub vtype: u64,
    /// First element of the next vector instruction.
    #[n(10)]
    pub vstart: u64,
    /// Fixed-point rounding mode.
    #[n(11)]
    pub vxrm: u64,
    /// Fixed-point saturation.
    #[n(12)]
    pub vxsat: u64,
    /// Present privilege mode.
    #[n(13)]
    pub privilege: Privilege,
    /// `mstatus` as on RV64 (on RV32, `mstatush` is the upper half); SD is computed.
    #[n(14)]
    pub mstatus: u64,
    /// Enabled extensions that `misa` can turn off; the others are in the configuration.
    #[n(15)]
    pub misa: u64,
    /// Exceptions that go to S-mode.
    #[n(16)]
    pub medeleg: u64,
    /// Interrupts that go to S-mode.
    #[n(17)]
    pub mideleg: u64,
    /// Enabled interrupts.
    #[n(18)]
    pub mie: u64,
    /// The bits of `mip` that software wrote: SSIP, STIP, SEIP, LCOFIP.
    #[n(19)]
    pub mip: u64,
    /// M-mode trap vector.
    #[n(20)]
    pub mtvec: u64,
    /// Counters that S-mode may read.
    #[n(21)]
    pub mcounteren: u64,
    /// Counters that stand still.
    #[n(22)]
    pub mcountinhibit: u64,
    /// M-mode scratch.
    #[n(23)]
    pub mscratch: u64,
    /// Address that M-mode's trap came from.
    #[n(24)]
    pub mepc: u64,
    /// Cause of M-mode's trap, the interrupt bit in bit 63.
    #[n(25)]
    pub mcause: u64,
    /// What goes with M-mode's trap.
    #[n(26)]
    pub mtval: u64,
    /// M-mode environment configuration.
    #[n(27)]
    pub menvcfg: u64,
    /// M-mode security configuration.
    #[n(28)]
    pub mseccfg: u64,
    /// S-mode trap vector.
    #[n(29)]
    pub stvec: u64,
    /// Counters that U-mode may read.
    #[n(30)]
    pub scounteren: u64,
    /// S-mode scratch.
    #[n(31)]
    pub sscratch: u64,
    /// Address that S-mode's trap came from.
    #[n(32)]
    pub sepc: u64,
    /// Cause of S-mode's trap, the interrupt bit in bit 63.
    #[n(33)]
    pub scause: u64,
    /// What goes with S-mode's trap.
    #[n(34)]
    pub stval: u64,
    /// S-mode environment configuration.
    #[n(35)]
    pub senvcfg: u64,
    /// Address translation of S-mode and U-mode.
    #[n(36)]
    pub satp: u64,
    /// Supervisor timer compare value.
    #[n(37)]
    pub stimecmp: u64,
    /// Physical memory protection: configuration.
    #[n(38)]
    pub pmpcfg: [u8; PMP_ENTRIES],
    /// Physical memory protection: addresses.
    #[n(39)]
    pub pmpaddr: [u64; PMP_ENTRIES],
    /// State-enable of M-mode.
    #[n(40)]
    pub mstateen: [u64; 4],
    /// State-enable of S-mode.
    #[n(41)]
    pub sstateen: [u64; 4],
    /// `mcycle` and `minstret`: their value if inhibited, else what to add to the clock's count.
    #[n(42)]
    pub counters: [u64; 2],
    /// Programmable counters.
    #[n(43)]
    pub mhpmcounter: [u64; HPM_COUNTERS],
    /// Events of the programmable counters.
    #[n(44)]
    pub mhpmevent: [u64; HPM_COUNTERS],
    /// Mode filters of `mcycle` and `minstret`.
    #[n(45)]
    pub counter_config: [u64; 2],
    /// Selector of M-mode's indirect registers.
    #[n(46)]
    pub miselect: u64,
    /// Selector of S-mode's indirect registers.
    #[n(47)]
    pub siselect: u64,
    /// Interrupts that M-mode makes visible to S-mode beside delegation.
    #[n(48)]
    pub mvien: u64,
    /// Their pending bits.
    #[n(49)]
    pub mvip: u64,
    /// Priorities of M-mode's local interrupts 0 to 63.
    #[n(50)]
    pub miprio: Priorities,
    /// Priorities of S-mode's local interrupts 0 to 63.
    #[n(51)]
    pub siprio: Priorities,
    /// Vector registers.
    #[n(52)]
    pub v: VectorFile,
    /// 1 while the mode says what `vtype`, `vl` and `vstart` are, which code that is specialised for
    /// them wants; 0 makes other code the same for all of them.
    #[n(53)]
    pub vknown: u64,
    /// User mode: the exception that nobody has taken yet, as `user.rs` packs it; 0 for none.
    #[n(54)]
    pub event: u64,
    /// What goes with it.
    #[n(55)]
    pub event_value: u64,
}

/// Priority numbers of local interrupts 0 to 63.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priorities(pub [u8; 64]);

impl Default for Priorities {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl Saved for Priorities {
    fn to_value(&self) -> Value {
        Value::Bytes(self.0.to_vec())
    }
    fn from_value(value: &Value) -> Result<Self, RestoreError> {
        let bytes = state::Blob::from_value(value)?.0;
        let array =
            bytes.try_into().map_err(|_| RestoreError::new("wrong number of priorities"))?;
        Ok(Self(array))
    }
}

/// Names of integer registers.
pub(crate) const X_NAMES: [&str; 32] = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4",
    "a5", "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4",
    "t5", "t6",
];
/// Names of floating-point registers.
pub(crate) const F_NAMES: [&str; 32] = [
    "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2",
    "fa3", "fa4", "fa5", "fa6", "fa7", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9",
    "fs10", "fs11", "ft8", "ft9", "ft10", "ft11",
];
/// Integer registers that get a host register of their own, the hottest first:
/// a5 a4 a0 a3 sp s0 a1 a2 s1 a6 ra.
const PINNED: [u8; 11] = [15, 14, 10, 13, 2, 8, 11, 12, 9, 16, 1];

/// The registers that IR can name.
pub static REGISTERS: [RegInfo; 72] = register_table();

const fn register_table() -> [RegInfo; 72] {
    let pc = offset_of!(State, pc) as u32;
    let mut table = [RegInfo { name: "pc", class: RegClass::Int, offset: pc, pin: 0 }; 72];
    let mut i = 0;
    while i < 32 {
        let at = 8 * i as u32;
        table[i].name = X_NAMES[i];
        table[i].offset = offset_of!(State, x) as u32 + at;
        table[32 + i].name = F_NAMES[i];
        table[32 + i].class = RegClass::Float;
        table[32 + i].offset = offset_of!(State, f) as u32 + at;
        i += 1;
    }
    table[65].name = "reservation_address";
    table[65].offset = offset_of!(State, reservation_address) as u32;
    table[66].name = "reservation_value";
    table[66].offset = offset_of!(State, reservation_value) as u32;
    table[67].name = "fflags";
    table[67].offset = offset_of!(State, fflags) as u32;
    table[68].name = "vl";
    table[68].offset = offset_of!(State, vl) as u32;
    table[69].name = "vtype";
    table[69].offset = offset_of!(State, vtype) as u32;
    table[70].name = "vstart";
    table[70].offset = offset_of!(State, vstart) as u32;
    table[71].name = "vknown";
    table[71].offset = offset_of!(State, vknown) as u32;
    let mut rank = 0;
    while rank < PINNED.len() {
        table[PINNED[rank] as usize].pin = rank as u8 + 1;
        rank += 1;
    }
    table
}

impl State {
    /// A register of the table.
    pub fn reg(&self, reg: GuestReg) -> u64 {
        let i = usize::from(reg.0);
        match i {
            0..32 => self.x[i],
            32..64 => self.f[i - 32],
            _ if reg == RESERVATION_ADDRESS => self.reservation_address,
            _ if reg == RESERVATION_VALUE => self.reservation_value,
            _ if reg == FFLAGS => self.fflags,
            _ if reg == VL => self.vl,
            _ if reg == VTYPE => self.vtype,
            _ if reg == VSTART => self.vstart,
            _ if reg == VKNOWN => self.vknown,
            _ => self.pc,
        }
    }

    /// Sets a register of the table.
    pub fn set_reg(&mut self, reg: GuestReg, value: u64) {
        let i = usize::from(reg.0);
        match i {
            0 => {}
            1..32 => self.x[i] = value,
            32..64 => self.f[i - 32] = value,
            _ if reg == RESERVATION_ADDRESS => self.reservation_address = value,
            _ if reg == RESERVATION_VALUE => self.reservation_value = value,
            _ if reg == FFLAGS => self.fflags = value,
            _ if reg == VL => self.vl = value,
            _ if reg == VTYPE => self.vtype = value,
            _ if reg == VSTART => self.vstart = value,
            _ if reg == VKNOWN => self.vknown = value,
            _ => self.pc = value,
        }
    }
}

pub mod flags {
    //! Bits of `isa::Mode::flags`: what the meaning of code depends on beside the address.
    //!
    //! `frm` is zero while FS is off. What `vtype`, `vl` and `vstart` are is known only after a
    //! vector instruction and on the way from there that stays within a function and its page;
    //! elsewhere, code is the same for all of them.

    use super::{Privilege, VILL};

    const FS: u32 = 2;
    const VS: u32 = 4;
    const FRM: u32 = 6;
    const LENGTH: u32 = 9;
    const VTYPE: u32 = 11;
    /// All about vectors but VS.
    const VECTOR: u32 = 0x3ff << LENGTH;
    /// FS and VS: the unit is off, its instructions are illegal.
    pub const OFF: u32 = 0;
    /// FS and VS: on; the first write must mark it dirty (and ends in a lookup).
    pub const CLEAN: u32 = 1;
    /// FS and VS: on and marked dirty already.
    pub const DIRTY: u32 = 2;

    /// Privilege mode.
    pub const fn privilege(flags: u32) -> Privilege {
        Privilege::from_bits(flags as u64)
    }
    /// State of the floating-point unit: [`OFF`], [`CLEAN`], [`DIRTY`].
    pub const fn fs(flags: u32) -> u32 {
        flags >> FS & 3
    }
    /// State of the vector unit: [`OFF`], [`CLEAN`], [`DIRTY`].
    pub const fn vs(flags: u32) -> u32 {
        flags >> VS & 3
    }
    /// Dynamic rounding mode, `frm`; may be an illegal one.
    pub const fn frm(flags: u32) -> u32 {
        flags >> FRM & 7
    }
    /// A two-bit status field of `mstatus` as [`OFF`], [`CLEAN`] or [`DIRTY`].
    const fn unit(status: u64) -> u32 {
        match status & 3 {
            0 => OFF,
            3 => DIRTY,
            _ => CLEAN,
        }
    }

    /// What is known of `vl` and `vstart`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(u32)]
    pub enum Length {
        /// Nothing, nor of `vtype`.
        Unknown = 0,
        /// `vl` is VLMAX, `vstart` is 0.
        Full = 1,
        /// `vl` is less than VLMAX, `vstart` is 0.
        Short = 2,
        /// `vstart` is not 0, or `vtype` is illegal, or a restored state has nonsense.
        Odd = 3,
    }

    /// What is known of the length of vectors.
    pub const fn length(flags: u32) -> Length {
        match flags >> LENGTH & 3 {
            0 => Length::Unknown,
            1 => Length::Full,
            2 => Length::Short,
            _ => Length::Odd,
        }
    }
    /// `vtype`; 0 if it is not known or illegal.
    pub const fn vtype(flags: u32) -> u64 {
        (flags >> VTYPE & 0xff) as u64
    }
    /// The same flags with what is known of vectors replaced.
    pub(crate) const fn with_vector(flags: u32, length: Length, vtype: u64) -> u32 {
        let vtype = if vtype & VILL == 0 { vtype as u32 & 0xff } else { 0 };
        flags & !VECTOR | (length as u32) << LENGTH | vtype << VTYPE
    }
    /// The same flags with nothing known of vectors.
    pub(crate) const fn without_vector(flags: u32) -> u32 {
        flags & !VECTOR
    }

    /// Privilege, FS, VS and `frm`.
    pub(crate) const fn scalar(privilege: Privilege, fs: u64, vs: u64, frm: u64) -> u32 {
        let frm = if fs & 3 == 0 { 0 } else { frm as u32 & 7 };
        privilege as u32 | unit(fs) << FS | unit(vs) << VS | frm << FRM
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::{decode, encode};

    fn filled() -> State {
        let mut s = State::default();
        for i in 1..32 {
            s.x[i] = i as u64 * 3;
            s.f[i] = !(i as u64);
        }
        s.v.0[77] = 9;
        s.privilege = Privilege::Supervisor;
        s.satp = 8 << 60 | 0x8_0000;
        s.pmpaddr[15] = 7;
        s
    }

    #[test]
    fn saving_restoring_and_saving_again_gives_the_same_bytes() {
        let bytes = encode(&filled().save());
        let mut other = State::default();
        other.restore(&decode(&bytes).unwrap()).unwrap();
        assert_eq!(other, filled());
        assert_eq!(encode(&other.save()), bytes);
    }

    #[test]
    fn an_illegal_privilege_mode_is_refused() {
        let value = Value::Record(vec![(13, Value::Unsigned(2))]);
        let err = State::default().restore(&value).unwrap_err();
        assert_eq!(err.to_string(), "saved state: privilege: 2 is no privilege mode");
    }

    #[test]
    fn the_register_table_matches_the_structure() {
        assert_eq!(REGISTERS[10].name, "a0");
        assert_eq!(REGISTERS[10].offset, 80);
        assert_eq!(REGISTERS[15].pin, 1);
        assert_eq!(REGISTERS[usize::from(F0)].offset, 256);
        assert_eq!(REGISTERS[usize::from(PC.0)].offset, 512);
        let mut s = filled();
        for i in 1..72 {
            s.set_reg(GuestReg(i), u64::from(i) << 8);
        }
        assert!((1..72).all(|i| s.reg(GuestReg(i)) == u64::from(i) << 8));
        s.set_reg(GuestReg(0), 5);
        assert_eq!(s.reg(GuestReg(0)), 0);
    }

    #[test]
    fn flags_take_apart_what_they_were_made_of() {
        let f = flags::scalar(Privilege::Supervisor, 3, 1, 4);
        assert_eq!(flags::privilege(f), Privilege::Supervisor);
        assert_eq!((flags::fs(f), flags::vs(f), flags::frm(f)), (flags::DIRTY, flags::CLEAN, 4));
        assert_eq!(flags::frm(flags::scalar(Privilege::User, 0, 0, 5)), 0);
        let v = flags::with_vector(f, flags::Length::Short, 0xd8);
        assert_eq!((flags::length(v), flags::vtype(v)), (flags::Length::Short, 0xd8));
        assert_eq!(flags::vtype(flags::with_vector(v, flags::Length::Odd, VILL)), 0);
        assert_eq!(flags::without_vector(v), f);
    }
}
