//! The interpreter of the IR: the reference that every code generator must agree with, and what
//! runs guest code on hosts without one.
//!
//! Each operation does what its line in `ir`'s table says, one after the other, on the ISA's state
//! through the ISA's own accessors and on memory through the engine's services: no cache, no
//! optimisation. Floating point is softfloat's. A unit must hold what [`ir::Unit::verify`] checks.

mod float;
mod integer;
mod vector;
mod vector_float;
mod vector_places;

use float::FloatUnit;
use ir::{AmoOp, Effects, ExitKind, MemOp, Op, OpKind, Operand, Unit, Value, VectorBytes};
use isa::{Cpu, Guest};

/// How a unit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Control goes to the guest address `pc`.
    Exit {
        /// Where to.
        pc: u64,
    },
    /// The run loop is wanted, to go on at the guest address; with [`ExitKind::Redirected`] that
    /// is in the state and the address here means nothing.
    Loop(ExitKind, u64),
    /// An exception was taken: the state's pc is the handler's.
    Trapped,
}

/// An interpreter; it keeps its memory from one unit to the next.
#[derive(Debug, Default)]
pub struct Interpreter {
    temps: Vec<u64>,
    /// Temporaries that are vectors; there may be more than the unit has.
    vectors: Vec<VectorBytes>,
    /// Where each label is, and the pc of the instruction it belongs to.
    labels: Vec<(usize, u64)>,
}

/// What an operation leads to.
enum Step {
    Next,
    Goto(u16),
    Leave(Outcome),
}

impl Interpreter {
    /// Executes a unit from its first operation to an exit. The state's pc is set before whatever
    /// may look at it, not at exits.
    ///
    /// # Panics
    /// If the unit breaks a rule of [`Unit::verify`].
    pub fn run<G: Guest>(&mut self, unit: &Unit, cpu: &mut Cpu<'_, G>) -> Outcome {
        self.temps.clear();
        self.temps.resize(unit.temps as usize, 0);
        if self.vectors.len() < self.temps.len() {
            self.vectors.resize(self.temps.len(), [0; 32]);
        }
        self.find_labels(unit);
        let float = FloatUnit::new(unit.float, G::float_control(cpu.state));
        let (temps, vectors) = (&mut *self.temps, &mut *self.vectors);
        let mut run = Run { unit, cpu, temps, vectors, float, pc: unit.pc };
        let mut at = 0;
        let outcome = loop {
            match run.step(&unit.ops[at]) {
                Ok(Step::Next) => at += 1,
                Ok(Step::Goto(label)) => (at, run.pc) = self.labels[usize::from(label)],
                Ok(Step::Leave(outcome)) => break outcome,
                Err(trap) => {
                    run.collect_flags();
                    G::raise(run.cpu, trap);
                    break Outcome::Trapped;
                }
            }
        };
        run.collect_flags();
        outcome
    }

    fn find_labels(&mut self, unit: &Unit) {
        self.labels.clear();
        self.labels.resize(usize::from(unit.labels), (usize::MAX, 0));
        if unit.labels == 0 {
            return;
        }
        let mut pc = unit.pc;
        for (at, op) in unit.ops.iter().enumerate() {
            match op.kind {
                OpKind::Insn => pc = unit.as_const(op.a).unwrap_or(pc),
                OpKind::Label => self.labels[usize::from(op.aux)] = (at, pc),
                _ => {}
            }
        }
    }
}

/// Executes one unit with an interpreter of its own.
pub fn run<G: Guest>(unit: &Unit, cpu: &mut Cpu<'_, G>) -> Outcome {
    Interpreter::default().run(unit, cpu)
}

/// One execution of a unit.
struct Run<'a, 'c, G: Guest> {
    unit: &'a Unit,
    cpu: &'a mut Cpu<'c, G>,
    temps: &'a mut [u64],
    vectors: &'a mut [VectorBytes],
    float: FloatUnit,
    pc: u64,
}

impl<G: Guest> Run<'_, '_, G> {
    fn read(&self, operand: Operand) -> u64 {
        match operand.value() {
            Value::None => 0,
            Value::Temp(t) => self.temps[t.0 as usize],
            Value::Reg(r) => G::reg(self.cpu.state, r),
            Value::Const(c) => self.unit.constant(c),
        }
    }

    fn write(&mut self, dst: Operand, value: u64) {
        match dst.value() {
            Value::None | Value::Const(_) => {}
            Value::Temp(t) => self.temps[t.0 as usize] = value,
            Value::Reg(r) => G::set_reg(self.cpu.state, r, value),
        }
    }

    fn collect_flags(&mut self) {
        G::add_fp_flags(self.cpu.state, self.float.take_flags());
    }

    fn step(&mut self, op: &Op) -> Result<Step, G::Trap> {
        if op.ty.is_vector() {
            return self.vector(op).map(|()| Step::Next);
        }
        let [a, b, c] = [op.a, op.b, op.c].map(|operand| self.read(operand));
        if op.kind.effects().has(Effects::CONTROL) {
            return Ok(self.control(op, a, b, c));
        }
        let value = if op.kind.effects().has(Effects::STATE) {
            G::set_pc(self.cpu.state, self.pc);
            self.memory(op, a, b, c)?
        } else if op.kind == OpKind::FlagsGet {
            // They are in the state at once.
            self.collect_flags();
            0
        } else if op.kind == OpKind::FlagsClear {
            let _gone = self.float.take_flags();
            0
        } else if let Some(value) = integer::evaluate(op, a, b, c) {
            value
        } else {
            self.float.evaluate(op, [a, b, c])
        };
        self.write(op.dst, value);
        Ok(Step::Next)
    }

    fn control(&mut self, op: &Op, a: u64, b: u64, c: u64) -> Step {
        let holds = || integer::compare(op, a, b);
        match op.kind {
            OpKind::Insn => self.pc = a,
            OpKind::Branch => return Step::Goto(a as u16),
            OpKind::BranchIf if holds() => return Step::Goto(c as u16),
            OpKind::ExitIf if holds() => return Step::Leave(Outcome::Exit { pc: c }),
            OpKind::ExitFlags if a != 0 => return Step::Leave(Outcome::Exit { pc: b }),
            OpKind::Exit | OpKind::ExitIndirect => return Step::Leave(Outcome::Exit { pc: a }),
            OpKind::ExitLoop => {
                return Step::Leave(Outcome::Loop(ExitKind::from_code(op.aux), a));
            }
            _ => {}
        }
        Step::Next
    }

    fn memory(&mut self, op: &Op, a: u64, b: u64, c: u64) -> Result<u64, G::Trap> {
        let (mmu, mem) = (self.unit.mmu, op.mem());
        match op.kind {
            OpKind::Load => self.cpu.load(mmu, mem, a.wrapping_add(b)),
            OpKind::Store => self.cpu.store(mmu, mem, a.wrapping_add(b), c).map(|()| 0),
            OpKind::Amo => {
                let amo = AmoOp::from_code(op.aux >> MemOp::BITS);
                self.cpu.amo(mmu, (amo, mem), a, b)
            }
            OpKind::Cas => self.cpu.cas(mmu, mem, a, (b, c)),
            OpKind::Call => self.call(op.aux, [a, b, c]),
            OpKind::Leaf => Ok(G::leaves()[usize::from(op.aux)](self.cpu.state, a, b, c)),
            OpKind::VCopyIn | OpKind::VCopyOut => self.call(op.aux, [c, a, b]),
            OpKind::VCopySomeIn | OpKind::VCopySomeOut => self.call(op.aux, [b >> 32, a, c]),
            _ => {
                std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
                Ok(0)
            }
        }
    }

    fn call(&mut self, helper: u16, args: [u64; 3]) -> Result<u64, G::Trap> {
        let helper = &G::helpers()[usize::from(helper)];
        if helper.float {
            self.collect_flags();
        }
        let result = (helper.run)(self.cpu, args);
        if helper.float {
            self.float.set_control(G::float_control(self.cpu.state));
        }
        result
    }
}
