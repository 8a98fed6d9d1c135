//! Tests of both ways of delivery.

use super::*;
use device::{LineSink, RecordedLines, RecordedMessages, SeededRandom, assert_saves_and_restores};

const CONFIG: AplicConfig = AplicConfig { sources: 96, harts: 2, priority_bits: 3 };
const S: Domain = Domain::Supervisor;
const M: Domain = Domain::Machine;

/// Lines 0 and 1 are the harts' machine level, 2 and 3 their supervisor level.
fn direct() -> (Arc<RecordedLines>, Shared<Aplic>) {
    let lines = Arc::new(RecordedLines::default());
    let wire = |i| Wire::to(Arc::clone(&lines) as Arc<dyn LineSink>, i);
    let (machine, supervisor) = ((0..2).map(wire).collect(), (2..4).map(wire).collect());
    (Arc::clone(&lines), Aplic::direct(CONFIG, machine, supervisor))
}

fn messages() -> (Arc<RecordedMessages>, Shared<Aplic>) {
    let sink = Arc::new(RecordedMessages::default());
    (sink.clone(), Aplic::with_messages(CONFIG, sink))
}

/// Delegates source 5, a high level, to the supervisor, enabled and targeted at hart 1.
fn delegate(aplic: &Shared<Aplic>, target: u32) {
    let mut a = aplic.lock();
    a.write(M, 0x14, 0x400);
    a.write(S, 0x14, 6);
    a.write(S, 0x3014, 1 << 18 | target);
    a.write(S, 0x1edc, 5);
    a.write(S, 0, 0x100);
    a.write(S, 0x4020, 1);
}

#[test]
fn registers_keep_the_bits_that_exist() {
    let (_, aplic) = direct();
    let mut a = aplic.lock();
    a.write(M, 0, 0xffff_ffff);
    assert_eq!(a.read(M, 0), 0x8000_0100);
    let kept = [(0xffff_ffff, 0x400), (3, 0), (6, 6), (1, 1)];
    for (value, kept) in kept {
        a.write(M, 4, value);
        assert_eq!(a.read(M, 4), kept);
    }
    a.write(M, 4 * 97, 6);
    assert_eq!(a.read(M, 4 * 97), 0);
    assert_eq!(a.read(M, 0x3004), 1);
    a.write(M, 0x3004, 0xffff_ffff);
    assert_eq!(a.read(M, 0x3004), 0xfffc_0007);
    a.write(M, 0x1e00, 0xffff_ffff);
    assert_eq!(a.read(M, 0x1e00), 2);
    a.write(M, 0x1bc0, 7);
    assert_eq!(a.read(M, 0x1bc0), 0);
    a.write(M, 0x4008, 0xff);
    assert_eq!(a.read(M, 0x4008), 7);
}

#[test]
fn a_delegated_level_reaches_the_supervisor_line() {
    let (lines, aplic) = direct();
    delegate(&aplic, 3);
    aplic.lock().set_line(5, true);
    assert_eq!(lines.take(), [(3, true)]);
    let mut a = aplic.lock();
    assert_eq!((a.read(S, 0x1c00), a.read(S, 0x1d00), a.read(M, 0x1c00)), (0x20, 0x20, 0));
    assert_eq!(a.read(S, 0x403c), 5 << 16 | 3);
    assert_eq!(a.read(S, 0x4038), 5 << 16 | 3);
    a.write(S, 0x4028, 3);
    assert_eq!(a.read(S, 0x4038), 0);
    a.write(S, 0x4028, 0);
    a.set_line(5, false);
    assert_eq!(a.read(S, 0x4038), 0);
    drop(a);
    assert_eq!(lines.take(), [(3, false), (3, true), (3, false)]);
}

#[test]
fn an_edge_lasts_until_it_is_claimed() {
    let (lines, aplic) = direct();
    let mut a = aplic.lock();
    for (register, value) in [(8, 5), (0x3008, 2), (0x1edc, 2), (0, 0x100), (0x4000, 1)] {
        a.write(M, register, value);
    }
    a.set_line(2, true);
    assert_eq!(lines.take(), []);
    a.set_line(2, false);
    assert_eq!(lines.take(), [(0, true)]);
    a.set_line(2, true);
    assert_eq!(a.read(M, 0x401c), 2 << 16 | 2);
    assert_eq!(a.read(M, 0x401c), 0);
    a.write(M, 0x1cdc, 2);
    a.write(M, 0x1ddc, 2);
    assert_eq!(lines.take(), [(0, false), (0, true), (0, false)]);
}

#[test]
fn a_forced_interrupt_ends_with_an_empty_claim() {
    let (lines, aplic) = direct();
    let mut a = aplic.lock();
    a.write(M, 0, 0x100);
    a.write(M, 0x4000, 1);
    a.write(M, 0x4004, 1);
    assert_eq!(a.read(M, 0x401c), 0);
    assert_eq!(lines.take(), [(0, true), (0, false)]);
}

#[test]
fn taking_a_source_back_removes_it_below() {
    let (lines, aplic) = direct();
    delegate(&aplic, 1);
    aplic.lock().set_line(5, true);
    aplic.lock().write(M, 0x14, 0);
    assert_eq!(aplic.lock().read(S, 0x14), 0);
    assert_eq!(lines.take(), [(3, true), (3, false)]);
    aplic.lock().write(S, 0x14, 6);
    assert_eq!(aplic.lock().read(S, 0x14), 0);
}

#[test]
fn messages_go_to_the_file_of_the_target() {
    let (sink, aplic) = messages();
    // Pages from 0x2800_0000 on, two per hart (one guest file), one bit of hart index.
    for (register, value) in
        [(0x1bc0, 0x2_4000), (0x1bc4, 0x1000), (0x1bc8, 0x2_8000), (0x1bcc, 1 << 20)]
    {
        aplic.lock().write(M, register, value);
    }
    delegate(&aplic, 0x1000 | 33);
    assert_eq!(aplic.lock().read(M, 0), 0x8000_0004);
    aplic.lock().set_line(5, true);
    assert_eq!(sink.take(), [(0x2800_3000, 33)]);
    assert_eq!(aplic.lock().read(S, 0x1c00), 0);
    aplic.lock().write(S, 0x2000, 5);
    assert_eq!(sink.take(), [(0x2800_3000, 33)]);
    aplic.lock().set_line(5, false);
    aplic.lock().write(S, 0x1cdc, 5);
    assert_eq!(sink.take(), []);
    aplic.lock().write(M, 0x3000, 1 << 18 | 9);
    assert_eq!(sink.take(), [(0x2400_1000, 9)]);
}

#[test]
fn a_lock_keeps_the_addresses() {
    let (_, aplic) = messages();
    let mut a = aplic.lock();
    a.write(M, 0x1bc4, 0x7fff_ffff);
    assert_eq!(a.read(M, 0x1bc4), 0x1f77_ffff);
    a.write(M, 0x1bc4, 0x8000_0000);
    a.write(M, 0x1bc0, 1);
    a.write(M, 0x1bc4, 1);
    assert_eq!((a.read(M, 0x1bc0), a.read(M, 0x1bc4)), (0, 0x8000_0000));
}

#[test]
fn saves_and_restores() {
    let (_, aplic) = direct();
    delegate(&aplic, 3);
    aplic.lock().set_line(5, true);
    let (lines, fresh) = direct();
    assert_saves_and_restores(&*aplic.lock(), &mut *fresh.lock());
    assert_eq!(lines.take(), [(3, true)]);
    let other = Aplic::direct(AplicConfig { sources: 5, ..CONFIG }, vec![], vec![]);
    assert!(other.lock().restore(&aplic.lock().save()).is_err());
}

#[test]
fn random_accesses_are_harmless() {
    for aplic in [direct().1, messages().1] {
        let mut random = SeededRandom::new(11);
        for _ in 0..20_000 {
            let domain = if random.below(2) == 0 { M } else { S };
            let base =
                [0, 0x1bc0, 0x1c00, 0x1e00, 0x2000, 0x3000, 0x4000][random.below(7) as usize];
            let window = DomainWindow::new(aplic.clone(), domain);
            let offset = base + random.below(0x100) * 4;
            match random.below(3) {
                0 => window.write(offset, 4, random.next_u64() & 0xffff_ffff),
                1 => drop(window.read(offset, 4)),
                _ => aplic.lock().set_line(random.below(100) as u32, random.below(2) == 1),
            }
        }
    }
}
