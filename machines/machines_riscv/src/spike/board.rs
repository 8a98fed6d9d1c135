//! The board itself: RAM, a CLINT, and the host-target interface where the program has its words.

use super::{CLINT, DRAM, HTIF, MAX_HARTS, MROM, Signature, device_tree};
use crate::assemble::{self, htif_symbols};
use crate::clint;
use crate::harts::{self, BlockSizes, HartInfo, TIMEBASE_HZ};
use crate::inputs::{BootFiles, BuildError, add_roms, map_rom};
use crate::{Window, Xlen};
use chardev::{Port, Sink};
use device::{AccessRules, Shared};
use machine::{Builder, Events, Machine};
use memory::{Backing, Gpa, IoHandler, Ram, Region};
use misc::{Htif, HtifLayout};
use riscv::Riscv;
use runtime::CodeCache;
use std::sync::Arc;
use time::{Clock, Counter};

/// All that the board is made from.
pub struct Inputs {
    /// What every hart can do.
    pub cpu: riscv::Config,
    /// How many there are.
    pub harts: usize,
    /// Bytes of RAM.
    pub ram_len: u64,
    /// Virtual time.
    pub clock: Clock,
    /// Where requests of the guest go.
    pub events: Events,
    /// How processors share host threads.
    pub threading: machine::Threading,
    /// How code is translated.
    pub translator: runtime::Options,
    /// Host side of the console.
    pub console: Option<Port>,
    /// Firmware, kernel and their like.
    pub boot: BootFiles,
    /// What to write when the program ends.
    pub signature: Option<Signature>,
}

/// A finished board.
pub struct Board {
    /// The machine, paused.
    pub machine: Machine,
    /// Takes the input of the console as long as it lives.
    pub console_input: Option<Arc<dyn Sink>>,
    /// The device tree that the firmware gets.
    pub fdt: Vec<u8>,
    /// The code cache, for `info jit`.
    pub cache: Arc<CodeCache>,
}

/// Builds the board.
///
/// # Errors
/// A file does not fit into the machine, or the host has no memory.
pub fn build(inputs: Inputs) -> Result<Board, BuildError> {
    let mut b = Builder::new(inputs.clock.clone());
    b.threading = inputs.threading;
    let host = |what| move |error| BuildError::Host(what, error);
    let ram = Ram::new("riscv.spike.ram", inputs.ram_len)
        .map_err(host("cannot set up guest memory 'riscv.spike.ram'"))?;
    b.space.map_ram(DRAM, &ram);
    let mrom = Ram::new("riscv.spike.mrom", MROM.len).map_err(host("guest memory"))?;
    map_rom(&b.space, MROM, &mrom);

    let cache = CodeCache::new(<Riscv as isa::Guest>::registers(), inputs.translator)
        .map_err(host("cannot set up memory for translated code"))?;
    let mtime = Counter::new(inputs.clock.clone(), u64::from(TIMEBASE_HZ));
    let common = harts::Common { config: &inputs.cpu, mtime: &mtime, cache: &cache };
    let count = inputs.harts.min(MAX_HARTS);
    let harts = harts::add(&mut b, &common, count, &[]);
    clint::add_clint(&mut b, CLINT.base, &mtime, &harts);

    let symbols = find_symbols(&inputs.boot);
    let signature = inputs.signature.map(|s| s.of_program(&inputs.boot, &b.space));
    let at_end = signature.transpose()?;
    let console_input = add_htif(&mut b, inputs.events, inputs.console, symbols, at_end);

    let infos = vec![hart_info(&inputs.cpu); count];
    let tree = inputs.boot.tree(|| device_tree(&infos, inputs.ram_len, symbols.is_none()))?;
    let ram = Window::new(DRAM, inputs.ram_len);
    let board = assemble::Board { xlen: harts::xlen(&inputs.cpu), ram, flash: None };
    let mut assembly =
        assemble::assemble(board, inputs.boot.borrow(), tree).map_err(BuildError::Boot)?;
    add_roms(&mut b, &mut assembly, MROM);
    let machine = b.build().map_err(host("cannot start a thread"))?;
    Ok(Board { machine, console_input, fdt: assembly.tree.to_blob(), cache })
}

/// What this board's tree says about a hart: no block sizes, and always the same mode of
/// translation, whatever the hart can do.
fn hart_info(cpu: &riscv::Config) -> HartInfo {
    let mmu = match harts::xlen(cpu) {
        Xlen::Rv32 => "riscv,sv32",
        Xlen::Rv64 => "riscv,sv48",
    };
    let info = harts::info(cpu);
    HartInfo { mmu: Some(mmu.into()), block_sizes: BlockSizes::default(), ..info }
}

/// Where the words of the interface are: the kernel says, or else the firmware.
fn find_symbols(boot: &BootFiles) -> Option<(u64, HtifLayout)> {
    let files = [&boot.kernel, &boot.firmware];
    let (tohost, fromhost) = files.into_iter().flatten().find_map(|f| htif_symbols(&f.bytes))?;
    HtifLayout::of_symbols(tohost, fromhost)
}

/// The host-target interface; it takes the place of the RAM that it lies in.
fn add_htif(
    b: &mut Builder,
    events: Events,
    port: Option<Port>,
    symbols: Option<(u64, HtifLayout)>,
    at_end: Option<Box<dyn FnOnce() + Send>>,
) -> Option<Arc<dyn Sink>> {
    let (base, layout) = symbols.unwrap_or((HTIF.base, HtifLayout::DEFAULT));
    let out = port.clone();
    let output = move |bytes: &[u8]| {
        // A back end that takes nothing now loses output, as the program cannot be told.
        let _taken = out.as_ref().map(|port| port.write(bytes));
    };
    let mut htif = Htif::new(layout, Arc::clone(&b.space), Arc::new(events), Box::new(output));
    htif.at_end = at_end;
    let htif = Shared::new(htif);
    b.space.map(Region {
        name: "riscv.htif.uart".into(),
        base: Gpa(base),
        len: layout.len(),
        priority: 1,
        backing: Backing::Io(Arc::new(Words { htif: htif.clone(), port: port.clone() })),
    });
    b.part("/machine/htif", htif.clone());
    let port = port?;
    let input: Arc<dyn Sink> = Arc::new(Input(htif));
    port.attach(&input);
    Some(input)
}

/// The words in the address space: a program that waits for a character lets input go on.
struct Words {
    htif: Shared<Htif>,
    port: Option<Port>,
}

impl IoHandler for Words {
    fn rules(&self) -> AccessRules {
        self.htif.rules()
    }

    fn read(&self, offset: u64, size: u32) -> u64 {
        self.htif.read(offset, size)
    }

    fn write(&self, offset: u64, size: u32, value: u64) {
        self.htif.write(offset, size, value);
        if let Some(port) = self.port.as_ref().filter(|_| self.htif.lock().can_receive()) {
            port.accept_input();
        }
    }
}

/// Takes the characters typed, one for each that the program asks for.
struct Input(Shared<Htif>);

impl Sink for Input {
    fn receive(&self, bytes: &[u8]) -> usize {
        match bytes.first() {
            Some(byte) => self.0.lock().receive(*byte).into(),
            None => 0,
        }
    }
}
