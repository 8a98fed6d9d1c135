//! SCSI host adapter (VIRTIO 1.3, "SCSI Host Device") and its disks and CD-ROMs.
//!
//! Not modelled: protection information, initiator-to-target data in both directions, hot
//! unplugging, asynchronous notifications.

mod lun;
mod pages;
mod sense;

pub use lun::{Kind, LunConfig};

use crate::core::{Core, Doorbell, RingOptions, VirtioDevice};
use crate::dma::{Span, total};
use crate::inbox::Inbox;
use crate::props::{BuildError, Props};
use crate::ring::{Chain, MAX_CHAIN, Token};
use device::guest_error;
use graph::{Completion, Executor, Op, Request, WriteFlags, ZeroFlags};
use lun::{Lun, Outcome, Parameters};
use sense::{INVALID_FIELD, NO_LUN, READ_ERROR, Sense};
use state::{RestoreError, SavedState, Value};
use std::collections::VecDeque;
use std::sync::Arc;

const F_HOTPLUG: u64 = 1 << 1;
const F_CHANGE: u64 = 1 << 2;

const CONTROL: usize = 0;
const EVENT: usize = 1;
const REQUESTS: usize = 2;

/// Response codes.
const S_OK: u8 = 0;
const S_OVERRUN: u8 = 1;
const S_ABORTED: u8 = 2;
const S_BAD_TARGET: u8 = 3;
const S_FUNCTION_REJECTED: u8 = 11;
const S_INCORRECT_LUN: u8 = 12;

const CHECK_CONDITION: u8 = 2;

const MAX_TARGET: u16 = 255;
const MAX_LUN: u32 = 16383;
const SENSE_SIZE: usize = 20;
const CDB_SIZE: usize = 24;
/// Largest transfer handed to the disk at once, in bytes.
const PIECE: u64 = 1 << 20;
/// Longest parameter list of a command.
const MAX_PARAMETERS: u64 = 8 + 255 * 16;

/// What the user chooses of the adapter.
#[derive(Clone)]
pub struct Config {
    /// Common ring properties.
    pub rings: RingOptions,
    /// Request queues.
    pub num_queues: u16,
    /// Entries of each queue.
    pub queue_size: u16,
    /// Largest transfer in sectors of 512 bytes.
    pub max_sectors: u32,
    /// Requests for one unit at a time.
    pub cmd_per_lun: u32,
    /// `seg_max` follows the queue size.
    pub seg_max_adjust: bool,
    /// Offers hot plugging.
    pub hotplug: bool,
    /// Offers parameter changes.
    pub param_change: bool,
    /// Threads that serve the units, in place of those that come with their disks.
    pub executor: Option<Arc<Executor>>,
}

impl Config {
    /// From properties; `default_queues` is what `num_queues` is when not given.
    ///
    /// # Errors
    /// A property is wrong.
    pub fn parse(props: &Props<'_>, default_queues: u16) -> Result<Self, BuildError> {
        let limit = u32::from(MAX_CHAIN) - 2;
        let num_queues = match props.number::<u32>("num_queues")? {
            u32::MAX => default_queues.clamp(1, limit as u16),
            n if n == 0 || n > limit => {
                let text = format!("Invalid number of queues (= {n}), must be a positive integer");
                return Err(BuildError::new(format!("{text} less than {}.", limit + 1)));
            }
            n => n as u16,
        };
        let queue_size = match props.number::<u32>("virtqueue_size")? {
            n if n.is_power_of_two() && (4..=MAX_CHAIN.into()).contains(&n) => n as u16,
            n => {
                let text = format!("invalid virtqueue_size property ({n}), must be");
                return Err(BuildError::new(format!("{text} a power of 2 (max {MAX_CHAIN})")));
            }
        };
        Ok(Self {
            rings: props.ring_options()?,
            num_queues,
            queue_size,
            max_sectors: props.number("max_sectors")?,
            cmd_per_lun: props.number("cmd_per_lun")?,
            seg_max_adjust: props.bool("seg_max_adjust")?,
            hotplug: props.bool("hotplug")?,
            param_change: props.bool("param_change")?,
            executor: None,
        })
    }
}

/// What is left to do for a request.
enum Work {
    Read { offset: u64, len: u64 },
    Write { offset: u64, len: u64, fua: bool },
    Fill { offset: u64, len: u64, block: Vec<u8> },
    Ops(VecDeque<(u64, Op)>),
}

struct InFlight {
    queue: usize,
    token: Token,
    tag: u64,
    unit: usize,
    /// Response, then data for the driver.
    writable: Vec<Span>,
    /// Request, then data from the driver.
    readable: Vec<Span>,
    work: Work,
    done: u64,
    aborted: bool,
}

/// How a request ended.
struct Answer {
    response: u8,
    sense: Option<Sense>,
    residual: u32,
    /// Bytes of data for the driver.
    data: u64,
}

impl Answer {
    fn response(response: u8) -> Self {
        Self { response, sense: None, residual: 0, data: 0 }
    }
    fn check(sense: Sense) -> Self {
        Self { sense: Some(sense), ..Self::response(S_OK) }
    }
    fn good(data: u64) -> Self {
        Self { data, ..Self::response(S_OK) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, SavedState, Default)]
struct State {
    #[n(1)]
    sense_size: u32,
    #[n(2)]
    cdb_size: u32,
    /// An event was lost for want of a buffer.
    #[n(3)]
    events_missed: bool,
    /// Events to tell: kind, unit address, reason.
    #[n(4)]
    events: Vec<(u32, (u64, u32))>,
}

/// virtio-scsi.
pub struct ScsiHost {
    config: Config,
    units: Vec<Lun>,
    inbox: Inbox<(usize, Completion)>,
    in_flight: Vec<Option<InFlight>>,
    busy: usize,
    state: State,
    started: bool,
}

fn address(target: u8, lun: u16) -> u64 {
    u64::from_le_bytes([1, target, 0x40 | (lun >> 8) as u8, lun as u8, 0, 0, 0, 0])
}

impl ScsiHost {
    /// An adapter without units.
    pub fn new(config: Config) -> Self {
        let mut host = Self {
            config,
            units: Vec::new(),
            inbox: Inbox::default(),
            in_flight: Vec::new(),
            busy: 0,
            state: State::default(),
            started: false,
        };
        host.reset_state();
        host
    }

    fn reset_state(&mut self) {
        self.state = State { sense_size: 96, cdb_size: 32, ..State::default() };
        self.started = false;
    }

    /// Adds a disk or CD-ROM; tells a driver that runs.
    ///
    /// # Errors
    /// The place is taken.
    pub fn add_unit(&mut self, mut config: LunConfig) -> Result<(), BuildError> {
        if let Some(executor) = &self.config.executor {
            config.executor = Arc::clone(executor);
        }
        let taken = |t: u8, l: u16| self.units.iter().any(|u| (u.target, u.lun) == (t, l));
        let lun = config.lun.unwrap_or(0);
        let target = match config.target {
            Some(target) => target,
            None => (0..=255)
                .find(|t| !taken(*t, lun))
                .ok_or_else(|| BuildError::new("no free target"))?,
        };
        if taken(target, lun) {
            return Err(BuildError::new(format!(
                "lun already used by another device: target {target} lun {lun}"
            )));
        }
        self.units.push(Lun::new(config, target, lun));
        if self.started && self.config.hotplug {
            const TRANSPORT_RESET: u32 = 1;
            const RESCAN: u32 = 1;
            self.state.events.push((TRANSPORT_RESET, (address(target, lun), RESCAN)));
        }
        Ok(())
    }

    /// Target and number of the unit that was added last.
    pub fn last_unit(&self) -> Option<(u8, u16)> {
        self.units.last().map(|unit| (unit.target, unit.lun))
    }

    /// The unit at a request's address, or what the driver is told.
    fn find(&self, lun: [u8; 8]) -> Result<usize, u8> {
        if lun[0] != 1 {
            return Err(S_BAD_TARGET);
        }
        let number = u16::from(lun[2] & 0x3f) << 8 | u16::from(lun[3]);
        let at = |u: &Lun| u.target == lun[1] && u.lun == number;
        match self.units.iter().position(at) {
            Some(index) => Ok(index),
            None if self.units.iter().any(|u| u.target == lun[1]) => Err(S_INCORRECT_LUN),
            None => Err(S_BAD_TARGET),
        }
    }

    fn header_in(&self) -> u64 {
        19 + u64::from(self.state.cdb_size)
    }

    fn header_out(&self) -> u64 {
        12 + u64::from(self.state.sense_size)
    }

    fn take(&mut self, core: &mut Core, queue: usize) {
        while self.busy < usize::from(self.config.queue_size) {
            let Some(chain) = core.pop(queue) else { break };
            self.start(core, queue, chain);
        }
        core.signal(queue);
    }

    fn start(&mut self, core: &mut Core, queue: usize, chain: Chain) {
        let mut head = [0; 19];
        let mut cdb = [0; 32];
        let whole = total(&chain.writable) >= self.header_out()
            && total(&chain.readable) >= self.header_in()
            && core.mem().gather(&chain.readable, 0, &mut head) == Ok(19);
        let n = (self.state.cdb_size as usize).min(32);
        if !whole || core.mem().gather(&chain.readable, 19, &mut cdb[..n]).is_err() {
            return core.fail("virtio-scsi: a request lacks its header or response");
        }
        let (lun, tag) = (head.first_chunk().copied().unwrap_or_default(), &head[8..16]);
        let tag = tag.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
        let mut request = InFlight {
            queue,
            token: chain.token,
            tag,
            unit: 0,
            writable: chain.writable,
            readable: chain.readable,
            work: Work::Ops(VecDeque::new()),
            done: 0,
            aborted: false,
        };
        let unit = match self.find(lun) {
            Ok(unit) => unit,
            Err(S_INCORRECT_LUN) => return self.other_lun(core, &request, lun[1], &cdb),
            Err(response) => return self.finish(core, &request, &Answer::response(response)),
        };
        request.unit = unit;
        let outcome = if cdb[0] == 0xa0 {
            self.report_luns(lun[1], &cdb)
        } else {
            self.units[unit].execute(&cdb)
        };
        let outcome = match outcome {
            Outcome::Parameters(what) => match self.parameters(core, &request, what, &cdb) {
                Some(outcome) => outcome,
                None => return,
            },
            other => other,
        };
        self.perform(core, request, outcome, &cdb);
    }

    /// Reads a command's parameters; `None` when the request has ended.
    fn parameters(
        &mut self,
        core: &mut Core,
        request: &InFlight,
        what: Parameters,
        cdb: &[u8; 32],
    ) -> Option<Outcome> {
        let wanted = lun::transfer_len(cdb);
        let there = total(&request.readable) - self.header_in();
        if wanted > there {
            self.finish(core, request, &Answer::response(S_OVERRUN));
            return None;
        }
        if wanted > MAX_PARAMETERS {
            return Some(Outcome::Check(INVALID_FIELD));
        }
        let mut bytes = vec![0; wanted as usize];
        if core.mem().gather(&request.readable, self.header_in(), &mut bytes).is_err() {
            core.fail("virtio-scsi: a buffer lies outside memory");
            return None;
        }
        Some(self.units[request.unit].parameters(what, &bytes))
    }

    fn perform(
        &mut self,
        core: &mut Core,
        mut request: InFlight,
        outcome: Outcome,
        cdb: &[u8; 32],
    ) {
        let room_in = total(&request.writable) - self.header_out();
        let room_out = total(&request.readable) - self.header_in();
        request.work = match outcome {
            Outcome::Done => return self.finish(core, &request, &Answer::good(0)),
            Outcome::Check(sense) => return self.refuse(core, &request, sense),
            Outcome::Data { bytes, pad } => {
                let wanted = lun::transfer_len(cdb);
                return self.give(core, &request, bytes, pad, wanted);
            }
            Outcome::Read { len, .. } if len > room_in => {
                return self.finish(core, &request, &Answer::response(S_OVERRUN));
            }
            Outcome::Write { len, .. } if len > room_out => {
                return self.finish(core, &request, &Answer::response(S_OVERRUN));
            }
            Outcome::Read { offset, len } => Work::Read { offset, len },
            Outcome::Write { offset, len, fua } => Work::Write { offset, len, fua },
            Outcome::Fill { offset, len } => {
                let mut block = vec![0; self.units[request.unit].config.block as usize];
                let from = self.header_in();
                if room_out < block.len() as u64 {
                    return self.finish(core, &request, &Answer::response(S_OVERRUN));
                }
                if core.mem().gather(&request.readable, from, &mut block).is_err() {
                    return core.fail("virtio-scsi: a buffer lies outside memory");
                }
                if graph::is_zero(&block) {
                    let unmap = cdb[1] & 8 != 0;
                    let op = Op::WriteZeroes(len, ZeroFlags { fua: false, unmap });
                    Work::Ops([(offset, op)].into())
                } else {
                    Work::Fill { offset, len, block }
                }
            }
            Outcome::Ops(ops) => Work::Ops(ops),
            Outcome::Parameters(_) => return self.refuse(core, &request, INVALID_FIELD),
        };
        self.advance(core, request);
    }

    fn refuse(&mut self, core: &mut Core, request: &InFlight, sense: Sense) {
        self.units[request.unit].remember(sense);
        self.finish(core, request, &Answer::check(sense));
    }

    /// Hands data over: as much as the driver asked for, filled with zeros if the command does.
    fn give(
        &mut self,
        core: &mut Core,
        request: &InFlight,
        mut bytes: Vec<u8>,
        pad: bool,
        wanted: u64,
    ) {
        if wanted > total(&request.writable) - self.header_out() {
            return self.finish(core, request, &Answer::response(S_OVERRUN));
        }
        if pad {
            // Nobody asks for more than a page; what is beyond stays as it was.
            bytes.resize(bytes.len().max(wanted.min(4096) as usize), 0);
        }
        bytes.truncate(wanted as usize);
        if core.mem().scatter(&request.writable, self.header_out(), &bytes).is_err() {
            return core.fail("virtio-scsi: a buffer lies outside memory");
        }
        let data = bytes.len() as u64;
        let residual = (wanted - data) as u32;
        self.finish(core, request, &Answer { residual, ..Answer::good(data) });
    }

    /// A target is there, but not that unit of it.
    fn other_lun(&mut self, core: &mut Core, request: &InFlight, target: u8, cdb: &[u8; 32]) {
        let outcome = match cdb[0] {
            0xa0 => self.report_luns(target, cdb),
            0x12 if cdb[1] & 1 == 0 => {
                let mut bytes = vec![0; 36];
                bytes[0] = 0x7f;
                Outcome::Data { bytes, pad: false }
            }
            0x03 => Outcome::Data { bytes: NO_LUN.bytes().to_vec(), pad: false },
            _ => Outcome::Check(NO_LUN),
        };
        match outcome {
            Outcome::Data { bytes, pad } => {
                self.give(core, request, bytes, pad, lun::transfer_len(cdb));
            }
            Outcome::Check(sense) => self.finish(core, request, &Answer::check(sense)),
            _ => self.finish(core, request, &Answer::good(0)),
        }
    }

    fn report_luns(&self, target: u8, cdb: &[u8; 32]) -> Outcome {
        if lun::transfer_len(cdb) < 16 || cdb[2] > 2 {
            return Outcome::Check(INVALID_FIELD);
        }
        let mut luns: Vec<u16> =
            self.units.iter().filter(|u| u.target == target).map(|u| u.lun).collect();
        luns.push(0);
        luns.sort_unstable();
        luns.dedup();
        let mut bytes = (8 * luns.len() as u32).to_be_bytes().to_vec();
        bytes.extend([0; 4]);
        for lun in luns {
            let flat = if lun < 256 { 0 } else { 0x40 };
            bytes.extend([flat | (lun >> 8) as u8, lun as u8, 0, 0, 0, 0, 0, 0]);
        }
        Outcome::Data { bytes, pad: false }
    }

    /// Submits the next piece of work, or ends the request.
    fn advance(&mut self, core: &mut Core, mut request: InFlight) {
        let done = request.done;
        let from = self.header_in();
        let (offset, op) = match &mut request.work {
            Work::Ops(ops) => match ops.pop_front() {
                Some(next) => next,
                None => return self.finish(core, &request, &Answer::good(0)),
            },
            Work::Read { len, .. } if done == *len => {
                let data = *len;
                return self.finish(core, &request, &Answer::good(data));
            }
            Work::Write { len, .. } | Work::Fill { len, .. } if done == *len => {
                return self.finish(core, &request, &Answer::good(0));
            }
            Work::Read { offset, len } => {
                (*offset + done, Op::Read(vec![0; (*len - done).min(PIECE) as usize]))
            }
            Work::Write { offset, len, fua } => {
                let mut bytes = vec![0; (*len - done).min(PIECE) as usize];
                if core.mem().gather(&request.readable, from + done, &mut bytes).is_err() {
                    return core.fail("virtio-scsi: a buffer lies outside memory");
                }
                (*offset + done, Op::Write(bytes, WriteFlags { fua: *fua }))
            }
            Work::Fill { offset, len, block } => {
                // A piece holds whole blocks: both are powers of two.
                let n = (*len - done).min(PIECE) as usize;
                let bytes = block.repeat(n / block.len().max(1));
                (*offset + done, Op::Write(bytes, WriteFlags::default()))
            }
        };
        let unit = request.unit;
        let slot = self.in_flight.iter().position(Option::is_none).unwrap_or_else(|| {
            self.in_flight.push(None);
            self.in_flight.len() - 1
        });
        self.in_flight[slot] = Some(request);
        self.busy += 1;
        let sender = self.inbox.sender();
        self.units[unit].queue.submit(Request { offset, op }, move |completion| {
            sender.send((slot, completion));
        });
    }

    fn complete(&mut self, core: &mut Core, slot: usize, completion: Completion) {
        let Some(mut request) = self.in_flight.get_mut(slot).and_then(Option::take) else { return };
        self.busy -= 1;
        if !core.running() {
            return;
        }
        if request.aborted {
            return self.finish(core, &request, &Answer::response(S_ABORTED));
        }
        if completion.result.is_err() {
            return self.refuse(core, &request, READ_ERROR);
        }
        if matches!(request.work, Work::Read { .. }) {
            let at = self.header_out() + request.done;
            if core.mem().scatter(&request.writable, at, &completion.buf).is_err() {
                return core.fail("virtio-scsi: a buffer lies outside memory");
            }
        }
        request.done += completion.buf.len() as u64;
        self.advance(core, request);
    }

    fn finish(&mut self, core: &mut Core, request: &InFlight, answer: &Answer) {
        let mut bytes = vec![0; self.header_out() as usize];
        let sense = answer.sense.map(Sense::bytes);
        let sense = sense.as_ref().map_or(&[][..], |s| s);
        let n = sense.len().min(self.state.sense_size as usize);
        bytes[..4].copy_from_slice(&(n as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&answer.residual.to_le_bytes());
        bytes[10] = if answer.sense.is_some() { CHECK_CONDITION } else { 0 };
        bytes[11] = answer.response;
        bytes[12..12 + n].copy_from_slice(&sense[..n]);
        if core.mem().scatter(&request.writable, 0, &bytes).is_err() {
            return core.fail("virtio-scsi: a response lies outside memory");
        }
        let written = self.header_out() + answer.data;
        core.push(request.queue, request.token, u32::try_from(written).unwrap_or(u32::MAX));
    }

    fn control(&mut self, core: &mut Core) {
        while let Some(chain) = core.pop(CONTROL) {
            let mut head = [0; 24];
            let Ok(n) = core.mem().gather(&chain.readable, 0, &mut head) else {
                return core.fail("virtio-scsi: a buffer lies outside memory");
            };
            let (at, answer) = match head[0] {
                // Task management; the others query or subscribe to events, of which there are none.
                0 if n == 24 => (0, vec![self.manage(&head)]),
                1 | 2 if n >= 20 => (0, vec![0, 0, 0, 0, S_OK]),
                _ => return core.fail("virtio-scsi: a control request is too short"),
            };
            match core.mem().scatter(&chain.writable, at, &answer) {
                Ok(n) if n == answer.len() => core.push(CONTROL, chain.token, n as u32),
                _ => return core.fail("virtio-scsi: no room for a control response"),
            }
        }
        core.signal(CONTROL);
    }

    /// Task management: requests in flight end as aborted when the disk is done with them.
    fn manage(&mut self, head: &[u8; 24]) -> u8 {
        const ABORT_TASK: u8 = 0;
        const ABORT_TASK_SET: u8 = 1;
        const CLEAR_TASK_SET: u8 = 3;
        const NEXUS_RESET: u8 = 4;
        const UNIT_RESET: u8 = 5;
        const QUERY_TASK: u8 = 6;
        const QUERY_TASK_SET: u8 = 7;
        const SUCCEEDED: u8 = 10;
        let word = |b: &[u8]| b.iter().rev().fold(0, |v: u64, b| v << 8 | u64::from(*b));
        let (kind, target, tag) = (head[4], head[9], word(&head[16..24]));
        let lun = head[8..16].first_chunk().copied().unwrap_or_default();
        let unit = match (kind, self.find(lun)) {
            (NEXUS_RESET, Err(S_INCORRECT_LUN)) => None,
            (_, Ok(unit)) => Some(unit),
            (_, Err(response)) => return response,
        };
        let mut matching = self.in_flight.iter_mut().flatten().filter(|r| match kind {
            ABORT_TASK | QUERY_TASK => Some(r.unit) == unit && r.tag == tag,
            NEXUS_RESET => true,
            _ => Some(r.unit) == unit,
        });
        match kind {
            ABORT_TASK | ABORT_TASK_SET | CLEAR_TASK_SET => matching.for_each(|r| r.aborted = true),
            QUERY_TASK | QUERY_TASK_SET => {
                return if matching.next().is_some() { SUCCEEDED } else { S_OK };
            }
            NEXUS_RESET | UNIT_RESET => {
                matching.for_each(|r| r.aborted = true);
                let nexus = kind == NEXUS_RESET;
                for (i, u) in self.units.iter_mut().enumerate() {
                    if nexus && u.target == target || Some(i) == unit {
                        u.reset();
                    }
                }
            }
            _ => return S_FUNCTION_REJECTED,
        }
        S_OK
    }

    fn send_events(&mut self, core: &mut Core) {
        const MISSED: u32 = 1 << 31;
        while let Some((kind, (unit, reason))) = self.state.events.first().copied() {
            let Some(chain) = core.pop(EVENT) else { break };
            let missed = if self.state.events_missed { MISSED } else { 0 };
            let mut bytes = (kind | missed).to_le_bytes().to_vec();
            bytes.extend(unit.to_le_bytes());
            bytes.extend(reason.to_le_bytes());
            match core.mem().scatter(&chain.writable, 0, &bytes) {
                Ok(n) => core.push(EVENT, chain.token, n as u32),
                Err(_) => return core.fail("virtio-scsi: a buffer lies outside memory"),
            }
            self.state.events_missed = false;
            self.state.events.remove(0);
        }
        core.signal(EVENT);
    }
}

impl VirtioDevice for ScsiHost {
    fn name(&self) -> &'static str {
        "virtio-scsi-device"
    }
    fn device_id(&self) -> u16 {
        8
    }
    fn ring_options(&self) -> RingOptions {
        self.config.rings
    }
    fn features(&self) -> u64 {
        let bit = |on: bool, bit: u64| if on { bit } else { 0 };
        bit(self.config.hotplug, F_HOTPLUG) | bit(self.config.param_change, F_CHANGE)
    }
    fn queues(&self) -> Vec<u16> {
        vec![self.config.queue_size; REQUESTS + usize::from(self.config.num_queues)]
    }
    fn as_scsi(&mut self) -> Option<&mut ScsiHost> {
        Some(self)
    }
    fn attach(&mut self, bell: Doorbell) {
        self.inbox.attach(bell);
    }

    fn config_len(&self) -> usize {
        36
    }
    fn config(&self, _core: &Core) -> Vec<u8> {
        let c = &self.config;
        let seg_max = if c.seg_max_adjust { u32::from(c.queue_size) - 2 } else { 126 };
        let words = [
            c.num_queues.into(),
            seg_max,
            c.max_sectors,
            c.cmd_per_lun,
            16,
            self.state.sense_size,
            self.state.cdb_size,
            // No channel but 0, then the last target.
            u32::from(MAX_TARGET) << 16,
            MAX_LUN,
        ];
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }
    fn write_config(&mut self, _core: &mut Core, offset: usize, bytes: &[u8]) {
        let value = match bytes {
            [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
            _ => return guest_error!("virtio-scsi: write of {} bytes", bytes.len()),
        };
        match offset {
            _ if self.busy != 0 => guest_error!("virtio-scsi: sizes change with requests about"),
            SENSE_SIZE if value < 65536 => self.state.sense_size = value,
            CDB_SIZE if value <= 256 => self.state.cdb_size = value,
            _ => guest_error!("virtio-scsi: write of {value:#x} at {offset:#x}"),
        }
    }

    fn ready(&mut self, _core: &mut Core) {
        self.started = true;
    }

    fn notify(&mut self, core: &mut Core, queue: usize) {
        match queue {
            CONTROL => self.control(core),
            EVENT => self.send_events(core),
            _ => self.take(core, queue),
        }
    }

    fn poll(&mut self, core: &mut Core) {
        for (slot, completion) in self.inbox.take() {
            self.complete(core, slot, completion);
        }
        self.send_events(core);
        self.control(core);
        (REQUESTS..core.queue_count()).for_each(|queue| self.take(core, queue));
    }

    fn drain(&mut self) {
        self.units.iter().for_each(|u| u.queue.drain());
    }
    fn idle(&self) -> bool {
        self.busy == 0
    }
    fn reset(&mut self) {
        self.reset_state();
        self.units.iter_mut().for_each(Lun::reset);
    }

    fn save(&self) -> Value {
        let units = Value::List(self.units.iter().map(Lun::save).collect());
        Value::Record(vec![(1, SavedState::save(&self.state)), (2, units)])
    }
    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        let record = value.record()?;
        let state: State = state::field(record, 1, "state")?;
        if state.sense_size >= 65536 || state.cdb_size > 256 || state.events.len() > 4096 {
            return Err(RestoreError::new("is out of range").within("state"));
        }
        let units = record.iter().find(|(n, _)| *n == 2).map(|(_, v)| v);
        let units = match units {
            Some(Value::List(units)) if units.len() == self.units.len() => units,
            _ => return Err(RestoreError::new("other units").within("units")),
        };
        // All of them, or none.
        let parsed: Result<Vec<_>, _> =
            self.units.iter().zip(units).map(|(unit, saved)| unit.parse(saved)).collect();
        let parsed = parsed.map_err(|e| e.within("units"))?;
        self.units.iter_mut().zip(parsed).for_each(|(unit, state)| unit.take_over(state));
        self.state = state;
        self.started = true;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
