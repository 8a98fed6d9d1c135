//! Accesses of every kind that fail in user mode: the event, the state before the instruction, the same
//! on the interpreter and as generated code; and going on after the fault was repaired.

#[allow(dead_code, reason = "each test uses its part")]
mod user_process;

use cpu::{Exit, VirtualCpu};
use isa::{Access, Event, MemoryFault};
use riscv::{Riscv, State};
use runtime::{Rights, Vcpu, Width};
use std::sync::Mutex;
use user_process::*;

/// An instruction that accesses memory at a1: text, encoding, what it does, bytes, whether it demands
/// alignment, whether RV64 alone has it.
struct Insn(&'static str, u32, Access, u64, bool, bool);

const R: bool = true;
const N: bool = false;

fn scalars() -> Vec<Insn> {
    use Access::{Load, Store};
    let load = |opcode, funct3| i_type(opcode, funct3, 13, A1, 0);
    let store = |opcode, funct3| s_type(opcode, funct3, 14, A1, 0);
    let amo = |funct5, width| atomic(funct5, width, 13, A1, 14);
    vec![
        Insn("lb", load(3, 0), Load, 1, N, N),
        Insn("lh", load(3, 1), Load, 2, N, N),
        Insn("lw", load(3, 2), Load, 4, N, N),
        Insn("ld", load(3, 3), Load, 8, N, R),
        Insn("lbu", load(3, 4), Load, 1, N, N),
        Insn("lhu", load(3, 5), Load, 2, N, N),
        Insn("lwu", load(3, 6), Load, 4, N, R),
        Insn("lw a1", i_type(3, 2, A1, A1, 0), Load, 4, N, N),
        Insn("flw", load(7, 2), Load, 4, N, N),
        Insn("fld", load(7, 3), Load, 8, N, N),
        Insn("sb", store(0x23, 0), Store, 1, N, N),
        Insn("sh", store(0x23, 1), Store, 2, N, N),
        Insn("sw", store(0x23, 2), Store, 4, N, N),
        Insn("sd", store(0x23, 3), Store, 8, N, R),
        Insn("sw zero", s_type(0x23, 2, 0, A1, 0), Store, 4, N, N),
        Insn("fsw", store(0x27, 2), Store, 4, N, N),
        Insn("fsd", store(0x27, 3), Store, 8, N, N),
        Insn("lr.w", atomic(2, 2, 13, A1, 0), Load, 4, R, N),
        Insn("lr.d", atomic(2, 3, 13, A1, 0), Load, 8, R, R),
        Insn("amoadd.b", amo(0, 0), Store, 1, R, N),
        Insn("amoadd.h", amo(0, 1), Store, 2, R, N),
        Insn("amoadd.w", amo(0, 2), Store, 4, R, N),
        Insn("amoadd.d", amo(0, 3), Store, 8, R, R),
        Insn("amoswap.w", amo(1, 2), Store, 4, R, N),
        Insn("amoxor.d", amo(4, 3), Store, 8, R, R),
        Insn("amomin.w", amo(16, 2), Store, 4, R, N),
        Insn("amomaxu.d", amo(28, 3), Store, 8, R, R),
        Insn("amocas.w", amo(5, 2), Store, 4, R, N),
        Insn("amocas.d", atomic(5, 3, 12, A1, 14), Store, 8, R, N),
        Insn("amocas.q", atomic(5, 4, 12, A1, 14), Store, 16, R, R),
    ]
}

/// Registers that tell what was written where.
fn fill(state: &mut State, at: u64) {
    for i in 1..32 {
        state.x[i] = i as u64 * 0x0101_0101;
        state.f[i] = 0xffff_ffff_4000_0000 | i as u64;
    }
    state.x[A1 as usize] = at;
}

/// The instructions around the one in question, so that registers are newer than memory: it is the
/// fourth.
fn program(insn: u32) -> [u32; 6] {
    // fadd.s ft8, ft9, ft10
    [addi(A0, A0, 5), addi(28, 28, 7), 0x01ee_fe53, insn, addi(A0, A0, 1), ECALL]
}

const AT: u64 = CODE + 12;
const END: u64 = DATA + 2 * PAGE;

/// Runs an instruction at an address: the event, and the state then.
fn fault_at(process: &Process, insn: &Insn, at: u64) -> (Event, State) {
    process.run(&program(insn.1));
    let mut vcpu = process.vcpu();
    fill(vcpu.state_mut(), at);
    let event = run(&mut vcpu);
    let state = state_of(&vcpu);
    if event != (Event::Syscall { entry: 0, at: CODE + 20 }) {
        assert_eq!(state.pc, AT, "{}", insn.0);
        assert_eq!(state.x[A0 as usize], 10 * 0x0101_0101 + 5, "{}", insn.0);
        assert_eq!(state.x[28], 28 * 0x0101_0101 + 7, "{}", insn.0);
        assert_eq!((state.x[13], state.x[A1 as usize]), (13 * 0x0101_0101, at), "{}", insn.0);
        assert_eq!(state.f[13], 0xffff_ffff_4000_000d, "{}", insn.0);
    }
    (event, state)
}

/// The state but for what follows the clock.
fn state_of(vcpu: &Vcpu<Riscv>) -> State {
    State { counters: [0; 2], ..vcpu.state().clone() }
}

/// Makes both executors do the same, and compares.
fn both<T: PartialEq + std::fmt::Debug>(test: impl Fn(&Process) -> T) {
    let before: Mutex<Vec<T>> = Mutex::default();
    each(|process| {
        let mut before = before.lock().expect("nobody panicked");
        let found = test(process);
        match before.pop() {
            None => before.push(found),
            Some(expected) => assert!(expected == found, "{}", differences(&expected, &found)),
        }
    });
}

/// The first line that differs.
fn differences<T: std::fmt::Debug>(expected: &T, found: &T) -> String {
    let (expected, found) = (format!("{expected:#x?}"), format!("{found:#x?}"));
    let mut lines = expected.lines().zip(found.lines()).enumerate();
    let first = lines.find(|(_, (a, b))| a != b);
    first.map_or("lengths".into(), |(at, (a, b))| {
        let field =
            expected.lines().take(at).filter(|l| l.ends_with([',', '[', '(']) && l.contains(": "));
        format!("line {at} after {:?}: {} and {}", field.last(), a.trim(), b.trim())
    })
}

fn memory(address: u64, access: Access, kind: MemoryFault) -> Event {
    Event::Memory { address, access, kind }
}

#[test]
fn scalar_accesses_fault_where_nothing_is() {
    both(|process| {
        let mut states = Vec::new();
        for insn in scalars().iter().filter(|insn| !insn.5 || process.is_64()) {
            let Insn(name, _, access, size, aligned, _) = *insn;
            let (event, state) = fault_at(process, insn, END);
            assert_eq!(event, memory(END, access, MemoryFault::Unmapped), "{name}");
            states.push(state);
            if size > 1 && !aligned {
                // The part in the mapped page is there; nothing of it is written.
                let (event, state) = fault_at(process, insn, END - 1);
                assert_eq!(event, memory(END, access, MemoryFault::Unmapped), "{name}");
                process.memory.read(END - 1, &mut [0]).unwrap();
                states.push(state);
            }
        }
        states
    });
}

#[test]
fn scalar_accesses_fault_where_rights_are_missing() {
    both(|process| {
        let page = DATA + PAGE;
        let mut states = Vec::new();
        for (rights, loads) in [(Rights::READ, false), (Rights::NONE, true)] {
            process.memory.protect(page, PAGE, rights).unwrap();
            for insn in scalars().iter().filter(|insn| !insn.5 || process.is_64()) {
                if loads || insn.2 == Access::Store {
                    let (event, state) = fault_at(process, insn, page + 16);
                    let expected = memory(page + 16, insn.2, MemoryFault::Protected);
                    assert_eq!(event, expected, "{}", insn.0);
                    states.push(state);
                }
            }
        }
        states
    });
}

#[test]
fn misaligned_atomics_fault_and_other_accesses_do_not() {
    both(|process| {
        let mut states = Vec::new();
        for insn in scalars().iter().filter(|insn| !insn.5 || process.is_64()) {
            process.data_bytes(0, &[0x55; 64]);
            let (event, state) = fault_at(process, insn, DATA + 1);
            if insn.4 && insn.3 > 1 {
                assert_eq!(event, memory(DATA + 1, insn.2, MemoryFault::Misaligned), "{}", insn.0);
            } else {
                assert_eq!(event, Event::Syscall { entry: 0, at: CODE + 20 }, "{}", insn.0);
            }
            let mut bytes = [0; 64];
            process.memory.read(DATA, &mut bytes).unwrap();
            states.push((state, bytes));
        }
        states
    });
}

#[test]
fn a_fault_that_was_repaired_leaves_no_trace() {
    both(|process| {
        let mut states = Vec::new();
        for insn in scalars().iter().filter(|insn| !insn.5 || process.is_64()) {
            process.run(&program(insn.1));
            let mut vcpu = process.vcpu();
            fill(vcpu.state_mut(), END);
            assert_eq!(run(&mut vcpu), memory(END, insn.2, MemoryFault::Unmapped), "{}", insn.0);
            process.memory.map(END, PAGE, Rights::READ | Rights::WRITE).unwrap();
            process.memory.write(END, &[0x77; 32]).unwrap();
            assert_eq!(run(&mut vcpu), Event::Syscall { entry: 0, at: CODE + 20 }, "{}", insn.0);
            let mut bytes = [0; 32];
            process.memory.read(END, &mut bytes).unwrap();
            process.memory.unmap(END, PAGE).unwrap();
            states.push((state_of(&vcpu), bytes));
        }
        states
    });
}

#[test]
fn a_page_that_lost_its_file_is_a_bus_error() {
    both(|process| {
        let name = format!("tinamou-bus-{}-{:?}", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        let options = std::fs::File::options().read(true).write(true).create_new(true).open(&path);
        let file = options.unwrap();
        std::fs::remove_file(&path).unwrap();
        file.set_len(PAGE).unwrap();
        let rights = Rights::READ | Rights::WRITE;
        process.memory.map_file(END, 2 * PAGE, rights, &file).unwrap();
        let at = END + PAGE;
        let mut states = Vec::new();
        for insn in scalars().iter().filter(|insn| !insn.5 || process.is_64()) {
            let (event, state) = fault_at(process, insn, at);
            assert_eq!(event, memory(at, insn.2, MemoryFault::Bus), "{}", insn.0);
            states.push(state);
        }
        assert_eq!(process.memory.write(at, &[1]).unwrap_err().kind, MemoryFault::Bus);
        process.memory.unmap(END, 2 * PAGE).unwrap();
        states
    });
}

#[test]
fn vector_accesses_fault_at_their_element() {
    both(|process| {
        if !process.is_64() {
            return Vec::new();
        }
        let mut states = Vec::new();
        // Bytes m1, doublewords m1, words m4, bytes m8; as many as a2 says.
        let types = [(0xc0, 1, 0), (0xd8, 8, 7), (0xd2, 4, 6), (0xc3, 1, 0)];
        for (vtype, size, width) in types {
            for count in [1, 3, 4, 31, 1000] {
                for (opcode, access) in [(7, Access::Load), (0x27, Access::Store)] {
                    for (mode, rs2) in [(0, 0), (2, 16)] {
                        let insn = vector_memory(opcode, mode, rs2, A1, width, 8);
                        process.run(&[vsetvli(T0, A2, vtype), addi(A0, A0, 5), insn, ECALL]);
                        for at in [END, END - size, END - 3 * size, END - 16] {
                            let mut vcpu = process.vcpu();
                            fill(vcpu.state_mut(), at);
                            for (i, byte) in vcpu.state_mut().v.0.iter_mut().enumerate() {
                                *byte = i as u8;
                            }
                            (vcpu.state_mut().x[12], vcpu.state_mut().x[16]) = (count, size);
                            let event = run(&mut vcpu);
                            let elements = vcpu.state().x[T0 as usize];
                            let there = (END - at) / size;
                            if elements > there {
                                assert_eq!(event, memory(END, access, MemoryFault::Unmapped));
                                assert_eq!(vcpu.state().pc, CODE + 8);
                                assert_eq!(vcpu.state().vstart, there);
                            } else {
                                assert_eq!(event, Event::Syscall { entry: 0, at: CODE + 12 });
                            }
                            let mut bytes = [0; 64];
                            process.memory.read(END - 64, &mut bytes).unwrap();
                            states.push((state_of(&vcpu), bytes));
                        }
                    }
                }
            }
        }
        states
    });
}

#[test]
fn fetches_and_instructions_that_are_none_are_events() {
    both(|process| {
        let mut events = Vec::new();
        let mut at = |code: &[u32], pc: u64| {
            process.run(code);
            let mut vcpu = process.vcpu();
            vcpu.state_mut().pc = pc;
            let event = run(&mut vcpu);
            events.push((event, state_of(&vcpu)));
            event
        };
        let fetch = |address, kind| memory(address, Access::Fetch, kind);
        assert_eq!(at(&[ECALL], END), fetch(END, MemoryFault::Unmapped));
        assert_eq!(at(&[ECALL], DATA), fetch(DATA, MemoryFault::Protected));
        assert_eq!(at(&[0, 0], CODE), Event::Illegal);
        assert_eq!(at(&[EBREAK], CODE), Event::Breakpoint);
        // mret; csrr a0, mstatus; wfi
        for privileged in [0x3020_0073, 0x3000_2573, 0x1050_0073] {
            assert_eq!(at(&[privileged], CODE), Event::Illegal);
        }
        // The last halfword of an instruction is missing.
        let end = CODE + 2 * PAGE;
        process.memory.write(end - 2, &[0x13, 0x05]).unwrap();
        assert_eq!(at(&[ECALL], end - 2), fetch(end, MemoryFault::Unmapped));
        events
    });
}

#[test]
fn kicks_end_loops_and_are_not_lost() {
    each(|process| {
        // j .
        process.run(&[0x6f]);
        let mut vcpu = process.vcpu();
        vcpu.kicker().kick();
        assert_eq!(vcpu.run(), Exit::Kicked);
        let kicker = vcpu.kicker();
        std::thread::scope(|scope| {
            let runs = scope.spawn(|| vcpu.run());
            kicker.kick();
            assert_eq!(runs.join().unwrap(), Exit::Kicked);
        });
        assert_eq!(vcpu.state().pc, CODE);
    });
}

#[test]
fn addresses_of_32_bits_wrap() {
    let process = Process::new(Width::Bits32, false);
    let top = (1 << 32) - PAGE;
    process.memory.map(top, PAGE, Rights::READ | Rights::WRITE).unwrap();
    process.memory.map(0, PAGE, Rights::READ | Rights::WRITE).unwrap();
    process.memory.write((1 << 32) - 2, &[0x11, 0x22]).unwrap();
    process.memory.write(0, &[0x33, 0x44]).unwrap();
    process.run(&[lw(A0, A1, 0), lw(A2, A1, 2), sw(A0, A1, 0x7f), ECALL]);
    let mut vcpu = process.vcpu();
    vcpu.state_mut().x[11] = i64::from(-2i32).cast_unsigned();
    assert_eq!(run(&mut vcpu), Event::Syscall { entry: 0, at: CODE + 12 });
    assert_eq!(vcpu.state().x[10], 0x4433_2211);
    assert_eq!(vcpu.state().x[12], 0x4433);
    assert_eq!(process.word(0x7d), 0x4433_2211);
}
