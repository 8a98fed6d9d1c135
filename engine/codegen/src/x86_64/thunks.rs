//! The code that all units share: the ways in and out, and to the slow path.

use super::alloc::{Kept, pin_of};
use super::asm::gpr::{R8, R9, R10, R11, R12, R13, R14, R15, RAX, RBP, RBX, RDI, RDX, RSI, RSP};
use super::asm::{Alu, Asm, Cc, Gpr, Mem, Rm, Width, Xmm};
use super::calls::{emit_drop, emit_empty, emit_nothing};
use super::{FLOAT_POOL, PINS};
use crate::Thunks;
use crate::layout::Core;
use ir::RegInfo;
use std::mem::offset_of;

const SAVED: [Gpr; 6] = [RBX, RBP, R12, R13, R14, R15];
/// Registers that survive a slow path: all but scratch, base and stack.
const KEPT: [Gpr; 12] = [RDX, RBX, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15];

/// Displacement of a field of [`Core`] from the base register.
pub(super) fn core_disp(offset: usize) -> i32 {
    offset as i32 - size_of::<Core>() as i32 - Core::BIAS
}

/// A field of [`Core`].
pub(super) fn core_mem(offset: usize) -> Mem {
    Mem::base(RBP, core_disp(offset))
}

/// A register in the state struct.
pub(super) fn state_mem(offset: u32) -> Mem {
    Mem::base(RBP, offset as i32 - Core::BIAS)
}

/// Emits the shared code; it will run at `origin`.
pub fn emit_thunks(regs: &[RegInfo], origin: u64) -> (Vec<u8>, Thunks) {
    let mut asm = Asm::default();
    let pins: Vec<(u32, Gpr)> =
        regs.iter().filter_map(|r| pin_of(r).map(|p| (r.offset, Gpr(p)))).collect();
    let mut thunks = Thunks { enter: origin, ..Thunks::default() };

    // enter(rdi = core, rsi = code)
    SAVED.iter().for_each(|r| asm.push(*r));
    asm.alu_imm(Alu::Sub, Width::W64, RSP.into(), 8);
    asm.lea(Width::W64, RBP, Mem::base(RDI, size_of::<Core>() as i32 + Core::BIAS));
    asm.mxcsr(2, core_mem(offset_of!(Core, mxcsr)));
    asm.mov(Width::W64, RAX, RSI);
    pins.iter().for_each(|(offset, pin)| asm.load(Width::W64, *pin, state_mem(*offset)));
    let nothing = emit_empty(&mut asm);
    asm.jmp_rm(RAX.into());

    // exit: rax = record
    align(&mut asm);
    let exit = asm.here();
    thunks.exit = origin + exit as u64;
    pins.iter().for_each(|(offset, pin)| asm.store(Width::W64, state_mem(*offset), *pin));
    emit_leave(&mut asm);

    align(&mut asm);
    thunks.elsewhere = origin + asm.here() as u64;
    asm.ret();
    align(&mut asm);
    let at = emit_nothing(&mut asm, exit);
    asm.bind_to(nothing, at);

    for kept in [Kept::Nothing, Kept::Floats, Kept::Vectors] {
        align(&mut asm);
        *thunks.slow_mut(kept) = origin + asm.here() as u64;
        emit_slow(&mut asm, kept);
    }
    debug_assert!(PINS.iter().all(|p| KEPT.contains(p)), "a pin survives slow paths");
    (asm.code, thunks)
}

impl Thunks {
    fn slow_mut(&mut self, kept: Kept) -> &mut u64 {
        match kept {
            Kept::Nothing => &mut self.slow,
            Kept::Floats => &mut self.slow_float,
            Kept::Vectors => &mut self.slow_vector,
        }
    }

    /// The thunk for a site at which so much must be kept.
    pub(super) fn slow_of(mut self, kept: Kept) -> u64 {
        *self.slow_mut(kept)
    }
}

/// Back to Rust; rax is the result.
fn emit_leave(asm: &mut Asm) {
    // Rust uses encodings that are slow as long as upper halves are not zero.
    asm.vzeroupper();
    asm.mxcsr(3, core_mem(offset_of!(Core, mxcsr)));
    asm.mxcsr(2, core_mem(offset_of!(Core, host_mxcsr)));
    emit_drop(asm);
    asm.alu_imm(Alu::Add, Width::W64, RSP.into(), 8);
    SAVED.iter().rev().for_each(|r| asm.pop(*r));
    asm.ret();
}

/// slow: rax = site. Keeps the registers in the frame, asks the runtime, and resumes or leaves. When
/// it leaves, the runtime has already written all registers to the state.
fn emit_slow(asm: &mut Asm, kept: Kept) {
    let slot = |r: Gpr| core_mem(offset_of!(Core, frame.gpr) + 8 * usize::from(r.0));
    let float_slot = |r: u8| core_mem(offset_of!(Core, frame.xmm) + 32 * usize::from(r));
    KEPT.iter().chain([&RSP]).for_each(|r| asm.store(Width::W64, slot(*r), *r));
    for r in FLOAT_POOL {
        match kept {
            Kept::Nothing => {}
            Kept::Floats => asm.vstore(true, float_slot(r), Xmm(r)),
            Kept::Vectors => asm.vector_store(true, float_slot(r), Xmm(r)),
        }
    }
    // Calls of the guest are of one word each.
    asm.alu_imm(Alu::And, Width::W64, RSP.into(), -16);
    asm.vzeroupper();
    asm.lea(Width::W64, RDI, Mem::base(RBP, -(size_of::<Core>() as i32) - Core::BIAS));
    asm.mov(Width::W64, RSI, RAX);
    asm.call_rm(core_mem(offset_of!(Core, slow)).into());
    asm.test(Width::W64, RAX, RAX);
    let leave = asm.jcc(Cc::Ne);
    // The runtime may have forgotten all returns.
    KEPT.iter().chain([&RSP]).for_each(|r| asm.load(Width::W64, *r, slot(*r)));
    for r in FLOAT_POOL {
        match kept {
            Kept::Nothing => {}
            Kept::Floats => asm.vload(true, Xmm(r), float_slot(r)),
            Kept::Vectors => asm.vector_load(true, Xmm(r), float_slot(r)),
        }
    }
    asm.jmp_rm(Rm::Mem(core_mem(offset_of!(Core, resume))));
    asm.bind(leave);
    emit_leave(asm);
}

fn align(asm: &mut Asm) {
    while !asm.here().is_multiple_of(16) {
        asm.code.push(0xcc);
    }
}
