//! Processes of a little ISA with instructions of one to three bytes and no fences: code that changes
//! takes effect at once, and a fork leaves two processes that both go on.
#![expect(unsafe_code, reason = "processes are forked")]

use cpu::{Exit, VirtualCpu};
use ir::{Builder, Cond, GuestReg, Hint, MemOp, RegClass, RegInfo};
use isa::{
    Access, CodeSource, Cpu, Event, FpFlags, Guest, Helper, HostRounding, Mapping, MemoryFault,
    Mode, UserGuest,
};
use runtime::{Options, ProcessMemory, Rights, Side, Vcpu, Width};
use state::SavedState;
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Clone, Debug, Default, SavedState)]
#[repr(C)]
struct State {
    #[n(1)]
    x: [u64; 8],
    #[n(2)]
    pc: u64,
    /// 1 for a system call, 2 for a fault of memory.
    #[n(3)]
    event: u64,
    #[n(4)]
    address: u64,
}

#[derive(Debug)]
enum Trap {
    Call,
    Memory(u64),
}

struct Little;

static REGISTERS: [RegInfo; 8] = {
    const NAMES: [&str; 8] = ["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"];
    let mut table = [RegInfo { name: "", class: RegClass::Int, offset: 0, pin: 0 }; 8];
    let mut i = 0;
    while i < 8 {
        table[i].name = NAMES[i];
        table[i].offset = (offset_of!(State, x) + 8 * i) as u32;
        table[i].pin = if i < 3 { i as u8 + 1 } else { 0 };
        i += 1;
    }
    table
};

/// A system call: one byte.
const CALL: u8 = 0;
/// `set r, imm`: r = the byte.
const SET: u8 = 1;
/// `store r, s`: the low byte of s to where r points.
const STORE: u8 = 2;
/// `add r, s`
const ADD: u8 = 3;
/// `jump imm`: a distance from the next instruction; two bytes.
const JUMP: u8 = 4;
/// `loop r, imm`: the same if r is not 0, after taking 1 away.
const LOOP: u8 = 5;

impl Guest for Little {
    type State = State;
    type Trap = Trap;
    const LONGEST: u64 = 3;

    fn registers() -> &'static [RegInfo] {
        &REGISTERS
    }
    fn helpers() -> &'static [Helper<Self>] {
        &[
            Helper { name: "call", run: |_, _| Err(Trap::Call), float: false, quiet: false },
            Helper {
                name: "missing",
                run: |_, [at, ..]| Err(Trap::Memory(at)),
                float: false,
                quiet: false,
            },
        ]
    }
    fn reg(state: &State, reg: GuestReg) -> u64 {
        state.x[usize::from(reg.0)]
    }
    fn set_reg(state: &mut State, reg: GuestReg, value: u64) {
        state.x[usize::from(reg.0)] = value;
    }
    fn reset(&self) -> State {
        State::default()
    }
    fn mode(&self, state: &State) -> Mode {
        Mode { pc: state.pc, flags: 0, mmu: 0 }
    }
    fn set_pc(state: &mut State, pc: u64) {
        state.pc = pc;
    }
    fn translate(&self, mode: &Mode, max: u32, code: &mut dyn CodeSource, b: &mut Builder<'_>) {
        let mut pc = mode.pc;
        for count in 0..max {
            let outside = pc / 4096 != mode.pc / 4096;
            let mut at = |offset| code.byte(pc + offset);
            let kind = if outside { None } else { at(0) };
            let len = match kind {
                Some(CALL) => 1,
                Some(JUMP) => 2,
                _ => 3,
            };
            let operands = if len == 3 { at(1).zip(at(2)) } else { Some((0, 0)) };
            let (Some(kind), Some((r, s))) = (kind, operands) else {
                if count == 0 {
                    b.insn(pc, len);
                    let at = b.imm(pc);
                    b.call_effect(ir::HelperId(1), &[at]);
                }
                return b.exit(pc, Hint::Jump);
            };
            b.insn(pc, len);
            let (x, y) = (GuestReg(r & 7), GuestReg(s & 7));
            let next = pc + u64::from(len);
            let there = |distance: u8| next.wrapping_add_signed(i64::from(distance as i8));
            match kind {
                SET => {
                    let value = b.imm(s.into());
                    b.set_reg(x, value);
                }
                STORE => {
                    let (to, value) = (b.reg(x), b.reg(y));
                    b.store(MemOp::U8, to, 0, value);
                }
                ADD => {
                    let (p, q) = (b.reg(x), b.reg(y));
                    let sum = b.add(p, q);
                    b.set_reg(x, sum);
                }
                LOOP => {
                    let (one, old) = (b.imm(1), b.reg(x));
                    let less = b.sub(old, one);
                    b.set_reg(x, less);
                    let (left, zero) = (b.reg(x), b.imm(0));
                    b.exit_if(Cond::Ne, left, zero, there(s));
                }
                JUMP => {
                    let distance = code.byte(pc + 1).expect("it is not at the end of a page");
                    return b.exit(there(distance), Hint::Jump);
                }
                _ => {
                    b.call_effect(ir::HelperId(0), &[]);
                    return b.exit(next, Hint::Jump);
                }
            }
            pc = next;
        }
        b.exit(pc, Hint::Jump);
    }
    fn disassemble(&self, _: u64, _: &[u8]) -> (String, usize) {
        ("little".into(), 1)
    }
    fn translate_address(
        _: &mut Cpu<'_, Self>,
        _: u8,
        _: Access,
        gva: u64,
        _: u32,
    ) -> Result<Mapping, Trap> {
        panic!("a process has no translation of {gva:#x}")
    }
    fn debug_translate(_: &mut Cpu<'_, Self>, _: u64) -> Option<u64> {
        None
    }
    fn memory_trap(_: MemoryFault, _: Access, gva: u64) -> Trap {
        Trap::Memory(gva)
    }
    fn raise(cpu: &mut Cpu<'_, Self>, trap: Trap) {
        (cpu.state.event, cpu.state.address) = match trap {
            Trap::Call => (1, 0),
            Trap::Memory(address) => (2, address),
        };
    }
    fn holds_event(state: &State) -> bool {
        state.event != 0
    }
    fn interrupt(_: &mut Cpu<'_, Self>) -> bool {
        false
    }
    fn interrupt_due(_: &mut Cpu<'_, Self>) -> bool {
        false
    }
    fn wakes(_: &mut Cpu<'_, Self>) -> bool {
        false
    }
    fn rounding(_: &State) -> HostRounding {
        HostRounding::Nearest
    }
    fn add_fp_flags(_: &mut State, _: FpFlags) {}
}

impl UserGuest for Little {
    fn take_event(&self, state: &mut State) -> Option<Event> {
        let at = state.pc;
        match std::mem::take(&mut state.event) {
            0 => None,
            1 => {
                state.pc += 1;
                Some(Event::Syscall { entry: 0, at })
            }
            _ => Some(Event::Memory {
                address: state.address,
                access: Access::Store,
                kind: MemoryFault::Protected,
            }),
        }
    }
}

/// A process with two pages of code, and a processor at their start.
fn process(interpret: bool) -> (Arc<ProcessMemory>, u64, Vcpu<Little>) {
    let interpret = interpret || Options::default().interpret;
    let options = Options { interpret, code_bytes: 1 << 20, ..Options::default() };
    let memory = ProcessMemory::new::<Little>(Width::Bits64, options).expect("the host has memory");
    let all = Rights::READ | Rights::WRITE | Rights::EXECUTE;
    let code = memory.map(0, 0x2000, all).expect("the host has memory");
    let mut vcpu = Vcpu::for_process(Arc::new(Little), &memory);
    vcpu.state_mut().pc = code;
    (memory, code, vcpu)
}

fn run(vcpu: &mut Vcpu<Little>) -> State {
    assert_eq!(vcpu.run(), Exit::Trap);
    assert!(matches!(vcpu.take_event(), Some(Event::Syscall { .. })));
    vcpu.state().clone()
}

#[test]
fn code_that_overwrites_what_follows_it_is_followed_by_what_it_wrote() {
    for rounds in [1, 3, 200] {
        let (memory, code, mut vcpu) = process(false);
        let program = [
            [STORE, 0, 4], // the operand of `set`
            [SET, 1, 99],
            [ADD, 2, 1],
            [ADD, 4, 5],
            [LOOP, 3, -15i8 as u8],
            [CALL, 0, 0],
        ];
        memory.write(code, program.as_flattened()).unwrap();
        let state = vcpu.state_mut();
        (state.x[0], state.x[3], state.x[5]) = (code + 5, rounds, 1);
        let state = run(&mut vcpu);
        assert_eq!(state.x[2], rounds * (rounds - 1) / 2, "{rounds} rounds");
        assert_eq!(state.pc, code + 16);
    }
}

#[test]
fn instructions_across_pages_are_found_at_any_place() {
    for interpret in [false, true] {
        for before in 1..4 {
            let (memory, code, mut vcpu) = process(interpret);
            let start = code + 0x1000 - before;
            let program = [[SET, 1, 7], [ADD, 2, 1], [LOOP, 3, -9i8 as u8], [CALL, 0, 0]];
            memory.write(start, program.as_flattened()).unwrap();
            (vcpu.state_mut().pc, vcpu.state_mut().x[3]) = (start, 5);
            assert_eq!(run(&mut vcpu).x[2], 35, "{before} bytes before the end");
        }
    }
}

/// Tells another thread to stop, however this one leaves.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn both_sides_of_a_fork_run_and_translate_on_their_own() {
    for interpret in [false, true] {
        let (memory, code, mut vcpu) = process(interpret);
        memory
            .write(code, &[ADD, 2, 1, LOOP, 3, -6i8 as u8, CALL, SET, 4, 8, JUMP, -12i8 as u8])
            .unwrap();
        (vcpu.state_mut().x[1], vcpu.state_mut().x[3]) = (2, 10);
        assert_eq!(run(&mut vcpu).x[2], 20);
        // Others translate meanwhile, so that locks are held when the fork comes.
        let done = AtomicBool::new(false);
        let status = std::thread::scope(|scope| {
            let stop = Stop(&done);
            scope.spawn(|| {
                let mut other = Vcpu::for_process(Arc::new(Little), &memory);
                while !done.load(Ordering::SeqCst) {
                    memory.write(code + 0x1000, &[SET, 1, 1, CALL]).unwrap();
                    other.state_mut().pc = code + 0x1000;
                    run(&mut other);
                }
            });
            let child = memory.fork(|| {
                // SAFETY: the child calls nothing but the engine, whose locks are held by this thread,
                // and leaves without the parent's clean-up.
                let child = unsafe { libc::fork() };
                (if child == 0 { Side::Child } else { Side::Parent }, child)
            });
            // Old code, linked anew, and new code.
            let own = if child == 0 { 3 } else { 5 };
            let right = memory.write(code + 9, &[own]).is_ok() && {
                vcpu.state_mut().x[3] = 10;
                let called = vcpu.run() == Exit::Trap && vcpu.take_event().is_some();
                called && vcpu.state().x[2] == 40 && vcpu.state().x[4] == own.into()
            };
            if child == 0 {
                // SAFETY: as above.
                unsafe { libc::_exit(if right { 42 } else { 1 }) };
            }
            assert!(right, "{:?}", vcpu.state());
            drop(stop);
            let mut status = 0;
            // SAFETY: the status is a local variable.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            status
        });
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 42, "{status:#x}");
    }
}
