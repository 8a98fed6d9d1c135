//! Atomic instructions of two harts that race for the same memory, on both executors.

mod processor;

use processor::{Board, CODE, ECALL, HANDLER, RAM, WFI, change, run};
use riscv::Privilege;

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

const LR: u32 = 0x1005_25af; // lr.w a1, (a0)
const STORE: u32 = 0x00c5_2023; // sw a2, 0(a0)
const WRS_NTO: u32 = 0x00d0_0073;
const WRS_STO: u32 = 0x01d0_0073;

#[test]
fn a_wait_on_a_reservation_ends_when_it_does_or_traps_if_asked_to() {
    const STIP: u64 = 1 << 5;
    let waited = [LR, WRS_NTO];
    let cases = [
        // Code, privilege, TW, mie, whether it is illegal at last. The timer's interrupt is pending,
        // but S-mode lets none in.
        (&waited[..], Privilege::Machine, true, 0, false),
        (&waited, Privilege::Supervisor, false, 0, false),
        (&waited, Privilege::User, false, 0, false),
        (&waited, Privilege::Supervisor, true, 0, true),
        (&waited, Privilege::User, true, 0, true),
        (&[LR, STORE, WRS_NTO], Privilege::User, true, 0, false),
        (&[WRS_NTO], Privilege::User, true, 0, false),
        (&[LR, WRS_STO], Privilege::User, true, 0, false),
        (&waited, Privilege::Supervisor, true, 1 << 1, true),
        (&waited, Privilege::Supervisor, true, STIP, false),
    ];
    for (code, privilege, tw, mie, illegal) in cases {
        for interpret in [true, false] {
            let board = Board::new(interpret);
            board.put(CODE, &[code, &[ECALL]].concat());
            let mut vcpu = board.processor("max", 0);
            change(&mut vcpu, |s| {
                (s.privilege, s.mie, s.mtvec) = (privilege, mie, HANDLER);
                s.mstatus |= u64::from(tw) << 21;
                (s.mip, s.mideleg) = (STIP, STIP);
                (s.x[10], s.x[12]) = (CELL, 1);
                (s.pmpcfg[0], s.pmpaddr[0]) = (0x1f, u64::MAX >> 10);
            });
            let state = run(&mut vcpu);
            let name = format!("{code:x?} {privilege:?} {tw} {mie}");
            assert_eq!(state.mcause == 2, illegal, "{name}: {:#x}", state.mcause);
            assert_eq!(state.mtval, if illegal { u64::from(WRS_NTO) } else { 0 }, "{name}");
        }
    }
}

#[test]
fn a_hart_that_waits_sees_the_store_of_the_other() {
    let waiter = [
        LR,
        0x0005_9663, // bnez a1, 3 on
        WRS_NTO,
        0xff5f_f06f, // j back to the load
        WFI,
    ];
    for interpret in [true, false] {
        let board = Board::new(interpret);
        board.put(CODE, &waiter);
        board.put(CODE + 0x100, &[STORE, WFI]);
        std::thread::scope(|scope| {
            for (id, pc) in [(0, CODE), (1, CODE + 0x100)] {
                let mut vcpu = board.processor("max", id);
                change(&mut vcpu, |s| {
                    s.pc = pc;
                    (s.x[10], s.x[12]) = (CELL, 7);
                });
                let board = &board;
                scope.spawn(move || {
                    let state = run(&mut vcpu);
                    assert_eq!(if id == 0 { state.x[11] } else { board.get_u64(CELL) }, 7);
                });
            }
        });
    }
}
