//! An ISA whose code is a unit of IR: registers, an identity mapping of a few pages, helpers.
//!
//! Nothing is decoded: the translator hands out the unit that the bench put in.

use ir::{Builder, ExitKind, GuestReg, MemOp, RegClass, RegInfo, Unit, VectorRegion};
use isa::{
    Access, CodeSource, Cpu, FloatControl, FpFlags, Guest, Helper, HostRounding, LeafFn, Mapping,
    MemoryFault, Mode,
};
use state::{Blob, RestoreError, Saved, SavedState, Value};
use std::mem::offset_of;
use std::sync::{Arc, Mutex, PoisonError};

/// Integer registers.
pub(crate) const INTS: usize = 24;
/// Floating-point registers.
pub(crate) const FLOATS: usize = 16;
/// Row of the floating-point flags.
pub(crate) const FFLAGS: GuestReg = GuestReg((INTS + FLOATS) as u8);
/// Page that code is said to lie in.
pub(crate) const CODE: u64 = 0x1000;
/// Pages of memory: two to read and write, one to read.
pub(crate) const WINDOW: u64 = 0x1_0000;
/// Bytes of the window that may be written.
pub(crate) const WRITABLE: u64 = 0x2000;
/// Bytes of the window.
pub(crate) const WINDOW_LEN: u64 = 0x3000;
/// A page where nothing answers. Every other page faults.
pub(crate) const BUS: u64 = 0x2_0000;
/// Where exceptions go.
pub(crate) const HANDLER: u64 = 0xf000_0000;

/// Bytes of vector registers.
pub(crate) const VECTOR_BYTES: usize = 256;

/// The vector registers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Vectors(pub [u8; VECTOR_BYTES]);

impl Default for Vectors {
    fn default() -> Self {
        Self([0; VECTOR_BYTES])
    }
}

impl Saved for Vectors {
    fn to_value(&self) -> Value {
        Value::Bytes(self.0.to_vec())
    }
    fn from_value(value: &Value) -> Result<Self, RestoreError> {
        let bytes = Blob::from_value(value)?.0;
        let array = bytes.try_into().map_err(|_| RestoreError::new("not as many bytes"))?;
        Ok(Self(array))
    }
}

/// Registers, and what an exception leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq, SavedState)]
#[repr(C)]
pub struct TestState {
    /// Integer registers.
    #[n(1)]
    pub x: [u64; INTS],
    /// Floating-point registers.
    #[n(2)]
    pub f: [u64; FLOATS],
    /// Address of the next instruction.
    #[n(3)]
    pub pc: u64,
    /// Floating-point flags as [`ir::OpKind::FlagsGet`] orders them.
    #[n(4)]
    pub fflags: u64,
    /// Rounding mode, modulo 4 in the order of [`HostRounding`].
    #[n(5)]
    pub rounding: u64,
    /// Address of the instruction that faulted.
    #[n(6)]
    pub epc: u64,
    /// What it did wrong: 0 for nothing.
    #[n(7)]
    pub cause: u64,
    /// Where.
    #[n(8)]
    pub tval: u64,
    /// What helpers leave.
    #[n(9)]
    pub scratch: u64,
    /// Tells units at the same address apart.
    #[n(10)]
    pub serial: u64,
    /// Vector registers.
    #[n(11)]
    pub v: Vectors,
    /// Whether the unit's floating-point rules are [`FloatRules::Propagate`].
    #[n(12)]
    pub rules: u64,
    /// With those: 1 to flush tiny results to zero, 2 to take denormal operands for zeros.
    #[n(13)]
    pub flush: u64,
}

/// An exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestTrap {
    /// What was done wrong; not 0.
    pub cause: u64,
    /// Where.
    pub tval: u64,
}

/// The ISA.
#[derive(Default)]
pub struct TestGuest {
    unit: Mutex<Arc<Unit>>,
}

const FFLAGS_AT: u32 = offset_of!(TestState, fflags) as u32;

const REGISTERS: [RegInfo; INTS + FLOATS + 1] = {
    const X: [&str; INTS] = [
        "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
        "x14", "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23",
    ];
    const F: [&str; FLOATS] = [
        "f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11", "f12", "f13",
        "f14", "f15",
    ];
    let mut table = [RegInfo { name: "fflags", class: RegClass::Int, offset: FFLAGS_AT, pin: 0 };
        INTS + FLOATS + 1];
    let mut i = 0;
    while i < INTS {
        // Every third of the first 21 registers is pinned.
        let pin = if i % 3 == 1 && i < 21 { (i / 3 + 1) as u8 } else { 0 };
        let offset = (offset_of!(TestState, x) + 8 * i) as u32;
        table[i] = RegInfo { name: X[i], class: RegClass::Int, offset, pin };
        i += 1;
    }
    i = 0;
    while i < FLOATS {
        let offset = (offset_of!(TestState, f) + 8 * i) as u32;
        table[INTS + i] = RegInfo { name: F[i], class: RegClass::Float, offset, pin: 0 };
        i += 1;
    }
    table
};

type TestCpu<'a> = Cpu<'a, TestGuest>;
type Called = Result<u64, TestTrap>;

/// Helper that sets the pc to its first argument.
pub(crate) const REDIRECT: u16 = 4;
/// Helpers of the copies between memory and vector registers.
pub(crate) const COPY_IN: u16 = 9;
pub(crate) const COPY_OUT: u16 = 10;
/// Helpers of copies of some bytes: the argument is where they go, and from bit 16 on how many fit.
pub(crate) const COPY_SOME_IN: u16 = 11;
pub(crate) const COPY_SOME_OUT: u16 = 12;
/// Helpers that do not set the pc.
pub(crate) const PLAIN: &[u16] = &[0, 1, 2, 3, 5, 6, 7, 8];

/// Leaf helpers.
pub(crate) const LEAF_ROWS: &[u16] = &[LeafIndex::Pure as u16, LeafIndex::Vectors as u16];

isa::leaves! { TestState;
    /// A function of its arguments.
    Pure leaf_pure;
    /// Reads some registers and changes others.
    Vectors leaf_vectors;
}

fn leaf_pure(_: &mut TestState, [a, b, c]: [u64; 3]) -> u64 {
    a.wrapping_mul(5).wrapping_add(b.rotate_left(7)) ^ c
}

fn leaf_vectors(state: &mut TestState, [a, b, c]: [u64; 3]) -> u64 {
    state.scratch = state.scratch.wrapping_add(a);
    // These are not pinned.
    state.x[2] ^= state.x[3].wrapping_mul(3).wrapping_add(state.f[1]);
    let (from, to) = (a as usize % VECTOR_BYTES, b as usize % VECTOR_BYTES);
    state.v.0[to] ^= c as u8;
    u64::from(state.v.0[from])
}

const HELPERS: &[Helper<TestGuest>] = &[
    Helper {
        name: "pure",
        run: |_, [a, b, c]| Ok(a.wrapping_mul(3) ^ b ^ c),
        float: false,
        quiet: true,
    },
    Helper { name: "change", run: change, float: false, quiet: false },
    Helper { name: "fault_if_odd", run: fault_if_odd, float: false, quiet: true },
    Helper { name: "float_state", run: float_state, float: true, quiet: false },
    Helper { name: "redirect", run: redirect, float: false, quiet: false },
    Helper { name: "load", run: load, float: false, quiet: false },
    Helper { name: "pc", run: |cpu, [a, ..]| Ok(cpu.state.pc ^ a), float: false, quiet: false },
    Helper { name: "exchange_float", run: exchange_float, float: false, quiet: false },
    Helper { name: "exchange_byte", run: exchange_byte, float: false, quiet: true },
    Helper { name: "copy_in", run: copy_in, float: false, quiet: true },
    Helper { name: "copy_out", run: copy_out, float: false, quiet: true },
    Helper { name: "copy_some_in", run: copy_some_in, float: false, quiet: true },
    Helper { name: "copy_some_out", run: copy_some_out, float: false, quiet: true },
];

/// Swaps two integer registers, one of which may be pinned.
fn change(cpu: &mut TestCpu<'_>, [a, b, c]: [u64; 3]) -> Called {
    let (i, j) = (a as usize % INTS, b as usize % INTS);
    cpu.state.x.swap(i, j);
    cpu.state.x[i] = cpu.state.x[i].wrapping_add(c);
    Ok(cpu.state.x[j])
}

fn fault_if_odd(cpu: &mut TestCpu<'_>, [a, b, c]: [u64; 3]) -> Called {
    cpu.state.scratch ^= b;
    if a & 1 != 0 { Err(TestTrap { cause: 7, tval: b }) } else { Ok(c) }
}

/// Reads flags and rounding, then sets both.
fn float_state(cpu: &mut TestCpu<'_>, [a, b, _]: [u64; 3]) -> Called {
    let old = cpu.state.fflags | cpu.state.rounding << 8;
    cpu.state.fflags = a & 0x1f;
    cpu.state.rounding = b & 3;
    cpu.state.flush = b >> 2 & 3;
    Ok(old)
}

fn redirect(cpu: &mut TestCpu<'_>, [a, ..]: [u64; 3]) -> Called {
    cpu.state.pc = a;
    Ok(0)
}

fn load(cpu: &mut TestCpu<'_>, [a, ..]: [u64; 3]) -> Called {
    cpu.load(0, MemOp::U32, WINDOW + a % (WINDOW_LEN + 8))
}

fn exchange_float(cpu: &mut TestCpu<'_>, [a, b, _]: [u64; 3]) -> Called {
    let row = a as usize % FLOATS;
    Ok(std::mem::replace(&mut cpu.state.f[row], b))
}

fn exchange_byte(cpu: &mut TestCpu<'_>, [a, b, _]: [u64; 3]) -> Called {
    let byte = &mut cpu.state.v.0[a as usize % VECTOR_BYTES];
    Ok(std::mem::replace(byte, b as u8).into())
}

/// What `VCopyIn` does, byte by byte.
fn copy_in(cpu: &mut TestCpu<'_>, [_, from, place]: [u64; 3]) -> Called {
    for i in 0..place >> 32 {
        let byte = cpu.load(0, MemOp::U8, from.wrapping_add(i))?;
        cpu.state.v.0[(place as u32 as u64 + i) as usize] = byte as u8;
    }
    Ok(0)
}

/// What `VCopyOut` does.
fn copy_out(cpu: &mut TestCpu<'_>, [_, to, place]: [u64; 3]) -> Called {
    for i in 0..place >> 32 {
        let byte = cpu.state.v.0[(place as u32 as u64 + i) as usize];
        cpu.store(0, MemOp::U8, to.wrapping_add(i), byte.into())?;
    }
    Ok(0)
}

/// What `VCopySomeIn` does.
fn copy_some_in(cpu: &mut TestCpu<'_>, [arg, from, count]: [u64; 3]) -> Called {
    copy_in(cpu, [0, from, arg & 0xffff | count.min(arg >> 16) << 32])
}

/// What `VCopySomeOut` does.
fn copy_some_out(cpu: &mut TestCpu<'_>, [arg, to, count]: [u64; 3]) -> Called {
    copy_out(cpu, [0, to, arg & 0xffff | count.min(arg >> 16) << 32])
}

/// The rights on the page of an address: to read, to write. `None` for a fault.
pub(crate) fn rights(gva: u64) -> Option<(bool, bool)> {
    match gva {
        WINDOW.. if gva < WINDOW + WRITABLE => Some((true, true)),
        WINDOW.. if gva < WINDOW + WINDOW_LEN => Some((true, false)),
        BUS.. if gva < BUS + 0x1000 => Some((true, true)),
        _ => None,
    }
}

impl TestGuest {
    /// The unit that is at every address from now on.
    pub(crate) fn set_unit(&self, unit: &Arc<Unit>) {
        *self.unit.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(unit);
    }

    /// What an access finds.
    pub(crate) fn check(access: Access, gva: u64) -> Result<(bool, bool), TestTrap> {
        let cause =
            1 + u64::from(access == Access::Store) + 2 * u64::from(access == Access::Atomic);
        let fault = TestTrap { cause, tval: gva };
        let (read, write) = rights(gva).ok_or(fault)?;
        let allowed = if access == Access::Load { read } else { write };
        if allowed { Ok((read, write)) } else { Err(fault) }
    }
}

impl Guest for TestGuest {
    type State = TestState;
    type Trap = TestTrap;
    const VECTORS: VectorRegion =
        VectorRegion { offset: offset_of!(TestState, v) as u32, len: VECTOR_BYTES as u32 };

    fn vector_bytes(state: &mut TestState) -> &mut [u8] {
        &mut state.v.0
    }

    fn registers() -> &'static [RegInfo] {
        &REGISTERS
    }
    fn helpers() -> &'static [Helper<Self>] {
        HELPERS
    }
    fn leaves() -> &'static [LeafFn<TestState>] {
        LEAVES
    }
    fn reg(state: &TestState, GuestReg(row): GuestReg) -> u64 {
        match usize::from(row) {
            i @ 0..INTS => state.x[i],
            _ if GuestReg(row) == FFLAGS => state.fflags,
            i => state.f[i - INTS],
        }
    }
    fn set_reg(state: &mut TestState, GuestReg(row): GuestReg, value: u64) {
        match usize::from(row) {
            i @ 0..INTS => state.x[i] = value,
            _ if GuestReg(row) == FFLAGS => state.fflags = value,
            i => state.f[i - INTS] = value,
        }
    }
    fn reset(&self) -> TestState {
        TestState { pc: CODE, ..TestState::default() }
    }
    fn mode(&self, state: &TestState) -> Mode {
        Mode { pc: state.pc, flags: state.serial as u32 & 0x3fff_ffff, mmu: 0 }
    }
    fn set_pc(state: &mut TestState, pc: u64) {
        state.pc = pc;
    }
    fn translate(&self, mode: &Mode, _: u32, _: &mut dyn CodeSource, b: &mut Builder<'_>) {
        let unit = Arc::clone(&self.unit.lock().unwrap_or_else(PoisonError::into_inner));
        if unit.ops.is_empty() {
            b.exit_loop(ExitKind::Lookup, mode.pc);
        } else {
            b.replay(&unit);
        }
    }
    fn disassemble(&self, _: u64, _: &[u8]) -> (String, usize) {
        ("ir".to_owned(), 4)
    }
    fn translate_address(
        _: &mut TestCpu<'_>,
        _: u8,
        access: Access,
        gva: u64,
        _: u32,
    ) -> Result<Mapping, TestTrap> {
        let mapping = Mapping {
            gpa: gva,
            read: true,
            write: true,
            execute: false,
            span: 4096,
            global: false,
            whole_page: true,
        };
        if access == Access::Fetch {
            return Ok(mapping);
        }
        let (read, write) = Self::check(access, gva)?;
        Ok(Mapping { read, write, ..mapping })
    }
    fn debug_translate(_: &mut TestCpu<'_>, gva: u64) -> Option<u64> {
        Some(gva)
    }
    fn memory_trap(fault: MemoryFault, access: Access, gva: u64) -> TestTrap {
        let kind = if fault == MemoryFault::Bus { 16 } else { 32 };
        TestTrap { cause: kind + access as u64, tval: gva }
    }
    fn raise(cpu: &mut TestCpu<'_>, trap: TestTrap) {
        let state = &mut *cpu.state;
        (state.epc, state.cause, state.tval) = (state.pc, trap.cause, trap.tval);
        state.pc = HANDLER;
    }
    fn interrupt(_: &mut TestCpu<'_>) -> bool {
        false
    }
    fn interrupt_due(_cpu: &mut Cpu<'_, Self>) -> bool {
        false
    }

    fn wakes(_: &mut TestCpu<'_>) -> bool {
        false
    }
    fn rounding(state: &TestState) -> HostRounding {
        match state.rounding & 3 {
            0 => HostRounding::Nearest,
            1 => HostRounding::Down,
            2 => HostRounding::Up,
            _ => HostRounding::Zero,
        }
    }
    fn float_control(state: &TestState) -> FloatControl {
        let flush = state.rules * state.flush;
        FloatControl {
            rounding: Self::rounding(state),
            flush_to_zero: flush & 1 != 0,
            denormals_are_zero: flush & 2 != 0,
        }
    }
    fn add_fp_flags(state: &mut TestState, flags: FpFlags) {
        let FpFlags { invalid, div_by_zero, overflow, underflow, inexact, denormal } = flags;
        let denormal = denormal && state.rules != 0;
        let bits = [inexact, underflow, overflow, div_by_zero, invalid, denormal];
        for (bit, set) in bits.into_iter().enumerate() {
            state.fflags |= u64::from(set) << bit;
        }
    }
}
