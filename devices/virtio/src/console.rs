//! Console device with many ports (VIRTIO 1.3, "Console Device").
//!
//! Ports are added before the driver starts, or later. Queues 0 and 1 are port 0's, 2 and 3 carry
//! control messages, each further port has the next two. Not modelled: the console's size, removal
//! of ports.

use crate::core::{Core, Doorbell, RingOptions, VirtioDevice};
use crate::dma::{Span, total};
use crate::props::{BuildError, Props};
use crate::ring::Token;
use device::guest_error;
use state::{Blob, RestoreError, SavedState, Value};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const F_MULTIPORT: u64 = 1 << 1;
const F_EMERG_WRITE: u64 = 1 << 2;

/// Control events.
const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const CONSOLE_PORT: u16 = 4;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

const CONTROL_RX: usize = 2;
const CONTROL_TX: usize = 3;
const QUEUE_SIZE: u16 = 128;
const EMERG_WR: usize = 8;
/// Input kept for a driver that is slow to take it, in bytes.
const INPUT: usize = 4096;
/// Output handed to the back end at once, in bytes.
const PIECE: usize = 4096;
/// Control messages kept for a driver that is slow to take them.
const MESSAGES: usize = 1024;

/// What the user chooses of the device.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Common ring properties.
    pub rings: RingOptions,
    /// Ports there can be.
    pub max_ports: u32,
    /// Output before queues are set up is offered.
    pub emergency_write: bool,
}

impl Config {
    /// From properties.
    ///
    /// # Errors
    /// A property is wrong.
    pub fn parse(props: &Props<'_>) -> Result<Self, BuildError> {
        let max_ports = props.number("max_ports")?;
        match max_ports {
            0 => Err(BuildError::new("Maximum number of serial ports not specified")),
            1..=511 => Ok(Self {
                rings: props.ring_options()?,
                max_ports,
                emergency_write: props.bool("emergency-write")?,
            }),
            _ => Err(BuildError::new("maximum ports supported: 511")),
        }
    }
}

/// The host side of a port. Called with the device locked; must not call [`Input`] then.
pub trait PortBackend: Send {
    /// Sends bytes and returns how many it took; [`Input::resume`] follows when it took fewer.
    fn write(&mut self, bytes: &[u8]) -> usize;
    /// The port has room for input again.
    fn accept_input(&mut self);
}

/// A port without a back end.
struct Unconnected;

impl PortBackend for Unconnected {
    fn write(&mut self, bytes: &[u8]) -> usize {
        bytes.len()
    }
    fn accept_input(&mut self) {}
}

#[derive(Default)]
struct Arrived {
    bytes: VecDeque<u8>,
    /// The host side has somebody at it.
    open: bool,
    /// The guest takes input.
    wanted: bool,
    /// Input was refused.
    refused: bool,
    bell: Doorbell,
}

/// The way into a port, for its back end's thread.
#[derive(Clone, Default)]
pub struct Input(Arc<Mutex<Arrived>>);

impl Input {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes input and returns how much; [`PortBackend::accept_input`] follows when it took less.
    pub fn receive(&self, bytes: &[u8]) -> usize {
        let mut arrived = self.lock();
        let room = if arrived.wanted { INPUT - arrived.bytes.len().min(INPUT) } else { 0 };
        let n = room.min(bytes.len());
        arrived.bytes.extend(&bytes[..n]);
        arrived.refused |= n < bytes.len();
        let bell = arrived.bell.clone();
        drop(arrived);
        bell.ring();
        n
    }

    /// Somebody came to the host side, or left.
    pub fn set_open(&self, open: bool) {
        let mut arrived = self.lock();
        arrived.open = open;
        let bell = arrived.bell.clone();
        drop(arrived);
        bell.ring();
    }

    /// The back end takes output again.
    pub fn resume(&self) {
        let bell = self.lock().bell.clone();
        bell.ring();
    }
}

/// What the user chooses of a port.
#[derive(Clone, Debug, Default)]
pub struct PortConfig {
    /// Number; `None` for the first free one.
    pub nr: Option<u32>,
    /// Name that the guest sees.
    pub name: String,
    /// It is a console: always open, number 0 if that is free.
    pub console: bool,
}

/// Output that the back end has not taken whole.
struct Held {
    token: Token,
    spans: Vec<Span>,
    done: u64,
}

/// What the guest knows of a port, and its work in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, SavedState)]
struct PortState {
    #[n(1)]
    nr: u32,
    #[n(2)]
    guest_open: bool,
    /// The guest was told that the host side is open.
    #[n(3)]
    told_open: bool,
    #[n(4)]
    input: Blob,
    /// Output in progress: id, entries, bytes done.
    #[n(5)]
    held: Option<((u16, u16), u64)>,
    /// Where the rest of that lies: addresses and lengths.
    #[n(6)]
    held_spans: Vec<(u64, u32)>,
    /// The driver said the port is ready.
    #[n(7)]
    ready: bool,
}

struct ConsolePort {
    config: PortConfig,
    nr: u32,
    backend: Box<dyn PortBackend>,
    input: Input,
    guest_open: bool,
    told_open: bool,
    ready: bool,
    held: Option<Held>,
}

/// virtio-console.
pub struct Console {
    config: Config,
    ports: Vec<ConsolePort>,
    messages: VecDeque<Vec<u8>>,
    bell: Doorbell,
    started: bool,
}

impl Console {
    /// A device without ports.
    pub fn new(config: Config) -> Self {
        let (ports, messages) = (Vec::new(), VecDeque::new());
        Self { config, ports, messages, bell: Doorbell::default(), started: false }
    }

    /// Adds a port; without a back end it swallows output. `connect` gets the way in.
    ///
    /// # Errors
    /// The number is taken or too large.
    pub fn add_port(
        &mut self,
        config: PortConfig,
        connect: impl FnOnce(&Input) -> Option<Box<dyn PortBackend>>,
    ) -> Result<(), BuildError> {
        let taken = |nr: u32| self.ports.iter().any(|p| p.nr == nr);
        let first = u32::from(!config.console);
        let free = (first..self.config.max_ports).find(|nr| !taken(*nr));
        let nr = match config.nr {
            Some(nr) if taken(nr) => {
                return Err(BuildError::new(format!("port number {nr} is in use")));
            }
            Some(nr) if nr >= self.config.max_ports => {
                let last = self.config.max_ports - 1;
                let text = format!("port number {nr} is not within 0 and {last}");
                return Err(BuildError::new(text).with_hint("Raise max_ports."));
            }
            Some(0) if !config.console => {
                let text = "port number 0 is reserved for virtconsole devices";
                return Err(BuildError::new(text));
            }
            Some(nr) => nr,
            None => free.ok_or_else(|| BuildError::new("no free port: raise max_ports"))?,
        };
        let input = Input::default();
        input.lock().bell = self.bell.clone();
        input.lock().wanted = config.console;
        let backend = connect(&input).unwrap_or_else(|| Box::new(Unconnected));
        self.ports.push(ConsolePort {
            config,
            nr,
            backend,
            input,
            guest_open: false,
            told_open: false,
            ready: false,
            held: None,
        });
        self.ports.sort_by_key(|p| p.nr);
        if self.started {
            self.say(nr, PORT_ADD, 1, &[]);
            self.bell.ring();
        }
        Ok(())
    }

    fn say(&mut self, nr: u32, event: u16, value: u16, more: &[u8]) {
        if self.messages.len() >= MESSAGES {
            return guest_error!("virtio-console: control messages are not taken");
        }
        let mut message = nr.to_le_bytes().to_vec();
        message.extend(event.to_le_bytes());
        message.extend(value.to_le_bytes());
        message.extend(more);
        self.messages.push_back(message);
    }

    fn send_messages(&mut self, core: &mut Core) {
        if !core.has(F_MULTIPORT) {
            self.messages.clear();
            return;
        }
        while let Some(message) = self.messages.front() {
            let Some(chain) = core.pop(CONTROL_RX) else { break };
            match core.mem().scatter(&chain.writable, 0, message) {
                Ok(n) => core.push(CONTROL_RX, chain.token, n as u32),
                Err(_) => return core.fail("virtio-console: a buffer lies outside memory"),
            }
            self.messages.pop_front();
        }
        core.signal(CONTROL_RX);
    }

    fn take_messages(&mut self, core: &mut Core) {
        while let Some(chain) = core.pop(CONTROL_TX) {
            let mut m = [0; 8];
            match core.mem().gather(&chain.readable, 0, &mut m) {
                Ok(8) => {
                    let nr = u32::from_le_bytes([m[0], m[1], m[2], m[3]]);
                    let event = u16::from_le_bytes([m[4], m[5]]);
                    self.heard(nr, event, u16::from_le_bytes([m[6], m[7]]));
                }
                Ok(n) => guest_error!("virtio-console: a control message of {n} bytes"),
                Err(_) => return core.fail("virtio-console: a buffer lies outside memory"),
            }
            core.push(CONTROL_TX, chain.token, 0);
        }
        core.signal(CONTROL_TX);
    }

    fn heard(&mut self, nr: u32, event: u16, value: u16) {
        if event == DEVICE_READY {
            self.started = value != 0;
            let all: Vec<u32> = self.ports.iter().map(|p| p.nr).collect();
            if self.started {
                all.iter().for_each(|nr| self.say(*nr, PORT_ADD, 1, &[]));
            }
            return;
        }
        let Some(port) = self.ports.iter_mut().find(|p| p.nr == nr) else {
            return guest_error!("virtio-console: event {event} for port {nr}, which is not there");
        };
        match event {
            PORT_READY if value != 0 => {
                port.ready = true;
                let console = port.config.console;
                let name = port.config.name.clone();
                port.told_open = false;
                if console {
                    self.say(nr, CONSOLE_PORT, 1, &[]);
                }
                if !name.is_empty() {
                    self.say(nr, PORT_NAME, 1, name.as_bytes());
                }
            }
            PORT_READY => guest_error!("virtio-console: the driver cannot use port {nr}"),
            PORT_OPEN => {
                port.guest_open = value != 0;
                let mut arrived = port.input.lock();
                arrived.wanted = port.guest_open || port.config.console;
                if !arrived.wanted {
                    arrived.bytes.clear();
                }
            }
            _ => guest_error!("virtio-console: unknown event {event}"),
        }
    }

    /// Tells the guest of ports that came to have somebody at them, or nobody.
    fn tell_open(&mut self) {
        let mut told = Vec::new();
        for port in self.ports.iter_mut().filter(|p| p.ready) {
            let open = port.config.console || port.input.lock().open;
            if open != port.told_open {
                port.told_open = open;
                told.push((port.nr, open));
            }
        }
        told.iter().for_each(|(nr, open)| self.say(*nr, PORT_OPEN, u16::from(*open), &[]));
    }

    fn send_output(&mut self, core: &mut Core, index: usize) {
        let port = &mut self.ports[index];
        let queue = queues(port.nr).1;
        loop {
            let mut held = match port.held.take() {
                Some(held) => held,
                None => match core.pop(queue) {
                    Some(c) => Held { token: c.token, spans: c.readable, done: 0 },
                    None => break,
                },
            };
            match write_out(core, port.backend.as_mut(), &mut held) {
                Ok(true) => core.push(queue, held.token, 0),
                Ok(false) => {
                    port.held = Some(held);
                    break;
                }
                Err(()) => return core.fail("virtio-console: a buffer lies outside memory"),
            }
        }
        core.signal(queue);
    }

    fn take_input(&mut self, core: &mut Core, index: usize) {
        let port = &mut self.ports[index];
        let queue = queues(port.nr).0;
        let mut arrived = port.input.lock();
        // Without control messages nobody can say that port 0 is open.
        arrived.wanted |= !core.has(F_MULTIPORT) && core.running();
        while !arrived.bytes.is_empty() {
            let Some(chain) = core.pop(queue) else { break };
            let bytes = arrived.bytes.make_contiguous();
            match core.mem().scatter(&chain.writable, 0, bytes) {
                Ok(n) => {
                    arrived.bytes.drain(..n);
                    core.push(queue, chain.token, n as u32);
                }
                Err(_) => {
                    drop(arrived);
                    return core.fail("virtio-console: a buffer lies outside memory");
                }
            }
        }
        let room = arrived.wanted && arrived.bytes.len() < INPUT;
        let accept = room && std::mem::take(&mut arrived.refused);
        drop(arrived);
        if accept {
            port.backend.accept_input();
        }
        core.signal(queue);
    }

    /// Gives back what is sent to ports that are not there.
    fn swallow(&self, core: &mut Core, queue: usize) {
        while let Some(chain) = core.pop(queue) {
            core.push(queue, chain.token, 0);
        }
        core.signal(queue);
    }
}

/// Receive and transmit queue of a port.
fn queues(nr: u32) -> (usize, usize) {
    let first = if nr == 0 { 0 } else { 2 + 2 * nr as usize };
    (first, first + 1)
}

/// Sends as much as the back end takes; true when that was all.
fn write_out(core: &Core, backend: &mut dyn PortBackend, held: &mut Held) -> Result<bool, ()> {
    let all = total(&held.spans);
    let mut bytes = [0; PIECE];
    while held.done < all {
        let n = core.mem().gather(&held.spans, held.done, &mut bytes).map_err(|_| ())?;
        let taken = backend.write(&bytes[..n]).min(n);
        held.done += taken as u64;
        if taken < n {
            return Ok(false);
        }
    }
    Ok(true)
}

impl VirtioDevice for Console {
    fn name(&self) -> &'static str {
        "virtio-serial-device"
    }
    fn device_id(&self) -> u16 {
        3
    }
    fn ring_options(&self) -> RingOptions {
        self.config.rings
    }
    fn features(&self) -> u64 {
        let bit = |on: bool, bit: u64| if on { bit } else { 0 };
        bit(self.config.max_ports > 1, F_MULTIPORT)
            | bit(self.config.emergency_write, F_EMERG_WRITE)
    }
    fn queues(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 2 + 2 * self.config.max_ports as usize]
    }
    fn vectors(&self) -> Option<u16> {
        Some(2)
    }
    fn as_console(&mut self) -> Option<&mut Console> {
        Some(self)
    }
    fn attach(&mut self, bell: Doorbell) {
        for port in &self.ports {
            port.input.lock().bell = bell.clone();
        }
        self.bell = bell;
    }

    fn config_len(&self) -> usize {
        if self.config.emergency_write { 12 } else { 8 }
    }
    fn config(&self, _core: &Core) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(self.config.max_ports.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.truncate(self.config_len());
        bytes
    }
    fn write_config(&mut self, _core: &mut Core, offset: usize, bytes: &[u8]) {
        let port = self.ports.iter_mut().find(|p| p.config.console);
        match (offset, bytes, port) {
            (EMERG_WR, [byte, ..], Some(port)) => {
                port.backend.write(&[*byte]);
            }
            _ => guest_error!("virtio-console: write to configuration space at {offset:#x}"),
        }
    }

    fn notify(&mut self, core: &mut Core, queue: usize) {
        match queue {
            CONTROL_RX => self.send_messages(core),
            CONTROL_TX => {
                self.take_messages(core);
                self.poll(core);
            }
            _ => {
                let of = |p: &ConsolePort| [queues(p.nr).0, queues(p.nr).1].contains(&queue);
                match self.ports.iter().position(of) {
                    Some(index) if queue.is_multiple_of(2) => self.take_input(core, index),
                    Some(index) => self.send_output(core, index),
                    None if !queue.is_multiple_of(2) => self.swallow(core, queue),
                    None => {}
                }
            }
        }
    }

    fn poll(&mut self, core: &mut Core) {
        self.tell_open();
        self.send_messages(core);
        for index in 0..self.ports.len() {
            self.take_input(core, index);
            self.send_output(core, index);
        }
    }

    fn reset(&mut self) {
        self.messages.clear();
        self.started = false;
        for port in &mut self.ports {
            (port.guest_open, port.told_open, port.ready) = (false, false, false);
            port.held = None;
            let mut arrived = port.input.lock();
            arrived.bytes.clear();
            arrived.wanted = port.config.console;
        }
    }

    fn save(&self) -> Value {
        let ports: Vec<PortState> = self.ports.iter().map(ConsolePort::state).collect();
        let messages: Vec<Blob> = self.messages.iter().map(|m| Blob(m.clone())).collect();
        SavedState::save(&State { started: self.started, ports, messages })
    }

    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        let mut state = State::default();
        state.restore(value)?;
        let numbers = |p: &PortState, own: &ConsolePort| p.nr == own.nr;
        if state.ports.len() != self.ports.len()
            || !state.ports.iter().zip(&self.ports).all(|(p, own)| numbers(p, own))
        {
            return Err(RestoreError::new("other ports").within("ports"));
        }
        self.started = state.started;
        self.messages = state.messages.into_iter().map(|m| m.0).collect();
        for (port, saved) in self.ports.iter_mut().zip(state.ports) {
            port.adopt(saved);
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, SavedState)]
struct State {
    #[n(1)]
    started: bool,
    #[n(2)]
    ports: Vec<PortState>,
    #[n(3)]
    messages: Vec<Blob>,
}

impl ConsolePort {
    fn state(&self) -> PortState {
        let held = self.held.as_ref();
        PortState {
            nr: self.nr,
            guest_open: self.guest_open,
            told_open: self.told_open,
            input: Blob(self.input.lock().bytes.iter().copied().collect()),
            held: held.map(|h| ((h.token.id, h.token.entries), h.done)),
            held_spans: held
                .map(|h| h.spans.iter().map(|s| (s.at, s.len)).collect())
                .unwrap_or_default(),
            ready: self.ready,
        }
    }

    fn adopt(&mut self, saved: PortState) {
        self.guest_open = saved.guest_open;
        self.told_open = saved.told_open;
        self.ready = saved.ready;
        let spans = saved.held_spans.iter().map(|(at, len)| Span { at: *at, len: *len }).collect();
        self.held = saved.held.map(|((id, entries), done)| Held {
            token: Token { id, entries },
            spans,
            done,
        });
        let mut arrived = self.input.lock();
        arrived.wanted = self.guest_open || self.config.console;
        arrived.bytes = saved.input.0.into_iter().take(INPUT).collect();
    }
}

/// A character back end as the host side of a port.
struct Chardev {
    port: chardev::Port,
    /// The back end only keeps a weak handle.
    _sink: Arc<dyn chardev::Sink>,
}

impl PortBackend for Chardev {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.port.write(bytes)
    }
    fn accept_input(&mut self) {
        self.port.accept_input();
    }
}

impl chardev::Sink for Input {
    fn receive(&self, bytes: &[u8]) -> usize {
        Self::receive(self, bytes)
    }
    fn event(&self, event: chardev::Event) {
        match event {
            chardev::Event::Opened => self.set_open(true),
            chardev::Event::Closed => self.set_open(false),
            _ => {}
        }
    }
    fn writable(&self) {
        self.resume();
    }
}

/// Connects a character back end to a port: give it to [`Console::add_port`].
pub fn over_chardev(port: chardev::Port, input: &Input) -> Box<dyn PortBackend> {
    let sink: Arc<dyn chardev::Sink> = Arc::new(input.clone());
    port.attach(&sink);
    Box::new(Chardev { port, _sink: sink })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::feature;
    use crate::harness::{BUFFERS, Driver, Machine, Mmio, Part, RAM, RAM_LEN, Transport};
    use device::Part as _;

    /// Takes what it is allowed to.
    #[derive(Clone, Default)]
    struct Host(Arc<Mutex<(Vec<u8>, usize, u32)>>);
    impl PortBackend for Host {
        fn write(&mut self, bytes: &[u8]) -> usize {
            let mut h = self.0.lock().unwrap();
            let n = h.1.min(bytes.len());
            h.1 -= n;
            h.0.extend(&bytes[..n]);
            n
        }
        fn accept_input(&mut self) {
            self.0.lock().unwrap().2 += 1;
        }
    }

    struct Setup {
        console: Console,
        hosts: Vec<Host>,
        inputs: Vec<Input>,
    }

    fn setup() -> Setup {
        let config = Config { rings: RingOptions::default(), max_ports: 31, emergency_write: true };
        let mut s = Setup { console: Console::new(config), hosts: vec![], inputs: vec![] };
        for (console, name) in [(true, ""), (false, "org.example")] {
            let host = Host::default();
            host.0.lock().unwrap().1 = 1000;
            s.hosts.push(host.clone());
            let port = PortConfig { nr: None, name: name.into(), console };
            let inputs = &mut s.inputs;
            s.console
                .add_port(port, |input| {
                    inputs.push(input.clone());
                    Some(Box::new(host))
                })
                .unwrap();
        }
        s
    }

    fn message(nr: u32, event: u16, value: u16) -> Vec<u8> {
        let mut m = nr.to_le_bytes().to_vec();
        m.extend(event.to_le_bytes());
        m.extend(value.to_le_bytes());
        m
    }

    /// Offers control buffers one by one until there is no more message.
    fn heard<T: Transport>(d: &mut Driver<'_, T>) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            if d.used(2).is_none() {
                d.submit(2, BUFFERS + 0x8000, &[Part::In(64)]);
                if d.used(2).is_none() {
                    return all;
                }
            }
            // The length of a name is not checked here.
            all.push(d.m.read(BUFFERS + 0x8000, 8));
        }
    }

    #[test]
    fn ports_are_announced_and_carry_bytes_both_ways() {
        let s = setup();
        let m = Machine::new();
        let t = Mmio::new(&m, false, Box::new(s.console));
        let mut d = Driver::start(&m, &t, u64::MAX, 6, 16);
        d.request(3, &[Part::Out(&message(u32::MAX, DEVICE_READY, 1))]);
        assert_eq!(heard(&mut d), [message(0, PORT_ADD, 1), message(1, PORT_ADD, 1)]);
        d.request(3, &[Part::Out(&message(0, PORT_READY, 1))]);
        d.request(3, &[Part::Out(&message(1, PORT_READY, 1))]);
        s.inputs[1].set_open(true);
        let mut used = vec![d.m.read(BUFFERS + 0x8000, 8)];
        assert_eq!(d.used(2), Some(8));
        used.extend(heard(&mut d));
        let want = [
            message(0, CONSOLE_PORT, 1),
            message(0, PORT_OPEN, 1),
            message(1, PORT_NAME, 1),
            message(1, PORT_OPEN, 1),
        ];
        assert_eq!(used, want);
        d.request(1, &[Part::Out(b"hello")]);
        assert_eq!(s.hosts[0].0.lock().unwrap().0, b"hello");
        // Port 1 takes input once the guest has opened it.
        assert_eq!(s.inputs[1].receive(b"abc"), 0);
        d.request(3, &[Part::Out(&message(1, PORT_OPEN, 1))]);
        assert_eq!(s.hosts[1].0.lock().unwrap().2, 1);
        assert_eq!(s.inputs[1].receive(b"abc"), 3);
        let (n, got) = d.request(4, &[Part::In(2)]);
        assert_eq!((n, &got[..]), (2, &b"ab"[..]));
        assert_eq!(d.request(4, &[Part::In(8)]).1[..1], b"c"[..]);
    }

    #[test]
    fn output_waits_for_a_slow_host_and_is_saved() {
        let s = setup();
        let m = Machine::new();
        let t = Mmio::new(&m, false, Box::new(s.console));
        let mut d = Driver::start(&m, &t, feature::VERSION_1, 2, 16);
        s.hosts[0].0.lock().unwrap().1 = 3;
        d.submit(1, BUFFERS, &[Part::Out(b"slowly")]);
        assert_eq!(d.used(1), None);
        s.inputs[0].receive(b"in");
        let saved = t.slot.save();
        let copy = Machine::new();
        copy.write(RAM, &m.read(RAM, RAM_LEN as usize));
        let other = setup();
        let u = Mmio::new(&copy, false, Box::new(other.console));
        u.slot.restore(&state::decode(&state::encode(&saved)).unwrap()).unwrap();
        other.hosts[0].0.lock().unwrap().1 = 0;
        assert_eq!(u.slot.save(), saved);
        other.hosts[0].0.lock().unwrap().1 = 9;
        other.inputs[0].resume();
        assert_eq!(other.hosts[0].0.lock().unwrap().0, b"wly");
        s.hosts[0].0.lock().unwrap().1 = 9;
        s.inputs[0].resume();
        assert_eq!(d.used(1), Some(0));
        assert_eq!(s.hosts[0].0.lock().unwrap().0, b"slowly");
    }

    #[test]
    fn what_back_ends_bring_waits_while_the_machine_stands_still() {
        let s = setup();
        let m = Machine::new();
        let t = Mmio::new(&m, false, Box::new(s.console));
        let mut d = Driver::start(&m, &t, feature::VERSION_1, 2, 16);
        s.hosts[0].0.lock().unwrap().1 = 3;
        d.submit(1, BUFFERS, &[Part::Out(b"slowly")]);
        t.slot.hold();
        let saved = t.slot.save();
        s.hosts[0].0.lock().unwrap().1 = 9;
        s.inputs[0].resume();
        assert_eq!((d.used(1), t.slot.save()), (None, saved));
        t.slot.release();
        assert_eq!(d.used(1), Some(0));
    }

    #[test]
    fn restoring_ends_what_is_in_flight_without_a_trace_in_the_guest() {
        let s = setup();
        let m = Machine::new();
        let t = Mmio::new(&m, false, Box::new(s.console));
        let mut d = Driver::start(&m, &t, feature::VERSION_1, 2, 16);
        s.hosts[0].0.lock().unwrap().1 = 3;
        d.submit(1, BUFFERS, &[Part::Out(b"slowly")]);
        let saved = t.slot.save();
        s.hosts[0].0.lock().unwrap().1 = 9;
        t.slot.hold();
        assert_eq!(d.used(1), Some(0));
        t.lines.take();
        t.slot.restore(&saved).unwrap();
        assert_eq!((t.lines.take(), t.slot.save()), (vec![(0, false)], saved));
    }

    #[test]
    fn port_numbers_are_checked() {
        let mut c = setup().console;
        let mut add = |nr, console| {
            let port = PortConfig { nr, console, ..PortConfig::default() };
            c.add_port(port, |_| None).err().map(|e| e.message)
        };
        assert_eq!(add(Some(1), false).as_deref(), Some("port number 1 is in use"));
        assert_eq!(add(Some(31), false).as_deref(), Some("port number 31 is not within 0 and 30"));
        assert_eq!(add(None, true), None);
    }
}
