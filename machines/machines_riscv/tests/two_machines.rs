//! Two machines in one process, and a machine that goes on as another.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bare;

use bare::{A0, A1, A2, Asked, Guest, Program, RAM, T0, ZERO, virt_board};

/// Where the program counts its rounds.
const ROUNDS: u64 = RAM + 0x10_0000;

/// What a program waits for, after half of its rounds, to become other than 0.
const GATE: u64 = ROUNDS + 8;

/// A [`gated`] program that does not wait.
fn mixer(seed: u32, rounds: u32, mark: u8) -> Guest {
    let guest = gated(seed, rounds, mark);
    open(&guest);
    guest
}

fn open(guest: &Guest) {
    guest.machine.space().store(memory::Gpa(GATE), 8, 1).unwrap();
}

/// Mixes `seed` for `rounds` rounds, counting them in RAM, and ends with the low byte.
fn gated(seed: u32, rounds: u32, mark: u8) -> Guest {
    let mut p = Program::default();
    p.li(T0, (ROUNDS >> 1) as u32).slli(T0, T0, 1).li(A0, seed);
    for half in [rounds / 2, rounds - rounds / 2] {
        p.li(A1, half);
        let again = p.here();
        p.slli(A2, A0, 13).xor(A0, A0, A2).srli(A2, A0, 7).xor(A0, A0, A2);
        p.slli(A2, A0, 17).xor(A0, A0, A2);
        p.sd(A1, 0, T0).addi(A1, A1, -1).bne(A1, ZERO, again);
        let wait = p.here();
        p.ld(A2, 8, T0).beq(A2, ZERO, wait);
    }
    p.print(mark).slli(A0, A0, 56).srli(A0, A0, 56).finish(A0);
    virt_board("rv64", 1, p.bytes(), |_| {})
}

/// What [`gated`] ends with.
fn mixed(seed: u64, rounds: u32) -> u32 {
    let step = |x: u64, _| {
        let x = x ^ x << 13;
        let x = x ^ x >> 7;
        x ^ x << 17
    };
    ((0..rounds).fold(seed, step) & 0xff) as u32
}

#[test]
fn two_machines_run_at_the_same_time_to_their_own_results() {
    let (one, other) = (mixer(0x0123_4567, 400_000, b'1'), mixer(0x0765_4321, 300_000, b'2'));
    one.machine.resume();
    other.machine.resume();
    assert_eq!(other.asks(), Asked::End(mixed(0x0765_4321, 300_000)));
    assert_eq!(one.asks(), Asked::End(mixed(0x0123_4567, 400_000)));
    assert_eq!((one.printed().as_str(), other.printed().as_str()), ("1", "2"));
}

#[test]
fn one_resets_while_the_other_runs() {
    let (one, other) = (mixer(5, 400_000, b'1'), mixer(77, 1000, b'2'));
    one.machine.resume();
    one.wait_for_change(ROUNDS, 0);
    for _ in 0..20 {
        assert_eq!(other.runs_to(), Asked::End(mixed(77, 1000)));
        other.machine.reset();
    }
    assert_eq!(one.asks(), Asked::End(mixed(5, 400_000)));
    assert_eq!(one.printed(), "1");
}

#[test]
fn a_saved_machine_restores_to_the_same_state_and_result() {
    let one = gated(99, 200_000, b'x');
    one.machine.resume();
    one.wait_for_change(ROUNDS, 0);
    one.machine.pause();
    let (saved, ram) = (one.machine.save(), one.ram());

    let copy = gated(99, 200_000, b'x');
    copy.set_ram(&ram);
    copy.machine.restore(&saved).unwrap();
    assert_eq!(copy.machine.save(), saved);
    let result = Asked::End(mixed(99, 200_000));
    open(&one);
    open(&copy);
    assert_eq!(copy.runs_to(), result);
    assert_eq!(copy.printed(), "x");
    assert_eq!(one.runs_to(), result);
}

#[test]
fn state_of_another_machine_is_refused() {
    let (one, other) = (mixer(1, 10, b'1'), virt_board("rv64", 2, vec![0; 4], |_| {}));
    assert!(one.machine.restore(&other.machine.save()).is_err());
}

#[test]
fn every_shape_of_the_board_saves_and_restores() {
    use machines_riscv::virt::Aia;
    for aia in [Aia::None, Aia::Aplic, Aia::AplicImsic] {
        for aclint in [false, true] {
            let board = || {
                virt_board("rv64", 2, vec![0; 4], |config| {
                    (config.aia, config.aia_guests, config.aclint) = (aia, 3, aclint);
                })
            };
            let (one, copy) = (board(), board());
            let saved = one.machine.save();
            copy.machine.restore(&saved).unwrap();
            assert_eq!(copy.machine.save(), saved, "{aia:?}, aclint {aclint}");
        }
    }
}

#[test]
fn messages_of_devices_reach_interrupt_controllers_and_no_device() {
    use machines_riscv::virt::Aia;
    for (aia, takers) in
        [(Aia::None, &[][..]), (Aia::AplicImsic, &["riscv.aplic", "riscv.imsic"][..])]
    {
        let board = virt_board("rv64", 1, vec![0; 4], |config| config.aia = aia);
        let space = board.machine.space();
        let mut took: Vec<String> = Vec::new();
        for region in space.regions() {
            let registers = matches!(region.backing, memory::Backing::Io(_));
            // Every register of fw_cfg is among these, its DMA address too.
            let any = (0..region.len.min(0x1000)).step_by(4);
            let taken = any.filter(|at| space.send(memory::Gpa(region.base.0 + at), 1).is_ok());
            if taken.count() != 0 && registers {
                took.push(region.name.clone());
            }
        }
        took.sort();
        took.dedup();
        assert_eq!(took, takers, "{aia:?}");
    }
}
