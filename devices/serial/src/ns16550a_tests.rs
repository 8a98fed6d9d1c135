//! Tests of the UART on a bench.

use super::*;
use device::{RecordedLines, assert_saves_and_restores, hammer_registers};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Line {
    sent: Vec<u8>,
    room: usize,
    invitations: u32,
}

struct Backend(Arc<Mutex<Line>>);

impl SerialBackend for Backend {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut line = self.0.lock().unwrap();
        let n = bytes.len().min(line.room);
        line.room -= n;
        line.sent.extend_from_slice(&bytes[..n]);
        n
    }
    fn accept_input(&mut self) {
        self.0.lock().unwrap().invitations += 1;
    }
}

struct Bench {
    port: Shared<Ns16550a>,
    line: Arc<Mutex<Line>>,
    irq: Wire,
    clock: Clock,
}

fn bench() -> Bench {
    let clock = Clock::manual();
    let (_, irq) = RecordedLines::wire();
    let line = Arc::new(Mutex::new(Line { room: usize::MAX, ..Line::default() }));
    let backend = Box::new(Backend(Arc::clone(&line)));
    let port = Ns16550a::new(Config::default(), irq.clone(), &clock, backend);
    Bench { port, line, irq, clock }
}

impl Bench {
    fn read(&self, reg: u64) -> u8 {
        self.port.lock().read(reg, 1) as u8
    }
    fn write(&self, reg: u64, value: u8) {
        self.port.lock().write(reg, 1, value.into());
    }
    fn receive(&self, bytes: &[u8]) -> usize {
        self.port.lock().receive(bytes)
    }
}

const IER: u64 = 1;
const IIR: u64 = 2;
const FCR: u64 = 2;
const LCR: u64 = 3;
const MCR: u64 = 4;
const LSR: u64 = 5;
const MSR: u64 = 6;

#[test]
fn registers_after_reset() {
    let b = bench();
    let values: Vec<u8> = (0..8).map(|r| b.read(r)).collect();
    assert_eq!(values, [0, 0, 1, 0, 8, 0x60, 0xb0, 0]);
    b.write(LCR, 0x80);
    assert_eq!((b.read(0), b.read(1)), (12, 0));
}

#[test]
fn characters_leave_at_once_and_the_transmitter_interrupt_obeys_iir() {
    let b = bench();
    b.write(IER, ETBEI);
    assert!(b.irq.level());
    assert_eq!(b.read(IIR), 2);
    assert_eq!(b.read(IIR), 1);
    assert!(!b.irq.level());
    b.write(0, b'x');
    assert_eq!(b.line.lock().unwrap().sent, b"x");
    assert!(b.irq.level());
    assert_eq!(b.read(LSR), 0x60);
    b.write(IER, 0);
    assert!(!b.irq.level());
    b.write(IER, ETBEI);
    assert!(b.irq.level());
}

#[test]
fn the_back_end_waits_while_the_machine_stands_still() {
    let b = bench();
    b.line.lock().unwrap().room = 1;
    b.write(FCR, 1);
    b"ab".iter().for_each(|byte| b.write(0, *byte));
    let invitations = b.line.lock().unwrap().invitations;
    b.port.lock().hold();
    let saved = b.port.lock().save();
    b.line.lock().unwrap().room = 1;
    b.port.lock().resume_sending();
    b.port.lock().receive_break();
    assert_eq!(b.receive(b"in"), 0);
    assert_eq!(b.port.lock().save(), saved);
    b.port.lock().release();
    assert_eq!(b.line.lock().unwrap().invitations, invitations + 1);
    assert_eq!((b.line.lock().unwrap().sent.clone(), b.receive(b"in")), (b"ab".to_vec(), 2));
}

#[test]
fn a_back_end_that_is_busy_keeps_the_transmitter_full() {
    let b = bench();
    b.line.lock().unwrap().room = 1;
    b.write(FCR, 1);
    b.write(IER, ETBEI);
    b.read(IIR);
    for byte in b"abc" {
        b.write(0, *byte);
    }
    b.read(IIR);
    assert_eq!(b.read(LSR) & 0x60, 0);
    assert_eq!(b.line.lock().unwrap().sent, b"a");
    b.line.lock().unwrap().room = 10;
    b.port.lock().resume_sending();
    assert_eq!(b.line.lock().unwrap().sent, b"abc");
    assert_eq!(b.read(IIR), 0xc2);
}

#[test]
fn without_fifos_the_receiver_holds_one_character() {
    let b = bench();
    b.write(IER, ERBFI);
    assert_eq!(b.receive(b"ab"), 1);
    assert!(b.irq.level());
    assert_eq!(b.read(IIR), 4);
    assert_eq!(b.read(LSR), 0x61);
    let invitations = b.line.lock().unwrap().invitations;
    assert_eq!(b.read(0), b'a');
    assert!(!b.irq.level());
    assert_eq!(b.line.lock().unwrap().invitations, invitations + 1);
    assert_eq!(b.receive(b"b"), 1);
}

#[test]
fn the_fifo_interrupts_at_its_trigger_level_or_after_four_character_times() {
    let b = bench();
    b.write(LCR, 3);
    b.write(FCR, 0x81);
    b.write(IER, ERBFI);
    assert_eq!(b.receive(b"1234567"), 7);
    assert!(!b.irq.level());
    assert_eq!(b.receive(b"8"), 1);
    assert_eq!(b.read(IIR), 0xc4);
    b.read(0);
    assert!(!b.irq.level());
    let character = 10 * 16 * 12 * 1_000_000_000 / 3_686_400;
    b.clock.advance(4 * character - 1);
    assert!(!b.irq.level());
    b.clock.advance(1);
    assert_eq!(b.read(IIR), 0xcc);
    assert_eq!(b.read(0), b'2');
    assert!(!b.irq.level());
    b.clock.advance(4 * character);
    assert!(b.irq.level());
    (0..6).for_each(|_| assert!(b.read(0) > b'2'));
    assert!(!b.irq.level());
    assert_eq!(b.clock.next_deadline(), None);
}

#[test]
fn a_full_fifo_takes_no_more() {
    let b = bench();
    b.write(FCR, 1);
    assert_eq!(b.receive(&[7; 20]), 16);
    assert_eq!(b.port.lock().can_receive(), 0);
    b.port.lock().receive_break();
    assert_eq!(b.read(LSR), 0x63);
    assert_eq!(b.read(LSR), 0x61);
    b.read(0);
    assert_eq!(b.port.lock().can_receive(), 1);
}

#[test]
fn a_break_is_reported_when_its_character_reaches_the_top() {
    let b = bench();
    b.write(FCR, 1);
    b.write(IER, ELSI);
    b.receive(b"a");
    b.port.lock().receive_break();
    assert!(!b.irq.level());
    assert_eq!(b.read(LSR), 0xe1);
    assert_eq!(b.read(0), b'a');
    assert_eq!(b.read(IIR), 0xc6);
    assert_eq!(b.read(LSR), 0xf1);
    assert_eq!(b.read(LSR), 0x61);
    assert_eq!(b.read(0), 0);
}

#[test]
fn loopback_ties_the_modem_lines_and_the_data() {
    let b = bench();
    b.write(IER, ERBFI | EDSSI);
    b.write(MCR, 0x1a);
    assert_eq!(b.read(IIR), 0);
    assert_eq!(b.read(MSR) & 0xf0, 0x90);
    assert_eq!(b.read(IIR), 1);
    b.write(0, 0x55);
    assert_eq!(b.receive(b"x"), 0);
    assert_eq!(b.read(0), 0x55);
    assert!(b.line.lock().unwrap().sent.is_empty());
    b.write(MCR, 0x14);
    b.read(MSR);
    b.write(MCR, 0x10);
    assert_eq!(b.read(MSR), TERI);
}

#[test]
fn wide_slots_hold_the_register_in_one_byte() {
    let clock = Clock::manual();
    for (endian, lane) in [(Endian::Little, 0), (Endian::Big, 3)] {
        let config = Config { regshift: 2, endian, ..Config::default() };
        let port = Ns16550a::new(config, Wire::default(), &clock, Box::new(crate::Discard));
        let mut port = port.lock();
        assert_eq!(port.len(), 32);
        let lsr: Vec<u64> = (20..24).map(|o| port.read(o, 1)).collect();
        assert_eq!(lsr[lane], 0x60);
        assert_eq!(lsr.iter().sum::<u64>(), 0x60);
    }
}

#[test]
fn saves_and_restores() {
    let b = bench();
    b.write(FCR, 0xc1);
    b.write(IER, ERBFI);
    b.receive(b"hello");
    b.port.lock().receive_break();
    let fresh = bench();
    assert_saves_and_restores(&*b.port.lock(), &mut *fresh.port.lock());
    fresh.clock.advance(1_000_000_000);
    assert!(fresh.irq.level());
    let mut bad = State { sending: Blob(vec![0; 17]), ..State::default() };
    assert!(fresh.port.lock().restore(&bad.save()).is_err());
    bad.sending.0.clear();
    assert!(fresh.port.lock().restore(&bad.save()).is_ok());
}

#[test]
fn random_accesses_are_harmless() {
    for seed in 0..20 {
        let b = bench();
        b.line.lock().unwrap().room = 300;
        for round in 0..20 {
            hammer_registers(&mut *b.port.lock(), 8, seed * 100 + round, 200);
            b.receive(&[1; 40]);
            b.clock.advance(10_000_000);
        }
        assert_saves_and_restores(&*b.port.lock(), &mut *bench().port.lock());
    }
}
