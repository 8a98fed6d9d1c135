//! Exceptions and interrupts: delegation, entry, return, priorities (privileged manual, chapters
//! “Machine-Level ISA” and “Supervisor-Level ISA”; RISC-V AIA, chapter “Interrupts”).

use crate::hart::Riscv;
use crate::imsic::File;
use crate::mmu;
use crate::model::Feature;
use crate::state::{Privilege, State};
use crate::status::{
    LCOFIP, MEIP, MIE, MPIE, MPP, MPP_SHIFT, MPRV, MSIP, MTIP, MXR, SEIP, SIE, SPIE, SPP, SSIP,
    STCE, STIP,
};
use isa::Cpu;

/// Synchronous exceptions, by code (privileged manual, “Machine Cause Register”).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exception {
    /// Instruction address misaligned.
    FetchMisaligned = 0,
    /// Instruction access fault.
    FetchAccess = 1,
    /// Illegal instruction.
    IllegalInstruction = 2,
    /// Breakpoint.
    Breakpoint = 3,
    /// Load address misaligned.
    LoadMisaligned = 4,
    /// Load access fault.
    LoadAccess = 5,
    /// Store or AMO address misaligned.
    StoreMisaligned = 6,
    /// Store or AMO access fault.
    StoreAccess = 7,
    /// Environment call from U-mode.
    EcallU = 8,
    /// Environment call from S-mode.
    EcallS = 9,
    /// Environment call from M-mode.
    EcallM = 11,
    /// Instruction page fault.
    FetchPage = 12,
    /// Load page fault.
    LoadPage = 13,
    /// Store or AMO page fault.
    StorePage = 15,
    /// Software check.
    SoftwareCheck = 18,
}

/// An exception to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// What happened.
    pub cause: Exception,
    /// What goes with it: the address, or the instruction's bits.
    pub tval: u64,
    /// User mode: the page is there, and may not be accessed like this.
    pub protected: bool,
}

impl Trap {
    /// An exception.
    pub const fn new(cause: Exception, tval: u64) -> Self {
        Self { cause, tval, protected: false }
    }

    /// Illegal instruction with these bits.
    pub const fn illegal(insn: u64) -> Self {
        Self::new(Exception::IllegalInstruction, insn)
    }
}

impl Exception {
    /// Name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FetchMisaligned => "misaligned_fetch",
            Self::FetchAccess => "fault_fetch",
            Self::IllegalInstruction => "illegal_instruction",
            Self::Breakpoint => "breakpoint",
            Self::LoadMisaligned => "misaligned_load",
            Self::LoadAccess => "fault_load",
            Self::StoreMisaligned => "misaligned_store",
            Self::StoreAccess => "fault_store",
            Self::EcallU => "user_ecall",
            Self::EcallS => "supervisor_ecall",
            Self::EcallM => "machine_ecall",
            Self::FetchPage => "exec_page_fault",
            Self::LoadPage => "load_page_fault",
            Self::StorePage => "store_page_fault",
            Self::SoftwareCheck => "sw_check",
        }
    }

    /// Whether it is one of loads and stores, which has their address.
    fn is_of_data(self) -> bool {
        use Exception as E;
        matches!(
            self,
            E::LoadMisaligned
                | E::LoadAccess
                | E::LoadPage
                | E::StoreMisaligned
                | E::StoreAccess
                | E::StorePage
        )
    }

    /// The exception with this code.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.iter().copied().find(|e| u64::from(*e as u8) == code)
    }

    const ALL: &[Self] = &[
        Self::FetchMisaligned,
        Self::FetchAccess,
        Self::IllegalInstruction,
        Self::Breakpoint,
        Self::LoadMisaligned,
        Self::LoadAccess,
        Self::StoreMisaligned,
        Self::StoreAccess,
        Self::EcallU,
        Self::EcallS,
        Self::EcallM,
        Self::FetchPage,
        Self::LoadPage,
        Self::StorePage,
        Self::SoftwareCheck,
    ];
}

/// Bit of `mcause` and `scause` that tells interrupts, as the state holds it.
pub(crate) const INTERRUPT: u64 = 1 << 63;

/// Interrupts from the most urgent on (AIA, “Default priority order”, those that exist here).
pub(crate) const BY_URGENCY: [(u32, &str); 7] = [
    (11, "m_external"),
    (3, "m_software"),
    (7, "m_timer"),
    (9, "s_external"),
    (1, "s_software"),
    (5, "s_timer"),
    (13, "counter_overflow"),
];

/// Pending interrupts, enabled or not: `mip` as software reads it.
pub(crate) fn pending(cpu: &mut Cpu<'_, Riscv>) -> u64 {
    let lines = cpu.lines();
    if cpu.guest.wiring.software.take() {
        cpu.state.mip |= SSIP;
    }
    pending_with(cpu.guest, cpu.state, lines)
}

/// The same with these levels of the input lines, changing nothing: an edge of SSIP that the hart has
/// not taken yet counts.
pub(crate) fn pending_with(hart: &Riscv, state: &State, lines: u64) -> u64 {
    let edge = if hart.wiring.software.seen() { SSIP } else { 0 };
    let timer = if state.menvcfg & STCE == 0 { state.mip & STIP } else { lines & STIP };
    let software = state.mip & (SSIP | SEIP | LCOFIP) | edge;
    let all = software | timer | lines & (MSIP | MTIP | MEIP | SEIP);
    if hart.has(Feature::S) { all } else { all & (MSIP | MTIP | MEIP) }
}

/// The interrupts of `pending` to choose from now, and whether they go to S-mode.
fn choices(state: &State, pending: u64) -> (u64, bool) {
    let enabled = pending & state.mie;
    let machine = enabled & !state.mideleg;
    let m_open = state.privilege < Privilege::Machine || state.mstatus & MIE != 0;
    if machine != 0 && m_open {
        return (machine, false);
    }
    let s_open = match state.privilege {
        Privilege::Machine => false,
        Privilege::Supervisor => state.mstatus & SIE != 0,
        Privilege::User => true,
    };
    (if s_open { enabled & state.mideleg } else { 0 }, true)
}

/// Whether an interrupt is pending and enabled.
pub(crate) fn interrupt_due(cpu: &mut Cpu<'_, Riscv>) -> bool {
    cpu.state.mie != 0 && {
        let pending = pending(cpu);
        choices(cpu.state, pending).0 != 0
    }
}

/// Takes the most urgent interrupt that is pending and enabled, if any; whether it did.
pub(crate) fn interrupt(cpu: &mut Cpu<'_, Riscv>) -> bool {
    if cpu.state.mie == 0 {
        return false;
    }
    let pending = pending(cpu);
    let (set, to_s) = choices(cpu.state, pending);
    let Some((number, name)) = most_urgent(cpu, set, to_s) else { return false };
    log_trap(cpu, true, u64::from(number), 0, name);
    let cause = INTERRUPT | u64::from(number);
    if to_s {
        enter_s(cpu, cause, 0)
    } else {
        enter_m(cpu, cause, 0)
    }
    true
}

/// The one of `set` to take first: by priority number, then by default order.
fn most_urgent(cpu: &Cpu<'_, Riscv>, set: u64, to_s: bool) -> Option<(u32, &'static str)> {
    let in_set = BY_URGENCY.iter().filter(|(n, _)| set >> n & 1 != 0);
    if cpu.guest.has(if to_s { Feature::Ssaia } else { Feature::Smaia }) {
        return in_set.min_by_key(|(n, _)| priority(cpu, *n, to_s)).copied();
    }
    in_set.copied().next()
}

/// Priority number of a pending interrupt of M-mode or S-mode, the more urgent the smaller: 0 for
/// those before the external interrupt that have none, 256 and more for those after it.
pub(crate) fn priority(cpu: &Cpu<'_, Riscv>, number: u32, to_s: bool) -> u32 {
    let (external, file, own) = if to_s {
        (9, File::Supervisor, &cpu.state.siprio)
    } else {
        (11, File::Machine, &cpu.state.miprio)
    };
    if number == external {
        let top = cpu.guest.wiring.imsic.as_ref().map_or(0, |i| i.top(file)) & 0x7ff;
        return if top == 0 { 256 } else { top };
    }
    let place = |n| BY_URGENCY.iter().position(|(i, _)| *i == n);
    match own.0.get(number as usize).copied().unwrap_or(0) {
        0 if place(number) < place(external) => 0,
        0 => 0x800,
        n => u32::from(n),
    }
}

/// The interrupt that `mtopi` or `stopi` shows, with its priority as shown; `None` if none.
pub(crate) fn top(cpu: &mut Cpu<'_, Riscv>, to_s: bool) -> Option<(u32, u32)> {
    let delegated = cpu.state.mideleg;
    let enabled = pending(cpu) & cpu.state.mie;
    let set = if to_s { enabled & delegated } else { enabled & !delegated };
    let (number, _) = most_urgent(cpu, set, to_s)?;
    Some((number, priority(cpu, number, to_s).min(255)))
}

/// Whether a halted hart goes on: an interrupt is pending and enabled in `mie`.
pub(crate) fn wakes(cpu: &mut Cpu<'_, Riscv>) -> bool {
    pending(cpu) & cpu.state.mie != 0
}

/// Takes an exception.
pub(crate) fn raise(cpu: &mut Cpu<'_, Riscv>, trap: Trap) {
    let code = u64::from(trap.cause as u8);
    let tval = match trap.cause {
        cause if cause.is_of_data() => {
            mmu::unmasked(cpu.guest, cpu.state, mmu::data_set(cpu.state), trap.tval)
        }
        _ => trap.tval,
    };
    let tval = cpu.guest.value(tval);
    log_trap(cpu, false, code, tval, trap.cause.name());
    if cpu.guest.wiring.user {
        return crate::user::keep(cpu.state, trap);
    }
    let delegated = cpu.state.medeleg >> code & 1 != 0;
    if delegated && cpu.state.privilege < Privilege::Machine {
        enter_s(cpu, code, tval);
    } else {
        enter_m(cpu, code, tval);
    }
}

fn log_trap(cpu: &Cpu<'_, Riscv>, asynchronous: bool, cause: u64, tval: u64, name: &str) {
    trace::log!(
        Int,
        "riscv_cpu_do_interrupt: hart:{}, async:{}, cause:{:016x}, epc:0x{:016x}, \
         tval:0x{:016x}, desc={}",
        cpu.guest.wiring.hart_id,
        u8::from(asynchronous),
        cause,
        cpu.state.pc,
        tval,
        name
    );
}

/// Where a trap with `cause` goes.
fn vector(tvec: u64, cause: u64) -> u64 {
    let base = tvec & !3;
    if tvec & 1 != 0 && cause & INTERRUPT != 0 {
        base.wrapping_add((cause & !INTERRUPT) << 2)
    } else {
        base
    }
}

fn enter_m(cpu: &mut Cpu<'_, Riscv>, cause: u64, tval: u64) {
    let (guest, s) = (cpu.guest, &mut *cpu.state);
    let mut status = s.mstatus & !(MIE | MPIE | MPP);
    status |= (s.mstatus & MIE) << 4;
    status |= s.privilege.bits() << MPP_SHIFT;
    s.mepc = guest.value(s.pc);
    s.mcause = cause;
    s.mtval = tval;
    s.pc = guest.address(vector(s.mtvec, cause));
    s.vknown = 0;
    set_status(cpu, status, Privilege::Machine);
}

fn enter_s(cpu: &mut Cpu<'_, Riscv>, cause: u64, tval: u64) {
    let (guest, s) = (cpu.guest, &mut *cpu.state);
    let mut status = s.mstatus & !(SIE | SPIE | SPP);
    status |= (s.mstatus & SIE) << 4;
    status |= if s.privilege == Privilege::User { 0 } else { SPP };
    s.sepc = guest.value(s.pc);
    s.scause = cause;
    s.stval = tval;
    s.pc = guest.address(vector(s.stvec, cause));
    s.vknown = 0;
    set_status(cpu, status, Privilege::Supervisor);
}

/// Returns from a trap to M-mode.
pub(crate) fn mret(cpu: &mut Cpu<'_, Riscv>) {
    let (guest, s) = (cpu.guest, &mut *cpu.state);
    let to = Privilege::from_bits(s.mstatus >> MPP_SHIFT);
    let mut status = s.mstatus & !(MIE | MPP);
    status |= (s.mstatus & MPIE) >> 4 | MPIE;
    status |= guest.lowest_privilege().bits() << MPP_SHIFT;
    if to != Privilege::Machine {
        status &= !MPRV;
    }
    s.pc = guest.address(guest.return_address(s.mepc));
    set_status(cpu, status, to);
}

/// Returns from a trap to S-mode.
pub(crate) fn sret(cpu: &mut Cpu<'_, Riscv>) {
    let (guest, s) = (cpu.guest, &mut *cpu.state);
    let to = if s.mstatus & SPP == 0 { Privilege::User } else { Privilege::Supervisor };
    let mut status = s.mstatus & !(SIE | SPP | MPRV);
    status |= (s.mstatus & SPIE) >> 4 | SPIE;
    s.pc = guest.address(guest.return_address(s.sepc));
    set_status(cpu, status, to);
}

/// What cached translations depend on beside the set they are in: MXR, and whether data and
/// fetches of M-mode use different sets.
fn translation_key(state: &State) -> (bool, bool) {
    let own = mmu::set_of(state, state.privilege);
    (state.mstatus & MXR != 0, own != mmu::data_set(state))
}

/// Sets `mstatus` and the privilege, and forgets translations if they no longer hold.
pub(crate) fn set_status(cpu: &mut Cpu<'_, Riscv>, status: u64, privilege: Privilege) {
    let before = translation_key(cpu.state);
    cpu.state.mstatus = status;
    cpu.state.privilege = privilege;
    if translation_key(cpu.state) != before {
        cpu.flush_translations(isa::Flush::All);
    }
}

#[cfg(test)]
mod tests;
