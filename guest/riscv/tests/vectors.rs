//! Instructions against `tests/insn/<isa>/*.vec`, on the interpreter of IR and on compiled code.
//!
//! A line is `code[,code…]  text  before => after`; parts are separated by two spaces. Code lies at
//! [`START`]; it runs until control leaves it. What is not said to change must not change.
//! Assignments: registers by name, `[address]` for 8 bytes of memory, `v0`… for vector registers,
//! `vectors` for what they hold at first, and after: `pc`, or `trap` with `tval`.

mod machine;

use cpu::VirtualCpu;
use interp::{Interpreter, Outcome};
use ir::{Builder, GuestReg, MemOp, Unit};
use isa::{Cpu, Guest};
use machine::{Code, Memory, PAGE, START, hart};
use memory::{AddressSpace, Ram};
use riscv::decode::disassemble_plain;
use riscv::{Exception, Riscv, State, Trap, Xlen};
use runtime::{CodeCache, Options, Vcpu};
use state::SavedState;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// Where exceptions go.
const HANDLER: u64 = 0x10_0000;
/// Floats that are interesting, in three formats: `vectors=f16` and so on.
const F16: [u16; 19] = [
    0x3c00, 0xc100, 0, 0x8000, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 1, 0x3ff, 0x7bff, 0x3555, 0x7800,
    0xf801, 0x3800, 0xbe00, 0x4100, 0x5640, 0xd640,
];
const F32: [u32; 19] = [
    0x3f80_0000,
    0xc020_0000,
    0,
    0x8000_0000,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0x7f80_0001,
    1,
    0x007f_ffff,
    0x7f7f_ffff,
    0x3eaa_aaab,
    0x4f00_0000,
    0xcf00_0001,
    0x5f00_0000,
    0x4b80_0001,
    0x3f00_0000,
    0xbfc0_0000,
    0x4020_0000,
];
const F64: [u64; 19] = [
    0x3ff0 << 48,
    0xc004 << 48,
    0,
    1 << 63,
    0x7ff << 52,
    0xfff << 52,
    0x7ff8 << 48,
    (0x7ff << 52) + 1,
    1,
    (1 << 52) - 1,
    (0x7ff << 52) - 1,
    0x3fd5_5555_5555_5555,
    0x41df_ffff_ffc0_0000,
    0xc1e0_0000_0020_0000,
    0x43e0 << 48,
    (0x4340 << 48) + 1,
    0x3fe0 << 48,
    0xbff8 << 48,
    0x4004 << 48,
];

/// A hart, its state and memory: before or after.
struct Machine {
    hart: Arc<Riscv>,
    state: State,
    memory: Memory,
}

/// What executes the instructions.
enum Executor {
    Interpreter,
    Compiled(Box<Processor>),
}

/// A processor of the engine, with a page of code and one of memory.
struct Processor {
    vcpu: Vcpu<Riscv>,
    code: Arc<Ram>,
    memory: Arc<Ram>,
}

impl Processor {
    fn new(xlen: Xlen) -> Self {
        let ram = |name| Ram::new(name, 4096).expect("the host has memory");
        let (code, memory) = (ram("code"), ram("memory"));
        let space = AddressSpace::new("test");
        space.map_ram(START, &code);
        space.map_ram(PAGE, &memory);
        let options = Options { code_bytes: 4 << 20, interpret: false, ..Options::default() };
        let cache = CodeCache::new(Riscv::registers(), options).expect("the host has memory");
        Self { vcpu: Vcpu::new(Arc::new(hart(xlen)), space, cache), code, memory }
    }

    /// Runs the code on the state and memory of a machine.
    fn run(&mut self, machine: &mut Machine, code: &[u8]) -> Option<Trap> {
        // Two bytes more, where control arrives.
        assert!(self.code.write(0, &[code, &[1, 0]].concat()), "the code fits");
        assert!(self.memory.write(0, &machine.memory.0), "the memory is as large");
        machine.state.mtvec = HANDLER;
        self.vcpu.restore(&machine.state.save()).expect("a state fits itself");
        let within = START..START + code.len() as u64;
        while within.contains(&self.vcpu.pc()) {
            self.vcpu.step();
        }
        machine.state.restore(&self.vcpu.save()).expect("a state fits itself");
        assert!(self.memory.read(0, &mut machine.memory.0), "the memory is as large");
        (machine.state.pc == HANDLER).then(|| machine.trap())
    }
}

fn number(text: &str) -> u128 {
    let text = text.replace('_', "");
    match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .unwrap_or_else(|_| panic!("`{text}` is no number"))
}

/// The vector registers (VLEN 128) that a name stands for.
fn vectors(name: &str) -> Vec<u8> {
    let pick = |i: usize| (i * 7 + i / 16 * 3) % 19;
    match name {
        "f16" => (0..256).flat_map(|i| F16[pick(i)].to_le_bytes()).collect(),
        "f32" => (0..128).flat_map(|i| F32[pick(i)].to_le_bytes()).collect(),
        "f64" => (0..64).flat_map(|i| F64[pick(i)].to_le_bytes()).collect(),
        "random" => {
            let mut x = 0x9e37_79b9_7f4a_7c15_u64;
            let mut next = || {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                x.to_le_bytes()
            };
            (0..64).flat_map(|_| next()).collect()
        }
        other => panic!("no vector registers are called {other}"),
    }
}

impl Machine {
    fn new(hart: &Arc<Riscv>) -> Self {
        let hart = Arc::clone(hart);
        let mut state = hart.reset();
        // The floating-point and vector units are on and dirty.
        state.mstatus |= 3 << 13 | 3 << 9;
        Self { hart, state, memory: Memory::new() }
    }

    fn assign(&mut self, name: &str, text: &str) {
        let state = &mut self.state;
        if name == "vectors" {
            state.v.0[..512].copy_from_slice(&vectors(text));
            return;
        }
        let wide = number(text);
        let value = wide as u64;
        if let Some(address) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
            self.memory.put((number(address) as u64 - PAGE) as usize, MemOp::U64, value);
            return;
        }
        if let Some(n) = name.strip_prefix('v').and_then(|n| n.parse::<usize>().ok()) {
            state.v.0[16 * n..16 * n + 16].copy_from_slice(&wide.to_le_bytes());
            return;
        }
        match name {
            "frm" => state.frm = value,
            "fflags" => state.fflags = value,
            "vl" => state.vl = value,
            "vtype" => state.vtype = value,
            "vstart" => state.vstart = value,
            "vxrm" => state.vxrm = value,
            "vxsat" => state.vxsat = value,
            _ => {
                let known = Riscv::registers().iter().position(|r| r.name == name);
                let index = known.unwrap_or_else(|| panic!("no register is called {name}"));
                let value = if index < 32 { self.hart.value(value) } else { value };
                Riscv::set_reg(state, GuestReg(index as u8), value);
            }
        }
    }

    /// Runs the code until control leaves it; the exception, if one was taken.
    fn run(&mut self, code: Code, executor: &mut Executor) -> Option<Trap> {
        self.state.pc = START;
        match executor {
            Executor::Interpreter => self.interpret(code),
            Executor::Compiled(processor) => processor.run(self, &code.0),
        }
    }

    fn interpret(&mut self, mut code: Code) -> Option<Trap> {
        let end = START + code.0.len() as u64;
        let mut interpreter = Interpreter::default();
        while (START..end).contains(&self.state.pc) {
            let mut unit = Unit { pc: self.state.pc, ..Unit::default() };
            let mode = self.hart.mode(&self.state);
            self.hart.translate(&mode, 64, &mut code, &mut Builder::new(&mut unit));
            assert_eq!(unit.verify(), Ok(()));
            let mut cpu = Cpu::new(&*self.hart, &mut self.state, &mut self.memory);
            match interpreter.run(&unit, &mut cpu) {
                Outcome::Exit { pc } | Outcome::Loop(_, pc) => self.state.pc = pc,
                Outcome::Trapped => return Some(self.trap()),
            }
        }
        None
    }

    /// The exception that was taken last.
    fn trap(&self) -> Trap {
        let cause = Exception::from_code(self.state.mcause).expect("an exception");
        Trap::new(cause, self.state.mtval)
    }

    /// What differs from another machine, but for what traps change.
    fn differences(&self, wanted: &Self) -> String {
        let mut out = String::new();
        let mut compare = |name: &str, is: u128, wanted: u128| {
            if is != wanted {
                let _ = writeln!(out, "    {name} is {is:#x}, not {wanted:#x}");
            }
        };
        for (i, reg) in Riscv::registers().iter().enumerate().take(64) {
            let reg_of = |m: &Self| u128::from(m.state.reg(GuestReg(i as u8)));
            compare(reg.name, reg_of(self), reg_of(wanted));
        }
        for n in 0..32 {
            let vector = |m: &Self| {
                let bytes = m.state.v.0[16 * n..].first_chunk().expect("16 bytes");
                u128::from_le_bytes(*bytes)
            };
            compare(&format!("v{n}"), vector(self), vector(wanted));
        }
        let others = |s: &State| [s.fflags, s.frm, s.vl, s.vtype, s.vstart, s.vxrm, s.vxsat];
        let names = ["fflags", "frm", "vl", "vtype", "vstart", "vxrm", "vxsat"];
        for ((name, is), wanted) in names.iter().zip(others(&self.state)).zip(others(&wanted.state))
        {
            compare(name, is.into(), wanted.into());
        }
        for at in (0..4096).step_by(8) {
            let word = |m: &Self| u128::from(m.memory.get(at, MemOp::U64));
            compare(&format!("[{:#x}]", PAGE + at as u64), word(self), word(wanted));
        }
        out
    }
}

/// The instructions as text, without aliases.
fn text_of(hart: &Riscv, words: &[u32]) -> String {
    let one = |word: &u32| {
        let len = if word & 3 == 3 { 4 } else { 2 };
        let text = disassemble_plain(*word, 0, hart.config.ext);
        let text = text.unwrap_or_else(|| hart.disassemble(0, &word.to_le_bytes()[..len]).0);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    words.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn assignments(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split_whitespace().map(|item| item.split_once('=').expect("name=value"))
}

/// Runs a line, with translation knowing what vectors are like or not; what is wrong.
fn check(hart: &Arc<Riscv>, line: &str, vknown: u64, executor: &mut Executor) -> String {
    let (left, after) = line.split_once("=>").expect("before => after");
    let mut parts = left.split("  ").map(str::trim).filter(|p| !p.is_empty());
    let (code, text) = (parts.next().expect("code"), parts.next().expect("text"));
    let mut machine = Machine::new(hart);
    let mut wanted = Machine::new(hart);
    for (name, value) in assignments(parts.next().unwrap_or_default()) {
        machine.assign(name, value);
        wanted.assign(name, value);
    }
    machine.state.vknown = vknown;
    let (mut bytes, mut words) = (Vec::new(), Vec::new());
    for word in code.split(',') {
        words.push(u32::from_str_radix(word, 16).expect("code is hexadecimal"));
        bytes.extend(&words[words.len() - 1].to_le_bytes()[..word.len() / 2]);
    }
    let mut wrong = String::new();
    let shown = text_of(&machine.hart, &words);
    if shown != text {
        let _ = writeln!(wrong, "    the text is `{shown}`");
    }
    let end = START + bytes.len() as u64;
    let trap = machine.run(Code(bytes), executor);
    let (mut pc, mut cause, mut tval) = (end, None, None);
    for (name, value) in assignments(after) {
        match name {
            "pc" => pc = number(value) as u64,
            "trap" => cause = Some(value),
            "tval" => tval = Some(number(value) as u64),
            _ => wanted.assign(name, value),
        }
    }
    let taken = trap.map(|t| format!("{:?}", t.cause));
    if taken.as_deref() != cause {
        let _ = writeln!(wrong, "    exception: {trap:x?}");
    } else if trap.is_none() && machine.state.pc != pc {
        let _ = writeln!(wrong, "    pc is {:#x}", machine.state.pc);
    }
    if tval.is_some_and(|tval| trap.is_some_and(|t| machine.hart.address(t.tval) != tval)) {
        let _ = writeln!(wrong, "    exception: {trap:x?}");
    }
    wrong + &machine.differences(&wanted)
}

fn check_all(xlen: Xlen, isa: &str, mut executor: Executor) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/insn").join(isa);
    let (mut count, mut report) = (0, String::new());
    let hart = Arc::new(hart(xlen));
    for entry in std::fs::read_dir(&dir).expect("the folder of vectors exists") {
        let path = entry.expect("the folder can be read").path();
        let text = std::fs::read_to_string(&path).expect("a file of vectors");
        for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            count += 1;
            let vector = line.contains("vl=");
            let mut wrong = check(&hart, line, 0, &mut executor);
            if vector {
                wrong += &check(&hart, line, 1, &mut executor);
            }
            if !wrong.is_empty() && report.len() < 8000 {
                let name = path.file_name().unwrap_or_default().display();
                let _ = writeln!(report, "{name}: {line}\n{wrong}");
            }
        }
    }
    assert!(count > 1000, "{count} vectors");
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn interpreted_instructions_of_rv64_do_what_the_vectors_say() {
    check_all(Xlen::Rv64, "riscv64", Executor::Interpreter);
}

#[test]
fn interpreted_instructions_of_rv32_do_what_the_vectors_say() {
    check_all(Xlen::Rv32, "riscv32", Executor::Interpreter);
}

/// A processor, where the host has a code generator.
fn compiled(xlen: Xlen) -> Option<Executor> {
    let compiles = !Options::default().interpret;
    compiles.then(|| Executor::Compiled(Box::new(Processor::new(xlen))))
}

#[test]
fn compiled_instructions_of_rv64_do_what_the_vectors_say() {
    if let Some(executor) = compiled(Xlen::Rv64) {
        check_all(Xlen::Rv64, "riscv64", executor);
    }
}

#[test]
fn compiled_instructions_of_rv32_do_what_the_vectors_say() {
    if let Some(executor) = compiled(Xlen::Rv32) {
        check_all(Xlen::Rv32, "riscv32", executor);
    }
}
