//! Block device (VIRTIO 1.3, "Block Device").
//!
//! Requests go to a [`graph::Queue`] and come back on its threads. Large transfers are cut into
//! pieces, so that a driver cannot make the host allocate what it likes. Not modelled: secure
//! erase, zoned devices, `VIRTIO_BLK_T_SCSI_CMD` (answered as unsupported).

use crate::core::{Core, Doorbell, RingOptions, VirtioDevice, feature};
use crate::dma::{Span, total};
use crate::inbox::Inbox;
use crate::props::{BuildError, Props};
use crate::ring::{Chain, MAX_CHAIN, Token};
use device::guest_error;
use graph::{Completion, Disk, Executor, Op, Queue, Request, WriteFlags, ZeroFlags};
use std::sync::Arc;

mod bits {
    //! Feature bits.
    pub const SEG_MAX: u64 = 1 << 2;
    pub const GEOMETRY: u64 = 1 << 4;
    pub const RO: u64 = 1 << 5;
    pub const BLK_SIZE: u64 = 1 << 6;
    /// Legacy: SCSI commands.
    pub const SCSI: u64 = 1 << 7;
    pub const FLUSH: u64 = 1 << 9;
    pub const TOPOLOGY: u64 = 1 << 10;
    pub const CONFIG_WCE: u64 = 1 << 11;
    pub const MQ: u64 = 1 << 12;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// Request types.
const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_GET_ID: u32 = 8;
const T_DISCARD: u32 = 11;
const T_WRITE_ZEROES: u32 = 13;
/// Legacy: a barrier before the request; ignored.
const T_BARRIER: u32 = 1 << 31;

/// Status byte.
const S_OK: u8 = 0;
const S_IOERR: u8 = 1;
const S_UNSUPP: u8 = 2;

const HEADER: u64 = 16;
const SECTOR: u64 = graph::SECTOR;
const ID_LEN: usize = 20;
/// Largest transfer handed to the disk at once, in bytes.
const PIECE: u64 = 1 << 20;
/// Offset of `writeback` in the configuration space.
const WRITEBACK: usize = 32;

/// What the user chooses.
pub struct Config {
    /// Common ring properties.
    pub rings: RingOptions,
    /// The disk.
    pub disk: Arc<Disk>,
    /// Threads that serve it.
    pub executor: Arc<Executor>,
    /// Serial number, at most 20 bytes of it are shown.
    pub serial: String,
    /// Request queues.
    pub num_queues: u16,
    /// Entries of each queue.
    pub queue_size: u16,
    /// Logical block size in bytes.
    pub logical_block: u32,
    /// Physical block size in bytes.
    pub physical_block: u32,
    /// Preferred smallest request in bytes.
    pub min_io: u32,
    /// Preferred request in bytes.
    pub opt_io: u32,
    /// Cylinders, heads and sectors.
    pub geometry: (u16, u8, u8),
    /// Whether discards are offered.
    pub discard: bool,
    /// Whether write-zeroes is offered.
    pub write_zeroes: bool,
    /// Alignment of discards in bytes.
    pub discard_granularity: u32,
    /// Largest discard in sectors.
    pub max_discard_sectors: u32,
    /// Largest write-zeroes in sectors.
    pub max_write_zeroes_sectors: u32,
    /// Whether the driver may switch the write cache.
    pub config_wce: bool,
    /// Whether `seg_max` follows the queue size.
    pub seg_max_adjust: bool,
}

impl Config {
    /// A device on `disk` with every property at its default.
    pub fn new(disk: Arc<Disk>, executor: Arc<Executor>) -> Self {
        let limits = disk.limits();
        Self {
            rings: RingOptions::default(),
            serial: String::new(),
            num_queues: 1,
            queue_size: 256,
            logical_block: limits.logical_block.max(512),
            physical_block: limits.physical_block.max(512),
            min_io: 0,
            opt_io: 0,
            geometry: guess_geometry(disk.size()),
            discard: true,
            write_zeroes: true,
            discard_granularity: limits.logical_block.max(512),
            max_discard_sectors: (1 << 22) - 1,
            max_write_zeroes_sectors: (1 << 22) - 1,
            config_wce: true,
            seg_max_adjust: true,
            disk,
            executor,
        }
    }

    /// From properties. `default_queues` is what `num-queues` is when not given.
    ///
    /// # Errors
    /// A property is wrong.
    pub fn parse(
        props: &Props<'_>,
        disk: Arc<Disk>,
        executor: Arc<Executor>,
        default_queues: u16,
    ) -> Result<Self, BuildError> {
        let mut c = Self::new(disk, executor);
        c.rings = props.ring_options()?;
        props.text("serial").clone_into(&mut c.serial);
        c.num_queues = match props.number("num-queues")? {
            0 => return Err(BuildError::new("num-queues property must be larger than 0")),
            u16::MAX => default_queues.clamp(1, MAX_CHAIN - 1),
            n if n > MAX_CHAIN - 1 => {
                return Err(BuildError::new(format!("num-queues is {n}, more than 1023")));
            }
            n => n,
        };
        c.queue_size = props.number("queue-size")?;
        if !c.queue_size.is_power_of_two() || !(2..=MAX_CHAIN).contains(&c.queue_size) {
            return Err(BuildError::new(format!(
                "invalid queue-size property ({}), must be a power of 2 (max {MAX_CHAIN})",
                c.queue_size
            )));
        }
        c.logical_block = block_size(props, "logical_block_size", c.logical_block)?;
        c.physical_block = block_size(props, "physical_block_size", c.physical_block)?;
        c.physical_block = c.physical_block.max(c.logical_block);
        c.min_io = size32(props, "min_io_size")?;
        c.opt_io = size32(props, "opt_io_size")?;
        c.discard = props.bool("discard")?;
        c.write_zeroes = props.bool("write-zeroes")?;
        c.max_discard_sectors = props.number("max-discard-sectors")?;
        c.max_write_zeroes_sectors = props.number("max-write-zeroes-sectors")?;
        c.discard_granularity = match size32(props, "discard_granularity")? {
            u32::MAX | 0 => c.logical_block,
            n => n,
        };
        c.config_wce = props.bool("config-wce")?;
        c.seg_max_adjust = props.bool("seg-max-adjust")?;
        if let Some(on) = props.on_off_auto("write-cache")? {
            c.disk.set_write_cache(on);
        }
        for policy in ["werror", "rerror"] {
            check_policy(props, policy)?;
        }
        c.parse_geometry(props)?;
        Ok(c)
    }

    fn parse_geometry(&mut self, props: &Props<'_>) -> Result<(), BuildError> {
        let (cyls, heads, secs): (u16, u8, u8) =
            (props.number("cyls")?, props.number("heads")?, props.number("secs")?);
        match (cyls, heads, secs) {
            (0, 0, 0) => {}
            (1.., 1.., 1..) => self.geometry = (cyls, heads, secs),
            _ => return Err(BuildError::new("cyls, heads and secs must be given together")),
        }
        Ok(())
    }
}

/// Refuses error policies that are not there yet; errors are always reported to the guest.
pub(crate) fn check_policy(props: &Props<'_>, name: &str) -> Result<(), BuildError> {
    match props.text(name) {
        "auto" | "report" | "" => Ok(()),
        "ignore" | "enospc" | "stop" => Err(BuildError::new(format!(
            "not supported yet: {name}={} (errors are reported to the guest)",
            props.text(name)
        ))),
        other => {
            Err(BuildError::new(format!("Parameter '{name}' does not accept value '{other}'"))
                .with_hint("Known values: auto, report."))
        }
    }
}

/// A block size property; zero means `default`.
pub(crate) fn block_size(props: &Props<'_>, name: &str, default: u32) -> Result<u32, BuildError> {
    match props.size(name)? {
        0 => Ok(default),
        n if n.is_power_of_two() && (512..=2 << 20).contains(&n) => Ok(n as u32),
        _ => Err(BuildError::new(format!(
            "parameter {name} must be a power of 2 between 512 and 2097152"
        ))),
    }
}

pub(crate) fn size32(props: &Props<'_>, name: &str) -> Result<u32, BuildError> {
    u32::try_from(props.size(name)?)
        .map_err(|_| BuildError::new(format!("parameter {name} must be below 4 GiB")))
}

/// The usual geometry for a disk without one: 16 heads of 63 sectors.
pub(crate) fn guess_geometry(size: u64) -> (u16, u8, u8) {
    let cylinders = (size / SECTOR / (16 * 63)).clamp(2, 16383);
    (cylinders as u16, 16, 63)
}

/// What is left to do for a request.
#[derive(Clone, Debug)]
enum Work {
    Read {
        into: Vec<Span>,
        offset: u64,
        len: u64,
    },
    Write {
        from: Vec<Span>,
        offset: u64,
        len: u64,
    },
    /// One operation without data for the guest.
    Plain,
}

struct InFlight {
    queue: usize,
    token: Token,
    status_at: u64,
    work: Work,
    /// Bytes that have been transferred.
    done: u64,
}

/// virtio-blk.
pub struct Blk {
    config: Config,
    queue: Queue,
    inbox: Inbox<(usize, Completion)>,
    in_flight: Vec<Option<InFlight>>,
    busy: usize,
}

impl Blk {
    /// A device on its disk.
    pub fn new(config: Config) -> Self {
        let queue = Queue::new(Arc::clone(&config.disk), Arc::clone(&config.executor));
        Self { config, queue, inbox: Inbox::default(), in_flight: Vec::new(), busy: 0 }
    }

    fn capacity(&self) -> u64 {
        self.config.disk.size() / SECTOR
    }

    /// Takes requests as long as there are some and not too many are in flight.
    fn take(&mut self, core: &mut Core, queue: usize) {
        while self.busy < usize::from(self.config.queue_size) {
            let Some(chain) = core.pop(queue) else { break };
            self.start(core, queue, chain);
        }
        core.signal(queue);
    }

    fn start(&mut self, core: &mut Core, queue: usize, mut chain: Chain) {
        let mut header = [0; HEADER as usize];
        let enough = core.mem().gather(&chain.readable, 0, &mut header) == Ok(header.len());
        // The status is the last writable byte, whatever the layout of the buffers.
        let last = chain.writable.iter().rposition(|s| s.len != 0);
        let (true, Some(last)) = (enough, last) else {
            return core.fail("virtio-blk: a request lacks its header or status");
        };
        chain.writable.truncate(last + 1);
        let span = &mut chain.writable[last];
        span.len -= 1;
        let status_at = span.at.wrapping_add(span.len.into());
        if !core.mem().holds(status_at, 1) {
            return core.fail("virtio-blk: a status byte lies outside memory");
        }
        let word =
            |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
        let sector = u64::from(word(8)) | u64::from(word(12)) << 32;
        let request = InFlight { queue, token: chain.token, status_at, work: Work::Plain, done: 0 };
        match word(0) & !T_BARRIER {
            T_IN => {
                let len = total(&chain.writable);
                self.transfer(core, request, sector, len, |offset| Work::Read {
                    into: chain.writable,
                    offset,
                    len,
                });
            }
            T_OUT if self.config.disk.read_only() => finish(core, &request, S_IOERR),
            T_OUT => {
                let len = total(&chain.readable) - HEADER;
                self.transfer(core, request, sector, len, |offset| Work::Write {
                    from: chain.readable,
                    offset,
                    len,
                });
            }
            T_FLUSH => self.plain(request, 0, Op::Flush),
            T_GET_ID => self.identify(core, request, &chain.writable),
            kind @ (T_DISCARD | T_WRITE_ZEROES) => self.trim(core, request, kind, &chain.readable),
            _ => finish(core, &request, S_UNSUPP),
        }
    }

    fn transfer(
        &mut self,
        core: &mut Core,
        mut request: InFlight,
        sector: u64,
        len: u64,
        work: impl FnOnce(u64) -> Work,
    ) {
        let unit = u64::from(self.config.logical_block);
        match byte_range(sector, len, self.capacity()) {
            Some(offset) if offset.is_multiple_of(unit) && len.is_multiple_of(unit) => {
                request.work = work(offset);
                self.advance(core, request);
            }
            _ => {
                guest_error!("virtio-blk: {len} bytes at sector {sector} do not fit the disk");
                finish(core, &request, S_IOERR);
            }
        }
    }

    /// Submits the next piece of a transfer, or ends the request.
    fn advance(&mut self, core: &mut Core, request: InFlight) {
        let (offset, len) = match &request.work {
            Work::Read { offset, len, .. } | Work::Write { offset, len, .. } => (*offset, *len),
            Work::Plain => (0, 0),
        };
        let left = (len - request.done).min(PIECE);
        if left == 0 {
            return finish(core, &request, S_OK);
        }
        let mut buffer = vec![0; left as usize];
        let op = match &request.work {
            Work::Write { from, .. } => {
                if core.mem().gather(from, HEADER + request.done, &mut buffer).is_err() {
                    return core.fail("virtio-blk: a buffer lies outside memory");
                }
                Op::Write(buffer, WriteFlags::default())
            }
            _ => Op::Read(buffer),
        };
        let at = offset + request.done;
        self.plain(request, at, op);
    }

    /// Submits one operation.
    fn plain(&mut self, request: InFlight, offset: u64, op: Op) {
        let slot = self.in_flight.iter().position(Option::is_none).unwrap_or_else(|| {
            self.in_flight.push(None);
            self.in_flight.len() - 1
        });
        self.in_flight[slot] = Some(request);
        self.busy += 1;
        let sender = self.inbox.sender();
        self.queue.submit(Request { offset, op }, move |completion| {
            sender.send((slot, completion));
        });
    }

    fn complete(&mut self, core: &mut Core, slot: usize, completion: Completion) {
        let Some(mut request) = self.in_flight.get_mut(slot).and_then(Option::take) else { return };
        self.busy -= 1;
        if !core.running() {
            return;
        }
        if completion.result.is_err() {
            return finish(core, &request, S_IOERR);
        }
        if let Work::Read { into, .. } = &request.work
            && core.mem().scatter(into, request.done, &completion.buf).is_err()
        {
            return core.fail("virtio-blk: a buffer lies outside memory");
        }
        request.done += completion.buf.len() as u64;
        self.advance(core, request);
    }

    fn identify(&mut self, core: &mut Core, mut request: InFlight, into: &[Span]) {
        let mut id = [0; ID_LEN];
        let serial = self.config.serial.as_bytes();
        let n = serial.len().min(ID_LEN);
        id[..n].copy_from_slice(&serial[..n]);
        match core.mem().scatter(into, 0, &id) {
            Ok(n) => {
                request.done = n as u64;
                request.work = Work::Read { into: Vec::new(), offset: 0, len: n as u64 };
                finish(core, &request, S_OK);
            }
            Err(_) => core.fail("virtio-blk: a buffer lies outside memory"),
        }
    }

    /// Discard and write-zeroes: one segment each, as the configuration space says.
    fn trim(&mut self, core: &mut Core, request: InFlight, kind: u32, from: &[Span]) {
        let discard = kind == T_DISCARD;
        let (offered, max) = if discard {
            (self.config.discard, self.config.max_discard_sectors)
        } else {
            (self.config.write_zeroes, self.config.max_write_zeroes_sectors)
        };
        let mut segment = [0; 16];
        if !offered || total(from) != HEADER + 16 {
            return finish(core, &request, S_UNSUPP);
        }
        if self.config.disk.read_only() {
            return finish(core, &request, S_IOERR);
        }
        if core.mem().gather(from, HEADER, &mut segment) != Ok(16) {
            return core.fail("virtio-blk: a buffer lies outside memory");
        }
        let word = |i: usize| {
            u32::from_le_bytes([segment[i], segment[i + 1], segment[i + 2], segment[i + 3]])
        };
        let (sector, sectors, flags) =
            (u64::from(word(0)) | u64::from(word(4)) << 32, word(8), word(12));
        if flags & !1 != 0 || discard && flags != 0 {
            return finish(core, &request, S_UNSUPP);
        }
        let len = u64::from(sectors) * SECTOR;
        match byte_range(sector, len, self.capacity()) {
            Some(offset) if sectors <= max => {
                let op = if discard {
                    Op::Discard(len)
                } else {
                    Op::WriteZeroes(len, ZeroFlags { fua: false, unmap: flags & 1 != 0 })
                };
                self.plain(request, offset, op);
            }
            _ => finish(core, &request, S_IOERR),
        }
    }
}

/// Byte offset of `sector` if `len` bytes from there on lie on the disk.
fn byte_range(sector: u64, len: u64, capacity: u64) -> Option<u64> {
    let sectors = len.div_ceil(SECTOR);
    let end = sector.checked_add(sectors)?;
    (end <= capacity).then(|| sector * SECTOR)
}

fn finish(core: &mut Core, request: &InFlight, status: u8) {
    if core.mem().write(request.status_at, &[status]).is_err() {
        return core.fail("virtio-blk: a status byte lies outside memory");
    }
    let data = match request.work {
        Work::Read { .. } => request.done,
        _ => 0,
    };
    core.push(request.queue, request.token, (data + 1) as u32);
}

impl VirtioDevice for Blk {
    fn name(&self) -> &'static str {
        "virtio-blk-device"
    }
    fn device_id(&self) -> u16 {
        2
    }
    fn ring_options(&self) -> RingOptions {
        self.config.rings
    }

    fn features(&self) -> u64 {
        let c = &self.config;
        let bit = |on: bool, bit: u64| if on { bit } else { 0 };
        bits::SEG_MAX
            | bits::GEOMETRY
            | bits::BLK_SIZE
            | bits::FLUSH
            | bits::TOPOLOGY
            | bit(c.disk.read_only(), bits::RO)
            | bit(c.config_wce, bits::CONFIG_WCE)
            | bit(c.num_queues > 1, bits::MQ)
            | bit(c.discard, bits::DISCARD)
            | bit(c.write_zeroes, bits::WRITE_ZEROES)
    }

    /// A purely legacy device claims SCSI commands, whose layout excludes `ANY_LAYOUT`.
    fn legacy_features(&self, common: u64, transitional: bool) -> u64 {
        let common = common | self.features();
        if transitional { common } else { common & !feature::ANY_LAYOUT | bits::SCSI }
    }

    fn queues(&self) -> Vec<u16> {
        vec![self.config.queue_size; usize::from(self.config.num_queues)]
    }

    fn attach(&mut self, bell: Doorbell) {
        self.inbox.attach(bell);
    }

    fn config_len(&self) -> usize {
        match (self.config.write_zeroes, self.config.discard) {
            (true, _) => 57,
            (false, true) => 48,
            (false, false) => 36,
        }
    }

    fn config(&self, _core: &Core) -> Vec<u8> {
        let c = &self.config;
        let mut b = Vec::with_capacity(60);
        let seg_max = if c.seg_max_adjust { u32::from(c.queue_size) - 2 } else { 126 };
        b.extend(self.capacity().to_le_bytes());
        b.extend(0u32.to_le_bytes());
        b.extend(seg_max.to_le_bytes());
        b.extend(c.geometry.0.to_le_bytes());
        b.extend([c.geometry.1, c.geometry.2]);
        b.extend(c.logical_block.to_le_bytes());
        b.push((c.physical_block / c.logical_block).max(1).ilog2() as u8);
        b.push(0);
        b.extend(((c.min_io / c.logical_block) as u16).to_le_bytes());
        b.extend((c.opt_io / c.logical_block).to_le_bytes());
        b.push(u8::from(c.disk.write_cache()));
        b.push(0);
        b.extend(c.num_queues.to_le_bytes());
        if c.discard || c.write_zeroes {
            b.extend(c.max_discard_sectors.to_le_bytes());
            b.extend(1u32.to_le_bytes());
            b.extend((u64::from(c.discard_granularity) / SECTOR).max(1).to_le_bytes()[..4].iter());
        }
        if c.write_zeroes {
            b.extend(c.max_write_zeroes_sectors.to_le_bytes());
            b.extend(1u32.to_le_bytes());
            b.push(1);
        }
        b
    }

    fn write_config(&mut self, core: &mut Core, offset: usize, bytes: &[u8]) {
        if offset == WRITEBACK && bytes.len() == 1 && self.config.config_wce {
            self.config.disk.set_write_cache(bytes[0] & 1 != 0);
        } else {
            guest_error!("virtio-blk: write to configuration space at {offset:#x}");
        }
        let _ = core;
    }

    /// A driver that knows neither flushes nor the cache switch gets stable writes ("Device
    /// Initialization").
    fn ready(&mut self, core: &mut Core) {
        if !core.has(bits::CONFIG_WCE) {
            self.config.disk.set_write_cache(core.has(bits::FLUSH));
        }
    }

    fn notify(&mut self, core: &mut Core, queue: usize) {
        self.take(core, queue);
    }

    fn poll(&mut self, core: &mut Core) {
        for (slot, completion) in self.inbox.take() {
            self.complete(core, slot, completion);
        }
        for queue in 0..core.queue_count() {
            self.take(core, queue);
        }
    }

    fn drain(&mut self) {
        self.queue.drain();
    }

    fn idle(&self) -> bool {
        self.busy == 0
    }

    fn save(&self) -> state::Value {
        state::Value::Record(vec![(1, state::Saved::to_value(&self.config.disk.write_cache()))])
    }

    fn restore(&mut self, value: &state::Value) -> Result<(), state::RestoreError> {
        let on: bool = state::field(value.record()?, 1, "write_cache")?;
        self.config.disk.set_write_cache(on);
        Ok(())
    }
}
