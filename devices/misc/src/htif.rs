//! Host-target interface of the RISC-V test environment (conventions of `riscv-isa-sim` and
//! `riscv-tests`): two 64-bit words, `tohost` and `fromhost`, at addresses that the program's
//! symbols give. Bits 63:56 name a device, 55:48 a command, the rest is its payload.
//!
//! Device 0 ends the run, or carries out a system call of which only `write` to standard output
//! and error is there; device 1 is the console.

use crate::read_ram;
use device::{
    AccessRules, Bus, Category, Cause, Device, DeviceClass, MachineControl, MmioDevice,
    RestoreError, SavedState, Value,
};
use memory::AddressSpace;
use std::sync::Arc;

const SYSCALL: u8 = 0;
const CONSOLE: u8 = 1;
const GETC: u8 = 0;
const PUTC: u8 = 1;
/// A console response that carries a character.
const VALID: u64 = 0x100;
/// Number of the system call `write`.
const SYS_WRITE: u64 = 64;
/// Longest text that one `write` prints; what is left is the program's to repeat.
const MAX_WRITE: u64 = 4096;

/// Where the two words lie within the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HtifLayout {
    /// Offset of `tohost`.
    pub tohost: u64,
    /// Offset of `fromhost`.
    pub fromhost: u64,
}

impl HtifLayout {
    /// `fromhost`, then `tohost`: what a program without the symbols expects.
    pub const DEFAULT: Self = Self { tohost: 8, fromhost: 0 };

    /// The layout for a program with these addresses, and the address that it begins at. `None`
    /// when the words overlap or lie more than a page apart.
    pub fn of_symbols(tohost: u64, fromhost: u64) -> Option<(u64, Self)> {
        let base = tohost.min(fromhost);
        let layout = Self { tohost: tohost - base, fromhost: fromhost - base };
        (8..=4096).contains(&tohost.abs_diff(fromhost)).then_some((base, layout))
    }

    /// Bytes from the first word to the end of the last.
    pub fn len(&self) -> u64 {
        self.tohost.max(self.fromhost) + 8
    }

    /// Never: there are always two words.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Everything the guest can observe.
#[derive(Clone, Default, SavedState)]
struct State {
    #[n(1)]
    tohost: u64,
    #[n(2)]
    fromhost: u64,
    /// The program waits for a character.
    #[n(3)]
    reading: bool,
}

/// Where console output goes.
pub type Output = Box<dyn FnMut(&[u8]) + Send>;

/// Host-target interface.
pub struct Htif {
    layout: HtifLayout,
    space: Arc<AddressSpace>,
    machine: Arc<dyn MachineControl>,
    output: Output,
    /// What to do when the program ends, before the machine does.
    pub at_end: Option<Box<dyn FnOnce() + Send>>,
    state: State,
}

impl Htif {
    /// An interface that prints through `output` and reads system calls from `space`.
    pub fn new(
        layout: HtifLayout,
        space: Arc<AddressSpace>,
        machine: Arc<dyn MachineControl>,
        output: Output,
    ) -> Self {
        Self { layout, space, machine, output, at_end: None, state: State::default() }
    }

    /// Whether the program waits for a character.
    pub fn can_receive(&self) -> bool {
        self.state.reading
    }

    /// A character arrives; returns whether it was taken.
    pub fn receive(&mut self, byte: u8) -> bool {
        let taken = self.state.reading;
        if taken {
            self.state.reading = false;
            self.respond(CONSOLE, GETC, VALID | u64::from(byte));
        }
        taken
    }

    fn respond(&mut self, device: u8, command: u8, payload: u64) {
        self.state.fromhost = u64::from(device) << 56 | u64::from(command) << 48 | payload;
    }

    /// Carries out what the program wrote to `tohost`.
    fn execute(&mut self) {
        let word = std::mem::take(&mut self.state.tohost);
        let (device, command) = ((word >> 56) as u8, (word >> 48) as u8);
        let payload = word & 0xffff_ffff_ffff;
        match (device, command) {
            _ if word == 0 => {}
            (SYSCALL, 0) if payload & 1 != 0 => {
                // Programs repeat that they end until they do.
                if let Some(act) = self.at_end.take() {
                    act();
                }
                self.machine.shutdown(Cause::GuestShutdown, (payload >> 1) as u32);
            }
            (SYSCALL, 0) => {
                self.system_call(payload);
                self.respond(device, command, 1);
            }
            (CONSOLE, GETC) => self.state.reading = true,
            (CONSOLE, PUTC) => {
                (self.output)(&[payload as u8]);
                self.respond(device, command, VALID | payload & 0xff);
            }
            _ => device::guest_error!("htif: device {device} has no command {command}"),
        }
    }

    /// The system call whose number and arguments lie at `at`; the result replaces the number.
    fn system_call(&mut self, at: u64) {
        let mut words = [0; 32];
        if !read_ram(&self.space, at, &mut words) {
            return device::guest_error!("htif: no system call at {at:#x}");
        }
        let word = |n: usize| words[n * 8..].first_chunk().map_or(0, |w| u64::from_le_bytes(*w));
        let (number, file, text, len) = (word(0), word(1), word(2), word(3));
        if number != SYS_WRITE || !(1..=2).contains(&file) {
            return device::guest_error!("htif: system call {number} is not there");
        }
        let mut bytes = vec![0; len.min(MAX_WRITE) as usize];
        if read_ram(&self.space, text, &mut bytes) {
            (self.output)(&bytes);
            crate::write_ram(&self.space, at, &(bytes.len() as u64).to_le_bytes());
        }
    }
}

impl Device for Htif {
    fn reset(&mut self) {
        self.state = State::default();
    }

    fn save(&self) -> Value {
        self.state.save()
    }

    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        self.state.restore(value)
    }
}

impl MmioDevice for Htif {
    fn rules(&self) -> AccessRules {
        AccessRules { min: 4, max: 8 }
    }

    fn read(&mut self, offset: u64, size: u32) -> u64 {
        let word = match offset & !7 {
            at if at == self.layout.tohost & !7 => self.state.tohost,
            at if at == self.layout.fromhost & !7 => self.state.fromhost,
            _ => 0,
        };
        let word = word >> (8 * (offset & 4));
        if size == 4 { word & 0xffff_ffff } else { word }
    }

    /// A command is complete with its high half. A program that writes low halves only repeats
    /// them until something happens.
    fn write(&mut self, offset: u64, size: u32, value: u64) {
        let at = offset & !7;
        if size < 4 || at != self.layout.tohost & !7 && at != self.layout.fromhost & !7 {
            return device::guest_error!("htif: write of {size} bytes at {offset:#x}");
        }
        let is_tohost = at == self.layout.tohost & !7;
        let word = if is_tohost { &mut self.state.tohost } else { &mut self.state.fromhost };
        let repeated = *word == value;
        let high = offset & 4 != 0;
        *word = match (size, high) {
            (8, _) => value,
            (_, false) => *word & !0xffff_ffff | value & 0xffff_ffff,
            (_, true) => *word & 0xffff_ffff | value << 32,
        };
        if is_tohost && (size == 8 || high || repeated) {
            self.execute();
        }
    }
}

/// The row of `riscv.htif`.
pub static CLASS: DeviceClass = DeviceClass {
    name: "riscv.htif",
    aliases: &[],
    bus: Bus::System,
    category: Category::Misc,
    description: "RISC-V host-target interface",
    properties: &[],
    saved_version: 1,
};

#[cfg(test)]
mod tests {
    use super::*;
    use device::{RecordedControl, assert_saves_and_restores, hammer_registers};
    use memory::{Gpa, Ram};
    use std::sync::Mutex;

    struct Bench {
        htif: Htif,
        machine: Arc<RecordedControl>,
        space: Arc<AddressSpace>,
        printed: Arc<Mutex<Vec<u8>>>,
    }

    fn bench() -> Bench {
        let space = AddressSpace::new("memory");
        space.map_ram(0x8000_0000, &Ram::new("ram", 0x1000).unwrap());
        let machine = Arc::new(RecordedControl::default());
        let printed = Arc::new(Mutex::new(Vec::new()));
        let out = Arc::clone(&printed);
        let output = Box::new(move |bytes: &[u8]| out.lock().unwrap().extend_from_slice(bytes));
        let htif = Htif::new(HtifLayout::DEFAULT, Arc::clone(&space), machine.clone(), output);
        Bench { htif, machine, space, printed }
    }

    #[test]
    fn an_odd_payload_ends_the_run() {
        let mut b = bench();
        b.htif.write(8, 8, 0x2b << 1 | 1);
        b.htif.write(8, 4, 7);
        b.htif.write(12, 4, 0);
        b.htif.write(8, 4, 1);
        assert_eq!(b.machine.take().len(), 2);
        b.htif.write(8, 4, 1);
        assert_eq!(b.machine.take(), [(Cause::GuestShutdown, Some(0))]);
    }

    #[test]
    fn the_console_prints_and_waits_for_characters() {
        let mut b = bench();
        b.htif.write(8, 8, 0x0101_0000_0000_0041);
        assert_eq!(*b.printed.lock().unwrap(), b"A");
        assert_eq!(b.htif.read(0, 8), 0x0101_0000_0000_0141);
        assert_eq!(b.htif.read(8, 8), 0);
        b.htif.write(0, 8, 0);
        assert!(!b.htif.receive(b'x'));
        b.htif.write(8, 8, 0x0100_0000_0000_0000);
        assert!(b.htif.receive(b'x'));
        assert!(!b.htif.can_receive());
        assert_eq!(b.htif.read(0, 4), 0x178);
        assert_eq!(b.htif.read(4, 4), 0x0100_0000);
    }

    #[test]
    fn a_write_system_call_prints() {
        let mut b = bench();
        let words = [SYS_WRITE, 1, 0x8000_0100, 5, 0, 0, 0, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        b.space.write(Gpa(0x8000_0000), &bytes).unwrap();
        b.space.write(Gpa(0x8000_0100), b"hello").unwrap();
        b.htif.write(8, 8, 0x8000_0000);
        assert_eq!(*b.printed.lock().unwrap(), b"hello");
        assert_eq!(b.htif.read(0, 8), 1);
        assert_eq!(b.space.load(Gpa(0x8000_0000), 8), Ok(5));
        b.htif.write(8, 8, 0x1000);
    }

    #[test]
    fn symbols_decide_where_the_words_lie() {
        let (base, layout) = HtifLayout::of_symbols(0x8000_1000, 0x8000_1040).unwrap();
        assert_eq!((base, layout.tohost, layout.fromhost), (0x8000_1000, 0, 0x40));
        assert_eq!(layout.len(), 0x48);
        assert_eq!(HtifLayout::of_symbols(0x8000_1000, 0x8000_1004), None);
        assert_eq!(HtifLayout::of_symbols(0, 0x8000_1004), None);
    }

    #[test]
    fn saves_and_restores_and_survives_random_accesses() {
        let mut b = bench();
        b.htif.write(8, 8, 0x0100_0000_0000_0000);
        assert_saves_and_restores(&b.htif, &mut bench().htif);
        for seed in 0..20 {
            hammer_registers(&mut b.htif, 16, seed, 300);
        }
    }
}
