//! The generator: operands, control flow, exits, and the parts out of line.

use super::alloc::{Allocator, Class, Evict, GuestPlace, Kept, Owner, TempPlace, WriteBack};
use super::asm::gpr::{RAX, RCX};
use super::asm::{Alu, Asm, Cc, Gpr, Mem, Patch, Width, Xmm};
use super::memory::Access;
use super::spans::Spans;
use super::thunks::{core_mem, state_mem};
use super::vector_loops::HeldPlace;
use crate::layout::{
    CLEAN, Core, Deferred, ENGINE_FLAGS, ExitRecord, JumpEntry, Loc, PAGE_BITS, RecordKind, Site,
    SiteKind,
};
use crate::{Compared, CompileError, Compiled, FaultRange, Target};
use ir::{Cond, ExitKind, Hint, Op, OpKind, Operand, Type, Unit, Value};
use std::mem::offset_of;

/// A part of the code that is emitted after the main path.
pub(super) enum Tail {
    /// A slow path: the jump that leads to it, and its record.
    Slow { from: Patch, site: Site, resume: usize, kept: Kept },
    /// The same where an addend is to be found: it is cleared, so that what comes after looks for
    /// itself.
    SlowSpan { from: Patch, site: Site, resume: usize, kept: Kept, addend: Gpr },
    /// An access that looks for itself.
    Single { from: Patch, access: Access, site: Site, resume: usize, kept: Kept },
    /// A conditional exit: registers to write back, then the exit proper.
    /// With `flags`, the mode's flags change on the way.
    Exit { from: Patch, write_back: WriteBack, pc: u64, flags: Option<u32> },
    /// A loop that is wanted elsewhere: held registers to write back, then the record.
    Interrupted { from: Patch, held: WriteBack, record: ExitRecord },
    /// The end of an exit: back to the runtime with the record. With `patchable`, the one jump
    /// that leads here is what the runtime patches.
    Leave { from: Patch, record: ExitRecord, patchable: bool },
    /// An indirect exit that missed: rax holds the target.
    Indirect { from: [Option<Patch>; 2], record: ExitRecord },
    /// Anything short that goes back to the main path.
    Fix { from: Patch, back: usize, code: Box<dyn FnOnce(&mut Asm) + Send + Sync> },
}

/// How often a loop names each guest register, and whether it writes it.
#[derive(Clone, Copy)]
struct Holds([(u16, bool); 256]);

/// Host registers for what a loop holds; enough others remain for any one operation but few.
const HELD_INT: [u8; 2] = [10, 11];
const HELD_FLOAT: [u8; 10] = [6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const HELD_VECTOR: [u8; 8] = [8, 9, 10, 11, 12, 13, 14, 15];

/// Code that may fault on the host, and its slow path.
pub(super) struct MayFault {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) site: Site,
    pub(super) kept: Kept,
}

/// A record placed behind the code and the instructions that refer to it.
enum Record {
    Site(Site),
    Exit(ExitRecord),
}

/// Memory of compilations, kept from one to the next.
#[derive(Default)]
pub struct Buffers {
    /// The code of the last unit.
    pub code: Vec<u8>,
    /// Where each guest instruction's code begins, and its address. What lies before the first
    /// enters the unit.
    pub insns: Vec<(u32, u64)>,
    /// What may fault on the host, in order.
    pub faults: Vec<FaultRange>,
    may_fault: Vec<MayFault>,
    alloc: Allocator,
    last_use: Vec<u32>,
    needed: Vec<bool>,
    spans: Spans,
    places: Vec<HeldPlace>,
    tails: Vec<Tail>,
    records: Vec<(Patch, Record)>,
    labels: Vec<Option<usize>>,
    branches: Vec<(Patch, u16)>,
}

/// One compilation.
pub struct Generator<'a> {
    pub(super) asm: Asm,
    insns: Vec<(u32, u64)>,
    faults: Vec<FaultRange>,
    pub(super) may_fault: Vec<MayFault>,
    pub(super) unit: &'a Unit,
    pub(super) target: Target<'a>,
    pub(super) alloc: Allocator,
    /// Index of the operation that reads each temporary last; 0 for never.
    pub(super) last_use: Vec<u32>,
    /// Whether each operation matters at all.
    needed: Vec<bool>,
    pub(super) spans: Spans,
    /// Vectors of the state of which a loop has copies in registers.
    pub(super) places: Vec<HeldPlace>,
    pub(super) at: u32,
    pub(super) pc: u64,
    /// Guest address of the next instruction.
    pub(super) next_pc: u64,
    pub(super) tails: Vec<Tail>,
    /// Where the unit jumps back to when it is a loop.
    loop_head: Option<usize>,
    /// Guest registers whose values at that place nobody can see.
    dead: [bool; 256],
    /// The mode's flags where the generator is, as in `Unit::flags`.
    pub(super) flags: u32,
    records: Vec<(Patch, Record)>,
    labels: Vec<Option<usize>>,
    branches: Vec<(Patch, u16)>,
}

impl<'a> Generator<'a> {
    /// Compiles a unit into `buffers.code`.
    ///
    /// # Errors
    /// Too many values are alive at a time.
    pub fn compile(
        unit: &'a Unit,
        target: Target<'a>,
        buffers: &mut Buffers,
    ) -> Result<Compiled, CompileError> {
        let mut g = Self::begin(unit, target, std::mem::take(buffers));
        let holds = g.choose_holds();
        let mut result = g.run(holds);
        if result.is_err() && holds.is_some() {
            // Held registers left too few for the rest.
            g = Self::begin(unit, target, g.into_buffers());
            result = g.run(None);
        }
        *buffers = g.into_buffers();
        result
    }

    fn into_buffers(self) -> Buffers {
        let g = self;
        Buffers {
            code: g.asm.code,
            insns: g.insns,
            faults: g.faults,
            may_fault: g.may_fault,
            alloc: g.alloc,
            last_use: g.last_use,
            needed: g.needed,
            spans: g.spans,
            places: g.places,
            tails: g.tails,
            records: g.records,
            labels: g.labels,
            branches: g.branches,
        }
    }

    fn begin(unit: &'a Unit, target: Target<'a>, buffers: Buffers) -> Self {
        let mut g = Self {
            asm: Asm { code: buffers.code },
            insns: buffers.insns,
            faults: buffers.faults,
            may_fault: buffers.may_fault,
            unit,
            target,
            alloc: buffers.alloc,
            last_use: buffers.last_use,
            needed: buffers.needed,
            spans: buffers.spans,
            places: buffers.places,
            at: 0,
            pc: unit.pc,
            next_pc: unit.pc,
            tails: buffers.tails,
            loop_head: None,
            dead: [false; 256],
            flags: unit.flags,
            records: buffers.records,
            labels: buffers.labels,
            branches: buffers.branches,
        };
        g.asm.code.clear();
        g.insns.clear();
        g.faults.clear();
        g.may_fault.clear();
        g.alloc.begin(target.regs, unit.temps);
        g.last_use.clear();
        g.last_use.resize(unit.temps as usize, 0);
        g.tails.clear();
        g.records.clear();
        g.labels.clear();
        g.labels.resize(usize::from(unit.labels), None);
        g.branches.clear();
        g
    }

    fn run(&mut self, holds: Option<Holds>) -> Result<Compiled, CompileError> {
        self.find_uses();
        let mut compiled = self.prologue();
        self.places.clear();
        if let Some(holds) = holds {
            self.enter_loop(&holds);
        }
        for (index, op) in self.unit.ops.iter().enumerate() {
            if self.needed[index] && !self.masks_target(index) && !self.is_for_select(index) {
                self.at = index as u32;
                self.lower(op)?;
                self.end_of_operation(op);
            }
        }
        compiled.tails = self.asm.here() as u32;
        self.emit_tails();
        self.bind_branches();
        compiled.code_len = self.asm.here() as u32;
        self.emit_records();
        Ok(compiled)
    }

    /// One pass backwards: the last use of each temporary, and which operations matter.
    fn find_uses(&mut self) {
        let mut needed = std::mem::take(&mut self.needed);
        needed.clear();
        needed.resize(self.unit.ops.len(), false);
        self.spans.begin(self.unit.ops.len());
        for (index, op) in self.unit.ops.iter().enumerate().rev() {
            needed[index] = match op.dst.value() {
                Value::Temp(t) => {
                    self.last_use[t.0 as usize] != 0
                        || !matches!(op.kind.effects(), ir::Effects::NONE | ir::Effects::READS)
                }
                _ => true,
            };
            self.spans.note(self.unit, index, op);
            if needed[index] {
                let reader = if self.is_for_select(index) { index + 1 } else { index };
                for operand in op.operands() {
                    if let Value::Temp(t) = operand.value() {
                        let last = &mut self.last_use[t.0 as usize];
                        *last = (*last).max(reader as u32);
                    }
                }
            }
        }
        self.needed = needed;
    }

    /// The two entries: one for jumps that know the mode is right, one that checks.
    fn prologue(&mut self) -> Compiled {
        let flags = core_mem(offset_of!(Core, flags));
        self.asm.alu_imm(Alu::Cmp, Width::W32, flags.into(), self.unit.flags.cast_signed());
        let wrong = self.asm.jcc(Cc::Ne);
        let record = self.record(RecordKind::Lookup, self.unit.pc);
        self.tails.push(Tail::Leave { from: wrong, record, patchable: false });
        let entry = self.asm.here() as u32;
        if let Some(compared) = self.target.compared {
            self.compare_code(compared);
        }
        Compiled { checked_entry: 0, entry, tails: 0, code_len: 0 }
    }

    /// Leaves if the guest's code is not what was translated.
    fn compare_code(&mut self, compared: Compared<'_>) {
        let leave = |g: &mut Self| {
            let from = g.asm.jcc(Cc::Ne);
            let record = g.record(RecordKind::Stale, g.unit.pc);
            g.tails.push(Tail::Leave { from, record, patchable: false });
        };
        self.asm.mov_imm(RCX, compared.host);
        let (words, rest) = compared.code.as_chunks::<8>();
        for (index, word) in words.iter().enumerate() {
            self.asm.mov_imm(RAX, u64::from_le_bytes(*word));
            self.asm.alu(Alu::Cmp, Width::W64, RAX, Mem::base(RCX, 8 * index as i32).into());
            leave(self);
        }
        for (index, byte) in rest.iter().enumerate() {
            let at = Mem::base(RCX, (8 * words.len() + index) as i32);
            self.asm.movzx8(RAX, at.into());
            self.asm.alu_imm(Alu::Cmp, Width::W32, RAX.into(), i32::from(*byte));
            leave(self);
        }
    }

    /// Operands that end here are gone.
    pub(super) fn kill_operands(&mut self, op: &Op) {
        for operand in op.operands() {
            if let Value::Temp(t) = operand.value()
                && self.last_use[t.0 as usize] <= self.at
            {
                self.alloc.kill_temp(t.0);
            }
        }
    }

    fn end_of_operation(&mut self, op: &Op) {
        self.kill_operands(op);
        if let Value::Temp(t) = op.dst.value()
            && self.last_use[t.0 as usize] == 0
        {
            self.alloc.kill_temp(t.0);
        }
        self.alloc.unlock_all();
    }

    fn lower(&mut self, op: &Op) -> Result<(), CompileError> {
        use OpKind as K;
        match op.kind {
            K::Mov if op.ty.is_float() => self.float_move(op)?,
            K::Mov => self.integer_move(op)?,
            K::Load | K::Store | K::Amo | K::Cas | K::Fence => self.lower_memory(op)?,
            K::VCopyIn => self.vector_copy(op, false)?,
            K::VCopyOut => self.vector_copy(op, true)?,
            K::VCopySomeIn => self.vector_copy_some(op, false)?,
            K::VCopySomeOut => self.vector_copy_some(op, true)?,
            K::Call => self.call(op)?,
            K::Leaf => self.leaf(op)?,
            K::ToFloat
            | K::ToInt
            | K::FBox
            | K::FUnbox
            | K::FAdd
            | K::FSub
            | K::FMul
            | K::FDiv
            | K::FSqrt
            | K::FMulAdd
            | K::FCompare
            | K::FRelate
            | K::FConvert
            | K::FFromInt
            | K::FFromUInt
            | K::FToInt
            | K::FToUInt
            | K::FRound
            | K::FFromHalf
            | K::FToHalf
            | K::FMin
            | K::FMax
            | K::FlagsGet
            | K::FlagsClear => self.lower_float(op)?,
            K::Insn => {
                self.pc = self.unit.as_const(op.a).unwrap_or(self.pc);
                self.next_pc = self.pc.wrapping_add(u64::from(op.aux));
                self.insns.push((self.asm.here() as u32, self.pc));
            }
            K::Label => self.label(op.aux)?,
            K::Branch => {
                let label = self.unit.as_const(op.a).unwrap_or(0) as u16;
                self.write_back();
                let jump = self.asm.jmp();
                self.branches.push((jump, label));
                self.alloc.forget_guests();
            }
            K::BranchIf => {
                let cc = self.compare(op)?;
                // Stores change no flags.
                self.write_back();
                let jump = self.asm.jcc(cc);
                self.branches.push((jump, self.unit.as_const(op.c).unwrap_or(0) as u16));
            }
            K::ExitIf => self.exit_if(op)?,
            K::SetFlags => {
                self.flags = self.flags_of(op.a);
                self.store_flags(self.flags);
            }
            K::ExitFlags => self.exit_flags(op)?,
            K::Exit => {
                let pc = self.unit.as_const(op.a).unwrap_or(0);
                if op.aux == Hint::Call as u16 {
                    self.write_back();
                    self.exit_call(pc);
                } else if self.is_loop(pc) {
                    let (held, write_back) = self.alloc.part(self.alloc.dirty(), &self.dead);
                    self.again(write_back, held);
                } else {
                    self.write_back();
                    self.exit(pc);
                }
            }
            K::ExitIndirect => self.exit_indirect(op)?,
            K::ExitLoop => self.exit_loop(op),
            _ if op.ty.is_vector() => self.lower_vector(op)?,
            _ => self.lower_integer(op)?,
        }
        Ok(())
    }

    // ---- operands ----

    pub(super) fn width(op: &Op) -> Width {
        if op.ty == Type::I32 { Width::W32 } else { Width::W64 }
    }

    /// Emits what makes room for a new owner of a register.
    fn emit_evict(&mut self, evict: Evict) {
        match evict {
            Evict::Nothing => {}
            Evict::WriteBack { guest, host } => {
                self.store_host(self.alloc.class_of(guest), self.state_of(guest), host);
            }
            Evict::Spill { class, slot, host } => {
                self.store_host(class, Self::spill_mem(class, slot), host);
            }
        }
    }

    fn store_host(&mut self, class: Class, mem: Mem, host: u8) {
        match class {
            Class::Int => self.asm.store(Width::W64, mem, Gpr(host)),
            Class::Float => self.asm.vstore(true, mem, Xmm(host)),
            Class::Vector => self.asm.vector_store(true, mem, Xmm(host)),
        }
    }

    fn load_host(&mut self, class: Class, host: u8, mem: Mem) {
        match class {
            Class::Int => self.asm.load(Width::W64, Gpr(host), mem),
            Class::Float => self.asm.vload(true, Xmm(host), mem),
            Class::Vector => self.asm.vector_load(true, Xmm(host), mem),
        }
    }

    fn state_of(&self, guest: u8) -> Mem {
        state_mem(self.target.regs[usize::from(guest)].offset)
    }

    fn spill_mem(class: Class, slot: u8) -> Mem {
        let slot = usize::from(slot);
        core_mem(match class {
            Class::Vector => offset_of!(Core, vector_spill) + 32 * slot,
            _ => offset_of!(Core, spill) + 8 * slot,
        })
    }

    /// A shared register for `owner`.
    fn take(&mut self, class: Class, owner: Owner) -> Result<u8, CompileError> {
        let (host, evict) = self.alloc.take(class, owner)?;
        self.emit_evict(evict);
        Ok(host)
    }

    /// A register for the present operation only.
    pub(super) fn scratch(&mut self) -> Result<Gpr, CompileError> {
        self.take(Class::Int, Owner::Scratch).map(Gpr)
    }

    /// A vector register for the present operation only.
    pub(super) fn vector_scratch(&mut self) -> Result<Xmm, CompileError> {
        self.take(Class::Vector, Owner::Scratch).map(Xmm)
    }

    /// Empties a particular shared register for the present operation.
    pub(super) fn claim(&mut self, reg: Gpr) -> Result<(), CompileError> {
        let evict = self.alloc.evict(Class::Int, reg.0)?;
        self.emit_evict(evict);
        self.alloc.give(Class::Int, reg.0, Owner::Scratch);
        Ok(())
    }

    /// Empties a shared register, and leaves it free.
    pub(super) fn evict(&mut self, class: Class, host: u8) -> Result<(), CompileError> {
        let evict = self.alloc.evict(class, host)?;
        self.emit_evict(evict);
        Ok(())
    }

    /// Where the guest register that a host register is for has its place in the state.
    pub(super) fn pin(&self, host: Gpr) -> Option<Mem> {
        self.alloc.pin(host.0).map(|guest| self.state_of(guest))
    }

    fn operand(&mut self, class: Class, operand: Operand) -> Result<u8, CompileError> {
        let host = match operand.value() {
            Value::Reg(r) => match self.alloc.guest(r.0) {
                GuestPlace::Host(host) => host,
                GuestPlace::Deferred(Deferred { host, .. }) if host != CLEAN => host,
                GuestPlace::Deferred(deferred) => {
                    self.alloc.settle(r.0);
                    let host = self.take(class, Owner::Guest(r.0))?;
                    self.asm.mov_imm(Gpr(host), i64::from(deferred.value).cast_unsigned());
                    self.alloc.set_dirty(r.0);
                    host
                }
                GuestPlace::Memory => {
                    let host = self.take(class, Owner::Guest(r.0))?;
                    let mem = self.state_of(r.0);
                    self.load_host(class, host, mem);
                    host
                }
            },
            Value::Temp(t) => match self.alloc.temp(t.0) {
                TempPlace::Host(_, host) => host,
                TempPlace::Spill(_, slot) => {
                    let host = self.take(class, Owner::Temp(t.0))?;
                    self.load_host(class, host, Self::spill_mem(class, slot));
                    host
                }
                TempPlace::Dead => unreachable!("verified units read assigned temporaries"),
            },
            Value::Const(c) => {
                let host = self.take(class, Owner::Scratch)?;
                let value = self.unit.constant(c);
                match class {
                    Class::Int => self.asm.mov_imm(Gpr(host), value),
                    Class::Float | Class::Vector => {
                        self.asm.mov_imm(RAX, value);
                        self.asm.vmovq_from(Xmm(host), RAX);
                    }
                }
                host
            }
            Value::None => unreachable!("verified units have their operands"),
        };
        self.alloc.lock(class, host);
        Ok(host)
    }

    /// The host register that holds an integer operand.
    pub(super) fn int(&mut self, operand: Operand) -> Result<Gpr, CompileError> {
        self.operand(Class::Int, operand).map(Gpr)
    }

    /// The host register that holds a floating-point operand.
    pub(super) fn float(&mut self, operand: Operand) -> Result<Xmm, CompileError> {
        self.operand(Class::Float, operand).map(Xmm)
    }

    /// The host register that holds a vector operand.
    pub(super) fn vector(&mut self, operand: Operand) -> Result<Xmm, CompileError> {
        self.operand(Class::Vector, operand).map(Xmm)
    }

    /// An integer operand that is a constant of 32 bits, sign-extended.
    pub(super) fn small_const(&self, operand: Operand) -> Option<i32> {
        i32::try_from(self.unit.as_const(operand)?.cast_signed()).ok()
    }

    /// The host register for a result; the operand `like` gives its own if it ends here. It may
    /// still be any operand's register: it is written last. [`Generator::defined`] must follow.
    fn define(
        &mut self,
        class: Class,
        dst: Operand,
        like: Option<Operand>,
    ) -> Result<u8, CompileError> {
        let owner = match dst.value() {
            Value::Temp(t) => Owner::Temp(t.0),
            Value::Reg(r) => {
                if let GuestPlace::Host(host) = self.alloc.guest(r.0) {
                    while class == Class::Int
                        && let Some(guest) = self.alloc.same_as(host)
                    {
                        self.store_host(class, self.state_of(guest), host);
                        self.alloc.settle(guest);
                    }
                    self.alloc.lock(class, host);
                    return Ok(host);
                }
                self.alloc.settle(r.0);
                Owner::Guest(r.0)
            }
            _ => Owner::Scratch,
        };
        if let Some(Value::Temp(t)) = like.map(Operand::value)
            && self.last_use[t.0 as usize] == self.at
            && let TempPlace::Host(of, host) = self.alloc.temp(t.0)
            && of == class
        {
            self.alloc.kill_temp(t.0);
            if self.alloc.is_free(class, host) {
                self.alloc.give(class, host, owner);
                return Ok(host);
            }
        }
        self.take(class, owner)
    }

    /// Makes the register of the first operand, a temporary that ends here, the result's, as it is.
    pub(super) fn take_over(&mut self, op: &Op, class: Class) -> bool {
        let (Value::Temp(from), Value::Temp(to)) = (op.a.value(), op.dst.value()) else {
            return false;
        };
        let TempPlace::Host(_, host) = self.alloc.temp(from.0) else { return false };
        if self.last_use[from.0 as usize] != self.at {
            return false;
        }
        self.alloc.kill_temp(from.0);
        self.alloc.give(class, host, Owner::Temp(to.0));
        true
    }

    pub(super) fn define_int(
        &mut self,
        op: &Op,
        like: Option<Operand>,
    ) -> Result<Gpr, CompileError> {
        self.define(Class::Int, op.dst, like).map(Gpr)
    }

    pub(super) fn define_float(
        &mut self,
        op: &Op,
        like: Option<Operand>,
    ) -> Result<Xmm, CompileError> {
        self.define(Class::Float, op.dst, like).map(Xmm)
    }

    pub(super) fn define_vector(
        &mut self,
        op: &Op,
        like: Option<Operand>,
    ) -> Result<Xmm, CompileError> {
        self.define(Class::Vector, op.dst, like).map(Xmm)
    }

    /// The result is in its register.
    pub(super) fn defined(&mut self, op: &Op) {
        if let Value::Reg(r) = op.dst.value() {
            self.alloc.set_dirty(r.0);
            self.alloc.forget_addends(|addend| addend.base == r.0);
        }
    }

    /// Where an operand is, for a slow path; constants go into `imms`.
    pub(super) fn locate(&self, operand: Operand, index: usize, imms: &mut [u64; 3]) -> Loc {
        let host = |class, host| match class {
            Class::Int => Loc::Gpr(host),
            Class::Float | Class::Vector => Loc::Xmm(host),
        };
        match operand.value() {
            Value::None => Loc::None,
            Value::Const(c) => {
                imms[index] = self.unit.constant(c);
                Loc::Imm(index as u8)
            }
            Value::Reg(r) => match self.alloc.guest(r.0) {
                GuestPlace::Host(h) => host(self.alloc.class_of(r.0), h),
                GuestPlace::Deferred(Deferred { host: h, .. }) if h != CLEAN => Loc::Gpr(h),
                GuestPlace::Deferred(deferred) => {
                    imms[index] = i64::from(deferred.value).cast_unsigned();
                    Loc::Imm(index as u8)
                }
                GuestPlace::Memory => Loc::State(r.0),
            },
            Value::Temp(t) => match self.alloc.temp(t.0) {
                TempPlace::Host(class, h) => host(class, h),
                TempPlace::Spill(_, slot) => Loc::Spill(slot),
                TempPlace::Dead => Loc::None,
            },
        }
    }

    /// The record of a slow path here, its operands located now.
    pub(super) fn site(&self, op: &Op, kind: SiteKind) -> Site {
        let mut imms = [0; 3];
        let mut args = [Loc::None; 3];
        for (index, operand) in op.operands().enumerate() {
            args[index] = self.locate(operand, index, &mut imms);
        }
        let (gpr, xmm) = self.alloc.dirty_maps();
        let deferred = self.alloc.deferred();
        Site { pc: self.pc, resume: 0, imms, args, dst: Loc::None, kind, gpr, xmm, deferred }
    }

    // ---- control flow ----

    /// Stores every value that is newer than memory.
    pub(super) fn write_back(&mut self) {
        self.store_all(self.alloc.dirty());
        self.alloc.set_clean();
    }

    fn store_all(&mut self, write_back: WriteBack) {
        for (guest, host, class) in write_back.iter() {
            let mem = self.state_of(guest);
            self.store_host(class, mem, host);
        }
        write_back.deferred.into_iter().for_each(|deferred| self.store_deferred(deferred));
    }

    fn store_deferred(&mut self, deferred: Deferred) {
        if deferred.guest == CLEAN {
            return;
        }
        let mem = self.state_of(deferred.guest);
        match deferred.host {
            CLEAN => self.asm.store_imm(Width::W64, mem, deferred.value),
            host => self.asm.store(Width::W64, mem, Gpr(host)),
        }
    }

    /// Lets a guest register have a value without a register, where that is possible; whether it is.
    pub(super) fn defer(&mut self, op: &Op) -> bool {
        let Value::Reg(to) = op.dst.value() else { return false };
        let from = match op.a.value() {
            Value::Reg(from) if from != to => match self.alloc.guest(from.0) {
                GuestPlace::Host(host) if self.alloc.is_steady(host) => Some((host, 0)),
                GuestPlace::Deferred(deferred) => Some((deferred.host, deferred.value)),
                _ => None,
            },
            _ => self.small_const(op.a).map(|value| (CLEAN, value)),
        };
        let Some((host, value)) = from.filter(|_| self.alloc.may_defer(to.0)) else {
            return false;
        };
        let first = self.alloc.defer(to.0, host, value);
        self.store_deferred(first);
        self.alloc.forget_addends(|addend| addend.base == to.0);
        true
    }

    // ---- loops ----

    /// The guest registers to keep in registers for the whole unit, if it is a loop that no helper
    /// can look into.
    fn choose_holds(&mut self) -> Option<Holds> {
        let mut flags = self.unit.flags;
        let mut back = |op: &Op| {
            let target = match op.kind {
                OpKind::ExitIf => op.c,
                OpKind::Exit if op.aux != Hint::Call as u16 => op.a,
                OpKind::SetFlags => {
                    flags = self.flags_of(op.a);
                    return false;
                }
                _ => return false,
            };
            self.unit.as_const(target) == Some(self.unit.pc) && flags == self.unit.flags
        };
        let ops = &self.unit.ops;
        // What is compared at the top is compared at each turn.
        if self.target.no_chain
            || self.target.compared.is_some()
            || !ops.iter().any(&mut back)
            || ops.iter().any(|op| self.calls(op))
        {
            return None;
        }
        self.find_dead();
        let mut uses = [(0u16, false); 256];
        let mut read = [false; 256];
        for op in ops {
            for operand in op.operands() {
                if let Value::Reg(r) = operand.value() {
                    read[usize::from(r.0)] = true;
                }
            }
            for operand in op.operands().chain([op.dst]) {
                if let Value::Reg(r) = operand.value() {
                    uses[usize::from(r.0)].0 += 1;
                }
            }
            if let Value::Reg(r) = op.dst.value() {
                uses[usize::from(r.0)].1 = true;
            }
        }
        for (uses, (read, dead)) in uses.iter_mut().zip(read.iter().zip(&self.dead)) {
            if *dead && !read {
                // Each turn makes it anew, and only leaving stores it.
                *uses = (0, false);
            }
        }
        Some(Holds(uses))
    }

    /// Guest registers that the unit assigns before anything can see them.
    fn find_dead(&mut self) {
        let mut live = [false; 256];
        for op in &self.unit.ops {
            for operand in op.operands() {
                if let Value::Reg(r) = operand.value() {
                    live[usize::from(r.0)] = true;
                }
            }
            let effects = op.kind.effects();
            let sees = effects.has(ir::Effects::FAULTS) || effects.has(ir::Effects::CONTROL);
            if sees && op.kind != OpKind::Insn {
                return;
            }
            if let Value::Reg(r) = op.dst.value() {
                self.dead[usize::from(r.0)] |= !live[usize::from(r.0)];
            }
        }
    }

    /// Whether an operation is a call of a function.
    fn calls(&self, op: &Op) -> bool {
        matches!(op.kind, OpKind::Call | OpKind::Leaf)
            || !self.target.host.sha && super::units::row_of(op.kind).is_some()
    }

    /// Loads what the loop holds, before its top.
    fn enter_loop(&mut self, holds: &Holds) {
        for (class, hosts) in [(Class::Int, &HELD_INT[..]), (Class::Float, &HELD_FLOAT[..])] {
            let mut wanted: Vec<_> = (0..self.target.regs.len())
                .filter(|row| {
                    holds.0[*row].0 >= 2
                        && self.alloc.class_of(*row as u8) == class
                        && self.alloc.guest(*row as u8) == GuestPlace::Memory
                })
                .collect();
            wanted.sort_by_key(|row| std::cmp::Reverse(holds.0[*row].0));
            for (row, host) in wanted.into_iter().zip(hosts) {
                let mem = self.state_of(row as u8);
                self.load_host(class, *host, mem);
                self.alloc.hold(class, *host, row as u8, holds.0[row].1);
            }
        }
        self.hold_vectors(&HELD_VECTOR);
        self.loop_head = Some(self.asm.here());
    }

    /// Whether an exit to `pc` goes back to the top of the unit's own loop.
    fn is_loop(&self, pc: u64) -> bool {
        self.loop_head.is_some() && pc == self.unit.pc && self.flags == self.unit.flags
    }

    /// Goes back to the top, unless the run loop is wanted.
    fn again(&mut self, write_back: WriteBack, held: WriteBack) {
        self.store_all(write_back);
        let from = self.poll();
        let record = self.record(RecordKind::Lookup, self.unit.pc);
        self.tails.push(Tail::Interrupted { from, held, record });
        let jump = self.asm.jmp();
        self.asm.bind_to(jump, self.loop_head.expect("only loops go back to their top"));
    }

    fn label(&mut self, label: u16) -> Result<(), CompileError> {
        self.write_back();
        self.alloc.forget_guests();
        self.alloc.forget_temps();
        self.labels[usize::from(label)] = Some(self.asm.here());
        Ok(())
    }

    fn bind_branches(&mut self) {
        for index in 0..self.branches.len() {
            let (patch, label) = self.branches[index];
            let target = self.labels[usize::from(label)];
            self.asm.bind_to(patch, target.expect("verified units place their labels"));
        }
    }

    /// Emits a comparison and says which condition code tells its outcome.
    pub(super) fn compare(&mut self, op: &Op) -> Result<Cc, CompileError> {
        let (mut a, mut b, mut cond) = (op.a, op.b, op.cond());
        if self.unit.as_const(a).is_some() && self.unit.as_const(b).is_none() {
            (a, b, cond) = (b, a, cond.swapped());
        }
        let w = Self::width(op);
        let ra = self.int(a)?;
        match self.small_const(b) {
            Some(0) if !matches!(cond, Cond::Ltu | Cond::Geu | Cond::Leu | Cond::Gtu) => {
                self.asm.test(w, ra, ra);
            }
            Some(imm) => self.asm.alu_imm(Alu::Cmp, w, ra.into(), imm),
            None => {
                let rb = match self.not_held(b) {
                    Some(mem) => mem.into(),
                    None => self.int(b)?.into(),
                };
                self.asm.alu(Alu::Cmp, w, ra, rb);
            }
        }
        Ok(condition_code(cond))
    }

    /// Where a loop that has no register for a guest register reads it at each turn.
    fn not_held(&self, operand: Operand) -> Option<Mem> {
        let Value::Reg(r) = operand.value() else { return None };
        let in_memory = self.alloc.guest(r.0) == GuestPlace::Memory;
        (self.loop_head.is_some() && in_memory).then(|| self.state_of(r.0))
    }

    pub(super) fn record(&self, kind: RecordKind, pc: u64) -> ExitRecord {
        ExitRecord { pc, slot: 0, unit: self.target.unit, kind }
    }

    /// Whether a unit at `pc` is reached through the same page as this one's first instruction.
    /// Without address translation, every unit is.
    pub(super) fn same_page(&self, pc: u64) -> bool {
        self.is_direct() || pc >> PAGE_BITS == self.unit.pc >> PAGE_BITS
    }

    fn exit_if(&mut self, op: &Op) -> Result<(), CompileError> {
        let pc = self.unit.as_const(op.c).unwrap_or(0);
        let cc = self.compare(op)?;
        if self.is_loop(pc) {
            // The way back is the likely one: it is in line, and jumps once.
            let (held, write_back) = self.alloc.part(self.alloc.dirty(), &self.dead);
            let past = self.asm.jcc_not(cc);
            self.again(write_back, held);
            self.asm.bind(past);
            return Ok(());
        }
        let taken = self.asm.jcc(cc);
        let write_back = self.alloc.dirty();
        self.tails.push(Tail::Exit { from: taken, write_back, pc, flags: None });
        Ok(())
    }

    /// Flags of the mode, with those of the engine.
    fn flags_of(&self, operand: Operand) -> u32 {
        let flags = self.unit.as_const(operand).unwrap_or(0) as u32;
        flags & !ENGINE_FLAGS | self.unit.flags & ENGINE_FLAGS
    }

    fn store_flags(&mut self, flags: u32) {
        let place = core_mem(offset_of!(Core, flags));
        self.asm.store_imm(Width::W32, place, flags.cast_signed());
        self.forget_returns();
    }

    fn exit_flags(&mut self, op: &Op) -> Result<(), CompileError> {
        let (pc, flags) = (self.unit.as_const(op.b).unwrap_or(0), self.flags_of(op.c));
        let ra = self.int(op.a)?;
        self.asm.test(Width::W64, ra, ra);
        let from = self.asm.jcc(Cc::Ne);
        let write_back = self.alloc.dirty();
        let flags = (flags != self.flags).then_some(flags);
        self.tails.push(Tail::Exit { from, write_back, pc, flags });
        Ok(())
    }

    /// A direct exit with everything written back. One that goes backwards polls first.
    pub(super) fn exit(&mut self, pc: u64) {
        self.exit_polling(pc, pc <= self.pc);
    }

    pub(super) fn exit_polling(&mut self, pc: u64, poll: bool) {
        if poll {
            let wanted = self.poll();
            let record = self.record(RecordKind::Lookup, pc);
            self.tails.push(Tail::Leave { from: wanted, record, patchable: false });
        }
        if self.target.no_chain {
            return self.leave(self.record(RecordKind::Lookup, pc));
        }
        if self.same_page(pc) {
            let from = self.asm.jmp_aligned();
            let record = self.record(RecordKind::Direct, pc);
            return self.tails.push(Tail::Leave { from, record, patchable: true });
        }
        let entry = offset_of!(Core, jumps) + size_of::<JumpEntry>() * Core::jump_index(pc);
        self.asm.mov_imm(RAX, pc);
        self.asm.alu(Alu::Cmp, Width::W64, RAX, core_mem(entry).into());
        let from = self.asm.jcc(Cc::Ne);
        self.asm.jmp_rm(core_mem(entry + 8).into());
        let record = self.record(RecordKind::Far, pc);
        self.tails.push(Tail::Leave { from, record, patchable: false });
    }

    /// Jumps if the run loop is wanted.
    pub(super) fn poll(&mut self) -> Patch {
        let attention = core_mem(offset_of!(Core, attention));
        self.asm.alu_imm(Alu::Cmp, Width::W32, attention.into(), 0);
        self.asm.jcc(Cc::Ne)
    }

    fn exit_loop(&mut self, op: &Op) {
        self.write_back();
        let pc = self.unit.as_const(op.a).unwrap_or(0);
        let kind = match ExitKind::from_code(op.aux) {
            ExitKind::Recheck => return self.exit_polling(pc, true),
            ExitKind::Lookup => RecordKind::Lookup,
            ExitKind::Halt => RecordKind::Halt,
            ExitKind::Redirected => RecordKind::Redirected,
        };
        let record = self.record(kind, pc);
        self.leave(record);
    }

    /// Goes to the exit thunk with a record.
    fn leave(&mut self, record: ExitRecord) {
        let lea = self.asm.lea_rip(RAX);
        self.records.push((lea, Record::Exit(record)));
        self.jump_to(self.target.thunks.exit);
    }

    fn jump_to(&mut self, address: u64) {
        let jump = self.asm.jmp();
        let target = address.wrapping_sub(self.target.origin).cast_signed();
        self.asm.bind_to(jump, target as usize);
    }

    fn call(&mut self, op: &Op) -> Result<(), CompileError> {
        let kept = self.alloc.kept().max(Kept::Floats);
        let mut site = self.site(op, SiteKind::Call(op.aux));
        // The helper may change every guest register: they are in memory afterwards.
        self.alloc.set_clean();
        self.alloc.forget_guests();
        let dst = self.define_int(op, None)?;
        site.dst = Loc::Gpr(dst.0);
        if let Value::Reg(r) = op.dst.value() {
            site.dst = self.locate(r.into(), 0, &mut [0; 3]);
        }
        let jump = self.asm.jmp();
        let resume = self.asm.here();
        self.tails.push(Tail::Slow { from: jump, site, resume, kept });
        self.defined(op);
        Ok(())
    }

    // ---- out of line ----

    fn emit_tails(&mut self) {
        // Tails may add tails (exits that poll), never many.
        let mut tails = std::mem::take(&mut self.tails);
        while !tails.is_empty() {
            for tail in tails.drain(..) {
                self.emit_tail(tail);
            }
            std::mem::swap(&mut tails, &mut self.tails);
        }
        self.tails = tails;
    }

    fn emit_tail(&mut self, tail: Tail) {
        match tail {
            Tail::Slow { from, site, resume, kept } => {
                self.asm.bind(from);
                self.go_slow(site, resume, kept);
            }
            Tail::SlowSpan { from, site, resume, kept, addend } => {
                // What the runtime resumes at comes first: its place is known then.
                let cleared = self.asm.here();
                self.asm.alu(Alu::Xor, Width::W32, addend, addend.into());
                let back = self.asm.jmp();
                self.asm.bind_to(back, resume);
                self.asm.bind(from);
                self.go_slow(site, cleared, kept);
            }
            Tail::Single { from, access, site, resume, kept } => {
                self.asm.bind(from);
                let slow = self.look_up(&access);
                self.emit_access(&access, Some(RCX));
                let back = self.asm.jmp();
                self.asm.bind_to(back, resume);
                self.asm.bind(slow);
                self.go_slow(site, resume, kept);
            }
            Tail::Exit { from, write_back, pc, flags } => {
                self.asm.bind(from);
                self.store_all(write_back);
                if let Some(flags) = flags {
                    self.store_flags(flags);
                }
                self.exit(pc);
            }
            Tail::Interrupted { from, held, record } => {
                self.asm.bind(from);
                self.store_all(held);
                self.leave(record);
            }
            Tail::Leave { from, mut record, patchable } => {
                if patchable {
                    record.slot = self.target.origin + from.0 as u64;
                }
                self.asm.bind(from);
                self.leave(record);
            }
            Tail::Indirect { from, record } => {
                from.into_iter().flatten().for_each(|p| self.asm.bind(p));
                self.asm.store(Width::W64, core_mem(offset_of!(Core, target)), RAX);
                self.leave(record);
            }
            Tail::Fix { from, back, code } => {
                self.asm.bind(from);
                code(&mut self.asm);
                let jump = self.asm.jmp();
                self.asm.bind_to(jump, back);
            }
        }
    }

    /// Asks the runtime to serve a site and to resume there.
    fn go_slow(&mut self, mut site: Site, resume: usize, kept: Kept) {
        site.resume = self.target.origin + resume as u64;
        let lea = self.asm.lea_rip(RAX);
        self.records.push((lea, Record::Site(site)));
        self.jump_to(self.target.thunks.slow_of(kept));
    }

    fn emit_records(&mut self) {
        while !self.asm.here().is_multiple_of(8) {
            self.asm.code.push(0xcc);
        }
        let records = std::mem::take(&mut self.records);
        for (lea, record) in &records {
            self.asm.bind(*lea);
            let bytes: &[u8] = match record {
                Record::Site(site) => bytes_of(site),
                Record::Exit(exit) => bytes_of(exit),
            };
            self.asm.code.extend_from_slice(bytes);
            while !self.asm.here().is_multiple_of(8) {
                self.asm.code.push(0);
            }
        }
        self.records = records;
        let mut may_fault = std::mem::take(&mut self.may_fault);
        for MayFault { start, end, site, kept } in may_fault.drain(..) {
            let record = self.asm.here() as u32;
            self.asm.code.extend_from_slice(bytes_of(&site));
            while !self.asm.here().is_multiple_of(8) {
                self.asm.code.push(0);
            }
            let thunk = self.target.thunks.slow_of(kept);
            self.faults.push(FaultRange { start, end, site: record, thunk });
        }
        self.may_fault = may_fault;
    }
}

/// The bytes of a record. Padding is copied as it is: it is only ever read back as the record.
#[expect(unsafe_code, reason = "records lie between the code as plain memory")]
pub(super) fn bytes_of<T: Copy>(record: &T) -> &[u8] {
    let start = std::ptr::from_ref(record).cast::<u8>();
    // SAFETY: the record is borrowed for as long as the slice, and is as long.
    unsafe { std::slice::from_raw_parts(start, size_of::<T>()) }
}

fn condition_code(cond: Cond) -> Cc {
    match cond {
        Cond::Eq => Cc::E,
        Cond::Ne => Cc::Ne,
        Cond::Lt => Cc::L,
        Cond::Ge => Cc::Ge,
        Cond::Ltu => Cc::B,
        Cond::Geu => Cc::Ae,
        Cond::Le => Cc::Le,
        Cond::Gt => Cc::G,
        Cond::Leu => Cc::Be,
        Cond::Gtu => Cc::A,
    }
}

impl From<Gpr> for Loc {
    fn from(r: Gpr) -> Self {
        Self::Gpr(r.0)
    }
}

impl From<Xmm> for Loc {
    fn from(r: Xmm) -> Self {
        Self::Xmm(r.0)
    }
}
