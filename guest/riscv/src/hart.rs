//! A hart: its configuration and wiring, and the contract with the engine.

use crate::csr;
use crate::debug;
use crate::decode;
use crate::helpers::HELPERS;
use crate::imsic::Imsic;
use crate::mmu;
use crate::model::{Config, Feature};
use crate::software::SoftwareEdge;
use crate::state::flags::{self, Length};
use crate::state::{NO_RESERVATION, Privilege, REGISTERS, State, VILL, VectorFile};
use crate::status::{ADUE, MPP_SHIFT, PBMTE};
use crate::timer::SupervisorTimer;
use crate::trap::{self, Exception, Trap};
use ir::{Builder, GuestReg, RegInfo, VectorRegion};
use isa::{
    Access, CodeSource, Cpu, FpFlags, Guest, Helper, HostRounding, Mapping, MemoryFault, Mode,
};
use std::mem::offset_of;
use std::sync::Arc;
use time::Counter;

/// Width of integer registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xlen {
    /// RV32.
    Rv32,
    /// RV64.
    #[default]
    Rv64,
}

/// How a hart is tied into a machine.
pub struct Wiring {
    /// `mhartid`.
    pub hart_id: u64,
    /// Where execution begins after a reset.
    pub reset_pc: u64,
    /// `time` and the supervisor timer.
    pub timer: SupervisorTimer,
    /// The incoming MSI controller, if there is one.
    pub imsic: Option<Arc<dyn Imsic>>,
    /// Supervisor software interrupts from outside.
    pub software: Arc<SoftwareEdge>,
    /// Whether there is no machine: programs run in U-mode, and exceptions are for whoever plays
    /// their operating system.
    pub user: bool,
}

impl Wiring {
    /// A hart without MSIs whose `time` is `counter`.
    pub fn new(hart_id: u64, reset_pc: u64, counter: Counter) -> Self {
        let timer = SupervisorTimer::new(counter);
        Self { hart_id, reset_pc, timer, imsic: None, software: Arc::default(), user: false }
    }
}

/// A RISC-V hart.
pub struct Riscv {
    /// What it can do.
    pub config: Config,
    /// How it is tied into the machine.
    pub wiring: Wiring,
}

impl Riscv {
    /// Whether the hart has `feature`.
    pub fn has(&self, feature: Feature) -> bool {
        self.config.has(feature)
    }

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

    /// Where a trap return to `epc` goes: aligned as instructions are.
    pub(crate) fn return_address(&self, epc: u64) -> u64 {
        if self.has(Feature::C) || self.has(Feature::Zca) { epc & !1 } else { epc & !3 }
    }

    /// Most elements of a vector register group; `None` if `vtype` does not fit the hart.
    pub(crate) fn vlmax(&self, vtype: u64) -> Option<u64> {
        let (lmul, sew) = (vtype & 7, vtype >> 3 & 7);
        let one = u64::from(self.config.vlen / 8) >> sew;
        let count = if lmul < 4 { one << lmul } else { one >> (8 - lmul) };
        let fits = vtype >> 8 == 0 && lmul != 4 && 8 << sew <= self.config.elen;
        (fits && count > 0).then_some(count)
    }

    /// What vector instructions are to do, in the mode's terms.
    fn vector_length(&self, state: &State) -> Length {
        match self.vlmax(state.vtype) {
            Some(vlmax) if state.vstart == 0 && state.vl == vlmax => Length::Full,
            Some(vlmax) if state.vstart == 0 && state.vl < vlmax => Length::Short,
            _ => Length::Odd,
        }
    }

    /// Whether the hart has the privilege mode that `bits` encode.
    pub(crate) fn has_privilege(&self, bits: u64) -> bool {
        match bits & 3 {
            0 => self.has(Feature::U),
            1 => self.has(Feature::S),
            3 => true,
            _ => false,
        }
    }

    /// The least privileged mode that the hart has.
    pub(crate) fn lowest_privilege(&self) -> Privilege {
        if self.has(Feature::U) { Privilege::User } else { Privilege::Machine }
    }
}

impl Guest for Riscv {
    type State = State;
    type Trap = Trap;
    const VECTORS: VectorRegion =
        VectorRegion { offset: offset_of!(State, v) as u32, len: size_of::<VectorFile>() as u32 };

    fn vector_bytes(state: &mut State) -> &mut [u8] {
        &mut state.v.0
    }

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
        let mut state = State {
            pc: self.config.reset_pc.unwrap_or(self.wiring.reset_pc),
            reservation_address: NO_RESERVATION,
            vtype: VILL,
            mstatus: self.lowest_privilege().bits() << MPP_SHIFT,
            ..State::default()
        };
        if self.has(Feature::Svpbmt) {
            state.menvcfg |= PBMTE;
        }
        if self.has(Feature::Svadu) && !self.has(Feature::Svade) {
            state.menvcfg |= ADUE;
        }
        if self.wiring.user {
            crate::user::enter(self, &mut state);
        }
        csr::reset_counters(self, &mut state);
        self.wiring.timer.set(state.stimecmp);
        state
    }

    fn restored(&self, state: &State) {
        self.wiring.timer.set(state.stimecmp);
    }

    fn mode(&self, state: &State) -> Mode {
        let (fs, vs) = (state.mstatus >> 13, state.mstatus >> 9);
        let mut flags = flags::scalar(state.privilege, fs, vs, state.frm);
        if state.vknown != 0 && flags::vs(flags) != flags::OFF {
            flags = flags::with_vector(flags, self.vector_length(state), state.vtype);
        }
        Mode { pc: state.pc, flags, mmu: mmu::data_set(state) }
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
        cpu: &mut Cpu<'_, Self>,
        mmu: u8,
        access: Access,
        gva: u64,
        len: u32,
    ) -> Result<Mapping, Trap> {
        mmu::translate(cpu, mmu, access, (gva, len))
    }

    fn debug_translate(cpu: &mut Cpu<'_, Self>, gva: u64) -> Option<u64> {
        mmu::debug_translate(cpu, gva)
    }

    fn memory_trap(fault: MemoryFault, access: Access, gva: u64) -> Trap {
        let cause = match (fault, access) {
            (MemoryFault::Misaligned, Access::Load) => Exception::LoadMisaligned,
            (MemoryFault::Misaligned, Access::Store | Access::Atomic) => Exception::StoreMisaligned,
            (MemoryFault::Misaligned, Access::Fetch) => Exception::FetchMisaligned,
            (MemoryFault::Bus, access) => return mmu::access_fault(access, gva),
            (fault @ (MemoryFault::Unmapped | MemoryFault::Protected), access) => {
                let protected = fault == MemoryFault::Protected;
                return Trap { protected, ..mmu::page_fault(access, gva) };
            }
        };
        Trap::new(cause, gva)
    }

    fn raise(cpu: &mut Cpu<'_, Self>, trap: Trap) {
        trap::raise(cpu, trap);
    }

    fn holds_event(state: &State) -> bool {
        state.event != 0
    }

    fn interrupt(cpu: &mut Cpu<'_, Self>) -> bool {
        trap::interrupt(cpu)
    }

    fn interrupt_due(cpu: &mut Cpu<'_, Self>) -> bool {
        trap::interrupt_due(cpu)
    }

    fn wakes(cpu: &mut Cpu<'_, Self>) -> bool {
        trap::wakes(cpu)
    }

    fn dump(&self, state: &State, lines: u64) -> String {
        debug::dump(self, state, lines)
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
        let FpFlags { invalid, div_by_zero, overflow, underflow, inexact, denormal: _ } = flags;
        let bits = [inexact, underflow, overflow, div_by_zero, invalid];
        for (bit, set) in bits.into_iter().enumerate() {
            state.fflags |= u64::from(set) << bit;
        }
    }
}
