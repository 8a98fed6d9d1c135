//! A hart: its configuration and wiring, and the contract with the engine.

use crate::decode::{self, ExtSet};
use crate::helpers::HELPERS;
use crate::state::{NO_RESERVATION, Privilege, REGISTERS, State, flags};
use crate::trap::{Exception, Trap};
use ir::{Builder, GuestReg, RegInfo};
use isa::{
    Access, CodeSource, Cpu, FpFlags, Guest, Helper, HostRounding, Mapping, MemoryFault, Mode,
};

/// Width of integer registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xlen {
    /// RV32.
    Rv32,
    /// RV64.
    #[default]
    Rv64,
}

/// What a hart can do: the result of a CPU model and its properties.
#[derive(Clone, Debug)]
pub struct Config {
    /// Width of integer registers.
    pub xlen: Xlen,
    /// Extensions that encodings depend on, closed.
    pub ext: ExtSet,
    /// Width of vector registers in bits.
    pub vlen: u32,
    /// Widest vector element in bits.
    pub elen: u32,
}

/// How a hart is tied into a machine.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// `mhartid`.
    pub hart_id: u64,
    /// Where execution begins after a reset.
    pub reset_pc: u64,
}

/// A RISC-V hart.
#[derive(Debug)]
pub struct Riscv {
    /// What it can do.
    pub config: Config,
    /// How it is tied into the machine.
    pub wiring: Wiring,
}

impl Riscv {
    /// Whether registers are 32 bits wide.
    pub fn is_rv32(&self) -> bool {
        self.config.xlen == Xlen::Rv32
    }

    /// An address as `pc` and memory operations hold it: zero-extended on RV32.
    pub fn address(&self, value: u64) -> u64 {
        if self.is_rv32() { value & 0xffff_ffff } else { value }
    }

    /// A register value: sign-extended on RV32.
    pub fn value(&self, value: u64) -> u64 {
        if self.is_rv32() { i64::from(value as i32).cast_unsigned() } else { value }
    }
}

impl Guest for Riscv {
    type State = State;
    type Trap = Trap;

    fn registers() -> &'static [RegInfo] {
        &REGISTERS
    }

    fn helpers() -> &'static [Helper<Self>] {
        HELPERS
    }

    fn reg(state: &State, reg: GuestReg) -> u64 {
        state.reg(reg)
    }

    fn set_reg(state: &mut State, reg: GuestReg, value: u64) {
        state.set_reg(reg, value);
    }

    fn reset(&self) -> State {
        State { pc: self.wiring.reset_pc, reservation_address: NO_RESERVATION, ..State::default() }
    }

    fn mode(&self, state: &State) -> Mode {
        let (fs, vs) = (state.mstatus >> 13, state.mstatus >> 9);
        let mut flags = flags::scalar(state.privilege, fs, vs, state.frm);
        if vs & 3 != 0 {
            flags |= flags::vector(state.vtype);
        }
        Mode { pc: state.pc, flags, mmu: 3 }
    }

    fn set_pc(state: &mut State, pc: u64) {
        state.pc = pc;
    }

    fn translate(
        &self,
        mode: &Mode,
        max_insns: u32,
        code: &mut dyn CodeSource,
        b: &mut Builder<'_>,
    ) {
        crate::translate::translate_unit(self, mode, max_insns, code, b);
    }

    fn disassemble(&self, pc: u64, code: &[u8]) -> (String, usize) {
        let (insn, len) = match *code {
            [a, b, c, d, ..] if a & 3 == 3 => (u32::from_le_bytes([a, b, c, d]), 4),
            [a, b, ..] => (u32::from_le_bytes([a, b, 0, 0]), 2),
            _ => return (".byte".to_owned(), code.len()),
        };
        let text = decode::disassemble(insn, pc, self.config.ext);
        let width = 2 + 2 * len;
        (text.unwrap_or_else(|| format!("illegal {insn:#0width$x}")), len)
    }

    fn translate_address(
        _cpu: &mut Cpu<'_, Self>,
        _mmu: u8,
        _access: Access,
        gva: u64,
    ) -> Result<Mapping, Trap> {
        Ok(Mapping { gpa: gva, read: true, write: true, execute: true, whole_page: true })
    }

    fn debug_translate(_cpu: &mut Cpu<'_, Self>, gva: u64) -> Option<u64> {
        Some(gva)
    }

    fn memory_trap(fault: MemoryFault, access: Access, gva: u64) -> Trap {
        let cause = match (fault, access) {
            (MemoryFault::Misaligned, Access::Load) => Exception::LoadMisaligned,
            (MemoryFault::Misaligned, Access::Store | Access::Atomic) => Exception::StoreMisaligned,
            (MemoryFault::Misaligned, Access::Fetch) => Exception::FetchMisaligned,
            (MemoryFault::Bus, Access::Load) => Exception::LoadAccess,
            (MemoryFault::Bus, Access::Store | Access::Atomic) => Exception::StoreAccess,
            (MemoryFault::Bus, Access::Fetch) => Exception::FetchAccess,
        };
        Trap::new(cause, gva)
    }

    fn raise(cpu: &mut Cpu<'_, Self>, _trap: Trap) {
        cpu.state.privilege = Privilege::Machine;
    }

    fn interrupt(_cpu: &mut Cpu<'_, Self>) -> bool {
        false
    }

    fn wakes(_cpu: &mut Cpu<'_, Self>) -> bool {
        true
    }

    fn rounding(state: &State) -> HostRounding {
        match state.frm {
            1 => HostRounding::Zero,
            2 => HostRounding::Down,
            3 => HostRounding::Up,
            _ => HostRounding::Nearest,
        }
    }

    fn add_fp_flags(state: &mut State, flags: FpFlags) {
        let FpFlags { invalid, div_by_zero, overflow, underflow, inexact } = flags;
        let bits = [inexact, underflow, overflow, div_by_zero, invalid];
        for (bit, set) in bits.into_iter().enumerate() {
            state.fflags |= u64::from(set) << bit;
        }
    }
}
