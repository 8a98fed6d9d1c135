//! The test protocol (`-qtest`), spoken to the devices of a whole board.

use crate::rig::Rig;
use memory::Gpa;
use qtest::{LineListener, Outbox, Pins, QtestTarget, Session};
use std::sync::{Arc, Mutex, PoisonError};

/// Most bytes and lines of one input.
const MOST: (usize, usize) = (2000, 40);

struct Target(Mutex<Rig>);

impl Target {
    fn with<T>(&self, act: impl FnOnce(&Rig) -> T) -> T {
        act(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl QtestTarget for Target {
    fn is_big_endian(&self) -> bool {
        false
    }
    fn load(&self, address: u64, size: u32) -> u64 {
        self.with(|rig| rig.load(address, size))
    }
    fn store(&self, address: u64, size: u32, value: u64) {
        self.with(|rig| rig.store(address, size, value));
    }
    fn read(&self, address: u64, buffer: &mut [u8]) {
        self.with(|rig| {
            let _nothing_there = rig.space().read(Gpa(address), buffer);
        });
    }
    fn write(&self, address: u64, bytes: &[u8]) {
        self.with(|rig| {
            let _nothing_there = rig.space().write(Gpa(address), bytes);
        });
    }
    fn intercept(
        &self,
        path: &str,
        _: Pins,
        _: Option<&str>,
        listener: LineListener,
    ) -> Result<(), String> {
        listener(1, true);
        self.with(|rig| rig.board.machine.paths().any(|known| known == path))
            .then_some(())
            .ok_or_else(|| "Unknown device".to_owned())
    }
    fn set_line(&self, _: &str, _: &str, number: u32, level: u64) -> Result<(), String> {
        self.with(|rig| rig.set_line(number, level != 0));
        Ok(())
    }
    fn now_ns(&self) -> u64 {
        self.with(|rig| rig.clock.now_ns())
    }
    fn next_deadline_ns(&self) -> Option<u64> {
        self.with(|rig| rig.clock.next_deadline())
    }
    fn advance_to_ns(&self, time: u64) {
        self.with(|rig| rig.clock.advance_to(time));
    }
}

/// Feeds lines. What must hold: each gets one reply, and the devices stand it.
pub fn feed(input: &[u8]) {
    let input = &input[..input.len().min(MOST.0)];
    let target = Arc::new(Target(Mutex::new(Rig::new(0))));
    let (outbox, said) = Outbox::collecting();
    let mut session = Session::new(target.clone(), outbox);
    let mut lines = 0;
    for line in input.split_inclusive(|byte| *byte == b'\n').take(MOST.1) {
        session.feed(line, &mut |_| {});
        lines += usize::from(line.ends_with(b"\n"));
    }
    let said = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
    let replies = said.lines().filter(|line| !line.starts_with("IRQ ")).count();
    assert!(replies <= lines, "{replies} replies to {lines} lines");
    target.with(Rig::settle);
}

/// Every command, and registers of several devices.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "endianness\nirq_intercept_in /machine/serial0\nclock_step\nclock_step 1000\nclock_set 5000\n",
        "writel 0x10000000 0x41\nreadb 0x10000005\nwritew 0xc000004 7\nreadq 0x200bff8\n",
        "write 0x80000000 4 0x01020304\nread 0x80000000 8\nmemset 0x80000100 16 0xaa\n",
        "b64write 0x80000000 4 AQIDBA==\nb64read 0x80000000 8\noutb 0x10 1\ninl 0x10\n",
        "set_irq_in /machine/serial0 unnamed-gpio-in 1 1\nrtas foo 0 0 0 0\nmodule_load x\n",
        "readl 0x10001000\nwritel 0x10001070 3\nreadl 0x30000000\nwritel 0x30008004 7\n",
        "writeq 0x10100010 0x100000000000000\nreadw 0x10100008\nwritel 0x100000 0x5555\n",
    ]
    .map(Vec::from)
    .into()
}
