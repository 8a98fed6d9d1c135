//! Translation of instructions to IR: the loop over a unit, and what the families share.
//!
//! One file per extension, named as in `spec/`. On RV32 registers stay sign-extended, so that
//! logic and comparisons are those of RV64; arithmetic works on the low halves and extends again.
//! Addresses are zero-extended there. Source: The RISC-V Instruction Set Manual, volume I, 20250508.

mod a;
mod bf16;
mod d;
mod f;
mod float;
mod m;
mod privileged;
mod rv32i;
mod rv64i;
mod vector;
mod vector_config;
mod vector_float;
mod vector_integer;
mod vector_mask;
mod vector_memory;
mod vector_pieces;
mod vector_reduce;
mod vector_slide;
mod vector_widen;
mod xventanacondops;
mod zabha;
mod zacas;
mod zawrs;
mod zba;
mod zbb;
mod zbc;
mod zbkb;
mod zbs;
mod zfa;
mod zfh;
mod zicbo;
mod zicond;
mod zicsr;
mod zifencei;
mod zihint;
mod zimop;
mod zk;

use crate::decode::{self, Ext, ExtSet, I, R, R1, Shift};
use crate::hart::Riscv;
use crate::helpers::HelperIndex;
use crate::state::{self, F0, flags};
use crate::trap::Exception;
use ir::{Builder, Cond, ExitKind, GuestReg, Hint, Label, Operand};
use isa::{CodeSource, Mode};

const PAGE: u64 = 4096;
/// Bytes that a branch may skip without leaving its unit.
const MAX_SKIP: u64 = 64;
/// Operations after which a unit ends although it could go on.
const MAX_OPS: usize = 1024;
/// How many times as long units may be that nothing leaves before their end: all of them is executed,
/// and a loop that is one unit holds registers.
const STRAIGHT: u32 = 4;

/// Appends IR for the instructions from `mode.pc` on, `max_insns` at most.
///
/// The unit goes on past forward branches that are not taken. It ends at jumps, backward branches,
/// instructions that may change how code is translated, and the page's end; an instruction that
/// straddles that is alone in its unit.
pub fn translate_unit(
    hart: &Riscv,
    mode: &Mode,
    max_insns: u32,
    code: &mut dyn CodeSource,
    b: &mut Builder<'_>,
) {
    let mut t = Translator::new(hart, mode, b);
    let mut count = 0;
    while !t.ended {
        t.arrive();
        let full = count >= t.limit(max_insns) || t.b.unit().ops.len() >= MAX_OPS;
        if full || count > 0 && t.next / PAGE != mode.pc / PAGE {
            t.exit(t.next, Hint::Jump);
            break;
        }
        if !t.fetch(code, count == 0) {
            break;
        }
        let (insn, ext) = (t.insn, t.ext);
        if !decode::dispatch(&mut t, insn, ext) {
            t.illegal();
        }
        t.lookup_if_marked();
        count += 1;
    }
    t.leave_skips();
}

/// The state of a translation: one instruction at a time.
pub(crate) struct Translator<'t, 'u> {
    b: &'t mut Builder<'u>,
    hart: &'t Riscv,
    ext: ExtSet,
    rv32: bool,
    flags: u32,
    mmu: u8,
    /// Address of the instruction.
    pc: u64,
    /// Address of the instruction after it.
    next: u64,
    /// Its bits.
    insn: u32,
    /// Whether the unit has its final exit.
    ended: bool,
    /// Whether a branch may leave it before, or skip a part.
    branches: bool,
    /// Whether the state has left the mode behind with this instruction: it marked a register file
    /// dirty, or knows now what `vtype` is.
    marked: bool,
    /// Floating-point registers that are known to hold a boxed single.
    boxed: u32,
    /// The same for a boxed half.
    boxed_half: u32,
    /// Targets of forward branches that the unit may still arrive at, and the flags there.
    skips: Vec<(u64, Label, u32)>,
}

/// An operation of the builder on two operands.
type Binary<'u> = fn(&mut Builder<'u>, Operand, Operand) -> Operand;
/// An operation of the builder on one operand.
type Unary<'u> = fn(&mut Builder<'u>, Operand) -> Operand;

impl<'t, 'u> Translator<'t, 'u> {
    fn new(hart: &'t Riscv, mode: &Mode, b: &'t mut Builder<'u>) -> Self {
        Self {
            b,
            hart,
            ext: hart.config.ext,
            rv32: hart.is_rv32(),
            flags: mode.flags,
            mmu: mode.mmu,
            pc: mode.pc,
            next: mode.pc,
            insn: 0,
            ended: false,
            branches: false,
            marked: false,
            boxed: 0,
            boxed_half: 0,
            skips: Vec::new(),
        }
    }

    /// How many instructions the unit may have.
    fn limit(&self, max_insns: u32) -> u32 {
        match max_insns {
            0 | 1 => 1,
            _ if self.branches => max_insns,
            _ => STRAIGHT * max_insns,
        }
    }

    /// Goes to `target`, a little ahead in the same page, if the condition holds: within the unit
    /// if that gets there. Otherwise code after short branches would be translated twice.
    fn skip_if(&mut self, cond: Cond, x: Operand, y: Operand, target: u64) {
        let label = self.b.label();
        self.b.branch_if(cond, x, y, label);
        self.skips.push((target, label, self.flags));
    }

    /// Whether a branch to `target` can stay within the unit.
    fn is_skip(&self, target: u64) -> bool {
        target > self.pc && target - self.pc <= MAX_SKIP && target / PAGE == self.pc / PAGE
    }

    /// Places the labels of branches that lead to the next instruction with the present flags.
    fn arrive(&mut self) {
        let (next, flags) = (self.next, self.flags);
        let arrives = |(target, _, then): &(u64, Label, u32)| *target == next && *then == flags;
        if self.skips.iter().any(arrives) {
            let b = &mut *self.b;
            self.skips.retain(|skip| {
                if arrives(skip) {
                    b.place(skip.1);
                }
                !arrives(skip)
            });
            (self.boxed, self.boxed_half) = (0, 0);
        }
    }

    /// After the unit's own end: exits for branches to where it did not get.
    fn leave_skips(&mut self) {
        for (target, label, flags) in std::mem::take(&mut self.skips) {
            self.b.place(label);
            self.set_flags(flags);
            self.b.exit(target, Hint::Jump);
        }
    }

    /// Begins the next instruction; false if the unit ended instead.
    fn fetch(&mut self, code: &mut dyn CodeSource, first: bool) -> bool {
        let pc = self.next;
        let Some(low) = code.halfword(pc) else {
            return self.end_before(pc, pc, first);
        };
        self.insn = u32::from(low);
        let mut len = 2;
        if low & 3 == 3 {
            let second = self.address(pc.wrapping_add(2));
            if second.is_multiple_of(PAGE) && !first {
                return self.end_before(pc, second, false);
            }
            let Some(high) = code.halfword(second) else {
                return self.end_before(pc, second, first);
            };
            self.insn |= u32::from(high) << 16;
            len = 4;
        }
        self.pc = pc;
        self.next = self.address(pc.wrapping_add(len));
        self.marked = false;
        self.b.insn(pc, len as u32);
        true
    }

    /// Ends the unit before `pc`, whose halfword at `at` cannot be had; takes the exception of
    /// fetching it if that would be the unit's only instruction.
    fn end_before(&mut self, pc: u64, at: u64, first: bool) -> bool {
        if first {
            self.pc = pc;
            self.b.insn(pc, 2);
            let at = self.b.imm(at);
            self.call_effect(HelperIndex::FetchFault, &[at]);
            self.exit_loop(ExitKind::Lookup, pc);
        } else {
            self.exit(pc, Hint::Jump);
        }
        false
    }

    /// After the first write to a clean register file: leaves, so that what follows is translated
    /// with it dirty.
    fn lookup_if_marked(&mut self) {
        if self.marked && !self.ended {
            self.exit_loop(ExitKind::Lookup, self.next);
        }
    }

    // What instructions may do beside computing.

    fn has(&self, ext: Ext) -> bool {
        self.ext.has(ext)
    }

    /// Raises the illegal-instruction exception.
    fn illegal(&mut self) {
        let insn = self.insn_bits();
        self.call_effect(HelperIndex::Illegal, &[insn]);
        self.exit_loop(ExitKind::Lookup, self.pc);
    }

    /// Raises an exception.
    fn raise(&mut self, cause: Exception, tval: Operand) {
        let cause = self.b.imm(cause as u64);
        self.call_effect(HelperIndex::Raise, &[cause, tval]);
    }

    /// The instruction's bits, for helpers.
    fn insn_bits(&mut self) -> Operand {
        self.b.imm(u64::from(self.insn))
    }

    fn call(&mut self, helper: HelperIndex, args: &[Operand]) -> Operand {
        self.b.call(helper.id(), args)
    }

    fn call_effect(&mut self, helper: HelperIndex, args: &[Operand]) {
        self.b.call_effect(helper.id(), args);
    }

    /// The mode has these flags from here on, as the state says.
    fn set_flags(&mut self, flags: u32) {
        if self.flags != flags {
            self.flags = flags;
            self.b.set_flags(flags);
        }
    }

    /// What follows is another function: it is not specialised for the present vectors.
    fn forget_vectors(&mut self) {
        let flags = flags::without_vector(self.flags);
        if self.flags != flags {
            let no = self.b.imm(0);
            self.b.set_reg(state::VKNOWN, no);
            self.set_flags(flags);
        }
    }

    fn exit(&mut self, pc: u64, hint: Hint) {
        if hint == Hint::Call {
            self.forget_vectors();
        }
        self.b.exit(pc, hint);
        self.ended = true;
    }

    fn exit_loop(&mut self, kind: ExitKind, pc: u64) {
        self.b.exit_loop(kind, pc);
        self.ended = true;
    }

    // Registers and widths.

    /// An address as `pc` and memory operations hold it.
    fn address(&self, value: u64) -> u64 {
        if self.rv32 { value & 0xffff_ffff } else { value }
    }

    /// An address as a register holds it.
    fn register_value(&self, address: u64) -> u64 {
        if self.rv32 { i64::from(address as i32).cast_unsigned() } else { address }
    }

    /// The value of an integer register.
    fn x(&mut self, n: u8) -> Operand {
        if n == 0 { self.b.imm(0) } else { self.b.reg(GuestReg(n & 31)) }
    }

    /// Assigns an integer register; nothing for `x0`.
    fn set_x(&mut self, n: u8, value: Operand) {
        if n != 0 {
            self.b.set_reg(GuestReg(n & 31), value);
        }
    }

    /// The register of the table that is `f` number `n`.
    fn f_reg(n: u8) -> GuestReg {
        GuestReg(F0 + (n & 31))
    }

    /// A result of 32-bit operations as registers hold it.
    fn word(&mut self, value: Operand) -> Operand {
        self.b.sext(value, 32)
    }

    /// An immediate.
    fn imm(&mut self, value: i64) -> Operand {
        self.b.imm(value.cast_unsigned())
    }

    /// Base and offset of an access at `x[rs1] + imm`.
    fn at(&mut self, rs1: u8, imm: i64) -> (Operand, i64) {
        let base = self.x(rs1);
        if self.rv32 {
            let imm = self.imm(imm);
            (self.b.add32(base, imm), 0)
        } else {
            (base, imm)
        }
    }

    /// The address in a register.
    fn at_x(&mut self, rs1: u8) -> Operand {
        let base = self.x(rs1);
        if self.rv32 { self.b.zext(base, 32) } else { base }
    }

    // Shapes that families share.

    /// rd = op(rs1, rs2), where the operation keeps sign-extended operands sign-extended.
    fn binary(&mut self, a: R, op: Binary<'u>) {
        let (x, y) = (self.x(a.rs1), self.x(a.rs2));
        let value = op(self.b, x, y);
        self.set_x(a.rd, value);
    }

    /// rd = op(rs1, rs2) in XLEN bits.
    fn binary_xlen(&mut self, a: R, op: Binary<'u>, op32: Binary<'u>) {
        if self.rv32 { self.binary_word(a, op32) } else { self.binary(a, op) }
    }

    /// rd = op(rs1, rs2) in 32 bits, sign-extended.
    fn binary_word(&mut self, a: R, op32: Binary<'u>) {
        let (x, y) = (self.x(a.rs1), self.x(a.rs2));
        let value = op32(self.b, x, y);
        let value = self.word(value);
        self.set_x(a.rd, value);
    }

    /// rd = op(rs1, imm), like [`Self::binary`].
    fn immediate(&mut self, a: I, op: Binary<'u>) {
        let (x, y) = (self.x(a.rs1), self.imm(a.imm));
        let value = op(self.b, x, y);
        self.set_x(a.rd, value);
    }

    /// rd = op(rs1, imm) in 32 bits, sign-extended.
    fn immediate_word(&mut self, a: I, op32: Binary<'u>) {
        let (x, y) = (self.x(a.rs1), self.imm(a.imm));
        let value = op32(self.b, x, y);
        let value = self.word(value);
        self.set_x(a.rd, value);
    }

    /// rd = op(rs1, shamt) in XLEN bits.
    fn shift_xlen(&mut self, a: Shift, op: Binary<'u>, op32: Binary<'u>) {
        let a = I { rd: a.rd, rs1: a.rs1, imm: i64::from(a.shamt) };
        if self.rv32 { self.immediate_word(a, op32) } else { self.immediate(a, op) }
    }

    /// rd = op(rs1, shamt) in 32 bits, sign-extended.
    fn shift_word(&mut self, a: Shift, op32: Binary<'u>) {
        self.immediate_word(I { rd: a.rd, rs1: a.rs1, imm: i64::from(a.shamt) }, op32);
    }

    /// rd = op(rs1).
    fn unary(&mut self, a: R1, op: Unary<'u>) {
        let x = self.x(a.rs1);
        let value = op(self.b, x);
        self.set_x(a.rd, value);
    }

    /// rd = op(rs1) in XLEN bits.
    fn unary_xlen(&mut self, a: R1, op: Unary<'u>, op32: Unary<'u>) {
        if self.rv32 { self.unary_word(a, op32) } else { self.unary(a, op) }
    }

    /// rd = op(rs1) in 32 bits, sign-extended.
    fn unary_word(&mut self, a: R1, op32: Unary<'u>) {
        let x = self.x(a.rs1);
        let value = op32(self.b, x);
        let value = self.word(value);
        self.set_x(a.rd, value);
    }

    /// rd = helper(instruction, rs1, rs2): a pure function of the two registers.
    fn helper(&mut self, a: R, helper: HelperIndex) {
        let (insn, x, y) = (self.insn_bits(), self.x(a.rs1), self.x(a.rs2));
        let value = self.call(helper, &[insn, x, y]);
        self.set_x(a.rd, value);
    }
}
