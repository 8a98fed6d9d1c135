//! Atomic instructions of two harts that race for the same memory, on both executors.

mod processor;

use processor::{Board, CODE, HANDLER, RAM, WFI, change, run};

const CELL: u64 = RAM + 0x4000;
/// Successes of each hart.
const TIMES: u64 = 2000;

/// Runs a program on two harts at once; a0 holds the address of [`CELL`], s0 counts down from
/// [`TIMES`].
fn race(cpu: &str, interpret: bool, code: &[u32]) -> Board {
    let board = Board::new(interpret);
    board.put(CODE, code);
    std::thread::scope(|scope| {
        for id in 0..2 {
            let mut vcpu = board.processor(cpu, id);
            change(&mut vcpu, |s| {
                s.mtvec = HANDLER;
                s.x[10] = CELL;
                s.x[8] = TIMES;
            });
            scope.spawn(move || assert_eq!(run(&mut vcpu).mcause, 0, "no exception"));
        }
    });
    board
}

/// Counts up both halves of the cell in one step; stops at `unimp` if they ever differ. The words
/// at 2 and 9 are the compare-and-swap: a2 and a3 from a4 and a5.
fn both_halves(read: u32, swap: u32) -> [u32; 13] {
    [
        0x0000_0613, // li a2, 0
        0x0000_0693, // li a3, 0
        read,        // of zero for zero: only reads
        0x00d6_0463, // 1: beq a2, a3, 2f
        0xc000_1073, // unimp
        0x0016_0713, // 2: addi a4, a2, 1
        0x0016_8793, // addi a5, a3, 1
        0x0006_0813, // mv a6, a2
        swap,        // with what was found in a2 and a3
        0xfec8_14e3, // bne a6, a2, 1b
        0xfff4_0413, // addi s0, s0, -1
        0xfe04_10e3, // bnez s0, 1b
        WFI,
    ]
}

#[test]
fn sixteen_bytes_are_swapped_in_one_piece() {
    // amocas.q a2, zero, (a0); amocas.q a2, a4, (a0)
    let code = both_halves(0x2805_462f, 0x28e5_462f);
    for interpret in [true, false] {
        let board = race("max", interpret, &code);
        assert_eq!((board.get_u64(CELL), board.get_u64(CELL + 8)), (2 * TIMES, 2 * TIMES));
    }
}

#[test]
fn a_pair_of_registers_of_rv32_is_swapped_in_one_piece() {
    // amocas.d a2, zero, (a0); amocas.d a2, a4, (a0)
    let code = both_halves(0x2805_362f, 0x28e5_362f);
    for interpret in [true, false] {
        let board = race("max32,zacas=on", interpret, &code);
        assert_eq!(board.get_u64(CELL), (2 * TIMES) << 32 | (2 * TIMES));
    }
}

#[test]
fn reservations_and_updates_lose_nothing() {
    let code = [
        0x1005_35af, // 1: lr.d a1, (a0)
        0x0015_8593, // addi a1, a1, 1
        0x18b5_362f, // sc.d a2, a1, (a0)
        0xfe06_1ae3, // bnez a2, 1b
        0x0085_0713, // addi a4, a0, 8
        0x0030_0693, // li a3, 3
        0x00d7_302f, // amoadd.d zero, a3, (a4)
        0xfff4_0413, // addi s0, s0, -1
        0xfe04_10e3, // bnez s0, 1b
        WFI,
    ];
    for interpret in [true, false] {
        let board = race("max", interpret, &code);
        assert_eq!((board.get_u64(CELL), board.get_u64(CELL + 8)), (2 * TIMES, 6 * TIMES));
    }
}
