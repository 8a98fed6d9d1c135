//! Delegation, entry and return, interrupts.

use super::*;
use crate::bench::Bench;
use crate::status::{TSR, TW};
use state::{SavedState, decode, encode};

const MTVEC: u64 = 0x8000_0100;
const STVEC: u64 = 0x8000_0200;

fn bench(privilege: Privilege) -> Bench {
    let mut b = Bench::at("rv64", privilege);
    b.state.mtvec = MTVEC;
    b.state.stvec = STVEC;
    b.state.pc = 0x4444;
    b
}

#[test]
fn exceptions_go_where_delegation_says() {
    let trap = Trap::new(Exception::LoadPage, 0x1234);
    let mut b = bench(Privilege::User);
    b.raise(trap);
    assert_eq!((b.state.privilege, b.state.pc), (Privilege::Machine, MTVEC));
    assert_eq!((b.state.mepc, b.state.mcause, b.state.mtval), (0x4444, 13, 0x1234));
    assert_eq!(b.state.mstatus & MPP, 0);

    let mut b = bench(Privilege::User);
    b.state.medeleg = 1 << 13;
    b.state.mstatus = SIE;
    b.raise(trap);
    assert_eq!((b.state.privilege, b.state.pc), (Privilege::Supervisor, STVEC));
    assert_eq!((b.state.sepc, b.state.scause, b.state.stval), (0x4444, 13, 0x1234));
    assert_eq!(b.state.mstatus & (SIE | SPIE | SPP), SPIE);

    let mut b = bench(Privilege::Machine);
    b.state.medeleg = 1 << 13;
    b.raise(trap);
    assert_eq!((b.state.privilege, b.state.pc), (Privilege::Machine, MTVEC));
    assert_eq!(b.state.mstatus & MPP, MPP);
}

#[test]
fn returns_undo_entries() {
    let mut b = bench(Privilege::Supervisor);
    b.state.mstatus |= MIE | MPRV;
    b.raise(Trap::illegal(0));
    assert_eq!(b.state.mstatus & (MIE | MPIE), MPIE);
    b.mret().unwrap();
    assert_eq!((b.state.privilege, b.state.pc), (Privilege::Supervisor, 0x4444));
    assert_eq!(b.state.mstatus & (MIE | MPIE | MPP | MPRV), MIE | MPIE);

    let mut b = bench(Privilege::Supervisor);
    b.state.medeleg = !0;
    b.state.mstatus |= SIE;
    b.raise(Trap::illegal(0));
    assert_ne!(b.state.mstatus & SPP, 0);
    b.sret().unwrap();
    assert_eq!((b.state.privilege, b.state.pc), (Privilege::Supervisor, 0x4444));
    assert_eq!(b.state.mstatus & (SIE | SPIE | SPP), SIE | SPIE);
}

#[test]
fn returns_need_their_privilege() {
    assert_eq!(bench(Privilege::Supervisor).mret(), Err(Trap::illegal(0x3020_0073)));
    assert_eq!(bench(Privilege::User).sret(), Err(Trap::illegal(0x1020_0073)));
    let mut b = bench(Privilege::Supervisor);
    b.state.mstatus |= TSR;
    assert!(b.sret().is_err());
    let wfi = |b: &mut Bench| crate::helpers_sys::wfi(&mut b.cpu(), [0; 3]);
    assert!(wfi(&mut b).is_ok());
    b.state.mstatus |= TW;
    assert!(wfi(&mut b).is_err());
    assert!(wfi(&mut bench(Privilege::User)).is_err());
}

#[test]
fn interrupts_are_taken_in_order_of_urgency() {
    let mut b = bench(Privilege::Supervisor);
    b.state.mideleg = SSIP | STIP | SEIP;
    b.state.mie = !0;
    b.state.menvcfg |= STCE;
    b.state.mip = SSIP | LCOFIP;
    b.state.mstatus = SIE | MIE;
    b.memory.lines = MEIP | MSIP | MTIP | SEIP | STIP;
    for (number, line) in [(11, MEIP), (3, MSIP), (7, MTIP)] {
        assert!(b.interrupt());
        assert_eq!((b.state.mcause, b.state.privilege), (INTERRUPT | number, Privilege::Machine));
        b.memory.lines &= !line;
        b.mret().unwrap();
    }
    b.state.mideleg |= LCOFIP;
    for (number, bit) in [(9, SEIP), (1, SSIP), (5, STIP), (13, LCOFIP)] {
        assert!(b.interrupt());
        assert_eq!((b.state.scause, b.state.pc), (INTERRUPT | number, STVEC));
        b.memory.lines &= !bit;
        b.state.mip &= !bit;
        b.sret().unwrap();
    }
    assert!(!b.interrupt());
}

#[test]
fn a_level_masks_its_own_interrupts_but_not_those_of_levels_above() {
    let mut b = bench(Privilege::Supervisor);
    b.state.mideleg = SEIP;
    b.state.mie = SEIP | MTIP;
    b.memory.lines = SEIP;
    assert!(!b.interrupt(), "SIE is clear");
    assert!(wakes(&mut b.cpu()));
    b.memory.lines |= MTIP;
    assert!(b.interrupt());
    assert_eq!(b.state.mcause, INTERRUPT | 7);
    assert!(!b.interrupt(), "MIE is clear now");
    let mut b = bench(Privilege::User);
    b.state.mideleg = SEIP;
    b.state.mie = SEIP;
    b.memory.lines = SEIP;
    assert!(b.interrupt(), "U-mode cannot mask");
    assert_eq!(b.state.privilege, Privilege::Supervisor);
}

#[test]
fn vectored_mode_spreads_interrupts_only() {
    let mut b = bench(Privilege::Machine);
    b.state.mtvec = MTVEC | 1;
    b.state.mie = MTIP;
    b.state.mstatus = MIE;
    b.memory.lines = MTIP;
    assert!(b.interrupt());
    assert_eq!(b.state.pc, MTVEC + 28);
    b.raise(Trap::illegal(0));
    assert_eq!(b.state.pc, MTVEC);
}

#[test]
fn priorities_of_the_advanced_architecture_reorder_interrupts() {
    let mut b = Bench::at("rv64,smaia=on,ssaia=on", Privilege::Supervisor);
    b.state.mideleg = SSIP | STIP;
    b.state.mie = SSIP | STIP;
    b.state.mip = SSIP | STIP;
    assert_eq!(top(&mut b.cpu(), true), Some((1, 255)));
    b.state.siprio.0[5] = 3;
    assert_eq!(top(&mut b.cpu(), true), Some((5, 3)));
    b.state.siprio.0[1] = 2;
    assert_eq!(top(&mut b.cpu(), true), Some((1, 2)));
}

#[test]
fn what_is_cached_is_forgotten_when_mxr_or_mprv_change() {
    let mut b = bench(Privilege::Machine);
    b.state.mstatus = 1 << MPP_SHIFT;
    b.swap(0x300, MXR | 1 << MPP_SHIFT).unwrap();
    assert_eq!(b.memory.flushes, [isa::Flush::All]);
    b.swap(0x300, MXR | MPRV | 1 << MPP_SHIFT).unwrap();
    assert_eq!(b.memory.flushes, [isa::Flush::All, isa::Flush::All]);
    b.swap(0x300, MXR | MPRV | MIE | 1 << MPP_SHIFT).unwrap();
    assert_eq!(b.memory.flushes, [isa::Flush::All, isa::Flush::All]);
}

#[test]
fn a_hart_saves_and_restores_between_instructions() {
    let mut b = bench(Privilege::User);
    b.raise(Trap::illegal(7));
    let bytes = encode(&b.state.save());
    let mut other = State::default();
    other.restore(&decode(&bytes).unwrap()).unwrap();
    assert_eq!(encode(&other.save()), bytes);
    assert_eq!(other.mtval, 7);
}
