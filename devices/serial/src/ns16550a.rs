//! NS16550A UART on a memory bus (National Semiconductor PC16550D data sheet, June 1995).
//!
//! Characters leave at once, however slow the line is set to; the receiver takes them as fast as
//! there is room. Only the time-out of the receive FIFO knows how long a character takes. Frame
//! and parity errors do not happen; breaks and overruns do. Not modelled: DMA signalling.

mod regs {
    //! Register summary; names as in the data sheet. DLL and DLM replace the first two while
    //! LCR.DLAB is set.
    device::registers! { u8 {
        0 RBR ro;
        0 THR wo;
        1 IER rw bits 0x0f;
        2 IIR ro;
        2 FCR wo;
        3 LCR rw;
        4 MCR rw bits 0x1f;
        5 LSR ro;
        6 MSR ro;
        7 SCR rw;
    }}

    pub const ERBFI: u8 = 1 << 0;
    pub const ETBEI: u8 = 1 << 1;
    pub const ELSI: u8 = 1 << 2;
    pub const EDSSI: u8 = 1 << 3;

    pub const FIFO_ENABLE: u8 = 1 << 0;
    pub const RCVR_RESET: u8 = 1 << 1;
    pub const XMIT_RESET: u8 = 1 << 2;

    pub const DLAB: u8 = 1 << 7;
    pub const SET_BREAK: u8 = 1 << 6;

    pub const LOOP: u8 = 1 << 4;

    pub const DR: u8 = 1 << 0;
    pub const OE: u8 = 1 << 1;
    pub const BI: u8 = 1 << 4;
    pub const THRE: u8 = 1 << 5;
    pub const TEMT: u8 = 1 << 6;
    pub const FIFO_ERROR: u8 = 1 << 7;

    pub const TERI: u8 = 1 << 2;
    pub const CTS: u8 = 1 << 4;
    pub const DSR: u8 = 1 << 5;
    pub const RI: u8 = 1 << 6;
    pub const DCD: u8 = 1 << 7;
}

use crate::SerialBackend;
use device::{
    AccessRules, Bus, Category, Device, DeviceClass, MmioDevice, Property, RestoreError,
    SavedState, Shared, Value, Wire,
};
use regs::*;
use state::Blob;
use time::{Clock, Timer};

/// Depth of either FIFO, in characters.
const DEPTH: usize = 16;
/// Level of the receive FIFO that interrupts, by FCR bits 7:6.
const TRIGGERS: [usize; 4] = [1, 4, 8, 14];
/// Modem inputs as they are when nobody drives them: the other side is there and ready.
const CONNECTED: u8 = DCD | DSR | CTS;
/// Divisor after reset: 9600 baud with the usual 1.8432 MHz crystal.
const RESET_DIVISOR: u16 = 12;
/// Bits of LSR that a read clears.
const LINE_ERRORS: u8 = OE | BI | 0x0c;

/// Which byte of a wide register slot holds the register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endian {
    /// The first.
    #[default]
    Little,
    /// The last.
    Big,
}

/// What the board chooses.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Registers are `1 << regshift` bytes apart.
    pub regshift: u32,
    /// Which byte of a slot holds the register.
    pub endian: Endian,
    /// Input clock in Hz: 16 times the baud rate that divisor 1 gives.
    pub clock_hz: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { regshift: 0, endian: Endian::Little, clock_hz: 3_686_400 }
    }
}

/// Everything the guest can observe.
#[derive(Clone, Default, SavedState)]
struct State {
    #[n(1)]
    divisor: u16,
    #[n(2)]
    ier: u8,
    #[n(3)]
    fcr: u8,
    #[n(4)]
    lcr: u8,
    #[n(5)]
    mcr: u8,
    /// Overrun, and the errors of the character at the top of the FIFO.
    #[n(6)]
    errors: u8,
    /// Modem inputs as last seen (high half) and their changes since MSR was read (low half).
    #[n(7)]
    msr: u8,
    #[n(8)]
    scr: u8,
    #[n(9)]
    received: Blob,
    /// Error bits of each received character.
    #[n(10)]
    received_errors: Blob,
    /// Characters that the back end has not taken yet.
    #[n(11)]
    sending: Blob,
    /// The transmitter-empty interrupt is due.
    #[n(12)]
    thr_interrupt: bool,
    /// The receive FIFO has been left alone for four character times.
    #[n(13)]
    timed_out: bool,
    /// When that happens, in ns of the virtual clock.
    #[n(14)]
    timeout_at: Option<u64>,
    /// What RBR reads when nothing is there.
    #[n(15)]
    rbr: u8,
}

/// NS16550A UART.
pub struct Ns16550a {
    config: Config,
    irq: Wire,
    backend: Box<dyn SerialBackend>,
    clock: Clock,
    timeout: Timer,
    /// The machine stands still: the back end waits, and a break goes by unheard.
    held: bool,
    state: State,
}

/// Sources of interrupts in order of priority: IIR value and enabling bit of IER.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    None = 0x01,
    Modem = 0x00,
    TransmitterEmpty = 0x02,
    DataAvailable = 0x04,
    LineStatus = 0x06,
    TimeOut = 0x0c,
}

impl Device for Ns16550a {
    fn reset(&mut self) {
        self.state =
            State { divisor: RESET_DIVISOR, mcr: 0x08, msr: CONNECTED, ..State::default() };
        self.update();
        self.backend.accept_input();
    }

    fn save(&self) -> Value {
        self.state.save()
    }

    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        let mut new = State::default();
        new.restore(value)?;
        let (data, errors) = (&new.received.0, &new.received_errors.0);
        if data.len() > DEPTH || errors.len() != data.len() || new.sending.0.len() > DEPTH {
            return Err(RestoreError::new("FIFO contents do not fit").within("received"));
        }
        self.state = new;
        self.update();
        Ok(())
    }

    fn hold(&mut self) {
        self.held = true;
    }

    fn release(&mut self) {
        self.held = false;
        self.backend.accept_input();
        self.resume_sending();
    }
}

impl MmioDevice for Ns16550a {
    fn rules(&self) -> AccessRules {
        AccessRules { min: 1, max: 1 }
    }

    fn read(&mut self, offset: u64, _size: u32) -> u64 {
        let Some(offset) = self.register(offset) else { return 0 };
        let Some(reg) = ReadReg::at(offset) else { return 0 };
        let value = self.read_register(reg);
        self.update();
        u64::from(value)
    }

    fn write(&mut self, offset: u64, _size: u32, value: u64) {
        let Some(offset) = self.register(offset) else { return };
        let Some((reg, bits)) = WriteReg::at(offset) else {
            return device::guest_error!("ns16550a: write to read-only register {offset}");
        };
        self.write_register(reg, value as u8, bits);
        self.update();
    }
}

impl Ns16550a {
    /// A port in its state after power-on that interrupts through `irq`.
    pub fn new(
        config: Config,
        irq: Wire,
        clock: &Clock,
        backend: Box<dyn SerialBackend>,
    ) -> Shared<Self> {
        Shared::new_cyclic(|weak: device::Weak<Self>| {
            let timeout = clock.timer(move || {
                if let Some(port) = weak.upgrade() {
                    port.lock().expired();
                }
            });
            let clock = clock.clone();
            let state = State::default();
            let held = false;
            let mut port = Self { config, irq, backend, clock, timeout, held, state };
            port.reset();
            port
        })
    }

    /// Bytes of address space that the registers take.
    pub fn len(&self) -> u64 {
        8 << self.config.regshift.min(8)
    }

    /// Never: there are always eight registers.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Number of characters that [`Ns16550a::receive`] would take now.
    pub fn can_receive(&self) -> usize {
        if self.held || self.state.mcr & LOOP != 0 {
            return 0;
        }
        let depth = if self.fifos() { DEPTH } else { 1 };
        depth.saturating_sub(self.state.received.0.len())
    }

    /// Characters arrive on the line; takes as many as there is room for and returns how many.
    /// The back end hears through `accept_input` when there is room for more.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.can_receive());
        for byte in &bytes[..taken] {
            self.push(*byte, 0);
        }
        self.update();
        taken
    }

    /// The other side sends a break.
    pub fn receive_break(&mut self) {
        if !self.held && self.state.mcr & LOOP == 0 {
            self.push(0, BI);
            self.update();
        }
    }

    /// The back end can take output again.
    pub fn resume_sending(&mut self) {
        if !self.held {
            self.send();
            self.update();
        }
    }

    /// Replaces the back end.
    pub fn set_backend(&mut self, backend: Box<dyn SerialBackend>) {
        self.backend = backend;
        self.resume_sending();
    }

    /// The register that lies at `offset`, if this byte of its slot holds it.
    fn register(&self, offset: u64) -> Option<u64> {
        let slot = 1u64 << self.config.regshift.min(8);
        let lane = match self.config.endian {
            Endian::Little => 0,
            Endian::Big => slot - 1,
        };
        (offset & (slot - 1) == lane).then_some(offset / slot)
    }

    fn fifos(&self) -> bool {
        self.state.fcr & FIFO_ENABLE != 0
    }

    fn trigger(&self) -> usize {
        if self.fifos() { TRIGGERS[usize::from(self.state.fcr >> 6)] } else { 1 }
    }

    fn read_register(&mut self, reg: ReadReg) -> u8 {
        let [dll, dlm] = self.state.divisor.to_le_bytes();
        match reg {
            ReadReg::RBR if self.state.lcr & DLAB != 0 => dll,
            ReadReg::IER if self.state.lcr & DLAB != 0 => dlm,
            ReadReg::RBR => self.pop(),
            ReadReg::IER => self.state.ier,
            ReadReg::IIR => self.identify(),
            ReadReg::LCR => self.state.lcr,
            ReadReg::MCR => self.state.mcr,
            ReadReg::LSR => self.read_lsr(),
            ReadReg::MSR => {
                let msr = self.state.msr;
                self.state.msr &= 0xf0;
                msr
            }
            ReadReg::SCR => self.state.scr,
        }
    }

    fn write_register(&mut self, reg: WriteReg, value: u8, bits: u8) {
        let dlab = self.state.lcr & DLAB != 0;
        let [dll, dlm] = self.state.divisor.to_le_bytes();
        match reg {
            WriteReg::THR if dlab => self.state.divisor = u16::from_le_bytes([value, dlm]),
            WriteReg::IER if dlab => self.state.divisor = u16::from_le_bytes([dll, value]),
            WriteReg::THR => self.transmit(value),
            WriteReg::IER => self.enable_interrupts(value & bits),
            WriteReg::FCR => self.control_fifos(value),
            WriteReg::LCR => self.state.lcr = value,
            WriteReg::MCR => self.control_modem(value & bits),
            WriteReg::SCR => self.state.scr = value,
        }
    }

    /// Enabling the transmitter interrupt while the transmitter is empty raises it at once.
    fn enable_interrupts(&mut self, ier: u8) {
        let risen = ier & !self.state.ier;
        self.state.ier = ier;
        if risen & ETBEI != 0 && self.state.sending.0.is_empty() {
            self.state.thr_interrupt = true;
        }
    }

    /// FCR: changing the enable bit empties both FIFOs.
    fn control_fifos(&mut self, value: u8) {
        let toggled = (value ^ self.state.fcr) & FIFO_ENABLE != 0;
        let enabled = value & FIFO_ENABLE != 0;
        if toggled || enabled && value & RCVR_RESET != 0 {
            self.state.received.0.clear();
            self.state.received_errors.0.clear();
            self.state.errors &= OE;
            self.stop_timeout();
            self.backend.accept_input();
        }
        if toggled || enabled && value & XMIT_RESET != 0 {
            self.state.sending.0.clear();
            self.state.thr_interrupt = true;
        }
        self.state.fcr = if enabled { value & (FIFO_ENABLE | 0xc8) } else { 0 };
    }

    fn control_modem(&mut self, mcr: u8) {
        let left_loop = self.state.mcr & !mcr & LOOP != 0;
        self.state.mcr = mcr;
        let inputs = if mcr & LOOP == 0 {
            CONNECTED
        } else {
            // RTS drives CTS, DTR drives DSR, OUT1 drives RI, OUT2 drives DCD.
            (mcr & 2) << 3 | (mcr & 1) << 5 | (mcr & 4) << 4 | (mcr & 8) << 4
        };
        let before = self.state.msr & 0xf0;
        let changed = (before ^ inputs) >> 4;
        // RI reports its trailing edge only.
        let rang = if before & !inputs & RI != 0 { TERI } else { 0 };
        self.state.msr = inputs | self.state.msr & 0x0f | changed & !TERI | rang;
        if left_loop {
            self.backend.accept_input();
        }
    }

    fn read_lsr(&mut self) -> u8 {
        let lsr = self.lsr();
        self.state.errors = 0;
        if let Some(first) = self.state.received_errors.0.first_mut() {
            *first = 0;
        }
        lsr
    }

    fn lsr(&self) -> u8 {
        let mut lsr = self.state.errors;
        if let Some(errors) = self.state.received_errors.0.first() {
            lsr |= DR | errors;
        }
        if self.state.sending.0.is_empty() {
            lsr |= THRE | TEMT;
        }
        if self.fifos() && self.state.received_errors.0.iter().any(|e| *e != 0) {
            lsr |= FIFO_ERROR;
        }
        lsr
    }

    /// Reading IIR acknowledges the transmitter interrupt if that is what it shows.
    fn identify(&mut self) -> u8 {
        let source = self.source();
        if source == Source::TransmitterEmpty {
            self.state.thr_interrupt = false;
        }
        let fifos = if self.fifos() { 0xc0 } else { 0 };
        source as u8 | fifos
    }

    fn source(&self) -> Source {
        let state = &self.state;
        let enabled = |bit| state.ier & bit != 0;
        if enabled(ELSI) && self.lsr() & LINE_ERRORS != 0 {
            Source::LineStatus
        } else if enabled(ERBFI) && state.timed_out {
            Source::TimeOut
        } else if enabled(ERBFI) && state.received.0.len() >= self.trigger() {
            Source::DataAvailable
        } else if enabled(ETBEI) && state.thr_interrupt {
            Source::TransmitterEmpty
        } else if enabled(EDSSI) && state.msr & 0x0f != 0 {
            Source::Modem
        } else {
            Source::None
        }
    }

    fn transmit(&mut self, byte: u8) {
        self.state.thr_interrupt = false;
        if self.state.mcr & LOOP != 0 {
            let (byte, errors) = if self.state.lcr & SET_BREAK != 0 { (0, BI) } else { (byte, 0) };
            self.push(byte, errors);
            self.state.thr_interrupt = true;
            return;
        }
        let depth = if self.fifos() { DEPTH } else { 1 };
        let sending = &mut self.state.sending.0;
        if sending.len() >= depth {
            // A full transmitter loses what was written last before.
            sending.truncate(depth - 1);
        }
        sending.push(byte);
        self.send();
    }

    /// Hands the back end what waits.
    fn send(&mut self) {
        let sending = &mut self.state.sending.0;
        if sending.is_empty() {
            return;
        }
        let taken = self.backend.write(sending).min(sending.len());
        sending.drain(..taken);
        if sending.is_empty() {
            self.state.thr_interrupt = true;
        }
    }

    /// A character enters the receiver; a full FIFO keeps what it has, a full RBR does not.
    fn push(&mut self, byte: u8, errors: u8) {
        let depth = if self.fifos() { DEPTH } else { 1 };
        if self.state.received.0.len() >= depth {
            self.state.errors |= OE;
            if self.fifos() {
                return;
            }
            self.state.received.0.clear();
            self.state.received_errors.0.clear();
        }
        self.state.received.0.push(byte);
        self.state.received_errors.0.push(errors);
        self.restart_timeout();
    }

    fn pop(&mut self) -> u8 {
        let state = &mut self.state;
        if state.received.0.is_empty() {
            return state.rbr;
        }
        let full = state.received.0.len() >= if state.fcr & FIFO_ENABLE != 0 { DEPTH } else { 1 };
        state.rbr = state.received.0.remove(0);
        // The errors of a character read without LSR stay visible until LSR is read.
        state.errors |= state.received_errors.0.remove(0);
        state.timed_out = false;
        let now_empty = state.received.0.is_empty();
        if now_empty {
            self.stop_timeout();
        } else {
            self.restart_timeout();
        }
        if full || now_empty {
            self.backend.accept_input();
        }
        self.state.rbr
    }

    fn restart_timeout(&mut self) {
        self.state.timed_out = false;
        self.state.timeout_at =
            self.fifos().then(|| self.clock.now_ns().saturating_add(4 * self.character_ns()));
    }

    fn stop_timeout(&mut self) {
        self.state.timed_out = false;
        self.state.timeout_at = None;
    }

    /// Time that one character takes on the line.
    fn character_ns(&self) -> u64 {
        let lcr = self.state.lcr;
        let bits =
            1 + 5 + u64::from(lcr & 3) + u64::from(lcr >> 3 & 1) + 1 + u64::from(lcr >> 2 & 1);
        let divisor = u64::from(self.state.divisor.max(1));
        bits * 16 * divisor * 1_000_000_000 / self.config.clock_hz.max(1)
    }

    fn expired(&mut self) {
        let due = self.state.timeout_at.is_some_and(|at| at <= self.clock.now_ns());
        if due {
            self.state.timeout_at = None;
            self.state.timed_out = !self.state.received.0.is_empty();
        }
        self.update();
    }

    /// Drives the wire and the timer to match the state.
    fn update(&mut self) {
        match self.state.timeout_at {
            Some(at) if self.timeout.deadline() != Some(at) => self.timeout.arm(at),
            Some(_) => {}
            None => self.timeout.cancel(),
        }
        self.irq.set(self.source() != Source::None);
    }
}

/// The row of `serial-mm`.
pub static CLASS: DeviceClass = DeviceClass {
    name: "serial-mm",
    aliases: &[],
    bus: Bus::System,
    category: Category::Input,
    description: "NS16550A UART in memory",
    properties: &[Property {
        name: "regshift",
        kind: "uint8",
        default: "0",
        description: "log2 of the distance of registers",
    }],
    saved_version: 1,
};

#[cfg(test)]
#[path = "ns16550a_tests.rs"]
mod tests;
