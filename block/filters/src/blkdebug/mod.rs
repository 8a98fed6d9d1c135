//! `blkdebug`: fails the requests that rules name, and stops requests where a debugger wants them.
//!
//! Source: "Block I/O error injection using blkdebug" of QEMU's developer manual, the options of
//! `BlockdevOptionsBlkdebug` in the QMP reference manual, and the behaviour of QEMU 10.0.
//!
//! Rules of the event `none` are in force from the start. Every other event puts the rules that name
//! it (and fit the state) in force in place of those before; an event without such rules changes
//! nothing. A request fails by the first rule in force that fits it.

mod rules;
mod stops;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use graph::{
    Breakpoints, Event, Extent, Limits, Node, NodeInfo, OpenError, Role, WriteFlags, ZeroFlags,
    check_range,
};

pub use rules::{Injection, IoType, Refusal, Rules, Transition};
use stops::Stops;

use crate::passing::{Filter, Passing, passed_on};

/// Limits that the node pretends to have, in bytes; 0 is the child's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pretended {
    /// Alignment of requests.
    pub align: u64,
    /// Largest transfer.
    pub max_transfer: u64,
    /// Alignment of zero requests that are done at once.
    pub opt_write_zero: u64,
    /// Largest zero request.
    pub max_write_zero: u64,
    /// Alignment of discards.
    pub opt_discard: u64,
    /// Largest discard.
    pub max_discard: u64,
}

impl Pretended {
    /// Largest limit that can be pretended.
    const MOST: u64 = i32::MAX as u64;

    fn check(&self) -> Result<(), OpenError> {
        let refuse = |name: &str, value: u64| {
            Err(OpenError::Option(format!("Cannot meet constraints with {name} {value}")))
        };
        if self.align > Self::MOST || (self.align != 0 && !self.align.is_power_of_two()) {
            return refuse("align", self.align);
        }
        let align = self.align.max(1);
        let zero = self.opt_write_zero.max(align);
        let discard = self.opt_discard.max(align);
        for (name, value, unit) in [
            ("max-transfer", self.max_transfer, align),
            ("opt-write-zero", self.opt_write_zero, align),
            ("max-write-zero", self.max_write_zero, zero),
            ("opt-discard", self.opt_discard, align),
            ("max-discard", self.max_discard, discard),
        ] {
            if value > Self::MOST || !value.is_multiple_of(unit) {
                return refuse(name, value);
            }
        }
        Ok(())
    }
}

/// What the rules have come to.
struct State {
    state: u64,
    /// Rules in force, by their place in the list.
    active: Vec<usize>,
    /// Rules that are over.
    spent: Vec<usize>,
}

struct Blkdebug {
    below: Arc<dyn Node>,
    /// The rules file as the user named it; for the name of the node.
    config: String,
    pretended: Pretended,
    rules: Rules,
    state: Mutex<State>,
    stops: Arc<Stops>,
    /// Written since the last flush: else a flush has nothing to do.
    written: AtomicBool,
}

/// A node on `below` that follows `rules`.
///
/// # Errors
/// `Option` with QEMU's text for limits that contradict each other.
pub fn blkdebug(
    below: Arc<dyn Node>,
    config: &str,
    rules: Rules,
    pretended: Pretended,
) -> Result<Arc<dyn Node>, OpenError> {
    pretended.check()?;
    if pretended.align > 1 && !below.size().is_multiple_of(pretended.align) && !below.read_only() {
        return Err(OpenError::Option(
            "Cannot get 'write' permission without 'resize': Image size is not a multiple of \
             request alignment"
                .to_owned(),
        ));
    }
    let node = Blkdebug {
        below,
        config: config.to_owned(),
        pretended,
        rules,
        state: Mutex::new(State { state: 1, active: Vec::new(), spent: Vec::new() }),
        stops: Arc::default(),
        written: AtomicBool::new(false),
    };
    node.reach(Event::None);
    Ok(Arc::new(Passing(node)))
}

impl Blkdebug {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies the rules of an event.
    fn reach(&self, event: Event) {
        let mut state = self.state();
        let now = state.state;
        let fits = |wanted: u64| wanted == 0 || wanted == now;
        let injections = self.rules.injections.iter().enumerate();
        let named: Vec<usize> = injections
            .filter(|(_, rule)| rule.event == event && fits(rule.state))
            .map(|(at, _)| at)
            .filter(|at| !state.spent.contains(at))
            .collect();
        if !named.is_empty() {
            state.active = named;
        }
        for rule in &self.rules.transitions {
            if rule.event == event && fits(rule.state) {
                state.state = rule.new_state;
            }
        }
    }

    /// Fails if a rule in force says so; `range` is `None` for requests without one.
    fn obey(&self, io: IoType, range: Option<(u64, u64)>) -> io::Result<()> {
        let mut state = self.state();
        let fits = |at: &usize| self.rules.injections[*at].fits(io, range);
        let Some(place) = state.active.iter().position(fits) else { return Ok(()) };
        let rule = &self.rules.injections[state.active[place]];
        if rule.once {
            let over = state.active.remove(place);
            state.spent.push(over);
        }
        match rule.errno {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn tell(&self, event: Event) {
        self.stops.reach(event);
        self.reach(event);
    }

    /// Cuts a range at multiples of the largest request.
    fn split(offset: u64, len: u64, most: u64) -> impl Iterator<Item = (u64, u64)> {
        let most = if most == 0 { len.max(1) } else { most };
        (0..len)
            .step_by(usize::try_from(most).unwrap_or(usize::MAX))
            .map(move |done| (offset + done, most.min(len - done)))
    }

    /// The range with the alignment that requests must have.
    fn aligned(&self, offset: u64, len: u64) -> (u64, u64) {
        let align = self.pretended.align.max(1);
        let (from, end) = (offset - offset % align, offset + len);
        // A child whose end is not aligned was refused or is only read.
        let to = end.checked_next_multiple_of(align).unwrap_or(end);
        (from, to.min(self.below.size().max(end)) - from)
    }
}

impl Filter for Blkdebug {
    fn driver(&self) -> &'static str {
        "blkdebug"
    }

    fn below(&self) -> &Arc<dyn Node> {
        &self.below
    }

    fn role(&self) -> Role {
        Role::Named("image")
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(offset, buf.len() as u64, self.below.size())?;
        let (from, len) = self.aligned(offset, buf.len() as u64);
        for (at, len) in Self::split(from, len, self.pretended.max_transfer) {
            self.obey(IoType::Read, Some((at, len)))?;
        }
        self.below.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        let (from, len) = self.aligned(offset, buf.len() as u64);
        if from < offset {
            self.tell(Event::PwritevRmwHead);
            self.obey(IoType::Read, Some((from, offset - from)))?;
            self.tell(Event::PwritevRmwAfterHead);
        }
        if from + len > end {
            self.tell(Event::PwritevRmwTail);
            self.obey(IoType::Read, Some((end, from + len - end)))?;
            self.tell(Event::PwritevRmwAfterTail);
        }
        self.tell(Event::Pwritev);
        self.written.store(true, Ordering::Release);
        for (at, len) in Self::split(from, len, self.pretended.max_transfer) {
            self.obey(IoType::Write, Some((at, len)))?;
        }
        self.below.write_at(offset, buf, flags)?;
        self.tell(Event::PwritevDone);
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        self.tell(Event::PwritevZero);
        self.written.store(true, Ordering::Release);
        for (at, len) in Self::split(offset, len, self.pretended.max_write_zero) {
            self.obey(IoType::WriteZeroes, Some((at, len)))?;
        }
        self.below.write_zeroes(offset, len, flags)?;
        self.tell(Event::PwritevDone);
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        check_range(offset, len, self.below.size())?;
        self.written.store(true, Ordering::Release);
        for (at, len) in Self::split(offset, len, self.pretended.max_discard) {
            self.obey(IoType::Discard, Some((at, len)))?;
        }
        self.below.discard(offset, len)
    }

    fn flush(&self) -> io::Result<()> {
        if !self.written.load(Ordering::Acquire) {
            return self.below.flush();
        }
        self.obey(IoType::Flush, None)?;
        self.written.store(false, Ordering::Release);
        self.below.flush()
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.below.size())?;
        self.obey(IoType::BlockStatus, Some((offset, len)))?;
        let extent = self.below.block_status(offset, len)?;
        Ok(passed_on(extent, offset))
    }

    fn limits(&self) -> Limits {
        let below = self.below.limits();
        let align = u32::try_from(self.pretended.align).unwrap_or(0);
        let discard = u32::try_from(self.pretended.opt_discard).unwrap_or(0);
        Limits {
            request_alignment: below.request_alignment.max(align),
            discard_granularity: below.discard_granularity.max(discard),
            ..below
        }
    }

    fn info(&self) -> NodeInfo {
        let below = self.below.info().filename;
        let filename = format!("blkdebug:{}:{below}", self.config);
        NodeInfo { driver: "blkdebug", filename, ..NodeInfo::default() }
    }

    fn event(&self, event: Event) {
        if event == Event::FlushToDisk && !self.written.load(Ordering::Acquire) {
            return;
        }
        self.tell(event);
    }

    fn breakpoints(&self) -> Option<Arc<dyn Breakpoints>> {
        Some(Arc::clone(&self.stops) as Arc<dyn Breakpoints>)
    }

    fn close(&self) {
        self.stops.let_all_go();
    }
}
