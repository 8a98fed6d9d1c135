//! Masked pointers on a processor, with what it caches, on both executors.

mod processor;

use processor::{Board, CODE, ECALL, HANDLER, RAM, change, run};
use riscv::Privilege;

const ROOT: u64 = RAM + 0x8000;
const GVA: u64 = 0x5000;
/// 16 bits of a pointer are masked.
const PMM: u64 = 3 << 32;
const POINTER_TABLE: u64 = 1;
const LEAF: u64 = 0xcf;

fn pte(gpa: u64, bits: u64) -> u64 {
    gpa >> 12 << 10 | bits
}

#[test]
fn every_pointer_to_a_page_reads_what_others_wrote_and_follows_the_page() {
    let code = [
        0x00a5_b023, // sd a0, 0(a1)
        0x0006_3783, // ld a5, 0(a2)
        0x00a5_b82f, // amoadd.d a6, a0, (a1)
        0x00e6_b023, // sd a4, 0(a3): another page
        0x1206_0073, // sfence.vma a2, zero
        0x0005_b883, // ld a7, 0(a1)
        ECALL,
    ];
    for interpret in [true, false] {
        let board = Board::new(interpret);
        board.put(CODE, &code);
        board.put_u64(ROOT + (RAM >> 30) * 8, pte(RAM, LEAF));
        board.put_u64(ROOT, pte(ROOT + 0x1000, POINTER_TABLE));
        board.put_u64(ROOT + 0x1000, pte(ROOT + 0x2000, POINTER_TABLE));
        let leaf = ROOT + 0x2000 + GVA / 0x1000 * 8;
        board.put_u64(leaf, pte(RAM + 0x4000, LEAF));
        board.put_u64(RAM + 0x6008, 77);
        let mut vcpu = board.processor("max", 0);
        change(&mut vcpu, |s| {
            (s.privilege, s.mtvec, s.menvcfg) = (Privilege::Supervisor, HANDLER, PMM);
            s.satp = 8 << 60 | ROOT >> 12;
            (s.pmpcfg[0], s.pmpaddr[0]) = (0x1f, u64::MAX >> 10);
            s.x[10] = 5;
            s.x[11] = (0x1234 << 48) | (GVA + 8);
            s.x[12] = GVA + 8;
            (s.x[13], s.x[14]) = (leaf, pte(RAM + 0x6000, LEAF));
        });
        let state = run(&mut vcpu);
        assert_eq!((state.mcause, state.mepc), (9, CODE + 24));
        assert_eq!((state.x[15], state.x[16], state.x[17]), (5, 5, 77));
        assert_eq!(board.get_u64(RAM + 0x4008), 10);
    }
}
