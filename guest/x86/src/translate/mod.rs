//! Translation of instructions to IR: the loop over a unit, and what the families share.
//!
//! One file per family, named as in `spec/`. Source: Intel SDM volume 2. Values of operands have anything
//! above their size; results of 32 bits are zero-extended when they are written.

mod bits;
mod control;
mod decimal;
mod evex;
mod evex_forms;
mod evex_pieces;
mod far;
mod flags;
mod integer;
mod memory;
mod multiply;
mod operand;
mod opmask;
mod shift;
mod simd;
mod simd_float;
mod simd_integer;
mod simd_move;
mod simd_rare;
mod stack;
mod string;
mod system;
mod x87;

pub(crate) use memory::unsigned;
pub(crate) use operand::Place;

use crate::decode::{self, Attr, DecodeError, Encoding, Fetch, Insn, Rep, Width};
use crate::flags::Cc;
use crate::helpers::{HelperIndex, LeafIndex};
use crate::model::Feature;
use crate::processor::X86;
use crate::state::{self, SCRATCH, SEG_BASE, SPLIT, mode, seg};
use crate::trap::Exception;
use ir::{Builder, Cond, ExitKind, FloatRules, GuestReg, Hint, Label, Operand};
use isa::{CodeSource, Mode};

const PAGE: u64 = 4096;
/// Bytes that a branch may skip without leaving its unit.
const MAX_SKIP: u64 = 64;
/// Operations after which a unit ends although it could go on.
const MAX_OPS: usize = 512;

/// Appends IR for the instructions from `mode.pc` on, `max_insns` at most.
///
/// The unit goes on past forward branches that are not taken. It ends at jumps, backward branches,
/// instructions that may change how code is translated, and the page's end; an instruction that
/// straddles that is alone in its unit.
pub fn translate_unit(
    cpu: &X86,
    mode: &Mode,
    max_insns: u32,
    code: &mut dyn CodeSource,
    b: &mut Builder<'_>,
) {
    b.float_rules(FloatRules::Propagate);
    let mut t = Translator::new(cpu, mode, b);
    let limit = if mode.flags & (mode::TF | mode::SPLIT) != 0 { 1 } else { max_insns.max(1) };
    if cpu.user && mode.flags & (mode::TF | mode::STEPPING) == mode::TF {
        // Whoever plays the operating system takes it from here, an instruction at a time.
        t.trap_behind(Exception::Debug);
    }
    let mut count = 0;
    while !t.ended {
        t.arrive();
        let full = count >= limit || t.b.unit().ops.len() >= MAX_OPS;
        if full || count > 0 && t.next / PAGE != mode.pc / PAGE {
            t.exit(t.next, Hint::Jump);
            break;
        }
        let Some(insn) = t.fetch(code, count == 0) else { break };
        if !t.available(&insn) || !t.run(&insn) {
            t.undefined_instruction();
        }
        if mode.flags & mode::SPLIT != 0 && !t.ended {
            let no = t.b.imm(0);
            t.b.set_reg(SPLIT, no);
            t.lookup_next();
        }
        count += 1;
    }
    t.leave_skips();
}

/// The state of a translation: one instruction at a time.
pub(crate) struct Translator<'t, 'u> {
    pub(crate) b: &'t mut Builder<'u>,
    pub(crate) cpu: &'t X86,
    pub(crate) flags: u32,
    pub(crate) width: Width,
    /// Linear address of the instruction.
    pub(crate) pc: u64,
    /// Linear address of the instruction after it.
    pub(crate) next: u64,
    /// Whether the unit has its final exit.
    pub(crate) ended: bool,
    /// What `cc_op` holds, if that is known.
    pub(crate) cc: Option<Cc>,
    /// Targets of forward branches that the unit may still arrive at, and what is known there.
    skips: Vec<(u64, Label, Option<Cc>)>,
    /// Of an instruction in EVEX, how far it is.
    pub(crate) wide: Option<evex::Wide>,
    /// The rounding mode that the instruction says.
    pub(crate) fixed_rounding: Option<u8>,
}

/// An operation of the builder on two operands.
pub(crate) type Binary<'u> = fn(&mut Builder<'u>, Operand, Operand) -> Operand;

impl<'t, 'u> Translator<'t, 'u> {
    fn new(cpu: &'t X86, mode: &Mode, b: &'t mut Builder<'u>) -> Self {
        let width = match mode.flags & mode::CODE {
            0 => Width::W16,
            1 => Width::W32,
            _ => Width::W64,
        };
        Self {
            b,
            cpu,
            flags: mode.flags,
            width,
            pc: mode.pc,
            next: mode.pc,
            ended: false,
            cc: None,
            skips: Vec::new(),
            wide: None,
            fixed_rounding: None,
        }
    }

    /// Goes to `target`, a little ahead in the same page: within the unit if that gets there.
    fn skip_to(&mut self, target: u64) -> Label {
        let label = self.b.label();
        self.skips.push((target, label, self.cc));
        label
    }

    /// Whether a branch to `target` can stay within the unit.
    fn is_skip(&self, target: u64) -> bool {
        target > self.pc && target - self.pc <= MAX_SKIP && target / PAGE == self.pc / PAGE
    }

    /// Places the labels of branches that lead to the next instruction.
    fn arrive(&mut self) {
        let next = self.next;
        for i in (0..self.skips.len()).rev() {
            let (target, label, cc) = self.skips[i];
            if target == next {
                self.skips.swap_remove(i);
                self.b.place(label);
                self.cc = self.cc.filter(|known| cc == Some(*known));
            }
        }
    }

    /// After the unit's own end: exits for branches to where it did not get.
    fn leave_skips(&mut self) {
        for (target, label, _) in std::mem::take(&mut self.skips) {
            self.b.place(label);
            self.b.exit(target, Hint::Jump);
        }
    }

    /// Begins the next instruction; `None` if the unit ended instead.
    fn fetch(&mut self, code: &mut dyn CodeSource, first: bool) -> Option<Insn> {
        let pc = self.next;
        let (width, long) = (self.width, self.width == Width::W64);
        let at = |n: usize| {
            let at = pc.wrapping_add(n as u64);
            if long { at } else { at & 0xffff_ffff }
        };
        let mut source = |n: usize| {
            let at = at(n);
            if !first && at / PAGE != pc / PAGE {
                return None;
            }
            code.byte(at)
        };
        let mut fetch = Fetch::new(&mut source);
        match decode::decode(width, &mut fetch) {
            Ok(insn) => {
                self.pc = pc;
                self.next = at(usize::from(insn.len));
                self.b.insn(pc, insn.len.into());
                Some(insn)
            }
            Err(_) if !first && at(decode::MAX_LEN) / PAGE != pc / PAGE => {
                self.exit(pc, Hint::Jump);
                None
            }
            Err(error) => {
                let len = fetch.len().max(1);
                (self.pc, self.next) = (pc, at(len));
                self.b.insn(pc, len as u32);
                match error {
                    DecodeError::Undefined => self.undefined_instruction(),
                    DecodeError::TooLong => self.raise(Exception::Protection, 0),
                    DecodeError::Fault(fault) => {
                        let at = self.b.imm(at(fault.0));
                        self.call_effect(HelperIndex::FetchFault, &[at]);
                        self.exit_loop(ExitKind::Lookup, pc);
                    }
                }
                None
            }
        }
    }

    /// Runs the instruction's method; whether it has one.
    fn run(&mut self, i: &Insn) -> bool {
        match i.encoding == Encoding::Evex || i.entry.has(Attr::Once) {
            true => self.evex(i),
            false => decode::dispatch(self, i),
        }
    }

    /// Whether the processor has what the instruction needs.
    fn available(&self, i: &Insn) -> bool {
        i.entry.features.iter().all(|feature| self.has(*feature)) && self.has_evex_length(i)
    }

    // What instructions may do beside computing.

    pub(crate) fn has(&self, feature: Feature) -> bool {
        self.cpu.has(feature)
    }

    pub(crate) fn is_long(&self) -> bool {
        self.width == Width::W64
    }

    /// #UD.
    pub(crate) fn undefined_instruction(&mut self) {
        self.raise(Exception::Undefined, 0);
    }

    /// Raises an exception; the unit ends.
    pub(crate) fn raise(&mut self, exception: Exception, error: u32) {
        self.raise_here(exception, error);
        self.exit_loop(ExitKind::Lookup, self.pc);
    }

    /// Raises an exception; the unit goes on for paths that do not get here.
    pub(crate) fn raise_here(&mut self, exception: Exception, error: u32) {
        let (vector, error) = (self.b.imm(exception as u64), self.b.imm(error.into()));
        let zero = self.b.imm(0);
        self.call_effect(HelperIndex::Raise, &[vector, error, zero]);
    }

    /// Raises an exception if the condition holds. Temporaries end here.
    pub(crate) fn raise_if(
        &mut self,
        cond: Cond,
        (x, y): (Operand, Operand),
        exception: Exception,
    ) {
        let past = self.b.label();
        self.b.branch_if(cond.negated(), x, y, past);
        self.raise_here(exception, 0);
        self.b.place(past);
    }

    pub(crate) fn call(&mut self, helper: HelperIndex, args: &[Operand]) -> Operand {
        self.b.call(helper.id(), args)
    }

    pub(crate) fn call_effect(&mut self, helper: HelperIndex, args: &[Operand]) {
        self.b.call_effect(helper.id(), args);
    }

    pub(crate) fn leaf(&mut self, leaf: LeafIndex, args: &[Operand]) -> Operand {
        self.b.leaf(leaf.into(), args)
    }

    pub(crate) fn leaf_effect(&mut self, leaf: LeafIndex, args: &[Operand]) {
        self.b.leaf_effect(leaf.into(), args);
    }

    /// Leaves for a linear address.
    pub(crate) fn exit(&mut self, pc: u64, hint: Hint) {
        self.b.exit(pc, hint);
        self.ended = true;
    }

    pub(crate) fn exit_loop(&mut self, kind: ExitKind, pc: u64) {
        self.b.exit_loop(kind, pc);
        self.ended = true;
    }

    /// Ends the unit behind an instruction that may have changed how code is translated, and mostly has
    /// not: the helper before tells.
    pub(crate) fn recheck_next(&mut self) {
        self.exit_loop(ExitKind::Recheck, self.next);
    }

    /// Ends the unit behind an instruction that changed how code is translated.
    pub(crate) fn lookup_next(&mut self) {
        self.exit_loop(ExitKind::Lookup, self.next);
    }

    // Registers.

    /// A general register, all of it.
    pub(crate) fn gpr(n: u8) -> GuestReg {
        GuestReg(state::GPR + (n & 15))
    }

    /// The value of a general register, all of it.
    pub(crate) fn x(&mut self, n: u8) -> Operand {
        self.b.reg(Self::gpr(n))
    }

    /// A scratch register, for values that live across labels.
    pub(crate) fn scratch(n: u8) -> GuestReg {
        GuestReg(SCRATCH + (n & 3))
    }

    /// The base of a segment.
    pub(crate) fn segment_base(&mut self, number: u8) -> Operand {
        self.b.reg(GuestReg(SEG_BASE + number.min(5)))
    }

    pub(crate) fn imm(&mut self, value: i64) -> Operand {
        self.b.imm(value.cast_unsigned())
    }

    /// Keeps a value in a register of the state; the value may be used again.
    pub(crate) fn keep(&mut self, reg: GuestReg, value: Operand) {
        let value = self.b.copy(value);
        self.b.set_reg(reg, value);
    }

    /// The instruction pointer's value for a linear address, as code sees it.
    pub(crate) fn ip_of(&mut self, linear: u64) -> Operand {
        let value = self.b.imm(linear);
        if self.flags & mode::FLAT != 0 || self.is_long() {
            return value;
        }
        let base = self.segment_base(seg::CS);
        self.b.sub32(value, base)
    }

    /// Whether a repetition prefix is there.
    pub(crate) fn repeats(i: &Insn) -> bool {
        i.rep != Rep::None
    }
}
