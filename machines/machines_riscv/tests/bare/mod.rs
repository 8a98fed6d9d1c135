//! Small programs without an operating system, and machines that run them.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use chardev::{Backend, Chardevs};
use device::Cause;
use machine::{Event, Events, Machine, Threading};
use machines_riscv::inputs::{BootFiles, File};
use machines_riscv::virt::{self, VirtConfig};
use machines_riscv::{harts, spike};
use memory::Gpa;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use time::{Clock, WallClock};

/// RAM of every machine here.
pub const RAM: u64 = 0x8000_0000;
const RAM_LEN: u64 = 8 << 20;

/// Registers, by their names.
pub const ZERO: u32 = 0;
pub const T0: u32 = 5;
pub const T1: u32 = 6;
pub const T2: u32 = 7;
pub const A0: u32 = 10;
pub const A1: u32 = 11;
pub const A2: u32 = 12;

/// A program under construction: each method adds an instruction.
#[derive(Default)]
pub struct Program(pub Vec<u32>);

impl Program {
    fn i(&mut self, opcode: u32, funct3: u32, rd: u32, rs1: u32, imm: i32) -> &mut Self {
        self.0.push((imm as u32) << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode);
        self
    }
    fn s(&mut self, funct3: u32, rs2: u32, imm: i32, rs1: u32) -> &mut Self {
        let imm = imm as u32;
        let (high, low) = (imm >> 5 & 0x7f, imm & 0x1f);
        self.0.push(high << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | low << 7 | 0x23);
        self
    }
    pub fn addi(&mut self, rd: u32, rs1: u32, imm: i32) -> &mut Self {
        self.i(0x13, 0, rd, rs1, imm)
    }
    pub fn slli(&mut self, rd: u32, rs1: u32, by: i32) -> &mut Self {
        self.i(0x13, 1, rd, rs1, by)
    }
    pub fn srli(&mut self, rd: u32, rs1: u32, by: i32) -> &mut Self {
        self.i(0x13, 5, rd, rs1, by)
    }
    pub fn ld(&mut self, rd: u32, imm: i32, rs1: u32) -> &mut Self {
        self.i(0x03, 3, rd, rs1, imm)
    }
    pub fn lw(&mut self, rd: u32, imm: i32, rs1: u32) -> &mut Self {
        self.i(0x03, 2, rd, rs1, imm)
    }
    pub fn sd(&mut self, rs2: u32, imm: i32, rs1: u32) -> &mut Self {
        self.s(3, rs2, imm, rs1)
    }
    pub fn sw(&mut self, rs2: u32, imm: i32, rs1: u32) -> &mut Self {
        self.s(2, rs2, imm, rs1)
    }
    pub fn sb(&mut self, rs2: u32, imm: i32, rs1: u32) -> &mut Self {
        self.s(0, rs2, imm, rs1)
    }
    pub fn add(&mut self, rd: u32, rs1: u32, rs2: u32) -> &mut Self {
        self.0.push(rs2 << 20 | rs1 << 15 | rd << 7 | 0x33);
        self
    }
    pub fn xor(&mut self, rd: u32, rs1: u32, rs2: u32) -> &mut Self {
        self.0.push(rs2 << 20 | rs1 << 15 | 4 << 12 | rd << 7 | 0x33);
        self
    }
    pub fn csrr(&mut self, rd: u32, csr: u32) -> &mut Self {
        self.i(0x73, 2, rd, ZERO, csr as i32)
    }
    pub fn csrw(&mut self, csr: u32, rs1: u32) -> &mut Self {
        self.i(0x73, 1, ZERO, rs1, csr as i32)
    }
    pub fn wfi(&mut self) -> &mut Self {
        self.0.push(0x1050_0073);
        self
    }
    /// A constant of up to 32 bits, sign-extended.
    pub fn li(&mut self, rd: u32, value: u32) -> &mut Self {
        let low = (value as i32) << 20 >> 20;
        self.0.push(value.wrapping_sub(low as u32) & 0xffff_f000 | rd << 7 | 0x37);
        // addiw on RV64 would keep the sign right at the edge; no constant here is there.
        self.addi(rd, rd, low)
    }
    /// Where the next instruction will be.
    pub fn here(&self) -> usize {
        self.0.len()
    }
    /// Jumps back to `target`.
    pub fn j(&mut self, target: usize) -> &mut Self {
        let by = (target as i32 - self.here() as i32) * 4;
        let imm = by as u32;
        let bits = (imm >> 20 & 1) << 31
            | (imm >> 1 & 0x3ff) << 21
            | (imm >> 11 & 1) << 20
            | (imm >> 12 & 0xff) << 12;
        self.0.push(bits | 0x6f);
        self
    }
    fn branch(&mut self, funct3: u32, rs1: u32, rs2: u32, target: usize) -> &mut Self {
        let imm = ((target as i32 - self.here() as i32) * 4) as u32;
        let bits = (imm >> 12 & 1) << 31
            | (imm >> 5 & 0x3f) << 25
            | (imm >> 1 & 0xf) << 8
            | (imm >> 11 & 1) << 7;
        self.0.push(bits | rs2 << 20 | rs1 << 15 | funct3 << 12 | 0x63);
        self
    }
    pub fn bne(&mut self, rs1: u32, rs2: u32, target: usize) -> &mut Self {
        self.branch(1, rs1, rs2, target)
    }
    pub fn beq(&mut self, rs1: u32, rs2: u32, target: usize) -> &mut Self {
        self.branch(0, rs1, rs2, target)
    }
    /// Stays here.
    pub fn stop(&mut self) -> &mut Self {
        let here = self.here();
        self.j(here)
    }
    /// Prints a character on virt's serial port.
    pub fn print(&mut self, character: u8) -> &mut Self {
        self.li(T1, 0x1000_0000).addi(T2, ZERO, character.into()).sb(T2, 0, T1)
    }
    /// Ends virt with the exit code in the low bits of `code`, and stays.
    pub fn finish(&mut self, code: u32) -> &mut Self {
        self.slli(T2, code, 16).li(T1, 0x3333).add(T2, T2, T1);
        self.li(T1, 0x10_0000).sw(T2, 0, T1).stop()
    }
    pub fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// An ELF file of `code` at [`RAM`], with symbols.
pub fn elf(code: &[u8], symbols: &[(&str, u64)]) -> Vec<u8> {
    let mut names = vec![0];
    let mut table = vec![0; 24];
    for (name, value) in symbols {
        table.extend((names.len() as u32).to_le_bytes());
        table.extend([0x11, 0, 0xf1, 0xff]);
        table.extend(value.to_le_bytes());
        table.extend(8u64.to_le_bytes());
        names.extend(name.bytes().chain([0]));
    }
    let (at_code, at_table) = (64 + 56, 64 + 56 + code.len() as u64);
    let at_names = at_table + table.len() as u64;
    let at_sections = at_names + names.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |file: &mut Vec<u8>, values: &[u16]| {
        values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    };
    let long = |file: &mut Vec<u8>, values: &[u64]| {
        values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    };
    half(&mut file, &[2, 243, 1, 0]);
    long(&mut file, &[RAM, 64, at_sections]);
    half(&mut file, &[0, 0, 64, 56, 1, 64, 3, 0]);
    half(&mut file, &[1, 0, 7, 0]);
    long(&mut file, &[at_code, RAM, RAM, code.len() as u64, code.len() as u64, 0x1000]);
    file.extend(code);
    file.extend(&table);
    file.extend(&names);
    let mut section = |kind: u16, at: u64, len: usize, link: u16, entry: u64| {
        half(&mut file, &[0, 0, kind, 0]);
        long(&mut file, &[0, 0, at, len as u64]);
        half(&mut file, &[link, 0, 1, 0]);
        long(&mut file, &[8, entry]);
    };
    section(0, 0, 0, 0, 0);
    section(2, at_table, table.len(), 2, 24);
    section(3, at_names, names.len(), 0, 0);
    file
}

/// A machine, its console and what it asks for.
pub struct Guest {
    pub machine: Machine,
    chardevs: Chardevs,
    inbox: Receiver<Event>,
    _input: Option<Arc<dyn chardev::Sink>>,
}

/// What the guest asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    End(u32),
    Reset,
}

struct NoBackends;

impl virtio::Backends for NoBackends {
    fn drive(&self, _id: &str) -> Option<virtio::Drive> {
        None
    }
    fn cpus(&self) -> u16 {
        1
    }
}

fn console() -> Chardevs {
    let chardevs = Chardevs::start(1, |_| {}).unwrap();
    let config = chardev::Config::new("console", Backend::Ringbuf { size: 4096 });
    chardevs.open(&config, &|_| {}).unwrap();
    chardevs
}

fn kernel(bytes: Vec<u8>) -> BootFiles {
    BootFiles { kernel: Some(File { name: "kernel".into(), bytes }), ..BootFiles::default() }
}

fn translator() -> runtime::Options {
    runtime::Options { code_bytes: 4 << 20, ..runtime::Options::default() }
}

/// A virt board with `kernel`; `adjust` may change its shape.
pub fn virt_board(
    cpu: &str,
    harts: usize,
    program: Vec<u8>,
    adjust: impl FnOnce(&mut VirtConfig),
) -> Guest {
    let cpu = riscv::model::parse(cpu).unwrap();
    let infos = vec![harts::info(&cpu); harts];
    let mut config = VirtConfig::new(harts::xlen(&cpu), infos, RAM_LEN);
    adjust(&mut config);
    let (events, inbox) = Events::channel();
    let chardevs = console();
    let clock = Clock::following_host().unwrap();
    let board = virt::build(virt::Inputs {
        config,
        cpu,
        wall: WallClock::starting_at(clock.clone(), 0),
        clock,
        events,
        threading: Threading::Multi,
        translator: translator(),
        serial: chardevs.port("console"),
        flash: [None, None],
        boot: kernel(program),
        firmware: virt::FirmwareConfig::default(),
        devices: Vec::new(),
        backends: &NoBackends,
    })
    .unwrap();
    Guest { machine: board.machine, chardevs, inbox, _input: board.serial_input }
}

/// A spike board with `kernel`.
pub fn spike_board(program: Vec<u8>, signature: Option<spike::Signature>) -> Guest {
    let (events, inbox) = Events::channel();
    let chardevs = console();
    let board = spike::build(spike::Inputs {
        signature,
        cpu: riscv::model::parse("rv64").unwrap(),
        harts: 1,
        ram_len: RAM_LEN,
        clock: Clock::following_host().unwrap(),
        events,
        threading: Threading::Multi,
        translator: translator(),
        console: chardevs.port("console"),
        boot: kernel(program),
    })
    .unwrap();
    Guest { machine: board.machine, chardevs, inbox, _input: board.console_input }
}

impl Guest {
    /// Waits for the guest to ask for something.
    pub fn asks(&self) -> Asked {
        match self.inbox.recv_timeout(Duration::from_secs(100)).expect("the guest asks") {
            Event::Shutdown(Cause::GuestShutdown | Cause::GuestPanic, code) => Asked::End(code),
            Event::Reset(Cause::GuestReset) => Asked::Reset,
            _ => panic!("neither reset nor end"),
        }
    }

    /// Runs until it asks for something.
    pub fn runs_to(&self) -> Asked {
        self.machine.resume();
        self.asks()
    }

    /// What the guest printed since the last time.
    pub fn printed(&self) -> String {
        String::from_utf8(self.chardevs.read_ring("console", 4096).unwrap_or_default()).unwrap()
    }

    /// A word of RAM.
    pub fn word(&self, at: u64) -> u64 {
        self.machine.space().load(Gpa(at), 8).unwrap()
    }

    /// Waits until that word has another value than `value`.
    pub fn wait_for_change(&self, at: u64, value: u64) -> u64 {
        loop {
            let now = self.word(at);
            if now != value {
                return now;
            }
            std::thread::yield_now();
        }
    }

    /// All RAM.
    pub fn ram(&self) -> Vec<u8> {
        let mut bytes = vec![0; RAM_LEN as usize];
        self.machine.space().read(Gpa(RAM), &mut bytes).unwrap();
        bytes
    }

    /// Replaces all RAM.
    pub fn set_ram(&self, bytes: &[u8]) {
        self.machine.space().write(Gpa(RAM), bytes).unwrap();
    }
}
