//! The machine as monitors see it.
//!
//! A monitor's command arrives in the thread of the character back ends. What it asks of the machine
//! is done by the control thread, which alone starts and stops it; the monitor waits for the answer.
//! The control thread never waits for a monitor, and at the end it drops what is still asked, so
//! nobody waits for ever.

use crate::system::disks::Disks;
use crate::system::life::{Life, Phase};
use crate::system::show;
use chardev::Chardevs;
use device::Cause;
use hmp::{Action, InfoRequest, Monitor, MonitorTarget, Session, Space, Topic, Unmapped};
use machine::{Event, Events, Machine, RunState};
use memory::{Gpa, PAGE};
use plan::{MonitorMode, Plan};
use std::collections::HashMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Weak};

/// Text of an instruction at an address, and its length.
pub type Disassembler = dyn Fn(u64, &[u8]) -> Option<(usize, String)> + Send + Sync;
/// Text for a subject of `info`, with the options given.
pub type Teller = dyn Fn(&InfoRequest) -> String + Send + Sync;

/// What monitors are told of that is no part of every machine.
pub struct Views {
    /// Of the guest's code.
    pub disassemble: Box<Disassembler>,
    /// Whether addresses are 32 bits wide.
    pub rv32: bool,
    /// What the board, the plan and the back ends tell, by subject.
    pub tellers: HashMap<&'static str, Box<Teller>>,
}

/// A machine under a monitor.
pub struct Target {
    /// Where requests go.
    pub events: Events,
    /// Whether it runs.
    pub life: Arc<Life>,
    /// Its disks.
    pub disks: Arc<Disks>,
    /// Its character back ends.
    pub chardevs: Weak<Chardevs>,
    /// Everything else to look at.
    pub views: Views,
    /// How many processors it has.
    pub cpus: usize,
}

/// Puts the plan's monitors on their back ends. Serial ports come first: who shares a back end with
/// one has the input after it.
///
/// # Errors
/// A back end is taken, or a monitor speaks what is not supported yet.
pub fn attach(
    plan: &Plan,
    chardevs: &Chardevs,
    target: &Arc<Target>,
) -> Result<Vec<Monitor>, String> {
    let product = format!(" (Tinamou {})", env!("CARGO_PKG_VERSION"));
    let port = |monitor: &plan::Monitor| {
        let id = &monitor.chardev;
        if monitor.mode != MonitorMode::Readline {
            return Err(format!(
                "not supported yet: QMP on chardev '{id}' (-qmp, -mon mode=control)"
            ));
        }
        chardevs.port(id).ok_or_else(|| format!("chardev '{id}' is in use"))
    };
    // All of them before the first is served: one that asks something waits for the control thread.
    let ports = plan.monitors.iter().map(port).collect::<Result<Vec<_>, String>>()?;
    let attach = |port| Monitor::attach(Session::new(target.clone(), &product), port);
    Ok(ports.into_iter().map(attach).collect())
}

/// Most bytes of a page that are read at once; accesses do not cross pages of the guest.
fn to_page_end(address: u64) -> usize {
    usize::try_from(PAGE - address % PAGE).unwrap_or(1)
}

impl Target {
    /// Has the control thread do something. `None` when the machine has come to its end.
    fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Machine) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, question) = sync_channel(1);
        self.events.send(Event::Do(Box::new(move |machine| {
            // Whoever asked waits for it.
            let _ = answer.send(act(machine));
        })));
        question.recv().ok()
    }

    fn dump(&self, cpu: usize) -> Option<String> {
        self.ask(move |machine| machine.with_cpu(cpu, |cpu| cpu.dump())).flatten()
    }

    fn mappings(&self, cpu: usize) -> Result<String, String> {
        let satp = self.register(cpu, "satp").unwrap_or(0);
        let rv32 = self.views.rv32;
        let list = move |machine: &Machine| {
            let space = Arc::clone(machine.space());
            let mut read = |at: u64, size: u32| {
                let (ram, offset) = space.ram_at(Gpa(at), size.into(), false)?;
                if size == 4 { ram.load_u32(offset).map(u64::from) } else { ram.load_u64(offset) }
            };
            riscv::mappings::list(rv32, satp, &mut read)
        };
        self.ask(list).ok_or_else(ended)
    }
}

/// Does something while neither processors nor devices run.
pub fn still<T>(machine: &Machine, act: impl FnOnce() -> T) -> T {
    let running = machine.run_state() == RunState::Running;
    if running {
        machine.pause();
    }
    let result = act();
    if running {
        machine.resume();
    }
    result
}

fn ended() -> String {
    "the machine has ended".to_owned()
}

/// A register's value in the text of `info registers`: ` name  value`, ` x5/t0  value`.
fn in_dump(dump: &str, name: &str) -> Option<u64> {
    let words: Vec<&str> = dump.split_whitespace().collect();
    let pair = words.windows(2).find(|pair| pair[0].split('/').any(|part| part == name))?;
    u64::from_str_radix(pair[1], 16).ok()
}

impl MonitorTarget for Target {
    fn act(&self, action: Action) -> Result<(), String> {
        let life = Arc::clone(&self.life);
        match action {
            Action::Quit => self.events.send(Event::Shutdown(Cause::HostQmpQuit, 0)),
            Action::Reset => self.events.send(Event::Reset(Cause::HostQmpSystemReset)),
            Action::Stop => {
                self.ask(move |machine| life.pause(machine, Phase::Paused)).ok_or_else(ended)?;
            }
            Action::Continue => {
                self.ask(move |machine| life.resume(machine)).ok_or_else(ended)??;
            }
            // RISC-V boards have no power button: as with the original, nothing happens.
            Action::PowerDown => {}
            Action::Commit(device) => {
                let disks = Arc::clone(&self.disks);
                self.ask(move |machine| still(machine, || disks.commit(&device)))
                    .ok_or_else(ended)??;
            }
            Action::SendBreak(id) => {
                let chardevs = self.chardevs.upgrade().ok_or_else(ended)?;
                if !chardevs.send_break(&id) {
                    return Err(format!("Chardev '{id}' not found"));
                }
            }
            Action::Log(names) => trace::set_items(&log_items(&names)?),
            Action::LogFile(path) => {
                let file = std::fs::File::create(&path);
                let file =
                    file.map_err(|e| format!("Could not open '{path}': {}", show::plain(&e)));
                trace::set_file(Some(file?));
            }
        }
        Ok(())
    }

    fn status(&self) -> String {
        // What was asked for before is done then.
        let life = Arc::clone(&self.life);
        self.ask(move |_| life.status()).unwrap_or("paused (shutdown)").to_owned()
    }

    fn cpus(&self) -> usize {
        self.cpus
    }

    fn register(&self, cpu: usize, name: &str) -> Option<u64> {
        in_dump(&self.dump(cpu)?, name)
    }

    /// Registers of devices are read as the guest reads them, which may have effects.
    fn read_memory(&self, space: Space, address: u64, buffer: &mut [u8]) -> Result<(), Unmapped> {
        let len = buffer.len();
        let read = move |machine: &Machine| {
            let mut bytes = vec![0; len];
            let mut done = 0;
            while done < len {
                let at = address.wrapping_add(done as u64);
                let n = (len - done).min(to_page_end(at));
                let gpa = match space {
                    Space::Physical => Some(at),
                    Space::Virtual { cpu } => {
                        machine.with_cpu(cpu, |cpu| cpu.debug_translate(at)).flatten()
                    }
                };
                let gpa = Gpa(gpa.ok_or(Unmapped)?);
                machine.space().read(gpa, &mut bytes[done..done + n]).map_err(|_| Unmapped)?;
                done += n;
            }
            Ok(bytes)
        };
        buffer.copy_from_slice(&self.ask(read).unwrap_or(Err(Unmapped))?);
        Ok(())
    }

    fn translate(&self, cpu: usize, address: u64) -> Option<u64> {
        let translate =
            move |machine: &Machine| machine.with_cpu(cpu, |cpu| cpu.debug_translate(address));
        self.ask(translate).flatten().flatten()
    }

    fn disassemble(&self, _cpu: usize, address: u64, bytes: &[u8]) -> Option<(usize, String)> {
        (self.views.disassemble)(address, bytes)
    }

    fn info(&self, request: &InfoRequest) -> Result<String, String> {
        let selected = request.cpu;
        let flat = request.has('f');
        match request.topic {
            Topic::Registers => self.dump(selected).ok_or_else(ended),
            Topic::Mem => self.mappings(selected),
            Topic::Cpus => self.ask(move |m| show::cpus(m, selected)).ok_or_else(ended),
            Topic::Mtree => self.ask(move |m| show::mtree(m, flat)).ok_or_else(ended),
            Topic::Roms => self.ask(show::roms).ok_or_else(ended),
            Topic::Ramblock => self.ask(show::ramblock).ok_or_else(ended),
            Topic::Blockstats => Ok(self.disks.statistics()),
            Topic::Chardev => {
                let chardevs = self.chardevs.upgrade().ok_or_else(ended)?;
                Ok(show::chardevs(&chardevs.list()))
            }
            // What the original says of a RISC-V machine.
            Topic::Irq | Topic::Pic | Topic::Iothreads => Ok(String::new()),
            topic => match self.views.tellers.get(name(topic)) {
                Some(tell) => Ok(tell(request)),
                None => Err(format!("not supported yet: info {}", name(topic))),
            },
        }
    }

    fn read_ring(&self, id: &str, most: usize) -> Option<Vec<u8>> {
        self.chardevs.upgrade()?.read_ring(id, most)
    }
}

/// The key of a subject in [`Views::tellers`].
fn name(topic: Topic) -> &'static str {
    match topic {
        Topic::Block => "block",
        Topic::Jit => "jit",
        Topic::MemorySize => "memory_size_summary",
        Topic::Name => "name",
        Topic::Network => "network",
        Topic::Pci => "pci",
        Topic::Qdm => "qdm",
        Topic::Qtree => "qtree",
        Topic::Uuid => "uuid",
        Topic::Virtio => "virtio",
        _ => "this",
    }
}

fn log_items(names: &str) -> Result<Vec<trace::Item>, String> {
    if names == "none" {
        return Ok(Vec::new());
    }
    let find = |name: &str| {
        let row = trace::Item::TABLE.iter().find(|(_, known, _)| *known == name);
        row.map(|(item, _, _)| *item).ok_or_else(|| format!("unknown log item '{name}'"))
    };
    names.split(',').map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_found_by_every_name() {
        let dump = " pc       0000000000001000\n satp     8000000000080001\n x1/ra    0000000000000007 x2/sp    00000000000000ff\n";
        assert_eq!(in_dump(dump, "pc"), Some(0x1000));
        assert_eq!(in_dump(dump, "satp"), Some(0x8000_0000_0008_0001));
        assert_eq!([in_dump(dump, "x2"), in_dump(dump, "sp")], [Some(0xff); 2]);
        assert_eq!(in_dump(dump, "gp"), None);
    }

    #[test]
    fn log_items_are_those_of_the_command_line() {
        assert_eq!(log_items("in_asm,int"), Ok(vec![trace::Item::InAsm, trace::Item::Int]));
        assert_eq!(log_items("none"), Ok(vec![]));
        assert!(log_items("in_asn").is_err());
    }
}
