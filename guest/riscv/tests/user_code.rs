//! Code that changes in user mode: written by the program itself, by other threads, by system calls,
//! through other addresses, after changes of rights; and threads that share memory.

#[allow(dead_code, reason = "each test uses its part")]
mod user_process;

use cpu::{Exit, VirtualCpu};
use isa::{Access, Event, MemoryFault};
use runtime::{ProcessMemory, Rights, Vcpu};
use std::sync::Arc;
use user_process::*;

/// A function in the second page of code.
const FUNCTION: u64 = CODE + PAGE;
/// Registers: rounds, sum, address of the code to change, most rounds, an instruction, address.
const S0: u32 = 8;
const S1: u32 = 9;
const S2: u32 = 18;
const S3: u32 = 19;
const T1: u32 = 6;
const S4: u32 = 20;

/// `bne rs1, rs2, offset`, up to 2 KiB back.
fn bne(rs1: u32, rs2: u32, offset: i32) -> u32 {
    let imm = offset.cast_unsigned();
    (imm >> 12 & 1) << 31
        | (imm >> 5 & 0x3f) << 25
        | rs2 << 20
        | rs1 << 15
        | 1 << 12
        | (imm >> 1 & 15) << 8
        | (imm >> 11 & 1) << 7
        | 0x63
}

fn add(rd: u32, rs1: u32, rs2: u32) -> u32 {
    rs2 << 20 | rs1 << 15 | rd << 7 | 0x33
}

/// Puts a loop of `rounds` that stores `li a0, ROUND` through s4 each time, calls s2, and sums up what
/// it answers; then a system call.
fn rewriting(process: &Process, rounds: i32, written: u64, called: u64) -> Vcpu<riscv::Riscv> {
    let code = [
        i_type(0x13, 1, T1, S0, 20), // slli t1, s0, 20
        addi(T1, T1, 0x513),
        sw(T1, S4, 0),
        FENCE_I,
        jalr(RA, S2),
        add(S1, S1, A0),
        addi(S0, S0, 1),
        bne(S0, S3, -28),
        ECALL,
    ];
    process.run(&code);
    let mut vcpu = process.vcpu();
    let state = vcpu.state_mut();
    (state.x[S2 as usize], state.x[S4 as usize]) = (called, written);
    state.x[S3 as usize] = rounds as u64;
    vcpu
}

fn sum_of(vcpu: &mut Vcpu<riscv::Riscv>) -> u64 {
    assert!(matches!(run(vcpu), Event::Syscall { .. }));
    vcpu.state().x[S1 as usize]
}

/// What a loop of so many rounds sums up.
fn expected(rounds: u64) -> u64 {
    rounds * (rounds - 1) / 2
}

fn a_rewritten_function_is_called_as_it_is(function: u64) {
    each(|process| {
        process.put(function, &[li(A0, 0), RET]);
        for rounds in [1, 5, 300] {
            let mut vcpu = rewriting(process, rounds, function, function);
            assert_eq!(sum_of(&mut vcpu), expected(rounds as u64));
        }
    });
}

#[test]
fn a_function_that_is_rewritten_again_and_again_is_called_as_it_is() {
    a_rewritten_function_is_called_as_it_is(FUNCTION);
}

#[test]
fn so_is_one_in_the_page_of_who_writes_it() {
    a_rewritten_function_is_called_as_it_is(CODE + 0x800);
}

#[test]
fn an_instruction_that_overwrites_the_next_one_is_followed_by_what_it_wrote() {
    each(|process| {
        let code = [
            i_type(0x13, 1, T1, S0, 20),
            addi(T1, T1, 0x513),
            sw(T1, S4, 0),
            FENCE_I,
            li(A0, 77), // overwritten
            add(S1, S1, A0),
            addi(S0, S0, 1),
            bne(S0, S3, -28),
            ECALL,
        ];
        process.run(&code);
        let mut vcpu = process.vcpu();
        let state = vcpu.state_mut();
        (state.x[S4 as usize], state.x[S3 as usize]) = (CODE + 16, 300);
        assert_eq!(sum_of(&mut vcpu), expected(300));
    });
}

#[test]
fn an_instruction_across_two_pages_changes_with_either() {
    each(|process| {
        // li a0, N with its halves in two pages: the immediate is in the second.
        let at = FUNCTION - 2;
        process.memory.write(at, &li(A0, 1).to_le_bytes()).unwrap();
        process.memory.write(at + 4, &RET.to_le_bytes()).unwrap();
        process.run(&[jalr(RA, S2), ECALL]);
        let call = || {
            let mut vcpu = process.vcpu();
            vcpu.state_mut().x[S2 as usize] = at;
            assert!(matches!(run(&mut vcpu), Event::Syscall { .. }));
            vcpu.state().x[A0 as usize]
        };
        assert_eq!(call(), 1);
        process.memory.write(at + 2, &[0x20]).unwrap();
        assert_eq!(call(), 2);
        // addi a0, a0, 2
        process.memory.write(at, &addi(A0, A0, 2).to_le_bytes()).unwrap();
        assert_eq!(call(), 2);
        process.memory.write(at, &li(A0, 9).to_le_bytes()).unwrap();
        assert_eq!(call(), 9);
    });
}

#[test]
fn code_written_through_another_address_is_seen_at_a_fence() {
    each(|process| {
        let name =
            format!("tinamou-alias-{}-{:?}", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        let mut options = std::fs::File::options();
        let file = options.read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.set_len(PAGE).unwrap();
        let (writes, runs) = (DATA + 2 * PAGE, DATA + 3 * PAGE);
        let data = Rights::READ | Rights::WRITE | Rights::ALIASED;
        process.memory.map_file(writes, PAGE, data, &file).unwrap();
        let code = Rights::READ | Rights::EXECUTE | Rights::ALIASED;
        process.memory.map_file(runs, PAGE, code, &file).unwrap();
        process.put(writes, &[li(A0, 0), RET]);
        let mut vcpu = rewriting(process, 100, writes, runs);
        assert_eq!(sum_of(&mut vcpu), expected(100));
        process.memory.unmap(writes, 2 * PAGE).unwrap();
    });
}

#[test]
fn rights_that_change_take_code_with_them() {
    each(|process| {
        let (rw, rx) = (Rights::READ | Rights::WRITE, Rights::READ | Rights::EXECUTE);
        process.run(&[jalr(RA, S2), ECALL]);
        for round in 0..40 {
            process.memory.protect(FUNCTION, PAGE, rw).unwrap();
            process.put(FUNCTION, &[li(A0, round), RET]);
            let mut vcpu = process.vcpu();
            vcpu.state_mut().x[S2 as usize] = FUNCTION;
            let fault = |kind| Event::Memory { address: FUNCTION, access: Access::Fetch, kind };
            assert_eq!(run(&mut vcpu), fault(MemoryFault::Protected));
            process.memory.protect(FUNCTION, PAGE, rx).unwrap();
            assert!(matches!(run(&mut vcpu), Event::Syscall { .. }));
            assert_eq!(vcpu.state().x[A0 as usize], round as u64);
        }
        process.memory.unmap(FUNCTION, PAGE).unwrap();
        let mut vcpu = process.vcpu();
        vcpu.state_mut().x[S2 as usize] = FUNCTION;
        let kind = MemoryFault::Unmapped;
        assert_eq!(
            run(&mut vcpu),
            Event::Memory { address: FUNCTION, access: Access::Fetch, kind }
        );
        process.memory.map(FUNCTION, PAGE, rw).unwrap();
    });
}

#[test]
fn a_page_with_code_can_be_prepared_for_the_host() {
    each(|process| {
        process.run(&[ECALL]);
        let mut vcpu = process.vcpu();
        assert!(matches!(run(&mut vcpu), Event::Syscall { .. }));
        // Nothing has to be done twice.
        assert!(process.memory.prepare_write(CODE + 8, 4));
        assert!(!process.memory.prepare_write(CODE + 8, 4));
        assert!(!process.memory.prepare_write(DATA, 4));
    });
}

/// Runs a processor to its next system call on a thread of its own, while `act` runs here.
fn beside(process: &Process, pc: u64, act: impl FnOnce(&Arc<ProcessMemory>)) {
    let mut vcpu = process.vcpu();
    vcpu.state_mut().pc = pc;
    vcpu.state_mut().x[S2 as usize] = FUNCTION;
    std::thread::scope(|scope| {
        let runs = scope.spawn(move || {
            loop {
                match vcpu.run() {
                    Exit::Trap => return vcpu.take_event(),
                    other => assert_eq!(other, Exit::Kicked),
                }
            }
        });
        act(&process.memory);
        let event = runs.join().expect("it did not panic");
        assert!(matches!(event, Some(Event::Syscall { .. })));
    });
}

#[test]
fn a_thread_leaves_the_loop_that_another_one_overwrites() {
    each(|process| {
        for round in 0..20 {
            // j . ; and a loop over a call
            process.run(&[0x6f, 0x6f]);
            beside(process, CODE, |memory| {
                // Before, while and after the other one gets there.
                (0..round * 100).for_each(|_| std::hint::spin_loop());
                memory.write(CODE, &ECALL.to_le_bytes()).unwrap();
            });
            process.put(FUNCTION, &[li(A0, 7), RET]);
            process.run(&[FENCE_I, jalr(RA, S2), bne(A0, A1, -8), ECALL]);
            beside(process, CODE, |memory| {
                (0..round * 100).for_each(|_| std::hint::spin_loop());
                // a1 is 0, so 1 goes on, and 0 ends it: write 0 last.
                for n in [5, 3, 0] {
                    memory.write(FUNCTION, &li(A0, n).to_le_bytes()).unwrap();
                }
            });
        }
    });
}

#[test]
fn threads_that_rewrite_a_function_others_call_see_only_what_was_written() {
    each(|process| {
        process.put(FUNCTION, &[li(A0, 0), RET]);
        let mut writer = rewriting(process, 400, FUNCTION, FUNCTION);
        // Calls, and adds up how often something else than 0 to 399 came back.
        let code = [
            FENCE_I,
            jalr(RA, S2),
            i_type(0x13, 3, T1, A0, 400), // sltiu t1, a0, 400
            add(S1, S1, T1),
            addi(S0, S0, 1),
            bne(S0, S3, -20),
            ECALL,
        ];
        process.put(CODE + 0x400, &code);
        let mut reader = process.vcpu();
        let state = reader.state_mut();
        (state.pc, state.x[S2 as usize], state.x[S3 as usize]) = (CODE + 0x400, FUNCTION, 3000);
        std::thread::scope(|scope| {
            let reads = scope.spawn(|| sum_of(&mut reader));
            let writes = scope.spawn(|| sum_of(&mut writer));
            assert_eq!(reads.join().unwrap(), 3000);
            assert_eq!(writes.join().unwrap(), expected(400));
        });
    });
}

#[test]
fn atomics_of_two_threads_lose_nothing() {
    each(|process| {
        process.data_bytes(0, &[0; 8]);
        let add_one = atomic(0, 2, 0, S2, A0);
        process.run(&[li(A0, 1), add_one, addi(S0, S0, 1), bne(S0, S3, -8), ECALL]);
        let thread = || {
            let mut vcpu = process.vcpu();
            (vcpu.state_mut().x[S2 as usize], vcpu.state_mut().x[S3 as usize]) = (DATA, 50_000);
            sum_of(&mut vcpu)
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(thread);
            thread();
            other.join().unwrap();
        });
        assert_eq!(process.word(DATA), 100_000);
    });
}

#[test]
fn a_debugger_reads_and_writes_what_the_program_may_not() {
    each(|process| {
        let rx = Rights::READ | Rights::EXECUTE;
        process.put(FUNCTION, &[li(A0, 1), RET]);
        process.memory.protect(FUNCTION, PAGE, rx).unwrap();
        process.run(&[jalr(RA, S2), ECALL]);
        let call = || {
            let mut vcpu = process.vcpu();
            vcpu.state_mut().x[S2 as usize] = FUNCTION;
            run(&mut vcpu)
        };
        assert_eq!(call(), Event::Syscall { entry: 0, at: CODE + 4 });
        let mut old = [0; 4];
        process.memory.peek(FUNCTION, &mut old).unwrap();
        assert!(process.memory.write(FUNCTION, &EBREAK.to_le_bytes()).is_err());
        process.memory.poke(FUNCTION, &EBREAK.to_le_bytes()).unwrap();
        assert_eq!(call(), Event::Breakpoint);
        process.memory.poke(FUNCTION, &old).unwrap();
        assert_eq!(call(), Event::Syscall { entry: 0, at: CODE + 4 });
        // The program may write there no more than before.
        let kind = MemoryFault::Protected;
        assert_eq!(process.memory.write(FUNCTION, &old).unwrap_err().kind, kind);
        process.memory.protect(FUNCTION, PAGE, Rights::NONE).unwrap();
        let mut shown = [0; 8];
        process.memory.peek(FUNCTION - 4, &mut shown).unwrap();
        assert_eq!(shown[4..], old);
        assert!(process.memory.read(FUNCTION - 4, &mut shown).is_err());
        let beyond = process.memory.peek(FUNCTION + PAGE - 4, &mut shown).unwrap_err();
        assert_eq!(beyond.address, FUNCTION + PAGE);
    });
}
