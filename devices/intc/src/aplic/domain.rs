//! One domain: its registers, and when its sources are pending.

use super::AplicConfig;
use device::{RestoreError, SavedState};

const DOMAINCFG: u64 = 0x0000;
const SOURCECFG: u64 = 0x0004;
const MMSIADDRCFG: u64 = 0x1bc0;
const MMSIADDRCFGH: u64 = 0x1bc4;
const SMSIADDRCFG: u64 = 0x1bc8;
const SMSIADDRCFGH: u64 = 0x1bcc;
const SETIP: u64 = 0x1c00;
const SETIPNUM: u64 = 0x1cdc;
const IN_CLRIP: u64 = 0x1d00;
const CLRIPNUM: u64 = 0x1ddc;
const SETIE: u64 = 0x1e00;
const SETIENUM: u64 = 0x1edc;
const CLRIE: u64 = 0x1f00;
const CLRIENUM: u64 = 0x1fdc;
const SETIPNUM_LE: u64 = 0x2000;
const SETIPNUM_BE: u64 = 0x2004;
pub(super) const GENMSI: u64 = 0x3000;
const TARGET: u64 = 0x3004;
const IDC: u64 = 0x4000;
const IDC_LEN: u64 = 32;

/// domaincfg: what it always reads, interrupts enabled, delivery by messages.
const DOMAINCFG_FIXED: u32 = 0x8000_0000;
const IE: u32 = 1 << 8;
const DM: u32 = 1 << 2;
/// sourcecfg: delegated.
const D: u32 = 1 << 10;
/// mmsiaddrcfgh: locked, and the bits that exist.
const LOCKED: u32 = 1 << 31;
const MMSIADDRCFGH_BITS: u32 = 0x9f77_ffff;
const SMSIADDRCFGH_BITS: u32 = 0x0070_0fff;

/// How a source's line makes it pending (sourcecfg.SM).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Inactive,
    Detached,
    /// Rising edge, or falling with `true`.
    Edge(bool),
    /// High, or low with `true`.
    Level(bool),
}

impl Mode {
    fn of(sourcecfg: u32) -> Self {
        match (sourcecfg & D, sourcecfg & 7) {
            (0, 1) => Self::Detached,
            (0, 4) => Self::Edge(false),
            (0, 5) => Self::Edge(true),
            (0, 6) => Self::Level(false),
            (0, 7) => Self::Level(true),
            _ => Self::Inactive,
        }
    }

    /// The rectified input.
    fn rectify(self, level: bool) -> bool {
        match self {
            Self::Inactive | Self::Detached => false,
            Self::Edge(inverted) | Self::Level(inverted) => level != inverted,
        }
    }

    fn is_level(self) -> bool {
        matches!(self, Self::Level(_))
    }
}

/// Interrupt delivery control of one hart.
#[derive(Clone, Default, SavedState)]
pub(super) struct Idc {
    #[n(1)]
    delivery: bool,
    #[n(2)]
    force: bool,
    #[n(3)]
    threshold: u32,
}

impl Idc {
    /// Whether the threshold lets a source with this `target` through.
    fn lets_through(&self, target: u32) -> bool {
        self.threshold == 0 || priority(target) < self.threshold
    }
}

/// Priority in a `target` register (direct delivery): 0 counts as 1.
fn priority(target: u32) -> u32 {
    (target & 0xff).max(1)
}

/// Everything the guest can observe of a domain. Sources index the vectors; entry 0 is unused.
#[derive(Clone, Default, SavedState)]
pub(super) struct DomainState {
    #[n(1)]
    enabled: bool,
    #[n(2)]
    sourcecfg: Vec<u32>,
    #[n(3)]
    target: Vec<u32>,
    #[n(4)]
    pending: Vec<bool>,
    #[n(5)]
    source_enabled: Vec<bool>,
    #[n(6)]
    idcs: Vec<Idc>,
    #[n(7)]
    mmsiaddrcfg: u32,
    #[n(8)]
    mmsiaddrcfgh: u32,
    #[n(9)]
    smsiaddrcfg: u32,
    #[n(10)]
    smsiaddrcfgh: u32,
}

impl DomainState {
    pub fn new(sources: u32, harts: u32) -> Self {
        let n = sources as usize + 1;
        Self {
            sourcecfg: vec![0; n],
            target: vec![0; n],
            pending: vec![false; n],
            source_enabled: vec![false; n],
            idcs: vec![Idc::default(); harts as usize],
            ..Self::default()
        }
    }

    /// Whether the vectors have the lengths that a machine of this size needs.
    pub fn check(&self, sources: u32, harts: u32) -> Result<(), RestoreError> {
        let n = sources as usize + 1;
        let lengths = [
            self.sourcecfg.len(),
            self.target.len(),
            self.pending.len(),
            self.source_enabled.len(),
        ];
        if lengths == [n; 4] && self.idcs.len() == harts as usize {
            return Ok(());
        }
        Err(RestoreError::new("another number of sources or harts").within("domains"))
    }

    fn mode(&self, source: u32) -> Mode {
        Mode::of(self.sourcecfg[source as usize])
    }

    pub fn delegates(&self, source: u32) -> bool {
        self.sourcecfg[source as usize] & D != 0
    }

    /// Makes a source inactive.
    pub fn drop_source(&mut self, source: u32) {
        let n = source as usize;
        self.sourcecfg[n] = 0;
        self.target[n] = 0;
        self.pending[n] = false;
        self.source_enabled[n] = false;
    }

    /// A line changed. A level makes its source pending as long as it lasts; with messages, where
    /// sending ends it, only as it begins.
    pub fn line_changed(&mut self, source: u32, level: bool) {
        let mode = self.mode(source);
        let rectified = mode.rectify(level);
        let pending = &mut self.pending[source as usize];
        match mode {
            Mode::Inactive | Mode::Detached => {}
            Mode::Edge(_) => *pending |= rectified,
            Mode::Level(_) => *pending = rectified,
        }
    }

    /// topi of a hart: source and priority of the first that is pending, enabled and let through.
    fn top(&self, hart: u32) -> u32 {
        let Some(idc) = self.idcs.get(hart as usize) else { return 0 };
        let mut best: Option<(u32, u32)> = None;
        for (source, target) in self.target.iter().enumerate().skip(1) {
            if !self.pending[source] || !self.source_enabled[source] || target >> 18 != hart {
                continue;
            }
            let priority = priority(*target);
            if idc.lets_through(*target) && best.is_none_or(|(first, _)| priority < first) {
                best = Some((priority, source as u32));
            }
        }
        best.map_or(0, |(priority, source)| source << 16 | priority)
    }

    /// Whether each hart's line is high (direct delivery).
    pub fn interrupts(&self) -> Vec<bool> {
        let mut lines: Vec<bool> =
            self.idcs.iter().map(|idc| self.enabled && idc.delivery && idc.force).collect();
        for (source, target) in self.target.iter().enumerate().skip(1) {
            if !self.enabled || !self.pending[source] || !self.source_enabled[source] {
                continue;
            }
            let hart = (target >> 18) as usize;
            let idc = self.idcs.get(hart).filter(|idc| idc.delivery && idc.lets_through(*target));
            if idc.is_some() {
                lines[hart] = true;
            }
        }
        lines
    }
}

/// The registers of a domain with all they depend on.
pub(super) struct Registers<'a> {
    pub config: AplicConfig,
    pub messages: bool,
    /// Input lines by source.
    pub level: &'a [bool],
    pub own: &'a mut DomainState,
    /// The root, when this is the domain below it.
    pub root: Option<&'a mut DomainState>,
}

impl Registers<'_> {
    fn sources(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.config.sources
    }

    /// Whether the source is there in this domain.
    fn exists(&self, source: u32) -> bool {
        self.sources().contains(&source)
            && self.root.as_ref().is_none_or(|root| root.delegates(source))
    }

    fn active(&self, source: u32) -> bool {
        self.exists(source) && self.own.mode(source) != Mode::Inactive
    }

    fn rectified(&self, source: u32) -> bool {
        self.own.mode(source).rectify(self.level[source as usize])
    }

    /// Number of the register at `offset` in an array that starts at `base`.
    fn source_at(offset: u64, base: u64) -> u32 {
        ((offset - base) / 4) as u32 + 1
    }

    pub fn read(&mut self, offset: u64) -> u32 {
        match offset {
            DOMAINCFG => {
                let enabled = if self.own.enabled { IE } else { 0 };
                DOMAINCFG_FIXED | enabled | if self.messages { DM } else { 0 }
            }
            SOURCECFG..0x1000 => {
                let source = Self::source_at(offset, SOURCECFG);
                if self.exists(source) { self.own.sourcecfg[source as usize] } else { 0 }
            }
            MMSIADDRCFG => self.own.mmsiaddrcfg,
            MMSIADDRCFGH => self.own.mmsiaddrcfgh,
            SMSIADDRCFG => self.own.smsiaddrcfg,
            SMSIADDRCFGH => self.own.smsiaddrcfgh,
            SETIP..0x1c80 => self.bits(offset - SETIP, |r, s| r.own.pending[s as usize]),
            IN_CLRIP..0x1d80 => self.bits(offset - IN_CLRIP, |r, s| r.rectified(s)),
            SETIE..0x1e80 => self.bits(offset - SETIE, |r, s| r.own.source_enabled[s as usize]),
            TARGET..0x4000 => self.target(Self::source_at(offset, TARGET)),
            IDC.. => self.read_idc(offset - IDC),
            _ => 0,
        }
    }

    /// 32 sources, one bit each.
    fn bits(&self, offset: u64, bit: impl Fn(&Self, u32) -> bool) -> u32 {
        let first = (offset / 4) as u32 * 32;
        (0..32).fold(0, |word, n| {
            let source = first + n;
            word | u32::from(self.exists(source) && bit(self, source)) << n
        })
    }

    fn target(&self, source: u32) -> u32 {
        match () {
            () if !self.active(source) => 0,
            () if self.messages => self.own.target[source as usize],
            () => {
                let target = self.own.target[source as usize];
                target & !0xff | priority(target)
            }
        }
    }

    fn read_idc(&mut self, offset: u64) -> u32 {
        let hart = (offset / IDC_LEN) as u32;
        let top = self.own.top(hart);
        let direct = !self.messages;
        let Some(idc) = self.own.idcs.get_mut(hart as usize).filter(|_| direct) else { return 0 };
        match offset % IDC_LEN {
            0x00 => idc.delivery.into(),
            0x04 => idc.force.into(),
            0x08 => idc.threshold,
            0x18 => top,
            0x1c => {
                // A claim without a source ends a forced interrupt.
                if top == 0 {
                    idc.force = false;
                } else {
                    self.clear_pending(top >> 16);
                }
                top
            }
            _ => 0,
        }
    }

    pub fn write(&mut self, offset: u64, value: u32) {
        match offset {
            DOMAINCFG => self.own.enabled = value & IE != 0,
            SOURCECFG..0x1000 => self.set_sourcecfg(Self::source_at(offset, SOURCECFG), value),
            MMSIADDRCFG..=SMSIADDRCFGH => self.set_msiaddrcfg(offset, value),
            SETIP..0x1c80 => self.each(offset - SETIP, value, Self::set_pending),
            SETIPNUM | SETIPNUM_LE => self.set_pending(value),
            IN_CLRIP..0x1d80 => self.each(offset - IN_CLRIP, value, Self::clear_pending),
            CLRIPNUM => self.clear_pending(value),
            SETIE..0x1e80 => self.each(offset - SETIE, value, |r, s| r.set_enabled(s, true)),
            SETIENUM => self.set_enabled(value, true),
            CLRIE..0x1f80 => self.each(offset - CLRIE, value, |r, s| r.set_enabled(s, false)),
            CLRIENUM => self.set_enabled(value, false),
            SETIPNUM_BE => self.set_pending(value.swap_bytes()),
            TARGET..0x4000 => self.set_target(Self::source_at(offset, TARGET), value),
            IDC.. => self.write_idc(offset - IDC, value),
            _ => device::guest_error!("aplic: write at {offset:#x}"),
        }
    }

    /// Calls `action` for the source of each bit that is set.
    fn each(&mut self, offset: u64, value: u32, action: impl Fn(&mut Self, u32)) {
        let first = (offset / 4) as u32 * 32;
        (0..32).filter(|n| value >> n & 1 != 0).for_each(|n| action(self, first + n));
    }

    /// Changing a source's mode may make it pending at once, if its line is in that state.
    fn set_sourcecfg(&mut self, source: u32, value: u32) {
        if !self.exists(source) {
            return;
        }
        // Only the root has a domain below it.
        let delegated = value & D != 0 && self.root.is_none();
        let value = match Mode::of(value) {
            _ if delegated => D,
            Mode::Inactive => 0,
            _ => value & 7,
        };
        if value & 7 == 0 {
            self.own.drop_source(source);
        }
        let n = source as usize;
        if self.own.sourcecfg[n] != value {
            self.own.sourcecfg[n] = value;
            if self.own.mode(source).is_level() {
                self.own.pending[n] = self.rectified(source);
            }
        }
    }

    /// The root alone says where messages go, and only until it is locked.
    fn set_msiaddrcfg(&mut self, offset: u64, value: u32) {
        let locked = self.own.mmsiaddrcfgh & LOCKED != 0;
        if !self.messages || self.root.is_some() || locked {
            return;
        }
        match offset {
            MMSIADDRCFG => self.own.mmsiaddrcfg = value,
            MMSIADDRCFGH => self.own.mmsiaddrcfgh = value & MMSIADDRCFGH_BITS,
            SMSIADDRCFG => self.own.smsiaddrcfg = value,
            _ => self.own.smsiaddrcfgh = value & SMSIADDRCFGH_BITS,
        }
    }

    /// Software makes a source pending. A level does not take that, or only while it lasts.
    fn set_pending(&mut self, source: u32) {
        if !self.active(source) {
            return;
        }
        if !self.own.mode(source).is_level() || self.messages && self.rectified(source) {
            self.own.pending[source as usize] = true;
        }
    }

    fn clear_pending(&mut self, source: u32) {
        if self.active(source) && (self.messages || !self.own.mode(source).is_level()) {
            self.own.pending[source as usize] = false;
        }
    }

    fn set_enabled(&mut self, source: u32, enabled: bool) {
        if self.active(source) {
            self.own.source_enabled[source as usize] = enabled;
        }
    }

    fn set_target(&mut self, source: u32, value: u32) {
        if !self.active(source) {
            return;
        }
        let priority = (1 << self.config.priority_bits) - 1;
        let bits = if self.messages { 0xffff_f7ff } else { 0xfffc_0000 | priority };
        self.own.target[source as usize] = value & bits;
    }

    fn write_idc(&mut self, offset: u64, value: u32) {
        let hart = (offset / IDC_LEN) as usize;
        let direct = !self.messages;
        let Some(idc) = self.own.idcs.get_mut(hart).filter(|_| direct) else { return };
        match offset % IDC_LEN {
            0x00 => idc.delivery = value & 1 != 0,
            0x04 => idc.force = value & 1 != 0,
            0x08 => idc.threshold = value & ((1 << self.config.priority_bits) - 1),
            _ => device::guest_error!("aplic: write at {:#x}", IDC + offset),
        }
    }

    /// The message that writing `genmsi` sends: never to a guest.
    pub fn generated(&self, genmsi: u32) -> (u64, u32) {
        (self.address(genmsi & 0xfffc_0000), genmsi & 0x7ff)
    }

    /// Messages that are due: address and identity. Sending ends that a source is pending.
    pub fn take_messages(&mut self) -> Vec<(u64, u32)> {
        let mut due = Vec::new();
        if !self.own.enabled {
            return due;
        }
        for source in self.sources() {
            let n = source as usize;
            if self.own.pending[n] && self.own.source_enabled[n] {
                self.own.pending[n] = false;
                let target = self.own.target[n];
                due.push((self.address(target), target & 0x7ff));
            }
        }
        due
    }

    /// Address of the interrupt file that a `target` register names (section "Interrupt delivery
    /// by MSI: addresses and data").
    fn address(&self, target: u32) -> u64 {
        let root = self.root.as_deref().unwrap_or(self.own);
        let (hart, guest) = (u64::from(target >> 18), u64::from(target >> 12 & 0x3f));
        let shape = root.mmsiaddrcfgh;
        let field = |shift: u32, bits: u32| shape >> shift & ((1 << bits) - 1);
        let (hhxs, hhxw, lhxw) = (field(24, 5), field(16, 3), field(12, 4));
        let group = hart >> lhxw & ((1 << hhxw) - 1);
        let within = hart & ((1 << lhxw) - 1);
        let (low, high, lhxs, guest) = match self.root {
            None => (root.mmsiaddrcfg, root.mmsiaddrcfgh, field(20, 3), 0),
            Some(_) => (root.smsiaddrcfg, root.smsiaddrcfgh, root.smsiaddrcfgh >> 20 & 7, guest),
        };
        let page = u64::from(high & 0xfff) << 32 | u64::from(low);
        (page | group << (hhxs + 12) | within << lhxs | guest) << 12
    }
}
