//! Calls and returns of the guest, as calls and returns of the host, so that the host's own
//! return prediction serves them (decision 10).
//!
//! A call is the host's, after the guest's registers are where every unit expects them; what it
//! returns to compares where the guest goes with where it was expected, and jumps to the unit
//! there. Else it returns as well: to the call before, which may be the one (a function left from
//! within others), and at last to the jump cache. All of it lies on the stack of the thread below
//! the frame of [`Thunks::enter`](crate::Thunks) and is dropped whenever control leaves
//! generated code. So no entry outlives the code it leads to.

use super::asm::gpr::{RAX, RBP, RCX, RSP};
use super::asm::{Alu, Asm, Cc, Mem, Patch, Width};
use super::lower::{Generator, Tail, bytes_of};
use super::thunks::{core_disp, core_mem};
use crate::CompileError;
use crate::layout::{Core, ExitRecord, JUMP_ENTRIES, JumpEntry, RETURNS, RecordKind};
use ir::{Hint, Op, OpKind, Operand, Type, Value};
use std::mem::offset_of;

/// Bytes of an entry: where to go on in the host.
const ENTRY: i32 = 8;

impl Generator<'_> {
    /// Leaves for a guest address that is computed.
    pub(super) fn exit_indirect(&mut self, op: &Op) -> Result<(), CompileError> {
        self.load_target(op.a)?;
        self.write_back();
        let record = self.record(RecordKind::Indirect, 0);
        let mut from = [None; 2];
        if self.target.no_chain {
            from[0] = Some(self.asm.jmp());
            self.tails.push(Tail::Indirect { from, record });
            return Ok(());
        }
        let hint = Hint::from_code(op.aux);
        from[0] = Some(if hint == Hint::Call { self.check_room() } else { self.poll() });
        match hint {
            Hint::Return => self.asm.ret(),
            Hint::Jump | Hint::Call => {
                from[1] = Some(compare_jump_entry(&mut self.asm));
                let code = Mem::indexed(RBP, RCX, jump_entries() + 8).into();
                match hint {
                    Hint::Call => self.asm.call_rm(code),
                    _ => self.asm.jmp_rm(code),
                }
            }
        }
        if hint == Hint::Call {
            self.go_on_behind_call();
        }
        self.tails.push(Tail::Indirect { from, record });
        Ok(())
    }

    /// A call of a known guest address, with everything written back.
    pub(super) fn exit_call(&mut self, pc: u64) {
        if self.target.no_chain {
            return self.exit(pc);
        }
        let full = self.check_room();
        let record = self.record(RecordKind::Lookup, pc);
        self.tails.push(Tail::Leave { from: full, record, patchable: false });
        if self.same_page(pc) {
            let from = self.asm.call_aligned();
            let record = self.record(RecordKind::Direct, pc);
            self.tails.push(Tail::Leave { from, record, patchable: true });
        } else {
            let entry = offset_of!(Core, jumps) + size_of::<JumpEntry>() * Core::jump_index(pc);
            self.asm.mov_imm(RAX, pc);
            self.asm.alu(Alu::Cmp, Width::W64, RAX, core_mem(entry).into());
            let from = self.asm.jcc(Cc::Ne);
            self.asm.call_rm(core_mem(entry + 8).into());
            let record = self.record(RecordKind::Far, pc);
            self.tails.push(Tail::Leave { from, record, patchable: false });
        }
        self.go_on_behind_call();
    }

    /// Whether the operation only clears bits of the target of the indirect exit that follows it,
    /// which does that itself.
    pub(super) fn masks_target(&self, index: usize) -> bool {
        let op = &self.unit.ops[index];
        op.kind == OpKind::And
            && op.ty == Type::I64
            && self.small_const(op.b).is_some()
            && self.unit.ops.get(index + 1).is_some_and(|next| {
                next.kind == OpKind::ExitIndirect
                    && next.a == op.dst
                    && matches!(op.dst.value(), Value::Temp(_))
            })
    }

    /// rax = where an indirect exit goes.
    fn load_target(&mut self, target: Operand) -> Result<(), CompileError> {
        let mask = (self.at as usize).checked_sub(1).filter(|before| self.masks_target(*before));
        let op = mask.map(|before| self.unit.ops[before]);
        let from = self.int(op.map_or(target, |op| op.a))?;
        self.asm.mov(Width::W64, RAX, from);
        if let Some(imm) = op.and_then(|op| self.small_const(op.b)) {
            self.asm.alu_imm(Alu::And, Width::W64, RAX.into(), imm);
        }
        Ok(())
    }

    /// Before a call; the jump is taken if there is no room for where it returns to.
    ///
    /// Calls do not ask whether the run loop is wanted: whatever goes round without a polling jump
    /// runs out of room here.
    fn check_room(&mut self) -> Patch {
        let limit = core_mem(offset_of!(Core, returns_limit));
        self.asm.alu(Alu::Cmp, Width::W64, RSP, limit.into());
        self.asm.jcc(Cc::B)
    }

    /// What the host returns to: rax is where the guest goes.
    fn go_on_behind_call(&mut self) {
        match i32::try_from(self.next_pc.cast_signed()) {
            Ok(imm) => self.asm.alu_imm(Alu::Cmp, Width::W64, RAX.into(), imm),
            Err(_) => {
                self.asm.mov_imm(RCX, self.next_pc);
                self.asm.alu(Alu::Cmp, Width::W64, RAX, RCX.into());
            }
        }
        let elsewhere = self.asm.jcc(Cc::Ne);
        let target = self.target.thunks.elsewhere.wrapping_sub(self.target.origin);
        self.asm.bind_to(elsewhere, target as usize);
        self.exit_polling(self.next_pc, false);
    }

    /// The mode's flags change: what calls left leads to code for others.
    pub(super) fn forget_returns(&mut self) {
        self.asm.load(Width::W64, RSP, core_mem(offset_of!(Core, returns)));
    }
}

/// Displacement of the jump cache from the base register.
fn jump_entries() -> i32 {
    core_disp(offset_of!(Core, jumps))
}

/// rcx = offset of the entry of the jump cache for the guest address in rax; the jump is taken if
/// the entry is another's.
fn compare_jump_entry(asm: &mut Asm) -> Patch {
    let mask = ((JUMP_ENTRIES - 1) << 4) as i32;
    // `Core::jump_index`, times the size of an entry.
    asm.rorx(Width::W32, RCX, RAX.into(), 12);
    asm.alu(Alu::Xor, Width::W32, RCX, RAX.into());
    asm.shift_imm(Width::W32, 4, RCX, 3);
    asm.alu_imm(Alu::And, Width::W32, RCX.into(), mask);
    asm.alu(Alu::Cmp, Width::W64, RAX, Mem::indexed(RBP, RCX, jump_entries()).into());
    asm.jcc(Cc::Ne)
}

/// Emits where the last return leads to that no call is left for: the jump cache knows where the
/// guest address in rax is, or the runtime. `exit` is the way out of generated code. Answers
/// where it begins.
pub(super) fn emit_nothing(asm: &mut Asm, exit: usize) -> usize {
    let returns = core_mem(offset_of!(Core, returns));
    let nothing = asm.here();
    asm.load(Width::W64, RSP, returns);
    asm.alu_imm(Alu::Cmp, Width::W32, core_mem(offset_of!(Core, attention)).into(), 0);
    let wanted = asm.jcc(Cc::Ne);
    let unknown = compare_jump_entry(asm);
    asm.jmp_rm(Mem::indexed(RBP, RCX, jump_entries() + 8).into());
    asm.bind(wanted);
    asm.bind(unknown);
    asm.store(Width::W64, core_mem(offset_of!(Core, target)), RAX);
    let record = asm.lea_rip(RAX);
    let out = asm.jmp();
    asm.bind_to(out, exit);
    while !asm.here().is_multiple_of(align_of::<ExitRecord>()) {
        asm.code.push(0xcc);
    }
    asm.bind(record);
    let indirect = ExitRecord { pc: 0, slot: 0, unit: 0, kind: RecordKind::Indirect };
    asm.code.extend_from_slice(bytes_of(&indirect));
    nothing
}

/// Emits what makes an empty stack of returns, on the way into generated code; uses rcx. `nothing`
/// leads to where the host returns to from there.
pub(super) fn emit_empty(asm: &mut Asm) -> Patch {
    let nothing = asm.lea_rip(RCX);
    asm.push(RCX);
    asm.store(Width::W64, core_mem(offset_of!(Core, returns)), RSP);
    asm.lea(Width::W64, RCX, Mem::base(RSP, -ENTRY * RETURNS as i32));
    asm.store(Width::W64, core_mem(offset_of!(Core, returns_limit)), RCX);
    nothing
}

/// Emits what takes the stack of returns away, on the way out.
pub(super) fn emit_drop(asm: &mut Asm) {
    asm.load(Width::W64, RSP, core_mem(offset_of!(Core, returns)));
    asm.alu_imm(Alu::Add, Width::W64, RSP.into(), ENTRY);
}
