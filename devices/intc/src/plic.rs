//! RISC-V platform-level interrupt controller (PLIC specification 1.0.0) with level-triggered
//! gateways, as SiFive lays it out.
//!
//! A gateway lets one request through and waits for its completion; if the line is still high then,
//! it sends the next. As in SiFive's parts and others, a claim returns only what exceeds the threshold.

use device::{
    Bus, Category, Device, DeviceClass, LineDevice, MmioDevice, Property, RestoreError, SavedState,
    Value, Wire,
};

/// Pending bits, one word per 32 sources.
const PENDING: u64 = 0x1000;
/// Enable bits, 0x80 bytes per context.
const ENABLE: u64 = 0x2000;
const ENABLE_STRIDE: u64 = 0x80;
/// Threshold and claim/complete, a page per context.
const CONTEXT: u64 = 0x20_0000;
const CONTEXT_STRIDE: u64 = 0x1000;
/// Sources are numbered below this.
const MAX_SOURCES: u32 = 1024;

/// What the board chooses.
#[derive(Clone, Copy, Debug)]
pub struct PlicConfig {
    /// Number of sources with source 0, which does not exist; 1 to 1024.
    pub sources: u32,
    /// Highest priority; one less than a power of two.
    pub max_priority: u32,
}

/// Everything the guest can observe but the input lines, which devices drive. Bits of sources come
/// in words of 32.
#[derive(Clone, Default, SavedState)]
struct State {
    #[n(1)]
    priority: Vec<u32>,
    #[n(2)]
    pending: Vec<u32>,
    /// Claimed and not completed.
    #[n(3)]
    claimed: Vec<u32>,
    /// Enable bits of all contexts, one after the other.
    #[n(4)]
    enable: Vec<u32>,
    #[n(5)]
    threshold: Vec<u32>,
}

/// RISC-V PLIC.
pub struct Plic {
    config: PlicConfig,
    /// External interrupt of each context.
    outputs: Vec<Wire>,
    /// Words of bits per context.
    words: usize,
    /// Input lines.
    level: Vec<u32>,
    state: State,
}

impl Plic {
    /// A controller with one context per output, in the order of the contexts.
    pub fn new(config: PlicConfig, outputs: Vec<Wire>) -> Self {
        let config = PlicConfig { sources: config.sources.clamp(1, MAX_SOURCES), ..config };
        let words = config.sources.div_ceil(32) as usize;
        let level = vec![0; words];
        let mut plic = Self { config, outputs, words, level, state: State::default() };
        plic.state = plic.power_on();
        plic
    }

    /// Bytes of address space that the registers of `contexts` contexts take.
    pub fn len_for(contexts: u64) -> u64 {
        CONTEXT + contexts.saturating_mul(CONTEXT_STRIDE)
    }

    fn power_on(&self) -> State {
        let contexts = self.outputs.len();
        State {
            priority: vec![0; self.config.sources as usize],
            pending: vec![0; self.words],
            claimed: vec![0; self.words],
            enable: vec![0; self.words * contexts],
            threshold: vec![0; contexts],
        }
    }

    fn enabled(&self, context: usize) -> &[u32] {
        &self.state.enable[context * self.words..][..self.words]
    }

    /// The pending source with the highest priority above the threshold; the lowest number among
    /// equals.
    fn best(&self, context: usize) -> Option<u32> {
        let mut best = (self.state.threshold[context], None);
        let pending = self.state.pending.iter().zip(self.enabled(context));
        for (word, (pending, enable)) in pending.enumerate() {
            let mut bits = pending & enable;
            while bits != 0 {
                let source = word as u32 * 32 + bits.trailing_zeros();
                let priority = self.state.priority[source as usize];
                if priority > best.0 {
                    best = (priority, Some(source));
                }
                bits &= bits - 1;
            }
        }
        best.1
    }

    /// Drives the outputs to match the state.
    fn update(&self) {
        for (context, output) in self.outputs.iter().enumerate() {
            output.set(self.best(context).is_some());
        }
    }

    fn claim(&mut self, context: usize) -> u32 {
        let Some(source) = self.best(context) else { return 0 };
        set_bit(&mut self.state.pending, source, false);
        set_bit(&mut self.state.claimed, source, true);
        self.update();
        source
    }

    fn complete(&mut self, context: usize, source: u32) {
        if source >= self.config.sources || !bit(self.enabled(context), source) {
            return device::guest_error!("plic: context {context} completes source {source}");
        }
        set_bit(&mut self.state.claimed, source, false);
        if bit(&self.level, source) {
            set_bit(&mut self.state.pending, source, true);
        }
        self.update();
    }

    /// Lets every gateway whose line is high send its request, unless it waits for a completion.
    fn open_gateways(&mut self) {
        let State { pending, claimed, .. } = &mut self.state;
        for ((pending, claimed), level) in pending.iter_mut().zip(claimed).zip(&self.level) {
            *pending |= level & !*claimed;
        }
    }

    /// Context and offset within its part, for registers that come per context.
    fn context(&self, offset: u64, base: u64, stride: u64) -> Option<(usize, u64)> {
        let offset = offset.checked_sub(base)?;
        let context = usize::try_from(offset / stride).ok()?;
        (context < self.outputs.len()).then_some((context, offset % stride))
    }

    /// The word of enable bits at `offset`.
    fn enable_word(&self, offset: u64) -> Option<usize> {
        let (context, within) = self.context(offset, ENABLE, ENABLE_STRIDE)?;
        let word = (within / 4) as usize;
        (word < self.words).then_some(context * self.words + word)
    }
}

impl Device for Plic {
    /// The input lines stay as their devices drive them.
    fn reset(&mut self) {
        self.state = self.power_on();
        self.update();
    }

    fn save(&self) -> Value {
        self.state.save()
    }

    /// The input lines stay as their devices drive them.
    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        let mut new = State::default();
        new.restore(value)?;
        let now = &self.state;
        let lengths = [
            ("priority", new.priority.len(), now.priority.len()),
            ("pending", new.pending.len(), now.pending.len()),
            ("claimed", new.claimed.len(), now.claimed.len()),
            ("enable", new.enable.len(), now.enable.len()),
            ("threshold", new.threshold.len(), now.threshold.len()),
        ];
        if let Some((name, saved, here)) = lengths.into_iter().find(|(_, a, b)| a != b) {
            let problem = format!("{saved} values where {here} belong");
            return Err(RestoreError::new(problem).within(name));
        }
        for words in [&mut new.pending, &mut new.claimed] {
            mask_sources(words, self.config.sources);
        }
        new.enable.chunks_mut(self.words).for_each(|w| mask_sources(w, self.config.sources));
        self.state = new;
        self.open_gateways();
        self.update();
        Ok(())
    }
}

impl MmioDevice for Plic {
    fn read(&mut self, offset: u64, _size: u32) -> u64 {
        let index = (offset / 4) as usize;
        let value = if offset < PENDING {
            self.state.priority.get(index).copied()
        } else if offset < ENABLE {
            self.state.pending.get(index - PENDING as usize / 4).copied()
        } else if offset < CONTEXT {
            self.enable_word(offset).map(|word| self.state.enable[word])
        } else {
            match self.context(offset, CONTEXT, CONTEXT_STRIDE) {
                Some((context, 0)) => Some(self.state.threshold[context]),
                Some((context, 4)) => Some(self.claim(context)),
                _ => None,
            }
        };
        value.unwrap_or(0).into()
    }

    fn write(&mut self, offset: u64, size: u32, value: u64) {
        if size != 4 {
            return device::guest_error!("plic: write of {size} bytes at {offset:#x}");
        }
        let value = value as u32;
        let index = (offset / 4) as usize;
        if offset < PENDING {
            // Source 0 does not exist.
            if let Some(priority) = self.state.priority.get_mut(index).filter(|_| index != 0) {
                *priority = value & self.config.max_priority;
            }
        } else if offset < ENABLE {
            return device::guest_error!("plic: write to pending bits at {offset:#x}");
        } else if offset < CONTEXT {
            if let Some(word) = self.enable_word(offset) {
                self.state.enable[word] = value;
                let start = word - word % self.words;
                let words = &mut self.state.enable[start..start + self.words];
                mask_sources(words, self.config.sources);
            }
        } else {
            match self.context(offset, CONTEXT, CONTEXT_STRIDE) {
                Some((context, 0)) => {
                    self.state.threshold[context] = value & self.config.max_priority;
                }
                Some((context, 4)) => return self.complete(context, value),
                _ => {}
            }
        }
        self.update();
    }
}

impl LineDevice for Plic {
    fn set_line(&mut self, line: u32, level: bool) {
        if line == 0 || line >= self.config.sources {
            return;
        }
        set_bit(&mut self.level, line, level);
        if level && !bit(&self.state.claimed, line) && !bit(&self.state.pending, line) {
            set_bit(&mut self.state.pending, line, true);
            self.update();
        }
    }
}

fn bit(words: &[u32], n: u32) -> bool {
    words.get((n / 32) as usize).is_some_and(|w| w >> (n % 32) & 1 != 0)
}

fn set_bit(words: &mut [u32], n: u32, value: bool) {
    if let Some(word) = words.get_mut((n / 32) as usize) {
        *word = *word & !(1 << (n % 32)) | u32::from(value) << (n % 32);
    }
}

/// Clears the bits of sources that do not exist.
fn mask_sources(words: &mut [u32], sources: u32) {
    if let Some(first) = words.first_mut() {
        *first &= !1;
    }
    if let Some(last) = words.last_mut()
        && !sources.is_multiple_of(32)
    {
        *last &= (1 << (sources % 32)) - 1;
    }
}

/// The row of `riscv.sifive.plic`.
pub static CLASS: DeviceClass = DeviceClass {
    name: "riscv.sifive.plic",
    aliases: &[],
    bus: Bus::System,
    category: Category::Misc,
    description: "RISC-V platform-level interrupt controller",
    properties: &[Property {
        name: "num-sources",
        kind: "uint32",
        default: "0",
        description: "sources with source 0, which does not exist",
    }],
    saved_version: 1,
};

#[cfg(test)]
mod tests {
    use super::*;
    use device::{LineSink, RecordedLines, assert_saves_and_restores, hammer_registers};
    use std::sync::Arc;

    const CLAIM: u64 = CONTEXT + 4;
    const CONFIG: PlicConfig = PlicConfig { sources: 96, max_priority: 7 };

    fn plic() -> (Arc<RecordedLines>, Plic) {
        let lines = Arc::new(RecordedLines::default());
        let wire = |i| Wire::to(Arc::clone(&lines) as Arc<dyn LineSink>, i);
        let outputs = (0..2).map(wire).collect();
        (Arc::clone(&lines), Plic::new(CONFIG, outputs))
    }

    /// All sources enabled in context 0, priority 1.
    fn open() -> (Arc<RecordedLines>, Plic) {
        let (lines, mut plic) = plic();
        (0..96).for_each(|s| plic.write(s * 4, 4, 1));
        (0..3).for_each(|w| plic.write(ENABLE + w * 4, 4, 0xffff_ffff));
        (lines, plic)
    }

    #[test]
    fn registers_keep_the_bits_that_exist() {
        let (_, mut plic) = plic();
        for (at, kept) in [(0, 0), (4, 7), (95 * 4, 7), (96 * 4, 0), (PENDING, 0)] {
            plic.write(at, 4, 0xffff_ffff);
            assert_eq!(plic.read(at, 4), kept, "{at:#x}");
        }
        for (at, kept) in
            [(0, 0xffff_fffe), (8, 0xffff_ffff), (12, 0), (0x80, 0xffff_fffe), (0x100, 0)]
        {
            plic.write(ENABLE + at, 4, 0xffff_ffff);
            assert_eq!(plic.read(ENABLE + at, 4), kept, "{at:#x}");
        }
        plic.write(CONTEXT + CONTEXT_STRIDE, 4, 0xff);
        assert_eq!(plic.read(CONTEXT + CONTEXT_STRIDE, 4), 7);
    }

    #[test]
    fn a_request_is_claimed_once_and_again_if_the_line_stays_high() {
        let (lines, mut plic) = open();
        plic.set_line(3, true);
        assert_eq!(lines.take(), [(0, true)]);
        assert_eq!(plic.read(CLAIM, 4), 3);
        assert_eq!(plic.read(CLAIM, 4), 0);
        assert_eq!(lines.take(), [(0, false)]);
        plic.write(CLAIM, 4, 3);
        assert_eq!(lines.take(), [(0, true)]);
        assert_eq!(plic.read(CLAIM, 4), 3);
        plic.set_line(3, false);
        plic.write(CLAIM, 4, 3);
        assert_eq!(lines.take(), [(0, false)]);
    }

    #[test]
    fn a_request_outlives_its_line() {
        let (_, mut plic) = open();
        plic.set_line(40, true);
        plic.set_line(40, false);
        assert_eq!(plic.read(PENDING + 4, 4), 1 << 8);
        assert_eq!(plic.read(CLAIM, 4), 40);
    }

    #[test]
    fn priority_then_number_decides_and_the_threshold_hides() {
        let (lines, mut plic) = open();
        plic.write(80 * 4, 4, 5);
        plic.write(CONTEXT, 4, 5);
        [7, 5, 80].into_iter().for_each(|s| plic.set_line(s, true));
        assert_eq!(lines.take(), []);
        plic.write(CONTEXT, 4, 0);
        assert_eq!(lines.take(), [(0, true)]);
        let order: Vec<u64> = (0..4).map(|_| plic.read(CLAIM, 4)).collect();
        assert_eq!(order, [80, 5, 7, 0]);
    }

    #[test]
    fn completion_of_a_source_that_is_not_enabled_is_ignored() {
        let (lines, mut plic) = open();
        plic.set_line(3, true);
        assert_eq!(plic.read(CLAIM, 4), 3);
        plic.write(ENABLE, 4, 0);
        plic.write(CLAIM, 4, 3);
        plic.write(CLAIM, 4, 0xffff_ffff);
        plic.write(ENABLE, 4, 8);
        assert_eq!(lines.take(), [(0, true), (0, false)]);
    }

    #[test]
    fn saves_and_restores() {
        let (_, mut plic_a) = open();
        plic_a.set_line(3, true);
        plic_a.set_line(4, true);
        plic_a.read(CLAIM, 4);
        let (lines, mut plic_b) = plic();
        assert_saves_and_restores(&plic_a, &mut plic_b);
        assert_eq!(lines.take(), [(0, true)]);
        let mut other = Plic::new(PlicConfig { sources: 53, max_priority: 7 }, vec![]);
        assert!(other.restore(&plic_a.save()).is_err());
    }

    #[test]
    fn restoring_leaves_the_lines_as_their_devices_drive_them() {
        let (_, mut plic) = open();
        let quiet = plic.save();
        plic.set_line(3, true);
        plic.set_line(4, true);
        assert_eq!(plic.read(CLAIM, 4), 3);
        let waiting = plic.save();
        // Devices are restored first: the line of one is low again, that of another still high.
        plic.set_line(3, false);
        plic.restore(&waiting).unwrap();
        assert_eq!(plic.save(), waiting);
        plic.write(CLAIM, 4, 3);
        assert_eq!([plic.read(CLAIM, 4), plic.read(CLAIM, 4)], [4, 0]);
        plic.set_line(4, false);
        plic.set_line(5, true);
        plic.set_line(5, false);
        plic.restore(&quiet).unwrap();
        assert_eq!((plic.save(), plic.read(CLAIM, 4)), (quiet, 0));
    }

    #[test]
    fn random_accesses_are_harmless() {
        let (_, mut plic) = open();
        for seed in 0..50 {
            hammer_registers(&mut plic, 0x60_0000, seed, 200);
            hammer_registers(&mut plic, 0x4000, seed, 200);
            plic.set_line(seed as u32 * 3, seed % 2 == 0);
            plic.read(CLAIM, 4);
            plic.write(CLAIM, 4, seed * 3);
        }
    }
}
