//! Runs a unit on the interpreter and on a virtual processor, and compares what they leave.

use crate::Random;
use crate::flat::Flat;
use crate::generate::float_register;
use crate::guest::{CODE, FLOATS, INTS, TestGuest, TestState, WINDOW, WINDOW_LEN};
use crate::values::{float32, float64, integer};
use cpu::{Exit, VirtualCpu};
use interp::{Interpreter, Outcome};
use ir::{ExitKind, Unit};
use isa::{Cpu, Guest};
use memory::{AddressSpace, Backing, Gpa, Ram, Region};
use opt::Optimiser;
use runtime::{CodeCache, Options, Vcpu};
use state::SavedState;
use std::fmt::{self, Write};
use std::io;
use std::sync::Arc;

/// Registers and memory to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Registers.
    pub state: TestState,
    /// The window of memory.
    pub memory: Vec<u8>,
}

impl Start {
    /// Interesting values.
    pub fn random(random: &mut Random<'_>) -> Self {
        let mut state = TestState { pc: CODE, ..TestState::default() };
        for i in 0..INTS {
            state.x[i] = integer(random);
        }
        for i in 0..FLOATS {
            state.f[i] = float_register(random);
        }
        for word in state.v.0.chunks_exact_mut(8) {
            let value = match random.below(3) {
                0 => integer(random),
                1 => float64(random),
                _ => u64::from(float32(random)) << 32 | u64::from(float32(random)),
            };
            word.copy_from_slice(&value.to_le_bytes());
        }
        (state.rounding, state.fflags) = (random.below(4), random.below(32));
        state.flush = random.pick(&[0, 0, 1, 2, 3]);
        let mut filler = Random::new(random.number());
        let memory = (0..WINDOW_LEN / 8).flat_map(|_| integer(&mut filler).to_le_bytes()).collect();
        Self { state, memory }
    }
}

/// What a unit left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Registers, the pc of the next unit and the last exception.
    pub state: TestState,
    /// The window of memory.
    pub memory: Vec<u8>,
    /// Whether it waits for an interrupt.
    pub halted: bool,
}

/// What two executors do not agree on.
#[derive(Clone, Debug)]
pub struct Difference {
    /// What the interpreter left.
    pub expected: Machine,
    /// What the other executor left.
    pub found: Machine,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (e, g) = (&self.expected, &self.found);
        let mut line = |name: &str, a: u64, b: u64| match a == b {
            true => Ok(()),
            false => writeln!(f, "  {name}: expected {a:#x}, found {b:#x}"),
        };
        for (row, info) in TestGuest::registers().iter().enumerate() {
            let reg = ir::GuestReg(row as u8);
            line(info.name, TestGuest::reg(&e.state, reg), TestGuest::reg(&g.state, reg))?;
        }
        line("pc", e.state.pc, g.state.pc)?;
        line("rounding", e.state.rounding, g.state.rounding)?;
        line("flush", e.state.flush, g.state.flush)?;
        line("epc", e.state.epc, g.state.epc)?;
        line("cause", e.state.cause, g.state.cause)?;
        line("tval", e.state.tval, g.state.tval)?;
        line("scratch", e.state.scratch, g.state.scratch)?;
        for (i, (a, b)) in e.state.v.0.iter().zip(&g.state.v.0).enumerate() {
            line(&format!("v[{i}]"), u64::from(*a), u64::from(*b))?;
        }
        line("halted", e.halted.into(), g.halted.into())?;
        for (i, (a, b)) in e.memory.iter().zip(&g.memory).enumerate() {
            line(&format!("[{:#x}]", WINDOW + i as u64), u64::from(*a), u64::from(*b))?;
        }
        Ok(())
    }
}

/// The two executors.
pub struct Bench {
    guest: Arc<TestGuest>,
    vcpu: Vcpu<TestGuest>,
    ram: Arc<Ram>,
    interpreter: Interpreter,
    optimiser: Optimiser,
    serial: u64,
}

impl Bench {
    /// An interpreter beside a processor with these options.
    ///
    /// # Errors
    /// The host gives no memory.
    pub fn new(options: Options) -> io::Result<Self> {
        let guest = Arc::new(TestGuest::default());
        let space = AddressSpace::new("test");
        let code = Ram::new("code", 0x1000)?;
        space.map_ram(CODE, &code);
        let ram = Ram::new("window", WINDOW_LEN)?;
        let backing = Backing::Ram { ram: Arc::clone(&ram), offset: 0 };
        let region = Region {
            name: "window".into(),
            base: Gpa(WINDOW),
            len: WINDOW_LEN,
            priority: 0,
            backing,
        };
        space.map(region);
        let cache = CodeCache::new(TestGuest::registers(), options)?;
        let vcpu = Vcpu::new(Arc::clone(&guest), space, cache);
        Ok(Self {
            guest,
            vcpu,
            ram,
            interpreter: Interpreter::default(),
            optimiser: Optimiser::default(),
            serial: 0,
        })
    }

    /// What the interpreter leaves.
    pub fn reference(&mut self, unit: &Unit, start: &Start) -> Machine {
        let mut state = start.state.clone();
        let mut flat = Flat { bytes: start.memory.clone() };
        let outcome = {
            let mut cpu = Cpu::new(&*self.guest, &mut state, &mut flat);
            self.interpreter.run(unit, &mut cpu)
        };
        match outcome {
            Outcome::Exit { pc }
            | Outcome::Loop(ExitKind::Lookup | ExitKind::Recheck | ExitKind::Halt, pc) => {
                state.pc = pc;
            }
            Outcome::Loop(ExitKind::Redirected, _) | Outcome::Trapped => {}
        }
        let halted = matches!(outcome, Outcome::Loop(ExitKind::Halt, _));
        Machine { state, memory: flat.bytes, halted }
    }

    /// What the processor leaves after the present unit.
    fn step(&mut self, start: &Start) -> Machine {
        let mut state = start.state.clone();
        state.serial = self.serial;
        self.vcpu.restore(&state.save()).expect("a state fits itself");
        assert!(self.ram.write(0, &start.memory), "the window is as large");
        let halted = self.vcpu.step() == Exit::Halted;
        state.restore(&self.vcpu.save()).expect("a state fits itself");
        state.serial = start.state.serial;
        let mut memory = vec![0; start.memory.len()];
        assert!(self.ram.read(0, &mut memory), "the window is as large");
        Machine { state, memory, halted }
    }

    /// Runs a unit from each start on both, and optimised on the interpreter: its processor may
    /// optimise it, too.
    ///
    /// # Errors
    /// The first start after which two differ, and how.
    pub fn compare(
        &mut self,
        unit: &Arc<Unit>,
        starts: &[Start],
    ) -> Result<(), (usize, Box<Difference>)> {
        self.guest.set_unit(unit);
        self.serial += 1;
        let mut optimised = (**unit).clone();
        self.optimiser.run(&mut optimised, TestGuest::registers());
        for (index, start) in starts.iter().enumerate() {
            let mut start = start.clone();
            start.state.rules = (unit.float == ir::FloatRules::Propagate).into();
            let start = &start;
            let expected = self.reference(unit, start);
            let mut found = self.reference(&optimised, start);
            if expected == found {
                found = self.step(start);
            }
            if expected != found {
                return Err((index, Box::new(Difference { expected, found })));
            }
        }
        Ok(())
    }

    /// Compares; on a difference, the smallest unit that still shows it, as text.
    ///
    /// # Errors
    /// What differs, with the listing of the unit.
    pub fn check(&mut self, unit: &Unit, starts: &[Start]) -> Result<(), String> {
        let Err((index, _)) = self.compare(&Arc::new(unit.clone()), starts) else { return Ok(()) };
        let starts = &starts[index..=index];
        let small =
            crate::minimise(unit, |unit| self.compare(&Arc::new(unit.clone()), starts).is_err());
        let mut text = small.listing(TestGuest::registers());
        let state = &starts[0].state;
        let _infallible = writeln!(
            text,
            "from rounding {}, flush {}, fflags {:#x},",
            state.rounding, state.flush, state.fflags
        );
        for (row, info) in TestGuest::registers().iter().enumerate() {
            let value = TestGuest::reg(state, ir::GuestReg(row as u8));
            let named = |o: ir::Operand| o == ir::GuestReg(row as u8).into();
            if small.ops.iter().any(|op| named(op.dst) || op.operands().any(named)) {
                let _infallible = writeln!(text, "  {} = {value:#x}", info.name);
            }
        }
        if small.ops.iter().any(|op| op.kind == ir::OpKind::VGet) {
            let _infallible = writeln!(text, "  v = {:02x?}", state.v.0);
        }
        match self.compare(&Arc::new(small), starts) {
            Err((_, difference)) => Err(format!("{text}{difference}")),
            Ok(()) => Err(format!("{text}(does not differ any more when run again)")),
        }
    }
}
