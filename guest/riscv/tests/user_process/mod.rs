//! A process of a few instructions: code at one place, data at another.

use cpu::{Exit, VirtualCpu};
use isa::Event;
use riscv::{Riscv, Xlen, model};
use runtime::{Options, ProcessMemory, Rights, Vcpu, Width};
use std::sync::Arc;

/// Where code is; two pages.
pub const CODE: u64 = 0x1234_0000;
/// Where data is; two pages, and nothing behind them.
pub const DATA: u64 = 0x1300_0000;
pub const PAGE: u64 = 4096;
pub const ECALL: u32 = 0x73;
pub const EBREAK: u32 = 0x0010_0073;
pub const RET: u32 = 0x8067;
pub const FENCE_I: u32 = 0x100f;
pub const RA: u32 = 1;
pub const T0: u32 = 5;
pub const A0: u32 = 10;
pub const A1: u32 = 11;
pub const A2: u32 = 12;
pub const A7: u32 = 17;

/// `addi rd, zero, imm`
pub fn li(rd: u32, imm: i32) -> u32 {
    addi(rd, 0, imm)
}
pub fn addi(rd: u32, rs1: u32, imm: i32) -> u32 {
    imm.cast_unsigned() << 20 | rs1 << 15 | rd << 7 | 0x13
}
/// The upper bits of an address that has no others.
pub fn lui(rd: u32, address: u64) -> u32 {
    address as u32 | rd << 7 | 0x37
}
/// `sw rs2, offset(rs1)`
pub fn sw(rs2: u32, rs1: u32, offset: u32) -> u32 {
    offset >> 5 << 25 | rs2 << 20 | rs1 << 15 | 2 << 12 | (offset & 31) << 7 | 0x23
}
/// `lw rd, offset(rs1)`
pub fn lw(rd: u32, rs1: u32, offset: u32) -> u32 {
    offset << 20 | rs1 << 15 | 2 << 12 | rd << 7 | 0x03
}
/// A load or another instruction of its form: `opcode` with `funct3`, immediate, rd, rs1.
pub fn i_type(opcode: u32, funct3: u32, rd: u32, rs1: u32, imm: u32) -> u32 {
    imm << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode
}
/// A store: `opcode` with `funct3`, rs2, rs1, immediate.
pub fn s_type(opcode: u32, funct3: u32, rs2: u32, rs1: u32, imm: u32) -> u32 {
    imm >> 5 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | (imm & 31) << 7 | opcode
}
/// An atomic: `funct5`, width (2 words, 3 doublewords…), rd, rs1, rs2.
pub fn atomic(funct5: u32, width: u32, rd: u32, rs1: u32, rs2: u32) -> u32 {
    funct5 << 27 | rs2 << 20 | rs1 << 15 | width << 12 | rd << 7 | 0x2f
}
/// `vsetvli rd, rs1, vtype`
pub fn vsetvli(rd: u32, rs1: u32, vtype: u32) -> u32 {
    vtype << 20 | rs1 << 15 | 7 << 12 | rd << 7 | 0x57
}
/// An unmasked vector load (opcode 7) or store (0x27): mode (0 unit stride, 1 indexed, 2 strided),
/// field of rs2, rs1, width (0 bytes, 5 halves, 6 words, 7 doublewords).
pub fn vector_memory(opcode: u32, mode: u32, rs2: u32, rs1: u32, width: u32, v: u32) -> u32 {
    mode << 26 | 1 << 25 | rs2 << 20 | rs1 << 15 | width << 12 | v << 7 | opcode
}

/// `jalr rd, 0(rs1)`
pub fn jalr(rd: u32, rs1: u32) -> u32 {
    rs1 << 15 | rd << 7 | 0x67
}

/// A process.
pub struct Process {
    pub guest: Arc<Riscv>,
    pub memory: Arc<ProcessMemory>,
}

impl Process {
    pub fn new(width: Width, interpret: bool) -> Self {
        let cpu = match width {
            Width::Bits64 => "rv64,v=true,vlen=256,zacas=true,zabha=true",
            Width::Bits32 => "rv32,zacas=true,zabha=true",
        };
        let guest = Arc::new(Riscv::user(model::parse(cpu).expect("a known model")));
        assert_eq!(guest.config.xlen == Xlen::Rv32, width == Width::Bits32);
        let interpret = interpret || Options::default().interpret;
        let options = Options { interpret, code_bytes: 4 << 20, ..Options::default() };
        let memory = ProcessMemory::new::<Riscv>(width, options).expect("the host has memory");
        let process = Self { guest, memory };
        process.place();
        process
    }

    /// Maps code and data. Programs have fixed addresses, so that in a process of tests only one at a
    /// time can be in memory of 64-bit addresses.
    fn place(&self) {
        let all = Rights::READ | Rights::WRITE | Rights::EXECUTE;
        self.memory.map(CODE, 2 * PAGE, all).expect("nobody else is there");
        let data = Rights::READ | Rights::WRITE;
        self.memory.map(DATA, 2 * PAGE, data).expect("nobody else is there");
    }

    /// Whether it is one of RV64.
    pub fn is_64(&self) -> bool {
        self.guest.config.xlen == Xlen::Rv64
    }

    /// Puts a program to where processors begin.
    pub fn run(&self, code: &[u32]) {
        self.put(CODE, code);
    }

    /// Puts instructions somewhere.
    pub fn put(&self, at: u64, code: &[u32]) {
        let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.memory.write(at, &bytes).expect("code can be written");
    }

    pub fn data_bytes(&self, offset: u64, bytes: &[u8]) {
        self.memory.write(DATA + offset, bytes).expect("data can be written");
    }

    pub fn word(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.memory.read(at, &mut bytes).expect("it can be read");
        u32::from_le_bytes(bytes)
    }

    /// A processor at the first instruction.
    pub fn vcpu(&self) -> Vcpu<Riscv> {
        let mut vcpu = Vcpu::for_process(Arc::clone(&self.guest), &self.memory);
        vcpu.state_mut().pc = CODE;
        vcpu
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for at in [CODE, DATA] {
            self.memory.unmap(at, 2 * PAGE).expect("it is mapped");
        }
    }
}

/// Fixed addresses are for one test at a time.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Runs a test on RV64 and RV32, interpreted and compiled.
pub fn each(test: impl Fn(&Process)) {
    for width in [Width::Bits64, Width::Bits32] {
        for interpret in [true, false] {
            let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            test(&Process::new(width, interpret));
        }
    }
}

/// Runs until an event.
pub fn run(vcpu: &mut Vcpu<Riscv>) -> Event {
    assert_eq!(vcpu.run(), Exit::Trap);
    vcpu.take_event().expect("a trap has an event")
}
