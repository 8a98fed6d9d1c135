//! Calls and returns, compiled and interpreted: what the engine expects of returns must not show,
//! whatever guests do with their stacks.

#[allow(dead_code, reason = "programs are given here")]
mod engine;

use cpu::{Exit, VirtualCpu};
use engine::{Engine, hart};
use isa::Guest;
use memory::{AddressSpace, Ram};
use riscv::{Riscv, State, Xlen};
use runtime::{CodeCache, Options, Vcpu};
use state::SavedState;
use std::sync::Arc;

/// Where code is.
const CODE: (u64, u64) = (0x9123_0000, 0x3000);
/// Where stacks and page tables are.
const DATA: (u64, u64) = (0x4_0000, 0x4_0000);
const DATA_END: u64 = DATA.0 + DATA.1;

/// A recursion much deeper than the host's stack of returns.
const DEEP: &[u32] = &[
    0x00c0_00ef, // 00: jal ra, 0xc
    0x1050_0073, // 04: wfi
    0xffdf_f06f, // 08: jal zero, 0x4
    0x0205_0063, // 0c: beq a0, zero, 0x2c
    0xff01_0113, // 10: addi sp, sp, -16
    0x0011_3423, // 14: sd ra, 8(sp)
    0xfff5_0513, // 18: addi a0, a0, -1
    0xff1f_f0ef, // 1c: jal ra, 0xc
    0x0081_3083, // 20: ld ra, 8(sp)
    0x0101_0113, // 24: addi sp, sp, 16
    0x0015_8593, // 28: addi a1, a1, 1
    0x0000_8067, // 2c: jalr zero, 0(ra)
];

/// Twenty calls deep, and from there back to the caller of the first.
const LONGJMP: &[u32] = &[
    0x0180_00ef, // 00: jal ra, 0x18
    0x0016_0613, // 04: addi a2, a2, 1
    0xfff4_0413, // 08: addi s0, s0, -1
    0xfe04_1ae3, // 0c: bne s0, zero, 0x0
    0x1050_0073, // 10: wfi
    0xffdf_f06f, // 14: jal zero, 0x10
    0x0000_8493, // 18: addi s1, ra, 0
    0x0001_0913, // 1c: addi s2, sp, 0
    0x0140_0513, // 20: addi a0, zero, 20
    0x0080_00ef, // 24: jal ra, 0x2c
    0x0016_8693, // 28: addi a3, a3, 1
    0x0005_1a63, // 2c: bne a0, zero, 0x40
    0x0004_8093, // 30: addi ra, s1, 0
    0x0009_0113, // 34: addi sp, s2, 0
    0x0015_8593, // 38: addi a1, a1, 1
    0x0000_8067, // 3c: jalr zero, 0(ra)
    0xff01_0113, // 40: addi sp, sp, -16
    0x0011_3423, // 44: sd ra, 8(sp)
    0xfff5_0513, // 48: addi a0, a0, -1
    0xfe1f_f0ef, // 4c: jal ra, 0x2c
    0x0016_8693, // 50: addi a3, a3, 1
    0x0000_8067, // 54: jalr zero, 0(ra)
];

/// Two stacks, switched by a function that returns to where the other left off.
const COROUTINES: &[u32] = &[
    0x0000_0997, // 00: auipc s3, 0x0
    0x0249_8993, // 04: addi s3, s3, 36
    0x02c0_00ef, // 08: jal ra, 0x34
    0x0015_8593, // 0c: addi a1, a1, 1
    0x0400_00ef, // 10: jal ra, 0x50
    0xfff4_0413, // 14: addi s0, s0, -1
    0xfe04_18e3, // 18: bne s0, zero, 0x8
    0x1050_0073, // 1c: wfi
    0xffdf_f06f, // 20: jal zero, 0x1c
    0x02c0_00ef, // 24: jal ra, 0x50
    0x0016_0613, // 28: addi a2, a2, 1
    0x0080_00ef, // 2c: jal ra, 0x34
    0xff5f_f06f, // 30: jal zero, 0x24
    0x0000_8393, // 34: addi t2, ra, 0
    0x0009_8093, // 38: addi ra, s3, 0
    0x0003_8993, // 3c: addi s3, t2, 0
    0x0001_0393, // 40: addi t2, sp, 0
    0x000a_0113, // 44: addi sp, s4, 0
    0x0003_8a13, // 48: addi s4, t2, 0
    0x0000_8067, // 4c: jalr zero, 0(ra)
    0x0016_8693, // 50: addi a3, a3, 1
    0x0000_8067, // 54: jalr zero, 0(ra)
];

/// A function that writes what it returns to: one of two instructions in turn.
const PATCHED: &[u32] = &[
    0x0180_00ef, // 00: jal ra, 0x18
    0x0015_8593, // 04: addi a1, a1, 1
    0xfff4_0413, // 08: addi s0, s0, -1
    0xfe04_1ae3, // 0c: bne s0, zero, 0x0
    0x1050_0073, // 10: wfi
    0xffdf_f06f, // 14: jal zero, 0x10
    0x00e0_a023, // 18: sw a4, 0(ra)
    0x00f7_4733, // 1c: xor a4, a4, a5
    0x0000_100f, // 20: fence.i
    0x0000_8067, // 24: jalr zero, 0(ra)
];

/// A function that traps to a handler that calls functions, too.
const TRAPS: &[u32] = &[
    0x0000_0297, // 00: auipc t0, 0x0
    0x0402_8293, // 04: addi t0, t0, 64
    0x3052_9073, // 08: csrrw zero, mtvec, t0
    0x0180_00ef, // 0c: jal ra, 0x24
    0x0015_8593, // 10: addi a1, a1, 1
    0xfff4_0413, // 14: addi s0, s0, -1
    0xfe04_1ae3, // 18: bne s0, zero, 0xc
    0x1050_0073, // 1c: wfi
    0xffdf_f06f, // 20: jal zero, 0x1c
    0x0000_8313, // 24: addi t1, ra, 0
    0x0000_0073, // 28: ecall
    0x00c0_00ef, // 2c: jal ra, 0x38
    0x0003_0093, // 30: addi ra, t1, 0
    0x0000_8067, // 34: jalr zero, 0(ra)
    0x0016_0613, // 38: addi a2, a2, 1
    0x0000_8067, // 3c: jalr zero, 0(ra)
    0x3400_9073, // 40: csrrw zero, mscratch, ra
    0xff5f_f0ef, // 44: jal ra, 0x38
    0x3410_23f3, // 48: csrrs t2, mepc, zero
    0x0043_8393, // 4c: addi t2, t2, 4
    0x3413_9073, // 50: csrrw zero, mepc, t2
    0x3400_20f3, // 54: csrrs ra, mscratch, zero
    0x3020_0073, // 58: mret
];

/// A function that changes what the code it returns to means.
const ROUNDING: &[u32] = &[
    0x01c0_00ef, // 00: jal ra, 0x1c
    0xc205_7553, // 04: fcvt.w.d a0, fa0
    0x00a5_85b3, // 08: add a1, a1, a0
    0xfff4_0413, // 0c: addi s0, s0, -1
    0xfe04_18e3, // 10: bne s0, zero, 0x0
    0x1050_0073, // 14: wfi
    0xffdf_f06f, // 18: jal zero, 0x14
    0x0017_4713, // 1c: xori a4, a4, 1
    0x0027_1073, // 20: csrrw zero, frm, a4
    0x0000_8067, // 24: jalr zero, 0(ra)
];

/// A function that changes the address space: the code it returns to is another there.
const SPACES: &[u32] = &[
    0x3b02_9073, // 00: csrrw zero, pmpaddr0, t0
    0x3a0f_d073, // 04: csrrwi zero, pmpcfg0, 31
    0x1804_9073, // 08: csrrw zero, satp, s1
    0x3419_9073, // 0c: csrrw zero, mepc, s3
    0x3003_1073, // 10: csrrw zero, mstatus, t1
    0x3020_0073, // 14: mret
    0x0124_c4b3, // 18: xor s1, s1, s2
    0x1804_9073, // 1c: csrrw zero, satp, s1
    0x1200_0073, // 20: sfence.vma zero, zero
    0x0000_8067, // 24: jalr zero, 0(ra)
    0x1050_0073, // 28: wfi
    0xffdf_f06f, // 2c: jal zero, 0x28
];

/// Its caller, at two addresses. The second counts elsewhere.
const SPACES_CALLER: &[u32] = &[
    0x000a_00e7, // 00: jalr ra, 0(s4)
    0x0015_8593, // 04: addi a1, a1, 1
    0xfff4_0413, // 08: addi s0, s0, -1
    0xfe04_1ae3, // 0c: bne s0, zero, 0x0
    0x000a_8067, // 10: jalr zero, 0(s5)
];

/// Calls; what is called and what is returned to count in one of two registers each.
const CALLER: &[u32] = &[
    0x0180_00ef, // 00: jal ra, 0x18
    0x0016_8693, // 04: addi a3, a3, 1
    0xfff4_0413, // 08: addi s0, s0, -1
    0xfe04_1ae3, // 0c: bne s0, zero, 0x0
    0x1050_0073, // 10: wfi
    0xffdf_f06f, // 14: jal zero, 0x10
    0x0018_0813, // 18: addi a6, a6, 1
    0x0000_8067, // 1c: jalr zero, 0(ra)
];

/// Writes both in turn.
const WRITER: &[u32] = &[
    0x00e2_a023, // 00: sw a4, 0(t0)
    0x00f7_4733, // 04: xor a4, a4, a5
    0x0103_2023, // 08: sw a6, 0(t1)
    0x0118_4833, // 0c: xor a6, a6, a7
    0xfff4_0413, // 10: addi s0, s0, -1
    0xfe04_16e3, // 14: bne s0, zero, 0x0
    0x1050_0073, // 18: wfi
    0xffdf_f06f, // 1c: jal zero, 0x18
];

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Runs code until it waits, interpreted and compiled; what it leaves either way.
fn run(code: &[u8], data: &[u8], set: impl Fn(&mut State)) -> State {
    let mut kinds = vec![true];
    if !Options::default().interpret {
        kinds.push(false);
    }
    let mut states = kinds.into_iter().map(|interpret| {
        let mut engine = Engine::new(hart(Xlen::Rv64, 128), CODE, DATA, interpret);
        let mut state = hart(Xlen::Rv64, 128).reset();
        state.pc = CODE.0;
        state.mstatus |= 3 << 13;
        // sp
        state.x[2] = DATA_END;
        set(&mut state);
        engine.load(&state, code, data);
        assert_eq!(engine.run(), Exit::Halted);
        engine.state()
    });
    let first = states.next().expect("there is an interpreter");
    for other in states {
        assert_eq!(other.x, first.x);
        assert!(other == first, "{}", engine::differences(&first, &other));
    }
    first
}

#[test]
fn recursion_deeper_than_what_is_remembered_comes_back() {
    let end = run(&bytes(DEEP), &[], |state| state.x[10] = 10_000);
    assert_eq!((end.x[11], end.x[2]), (10_000, DATA_END));
}

#[test]
fn functions_that_are_left_from_within_others_do_not_return() {
    for depth in [1, 5, 20] {
        let mut code = LONGJMP.to_vec();
        // li a0, depth
        code[8] = 0x0000_0513 | depth << 20;
        let end = run(&bytes(&code), &[], |state| state.x[8] = 300);
        assert_eq!((end.x[11], end.x[12], end.x[13]), (300, 300, 0));
    }
}

#[test]
fn stacks_can_be_switched() {
    let end = run(&bytes(COROUTINES), &[], |state| {
        state.x[8] = 300;
        state.x[20] = DATA_END - 0x1000;
    });
    assert_eq!((end.x[11], end.x[12], end.x[13]), (300, 300, 600));
}

#[test]
fn code_that_changes_before_it_is_returned_to_runs_as_it_is_then() {
    // addi a1, a1, 1 and addi a1, a1, 2
    let (one, two) = (0x0015_8593, 0x0025_8593);
    let end = run(&bytes(PATCHED), &[], |state| {
        (state.x[8], state.x[14], state.x[15]) = (300, two, one ^ two);
    });
    assert_eq!(end.x[11], 150 + 300);
}

#[test]
fn traps_between_calls_and_returns_return_where_they_came_from() {
    let end = run(&bytes(TRAPS), &[], |state| state.x[8] = 300);
    assert_eq!((end.x[11], end.x[12]), (300, 600));
}

#[test]
fn a_mode_that_changes_between_call_and_return_counts() {
    let end = run(&bytes(ROUNDING), &[], |state| {
        state.x[8] = 300;
        // 1.75: 2 to the nearest, 1 towards zero.
        state.f[10] = 1.75_f64.to_bits();
    });
    assert_eq!(end.x[11], 150 + 300);
}

#[test]
fn an_address_space_that_changes_between_call_and_return_counts() {
    let mut code = bytes(SPACES);
    let mut caller = SPACES_CALLER.to_vec();
    code.resize(0x1000, 0);
    code.extend(bytes(&caller));
    // addi a2, a2, 1
    caller[1] = 0x0016_0613;
    code.resize(0x2000, 0);
    code.extend(bytes(&caller));
    // Two trees of page tables, 4 KiB each: root, of 2 MiB, of 4 KiB for the caller and the rest.
    let mut data = vec![0; DATA.1 as usize];
    let table = |space: u64, number: u64| DATA.0 + (space * 8 + number) * 0x1000;
    let mut put = |at: u64, index: u64, target: u64, flags: u64| {
        let at = (at - DATA.0 + 8 * index) as usize;
        data[at..at + 8].copy_from_slice(&(target >> 12 << 10 | flags).to_le_bytes());
    };
    for space in 0..2 {
        let [root, low, lowest, high, highest] = [0, 1, 2, 3, 4].map(|n| table(space, n));
        put(root, 0, low, 1);
        put(low, 0, lowest, 1);
        put(lowest, 1, CODE.0 + 0x1000 * (1 + space), 0xcf);
        put(root, CODE.0 >> 30 & 0x1ff, high, 1);
        put(high, CODE.0 >> 21 & 0x1ff, highest, 1);
        put(highest, CODE.0 >> 12 & 0x1ff, CODE.0, 0xcf);
    }
    let satp = [0, 1].map(|space| 8 << 60 | table(space, 0) >> 12);
    let end = run(&code, &data, |state| {
        // All of memory for supervisor mode.
        state.x[5] = u64::MAX >> 10;
        state.x[6] = state.mstatus | 1 << 11;
        state.x[8] = 300;
        (state.x[9], state.x[18]) = (satp[0], satp[0] ^ satp[1]);
        // Where it begins, the function it calls, and where it ends.
        (state.x[19], state.x[20], state.x[21]) = (0x1000, CODE.0 + 0x18, CODE.0 + 0x28);
    });
    assert_eq!((end.x[11], end.x[12]), (150, 150));
}

#[test]
fn another_processor_may_change_what_is_called_and_what_is_returned_to() {
    let space = AddressSpace::new("test");
    let code = Ram::new("code", CODE.1).expect("the host has memory");
    space.map_ram(CODE.0, &code);
    let cache = CodeCache::new(Riscv::registers(), Options::default()).expect("there is memory");
    let start = |set: &dyn Fn(&mut State)| {
        let guest = Arc::new(hart(Xlen::Rv64, 128));
        let mut state = guest.reset();
        set(&mut state);
        let mut vcpu = Vcpu::new(guest, Arc::clone(&space), Arc::clone(&cache));
        vcpu.restore(&state.save()).expect("a state fits itself");
        vcpu
    };
    assert!(code.write(0, &bytes(CALLER)) && code.write(0x40, &bytes(WRITER)));
    let rounds = 20_000;
    let caller = start(&|state| (state.pc, state.x[8]) = (CODE.0, rounds));
    let writer = start(&|state| {
        (state.pc, state.x[8]) = (CODE.0 + 0x40, 2_000);
        (state.x[5], state.x[6]) = (CODE.0 + 4, CODE.0 + 0x18);
        // addi a4, a4, 1 instead of addi a3, a3, 1, and addi a7, a7, 1 instead of addi a6, a6, 1.
        (state.x[14], state.x[15]) = (0x0017_0713, 0x0017_0713 ^ 0x0016_8693);
        (state.x[16], state.x[17]) = (0x0018_8893, 0x0018_8893 ^ 0x0018_0813);
    });
    let [counted, _] = [caller, writer]
        .map(|mut vcpu| {
            std::thread::spawn(move || {
                while vcpu.run() != Exit::Halted {}
                let mut state = State::default();
                state.restore(&vcpu.save()).expect("a state fits itself");
                state
            })
        })
        .map(|thread| thread.join().expect("a processor ends"));
    assert_eq!(counted.x[13] + counted.x[14], rounds);
    assert_eq!(counted.x[16] + counted.x[17], rounds);
}
