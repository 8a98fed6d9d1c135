//! SiFive test finisher (`sifive,test0` and `sifive,test1` bindings): one register that ends the
//! run. Linux uses it through `syscon-poweroff` and `syscon-reboot`.

use device::{
    Bus, Category, Cause, Device, DeviceClass, MachineControl, MmioDevice, RestoreError, Value,
};
use std::sync::Arc;

const FAIL: u16 = 0x3333;
const PASS: u16 = 0x5555;
const RESET: u16 = 0x7777;

/// SiFive test finisher.
pub struct SifiveTest {
    machine: Arc<dyn MachineControl>,
}

impl SifiveTest {
    /// Bytes that the register takes.
    pub const LEN: u64 = 0x1000;

    /// A finisher of `machine`.
    pub fn new(machine: Arc<dyn MachineControl>) -> Self {
        Self { machine }
    }
}

impl Device for SifiveTest {
    fn reset(&mut self) {}

    fn save(&self) -> Value {
        Value::Record(Vec::new())
    }

    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        value.record().map(drop)
    }
}

impl MmioDevice for SifiveTest {
    fn read(&mut self, _offset: u64, _size: u32) -> u64 {
        0
    }

    /// The low half says how it ends; the high half is the exit code.
    fn write(&mut self, offset: u64, size: u32, value: u64) {
        let code = value as u32 >> 16;
        match (offset, value as u16) {
            (0, FAIL) if size >= 2 => self.machine.shutdown(Cause::GuestPanic, code),
            (0, PASS) if size >= 2 => self.machine.shutdown(Cause::GuestShutdown, code),
            (0, RESET) if size >= 2 => self.machine.reset(Cause::GuestReset),
            _ => device::guest_error!("sifive_test: write of {value:#x} at {offset:#x}"),
        }
    }
}

/// The row of `riscv.sifive.test`.
pub static CLASS: DeviceClass = DeviceClass {
    name: "riscv.sifive.test",
    aliases: &[],
    bus: Bus::System,
    category: Category::Misc,
    description: "SiFive test finisher",
    properties: &[],
    saved_version: 1,
};

#[cfg(test)]
mod tests {
    use super::*;
    use device::{RecordedControl, assert_saves_and_restores, hammer_registers};

    #[test]
    fn the_low_half_tells_how_it_ends() {
        let machine = Arc::new(RecordedControl::default());
        let mut test = SifiveTest::new(machine.clone());
        for value in [0x5555, 0x2a_3333, 0x7777, 0x1234] {
            test.write(0, 4, value);
        }
        test.write(4, 4, 0x5555);
        let ends = [
            (Cause::GuestShutdown, Some(0)),
            (Cause::GuestPanic, Some(42)),
            (Cause::GuestReset, None),
        ];
        assert_eq!(machine.take(), ends);
        hammer_registers(&mut test, SifiveTest::LEN, 1, 1_000);
        assert_saves_and_restores(&test, &mut SifiveTest::new(machine.clone()));
    }
}
