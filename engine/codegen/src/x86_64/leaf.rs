//! Calls of leaf helpers: plain calls by the host's rules, which save what is alive and nothing else.

use super::alloc::Class;
use super::asm::gpr::{RAX, RCX, RDI, RDX, RSI, RSP};
use super::asm::{Alu, Gpr, Mem, Width};
use super::lower::Generator;
use super::thunks::{core_mem, state_mem};
use super::{FLOAT_POOL, POOL};
use crate::CompileError;
use crate::layout::Core;
use ir::{Op, Operand, Value};
use std::mem::offset_of;

/// Pins that a called function may overwrite.
const LOST: [Gpr; 2] = [RSI, RDI];

/// What a call of a function loses, and where that is kept.
pub(super) type Lost = [Option<(Gpr, Mem)>; 2];

impl Generator<'_> {
    pub(super) fn leaf(&mut self, op: &Op) -> Result<(), CompileError> {
        // While arguments are gathered, only the scratch registers change.
        self.argument(RCX, op.c)?;
        self.argument(RAX, op.b)?;
        let first = match op.a.value() {
            Value::Const(_) => None,
            _ => Some(self.int(op.a)?),
        };
        self.kill_operands(op);
        let lost = self.before_function()?;
        match first {
            Some(first) => self.asm.mov(Width::W64, RSI, first),
            None => self.asm.mov_imm(RSI, self.unit.as_const(op.a).unwrap_or(0)),
        }
        self.asm.mov(Width::W64, RDX, RAX);
        self.asm.lea(Width::W64, RDI, state_mem(0));
        self.call_function(core_mem(offset_of!(Core, leaves)), op.aux.into(), lost);
        let d = self.define_int(op, None)?;
        self.asm.mov(Width::W64, d, RAX);
        self.defined(op);
        Ok(())
    }

    /// Saves what a function may overwrite; registers keep their values until arguments go there.
    pub(super) fn before_function(&mut self) -> Result<Lost, CompileError> {
        self.write_back();
        for host in POOL {
            self.evict(Class::Int, host)?;
        }
        for host in FLOAT_POOL {
            self.evict(Class::Float, host)?;
        }
        let lost = LOST.map(|host| self.pin(host).map(|place| (host, place)));
        for (host, place) in lost.into_iter().flatten() {
            self.asm.store(Width::W64, place, host);
        }
        Ok(lost)
    }

    /// Calls the function in a row of a table, whose address is in memory.
    pub(super) fn call_function(&mut self, table: Mem, row: usize, lost: Lost) {
        self.asm.load(Width::W64, RAX, table);
        // Calls of the guest are of one word each.
        let stack = core_mem(offset_of!(Core, frame.gpr) + 8 * usize::from(RSP.0));
        self.asm.store(Width::W64, stack, RSP);
        self.asm.alu_imm(Alu::And, Width::W64, RSP.into(), -16);
        self.asm.vzeroupper();
        self.asm.call_rm(Mem::base(RAX, 8 * row as i32).into());
        self.asm.load(Width::W64, RSP, stack);
        for (host, place) in lost.into_iter().flatten() {
            self.asm.load(Width::W64, host, place);
        }
    }

    fn argument(&mut self, to: Gpr, operand: Operand) -> Result<(), CompileError> {
        if let Some(value) = self.unit.as_const(operand) {
            self.asm.mov_imm(to, value);
        } else {
            let from = self.int(operand)?;
            self.asm.mov(Width::W64, to, from);
        }
        Ok(())
    }
}
