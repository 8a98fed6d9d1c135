//! Programs in user mode: system calls, faults of every kind with exact state, changing code, threads,
//! forks; on the interpreter and as generated code.

#[allow(dead_code, reason = "each test uses its part")]
mod user_process;

use isa::Event;
use user_process::*;

#[test]
fn a_program_writes_a_greeting_and_ends() {
    each(|process| {
        process.data_bytes(0, b"hello, world\n");
        process.run(&[
            li(A0, 1),
            lui(A1, DATA),
            li(A2, 13),
            li(A7, 64),
            ECALL,
            li(A0, 42),
            li(A7, 93),
            ECALL,
        ]);
        let mut vcpu = process.vcpu();
        let at = CODE + 16;
        assert_eq!(run(&mut vcpu), Event::Syscall { entry: 0, at });
        let state = vcpu.state();
        assert_eq!((state.pc, state.x[17]), (at + 4, 64));
        assert_eq!([state.x[10], state.x[11], state.x[12]], [1, DATA, 13]);
        let mut text = [0; 13];
        process.memory.read(state.x[11], &mut text).unwrap();
        assert_eq!(&text, b"hello, world\n");
        vcpu.state_mut().x[10] = 13;
        assert_eq!(run(&mut vcpu), Event::Syscall { entry: 0, at: CODE + 28 });
        assert_eq!((vcpu.state().x[17], vcpu.state().x[10]), (93, 42));
    });
}
