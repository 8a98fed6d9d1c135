//! Boards with small programs: consoles, ends, resets, harts of either width.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bare;

use bare::{A0, A1, A2, Asked, Program, RAM, T0, T1, T2, ZERO, elf, spike_board, virt_board};
use machines_riscv::spike::Signature;
use std::sync::{Arc, Mutex};

/// Prints `text` through `tohost` and ends with `code`; the words are at T0 and T1.
fn htif(p: &mut Program, text: &str, code: u32) {
    for byte in text.bytes() {
        p.addi(A1, ZERO, 0x101).slli(A1, A1, 48).addi(A1, A1, byte.into()).sd(A1, 0, T0);
        let wait = p.here();
        p.ld(A2, 0, T1).beq(A2, ZERO, wait).sd(ZERO, 0, T1);
    }
    p.li(A1, code << 1 | 1).sd(A1, 0, T0).stop();
}

#[test]
fn spike_runs_a_program_that_has_the_words_in_the_page_of_its_code() {
    let mut p = Program::default();
    p.li(T0, 0x4000_0200).slli(T0, T0, 1).addi(T1, T0, 64);
    htif(&mut p, "tiny", 300);
    let symbols = [("tohost", RAM + 0x400), ("fromhost", RAM + 0x440)];
    let guest = spike_board(elf(&p.bytes(), &symbols), None);
    assert_eq!(guest.runs_to(), Asked::End(300));
    assert_eq!(guest.printed(), "tiny");
}

/// A program of four instructions that leaves a number and ends.
#[test]
fn spike_writes_what_a_program_left_between_two_symbols() {
    struct Written(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut p = Program::default();
    p.li(T0, 0x4000_0200).slli(T0, T0, 1).addi(T1, T0, 64);
    p.li(A1, 0x0123_4567).sd(A1, 0x80, T0);
    htif(&mut p, "", 0);
    let symbols = [
        ("tohost", RAM + 0x400),
        ("fromhost", RAM + 0x440),
        ("begin_signature", RAM + 0x480),
        ("end_signature", RAM + 0x486),
    ];
    let written = Arc::new(Mutex::new(Vec::new()));
    let file = Box::new(Written(Arc::clone(&written)));
    let signature = Some(Signature { file, granularity: 4 });
    let guest = spike_board(elf(&p.bytes(), &symbols), signature);
    assert_eq!(guest.runs_to(), Asked::End(0));
    assert_eq!(*written.lock().unwrap(), b"01234567\n00000000\n");
}

#[test]
fn spike_has_the_words_at_a_fixed_address_for_programs_without_symbols() {
    let mut p = Program::default();
    p.li(T1, 0x0100_0000).addi(T0, T1, 8);
    htif(&mut p, "raw", 3);
    let guest = spike_board(p.bytes(), None);
    assert_eq!(guest.runs_to(), Asked::End(3));
    assert_eq!(guest.printed(), "raw");
}

#[test]
fn a_32_bit_hart_starts_and_ends_virt() {
    let mut p = Program::default();
    // Adding 1 to the largest number gives 0 in 32 bits only.
    p.li(A0, 0xffff_ffff).srli(A1, A0, 31).addi(A1, A1, 4).print(b'3').print(b'2').finish(A1);
    let guest = virt_board("rv32", 1, p.bytes(), |_| {});
    assert_eq!(guest.runs_to(), Asked::End(5));
    assert_eq!(guest.printed(), "32");
}

#[test]
fn virt_starts_again_after_a_reset() {
    let mut p = Program::default();
    // The first run finds 0 in RAM that no reset clears, leaves 1 there, and asks for a reset.
    p.li(T0, 0x4010_0000).slli(T0, T0, 1).ld(A0, 0, T0).addi(A1, ZERO, 1).sd(A1, 0, T0);
    let branch = p.here();
    p.0.push(0);
    p.li(T1, 0x10_0000).li(T2, 0x7777).sw(T2, 0, T1).stop();
    let second = p.here();
    p.print(b'!').addi(A0, ZERO, 9).finish(A0);
    let mut patch = Program(vec![0; branch]);
    patch.bne(A0, ZERO, second);
    p.0[branch] = patch.0[branch];
    let guest = virt_board("rv64", 1, p.bytes(), |_| {});
    assert_eq!(guest.runs_to(), Asked::Reset);
    assert_eq!(guest.printed(), "");
    guest.machine.reset();
    assert_eq!(guest.asks(), Asked::End(9));
    assert_eq!(guest.printed(), "!");
}

const MIP: u32 = 0x344;
const MIE: u32 = 0x304;

#[test]
fn an_aclint_sets_the_supervisor_software_interrupt_of_the_other_hart() {
    let mut p = Program::default();
    p.csrr(A0, 0xf14);
    let branch = p.here();
    p.0.push(0);
    // Hart 0 pulses SETSSIP of hart 1.
    p.li(T0, 0x02f0_0000).addi(T1, ZERO, 1).sw(T1, 4, T0).stop();
    // Hart 1 sleeps until it has the interrupt, which stays until it is cleared.
    let other = p.here();
    p.addi(T1, ZERO, 2).csrw(MIE, T1);
    let wait = p.here();
    p.wfi().csrr(A0, MIP).beq(A0, ZERO, wait).csrr(A1, MIP).csrw(MIP, ZERO).csrr(A2, MIP);
    p.slli(A0, A1, 4).add(A0, A0, A2).finish(A0);
    let mut patch = Program(vec![0; branch]);
    patch.bne(A0, ZERO, other);
    p.0[branch] = patch.0[branch];
    let guest = virt_board("rv64", 2, p.bytes(), |config| config.aclint = true);
    assert_eq!(guest.runs_to(), Asked::End(0x20));
}

#[test]
fn setting_the_time_ends_a_wait_for_the_supervisor_timer() {
    let (menvcfg, stimecmp) = (0x30a, 0x14d);
    let mut p = Program::default();
    // The supervisor timer is on, and a day away.
    p.addi(T0, ZERO, 1).slli(T0, T0, 63).csrw(menvcfg, T0);
    p.addi(A0, ZERO, 1).slli(A0, A0, 40).csrw(stimecmp, A0);
    p.addi(T1, ZERO, 0x20).csrw(MIE, T1);
    p.li(T0, 0x0200_bff8).sd(A0, 0, T0).wfi();
    p.csrr(A1, MIP).srli(A1, A1, 5).finish(A1);
    let guest = virt_board("rv64", 1, p.bytes(), |_| {});
    assert_eq!(guest.runs_to(), Asked::End(1));
}
