//! Walks over page tables in flat memory.

use super::*;
use crate::bench::{Bench, RAM};
use crate::status::PBMTE;
use crate::trap::Exception as E;

const ROOT: u64 = RAM + 0x10_0000;
/// A page that leaves point at.
const PAGE: u64 = RAM + 0x3_4000;
const RWX: u64 = V | R | W | X;

fn satp(mode: u64) -> u64 {
    mode << 60 | ROOT >> 12
}

fn pte(gpa: u64, bits: u64) -> u64 {
    gpa >> 12 << 10 | bits
}

/// An S-mode bench with an empty table.
fn bench(cpu: &str, mode: u64) -> Bench {
    let mut b = Bench::at(cpu, Privilege::Supervisor);
    b.state.satp = if b.hart.is_rv32() { 1 << 31 | ROOT >> 12 } else { satp(mode) };
    b
}

/// Builds the tables down to `level` for `gva`; the address of the entry there, which is set.
fn map(b: &mut Bench, levels: u32, gva: u64, level: u32, leaf: u64) -> u64 {
    let (bits, size) = if b.hart.is_rv32() { (10, 4) } else { (9, 8) };
    let mut table = ROOT;
    for l in (level..levels).rev() {
        let at = table + (gva >> (12 + l * bits) & ((1 << bits) - 1)) * u64::from(size);
        if l == level {
            b.memory.put(at, size, leaf);
            return at;
        }
        let next = ROOT + 0x1000 * u64::from(levels - l);
        b.memory.put(at, size, pte(next, V));
        table = next;
    }
    unreachable!("the loop returns at `level`")
}

#[test]
fn every_mode_finds_a_page_at_its_last_level() {
    let modes = [("rv64", 8, 3, 0x3f_1234_5678), ("rv64", 9, 4, 0x7fff_1234_5678)];
    let more = [("rv64", 10, 5, 0xff_ffff_1234_5678), ("rv32", 1, 2, 0x1234_5678)];
    for (cpu, mode, levels, gva) in modes.into_iter().chain(more) {
        let mut b = bench(cpu, mode);
        map(&mut b, levels, gva, 0, pte(PAGE, RWX | A | D));
        let m = b.translate(Access::Load, gva).unwrap();
        assert_eq!(m.gpa, PAGE | 0x678, "{cpu} mode {mode}");
        assert!(m.read && m.write && m.execute && m.whole_page);
        let debug = debug_translate(&mut b.cpu(), gva);
        assert_eq!(debug, Some(PAGE | 0x678));
    }
}

#[test]
fn addresses_that_are_no_sign_extension_fault() {
    for (mode, gva) in [(8, 1 << 38), (8, !0 << 40), (9, 1 << 47), (10, 1 << 56)] {
        let mut b = bench("rv64", mode);
        let trap = b.translate(Access::Store, gva).unwrap_err();
        assert_eq!(trap, Trap::new(E::StorePage, gva));
    }
    let mut b = bench("rv64", 8);
    let high = !0 << 38;
    map(&mut b, 3, high, 0, pte(PAGE, RWX | A | D));
    assert_eq!(b.translate(Access::Load, high | 8).unwrap().gpa, PAGE | 8);
}

#[test]
fn superpages_take_the_low_bits_from_the_address_and_must_be_aligned() {
    let mut b = bench("rv64", 8);
    let gva = 0x4020_3004;
    map(&mut b, 3, gva, 1, pte(RAM + (4 << 20), RWX | A | D));
    assert_eq!(b.translate(Access::Fetch, gva).unwrap().gpa, RAM + (4 << 20) + 0x3004);
    map(&mut b, 3, gva, 1, pte(RAM + (4 << 20) + 0x1000, RWX | A | D));
    assert_eq!(b.translate(Access::Fetch, gva), Err(Trap::new(E::FetchPage, gva)));
}

#[test]
fn malformed_entries_fault() {
    let gva = 0x5000;
    let bad = [
        0,
        R | X,
        V | W,
        V | W | X,
        RWX | 1 << 54,
        RWX | 1 << 60,
        RWX | 1 << 61,
        RWX | 3 << 61,
        RWX | N,
        V,
    ];
    for bits in bad {
        let mut b = bench("rv64", 8);
        map(&mut b, 3, gva, 0, pte(PAGE, bits | A | D));
        assert_eq!(b.translate(Access::Load, gva), Err(Trap::new(E::LoadPage, gva)), "{bits:#x}");
    }
    for bits in [A, D, U, 1 << 61, N] {
        let mut b = bench("rv64,svnapot=on,svpbmt=on", 8);
        map(&mut b, 3, gva, 0, pte(PAGE, RWX | A | D));
        map(&mut b, 3, gva, 1, pte(ROOT + 0x2000, V | bits));
        assert!(b.translate(Access::Load, gva).is_err(), "pointer with {bits:#x}");
    }
}

#[test]
fn rights_follow_privilege_sum_and_mxr() {
    // Entry, privilege, SUM, MXR, then whether load, store, fetch work.
    let table = [
        (V | R | U, Privilege::User, false, false, [true, false, false]),
        (RWX, Privilege::User, true, false, [false, false, false]),
        (RWX | U, Privilege::User, false, false, [true, true, true]),
        (RWX | U, Privilege::Supervisor, false, false, [false, false, false]),
        (RWX | U, Privilege::Supervisor, true, false, [true, true, false]),
        (RWX, Privilege::Supervisor, true, false, [true, true, true]),
        (V | X, Privilege::Supervisor, false, false, [false, false, true]),
        (V | X, Privilege::Supervisor, false, true, [true, false, true]),
    ];
    for (bits, privilege, sum, mxr, expected) in table {
        let mut b = bench("rv64", 8);
        b.state.privilege = privilege;
        b.state.mstatus |= if sum { SUM } else { 0 } | if mxr { MXR } else { 0 };
        map(&mut b, 3, 0x5000, 0, pte(PAGE, bits | A | D));
        for (access, works) in
            [Access::Load, Access::Store, Access::Fetch].into_iter().zip(expected)
        {
            let found = b.translate(access, 0x5000);
            assert_eq!(found.is_ok(), works, "{bits:#x} {privilege:?} {access:?}");
            if let Ok(m) = found {
                assert_eq!([m.read, m.write, m.execute], expected);
            }
        }
    }
}

#[test]
fn hardware_sets_accessed_then_dirty_and_lets_stores_through_only_then() {
    let mut b = bench("rv64", 8);
    let at = map(&mut b, 3, 0x5000, 0, pte(PAGE, RWX));
    let m = b.translate(Access::Load, 0x5000).unwrap();
    assert!(m.read && !m.write);
    assert_eq!(b.memory.get(at, 8), pte(PAGE, RWX | A));
    let m = b.translate(Access::Store, 0x5000).unwrap();
    assert!(m.write);
    assert_eq!(b.memory.get(at, 8), pte(PAGE, RWX | A | D));
}

#[test]
fn without_hardware_updates_a_clear_bit_faults() {
    for cpu in ["rv64", "rv64,svade=on", "rva22s64"] {
        let mut b = bench(cpu, 8);
        b.state.menvcfg &= !ADUE;
        let at = map(&mut b, 3, 0x5000, 0, pte(PAGE, RWX));
        assert_eq!(b.translate(Access::Load, 0x5000), Err(Trap::new(E::LoadPage, 0x5000)));
        b.memory.put(at, 8, pte(PAGE, RWX | A));
        assert!(!b.translate(Access::Load, 0x5000).unwrap().write);
        assert_eq!(b.translate(Access::Atomic, 0x5000), Err(Trap::new(E::StorePage, 0x5000)));
        assert_eq!(b.memory.get(at, 8), pte(PAGE, RWX | A));
    }
}

#[test]
fn an_update_that_lost_a_race_starts_over() {
    let mut b = bench("rv64", 8);
    let at = map(&mut b, 3, 0x5000, 0, pte(PAGE, RWX));
    b.memory.race = Some((at, pte(PAGE + 0x1000, RWX)));
    assert_eq!(b.translate(Access::Store, 0x5000).unwrap().gpa, PAGE + 0x1000);
    assert_eq!(b.memory.get(at, 8), pte(PAGE + 0x1000, RWX | A | D));
    let at = map(&mut b, 3, 0x6000, 0, pte(PAGE, RWX));
    b.memory.race = Some((at, 0));
    assert_eq!(b.translate(Access::Load, 0x6000), Err(Trap::new(E::LoadPage, 0x6000)));
    assert_eq!(b.memory.get(at, 8), 0);
}

#[test]
fn napot_pages_span_sixteen_and_page_types_need_their_switch() {
    let mut b = bench("rv64,svnapot=on,svpbmt=on", 8);
    let gva = 0x1_b123;
    let base = RAM + 0x5_0000;
    map(&mut b, 3, gva, 0, pte(base + 0x8000, RWX | A | D) | N);
    assert_eq!(b.translate(Access::Load, gva).unwrap().gpa, base + 0xb123);
    map(&mut b, 3, gva, 0, pte(base + 0x4000, RWX | A | D) | N);
    assert!(b.translate(Access::Load, gva).is_err(), "only 64 KiB exists");
    map(&mut b, 3, gva, 0, pte(PAGE, RWX | A | D) | 2 << 61);
    assert_eq!(b.translate(Access::Load, gva).unwrap().gpa, PAGE | 0x123);
    b.state.menvcfg &= !PBMTE;
    assert!(b.translate(Access::Load, gva).is_err());
}

#[test]
fn tables_and_pages_out_of_reach_are_access_faults() {
    let mut b = bench("rv64", 8);
    map(&mut b, 3, 0x5000, 0, pte(PAGE, RWX | A | D));
    // Nothing may be touched in the page that the leaf points at.
    b.state.pmpcfg[0] = 0x18;
    b.state.pmpaddr[0] = (PAGE | 0x7ff) >> 2;
    assert_eq!(b.translate(Access::Load, 0x5000), Err(Trap::new(E::LoadAccess, 0x5000)));
    // The same of the root table.
    b.state.pmpaddr[0] = (ROOT | 0x7ff) >> 2;
    assert_eq!(b.translate(Access::Fetch, 0x5000), Err(Trap::new(E::FetchAccess, 0x5000)));
    b.state.pmpcfg[0] = 0;
    // No memory where the root should be.
    b.state.satp = 8 << 60 | 0x1000;
    assert_eq!(b.translate(Access::Store, 0x5000), Err(Trap::new(E::StoreAccess, 0x5000)));
}

#[test]
fn setting_a_bit_in_a_read_only_table_is_an_access_fault() {
    let mut b = bench("rv64", 8);
    map(&mut b, 3, 0x5000, 0, pte(PAGE, RWX));
    b.state.pmpcfg[0] = 0x19;
    b.state.pmpaddr[0] = (ROOT | 0x1fff) >> 2;
    assert_eq!(b.translate(Access::Load, 0x5000), Err(Trap::new(E::LoadAccess, 0x5000)));
}

#[test]
fn mprv_moves_data_accesses_only_and_is_not_cached_for_code() {
    let mut b = bench("rv64", 8);
    map(&mut b, 3, 0x5000, 0, pte(PAGE, RWX | A | D));
    b.state.privilege = Privilege::Machine;
    assert_eq!(b.translate(Access::Load, 0x5000).unwrap().gpa, 0x5000);
    b.state.mstatus |= MPRV | 1 << MPP_SHIFT;
    let data = b.translate(Access::Load, 0x5000).unwrap();
    assert_eq!((data.gpa, data.execute), (PAGE, false));
    let code = b.translate(Access::Fetch, 0x5000).unwrap();
    assert_eq!((code.gpa, code.execute), (0x5000, true));
}

#[test]
fn addresses_of_rv32_wrap() {
    let mut b = bench("rv32", 1);
    map(&mut b, 2, 0xffff_f000, 0, pte(PAGE, RWX | A | D));
    assert_eq!(b.translate(Access::Load, !0).unwrap().gpa, PAGE | 0xfff);
    map(&mut b, 2, 0xffff_f000, 0, 0);
    let trap = b.translate(Access::Load, !0xff).unwrap_err();
    assert_eq!(trap.tval, 0xffff_ff00);
    b.raise(trap);
    assert_eq!(b.state.mtval, !0xff);
}

#[test]
fn masked_pointers_lose_their_upper_bits_by_mode_and_kind_of_address() {
    use Privilege::{Machine, Supervisor, User};
    let gva = 0x5123;
    let table = [
        // Privilege, fields of senvcfg, menvcfg, mseccfg, pointer, whether it leads to the page.
        (User, [3, 0, 0], 0xabcd << 48 | gva, true),
        (User, [2, 0, 0], 0xaa << 56 | gva, true),
        (User, [2, 0, 0], 0xabcd << 48 | gva, false),
        (User, [0, 3, 3], 0xabcd << 48 | gva, false),
        (User, [3, 0, 0], 1 << 47 | gva, false),
        (Supervisor, [0, 3, 0], 0xabcd << 48 | gva, true),
        (Supervisor, [3, 0, 3], 0xabcd << 48 | gva, false),
    ];
    for (privilege, fields, pointer, works) in table {
        let mut b = bench("max", 8);
        b.state.privilege = privilege;
        let user = if privilege == User { U } else { 0 };
        map(&mut b, 3, gva, 0, pte(PAGE, RWX | A | D | user));
        [b.state.senvcfg, b.state.menvcfg, b.state.mseccfg] = fields.map(|f| f << PMM_SHIFT);
        let name = format!("{privilege:?} {fields:?} {pointer:#x}");
        let found = b.translate(Access::Load, pointer);
        assert_eq!(found.map(|m| m.gpa).ok(), works.then_some(PAGE | 0x123), "{name}");
        assert!(b.translate(Access::Fetch, pointer).is_err(), "{name}");
        b.state.mstatus |= MXR;
        assert!(b.translate(Access::Store, pointer).is_err(), "{name}");
    }
    // Physical addresses get zeros, whatever the bit below says.
    let mut b = Bench::at("max", Machine);
    b.state.mseccfg = 2 << PMM_SHIFT;
    assert_eq!(b.translate(Access::Load, !0 << 56 | RAM).unwrap().gpa, 1 << 56 | RAM);
    b.state.mseccfg = 3 << PMM_SHIFT;
    assert_eq!(b.translate(Access::Load, !0 << 48 | RAM).unwrap().gpa, RAM);
}

#[test]
fn traps_name_the_address_without_the_mask() {
    let mut b = bench("max", 8);
    b.state.menvcfg = 3 << PMM_SHIFT;
    let pointer = 0xabcd << 48 | 0x5008;
    let trap = b.translate(Access::Load, pointer).unwrap_err();
    assert_eq!(trap, Trap::new(E::LoadPage, 0x5008));
    // What the engine finds out itself knows nothing of masks.
    b.raise(Trap::new(E::StoreMisaligned, pointer | 1));
    assert_eq!(b.state.mtval, 0x5009);
    b.state.privilege = Privilege::Supervisor;
    b.raise(Trap::new(E::FetchPage, pointer));
    assert_eq!(b.state.mtval, pointer);
}
