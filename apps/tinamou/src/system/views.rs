//! What monitors are told of a machine: the plan's part, and the board's.

use crate::system::catalog::Riscv64;
use crate::system::monitor::{Disassembler, Teller, Views};
use crate::system::show;
use hmp::InfoRequest;
use machines_riscv::spike;
use machines_riscv::virt::{self, VirtConfig};
use pci::PciHost;
use plan::{Environment, Outcome, Plan};
use runtime::CodeCache;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use virtio::Plugs;

/// What every board has to show.
pub struct BoardViews {
    /// The harts' model.
    pub cpu: riscv::Config,
    /// Translated code.
    pub cache: Arc<CodeCache>,
    /// By subject of `info`: what this board has beyond others.
    pub tellers: HashMap<&'static str, Box<Teller>>,
}

/// What a `spike` board has beyond others.
pub fn spike(harts: usize) -> HashMap<&'static str, Box<Teller>> {
    let mut tellers: HashMap<&'static str, Box<Teller>> = HashMap::new();
    let qtree = move |request: &InfoRequest| spike::qtree(harts, request.has('b'));
    tellers.insert("qtree", Box::new(qtree));
    tellers.insert("pci", Box::new(|_| String::new()));
    tellers
}

/// What a `virt` board has beyond others.
pub fn virt(
    config: VirtConfig,
    plugs: Plugs,
    pci: Arc<PciHost>,
) -> HashMap<&'static str, Box<Teller>> {
    let mut tellers: HashMap<&'static str, Box<Teller>> = HashMap::new();
    tellers.insert("pci", Box::new(move |_| pci.info()));
    let plugs = Mutex::new(plugs);
    let qtree = move |request: &InfoRequest| {
        let plugs = plugs.lock().unwrap_or_else(PoisonError::into_inner);
        virt::qtree(&config, &plugs, request.has('b'))
    };
    tellers.insert("qtree", Box::new(qtree));
    tellers
}

impl Views {
    /// All there is to show of the machine that `plan` asked for.
    pub fn new(plan: &Plan, board: BoardViews) -> Self {
        let BoardViews { cpu, cache, mut tellers } = board;
        let mut add = |name: &'static str, tell: Box<Teller>| {
            tellers.insert(name, tell);
        };
        add("jit", Box::new(move |_| show::jit(&cache)));
        add("qdm", Box::new(|_| devices()));
        let shared = Arc::new(plan.clone());
        let mut of_plan = |name, tell: fn(&Plan, &InfoRequest) -> String| {
            let plan = Arc::clone(&shared);
            add(name, Box::new(move |request| tell(&plan, request)));
        };
        of_plan("block", |p, r| show::block(p, r.argument.as_deref(), r.has('v')));
        of_plan("network", |p, _| show::network(p));
        of_plan("virtio", |p, _| show::virtio(p));
        of_plan("uuid", |p, _| show::uuid(p));
        of_plan("name", |p, _| p.name.as_ref().map_or_else(String::new, |n| format!("{n}\n")));
        of_plan("memory_size_summary", |p, _| format!("base memory: {}\n", p.memory.size));
        let rv32 = cpu.xlen == riscv::Xlen::Rv32;
        Self { disassemble: disassembler(cpu), rv32, tellers }
    }
}

/// The device classes, as `-device help` lists them.
fn devices() -> String {
    let read = |path: &str| std::fs::read_to_string(path);
    let env = Environment { program: "", catalog: &Riscv64, read: &read };
    match plan::plan(&env, &["-device".to_owned(), "help".to_owned()]) {
        Ok(Outcome::Print(text)) => text,
        _ => String::new(),
    }
}

fn disassembler(cpu: riscv::Config) -> Box<Disassembler> {
    Box::new(move |address, bytes| {
        let (word, len) = match *bytes {
            [a, b, c, d, ..] if a & 3 == 3 => (u32::from_le_bytes([a, b, c, d]), 4),
            [a, b, ..] if a & 3 != 3 => (u32::from_le_bytes([a, b, 0, 0]), 2),
            _ => return None,
        };
        let text = riscv::decode::disassemble(word, address, cpu.ext);
        let text = text.unwrap_or_else(|| "illegal".to_owned());
        Some((len, isa::instruction_line(&bytes[..len], &text)))
    })
}
