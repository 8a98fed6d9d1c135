//! Filters of system calls that a program brings: what the checker lets through ends, and reads nothing
//! else than the call.

use linux_user::seccomp::bpf::{DATA, Insn, Program};

/// Takes the description of a call from the front, and instructions from the rest.
pub fn feed(input: &[u8]) {
    let Some((data, rest)) = input.split_first_chunk::<DATA>() else { return };
    let insns: Vec<Insn> = rest.as_chunks().0.iter().map(|bytes| Insn::read(*bytes)).collect();
    let Some(program) = Program::check(&insns) else { return };
    assert_eq!(program.len(), insns.len());
    assert!(program.insns().eq(insns.iter().copied()), "instructions are kept as they are");
    let answer = program.run(data);
    assert_eq!(answer, program.run(data), "a filter has no memory");
    // The last instruction is a return: with nothing behind it, it is a program as well.
    let last = insns.last().copied().into_iter().collect::<Vec<_>>();
    assert!(Program::check(&last).is_some());
}

/// A filter by architecture, number and argument; and one that computes.
pub fn seeds() -> Vec<Vec<u8>> {
    type Row = (u16, u8, u8, u32);
    const BY_NUMBER: [Row; 7] = [
        (0x20, 0, 0, 4),
        (0x15, 0, 3, 0xc000_003e),
        (0x20, 0, 0, 0),
        (0x35, 1, 0, 300),
        (0x06, 0, 0, 0x7fff_0000),
        (0x06, 0, 0, 0x0005_0001),
        (0x06, 0, 0, 0x8000_0000),
    ];
    const COMPUTED: [Row; 9] = [
        (0x81, 0, 0, 0),
        (0x87, 0, 0, 0),
        (0x34, 0, 0, 2),
        (0x64, 0, 0, 3),
        (0x02, 0, 0, 3),
        (0x61, 0, 0, 3),
        (0x3c, 0, 0, 0),
        (0x05, 0, 0, 0),
        (0x16, 0, 0, 0),
    ];
    let whole = |rows: &[Row]| {
        let mut seed = vec![0; DATA];
        for &(code, yes, no, k) in rows {
            seed.extend_from_slice(&Insn { code, yes, no, k }.bytes());
        }
        seed
    };
    vec![whole(&BY_NUMBER), whole(&COMPUTED)]
}
