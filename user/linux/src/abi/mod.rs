//! What differs between architectures: numbers of system calls, registers, layouts, signal frames.
//! One file per architecture, and a row in [`ABIS`].

pub mod generic;
pub mod riscv;
mod riscv_debug;
mod riscv_registers;
mod riscv_vdso;
pub mod x86;
mod x86_debug;
mod x86_frame;
mod x86_numbers;
mod x86_registers;
mod x86_vdso;

use crate::calls::Entry;
use crate::errno::Errno;
use crate::options::Options;
use crate::space::Space;
use crate::thread::Thread;
use crate::vdso::Library;
use cpu::{Exit, VirtualCpu};
use elf::program::Flavour;
use isa::{Event, UserGuest};
use runtime::{Kicker, ProcessMemory, Vcpu};
use state::SavedState;
use std::any::Any;
use std::sync::Arc;

/// An architecture and its conventions.
pub struct Abi {
    /// Name, as in `qemu-<name>`.
    pub name: &'static str,
    /// ELF machine number.
    pub machine: u16,
    /// Bits of an address: 32 or 64.
    pub bits: u32,
    /// Whether numbers in memory have their most significant byte first.
    pub big_endian: bool,
    /// `machine` of `uname`.
    pub uname: &'static str,
    /// Oldest release of Linux that its programs accept (`uname`); older hosts say this one.
    pub release: [u32; 3],
    /// System calls by number, with their names in [`crate::calls`] or `own`.
    pub numbers: &'static [(u32, &'static str)],
    /// Calls that no other architecture has.
    pub own: &'static [Entry],
    /// The shared object that the system offers; its first function is the return from signal handlers.
    pub vdso: fn() -> Library,
    /// Serves what is a fault elsewhere; whether it did.
    pub rescue: fn(&mut Thread, &Event) -> bool,
    /// `AT_PLATFORM`.
    pub platform: Option<&'static str>,
    /// Bytes of a user's number in core files.
    pub user_len: usize,
    /// The instruction that debuggers put into code, of this length where there are several.
    pub breakpoint: fn(len: u64) -> &'static [u8],
    /// How far behind its address the pc is when it was met.
    pub breakpoint_length: u64,
    /// Whether actions of signals have a return trampoline of their own.
    pub has_restorer: bool,
    /// Whether `clone` has the thread's storage before the address for its number.
    pub tls_first: bool,
    /// Alignment of 64-bit numbers in structures, in bytes.
    pub long_alignment: u64,
    /// Whether `struct epoll_event` has no padding.
    pub packed_events: bool,
    /// Whether the signal of a breakpoint instruction has `SI_KERNEL` and no address.
    pub breakpoints_by_kernel: bool,
    /// Whether structures of System V IPC have a reserved word behind each time.
    pub padded_times: bool,
    /// `struct stat` of `fstat` and `newfstatat`.
    pub stat: fn(&libc::stat) -> Vec<u8>,
    /// Makes processors.
    pub machine_for: fn(&Options) -> Result<Box<dyn Machine>, String>,
    /// Text for `-cpu help`.
    pub models: fn() -> String,
}

impl Abi {
    /// Whether addresses have 64 bits.
    pub fn wide(&self) -> bool {
        self.bits == 64
    }

    /// Whether it runs what this was made for.
    pub fn runs(&self, flavour: &Flavour) -> bool {
        let wide = flavour.class == elf::Class::Elf64;
        flavour.machine == self.machine
            && flavour.big_endian == self.big_endian
            && wide == self.wide()
    }

    /// Bytes of an address.
    pub fn word(&self) -> u64 {
        u64::from(self.bits / 8)
    }
}

/// Every architecture.
pub static ABIS: &[&Abi] = &[&riscv::RISCV64, &riscv::RISCV32, &x86::X86_64, &x86::I386];

/// The architecture of this name.
pub fn by_name(name: &str) -> Option<&'static Abi> {
    ABIS.iter().copied().find(|abi| abi.name == name)
}

/// `AUDIT_ARCH_*` (Linux, `linux/audit.h`) of little-endian programs of an ELF machine.
pub fn audit_architecture(machine: u32, bits: u32) -> u32 {
    const LITTLE_ENDIAN: u32 = 1 << 30;
    const WIDE: u32 = 1 << 31;
    machine | LITTLE_ENDIAN | if bits == 64 { WIDE } else { 0 }
}

/// The architecture that runs what this was made for.
pub fn of(flavour: &Flavour) -> Option<&'static Abi> {
    ABIS.iter().copied().find(|abi| abi.runs(flavour))
}

/// What the user wants of the translator.
fn engine(options: &Options) -> runtime::Options {
    let usual = runtime::Options::default();
    runtime::Options {
        max_insns: if options.single { 1 } else { usual.max_insns },
        perf_map: options.perf_map,
        jit_dump: options.jit_dump,
        ..usual
    }
}

/// Runs a program until it wants something, or somebody wants its thread.
fn run<G: UserGuest>(vcpu: &mut Vcpu<G>) -> Option<Event>
where
    G::State: SavedState,
{
    let exit = vcpu.run();
    event_of(vcpu, exit)
}

/// The same for one instruction.
fn step<G: UserGuest>(vcpu: &mut Vcpu<G>) -> Option<Event>
where
    G::State: SavedState,
{
    let exit = vcpu.step();
    event_of(vcpu, exit)
}

fn event_of<G: UserGuest>(vcpu: &mut Vcpu<G>, exit: Exit) -> Option<Event>
where
    G::State: SavedState,
{
    match exit {
        Exit::Trap => vcpu.take_event(),
        Exit::Kicked | Exit::Halted | Exit::Debug => None,
    }
}

/// The processors of a process: what they have in common.
pub trait Machine: Send + Sync {
    /// The memory that they share.
    fn memory(&self) -> &Arc<ProcessMemory>;
    /// A processor in its first state.
    fn processor(&self) -> Box<dyn Processor>;
    /// `AT_HWCAP` and `AT_HWCAP2`.
    fn hwcap(&self) -> [u64; 2];
    /// What `riscv_hwprobe` tells for a key, for architectures that have it.
    fn probe(&self, _key: i64) -> Option<u64> {
        None
    }
    /// Registers as debuggers know them.
    fn description(&self) -> gdb::Description;
    /// `/proc/cpuinfo` for `count` processors; `None`: the host's will do.
    fn cpuinfo(&self, count: usize) -> Option<String>;
}

/// A system call as the registers have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub number: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// What goes into the frame of a signal handler.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The signal.
    pub signal: u32,
    /// `siginfo_t` as the guest has it, 128 bytes.
    pub info: [u8; 128],
    /// The handler.
    pub handler: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// `SA_*` flags.
    pub flags: u64,
    /// Signals held back before.
    pub mask: u64,
    /// Address to put the frame below; the red zone and the alternate stack are taken care of.
    pub stack: u64,
    /// The alternate stack: base, flags, length.
    pub alternate: [u64; 3],
}

/// What a return from a handler finds in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Return {
    /// Signals held back from now on.
    pub mask: u64,
    /// The alternate stack: base, flags, length.
    pub alternate: [u64; 3],
}

/// A processor that runs one thread of a program.
pub trait Processor: Send + Any {
    /// Runs until something happens; `None`: somebody kicked.
    fn run(&mut self) -> Option<Event>;
    /// Executes one instruction.
    fn step(&mut self) -> Option<Event>;
    /// Bytes of the registers of [`Machine::description`], one after the other.
    fn registers(&self) -> Vec<u8>;
    /// Sets one of them, whose bytes these are.
    fn set_register(&mut self, number: usize, bytes: &[u8]);
    /// The part that others hold.
    fn kicker(&self) -> Kicker;
    /// The system call that the program wants.
    fn call(&self) -> Call;
    /// Puts a result into its register.
    fn set_result(&mut self, value: u64);
    /// Address of the next instruction.
    fn pc(&self) -> u64;
    /// Sets it.
    fn set_pc(&mut self, pc: u64);
    /// The stack pointer.
    fn stack(&self) -> u64;
    /// Sets it.
    fn set_stack(&mut self, stack: u64);
    /// Sets the pointer to the thread's own storage.
    fn set_tls(&mut self, tls: u64);
    /// A new processor with the same registers.
    fn twin(&self) -> Box<dyn Processor>;
    /// Ready for the first instruction of a program.
    fn start(&mut self, entry: u64, stack: u64);
    /// Saves the registers below `frame.stack` and goes to the handler.
    ///
    /// # Errors
    /// There is no memory for the frame.
    fn enter_handler(&mut self, space: &Space, frame: &Frame) -> Result<(), Errno>;
    /// Restores the registers from the frame that the stack pointer leads to.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    fn leave_handler(&mut self, space: &Space) -> Result<Return, Errno>;
    /// The result of a call in its register.
    fn result(&self) -> i64;
    /// A debugger sees a call that has no result yet.
    fn begin_call(&mut self) {}
    /// Puts back into its register what a result has taken the place of.
    fn restore_call(&mut self, call: &Call);
    /// The registers as debuggers see them: kinds ([`crate::ptrace::note`]) and contents; in the system
    /// call of this number, if in one.
    fn register_sets(&self, call: Option<u64>) -> Vec<(u32, Vec<u8>)>;
    /// Sets the registers of a kind; the number of a system call, if it is among them.
    fn set_register_set(&mut self, note: u32, bytes: &[u8]) -> Option<u64>;
    /// Whether the next instruction is the last for now; not all architectures can.
    fn set_step(&mut self, _step: bool) {}
    /// Text of the registers.
    fn dump(&self) -> String;
}
