//! Memory balloon (VIRTIO 1.3, "Traditional Memory Balloon Device").
//!
//! Pages the driver gives up go back to the host at once. Not modelled: free page hinting and
//! reporting.

use crate::core::{Core, Port, RingOptions, VirtioDevice};
use crate::dma::total;
use crate::props::{BuildError, Props};
use crate::ring::{Chain, Token};
use device::guest_error;
use state::{RestoreError, SavedState, Value};

const F_STATS_VQ: u64 = 1 << 1;
const F_DEFLATE_ON_OOM: u64 = 1 << 2;
const F_PAGE_POISON: u64 = 1 << 4;

const INFLATE: usize = 0;
const STATS: usize = 2;
const QUEUE_SIZE: u16 = 128;
const PAGE_SHIFT: u32 = 12;
/// Page numbers taken from one request; drivers send 256.
const MAX_PAGES: u64 = 1 << 16;
/// Statistics taken from one request.
const MAX_STATS: usize = 64;
const ACTUAL: usize = 4;
const POISON: usize = 12;

/// What the user chooses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Config {
    /// Common ring properties.
    pub rings: RingOptions,
    /// The driver may take pages back when it runs out.
    pub deflate_on_oom: bool,
    /// The driver tells what free pages are filled with.
    pub page_poison: bool,
}

impl Config {
    /// From properties.
    ///
    /// # Errors
    /// A property is wrong.
    pub fn parse(props: &Props<'_>) -> Result<Self, BuildError> {
        for unsupported in ["free-page-hint", "free-page-reporting"] {
            if props.bool(unsupported)? {
                return Err(BuildError::new(format!("not supported yet: {unsupported}=on")));
            }
        }
        Ok(Self {
            rings: props.ring_options()?,
            deflate_on_oom: props.bool("deflate-on-oom")?,
            page_poison: props.bool("page-poison")?,
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, SavedState)]
struct State {
    /// Pages the driver should give up.
    #[n(1)]
    target: u32,
    /// Pages it says it gave up.
    #[n(2)]
    actual: u32,
    #[n(3)]
    poison: u32,
    /// The buffer in which the driver answers next: its id and entries.
    #[n(4)]
    stats_buffer: Option<(u16, u16)>,
    /// Tags and values of the last answer.
    #[n(5)]
    stats: Vec<(u16, u64)>,
}

/// virtio-balloon.
pub struct Balloon {
    config: Config,
    state: State,
}

impl Balloon {
    /// An empty balloon.
    pub fn new(config: Config) -> Self {
        Self { config, state: State::default() }
    }

    /// Pages of 4 KiB that the driver says it gave up.
    pub fn actual_pages(&self) -> u32 {
        self.state.actual
    }

    /// The driver's last statistics: tags of the standard and values.
    pub fn stats(&self) -> &[(u16, u64)] {
        &self.state.stats
    }

    fn inflate(&mut self, core: &mut Core, chain: &Chain) {
        let count = (total(&chain.readable) / 4).min(MAX_PAGES);
        let mut numbers = vec![0; count as usize * 4];
        if core.mem().gather(&chain.readable, 0, &mut numbers).is_err() {
            return core.fail("virtio-balloon: a buffer lies outside memory");
        }
        let (words, _) = numbers.as_chunks::<4>();
        let mut pages = words.iter().map(|w| u64::from(u32::from_le_bytes(*w)));
        // Neighbours go back to the host together.
        let Some(mut first) = pages.next() else { return };
        let mut n = 1;
        for page in pages {
            if page == first + n {
                n += 1;
            } else {
                core.mem().discard(first << PAGE_SHIFT, n << PAGE_SHIFT);
                (first, n) = (page, 1);
            }
        }
        core.mem().discard(first << PAGE_SHIFT, n << PAGE_SHIFT);
    }

    fn take_stats(&mut self, core: &mut Core, chain: &Chain) {
        let mut bytes = vec![0; MAX_STATS * 10];
        let Ok(n) = core.mem().gather(&chain.readable, 0, &mut bytes) else {
            return core.fail("virtio-balloon: a buffer lies outside memory");
        };
        let entry = |e: &[u8]| {
            let value = e[2..].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
            (u16::from_le_bytes([e[0], e[1]]), value)
        };
        self.state.stats = bytes[..n].chunks_exact(10).map(entry).collect();
        self.return_stats(core);
        self.state.stats_buffer = Some((chain.token.id, chain.token.entries));
    }

    /// Gives the statistics buffer back: the driver answers with fresh ones.
    fn return_stats(&mut self, core: &mut Core) {
        if let Some((id, entries)) = self.state.stats_buffer.take() {
            core.push(STATS, Token { id, entries }, 0);
            core.signal(STATS);
        }
    }
}

/// Asks the driver behind `port` to give up `pages` pages of 4 KiB in all. False when it is no
/// balloon.
pub fn set_target(port: &Port, pages: u32) -> bool {
    port.with(|v| {
        let Some(balloon) = v.device.as_balloon() else { return false };
        balloon.state.target = pages;
        v.core.config_changed();
        true
    })
}

/// Asks the driver behind `port` for fresh statistics. False when it is no balloon.
pub fn request_stats(port: &Port) -> bool {
    port.with(|v| {
        let Some(balloon) = v.device.as_balloon() else { return false };
        balloon.return_stats(&mut v.core);
        true
    })
}

impl VirtioDevice for Balloon {
    fn name(&self) -> &'static str {
        "virtio-balloon-device"
    }
    fn device_id(&self) -> u16 {
        5
    }
    fn ring_options(&self) -> RingOptions {
        self.config.rings
    }
    fn features(&self) -> u64 {
        let bit = |on: bool, bit: u64| if on { bit } else { 0 };
        F_STATS_VQ
            | bit(self.config.deflate_on_oom, F_DEFLATE_ON_OOM)
            | bit(self.config.page_poison, F_PAGE_POISON)
    }
    fn queues(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 3]
    }
    fn vectors(&self) -> Option<u16> {
        Some(2)
    }
    fn as_balloon(&mut self) -> Option<&mut Balloon> {
        Some(self)
    }

    fn config_len(&self) -> usize {
        if self.config.page_poison { 16 } else { 8 }
    }
    fn config(&self, _core: &Core) -> Vec<u8> {
        let s = &self.state;
        let mut bytes = Vec::new();
        for word in [s.target, s.actual, 0, s.poison] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.truncate(self.config_len());
        bytes
    }
    fn write_config(&mut self, _core: &mut Core, offset: usize, bytes: &[u8]) {
        let word = match offset {
            ACTUAL => &mut self.state.actual,
            POISON => &mut self.state.poison,
            _ => return guest_error!("virtio-balloon: write to configuration at {offset:#x}"),
        };
        match bytes {
            [a, b, c, d] => *word = u32::from_le_bytes([*a, *b, *c, *d]),
            _ => guest_error!("virtio-balloon: write of {} bytes", bytes.len()),
        }
    }

    fn notify(&mut self, core: &mut Core, queue: usize) {
        while let Some(chain) = core.pop(queue) {
            match queue {
                INFLATE => self.inflate(core, &chain),
                STATS => {
                    self.take_stats(core, &chain);
                    continue;
                }
                _ => {}
            }
            core.push(queue, chain.token, 0);
        }
        core.signal(queue);
    }

    fn poll(&mut self, core: &mut Core) {
        (0..core.queue_count()).for_each(|queue| self.notify(core, queue));
    }

    fn reset(&mut self) {
        self.state.stats_buffer = None;
        self.state.stats.clear();
        self.state.poison = 0;
    }

    fn save(&self) -> Value {
        SavedState::save(&self.state)
    }
    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        self.state.restore(value)
    }
}
