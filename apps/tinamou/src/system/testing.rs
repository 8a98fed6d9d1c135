//! The machine as the test protocol sees it.
//!
//! Devices go by the paths of the machine's parts (`/machine/plic`, `/machine/serial0`) and, on
//! `virt` with a PLIC, by QEMU's.

use chardev::Chardevs;
use machine::{Machine, Pins, Side};
use memory::{AddressSpace, Gpa};
use plan::Plan;
use qtest::{LineListener, QtestTarget, Server};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use time::Clock;

/// Puts the protocol on the back end that the plan names.
///
/// # Errors
/// The back end is taken, or the log cannot be written.
pub fn attach(
    plan: &Plan,
    chardevs: &Chardevs,
    machine: &Machine,
) -> Result<Option<Server>, String> {
    let Some(qtest) = &plan.qtest else { return Ok(None) };
    let id = &qtest.chardev;
    let port = chardevs.port(id).ok_or_else(|| format!("-qtest: chardev '{id}' is in use"))?;
    let log: Option<Box<dyn Write + Send>> = match qtest.log.as_deref() {
        None => Some(Box::new(std::io::stderr())),
        Some("none") => None,
        Some(path) => {
            let file = File::create(path);
            let failed = |e| format!("-qtest-log {path}: {}", super::show::plain(&e));
            Some(Box::new(file.map_err(failed)?))
        }
    };
    let target = Target {
        space: Arc::clone(machine.space()),
        clock: machine.clock().clone(),
        steps: plan.accel.name == "qtest",
        pins: machine.pins().to_vec(),
    };
    Ok(Some(Server::attach(Arc::new(target), port, log)))
}

struct Target {
    space: Arc<AddressSpace>,
    clock: Clock,
    /// Whether the clock is the test's to move.
    steps: bool,
    pins: Vec<Pins>,
}

impl Target {
    fn pins(&self, path: &str, side: Side, name: &str) -> Result<&Pins, String> {
        let here = |pins: &&Pins| pins.paths.iter().any(|known| known == path);
        if !self.pins.iter().any(|pins| here(&pins)) {
            return Err("Unknown device".to_owned());
        }
        let found = self.pins.iter().filter(here).find(|p| p.side == side && p.name == name);
        found.ok_or_else(|| format!("device '{path}' has no such pins"))
    }
}

impl QtestTarget for Target {
    fn is_big_endian(&self) -> bool {
        false
    }

    /// Zero where nothing answers.
    fn load(&self, address: u64, size: u32) -> u64 {
        self.space.load(Gpa(address), size).unwrap_or(0)
    }

    fn store(&self, address: u64, size: u32, value: u64) {
        let _nothing_there = self.space.store(Gpa(address), size, value);
    }

    fn read(&self, address: u64, buffer: &mut [u8]) {
        let _nothing_there = self.space.read(Gpa(address), buffer);
    }

    fn write(&self, address: u64, bytes: &[u8]) {
        let _nothing_there = self.space.write(Gpa(address), bytes);
    }

    fn intercept(
        &self,
        path: &str,
        pins: qtest::Pins,
        name: Option<&str>,
        listener: LineListener,
    ) -> Result<(), String> {
        let side = match pins {
            qtest::Pins::In => Side::Inputs,
            qtest::Pins::Out => Side::Outputs,
        };
        let pins = self.pins(path, side, name.unwrap_or_default())?;
        let lines = pins.lines.clone();
        let ear = move |line: u32, level: bool| match lines.iter().position(|own| *own == line) {
            Some(pin) => {
                listener(u32::try_from(pin).unwrap_or(u32::MAX), level);
                side == Side::Outputs
            }
            None => false,
        };
        match pins.tap.listen(Box::new(ear)) {
            true => Ok(()),
            false => Err("IRQ intercept already enabled".to_owned()),
        }
    }

    fn set_line(&self, path: &str, name: &str, number: u32, level: u64) -> Result<(), String> {
        let name = if name == "unnamed-gpio-in" { "" } else { name };
        let pins = self.pins(path, Side::Inputs, name)?;
        let line = pins.lines.get(number as usize).ok_or("there is no pin of this number")?;
        device::LineSink::set_line(&*pins.tap, *line, level != 0);
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        self.clock.next_deadline()
    }

    /// Nothing but under `-accel qtest`: otherwise time passes by itself.
    fn advance_to_ns(&self, time: u64) {
        if self.steps {
            self.clock.advance_to(time);
        }
    }
}
