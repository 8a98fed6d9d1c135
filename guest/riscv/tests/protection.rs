//! Physical memory protection with boundaries inside pages, as a processor meets it: on the
//! interpreter and on generated code.

mod processor;

use processor::{Board, CODE, HANDLER, RAM, WFI, change, run};
use riscv::{Exception, Privilege, State};

const DATA: u64 = RAM + 0x4000;
/// `pmpcfg`: four bytes, a naturally aligned power of two, a range.
const NA4: u8 = 0x10;
const NAPOT: u8 = 0x18;
const TOR: u8 = 0x08;
const RWX: u8 = 7;
const ALL: u64 = u64::MAX >> 10;

/// Instructions that access memory at `a1`, their size in bytes, and the exception of one that may
/// not be made.
const ACCESSES: [(u32, u64, Exception); 13] = [
    (0x0005_b503, 8, Exception::LoadAccess),   // ld a0, 0(a1)
    (0x0005_a503, 4, Exception::LoadAccess),   // lw a0, 0(a1)
    (0x0005_9503, 2, Exception::LoadAccess),   // lh a0, 0(a1)
    (0x0005_b507, 8, Exception::LoadAccess),   // fld fa0, 0(a1)
    (0x00a5_b023, 8, Exception::StoreAccess),  // sd a0, 0(a1)
    (0x00a5_a023, 4, Exception::StoreAccess),  // sw a0, 0(a1)
    (0x00a5_9023, 2, Exception::StoreAccess),  // sh a0, 0(a1)
    (0x00a5_b027, 8, Exception::StoreAccess),  // fsd fa0, 0(a1)
    (0x00c5_b52f, 8, Exception::StoreAccess),  // amoadd.d a0, a2, (a1)
    (0x1005_b52f, 8, Exception::LoadAccess),   // lr.d a0, (a1)
    (0x28c5_b52f, 8, Exception::StoreAccess),  // amocas.d a0, a2, (a1)
    (0x28c5_c52f, 16, Exception::StoreAccess), // amocas.q a0, a2, (a1)
    (0x0045_a00f, 64, Exception::StoreAccess), // cbo.zero (a1)
];

fn must_align(insn: u32) -> bool {
    insn & 0x7f == 0x2f || insn & 0x7f == 0x0f
}

/// A supervisor that may touch all memory but what the first entries say.
fn supervisor(entries: &'static [(u8, u64)], a1: u64) -> impl Fn(&mut State) {
    move |s| {
        s.privilege = Privilege::Supervisor;
        s.mtvec = HANDLER;
        s.mstatus |= 3 << 13;
        s.menvcfg |= 1 << 7;
        s.x[11] = a1;
        for (i, (cfg, addr)) in entries.iter().enumerate() {
            (s.pmpcfg[i], s.pmpaddr[i]) = (*cfg, *addr);
        }
        (s.pmpcfg[15], s.pmpaddr[15]) = (NAPOT | RWX, ALL);
    }
}

/// Executes one instruction, then `ecall`, on each executor: the state in the handler.
fn execute(insn: u32, set_up: impl Fn(&mut State)) -> State {
    let on = |interpret| {
        let board = Board::new(interpret);
        board.put(CODE, &[insn, 0x73]);
        let mut vcpu = board.processor("max", 0);
        change(&mut vcpu, |s| {
            set_up(s);
            s.pc = CODE;
        });
        run(&mut vcpu)
    };
    let state = on(true);
    assert_eq!(on(false), state, "{insn:#x}");
    state
}

fn trap(state: &State) -> (Exception, u64, u64) {
    let cause = Exception::from_code(state.mcause).expect("an exception");
    (cause, state.mtval, state.mepc)
}

#[test]
fn an_access_needs_one_rule_for_all_its_bytes() {
    // Four bytes in the middle of a page that nobody may touch.
    const ENTRIES: &[(u8, u64)] = &[(NA4, (DATA + 0x104) >> 2)];
    for (insn, size, cause) in ACCESSES {
        let first = (DATA + 0x104 - size).next_multiple_of(8);
        for at in first.saturating_sub(8)..DATA + 0x110 {
            if must_align(insn) && !at.is_multiple_of(size) {
                continue;
            }
            let met = at < DATA + 0x108 && at + size > DATA + 0x104;
            let expected = if met { (cause, at, CODE) } else { (Exception::EcallS, 0, CODE + 4) };
            assert_eq!(
                trap(&execute(insn, supervisor(ENTRIES, at))),
                expected,
                "{insn:#x} {at:#x}"
            );
        }
    }
}

#[test]
fn each_page_of_an_access_is_checked_whole_and_named() {
    // The second page begins with two rules that allow everything, then one that does not.
    const NEXT: u64 = DATA + 0x1000;
    const ENTRIES: &[(u8, u64)] = &[(NA4 | RWX, NEXT >> 2), (NA4, (NEXT + 4) >> 2)];
    for (insn, size, cause) in ACCESSES.into_iter().filter(|(insn, ..)| !must_align(*insn)) {
        for before in 1..size {
            let expected = match size - before {
                5.. => (cause, NEXT, CODE),
                _ => (Exception::EcallS, 0, CODE + 4),
            };
            let state = execute(insn, supervisor(ENTRIES, NEXT - before));
            assert_eq!(trap(&state), expected, "{insn:#x} {before} bytes before");
        }
    }
    // And the first page ends with one that forbids.
    const LAST: &[(u8, u64)] = &[(NA4, (NEXT - 4) >> 2)];
    for (insn, size, cause) in ACCESSES.into_iter().filter(|(insn, ..)| !must_align(*insn)) {
        for before in 1..size {
            let state = execute(insn, supervisor(LAST, NEXT - before));
            assert_eq!(trap(&state), (cause, NEXT - before, CODE), "{insn:#x} {before}");
        }
    }
}

/// Runs code at an address in S-mode with these rules, on each executor.
fn run_code(at: u64, code: &[u16], entries: &'static [(u8, u64)]) -> State {
    let on = |interpret| {
        let board = Board::new(interpret);
        let bytes: Vec<u8> = code.iter().flat_map(|half| half.to_le_bytes()).collect();
        assert!(board.ram.write(at - RAM, &bytes), "RAM holds the code");
        let mut vcpu = board.processor("max", 0);
        change(&mut vcpu, |s| {
            supervisor(entries, 0)(s);
            s.pc = at;
        });
        run(&mut vcpu)
    };
    let state = on(true);
    assert_eq!(on(false), state);
    state
}

#[test]
fn code_that_runs_into_a_forbidden_part_of_its_page_faults_there() {
    const END: u64 = CODE + 0x800;
    const ENTRIES: &[(u8, u64)] = &[(TOR | RWX, END >> 2), (NAPOT | 3, ALL)];
    // c.addi a0, 1, four times.
    let state = run_code(END - 8, &[0x0505; 8], ENTRIES);
    assert_eq!(trap(&state), (Exception::FetchAccess, END, END));
    assert_eq!(state.x[10], 4);
    // The second half of an instruction of four bytes: addi a0, a0, 1.
    let state = run_code(END - 4, &[0x0505, 0x0513, 0x0015, 0x0001], ENTRIES);
    assert_eq!(trap(&state), (Exception::FetchAccess, END, END - 2));
    assert_eq!(state.x[10], 1);
}

#[test]
fn code_in_a_page_with_a_boundary_runs_as_elsewhere() {
    const ENTRIES: &[(u8, u64)] = &[(NA4, (CODE + 0xffc) >> 2)];
    // li a0, 10; li a1, 0; 1: add a1, a1, a0; addi a0, a0, -1; bnez a0, 1b;
    // fdiv.d fa0, fa1, fa1; csrr a1, fflags; ecall
    let code =
        [0x4529, 0x4581, 0x95aa, 0x157d, 0xfd75, 0xf553, 0x1ab5, 0x25f3, 0x0010, 0x0073, 0x0000];
    let state = run_code(CODE, &code, ENTRIES);
    assert_eq!(trap(&state), (Exception::EcallS, 0, CODE + 18));
    // 0/0 was invalid.
    assert_eq!((state.x[10], state.x[11]), (0, 0x10));
    assert_eq!(run_code(CODE, &code, &[]).x, state.x);
}

#[test]
fn a_page_table_entry_across_a_boundary_is_an_access_fault() {
    const ROOT: u64 = RAM + 0x8000;
    let gva = 0x4000_1000_u64;
    let at = ROOT + (gva >> 30) * 8;
    // The upper half of the root's entry lies in a rule of its own.
    let entries: [&'static [(u8, u64)]; 2] = [&[], &[(NA4 | RWX, (ROOT + 12) >> 2)]];
    for (entries, cause) in entries.into_iter().zip([Exception::EcallS, Exception::LoadAccess]) {
        for interpret in [true, false] {
            let board = Board::new(interpret);
            // Identity for the code, and one gigabyte page at `gva` that leads to RAM.
            board.put_u64(ROOT + (RAM >> 30) * 8, RAM >> 12 << 10 | 0xcf);
            board.put_u64(at, RAM >> 12 << 10 | 0xcf);
            board.put(CODE, &[0x0005_b503, 0x73, WFI]);
            let mut vcpu = board.processor("max", 0);
            change(&mut vcpu, |s| {
                supervisor(entries, gva)(s);
                s.satp = 8 << 60 | ROOT >> 12;
                s.pc = CODE;
            });
            let state = run(&mut vcpu);
            assert_eq!(trap(&state).0, cause);
            assert_eq!(state.mtval, if cause == Exception::EcallS { 0 } else { gva });
        }
    }
}
