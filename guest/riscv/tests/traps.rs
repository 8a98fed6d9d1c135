//! Cause, value and address of exceptions, and what a failing access leaves, on both executors.

mod processor;

use processor::{Board, CODE, ECALL, HANDLER, RAM, change, run};
use riscv::{Exception as E, Privilege};

const ROOT: u64 = RAM + 0x8000;
/// Where pages with different rights begin; the frame behind all of them.
const PAGES: u64 = 0x4000_0000;
const FRAME: u64 = RAM + 0x4000;

/// Rights of the pages, one after the other: V 1, R 2, W 4, X 8, A 0x40, D 0x80.
const RIGHTS: [u64; 9] = [
    0xcf,           // 0: all
    0,              // 1: none
    0xc3,           // 2: read
    0xcb,           // 3: read, execute
    0xc9,           // 4: execute
    0x47,           // 5: not dirty
    0x07,           // 6: not accessed
    0xc5,           // 7: write without read, reserved
    0xcf | 1 << 54, // 8: a reserved bit
];

fn page(number: u64) -> u64 {
    PAGES + 0x1000 * number
}

const LD: u32 = 0x0005_b503; // ld a0, 0(a1)
const LW: u32 = 0x0005_a503; // lw a0, 0(a1)
const SD: u32 = 0x00c5_b023; // sd a2, 0(a1)
const AMO: u32 = 0x00c5_b52f; // amoadd.d a0, a2, (a1)
const LR: u32 = 0x1005_b52f; // lr.d a0, (a1)
const SC: u32 = 0x18c5_b52f; // sc.d a0, a2, (a1)
const JUMP: u32 = 0x0005_8067; // jr a1
const CBO_ZERO: u32 = 0x0045_a00f; // cbo.zero (a1)
const CBO_CLEAN: u32 = 0x0015_a00f; // cbo.clean (a1)

/// What an instruction leads to.
type Met = Result<(), (E, u64)>;

/// Executes an instruction in S-mode with Sv39 and `a1`, then a call.
fn execute(insn: u32, a1: u64, cpu: &str, interpret: bool) -> (Met, u64) {
    let board = Board::new(interpret);
    board.put(CODE, &[insn, ECALL]);
    board.put_u64(ROOT + (RAM >> 30) * 8, RAM >> 12 << 10 | 0xcf);
    board.put_u64(ROOT + (PAGES >> 30) * 8, (ROOT + 0x1000) >> 12 << 10 | 1);
    board.put_u64(ROOT + 0x1000, (ROOT + 0x2000) >> 12 << 10 | 1);
    // A large page that is not aligned, and a pointer that says it was accessed.
    board.put_u64(ROOT + 0x1008, (RAM + 0x1000) >> 12 << 10 | 0xcf);
    board.put_u64(ROOT + 0x1010, (ROOT + 0x2000) >> 12 << 10 | 0x41);
    for (at, rights) in (ROOT + 0x2000..).step_by(8).zip(RIGHTS) {
        board.put_u64(at, if rights == 0 { 0 } else { FRAME >> 12 << 10 | rights });
    }
    // `addi a0, a0, 1` across the end of a page, and nothing else.
    let bytes = 0x0015_0513_u32.to_le_bytes();
    assert!(board.ram.write(FRAME + 0xffe - RAM, &bytes[..2]), "RAM holds it");
    let mut vcpu = board.processor(cpu, 0);
    change(&mut vcpu, |s| {
        (s.privilege, s.mtvec) = (Privilege::Supervisor, HANDLER);
        s.satp = 8 << 60 | ROOT >> 12;
        s.menvcfg |= 0xf0;
        (s.pmpcfg[0], s.pmpaddr[0]) = (0x1f, u64::MAX >> 10);
        (s.x[11], s.x[12]) = (a1, 9);
    });
    let state = run(&mut vcpu);
    let cause = E::from_code(state.mcause).expect("an exception");
    match cause {
        E::EcallS => assert_eq!((state.mepc, state.mtval), (CODE + 4, 0)),
        // A jump has been made when its target faults.
        _ => assert_eq!(state.mepc, if insn == JUMP { a1 & !1 } else { CODE }, "{insn:#x}"),
    }
    let stored = board.get_u64(FRAME + 0xff8);
    (if cause == E::EcallS { Ok(()) } else { Err((cause, state.mtval)) }, stored)
}

#[test]
fn accesses_fail_as_the_manual_says() {
    let end = 0xffc;
    let cases: &[(u32, u64, Met)] = &[
        (LD, page(0), Ok(())),
        (LD, page(1), Err((E::LoadPage, page(1)))),
        (SD, page(1) + 8, Err((E::StorePage, page(1) + 8))),
        (JUMP, page(1) + 8, Err((E::FetchPage, page(1) + 8))),
        // The part in the next page fails, and names where it begins.
        (LD, page(0) + end, Err((E::LoadPage, page(1)))),
        (SD, page(0) + end, Err((E::StorePage, page(1)))),
        (LW, page(0) + 0xfff, Err((E::LoadPage, page(1)))),
        (LW, page(1) + 0xffd, Err((E::LoadPage, page(1) + 0xffd))),
        (JUMP, page(0) + 0xffe, Err((E::FetchPage, page(1)))),
        // Rights.
        (SD, page(2), Err((E::StorePage, page(2)))),
        (AMO, page(2), Err((E::StorePage, page(2)))),
        (LR, page(2), Ok(())),
        (SC, page(2), Ok(())),
        (CBO_ZERO, page(2) + 5, Err((E::StorePage, page(2) + 5))),
        (CBO_CLEAN, page(2), Ok(())),
        (CBO_CLEAN, page(4) + 1, Err((E::StorePage, page(4) + 1))),
        (JUMP, page(2) + 8, Err((E::FetchPage, page(2) + 8))),
        (SD, page(3), Err((E::StorePage, page(3)))),
        (LD, page(4), Err((E::LoadPage, page(4)))),
        (AMO, page(4), Err((E::StorePage, page(4)))),
        // Misalignment is found before the page is looked at.
        (AMO, page(1) + 4, Err((E::StoreMisaligned, page(1) + 4))),
        (LR, page(1) + 4, Err((E::LoadMisaligned, page(1) + 4))),
        (SC, page(1) + 4, Err((E::StoreMisaligned, page(1) + 4))),
        // Reserved encodings.
        (LD, page(7), Err((E::LoadPage, page(7)))),
        (LD, page(8), Err((E::LoadPage, page(8)))),
        (LD, PAGES + (2 << 20), Err((E::LoadPage, PAGES + (2 << 20)))),
        (SD, PAGES + (4 << 20), Err((E::StorePage, PAGES + (4 << 20)))),
        (LD, 1 << 38, Err((E::LoadPage, 1 << 38))),
        (JUMP, 1 << 38, Err((E::FetchPage, 1 << 38))),
    ];
    for (insn, a1, met) in cases {
        for interpret in [true, false] {
            let (found, stored) = execute(*insn, *a1, "max", interpret);
            assert_eq!(found, *met, "{insn:#x} {a1:#x} interpret {interpret}");
            let kept = 0x0513 << 48;
            assert_eq!(stored, kept, "{insn:#x} {a1:#x} wrote nothing");
        }
    }
}

#[test]
fn accessed_and_dirty_bits_fault_without_hardware_that_sets_them() {
    for interpret in [true, false] {
        let met = |cpu, insn, n| execute(insn, page(n), cpu, interpret).0;
        let setting = "rv64,svadu=on,zicboz=on";
        for (insn, n) in [(LD, 5), (SD, 5), (LD, 6), (SD, 6), (AMO, 6), (CBO_ZERO, 6)] {
            assert_eq!(met(setting, insn, n), Ok(()), "{insn:#x}");
        }
        assert_eq!(met("rv64,svadu=off,svade=on", LD, 5), Ok(()));
        for (insn, n, cause) in
            [(SD, 5, E::StorePage), (AMO, 5, E::StorePage), (LD, 6, E::LoadPage)]
        {
            let found = met("rv64,svadu=off,svade=on", insn, n);
            assert_eq!(found, Err((cause, page(n))), "{insn:#x}");
        }
    }
}
