//! Units as the translator shapes them; what they compute is tested with vectors.

use ir::{Builder, Op, OpKind, Rounding, Unit};
use isa::{CodeSource, Guest, Mode};
use riscv::decode::{Ext, ExtSet, INSNS};
use riscv::{Config, Riscv, Wiring, Xlen};
use time::{Clock, Counter};

const PC: u64 = 0x8000_0000;
/// Flags of M-mode with both FS and VS dirty.
const ALL_ON: u32 = 3 | 2 << 2 | 2 << 4 | 1 << 19;

struct Code {
    start: u64,
    bytes: Vec<u8>,
}

impl CodeSource for Code {
    fn halfword(&mut self, gva: u64) -> Option<u16> {
        let at = usize::try_from(gva.checked_sub(self.start)?).ok()?;
        let bytes = self.bytes.get(at..at + 2)?;
        Some(u16::from_le_bytes([bytes[0], bytes[1]]))
    }
}

fn hart(xlen: Xlen, without: &[Ext]) -> Riscv {
    let other = if xlen == Xlen::Rv64 { Ext::Rv32 } else { Ext::Rv64 };
    let ext = without.iter().fold(ExtSet::all().without(other), |set, e| set.without(*e));
    let config = Config { ext, ..config(xlen) };
    let counter = Counter::new(Clock::manual(), 10_000_000);
    Riscv { config, wiring: Wiring::new(0, PC, counter) }
}

fn translate(hart: &Riscv, pc: u64, flags: u32, words: &[u32]) -> Unit {
    let mut bytes = Vec::new();
    for word in words {
        let len = if word & 3 == 3 { 4 } else { 2 };
        bytes.extend(&word.to_le_bytes()[..len]);
    }
    translate_bytes(hart, pc, flags, bytes)
}

fn translate_bytes(hart: &Riscv, pc: u64, flags: u32, bytes: Vec<u8>) -> Unit {
    let mut unit = Unit { pc, ..Unit::default() };
    let mode = Mode { pc, flags, mmu: 3 };
    hart.translate(&mode, 64, &mut Code { start: pc, bytes }, &mut Builder::new(&mut unit));
    assert_eq!(unit.verify(), Ok(()), "{}", unit.listing(Riscv::registers()));
    unit
}

fn config(xlen: Xlen) -> Config {
    let model = if xlen == Xlen::Rv64 { "rv64" } else { "rv32" };
    riscv::model::parse(model).expect("a known model")
}

fn listing(unit: &Unit) -> String {
    unit.listing(Riscv::registers())
}

/// A small generator of words; the seed makes failures repeat.
fn words(seed: u64) -> impl FnMut() -> u32 {
    let mut x = seed | 1;
    move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 16) as u32
    }
}

#[test]
fn every_encoding_gives_a_valid_unit() {
    let mut next = words(7);
    for xlen in [Xlen::Rv64, Xlen::Rv32] {
        let hart = hart(xlen, &[]);
        for info in INSNS.iter().filter(|i| i.available(hart.config.ext)) {
            for round in 0..40 {
                let insn = next() & !info.mask | info.value;
                let flags = if round % 4 == 0 { next() & 0xf_ffff } else { ALL_ON };
                let unit = translate(&hart, PC, flags, &[insn, 0x13, 0x8067]);
                assert!(unit.insns >= 1 && unit.insns <= 3, "{insn:#x}");
            }
        }
    }
}

#[test]
fn forward_branches_do_not_end_a_unit_and_backward_ones_do() {
    let hart = hart(Xlen::Rv64, &[]);
    // beq a0, a1, +256; addi a0, a0, 1; beq a0, a1, -4; nop
    let unit = translate(&hart, PC, ALL_ON, &[0x10b5_0063, 0x0015_0513, 0xfeb5_0ee3, 0x13]);
    assert_eq!(unit.insns, 3);
    assert_eq!(unit.len, 12);
    assert_eq!(count(&unit, OpKind::ExitIf), 2);
}

#[test]
fn short_forward_branches_stay_in_the_unit_if_it_gets_there() {
    let hart = hart(Xlen::Rv64, &[]);
    // beq a0, a1, +8; addi a0, a0, 1; ret
    let unit = translate(&hart, PC, ALL_ON, &[0x00b5_0463, 0x0015_0513, 0x0000_8067]);
    assert_eq!((count(&unit, OpKind::BranchIf), count(&unit, OpKind::Label)), (1, 1));
    assert_eq!(count(&unit, OpKind::Exit), 0);
    // beq a0, a1, +8; ret: the unit ends before the target.
    let unit = translate(&hart, PC, ALL_ON, &[0x00b5_0463, 0x0000_8067, 0x13]);
    assert_eq!((count(&unit, OpKind::BranchIf), count(&unit, OpKind::Exit)), (1, 1));
    assert_eq!(unit.as_const(unit.ops.last().unwrap().a), Some(PC + 8));
}

fn count(unit: &Unit, kind: OpKind) -> usize {
    unit.ops.iter().filter(|op| op.kind == kind).count()
}

#[test]
fn an_instruction_that_straddles_pages_is_alone() {
    let hart = hart(Xlen::Rv64, &[]);
    let pc = PC + 4092;
    // c.nop; lui a0, 1 (straddles); c.nop
    let code = [0x0001, 0x1537, 0x0001];
    let first = translate(&hart, pc, ALL_ON, &code);
    assert_eq!((first.insns, first.len), (1, 2));
    let straddling = translate(&hart, pc + 2, ALL_ON, &code[1..]);
    assert_eq!((straddling.insns, straddling.len), (1, 4));
}

#[test]
fn code_that_cannot_be_fetched_faults_only_when_it_is_reached() {
    let hart = hart(Xlen::Rv64, &[]);
    let nothing = translate_bytes(&hart, PC, ALL_ON, Vec::new());
    assert_eq!(nothing.ops[1].kind, OpKind::Call);
    let half = translate_bytes(&hart, PC + 4094, ALL_ON, vec![0x37, 0x15]);
    let call = half.ops.iter().find(|op| op.kind == OpKind::Call).unwrap();
    assert_eq!(half.as_const(call.a), Some(PC + 4096));
    let later = translate_bytes(&hart, PC, ALL_ON, vec![1, 0]);
    assert_eq!(later.ops.last().unwrap().kind, OpKind::Exit);
    assert_eq!(later.as_const(later.ops.last().unwrap().a), Some(PC + 2));
}

#[test]
fn units_are_limited() {
    let hart = hart(Xlen::Rv64, &[]);
    let straight = translate(&hart, PC, ALL_ON, &[0x13; 300]);
    assert_eq!(straight.insns, 256);
    assert_eq!(straight.as_const(straight.ops.last().unwrap().a), Some(PC + 1024));
    let mut code = [0x13; 300];
    code[1] = 0x7eb5_1e63; // bne a0, a1, 2044
    let branching = translate(&hart, PC, ALL_ON, &code);
    assert_eq!(branching.insns, 64);
}

#[test]
fn the_host_computes_in_every_mode_it_has() {
    let hart = hart(Xlen::Rv64, &[]);
    let host = |rm: u32, frm: u32| {
        let insn = 0x02c5_8553 | rm << 12; // fadd.d fa0, fa1, fa2
        let unit = translate(&hart, PC, ALL_ON | frm << 6, &[insn, 0x8067]);
        unit.ops.iter().find(|op| op.kind == OpKind::FAdd).map(Op::rounding)
    };
    for (rm, frm) in [(7, 0), (7, 1), (0, 0), (3, 3)] {
        assert_eq!(host(rm, frm), Some(Rounding::Current), "{rm} {frm}");
    }
    let fixed = [Rounding::Nearest, Rounding::TowardZero, Rounding::Down, Rounding::Up];
    for (rm, rounding) in (0..).zip(fixed) {
        assert_eq!(host(rm, 4), Some(rounding));
    }
    for (rm, frm) in [(7, 4), (4, 4), (4, 0), (7, 5), (5, 0)] {
        assert_eq!(host(rm, frm), None, "{rm} {frm}");
    }
}

#[test]
fn a_single_is_unboxed_once() {
    let hart = hart(Xlen::Rv64, &[]);
    // fadd.s fa0, fa0, fa1 three times
    let unit = translate(&hart, PC, ALL_ON, &[0x00b5_7553, 0x00b5_7553, 0x00b5_7553, 0x8067]);
    let unboxed = unit.ops.iter().filter(|op| op.kind == OpKind::FUnbox).count();
    assert_eq!(unboxed, 4, "{}", listing(&unit));
}

#[test]
fn the_first_write_of_a_clean_unit_leaves_for_a_lookup() {
    let hart = hart(Xlen::Rv64, &[]);
    let clean = ALL_ON & !(3 << 2) | 1 << 2;
    let unit = translate(&hart, PC, clean, &[0x02c5_f553, 0x02c5_f553]);
    assert_eq!(unit.insns, 1);
    assert_eq!(unit.ops.last().unwrap().kind, OpKind::ExitLoop);
    let off = translate(&hart, PC, ALL_ON & !(3 << 2), &[0x02c5_f553]);
    assert!(off.ops.iter().all(|op| op.kind != OpKind::FAdd));
}

#[test]
fn without_c_odd_halfword_targets_raise() {
    let hart = hart(Xlen::Rv64, &[Ext::C, Ext::Zca, Ext::Zcd, Ext::Zcb, Ext::Zcmop]);
    // j +2; beq a0, a1, +6; jr a0
    for insn in [0x0020_006f, 0x00b5_0363, 0x0005_0067] {
        let unit = translate(&hart, PC, ALL_ON, &[insn, 0x8067]);
        assert!(unit.ops.iter().any(|op| op.kind == OpKind::Call), "{insn:#x}");
    }
}

#[test]
fn fences_that_do_not_order_stores_before_loads_are_free() {
    let hart = hart(Xlen::Rv64, &[]);
    let fences = |insn| {
        let unit = translate(&hart, PC, ALL_ON, &[insn, 0x8067]);
        unit.ops.iter().filter(|op| op.kind == OpKind::Fence).count()
    };
    assert_eq!(fences(0x0ff0_000f), 1); // fence
    assert_eq!(fences(0x0330_000f), 1); // fence rw, rw
    assert_eq!(fences(0x0310_000f), 0); // fence rw, w
    assert_eq!(fences(0x0230_000f), 0); // fence r, rw
    assert_eq!(fences(0x8330_000f), 0); // fence.tso
}
