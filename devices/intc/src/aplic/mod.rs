//! RISC-V advanced platform-level interrupt controller (Advanced Interrupt Architecture 1.0,
//! chapter "Advanced PLIC"): a machine-level domain, which has the lines, and a supervisor-level
//! domain below it, to which it may delegate sources one by one.
//!
//! The domains are one device, since they share the lines; each has its own [`DomainWindow`] in the
//! address space. Whether they drive the harts' lines or send messages is up to the board. Numbers
//! are little-endian always.

mod domain;

use device::{
    AccessRules, Bus, Category, Device, DeviceClass, LineDevice, MsiSink, Property, RestoreError,
    SavedState, Shared, Value, Wire,
};
use domain::{DomainState, GENMSI, Registers};
use memory::IoHandler;
use std::sync::Arc;

/// Which domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Machine level: the root.
    Machine = 0,
    /// Supervisor level.
    Supervisor = 1,
}

/// How interrupts reach the harts.
enum Delivery {
    /// Lines of each hart, per domain.
    Direct([Vec<Wire>; 2]),
    /// Messages to the harts' interrupt files.
    Messages(Arc<dyn MsiSink>),
}

/// What the board chooses.
#[derive(Clone, Copy, Debug)]
pub struct AplicConfig {
    /// Sources, numbered from 1; at most 1023.
    pub sources: u32,
    /// Harts, at most 16384.
    pub harts: u32,
    /// Bits of a priority in direct delivery, 1 to 8.
    pub priority_bits: u32,
}

/// RISC-V APLIC with two domains.
pub struct Aplic {
    config: AplicConfig,
    delivery: Delivery,
    state: State,
}

/// Everything the guest can observe.
#[derive(Clone, Default, SavedState)]
struct State {
    #[n(1)]
    domains: [DomainState; 2],
    /// Input lines.
    #[n(2)]
    level: Vec<bool>,
}

impl Aplic {
    /// A controller that drives the external interrupts of the harts at either level.
    pub fn direct(config: AplicConfig, machine: Vec<Wire>, supervisor: Vec<Wire>) -> Shared<Self> {
        Self::with(config, Delivery::Direct([machine, supervisor]))
    }

    /// A controller that sends messages.
    pub fn with_messages(config: AplicConfig, sink: Arc<dyn MsiSink>) -> Shared<Self> {
        Self::with(config, Delivery::Messages(sink))
    }

    fn with(config: AplicConfig, delivery: Delivery) -> Shared<Self> {
        let config = AplicConfig {
            sources: config.sources.min(1023),
            harts: config.harts.min(1 << 14),
            priority_bits: config.priority_bits.clamp(1, 8),
        };
        let level = vec![false; config.sources as usize + 1];
        let domains = [(); 2].map(|()| DomainState::new(config.sources, config.harts));
        Shared::new(Self { config, delivery, state: State { domains, level } })
    }

    fn messages(&self) -> bool {
        matches!(self.delivery, Delivery::Messages(_))
    }

    /// The registers of a domain as one sees them with all they depend on.
    fn registers(&mut self, domain: Domain) -> Registers<'_> {
        let messages = self.messages();
        let [machine, supervisor] = &mut self.state.domains;
        let (own, root) = match domain {
            Domain::Machine => (machine, None),
            Domain::Supervisor => (supervisor, Some(machine)),
        };
        Registers { config: self.config, messages, level: &self.state.level, own, root }
    }

    fn read(&mut self, domain: Domain, offset: u64) -> u32 {
        let value = self.registers(domain).read(offset);
        self.deliver();
        value
    }

    fn write(&mut self, domain: Domain, offset: u64, value: u32) {
        if offset == GENMSI && self.messages() {
            let (address, data) = self.registers(domain).generated(value);
            if let Delivery::Messages(sink) = &self.delivery {
                sink.send(address, data);
            }
            return;
        }
        self.registers(domain).write(offset, value);
        if domain == Domain::Machine {
            self.drop_undelegated();
        }
        self.deliver();
    }

    /// A source that the root does not delegate is not there in the other domain.
    fn drop_undelegated(&mut self) {
        let [machine, supervisor] = &mut self.state.domains;
        for source in 1..=self.config.sources {
            if !machine.delegates(source) {
                supervisor.drop_source(source);
            }
        }
    }

    /// Drives the lines, or sends the messages that are due.
    fn deliver(&mut self) {
        for domain in [Domain::Machine, Domain::Supervisor] {
            let mut due = Vec::new();
            if self.messages() {
                due = self.registers(domain).take_messages();
            }
            match &self.delivery {
                Delivery::Messages(sink) => due.iter().for_each(|(at, id)| sink.send(*at, *id)),
                Delivery::Direct(lines) => {
                    let levels = self.state.domains[domain as usize].interrupts();
                    lines[domain as usize].iter().zip(levels).for_each(|(line, l)| line.set(l));
                }
            }
        }
    }
}

impl LineDevice for Aplic {
    fn set_line(&mut self, line: u32, level: bool) {
        if line == 0 || line > self.config.sources {
            return;
        }
        let before = std::mem::replace(&mut self.state.level[line as usize], level);
        if before == level {
            return;
        }
        for domain in &mut self.state.domains {
            domain.line_changed(line, level);
        }
        self.deliver();
    }
}

impl Device for Aplic {
    /// The input lines stay as their devices drive them.
    fn reset(&mut self) {
        let AplicConfig { sources, harts, .. } = self.config;
        self.state.domains = [(); 2].map(|()| DomainState::new(sources, harts));
        self.deliver();
    }

    fn save(&self) -> Value {
        self.state.save()
    }

    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        let mut new = State::default();
        new.restore(value)?;
        for domain in &new.domains {
            domain.check(self.config.sources, self.config.harts)?;
        }
        if new.level.len() != self.state.level.len() {
            return Err(RestoreError::new("another number of sources").within("level"));
        }
        self.state = new;
        self.deliver();
        Ok(())
    }
}

/// The registers of one domain in an address space.
pub struct DomainWindow {
    aplic: Shared<Aplic>,
    domain: Domain,
}

impl DomainWindow {
    /// A window on `domain`.
    pub fn new(aplic: Shared<Aplic>, domain: Domain) -> Self {
        Self { aplic, domain }
    }
}

impl IoHandler for DomainWindow {
    fn rules(&self) -> AccessRules {
        AccessRules::U32
    }

    fn read(&self, offset: u64, _size: u32) -> u64 {
        self.aplic.lock().read(self.domain, offset).into()
    }

    fn write(&self, offset: u64, size: u32, value: u64) {
        if size != 4 || !offset.is_multiple_of(4) {
            return device::guest_error!("aplic: write of {size} bytes at {offset:#x}");
        }
        self.aplic.lock().write(self.domain, offset, value as u32);
    }

    /// For `setipnum_le` and `setipnum_be`, which are there to be written by devices.
    fn message(&self, offset: u64, data: u32) -> bool {
        self.write(offset, 4, data.into());
        true
    }
}

/// The row of `riscv.aplic`.
pub static CLASS: DeviceClass = DeviceClass {
    name: "riscv.aplic",
    aliases: &[],
    bus: Bus::System,
    category: Category::Misc,
    description: "RISC-V advanced platform-level interrupt controller",
    properties: &[Property {
        name: "num-irqs",
        kind: "uint32",
        default: "0",
        description: "sources, numbered from 1",
    }],
    saved_version: 1,
};

#[cfg(test)]
mod tests;
