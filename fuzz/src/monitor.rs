//! Command lines of the human monitor, typed key by key, against a machine of a few bytes.

use hmp::{Action, InfoRequest, MonitorTarget, Session, Space, Unmapped};
use std::sync::Arc;

/// Most bytes that one line may make the monitor say: dumps are bounded.
const MOST_SAID: usize = 64 << 20;

struct Machine;

impl MonitorTarget for Machine {
    fn act(&self, action: Action) -> Result<(), String> {
        if action == Action::PowerDown { Err("no power button".into()) } else { Ok(()) }
    }
    fn status(&self) -> String {
        "running".into()
    }
    fn cpus(&self) -> usize {
        2
    }
    fn register(&self, _: usize, name: &str) -> Option<u64> {
        (name.len() < 3).then_some(0x8000_0000)
    }
    fn read_memory(&self, _: Space, address: u64, buffer: &mut [u8]) -> Result<(), Unmapped> {
        // A few pages, so that dumps end.
        let end = address.checked_add(buffer.len() as u64).ok_or(Unmapped)?;
        if address < 0x8000_0000 || end > 0x8000_4000 {
            return Err(Unmapped);
        }
        buffer.fill(address as u8);
        Ok(())
    }
    fn translate(&self, _: usize, address: u64) -> Option<u64> {
        (address < 1 << 40).then_some(address)
    }
    fn disassemble(&self, _: usize, _: u64, bytes: &[u8]) -> Option<(usize, String)> {
        let len = if bytes.first()? & 3 == 3 { 4 } else { 2 };
        (bytes.len() >= len).then(|| (len, "insn".into()))
    }
    fn info(&self, request: &InfoRequest) -> Result<String, String> {
        Ok(format!("{request:?}\n"))
    }
    fn read_ring(&self, _: &str, most: usize) -> Option<Vec<u8>> {
        Some(vec![b'x'; most.min(16)])
    }
}

/// Feeds what is typed. `memsave` and `pmemsave` would write to the host's files, so they are left
/// out, also as completion and editing keys could spell them.
pub fn feed(input: &[u8]) {
    let spelt = input.windows(4).any(|word| word.eq_ignore_ascii_case(b"save"));
    let keys = input.iter().any(|byte| byte.is_ascii_control() && *byte != b'\n');
    if spelt || keys && input.iter().any(|byte| byte.eq_ignore_ascii_case(&b'm')) {
        return;
    }
    let mut session = Session::new(Arc::new(Machine), "");
    for line in input.split_inclusive(|byte| *byte == b'\n').take(8) {
        assert!(session.feed(line).len() <= MOST_SAID);
    }
}

/// The commands that the monitor's own tests know.
pub fn seeds() -> Vec<Vec<u8>> {
    let known = include_str!("../../control/hmp/tests/commands.txt");
    let commands = known.lines().filter_map(|line| line.strip_prefix("> "));
    let keys = ["\x1b[A\x1b[D\x7fx\t\n", "inf\tst\t\n", "print (1+2)*3<<4/~5%-$pc\n", "x/8i $pc\n"];
    commands.chain(keys).map(|line| format!("{line}\n").into_bytes()).collect()
}
