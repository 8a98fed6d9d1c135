//! Network card (VIRTIO 1.3, "Network Device").
//!
//! Frames go to a [`NetBackend`] and come from it. Not modelled: offloads (none is offered that
//! the back end would have to do), several queue pairs, receive-side scaling.

use crate::core::{Core, Doorbell, RingOptions, VirtioDevice};
use crate::dma::total;
use crate::props::{BuildError, Props};
use crate::ring::Chain;
use device::guest_error;
use netdev::{MAX_FRAME, NetBackend, Receiver};
use state::{Blob, RestoreError, SavedState, Value};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod bits {
    //! Feature bits.
    pub const CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
    pub const MAC: u64 = 1 << 5;
    /// Legacy: any segmentation offload.
    pub const GSO: u64 = 1 << 6;
    pub const MRG_RXBUF: u64 = 1 << 15;
    pub const STATUS: u64 = 1 << 16;
    pub const CTRL_VQ: u64 = 1 << 17;
    pub const CTRL_RX: u64 = 1 << 18;
    pub const CTRL_VLAN: u64 = 1 << 19;
    pub const CTRL_RX_EXTRA: u64 = 1 << 20;
    pub const GUEST_ANNOUNCE: u64 = 1 << 21;
    pub const CTRL_MAC_ADDR: u64 = 1 << 23;
}

/// Properties that are features, with their bits.
const FEATURES: &[(&str, u64)] = &[
    ("ctrl_guest_offloads", bits::CTRL_GUEST_OFFLOADS),
    ("mrg_rxbuf", bits::MRG_RXBUF),
    ("status", bits::STATUS),
    ("ctrl_vq", bits::CTRL_VQ),
    ("ctrl_rx", bits::CTRL_RX),
    ("ctrl_vlan", bits::CTRL_VLAN),
    ("ctrl_rx_extra", bits::CTRL_RX_EXTRA),
    ("guest_announce", bits::GUEST_ANNOUNCE),
    ("ctrl_mac_addr", bits::CTRL_MAC_ADDR),
];

const RX: usize = 0;
const TX: usize = 1;
const CONTROL: usize = 2;
const CONTROL_SIZE: u16 = 64;
const LINK_UP: u16 = 1;
/// Frames kept for a driver that is slow to take them.
const BACKLOG: usize = 256;
/// Addresses of the receive filter; with more, all pass.
const MAX_ADDRESSES: usize = 64;
/// Longest control command that is read, in bytes.
const MAX_COMMAND: usize = 4096;

/// A hardware address.
pub type Mac = [u8; 6];

/// What the user chooses.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Common ring properties.
    pub rings: RingOptions,
    /// The card's address.
    pub mac: Mac,
    /// Feature bits of the type.
    pub features: u64,
    /// Entries of the receive queue.
    pub rx_queue_size: u16,
    /// Entries of the transmit queue.
    pub tx_queue_size: u16,
}

/// Reads a hardware address: six pairs of digits with colons or dashes between.
pub fn parse_mac(text: &str) -> Option<Mac> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next()?;
        let hex = !part.is_empty() && part.len() <= 2;
        let hex = hex && part.bytes().all(|b| b.is_ascii_hexdigit());
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| hex)?;
    }
    parts.next().is_none().then_some(mac)
}

impl Config {
    /// From properties; `mac` is the address when none is given.
    ///
    /// # Errors
    /// A property is wrong.
    pub fn parse(props: &Props<'_>, mac: Mac) -> Result<Self, BuildError> {
        let mac = match props.text("mac") {
            "" => mac,
            text => parse_mac(text).ok_or_else(|| {
                let name = "virtio-net-device.mac";
                BuildError::new(format!("Property '{name}' doesn't take value '{text}'"))
                    .with_hint("An address looks like 52:54:00:12:34:56.")
            })?,
        };
        let queue = |name: &str| match props.number::<u16>(name)? {
            n if n.is_power_of_two() && (256..=1024).contains(&n) => Ok(n),
            n => Err(BuildError::new(format!(
                "Invalid {name} (= {n}), must be a power of 2 between 256 and 1024."
            ))),
        };
        for unsupported in ["mq", "rss", "hash", "guest_rsc_ext", "failover"] {
            if props.bool(unsupported)? {
                return Err(BuildError::new(format!("not supported yet: {unsupported}=on")));
            }
        }
        let mut features = bits::MAC;
        for (name, bit) in FEATURES {
            if props.bool(name)? {
                features |= bit;
            }
        }
        let control = bits::CTRL_RX
            | bits::CTRL_VLAN
            | bits::CTRL_RX_EXTRA
            | bits::GUEST_ANNOUNCE
            | bits::CTRL_MAC_ADDR
            | bits::CTRL_GUEST_OFFLOADS;
        if features & bits::CTRL_VQ == 0 {
            features &= !control;
        }
        Ok(Self {
            rings: props.ring_options()?,
            mac,
            features,
            rx_queue_size: queue("rx_queue_size")?,
            tx_queue_size: queue("tx_queue_size")?,
        })
    }
}

#[derive(Default)]
struct Arrived {
    frames: VecDeque<Vec<u8>>,
    refused: bool,
    link_down: bool,
    bell: Doorbell,
}

/// The card as its back end sees it.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Arrived>>);

impl Wire {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receiver for Wire {
    fn receive(&self, frame: &[u8]) -> bool {
        if frame.len() > MAX_FRAME {
            return true;
        }
        let mut arrived = self.lock();
        if arrived.frames.len() >= BACKLOG {
            arrived.refused = true;
            return false;
        }
        arrived.frames.push_back(frame.to_vec());
        let bell = arrived.bell.clone();
        drop(arrived);
        bell.ring();
        true
    }

    fn link(&self, up: bool) {
        let mut arrived = self.lock();
        arrived.link_down = !up;
        let bell = arrived.bell.clone();
        drop(arrived);
        bell.ring();
    }
}

/// What passes to the driver.
#[derive(Clone, Debug, PartialEq, Eq, SavedState, Default)]
struct State {
    #[n(1)]
    mac: [u8; 6],
    #[n(2)]
    promisc: bool,
    #[n(3)]
    allmulti: bool,
    #[n(4)]
    alluni: bool,
    #[n(5)]
    nomulti: bool,
    #[n(6)]
    nouni: bool,
    #[n(7)]
    nobcast: bool,
    #[n(8)]
    unicast: Vec<[u8; 6]>,
    #[n(9)]
    multicast: Vec<[u8; 6]>,
    /// VLANs that pass, one bit each.
    #[n(10)]
    vlans: Blob,
    #[n(11)]
    link_down: bool,
    #[n(12)]
    unicast_overflow: bool,
    #[n(13)]
    multicast_overflow: bool,
    /// Frames not taken yet.
    #[n(14)]
    frames: Vec<Blob>,
}

impl State {
    fn fresh(mac: Mac) -> Self {
        Self { mac, promisc: true, vlans: Blob(vec![0; 4096 / 8]), ..Self::default() }
    }

    /// Whether a frame is for this card.
    fn passes(&self, frame: &[u8], vlan_filter: bool) -> bool {
        let Some(to) = frame.first_chunk::<6>() else { return false };
        if self.promisc {
            return true;
        }
        if vlan_filter && let [0x81, 0x00, high, low] = frame.get(12..16).unwrap_or(&[]) {
            let vlan = usize::from(u16::from_be_bytes([*high, *low]) & 0xfff);
            if self.vlans.0.get(vlan / 8).is_none_or(|b| b >> (vlan % 8) & 1 == 0) {
                return false;
            }
        }
        if *to == [0xff; 6] {
            !self.nobcast
        } else if to[0] & 1 != 0 {
            !self.nomulti
                && (self.allmulti || self.multicast_overflow || self.multicast.contains(to))
        } else {
            !self.nouni
                && (self.alluni
                    || self.unicast_overflow
                    || *to == self.mac
                    || self.unicast.contains(to))
        }
    }
}

/// virtio-net.
pub struct Net {
    config: Config,
    backend: Box<dyn NetBackend>,
    wire: Wire,
    /// The back end only keeps a weak handle.
    _receiver: Arc<dyn Receiver>,
    state: State,
}

impl Net {
    /// A card on its back end.
    pub fn new(config: Config, mut backend: Box<dyn NetBackend>) -> Self {
        let wire = Wire::default();
        let receiver: Arc<dyn Receiver> = Arc::new(wire.clone());
        backend.attach(&receiver);
        let state = State::fresh(config.mac);
        Self { config, backend, wire, _receiver: receiver, state }
    }

    /// Bytes before each frame.
    fn header_len(core: &Core) -> usize {
        if core.modern() || core.has(bits::MRG_RXBUF) { 12 } else { 10 }
    }

    fn transmit(&mut self, core: &mut Core) {
        while let Some(chain) = core.pop(TX) {
            let header = Self::header_len(core) as u64;
            let len = total(&chain.readable);
            if len < header {
                return core.fail("virtio-net: a frame lacks its header");
            }
            if len - header <= MAX_FRAME as u64 {
                let mut frame = vec![0; (len - header) as usize];
                if core.mem().gather(&chain.readable, header, &mut frame).is_err() {
                    return core.fail("virtio-net: a buffer lies outside memory");
                }
                self.backend.send(&frame);
            }
            core.push(TX, chain.token, 0);
        }
        core.signal(TX);
    }

    fn receive(&mut self, core: &mut Core) {
        if !core.running() {
            return;
        }
        let vlan_filter = core.has(bits::CTRL_VLAN);
        loop {
            let frame = self.wire.lock().frames.pop_front();
            let Some(frame) = frame else { break };
            if self.state.passes(&frame, vlan_filter) && !self.deliver(core, &frame) {
                self.wire.lock().frames.push_front(frame);
                break;
            }
        }
        let mut arrived = self.wire.lock();
        let room = arrived.frames.len() < BACKLOG && std::mem::take(&mut arrived.refused);
        drop(arrived);
        if room {
            self.backend.room();
        }
        core.signal(RX);
    }

    /// Puts a frame into the driver's buffers; false when there are not enough.
    fn deliver(&self, core: &mut Core, frame: &[u8]) -> bool {
        let header = Self::header_len(core);
        let mut bytes = vec![0; header];
        bytes.extend(frame);
        let mergeable = core.has(bits::MRG_RXBUF);
        let mut chains: Vec<Chain> = Vec::new();
        let mut room = 0;
        while room < bytes.len() as u64 {
            match core.pop(RX) {
                Some(chain) => {
                    room += total(&chain.writable);
                    chains.push(chain);
                }
                None => {
                    chains.iter().rev().for_each(|c| core.unpop(RX, c.token));
                    return false;
                }
            }
            if !mergeable {
                break;
            }
        }
        if header == 12 {
            bytes[10..12].copy_from_slice(&(chains.len() as u16).to_le_bytes());
        }
        if room < bytes.len() as u64 {
            // The driver's buffer is too small for this frame, which is lost.
            chains.iter().for_each(|c| core.unpop(RX, c.token));
            return true;
        }
        let mut rest = &bytes[..];
        for chain in &chains {
            match core.mem().scatter(&chain.writable, 0, rest) {
                Ok(n) => {
                    rest = &rest[n..];
                    core.push(RX, chain.token, n as u32);
                }
                Err(_) => {
                    core.fail("virtio-net: a buffer lies outside memory");
                    return true;
                }
            }
        }
        true
    }

    fn control(&mut self, core: &mut Core) {
        while let Some(chain) = core.pop(CONTROL) {
            let mut command = vec![0; MAX_COMMAND];
            let Ok(n) = core.mem().gather(&chain.readable, 0, &mut command) else {
                return core.fail("virtio-net: a buffer lies outside memory");
            };
            let done = match &command[..n] {
                [class, command, data @ ..] => self.command(*class, *command, data),
                _ => None,
            };
            match core.mem().scatter(&chain.writable, 0, &[u8::from(done.is_none())]) {
                Ok(1) => core.push(CONTROL, chain.token, 1),
                _ => return core.fail("virtio-net: no room for a command's status"),
            }
        }
        core.signal(CONTROL);
    }

    /// Obeys a control command; `None` when it is wrong.
    fn command(&mut self, class: u8, command: u8, data: &[u8]) -> Option<()> {
        let s = &mut self.state;
        match (class, command) {
            (0, _) => {
                let on = *data.first()? != 0;
                let switches = [
                    &mut s.promisc,
                    &mut s.allmulti,
                    &mut s.alluni,
                    &mut s.nomulti,
                    &mut s.nouni,
                    &mut s.nobcast,
                ];
                *switches.into_iter().nth(command.into())? = on;
            }
            (1, 0) => {
                let (unicast, rest) = addresses(data)?;
                let (multicast, _) = addresses(rest)?;
                s.unicast_overflow = unicast.len() > MAX_ADDRESSES;
                s.multicast_overflow = multicast.len() > MAX_ADDRESSES;
                s.unicast = if s.unicast_overflow { Vec::new() } else { unicast };
                s.multicast = if s.multicast_overflow { Vec::new() } else { multicast };
            }
            (1, 1) => s.mac = *data.first_chunk::<6>()?,
            (2, 0 | 1) => {
                let vlan = usize::from(u16::from_le_bytes(*data.first_chunk::<2>()?));
                let byte = s.vlans.0.get_mut(vlan / 8)?;
                let bit = 1 << (vlan % 8);
                *byte = if command == 0 { *byte | bit } else { *byte & !bit };
            }
            // Announcements are acknowledged; no offload is on that could be switched.
            (3, 0) => {}
            (5, 0) => {
                let wanted = u64::from_le_bytes(*data.first_chunk::<8>()?);
                (wanted == 0).then_some(())?;
            }
            _ => {
                guest_error!("virtio-net: unknown command {class}.{command}");
                return None;
            }
        }
        Some(())
    }
}

/// A counted table of addresses, and what follows it.
fn addresses(data: &[u8]) -> Option<(Vec<Mac>, &[u8])> {
    let count = u32::from_le_bytes(*data.first_chunk::<4>()?) as usize;
    let len = count.checked_mul(6)?;
    let table = data[4..].get(..len)?;
    let (table, _) = table.as_chunks::<6>();
    Some((table.to_vec(), &data[4 + len..]))
}

impl VirtioDevice for Net {
    fn name(&self) -> &'static str {
        "virtio-net-device"
    }
    fn device_id(&self) -> u16 {
        1
    }
    fn ring_options(&self) -> RingOptions {
        self.config.rings
    }
    fn features(&self) -> u64 {
        self.config.features
    }
    fn legacy_features(&self, common: u64, _transitional: bool) -> u64 {
        common | self.features() | bits::GSO
    }
    fn queues(&self) -> Vec<u16> {
        vec![self.config.rx_queue_size, self.config.tx_queue_size, CONTROL_SIZE]
    }
    fn attach(&mut self, bell: Doorbell) {
        self.wire.lock().bell = bell;
    }

    fn config_len(&self) -> usize {
        8
    }
    fn config(&self, _core: &Core) -> Vec<u8> {
        let mut b = self.state.mac.to_vec();
        b.extend(if self.state.link_down { 0 } else { LINK_UP }.to_le_bytes());
        b
    }
    /// A legacy driver may set the address this way.
    fn write_config(&mut self, core: &mut Core, offset: usize, bytes: &[u8]) {
        match self.state.mac.get_mut(offset..offset + bytes.len()) {
            Some(part) if !core.modern() => part.copy_from_slice(bytes),
            _ => guest_error!("virtio-net: write to configuration space at {offset:#x}"),
        }
    }

    fn notify(&mut self, core: &mut Core, queue: usize) {
        match queue {
            RX => self.receive(core),
            TX => self.transmit(core),
            _ => self.control(core),
        }
    }

    fn poll(&mut self, core: &mut Core) {
        let link_down = self.wire.lock().link_down;
        if link_down != self.state.link_down {
            self.state.link_down = link_down;
            core.config_changed();
        }
        self.receive(core);
        self.transmit(core);
        self.control(core);
    }

    fn reset(&mut self) {
        let link_down = self.state.link_down;
        self.state = State { link_down, ..State::fresh(self.config.mac) };
        self.wire.lock().frames.clear();
    }

    fn save(&self) -> Value {
        let frames = self.wire.lock().frames.iter().map(|f| Blob(f.clone())).collect();
        SavedState::save(&State { frames, ..self.state.clone() })
    }
    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        self.state.restore(value)?;
        self.state.vlans.0.resize(4096 / 8, 0);
        let frames = std::mem::take(&mut self.state.frames);
        let mut arrived = self.wire.lock();
        arrived.frames = frames.into_iter().map(|f| f.0).take(BACKLOG).collect();
        arrived.link_down = self.state.link_down;
        Ok(())
    }
}
