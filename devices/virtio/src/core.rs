//! What every virtio device has behind its transport: status, features, rings, configuration
//! space (VIRTIO 1.3, "Basic Facilities of a Virtio Device").
//!
//! A [`Port`] is the lock around a device and its rings. Back ends finish work on other threads
//! and ring a [`Doorbell`]; whoever holds the lock, or the ringing thread, then lets the device
//! look. A driver that breaks the rules gets `DEVICE_NEEDS_RESET`, nothing worse.

use crate::balloon::Balloon;
use crate::console::Console;
use crate::dma::Dma;
use crate::ring::{Chain, MAX_CHAIN, NO_VECTOR, Ring, RingError, RingFeatures, Token};
use crate::scsi::ScsiHost;
use device::guest_error;
use state::{RestoreError, SavedState, Value};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

/// Feature bits that belong to no device type.
pub mod feature {
    /// Legacy: interrupt when a ring runs empty.
    pub const NOTIFY_ON_EMPTY: u64 = 1 << 24;
    /// Legacy: buffers need no particular layout.
    pub const ANY_LAYOUT: u64 = 1 << 27;
    /// Indirect descriptor tables.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Event indexes.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// Legacy PCI: never to be accepted.
    pub const BAD_FEATURE: u64 = 1 << 30;
    /// The driver follows the standard.
    pub const VERSION_1: u64 = 1 << 32;
    /// Addresses go through the platform's IOMMU; here, identity.
    pub const ACCESS_PLATFORM: u64 = 1 << 33;
    /// Packed rings.
    pub const RING_PACKED: u64 = 1 << 34;
    /// Queues can be reset one by one.
    pub const RING_RESET: u64 = 1 << 40;
}

/// Device status bits.
pub mod status {
    /// A driver has taken the device.
    pub const DRIVER: u8 = 2;
    /// The driver is ready.
    pub const DRIVER_OK: u8 = 4;
    /// The driver has chosen its features.
    pub const FEATURES_OK: u8 = 8;
    /// The device hit an error it cannot recover from.
    pub const NEEDS_RESET: u8 = 0x40;
}

/// Interrupt status bits.
pub mod isr {
    /// A queue has used buffers.
    pub const QUEUE: u8 = 1;
    /// The configuration space changed.
    pub const CONFIG: u8 = 2;
}

/// A transport's way to interrupt. Called with the device's lock held.
pub trait Interrupt: Send + Sync {
    /// Delivers an interrupt for `vector`; the status register now reads `isr`.
    fn notify(&self, isr: u8, vector: u16);
    /// The status register changed to `isr` without a new cause.
    fn level(&self, isr: u8);
}

/// Properties that every virtio device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingOptions {
    /// `indirect_desc`
    pub indirect_desc: bool,
    /// `event_idx`
    pub event_idx: bool,
    /// `notify_on_empty`
    pub notify_on_empty: bool,
    /// `any_layout`
    pub any_layout: bool,
    /// `iommu_platform`
    pub iommu_platform: bool,
    /// `packed`
    pub packed: bool,
    /// `queue_reset`
    pub queue_reset: bool,
}

impl Default for RingOptions {
    fn default() -> Self {
        Self {
            indirect_desc: true,
            event_idx: true,
            notify_on_empty: true,
            any_layout: true,
            iommu_platform: false,
            packed: false,
            queue_reset: true,
        }
    }
}

impl RingOptions {
    fn features(self, modern: bool) -> u64 {
        let bit = |on: bool, bit: u64| if on { bit } else { 0 };
        let both = bit(self.indirect_desc, feature::INDIRECT_DESC)
            | bit(self.event_idx, feature::EVENT_IDX);
        both | if modern {
            feature::VERSION_1
                | bit(self.iommu_platform, feature::ACCESS_PLATFORM)
                | bit(self.packed, feature::RING_PACKED)
                | bit(self.queue_reset, feature::RING_RESET)
        } else {
            bit(self.notify_on_empty, feature::NOTIFY_ON_EMPTY)
                | bit(self.any_layout, feature::ANY_LAYOUT)
        }
    }
}

/// The part of a virtio device that differs from type to type.
pub trait VirtioDevice: Send {
    /// Name of its `virtio-*-device` class.
    fn name(&self) -> &'static str;
    /// Device type in the standard.
    fn device_id(&self) -> u16;
    /// Ring options the user chose.
    fn ring_options(&self) -> RingOptions;
    /// Feature bits of the type.
    fn features(&self) -> u64;
    /// Feature bits of the type that a legacy driver sees, given the ones common to all; the
    /// device has a modern interface too when `transitional`.
    fn legacy_features(&self, common: u64, transitional: bool) -> u64 {
        let _ = transitional;
        common | self.features()
    }
    /// Sizes of the queues.
    fn queues(&self) -> Vec<u16>;
    /// Bytes of configuration space.
    fn config_len(&self) -> usize {
        0
    }
    /// MSI-X vectors by default, if not one for each queue and one more.
    fn vectors(&self) -> Option<u16> {
        None
    }
    /// Keeps the way to ask for attention.
    fn attach(&mut self, bell: Doorbell) {
        let _ = bell;
    }
    /// The configuration space.
    fn config(&self, core: &Core) -> Vec<u8> {
        let _ = core;
        Vec::new()
    }
    /// The driver wrote `bytes` at `offset` of the configuration space.
    fn write_config(&mut self, core: &mut Core, offset: usize, bytes: &[u8]) {
        let _ = (core, bytes);
        guest_error!("{}: write to configuration space at {offset:#x}", self.name());
    }
    /// The driver is ready.
    fn ready(&mut self, core: &mut Core) {
        let _ = core;
    }
    /// The driver has put buffers into `queue`.
    fn notify(&mut self, core: &mut Core, queue: usize);
    /// A back end rang the doorbell.
    fn poll(&mut self, core: &mut Core) {
        let _ = core;
    }
    /// Waits until no back end works for the device; results may still have to be polled.
    fn drain(&mut self) {}
    /// Whether nothing is in flight.
    fn idle(&self) -> bool {
        true
    }
    /// Back to the state after power-on. Nothing is in flight.
    fn reset(&mut self) {}
    /// The balloon, if it is one.
    fn as_balloon(&mut self) -> Option<&mut Balloon> {
        None
    }
    /// The console, if it is one.
    fn as_console(&mut self) -> Option<&mut Console> {
        None
    }
    /// The SCSI host adapter, if it is one.
    fn as_scsi(&mut self) -> Option<&mut ScsiHost> {
        None
    }
    /// State beside rings and features.
    fn save(&self) -> Value {
        Value::Record(Vec::new())
    }
    /// Takes over saved state; nothing is changed on an error.
    ///
    /// # Errors
    /// The first field that does not fit.
    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        value.record().map(|_| ())
    }
}

/// Keeps account of the chains of a split ring, so that another process can go on with them.
pub trait Ledger: Send {
    /// A chain that was taken in an earlier life and is still to be served.
    fn lost(&mut self) -> Option<u16>;
    /// The chain that begins at `head` was taken.
    fn taken(&mut self, head: u16);
    /// It is about to be given back.
    fn giving(&mut self, head: u16);
    /// It was given back; the used ring's index is now `used`.
    fn given(&mut self, head: u16, used: u16);
}

/// Saved state common to all devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, SavedState)]
struct CoreState {
    #[n(1)]
    status: u8,
    #[n(2)]
    driver_features: u64,
    #[n(3)]
    generation: u8,
    #[n(4)]
    isr: u8,
    #[n(5)]
    config_vector: u16,
    #[n(6)]
    rings: Vec<Ring>,
    #[n(7)]
    broken: bool,
}

/// Status, features and rings of one device.
pub struct Core {
    mem: Dma,
    interrupt: Arc<dyn Interrupt>,
    name: &'static str,
    sizes: Vec<u16>,
    state: CoreState,
    /// By queue; empty unless another process is to go on after this one.
    ledgers: Vec<Option<Box<dyn Ledger>>>,
    pending: Arc<AtomicBool>,
    /// Chains that may still be taken before others get their turn.
    budget: u32,
}

/// Chains handled in one go; beyond, the rest waits for the next look at the device.
const BUDGET: u32 = 1 << 12;

impl Core {
    /// Guest memory.
    pub fn mem(&self) -> &Dma {
        &self.mem
    }

    /// Whether the driver accepted all of these features.
    pub fn has(&self, bits: u64) -> bool {
        self.state.driver_features & bits == bits
    }

    /// Features the driver accepted.
    pub fn driver_features(&self) -> u64 {
        self.state.driver_features
    }

    /// Whether the driver follows the standard's first version rather than what was before.
    pub fn modern(&self) -> bool {
        self.has(feature::VERSION_1)
    }

    /// Whether queues may be used. Legacy drivers are known to use them before they say that they
    /// are ready.
    pub fn running(&self) -> bool {
        let wanted =
            if self.modern() { status::DRIVER_OK } else { status::DRIVER_OK | status::DRIVER };
        !self.state.broken && self.state.status & wanted != 0
    }

    fn ring_features(&self) -> RingFeatures {
        RingFeatures {
            packed: self.has(feature::RING_PACKED),
            event_idx: self.has(feature::EVENT_IDX),
            indirect: self.has(feature::INDIRECT_DESC),
            notify_on_empty: !self.modern() && self.has(feature::NOTIFY_ON_EMPTY),
        }
    }

    /// Number of queues.
    pub fn queue_count(&self) -> usize {
        self.state.rings.len()
    }

    /// A queue's registers.
    pub fn ring(&self, queue: usize) -> Option<&Ring> {
        self.state.rings.get(queue)
    }

    /// A queue's registers, for a transport to change.
    pub fn ring_mut(&mut self, queue: usize) -> Option<&mut Ring> {
        self.state.rings.get_mut(queue)
    }

    /// Takes the next chain of `queue`, if there is one and the device runs.
    pub fn pop(&mut self, queue: usize) -> Option<Chain> {
        if !self.running() {
            return None;
        }
        if self.budget == 0 {
            self.pending.store(true, Ordering::SeqCst);
            return None;
        }
        self.budget -= 1;
        let f = self.ring_features();
        let ring = self.state.rings.get_mut(queue).filter(|ring| ring.ready)?;
        let mut ledger = self.ledgers.get_mut(queue).and_then(Option::as_mut);
        let popped = match ledger.as_mut().and_then(|ledger| ledger.lost()) {
            Some(head) => ring.pop_again(&self.mem, f, head).map(Some),
            None => ring.pop(&self.mem, f).inspect(|chain| {
                if let (Some(chain), Some(ledger)) = (chain, ledger) {
                    ledger.taken(chain.token.id);
                }
            }),
        };
        popped.unwrap_or_else(|e| {
            self.ring_failed(queue, e);
            None
        })
    }

    /// Keeps account of a queue's chains from now on, or no longer.
    pub fn set_ledger(&mut self, queue: usize, ledger: Option<Box<dyn Ledger>>) {
        if self.ledgers.len() <= queue {
            self.ledgers.resize_with(queue + 1, || None);
        }
        self.ledgers[queue] = ledger;
    }

    /// Whether the driver made a mistake that only a reset mends.
    pub fn is_broken(&self) -> bool {
        self.state.broken
    }

    /// Whether `queue` has a chain to take.
    pub fn available(&mut self, queue: usize) -> bool {
        let f = self.ring_features();
        self.running()
            && self.state.rings.get(queue).is_some_and(|r| r.available(&self.mem, f) == Ok(true))
    }

    /// Takes back the latest [`Core::pop`].
    pub fn unpop(&mut self, queue: usize, token: Token) {
        let f = self.ring_features();
        if let Some(ring) = self.state.rings.get_mut(queue) {
            ring.unpop(token, f);
        }
    }

    /// Gives a chain back with `written` bytes in its writable part; [`Core::signal`] follows.
    pub fn push(&mut self, queue: usize, token: Token, written: u32) {
        if self.state.broken {
            return;
        }
        let f = self.ring_features();
        let Some(ring) = self.state.rings.get_mut(queue) else { return };
        let mut ledger = self.ledgers.get_mut(queue).and_then(Option::as_mut);
        if let Some(ledger) = &mut ledger {
            ledger.giving(token.id);
        }
        let pushed = ring.push(&self.mem, f, token, written);
        if let (Ok(()), Some(ledger)) = (pushed, ledger) {
            ledger.given(token.id, ring.next_used);
        }
        if let Err(e) = pushed {
            self.ring_failed(queue, e);
        }
    }

    /// Interrupts if the driver wants to hear of what was given back.
    pub fn signal(&mut self, queue: usize) {
        if self.state.broken {
            return;
        }
        let f = self.ring_features();
        let Some(ring) = self.state.rings.get_mut(queue) else { return };
        let vector = ring.vector;
        match ring.wants_interrupt(&self.mem, f) {
            Ok(true) => self.interrupt(isr::QUEUE, vector),
            Ok(false) => {}
            Err(e) => self.ring_failed(queue, e),
        }
    }

    /// Tells the driver that the configuration space changed.
    pub fn config_changed(&mut self) {
        self.state.generation = self.state.generation.wrapping_add(1);
        if self.state.status & status::DRIVER_OK != 0 {
            self.interrupt(isr::CONFIG, self.state.config_vector);
        }
    }

    fn interrupt(&mut self, cause: u8, vector: u16) {
        self.state.isr |= cause;
        self.interrupt.notify(self.state.isr, vector);
    }

    fn ring_failed(&mut self, queue: usize, error: RingError) {
        guest_error!("{}: queue {queue}: {}", self.name, error.0);
        self.stop();
    }

    /// Stops the device over a mistake of its driver, until that resets it.
    pub fn fail(&mut self, what: &str) {
        guest_error!("{}: {what}", self.name);
        self.stop();
    }

    fn stop(&mut self) {
        if self.state.broken {
            return;
        }
        self.state.broken = true;
        if self.modern() {
            self.state.status |= status::NEEDS_RESET;
            self.config_changed();
        }
    }

    fn reset(&mut self) {
        let mut rings = vec![Ring::default(); self.sizes.len()];
        for (ring, size) in rings.iter_mut().zip(&self.sizes) {
            ring.reset(*size);
        }
        self.state = CoreState { rings, config_vector: NO_VECTOR, ..CoreState::default() };
        self.interrupt.level(0);
    }

    fn check(state: &CoreState, queues: usize) -> Result<(), RestoreError> {
        if state.rings.len() != queues {
            let text = format!("{} queues where {queues} belong", state.rings.len());
            return Err(RestoreError::new(text).within("rings"));
        }
        let packed = state.driver_features & feature::RING_PACKED != 0;
        let bad = |r: &Ring| {
            r.size > MAX_CHAIN
                || packed && (r.next_avail > MAX_CHAIN || r.next_used > MAX_CHAIN)
                || !packed && r.size != 0 && !r.size.is_power_of_two()
        };
        if state.rings.iter().any(bad) {
            return Err(RestoreError::new("positions do not fit the queue").within("rings"));
        }
        Ok(())
    }
}

/// A device with its rings.
pub struct Virtio {
    /// Status, features and rings.
    pub core: Core,
    /// The rest.
    pub device: Box<dyn VirtioDevice>,
}

impl Virtio {
    /// Features offered to a driver of the standard.
    pub fn offered(&self) -> u64 {
        self.device.features() | self.device.ring_options().features(true)
    }

    /// Features offered to a legacy driver.
    pub fn offered_legacy(&self, transitional: bool) -> u64 {
        let common = self.device.ring_options().features(false);
        self.device.legacy_features(common, transitional) & 0xffff_ffff
    }

    /// The status register.
    pub fn status(&self) -> u8 {
        self.core.state.status
    }

    /// The configuration generation.
    pub fn generation(&self) -> u8 {
        self.core.state.generation
    }

    /// The interrupt status register.
    pub fn isr(&self) -> u8 {
        self.core.state.isr
    }

    /// Clears causes in the interrupt status register.
    pub fn acknowledge(&mut self, causes: u8) {
        self.core.state.isr &= !causes;
        self.core.interrupt.level(self.core.state.isr);
    }

    /// The MSI-X vector of configuration changes.
    pub fn config_vector(&self) -> u16 {
        self.core.state.config_vector
    }

    /// Sets the MSI-X vector of configuration changes.
    pub fn set_config_vector(&mut self, vector: u16) {
        self.core.state.config_vector = vector;
    }

    /// Sets 32 bits of the driver's features: `high` chooses which. Features not offered are
    /// refused when the driver says it is done.
    pub fn set_driver_features(&mut self, high: bool, bits: u32, offered: u64) {
        if self.core.state.status & status::FEATURES_OK != 0 {
            return guest_error!("{}: features change after FEATURES_OK", self.core.name);
        }
        let (shift, keep) = if high { (32, 0xffff_ffff) } else { (0, 0xffff_ffff << 32) };
        let chosen = u64::from(bits) << shift;
        if chosen & !offered != 0 {
            guest_error!("{}: features {:#x} are not offered", self.core.name, chosen & !offered);
        }
        let kept = self.core.state.driver_features & keep;
        self.core.state.driver_features = kept | chosen & offered;
    }

    /// Writes the status register; zero resets the device. A modern interface insists on
    /// `VERSION_1`.
    pub fn set_status(&mut self, value: u8, modern: bool) {
        if value == 0 {
            return self.reset();
        }
        let mut value = value & !status::NEEDS_RESET;
        let old = self.core.state.status;
        let newly = value & !old;
        if newly & status::FEATURES_OK != 0 && modern && !self.core.modern() {
            guest_error!("{}: FEATURES_OK without VERSION_1", self.core.name);
            value &= !status::FEATURES_OK;
        }
        self.core.state.status = value | old & status::NEEDS_RESET;
        if newly & status::DRIVER_OK != 0 {
            self.device.ready(&mut self.core);
        }
    }

    /// Ends all work in flight and returns to the state after power-on.
    pub fn reset(&mut self) {
        self.core.state.broken = true;
        self.quiesce();
        self.device.reset();
        self.core.reset();
    }

    /// Resets one queue (`VIRTIO_F_RING_RESET`).
    pub fn reset_queue(&mut self, queue: usize) {
        self.quiesce();
        let Some(&size) = self.core.sizes.get(queue) else { return };
        self.core.state.rings[queue].reset(size);
    }

    /// Starts the device with features that its driver agreed on with somebody else: a transport in
    /// another process, which shows the device's registers itself.
    pub fn start_with(&mut self, features: u64) {
        self.core.state.driver_features = features;
        self.core.state.status = status::DRIVER | status::FEATURES_OK | status::DRIVER_OK;
        self.device.ready(&mut self.core);
    }

    /// Waits until what was taken has been given back, and takes nothing else meanwhile.
    pub fn settle(&mut self) {
        self.core.budget = 0;
        self.quiesce();
    }

    /// Waits until nothing is in flight; what was acknowledged has been given back.
    pub fn quiesce(&mut self) {
        loop {
            self.device.drain();
            self.device.poll(&mut self.core);
            if self.device.idle() {
                return;
            }
        }
    }

    /// The driver notified `queue`.
    pub fn notify(&mut self, queue: usize) {
        self.core.budget = BUDGET;
        if queue < self.core.queue_count() && self.core.running() {
            self.device.notify(&mut self.core, queue);
        }
    }

    /// Reads the configuration space: ones beyond its end.
    pub fn read_config(&self, offset: u64, size: u32) -> u64 {
        let config = self.device.config(&self.core);
        (0..u64::from(size)).fold(0, |value, i| {
            let at = usize::try_from(offset + i).unwrap_or(usize::MAX);
            value | u64::from(config.get(at).copied().unwrap_or(0xff)) << (8 * i)
        })
    }

    /// Writes the configuration space: nothing happens beyond its end.
    pub fn write_config(&mut self, offset: u64, size: u32, value: u64) {
        let len = self.device.config_len() as u64;
        match offset.checked_add(u64::from(size)) {
            Some(end) if end <= len => {
                let bytes = value.to_le_bytes();
                let bytes = &bytes[..size.min(8) as usize];
                self.device.write_config(&mut self.core, offset as usize, bytes);
            }
            _ => guest_error!("{}: write beyond configuration space", self.core.name),
        }
    }

    /// Everything a driver can observe. Nothing may be in flight.
    pub fn save(&self) -> Value {
        let core = SavedState::save(&self.core.state);
        Value::Record(vec![(1, core), (2, self.device.save())])
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// The first field that does not fit; nothing is changed then.
    pub fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        let fields = value.record()?;
        let find = |n: u16| fields.iter().find(|(m, _)| *m == n).map(|(_, v)| v);
        let mut state = CoreState::default();
        let core = find(1).ok_or_else(|| RestoreError::new("is missing").within("core"))?;
        state.restore(core).map_err(|e| e.within("core"))?;
        Core::check(&state, self.core.sizes.len()).map_err(|e| e.within("core"))?;
        let empty = Value::Record(Vec::new());
        // What is still in flight belongs to a past that is gone, and so does the memory it is for.
        let CoreState { broken, status, .. } = self.core.state;
        (self.core.state.broken, self.core.state.status) = (true, 0);
        self.quiesce();
        (self.core.state.broken, self.core.state.status) = (broken, status);
        self.device.restore(find(2).unwrap_or(&empty)).map_err(|e| e.within("device"))?;
        self.core.state = state;
        self.core.interrupt.level(self.core.state.isr);
        Ok(())
    }
}

struct Inner {
    virtio: Mutex<Virtio>,
    pending: Arc<AtomicBool>,
    /// Results of back ends wait: the machine stands still. Set with the lock held.
    held: AtomicBool,
    /// A thread goes on with work that became too much for one go.
    helper: AtomicBool,
    own: Weak<Self>,
}

/// A device in its lock.
#[derive(Clone)]
pub struct Port(Arc<Inner>);

/// A back end's way to make the device look at its results.
#[derive(Clone, Default)]
pub struct Doorbell(Weak<Inner>);

impl Port {
    /// Puts a device behind a transport.
    pub fn new(mut device: Box<dyn VirtioDevice>, mem: Dma, interrupt: Arc<dyn Interrupt>) -> Self {
        let pending = Arc::new(AtomicBool::new(false));
        Self(Arc::new_cyclic(|weak| {
            device.attach(Doorbell(weak.clone()));
            let mut core = Core {
                mem,
                interrupt,
                name: device.name(),
                sizes: device.queues(),
                state: CoreState::default(),
                ledgers: Vec::new(),
                pending: Arc::clone(&pending),
                budget: BUDGET,
            };
            core.reset();
            let virtio = Mutex::new(Virtio { core, device });
            let (held, helper) = (AtomicBool::new(false), AtomicBool::new(false));
            Inner { virtio, pending, held, helper, own: weak.clone() }
        }))
    }

    /// Runs `work` with the device locked, then whatever back ends finished meanwhile.
    pub fn with<R>(&self, work: impl FnOnce(&mut Virtio) -> R) -> R {
        let result = work(&mut self.lock());
        self.0.answer();
        result
    }

    fn lock(&self) -> MutexGuard<'_, Virtio> {
        self.0.virtio.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves after everything in flight has ended, as it has for a device that is held.
    pub fn save(&self) -> Value {
        self.with(|v| {
            if !self.0.held.load(Ordering::SeqCst) {
                v.quiesce();
            }
            v.save()
        })
    }

    /// See [`device::Part::hold`].
    pub fn hold(&self) {
        let mut virtio = self.lock();
        virtio.quiesce();
        self.0.held.store(true, Ordering::SeqCst);
    }

    /// See [`device::Part::release`].
    pub fn release(&self) {
        self.0.held.store(false, Ordering::SeqCst);
        self.0.answer();
    }
}

impl Inner {
    /// Lets the device look at what back ends finished. If somebody else holds the lock, they do
    /// it when they release it.
    fn answer(&self) {
        /// Looks in one go. Beyond, a thread takes over: a driver that keeps the device busy from
        /// one processor must not hold the thread of another.
        const ROUNDS: u32 = 64;
        for round in 0..ROUNDS {
            if !self.is_due() {
                return;
            }
            let mut virtio = match self.virtio.try_lock() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            if self.held.load(Ordering::SeqCst) {
                return;
            }
            self.pending.store(false, Ordering::SeqCst);
            let Virtio { core, device } = &mut *virtio;
            if round == 0 {
                core.budget = BUDGET;
            }
            device.poll(core);
        }
        self.delegate();
    }

    /// Whether there is something to look at, and the machine does not stand still.
    fn is_due(&self) -> bool {
        fence(Ordering::SeqCst);
        self.pending.load(Ordering::SeqCst) && !self.held.load(Ordering::SeqCst)
    }

    /// Starts the thread that goes on, unless it runs.
    fn delegate(&self) {
        if self.helper.swap(true, Ordering::SeqCst) {
            return;
        }
        let own = self.own.clone();
        let work = move || {
            while let Some(inner) = own.upgrade() {
                inner.answer();
                inner.helper.store(false, Ordering::SeqCst);
                if !inner.is_due() || inner.helper.swap(true, Ordering::SeqCst) {
                    return;
                }
            }
        };
        if std::thread::Builder::new().name("virtio".into()).spawn(work).is_err() {
            // The next look at the device goes on instead.
            self.helper.store(false, Ordering::SeqCst);
        }
    }
}

impl Doorbell {
    /// Makes the device look. May be called from any thread, with or without its lock held.
    pub fn ring(&self) {
        if let Some(inner) = self.0.upgrade() {
            inner.pending.store(true, Ordering::SeqCst);
            inner.answer();
        }
    }
}
